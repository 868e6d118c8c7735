/* machine.c - one operation on one device, as hostile as a program may be: operands lie between guards, outputs begin
 * as NaN, addresses are unknown while the kernel prepares, and a second run at other addresses must give the same
 * bits, as must one in which the output lies in the place of an input that it may share. */
#define _GNU_SOURCE
#include "core/half.h"
#include "support/operations.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GUARD = 256, GUARD_BYTE = 0xa5, UNWRITTEN_BYTE = 0xff };

static size_t element_bytes(const fv_context *c, fv_type type) {
    return type == FV_F32 ? c->backend->real_bytes : fv_type_bytes(type);
}

static size_t operand_bytes(const fv_context *c, const operand *o) {
    return (size_t)fv_shape_elements(&o->shape) * element_bytes(c, o->type);
}

/* ---- Values as a device holds them ------------------------------------------------------------------------------- */

static uint16_t half_of(fv_type type, double x) { return type == FV_BF16 ? fv_to_bf16((float)x) : fv_to_f16((float)x); }

static void encode(const fv_context *c, fv_type type, bool number, const double *value, int64_t count, void *to) {
    for (int64_t i = 0; i < count; i++)
        switch (type) {
        case FV_F32:
            if (c->backend->real_bytes == 8) ((double *)to)[i] = value[i];
            else ((float *)to)[i] = (float)value[i];
            break;
        case FV_I32: ((int32_t *)to)[i] = (int32_t)value[i]; break;
        case FV_U8: ((uint8_t *)to)[i] = (uint8_t)value[i]; break;
        case FV_BF16:
        case FV_F16: ((uint16_t *)to)[i] = number ? half_of(type, value[i]) : (uint16_t)value[i]; break;
        }
}

static void decode(const fv_context *c, fv_type type, bool number, const void *from, int64_t count, double *value) {
    for (int64_t i = 0; i < count; i++)
        switch (type) {
        case FV_F32:
            value[i] = c->backend->real_bytes == 8 ? ((const double *)from)[i] : ((const float *)from)[i];
            break;
        case FV_I32: value[i] = ((const int32_t *)from)[i]; break;
        case FV_U8: value[i] = ((const uint8_t *)from)[i]; break;
        case FV_BF16:
        case FV_F16:
            value[i] = ((const uint16_t *)from)[i];
            if (number) value[i] = type == FV_BF16 ? fv_from_bf16((uint16_t)value[i]) : fv_from_f16((uint16_t)value[i]);
            break;
        }
}

/* ---- Operands in device memory, between guards ------------------------------------------------------------------- */

typedef struct block { unsigned char *start, *host; size_t bytes; } block; /* host: what was put there */

typedef struct bench {
    fv_context *context;
    const problem *problem;
    block input[MOST_OPERANDS], output[MOST_OUTPUTS];
    fv_tensor input_tensor[MOST_OPERANDS], output_tensor[MOST_OUTPUTS];
    int shared; /* input in whose place output 0 lies, or -1 */
} bench;

static bool put_block(bench *b, block *k, const operand *o) {
    const fv_context *c = b->context;
    k->bytes = operand_bytes(c, o);
    k->host = malloc(k->bytes + 2 * GUARD);
    memset(k->host, GUARD_BYTE, k->bytes + 2 * GUARD);
    if (o->value) encode(c, o->type, o->number, o->value, fv_shape_elements(&o->shape), k->host + GUARD);
    else memset(k->host + GUARD, UNWRITTEN_BYTE, k->bytes);
    k->start = c->backend->alloc(c->device, k->bytes + 2 * GUARD);
    return k->start && !c->backend->upload(c->device, k->start, k->host, k->bytes + 2 * GUARD);
}

static void describe(fv_tensor *t, const operand *o) {
    *t = (fv_tensor){ .type = o->type };
    if (o->shape.rank > 0) memcpy(t->dim, o->shape.dim, sizeof t->dim);
    t->rank = o->shape.rank;
}

