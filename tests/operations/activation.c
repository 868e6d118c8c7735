/* activation.c - activations and other functions of one number, softmax, and their gradients. */
#include "support/operations.h"
#include <math.h>
#include <string.h>

/* elu x2,3 alpha0.5 : the parameter of leaky_relu and elu */
static int build_with_alpha(fv_context *context, problem *p) {
    p->attributes.activation.alpha = (float)number(p, "alpha", 0, 1);
    return build_unary(context, p);
}

/* relu_gradient x2,3 : y as the forward operation makes it, and dy; softmax_gradient also takes axis */
static int build_activation_gradient(fv_context *context, problem *p) {
    char forward[32];
    const fv_shape x = shape_word(p, "x", 0);
    snprintf(forward, sizeof forward, "%.*s", (int)(strlen(fv_op_name(p->op)) - strlen("_gradient")),
             fv_op_name(p->op));
    if (add_derived(context, p, "y", forward, 0)) return -1;
    add_input(p, "dy", FV_F32, FILL_UNIFORM, x);
    return 0;
}

static int build_gradient_with_alpha(fv_context *context, problem *p) {
    p->attributes.activation.alpha = (float)number(p, "alpha", 0, 1);
    return build_activation_gradient(context, p);
}

/* gelu_gradient x2,3 : x and dy */
static int build_input_gradient(fv_context *context, problem *p) {
    if (build_unary(context, p)) return -1;
    add_input(p, "dy", FV_F32, FILL_UNIFORM, p->input[0].shape);
    return 0;
}

/* log x2,3 : a positive x */
static int build_positive(fv_context *context, problem *p) {
    if (build_unary(context, p)) return -1;
    p->input[0].fill = FILL_POSITIVE;
    return 0;
}

/* clamp x2,3 low-0.5 high0.25; the gradient also takes dy */
static int build_clamp(fv_context *context, problem *p) {
    p->attributes.clamp = (fv_clamp_attributes){ (float)number(p, "low", 0, -0.5), (float)number(p, "high", 0, 0.75) };
    return is(p, "clamp") ? build_unary(context, p) : build_input_gradient(context, p);
}

/* prelu x2,3,4 slope4 ; the gradient also takes dy */
static int build_prelu(fv_context *context, problem *p) {
    if (build_unary(context, p)) return -1;
    add_input(p, "slope", FV_F32, FILL_UNIFORM, shape_word(p, "slope", 0));
    if (!is(p, "prelu")) add_input(p, "dy", FV_F32, FILL_UNIFORM, p->input[0].shape);
    return 0;
}

/* The exponential's argument is rounded: exp(x (1 + u)) = exp(x) (1 + x u). */
static void magnitude_sigmoid(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x");
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++)
        magnitude[0][i] = fabs(output[0][i]) * (1 + (x[i] < 0 ? fmin(-x[i], 200) : 0));
}

/* 1 - y^2 cancels where y is near 1. */
static void magnitude_tanh_gradient(const problem *p, double *const *output, double *const *magnitude) {
    const double *dy = values(p, "dy");
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) magnitude[0][i] = fabs(dy[i]);
}

/* The argument of the logistic function, 1.6 (x + 0.045 x^3), is rounded. */
static void magnitude_gelu_tanh(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x");
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++)
        magnitude[0][i] = fabs(output[0][i]) * (1 + (x[i] < 0 ? 1.6 * fabs(x[i] + 0.045 * x[i] * x[i] * x[i]) : 0));
}

/* A slope that is a sum which may cancel, of parts not much above one. */
static void magnitude_slope(const problem *p, double *const *output, double *const *magnitude) {
    const double *dy = values(p, "dy");
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) magnitude[0][i] = 2 * fabs(dy[i]);
}

static void magnitude_softmax(const problem *p, double *const *output, double *const *magnitude) {
    const double range = 2 * largest(values(p, "x"), elements_of(&p->input[0]));
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) magnitude[0][i] = fabs(output[0][i]) * (1 + range);
}

static void magnitude_log_softmax(const problem *p, double *const *output, double *const *magnitude) {
    const double range = 2 * largest(values(p, "x"), elements_of(&p->input[0]));
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) magnitude[0][i] = 1 + range + log((double)p->terms);
}

