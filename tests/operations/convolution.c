/* convolution.c - convolutions, shared by every operation of the family: unequal sizes, stride beyond the kernel, one-sided
 * padding, padding beyond the kernel, dilation, groups, depthwise, odd channels, sizes of one, true convolution. */
#include "support/operations.h"
#include <string.h>

/* Of the fused forms: an activation, nobias. */
static void add_bias(problem *p, int64_t channels) {
    p->attributes.conv.activation = activation_word(p, &p->attributes.conv.alpha);
    if (has_word(p, "nobias"))
        add_absent(p, "b");
    else
        add_input(p, "b", FV_F32, FILL_UNIFORM, SHAPE(channels));
}

/* conv2d n h w c (image) k r s (filters) stride dilation pad groups flip; fused: an activation, nobias */
static int build_conv(fv_context *context, problem *p) {
    fv_conv_attributes *a = &p->attributes.conv;
    (void)context;
    pair_words(p, "stride", 1, a->stride);
    pair_words(p, "dilation", 1, a->dilation);
    pad_words(p, a->pad);
    a->groups = (int32_t)whole(p, "groups", 0, 1);
    a->flip = has_word(p, "flip");

    const fv_shape x = image_words(p);
    const fv_shape w = SHAPE(whole(p, "k", 0, 1), whole(p, "r", 0, 1), whole(p, "s", 0, 1), x.dim[3] / a->groups);
    fv_shape y = SHAPE(x.dim[0], 0, 0, w.dim[0]);
    for (int axis = 0; axis < 2; axis++)
        y.dim[1 + axis] = fv_window_count(x.dim[1 + axis], a->pad[2 * axis], a->pad[2 * axis + 1], w.dim[1 + axis],
                                          a->dilation[axis], a->stride[axis], false);

    if (is(p, "conv2d_data_gradient") || is(p, "conv2d_transpose_bias_activation")) {
        memcpy(a->shape, x.dim, sizeof a->shape);
        add_input(p, "dy", FV_F32, FILL_UNIFORM, y);
        add_input(p, "w", FV_F32, FILL_UNIFORM, w);
        p->terms = w.dim[1] * w.dim[2] * w.dim[0] / a->groups + 1;
        if (is(p, "conv2d_transpose_bias_activation")) add_bias(p, x.dim[3]);
    } else if (is(p, "conv2d_weight_gradient")) {
        memcpy(a->shape, w.dim, sizeof a->shape);
        add_input(p, "x", FV_F32, FILL_UNIFORM, x);
        add_input(p, "dy", FV_F32, FILL_UNIFORM, y);
        p->terms = y.dim[0] * y.dim[1] * y.dim[2];
    } else {
        add_input(p, "x", FV_F32, FILL_UNIFORM, x);
        add_input(p, "w", FV_F32, FILL_UNIFORM, w);
        p->terms = w.dim[1] * w.dim[2] * w.dim[3] + 1;
        if (is(p, "conv2d_bias_activation")) add_bias(p, w.dim[0]);
    }
    return 0;
}

static void random_conv(fv_op op, drawing *d) {
    int size[2], kernel[2], stride[2], dilation[2], pad[4];
    for (int axis = 0; axis < 2; axis++) {
        do {
            size[axis] = between(d, 1, 12);
            kernel[axis] = between(d, 1, 5);
            stride[axis] = chance(d, 2) ? 1 : between(d, 1, 6);
            dilation[axis] = chance(d, 3) ? between(d, 2, 3) : 1;
            for (int side = 0; side < 2; side++)
                pad[2 * axis + side] = chance(d, 2) ? 0 : between(d, 0, kernel[axis] + 1);
        } while (fv_window_count(size[axis], pad[2 * axis], pad[2 * axis + 1], kernel[axis], dilation[axis],
                                 stride[axis], false) < 1);
    }
    const int groups = chance(d, 3) ? between(d, 1, 5) : 1;
    const int channels = between(d, 1, groups > 1 ? 3 : 20), filters = between(d, 1, groups > 1 ? 3 : 36);
    say(d, " n%d h%d w%d c%d k%d r%d s%d stride%d,%d dilation%d,%d pad%d,%d,%d,%d groups%d%s", between(d, 1, 3),
        size[0], size[1], channels * groups, filters * groups, kernel[0], kernel[1], stride[0], stride[1], dilation[0],
        dilation[1], pad[0], pad[1], pad[2], pad[3], groups, chance(d, 5) ? " flip" : "");
    if (fv_op_table[op]->flags & FV_FUSED) say_activation(d);
}

