/* config_graph.c - from Keras's model_config to a net: chains (Sequential) and graphs (Functional, Model) of Keras 1, 2
 * and 3, nets within nets. What is read is foreign: sizes, names, references and depth are checked before they are
 * used. */
#include "net/config.h"
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 16, MOST_LAYERS = 20000 };

/* A layer of the file. An alias is a part of another layer that was written as several: its nodes are those of its
 * input. */
typedef struct entry {
    char name[FV_KERAS_NAME];
    const char *class_name;
    const json_t *config, *inbound;  /* inbound NULL: a chain */
    const json_t *extra;             /* of this layer; NULL: none */
    bool alias;
    int32_t layer;                   /* in the net; -1: not yet */
    int32_t applied, applications;
    int32_t first_unit;              /* of its applications, which are numbered through the graph */
    fv_node *node;                   /* of each application, its first output */
} entry;

typedef struct graph {
    fv_context *context;
    fv_net *net;
    const json_t *extra;
    entry *entries;
    entry **by_name;                 /* sorted, once all are read */
    int32_t count;
    int depth;
} graph;

static fv_net *read_model(fv_context *, const json_t *model, const json_t *extra, bool owned, int depth);

static int fail(const graph *g, fv_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int fail(const graph *g, fv_status status, const char *format, ...) {
    char sentence[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    return fv_fail(g->context, status, "model configuration: %s", sentence);
}

/* Older Keras allowed slashes in names; newer ones read such files with '_' in their place, and so do we. */
static void clean_name(const char *name, char out[FV_KERAS_NAME]) {
    size_t length = strnlen(name, 200);
    for (size_t i = 0; i < length; i++)
        out[i] = name[i] == '/' || (unsigned char)name[i] < 32 || name[i] == 127 ? '_' : name[i];
    out[length] = 0;
}

/* ---- Entries ----------------------------------------------------------------------------------------------------- */

static int read_entry(graph *g, const json_t *item, bool chain, entry *e) {
    const char *class_name = json_string_value(json_object_get(item, "registered_name"));
    const json_t *config = json_object_get(item, "config");
    if (!class_name || strncmp(class_name, "fovea>", 6))
        class_name = json_string_value(json_object_get(item, "class_name"));
    const char *name = json_string_value(json_object_get(config, "name"));
    if (!name) name = json_string_value(json_object_get(item, "name"));
    if (!class_name || !(json_is_object(config) || json_is_array(config)))
        return fail(g, FV_ERROR_FORMAT, "a layer has no class_name or no config");
    *e = (entry){ .class_name = class_name, .config = config, .layer = -1, .applications = 1 };
    clean_name(name ? name : "", e->name);
    e->extra = json_object_get(json_object_get(g->extra, "layers"), e->name);
    if (!chain) {
        e->inbound = json_object_get(item, "inbound_nodes");
        if (!json_is_array(e->inbound)) return fail(g, FV_ERROR_FORMAT, "layer %s has no inbound_nodes", e->name);
        if (strcmp(class_name, "InputLayer")) e->applications = (int32_t)json_array_size(e->inbound);
    }
    if (!e->applications) return FV_OK;
    e->node = fv_alloc(g->context, (size_t)e->applications, sizeof(fv_node), "nodes of a layer");
    return e->node ? FV_OK : FV_ERROR_MEMORY;
}

static int compare_names(const void *a, const void *b) {
    return strcmp((*(entry *const *)a)->name, (*(entry *const *)b)->name);
}

static entry *find_entry(graph *g, const char *name) {
    entry wanted, *key = &wanted, **found;
    clean_name(name, wanted.name);
    found = bsearch(&key, g->by_name, (size_t)g->count, sizeof(entry *), compare_names);
    return found ? *found : NULL;
}

static int sort_names(graph *g) {
    g->by_name = fv_alloc(g->context, (size_t)g->count, sizeof(entry *), "names of layers");
    if (!g->by_name) return FV_ERROR_MEMORY;
    for (int32_t i = 0; i < g->count; i++) g->by_name[i] = &g->entries[i];
    qsort(g->by_name, (size_t)g->count, sizeof(entry *), compare_names);
    for (int32_t i = 1; i < g->count; i++)
        if (g->by_name[i]->name[0] && !compare_names(&g->by_name[i - 1], &g->by_name[i]))
            return fail(g, FV_ERROR_FORMAT, "two layers are called %s", g->by_name[i]->name);
    return FV_OK;
}

/* The parts of a layer that the extra names are read as one layer again. */
static void mark_aliases(graph *g) {
    static const struct {
        const char *key, *class_name;
    } parts[] = { { "before", "ZeroPadding" /* 1D, 2D */ }, { "after", "Activation" } };
    for (int32_t i = 0; i < g->count; i++)
        for (int p = 0; p < 2; p++) {
            const char *name = json_string_value(json_object_get(g->entries[i].extra, parts[p].key));
            entry *part = name ? find_entry(g, name) : NULL;
            if (!part || part == &g->entries[i]) continue;
            const char *class_name = part->class_name; /* our own activations are of a class of our own */
            if (!strncmp(class_name, "fovea>", 6)) class_name += 6;
            if (!strncmp(class_name, parts[p].class_name, strlen(parts[p].class_name))) part->alias = true;
        }
}

static int read_entries(graph *g, const json_t *layers, bool chain) {
    size_t count = json_array_size(layers);
    if (!json_is_array(layers) || !count || count > MOST_LAYERS)
        return fail(g, FV_ERROR_FORMAT, "it has no list of 1 to %d layers", MOST_LAYERS);
    g->entries = fv_alloc(g->context, count, sizeof(entry), "layers of a file");
    if (!g->entries) return FV_ERROR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        int status = read_entry(g, json_array_get(layers, i), chain, &g->entries[g->count]);
        if (status) return status;
        g->count++;
    }
    int status = sort_names(g);
    if (!status) mark_aliases(g);
    return status;
}

static void free_graph(graph *g) {
    for (int32_t i = 0; i < g->count; i++) fv_free(g->entries[i].node);
    fv_free(g->entries);
    fv_free(g->by_name);
}

/* ---- Layers ------------------------------------------------------------------------------------------------------ */

/* [null, 28, 28, 1] */
static fv_node add_input(graph *g, const char *name, const json_t *shape, const char *type) {
    static const struct {
        const char *name;
        fv_type type;
    } types[] = { { "uint8", FV_U8 }, { "int32", FV_I32 }, { "int64", FV_I32 } };
    fv_layer_options options = {0};
    size_t rank = json_array_size(shape);
    if (rank < 2 || rank > FV_RANK) {
        fail(g, FV_ERROR_FORMAT, "input %s has no shape of 2 to %d sizes", name, FV_RANK);
        return (fv_node){0};
    }
    options.input.rank = (int32_t)rank - 1;
    for (size_t i = 1; i < rank; i++) {
        const json_t *size = json_array_get(shape, i);
        options.input.shape[i - 1] = json_integer_value(size);
        if (!json_is_null(size) && json_integer_value(size) < 1) {
            fail(g, FV_ERROR_FORMAT, "size %d of input %s is not a number of at least 1", (int)i, name);
            return (fv_node){0};
        }
    }
    for (size_t i = 0; type && i < sizeof types / sizeof *types; i++)
        if (!strcmp(type, types[i].name)) options.input.type = types[i].type;
    return fv_net_add(g->net, FV_LAYER_INPUT, &options, NULL, 0, name && *name ? name : NULL);
}

static fv_node add_input_layer(graph *g, const entry *e) {
    const json_t *shape = json_object_get(e->config, "batch_shape");
    if (!json_is_array(shape)) shape = json_object_get(e->config, "batch_input_shape");
    if (json_is_true(json_object_get(e->config, "sparse")) || json_is_true(json_object_get(e->config, "ragged"))) {
        fail(g, FV_ERROR_UNSUPPORTED, "input %s is sparse or ragged", e->name);
        return (fv_node){0};
    }
    return add_input(g, e->name, shape, json_string_value(json_object_get(e->config, "dtype")));
}

static bool is_model(const char *class_name) {
    return !strcmp(class_name, "Sequential") || !strcmp(class_name, "Functional") || !strcmp(class_name, "Model");
}

static fv_node add_net(graph *g, const entry *e, const fv_node *inputs, int32_t count) {
    json_t *model = json_pack("{s:s,s:O}", "class_name", e->class_name, "config", e->config);
    if (!model) {
        fv_fail_memory(g->context, "the description of a net", 0);
        return (fv_node){0};
    }
    fv_net *inner = read_model(g->context, model, json_object_get(e->extra, "net"), true, g->depth + 1);
    json_decref(model);
    if (!inner) return (fv_node){0};
    fv_node node = fv_call(g->net, inner, (fv_nodes){ inputs, count });
    if (!node.id) fv_object_free(inner);
    return node;
}

/* Where a layer keeps the activation that is written behind it. */
static fv_activation *activation_behind(fv_layer_kind kind, fv_layer_options *options) {
    switch (kind) {
    case FV_LAYER_CONV2D:
    case FV_LAYER_CONV1D:
    case FV_LAYER_CONV2D_TRANSPOSE:
    case FV_LAYER_CONV1D_TRANSPOSE:
    case FV_LAYER_SEPARABLE_CONV2D:
    case FV_LAYER_SEPARABLE_CONV1D:
    case FV_LAYER_LOCALLY_CONNECTED2D:
    case FV_LAYER_LOCALLY_CONNECTED1D: return &options->conv2d.activation;
    case FV_LAYER_BIAS: return &options->bias.activation;
    case FV_LAYER_DENSE: return &options->dense.activation;
    case FV_LAYER_BATCH_NORM: return &options->batch_norm.activation;
    case FV_LAYER_ADD:
    case FV_LAYER_SUBTRACT:
    case FV_LAYER_MULTIPLY:
    case FV_LAYER_MAXIMUM:
    case FV_LAYER_MINIMUM:
    case FV_LAYER_AVERAGE: return &options->merge.activation;
    default: return NULL;
    }
}

/* What the parts of a layer said that Keras's form of it does not. */
static void restore_parts(graph *g, const entry *e, fv_layer_kind kind, fv_layer_options *options) {
    const json_t *pad = json_object_get(e->extra, "pad"), *padding = json_object_get(e->extra, "padding");
    const char *before = json_string_value(json_object_get(e->extra, "before")),
               *after = json_string_value(json_object_get(e->extra, "after"));
    entry *zeros = before ? find_entry(g, before) : NULL, *activation = after ? find_entry(g, after) : NULL;
    int32_t *mode, *to = zeros && zeros->alias ? fv_keras_split_padding(kind, options, &mode) : NULL;
    for (size_t i = 0; to && i < 4; i++) to[i] = (int32_t)json_integer_value(json_array_get(pad, i));
    if (to) *mode = (int32_t)json_integer_value(padding);
    if (!activation || !activation->alias) return;
    fv_keras_reader r = {
        .context = g->context, .layer = activation->name, .class_name = "Activation", .config = activation->config
    };
    fv_activation *own = activation_behind(kind, options);
    if (own) fv_keras_activation(&r, "activation", own);
    else activation->alias = false;
}

static fv_node add_new(graph *g, entry *e, const fv_node *inputs, int32_t count) {
    fv_net *net = g->net;
    const char *name = e->name[0] ? e->name : NULL;
    fv_node node = {0};
    if (!strcmp(e->class_name, "InputLayer")) {
        node = add_input_layer(g, e);
    } else if (is_model(e->class_name)) {
        node = add_net(g, e, inputs, count);
    } else {
        fv_layer_kind kind;
        fv_layer_options options;
        fv_keras_reader r = {
            .context = g->context, .layer = e->name, .class_name = e->class_name, .config = e->config
        };
        if (count > 0) r.input = &net->node[inputs[0].id - 1].shape;
        if (fv_keras_read(&r, &kind, &options)) return (fv_node){0};
        restore_parts(g, e, kind, &options);
        node = fv_net_add(net, kind, &options, inputs, count, name);
    }
    if (!node.id) return node;
    fv_layer *layer = &net->layer[net->layer_count - 1];
    e->layer = net->layer_count - 1;
    if (json_is_false(json_object_get(e->config, "trainable"))) layer->frozen = true;
    const json_t *stream = json_object_get(e->extra, "stream");
    if (json_is_integer(stream)) layer->stream = (uint32_t)json_integer_value(stream);
    return node;
}

/* Applies an entry, once more if it has a layer already. */
static int apply(graph *g, entry *e, const fv_node *inputs, int32_t count) {
    fv_node node;
    if (e->alias && count == 1) node = inputs[0];
    else node = e->layer < 0 ? add_new(g, e, inputs, count) : fv_net_apply(g->net, e->layer, inputs, count);
    if (!node.id)
        return fv_ok(g->context) ? fail(g, FV_ERROR_FORMAT, "layer %s cannot be made", e->name)
                                 : (int)g->context->status;
    e->node[e->applied++] = node;
    return FV_OK;
}

/* ---- Chains ------------------------------------------------------------------------------------------------------ */

/* Keras 2 gives the shape of the first layer's input, Keras 3 that of the built model, where no InputLayer says it. */
static fv_node first_input(graph *g, const json_t *config) {
    const entry *e = &g->entries[0];
    if (!strcmp(e->class_name, "InputLayer")) return (fv_node){0};
    const json_t *shape = json_object_get(e->config, "batch_input_shape"),
                 *width = json_object_get(e->config, "input_dim");
    const char *type = json_string_value(json_object_get(e->config, "dtype"));
    if (!json_is_array(shape)) shape = json_object_get(config, "build_input_shape");
    if (json_is_array(shape)) return add_input(g, NULL, shape, type);
    if (json_is_integer(width)) {
        json_t *made = json_pack("[n,O]", width);
        fv_node node = add_input(g, NULL, made, type);
        json_decref(made);
        return node;
    }
    if (is_model(e->class_name)) {
        const json_t *inner = json_object_get(e->config, "layers"),
                     *first = json_object_get(json_array_get(json_is_array(inner) ? inner : e->config, 0), "config");
        shape = json_object_get(first, "batch_shape");
        if (!json_is_array(shape)) shape = json_object_get(first, "batch_input_shape");
        if (!json_is_array(shape)) shape = json_object_get(e->config, "build_input_shape");
        if (json_is_array(shape)) return add_input(g, NULL, shape, type);
    }
    fail(g, FV_ERROR_FORMAT, "it does not say the shape of its input");
    return (fv_node){0};
}

static int read_chain(graph *g, const json_t *config) {
    int status = read_entries(g, json_is_array(config) ? config : json_object_get(config, "layers"), true);
    if (status) return status;
    fv_node node = first_input(g, config);
    if (!fv_ok(g->context)) return g->context->status;
    for (int32_t i = 0; i < g->count; i++) {
        if (i > 0 && !strcmp(g->entries[i].class_name, "InputLayer"))
            return fail(g, FV_ERROR_FORMAT, "layer %s is an input in the middle of a chain", g->entries[i].name);
        if ((status = apply(g, &g->entries[i], &node, node.id > 0))) return status;
        node = g->entries[i].node[0];
    }
    return fv_output(g->net, node);
}

/* ---- Graphs ------------------------------------------------------------------------------------------------------ */

/* An application of a layer is a unit; units are numbered in the order of the file. */
typedef struct reference { int32_t unit, output; } reference;
typedef struct unit {
    entry *entry;
    int32_t application;
    reference *input; int32_t input_count, input_capacity;
    int32_t missing;                 /* units that must come first and have not */
    int32_t first_use;               /* edge to a unit that waits for this one; -1: none */
} unit;
typedef struct edge { int32_t unit, next; } edge;

/* The units in an order in which they can be applied: of those that are ready always the first of the file, so that a
 * net that was written and read again has its layers in the old order. */
typedef struct schedule {
    graph *graph;
    unit *units; int32_t unit_count;
    edge *edges; int32_t edge_count, edge_capacity;
    int32_t *ready, ready_count;     /* a heap, the smallest number on top */
} schedule;

/* ["c1", 0, 0] */
static int find_unit(graph *g, const json_t *list, reference *out) {
    const char *name = json_string_value(json_array_get(list, 0));
    json_int_t application = json_integer_value(json_array_get(list, 1)),
               output = json_integer_value(json_array_get(list, 2));
    entry *e = name ? find_entry(g, name) : NULL;
    if (!e)
        return fail(g, FV_ERROR_FORMAT, "it refers to the layer '%.80s', which it does not have", name ? name : "?");
    if (application < 0 || application >= e->applications)
        return fail(g, FV_ERROR_FORMAT, "it refers to application %lld of layer %s, which is applied %d times",
                    (long long)application, e->name, (int)e->applications);
    if (output < 0 || output > INT32_MAX)
        return fail(g, FV_ERROR_FORMAT, "it refers to output %lld of layer %s", (long long)output, e->name);
    *out = (reference){ e->first_unit + (int32_t)application, (int32_t)output };
    return FV_OK;
}

/* The node of a unit that has been applied. */
static int find_node(const schedule *s, reference r, fv_node *node) {
    const graph *g = s->graph;
    const entry *e = s->units[r.unit].entry;
    int32_t outputs = e->layer >= 0 && g->net->layer[e->layer].inner ? g->net->layer[e->layer].inner->output_count : 1;
    if (r.output >= outputs)
        return fail(g, FV_ERROR_FORMAT, "it refers to output %d of layer %s, which has %d", (int)r.output, e->name,
                    (int)outputs);
    node->id = e->node[s->units[r.unit].application].id + r.output;
    return FV_OK;
}

static int add_reference(graph *g, const json_t *list, unit *u) {
    if (u->input_count == u->input_capacity) {
        int32_t capacity = u->input_capacity ? 2 * u->input_capacity : 4;
        reference *grown = fv_grow(g->context, u->input, (size_t)u->input_count, (size_t)capacity, sizeof(reference),
                                   "inputs of a layer");
        if (!grown) return FV_ERROR_MEMORY;
        u->input = grown;
        u->input_capacity = capacity;
    }
    int status = find_unit(g, list, &u->input[u->input_count]);
    u->input_count += !status;
    return status;
}

/* Keras 3's form: {"args": [..], "kwargs": {..}} with tensors {"class_name": "__keras_tensor__", ..} in lists of any
 * depth. */
static int collect_tensors(graph *g, const json_t *value, unit *u, int depth) {
    if (depth > DEEPEST) return fail(g, FV_ERROR_FORMAT, "inbound_nodes are nested too deep");
    const char *class_name = json_string_value(json_object_get(value, "class_name"));
    if (class_name && !strcmp(class_name, "__keras_tensor__"))
        return add_reference(g, json_object_get(json_object_get(value, "config"), "keras_history"), u);
    int status = FV_OK;
    for (size_t i = 0; i < json_array_size(value) && !status; i++)
        status = collect_tensors(g, json_array_get(value, i), u, depth + 1);
    return status;
}

static int read_inputs(graph *g, unit *u) {
    const json_t *inbound = json_array_get(u->entry->inbound, (size_t)u->application);
    int status = FV_OK;
    for (size_t i = 0; i < json_array_size(inbound) && !status; i++)
        status = add_reference(g, json_array_get(inbound, i), u);
    if (!json_is_object(inbound)) return status;
    status = collect_tensors(g, json_object_get(inbound, "args"), u, 0);
    int32_t positional = u->input_count;
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(inbound, "kwargs"), key, value)
        if (!status) status = collect_tensors(g, value, u, 0);
    if (!status && u->input_count > positional)
        return fail(g, FV_ERROR_UNSUPPORTED, "layer %s has an input by keyword", u->entry->name);
    return status;
}

