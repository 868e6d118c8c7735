/* keras_order.c - the order in which Keras counts the layers of a model. Weights in its files are matched by
 * position, so a writer must use the order that Keras will find when it rebuilds the graph: for a Sequential model
 * that of the list; else layers by their depth (the longest way to an output), the deepest first, and among equals as
 * a walk back from the outputs meets them first. */
#include "io/keras.h"
#include <stdlib.h>
#include <string.h>

typedef struct graph_node {
    int32_t layer;
    bool done;
    int32_t depth;
    const json_t *call;
} graph_node;
typedef struct graph {
    fv_context *context;
    const json_t *layers;
    json_t *number;                               /* of a layer, by name */
    int32_t layer_count, node_count, *first_node; /* first_node[layer]: its calls are nodes that follow each other */
    graph_node *node;
    int32_t *met, met_count;           /* layers in the order in which the walk meets them first */
    bool *is_met;                      /* by layer */
    int32_t *finished, finished_count; /* nodes, each after those that it needs */
    int32_t *layer_depth;
} graph;

static const json_t *inbound(const json_t *layer) { return json_object_get(layer, "inbound_nodes"); }

/* Calls walk(graph, node) for every tensor that a call takes: ["name", call, output] in the old form, "keras_history"
 * in the new one, wherever it stands. */
static int each_input(graph *g, const json_t *call, int (*walk)(graph *, int32_t node, int32_t of), int32_t of) {
    const json_t *history = json_object_get(call, "keras_history"), *item;
    if (history) call = history;
    const char *name = json_string_value(json_array_get(call, 0));
    const json_t *index = json_array_get(call, 1);
    if (name && json_is_integer(index)) {
        const json_t *number = json_object_get(g->number, name);
        int32_t layer = number ? (int32_t)json_integer_value(number) : -1;
        json_int_t which = json_integer_value(index);
        if (layer < 0 || which < 0 || which >= g->first_node[layer + 1] - g->first_node[layer])
            return fv_fail(g->context, FV_ERROR_FORMAT, "model_config: there is no call %d of a layer %s", (int)which,
                           name);
        return walk(g, g->first_node[layer] + (int32_t)which, of);
    }
    size_t i;
    const char *key;
    int status = FV_OK;
    json_array_foreach(call, i, item) {
        if (!status) status = each_input(g, item, walk, of);
    }
    json_object_foreach((json_t *)call, key, item) {
        if (!status) status = each_input(g, item, walk, of);
    }
    return status;
}

/* Depth-first from the outputs back; of is the node that asks. */
static int visit(graph *g, int32_t number, int32_t of) {
    graph_node *node = &g->node[number];
    if (node->done) return FV_OK;
    node->done = true;
    if (!g->is_met[node->layer]) g->met[g->met_count++] = node->layer;
    g->is_met[node->layer] = true;
    int status = each_input(g, node->call, visit, number);
    g->finished[g->finished_count++] = number;
    return status;
}

static int deepen(graph *g, int32_t number, int32_t of) {
    int32_t depth = g->node[of].depth + 1;
    if (depth > g->node[number].depth) g->node[number].depth = depth;
    return FV_OK;
}

static int measure_depths(graph *g) {
    for (int32_t i = g->finished_count - 1; i >= 0; i--) {
        graph_node *node = &g->node[g->finished[i]];
        int32_t *depth = &g->layer_depth[node->layer];
        if (node->depth > *depth) *depth = node->depth;
        node->depth = *depth; /* a shared layer lies as deep as its deepest call */
        if (each_input(g, node->call, deepen, g->finished[i])) return g->context->status;
    }
    return FV_OK;
}

/* ---- The graph of a config --------------------------------------------------------------------------------------- */

static const char *layer_name(const json_t *layer) {
    const char *name = json_string_value(json_object_get(layer, "name"));
    return name ? name : json_string_value(json_object_get(json_object_get(layer, "config"), "name"));
}

static int number_nodes(graph *g) {
    size_t i, k;
    const json_t *layer, *call;
    json_array_foreach(g->layers, i, layer) {
        const char *name = layer_name(layer);
        if (!name || json_object_set_new(g->number, name, json_integer((json_int_t)i)))
            return fv_fail(g->context, FV_ERROR_FORMAT, "model_config: layer %zu has no name", i);
        size_t calls = json_array_size(inbound(layer));
        g->first_node[i + 1] = g->first_node[i] + (int32_t)(calls ? calls : 1); /* an input is made once */
    }
    g->node_count = g->first_node[g->layer_count];
    g->node = fv_alloc(g->context, (size_t)g->node_count, sizeof *g->node, "order of layers");
    g->finished = fv_alloc(g->context, (size_t)g->node_count, sizeof *g->finished, "order of layers");
    if (!g->node || !g->finished) return g->context->status;
    json_array_foreach(g->layers, i, layer) {
        for (int32_t n = g->first_node[i]; n < g->first_node[i + 1]; n++) g->node[n].layer = (int32_t)i;
        json_array_foreach(inbound(layer), k, call) g->node[g->first_node[i] + (int32_t)k].call = call;
    }
    return FV_OK;
}

