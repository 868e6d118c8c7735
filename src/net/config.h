/* config.h - what the files that speak Keras's JSON share. Keras lacks some of our options; a layer that has one
 * becomes up to three of Keras's: zeros around its input, the layer, its activation. */
#ifndef FV_NET_CONFIG_H
#define FV_NET_CONFIG_H
#include "net/net.h"

enum { FV_PART_BEFORE, FV_PART_MAIN, FV_PART_AFTER, FV_PARTS };
enum { FV_KERAS_NAME = 256 };

typedef struct fv_keras_part {
    const char *class_name;      /* NULL: there is no such part */
    json_t *config;              /* without the name; NULL where the class is there: out of memory */
    char name[FV_KERAS_NAME];
} fv_keras_part;

/* config_write.c: the parts of a layer that is no net and no input. */
int fv_keras_write(const fv_net *, const fv_layer *, fv_keras_part parts[FV_PARTS]);
void fv_keras_parts_free(fv_keras_part parts[FV_PARTS]);

/* config_read.c: one layer of a file. */
typedef struct fv_keras_reader {
    fv_context *context;
    const char *layer, *class_name; /* for messages */
    const json_t *config;
    const fv_shape *input;          /* of its first input, dim[0] = 0; NULL: it has none */
    bool sequence;                  /* a layer of sequences: a pair of sizes is 1 and one number */
    int status;
} fv_keras_reader;
int fv_keras_read(fv_keras_reader *, fv_layer_kind *, fv_layer_options *);

/* config_activation.c: activations with parameters, Softmax, Rescaling. */
void fv_keras_read_leaky_relu(fv_keras_reader *, fv_layer_options *);
void fv_keras_read_elu(fv_keras_reader *, fv_layer_options *);
void fv_keras_read_relu(fv_keras_reader *, fv_layer_options *);
void fv_keras_read_prelu(fv_keras_reader *, fv_layer_options *);
void fv_keras_read_softmax(fv_keras_reader *, fv_layer_options *);
void fv_keras_read_rescaling(fv_keras_reader *, fv_layer_options *);
void fv_keras_write_leaky_relu(const fv_layer *, fv_keras_part parts[FV_PARTS]);
void fv_keras_write_elu(const fv_layer *, fv_keras_part parts[FV_PARTS]);
void fv_keras_write_relu(const fv_layer *, fv_keras_part parts[FV_PARTS]);
void fv_keras_write_prelu(const fv_layer *, fv_keras_part parts[FV_PARTS]);
void fv_keras_write_softmax(const fv_layer *, fv_keras_part parts[FV_PARTS]);
void fv_keras_write_rescaling(const fv_layer *, fv_keras_part parts[FV_PARTS]);
/* What several kinds of layers have. padding: a mode, and for our own classes the pixels of each side. */
void fv_keras_padding(fv_keras_reader *, int32_t *padding, int32_t pad[4]);
bool fv_keras_positive(fv_keras_reader *, const char *option, int32_t value);
void fv_keras_use_bias(fv_keras_reader *, bool *no_bias);

/* config_conv.c: convolutions, both ways. */
void fv_keras_read_conv(fv_keras_reader *, fv_layer_options *);
void fv_keras_read_depthwise(fv_keras_reader *, fv_layer_options *);
void fv_keras_read_separable(fv_keras_reader *, fv_layer_options *);
void fv_keras_read_transpose(fv_keras_reader *, fv_layer_options *);
void fv_keras_read_local(fv_keras_reader *, fv_layer_options *);
void fv_keras_read_bias(fv_keras_reader *, fv_layer_options *);
void fv_keras_write_conv(const fv_layer *, fv_keras_part parts[FV_PARTS]);
void fv_keras_write_bias(const fv_layer *, fv_keras_part parts[FV_PARTS]);
/* The padding of a layer that is written as zeros around its input and the layer; NULL: this kind never is. */
int32_t *fv_keras_split_padding(fv_layer_kind, fv_layer_options *, int32_t **mode);

/* config_value.c: options as JSON, both ways. Getters leave *out alone where the option is absent or null; what is of
 * the wrong type is recorded once. Alternatives of a key, old names, are separated by '|'. */
json_t *fv_keras_value(const fv_keras_reader *, const char *keys);
int fv_keras_fail(fv_keras_reader *, fv_status, const char *format, ...) __attribute__((format(printf, 3, 4)));
void fv_keras_int(fv_keras_reader *, const char *keys, int32_t *out);
void fv_keras_pair(fv_keras_reader *, const char *keys, int32_t out[2]);
void fv_keras_bool(fv_keras_reader *, const char *keys, bool *out);
void fv_keras_float(fv_keras_reader *, const char *keys, float *out);
void fv_keras_activation(fv_keras_reader *, const char *keys, fv_activation *out);
void fv_keras_initializer(fv_keras_reader *, const char *keys, fv_initializer *out);
void fv_keras_regularizer(fv_keras_reader *, const char *keys, float *l1, float *l2);
void fv_keras_padding(fv_keras_reader *, int32_t *padding, int32_t pad[4]); /* "valid", "same"; ours also "full" and pad */
/* The same pixels everywhere, [vertical, horizontal] or [[top, bottom], [left, right]]; of sequences [before, after]. */
void fv_keras_sides(fv_keras_reader *, const char *key, int32_t otherwise, int32_t sides[4]);
/* Puts a value into an object; what fails makes the object NULL, and it stays so. */
void fv_json_put(json_t **object, const char *key, json_t *value);
json_t *fv_json_float(float);                    /* the shortest number that reads back as the same float */
json_t *fv_json_pair(const int32_t pair[2]);
json_t *fv_json_window(const fv_layer *, const int32_t pair[2]); /* one number for a layer of sequences */
json_t *fv_json_sides(const fv_layer *, const int32_t sides[4]); /* [[top, bottom], [left, right]], or [before, after] */
json_t *fv_json_four(const int32_t pad[4]);
bool fv_any_set(const int32_t *values, int count);
const char *fv_keras_padding_name(int32_t padding);
/* As an option, or behind the layer where Keras has no name for it. */
void fv_keras_put_activation(json_t **config, fv_keras_part parts[FV_PARTS], fv_activation);
/* Initialiser and penalty of one weight, under the names that the class has for them. */
void fv_keras_put_weight(json_t **config, const char *weight, const fv_initializer *, uint32_t otherwise, float l1,
                         float l2);
void fv_keras_put_constraints(json_t **config, const char *kernel, const fv_constraint *of_kernel, fv_weight_role,
                              const fv_constraint *of_bias);
void fv_keras_write_zeros(const fv_layer *, fv_keras_part *, const int32_t pad[4]);
json_t *fv_json_initializer(const fv_initializer *);
json_t *fv_json_regularizer(float l1, float l2);
json_t *fv_json_object(const char *module, const char *class_name, json_t *config); /* as Keras 3 writes it; takes config */
json_t *fv_json_constraint(const fv_constraint *, fv_weight_role);
void fv_keras_constraint(fv_keras_reader *, const char *key, fv_weight_role, fv_constraint *out);

/* config_sampling.c: layers that change the size of an image without weights. */
typedef void fv_keras_read_function(fv_keras_reader *, fv_layer_options *);
fv_keras_read_function fv_keras_read_adaptive_pool, fv_keras_read_padding2d, fv_keras_read_cropping,
    fv_keras_read_up_sampling, fv_keras_read_resizing, fv_keras_read_space_to_depth, fv_keras_read_channel_shuffle;
json_t *fv_keras_write_sampling(const fv_layer *);
#endif
