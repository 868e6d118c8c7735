/* run.c - running a program and talking to it. A run looks nothing up and allocates nothing: once addresses are known it is
 * a loop over tasks and groups, or, on a device that can capture, the replay of what the second run recorded. Steady tasks
 * run only where the weights are new, and before a capture or replay. */
#include "core/half.h"
#include "program/program.h"
#include <math.h>
#include <string.h>

/* ---- Tasks ------------------------------------------------------------------------------------------------------- */

/* A kernel that fails without a word still leaves a sentence. */
static int task_failed(fv_program *p, int32_t task, int status) {
    fv_context *c = p->object.context;
    char name[128];
    if (fv_ok(c)) fv_fail(c, status, "%s: failed on %s", fv_task_name(&p->task[task], name), c->device_name);
    return status;
}

static int run_tasks(fv_program *p, int32_t first, int32_t end) {
    const fv_backend *b = p->object.context->backend;
    fv_device *device = p->object.context->device;
    for (int32_t i = first; i < end;) {
        const fv_group *group = p->task_group[i] >= 0 ? &p->group[p->task_group[i]] : NULL;
        int status = group ? b->group_run(device, p->task, group) : b->kernels[p->task[i].op].run(device, &p->task[i]);
        if (status) return task_failed(p, i, status);
        i += group ? group->count : 1;
    }
    return FV_OK;
}

/* Each count only rises, so their sum stays the same only if all do. */
static int run_steady(fv_program *p) {
    uint64_t version = 1;
    for (int32_t i = 0; i < p->store_count; i++) version += p->stores[i]->written;
    if (p->weights_seen == version) return FV_OK;
    p->weights_seen = version;
    int status = run_tasks(p, 0, p->steady_count);
    if (status) p->weights_seen = 0; /* what failed is not there for the next run */
    return status;
}

/* ---- Debug ------------------------------------------------------------------------------------------------------- */

/* Bytes 0xFF are a NaN in every type of float: what a kernel forgets to write shows. */
static int poison(fv_program *p) {
    fv_context *c = p->object.context;
    const fv_backend *b = c->backend;
    int status = p->arena_bytes ? b->fill(c->device, p->arena, 0xFF, p->arena_bytes) : FV_OK;
    for (int32_t v = 1; v < p->tape->value_count && !status; v++) {
        const fv_tape_value *value = &p->tape->value[v];
        if (value->kind == FV_VALUE_TEMPORARY && value->producer >= 0 && fv_value_in_store(value))
            status = b->fill(c->device, fv_program_address(p, v), 0xFF, (size_t)p->place[v].bytes);
    }
    if (status && fv_ok(c)) fv_fail(c, status, "%s: the memory of a debug program could not be filled", c->device_name);
    return status;
}

/* ---- Capture ----------------------------------------------------------------------------------------------------- */

/* The first run warms the libraries up, the second is captured; a capture records and does not execute, so its graph is
 * replayed at once. */
static int run_captured(fv_program *p) {
    fv_context *c = p->object.context;
    const fv_backend *b = c->backend;
    int status = FV_OK;
    if (!p->graph) {
        status = b->capture_begin(c->device);
        if (status) return status;
        status = run_tasks(p, p->steady_count, p->task_count);
        int ended = b->capture_end(c->device, &p->graph); /* on every path: a device must not stay in capture */
        if (!status) status = ended;
    }
    return status ? status : b->replay(c->device, p->graph);
}

/* ---- Run --------------------------------------------------------------------------------------------------------- */

static bool addresses_hold(const fv_program *p) {
    uint64_t versions = 0;
    if (!p->resolved || (p->store && p->store->arena_version != p->arena_seen)) return false;
    for (int32_t i = 0; i < p->store_count; i++) versions += p->stores[i]->region_version;
    return versions == p->region_seen;
}

/* Weights that something else has written since are rounded anew, before and not within what may be captured. */
static int refresh_shadows(fv_program *p) {
    int status = FV_OK;
    for (int32_t i = 0; i < p->store_count && p->shadow && !status; i++)
        status = fv_store_shadow(p->stores[i], p->shadow);
    return status;
}