/* y_j (|dy_j| + sum of y |dy|) */
static void magnitude_softmax_gradient(const problem *p, double *const *output, double *const *magnitude) {
    const double *y = values(p, "y"), *dy = values(p, "dy");
    const double most = largest(dy, elements_of(&p->output[0]));
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) magnitude[0][i] = y[i] * (fabs(dy[i]) + most);
}

/* |dy_j| + exp(y_j) (1 + |y_j|) sum of |dy| */
static void magnitude_log_softmax_gradient(const problem *p, double *const *output, double *const *magnitude) {
    const double *y = values(p, "y"), *dy = values(p, "dy");
    const double sum = largest(dy, elements_of(&p->output[0])) * (double)p->terms;
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++)
        magnitude[0][i] = fabs(dy[i]) + exp(y[i]) * (1 + fabs(y[i])) * sum;
}

/* softmax x4,10 axis1 */
static void axis_word(problem *p, const fv_shape *x) {
    const int32_t axis = p->attributes.axis.axis = (int32_t)whole(p, "axis", 0, -1);
    if (x->rank) p->terms = x->dim[axis < 0 ? axis + x->rank : axis];
}

static int build_softmax(fv_context *context, problem *p) {
    if (build_unary(context, p)) return -1;
    axis_word(p, &p->input[0].shape);
    return 0;
}

static int build_softmax_gradient(fv_context *context, problem *p) {
    const fv_shape x = shape_word(p, "x", 0);
    axis_word(p, &x);
    return build_activation_gradient(context, p);
}

static void random_softmax(fv_op op, drawing *d) {
    int dim[FV_RANK];
    const int rank = say_shape(d, "x", 1, 4, dim);
    say(d, " axis%d", below(d, rank));
}

static const char *const axes[] = { "x4,10",
                                    "x1,1",
                                    "x3,5 axis0",
                                    "x2,3,4 axis1",
                                    "x2,7,3,2 axis-2",
                                    "x6",
                                    "x5,100",
                                    "x3,17 scale30",
                                    "x2,33 scale300",
                                    "x4,9 shift1000",
                                    "x1",
                                    "x5,1",
                                    "x5,1 axis0",
                                    "x64",
                                    "x2,15",
                                    "x3,16",
                                    "x2,31",
                                    "x1,65",
                                    "x2,1,3,1,2,5",
                                    "x4,3,2,2,2 axis0",
                                    "x6,33 axis0",
                                    NULL };

RULE(relu, .build = build_unary, .bound = BOUND_EXACT, .kinked = true, .differentiable = 1,
     .rows = { shapes_of_any_rank, ROWS("x100 nan7", "x100 inf3", "x65 lowest4", "x100003 large") },
     .performance = ROWS("x32,32,32,64"));

RULE(relu_gradient, .build = build_activation_gradient, .bound = BOUND_EXACT,
     .rows = { shapes_of_any_rank, ROWS("x100003 large") }, .performance = ROWS("x32,32,32,64"));

RULE(tanh, .build = build_unary, .bound = BOUND_ROUNDED, .differentiable = 1,
     .rows = { shapes_of_any_rank, ROWS("x100 scale5", "x100 scale100", "x200 scale0.001", "x64 scale0.0000001",
                                        "x100 nan4", "x100 inf3", "x33 lowest3", "x50001 scale3 large") },
     .performance = ROWS("x32,28,28,6"));

RULE(tanh_gradient, .build = build_activation_gradient, .bound = BOUND_OWN, .magnitude = magnitude_tanh_gradient,
     .rows = { shapes_of_any_rank, ROWS("x100 scale4", "x50001 large") });

RULE(sigmoid, .build = build_unary, .bound = BOUND_OWN, .magnitude = magnitude_sigmoid, .differentiable = 1,
     .rows = { shapes_of_any_rank, ROWS("x100 scale10", "x100 scale80", "x64 scale200", "x100 nan4", "x100 inf3",
                                        "x33 lowest3", "x50001 scale9 large") });

RULE(sigmoid_gradient, .build = build_activation_gradient, .bound = BOUND_ROUNDED,
     .rows = { shapes_of_any_rank, ROWS("x100 scale5", "x50001 large") });

RULE(softmax, .build = build_softmax, .bound = BOUND_OWN, .magnitude = magnitude_softmax, .differentiable = 1,
     .random = random_softmax,
     .rows = { axes, ROWS("x5,10 nan1", "x4,12 lowest7", "x3001,10 large", "x40,1000 large", "x30,20,50 axis1 large") },
     .performance = ROWS("x128,10"));

