/* conv_depthwise.c - one filter a channel: no product of matrices but vectors across the channels. Filters are
 * turned to [tap][channel]. Forward and data gradient are the same walk over results: a block of pixels that the same
 * taps reach, times a block of channels, has its sums in registers. The weight gradient keeps the sums of a few taps
 * there along a row, and adds a fixed number of parts in order. All three are as fast as memory, or nearly so. */
#include "cpu/conv.h"
#include "cpu/functions.h"

static const char *not_depthwise(const conv_problem *p) {
    if (p->groups == 1) return "one group";
    return p->groups == p->channels && p->groups == p->filters ? NULL : "several channels or filters a group";
}

/* ---- Forward and data gradient ----------------------------------------------------------------------------------- */
enum { PIXELS = 4, PIXEL_VECTORS = 2, SINGLE_VECTORS = 4 }; /* of a block; of one that has a single pixel */

typedef struct reach {
    int32_t tap, at; /* at: where it reads */
} reach;

/* The taps that reach each result on one axis, ascending: reaches[first[o]] .. reaches[first[o + 1] - 1]. */
typedef struct depthwise_axis {
    int32_t *first;
    reach *reaches;
} depthwise_axis;

typedef struct depthwise_plan {
    bool gradient;
    int64_t source[2], result[2]; /* height, width of what is read and written */
    int64_t apart, source_step;   /* pixels of a block; how far apart they read */
    depthwise_axis axis[2];
} depthwise_plan;

typedef struct depthwise_run {
    const conv_problem *p;
    const depthwise_plan *d;
    const float *source, *filters;
    float *result;
    tile_finish finish;
} depthwise_run;

static size_t filter_bytes(const conv_problem *p) { return sizeof(float) * (size_t)(conv_taps(p) * p->channels); }

static int prepare(fv_device *device, fv_task *task, conv_plan *plan, bool gradient) {
    const conv_problem *p = &plan->problem;
    const int64_t *result = gradient ? p->x_size : p->y_size, *source = gradient ? p->y_size : p->x_size;
    size_t bytes = sizeof(depthwise_plan);
    for (int axis = 0; axis < 2; axis++)
        bytes +=
            sizeof(reach) * (size_t)(result[axis] * p->taps[axis] + 1) + sizeof(int32_t) * (size_t)(result[axis] + 2);
    depthwise_plan *d = plan->own = device->host.alloc(device->host.context, bytes, "a depthwise convolution's plan");
    if (!d) return FV_ERROR_MEMORY;
    *d = (depthwise_plan){ .gradient = gradient,
                           .source = { source[0], source[1] },
                           .result = { result[0], result[1] },
                           .apart = gradient ? p->stride[1] : 1,
                           .source_step = gradient ? 1 : p->stride[1] };
    reach *reaches = (reach *)(d + 1);
    for (int axis = 0; axis < 2; axis++) {
        d->axis[axis].reaches = reaches;
        reaches += result[axis] * p->taps[axis];
    }
    int32_t *first = (int32_t *)reaches;
    for (int axis = 0; axis < 2; axis++, first += result[axis - 1] + 1) {
        int32_t count = 0;
        d->axis[axis].first = first;
        for (int64_t o = 0; o < result[axis]; o++) {
            for (int64_t t = 0; t < p->taps[axis]; t++) {
                int64_t at = conv_reads(p, gradient, axis, o, t);
                if (at >= 0) d->axis[axis].reaches[count++] = (reach){ (int32_t)t, (int32_t)at };
            }
            first[o + 1] = count;
        }
    }
    conv_ask_filters(task, filter_bytes(p), 0);
    return FV_OK;
}
static int prepare_forward(fv_device *device, fv_task *task, conv_plan *plan) {
    return prepare(device, task, plan, false);
}
static int prepare_data(fv_device *device, fv_task *task, conv_plan *plan) { return prepare(device, task, plan, true); }

/* Are the taps that reach two results of a row the same? Then so are those of the results between them. */
static bool same_reach(const depthwise_axis *axis, int64_t a, int64_t b) {
    int32_t count = axis->first[a + 1] - axis->first[a];
    return count == axis->first[b + 1] - axis->first[b] &&
           (!count || axis->reaches[axis->first[a]].tap == axis->reaches[axis->first[b]].tap);
}

