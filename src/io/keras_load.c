/* keras_load.c - fv_load, fv_load_weights and fv_keras_resume: what kind of file it is, the net from its description,
 * and then the weights. Legacy HDF5 and .keras archives hold a description; .weights.h5 and weights-only .h5 files do
 * not. */
#include "io/keras.h"
#include "train/train.h"
#include <stdio.h>
#include <string.h>

/* A file in memory: HDF5, or an archive whose member model.weights.h5 is. */
typedef struct source {
    const char *path;
    void *file;
    size_t file_bytes;
    bool archive;
    void *weights;
    size_t weights_bytes; /* of an archive */
} source;

/* HDF5's signature stands at 0, 512, 1024, 2048, ...: what lies before is the user's. */
static bool is_hdf5(const unsigned char *data, size_t bytes) {
    static const unsigned char signature[8] = { 0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n' };
    for (size_t at = 0; at < bytes && bytes - at >= 8; at = at ? 2 * at : 512)
        if (!memcmp(data + at, signature, 8)) return true;
    return false;
}

static void close_source(source *s) {
    fv_free(s->file);
    fv_free(s->weights);
}

static int open_source(fv_context *context, const char *path, source *s) {
    *s = (source){ .path = path };
    if (!path || !*path) return fv_fail(context, FV_ERROR_ARGUMENT, "fv_load: no path is given");
    if (!(s->file = fv_file_read(context, path, FV_MODEL_LIMIT, &s->file_bytes))) return context->status;
    s->archive = fv_archive_is(s->file, s->file_bytes);
    if (!s->archive && !is_hdf5(s->file, s->file_bytes))
        fv_fail(context, FV_ERROR_FORMAT, "%s: is neither an HDF5 file nor a .keras archive", path);
    if (s->archive)
        s->weights = fv_archive_read(context, path, s->file, s->file_bytes, "model.weights.h5", FV_MODEL_LIMIT,
                                     &s->weights_bytes);
    if (fv_ok(context)) return FV_OK;
    close_source(s);
    return context->status;
}

static int open_weights(fv_context *context, const source *s, fv_h5 *h) {
    return fv_h5_open(h, context, s->path, s->archive ? s->weights : s->file,
                      s->archive ? s->weights_bytes : s->file_bytes, FV_MODEL_LIMIT);
}

/* The sentence of somebody who does not know the file gets its name. */
static void name_file(fv_context *context, const char *path) {
    char sentence[sizeof context->error];
    if (fv_ok(context) || strstr(context->error, path)) return;
    snprintf(sentence, sizeof sentence, "%.300s: %.700s", path, context->error);
    memcpy(context->error, sentence, sizeof sentence);
}

/* ---- The net ----------------------------------------------------------------------------------------------------- */

/* text and extra (what Keras's form cannot say; NULL: nothing) to a net. */
static fv_net *build(fv_context *context, const char *path, const char *text, const json_t *extra) {
    json_error_t error;
    json_t *config = json_loads(text, 0, &error);
    if (!config)
        fv_fail(context, FV_ERROR_FORMAT, "%s: its description of the net is no JSON: line %d: %s", path, error.line,
                error.text);
    fv_net *net = config ? fv_net_extra_from_json(context, config, extra) : NULL;
    const json_t *compiled = json_object_get(json_object_get(config, "compile_config"), "optimizer"); /* .keras */
    if (net && compiled) net->optimizer = fv_keras_optimizer_read(context, path, compiled);
    json_decref(config);
    return net;
}

static fv_net *build_from_archive(fv_context *context, const source *s) {
    size_t bytes;
    char *text = fv_archive_read(context, s->path, s->file, s->file_bytes, "config.json", FV_MODEL_LIMIT, &bytes);
    fv_net *net = text ? build(context, s->path, text, NULL) : NULL;
    fv_free(text);
    return net;
}

/* Before Keras 3 hard_sigmoid was clip(0.2 x + 0.5, 0, 1): the same name for other numbers. */
static void refuse_old_hard_sigmoid(fv_h5 *h, const char *config) {
    if (!strstr(config, "\"hard_sigmoid\"") || !fv_h5_has_attribute(h, h->file, "keras_version")) return;
    char *version = fv_h5_get_text(h, h->file, "keras_version");
    if (version && (version[0] == '1' || version[0] == '2') && version[1] == '.')
        fv_fail(h->context, FV_ERROR_UNSUPPORTED,
                "%s: written by Keras %.20s, whose hard_sigmoid is clip(0.2 x + 0.5, 0, 1): not supported", h->path, version);
    fv_free(version);
}

/* How the training goes on where fv_fit is not told otherwise. */
static void read_optimizer(fv_h5 *h, fv_net *net) {
    char *text = fv_h5_get_text(h, h->file, "training_config");
    json_t *config = text ? json_loads(text, 0, NULL) : NULL;
    const json_t *described = json_object_get(config, "optimizer_config");
    if (described) net->optimizer = fv_keras_optimizer_read(h->context, h->path, described);
    json_decref(config);
    fv_free(text);
}

static fv_net *build_from_hdf5(fv_h5 *h) {
    if (!fv_h5_has_attribute(h, h->file, "model_config")) {
        fv_fail(h->context, FV_ERROR_FORMAT,
                "%s: holds no description of a net, only weights: make the net and use fv_load_weights", h->path);
        return NULL;
    }
    char *text = fv_h5_get_text(h, h->file, "model_config");
    if (text) refuse_old_hard_sigmoid(h, text);
    json_t *extra = text ? fv_keras_get_extra(h, text) : NULL;
    fv_net *net = fv_ok(h->context) ? build(h->context, h->path, text, extra) : NULL;
    json_decref(extra);
    fv_free(text);
    if (net && fv_h5_has_attribute(h, h->file, "training_config")) read_optimizer(h, net);
    return net;
}

fv_net *fv_load(fv_context *context, const char *path) {
    source s;
    fv_h5 h;
    if (!fv_ok(context) || open_source(context, path, &s)) return NULL;
    fv_net *net = s.archive ? build_from_archive(context, &s) : NULL;
    if (!open_weights(context, &s, &h)) {
        net = net ? net : build_from_hdf5(&h);
        if (net) fv_keras_read_weights(&h, net);
    }
    fv_h5_close(&h);
    name_file(context, path);
    close_source(&s);
    if (fv_ok(context)) return net;
    fv_net_free(net);
    return NULL;
}

/* ---- Weights and training ---------------------------------------------------------------------------------------- */

int fv_load_weights(fv_net *net, const char *path) {
    if (!net) return FV_ERROR_ARGUMENT;
    fv_context *context = net->object.context;
    source s;
    fv_h5 h;
    if (!fv_ok(context) || open_source(context, path, &s)) return context->status;
    if (!open_weights(context, &s, &h)) fv_keras_read_weights(&h, net);
    fv_h5_close(&h);
    name_file(context, path);
    close_source(&s);
    return context->status;
}

/* A resume continues the same run, so the net must be the one that was saved, down to its options. */
static int check_equal(fv_h5 *h, fv_net *net) {
    char *text = fv_h5_get_text(h, h->file, "model_config");
    json_t *extra = text ? fv_keras_get_extra(h, text) : NULL, *saved = text ? json_loads(text, 0, NULL) : NULL;
    json_t *own = fv_ok(h->context) ? fv_net_to_config(net) : NULL, *own_extra = own ? fv_net_extra_to_json(net) : NULL;
    if (own && own_extra && (!json_equal(saved, own) || !json_equal(extra, own_extra)))
        fv_fail(h->context, FV_ERROR_FORMAT,
                "%s: was saved by another net than %s: only its own training can be resumed (use "
                "fv_load_weights to take the weights alone)",
                h->path, net->name);
    fv_free(text);
    json_decref(extra);
    json_decref(saved);
    json_decref(own);
    json_decref(own_extra);
    return h->context->status;
}

int fv_keras_resume(fv_net *net, const char *path) {
    if (!net) return FV_ERROR_ARGUMENT;
    fv_context *context = net->object.context;
    source s;
    fv_h5 h;
    if (!fv_ok(context) || open_source(context, path, &s)) return context->status;
    if (!open_weights(context, &s, &h) && !check_equal(&h, net) && !fv_keras_read_weights(&h, net))
        fv_keras_get_state(&h, net);
    fv_h5_close(&h);
    name_file(context, path);
    close_source(&s);
    return context->status;
}
