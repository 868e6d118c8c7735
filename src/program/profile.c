/* profile.c - what a program looks like and where its time goes: a line a task. */
#define _GNU_SOURCE
#include "program/program.h"
#include <stdlib.h>
#include <time.h>

/* ---- Print ------------------------------------------------------------------------------------------------------- */

static void print_operands(const fv_program *p, const fv_tensor *tensor, int32_t count, FILE *file) {
    enum { SHOWN = 8 }; /* the optimiser reads hundreds of gradients */
    char text[96];
    for (int32_t k = 0; k < count && k < SHOWN; k++) {
        int32_t value = p->tensor_value[tensor - p->tensor + k];
        bool absent = p->tape->value[value].kind == FV_VALUE_NONE;
        fv_shape shape = { .rank = absent ? 0 : tensor[k].rank };
        for (int i = 0; i < shape.rank; i++) shape.dim[i] = tensor[k].dim[i];
        fprintf(file, "%s%s", k ? " " : "", absent ? "-" : fv_shape_text(&shape, text));
    }
    if (count > SHOWN) fprintf(file, " and %d more", count - SHOWN);
}

/* "@offset + bytes", "@parameters 0 + 600", "in place" */
static void print_place(const fv_program *p, int32_t value, FILE *file) {
    const fv_tape_value *v = &p->tape->value[value];
    const fv_place *place = &p->place[value];
    int32_t root = fv_program_root(p, value);
    if (fv_value_in_store(v))
        fprintf(file, "%s %lld + %lld", fv_region_name(v->region), (long long)v->offset,
                (long long)fv_shape_elements(&v->shape));
    else if (place->last < 0)
        fprintf(file, "unread");
    else
        fprintf(file, "%lld + %lld%s", (long long)p->place[root].offset, (long long)place->bytes,
                root == value ? "" : " in place");
}

static void print_task(const fv_program *p, int32_t i, FILE *file) {
    const fv_task *task = &p->task[i];
    char mark = p->task_group[i] >= 0 ? '|' : i < p->steady_count ? '*' : ' ';
    fprintf(file, "%5d%c %-32s %-20s ", i, mark, fv_op_name(task->op), task->layer ? task->layer : "");
    print_operands(p, task->input, task->input_count, file);
    fprintf(file, " -> ");
    print_operands(p, task->output, task->output_count, file);
    for (int32_t k = 0; k < task->output_count; k++) {
        int32_t value = p->tensor_value[task->output - p->tensor + k];
        if (p->tape->value[value].kind == FV_VALUE_NONE) continue;
        fprintf(file, " @ ");
        print_place(p, value, file);
    }
    if (task->scratch_bytes)
        fprintf(file, "; scratch %lld + %zu", (long long)p->scratch_offset[i], task->scratch_bytes);
    if (task->algorithm) fprintf(file, "; %s", task->algorithm);
    fprintf(file, "\n");
}

int fv_program_print(const fv_program *p, FILE *file) {
    if (!p || !file) return FV_ERROR_ARGUMENT;
    fprintf(file, "%d tasks on %s%s: arena %zu bytes, inputs %zu, constants %zu\n", p->task_count,
            p->object.context->device_name, p->debug ? ", debug" : "", p->arena_bytes, p->input_bytes,
            p->constant_bytes);
    if (p->steady_count)
        fprintf(file, "the first %d run when weights are new: %zu bytes last\n", p->steady_count, p->steady_bytes);
    for (int32_t i = 0; i < p->task_count; i++) print_task(p, i, file);
    for (int32_t g = 0; g < p->group_count; g++)
        fprintf(file, "group %d: tasks %d..%d%s%s\n", g, p->group[g].first, p->group[g].first + p->group[g].count - 1,
                p->group[g].algorithm ? "; " : "", p->group[g].algorithm ? p->group[g].algorithm : "");
    return FV_OK;
}

double fv_program_flops(const fv_program *p) {
    double flops = 0;
    for (int32_t i = p ? p->steady_count : 0; p && i < p->task_count; i++) {
        fv_cost cost = { 0 };
        fv_tape_cost(p->tape, p->task_operation[i], &cost);
        flops += cost.flops;
    }
    return flops;
}

/* ---- Profile ----------------------------------------------------------------------------------------------------- */

