/* activate.h - activations as the epilogue of another kernel, by number, in registers. The tables also make the kernels of activation.cu.
 * Formulas as in src/cpu/reference/activation.c, written so that floats keep their digits: e = exp(-|x|) never overflows. */
#ifndef FV_CUDA_ACTIVATE_H
#define FV_CUDA_ACTIVATE_H
#include "cuda/launch.h"
#include "fovea.h"

/* x factor, and 0 where the factor is: the limit where x is infinite */
__device__ __forceinline__ float times(float x, float factor) { return factor == 0 ? 0 : x * factor; }
__device__ __forceinline__ float within(float x, float low, float high) { return x < low ? low : x > high ? high : x; }
/* sigmoid(x), down to the smallest numbers */
__device__ __forceinline__ float logistic(float x) {
    const float e = expf(-fabsf(x));
    return (x < 0 ? e : 1) / (1 + e);
}
__device__ __forceinline__ float logistic_slope(float x) {
    const float e = expf(-fabsf(x)), part = 1 / (1 + e);
    return e * part * part;
}
__device__ __forceinline__ float softplus_of_x(float x) {
    const float rest = log1pf(expf(-fabsf(x)));
    return x > 0 ? x + rest : rest;
}
/* Phi(x), the normal distribution: below zero the density exp(-x^2 / 2) times Mills' ratio, the polynomial in
 * 1 / (1 + 0.3 |x|) of src/cpu/functions.h. What the rounding of x^2 / 2 lost, which shows where it is large, is
 * put back. */
__device__ __forceinline__ float normal_cumulative(float x) {
    const float a = fabsf(x) < 15 ? fabsf(x) : 15, t = 1 / (a * 0.3f + 1);
    float p = -0.02062367834f;
    p = p * t + 0.11243673414f;
    p = p * t - 0.22821618617f;
    p = p * t + 0.19178791344f;
    p = p * t - 0.07942622900f;
    p = p * t + 0.09615825117f;
    p = p * t + 0.07838918268f;
    p = p * t + 0.11023551970f;
    p = p * t + 0.11957180500f;
    p = p * t + 0.11968669295f;
    const float square = a * a * -0.5f, lost = fmaf(a * -0.5f, a, -square), e = expf(square);
    const float tail = fmaf(e, lost, e) * (p * t);
    return isnan(x) ? x : x > 0 ? 1 - tail : tail;
}
__device__ __forceinline__ float normal_density(float x) { return 0.39894228040f * expf(x * x * -0.5f); }
/* gelu by tanh: x (1 + tanh(u)) / 2 = x sigmoid(2 u) */
__device__ __forceinline__ float twice_u(float x) { return x * (x * x * 0.044715f + 1) * 1.5957691216057308f; }
__device__ __forceinline__ float twice_u_slope(float x) { return (x * x * (3 * 0.044715f) + 1) * 1.5957691216057308f; }
/* tanh(log(1 + exp(x))), in sums of positive numbers, and its derivative */
__device__ __forceinline__ float tanh_of_softplus(float x) {
    const float e = expf(-fabsf(x)), top = x < 0 ? e * (e + 2) : e * 2 + 1;
    return top / (top + (x < 0 ? 2 : e * e * 2));
}
__device__ __forceinline__ float tanh_of_softplus_slope(float x) {
    const float e = expf(-fabsf(x)), top = x < 0 ? e * (e + 2) : e * 2 + 1, part = 1 / (top + (x < 0 ? 2 : e * e * 2));
    return 4 * e * (1 + e) * (x < 0 ? 1 : e) * part * part;
}
#define FV_SELU_SCALE 1.0507009873554805f /* Klambauer et al. 2017 */
#define FV_SELU_ALPHA 1.6732632423543772f

