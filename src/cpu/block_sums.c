/* block_sums.c - sums over the images of a block: weight gradients of convolutions and sums over all axes but the last
 * (bias gradients). Every result has a vector of its own, a lane an image; lanes are added at the end of a unit. */
#include "cpu/block.h"

#if LANES == 16 || defined(__aarch64__)
enum { CELLS = 6, FILTERS = 4 }; /* 24 sums in 32 registers */
#else
enum { CELLS = 3, FILTERS = 4 }; /* 12 in 16 */
#endif
enum { BAND = 24 << 10 }; /* bytes of dy and x that go by before the sums change */

/* ---- Weight gradient: dw[k][r][s][c] += x[cell (r, s, c) of a pixel] dy[pixel][k] -------------------------------- */
/* Sums of some cells and filters over rows of pixels. */
typedef struct sums_walk {
    int64_t rows, columns;                      /* of pixels */
    int64_t x_row, x_column, dy_row, dy_column; /* floats from one to the next */
    int64_t filter;                             /* floats between the sums of two filters */
    vi live;                                    /* lanes that hold images */
} sums_walk;
typedef void sums_tile(const sums_walk *, const float *x, const float *dy, float *sums);

INLINE void sums_of(const sums_walk *given, const float *x, const float *dy, float *sums, const int cells,
                    const int filters) {
    const sums_walk t = *given;
    vf sum[CELLS][FILTERS];
    UNROLL(8)
    for (int c = 0; c < cells; c++) UNROLL(8)
    for (int f = 0; f < filters; f++) sum[c][f] = (vf){ 0 };
    for (int64_t p = 0; p < t.rows; p++) {
        const float *from = x + p * t.x_row, *slope = dy + p * t.dy_row;
        ROLLED
        for (int64_t q = 0; q < t.columns; q++, from += t.x_column, slope += t.dy_column) {
            vf d[FILTERS];
            UNROLL(8)
            for (int f = 0; f < filters; f++) d[f] = load(slope + f * LANES);
            UNROLL(8)
            for (int c = 0; c < cells; c++) {
                vf v = load(from + c * LANES);
                UNROLL(8)
                for (int f = 0; f < filters; f++) sum[c][f] += v * d[f];
            }
        }
    }
    UNROLL(8)
    for (int f = 0; f < filters; f++) UNROLL(8)
    for (int c = 0; c < cells; c++) {
        float *to = sums + f * t.filter + c * LANES;
        store(to, load(to) + keep_if(t.live, sum[c][f]));
    }
}

#define TILE(cells, filters)                                                                                           \
    static void sums_##cells##_##filters(const sums_walk *t, const float *x, const float *dy, float *sums) {           \
        sums_of(t, x, dy, sums, cells, filters);                                                                       \
    }
