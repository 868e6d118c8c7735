/* conv_scattered.c - the data gradient of a convolution of few channels, where a tile whose columns are channels
 * would be mostly padding. Every pixel of dy times the filters gives what it adds to all taps and channels at once,
 * full vectors wide; those values are added into a bordered image, a stretch per filter row. Images are independent,
 * so nothing is added by two threads. */
#include "cpu/conv.h"
#include "cpu/functions.h"

enum { MOST_FLOATS = 1 << 16 /* of a bordered image */, PIXELS = 42 /* at a time, about */ };

typedef struct scattered {
    const conv_problem *p;
    int64_t height, pitch; /* of the bordered image: rows, floats a row */
    int64_t values, ld;    /* of a pixel: taps x channels; padded */
    int64_t rows_at_once;
    size_t packed_floats, buffer_floats;
} scattered;
typedef struct scattered_run {
    const scattered *s;
    const float *dy, *w;
    float *dx, *packed, *buffers;
    tile_finish finish;
} scattered_run;

static int64_t reach(const conv_problem *p, int axis) {
    return (p->y_size[axis] - 1) * p->stride[axis] + (p->taps[axis] - 1) * p->dilation[axis] + 1;
}

static const char *not_scattered(const conv_problem *p) {
    if (p->groups != 1) return "groups";
    if (2 * p->channels > LANES) return "many channels";
    if (p->dilation[1] != 1 || p->flip) return "dilated or flipped rows";
    return reach(p, 0) * reach(p, 1) * p->channels > MOST_FLOATS ? "large image" : NULL;
}

static int prepare(fv_device *device, fv_task *task, conv_plan *plan) {
    const conv_problem *p = &plan->problem;
    scattered *s = device->host.alloc(device->host.context, sizeof *s, "a convolution's plan");
    if (!s) return FV_ERROR_MEMORY;
    plan->own = s;
    s->p = p;
    s->height = reach(p, 0);
    s->pitch = reach(p, 1) * p->channels;
    s->values = conv_taps(p) * p->channels;
    s->ld = padded_columns(s->values) + LANES;
    s->rows_at_once = least(p->y_size[0], most(1, PIXELS / p->y_size[1]));
    s->packed_floats = (size_t)round_up(p->filters * padded_columns(s->values), 16);
    s->buffer_floats =
        (size_t)(round_up(s->height * s->pitch, 16) + round_up(s->rows_at_once * p->y_size[1] * s->ld, 16));
    task->scratch_bytes = sizeof(float) * (s->packed_floats + s->buffer_floats * (size_t)device->threads);
    return FV_OK;
}

/* `pixels` pixels of dy times the filters. */
static void multiply(const scattered_run *run, const float *dy, int64_t pixels, float *out) {
    const scattered *s = run->s;
    int64_t filters = s->p->filters, tiles = div_up(pixels, TILE_ROWS);
    tile_segment whole = { filters, 0, 0 };
    for (int64_t n = 0; n < s->values; n += TILE_COLUMNS)
        for (int64_t t = 0; t < tiles; t++) {
            int64_t first = pixels * t / tiles, rows = pixels * (t + 1) / tiles - first;
            tile_rows[panel_vectors(s->values - n) - 1][rows](dy + first * filters, filters, run->packed + n * filters,
                                                              &whole, 1, out + first * s->ld + n, s->ld, false);
        }
}
static void add_stretch(float *to, const float *from, int64_t n) {
    for (; n >= LANES; n -= LANES, to += LANES, from += LANES) store(to, load(to) + load(from));
    if (n) store_part(to, load_part(to, (int)n) + load_part(from, (int)n), (int)n);
}
/* Without its border; what no tap reaches is zero. */
static void take_image(const scattered *s, const float *from, float *to) {
    const conv_problem *p = s->p;
    int64_t width = p->x_size[1] * p->channels, inside = most(0, least(width, s->pitch - p->pad[1] * p->channels));
    for (int64_t y = 0; y < p->x_size[0]; y++, to += width) {
        bool reached = y + p->pad[0] < s->height;
        if (reached) copy_floats(to, from + (y + p->pad[0]) * s->pitch + p->pad[1] * p->channels, inside);
        zero_floats(to + (reached ? inside : 0), width - (reached ? inside : 0));
    }
}
/* Bias and activation, in place: the bias of the channels is the same again after LANES pixels. */
static void finish_image(const scattered_run *run, float *image) {
    const conv_problem *p = run->s->p;
    float bias[LANES * LANES] = { 0 };
    int64_t period = p->channels * LANES, values = p->x_size[0] * p->x_size[1] * p->channels;
    for (int64_t i = 0; i < period && run->finish.bias; i++) bias[i] = run->finish.bias[i % p->channels];
    for (int64_t i = 0, at = 0; i < values; i += LANES, at = at + LANES < period ? at + LANES : 0)
        store_up_to(image + i,
                    activate_any(load_up_to(image + i, values - i) + load(bias + at), run->finish.activation),
                    values - i);
    if (!is_inline(run->finish.activation))
        activate_line(image, values, run->finish.activation, run->finish.alpha);
}
static void run_images(const void *argument, int64_t begin, int64_t end, int thread) {
    const scattered_run *run = argument;
    const scattered *s = run->s;
    const conv_problem *p = s->p;
    int64_t line = p->taps[1] * p->channels, row = p->y_size[1] * p->filters;
    float *image = run->buffers + (size_t)thread * s->buffer_floats,
          *product = image + round_up(s->height * s->pitch, 16);
    for (int64_t n = begin; n < end; n++) {
        zero_floats(image, s->height * s->pitch);
        for (int64_t y0 = 0; y0 < p->y_size[0]; y0 += s->rows_at_once) {
            int64_t rows = least(s->rows_at_once, p->y_size[0] - y0);
            multiply(run, run->dy + (n * p->y_size[0] + y0) * row, rows * p->y_size[1], product);
            for (int64_t i = 0; i < rows * p->y_size[1]; i++) {
                int64_t y = y0 + i / p->y_size[1], x = i % p->y_size[1];
                float *to = image + y * p->stride[0] * s->pitch + x * p->stride[1] * p->channels;
                for (int64_t r = 0; r < p->taps[0]; r++)
                    add_stretch(to + r * p->dilation[0] * s->pitch, product + i * s->ld + r * line, line);
            }
        }
        float *dx = run->dx + n * p->x_size[0] * p->x_size[1] * p->channels;
        take_image(s, image, dx);
        if (run->finish.bias || run->finish.activation != FV_LINEAR) finish_image(run, dx);
    }
}
static int apply(fv_device *device, const fv_task *task, const conv_plan *plan) {
    const scattered *s = plan->own;
    const conv_problem *p = s->p;
    scattered_run run = { s,    task->input[0].data, task->input[1].data, task->output[0].data, task->scratch,
                          NULL, conv_finish(task) };
    run.buffers = run.packed + s->packed_floats;
    for (int64_t n = 0; n < s->values; n += TILE_COLUMNS)
        pack_rows(run.w + n, s->values, p->filters, least(TILE_COLUMNS, s->values - n), run.packed + n * p->filters);
    fv_parallel(device, p->images, 100000 / (conv_macs(p) / p->images + 1) + 1, run_images, &run);
    return FV_OK;
}
const conv_algorithm ISA(conv_scattered_data) = { "scattered", not_scattered, prepare, apply, NULL };
