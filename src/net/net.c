/* net.c - building a net: nets, layers, nodes, names, outputs, nets within nets, and the questions one may ask about
 * them. A layer is added whole or not at all: whatever fails leaves the net as it was. */
#include "net/net.h"
#include <stdlib.h>
#include <string.h>

/* ---- Nets -------------------------------------------------------------------------------------------------------- */

static void release_net(void *object) {
    fv_net *net = object;
    fv_store_free(net->store);
    if (net->training && net->training_free) net->training_free(net->training);
    for (int32_t i = 0; i < net->layer_count; i++) {
        fv_net *inner = net->layer[i].inner;
        if (inner && inner->owned) fv_object_free(inner);
        fv_free(net->layer[i].name);
    }
    for (int32_t i = 0; i < net->node_count; i++) fv_free(net->node[i].input);
    fv_free(net->layer);
    fv_free(net->node);
    fv_free(net->input);
    fv_free(net->output);
    fv_free(net->host_parameters);
    fv_free(net->host_statistics);
    fv_free(net->name);
    fv_free(net);
}

/* The nets of a context are found on its ring of objects by the function that frees them. */
static fv_net *next_net(fv_context *context, fv_net *previous) {
    fv_object *object = previous ? previous->object.next : context->objects.next;
    while (object != &context->objects && object->release != release_net) object = object->next;
    return object == &context->objects ? NULL : (fv_net *)object;
}

static bool net_name_taken(fv_context *context, const char *name) {
    for (fv_net *net = next_net(context, NULL); net; net = next_net(context, net))
        if (!strcmp(net->name, name)) return true;
    return false;
}

/* Names become names of groups in HDF5 files and of layers in Keras, which keeps '/' for paths. */
static int check_name(fv_context *context, const char *what, const char *name) {
    size_t length = strlen(name);
    if (length == 0) return fv_fail(context, FV_ERROR_ARGUMENT, "the name of a %s is empty", what);
    if (length > 200)
        return fv_fail(context, FV_ERROR_ARGUMENT, "the name of a %s is longer than 200 bytes: '%.40s...'", what, name);
    for (const char *c = name; *c; c++)
        if (*c == '/' || (unsigned char)*c < 32 || *c == 127)
            return fv_fail(context, FV_ERROR_ARGUMENT, "the name '%s' of a %s holds a slash or a control character",
                           name, what);
    if (!strcmp(name, ".") || !strcmp(name, ".."))
        return fv_fail(context, FV_ERROR_ARGUMENT, "'%s' is not a name for a %s", name, what);
    return FV_OK;
}

/* Numbers of a layer's random streams start at a place that follows from the net's name, so that two nets of a program
 * draw different weights and masks, whatever the order in which they are made. */
static uint32_t first_stream(const char *name) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 16777619u;
    return (hash >> 12) << 11; /* room for 2048 layers each */
}

fv_net *fv_net_make(fv_context *context, const char *name, bool owned) {
    if (!fv_ok(context)) return NULL;
    char numbered[32] = "net";
    for (int i = 1; !name && net_name_taken(context, numbered); i++) snprintf(numbered, sizeof numbered, "net_%d", i);
    if (name && check_name(context, "net", name)) return NULL;
    fv_net *net = fv_alloc(context, 1, sizeof(fv_net), "a net");
    if (!net) return NULL;
    net->name = fv_copy_string(context, name ? name : numbered);
    if (!net->name) {
        fv_free(net);
        return NULL;
    }
    net->owned = owned;
    net->next_stream = first_stream(net->name);
    if (owned) {
        net->object.context = context;
        net->object.release = release_net;
    } else
        fv_object_add(context, net, release_net);
    return net;
}

fv_net *fv_net_new(fv_context *context, const char *name) { return fv_net_make(context, name, false); }

void fv_net_free(fv_net *net) {
    if (!net) return;
    fv_context *context = net->object.context;
    for (fv_net *other = next_net(context, NULL); other; other = next_net(context, other))
        for (int32_t i = 0; i < other->layer_count; i++)
            if (other->layer[i].inner == net) {
                fv_fail(context, FV_ERROR_ARGUMENT, "net %s is a part of net %s, which must be freed first", net->name,
                        other->name);
                return;
            }
    fv_object_free(net);
}

const char *fv_net_name(const fv_net *net) { return net ? net->name : ""; }

/* ---- Families: a net and the nets within it ---------------------------------------------------------------------- */

