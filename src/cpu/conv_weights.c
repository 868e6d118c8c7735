/* conv_weights.c - the weight gradient: dw[filter][tap][channel] = sum over pixels of dy[pixel][filter] x[source of
 * pixel][channel]. Rows of the tile are filters, columns the channels of one tap. Pixels are visited in blocks of
 * about 512, ordered (y, x, image), so that those a tap reaches are few stretches; dy is packed once per block for
 * all taps, x once per tap and panel of channels. Threads own (tap, channels, filters): no sum is shared. */
#include "cpu/conv.h"

enum { PIXELS = 512, IMAGES = 16 };

typedef struct span {
    int64_t first, last;
} span;

typedef struct weights {
    const conv_problem *p;
    int64_t channels, filters;        /* of a group */
    int64_t block_images, block_rows; /* of a block of pixels */
    int64_t tiles, panels, shares;    /* of filters; of channels; units that share the filters of a (tap, panel) */
    span *reach[2];                   /* outputs that tap t reaches, on each axis */
    size_t packed_floats, buffer_floats, segment_bytes;
} weights;

typedef struct weights_run {
    const weights *w;
    const float *x, *dy;
    float *dw, *packed;
    char *buffers;
    int64_t group, image, images, y, rows; /* the block at work */
} weights_run;

static int direct_prepare(fv_device *device, fv_task *task, conv_plan *plan) {
    const conv_problem *p = &plan->problem;
    size_t table = sizeof(span) * (size_t)(p->taps[0] + p->taps[1]);
    weights *w = device->host.alloc(device->host.context, sizeof *w + table, "a convolution's plan");
    if (!w) return FV_ERROR_MEMORY;
    plan->own = w;
    w->p = p;
    w->channels = p->channels / p->groups;
    w->filters = p->filters / p->groups;
    w->reach[0] = (span *)(w + 1);
    w->reach[1] = w->reach[0] + p->taps[0];
    for (int axis = 0; axis < 2; axis++)
        for (int64_t t = 0; t < p->taps[axis]; t++) {
            span *s = &w->reach[axis][t];
            while (s->first < p->y_size[axis] && conv_source(p, axis, s->first, t) < 0) s->first++;
            for (s->last = s->first; s->last < p->y_size[axis] && conv_source(p, axis, s->last, t) < p->x_size[axis];)
                s->last++;
        }
    int64_t width = p->y_size[1], images = most(1, PIXELS / width);
    if (images > IMAGES) images = most(IMAGES, PIXELS / (width * p->y_size[0]));
    w->block_images = least(p->images, images);
    w->block_rows = least(p->y_size[0], most(1, PIXELS / (width * w->block_images)));
    w->tiles = div_up(w->filters, TILE_ROWS);
    w->panels = panel_count(w->channels);
    w->shares = least(w->tiles, most(1, 8 / (conv_taps(p) * w->panels)));
    int64_t pixels = w->block_images * w->block_rows * width;
    w->packed_floats = (size_t)round_up(w->tiles * pixels * TILE_STRIDE, 16);
    w->buffer_floats = (size_t)(pixels * TILE_COLUMNS);
    w->segment_bytes = (size_t)round_up(w->block_rows * (int64_t)sizeof(tile_segment), 64);
    task->scratch_bytes = sizeof(float) * w->packed_floats +
                          (sizeof(float) * w->buffer_floats + w->segment_bytes) * (size_t)device->threads;
    return FV_OK;
}

/* dy of the block for one tile of filters: [pixel][TILE_STRIDE]. */
static void pack_gradient(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const weights_run *run = argument;
    const weights *w = run->w;
    const conv_problem *p = w->p;
    int64_t width = p->y_size[1], image_stride = p->y_size[0] * width * p->filters;
    for (int64_t t = begin; t < end; t++) {
        int64_t first = w->filters * t / w->tiles;
        int n = (int)(w->filters * (t + 1) / w->tiles - first);
        float *out = run->packed + t * w->block_images * w->block_rows * width * TILE_STRIDE;
        for (int64_t y = run->y; y < run->y + run->rows; y++)
            for (int64_t x = 0; x < width; x++) {
                const float *from = run->dy + run->image * image_stride + (y * width + x) * p->filters +
                                    run->group * w->filters + first;
                for (int64_t i = 0; i < run->images; i++, out += TILE_STRIDE, from += image_stride)
                    copy_floats(out, from, n);
            }
    }
}

/* x of the block for one tap and panel, the pixels that the tap reaches: [pixel][columns]. Their stretches in the
 * packed dy. */
