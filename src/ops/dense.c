/* dense.c - what dense layers mean: y = x w' on the last axis, every other axis counting as rows, and the gradients
 * dx = dy w and dw = dy' x. */
#include "ops/family.h"

/* w is [units, inputs]; the last axis of input 0 must be the given one of these. */
static int check_inner(fv_signature *s, const char *name, int32_t axis) {
    FV_TRY(fv_check_rank(s, 1, "kernel", 2, "[units, inputs]"));
    FV_TRY(fv_check_rank_least(s, 0, name, 1));
    if (fv_last(s->input[0]) == s->input[1]->dim[axis]) return FV_OK;
    return fv_op_fail(s, FV_ERROR_SHAPE, "the kernel %s has %lld %s, but the %s %s has %lld values in its last axis",
                      FV_TEXT(s->input[1]), (long long)s->input[1]->dim[axis], axis ? "inputs" : "units", name,
                      FV_TEXT(s->input[0]), (long long)fv_last(s->input[0]));
}

/* Input 0 with another last axis. */
static int set_last(fv_signature *s, int64_t last) {
    fv_shape shape = *s->input[0];
    shape.dim[shape.rank - 1] = last;
    return fv_set_output_like(s, 0, FV_F32, &shape);
}

static int infer_dense(fv_signature *s) {
    FV_TRY(fv_check_f32(s, FV_NAMES("input", "kernel", "bias")));
    FV_TRY(check_inner(s, "input", 1));
    return set_last(s, s->input[1]->dim[0]);
}

static int infer_data_gradient(fv_signature *s) {
    FV_TRY(fv_check_f32(s, FV_NAMES("output's gradient", "kernel")));
    FV_TRY(check_inner(s, "output's gradient", 0));
    return set_last(s, s->input[1]->dim[1]);
}

static int infer_weight_gradient(fv_signature *s) {
    FV_TRY(fv_check_f32(s, FV_NAMES("input", "output's gradient")));
    FV_TRY(fv_check_rank_least(s, 0, "input", 1));
    FV_TRY(fv_check_rank_least(s, 1, "output's gradient", 1));
    fv_shape y = *s->input[0];
    y.dim[y.rank - 1] = fv_last(s->input[1]);
    FV_TRY(fv_check_shape(s, 1, "output's gradient", &y, "the output"));
    return fv_set_output(s, 0, FV_F32, 2, (int64_t[]){ fv_last(s->input[1]), fv_last(s->input[0]) });
}

static int infer_bias_activation(fv_signature *s) {
    FV_TRY(infer_dense(s));
    const fv_shape *bias = s->input[2], *w = s->input[1];
    if (bias && (bias->rank != 1 || bias->dim[0] != w->dim[0]))
        return fv_op_fail(s, FV_ERROR_SHAPE, "the bias must be [%lld] to fit the kernel %s, not %s",
                          (long long)w->dim[0], FV_TEXT(w), FV_TEXT(bias));
    return fv_check_activation(s, s->attributes->dense.activation, s->attributes->dense.alpha);
}

/* The weight's first: x is dead after it, and dx may take its memory. */
FV_GRADIENT(dense_gradient) {
    const fv_value x = fv_tape_input(tape, operation, 0), w = fv_tape_input(tape, operation, 1);
    const fv_value dy = output_gradient[0];
    if (wanted[1]) input_gradient[1] = FV_APPLY(tape, FV_OP_dense_weight_gradient, NULL, x, dy);
    if (wanted[0]) input_gradient[0] = FV_APPLY(tape, FV_OP_dense_data_gradient, NULL, dy, w);
    return fv_tape_status(tape);
}

/* Of dy, w -> dx, and of x, dy -> dw: linear in both, as the product itself, and made of the same three. */
FV_GRADIENT(data_gradient_gradient) {
    const fv_value dy = fv_tape_input(tape, operation, 0), w = fv_tape_input(tape, operation, 1);
    const fv_value g = output_gradient[0];
    if (wanted[1]) input_gradient[1] = FV_APPLY(tape, FV_OP_dense_weight_gradient, NULL, g, dy);
    if (wanted[0]) input_gradient[0] = FV_APPLY(tape, FV_OP_dense, NULL, g, w);
    return fv_tape_status(tape);
}

FV_GRADIENT(weight_gradient_gradient) {
    const fv_value x = fv_tape_input(tape, operation, 0), dy = fv_tape_input(tape, operation, 1);
    const fv_value g = output_gradient[0];
    if (wanted[1]) input_gradient[1] = FV_APPLY(tape, FV_OP_dense, NULL, x, g);
    if (wanted[0]) input_gradient[0] = FV_APPLY(tape, FV_OP_dense_data_gradient, NULL, dy, g);
    return fv_tape_status(tape);
}

FV_EXPAND(expand_bias_activation) {
    fv_value y = FV_APPLY(tape, FV_OP_dense, NULL, input[0], input[1]);
    if (input[2].id) y = FV_APPLY(tape, FV_OP_add, NULL, y, input[2]);
    output[0] = fv_append_activation(tape, attributes->dense.activation, attributes->dense.alpha, y);
    return fv_tape_status(tape);
}

static void cost_dense(const fv_signature *s, fv_cost *cost) {
    const bool weight = s->op == FV_OP_dense_weight_gradient;
    const fv_shape *w = weight ? &s->output[0] : s->input[1];
    double macs = fv_cost_elements(s->input[0]) / (double)fv_last(s->input[0]) * fv_cost_elements(w);
    *cost = (fv_cost){ .flops = 2 * macs, .bytes = fv_cost_bytes(s) };
    if (s->op == FV_OP_dense || s->op == FV_OP_dense_bias_activation) cost->macs = macs;
    if (s->op == FV_OP_dense_bias_activation)
        cost->flops +=
            fv_cost_elements(&s->output[0]) * ((s->input[2] != NULL) + (s->attributes->dense.activation != FV_LINEAR));
}

FV_DESC(dense, none, .infer = infer_dense, .gradient = dense_gradient, .cost = cost_dense);
FV_DESC(dense_data_gradient, none, .infer = infer_data_gradient, .gradient = data_gradient_gradient,
        .cost = cost_dense);
FV_DESC(dense_weight_gradient, none, .infer = infer_weight_gradient, .gradient = weight_gradient_gradient,
        .cost = cost_dense);
FV_DESC(dense_bias_activation, dense, .infer = infer_bias_activation, .expand = expand_bias_activation,
        .cost = cost_dense, .optional = 1 << 2);
