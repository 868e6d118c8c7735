/* activation.c - activations and softmax, and their gradients. */
#include "support/operations.h"
#include <math.h>
#include <string.h>

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
