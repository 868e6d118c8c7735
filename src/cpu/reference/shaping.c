/* shaping.c - operations that move elements and compute nothing, for tensors of any type: join, cut out, reorder
 * the axes, surround by zeros. (Reshape moves nothing either: it is another name for the same memory. Broadcast is with the arithmetic.) */
#include "cpu/reference/reference.h"

/* The axis is laid side by side: y[.., begin of input i + j, ..] = input i[.., j, ..] */
KERNEL(concat) {
    const fv_tensor *y = &task->output[0];
    const int axis = task->attributes->axis.axis;
    const int64_t inner = span(y, axis + 1, y->rank);
    const size_t bytes = element_bytes(y->type);
    int64_t begin = 0;

    for (int i = 0; i < task->input_count; i++) {
        const fv_tensor *x = &task->input[i];
        EACH(outer, span(y, 0, axis)) EACH(j, x->dim[axis]) EACH(k, inner)
            memcpy(element(y, (outer * y->dim[axis] + begin + j) * inner + k),
                   element(x, (outer * x->dim[axis] + j) * inner + k), bytes);
        begin += x->dim[axis];
    }
    return FV_OK;
}

/* The element of `whole` that is element i of a box of it which begins at `begin`; -1 when it lies outside. */
static int64_t within(const fv_tensor *whole, const int64_t *begin, int sign, const fv_tensor *box, int64_t i) {
    int64_t offset = 0, stride = 1;
    for (int axis = box->rank - 1; axis >= 0; axis--) {
        const int64_t position = i % box->dim[axis] + sign * begin[axis];
        if (!inside(position, whole->dim[axis])) return -1;
        offset += position * stride;
        stride *= whole->dim[axis];
        i /= box->dim[axis];
    }
    return offset;
}

/* y[i, j, ..] = x[begin + i, begin + j, ..] */
KERNEL(slice) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const size_t bytes = element_bytes(y->type);
    EACH(i, fv_elements(y)) memcpy(element(y, i), element(x, within(x, task->attributes->slice.begin, 1, y, i)), bytes);
    return FV_OK;
}

/* y[i_0, i_1, ..] = x[j_0, j_1, ..], j_axes[d] = i_d */
KERNEL(transpose) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const int32_t *axes = task->attributes->transpose.axes;
    const size_t bytes = element_bytes(y->type);
    EACH(i, fv_elements(y)) {
        int64_t from = 0, rest = i;
        for (int d = y->rank - 1; d >= 0; d--) {
            from += rest % y->dim[d] * span(x, axes[d] + 1, x->rank);
            rest /= y->dim[d];
        }
        memcpy(element(y, i), element(x, from), bytes);
    }
    return FV_OK;
}

/* y[i, j, ..] = x[i - before, j - before, ..], zero outside */
KERNEL(pad) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const size_t bytes = element_bytes(y->type);
    EACH(i, fv_elements(y)) {
        const int64_t from = within(x, task->attributes->pad.before, -1, y, i);
        if (from < 0) memset(element(y, i), 0, bytes);
        else memcpy(element(y, i), element(x, from), bytes);
    }
    return FV_OK;
}