static int32_t add_family(fv_net *net, fv_net **out, int32_t count, int32_t capacity) {
    for (int32_t i = 0; i < count && i < capacity; i++)
        if (out[i] == net) return count;
    if (count < capacity) out[count] = net;
    count++;
    for (int32_t i = 0; i < net->layer_count; i++)
        if (net->layer[i].inner) count = add_family(net->layer[i].inner, out, count, capacity);
    return count;
}

int32_t fv_net_family(fv_net *net, fv_net **out, int32_t capacity) {
    return net ? add_family(net, out, 0, capacity) : 0;
}

fv_net **fv_net_family_list(fv_net *net, int32_t *count) {
    int32_t bound = fv_net_family(net, NULL, 0); /* counts a net that occurs twice twice */
    fv_net **list = fv_alloc(net->object.context, (size_t)bound, sizeof(fv_net *), "a list of nets");
    *count = list ? fv_net_family(net, list, bound) : 0;
    return list;
}

static bool contains_net(const fv_net *net, const fv_net *wanted) {
    if (net == wanted) return true;
    for (int32_t i = 0; i < net->layer_count; i++)
        if (net->layer[i].inner && contains_net(net->layer[i].inner, wanted)) return true;
    return false;
}

bool fv_net_is_chain(const fv_net *net) {
    if (net->input_count != 1 || net->output_count != 1 || net->node_count < 2) return false;
    if (net->layer_count != net->node_count || net->output[0] != net->node_count - 1) return false;
    for (int32_t i = 0; i < net->node_count; i++) {
        const fv_net_node *node = &net->node[i];
        if (node->layer != i || node->input_count != (i > 0) || (i > 0 && node->input[0] != i - 1)) return false;
        const fv_net *inner = net->layer[i].inner;
        if (inner && (inner->input_count != 1 || inner->output_count != 1)) return false;
    }
    return true;
}

/* ---- Names of layers --------------------------------------------------------------------------------------------- */

static int32_t find_layer(const fv_net *net, const char *name) {
    for (int32_t i = 0; i < net->layer_count; i++)
        if (!strcmp(net->layer[i].name, name)) return i;
    return -1;
}

