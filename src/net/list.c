/* list.c - the layers for people: a row a public function, with what it does and its options, each with its default.
 * `fovea layers` prints it and docs/layers.md holds it; tests/test_docs.sh compares it with the structs of fovea.h.
 * Options of all layers (name, frozen where there are weights) are not repeated. */
#include "net/net.h"

#define KERNEL "kernel_initializer = fv_glorot_uniform(), l1 = 0, l2 = 0"
#define BIAS "no_bias = false, bias_initializer = fv_zeros(), bias_l1 = 0, bias_l2 = 0"
#define GAMMA_BETA "gamma_initializer = fv_ones(), beta_initializer = fv_zeros()"
#define CONSTRAINTS "kernel_constraint = none, bias_constraint = none"
#define WINDOW "size = 2, size_hw, stride = size, stride_hw, padding = FV_VALID, pad, ceil_mode = false"
#define LINE "size = 2, stride = size, padding = FV_VALID, pad, ceil_mode = false, exclude_padding = false"

#define PLANE "kernel, kernel_hw, stride = 1, stride_hw, dilation = 1, dilation_hw, padding = FV_VALID, pad, activation = FV_LINEAR, "
#define SEQUENCE "kernel, stride = 1, dilation = 1, padding = FV_VALID, pad, activation = FV_LINEAR, "
#define SEPARABLE                                                                                                      \
    "depthwise_initializer = fv_glorot_uniform(), depthwise_l1 = 0, depthwise_l2 = 0, "                               \
    "pointwise_initializer = fv_glorot_uniform(), pointwise_l1 = 0, pointwise_l2 = 0, "

