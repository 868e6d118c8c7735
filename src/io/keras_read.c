/* keras_read.c - weights from an open file of Keras or of Fovea into a net, in either layout:
 *   legacy           layer_names, and in each layer's group weight_names: followed as they stand, never guessed
 *   .weights.h5      /layers/<class>_<n>/vars/<i>, the layer's name being an attribute of vars
 * Everything is read and checked before the first weight of the net changes. */
#include "io/keras.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* New values on their way into a net and those within it: laid out as the nets' host copies. */
typedef struct incoming {
    fv_h5 *h5;
    fv_net **family;
    int32_t nets;
    float **parameters, **statistics; /* by net */
} incoming;

static int fail(const incoming *in, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(const incoming *in, const char *format, ...) {
    char sentence[768];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    return fv_fail(in->h5->context, FV_ERROR_FORMAT, "%s: %s", in->h5->path, sentence);
}

static void end_incoming(incoming *in) {
    for (int32_t n = 0; n < in->nets; n++) {
        fv_free(in->parameters ? in->parameters[n] : NULL);
        fv_free(in->statistics ? in->statistics[n] : NULL);
    }
    fv_free(in->parameters);
    fv_free(in->statistics);
    fv_free(in->family);
}

static int begin_incoming(incoming *in, fv_h5 *h, fv_net *net) {
    fv_context *context = h->context;
    *in = (incoming){ .h5 = h };
    if (!(in->family = fv_net_family_list(net, &in->nets))) return context->status;
    in->parameters = fv_alloc(context, (size_t)in->nets, sizeof *in->parameters, "weights read from a file");
    in->statistics = fv_alloc(context, (size_t)in->nets, sizeof *in->statistics, "weights read from a file");
    for (int32_t n = 0; n < in->nets && fv_ok(context); n++) {
        in->parameters[n] =
            fv_alloc(context, (size_t)in->family[n]->parameters, sizeof(float), "weights read from a file");
        in->statistics[n] =
            fv_alloc(context, (size_t)in->family[n]->statistics, sizeof(float), "weights read from a file");
    }
    return context->status;
}

/* All weights of the family have been read (that each was is checked where they are matched): they become the net's. */
static int take_over(incoming *in) {
    for (int32_t n = 0; n < in->nets && fv_ok(in->h5->context); n++) {
        fv_net *net = in->family[n];
        if (fv_net_host_blank(net)) break;
        memcpy(net->host_parameters, in->parameters[n], (size_t)net->parameters * sizeof(float));
        memcpy(net->host_statistics, in->statistics[n], (size_t)net->statistics * sizeof(float));
        fv_net_host_changed(net);
    }
    return in->h5->context->status;
}

/* ---- One weight -------------------------------------------------------------------------------------------------- */

static int read_weight(incoming *in, hid_t group, const char *path, const fv_keras_weight *w) {
    fv_shape shape, wanted;
    char there[96], here[96];
    float *values = fv_h5_get_tensor(in->h5, group, path, H5T_NATIVE_FLOAT, &shape);
    if (!values) return in->h5->context->status;
    fv_net_weight_keras_shape(w->weight, &wanted);
    int status = FV_OK;
    if (!fv_net_weight_fits(w->weight, &shape)) {
        status = fail(in, "layer %s: its %s is %s in the file, but %s in the net %s", w->layer->name, w->weight->name,
                      fv_shape_text(&shape, there), fv_shape_text(&wanted, here), w->net->name);
    } else {
        int32_t n = 0;
        while (in->family[n] != w->net) n++;
        fv_weight_permute(w->weight, false, values, fv_keras_place(w, in->parameters[n], in->statistics[n]));
    }
    fv_free(values);
    return status;
}

/* Weights of equal shape could be mistaken for each other: where the file names one as we do, it must be that one. */
static bool has_other_name(const char *path, const char *name) {
    static const char *const known[] = { "kernel", "bias", "gamma", "beta", "scale", "embeddings", "moving_mean",
                                        "moving_variance" };
    const char *last = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    size_t length = strcspn(last, ":");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i]) == length && !strncmp(known[i], last, length)) return strcmp(known[i], name) != 0;
    return false;
}

