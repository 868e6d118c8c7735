/* simd.h - vectors of floats as wide as the instruction set: loads and stores of parts, maximum, selection, exp,
 * log, tanh, sigmoid. Written with the compilers' vector extensions; intrinsics only where those have no word. A
 * function gives a lane the same bits wherever the lane lies, so tails agree with the body. */
#ifndef FV_SIMD_H
#define FV_SIMD_H
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

#define INLINE static inline __attribute__((always_inline, unused))
#if defined(__clang__)
#define UNROLL(n) _Pragma("clang loop unroll(full)")
#define ROLLED    _Pragma("clang loop unroll(disable)")
#else
#define UNROLL_(text) _Pragma(#text)
#define UNROLL(n)     UNROLL_(GCC unroll n)
#define ROLLED        _Pragma("GCC unroll 1")
#endif

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * LANES)));
typedef uint8_t vb __attribute__((vector_size(LANES)));
typedef double vh __attribute__((vector_size(4 * LANES)));
typedef struct vd {
    vh low, high;
} vd; /* as many doubles as vf has floats; two vectors, since compilers keep wider ones in memory */
typedef float vf_any __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vi_any __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint8_t vb_any __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef double vh_any __attribute__((vector_size(4 * LANES), aligned(8), may_alias));

INLINE vf splat(float x) { return x - (vf){ 0 }; }
INLINE vi splat_int(int32_t x) { return x - (vi){ 0 }; }
INLINE vf load(const float *p) { return *(const vf_any *)p; }
INLINE void store(float *p, vf x) { *(vf_any *)p = x; }
INLINE vi load_int(const int32_t *p) { return *(const vi_any *)p; }
INLINE void store_int(int32_t *p, vi x) { *(vi_any *)p = x; }
INLINE vi bytes_to_int(vb x) {
#if defined(__AVX512F__)
    return (vi)_mm512_cvtepu8_epi32((__m128i)x);
#elif defined(__AVX2__)
    return (vi)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)x));
#else
    return __builtin_convertvector(x, vi);
#endif
}
INLINE vi load_bytes(const uint8_t *p) { return bytes_to_int(*(const vb_any *)p); }
INLINE void store_bytes(uint8_t *p, vi x) { *(vb_any *)p = __builtin_convertvector(x, vb); }

/* Doubles beside floats, for sums that need more digits. */
#if LANES == 16
#define LOW_HALF  0, 1, 2, 3, 4, 5, 6, 7
#define HIGH_HALF 8, 9, 10, 11, 12, 13, 14, 15
#elif LANES == 8
#define LOW_HALF  0, 1, 2, 3
#define HIGH_HALF 4, 5, 6, 7
#else
#define LOW_HALF  0, 1
#define HIGH_HALF 2, 3
#endif
typedef float vf_half __attribute__((vector_size(2 * LANES)));
INLINE vd widen(vf x) {
    return (vd){ __builtin_convertvector(__builtin_shufflevector(x, x, LOW_HALF), vh),
                 __builtin_convertvector(__builtin_shufflevector(x, x, HIGH_HALF), vh) };
}
INLINE vf narrow(vd x) {
    union {
        vf_half half[2];
        vf whole;
    } y = { { __builtin_convertvector(x.low, vf_half), __builtin_convertvector(x.high, vf_half) } };
    return y.whole;
}
INLINE vd splat_double(double x) { return (vd){ x - (vh){ 0 }, x - (vh){ 0 } }; }
INLINE vd add_double(vd a, vd b) { return (vd){ a.low + b.low, a.high + b.high }; }
INLINE vd multiply_double(vd a, vd b) { return (vd){ a.low * b.low, a.high * b.high }; }
INLINE vd divide_double(vd a, vd b) { return (vd){ a.low / b.low, a.high / b.high }; }
INLINE vd subtract_double(vd a, vd b) { return (vd){ a.low - b.low, a.high - b.high }; }
INLINE vd load_double(const double *p) { return (vd){ *(const vh_any *)p, *(const vh_any *)(p + LANES / 2) }; }
INLINE void store_double(double *p, vd x) { *(vh_any *)p = x.low, *(vh_any *)(p + LANES / 2) = x.high; }

