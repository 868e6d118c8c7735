/* options.c - the public functions that add layers: each copies the options that the caller knows into a zeroed struct
 * of today's size (an older program's is smaller) and hands them to fv_net_add. */
#include "net/net.h"

/* One body for all layers with one input: the types differ, the steps do not. The pointers are cleared from what is
 * kept. */
#define ADD_ONE(KIND, MEMBER)                                                                                          \
    fv_layer_options all = {0};                                                                                        \
    if (!net || fv_options_read(net->object.context, __func__, &all.MEMBER, sizeof all.MEMBER, given))                 \
        return (fv_node){0};                                                                                           \
    const fv_node input = all.MEMBER.input;                                                                            \
    const char *name = all.MEMBER.name;                                                                                \
    all.MEMBER.input = (fv_node){0};                                                                                   \
    all.MEMBER.name = NULL;                                                                                            \
    return fv_net_add(net, KIND, &all, &input, 1, name)

#define ADD_MANY(KIND, MEMBER)                                                                                         \
    fv_layer_options all = {0};                                                                                        \
    if (!net || fv_options_read(net->object.context, __func__, &all.MEMBER, sizeof all.MEMBER, given))                 \
        return (fv_node){0};                                                                                           \
    const fv_nodes inputs = all.MEMBER.inputs;                                                                         \
    const char *name = all.MEMBER.name;                                                                                \
    all.MEMBER.inputs = (fv_nodes){0};                                                                                 \
    all.MEMBER.name = NULL;                                                                                            \
    return fv_net_add(net, KIND, &all, inputs.node, inputs.node ? inputs.count : 0, name)

fv_node fv_input_with(fv_net *net, const fv_input_options *given) {
    fv_layer_options all = {0};
    if (!net || fv_options_read(net->object.context, __func__, &all.input, sizeof all.input, given))
        return (fv_node){ 0 };
    const char *name = all.input.name;
    all.input.name = NULL;
    return fv_net_add(net, FV_LAYER_INPUT, &all, NULL, 0, name);
}

