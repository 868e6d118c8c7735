/* bounds.c - what the tests know of each operation: who builds its problems, how large its error may be, which
 * gradients are compared with differences. The magnitudes are sums of absolute values: what an element would be if
 * nothing in its formula cancelled. */
#include "support/operations.h"
#include <math.h>
#include <string.h>

static int64_t elements_of(const operand *o) { return fv_shape_elements(&o->shape); }
static int64_t channels_of(const operand *o) { return o->shape.rank ? o->shape.dim[o->shape.rank - 1] : 1; }

static const double *values(const problem *p, const char *name) {
    for (int i = 0; i < p->input_count; i++)
        if (!strcmp(p->input[i].name, name)) return p->input[i].absent ? NULL : p->input[i].value;
    return NULL;
}

static double largest(const double *value, int64_t count) {
    double max = 0;
    for (int64_t i = 0; i < count; i++)
        if (isfinite(value[i]) && fabs(value[i]) > max) max = fabs(value[i]);
    return max;
}

static double at(const double *value, int64_t i, double otherwise) { return value ? fabs(value[i]) : otherwise; }

/* ---- Activations ------------------------------------------------------------------------------------------------- */

/* Where nothing cancels: sums of what is not negative, products. */
void magnitude_output(const problem *p, double *const *output, double *const *magnitude) {
    for (int o = 0; o < p->output_count; o++)
        for (int64_t i = 0; magnitude[o] && i < elements_of(&p->output[o]); i++) magnitude[o][i] = fabs(output[o][i]);
}

/* The exponential's argument is rounded: exp(x (1 + u)) = exp(x) (1 + x u). */
void magnitude_sigmoid(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x");
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++)
        magnitude[0][i] = fabs(output[0][i]) * (1 + (x[i] < 0 ? fmin(-x[i], 200) : 0));
}

/* 1 - y^2 cancels where y is near 1. */
void magnitude_tanh_gradient(const problem *p, double *const *output, double *const *magnitude) {
    const double *dy = values(p, "dy");
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) magnitude[0][i] = fabs(dy[i]);
}

void magnitude_softmax(const problem *p, double *const *output, double *const *magnitude) {
    const double range = 2 * largest(values(p, "x"), elements_of(&p->input[0]));
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) magnitude[0][i] = fabs(output[0][i]) * (1 + range);
}

void magnitude_log_softmax(const problem *p, double *const *output, double *const *magnitude) {
    const double range = 2 * largest(values(p, "x"), elements_of(&p->input[0]));
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) magnitude[0][i] = 1 + range + log((double)p->terms);
}

/* y_j (|dy_j| + sum of y |dy|) */
void magnitude_softmax_gradient(const problem *p, double *const *output, double *const *magnitude) {
    const double *y = values(p, "y"), *dy = values(p, "dy");
    const double most = largest(dy, elements_of(&p->output[0]));
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) magnitude[0][i] = y[i] * (fabs(dy[i]) + most);
}

/* |dy_j| + exp(y_j) (1 + |y_j|) sum of |dy| */
void magnitude_log_softmax_gradient(const problem *p, double *const *output, double *const *magnitude) {
    const double *y = values(p, "y"), *dy = values(p, "dy");
    const double sum = largest(dy, elements_of(&p->output[0])) * (double)p->terms;
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++)
        magnitude[0][i] = fabs(dy[i]) + exp(y[i]) * (1 + fabs(y[i])) * sum;
}

/* ---- Normalisation ----------------------------------------------------------------------------------------------- */

static double mean_absolute(const double *x, int64_t c, int64_t channels, int64_t rows) {
    double sum = 0;
    for (int64_t i = 0; i < rows; i++) sum += fabs(x[i * channels + c]);
    return sum / (double)rows;
}

static void set(double *magnitude, int64_t i, double value) {
    if (magnitude) magnitude[i] = value;
}

