/* config_read.c - one layer of a Keras file: a table of the classes that are read, with the options each of them knows.
 * An option that is not in the table and says anything at all is refused by name, because it would change what the
 * layer does. */
#include "net/config.h"
#include <string.h>

/* ---- Pieces ------------------------------------------------------------------------------------------------------ */

void fv_keras_padding(fv_keras_reader *r, int32_t *padding, int32_t pad[4]) {
    const json_t *value = fv_keras_value(r, "padding|border_mode"), *sides = json_object_get(r->config, "pad");
    const char *name = value ? json_string_value(value) : "valid";
    bool ours = !strncmp(r->class_name, "fovea>", 6);
    if (name && !strcmp(name, "valid")) *padding = FV_VALID;
    else if (name && !strcmp(name, "same")) *padding = FV_SAME;
    else if (name && ours && !strcmp(name, "full")) *padding = FV_FULL;
    else if (name && r->sequence && !strcmp(name, "causal")) *padding = FV_CAUSAL;
    else fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "padding '%.40s' is neither valid nor same", name ? name : "?");
    for (size_t i = 0; ours && i < 4 && i < json_array_size(sides); i++) {
        json_int_t pixels = json_integer_value(json_array_get(sides, i));
        if (pixels < 0 || pixels > INT32_MAX)
            fv_keras_fail(r, FV_ERROR_FORMAT, "option 'pad' is not four numbers of pixels");
        else pad[i] = (int32_t)pixels;
    }
}

bool fv_keras_positive(fv_keras_reader *r, const char *option, int32_t value) {
    if (value >= 1) return true;
    fv_keras_fail(r, FV_ERROR_FORMAT, "option '%s' is missing or below 1", option);
    return false;
}

void fv_keras_use_bias(fv_keras_reader *r, bool *no_bias) {
    bool use = true;
    fv_keras_bool(r, "use_bias|bias", &use);
    *no_bias = !use;
}

/* ---- Windows ----------------------------------------------------------------------------------------------------- */

static void read_pool2d(fv_keras_reader *r, fv_layer_options *options) {
    fv_pool2d_options *o = &options->pool;
    if (r->sequence) o->size_hw[0] = 1, o->size_hw[1] = 2;
    fv_keras_pair(r, "pool_size|pool_length", o->size_hw);
    fv_keras_pair(r, "strides|stride", o->stride_hw);
    fv_keras_padding(r, &o->padding, o->pad);
    if (strncmp(r->class_name, "fovea>", 6)) return;
    fv_keras_bool(r, "ceil_mode", &o->ceil_mode);
    fv_keras_bool(r, "exclude_padding", &o->exclude_padding);
}

static void read_global_pool(fv_keras_reader *r, fv_layer_options *options) {
    fv_keras_bool(r, "keepdims", &options->global_pool.keep_dims);
}

static void read_zero_padding(fv_keras_reader *r, fv_layer_options *options) {
    fv_keras_sides(r, "padding", 1, options->zero_padding.pad); /* Keras's default */
}

/* ---- The others -------------------------------------------------------------------------------------------------- */

static void read_dense(fv_keras_reader *r, fv_layer_options *options) {
    fv_dense_options *o = &options->dense;
    fv_keras_int(r, "units|output_dim", &o->units);
    fv_keras_activation(r, "activation", &o->activation);
    fv_keras_use_bias(r, &o->no_bias);
    fv_keras_initializer(r, "kernel_initializer|init", &o->kernel_initializer);
    fv_keras_initializer(r, "bias_initializer", &o->bias_initializer);
    fv_keras_regularizer(r, "kernel_regularizer|W_regularizer", &o->l1, &o->l2);
    fv_keras_regularizer(r, "bias_regularizer|b_regularizer", &o->bias_l1, &o->bias_l2);
    fv_keras_constraint(r, "kernel_constraint", FV_WEIGHT_DENSE_KERNEL, &o->kernel_constraint);
    fv_keras_constraint(r, "bias_constraint", FV_WEIGHT_VECTOR, &o->bias_constraint);
    fv_keras_positive(r, "units", o->units);
}

