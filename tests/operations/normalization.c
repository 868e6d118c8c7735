/* normalization.c - batch normalisation and local response normalisation. */
#include "support/operations.h"
#include <math.h>
#include <string.h>

static void add_channels(problem *p, const char *name, fill how, int64_t channels, const char *without) {
    if (has_word(p, without))
        add_absent(p, name);
    else
        add_input(p, name, FV_F32, how, SHAPE(channels));
}

/* batch_norm_* x4,5,3 epsilon momentum noscale nocenter; fused: an activation */
static int build_batch_norm(fv_context *context, problem *p) {
    const fv_shape x = shape_word(p, "x", 0);
    if (x.rank < 1) return problem_fail(p, "batch norm needs x with at least one size");
    const int64_t channels = x.dim[x.rank - 1];
    const bool gradient = strstr(fv_op_name(p->op), "gradient"), infer = strstr(fv_op_name(p->op), "infer");
    p->attributes.norm = (fv_norm_attributes){ .epsilon = (float)number(p, "epsilon", 0, 1e-3),
                                               .momentum = (float)number(p, "momentum", 0, 0.9) };
    p->terms = fv_shape_elements(&x) / channels;
    const bool fused = strstr(fv_op_name(p->op), "activation");
    if (fused) p->attributes.norm.activation = activation_word(p, &p->attributes.norm.alpha);

    add_input(p, "x", FV_F32, FILL_UNIFORM, x);
    if (fused && gradient && add_derived(context, p, "y", "batch_norm_train_activation", 0)) return -1;
    if (gradient) add_input(p, "dy", FV_F32, FILL_UNIFORM, x);
    add_channels(p, "gamma", FILL_APART, channels, "noscale");
    if (!gradient) add_channels(p, "beta", FILL_UNIFORM, channels, "nocenter");
    if (gradient && !infer)
        return add_derived(context, p, "mean", "batch_norm_train", 1) ||
                       add_derived(context, p, "inverse", "batch_norm_train", 2)
                   ? -1
                   : 0;
    add_input(p, "mean", FV_F32, FILL_UNIFORM, SHAPE(channels));
    add_input(p, "variance", FV_F32, FILL_POSITIVE, SHAPE(channels));
    return 0;
}

/* lrn x2,3,7 size alpha beta k */
static int build_lrn(fv_context *context, problem *p) {
    const fv_shape x = shape_word(p, "x", 0);
    p->attributes.lrn = (fv_lrn_attributes){ (int32_t)whole(p, "size", 0, 5), (float)number(p, "alpha", 0, 1e-4),
                                             (float)number(p, "beta", 0, 0.75), (float)number(p, "k", 0, 2) };
    p->terms = p->attributes.lrn.size;
    add_input(p, "x", FV_F32, FILL_UNIFORM, x);
    if (is(p, "lrn")) return 0;
    if (add_derived(context, p, "y", "lrn", 0)) return -1;
    add_input(p, "dy", FV_F32, FILL_UNIFORM, x);
    return 0;
}

static double at(const double *value, int64_t i, double otherwise) { return value ? fabs(value[i]) : otherwise; }

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

static void magnitude_batch_norm_train(const problem *p, double *const *output, double *const *magnitude) {
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

static void magnitude_batch_norm_gradient(const problem *p, double *const *output, double *const *magnitude) {
    (void)output;
    gradient_magnitude(p, values(p, "inverse"), true, magnitude);
}

static void magnitude_batch_norm_infer_gradient(const problem *p, double *const *output, double *const *magnitude) {
    const double *variance = values(p, "variance");
    double inverse[512];
    (void)output;
    for (int64_t c = 0; c < channels_of(&p->input[0]) && c < 512; c++)
        inverse[c] = 1 / sqrt(variance[c] + p->attributes.norm.epsilon);
    gradient_magnitude(p, inverse, false, magnitude);
}

static void magnitude_batch_norm_infer(const problem *p, double *const *output, double *const *magnitude) {
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

static void magnitude_lrn_gradient(const problem *p, double *const *output, double *const *magnitude) {
    const fv_lrn_attributes *a = &p->attributes.lrn;
    const double *x = values(p, "x"), *y = values(p, "y"), *dy = values(p, "dy");
    const double most = largest(y, elements_of(&p->input[0])) * largest(dy, elements_of(&p->input[0])) / a->k;
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->input[0]); i++)
        magnitude[0][i] =
            fabs(dy[i]) * pow(a->k, -a->beta) + 2 * fabs((double)a->alpha * a->beta * x[i]) * (double)p->terms * most;
}

static void random_batch_norm(fv_op op, drawing *d) {
    int dim[FV_RANK];
    say_shape(d, "x", 2, 4, dim);
    say(d, "%s%s epsilon0.0%d momentum0.%d", chance(d, 4) ? " noscale" : "", chance(d, 4) ? " nocenter" : "",
        between(d, 1, 9), below(d, 10));
    if (strstr(fv_op_name(op), "activation")) say_activation(d);
}

static void random_lrn(fv_op op, drawing *d) {
    int dim[FV_RANK];
    say_shape(d, "x", 1, 4, dim);
    say(d, " size%d alpha0.%d beta%s k%d", between(d, 1, 9), below(d, 9), chance(d, 2) ? "0.75" : "0.5",
        between(d, 1, 2));
}

