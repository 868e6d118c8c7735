/* conv_direct.c - forward and data gradient without unfolding the images: a tile is up to TILE_ROWS pixels of the
 * result, whose sources are copied tap by tap into a small buffer, and runs over panels of filters that are packed
 * when they have changed. On small maps a tile is one position in several images, so taps that fall into the padding are left
 * out exactly (on a 4x4 map that is a third of the work). With few images, or where the rows of so many would not
 * stay in the cache, it is neighbouring pixels, and such taps are zeros. The data gradient is the same walk with the
 * roles of channels and filters exchanged and the taps taken from the far end. */
#include "cpu/conv.h"

enum {
    DEPTH = 576,    /* of the reduction in one visit of a tile */
    FILTERS = 256,  /* whose panels of that depth stay in the second cache */
    TILES = 24,     /* whose unfinished sums stay there while the chunks of the reduction pass */
    NEAR = 1 << 18, /* floats of source rows under one tile that stay there */
    SLACK = 16
};

typedef struct direct {
    const conv_problem *p;
    bool gradient;
    int64_t size[2], source_size[2]; /* result and source maps */
    int64_t depth, columns;          /* channels of source and result, of a group */
    int32_t *reads[2];               /* on each axis: source of [result][tap], or -1 */
    bool by_images;
    int64_t image_tiles, tiles; /* tiles of a position; of a group */
    int64_t chunk_taps, chunk_depth, chunks, depth_chunks;
    int64_t stride; /* of a row in the buffer */
    size_t panel_floats, buffer_bytes, segment_bytes;
} direct;

/* ---- Preparing --------------------------------------------------------------------------------------------------- */
static void fill_tables(direct *d, int32_t *memory) {
    for (int axis = 0; axis < 2; axis++) {
        d->reads[axis] = memory;
        for (int64_t o = 0; o < d->size[axis]; o++)
            for (int64_t t = 0; t < d->p->taps[axis]; t++)
                *memory++ = (int32_t)conv_reads(d->p, d->gradient, axis, o, t);
    }
}

static void choose_sizes(direct *d) {
    const conv_problem *p = d->p;
    int64_t pixels = d->size[0] * d->size[1], taps = conv_taps(p);
    bool sparse = d->gradient && (p->stride[0] > 1 || p->stride[1] > 1); /* most taps of a pixel are missing */
    int64_t under = least(p->images, TILE_ROWS) * p->taps[0] * d->source_size[1] * d->depth * p->groups;
    d->by_images = sparse || (p->images >= 8 && under <= NEAR);
    d->image_tiles = div_up(p->images, TILE_ROWS);
    d->tiles = d->by_images ? pixels * d->image_tiles : div_up(pixels * p->images, TILE_ROWS);
    d->depth_chunks = div_up(d->depth, DEPTH);
    d->chunk_depth = d->depth_chunks > 1 ? round_up(div_up(d->depth, d->depth_chunks), 16) : d->depth;
    d->depth_chunks = div_up(d->depth, d->chunk_depth);
    int64_t at_once = most(1, DEPTH / d->chunk_depth), parts = div_up(taps, at_once);
    d->chunk_taps = div_up(taps, parts);
    d->chunks = div_up(taps, d->chunk_taps) * d->depth_chunks;
    d->stride = round_up(d->chunk_taps * d->chunk_depth, 16) + SLACK;
    if (d->stride % 128 == 0) d->stride += SLACK;
    d->panel_floats = (size_t)(taps * d->depth * padded_columns(d->columns));
    d->buffer_bytes = (size_t)round_up((TILE_ROWS * d->stride + 2 * LANES) * (int64_t)sizeof(float), 64);
    d->segment_bytes = (size_t)round_up(d->chunk_taps * (int64_t)sizeof(tile_segment), 64);
}

static int prepare(fv_device *device, fv_task *task, conv_plan *plan, bool gradient) {
    const conv_problem *p = &plan->problem;
    direct d = { .p = p, .gradient = gradient };
    for (int axis = 0; axis < 2; axis++) {
        d.size[axis] = gradient ? p->x_size[axis] : p->y_size[axis];
        d.source_size[axis] = gradient ? p->y_size[axis] : p->x_size[axis];
    }
    d.depth = (gradient ? p->filters : p->channels) / p->groups;
    d.columns = (gradient ? p->channels : p->filters) / p->groups;
    choose_sizes(&d);
    size_t table = sizeof(int32_t) * (size_t)(d.size[0] * p->taps[0] + d.size[1] * p->taps[1]);
    direct *own = device->host.alloc(device->host.context, sizeof *own + table, "a convolution's plan");
    if (!own) return FV_ERROR_MEMORY;
    *own = d;
    fill_tables(own, (int32_t *)(own + 1));
    plan->own = own;
    conv_ask_filters(task, d.panel_floats * sizeof(float) * (size_t)p->groups,
                     (d.buffer_bytes + d.segment_bytes) * (size_t)device->threads);
    return FV_OK;
}
static int forward_prepare(fv_device *device, fv_task *task, conv_plan *plan) {
    return prepare(device, task, plan, false);
}
static int data_prepare(fv_device *device, fv_task *task, conv_plan *plan) { return prepare(device, task, plan, true); }

