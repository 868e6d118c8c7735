/* resampling.c - other sizes of images: up and down, by whole and by odd factors, to and from one pixel, each way of
 * placing the corners. */
#include "support/operations.h"
#include <string.h>

/* resize n h w c to (height, width) bilinear align asymmetric */
static int build_resize(fv_context *context, problem *p) {
    fv_resize_attributes *a = &p->attributes.resize;
    const fv_shape x = image_words(p);
    (void)context;
    a->interpolation = has_word(p, "bilinear") ? FV_BILINEAR : FV_NEAREST;
    a->corners = has_word(p, "align") ? FV_ALIGN_CORNERS : has_word(p, "asymmetric") ? FV_ASYMMETRIC : FV_HALF_PIXEL;
    p->terms = 4;
    for (int axis = 0; axis < 2; axis++) {
        a->output[axis] = whole(p, "to", axis, 1);
        p->terms *= is(p, "resize") ? 1 : a->output[axis] / x.dim[1 + axis] + 1;
    }
    if (is(p, "resize")) {
        add_input(p, "x", FV_F32, FILL_UNIFORM, x);
        return 0;
    }
    memcpy(a->shape, x.dim, sizeof a->shape);
    add_input(p, "dy", FV_F32, FILL_UNIFORM, SHAPE(x.dim[0], a->output[0], a->output[1], x.dim[3]));
    return 0;
}

static void random_resize(fv_op op, drawing *d) {
    static const char *const corners[] = { "", " align", " asymmetric" };
    say(d, " n%d h%d w%d c%d to%d,%d%s%s", between(d, 1, 3), between(d, 1, 12), between(d, 1, 12), between(d, 1, 20),
        between(d, 1, 24), between(d, 1, 24), chance(d, 3) ? "" : " bilinear", corners[below(d, 3)]);
}

#define CORNERS(words) words, words " align", words " asymmetric"
#define BOTH(words) CORNERS(words), CORNERS(words " bilinear")

static const char *const sizes[] = { BOTH("n2 h4 w3 c3 to8,6"),
                                     BOTH("n1 h5 w7 c17 to7,5"),
                                     BOTH("n2 h9 w8 c2 to4,4"),
                                     BOTH("n1 h1 w1 c4 to3,5"),
                                     BOTH("n1 h6 w5 c16 to1,1"),
                                     BOTH("n1 h3 w10 c1 to11,3"),
                                     BOTH("n1 h4 w5 c33 to4,5"),
                                     BOTH("n1 h2 w3 c5 to13,17"),
                                     BOTH("n1 h16 w1 c7 to5,2"),
                                     "n8 h20 w20 c20 to40 large",
                                     "n8 h20 w20 c20 to40 bilinear large",
                                     "n4 h33 w40 c9 to20,70 bilinear align large",
                                     NULL };

RULE(resize, .build = build_resize, .bound = BOUND_ABSOLUTE, .differentiable = 1, .random = random_resize,
     .rows = { sizes, ROWS("n1 h4 w4 c3 to8 nan2", "n1 h4 w4 c3 to7 bilinear align nan2 inf1") },
     .performance = ROWS("n32 h32 w32 c64 to64", "n32 h32 w32 c64 to64 bilinear", "n8 h224 w224 c3 to448 bilinear"));

RULE(resize_gradient, .build = build_resize, .bound = BOUND_ABSOLUTE, .differentiable = 1, .random = random_resize,
     .rows = { sizes }, .performance = ROWS("n32 h32 w32 c64 to64", "n32 h32 w32 c64 to64 bilinear"));
