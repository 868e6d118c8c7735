/* pooling.c - what pooling means: the maximum or the mean of each window, channel by channel. The maximum also
 * gives its place within the window (row * width + column) or within the image, by which its gradient finds the way
 * back. */
#include "ops/family.h"
#include <math.h>

static const char form[] = "[batch, height, width, channels]";

static bool adaptive(const fv_pool_attributes *a) { return a->output[0] || a->output[1]; }

/* Windows that the sizes of input and output decide. */
static int complete_adaptive(fv_signature *s) {
    fv_pool_attributes *a = &s->attributes->pool;
    for (int axis = 0; axis < 2; axis++) {
        FV_TRY(fv_check_range(s, "output size", a->output[axis], 1, INFINITY));
        if (a->kernel[axis] || a->stride[axis] || a->pad[2 * axis] || a->pad[2 * axis + 1])
            return fv_op_fail(s, FV_ERROR_ARGUMENT,
                              "a pool to %d x %d has windows of its own: kernel, stride and padding must be 0",
                              a->output[0], a->output[1]);
    }
    a->ceil_mode = a->exclude_padding = 0;
    a->flat = s->op != FV_OP_avg_pool2d && s->op != FV_OP_avg_pool2d_gradient;
    return FV_OK;
}

/* stride 0 is the kernel's size. A padding of a whole window would leave windows without a single input cell. */
static int complete_attributes(fv_signature *s) {
    fv_pool_attributes *a = &s->attributes->pool;
    if (adaptive(a)) return complete_adaptive(s);
    for (int axis = 0; axis < 2; axis++) {
        FV_TRY(fv_check_range(s, "window size", a->kernel[axis], 1, INFINITY));
        if (!a->stride[axis]) a->stride[axis] = a->kernel[axis];
        FV_TRY(fv_check_range(s, "stride", a->stride[axis], 1, INFINITY));
        for (int side = 2 * axis; side < 2 * axis + 2; side++)
            if (a->pad[side] < 0 || a->pad[side] >= a->kernel[axis])
                return fv_op_fail(s, FV_ERROR_ARGUMENT,
                                  "padding %d must be at least 0 and smaller than the window %d x %d", a->pad[side],
                                  a->kernel[0], a->kernel[1]);
    }
    if ((int64_t)a->kernel[0] * a->kernel[1] > INT32_MAX)
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "the window %d x %d is too large", a->kernel[0], a->kernel[1]);
    a->ceil_mode = a->ceil_mode != 0;
    a->exclude_padding = a->exclude_padding != 0;
    a->flat = a->flat != 0;
    return FV_OK;
}

static int infer_y(fv_signature *s, const fv_shape *x, fv_shape *y) {
    FV_TRY(complete_attributes(s));
    const fv_pool_attributes *a = &s->attributes->pool;
    *y = *x;
    for (int axis = 0; axis < 2; axis++) {
        y->dim[1 + axis] = adaptive(a) ? a->output[axis]
                                       : fv_window_count(x->dim[1 + axis], a->pad[2 * axis], a->pad[2 * axis + 1],
                                                         a->kernel[axis], 1, a->stride[axis], a->ceil_mode);
        if (y->dim[1 + axis] < 1)
            return fv_op_fail(s, FV_ERROR_SHAPE,
                              "the window %d x %d is larger than the input %s with padding %d,%d,%d,%d", a->kernel[0],
                              a->kernel[1], FV_TEXT(x), a->pad[0], a->pad[1], a->pad[2], a->pad[3]);
    }
    if (a->flat && x->dim[1] > INT32_MAX / x->dim[2])
        return fv_op_fail(s, FV_ERROR_SHAPE, "the cells of an image of %s are too many for an index of 32 bits",
                          FV_TEXT(x));
    return FV_OK;
}

/* A byte is enough for the place within most windows. */
static fv_type index_type(const fv_pool_attributes *a) {
    return a->flat || (int64_t)a->kernel[0] * a->kernel[1] > 255 ? FV_I32 : FV_U8;
}

static int check_index(fv_signature *s, const fv_shape *y) {
    FV_TRY(fv_check_type(s, 0, "index of the maxima", index_type(&s->attributes->pool)));
    return fv_check_shape(s, 0, "index of the maxima", y, "the output");
}

static int infer_pool(fv_signature *s) {
    fv_shape y;
    FV_TRY(fv_check_f32(s, FV_NAMES("input")));
    FV_TRY(fv_check_rank(s, 0, "input", 4, form));
    FV_TRY(infer_y(s, s->input[0], &y));
    if (s->op == FV_OP_max_pool2d) FV_TRY(fv_set_output_like(s, 1, index_type(&s->attributes->pool), &y));
    return fv_set_output_like(s, 0, FV_F32, &y);
}

