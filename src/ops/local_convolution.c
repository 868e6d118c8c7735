/* local_convolution.c - what unshared (locally connected) convolution means: every position has filters of its own,
 * y[n,i,j,k] = sum over r,s,c of x[n, i stride - pad + r dilation, ..., c] w[i,j,r,s,c,k]. Filters lie as Keras has them,
 * the filter last: a position is then a product of matrices as it stands. */
#include "ops/family.h"
#include <math.h>

static const char x_form[] = "[batch, height, width, channels]";
static const char w_form[] = "[rows, columns, kernel height, kernel width, channels, filters]";

/* Zero means one; anything below is refused. */
static int complete_attributes(fv_signature *s) {
    fv_local_attributes *a = &s->attributes->local;
    for (int axis = 0; axis < 2; axis++) {
        if (!a->stride[axis]) a->stride[axis] = 1;
        if (!a->dilation[axis]) a->dilation[axis] = 1;
        FV_TRY(fv_check_range(s, "stride", a->stride[axis], 1, INFINITY));
        FV_TRY(fv_check_range(s, "dilation", a->dilation[axis], 1, INFINITY));
        FV_TRY(fv_check_range(s, "kernel", a->kernel[axis], 1, INFINITY));
    }
    for (int side = 0; side < 4; side++) FV_TRY(fv_check_range(s, "padding", a->pad[side], 0, INFINITY));
    return FV_OK;
}

/* Positions of the window over x. */
static int count_positions(fv_signature *s, const fv_shape *x, int64_t positions[2]) {
    const fv_local_attributes *a = &s->attributes->local;
    for (int axis = 0; axis < 2; axis++) {
        positions[axis] = fv_window_count(x->dim[1 + axis], a->pad[2 * axis], a->pad[2 * axis + 1], a->kernel[axis],
                                          a->dilation[axis], a->stride[axis], false);
        if (positions[axis] < 1)
            return fv_op_fail(s, FV_ERROR_SHAPE,
                              "the kernel %dx%d with dilation %d is larger than the input %s with padding %d,%d,%d,%d",
                              a->kernel[0], a->kernel[1], a->dilation[axis], FV_TEXT(x), a->pad[0], a->pad[1],
                              a->pad[2], a->pad[3]);
    }
    return FV_OK;
}

/* The kernel of input 1 fits the images x; y is the shape of the result. */
static int fit_kernel(fv_signature *s, const fv_shape *x, int64_t y[4]) {
    const fv_shape *w = s->input[1];
    FV_TRY(fv_check_rank(s, 1, "kernel", 6, w_form));
    for (int axis = 0; axis < 2; axis++)
        s->attributes->local.kernel[axis] = w->dim[2 + axis] > INT32_MAX ? INT32_MAX : (int32_t)w->dim[2 + axis];
    FV_TRY(complete_attributes(s));
    FV_TRY(count_positions(s, x, y + 1));
    y[0] = x->dim[0];
    y[3] = w->dim[5];
    if (w->dim[4] != x->dim[3])
        return fv_op_fail(s, FV_ERROR_SHAPE, "the kernel %s reads %lld channels, but the input %s has %lld", FV_TEXT(w),
                          (long long)w->dim[4], FV_TEXT(x), (long long)x->dim[3]);
    if (w->dim[0] == y[1] && w->dim[1] == y[2]) return FV_OK;
    return fv_op_fail(s, FV_ERROR_SHAPE, "the kernel %s is for %lldx%lld positions, but the input %s gives %lldx%lld",
                      FV_TEXT(w), (long long)w->dim[0], (long long)w->dim[1], FV_TEXT(x), (long long)y[1],
                      (long long)y[2]);
}

static int infer_forward(fv_signature *s) {
    int64_t y[4];
    FV_TRY(fv_check_f32(s, FV_NAMES("input", "kernel")));
    FV_TRY(fv_check_rank(s, 0, "input", 4, x_form));
    FV_TRY(fit_kernel(s, s->input[0], y));
    return fv_set_output(s, 0, FV_F32, 4, y);
}

/* dy, w -> dx, whose shape stands in the attributes. */
static int infer_data_gradient(fv_signature *s) {
    int64_t sizes[4];
    FV_TRY(fv_check_f32(s, FV_NAMES("output's gradient", "kernel")));
    FV_TRY(fv_check_rank(s, 0, "output's gradient", 4, x_form));
    FV_TRY(fv_set_output(s, 0, FV_F32, 4, s->attributes->local.shape));
    const fv_shape result = s->output[0];
    for (int i = 0; i < 4; i++)
        if (result.dim[i] < 1)
            return fv_op_fail(s, FV_ERROR_SHAPE, "the result cannot have the shape %s", FV_TEXT(&result));
    FV_TRY(fit_kernel(s, &result, sizes));
    const fv_shape y = { 4, { sizes[0], sizes[1], sizes[2], sizes[3] } };
    return fv_check_shape(s, 0, "output's gradient", &y, "the output");
}

