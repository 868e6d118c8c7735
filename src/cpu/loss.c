/* loss.c - softmax cross-entropy (with its gradient in the same pass in the fused form), cross-entropy of
 * probabilities, top-k and metrics. Rows are independent; within a row vectors run along the
 * classes. A target is a class number (i32) or a distribution (f32); a class number that is no class makes the row
 * NaN and is never read with. */
#include "cpu/cpu.h"
#include "cpu/simd.h"
#include <math.h>

static const float LEAST_PROBABILITY = 1e-7f;

typedef struct loss_run {
    const fv_task *task;
    const float *x, *dloss; /* dloss NULL: no gradient wanted */
    const fv_tensor *target;
    float *loss, *dx; /* NULL where not wanted */
    int64_t n;        /* of a row */
    float smoothing;
} loss_run;

static int32_t label_of(const loss_run *run, int64_t row) { /* -1: none such */
    int32_t label = ((const int32_t *)run->target->data)[row];
    return label >= 0 && label < run->n ? label : -1;
}
/* Target of classes j .., smoothed: t (1 - s) + s / n, in double, as the two may cancel. */
INLINE vf smoothed_target(const loss_run *run, int64_t row, int64_t j, int32_t label) {
    vf t;
    if (run->target->type == FV_I32) {
        t = keep_if(lane_numbers() == label - (int32_t)j, splat(1.0f));
    } else {
        t = load_up_to((const float *)run->target->data + row * run->n + j, run->n - j);
    }
    if (run->smoothing == 0) return t;
    return narrow(add_double(multiply_double(widen(t), splat_double(1.0 - run->smoothing)),
                             splat_double((double)run->smoothing / (double)run->n)));
}
static void fill_row(float *to, int64_t n, float value) {
    for (int64_t j = 0; j < n; j += LANES) store_up_to(to + j, splat(value), n - j);
}
static bool bad_label(const loss_run *run, int64_t row, int32_t *label) {
    *label = run->target->type == FV_I32 ? label_of(run, row) : 0;
    if (*label >= 0) return false;
    if (run->loss) run->loss[row] = NAN;
    if (run->dx) fill_row(run->dx + row * run->n, run->n, NAN);
    return true;
}

/* ---- Softmax cross-entropy: loss = sum t_j (log sum exp(x) - x_j), dx = dloss (softmax sum(t) - t) --------------- */
static void softmax_row(const loss_run *run, int64_t row) {
    const float *x = run->x + row * run->n;
    int64_t n = run->n;
    int32_t label;
    if (bad_label(run, row, &label)) return;
    vf best = splat(-__builtin_inff());
    for (int64_t j = 0; j < n; j += LANES) {
        vf v = pad_lanes(load_up_to(x + j, n - j), n - j, -__builtin_inff());
        best = choose((v > best) | (v != v), v, best);
    }
    float top = largest_lane(best);
    vf total = { 0 };
    for (int64_t j = 0; j < n; j += LANES)
        total += exponential(pad_lanes(load_up_to(x + j, n - j), n - j, -__builtin_inff()) - top);
    float sum = sum_lanes(total), log_sum = logf(sum);
    vf weight = { 0 }, loss = { 0 };
    for (int64_t j = 0; j < n; j += LANES) {
        vf t = pad_lanes(smoothed_target(run, row, j, label), n - j, 0.0f),
           v = pad_lanes(load_up_to(x + j, n - j), n - j, 0.0f);
        weight += t;
        vf term = t * (log_sum - (v - top));
        loss += choose(t == 0.0f, (vf){ 0 }, term); /* a class of weight zero adds nothing, however unlikely */
    }
    if (run->loss) run->loss[row] = sum_lanes(loss);
    if (!run->dx) return;
    float g = run->dloss[row], scale = sum_lanes(weight) / sum;
    for (int64_t j = 0; j < n; j += LANES) {
        vf e = exponential(load_up_to(x + j, n - j) - top);
        store_up_to(run->dx + row * n + j, (e * scale - smoothed_target(run, row, j, label)) * g, n - j);
    }
}

/* ---- Cross-entropy of probabilities ------------------------------------------------------------------------------ */
static void cross_entropy_row(const loss_run *run, int64_t row) {
    const float *x = run->x + row * run->n;
    int64_t n = run->n;
    int32_t label;
    if (bad_label(run, row, &label)) return;
    vf low = splat(LEAST_PROBABILITY), high = splat(1 - LEAST_PROBABILITY), loss = { 0 };
    for (int64_t j = 0; j < n; j += LANES) {
        vf t = pad_lanes(smoothed_target(run, row, j, label), n - j, 0.0f),
           p = pad_lanes(load_up_to(x + j, n - j), n - j, 1.0f);
        if (run->loss)
            loss -= choose(t == 0.0f, (vf){ 0 }, t * choose(p != p, p, logarithm(minimum(high, maximum(low, p)))));
        if (run->dx)
            store_up_to(run->dx + row * n + j, choose((p < low) | (p > high), (vf){ 0 }, t / p * -run->dloss[row]),
                        n - j);
    }
    if (run->loss) run->loss[row] = sum_lanes(loss);
}