/* Changes of one letter that lead from one name to the other (Levenshtein), of their first 63 letters. */
static int name_distance(const char *a, const char *b) {
    int length = (int)strnlen(b, 63), row[64];
    for (int j = 0; j <= length; j++) row[j] = j;
    for (int i = 0; i < 63 && a[i]; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 1; j <= length; j++) {
            int best = diagonal + (a[i] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[length];
}

static int fail_name(const fv_net *net, const char *name) {
    enum { SHOWN = 4 };
    int32_t near[SHOWN];
    int distance[SHOWN], found = 0;
    for (int32_t i = 0; i < net->layer_count; i++) {
        int d = name_distance(name, net->layer[i].name), place = found;
        while (place > 0 && distance[place - 1] > d) place--;
        if (place == SHOWN) continue;
        if (found < SHOWN) found++;
        memmove(near + place + 1, near + place, (size_t)(found - 1 - place) * sizeof *near);
        memmove(distance + place + 1, distance + place, (size_t)(found - 1 - place) * sizeof *distance);
        near[place] = i;
        distance[place] = d;
    }
    char list[512] = "";
    size_t used = 0;
    for (int i = 0; i < found && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "; near are ",
                                 net->layer[near[i]].name);
    return fv_fail(net->object.context, FV_ERROR_ARGUMENT, "net %s has no layer '%s'%s", net->name, name, list);
}

int fv_layer_find(fv_net *net, const char *name) {
    if (!net || !name) return FV_ERROR_ARGUMENT;
    int32_t index = find_layer(net, name);
    return index >= 0 ? index : fail_name(net, name);
}

fv_layer *fv_net_layer(fv_net *net, const char *name) {
    int index = fv_layer_find(net, name);
    return index < 0 ? NULL : &net->layer[index];
}

fv_layer *fv_net_find(fv_net *net, const char *path, fv_net **owner) {
    if (!net || !path) return NULL;
    const char *slash = strchr(path, '/');
    if (!slash) {
        *owner = net;
        return fv_net_layer(net, path);
    }
    for (int32_t i = 0; i < net->layer_count; i++) {
        const fv_layer *layer = &net->layer[i];
        if (layer->inner && strlen(layer->name) == (size_t)(slash - path) &&
            !strncmp(layer->name, path, (size_t)(slash - path)))
            return fv_net_find(layer->inner, slash + 1, owner);
    }
    fv_fail(net->object.context, FV_ERROR_ARGUMENT, "net %s holds no net '%.*s'", net->name, (int)(slash - path), path);
    return NULL;
}

const char *fv_net_free_name(const fv_net *net, const char *stem, char *name, size_t bytes) {
    snprintf(name, bytes, "%s", stem);
    for (int i = 1; find_layer(net, name) >= 0; i++) snprintf(name, bytes, "%s_%d", stem, i);
    return name;
}

/* The name given, or conv2d, conv2d_1, ... as in Keras. */
static char *name_layer(fv_net *net, const fv_layer *layer, const char *given) {
    fv_context *context = net->object.context;
    if (given) {
        if (check_name(context, "layer", given)) return NULL;
        if (find_layer(net, given) >= 0) {
            fv_fail(context, FV_ERROR_ARGUMENT, "net %s has a layer '%s' already", net->name, given);
            return NULL;
        }
        return fv_copy_string(context, given);
    }
    char name[64];
    return fv_copy_string(context,
                          fv_net_free_name(net, fv_layer_types[layer->kind].stem, name, sizeof name));
}

int fv_layer_fail(const fv_net *net, const fv_layer *layer, fv_status status, const char *format, ...) {
    char sentence[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    return fv_fail(net->object.context, status, "%s: layer %s (%s): %s", net->name, layer->name,
                   fv_layer_types[layer->kind].stem, sentence);
}

/* ---- Layers and nodes -------------------------------------------------------------------------------------------- */

static int reserve(fv_net *net, int32_t nodes) {
    fv_context *context = net->object.context;
    if (net->layer_count == net->layer_capacity) {
        int32_t capacity = net->layer_capacity ? 2 * net->layer_capacity : 16;
        fv_layer *grown =
            fv_grow(context, net->layer, (size_t)net->layer_count, (size_t)capacity, sizeof(fv_layer), "layers");
        if (!grown) return FV_ERROR_MEMORY;
        net->layer = grown;
        net->layer_capacity = capacity;
    }
    if (net->node_count + nodes > net->node_capacity) {
        int32_t capacity = 2 * net->node_capacity + nodes + 16;
        fv_net_node *grown =
            fv_grow(context, net->node, (size_t)net->node_count, (size_t)capacity, sizeof(fv_net_node), "nodes");
        if (!grown) return FV_ERROR_MEMORY;
        net->node = grown;
        net->node_capacity = capacity;
    }
    return FV_OK;
}

static int append(fv_net *net, int32_t **list, int32_t *count, int32_t item) {
    int32_t *grown =
        fv_grow(net->object.context, *list, (size_t)*count, (size_t)*count + 1, sizeof(int32_t), "a list of nodes");
    if (!grown) return FV_ERROR_MEMORY;
    *list = grown;
    grown[(*count)++] = item;
    return FV_OK;
}

static int check_inputs(fv_net *net, const fv_layer *layer, const fv_node *inputs, int32_t count) {
    const fv_layer_type *type = &fv_layer_types[layer->kind];
    int32_t least = layer->inner ? layer->inner->input_count : type->least, most = layer->inner ? least : type->most;
    if (count < least || (most >= 0 && count > most))
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "takes %s%d input%s, but was given %d",
                             most == least ? "" : "at least ", (int)least, least == 1 ? "" : "s", (int)count);
    for (int32_t i = 0; i < count; i++)
        if (inputs[i].id < 1 || inputs[i].id > net->node_count)
            return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "its input is not a node of this net");
    return FV_OK;
}

static int check_inner_inputs(fv_net *net, const fv_layer *layer, const fv_net_node *node) {
    for (int32_t i = 0; i < node->input_count; i++) {
        const fv_net_node *given = &net->node[node->input[i]], *wanted = &layer->inner->node[layer->inner->input[i]];
        bool fits = given->type == wanted->type && given->shape.rank == wanted->shape.rank;
        for (int32_t d = 1; fits && d < given->shape.rank; d++)
            fits = !wanted->shape.dim[d] || wanted->shape.dim[d] == given->shape.dim[d];
        char a[128], b[128];
        if (!fits)
            return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "net %s takes %s %s, but was given %s %s",
                                 layer->inner->name, fv_type_name(wanted->type), fv_net_shape_text(&wanted->shape, a),
                                 fv_type_name(given->type), fv_net_shape_text(&given->shape, b));
    }
    return FV_OK;
}