/* ---- The legacy layout ------------------------------------------------------------------------------------------- */

static int read_legacy_layer(incoming *in, hid_t weights, const char *saved, fv_net *net, const fv_keras_layer *layer) {
    fv_h5 *h = in->h5;
    fv_keras_weights list = { 0 };
    fv_h5_texts names = { 0 };
    hid_t group = fv_h5_open_group(h, weights, saved);
    if (!fv_h5_get_texts(h, group, "weight_names", &names) && !fv_keras_list_weights(net, layer, &list) &&
        names.count != list.count)
        fail(in, "layer %s: the file has %zu weights for it (as %s), but the net %s has %zu", layer->name, names.count,
             saved, net->name, list.count);
    for (size_t i = 0; i < list.count && fv_ok(h->context); i++) {
        if (has_other_name(names.text[i], list.item[i].weight->name))
            fail(in, "layer %s: weight %zu is %s in the file, but %s in the net %s", layer->name, i, names.text[i],
                 list.item[i].weight->name, net->name);
        else
            read_weight(in, group, names.text[i], &list.item[i]);
    }
    fv_h5_free_texts(&names);
    fv_free(list.item);
    H5Gclose(group);
    return h->context->status;
}

/* Keeps of the saved layers those that have weights. */
static int keep_weighted(incoming *in, hid_t weights, fv_h5_texts *saved) {
    size_t kept = 0;
    for (size_t i = 0; i < saved->count && fv_ok(in->h5->context); i++) {
        fv_h5_texts names = { 0 };
        hid_t group = fv_h5_open_group(in->h5, weights, saved->text[i]);
        fv_h5_get_texts(in->h5, group, "weight_names", &names);
        char *text = saved->text[i];
        saved->text[i] = NULL;
        if (names.count)
            saved->text[kept++] = text;
        else
            fv_free(text);
        fv_h5_free_texts(&names);
        H5Gclose(group);
    }
    if (fv_ok(in->h5->context)) saved->count = kept;
    return in->h5->context->status;
}

static bool is_named(const fv_h5_texts *names, const char *name) {
    for (size_t i = 0; i < names->count; i++)
        if (!strcmp(names->text[i], name)) return true;
    return false;
}

/* Keeps of a model's layers those that have weights. */
static int keep_layers(fv_keras_model *model) {
    size_t kept = 0;
    for (size_t i = 0; i < model->count; i++) {
        fv_keras_weights list = { 0 };
        int status = fv_keras_list_weights(model->net, &model->layer[i], &list);
        fv_free(list.item);
        if (status) return status;
        if (list.count) model->layer[kept++] = model->layer[i];
    }
    model->count = kept;
    return FV_OK;
}

/* By name where the file has all the names of the net's layers, else by position. */
static int read_legacy(incoming *in, hid_t weights, fv_keras_model *model) {
    fv_h5 *h = in->h5;
    fv_h5_texts saved;
    if (keep_layers(model) || fv_h5_get_texts(h, weights, "layer_names", &saved)) return h->context->status;
    if (!keep_weighted(in, weights, &saved) && saved.count != model->count)
        fail(in, "holds weights of %zu layers, but the net %s has %zu layers with weights", saved.count,
             model->net->name, model->count);
    bool by_name = fv_ok(h->context); /* after a failure the list of names is not whole */
    for (size_t i = 0; i < model->count; i++) by_name = by_name && is_named(&saved, model->layer[i].name);
    for (size_t i = 0; i < model->count && fv_ok(h->context); i++)
        read_legacy_layer(in, weights, by_name ? model->layer[i].name : saved.text[i], model->net, &model->layer[i]);
    fv_h5_free_texts(&saved);
    return h->context->status;
}

