/* net.h - a net is data: layers with their options and weights, nodes, names. It is bound to no device; for a device it
 * makes a store, for a batch and a mode it records itself on a tape.
 *   net.c  nodes, names, outputs, recording    layers.c  table of layer types: shapes, weights, recording
 *   weights.c  host copy, initial values, get and set    initializer.c    summary.c    config.c  Keras's JSON, both ways */
#ifndef FV_NET_H
#define FV_NET_H
#include "program/program.h"
#include "tape/tape.h"
#include <jansson.h>

enum { FV_LAYER_WEIGHTS = 4 };

typedef enum fv_layer_kind {
    FV_LAYER_NONE, FV_LAYER_INPUT, FV_LAYER_CONV2D, FV_LAYER_DENSE, FV_LAYER_MAX_POOL2D, FV_LAYER_AVG_POOL2D,
    FV_LAYER_GLOBAL_AVG_POOL, FV_LAYER_GLOBAL_MAX_POOL, FV_LAYER_BATCH_NORM, FV_LAYER_LRN, FV_LAYER_DROPOUT,
    FV_LAYER_ACTIVATION, FV_LAYER_FLATTEN, FV_LAYER_RESHAPE, FV_LAYER_ZERO_PADDING, FV_LAYER_CONCAT, FV_LAYER_ADD,
    FV_LAYER_SUBTRACT, FV_LAYER_MULTIPLY, FV_LAYER_NET, FV_LAYER_KIND_COUNT
} fv_layer_kind;

typedef union fv_layer_options {
    fv_input_options input;
    fv_conv2d_options conv2d;
    fv_dense_options dense;
    fv_pool2d_options pool;
    fv_global_pool_options global_pool;
    fv_batch_norm_options batch_norm;
    fv_lrn_options lrn;
    fv_dropout_options dropout;
    fv_activation_options activation;
    fv_flatten_options flatten;
    fv_reshape_options reshape;
    fv_zero_padding_options zero_padding;
    fv_concat_options concat;
    fv_merge_options merge;
} fv_layer_options;          /* with defaults resolved; name, input(s) cleared */

/* How a weight looks in Keras: the permutation from ours. */
typedef enum fv_weight_role { FV_WEIGHT_VECTOR, FV_WEIGHT_CONV_KERNEL /* OHWI <-> HWIO */, FV_WEIGHT_DEPTHWISE_KERNEL /* O=c*m HW1 <-> HWIM */, FV_WEIGHT_DENSE_KERNEL /* OI <-> IO */ } fv_weight_role;

typedef struct fv_weight {
    const char *name;        /* "kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance" */
    fv_weight_role role;
    fv_shape shape;          /* ours */
    bool statistic;          /* not trained: lies in the region of statistics */
    int64_t offset;          /* elements, in its region and in the host copy of that region */
    fv_initializer initializer;
    int64_t fan_in, fan_out;
    float l1, l2;
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

/* A layer applied to inputs; nodes are in topological order. Node id = index + 1. */
typedef struct fv_net_node {
    int32_t layer;
    int32_t input_count, *input; /* indices of nodes */
    int32_t output;              /* FV_LAYER_NET with several outputs: which */
    fv_shape shape;              /* dim[0] = 0: the batch */
    fv_type type;
} fv_net_node;

struct fv_net {
    fv_object object;
    char *name;
    fv_layer *layer; int32_t layer_count, layer_capacity;
    fv_net_node *node; int32_t node_count, node_capacity;
    int32_t *input, input_count, *output, output_count;  /* nodes */
    uint32_t next_stream;
    int64_t parameters, statistics;   /* elements of the two regions, padding included */
    float *host_parameters, *host_statistics; /* current when host_current; drawn at first use */
    bool host_current, device_current; /* at least one holds once weights exist */
    fv_store *store;                   /* on the context's device; made at first use */
    struct fv_training *training;      /* history, optimiser's settings, where fv_fit ended (train/train.h); may be NULL */
};

typedef struct fv_layer_type {
    const char *class_name;      /* Keras's: "Conv2D" */
    const char *stem;            /* of default names: "conv2d" */
    /* Adds the layer's weights, given the shapes of its inputs (dim[0] = 1). */
    int (*build)(fv_net *, fv_layer *, const fv_shape *inputs, int32_t count);
    /* Appends the operations. Weights come through fv_net_weight. Shape errors come from infer, with the layer's name. */
    fv_value (*record)(fv_tape *, fv_net *, fv_layer *, const fv_value *inputs, int32_t count, fv_mode);
    json_t *(*write)(const fv_net *, const fv_layer *);                 /* Keras's config, without the name */
    int (*read)(fv_net *, const json_t *config, fv_layer_options *);    /* the options from it */
} fv_layer_type;
extern const fv_layer_type fv_layer_types[FV_LAYER_KIND_COUNT];

/* Adds a layer applied to inputs: checks its options, names it, builds weights, infers shapes by recording on a scratch tape
 * with batch 1. Every fv_*_with function and every reader of files ends here. */
fv_node fv_net_add(fv_net *, fv_layer_kind, const fv_layer_options *, const fv_node *inputs, int32_t count, const char *name);
fv_value fv_net_weight(fv_tape *, fv_net *, fv_layer *, int32_t weight); /* as a state of the net's store */
fv_layer *fv_net_layer(fv_net *, const char *name);                      /* NULL and an error that lists near names */
/* The store on the context's device, made and filled from the host copy when needed. */
fv_store *fv_net_store(fv_net *);
int fv_net_to_host(fv_net *);     /* host copy current                       */
int fv_net_host_changed(fv_net *); /* the host copy was written: device follows */
void fv_net_device_changed(fv_net *); /* a program ran that writes weights     */
int fv_net_weight_keras_shape(const fv_weight *, fv_shape *out);
void fv_weight_permute(const fv_weight *, bool to_keras, const float *in, float *out);
/* Every net below this one, itself first, each once. */
int32_t fv_net_family(fv_net *, fv_net **out, int32_t capacity);
json_t *fv_net_to_config(fv_net *);                        /* model_config of Keras's legacy HDF5 */
fv_net *fv_net_from_config(fv_context *, const json_t *);  /* Sequential, Functional, Model; old and new forms */
#endif
