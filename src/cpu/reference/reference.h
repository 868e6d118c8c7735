/* reference.h - what the files of the reference backend share. Each family is compiled twice, for REAL float and
 * double, so that one text is both the specification of the 32-bit backends and the oracle that has no rounding to
 * speak of. Sums are taken in double in both. One kernel is one loop nest that reads like the formula; nothing here
 * is fast. */
#ifndef FV_REFERENCE_H
#define FV_REFERENCE_H
#include "core/core.h"
#include <math.h>
#include <string.h>

#ifdef REAL_IS_DOUBLE
#define NAME(x) fv_reference_##x##_double
#else
#define NAME(x) fv_reference_##x##_float
#endif

/* KERNEL(relu) { ... } defines the kernel of an operation; every operation of ops.def is declared here. */
#define KERNEL(operation) int NAME(operation)(fv_device *device __attribute__((unused)), const fv_task *task)
#define FV_OP(name, least, most, outputs, flags, ...) int NAME(name)(fv_device *, const fv_task *);
#include "ops.def"
#undef FV_OP

/* EACH(c, channels) EACH(i, height) { ... }: c and i run from 0. */
#define EACH(i, count) for (int64_t i = 0, i##_count = (count); i < i##_count; i++)

static inline REAL *real(const fv_tensor *t) { return t->data; }

/* The element of a tensor of rank 4 (images: sample, row, column, channel; filters: filter, row, column, channel). */
#define AT(t, a, b, c, d) (real(t)[at4(t, a, b, c, d)])
static inline int64_t at4(const fv_tensor *t, int64_t a, int64_t b, int64_t c, int64_t d) {
    return ((a * t->dim[1] + b) * t->dim[2] + c) * t->dim[3] + d;
}

/* Product of the sizes of the axes first .. last - 1. */
static inline int64_t span(const fv_tensor *t, int first, int last) {
    int64_t product = 1;
    for (int axis = first; axis < last; axis++) product *= t->dim[axis];
    return product;
}

static inline int64_t last_dim(const fv_tensor *t) { return t->rank ? t->dim[t->rank - 1] : 1; }

/* The element of `in` that element i of `out` reads, as NumPy broadcasts. */
static inline int64_t broadcast_from(const fv_tensor *in, const fv_tensor *out, int64_t i) {
    int64_t offset = 0, stride = 1;
    for (int axis = out->rank - 1, own = in->rank - 1; own >= 0; axis--, own--) {
        if (in->dim[own] != 1) offset += i % out->dim[axis] * stride;
        stride *= in->dim[own];
        i /= out->dim[axis];
    }
    return offset;
}

static inline bool inside(int64_t i, int64_t size) { return i >= 0 && i < size; }

static inline size_t element_bytes(fv_type type) {
    switch (type) {
    case FV_F32: return sizeof(REAL);
    case FV_I32: return 4;
    case FV_U8: return 1;
    case FV_BF16:
    case FV_F16: return 2;
    }
    return 0;
}

static inline unsigned char *element(const fv_tensor *t, int64_t i) {
    return (unsigned char *)t->data + i * (int64_t)element_bytes(t->type);
}
#endif
