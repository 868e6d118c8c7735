/* keras_write.c - fv_save: the layout of Keras's whole-model HDF5 files. Attributes of the root describe the net, the
 * group model_weights holds the weights layer by layer, optimizer_weights what Keras's optimiser of that name would
 * hold; /fovea is ours. The file is made in memory and put in place at once, so what was there stays whole until
 * then. */
#include "io/keras.h"
#include "net/config.h"
#include "train/train.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The file follows Keras 3. Readers take the backend for the convention of convolution kernels, which is
 * TensorFlow's. */
#define KERAS_VERSION "3.0.0"
#define KERAS_BACKEND "tensorflow"
/* All numbers with a point are floats, for which nine digits are exact: 0.9 is written as 0.9. */
#define FLOATS        JSON_REAL_PRECISION(9)

typedef struct writer {
    fv_h5 h5;
    fv_net *net;
    const json_t *config;
    const char *config_text;
    fv_keras_model model;
    float *scratch; /* the largest weight in Keras's layout */
} writer;

/* "c1/kernel"; where nets within nets have layers of one name, the later one gets its net's name in front, or a
 * number too. */
static void name_weight(writer *out, hid_t group, const fv_keras_weight *w, size_t number, char *path, size_t bytes) {
    snprintf(path, bytes, "%s/%s", w->layer->name, w->weight->name);
    if (fv_h5_has(&out->h5, group, path))
        snprintf(path, bytes, "%s/%s/%s", w->net->name, w->layer->name, w->weight->name);
    if (fv_h5_has(&out->h5, group, path))
        snprintf(path, bytes, "%s_%zu/%s/%s", w->net->name, number, w->layer->name, w->weight->name);
}

static int put_weight(writer *out, hid_t group, const char *path, const fv_keras_weight *w, const float *values) {
    fv_shape shape;
    fv_net_weight_keras_shape(w->weight, &shape);
    fv_weight_permute(w->weight, true, values, out->scratch);
    return fv_h5_put_tensor(&out->h5, group, path, H5T_NATIVE_FLOAT, &shape, out->scratch);
}

/* A list of names as an attribute. */
static int put_names(writer *out, hid_t group, const char *attribute, char (*name)[1024], size_t count) {
    const char **names = fv_alloc(out->h5.context, count, sizeof *names, "names of weights");
    for (size_t i = 0; names && i < count; i++) names[i] = name[i];
    int status = names ? fv_h5_put_texts(&out->h5, group, attribute, names, count) : FV_ERROR_MEMORY;
    fv_free(names);
    return status;
}

/* The group of one layer: its weights under paths, and the list of the paths. */
static int put_layer(writer *out, hid_t weights, const fv_keras_layer *layer) {
    fv_context *context = out->h5.context;
    fv_keras_weights list = { 0 };
    hid_t group = fv_h5_make_group(&out->h5, weights, layer->name);
    char(*name)[1024] = fv_keras_list_weights(out->net, layer, &list)
                            ? NULL
                            : fv_alloc(context, list.count, sizeof *name, "names of weights");
    for (size_t i = 0; name && i < list.count && fv_ok(context); i++) {
        fv_net *owner = list.item[i].net;
        name_weight(out, group, &list.item[i], i, name[i], sizeof *name);
        put_weight(out, group, name[i], &list.item[i],
                   fv_keras_place(&list.item[i], owner->host_parameters, owner->host_statistics));
    }
    if (name) put_names(out, group, "weight_names", name, list.count);
    fv_free(name);
    fv_free(list.item);
    H5Gclose(group);
    return context->status;
}

