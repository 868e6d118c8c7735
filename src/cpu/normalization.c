/* normalization.c - batch normalisation. A tensor is rows x channels. Sums over the rows are taken in a fixed number
 * of chunks, in double, and the chunks added in order, so they do not depend on threads. Statistics take one pass:
 * sums of x - k and its square, k being the channel's first value, lose nothing in double. Passes over the tensor
 * cost what memory costs; there are two forward (statistics, application) and two backward (sums, dx). The fused
 * forms apply the activation, or its gradient from y, on the way. */
#include "cpu/functions.h"
#include <math.h>

enum { CHUNKS = 32, WIDE = 4, SHORT = 16 };

/* Factors of a channel in the second pass: y = (x - mean) scale + shift, or dx = scale (dy - dy_mean - (x - mean)
 * slope). */
typedef struct channels {
    float *mean, *scale, *shift, *dy_mean, *slope;
} channels;
enum { CHANNEL_ARRAYS = 5 };

typedef struct norm_run {
    const fv_task *task;
    int64_t rows, columns;
    const float *x, *y, *dy; /* y only where the activation is undone */
    double *partial;         /* [chunk][2][columns] */
    channels c;
    int activation;
    float alpha;
    bool backward;
} norm_run;

static const float *values(const fv_tensor *t) { return t->data; }
static float value_or(const fv_tensor *t, int64_t c, float otherwise) { return t->data ? values(t)[c] : otherwise; }
static void put(const fv_tensor *t, int64_t c, double value) {
    if (t->data) ((float *)t->data)[c] = (float)value;
}

static size_t partial_bytes(int64_t columns) { return sizeof(double) * CHUNKS * 2 * (size_t)columns; }

static int norm_prepare(fv_device *device, fv_task *task) {
    (void)device;
    int64_t columns = columns_of(&task->input[0]);
    task->scratch_bytes = partial_bytes(columns) + sizeof(float) * CHANNEL_ARRAYS * (size_t)round_up(columns, 16);
    return FV_OK;
}
static norm_run make_run(const fv_task *task) {
    norm_run run = { .task = task,
                     .rows = rows_of(&task->input[0]),
                     .columns = columns_of(&task->input[0]),
                     .x = task->input[0].data,
                     .alpha = task->attributes->norm.alpha,
                     .partial = task->scratch };
    float *arrays = (float *)((char *)task->scratch + partial_bytes(run.columns));
    int64_t stride = round_up(run.columns, 16);
    run.c = (channels){ arrays, arrays + stride, arrays + 2 * stride, arrays + 3 * stride, arrays + 4 * stride };
    return run;
}

/* ---- First pass: two sums a channel ------------------------------------------------------------------------------ */
enum { ANY = -2 }; /* an activation that is not known when compiling */
INLINE vf undo_activation(const norm_run *run, vf y, vf dy, const int activation) {
    switch (activation) {
    case FV_RELU: return keep_if(y > 0.0f, dy);
    case FV_TANH: return dy * (1.0f - y * y);
    case FV_SIGMOID: return dy * (y * (1.0f - y));
    case ANY: return undo_activation_any(y, dy, run->activation, run->alpha);
    default: return dy;
    }
}
/* Forward: x - k and its square. Backward: dy and dy (x - mean). So many vectors of channels; short runs of rows are
 * added as floats, which costs no digit that the results could hold, and those in double. */
