/* program.c - compiling: the tape is copied and rewritten, tasks are made and prepared, values are placed, the verifier looks
 * at the result; only then is device memory taken. Measuring stops before that. */
#include "program/program.h"

/* ---- Stores ------------------------------------------------------------------------------------------------------ */

fv_store *fv_tape_store(const fv_tape *t) {
    for (int32_t v = 1; v < t->value_count; v++)
        if (t->value[v].store) return t->value[v].store;
    return NULL;
}

static bool is_weight(fv_region region) { return region == FV_PARAMETERS || region == FV_STATISTICS; }

static bool writes_weights(const fv_tape *t, const fv_store *store) {
    for (int32_t v = 1; v < t->value_count; v++) {
        const fv_tape_value *value = &t->value[v];
        if (value->store == store && is_weight(value->region) && value->kind != FV_VALUE_NONE && value->producer >= 0)
            return true;
    }
    return false;
}

/* All stores that the tape refers to, those first whose weights it writes. */
static int find_stores(fv_program *p) {
    const fv_tape *t = p->tape;
    int32_t count = 0;
    p->stores = fv_alloc(p->object.context, (size_t)t->value_count, sizeof(fv_store *), "the stores of a program");
    if (!p->stores) return FV_ERROR_MEMORY;
    for (int32_t v = 1; v < t->value_count; v++) {
        fv_store *store = t->value[v].store;
        int32_t i = 0;
        while (i < count && p->stores[i] != store) i++;
        if (!store || i < count) continue;
        p->stores[count++] = store;
        if (!writes_weights(t, store)) continue;
        p->stores[count - 1] = p->stores[p->written_count];
        p->stores[p->written_count++] = store;
    }
    p->store_count = count;
    return FV_OK;
}

/* ---- Life -------------------------------------------------------------------------------------------------------- */

/* Kernels may still be at work on the device. */
void fv_program_release(void *object) {
    fv_program *p = object;
    fv_context *c = p->object.context;
    if (p->ran) c->backend->sync(c->device);
    for (int k = 0; p->cached && p->store && k < FV_STORE_PROGRAMS; k++)
        if (p->store->program[k] == p) p->store->program[k] = NULL;
    fv_program_release_kernels(p);
    fv_device_free(c, p->arena, p->arena_bytes);
    fv_device_free(c, p->inputs, p->input_bytes);
    fv_device_free(c, p->constants, p->constant_bytes);
    fv_device_free(c, p->steady, p->steady_bytes);
    fv_device_free(c, p->packed, p->packed_bytes);
    void *const owned[] = { p->stores,         p->place,  p->bound,        p->task,  p->task_operation,
                            p->scratch_offset, p->tensor, p->tensor_value, p->group, p->task_group };
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) fv_free(owned[i]);
    fv_tape_free(p->tape);
    fv_free(p);
}

void fv_program_free(fv_program *p) { fv_object_free(p); }

/* Stores go with their net; then the programs that work on them cannot run any more. */
void fv_programs_of_store_free(fv_store *store) {
    fv_object *ring = &store->context->objects, *next;
    for (fv_object *o = ring->next; o != ring; o = next) {
        next = o->next; /* freeing a program frees its tape, which was made before it and lies behind it on the ring */
        if (o->release != fv_program_release) continue;
        fv_program *p = (fv_program *)o;
        bool refers = false;
        for (int32_t i = 0; i < p->store_count; i++) refers |= p->stores[i] == store;
        if (!refers) continue;
        if (p->cached) {
            if (next == &p->tape->object) next = next->next;
            fv_program_free(p);
        } else {
            fv_program_forget_addresses(p);
            p->orphan = true;
        }
    }
}

/* ---- Compiling --------------------------------------------------------------------------------------------------- */

