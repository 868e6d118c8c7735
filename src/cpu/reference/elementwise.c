/* elementwise.c - arithmetic that broadcasts as NumPy does (shapes are aligned at their last axes; an axis of size 1 is
 * repeated), small functions of one tensor, and conversions between types. */
#include "cpu/reference/reference.h"

/* The element of `in` that element i of `out` reads. */
static int64_t broadcast_from(const fv_tensor *in, const fv_tensor *out, int64_t i) {
    int64_t offset = 0, stride = 1;
    for (int axis = out->rank - 1, own = in->rank - 1; own >= 0; axis--, own--) {
        if (in->dim[own] != 1) offset += i % out->dim[axis] * stride;
        stride *= in->dim[own];
        i /= out->dim[axis];
    }
    return offset;
}

static double sum_of(double a, double b) { return a + b; }
static double difference_of(double a, double b) { return a - b; }
static double product_of(double a, double b) { return a * b; }
static double quotient_of(double a, double b) { return a / b; }

static int combine(const fv_task *task, double (*function)(double, double)) {
    const fv_tensor *a = &task->input[0], *b = &task->input[1], *y = &task->output[0];
    EACH(i, fv_elements(y))
        real(y)[i] = (REAL)function(real(a)[broadcast_from(a, y, i)], real(b)[broadcast_from(b, y, i)]);
    return FV_OK;
}

KERNEL(add) { return combine(task, sum_of); }
KERNEL(sub) { return combine(task, difference_of); }
KERNEL(mul) { return combine(task, product_of); }
KERNEL(div) { return combine(task, quotient_of); }

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