/* ---- Packing of the filters: [group][panel][tap][depth][columns of the panel] ------------------------------------ */
typedef struct direct_run {
    const direct *d;
    const float *source, *weights;
    float *result, *packed;
    char *buffers;
    tile_finish finish;
} direct_run;

static void pack_filters(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const direct_run *run = argument;
    const direct *d = run->d;
    const conv_problem *p = d->p;
    int64_t taps = conv_taps(p), panels = panel_count(d->columns), channels = p->channels / p->groups,
            filters = p->filters / p->groups;
    for (int64_t u = begin; u < end; u++) {
        int64_t t = u % taps, panel = u / taps % panels, group = u / taps / panels, first = panel * TILE_COLUMNS;
        int64_t columns = least(TILE_COLUMNS, d->columns - first);
        const float *w = run->weights + (group * filters * taps + conv_weight(p, d->gradient, t)) * channels;
        float *out =
            run->packed + (size_t)group * d->panel_floats + (first * taps + t * padded_columns(columns)) * d->depth;
        if (d->gradient)
            pack_rows(w + first, taps * channels, d->depth, columns, out);
        else
            pack_columns(w + first * taps * channels, taps * channels, d->depth, columns, out);
    }
}

/* ---- Gathering --------------------------------------------------------------------------------------------------- */
typedef struct chunk {
    int64_t first_tap, last_tap, channel, depth;
} chunk;
/* Where the rows of a tile lie, and what has been gathered of them. */
typedef struct tile_state {
    float *a;
    tile_segment *segment;
    int segments;
    int64_t k; /* gathered so far, a row */
} tile_state;

static void copy_rows(float *to, int64_t to_stride, const float *from, int64_t from_stride, int rows, int64_t n) {
    if (n <= LANES) /* the stores may run over: what follows in the row is written later */
        for (int i = 0; i < rows; i++) store(to + i * to_stride, load_part(from + i * from_stride, (int)n));
    else
        for (int i = 0; i < rows; i++) copy_floats(to + i * to_stride, from + i * from_stride, n);
}

static void add_segment(tile_state *s, int64_t length, int64_t b) {
    tile_segment *last = &s->segment[s->segments - 1];
    if (s->segments && last->b + last->length == b)
        last->length += length;
    else
        s->segment[s->segments++] = (tile_segment){ length, s->k, b };
    s->k += length;
}

/* One position in several images: the taps that reach it, those that lie side by side in the source at once. */
static void gather_images(const direct *d, const chunk *c, const float *source, int64_t position, int64_t image,
                          int rows, tile_state *s) {
    int64_t taps = d->p->taps[1], all = d->depth * d->p->groups,
            image_stride = d->source_size[0] * d->source_size[1] * all;
    const int32_t *ys = d->reads[0] + position / d->size[1] * d->p->taps[0],
                  *xs = d->reads[1] + position % d->size[1] * taps;
    bool joined = all == c->depth; /* neighbours are one stretch of memory */
    for (int64_t t = c->first_tap; t < c->last_tap;) {
        int64_t y = ys[t / taps], first = t % taps, end = least(taps, first + c->last_tap - t), n = 1;
        if (y < 0 || xs[first] < 0) {
            t += y < 0 ? end - first : 1;
            continue;
        }
        while (joined && first + n < end && xs[first + n] == xs[first] + n) n++;
        const float *from = source + image * image_stride + (y * d->source_size[1] + xs[first]) * all + c->channel;
        copy_rows(s->a + s->k, d->stride, from, image_stride, rows, n * c->depth);
        for (int64_t i = 0; i < n; i++) add_segment(s, c->depth, (t + i) * d->depth + c->channel);
        t += n;
    }
}

/* Taps first .. end-1 of one filter row for one pixel: zeros stand for those outside. */
static void gather_line(const int32_t *xs, int64_t first, int64_t end, const float *line, int64_t all, int64_t depth,
                        float *to) {
    for (int64_t t = first; t < end;) {
        int64_t n = 1;
        if (line && xs[t] >= 0) {
            while (all == depth && t + n < end && xs[t + n] == xs[t] + n) n++;
            copy_floats(to, line + xs[t] * all, n * depth);
        } else {
            while (t + n < end && (!line || xs[t + n] < 0)) n++;
            zero_floats(to, n * depth);
        }
        t += n;
        to += n * depth;
    }
}
/* Neighbouring pixels: filter rows that reach none of them are left out. */
static void gather_pixels(const direct *d, const chunk *c, const float *source, int64_t pixel, int rows,
                          tile_state *s) {
    int64_t taps = d->p->taps[1], all = d->depth * d->p->groups, area = d->size[0] * d->size[1];
    const int32_t *ys[TILE_ROWS], *xs[TILE_ROWS];
    int64_t image[TILE_ROWS];
    for (int i = 0; i < rows; i++) {
        int64_t at = (pixel + i) % area;
        image[i] = (pixel + i) / area * d->source_size[0];
        ys[i] = d->reads[0] + at / d->size[1] * d->p->taps[0];
        xs[i] = d->reads[1] + at % d->size[1] * taps;
    }
    for (int64_t t = c->first_tap, n; t < c->last_tap; t += n) {
        int64_t first = t % taps;
        bool any = false;
        n = least(taps - first, c->last_tap - t);
        for (int i = 0; i < rows; i++) any |= ys[i][t / taps] >= 0;
        if (!any) continue;
        for (int i = 0; i < rows; i++) {
            int64_t y = ys[i][t / taps];
            const float *line = y < 0 ? NULL : source + (image[i] + y) * d->source_size[1] * all + c->channel;
            gather_line(xs[i], first, first + n, line, all, c->depth, s->a + i * d->stride + s->k);
        }
        for (int64_t i = 0; i < n; i++) add_segment(s, c->depth, (t + i) * d->depth + c->channel);
    }
}

