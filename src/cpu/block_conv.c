/* block_conv.c - convolutions and data gradients (transposed convolutions too) of a block of images. On each axis the
 * results are cut into runs whose results take the same taps, so that no tap of the padding is ever multiplied. Within a
 * run rows and columns are alike: a tile of neighbouring pixels on the longer axis times some filters stays in
 * registers while the taps and channels go by. */
#include "cpu/block.h"
#include "cpu/functions.h"

#if LANES == 16 || defined(__aarch64__)
enum { PIXELS = 4, FILTERS = 6 }; /* 24 sums in 32 registers */
#else
enum { PIXELS = 3, FILTERS = 4 }; /* 12 in 16 */
#endif

/* ---- What is taken on one axis ----------------------------------------------------------------------------------- */
/* Results first, first + step, ..: each takes `taps` taps (tap, tap + tap_step, ..), which the first result finds at
 * source, source + tap_source, ..; the next result source_step further. */
typedef struct axis_run {
    int64_t first, step, count;
    int64_t source, source_step;
    int64_t taps, tap, tap_step, tap_source;
} axis_run;

static axis_run run_from(const conv_problem *p, bool gradient, int axis, int64_t o) {
    axis_run run = { .first = o, .step = gradient ? p->stride[axis] : 1, .count = 1, .tap_step = 1, .tap_source = 1 };
    run.source_step = gradient ? 1 : p->stride[axis];
    for (int64_t t = 0; t < p->taps[axis]; t++) {
        int64_t at = conv_reads(p, gradient, axis, o, t);
        if (at < 0) continue;
        if (run.taps == 0) run.tap = t, run.source = at;
        if (run.taps == 1) run.tap_step = t - run.tap, run.tap_source = at - run.source;
        run.taps++;
    }
    return run;
}
static bool continues(const axis_run *run, const axis_run *next) {
    return next->taps == run->taps && next->tap == run->tap && next->tap_step == run->tap_step &&
           next->tap_source == run->tap_source &&
           (!run->taps || next->source == run->source + run->count * run->source_step);
}
static int64_t results_of(const conv_problem *p, bool gradient, int axis) {
    return gradient ? p->x_size[axis] : p->y_size[axis];
}
/* Fills runs (as many as there are results at most) and returns their number. */
static int64_t cut_axis(const conv_problem *p, bool gradient, int axis, axis_run *runs) {
    int64_t count = 0, results = results_of(p, gradient, axis);
    for (int64_t phase = 0; phase < (gradient ? p->stride[axis] : 1); phase++)
        for (int64_t o = phase, begin = count; o < results; o += gradient ? p->stride[axis] : 1) {
            axis_run next = run_from(p, gradient, axis, o);
            if (count > begin && continues(&runs[count - 1], &next))
                runs[count - 1].count++;
            else
                runs[count++] = next;
        }
    return count;
}

/* ---- The plan of a step ------------------------------------------------------------------------------------------ */
typedef struct conv_walk {
    conv_problem problem;
    bool gradient;
    int64_t channels, results; /* channels read and made */
    int64_t source_row, row;   /* floats of a row of what is read and made */
    int64_t run_count[2];
    axis_run *runs[2];
    axis_run run[];
} conv_walk;

static const char *conv_why_not(const fv_task *task) {
    const conv_problem p = conv_problem_of(task);
    if (p.groups != 1) return "groups";
    return p.y_size[0] * p.y_size[1] < 4 ? "few pixels" : NULL;
}

static int conv_block_prepare(fv_device *device, block_step *step) {
    const conv_problem p = conv_problem_of(step->task);
    const bool gradient = conv_is_data(step->task);
    const int64_t rows = results_of(&p, gradient, 0), columns = results_of(&p, gradient, 1);
    conv_walk *walk = device->host.alloc(device->host.context,
                                         sizeof *walk + (size_t)(rows + columns) * sizeof *walk->run, "a group's plan");
    if (!walk) return FV_ERROR_MEMORY;
    walk->problem = p;
    walk->gradient = gradient;
    walk->channels = gradient ? p.filters : p.channels;
    walk->results = gradient ? p.channels : p.filters;
    walk->source_row = (gradient ? p.y_size[1] : p.x_size[1]) * walk->channels * LANES;
    walk->row = columns * walk->results * LANES;
    walk->runs[0] = walk->run;
    walk->runs[1] = walk->run + rows;
    for (int axis = 0; axis < 2; axis++) walk->run_count[axis] = cut_axis(&p, gradient, axis, walk->runs[axis]);
    step->own = walk;
    step->packed_bytes = sizeof(float) * (size_t)(conv_taps(&p) * p.channels * p.filters);
    return FV_OK;
}