INLINE void sum_columns(const norm_run *run, int64_t first, int64_t last, int64_t c, const int vectors,
                        const bool backward, const int activation, double *out) {
    int64_t n = run->columns, left = n - c;
    vd a[WIDE], b[WIDE];
    vf k[WIDE];
    for (int v = 0; v < vectors; v++) {
        a[v] = b[v] = (vd){ { 0 }, { 0 } };
        const float *from = (backward ? run->c.mean : run->x) + c + v * LANES;
        k[v] = vectors > 1 ? load(from) : load_up_to(from, left);
    }
    for (int64_t row = first; row < last;) {
        int64_t stop = least(last, row + SHORT);
        vf s[WIDE], t[WIDE];
        for (int v = 0; v < vectors; v++) s[v] = t[v] = (vf){ 0 };
        for (; row < stop; row++) {
            UNROLL(4)
            for (int v = 0; v < vectors; v++) {
                int64_t at = row * n + c + v * LANES;
                vf x = (vectors > 1 ? load(run->x + at) : load_up_to(run->x + at, left)) - k[v];
                vf d = !backward ? x : vectors > 1 ? load(run->dy + at) : load_up_to(run->dy + at, left);
                if (activation != FV_LINEAR)
                    d = undo_activation(run, vectors > 1 ? load(run->y + at) : load_up_to(run->y + at, left), d,
                                        activation);
                s[v] += d;
                t[v] += d * x;
            }
        }
        for (int v = 0; v < vectors; v++) a[v] = add_double(a[v], widen(s[v])), b[v] = add_double(b[v], widen(t[v]));
    }
    for (int v = 0; v < vectors; v++) {
        double sum[2][LANES];
        store_double(sum[0], a[v]);
        store_double(sum[1], b[v]);
        for (int64_t i = 0; i < least(LANES, left); i++)
            out[c + v * LANES + i] = sum[0][i], out[n + c + v * LANES + i] = sum[1][i];
    }
}
INLINE void sum_chunk(const norm_run *run, int64_t chunk, const bool backward, const int activation) {
    int64_t first = run->rows * chunk / CHUNKS, last = run->rows * (chunk + 1) / CHUNKS, c = 0;
    double *out = run->partial + chunk * 2 * run->columns;
    for (; c + WIDE * LANES <= run->columns; c += WIDE * LANES)
        sum_columns(run, first, last, c, WIDE, backward, activation, out);
    for (; c < run->columns; c += LANES) sum_columns(run, first, last, c, 1, backward, activation, out);
}
static void sum_chunks(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const norm_run *run = argument;
    for (int64_t chunk = begin; chunk < end; chunk++) switch (run->backward ? run->activation : -1) {
        case -1: sum_chunk(run, chunk, false, FV_LINEAR); break;
        case FV_RELU: sum_chunk(run, chunk, true, FV_RELU); break;
        case FV_TANH: sum_chunk(run, chunk, true, FV_TANH); break;
        case FV_SIGMOID: sum_chunk(run, chunk, true, FV_SIGMOID); break;
        case FV_LINEAR: sum_chunk(run, chunk, true, FV_LINEAR); break;
        default: sum_chunk(run, chunk, true, ANY);
        }
}
/* Into the first of them. */
static void add_chunks(const norm_run *run) {
    int64_t sums = 2 * run->columns, i = 0;
    for (; i + LANES <= sums; i += LANES) {
        vd sum = load_double(run->partial + i);
        for (int64_t chunk = 1; chunk < CHUNKS; chunk++)
            sum = add_double(sum, load_double(run->partial + chunk * sums + i));
        store_double(run->partial + i, sum);
    }
    for (; i < sums; i++)
        for (int64_t chunk = 1; chunk < CHUNKS; chunk++) run->partial[i] += run->partial[chunk * sums + i];
}
static int64_t chunk_grain(const norm_run *run) { return CHUNKS * 8192 / (run->rows * run->columns + 1) + 1; }

/* ---- Second pass ------------------------------------------------------------------------------------------------- */
INLINE void apply_row(const norm_run *run, int64_t row, const int activation) {
    int64_t n = run->columns;
    float *out = (float *)run->task->output[0].data + row * n;
    for (int64_t c = 0; c < n; c += LANES) {
        int64_t left = n - c;
        vf y = (load_up_to(run->x + row * n + c, left) - load(run->c.mean + c)) * load(run->c.scale + c) +
               load(run->c.shift + c);
        store_up_to(out + c, activate(y, activation), left);
    }
    if (activation == ANY) activate_line(out, n, run->activation, run->alpha);
}
static void apply_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const norm_run *run = argument;
    for (int64_t row = begin; row < end; row++) switch (run->activation) {
        case FV_RELU: apply_row(run, row, FV_RELU); break;
        case FV_TANH: apply_row(run, row, FV_TANH); break;
        case FV_SIGMOID: apply_row(run, row, FV_SIGMOID); break;
        case FV_LINEAR: apply_row(run, row, FV_LINEAR); break;
        default: apply_row(run, row, ANY);
        }
}
INLINE void gradient_row(const norm_run *run, int64_t row, const int activation) {
    int64_t n = run->columns;
    float *out = (float *)run->task->output[0].data + row * n;
    for (int64_t c = 0; c < n; c += LANES) {
        int64_t at = row * n + c, left = n - c;
        vf d = load_up_to(run->dy + at, left);
        if (activation != FV_LINEAR) d = undo_activation(run, load_up_to(run->y + at, left), d, activation);
        vf t = load_up_to(run->x + at, left) - load(run->c.mean + c);
        store_up_to(out + c, load(run->c.scale + c) * (d - load(run->c.dy_mean + c) - t * load(run->c.slope + c)),
                    left);
    }
}
static void gradient_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const norm_run *run = argument;
    for (int64_t row = begin; row < end; row++) switch (run->activation) {
        case FV_RELU: gradient_row(run, row, FV_RELU); break;
        case FV_TANH: gradient_row(run, row, FV_TANH); break;
        case FV_SIGMOID: gradient_row(run, row, FV_SIGMOID); break;
        case FV_LINEAR: gradient_row(run, row, FV_LINEAR); break;
        default: gradient_row(run, row, ANY);
        }
}
static void second_pass(fv_device *device, const norm_run *run, fv_part *part) {
    if (run->task->output[0].data) fv_parallel(device, run->rows, 8192 / run->columns + 1, part, run);
}