fv_node fv_conv2d_with(fv_net *net, const fv_conv2d_options *given) { ADD_ONE(FV_LAYER_CONV2D, conv2d); }
fv_node fv_dense_with(fv_net *net, const fv_dense_options *given) { ADD_ONE(FV_LAYER_DENSE, dense); }
fv_node fv_max_pool2d_with(fv_net *net, const fv_pool2d_options *given) { ADD_ONE(FV_LAYER_MAX_POOL2D, pool); }
fv_node fv_avg_pool2d_with(fv_net *net, const fv_pool2d_options *given) { ADD_ONE(FV_LAYER_AVG_POOL2D, pool); }
fv_node fv_global_avg_pool_with(fv_net *net, const fv_global_pool_options *given) {
    ADD_ONE(FV_LAYER_GLOBAL_AVG_POOL, global_pool);
}
fv_node fv_global_max_pool_with(fv_net *net, const fv_global_pool_options *given) {
    ADD_ONE(FV_LAYER_GLOBAL_MAX_POOL, global_pool);
}
fv_node fv_batch_norm_with(fv_net *net, const fv_batch_norm_options *given) {
    ADD_ONE(FV_LAYER_BATCH_NORM, batch_norm);
}
fv_node fv_lrn_with(fv_net *net, const fv_lrn_options *given) { ADD_ONE(FV_LAYER_LRN, lrn); }
fv_node fv_layer_norm_with(fv_net *net, const fv_layer_norm_options *given) {
    ADD_ONE(FV_LAYER_LAYER_NORM, layer_norm);
}
fv_node fv_group_norm_with(fv_net *net, const fv_group_norm_options *given) {
    ADD_ONE(FV_LAYER_GROUP_NORM, group_norm);
}
/* Keras's class for it is a group normalisation of groups -1. */
fv_node fv_instance_norm_with(fv_net *net, const fv_group_norm_options *given) {
    fv_group_norm_options all;
    if (!net || fv_options_read(net->object.context, __func__, &all, sizeof all, given)) return (fv_node){0};
    if (all.groups && all.groups != -1) {
        fv_fail(net->object.context, FV_ERROR_ARGUMENT, "net %s: an instance normalisation has no groups", net->name);
        return (fv_node){0};
    }
    all.struct_size = sizeof all;
    all.groups = -1;
    return fv_group_norm_with(net, &all);
}
fv_node fv_rms_norm_with(fv_net *net, const fv_rms_norm_options *given) { ADD_ONE(FV_LAYER_RMS_NORM, rms_norm); }
fv_node fv_unit_norm_with(fv_net *net, const fv_unit_norm_options *given) { ADD_ONE(FV_LAYER_UNIT_NORM, unit_norm); }
fv_node fv_dropout_with(fv_net *net, const fv_dropout_options *given) { ADD_ONE(FV_LAYER_DROPOUT, dropout); }
fv_node fv_spatial_dropout1d_with(fv_net *net, const fv_dropout_options *given) {
    ADD_ONE(FV_LAYER_SPATIAL_DROPOUT1D, dropout);
}
fv_node fv_spatial_dropout2d_with(fv_net *net, const fv_dropout_options *given) {
    ADD_ONE(FV_LAYER_SPATIAL_DROPOUT2D, dropout);
}
fv_node fv_alpha_dropout_with(fv_net *net, const fv_dropout_options *given) {
    ADD_ONE(FV_LAYER_ALPHA_DROPOUT, dropout);
}
fv_node fv_gaussian_dropout_with(fv_net *net, const fv_dropout_options *given) {
    ADD_ONE(FV_LAYER_GAUSSIAN_DROPOUT, dropout);
}
fv_node fv_gaussian_noise_with(fv_net *net, const fv_gaussian_noise_options *given) {
    ADD_ONE(FV_LAYER_GAUSSIAN_NOISE, gaussian_noise);
}
fv_node fv_activation_with(fv_net *net, const fv_activation_options *given) {
    ADD_ONE(FV_LAYER_ACTIVATION, activation);
}
fv_node fv_leaky_relu_with(fv_net *net, const fv_leaky_relu_options *given) {
    ADD_ONE(FV_LAYER_LEAKY_RELU, leaky_relu);
}
fv_node fv_elu_with(fv_net *net, const fv_elu_options *given) { ADD_ONE(FV_LAYER_ELU, elu); }
fv_node fv_relu_with(fv_net *net, const fv_relu_options *given) { ADD_ONE(FV_LAYER_RELU, relu); }
fv_node fv_prelu_with(fv_net *net, const fv_prelu_options *given) { ADD_ONE(FV_LAYER_PRELU, prelu); }
fv_node fv_softmax_with(fv_net *net, const fv_softmax_options *given) { ADD_ONE(FV_LAYER_SOFTMAX, softmax); }
fv_node fv_rescaling_with(fv_net *net, const fv_rescaling_options *given) { ADD_ONE(FV_LAYER_RESCALING, rescaling); }
fv_node fv_flatten_with(fv_net *net, const fv_flatten_options *given) { ADD_ONE(FV_LAYER_FLATTEN, flatten); }
fv_node fv_reshape_with(fv_net *net, const fv_reshape_options *given) { ADD_ONE(FV_LAYER_RESHAPE, reshape); }
fv_node fv_zero_padding_with(fv_net *net, const fv_zero_padding_options *given) {
    ADD_ONE(FV_LAYER_ZERO_PADDING, zero_padding);
}
/* Options of sequences become those of images of one row (fv_layer_type.sequence). */
static void sides_of_line(int32_t all, const int32_t two[2], int32_t pad[4]) {
    bool given = two[0] || two[1];
    for (int side = 0; side < 2; side++) pad[2 + side] = given ? two[side] : all;
}

