/* conv_winograd_weights.c - the weight gradient at 36 or 64 points (winograd.h), the adjoint of the forward pass: at each
 * point du = sum over tiles of dy's values times x's values, then dw = G' du G. dw is cut into rectangles, filters by
 * channels. Mostly there is one for each thread, which brings what it needs of x and dy to the points itself, a block of
 * tiles at a time, and never waits: what two threads transform twice costs less than handing it from core to core. Where
 * du is larger than all values together (512 channels on small maps), the values come first, for all tiles, and the
 * rectangles are so small that their part of du stays near the core. No sum is shared, and the cut does not show. */
#include "cpu/winograd.h"

enum {
    NEAR = 3 << 17,  /* floats of a block's values, of the side with more channels */
    WHOLE = 6 << 20, /* of all values, at most, where they come first */
    SECOND = 9 << 15 /* of a rectangle's values of x that stay in the second cache */
};

typedef struct winograd_weights {
    const conv_problem *p;
    winograd_grid grid;
    bool whole;            /* the values come first */
    int64_t block, blocks; /* of tiles */
    int64_t down, across;  /* rectangles: of filters, of panels of channels */
    int64_t rows, columns; /* of the largest rectangle */
    int64_t x_floats, dy_floats, sum_floats;
} winograd_weights;

typedef struct weights_run {
    const winograd_weights *w;
    const float *x, *dy;
    float *dw, *scratch;
} weights_run;

/* A rectangle of dw. */
typedef struct rectangle {
    int64_t filter, filters, channel, channels;
} rectangle;

/* Values of `count` tiles at the points: x [point][panel][tile][columns], dy [point][tile][row]. */
typedef struct point_values {
    float *x, *dy;
    int64_t first, count, x_stride, dy_stride, row;
} point_values;

static int64_t row_floats(int64_t filters) { return round_up(filters, 16) + SLACK_FLOATS; }
static point_values values_of(float *scratch, int64_t x_floats, const rectangle *r, int64_t first, int64_t count) {
    point_values v = { .x = scratch, .dy = scratch + x_floats, .first = first, .count = count };
    v.row = row_floats(r->filters);
    v.x_stride = count * padded_columns(r->channels) + SLACK_FLOATS;
    v.dy_stride = count * v.row + SLACK_FLOATS;
    return v;
}
static rectangle all_of(const conv_problem *p) { return (rectangle){ 0, p->filters, 0, p->channels }; }
static rectangle rectangle_of(const winograd_weights *w, int64_t index) {
    const conv_problem *p = w->p;
    int64_t i = index % w->down, j = index / w->down, panels = panel_count(p->channels);
    int64_t filter = p->filters * i / w->down, channel = panels * j / w->across * TILE_COLUMNS;
    return (rectangle){ filter, p->filters * (i + 1) / w->down - filter, channel,
                        least(p->channels, panels * (j + 1) / w->across * TILE_COLUMNS) - channel };
}

/* ---- At the points ----------------------------------------------------------------------------------------------- */
INLINE void gradient_vector(const int taps, const float *from, int64_t line, int64_t pixel, int rows, int columns,
                            int64_t left, float *to, int64_t stride) {
    const int side = SIDE(taps);
    vf t[OUT * SIDE_MOST];
    UNROLL(4)
    for (int i = 0; i < OUT; i++) {
        vf d[OUT];
        UNROLL(4)
        for (int j = 0; j < OUT; j++)
            d[j] = i < rows && j < columns ? load_up_to(from + i * line + j * pixel, left) : (vf){ 0 };
        spread_to_points(taps, d, 1, t + i * side);
    }
    UNROLL(8)
    for (int j = 0; j < side; j++) {
        vf o[SIDE_MOST];
        spread_to_points(taps, t + j, side, o);
        UNROLL(8)
        for (int i = 0; i < side; i++) store(to + (i * side + j) * stride, o[i]);
    }
}