/* Number, operation, value at x. */
/* clang-format off */
#define FV_FUNCTIONS(FUNCTION)                                                                                         \
    FUNCTION(FV_RELU, relu, x < 0 ? 0 : x)                                                                             \
    FUNCTION(FV_TANH, tanh, tanhf(x))                                                                                  \
    FUNCTION(FV_SIGMOID, sigmoid, logistic(x))                                                                         \
    FUNCTION(FV_LEAKY_RELU, leaky_relu, x < 0 ? alpha * x : x)                                                         \
    FUNCTION(FV_ELU, elu, x < 0 ? alpha * expm1f(x) : x)                                                               \
    FUNCTION(FV_SELU, selu, FV_SELU_SCALE * (x < 0 ? FV_SELU_ALPHA * expm1f(x) : x))                                   \
    FUNCTION(FV_RELU6, relu6, within(x, 0, 6))                                                                         \
    FUNCTION(FV_HARD_TANH, hard_tanh, within(x, -1, 1))                                                                \
    FUNCTION(FV_HARD_SIGMOID, hard_sigmoid, within(x + 3, 0, 6) * (1 / 6.0f))                                          \
    FUNCTION(FV_SOFTPLUS, softplus, softplus_of_x(x))                                                                  \
    FUNCTION(FV_SOFTSIGN, softsign, isinf(x) ? copysignf(1, x) : x / (1 + fabsf(x)))                                   \
    FUNCTION(FV_GELU, gelu, times(x, normal_cumulative(x)))                                                            \
    FUNCTION(FV_GELU_TANH, gelu_tanh, times(x, logistic(twice_u(x))))                                                  \
    FUNCTION(FV_SILU, silu, times(x, logistic(x)))                                                                     \
    FUNCTION(FV_MISH, mish, times(x, tanh_of_softplus(x)))                                                             \
    FUNCTION(FV_HARD_SWISH, hard_swish, times(x, within(x + 3, 0, 6) * (1 / 6.0f)))                                    \
    FUNCTION(FV_EXPONENTIAL, exp, expf(x))
/* Number, operation, slope as a function of the output v. */
#define FV_OUTPUT_SLOPES(SLOPE)                                                                                        \
    SLOPE(FV_RELU, relu, v > 0 ? 1 : 0)                                                                                \
    SLOPE(FV_TANH, tanh, 1 - v * v)                                                                                    \
    SLOPE(FV_SIGMOID, sigmoid, v * (1 - v))                                                                            \
    SLOPE(FV_LEAKY_RELU, leaky_relu, v > 0 ? 1 : alpha)                                                                \
    SLOPE(FV_ELU, elu, v > 0 ? 1 : v + alpha)                                                                          \
    SLOPE(FV_SELU, selu, v > 0 ? FV_SELU_SCALE : v + FV_SELU_SCALE * FV_SELU_ALPHA)                                    \
    SLOPE(FV_RELU6, relu6, v > 0 && v < 6 ? 1 : 0)                                                                     \
    SLOPE(FV_HARD_TANH, hard_tanh, v > -1 && v < 1 ? 1 : 0)                                                            \
    SLOPE(FV_HARD_SIGMOID, hard_sigmoid, v > 0 && v < 1 ? 1 / 6.0f : 0)                                                \
    SLOPE(FV_SOFTPLUS, softplus, -expm1f(-v))                                                                          \
    SLOPE(FV_SOFTSIGN, softsign, (1 - fabsf(v)) * (1 - fabsf(v)))
/* clang-format on */

__device__ __forceinline__ float activate(int activation, float alpha, float x) {
    switch (activation) {
#define FV_CASE(number, name, expression)                                                                              \
    case number: return expression;
        FV_FUNCTIONS(FV_CASE)
#undef FV_CASE
    default: return x;
    }
}

/* The gradient of those that have one by their output alone. */
__device__ __forceinline__ float activate_gradient(int activation, float alpha, float v, float dy) {
    switch (activation) {
#define FV_CASE(number, name, expression)                                                                              \
    case number: return times(dy, expression);
        FV_OUTPUT_SLOPES(FV_CASE)
#undef FV_CASE
    case FV_EXPONENTIAL: return dy * v;
    default: return dy;
    }
}
#endif