/* Shapes and types only: what a kernel knows while it prepares. */
static void describe_all(bench *b) {
    for (int i = 0; i < b->problem->input_count; i++) {
        describe(&b->input_tensor[i], &b->problem->input[i]);
        if (b->problem->input[i].absent) b->input_tensor[i].rank = -1; /* as programs say it */
    }
    for (int o = 0; o < b->problem->output_count; o++) describe(&b->output_tensor[o], &b->problem->output[o]);
}

static bool set_up(bench *b) {
    const problem *p = b->problem;
    for (int i = 0; i < p->input_count; i++) {
        const operand *o = &p->input[i];
        if (o->absent) continue;
        if (o->within) {
            const size_t offset = (size_t)o->offset * element_bytes(b->context, o->type);
            b->input_tensor[i].data = (unsigned char *)b->input_tensor[o->within - 1].data + offset;
            continue;
        }
        if (!put_block(b, &b->input[i], o)) return false;
        b->input_tensor[i].data = b->input[i].start + GUARD;
    }
    for (int o = 0; o < p->output_count; o++) {
        if (p->output[o].absent) continue;
        if (written_input(p->op, o) >= 0) {
            b->output_tensor[o].data = b->input_tensor[written_input(p->op, o)].data;
        } else if (o == 0 && b->shared >= 0) {
            b->output_tensor[o].data = b->input_tensor[b->shared].data;
        } else {
            if (!put_block(b, &b->output[o], &p->output[o])) return false;
            b->output_tensor[o].data = b->output[o].start + GUARD;
        }
    }
    return true;
}

static void tear_down(bench *b) {
    block *all[] = { b->input, b->output };
    const int counts[] = { MOST_OPERANDS, MOST_OUTPUTS };
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < counts[k]; i++) {
            if (all[k][i].start) b->context->backend->free(b->context->device, all[k][i].start);
            free(all[k][i].host);
        }
    free(b);
}

/* What the device holds now, guards included; false when a guard changed. */
static bool fetch(const bench *b, const block *k, unsigned char **now) {
    const fv_context *c = b->context;
    const size_t bytes = k->bytes + 2 * GUARD;
    *now = malloc(bytes);
    c->backend->download(c->device, *now, k->start, bytes);
    c->backend->sync(c->device);
    return !memcmp(*now, k->host, GUARD) && !memcmp(*now + GUARD + k->bytes, k->host + GUARD + k->bytes, GUARD);
}

/* The input whose memory output o lies in, or -1. */
static int overwritten(const bench *b, int o) {
    const int written = written_input(b->problem->op, o);
    return written < 0 && o == 0 ? b->shared : written;
}

static bool inputs_kept(const bench *b, char *why) {
    for (int i = 0; i < b->problem->input_count; i++) {
        if (!b->input[i].start) continue;
        bool written = false;
        for (int o = 0; o < b->problem->output_count; o++)
            written |= !b->problem->output[o].absent && overwritten(b, o) == i;
        unsigned char *now;
        const bool guarded = fetch(b, &b->input[i], &now);
        const bool kept = written || !memcmp(now, b->input[i].host, b->input[i].bytes + 2 * GUARD);
        free(now);
        if (guarded && kept) continue;
        snprintf(why, 1200, "input %d (%s) %s", i, b->problem->input[i].name,
                 guarded ? "was written although it is only read" : "was written beyond its ends");
        return false;
    }
    return true;
}

/* The bytes of output o, or NULL when something was written beyond its ends. */
static unsigned char *output_bytes(const bench *b, int o, size_t *bytes, char *why) {
    const int place = overwritten(b, o);
    const block *k = place >= 0 ? &b->input[place] : &b->output[o];
    unsigned char *now;
    *bytes = k->bytes;
    if (fetch(b, k, &now)) {
        memmove(now, now + GUARD, k->bytes);
        return now;
    }
    snprintf(why, 1200, "output %d was written beyond its ends", o);
    free(now);
    return NULL;
}