/* ---- Operations -------------------------------------------------------------------------------------------------- */
static void softmax_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    for (int64_t row = begin; row < end; row++) softmax_row(argument, row);
}
static void cross_entropy_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    for (int64_t row = begin; row < end; row++) cross_entropy_row(argument, row);
}
static int run_rows(fv_device *device, const fv_task *task, fv_part *part) {
    loss_run run = {
        .task = task, .x = task->input[0].data, .target = &task->input[1], .n = columns_of(&task->input[0])
    };
    bool gradient = task->op == FV_OP_softmax_cross_entropy_gradient || task->op == FV_OP_cross_entropy_gradient;
    int64_t rows = gradient ? fv_elements(&task->input[2]) : fv_elements(&task->output[0]);
    run.smoothing = task->attributes->loss.smoothing;
    if (gradient)
        run.dx = task->output[0].data;
    else
        run.loss = task->output[0].data;
    if (task->op == FV_OP_softmax_cross_entropy_train) run.dx = task->output[1].data;
    if (run.dx) run.dloss = task->input[2].data;
    fv_parallel(device, rows, 4096 / (run.n + 1) + 1, part, &run);
    return FV_OK;
}
static int softmax_run(fv_device *device, const fv_task *task) { return run_rows(device, task, softmax_rows); }
static int cross_entropy_run(fv_device *device, const fv_task *task) {
    return run_rows(device, task, cross_entropy_rows);
}
const fv_cpu_kernel KERNEL(softmax_cross_entropy) = { { .run = softmax_run }, NULL };
const fv_cpu_kernel KERNEL(softmax_cross_entropy_gradient) = { { .run = softmax_run }, NULL };
const fv_cpu_kernel KERNEL(softmax_cross_entropy_train) = { { .run = softmax_run }, NULL };
const fv_cpu_kernel KERNEL(cross_entropy) = { { .run = cross_entropy_run }, NULL };
const fv_cpu_kernel KERNEL(cross_entropy_gradient) = { { .run = cross_entropy_run }, NULL };

/* 1 where fewer than k classes come before the target: higher scores, or equal ones of a lower class */
static void top_k_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_tensor *target = &task->input[1];
    int64_t n = columns_of(&task->input[0]);
    for (int64_t row = begin; row < end; row++) {
        const float *x = (const float *)task->input[0].data + row * n;
        int64_t label = 0, before = 0;
        if (target->type == FV_I32) {
            label = ((const int32_t *)target->data)[row];
        } else {
            const float *t = (const float *)target->data + row * n;
            for (int64_t j = 1; j < n; j++)
                if (t[j] > t[label]) label = j;
        }
        bool counts = label >= 0 && label < n;
        for (int64_t j = 0; j < n && counts; j++) {
            if (x[j] != x[j]) counts = false;
            before += x[j] > x[label] || (x[j] == x[label] && j < label);
        }
        ((float *)task->output[0].data)[row] = counts && before < task->attributes->top_k.k;
    }
}
static int top_k_run(fv_device *device, const fv_task *task) {
    fv_parallel(device, fv_elements(&task->output[0]), 4096 / (columns_of(&task->input[0]) + 1) + 1, top_k_rows, task);
    return FV_OK;
}

/* Kahan's summation, in order: state[0] is the sum, state[1] what the last additions put into it too much. */
static int metric_run(fv_device *device, const fv_task *task) {
    (void)device;
    const float *in = task->input[1].data;
    float *state = task->output[0].data;
    volatile float sum = state[0], excess = state[1]; /* volatile: each step is rounded as written */
    for (int64_t i = 0; i < fv_elements(&task->input[1]); i++) {
        volatile float corrected = in[i] - excess, next = sum + corrected;
        volatile float gained = next - sum;
        excess = gained - corrected;
        sum = next;
    }
    state[0] = sum;
    state[1] = excess;
    return FV_OK;
}
const fv_cpu_kernel KERNEL(in_top_k) = { { .run = top_k_run }, NULL };
const fv_cpu_kernel KERNEL(metric_add) = { { .run = metric_run }, NULL };
