/* functions.h - elementary functions of vectors beyond simd.h's, over the whole range of floats with its infinities
 * and NaN, and the activations made of them. Errors are a few units in the last place unless a comment says else. */
#ifndef FV_FUNCTIONS_H
#define FV_FUNCTIONS_H
#include "cpu/cpu.h"
#include "cpu/simd.h"

/* ---- Activations where others fuse them: the common ones inline (simd.h), the rest here ------------------------- */
/* In place, with the parameter of leaky_relu and elu. Any elementwise activation. */
#define activate_line ISA(activate_line)
void activate_line(float *at, int64_t n, int activation, float alpha);
/* dy times the slope, which is a function of the output y: of those activations whose gradient is. */
#define undo_activation_any ISA(undo_activation_any)
vf undo_activation_any(vf y, vf dy, int activation, float alpha);
INLINE bool is_inline(int activation) { return activation <= FV_SIGMOID; }

/* ---- Elementary -------------------------------------------------------------------------------------------------- */
/* exp(x) - 1 for x <= 0, without cancellation near zero */
INLINE vf exponential_less_one(vf x) {
    vi n;
    vf p = exp_parts(maximum(splat(-30.0f), x), &n), scale = power_of_two(n);
    return scale * p + (scale - 1.0f);
}
/* log(1 + u) for 0 <= u <= 1: 2 artanh(u / (2 + u)) */
INLINE vf logarithm_of_one_more(vf u) {
    vf t = u / (u + 2.0f), s = t * t, p = splat(2.0f / 15);
    p = p * s + 2.0f / 13;
    p = p * s + 2.0f / 11;
    p = p * s + 2.0f / 9;
    p = p * s + 2.0f / 7;
    p = p * s + 2.0f / 5;
    p = p * s + 2.0f / 3;
    return p * s * t + t * 2.0f;
}
INLINE vf natural_logarithm(vf x) {
    vi tiny = x < 0x1p-126f; /* denormal numbers are scaled up; zero and what is below it are put right after */
    vf y = logarithm(choose(tiny, x * 0x1p23f, x)) - keep_if(tiny, splat(15.942385152878742f));
    y = choose(x == 0.0f, splat(-__builtin_inff()), y);
    return choose((x < 0.0f) | (x != x), splat(__builtin_nanf("")), choose(x == __builtin_inff(), x, y));
}
/* x factor, and 0 where the factor is: the limit where x is infinite */
INLINE vf times(vf x, vf factor) { return keep_if(factor != 0.0f, x * factor); }
/* 1 / (1 + exp(-x)) down to the smallest numbers; *slope: its derivative */
INLINE vf logistic_with_slope(vf x, vf *slope) {
    vf e = exponential((vf)((vi)x | INT32_MIN)), one = splat(1.0f), part = 1.0f / (one + e);
    *slope = e * part * part;
    return choose(x < 0.0f, e, one) * part;
}
INLINE vf softplus(vf x) {
    return choose(x > 0.0f, x, (vf){ 0 }) + logarithm_of_one_more(exponential((vf)((vi)x | INT32_MIN)));
}
/* Phi(x), the normal distribution: below zero the density exp(-x^2 / 2) times Mills' ratio, a polynomial in
 * 1 / (1 + 0.3 |x|) found by weighted least squares (relative error 4e-9, 5 roundings). *density: phi(x). */
INLINE vf normal_cumulative(vf x, vf *density) {
    vf a = minimum(splat(15.0f), absolute(x)), t = 1.0f / (a * 0.3f + 1.0f), p = splat(-0.02062367834f);
    p = p * t + 0.11243673414f;
    p = p * t - 0.22821618617f;
    p = p * t + 0.19178791344f;
    p = p * t - 0.07942622900f;
    p = p * t + 0.09615825117f;
    p = p * t + 0.07838918268f;
    p = p * t + 0.11023551970f;
    p = p * t + 0.11957180500f;
    p = p * t + 0.11968669295f;
    /* The square in two parts: a^2 / 2 is large where its rounding would show. */
    vf high = (vf)((vi)a & ~0xfff), low = a - high;
    vf e = exponential(high * high * -0.5f) * exponential((a + high) * low * -0.5f);
    *density = e * 0.39894228040f;
    vf tail = e * (p * t);
    tail = choose(x != x, x, tail);
    return choose(x > 0.0f, 1.0f - tail, tail);
}
/* tanh(log(1 + exp(x))) in e = exp(-|x|), sums of positive numbers; *slope: its derivative */
INLINE vf tanh_of_softplus(vf x, vf *slope) {
    vf e = exponential((vf)((vi)x | INT32_MIN)), one = splat(1.0f);
    vi below = x < 0.0f;
    vf top = choose(below, e * (e + 2.0f), e * 2.0f + 1.0f);
    vf part = 1.0f / (top + choose(below, splat(2.0f), e * e * 2.0f));
    *slope = 4.0f * e * (one + e) * choose(below, one, e) * part * part;
    return top * part;
}

