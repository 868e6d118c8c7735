/* fovea.h - the public interface of Fovea, a framework for convolutional networks, in reading order:
 * context, networks, data, training, files, and the tape underneath for those who want to write a step by hand.
 *
 * Errors. Functions return 0 or a negative fv_status; constructors return NULL or an invalid node. The context keeps
 * the first error as one sentence (fv_error). While it stands nothing trains, runs or writes; calls on NULL or on an
 * invalid node do nothing, so a program may check once, at its end.
 * Ownership. The context owns every net, data set, tape and program made from it; fv_close frees what is left, the
 * fv_*_free functions free early. Arrays handed in are copied unless a comment says "borrowed".
 * Layout. Activations are NHWC, convolution filters OHWI, dense weights [units, inputs]. Sizes are in elements unless
 * a name says bytes.
 * Options. Functions with many settings take a struct whose zero is the default in every field, filled by designated
 * initialisers behind a macro of the same name: fv_conv2d(net, x, .filters = 6, .kernel = 5). Where the default of a
 * float is not zero, FV_ZERO asks for zero. Fields are only ever appended. Macros exist only in C; from C++:
 * FV_OPTIONS(fv_dense_options, o); o.input = x; o.units = 10; fv_dense_with(net, &o);
 * Threads. A context and what it owns may be used by one thread at a time; several contexts may live side by side. */