/* Tiles begin .. end-1 of v, the filters and channels of r. */
INLINE void tiles_to_points(const weights_run *run, const int taps, const rectangle *r, const point_values *v,
                            int64_t begin, int64_t end) {
    const winograd_grid *g = &run->w->grid;
    int64_t channels = run->w->p->channels, filters = run->w->p->filters, padded = padded_columns(r->channels);
    for (int64_t q = begin; q < end; q++) {
        winograd_tile t = winograd_tile_of(g, v->first + q);
        winograd_patch patch = winograd_patch_of(g, run->x, channels, t);
        for (int64_t c = 0; c < r->channels; c += LANES) {
            int64_t panel = c / TILE_COLUMNS * TILE_COLUMNS, width = least(TILE_COLUMNS, padded - panel);
            winograd_patch_points(&patch, taps, r->channel + c, channels,
                                  v->x + panel * v->count + q * width + c - panel, v->x_stride);
        }
        const float *dy = run->dy + ((t.image * g->size[0] + t.y) * g->size[1] + t.x) * filters + r->filter;
        int rows = (int)least(OUT, g->size[0] - t.y), columns = (int)least(OUT, g->size[1] - t.x);
        for (int64_t k = 0; k < r->filters; k += LANES)
            gradient_vector(taps, dy + k, g->size[1] * filters, filters, rows, columns, r->filters - k,
                            v->dy + q * v->row + k, v->dy_stride);
    }
}
static void transform(const weights_run *run, const rectangle *r, const point_values *v, int64_t begin, int64_t end) {
    if (run->w->grid.taps == 3)
        tiles_to_points(run, 3, r, v, begin, end);
    else
        tiles_to_points(run, 5, r, v, begin, end);
}

/* ---- Sums of a rectangle: [point][filter][padded channel] --------------------------------------------------------- */
static int64_t sum_stride(const rectangle *r) { return r->filters * padded_columns(r->channels) + SLACK_FLOATS; }

/* x, dy: where the values of r begin at the first point. */
static void add_up(const winograd_weights *w, const rectangle *r, const point_values *v, const float *x,
                   const float *dy, float *sums, bool accumulate) {
    int64_t padded = padded_columns(r->channels), parts = div_up(r->filters, TILE_ROWS);
    const tile_segment whole = { v->count, 0, 0 };
    for (int64_t point = 0; point < w->grid.points;
         point++, x += v->x_stride, dy += v->dy_stride, sums += sum_stride(r))
        for (int64_t n = 0; n < padded; n += TILE_COLUMNS)
            for (int64_t part = 0; part < parts; part++) {
                int64_t k = r->filters * part / parts, rows = r->filters * (part + 1) / parts - k;
                tile_columns[panel_vectors(padded - n) - 1][rows](dy + k, v->row, x + n * v->count, &whole, 1,
                                                                  sums + k * padded + n, padded, accumulate);
            }
}

/* Back from the points. */
INLINE void weight_vectors(const weights_run *run, const int taps, const rectangle *r, const float *all_sums) {
    const int side = SIDE(taps), all = taps * taps;
    int64_t channels = run->w->p->channels, stride = sum_stride(r), padded = padded_columns(r->channels);
    for (int64_t k = 0; k < r->filters; k++)
        for (int64_t c = 0; c < r->channels; c += LANES) {
            const float *sums = all_sums + k * padded + c;
            float *dw = run->dw + (r->filter + k) * all * channels + r->channel + c;
            vf t[TAPS_MOST][SIDE_MOST];
            UNROLL(8)
            for (int b = 0; b < side; b++) {
                UNROLL(5)
                for (int i = 0; i < taps; i++) t[i][b] = (vf){ 0 };
                UNROLL(8)
                for (int a = 0; a < side; a++) {
                    vf s = load(sums + (a * side + b) * stride);
                    UNROLL(5)
                    for (int i = 0; i < taps; i++) t[i][b] += WINOGRAD_FILTER(taps, a, i) * s;
                }
            }
            UNROLL(5)
            for (int i = 0; i < taps; i++) {
                UNROLL(5)
                for (int j = 0; j < taps; j++) {
                    vf s = { 0 };
                    UNROLL(8)
                    for (int b = 0; b < side; b++) s += WINOGRAD_FILTER(taps, b, j) * t[i][b];
                    store_up_to(dw + conv_weight(run->w->p, false, i * taps + j) * channels, s, r->channels - c);
                }
            }
        }
}
static void transform_back(const weights_run *run, const rectangle *r, const float *sums) {
    if (run->w->grid.taps == 3)
        weight_vectors(run, 3, r, sums);
    else
        weight_vectors(run, 5, r, sums);
}