/* ---- Power: the logarithm to base 2 and the way back in double, one rounding at the end ------------------------- */
typedef int64_t vl __attribute__((vector_size(4 * LANES)));
/* of a positive finite number */
INLINE vh binary_logarithm(vh x) {
    vl bits = (vl)x - 0x3fe6a09e667f3bcd; /* of sqrt(1/2) */
    const double whole = 0x1.8p52;
    vh n = (vh)((bits >> 52) + (vl)(whole - (vh){ 0 })) - whole;
    vh m = (vh)((bits & 0x000fffffffffffff) + 0x3fe6a09e667f3bcd), t = (m - 1) / (m + 1), s = t * t;
    const double unit = 2.8853900817779268; /* 2 / ln 2 */
    vh p = unit / 15 - (vh){ 0 };
    p = p * s + unit / 13;
    p = p * s + unit / 11;
    p = p * s + unit / 9;
    p = p * s + unit / 7;
    p = p * s + unit / 5;
    p = p * s + unit / 3;
    return n + (p * s + unit) * t;
}
INLINE vh power_of_two_double(vh z) {
    const double round = 0x1.8p52, ln2 = 0.69314718055994530942;
    z = (vh)(((vl)z & (z > -200.0)) | ((vl)(-200.0 - (vh){ 0 }) & (z <= -200.0)) | ((vl)z & (z != z)));
    z = (vh)(((vl)z & ~(z > 200.0)) | ((vl)(200.0 - (vh){ 0 }) & (z > 200.0)));
    vh shifted = z + round, f = (z - (shifted - round)) * ln2, p = 1.0 / 40320 - (vh){ 0 };
    vl n = (vl)shifted - (vl)(round - (vh){ 0 });
    p = p * f + 1.0 / 5040;
    p = p * f + 1.0 / 720;
    p = p * f + 1.0 / 120;
    p = p * f + 1.0 / 24;
    p = p * f + 1.0 / 6;
    p = p * f + 0.5;
    p = p * f + 1.0;
    p = p * f + 1.0;
    return p * (vh)((n + 1023) << 52);
}
/* a^b as C's pow */
INLINE vf raised(vf a, vf b) {
    const float infinity = __builtin_inff();
    vf size = absolute(a), one = splat(1.0f), huge = absolute(b);
    vd x = widen(size), y = widen(b);
    vf r = narrow((vd){ power_of_two_double(binary_logarithm(x.low) * y.low),
                        power_of_two_double(binary_logarithm(x.high) * y.high) });
    r = choose(size == 0.0f, choose(b < 0.0f, splat(infinity), splat(0.0f)), r);
    r = choose(size == infinity, choose(b < 0.0f, splat(0.0f), splat(infinity)), r);
    /* Whole numbers of at least 2^24 are even; others fit an int. */
    vi is_large = huge >= 0x1p24f, number = __builtin_convertvector(choose(is_large, splat(0.0f), b), vi);
    vi is_whole = is_large | (__builtin_convertvector(number, vf) == b), is_odd = ~is_large & is_whole & -(number & 1);
    r = (vf)((vi)r ^ ((vi)a & is_odd & INT32_MIN));
    r = choose((a < 0.0f) & (size != infinity) & ~is_whole, splat(__builtin_nanf("")), r);
    r = choose((a != a) | (b != b), a + b, r);
    return choose((b == 0.0f) | (a == 1.0f) | ((size == 1.0f) & (huge == infinity)), one, r);
}
#endif