int fv_run(fv_program *p) {
    fv_context *c = p ? p->object.context : NULL;
    if (!fv_ok(c)) return c ? c->status : FV_ERROR_ARGUMENT;
    int status = addresses_hold(p) ? FV_OK : fv_program_resolve(p);
    if (!status) status = refresh_shadows(p);
    if (!status && p->debug) status = poison(p);
    if (!status) status = run_steady(p);
    if (status) return status;
    bool capture = c->capture && c->backend->capture_begin && c->backend->replay && !p->debug && p->runs > 0;
    status = capture ? run_captured(p) : run_tasks(p, p->steady_count, p->task_count);
    if (status && fv_ok(c)) fv_fail(c, status, "%s: a captured program failed", c->device_name);
    p->runs++;
    p->ran = true;
    for (int32_t i = 0; i < p->written_count; i++) p->stores[i]->device_version++, p->stores[i]->written++;
    return status;
}

/* ---- Reading and writing ----------------------------------------------------------------------------------------- */

/* "value 7 (relu of c1, [32, 8])" */
static const char *describe(const fv_program *p, int32_t id, char buffer[256]) {
    const fv_tape *t = p->tape;
    const fv_tape_value *v = &t->value[id];
    static const char *const kinds[] = { "nothing", "input", "constant", "state", "temporary" };
    char shape[96];
    const fv_operation *o = v->producer >= 0 ? &t->operation[v->producer] : NULL;
    const char *label = o ? t->label[o->label] : "";
    snprintf(buffer, 256, "value %d (%s%s%s, %s %s)", id, o ? fv_op_name(o->op) : kinds[v->kind], *label ? " of " : "",
             label, fv_type_name(v->type), fv_shape_text(&v->shape, shape));
    return buffer;
}

static int check_access(fv_program *p, fv_value value, const void *data, size_t bytes, const char *verb) {
    fv_context *c = p->object.context;
    char text[256];
    if (p->orphan)
        return fv_fail(c, FV_ERROR_ARGUMENT, "a program was used after a net that it works on had been freed");
    if (!fv_value_valid(p->tape, value) || p->tape->value[value.id].kind == FV_VALUE_NONE)
        return fv_fail(c, FV_ERROR_ARGUMENT, "%s: the program has no value %d", verb, value.id);
    const fv_tape_value *v = &p->tape->value[value.id];
    size_t needed = (size_t)fv_shape_elements(&v->shape) * fv_type_bytes(v->lowered ? FV_F32 : v->type);
    if (bytes != needed)
        return fv_fail(c, FV_ERROR_SHAPE, "%s: %s has %zu bytes, but %zu were given", verb, describe(p, value.id, text),
                       needed, bytes);
    if (!data) return fv_fail(c, FV_ERROR_ARGUMENT, "%s: the data of %s are NULL", verb, describe(p, value.id, text));
    return FV_OK;
}

/* Where an input lies; to stays NULL where nothing reads it. */
static int find_input(fv_program *p, fv_value value, const void *data, size_t bytes, void **to) {
    fv_context *c = p ? p->object.context : NULL;
    if (!fv_ok(c)) return c ? c->status : FV_ERROR_ARGUMENT;
    char text[256];
    int status = check_access(p, value, data, bytes, "fv_write");
    if (status) return status;
    const fv_tape_value *v = &p->tape->value[value.id];
    if (v->kind != FV_VALUE_INPUT)
        return fv_fail(c, FV_ERROR_ARGUMENT, "fv_write: %s is not an input", describe(p, value.id, text));
    if (p->bound[value.id])
        return fv_fail(c, FV_ERROR_ARGUMENT, "fv_write: %s is bound to device memory", describe(p, value.id, text));
    if (p->place[value.id].last < 0) return FV_OK;
    status = fv_program_input_memory(p);
    if (!status) *to = fv_program_address(p, value.id);
    return status;
}

