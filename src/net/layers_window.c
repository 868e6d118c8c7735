/* layers_window.c - layers that slide a window: what they share, pooling, and padding with zeros. Padding that depends on
 * the size of the input (FV_SAME) becomes pixels when the layer is recorded. */
#include "net/net.h"
#include <string.h>

void fv_layer_window(int32_t padding, const int32_t given[4], const fv_shape *x, const int32_t kernel[2],
                     const int32_t dilation[2], const int32_t stride[2], int32_t out[4]) {
    memmove(out, given, 4 * sizeof(int32_t)); /* may be the same */
    if (padding == FV_VALID) return;
    for (int axis = 0; axis < 2; axis++)
        fv_window_padding(padding, x->dim[1 + axis], kernel[axis], dilation[axis], stride[axis], out + 2 * axis);
}

int fv_layer_check_positive(const fv_net *net, const fv_layer *layer, const char *what, const int32_t pair[2]) {
    if (pair[0] >= 1 && pair[1] >= 1) return FV_OK;
    return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "%s is %dx%d: at least 1 is needed", what, (int)pair[0],
                         (int)pair[1]);
}

int fv_layer_resolve_padding(const fv_net *net, const fv_layer *layer, int32_t *padding, int32_t pad[4]) {
    bool per_side = false;
    for (int side = 0; side < 4; side++) {
        if (pad[side] < 0)
            return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "pad of side %d is %d: less than nothing", side,
                                 (int)pad[side]);
        per_side |= pad[side] > 0;
    }
    if (*padding < FV_FULL)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "there is no padding %d", (int)*padding);
    for (int side = 0; side < 4 && !per_side && *padding > 0; side++) pad[side] = *padding;
    if (per_side || *padding > 0) *padding = FV_VALID;
    return FV_OK;
}

int fv_layer_check_images(const fv_net *net, const fv_layer *layer, const fv_shape *x) {
    if (x->rank == 4) return FV_OK;
    fv_shape shape = *x;
    shape.dim[0] = 0;
    char text[128];
    return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "its input must be (None, height, width, channels), not %s",
                         fv_net_shape_text(&shape, text));
}

/* ---- Pooling ----------------------------------------------------------------------------------------------------- */

int fv_build_pool2d(fv_net *net, fv_layer *layer, const fv_shape *x, int32_t count) {
    fv_pool2d_options *o = &layer->options.pool;
    if (fv_layer_check_images(net, layer, x)) return FV_ERROR_SHAPE;
    fv_option_pair(o->size, o->size_hw, 2, o->size_hw);
    for (int axis = 0; axis < 2; axis++)
        if (!o->stride_hw[axis]) o->stride_hw[axis] = o->stride ? o->stride : o->size_hw[axis];
    o->size = o->stride = 0;
    if (fv_layer_check_positive(net, layer, "size", o->size_hw) || fv_layer_check_positive(net, layer, "stride", o->stride_hw))
        return FV_ERROR_ARGUMENT;
    return fv_layer_resolve_padding(net, layer, &o->padding, o->pad);
}

static void pool_attributes(fv_recording *r, const fv_layer *layer, fv_value input, fv_attributes *attributes) {
    const fv_pool2d_options *o = &layer->options.pool;
    fv_pool_attributes *pool = &attributes->pool;
    memset(attributes, 0, sizeof *attributes);
    memcpy(pool->kernel, o->size_hw, sizeof pool->kernel);
    memcpy(pool->stride, o->stride_hw, sizeof pool->stride);
    fv_layer_window(o->padding, o->pad, &fv_tape_value_of(r->tape, input)->shape, o->size_hw, (const int32_t[]){ 1, 1 },
                   o->stride_hw, pool->pad);
    pool->ceil_mode = o->ceil_mode;
    pool->exclude_padding = o->exclude_padding || o->padding == FV_SAME;
}

fv_value fv_record_max_pool2d(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    fv_attributes attributes;
    pool_attributes(r, layer, inputs[0], &attributes);
    attributes.pool.exclude_padding = 0; /* padding never wins anyway: one spelling for one operation */
    return FV_APPLY(r->tape, FV_OP_max_pool2d, &attributes, inputs[0]);
}

fv_value fv_record_avg_pool2d(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    fv_attributes attributes;
    pool_attributes(r, layer, inputs[0], &attributes);
    return FV_APPLY(r->tape, FV_OP_avg_pool2d, &attributes, inputs[0]);
}

/* Keras pads a pool only as "same", and has no partial windows. Zeros around the average of an image count like padding
 * does. */
bool fv_pool2d_is_ours(const fv_layer *layer) {
    const fv_pool2d_options *o = &layer->options.pool;
    bool padded = o->padding == FV_FULL || o->pad[0] || o->pad[1] || o->pad[2] || o->pad[3];
    return o->ceil_mode || (padded && (layer->kind != FV_LAYER_AVG_POOL2D || o->exclude_padding));
}

/* ---- The way back of a maximum: options are those of the pool, the second input is its input --------------------- */

int fv_build_max_unpool(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    return fv_build_pool2d(net, layer, inputs + 1, 1);
}

/* The index of the pool itself when it was recorded on this input already: then it costs nothing. */
static fv_value index_of_maxima(fv_recording *r, fv_value x, const fv_attributes *attributes) {
    for (int32_t i = r->tape->operation_count - 1; i >= 0; i--) {
        const fv_operation *o = &r->tape->operation[i];
        if (o->op == FV_OP_max_pool2d && fv_tape_input(r->tape, i, 0).id == x.id &&
            !memcmp(&o->attributes, attributes, sizeof *attributes))
            return fv_tape_output(r->tape, i, 1);
    }
    int32_t operation = fv_tape_append(r->tape, FV_OP_max_pool2d, attributes, &x, 1);
    return operation < 0 ? (fv_value){0} : fv_tape_output(r->tape, operation, 1);
}

fv_value fv_record_max_unpool(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    fv_attributes attributes;
    pool_attributes(r, layer, inputs[1], &attributes);
    attributes.pool.exclude_padding = 0;
    fv_value index = index_of_maxima(r, inputs[1], &attributes);
    if (!index.id) return index;
    memcpy(attributes.pool.shape, fv_tape_value_of(r->tape, inputs[1])->shape.dim, sizeof attributes.pool.shape);
    return FV_APPLY(r->tape, FV_OP_max_pool2d_gradient, &attributes, index, inputs[0]);
}

/* ---- Zeros around an image --------------------------------------------------------------------------------------- */

int fv_build_zero_padding(fv_net *net, fv_layer *layer, const fv_shape *x, int32_t count) {
    fv_zero_padding_options *o = &layer->options.zero_padding;
    if (fv_layer_check_images(net, layer, x)) return FV_ERROR_SHAPE;
    if (o->padding < 0)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "padding %d is not a number of pixels", (int)o->padding);
    return fv_layer_resolve_padding(net, layer, &o->padding, o->pad);
}

fv_value fv_record_zero_padding(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const int32_t *pad = layer->options.zero_padding.pad;
    fv_attributes attributes;
    memset(&attributes, 0, sizeof attributes);
    for (int axis = 0; axis < 2; axis++) {
        attributes.pad.before[1 + axis] = pad[2 * axis];
        attributes.pad.after[1 + axis] = pad[2 * axis + 1];
    }
    return FV_APPLY(r->tape, FV_OP_pad, &attributes, inputs[0]);
}
