/* conv_winograd.c - forward and data gradient at 36 or 64 points (winograd.h). Many tiles: the filters are brought to the points
 * when they have changed, then a block of tiles is transformed into values [point][tile][channel] near the core, multiplied by one
 * panel of filters after the other, and each panel's sums go back at once, with bias and activation. Few tiles (small
 * maps, small batches): the values of all tiles come first, then each panel brings its own filters to the points, a stretch
 * of the depth at a time, so that 36 / 9 times the weights never go to memory. The data gradient is the same with channels
 * and filters exchanged and the taps taken from the far end. */
#include "cpu/functions.h"
#include "cpu/winograd.h"

enum {
    NEAR = 1 << 18, /* floats of values that stay in the second cache */
    ALL = 3 << 20,  /* in the third */
    SUMS = 1 << 19, /* floats of one panel's sums */
    STRETCH = 128   /* of the depth, whose filters at the points stay in the second cache */
};

typedef struct winograd {
    const conv_problem *p;
    bool gradient;
    winograd_grid grid;
    int64_t depth, columns; /* channels of source and result */
    int64_t row;            /* floats of a tile at one point */
    bool by_panels;
    int64_t block, blocks; /* of tiles */
    int64_t stretch;       /* of the depth, whose filters are held at a time */
    int64_t filter_floats, value_floats,
        sum_floats; /* by blocks filters are shared, by panels values; else a thread's */
} winograd;

typedef struct winograd_run {
    const winograd *w;
    const float *source, *weights;
    float *result, *filters, *values, *sums;
    tile_finish finish;
} winograd_run;

/* ---- Filters at the points: [panel][point][depth][columns of the panel] ------------------------------------------- */
static int64_t point_floats(const winograd *w) { return w->stretch * TILE_COLUMNS + SLACK_FLOATS; }
INLINE void filter_vector(const int taps, const vf *g, int64_t step, float *out, int64_t stride) {
    const int side = SIDE(taps);
    vf t[SIDE_MOST][TAPS_MOST];
    UNROLL(8)
    for (int a = 0; a < side; a++) {
        UNROLL(5)
        for (int j = 0; j < taps; j++) {
            t[a][j] = (vf){ 0 };
            UNROLL(5)
            for (int i = 0; i < taps; i++) t[a][j] += WINOGRAD_FILTER(taps, a, i) * g[(i * taps + j) * step];
        }
    }
    UNROLL(8)
    for (int a = 0; a < side; a++) {
        UNROLL(8)
        for (int b = 0; b < side; b++) {
            vf sum = { 0 };
            UNROLL(5)
            for (int j = 0; j < taps; j++) sum += WINOGRAD_FILTER(taps, b, j) * t[a][j];
            store(out + (a * side + b) * stride, sum);
        }
    }
}
/* Rows k .. k + rows - 1 of the depth (LANES at most) for the panel of column `first` on, into `out`. */
INLINE void filter_rows(const winograd_run *run, const int taps, int64_t first, int64_t k, int64_t rows, float *out) {
    const winograd *w = run->w;
    const conv_problem *p = w->p;
    int64_t all = taps * taps, width = least(TILE_COLUMNS, padded_columns(w->columns - first));
    for (int64_t n = first; n < least(first + width, w->columns); n += LANES) {
        vf g[TAPS_MOST * TAPS_MOST][LANES];
        int64_t columns = least(LANES, w->columns - n);
        for (int64_t t = 0; t < all; t++) {
            const float *from = run->weights + conv_weight(p, w->gradient, t) * p->channels;
            for (int64_t i = 0; i < LANES; i++) {
                if (w->gradient) /* a row of the depth is a filter, its channels side by side */
                    g[t][i] = i < rows ? load_up_to(from + (k + i) * all * p->channels + n, columns) : (vf){ 0 };
                else
                    g[t][i] = i < columns ? load_up_to(from + (n + i) * all * p->channels + k, rows) : (vf){ 0 };
            }
            if (!w->gradient) transpose_lanes(g[t]);
        }
        for (int64_t i = 0; i < rows; i++)
            filter_vector(taps, &g[0][i], LANES, out + i * width + n - first, point_floats(w));
    }
}
static void transform_filters(const winograd_run *run, int64_t first, int64_t k, int64_t rows, float *out) {
    if (run->w->grid.taps == 3)
        filter_rows(run, 3, first, k, rows, out);
    else
        filter_rows(run, 5, first, k, rows, out);
}
/* units: (panel, LANES of the depth) */
static void transform_all_filters(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const winograd_run *run = argument;
    const winograd *w = run->w;
    int64_t parts = div_up(w->depth, LANES);
    for (int64_t u = begin; u < end; u++) {
        int64_t panel = u / parts, first = panel * TILE_COLUMNS, k = u % parts * LANES;
        int64_t width = least(TILE_COLUMNS, padded_columns(w->columns - first));
        transform_filters(run, first, k, least(LANES, w->depth - k),
                          run->filters + panel * w->grid.points * point_floats(w) + k * width);
    }
}

