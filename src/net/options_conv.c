/* options_conv.c - the public functions that add convolutions: each brings its options into the one form that these layers
 * share (fv_conv2d_options; of sequences a window of one row). */
#include "net/net.h"
#include <string.h>

/* Members that have the same name everywhere. */
#define COMMON(o)                                                                                                      \
    .input = (o).input, .padding = (o).padding, .activation = (o).activation,                  \
    .no_bias = (o).no_bias, .frozen = (o).frozen, .bias_initializer = (o).bias_initializer, .bias_l1 = (o).bias_l1,    \
    .bias_l2 = (o).bias_l2, .name = (o).name
#define KERNEL(o)    .kernel_initializer = (o).kernel_initializer, .l1 = (o).l1, .l2 = (o).l2
#define POINTWISE(o) .kernel_initializer = (o).pointwise_initializer, .l1 = (o).pointwise_l1, .l2 = (o).pointwise_l2
#define PLANE(o)                                                                                                       \
    .kernel = (o).kernel, .kernel_hw = { (o).kernel_hw[0], (o).kernel_hw[1] }, .stride = (o).stride,                   \
    .stride_hw = { (o).stride_hw[0], (o).stride_hw[1] }, .dilation = (o).dilation,                                     \
    .dilation_hw = { (o).dilation_hw[0], (o).dilation_hw[1] },                                                         \
    .pad = { (o).pad[0], (o).pad[1], (o).pad[2], (o).pad[3] }
#define LINE(o)                                                                                                        \
    .kernel_hw = { 1, (o).kernel }, .stride_hw = { 1, (o).stride }, .dilation_hw = { 1, (o).dilation },                \
    .pad = { 0, 0, (o).pad[0], (o).pad[1] }

/* Reads what the caller knows of the options into o. */
#define READ(TYPE)                                                                                                     \
    TYPE o = { 0 };                                                                                                    \
    if (!net || fv_options_read(net->object.context, __func__, &o, sizeof o, given)) return (fv_node){ 0 }

/* Pixels of padding of a sequence are none above and below. */
static void sequence_padding(fv_conv2d_options *o) {
    if (o->padding > 0 && !o->pad[2] && !o->pad[3]) o->pad[2] = o->pad[3] = o->padding;
    if (o->padding > 0) o->padding = FV_VALID;
}

static fv_node add(fv_net *net, fv_layer_kind kind, fv_layer_options *all) {
    fv_conv2d_options *o = &all->conv2d;
    const fv_node input = o->input;
    const char *name = o->name;
    o->input = (fv_node){ 0 };
    o->name = NULL;
    if (fv_layer_types[kind].sequence) sequence_padding(o);
    return fv_net_add(net, kind, all, &input, 1, name);
}

fv_node fv_conv1d_with(fv_net *net, const fv_conv1d_options *given) {
    READ(fv_conv1d_options);
    fv_layer_options all = { .conv2d = { COMMON(o), KERNEL(o), LINE(o), .filters = o.filters, .groups = o.groups,
                                         .flip_kernel = o.flip_kernel } };
    return add(net, FV_LAYER_CONV1D, &all);
}

/* ---- Transposed -------------------------------------------------------------------------------------------------- */

fv_node fv_conv2d_transpose_with(fv_net *net, const fv_conv2d_transpose_options *given) {
    READ(fv_conv2d_transpose_options);
    fv_layer_options all = { .transpose = { .conv = { COMMON(o), KERNEL(o), PLANE(o), .filters = o.filters, .groups = o.groups },
                                            .exact = o.no_output_padding } };
    fv_option_pair(o.output_padding, o.output_padding_hw, 0, all.transpose.output_padding);
    return add(net, FV_LAYER_CONV2D_TRANSPOSE, &all);
}

fv_node fv_conv1d_transpose_with(fv_net *net, const fv_conv1d_transpose_options *given) {
    READ(fv_conv1d_transpose_options);
    fv_layer_options all = { .transpose = { .conv = { COMMON(o), KERNEL(o), LINE(o), .filters = o.filters, .groups = o.groups },
                                            .output_padding = { 0, o.output_padding },
                                            .exact = o.no_output_padding } };
    return add(net, FV_LAYER_CONV1D_TRANSPOSE, &all);
}

/* ---- Depthwise: a plain convolution with a group a channel ------------------------------------------------------- */