RULE(softmax_gradient, .build = build_softmax_gradient, .bound = BOUND_OWN, .magnitude = magnitude_softmax_gradient,
     .random = random_softmax, .rows = { axes, ROWS("x3001,10 large") });

RULE(log_softmax, .build = build_softmax, .bound = BOUND_OWN, .magnitude = magnitude_log_softmax, .differentiable = 1,
     .random = random_softmax, .rows = { axes, ROWS("x5,10 nan1", "x3001,10 large") });

RULE(log_softmax_gradient, .build = build_softmax_gradient, .bound = BOUND_OWN,
     .magnitude = magnitude_log_softmax_gradient, .random = random_softmax, .rows = { axes, ROWS("x50,700 large") });

/* ---- Others: a list of rows each for what bends, saturates or grows ---------------------------------------------- */

static const char *const wide[] = { "x100 scale5", "x100 scale20", "x64 scale0.001", "x100 nan4", "x50001 scale4 large", NULL };
static const char *const with_alpha[] = { "x33 alpha0", "x65 alpha0.01 scale4", "x7,5 alpha2.5", NULL };
static const char *const far[] = { "x100 inf3", "x33 lowest3", "x100 scale90", NULL };

#define OF_OUTPUT(name, function_bound, gradient_bound, magnitude_, kinked_)                                           \
    RULE(name, .build = build_unary, .bound = function_bound, .kinked = kinked_, .differentiable = 1,                  \
         .rows = { shapes_of_any_rank, wide, far }, .performance = ROWS("x32,28,28,6"));                               \
    RULE(name##_gradient, .build = build_activation_gradient, .bound = gradient_bound, .magnitude = magnitude_,        \
         .kinked = kinked_, .rows = { shapes_of_any_rank, wide }, .performance = ROWS("x32,28,28,6"))
#define OF_INPUT(name, function_bound, function_magnitude)                                                             \
    RULE(name, .build = build_unary, .bound = function_bound, .magnitude = function_magnitude, .differentiable = 1,    \
         .rows = { shapes_of_any_rank, wide, far }, .performance = ROWS("x32,28,28,6"));                               \
    RULE(name##_gradient, .build = build_input_gradient, .bound = BOUND_OWN, .magnitude = magnitude_slope,             \
         .rows = { shapes_of_any_rank, wide, far }, .performance = ROWS("x32,28,28,6"))

RULE(leaky_relu, .build = build_with_alpha, .bound = BOUND_ROUNDED, .kinked = true, .differentiable = 1,
     .rows = { shapes_of_any_rank, wide, with_alpha, far }, .performance = ROWS("x32,28,28,6 alpha0.1"));
RULE(leaky_relu_gradient, .build = build_gradient_with_alpha, .bound = BOUND_ROUNDED, .kinked = true,
     .rows = { shapes_of_any_rank, wide, with_alpha });
RULE(elu, .build = build_with_alpha, .bound = BOUND_ROUNDED, .kinked = true, .differentiable = 1,
     .rows = { shapes_of_any_rank, wide, with_alpha, far }, .performance = ROWS("x32,28,28,6"));
RULE(elu_gradient, .build = build_gradient_with_alpha, .bound = BOUND_OWN, .magnitude = magnitude_slope, .kinked = true,
     .rows = { shapes_of_any_rank, wide, with_alpha });
OF_OUTPUT(selu, BOUND_ROUNDED, BOUND_OWN, magnitude_slope, true);
OF_OUTPUT(relu6, BOUND_EXACT, BOUND_EXACT, NULL, true);
OF_OUTPUT(hard_tanh, BOUND_EXACT, BOUND_EXACT, NULL, true);
OF_OUTPUT(hard_sigmoid, BOUND_ROUNDED, BOUND_ROUNDED, NULL, true);
OF_OUTPUT(softplus, BOUND_ROUNDED, BOUND_ROUNDED, NULL, false);
OF_OUTPUT(softsign, BOUND_ROUNDED, BOUND_OWN, magnitude_tanh_gradient, true);
OF_INPUT(gelu, BOUND_ROUNDED, NULL);
OF_INPUT(gelu_tanh, BOUND_OWN, magnitude_gelu_tanh);
OF_INPUT(silu, BOUND_ROUNDED, NULL);
OF_INPUT(mish, BOUND_ROUNDED, NULL);
OF_INPUT(hard_swish, BOUND_ROUNDED, NULL);

