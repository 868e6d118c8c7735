/* loss.c - losses, one value a row of [.., classes], and how they are counted.
 * A target is a class number (i32) or a distribution (f32) over the classes; label smoothing s makes it
 * (1 - s) t + s / classes. A class number that is no class gives a NaN, never a read out of bounds. */
#include "cpu/reference/reference.h"

/* t[row, j], smoothed; NaN where the target is not a class */
static double target_of(const fv_tensor *target, int64_t row, int64_t j, int64_t classes, double smoothing) {
    double t;
    if (target->type == FV_I32) {
        const int32_t label = ((const int32_t *)target->data)[row];
        t = inside(label, classes) ? label == j : NAN;
    } else {
        t = real(target)[row * classes + j];
    }
    return (1 - smoothing) * t + smoothing / (double)classes;
}

static double row_max(const REAL *x, int64_t classes) {
    double max = -INFINITY;
    EACH(j, classes) if (!(x[j] <= max)) max = x[j];
    return max;
}

static double row_log_sum_exp(const REAL *x, int64_t classes) {
    const double max = row_max(x, classes);
    double sum = 0;
    EACH(j, classes) sum += exp(x[j] - max);
    return max + log(sum);
}

/* loss = - sum over j of t_j log softmax(x)_j; a class of weight zero adds nothing, however unlikely */
KERNEL(softmax_cross_entropy) {
    const fv_tensor *logits = &task->input[0], *target = &task->input[1], *loss = &task->output[0];
    const int64_t classes = last_dim(logits);

    EACH(row, fv_elements(loss)) {
        const REAL *x = real(logits) + row * classes;
        const double log_sum = row_log_sum_exp(x, classes);
        double sum = 0;
        EACH(j, classes) {
            const double t = target_of(target, row, j, classes, task->attributes->loss.smoothing);
            if (t != 0) sum -= t * (x[j] - log_sum);
        }
        real(loss)[row] = (REAL)sum;
    }
    return FV_OK;
}

/* dx_j = dloss (softmax(x)_j sum of t_i - t_j); the sum is 1 unless a dense target is no distribution */
KERNEL(softmax_cross_entropy_gradient) {
    const fv_tensor *logits = &task->input[0], *target = &task->input[1], *dloss = &task->input[2];
    const int64_t classes = last_dim(logits);
    const double smoothing = task->attributes->loss.smoothing;

    EACH(row, fv_elements(dloss)) {
        const REAL *x = real(logits) + row * classes;
        REAL *dx = real(&task->output[0]) + row * classes;
        const double log_sum = row_log_sum_exp(x, classes);
        double sum = 0;
        EACH(j, classes) sum += target_of(target, row, j, classes, smoothing);
        EACH(j, classes) {
            const double softmax = exp(x[j] - log_sum);
            dx[j] = (REAL)(real(dloss)[row] * (softmax * sum - target_of(target, row, j, classes, smoothing)));
        }
    }
    return FV_OK;
}

/* Probabilities are clipped to where the logarithm is harmless, with Keras's bound. */
static const double LEAST_PROBABILITY = 1e-7;

/* loss = - sum over j of t_j log clip(p_j) */
KERNEL(cross_entropy) {
    const fv_tensor *probabilities = &task->input[0], *target = &task->input[1], *loss = &task->output[0];
    const int64_t classes = last_dim(probabilities);

    EACH(row, fv_elements(loss)) {
        double sum = 0;
        EACH(j, classes) {
            const double t = target_of(target, row, j, classes, task->attributes->loss.smoothing);
            double p = real(probabilities)[row * classes + j];
            if (p < LEAST_PROBABILITY) p = LEAST_PROBABILITY;
            if (p > 1 - LEAST_PROBABILITY) p = 1 - LEAST_PROBABILITY;
            if (t != 0) sum -= t * log(p);
        }
        real(loss)[row] = (REAL)sum;
    }
    return FV_OK;
}

/* dp_j = - dloss t_j / p_j where p_j was not clipped, else 0 */
KERNEL(cross_entropy_gradient) {
    const fv_tensor *probabilities = &task->input[0], *target = &task->input[1], *dloss = &task->input[2];
    const int64_t classes = last_dim(probabilities);

    EACH(row, fv_elements(dloss)) EACH(j, classes) {
        const double t = target_of(target, row, j, classes, task->attributes->loss.smoothing);
        const double p = real(probabilities)[row * classes + j];
        const bool clipped = p < LEAST_PROBABILITY || p > 1 - LEAST_PROBABILITY;
        real(&task->output[0])[row * classes + j] = (REAL)(clipped && !isnan(t) ? 0 : -real(dloss)[row] * t / p);
    }
    return FV_OK;
}

/* The class that a row's target names: of a dense one the first largest. -1: none. */
static int64_t target_class(const fv_tensor *target, int64_t row, int64_t classes) {
    if (target->type == FV_I32) return ((const int32_t *)target->data)[row];
    int64_t best = classes ? 0 : -1;
    EACH(j, classes) if (real(target)[row * classes + j] > real(target)[row * classes + best]) best = j;
    return best;
}

/* 1 where fewer than k classes come before the target: higher scores, or equal ones of a lower class */
KERNEL(in_top_k) {
    const fv_tensor *scores = &task->input[0], *target = &task->input[1], *y = &task->output[0];
    const int64_t classes = last_dim(scores);

    EACH(row, fv_elements(y)) {
        const REAL *x = real(scores) + row * classes;
        const int64_t label = target_class(target, row, classes);
        bool counts = inside(label, classes);
        int64_t before = 0;
        EACH(j, classes) {
            if (isnan(x[j])) counts = false;
            if (counts) before += x[j] > x[label] || (x[j] == x[label] && j < label);
        }
        real(y)[row] = counts && before < task->attributes->top_k.k;
    }
    return FV_OK;
}

/* Kahan's summation: state[0] is the sum, state[1] what the last additions put into it too much. */
KERNEL(metric_add) {
    const fv_tensor *values = &task->input[1];
    REAL *state = real(&task->output[0]);
    EACH(i, fv_elements(values)) {
        const REAL corrected = real(values)[i] - state[1], sum = state[0] + corrected;
        state[1] = (sum - state[0]) - corrected;
        state[0] = sum;
    }
    return FV_OK;
}
