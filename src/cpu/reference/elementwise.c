/* elementwise.c - arithmetic that broadcasts as NumPy does (shapes are aligned at their last axes; an axis of size 1 is
 * repeated), small functions of one tensor, and conversions between types. */
#include "cpu/reference/reference.h"

/* One loop for operations of two or three inputs. */
#define COMBINE(name, expression)                                                                                      \
    KERNEL(name) {                                                                                                     \
        const fv_tensor *y = &task->output[0];                                                                         \
        EACH(i, fv_elements(y)) {                                                                                      \
            double v[3] = { 0 };                                                                                       \
            for (int k = 0; k < task->input_count; k++)                                                                \
                v[k] = real(&task->input[k])[broadcast_from(&task->input[k], y, i)];                                   \
            const double a = v[0], b = v[1], c = v[2];                                                                 \
            (void)c;                                                                                                   \
            real(y)[i] = (REAL)(expression);                                                                           \
        }                                                                                                              \
        return FV_OK;                                                                                                  \
    }

COMBINE(add, a + b)
COMBINE(sub, a - b)
COMBINE(mul, a *b)
COMBINE(div, a / b)
COMBINE(power, pow(a, b))
COMBINE(maximum, isnan(a) || a > b ? a : b)
COMBINE(minimum, isnan(a) || a < b ? a : b)
COMBINE(maximum_gradient, a > b ? c : a == b ? c / 2 : 0)
COMBINE(equal, a == b)
COMBINE(not_equal, a != b)
COMBINE(less, a < b)
COMBINE(less_equal, a <= b)
COMBINE(where, a != 0 ? b : c)

/* da = dy b a^(b-1), db = dy y log a; where a factor b or y is zero, so is the gradient. */
KERNEL(power_gradient) {
    const fv_tensor *da = &task->output[0], *db = &task->output[1], *shape = da->data ? da : db;
    EACH(i, fv_elements(shape)) {
        double v[3];
        for (int k = 0; k < 3; k++) v[k] = real(&task->input[k])[broadcast_from(&task->input[k], shape, i)];
        const double a = v[0], b = v[1], dy = v[2];
        if (da->data) real(da)[i] = (REAL)(b == 0 ? 0 : dy * b * pow(a, b - 1));
        if (db->data) real(db)[i] = (REAL)(a == 0 && b >= 0 ? 0 : dy * pow(a, b) * log(a));
    }
    return FV_OK;
}

KERNEL(broadcast) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const size_t bytes = element_bytes(y->type);
    EACH(i, fv_elements(y)) memcpy(element(y, i), element(x, broadcast_from(x, y, i)), bytes);
    return FV_OK;
}

/* y = a x + b */
KERNEL(affine) {
    const double a = task->attributes->affine.a, b = task->attributes->affine.b;
    EACH(i, fv_elements(&task->output[0])) real(&task->output[0])[i] = (REAL)(a * real(&task->input[0])[i] + b);
    return FV_OK;
}

KERNEL(abs) {
    EACH(i, fv_elements(&task->output[0])) real(&task->output[0])[i] = (REAL)fabs((double)real(&task->input[0])[i]);
    return FV_OK;
}

/* -1, 0 or 1; NaN stays NaN */
KERNEL(sign) {
    EACH(i, fv_elements(&task->output[0])) {
        const REAL x = real(&task->input[0])[i];
        real(&task->output[0])[i] = isnan(x) ? x : (REAL)((x > 0) - (x < 0));
    }
    return FV_OK;
}

KERNEL(copy) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const size_t bytes = (size_t)fv_elements(y) * element_bytes(y->type);
    if (bytes) memmove(y->data, x->data, bytes);
    return FV_OK;
}

/* ---- Conversion: integers truncate towards zero and saturate, NaN becomes 0; 16-bit types round to nearest even -- */

static double from_bf16(uint16_t bits) {
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static uint16_t to_bf16(double x) {
    const float value = (float)x;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value)) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static double from_f16(uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                           : exponent == 0  ? ldexp(fraction, -24)
                                            : ldexp(1024 + fraction, exponent - 25);
    return bits >> 15 ? -magnitude : magnitude;
}

static uint16_t to_f16(double x) {
    const uint16_t sign = signbit(x) ? 0x8000 : 0;
    const double magnitude = fabs(x);
    if (isnan(x)) return sign | 0x7e00;
    if (magnitude >= 65520) return sign | 0x7c00; /* halfway between the largest number and the next: rounds up */
    if (magnitude < 0x1p-14) return (uint16_t)(sign | (int)nearbyint(ldexp(magnitude, 24))); /* zero, subnormal */
    int exponent;
    frexp(magnitude, &exponent); /* magnitude = f 2^exponent, 0.5 <= f < 1; a fraction that rounds up carries over */
    return (uint16_t)(sign | (((exponent + 13) << 10) + (int)nearbyint(ldexp(magnitude, 11 - exponent))));
}

static double truncated(double x, double low, double high) {
    return isnan(x) ? 0 : x < low ? low : x > high ? high : trunc(x);
}

static double load(const fv_tensor *t, int64_t i) {
    switch (t->type) {
    case FV_F32: return real(t)[i];
    case FV_I32: return ((const int32_t *)t->data)[i];
    case FV_U8: return ((const uint8_t *)t->data)[i];
    case FV_BF16: return from_bf16(((const uint16_t *)t->data)[i]);
    case FV_F16: return from_f16(((const uint16_t *)t->data)[i]);
    }
    return 0;
}

static void store(const fv_tensor *t, int64_t i, double x) {
    switch (t->type) {
    case FV_F32: real(t)[i] = (REAL)x; break;
    case FV_I32: ((int32_t *)t->data)[i] = (int32_t)truncated(x, INT32_MIN, INT32_MAX); break;
    case FV_U8: ((uint8_t *)t->data)[i] = (uint8_t)truncated(x, 0, UINT8_MAX); break;
    case FV_BF16: ((uint16_t *)t->data)[i] = to_bf16(x); break;
    case FV_F16: ((uint16_t *)t->data)[i] = to_f16(x); break;
    }
}

KERNEL(cast) {
    EACH(i, fv_elements(&task->output[0])) store(&task->output[0], i, load(&task->input[0], i));
    return FV_OK;
}
