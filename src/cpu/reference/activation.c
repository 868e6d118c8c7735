/* activation.c - activations and their gradients, which use the output y: relu' = [y > 0], tanh' = 1 - y^2,
 * sigmoid' = y (1 - y). Softmax and log-softmax run along one axis. NaN stays NaN. */
#include "cpu/reference/reference.h"

static double relu(double x) { return x < 0 ? 0 : x; }
static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double relu_slope(double y) { return y > 0 ? 1 : 0; }
static double tanh_slope(double y) { return 1 - y * y; }
static double sigmoid_slope(double y) { return y * (1 - y); }

static int apply(const fv_task *task, double (*function)(double)) {
    const fv_tensor *x = &task->input[0], *y = &task->output[0];
    EACH(i, fv_elements(y)) real(y)[i] = (REAL)function(real(x)[i]);
    return FV_OK;
}

/* dx = dy f'(x), where f' is a function of y. Where the slope is zero dx is zero, whatever dy is. */
static int apply_gradient(const fv_task *task, double (*slope)(double)) {
    const fv_tensor *y = &task->input[0], *dy = &task->input[1], *dx = &task->output[0];
    EACH(i, fv_elements(dx)) {
        const double s = slope(real(y)[i]);
        real(dx)[i] = (REAL)(s == 0 ? 0 : s * real(dy)[i]);
    }
    return FV_OK;
}

KERNEL(relu) { return apply(task, relu); }
KERNEL(relu_gradient) { return apply_gradient(task, relu_slope); }
KERNEL(tanh) { return apply(task, tanh); }
KERNEL(tanh_gradient) { return apply_gradient(task, tanh_slope); }
KERNEL(sigmoid) { return apply(task, sigmoid); }
KERNEL(sigmoid_gradient) { return apply_gradient(task, sigmoid_slope); }

/* Vectors along one axis: element j of vector v lies at first(v) + j stride. */
typedef struct lines {
    int64_t count, length, stride;
} lines;

static lines lines_along(const fv_tensor *t, int axis) {
    lines l = { .count = 1, .length = 1, .stride = 1 };
    if (t->rank == 0) return l;
    l.length = t->dim[axis];
    l.stride = span(t, axis + 1, t->rank);
    l.count = span(t, 0, axis) * l.stride;
    return l;
}

static int64_t line_first(lines l, int64_t v) {
    return v / l.stride * l.length * l.stride + v % l.stride;
}

static double line_max(const REAL *x, lines l) {
    double max = x[0];
    EACH(j, l.length) if (!(x[j * l.stride] <= max)) max = x[j * l.stride];
    return max;
}

/* The sum of exp(x - max): the largest term is 1, so nothing overflows. */
static double line_sum_exp(const REAL *x, lines l, double max) {
    double sum = 0;
    EACH(j, l.length) sum += exp(x[j * l.stride] - max);
    return sum;
}

/* y_j = exp(x_j) / sum of exp(x_i) */
KERNEL(softmax) {
    const fv_tensor *y = &task->output[0];
    const lines l = lines_along(y, task->attributes->axis.axis);
    if (l.length == 0) return FV_OK;

    EACH(v, l.count) {
        const REAL *in = real(&task->input[0]) + line_first(l, v);
        REAL *out = real(y) + line_first(l, v);
        const double max = line_max(in, l), sum = line_sum_exp(in, l, max);
        EACH(j, l.length) out[j * l.stride] = (REAL)(exp(in[j * l.stride] - max) / sum);
    }
    return FV_OK;
}

/* y_j = x_j - log of the sum of exp(x_i) */
KERNEL(log_softmax) {
    const fv_tensor *y = &task->output[0];
    const lines l = lines_along(y, task->attributes->axis.axis);
    if (l.length == 0) return FV_OK;

    EACH(v, l.count) {
        const REAL *in = real(&task->input[0]) + line_first(l, v);
        REAL *out = real(y) + line_first(l, v);
        const double max = line_max(in, l), log_sum = log(line_sum_exp(in, l, max));
        EACH(j, l.length) out[j * l.stride] = (REAL)(in[j * l.stride] - max - log_sum);
    }
    return FV_OK;
}

/* dx_j = y_j (dy_j - sum of y_i dy_i) */
KERNEL(softmax_gradient) {
    const fv_tensor *dx = &task->output[0];
    const lines l = lines_along(dx, task->attributes->axis.axis);

    EACH(v, l.count) {
        const REAL *y = real(&task->input[0]) + line_first(l, v), *dy = real(&task->input[1]) + line_first(l, v);
        REAL *out = real(dx) + line_first(l, v);
        double dot = 0;
        EACH(j, l.length) dot += (double)y[j * l.stride] * dy[j * l.stride];
        EACH(j, l.length) out[j * l.stride] = (REAL)(y[j * l.stride] * (dy[j * l.stride] - dot));
    }
    return FV_OK;
}

/* dx_j = dy_j - exp(y_j) sum of dy_i */
KERNEL(log_softmax_gradient) {
    const fv_tensor *dx = &task->output[0];
    const lines l = lines_along(dx, task->attributes->axis.axis);

    EACH(v, l.count) {
        const REAL *y = real(&task->input[0]) + line_first(l, v), *dy = real(&task->input[1]) + line_first(l, v);
        REAL *out = real(dx) + line_first(l, v);
        double sum = 0;
        EACH(j, l.length) sum += dy[j * l.stride];
        EACH(j, l.length) out[j * l.stride] = (REAL)(dy[j * l.stride] - exp(y[j * l.stride]) * sum);
    }
    return FV_OK;
}