/* x, dy -> dw; the attributes say the kernel's size. */
static int infer_weight_gradient(fv_signature *s) {
    const fv_shape *x = s->input[0], *dy = s->input[1];
    int64_t positions[2];
    FV_TRY(fv_check_f32(s, FV_NAMES("input", "output's gradient")));
    FV_TRY(fv_check_rank(s, 0, "input", 4, x_form));
    FV_TRY(fv_check_rank(s, 1, "output's gradient", 4, x_form));
    FV_TRY(complete_attributes(s));
    FV_TRY(count_positions(s, x, positions));
    const fv_shape y = { 4, { x->dim[0], positions[0], positions[1], dy->dim[3] } };
    FV_TRY(fv_check_shape(s, 1, "output's gradient", &y, "the output"));
    const fv_local_attributes *a = &s->attributes->local;
    return fv_set_output(s, 0, FV_F32, 6,
                         (int64_t[]){ y.dim[1], y.dim[2], a->kernel[0], a->kernel[1], x->dim[3], y.dim[3] });
}

/* As with conv2d, each of the three is linear in both inputs, and its gradients are the other two. */
static fv_value append_local(fv_tape *tape, fv_op op, fv_attributes a, fv_value left, fv_value right,
                             const fv_shape *result) {
    for (int i = 0; i < 4; i++) a.local.shape[i] = result ? result->dim[i] : 0;
    return FV_APPLY(tape, op, &a, left, right);
}

FV_GRADIENT(forward_gradient) {
    const fv_value x = fv_tape_input(tape, operation, 0), w = fv_tape_input(tape, operation, 1);
    const fv_shape shape = *fv_shape_of(tape, x);
    const fv_attributes a = fv_attributes_of(tape, operation);
    const fv_value dy = output_gradient[0];
    if (wanted[1]) input_gradient[1] = append_local(tape, FV_OP_local_conv2d_weight_gradient, a, x, dy, NULL);
    if (wanted[0]) input_gradient[0] = append_local(tape, FV_OP_local_conv2d_data_gradient, a, dy, w, &shape);
    return fv_tape_status(tape);
}

FV_GRADIENT(data_gradient_gradient) {
    const fv_value y = fv_tape_input(tape, operation, 0), w = fv_tape_input(tape, operation, 1);
    const fv_attributes a = fv_attributes_of(tape, operation);
    const fv_value dx = output_gradient[0];
    if (wanted[1]) input_gradient[1] = append_local(tape, FV_OP_local_conv2d_weight_gradient, a, dx, y, NULL);
    if (wanted[0]) input_gradient[0] = append_local(tape, FV_OP_local_conv2d, a, dx, w, NULL);
    return fv_tape_status(tape);
}

FV_GRADIENT(weight_gradient_gradient) {
    const fv_value x = fv_tape_input(tape, operation, 0), y = fv_tape_input(tape, operation, 1);
    const fv_shape shape = *fv_shape_of(tape, x);
    const fv_attributes a = fv_attributes_of(tape, operation);
    const fv_value dw = output_gradient[0];
    if (wanted[1]) input_gradient[1] = append_local(tape, FV_OP_local_conv2d, a, x, dw, NULL);
    if (wanted[0]) input_gradient[0] = append_local(tape, FV_OP_local_conv2d_data_gradient, a, y, dw, &shape);
    return fv_tape_status(tape);
}

/* Each weight meets each image once. */
static void cost_local(const fv_signature *s, fv_cost *cost) {
    const fv_shape *w = s->op == FV_OP_local_conv2d_weight_gradient ? &s->output[0] : s->input[1];
    const double macs = fv_cost_elements(w) * (double)s->input[0]->dim[0];
    *cost = (fv_cost){ .flops = 2 * macs, .bytes = fv_cost_bytes(s), .macs = s->op == FV_OP_local_conv2d ? macs : 0 };
}

FV_DESC(local_conv2d, local, .infer = infer_forward, .gradient = forward_gradient, .cost = cost_local);
FV_DESC(local_conv2d_data_gradient, local, .infer = infer_data_gradient, .gradient = data_gradient_gradient,
        .cost = cost_local);
FV_DESC(local_conv2d_weight_gradient, local, .infer = infer_weight_gradient, .gradient = weight_gradient_gradient,
        .cost = cost_local);
