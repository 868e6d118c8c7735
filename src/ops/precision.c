/* precision.c - which operands of an operation may have 16 bits. Where an operation is not listed all of its numbers are f32: losses,
 * what takes exponentials and logarithms, optimisers, everything before the first layer. In a 16-bit program the products lower
 * their factors; the others take what they are given. Statistics, scales and gradients of weights stay f32 beside them. */
#include "ops/family.h"

/* Bit i: input i, output i. */
#define LOWERS(name, in, out)  [FV_OP_##name] = { .inputs = (in), .outputs = (out), .lowers = true }
#define FOLLOWS(name, in, out) [FV_OP_##name] = { .inputs = (in), .outputs = (out) }
#define FUNCTION(name)         FOLLOWS(name, 1, 1), FOLLOWS(name##_gradient, 3, 1)
#define PAIR(name)             FOLLOWS(name, 3, 1)
#define MOVES(name)            FOLLOWS(name, 1, 1)

const fv_precision_rule fv_precision_rules[FV_OP_COUNT] = {
    LOWERS(conv2d, 3, 1),
    LOWERS(conv2d_data_gradient, 3, 1),
    LOWERS(conv2d_weight_gradient, 3, 0),
    LOWERS(conv2d_bias_activation, 3, 1),
    LOWERS(conv2d_transpose_bias_activation, 3, 1),
    LOWERS(local_conv2d, 3, 1),
    LOWERS(local_conv2d_data_gradient, 3, 1),
    LOWERS(local_conv2d_weight_gradient, 3, 0),
    LOWERS(dense, 3, 1),
    LOWERS(dense_data_gradient, 3, 1),
    LOWERS(dense_weight_gradient, 3, 0),
    LOWERS(dense_bias_activation, 3, 1),
    LOWERS(matmul, 3, 1),

    FOLLOWS(max_pool2d, 1, 1),
    FOLLOWS(max_pool2d_gradient, 2, 1),
    FOLLOWS(max_unpool2d_gradient, 2, 1),
    FOLLOWS(avg_pool2d, 1, 1),
    FOLLOWS(avg_pool2d_gradient, 1, 1),

    FUNCTION(relu),
    FUNCTION(tanh),
    FUNCTION(sigmoid),
    FUNCTION(leaky_relu),
    FUNCTION(elu),
    FUNCTION(selu),
    FUNCTION(relu6),
    FUNCTION(hard_tanh),
    FUNCTION(hard_sigmoid),
    FUNCTION(softplus),
    FUNCTION(softsign),
    FUNCTION(gelu),
    FUNCTION(gelu_tanh),
    FUNCTION(silu),
    FUNCTION(mish),
    FUNCTION(hard_swish),
    FUNCTION(clamp),
    FOLLOWS(prelu, 3, 1),
    FOLLOWS(prelu_gradient, 7, 3),

    FOLLOWS(batch_norm_train, 1, 1),
    FOLLOWS(batch_norm_gradient, 3, 1),
    FOLLOWS(batch_norm_infer, 1, 1),
    FOLLOWS(batch_norm_infer_gradient, 3, 1),
    FOLLOWS(batch_norm_train_activation, 1, 1),
    FOLLOWS(batch_norm_infer_activation, 1, 1),
    FOLLOWS(batch_norm_activation_gradient, 7, 1),
    FOLLOWS(lrn, 1, 1),
    FOLLOWS(lrn_gradient, 7, 1),
    FOLLOWS(layer_norm, 1, 1),
    FOLLOWS(layer_norm_gradient, 3, 1),
    FOLLOWS(group_norm, 1, 1),
    FOLLOWS(group_norm_gradient, 3, 1),
    FOLLOWS(rms_norm, 1, 1),
    FOLLOWS(rms_norm_gradient, 3, 1),
    FOLLOWS(unit_norm, 1, 1),
    FOLLOWS(unit_norm_gradient, 3, 1),

    PAIR(add),
    PAIR(sub),
    PAIR(mul),
    PAIR(div),
    PAIR(maximum),
    PAIR(minimum),
    PAIR(equal),
    PAIR(not_equal),
    PAIR(less),
    PAIR(less_equal),
    FOLLOWS(where, 7, 1),
    FOLLOWS(maximum_gradient, 7, 1),
    MOVES(affine),
    MOVES(abs),
    MOVES(sign),

    MOVES(copy),
    MOVES(reshape),
    MOVES(broadcast),
    FOLLOWS(concat, UINT32_MAX, 1),
    MOVES(slice),
    MOVES(strided_slice),
    MOVES(strided_slice_gradient),
    MOVES(transpose),
    MOVES(pad),
    MOVES(pad_gradient),
    MOVES(resize),
    MOVES(resize_gradient),
    MOVES(gather),

    FOLLOWS(sum, 1, 0),
    FOLLOWS(mean, 1, 0),
    FOLLOWS(max, 1, 1),
    FOLLOWS(min, 1, 1),
    FOLLOWS(max_gradient, 7, 1),
    FOLLOWS(argmax, 1, 0),
    FOLLOWS(argmin, 1, 0),

    MOVES(dropout),
    MOVES(alpha_dropout),
    MOVES(alpha_dropout_gradient),
    MOVES(gaussian_noise),
    MOVES(gaussian_dropout),
};

bool fv_precision_may(fv_op op, int32_t input) {
    const uint32_t inputs = fv_precision_rules[op].inputs;
    return inputs == UINT32_MAX || (input < 32 && inputs >> input & 1);
}

fv_type fv_precision_of(const fv_signature *s) {
    for (int32_t i = 0; i < s->input_count; i++)
        if (s->input[i] && fv_type_half(s->input_type[i]) && fv_precision_may(s->op, i)) return s->input_type[i];
    return FV_F32;
}

int fv_precision_infer(fv_signature *s, fv_type type) {
    const fv_precision_rule *rule = &fv_precision_rules[s->op];
    for (int32_t i = 0; i < s->input_count; i++)
        if (s->input[i] && fv_precision_may(s->op, i) && s->input_type[i] != type &&
            (s->input_type[i] == FV_F32 || fv_type_half(s->input_type[i])))
            return fv_op_fail(s, FV_ERROR_ARGUMENT, "input %d is %s where another is %s: cast one of them", i,
                              fv_type_name(s->input_type[i]), fv_type_name(type));
    for (int32_t o = 0; o < fv_op_table[s->op]->outputs; o++)
        if (rule->outputs >> o & 1 && s->output_type[o] == FV_F32) s->output_type[o] = type;
    return FV_OK;
}
