/* elementwise.c - arithmetic, element by element; add, sub, mul and div with broadcasting. */
#include "support/operations.h"
#include <math.h>

/* add a2,3 b3 */
static int build_binary(fv_context *context, problem *p) {
    (void)context;
    add_input(p, "x", FV_F32, FILL_UNIFORM, shape_word(p, "a", 0));
    add_input(p, "b", FV_F32, is(p, "div") ? FILL_APART : FILL_UNIFORM, shape_word(p, "b", 0));
    return 0;
}

/* cast x2,3 from bytes, ints or floats (the default) to_bytes, to_ints, to_floats, to_bf, to_half */
static int build_cast(fv_context *context, problem *p) {
    build_unary(context, p);
    p->attributes.cast.type = has_word(p, "to_bytes")  ? FV_U8
                              : has_word(p, "to_ints") ? FV_I32
                              : has_word(p, "to_bf")   ? FV_BF16
                              : has_word(p, "to_half") ? FV_F16
                                                       : FV_F32;
    return 0;
}

static void magnitude_affine(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x");
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++)
        magnitude[0][i] = fabs(p->attributes.affine.a * x[i]) + fabs((double)p->attributes.affine.b);
}

/* affine x50 a-2.5 b0.75 */
static int build_affine(fv_context *context, problem *p) {
    p->attributes.affine = (fv_affine_attributes){ (float)number(p, "a", 0, 1), (float)number(p, "b", 0, 0) };
    return build_unary(context, p);
}

static void random_broadcasting(fv_op op, drawing *d) {
    int dim[FV_RANK];
    const int rank = between(d, 0, FV_RANK);
    for (int axis = 0; axis < rank; axis++) dim[axis] = between(d, 1, rank > 3 ? 3 : 9);
    const int first = chance(d, 2) ? 0 : below(d, rank + 1); /* one of the two may have fewer axes */
    const bool shorter_a = chance(d, 2);
    for (int side = 0; side < 2; side++) {
        const int begin = (side == 0) == shorter_a ? first : 0;
        say(d, side ? " b" : " a");
        for (int axis = begin; axis < rank; axis++) say(d, axis > begin ? ",%d" : "%d", chance(d, 4) ? 1 : dim[axis]);
    }
}

static const char *const binaries[] = { "a b",
                                        "a7 b7",
                                        "a2,3 b3",
                                        "a b2,3",
                                        "a2,3 b",
                                        "a4,1 b1,5",
                                        "a2,1,4 b3,1",
                                        "a1 b2,3,4",
                                        "a2,3,4,5 b2,3,4,5",
                                        "a2,1,3,1,2,1 b1,2,1,3,1,2",
                                        "a100,10 b10",
                                        "a33,16 b33,1",
                                        "a1 b1",
                                        "a17 b17",
                                        "a16 b",
                                        "a2,1 b1,3",
                                        "a5,1,1 b7",
                                        "a1,1,1,3 b2,2,2,3",
                                        "a5,4,3,16 b16",
                                        NULL };

RULE(add, .build = build_binary, .bound = BOUND_ROUNDED, .differentiable = 3, .random = random_broadcasting,
     .rows = { binaries, ROWS("a64,16,16,24 b24 large", "a301,307 b301,307 large") },
     .performance = ROWS("a32,16,16,128 b32,16,16,128", "a32,16,16,128 b128"));

RULE(sub, .build = build_binary, .bound = BOUND_ROUNDED, .differentiable = 3, .random = random_broadcasting,
     .rows = { binaries, ROWS("a300,1 b300,301 large") });

RULE(mul, .build = build_binary, .bound = BOUND_ROUNDED, .differentiable = 3, .random = random_broadcasting,
     .rows = { binaries, ROWS("a40,1,50 b1,60,50 large") });

RULE(div, .build = build_binary, .bound = BOUND_ROUNDED, .differentiable = 3, .random = random_broadcasting,
     .rows = { binaries, ROWS("a301,307 b307 large") });

RULE(affine, .build = build_affine, .bound = BOUND_OWN, .magnitude = magnitude_affine, .differentiable = 1,
     .rows = { shapes_of_any_rank, ROWS("x50 a-2.5 b0.75", "x3,4 a0 b3", "x3,4 a1 b-1", "x100003 a-2 b0.3 large") });

RULE(abs, .build = build_unary, .bound = BOUND_EXACT, .kinked = true, .differentiable = 1,
     .rows = { shapes_of_any_rank, ROWS("x100 nan3", "x100003 large") });

RULE(sign, .build = build_unary, .bound = BOUND_EXACT, .kinked = true,
     .rows = { shapes_of_any_rank, ROWS("x100 nan3", "x50 inf2", "x100003 large") });

RULE(cast, .build = build_cast, .bound = BOUND_EXACT,
     .rows = { ROWS("x3,4", "x100 bytes", "x100 bytes to_ints", "x100 ints", "x33 ints to_bytes",
                    "x100 scale300 to_bytes", "x100 scale100000 to_ints", "x64 scale10000000000 to_ints",
                    "x64 nan5 scale3 to_ints", "x64 nan5 inf3 to_bytes", "x64 lowest5 inf3 to_ints", "x bytes",
                    "x2,1,3,1,2,2 bytes", "x300 to_bf scale3", "x300 to_half scale3", "x300 to_half scale0.0001",
                    "x300 to_half scale0.0000005", "x100 to_half scale100000", "x64 to_bf scale1000000",
                    "x50 to_half ints", "x50 to_half bytes", "x50 to_bf bytes", "x100003 bytes large",
                    "x100003 to_half large") });

RULE(copy, .build = build_shaping, .bound = BOUND_EXACT, .differentiable = 1,
     .rows = { shapes_of_any_rank, ROWS("x33 bytes", "x7,3 ints", "x50 nan5", "x100003 large") });
