/* dense.c - dense layers. */
#include "support/operations.h"

/* dense x4,7 o5 : rows of 7 numbers to rows of 5 */
static int build_dense(fv_context *context, problem *p) {
    (void)context;
    const fv_shape x = shape_word(p, "x", 0);
    if (x.rank < 1) return problem_fail(p, "dense needs x with at least one size");
    const fv_shape w = SHAPE(whole(p, "o", 0, 1), x.dim[x.rank - 1]);
    fv_shape y = x;
    y.dim[y.rank - 1] = w.dim[0];

    if (is(p, "dense_data_gradient")) {
        add_input(p, "dy", FV_F32, FILL_UNIFORM, y);
        add_input(p, "w", FV_F32, FILL_UNIFORM, w);
        p->terms = w.dim[0];
    } else if (is(p, "dense_weight_gradient")) {
        add_input(p, "x", FV_F32, FILL_UNIFORM, x);
        add_input(p, "dy", FV_F32, FILL_UNIFORM, y);
        p->terms = fv_shape_elements(&x) / w.dim[1];
    } else {
        add_input(p, "x", FV_F32, FILL_UNIFORM, x);
        add_input(p, "w", FV_F32, FILL_UNIFORM, w);
        p->terms = w.dim[1] + 1;
        if (is(p, "dense")) return 0;
        p->attributes.dense.activation = activation_word(p, &p->attributes.dense.alpha);
        if (has_word(p, "nobias"))
            add_absent(p, "b");
        else
            add_input(p, "b", FV_F32, FILL_UNIFORM, SHAPE(w.dim[0]));
    }
    return 0;
}

static void random_dense(fv_op op, drawing *d) {
    int dim[FV_RANK];
    say_shape(d, "x", 1, 3, dim);
    say(d, " o%d", between(d, 1, 50));
    if (op == FV_OP_dense_bias_activation) say_activation(d);
}

/* The first four have sums of several blocks, in each of the three products and both ways round. */
static const char *const denses[] = { "x20,1100 o9", "x9,1100 o20", "x20,9 o1100", "x1100,20 o9", "x4,7 o5",     "x1,1 o1",       "x3,1 o4",    "x1,9 o6",    "x13 o3",
                                      "x2,3,5 o4",   "x2,1,3,2,4 o3", "x33,17 o31", "x5,64 o48",  "x1,64 o64",
                                      "x1,65 o1",    "x17,16 o15",    "x2,2 o2",    "x31,3 o33",  "x9,128 o20",
                                      "x1,1,1,7 o5", "x7,100 o10",    "x16,16 o16", "x2,300 o65", "x64,33 o1",
                                      NULL };

static const char *const large_denses[] = { "x200,500 o120 large", "x3,2000 o1000 large", "x1000,33 o2 large",
                                            "x128,784 o10 large",  "x97,257 o129 large",  NULL };

RULE(dense, .build = build_dense, .bound = BOUND_ABSOLUTE, .differentiable = 3, .random = random_dense,
     .rows = { denses, large_denses }, .performance = ROWS("x128,784 o512"));

RULE(dense_data_gradient, .build = build_dense, .bound = BOUND_ABSOLUTE, .differentiable = 3,
     .random = random_dense, .rows = { denses, large_denses }, .performance = ROWS("x128,512 o512"));

RULE(dense_weight_gradient, .build = build_dense, .bound = BOUND_ABSOLUTE, .differentiable = 3,
     .random = random_dense, .rows = { denses, large_denses }, .performance = ROWS("x128,784 o512"));

RULE(dense_bias_activation, .build = build_dense, .bound = BOUND_ABSOLUTE, .random = random_dense,
     .rows = { denses, large_denses, ROWS(BIAS_ACTIVATIONS("x5,19 o17"), BIAS_ACTIVATIONS("x2,3,40 o33"),
                                                   BIAS_ACTIVATIONS("x2,300 o65")) });
