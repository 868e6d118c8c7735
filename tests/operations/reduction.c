/* reduction.c - reductions over sets of axes. */
#include "support/operations.h"
#include <math.h>
#include <string.h>

/* sum x2,3,4 axes0,2 keep : without axes over all of them */
static int build_reduction(fv_context *context, problem *p) {
    const fv_shape x = shape_word(p, "x", 0);
    const fv_shape axes = shape_word(p, "axes", 0);
    const bool extreme = is(p, "max") || is(p, "max_gradient") || is(p, "min") || is(p, "argmax") || is(p, "argmin");
    for (int axis = 0; axis < x.rank; axis++)
        if (axes.rank < 0) p->attributes.reduce.axes |= 1u << axis;
    for (int i = 0; i < axes.rank; i++) p->attributes.reduce.axes |= 1u << axes.dim[i];
    p->attributes.reduce.keep_dims = has_word(p, "keep");
    p->attributes.reduce.correction = (int32_t)whole(p, "correction", 0, 0);
    if (is(p, "sum_squares") || is(p, "sum_abs")) memset(&p->attributes, 0, sizeof p->attributes);

    fv_shape y = { 0 };
    for (int axis = 0; axis < x.rank; axis++) {
        const bool reduced = axes.rank < 0 || p->attributes.reduce.axes >> axis & 1;
        if (reduced) p->terms *= x.dim[axis];
        if (!reduced || has_word(p, "keep")) y.dim[y.rank++] = reduced ? 1 : x.dim[axis];
    }
    fill how = FILL_UNIFORM;
    if (extreme) how = p->smooth ? FILL_DISTINCT : FILL_STEPS;
    if (is(p, "sum_abs")) how = p->smooth ? FILL_APART : FILL_STEPS;
    if (is(p, "prod") || is(p, "prod_gradient")) how = has_word(p, "zeros") ? FILL_STEPS : FILL_POSITIVE;
    add_input(p, "x", FV_F32, how, x);
    const char *const from = is(p, "max_gradient") ? "max" : is(p, "logsumexp_gradient") ? "logsumexp" : NULL;
    if (from && add_derived(context, p, "y", from, 0)) return -1;
    if (from || is(p, "prod_gradient")) add_input(p, "dy", FV_F32, FILL_UNIFORM, y);
    return 0;
}

/* cumsum x2,3,4 axis1 exclusive reverse */
static int build_cumsum(fv_context *context, problem *p) {
    const fv_shape x = shape_word(p, "x", 0);
    const int axis = (int)whole(p, "axis", 0, 0);
    (void)context;
    p->attributes.cumsum = (fv_cumsum_attributes){ axis, has_word(p, "exclusive"), has_word(p, "reverse") };
    p->terms = x.dim[axis < 0 ? axis + x.rank : axis];
    add_input(p, "x", FV_F32, FILL_UNIFORM, x);
    return 0;
}

/* The mean rounds as the largest element does. */
static void magnitude_variance(const problem *p, double *const *output, double *const *magnitude) {
    const double most = largest(values(p, "x"), elements_of(&p->input[0]));
    for (int o = 0; o < 2; o++)
        for (int64_t i = 0; magnitude[o] && i < elements_of(&p->output[o]); i++)
            magnitude[o][i] = o ? most : fabs(output[0][i]);
}
/* Each x - y is off by a rounding of the larger of the two. */
static void magnitude_logsumexp(const problem *p, double *const *output, double *const *magnitude) {
    const double most = largest(values(p, "x"), elements_of(&p->input[0]));
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++) magnitude[0][i] = (fabs(output[0][i]) + 1) * (1 + most);
}

static void random_reduction(fv_op op, drawing *d) {
    int dim[FV_RANK];
    const int rank = say_shape(d, "x", 1, FV_RANK, dim);
    bool any = false;
    for (int axis = 0; axis < rank; axis++) {
        if (!chance(d, 2) && (any || axis < rank - 1)) continue;
        say(d, any ? ",%d" : " axes%d", axis);
        any = true;
    }
    if (chance(d, 2)) say(d, " keep");
}

static const char *const reductions[] = { "x",
                                          "x7",
                                          "x3,5 axes0",
                                          "x3,5 axes1",
                                          "x3,5",
                                          "x2,3,4 axes0,2",
                                          "x2,3,4 axes1 keep",
                                          "x2,5,6,3 axes1,2",
                                          "x2,5,6,3 axes0,1,2",
                                          "x2,1,3,2,2,2 axes1,3,5 keep",
                                          "x1000",
                                          "x50,33 axes0",
                                          "x4,257 axes1",
                                          "x3,7,5,16 axes0,3",
                                          "x1",
                                          "x1,1 axes0",
                                          "x2,15 axes1",
                                          "x2,16 axes1",
                                          "x2,17 axes1",
                                          "x15,2 axes0",
                                          "x65",
                                          NULL };

static const char *const large_reductions[] = { "x300,70,11 axes0 large", "x300,70,11 axes1 large",
                                                "x300,70,11 axes2 large", "x300,70,11 axes0,1 large",
                                                "x200003 large",          NULL };

RULE(sum, .build = build_reduction, .bound = BOUND_ABSOLUTE, .differentiable = 1, .random = random_reduction,
     .rows = { reductions, large_reductions, ROWS("x200 nan1", "x100 inf1") },
     .performance = ROWS("x32,16,16,128 axes0,1,2"));

