/* conv_bordered.c - convolutions of few channels: a first layer on images, LeNet's second. A band of the image is
 * copied once into a buffer with its border of zeros; there the taps of one filter row and their channels are one
 * stretch of memory, and so are those of the next pixel, stride x channels further on. So the register tile runs
 * over the buffer in place: forward with pixels as rows and one stretch of the reduction per filter row (where a
 * vector holds the filters twice or more, so many neighbouring pixels share it: the stretch covers the taps of all,
 * zeros among their weights), weight gradient with the values of a filter row as rows and pixels as the reduction.
 * The weight gradient cuts the images into a fixed number of parts, whose sums are added in order. */
#include "cpu/conv.h"
#include "cpu/functions.h"

enum { BAND = 16384 /* floats of the buffer, about */, PARTS = 32 };

typedef struct bordered {
    const conv_problem *p;
    int64_t band; /* rows of y at a time */
    int64_t bands;
    int64_t pitch;                       /* of a row in the buffer, in floats */
    int64_t together;                    /* pixels of y that share a vector */
    int64_t line;                        /* values of a filter row: taps x channels, of all pixels together */
    int64_t columns;                     /* filters of the pixels together, padded */
    int64_t parts;                       /* of the images (weights) */
    int64_t segments_at, panels_at;      /* in the buffer */
    size_t buffer_floats, shared_floats; /* of a thread; packed filters, or the sums of all parts */
} bordered;

typedef struct bordered_run {
    const bordered *b;
    const float *x, *w, *dy;
    float *out, *shared, *buffers;
    tile_finish finish;
} bordered_run;

static const char *not_bordered(const conv_problem *p) {
    if (p->groups != 1) return "groups";
    if (p->channels >= LANES) return "many channels";
    return p->dilation[1] != 1 ? "dilated rows" : NULL;
}

static int64_t band_rows(const bordered *b, int64_t rows) { /* of the buffer, for rows of y */
    const conv_problem *p = b->p;
    return (rows - 1) * p->stride[0] + (p->taps[0] - 1) * p->dilation[0] + 1;
}

static int prepare(fv_device *device, fv_task *task, conv_plan *plan, bool weights) {
    const conv_problem *p = &plan->problem;
    bordered *b = device->host.alloc(device->host.context, sizeof *b, "a convolution's plan");
    if (!b) return FV_ERROR_MEMORY;
    plan->own = b;
    b->p = p;
    b->together = most(1, LANES / p->filters);
    while (p->y_size[1] % b->together) b->together--;
    b->line = (p->taps[1] + (b->together - 1) * p->stride[1]) * p->channels;
    b->columns = padded_columns(p->filters * b->together);
    b->pitch = ((p->y_size[1] - 1) * p->stride[1] + p->taps[1]) * p->channels;
    int64_t pixels = p->y_size[1] / b->together, panel_row = weights ? pixels * b->columns : 0;
    for (b->band = p->y_size[0]; b->band > 1 && band_rows(b, b->band) * b->pitch + b->band * panel_row > BAND;)
        b->band = div_up(b->band, 2);
    b->bands = div_up(p->y_size[0], b->band);
    b->parts = least(p->images, PARTS);
    int64_t values = p->taps[0] * b->line, sums = round_up(values, TILE_STRIDE) * b->columns;
    int64_t segments = most(b->band, p->taps[0]) * (int64_t)(sizeof(tile_segment) / sizeof(float));
    b->segments_at = round_up(band_rows(b, b->band) * b->pitch + TILE_STRIDE, 16);
    b->panels_at = b->segments_at + round_up(segments, 16);
    b->buffer_floats = (size_t)(b->panels_at + round_up(b->band * panel_row, 16));
    b->shared_floats = (size_t)(weights ? sums * b->parts : round_up((values + 1) * b->columns, 16));
    task->scratch_bytes = sizeof(float) * (b->shared_floats + b->buffer_floats * (size_t)device->threads);
    return FV_OK;
}

/* Rows of y from first on need these rows of x; what lies outside is zero. */
static void fill_band(const bordered *b, const float *image, int64_t first, int64_t rows, float *out) {
    const conv_problem *p = b->p;
    int64_t width = b->pitch / p->channels, left = least(width, p->pad[1]),
            inside = most(0, least(p->x_size[1], width - left));
    int64_t y = first * p->stride[0] - p->pad[0];
    for (int64_t end = y + band_rows(b, rows); y < end; y++, out += b->pitch) {
        if (y < 0 || y >= p->x_size[0]) {
            zero_floats(out, b->pitch);
            continue;
        }
        zero_floats(out, left * p->channels);
        copy_floats(out + left * p->channels, image + y * p->x_size[1] * p->channels, inside * p->channels);
        zero_floats(out + (left + inside) * p->channels, b->pitch - (left + inside) * p->channels);
    }
}