/* ---- Patches ----------------------------------------------------------------------------------------------------- */
INLINE void tiles_to_points(const winograd_run *run, const int taps, int64_t first, int64_t last, float *values,
                            int64_t stride) {
    const winograd *w = run->w;
    for (int64_t q = first; q < last; q++, values += w->row) {
        winograd_patch patch = winograd_patch_of(&w->grid, run->source, w->depth, winograd_tile_of(&w->grid, q));
        for (int64_t c = 0; c < w->depth; c += LANES)
            winograd_patch_points(&patch, taps, c, w->depth, values + c, stride);
    }
}
/* Tiles first .. last-1 into rows of `values`; stride: from point to point. */
static void transform_tiles(const winograd_run *run, int64_t first, int64_t last, float *values, int64_t stride) {
    if (run->w->grid.taps == 3)
        tiles_to_points(run, 3, first, last, values, stride);
    else
        tiles_to_points(run, 5, first, last, values, stride);
}
static void transform_all_tiles(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const winograd_run *run = argument;
    transform_tiles(run, begin, end, run->values + begin * run->w->row,
                    run->w->grid.count * run->w->row + SLACK_FLOATS);
}

/* ---- Results ----------------------------------------------------------------------------------------------------- */
typedef struct corner { /* of a tile's results: how many are within the map */
    float *at;
    int64_t line, pixel;
    int rows, columns;
} corner;
INLINE void result_vector(const int taps, const int activation, const float *sums, int64_t stride, vf bias,
                          const corner *y, int64_t left) {
    const int side = SIDE(taps);
    vf t[OUT * SIDE_MOST];
    UNROLL(8)
    for (int j = 0; j < side; j++) {
        vf m[SIDE_MOST];
        UNROLL(8)
        for (int i = 0; i < side; i++) m[i] = load(sums + (i * side + j) * stride);
        from_points(taps, m, 1, t + j, side);
    }
    UNROLL(4)
    for (int i = 0; i < OUT; i++) {
        if (i >= y->rows) continue;
        vf o[OUT];
        from_points(taps, t + i * side, 1, o, 1);
        UNROLL(4)
        for (int j = 0; j < OUT; j++)
            if (j < y->columns)
                store_up_to(y->at + i * y->line + j * y->pixel, activate_any(o[j] + bias, activation), left);
    }
}
INLINE void result_tiles(const winograd_run *run, const int taps, const int activation, int64_t first, int64_t count,
                         int64_t n, int64_t width, const float *sums) {
    const winograd *w = run->w;
    const winograd_grid *g = &w->grid;
    for (int64_t q = 0; q < count; q++) {
        winograd_tile t = winograd_tile_of(g, first + q);
        corner y = { .line = g->size[1] * w->columns,
                     .pixel = w->columns,
                     .rows = (int)least(OUT, g->size[0] - t.y),
                     .columns = (int)least(OUT, g->size[1] - t.x) };
        float *at = run->result + ((t.image * g->size[0] + t.y) * g->size[1] + t.x) * w->columns + n;
        for (int64_t v = 0; v < least(width, w->columns - n); v += LANES) {
            int64_t left = w->columns - n - v;
            y.at = at + v;
            vf bias = run->finish.bias ? load_up_to(run->finish.bias + n + v, left) : (vf){ 0 };
            result_vector(taps, activation, sums + q * width + v, count * width + SLACK_FLOATS, bias, &y, left);
            for (int i = 0; i < y.rows * y.columns && !is_inline(activation); i++)
                activate_line(y.at + i / y.columns * y.line + i % y.columns * y.pixel, least(LANES, left), activation,
                              run->finish.alpha);
        }
    }
}
INLINE void results_of(const winograd_run *run, const int taps, int64_t first, int64_t count, int64_t n, int64_t width,
                       const float *sums) {
    int activation = run->finish.activation;
    if (activation == FV_LINEAR)
        result_tiles(run, taps, FV_LINEAR, first, count, n, width, sums);
    else if (activation == FV_RELU)
        result_tiles(run, taps, FV_RELU, first, count, n, width, sums);
    else
        result_tiles(run, taps, activation, first, count, n, width, sums);
}
static void results(const winograd_run *run, int64_t first, int64_t count, int64_t n, int64_t width,
                    const float *sums) {
    if (run->w->grid.taps == 3)
        results_of(run, 3, first, count, n, width, sums);
    else
        results_of(run, 5, first, count, n, width, sums);
}

