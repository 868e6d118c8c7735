/* tune.c - choices among the ways in which a backend can do an operation: which one a prepared task takes, and the measuring that
 * fv_tune does, on copies of the operands, never on live state. */
#define _GNU_SOURCE
#include "program/program.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- Taking a choice ------------------------------------------------------------------------------------------------ */

static size_t add_operands(char *text, size_t used, const fv_tensor *t, int32_t count) {
    for (int32_t i = 0; i < count && used < FV_TASK_KEY; i++) {
        if (t[i].rank < 0) { /* absent */
            used += (size_t)snprintf(text + used, FV_TASK_KEY - used, " -");
            continue;
        }
        const fv_shape shape = {
            .rank = t[i].rank, .dim = { t[i].dim[0], t[i].dim[1], t[i].dim[2], t[i].dim[3], t[i].dim[4], t[i].dim[5] }
        };
        char dims[96];
        used += (size_t)snprintf(text + used, FV_TASK_KEY - used, " %s%s", fv_type_name(t[i].type),
                                 fv_shape_text(&shape, dims));
    }
    return used;
}

/* Attributes are told by a sum of their bytes; all but the convolutions' are few. */
void fv_task_key(const fv_task *task, char text[FV_TASK_KEY]) {
    uint64_t sum = UINT64_C(14695981039346656037);
    const unsigned char *bytes = (const unsigned char *)task->attributes;
    for (size_t i = 0; i < sizeof *task->attributes; i++) sum = (sum ^ bytes[i]) * UINT64_C(1099511628211);
    size_t used = (size_t)snprintf(text, FV_TASK_KEY, "%s %s%s", fv_op_name(task->op),
                                   fv_precision_name(task->precision), task->version ? " (steady)" : "");
    used = add_operands(text, used, task->input, task->input_count);
    if (used < FV_TASK_KEY) used += (size_t)snprintf(text + used, FV_TASK_KEY - used, " ->");
    used = add_operands(text, used, task->output, task->output_count);
    if (used < FV_TASK_KEY) snprintf(text + used, FV_TASK_KEY - used, " #%08x", (unsigned)(sum ^ sum >> 32));
}

static bool has_ways(fv_context *c, const fv_task *task) {
    return c->backend->alternatives && c->backend->alternatives(c->device, task) > 0;
}

int fv_task_prepare(fv_context *c, fv_task *task) {
    const fv_kernel *kernel = &c->backend->kernels[task->op];
    if (!kernel->prepare) return FV_OK;
    char key[FV_TASK_KEY], name[128];
    const char *algorithm = NULL;
    int choice = -1;
    if (c->tuned && has_ways(c, task)) {
        fv_task_key(task, key);
        choice = fv_tuned_choice(c, key, &algorithm);
    }
    task->choice = choice > 0 ? choice : 0;
    const int status = kernel->prepare(c->device, task);
    if (choice < 0 || (status && status != FV_ERROR_UNSUPPORTED)) return status;
    if (!status && !strcmp(task->algorithm ? task->algorithm : "", algorithm)) return FV_OK;
    return fv_fail(c, FV_ERROR_ARGUMENT,
                   "%s: the tuned file wants way %d, '%.200s', which %s does not have: run 'fovea tune' again",
                   fv_task_name(task, name), choice, algorithm, c->device_name);
}

/* ---- Measuring ------------------------------------------------------------------------------------------------------ */

enum { SAMPLES = 7, MOST_OPERANDS = 32, OPERAND_BYTE = 0x3c /* small numbers in f32, bf16 and f16 */ };
static const double sample_seconds = 2e-3, worth = 0.95; /* of the default's time: what another way must reach */

typedef struct bench {
    fv_context *context;
    fv_task task;
    fv_tensor tensor[MOST_OPERANDS];
    void *memory[MOST_OPERANDS + 2];
    size_t bytes[MOST_OPERANDS + 2];
    int blocks;
    uint64_t version;
} bench;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *take(bench *b, size_t bytes, int byte) {
    fv_context *c = b->context;
    void *data = fv_device_alloc(c, bytes, "the operands of an operation that is timed");
    if (!data) return NULL;
    b->memory[b->blocks] = data;
    b->bytes[b->blocks++] = bytes;
    const int status = c->backend->fill(c->device, data, byte, bytes);
    if (status && fv_ok(c)) fv_fail(c, status, "%s: memory could not be filled", c->device_name);
    return data;
}

static void give_back(bench *b, int kept) {
    while (b->blocks > kept) {
        b->blocks--;
        fv_device_free(b->context, b->memory[b->blocks], b->bytes[b->blocks]);
    }
}

/* The task with operands of its own. */
static int make_bench(bench *b, fv_context *c, const fv_task *task) {
    const int32_t count = task->input_count + task->output_count;
    memset(b, 0, sizeof *b);
    b->context = c;
    b->version = 1;
    b->task = *task;
    b->task.input = b->tensor;
    b->task.output = b->tensor + task->input_count;
    b->task.version = task->version ? &b->version : NULL;
    for (int32_t i = 0; i < count && fv_ok(c); i++) {
        b->tensor[i] = i < task->input_count ? task->input[i] : task->output[i - task->input_count];
        b->tensor[i].data = NULL;
        if (b->tensor[i].rank < 0) continue;
        const bool real = b->tensor[i].type != FV_I32 && b->tensor[i].type != FV_U8;
        b->tensor[i].data = take(b, (size_t)fv_elements(&b->tensor[i]) * fv_device_element(c, b->tensor[i].type),
                                 real ? OPERAND_BYTE : 0);
    }
    return c->status;
}