/* The axis must be the last one, which is where the channels are. */
static void read_last_axis(fv_keras_reader *r) {
    json_t *value = fv_keras_value(r, "axis");
    if (json_is_array(value) && json_array_size(value) == 1) value = json_array_get(value, 0);
    if (!value || (json_is_integer(value) && json_integer_value(value) == -1)) return;
    if (json_is_integer(value) && r->input && json_integer_value(value) == r->input->rank - 1) return;
    fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "only the last axis is supported");
}

static void read_batch_norm(fv_keras_reader *r, fv_layer_options *options) {
    fv_batch_norm_options *o = &options->batch_norm;
    bool center = true, scale = true;
    int32_t mode = 0;
    read_last_axis(r);
    o->momentum = 0.99f;
    o->epsilon = 1e-3f;
    fv_keras_float(r, "momentum", &o->momentum);
    fv_keras_float(r, "epsilon", &o->epsilon);
    fv_keras_bool(r, "center", &center);
    fv_keras_bool(r, "scale", &scale);
    fv_keras_int(r, "mode", &mode);
    if (mode) fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "mode %d of Keras 1 is not supported", (int)mode);
    fv_keras_initializer(r, "gamma_initializer|gamma_init", &o->gamma_initializer);
    fv_keras_initializer(r, "beta_initializer|beta_init", &o->beta_initializer);
    o->momentum = fv_option_given(o->momentum);
    o->epsilon = fv_option_given(o->epsilon);
    o->no_center = !center;
    o->no_scale = !scale;
}

/* The axes must be the last ones: -1, rank - 1, or a list of all from some axis on, in any order. */
static void read_last_axes(fv_keras_reader *r, int32_t *axes) {
    const json_t *value = fv_keras_value(r, "axis");
    const int32_t rank = r->input ? r->input->rank : 0;
    const size_t count = json_is_array(value) ? json_array_size(value) : 1;
    uint32_t seen = 0;
    if (!strncmp(r->class_name, "fovea>", 6)) { /* ours counts them */
        fv_keras_int(r, "axes", axes);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *axis = json_is_array(value) ? json_array_get(value, i) : value;
        json_int_t number = value ? json_integer_value(axis) : -1;
        if (number >= 0) number -= rank; /* from the end: -1 is the last */
        if ((!value || json_is_integer(axis)) && number < 0 && number >= -FV_RANK) seen |= 1u << (-1 - number);
    }
    if (count > 0 && count < FV_RANK && seen == (1u << count) - 1) *axes = (int32_t)count;
    else fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "only the last axes are supported");
}

static void read_scale_and_center(fv_keras_reader *r, float *epsilon, bool *no_scale, bool *no_center,
                                  fv_initializer *gamma, fv_initializer *beta) {
    bool center = true, scale = true;
    *epsilon = 1e-3f;
    fv_keras_float(r, "epsilon", epsilon);
    *epsilon = fv_option_given(*epsilon);
    fv_keras_bool(r, "center", &center);
    fv_keras_bool(r, "scale", &scale);
    *no_center = !center;
    *no_scale = !scale;
    fv_keras_initializer(r, "gamma_initializer", gamma);
    fv_keras_initializer(r, "beta_initializer", beta);
}

static void read_layer_norm(fv_keras_reader *r, fv_layer_options *options) {
    fv_layer_norm_options *o = &options->layer_norm;
    read_last_axes(r, &o->axes);
    read_scale_and_center(r, &o->epsilon, &o->no_scale, &o->no_center, &o->gamma_initializer, &o->beta_initializer);
}

/* Also the classes of TensorFlow Addons, which write every option. */
static void read_group_norm(fv_keras_reader *r, fv_layer_options *options) {
    fv_group_norm_options *o = &options->group_norm;
    read_last_axis(r);
    o->groups = strstr(r->class_name, "Instance") ? -1 : 32;
    fv_keras_int(r, "groups", &o->groups);
    if (o->groups < 1 && o->groups != -1) fv_keras_fail(r, FV_ERROR_FORMAT, "option 'groups' is neither -1 nor positive");
    read_scale_and_center(r, &o->epsilon, &o->no_scale, &o->no_center, &o->gamma_initializer, &o->beta_initializer);
}