/* ---- The layout of .weights.h5 ----------------------------------------------------------------------------------- */

/* "MaxPooling2D" -> "max_pooling2d", "Conv2D" -> "conv2d": an underscore before a capital that begins a word. */
static void snake_case(const char *class_name, char *out, size_t bytes) {
    size_t n = 0;
    for (const char *p = class_name; *p && n + 2 < bytes; p++) {
        bool begins = isupper((unsigned char)*p) &&
                      (islower((unsigned char)p[1]) || (p > class_name && islower((unsigned char)p[-1])));
        if (begins && p > class_name) out[n++] = '_';
        if (isalnum((unsigned char)*p) || *p == '_') out[n++] = (char)tolower((unsigned char)*p);
    }
    out[n] = 0;
}

/* The name that the file gives to a layer's group: an attribute of its vars, which older files lack. */
static char *name_in_file(incoming *in, hid_t layers, const char *child) {
    char path[512];
    snprintf(path, sizeof path, "%s/vars", child);
    if (!fv_h5_has(in->h5, layers, path)) return NULL;
    hid_t vars = fv_h5_open_group(in->h5, layers, path);
    char *name = fv_h5_has_attribute(in->h5, vars, "name") ? fv_h5_get_text(in->h5, vars, "name") : NULL;
    H5Gclose(vars);
    return name;
}

/* Names of the groups, each replaced by the layer name in it, where there is one. */
static int list_groups(incoming *in, hid_t layers, fv_h5_texts *groups, fv_h5_texts *names) {
    *names = (fv_h5_texts){ 0 };
    if (fv_h5_children(in->h5, layers, groups)) return in->h5->context->status;
    names->text = fv_alloc(in->h5->context, groups->count, sizeof *names->text, "names of layers");
    for (size_t i = 0; names->text && i < groups->count && fv_ok(in->h5->context); i++) {
        char *name = name_in_file(in, layers, groups->text[i]);
        names->text[names->count] = name || !fv_ok(in->h5->context) ? name : fv_copy_string(in->h5->context, "");
        names->count += names->text[names->count] != NULL;
    }
    return in->h5->context->status;
}

static int read_vars(incoming *in, hid_t layers, const char *child, fv_net *net, const fv_keras_layer *layer) {
    char path[640];
    const fv_layer *own = layer->layer;
    snprintf(path, sizeof path, "%s/vars/%d", child, (int)own->weight_count);
    if (fv_h5_has(in->h5, layers, path))
        return fail(in, "layer %s: the file has more than the %d weights that it has in the net %s", own->name,
                    (int)own->weight_count, net->name);
    for (int32_t i = 0; i < own->weight_count; i++) {
        fv_keras_weight weight = { .net = net, .layer = own, .weight = &own->weight[i] };
        snprintf(path, sizeof path, "%s/vars/%d", child, (int)i);
        if (!fv_h5_has(in->h5, layers, path))
            return fail(in, "layer %s: the file has no %s for it (as %s)", own->name, own->weight[i].name, child);
        if (read_weight(in, layers, path, &weight)) return in->h5->context->status;
    }
    return FV_OK;
}

static int read_v3(incoming *in, hid_t group, fv_net *net, const json_t *config);

/* A nested net has layers of its own within its group. */
static int read_v3_layer(incoming *in, hid_t layers, const char *child, fv_net *net, const fv_keras_layer *layer) {
    if (!layer->layer->inner) return read_vars(in, layers, child, net, layer);
    hid_t group = fv_h5_open_group(in->h5, layers, child);
    int status = group < 0 ? (int)in->h5->context->status : read_v3(in, group, layer->layer->inner, layer->config);
    H5Gclose(group);
    return status;
}

