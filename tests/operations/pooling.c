/* pooling.c - pooling: stride below, at and beyond the window; asymmetric padding; ceil mode with windows that reach beyond it. */
#include "support/operations.h"
#include <string.h>

/* max_pool2d n h w c r s (window) stride pad ceil exclude, or output (adaptive); flat index */
static int build_pool(fv_context *context, problem *p) {
    fv_pool_attributes *a = &p->attributes.pool;
    const fv_shape x = image_words(p);
    fv_shape y = x;
    p->terms = 1;
    for (int axis = 0; axis < 2; axis++) {
        if (has_word(p, "output")) {
            y.dim[1 + axis] = a->output[axis] = (int32_t)whole(p, "output", axis, 1);
            p->terms *= (x.dim[1 + axis] > y.dim[1 + axis] ? x.dim[1 + axis] / y.dim[1 + axis]
                                                           : y.dim[1 + axis] / x.dim[1 + axis]) + 2;
            continue;
        }
        pad_words(p, a->pad);
        a->kernel[axis] = (int32_t)whole(p, axis ? "s" : "r", 0, axis ? a->kernel[0] : 2);
        a->stride[axis] = (int32_t)whole(p, "stride", axis, a->kernel[axis]);
        p->terms *= a->kernel[axis];
        y.dim[1 + axis] = fv_window_count(x.dim[1 + axis], a->pad[2 * axis], a->pad[2 * axis + 1], a->kernel[axis], 1,
                                          a->stride[axis], has_word(p, "ceil"));
    }
    a->ceil_mode = has_word(p, "ceil");
    a->exclude_padding = has_word(p, "exclude");
    a->flat = has_word(p, "flat");

    if (is(p, "max_pool2d") || is(p, "avg_pool2d")) {
        const fill ties = p->smooth ? FILL_DISTINCT : FILL_STEPS;
        add_input(p, "x", FV_F32, is(p, "max_pool2d") ? ties : FILL_UNIFORM, x);
        return 0;
    }
    if (!is(p, "avg_pool2d_gradient") && add_derived(context, p, "index", "max_pool2d", 1)) return -1;
    if (!is(p, "max_unpool2d_gradient")) memcpy(a->shape, x.dim, sizeof a->shape);
    add_input(p, "dy", FV_F32, FILL_UNIFORM, is(p, "max_unpool2d_gradient") ? x : y);
    return 0;
}

static void random_pool(fv_op op, drawing *d) {
    if (chance(d, 3)) {
        say(d, " n%d h%d w%d c%d output%d,%d", between(d, 1, 3), between(d, 1, 12), between(d, 1, 12),
            between(d, 1, 20), between(d, 1, 9), between(d, 1, 9));
        return;
    }
    int size[2], kernel[2], stride[2], pad[4];
    const bool ceil = chance(d, 2);
    for (int axis = 0; axis < 2; axis++) {
        do {
            size[axis] = between(d, 1, 12);
            kernel[axis] = between(d, 1, 5);
            stride[axis] = between(d, 1, 6);
            for (int side = 0; side < 2; side++) pad[2 * axis + side] = below(d, kernel[axis]);
        } while (fv_window_count(size[axis], pad[2 * axis], pad[2 * axis + 1], kernel[axis], 1, stride[axis], ceil) <
                 1);
    }
    say(d, " n%d h%d w%d c%d r%d s%d stride%d,%d pad%d,%d,%d,%d%s%s", between(d, 1, 3), size[0], size[1],
        between(d, 1, 20), kernel[0], kernel[1], stride[0], stride[1], pad[0], pad[1], pad[2], pad[3],
        ceil ? " ceil" : "", chance(d, 2) ? " exclude" : "");
    if (chance(d, 3)) say(d, " flat");
}

/* Stride below, at and beyond the window; asymmetric padding; ceil mode with windows that reach beyond it. */
static const char *const poolings[] = { "n2 h8 w6 c3 r2",
                                        "n1 h9 w7 c5 r3 s2 stride2",
                                        "n2 h7 w7 c4 r3 stride1 pad1",
                                        "n1 h11 w5 c2 r2 s3 stride4,5",
                                        "n1 h7 w8 c3 r3 stride2 pad1,0,0,2",
                                        "n2 h7 w8 c1 r3 stride2 ceil",
                                        "n1 h8 w9 c2 r3 stride3 pad1 ceil",
                                        "n1 h5 w6 c2 r3,2 stride2 pad2,0,1,1 ceil",
                                        "n1 h1 w1 c1 r1",
                                        "n1 h4 w4 c33 r2 stride1",
                                        "n1 h1 w6 c7 r1 s2",
                                        "n1 h20 w19 c1 r17 s16 stride2",
                                        "n3 h5 w5 c16 r5",
                                        "n1 h6 w6 c64 r2",
                                        "n2 h13 w12 c20 r3 stride2",
                                        "n1 h5 w5 c15 r3 stride2 pad1",
                                        "n2 h3 w4 c17 r2 stride1 pad1",
                                        "n1 h9 w9 c31 r2,3 stride3,2",
                                        NULL };

