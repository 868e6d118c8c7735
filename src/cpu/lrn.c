/* lrn.c - local response normalisation across channels and its gradient. A pixel's squares (or the terms of the
 * gradient's sum) go into a small buffer with zeros on both sides, so that the window of every channel is whole and
 * vectors run across channels. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

typedef struct lrn_run {
    const fv_task *task;
    int64_t rows, columns, padded;
} lrn_run;

static int64_t padded_columns_of(const fv_task *task) {
    return round_up(columns_of(&task->input[0]) + 2 * (int64_t)task->attributes->lrn.size + 2 * LANES, 16);
}
static int lrn_prepare(fv_device *device, fv_task *task) {
    task->scratch_bytes = sizeof(float) * 2 * (size_t)padded_columns_of(task) * (size_t)device->threads;
    return FV_OK;
}
static lrn_run make_run(const fv_task *task) {
    return (lrn_run){ task, rows_of(&task->input[0]), columns_of(&task->input[0]), padded_columns_of(task) };
}

/* The sum of `size` neighbours from c - before on; line[0] is channel 0 and has zeros around it. */
INLINE vf window_sum(const float *line, int64_t c, int before, int size) {
    vf sum = { 0 };
    for (int j = 0; j < size; j++) sum += load(line + c - before + j);
    return sum;
}
INLINE vf lowered(vf scale, float beta) { /* scale^-beta */
    if (beta == 0.75f) {
        vf root = square_root(scale);
        return 1.0f / (root * square_root(root));
    }
    return power(scale, -beta);
}

static void square_line(const float *x, int64_t n, float *line) {
    for (int64_t c = 0; c < n; c += LANES) {
        vf v = load_up_to(x + c, n - c);
        store_up_to(line + c, v * v, n - c);
    }
}
static void forward_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    const lrn_run *run = argument;
    const fv_lrn_attributes *a = &run->task->attributes->lrn;
    int64_t n = run->columns;
    float *buffer = (float *)run->task->scratch + thread * 2 * run->padded, *line = buffer + a->size;
    zero_floats(buffer, run->padded);
    for (int64_t row = begin; row < end; row++) {
        const float *x = (const float *)run->task->input[0].data + row * n;
        float *y = (float *)run->task->output[0].data + row * n;
        square_line(x, n, line);
        for (int64_t c = 0; c < n; c += LANES) {
            vf scale = window_sum(line, c, a->size / 2, a->size) * a->alpha + a->k;
            store_up_to(y + c, load_up_to(x + c, n - c) * lowered(scale, a->beta), n - c);
        }
    }
}
static void gradient_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    const lrn_run *run = argument;
    const fv_task *task = run->task;
    const fv_lrn_attributes *a = &task->attributes->lrn;
    int64_t n = run->columns;
    float *buffer = (float *)task->scratch + thread * 2 * run->padded, *line = buffer + a->size,
          *terms = line + run->padded;
    zero_floats(buffer, 2 * run->padded);
    for (int64_t row = begin; row < end; row++) {
        const float *x = (const float *)task->input[0].data + row * n,
                    *y = (const float *)task->input[1].data + row * n;
        const float *dy = (const float *)task->input[2].data + row * n;
        float *dx = (float *)task->output[0].data + row * n;
        square_line(x, n, line);
        for (int64_t c = 0; c < n; c += LANES) {
            vf scale = window_sum(line, c, a->size / 2, a->size) * a->alpha + a->k;
            store_up_to(terms + c, load_up_to(dy + c, n - c) * load_up_to(y + c, n - c) / scale, n - c);
        }
        for (int64_t c = 0; c < n; c += LANES) {
            vf scale = window_sum(line, c, a->size / 2, a->size) * a->alpha + a->k;
            vf sum = window_sum(terms, c, (a->size - 1) / 2, a->size);
            vf direct = load_up_to(dy + c, n - c) * lowered(scale, a->beta);
            store_up_to(dx + c, direct - load_up_to(x + c, n - c) * sum * (2 * a->alpha * a->beta), n - c);
        }
    }
}
static int forward_run(fv_device *device, const fv_task *task) {
    lrn_run run = make_run(task);
    fv_parallel(device, run.rows, 2048 / run.columns + 1, forward_rows, &run);
    return FV_OK;
}
static int gradient_run(fv_device *device, const fv_task *task) {
    lrn_run run = make_run(task);
    fv_parallel(device, run.rows, 2048 / run.columns + 1, gradient_rows, &run);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(lrn) = { { .prepare = lrn_prepare, .run = forward_run }, NULL };
const fv_cpu_kernel KERNEL(lrn_gradient) = { { .prepare = lrn_prepare, .run = gradient_run }, NULL };