static const char *const prelus[] = { "x slope",
                                      "x7 slope",
                                      "x7 slope7",
                                      "x3,5 slope5",
                                      "x3,5 slope1",
                                      "x3,5 slope3,1",
                                      "x3,5 slope3,5",
                                      "x2,3,4,5 slope5",
                                      "x2,3,4,5 slope3,4,5",
                                      "x2,3,4,5 slope1,1,5",
                                      "x2,3,4,5 slope4,1",
                                      "x2,3,4,5 slope3,1,1",
                                      "x2,3,4,5 slope1,3,1,5",
                                      "x1,1 slope1",
                                      "x5,1 slope1",
                                      "x4,16 slope16",
                                      "x4,17 slope17",
                                      "x100,33 slope33",
                                      "x2,2,2,2,2,3 slope2,1,3",
                                      "x64 slope64",
                                      "x8,28,28,24 slope24 large",
                                      "x30,40,50 slope40,1 large",
                                      NULL };
RULE(prelu, .build = build_prelu, .bound = BOUND_ROUNDED, .kinked = true, .differentiable = 3,
     .rows = { prelus, ROWS("x9,7 slope7 nan3", "x9,7 slope7 inf3") }, .performance = ROWS("x32,28,28,16 slope16"));
RULE(prelu_gradient, .build = build_prelu, .bound = BOUND_ROUNDED, .kinked = true,
     .rows = { prelus, ROWS("x9,7 slope7 drop0", "x9,7 slope7 drop1") });

RULE(exp, .build = build_unary, .bound = BOUND_ROUNDED, .differentiable = 1,
     .rows = { shapes_of_any_rank, wide, far, ROWS("x200 scale100") }, .performance = ROWS("x32,28,28,6"));
RULE(log, .build = build_positive, .bound = BOUND_ROUNDED, .differentiable = 1,
     .rows = { shapes_of_any_rank, ROWS("x100 scale0.001 large", "x100 scale1e30 large", "x33 scale0 nan2 inf2", "x64 scale1e-39 large",
                                        "x64 shift-1 lowest3", "x50 scale0.001 shift1", "x50001 large") },
     .performance = ROWS("x32,28,28,6"));

/* "large" also says: too steep for differences. */
static const char *const roots[] = { "x100 scale0.001 large", "x100 scale1e30 large", "x100 scale1e-30 large", "x64 nan3", "x50001 large", NULL };
RULE(sqrt, .build = build_positive, .bound = BOUND_ROUNDED, .differentiable = 1,
     .rows = { shapes_of_any_rank, roots, ROWS("x33 inf3 lowest3") });
RULE(sqrt_gradient, .build = build_activation_gradient, .bound = BOUND_ROUNDED,
     .rows = { shapes_of_any_rank, ROWS("x50001 large") });
RULE(rsqrt, .build = build_positive, .bound = BOUND_ROUNDED, .differentiable = 1,
     .rows = { shapes_of_any_rank, roots, ROWS("x33 inf3 lowest3") });
RULE(rsqrt_gradient, .build = build_activation_gradient, .bound = BOUND_ROUNDED,
     .rows = { shapes_of_any_rank, ROWS("x50001 large") });
RULE(square, .build = build_unary, .bound = BOUND_ROUNDED, .differentiable = 1, .rows = { shapes_of_any_rank, wide, far });
RULE(square_gradient, .build = build_input_gradient, .bound = BOUND_ROUNDED, .rows = { shapes_of_any_rank, wide });

static const char *const clamps[] = { "x100 low0 high1", "x100 low-1e30 high0.25", "x100 low0.5 high0.5", "x100 scale3 nan3",
                                      "x50001 low-0.25 high0.25 large", NULL };
RULE(clamp, .build = build_clamp, .bound = BOUND_EXACT, .kinked = true, .differentiable = 1,
     .rows = { shapes_of_any_rank, clamps, ROWS("x64 inf3 lowest3") });
RULE(clamp_gradient, .build = build_clamp, .bound = BOUND_EXACT, .kinked = true, .rows = { shapes_of_any_rank, clamps });
