/* pooling.c - what pooling means: the maximum or the mean of each window, channel by channel. The maximum also
 * gives its place within the window (row * width + column), by which its gradient finds the way back. */
#include "ops/family.h"
#include <math.h>

static const char form[] = "[batch, height, width, channels]";

/* stride 0 is the kernel's size. A padding of a whole window would leave windows without a single input cell. */
static int complete_attributes(fv_signature *s) {
    fv_pool_attributes *a = &s->attributes->pool;
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
    a->ceil_mode = a->ceil_mode != 0;
    a->exclude_padding = a->exclude_padding != 0;
    return FV_OK;
}

static int infer_y(fv_signature *s, const fv_shape *x, fv_shape *y) {
    FV_TRY(complete_attributes(s));
    const fv_pool_attributes *a = &s->attributes->pool;
    *y = *x;
    for (int axis = 0; axis < 2; axis++) {
        y->dim[1 + axis] = fv_window_count(x->dim[1 + axis], a->pad[2 * axis], a->pad[2 * axis + 1], a->kernel[axis], 1,
                                           a->stride[axis], a->ceil_mode);
        if (y->dim[1 + axis] < 1)
            return fv_op_fail(s, FV_ERROR_SHAPE,
                              "the window %d x %d is larger than the input %s with padding %d,%d,%d,%d", a->kernel[0],
                              a->kernel[1], FV_TEXT(x), a->pad[0], a->pad[1], a->pad[2], a->pad[3]);
    }
    return FV_OK;
}

/* A byte is enough for the place within most windows. */
static fv_type index_type(const fv_pool_attributes *a) {
    return (int64_t)a->kernel[0] * a->kernel[1] > 255 ? FV_I32 : FV_U8;
}

static int infer_pool(fv_signature *s) {
    fv_shape y;
    FV_TRY(fv_check_f32(s, FV_NAMES("input")));
    FV_TRY(fv_check_rank(s, 0, "input", 4, form));
    FV_TRY(infer_y(s, s->input[0], &y));
    if ((int64_t)s->attributes->pool.kernel[0] * s->attributes->pool.kernel[1] > INT32_MAX)
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "the window %d x %d is too large", s->attributes->pool.kernel[0],
                          s->attributes->pool.kernel[1]);
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
    if (!dy) return FV_OK;
    FV_TRY(fv_check_type(s, 0, "index of the maxima", index_type(&s->attributes->pool)));
    return fv_check_shape(s, 0, "index of the maxima", &y, "the output");
}

FV_GRADIENT(pool_gradient) {
    const bool max = tape->operation[operation].op == FV_OP_max_pool2d;
    if (!wanted[0] || !output_gradient[0].id) return FV_OK;
    fv_attributes a = fv_attributes_of(tape, operation);
    for (int i = 0; i < 4; i++) a.pool.shape[i] = fv_shape_of(tape, fv_tape_input(tape, operation, 0))->dim[i];
    input_gradient[0] =
        max ? FV_APPLY(tape, FV_OP_max_pool2d_gradient, &a, fv_tape_output(tape, operation, 1), output_gradient[0])
            : FV_APPLY(tape, FV_OP_avg_pool2d_gradient, &a, output_gradient[0]);
    return fv_tape_status(tape);
}

static void cost_pool(const fv_signature *s, fv_cost *cost) {
    const fv_pool_attributes *a = &s->attributes->pool;
    *cost =
        (fv_cost){ .flops = fv_cost_elements(&s->output[0]) * a->kernel[0] * a->kernel[1], .bytes = fv_cost_bytes(s) };
}

static void cost_max_gradient(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ .flops = fv_cost_elements(s->input[1]), .bytes = fv_cost_bytes(s) };
}

static void cost_avg_gradient(const fv_signature *s, fv_cost *cost) {
    const fv_pool_attributes *a = &s->attributes->pool;
    *cost =
        (fv_cost){ .flops = fv_cost_elements(s->input[0]) * a->kernel[0] * a->kernel[1], .bytes = fv_cost_bytes(s) };
}

FV_DESC(max_pool2d, pool, .infer = infer_pool, .gradient = pool_gradient, .cost = cost_pool);
FV_DESC(max_pool2d_gradient, pool, .infer = infer_gradient, .cost = cost_max_gradient);
FV_DESC(avg_pool2d, pool, .infer = infer_pool, .gradient = pool_gradient, .cost = cost_pool);
FV_DESC(avg_pool2d_gradient, pool, .infer = infer_gradient, .cost = cost_avg_gradient);
