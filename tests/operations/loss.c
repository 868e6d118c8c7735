/* loss.c - losses over classes, and metrics. */
#include "support/operations.h"
#include <math.h>
#include <string.h>

/* softmax_cross_entropy n4 (or n2,5,5: images) classes10 smoothing0.1 gamma2 weights ignore3 dense loose bad : labels, or
 * distributions over the classes, or (loose) dense targets that are none; also cross_entropy, multi_margin (margin,
 * squared), in_top_k (k), their gradients, the fused form and target_scale */
static int build_loss(fv_context *context, problem *p) {
    (void)context;
    const bool probabilities = !strncmp(fv_op_name(p->op), "cross_entropy", 13), top_k = is(p, "in_top_k");
    const bool scale = is(p, "target_scale");
    fv_shape rows = shape_word(p, "n", 0);
    if (rows.rank < 1) rows = SHAPE(1);
    fv_shape scores = rows;
    const int64_t classes = whole(p, "classes", 0, 2);
    scores.dim[scores.rank++] = classes;
    if (!scale) add_input(p, "x", FV_F32, top_k ? FILL_STEPS : probabilities ? FILL_PROBABILITY : FILL_UNIFORM, scores);
    if (has_word(p, "dense") || has_word(p, "loose"))
        add_input(p, "target", FV_F32, has_word(p, "loose") ? FILL_UNIFORM : FILL_DISTRIBUTION, scores);
    else
        add_input(p, "target", FV_I32, FILL_BELOW, rows)->limit = classes;
    if (strstr(fv_op_name(p->op), "gradient") || strstr(fv_op_name(p->op), "train"))
        add_input(p, "dloss", FV_F32, FILL_UNIFORM, rows);
    if (has_word(p, "weights")) add_input(p, "weights", FV_F32, FILL_POSITIVE, SHAPE(classes));
    const int32_t label = (int32_t)whole(p, "ignore", 0, 0);
    if (top_k)
        p->attributes.top_k = (fv_top_k_attributes){ (int32_t)whole(p, "k", 0, 1), has_word(p, "ignore"), label };
    else
        p->attributes.loss = (fv_loss_attributes){ .smoothing = (float)number(p, "smoothing", 0, 0),
                                                   .gamma = (float)number(p, "gamma", 0, 0),
                                                   .margin = (float)number(p, "margin", 0, 0),
                                                   .squared = has_word(p, "squared"),
                                                   .ignore = has_word(p, "ignore"),
                                                   .label = label };
    p->terms = scale ? fv_shape_elements(&rows) : classes;
    return 0;
}

/* cosine_similarity x4,3,2 */
static int build_cosine(fv_context *context, problem *p) {
    (void)context;
    const fv_shape x = shape_word(p, "x", 0);
    fv_shape rows = x;
    if (x.rank > 0) rows.dim[--rows.rank] = 0;
    add_input(p, "x", FV_F32, FILL_UNIFORM, x);
    add_input(p, "target", FV_F32, FILL_UNIFORM, x);
    if (is(p, "cosine_similarity_gradient")) add_input(p, "dloss", FV_F32, FILL_UNIFORM, rows);
    p->terms = x.rank ? x.dim[x.rank - 1] : 1;
    return 0;
}

/* metric_add x33 sum1000,0.00001 : state (sum, compensation) */
static int build_metric(fv_context *context, problem *p) {
    (void)context;
    operand *state = given(p, "state", FV_F32, SHAPE(2));
    for (int i = 0; i < 2; i++) state->value[i] = has_word(p, "sum") ? (float)number(p, "sum", i, 0) : 0;
    if (shape_word(p, "sum", 0).rank < 2) state->value[1] = 0;
    add_input(p, "x", FV_F32, FILL_UNIFORM, shape_word(p, "x", 0));
    return 0;
}