static int infer_gradient(fv_signature *s) {
    const int32_t dy = s->op == FV_OP_max_pool2d_gradient ? 1 : 0;
    fv_shape x, y;
    FV_TRY(fv_check_type(s, dy, "output's gradient", FV_F32));
    FV_TRY(fv_check_rank(s, dy, "output's gradient", 4, form));
    FV_TRY(fv_set_output(s, 0, FV_F32, 4, s->attributes->pool.shape));
    x = s->output[0];
    for (int i = 0; i < 4; i++)
        if (x.dim[i] < 1) return fv_op_fail(s, FV_ERROR_SHAPE, "the input cannot have the shape %s", FV_TEXT(&x));
    FV_TRY(infer_y(s, &x, &y));
    FV_TRY(fv_check_shape(s, dy, "output's gradient", &y, "the output"));
    return dy ? check_index(s, &y) : FV_OK;
}

static int infer_unpool_gradient(fv_signature *s) {
    fv_shape y;
    FV_TRY(fv_check_type(s, 1, "gradient", FV_F32));
    FV_TRY(fv_check_rank(s, 1, "gradient", 4, form));
    FV_TRY(infer_y(s, s->input[1], &y));
    FV_TRY(check_index(s, &y));
    return fv_set_output_like(s, 0, FV_F32, &y);
}

/* A pool and its gradient are each other's transpose, so that derivatives of any order are at hand. */
static fv_attributes attributes_at(const fv_tape *tape, int32_t operation, const fv_shape *x) {
    fv_attributes a = fv_attributes_of(tape, operation);
    for (int i = 0; i < 4; i++) a.pool.shape[i] = x ? x->dim[i] : 0;
    return a;
}

FV_GRADIENT(pool_gradient) {
    const bool max = tape->operation[operation].op == FV_OP_max_pool2d;
    if (!wanted[0] || !output_gradient[0].id) return FV_OK;
    const fv_attributes a = attributes_at(tape, operation, fv_shape_of(tape, fv_tape_input(tape, operation, 0)));
    input_gradient[0] =
        max ? FV_APPLY(tape, FV_OP_max_pool2d_gradient, &a, fv_tape_output(tape, operation, 1), output_gradient[0])
            : FV_APPLY(tape, FV_OP_avg_pool2d_gradient, &a, output_gradient[0]);
    return fv_tape_status(tape);
}

FV_GRADIENT(unpool_gradient) {
    const fv_op op = tape->operation[operation].op;
    const bool spreads = op == FV_OP_max_pool2d_gradient;
    if (op == FV_OP_avg_pool2d_gradient ? !wanted[0] : !wanted[1]) return FV_OK;
    const fv_attributes a =
        attributes_at(tape, operation,
                      op == FV_OP_max_unpool2d_gradient ? fv_shape_of(tape, fv_tape_input(tape, operation, 1)) : NULL);
    if (op == FV_OP_avg_pool2d_gradient)
        input_gradient[0] = FV_APPLY(tape, FV_OP_avg_pool2d, &a, output_gradient[0]);
    else
        input_gradient[1] = FV_APPLY(tape, spreads ? FV_OP_max_unpool2d_gradient : FV_OP_max_pool2d_gradient, &a,
                                     fv_tape_input(tape, operation, 0), output_gradient[0]);
    return fv_tape_status(tape);
}

/* Every cell of a window counts; adaptive windows cover the image about once. */
static void cost_windows(const fv_signature *s, fv_cost *cost) {
    const fv_pool_attributes *a = &s->attributes->pool;
    const bool gradient = s->op == FV_OP_avg_pool2d_gradient;
    const fv_shape *x = gradient                           ? &s->output[0]
                        : s->op == FV_OP_max_unpool2d_gradient ? s->input[1]
                                                           : s->input[0];
    const double pooled = fv_cost_elements(gradient ? s->input[0] : &s->output[0]);
    cost->flops = adaptive(a) ? fv_cost_elements(x) : pooled * a->kernel[0] * a->kernel[1];
    cost->bytes = fv_cost_bytes(s);
}

static void cost_max_gradient(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ .flops = fv_cost_elements(s->input[1]), .bytes = fv_cost_bytes(s) };
}

FV_DESC(max_pool2d, pool, .infer = infer_pool, .gradient = pool_gradient, .cost = cost_windows);
FV_DESC(max_pool2d_gradient, pool, .infer = infer_gradient, .gradient = unpool_gradient, .cost = cost_max_gradient);
FV_DESC(max_unpool2d_gradient, pool, .infer = infer_unpool_gradient, .gradient = unpool_gradient,
        .cost = cost_windows);
FV_DESC(avg_pool2d, pool, .infer = infer_pool, .gradient = pool_gradient, .cost = cost_windows);
FV_DESC(avg_pool2d_gradient, pool, .infer = infer_gradient, .gradient = unpool_gradient, .cost = cost_windows);
