/* config.c - a whole net as Keras's model_config: Sequential when it is a chain, else a graph of layers with
 * inbound_nodes. What Keras's form cannot say goes into a second object, the extra, which is kept beside it. */
#include "net/config.h"
#include <string.h>

static json_t *describe(fv_net *net, const char *layer_name);

static int fail_memory(const fv_net *net) { return fv_fail_memory(net->object.context, "the description of a net", 0); }

/* ---- Entries of layers ------------------------------------------------------------------------------------------- */

static json_t *input_config(const fv_net_node *node) {
    static const char *const types[] = {
        [FV_F32] = "float32", [FV_BF16] = "bfloat16", [FV_F16] = "float16", [FV_U8] = "uint8", [FV_I32] = "int32"
    };
    json_t *shape = json_array(), *config = json_object();
    for (int32_t d = 0; shape && d < node->shape.rank; d++)
        if (json_array_append_new(shape, node->shape.dim[d] ? json_integer(node->shape.dim[d]) : json_null())) {
            json_decref(shape);
            shape = NULL;
        }
    fv_json_put(&config, "batch_shape", shape);
    fv_json_put(&config, "dtype", json_string(types[node->type]));
    return config;
}

/* {"class_name": .., "config": {"name": .., ..}}; a class of our own is registered under the package "fovea". */
static json_t *make_entry(const char *class_name, const char *name, json_t *config) {
    fv_json_put(&config, "name", json_string(name));
    json_t *entry = json_object();
    fv_json_put(&entry, "class_name", json_string(class_name));
    fv_json_put(&entry, "config", config);
    if (!strncmp(class_name, "fovea>", 6)) {
        fv_json_put(&entry, "module", json_string("fovea"));
        fv_json_put(&entry, "registered_name", json_string(class_name));
    }
    return entry;
}

/* The name under which the output of a layer goes on: its last part. */
static int output_name(const fv_net *net, const fv_layer *layer, char name[FV_KERAS_NAME]) {
    snprintf(name, FV_KERAS_NAME, "%s", layer->name);
    if (layer->kind == FV_LAYER_INPUT || layer->inner) return FV_OK;
    fv_keras_part parts[FV_PARTS];
    int status = fv_keras_write(net, layer, parts);
    if (!status && parts[FV_PART_AFTER].class_name) snprintf(name, FV_KERAS_NAME, "%s", parts[FV_PART_AFTER].name);
    if (!status) fv_keras_parts_free(parts);
    return status;
}

/* How often the layer of a node was applied before it: Keras's node index. */
static int32_t application_of(const fv_net *net, int32_t node) {
    int32_t before = 0;
    for (int32_t i = 0; i < node; i++)
        before += net->node[i].layer == net->node[node].layer && net->node[i].output == 0;
    return net->node[node].output ? before - 1 : before;
}

/* ["c1", node index, tensor index], with {} behind it inside inbound_nodes. */
static json_t *tensor(const fv_net *net, int32_t node, bool inbound) {
    char name[FV_KERAS_NAME];
    if (output_name(net, &net->layer[net->node[node].layer], name)) return NULL;
    int application = application_of(net, node), output = net->node[node].output;
    return inbound ? json_pack("[s,i,i,{}]", name, application, output)
                   : json_pack("[s,i,i]", name, application, output);
}

static bool push(json_t **list, json_t *item) {
    if (!*list || !item || json_array_append_new(*list, item)) {
        json_decref(*list);
        *list = NULL;
    }
    return *list;
}

/* One list of tensors for each application of the layer. */
static json_t *inbound_of_layer(const fv_net *net, int32_t layer) {
    json_t *all = json_array();
    for (int32_t n = 0; n < net->node_count && all; n++) {
        const fv_net_node *node = &net->node[n];
        if (node->layer != layer || node->output > 0 || net->layer[layer].kind == FV_LAYER_INPUT) continue;
        json_t *tensors = json_array();
        for (int32_t i = 0; i < node->input_count && tensors; i++) push(&tensors, tensor(net, node->input[i], true));
        push(&all, tensors);
    }
    return all;
}

/* The same from a part of a layer to the next part: application k reads application k. */
static json_t *inbound_of_part(const char *previous, int applications) {
    json_t *all = json_array();
    for (int k = 0; k < applications && all; k++) push(&all, json_pack("[[s,i,i,{}]]", previous, k, 0));
    return all;
}

static void put_entry(json_t **layers, json_t *entry, const char *name, json_t *inbound, bool graph) {
    if (graph) {
        fv_json_put(&entry, "name", json_string(name));
        fv_json_put(&entry, "inbound_nodes", inbound);
    } else
        json_decref(inbound);
    push(layers, entry);
}