/* ---- The product ------------------------------------------------------------------------------------------------- */
static chunk chunk_of(const direct *d, int64_t index) {
    int64_t taps = index / d->depth_chunks * d->chunk_taps, channel = index % d->depth_chunks * d->chunk_depth;
    return (chunk){ taps, least(conv_taps(d->p), taps + d->chunk_taps), channel,
                    least(d->chunk_depth, d->depth - channel) };
}

/* Tile u of a group in one chunk: filters first .. last-1. */
static void run_tile(const direct_run *run, int64_t group, int64_t u, int64_t index, int64_t first, int64_t last,
                     tile_state *s) {
    const direct *d = run->d;
    const conv_problem *p = d->p;
    int64_t area = d->size[0] * d->size[1], channels = d->columns * p->groups, ldc, at;
    chunk c = chunk_of(d, index);
    const float *source = run->source + group * d->depth;
    int rows;
    s->segments = 0;
    s->k = 0;
    if (d->by_images) {
        int64_t position = u / d->image_tiles, q = u % d->image_tiles, image = p->images * q / d->image_tiles;
        rows = (int)(p->images * (q + 1) / d->image_tiles - image);
        gather_images(d, &c, source, position, image, rows, s);
        at = (image * area + position) * channels;
        ldc = area * channels;
    } else {
        int64_t pixels = area * p->images, pixel = pixels * u / d->tiles;
        rows = (int)(pixels * (u + 1) / d->tiles - pixel);
        gather_pixels(d, &c, source, pixel, rows, s);
        at = pixel * channels;
        ldc = channels;
    }
    bool finished = index == d->chunks - 1;
    if (!s->segments && index && !finished) return; /* the first chunk always writes, if only zeros */
    for (int64_t n = first; n < last; n += TILE_COLUMNS) {
        tile_finish finish = run->finish;
        if (finish.bias) finish.bias += group * d->columns + n;
        tile_apply(tile_rows, rows, least(TILE_COLUMNS, last - n), s->a, d->stride,
                   run->packed + (size_t)group * d->panel_floats + n * conv_taps(p) * d->depth, s->segment, s->segments,
                   run->result + at + group * d->columns + n, ldc, index > 0, finished ? &finish : NULL);
    }
}

static void run_tiles(const void *argument, int64_t begin, int64_t end, int thread) {
    const direct_run *run = argument;
    const direct *d = run->d;
    char *own = run->buffers + (size_t)thread * (d->buffer_bytes + d->segment_bytes);
    tile_state state = { .a = (float *)own, .segment = (tile_segment *)(own + d->buffer_bytes) };
    for (int64_t begun = begin; begun < end;) {
        int64_t group = begun / d->tiles, stop = least(end, (group + 1) * d->tiles);
        int64_t batch = d->chunks > 1 ? TILES : stop - begun;
        for (int64_t n = 0; n < d->columns; n += FILTERS)
            for (int64_t u0 = begun; u0 < stop; u0 += batch)
                for (int64_t index = 0; index < d->chunks; index++)
                    for (int64_t u = u0; u < least(stop, u0 + batch); u++)
                        run_tile(run, group, u - group * d->tiles, index, n, least(d->columns, n + FILTERS), &state);
        begun = stop;
    }
}

static int direct_apply(fv_device *device, const fv_task *task, const conv_plan *plan) {
    const direct *d = plan->own;
    const conv_problem *p = d->p;
    direct_run run = { d,    task->input[0].data, task->input[1].data, task->output[0].data, NULL,
                       NULL, conv_finish(task) };
    int64_t units = conv_taps(p) * panel_count(d->columns) * p->groups;
    if (conv_take_filters(task, d->panel_floats * sizeof(float) * (size_t)p->groups, &run.packed, &run.buffers))
        fv_parallel(device, units, 4096 / (d->depth * TILE_COLUMNS) + 1, pack_filters, &run);
    int64_t tiles = d->tiles * p->groups;
    fv_parallel(device, tiles, 100000 / (conv_macs(p) / most(tiles, 1) + 1) + 1, run_tiles, &run);
    return FV_OK;
}
const conv_algorithm ISA(conv_direct_forward) = { "direct", NULL, forward_prepare, direct_apply, NULL };
const conv_algorithm ISA(conv_direct_data) = { "direct", NULL, data_prepare, direct_apply, NULL };