/* What is timed as one: a task, or a group of them. */
typedef struct line {
    int32_t first, count;
    double seconds, flops, bytes;
    const char *algorithm;
} line;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare_seconds(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int compare_lines(const void *a, const void *b) {
    const line *x = a, *y = b;
    if (x->seconds != y->seconds) return x->seconds < y->seconds ? 1 : -1;
    return x->first < y->first ? -1 : x->first > y->first;
}

static int32_t make_lines(const fv_program *p, line *lines) {
    int32_t count = 0;
    for (int32_t i = p->steady_count; i < p->task_count; i += lines[count++].count) {
        const fv_group *group = p->task_group[i] >= 0 ? &p->group[p->task_group[i]] : NULL;
        line *l = &lines[count];
        *l = (line){ .first = i,
                     .count = group ? group->count : 1,
                     .algorithm = group ? group->algorithm : p->task[i].algorithm };
        for (int32_t k = 0; k < l->count; k++) {
            fv_cost cost = { 0 };
            fv_tape_cost(p->tape, p->task_operation[i + k], &cost);
            l->flops += cost.flops;
            l->bytes += cost.bytes;
        }
    }
    return count;
}

/* One line, alone on the device from begin to end. */
static int time_line(fv_program *p, const line *l, double *seconds) {
    fv_context *c = p->object.context;
    const fv_backend *b = c->backend;
    int32_t group = p->task_group[l->first];
    double begin = now();
    int status = group >= 0 ? b->group_run(c->device, p->task, &p->group[group])
                            : b->kernels[p->task[l->first].op].run(c->device, &p->task[l->first]);
    if (!status) status = b->sync(c->device);
    *seconds = now() - begin;
    char name[128];
    if (status && fv_ok(c))
        fv_fail(c, status, "%s: failed on %s", fv_task_name(&p->task[l->first], name), c->device_name);
    return status;
}

static int measure(fv_program *p, line *lines, int32_t count, int runs, double *seconds) {
    for (int r = 0; r < runs; r++)
        for (int32_t i = 0; i < count; i++) {
            int status = time_line(p, &lines[i], &seconds[(size_t)i * (size_t)runs + (size_t)r]);
            if (status) return status;
        }
    for (int32_t i = 0; i < count; i++) {
        double *of_line = seconds + (size_t)i * (size_t)runs;
        qsort(of_line, (size_t)runs, sizeof *of_line, compare_seconds);
        lines[i].seconds = (of_line[(runs - 1) / 2] + of_line[runs / 2]) / 2;
    }
    return FV_OK;
}

static void print_lines(const fv_program *p, const line *lines, int32_t count, FILE *file) {
    line sum = { 0 };
    for (int32_t i = 0; i < count; i++) {
        sum.seconds += lines[i].seconds;
        sum.flops += lines[i].flops;
        sum.bytes += lines[i].bytes;
    }
    fprintf(file, "%12s %7s %10s %8s %5s  %-32s %-20s %s\n", "microseconds", "share", "GFLOP/s", "GB/s", "task",
            "operation", "layer", "algorithm");
    for (int32_t i = 0; i < count; i++) {
        const line *l = &lines[i];
        const fv_task *task = &p->task[l->first];
        double rate = l->seconds > 0 ? 1e-9 / l->seconds : 0;
        char group[32] = "";
        if (l->count > 1) snprintf(group, sizeof group, " to task %d", l->first + l->count - 1);
        fprintf(file, "%12.1f %6.1f%% %10.2f %8.2f %5d  %-32s %-20s %s%s\n", 1e6 * l->seconds,
                sum.seconds > 0 ? 100 * l->seconds / sum.seconds : 0.0, l->flops * rate, l->bytes * rate, l->first,
                fv_op_name(task->op), task->layer ? task->layer : "", l->algorithm ? l->algorithm : "", group);
    }
    double rate = sum.seconds > 0 ? 1e-9 / sum.seconds : 0;
    fprintf(file, "%12.1f %6.1f%% %10.2f %8.2f %5s  sum of %d\n", 1e6 * sum.seconds, 100.0, sum.flops * rate,
            sum.bytes * rate, "", count);
}

/* Medians over the runs, after one run to warm up, in which what depends on weights only runs for all of them. These are real runs: a training step trains. */
int fv_program_profile(fv_program *p, int runs, FILE *file) {
    fv_context *c = p ? p->object.context : NULL;
    if (!fv_ok(c)) return c ? c->status : FV_ERROR_ARGUMENT;
    if (runs < 1 || !file)
        return fv_fail(c, FV_ERROR_ARGUMENT, "fv_program_profile: %d runs, or no file to write to", runs);
    int status = fv_run(p);
    if (status || p->task_count == p->steady_count) return status;
    line *lines = fv_alloc(c, (size_t)p->task_count, sizeof *lines, "a profile");
    double *seconds = fv_alloc(c, (size_t)p->task_count, (size_t)runs * sizeof *seconds, "a profile");
    status = FV_ERROR_MEMORY;
    if (lines && seconds) {
        int32_t count = make_lines(p, lines);
        status = measure(p, lines, count, runs, seconds);
        for (int32_t i = 0; i < p->written_count; i++) p->stores[i]->device_version++, p->stores[i]->written++;
        if (!status) {
            qsort(lines, (size_t)count, sizeof *lines, compare_lines);
            print_lines(p, lines, count, file);
        }
    }
    fv_free(seconds);
    fv_free(lines);
    return status;
}