static void make_ready(schedule *s, int32_t number) {
    int32_t at = s->ready_count++;
    for (; at > 0 && s->ready[(at - 1) / 2] > number; at = (at - 1) / 2) s->ready[at] = s->ready[(at - 1) / 2];
    s->ready[at] = number;
}

static int32_t take_ready(schedule *s) {
    int32_t top = s->ready[0], last = s->ready[--s->ready_count], at = 0;
    for (int32_t child; (child = 2 * at + 1) < s->ready_count; at = child) {
        if (child + 1 < s->ready_count && s->ready[child + 1] < s->ready[child]) child++;
        if (s->ready[child] >= last) break;
        s->ready[at] = s->ready[child];
    }
    s->ready[at] = last;
    return top;
}

static int wait_for(schedule *s, int32_t waiting, int32_t first) {
    if (s->edge_count == s->edge_capacity) {
        int32_t capacity = s->edge_capacity ? 2 * s->edge_capacity : 64;
        edge *grown = fv_grow(s->graph->context, s->edges, (size_t)s->edge_count, (size_t)capacity, sizeof(edge),
                              "edges of a graph");
        if (!grown) return FV_ERROR_MEMORY;
        s->edges = grown;
        s->edge_capacity = capacity;
    }
    s->edges[s->edge_count] = (edge){ .unit = waiting, .next = s->units[first].first_use };
    s->units[first].first_use = s->edge_count++;
    s->units[waiting].missing++;
    return FV_OK;
}