int fv_write(fv_program *p, fv_value value, const void *data, size_t bytes) {
    void *to = NULL;
    const int status = find_input(p, value, data, bytes, &to);
    if (status || !to) return status;
    const fv_tape_value *v = &p->tape->value[value.id];
    return fv_device_write(p->object.context, to, v->type, fv_shape_elements(&v->shape), data);
}

int fv_program_feed(fv_program *p, fv_value value, int slot, void *through, const void *pinned, size_t bytes) {
    void *to = NULL;
    int status = find_input(p, value, pinned, bytes, &to);
    if (status || !to) return status;
    fv_context *c = p->object.context;
    status = c->backend->feed(c->device, slot, to, through, pinned, bytes);
    return status && fv_ok(c) ? fv_fail(c, status, "%s: a batch could not be copied", c->device_name) : status;
}

/* 16 bits to f32 within one buffer: read into its second half, widened from the front. */
static int read_lowered(fv_context *c, const fv_tape_value *v, float *to, const void *from) {
    const int64_t elements = fv_shape_elements(&v->shape);
    const unsigned char *halves = (unsigned char *)to + (size_t)elements * sizeof(uint16_t);
    int status = fv_device_read(c, (unsigned char *)to + (size_t)elements * sizeof(uint16_t), v->type, elements, from);
    for (int64_t i = 0; i < elements && !status; i++) {
        uint16_t bits;
        memcpy(&bits, halves + (size_t)i * sizeof bits, sizeof bits);
        to[i] = v->type == FV_BF16 ? fv_from_bf16(bits) : fv_from_f16(bits);
    }
    return status;
}

/* Temporaries must be kept, and hold something only after a run; states, inputs and constants can always be read. */
int fv_read(fv_program *p, fv_value value, void *data, size_t bytes) {
    fv_context *c = p ? p->object.context : NULL;
    if (!fv_ok(c)) return c ? c->status : FV_ERROR_ARGUMENT;
    char text[256];
    int status = check_access(p, value, data, bytes, "fv_read");
    if (status) return status;
    const fv_tape_value *v = &p->tape->value[value.id];
    int64_t elements = fv_shape_elements(&v->shape);
    if (v->kind == FV_VALUE_CONSTANT) {
        memcpy(data, p->tape->bytes + v->constant, bytes);
        return FV_OK;
    }
    if (v->kind == FV_VALUE_TEMPORARY && !v->kept && !p->debug)
        return fv_fail(c, FV_ERROR_ARGUMENT, "fv_read: %s is not kept: call fv_keep before fv_compile",
                       describe(p, value.id, text));
    if (v->kind == FV_VALUE_TEMPORARY && !(p->ran && (!p->store || p->store->arena_version == p->arena_seen)))
        return fv_fail(c, FV_ERROR_ARGUMENT, "fv_read: %s holds nothing before fv_run", describe(p, value.id, text));
    const void *from = fv_program_address(p, value.id);
    if (!from)
        return fv_fail(c, FV_ERROR_ARGUMENT, "fv_read: %s has no memory: nothing wrote or reads it",
                       describe(p, value.id, text));
    return v->lowered ? read_lowered(c, v, data, from) : fv_device_read(c, data, v->type, elements, from);
}

/* Before the first write or run a bound input costs no memory; afterwards its place stays empty. */
int fv_bind(fv_program *p, fv_value value, void *device_data) {
    fv_context *c = p ? p->object.context : NULL;
    if (!fv_ok(c)) return c ? c->status : FV_ERROR_ARGUMENT;
    if (!fv_value_valid(p->tape, value) || p->tape->value[value.id].kind != FV_VALUE_INPUT || !device_data)
        return fv_fail(c, FV_ERROR_ARGUMENT, "fv_bind: value %d is not an input, or its memory is NULL", value.id);
    p->bound[value.id] = device_data;
    if (!p->inputs) fv_program_place_inputs(p);
    fv_program_forget_addresses(p);
    return FV_OK;
}

/* ---- The search for what is not finite --------------------------------------------------------------------------- */

static bool is_float(fv_type type) { return type == FV_F32 || type == FV_BF16 || type == FV_F16; }

