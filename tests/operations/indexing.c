/* indexing.c - what goes by numbers along an axis. */
#include "support/operations.h"

/* gather x5,3 i4 axis0 batch0 : numbers below the axis, "bad" ones among them; scatter_add size5 i4 v4,3 axis0 ;
 * one_hot i2,3 size5 */
static int build_indexing(fv_context *context, problem *p) {
    const fv_shape x = shape_word(p, "x", 0);
    fv_gather_attributes *a = &p->attributes.gather;
    (void)context;
    a->axis = (int32_t)whole(p, "axis", 0, 0);
    a->batch = (int32_t)whole(p, "batch", 0, 0);
    a->size = whole(p, "size", 0, 0);
    if (is(p, "gather")) choose_type(p, add_input(p, "x", FV_F32, FILL_UNIFORM, x));
    operand *numbers = add_input(p, "i", FV_I32, FILL_BELOW, shape_word(p, "i", 0));
    numbers->limit = is(p, "gather") ? x.dim[a->axis < 0 ? a->axis + x.rank : a->axis] : a->size;
    if (is(p, "scatter_add")) add_input(p, "v", FV_F32, FILL_UNIFORM, shape_word(p, "v", 0));
    p->terms = fv_shape_elements(&numbers->shape);
    return 0;
}

/* top_k x3,20 k5 */
static int build_top_k(fv_context *context, problem *p) {
    (void)context;
    add_input(p, "x", FV_F32, p->smooth ? FILL_DISTINCT : FILL_STEPS, shape_word(p, "x", 0));
    p->attributes.top_k.k = (int32_t)whole(p, "k", 0, 1);
    return 0;
}

static void random_gather(fv_op op, drawing *d) {
    int dim[FV_RANK];
    const int rank = say_shape(d, "x", 1, 4, dim), axis = below(d, rank), batch = between(d, 0, axis);
    say(d, " i");
    for (int i = 0; i < batch; i++) say(d, i ? ",%d" : "%d", dim[i]);
    if (!chance(d, 5)) say(d, batch ? ",%d" : "%d", between(d, 1, 9));
    say(d, " axis%d batch%d", axis, batch);
    if (chance(d, 3)) say(d, " bad");
    if (chance(d, 4)) say(d, " bytes");
}

static void random_top_k(fv_op op, drawing *d) {
    int dim[FV_RANK];
    const int rank = say_shape(d, "x", 1, 3, dim);
    say(d, " k%d", between(d, 1, dim[rank - 1]));
    if (chance(d, 4)) say(d, " nan2");
}

RULE(gather, .build = build_indexing, .bound = BOUND_EXACT, .differentiable = 1, .random = random_gather,
     .rows = { ROWS("x5 i3", "x5 i", "x1 i1", "x1 i7", "x5,3 i4", "x5,3 i4 axis1", "x5,3 i4 axis-1", "x5,3 i2,3",
                    "x4,5,3 i2,2 axis1", "x4,5 i4,3 axis1 batch1", "x4,5 i4 axis1 batch1", "x2,3,7 i2,3,4 axis2 batch2",
                    "x2,3,7,5 i2,4 axis2 batch1", "x2,3,7,5 i2,3,4 axis2 batch2", "x9,17 i20 bad", "x6,33 i5,4 bad",
                    "x3,8 i3,9 axis1 batch1 bad", "x7,5 i9 bytes bad", "x7,16 i9 axis1 ints", "x12 i200 bad",
                    "x1000,64 i300 bad", "x3,1,4 i2 axis1", "x2,2,2,2,2,2 i2 axis3", "x300,40 i500 axis1 large",
                    "x5000,96 i64,64 large", "x600,200 i600,50 axis1 batch1 large") },
     .performance = ROWS("x10000,256 i64,128", "x4096,1000 i4096 axis1 batch1"));

RULE(scatter_add, .build = build_indexing, .bound = BOUND_ABSOLUTE, .differentiable = 2,
     .rows = { ROWS("size5 i3 v3", "size5 i v", "size1 i1 v1", "size1 i9 v9", "size5 i4 v4,3", "size3 i4 v5,4 axis1",
                    "size3 i4 v5,4 axis-1", "size7 i2,3 v2,3,4", "size5 i2,2 v4,2,2,3 axis1", "size5 i4,3 v4,3 axis1 batch1",
                    "size5 i4 v4 axis1 batch1", "size7 i2,3,4 v2,3,4 axis2 batch2", "size7 i2,4 v2,3,4,5 axis2 batch1",
                    "size7 i2,3,4 v2,3,4,5 axis2 batch2", "size9 i20 v20,17 bad", "size6 i5,4 v5,4,33 bad",
                    "size8 i3,9 v3,9 axis1 batch1 bad", "size12 i200 v200 bad", "size2 i500 v500,3",
                    "size1000 i300 v300,64 bad", "size40 i500 v300,500 axis1 large", "size700 i32,12 v32,12,96 large",
                    "size200 i600,50 v600,50 axis1 batch1 large", "size3 i2000 v2000,130 large") },
     .performance = ROWS("size10000 i64,128 v64,128,256", "size1000 i4096,5 v4096,5 axis1 batch1"));

RULE(one_hot, .build = build_indexing, .bound = BOUND_EXACT,
     .rows = { ROWS("i1 size1", "i size3", "i7 size1", "i5 size10", "i16 size16", "i17 size17", "i3,4 size5",
                    "i2,3,4 size6", "i2,1,3,1 size7", "i1,2,1,2,2 size3", "i9 size4 bad", "i33 size31 bad",
                    "i4,5 size2 bad", "i1 size1000", "i100 size10", "i6 size15", "i64 size64 bad", "i2,30 size21",
                    "i8,8,8 size151 bad", "i4000 size1000 large", "i100000 size10 large") });

RULE(top_k, .build = build_top_k, .bound = BOUND_EXACT, .differentiable = 1, .random = random_top_k,
     .rows = { ROWS("x1", "x7", "x7 k3", "x7 k7", "x3,5 k2", "x4,1 k1", "x2,3,9 k4", "x5,16 k5", "x5,17 k1", "x5,33 k32",
                    "x2,100 k10", "x3,1000 k5", "x2,1000 k1000", "x4,64 k3 nan3", "x4,64 k20 allnan",
                    "x4,50 k50 nan5 inf4 lowest6", "x2,40 k3 alllowest", "x2,2,2,2,2,5 k2", "x10 k9 inf3",
                    "x30,47 k6 lowest9", "x1,5000 k100", "x600,1000 k5 large", "x64,4000 k300 large") },
     .performance = ROWS("x256,1000 k5", "x64,8732 k400"));