static int make_units(schedule *s) {
    graph *g = s->graph;
    int64_t count = 0;
    for (int32_t i = 0; i < g->count; i++) {
        g->entries[i].first_unit = (int32_t)count;
        count += g->entries[i].applications;
        if (count > MOST_LAYERS)
            return fail(g, FV_ERROR_FORMAT, "its layers are applied more than %d times", MOST_LAYERS);
    }
    s->units = fv_alloc(g->context, (size_t)count, sizeof(unit), "applications of layers");
    s->ready = fv_alloc(g->context, (size_t)count, sizeof(int32_t), "applications of layers");
    if (!s->units || !s->ready) return FV_ERROR_MEMORY;
    s->unit_count = (int32_t)count;
    for (int32_t i = 0; i < g->count; i++)
        for (int32_t k = 0; k < g->entries[i].applications; k++)
            s->units[g->entries[i].first_unit + k] =
                (unit){ .entry = &g->entries[i], .application = k, .first_use = -1 };
    int status = FV_OK;
    for (int32_t i = 0; i < s->unit_count && !status; i++) {
        unit *u = &s->units[i];
        if (strcmp(u->entry->class_name, "InputLayer")) status = read_inputs(g, u);
        for (int32_t k = 0; k < u->input_count && !status; k++) status = wait_for(s, i, u->input[k].unit);
        if (!status && u->application > 0) status = wait_for(s, i, i - 1);
        if (!status && !u->missing) make_ready(s, i);
    }
    return status;
}

