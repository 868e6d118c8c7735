/* net.h - a net is data: layers with their options and weights, nodes, names. It is bound to no device; for a device it
 * makes a store, for a batch and a mode it records itself on a tape.
 *   net.c  nodes, names, outputs    record.c  recording, shapes by a trial recording    options.c  fv_*_with
 *   layers.c, layers_*.c  table of layer types: weights, operations    weights.c  host copy, store, get and set
 *   layers.c, layers_activation.c, layers_window.c  table of layer types: weights, operations    weights.c  host copy, store, get and set
 *   initializer.c    measure.c summary.c    config*.c  Keras's JSON, both ways */
#ifndef FV_NET_H
#define FV_NET_H
#include "program/program.h"
#include "tape/tape.h"
#include <jansson.h>

enum { FV_LAYER_WEIGHTS = 4 };

typedef enum fv_layer_kind {
    FV_LAYER_NONE,
    FV_LAYER_CONV1D, FV_LAYER_CONV2D_TRANSPOSE, FV_LAYER_CONV1D_TRANSPOSE, FV_LAYER_SEPARABLE_CONV2D,
    FV_LAYER_SEPARABLE_CONV1D, FV_LAYER_LOCALLY_CONNECTED2D, FV_LAYER_LOCALLY_CONNECTED1D, FV_LAYER_BIAS,
    FV_LAYER_INPUT, FV_LAYER_CONV2D, FV_LAYER_DENSE, FV_LAYER_MAX_POOL2D, FV_LAYER_AVG_POOL2D,
    FV_LAYER_GLOBAL_AVG_POOL, FV_LAYER_GLOBAL_MAX_POOL, FV_LAYER_BATCH_NORM, FV_LAYER_LRN, FV_LAYER_DROPOUT,
    FV_LAYER_ACTIVATION, FV_LAYER_FLATTEN, FV_LAYER_RESHAPE, FV_LAYER_ZERO_PADDING, FV_LAYER_CONCAT, FV_LAYER_ADD,
    FV_LAYER_MAXIMUM, FV_LAYER_MINIMUM, FV_LAYER_AVERAGE, FV_LAYER_LEAKY_RELU, FV_LAYER_ELU, FV_LAYER_RELU,
    FV_LAYER_PRELU, FV_LAYER_SOFTMAX, FV_LAYER_RESCALING,
    FV_LAYER_LAYER_NORM, FV_LAYER_GROUP_NORM, FV_LAYER_RMS_NORM, FV_LAYER_UNIT_NORM,
    FV_LAYER_SPATIAL_DROPOUT1D, FV_LAYER_SPATIAL_DROPOUT2D, FV_LAYER_ALPHA_DROPOUT, FV_LAYER_GAUSSIAN_DROPOUT, FV_LAYER_GAUSSIAN_NOISE,
    FV_LAYER_SUBTRACT, FV_LAYER_MULTIPLY,
    FV_LAYER_MAX_POOL1D, FV_LAYER_AVG_POOL1D, FV_LAYER_GLOBAL_AVG_POOL1D, FV_LAYER_GLOBAL_MAX_POOL1D,
    FV_LAYER_ADAPTIVE_MAX_POOL2D, FV_LAYER_ADAPTIVE_AVG_POOL2D, FV_LAYER_MAX_UNPOOL2D, FV_LAYER_ZERO_PADDING1D,
    FV_LAYER_PADDING2D, FV_LAYER_CROPPING2D, FV_LAYER_CROPPING1D, FV_LAYER_UP_SAMPLING2D, FV_LAYER_UP_SAMPLING1D,
    FV_LAYER_RESIZING, FV_LAYER_SPACE_TO_DEPTH, FV_LAYER_DEPTH_TO_SPACE, FV_LAYER_CHANNEL_SHUFFLE,
    FV_LAYER_PERMUTE, FV_LAYER_REPEAT_VECTOR, FV_LAYER_EMBEDDING, FV_LAYER_DOT, FV_LAYER_NET, FV_LAYER_KIND_COUNT
} fv_layer_kind;

/* The layers of convolution share one form, whatever the form of their public options; those of sequences have a
 * window of one row. In a union, so that `conv2d` may be read of each. */
typedef struct fv_transpose_options {
    fv_conv2d_options conv;
    int32_t output_padding[2];
    bool exact;              /* output_padding is meant, zeros included; else as Keras's None */
} fv_transpose_options;
typedef struct fv_separable_options {
    fv_conv2d_options conv;  /* its kernel is the pointwise one */
    int32_t multiplier;
    fv_initializer depthwise_initializer;
    float depthwise_l1, depthwise_l2;
} fv_separable_options;

