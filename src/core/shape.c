/* shape.c - sizes that cannot overflow: every shape is made by fv_shape_make, after which elements and bytes are safe
 * to compute. Names and sizes of the element types. */
#include "core/core.h"
#include <string.h>

int fv_shape_make(fv_context *context, const char *what, int rank, const int64_t *dims, fv_shape *out) {
    *out = (fv_shape){ 0 };
    if (rank < 0 || rank > FV_RANK)
        return fv_fail(context, FV_ERROR_SHAPE, "%s: %d dimensions are not within 0..%d", what, rank, FV_RANK);
    int64_t elements = 8; /* the widest type has eight bytes */
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0)
            return fv_fail(context, FV_ERROR_SHAPE, "%s: dimension %d has the negative size %lld", what, i,
                           (long long)dims[i]);
        if (__builtin_mul_overflow(elements, dims[i] ? dims[i] : 1, &elements)) {
            fv_shape shape = { .rank = rank };
            memcpy(shape.dim, dims, sizeof(int64_t) * (size_t)rank);
            char text[96];
            return fv_fail(context, FV_ERROR_SHAPE, "%s: shape %s is too large for any memory", what,
                           fv_shape_text(&shape, text));
        }
    }
    out->rank = rank;
    for (int i = 0; i < rank; i++) out->dim[i] = dims[i];
    return FV_OK;
}

int64_t fv_shape_elements(const fv_shape *shape) {
    int64_t elements = 1;
    for (int i = 0; i < shape->rank; i++) elements *= shape->dim[i];
    return elements;
}

bool fv_shape_equal(const fv_shape *a, const fv_shape *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

const char *fv_shape_text(const fv_shape *shape, char buffer[96]) {
    size_t used = (size_t)snprintf(buffer, 96, "[");
    for (int i = 0; i < shape->rank && used < 96; i++)
        used += (size_t)snprintf(buffer + used, 96 - used, i ? ", %lld" : "%lld", (long long)shape->dim[i]);
    if (used < 96) snprintf(buffer + used, 96 - used, "]");
    return buffer;
}

static const struct {
    const char *name;
    size_t bytes;
} types[] = {
    [FV_F32] = { "f32", 4 }, [FV_BF16] = { "bf16", 2 }, [FV_F16] = { "f16", 2 },
    [FV_U8] = { "u8", 1 },   [FV_I32] = { "i32", 4 },
};
enum { TYPE_COUNT = sizeof(types) / sizeof(*types) };

size_t fv_type_bytes(fv_type type) { return (unsigned)type < TYPE_COUNT ? types[type].bytes : 0; }
const char *fv_type_name(fv_type type) { return (unsigned)type < TYPE_COUNT ? types[type].name : "unknown type"; }
