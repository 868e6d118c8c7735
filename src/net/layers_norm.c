/* layers_norm.c - layers that normalise within a sample: layer, group (and instance), RMS and unit normalisation. They
 * do the same in training and in inference. */
#include "net/net.h"
#include <math.h>
#include <string.h>

static int check_epsilon(const fv_net *net, const fv_layer *layer, float epsilon) {
    if (epsilon >= 0.0f && epsilon < INFINITY) return FV_OK;
    return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "epsilon %g is not a number of at least 0", epsilon);
}

/* So many of the last axes of a sample; 0: one. */
static int check_axes(const fv_net *net, const fv_layer *layer, const fv_shape *input, int32_t *axes) {
    if (!*axes) *axes = 1;
    if (input->rank < 2) return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "its input has no axis beside the batch");
    if (*axes >= 1 && *axes < input->rank) return FV_OK;
    return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "axes is %d, but a sample has 1..%d of them", (int)*axes,
                         (int)input->rank - 1);
}

/* A weight of the shape of the last axes; the initialiser becomes the one that is used. */
static int add_weight(fv_net *net, fv_layer *layer, const char *name, const fv_shape *input, int32_t axes,
                      fv_initializer *initializer, uint32_t otherwise) {
    const fv_weight *weight = fv_layer_add_weight(net, layer, name, FV_WEIGHT_VECTOR, axes,
                                                  &input->dim[input->rank - axes], *initializer, otherwise);
    if (!weight) return net->object.context->status;
    *initializer = weight->initializer;
    return FV_OK;
}

int fv_build_layer_norm(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_layer_norm_options *o = &layer->options.layer_norm;
    o->epsilon = fv_option_float(o->epsilon, 1e-3f);
    layer->frozen = o->frozen;
    int status = check_epsilon(net, layer, o->epsilon);
    if (!status) status = check_axes(net, layer, inputs, &o->axes);
    if (!status && !o->no_scale)
        status = add_weight(net, layer, "gamma", inputs, o->axes, &o->gamma_initializer, FV_INITIALIZER_ONES);
    if (!status && !o->no_center)
        status = add_weight(net, layer, "beta", inputs, o->axes, &o->beta_initializer, FV_INITIALIZER_ZEROS);
    return status;
}

int fv_build_group_norm(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_group_norm_options *o = &layer->options.group_norm;
    const int64_t channels = inputs->dim[inputs->rank - 1];
    o->epsilon = fv_option_float(o->epsilon, 1e-3f);
    if (!o->groups) o->groups = 32;
    layer->frozen = o->frozen;
    if (check_epsilon(net, layer, o->epsilon)) return FV_ERROR_ARGUMENT;
    if (inputs->rank < 2) return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "its input has no axis beside the batch");
    if (o->groups != -1 && (o->groups < 1 || channels % o->groups))
        return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "%lld channels do not make %d equal groups",
                             (long long)channels, (int)o->groups);
    int status = FV_OK;
    if (!o->no_scale) status = add_weight(net, layer, "gamma", inputs, 1, &o->gamma_initializer, FV_INITIALIZER_ONES);
    if (!status && !o->no_center)
        status = add_weight(net, layer, "beta", inputs, 1, &o->beta_initializer, FV_INITIALIZER_ZEROS);
    return status;
}

int fv_build_rms_norm(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_rms_norm_options *o = &layer->options.rms_norm;
    fv_initializer ones = { .kind = FV_INITIALIZER_ONES };
    o->epsilon = fv_option_float(o->epsilon, 1e-6f);
    layer->frozen = o->frozen;
    int status = check_epsilon(net, layer, o->epsilon);
    if (!status) status = check_axes(net, layer, inputs, &o->axes);
    return status ? status : add_weight(net, layer, "scale", inputs, o->axes, &ones, FV_INITIALIZER_ONES);
}

int fv_build_unit_norm(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    return check_axes(net, layer, inputs, &layer->options.unit_norm.axes);
}

fv_value fv_record_layer_norm(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_layer_norm_options *o = &layer->options.layer_norm;
    int32_t next = 0;
    fv_value gamma = o->no_scale ? (fv_value){ 0 } : fv_record_weight(r, layer, next++);
    fv_value beta = o->no_center ? (fv_value){ 0 } : fv_record_weight(r, layer, next);
    return fv_op_layer_norm(r->tape, inputs[0], gamma, beta, o->axes, o->epsilon);
}

fv_value fv_record_group_norm(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_group_norm_options *o = &layer->options.group_norm;
    const fv_shape *x = &fv_tape_value_of(r->tape, inputs[0])->shape;
    int32_t next = 0, groups = o->groups == -1 ? (int32_t)x->dim[x->rank - 1] : o->groups;
    fv_value gamma = o->no_scale ? (fv_value){ 0 } : fv_record_weight(r, layer, next++);
    fv_value beta = o->no_center ? (fv_value){ 0 } : fv_record_weight(r, layer, next);
    return fv_op_group_norm(r->tape, inputs[0], gamma, beta, groups, o->epsilon);
}

fv_value fv_record_rms_norm(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_rms_norm_options *o = &layer->options.rms_norm;
    return fv_op_rms_norm(r->tape, inputs[0], fv_record_weight(r, layer, 0), o->axes, o->epsilon);
}

fv_value fv_record_unit_norm(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    return fv_op_unit_norm(r->tape, inputs[0], layer->options.unit_norm.axes, 1e-12f); /* Keras's epsilon */
}
