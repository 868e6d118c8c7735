/* reduction.c - sums, means and maxima over a set of axes (bit i: axis i), and sums over everything. */
#include "cpu/reference/reference.h"

/* Walking only over the axes of a set, in row-major order: how many elements there are, and where the i-th of them
 * lies. */
static int64_t count_along(const fv_tensor *x, uint32_t axes) {
    int64_t count = 1;
    for (int axis = 0; axis < x->rank; axis++)
        if (axes >> axis & 1) count *= x->dim[axis];
    return count;
}

static int64_t offset_along(const fv_tensor *x, uint32_t axes, int64_t i) {
    int64_t offset = 0, stride = 1;
    for (int axis = x->rank - 1; axis >= 0; axis--) {
        if (axes >> axis & 1) {
            offset += i % x->dim[axis] * stride;
            i /= x->dim[axis];
        }
        stride *= x->dim[axis];
    }
    return offset;
}

/* Element r of those that output element o is made from. */
static int64_t reduced_from(const fv_tensor *x, uint32_t axes, int64_t o, int64_t r) {
    return offset_along(x, ~axes, o) + offset_along(x, axes, r);
}

static double sum_along(const fv_tensor *x, uint32_t axes, int64_t o) {
    double sum = 0;
    EACH(r, count_along(x, axes)) sum += real(x)[reduced_from(x, axes, o, r)];
    return sum;
}

KERNEL(sum) {
    const uint32_t axes = task->attributes->reduce.axes;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    EACH(o, fv_elements(y)) real(y)[o] = (REAL)sum_along(x, axes, o);
    return FV_OK;
}

KERNEL(mean) {
    const uint32_t axes = task->attributes->reduce.axes;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    EACH(o, fv_elements(y)) real(y)[o] = (REAL)(sum_along(x, axes, o) / (double)count_along(x, axes));
    return FV_OK;
}

KERNEL(sum_squares) {
    const fv_tensor *x = &task->input[0];
    double sum = 0;
    EACH(i, fv_elements(x)) sum += (double)real(x)[i] * real(x)[i];
    real(&task->output[0])[0] = (REAL)sum;
    return FV_OK;
}

KERNEL(sum_abs) {
    const fv_tensor *x = &task->input[0];
    double sum = 0;
    EACH(i, fv_elements(x)) sum += fabs((double)real(x)[i]);
    real(&task->output[0])[0] = (REAL)sum;
    return FV_OK;
}

/* NaN wins over every number. */
KERNEL(max) {
    const uint32_t axes = task->attributes->reduce.axes;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    EACH(o, fv_elements(y)) {
        REAL best = (REAL)-INFINITY;
        EACH(r, count_along(x, axes)) {
            const REAL value = real(x)[reduced_from(x, axes, o, r)];
            if (value > best || isnan(value)) best = value;
        }
        real(y)[o] = best;
    }
    return FV_OK;
}

/* dx = dy / number of equal maxima where x = y, else 0 */
KERNEL(max_gradient) {
    const uint32_t axes = task->attributes->reduce.axes;
    const fv_tensor *x = &task->input[0], *y = &task->input[1], *dy = &task->input[2], *dx = &task->output[0];
    EACH(o, fv_elements(y)) {
        int64_t equal = 0;
        EACH(r, count_along(x, axes)) equal += real(x)[reduced_from(x, axes, o, r)] == real(y)[o];
        EACH(r, count_along(x, axes)) {
            const int64_t i = reduced_from(x, axes, o, r);
            real(dx)[i] = real(x)[i] == real(y)[o] ? (REAL)(real(dy)[o] / (double)equal) : 0;
        }
    }
    return FV_OK;
}