/* ---- Products ---------------------------------------------------------------------------------------------------- */
/* `count` tiles, a row of `depth` values each at every point, by filters of `width` columns. */
static void multiply(const winograd *w, int64_t count, const float *values, int64_t stride, const float *filters,
                     int64_t depth, int64_t width, float *sums, bool accumulate) {
    const tile_segment whole = { depth, 0, 0 };
    int64_t parts = div_up(count, TILE_ROWS);
    for (int64_t point = 0; point < w->grid.points; point++)
        for (int64_t part = 0; part < parts; part++) {
            int64_t m = count * part / parts, rows = count * (part + 1) / parts - m;
            tile_rows[width / LANES - 1][rows](
                values + point * stride + m * w->row, w->row, filters + point * point_floats(w), &whole, 1,
                sums + point * (count * width + SLACK_FLOATS) + m * width, width, accumulate);
        }
}
static void run_blocks(const void *argument, int64_t begin, int64_t end, int thread) {
    const winograd_run *run = argument;
    const winograd *w = run->w;
    float *values = run->values + thread * w->value_floats, *sums = run->sums + thread * w->sum_floats;
    for (int64_t b = begin; b < end; b++) {
        int64_t first = w->grid.count * b / w->blocks, count = w->grid.count * (b + 1) / w->blocks - first;
        int64_t stride = count * w->row + SLACK_FLOATS;
        transform_tiles(run, first, first + count, values, stride);
        for (int64_t n = 0; n < w->columns; n += TILE_COLUMNS) {
            int64_t width = least(TILE_COLUMNS, padded_columns(w->columns - n));
            multiply(w, count, values, stride, run->filters + n / TILE_COLUMNS * w->grid.points * point_floats(w),
                     w->depth, width, sums, false);
            results(run, first, count, n, width, sums);
        }
    }
}
/* units: (panel, block) */
static void run_panels(const void *argument, int64_t begin, int64_t end, int thread) {
    const winograd_run *run = argument;
    const winograd *w = run->w;
    float *filters = run->filters + thread * w->filter_floats, *sums = run->sums + thread * w->sum_floats;
    int64_t stride = w->grid.count * w->row + SLACK_FLOATS;
    for (int64_t u = begin; u < end; u++) {
        int64_t b = u % w->blocks, n = u / w->blocks * TILE_COLUMNS;
        int64_t first = w->grid.count * b / w->blocks, count = w->grid.count * (b + 1) / w->blocks - first;
        int64_t width = least(TILE_COLUMNS, padded_columns(w->columns - n));
        for (int64_t k = 0; k < w->depth; k += w->stretch) {
            int64_t depth = least(w->stretch, w->depth - k);
            for (int64_t i = 0; i < depth; i += LANES)
                transform_filters(run, n, k + i, least(LANES, depth - i), filters + i * width);
            multiply(w, count, run->values + first * w->row + k, stride, filters, depth, width, sums, k > 0);
        }
        results(run, first, count, n, width, sums);
    }
}