static int put_layer(fv_net *net, int32_t index, bool graph, json_t **layers) {
    const fv_layer *layer = &net->layer[index];
    json_t *inbound = inbound_of_layer(net, index);
    if (layer->kind == FV_LAYER_INPUT || layer->inner) {
        const fv_net_node *node = NULL;
        for (int32_t n = 0; n < net->node_count && !node; n++)
            if (net->node[n].layer == index) node = &net->node[n];
        json_t *entry = layer->inner ? describe(layer->inner, layer->name)
                                     : make_entry("InputLayer", layer->name, input_config(node));
        put_entry(layers, entry, layer->name, inbound, graph);
        return *layers ? FV_OK : fail_memory(net);
    }
    fv_keras_part parts[FV_PARTS];
    if (fv_keras_write(net, layer, parts)) {
        json_decref(inbound);
        return net->object.context->status;
    }
    int applications = (int)json_array_size(inbound);
    for (int p = 0; p < FV_PARTS; p++) {
        if (!parts[p].class_name) continue;
        json_t *next = p < FV_PART_AFTER ? inbound_of_part(parts[p].name, applications) : NULL;
        put_entry(layers, make_entry(parts[p].class_name, parts[p].name, json_incref(parts[p].config)), parts[p].name,
                  inbound, graph);
        inbound = next;
    }
    json_decref(inbound);
    fv_keras_parts_free(parts);
    return *layers ? FV_OK : fail_memory(net);
}

/* ---- The net ----------------------------------------------------------------------------------------------------- */

/* A single input or output stands alone: in a list, Keras 3 would take or give a list. */
static json_t *tensors_of(const fv_net *net, const int32_t *nodes, int32_t count) {
    if (count == 1) return tensor(net, nodes[0], false);
    json_t *list = json_array();
    for (int32_t i = 0; i < count && list; i++) push(&list, tensor(net, nodes[i], false));
    return list;
}

static json_t *describe(fv_net *net, const char *layer_name) {
    bool graph = !fv_net_is_chain(net);
    json_t *layers = json_array(), *config = json_object(), *model = json_object();
    for (int32_t i = 0; i < net->layer_count && layers; i++)
        if (put_layer(net, i, graph, &layers)) {
            json_decref(layers);
            layers = NULL;
        }
    fv_json_put(&config, "name", json_string(layer_name));
    fv_json_put(&config, "layers", layers);
    if (graph) {
        fv_json_put(&config, "input_layers", tensors_of(net, net->input, net->input_count));
        fv_json_put(&config, "output_layers", tensors_of(net, net->output, net->output_count));
    }
    fv_json_put(&model, "class_name", json_string(graph ? "Functional" : "Sequential"));
    fv_json_put(&model, "config", config);
    if (!model) fail_memory(net);
    return model;
}

json_t *fv_net_to_config(fv_net *net) {
    if (!net || !fv_ok(net->object.context)) return NULL;
    if (!net->output_count) {
        fv_fail(net->object.context, FV_ERROR_ARGUMENT, "net %s has no output: fv_output names one", net->name);
        return NULL;
    }
    return describe(net, net->name);
}

/* ---- The extra --------------------------------------------------------------------------------------------------- */

/* What a layer that was written in parts was before: {"stream": 7, "before": "c1_pad", "padding": -2, "pad": [..]}. */
static json_t *extra_of_layer(const fv_net *net, const fv_layer *layer) {
    json_t *extra = json_object();
    fv_json_put(&extra, "stream", json_integer(layer->stream));
    if (layer->inner) fv_json_put(&extra, "net", fv_net_extra_to_json(layer->inner));
    if (layer->kind == FV_LAYER_INPUT || layer->inner) return extra;
    fv_keras_part parts[FV_PARTS];
    if (fv_keras_write(net, layer, parts)) {
        json_decref(extra);
        return NULL;
    }
    if (parts[FV_PART_BEFORE].class_name) {
        fv_layer_options options = layer->options;
        int32_t *mode, *pad = fv_keras_split_padding(layer->kind, &options, &mode);
        fv_json_put(&extra, "before", json_string(parts[FV_PART_BEFORE].name));
        fv_json_put(&extra, "padding", json_integer(*mode));
        fv_json_put(&extra, "pad", fv_json_four(pad));
    }
    if (parts[FV_PART_AFTER].class_name) fv_json_put(&extra, "after", json_string(parts[FV_PART_AFTER].name));
    fv_keras_parts_free(parts);
    return extra;
}

json_t *fv_net_extra_to_json(fv_net *net) {
    if (!net || !fv_ok(net->object.context)) return NULL;
    json_t *layers = json_object(), *extra = json_object();
    for (int32_t i = 0; i < net->layer_count; i++)
        fv_json_put(&layers, net->layer[i].name, extra_of_layer(net, &net->layer[i]));
    fv_json_put(&extra, "layers", layers);
    fv_json_put(&extra, "next_stream", json_integer(net->next_stream));
    if (!extra) fail_memory(net);
    return extra;
}
