/* shaping.c - what moves elements and changes none. */
#include "support/operations.h"
#include <string.h>

static void random_slice_or_pad(fv_op op, drawing *d) {
    const bool slice = op == FV_OP_slice;
    int dim[FV_RANK], begin[FV_RANK];
    const int rank = say_shape(d, "x", 1, 4, dim);
    for (int axis = 0; axis < rank; axis++) {
        begin[axis] = slice ? below(d, dim[axis]) : below(d, 4);
        say(d, axis ? ",%d" : slice ? " begin%d" : " before%d", begin[axis]);
    }
    for (int axis = 0; axis < rank; axis++)
        say(d,
            axis    ? ",%d"
            : slice ? " size%d"
                    : " after%d",
            slice ? between(d, 1, dim[axis] - begin[axis]) : below(d, 4));
    if (chance(d, 4)) say(d, " bytes");
}

RULE(reshape, .build = build_shaping, .bound = BOUND_EXACT, .differentiable = 1,
     .rows = { ROWS("x6 to2,3", "x2,3 to6", "x1,1,1 to1", "x30 to5,-1", "x2,3,5 to-1,5", "x2,2,2,2,2,2 to64",
                    "x64 to2,2,2,2,2,2", "x3,4 to12 bytes", "x3,4 to2,6 ints", "x7 to7", "x17,3 to3,17",
                    "x100,10 to10,100", "x2,6 to3,4", "x12 to2,2,3", "x2,3,2 to12", "x1 to1,1,1", "x to1,1", "x1,1 to",
                    "x2,2,3,2 to4,6", "x5,4 to-1,2") });

RULE(broadcast, .build = build_shaping, .bound = BOUND_EXACT, .differentiable = 1,
     .rows = { ROWS("x to1", "x1 to1", "x7 to1,7", "x2,1,1 to2,3,4", "x1,5,1 to3,5,2", "x17 to3,17", "x to3",
                    "x to2,3,4", "x3 to2,3", "x1,3 to2,3", "x2,1 to2,5", "x2,3 to2,3", "x2,1,3,1 to2,4,3,5",
                    "x1 to1000", "x1,1,3,1,2,1 to2,2,3,2,2,2", "x5,1,16 to5,7,16", "x1,4 to3,4 bytes", "x33,1 to33,31",
                    "x1,300 to400,300 large", "x300,1 to300,400 large") });

RULE(concat, .build = build_shaping, .bound = BOUND_EXACT, .differentiable = ~0u,
     .rows = { ROWS("x1 x1", "x1,5 x1,5 axis0", "x1,5 x1,5 axis1", "x2,1,3 x2,2,3 axis1", "x3,16 x3,1 axis1",
                    "x3,17 x3,15 axis1 bytes", "x2,2 x2,2 x2,2 x2,2 x2,2 axis-1", "x1,2,3,4 x5,2,3,4 axis0",
                    "x2,3 x2,5 axis1", "x2,3 x4,3 axis0", "x3", "x3 x1 x2", "x2,3,4 x2,1,4 x2,2,4 axis1",
                    "x2,3,2,5 x2,3,2,1 axis3", "x1,1,1,1,1,2 x1,1,1,1,1,3 axis5", "x2,33 x2,31 x2,1 axis1",
                    "x4,2 x4,3 axis1 bytes", "x4,2 x3,2 axis0 ints", "x2,3,3,16 x2,3,3,32 axis3",
                    "x100,300 x100,201 axis1 large") });