/* Sum of |t| of a row, once smoothed, times the largest class weight; focusing costs as much again. */
static double target_weight(const problem *p, int64_t row, int64_t classes) {
    const operand *target = &p->input[1];
    const double *weights = values(p, "weights");
    const double gamma = p->attributes.loss.gamma, factor = (weights ? largest(weights, classes) : 1) * (1 + gamma) * (1 + gamma);
    if (target->type == FV_I32) return factor;
    double sum = 0;
    for (int64_t j = 0; j < classes; j++) sum += fabs(target->value[row * classes + j]);
    return factor * (sum + p->attributes.loss.smoothing);
}

/* sum of |t| (|x| + log of the sum of exp); the gradients: dloss times (1 + that) */
static void magnitude_softmax_cross_entropy(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x"), *dloss = values(p, "dloss");
    const int64_t classes = channels_of(&p->input[0]);
    (void)output;
    for (int o = 0; o < p->output_count; o++) {
        if (!magnitude[o]) continue;
        const bool gradient = p->output[o].shape.rank == p->input[0].shape.rank;
        for (int64_t i = 0; i < elements_of(&p->output[o]); i++) {
            const int64_t row = gradient ? i / classes : i;
            const double range = 2 * largest(x + row * classes, classes) + log((double)classes);
            magnitude[o][i] = target_weight(p, row, classes) * (1 + range) * (gradient ? fabs(dloss[row]) : 1);
        }
    }
}

/* sum of |t| (1 + |log p|) */
static void magnitude_cross_entropy(const problem *p, double *const *output, double *const *magnitude) {
    const int64_t classes = channels_of(&p->input[0]);
    (void)output;
    for (int64_t row = 0; row < elements_of(&p->output[0]); row++)
        magnitude[0][row] = target_weight(p, row, classes) * (1 + log(20));
}

/* |dloss| |t| / p, the two parts of a smoothed target apart: they may cancel */
static void magnitude_cross_entropy_gradient(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x"), *dloss = values(p, "dloss"), *weights = values(p, "weights");
    const double smoothing = p->attributes.loss.smoothing, gamma = p->attributes.loss.gamma;
    const operand *target = &p->input[1];
    const int64_t classes = channels_of(&p->input[0]);
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) {
        const double t =
            target->type == FV_I32 ? target->value[i / classes] == (double)(i % classes) : target->value[i];
        const double weight = ((1 - smoothing) * fabs(t) + smoothing / (double)classes) *
                              (weights ? weights[i % classes] : 1);
        magnitude[0][i] = fabs(dloss[i / classes]) * weight / x[i] * (1 + gamma) * (1 + gamma);
    }
}

/* Of each row what the largest of its terms is, times the classes that have one. */
static void magnitude_margin(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x"), *dloss = values(p, "dloss"), *weights = values(p, "weights");
    const int64_t classes = channels_of(&p->input[0]);
    const double weight = weights ? largest(weights, classes) : 1;
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) {
        const int64_t row = dloss ? i / classes : i;
        const double lack = fabs(p->attributes.loss.margin) + 2 * largest(x + row * classes, classes);
        const double term = dloss ? fabs(dloss[row]) * (p->attributes.loss.squared ? 2 * lack : 1) : fmax(lack, lack * lack);
        magnitude[0][i] = term * weight;
    }
}

static void magnitude_cosine(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x"), *dloss = values(p, "dloss");
    const int64_t n = channels_of(&p->input[0]);
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) {
        double squares = 0;
        for (int64_t j = 0; dloss && j < n; j++) squares += pow(x[i / n * n + j], 2);
        magnitude[0][i] = dloss ? 2 * fabs(dloss[i / n]) / sqrt(fmax(squares, 1e-12)) : 1;
    }
}

static void magnitude_metric(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x"), *state = values(p, "state");
    double sum = fabs(state[0]) + fabs(state[1]);
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->input[1]); i++) sum += fabs(x[i]);
    magnitude[0][0] = magnitude[0][1] = sum;
}

