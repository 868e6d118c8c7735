/* builders.c - from words to attributes and operands, for the operations that a net is made of. */
#include "support/operations.h"
#include <string.h>

static bool is(const problem *p, const char *operation) { return !strcmp(fv_op_name(p->op), operation); }

static int32_t activation_word(const problem *p) {
    return has_word(p, "relu")      ? FV_RELU
           : has_word(p, "tanh")    ? FV_TANH
           : has_word(p, "sigmoid") ? FV_SIGMOID
                                    : FV_LINEAR;
}

/* pad1: all sides; pad1,2: rows, columns; pad1,0,2,3: top, bottom, left, right */
static void pad_words(const problem *p, int32_t pad[4]) {
    const fv_shape given = shape_word(p, "pad", 0);
    for (int i = 0; i < 4 && given.rank > 0; i++)
        pad[i] = (int32_t)given.dim[given.rank == 4 ? i : given.rank == 2 ? i / 2 : 0];
}

static void pair_words(const problem *p, const char *name, int32_t otherwise, int32_t out[2]) {
    for (int i = 0; i < 2; i++) out[i] = (int32_t)whole(p, name, i, otherwise);
}

static fv_shape image_words(const problem *p) {
    return SHAPE(whole(p, "n", 0, 1), whole(p, "h", 0, 1), whole(p, "w", 0, 1), whole(p, "c", 0, 1));
}

/* conv2d n h w c (image) k r s (filters) stride dilation pad groups flip; fused: an activation, nobias */
int build_conv(fv_context *context, problem *p) {
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

    if (is(p, "conv2d_data_gradient")) {
        memcpy(a->shape, x.dim, sizeof a->shape);
        add_input(p, "dy", FV_F32, FILL_UNIFORM, y);
        add_input(p, "w", FV_F32, FILL_UNIFORM, w);
        p->terms = w.dim[1] * w.dim[2] * w.dim[0] / a->groups;
    } else if (is(p, "conv2d_weight_gradient")) {
        memcpy(a->shape, w.dim, sizeof a->shape);
        add_input(p, "x", FV_F32, FILL_UNIFORM, x);
        add_input(p, "dy", FV_F32, FILL_UNIFORM, y);
        p->terms = y.dim[0] * y.dim[1] * y.dim[2];
    } else {
        add_input(p, "x", FV_F32, FILL_UNIFORM, x);
        add_input(p, "w", FV_F32, FILL_UNIFORM, w);
        p->terms = w.dim[1] * w.dim[2] * w.dim[3] + 1;
        if (is(p, "conv2d")) return 0;
        a->activation = activation_word(p);
        if (has_word(p, "nobias")) add_absent(p, "b");
        else add_input(p, "b", FV_F32, FILL_UNIFORM, SHAPE(w.dim[0]));
    }
    return 0;
}

/* dense x4,7 o5 : rows of 7 numbers to rows of 5 */
int build_dense(fv_context *context, problem *p) {
    (void)context;
    const fv_shape x = shape_word(p, "x", 0);
    if (x.rank < 1) return problem_fail(p, "dense needs x with at least one size");
    const fv_shape w = SHAPE(whole(p, "o", 0, 1), x.dim[x.rank - 1]);
    fv_shape y = x;
    y.dim[y.rank - 1] = w.dim[0];

    if (is(p, "dense_data_gradient")) {
        add_input(p, "dy", FV_F32, FILL_UNIFORM, y);
        add_input(p, "w", FV_F32, FILL_UNIFORM, w);
        p->terms = w.dim[0];
    } else if (is(p, "dense_weight_gradient")) {
        add_input(p, "x", FV_F32, FILL_UNIFORM, x);
        add_input(p, "dy", FV_F32, FILL_UNIFORM, y);
        p->terms = fv_shape_elements(&x) / w.dim[1];
    } else {
        add_input(p, "x", FV_F32, FILL_UNIFORM, x);
        add_input(p, "w", FV_F32, FILL_UNIFORM, w);
        p->terms = w.dim[1] + 1;
        if (is(p, "dense")) return 0;
        p->attributes.dense.activation = activation_word(p);
        if (has_word(p, "nobias")) add_absent(p, "b");
        else add_input(p, "b", FV_F32, FILL_UNIFORM, SHAPE(w.dim[0]));
    }
    return 0;
}

