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
static int64_t within(const fv_tensor *whole, const int64_t *begin, const fv_tensor *box, int64_t i) {
    int64_t offset = 0, stride = 1;
    for (int axis = box->rank - 1; axis >= 0; axis--) {
        const int64_t position = i % box->dim[axis] + begin[axis];
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
    EACH(i, fv_elements(y)) memcpy(element(y, i), element(x, within(x, task->attributes->slice.begin, y, i)), bytes);
    return FV_OK;
}

/* Element i of a box is element begin + step * position of the whole, axis by axis. */
static int64_t strided_from(const fv_strided_attributes *a, const fv_tensor *box, const fv_tensor *whole, int64_t i) {
    int64_t offset = 0, stride = 1;
    for (int axis = box->rank - 1; axis >= 0; axis--) {
        offset += (a->begin[axis] + i % box->dim[axis] * a->step[axis]) * stride;
        stride *= whole->dim[axis];
        i /= box->dim[axis];
    }
    return offset;
}

KERNEL(strided_slice) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    EACH(i, fv_elements(y))
        memcpy(element(y, i), element(x, strided_from(&task->attributes->strided, y, x, i)), element_bytes(y->type));
    return FV_OK;
}

KERNEL(strided_slice_gradient) {
    const fv_tensor *dy = &task->input[0], *dx = &task->output[0];
    const size_t bytes = element_bytes(dx->type);
    memset(dx->data, 0, (size_t)fv_elements(dx) * bytes);
    EACH(i, fv_elements(dy))
        memcpy(element(dx, strided_from(&task->attributes->strided, dy, dx, i)), element(dy, i), bytes);
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

/* Where position p of a padded axis comes from; -1: from nowhere. */
static int64_t pad_source(const fv_pad_attributes *a, int axis, int64_t p, int64_t size) {
    const int64_t i = p - a->before[axis];
    if (inside(i, size)) return i;
    switch (a->mode) {
    case FV_PAD_REFLECT: return i < 0 ? -i : 2 * (size - 1) - i;
    case FV_PAD_REPLICATE: return i < 0 ? 0 : size - 1;
    case FV_PAD_CIRCULAR: return i < 0 ? i + size : i - size;
    default: return -1;
    }
}

static void put_value(unsigned char *to, fv_type type, float value) {
    const REAL number = (REAL)value;
    const int32_t integer = (int32_t)value;
    const uint8_t byte = type == FV_U8 ? (uint8_t)value : 0;
    if (type == FV_F32) memcpy(to, &number, sizeof number);
    else if (type == FV_I32) memcpy(to, &integer, sizeof integer);
    else if (type == FV_U8) *to = byte;
    else memset(to, 0, element_bytes(type));
}

/* y[i, j, ..] = x[source(i), source(j), ..], the value where there is none */
KERNEL(pad) {
    const fv_pad_attributes *a = &task->attributes->pad;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    EACH(i, fv_elements(y)) {
        int64_t from = 0, stride = 1, rest = i;
        for (int axis = y->rank - 1; axis >= 0; axis--) {
            const int64_t source = pad_source(a, axis, rest % y->dim[axis], x->dim[axis]);
            from = source < 0 || from < 0 ? -1 : from + source * stride;
            stride *= x->dim[axis];
            rest /= y->dim[axis];
        }
        if (from < 0) put_value(element(y, i), y->type, a->value);
        else memcpy(element(y, i), element(x, from), element_bytes(y->type));
    }
    return FV_OK;
}

/* The sum of all elements of dy, from axis on, that come from element i of dx, which begins with offset in dy. */
static double folded(const fv_task *task, int axis, int64_t i, int64_t offset) {
    const fv_tensor *dy = &task->input[0], *dx = &task->output[0];
    if (axis == dx->rank) return real(dy)[offset];
    const int64_t position = i / span(dx, axis + 1, dx->rank) % dx->dim[axis];
    double sum = 0;
    EACH(p, dy->dim[axis])
        if (pad_source(&task->attributes->pad, axis, p, dx->dim[axis]) == position)
            sum += folded(task, axis + 1, i, offset * dy->dim[axis] + p);
    return sum;
}

/* dx[i, j, ..] = sum of dy[p, q, ..] over all p, q whose sources are i, j */
KERNEL(pad_gradient) {
    const fv_tensor *dx = &task->output[0];
    EACH(i, fv_elements(dx)) real(dx)[i] = (REAL)folded(task, 0, i, 0);
    return FV_OK;
}
