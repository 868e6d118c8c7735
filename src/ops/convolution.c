/* convolution.c - what convolutions mean: y[n,i,j,k] = sum over r,s,c of x[n, i stride - pad + r dilation, ..., c]
 * w[k,r,s,c], with groups of channels that do not see each other, and the two gradients, which are convolutions of
 * their own kind. */
#include "ops/family.h"
#include <math.h>

static const char x_form[] = "[batch, height, width, channels]";
static const char w_form[] = "[filters, height, width, channels / groups]";

/* Zero means one; anything below is refused. */
static int complete_attributes(fv_signature *s) {
    fv_conv_attributes *a = &s->attributes->conv;
    for (int axis = 0; axis < 2; axis++) {
        if (!a->stride[axis]) a->stride[axis] = 1;
        if (!a->dilation[axis]) a->dilation[axis] = 1;
        FV_TRY(fv_check_range(s, "stride", a->stride[axis], 1, INFINITY));
        FV_TRY(fv_check_range(s, "dilation", a->dilation[axis], 1, INFINITY));
    }
    if (!a->groups) a->groups = 1;
    for (int side = 0; side < 4; side++) FV_TRY(fv_check_range(s, "padding", a->pad[side], 0, INFINITY));
    a->flip = a->flip != 0;
    return fv_check_range(s, "groups", a->groups, 1, INFINITY);
}

/* The shape of y from those of x and w, both of rank 4. */
static int infer_y(fv_signature *s, const fv_shape *x, const fv_shape *w, int64_t y[4]) {
    FV_TRY(complete_attributes(s));
    const fv_conv_attributes *a = &s->attributes->conv;
    if (x->dim[3] % a->groups || w->dim[0] % a->groups)
        return fv_op_fail(s, FV_ERROR_SHAPE,
                          "%d groups must divide the channels of the input %s and the filters of the kernel %s",
                          a->groups, FV_TEXT(x), FV_TEXT(w));
    if (w->dim[3] != x->dim[3] / a->groups)
        return fv_op_fail(s, FV_ERROR_SHAPE, "the kernel %s reads %lld channels, but the input %s has %lld%s",
                          FV_TEXT(w), (long long)w->dim[3], FV_TEXT(x), (long long)(x->dim[3] / a->groups),
                          a->groups > 1 ? " a group" : "");
    y[0] = x->dim[0];
    y[3] = w->dim[0];
    for (int axis = 0; axis < 2; axis++) {
        y[1 + axis] = fv_window_count(x->dim[1 + axis], a->pad[2 * axis], a->pad[2 * axis + 1], w->dim[1 + axis],
                                      a->dilation[axis], a->stride[axis], false);
        if (y[1 + axis] < 1)
            return fv_op_fail(s, FV_ERROR_SHAPE,
                              "the kernel %s with dilation %d is larger than the input %s with padding %d,%d,%d,%d",
                              FV_TEXT(w), a->dilation[axis], FV_TEXT(x), a->pad[0], a->pad[1], a->pad[2], a->pad[3]);
    }
    return FV_OK;
}

static int infer_conv2d(fv_signature *s) {
    int64_t y[4];
    FV_TRY(fv_check_f32(s, FV_NAMES("input", "kernel", "bias")));
    FV_TRY(fv_check_rank(s, 0, "input", 4, x_form));
    FV_TRY(fv_check_rank(s, 1, "kernel", 4, w_form));
    FV_TRY(infer_y(s, s->input[0], s->input[1], y));
    FV_TRY(fv_set_output(s, 0, FV_F32, 4, y));
    if (s->op == FV_OP_conv2d) s->attributes->conv.activation = FV_LINEAR, s->attributes->conv.alpha = 0;
    return FV_OK;
}

/* The fused forms: a number for each channel of the output. */
static int check_bias_activation(fv_signature *s) {
    const fv_shape *bias = s->input[2];
    int64_t channels = s->output[0].dim[3];
    if (bias && (bias->rank != 1 || bias->dim[0] != channels))
        return fv_op_fail(s, FV_ERROR_SHAPE, "the bias must be [%lld] to fit the kernel %s, not %s",
                          (long long)channels, FV_TEXT(s->input[1]), FV_TEXT(bias));
    return fv_check_activation(s, s->attributes->conv.activation, s->attributes->conv.alpha);
}

static int infer_bias_activation(fv_signature *s) {
    FV_TRY(infer_conv2d(s));
    return check_bias_activation(s);
}

/* The gradients know one of x and w by its shape alone, which stands in the attributes. */
static int infer_gradient(fv_signature *s) {
    const bool data = s->op != FV_OP_conv2d_weight_gradient;
    fv_shape result, y;
    int64_t sizes[4];
    FV_TRY(fv_check_f32(s, data ? FV_NAMES("output's gradient", "kernel", "bias")
                                : FV_NAMES("input", "output's gradient")));
    FV_TRY(fv_check_rank(s, 0, data ? "output's gradient" : "input", 4, x_form));
    FV_TRY(fv_check_rank(s, 1, data ? "kernel" : "output's gradient", 4, data ? w_form : x_form));
    FV_TRY(fv_set_output(s, 0, FV_F32, 4, s->attributes->conv.shape));
    result = s->output[0];
    for (int i = 0; i < 4; i++)
        if (result.dim[i] < 1)
            return fv_op_fail(s, FV_ERROR_SHAPE, "the result cannot have the shape %s", FV_TEXT(&result));
    FV_TRY(infer_y(s, data ? &result : s->input[0], data ? s->input[1] : &result, sizes));
    FV_TRY(fv_set_output(s, 0, FV_F32, 4, sizes));
    y = s->output[0];
    s->output[0] = result;
    if (s->op != FV_OP_conv2d_transpose_bias_activation)
        s->attributes->conv.activation = FV_LINEAR, s->attributes->conv.alpha = 0;
    return fv_check_shape(s, data ? 0 : 1, "output's gradient", &y, "the output");
}

