/* pointwise_loss.c - losses that sum a function of prediction and target over a row. */
#include "support/operations.h"
#include <math.h>
#include <string.h>

static bool begins(const problem *p, const char *name) { return !strncmp(fv_op_name(p->op), name, strlen(name)); }

/* huber x4,3,2 delta weight alpha gamma threshold hard : targets 0 and 1; edge: where the function has no
 * derivative */
static int build_pointwise(fv_context *context, problem *p) {
    (void)context;
    const fv_shape x = shape_word(p, "x", 0);
    const bool logits = begins(p, "binary_cross_entropy_logits") || begins(p, "sigmoid") || begins(p, "binary_acc");
    const bool probabilities = (begins(p, "binary_cross_entropy") && !logits) || begins(p, "kl_");
    const bool positive = begins(p, "poisson"), sign = begins(p, "hinge") || begins(p, "squared_");
    add_input(p, "x", FV_F32, probabilities ? FILL_PROBABILITY : positive ? FILL_POSITIVE : FILL_UNIFORM, x);
    operand *target = add_input(p, "target", FV_F32, sign ? FILL_APART : FILL_UNIFORM, x);
    if (probabilities || logits) target->fill = has_word(p, "hard") ? FILL_BELOW : FILL_PROBABILITY;
    if (positive) target->fill = FILL_POSITIVE;
    target->limit = 2;
    if (strstr(fv_op_name(p->op), "gradient"))
        add_input(p, "dloss", FV_F32, FILL_UNIFORM, x.rank > 0 ? SHAPE(x.dim[0]) : (fv_shape){ 0 });
    p->attributes.pointwise = (fv_pointwise_attributes){ .delta = (float)number(p, "delta", 0, 0),
                                                         .weight = (float)number(p, "weight", 0, 0),
                                                         .alpha = (float)number(p, "alpha", 0, 0),
                                                         .gamma = (float)number(p, "gamma", 0, 0),
                                                         .threshold = (float)number(p, "threshold", 0, 0) };
    for (int axis = 1; axis < x.rank; axis++) p->terms *= x.dim[axis];
    return 0;
}

/* What one element would be if nothing cancelled: of the function, and of its slope. */
static double size_of(const fv_pointwise_attributes *a, fv_op op, double p, double t, bool slope) {
    const double d = fabs(p) + fabs(t), far = 1 + fmin(fabs(p), 200), u = fabs(1 - t), w = fabs(t);
    switch (op) {
    case FV_OP_mean_squared_error: return slope ? 2 * d : d * d;
    case FV_OP_mean_absolute_error: return slope ? 1 : d;
    case FV_OP_huber: return slope ? fmin(d, a->delta) : fmin(d, a->delta) * d;
    case FV_OP_log_cosh: return slope ? fmin(d, 1) : 1 + d;
    case FV_OP_binary_cross_entropy_logits: return (w * a->weight + u) * far;
    case FV_OP_binary_cross_entropy:
        if (slope) return u / fabs(1 - p) + w / fabs(p);
        return w * (1 - log(fmin(fmax(p, 1e-7), 1))) + u * (1 - log(fmin(fmax(1 - p, 1e-7), 1)));
    case FV_OP_sigmoid_focal: return (w + u) * (w + u) * far * (1 + a->gamma * far);
    case FV_OP_hinge: return slope ? w : 1 + w * fabs(p);
    case FV_OP_squared_hinge: return (slope ? 2 * w : 1 + w * fabs(p)) * (1 + w * fabs(p));
    case FV_OP_kl_divergence:
        return slope ? fmax(w, 1e-7) / fabs(p) : fmax(w, 1e-7) * (1 - log(fmax(w, 1e-7)) - log(fmin(fmax(p, 1e-7), 1)));
    case FV_OP_poisson: return slope ? 1 + w / fabs(p + 1e-7) : fabs(p) + w * (1 + fabs(log(fabs(p) + 1e-7)));
    default: return 1;
    }
}

static void magnitude_pointwise(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x"), *t = values(p, "target"), *dloss = values(p, "dloss");
    const int64_t rows = p->input[0].shape.dim[0], n = elements_of(&p->input[0]) / rows;
    const double count = begins(p, "kl_") ? (double)(n / channels_of(&p->input[0])) : (double)n;
    (void)output;
    for (int64_t row = 0; row < rows; row++) {
        double sum = 0;
        for (int64_t i = row * n; i < (row + 1) * n; i++) {
            const double size = size_of(&p->attributes.pointwise, dloss ? p->op - 1 : p->op, x[i], t[i], dloss != NULL);
            if (dloss)
                magnitude[0][i] = fabs(dloss[row]) * size / count;
            else
                sum += size;
        }
        if (!dloss) magnitude[0][row] = sum / count;
    }
}