/* max_pool2d n h w c r s (window) stride pad ceil exclude */
int build_pool(fv_context *context, problem *p) {
    fv_pool_attributes *a = &p->attributes.pool;
    const fv_shape x = image_words(p);
    a->kernel[0] = (int32_t)whole(p, "r", 0, 2);
    a->kernel[1] = (int32_t)whole(p, "s", 0, a->kernel[0]);
    for (int axis = 0; axis < 2; axis++) a->stride[axis] = (int32_t)whole(p, "stride", axis, a->kernel[axis]);
    pad_words(p, a->pad);
    a->ceil_mode = has_word(p, "ceil");
    a->exclude_padding = has_word(p, "exclude");
    p->terms = (int64_t)a->kernel[0] * a->kernel[1];

    fv_shape y = x;
    for (int axis = 0; axis < 2; axis++)
        y.dim[1 + axis] = fv_window_count(x.dim[1 + axis], a->pad[2 * axis], a->pad[2 * axis + 1], a->kernel[axis], 1,
                                          a->stride[axis], a->ceil_mode);
    if (is(p, "max_pool2d_gradient") || is(p, "avg_pool2d_gradient")) {
        memcpy(a->shape, x.dim, sizeof a->shape);
        if (is(p, "max_pool2d_gradient") && add_derived(context, p, "index", "max_pool2d", 1)) return -1;
        add_input(p, "dy", FV_F32, FILL_UNIFORM, y);
    } else {
        const fill ties = p->smooth ? FILL_DISTINCT : FILL_STEPS;
        add_input(p, "x", FV_F32, is(p, "max_pool2d") ? ties : FILL_UNIFORM, x);
    }
    return 0;
}

/* relu x2,3 : functions of one tensor that keep its shape; softmax also takes axis, affine a and b, normalize by, mean,
 * deviation and bytes */
int build_unary(fv_context *context, problem *p) {
    (void)context;
    const bool kinked = is(p, "relu") || is(p, "abs") || is(p, "sign");
    const bool bytes = has_word(p, "bytes"), numbers = has_word(p, "ints");
    operand *x = add_input(p, "x", bytes ? FV_U8 : numbers ? FV_I32 : FV_F32, FILL_UNIFORM, shape_word(p, "x", 0));
    if (kinked) x->fill = p->smooth ? FILL_APART : FILL_STEPS;
    if (bytes) x->fill = FILL_BELOW, x->limit = 256;
    if (numbers) x->fill = FILL_INTEGERS;

    if (is(p, "softmax") || is(p, "log_softmax")) {
        p->attributes.axis.axis = (int32_t)whole(p, "axis", 0, -1);
        const int32_t axis = p->attributes.axis.axis;
        if (x->shape.rank) p->terms = x->shape.dim[axis < 0 ? axis + x->shape.rank : axis];
    } else if (is(p, "affine")) {
        p->attributes.affine = (fv_affine_attributes){ (float)number(p, "a", 0, 1), (float)number(p, "b", 0, 0) };
    } else if (is(p, "normalize")) {
        fv_normalize_attributes *a = &p->attributes.normalize;
        a->scale = (float)number(p, "by", 0, bytes ? 1 / 255.0 : 1);
        for (int c = 0; c < 4; c++) a->mean[c] = (float)number(p, "mean", c, 0);
        for (int c = 0; c < 4; c++) a->deviation[c] = (float)number(p, "deviation", c, 1);
    }
    return 0;
}