static int put_layers(writer *out) {
    fv_h5 *h = &out->h5;
    hid_t weights = fv_h5_make_group(h, h->file, "model_weights");
    const char **names = fv_alloc(h->context, out->model.count, sizeof *names, "names of layers");
    for (size_t i = 0; names && i < out->model.count; i++) names[i] = out->model.layer[i].name;
    if (names) fv_h5_put_texts(h, weights, "layer_names", names, out->model.count);
    fv_free(names);
    fv_h5_put_text(h, weights, "backend", KERAS_BACKEND);
    fv_h5_put_text(h, weights, "keras_version", KERAS_VERSION);
    for (size_t i = 0; i < out->model.count && fv_ok(h->context); i++) put_layer(out, weights, &out->model.layer[i]);
    hid_t top = fv_h5_make_group(h, weights, "top_level_model_weights");
    fv_h5_put_texts(h, top, "weight_names", NULL, 0);
    H5Gclose(top);
    H5Gclose(weights);
    return h->context->status;
}

/* ---- The optimiser, as Keras's of the same name ------------------------------------------------------------------ */

static int put_training_config(writer *out, const fv_keras_optimizer *keras, const fv_optimizer *settings) {
    json_t *json = fv_keras_training_config(keras, settings);
    char *text = json ? json_dumps(json, FLOATS) : NULL;
    int status = text ? fv_h5_put_text(&out->h5, out->h5.file, "training_config", text)
                      : fv_fail_memory(out->h5.context, "the optimiser's description", 0);
    free(text);
    json_decref(json);
    return status;
}

/* One slot of one weight, read from its net's store and written in Keras's layout. */
static int put_slot(writer *out, hid_t group, const char *path, const fv_keras_weight *w, fv_region region) {
    int64_t elements = fv_shape_elements(&w->weight->shape);
    float *slot = fv_alloc(out->h5.context, (size_t)elements, sizeof *slot, "the optimiser's state");
    if (slot && !fv_store_read(w->net->store, region, w->weight->offset, elements, slot))
        put_weight(out, group, path, w, slot);
    fv_free(slot);
    return out->h5.context->status;
}

static int list_trained(writer *out, fv_keras_weights *list) {
    for (size_t i = 0; i < out->model.count; i++)
        if (fv_keras_list_weights(out->net, &out->model.layer[i], list)) return out->h5.context->status;
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++)
        if (list->item[i].trained) list->item[kept++] = list->item[i];
    list->count = kept;
    return FV_OK;
}

static const fv_region slots[] = { FV_SLOT0, FV_SLOT1, FV_SLOT2 };

static bool has_slots(const fv_keras_weights *list, uint32_t needed) {
    for (size_t i = 0; i < list->count; i++)
        for (int s = 0; s < 3; s++)
            if (needed >> s & 1 && (!list->item[i].net->store || !list->item[i].net->store->data[slots[s]])) return false;
    return list->count > 0;
}

/* iteration, learning_rate, then for each trained weight its slots. */
static int put_optimizer_weights(writer *out, const fv_keras_optimizer *keras, const fv_keras_weights *list, uint32_t needed) {
    fv_h5 *h = &out->h5;
    const fv_training *training = out->net->training;
    hid_t group = fv_h5_make_group(h, h->file, "optimizer_weights");
    fv_shape scalar = { 0 };
    int64_t iteration = (int64_t)training->step;
    size_t names = 2;
    char(*name)[1024] = fv_alloc(h->context, 2 + list->count * 3, sizeof *name, "names of the optimiser's state");
    if (name) {
        snprintf(name[0], sizeof *name, "%s/iteration", keras->prefix);
        snprintf(name[1], sizeof *name, "%s/learning_rate", keras->prefix);
        fv_h5_put_tensor(h, group, name[0], H5T_NATIVE_INT64, &scalar, &iteration);
        fv_h5_put_tensor(h, group, name[1], H5T_NATIVE_FLOAT, &scalar, &training->optimizer.value[FV_RATE]);
    }
    for (size_t i = 0; name && i < list->count; i++)
        for (int s = 0; s < 3 && fv_ok(h->context); s++) {
            const fv_keras_weight *w = &list->item[i];
            if (!(needed >> s & 1)) continue;
            snprintf(name[names], sizeof *name, "%s/%s_%s_%s", keras->prefix, w->layer->name, w->weight->name,
                     keras->slot[s]);
            if (fv_h5_has(h, group, name[names])) /* a nested net has a layer of that name too */
                snprintf(name[names], sizeof *name, "%s/%s_%s_%s_%zu", keras->prefix, w->layer->name, w->weight->name,
                         keras->slot[s], i);
            put_slot(out, group, name[names++], w, slots[s]);
        }
    if (name) put_names(out, group, "weight_names", name, names);
    fv_free(name);
    H5Gclose(group);
    return h->context->status;
}

