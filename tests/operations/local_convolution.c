/* local_convolution.c - unshared convolution: the shapes of convolution's rows that it has. */
#include "support/operations.h"
#include <string.h>

/* local_conv2d n h w c (image) k r s (filters) stride dilation pad */
static int build_local(fv_context *context, problem *p) {
    fv_local_attributes *a = &p->attributes.local;
    (void)context;
    pair_words(p, "stride", 1, a->stride);
    pair_words(p, "dilation", 1, a->dilation);
    pad_words(p, a->pad);
    a->kernel[0] = (int32_t)whole(p, "r", 0, 1);
    a->kernel[1] = (int32_t)whole(p, "s", 0, 1);
    const fv_shape x = image_words(p);
    fv_shape y = SHAPE(x.dim[0], 0, 0, whole(p, "k", 0, 1));
    for (int axis = 0; axis < 2; axis++)
        y.dim[1 + axis] = fv_window_count(x.dim[1 + axis], a->pad[2 * axis], a->pad[2 * axis + 1], a->kernel[axis],
                                          a->dilation[axis], a->stride[axis], false);
    const fv_shape w = SHAPE(y.dim[1], y.dim[2], a->kernel[0], a->kernel[1], x.dim[3], y.dim[3]);

    if (is(p, "local_conv2d_data_gradient")) {
        memcpy(a->shape, x.dim, sizeof a->shape);
        add_input(p, "dy", FV_F32, FILL_UNIFORM, y);
        add_input(p, "w", FV_F32, FILL_UNIFORM, w);
        p->terms = w.dim[2] * w.dim[3] * w.dim[5];
    } else if (is(p, "local_conv2d_weight_gradient")) {
        add_input(p, "x", FV_F32, FILL_UNIFORM, x);
        add_input(p, "dy", FV_F32, FILL_UNIFORM, y);
        p->terms = x.dim[0];
    } else {
        add_input(p, "x", FV_F32, FILL_UNIFORM, x);
        add_input(p, "w", FV_F32, FILL_UNIFORM, w);
        p->terms = w.dim[2] * w.dim[3] * w.dim[4];
    }
    return 0;
}

static void random_local(fv_op op, drawing *d) {
    int size[2], kernel[2], stride[2], dilation[2], pad[4];
    (void)op;
    for (int axis = 0; axis < 2; axis++) {
        do {
            size[axis] = between(d, 1, 7);
            kernel[axis] = between(d, 1, 4);
            stride[axis] = chance(d, 2) ? 1 : between(d, 1, 5);
            dilation[axis] = chance(d, 3) ? between(d, 2, 3) : 1;
            for (int side = 0; side < 2; side++)
                pad[2 * axis + side] = chance(d, 2) ? 0 : between(d, 0, kernel[axis] + 1);
        } while (fv_window_count(size[axis], pad[2 * axis], pad[2 * axis + 1], kernel[axis], dilation[axis],
                                 stride[axis], false) < 1);
    }
    say(d, " n%d h%d w%d c%d k%d r%d s%d stride%d,%d dilation%d,%d pad%d,%d,%d,%d", between(d, 1, 17), size[0], size[1],
        between(d, 1, 9), between(d, 1, chance(d, 3) ? 36 : 6), kernel[0], kernel[1], stride[0], stride[1], dilation[0],
        dilation[1], pad[0], pad[1], pad[2], pad[3]);
}

static const char *const locals[] = { "n2 h5 w4 c3 k4 r3 s3",
                                      "n2 h7 w5 c3 k5 r3 s3 stride2 pad1,0",
                                      "n1 h6 w6 c1 k6 r5 s5 pad2",
                                      "n3 h3 w4 c4 k7 r1 s1",
                                      "n2 h11 w10 c2 k3 r2 s3 stride4,5",
                                      "n1 h7 w5 c5 k4 r3 s2 pad0,2,1,0",
                                      "n1 h3 w2 c2 k3 r2 s2 pad4,3,5,2",
                                      "n1 h3 w3 c2 k2 r3 s3 pad3 stride3",
                                      "n2 h7 w8 c3 k4 r3 s3 dilation2,3",
                                      "n1 h9 w6 c2 k3 r3 s2 dilation3,2 stride2,1 pad2",
                                      "n1 h1 w1 c1 k1 r1 s1",
                                      "n15 h1 w1 c17 k33 r1 s1",
                                      "n5 h1 w9 c3 k4 r1 s3 stride1,2",
                                      "n1 h9 w1 c2 k3 r4 s1 stride3 pad2,0",
                                      "n2 h3 w3 c3 k16 r2 s2",
                                      "n3 h3 w4 c2 k32 r2 s2 pad1",
                                      "n29 h2 w3 c2 k3 r2 s2",
                                      "n2 h2 w3 c35 k2 r2 s1",
                                      "n2 h3 w3 c6 k48 r3 s2 pad1",
                                      "n14 h3 w3 c4 k8 r2 s2 dilation1,2 pad0,1",
                                      "n4 h4 w4 c2 k2 r4 s4",
                                      NULL };

static const char *const large_locals[] = { "n32 h12 w12 c16 k24 r3 s3 pad1 large", "n40 h8 w9 c33 k40 r3 s3 large",
                                            "n64 h16 w16 c3 k16 r5 s5 stride2 pad2 large", NULL };
#define LOCAL(NAME)                                                                                                    \
    RULE(NAME, .build = build_local, .bound = BOUND_ABSOLUTE, .differentiable = 3, .random = random_local,             \
         .rows = { locals, large_locals }, .performance = ROWS("n32 h14 w14 c32 k32 r3 s3", "n64 h8 w8 c64 k48 r3 s3"))

LOCAL(local_conv2d);
LOCAL(local_conv2d_data_gradient);
LOCAL(local_conv2d_weight_gradient);
