/* layers_conv.c - convolutions with shared filters: plain, depthwise, separable, transposed. All are recorded with conv2d
 * and its gradients; those of sequences see images of one row (fv_layer_type.sequence), so their kernels are [filters, 1,
 * kernel, channels]. */
#include "net/net.h"
#include <string.h>

bool fv_conv2d_is_depthwise(const fv_layer *layer) {
    return layer->weight_count > 0 && layer->weight[0].role == FV_WEIGHT_DEPTHWISE_KERNEL;
}

/* ---- What they share --------------------------------------------------------------------------------------------- */

/* FV_CAUSAL looks back only: what the length needs stands before it. */
static int resolve_causal(const fv_net *net, const fv_layer *layer, fv_conv2d_options *o) {
    if (o->padding != FV_CAUSAL) return FV_OK;
    if (!fv_layer_types[layer->kind].sequence)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "only a layer of sequences can be padded as causal");
    int64_t before = (int64_t)o->dilation_hw[1] * (o->kernel_hw[1] - 1);
    if (before > INT32_MAX)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "causal padding of %lld pixels is too much",
                             (long long)before);
    memcpy(o->pad, (const int32_t[]){ 0, 0, (int32_t)before, 0 }, sizeof o->pad);
    o->padding = FV_VALID;
    return FV_OK;
}

int fv_conv_resolve(const fv_net *net, const fv_layer *layer, fv_conv2d_options *o, const fv_shape *x) {
    fv_option_pair(o->kernel, o->kernel_hw, 0, o->kernel_hw);
    fv_option_pair(o->stride, o->stride_hw, 1, o->stride_hw);
    fv_option_pair(o->dilation, o->dilation_hw, 1, o->dilation_hw);
    o->kernel = o->stride = o->dilation = 0;
    if (!o->groups) o->groups = 1;
    if (o->filters < 1)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "filters are %d: at least 1 is needed", (int)o->filters);
    if (fv_layer_check_positive(net, layer, "kernel", o->kernel_hw) ||
        fv_layer_check_positive(net, layer, "stride", o->stride_hw) ||
        fv_layer_check_positive(net, layer, "dilation", o->dilation_hw))
        return FV_ERROR_ARGUMENT;
    if (resolve_causal(net, layer, o) || fv_layer_resolve_padding(net, layer, &o->padding, o->pad))
        return FV_ERROR_ARGUMENT;
    if (o->groups < 1 || x->dim[3] % o->groups || o->filters % o->groups)
        return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "%d groups do not divide its %lld channels and %d filters",
                             (int)o->groups, (long long)x->dim[3], (int)o->filters);
    if (!fv_activation_name(o->activation))
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "there is no activation number %d", (int)o->activation);
    return FV_OK;
}

fv_weight *fv_conv_add_kernel(fv_net *net, fv_layer *layer, const char *name, fv_weight_role role, int rank,
                              const int64_t *dims, fv_initializer *initializer, float l1, float l2,
                              fv_constraint *constraint) {
    fv_weight *weight =
        fv_layer_add_weight(net, layer, name, role, rank, dims, *initializer,
                            role == FV_WEIGHT_VECTOR ? FV_INITIALIZER_ZEROS : FV_INITIALIZER_GLOROT_UNIFORM);
    if (!weight) return NULL;
    *initializer = weight->initializer;
    weight->l1 = l1;
    weight->l2 = l2;
    return constraint && fv_weight_constrain(net, layer, weight, constraint) ? NULL : weight;
}

int fv_conv_add_bias(fv_net *net, fv_layer *layer, int rank, const int64_t *dims) {
    fv_conv2d_options *o = &layer->options.conv2d;
    if (o->no_bias) return FV_OK;
    fv_weight *bias = fv_conv_add_kernel(net, layer, "bias", FV_WEIGHT_VECTOR, rank, dims, &o->bias_initializer,
                                         o->bias_l1, o->bias_l2, &o->bias_constraint);
    return bias ? FV_OK : (int)net->object.context->status;
}

