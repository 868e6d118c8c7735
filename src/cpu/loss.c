/* loss.c - losses over classes: softmax cross-entropy (with its gradient in the same pass in the fused form),
 * cross-entropy of probabilities, margins, angles; top-k and metrics. Rows are independent; within a row vectors run
 * along the classes. A target is a class number (i32) or a distribution (f32); a class number that is no class makes the
 * row NaN and is never read with, one that is to be ignored makes it zero. */
#include "cpu/cpu.h"
#include "cpu/simd.h"
#include <math.h>

static const float LEAST_PROBABILITY = 1e-7f;

typedef struct loss_run {
    const float *x, *dloss; /* dloss NULL: no gradient wanted */
    const float *weight;    /* of the classes; NULL: 1 */
    const fv_tensor *target;
    float *loss, *dx; /* NULL where not wanted */
    int64_t n;        /* of a row */
    fv_loss_attributes a;
} loss_run;

/* Target of classes j .., smoothed: t (1 - s) + s / n, in double, as the two may cancel; times the class weights. */
INLINE vf smoothed_target(const loss_run *run, int64_t row, int64_t j, int32_t label) {
    vf t;
    if (run->target->type == FV_I32) {
        t = keep_if(lane_numbers() == label - (int32_t)j, splat(1.0f));
    } else {
        t = load_up_to((const float *)run->target->data + row * run->n + j, run->n - j);
    }
    if (run->a.smoothing != 0)
        t = narrow(add_double(multiply_double(widen(t), splat_double(1.0 - (double)run->a.smoothing)),
                              splat_double((double)run->a.smoothing / (double)run->n)));
    return run->weight ? t * load_up_to(run->weight + j, run->n - j) : t;
}
static void fill_row(float *to, int64_t n, float value) {
    for (int64_t j = 0; j < n; j += LANES) store_up_to(to + j, splat(value), n - j);
}
/* Is the row done: its label ignored, or no class? Else its label. */
static bool without_label(const loss_run *run, int64_t row, int32_t *label) {
    *label = run->target->type == FV_I32 ? ((const int32_t *)run->target->data)[row] : 0;
    const bool ignored = run->a.ignore && run->target->type == FV_I32 && *label == run->a.label;
    if (!ignored && *label >= 0 && *label < run->n) return false;
    if (run->target->type != FV_I32) return false;
    if (run->loss) run->loss[row] = ignored ? 0 : NAN;
    if (run->dx) fill_row(run->dx + row * run->n, run->n, ignored ? 0 : NAN);
    return true;
}

/* ---- Softmax cross-entropy: loss = sum t_j f(p_j), dx = dloss (t_j s_j - p_j sum t s), p = softmax ---------------- */
/* f(p) = - (1 - p)^gamma log p and s = p f'(p), which is -1 without gamma (Lin et al. 2017). */
INLINE vf one_minus_exp(vf x) { /* of x <= 0, exact also near 0 */
    vi n;
    vf p = exp_parts(maximum(splat(-87.0f), x), &n), scale = power_of_two(n);
    return -(scale * p + (scale - 1.0f));
}
INLINE vf focal_slope(vf log_p, vf p, float gamma) {
    vf q = one_minus_exp(log_p), ratio = choose(q == 0.0f, splat(-1.0f), p * log_p / q);
    return power(q, gamma) * (ratio * gamma - 1.0f);
}