/* The sums of some pixels for some vectors of channels; left: channels from c on, where one vector is asked for. */
INLINE void block(const depthwise_run *run, const int pixels, const int vectors, const float *image, int64_t y,
                  int64_t x, int64_t c, int64_t left, float *out) {
    const conv_problem *p = run->p;
    const depthwise_plan *d = run->d;
    const depthwise_axis *rows = &d->axis[0], *columns = &d->axis[1];
    const int64_t step = d->source_step * p->channels, out_step = d->apart * p->channels;
    vf sum[PIXELS][SINGLE_VECTORS];
    for (int v = 0; v < vectors; v++) {
        const float *bias = run->finish.bias;
        vf begin = !bias ? (vf){ 0 } : vectors > 1 ? load(bias + c + v * LANES) : load_up_to(bias + c, left);
        for (int i = 0; i < pixels; i++) sum[i][v] = begin;
    }
    for (int32_t r = rows->first[y]; r < rows->first[y + 1]; r++) {
        const float *line = image + rows->reaches[r].at * d->source[1] * p->channels + c;
        const float *filter = run->filters + rows->reaches[r].tap * p->taps[1] * p->channels + c;
        for (int32_t s = columns->first[x]; s < columns->first[x + 1]; s++) {
            const float *from = line + columns->reaches[s].at * p->channels;
            const float *w = filter + columns->reaches[s].tap * p->channels;
            UNROLL(4)
            for (int v = 0; v < vectors; v++) {
                vf weight = vectors > 1 ? load(w + v * LANES) : load_up_to(w, left);
                UNROLL(4)
                for (int i = 0; i < pixels; i++) {
                    const float *at = from + i * step + v * LANES;
                    sum[i][v] += (vectors > 1 ? load(at) : load_up_to(at, left)) * weight;
                }
            }
        }
    }
    for (int i = 0; i < pixels; i++)
        for (int v = 0; v < vectors; v++) {
            vf y_vector = activate_any(sum[i][v], run->finish.activation);
            if (vectors > 1)
                store(out + i * out_step + v * LANES, y_vector);
            else
                store_up_to(out + i * out_step, y_vector, left);
        }
}
INLINE void all_channels(const depthwise_run *run, const int pixels, const int vectors, const float *image, int64_t y,
                         int64_t x, float *out) {
    int64_t c = 0, channels = run->p->channels;
    for (; c + vectors * LANES <= channels; c += vectors * LANES)
        block(run, pixels, vectors, image, y, x, c, 0, out + c);
    for (; c < channels; c += LANES) block(run, pixels, 1, image, y, x, c, channels - c, out + c);
}
static void run_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const depthwise_run *run = argument;
    const depthwise_plan *d = run->d;
    const int64_t channels = run->p->channels, width = d->result[1], across = (PIXELS - 1) * d->apart;
    for (int64_t row = begin; row < end; row++) {
        const float *image = run->source + row / d->result[0] * d->source[0] * d->source[1] * channels;
        int64_t y = row % d->result[0];
        float *out = run->result + row * width * channels;
        for (int64_t residue = 0; residue < d->apart; residue++)
            for (int64_t x = residue; x < width;) {
                bool several = x + across < width && same_reach(&d->axis[1], x, x + across);
                if (several)
                    all_channels(run, PIXELS, PIXEL_VECTORS, image, y, x, out + x * channels);
                else
                    all_channels(run, 1, SINGLE_VECTORS, image, y, x, out + x * channels);
                x += several ? PIXELS * d->apart : d->apart;
            }
        if (!is_inline(run->finish.activation))
            activate_line(out, width * channels, run->finish.activation, run->finish.alpha);
    }
}

static void turn_filters(const float *w, const conv_problem *p, bool gradient, float *out) {
    int64_t taps = conv_taps(p);
    for (int64_t t = 0; t < taps; t++)
        for (int64_t c = 0; c < p->channels; c++) out[t * p->channels + c] = w[c * taps + conv_weight(p, gradient, t)];
}