static int infer_transpose_bias_activation(fv_signature *s) {
    FV_TRY(infer_gradient(s));
    return check_bias_activation(s);
}

/* Each of the three is linear in both of its inputs, and its gradients are the other two: with x, w and y standing for
 * themselves or for their gradients,  y = conv2d(x, w)   x = data_gradient(y, w)   w = weight_gradient(x, y). */
static fv_value append_conv(fv_tape *tape, fv_op op, fv_attributes a, fv_value left, fv_value right,
                            const fv_shape *result) {
    for (int i = 0; i < 4; i++) a.conv.shape[i] = result ? result->dim[i] : 0;
    return FV_APPLY(tape, op, &a, left, right);
}

/* The weight's first: x is dead after it, and dx may take its memory. */
FV_GRADIENT(conv2d_gradient) {
    const fv_value x = fv_tape_input(tape, operation, 0), w = fv_tape_input(tape, operation, 1);
    const fv_shape x_shape = *fv_shape_of(tape, x), w_shape = *fv_shape_of(tape, w);
    const fv_attributes a = fv_attributes_of(tape, operation);
    const fv_value dy = output_gradient[0];
    if (wanted[1]) input_gradient[1] = append_conv(tape, FV_OP_conv2d_weight_gradient, a, x, dy, &w_shape);
    if (wanted[0]) input_gradient[0] = append_conv(tape, FV_OP_conv2d_data_gradient, a, dy, w, &x_shape);
    return fv_tape_status(tape);
}

/* Of y, w -> x: what a transposed convolution trains by. */
FV_GRADIENT(data_gradient_gradient) {
    const fv_value y = fv_tape_input(tape, operation, 0), w = fv_tape_input(tape, operation, 1);
    const fv_shape w_shape = *fv_shape_of(tape, w);
    const fv_attributes a = fv_attributes_of(tape, operation);
    const fv_value dx = output_gradient[0];
    if (wanted[1]) input_gradient[1] = append_conv(tape, FV_OP_conv2d_weight_gradient, a, dx, y, &w_shape);
    if (wanted[0]) input_gradient[0] = append_conv(tape, FV_OP_conv2d, a, dx, w, NULL);
    return fv_tape_status(tape);
}

/* Of x, y -> w. */
FV_GRADIENT(weight_gradient_gradient) {
    const fv_value x = fv_tape_input(tape, operation, 0), y = fv_tape_input(tape, operation, 1);
    const fv_shape x_shape = *fv_shape_of(tape, x);
    const fv_attributes a = fv_attributes_of(tape, operation);
    const fv_value dw = output_gradient[0];
    if (wanted[1]) input_gradient[1] = append_conv(tape, FV_OP_conv2d, a, x, dw, NULL);
    if (wanted[0]) input_gradient[0] = append_conv(tape, FV_OP_conv2d_data_gradient, a, y, dw, &x_shape);
    return fv_tape_status(tape);
}

static int expand(fv_tape *tape, const fv_attributes *attributes, fv_op op, const fv_value *input, fv_value *output) {
    fv_attributes a = *attributes;
    a.conv.activation = FV_LINEAR, a.conv.alpha = 0;
    fv_value y = FV_APPLY(tape, op, &a, input[0], input[1]);
    if (input[2].id) y = FV_APPLY(tape, FV_OP_add, NULL, y, input[2]);
    output[0] = fv_append_activation(tape, attributes->conv.activation, attributes->conv.alpha, y);
    return fv_tape_status(tape);
}
FV_EXPAND(expand_bias_activation) { return expand(tape, attributes, FV_OP_conv2d, input, output); }
FV_EXPAND(expand_transpose_bias_activation) {
    return expand(tape, attributes, FV_OP_conv2d_data_gradient, input, output);
}

/* Each output element is a sum over the kernel; the gradients do the same multiplications in another order. */
static void cost_conv2d(const fv_signature *s, fv_cost *cost) {
    const bool weight = s->op == FV_OP_conv2d_weight_gradient, fused = fv_op_table[s->op]->flags & FV_FUSED;
    const bool data = s->op == FV_OP_conv2d_data_gradient || s->op == FV_OP_conv2d_transpose_bias_activation;
    const fv_shape *w = weight ? &s->output[0] : s->input[1];
    const fv_shape *y = data || weight ? s->input[weight] : &s->output[0];
    double macs = fv_cost_elements(y) * fv_cost_elements(w) / (double)w->dim[0];
    *cost = (fv_cost){ .flops = 2 * macs, .bytes = fv_cost_bytes(s), .macs = weight ? 0 : macs };
    if (fused)
        cost->flops += fv_cost_elements(&s->output[0]) *
                       ((s->input[2] != NULL) + (s->attributes->conv.activation != FV_LINEAR));
}

FV_DESC(conv2d, conv, .infer = infer_conv2d, .gradient = conv2d_gradient, .cost = cost_conv2d);
FV_DESC(conv2d_data_gradient, conv, .infer = infer_gradient, .gradient = data_gradient_gradient, .cost = cost_conv2d);
FV_DESC(conv2d_weight_gradient, conv, .infer = infer_gradient, .gradient = weight_gradient_gradient,
        .cost = cost_conv2d);
FV_DESC(conv2d_bias_activation, conv, .infer = infer_bias_activation, .expand = expand_bias_activation,
        .cost = cost_conv2d, .optional = 1 << 2);
FV_DESC(conv2d_transpose_bias_activation, conv, .infer = infer_transpose_bias_activation,
        .expand = expand_transpose_bias_activation, .cost = cost_conv2d, .optional = 1 << 2);