#ifndef FOVEA_H
#define FOVEA_H
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#ifdef __cplusplus
extern "C" {
#endif

#define FV_VERSION_MAJOR 0
#define FV_VERSION_MINOR 1
#define FV_VERSION_PATCH 0

#if defined(__GNUC__)
#define FV_API __attribute__((visibility("default")))
#else
#define FV_API
#endif

/* ---- Types ------------------------------------------------------------------------------------------------- */

typedef struct fv_context fv_context;
typedef struct fv_net fv_net;
typedef struct fv_dataset fv_dataset;
typedef struct fv_tape fv_tape;
typedef struct fv_program fv_program;

typedef struct fv_node { int32_t id; } fv_node;   /* a layer's output in a net; id 0 is invalid */
typedef struct fv_value { int32_t id; } fv_value; /* a value on a tape; id 0 is invalid         */
typedef struct fv_nodes { const fv_node *node; int32_t count; } fv_nodes;
typedef struct fv_values { const fv_value *value; int32_t count; } fv_values;

enum { FV_RANK = 6 };                              /* dimensions at most */
typedef enum fv_split { FV_TRAIN, FV_TEST } fv_split;
typedef enum fv_mode { FV_MODE_INFER, FV_MODE_TRAIN } fv_mode;
typedef enum fv_type { FV_F32, FV_BF16, FV_F16, FV_U8, FV_I32 } fv_type;
/* As Keras 3's functions of the same names and PyTorch's: FV_LEAKY_RELU falls by 0.2 (layers choose it: fv_leaky_relu), FV_ELU
 * has alpha 1, FV_GELU is x Phi(x) and FV_GELU_TANH its approximation by tanh, FV_HARD_SIGMOID relu6(x + 3) / 6 (Keras 2's was
 * another), FV_SILU x sigmoid(x), also called swish, FV_HARD_SWISH Keras's hard_silu. Numbers never change: append. */
typedef enum fv_activation {
    FV_LINEAR, FV_RELU, FV_TANH, FV_SIGMOID, FV_SOFTMAX, FV_LOG_SOFTMAX, FV_LEAKY_RELU, FV_ELU, FV_SELU, FV_RELU6, FV_HARD_TANH,
    FV_HARD_SIGMOID, FV_SOFTPLUS, FV_SOFTSIGN, FV_GELU, FV_GELU_TANH, FV_SILU, FV_MISH, FV_HARD_SWISH, FV_EXPONENTIAL
} fv_activation;
enum { FV_VALID = 0, FV_SAME = -1, FV_FULL = -2, FV_CAUSAL = -3 }; /* for .padding; positive: pixels on every side;
                                                                      FV_CAUSAL: 1-D layers, all of FV_SAME's before */
typedef enum fv_interpolation { FV_INTERPOLATION_DEFAULT, FV_NEAREST, FV_BILINEAR, FV_BED_OF_NAILS } fv_interpolation;
/* Where pixel p of a resized axis lies in the old one: (p + 1/2) in / out - 1/2, p (in - 1) / (out - 1), p in / out. */
typedef enum fv_corners { FV_HALF_PIXEL, FV_ALIGN_CORNERS, FV_ASYMMETRIC } fv_corners;
/* What surrounds an image: a value, its mirror image without the edge, its edge, itself again. */
typedef enum fv_pad_mode { FV_PAD_CONSTANT, FV_PAD_REFLECT, FV_PAD_REPLICATE, FV_PAD_CIRCULAR } fv_pad_mode;
/* Of a program, not of a net: what its activations and their gradients are made of, and the factors of its products. Weights have f32
 * masters always; statistics, losses, sums and the optimiser's state are f32. FV_TF32 (NVIDIA's GPUs from compute capability 8.0 on) keeps
 * f32 in memory and rounds the factors of products to 10 bits; FV_PRECISION_DEFAULT is FV_TF32 there and FV_PRECISION_F32 everywhere else. */
typedef enum fv_precision {
    FV_PRECISION_DEFAULT, FV_PRECISION_F32, FV_PRECISION_TF32, FV_PRECISION_BF16, FV_PRECISION_F16
} fv_precision;
#define FV_ZERO (-0.0f)                            /* asks for zero where the default of a float is another value */

/* One list gives the enum, the names and the texts of the states. */
#define FV_STATUS_MAP(X)                                                                                               \
    X(OK, 0, "no error")                                                                                               \
    X(ARGUMENT, -1, "an argument is out of its range")                                                                 \
    X(SHAPE, -2, "shapes do not fit together")                                                                         \
    X(MEMORY, -3, "out of memory")                                                                                     \
    X(FILE, -4, "a file cannot be read or written")                                                                    \
    X(FORMAT, -5, "a file is not what it should be")                                                                   \
    X(DEVICE, -6, "a device is missing or failed")                                                                     \
    X(UNSUPPORTED, -7, "the backend lacks an operation or an option")                                                  \
    X(NUMERIC, -8, "a value is not finite")                                                                            \
    X(STOPPED, -9, "stopped on request")                                                                               \
    X(INTERNAL, -10, "a check of the library on itself failed")
typedef enum fv_status {
#define FV_STATUS_ENUM_(name, number, text) FV_ERROR_##name = number,
    FV_STATUS_MAP(FV_STATUS_ENUM_)
#undef FV_STATUS_ENUM_
} fv_status;
#define FV_OK FV_ERROR_OK

/* ---- Context ----------------------------------------------------------------------------------------------- */

typedef struct fv_open_options {
    size_t struct_size;
    const char *device;    /* "auto" (default), "cpu", "cuda", "cuda:N", "reference"; FOVEA_DEVICE overrides "auto" */
    int32_t threads;       /* 0: FOVEA_NUM_THREADS, OMP_NUM_THREADS, or one a core                               */
    uint64_t seed;         /* of initial weights, shuffling, dropout, augmentation                               */
    size_t memory_limit;   /* bytes on the device; 0: none                                                       */
    void (*log)(void *user, const char *line); /* told what the library decided, a sentence at a time; optional   */
    void *log_user;
    bool no_capture;       /* a GPU launches each step anew, where it would capture and replay it: for debugging */
    fv_precision precision; /* of the programs that do not say otherwise */
    const char *tuned;     /* a file of fv_tune or 'fovea tune' for this device: which algorithms to take         */
} fv_open_options;

/* Never NULL but for lack of a few bytes: a context that failed to open carries its error and does nothing else. */
FV_API fv_context *fv_open(const char *device);
FV_API fv_context *fv_open_with(const fv_open_options *);
/* Frees everything that the context owns. 0, or 1 if the context holds an error: fit to be main's result. */
FV_API int fv_close(fv_context *);
FV_API const char *fv_error(const fv_context *);       /* the first error as one sentence, or NULL              */
FV_API fv_status fv_error_status(const fv_context *);
FV_API void fv_clear_error(fv_context *);
FV_API const char *fv_status_name(fv_status);          /* "SHAPE" */
FV_API const char *fv_status_text(fv_status);
FV_API const char *fv_device_name(const fv_context *); /* "cpu" */
FV_API int fv_device_threads(const fv_context *);      /* of the CPU that may work (reference: one does)        */
/* What the device does at most, measured in some tenths of a second: FLOP/s of f32 multiply-adds that stay in registers,
 * bytes/s of a copy of large arrays, read and write. 0 where it cannot tell. */
FV_API int fv_device_peak(fv_context *, double *flops, double *bytes);
FV_API const char *fv_precision_name(fv_precision);    /* "bf16" */
FV_API const char *fv_device_line(const fv_context *); /* "cpu, 2 threads, AVX-512 (no CUDA: ...)" */
/* Calls each for every device known here; why tells why an unusable one is (else NULL). Returns the number usable. */
FV_API int fv_devices(void (*each)(void *user, const char *name, const char *description, const char *why), void *user);
FV_API const char *fv_version(void);    /* "0.1.0" */
FV_API const char *fv_build_info(void); /* compiler, instruction sets, HDF5, CUDA */

/* ---- Networks ---------------------------------------------------------------------------------------------- */

/* Initial values. Fans as in Keras: receptive field x channels. Values of fixed size for ever. */
typedef struct fv_initializer { uint32_t kind; float value[3]; } fv_initializer;
FV_API fv_initializer fv_zeros(void);
FV_API fv_initializer fv_ones(void);
FV_API fv_initializer fv_constant(float value);
FV_API fv_initializer fv_uniform(float low, float high);
FV_API fv_initializer fv_normal(float mean, float deviation);
FV_API fv_initializer fv_glorot_uniform(void); /* Glorot & Bengio 2010: +-sqrt(6 / (in + out)); default of kernels */
FV_API fv_initializer fv_glorot_normal(void);  /* truncated at two deviations, as in Keras                         */
FV_API fv_initializer fv_he_uniform(void);     /* He et al. 2015: +-sqrt(6 / in)                                   */
FV_API fv_initializer fv_he_normal(void);
FV_API fv_initializer fv_lecun_uniform(void);  /* LeCun et al. 1998: +-sqrt(3 / in)                                */
FV_API fv_initializer fv_lecun_normal(void);
FV_API fv_initializer fv_truncated_normal(float mean, float deviation); /* drawn again beyond two deviations, as in Keras */
typedef enum fv_fan { FV_FAN_IN, FV_FAN_OUT, FV_FAN_AVERAGE } fv_fan;
typedef enum fv_distribution { FV_TRUNCATED_NORMAL, FV_UNTRUNCATED_NORMAL, FV_UNIFORM } fv_distribution;
FV_API fv_initializer fv_variance_scaling(float scale, fv_fan, fv_distribution); /* of variance scale / fan */
/* Saxe et al. 2014: orthonormal rows or columns (whichever are fewer) times gain, the kernel seen as a matrix
 * [filters, all else]: the QR decomposition of normal numbers, R's diagonal positive. */
FV_API fv_initializer fv_orthogonal(float gain);
FV_API fv_initializer fv_identity(float gain);  /* dense kernels: ones on the diagonal, times gain                */
FV_API fv_initializer fv_dirac(int32_t groups); /* convolution kernels: y = x in the channels there are; groups 0: 1 */

/* What a weight must fulfil after every update, as in Keras: w (rate clip(|w|, least, most) + (1 - rate) |w|) / (1e-7 + |w|),
 * or no negative number. axes: bit i takes the norm over axis i of the weight as it lies here; 0: a norm for each filter or
 * unit (all axes but the first; of a vector the whole). Values of fixed size for ever. */
typedef struct fv_constraint { uint32_t kind, axes; float value[4]; } fv_constraint;
FV_API fv_constraint fv_max_norm_constraint(float most);
FV_API fv_constraint fv_non_neg_constraint(void);
FV_API fv_constraint fv_unit_norm_constraint(void);
FV_API fv_constraint fv_min_max_norm_constraint(float least, float most, float rate);

FV_API fv_net *fv_net_new(fv_context *, const char *name);
FV_API void fv_net_free(fv_net *);
FV_API const char *fv_net_name(const fv_net *);

/* Layers. The second member of the options is the input; name is unique in a net (default: conv2d, conv2d_1, ...).
 * frozen layers keep their weights in training. l1 and l2 are penalties added to the loss, as in Keras: l2 * sum(w^2). */
typedef struct fv_input_options { size_t struct_size; int64_t shape[FV_RANK]; int32_t rank; fv_type type; const char *name; } fv_input_options;

/* Convolution (cross-correlation, or true convolution with flip_kernel); groups = channels is depthwise.
 * out = floor((in + before + after - dilation (kernel - 1) - 1) / stride) + 1. FV_SAME pads as Keras does: the odd pixel
 * goes below and right. Weights: kernel [filters, kh, kw, channels / groups], bias [filters]. */
typedef struct fv_conv2d_options {
    size_t struct_size; fv_node input;
    int32_t filters, kernel, kernel_hw[2], stride, stride_hw[2], dilation, dilation_hw[2], groups, padding;
    int32_t pad[4];                      /* top, bottom, left, right: overrides padding when any is set */
    fv_activation activation; bool no_bias, flip_kernel, frozen;
    fv_initializer kernel_initializer, bias_initializer; float l1, l2, bias_l1, bias_l2; const char *name;
    fv_constraint kernel_constraint, bias_constraint;
} fv_conv2d_options;

/* Along one axis: input [n, length, channels]. pad = {before, after}. Weights: kernel [filters, 1, kernel, channels / groups]
 * (an image of one row), bias [filters]. */
typedef struct fv_conv1d_options {
    size_t struct_size; fv_node input;
    int32_t filters, kernel, stride, dilation, groups, padding, pad[2];
    fv_activation activation; bool no_bias, flip_kernel, frozen;
    fv_initializer kernel_initializer, bias_initializer; float l1, l2, bias_l1, bias_l2; const char *name;
} fv_conv1d_options;

/* Transposed convolution (Zeiler et al. 2010; Dumoulin & Visin 2016): the data gradient of a convolution as a layer.
 *   out = (in - 1) stride + dilation (kernel - 1) + 1 - before - after + output_padding        with pixels (as PyTorch)
 *   FV_VALID: nothing is cut. FV_SAME: out = in stride, or with output padding (in - 1) stride + kernel % 2 + that (as Keras).
 * Without output padding FV_VALID reaches stride pixels at least, as in Keras; no_output_padding asks for zero
 * exactly. It must be below the stride. Weights: kernel [channels, kh, kw, filters / groups], bias [filters]. */
typedef struct fv_conv2d_transpose_options {
    size_t struct_size; fv_node input;
    int32_t filters, kernel, kernel_hw[2], stride, stride_hw[2], dilation, dilation_hw[2], groups, padding;
    int32_t pad[4], output_padding, output_padding_hw[2]; bool no_output_padding;
    fv_activation activation; bool no_bias, frozen;
    fv_initializer kernel_initializer, bias_initializer; float l1, l2, bias_l1, bias_l2; const char *name;
} fv_conv2d_transpose_options;
typedef struct fv_conv1d_transpose_options {
    size_t struct_size; fv_node input;
    int32_t filters, kernel, stride, dilation, groups, padding, pad[2], output_padding; bool no_output_padding;
    fv_activation activation; bool no_bias, frozen;
    fv_initializer kernel_initializer, bias_initializer; float l1, l2, bias_l1, bias_l2; const char *name;
} fv_conv1d_transpose_options;

/* A convolution with groups = channels; depth_multiplier (default 1) filters a channel. */
typedef struct fv_depthwise_conv2d_options {
    size_t struct_size; fv_node input;
    int32_t depth_multiplier, kernel, kernel_hw[2], stride, stride_hw[2], dilation, dilation_hw[2], padding, pad[4];
    fv_activation activation; bool no_bias, frozen;
    fv_initializer kernel_initializer, bias_initializer; float l1, l2, bias_l1, bias_l2; const char *name;
} fv_depthwise_conv2d_options;
typedef struct fv_depthwise_conv1d_options {
    size_t struct_size; fv_node input;
    int32_t depth_multiplier, kernel, stride, dilation, padding, pad[2];
    fv_activation activation; bool no_bias, frozen;
    fv_initializer kernel_initializer, bias_initializer; float l1, l2, bias_l1, bias_l2; const char *name;
} fv_depthwise_conv1d_options;

/* A depthwise convolution and one of 1x1 (Chollet 2016). Weights: depthwise kernel [channels * multiplier, kh, kw, 1],
 * pointwise kernel [filters, 1, 1, channels * multiplier], bias [filters]. */
typedef struct fv_separable_conv2d_options {
    size_t struct_size; fv_node input;
    int32_t filters, depth_multiplier, kernel, kernel_hw[2], stride, stride_hw[2], dilation, dilation_hw[2], padding, pad[4];
    fv_activation activation; bool no_bias, frozen;
    fv_initializer depthwise_initializer, pointwise_initializer, bias_initializer;
    float depthwise_l1, depthwise_l2, pointwise_l1, pointwise_l2, bias_l1, bias_l2; const char *name;
} fv_separable_conv2d_options;
typedef struct fv_separable_conv1d_options {
    size_t struct_size; fv_node input;
    int32_t filters, depth_multiplier, kernel, stride, dilation, padding, pad[2];
    fv_activation activation; bool no_bias, frozen;
    fv_initializer depthwise_initializer, pointwise_initializer, bias_initializer;
    float depthwise_l1, depthwise_l2, pointwise_l1, pointwise_l2, bias_l1, bias_l2; const char *name;
} fv_separable_conv1d_options;

/* Unshared convolution: filters and bias of their own for every position, as in Keras 2. The input must have a fixed
 * size. Weights: kernel [rows, columns, kh, kw, channels, filters], bias [rows, columns, filters]. */
typedef struct fv_locally_connected2d_options {
    size_t struct_size; fv_node input;
    int32_t filters, kernel, kernel_hw[2], stride, stride_hw[2], dilation, dilation_hw[2], padding, pad[4];
    fv_activation activation; bool no_bias, frozen;
    fv_initializer kernel_initializer, bias_initializer; float l1, l2, bias_l1, bias_l2; const char *name;
} fv_locally_connected2d_options;
typedef struct fv_locally_connected1d_options {
    size_t struct_size; fv_node input;
    int32_t filters, kernel, stride, dilation, padding, pad[2];
    fv_activation activation; bool no_bias, frozen;
    fv_initializer kernel_initializer, bias_initializer; float l1, l2, bias_l1, bias_l2; const char *name;
} fv_locally_connected1d_options;
/* y = activation(x + b), b of the shape of one sample: a bias a position. */
typedef struct fv_bias_options {
    size_t struct_size; fv_node input; fv_activation activation; bool frozen;
    fv_initializer bias_initializer; float l1, l2; const char *name;
} fv_bias_options;

/* y = activation(W x + b) on the last axis. Weights: kernel [units, inputs], bias [units]. */
typedef struct fv_dense_options {
    size_t struct_size; fv_node input; int32_t units; fv_activation activation; bool no_bias, frozen;
    fv_initializer kernel_initializer, bias_initializer; float l1, l2, bias_l1, bias_l2; const char *name;
    fv_constraint kernel_constraint, bias_constraint;
} fv_dense_options;

/* Pooling windows: size defaults to 2, stride to size. ceil_mode keeps a partial last window (one that starts inside
 * the input or its left padding); average pooling counts padding unless exclude_padding (FV_SAME always excludes). */
typedef struct fv_pool2d_options {
    size_t struct_size; fv_node input; int32_t size, size_hw[2], stride, stride_hw[2], padding, pad[4];
    bool ceil_mode, exclude_padding; const char *name;
} fv_pool2d_options;
/* The same along the steps of [steps, channels]; pad = {before, after}. */
typedef struct fv_pool1d_options {
    size_t struct_size; fv_node input; int32_t size, stride, padding, pad[2]; bool ceil_mode, exclude_padding; const char *name;
} fv_pool1d_options;
/* Pools to output (default 1) pixels: window p is floor(p in / output) .. ceil((p + 1) in / output) - 1, as in PyTorch and
 * Keras. */
typedef struct fv_adaptive_pool2d_options { size_t struct_size; fv_node input; int32_t output, output_hw[2]; const char *name; } fv_adaptive_pool2d_options;
/* The way back of pool, the output of a max_pool2d layer: each number goes where its window had its maximum, into an image of
 * the size that was pooled; the rest is zero, and what meets in one place is added (Zeiler & Fergus 2014, PyTorch's
 * MaxUnpool2d). The net gets pool's input as this layer's second input. */
typedef struct fv_max_unpool2d_options { size_t struct_size; fv_node input, pool; const char *name; } fv_max_unpool2d_options;
typedef struct fv_global_pool_options { size_t struct_size; fv_node input; bool keep_dims; const char *name; } fv_global_pool_options;

/* Batch normalisation (Ioffe & Szegedy 2015) over all axes but the last. momentum is the part kept (default 0.99),
 * epsilon 1e-3, as in Keras. A frozen layer uses its running statistics in training too, as in Keras. */
typedef struct fv_batch_norm_options {
    size_t struct_size; fv_node input; float momentum, epsilon; bool no_scale, no_center, frozen;
    fv_activation activation; fv_initializer gamma_initializer, beta_initializer; const char *name;
} fv_batch_norm_options;
/* Local response normalisation across channels (Krizhevsky 2012): y = x / (k + alpha sum x^2)^beta, the sum over size
 * channels about each. Defaults 5, 1e-4, 0.75, 2: the paper's, which does not divide alpha by size. */
typedef struct fv_lrn_options { size_t struct_size; fv_node input; int32_t size; float alpha, beta, k; const char *name; } fv_lrn_options;
/* Normalisation within a sample, the same in training and inference; defaults as in Keras. Layer normalisation (Ba et al.
 * 2016) over the last `axes` axes (default 1); gamma and beta have their shape. Epsilon 1e-3. */
typedef struct fv_layer_norm_options {
    size_t struct_size; fv_node input; int32_t axes; float epsilon; bool no_scale, no_center, frozen;
    fv_initializer gamma_initializer, beta_initializer; const char *name;
} fv_layer_norm_options;
/* Group normalisation (Wu & He 2018): groups of neighbouring channels (default 32), over all their positions; groups -1 is
 * a group a channel, which is instance normalisation (Ulyanov et al. 2016): fv_instance_norm. Epsilon 1e-3. */
typedef struct fv_group_norm_options {
    size_t struct_size; fv_node input; int32_t groups; float epsilon; bool no_scale, no_center, frozen;
    fv_initializer gamma_initializer, beta_initializer; const char *name;
} fv_group_norm_options;
/* y = scale x / sqrt(mean of x^2 + epsilon) (Zhang & Sennrich 2019) over the last axes. Epsilon 1e-6. */
typedef struct fv_rms_norm_options { size_t struct_size; fv_node input; int32_t axes; float epsilon; bool frozen; const char *name; } fv_rms_norm_options;
/* y = x / its Euclidean length over the last axes (default 1) */
typedef struct fv_unit_norm_options { size_t struct_size; fv_node input; int32_t axes; const char *name; } fv_unit_norm_options;
/* Of all forms of dropout, which act in training only. Spatial dropout drops whole channels (Tompson et al. 2015), alpha
 * dropout keeps the mean and variance that SELU gives (Klambauer et al. 2017), Gaussian dropout multiplies by normal
 * numbers of mean 1 and variance rate / (1 - rate) (Srivastava et al. 2014). */
typedef struct fv_dropout_options { size_t struct_size; fv_node input; float rate; /* default 0.5 */ const char *name; } fv_dropout_options;
/* Adds normal numbers of mean 0 in training. */
typedef struct fv_gaussian_noise_options { size_t struct_size; fv_node input; float deviation; /* default 0.1 */ const char *name; } fv_gaussian_noise_options;
typedef struct fv_activation_options { size_t struct_size; fv_node input; fv_activation activation; const char *name; } fv_activation_options;
/* Activations with parameters of their own; defaults are those of Keras's layers of the same names. */
typedef struct fv_leaky_relu_options { size_t struct_size; fv_node input; float negative_slope; /* 0.3; PyTorch's is 0.01 */ const char *name; } fv_leaky_relu_options;
typedef struct fv_elu_options { size_t struct_size; fv_node input; float alpha; /* 1 */ const char *name; } fv_elu_options;
/* max_value from there on; x above the threshold; else negative_slope (x - threshold). max_value 0: none, FV_ZERO: zero. */
typedef struct fv_relu_options { size_t struct_size; fv_node input; float max_value, negative_slope, threshold; const char *name; } fv_relu_options;
/* A learned slope below zero (He et al. 2015). Weight: alpha, of the shape of a sample, with 1 at the shared axes (1 .. rank,
 * the first 0 ends the list): { 1, 2 } gives one a channel of an image. Drawn as zeros, as in Keras; PyTorch's begin at 0.25. */
typedef struct fv_prelu_options {
    size_t struct_size; fv_node input; int32_t shared_axes[FV_RANK]; bool frozen;
    fv_initializer alpha_initializer; float l1, l2; const char *name;
} fv_prelu_options;
/* axis counts the batch as 0; 0 means the last */
typedef struct fv_softmax_options { size_t struct_size; fv_node input; int32_t axis; const char *name; } fv_softmax_options;
/* y = scale x + offset; the input may be bytes or whole numbers */
typedef struct fv_rescaling_options { size_t struct_size; fv_node input; float scale, offset; /* 1, 0 */ const char *name; } fv_rescaling_options;
typedef struct fv_flatten_options { size_t struct_size; fv_node input; const char *name; } fv_flatten_options;
typedef struct fv_reshape_options { size_t struct_size; fv_node input; int64_t shape[FV_RANK]; int32_t rank; const char *name; } fv_reshape_options;
/* pad = {top, bottom, left, right} */
typedef struct fv_zero_padding_options { size_t struct_size; fv_node input; int32_t padding, pad[4]; const char *name; } fv_zero_padding_options;
typedef struct fv_zero_padding1d_options { size_t struct_size; fv_node input; int32_t padding, pad[2]; const char *name; } fv_zero_padding1d_options;
/* The same with another surrounding: a value, or PyTorch's ReflectionPad2d, ReplicationPad2d, CircularPad2d. */
typedef struct fv_padding2d_options { size_t struct_size; fv_node input; fv_pad_mode mode; float value; int32_t padding, pad[4]; const char *name; } fv_padding2d_options;
/* crop = {top, bottom, left, right}, or {before, after}: pixels cut off; cropping: the same on every side */
typedef struct fv_cropping2d_options { size_t struct_size; fv_node input; int32_t cropping, crop[4]; const char *name; } fv_cropping2d_options;
typedef struct fv_cropping1d_options { size_t struct_size; fv_node input; int32_t cropping, crop[2]; const char *name; } fv_cropping1d_options;
/* size (default 2) times as large: nearest (default), bilinear, or bed of nails: pixels at multiples of size, zeros else.
 * corners as in fv_resizing; whole factors are PyTorch's Upsample and Keras's UpSampling2D. */
typedef struct fv_up_sampling2d_options { size_t struct_size; fv_node input; int32_t size, size_hw[2]; fv_interpolation interpolation; fv_corners corners; const char *name; } fv_up_sampling2d_options;
typedef struct fv_up_sampling1d_options { size_t struct_size; fv_node input; int32_t size; const char *name; } fv_up_sampling1d_options;
/* To height x width: bilinear (default) or nearest. Half-pixel corners (default) are Keras's and those of PyTorch's
 * align_corners=False and nearest-exact; asymmetric nearest is PyTorch's nearest. No antialiasing. */
typedef struct fv_resizing_options { size_t struct_size; fv_node input; int32_t height, width; fv_interpolation interpolation; fv_corners corners; const char *name; } fv_resizing_options;
/* Blocks (default 2) of pixels to channels and back. Pixel (r, s) of a block is channel (r block + s) channels + c, as in
 * TensorFlow; with channel_major c block^2 + r block + s, as in PyTorch's PixelUnshuffle and PixelShuffle. */
typedef struct fv_space_to_depth_options { size_t struct_size; fv_node input; int32_t block; bool channel_major; const char *name; } fv_space_to_depth_options;
/* Channel g n + i of n = channels / groups becomes i groups + g (Zhang et al. 2017, ShuffleNet). */
typedef struct fv_channel_shuffle_options { size_t struct_size; fv_node input; int32_t groups; const char *name; } fv_channel_shuffle_options;
/* axis counts the batch as 0; 0 means the last, as in Keras's default -1 */
typedef struct fv_concat_options { size_t struct_size; fv_nodes inputs; int32_t axis; const char *name; } fv_concat_options;
typedef struct fv_merge_options { size_t struct_size; fv_nodes inputs; fv_activation activation; const char *name; } fv_merge_options;

/* Axes of a sample in another order: axis i + 1 of the output is axis dims[i] of the input; the batch, 0, stays. */
typedef struct fv_permute_options { size_t struct_size; fv_node input; int32_t dims[FV_RANK]; const char *name; } fv_permute_options;
/* [features] -> [times, features] */
typedef struct fv_repeat_vector_options { size_t struct_size; fv_node input; int32_t times; const char *name; } fv_repeat_vector_options;
/* A table of input_dim vectors of output_dim numbers: numbers (i32, or f32 without their fraction) become vectors along a
 * new last axis; those outside the table become zeros. Weights: embeddings [input_dim, output_dim], drawn from
 * +-0.05 unless an initialiser is given, as in Keras. */
typedef struct fv_embedding_options {
    size_t struct_size; fv_node input; int32_t input_dim, output_dim; bool frozen;
    fv_initializer embeddings_initializer; float l1, l2; const char *name;
} fv_embedding_options;
/* Sums of products of two inputs along an axis of each (counting the batch as 0; 0: the last), for each sample; the other
 * axes of the first come before those of the second. normalize: of vectors of length 1, which makes it the cosine. */
typedef struct fv_dot_options { size_t struct_size; fv_nodes inputs; int32_t axes[2]; bool normalize; const char *name; } fv_dot_options;

FV_API fv_node fv_input_with(fv_net *, const fv_input_options *);
FV_API fv_node fv_conv2d_with(fv_net *, const fv_conv2d_options *);
FV_API fv_node fv_conv1d_with(fv_net *, const fv_conv1d_options *);
FV_API fv_node fv_conv2d_transpose_with(fv_net *, const fv_conv2d_transpose_options *);
FV_API fv_node fv_conv1d_transpose_with(fv_net *, const fv_conv1d_transpose_options *);
FV_API fv_node fv_depthwise_conv2d_with(fv_net *, const fv_depthwise_conv2d_options *);
FV_API fv_node fv_depthwise_conv1d_with(fv_net *, const fv_depthwise_conv1d_options *);
FV_API fv_node fv_separable_conv2d_with(fv_net *, const fv_separable_conv2d_options *);
FV_API fv_node fv_separable_conv1d_with(fv_net *, const fv_separable_conv1d_options *);
FV_API fv_node fv_locally_connected2d_with(fv_net *, const fv_locally_connected2d_options *);
FV_API fv_node fv_locally_connected1d_with(fv_net *, const fv_locally_connected1d_options *);
FV_API fv_node fv_bias_with(fv_net *, const fv_bias_options *);
FV_API fv_node fv_dense_with(fv_net *, const fv_dense_options *);
FV_API fv_node fv_max_pool2d_with(fv_net *, const fv_pool2d_options *);
FV_API fv_node fv_avg_pool2d_with(fv_net *, const fv_pool2d_options *);
FV_API fv_node fv_max_pool1d_with(fv_net *, const fv_pool1d_options *);
FV_API fv_node fv_avg_pool1d_with(fv_net *, const fv_pool1d_options *);
FV_API fv_node fv_adaptive_max_pool2d_with(fv_net *, const fv_adaptive_pool2d_options *);
FV_API fv_node fv_adaptive_avg_pool2d_with(fv_net *, const fv_adaptive_pool2d_options *);
FV_API fv_node fv_max_unpool2d_with(fv_net *, const fv_max_unpool2d_options *);
FV_API fv_node fv_global_avg_pool1d_with(fv_net *, const fv_global_pool_options *);
FV_API fv_node fv_global_max_pool1d_with(fv_net *, const fv_global_pool_options *);
FV_API fv_node fv_global_avg_pool_with(fv_net *, const fv_global_pool_options *);
FV_API fv_node fv_global_max_pool_with(fv_net *, const fv_global_pool_options *);
FV_API fv_node fv_batch_norm_with(fv_net *, const fv_batch_norm_options *);
FV_API fv_node fv_lrn_with(fv_net *, const fv_lrn_options *);
FV_API fv_node fv_layer_norm_with(fv_net *, const fv_layer_norm_options *);
FV_API fv_node fv_group_norm_with(fv_net *, const fv_group_norm_options *);
FV_API fv_node fv_instance_norm_with(fv_net *, const fv_group_norm_options *);
FV_API fv_node fv_rms_norm_with(fv_net *, const fv_rms_norm_options *);
FV_API fv_node fv_unit_norm_with(fv_net *, const fv_unit_norm_options *);
FV_API fv_node fv_dropout_with(fv_net *, const fv_dropout_options *);
FV_API fv_node fv_spatial_dropout1d_with(fv_net *, const fv_dropout_options *);
FV_API fv_node fv_spatial_dropout2d_with(fv_net *, const fv_dropout_options *);
FV_API fv_node fv_alpha_dropout_with(fv_net *, const fv_dropout_options *);
FV_API fv_node fv_gaussian_dropout_with(fv_net *, const fv_dropout_options *);
FV_API fv_node fv_gaussian_noise_with(fv_net *, const fv_gaussian_noise_options *);
FV_API fv_node fv_activation_with(fv_net *, const fv_activation_options *);
FV_API fv_node fv_leaky_relu_with(fv_net *, const fv_leaky_relu_options *);
FV_API fv_node fv_elu_with(fv_net *, const fv_elu_options *);
FV_API fv_node fv_relu_with(fv_net *, const fv_relu_options *);
FV_API fv_node fv_prelu_with(fv_net *, const fv_prelu_options *);
FV_API fv_node fv_softmax_with(fv_net *, const fv_softmax_options *);
FV_API fv_node fv_rescaling_with(fv_net *, const fv_rescaling_options *);
FV_API fv_node fv_flatten_with(fv_net *, const fv_flatten_options *);
FV_API fv_node fv_reshape_with(fv_net *, const fv_reshape_options *);
FV_API fv_node fv_zero_padding_with(fv_net *, const fv_zero_padding_options *);
FV_API fv_node fv_zero_padding1d_with(fv_net *, const fv_zero_padding1d_options *);
FV_API fv_node fv_padding2d_with(fv_net *, const fv_padding2d_options *);
FV_API fv_node fv_cropping2d_with(fv_net *, const fv_cropping2d_options *);
FV_API fv_node fv_cropping1d_with(fv_net *, const fv_cropping1d_options *);
FV_API fv_node fv_up_sampling2d_with(fv_net *, const fv_up_sampling2d_options *);
FV_API fv_node fv_up_sampling1d_with(fv_net *, const fv_up_sampling1d_options *);
FV_API fv_node fv_resizing_with(fv_net *, const fv_resizing_options *);
FV_API fv_node fv_space_to_depth_with(fv_net *, const fv_space_to_depth_options *);
FV_API fv_node fv_depth_to_space_with(fv_net *, const fv_space_to_depth_options *);
FV_API fv_node fv_channel_shuffle_with(fv_net *, const fv_channel_shuffle_options *);
FV_API fv_node fv_permute_with(fv_net *, const fv_permute_options *);
FV_API fv_node fv_repeat_vector_with(fv_net *, const fv_repeat_vector_options *);
FV_API fv_node fv_embedding_with(fv_net *, const fv_embedding_options *);
FV_API fv_node fv_dot_with(fv_net *, const fv_dot_options *);
FV_API fv_node fv_concat_with(fv_net *, const fv_concat_options *);
FV_API fv_node fv_add_with(fv_net *, const fv_merge_options *);
FV_API fv_node fv_subtract_with(fv_net *, const fv_merge_options *);
FV_API fv_node fv_multiply_with(fv_net *, const fv_merge_options *);
FV_API fv_node fv_maximum_with(fv_net *, const fv_merge_options *);
FV_API fv_node fv_minimum_with(fv_net *, const fv_merge_options *);
FV_API fv_node fv_average_with(fv_net *, const fv_merge_options *);
FV_API fv_node fv_again(fv_net *, fv_node layer_output, fv_node input); /* the layer that made layer_output, on input: shared weights */
FV_API fv_node fv_call(fv_net *, fv_net *inner, fv_nodes inputs);       /* a net as a layer; it keeps its own weights */
FV_API int fv_output(fv_net *, fv_node);                                /* may be called several times */

/* What a net holds. */
FV_API fv_node fv_net_input(const fv_net *, int index);  /* id 0 past the last */
FV_API fv_node fv_net_output(const fv_net *, int index);
FV_API int fv_node_shape(const fv_net *, fv_node, int64_t dims[FV_RANK]); /* rank; dims[0] is 0: the batch */
FV_API int fv_layer_count(const fv_net *);
FV_API const char *fv_layer_name(const fv_net *, int layer);              /* valid until the net is freed */
FV_API const char *fv_layer_class(const fv_net *, int layer);             /* Keras's class: "Conv2D"       */
FV_API int fv_layer_find(fv_net *, const char *name);                     /* its number, or a status        */
FV_API int fv_freeze(fv_net *, const char *layer, bool frozen);
typedef enum fv_layout { FV_NATIVE, FV_KERAS } fv_layout;                 /* FV_KERAS: HWIO and [inputs, units] */
FV_API int fv_weight_count(fv_net *, const char *layer);
FV_API int fv_weight_shape(fv_net *, const char *layer, int index, fv_layout, int64_t dims[FV_RANK]); /* rank */
FV_API int fv_get_weights(fv_net *, const char *layer, int index, fv_layout, float *out, size_t bytes);
FV_API int fv_set_weights(fv_net *, const char *layer, int index, fv_layout, const float *in, size_t bytes);

typedef struct fv_net_size {
    size_t struct_size;
    int64_t layers, parameters, trainable, non_trainable; /* non_trainable counts running statistics, as Keras does */
    int64_t macs;                                         /* multiply-adds of conv and dense layers, one image       */
    int64_t training_bytes, inference_bytes;              /* of one step, exactly as the planner gives it            */
} fv_net_size;
FV_API int fv_measure(fv_net *, int batch_size, fv_net_size *out);
FV_API int fv_summary(fv_net *, FILE *, int batch_size); /* the table; batch_size 0: 1 */

/* ---- Data -------------------------------------------------------------------------------------------------- */

/* folder NULL: FOVEA_DATA, then ~/.cache/fovea. Searched: folder, folder/mnist, folder/MNIST/raw, folder/cifar-10-batches-bin,
 * with and without .gz. Images u8 NHWC, normalised to x / 255. */
FV_API fv_dataset *fv_mnist(fv_context *, const char *folder, fv_split);
FV_API fv_dataset *fv_cifar10(fv_context *, const char *folder, fv_split);
FV_API fv_dataset *fv_idx(fv_context *, const char *images, const char *labels); /* IDX files, plain or gzip */
FV_API fv_dataset *fv_cifar_files(fv_context *, const char *const *paths, int count);
FV_API fv_dataset *fv_digits(fv_context *, int64_t count, uint64_t seed);        /* drawn digits, 28x28x1, 10 classes */

typedef struct fv_array { const void *data; fv_type type; int32_t rank; int64_t dims[FV_RANK]; } fv_array; /* dims[0]: samples */
typedef struct fv_memory_options {
    size_t struct_size;
    const fv_array *inputs; int32_t input_count;   /* u8 or f32 (i32 for indices)            */
    const fv_array *targets; int32_t target_count; /* i32 [n] labels or f32 targets          */
    bool borrow;                                   /* the arrays outlive the data set: no copy */
    int32_t classes; const char *const *class_names;
} fv_memory_options;
FV_API fv_dataset *fv_dataset_from_memory(fv_context *, const fv_memory_options *);

/* Fills count samples, whose numbers are indices[], into buffers laid out like the shapes given. 0 or a negative status. */
typedef int (*fv_fetch)(void *user, const int64_t *indices, int count, void *const *inputs, void *const *targets);
typedef struct fv_callback_options {
    size_t struct_size;
    int64_t samples; fv_fetch fetch; void *user;
    const fv_array *inputs; int32_t input_count;   /* data NULL, dims without the sample axis */
    const fv_array *targets; int32_t target_count;
    int32_t classes; const char *const *class_names;
} fv_callback_options;
FV_API fv_dataset *fv_dataset_from_callback(fv_context *, const fv_callback_options *);
FV_API void fv_dataset_free(fv_dataset *);

FV_API int64_t fv_dataset_count(const fv_dataset *);
FV_API int fv_dataset_classes(const fv_dataset *);
FV_API int fv_dataset_shape(const fv_dataset *, int input, int64_t dims[FV_RANK]); /* rank, dims[0] = samples */
FV_API int fv_dataset_label(const fv_dataset *, int64_t sample);                   /* or -1 */
/* first: fraction of the samples (0..1). Views: they borrow from the whole, which must outlive them. */
FV_API int fv_dataset_split(fv_dataset *, float fraction, bool stratified, uint64_t seed, fv_dataset **first, fv_dataset **second);
FV_API fv_dataset *fv_dataset_take(fv_dataset *, int64_t first, int64_t count);
/* y = (x * scale - mean[c]) / deviation[c], of input 0. Zero fields: scale 1/255 for u8 and 1 for f32, mean 0, deviation 1. */
typedef struct fv_normalize_options { size_t struct_size; float scale, mean[4], deviation[4]; } fv_normalize_options;
FV_API int fv_normalize_with(fv_dataset *, const fv_normalize_options *);
/* Augmentation of the images of input 0, on the device, in training only; each draw is a function of seed, epoch and sample.
 * Targets of the images' height and width (masks) follow the geometry: integers from the nearest pixel, floats bilinearly.
 * In the order of the fields: */
typedef enum fv_border { FV_BORDER_FILL, FV_BORDER_REPLICATE, FV_BORDER_REFLECT } fv_border; /* what lies outside an image */
typedef struct fv_augment_options {
    size_t struct_size;
    bool flip;               /* left-right, half of the time                                                             */
    int32_t crop;            /* pad that many zero pixels on every side and cut the old size at random                     */
    bool flip_vertical;
    float scale[2], ratio[2]; /* random resized crop: part of the area {low, high}, width / height (default {3/4, 4/3})       */
    float rotation, shear[2]; /* degrees, drawn from -limit .. limit; shear vertically and horizontally                      */
    float shift[2], zoom[2];  /* shift in parts of height and width; zoom {low, high}, above 1 enlarges                       */
    bool nearest; fv_border border; float fill, mask_fill; /* of scale .. zoom: interpolation, and what comes from outside     */
    float brightness, contrast, saturation, hue; /* factors 1 - x .. 1 + x, hue in turns (to 0.5), in random order; as torchvision */
    float grey;              /* probability of losing all colour                                                           */
    float erase, erase_scale[2], erase_ratio[2]; /* probability of a box of zeros after normalisation: {0.02, 0.33}, {0.3, 3.3} */
    int32_t cutout;          /* instead: a square of so many pixels; erase is 1 where it is 0                               */
    float mixup, cutmix, mix_probability; /* alpha of Beta; both: either, half of the time. Labels become shares. default 1    */
    bool leave_targets;      /* masks do not follow                                                                        */
} fv_augment_options;
FV_API int fv_augment_with(fv_dataset *, const fv_augment_options *);

/* ---- Training ---------------------------------------------------------------------------------------------- */

typedef struct fv_optimizer { uint32_t kind; float value[15]; } fv_optimizer;
typedef struct fv_schedule { uint32_t kind; float value[15]; } fv_schedule;

/* weight_decay is coupled (added to the gradient, as PyTorch's SGD) unless decoupled (w -= lr decay w, as in AdamW). Biases
 * and scales decay too unless their segment says otherwise. g is the gradient, clipped.
 * SGD: v = momentum v + g; w -= lr v, or with nesterov lr (g + momentum v). Adam, AdamW (Kingma & Ba 2015, Loshchilov &
 * Hutter 2019): w -= lr m' / (sqrt(v') + epsilon), m' and v' corrected for their start; amsgrad (Reddi et al. 2018) takes
 * the largest v so far. Defaults: learning_rate 0.01 (SGD), 0.001 (Adam, AdamW), beta1 0.9, beta2 0.999, epsilon 1e-7,
 * AdamW's decay 0.004. */
typedef struct fv_sgd_options { size_t struct_size; float learning_rate, momentum, weight_decay; bool nesterov, decoupled; } fv_sgd_options;
typedef struct fv_adam_options { size_t struct_size; float learning_rate, beta1, beta2, epsilon, weight_decay; bool amsgrad; } fv_adam_options;
/* RMSprop as in PyTorch: v = rho v + (1 - rho) g^2; g / (sqrt(v) + epsilon), then momentum. centered: v less the square of
 * the mean of g. (Keras puts epsilon under the root.) Defaults 0.01, rho 0.99, epsilon 1e-8. */
typedef struct fv_rmsprop_options { size_t struct_size; float learning_rate, rho, momentum, epsilon, weight_decay; bool centered, decoupled; } fv_rmsprop_options;
/* Adagrad (Duchi et al. 2011) as in PyTorch: s = s + g^2, from initial; w -= lr / (1 + steps rate_decay) g / (sqrt(s) +
 * epsilon). Defaults 0.01, epsilon 1e-10, initial 0 (Keras: 0.1, epsilon 1e-7 under the root). */
typedef struct fv_adagrad_options { size_t struct_size; float learning_rate, rate_decay, initial, epsilon, weight_decay; bool decoupled; } fv_adagrad_options;
/* Adadelta (Zeiler 2012). Defaults 1, rho 0.9, epsilon 1e-6. */
typedef struct fv_adadelta_options { size_t struct_size; float learning_rate, rho, epsilon, weight_decay; bool decoupled; } fv_adadelta_options;
/* LARS (You et al. 2017): v = momentum v + lr q (g + decay w), q = trust |w| / (|g| + decay |w| + epsilon) for each matrix or
 * kernel, 1 for vectors. Defaults 0.1, momentum 0.9, decay 1e-4, trust 0.001, epsilon 1e-8. */
typedef struct fv_lars_options { size_t struct_size; float learning_rate, momentum, weight_decay, trust, epsilon; } fv_lars_options;
/* Muon (Jordan 2024): the momentum of each matrix or kernel [filters, rest], made orthogonal by `steps` (5) rounds of
 * Newton-Schulz and scaled by sqrt(max(1, rows / columns)); vectors by AdamW with adam_learning_rate (3e-4), beta1 0.9,
 * beta2 0.95, epsilon 1e-10. Defaults 0.02, momentum 0.95, Nesterov's form. weight_decay is decoupled. */
typedef struct fv_muon_options { size_t struct_size; float learning_rate, momentum, weight_decay; bool no_nesterov; int32_t steps;
    float adam_learning_rate, beta1, beta2, epsilon; } fv_muon_options;
FV_API fv_optimizer fv_sgd_with(const fv_sgd_options *);
FV_API fv_optimizer fv_adam_with(const fv_adam_options *);
FV_API fv_optimizer fv_adamw_with(const fv_adam_options *);
FV_API fv_optimizer fv_rmsprop_with(const fv_rmsprop_options *);
FV_API fv_optimizer fv_adagrad_with(const fv_adagrad_options *);
FV_API fv_optimizer fv_adadelta_with(const fv_adadelta_options *);
FV_API fv_optimizer fv_lion_with(const fv_adam_options *); /* Chen et al. 2023: 1e-4, 0.9, 0.99; weight_decay decoupled */
FV_API fv_optimizer fv_lamb_with(const fv_adam_options *); /* You et al. 2020: 0.001, epsilon 1e-6, decay 0.01 within the step */
FV_API fv_optimizer fv_lars_with(const fv_lars_options *);
FV_API fv_optimizer fv_muon_with(const fv_muon_options *);

/* A schedule is a factor on the optimiser's learning rate, a function of the epoch (fractions included).
 * warmup_epochs: linear from warmup_factor (default 0) to 1 before it begins. */
typedef struct fv_schedule_options {
    size_t struct_size;
    float warmup_epochs, warmup_factor;
    float final_factor;      /* cosine, linear, polynomial: where it ends (default 0)                                 */
    float gamma;             /* step, multi-step, exponential, plateau: factor (default 0.1; exponential 0.95)          */
    float step_epochs;       /* step: every so many epochs (default 1)                                                 */
    float milestones[6];     /* multi-step: epochs, ascending                                                          */
    float power;             /* polynomial (default 1)                                                                 */
    float patience, min_delta, cooldown; /* plateau: epochs without the monitored figure improving (10, 1e-4, 0)        */
    float peak_fraction, initial_factor; /* one-cycle: rises from initial_factor (0.04) to 1 in peak_fraction (0.3)     */
} fv_schedule_options;
FV_API fv_schedule fv_constant_schedule_with(const fv_schedule_options *);
FV_API fv_schedule fv_step_with(const fv_schedule_options *);
FV_API fv_schedule fv_multi_step_with(const fv_schedule_options *);
FV_API fv_schedule fv_exponential_with(const fv_schedule_options *);
FV_API fv_schedule fv_cosine_with(const fv_schedule_options *);
FV_API fv_schedule fv_linear_with(const fv_schedule_options *);
FV_API fv_schedule fv_polynomial_with(const fv_schedule_options *);
FV_API fv_schedule fv_plateau_with(const fv_schedule_options *);
FV_API fv_schedule fv_one_cycle_with(const fv_schedule_options *);
FV_API float fv_schedule_factor(fv_schedule, double epoch, double epochs); /* plateau: its warm-up only */

/* Losses: means over samples and positions. Targets: class numbers i32 [samples, ..] or rows f32 like the output's. AUTO:
 * cross-entropy for class numbers and softmax outputs, binary cross-entropy for class numbers and one output or a
 * sigmoid, else squared error. Losses of logits look through a softmax or sigmoid that made the output. */
typedef enum fv_loss {
    FV_LOSS_AUTO,
    FV_CROSS_ENTROPY,        /* of softmax; class weights divide the sum by the weights of its targets, as in PyTorch */
    FV_MEAN_SQUARED_ERROR,
    FV_BINARY_CROSS_ENTROPY, /* of sigmoid; targets 0 and 1, i32 or f32, or anything between                  */
    FV_MEAN_ABSOLUTE_ERROR,
    FV_HUBER,                /* d^2 / 2, beyond delta: delta (|d| - delta / 2)                                   */
    FV_SMOOTH_L1,            /* Huber's / delta                                                                  */
    FV_LOG_COSH,
    FV_HINGE,                /* max(0, 1 - t y): t is -1 or 1 (f32), or 0 or 1 (i32)                             */
    FV_SQUARED_HINGE,
    FV_MULTI_CLASS_HINGE,    /* mean over the classes of max(0, margin + y_j - y_target), as PyTorch's MultiMarginLoss */
    FV_KL_DIVERGENCE,        /* sum of t log(t / y) over the last axis: both are probabilities, clipped as in Keras  */
    FV_COSINE_SIMILARITY,    /* - cosine of the angle between output and target, along the last axis                */
    FV_FOCAL,                /* cross-entropy times alpha (1 - p)^gamma: Lin et al. 2017, of softmax                */
    FV_BINARY_FOCAL,         /* the same of sigmoid; alpha weighs targets 1, 1 - alpha targets 0                    */
    FV_POISSON,              /* y - t log(y + 1e-7), as in Keras                                                   */
} fv_loss;
typedef struct fv_loss_options {
    size_t struct_size;
    float delta;                               /* Huber, smooth L1: 1                                             */
    float positive_weight;                     /* binary cross-entropy: of targets that are 1 (default 1)          */
    float gamma, alpha;                        /* focal: 2, 0.25; FV_ZERO: no focus, no balance                    */
    float margin; bool squared;                /* multi-class hinge: 1                                             */
    const float *class_weights; int32_t class_count; /* cross-entropy, focal, multi-class hinge: a weight each class */
    bool ignore; int32_t ignore_label;         /* class numbers that do not count, in the accuracy neither          */
    float label_smoothing;                     /* in place of fv_fit's                                             */
    bool from_probabilities;                   /* (binary) cross-entropy of the output as it is, clipped to 1e-7    */
} fv_loss_options;
/* A loss of one's own: called while recording, appends operations, returns a scalar or one value a sample. */
typedef fv_value (*fv_loss_function)(fv_tape *, fv_value prediction, fv_value target, void *user);

typedef struct fv_metrics {                  /* of one epoch; NAN where not measured */
    int32_t epoch, epochs;                   /* epoch counts from 1                  */
    int32_t batch, batches;
    double loss, accuracy, val_loss, val_accuracy, learning_rate, seconds;
} fv_metrics;
/* Return 0 to go on, 1 to stop after saving, a negative status to fail. Any may be NULL. */
typedef struct fv_callbacks {
    size_t struct_size; void *user;
    int (*train_begin)(void *user, fv_net *), (*train_end)(void *user, fv_net *);
    int (*epoch_begin)(void *user, fv_net *, const fv_metrics *), (*epoch_end)(void *user, fv_net *, const fv_metrics *);
    int (*batch_end)(void *user, fv_net *, const fv_metrics *);
} fv_callbacks;

typedef struct fv_fit_options {
    size_t struct_size; fv_dataset *data, *validation;
    int32_t epochs, batch_size;              /* 1, 32 */
    fv_optimizer optimizer; fv_schedule schedule;
    fv_loss loss; float label_smoothing;
    const fv_loss *losses; const float *loss_weights; /* one an output, when there are several */
    fv_loss_function loss_function; void *user;
    float clip_value, clip_norm;
    FILE *progress;                          /* a bar on a terminal, a line an epoch in a pipe      */
    const volatile sig_atomic_t *stop;       /* set by a signal handler: saves and stops, FV_ERROR_STOPPED */
    const char *output;                      /* folder for history.csv, curves.svg, best.h5, last.h5 */
    const char *resume;                      /* a last.h5: goes on bit for bit                      */
    bool restart;                            /* forget what an earlier fv_fit of this net reached    */
    bool no_shuffle;
    int32_t patience; float min_delta; bool restore_best; /* early stopping on val_loss, else loss; 0: none   */
    int32_t save_steps;                      /* also write last.h5 every so many steps               */
    const fv_callbacks *callbacks;
    const char *arguments;                   /* JSON text kept in checkpoints beside the history      */
    int32_t stop_after_steps;                /* 0: none; counts steps of this call                    */
    const fv_loss_options *loss_options;     /* with losses: an array, one an output                  */
    fv_precision precision;                  /* of training and validation                            */
} fv_fit_options;
FV_API int fv_fit_with(fv_net *, const fv_fit_options *);
typedef struct fv_history { const fv_metrics *epoch; int32_t count; int32_t best; } fv_history; /* best: index of the best epoch */
FV_API fv_history fv_net_history(const fv_net *);

typedef struct fv_result { size_t struct_size; int64_t correct, correct_top_k, total; double loss, accuracy, top_k_accuracy, seconds; } fv_result;
typedef struct fv_evaluate_options {
    size_t struct_size; fv_dataset *data; int32_t batch_size; /* 256 */ int32_t top_k; /* 5 */
    fv_loss loss; fv_loss_function loss_function; void *user; fv_result *result;
    float label_smoothing; const fv_loss *losses; const float *loss_weights; const fv_loss_options *loss_options;
    fv_precision precision;
} fv_evaluate_options;
FV_API int fv_evaluate_with(fv_net *, const fv_evaluate_options *);

/* Output of the net for count samples: of a data set, or of arrays (f32, or u8 as normalised by 1/255 unless raw). */
typedef struct fv_predict_options {
    size_t struct_size; fv_dataset *data;
    const fv_array *inputs; int32_t input_count;   /* instead of data */
    int64_t count;                                 /* 0: all          */
    int32_t batch_size; float *const *outputs; int32_t output_count; size_t output_bytes; /* of each output */
    float *output;                                 /* of a net with one output */
    fv_precision precision;
} fv_predict_options;
FV_API int fv_predict_with(fv_net *, const fv_predict_options *);

/* ---- Files ------------------------------------------------------------------------------------------------- */

FV_API int fv_save(fv_net *, const char *path);             /* Keras's HDF5 layout with model_config; replaces path atomically */
FV_API fv_net *fv_load(fv_context *, const char *path);     /* .h5 or .keras, by Fovea or by Keras                              */
FV_API int fv_load_weights(fv_net *, const char *path);     /* also .weights.h5 and weights-only .h5                            */
FV_API fv_net *fv_model(fv_context *, const char *name);    /* a network of the literature by name: "lenet5", "vgg11_bn_cifar"  */
FV_API const char *fv_model_name(int index);                /* of the catalogue; NULL past its end                              */

/* ---- The tape ---------------------------------------------------------------------------------------------- */
/* A flat list of operations in the order of recording. Differentiating appends ordinary operations. fv_compile fuses,
 * plans and prepares; fv_run executes without an allocation. State (weights, statistics, optimiser) stays in the net. */

FV_API fv_tape *fv_tape_new(fv_context *);
FV_API void fv_tape_free(fv_tape *);
FV_API fv_value fv_op_input(fv_tape *, const int64_t *shape, int rank, fv_type);
FV_API fv_value fv_op_constant(fv_tape *, const int64_t *shape, int rank, const float *values); /* copied */
FV_API fv_value fv_op_scalar(fv_tape *, float);
FV_API fv_value fv_record(fv_tape *, fv_net *, fv_values inputs, fv_mode);      /* the first output */
FV_API int fv_record_all(fv_tape *, fv_net *, fv_values inputs, fv_mode, fv_value *outputs, int capacity); /* count */
FV_API fv_value fv_op_add(fv_tape *, fv_value, fv_value);   /* with broadcasting, as are the next three */
FV_API fv_value fv_op_sub(fv_tape *, fv_value, fv_value);
FV_API fv_value fv_op_mul(fv_tape *, fv_value, fv_value);
FV_API fv_value fv_op_div(fv_tape *, fv_value, fv_value);
FV_API fv_value fv_op_relu(fv_tape *, fv_value);
FV_API fv_value fv_op_tanh(fv_tape *, fv_value);
FV_API fv_value fv_op_sigmoid(fv_tape *, fv_value);
FV_API fv_value fv_op_activation(fv_tape *, fv_value, fv_activation);     /* any; softmax over the last axis */
FV_API fv_value fv_op_leaky_relu(fv_tape *, fv_value, float negative_slope);
FV_API fv_value fv_op_elu(fv_tape *, fv_value, float alpha);
FV_API fv_value fv_op_prelu(fv_tape *, fv_value, fv_value slope);           /* slope repeats to the shape of the first */
FV_API fv_value fv_op_exp(fv_tape *, fv_value);
FV_API fv_value fv_op_log(fv_tape *, fv_value);
FV_API fv_value fv_op_sqrt(fv_tape *, fv_value);
FV_API fv_value fv_op_rsqrt(fv_tape *, fv_value);
FV_API fv_value fv_op_square(fv_tape *, fv_value);
FV_API fv_value fv_op_abs(fv_tape *, fv_value);
FV_API fv_value fv_op_affine(fv_tape *, fv_value, float a, float b);        /* a x + b */
FV_API fv_value fv_op_clamp(fv_tape *, fv_value, float low, float high);    /* -INFINITY, INFINITY: no bound */
FV_API fv_value fv_op_power(fv_tape *, fv_value, fv_value);                 /* with broadcasting, as are all that follow */
FV_API fv_value fv_op_maximum(fv_tape *, fv_value, fv_value);               /* NaN if either is; equal ones share the gradient */
FV_API fv_value fv_op_minimum(fv_tape *, fv_value, fv_value);
FV_API fv_value fv_op_equal(fv_tape *, fv_value, fv_value);                 /* comparisons give f32: 1 or 0 */
FV_API fv_value fv_op_not_equal(fv_tape *, fv_value, fv_value);
FV_API fv_value fv_op_less(fv_tape *, fv_value, fv_value);
FV_API fv_value fv_op_less_equal(fv_tape *, fv_value, fv_value);
FV_API fv_value fv_op_greater(fv_tape *, fv_value, fv_value);
FV_API fv_value fv_op_greater_equal(fv_tape *, fv_value, fv_value);
FV_API fv_value fv_op_where(fv_tape *, fv_value condition, fv_value a, fv_value b); /* a where the condition is not 0 */
FV_API fv_value fv_op_softmax(fv_tape *, fv_value, int axis);
FV_API fv_value fv_op_log_softmax(fv_tape *, fv_value, int axis);
FV_API fv_value fv_op_sum(fv_tape *, fv_value, const int *axes, int count, bool keep_dims);  /* count 0: all axes */
FV_API fv_value fv_op_mean(fv_tape *, fv_value);                                             /* over everything   */
FV_API fv_value fv_op_mean_over(fv_tape *, fv_value, const int *axes, int count, bool keep_dims); /* as sum has it, as do the next */
FV_API fv_value fv_op_max(fv_tape *, fv_value, const int *axes, int count, bool keep_dims);
FV_API fv_value fv_op_min(fv_tape *, fv_value, const int *axes, int count, bool keep_dims);
FV_API fv_value fv_op_prod(fv_tape *, fv_value, const int *axes, int count, bool keep_dims);
FV_API fv_value fv_op_logsumexp(fv_tape *, fv_value, const int *axes, int count, bool keep_dims);
FV_API fv_value fv_op_argmax(fv_tape *, fv_value, const int *axes, int count, bool keep_dims); /* i32: number among the reduced elements, the first of equal ones */
FV_API fv_value fv_op_argmin(fv_tape *, fv_value, const int *axes, int count, bool keep_dims);
/* The sum of squares is divided by the count less correction: 0 as in Keras, 1 as PyTorch has it. mean may be NULL. */
FV_API fv_value fv_op_variance(fv_tape *, fv_value, const int *axes, int count, bool keep_dims, int correction, fv_value *mean);
FV_API fv_value fv_op_cumsum(fv_tape *, fv_value, int axis, bool exclusive, bool reverse);
FV_API fv_value fv_op_reshape(fv_tape *, fv_value, const int64_t *shape, int rank);
FV_API fv_value fv_op_slice(fv_tape *, fv_value, const int64_t *begin, const int64_t *size); /* one pair an axis  */
FV_API fv_value fv_op_strided_slice(fv_tape *, fv_value, const int64_t *begin, const int64_t *size, const int64_t *step); /* size elements of each axis, every step-th; a negative step goes backwards */
FV_API fv_value fv_op_reverse(fv_tape *, fv_value, const int *axes, int count);              /* count 0: all axes */
FV_API int fv_op_split(fv_tape *, fv_value, int axis, const int64_t *sizes, int count, fv_value *parts); /* sizes NULL: equal parts */
FV_API fv_value fv_op_stack(fv_tape *, fv_values, int axis);                                  /* along a new axis */
FV_API fv_value fv_op_transpose(fv_tape *, fv_value, const int *axes); /* axis i becomes x's axis axes[i]; NULL: reversed */
FV_API fv_value fv_op_gather(fv_tape *, fv_value, fv_value numbers, int axis, int batch_axes); /* numbers i32 along an axis, outside it: zeros; the first batch_axes are common */
FV_API fv_value fv_op_scatter_add(fv_tape *, fv_value numbers, fv_value values, int axis, int batch_axes, int64_t size); /* the reverse, in zeros of size along the axis */
FV_API fv_value fv_op_one_hot(fv_tape *, fv_value numbers, int classes);                      /* f32 [.., classes] */
FV_API fv_value fv_op_top_k(fv_tape *, fv_value, int k, fv_value *numbers);                   /* of the last axis, largest first; numbers i32, may be NULL */
FV_API fv_value fv_op_concat(fv_tape *, fv_values, int axis);
/* Convolutions: zeros are stride 1, dilation 1, no padding, one group; settings NULL: all of that. Filters as the layers
 * have them. size: height and width of a transposed convolution's result, 0: all that the windows reach. */
typedef struct fv_conv_settings {
    size_t struct_size; int32_t stride[2], dilation[2], pad[4], groups; bool flip_kernel; int64_t size[2];
} fv_conv_settings;
FV_API fv_value fv_op_conv2d(fv_tape *, fv_value x, fv_value kernel, const fv_conv_settings *);
FV_API fv_value fv_op_conv2d_transpose(fv_tape *, fv_value x, fv_value kernel, const fv_conv_settings *);
FV_API fv_value fv_op_local_conv2d(fv_tape *, fv_value x, fv_value kernel, const fv_conv_settings *);
typedef struct fv_window { int32_t size[2], stride[2], pad[4]; bool ceil_mode, exclude_padding; /* stride 0: size; pad: top, bottom, left, right */
    int32_t output[2];                                                                        /* set: adaptive, and nothing above   */
    bool flat;                                                                                /* index: row * width + column of the image, not of the window */
} fv_window;
FV_API fv_value fv_op_max_pool2d(fv_tape *, fv_value x, const fv_window *, fv_value *index);  /* index may be NULL: where each maximum lies */
FV_API fv_value fv_op_avg_pool2d(fv_tape *, fv_value x, const fv_window *);
FV_API fv_value fv_op_max_unpool2d(fv_tape *, fv_value x, fv_value index, const fv_window *, int64_t height, int64_t width);
FV_API fv_value fv_op_resize(fv_tape *, fv_value x, int64_t height, int64_t width, fv_interpolation, fv_corners); /* [n, h, w, c] */
FV_API fv_value fv_op_pad(fv_tape *, fv_value x, const int64_t *before, const int64_t *after, fv_pad_mode, float value); /* a number an axis */
FV_API fv_value fv_op_dense(fv_tape *, fv_value x, fv_value kernel);                          /* x kernel'         */
FV_API fv_value fv_op_layer_norm(fv_tape *, fv_value x, fv_value gamma, fv_value beta, int axes, float epsilon); /* over the last axes; gamma, beta may be invalid */
FV_API fv_value fv_op_group_norm(fv_tape *, fv_value x, fv_value gamma, fv_value beta, int groups, float epsilon); /* as many groups as channels: instance norm */
FV_API fv_value fv_op_rms_norm(fv_tape *, fv_value x, fv_value gamma, int axes, float epsilon);
FV_API fv_value fv_op_unit_norm(fv_tape *, fv_value x, int axes, float epsilon);              /* x / max(length, epsilon) */
FV_API fv_value fv_op_matmul(fv_tape *, fv_value a, fv_value b, bool transpose_a, bool transpose_b); /* as NumPy: batches broadcast, a vector is a row on the left and a column on the right */
FV_API fv_value fv_op_softmax_cross_entropy(fv_tape *, fv_value logits, fv_value target, float smoothing); /* one a row */
FV_API fv_value fv_op_mean_squared_error(fv_tape *, fv_value prediction, fv_value target);    /* one a row         */
FV_API fv_value fv_op_loss(fv_tape *, fv_loss, fv_value prediction, fv_value target, const fv_loss_options *);      /* the scalar that fv_fit minimises */
FV_API fv_value fv_op_loss_rows(fv_tape *, fv_loss, fv_value prediction, fv_value target, const fv_loss_options *); /* before the mean: one a sample or position */
FV_API fv_value fv_op_regularization(fv_tape *, fv_net *);  /* the penalties of the net's layers, a scalar: 0 if none */
FV_API int fv_watch(fv_tape *, fv_value);                   /* an input that wants a gradient too, as trainable weights do */
FV_API int fv_backward(fv_tape *, fv_value loss);           /* loss: a scalar */
FV_API fv_value fv_gradient(fv_tape *, fv_value);           /* after fv_backward; invalid if there is none */
FV_API fv_value fv_weight_value(fv_tape *, fv_net *, const char *layer, int index); /* a weight as a value of this tape */
FV_API int fv_op_update(fv_tape *, fv_net *, fv_optimizer); /* one optimiser step over all trainable weights */
FV_API int fv_keep(fv_tape *, fv_value);                    /* readable after a run */
typedef struct fv_compile_options {
    size_t struct_size;
    bool debug;                                             /* no fusion, no reuse, every value readable */
    fv_precision precision;                                 /* values are written and read in the types of the tape all the same */
} fv_compile_options;
FV_API fv_program *fv_compile(fv_tape *);
FV_API fv_program *fv_compile_with(fv_tape *, const fv_compile_options *);
FV_API void fv_program_free(fv_program *);
FV_API int fv_write(fv_program *, fv_value, const void *data, size_t bytes);
FV_API int fv_run(fv_program *);
FV_API int fv_read(fv_program *, fv_value, void *data, size_t bytes);
FV_API int fv_tape_print(const fv_tape *, FILE *);          /* a line an operation */
FV_API int fv_tape_dot(const fv_tape *, FILE *);            /* Graphviz            */
FV_API int fv_program_print(const fv_program *, FILE *);    /* after fusion and planning: offsets, algorithms */
FV_API int fv_program_profile(fv_program *, int runs, FILE *); /* a line a step: time, FLOPs, bytes           */
FV_API int64_t fv_program_bytes(const fv_program *);        /* of the arena: temporaries, inputs, scratch     */
FV_API double fv_program_flops(const fv_program *);         /* of a run, as its operations count them         */
/* Times the ways in which the device can do each operation of the program, in memory of its own, and writes the fastest to a file for
 * fv_open's .tuned; what the file says of other operations stays. report: a line an operation that has several ways, or NULL. */
FV_API int fv_tune(fv_program *, const char *path, FILE *report);

/* ---- What there is ------------------------------------------------------------------------------------------ */
/* Operations and layers as data: what `fovea operations` and `fovea layers` print. Each is called in the order of the
 * tables, with texts that live during the call. Both return how many there are; each may be NULL. */

typedef struct fv_operation_info {
    const char *name, *about;        /* "conv2d", "x [n,h,w,c], w [k,r,s,c/groups] -> y [n,p,q,k]" */
    const char *attributes;          /* "stride[2], dilation[2] = 1, ...": with what is usual       */
    const char *backends, *source;   /* "reference, cpu", "src/ops/convolution.c"                   */
    int32_t least, most, outputs;    /* inputs; most -1: any number                                 */
    bool gradient, fused, view, writes; /* fused: made by the compiler only; view: no kernel; writes: state */
} fv_operation_info;
typedef struct fv_layer_info {
    const char *name, *about;        /* "fv_conv2d", what it does                                    */
    const char *class_name;          /* Keras's: "Conv2D"; "fovea>LRN" where Keras has none          */
    const char *options;             /* "filters, kernel = 1, ...": with defaults                    */
    int32_t least, most;             /* inputs                                                       */
} fv_layer_info;
FV_API int fv_operations(void (*each)(void *user, const fv_operation_info *), void *user);
FV_API int fv_layers(void (*each)(void *user, const fv_layer_info *), void *user);

/* ---- Macros that make options pleasant in C ---------------------------------------------------------------- */

#define FV_OPTIONS(type, name) type name = {0}; name.struct_size = sizeof(type)
#ifndef __cplusplus
#define FV_CALL_(type, first, ...) (&(const type){ .struct_size = sizeof(type), .first = __VA_ARGS__ })
#define FV_SET_(type, ...) (&(const type){ .struct_size = sizeof(type), __VA_ARGS__ })
#define FV_NODES(...) ((fv_nodes){ (const fv_node[]){ __VA_ARGS__ }, (int32_t)(sizeof((fv_node[]){ __VA_ARGS__ }) / sizeof(fv_node)) })
#define FV_VALUES(...) ((fv_values){ (const fv_value[]){ __VA_ARGS__ }, (int32_t)(sizeof((fv_value[]){ __VA_ARGS__ }) / sizeof(fv_value)) })
/* fv_input(net, 28, 28, 1): the shape of one sample */
#define fv_input(net, ...) fv_input_with(net, &(const fv_input_options){ .struct_size = sizeof(fv_input_options), .shape = { __VA_ARGS__ }, \
        .rank = (int32_t)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)) })