/* The first n lanes, 0 <= n <= LANES; the others read as zero and are not written. */
#if defined(__AVX512F__)
INLINE vf load_part(const float *p, int n) { return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
INLINE void store_part(float *p, vf x, int n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x); }
#elif defined(__AVX2__)
INLINE __m256i first_lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vf load_part(const float *p, int n) { return (vf)_mm256_maskload_ps(p, first_lanes(n)); }
INLINE void store_part(float *p, vf x, int n) { _mm256_maskstore_ps(p, first_lanes(n), (__m256)x); }
#else
INLINE vf load_part(const float *p, int n) {
    vf x = { 0 };
    memcpy(&x, p, 4 * (size_t)n);
    return x;
}
INLINE void store_part(float *p, vf x, int n) { memcpy(p, &x, 4 * (size_t)n); }
#endif
INLINE vf load_up_to(const float *p, int64_t n) { return n >= LANES ? load(p) : load_part(p, (int)n); }
INLINE void store_up_to(float *p, vf x, int64_t n) {
    if (n >= LANES)
        store(p, x);
    else
        store_part(p, x, (int)n);
}
INLINE vi load_bytes_up_to(const uint8_t *p, int64_t n) {
    if (n >= LANES) return load_bytes(p);
    vb x = { 0 };
    memcpy(&x, p, (size_t)n);
    return bytes_to_int(x);
}
INLINE void store_bytes_up_to(uint8_t *p, vi x, int64_t n) {
    vb y = __builtin_convertvector(x, vb);
    if (n >= LANES)
        *(vb_any *)p = y;
    else
        memcpy(p, &y, (size_t)n);
}
INLINE vi load_int_up_to(const int32_t *p, int64_t n) { return (vi)load_up_to((const float *)p, n); }
INLINE void store_int_up_to(int32_t *p, vi x, int64_t n) { store_up_to((float *)p, (vf)x, n); }

/* p[i] in each lane */
INLINE vf load_scattered(const float *p, vi i) {
#if defined(__AVX512F__)
    return (vf)_mm512_i32gather_ps((__m512i)i, p, 4);
#elif defined(__AVX2__)
    return (vf)_mm256_i32gather_ps(p, (__m256i)i, 4);
#else
    vf x = { 0 };
    for (int lane = 0; lane < LANES; lane++) x[lane] = p[i[lane]];
    return x;
#endif
}

/* mask lanes are all ones or zero, as comparisons give them */
INLINE vf keep_if(vi mask, vf x) { return (vf)((vi)x & mask); }
INLINE vf choose(vi mask, vf yes, vf no) { return (vf)(((vi)yes & mask) | ((vi)no & ~mask)); }
INLINE vi choose_int(vi mask, vi yes, vi no) { return (yes & mask) | (no & ~mask); }
INLINE vf absolute(vf x) { return (vf)((vi)x & 0x7fffffff); }

INLINE vi lane_numbers(void) {
    vi lane;
    for (int i = 0; i < LANES; i++) lane[i] = i;
    return lane;
}
/* x in the first n lanes, the same number in the others */
INLINE vf pad_lanes(vf x, int64_t n, float other) {
    return choose(lane_numbers() < (int32_t)(n < LANES ? n : LANES), x, splat(other));
}

/* Is the mask zero in every lane? */
INLINE int none_of(vi mask) {
#if defined(__AVX512F__)
    return !_mm512_test_epi32_mask((__m512i)mask, (__m512i)mask);
#elif defined(__AVX2__)
    return !_mm256_movemask_ps((__m256)mask);
#elif defined(__x86_64__)
    return !_mm_movemask_ps((__m128)mask);
#else
    int32_t any = 0;
    for (int i = 0; i < LANES; i++) any |= mask[i];
    return !any;
#endif
}

/* b where either is not a number */
INLINE vf maximum(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__x86_64__)
    return (vf)_mm_max_ps((__m128)a, (__m128)b);
#else
    return choose(a > b, a, b);
#endif
}
INLINE vf minimum(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__x86_64__)
    return (vf)_mm_min_ps((__m128)a, (__m128)b);
#else
    return choose(a < b, a, b);
#endif
}

INLINE vf square_root(vf x) {
#if defined(__AVX512F__)
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
    return (vf)_mm256_sqrt_ps((__m256)x);
#else
    for (int i = 0; i < LANES; i++) x[i] = __builtin_sqrtf(x[i]);
    return x;
#endif
}

/* Sums of lanes, in order: the same on every run. */
INLINE float sum_lanes(vf x) {
    float s[LANES];
    memcpy(s, &x, sizeof s);
    for (int step = LANES / 2; step; step /= 2)
        for (int i = 0; i < step; i++) s[i] += s[i + step];
    return s[0];
}
INLINE double sum_lanes_double(vd x) {
    double s[LANES];
    store_double(s, x);
    for (int step = LANES / 2; step; step /= 2)
        for (int i = 0; i < step; i++) s[i] += s[i + step];
    return s[0];
}
INLINE double product_lanes_double(vd x) {
    double s[LANES];
    store_double(s, x);
    for (int step = LANES / 2; step; step /= 2)
        for (int i = 0; i < step; i++) s[i] *= s[i + step];
    return s[0];
}
INLINE float largest_lane(vf x) { /* not a number wins */
    float s[LANES];
    memcpy(s, &x, sizeof s);
    for (int step = LANES / 2; step; step /= 2)
        for (int i = 0; i < step; i++) s[i] = s[i] > s[i + step] || s[i] != s[i] ? s[i] : s[i + step];
    return s[0];
}