RULE(slice, .build = build_shaping, .bound = BOUND_EXACT, .differentiable = 1, .random = random_slice_or_pad,
     .rows = { ROWS("x1 begin0 size1", "x2,2 begin1,1 size1,1", "x17 begin1 size16", "x64,2 begin0,1 size64,1",
                    "x3,33 begin0,1 size3,32", "x2,3,4,5 begin0,0,0,0 size2,3,4,5", "x7,1,5 begin6,0,2 size1,1,3",
                    "x40,4 begin7,0 size20,4 bytes", "x20,20,3 begin2,3,0 size16,15,3", "x5,6 begin1,2 size3,4",
                    "x5 begin0 size5", "x5 begin4 size1", "x2,3,4 begin0,1,0 size2,1,4",
                    "x2,3,4,5 begin1,0,2,1 size1,3,2,3", "x3,2,2,2,2,2 begin1,0,1,0,1,0 size2,2,1,2,1,2",
                    "x10,7 begin2,0 size5,7", "x9,9 begin0,3 size9,3 bytes", "x4,6 begin1,1 size2,4 ints",
                    "x100,3 begin10,0 size50,3", "x200,301 begin3,5 size190,290 large") });

/* As NumPy's x[begin : : step]. */
static void random_strided(fv_op op, drawing *d) {
    int dim[FV_RANK], whole[FV_RANK], begin[FV_RANK], step[FV_RANK];
    const bool back = op == FV_OP_strided_slice_gradient;
    const int rank = say_shape(d, "x", 1, 4, dim);
    for (int i = 0; i < rank; i++) {
        step[i] = chance(d, 2) ? 1 : between(d, 1, 3);
        whole[i] = back ? (dim[i] - 1) * step[i] + between(d, 1, 3) : dim[i];
        begin[i] = below(d, back ? whole[i] - (dim[i] - 1) * step[i] : whole[i]);
        if (!back) dim[i] = between(d, 1, (whole[i] - 1 - begin[i]) / step[i] + 1);
        if (!chance(d, 2)) continue;
        begin[i] = whole[i] - 1 - begin[i];
        step[i] = -step[i];
    }
    for (int i = 0; i < rank; i++) say(d, i ? ",%d" : " begin%d", begin[i]);
    for (int i = 0; i < rank; i++) say(d, i ? ",%d" : " size%d", back ? whole[i] : dim[i]);
    for (int i = 0; i < rank; i++) say(d, i ? ",%d" : " step%d", step[i]);
    if (chance(d, 4)) say(d, " bytes");
}

RULE(strided_slice, .build = build_shaping, .bound = BOUND_EXACT, .differentiable = 1, .random = random_strided,
     .rows = { ROWS("x1 begin0 size1", "x5 begin4 size5 step-1", "x5 begin0 size3 step2", "x5 begin1 size2 step3",
                    "x7 begin6 size3 step-3", "x3,4 begin2,3 size3,4 step-1", "x3,4 begin0,3 size3,2 step1,-2",
                    "x6,4 begin0,0 size3,4 step2,1", "x6,4 begin5,0 size3,4 step-2,1", "x6,5,3 begin1,0,0 size2,5,3 step3,1,1",
                    "x6,5,3 begin1,4,0 size2,3,3 step3,-2,1", "x2,8,8,3 begin0,0,0,0 size2,4,4,3 step1,2,2,1",
                    "x2,8,8,3 begin0,0,7,0 size2,8,8,3 step1,1,-1,1", "x2,9,9,3 begin0,1,1,2 size2,4,4,3 step1,2,2,-1",
                    "x17 begin16 size17 step-1", "x33,2 begin32,0 size17,1 step-2,1", "x5,6 begin4,1 size2,2 step-3,4 bytes",
                    "x9,9 begin0,8 size9,9 step1,-1 ints", "x2,2,2,2,2,2 begin1,1,1,1,1,1 size2,2,2,2,2,2 step-1", "x3,1 begin2,0 size3,1 step-1",
                    "x40,50,30 begin39,0,1 size20,25,14 step-2,2,2 large", "x300,301 begin0,300 size300,301 step1,-1 large",
                    "x8,60,60,16 begin0,0,59,0 size8,60,60,16 step1,1,-1,1 large") });