static double oracle_inverse(const problem *p, double *const *output, int64_t c) {
    if (output[2]) return output[2][c];
    double sum = 0, squares = 0; /* nobody reads it: found again */
    const double *x = values(p, "x");
    const int64_t channels = channels_of(&p->input[0]), rows = elements_of(&p->input[0]) / channels;
    for (int64_t i = 0; i < rows; i++) sum += x[i * channels + c];
    for (int64_t i = 0; i < rows; i++) squares += pow(x[i * channels + c] - sum / (double)rows, 2);
    return 1 / sqrt(squares / (double)rows + p->attributes.norm.epsilon);
}

void magnitude_batch_norm_train(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x"), *gamma = values(p, "gamma"), *beta = values(p, "beta");
    const double *mean = values(p, "mean"), *variance = values(p, "variance");
    const int64_t channels = channels_of(&p->input[0]), rows = elements_of(&p->input[0]) / channels;
    for (int64_t c = 0; c < channels; c++) {
        const double level = mean_absolute(x, c, channels, rows), inverse = oracle_inverse(p, output, c);
        for (int64_t i = 0; magnitude[0] && i < rows; i++)
            magnitude[0][i * channels + c] =
                at(gamma, c, 1) * inverse * (fabs(x[i * channels + c]) + level) + at(beta, c, 0);
        set(magnitude[1], c, level);
        set(magnitude[2], c, inverse);
        set(magnitude[3], c, fabs(mean[c]) + level);
        set(magnitude[4], c, variance[c] + 1 / (inverse * inverse));
    }
}

/* With X = (|x| + |mean|) / deviation: gamma / deviation (|dy| + mean |dy| + X mean |dy| X), sum |dy| X, sum |dy| */
static void gradient_magnitude(const problem *p, const double *inverse, bool statistics, double *const *magnitude) {
    const double *x = values(p, "x"), *dy = values(p, "dy"), *gamma = values(p, "gamma"), *mean = values(p, "mean");
    const int64_t channels = channels_of(&p->input[0]), rows = elements_of(&p->input[0]) / channels;
    for (int64_t c = 0; c < channels; c++) {
        double dbeta = 0, dgamma = 0;
        for (int64_t i = 0; i < rows; i++) {
            dbeta += fabs(dy[i * channels + c]);
            dgamma += fabs(dy[i * channels + c]) * (fabs(x[i * channels + c]) + fabs(mean[c])) * inverse[c];
        }
        for (int64_t i = 0; magnitude[0] && i < rows; i++) {
            const double normal = (fabs(x[i * channels + c]) + fabs(mean[c])) * inverse[c];
            const double pulled = statistics ? (dbeta + normal * dgamma) / (double)rows : 0;
            magnitude[0][i * channels + c] = at(gamma, c, 1) * inverse[c] * (fabs(dy[i * channels + c]) + pulled);
        }
        set(magnitude[1], c, dgamma);
        set(magnitude[2], c, dbeta);
    }
}

void magnitude_batch_norm_gradient(const problem *p, double *const *output, double *const *magnitude) {
    (void)output;
    gradient_magnitude(p, values(p, "inverse"), true, magnitude);
}

void magnitude_batch_norm_infer_gradient(const problem *p, double *const *output, double *const *magnitude) {
    const double *variance = values(p, "variance");
    double inverse[512];
    (void)output;
    for (int64_t c = 0; c < channels_of(&p->input[0]) && c < 512; c++)
        inverse[c] = 1 / sqrt(variance[c] + p->attributes.norm.epsilon);
    gradient_magnitude(p, inverse, false, magnitude);
}

void magnitude_batch_norm_infer(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x"), *gamma = values(p, "gamma"), *beta = values(p, "beta");
    const double *mean = values(p, "mean"), *variance = values(p, "variance");
    const int64_t channels = channels_of(&p->input[0]);
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->input[0]); i++) {
        const int64_t c = i % channels;
        const double inverse = 1 / sqrt(variance[c] + p->attributes.norm.epsilon);
        magnitude[0][i] = at(gamma, c, 1) * inverse * (fabs(x[i]) + fabs(mean[c])) + at(beta, c, 0);
    }
}

