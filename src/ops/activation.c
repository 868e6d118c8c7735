/* activation.c - what activations mean. Every gradient uses the output y, so that the value before the activation
 * can die and fusion with the operation before is legal. */
#include "ops/family.h"

/* Each activation and its gradient (y, dy -> dx). */
static const fv_op gradient_of[FV_OP_COUNT] = {
    [FV_OP_relu] = FV_OP_relu_gradient,
    [FV_OP_tanh] = FV_OP_tanh_gradient,
    [FV_OP_sigmoid] = FV_OP_sigmoid_gradient,
    [FV_OP_softmax] = FV_OP_softmax_gradient,
    [FV_OP_log_softmax] = FV_OP_log_softmax_gradient,
};
/* The elementwise ones by the number that layers and fused operations carry. */
static const fv_op elementwise[] = { [FV_RELU] = FV_OP_relu, [FV_TANH] = FV_OP_tanh, [FV_SIGMOID] = FV_OP_sigmoid };

static int infer_axis(fv_signature *s) {
    FV_TRY(fv_infer_same(s));
    return fv_check_axis(s, &s->attributes->axis.axis, s->input[0]);
}

FV_GRADIENT(activation_gradient) {
    if (!wanted[0]) return FV_OK;
    const fv_attributes a = fv_attributes_of(tape, operation);
    input_gradient[0] = FV_APPLY(tape, gradient_of[tape->operation[operation].op], &a,
                                 fv_tape_output(tape, operation, 0), output_gradient[0]);
    return fv_tape_status(tape);
}

fv_value fv_append_activation(fv_tape *tape, int32_t activation, fv_value x) {
    return activation == FV_LINEAR ? x : FV_APPLY(tape, elementwise[activation], NULL, x);
}

fv_value fv_append_activation_gradient(fv_tape *tape, int32_t activation, fv_value y, fv_value gradient) {
    return activation == FV_LINEAR ? gradient : FV_APPLY(tape, gradient_of[elementwise[activation]], NULL, y, gradient);
}

/* Maximum, difference, exponential, sum, quotient. */
static void cost_softmax(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ .flops = 5 * fv_cost_elements(&s->output[0]), .bytes = fv_cost_bytes(s) };
}

FV_DESC(relu, none, .infer = fv_infer_same, .gradient = activation_gradient, .may_share = 1);
FV_DESC(relu_gradient, none, .infer = fv_infer_same, .may_share = 3);
FV_DESC(tanh, none, .infer = fv_infer_same, .gradient = activation_gradient, .may_share = 1);
FV_DESC(tanh_gradient, none, .infer = fv_infer_same, .may_share = 3);
FV_DESC(sigmoid, none, .infer = fv_infer_same, .gradient = activation_gradient, .may_share = 1);
FV_DESC(sigmoid_gradient, none, .infer = fv_infer_same, .may_share = 3);
FV_DESC(softmax, axis, .infer = infer_axis, .gradient = activation_gradient, .cost = cost_softmax);
FV_DESC(softmax_gradient, axis, .infer = infer_axis, .cost = cost_softmax);
FV_DESC(log_softmax, axis, .infer = infer_axis, .gradient = activation_gradient, .cost = cost_softmax);
FV_DESC(log_softmax_gradient, axis, .infer = infer_axis, .cost = cost_softmax);
