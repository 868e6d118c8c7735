/* reduction.c - sums, means, products, extremes, variances over a set of axes (bit i: axis i), sums over everything, and
 * running sums along an axis. */
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

/* NaN wins over every number. */
KERNEL(min) {
    const uint32_t axes = task->attributes->reduce.axes;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    EACH(o, fv_elements(y)) {
        REAL best = (REAL)INFINITY;
        EACH(r, count_along(x, axes)) {
            const REAL value = real(x)[reduced_from(x, axes, o, r)];
            if (value < best || isnan(value)) best = value;
        }
        real(y)[o] = best;
    }
    return FV_OK;
}

KERNEL(prod) {
    const uint32_t axes = task->attributes->reduce.axes;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    EACH(o, fv_elements(y)) {
        double product = 1;
        EACH(r, count_along(x, axes)) product *= real(x)[reduced_from(x, axes, o, r)];
        real(y)[o] = (REAL)product;
    }
    return FV_OK;
}

/* dx = dy times the product of the others: the product of all that are not zero, divided by x unless x is the zero */
KERNEL(prod_gradient) {
    const uint32_t axes = task->attributes->reduce.axes;
    const fv_tensor *x = &task->input[0], *dy = &task->input[1], *dx = &task->output[0];
    EACH(o, fv_elements(dy)) {
        double product = 1;
        int64_t zeros = 0;
        EACH(r, count_along(x, axes)) {
            const double value = real(x)[reduced_from(x, axes, o, r)];
            if (value == 0) zeros++;
            else product *= value;
        }
        EACH(r, count_along(x, axes)) {
            const int64_t i = reduced_from(x, axes, o, r);
            const double value = real(x)[i];
            double others = 0;
            if (value == 0 && zeros == 1) others = product;
            if (zeros == 0) others = product / value;
            real(dx)[i] = (REAL)(real(dy)[o] * others);
        }
    }
    return FV_OK;
}

/* variance = sum of (x - mean)^2 / (count - correction) */
KERNEL(variance) {
    const uint32_t axes = task->attributes->reduce.axes;
    const fv_tensor *x = &task->input[0], *variance = &task->output[0], *mean = &task->output[1];
    const double count = (double)count_along(x, axes);
    EACH(o, fv_elements(variance)) {
        const double middle = sum_along(x, axes, o) / count;
        double sum = 0;
        EACH(r, count_along(x, axes)) {
            const double difference = real(x)[reduced_from(x, axes, o, r)] - middle;
            sum += difference * difference;
        }
        if (variance->data) real(variance)[o] = (REAL)(sum / (count - task->attributes->reduce.correction));
        if (mean->data) real(mean)[o] = (REAL)middle;
    }
    return FV_OK;
}

/* y = max + log of the sum of exp(x - max); an infinite maximum is the result */
KERNEL(logsumexp) {
    const uint32_t axes = task->attributes->reduce.axes;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    EACH(o, fv_elements(y)) {
        double max = -INFINITY, sum = 0;
        EACH(r, count_along(x, axes)) {
            const double value = real(x)[reduced_from(x, axes, o, r)];
            if (value > max || isnan(value)) max = value;
        }
        EACH(r, count_along(x, axes)) sum += exp(real(x)[reduced_from(x, axes, o, r)] - max);
        real(y)[o] = (REAL)(isinf(max) ? max : max + log(sum));
    }
    return FV_OK;
}

/* dx = dy exp(x - y) */
KERNEL(logsumexp_gradient) {
    const uint32_t axes = task->attributes->reduce.axes;
    const fv_tensor *x = &task->input[0], *y = &task->input[1], *dy = &task->input[2], *dx = &task->output[0];
    EACH(o, fv_elements(y)) EACH(r, count_along(x, axes)) {
        const int64_t i = reduced_from(x, axes, o, r);
        real(dx)[i] = (REAL)(real(dy)[o] * exp((double)real(x)[i] - real(y)[o]));
    }
    return FV_OK;
}

/* Where the first largest element is (sign 1), or the first smallest (-1); NaN wins over every number. */
static void first_best(const fv_task *task, int sign) {
    const uint32_t axes = task->attributes->reduce.axes;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    EACH(o, fv_elements(y)) {
        int64_t best = 0;
        EACH(r, count_along(x, axes)) {
            const REAL value = sign * real(x)[reduced_from(x, axes, o, r)];
            const REAL most = sign * real(x)[reduced_from(x, axes, o, best)];
            if (value > most || (isnan(value) && !isnan(most))) best = r;
        }
        ((int32_t *)y->data)[o] = (int32_t)best;
    }
}
KERNEL(argmax) { return first_best(task, 1), FV_OK; }
KERNEL(argmin) { return first_best(task, -1), FV_OK; }

/* y[.., i, ..] = sum of x[.., j, ..], j <= i; exclusive: j < i; reverse: counted from the end */
KERNEL(cumsum) {
    const fv_cumsum_attributes *a = &task->attributes->cumsum;
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    const int64_t n = x->dim[a->axis], inner = span(x, a->axis + 1, x->rank);
    EACH(o, span(x, 0, a->axis)) EACH(k, inner) {
        double sum = 0;
        EACH(i, n) {
            const int64_t at = (o * n + (a->reverse ? n - 1 - i : i)) * inner + k;
            const double value = real(x)[at];
            real(y)[at] = (REAL)(a->exclusive ? sum : sum + value);
            sum += value;
        }
    }
    return FV_OK;
}
