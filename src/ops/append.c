/* append.c - small pieces from which gradients and expansions are put together. What would do nothing is not
 * appended, and numbers known while recording stay constants: the gradient of a mean then costs nothing in a step. */
#include "ops/family.h"

enum { FOLDED_ELEMENTS = 65536 }; /* a longer constant would cost more memory than the broadcast costs time */

/* The f32 numbers of a constant, or NULL. They move when the tape grows. */
static const float *constant_numbers(const fv_tape *tape, fv_value v) {
    const fv_tape_value *value = &tape->value[v.id];
    return value->kind == FV_VALUE_CONSTANT && value->type == FV_F32
               ? (const float *)(const void *)(tape->bytes + value->constant)
               : NULL;
}

/* Are all its numbers the same? */
static bool is_uniform(const fv_tape *tape, fv_value v) {
    const float *numbers = constant_numbers(tape, v);
    int64_t count = fv_shape_elements(fv_shape_of(tape, v));
    for (int64_t i = 1; numbers && i < count; i++)
        if (numbers[i] != numbers[0]) return false;
    return numbers != NULL;
}

/* A new constant of this shape: entry i is factor times the i-th number of v, or its only one. */
static fv_value append_folded(fv_tape *tape, fv_value v, float factor, const fv_shape *shape) {
    const float *numbers = constant_numbers(tape, v);
    int64_t count = fv_shape_elements(shape), step = count == fv_shape_elements(fv_shape_of(tape, v));
    float *folded = fv_alloc(tape->object.context, (size_t)count, sizeof(float), "a constant");
    if (!folded) return (fv_value){ 0 };
    for (int64_t i = 0; i < count; i++) folded[i] = factor * numbers[i * step];
    fv_value result = fv_tape_constant(tape, FV_F32, shape, folded);
    fv_free(folded);
    return result;
}

fv_value fv_append_scaled(fv_tape *tape, fv_value v, float factor) {
    if (!v.id || factor == 1) return v;
    fv_shape shape = *fv_shape_of(tape, v);
    if (constant_numbers(tape, v)) return append_folded(tape, v, factor, &shape);
    fv_attributes a = { .affine = { .a = factor } };
    return FV_APPLY(tape, FV_OP_affine, &a, v);
}

fv_value fv_append_product(fv_tape *tape, fv_value x, fv_value y) {
    const float *number = x.id && y.id ? constant_numbers(tape, x) : NULL;
    if (number && *number == 1 && fv_shape_elements(fv_shape_of(tape, x)) == 1 &&
        fv_shape_of(tape, x)->rank <= fv_shape_of(tape, y)->rank)
        return y;
    return FV_APPLY(tape, FV_OP_mul, NULL, x, y);
}

static fv_attributes attributes_for(const fv_shape *shape) {
    fv_attributes a = { .shape = { .rank = shape->rank } };
    for (int32_t i = 0; i < shape->rank; i++) a.shape.dim[i] = shape->dim[i];
    return a;
}

fv_value fv_append_reshaped(fv_tape *tape, fv_value v, const fv_shape *shape) {
    if (!v.id || fv_shape_equal(fv_shape_of(tape, v), shape)) return v;
    fv_shape wanted = *shape; /* the argument may point into the tape, which moves when it grows */
    if (constant_numbers(tape, v)) return append_folded(tape, v, 1, &wanted);
    fv_attributes a = attributes_for(&wanted);
    return FV_APPLY(tape, FV_OP_reshape, &a, v);
}

fv_value fv_append_broadcast(fv_tape *tape, fv_value v, const fv_shape *shape) {
    if (!v.id || fv_shape_equal(fv_shape_of(tape, v), shape)) return v;
    fv_shape wanted = *shape;
    if (fv_shape_elements(&wanted) <= FOLDED_ELEMENTS && is_uniform(tape, v)) return append_folded(tape, v, 1, &wanted);
    fv_attributes a = attributes_for(&wanted);
    return FV_APPLY(tape, FV_OP_broadcast, &a, v);
}

fv_value fv_append_transposed(fv_tape *tape, fv_value v, const int32_t axes[FV_RANK]) {
    if (!v.id) return v;
    const fv_shape from = *fv_shape_of(tape, v);
    fv_attributes a = { 0 };
    fv_shape to = from;
    uint32_t seen = 0;
    int32_t last = -1;
    bool moves = false, fits = true;
    for (int32_t i = 0; i < FV_RANK; i++) a.transpose.axes[i] = axes[i];
    for (int32_t i = 0; i < from.rank && fits; i++) {
        const int32_t axis = axes[i] < 0 ? axes[i] + from.rank : axes[i];
        fits = axis >= 0 && axis < from.rank && !(seen >> axis & 1);
        if (!fits) break; /* infer says why not */
        seen |= 1u << axis;
        to.dim[i] = from.dim[axis];
        if (to.dim[i] == 1) continue;
        moves = moves || axis < last;
        last = axis;
    }
    return moves || !fits ? FV_APPLY(tape, FV_OP_transpose, &a, v) : fv_append_reshaped(tape, v, &to);
}

fv_value fv_append_reduced(fv_tape *tape, fv_value v, const fv_shape *shape) {
    if (!v.id || fv_shape_equal(fv_shape_of(tape, v), shape)) return v;
    fv_shape from = *fv_shape_of(tape, v), to = *shape;
    if (fv_shape_elements(&from) == fv_shape_elements(&to)) return fv_append_reshaped(tape, v, &to);
    int32_t leading = from.rank - to.rank;
    fv_attributes a = { 0 };
    for (int32_t i = 0; i < from.rank; i++)
        if (i < leading || (to.dim[i - leading] == 1 && from.dim[i] != 1)) a.reduce.axes |= 1u << i;
    /* Axes that the shape keeps as 1 are put back by the reshape, which costs nothing. */
    return fv_append_reshaped(tape, FV_APPLY(tape, FV_OP_sum, &a, v), &to);
}
