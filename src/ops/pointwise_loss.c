/* pointwise_loss.c - losses that are a sum over elements of a function of prediction and target: one value a row of the
 * first axis. They differ in that function only, which is the business of the kernels. Where the function is symmetric
 * the target gets a gradient too; elsewhere it counts as data. */
#include "ops/family.h"
#include <math.h>

static int infer_pointwise(fv_signature *s) {
    fv_pointwise_attributes *a = &s->attributes->pointwise;
    const bool kl = s->op == FV_OP_kl_divergence || s->op == FV_OP_kl_divergence_gradient; /* of whole distributions */
    if (a->delta == 0) a->delta = 1;
    if (a->weight == 0) a->weight = 1;
    FV_TRY(fv_check_f32(s, FV_NAMES("prediction", "target")));
    FV_TRY(fv_check_rank_least(s, 0, "prediction", kl ? 2 : 1));
    FV_TRY(fv_check_shape(s, 1, "target", s->input[0], "the prediction"));
    FV_TRY(fv_check_range(s, "delta", a->delta, 0, INFINITY));
    FV_TRY(fv_check_range(s, "the weight of positive targets", a->weight, 0, INFINITY));
    FV_TRY(fv_check_range(s, "alpha", a->alpha, 0, 1));
    FV_TRY(fv_check_range(s, "gamma", a->gamma, 0, INFINITY));
    return fv_set_output(s, 0, FV_F32, 1, s->input[0]->dim);
}

static int infer_pointwise_gradient(fv_signature *s) {
    FV_TRY(infer_pointwise(s));
    const fv_shape rows = { 1, { s->input[0]->dim[0] } };
    FV_TRY(fv_check_type(s, 2, "loss's gradient", FV_F32));
    FV_TRY(fv_check_shape(s, 2, "loss's gradient", &rows, "the loss"));
    return fv_set_output_like(s, 0, FV_F32, s->input[0]);
}

static fv_value slope(fv_tape *tape, int32_t operation, bool exchanged, fv_value dloss) {
    const fv_attributes a = fv_attributes_of(tape, operation);
    return FV_APPLY(tape, (fv_op)(tape->operation[operation].op + 1), &a, fv_tape_input(tape, operation, exchanged),
                    fv_tape_input(tape, operation, !exchanged), dloss);
}

FV_GRADIENT(pointwise_gradient) {
    if (wanted[0]) input_gradient[0] = slope(tape, operation, false, output_gradient[0]);
    return fv_tape_status(tape);
}

FV_GRADIENT(symmetric_gradient) {
    for (int i = 0; i < 2; i++)
        if (wanted[i]) input_gradient[i] = slope(tape, operation, i == 1, output_gradient[0]);
    return fv_tape_status(tape);
}

/* A few operations for each element. */
static void cost_pointwise(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ .flops = 5 * fv_cost_elements(s->input[0]), .bytes = fv_cost_bytes(s) };
}

/* A loss and, next in the list of operations, its gradient. */
#define POINTWISE(name, rule)                                                                                          \
    _Static_assert((int)FV_OP_##name##_gradient == (int)FV_OP_##name + 1, "the gradient follows its loss");            \
    FV_DESC(name, pointwise, .infer = infer_pointwise, .gradient = rule, .cost = cost_pointwise);                      \
    FV_DESC(name##_gradient, pointwise, .infer = infer_pointwise_gradient, .cost = cost_pointwise)

POINTWISE(mean_squared_error, symmetric_gradient);
POINTWISE(mean_absolute_error, symmetric_gradient);
POINTWISE(huber, symmetric_gradient);
POINTWISE(log_cosh, symmetric_gradient);
POINTWISE(binary_cross_entropy_logits, pointwise_gradient);
POINTWISE(binary_cross_entropy, pointwise_gradient);
POINTWISE(sigmoid_focal, pointwise_gradient);
POINTWISE(hinge, pointwise_gradient);
POINTWISE(squared_hinge, pointwise_gradient);
POINTWISE(kl_divergence, pointwise_gradient);
POINTWISE(poisson, pointwise_gradient);
FV_DESC(binary_accuracy, pointwise, .infer = infer_pointwise, .cost = cost_pointwise);
