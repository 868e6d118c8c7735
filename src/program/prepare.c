/* prepare.c - tasks: one for each operation that needs a kernel, with the shapes of its operands; the kernels are asked
 * whether they can and then prepare themselves; later every operand gets its address, and the backend may claim groups. */
#include "program/program.h"
#include <string.h>

/* ---- Describing -------------------------------------------------------------------------------------------------- */

/* Reshapes are other names of what they come from. */
static int32_t renamed(const fv_tape *t, int32_t value) {
    for (;;) {
        int32_t producer = t->value[value].producer;
        if (producer < 0 || !(fv_describe(&t->operation[producer])->flags & FV_ALIAS)) return value;
        value = t->operand[t->operation[producer].input];
    }
}

/* Addresses are not known yet, so that an operand is absent shows in its rank, -1. */
static void describe_operand(const fv_tape *t, int32_t value, fv_tensor *tensor) {
    const fv_tape_value *v = &t->value[value];
    *tensor = (fv_tensor){ .type = v->type,
                           .rank = v->kind == FV_VALUE_NONE ? -1 : v->shape.rank,
                           .value = v->kind == FV_VALUE_NONE ? 0 : renamed(t, value),
                           .kept = v->kept || fv_value_in_store(v) };
    for (int i = 0; i < v->shape.rank; i++) tensor->dim[i] = v->shape.dim[i];
}

void fv_task_describe(const fv_tape *t, int32_t operation, fv_task *task) {
    const fv_operation *o = &t->operation[operation];
    const char *label = t->label[o->label];
    *task = (fv_task){ .op = o->op,
                       .input_count = o->input_count,
                       .output_count = o->output_count,
                       .attributes = &o->attributes,
                       .input = task->input,
                       .output = task->output,
                       .layer = *label ? label : NULL };
    for (int32_t k = 0; k < o->input_count; k++) describe_operand(t, t->operand[o->input + k], &task->input[k]);
    for (int32_t k = 0; k < o->output_count; k++) describe_operand(t, o->output + k, &task->output[k]);
}

const char *fv_task_name(const fv_task *task, char buffer[128]) {
    snprintf(buffer, 128, "%s%s%s", fv_op_name(task->op), task->layer ? " " : "", task->layer ? task->layer : "");
    return buffer;
}

int fv_task_supported(fv_context *c, const fv_task *task, char *why, size_t why_bytes) {
    const fv_kernel *kernel = &c->backend->kernels[task->op];
    snprintf(why, why_bytes, "it has no kernel for this operation");
    if (!kernel->run) return FV_ERROR_UNSUPPORTED;
    return kernel->supports ? kernel->supports(c->device, task, why, why_bytes) : FV_OK;
}

/* ---- Tasks ------------------------------------------------------------------------------------------------------- */

static int allocate_tasks(fv_program *p) {
    const fv_tape *t = p->tape;
    fv_context *c = p->object.context;
    size_t tasks = 0, tensors = 0;
    for (int32_t i = 0; i < t->operation_count; i++) {
        const fv_operation *o = &t->operation[i];
        if (fv_describe(o)->flags & FV_ALIAS) continue;
        tasks++;
        tensors += (size_t)(o->input_count + o->output_count);
    }
    static const char what[] = "the tasks of a program";
    p->task = fv_alloc(c, tasks, sizeof *p->task, what);
    p->task_operation = fv_alloc(c, tasks, sizeof *p->task_operation, what);
    p->task_group = fv_alloc(c, tasks, sizeof *p->task_group, what);
    p->scratch_offset = fv_alloc(c, tasks, sizeof *p->scratch_offset, what);
    p->group = fv_alloc(c, tasks, sizeof *p->group, what);
    p->tensor = fv_alloc(c, tensors, sizeof *p->tensor, what);
    p->tensor_value = fv_alloc(c, tensors, sizeof *p->tensor_value, what);
    return p->task && p->task_operation && p->task_group && p->scratch_offset && p->group && p->tensor &&
                   p->tensor_value
               ? FV_OK
               : FV_ERROR_MEMORY;
}

