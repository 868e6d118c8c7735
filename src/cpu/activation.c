/* activation.c - activations and other functions of one number, a line each, with their gradients: dy times a slope
 * of v, which is the output y or the input x. activate_line and undo_activation_any are the same functions where
 * another kernel ends with them. */
#include "cpu/functions.h"

typedef fv_activation_attributes parameters;
static const float selu_scale = 1.0507009873554805f, selu_alpha = 1.6732632423543772f;
static const float root_eight_over_pi = 1.5957691216057308f;

INLINE vf within(vf x, float low, float high) { return minimum(splat(high), maximum(splat(low), x)); }
INLINE vf within_open(vf y, float low, float high, vf dy) { return keep_if((y > low) & (y < high), dy); }
INLINE vf soft_sign(vf x) {
    vf y = x / (absolute(x) + 1.0f), limit = (vf)((vi)splat(1.0f) | ((vi)x & INT32_MIN));
    return choose(absolute(x) == __builtin_inff(), limit, y);
}
INLINE vf gelu_tanh(vf x, vf *slope) {
    vf s = logistic_with_slope(x * (x * x * 0.044715f + 1.0f) * root_eight_over_pi, slope);
    *slope = s + times(x, times((x * x * (3 * 0.044715f) + 1.0f) * root_eight_over_pi, *slope));
    return times(x, s);
}
INLINE vf gelu_slope(vf x) {
    vf density, phi = normal_cumulative(x, &density);
    return phi + times(x, density);
}
INLINE vf silu_slope(vf x) {
    vf slope, s = logistic_with_slope(x, &slope);
    return s + times(x, slope);
}
INLINE vf mish_slope(vf x) {
    vf slope, t = tanh_of_softplus(x, &slope);
    return t + times(x, slope);
}

/* ---- The table: number as an activation, operation, value; x is the input, v that of which the slope is ---------- */
/* clang-format off */
#define FUNCTIONS                                                                                                      \
    FUNCTION(FV_RELU, relu, activate(x, FV_RELU))                                                                      \
    FUNCTION(FV_TANH, tanh, hyperbolic_tangent(x))                                                                     \
    FUNCTION(FV_SIGMOID, sigmoid, logistic(x))                                                                         \
    FUNCTION(FV_LEAKY_RELU, leaky_relu, choose(x < 0.0f, x * alpha, x))                                                \
    FUNCTION(FV_ELU, elu, choose(x < 0.0f, exponential_less_one(x) * alpha, x))                                        \
    FUNCTION(FV_SELU, selu, choose(x < 0.0f, exponential_less_one(x) * selu_alpha, x) * selu_scale)                    \
    FUNCTION(FV_RELU6, relu6, within(x, 0, 6))                                                                         \
    FUNCTION(FV_HARD_TANH, hard_tanh, within(x, -1, 1))                                                                \
    FUNCTION(FV_HARD_SIGMOID, hard_sigmoid, within(x + 3.0f, 0, 6) * (1.0f / 6))                                       \
    FUNCTION(FV_SOFTPLUS, softplus, softplus(x))                                                                       \
    FUNCTION(FV_SOFTSIGN, softsign, soft_sign(x))                                                                      \
    FUNCTION(FV_GELU, gelu, times(x, normal_cumulative(x, &(vf){ 0 })))                                                \
    FUNCTION(FV_GELU_TANH, gelu_tanh, gelu_tanh(x, &(vf){ 0 }))                                                        \
    FUNCTION(FV_SILU, silu, times(x, logistic_with_slope(x, &(vf){ 0 })))                                              \
    FUNCTION(FV_MISH, mish, times(x, tanh_of_softplus(x, &(vf){ 0 })))                                                 \
    FUNCTION(FV_HARD_SWISH, hard_swish, times(x, within(x + 3.0f, 0, 6) * (1.0f / 6)))                                 \
    FUNCTION(FV_EXPONENTIAL, exp, exponential(x))
#define OTHERS                                                                                                         \
    FUNCTION(OTHER, log, natural_logarithm(x))                                                                         \
    FUNCTION(OTHER, sqrt, square_root(x))                                                                              \
    FUNCTION(OTHER, rsqrt, 1.0f / square_root(x))                                                                      \
    FUNCTION(OTHER, square, x * x)
#define OUTPUT_SLOPES                                                                                                  \
    SLOPE(FV_RELU, relu, keep_if(v > 0.0f, dy))                                                                        \
    SLOPE(FV_TANH, tanh, dy * (1.0f - v * v))                                                                          \
    SLOPE(FV_SIGMOID, sigmoid, dy * (v * (1.0f - v)))                                                                  \
    SLOPE(FV_LEAKY_RELU, leaky_relu, choose(v > 0.0f, dy, times(dy, splat(alpha))))                                    \
    SLOPE(FV_ELU, elu, choose(v > 0.0f, dy, times(dy, v + alpha)))                                                     \
    SLOPE(FV_SELU, selu, choose(v > 0.0f, dy * selu_scale, times(dy, v + selu_scale * selu_alpha)))                    \
    SLOPE(FV_RELU6, relu6, within_open(v, 0, 6, dy))                                                                   \
    SLOPE(FV_HARD_TANH, hard_tanh, within_open(v, -1, 1, dy))                                                          \
    SLOPE(FV_HARD_SIGMOID, hard_sigmoid, within_open(v, 0, 1, dy * (1.0f / 6)))                                        \
    SLOPE(FV_SOFTPLUS, softplus, times(dy, -exponential_less_one(-v)))                                                 \
    SLOPE(FV_SOFTSIGN, softsign, times(dy, (1.0f - absolute(v)) * (1.0f - absolute(v))))
