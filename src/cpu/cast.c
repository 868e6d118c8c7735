/* cast.c - conversion between types: integers truncate towards zero and saturate, NaN becomes 0; 16-bit types round
 * to nearest even. Pairs that occur in every step (u8 or i32 to f32) are vectors; the others go through a float, i32
 * to 16 bits and back included. */
#include "cpu/cpu.h"
#include "cpu/simd.h"

static float from_bf16(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}
static uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (value != value) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
/* A half is sign, 5 bits of exponent (bias 15), 10 of fraction; 2^112 moves between its exponent and a float's. */
static float from_f16(uint16_t bits) {
    uint32_t magnitude = (uint32_t)(bits & 0x7fff) << 13, sign = (uint32_t)(bits & 0x8000) << 16;
    float value;
    memcpy(&value, &magnitude, sizeof value);
    value *= 0x1p112f;
    if ((bits & 0x7c00) == 0x7c00) {
        magnitude |= 0x7f800000;
        memcpy(&value, &magnitude, sizeof value);
    }
    uint32_t wide;
    memcpy(&wide, &value, sizeof wide);
    wide |= sign;
    memcpy(&value, &wide, sizeof value);
    return value;
}
static uint16_t to_f16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7e00;
    if (magnitude >= 0x477ff000) return sign | 0x7c00; /* from 65520 on: rounds to infinity */
    if (magnitude < 0x38800000) {                      /* below 2^-14: units of 2^-24, which adding 1/2 rounds to */
        float shifted;
        memcpy(&shifted, &magnitude, sizeof shifted);
        shifted += 0.5f;
        memcpy(&bits, &shifted, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    return (uint16_t)(sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13));
}

static float read_float(const fv_tensor *t, int64_t i) {
    switch (t->type) {
    case FV_F32: return ((const float *)t->data)[i];
    case FV_I32: return (float)((const int32_t *)t->data)[i];
    case FV_U8: return ((const uint8_t *)t->data)[i];
    case FV_BF16: return from_bf16(((const uint16_t *)t->data)[i]);
    case FV_F16: return from_f16(((const uint16_t *)t->data)[i]);
    }
    return 0;
}
static int32_t truncated(float x, int32_t low, int32_t high) {
    if (x != x) return 0;
    return x <= (float)low ? low : x >= (float)high ? high : (int32_t)x;
}
static void write_float(const fv_tensor *t, int64_t i, float x) {
    switch (t->type) {
    case FV_F32: ((float *)t->data)[i] = x; break;
    case FV_I32: ((int32_t *)t->data)[i] = truncated(x, INT32_MIN, INT32_MAX); break;
    case FV_U8: ((uint8_t *)t->data)[i] = (uint8_t)truncated(x, 0, UINT8_MAX); break;
    case FV_BF16: ((uint16_t *)t->data)[i] = to_bf16(x); break;
    case FV_F16: ((uint16_t *)t->data)[i] = to_f16(x); break;
    }
}

static void cast_range(const fv_task *task, int64_t begin, int64_t end) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    float *to = y->data;
    if (x->type == y->type) {
        size_t size = type_bytes(x->type);
        memmove((char *)y->data + (size_t)begin * size, (const char *)x->data + (size_t)begin * size,
                (size_t)(end - begin) * size);
    } else if (x->type == FV_U8 && y->type == FV_F32) {
        for (int64_t i = begin; i < end; i += LANES)
            store_up_to(to + i, __builtin_convertvector(load_bytes_up_to((const uint8_t *)x->data + i, end - i), vf),
                        end - i);
    } else if (x->type == FV_I32 && y->type == FV_F32) {
        for (int64_t i = begin; i < end; i += LANES)
            store_up_to(to + i, __builtin_convertvector(load_int_up_to((const int32_t *)x->data + i, end - i), vf),
                        end - i);
    } else if (x->type == FV_I32 && y->type == FV_U8) {
        const int32_t *from = x->data;
        for (int64_t i = begin; i < end; i++)
            ((uint8_t *)y->data)[i] = (uint8_t)(from[i] < 0 ? 0 : from[i] > UINT8_MAX ? UINT8_MAX : from[i]);
    } else {
        for (int64_t i = begin; i < end; i++) write_float(y, i, read_float(x, i));
    }
}
const fv_cpu_kernel KERNEL(cast) = { { .run = fv_run_ranges }, cast_range };