/* ---- Forward ----------------------------------------------------------------------------------------------------- */
static void pack_filters(
    const bordered_run *run) { /* [panel][value][columns of the panel], after them the bias of all columns */
    const bordered *b = run->b;
    const conv_problem *p = b->p;
    int64_t taps = conv_taps(p), values = p->taps[0] * b->line;
    float *bias = run->shared + values * b->columns;
    for (int64_t i = 0; i < p->filters * b->together && run->finish.bias; i++)
        bias[i] = run->finish.bias[i % p->filters];
    if (b->together == 1) {
        for (int64_t n = 0; n < p->filters; n += TILE_COLUMNS) {
            int64_t columns = least(TILE_COLUMNS, p->filters - n), width = padded_columns(columns);
            for (int64_t t = 0; t < taps; t++)
                pack_columns(run->w + (n * taps + conv_weight(p, false, t)) * p->channels, taps * p->channels,
                             p->channels, columns, run->shared + (n * taps + t * width) * p->channels);
        }
        return;
    }
    zero_floats(run->shared, values * b->columns);
    for (int64_t j = 0; j < b->together; j++)
        for (int64_t f = 0; f < p->filters; f++)
            for (int64_t t = 0; t < taps; t++)
                for (int64_t c = 0; c < p->channels; c++) {
                    int64_t value = t / p->taps[1] * b->line + (t % p->taps[1] + j * p->stride[1]) * p->channels + c;
                    run->shared[value * b->columns + j * p->filters + f] =
                        run->w[(f * taps + conv_weight(p, false, t)) * p->channels + c];
                }
}
/* units: bands of images */
static void forward_bands(const void *argument, int64_t begin, int64_t end, int thread) {
    const bordered_run *run = argument;
    const bordered *b = run->b;
    const conv_problem *p = b->p;
    float *buffer = run->buffers + (size_t)thread * b->buffer_floats;
    tile_segment *segment = (tile_segment *)(buffer + b->segments_at);
    int64_t pixels = p->y_size[1] / b->together, filters = p->filters * b->together,
            step = p->stride[1] * p->channels * b->together;
    int64_t tiles = div_up(pixels, TILE_ROWS), values = p->taps[0] * b->line;
    bool ragged = filters % LANES != 0; /* then an activation is cheaper on whole rows */
    const float *bias = run->finish.bias ? run->shared + values * b->columns : NULL;
    for (int64_t r = 0; r < p->taps[0]; r++)
        segment[r] = (tile_segment){ b->line, r * p->dilation[0] * b->pitch, r * b->line };
    for (int64_t u = begin; u < end; u++) {
        int64_t image = u / b->bands, first = u % b->bands * b->band, rows = least(b->band, p->y_size[0] - first);
        fill_band(b, run->x + image * p->x_size[0] * p->x_size[1] * p->channels, first, rows, buffer);
        for (int64_t y = 0; y < rows; y++) {
            float *line = run->out + (image * p->y_size[0] + first + y) * pixels * filters;
            for (int64_t n = 0; n < filters; n += TILE_COLUMNS) {
                tile_finish finish = { bias ? bias + n : NULL, ragged ? FV_LINEAR : run->finish.activation,
                                       run->finish.alpha };
                for (int64_t t = 0; t < tiles; t++) {
                    int64_t x = pixels * t / tiles;
                    tile_apply(tile_rows, (int)(pixels * (t + 1) / tiles - x), least(TILE_COLUMNS, filters - n),
                               buffer + y * p->stride[0] * b->pitch + x * step, step, run->shared + n * values, segment,
                               (int)p->taps[0], line + x * filters + n, filters, false, &finish);
                }
            }
            if (ragged && run->finish.activation != FV_LINEAR)
                activate_line(line, pixels * filters, run->finish.activation, run->finish.alpha);
        }
    }
}
static int forward_prepare(fv_device *device, fv_task *task, conv_plan *plan) {
    return prepare(device, task, plan, false);
}
static int forward_apply(fv_device *device, const fv_task *task, const conv_plan *plan) {
    const bordered *b = plan->own;
    bordered_run run = { .b = b,
                         .x = task->input[0].data,
                         .w = task->input[1].data,
                         .out = task->output[0].data,
                         .shared = task->scratch,
                         .finish = conv_finish(task) };
    run.buffers = run.shared + b->shared_floats;
    pack_filters(&run);
    int64_t units = b->p->images * b->bands;
    fv_parallel(device, units, 100000 / (conv_macs(b->p) / units + 1) + 1, forward_bands, &run);
    return FV_OK;
}
const conv_algorithm ISA(conv_bordered_forward) = { "bordered", not_bordered, forward_prepare, forward_apply, NULL };

