/* pointwise_loss.c - losses that sum a function f(p, t) of prediction and target over the elements of a row, and their
 * gradients by f's slope in p. A row's sum is divided by its number of elements; that of the Kullback-Leibler divergence
 * by its number of distributions, which lie along the last axis. */
#include "cpu/reference/reference.h"

typedef fv_pointwise_attributes settings;
typedef double formula(const settings *, double p, double t);

static double clip(double x, double low, double high) { return x < low ? low : x > high ? high : x; }
static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
/* log(1 + exp(x)) = - log(1 - sigmoid(x)) */
static double softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }

/* Keras's bounds: where probabilities are clipped, and what is added to Poisson's. */
static const double LEAST = 1e-7;

static double squared(const settings *a, double p, double t) { return (void)a, (p - t) * (p - t); }
static double squared_slope(const settings *a, double p, double t) { return (void)a, 2 * (p - t); }

static double absolute(const settings *a, double p, double t) { return (void)a, fabs(p - t); }
static double absolute_slope(const settings *a, double p, double t) { return (void)a, p > t ? 1 : p < t ? -1 : (p - t) * 0; }

static double huber(const settings *a, double p, double t) {
    const double d = fabs(p - t);
    return d <= a->delta ? d * d / 2 : a->delta * (d - (double)a->delta / 2);
}
static double huber_slope(const settings *a, double p, double t) { return clip(p - t, -a->delta, a->delta); }

static double log_cosh(const settings *a, double p, double t) { return (void)a, softplus(2 * (p - t)) - (p - t) - log(2); }
static double log_cosh_slope(const settings *a, double p, double t) { return (void)a, tanh(p - t); }

/* p are logits: sigmoid(p) is the probability of 1. */
static double bce_logits(const settings *a, double p, double t) {
    return a->weight * t * softplus(-p) + (1 - t) * softplus(p);
}
static double bce_logits_slope(const settings *a, double p, double t) {
    return (1 - t) * sigmoid(p) - a->weight * t * sigmoid(-p);
}

static double bce(const settings *a, double p, double t) {
    const double q = clip(p, LEAST, 1 - LEAST);
    return (void)a, -t * log(q) - (1 - t) * log(1 - q);
}
static double bce_slope(const settings *a, double p, double t) {
    return (void)a, p < LEAST || p > 1 - LEAST ? 0 : (1 - t) / (1 - p) - t / p;
}

/* Lin et al. 2017: what is already known well (q, the probability of being wrong, is small) counts less. */
static double balance(const settings *a, double t) {
    return a->alpha > 0 ? a->alpha * t + (1 - (double)a->alpha) * (1 - t) : 1;
}
static double focal(const settings *a, double p, double t) {
    const double q = (1 - t) * sigmoid(p) + t * sigmoid(-p);
    return balance(a, t) * pow(q, a->gamma) * (t * softplus(-p) + (1 - t) * softplus(p));
}
static double focal_slope(const settings *a, double p, double t) {
    const double q = (1 - t) * sigmoid(p) + t * sigmoid(-p), entropy = t * softplus(-p) + (1 - t) * softplus(p);
    const double dq = (1 - 2 * t) * sigmoid(p) * sigmoid(-p);
    return balance(a, t) * pow(q, a->gamma) *
           (a->gamma * dq / q * entropy + (1 - t) * sigmoid(p) - t * sigmoid(-p));
}

static double hinge(const settings *a, double p, double t) { return (void)a, 1 - t * p <= 0 ? 0 : 1 - t * p; }
static double hinge_slope(const settings *a, double p, double t) { return (void)a, 1 - t * p <= 0 ? 0 : -t; }
static double squared_hinge(const settings *a, double p, double t) { return pow(hinge(a, p, t), 2); }
static double squared_hinge_slope(const settings *a, double p, double t) { return -2 * t * hinge(a, p, t); }

static double divergence(const settings *a, double p, double t) {
    return (void)a, clip(t, LEAST, 1) * (log(clip(t, LEAST, 1)) - log(clip(p, LEAST, 1)));
}
static double divergence_slope(const settings *a, double p, double t) {
    return (void)a, p < LEAST || p > 1 ? 0 : -clip(t, LEAST, 1) / p;
}

static double poisson(const settings *a, double p, double t) { return (void)a, p - t * log(p + LEAST); }
static double poisson_slope(const settings *a, double p, double t) { return (void)a, 1 - t / (p + LEAST); }

static double right(const settings *a, double p, double t) {
    return isnan(p) || isnan(t) ? 0 : (p > a->threshold) == (t > 0.5);
}

/* What a row's sum is divided by: its elements, or its distributions over the last axis. */
static double divisor(const fv_task *task, int64_t row_elements, bool distributions) {
    return (double)(distributions ? row_elements / last_dim(&task->input[0]) : row_elements);
}

static int rows(const fv_task *task, formula *f, bool distributions) {
    const fv_tensor *p = &task->input[0], *t = &task->input[1], *loss = &task->output[0];
    const int64_t n = span(p, 1, p->rank);

    EACH(row, fv_elements(loss)) {
        double sum = 0;
        EACH(i, n) sum += f(&task->attributes->pointwise, real(p)[row * n + i], real(t)[row * n + i]);
        real(loss)[row] = (REAL)(sum / divisor(task, n, distributions));
    }
    return FV_OK;
}

static int slopes(const fv_task *task, formula *f, bool distributions) {
    const fv_tensor *p = &task->input[0], *t = &task->input[1], *dloss = &task->input[2], *dp = &task->output[0];
    const int64_t n = span(p, 1, p->rank);

    EACH(row, fv_elements(dloss)) EACH(i, n) {
        const double slope = f(&task->attributes->pointwise, real(p)[row * n + i], real(t)[row * n + i]);
        real(dp)[row * n + i] = (REAL)(real(dloss)[row] * slope / divisor(task, n, distributions));
    }
    return FV_OK;
}

#define POINTWISE(name, f, distributions)                                                                              \
    KERNEL(name) { return rows(task, f, distributions); }                                                              \
    KERNEL(name##_gradient) { return slopes(task, f##_slope, distributions); }

POINTWISE(mean_squared_error, squared, false)
POINTWISE(mean_absolute_error, absolute, false)
POINTWISE(huber, huber, false)
POINTWISE(log_cosh, log_cosh, false)
POINTWISE(binary_cross_entropy_logits, bce_logits, false)
POINTWISE(binary_cross_entropy, bce, false)
POINTWISE(sigmoid_focal, focal, false)
POINTWISE(hinge, hinge, false)
POINTWISE(squared_hinge, squared_hinge, false)
POINTWISE(kl_divergence, divergence, true)
POINTWISE(poisson, poisson, false)
KERNEL(binary_accuracy) { return rows(task, right, false); }