/* ---- Running ----------------------------------------------------------------------------------------------------- */

typedef struct run_state {
    fv_context *context;
    const fv_kernel *kernel;
    fv_task task;
    bench *first;
} run_state;

static outcome device_failed(fv_context *c, const char *what, char *why) {
    snprintf(why, 1200, "%s failed: %s", what, fv_error(c) ? fv_error(c) : "without an error");
    fv_clear_error(c);
    return FAILED;
}

static bench *new_bench(fv_context *c, const problem *p, int shared) {
    bench *b = calloc(1, sizeof *b);
    b->context = c;
    b->problem = p;
    b->shared = shared;
    describe_all(b);
    return b;
}

/* By its kernel; or, if FOVEA_GROUPS=all asks for it and the backend takes the task, as a group of one. */
static int run_task(run_state *s) {
    const fv_backend *backend = s->context->backend;
    const char *groups = getenv("FOVEA_GROUPS");
    fv_group group = { 0 };
    int taken = 0;
    for (int i = 0; i < s->task.input_count; i++) s->task.input[i].value = s->task.input[i].data ? 1 + i : 0;
    for (int o = 0; o < s->task.output_count; o++)
        s->task.output[o].value = 1 + s->task.input_count + o, s->task.output[o].kept = true;
    if (backend->group && groups && !strcmp(groups, "all"))
        taken = backend->group(s->context->device, &s->task, 1, &group, 1);
    if (taken < 0) return taken;
    if (!taken) return s->kernel->run(s->context->device, &s->task);
    int status = backend->group_run(s->context->device, &s->task, &group);
    backend->group_release(s->context->device, &group);
    return status;
}

static outcome run_on(run_state *s, bench *b, char *why) {
    if (!set_up(b)) return device_failed(s->context, "memory", why);
    memcpy(s->task.input, b->input_tensor, sizeof b->input_tensor);
    memcpy(s->task.output, b->output_tensor, sizeof b->output_tensor);
    if (run_task(s)) return device_failed(s->context, "run", why);
    if (s->context->backend->sync(s->context->device)) return device_failed(s->context, "sync", why);
    return inputs_kept(b, why) ? RAN : FAILED;
}

/* A run with other addresses, or in the place of an input, gives the same bits. */
static outcome run_again(run_state *s, int shared, char *why) {
    const problem *p = s->first->problem;
    bench *b = new_bench(s->context, p, shared);
    outcome result = run_on(s, b, why);
    for (int o = 0; o < p->output_count && result == RAN; o++) {
        if (p->output[o].absent) continue;
        size_t bytes;
        unsigned char *old = output_bytes(s->first, o, &bytes, why), *new = output_bytes(b, o, &bytes, why);
        if (!old || !new) {
            result = FAILED;
        } else if (memcmp(old, new, bytes)) {
            if (shared < 0) snprintf(why, 1200, "output %d differs when the kernel runs again at other addresses", o);
            else snprintf(why, 1200, "output %d differs when it lies in the place of input %d", o, shared);
            result = FAILED;
        }
        free(old);
        free(new);
    }
    tear_down(b);
    return result;
}

static outcome read_results(const run_state *s, double **result, char *why) {
    const problem *p = s->first->problem;
    for (int o = 0; o < p->output_count; o++) {
        if (p->output[o].absent) continue;
        size_t bytes;
        unsigned char *raw = output_bytes(s->first, o, &bytes, why);
        if (!raw) return FAILED;
        const int64_t elements = fv_shape_elements(&p->output[o].shape);
        result[o] = calloc((size_t)elements + 1, sizeof(double));
        decode(s->context, p->output[o].type, p->output[o].number, raw, elements, result[o]);
        free(raw);
    }
    return RAN;
}

