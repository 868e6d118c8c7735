/* half.h - 16-bit floats on the host: bf16 is the upper half of a float, f16 has 5 bits of exponent and 10 of fraction. Rounding
 * is to the nearest, ties to even; NaN stays NaN. */
#ifndef FV_HALF_H
#define FV_HALF_H
#include <stdbool.h>
#include <stdint.h>

typedef union fv_float_bits { uint32_t bits; float value; } fv_float_bits;
static inline float fv_float_of(uint32_t bits) {
    fv_float_bits f;
    f.bits = bits;
    return f.value;
}
static inline uint32_t fv_bits_of(float value) {
    fv_float_bits f;
    f.value = value;
    return f.bits;
}

static inline float fv_from_bf16(uint16_t bits) { return fv_float_of((uint32_t)bits << 16); }
static inline uint16_t fv_to_bf16(float value) {
    const uint32_t bits = fv_bits_of(value);
    if (value != value) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* A half is sign, 5 bits of exponent (bias 15), 10 of fraction; 2^112 moves between its exponent and a float's. */
static inline float fv_from_f16(uint16_t bits) {
    const uint32_t magnitude = (uint32_t)(bits & 0x7fff) << 13, sign = (uint32_t)(bits & 0x8000) << 16;
    const bool finite = (bits & 0x7c00) != 0x7c00;
    const uint32_t moved = finite ? fv_bits_of(fv_float_of(magnitude) * 0x1p112f) : magnitude | 0x7f800000;
    return fv_float_of(moved | sign);
}
static inline uint16_t fv_to_f16(float value) {
    const uint32_t bits = fv_bits_of(value), magnitude = bits & 0x7fffffff;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (magnitude > 0x7f800000) return sign | 0x7e00;
    if (magnitude >= 0x477ff000) return sign | 0x7c00; /* from 65520 on: rounds to infinity */
    if (magnitude < 0x38800000)                        /* below 2^-14: units of 2^-24, which adding 1/2 rounds to */
        return (uint16_t)(sign | (fv_bits_of(fv_float_of(magnitude) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13));
}
#endif