/* Writes the nodes of one application behind the last node, without counting them yet. */
static int make_nodes(fv_net *net, const fv_layer *layer, int32_t index, const fv_node *inputs, int32_t count) {
    int32_t outputs = layer->inner ? layer->inner->output_count : 1;
    int status = reserve(net, outputs);
    fv_net_node *node = net->node + net->node_count;
    for (int32_t o = 0; !status && o < outputs; o++) {
        node[o] = (fv_net_node){ .layer = index, .input_count = count, .output = o };
        node[o].input = fv_alloc(net->object.context, (size_t)count, sizeof(int32_t), "a node");
        if (!node[o].input) status = FV_ERROR_MEMORY;
        for (int32_t i = 0; !status && i < count; i++) node[o].input[i] = inputs[i].id - 1;
    }
    if (!status && layer->inner) status = check_inner_inputs(net, layer, node);
    if (!status) status = fv_infer_node(net, layer, node, outputs);
    if (status && net->node)
        for (int32_t o = 0; o < outputs && net->node_count + o < net->node_capacity; o++) {
            fv_free(node[o].input);
            node[o] = (fv_net_node){0};
        }
    return status ? status : outputs;
}

static int image_of_sequence(const fv_net *net, const fv_layer *layer, const fv_net_node *node, fv_shape *shape) {
    char text[128];
    if (shape->rank != 3)
        return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "its input must be (None, steps, channels), not %s",
                             fv_net_shape_text(&node->shape, text));
    *shape = (fv_shape){ 4, { shape->dim[0], 1, shape->dim[1], shape->dim[2] } };
    return FV_OK;
}

static int build(fv_net *net, fv_layer *layer, const fv_node *inputs, int32_t count) {
    const fv_layer_type *type = &fv_layer_types[layer->kind];
    int status = check_inputs(net, layer, inputs, count);
    if (status || !type->build) return status;
    fv_shape *shapes = fv_alloc(net->object.context, (size_t)count, sizeof(fv_shape), "shapes of inputs");
    if (!shapes) return FV_ERROR_MEMORY;
    for (int32_t i = 0; i < count && !status; i++) {
        shapes[i] = net->node[inputs[i].id - 1].trial[0];
        if (type->sequence) status = image_of_sequence(net, layer, &net->node[inputs[i].id - 1], &shapes[i]);
    }
    if (!status) status = type->build(net, layer, shapes, count);
    fv_free(shapes);
    if (!status && layer->weight_count && net->store && !net->measuring)
        status = fv_layer_fail(net, layer, FV_ERROR_ARGUMENT,
                               "the net is in use already: layers with weights come before it is recorded");
    return status;
}

static fv_node add_layer(fv_net *net, fv_layer *layer, const fv_node *inputs, int32_t count, const char *name) {
    int64_t parameters = net->parameters, statistics = net->statistics;
    int32_t inputs_before = net->input_count;
    layer->name = name_layer(net, layer, name);
    if (!layer->name) return (fv_node){0};
    layer->stream = net->next_stream;
    int status = build(net, layer, inputs, count);
    if (!status) status = reserve(net, 1);
    if (!status && layer->kind == FV_LAYER_INPUT) status = append(net, &net->input, &net->input_count, net->node_count);
    int outputs = status ? status : make_nodes(net, layer, net->layer_count, inputs, count);
    if (outputs < 0) {
        net->parameters = parameters;
        net->statistics = statistics;
        net->input_count = inputs_before;
        fv_free(layer->name);
        return (fv_node){0};
    }
    net->next_stream++;
    net->layer[net->layer_count++] = *layer;
    net->node_count += outputs;
    /* The host copy, if there is one, lacks the new weights: it is drawn anew, and gives the old ones as before. */
    if (layer->weight_count && !net->device_current) net->host_current = false;
    return (fv_node){ net->node_count - outputs + 1 };
}

fv_node fv_net_add(fv_net *net, fv_layer_kind kind, const fv_layer_options *options, const fv_node *inputs,
                   int32_t count, const char *name) {
    if (!net || !fv_ok(net->object.context) || kind <= FV_LAYER_NONE || kind >= FV_LAYER_NET) return (fv_node){0};
    fv_layer layer = { .kind = kind };
    if (options) layer.options = *options;
    return add_layer(net, &layer, inputs, count, name);
}

fv_node fv_net_apply(fv_net *net, int32_t index, const fv_node *inputs, int32_t count) {
    if (!net || !fv_ok(net->object.context)) return (fv_node){0};
    fv_layer layer = net->layer[index]; /* a copy: the list may move while it grows */
    if (layer.kind == FV_LAYER_INPUT) {
        fv_layer_fail(net, &layer, FV_ERROR_ARGUMENT, "an input cannot be applied to a node");
        return (fv_node){0};
    }
    if (check_inputs(net, &layer, inputs, count)) return (fv_node){0};
    int outputs = make_nodes(net, &layer, index, inputs, count);
    if (outputs < 0) return (fv_node){0};
    net->node_count += outputs;
    return (fv_node){ net->node_count - outputs + 1 };
}