static const char *const batch_norms[] = { "x4,5,3",
                                           "x2,3,4,7",
                                           "x16,1",
                                           "x2,9 epsilon0.1",
                                           "x8,5 noscale",
                                           "x8,5 nocenter",
                                           "x3,4,6 noscale nocenter",
                                           "x9,16 momentum0",
                                           "x6,33 momentum1",
                                           "x32,20 shift50",
                                           "x100,8 shift1000 scale0.5",
                                           "x5,4,4,64",
                                           "x1,6 epsilon0.5",
                                           "x40,3 epsilon0.00001",
                                           "x2,1",
                                           "x5,15",
                                           "x7,17",
                                           "x3,2,2,31",
                                           "x128,2",
                                           "x2,65",
                                           "x6,4 epsilon1 momentum0.5",
                                           NULL };

static const char *const large_batch_norms[] = { "x64,14,14,24 large relu", "x50000,3 large", "x40,7,7,200 large relu",
                                                 NULL };

static const char *const batch_norms_fused[] = { "x4,5,3 relu",
                                                 "x2,3,4,7 tanh",
                                                 "x8,9 sigmoid",
                                                 "x8,5 noscale relu",
                                                 "x8,5 nocenter relu",
                                                 "x3,4,6 noscale nocenter tanh",
                                                 "x9,16",
                                                 "x6,33 relu",
                                                 "x2,4,4,64 relu",
                                                 "x2,1 relu",
                                                 "x3,15 relu",
                                                 "x3,17 tanh",
                                                 "x2,3,3,1 relu",
                                                 "x31,2 sigmoid",
                                                 "x5,65 relu",
                                                 "x4,8 relu epsilon0.1",
                                                 "x16,16 tanh",
                                                 "x5,7 leaky_relu alpha0.1",
                                                 "x3,2,19 elu",
                                                 "x9,33 selu",
                                                 "x40,3 relu6 scale20",
                                                 "x8,16 hard_tanh",
                                                 "x7,65 hard_sigmoid",
                                                 "x12,5 softplus",
                                                 "x2,3,3,8 softsign",
                                                 "x9,6 exponential",
                                                 "x30,14,14,24 elu alpha0.7 large",
                                                 NULL };

/* Their gradients need the input: forward only. */
static const char *const batch_norms_forward[] = { "x4,5,3 gelu", "x6,33 gelu_tanh", "x9,16 silu", "x3,17 mish", "x8,5 hard_silu",
                                                   NULL };

static const char *const lrns[] = { "x2,3,7",
                                    "x1",
                                    "x4,1",
                                    "x2,2,16 size3 alpha0.5",
                                    "x3,9 size4 alpha0.3 beta0.5 k1",
                                    "x2,5 size9 alpha0.2",
                                    "x2,33 size1 alpha1 k1",
                                    "x2,3,2,64",
                                    "x5,6 size2 alpha0.7 beta1 k1.5",
                                    "x3,20 scale20 alpha0.01",
                                    "x16",
                                    "x15 size3 alpha0.4",
                                    "x17 size7 alpha0.4",
                                    "x1,1,1,5 size3 alpha0.9",
                                    "x2,2,2,31",
                                    "x4,32 size5 alpha0.3 beta0.75 k1",
                                    "x6,2 size5 alpha0.5",
                                    "x3,100 size11 alpha0.1",
                                    "x2,65 alpha0.02 beta0.25",
                                    NULL };

RULE(batch_norm_train, .build = build_batch_norm, .bound = BOUND_OWN, .magnitude = magnitude_batch_norm_train,
     .differentiable = 7, .random = random_batch_norm,
     .rows = { batch_norms, large_batch_norms, ROWS("x4,5,3 drop1,2", "x4,5,3 drop3,4", "x9,4 drop0") },
     .performance = ROWS("x32,16,16,128"));

RULE(batch_norm_gradient, .build = build_batch_norm, .bound = BOUND_OWN, .magnitude = magnitude_batch_norm_gradient,
     .random = random_batch_norm, .rows = { batch_norms, large_batch_norms, ROWS("x4,5,3 drop0", "x4,5,3 drop1,2") },
     .performance = ROWS("x32,16,16,128"));

RULE(batch_norm_infer, .build = build_batch_norm, .bound = BOUND_OWN, .magnitude = magnitude_batch_norm_infer,
     .differentiable = 7, .random = random_batch_norm, .rows = { batch_norms, large_batch_norms });

RULE(batch_norm_infer_gradient, .build = build_batch_norm, .bound = BOUND_OWN,
     .magnitude = magnitude_batch_norm_infer_gradient, .random = random_batch_norm,
     .rows = { batch_norms, large_batch_norms, ROWS("x4,5,3 drop0,2") });

RULE(batch_norm_train_activation, .build = build_batch_norm, .bound = BOUND_OWN,
     .magnitude = magnitude_batch_norm_train, .random = random_batch_norm,
     .rows = { batch_norms_fused, batch_norms_forward, large_batch_norms });

RULE(batch_norm_infer_activation, .build = build_batch_norm, .bound = BOUND_OWN,
     .magnitude = magnitude_batch_norm_infer, .random = random_batch_norm,
     .rows = { batch_norms_fused, batch_norms_forward, large_batch_norms });

RULE(batch_norm_activation_gradient, .build = build_batch_norm, .bound = BOUND_OWN,
     .magnitude = magnitude_batch_norm_gradient, .random = random_batch_norm,
     .rows = { batch_norms_fused, large_batch_norms, ROWS("x4,5,3 drop0 relu", "x4,5,3 drop1,2 relu") });

RULE(lrn, .build = build_lrn, .bound = BOUND_OWN, .magnitude = magnitude_output, .differentiable = 1,
     .random = random_lrn, .rows = { lrns, ROWS("x8,13,13,48 alpha0.1 large") }, .performance = ROWS("x32,14,14,64"));

RULE(lrn_gradient, .build = build_lrn, .bound = BOUND_OWN, .magnitude = magnitude_lrn_gradient, .random = random_lrn,
     .rows = { lrns, ROWS("x8,13,13,48 alpha0.1 large") });
