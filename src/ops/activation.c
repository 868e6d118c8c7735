/* activation.c - what activations and other functions of one number mean. A gradient uses the output y where the
 * mathematics allows it, so that the value before the activation can die and fusion with the operation before is
 * legal; functions that are not monotonous need the input. */
#include "ops/family.h"
#include <float.h>

const fv_activation_row fv_activations[FV_ACTIVATION_COUNT] = {
    [FV_LINEAR] = { "linear", FV_OP_NONE, FV_OP_NONE, true, true, 0 },
    [FV_RELU] = { "relu", FV_OP_relu, FV_OP_relu_gradient, true, true, 0 },
    [FV_TANH] = { "tanh", FV_OP_tanh, FV_OP_tanh_gradient, true, true, 0 },
    [FV_SIGMOID] = { "sigmoid", FV_OP_sigmoid, FV_OP_sigmoid_gradient, true, true, 0 },
    [FV_SOFTMAX] = { "softmax", FV_OP_softmax, FV_OP_softmax_gradient, false, true, 0 },
    [FV_LOG_SOFTMAX] = { "log_softmax", FV_OP_log_softmax, FV_OP_log_softmax_gradient, false, true, 0 },
    [FV_LEAKY_RELU] = { "leaky_relu", FV_OP_leaky_relu, FV_OP_leaky_relu_gradient, true, true, 0.2f },
    [FV_ELU] = { "elu", FV_OP_elu, FV_OP_elu_gradient, true, true, 1 },
    [FV_SELU] = { "selu", FV_OP_selu, FV_OP_selu_gradient, true, true, 0 },
    [FV_RELU6] = { "relu6", FV_OP_relu6, FV_OP_relu6_gradient, true, true, 0 },
    [FV_HARD_TANH] = { "hard_tanh", FV_OP_hard_tanh, FV_OP_hard_tanh_gradient, true, true, 0 },
    [FV_HARD_SIGMOID] = { "hard_sigmoid", FV_OP_hard_sigmoid, FV_OP_hard_sigmoid_gradient, true, true, 0 },
    [FV_SOFTPLUS] = { "softplus", FV_OP_softplus, FV_OP_softplus_gradient, true, true, 0 },
    [FV_SOFTSIGN] = { "softsign", FV_OP_softsign, FV_OP_softsign_gradient, true, true, 0 },
    [FV_GELU] = { "gelu", FV_OP_gelu, FV_OP_gelu_gradient, true, false, 0 },
    [FV_GELU_TANH] = { "gelu_tanh", FV_OP_gelu_tanh, FV_OP_gelu_tanh_gradient, true, false, 0 },
    [FV_SILU] = { "silu", FV_OP_silu, FV_OP_silu_gradient, true, false, 0 },
    [FV_MISH] = { "mish", FV_OP_mish, FV_OP_mish_gradient, true, false, 0 },
    [FV_HARD_SWISH] = { "hard_silu", FV_OP_hard_swish, FV_OP_hard_swish_gradient, true, false, 0 },
    [FV_EXPONENTIAL] = { "exponential", FV_OP_exp, FV_OP_mul, true, true, 0 }, /* exp' = y */
};

/* Functions that are no activation: their gradients, and whether of the output (y, dy -> dx) or of the input. */
static const struct {
    fv_op op, gradient;
    bool from_output;
} functions[] = {
    { FV_OP_sqrt, FV_OP_sqrt_gradient, true },
    { FV_OP_rsqrt, FV_OP_rsqrt_gradient, true },
    { FV_OP_square, FV_OP_square_gradient, false },
    { FV_OP_clamp, FV_OP_clamp_gradient, false },
};

static fv_op gradient_of(fv_op op, bool *from_output) {
    for (int i = 0; i < FV_ACTIVATION_COUNT; i++)
        if (fv_activations[i].op == op) return *from_output = fv_activations[i].from_output, fv_activations[i].gradient;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (functions[i].op == op) return *from_output = functions[i].from_output, functions[i].gradient;
    return FV_OP_NONE;
}

FV_GRADIENT(function_gradient) {
    if (!wanted[0]) return FV_OK;
    const fv_attributes a = fv_attributes_of(tape, operation);
    bool from_output = false;
    const fv_op gradient = gradient_of(tape->operation[operation].op, &from_output);
    const fv_value v = from_output ? fv_tape_output(tape, operation, 0) : fv_tape_input(tape, operation, 0);
    input_gradient[0] = FV_APPLY(tape, gradient, &a, v, output_gradient[0]);
    return fv_tape_status(tape);
}

/* dx = dy / x */
FV_GRADIENT(log_gradient) {
    if (wanted[0])
        input_gradient[0] = FV_APPLY(tape, FV_OP_div, NULL, output_gradient[0], fv_tape_input(tape, operation, 0));
    return fv_tape_status(tape);
}

fv_value fv_append_activation(fv_tape *tape, int32_t activation, float alpha, fv_value x) {
    const fv_attributes a = { .activation = { alpha } };
    return activation == FV_LINEAR ? x : FV_APPLY(tape, fv_activations[activation].op, &a, x);
}

fv_value fv_append_activation_gradient(fv_tape *tape, int32_t activation, float alpha, fv_value y, fv_value gradient) {
    const fv_attributes a = { .activation = { alpha } };
    return activation == FV_LINEAR ? gradient : FV_APPLY(tape, fv_activations[activation].gradient, &a, y, gradient);
}

/* ---- Shapes ------------------------------------------------------------------------------------------------------ */