#define OTHER_SLOPES                                                                                                   \
    SLOPE(FV_GELU, gelu, times(dy, gelu_slope(v)))                                                                     \
    SLOPE(FV_GELU_TANH, gelu_tanh, times(dy, (gelu_tanh(v, &slope), slope)))                                           \
    SLOPE(FV_SILU, silu, times(dy, silu_slope(v)))                                                                     \
    SLOPE(FV_MISH, mish, times(dy, mish_slope(v)))                                                                     \
    SLOPE(FV_HARD_SWISH, hard_swish, keep_if(~(v <= -3.0f), choose(v < 3.0f, dy * (v * (1.0f / 3) + 0.5f), dy)))           \
    SLOPE(OTHER, sqrt, dy * (0.5f / v))                                                                                \
    SLOPE(OTHER, rsqrt, dy * (v * v * v * -0.5f))                                                                      \
    SLOPE(OTHER, square, times(dy, v * 2.0f))
/* clang-format on */

#define FUNCTION(number, name, expression)                                                                             \
    static void name##_line(const float *in, float *out, int64_t n, float alpha) {                                     \
        (void)alpha;                                                                                                   \
        for (int64_t i = 0; i < n; i += LANES) {                                                                       \
            vf x = load_up_to(in + i, n - i);                                                                          \
            store_up_to(out + i, expression, n - i);                                                                   \
        }                                                                                                              \
    }                                                                                                                  \
    static void name##_range(const fv_task *task, int64_t begin, int64_t end) {                                        \
        name##_line((const float *)task->input[0].data + begin, (float *)task->output[0].data + begin, end - begin,    \
                    task->attributes->activation.alpha);                                                               \
    }                                                                                                                  \
    const fv_cpu_kernel KERNEL(name) = { { .run = fv_run_ranges }, name##_range };
FUNCTIONS OTHERS
#undef FUNCTION

#define SLOPE(number, name, expression)                                                                                \
    INLINE vf name##_undone(vf v, vf dy, float alpha) {                                                                \
        vf slope = { 0 };                                                                                              \
        (void)alpha, (void)slope;                                                                                      \
        return expression;                                                                                             \
    }                                                                                                                  \
    static void name##_gradient_range(const fv_task *task, int64_t begin, int64_t end) {                               \
        const float *of = task->input[0].data, *gradient = task->input[1].data,                                        \
                    alpha = task->attributes->activation.alpha;                                                        \
        float *out = task->output[0].data;                                                                             \
        for (int64_t i = begin; i < end; i += LANES)                                                                   \
            store_up_to(out + i,                                                                                       \
                        name##_undone(load_up_to(of + i, end - i), load_up_to(gradient + i, end - i), alpha),          \
                        end - i);                                                                                      \
    }                                                                                                                  \
    const fv_cpu_kernel KERNEL(name##_gradient) = { { .run = fv_run_ranges }, name##_gradient_range };
OUTPUT_SLOPES OTHER_SLOPES
#undef SLOPE

static void clamp_range(const fv_task *task, int64_t begin, int64_t end) {
    const fv_clamp_attributes *a = &task->attributes->clamp;
    const float *in = task->input[0].data;
    float *out = task->output[0].data;
    for (int64_t i = begin; i < end; i += LANES)
        store_up_to(out + i, within(load_up_to(in + i, end - i), a->low, a->high), end - i);
}
static void clamp_gradient_range(const fv_task *task, int64_t begin, int64_t end) {
    const fv_clamp_attributes *a = &task->attributes->clamp;
    const float *in = task->input[0].data, *gradient = task->input[1].data;
    float *out = task->output[0].data;
    for (int64_t i = begin; i < end; i += LANES) {
        vf x = load_up_to(in + i, end - i), dy = load_up_to(gradient + i, end - i);
        store_up_to(out + i, keep_if(~((x < a->low) | (x > a->high)), dy), end - i);
    }
}
const fv_cpu_kernel KERNEL(clamp) = { { .run = fv_run_ranges }, clamp_range };
const fv_cpu_kernel KERNEL(clamp_gradient) = { { .run = fv_run_ranges }, clamp_gradient_range };

/* ---- By number --------------------------------------------------------------------------------------------------- */

void activate_line(float *at, int64_t n, int activation, float alpha) {
    switch (activation) {
#define FUNCTION(number, name, expression)                                                                             \
    case number: name##_line(at, at, n, alpha); break;
        FUNCTIONS
#undef FUNCTION
    default: break;
    }
}

vf undo_activation_any(vf y, vf dy, int activation, float alpha) {
    switch (activation) {
#define SLOPE(number, name, expression)                                                                                \
    case number: return name##_undone(y, dy, alpha);
        OUTPUT_SLOPES
#undef SLOPE
    case FV_EXPONENTIAL: return dy * y;
    default: return dy;
    }
}