/* ---- Rectangles, each for itself; or after all values -------------------------------------------------------------- */
static void run_rectangles(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const weights_run *run = argument;
    const winograd_weights *w = run->w;
    for (int64_t u = begin; u < end; u++) {
        float *own = run->scratch + u * (w->x_floats + w->dy_floats + w->sum_floats);
        float *sums = own + w->x_floats + w->dy_floats;
        rectangle r = rectangle_of(w, u);
        for (int64_t b = 0; b < w->blocks; b++) {
            int64_t first = w->grid.count * b / w->blocks, count = w->grid.count * (b + 1) / w->blocks - first;
            point_values v = values_of(own, w->x_floats, &r, first, count);
            transform(run, &r, &v, 0, count);
            add_up(w, &r, &v, v.x, v.dy, sums, b > 0);
        }
        transform_back(run, &r, sums);
    }
}
static void transform_all(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const weights_run *run = argument;
    rectangle all = all_of(run->w->p);
    point_values v = values_of(run->scratch, run->w->x_floats, &all, 0, run->w->grid.count);
    transform(run, &all, &v, begin, end);
}
static void sum_rectangles(const void *argument, int64_t begin, int64_t end, int thread) {
    const weights_run *run = argument;
    const winograd_weights *w = run->w;
    rectangle all = all_of(w->p);
    point_values v = values_of(run->scratch, w->x_floats, &all, 0, w->grid.count);
    float *sums = run->scratch + w->x_floats + w->dy_floats + thread * w->sum_floats;
    for (int64_t u = begin; u < end; u++) {
        rectangle r = rectangle_of(w, u);
        add_up(w, &r, &v, v.x + r.channel * v.count, v.dy + r.filter, sums, false);
        transform_back(run, &r, sums);
    }
}

/* ---- Preparing and running --------------------------------------------------------------------------------------- */
/* As many rectangles as threads, or fewer where dw is small: those with the least to transform twice. */
static void cut_for_threads(winograd_weights *w, int64_t threads) {
    const conv_problem *p = w->p;
    int64_t cost = INT64_MAX;
    for (int64_t units = threads; units > 0 && cost == INT64_MAX; units--)
        for (int64_t down = 1; down <= units; down++) {
            int64_t across = units / down, twice = down * p->channels + across * p->filters;
            if (units % down || down > div_up(p->filters, TILE_ROWS) || across > panel_count(p->channels)) continue;
            if (twice >= cost) continue;
            cost = twice;
            w->down = down;
            w->across = across;
        }
}
static int prepare(fv_device *device, fv_task *task, conv_plan *plan) {
    const conv_problem *p = &plan->problem;
    winograd_weights *w = device->host.alloc(device->host.context, sizeof *w, "a convolution's plan");
    if (!w) return FV_ERROR_MEMORY;
    plan->own = w;
    *w = (winograd_weights){ .p = p, .grid = winograd_grid_of(p, false) };
    int64_t points = w->grid.points, tiles = w->grid.count, panels = panel_count(p->channels);
    rectangle r = all_of(p);
    int64_t values = points * tiles * (padded_columns(p->channels) + row_floats(p->filters));
    w->whole = points * p->filters * p->channels > values && values <= WHOLE;
    w->blocks = w->whole ? 1 : div_up(tiles, most(64, NEAR / points / most(p->channels, p->filters)));
    w->block = div_up(tiles, w->blocks);
    if (w->whole) {
        w->down = div_up(p->filters, TILE_ROWS);
        w->across = div_up(panels, most(1, SECOND / (points * tiles * TILE_COLUMNS)));
    } else {
        cut_for_threads(w, least(device->threads, conv_macs(p) / 400000 + 1));
    }
    w->rows = div_up(p->filters, w->down);
    w->columns = least(p->channels, div_up(panels, w->across) * TILE_COLUMNS);
    if (!w->whole) r = (rectangle){ 0, w->rows, 0, w->columns };
    w->x_floats = points * (w->block * padded_columns(r.channels) + SLACK_FLOATS);
    w->dy_floats = points * (w->block * row_floats(r.filters) + SLACK_FLOATS);
    r = (rectangle){ 0, w->rows, 0, w->columns };
    w->sum_floats = points * sum_stride(&r);
    int64_t floats = w->whole ? w->x_floats + w->dy_floats + device->threads * w->sum_floats
                              : w->down * w->across * (w->x_floats + w->dy_floats + w->sum_floats);
    task->scratch_bytes = sizeof(float) * (size_t)floats;
    return FV_OK;
}

static int apply(fv_device *device, const fv_task *task, const conv_plan *plan) {
    const winograd_weights *w = plan->own;
    weights_run run = { w, task->input[0].data, task->input[1].data, task->output[0].data, task->scratch };
    int64_t rectangles = w->down * w->across;
    if (w->whole) {
        fv_parallel(device, w->grid.count, 8192 / (w->p->channels + w->p->filters) + 1, transform_all, &run);
        fv_parallel(device, rectangles, 200000 / (w->grid.points * w->grid.count * w->rows * w->columns) + 1,
                    sum_rectangles, &run);
    } else {
        fv_parallel(device, rectangles, 1, run_rectangles, &run);
    }
    return FV_OK;
}

static double estimate(const conv_problem *p) { return winograd_estimate(p, false, 1.4, 1.6, 1200, 3500); }
const conv_algorithm ISA(conv_winograd_weights) = { "Winograd", winograd_does_not_fit, prepare, apply, estimate };