static int infer_axis(fv_signature *s) {
    FV_TRY(fv_infer_same(s));
    return fv_check_axis(s, &s->attributes->axis.axis, s->input[0]);
}

/* A negative parameter would turn the function over, and its output no longer tell the sign of its input. */
static int infer_alpha(fv_signature *s) {
    FV_TRY(fv_infer_same(s));
    return fv_check_range(s, "alpha", s->attributes->activation.alpha, 0, FLT_MAX);
}

static int infer_clamp(fv_signature *s) {
    FV_TRY(fv_infer_same(s));
    const fv_clamp_attributes *a = &s->attributes->clamp;
    if (a->low <= a->high) return FV_OK;
    return fv_op_fail(s, FV_ERROR_ARGUMENT, "the bounds %g and %g are not in ascending order", (double)a->low,
                      (double)a->high);
}

/* The slope, or a gradient of the shape of x, repeats to x; x itself is never repeated. */
static int check_repeats(fv_signature *s, int32_t input, const char *name) {
    const fv_shape *x = s->input[0], *shape = s->input[input];
    bool fits = shape->rank <= x->rank;
    for (int32_t i = 1; fits && i <= shape->rank; i++)
        fits = shape->dim[shape->rank - i] == 1 || shape->dim[shape->rank - i] == x->dim[x->rank - i];
    return fits ? FV_OK
                : fv_op_fail(s, FV_ERROR_SHAPE, "the %s %s cannot be repeated to the shape of the input %s", name,
                             FV_TEXT(shape), FV_TEXT(x));
}

static int infer_prelu(fv_signature *s) {
    FV_TRY(fv_check_f32(s, FV_NAMES("input", "slope", "gradient")));
    FV_TRY(check_repeats(s, 1, "slope"));
    if (s->op == FV_OP_prelu) return fv_set_output_like(s, 0, FV_F32, s->input[0]);
    FV_TRY(fv_check_shape(s, 2, "gradient", s->input[0], "the input"));
    FV_TRY(fv_set_output_like(s, 0, FV_F32, s->input[0]));
    return fv_set_output_like(s, 1, FV_F32, s->input[0]);
}

FV_GRADIENT(prelu_gradient) {
    const fv_value x = fv_tape_input(tape, operation, 0), slope = fv_tape_input(tape, operation, 1);
    const fv_shape shape = *fv_shape_of(tape, slope);
    const fv_value operand[] = { x, slope, output_gradient[0] };
    const int32_t g = fv_tape_append(tape, FV_OP_prelu_gradient, NULL, operand, 3);
    if (g < 0) return fv_tape_status(tape);
    if (wanted[1]) input_gradient[1] = fv_append_reduced(tape, fv_tape_output(tape, g, 1), &shape);
    if (wanted[0]) input_gradient[0] = fv_tape_output(tape, g, 0);
    return fv_tape_status(tape);
}

/* ---- Cost -------------------------------------------------------------------------------------------------------- */

/* Maximum, difference, exponential, sum, quotient. */
static void cost_softmax(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ .flops = 5 * fv_cost_elements(&s->output[0]), .bytes = fv_cost_bytes(s) };
}

/* ---- Descriptions ------------------------------------------------------------------------------------------------ */

#define FUNCTION(NAME, ATTRIBUTES, INFER, GRADIENT)                                                                    \
    FV_DESC(NAME, ATTRIBUTES, .infer = INFER, .gradient = GRADIENT, .may_share = 1)
#define SLOPE(NAME, ATTRIBUTES, INFER) FV_DESC(NAME, ATTRIBUTES, .infer = INFER, .may_share = 3)
#define PAIR(NAME)                                                                                                     \
    FUNCTION(NAME, none, fv_infer_same, function_gradient);                                                            \
    SLOPE(NAME##_gradient, none, fv_infer_same)
#define PAIR_WITH(NAME, ATTRIBUTES, INFER)                                                                             \
    FUNCTION(NAME, ATTRIBUTES, INFER, function_gradient);                                                              \
    SLOPE(NAME##_gradient, ATTRIBUTES, INFER)

PAIR(relu);
PAIR(tanh);
PAIR(sigmoid);
PAIR_WITH(leaky_relu, activation, infer_alpha);
PAIR_WITH(elu, activation, infer_alpha);
PAIR(selu);
PAIR(relu6);
PAIR(hard_tanh);
PAIR(hard_sigmoid);
PAIR(softplus);
PAIR(softsign);
PAIR(gelu);
PAIR(gelu_tanh);
PAIR(silu);
PAIR(mish);
PAIR(hard_swish);
FV_DESC(prelu, none, .infer = infer_prelu, .gradient = prelu_gradient, .may_share = 1);
FV_DESC(prelu_gradient, none, .infer = infer_prelu, .may_share = 5);
FV_DESC(softmax, axis, .infer = infer_axis, .gradient = function_gradient, .cost = cost_softmax);
FV_DESC(softmax_gradient, axis, .infer = infer_axis, .cost = cost_softmax);
FV_DESC(log_softmax, axis, .infer = infer_axis, .gradient = function_gradient, .cost = cost_softmax);
FV_DESC(log_softmax_gradient, axis, .infer = infer_axis, .cost = cost_softmax);

FUNCTION(exp, none, fv_infer_same, function_gradient);
FUNCTION(log, none, fv_infer_same, log_gradient);
PAIR(sqrt);
PAIR(rsqrt);
PAIR(square);
PAIR_WITH(clamp, clamp, infer_clamp);