void magnitude_lrn_gradient(const problem *p, double *const *output, double *const *magnitude) {
    const fv_lrn_attributes *a = &p->attributes.lrn;
    const double *x = values(p, "x"), *y = values(p, "y"), *dy = values(p, "dy");
    const double most = largest(y, elements_of(&p->input[0])) * largest(dy, elements_of(&p->input[0])) / a->k;
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->input[0]); i++)
        magnitude[0][i] = fabs(dy[i]) * pow(a->k, -a->beta) +
                          2 * fabs((double)a->alpha * a->beta * x[i]) * (double)p->terms * most;
}

/* ---- Arithmetic, losses, state ----------------------------------------------------------------------------------- */

void magnitude_affine(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x");
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++)
        magnitude[0][i] = fabs(p->attributes.affine.a * x[i]) + fabs((double)p->attributes.affine.b);
}

void magnitude_normalize(const problem *p, double *const *output, double *const *magnitude) {
    const fv_normalize_attributes *a = &p->attributes.normalize;
    const double *x = values(p, "x");
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) {
        const int64_t channel = i % channels_of(&p->output[0]), c = channel < 3 ? channel : 3;
        magnitude[0][i] = (fabs(x[i] * a->scale) + fabs((double)a->mean[c])) / fabs((double)a->deviation[c]);
    }
}

/* Sum of |t| of a row, once smoothed. */
static double target_weight(const problem *p, int64_t row, int64_t classes) {
    const operand *target = &p->input[1];
    if (target->type == FV_I32) return 1;
    double sum = 0;
    for (int64_t j = 0; j < classes; j++) sum += fabs(target->value[row * classes + j]);
    return sum + p->attributes.loss.smoothing;
}

/* sum of |t| (|x| + log of the sum of exp); the gradients: dloss times (1 + that) */
void magnitude_softmax_cross_entropy(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x"), *dloss = values(p, "dloss");
    const int64_t classes = channels_of(&p->input[0]);
    (void)output;
    for (int o = 0; o < p->output_count; o++) {
        if (!magnitude[o]) continue;
        const bool gradient = p->output[o].shape.rank == 2;
        for (int64_t i = 0; i < elements_of(&p->output[o]); i++) {
            const int64_t row = gradient ? i / classes : i;
            const double range = 2 * largest(x + row * classes, classes) + log((double)classes);
            magnitude[o][i] = target_weight(p, row, classes) * (1 + range) * (gradient ? fabs(dloss[row]) : 1);
        }
    }
}

/* sum of |t| (1 + |log p|) */
void magnitude_cross_entropy(const problem *p, double *const *output, double *const *magnitude) {
    const int64_t classes = channels_of(&p->input[0]);
    (void)output;
    for (int64_t row = 0; row < elements_of(&p->output[0]); row++)
        magnitude[0][row] = target_weight(p, row, classes) * (1 + log(20));
}

/* |dloss| |t| / p, the two parts of a smoothed target apart: they may cancel */
void magnitude_cross_entropy_gradient(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x"), *dloss = values(p, "dloss"), smoothing = p->attributes.loss.smoothing;
    const operand *target = &p->input[1];
    const int64_t classes = channels_of(&p->input[0]);
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) {
        const double t =
            target->type == FV_I32 ? target->value[i / classes] == (double)(i % classes) : target->value[i];
        const double weight = (1 - smoothing) * fabs(t) + smoothing / (double)classes;
        magnitude[0][i] = fabs(dloss[i / classes]) * weight / x[i];
    }
}

void magnitude_metric(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x"), *state = values(p, "state");
    double sum = fabs(state[0]) + fabs(state[1]);
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->input[1]); i++) sum += fabs(x[i]);
    magnitude[0][0] = magnitude[0][1] = sum;
}

/* Old and new value, and the gradient that moved it; what lies between the parameters stays. */
void magnitude_update(const problem *p, double *const *output, double *const *magnitude) {
    const double *g = values(p, "gradients");
    for (int o = 0; o < p->output_count; o++) {
        const double *old = p->input[written_input(p->op, o)].value;
        for (int64_t i = 0; magnitude[o] && i < elements_of(&p->output[o]); i++) {
            const double pulled = fabs(g[i]) < 1e20 ? fabs(g[i]) : 0;
            magnitude[o][i] = old[i] == output[o][i] ? 0 : fabs(old[i]) + fabs(output[o][i]) + pulled + pulled * pulled;
        }
    }
}