/* Unequal sizes, stride beyond the kernel, one-sided padding, padding beyond the kernel, dilation, groups, depthwise,
 * odd channels, sizes of one, true convolution. All convolution operations run all of these. */
static const char *const convolutions[] = { "n2 h9 w7 c3 k8 r3 s3",
                                            "n2 h9 w7 c3 k5 r3 s3 stride2 pad1,0",
                                            "n1 h8 w8 c1 k6 r5 s5 pad2",
                                            "n3 h5 w6 c4 k7 r1 s1",
                                            "n2 h11 w10 c2 k3 r2 s3 stride4,5",
                                            "n1 h7 w9 c5 k4 r3 s2 pad0,2,1,0",
                                            "n1 h4 w5 c2 k3 r2 s2 pad4,3,5,2",
                                            "n1 h3 w3 c2 k2 r3 s3 pad3 stride3",
                                            "n2 h9 w9 c3 k4 r3 s3 dilation2,3",
                                            "n1 h12 w8 c2 k3 r3 s2 dilation3,2 stride2,1 pad2",
                                            "n2 h6 w7 c6 k9 r3 s3 pad1 groups3",
                                            "n1 h7 w5 c5 k5 r3 s3 pad1 groups5",
                                            "n2 h7 w6 c4 k12 r3 s3 stride2 pad1 groups4",
                                            "n1 h1 w1 c1 k1 r1 s1",
                                            "n5 h1 w1 c17 k33 r1 s1",
                                            "n1 h6 w5 c3 k4 r3 s2 flip pad1,0,0,1",
                                            "n2 h8 w7 c4 k4 r3 s3 flip groups2 stride2 dilation2 pad2",
                                            "n1 h13 w1 c2 k3 r4 s1 stride3 pad2,0",
                                            "n1 h5 w5 c32 k48 r3 s3 pad1",
                                            "n2 h4 w4 c19 k31 r3 s3 pad1",
                                            "n1 h14 w14 c16 k16 r3 s3 pad1",
                                            "n1 h16 w16 c3 k16 r5 s5 pad2 stride2",
                                            "n1 h9 w10 c7 k13 r7 s7 stride2 pad3",
                                            "n40 h3 w3 c2 k3 r2 s2",
                                            "n2 h3 w4 c130 k6 r3 s3 stride2 pad1",
                                            "n2 h4 w3 c6 k130 r3 s3 stride2 pad1",
                                            NULL };

/* Large enough to be cut into blocks and shared among threads; too large for differences. */
static const char *const large_convolutions[] = { "n8 h20 w20 c24 k40 r3 s3 pad1 large",
                                                  "n16 h8 w8 c64 k64 r3 s3 pad1 large",
                                                  "n8 h28 w28 c1 k6 r5 s5 pad2 large",
                                                  "n17 h4 w4 c600 k300 r3 s3 pad1 large",
                                                  "n5 h17 w19 c33 k65 r3 s3 stride2 pad1 large",
                                                  "n4 h24 w24 c16 k32 r3 s3 pad1 groups16 large",
                                                  "n2 h30 w31 c40 k24 r1 s1 large",
                                                  "n2 h32 w33 c8 k20 r3 s5 dilation2 large",
                                                  "n4 h16 w16 c24 k24 r3 s3 pad1 groups4 large",
                                                  "n3 h7 w13 c113 k113 r3 s3 pad1 groups113 large", /* depthwise */
                                                  "n2 h14 w17 c40 k40 r3 s3 pad1 stride2 groups40 large",
                                                  "n2 h4 w3 c70 k70 r3 s3 pad1 groups70 large",
                                                  "n2 h9 w15 c36 k36 r2 s7 pad3,1,0,5 stride1,3 dilation2 groups36 large",
                                                  "n35 h6 w9 c48 k48 r5 s4 pad2 dilation1,3 flip groups48 large",
                                                  NULL };

/* Where Winograd's form is chosen: sizes that are no multiple of its tiles, of a vector, of a panel; both filters, few tiles
 * (one image) and many, padding on one side and more than the filter, true convolution; what it must leave to others. */