static fv_node add_pool1d(fv_net *net, fv_layer_kind kind, const char *function, const fv_pool1d_options *given) {
    fv_pool1d_options o = {0};
    fv_layer_options all = {0};
    if (!net || fv_options_read(net->object.context, function, &o, sizeof o, given)) return (fv_node){0};
    int32_t size = o.size ? o.size : 2;
    all.pool = (fv_pool2d_options){ .size_hw = { 1, size }, .stride_hw = { 1, o.stride ? o.stride : size },
                                    .padding = o.padding < 0 ? o.padding : 0, .ceil_mode = o.ceil_mode,
                                    .exclude_padding = o.exclude_padding };
    sides_of_line(o.padding > 0 ? o.padding : 0, o.pad, all.pool.pad);
    return fv_net_add(net, kind, &all, &o.input, 1, o.name);
}

fv_node fv_max_pool1d_with(fv_net *net, const fv_pool1d_options *given) {
    return add_pool1d(net, FV_LAYER_MAX_POOL1D, __func__, given);
}
fv_node fv_avg_pool1d_with(fv_net *net, const fv_pool1d_options *given) {
    return add_pool1d(net, FV_LAYER_AVG_POOL1D, __func__, given);
}
fv_node fv_global_avg_pool1d_with(fv_net *net, const fv_global_pool_options *given) {
    ADD_ONE(FV_LAYER_GLOBAL_AVG_POOL1D, global_pool);
}
fv_node fv_global_max_pool1d_with(fv_net *net, const fv_global_pool_options *given) {
    ADD_ONE(FV_LAYER_GLOBAL_MAX_POOL1D, global_pool);
}
fv_node fv_adaptive_max_pool2d_with(fv_net *net, const fv_adaptive_pool2d_options *given) {
    ADD_ONE(FV_LAYER_ADAPTIVE_MAX_POOL2D, adaptive_pool);
}
fv_node fv_adaptive_avg_pool2d_with(fv_net *net, const fv_adaptive_pool2d_options *given) {
    ADD_ONE(FV_LAYER_ADAPTIVE_AVG_POOL2D, adaptive_pool);
}

/* The pool's options, and its input as the second one. */
fv_node fv_max_unpool2d_with(fv_net *net, const fv_max_unpool2d_options *given) {
    fv_max_unpool2d_options o = {0};
    fv_layer_options all = {0};
    if (!net || fv_options_read(net->object.context, __func__, &o, sizeof o, given)) return (fv_node){0};
    const fv_net_node *pool = o.pool.id > 0 && o.pool.id <= net->node_count ? &net->node[o.pool.id - 1] : NULL;
    if (!pool || net->layer[pool->layer].kind != FV_LAYER_MAX_POOL2D) {
        fv_fail(net->object.context, FV_ERROR_ARGUMENT,
                "net %s: fv_max_unpool2d: pool is not the output of a max_pool2d layer of this net", net->name);
        return (fv_node){0};
    }
    all.pool = net->layer[pool->layer].options.pool;
    return fv_net_add(net, FV_LAYER_MAX_UNPOOL2D, &all, (const fv_node[]){ o.input, { pool->input[0] + 1 } }, 2, o.name);
}