static bool valid_node(const fv_net *net, fv_node node) { return node.id > 0 && node.id <= net->node_count; }

fv_node fv_again(fv_net *net, fv_node layer_output, fv_node input) {
    if (!net || !fv_ok(net->object.context)) return (fv_node){0};
    if (!valid_node(net, layer_output)) {
        fv_fail(net->object.context, FV_ERROR_ARGUMENT,
                "net %s: the node whose layer is to be applied again is not a node of this net", net->name);
        return (fv_node){0};
    }
    return fv_net_apply(net, net->node[layer_output.id - 1].layer, &input, 1);
}

fv_node fv_call(fv_net *net, fv_net *inner, fv_nodes inputs) {
    if (!net || !inner || !fv_ok(net->object.context)) return (fv_node){0};
    fv_context *context = net->object.context;
    if (inner->object.context != context)
        fv_fail(context, FV_ERROR_ARGUMENT, "net %s cannot call net %s: it belongs to another context", net->name,
                inner->name);
    else if (contains_net(inner, net))
        fv_fail(context, FV_ERROR_ARGUMENT, "net %s cannot call net %s, which contains it", net->name, inner->name);
    else if (!inner->output_count)
        fv_fail(context, FV_ERROR_ARGUMENT, "net %s cannot call net %s, which has no output yet", net->name,
                inner->name);
    if (!fv_ok(context)) return (fv_node){0};
    for (int32_t i = 0; i < net->layer_count; i++)
        if (net->layer[i].inner == inner) return fv_net_apply(net, i, inputs.node, inputs.count);
    fv_layer layer = { .kind = FV_LAYER_NET, .inner = inner };
    return add_layer(net, &layer, inputs.node, inputs.count, inner->name);
}

int fv_output(fv_net *net, fv_node node) {
    if (!net) return FV_ERROR_ARGUMENT;
    if (!fv_ok(net->object.context)) return net->object.context->status;
    if (!valid_node(net, node))
        return fv_fail(net->object.context, FV_ERROR_ARGUMENT, "net %s: the output is not a node of this net",
                       net->name);
    return append(net, &net->output, &net->output_count, node.id - 1);
}

/* ---- Questions --------------------------------------------------------------------------------------------------- */

int fv_node_shape(const fv_net *net, fv_node node, int64_t dims[FV_RANK]) {
    if (!net) return FV_ERROR_ARGUMENT;
    if (!valid_node(net, node))
        return fv_fail(net->object.context, FV_ERROR_ARGUMENT, "net %s has no node %d", net->name, (int)node.id);
    const fv_shape *shape = &net->node[node.id - 1].shape;
    memcpy(dims, shape->dim, sizeof shape->dim);
    return shape->rank;
}

fv_node fv_net_input(const fv_net *net, int index) {
    return (fv_node){ net && index >= 0 && index < net->input_count ? net->input[index] + 1 : 0 };
}
fv_node fv_net_output(const fv_net *net, int index) {
    return (fv_node){ net && index >= 0 && index < net->output_count ? net->output[index] + 1 : 0 };
}

int fv_layer_count(const fv_net *net) { return net ? net->layer_count : 0; }

const char *fv_layer_name(const fv_net *net, int layer) {
    return net && layer >= 0 && layer < net->layer_count ? net->layer[layer].name : NULL;
}

const char *fv_layer_class(const fv_net *net, int layer) {
    return net && layer >= 0 && layer < net->layer_count ? fv_layer_class_name(&net->layer[layer]) : NULL;
}

static int freeze_all(fv_net *net, bool frozen) {
    int status = FV_OK;
    for (int32_t i = 0; i < net->layer_count && !status; i++) {
        net->layer[i].frozen = frozen;
        if (net->layer[i].inner) status = freeze_all(net->layer[i].inner, frozen);
    }
    return status ? status : fv_net_refresh_segments(net);
}

int fv_freeze(fv_net *net, const char *path, bool frozen) {
    if (!net || !path) return FV_ERROR_ARGUMENT;
    if (!fv_ok(net->object.context)) return net->object.context->status;
    fv_net *owner;
    fv_layer *layer = fv_net_find(net, path, &owner);
    if (!layer) return net->object.context->status;
    layer->frozen = frozen;
    int status = layer->inner ? freeze_all(layer->inner, frozen) : FV_OK;
    return status ? status : fv_net_refresh_segments(owner);
}
