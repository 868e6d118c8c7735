/* noise.c - what layers draw at random in training. */
#include "support/operations.h"
#include <math.h>

/* dropout x4,7 rate0.3 stream1030 step seed; gaussian_noise: rate is the deviation */
static int build_noise(fv_context *context, problem *p) {
    (void)context;
    p->attributes.random = (fv_random_attributes){ .rate = (float)number(p, "rate", 0, 0.5),
                                                   .stream = (uint32_t)whole(p, "stream", 0, FV_STREAM_LAYERS) };
    add_input(p, "x", FV_F32, FILL_APART, shape_word(p, "x", 0));
    add_control(p);
    return 0;
}

/* Of a normal number: its length sqrt(-2 log u), at most 5.8. */
static void magnitude_noise(const problem *p, double *const *output, double *const *magnitude) {
    const double *x = values(p, "x"), rate = p->attributes.random.rate;
    (void)output;
    for (int64_t i = 0; i < elements_of(&p->output[0]); i++)
        magnitude[0][i] = is(p, "gaussian_noise") ? fabs(x[i]) + 6 * rate
                          : is(p, "gaussian_dropout") ? fabs(x[i]) * (1 + 6 * sqrt(rate / (1 - rate)))
                                                      : (isfinite(x[i]) ? fabs(x[i]) : 0) + 2;
}

static void random_noise(fv_op op, drawing *d) {
    int dim[FV_RANK];
    (void)op;
    say_shape(d, "x", 0, 4, dim);
    say(d, " rate0.%d stream%d step%d seed%d,%d", below(d, 10), between(d, 1024, 4000), below(d, 100), below(d, 9), below(d, 9));
}

static const char *const noises[] = { "x2", "x3 rate0.1", "x15", "x16", "x17", "x31 rate0.7", "x65 stream1025", "x2,3,4",
                    "x1,1,1 rate0.5", "x1000 rate0.01 step1", "x12,12 seed9,9", "x4,7 rate0.3", "x1000", "x",
                    "x1 rate0.9", "x33,31 rate0.25 stream1030 step12", "x100 rate0", "x5,3,2,7 rate0.999",
                    "x257 step4294967296 seed1,2", "x6 rate0.5 step0 seed0,0", "x100003 rate0.3 large", NULL };

#define NOISE(NAME, BOUND, ...)                                                                                        \
    RULE(NAME, .build = build_noise, .bound = BOUND, .magnitude = magnitude_noise, .random = random_noise,             \
         .rows = { noises, ROWS("x64 nan5", "x20 rate0.5 inf1") }, __VA_ARGS__)
NOISE(dropout, BOUND_ROUNDED, .differentiable = 1);
NOISE(alpha_dropout, BOUND_OWN, .differentiable = 1);
NOISE(alpha_dropout_gradient, BOUND_ROUNDED, .differentiable = 1);
NOISE(gaussian_noise, BOUND_OWN, .differentiable = 1);
NOISE(gaussian_dropout, BOUND_OWN, .differentiable = 1);