static void read_rms_norm(fv_keras_reader *r, fv_layer_options *options) {
    fv_rms_norm_options *o = &options->rms_norm;
    o->epsilon = 1e-6f;
    read_last_axes(r, &o->axes);
    fv_keras_float(r, "epsilon", &o->epsilon);
    o->epsilon = fv_option_given(o->epsilon);
}

static void read_unit_norm(fv_keras_reader *r, fv_layer_options *options) {
    read_last_axes(r, &options->unit_norm.axes);
}

static void read_gaussian_noise(fv_keras_reader *r, fv_layer_options *options) {
    float deviation = -1;
    fv_keras_float(r, "stddev|sigma", &deviation);
    if (deviation < 0) fv_keras_fail(r, FV_ERROR_FORMAT, "option 'stddev' is missing or negative");
    options->gaussian_noise.deviation = fv_option_given(deviation);
}

static void read_lrn(fv_keras_reader *r, fv_layer_options *options) {
    fv_lrn_options *o = &options->lrn;
    *o = (fv_lrn_options){ .alpha = 1e-4f, .beta = 0.75f, .k = 2.0f };
    fv_keras_int(r, "size", &o->size);
    fv_keras_float(r, "alpha", &o->alpha);
    fv_keras_float(r, "beta", &o->beta);
    fv_keras_float(r, "k", &o->k);
    o->alpha = fv_option_given(o->alpha);
    o->beta = fv_option_given(o->beta);
    o->k = fv_option_given(o->k);
}

static void read_dropout(fv_keras_reader *r, fv_layer_options *options) {
    float rate = -1;
    fv_keras_float(r, "rate|p", &rate);
    if (rate < 0) fv_keras_fail(r, FV_ERROR_FORMAT, "option 'rate' is missing or negative");
    options->dropout.rate = fv_option_given(rate);
}

static void read_activation(fv_keras_reader *r, fv_layer_options *options) {
    fv_keras_activation(r, "activation", &options->activation.activation);
}

static void read_nothing(fv_keras_reader *r, fv_layer_options *options) {}

static void read_reshape(fv_keras_reader *r, fv_layer_options *options) {
    const json_t *shape = fv_keras_value(r, "target_shape|dims");
    size_t rank = json_array_size(shape);
    if (rank < 1 || rank >= FV_RANK)
        fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "option 'target_shape' does not have 1 to %d sizes", FV_RANK - 1);
    options->reshape.rank = (int32_t)(rank < FV_RANK ? rank : 0);
    for (size_t i = 0; i < rank && rank < FV_RANK; i++)
        options->reshape.shape[i] = json_integer_value(json_array_get(shape, i));
}

static void read_permute(fv_keras_reader *r, fv_layer_options *options) {
    const json_t *dims = fv_keras_value(r, "dims");
    size_t count = json_array_size(dims);
    if (count < 1 || count >= FV_RANK)
        fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "option 'dims' does not have 1 to %d axes", FV_RANK - 1);
    for (size_t i = 0; i < count && count < FV_RANK; i++) {
        json_int_t axis = json_integer_value(json_array_get(dims, i));
        options->permute.dims[i] = axis >= 0 && axis < FV_RANK ? (int32_t)axis : -1;
    }
}

static void read_repeat_vector(fv_keras_reader *r, fv_layer_options *options) {
    fv_keras_int(r, "n", &options->repeat_vector.times);
    fv_keras_positive(r, "n", options->repeat_vector.times);
}

static void read_embedding(fv_keras_reader *r, fv_layer_options *options) {
    fv_embedding_options *o = &options->embedding;
    fv_keras_int(r, "input_dim", &o->input_dim);
    fv_keras_int(r, "output_dim", &o->output_dim);
    fv_keras_initializer(r, "embeddings_initializer|init", &o->embeddings_initializer);
    fv_keras_regularizer(r, "embeddings_regularizer|W_regularizer", &o->l1, &o->l2);
    if (fv_keras_positive(r, "input_dim", o->input_dim)) fv_keras_positive(r, "output_dim", o->output_dim);
}

