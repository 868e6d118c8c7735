/* random_rows.c - random problems of the operations whose options multiply: convolutions, dense layers, pooling,
 * batch norm, arithmetic with broadcasting, reductions, losses, shaping. Row `number` of an operation is always the
 * same. */
#include "support/operations.h"
#include <string.h>

typedef struct drawing { fv_random random; char *text; size_t used; } drawing;

static int below(drawing *d, int n) { return (int)fv_random_below(&d->random, (uint32_t)n); }
static int between(drawing *d, int low, int high) { return low + below(d, high - low + 1); }
static bool chance(drawing *d, int in) { return below(d, in) == 0; }

static void __attribute__((format(printf, 2, 3))) say(drawing *d, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(d->text + d->used, PROBLEM_TEXT - d->used, format, arguments);
    va_end(arguments);
    d->used += (size_t)length;
}

static void say_activation(drawing *d) {
    static const char *const activation[] = { "", " relu", " tanh", " sigmoid" };
    say(d, "%s", activation[below(d, 4)]);
    if (chance(d, 4)) say(d, " nobias");
}

static void draw_conv(drawing *d, bool fused) {
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
    if (fused) say_activation(d);
}

static void draw_pool(drawing *d) {
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
}

/* " x2,3,4": at least `least` axes */
static int say_shape(drawing *d, const char *name, int least, int most, int *dim) {
    const int rank = between(d, least, most);
    say(d, " %s", name);
    for (int axis = 0; axis < rank; axis++) {
        dim[axis] = chance(d, 5) ? 1 : between(d, 1, rank > 3 ? 4 : axis == rank - 1 ? 40 : 7);
        say(d, axis ? ",%d" : "%d", dim[axis]);
    }
    return rank;
}

static void draw_broadcasting(drawing *d) {
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

static void draw_reduction(drawing *d) {
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

static void draw_slice_or_pad(drawing *d, bool slice) {
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

static void draw_loss(drawing *d) {
    static const char *const target[] = { "", "", " dense", " loose" };
    say(d, " n%d classes%d%s", between(d, 1, 20), between(d, 1, 40), target[below(d, 4)]);
    if (chance(d, 3)) say(d, " smoothing0.%d", between(d, 1, 9));
    if (chance(d, 4)) say(d, " scale%d", between(d, 1, 20));
}

bool random_row(fv_op op, uint64_t row, char text[PROBLEM_TEXT]) {
    const char *name = fv_op_name(op);
    drawing d = { fv_random_make(row, (uint64_t)op), text, 0 };
    int dim[FV_RANK];
    say(&d, "%s", name);
    if (!strncmp(name, "conv2d", 6)) {
        draw_conv(&d, op == FV_OP_conv2d_bias_activation);
    } else if (!strncmp(name, "dense", 5)) {
        say_shape(&d, "x", 1, 3, dim);
        say(&d, " o%d", between(&d, 1, 50));
        if (op == FV_OP_dense_bias_activation) say_activation(&d);
    } else if (strstr(name, "pool2d")) {
        draw_pool(&d);
    } else if (!strncmp(name, "batch_norm", 10)) {
        say_shape(&d, "x", 2, 4, dim);
        say(&d, "%s%s epsilon0.0%d momentum0.%d", chance(&d, 4) ? " noscale" : "", chance(&d, 4) ? " nocenter" : "",
            between(&d, 1, 9), below(&d, 10));
        if (strstr(name, "activation")) say_activation(&d);
    } else if (!strncmp(name, "lrn", 3)) {
        say_shape(&d, "x", 1, 4, dim);
        say(&d, " size%d alpha0.%d beta%s k%d", between(&d, 1, 9), below(&d, 9), chance(&d, 2) ? "0.75" : "0.5",
            between(&d, 1, 2));
    } else if (op == FV_OP_add || op == FV_OP_sub || op == FV_OP_mul || op == FV_OP_div) {
        draw_broadcasting(&d);
    } else if (op == FV_OP_sum || op == FV_OP_mean || op == FV_OP_max || op == FV_OP_max_gradient) {
        draw_reduction(&d);
    } else if (op == FV_OP_slice || op == FV_OP_pad) {
        draw_slice_or_pad(&d, op == FV_OP_slice);
    } else if (strstr(name, "cross_entropy")) {
        draw_loss(&d);
    } else if (strstr(name, "softmax")) {
        const int rank = say_shape(&d, "x", 1, 4, dim);
        say(&d, " axis%d", below(&d, rank));
    } else {
        return false;
    }
    return true;
}
