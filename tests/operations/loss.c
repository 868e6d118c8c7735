/* loss.c - losses over classes, and metrics. */
#include "support/operations.h"
#include <math.h>
#include <string.h>

/* softmax_cross_entropy n4 classes10 smoothing0.1 dense loose bad : labels, or distributions over the classes, or
 * (loose) dense targets that are none; also cross_entropy, in_top_k (k), their gradients and the fused form */
static int build_loss(fv_context *context, problem *p) {
    (void)context;
    const int64_t rows = whole(p, "n", 0, 1), classes = whole(p, "classes", 0, 2);
    const bool probabilities = !strncmp(fv_op_name(p->op), "cross_entropy", 13), top_k = is(p, "in_top_k");
    fill scores = probabilities ? FILL_PROBABILITY : FILL_UNIFORM;
    if (top_k) scores = FILL_STEPS;
    add_input(p, "x", FV_F32, scores, SHAPE(rows, classes));
    if (has_word(p, "dense") || has_word(p, "loose")) {
        add_input(p, "target", FV_F32, has_word(p, "loose") ? FILL_UNIFORM : FILL_DISTRIBUTION, SHAPE(rows, classes));
    } else {
        operand *target = add_input(p, "target", FV_I32, FILL_BELOW, SHAPE(rows));
        target->limit = classes;
    }
    if (strstr(fv_op_name(p->op), "gradient") || strstr(fv_op_name(p->op), "train"))
        add_input(p, "dloss", FV_F32, FILL_UNIFORM, SHAPE(rows));
    if (top_k)
        p->attributes.top_k.k = (int32_t)whole(p, "k", 0, 1);
    else
        p->attributes.loss.smoothing = (float)number(p, "smoothing", 0, 0);
    p->terms = classes;
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

/* Sum of |t| of a row, once smoothed. */
static double target_weight(const problem *p, int64_t row, int64_t classes) {
    const operand *target = &p->input[1];
    if (target->type == FV_I32) return 1;
    double sum = 0;
    for (int64_t j = 0; j < classes; j++) sum += fabs(target->value[row * classes + j]);
    return sum + p->attributes.loss.smoothing;
}

/* sum of |t| (|x| + log of the sum of exp); the gradients: dloss times (1 + that) */
static void magnitude_softmax_cross_entropy(const problem *p, double *const *output, double *const *magnitude) {
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
static void magnitude_cross_entropy(const problem *p, double *const *output, double *const *magnitude) {
    const int64_t classes = channels_of(&p->input[0]);
    (void)output;
    for (int64_t row = 0; row < elements_of(&p->output[0]); row++)
        magnitude[0][row] = target_weight(p, row, classes) * (1 + log(20));
}

/* |dloss| |t| / p, the two parts of a smoothed target apart: they may cancel */
static void magnitude_cross_entropy_gradient(const problem *p, double *const *output, double *const *magnitude) {
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

static void magnitude_metric(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x"), *state = values(p, "state");
    double sum = fabs(state[0]) + fabs(state[1]);
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->input[1]); i++) sum += fabs(x[i]);
    magnitude[0][0] = magnitude[0][1] = sum;
}

static void random_loss(fv_op op, drawing *d) {
    static const char *const target[] = { "", "", " dense", " loose" };
    say(d, " n%d classes%d%s", between(d, 1, 20), between(d, 1, 40), target[below(d, 4)]);
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
                                      NULL };

RULE(softmax_cross_entropy, .build = build_loss, .bound = BOUND_OWN, .magnitude = magnitude_softmax_cross_entropy,
     .differentiable = 1, .random = random_loss,
     .rows = { losses, ROWS("n5 classes10 scale50", "n5 classes10 scale500", "n5 classes7 shift1000",
                            "n4 classes6 nan1", "n3001 classes10 large", "n65 classes1000 large") },
     .performance = ROWS("n128 classes10"));

RULE(softmax_cross_entropy_gradient, .build = build_loss, .bound = BOUND_OWN,
     .magnitude = magnitude_softmax_cross_entropy, .random = random_loss,
     .rows = { losses, ROWS("n5 classes10 scale50", "n5 classes7 shift1000", "n3001 classes10 smoothing0.1 large") });

RULE(softmax_cross_entropy_train, .build = build_loss, .bound = BOUND_OWN, .magnitude = magnitude_softmax_cross_entropy,
     .random = random_loss,
     .rows = { losses, ROWS("n5 classes10 scale50", "n5 classes10 drop0", "n5 classes10 drop1", "n3001 classes10 large",
                            "n65 classes1000 large") });

RULE(cross_entropy, .build = build_loss, .bound = BOUND_OWN, .magnitude = magnitude_cross_entropy, .differentiable = 1,
     .random = random_loss,
     .rows = { losses, ROWS("n40 classes3 scale0.0000001", "n5 classes3 shift1", "n5 classes3 scale0 shift1",
                            "n3001 classes10 large") });

RULE(cross_entropy_gradient, .build = build_loss, .bound = BOUND_OWN, .magnitude = magnitude_cross_entropy_gradient,
     .random = random_loss,
     .rows = { losses, ROWS("n40 classes3 scale0.0000001", "n5 classes3 shift1", "n5 classes3 scale0 shift1",
                            "n3001 classes10 large") });

RULE(in_top_k, .build = build_loss, .bound = BOUND_EXACT,
     .rows = { losses,
               ROWS("n20 classes10 k3", "n20 classes10 k10", "n20 classes4 k9", "n20 classes5 k2 dense",
                    "n20 classes5 k2 nan3", "n20 classes5 k2 bad", "n64 classes100 k5", "n2001 classes40 k5 large") });

RULE(metric_add, .build = build_metric, .bound = BOUND_OWN, .magnitude = magnitude_metric,
     .rows = { ROWS("x2", "x3 sum3", "x15", "x16", "x17", "x64", "x31 sum1000000", "x2,2,2", "x1,1 sum0.1,0.01",
                    "x128 sum7", "x65", "x1", "x", "x33", "x64 sum1000", "x100 sum100000,0.001", "x5,3", "x1000",
                    "x10 sum0.5", "x7 nan1", "x5003 large") });