INLINE void softmax_row(const loss_run *run, int64_t row, const bool focal) {
    const float *x = run->x + row * run->n, gamma = run->a.gamma;
    int64_t n = run->n;
    int32_t label;
    if (without_label(run, row, &label)) return;
    vf best = splat(-__builtin_inff());
    for (int64_t j = 0; j < n; j += LANES) {
        vf v = pad_lanes(load_up_to(x + j, n - j), n - j, -__builtin_inff());
        best = choose((v > best) | (v != v), v, best);
    }
    float top = largest_lane(best);
    vf total = { 0 };
    for (int64_t j = 0; j < n; j += LANES)
        total += exponential(pad_lanes(load_up_to(x + j, n - j), n - j, -__builtin_inff()) - top);
    float sum = sum_lanes(total), log_sum = logf(sum);
    vf slopes = { 0 }, loss = { 0 };
    for (int64_t j = 0; j < n; j += LANES) {
        vf t = pad_lanes(smoothed_target(run, row, j, label), n - j, 0.0f),
           v = pad_lanes(load_up_to(x + j, n - j), n - j, 0.0f), minus_log = log_sum - (v - top);
        vf term = t * minus_log, weight = t;
        if (focal) {
            term *= power(one_minus_exp(-minus_log), gamma);
            weight = -t * focal_slope(-minus_log, exponential(v - top) / sum, gamma);
            weight = choose(t == 0.0f, t, weight);
        }
        slopes += weight;
        loss += choose(t == 0.0f, (vf){ 0 }, term); /* a class of weight zero adds nothing, however unlikely */
    }
    if (run->loss) run->loss[row] = sum_lanes(loss);
    if (!run->dx) return;
    float g = run->dloss[row], scale = sum_lanes(slopes) / sum;
    for (int64_t j = 0; j < n; j += LANES) {
        vf v = load_up_to(x + j, n - j), e = exponential(v - top), t = smoothed_target(run, row, j, label);
        if (focal) t *= -focal_slope(v - top - log_sum, e / sum, gamma);
        store_up_to(run->dx + row * n + j, (e * scale - t) * g, n - j);
    }
}

/* ---- Cross-entropy of probabilities ------------------------------------------------------------------------------ */
static void cross_entropy_row(const loss_run *run, int64_t row) {
    const float *x = run->x + row * run->n, gamma = run->a.gamma;
    int64_t n = run->n;
    int32_t label;
    if (without_label(run, row, &label)) return;
    vf low = splat(LEAST_PROBABILITY), high = splat(1 - LEAST_PROBABILITY), loss = { 0 };
    for (int64_t j = 0; j < n; j += LANES) {
        vf t = pad_lanes(smoothed_target(run, row, j, label), n - j, 0.0f),
           p = pad_lanes(load_up_to(x + j, n - j), n - j, 0.5f);
        vf held = minimum(high, maximum(low, p)), log_p = choose(p != p, p, logarithm(held));
        if (run->loss) {
            vf term = gamma == 0 ? t * log_p : t * log_p * power(1.0f - held, gamma);
            loss -= choose(t == 0.0f, (vf){ 0 }, term);
        }
        if (run->dx) {
            vf slope = gamma == 0 ? splat(-1.0f) : focal_slope(log_p, p, gamma);
            store_up_to(run->dx + row * n + j,
                        choose((p < low) | (p > high), (vf){ 0 }, t / p * slope * run->dloss[row]), n - j);
        }
    }
    if (run->loss) run->loss[row] = sum_lanes(loss);
}

/* ---- Margins: sum of max(0, margin + x_j - x_target) ------------------------------------------------------------- */
static void margin_row(const loss_run *run, int64_t row) {
    const float *x = run->x + row * run->n;
    int64_t n = run->n;
    int32_t label;
    if (without_label(run, row, &label)) return;
    const float weight = run->weight ? run->weight[label] : 1, scale = run->dx ? run->dloss[row] * weight / (float)n : 0;
    vf sum = { 0 };
    for (int64_t j = 0; j < n; j += LANES) {
        vf lack = load_up_to(x + j, n - j) - x[label] + run->a.margin;
        lack = choose((lack <= 0.0f) | (lane_numbers() == label - (int32_t)j), (vf){ 0 }, lack);
        vf slope = run->a.squared ? lack * 2.0f : choose(lack > 0.0f, splat(1.0f), lack);
        vf term = run->dx ? slope : run->a.squared ? lack * lack : lack;
        if (run->dx) store_up_to(run->dx + row * n + j, slope * scale, n - j);
        sum += pad_lanes(term, n - j, 0.0f);
    }
    if (run->loss) run->loss[row] = sum_lanes(sum) * weight / (float)n;
    if (run->dx) run->dx[row * n + label] = -scale * sum_lanes(sum);
}