/* One axis for both inputs, or one for each; the batch is 0. */
static void read_dot(fv_keras_reader *r, fv_layer_options *options) {
    const json_t *axes = fv_keras_value(r, "axes");
    for (int i = 0; i < 2; i++) {
        const json_t *axis = json_is_array(axes) ? json_array_get(axes, (size_t)i) : axes;
        json_int_t number = json_integer_value(axis);
        if (!json_is_integer(axis) || !number || number < -FV_RANK || number >= FV_RANK)
            fv_keras_fail(r, FV_ERROR_FORMAT, "option 'axes' is not one axis of a sample for each input");
        else options->dot.axes[i] = (int32_t)number;
    }
    fv_keras_bool(r, "normalize", &options->dot.normalize);
}

static void read_concat(fv_keras_reader *r, fv_layer_options *options) {
    int32_t axis = -1;
    fv_keras_int(r, "axis", &axis);
    if (!axis) fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "batches cannot be joined");
    options->concat.axis = axis;
}

/* ---- The table --------------------------------------------------------------------------------------------------- */

#define WEIGHTED "activation use_bias bias bias_initializer bias_regularizer b_regularizer init W_regularizer "
#define CONSTRAINED "kernel_constraint bias_constraint "
#define SCALE_AND_CENTER "epsilon center scale gamma_initializer beta_initializer "
#define CONVOLUTION                                                                                                    \
    WEIGHTED "kernel_size strides padding border_mode dilation_rate filters kernel_initializer kernel_regularizer "
#define SEPARABLE                                                                                                      \
    "depth_multiplier depthwise_initializer depthwise_regularizer pointwise_initializer pointwise_regularizer groups "