static int make_graph(graph *g, const json_t *config) {
    g->layer_count = (int32_t)json_array_size(g->layers);
    size_t count = (size_t)g->layer_count;
    g->number = json_object();
    g->first_node = fv_alloc(g->context, count + 1, sizeof *g->first_node, "order of layers");
    g->met = fv_alloc(g->context, count, sizeof *g->met, "order of layers");
    g->is_met = fv_alloc(g->context, count, sizeof *g->is_met, "order of layers");
    g->layer_depth = fv_alloc(g->context, count, sizeof *g->layer_depth, "order of layers");
    if (!g->first_node || !g->met || !g->is_met || !g->layer_depth || !g->number)
        return fv_fail_memory(g->context, "order of layers", 0);
    if (number_nodes(g) || each_input(g, json_object_get(config, "output_layers"), visit, -1) || measure_depths(g))
        return g->context->status;
    return FV_OK;
}

static void free_graph(graph *g) {
    json_decref(g->number);
    fv_free(g->first_node);
    fv_free(g->node);
    fv_free(g->met);
    fv_free(g->is_met);
    fv_free(g->finished);
    fv_free(g->layer_depth);
}

/* ---- Layers ------------------------------------------------------------------------------------------------------ */

static fv_layer *find_layer(fv_net *net, const char *name) {
    for (int32_t i = 0; i < net->layer_count; i++)
        if (!strcmp(net->layer[i].name, name)) return &net->layer[i];
    return NULL;
}

static void add_layer(fv_keras_model *model, const json_t *config) {
    const char *name = layer_name(config);
    model->layer[model->count++] = (fv_keras_layer){ name, find_layer(model->net, name), config };
}

/* The deepest first; among equals the one met first. Inputs that lead nowhere come at the end. */
static int order_graph(fv_keras_model *model, const json_t *config) {
    graph g = { .context = model->net->object.context, .layers = json_object_get(config, "layers") };
    int status = make_graph(&g, config);
    int32_t deepest = 0;
    for (int32_t i = 0; i < g.layer_count && !status; i++)
        if (g.layer_depth[i] > deepest) deepest = g.layer_depth[i];
    for (int32_t depth = deepest; depth >= 0 && !status; depth--)
        for (int32_t turn = 0; turn < g.met_count; turn++)
            if (g.layer_depth[g.met[turn]] == depth) add_layer(model, json_array_get(g.layers, (size_t)g.met[turn]));
    for (int32_t i = 0; i < g.layer_count && !status; i++)
        if (!g.is_met[i]) add_layer(model, json_array_get(g.layers, (size_t)i));
    free_graph(&g);
    return status;
}

int fv_keras_model_make(fv_net *net, const json_t *config, fv_keras_model *model) {
    fv_context *context = net->object.context;
    const char *class = json_string_value(json_object_get(config, "class_name"));
    const json_t *inner = json_object_get(config, "config"), *layers = json_object_get(inner, "layers"), *layer;
    size_t i;
    *model = (fv_keras_model){ .net = net };
    if (!fv_ok(context)) return context->status;
    model->layer = fv_alloc(context, json_array_size(layers), sizeof *model->layer, "order of layers");
    if (!model->layer) return context->status;
    if (!class || strcmp(class, "Sequential")) return order_graph(model, inner);
    json_array_foreach(layers, i, layer) {
        const char *kind = json_string_value(json_object_get(layer, "class_name"));
        if (layer_name(layer) &&
            (!kind || strcmp(kind, "InputLayer"))) /* Keras does not count a Sequential model's input */
            add_layer(model, layer);
    }
    return FV_OK;
}

/* ---- Weights ----------------------------------------------------------------------------------------------------- */

static int append_weight(fv_keras_weights *list, fv_net *net, const fv_layer *layer, const fv_weight *weight,
                         bool trained) {
    if (list->count == list->capacity) {
        size_t capacity = 2 * list->capacity + 8;
        fv_keras_weight *more =
            fv_grow(net->object.context, list->item, list->count, capacity, sizeof *more, "a list of weights");
        if (!more) return net->object.context->status;
        list->item = more;
        list->capacity = capacity;
    }
    list->item[list->count++] = (fv_keras_weight){ net, layer, weight, trained };
    return FV_OK;
}

static int append_weights(fv_net *net, const fv_keras_layer *at, bool frozen, bool trained, fv_keras_weights *list) {
    const fv_layer *layer = at->layer;
    if (!layer) return FV_OK;
    frozen = frozen || layer->frozen;
    int status = FV_OK;
    if (layer->inner) {
        fv_keras_model model;
        status = fv_keras_model_make(layer->inner, at->config, &model);
        for (size_t i = 0; i < model.count && !status; i++)
            status = append_weights(layer->inner, &model.layer[i], frozen, trained, list);
        fv_free(model.layer);
        return status;
    }
    for (int32_t i = 0; i < layer->weight_count && !status; i++)
        if ((!layer->weight[i].statistic && !frozen) == trained)
            status = append_weight(list, net, layer, &layer->weight[i], trained);
    return status;
}

int fv_keras_list_weights(fv_net *net, const fv_keras_layer *at, fv_keras_weights *list) {
    int status = append_weights(net, at, false, true, list);
    return status ? status : append_weights(net, at, false, false, list);
}
