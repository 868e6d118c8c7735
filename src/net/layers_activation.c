/* layers_activation.c - activations that are layers of their own, with parameters, and Rescaling. Defaults and
 * definitions are those of Keras's layers of the same names. */
#include "net/net.h"
#include <math.h>
#include <string.h>

static int check_number(const fv_net *net, const fv_layer *layer, const char *what, float value) {
    if (value >= 0.0f && value < INFINITY) return FV_OK;
    return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "%s %g is not a number of at least 0", what, (double)value);
}

/* Keras's strings stand for functions; this one takes an argument there. */
bool fv_activation_is_ours(fv_activation activation) { return activation == FV_GELU_TANH; }

/* ---- Leaky ReLU, ELU --------------------------------------------------------------------------------------------- */

int fv_build_leaky_relu(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_leaky_relu_options *o = &layer->options.leaky_relu;
    o->negative_slope = fv_option_float(o->negative_slope, 0.3f);
    return check_number(net, layer, "negative_slope", o->negative_slope);
}

fv_value fv_record_leaky_relu(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    return fv_op_leaky_relu(r->tape, inputs[0], layer->options.leaky_relu.negative_slope);
}

int fv_build_elu(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_elu_options *o = &layer->options.elu;
    o->alpha = fv_option_float(o->alpha, 1.0f);
    return check_number(net, layer, "alpha", o->alpha);
}

fv_value fv_record_elu(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    return fv_op_elu(r->tape, inputs[0], layer->options.elu.alpha);
}

/* ---- ReLU with a limit, a slope and a threshold ------------------------------------------------------------------ */

int fv_build_relu(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_relu_options *o = &layer->options.relu;
    o->max_value = fv_option_float(o->max_value, INFINITY);
    if (!(o->max_value >= 0.0f))
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "max_value %g is below 0", (double)o->max_value);
    int status = check_number(net, layer, "negative_slope", o->negative_slope);
    return status ? status : check_number(net, layer, "threshold", o->threshold);
}

/* The usual ones are operations that fuse; the others are put together. */
fv_value fv_record_relu(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_relu_options *o = &layer->options.relu;
    fv_tape *t = r->tape;
    fv_value x = inputs[0];
    bool limited = isfinite(o->max_value), sloped = o->negative_slope > 0.0f;
    if (o->threshold > 0.0f) {
        fv_value above = limited ? fv_op_clamp(t, x, -INFINITY, o->max_value) : x;
        fv_value below = sloped ? fv_op_affine(t, x, o->negative_slope, -o->negative_slope * o->threshold)
                                : fv_op_scalar(t, 0);
        return fv_op_where(t, fv_op_less(t, fv_op_scalar(t, o->threshold), x), above, below);
    }
    if (limited && !sloped) return o->max_value == 6.0f ? fv_op_activation(t, x, FV_RELU6) : fv_op_clamp(t, x, 0, o->max_value);
    fv_value y = sloped ? fv_op_leaky_relu(t, x, o->negative_slope) : fv_op_relu(t, x);
    return limited ? fv_op_clamp(t, y, -INFINITY, o->max_value) : y;
}

/* ---- PReLU ------------------------------------------------------------------------------------------------------- */

int fv_build_prelu(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_prelu_options *o = &layer->options.prelu;
    if (inputs->rank < 2) return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "its input has no axis beside the batch");
    int64_t dims[FV_RANK];
    memcpy(dims, inputs->dim + 1, sizeof(int64_t) * (size_t)(inputs->rank - 1));
    for (int i = 0; i < FV_RANK && o->shared_axes[i]; i++) {
        if (o->shared_axes[i] < 1 || o->shared_axes[i] >= inputs->rank)
            return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "shared axis %d is not an axis of a sample: those are 1..%d",
                                 (int)o->shared_axes[i], (int)inputs->rank - 1);
        dims[o->shared_axes[i] - 1] = 1;
    }
    layer->frozen = o->frozen;
    fv_weight *alpha = fv_layer_add_weight(net, layer, "alpha", FV_WEIGHT_VECTOR, inputs->rank - 1, dims,
                                           o->alpha_initializer, FV_INITIALIZER_ZEROS);
    if (!alpha) return net->object.context->status;
    o->alpha_initializer = alpha->initializer;
    alpha->l1 = o->l1;
    alpha->l2 = o->l2;
    return FV_OK;
}

fv_value fv_record_prelu(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    return fv_op_prelu(r->tape, inputs[0], fv_record_weight(r, layer, 0));
}

/* ---- Softmax, rescaling ------------------------------------------------------------------------------------------ */

int fv_build_softmax(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    int32_t *axis = &layer->options.softmax.axis, given = *axis;
    *axis = given > 0 ? given : inputs->rank + (given ? given : -1);
    if (*axis >= 1 && *axis < inputs->rank) return FV_OK;
    return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "axis %d is not an axis of a sample: those are 1..%d", (int)given,
                         (int)inputs->rank - 1);
}

fv_value fv_record_softmax(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    return fv_op_softmax(r->tape, inputs[0], layer->options.softmax.axis);
}

int fv_build_rescaling(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_rescaling_options *o = &layer->options.rescaling;
    o->scale = fv_option_float(o->scale, 1.0f);
    if (isfinite(o->scale) && isfinite(o->offset)) return FV_OK;
    return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "scale and offset must be finite");
}

fv_value fv_record_rescaling(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_rescaling_options *o = &layer->options.rescaling;
    fv_value x = inputs[0];
    if (fv_value_valid(r->tape, x) && fv_tape_value_of(r->tape, x)->type != FV_F32) {
        fv_attributes attributes;
        memset(&attributes, 0, sizeof attributes);
        attributes.cast.type = FV_F32;
        x = FV_APPLY(r->tape, FV_OP_cast, &attributes, x);
    }
    return fv_op_affine(r->tape, x, o->scale, o->offset);
}