/* ---- Angles: - x t / (|x| |t|), lengths at least 1e-6 ------------------------------------------------------------ */
static void cosine_row(const loss_run *run, int64_t row) {
    const float *x = run->x + row * run->n, *t = (const float *)run->target->data + row * run->n;
    int64_t n = run->n;
    vd xx = { { 0 }, { 0 } }, tt = xx, xt = xx;
    for (int64_t j = 0; j < n; j += LANES) {
        vd a = widen(load_up_to(x + j, n - j)), b = widen(load_up_to(t + j, n - j));
        xx = add_double(xx, multiply_double(a, a));
        tt = add_double(tt, multiply_double(b, b));
        xt = add_double(xt, multiply_double(a, b));
    }
    const double squares = sum_lanes_double(xx), others = sum_lanes_double(tt), product = sum_lanes_double(xt);
    const double length = sqrt(squares < 1e-12 ? 1e-12 : squares), size = length * sqrt(others < 1e-12 ? 1e-12 : others);
    if (run->loss) run->loss[row] = (float)(-product / size);
    if (!run->dx) return;
    const float scale = (float)(run->dloss[row] / size);
    const float along = (float)(squares < 1e-12 ? 0 : run->dloss[row] / size * product / squares);
    for (int64_t j = 0; j < n; j += LANES)
        store_up_to(run->dx + row * n + j, load_up_to(x + j, n - j) * along - load_up_to(t + j, n - j) * scale, n - j);
}

/* ---- Operations -------------------------------------------------------------------------------------------------- */
/* dloss: its number among the inputs, 0 for none; class weights follow what comes before. */
static int run_rows(fv_device *device, const fv_task *task, fv_part *part, int dloss) {
    const bool train = task->op == FV_OP_softmax_cross_entropy_train;
    const int weights = dloss ? dloss + 1 : 2;
    const int64_t n = columns_of(&task->input[0]), elements = fv_elements(&task->input[0]);
    loss_run run = { .x = task->input[0].data, .target = &task->input[1], .n = n };
    run.a = task->attributes->loss;
    if (task->input_count > weights) run.weight = task->input[weights].data;
    if (!dloss || train) run.loss = task->output[0].data;
    if (dloss) run.dx = task->output[train].data;
    if (run.dx) run.dloss = task->input[dloss].data;
    if (n) fv_parallel(device, elements / n, 4096 / (n + 1) + 1, part, &run);
    return FV_OK;
}

#define ROWS_OF(name, row_statement)                                                                                   \
    static void name##_rows(const void *argument, int64_t begin, int64_t end, int thread) {                            \
        (void)thread;                                                                                                  \
        const loss_run *run = argument;                                                                                \
        for (int64_t row = begin; row < end; row++) row_statement;                                                     \
    }
ROWS_OF(softmax, softmax_row(run, row, false))
ROWS_OF(focal, softmax_row(run, row, true))
ROWS_OF(cross_entropy, cross_entropy_row(run, row))
ROWS_OF(margin, margin_row(run, row))
ROWS_OF(cosine, cosine_row(run, row))

