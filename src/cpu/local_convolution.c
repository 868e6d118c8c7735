/* local_convolution.c - unshared convolution: one small product of matrices a position, whose rows are the images.
 * They are read where they lie: a row of the tile is an image, a segment of its reduction the taps of a kernel row
 * that lie inside. Only the filters of a position are packed, once for all images. Threads own positions. */
#include "cpu/conv.h"

typedef struct local_run {
    conv_problem p;
    const float *x, *dy, *w;
    float *out;
    char *buffers;
    size_t panel_floats, own_bytes; /* of a thread: panel, then segments */
} local_run;

static void read_task(const fv_task *task, local_run *run) {
    const fv_local_attributes *a = &task->attributes->local;
    const bool data = task->op == FV_OP_local_conv2d_data_gradient, weight = task->op == FV_OP_local_conv2d_weight_gradient;
    const fv_tensor *x = data ? &task->output[0] : &task->input[0];
    const fv_tensor *y = data ? &task->input[0] : weight ? &task->input[1] : &task->output[0];
    *run = (local_run){ .x = x->data, .dy = y->data, .w = weight ? NULL : task->input[1].data,
                        .out = task->output[0].data, .buffers = task->scratch };
    conv_problem *p = &run->p;
    *p = (conv_problem){ .images = x->dim[0], .channels = x->dim[3], .filters = y->dim[3], .groups = 1 };
    for (int axis = 0; axis < 2; axis++) {
        p->x_size[axis] = x->dim[1 + axis];
        p->y_size[axis] = y->dim[1 + axis];
        p->taps[axis] = a->kernel[axis];
        p->stride[axis] = a->stride[axis];
        p->dilation[axis] = a->dilation[axis];
        p->pad[axis] = a->pad[2 * axis];
    }
    int64_t depth = data ? conv_taps(p) * p->filters : weight ? p->images : conv_taps(p) * p->channels;
    run->panel_floats = (size_t)(depth * TILE_COLUMNS);
    run->own_bytes = sizeof(float) * run->panel_floats +
                     (size_t)round_up(conv_taps(p) * (int64_t)sizeof(tile_segment), 64);
}

static int prepare(fv_device *device, fv_task *task) {
    local_run run;
    read_task(task, &run);
    task->scratch_bytes = run.own_bytes * (size_t)device->threads;
    task->algorithm = "a product a position";
    return FV_OK;
}

static float *panel_of(const local_run *run, int thread) {
    return (float *)(run->buffers + (size_t)thread * run->own_bytes);
}

/* Taps of one kernel row that follow each other in memory: how many, from tap s on. */
static int64_t stretch(const conv_problem *p, int64_t column, int64_t s) {
    int64_t n = 1;
    if (conv_reads(p, false, 1, column, s) < 0) return 0;
    while (p->dilation[1] == 1 && s + n < p->taps[1] && conv_reads(p, false, 1, column, s + n) >= 0) n++;
    return n;
}

/* All images of a position: rows of A are `row` floats apart, those of c `c_row`. */
static void multiply_images(const conv_problem *p, const float *a, int64_t row, const float *panel, int64_t columns,
                            const tile_segment *segment, int segments, float *c, int64_t c_row) {
    int64_t tiles = div_up(p->images, TILE_ROWS);
    for (int64_t t = 0; t < tiles; t++) {
        int64_t first = p->images * t / tiles, rows = p->images * (t + 1) / tiles - first;
        tile_apply(tile_rows, (int)rows, columns, a + first * row, row, panel, segment, segments, c + first * c_row,
                   c_row, false, NULL);
    }
}

/* ---- Forward ----------------------------------------------------------------------------------------------------- */
static void forward_positions(const void *argument, int64_t begin, int64_t end, int thread) {
    const local_run *run = argument;
    const conv_problem *p = &run->p;
    float *own = panel_of(run, thread);
    tile_segment *segment = (tile_segment *)(own + run->panel_floats);
    int64_t values = conv_taps(p) * p->channels, image = p->x_size[0] * p->x_size[1] * p->channels;
    for (int64_t u = begin; u < end; u++) {
        int64_t column = u % p->y_size[1];
        int segments = 0;
        for (int64_t r = 0; r < p->taps[0]; r++) {
            int64_t y = conv_reads(p, false, 0, u / p->y_size[1], r);
            for (int64_t s = 0, n; y >= 0 && s < p->taps[1]; s += most(n, 1)) {
                n = stretch(p, column, s);
                int64_t at = (y * p->x_size[1] + conv_source(p, 1, column, s)) * p->channels;
                if (n) segment[segments++] = (tile_segment){ n * p->channels, at, (r * p->taps[1] + s) * p->channels };
            }
        }
        const float *w = run->w + u * values * p->filters;
        for (int64_t k = 0; k < p->filters; k += TILE_COLUMNS) {
            int64_t columns = least(TILE_COLUMNS, p->filters - k);
            bool packed = p->filters == LANES || p->filters == TILE_COLUMNS; /* as they lie */
            if (!packed) pack_rows(w + k, p->filters, values, columns, own);
            multiply_images(p, run->x, image, packed ? w : own, columns, segment, segments,
                            run->out + u * p->filters + k, p->y_size[0] * p->y_size[1] * p->filters);
        }
    }
}