static int apply_unit(schedule *s, const unit *u) {
    fv_node *inputs = fv_alloc(s->graph->context, (size_t)u->input_count, sizeof(fv_node), "inputs of a layer");
    int status = inputs ? FV_OK : FV_ERROR_MEMORY;
    for (int32_t k = 0; k < u->input_count && !status; k++) status = find_node(s, u->input[k], &inputs[k]);
    if (!status) status = apply(s->graph, u->entry, inputs, u->input_count);
    fv_free(inputs);
    for (int32_t e = u->first_use; !status && e >= 0; e = s->edges[e].next)
        if (--s->units[s->edges[e].unit].missing == 0) make_ready(s, s->edges[e].unit);
    return status;
}

static int apply_all(schedule *s) {
    int32_t applied = 0;
    for (; s->ready_count > 0; applied++) {
        int status = apply_unit(s, &s->units[take_ready(s)]);
        if (status) return status;
    }
    for (int32_t i = 0; i < s->unit_count && applied < s->unit_count; i++)
        if (s->units[i].missing)
            return fail(s->graph, FV_ERROR_FORMAT, "the inputs of layer %s are never made: the graph has a circle",
                        s->units[i].entry->name);
    return FV_OK;
}

/* [["a",0,0],["b",0,0]], or one alone: ["a",0,0]. */
static size_t reference_count(const json_t *list) {
    return json_is_string(json_array_get(list, 0)) ? 1 : json_array_size(list);
}