/* Elements of `bytes` on the device that are NaN or infinite; first: the number of the first. */
static int64_t count_nonfinite(const void *data, fv_type type, int64_t elements, int64_t *first) {
    static const uint16_t exponent[] = { [FV_BF16] = 0x7F80, [FV_F16] = 0x7C00 };
    int64_t count = 0;
    for (int64_t i = 0; i < elements; i++) {
        bool finite = type == FV_F32 ? isfinite(((const float *)data)[i])
                                     : (((const uint16_t *)data)[i] & exponent[type]) != exponent[type];
        if (!finite && !count++) *first = i;
    }
    return count;
}

/* 1 and a sentence if the value is not finite, 0 if it is, or a status. Doubles are narrowed: what overflows a float counts. */
static int look_at(fv_program *p, int32_t task, int32_t id, const char *role, void *buffer, char *sentence,
                   size_t bytes) {
    const fv_tape_value *v = &p->tape->value[id];
    const void *from = fv_program_address(p, id);
    if (!id || !is_float(v->type) || !from) return 0;
    int64_t elements = fv_shape_elements(&v->shape), first = 0;
    int status = fv_device_read(p->object.context, buffer, v->type, elements, from);
    if (status) return status;
    int64_t count = count_nonfinite(buffer, v->type, elements, &first);
    if (!count) return 0;
    char name[128], shape[96];
    snprintf(sentence, bytes, "%s: %s %s is not finite: %lld of %lld elements, the first at %lld",
             fv_task_name(&p->task[task], name), role, fv_shape_text(&v->shape, shape), (long long)count,
             (long long)elements, (long long)first);
    p->nonfinite_task = task;
    return 1;
}

/* What nothing on the tape makes must be finite before the task, what the task makes after it. */
static int examine(fv_program *p, int32_t task, bool before, void *buffer, char *sentence, size_t bytes) {
    const fv_operation *o = &p->tape->operation[p->task_operation[task]];
    char role[64];
    int32_t count = before ? o->input_count : o->output_count;
    for (int32_t k = 0; k < count; k++) {
        int32_t id = before ? p->tape->operand[o->input + k] : o->output + k;
        const fv_tape_value *v = &p->tape->value[fv_program_root(p, id)];
        if (before && v->producer >= 0) continue;
        bool state = v->kind == FV_VALUE_STATE;
        snprintf(role, sizeof role, "%s %d%s%s", before ? "input" : "output", k, state ? ", of the " : "",
                 state ? fv_region_name(v->region) : "");
        int found = look_at(p, task, id, role, buffer, sentence, bytes);
        if (found) return found;
    }
    return 0;
}

int fv_program_find_nonfinite(fv_program *p, char *sentence, size_t bytes) {
    fv_context *c = p ? p->object.context : NULL;
    if (!fv_ok(c)) return c ? c->status : FV_ERROR_ARGUMENT;
    if (!p->debug)
        return fv_fail(c, FV_ERROR_ARGUMENT, "only a debug program can be searched for values that are not finite");
    int status = fv_program_resolve(p);
    if (!status) status = refresh_shadows(p);
    if (!status) status = poison(p);
    if (status) return status;
    int64_t largest = 0;
    for (int32_t i = 0; i < p->tensor_count; i++)
        if (fv_elements(&p->tensor[i]) > largest) largest = fv_elements(&p->tensor[i]);
    void *buffer = fv_alloc(c, (size_t)largest, sizeof(float), "the search for what is not finite");
    if (!buffer) return FV_ERROR_MEMORY;
    p->nonfinite_task = -1;
    int found = 0;
    for (int32_t i = 0; i < p->task_count && !found; i++) {
        if (fv_op_table[p->task[i].op]->flags & FV_WRITES) continue;
        found = examine(p, i, true, buffer, sentence, bytes);
        if (found) break;
        status = c->backend->kernels[p->task[i].op].run(c->device, &p->task[i]);
        found = status ? task_failed(p, i, status) : examine(p, i, false, buffer, sentence, bytes);
    }
    p->ran = true;
    fv_free(buffer);
    return found;
}