static void random_loss(fv_op op, drawing *d) {
    static const char *const target[] = { "", "", " dense", " loose" };
    const int form = below(d, 4);
    say(d, " n%d classes%d%s", between(d, 1, 20), between(d, 1, 40), target[form]);
    if (form < 2 && chance(d, 3)) say(d, " ignore%d", below(d, 4));
    if (chance(d, 3)) say(d, " weights");
    if (chance(d, 4)) say(d, " gamma%d", between(d, 1, 3));
    if (chance(d, 3)) say(d, " smoothing0.%d", between(d, 1, 9));
    if (chance(d, 4)) say(d, " scale%d", between(d, 1, 20));
}

/* Rows that all losses over classes share. */
static const char *const losses[] = { "n4 classes10",
                                      "n1 classes2",
                                      "n7 classes3 smoothing0.1",
                                      "n5 classes10 dense",
                                      "n5 classes6 dense smoothing0.2",
                                      "n3 classes5 loose",
                                      "n2 classes1",
                                      "n33 classes100",
                                      "n6 classes4 bad",
                                      "n3 classes17 smoothing1",
                                      "n64 classes10",
                                      "n1 classes1",
                                      "n1 classes16",
                                      "n2 classes15 dense",
                                      "n17 classes33 smoothing0.3",
                                      "n5 classes64 dense smoothing0.05",
                                      "n4 classes129",
                                      "n8 classes2 scale5",
                                      "n8 classes2 loose",
                                      "n31 classes5 dense",
                                      "n2,3,5 classes7",
                                      "n2,2,2,2,2 classes3",
                                      NULL };

/* What only labels can do, and class weights and focus. */
static const char *const weighing[] = { "n9 classes4 weights",
                                        "n9 classes4 ignore2",
                                        "n9 classes4 ignore2 weights smoothing0.1",
                                        "n9 classes4 bad ignore-1",
                                        "n5 classes33 weights dense",
                                        "n5 classes33 weights dense smoothing0.2",
                                        "n2,7,7 classes21 ignore0 weights",
                                        "n9 classes4 gamma2",
                                        "n9 classes4 gamma0.5 weights",
                                        "n9 classes33 gamma3 dense",
                                        "n9 classes5 gamma1 smoothing0.1 ignore1",
                                        "n3000 classes21 ignore3 weights gamma2 large",
                                        NULL };

RULE(softmax_cross_entropy, .build = build_loss, .bound = BOUND_OWN, .magnitude = magnitude_softmax_cross_entropy,
     .differentiable = 1, .random = random_loss,
     .rows = { losses, weighing, ROWS("n5 classes10 scale50", "n5 classes10 scale500", "n5 classes7 shift1000",
                            "n4 classes6 nan1", "n3001 classes10 large", "n65 classes1000 large") },
     .performance = ROWS("n128 classes10"));

RULE(softmax_cross_entropy_gradient, .build = build_loss, .bound = BOUND_OWN,
     .magnitude = magnitude_softmax_cross_entropy, .random = random_loss,
     .rows = { losses, weighing, ROWS("n5 classes10 scale50", "n5 classes7 shift1000", "n3001 classes10 smoothing0.1 large") });

RULE(softmax_cross_entropy_train, .build = build_loss, .bound = BOUND_OWN, .magnitude = magnitude_softmax_cross_entropy,
     .random = random_loss,
     .rows = { losses, weighing, ROWS("n5 classes10 scale50", "n5 classes10 drop0", "n5 classes10 drop1", "n3001 classes10 large",
                            "n65 classes1000 large") });

RULE(cross_entropy, .build = build_loss, .bound = BOUND_OWN, .magnitude = magnitude_cross_entropy, .differentiable = 1,
     .random = random_loss,
     .rows = { losses, weighing, ROWS("n40 classes3 scale0.0000001", "n5 classes3 shift1", "n5 classes3 scale0 shift1",
                            "n3001 classes10 large") });

RULE(cross_entropy_gradient, .build = build_loss, .bound = BOUND_OWN, .magnitude = magnitude_cross_entropy_gradient,
     .random = random_loss,
     .rows = { losses, weighing, ROWS("n40 classes3 scale0.0000001", "n5 classes3 shift1", "n5 classes3 scale0 shift1",
                            "n3001 classes10 large") });