RULE(mean, .build = build_reduction, .bound = BOUND_ABSOLUTE, .differentiable = 1, .random = random_reduction,
     .rows = { reductions, large_reductions });

RULE(sum_squares, .build = build_reduction, .bound = BOUND_ABSOLUTE, .differentiable = 1,
     .rows = { shapes_of_any_rank, ROWS("x16", "x65,3", "x100 scale1000", "x200003 large") });

RULE(sum_abs, .build = build_reduction, .bound = BOUND_ABSOLUTE, .differentiable = 1,
     .rows = { shapes_of_any_rank, ROWS("x16", "x65,3", "x200003 large") });

RULE(max, .build = build_reduction, .bound = BOUND_EXACT, .differentiable = 1, .random = random_reduction,
     .rows = { reductions, large_reductions, ROWS("x5,20 axes1 nan3", "x6,7 lowest9 axes0") });

RULE(max_gradient, .build = build_reduction, .bound = BOUND_ROUNDED, .random = random_reduction,
     .rows = { reductions, large_reductions });

RULE(min, .build = build_reduction, .bound = BOUND_EXACT, .differentiable = 1, .random = random_reduction,
     .rows = { reductions, large_reductions, ROWS("x5,20 axes1 nan3", "x6,7 lowest9 axes0", "x9,3,5 axes0,2 inf60") });

RULE(prod, .build = build_reduction, .bound = BOUND_ROUNDED, .differentiable = 1, .random = random_reduction,
     .rows = { reductions, large_reductions, ROWS("x5,20 axes1 nan3", "x6,7 zeros axes0", "x9,3,5 axes0,2 inf4") });

RULE(prod_gradient, .build = build_reduction, .bound = BOUND_ROUNDED, .random = random_reduction,
     .rows = { reductions, ROWS("x3,7 zeros axes1", "x7,3 zeros axes0", "x40,3,20 zeros axes1", "x5,3,4 zeros axes0,2",
                                "x300,30,33 axes1 large", "x3000,33 axes1 large", "x33,30,300 axes0,2 large zeros") });

RULE(variance, .build = build_reduction, .bound = BOUND_OWN, .magnitude = magnitude_variance, .differentiable = 1,
     .random = random_reduction,
     .rows = { reductions, large_reductions,
               ROWS("x5,20 axes1 correction1", "x5,20 axes1 nan3", "x6,7 inf4 axes0", "x9,3,5 axes0,2 correction3",
                    "x40,50 axes1 shift1000", "x50,40 axes0 shift1000", "x3,30 axes1 scale1e-6") },
     .performance = ROWS("x32,28,28,128 axes0,1,2", "x4096,1024 axes1"));

RULE(logsumexp, .build = build_reduction, .bound = BOUND_OWN, .magnitude = magnitude_logsumexp, .differentiable = 1,
     .random = random_reduction,
     .rows = { reductions, large_reductions,
               ROWS("x5,20 axes1 nan3", "x6,7 inf4 axes0", "x6,7 inf4 axes1", "x6,7 lowest30 axes0", "x6,7 lowest30 axes1",
                    "x3,50 alllowest axes1", "x50,3 alllowest axes0", "x3,50 scale100 axes1", "x50,3 scale100 axes0") },
     .performance = ROWS("x4096,1000 axes1", "x32,56,56,21 axes3"));

RULE(logsumexp_gradient, .build = build_reduction, .bound = BOUND_OWN, .magnitude = magnitude_logsumexp,
     .random = random_reduction, .rows = { reductions, large_reductions, ROWS("x3,50 scale20 axes1", "x50,3 scale20 axes0") });

RULE(argmax, .build = build_reduction, .bound = BOUND_EXACT, .random = random_reduction,
     .rows = { reductions, large_reductions,
               ROWS("x5,20 axes1 nan3", "x20,5 axes0 nan3", "x6,7 lowest40 axes0", "x3,50 alllowest axes1",
                    "x50,3 allnan axes0", "x9,3,5 axes0,2 inf60") },
     .performance = ROWS("x4096,1000 axes1", "x32,56,56,21 axes3"));

RULE(argmin, .build = build_reduction, .bound = BOUND_EXACT, .random = random_reduction,
     .rows = { reductions, large_reductions,
               ROWS("x5,20 axes1 nan3", "x20,5 axes0 nan3", "x6,7 lowest40 axes0", "x9,3,5 axes0,2 inf60") });

RULE(cumsum, .build = build_cumsum, .bound = BOUND_ABSOLUTE, .differentiable = 1,
     .rows = { ROWS("x5", "x1", "x5 exclusive", "x5 reverse", "x5 exclusive reverse", "x3,4 axis0", "x3,4 axis1",
                    "x3,4 axis-1 exclusive", "x3,4,5 axis1", "x3,4,17 axis1 reverse", "x3,4,5 axis2 reverse exclusive",
                    "x2,2,3,2,2,2 axis2", "x7,33 axis0", "x7,33 axis1 exclusive", "x100,16 axis0 exclusive", "x1,9 axis0",
                    "x9,1 axis0", "x1000", "x20,300 axis1 nan2", "x300,20 inf2", "x300,400 axis0 large",
                    "x300,400 axis1 large reverse", "x40,50,60 axis1 large") });
