/* layers_local.c - layers whose weights know the place: unshared convolution and a bias of its own for every value. Their
 * inputs have a fixed size, so all padding is in pixels once the layer is built. */
#include "net/net.h"
#include <string.h>

/* Keras knows no dilation here. */
bool fv_local_is_ours(const fv_layer *layer) {
    const fv_conv2d_options *o = &layer->options.conv2d;
    return o->dilation_hw[0] > 1 || o->dilation_hw[1] > 1;
}

int fv_build_local(fv_net *net, fv_layer *layer, const fv_shape *x, int32_t count) {
    fv_conv2d_options *o = &layer->options.conv2d;
    int status = fv_layer_check_images(net, layer, x);
    if (!status) status = fv_conv_resolve(net, layer, o, x);
    if (status) return status;
    layer->frozen = o->frozen;
    fv_layer_window(o->padding, o->pad, x, o->kernel_hw, o->dilation_hw, o->stride_hw, o->pad);
    o->padding = FV_VALID;
    int64_t dims[FV_RANK] = { 0, 0, o->kernel_hw[0], o->kernel_hw[1], x->dim[3], o->filters };
    for (int axis = 0; axis < 2; axis++) {
        dims[axis] = fv_window_count(x->dim[1 + axis], o->pad[2 * axis], o->pad[2 * axis + 1], o->kernel_hw[axis],
                                     o->dilation_hw[axis], o->stride_hw[axis], false);
        if (dims[axis] < 1)
            return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "kernel %dx%d is larger than its padded input %lldx%lld",
                                 (int)o->kernel_hw[0], (int)o->kernel_hw[1],
                                 (long long)x->dim[1] + o->pad[0] + o->pad[1],
                                 (long long)x->dim[2] + o->pad[2] + o->pad[3]);
    }
    if (!fv_conv_add_kernel(net, layer, "kernel", FV_WEIGHT_LOCAL_KERNEL, FV_RANK, dims, &o->kernel_initializer, o->l1,
                            o->l2, &o->kernel_constraint))
        return net->object.context->status;
    return fv_conv_add_bias(net, layer, 3, (const int64_t[]){ dims[0], dims[1], o->filters });
}

fv_value fv_record_local(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_conv2d_options *o = &layer->options.conv2d;
    fv_attributes attributes;
    memset(&attributes, 0, sizeof attributes);
    memcpy(attributes.local.stride, o->stride_hw, sizeof attributes.local.stride);
    memcpy(attributes.local.dilation, o->dilation_hw, sizeof attributes.local.dilation);
    memcpy(attributes.local.pad, o->pad, sizeof attributes.local.pad);
    fv_value y = FV_APPLY(r->tape, FV_OP_local_conv2d, &attributes, inputs[0],
                          fv_record_weight(r, layer, 0));
    return fv_conv_finish(r, layer, y, 1);
}

/* ---- A bias of its own for every value --------------------------------------------------------------------------- */

int fv_build_bias(fv_net *net, fv_layer *layer, const fv_shape *x, int32_t count) {
    fv_bias_options *o = &layer->options.bias;
    if (x->rank < 2) return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "its input has no axis beside the batch");
    if (!fv_activation_name(o->activation))
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "there is no activation number %d", (int)o->activation);
    layer->frozen = o->frozen;
    fv_weight *bias = fv_conv_add_kernel(net, layer, "bias", FV_WEIGHT_VECTOR, x->rank - 1, x->dim + 1,
                                         &o->bias_initializer, o->l1, o->l2, NULL);
    return bias ? FV_OK : (int)net->object.context->status;
}

fv_value fv_record_bias(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    fv_value y = fv_op_add(r->tape, inputs[0], fv_record_weight(r, layer, 0));
    return fv_record_activation(r, y, layer->options.bias.activation);
}