#define fv_conv2d(net, ...) fv_conv2d_with(net, FV_CALL_(fv_conv2d_options, input, __VA_ARGS__))
#define fv_conv1d(net, ...) fv_conv1d_with(net, FV_CALL_(fv_conv1d_options, input, __VA_ARGS__))
#define fv_conv2d_transpose(net, ...) fv_conv2d_transpose_with(net, FV_CALL_(fv_conv2d_transpose_options, input, __VA_ARGS__))
#define fv_conv1d_transpose(net, ...) fv_conv1d_transpose_with(net, FV_CALL_(fv_conv1d_transpose_options, input, __VA_ARGS__))
#define fv_depthwise_conv2d(net, ...) fv_depthwise_conv2d_with(net, FV_CALL_(fv_depthwise_conv2d_options, input, __VA_ARGS__))
#define fv_depthwise_conv1d(net, ...) fv_depthwise_conv1d_with(net, FV_CALL_(fv_depthwise_conv1d_options, input, __VA_ARGS__))
#define fv_separable_conv2d(net, ...) fv_separable_conv2d_with(net, FV_CALL_(fv_separable_conv2d_options, input, __VA_ARGS__))
#define fv_separable_conv1d(net, ...) fv_separable_conv1d_with(net, FV_CALL_(fv_separable_conv1d_options, input, __VA_ARGS__))
#define fv_locally_connected2d(net, ...) fv_locally_connected2d_with(net, FV_CALL_(fv_locally_connected2d_options, input, __VA_ARGS__))
#define fv_locally_connected1d(net, ...) fv_locally_connected1d_with(net, FV_CALL_(fv_locally_connected1d_options, input, __VA_ARGS__))
#define fv_bias(net, ...) fv_bias_with(net, FV_CALL_(fv_bias_options, input, __VA_ARGS__))
#define fv_dense(net, ...) fv_dense_with(net, FV_CALL_(fv_dense_options, input, __VA_ARGS__))
#define fv_max_pool2d(net, ...) fv_max_pool2d_with(net, FV_CALL_(fv_pool2d_options, input, __VA_ARGS__))
#define fv_avg_pool2d(net, ...) fv_avg_pool2d_with(net, FV_CALL_(fv_pool2d_options, input, __VA_ARGS__))
#define fv_max_pool1d(net, ...) fv_max_pool1d_with(net, FV_CALL_(fv_pool1d_options, input, __VA_ARGS__))
#define fv_avg_pool1d(net, ...) fv_avg_pool1d_with(net, FV_CALL_(fv_pool1d_options, input, __VA_ARGS__))
#define fv_adaptive_max_pool2d(net, ...) fv_adaptive_max_pool2d_with(net, FV_CALL_(fv_adaptive_pool2d_options, input, __VA_ARGS__))
#define fv_adaptive_avg_pool2d(net, ...) fv_adaptive_avg_pool2d_with(net, FV_CALL_(fv_adaptive_pool2d_options, input, __VA_ARGS__))
#define fv_max_unpool2d(net, ...) fv_max_unpool2d_with(net, FV_CALL_(fv_max_unpool2d_options, input, __VA_ARGS__))
#define fv_global_avg_pool1d(net, ...) fv_global_avg_pool1d_with(net, FV_CALL_(fv_global_pool_options, input, __VA_ARGS__))
#define fv_global_max_pool1d(net, ...) fv_global_max_pool1d_with(net, FV_CALL_(fv_global_pool_options, input, __VA_ARGS__))
#define fv_global_avg_pool(net, ...) fv_global_avg_pool_with(net, FV_CALL_(fv_global_pool_options, input, __VA_ARGS__))
#define fv_global_max_pool(net, ...) fv_global_max_pool_with(net, FV_CALL_(fv_global_pool_options, input, __VA_ARGS__))
#define fv_batch_norm(net, ...) fv_batch_norm_with(net, FV_CALL_(fv_batch_norm_options, input, __VA_ARGS__))
#define fv_lrn(net, ...) fv_lrn_with(net, FV_CALL_(fv_lrn_options, input, __VA_ARGS__))
#define fv_layer_norm(net, ...) fv_layer_norm_with(net, FV_CALL_(fv_layer_norm_options, input, __VA_ARGS__))
#define fv_group_norm(net, ...) fv_group_norm_with(net, FV_CALL_(fv_group_norm_options, input, __VA_ARGS__))
#define fv_instance_norm(net, ...) fv_instance_norm_with(net, FV_CALL_(fv_group_norm_options, input, __VA_ARGS__))
#define fv_rms_norm(net, ...) fv_rms_norm_with(net, FV_CALL_(fv_rms_norm_options, input, __VA_ARGS__))
#define fv_unit_norm(net, ...) fv_unit_norm_with(net, FV_CALL_(fv_unit_norm_options, input, __VA_ARGS__))
#define fv_dropout(net, ...) fv_dropout_with(net, FV_CALL_(fv_dropout_options, input, __VA_ARGS__))
#define fv_spatial_dropout1d(net, ...) fv_spatial_dropout1d_with(net, FV_CALL_(fv_dropout_options, input, __VA_ARGS__))
#define fv_spatial_dropout2d(net, ...) fv_spatial_dropout2d_with(net, FV_CALL_(fv_dropout_options, input, __VA_ARGS__))
#define fv_alpha_dropout(net, ...) fv_alpha_dropout_with(net, FV_CALL_(fv_dropout_options, input, __VA_ARGS__))
#define fv_gaussian_dropout(net, ...) fv_gaussian_dropout_with(net, FV_CALL_(fv_dropout_options, input, __VA_ARGS__))
#define fv_gaussian_noise(net, ...) fv_gaussian_noise_with(net, FV_CALL_(fv_gaussian_noise_options, input, __VA_ARGS__))
#define fv_activate(net, ...) fv_activation_with(net, FV_CALL_(fv_activation_options, input, __VA_ARGS__))
#define fv_leaky_relu(net, ...) fv_leaky_relu_with(net, FV_CALL_(fv_leaky_relu_options, input, __VA_ARGS__))
#define fv_elu(net, ...) fv_elu_with(net, FV_CALL_(fv_elu_options, input, __VA_ARGS__))
#define fv_relu(net, ...) fv_relu_with(net, FV_CALL_(fv_relu_options, input, __VA_ARGS__))
#define fv_prelu(net, ...) fv_prelu_with(net, FV_CALL_(fv_prelu_options, input, __VA_ARGS__))
#define fv_softmax(net, ...) fv_softmax_with(net, FV_CALL_(fv_softmax_options, input, __VA_ARGS__))
#define fv_rescaling(net, ...) fv_rescaling_with(net, FV_CALL_(fv_rescaling_options, input, __VA_ARGS__))
#define fv_flatten(net, ...) fv_flatten_with(net, FV_CALL_(fv_flatten_options, input, __VA_ARGS__))
#define fv_reshape(net, ...) fv_reshape_with(net, FV_CALL_(fv_reshape_options, input, __VA_ARGS__))
#define fv_zero_padding(net, ...) fv_zero_padding_with(net, FV_CALL_(fv_zero_padding_options, input, __VA_ARGS__))
#define fv_zero_padding1d(net, ...) fv_zero_padding1d_with(net, FV_CALL_(fv_zero_padding1d_options, input, __VA_ARGS__))
#define fv_padding2d(net, ...) fv_padding2d_with(net, FV_CALL_(fv_padding2d_options, input, __VA_ARGS__))
#define fv_cropping2d(net, ...) fv_cropping2d_with(net, FV_CALL_(fv_cropping2d_options, input, __VA_ARGS__))
#define fv_cropping1d(net, ...) fv_cropping1d_with(net, FV_CALL_(fv_cropping1d_options, input, __VA_ARGS__))
#define fv_up_sampling2d(net, ...) fv_up_sampling2d_with(net, FV_CALL_(fv_up_sampling2d_options, input, __VA_ARGS__))
#define fv_up_sampling1d(net, ...) fv_up_sampling1d_with(net, FV_CALL_(fv_up_sampling1d_options, input, __VA_ARGS__))
#define fv_resizing(net, ...) fv_resizing_with(net, FV_CALL_(fv_resizing_options, input, __VA_ARGS__))
#define fv_space_to_depth(net, ...) fv_space_to_depth_with(net, FV_CALL_(fv_space_to_depth_options, input, __VA_ARGS__))
#define fv_depth_to_space(net, ...) fv_depth_to_space_with(net, FV_CALL_(fv_space_to_depth_options, input, __VA_ARGS__))
#define fv_channel_shuffle(net, ...) fv_channel_shuffle_with(net, FV_CALL_(fv_channel_shuffle_options, input, __VA_ARGS__))
#define fv_permute(net, ...) fv_permute_with(net, FV_CALL_(fv_permute_options, input, __VA_ARGS__))
#define fv_repeat_vector(net, ...) fv_repeat_vector_with(net, FV_CALL_(fv_repeat_vector_options, input, __VA_ARGS__))
#define fv_embedding(net, ...) fv_embedding_with(net, FV_CALL_(fv_embedding_options, input, __VA_ARGS__))
#define fv_dot(net, ...) fv_dot_with(net, FV_CALL_(fv_dot_options, inputs, __VA_ARGS__))
#define fv_concat(net, ...) fv_concat_with(net, FV_CALL_(fv_concat_options, inputs, __VA_ARGS__))
#define fv_add(net, ...) fv_add_with(net, FV_CALL_(fv_merge_options, inputs, __VA_ARGS__))
#define fv_subtract(net, ...) fv_subtract_with(net, FV_CALL_(fv_merge_options, inputs, __VA_ARGS__))
#define fv_multiply(net, ...) fv_multiply_with(net, FV_CALL_(fv_merge_options, inputs, __VA_ARGS__))
#define fv_maximum(net, ...) fv_maximum_with(net, FV_CALL_(fv_merge_options, inputs, __VA_ARGS__))
#define fv_minimum(net, ...) fv_minimum_with(net, FV_CALL_(fv_merge_options, inputs, __VA_ARGS__))
#define fv_average(net, ...) fv_average_with(net, FV_CALL_(fv_merge_options, inputs, __VA_ARGS__))
#define fv_fit(net, ...) fv_fit_with(net, FV_CALL_(fv_fit_options, data, __VA_ARGS__))
#define fv_evaluate(net, ...) fv_evaluate_with(net, FV_CALL_(fv_evaluate_options, data, __VA_ARGS__))
#define fv_predict(net, ...) fv_predict_with(net, FV_CALL_(fv_predict_options, data, __VA_ARGS__))
#define fv_normalize(dataset, ...) fv_normalize_with(dataset, FV_SET_(fv_normalize_options, __VA_ARGS__))
#define fv_augment(dataset, ...) fv_augment_with(dataset, FV_SET_(fv_augment_options, __VA_ARGS__))
#define fv_sgd(...) fv_sgd_with(FV_SET_(fv_sgd_options, __VA_ARGS__))
#define fv_adam(...) fv_adam_with(FV_SET_(fv_adam_options, __VA_ARGS__))
#define fv_adamw(...) fv_adamw_with(FV_SET_(fv_adam_options, __VA_ARGS__))
#define fv_rmsprop(...) fv_rmsprop_with(FV_SET_(fv_rmsprop_options, __VA_ARGS__))
#define fv_adagrad(...) fv_adagrad_with(FV_SET_(fv_adagrad_options, __VA_ARGS__))
#define fv_adadelta(...) fv_adadelta_with(FV_SET_(fv_adadelta_options, __VA_ARGS__))
#define fv_lion(...) fv_lion_with(FV_SET_(fv_adam_options, __VA_ARGS__))
#define fv_lamb(...) fv_lamb_with(FV_SET_(fv_adam_options, __VA_ARGS__))
#define fv_lars(...) fv_lars_with(FV_SET_(fv_lars_options, __VA_ARGS__))
#define fv_muon(...) fv_muon_with(FV_SET_(fv_muon_options, __VA_ARGS__))
#define fv_constant_schedule(...) fv_constant_schedule_with(FV_SET_(fv_schedule_options, __VA_ARGS__))
#define fv_step(...) fv_step_with(FV_SET_(fv_schedule_options, __VA_ARGS__))
#define fv_multi_step(...) fv_multi_step_with(FV_SET_(fv_schedule_options, __VA_ARGS__))
#define fv_exponential(...) fv_exponential_with(FV_SET_(fv_schedule_options, __VA_ARGS__))
#define fv_cosine(...) fv_cosine_with(FV_SET_(fv_schedule_options, __VA_ARGS__))
#define fv_linear(...) fv_linear_with(FV_SET_(fv_schedule_options, __VA_ARGS__))
#define fv_polynomial(...) fv_polynomial_with(FV_SET_(fv_schedule_options, __VA_ARGS__))
#define fv_plateau(...) fv_plateau_with(FV_SET_(fv_schedule_options, __VA_ARGS__))
#define fv_one_cycle(...) fv_one_cycle_with(FV_SET_(fv_schedule_options, __VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