static int apply(fv_device *device, const fv_task *task, const conv_plan *plan) {
    const conv_problem *p = &plan->problem;
    const depthwise_plan *d = plan->own;
    float *filters, *rest;
    if (conv_take_filters(task, filter_bytes(p), &filters, &rest))
        turn_filters(task->input[1].data, p, d->gradient, filters);
    depthwise_run run = { .p = p,
                          .d = d,
                          .source = task->input[0].data,
                          .filters = filters,
                          .result = task->output[0].data,
                          .finish = conv_finish(task) };
    int64_t row = d->result[1] * p->channels;
    fv_parallel(device, p->images * d->result[0], 20000 / (row * conv_taps(p) / LANES + 1) + 1, run_rows, &run);
    return FV_OK;
}
const conv_algorithm ISA(conv_depthwise_forward) = { "depthwise", not_depthwise, prepare_forward, apply, NULL };
const conv_algorithm ISA(conv_depthwise_data) = { "depthwise", not_depthwise, prepare_data, apply, NULL };

/* ---- Weight gradient --------------------------------------------------------------------------------------------- */
enum { PARTS = 32, TAPS = 3, WEIGHT_VECTORS = 4, BAND = 4096 }; /* BAND: floats of dy that are read tap by tap */

typedef struct range {
    int64_t first, end;
} range;

typedef struct weight_run {
    const conv_problem *p;
    const range *reached; /* by column of taps: the results of a row that it reaches */
    const float *x, *dy;
    float *sums; /* [part][tap][channels] */
    int64_t parts;
} weight_run;

/* Adds what rows first .. end-1 of an image bring to `taps` taps from (r, s) on, for some vectors of channels. */
INLINE void add_taps(const weight_run *run, const int taps, const int vectors, int64_t image, int64_t first,
                     int64_t end, int64_t r, int64_t s, int64_t channel, int64_t left, float *sums) {
    const conv_problem *p = run->p;
    const int64_t n = p->channels, apart = p->dilation[1] * n, step = p->stride[1] * n;
    const range *reached = run->reached + s;
    int64_t low = 0, high = p->y_size[1];
    for (int t = 0; t < taps; t++) low = most(low, reached[t].first), high = least(high, reached[t].end);
    high = most(low, high); /* all taps reach low .. high-1 */
    vf sum[TAPS][WEIGHT_VECTORS];
    float *own = sums + (r * p->taps[1] + s) * n + channel;
    UNROLL(4)
    for (int t = 0; t < taps; t++)
        for (int v = 0; v < vectors; v++)
            sum[t][v] = vectors > 1 ? load(own + t * n + v * LANES) : load_up_to(own + t * n, left);
#define ADD(t)                                                                                                         \
    for (int v = 0; v < vectors; v++)                                                                                  \
        sum[t][v] += (vectors > 1 ? load(a + t * apart + v * LANES) : load_up_to(a + t * apart, left)) *               \
                     (vectors > 1 ? load(b + v * LANES) : load_up_to(b, left));
    for (int64_t y = first; y < end; y++) {
        int64_t at_y = conv_reads(p, false, 0, y, r);
        if (at_y < 0) continue;
        const float *line = run->x + (image * p->x_size[0] + at_y) * p->x_size[1] * n + channel;
        const int64_t origin = (s * p->dilation[1] - p->pad[1]) * n;
        const float *dy = run->dy + (image * p->y_size[0] + y) * p->y_size[1] * n + channel;
        const float *a = line + origin + low * step, *b = dy + low * n;
        for (int64_t x = low; x < high; x++, a += step, b += n) {
            UNROLL(4)
            for (int t = 0; t < taps; t++) { UNROLL(4) ADD(t) }
        }
        UNROLL(4)
        for (int t = 0; t < taps; t++) {
            int64_t stop = least(low, reached[t].end);
            int64_t start = reached[t].first < stop ? reached[t].first : high;
            for (int64_t x = start; x < reached[t].end; x = x + 1 == stop ? high : x + 1) {
                a = line + origin + x * step, b = dy + x * n;
                UNROLL(4) ADD(t)
            }
        }
    }
#undef ADD
    UNROLL(4)
    for (int t = 0; t < taps; t++)
        for (int v = 0; v < vectors; v++)
            if (vectors > 1)
                store(own + t * n + v * LANES, sum[t][v]);
            else
                store_up_to(own + t * n, sum[t][v], left);
}
INLINE void add_band(const weight_run *run, const int vectors, int64_t image, int64_t first, int64_t end,
                     int64_t channel, int64_t left, float *sums) {
    const conv_problem *p = run->p;
    for (int64_t r = 0; r < p->taps[0]; r++) {
        int64_t s = 0;
        for (; s + TAPS <= p->taps[1]; s += TAPS)
            add_taps(run, TAPS, vectors, image, first, end, r, s, channel, left, sums);
        for (; s < p->taps[1]; s++) add_taps(run, 1, vectors, image, first, end, r, s, channel, left, sums);
    }
}
/* Band by band, so that memory is read from one end to the other. */
static void add_image(const weight_run *run, int64_t image, float *sums) {
    const conv_problem *p = run->p;
    int64_t band = most(1, BAND / (p->y_size[1] * p->channels));
    for (int64_t first = 0; first < p->y_size[0]; first += band) {
        int64_t end = least(first + band, p->y_size[0]), c = 0;
        for (; c + WEIGHT_VECTORS * LANES <= p->channels; c += WEIGHT_VECTORS * LANES)
            add_band(run, WEIGHT_VECTORS, image, first, end, c, 0, sums);
        for (; c + 2 * LANES <= p->channels; c += 2 * LANES) add_band(run, 2, image, first, end, c, 0, sums);
        for (; c < p->channels; c += LANES) add_band(run, 1, image, first, end, c, p->channels - c, sums);
    }
}
static void sum_parts(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const weight_run *run = argument;
    const conv_problem *p = run->p;
    int64_t floats = conv_taps(p) * p->channels;
    for (int64_t part = begin; part < end; part++) {
        float *sums = run->sums + part * floats;
        zero_floats(sums, floats);
        for (int64_t image = p->images * part / run->parts; image < p->images * (part + 1) / run->parts; image++)
            add_image(run, image, sums);
    }
}