static int pack_sources(const weights_run *run, int64_t r, int64_t s, int64_t channel, int64_t columns, float *out,
                        tile_segment *segment) {
    const weights *w = run->w;
    const conv_problem *p = w->p;
    int64_t y0 = most(run->y, w->reach[0][r].first), y1 = least(run->y + run->rows, w->reach[0][r].last);
    int64_t x0 = w->reach[1][s].first, x1 = w->reach[1][s].last, width = padded_columns(columns);
    int64_t image_stride = p->x_size[0] * p->x_size[1] * p->channels, line = (x1 - x0) * run->images, k = 0;
    int segments = 0;
    if (x1 <= x0) return 0;
    for (int64_t y = y0; y < y1; y++) {
        for (int64_t x = x0; x < x1; x++) {
            const float *from = run->x + run->image * image_stride + run->group * w->channels + channel +
                                (conv_source(p, 0, y, r) * p->x_size[1] + conv_source(p, 1, x, s)) * p->channels;
            for (int64_t i = 0; i < run->images; i++, out += width, from += image_stride)
                for (int64_t j = 0; j < width; j += LANES) store(out + j, load_up_to(from + j, columns - j));
        }
        int64_t at = ((y - run->y) * p->y_size[1] + x0) * run->images * TILE_STRIDE;
        if (segments && segment[segments - 1].a + segment[segments - 1].length * TILE_STRIDE == at)
            segment[segments - 1].length += line;
        else
            segment[segments++] = (tile_segment){ line, at, k };
        k += line;
    }
    return segments;
}

/* units: (tap, panel of channels, share of the filters) */
static void sum_block(const void *argument, int64_t begin, int64_t end, int thread) {
    const weights_run *run = argument;
    const weights *w = run->w;
    const conv_problem *p = w->p;
    char *own = run->buffers + (size_t)thread * (sizeof(float) * w->buffer_floats + w->segment_bytes);
    tile_segment *segment = (tile_segment *)(own + sizeof(float) * w->buffer_floats);
    bool first = run->image == 0 && run->y == 0;
    int64_t taps = conv_taps(p), pixels = w->block_images * w->block_rows * p->y_size[1];
    for (int64_t u = begin; u < end; u++) {
        int64_t share = u % w->shares, channel = u / w->shares % w->panels * TILE_COLUMNS,
                t = u / w->shares / w->panels;
        int64_t columns = least(TILE_COLUMNS, w->channels - channel), to = p->flip ? taps - 1 - t : t;
        int segments = pack_sources(run, t / p->taps[1], t % p->taps[1], channel, columns, (float *)own, segment);
        if (!segments && !first) continue;
        for (int64_t tile = w->tiles * share / w->shares; tile < w->tiles * (share + 1) / w->shares; tile++) {
            int64_t filter = w->filters * tile / w->tiles;
            int rows = (int)(w->filters * (tile + 1) / w->tiles - filter);
            tile_apply(tile_columns, rows, columns, run->packed + tile * pixels * TILE_STRIDE, TILE_STRIDE,
                       (float *)own, segment, segments,
                       run->dw + ((run->group * w->filters + filter) * taps + to) * w->channels + channel,
                       taps * w->channels, !first, NULL);
        }
    }
}

static int direct_apply(fv_device *device, const fv_task *task, const conv_plan *plan) {
    const weights *w = plan->own;
    const conv_problem *p = w->p;
    weights_run run = {
        .w = w, .x = task->input[0].data, .dy = task->input[1].data, .dw = task->output[0].data, .packed = task->scratch
    };
    run.buffers = (char *)task->scratch + sizeof(float) * w->packed_floats;
    int64_t units = conv_taps(p) * w->panels * w->shares;
    for (run.group = 0; run.group < p->groups; run.group++)
        for (run.image = 0; run.image < p->images; run.image += w->block_images)
            for (run.y = 0; run.y < p->y_size[0]; run.y += w->block_rows) {
                run.images = least(w->block_images, p->images - run.image);
                run.rows = least(w->block_rows, p->y_size[0] - run.y);
                int64_t pixels = run.images * run.rows * p->y_size[1];
                fv_parallel(device, w->tiles, 8192 / (pixels * TILE_STRIDE) + 1, pack_gradient, &run);
                fv_parallel(device, units, 100000 / (pixels * TILE_COLUMNS * div_up(w->filters, w->shares) + 1) + 1,
                            sum_block, &run);
            }
    return FV_OK;
}
const conv_algorithm ISA(conv_direct_weights) = { "direct", NULL, direct_prepare, direct_apply, NULL };