typedef struct row { const char *name; fv_layer_kind kind; const char *about, *options, *classes; /* NULL: the kind's */ } row;
/* LAYER(function, kind, what it does, options, .classes = where several are written) */
#define LAYER(NAME, KIND, ABOUT, OPTIONS, ...) \
    { .name = "fv_" #NAME, .kind = FV_LAYER_##KIND, .about = ABOUT, .options = OPTIONS, __VA_ARGS__ }

static const row rows[] = {
    LAYER(input, INPUT, "What the net is given: the shape of one sample, 0 for a free size", "shape, rank, type = FV_F32"),
    LAYER(conv2d, CONV2D, "Convolution of images; groups = channels is depthwise",
      "filters, kernel, kernel_hw, stride = 1, stride_hw, dilation = 1, dilation_hw, groups = 1, padding = FV_VALID, pad, "
      "activation = FV_LINEAR, flip_kernel = false, " KERNEL ", " BIAS ", " CONSTRAINTS,
      .classes = "Conv2D, DepthwiseConv2D, fovea>FlipConv2D"),
    LAYER(conv1d, CONV1D, "Convolution of sequences; groups = channels is depthwise",
      "filters, groups = 1, flip_kernel = false, " SEQUENCE KERNEL ", " BIAS,
      .classes = "Conv1D, DepthwiseConv1D, fovea>FlipConv1D"),
    LAYER(conv2d_transpose, CONV2D_TRANSPOSE, "Transposed convolution: the data gradient of one (Zeiler et al. 2010)",
      "filters, groups = 1, output_padding, output_padding_hw, no_output_padding = false, " PLANE KERNEL ", " BIAS,
      .classes = "Conv2DTranspose, fovea>Conv2DTranspose"),
    LAYER(conv1d_transpose, CONV1D_TRANSPOSE, "The same of sequences",
      "filters, groups = 1, output_padding, no_output_padding = false, " SEQUENCE KERNEL ", " BIAS,
      .classes = "Conv1DTranspose, fovea>Conv1DTranspose"),
    LAYER(depthwise_conv2d, CONV2D, "Filters of their own for every channel", "depth_multiplier = 1, " PLANE KERNEL ", " BIAS,
      .classes = "DepthwiseConv2D"),
    LAYER(depthwise_conv1d, CONV1D, "The same of sequences", "depth_multiplier = 1, " SEQUENCE KERNEL ", " BIAS,
      .classes = "DepthwiseConv1D"),
    LAYER(separable_conv2d, SEPARABLE_CONV2D, "A depthwise convolution and one of 1x1 (Chollet 2016)",
      "filters, depth_multiplier = 1, " PLANE SEPARABLE BIAS),
    LAYER(separable_conv1d, SEPARABLE_CONV1D, "The same of sequences", "filters, depth_multiplier = 1, " SEQUENCE SEPARABLE BIAS),
    LAYER(locally_connected2d, LOCALLY_CONNECTED2D, "Unshared convolution: filters and bias of their own for every position",
      "filters, " PLANE KERNEL ", " BIAS, .classes = "LocallyConnected2D, fovea>LocallyConnected2D"),
    LAYER(locally_connected1d, LOCALLY_CONNECTED1D, "The same of sequences", "filters, " SEQUENCE KERNEL ", " BIAS,
      .classes = "LocallyConnected1D, fovea>LocallyConnected1D"),
    LAYER(bias, BIAS, "A bias of its own for every value of a sample",
      "activation = FV_LINEAR, bias_initializer = fv_zeros(), l1 = 0, l2 = 0"),
    LAYER(dense, DENSE, "A linear map of the last axis", "units, activation = FV_LINEAR, " KERNEL ", " BIAS ", " CONSTRAINTS),
    LAYER(max_pool2d, MAX_POOL2D, "The maximum of each window", WINDOW ", exclude_padding = false",
      .classes = "MaxPooling2D, fovea>MaxPooling2D"),
    LAYER(avg_pool2d, AVG_POOL2D, "The mean of each window", WINDOW ", exclude_padding = false",
      .classes = "AveragePooling2D, fovea>AveragePooling2D"),
    LAYER(global_avg_pool, GLOBAL_AVG_POOL, "The mean of each channel over the image", "keep_dims = false"),
    LAYER(global_max_pool, GLOBAL_MAX_POOL, "The maximum of each channel over the image", "keep_dims = false"),
    LAYER(adaptive_avg_pool2d, ADAPTIVE_AVG_POOL2D, "The mean of windows that make so many pixels",
      "output = 1, output_hw"),
    LAYER(adaptive_max_pool2d, ADAPTIVE_MAX_POOL2D, "The maximum of windows that make so many pixels",
      "output = 1, output_hw"),
    LAYER(max_unpool2d, MAX_UNPOOL2D, "The way back of a max_pool2d: its numbers where the maxima were, zero elsewhere", "pool"),
    LAYER(max_pool1d, MAX_POOL1D, "The maximum of each window of a sequence", LINE, .classes = "MaxPooling1D, fovea>MaxPooling1D"),
    LAYER(avg_pool1d, AVG_POOL1D, "The mean of each window of a sequence", LINE,
      .classes = "AveragePooling1D, fovea>AveragePooling1D"),
    LAYER(global_avg_pool1d, GLOBAL_AVG_POOL1D, "The mean of each channel over the sequence", "keep_dims = false"),
    LAYER(global_max_pool1d, GLOBAL_MAX_POOL1D, "The maximum of each channel over the sequence", "keep_dims = false"),
    LAYER(batch_norm, BATCH_NORM, "Normalisation over the batch, a channel at a time (Ioffe & Szegedy 2015)",
      "momentum = 0.99, epsilon = 1e-3, no_scale = false, no_center = false, activation = FV_LINEAR, "
      "gamma_initializer = fv_ones(), beta_initializer = fv_zeros()"),
    LAYER(layer_norm, LAYER_NORM, "Normalisation of each sample over its last axes (Ba et al. 2016)",
      "axes = 1, epsilon = 1e-3, no_scale = false, no_center = false, " GAMMA_BETA,
      .classes = "LayerNormalization, fovea>LayerNormalization"),
    LAYER(group_norm, GROUP_NORM, "Normalisation of each sample, for groups of channels (Wu & He 2018)",
      "groups = 32, epsilon = 1e-3, no_scale = false, no_center = false, " GAMMA_BETA),
    LAYER(instance_norm, GROUP_NORM, "Normalisation of each channel of each sample (Ulyanov et al. 2016)",
      "groups = -1, epsilon = 1e-3, no_scale = false, no_center = false, " GAMMA_BETA),
    LAYER(rms_norm, RMS_NORM, "Division by the root mean square over the last axes (Zhang & Sennrich 2019)",
      "axes = 1, epsilon = 1e-6", .classes = "RMSNormalization, fovea>RMSNormalization"),
    LAYER(unit_norm, UNIT_NORM, "Division by the Euclidean length over the last axes", "axes = 1",
      .classes = "UnitNormalization, fovea>UnitNormalization"),
    LAYER(lrn, LRN, "Local response normalisation across channels (Krizhevsky 2012)",
      "size = 5, alpha = 1e-4, beta = 0.75, k = 2"),
    LAYER(dropout, DROPOUT, "Zeros some elements in training and scales the others", "rate = 0.5"),
    LAYER(spatial_dropout1d, SPATIAL_DROPOUT1D, "Dropout of whole channels of sequences", "rate = 0.5"),
    LAYER(spatial_dropout2d, SPATIAL_DROPOUT2D, "Dropout of whole channels of images (Tompson et al. 2015)", "rate = 0.5"),
    LAYER(alpha_dropout, ALPHA_DROPOUT, "Dropout that keeps what SELU makes of mean and variance (Klambauer et al. 2017)",
      "rate = 0.5"),
    LAYER(gaussian_dropout, GAUSSIAN_DROPOUT, "Multiplies by normal numbers of mean 1 in training (Srivastava et al. 2014)",
      "rate = 0.5"),
    LAYER(gaussian_noise, GAUSSIAN_NOISE, "Adds normal numbers of mean 0 in training", "deviation = 0.1"),
    LAYER(activate, ACTIVATION, "A function of every element, or a softmax of the last axis", "activation = FV_LINEAR",
      .classes = "Activation, fovea>Activation"),
    LAYER(leaky_relu, LEAKY_RELU, "x, or a small part of it below zero", "negative_slope = 0.3"),
    LAYER(elu, ELU, "x, or alpha (exp(x) - 1) below zero (Clevert et al. 2015)", "alpha = 1"),
    LAYER(relu, RELU, "ReLU with a limit, a slope below its threshold", "max_value = none, negative_slope = 0, threshold = 0"),
    LAYER(prelu, PRELU, "x, or a learned part of it below zero (He et al. 2015)",
      "shared_axes, alpha_initializer = fv_zeros(), l1 = 0, l2 = 0"),
    LAYER(softmax, SOFTMAX, "Exponentials along an axis, divided by their sum", "axis = the last"),
    LAYER(rescaling, RESCALING, "scale x + offset, also of bytes", "scale = 1, offset = 0"),
    LAYER(flatten, FLATTEN, "All axes but the batch become one", ""),
    LAYER(reshape, RESHAPE, "Another shape of the same elements; one size may be -1", "shape, rank"),
    LAYER(zero_padding, ZERO_PADDING, "Zeros around images", "padding = 0, pad"),
    LAYER(zero_padding1d, ZERO_PADDING1D, "Zeros before and after sequences", "padding = 0, pad"),
    LAYER(padding2d, PADDING2D, "A value around images, or their mirror image, edge, or repetition",
      "mode = FV_PAD_CONSTANT, value = 0, padding = 0, pad",
      .classes = "fovea>ConstantPadding2D, fovea>ReflectionPadding2D, fovea>ReplicationPadding2D, fovea>CircularPadding2D"),
    LAYER(cropping2d, CROPPING2D, "Cuts pixels off images", "cropping = 0, crop"),
    LAYER(cropping1d, CROPPING1D, "Cuts steps off sequences", "cropping = 0, crop"),
    LAYER(up_sampling2d, UP_SAMPLING2D, "Images several times as large",
      "size = 2, size_hw, interpolation = FV_NEAREST, corners = FV_HALF_PIXEL", .classes = "UpSampling2D, fovea>UpSampling2D"),
    LAYER(up_sampling1d, UP_SAMPLING1D, "Repeats each step of a sequence", "size = 2"),
    LAYER(resizing, RESIZING, "Images of another size",
      "height, width, interpolation = FV_BILINEAR, corners = FV_HALF_PIXEL", .classes = "Resizing, fovea>Resizing"),
    LAYER(space_to_depth, SPACE_TO_DEPTH, "Blocks of pixels become channels", "block = 2, channel_major = false"),
    LAYER(depth_to_space, DEPTH_TO_SPACE, "Channels become blocks of pixels (pixel shuffle)", "block = 2, channel_major = false"),
    LAYER(channel_shuffle, CHANNEL_SHUFFLE, "Mixes the channels of groups (Zhang et al. 2017)", "groups"),
    LAYER(permute, PERMUTE, "The axes of a sample in another order", "dims"),
    LAYER(repeat_vector, REPEAT_VECTOR, "The same vector so many times", "times"),
    LAYER(embedding, EMBEDDING, "Numbers become vectors of a table; those outside it zeros",
      "input_dim, output_dim, embeddings_initializer = fv_uniform(-0.05, 0.05), l1 = 0, l2 = 0"),
    LAYER(dot, DOT, "Sums of products along an axis of two inputs; normalised, their cosine",
      "axes = the last, normalize = false"),
    LAYER(concat, CONCAT, "Joins along an axis", "axis = the last"),
    LAYER(add, ADD, "The sum of all inputs, with broadcasting", "activation = FV_LINEAR"),
    LAYER(subtract, SUBTRACT, "The difference of two inputs", "activation = FV_LINEAR"),
    LAYER(maximum, MAXIMUM, "The largest of all inputs, element by element", "activation = FV_LINEAR"),
    LAYER(minimum, MINIMUM, "The smallest of all inputs, element by element", "activation = FV_LINEAR"),
    LAYER(average, AVERAGE, "The mean of all inputs, element by element", "activation = FV_LINEAR"),
    LAYER(multiply, MULTIPLY, "The product of all inputs, element by element", "activation = FV_LINEAR"),
};

int fv_layers(void (*each)(void *user, const fv_layer_info *), void *user) {
    enum { COUNT = sizeof rows / sizeof *rows };
    for (int i = 0; each && i < COUNT; i++) {
        const fv_layer_type *type = &fv_layer_types[rows[i].kind];
        const fv_layer_info info = { .name = rows[i].name, .about = rows[i].about, .options = rows[i].options,
                                     .class_name = rows[i].classes ? rows[i].classes : type->class_name,
                                     .least = type->least, .most = type->most };
        each(user, &info);
    }
    return COUNT;
}
