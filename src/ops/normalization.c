/* normalization.c - what batch normalisation (Ioffe & Szegedy 2015) and local response normalisation (Krizhevsky
 * 2012) mean. Batch statistics run over every axis but the last; the running ones are values that the operation
 * makes anew. */
#include "ops/family.h"
#include <math.h>

static int check_attributes(fv_signature *s) {
    FV_TRY(fv_check_range(s, "epsilon", s->attributes->norm.epsilon, 0, INFINITY));
    FV_TRY(fv_check_range(s, "momentum", s->attributes->norm.momentum, 0, 1));
    return fv_check_activation(s, s->attributes->norm.activation, s->attributes->norm.alpha);
}

/* The inputs from first on hold one number a channel. */
static int check_channels(fv_signature *s, int32_t first, const char *const *names) {
    FV_TRY(fv_check_f32(s, names));
    FV_TRY(fv_check_rank_least(s, 0, "input", 2));
    for (int32_t i = first; i < s->input_count; i++) FV_TRY(fv_check_channels(s, i, names[i], 0));
    return check_attributes(s);
}

static int infer_forward(fv_signature *s) {
    const bool train = s->op == FV_OP_batch_norm_train || s->op == FV_OP_batch_norm_train_activation;
    FV_TRY(check_channels(s, 1, FV_NAMES("input", "gamma", "beta", "mean", "variance")));
    if (s->op == FV_OP_batch_norm_train || s->op == FV_OP_batch_norm_infer)
        s->attributes->norm.activation = FV_LINEAR, s->attributes->norm.alpha = 0;
    int64_t channels = fv_last(s->input[0]);
    for (int32_t o = 1; train && o < 5; o++) FV_TRY(fv_set_output(s, o, FV_F32, 1, &channels));
    return fv_set_output_like(s, 0, FV_F32, s->input[0]);
}

/* x, (y,) dy, gamma, two statistics -> dx, dgamma, dbeta */
static int infer_gradient(fv_signature *s) {
    const bool fused = s->op == FV_OP_batch_norm_activation_gradient;
    const int32_t dy = fused ? 2 : 1;
    FV_TRY(check_channels(s, dy + 1,
                          fused ? FV_NAMES("input", "output", "output's gradient", "gamma", "mean", "deviation")
                                : FV_NAMES("input", "output's gradient", "gamma", "mean", "deviation")));
    for (int32_t i = 1; i <= dy; i++)
        FV_TRY(fv_check_shape(s, i, i == dy ? "output's gradient" : "output", s->input[0], "the input"));
    if (!fused) s->attributes->norm.activation = FV_LINEAR, s->attributes->norm.alpha = 0;
    const fv_activation_row *activation = &fv_activations[s->attributes->norm.activation];
    if (!activation->from_output)
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "the gradient of %s cannot be had from its output", activation->name);
    int64_t channels = fv_last(s->input[0]);
    FV_TRY(fv_set_output(s, 1, FV_F32, 1, &channels));
    FV_TRY(fv_set_output(s, 2, FV_F32, 1, &channels));
    return fv_set_output_like(s, 0, FV_F32, s->input[0]);
}

FV_GRADIENT(batch_norm_gradient) {
    const bool train = tape->operation[operation].op == FV_OP_batch_norm_train;
    if (!output_gradient[0].id || !(wanted[0] || wanted[1] || wanted[2])) return FV_OK;
    const fv_attributes a = fv_attributes_of(tape, operation);
    const fv_value x = fv_tape_input(tape, operation, 0), gamma = fv_tape_input(tape, operation, 1);
    /* In training the statistics of this batch are outputs; otherwise the given ones were used. */
    const fv_value mean = train ? fv_tape_output(tape, operation, 1) : fv_tape_input(tape, operation, 3);
    const fv_value spread = train ? fv_tape_output(tape, operation, 2) : fv_tape_input(tape, operation, 4);
    const fv_value inputs[] = { x, output_gradient[0], gamma, mean, spread };
    int32_t made =
        fv_tape_append(tape, train ? FV_OP_batch_norm_gradient : FV_OP_batch_norm_infer_gradient, &a, inputs, 5);
    if (made < 0) return made;
    for (int32_t i = 0; i < 3; i++)
        if (wanted[i]) input_gradient[i] = fv_tape_output(tape, made, i);
    return fv_tape_status(tape);
}

FV_EXPAND(expand_train_activation) {
    fv_attributes a = *attributes;
    a.norm.activation = FV_LINEAR, a.norm.alpha = 0;
    int32_t made = fv_tape_append(tape, FV_OP_batch_norm_train, &a, input, input_count);
    if (made < 0) return made;
    for (int32_t o = 0; o < 5; o++) output[o] = fv_tape_output(tape, made, o);
    output[0] = fv_append_activation(tape, attributes->norm.activation, attributes->norm.alpha, output[0]);
    return fv_tape_status(tape);
}

