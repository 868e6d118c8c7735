/* softmax.c - softmax and log-softmax along any axis, and their gradients from the output. */
#include "cpu/cpu.h"
#include "cpu/simd.h"
#include <math.h>

/* A tensor about its axis: outer x n x inner. Lines along the axis are worked on side by side, up to LANES of them
 * when the axis is not the last (inner > 1), one by one with vectors along the line when it is. */
typedef struct axis_run {
    const fv_task *task;
    int64_t n, inner;
    bool logarithmic;
} axis_run;

static axis_run about_axis(const fv_task *task, bool logarithmic) {
    const fv_tensor *x = &task->input[0];
    axis_run run = { task, 1, 1, logarithmic };
    if (x->rank) run.n = x->dim[task->attributes->axis.axis];
    for (int i = task->attributes->axis.axis + 1; i < x->rank; i++) run.inner *= x->dim[i];
    return run;
}

static void softmax_line(const float *x, float *y, int64_t n, bool logarithmic) {
    vf best = splat(-__builtin_inff()), total = { 0 };
    for (int64_t i = 0; i < n; i += LANES) {
        vf v = pad_lanes(load_up_to(x + i, n - i), n - i, -__builtin_inff());
        best = maximum(best, v);
        best = choose(v != v, v, best);
    }
    float top = largest_lane(best);
    for (int64_t i = 0; i < n; i += LANES) {
        vf e = exponential(load_up_to(x + i, n - i) - top);
        if (!logarithmic) store_up_to(y + i, e, n - i);
        total += pad_lanes(e, n - i, 0.0f);
    }
    float sum = sum_lanes(total);
    if (logarithmic) {
        float shift = top + logf(sum);
        for (int64_t i = 0; i < n; i += LANES) store_up_to(y + i, load_up_to(x + i, n - i) - shift, n - i);
    } else {
        float scale = 1.0f / sum;
        for (int64_t i = 0; i < n; i += LANES) store_up_to(y + i, load_up_to(y + i, n - i) * scale, n - i);
    }
}
static void softmax_gradient_line(const float *y, const float *dy, float *dx, int64_t n, bool logarithmic) {
    vf total = { 0 };
    for (int64_t i = 0; i < n; i += LANES) {
        vf g = load_up_to(dy + i, n - i);
        total += logarithmic ? g : g * load_up_to(y + i, n - i);
    }
    float sum = sum_lanes(total);
    for (int64_t i = 0; i < n; i += LANES) {
        vf g = load_up_to(dy + i, n - i), v = load_up_to(y + i, n - i);
        store_up_to(dx + i, logarithmic ? g - exponential(v) * sum : v * (g - sum), n - i);
    }
}

/* `lanes` neighbouring lines at once; elements of a line are `step` apart. */
static void softmax_lines(const float *x, float *y, int64_t n, int64_t step, int lanes, bool logarithmic) {
    vf best = load_up_to(x, lanes), total = { 0 };
    for (int64_t i = 1; i < n; i++) {
        vf v = load_up_to(x + i * step, lanes);
        best = choose((v > best) | (v != v), v, best);
    }
    for (int64_t i = 0; i < n; i++) {
        vf e = exponential(load_up_to(x + i * step, lanes) - best);
        total += e;
        if (!logarithmic) store_up_to(y + i * step, e, lanes);
    }
    vf shift = logarithmic ? best + logarithm(total) : 1.0f / total;
    for (int64_t i = 0; i < n; i++)
        store_up_to(y + i * step,
                    logarithmic ? load_up_to(x + i * step, lanes) - shift : load_up_to(y + i * step, lanes) * shift,
                    lanes);
}
static void softmax_gradient_lines(const float *y, const float *dy, float *dx, int64_t n, int64_t step, int lanes,
                                   bool logarithmic) {
    vf total = { 0 };
    for (int64_t i = 0; i < n; i++) {
        vf g = load_up_to(dy + i * step, lanes);
        total += logarithmic ? g : g * load_up_to(y + i * step, lanes);
    }
    for (int64_t i = 0; i < n; i++) {
        vf g = load_up_to(dy + i * step, lanes), v = load_up_to(y + i * step, lanes);
        store_up_to(dx + i * step, logarithmic ? g - exponential(v) * total : v * (g - total), lanes);
    }
}

/* units: lines when the axis is the last, else groups of LANES neighbouring lines */
static void softmax_units(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const axis_run *run = argument;
    const float *x = run->task->input[0].data;
    float *y = run->task->output[0].data;
    int64_t strips = div_up(run->inner, LANES);
    for (int64_t u = begin; u < end; u++) {
        int64_t column = u % strips * LANES, at = u / strips * run->n * run->inner + column;
        if (run->inner == 1)
            softmax_line(x + at, y + at, run->n, run->logarithmic);
        else
            softmax_lines(x + at, y + at, run->n, run->inner, (int)least(LANES, run->inner - column), run->logarithmic);
    }
}
static void softmax_gradient_units(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const axis_run *run = argument;
    const float *y = run->task->input[0].data, *dy = run->task->input[1].data;
    float *dx = run->task->output[0].data;
    int64_t strips = div_up(run->inner, LANES);
    for (int64_t u = begin; u < end; u++) {
        int64_t column = u % strips * LANES, at = u / strips * run->n * run->inner + column;
        int lanes = (int)least(LANES, run->inner - column);
        if (run->inner == 1)
            softmax_gradient_line(y + at, dy + at, dx + at, run->n, run->logarithmic);
        else
            softmax_gradient_lines(y + at, dy + at, dx + at, run->n, run->inner, lanes, run->logarithmic);
    }
}
static int run_about_axis(fv_device *device, const fv_task *task, fv_part *part, bool logarithmic) {
    axis_run run = about_axis(task, logarithmic);
    int64_t elements = fv_elements(&task->input[0]);
    if (!elements) return FV_OK;
    fv_parallel(device, elements / (run.n * run.inner) * div_up(run.inner, LANES), 2048 / run.n + 1, part, &run);
    return FV_OK;
}
static int softmax_run(fv_device *device, const fv_task *task) {
    return run_about_axis(device, task, softmax_units, false);
}
static int softmax_gradient_run(fv_device *device, const fv_task *task) {
    return run_about_axis(device, task, softmax_gradient_units, false);
}
static int log_softmax_run(fv_device *device, const fv_task *task) {
    return run_about_axis(device, task, softmax_units, true);
}
static int log_softmax_gradient_run(fv_device *device, const fv_task *task) {
    return run_about_axis(device, task, softmax_gradient_units, true);
}
const fv_cpu_kernel KERNEL(softmax) = { { .run = softmax_run }, NULL };
const fv_cpu_kernel KERNEL(softmax_gradient) = { { .run = softmax_gradient_run }, NULL };
const fv_cpu_kernel KERNEL(log_softmax) = { { .run = log_softmax_run }, NULL };
const fv_cpu_kernel KERNEL(log_softmax_gradient) = { { .run = log_softmax_gradient_run }, NULL };