/* Settings of the training, or those that the net's file named. */
static int put_optimizer(writer *out) {
    const fv_training *training = out->net->training;
    const fv_optimizer *settings = training && training->optimizer.kind ? &training->optimizer : &out->net->optimizer;
    const fv_keras_optimizer *keras = fv_keras_optimizer_of(settings);
    fv_keras_weights list = { 0 };
    if (!keras || put_training_config(out, keras, settings)) return out->h5.context->status;
    const uint32_t needed = fv_optimizer_slots(settings->kind, settings->value);
    if (settings != &out->net->optimizer && !list_trained(out, &list) && (!needed || has_slots(&list, needed)))
        put_optimizer_weights(out, keras, &list, needed);
    fv_free(list.item);
    return out->h5.context->status;
}

/* ---- The file ---------------------------------------------------------------------------------------------------- */

static int prepare(writer *out) {
    fv_context *context = out->net->object.context;
    int32_t nets = 0;
    int64_t largest = 1;
    fv_net **family = fv_net_family_list(out->net, &nets);
    for (int32_t n = 0; family && n < nets && !fv_net_to_host(family[n]); n++)
        for (int32_t l = 0; l < family[n]->layer_count; l++)
            for (int32_t w = 0; w < family[n]->layer[l].weight_count; w++) {
                int64_t elements = fv_shape_elements(&family[n]->layer[l].weight[w].shape);
                largest = elements > largest ? elements : largest;
            }
    fv_free(family);
    out->scratch = fv_ok(context) ? fv_alloc(context, (size_t)largest, sizeof *out->scratch, "a weight") : NULL;
    return out->scratch ? fv_keras_model_make(out->net, out->config, &out->model) : (int)context->status;
}

static void *make_image(writer *out, const char *path, bool training, size_t *bytes) {
    fv_h5 *h = &out->h5;
    void *image = NULL;
    if (!fv_h5_create(h, out->net->object.context, path)) {
        fv_h5_put_text(h, h->file, "keras_version", KERAS_VERSION);
        fv_h5_put_text(h, h->file, "backend", KERAS_BACKEND);
        fv_h5_put_text(h, h->file, "model_config", out->config_text);
        put_layers(out);
        if (training && fv_ok(h->context)) put_optimizer(out);
        fv_keras_put_state(h, out->net, out->config_text, training);
        image = fv_h5_finish(h, bytes);
    }
    fv_h5_close(h);
    return image;
}

int fv_keras_save(fv_net *net, const char *path, bool training) {
    if (!net) return FV_ERROR_ARGUMENT;
    fv_context *context = net->object.context;
    if (!fv_ok(context)) return context->status;
    if (!path || !*path) return fv_fail(context, FV_ERROR_ARGUMENT, "fv_save: no path is given");
    writer out = { .net = net };
    json_t *config = fv_net_to_config(net);
    char *text = config ? json_dumps(config, FLOATS) : NULL;
    out.config = config;
    out.config_text = text;
    size_t bytes = 0;
    void *image = NULL;
    if (!text)
        fv_fail_memory(context, "the net's description", 0);
    else if (!prepare(&out))
        image = make_image(&out, path, training, &bytes);
    if (image) fv_file_replace(context, path, image, bytes);
    fv_free(image);
    fv_free(out.scratch);
    fv_free(out.model.layer);
    free(text);
    json_decref(config);
    return context->status;
}

int fv_save(fv_net *net, const char *path) { return fv_keras_save(net, path, true); }
