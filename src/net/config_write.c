/* config_write.c - each kind of layer as Keras's config, in the smallest form that Keras 3 accepts: what equals Keras's
 * default is left out. */
#include "net/config.h"
#include <string.h>

/* ---- Pieces ------------------------------------------------------------------------------------------------------ */

static json_t *integers(const int64_t *values, int count) {
    json_t *list = json_array();
    for (int i = 0; list && i < count; i++)
        if (json_array_append_new(list, json_integer(values[i]))) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

json_t *fv_json_four(const int32_t pad[4]) { return integers((const int64_t[]){ pad[0], pad[1], pad[2], pad[3] }, 4); }

bool fv_any_set(const int32_t *values, int count) {
    for (int i = 0; i < count; i++)
        if (values[i]) return true;
    return false;
}

const char *fv_keras_padding_name(int32_t padding) {
    return padding == FV_SAME ? "same" : padding == FV_FULL ? "full" : "valid";
}

void fv_keras_put_weight(json_t **config, const char *weight, const fv_initializer *initializer, uint32_t otherwise,
                       float l1, float l2) {
    char key[64];
    snprintf(key, sizeof key, "%s_initializer", weight);
    if (initializer->kind != otherwise && initializer->kind != FV_INITIALIZER_DEFAULT)
        fv_json_put(config, key, fv_json_initializer(initializer));
    snprintf(key, sizeof key, "%s_regularizer", weight);
    if (l1 != 0.0f || l2 != 0.0f) fv_json_put(config, key, fv_json_regularizer(l1, l2));
}

void fv_keras_write_zeros(const fv_layer *layer, fv_keras_part *part, const int32_t pad[4]) {
    part->class_name = fv_layer_types[layer->kind].sequence ? "ZeroPadding1D" : "ZeroPadding2D";
    part->config =
        json_pack("{s:o,s:s}", "padding", fv_json_sides(layer, pad), "data_format", "channels_last");
}

static void write_activation_after(fv_keras_part parts[FV_PARTS], fv_activation activation) {
    if (activation == FV_LINEAR) return;
    parts[FV_PART_AFTER].class_name = fv_activation_is_ours(activation) ? "fovea>Activation" : "Activation";
    parts[FV_PART_AFTER].config = json_pack("{s:s}", "activation", fv_activation_name(activation));
}

void fv_keras_put_activation(json_t **config, fv_keras_part parts[FV_PARTS], fv_activation activation) {
    if (fv_activation_is_ours(activation)) write_activation_after(parts, activation);
    else if (activation != FV_LINEAR)
        fv_json_put(config, "activation", json_string(fv_activation_name(activation)));
}

void fv_keras_put_constraints(json_t **config, const char *kernel, const fv_constraint *of_kernel, fv_weight_role role,
                              const fv_constraint *of_bias) {
    if (of_kernel->kind) fv_json_put(config, kernel, fv_json_constraint(of_kernel, role));
    if (of_bias->kind) fv_json_put(config, "bias_constraint", fv_json_constraint(of_bias, FV_WEIGHT_VECTOR));
}

/* ---- Windows ----------------------------------------------------------------------------------------------------- */

static void write_pool2d(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    const fv_pool2d_options *o = &layer->options.pool;
    bool average = layer->kind == FV_LAYER_AVG_POOL2D || layer->kind == FV_LAYER_AVG_POOL1D;
    bool padded = o->padding == FV_FULL || fv_any_set(o->pad, 4);
    bool whole = fv_pool2d_is_ours(layer) || layer->kind == FV_LAYER_MAX_UNPOOL2D, split = padded && !whole;
    json_t *config = json_object();
    fv_json_put(&config, "pool_size", fv_json_window(layer, o->size_hw));
    fv_json_put(&config, "strides", fv_json_window(layer, o->stride_hw));
    fv_json_put(&config, "padding", json_string(fv_keras_padding_name(split ? FV_VALID : o->padding)));
    fv_json_put(&config, "data_format", json_string("channels_last"));
    if (whole) {
        if (fv_any_set(o->pad, 4)) fv_json_put(&config, "pad", fv_json_four(o->pad));
        fv_json_put(&config, "ceil_mode", json_boolean(o->ceil_mode));
        if (average) fv_json_put(&config, "exclude_padding", json_boolean(o->exclude_padding));
    }
    if (split) {
        int32_t pad[4];
        memcpy(pad, o->pad, sizeof pad);
        for (int side = 0; side < 4 && o->padding == FV_FULL; side++) pad[side] = o->size_hw[side / 2] - 1;
        fv_keras_write_zeros(layer, &parts[FV_PART_BEFORE], pad);
    }
    parts[FV_PART_MAIN].config = config;
}

/* ---- The others -------------------------------------------------------------------------------------------------- */

static void write_dense(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    const fv_dense_options *o = &layer->options.dense;
    json_t *config = json_object();
    fv_json_put(&config, "units", json_integer(o->units));
    fv_keras_put_activation(&config, parts, o->activation);
    if (o->no_bias) fv_json_put(&config, "use_bias", json_false());
    fv_keras_put_weight(&config, "kernel", &o->kernel_initializer, FV_INITIALIZER_GLOROT_UNIFORM, o->l1, o->l2);
    fv_keras_put_weight(&config, "bias", &o->bias_initializer, FV_INITIALIZER_ZEROS, o->bias_l1, o->bias_l2);
    fv_keras_put_constraints(&config, "kernel_constraint", &o->kernel_constraint, FV_WEIGHT_DENSE_KERNEL, &o->bias_constraint);
    parts[FV_PART_MAIN].config = config;
}

static void write_batch_norm(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    const fv_batch_norm_options *o = &layer->options.batch_norm;
    json_t *config = json_object();
    fv_json_put(&config, "axis", json_integer(-1));
    fv_json_put(&config, "momentum", fv_json_float(o->momentum));
    fv_json_put(&config, "epsilon", fv_json_float(o->epsilon));
    if (o->no_center) fv_json_put(&config, "center", json_false());
    if (o->no_scale) fv_json_put(&config, "scale", json_false());
    fv_keras_put_weight(&config, "gamma", &o->gamma_initializer, FV_INITIALIZER_ONES, 0, 0);
    fv_keras_put_weight(&config, "beta", &o->beta_initializer, FV_INITIALIZER_ZEROS, 0, 0);
    parts[FV_PART_MAIN].config = config;
    write_activation_after(parts, o->activation);
}

/* Keras forgets a list of several axes when it reads HDF5, so that layer is a class of our own, which counts them. */
static void put_last_axes(json_t **config, int32_t axes) {
    if (axes == 1) fv_json_put(config, "axis", json_integer(-1));
    else fv_json_put(config, "axes", json_integer(axes));
}

/* What layer and group normalisation have in common. */
static void put_scale_and_center(json_t **config, float epsilon, bool no_scale, bool no_center,
                                 const fv_initializer *gamma, const fv_initializer *beta) {
    fv_json_put(config, "epsilon", fv_json_float(epsilon));
    if (no_center) fv_json_put(config, "center", json_false());
    if (no_scale) fv_json_put(config, "scale", json_false());
    fv_keras_put_weight(config, "gamma", gamma, FV_INITIALIZER_ONES, 0, 0);
    fv_keras_put_weight(config, "beta", beta, FV_INITIALIZER_ZEROS, 0, 0);
}

static void write_layer_norm(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    const fv_layer_norm_options *o = &layer->options.layer_norm;
    json_t *config = json_object();
    put_last_axes(&config, o->axes);
    put_scale_and_center(&config, o->epsilon, o->no_scale, o->no_center, &o->gamma_initializer, &o->beta_initializer);
    parts[FV_PART_MAIN].config = config;
}

static void write_group_norm(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    const fv_group_norm_options *o = &layer->options.group_norm;
    json_t *config = json_object();
    fv_json_put(&config, "groups", json_integer(o->groups));
    fv_json_put(&config, "axis", json_integer(-1));
    put_scale_and_center(&config, o->epsilon, o->no_scale, o->no_center, &o->gamma_initializer, &o->beta_initializer);
    parts[FV_PART_MAIN].config = config;
}

static void write_rms_norm(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    json_t *config = json_object();
    put_last_axes(&config, layer->options.rms_norm.axes);
    fv_json_put(&config, "epsilon", fv_json_float(layer->options.rms_norm.epsilon));
    parts[FV_PART_MAIN].config = config;
}

static void write_unit_norm(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    json_t *config = json_object();
    put_last_axes(&config, layer->options.unit_norm.axes);
    parts[FV_PART_MAIN].config = config;
}

static void write_global_pool(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    parts[FV_PART_MAIN].config =
        json_pack("{s:s,s:b}", "data_format", "channels_last", "keepdims", (int)layer->options.global_pool.keep_dims);
}

static void write_lrn(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    const fv_lrn_options *o = &layer->options.lrn;
    json_t *config = json_object();
    fv_json_put(&config, "size", json_integer(o->size));
    fv_json_put(&config, "alpha", fv_json_float(o->alpha));
    fv_json_put(&config, "beta", fv_json_float(o->beta));
    fv_json_put(&config, "k", fv_json_float(o->k));
    parts[FV_PART_MAIN].config = config;
}

static void write_dropout(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    json_t *config = json_object();
    fv_json_put(&config, "rate", fv_json_float(layer->options.dropout.rate));
    parts[FV_PART_MAIN].config = config;
}

static void write_gaussian_noise(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    json_t *config = json_object();
    fv_json_put(&config, "stddev", fv_json_float(layer->options.gaussian_noise.deviation));
    parts[FV_PART_MAIN].config = config;
}

static void write_activation(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    parts[FV_PART_MAIN].config =
        json_pack("{s:s}", "activation", fv_activation_name(layer->options.activation.activation));
}

static void write_nothing(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    parts[FV_PART_MAIN].config = json_object();
}

static void write_reshape(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    json_t *config = json_object();
    fv_json_put(&config, "target_shape", integers(layer->options.reshape.shape, layer->options.reshape.rank));
    parts[FV_PART_MAIN].config = config;
}

static void write_zero_padding(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    fv_keras_write_zeros(layer, &parts[FV_PART_MAIN], layer->options.zero_padding.pad);
}

static void write_sampling(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    parts[FV_PART_MAIN].config = fv_keras_write_sampling(layer);
}

static void write_permute(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    const int32_t *dims = layer->options.permute.dims;
    int64_t list[FV_RANK];
    int count = 0;
    for (; count < FV_RANK && dims[count]; count++) list[count] = dims[count];
    json_t *config = json_object();
    fv_json_put(&config, "dims", integers(list, count));
    parts[FV_PART_MAIN].config = config;
}

static void write_repeat_vector(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    parts[FV_PART_MAIN].config = json_pack("{s:i}", "n", (int)layer->options.repeat_vector.times);
}

static void write_embedding(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    const fv_embedding_options *o = &layer->options.embedding;
    json_t *config = json_object();
    fv_json_put(&config, "input_dim", json_integer(o->input_dim));
    fv_json_put(&config, "output_dim", json_integer(o->output_dim));
    fv_keras_put_weight(&config, "embeddings", &o->embeddings_initializer, FV_INITIALIZER_DEFAULT, o->l1, o->l2);
    parts[FV_PART_MAIN].config = config;
}

static void write_dot(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    const fv_dot_options *o = &layer->options.dot;
    parts[FV_PART_MAIN].config =
        json_pack("{s:[i,i],s:b}", "axes", (int)o->axes[0], (int)o->axes[1], "normalize", (int)o->normalize);
}

static void write_concat(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    parts[FV_PART_MAIN].config = json_pack("{s:i}", "axis", (int)layer->options.concat.axis);
}

static void write_merge(const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    parts[FV_PART_MAIN].config = json_object();
    write_activation_after(parts, layer->options.merge.activation);
}

static void (*const writers[FV_LAYER_KIND_COUNT])(const fv_layer *, fv_keras_part[FV_PARTS]) = {
    [FV_LAYER_CONV2D] = fv_keras_write_conv,
    [FV_LAYER_CONV1D] = fv_keras_write_conv,
    [FV_LAYER_CONV2D_TRANSPOSE] = fv_keras_write_conv,
    [FV_LAYER_CONV1D_TRANSPOSE] = fv_keras_write_conv,
    [FV_LAYER_SEPARABLE_CONV2D] = fv_keras_write_conv,
    [FV_LAYER_SEPARABLE_CONV1D] = fv_keras_write_conv,
    [FV_LAYER_LOCALLY_CONNECTED2D] = fv_keras_write_conv,
    [FV_LAYER_LOCALLY_CONNECTED1D] = fv_keras_write_conv,
    [FV_LAYER_BIAS] = fv_keras_write_bias,
    [FV_LAYER_DENSE] = write_dense,
    [FV_LAYER_MAX_POOL2D] = write_pool2d,
    [FV_LAYER_AVG_POOL2D] = write_pool2d,
    [FV_LAYER_GLOBAL_AVG_POOL] = write_global_pool,
    [FV_LAYER_GLOBAL_MAX_POOL] = write_global_pool,
    [FV_LAYER_BATCH_NORM] = write_batch_norm,
    [FV_LAYER_LRN] = write_lrn,
    [FV_LAYER_LAYER_NORM] = write_layer_norm,
    [FV_LAYER_GROUP_NORM] = write_group_norm,
    [FV_LAYER_RMS_NORM] = write_rms_norm,
    [FV_LAYER_UNIT_NORM] = write_unit_norm,
    [FV_LAYER_DROPOUT] = write_dropout,
    [FV_LAYER_SPATIAL_DROPOUT1D] = write_dropout,
    [FV_LAYER_SPATIAL_DROPOUT2D] = write_dropout,
    [FV_LAYER_ALPHA_DROPOUT] = write_dropout,
    [FV_LAYER_GAUSSIAN_DROPOUT] = write_dropout,
    [FV_LAYER_GAUSSIAN_NOISE] = write_gaussian_noise,
    [FV_LAYER_ACTIVATION] = write_activation,
    [FV_LAYER_LEAKY_RELU] = fv_keras_write_leaky_relu,
    [FV_LAYER_ELU] = fv_keras_write_elu,
    [FV_LAYER_RELU] = fv_keras_write_relu,
    [FV_LAYER_PRELU] = fv_keras_write_prelu,
    [FV_LAYER_SOFTMAX] = fv_keras_write_softmax,
    [FV_LAYER_RESCALING] = fv_keras_write_rescaling,
    [FV_LAYER_FLATTEN] = write_nothing,
    [FV_LAYER_RESHAPE] = write_reshape,
    [FV_LAYER_ZERO_PADDING] = write_zero_padding,
    [FV_LAYER_MAX_POOL1D] = write_pool2d,
    [FV_LAYER_AVG_POOL1D] = write_pool2d,
    [FV_LAYER_MAX_UNPOOL2D] = write_pool2d,
    [FV_LAYER_GLOBAL_AVG_POOL1D] = write_global_pool,
    [FV_LAYER_GLOBAL_MAX_POOL1D] = write_global_pool,
    [FV_LAYER_ADAPTIVE_MAX_POOL2D] = write_sampling,
    [FV_LAYER_ADAPTIVE_AVG_POOL2D] = write_sampling,
    [FV_LAYER_ZERO_PADDING1D] = write_zero_padding,
    [FV_LAYER_PADDING2D] = write_sampling,
    [FV_LAYER_CROPPING2D] = write_sampling,
    [FV_LAYER_CROPPING1D] = write_sampling,
    [FV_LAYER_UP_SAMPLING2D] = write_sampling,
    [FV_LAYER_UP_SAMPLING1D] = write_sampling,
    [FV_LAYER_RESIZING] = write_sampling,
    [FV_LAYER_SPACE_TO_DEPTH] = write_sampling,
    [FV_LAYER_DEPTH_TO_SPACE] = write_sampling,
    [FV_LAYER_CHANNEL_SHUFFLE] = write_sampling,
    [FV_LAYER_PERMUTE] = write_permute,
    [FV_LAYER_REPEAT_VECTOR] = write_repeat_vector,
    [FV_LAYER_EMBEDDING] = write_embedding,
    [FV_LAYER_DOT] = write_dot,
    [FV_LAYER_CONCAT] = write_concat,
    [FV_LAYER_ADD] = write_merge,
    [FV_LAYER_SUBTRACT] = write_merge,
    [FV_LAYER_MULTIPLY] = write_merge,
    [FV_LAYER_MAXIMUM] = write_merge,
    [FV_LAYER_MINIMUM] = write_merge,
    [FV_LAYER_AVERAGE] = write_merge,
};

/* ---- One layer --------------------------------------------------------------------------------------------------- */

/* "c1_pad", and should a layer of the net be called so, "c1_pad_1", ... */
static void name_part(const fv_net *net, const fv_layer *layer, const char *suffix, char name[FV_KERAS_NAME]) {
    bool taken = true;
    for (int attempt = 0; taken; attempt++) {
        snprintf(name, FV_KERAS_NAME, attempt ? "%.200s_%s_%d" : "%.200s_%s", layer->name, suffix, attempt);
        taken = false;
        for (int32_t i = 0; i < net->layer_count && !taken; i++) taken = !strcmp(net->layer[i].name, name);
    }
}

void fv_keras_parts_free(fv_keras_part parts[FV_PARTS]) {
    for (int i = 0; i < FV_PARTS; i++) json_decref(parts[i].config);
    memset(parts, 0, FV_PARTS * sizeof *parts);
}

int fv_keras_write(const fv_net *net, const fv_layer *layer, fv_keras_part parts[FV_PARTS]) {
    memset(parts, 0, FV_PARTS * sizeof *parts);
    writers[layer->kind](layer, parts);
    parts[FV_PART_MAIN].class_name = fv_layer_class_name(layer);
    snprintf(parts[FV_PART_MAIN].name, FV_KERAS_NAME, "%s", layer->name);
    if (parts[FV_PART_BEFORE].class_name) name_part(net, layer, "pad", parts[FV_PART_BEFORE].name);
    if (parts[FV_PART_AFTER].class_name) name_part(net, layer, "activation", parts[FV_PART_AFTER].name);
    if (layer->frozen) fv_json_put(&parts[FV_PART_MAIN].config, "trainable", json_false());
    for (int i = 0; i < FV_PARTS; i++)
        if (parts[i].class_name && !parts[i].config) {
            fv_keras_parts_free(parts);
            return fv_fail_memory(net->object.context, "the description of a net", 0);
        }
    return FV_OK;
}