/* relu_gradient x2,3 : y as the forward operation makes it, and dy; softmax_gradient also takes axis */
int build_activation_gradient(fv_context *context, problem *p) {
    char forward[32];
    const fv_shape x = shape_word(p, "x", 0);
    snprintf(forward, sizeof forward, "%.*s", (int)(strlen(fv_op_name(p->op)) - strlen("_gradient")),
             fv_op_name(p->op));
    if (!strcmp(forward, "softmax") || !strcmp(forward, "log_softmax")) {
        p->attributes.axis.axis = (int32_t)whole(p, "axis", 0, -1);
        const int32_t axis = p->attributes.axis.axis;
        if (x.rank) p->terms = x.dim[axis < 0 ? axis + x.rank : axis];
    }
    if (add_derived(context, p, "y", forward, 0)) return -1;
    add_input(p, "dy", FV_F32, FILL_UNIFORM, x);
    return 0;
}

static void add_channels(problem *p, const char *name, fill how, int64_t channels, const char *without) {
    if (has_word(p, without)) add_absent(p, name);
    else add_input(p, name, FV_F32, how, SHAPE(channels));
}

/* batch_norm_* x4,5,3 epsilon momentum noscale nocenter; fused: an activation */
int build_batch_norm(fv_context *context, problem *p) {
    const fv_shape x = shape_word(p, "x", 0);
    if (x.rank < 1) return problem_fail(p, "batch norm needs x with at least one size");
    const int64_t channels = x.dim[x.rank - 1];
    const bool gradient = strstr(fv_op_name(p->op), "gradient"), infer = strstr(fv_op_name(p->op), "infer");
    p->attributes.norm = (fv_norm_attributes){ .epsilon = (float)number(p, "epsilon", 0, 1e-3),
                                               .momentum = (float)number(p, "momentum", 0, 0.9) };
    p->terms = fv_shape_elements(&x) / channels;
    const bool fused = strstr(fv_op_name(p->op), "activation");
    if (fused) p->attributes.norm.activation = activation_word(p);

    add_input(p, "x", FV_F32, FILL_UNIFORM, x);
    if (fused && gradient && add_derived(context, p, "y", "batch_norm_train_activation", 0)) return -1;
    if (gradient) add_input(p, "dy", FV_F32, FILL_UNIFORM, x);
    add_channels(p, "gamma", FILL_APART, channels, "noscale");
    if (!gradient) add_channels(p, "beta", FILL_UNIFORM, channels, "nocenter");
    if (gradient && !infer)
        return add_derived(context, p, "mean", "batch_norm_train", 1) ||
               add_derived(context, p, "inverse", "batch_norm_train", 2) ? -1 : 0;
    add_input(p, "mean", FV_F32, FILL_UNIFORM, SHAPE(channels));
    add_input(p, "variance", FV_F32, FILL_POSITIVE, SHAPE(channels));
    return 0;
}

/* lrn x2,3,7 size alpha beta k */
int build_lrn(fv_context *context, problem *p) {
    const fv_shape x = shape_word(p, "x", 0);
    p->attributes.lrn = (fv_lrn_attributes){ (int32_t)whole(p, "size", 0, 5), (float)number(p, "alpha", 0, 1e-4),
                                             (float)number(p, "beta", 0, 0.75), (float)number(p, "k", 0, 2) };
    p->terms = p->attributes.lrn.size;
    add_input(p, "x", FV_F32, FILL_UNIFORM, x);
    if (is(p, "lrn")) return 0;
    if (add_derived(context, p, "y", "lrn", 0)) return -1;
    add_input(p, "dy", FV_F32, FILL_UNIFORM, x);
    return 0;
}

/* add a2,3 b3 */
int build_binary(fv_context *context, problem *p) {
    (void)context;
    add_input(p, "x", FV_F32, FILL_UNIFORM, shape_word(p, "a", 0));
    add_input(p, "b", FV_F32, is(p, "div") ? FILL_APART : FILL_UNIFORM, shape_word(p, "b", 0));
    return 0;
}