#define LOSS(operation, rows, dloss)                                                                                   \
    static int operation##_run(fv_device *device, const fv_task *task) { return run_rows(device, task, rows, dloss); } \
    const fv_cpu_kernel KERNEL(operation) = { { .run = operation##_run }, NULL };
#define SOFTMAX_ROWS (task->attributes->loss.gamma == 0 ? softmax_rows : focal_rows)
LOSS(softmax_cross_entropy, SOFTMAX_ROWS, 0)
LOSS(softmax_cross_entropy_gradient, SOFTMAX_ROWS, 2)
LOSS(softmax_cross_entropy_train, SOFTMAX_ROWS, 2)
LOSS(cross_entropy, cross_entropy_rows, 0)
LOSS(cross_entropy_gradient, cross_entropy_rows, 2)
LOSS(multi_margin, margin_rows, 0)
LOSS(multi_margin_gradient, margin_rows, 2)
LOSS(cosine_similarity, cosine_rows, 0)
LOSS(cosine_similarity_gradient, cosine_rows, 2)

/* ---- The scale from sums to means: fixed blocks of labels, added in order ---------------------------------------- */
enum { LABELS = 16384 };

static void scale_blocks(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_loss_attributes *a = &task->attributes->loss;
    const int32_t *label = task->input[0].data;
    const float *weight = task->input_count > 1 ? task->input[1].data : NULL;
    const int64_t labels = fv_elements(&task->input[0]), classes = weight ? fv_elements(&task->input[1]) : INT32_MAX;
    for (int64_t block = begin; block < end; block++) {
        double sum = 0;
        for (int64_t i = block * LABELS; i < least(labels, (block + 1) * LABELS); i++) {
            if (a->ignore && label[i] == a->label) continue;
            sum += label[i] < 0 || label[i] >= classes ? NAN : weight ? (double)weight[label[i]] : 1;
        }
        ((double *)task->scratch)[block] = sum;
    }
}
static int scale_prepare(fv_device *device, fv_task *task) {
    (void)device;
    task->scratch_bytes = sizeof(double) * (size_t)div_up(fv_elements(&task->input[0]), LABELS);
    return FV_OK;
}
static int scale_run(fv_device *device, const fv_task *task) {
    const int64_t blocks = div_up(fv_elements(&task->input[0]), LABELS);
    double sum = 0;
    fv_parallel(device, blocks, 1, scale_blocks, task);
    for (int64_t i = 0; i < blocks; i++) sum += ((const double *)task->scratch)[i];
    *(float *)task->output[0].data = (float)(sum == 0 ? 0 : 1 / sum);
    return FV_OK;
}
const fv_cpu_kernel KERNEL(target_scale) = { { .prepare = scale_prepare, .run = scale_run }, NULL };

/* ---- Metrics ----------------------------------------------------------------------------------------------------- */
/* 1 where fewer than k classes come before the target: higher scores, or equal ones of a lower class */
static void top_k_rows(const void *argument, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const fv_task *task = argument;
    const fv_tensor *target = &task->input[1];
    int64_t n = columns_of(&task->input[0]);
    for (int64_t row = begin; row < end; row++) {
        const float *x = (const float *)task->input[0].data + row * n;
        int64_t label = 0, before = 0;
        if (target->type == FV_I32) {
            label = ((const int32_t *)target->data)[row];
        } else {
            const float *t = (const float *)target->data + row * n;
            for (int64_t j = 1; j < n; j++)
                if (t[j] > t[label]) label = j;
        }
        const fv_top_k_attributes *a = &task->attributes->top_k;
        bool ignored = a->ignore && target->type == FV_I32 && label == a->label;
        bool counts = label >= 0 && label < n && !ignored;
        for (int64_t j = 0; j < n && counts; j++) {
            if (x[j] != x[j]) counts = false;
            before += x[j] > x[label] || (x[j] == x[label] && j < label);
        }
        ((float *)task->output[0].data)[row] = counts && before < task->attributes->top_k.k;
    }
}
static int top_k_run(fv_device *device, const fv_task *task) {
    fv_parallel(device, fv_elements(&task->output[0]), 4096 / (columns_of(&task->input[0]) + 1) + 1, top_k_rows, task);
    return FV_OK;
}

/* Kahan's summation, in order: state[0] is the sum, state[1] what the last additions put into it too much. */
static int metric_run(fv_device *device, const fv_task *task) {
    (void)device;
    const float *in = task->input[1].data;
    float *state = task->output[0].data;
    volatile float sum = state[0], excess = state[1]; /* volatile: each step is rounded as written */
    for (int64_t i = 0; i < fv_elements(&task->input[1]); i++) {
        volatile float corrected = in[i] - excess, next = sum + corrected;
        volatile float gained = next - sum;
        excess = gained - corrected;
        sum = next;
    }
    state[0] = sum;
    state[1] = excess;
    return FV_OK;
}
const fv_cpu_kernel KERNEL(in_top_k) = { { .run = top_k_run }, NULL };
const fv_cpu_kernel KERNEL(metric_add) = { { .run = metric_run }, NULL };
