/* keras.h - Keras's layouts of files, shared by the writer and the reader.
 *   keras_order.c  the order in which Keras counts layers and weights    keras_write.c  fv_save
 *   keras_read.c   weights    keras_load.c  whole files    archive.c  members of zip archives (.keras)
 *   keras_optimizer.c  settings of optimisers    keras_state.c  the group /fovea: what Keras's layout cannot hold */
#ifndef FV_KERAS_H
#define FV_KERAS_H
#include "io/hdf5.h"
#include "io/io.h"

enum { FV_KERAS_FORMAT = 1 };                      /* of the group /fovea */
/* Bytes of a file of weights, and of what it unpacks to. */
#define FV_MODEL_LIMIT ((size_t)1 << (sizeof(size_t) > 4 ? 34 : 30))

/* A net as Keras sees it: its layers in the order of `model.layers`, which is that of its files. Keras finds it by
 * the depth of the graph in model_config, so it may differ from ours, and has layers that are no layers of ours
 * (layer NULL, no weights). */
typedef struct fv_keras_layer {
    const char *name;                              /* in the config */
    fv_layer *layer;
    const json_t *config;                          /* of the layer; a nested net's has layers of its own */
} fv_keras_layer;
typedef struct fv_keras_model { fv_net *net; fv_keras_layer *layer; size_t count; } fv_keras_model;
int fv_keras_model_make(fv_net *, const json_t *config, fv_keras_model *); /* borrows the config; fv_free(layer) */

/* A weight and the net that keeps it. */
typedef struct fv_keras_weight {
    fv_net *net;
    const fv_layer *layer;
    const fv_weight *weight;
    bool trained;
} fv_keras_weight;
typedef struct fv_keras_weights { fv_keras_weight *item; size_t count, capacity; } fv_keras_weights;
/* Appends a layer's weights: those that are trained, then the others, as legacy files have them; a nested net's as
 * one list. */
int fv_keras_list_weights(fv_net *, const fv_keras_layer *, fv_keras_weights *);
/* The place of a weight in arrays laid out like its net's host copies. */
static inline float *fv_keras_place(const fv_keras_weight *w, float *parameters, float *statistics) {
    return (w->weight->statistic ? statistics : parameters) + w->weight->offset;
}

/* keras_read.c: all weights of the net from an open file, or none of them. */
int fv_keras_read_weights(fv_h5 *, fv_net *);
bool fv_keras_is_legacy(fv_h5 *);

/* The group /fovea. training: with the state of training; else only what the net needs. */
int fv_keras_put_state(fv_h5 *, fv_net *, const char *config, bool training);
json_t *fv_keras_get_extra(fv_h5 *, const char *config); /* NULL without an error: the file is not Fovea's */
int fv_keras_get_state(fv_h5 *, fv_net *);

/* keras_optimizer.c: an optimiser in Keras's words. Slots in Keras's order; NULL: fewer. */
enum { FV_KERAS_SETTINGS = 4 };
typedef struct fv_keras_optimizer {
    uint32_t kind;
    const char *class_name, *prefix, *slot[3];
    struct { const char *name; int index; char type; /* 'f', or 'b': bool */ } setting[FV_KERAS_SETTINGS];
} fv_keras_optimizer;
const fv_keras_optimizer *fv_keras_optimizer_of(const fv_optimizer *); /* NULL: Keras has none such */
json_t *fv_keras_training_config(const fv_keras_optimizer *, const fv_optimizer *);
/* {"class_name": "Adam", "config": {...}}; kind 0 where it cannot be had exactly: what is missing goes to the log. */
fv_optimizer fv_keras_optimizer_read(fv_context *, const char *path, const json_t *described);

bool fv_archive_is(const void *data, size_t bytes);
void *fv_archive_read(fv_context *, const char *path, const void *data, size_t bytes, const char *member, size_t limit,
                      size_t *member_bytes);       /* a zero byte follows it; by fv_free */
#endif
