/* loss.c - losses over classes, one value a row of [.., classes], and how they are counted.
 * A target is a class number (i32) or a distribution (f32) over the classes; label smoothing s makes it
 * (1 - s) t + s / classes, and class weights multiply it. A class number that is no class gives a NaN, never a read out
 * of bounds; one that is to be ignored gives a zero. */
#include "cpu/reference/reference.h"

static bool ignored(const fv_tensor *target, int64_t row, int ignore, int32_t label) {
    return ignore && target->type == FV_I32 && ((const int32_t *)target->data)[row] == label;
}

/* The weight of a class: input `at`, which may be absent. */
static double class_weight(const fv_task *task, int at, int64_t j) {
    return task->input_count > at && task->input[at].data ? real(&task->input[at])[j] : 1;
}

/* w_j t[row, j], smoothed; NaN where the target is not a class */
static double target_of(const fv_task *task, int weights, int64_t row, int64_t j) {
    const fv_tensor *target = &task->input[1];
    const fv_loss_attributes *a = &task->attributes->loss;
    const int64_t classes = last_dim(&task->input[0]);
    double t;
    if (ignored(target, row, a->ignore, a->label)) return 0;
    if (target->type == FV_I32) {
        const int32_t label = ((const int32_t *)target->data)[row];
        t = inside(label, classes) ? label == j : NAN;
    } else {
        t = real(target)[row * classes + j];
    }
    return class_weight(task, weights, j) * ((1 - (double)a->smoothing) * t + (double)a->smoothing / (double)classes);
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

/* Lin et al. 2017: - (1 - p)^gamma log p, which is - log p without gamma; and p times its slope in p. */
static double focal(double log_p, double gamma) { return gamma == 0 ? -log_p : pow(-expm1(log_p), gamma) * -log_p; }
static double focal_slope(double log_p, double gamma) {
    const double q = -expm1(log_p); /* 1 - p */
    if (gamma == 0) return -1;
    return pow(q, gamma) * (gamma * (q == 0 ? -1 : exp(log_p) * log_p / q) - 1);
}

/* loss = sum over j of w_j t_j focal(log softmax(x)_j); a class of weight zero adds nothing, however unlikely */
KERNEL(softmax_cross_entropy) {
    const fv_tensor *logits = &task->input[0], *loss = &task->output[0];
    const int64_t classes = last_dim(logits);

    EACH(row, fv_elements(loss)) {
        const REAL *x = real(logits) + row * classes;
        const double log_sum = row_log_sum_exp(x, classes);
        double sum = 0;
        EACH(j, classes) {
            const double t = target_of(task, 2, row, j);
            if (t != 0) sum += t * focal(x[j] - log_sum, task->attributes->loss.gamma);
        }
        real(loss)[row] = (REAL)sum;
    }
    return FV_OK;
}

/* dx_j = dloss (t_j s_j - softmax(x)_j sum of t_i s_i), s = focal_slope: without gamma dloss (softmax(x)_j sum t_i - t_j) */
KERNEL(softmax_cross_entropy_gradient) {
    const fv_tensor *logits = &task->input[0], *dloss = &task->input[2];
    const int64_t classes = last_dim(logits);
    const double gamma = task->attributes->loss.gamma;

    EACH(row, fv_elements(dloss)) {
        const REAL *x = real(logits) + row * classes;
        REAL *dx = real(&task->output[0]) + row * classes;
        const double log_sum = row_log_sum_exp(x, classes);
        const bool off = ignored(&task->input[1], row, task->attributes->loss.ignore, task->attributes->loss.label);
        double sum = 0;
        EACH(j, classes) sum += target_of(task, 3, row, j) * focal_slope(x[j] - log_sum, gamma);
        EACH(j, classes) {
            const double t = target_of(task, 3, row, j) * focal_slope(x[j] - log_sum, gamma);
            dx[j] = (REAL)(off ? 0 : real(dloss)[row] * (t - exp(x[j] - log_sum) * sum));
        }
    }
    return FV_OK;
}

/* Probabilities are clipped to where the logarithm is harmless, with Keras's bound. */
static const double LEAST_PROBABILITY = 1e-7;

/* loss = sum over j of w_j t_j focal(log clip(p_j)) */
KERNEL(cross_entropy) {
    const fv_tensor *probabilities = &task->input[0], *loss = &task->output[0];
    const int64_t classes = last_dim(probabilities);

    EACH(row, fv_elements(loss)) {
        double sum = 0;
        EACH(j, classes) {
            const double t = target_of(task, 2, row, j);
            double p = real(probabilities)[row * classes + j];
            if (p < LEAST_PROBABILITY) p = LEAST_PROBABILITY;
            if (p > 1 - LEAST_PROBABILITY) p = 1 - LEAST_PROBABILITY;
            if (t != 0) sum += t * focal(log(p), task->attributes->loss.gamma);
        }
        real(loss)[row] = (REAL)sum;
    }
    return FV_OK;
}

/* dp_j = dloss w_j t_j focal_slope(log p_j) / p_j where p_j was not clipped, else 0 */
KERNEL(cross_entropy_gradient) {
    const fv_tensor *probabilities = &task->input[0], *dloss = &task->input[2];
    const int64_t classes = last_dim(probabilities);

    EACH(row, fv_elements(dloss)) EACH(j, classes) {
        const double t = target_of(task, 3, row, j), p = real(probabilities)[row * classes + j];
        const bool clipped = p < LEAST_PROBABILITY || p > 1 - LEAST_PROBABILITY;
        const bool off = ignored(&task->input[1], row, task->attributes->loss.ignore, task->attributes->loss.label);
        const double slope = focal_slope(log(p), task->attributes->loss.gamma);
        real(&task->output[0])[row * classes + j] =
            (REAL)(off || (clipped && !isnan(t)) ? 0 : real(dloss)[row] * t * slope / p);
    }
    return FV_OK;
}

/* 1 / sum of the class weights of the labels that are not ignored; 0 where there are none */
KERNEL(target_scale) {
    const fv_tensor *target = &task->input[0];
    const fv_loss_attributes *a = &task->attributes->loss;
    const int64_t classes = task->input_count > 1 && task->input[1].data ? fv_elements(&task->input[1]) : INT32_MAX;
    double sum = 0;
    EACH(row, fv_elements(target)) {
        const int32_t label = ((const int32_t *)target->data)[row];
        if (!ignored(target, row, a->ignore, a->label)) sum += inside(label, classes) ? class_weight(task, 1, label) : NAN;
    }
    real(&task->output[0])[0] = (REAL)(sum == 0 ? 0 : 1 / sum);
    return FV_OK;
}

/* ---- Margins ----------------------------------------------------------------------------------------------------- */

/* What class j lacks of being `margin` below the target's score: 0 for the target itself, NaN where that is no class. */
static double lack(const fv_task *task, int64_t row, int64_t j) {
    const int64_t classes = last_dim(&task->input[0]);
    const int32_t label = ((const int32_t *)task->input[1].data)[row];
    const REAL *x = real(&task->input[0]) + row * classes;
    if (!inside(label, classes)) return NAN;
    const double missing = task->attributes->loss.margin + (double)x[j] - x[label];
    return j == label || missing <= 0 ? 0 : missing;
}

/* loss = w_target sum over j != target of max(0, margin + x_j - x_target) / classes, or of its square */
KERNEL(multi_margin) {
    const fv_loss_attributes *a = &task->attributes->loss;
    const int64_t classes = last_dim(&task->input[0]);

    EACH(row, fv_elements(&task->output[0])) {
        const int32_t label = ((const int32_t *)task->input[1].data)[row];
        double sum = 0;
        EACH(j, classes) sum += a->squared ? pow(lack(task, row, j), 2) : lack(task, row, j);
        if (inside(label, classes)) sum *= class_weight(task, 2, label);
        real(&task->output[0])[row] =
            (REAL)(ignored(&task->input[1], row, a->ignore, a->label) ? 0 : sum / (double)classes);
    }
    return FV_OK;
}

KERNEL(multi_margin_gradient) {
    const fv_loss_attributes *a = &task->attributes->loss;
    const int64_t classes = last_dim(&task->input[0]);

    EACH(row, fv_elements(&task->input[2])) {
        const int32_t label = ((const int32_t *)task->input[1].data)[row];
        const bool off = ignored(&task->input[1], row, a->ignore, a->label);
        REAL *dx = real(&task->output[0]) + row * classes;
        double scale = (double)real(&task->input[2])[row] / (double)classes, sum = 0;
        if (inside(label, classes)) scale *= class_weight(task, 3, label);
        EACH(j, classes) {
            const double missing = lack(task, row, j), slope = a->squared ? 2 * missing : missing > 0 ? 1 : missing;
            dx[j] = (REAL)(off ? 0 : scale * slope);
            sum += slope;
        }
        if (!off && inside(label, classes)) dx[label] = (REAL)(-scale * sum);
    }
    return FV_OK;
}

/* ---- Angles ------------------------------------------------------------------------------------------------------ */

/* Vectors shorter than 1e-6 count as being that long, as in Keras. */
static double length_of(const REAL *x, int64_t n) {
    double sum = 0;
    EACH(j, n) sum += (double)x[j] * x[j];
    return sqrt(sum < 1e-12 ? 1e-12 : sum);
}

static double dot(const REAL *x, const REAL *t, int64_t n) {
    double sum = 0;
    EACH(j, n) sum += (double)x[j] * t[j];
    return sum;
}

/* loss = - x t / (|x| |t|) */
KERNEL(cosine_similarity) {
    const int64_t n = last_dim(&task->input[0]);
    EACH(row, fv_elements(&task->output[0])) {
        const REAL *x = real(&task->input[0]) + row * n, *t = real(&task->input[1]) + row * n;
        real(&task->output[0])[row] = (REAL)(-dot(x, t, n) / (length_of(x, n) * length_of(t, n)));
    }
    return FV_OK;
}

/* dx = dloss (x (x t) / |x|^2 - t) / (|x| |t|), the first term only where |x| is not held at its bound */
KERNEL(cosine_similarity_gradient) {
    const int64_t n = last_dim(&task->input[0]);
    EACH(row, fv_elements(&task->input[2])) {
        const REAL *x = real(&task->input[0]) + row * n, *t = real(&task->input[1]) + row * n;
        const double length = length_of(x, n), along = dot(x, x, n) < 1e-12 ? 0 : dot(x, t, n) / (length * length);
        EACH(j, n) {
            const double slope = (x[j] * along - t[j]) / (length * length_of(t, n));
            real(&task->output[0])[row * n + j] = (REAL)(real(&task->input[2])[row] * slope);
        }
    }
    return FV_OK;
}

/* ---- Metrics ----------------------------------------------------------------------------------------------------- */

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
        const fv_top_k_attributes *a = &task->attributes->top_k;
        bool counts = inside(label, classes) && !ignored(target, row, a->ignore, a->label);
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