/* The group of a layer by position: its class, and how many layers of that class came before it. */
static void group_by_class(const fv_keras_model *all, size_t index, char *out, size_t bytes) {
    const char *class_name = json_string_value(json_object_get(all->layer[index].config, "class_name"));
    int before = 0;
    for (size_t i = 0; i < index; i++) {
        const char *other = json_string_value(json_object_get(all->layer[i].config, "class_name"));
        before += class_name && other && !strcmp(class_name, other);
    }
    char stem[256];
    snake_case(class_name ? class_name : "", stem, sizeof stem);
    snprintf(out, bytes, before ? "%s_%d" : "%s", stem, before);
}

static bool has_weights(const fv_net *net, const fv_keras_layer *layer, bool *failed) {
    fv_keras_weights list = { 0 };
    *failed = *failed || fv_keras_list_weights((fv_net *)net, layer, &list) != FV_OK;
    fv_free(list.item);
    return list.count > 0;
}

static const char *group_of_name(const fv_h5_texts *groups, const fv_h5_texts *names, const char *name) {
    for (size_t i = 0; i < names->count; i++)
        if (!strcmp(names->text[i], name)) return groups->text[i];
    return NULL;
}

static int read_v3(incoming *in, hid_t group, fv_net *net, const json_t *config) {
    fv_h5 *h = in->h5;
    fv_keras_model all;
    fv_h5_texts groups = { 0 }, names = { 0 };
    bool failed = fv_keras_model_make(net, config, &all) != FV_OK, by_name = true;
    const char *folder = fv_h5_has(h, group, "layers") ? "layers" : "_layer_checkpoint_dependencies"; /* Keras 2.13 */
    hid_t layers = failed ? -1 : fv_h5_open_group(h, group, folder);
    failed = failed || list_groups(in, layers, &groups, &names);
    for (size_t i = 0; i < all.count && !failed; i++)
        by_name =
            by_name && (!has_weights(net, &all.layer[i], &failed) || group_of_name(&groups, &names, all.layer[i].name));
    for (size_t i = 0; i < all.count && !failed && fv_ok(h->context); i++) {
        char by_class[300];
        group_by_class(&all, i, by_class, sizeof by_class);
        if (has_weights(net, &all.layer[i], &failed))
            read_v3_layer(in, layers, by_name ? group_of_name(&groups, &names, all.layer[i].name) : by_class, net,
                          &all.layer[i]);
    }
    fv_h5_free_texts(&groups);
    fv_h5_free_texts(&names);
    fv_free(all.layer);
    H5Gclose(layers);
    return h->context->status;
}

/* ---- Both -------------------------------------------------------------------------------------------------------- */

bool fv_keras_is_legacy(fv_h5 *h) {
    return fv_h5_has(h, h->file, "model_weights") || fv_h5_has_attribute(h, h->file, "layer_names") ||
           fv_h5_has_attribute(h, h->file, "layer_names0");
}

static int read_legacy_file(incoming *in, fv_net *net, const json_t *config) {
    fv_h5 *h = in->h5;
    fv_keras_model model;
    bool whole = fv_h5_has(h, h->file, "model_weights");
    hid_t weights = whole ? fv_h5_open_group(h, h->file, "model_weights") : H5Gopen2(h->file, "/", H5P_DEFAULT);
    if (!fv_keras_model_make(net, config, &model)) read_legacy(in, weights, &model);
    fv_free(model.layer);
    H5Gclose(weights);
    return h->context->status;
}

int fv_keras_read_weights(fv_h5 *h, fv_net *net) {
    incoming in;
    json_t *config = fv_net_to_config(net);
    if (!config) return h->context->status;
    if (!begin_incoming(&in, h, net)) {
        if (fv_keras_is_legacy(h))
            read_legacy_file(&in, net, config);
        else if (fv_h5_has(h, h->file, "layers") || fv_h5_has(h, h->file, "_layer_checkpoint_dependencies"))
            read_v3(&in, h->file, net, config);
        else
            fail(&in, "holds no weights in a layout of Keras (neither layer_names nor a group layers)");
        take_over(&in);
    }
    end_incoming(&in);
    json_decref(config);
    return h->context->status;
}
