/* config_conv.c - convolutions as Keras's config, both ways. What Keras has no word for is written as zeros around the
 * input and a layer without padding, or under a class of our own. */
#include "net/config.h"
#include <string.h>

static bool is_ours(const char *class_name) { return !strncmp(class_name, "fovea>", 6); }

int32_t *fv_keras_split_padding(fv_layer_kind kind, fv_layer_options *options, int32_t **mode) {
    switch (kind) {
    case FV_LAYER_AVG_POOL2D: return *mode = &options->pool.padding, options->pool.pad;
    case FV_LAYER_CONV2D:
    case FV_LAYER_CONV1D:
    case FV_LAYER_SEPARABLE_CONV2D:
    case FV_LAYER_SEPARABLE_CONV1D:
    case FV_LAYER_LOCALLY_CONNECTED2D:
    case FV_LAYER_LOCALLY_CONNECTED1D: return *mode = &options->conv2d.padding, options->conv2d.pad;
    default: return NULL;
    }
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

static void put_zeros(const fv_layer *layer, fv_keras_part *part) {
    const fv_conv2d_options *o = &layer->options.conv2d;
    int32_t pad[4];
    memcpy(pad, o->pad, sizeof pad);
    for (int side = 0; side < 4 && o->padding == FV_FULL; side++)
        pad[side] = o->dilation_hw[side / 2] * (o->kernel_hw[side / 2] - 1);
    fv_keras_write_zeros(layer, part, pad);
}

/* Zeros before that are just what the kernel looks back. */
static bool is_causal(const fv_layer *layer) {
    const fv_conv2d_options *o = &layer->options.conv2d;
    return layer->kind == FV_LAYER_CONV1D && !fv_conv2d_is_depthwise(layer) && o->padding == FV_VALID &&
           o->pad[2] > 0 && !o->pad[3] && o->pad[2] == o->dilation_hw[1] * (o->kernel_hw[1] - 1);
}

static void put_window(json_t **config, const fv_layer *layer, bool whole, fv_keras_part parts[FV_PARTS]) {
    const fv_conv2d_options *o = &layer->options.conv2d;
    bool causal = !whole && is_causal(layer);
    bool padded = o->padding == FV_FULL || fv_any_set(o->pad, 4), split = padded && !whole && !causal;
    if (split) put_zeros(layer, &parts[FV_PART_BEFORE]);
    fv_json_put(config, "kernel_size", fv_json_window(layer, o->kernel_hw));
    fv_json_put(config, "strides", fv_json_window(layer, o->stride_hw));
    fv_json_put(config, "padding",
                json_string(causal ? "causal" : fv_keras_padding_name(split ? FV_VALID : o->padding)));
    if (whole && fv_any_set(o->pad, 4)) fv_json_put(config, "pad", fv_json_four(o->pad));
    fv_json_put(config, "data_format", json_string("channels_last"));
    if (o->dilation_hw[0] > 1 || o->dilation_hw[1] > 1)
        fv_json_put(config, "dilation_rate", fv_json_window(layer, o->dilation_hw));
}

static void put_separable(json_t **config, const fv_layer *layer) {
    const fv_separable_options *s = &layer->options.separable;
    fv_json_put(config, "depth_multiplier", json_integer(s->multiplier));
    fv_keras_put_weight(config, "depthwise", &s->depthwise_initializer, FV_INITIALIZER_GLOROT_UNIFORM, s->depthwise_l1,
                        s->depthwise_l2);
}

/* Keras's None where that gives the same size. */
static void put_output_padding(json_t **config, const fv_layer *layer) {
    const fv_transpose_options *t = &layer->options.transpose;
    if (t->exact) fv_json_put(config, "output_padding", fv_json_window(layer, t->output_padding));
}

void fv_keras_write_conv(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    const fv_conv2d_options *o = &layer->options.conv2d;
    bool whole = is_ours(fv_layer_class_name(layer)), depthwise = fv_conv2d_is_depthwise(layer) && !whole;
    bool separable = layer->kind == FV_LAYER_SEPARABLE_CONV2D || layer->kind == FV_LAYER_SEPARABLE_CONV1D;
    bool transpose = layer->kind == FV_LAYER_CONV2D_TRANSPOSE || layer->kind == FV_LAYER_CONV1D_TRANSPOSE;
    bool one = depthwise && !separable;
    json_t *config = json_object();
    if (one) fv_json_put(&config, "depth_multiplier", json_integer(o->filters / o->groups));
    else fv_json_put(&config, "filters", json_integer(o->filters));
    put_window(&config, layer, whole, parts);
    if (separable) put_separable(&config, layer);
    if (transpose) put_output_padding(&config, layer);
    if (o->groups > 1 && !one) fv_json_put(&config, "groups", json_integer(o->groups));
    fv_keras_put_activation(&config, parts, o->activation);
    if (o->no_bias) fv_json_put(&config, "use_bias", json_false());
    fv_keras_put_weight(&config, separable ? "pointwise" : one ? "depthwise" : "kernel", &o->kernel_initializer,
                        FV_INITIALIZER_GLOROT_UNIFORM, o->l1, o->l2);
    fv_keras_put_weight(&config, "bias", &o->bias_initializer, FV_INITIALIZER_ZEROS, o->bias_l1, o->bias_l2);
    fv_keras_put_constraints(&config, one ? "depthwise_constraint" : "kernel_constraint", &o->kernel_constraint,
                             fv_conv2d_is_depthwise(layer) ? FV_WEIGHT_DEPTHWISE_KERNEL : FV_WEIGHT_CONV_KERNEL,
                             &o->bias_constraint);
    parts[FV_PART_MAIN].config = config;
}

void fv_keras_write_bias(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    const fv_bias_options *o = &layer->options.bias;
    json_t *config = json_object();
    fv_keras_put_activation(&config, parts, o->activation);
    fv_keras_put_weight(&config, "bias", &o->bias_initializer, FV_INITIALIZER_ZEROS, o->l1, o->l2);
    parts[FV_PART_MAIN].config = config;
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

static void read_window(fv_keras_reader *r, fv_conv2d_options *o) {
    fv_keras_pair(r, "kernel_size|filter_length", o->kernel_hw);
    fv_keras_int(r, "nb_row", &o->kernel_hw[0]);
    fv_keras_int(r, "nb_col", &o->kernel_hw[1]);
    fv_keras_pair(r, "strides|subsample|subsample_length", o->stride_hw);
    fv_keras_pair(r, "dilation_rate", o->dilation_hw);
    fv_keras_padding(r, &o->padding, o->pad);
    fv_keras_positive(r, "kernel_size", o->kernel_hw[0] < o->kernel_hw[1] ? o->kernel_hw[0] : o->kernel_hw[1]);
}

static void read_rest(fv_keras_reader *r, fv_conv2d_options *o, const char *initializer, const char *regularizer,
                      const char *constraint, fv_weight_role role) {
    fv_keras_activation(r, "activation", &o->activation);
    fv_keras_use_bias(r, &o->no_bias);
    fv_keras_initializer(r, initializer, &o->kernel_initializer);
    fv_keras_initializer(r, "bias_initializer", &o->bias_initializer);
    fv_keras_regularizer(r, regularizer, &o->l1, &o->l2);
    fv_keras_regularizer(r, "bias_regularizer|b_regularizer", &o->bias_l1, &o->bias_l2);
    fv_keras_constraint(r, constraint, role, &o->kernel_constraint);
    fv_keras_constraint(r, "bias_constraint", FV_WEIGHT_VECTOR, &o->bias_constraint);
}

void fv_keras_read_conv(fv_keras_reader *r, fv_layer_options *options) {
    fv_conv2d_options *o = &options->conv2d;
    fv_keras_int(r, "filters|nb_filter", &o->filters);
    if (!fv_keras_positive(r, "filters", o->filters)) return;
    read_window(r, o);
    fv_keras_int(r, "groups", &o->groups);
    read_rest(r, o, "kernel_initializer|init", "kernel_regularizer|W_regularizer", "kernel_constraint",
              FV_WEIGHT_CONV_KERNEL);
    o->flip_kernel = !strncmp(r->class_name, "fovea>Flip", 10);
}

void fv_keras_read_depthwise(fv_keras_reader *r, fv_layer_options *options) {
    fv_conv2d_options *o = &options->conv2d;
    int32_t multiplier = 1;
    fv_keras_int(r, "depth_multiplier", &multiplier);
    if (!fv_keras_positive(r, "depth_multiplier", multiplier)) return;
    read_window(r, o);
    read_rest(r, o, "depthwise_initializer", "depthwise_regularizer", "depthwise_constraint",
              FV_WEIGHT_DEPTHWISE_KERNEL);
    int32_t rank = r->sequence ? 3 : 4;
    int64_t channels = r->input && r->input->rank == rank ? r->input->dim[rank - 1] : 0, filters;
    if (channels < 1 || __builtin_mul_overflow(channels, (int64_t)multiplier, &filters) || filters > INT32_MAX) {
        fv_keras_fail(r, FV_ERROR_SHAPE, "its input does not say how many channels there are");
        return;
    }
    o->groups = (int32_t)channels;
    o->filters = (int32_t)filters;
}

void fv_keras_read_separable(fv_keras_reader *r, fv_layer_options *options) {
    fv_separable_options *s = &options->separable;
    fv_keras_int(r, "filters", &s->conv.filters);
    if (!fv_keras_positive(r, "filters", s->conv.filters)) return;
    s->multiplier = 1;
    fv_keras_int(r, "depth_multiplier", &s->multiplier);
    fv_keras_positive(r, "depth_multiplier", s->multiplier);
    read_window(r, &s->conv);
    read_rest(r, &s->conv, "pointwise_initializer", "pointwise_regularizer", "pointwise_constraint",
              FV_WEIGHT_CONV_KERNEL);
    fv_keras_initializer(r, "depthwise_initializer", &s->depthwise_initializer);
    fv_keras_regularizer(r, "depthwise_regularizer", &s->depthwise_l1, &s->depthwise_l2);
}

/* Output padding may be zero, and is then not the same as none. */
void fv_keras_read_transpose(fv_keras_reader *r, fv_layer_options *options) {
    fv_transpose_options *t = &options->transpose;
    fv_keras_read_conv(r, options);
    if (t->conv.groups > 1 && !is_ours(r->class_name))
        fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "Keras's transposed convolution has no groups");
    const json_t *value = fv_keras_value(r, "output_padding");
    if (!value) return;
    t->exact = true;
    for (int axis = r->sequence; axis < 2; axis++) {
        const json_t *pixels = json_is_array(value) ? json_array_get(value, r->sequence ? 0 : (size_t)axis) : value;
        json_int_t number = json_integer_value(pixels);
        if (!json_is_integer(pixels) || number < 0 || number > INT32_MAX)
            fv_keras_fail(r, FV_ERROR_FORMAT, "option 'output_padding' is not a number of pixels for each axis");
        else t->output_padding[axis] = (int32_t)number;
    }
}

void fv_keras_read_local(fv_keras_reader *r, fv_layer_options *options) {
    int32_t implementation = 1;
    fv_keras_read_conv(r, options);
    fv_keras_int(r, "implementation", &implementation);
    if (implementation != 1)
        fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "implementation %d is not supported: only 1 keeps a kernel a position",
                      (int)implementation);
}

void fv_keras_read_bias(fv_keras_reader *r, fv_layer_options *options) {
    fv_bias_options *o = &options->bias;
    fv_keras_activation(r, "activation", &o->activation);
    fv_keras_initializer(r, "bias_initializer", &o->bias_initializer);
    fv_keras_regularizer(r, "bias_regularizer", &o->l1, &o->l2);
}