/* The channels are those of the input, so the layer's own words come only after them. */
static fv_node add_depthwise(fv_net *net, fv_layer_kind kind, fv_layer_options *all, int32_t multiplier) {
    fv_conv2d_options *o = &all->conv2d;
    const char *stem = kind == FV_LAYER_CONV1D ? "depthwise_conv1d" : "depthwise_conv2d";
    const fv_net_node *input = o->input.id >= 1 && o->input.id <= net->node_count ? &net->node[o->input.id - 1] : NULL;
    int64_t channels = input ? input->shape.dim[input->shape.rank - 1] : 1, filters;
    if (!multiplier) multiplier = 1;
    if (channels < 1 || multiplier < 1 || __builtin_mul_overflow(channels, (int64_t)multiplier, &filters) ||
        filters > INT32_MAX) {
        fv_fail(net->object.context, FV_ERROR_ARGUMENT, "%s: %s: depth_multiplier %d of %lld channels cannot be had",
                net->name, o->name ? o->name : stem, (int)multiplier, (long long)channels);
        return (fv_node){ 0 };
    }
    o->groups = (int32_t)channels;
    o->filters = (int32_t)filters;
    char name[64];
    if (!o->name) o->name = fv_net_free_name(net, stem, name, sizeof name);
    return add(net, kind, all);
}

fv_node fv_depthwise_conv2d_with(fv_net *net, const fv_depthwise_conv2d_options *given) {
    READ(fv_depthwise_conv2d_options);
    fv_layer_options all = { .conv2d = { COMMON(o), KERNEL(o), PLANE(o) } };
    return add_depthwise(net, FV_LAYER_CONV2D, &all, o.depth_multiplier);
}

fv_node fv_depthwise_conv1d_with(fv_net *net, const fv_depthwise_conv1d_options *given) {
    READ(fv_depthwise_conv1d_options);
    fv_layer_options all = { .conv2d = { COMMON(o), KERNEL(o), LINE(o) } };
    return add_depthwise(net, FV_LAYER_CONV1D, &all, o.depth_multiplier);
}

/* ---- Separable --------------------------------------------------------------------------------------------------- */

#define SEPARABLE(o, WINDOW)                                                                                           \
    .separable = { .conv = { COMMON(o), POINTWISE(o), WINDOW(o), .filters = (o).filters },                             \
                   .multiplier = (o).depth_multiplier, .depthwise_initializer = (o).depthwise_initializer,             \
                   .depthwise_l1 = (o).depthwise_l1, .depthwise_l2 = (o).depthwise_l2 }

fv_node fv_separable_conv2d_with(fv_net *net, const fv_separable_conv2d_options *given) {
    READ(fv_separable_conv2d_options);
    fv_layer_options all = { SEPARABLE(o, PLANE) };
    return add(net, FV_LAYER_SEPARABLE_CONV2D, &all);
}

fv_node fv_separable_conv1d_with(fv_net *net, const fv_separable_conv1d_options *given) {
    READ(fv_separable_conv1d_options);
    fv_layer_options all = { SEPARABLE(o, LINE) };
    return add(net, FV_LAYER_SEPARABLE_CONV1D, &all);
}

/* ---- Weights that know the place --------------------------------------------------------------------------------- */

fv_node fv_locally_connected2d_with(fv_net *net, const fv_locally_connected2d_options *given) {
    READ(fv_locally_connected2d_options);
    fv_layer_options all = { .conv2d = { COMMON(o), KERNEL(o), PLANE(o), .filters = o.filters } };
    return add(net, FV_LAYER_LOCALLY_CONNECTED2D, &all);
}

fv_node fv_locally_connected1d_with(fv_net *net, const fv_locally_connected1d_options *given) {
    READ(fv_locally_connected1d_options);
    fv_layer_options all = { .conv2d = { COMMON(o), KERNEL(o), LINE(o), .filters = o.filters } };
    return add(net, FV_LAYER_LOCALLY_CONNECTED1D, &all);
}

fv_node fv_bias_with(fv_net *net, const fv_bias_options *given) {
    READ(fv_bias_options);
    fv_layer_options all = { .bias = o };
    all.bias.input = (fv_node){ 0 };
    all.bias.name = NULL;
    return fv_net_add(net, FV_LAYER_BIAS, &all, &o.input, 1, o.name);
}