typedef union fv_layer_options {
    fv_input_options input;
    fv_conv2d_options conv2d;
    fv_transpose_options transpose;
    fv_separable_options separable;
    fv_bias_options bias;
    fv_dense_options dense;
    fv_pool2d_options pool;
    fv_global_pool_options global_pool;
    fv_batch_norm_options batch_norm;
    fv_lrn_options lrn;
    fv_layer_norm_options layer_norm;
    fv_group_norm_options group_norm;
    fv_rms_norm_options rms_norm;
    fv_unit_norm_options unit_norm;
    fv_dropout_options dropout;  /* in all its forms */
    fv_gaussian_noise_options gaussian_noise;
    fv_activation_options activation;
    fv_leaky_relu_options leaky_relu;
    fv_elu_options elu;
    fv_relu_options relu;
    fv_prelu_options prelu;
    fv_softmax_options softmax;
    fv_rescaling_options rescaling;
    fv_flatten_options flatten;
    fv_reshape_options reshape;
    fv_zero_padding_options zero_padding;
    fv_adaptive_pool2d_options adaptive_pool;
    fv_padding2d_options padding;
    fv_cropping2d_options cropping;
    fv_up_sampling2d_options up_sampling;
    fv_resizing_options resizing;
    fv_space_to_depth_options space_to_depth;
    fv_channel_shuffle_options channel_shuffle;
    fv_permute_options permute;
    fv_repeat_vector_options repeat_vector;
    fv_embedding_options embedding;
    fv_dot_options dot;
    fv_concat_options concat;
    fv_merge_options merge;
} fv_layer_options;          /* with defaults resolved; name, input(s) cleared */

/* What fv_initializer.kind says; 0 asks for the layer's default. */
enum {
    FV_INITIALIZER_DEFAULT, FV_INITIALIZER_ZEROS, FV_INITIALIZER_ONES, FV_INITIALIZER_CONSTANT, FV_INITIALIZER_UNIFORM,
    FV_INITIALIZER_NORMAL, FV_INITIALIZER_GLOROT_UNIFORM, FV_INITIALIZER_GLOROT_NORMAL, FV_INITIALIZER_HE_UNIFORM,
    FV_INITIALIZER_HE_NORMAL, FV_INITIALIZER_LECUN_UNIFORM, FV_INITIALIZER_LECUN_NORMAL,
    FV_INITIALIZER_TRUNCATED_NORMAL, FV_INITIALIZER_VARIANCE_SCALING, FV_INITIALIZER_ORTHOGONAL,
    FV_INITIALIZER_IDENTITY, FV_INITIALIZER_DIRAC, FV_INITIALIZER_COUNT
};

/* How a weight looks in Keras: the permutation from ours. */
typedef enum fv_weight_role {
    FV_WEIGHT_VECTOR,
    FV_WEIGHT_CONV_KERNEL /* OHWI <-> HWIO */,
    FV_WEIGHT_DEPTHWISE_KERNEL /* O=c*m HW1 <-> HWIM */,
    FV_WEIGHT_DENSE_KERNEL /* OI <-> IO */,
    FV_WEIGHT_LOCAL_KERNEL /* [rows, columns, H, W, I, O] <-> [rows * columns, H * W * I, O] */
} fv_weight_role;

typedef struct fv_weight {
    const char *name;        /* "kernel", "bias", "alpha", "gamma", "beta", "moving_mean", "moving_variance" */
    fv_weight_role role;
    fv_shape shape;          /* ours */
    bool sequence;           /* of a layer of sequences: Keras's shape lacks the first size, which is 1 */
    bool statistic;          /* not trained: lies in the region of statistics */
    int64_t offset;          /* elements, in its region and in the host copy of that region */
    fv_initializer initializer;
    int64_t fan_in, fan_out;
    float l1, l2;
    fv_constraint constraint; /* after every update; kind 0: none, axes complete */
} fv_weight;

typedef struct fv_layer {
    fv_layer_kind kind;
    char *name;
    fv_layer_options options;
    bool frozen;
    uint32_t stream;         /* of its random numbers; saved */
    fv_weight weight[FV_LAYER_WEIGHTS]; int32_t weight_count; /* Keras's order: trainable first */
    fv_net *inner;           /* FV_LAYER_NET */
} fv_layer;

/* Sizes that are free (an image of any height) are tried with these two: what differs between the trials is free as
 * well. */