RULE(strided_slice_gradient, .build = build_shaping, .bound = BOUND_EXACT, .differentiable = 1, .random = random_strided,
     .rows = { ROWS("x1 begin0 size1", "x5 begin4 size5 step-1", "x3 begin0 size5 step2", "x2 begin1 size5 step3",
                    "x3 begin6 size7 step-3", "x3,4 begin2,3 size3,4 step-1", "x3,2 begin0,3 size3,4 step1,-2",
                    "x3,4 begin0,0 size6,4 step2,1", "x3,4 begin5,0 size6,4 step-2,1", "x2,5,3 begin1,0,0 size6,5,3 step3,1,1",
                    "x2,3,3 begin1,4,0 size6,5,3 step3,-2,1", "x2,4,4,3 begin0,0,0,0 size2,8,8,3 step1,2,2,1",
                    "x2,8,8,3 begin0,0,7,0 size2,8,8,3 step1,1,-1,1", "x2,4,4,3 begin0,1,1,2 size2,9,9,3 step1,2,2,-1",
                    "x17 begin16 size17 step-1", "x17,1 begin32,0 size33,2 step-2,1", "x2,2 begin4,1 size5,6 step-3,4 bytes",
                    "x9,9 begin0,8 size9,9 step1,-1 ints", "x2,2,2,2,2,2 begin1,1,1,1,1,1 size2,2,2,2,2,2 step-1", "x3,1 begin2,0 size3,1 step-1",
                    "x20,25,14 begin39,0,1 size40,50,30 step-2,2,2 large",
                    "x300,301 begin0,300 size300,301 step1,-1 large") });

static void random_transpose(fv_op op, drawing *d) {
    int dim[FV_RANK], order[FV_RANK];
    const int rank = say_shape(d, "x", 1, FV_RANK, dim);
    for (int i = 0; i < rank; i++) order[i] = i;
    for (int i = 0; i < rank; i++) {
        const int other = between(d, i, rank - 1), axis = order[other];
        order[other] = order[i];
        order[i] = axis;
        say(d, i ? ",%d" : " axes%d", axis);
    }
    if (chance(d, 4)) say(d, " bytes");
}

RULE(transpose, .build = build_shaping, .bound = BOUND_EXACT, .differentiable = 1, .random = random_transpose,
     .rows = { ROWS("x2,3 axes1,0", "x5 axes0", "x", "x1,1,7 axes2,0,1", "x2,3,4 axes2,1,0", "x2,3,4 axes0,2,1",
                    "x2,3,4 axes1,0,2", "x2,5,7,3 axes0,3,1,2", "x2,3,5,7 axes0,2,3,1", "x2,3,4,5,6,7 axes5,3,1,0,2,4",
                    "x2,3,4,5,2,3 axes1,0,3,2,5,4", "x3,4,5,6 axes1,0,2,3", "x17,33 axes1,0", "x4,16,16 axes0,2,1",
                    "x1,19,1,21 axes3,0,1,2", "x3,7,2,6 axes0,1,3,2 bytes", "x40,33 axes1,0 bytes",
                    "x2,9,3 axes-1,0,1 ints", "x40,35 axes1,0 ints", "x130,150 axes1,0", "x3,600,5 axes2,0,1",
                    "x4,300,170 axes2,0,1 large", "x8,40,40,24 axes0,3,1,2 large", "x8,24,40,40 axes0,2,3,1 large",
                    "x8,64,64,3 axes0,3,1,2 large", "x8,3,64,64 axes0,2,3,1 large", "x4,30,30,8,5 axes0,1,2,4,3 large",
                    "x70,60,50 axes1,0,2 large") },
     .performance = ROWS("x2048,2048 axes1,0", "x32,56,56,64 axes0,3,1,2", "x32,64,56,56 axes0,2,3,1",
                         "x64,224,224,3 axes0,3,1,2", "x32,28,28,4,58 axes0,1,2,4,3"));

