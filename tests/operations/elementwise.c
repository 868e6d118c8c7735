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

static fv_shape broadcast(fv_shape a, fv_shape b) {
    fv_shape y = { .rank = a.rank > b.rank ? a.rank : b.rank };
    for (int i = 1; i <= y.rank; i++) {
        const int64_t da = i <= a.rank ? a.dim[a.rank - i] : 1, db = i <= b.rank ? b.dim[b.rank - i] : 1;
        y.dim[y.rank - i] = da == 1 ? db : da;
    }
    return y;
}

/* maximum a2,3 b3 : equal numbers are frequent; the gradient also takes dy */
static int build_compared(fv_context *context, problem *p) {
    (void)context;
    const fill how = p->smooth ? FILL_UNIFORM : FILL_STEPS;
    const fv_shape a = shape_word(p, "a", 0), b = shape_word(p, "b", 0);
    add_input(p, "x", FV_F32, how, a);
    add_input(p, "b", FV_F32, how, b);
    if (is(p, "maximum_gradient")) add_input(p, "dy", FV_F32, FILL_UNIFORM, broadcast(a, b));
    return 0;
}

/* power a2,3 b3 : a positive base; `whole`: any base and whole exponents 0 .. 4; the gradient also takes dy */
static int build_power(fv_context *context, problem *p) {
    (void)context;
    const bool whole_exponents = has_word(p, "whole") && !p->smooth;
    const fv_shape a = shape_word(p, "a", 0), b = shape_word(p, "b", 0);
    add_input(p, "x", FV_F32, whole_exponents ? FILL_STEPS : FILL_POSITIVE, a);
    operand *exponent = add_input(p, "b", FV_F32, whole_exponents ? FILL_BELOW : FILL_UNIFORM, b);
    exponent->limit = 5;
    if (is(p, "power_gradient")) add_input(p, "dy", FV_F32, FILL_UNIFORM, broadcast(a, b));
    return 0;
}

/* b - 1 and log a are rounded before they matter. */
static void magnitude_power_gradient(const problem *p, double *const *output, double *const *magnitude) {
    for (int o = 0; o < 2; o++)
        for (int64_t i = 0; magnitude[o] && i < elements_of(&p->output[o]); i++)
            magnitude[o][i] = 2 * fabs(output[o][i]);
}

/* where a2,3 b3 c2,1 : the condition is c, zero in places */
static int build_where(fv_context *context, problem *p) {
    (void)context;
    add_input(p, "c", FV_F32, FILL_STEPS, shape_word(p, "c", 0));
    add_input(p, "x", FV_F32, FILL_UNIFORM, shape_word(p, "a", 0));
    add_input(p, "b", FV_F32, FILL_UNIFORM, shape_word(p, "b", 0));
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

static const char *const special[] = { "a64 b64 nan5", "a64 b nan5", "a64 b64 inf5", "a7,9 b9 lowest5", NULL };
static const char *const large_binaries[] = { "a301,307 b301,307 large", "a40,1,50 b1,60,50 large", NULL };

RULE(power, .build = build_power, .bound = BOUND_ROUNDED, .differentiable = 3, .random = random_broadcasting,
     .rows = { binaries, special, large_binaries,
               ROWS("a100 b100 whole", "a100 b whole", "a33 b33 scale1e20 large", "a33 b33 scale1e-20 large", "a64 b64 whole scale30",
                    "a64 b64 whole nan3 inf3 lowest3", "a64 b64 scale0 large", "a64 b64 scale0 whole large") },
     .performance = ROWS("a32,28,28,16 b"));

RULE(power_gradient, .build = build_power, .bound = BOUND_OWN, .magnitude = magnitude_power_gradient,
     .random = random_broadcasting,
     .rows = { binaries, large_binaries, ROWS("a100 b100 whole", "a64 b64 scale0 whole", "a6,7 b7 drop0", "a6,7 b7 drop1") });

RULE(maximum, .build = build_compared, .bound = BOUND_EXACT, .differentiable = 3, .random = random_broadcasting,
     .rows = { binaries, special, large_binaries }, .performance = ROWS("a32,16,16,128 b32,16,16,128"));
RULE(minimum, .build = build_compared, .bound = BOUND_EXACT, .differentiable = 3, .random = random_broadcasting,
     .rows = { binaries, special, large_binaries });
RULE(maximum_gradient, .build = build_compared, .bound = BOUND_EXACT, .random = random_broadcasting,
     .rows = { binaries, special, large_binaries });
RULE(equal, .build = build_compared, .bound = BOUND_EXACT, .random = random_broadcasting,
     .rows = { binaries, special, large_binaries });
RULE(not_equal, .build = build_compared, .bound = BOUND_EXACT, .random = random_broadcasting,
     .rows = { binaries, special, large_binaries });
RULE(less, .build = build_compared, .bound = BOUND_EXACT, .random = random_broadcasting,
     .rows = { binaries, special, large_binaries });
RULE(less_equal, .build = build_compared, .bound = BOUND_EXACT, .random = random_broadcasting,
     .rows = { binaries, special, large_binaries });

RULE(where, .build = build_where, .bound = BOUND_EXACT, .differentiable = 6,
     .rows = { ROWS("a b c", "a7 b7 c7", "a7 b c7", "a b7 c7", "a b c7", "a7 b7 c", "a2,3 b3 c2,1", "a2,3 b c2,3",
                    "a2,3,4 b4 c3,1", "a1,4 b3,1 c2,1,1", "a2,1,3,1,2,1 b1,2,1,3,1,2 c1,1,3,1,1,2", "a17 b17 c17",
                    "a16 b16 c16", "a5,16 b16 c5,1", "a33,31 b33,31 c33,31", "a1 b1 c1", "a1,1 b1 c",
                    "a2,3,4,5 b2,3,4,5 c5", "a2,3,4,5 b5 c2,3,4,1", "a64 b64 c64 nan5", "a64 b64 c64 inf5",
                    "a301,307 b c301,307 large", "a40,1,50 b1,60,50 c60,1 large") },
     .performance = ROWS("a32,16,16,128 b32,16,16,128 c32,16,16,128"));

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