enum { FV_TRIALS = 2 };

/* A layer applied to inputs; nodes are in topological order. Node id = index + 1. */
typedef struct fv_net_node {
    int32_t layer;
    int32_t input_count, *input; /* indices of nodes */
    int32_t output;              /* FV_LAYER_NET with several outputs: which; they are nodes side by side */
    fv_shape shape;              /* dim[0] = 0: the batch; 0 further on: a free size */
    fv_shape trial[FV_TRIALS];   /* the same with a batch of 1 and the free sizes tried */
    fv_type type;
} fv_net_node;

struct fv_training;

struct fv_net {
    fv_object object;
    char *name;
    fv_layer *layer; int32_t layer_count, layer_capacity;
    fv_net_node *node; int32_t node_count, node_capacity;
    int32_t *input, input_count, *output, output_count;  /* nodes */
    uint32_t next_stream;
    int64_t parameters, statistics;   /* elements of the two regions, padding included */
    float *host_parameters, *host_statistics; /* drawn at first use, unless the device has the weights */
    bool host_current, device_current; /* which of the two hold the weights; neither: they are not drawn yet */
    bool measuring;                    /* fv_net_store makes a store without values: only sizes are wanted */
    bool owned;                        /* part of the net that calls it and freed with it: nets read from files */
    fv_store *store;                   /* on the context's device; made at first use */
    fv_optimizer optimizer;            /* that the net's file names; kind 0: none */
    struct fv_training *training; /* history, optimiser's settings, where fv_fit ended (train/train.h); may be NULL */
    void (*training_free)(struct fv_training *); /* set by who made it */
};

/* A recording under way: of one net, or of a net within others. */
typedef struct fv_recording {
    fv_tape *tape;
    fv_mode mode;
    fv_net *net;
    fv_net *root;            /* the outermost: its control block keys the random numbers */
    const char *prefix;      /* of labels: "", "inner/" */
    bool trial;              /* shapes only: weights are plain inputs, no store is touched */
} fv_recording;

typedef struct fv_layer_type {
    const char *class_name;      /* Keras's: "Conv2D" */
    const char *stem;            /* of default names: "conv2d" */
    int32_t least, most;         /* inputs; most -1: any number */
    /* Checks the options, puts the defaults in, adds the weights, given the shapes of its inputs (dim[0] = 1). */
    int (*build)(fv_net *, fv_layer *, const fv_shape *inputs, int32_t count);
    /* Appends the operations. Weights come through fv_record_weight. Shape errors come from infer, with the layer's
     * name. */
    fv_value (*record)(fv_recording *, fv_layer *, const fv_value *inputs, int32_t count);
    /* Its inputs [n, steps, channels] come to build and record as images of one row, [n, 1, steps, channels], and what it
       records loses that axis again: so a layer of sequences has the functions of one of images. */
    bool sequence;
} fv_layer_type;
extern const fv_layer_type fv_layer_types[FV_LAYER_KIND_COUNT];

/* ---- net.c ------------------------------------------------------------------------------------------------------- */
/* Adds a layer applied to inputs: names it, checks its options and builds weights, infers shapes by recording on a
 * scratch tape with batch 1. Every fv_*_with function and every reader of files ends here. */
fv_node fv_net_add(fv_net *, fv_layer_kind, const fv_layer_options *, const fv_node *inputs, int32_t count,
                   const char *name);
/* Applies a layer of this net once more, to several inputs. */
fv_node fv_net_apply(fv_net *, int32_t layer, const fv_node *inputs, int32_t count);
fv_net *fv_net_make(fv_context *, const char *name, bool owned);
fv_layer *fv_net_layer(fv_net *, const char *name); /* NULL and an error that lists near names */
/* The same for a path "inner/conv2d": owner is the net that holds the layer and its weights. */
fv_layer *fv_net_find(fv_net *, const char *path, fv_net **owner);
int32_t fv_net_family(fv_net *, fv_net **out,
                      int32_t capacity);               /* every net below this one, itself first, each once: how many */