/* ---- The rules --------------------------------------------------------------------------------------------------- */

const op_rule op_rules[FV_OP_COUNT] = {
    [FV_OP_conv2d] = { build_conv, BOUND_ABSOLUTE, NULL, 3 },
    [FV_OP_conv2d_data_gradient] = { build_conv, BOUND_ABSOLUTE, NULL, 0 },
    [FV_OP_conv2d_weight_gradient] = { build_conv, BOUND_ABSOLUTE, NULL, 0 },
    [FV_OP_conv2d_bias_activation] = { build_conv, BOUND_ABSOLUTE, NULL, 0 },
    [FV_OP_dense] = { build_dense, BOUND_ABSOLUTE, NULL, 3 },
    [FV_OP_dense_data_gradient] = { build_dense, BOUND_ABSOLUTE, NULL, 0 },
    [FV_OP_dense_weight_gradient] = { build_dense, BOUND_ABSOLUTE, NULL, 0 },
    [FV_OP_dense_bias_activation] = { build_dense, BOUND_ABSOLUTE, NULL, 0 },
    [FV_OP_max_pool2d] = { build_pool, BOUND_EXACT, NULL, 1 },
    [FV_OP_max_pool2d_gradient] = { build_pool, BOUND_ABSOLUTE, NULL, 0 },
    [FV_OP_avg_pool2d] = { build_pool, BOUND_ABSOLUTE, NULL, 1 },
    [FV_OP_avg_pool2d_gradient] = { build_pool, BOUND_ABSOLUTE, NULL, 0 },
    [FV_OP_relu] = { build_unary, BOUND_EXACT, NULL, 1 },
    [FV_OP_relu_gradient] = { build_activation_gradient, BOUND_EXACT, NULL, 0 },
    [FV_OP_tanh] = { build_unary, BOUND_ROUNDED, NULL, 1 },
    [FV_OP_tanh_gradient] = { build_activation_gradient, BOUND_OWN, magnitude_tanh_gradient, 0 },
    [FV_OP_sigmoid] = { build_unary, BOUND_OWN, magnitude_sigmoid, 1 },
    [FV_OP_sigmoid_gradient] = { build_activation_gradient, BOUND_ROUNDED, NULL, 0 },
    [FV_OP_softmax] = { build_unary, BOUND_OWN, magnitude_softmax, 1 },
    [FV_OP_softmax_gradient] = { build_activation_gradient, BOUND_OWN, magnitude_softmax_gradient, 0 },
    [FV_OP_log_softmax] = { build_unary, BOUND_OWN, magnitude_log_softmax, 1 },
    [FV_OP_log_softmax_gradient] = { build_activation_gradient, BOUND_OWN, magnitude_log_softmax_gradient, 0 },
    [FV_OP_batch_norm_train] = { build_batch_norm, BOUND_OWN, magnitude_batch_norm_train, 7 },
    [FV_OP_batch_norm_gradient] = { build_batch_norm, BOUND_OWN, magnitude_batch_norm_gradient, 0 },
    [FV_OP_batch_norm_infer] = { build_batch_norm, BOUND_OWN, magnitude_batch_norm_infer, 7 },
    [FV_OP_batch_norm_infer_gradient] = { build_batch_norm, BOUND_OWN, magnitude_batch_norm_infer_gradient, 0 },
    [FV_OP_batch_norm_train_activation] = { build_batch_norm, BOUND_OWN, magnitude_batch_norm_train, 0 },
    [FV_OP_batch_norm_infer_activation] = { build_batch_norm, BOUND_OWN, magnitude_batch_norm_infer, 0 },
    [FV_OP_batch_norm_activation_gradient] = { build_batch_norm, BOUND_OWN, magnitude_batch_norm_gradient, 0 },
    [FV_OP_lrn] = { build_lrn, BOUND_OWN, magnitude_output, 1 },
    [FV_OP_lrn_gradient] = { build_lrn, BOUND_OWN, magnitude_lrn_gradient, 0 },
    [FV_OP_add] = { build_binary, BOUND_ROUNDED, NULL, 3 },
    [FV_OP_sub] = { build_binary, BOUND_ROUNDED, NULL, 3 },
    [FV_OP_mul] = { build_binary, BOUND_ROUNDED, NULL, 3 },
    [FV_OP_div] = { build_binary, BOUND_ROUNDED, NULL, 3 },
    [FV_OP_affine] = { build_unary, BOUND_OWN, magnitude_affine, 1 },
    [FV_OP_abs] = { build_unary, BOUND_EXACT, NULL, 1 },
    [FV_OP_sign] = { build_unary, BOUND_EXACT, NULL, 0 },
    [FV_OP_cast] = { build_cast, BOUND_EXACT, NULL, 0 },
    [FV_OP_copy] = { build_shaping, BOUND_EXACT, NULL, 1 },
    [FV_OP_reshape] = { build_shaping, BOUND_EXACT, NULL, 1 },
    [FV_OP_broadcast] = { build_shaping, BOUND_EXACT, NULL, 1 },
    [FV_OP_concat] = { build_shaping, BOUND_EXACT, NULL, ~0u },
    [FV_OP_slice] = { build_shaping, BOUND_EXACT, NULL, 1 },
    [FV_OP_pad] = { build_shaping, BOUND_EXACT, NULL, 1 },
    [FV_OP_sum] = { build_reduction, BOUND_ABSOLUTE, NULL, 1 },
    [FV_OP_mean] = { build_reduction, BOUND_ABSOLUTE, NULL, 1 },
    [FV_OP_sum_squares] = { build_reduction, BOUND_ABSOLUTE, NULL, 1 },
    [FV_OP_sum_abs] = { build_reduction, BOUND_ABSOLUTE, NULL, 1 },
    [FV_OP_max] = { build_reduction, BOUND_EXACT, NULL, 1 },
    [FV_OP_max_gradient] = { build_reduction, BOUND_ROUNDED, NULL, 0 },
    [FV_OP_softmax_cross_entropy] = { build_loss, BOUND_OWN, magnitude_softmax_cross_entropy, 1 },
    [FV_OP_softmax_cross_entropy_gradient] = { build_loss, BOUND_OWN, magnitude_softmax_cross_entropy, 0 },
    [FV_OP_softmax_cross_entropy_train] = { build_loss, BOUND_OWN, magnitude_softmax_cross_entropy, 0 },
    [FV_OP_cross_entropy] = { build_loss, BOUND_OWN, magnitude_cross_entropy, 1 },
    [FV_OP_cross_entropy_gradient] = { build_loss, BOUND_OWN, magnitude_cross_entropy_gradient, 0 },
    [FV_OP_mean_squared_error] = { build_mean_squared_error, BOUND_OWN, magnitude_output, 3 },
    [FV_OP_mean_squared_error_gradient] = { build_mean_squared_error, BOUND_ROUNDED, NULL, 0 },
    [FV_OP_in_top_k] = { build_loss, BOUND_EXACT, NULL, 0 },
    [FV_OP_metric_add] = { build_metric, BOUND_OWN, magnitude_metric, 0 },
    [FV_OP_check_gradients] = { build_optimizer, BOUND_ABSOLUTE, NULL, 0 },
    [FV_OP_sgd_update] = { build_optimizer, BOUND_OWN, magnitude_update, 0 },
    [FV_OP_adam_update] = { build_optimizer, BOUND_OWN, magnitude_update, 0 },
    [FV_OP_commit] = { build_optimizer, BOUND_EXACT, NULL, 0 },
    [FV_OP_advance] = { build_optimizer, BOUND_EXACT, NULL, 0 },
    [FV_OP_dropout] = { build_random, BOUND_ROUNDED, NULL, 1 },
    [FV_OP_batch_samples] = { build_random, BOUND_EXACT, NULL, 0 },
    [FV_OP_gather_batch] = { build_random, BOUND_EXACT, NULL, 0 },
    [FV_OP_flip] = { build_random, BOUND_EXACT, NULL, 0 },
    [FV_OP_pad_crop] = { build_random, BOUND_EXACT, NULL, 0 },
    [FV_OP_normalize] = { build_unary, BOUND_OWN, magnitude_normalize, 1 },
};