#define TILES(cells) TILE(cells, 1) TILE(cells, 2) TILE(cells, 3) TILE(cells, 4)
#define TILE_NAMES(cells)                                                                                              \
    { sums_##cells##_1, sums_##cells##_2, sums_##cells##_3, sums_##cells##_4 }
TILES(1)
TILES(2)
TILES(3)
#if LANES == 16 || defined(__aarch64__)
TILES(4)
TILES(5)
TILES(6)
#endif
static sums_tile *const tiles[CELLS][FILTERS] = { TILE_NAMES(1), TILE_NAMES(2), TILE_NAMES(3),
#if LANES == 16 || defined(__aarch64__)
                                                  TILE_NAMES(4), TILE_NAMES(5), TILE_NAMES(6)
#endif
};

/* What the taps reach: the image with its border of zeros, where it has one. */
typedef struct weights_plan {
    conv_problem problem;
    int64_t size[2];
    bool bordered;
} weights_plan;

static const char *weights_why_not(const fv_task *task) {
    const conv_problem p = conv_problem_of(task);
    if (p.groups != 1) return "groups";
    if (p.flip) return "a kernel read from its end";
    return p.y_size[0] * p.y_size[1] < 16 ? "few pixels" : NULL;
}

static int weights_prepare(fv_device *device, block_step *step) {
    weights_plan *plan = device->host.alloc(device->host.context, sizeof *plan, "a group's plan");
    if (!plan) return FV_ERROR_MEMORY;
    conv_problem *p = &plan->problem;
    *p = conv_problem_of(step->task);
    for (int axis = 0; axis < 2; axis++) {
        plan->size[axis] = (p->y_size[axis] - 1) * p->stride[axis] + (p->taps[axis] - 1) * p->dilation[axis] + 1;
        if (p->pad[axis] || plan->size[axis] > p->x_size[axis]) plan->bordered = true;
    }
    step->own = plan;
    if (plan->bordered)
        step->scratch_bytes = sizeof(float) * LANES * (size_t)(plan->size[0] * plan->size[1] * p->channels);
    else
        plan->size[1] = p->x_size[1];
    return FV_OK;
}

static const float *with_border(const block_call *call) {
    const weights_plan *plan = call->step->own;
    const conv_problem *p = &plan->problem;
    const float *x = call->task->input[0].data;
    if (!plan->bordered) return x;
    const int64_t cell = p->channels * LANES, before = p->pad[1], begin = most(0, before),
                  end = least(plan->size[1], before + p->x_size[1]);
    for (int64_t row = 0; row < plan->size[0]; row++) {
        float *to = call->scratch + row * plan->size[1] * cell;
        int64_t from = row - p->pad[0];
        if (from < 0 || from >= p->x_size[0] || begin >= end) {
            zero_floats(to, plan->size[1] * cell);
            continue;
        }
        zero_floats(to, begin * cell);
        copy_floats(to + begin * cell, x + (from * p->x_size[1] + begin - before) * cell, (end - begin) * cell);
        zero_floats(to + end * cell, (plan->size[1] - end) * cell);
    }
    return call->scratch;
}

/* One row of taps, or one tap, for the pixels of a band: cells that lie together times all filters. */
static void band_of_taps(const conv_problem *p, const sums_walk *t, int64_t cells, const float *x, const float *dy,
                         float *sums) {
    const int64_t cell_pieces = div_up(cells, CELLS), filter_pieces = div_up(p->filters, FILTERS);
    for (int64_t j = 0; j < filter_pieces; j++) {
        int64_t k = p->filters * j / filter_pieces, filters = p->filters * (j + 1) / filter_pieces - k;
        for (int64_t i = 0; i < cell_pieces; i++) {
            int64_t c = cells * i / cell_pieces, width = cells * (i + 1) / cell_pieces - c;
            tiles[width - 1][filters - 1](t, x + c * LANES, dy + k * LANES, sums + k * t->filter + c * LANES);
        }
    }
}

static void weights_run(const block_call *call) {
    const weights_plan *plan = call->step->own;
    const conv_problem *p = &plan->problem;
    const float *x = with_border(call), *dy = call->task->input[1].data;
    const int64_t cell = p->channels * LANES, row = plan->size[1] * cell, pixel = p->filters * LANES;
    const bool joined = p->dilation[1] == 1;
    sums_walk t = { .columns = p->y_size[1],
                    .x_row = p->stride[0] * row,
                    .x_column = p->stride[1] * cell,
                    .dy_row = p->y_size[1] * pixel,
                    .dy_column = pixel,
                    .filter = conv_taps(p) * cell,
                    .live = lane_numbers() < (int32_t)call->images };
    const int64_t line = (int64_t)sizeof(float) * LANES * p->y_size[1] * (FILTERS + p->channels),
                  band = most(1, BAND / line);
    for (int64_t top = 0; top < p->y_size[0]; top += band) {
        t.rows = least(band, p->y_size[0] - top);
        for (int64_t r = 0; r < p->taps[0]; r++)
            for (int64_t s = 0; s < (joined ? 1 : p->taps[1]); s++)
                band_of_taps(p, &t, joined ? p->taps[1] * p->channels : p->channels,
                             x + top * t.x_row + r * p->dilation[0] * row + s * p->dilation[1] * cell,
                             dy + top * t.dy_row, call->sums + (r * p->taps[1] + s) * cell);
    }
}

const block_kernel ISA(block_weight_gradient) = { .why_not = weights_why_not,
                                                  .prepare = weights_prepare,
                                                  .run = weights_run,
                                                  .gain = ISA(block_conv_gain),
                                                  .images = 3,
                                                  .sums = true };

/* ---- Sums over all axes but the last ----------------------------------------------------------------------------- */
static const char *sum_why_not(const fv_task *task) {
    const fv_tensor *x = &task->input[0];
    if (x->rank < 3) return "no pixels";
    return task->attributes->reduce.axes == (1u << (x->rank - 1)) - 1 ? NULL : "axes";
}

/* The weight gradient of an input that is 1 everywhere. Short sums first: they keep more digits. */
static void sum_run(const block_call *call) {
    enum { SHORT = 32 };
    const int64_t channels = call->step->sums, pixels = fv_elements(&call->task->input[0]) / (channels * LANES);
    const vf one = splat(1.0f);
    sums_walk t = {
        .rows = 1, .dy_column = channels * LANES, .filter = LANES, .live = lane_numbers() < (int32_t)call->images
    };
    for (int64_t begin = 0; begin < pixels; begin += SHORT) {
        t.columns = least(SHORT, pixels - begin);
        for (int64_t c = 0; c < channels; c += FILTERS)
            tiles[0][least(FILTERS, channels - c) - 1](
                &t, (const float *)&one, (const float *)call->task->input[0].data + (begin * channels + c) * LANES,
                call->sums + c * LANES);
    }
}

const block_kernel ISA(block_sum) = { .why_not = sum_why_not, .run = sum_run, .images = 1, .sums = true };