/* ---- Operations -------------------------------------------------------------------------------------------------- */
static int train_run(fv_device *device, const fv_task *task) {
    const fv_norm_attributes *a = &task->attributes->norm;
    norm_run run = make_run(task);
    run.activation = task->op == FV_OP_batch_norm_train_activation ? a->activation : FV_LINEAR;
    fv_parallel(device, CHUNKS, chunk_grain(&run), sum_chunks, &run);
    add_chunks(&run);
    double kept = a->momentum, moved = 1 - kept;
    for (int64_t c = 0; c < run.columns; c++) {
        double sum[2] = { run.partial[c], run.partial[run.columns + c] };
        double distance = sum[0] / (double)run.rows, mean = distance + run.x[c];
        double variance = fmax(0, sum[1] / (double)run.rows - distance * distance);
        if (sum[1] != sum[1]) variance = sum[1]; /* fmax drops what is not a number */
        double inverse = 1 / sqrt(variance + a->epsilon);
        run.c.mean[c] = (float)mean;
        run.c.scale[c] = (float)(value_or(&task->input[1], c, 1) * inverse);
        run.c.shift[c] = value_or(&task->input[2], c, 0);
        put(&task->output[1], c, mean);
        put(&task->output[2], c, inverse);
        put(&task->output[3], c, kept * value_or(&task->input[3], c, 0) + moved * mean);
        put(&task->output[4], c, kept * value_or(&task->input[4], c, 1) + moved * variance);
    }
    second_pass(device, &run, apply_rows);
    return FV_OK;
}

static int infer_run(fv_device *device, const fv_task *task) {
    const fv_norm_attributes *a = &task->attributes->norm;
    norm_run run = make_run(task);
    run.activation = task->op == FV_OP_batch_norm_infer_activation ? a->activation : FV_LINEAR;
    for (int64_t c = 0; c < run.columns; c++) {
        run.c.mean[c] = values(&task->input[3])[c];
        run.c.scale[c] =
            (float)(value_or(&task->input[1], c, 1) / sqrt((double)values(&task->input[4])[c] + a->epsilon));
        run.c.shift[c] = value_or(&task->input[2], c, 0);
    }
    second_pass(device, &run, apply_rows);
    return FV_OK;
}

/* constants: mean and variance do not depend on x (inference form), and input 4 is the variance itself. */
static int gradient_of(fv_device *device, norm_run *run, const fv_tensor *gamma, const fv_tensor *mean,
                       const fv_tensor *deviation, bool constants) {
    const fv_task *task = run->task;
    run->backward = true;
    for (int64_t c = 0; c < run->columns; c++) run->c.mean[c] = values(mean)[c];
    bool sums = !constants || task->output[1].data || task->output[2].data;
    if (sums) fv_parallel(device, CHUNKS, chunk_grain(run), sum_chunks, run);
    if (sums) add_chunks(run);
    for (int64_t c = 0; c < run->columns; c++) {
        double inverse = constants ? 1 / sqrt((double)values(deviation)[c] + task->attributes->norm.epsilon)
                                   : values(deviation)[c],
               sum[2] = { 0, 0 };
        if (sums) sum[0] = run->partial[c], sum[1] = run->partial[run->columns + c];
        put(&task->output[1], c, sum[1] * inverse);
        put(&task->output[2], c, sum[0]);
        run->c.scale[c] = (float)(value_or(gamma, c, 1) * inverse);
        run->c.dy_mean[c] = constants ? 0 : (float)(sum[0] / (double)run->rows);
        run->c.slope[c] = constants ? 0 : (float)(sum[1] * inverse * inverse / (double)run->rows);
    }
    second_pass(device, run, gradient_rows);
    return FV_OK;
}
static int gradient_run(fv_device *device, const fv_task *task) {
    norm_run run = make_run(task);
    run.dy = task->input[1].data;
    return gradient_of(device, &run, &task->input[2], &task->input[3], &task->input[4], false);
}
static int infer_gradient_run(fv_device *device, const fv_task *task) {
    norm_run run = make_run(task);
    run.dy = task->input[1].data;
    return gradient_of(device, &run, &task->input[2], &task->input[3], &task->input[4], true);
}
static int activation_gradient_run(fv_device *device, const fv_task *task) {
    norm_run run = make_run(task);
    run.y = task->input[1].data;
    run.dy = task->input[2].data;
    run.activation = task->attributes->norm.activation;
    return gradient_of(device, &run, &task->input[3], &task->input[4], &task->input[5], false);
}

const fv_cpu_kernel KERNEL(batch_norm_train) = { { .prepare = norm_prepare, .run = train_run }, NULL };
const fv_cpu_kernel KERNEL(batch_norm_infer) = { { .prepare = norm_prepare, .run = infer_run }, NULL };
const fv_cpu_kernel KERNEL(batch_norm_gradient) = { { .prepare = norm_prepare, .run = gradient_run }, NULL };
const fv_cpu_kernel KERNEL(batch_norm_infer_gradient) = { { .prepare = norm_prepare, .run = infer_gradient_run },
                                                          NULL };
const fv_cpu_kernel KERNEL(batch_norm_train_activation) = { { .prepare = norm_prepare, .run = train_run }, NULL };
const fv_cpu_kernel KERNEL(batch_norm_infer_activation) = { { .prepare = norm_prepare, .run = infer_run }, NULL };
const fv_cpu_kernel KERNEL(batch_norm_activation_gradient) = {
    { .prepare = norm_prepare, .run = activation_gradient_run }, NULL
};