/* Labels only: margins, and the scale of means. */
static const char *const labels[] = { "n4 classes10",
                                      "n1 classes2",
                                      "n2 classes1",
                                      "n7 classes3 weights",
                                      "n33 classes100",
                                      "n64 classes10 ignore3",
                                      "n1 classes1 ignore0",
                                      "n1 classes16",
                                      "n17 classes33 weights ignore1",
                                      "n5 classes64 weights",
                                      "n4 classes129",
                                      "n2,3,5 classes7 weights",
                                      "n2,2,2,2,2 classes3 ignore1",
                                      "n9 classes4 bad ignore-1",
                                      "n100 classes3 ignore2 weights",
                                      "n31 classes15",
                                      "n8 classes17 weights",
                                      "n3 classes31",
                                      "n3001 classes10 ignore5 weights large",
                                      "n40001 classes3 ignore1 large",
                                      NULL };

RULE(target_scale, .build = build_loss, .bound = BOUND_ROUNDED,
     .rows = { labels, ROWS("n1", "n9 classes4 bad", "n40001 classes5 large", "n200,201 classes6 weights large") });

RULE(multi_margin, .build = build_loss, .bound = BOUND_OWN, .magnitude = magnitude_margin, .differentiable = 1,
     .rows = { labels, ROWS("n5 classes10 squared", "n5 classes33 margin0.5", "n5 classes10 squared weights margin2",
                            "n5 classes10 scale5", "n5 classes10 scale5 squared", "n4 classes6 nan1", "n6 classes4 bad") });

RULE(multi_margin_gradient, .build = build_loss, .bound = BOUND_OWN, .magnitude = magnitude_margin,
     .rows = { labels, ROWS("n5 classes10 squared", "n5 classes33 margin0.5", "n5 classes10 squared weights margin2",
                            "n5 classes10 scale5", "n5 classes10 scale5 squared", "n4 classes6 nan1", "n6 classes4 bad") });

static const char *const angles[] = { "x1,1",    "x1,2",  "x7,1",     "x5,15",        "x5,16",       "x2,65",
                                      "x3,1,1,4", "x4,3,2", "x3,10",    "x2,3,4,5",     "x33,17",      "x2,1000",
                                      "x100,2",  "x16,16", "x3,5 nan2", "x6,33 scale100", "x4,9 scale0.001 edge", "x2,2,2,2,2,2",
                                      "x500,101 large", "x2,70001 large", NULL };

RULE(cosine_similarity, .build = build_cosine, .bound = BOUND_OWN, .magnitude = magnitude_cosine, .differentiable = 1,
     .rows = { angles, ROWS("x3,4 scale0 edge") });

RULE(cosine_similarity_gradient, .build = build_cosine, .bound = BOUND_OWN, .magnitude = magnitude_cosine,
     .rows = { angles, ROWS("x3,4 scale0") });

RULE(in_top_k, .build = build_loss, .bound = BOUND_EXACT,
     .rows = { losses,
               ROWS("n20 classes10 k3", "n20 classes10 k10", "n20 classes4 k9", "n20 classes5 k2 dense",
                    "n20 classes5 k2 nan3", "n30 classes5 k2 ignore1", "n2,5,3 classes4 k2", "n20 classes5 k2 bad", "n64 classes100 k5", "n2001 classes40 k5 large") });

RULE(metric_add, .build = build_metric, .bound = BOUND_OWN, .magnitude = magnitude_metric,
     .rows = { ROWS("x2", "x3 sum3", "x15", "x16", "x17", "x64", "x31 sum1000000", "x2,2,2", "x1,1 sum0.1,0.01",
                    "x128 sum7", "x65", "x1", "x", "x33", "x64 sum1000", "x100 sum100000,0.001", "x5,3", "x1000",
                    "x10 sum0.5", "x7 nan1", "x5003 large") });