fv_net **fv_net_family_list(fv_net *, int32_t *count); /* the same in memory of its own: fv_free; NULL: error */
const char *fv_net_free_name(const fv_net *, const char *stem, char *name, size_t bytes); /* "conv2d", "conv2d_1", .. */
bool fv_net_is_chain(const fv_net *);                            /* what Keras calls Sequential */
/* "lenet5: layer c3 (conv2d): ..." */
int fv_layer_fail(const fv_net *, const fv_layer *, fv_status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- layers.c ---------------------------------------------------------------------------------------------------- */
const char *fv_layer_class_name(const fv_layer *);  /* Keras's: depends on the options ("DepthwiseConv2D") */
/* Adds a weight; its offset and its fans (Keras's formula, from its shape and role) follow. */
fv_weight *fv_layer_add_weight(fv_net *, fv_layer *, const char *name, fv_weight_role, int rank, const int64_t *dims,
                               fv_initializer, uint32_t default_initializer);
/* Options: a float whose zero means its default, and back. */
float fv_option_float(float given, float otherwise);
float fv_option_given(float value);
/* A pair of options from the form with one number or with two; otherwise what zero means. */
void fv_option_pair(int32_t one, const int32_t two[2], int32_t otherwise, int32_t out[2]);
bool fv_conv2d_is_depthwise(const fv_layer *);
bool fv_pool2d_is_ours(const fv_layer *);           /* Keras has no such pool */
bool fv_conv_transpose_is_ours(const fv_layer *);   /* nor such a transposed convolution */
bool fv_local_is_ours(const fv_layer *);            /* nor such an unshared one */
const char *fv_activation_name(fv_activation);      /* Keras's: "relu"; NULL: no such activation */
fv_value fv_record_activation(fv_recording *, fv_value, fv_activation);
bool fv_activation_is_ours(fv_activation);          /* Keras has no such function */
/* layers_activation.c */
int fv_build_leaky_relu(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_elu(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_relu(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_prelu(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_softmax(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_rescaling(fv_net *, fv_layer *, const fv_shape *, int32_t);
fv_value fv_record_leaky_relu(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_elu(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_relu(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_prelu(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_softmax(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_rescaling(fv_recording *, fv_layer *, const fv_value *, int32_t);
/* constraint.c: checks and completes a constraint, and gives it to the weight; kind 0: nothing */
int fv_weight_constrain(fv_net *, const fv_layer *, fv_weight *, fv_constraint *);
/* layers_window.c */
int fv_layer_check_images(const fv_net *, const fv_layer *, const fv_shape *);
/* pad overrides padding; equal pixels on every side are the same in either form. */
int fv_layer_resolve_padding(const fv_net *, const fv_layer *, int32_t *padding, int32_t pad[4]);
int fv_layer_check_positive(const fv_net *, const fv_layer *, const char *what, const int32_t pair[2]);
/* The pixels of a window's padding, in the order of the attributes: top, bottom, left, right. */
void fv_layer_window(int32_t padding, const int32_t given[4], const fv_shape *images, const int32_t kernel[2],
                     const int32_t dilation[2], const int32_t stride[2], int32_t out[4]);
/* layers_conv.c */
int fv_build_conv2d(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_conv_transpose(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_separable(fv_net *, fv_layer *, const fv_shape *, int32_t);
fv_value fv_record_conv_transpose(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_separable(fv_recording *, fv_layer *, const fv_value *, int32_t);
int fv_conv_resolve(const fv_net *, const fv_layer *, fv_conv2d_options *, const fv_shape *images);
/* The attributes of a convolution's window; false and the error when the kernel is too large. */
bool fv_conv_window(fv_recording *, const fv_layer *, const fv_shape *images, int32_t pad[4]);
int fv_conv_add_bias(fv_net *, fv_layer *, int rank, const int64_t *dims);
fv_value fv_conv_finish(fv_recording *, fv_layer *, fv_value y, int32_t bias); /* bias: index of the weight */
/* Adds a kernel and puts the initialiser that was chosen into the options. */
fv_weight *fv_conv_add_kernel(fv_net *, fv_layer *, const char *name, fv_weight_role, int rank, const int64_t *dims,
                              fv_initializer *, float l1, float l2, fv_constraint *); /* NULL: none */
/* layers_local.c */
int fv_build_local(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_bias(fv_net *, fv_layer *, const fv_shape *, int32_t);
fv_value fv_record_local(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_bias(fv_recording *, fv_layer *, const fv_value *, int32_t);
int fv_build_pool2d(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_zero_padding(fv_net *, fv_layer *, const fv_shape *, int32_t);
fv_value fv_record_conv2d(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_max_pool2d(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_avg_pool2d(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_zero_padding(fv_recording *, fv_layer *, const fv_value *, int32_t);
int fv_build_max_unpool(fv_net *, fv_layer *, const fv_shape *, int32_t);
fv_value fv_record_max_unpool(fv_recording *, fv_layer *, const fv_value *, int32_t);
/* layers_sampling.c */
int fv_build_adaptive_pool(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_padding(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_cropping(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_up_sampling(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_resizing(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_space_to_depth(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_channel_shuffle(fv_net *, fv_layer *, const fv_shape *, int32_t);
fv_value fv_record_adaptive_pool(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_padding(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_cropping(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_up_sampling(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_resizing(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_space_to_depth(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_channel_shuffle(fv_recording *, fv_layer *, const fv_value *, int32_t);
const char *fv_sampling_class(const fv_layer *);    /* Keras's; ours where the options are beyond it */
/* layers_norm.c, layers_random.c */
int fv_build_layer_norm(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_group_norm(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_rms_norm(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_unit_norm(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_dropout(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_spatial_dropout1d(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_spatial_dropout2d(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_gaussian_noise(fv_net *, fv_layer *, const fv_shape *, int32_t);
fv_value fv_record_layer_norm(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_group_norm(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_rms_norm(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_unit_norm(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_dropout(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_spatial_dropout(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_alpha_dropout(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_gaussian_dropout(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_gaussian_noise(fv_recording *, fv_layer *, const fv_value *, int32_t);

/* layers_shape.c */
int fv_build_permute(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_repeat_vector(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_embedding(fv_net *, fv_layer *, const fv_shape *, int32_t);
int fv_build_dot(fv_net *, fv_layer *, const fv_shape *, int32_t);
fv_value fv_record_permute(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_repeat_vector(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_embedding(fv_recording *, fv_layer *, const fv_value *, int32_t);
fv_value fv_record_dot(fv_recording *, fv_layer *, const fv_value *, int32_t);

/* ---- record.c ---------------------------------------------------------------------------------------------------- */
/* Records the net's nodes; node_value[node_count] receives the value of each. */
int fv_record_nodes(fv_recording *, const fv_value *inputs, int32_t count, fv_value *node_value);
int fv_infer_node(fv_net *, const fv_layer *, fv_net_node *first, int32_t outputs); /* fills shape, trial and type */
fv_value fv_record_weight(fv_recording *, fv_layer *, int32_t weight);
fv_value fv_net_weight(fv_tape *, fv_net *, fv_layer *, int32_t weight); /* as a state of the net's store */
bool fv_net_is_penalized(const fv_net *);                                 /* does a trained weight have a penalty? */
const char *fv_net_shape_text(const fv_shape *, char buffer[128]);        /* "(None, 28, 28, 1)" */

/* ---- weights.c --------------------------------------------------------------------------------------------------- */
/* The store on the context's device, made and filled from the host copy when needed. Filled, it holds the truth. */
fv_store *fv_net_store(fv_net *);
int fv_net_to_host(fv_net *);          /* host copy current: drawn, or read from the device */
int fv_net_host_blank(fv_net *);        /* host copy for a reader that fills it: nothing is drawn */
int fv_net_host_changed(fv_net *);     /* the host copy was written: device follows */
void fv_net_device_changed(fv_net *);  /* a program ran that writes weights */
int fv_net_refresh_segments(fv_net *); /* after freezing */
int fv_net_weight_keras_shape(const fv_weight *, fv_shape *out);
bool fv_net_weight_fits(const fv_weight *, const fv_shape *given); /* may an array of a Keras file be this weight? */
void fv_weight_permute(const fv_weight *, bool to_keras, const float *in, float *out);
int fv_initializer_fill(fv_context *, const fv_weight *, fv_random *, float *out); /* in our layout */
/* NULL, or what is wrong with it, or with it for such a weight. */
const char *fv_initializer_check(const fv_initializer *, fv_weight_role, const fv_shape *);

/* ---- measure.c --------------------------------------------------------------------------------------------------- */
typedef struct fv_layer_size { int64_t parameters, trainable, macs; } fv_layer_size;
/* fv_measure, and the same a layer: [layer_count], may be NULL. */
int fv_net_measure(fv_net *, int batch_size, fv_net_size *, fv_layer_size *);

/* ---- config*.c --------------------------------------------------------------------------------------------------- */
json_t *fv_net_to_config(fv_net *);                        /* model_config of Keras's legacy HDF5 */
fv_net *fv_net_from_config(fv_context *, const json_t *);  /* Sequential, Functional, Model; old and new forms */
/* What Keras's form cannot say (streams, padding per side, ...), for the group /fovea, and a net made from both. */
json_t *fv_net_extra_to_json(fv_net *);
fv_net *fv_net_extra_from_json(fv_context *, const json_t *config, const json_t *extra);
#endif
