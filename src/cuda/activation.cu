/* activation.cu - activations and other functions of one number, a line each with their slopes: dx = slope dy, the slope a function of v,
 * which is the output or the input. Formulas as in src/cpu/reference/activation.c. */
#include "cuda/activate.h"
#include "cuda/activate_tensor.h"
#include "cuda/broadcast.h"

/* clang-format off */
#define OTHERS(FUNCTION)                                                                                               \
    FUNCTION(0, log, logf(x))                                                                                          \
    FUNCTION(0, sqrt, sqrtf(x))                                                                                        \
    FUNCTION(0, rsqrt, rsqrtf(x))                                                                                      \
    FUNCTION(0, square, x * x)
#define OTHER_SLOPES(SLOPE)                                                                                            \
    SLOPE(0, sqrt, 0.5f / v)                                                                                           \
    SLOPE(0, rsqrt, -0.5f * v * v * v)                                                                                 \
    /* of the input */                                                                                                 \
    SLOPE(0, square, 2 * v)                                                                                            \
    SLOPE(0, gelu, normal_cumulative(v) + times(v, normal_density(v)))                                                 \
    SLOPE(0, gelu_tanh, logistic(twice_u(v)) + times(v, times(twice_u_slope(v), logistic_slope(twice_u(v)))))          \
    SLOPE(0, silu, logistic(v) + times(v, logistic_slope(v)))                                                          \
    SLOPE(0, mish, tanh_of_softplus(v) + times(v, tanh_of_softplus_slope(v)))                                          \
    SLOPE(0, hard_swish, v <= -3 ? 0 : v < 3 ? v * (1 / 3.0f) + 0.5f : 1)
/* clang-format on */

#define FUNCTION(number, name, expression)                                                                             \
    namespace {                                                                                                        \
    struct name##_of {                                                                                                 \
        float alpha;                                                                                                   \
        __device__ float operator()(float x) const { return expression; }                                              \
    };                                                                                                                 \
    }                                                                                                                  \
    MAP(name, 1, name##_of{ task->attributes->activation.alpha })
FV_FUNCTIONS(FUNCTION)
OTHERS(FUNCTION)

#define SLOPE(number, name, expression)                                                                                \
    namespace {                                                                                                        \
    struct name##_slope {                                                                                              \
        float alpha;                                                                                                   \
        __device__ float operator()(float v, float dy) const { return times(dy, expression); }                         \
    };                                                                                                                 \
    }                                                                                                                  \
    MAP(name##_gradient, 2, name##_slope{ task->attributes->activation.alpha })
FV_OUTPUT_SLOPES(SLOPE)
OTHER_SLOPES(SLOPE)

/* ---- With bounds, with a slope of each channel ----------------------------------------------------------------------- */

namespace {
struct clamp_of {
    fv_clamp_attributes a;
    __device__ float operator()(float x) const { return within(x, a.low, a.high); }
};
/* The bounds themselves let the gradient through. */
struct clamp_slope {
    fv_clamp_attributes a;
    __device__ float operator()(float x, float dy) const { return x < a.low || x > a.high ? 0 : dy; }
};
} // namespace
MAP(clamp, 1, clamp_of{ task->attributes->clamp })
MAP(clamp_gradient, 2, clamp_slope{ task->attributes->clamp })

/* x, slope -> y; x, slope, dy -> dx, dslope of every element */
COMBINE(prelu, 2, 1, a < 0 ? b * a : a)
COMBINE(prelu_gradient, 3, 2, two{ a > 0 ? c : b *c, a > 0 ? 0 : a *c })

/* ---- By number, in place ---------------------------------------------------------------------------------------------- */

namespace {
struct biased {
    int activation;
    float alpha;
    __device__ float operator()(float x, float bias) const { return activate(activation, alpha, x + bias); }
};
} // namespace

extern "C" int fv_finish_tensor(fv_device *device, const fv_task *task, const fv_tensor *bias, int activation,
                                float alpha, const fv_tensor *t) {
    fv_tensor in[2] = { *t, bias ? *bias : *t };
    fv_task own = *task;
    own.input = own.output = in;
    if (bias) return run_combined<2, 1>(device, &own, biased{ activation, alpha });
    switch (activation) {
#define CASE(number, name, expression)                                                                                 \
    case number: return run_map<1>(device, &own, name##_of{ alpha });
        FV_FUNCTIONS(CASE)
    default: return FV_OK;
    }
}