/* cast x2,3 from bytes, ints or floats (the default) to_bytes, to_ints, to_floats, to_bf, to_half */
int build_cast(fv_context *context, problem *p) {
    build_unary(context, p);
    p->attributes.cast.type = has_word(p, "to_bytes") ? FV_U8 : has_word(p, "to_ints") ? FV_I32
                            : has_word(p, "to_bf") ? FV_BF16 : has_word(p, "to_half") ? FV_F16 : FV_F32;
    return 0;
}

/* broadcast x1,3 to2,3 - reshape x2,6 to3,4 - copy x2 - concat x2,3 x2,4 axis1 - slice x5,6 begin1,2 size3,4 -
 * pad x2,3 before1,0 after0,2; bytes and ints choose other types */
int build_shaping(fv_context *context, problem *p) {
    fv_attributes *a = &p->attributes;
    (void)context;
    for (int nth = 0; shape_word(p, "x", nth).rank >= 0; nth++) {
        operand *x = add_input(p, "x", FV_F32, FILL_UNIFORM, shape_word(p, "x", nth));
        if (nth) snprintf(x->name, sizeof x->name, "x%d", nth + 1);
        if (has_word(p, "bytes")) x->type = FV_U8, x->fill = FILL_BELOW, x->limit = 256;
        if (has_word(p, "ints")) x->type = FV_I32, x->fill = FILL_INTEGERS;
    }
    if (is(p, "reshape") || is(p, "broadcast")) {
        const fv_shape to = shape_word(p, "to", 0);
        a->shape.rank = to.rank;
        memcpy(a->shape.dim, to.dim, sizeof a->shape.dim);
    } else if (is(p, "concat")) {
        a->axis.axis = (int32_t)whole(p, "axis", 0, 0);
    } else if (is(p, "slice")) {
        memcpy(a->slice.begin, shape_word(p, "begin", 0).dim, sizeof a->slice.begin);
        memcpy(a->slice.size, shape_word(p, "size", 0).dim, sizeof a->slice.size);
    } else if (is(p, "pad")) {
        memcpy(a->pad.before, shape_word(p, "before", 0).dim, sizeof a->pad.before);
        memcpy(a->pad.after, shape_word(p, "after", 0).dim, sizeof a->pad.after);
    }
    return 0;
}

/* sum x2,3,4 axes0,2 keep : without axes over all of them */
int build_reduction(fv_context *context, problem *p) {
    const fv_shape x = shape_word(p, "x", 0);
    const fv_shape axes = shape_word(p, "axes", 0);
    const bool max = is(p, "max") || is(p, "max_gradient");
    for (int axis = 0; axis < x.rank; axis++)
        if (axes.rank < 0) p->attributes.reduce.axes |= 1u << axis;
    for (int i = 0; i < axes.rank; i++) p->attributes.reduce.axes |= 1u << axes.dim[i];
    p->attributes.reduce.keep_dims = has_word(p, "keep");
    if (is(p, "sum_squares") || is(p, "sum_abs")) memset(&p->attributes, 0, sizeof p->attributes);

    fv_shape y = { 0 };
    for (int axis = 0; axis < x.rank; axis++) {
        const bool reduced = axes.rank < 0 || p->attributes.reduce.axes >> axis & 1;
        if (reduced) p->terms *= x.dim[axis];
        if (!reduced || has_word(p, "keep")) y.dim[y.rank++] = reduced ? 1 : x.dim[axis];
    }
    fill how = FILL_UNIFORM;
    if (max) how = p->smooth ? FILL_DISTINCT : FILL_STEPS;
    if (is(p, "sum_abs")) how = p->smooth ? FILL_APART : FILL_STEPS;
    add_input(p, "x", FV_F32, how, x);
    if (!is(p, "max_gradient")) return 0;
    if (add_derived(context, p, "y", "max", 0)) return -1;
    add_input(p, "dy", FV_F32, FILL_UNIFORM, y);
    return 0;
}