static int find_listed(const schedule *s, const json_t *list, size_t i, fv_node *node) {
    reference r;
    int status = find_unit(s->graph, json_is_string(json_array_get(list, 0)) ? list : json_array_get(list, i), &r);
    return status ? status : find_node(s, r, node);
}

/* The order of the inputs is the one in which the model was called, not that of its layers. */
static int order_inputs(const schedule *s, const json_t *list) {
    const graph *g = s->graph;
    size_t count = reference_count(list);
    if (count != (size_t)g->net->input_count)
        return fail(g, FV_ERROR_FORMAT, "its input_layers are not its %d inputs", (int)g->net->input_count);
    int32_t *order = fv_alloc(g->context, count, sizeof(int32_t), "inputs");
    int status = order ? FV_OK : FV_ERROR_MEMORY;
    for (size_t i = 0; i < count && !status; i++) {
        fv_node node;
        status = find_listed(s, list, i, &node);
        if (status) break;
        bool twice = false;
        for (size_t k = 0; k < i; k++) twice |= order[k] == node.id - 1;
        order[i] = node.id - 1;
        if (twice || g->net->layer[g->net->node[node.id - 1].layer].kind != FV_LAYER_INPUT)
            status = fail(g, FV_ERROR_FORMAT, "its input_layers are not its inputs, each once");
    }
    if (!status && count) memcpy(g->net->input, order, count * sizeof *order);
    fv_free(order);
    return status;
}