FV_EXPAND(expand_infer_activation) {
    fv_attributes a = *attributes;
    a.norm.activation = FV_LINEAR, a.norm.alpha = 0;
    fv_value y = fv_tape_apply(tape, FV_OP_batch_norm_infer, &a, input, input_count);
    output[0] = fv_append_activation(tape, attributes->norm.activation, attributes->norm.alpha, y);
    return fv_tape_status(tape);
}

FV_EXPAND(expand_activation_gradient) {
    fv_attributes a = *attributes;
    a.norm.activation = FV_LINEAR, a.norm.alpha = 0;
    fv_value dz = fv_append_activation_gradient(tape, attributes->norm.activation, attributes->norm.alpha, input[1],
                                                input[2]);
    const fv_value inputs[] = { input[0], dz, input[3], input[4], input[5] };
    int32_t made = fv_tape_append(tape, FV_OP_batch_norm_gradient, &a, inputs, 5);
    if (made < 0) return made;
    for (int32_t o = 0; o < 3; o++) output[o] = fv_tape_output(tape, made, o);
    return fv_tape_status(tape);
}

/* Two passes over x for the statistics, one for the result; the gradient sums twice as well. */
static void cost_batch_norm(const fv_signature *s, fv_cost *cost) {
    const bool infer = s->op == FV_OP_batch_norm_infer || s->op == FV_OP_batch_norm_infer_activation;
    *cost = (fv_cost){ .flops = (infer ? 2 : 8) * fv_cost_elements(s->input[0]), .bytes = fv_cost_bytes(s) };
}

/* ---- Local response normalisation -------------------------------------------------------------------------------- */

static int infer_lrn(fv_signature *s) {
    FV_TRY(fv_infer_same(s));
    FV_TRY(fv_check_rank_least(s, 0, "input", 1));
    FV_TRY(fv_check_range(s, "size", s->attributes->lrn.size, 1, INFINITY));
    FV_TRY(fv_check_range(s, "alpha", s->attributes->lrn.alpha, -INFINITY, INFINITY));
    FV_TRY(fv_check_range(s, "beta", s->attributes->lrn.beta, -INFINITY, INFINITY));
    return fv_check_range(s, "k", s->attributes->lrn.k, -INFINITY, INFINITY);
}

FV_GRADIENT(lrn_gradient) {
    if (!wanted[0]) return FV_OK;
    const fv_attributes a = fv_attributes_of(tape, operation);
    input_gradient[0] = FV_APPLY(tape, FV_OP_lrn_gradient, &a, fv_tape_input(tape, operation, 0),
                                 fv_tape_output(tape, operation, 0), output_gradient[0]);
    return fv_tape_status(tape);
}

static void cost_lrn(const fv_signature *s, fv_cost *cost) {
    int64_t window = s->attributes->lrn.size < fv_last(s->input[0]) ? s->attributes->lrn.size : fv_last(s->input[0]);
    double each = s->op == FV_OP_lrn ? 2.0 * (double)window + 2 : 5.0 * (double)window + 4;
    *cost = (fv_cost){ .flops = each * fv_cost_elements(&s->output[0]), .bytes = fv_cost_bytes(s) };
}

enum { GAMMA_BETA = 1 << 1 | 1 << 2 };
FV_DESC(batch_norm_train, norm, .infer = infer_forward, .gradient = batch_norm_gradient, .cost = cost_batch_norm,
        .optional = GAMMA_BETA);
FV_DESC(batch_norm_gradient, norm, .infer = infer_gradient, .cost = cost_batch_norm, .optional = 1 << 2);
FV_DESC(batch_norm_infer, norm, .infer = infer_forward, .gradient = batch_norm_gradient, .cost = cost_batch_norm,
        .optional = GAMMA_BETA);
FV_DESC(batch_norm_infer_gradient, norm, .infer = infer_gradient, .cost = cost_batch_norm, .optional = 1 << 2);
FV_DESC(batch_norm_train_activation, norm, .infer = infer_forward, .expand = expand_train_activation,
        .cost = cost_batch_norm, .optional = GAMMA_BETA);
FV_DESC(batch_norm_infer_activation, norm, .infer = infer_forward, .expand = expand_infer_activation,
        .cost = cost_batch_norm, .optional = GAMMA_BETA);
FV_DESC(batch_norm_activation_gradient, norm, .infer = infer_gradient, .expand = expand_activation_gradient,
        .cost = cost_batch_norm, .optional = 1 << 3);
FV_DESC(lrn, lrn, .infer = infer_lrn, .gradient = lrn_gradient, .cost = cost_lrn);
FV_DESC(lrn_gradient, lrn, .infer = infer_lrn, .cost = cost_lrn);