static int rewrite(fv_tape *t, fv_context *c, fv_precision precision, bool debug) {
    int status = FV_OK;
    if (!debug) {
        status = fv_tape_remove_dead(t);
        if (!status) status = fv_tape_fold(t, c);
        if (!status) status = fv_tape_fuse(t, c);
    }
    if (!status) status = fv_tape_lower(t, c, precision);
    if (!status && !debug && fv_precision_type(precision) != FV_F32) {
        status = fv_tape_remove_dead(t);
        if (!status) status = fv_tape_bring_forward(t, c);
    }
    if (!status) status = fv_tape_expand(t, c);
    return status ? status : fv_tape_settle(t);
}

static int build(fv_program *p) {
    fv_context *c = p->object.context;
    p->precision = p->tape->precision;
    int status = fv_precision_settle(c, &p->precision);
    if (!status) status = rewrite(p->tape, c, p->precision, p->debug);
    if (status) return status;
    p->shadow = fv_shadow_region(fv_precision_type(p->precision));
    p->place = fv_alloc(c, (size_t)p->tape->value_count, sizeof *p->place, "the plan of a program");
    p->bound = fv_alloc(c, (size_t)p->tape->value_count, sizeof *p->bound, "the plan of a program");
    if (!p->place || !p->bound) return FV_ERROR_MEMORY;
    status = find_stores(p);
    if (!status) status = fv_program_make_tasks(p);
    if (!status) status = fv_program_plan(p);
    return status ? status : fv_program_verify(p);
}

fv_program *fv_program_build(fv_tape *tape, fv_store *arena_owner, bool debug) {
    fv_context *c = tape ? tape->object.context : NULL;
    if (!fv_ok(c)) return NULL;
    fv_tape *copy = fv_tape_copy(tape);
    fv_program *p = copy ? fv_alloc(c, 1, sizeof *p, "a program") : NULL;
    if (!p) {
        fv_tape_free(copy);
        return NULL;
    }
    /* After its tape: a context frees the newest first, and a program frees its tape. */
    fv_object_add(c, p, fv_program_release);
    p->tape = copy;
    p->store = arena_owner;
    p->debug = debug;
    p->nonfinite_task = -1;
    if (!build(p)) return p;
    fv_program_free(p);
    return NULL;
}

static fv_program *make(fv_tape *tape, fv_store *arena_owner, bool debug) {
    fv_program *p = fv_program_build(tape, arena_owner, debug);
    if (!p || !fv_program_allocate(p)) return p;
    fv_program_free(p);
    return NULL;
}

fv_program *fv_program_new(fv_tape *tape, bool debug) { return make(tape, NULL, debug); }
fv_program *fv_program_shared(fv_tape *tape) { return make(tape, tape ? fv_tape_store(tape) : NULL, false); }

fv_program *fv_compile_with(fv_tape *tape, const fv_compile_options *given) {
    fv_context *c = tape ? tape->object.context : NULL;
    fv_compile_options options;
    if (!fv_ok(c) || fv_options_read(c, "fv_compile", &options, sizeof options, given)) return NULL;
    const fv_precision before = tape->precision;
    if (options.precision) tape->precision = options.precision;
    fv_program *p = fv_program_new(tape, options.debug);
    tape->precision = before;
    return p;
}

fv_program *fv_compile(fv_tape *tape) { return fv_compile_with(tape, NULL); }

/* ---- Measuring --------------------------------------------------------------------------------------------------- */

int64_t fv_program_bytes(const fv_program *p) {
    return p ? (int64_t)(p->arena_bytes + p->input_bytes + p->steady_bytes + p->packed_bytes) : 0;
}

int fv_program_measure(fv_tape *tape, int64_t *arena_bytes) {
    *arena_bytes = 0;
    fv_program *p = fv_program_build(tape, NULL, false);
    if (!p) return tape ? tape->object.context->status : FV_ERROR_ARGUMENT;
    *arena_bytes = fv_program_bytes(p);
    fv_program_free(p);
    return FV_OK;
}