static int read_outputs(const schedule *s, const json_t *list) {
    int status = reference_count(list) ? FV_OK : fail(s->graph, FV_ERROR_FORMAT, "it has no output_layers");
    for (size_t i = 0; !status && i < reference_count(list); i++) {
        fv_node node = {0};
        status = find_listed(s, list, i, &node);
        if (!status) status = fv_output(s->graph->net, node);
    }
    return status;
}

static int read_graph(graph *g, const json_t *config) {
    schedule s = { .graph = g };
    int status = read_entries(g, json_object_get(config, "layers"), false);
    if (!status) status = make_units(&s);
    if (!status) status = apply_all(&s);
    if (!status) status = order_inputs(&s, json_object_get(config, "input_layers"));
    if (!status) status = read_outputs(&s, json_object_get(config, "output_layers"));
    for (int32_t i = 0; i < s.unit_count; i++) fv_free(s.units[i].input);
    fv_free(s.units);
    fv_free(s.edges);
    fv_free(s.ready);
    return status;
}

/* ---- Models ------------------------------------------------------------------------------------------------------ */

static fv_net *read_model(fv_context *context, const json_t *model, const json_t *extra, bool owned, int depth) {
    graph g = { .context = context, .extra = extra, .depth = depth };
    const char *class_name = json_string_value(json_object_get(model, "class_name"));
    const json_t *config = json_object_get(model, "config"), *next_stream = json_object_get(extra, "next_stream");
    if (!class_name || !is_model(class_name)) {
        fail(&g, FV_ERROR_UNSUPPORTED, "'%.80s' is neither Sequential nor Functional nor Model",
             class_name ? class_name : "?");
        return NULL;
    }
    if (depth > DEEPEST) {
        fail(&g, FV_ERROR_FORMAT, "models are nested deeper than %d", DEEPEST);
        return NULL;
    }
    char name[FV_KERAS_NAME] = "";
    const char *given = json_string_value(json_object_get(config, "name"));
    if (given) clean_name(given, name);
    g.net = fv_net_make(context, name[0] ? name : NULL, owned);
    if (!g.net) return NULL;
    int status = !strcmp(class_name, "Sequential") ? read_chain(&g, config) : read_graph(&g, config);
    if (json_is_integer(next_stream)) g.net->next_stream = (uint32_t)json_integer_value(next_stream);
    free_graph(&g);
    if (!status) return g.net;
    fv_object_free(g.net);
    return NULL;
}

fv_net *fv_net_extra_from_json(fv_context *context, const json_t *config, const json_t *extra) {
    if (!fv_ok(context)) return NULL;
    if (json_is_object(config)) return read_model(context, config, extra, false, 0);
    fv_fail(context, FV_ERROR_FORMAT, "model configuration: it is not a JSON object");
    return NULL;
}

fv_net *fv_net_from_config(fv_context *context, const json_t *config) {
    return fv_net_extra_from_json(context, config, NULL);
}