static double time_runs(bench *b, const fv_kernel *kernel, int runs, int *status) {
    fv_context *c = b->context;
    const double begin = now();
    for (int i = 0; i < runs && !*status; i++) *status = kernel->run(c->device, &b->task);
    if (!*status) *status = c->backend->sync(c->device);
    return now() - begin;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The median seconds of a run; the first two, which pack weights and warm caches up, are not counted. */
static int time_prepared(bench *b, const fv_kernel *kernel, double *seconds) {
    double sample[SAMPLES];
    int status = FV_OK;
    time_runs(b, kernel, 1, &status);
    const double once = time_runs(b, kernel, 1, &status);
    const int runs = once > sample_seconds ? 1 : (int)(sample_seconds / (once > 1e-7 ? once : 1e-7)) + 1;
    for (int i = 0; i < SAMPLES && !status; i++) sample[i] = time_runs(b, kernel, runs, &status) / runs;
    if (status) return status;
    qsort(sample, SAMPLES, sizeof *sample, ascending);
    *seconds = sample[SAMPLES / 2];
    return FV_OK;
}

/* FV_ERROR_UNSUPPORTED without an error in the context: the task has no such way. */
static int time_way(bench *b, int choice, double *seconds, char *algorithm, size_t bytes) {
    fv_context *c = b->context;
    const fv_kernel *kernel = &c->backend->kernels[b->task.op];
    fv_task *task = &b->task;
    const int kept = b->blocks;
    task->choice = choice;
    task->kept = task->scratch = task->packed = NULL;
    task->scratch_bytes = task->packed_bytes = 0;
    task->algorithm = NULL;
    int status = kernel->prepare(c->device, task);
    if (!status) {
        snprintf(algorithm, bytes, "%s", task->algorithm ? task->algorithm : "");
        if (task->scratch_bytes) task->scratch = take(b, task->scratch_bytes, 0);
        if (task->packed_bytes) task->packed = take(b, task->packed_bytes, 0);
        status = c->status ? (int)c->status : time_prepared(b, kernel, seconds);
    }
    if (kernel->release && task->kept) kernel->release(c->device, task);
    give_back(b, kept);
    return status;
}

typedef struct way {
    int choice;
    double seconds;
    char algorithm[420];
} way;

/* The way that prepare takes by itself, unless another is clearly faster. It is timed before and after the others, since a machine's
 * clock moves. */
static int find_fastest(bench *b, int alternatives, way *own, way *best, int *ways) {
    double again;
    int status = time_way(b, 0, &own->seconds, own->algorithm, sizeof own->algorithm);
    *best = (way){ .seconds = 1e30 };
    *ways = 0;
    for (int choice = 1; choice <= alternatives && !status; choice++) {
        way other = { .choice = choice };
        status = time_way(b, choice, &other.seconds, other.algorithm, sizeof other.algorithm);
        if (status == FV_ERROR_UNSUPPORTED && fv_ok(b->context)) {
            status = FV_OK;
            continue;
        }
        ++*ways;
        if (!status && other.seconds < best->seconds) *best = other;
    }
    if (!status) status = time_way(b, 0, &again, own->algorithm, sizeof own->algorithm);
    if (status) return status;
    if (again < own->seconds) own->seconds = again;
    if (best->seconds > worth * own->seconds) *best = *own;
    return FV_OK;
}

static int tune_task(fv_context *c, const fv_task *task, const char *key, json_t *choices, FILE *report) {
    const int alternatives = c->backend->alternatives(c->device, task);
    bench b;
    way own = { 0 }, best;
    int ways = 0;
    int status = make_bench(&b, c, task);
    if (!status) status = find_fastest(&b, alternatives, &own, &best, &ways);
    give_back(&b, 0);
    if (status) return fv_ok(c) ? fv_fail(c, status, "%s: an operation could not be timed", c->device_name) : status;
    json_t *entry = json_pack("{s:i, s:s, s:f, s:f}", "choice", best.choice, "algorithm", best.algorithm,
                              "microseconds", 1e6 * best.seconds, "untuned", 1e6 * own.seconds);
    if (!entry || json_object_set_new(choices, key, entry)) return fv_fail_memory(c, "tuned choices", 0);
    if (report && ways > 1)
        fprintf(report, "%10.1f us, was %10.1f: %s: of %d ways %s\n", 1e6 * best.seconds, 1e6 * own.seconds, key, ways,
                best.choice ? best.algorithm : "its own");
    return FV_OK;
}

int fv_program_tune(fv_program *p, json_t *choices, FILE *report) {
    fv_context *c = p->object.context;
    char key[FV_TASK_KEY], other[FV_TASK_KEY];
    for (int32_t i = 0; i < p->task_count; i++) {
        if (!has_ways(c, &p->task[i]) || p->task[i].input_count + p->task[i].output_count > MOST_OPERANDS) continue;
        fv_task_key(&p->task[i], key);
        bool done = false;
        for (int32_t k = 0; k < i && !done; k++) {
            if (p->task[k].op != p->task[i].op) continue;
            fv_task_key(&p->task[k], other);
            done = !strcmp(key, other);
        }
        const int status = done ? FV_OK : tune_task(c, &p->task[i], key, choices, report);
        if (status) return status;
    }
    return FV_OK;
}