/* ---- Preparing and running --------------------------------------------------------------------------------------- */
static int prepare(fv_device *device, fv_task *task, conv_plan *plan, bool gradient) {
    const conv_problem *p = &plan->problem;
    winograd *w = device->host.alloc(device->host.context, sizeof *w, "a convolution's plan");
    if (!w) return FV_ERROR_MEMORY;
    plan->own = w;
    *w = (winograd){ .p = p, .gradient = gradient, .grid = winograd_grid_of(p, gradient) };
    w->depth = gradient ? p->filters : p->channels;
    w->columns = gradient ? p->channels : p->filters;
    w->row = round_up(w->depth, 16) + SLACK_FLOATS;
    int64_t tiles = w->grid.count, panels = panel_count(w->columns), points = w->grid.points;
    w->by_panels = points * tiles * w->row <= ALL && points * tiles * TILE_COLUMNS <= SUMS;
    if (w->by_panels) { /* blocks only so that every thread has work: how tiles are cut does not show in the results */
        w->blocks = least(div_up(tiles, 2 * TILE_ROWS), div_up(2 * device->threads, panels));
        if (panels >= device->threads) w->blocks = 1;
        w->block = div_up(tiles, w->blocks);
        w->stretch = least(w->depth, STRETCH);
    } else {
        int64_t block = least(6 * TILE_ROWS, NEAR / (points * w->row));
        w->block = least(tiles, most(2, block / TILE_ROWS) * TILE_ROWS);
        w->blocks = div_up(tiles, w->block);
        w->stretch = w->depth;
    }
    w->filter_floats = (w->by_panels ? 1 : panels) * points * point_floats(w);
    w->value_floats = points * (w->by_panels ? tiles : w->block) * w->row + points * SLACK_FLOATS;
    w->sum_floats = points * (w->block * TILE_COLUMNS + SLACK_FLOATS);
    size_t filters = sizeof(float) * (size_t)w->filter_floats, threads = (size_t)device->threads;
    size_t values = sizeof(float) * (size_t)w->value_floats, sums = sizeof(float) * (size_t)w->sum_floats;
    if (w->by_panels)
        task->scratch_bytes = values + (filters + sums) * threads;
    else
        conv_ask_filters(task, filters, (values + sums) * threads);
    return FV_OK;
}
static int forward_prepare(fv_device *device, fv_task *task, conv_plan *plan) {
    return prepare(device, task, plan, false);
}
static int data_prepare(fv_device *device, fv_task *task, conv_plan *plan) { return prepare(device, task, plan, true); }

static int apply(fv_device *device, const fv_task *task, const conv_plan *plan) {
    const winograd *w = plan->own;
    winograd_run run = { .w = w,
                         .source = task->input[0].data,
                         .weights = task->input[1].data,
                         .result = task->output[0].data,
                         .filters = task->scratch,
                         .finish = conv_finish(task) };
    int64_t panels = panel_count(w->columns), work = w->grid.points * w->depth * TILE_COLUMNS * w->block;
    if (w->by_panels) {
        run.values = run.filters + w->filter_floats * device->threads;
        run.sums = run.values + w->value_floats;
        fv_parallel(device, w->grid.count, 8192 / w->depth + 1, transform_all_tiles, &run);
        fv_parallel(device, panels * w->blocks, 400000 / work + 1, run_panels, &run);
    } else {
        if (conv_take_filters(task, sizeof(float) * (size_t)w->filter_floats, &run.filters, &run.values))
            fv_parallel(device, panels * div_up(w->depth, LANES), 2, transform_all_filters, &run);
        run.sums = run.values + w->value_floats * device->threads;
        fv_parallel(device, w->blocks, 400000 / (work * panels) + 1, run_blocks, &run);
    }
    return FV_OK;
}

static double forward_estimate(const conv_problem *p) { return winograd_estimate(p, false, 1.4, 1.3, 900, 1500); }
static double data_estimate(const conv_problem *p) { return winograd_estimate(p, true, 1.4, 1.3, 900, 1500); }
const conv_algorithm ISA(conv_winograd_forward) = { "Winograd", winograd_does_not_fit, forward_prepare, apply,
                                                    forward_estimate };
const conv_algorithm ISA(conv_winograd_data) = { "Winograd", winograd_does_not_fit, data_prepare, apply,
                                                 data_estimate };
