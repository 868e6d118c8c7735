/* pointwise_loss.c - losses that sum a function of prediction and target over a row, and their gradients. One loop for
 * values and one for slopes; the functions are chosen when compiling. Rows are divided among threads; rows of one
 * element lie side by side in a vector. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

static const float LEAST = 1e-7f;

typedef struct pointwise_run {
    const float *p, *t, *dloss;
    float *out;
    int64_t n; /* elements of a row */
    double divisor;
    fv_pointwise_attributes a;
} pointwise_run;

/* ---- Functions and slopes ---------------------------------------------------------------------------------------- */
INLINE vf clip(vf x, float low, float high) {
    return choose(x < low, splat(low), choose(x > high, splat(high), x));
}
/* log of any number: NaN below zero */
INLINE vf log_of(vf x) {
    vf y = choose(x == 0.0f, splat(-__builtin_inff()), logarithm(x));
    return choose((x >= 0.0f) & (x < __builtin_inff()), y, choose(x < 0.0f, splat(__builtin_nanf("")), x));
}
/* log(1 + e) for e in 0..1, exact also where e is small: 2 artanh(e / (2 + e)) */
INLINE vf log_one_plus(vf e) {
    vf t = e / (e + 2.0f), s = t * t, p = splat(2.0f / 15);
    p = p * s + 2.0f / 13;
    p = p * s + 2.0f / 11;
    p = p * s + 2.0f / 9;
    p = p * s + 2.0f / 7;
    p = p * s + 2.0f / 5;
    p = p * s + 2.0f / 3;
    return p * s * t + t * 2.0f;
}
INLINE vf softplus(vf x) { /* log(1 + exp(x)) */
    return choose(x <= 0.0f, (vf){ 0 }, x) + log_one_plus(exponential((vf)((vi)x | INT32_MIN)));
}
INLINE vf cross_entropy(vf p, vf t, float weight) { return t * softplus(-p) * weight + (1.0f - t) * softplus(p); }
INLINE vf balance(const fv_pointwise_attributes *a, vf t) {
    return a->alpha > 0 ? t * a->alpha + (1.0f - t) * (1.0f - a->alpha) : splat(1.0f);
}
INLINE vf focus(const fv_pointwise_attributes *a, vf q) { return a->gamma == 0 ? splat(1.0f) : power(q, a->gamma); }

INLINE vf value_of(const int op, const fv_pointwise_attributes *a, vf p, vf t) {
    const vf d = p - t, size = absolute(d), miss = 1.0f - t * p;
    switch (op) {
    case FV_OP_mean_absolute_error: return size;
    case FV_OP_huber: return choose(size <= a->delta, d * d * 0.5f, (size - a->delta * 0.5f) * a->delta);
    case FV_OP_log_cosh: return size + log_one_plus(exponential(size * -2.0f)) - 0.693147180559945f;
    case FV_OP_binary_cross_entropy_logits: return cross_entropy(p, t, a->weight);
    case FV_OP_binary_cross_entropy: /* 1 - p is exact where it is small, 1 - LEAST is not */
        return -t * log_of(clip(p, LEAST, 1 - LEAST)) - (1.0f - t) * log_of(clip(1.0f - p, LEAST, 1 - LEAST));
    case FV_OP_sigmoid_focal: {
        const vf q = (1.0f - t) * logistic(p) + t * logistic(-p);
        return balance(a, t) * focus(a, q) * cross_entropy(p, t, 1);
    }
    case FV_OP_hinge: return choose(miss <= 0.0f, (vf){ 0 }, miss);
    case FV_OP_squared_hinge: return choose(miss <= 0.0f, (vf){ 0 }, miss * miss);
    case FV_OP_kl_divergence: return clip(t, LEAST, 1) * (log_of(clip(t, LEAST, 1)) - log_of(clip(p, LEAST, 1)));
    case FV_OP_poisson: return p - t * log_of(p + LEAST);
    case FV_OP_binary_accuracy:
        return keep_if(((p > a->threshold) == (t > 0.5f)) & (p == p) & (t == t), splat(1.0f));
    default: return d * d; /* mean_squared_error */
    }
}
INLINE vf slope_of(const int op, const fv_pointwise_attributes *a, vf p, vf t) {
    const vf d = p - t, miss = 1.0f - t * p, one = splat(1.0f);
    switch (op) {
    case FV_OP_mean_absolute_error: return choose(d > 0.0f, one, choose(d < 0.0f, -one, d * 0.0f));
    case FV_OP_huber: return clip(d, -a->delta, a->delta);
    case FV_OP_log_cosh: return hyperbolic_tangent(d);
    case FV_OP_binary_cross_entropy_logits: return (1.0f - t) * logistic(p) - t * logistic(-p) * a->weight;
    case FV_OP_binary_cross_entropy:
        return choose((p < LEAST) | (p > 1 - LEAST), (vf){ 0 }, (1.0f - t) / (1.0f - p) - t / p);
    case FV_OP_sigmoid_focal: {
        const vf yes = logistic(p), no = logistic(-p), q = (1.0f - t) * yes + t * no;
        const vf dq = (1.0f - t * 2.0f) * yes * no / q * a->gamma;
        return balance(a, t) * focus(a, q) * (dq * cross_entropy(p, t, 1) + (1.0f - t) * yes - t * no);
    }
    case FV_OP_hinge: return choose(miss <= 0.0f, (vf){ 0 }, -t);
    case FV_OP_squared_hinge: return t * choose(miss <= 0.0f, (vf){ 0 }, miss) * -2.0f;
    case FV_OP_kl_divergence: return choose((p < LEAST) | (p > 1.0f), (vf){ 0 }, -clip(t, LEAST, 1) / p);
    case FV_OP_poisson: return 1.0f - t / (p + LEAST);
    default: return d * 2.0f;
    }
}