/* ---- Data gradient: the positions that reach a pixel ------------------------------------------------------------- */
static void data_pixels(const void *argument, int64_t begin, int64_t end, int thread) {
    const local_run *run = argument;
    const conv_problem *p = &run->p;
    float *own = panel_of(run, thread);
    tile_segment *segment = (tile_segment *)(own + run->panel_floats);
    int64_t taps = conv_taps(p), area = p->x_size[0] * p->x_size[1];
    for (int64_t u = begin; u < end; u++)
        for (int64_t c = 0; c < p->channels; c += TILE_COLUMNS) {
            int64_t columns = least(TILE_COLUMNS, p->channels - c), width = padded_columns(columns);
            int segments = 0;
            for (int64_t t = 0; t < taps; t++) {
                int64_t y = conv_reads(p, true, 0, u / p->x_size[1], t / p->taps[1]);
                int64_t x = conv_reads(p, true, 1, u % p->x_size[1], t % p->taps[1]);
                if (y < 0 || x < 0) continue;
                int64_t position = y * p->y_size[1] + x, tap = conv_weight(p, true, t);
                pack_columns(run->w + ((position * taps + tap) * p->channels + c) * p->filters, p->filters, p->filters,
                             columns, own + segments * p->filters * width);
                segment[segments] = (tile_segment){ p->filters, position * p->filters, segments * p->filters };
                segments++;
            }
            multiply_images(p, run->dy, p->y_size[0] * p->y_size[1] * p->filters, own, columns, segment, segments,
                            run->out + u * p->channels + c, area * p->channels);
        }
}

/* ---- Weight gradient: the sum over the images -------------------------------------------------------------------- */
static void weight_positions(const void *argument, int64_t begin, int64_t end, int thread) {
    const local_run *run = argument;
    const conv_problem *p = &run->p;
    float *own = panel_of(run, thread);
    int64_t row = p->channels * p->filters, taps = conv_taps(p), image = p->x_size[0] * p->x_size[1] * p->channels;
    const tile_segment all = { p->images, 0, 0 };
    for (int64_t u = begin; u < end; u++)
        for (int64_t k = 0; k < p->filters; k += TILE_COLUMNS) {
            int64_t columns = least(TILE_COLUMNS, p->filters - k), column = u % p->y_size[1];
            pack_rows(run->dy + u * p->filters + k, p->y_size[0] * p->y_size[1] * p->filters, p->images, columns, own);
            for (int64_t t = 0, n; t < taps; t += most(n, 1)) {
                int64_t y = conv_reads(p, false, 0, u / p->y_size[1], t / p->taps[1]), s = t % p->taps[1];
                float *out = run->out + (u * taps + t) * row + k;
                n = y < 0 ? 0 : stretch(p, column, s);
                if (!n && !k) zero_floats(out, row);
                int64_t values = n * p->channels, tiles = div_up(values, TILE_ROWS);
                const float *x = run->x + (most(y, 0) * p->x_size[1] + conv_source(p, 1, column, s)) * p->channels;
                for (int64_t m = 0; m < tiles; m++) {
                    int64_t first = values * m / tiles;
                    tile_apply(tile_columns, (int)(values * (m + 1) / tiles - first), columns, x + first, image, own,
                               &all, 1, out + first * p->filters, p->filters, false, NULL);
                }
            }
        }
}

static int run_task(fv_device *device, const fv_task *task) {
    local_run run;
    read_task(task, &run);
    const conv_problem *p = &run.p;
    const bool data = task->op == FV_OP_local_conv2d_data_gradient;
    const int64_t *size = data ? p->x_size : p->y_size;
    fv_part *part = data ? data_pixels : task->op == FV_OP_local_conv2d ? forward_positions : weight_positions;
    int64_t units = size[0] * size[1];
    fv_parallel(device, units, 50000 / (conv_macs(p) / units + 1) + 1, part, &run);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(local_conv2d) = { { .prepare = prepare, .run = run_task }, NULL };
const fv_cpu_kernel KERNEL(local_conv2d_data_gradient) = { { .prepare = prepare, .run = run_task }, NULL };
const fv_cpu_kernel KERNEL(local_conv2d_weight_gradient) = { { .prepare = prepare, .run = run_task }, NULL };
