/* activation.c - activations and other functions of one number, a line each with their slopes: of the output y where
 * that is enough, else of the input x. Softmax and log-softmax run along one axis. NaN stays NaN. */
#include "cpu/reference/reference.h"

#define FUNCTION(name, expression)                                                                                     \
    KERNEL(name) {                                                                                                     \
        const double alpha = task->attributes->activation.alpha;                                                       \
        EACH(i, fv_elements(&task->output[0])) {                                                                       \
            const double x = real(&task->input[0])[i];                                                                 \
            real(&task->output[0])[i] = (REAL)(expression);                                                            \
        }                                                                                                              \
        (void)alpha;                                                                                                   \
        return FV_OK;                                                                                                  \
    }
/* dx = slope dy, where the slope is a function of v: the output or the input. Where it is zero dx is zero, whatever dy
 * is. */
#define SLOPE(name, v, expression)                                                                                     \
    KERNEL(name##_gradient) {                                                                                          \
        const double alpha = task->attributes->activation.alpha;                                                       \
        EACH(i, fv_elements(&task->output[0])) {                                                                       \
            const double v = real(&task->input[0])[i], slope = expression;                                             \
            real(&task->output[0])[i] = (REAL)(slope == 0 ? 0 : slope * real(&task->input[1])[i]);                     \
        }                                                                                                              \
        (void)alpha;                                                                                                   \
        return FV_OK;                                                                                                  \
    }

static const double selu_scale = 1.0507009873554804934, selu_alpha = 1.6732632423543772848; /* Klambauer et al. 2017 */
static const double inverse_root_two_pi = 0.39894228040143267794;

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double between(double x, double low, double high) { return x < low ? low : x > high ? high : x; }
static double normal_density(double x) { return inverse_root_two_pi * exp(-x * x / 2); }
static double normal_cumulative(double x) { return erfc(-x * 0.70710678118654752440) / 2; }
/* log(1 + exp(x)), which for large x is x */
static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }
/* gelu by tanh: x (1 + tanh(u)) / 2 = x sigmoid(2 u) */
static double twice_u(double x) { return 2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x); }
static double twice_u_slope(double x) { return 2 * 0.79788456080286535588 * (1 + 3 * 0.044715 * x * x); }
/* s (1 - s) for s = sigmoid(x), without cancellation */
static double sigmoid_slope(double x) { return exp(-fabs(x)) / ((1 + exp(-fabs(x))) * (1 + exp(-fabs(x)))); }
static double times(double x, double factor) { return factor == 0 ? 0 : x * factor; } /* not NaN where x is infinite */

/* clang-format off */
FUNCTION(relu, x < 0 ? 0 : x)                                     SLOPE(relu, y, y > 0 ? 1 : 0)
FUNCTION(tanh, tanh(x))                                           SLOPE(tanh, y, 1 - y * y)
FUNCTION(sigmoid, sigmoid(x))                                     SLOPE(sigmoid, y, y * (1 - y))
FUNCTION(leaky_relu, x < 0 ? alpha * x : x)                       SLOPE(leaky_relu, y, y > 0 ? 1 : alpha)
FUNCTION(elu, x < 0 ? alpha * expm1(x) : x)                       SLOPE(elu, y, y > 0 ? 1 : y + alpha)
FUNCTION(selu, selu_scale * (x < 0 ? selu_alpha * expm1(x) : x))  SLOPE(selu, y, y > 0 ? selu_scale : y + selu_scale * selu_alpha)
FUNCTION(relu6, between(x, 0, 6))                                 SLOPE(relu6, y, y > 0 && y < 6 ? 1 : 0)
FUNCTION(hard_tanh, between(x, -1, 1))                            SLOPE(hard_tanh, y, y > -1 && y < 1 ? 1 : 0)
FUNCTION(hard_sigmoid, between(x + 3, 0, 6) / 6)                  SLOPE(hard_sigmoid, y, y > 0 && y < 1 ? 1 / 6.0 : 0)
FUNCTION(softplus, softplus(x))                                   SLOPE(softplus, y, -expm1(-y))
FUNCTION(softsign, isinf(x) ? copysign(1, x) : x / (1 + fabs(x))) SLOPE(softsign, y, (1 - fabs(y)) * (1 - fabs(y)))
FUNCTION(gelu, times(x, normal_cumulative(x)))                    SLOPE(gelu, x, normal_cumulative(x) + times(x, normal_density(x)))
FUNCTION(gelu_tanh, times(x, sigmoid(twice_u(x))))                SLOPE(gelu_tanh, x, sigmoid(twice_u(x)) + times(x * twice_u_slope(x), sigmoid_slope(twice_u(x))))
FUNCTION(silu, times(x, sigmoid(x)))                              SLOPE(silu, x, sigmoid(x) + times(x, sigmoid_slope(x)))
FUNCTION(mish, times(x, tanh(softplus(x))))                       SLOPE(mish, x, tanh(softplus(x)) + times(x, sigmoid(x) / (cosh(softplus(x)) * cosh(softplus(x)))))
FUNCTION(hard_swish, times(x, between(x + 3, 0, 6) / 6))          SLOPE(hard_swish, x, x <= -3 ? 0 : x < 3 ? x / 3 + 0.5 : 1)

FUNCTION(exp, exp(x))
FUNCTION(log, log(x))
FUNCTION(sqrt, sqrt(x))                                           SLOPE(sqrt, y, 0.5 / y)
FUNCTION(rsqrt, 1 / sqrt(x))                                      SLOPE(rsqrt, y, -0.5 * y * y * y)
FUNCTION(square, x * x)                                           SLOPE(square, x, 2 * x)
/* clang-format on */

KERNEL(clamp) {
    const fv_clamp_attributes *a = &task->attributes->clamp;
    EACH(i, fv_elements(&task->output[0]))
        real(&task->output[0])[i] = (REAL)between(real(&task->input[0])[i], a->low, a->high);
    return FV_OK;
}

/* The bounds themselves let the gradient through. */
KERNEL(clamp_gradient) {
    const fv_clamp_attributes *a = &task->attributes->clamp;
    EACH(i, fv_elements(&task->output[0])) {
        const REAL x = real(&task->input[0])[i];
        real(&task->output[0])[i] = x < (REAL)a->low || x > (REAL)a->high ? 0 : real(&task->input[1])[i];
    }
    return FV_OK;
}

/* y = x above zero, slope x below */
KERNEL(prelu) {
    const fv_tensor *x = &task->input[0], *slope = &task->input[1];
    EACH(i, fv_elements(x)) {
        const double v = real(x)[i], s = real(slope)[broadcast_from(slope, x, i)];
        real(&task->output[0])[i] = (REAL)(v < 0 ? s * v : v);
    }
    return FV_OK;
}

KERNEL(prelu_gradient) {
    const fv_tensor *x = &task->input[0], *slope = &task->input[1], *dx = &task->output[0], *dslope = &task->output[1];
    EACH(i, fv_elements(x)) {
        const double v = real(x)[i], s = real(slope)[broadcast_from(slope, x, i)], d = real(&task->input[2])[i];
        if (dx->data) real(dx)[i] = (REAL)(v > 0 ? d : s * d);
        if (dslope->data) real(dslope)[i] = (REAL)(v > 0 ? 0 : v * d);
    }
    return FV_OK;
}

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