static const struct keras_class {
    const char *name;
    fv_layer_kind kind;
    void (*read)(fv_keras_reader *, fv_layer_options *);
    const char *options; /* that read looks at, each followed by a space */
} classes[] = {
    { "Conv2D", FV_LAYER_CONV2D, fv_keras_read_conv, CONVOLUTION CONSTRAINED "groups " },
    { "Convolution2D", FV_LAYER_CONV2D, fv_keras_read_conv, CONVOLUTION CONSTRAINED "nb_filter nb_row nb_col subsample " },
    { "Conv1D", FV_LAYER_CONV1D, fv_keras_read_conv, CONVOLUTION "groups " },
    { "Convolution1D", FV_LAYER_CONV1D, fv_keras_read_conv,
      CONVOLUTION "nb_filter filter_length subsample_length input_dim input_length " },
    { "fovea>FlipConv2D", FV_LAYER_CONV2D, fv_keras_read_conv, CONVOLUTION CONSTRAINED "groups pad " },
    { "fovea>FlipConv1D", FV_LAYER_CONV1D, fv_keras_read_conv, CONVOLUTION "groups pad " },
    /* Keras writes the kernel's options and the groups here too, but does not use them. */
    { "DepthwiseConv2D", FV_LAYER_CONV2D, fv_keras_read_depthwise,
      CONVOLUTION "depthwise_constraint bias_constraint depth_multiplier depthwise_initializer depthwise_regularizer groups " },
    { "DepthwiseConv1D", FV_LAYER_CONV1D, fv_keras_read_depthwise,
      CONVOLUTION "depth_multiplier depthwise_initializer depthwise_regularizer groups " },
    { "SeparableConv2D", FV_LAYER_SEPARABLE_CONV2D, fv_keras_read_separable, CONVOLUTION SEPARABLE },
    { "SeparableConv1D", FV_LAYER_SEPARABLE_CONV1D, fv_keras_read_separable, CONVOLUTION SEPARABLE },
    { "Conv2DTranspose", FV_LAYER_CONV2D_TRANSPOSE, fv_keras_read_transpose, CONVOLUTION CONSTRAINED "output_padding groups " },
    { "Conv1DTranspose", FV_LAYER_CONV1D_TRANSPOSE, fv_keras_read_transpose, CONVOLUTION "output_padding groups " },
    { "fovea>Conv2DTranspose", FV_LAYER_CONV2D_TRANSPOSE, fv_keras_read_transpose,
      CONVOLUTION CONSTRAINED "output_padding groups pad " },
    { "fovea>Conv1DTranspose", FV_LAYER_CONV1D_TRANSPOSE, fv_keras_read_transpose,
      CONVOLUTION "output_padding groups pad " },
    { "LocallyConnected2D", FV_LAYER_LOCALLY_CONNECTED2D, fv_keras_read_local, CONVOLUTION "implementation " },
    { "LocallyConnected1D", FV_LAYER_LOCALLY_CONNECTED1D, fv_keras_read_local, CONVOLUTION "implementation " },
    { "fovea>LocallyConnected2D", FV_LAYER_LOCALLY_CONNECTED2D, fv_keras_read_local, CONVOLUTION "pad " },
    { "fovea>LocallyConnected1D", FV_LAYER_LOCALLY_CONNECTED1D, fv_keras_read_local, CONVOLUTION "pad " },
    { "fovea>Bias", FV_LAYER_BIAS, fv_keras_read_bias, WEIGHTED },
    { "Dense", FV_LAYER_DENSE, read_dense,
      WEIGHTED CONSTRAINED "units output_dim kernel_initializer kernel_regularizer input_dim " },
    { "MaxPooling2D", FV_LAYER_MAX_POOL2D, read_pool2d, "pool_size strides padding border_mode " },
    { "AveragePooling2D", FV_LAYER_AVG_POOL2D, read_pool2d, "pool_size strides padding border_mode " },
    { "fovea>MaxPooling2D", FV_LAYER_MAX_POOL2D, read_pool2d, "pool_size strides padding pad ceil_mode " },
    { "fovea>AveragePooling2D", FV_LAYER_AVG_POOL2D, read_pool2d,
      "pool_size strides padding pad ceil_mode exclude_padding " },
    { "MaxPooling1D", FV_LAYER_MAX_POOL1D, read_pool2d, "pool_size strides padding border_mode pool_length stride " },
    { "AveragePooling1D", FV_LAYER_AVG_POOL1D, read_pool2d,
      "pool_size strides padding border_mode pool_length stride " },
    { "fovea>MaxPooling1D", FV_LAYER_MAX_POOL1D, read_pool2d, "pool_size strides padding pad ceil_mode " },
    { "fovea>AveragePooling1D", FV_LAYER_AVG_POOL1D, read_pool2d,
      "pool_size strides padding pad ceil_mode exclude_padding " },
    { "fovea>MaxUnpooling2D", FV_LAYER_MAX_UNPOOL2D, read_pool2d, "pool_size strides padding pad ceil_mode " },
    { "AdaptiveMaxPooling2D", FV_LAYER_ADAPTIVE_MAX_POOL2D, fv_keras_read_adaptive_pool, "output_size " },
    { "AdaptiveAveragePooling2D", FV_LAYER_ADAPTIVE_AVG_POOL2D, fv_keras_read_adaptive_pool, "output_size " },
    { "GlobalAveragePooling1D", FV_LAYER_GLOBAL_AVG_POOL1D, read_global_pool, "keepdims " },
    { "GlobalMaxPooling1D", FV_LAYER_GLOBAL_MAX_POOL1D, read_global_pool, "keepdims " },
    { "GlobalAveragePooling2D", FV_LAYER_GLOBAL_AVG_POOL, read_global_pool, "keepdims " },
    { "GlobalMaxPooling2D", FV_LAYER_GLOBAL_MAX_POOL, read_global_pool, "keepdims " },
    { "BatchNormalization", FV_LAYER_BATCH_NORM, read_batch_norm,
      "axis momentum epsilon center scale mode gamma_initializer beta_initializer "
      "gamma_init beta_init moving_mean_initializer moving_variance_initializer renorm_momentum fused synchronized " },
    { "fovea>LRN", FV_LAYER_LRN, read_lrn, "size alpha beta k " },
    { "LayerNormalization", FV_LAYER_LAYER_NORM, read_layer_norm, "axis " SCALE_AND_CENTER },
    { "GroupNormalization", FV_LAYER_GROUP_NORM, read_group_norm, "axis groups " SCALE_AND_CENTER },
    { "fovea>LayerNormalization", FV_LAYER_LAYER_NORM, read_layer_norm, "axes " SCALE_AND_CENTER },
    { "fovea>RMSNormalization", FV_LAYER_RMS_NORM, read_rms_norm, "axes epsilon " },
    { "fovea>UnitNormalization", FV_LAYER_UNIT_NORM, read_unit_norm, "axes " },
    { "Addons>GroupNormalization", FV_LAYER_GROUP_NORM, read_group_norm, "axis groups " SCALE_AND_CENTER },
    { "Addons>InstanceNormalization", FV_LAYER_GROUP_NORM, read_group_norm, "axis groups " SCALE_AND_CENTER },
    { "RMSNormalization", FV_LAYER_RMS_NORM, read_rms_norm, "axis epsilon " },
    { "UnitNormalization", FV_LAYER_UNIT_NORM, read_unit_norm, "axis " },
    { "Dropout", FV_LAYER_DROPOUT, read_dropout, "rate p " },
    { "SpatialDropout1D", FV_LAYER_SPATIAL_DROPOUT1D, read_dropout, "rate p " },
    { "SpatialDropout2D", FV_LAYER_SPATIAL_DROPOUT2D, read_dropout, "rate p " },
    { "AlphaDropout", FV_LAYER_ALPHA_DROPOUT, read_dropout, "rate p " },
    { "GaussianDropout", FV_LAYER_GAUSSIAN_DROPOUT, read_dropout, "rate p " },
    { "GaussianNoise", FV_LAYER_GAUSSIAN_NOISE, read_gaussian_noise, "stddev sigma " },
    { "Activation", FV_LAYER_ACTIVATION, read_activation, "activation " },
    { "fovea>Activation", FV_LAYER_ACTIVATION, read_activation, "activation " },
    { "LeakyReLU", FV_LAYER_LEAKY_RELU, fv_keras_read_leaky_relu, "negative_slope alpha " },
    { "ELU", FV_LAYER_ELU, fv_keras_read_elu, "alpha " },
    { "ReLU", FV_LAYER_RELU, fv_keras_read_relu, "max_value negative_slope threshold " },
    { "ThresholdedReLU", FV_LAYER_RELU, fv_keras_read_relu, "theta " },
    { "PReLU", FV_LAYER_PRELU, fv_keras_read_prelu, "shared_axes alpha_initializer init alpha_regularizer " },
    { "Softmax", FV_LAYER_SOFTMAX, fv_keras_read_softmax, "axis " },
    { "Rescaling", FV_LAYER_RESCALING, fv_keras_read_rescaling, "scale offset " },
    { "Flatten", FV_LAYER_FLATTEN, read_nothing, "" },
    { "Reshape", FV_LAYER_RESHAPE, read_reshape, "target_shape dims " },
    { "ZeroPadding2D", FV_LAYER_ZERO_PADDING, read_zero_padding, "padding " },
    { "ZeroPadding1D", FV_LAYER_ZERO_PADDING1D, read_zero_padding, "padding " },
    { "fovea>ConstantPadding2D", FV_LAYER_PADDING2D, fv_keras_read_padding2d, "padding value " },
    { "fovea>ReflectionPadding2D", FV_LAYER_PADDING2D, fv_keras_read_padding2d, "padding " },
    { "fovea>ReplicationPadding2D", FV_LAYER_PADDING2D, fv_keras_read_padding2d, "padding " },
    { "fovea>CircularPadding2D", FV_LAYER_PADDING2D, fv_keras_read_padding2d, "padding " },
    { "Cropping2D", FV_LAYER_CROPPING2D, fv_keras_read_cropping, "cropping " },
    { "Cropping1D", FV_LAYER_CROPPING1D, fv_keras_read_cropping, "cropping " },
    { "UpSampling2D", FV_LAYER_UP_SAMPLING2D, fv_keras_read_up_sampling, "size interpolation " },
    { "fovea>UpSampling2D", FV_LAYER_UP_SAMPLING2D, fv_keras_read_up_sampling, "size interpolation corners " },
    { "UpSampling1D", FV_LAYER_UP_SAMPLING1D, fv_keras_read_up_sampling, "size length " },
    { "Resizing", FV_LAYER_RESIZING, fv_keras_read_resizing, "height width interpolation fill_mode " },
    { "fovea>Resizing", FV_LAYER_RESIZING, fv_keras_read_resizing, "height width interpolation corners " },
    { "fovea>SpaceToDepth", FV_LAYER_SPACE_TO_DEPTH, fv_keras_read_space_to_depth, "block channel_major " },
    { "fovea>DepthToSpace", FV_LAYER_DEPTH_TO_SPACE, fv_keras_read_space_to_depth, "block channel_major " },
    { "fovea>ChannelShuffle", FV_LAYER_CHANNEL_SHUFFLE, fv_keras_read_channel_shuffle, "groups " },
    { "Permute", FV_LAYER_PERMUTE, read_permute, "dims " },
    { "RepeatVector", FV_LAYER_REPEAT_VECTOR, read_repeat_vector, "n " },
    { "Embedding", FV_LAYER_EMBEDDING, read_embedding,
      "input_dim output_dim init embeddings_initializer embeddings_regularizer W_regularizer input_length " },
    { "Dot", FV_LAYER_DOT, read_dot, "axes normalize " },
    { "Concatenate", FV_LAYER_CONCAT, read_concat, "axis " },
    { "Add", FV_LAYER_ADD, read_nothing, "" },
    { "Subtract", FV_LAYER_SUBTRACT, read_nothing, "" },
    { "Multiply", FV_LAYER_MULTIPLY, read_nothing, "" },
    { "Maximum", FV_LAYER_MAXIMUM, read_nothing, "" },
    { "Minimum", FV_LAYER_MINIMUM, read_nothing, "" },
    { "Average", FV_LAYER_AVERAGE, read_nothing, "" },
};