/* A task is steady where it depends on weights only; of the others, input 1 may. */
static int find_steady(fv_program *p) {
    if (p->debug) return FV_OK;
    const fv_tape *t = p->tape;
    bool *steady = fv_alloc(p->object.context, (size_t)t->value_count, sizeof *steady, "the tasks of a program");
    if (!steady) return FV_ERROR_MEMORY;
    fv_tape_find_steady(t, steady);
    for (int32_t i = 0; i < p->task_count; i++) {
        const fv_operation *o = &t->operation[p->task_operation[i]];
        bool ahead = p->steady_count == i && o->output_count && steady[o->output];
        if (ahead)
            p->steady_count++;
        else if (o->input_count > 1 && steady[t->operand[o->input + 1]])
            p->task[i].version = &p->weights_seen;
    }
    fv_free(steady);
    return FV_OK;
}

static void fill_tasks(fv_program *p) {
    const fv_tape *t = p->tape;
    for (int32_t i = 0; i < t->operation_count; i++) {
        const fv_operation *o = &t->operation[i];
        if (fv_describe(o)->flags & FV_ALIAS) continue;
        fv_task *task = &p->task[p->task_count];
        task->input = p->tensor + p->tensor_count;
        task->output = task->input + o->input_count;
        fv_task_describe(t, i, task);
        for (int32_t k = 0; k < o->input_count; k++) p->tensor_value[p->tensor_count++] = t->operand[o->input + k];
        for (int32_t k = 0; k < o->output_count; k++) p->tensor_value[p->tensor_count++] = o->output + k;
        task->precision = p->precision;
        p->task_operation[p->task_count] = i;
        p->task_group[p->task_count++] = -1;
    }
    for (int32_t v = 1; v < t->value_count; v++) { /* under another name */
        if (!t->value[v].kept || renamed(t, v) == v) continue;
        for (int32_t i = 0; i < p->tensor_count; i++)
            if (p->tensor[i].value == renamed(t, v)) p->tensor[i].kept = true;
    }
}

/* An operation that the backend lacks is one sentence that names operation, layer, backend and reason; nothing has run. */
static int ask_kernels(fv_program *p) {
    fv_context *c = p->object.context;
    char why[256], name[128];
    for (int32_t i = 0; i < p->task_count; i++) {
        int status = fv_task_supported(c, &p->task[i], why, sizeof why);
        if (status)
            return fv_fail(c, FV_ERROR_UNSUPPORTED, "%s: not supported by %s: %s", fv_task_name(&p->task[i], name),
                           c->device_name, why);
    }
    return FV_OK;
}

static int prepare_kernels(fv_program *p) {
    fv_context *c = p->object.context;
    char name[128];
    for (; p->prepared < p->task_count; p->prepared++) {
        fv_task *task = &p->task[p->prepared];
        const fv_kernel *kernel = &c->backend->kernels[task->op];
        int status = fv_task_prepare(c, task);
        p->packed_bytes += (task->packed_bytes + 63) / 64 * 64;
        if (!status) continue;
        if (kernel->release && task->kept)
            kernel->release(c->device, task); /* what a prepare that failed half-way has made */
        if (fv_ok(c)) fv_fail(c, status, "%s: %s could not prepare it", fv_task_name(task, name), c->device_name);
        return status;
    }
    return FV_OK;
}

int fv_program_make_tasks(fv_program *p) {
    int status = allocate_tasks(p);
    if (status) return status;
    fill_tasks(p);
    status = find_steady(p);
    if (!status) status = ask_kernels(p);
    return status ? status : prepare_kernels(p);
}