/* ---- Rows -------------------------------------------------------------------------------------------------------- */
INLINE void value_rows(const int op, const pointwise_run *run, int64_t begin, int64_t end) {
    const int64_t n = run->n;
    for (int64_t row = begin; n == 1 && row < end; row += LANES) {
        vf v = value_of(op, &run->a, load_up_to(run->p + row, end - row), load_up_to(run->t + row, end - row));
        store_up_to(run->out + row, v, end - row);
    }
    for (int64_t row = begin; n > 1 && row < end; row++) {
        vd sum = { { 0 }, { 0 } };
        for (int64_t i = 0; i < n; i += LANES) {
            vf p = load_up_to(run->p + row * n + i, n - i), t = load_up_to(run->t + row * n + i, n - i);
            if (op == FV_OP_mean_squared_error)
                sum = add_double(sum, multiply_double(widen(p - t), widen(p - t)));
            else
                sum = add_double(sum, widen(pad_lanes(value_of(op, &run->a, p, t), n - i, 0.0f)));
        }
        run->out[row] = (float)(sum_lanes_double(sum) / run->divisor);
    }
}
INLINE void slope_rows(const int op, const pointwise_run *run, int64_t begin, int64_t end) {
    const int64_t n = run->n;
    for (int64_t row = begin; n == 1 && row < end; row += LANES) {
        vf s = slope_of(op, &run->a, load_up_to(run->p + row, end - row), load_up_to(run->t + row, end - row));
        store_up_to(run->out + row, s * load_up_to(run->dloss + row, end - row), end - row);
    }
    for (int64_t row = begin; n > 1 && row < end; row++) {
        const float scale = (float)(run->dloss[row] / run->divisor);
        for (int64_t i = 0, at = row * n; i < n; i += LANES) {
            vf s = slope_of(op, &run->a, load_up_to(run->p + at + i, n - i), load_up_to(run->t + at + i, n - i));
            store_up_to(run->out + at + i, s * scale, n - i);
        }
    }
}

static int run_rows(fv_device *device, const fv_task *task, fv_part *part, bool slopes, bool distributions) {
    const int64_t rows = task->input[0].dim[0];
    pointwise_run run = { .p = task->input[0].data, .t = task->input[1].data, .out = task->output[0].data };
    if (!rows) return FV_OK;
    if (slopes) run.dloss = task->input[2].data;
    run.a = task->attributes->pointwise;
    run.n = fv_elements(&task->input[0]) / rows;
    run.divisor = (double)(distributions ? run.n / columns_of(&task->input[0]) : run.n);
    fv_parallel(device, rows, 4096 / (run.n + 1) + 1, part, &run);
    return FV_OK;
}

#define PART(name, rows_of, op, slopes, distributions)                                                                 \
    static void name##_part(const void *argument, int64_t begin, int64_t end, int thread) {                            \
        (void)thread;                                                                                                  \
        rows_of(FV_OP_##op, argument, begin, end);                                                                     \
    }                                                                                                                  \
    static int name##_run(fv_device *device, const fv_task *task) {                                                    \
        return run_rows(device, task, name##_part, slopes, distributions);                                             \
    }                                                                                                                  \
    const fv_cpu_kernel KERNEL(name) = { { .run = name##_run }, NULL };
#define POINTWISE(name, distributions)                                                                                 \
    PART(name, value_rows, name, false, distributions) PART(name##_gradient, slope_rows, name, true, distributions)

POINTWISE(mean_squared_error, false)
POINTWISE(mean_absolute_error, false)
POINTWISE(huber, false)
POINTWISE(log_cosh, false)
POINTWISE(binary_cross_entropy_logits, false)
POINTWISE(binary_cross_entropy, false)
POINTWISE(sigmoid_focal, false)
POINTWISE(hinge, false)
POINTWISE(squared_hinge, false)
POINTWISE(kl_divergence, true)
POINTWISE(poisson, false)
PART(binary_accuracy, value_rows, binary_accuracy, false, false)