static int add_channel_bias(fv_net *net, fv_layer *layer) {
    return fv_conv_add_bias(net, layer, 1, (const int64_t[]){ layer->options.conv2d.filters });
}

/* Keras sees the kernel as [h, w, channels, multiplier]. */
static fv_weight *add_depthwise(fv_net *net, fv_layer *layer, const char *name, int64_t channels, int64_t multiplier,
                                fv_initializer *initializer, float l1, float l2, fv_constraint *constraint) {
    const int32_t *size = layer->options.conv2d.kernel_hw;
    int64_t field = (int64_t)size[0] * size[1];
    fv_weight *kernel = fv_conv_add_kernel(net, layer, name, FV_WEIGHT_DEPTHWISE_KERNEL, 4,
                                           (const int64_t[]){ channels * multiplier, size[0], size[1], 1 },
                                           initializer, l1, l2, constraint);
    if (!kernel) return NULL;
    kernel->fan_in = field * channels;
    kernel->fan_out = field * multiplier;
    return kernel;
}

bool fv_conv_window(fv_recording *r, const fv_layer *layer, const fv_shape *x, int32_t pad[4]) {
    const fv_conv2d_options *o = &layer->options.conv2d;
    fv_layer_window(o->padding, o->pad, x, o->kernel_hw, o->dilation_hw, o->stride_hw, pad);
    int64_t room[2], extent[2];
    for (int axis = 0; axis < 2; axis++) {
        room[axis] = x->dim[1 + axis] + pad[2 * axis] + pad[2 * axis + 1];
        extent[axis] = (int64_t)o->dilation_hw[axis] * (o->kernel_hw[axis] - 1) + 1;
    }
    if (x->rank != 4 || (extent[0] <= room[0] && extent[1] <= room[1])) return true; /* the operation says the rest */
    fv_fail(r->net->object.context, FV_ERROR_SHAPE,
            "%s: layer %s%s (%s): %skernel %lldx%lld is larger than its padded input %lldx%lld", r->root->name,
            r->prefix, layer->name, fv_layer_types[layer->kind].stem,
            o->dilation_hw[0] > 1 || o->dilation_hw[1] > 1 ? "dilated " : "", (long long)extent[0],
            (long long)extent[1], (long long)room[0], (long long)room[1]);
    return false;
}

static fv_attributes conv_attributes(const fv_conv2d_options *o, int32_t groups) {
    fv_attributes attributes;
    memset(&attributes, 0, sizeof attributes);
    memcpy(attributes.conv.stride, o->stride_hw, sizeof attributes.conv.stride);
    memcpy(attributes.conv.dilation, o->dilation_hw, sizeof attributes.conv.dilation);
    attributes.conv.groups = groups;
    attributes.conv.flip = o->flip_kernel;
    return attributes;
}

fv_value fv_conv_finish(fv_recording *r, fv_layer *layer, fv_value y, int32_t bias) {
    const fv_conv2d_options *o = &layer->options.conv2d;
    if (!o->no_bias) y = fv_op_add(r->tape, y, fv_record_weight(r, layer, bias));
    return fv_record_activation(r, y, o->activation);
}

/* ---- Convolution ------------------------------------------------------------------------------------------------- */

int fv_build_conv2d(fv_net *net, fv_layer *layer, const fv_shape *x, int32_t count) {
    fv_conv2d_options *o = &layer->options.conv2d;
    int status = fv_layer_check_images(net, layer, x);
    if (!status) status = fv_conv_resolve(net, layer, o, x);
    if (status) return status;
    layer->frozen = o->frozen;
    int64_t channels = x->dim[3];
    const int64_t dims[] = { o->filters, o->kernel_hw[0], o->kernel_hw[1], channels / o->groups };
    fv_weight *kernel =
        o->groups > 1 && o->groups == channels
            ? add_depthwise(net, layer, "kernel", channels, o->filters / channels, &o->kernel_initializer, o->l1, o->l2,
                            &o->kernel_constraint)
            : fv_conv_add_kernel(net, layer, "kernel", FV_WEIGHT_CONV_KERNEL, 4, dims, &o->kernel_initializer, o->l1,
                                 o->l2, &o->kernel_constraint);
    return kernel ? add_channel_bias(net, layer) : (int)net->object.context->status;
}