/* Options of all classes that do not change what a layer computes. */
static const char ignored[] =
    "name trainable dtype seed batch_input_shape batch_shape input_shape input_dtype data_format dim_ordering "
    "build_config quantization_config lora_rank lora_alpha autocast supports_masking ";

static bool listed(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ' ') && at[length] == ' ') return true;
    return false;
}

/* null, false, 0 and empty are what an option says that is not used. */
static bool says_something(const json_t *value) {
    if (json_is_object(value)) return json_object_size(value) > 0;
    if (json_is_array(value)) return json_array_size(value) > 0;
    if (json_is_number(value)) return json_number_value(value) != 0;
    return json_is_true(value) || (json_is_string(value) && json_string_length(value) > 0);
}

static const struct keras_class *find_class(const char *name) {
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (!strcmp(classes[i].name, name)) return &classes[i];
    return NULL;
}

int fv_keras_read(fv_keras_reader *r, fv_layer_kind *kind, fv_layer_options *options) {
    const struct keras_class *class = find_class(r->class_name);
    memset(options, 0, sizeof *options);
    if (!class) return fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "this class is not supported");
    const char *order = json_string_value(fv_keras_value(r, "data_format|dim_ordering"));
    if (order && (!strcmp(order, "channels_first") || !strcmp(order, "th")))
        return fv_keras_fail(r, FV_ERROR_UNSUPPORTED,
                             "images with the channels first are not supported, only channels_last");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)r->config, key, value) {
        if (says_something(value) && !listed(class->options, key) && !listed(ignored, key))
            return fv_keras_fail(r, FV_ERROR_UNSUPPORTED, "option '%.60s' is not supported", key);
    }
    *kind = class->kind;
    r->sequence = fv_layer_types[class->kind].sequence;
    class->read(r, options);
    return r->status;
}
