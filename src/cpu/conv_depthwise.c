/* conv_depthwise.c - one filter a channel: no product of matrices but vectors across the channels. Filters are
 * turned to [tap][channel] first. Forward and data gradient are the same walk; the weight gradient adds a fixed
 * number of parts in order. */
#include "cpu/conv.h"
#include "cpu/functions.h"

enum { PARTS = 32, BLOCK = 4 };

typedef struct depthwise_run {
    const conv_problem *p;
    bool gradient;
    const float *source, *dy;
    float *result, *scratch; /* turned filters, or the sums of the parts: [part][tap][channels] */
    int64_t parts;
} depthwise_run;

static const char *not_depthwise(const conv_problem *p) {
    if (p->groups == 1) return "one group";
    return p->groups == p->channels && p->groups == p->filters ? NULL : "several channels or filters a group";
}

static int prepare_filters(fv_device *device, fv_task *task, conv_plan *plan) {
    (void)device;
    task->scratch_bytes = sizeof(float) * (size_t)(conv_taps(&plan->problem) * plan->problem.channels);
    return FV_OK;
}

/* ---- Forward and data gradient ----------------------------------------------------------------------------------- */
INLINE void pixel(const depthwise_run *run, const int vectors, int64_t image, int64_t y, int64_t x, int64_t channel,
                  int64_t left, float *out) {
    const conv_problem *p = run->p;
    int64_t height = run->gradient ? p->y_size[0] : p->x_size[0], width = run->gradient ? p->y_size[1] : p->x_size[1];
    vf sum[BLOCK];
    for (int v = 0; v < vectors; v++) sum[v] = (vf){ 0 };
    for (int64_t r = 0; r < p->taps[0]; r++) {
        int64_t at_y = conv_reads(p, run->gradient, 0, y, r);
        if (at_y < 0) continue;
        for (int64_t s = 0; s < p->taps[1]; s++) {
            int64_t at_x = conv_reads(p, run->gradient, 1, x, s);
            if (at_x < 0) continue;
            const float *from = run->source + ((image * height + at_y) * width + at_x) * p->channels + channel;
            const float *w = run->scratch + (r * p->taps[1] + s) * p->channels + channel;
            if (vectors == 1)
                sum[0] += load_up_to(from, left) * load_up_to(w, left);
            else
                for (int v = 0; v < vectors; v++) sum[v] += load(from + v * LANES) * load(w + v * LANES);
        }
    }
    if (vectors == 1)
        store_up_to(out, sum[0], left);
    else
        for (int v = 0; v < vectors; v++) store(out + v * LANES, sum[v]);
}
static void run_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const depthwise_run *run = argument;
    const conv_problem *p = run->p;
    int64_t height = run->gradient ? p->x_size[0] : p->y_size[0], width = run->gradient ? p->x_size[1] : p->y_size[1];
    for (int64_t row = begin; row < end; row++)
        for (int64_t x = 0; x < width; x++) {
            float *out = run->result + (row * width + x) * p->channels;
            int64_t c = 0;
            for (; c + BLOCK * LANES <= p->channels; c += BLOCK * LANES)
                pixel(run, BLOCK, row / height, row % height, x, c, 0, out + c);
            for (; c < p->channels; c += LANES)
                pixel(run, 1, row / height, row % height, x, c, p->channels - c, out + c);
        }
}

static void turn_filters(const float *w, const conv_problem *p, bool gradient, float *out) {
    int64_t taps = conv_taps(p);
    for (int64_t t = 0; t < taps; t++)
        for (int64_t c = 0; c < p->channels; c++) out[t * p->channels + c] = w[c * taps + conv_weight(p, gradient, t)];
}

static void finish_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    tile_finish finish = conv_finish(task);
    int64_t n = columns_of(&task->output[0]);
    for (int64_t row = begin; row < end; row++) {
        float *line = (float *)task->output[0].data + row * n;
        for (int64_t c = 0; c < n; c += LANES) {
            vf x = load_up_to(line + c, n - c);
            if (finish.bias) x += load_up_to(finish.bias + c, n - c);
            store_up_to(line + c, activate_any(x, finish.activation), n - c);
        }
        if (!is_inline(finish.activation)) activate_line(line, n, finish.activation, finish.alpha);
    }
}