static int prepare_weights(fv_device *device, fv_task *task, conv_plan *plan) {
    const conv_problem *p = &plan->problem;
    range *reached = plan->own = device->host.alloc(device->host.context, sizeof *reached * (size_t)p->taps[1],
                                                    "a depthwise convolution's plan");
    if (!reached) return FV_ERROR_MEMORY;
    for (int64_t s = 0; s < p->taps[1]; s++) {
        int64_t before = p->pad[1] - s * p->dilation[1], last = p->x_size[1] - 1 + before;
        reached[s].first = before > 0 ? div_up(before, p->stride[1]) : 0;
        reached[s].end = last < 0 ? 0 : least(last / p->stride[1] + 1, p->y_size[1]);
    }
    task->scratch_bytes = filter_bytes(p) * (size_t)least(PARTS, p->images);
    return FV_OK;
}
static int apply_weights(fv_device *device, const fv_task *task, const conv_plan *plan) {
    const conv_problem *p = &plan->problem;
    weight_run run = { .p = p,
                       .reached = plan->own,
                       .x = task->input[0].data,
                       .dy = task->input[1].data,
                       .sums = task->scratch,
                       .parts = least(PARTS, p->images) };
    fv_parallel(device, run.parts, 1, sum_parts, &run);
    int64_t taps = conv_taps(p), floats = taps * p->channels;
    for (int64_t i = 0; i < floats; i += LANES) {
        vf sum = load_up_to(run.sums + i, floats - i);
        for (int64_t part = 1; part < run.parts; part++) sum += load_up_to(run.sums + part * floats + i, floats - i);
        store_up_to(run.sums + i, sum, floats - i);
    }
    float *dw = task->output[0].data;
    for (int64_t t = 0; t < taps; t++)
        for (int64_t c = 0; c < p->channels; c++)
            dw[c * taps + conv_weight(p, false, t)] = run.sums[t * p->channels + c];
    return FV_OK;
}
const conv_algorithm ISA(conv_depthwise_weights) = { "depthwise", not_depthwise, prepare_weights, apply_weights, NULL };