/* Weights as the tiles take them: [tap in the order of the walk][channel read][channel made]. */
static void conv_block_pack(const block_step *step) {
    const conv_walk *walk = step->own;
    const conv_problem *p = &walk->problem;
    const float *w = step->task->input[1].data;
    float *out = step->packed;
    for (int64_t t = 0; t < conv_taps(p); t++) {
        const float *of_tap = w + conv_weight(p, walk->gradient, t) * p->channels;
        int64_t to_filter = conv_taps(p) * p->channels;
        for (int64_t from = 0; from < walk->channels; from++)
            for (int64_t to = 0; to < walk->results; to++)
                *out++ = walk->gradient ? of_tap[from * to_filter + to] : of_tap[to * to_filter + from];
    }
}

/* ---- Tiles ------------------------------------------------------------------------------------------------------- */
/* Taps of a tile: stretches of `length` channels, so many a row of taps. */
typedef struct tap_walk {
    int64_t rows, columns, length;
    int64_t x_row, x_column, x_pixel, y_pixel; /* floats from one to the next */
    int64_t w_row, w_column, w_channel;
} tap_walk;
typedef void conv_tile(const tap_walk *, const float *x, const float *w, const float *bias, float *y);

INLINE void tile_of(const tap_walk *given, const float *x, const float *w, const float *bias, float *y,
                    const int pixels, const int filters) {
    const tap_walk t = *given;
    vf sum[PIXELS][FILTERS];
    UNROLL(8)
    for (int f = 0; f < filters; f++) UNROLL(8)
    for (int p = 0; p < pixels; p++) sum[p][f] = bias ? splat(bias[f]) : (vf){ 0 };
    for (int64_t r = 0; r < t.rows; r++)
        for (int64_t s = 0; s < t.columns; s++) {
            const float *from = x + r * t.x_row + s * t.x_column, *weight = w + r * t.w_row + s * t.w_column;
            ROLLED
            for (int64_t k = 0; k < t.length; k++, from += LANES, weight += t.w_channel) {
                vf v[PIXELS];
                UNROLL(8)
                for (int p = 0; p < pixels; p++) v[p] = load(from + p * t.x_pixel);
                UNROLL(8)
                for (int f = 0; f < filters; f++) {
                    vf c = splat(weight[f]);
                    UNROLL(8)
                    for (int p = 0; p < pixels; p++) sum[p][f] += v[p] * c;
                }
            }
        }
    UNROLL(8)
    for (int p = 0; p < pixels; p++) UNROLL(8)
    for (int f = 0; f < filters; f++) store(y + p * t.y_pixel + f * LANES, sum[p][f]);
}

#define TILE(pixels, filters)                                                                                          \
    static void tile_##pixels##_##filters(const tap_walk *t, const float *x, const float *w, const float *bias,        \
                                          float *y) {                                                                  \
        tile_of(t, x, w, bias, y, pixels, filters);                                                                    \
    }
