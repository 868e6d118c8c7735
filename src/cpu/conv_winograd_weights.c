/* conv_winograd_weights.c - the weight gradient at 36 or 64 points (winograd.h), the adjoint of the forward pass: at each point
 * du = sum over tiles of dy's values times x's values, then dw = G' du G. Tiles are visited in blocks whose values stay
 * in the third cache; threads own (point, panel of channels), so no sum is shared. */
#include "cpu/winograd.h"

enum { NEAR = 3 << 17 }; /* floats of values, of the side with more channels */

typedef struct winograd_weights {
    const conv_problem *p;
    winograd_grid grid;
    int64_t block, blocks;
    int64_t padded, row; /* channels in whole vectors; floats of a tile of dy at a point */
    int64_t sum_floats, x_floats, dy_floats;
} winograd_weights;

typedef struct weights_run {
    const winograd_weights *w;
    const float *x, *dy;
    float *dw, *sums, *x_values,
        *dy_values;       /* sums [point][filter][padded], x [point][panel][tile][columns], dy [point][tile][row] */
    int64_t first, count; /* the block at work */
} weights_run;

static int64_t sum_stride(const winograd_weights *w) { return w->p->filters * w->padded + SLACK_FLOATS; }
static int64_t x_stride(const weights_run *run) { return run->count * run->w->padded + SLACK_FLOATS; }
static int64_t dy_stride(const weights_run *run) { return run->count * run->w->row + SLACK_FLOATS; }

/* ---- dy at the points -------------------------------------------------------------------------------------------- */
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

INLINE void tiles_to_points(const weights_run *run, const int taps, int64_t begin, int64_t end) {
    const winograd_weights *w = run->w;
    const winograd_grid *g = &w->grid;
    int64_t channels = w->p->channels, filters = w->p->filters;
    for (int64_t q = begin; q < end; q++) {
        winograd_tile t = winograd_tile_of(g, run->first + q);
        winograd_patch patch = winograd_patch_of(g, run->x, channels, t);
        for (int64_t c = 0; c < channels; c += LANES) {
            int64_t panel = c / TILE_COLUMNS * TILE_COLUMNS, width = least(TILE_COLUMNS, w->padded - panel);
            winograd_patch_points(&patch, taps, c, channels, run->x_values + panel * run->count + q * width + c - panel,
                                  x_stride(run));
        }
        const float *dy = run->dy + ((t.image * g->size[0] + t.y) * g->size[1] + t.x) * filters;
        int rows = (int)least(OUT, g->size[0] - t.y), columns = (int)least(OUT, g->size[1] - t.x);
        for (int64_t k = 0; k < filters; k += LANES)
            gradient_vector(taps, dy + k, g->size[1] * filters, filters, rows, columns, filters - k,
                            run->dy_values + q * w->row + k, dy_stride(run));
    }
}
static void transform(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const weights_run *run = argument;
    if (run->w->grid.taps == 3)
        tiles_to_points(run, 3, begin, end);
    else
        tiles_to_points(run, 5, begin, end);
}

/* ---- Sums: units (point, panel of channels) ----------------------------------------------------------------------- */
static void add_up(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const weights_run *run = argument;
    const winograd_weights *w = run->w;
    int64_t panels = panel_count(w->padded), filters = w->p->filters, parts = div_up(filters, TILE_ROWS);
    const tile_segment whole = { run->count, 0, 0 };
    for (int64_t u = begin; u < end; u++) {
        int64_t point = u / panels, n = u % panels * TILE_COLUMNS, width = least(TILE_COLUMNS, w->padded - n);
        for (int64_t part = 0; part < parts; part++) {
            int64_t k = filters * part / parts, rows = filters * (part + 1) / parts - k;
            tile_columns[width / LANES - 1][rows](run->dy_values + point * dy_stride(run) + k, w->row,
                                                  run->x_values + point * x_stride(run) + n * run->count, &whole, 1,
                                                  run->sums + point * sum_stride(w) + k * w->padded + n, w->padded,
                                                  run->first > 0);
        }
    }
}

/* ---- Back from the points: units are filters ---------------------------------------------------------------------- */
INLINE void weight_vectors(const weights_run *run, const int taps, int64_t k) {
    const winograd_weights *w = run->w;
    const int side = SIDE(taps), all = taps * taps;
    int64_t channels = w->p->channels, stride = sum_stride(w);
    for (int64_t c = 0; c < channels; c += LANES) {
        const float *sums = run->sums + k * w->padded + c;
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
                int64_t tap = conv_weight(w->p, false, i * taps + j);
                store_up_to(run->dw + (k * all + tap) * channels + c, s, channels - c);
            }
        }
    }
}
static void transform_back(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const weights_run *run = argument;
    for (int64_t k = begin; k < end; k++)
        if (run->w->grid.taps == 3)
            weight_vectors(run, 3, k);
        else
            weight_vectors(run, 5, k);
}

/* ---- Preparing and running --------------------------------------------------------------------------------------- */
static int prepare(fv_device *device, fv_task *task, conv_plan *plan) {
    const conv_problem *p = &plan->problem;
    winograd_weights *w = device->host.alloc(device->host.context, sizeof *w, "a convolution's plan");
    if (!w) return FV_ERROR_MEMORY;
    plan->own = w;
    *w = (winograd_weights){ .p = p, .grid = winograd_grid_of(p, false), .padded = padded_columns(p->channels) };
    w->row = round_up(p->filters, 16) + SLACK_FLOATS;
    int64_t points = w->grid.points, most_tiles = most(64, NEAR / points / most(p->channels, p->filters));
    w->blocks = div_up(w->grid.count, most_tiles);
    w->block = div_up(w->grid.count, w->blocks);
    w->sum_floats = points * sum_stride(w);
    w->x_floats = points * (w->block * w->padded + SLACK_FLOATS);
    w->dy_floats = points * (w->block * w->row + SLACK_FLOATS);
    task->scratch_bytes = sizeof(float) * (size_t)(w->sum_floats + w->x_floats + w->dy_floats);
    return FV_OK;
}

static int apply(fv_device *device, const fv_task *task, const conv_plan *plan) {
    const winograd_weights *w = plan->own;
    const conv_problem *p = w->p;
    weights_run run = {
        .w = w, .x = task->input[0].data, .dy = task->input[1].data, .dw = task->output[0].data, .sums = task->scratch
    };
    run.x_values = run.sums + w->sum_floats;
    run.dy_values = run.x_values + w->x_floats;
    int64_t units = w->grid.points * panel_count(w->padded);
    for (int64_t b = 0; b < w->blocks; b++) {
        run.first = w->grid.count * b / w->blocks;
        run.count = w->grid.count * (b + 1) / w->blocks - run.first;
        fv_parallel(device, run.count, 8192 / (p->channels + p->filters) + 1, transform, &run);
        fv_parallel(device, units, 200000 / (run.count * TILE_COLUMNS * p->filters) + 1, add_up, &run);
    }
    fv_parallel(device, p->filters, 2048 / p->channels + 1, transform_back, &run);
    return FV_OK;
}

static double estimate(const conv_problem *p) { return winograd_estimate(p, false, 1.4, 1.6, 1200, 3500); }
static const char *why_not(const conv_problem *p) {
    const char *why = winograd_does_not_fit(p);
    return why ? why : 100 * estimate(p) > NOT_WORTH_PERCENT ? "no gain" : NULL;
}
const conv_algorithm ISA(conv_winograd_weights) = { "Winograd", why_not, prepare, apply, estimate };