fv_value fv_record_conv2d(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_conv2d_options *o = &layer->options.conv2d;
    fv_attributes attributes = conv_attributes(o, o->groups);
    if (!fv_conv_window(r, layer, &fv_tape_value_of(r->tape, inputs[0])->shape, attributes.conv.pad)) return (fv_value){ 0 };
    fv_value y = FV_APPLY(r->tape, FV_OP_conv2d, &attributes, inputs[0], fv_record_weight(r, layer, 0));
    return fv_conv_finish(r, layer, y, 1);
}

/* ---- Separable: a filter a channel, then products of the channels of a pixel ------------------------------------- */

int fv_build_separable(fv_net *net, fv_layer *layer, const fv_shape *x, int32_t count) {
    fv_separable_options *s = &layer->options.separable;
    fv_conv2d_options *o = &s->conv;
    int status = fv_layer_check_images(net, layer, x);
    if (!s->multiplier) s->multiplier = 1;
    if (!status) status = fv_conv_resolve(net, layer, o, x);
    if (!status && (s->multiplier < 1 || s->multiplier > INT32_MAX / x->dim[3]))
        status = fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "depth_multiplier is %d, which %lld channels cannot have",
                               (int)s->multiplier, (long long)x->dim[3]);
    if (status) return status;
    layer->frozen = o->frozen;
    if (!add_depthwise(net, layer, "depthwise_kernel", x->dim[3], s->multiplier, &s->depthwise_initializer,
                       s->depthwise_l1, s->depthwise_l2, NULL) ||
        !fv_conv_add_kernel(net, layer, "pointwise_kernel", FV_WEIGHT_CONV_KERNEL, 4,
                            (const int64_t[]){ o->filters, 1, 1, x->dim[3] * s->multiplier }, &o->kernel_initializer,
                            o->l1, o->l2, &o->kernel_constraint))
        return net->object.context->status;
    return add_channel_bias(net, layer);
}

fv_value fv_record_separable(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_conv2d_options *o = &layer->options.conv2d;
    const fv_shape shape = fv_tape_value_of(r->tape, inputs[0])->shape;
    fv_attributes depthwise = conv_attributes(o, (int32_t)shape.dim[3]), pointwise;
    memset(&pointwise, 0, sizeof pointwise);
    if (!fv_conv_window(r, layer, &shape, depthwise.conv.pad)) return (fv_value){ 0 };
    fv_value y = FV_APPLY(r->tape, FV_OP_conv2d, &depthwise, inputs[0], fv_record_weight(r, layer, 0));
    y = FV_APPLY(r->tape, FV_OP_conv2d, &pointwise, y, fv_record_weight(r, layer, 1));
    return fv_conv_finish(r, layer, y, 2);
}

/* ---- Transposed: the data gradient of a convolution, forward ----------------------------------------------------- */

/* Keras knows no groups here, and pixels of padding neither. */
bool fv_conv_transpose_is_ours(const fv_layer *layer) {
    const fv_conv2d_options *o = &layer->options.conv2d;
    return o->groups > 1 || o->padding == FV_FULL || o->pad[0] || o->pad[1] || o->pad[2] || o->pad[3];
}

