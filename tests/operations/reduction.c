/* reduction.c - reductions over sets of axes. */
#include "support/operations.h"
#include <string.h>

/* sum x2,3,4 axes0,2 keep : without axes over all of them */
static int build_reduction(fv_context *context, problem *p) {
    const fv_shape x = shape_word(p, "x", 0);
    const fv_shape axes = shape_word(p, "axes", 0);
    const bool max = is(p, "max") || is(p, "max_gradient");
    for (int axis = 0; axis < x.rank; axis++)
        if (axes.rank < 0) p->attributes.reduce.axes |= 1u << axis;
    for (int i = 0; i < axes.rank; i++) p->attributes.reduce.axes |= 1u << axes.dim[i];
    p->attributes.reduce.keep_dims = has_word(p, "keep");
    if (is(p, "sum_squares") || is(p, "sum_abs")) memset(&p->attributes, 0, sizeof p->attributes);

    fv_shape y = { 0 };
    for (int axis = 0; axis < x.rank; axis++) {
        const bool reduced = axes.rank < 0 || p->attributes.reduce.axes >> axis & 1;
        if (reduced) p->terms *= x.dim[axis];
        if (!reduced || has_word(p, "keep")) y.dim[y.rank++] = reduced ? 1 : x.dim[axis];
    }
    fill how = FILL_UNIFORM;
    if (max) how = p->smooth ? FILL_DISTINCT : FILL_STEPS;
    if (is(p, "sum_abs")) how = p->smooth ? FILL_APART : FILL_STEPS;
    add_input(p, "x", FV_F32, how, x);
    if (!is(p, "max_gradient")) return 0;
    if (add_derived(context, p, "y", "max", 0)) return -1;
    add_input(p, "dy", FV_F32, FILL_UNIFORM, y);
    return 0;
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
