/* cast.c - conversion between types: integers truncate towards zero and saturate, NaN becomes 0; 16-bit types round
 * to nearest even. Pairs that occur in every step (u8 or i32 to f32) are vectors; the others go through a float, i32
 * to 16 bits and back included. */
#include "core/half.h"
#include "cpu/cpu.h"
#include "cpu/simd.h"

static float read_float(const fv_tensor *t, int64_t i) {
    switch (t->type) {
    case FV_F32: return ((const float *)t->data)[i];
    case FV_I32: return (float)((const int32_t *)t->data)[i];
    case FV_U8: return ((const uint8_t *)t->data)[i];
    case FV_BF16: return fv_from_bf16(((const uint16_t *)t->data)[i]);
    case FV_F16: return fv_from_f16(((const uint16_t *)t->data)[i]);
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
    case FV_BF16: ((uint16_t *)t->data)[i] = fv_to_bf16(x); break;
    case FV_F16: ((uint16_t *)t->data)[i] = fv_to_f16(x); break;
    }
}

/* Between f32 and 16 bits, as loops that compilers turn into vectors. */
#define HALF(name, to_type, from_type, convert)                                                                        \
    static void name(to_type *restrict to, const from_type *restrict from, int64_t count) {                            \
        for (int64_t i = 0; i < count; i++) to[i] = convert(from[i]);                                                  \
    }
HALF(widen_bf16, float, uint16_t, fv_from_bf16)
HALF(widen_f16, float, uint16_t, fv_from_f16)
HALF(narrow_bf16, uint16_t, float, fv_to_bf16)
HALF(narrow_f16, uint16_t, float, fv_to_f16)

static bool cast_half(const fv_tensor *y, const fv_tensor *x, int64_t begin, int64_t count) {
    const bool widens = y->type == FV_F32;
    const fv_type half = widens ? x->type : y->type;
    if ((half != FV_BF16 && half != FV_F16) || (!widens && x->type != FV_F32)) return false;
    if (widens)
        (half == FV_BF16 ? widen_bf16 : widen_f16)((float *)y->data + begin, (const uint16_t *)x->data + begin, count);
    else
        (half == FV_BF16 ? narrow_bf16 : narrow_f16)((uint16_t *)y->data + begin, (const float *)x->data + begin,
                                                     count);
    return true;
}

static void cast_range(const fv_task *task, int64_t begin, int64_t end) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    float *to = y->data;
    if (x->type == y->type) {
        size_t size = type_bytes(x->type);
        memmove((char *)y->data + (size_t)begin * size, (const char *)x->data + (size_t)begin * size,
                (size_t)(end - begin) * size);
    } else if (cast_half(y, x, begin, end - begin)) {
        return;
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