int fv_build_conv_transpose(fv_net *net, fv_layer *layer, const fv_shape *x, int32_t count) {
    fv_transpose_options *t = &layer->options.transpose;
    fv_conv2d_options *o = &t->conv;
    int status = fv_layer_check_images(net, layer, x);
    if (!status) status = fv_conv_resolve(net, layer, o, x);
    if (status) return status;
    t->exact |= t->output_padding[0] || t->output_padding[1];
    for (int axis = 0; axis < 2; axis++)
        if (t->output_padding[axis] < 0 || t->output_padding[axis] - o->pad[2 * axis + 1] >= o->stride_hw[axis])
            return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT,
                                 "output padding %d must be at least 0 and below the stride %d",
                                 (int)t->output_padding[axis], (int)o->stride_hw[axis]);
    layer->frozen = o->frozen;
    if (!fv_conv_add_kernel(net, layer, "kernel", FV_WEIGHT_CONV_KERNEL, 4,
                            (const int64_t[]){ x->dim[3], o->kernel_hw[0], o->kernel_hw[1], o->filters / o->groups },
                            &o->kernel_initializer, o->l1, o->l2, &o->kernel_constraint))
        return net->object.context->status;
    return add_channel_bias(net, layer);
}

/* The size of the result on an axis and what is cut off before and after it, from the size that all windows reach. As
 * Keras for FV_SAME and FV_VALID (without output padding: stride times the input, and no gaps), else as PyTorch. */
static int64_t transposed_size(const fv_transpose_options *t, int axis, int64_t in, int32_t pad[2]) {
    const fv_conv2d_options *o = &t->conv;
    int64_t stride = o->stride_hw[axis], extent = (int64_t)o->dilation_hw[axis] * (o->kernel_hw[axis] - 1) + 1;
    int64_t more = t->output_padding[axis], reached;
    pad[0] = pad[1] = 0;
    if (in > INT32_MAX || __builtin_add_overflow((in - 1) * stride, extent, &reached)) return INT64_MAX;
    if (o->padding == FV_SAME) {
        int64_t size = t->exact ? reached - extent + extent % 2 + more : in * stride;
        int64_t cut = size < reached ? reached - size : 0;
        pad[0] = (int32_t)(cut / 2);
        pad[1] = (int32_t)(cut - cut / 2);
        return size;
    }
    bool full = o->padding == FV_FULL, pixels = full || o->pad[2 * axis] || o->pad[2 * axis + 1];
    if (!t->exact && !pixels) return extent < stride ? reached - extent + stride : reached;
    int64_t before = full ? extent - 1 : o->pad[2 * axis], after = full ? extent - 1 : o->pad[2 * axis + 1];
    int64_t cut = after > more ? after - more : 0; /* the padding gives back first */
    pad[0] = before > INT32_MAX ? INT32_MAX : (int32_t)before;
    pad[1] = cut > INT32_MAX ? INT32_MAX : (int32_t)cut;
    return reached - before - after + more;
}

fv_value fv_record_conv_transpose(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_transpose_options *t = &layer->options.transpose;
    const fv_shape shape = fv_tape_value_of(r->tape, inputs[0])->shape;
    fv_attributes attributes = conv_attributes(&t->conv, t->conv.groups);
    int64_t *size = attributes.conv.shape;
    size[0] = shape.dim[0];
    size[3] = t->conv.filters;
    for (int axis = 0; axis < 2; axis++)
        size[1 + axis] = transposed_size(t, axis, shape.dim[1 + axis], attributes.conv.pad + 2 * axis);
    if (size[1] < 1 || size[2] < 1) {
        fv_fail(r->net->object.context, FV_ERROR_SHAPE, "%s: layer %s%s (%s): its padding leaves %lldx%lld of the output",
                r->root->name, r->prefix, layer->name, fv_layer_types[layer->kind].stem, (long long)size[1],
                (long long)size[2]);
        return (fv_value){ 0 };
    }
    fv_value y = FV_APPLY(r->tape, FV_OP_conv2d_data_gradient, &attributes, inputs[0], fv_record_weight(r, layer, 0));
    return fv_conv_finish(r, layer, y, 1);
}