void fv_program_release_kernels(fv_program *p) {
    fv_program_forget_addresses(p);
    while (p->prepared > 0) {
        fv_task *task = &p->task[--p->prepared];
        const fv_kernel *kernel = &p->object.context->backend->kernels[task->op];
        if (kernel->release) kernel->release(p->object.context->device, task);
    }
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

/* Every region that the tape refers to exists and reaches far enough. */
static int allocate_regions(fv_program *p) {
    const fv_tape *t = p->tape;
    for (int32_t v = 1; v < t->value_count; v++) {
        const fv_tape_value *value = &t->value[v];
        int64_t end;
        if (value->kind == FV_VALUE_NONE || !fv_value_in_store(value)) continue;
        if (__builtin_add_overflow(value->offset, fv_shape_elements(&value->shape), &end))
            return fv_fail(p->object.context, FV_ERROR_ARGUMENT, "value %d lies beyond the %s of its store", v,
                           fv_region_name(value->region));
        int status = fv_store_region(value->store, value->region, end);
        if (status) return status;
    }
    return FV_OK;
}

static int upload_constants(fv_program *p) {
    const fv_tape *t = p->tape;
    fv_context *c = p->object.context;
    if (!p->constant_bytes) return FV_OK;
    p->constants = fv_device_alloc(c, p->constant_bytes, "the constants of a program");
    if (!p->constants) return FV_ERROR_MEMORY;
    for (int32_t v = 1; v < t->value_count; v++) {
        const fv_tape_value *value = &t->value[v];
        if (value->kind != FV_VALUE_CONSTANT || p->place[v].offset < 0) continue;
        int status = fv_device_write(c, (unsigned char *)p->constants + p->place[v].offset, value->type,
                                     fv_shape_elements(&value->shape), t->bytes + value->constant);
        if (status) return status;
    }
    return FV_OK;
}

static int allocate_steady(fv_program *p) {
    if (p->steady_bytes)
        p->steady = fv_device_alloc(p->object.context, p->steady_bytes, "what depends on weights only");
    return p->steady_bytes && !p->steady ? FV_ERROR_MEMORY : FV_OK;
}

static int allocate_packed(fv_program *p) {
    if (!p->packed_bytes) return FV_OK;
    unsigned char *at = p->packed = fv_device_alloc(p->object.context, p->packed_bytes, "packed weights of a program");
    if (!at) return FV_ERROR_MEMORY;
    for (int32_t i = 0; i < p->task_count; i++) {
        if (p->task[i].packed_bytes) p->task[i].packed = at;
        at += (p->task[i].packed_bytes + 63) / 64 * 64;
    }
    return FV_OK;
}

static int allocate_arena(fv_program *p) {
    if (p->store) return fv_store_arena(p->store, p->arena_bytes);
    if (p->arena || !p->arena_bytes) return FV_OK;
    p->arena = fv_device_alloc(p->object.context, p->arena_bytes, "the arena of a program");
    return p->arena ? FV_OK : FV_ERROR_MEMORY;
}

int fv_program_input_memory(fv_program *p) {
    if (p->inputs || !p->input_bytes) return FV_OK;
    fv_context *c = p->object.context;
    p->inputs = fv_device_alloc(c, p->input_bytes, "the inputs of a program");
    if (!p->inputs) return FV_ERROR_MEMORY;
    int status = c->backend->fill(c->device, p->inputs, 0, p->input_bytes);
    if (status && fv_ok(c)) fv_fail(c, status, "%s: the inputs of a program could not be cleared", c->device_name);
    return status;
}

int fv_program_allocate(fv_program *p) {
    int status = allocate_regions(p);
    if (!status) status = allocate_arena(p);
    if (!status) status = allocate_steady(p);
    if (!status) status = allocate_packed(p);
    return status ? status : upload_constants(p);
}

/* ---- Addresses --------------------------------------------------------------------------------------------------- */

void *fv_program_address(const fv_program *p, int32_t value) {
    if (value <= 0) return NULL;
    int32_t root = fv_program_root(p, value);
    const fv_tape_value *v = &p->tape->value[root];
    const fv_place *place = &p->place[root];
    if (v->kind == FV_VALUE_NONE) return NULL;
    if (fv_value_in_store(v))
        return (unsigned char *)v->store->data[v->region] +
               (size_t)v->offset * fv_device_element(p->object.context, v->type);
    if (p->bound[root]) return p->bound[root];
    if (place->offset < 0) return NULL;
    void *base = v->kind == FV_VALUE_INPUT      ? p->inputs
                 : v->kind == FV_VALUE_CONSTANT ? p->constants
                 : fv_program_lasts(p, root)    ? p->steady
                 : p->store                     ? p->store->arena
                                                : p->arena;
    return base ? (unsigned char *)base + place->offset : NULL;
}

static uint64_t region_versions(const fv_program *p) {
    uint64_t sum = 0; /* each only rises, so the sum stays the same only if all do */
    for (int32_t i = 0; i < p->store_count; i++) sum += p->stores[i]->region_version;
    return sum;
}

/* Groups see addresses and the graph has recorded them, so both go with them. */
void fv_program_forget_addresses(fv_program *p) {
    fv_context *c = p->object.context;
    if (p->graph && c->backend->graph_free) c->backend->graph_free(c->device, p->graph);
    for (int32_t i = 0; i < p->group_count; i++)
        if (c->backend->group_release) c->backend->group_release(c->device, &p->group[i]);
    for (int32_t i = 0; i < p->task_count; i++) p->task_group[i] = -1;
    p->group_count = 0;
    p->graph = NULL;
    p->runs = 0;
    p->resolved = false;
}

static int make_groups(fv_program *p) {
    fv_context *c = p->object.context;
    if (!c->backend->group || p->debug) return FV_OK;
    int count = c->backend->group(c->device, p->task + p->steady_count, p->task_count - p->steady_count, p->group,
                                  p->task_count - p->steady_count);
    if (count < 0) {
        if (fv_ok(c)) fv_fail(c, count, "%s: groups of tasks could not be made", c->device_name);
        return count;
    }
    p->group_count = count;
    int32_t end = p->steady_count;
    for (int32_t g = 0; g < count; g++) {
        fv_group *group = &p->group[g];
        group->first += p->steady_count;
        if (group->first < end || group->count < 1 || group->count > p->task_count - group->first)
            return fv_fail(c, FV_ERROR_INTERNAL, "%s: group %d of tasks %d..%d is not behind the one before it",
                           c->device_name, g, group->first, group->first + group->count - 1);
        end = group->first + group->count;
        for (int32_t i = group->first; i < end; i++) p->task_group[i] = g;
    }
    return FV_OK;
}

int fv_program_resolve(fv_program *p) {
    fv_context *c = p->object.context;
    if (p->orphan)
        return fv_fail(c, FV_ERROR_ARGUMENT, "a program was used after a net that it works on had been freed");
    int status = allocate_arena(p);
    if (!status) status = fv_program_input_memory(p);
    if (status) return status;
    uint64_t arena_version = p->store ? p->store->arena_version : 0, region_version = region_versions(p);
    if (p->resolved && p->arena_seen == arena_version && p->region_seen == region_version) return FV_OK;
    fv_program_forget_addresses(p);
    for (int32_t i = 0; i < p->tensor_count; i++) {
        int32_t value = p->tensor_value[i];
        bool used = p->tape->value[value].kind != FV_VALUE_TEMPORARY || p->place[value].last >= 0;
        p->tensor[i].data = used ? fv_program_address(p, value) : NULL;
    }
    unsigned char *arena = p->store ? p->store->arena : p->arena;
    for (int32_t i = 0; i < p->task_count; i++)
        p->task[i].scratch = p->task[i].scratch_bytes ? arena + p->scratch_offset[i] : NULL;
    status = make_groups(p);
    if (status) return status;
    p->arena_seen = arena_version;
    p->region_seen = region_version;
    p->resolved = true;
    return FV_OK;
}
