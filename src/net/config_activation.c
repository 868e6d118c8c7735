/* config_activation.c - activations that are layers of their own, Softmax and Rescaling in Keras's config, both ways. */
#include "net/config.h"
#include <math.h>
#include <string.h>

static json_t *with_float(const char *key, float value) {
    json_t *config = json_object();
    fv_json_put(&config, key, fv_json_float(value));
    return config;
}

/* Keras's own default goes in first; what a file says with 0 must stay 0. */
static void read_float(fv_keras_reader *r, const char *keys, float otherwise, float *out) {
    *out = otherwise;
    fv_keras_float(r, keys, out);
    *out = fv_option_given(*out);
}

void fv_keras_read_leaky_relu(fv_keras_reader *r, fv_layer_options *options) {
    read_float(r, "negative_slope|alpha", 0.3f, &options->leaky_relu.negative_slope);
}
void fv_keras_write_leaky_relu(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    parts[FV_PART_MAIN].config = with_float("negative_slope", layer->options.leaky_relu.negative_slope);
}

void fv_keras_read_elu(fv_keras_reader *r, fv_layer_options *options) {
    read_float(r, "alpha", 1.0f, &options->elu.alpha);
}
void fv_keras_write_elu(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    parts[FV_PART_MAIN].config = with_float("alpha", layer->options.elu.alpha);
}

void fv_keras_read_relu(fv_keras_reader *r, fv_layer_options *options) {
    fv_relu_options *o = &options->relu;
    if (!strcmp(r->class_name, "ThresholdedReLU")) o->threshold = 1; /* of Keras 2 */
    if (fv_keras_value(r, "max_value")) read_float(r, "max_value", 0, &o->max_value);
    fv_keras_float(r, "negative_slope", &o->negative_slope);
    fv_keras_float(r, "threshold|theta", &o->threshold);
}
void fv_keras_write_relu(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    const fv_relu_options *o = &layer->options.relu;
    json_t *config = json_object();
    if (isfinite(o->max_value)) fv_json_put(&config, "max_value", fv_json_float(o->max_value));
    if (o->negative_slope != 0.0f) fv_json_put(&config, "negative_slope", fv_json_float(o->negative_slope));
    if (o->threshold != 0.0f) fv_json_put(&config, "threshold", fv_json_float(o->threshold));
    parts[FV_PART_MAIN].config = config;
}

void fv_keras_read_prelu(fv_keras_reader *r, fv_layer_options *options) {
    fv_prelu_options *o = &options->prelu;
    const json_t *axes = fv_keras_value(r, "shared_axes");
    size_t count = json_is_array(axes) ? json_array_size(axes) : axes != NULL; /* a list, or one number */
    if (count > FV_RANK) fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "more than %d shared axes are not supported", FV_RANK);
    for (size_t i = 0; i < count && count <= FV_RANK; i++) {
        const json_t *axis = json_is_array(axes) ? json_array_get(axes, i) : axes;
        if (!json_is_integer(axis) || json_integer_value(axis) < 1 || json_integer_value(axis) >= FV_RANK)
            fv_keras_fail(r, FV_ERROR_FORMAT, "option 'shared_axes' is not a list of axes of a sample");
        else
            o->shared_axes[i] = (int32_t)json_integer_value(axis);
    }
    fv_keras_initializer(r, "alpha_initializer|init", &o->alpha_initializer);
    fv_keras_regularizer(r, "alpha_regularizer", &o->l1, &o->l2);
}
void fv_keras_write_prelu(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    const fv_prelu_options *o = &layer->options.prelu;
    json_t *config = json_object(), *axes = json_array();
    bool whole = axes != NULL;
    for (int i = 0; i < FV_RANK && o->shared_axes[i] && whole; i++)
        whole = !json_array_append_new(axes, json_integer(o->shared_axes[i]));
    if (!whole) json_decref(axes);
    fv_json_put(&config, "shared_axes", whole ? axes : NULL);
    if (o->alpha_initializer.kind != FV_INITIALIZER_ZEROS)
        fv_json_put(&config, "alpha_initializer", fv_json_initializer(&o->alpha_initializer));
    if (o->l1 != 0.0f || o->l2 != 0.0f) fv_json_put(&config, "alpha_regularizer", fv_json_regularizer(o->l1, o->l2));
    parts[FV_PART_MAIN].config = config;
}

/* The axis may be a number or a list of one. */
void fv_keras_read_softmax(fv_keras_reader *r, fv_layer_options *options) {
    const json_t *axis = fv_keras_value(r, "axis");
    if (json_is_array(axis) && json_array_size(axis) == 1) axis = json_array_get(axis, 0);
    if (!axis) return;
    json_int_t number = json_integer_value(axis);
    if (!json_is_integer(axis) || number == 0 || number < -FV_RANK || number > FV_RANK)
        fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "option 'axis' is not one axis of a sample");
    else
        options->softmax.axis = (int32_t)number;
}
void fv_keras_write_softmax(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    parts[FV_PART_MAIN].config = json_pack("{s:i}", "axis", (int)layer->options.softmax.axis);
}

void fv_keras_read_rescaling(fv_keras_reader *r, fv_layer_options *options) {
    fv_rescaling_options *o = &options->rescaling;
    if (!fv_keras_value(r, "scale")) fv_keras_fail(r, FV_ERROR_FORMAT, "option 'scale' is missing");
    read_float(r, "scale", 1, &o->scale);
    fv_keras_float(r, "offset", &o->offset);
}
void fv_keras_write_rescaling(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    json_t *config = with_float("scale", layer->options.rescaling.scale);
    fv_json_put(&config, "offset", fv_json_float(layer->options.rescaling.offset));
    parts[FV_PART_MAIN].config = config;
}
