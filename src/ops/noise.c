/* noise.c - what layers draw at random in training: dropout, alpha dropout, Gaussian noise and Gaussian dropout. The
 * numbers are a function of the seed, the stream of the layer, the step and the element, all but the last from the
 * control block and the attributes: a replayed or resumed step draws what it would have drawn. */
#include "ops/family.h"
#include <math.h>

static int infer_noise(fv_signature *s) {
    FV_TRY(fv_check_f32(s, FV_NAMES("input")));
    FV_TRY(fv_check_control(s, 1));
    const float rate = s->attributes->random.rate;
    if (s->op == FV_OP_gaussian_noise) FV_TRY(fv_check_range(s, "deviation", rate, 0, (double)__FLT_MAX__));
    else if (!(rate >= 0 && rate < 1))
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "rate is %g, it must be at least 0 and below 1", (double)rate);
    return fv_set_output_like(s, 0, FV_F32, s->input[0]);
}

static int noise_of_gradient(fv_tape *tape, int32_t operation, fv_op op, const fv_value *output_gradient,
                             const bool *wanted, fv_value *input_gradient) {
    if (!wanted[0]) return FV_OK;
    const fv_attributes a = fv_attributes_of(tape, operation);
    input_gradient[0] = FV_APPLY(tape, op, &a, output_gradient[0], fv_tape_input(tape, operation, 1));
    return fv_tape_status(tape);
}

/* The same factors on the gradient: equal attributes and the same version of the control block draw the same numbers. */
FV_GRADIENT(factor_gradient) {
    return noise_of_gradient(tape, operation, tape->operation[operation].op, output_gradient, wanted, input_gradient);
}
FV_GRADIENT(alpha_gradient) {
    return noise_of_gradient(tape, operation, FV_OP_alpha_dropout_gradient, output_gradient, wanted, input_gradient);
}
FV_GRADIENT(noise_gradient) {
    if (wanted[0]) input_gradient[0] = output_gradient[0];
    return FV_OK;
}

static void cost_noise(const fv_signature *s, fv_cost *cost) { /* Philox: ten rounds for four elements */
    *cost = (fv_cost){ .flops = 30 * fv_cost_elements(&s->output[0]), .bytes = fv_cost_bytes(s) };
}

FV_DESC(dropout, random, .infer = infer_noise, .gradient = factor_gradient);
FV_DESC(alpha_dropout, random, .infer = infer_noise, .gradient = alpha_gradient, .cost = cost_noise);
FV_DESC(alpha_dropout_gradient, random, .infer = infer_noise, .gradient = factor_gradient, .cost = cost_noise);
FV_DESC(gaussian_noise, random, .infer = infer_noise, .gradient = noise_gradient, .cost = cost_noise);
FV_DESC(gaussian_dropout, random, .infer = infer_noise, .gradient = factor_gradient, .cost = cost_noise);