/* exp(x) = 2^n (1 + p): x = n ln 2 + r, p = exp(r) - 1 by its Taylor polynomial, |r| <= ln 2 / 2. The two parts of
 * ln 2 make n ln 2 exact enough. NaN passes through p. */
INLINE vf exp_parts(vf x, vi *n) {
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves the integer in the low bits */
    vf shifted = x * 1.44269504088896341f + round;
    *n = (vi)shifted - (vi)splat(round);
    vf whole = shifted - round;
    vf r = x - whole * 0.693145751953125f;
    r -= whole * 1.42860682030941723e-6f;
    vf p = splat(1.0f / 5040);
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    return p * (r * r) + r;
}
INLINE vf power_of_two(vi n) { return (vf)((n + 127) << 23); }
INLINE vf exponential(vf x) { /* 2^n in two halves, so that both ends of the range come out right */
    vi n;
    vf p = exp_parts(minimum(splat(89.0f), maximum(splat(-104.0f), x)), &n);
    vf half = power_of_two(n >> 1);
    return (half * p + half) * power_of_two(n - (n >> 1));
}
#if defined(__AVX512F__)
#include "cpu/tanh.h"
#else
INLINE vf hyperbolic_tangent(vf x) { /* e / (e + 2), e = exp(2x) - 1 without cancellation near zero */
    vi n;
    vf p = exp_parts(minimum(splat(9.02f), maximum(splat(-9.02f), x)) * 2.0f, &n), scale = power_of_two(n);
    vf e = scale * p + (scale - 1.0f);
    return e / (e + 2.0f);
}
#endif
INLINE vf logistic(vf x) { /* 1 / (1 + exp(-x)); exp of a negative number, so nothing overflows */
    vi n;
    vf p = exp_parts(maximum(splat(-87.0f), (vf)((vi)x | INT32_MIN)), &n), scale = power_of_two(n);
    vf e = scale * p + scale, one = splat(1.0f);
    return choose(x < 0.0f, e, one) / (one + e);
}
/* log of a positive normal number: m 2^n with m in [sqrt(1/2), sqrt(2)), log m = 2 artanh((m - 1) / (m + 1)). */
INLINE vf logarithm(vf x) {
    vi bits = (vi)((vu)x - 0x3f3504f3u); /* of sqrt(1/2); unsigned, because lanes that nobody reads may hold anything */
    vf n = __builtin_convertvector(bits >> 23, vf);
    vf m = (vf)((bits & 0x007fffff) + 0x3f3504f3);
    vf t = (m - 1.0f) / (m + 1.0f), s = t * t;
    vf p = splat(2.0f / 9);
    p = p * s + 2.0f / 7;
    p = p * s + 2.0f / 5;
    p = p * s + 2.0f / 3;
    return n * 0.693145751953125f + (n * 1.42860682030941723e-6f + (p * s * t + t * 2.0f));
}
INLINE vf power(vf base, float exponent) { return exponential(logarithm(base) * exponent); }

/* Transposes LANES vectors: each round interleaves the halves perfectly. */
INLINE void transpose_lanes(vf *r) {
    vf t[LANES];
    UNROLL(4)
    for (int round = 1; round < LANES; round *= 2) {
        UNROLL(16)
        for (int i = 0; i < LANES / 2; i++) {
#if LANES == 16
            t[2 * i] = __builtin_shufflevector(r[i], r[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            t[2 * i + 1] =
                __builtin_shufflevector(r[i], r[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif LANES == 8
            t[2 * i] = __builtin_shufflevector(r[i], r[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
            t[2 * i + 1] = __builtin_shufflevector(r[i], r[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
#else
            t[2 * i] = __builtin_shufflevector(r[i], r[i + 2], 0, 4, 1, 5);
            t[2 * i + 1] = __builtin_shufflevector(r[i], r[i + 2], 2, 6, 3, 7);
#endif
        }
        UNROLL(16)
        for (int i = 0; i < LANES; i++) r[i] = t[i];
    }
}

/* The activations that kernels fuse. */
INLINE vf activate(vf x, const int activation) {
    switch (activation) {
    case 1: return maximum(splat(0.0f), x); /* FV_RELU: NaN stays */
    case 2: return hyperbolic_tangent(x);
    case 3: return logistic(x);
    default: return x;
    }
}
/* The same where the activation is not known when compiling. */
INLINE vf activate_any(vf x, int activation) {
    switch (activation) {
    case 1: return activate(x, 1);
    case 2: return activate(x, 2);
    case 3: return activate(x, 3);
    default: return x;
    }
}
INLINE void copy_floats(float *to, const float *from, int64_t n) {
    for (; n >= LANES; n -= LANES, to += LANES, from += LANES) store(to, load(from));
    if (n) store_part(to, load_part(from, (int)n), (int)n);
}
INLINE void zero_floats(float *to, int64_t n) {
    for (; n >= LANES; n -= LANES, to += LANES) store(to, (vf){ 0 });
    if (n) store_part(to, (vf){ 0 }, (int)n);
}
#endif