static int apply(fv_device *device, const fv_task *task, const conv_plan *plan, bool gradient) {
    const conv_problem *p = &plan->problem;
    depthwise_run run = { .p = p,
                          .gradient = gradient,
                          .source = task->input[0].data,
                          .result = task->output[0].data,
                          .scratch = task->scratch };
    turn_filters(task->input[1].data, p, gradient, run.scratch);
    const int64_t *size = gradient ? p->x_size : p->y_size;
    int64_t row = size[1] * p->channels;
    fv_parallel(device, p->images * size[0], 20000 / (row * conv_taps(p) / LANES + 1) + 1, run_rows, &run);
    tile_finish finish = conv_finish(task);
    if (finish.bias || finish.activation != FV_LINEAR)
        fv_parallel(device, p->images * size[0] * size[1], 8192 / p->channels + 1, finish_rows, task);
    return FV_OK;
}
static int apply_forward(fv_device *device, const fv_task *task, const conv_plan *plan) {
    return apply(device, task, plan, false);
}
static int apply_data(fv_device *device, const fv_task *task, const conv_plan *plan) {
    return apply(device, task, plan, true);
}
const conv_algorithm ISA(conv_depthwise_forward) = { "depthwise", not_depthwise, prepare_filters, apply_forward, NULL };
const conv_algorithm ISA(conv_depthwise_data) = { "depthwise", not_depthwise, prepare_filters, apply_data, NULL };

/* ---- Weight gradient --------------------------------------------------------------------------------------------- */
/* Adds row y of an image to the sums of one block of channels. */
INLINE void add_row(const depthwise_run *run, const int vectors, int64_t image, int64_t y, int64_t channel,
                    int64_t left, float *sums) {
    const conv_problem *p = run->p;
    const float *dy = run->dy + (image * p->y_size[0] + y) * p->y_size[1] * p->channels + channel;
    for (int64_t r = 0; r < p->taps[0]; r++) {
        int64_t at_y = conv_reads(p, false, 0, y, r);
        if (at_y < 0) continue;
        const float *line = run->source + (image * p->x_size[0] + at_y) * p->x_size[1] * p->channels + channel;
        for (int64_t s = 0; s < p->taps[1]; s++) {
            float *to = sums + (r * p->taps[1] + s) * p->channels + channel;
            vf sum[BLOCK];
            for (int v = 0; v < vectors; v++) sum[v] = vectors == 1 ? load_up_to(to, left) : load(to + v * LANES);
            for (int64_t x = 0; x < p->y_size[1]; x++) {
                int64_t at_x = conv_reads(p, false, 1, x, s);
                if (at_x < 0) continue;
                const float *a = line + at_x * p->channels, *b = dy + x * p->channels;
                if (vectors == 1)
                    sum[0] += load_up_to(a, left) * load_up_to(b, left);
                else
                    for (int v = 0; v < vectors; v++) sum[v] += load(a + v * LANES) * load(b + v * LANES);
            }
            if (vectors == 1)
                store_up_to(to, sum[0], left);
            else
                for (int v = 0; v < vectors; v++) store(to + v * LANES, sum[v]);
        }
    }
}
static void sum_parts(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const depthwise_run *run = argument;
    const conv_problem *p = run->p;
    int64_t floats = conv_taps(p) * p->channels;
    for (int64_t part = begin; part < end; part++) {
        float *sums = run->scratch + part * floats;
        zero_floats(sums, floats);
        for (int64_t image = p->images * part / run->parts; image < p->images * (part + 1) / run->parts; image++)
            for (int64_t y = 0; y < p->y_size[0]; y++) {
                int64_t c = 0;
                for (; c + BLOCK * LANES <= p->channels; c += BLOCK * LANES) add_row(run, BLOCK, image, y, c, 0, sums);
                for (; c < p->channels; c += LANES) add_row(run, 1, image, y, c, p->channels - c, sums);
            }
    }
}

static int prepare_weights(fv_device *device, fv_task *task, conv_plan *plan) {
    (void)device;
    const conv_problem *p = &plan->problem;
    task->scratch_bytes = sizeof(float) * (size_t)(conv_taps(p) * p->channels * least(PARTS, p->images));
    return FV_OK;
}
static int apply_weights(fv_device *device, const fv_task *task, const conv_plan *plan) {
    const conv_problem *p = &plan->problem;
    depthwise_run run = { .p = p,
                          .source = task->input[0].data,
                          .dy = task->input[1].data,
                          .scratch = task->scratch,
                          .parts = least(PARTS, p->images) };
    fv_parallel(device, run.parts, 1, sum_parts, &run);
    int64_t taps = conv_taps(p);
    float *dw = task->output[0].data;
    for (int64_t t = 0; t < taps; t++)
        for (int64_t c = 0; c < p->channels; c++) {
            float sum = 0;
            for (int64_t part = 0; part < run.parts; part++) sum += run.scratch[(part * taps + t) * p->channels + c];
            dw[c * taps + conv_weight(p, false, t)] = sum;
        }
    return FV_OK;
}
const conv_algorithm ISA(conv_depthwise_weights) = { "depthwise", not_depthwise, prepare_weights, apply_weights, NULL };