/* Surrounded by what is there: one axis and two, with and without axes between them, every type that pad takes. */
static const char *const surrounded[] = { "x5 before2 after3 reflect",
                                          "x5 before4 after4 reflect",
                                          "x5 before2 after7 replicate",
                                          "x5 before5 after5 circular",
                                          "x1,4,5,3 before0,1,2,0 after0,2,1,0 reflect",
                                          "x2,4,5,3 before0,1,2,0 after0,2,1,0 replicate",
                                          "x2,4,5,3 before0,1,2,0 after0,2,1,0 circular",
                                          "x2,3,3,17 before0,2,2,0 after0,2,2,0 reflect",
                                          "x1,2,2,16 before0,9,9,0 after0,9,9,0 replicate",
                                          "x2,2,3,1 before0,2,3,0 after0,1,3,0 circular",
                                          "x3,4 before0,1 after0,2 reflect",
                                          "x3,4 before2,0 after0,0 replicate",
                                          "x2,3,4,2 before0,2,0,1 after0,0,0,1 reflect",
                                          "x2,3,4,2 before1,0,0,1 after1,0,0,0 circular",
                                          "x1,1,6,20 before0,0,3,0 after0,0,3,0 reflect",
                                          "x2,1,4 before0,3,0 after0,2,0 replicate",
                                          "x2,9,33 before0,4,0 after0,0,0 circular",
                                          "x2,3 before0,0 after0,0 reflect",
                                          "x1,1,1,1 before0,5,5,0 after0,5,5,0 replicate",
                                          "x8,40,40,8 before0,2,3,0 after0,3,2,0 reflect large",
                                          NULL };

RULE(pad, .build = build_shaping, .bound = BOUND_EXACT, .differentiable = 1, .random = random_slice_or_pad,
     .rows = { ROWS("x1 before1 after1", "x1 before0 after5", "x17 before1 after0", "x16,3 before0,1 after0,0",
                    "x3,16 before1,1 after1,1", "x2,3 before0,0 after0,0", "x2,2,2 before1,0,0 after0,0,1",
                    "x1,8,8,3 before0,2,2,0 after0,2,2,0", "x4,4,5 before0,3,0 after2,0,1 bytes",
                    "x2,3,2,3,2 before0,0,1,0,0 after1,0,0,0,0", "x2,3 before1,0 after0,2", "x5 before0 after0",
                    "x5 before3 after4", "x before after", "x2,3,4,2 before0,1,2,0 after0,2,1,0",
                    "x1,1,1,1,1,1 before1,0,1,0,1,0 after0,1,0,1,0,1", "x4,4 before2,2 after2,2 bytes",
                    "x3,4 before1,1 after1,1 ints", "x2,5,5,3 before0,1,1,0 after0,1,1,0", "x10,10 before0,5 after7,0",
                    "x16,30,30,8 before0,2,2,0 after0,2,2,0 large"),
               surrounded,
               ROWS("x2,3 before1,2 after0,1 value1.5", "x1,4,4,3 before0,1,1,0 after0,1,1,0 value-2",
                    "x3,4 before1,1 after1,1 value255 bytes", "x3,4 before1,1 after1,1 value-7 ints",
                    "x17 before3 after20 value0.1", "x3,4 before1,2 after1,3 reflect bytes",
                    "x2,3,4,2 before1,2,3,1 after1,2,3,1 reflect", "x2,3,4,2 before1,2,3,1 after2,3,4,2 circular",
                    "x2,2,2,2 before1,2,3,4 after4,3,2,1 replicate ints", "x4,9 before1,1 after1,1 replicate nan3") },
     .performance = ROWS("x32,32,32,64 before0,1,1,0 after0,1,1,0", "x32,32,32,64 before0,1,1,0 after0,1,1,0 reflect"));

RULE(pad_gradient, .build = build_shaping, .bound = BOUND_ABSOLUTE, .differentiable = 1,
     .rows = { surrounded, ROWS("x2,7,5,20 before0,3,2,0 after0,3,2,0 reflect") },
     .performance = ROWS("x32,32,32,64 before0,1,1,0 after0,1,1,0 reflect"));