fv_node fv_zero_padding1d_with(fv_net *net, const fv_zero_padding1d_options *given) {
    fv_zero_padding1d_options o = {0};
    fv_layer_options all = {0};
    if (!net || fv_options_read(net->object.context, __func__, &o, sizeof o, given)) return (fv_node){0};
    sides_of_line(o.padding, o.pad, all.zero_padding.pad);
    return fv_net_add(net, FV_LAYER_ZERO_PADDING1D, &all, &o.input, 1, o.name);
}
fv_node fv_padding2d_with(fv_net *net, const fv_padding2d_options *given) { ADD_ONE(FV_LAYER_PADDING2D, padding); }
fv_node fv_cropping2d_with(fv_net *net, const fv_cropping2d_options *given) { ADD_ONE(FV_LAYER_CROPPING2D, cropping); }
fv_node fv_cropping1d_with(fv_net *net, const fv_cropping1d_options *given) {
    fv_cropping1d_options o = {0};
    fv_layer_options all = {0};
    if (!net || fv_options_read(net->object.context, __func__, &o, sizeof o, given)) return (fv_node){0};
    sides_of_line(o.cropping, o.crop, all.cropping.crop);
    return fv_net_add(net, FV_LAYER_CROPPING1D, &all, &o.input, 1, o.name);
}
fv_node fv_up_sampling2d_with(fv_net *net, const fv_up_sampling2d_options *given) {
    ADD_ONE(FV_LAYER_UP_SAMPLING2D, up_sampling);
}
fv_node fv_up_sampling1d_with(fv_net *net, const fv_up_sampling1d_options *given) {
    fv_up_sampling1d_options o = {0};
    fv_layer_options all = {0};
    if (!net || fv_options_read(net->object.context, __func__, &o, sizeof o, given)) return (fv_node){0};
    all.up_sampling.size_hw[0] = 1;
    all.up_sampling.size_hw[1] = o.size ? o.size : 2;
    return fv_net_add(net, FV_LAYER_UP_SAMPLING1D, &all, &o.input, 1, o.name);
}
fv_node fv_resizing_with(fv_net *net, const fv_resizing_options *given) { ADD_ONE(FV_LAYER_RESIZING, resizing); }
fv_node fv_space_to_depth_with(fv_net *net, const fv_space_to_depth_options *given) {
    ADD_ONE(FV_LAYER_SPACE_TO_DEPTH, space_to_depth);
}
fv_node fv_depth_to_space_with(fv_net *net, const fv_space_to_depth_options *given) {
    ADD_ONE(FV_LAYER_DEPTH_TO_SPACE, space_to_depth);
}
fv_node fv_channel_shuffle_with(fv_net *net, const fv_channel_shuffle_options *given) {
    ADD_ONE(FV_LAYER_CHANNEL_SHUFFLE, channel_shuffle);
}
fv_node fv_permute_with(fv_net *net, const fv_permute_options *given) { ADD_ONE(FV_LAYER_PERMUTE, permute); }
fv_node fv_repeat_vector_with(fv_net *net, const fv_repeat_vector_options *given) {
    ADD_ONE(FV_LAYER_REPEAT_VECTOR, repeat_vector);
}
fv_node fv_embedding_with(fv_net *net, const fv_embedding_options *given) { ADD_ONE(FV_LAYER_EMBEDDING, embedding); }
fv_node fv_dot_with(fv_net *net, const fv_dot_options *given) { ADD_MANY(FV_LAYER_DOT, dot); }
fv_node fv_concat_with(fv_net *net, const fv_concat_options *given) { ADD_MANY(FV_LAYER_CONCAT, concat); }
fv_node fv_add_with(fv_net *net, const fv_merge_options *given) { ADD_MANY(FV_LAYER_ADD, merge); }
fv_node fv_subtract_with(fv_net *net, const fv_merge_options *given) { ADD_MANY(FV_LAYER_SUBTRACT, merge); }
fv_node fv_multiply_with(fv_net *net, const fv_merge_options *given) { ADD_MANY(FV_LAYER_MULTIPLY, merge); }
fv_node fv_maximum_with(fv_net *net, const fv_merge_options *given) { ADD_MANY(FV_LAYER_MAXIMUM, merge); }
fv_node fv_minimum_with(fv_net *net, const fv_merge_options *given) { ADD_MANY(FV_LAYER_MINIMUM, merge); }
fv_node fv_average_with(fv_net *net, const fv_merge_options *given) { ADD_MANY(FV_LAYER_AVERAGE, merge); }