static void random_pointwise(fv_op op, drawing *d) {
    int dim[FV_RANK];
    say_shape(d, "x", strstr(fv_op_name(op), "kl_") ? 2 : 1, 4, dim);
    if (chance(d, 2)) say(d, " delta0.%d weight%d alpha0.%d gamma%d", between(d, 1, 9), between(d, 1, 9), between(d, 1, 9),
                          between(d, 0, 3));
    if (chance(d, 4)) say(d, " hard");
}

/* Rows that all have; those of one axis are not for whole distributions. */
static const char *const plain[] = { "x1,1", "x1,2", "x7,1", "x5,15", "x5,16", "x2,65", "x3,1,1,4", "x2,2,2,2,2,2", "x4,3,2",
                                     "x3,10", "x2,3,4,5", "x33,17", "x2,1000", "x100,1", "x16,16", "x3,5 nan2",
                                     "x500,101 large", "x2,70001 large", NULL };
static const char *const vectors[] = { "x1", "x2", "x5", "x64", "x35 nan3", NULL };

#define POINTWISE(name, inputs, ...)                                                                                   \
    RULE(name, .build = build_pointwise, .bound = BOUND_OWN, .magnitude = magnitude_pointwise,                         \
         .differentiable = inputs, .random = random_pointwise, .rows = { plain, __VA_ARGS__ },                         \
         .performance = ROWS("x128,1000"));                                                                            \
    RULE(name##_gradient, .build = build_pointwise, .bound = BOUND_OWN, .magnitude = magnitude_pointwise,              \
         .random = random_pointwise, .rows = { plain, __VA_ARGS__ })

POINTWISE(mean_squared_error, 3, vectors, ROWS("x6,33 scale100", "x4,5 shift100"));
POINTWISE(mean_absolute_error, 3, vectors, ROWS("x6,33 scale100", "x4,5 shift100"));
POINTWISE(huber, 3, vectors, ROWS("x6,33 scale100", "x4,50 delta0.5", "x4,50 delta0.01", "x9,7 scale3 delta2"));
POINTWISE(log_cosh, 3, vectors, ROWS("x6,33 scale100", "x4,50 scale0.01", "x4,50 scale1000"));
POINTWISE(binary_cross_entropy_logits, 1, vectors,
          ROWS("x6,33 scale100 hard", "x4,50 weight3", "x4,50 weight0.1 hard", "x9,7 scale30", "x40,1 hard", "x4,9 scale300 hard"));
POINTWISE(binary_cross_entropy, 1, vectors,
          ROWS("x40,3 hard", "x40,3 scale0.0000001 edge", "x5,3 shift1 edge", "x5,3 scale0 shift1 hard edge", "x5,3 scale0 hard edge"));
POINTWISE(sigmoid_focal, 1, vectors,
          ROWS("x6,33 gamma2 alpha0.25 hard", "x6,33 gamma2", "x6,33 alpha0.25", "x4,50 gamma1.5 alpha0.75 scale10 hard",
               "x40,1 hard gamma2", "x9,30 gamma0.5 hard", "x4,50 scale80 gamma2 hard"));
POINTWISE(hinge, 1, vectors, ROWS("x6,33 scale5", "x4,50 scale100", "x4,5 shift3"));
POINTWISE(squared_hinge, 1, vectors, ROWS("x6,33 scale5", "x4,50 scale100", "x4,5 shift3"));
POINTWISE(kl_divergence, 1, ROWS("x4,5 hard", "x40,3 scale0.0000001 edge", "x5,3 shift1 edge", "x5,3 scale0 edge", "x3,7,7,3 hard"));
POINTWISE(poisson, 1, vectors, ROWS("x6,33 scale50", "x4,50 scale0.01", "x4,5 scale0 edge", "x4,30 shift-1 edge"));

RULE(binary_accuracy, .build = build_pointwise, .bound = BOUND_OWN, .magnitude = magnitude_pointwise,
     .rows = { plain, vectors, ROWS("x6,33 threshold0.5", "x4,50 hard", "x4,5 threshold-0.5 hard") });