static const char *const winograd_convolutions[] = { "n2 h16 w16 c32 k32 r3 s3 pad1 large",
                                                     "n1 h32 w29 c64 k64 r3 s3 pad1 large",
                                                     "n3 h13 w18 c37 k45 r3 s3 large",
                                                     "n2 h17 w11 c40 k70 r3 s3 flip pad2,0,1,3 large",
                                                     "n1 h16 w16 c128 k130 r3 s3 pad1 large",
                                                     "n2 h8 w9 c150 k48 r3 s3 pad1 large",
                                                     "n2 h20 w14 c64 k56 r5 s5 pad2 large",
                                                     "n1 h15 w21 c48 k80 r5 s5 flip large",
                                                     "n10 h26 w26 c24 k33 r3 s3 pad1 large",
                                                     "n3 h30 w30 c48 k40 r5 s5 pad4 large",
                                                     "n9 h5 w6 c24 k70 r5 s5 pad2 large",
                                                     "n30 h7 w9 c35 k16 r5 s5 flip pad1,2,3,0 large",
                                                     "n2 h16 w16 c32 k32 r3 s3 pad1 dilation2 large",
                                                     "n2 h16 w16 c64 k64 r3 s3 pad1 groups2 large",
                                                     NULL };

RULE(conv2d, .build = build_conv, .bound = BOUND_ABSOLUTE, .differentiable = 3, .random = random_conv,
     .rows = { convolutions, large_convolutions, winograd_convolutions },
     .performance = ROWS("n32 h28 w28 c1 k6 r5 s5 pad2", "n32 h14 w14 c6 k16 r5 s5", "n32 h32 w32 c3 k64 r3 s3 pad1",
                         "n32 h16 w16 c64 k128 r3 s3 pad1", "n32 h8 w8 c256 k256 r3 s3 pad1",
                         "n1 h16 w16 c128 k128 r3 s3 pad1", "n32 h16 w16 c64 k64 r5 s5 pad2"));

RULE(conv2d_data_gradient, .build = build_conv, .bound = BOUND_ABSOLUTE, .differentiable = 3, .random = random_conv,
     .rows = { convolutions, large_convolutions, winograd_convolutions }, .performance = ROWS("n32 h16 w16 c64 k128 r3 s3 pad1"));

RULE(conv2d_weight_gradient, .build = build_conv, .bound = BOUND_ABSOLUTE, .differentiable = 3, .random = random_conv,
     .rows = { convolutions, large_convolutions, winograd_convolutions }, .performance = ROWS("n32 h16 w16 c64 k128 r3 s3 pad1"));

RULE(conv2d_bias_activation, .build = build_conv, .bound = BOUND_ABSOLUTE, .random = random_conv,
     .rows = { convolutions, large_convolutions, winograd_convolutions,
               ROWS(BIAS_ACTIVATIONS("n2 h6 w7 c3 k5 r3 s3 pad1"), BIAS_ACTIVATIONS("n1 h13 w18 c40 k45 r3 s3 pad1 large"),
                    BIAS_ACTIVATIONS("n1 h5 w5 c4 k8 r3 s3 pad1 groups4 stride2"),
                    BIAS_ACTIVATIONS("n1 h6 w6 c8 k8 r3 s3 pad1 groups8"), BIAS_ACTIVATIONS("n1 h5 w6 c40 k48 r3 s3")) },
     .performance = ROWS("n32 h16 w16 c64 k128 r3 s3 pad1 relu"));

RULE(conv2d_transpose_bias_activation, .build = build_conv, .bound = BOUND_ABSOLUTE, .random = random_conv,
     .rows = { convolutions, large_convolutions,
               ROWS(BIAS_ACTIVATIONS("n2 h6 w7 c3 k5 r3 s3 pad1"), BIAS_ACTIVATIONS("n2 h11 w7 c12 k5 r4 s4 stride2 pad1"),
                    BIAS_ACTIVATIONS("n1 h5 w5 c4 k8 r3 s3 pad1 groups4 stride2"),
                    BIAS_ACTIVATIONS("n1 h7 w5 c5 k5 r3 s3 pad1 groups5")) },
     .performance = ROWS("n32 h32 w32 c64 k128 r4 s4 stride2 pad1 relu", "n32 h64 w64 c3 k64 r4 s4 stride2 pad1 tanh"));