static const char *const large_poolings[] = { "n16 h28 w28 c20 r2 large", "n4 h27 w31 c48 r3 stride2 pad1 large",
                                              "n2 h64 w64 c3 r3 stride2 ceil large", NULL };

/* Windows floor(p in / out) .. ceil((p + 1) in / out): side by side, overlapping, all alike, more than cells. */
static const char *const adaptive_poolings[] = { "n2 h8 w6 c3 output4,2", "n1 h7 w10 c5 output3,4",
                                                 "n1 h5 w5 c17 output1",   "n2 h6 w7 c2 output6,7",
                                                 "n1 h3 w2 c4 output5,7",  "n1 h1 w9 c16 output3,2",
                                                 "n1 h13 w11 c1 output7,6", "n8 h40 w33 c20 output7 large", NULL };
static const char *const flat_poolings[] = { "n2 h8 w6 c3 r2 flat",
                                             "n1 h7 w8 c17 r3 stride2 pad1,0,0,2 flat",
                                             "n2 h7 w8 c4 r3 stride2 ceil flat",
                                             "n1 h9 w7 c16 r3,2 stride1 pad1 flat",
                                             "n8 h40 w33 c20 r3 stride2 flat large", NULL };

RULE(max_pool2d, .build = build_pool, .bound = BOUND_EXACT, .differentiable = 1, .random = random_pool,
     .rows = { poolings, large_poolings, adaptive_poolings, flat_poolings,
               ROWS("n2 h6 w6 c3 r2 nan5", "n1 h7 w7 c16 r3 stride2 pad1 allnan", "n1 h6 w5 c4 r2 alllowest",
                    "n1 h8 w8 c2 r3 stride1 pad1 lowest40", "n2 h6 w6 c3 r2 drop1", "n2 h6 w7 c3 r3 stride2 drop0",
                    "n1 h6 w6 c17 r3 stride2 nan9 drop1", "n1 h6 w6 c2 r2 inf5", "n1 h7 w5 c3 output3,2 nan5",
                    "n1 h6 w5 c4 output2 alllowest flat") },
     .performance = ROWS("n32 h32 w32 c64 r2", "n32 h28 w28 c64 output7"));

RULE(max_pool2d_gradient, .build = build_pool, .bound = BOUND_ABSOLUTE, .differentiable = 2, .random = random_pool,
     .rows = { poolings, large_poolings, adaptive_poolings, flat_poolings },
     .performance = ROWS("n32 h32 w32 c64 r2", "n32 h32 w32 c64 r2 flat"));

RULE(max_unpool2d_gradient, .build = build_pool, .bound = BOUND_EXACT, .differentiable = 2, .random = random_pool,
     .rows = { poolings, large_poolings, adaptive_poolings, flat_poolings, ROWS("n2 h6 w6 c3 r2 inf7") },
     .performance = ROWS("n32 h32 w32 c64 r2"));

RULE(avg_pool2d, .build = build_pool, .bound = BOUND_ABSOLUTE, .differentiable = 1, .random = random_pool,
     .rows = { poolings, large_poolings, adaptive_poolings,
               ROWS("n1 h7 w8 c3 r3 stride2 pad1 exclude", "n1 h5 w6 c2 r3 stride2 pad2,0,1,1 ceil exclude") },
     .performance = ROWS("n32 h28 w28 c6 r2", "n32 h28 w28 c64 output7"));

RULE(avg_pool2d_gradient, .build = build_pool, .bound = BOUND_ABSOLUTE, .differentiable = 1, .random = random_pool,
     .rows = { poolings, large_poolings, adaptive_poolings,
               ROWS("n1 h7 w8 c3 r3 stride2 pad1 exclude", "n1 h5 w6 c2 r3 stride2 pad2,0,1,1 ceil exclude") },
     .performance = ROWS("n32 h28 w28 c64 output7"));