/* Again at other addresses, and in the place of every input that output 0 may share. */
static outcome run_elsewhere(run_state *s, char *why) {
    const problem *p = s->first->problem;
    const fv_op_desc *desc = fv_op_table[p->op];
    outcome out = run_again(s, -1, why);
    for (int i = 0; i < p->input_count && out == RAN; i++)
        if (desc->may_share >> i & 1 && !p->output[0].absent &&
            operand_bytes(s->context, &p->input[i]) == operand_bytes(s->context, &p->output[0]))
            out = run_again(s, i, why);
    return out;
}

static outcome prepare(run_state *s, const problem *p, char *why) {
    fv_context *c = s->context;
    s->first = new_bench(c, p, -1);
    s->task = (fv_task){ .op = p->op, .input_count = p->input_count, .output_count = p->output_count,
                         .attributes = &p->attributes };
    s->task.input = calloc(1, sizeof s->first->input_tensor);
    s->task.output = calloc(1, sizeof s->first->output_tensor);
    memcpy(s->task.input, s->first->input_tensor, sizeof s->first->input_tensor);
    memcpy(s->task.output, s->first->output_tensor, sizeof s->first->output_tensor);
    snprintf(why, 1200, "%s has no kernel for %s", c->backend->name, fv_op_name(p->op));
    if (!s->kernel->run) return UNSUPPORTED;
    if (s->kernel->supports && s->kernel->supports(c->device, &s->task, why, 1200)) return UNSUPPORTED;
    if (s->kernel->prepare && s->kernel->prepare(c->device, &s->task)) return device_failed(c, "prepare", why);
    if (s->task.scratch_bytes) {
        s->task.scratch = c->backend->alloc(c->device, s->task.scratch_bytes);
        if (!s->task.scratch) return device_failed(c, "scratch", why);
        c->backend->fill(c->device, s->task.scratch, UNWRITTEN_BYTE, s->task.scratch_bytes);
    }
    return RAN;
}

static void release(run_state *s, bool prepared) {
    if (prepared && s->kernel->release) s->kernel->release(s->context->device, &s->task);
    if (s->task.scratch) s->context->backend->free(s->context->device, s->task.scratch);
    free(s->task.input);
    free(s->task.output);
    tear_down(s->first);
}

static outcome run_prepared(fv_context *c, const fv_kernel *kernel, const problem *p, bool once, double **result,
                            char *why) {
    run_state s = { .context = c, .kernel = kernel ? kernel : &c->backend->kernels[p->op] };
    outcome out = prepare(&s, p, why);
    const bool prepared = out == RAN;
    if (prepared) out = run_on(&s, s.first, why);
    if (out == RAN) out = read_results(&s, result, why);
    if (out == RAN && !once) out = run_elsewhere(&s, why);
    if (out == RAN) snprintf(why, 1200, "%s", s.task.algorithm ? s.task.algorithm : "");
    release(&s, prepared);
    return out;
}

outcome run_problem(fv_context *c, const fv_kernel *kernel, const problem *p, double **result, char *why) {
    return run_prepared(c, kernel, p, false, result, why);
}

outcome run_problem_once(fv_context *c, const problem *p, double **result, char *why) {
    return run_prepared(c, NULL, p, true, result, why);
}

void free_results(double **result) {
    for (int o = 0; o < MOST_OUTPUTS; o++) {
        free(result[o]);
        result[o] = NULL;
    }
}

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double time_problem(fv_context *c, const problem *p, char *algorithm, size_t bytes) {
    run_state s = { .context = c, .kernel = &c->backend->kernels[p->op] };
    char why[1200];
    double best = -1;
    const bool prepared = prepare(&s, p, why) == RAN;
    if (prepared && run_on(&s, s.first, why) == RAN) {
        const double begin = seconds_now();
        while (seconds_now() - begin < 0.25) {
            const double start = seconds_now();
            s.kernel->run(c->device, &s.task);
            c->backend->sync(c->device);
            const double taken = seconds_now() - start;
            if (best < 0 || taken < best) best = taken;
        }
    }
    snprintf(algorithm, bytes, "%s", prepared && s.task.algorithm ? s.task.algorithm : "");
    release(&s, prepared);
    return best;
}