#define TILES(filters) TILE(1, filters) TILE(2, filters) TILE(3, filters)
#define TILE_NAMES(filters)                                                                                            \
    { tile_1_##filters, tile_2_##filters, tile_3_##filters }
#if LANES == 16 || defined(__aarch64__)
#undef TILES
#undef TILE_NAMES
#define TILES(filters) TILE(1, filters) TILE(2, filters) TILE(3, filters) TILE(4, filters)
#define TILE_NAMES(filters)                                                                                            \
    { tile_1_##filters, tile_2_##filters, tile_3_##filters, tile_4_##filters }
#endif
TILES(1)
TILES(2)
TILES(3)
TILES(4)
#if LANES == 16 || defined(__aarch64__)
TILES(5)
TILES(6)
#endif
static conv_tile *const tiles[FILTERS][PIXELS] = { TILE_NAMES(1), TILE_NAMES(2), TILE_NAMES(3), TILE_NAMES(4),
#if LANES == 16 || defined(__aarch64__)
                                                   TILE_NAMES(5), TILE_NAMES(6)
#endif
};

/* ---- Run --------------------------------------------------------------------------------------------------------- */
/* All channels of so many pixels; the tiles have filters of equal number, or one less. */
static void make_pixels(const conv_walk *walk, const tap_walk *t, int pixels, const float *x, const float *w,
                        const tile_finish *finish, float *y) {
    const int64_t results = walk->results, pieces = div_up(results, FILTERS);
    for (int64_t i = 0; i < pieces; i++) {
        int64_t begin = results * i / pieces, end = results * (i + 1) / pieces;
        tiles[end - begin - 1][pixels - 1](t, x, w + begin, finish->bias ? finish->bias + begin : NULL,
                                           y + begin * LANES);
    }
    if (finish->activation == FV_LINEAR) return;
    const int64_t pixel = results * LANES, together = t->y_pixel == pixel ? pixels : 1;
    for (int p = 0; p < pixels; p += (int)together)
        activate_line(y + p * t->y_pixel, together * pixel, finish->activation, finish->alpha);
}

/* The results of a run of rows and a run of columns. */
static void make_rectangle(const conv_walk *walk, const axis_run *rows, const axis_run *columns, const float *x,
                           const float *w, const tile_finish *finish, float *y) {
    const int64_t cell = walk->channels * LANES, taps_row = walk->problem.taps[1] * walk->channels * walk->results,
                  tap = walk->channels * walk->results, pixel = walk->results * LANES;
    const bool across = columns->count >= rows->count, joined = columns->tap_step == 1 && columns->tap_source == 1;
    const axis_run *along = across ? columns : rows, *other = across ? rows : columns;
    tap_walk t = {
        .rows = rows->taps,
        .columns = joined ? 1 : columns->taps,
        .length = joined ? columns->taps * walk->channels : walk->channels,
        .x_row = rows->tap_source * walk->source_row,
        .x_column = columns->tap_source * cell,
        .x_pixel = along->source_step * (across ? cell : walk->source_row),
        .y_pixel = along->step * (across ? pixel : walk->row),
        .w_row = rows->tap_step * taps_row,
        .w_column = columns->tap_step * tap,
        .w_channel = walk->results,
    };
    const int64_t next_x = other->source_step * (across ? walk->source_row : cell),
                  next_y = other->step * (across ? walk->row : pixel), pieces = div_up(along->count, PIXELS);
    x += rows->source * walk->source_row + columns->source * cell;
    w += rows->tap * taps_row + columns->tap * tap;
    y += rows->first * walk->row + columns->first * pixel;
    for (int64_t line = 0; line < other->count; line++, x += next_x, y += next_y)
        for (int64_t i = 0; i < pieces; i++) {
            int64_t begin = along->count * i / pieces, end = along->count * (i + 1) / pieces;
            make_pixels(walk, &t, (int)(end - begin), x + begin * t.x_pixel, w, finish, y + begin * t.y_pixel);
        }
}

static void conv_block_run(const block_call *call) {
    const conv_walk *walk = call->step->own;
    const tile_finish finish = conv_finish(call->step->task);
    for (int64_t i = 0; i < walk->run_count[0]; i++)
        for (int64_t j = 0; j < walk->run_count[1]; j++)
            make_rectangle(walk, &walk->runs[0][i], &walk->runs[1][j], call->task->input[0].data, call->step->packed,
                           &finish, call->task->output[0].data);
}

const block_kernel ISA(block_convolution) = { .why_not = conv_why_not,
                                              .prepare = conv_block_prepare,
                                              .pack = conv_block_pack,
                                              .run = conv_block_run,
                                              .gain = ISA(block_conv_gain),
                                              .images = 1 };