/* ---- Weight gradient --------------------------------------------------------------------------------------------- */
/* Adds a band to the sums of a part: [value][filters of the pixels together]. */
static void add_band(const bordered_run *run, int64_t image, int64_t first, float *sums, float *buffer,
                     bool accumulate) {
    const bordered *b = run->b;
    const conv_problem *p = b->p;
    int64_t rows = least(b->band, p->y_size[0] - first), width = p->y_size[1] / b->together, pixels = rows * width;
    int64_t filters = p->filters * b->together, tiles = div_up(b->line, TILE_ROWS);
    tile_segment *segment = (tile_segment *)(buffer + b->segments_at);
    float *panels = buffer + b->panels_at;
    const float *dy = run->dy + (image * p->y_size[0] + first) * width * filters;
    fill_band(b, run->x + image * p->x_size[0] * p->x_size[1] * p->channels, first, rows, buffer);
    for (int64_t n = 0; n < filters; n += TILE_COLUMNS)
        pack_rows(dy + n, filters, pixels, least(TILE_COLUMNS, filters - n), panels + n * pixels);
    for (int64_t y = 0; y < rows; y++) segment[y] = (tile_segment){ width, y * p->stride[0] * b->pitch, y * width };
    for (int64_t n = 0; n < filters; n += TILE_COLUMNS)
        for (int64_t r = 0; r < p->taps[0]; r++)
            for (int64_t t = 0; t < tiles; t++) {
                int64_t m = b->line * t / tiles, height = b->line * (t + 1) / tiles - m;
                tile_columns[panel_vectors(filters - n) - 1][height](
                    buffer + r * p->dilation[0] * b->pitch + m, p->stride[1] * p->channels * b->together,
                    panels + n * pixels, segment, (int)rows, sums + (r * b->line + m) * b->columns + n, b->columns,
                    accumulate);
            }
}
static void sum_parts(const void *argument, int64_t begin, int64_t end, int thread) {
    const bordered_run *run = argument;
    const bordered *b = run->b;
    const conv_problem *p = b->p;
    for (int64_t part = begin; part < end; part++) {
        float *sums = run->shared + (size_t)part * (b->shared_floats / (size_t)b->parts);
        bool accumulate = false;
        for (int64_t image = p->images * part / b->parts; image < p->images * (part + 1) / b->parts; image++)
            for (int64_t band = 0; band < b->bands; band++, accumulate = true)
                add_band(run, image, band * b->band, sums, run->buffers + (size_t)thread * b->buffer_floats,
                         accumulate);
    }
}
/* Value q of a filter (tap, channel): the parts added in order, and of each what the pixels together have of it. */
static void add_parts(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const bordered_run *run = argument;
    const bordered *b = run->b;
    const conv_problem *p = b->p;
    int64_t values = conv_taps(p) * p->channels, step = p->stride[1] * p->channels * b->columns + p->filters;
    size_t part_floats = b->shared_floats / (size_t)b->parts;
    for (int64_t q = begin; q < end; q++) {
        int64_t tap = q / p->channels, to = conv_weight(p, false, tap) * p->channels + q % p->channels;
        int64_t value = tap / p->taps[1] * b->line + tap % p->taps[1] * p->channels + q % p->channels;
        for (int64_t k = 0; k < p->filters; k += LANES) {
            vf sum = { 0 };
            for (int64_t part = 0; part < b->parts; part++)
                for (int64_t j = 0; j < b->together; j++)
                    sum += load_up_to(run->shared + (size_t)part * part_floats + value * b->columns + j * step + k,
                                      p->filters - k);
            for (int64_t i = 0; i < least(LANES, p->filters - k); i++) run->out[(k + i) * values + to] = sum[i];
        }
    }
}
static int weights_prepare(fv_device *device, fv_task *task, conv_plan *plan) {
    return prepare(device, task, plan, true);
}
static int weights_apply(fv_device *device, const fv_task *task, const conv_plan *plan) {
    const bordered *b = plan->own;
    bordered_run run = { .b = b,
                         .x = task->input[0].data,
                         .dy = task->input[1].data,
                         .out = task->output[0].data,
                         .shared = task->scratch };
    run.buffers = run.shared + b->shared_floats;
    fv_parallel(device, b->parts, 50000 / (conv_macs(b->p) / b->parts + 1) + 1, sum_parts, &run);
    fv_parallel(device, conv_taps(b->p) * b->p->channels, 20000 / (b->parts * b->columns) + 1, add_parts, &run);
    return FV_OK;
}
const conv_algorithm ISA(conv_bordered_weights) = { "bordered", not_bordered, weights_prepare, weights_apply, NULL };
