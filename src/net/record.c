/* record.c - a net records itself on a tape: each node appends the operations of its layer. Shapes of new nodes are
 * found in the same way, on a scratch tape with a batch of one: an operation itself then says what does not fit. */
#include "net/net.h"
#include <string.h>

static const int64_t free_size[FV_TRIALS] = { 256, 384 }; /* survive seven halvings, and differ after them */

/* ---- Errors and texts -------------------------------------------------------------------------------------------- */

const char *fv_net_shape_text(const fv_shape *shape, char buffer[128]) {
    size_t used = (size_t)snprintf(buffer, 128, "(");
    for (int i = 0; i < shape->rank && used < 128; i++)
        used += (size_t)snprintf(buffer + used, 128 - used, shape->dim[i] ? "%s%lld" : "%sNone", i ? ", " : "",
                                 (long long)shape->dim[i]);
    if (used < 128) snprintf(buffer + used, 128 - used, shape->rank == 1 ? ",)" : ")");
    return buffer;
}

/* An operation that refuses its inputs says "conv2d c3: kernel ..."; the net makes of it "lenet5: layer c3 (conv2d):
 * kernel ...". */
static void name_error(fv_context *context, const fv_net *root, const char *label, const fv_layer *layer) {
    const char *space = strchr(context->error, ' ');
    size_t length = strlen(label);
    if (!space || strncmp(space + 1, label, length) || strncmp(space + 1 + length, ": ", 2)) return;
    char sentence[sizeof context->error];
    memcpy(sentence, space + 1 + length + 2, strlen(space + 1 + length + 2) + 1);
    int written = snprintf(context->error, sizeof context->error, "%s: layer %s (%s): ", root->name, label,
                           fv_layer_types[layer->kind].stem);
    size_t used = (size_t)written < sizeof context->error ? (size_t)written : sizeof context->error - 1;
    strncat(context->error, sentence, sizeof context->error - 1 - used);
}

/* ---- Weights as values ------------------------------------------------------------------------------------------- */

fv_value fv_net_weight(fv_tape *tape, fv_net *net, fv_layer *layer, int32_t index) {
    fv_store *store = fv_net_store(net);
    if (!store) return (fv_value){0};
    const fv_weight *weight = &layer->weight[index];
    return fv_tape_state(tape, store, weight->statistic ? FV_STATISTICS : FV_PARAMETERS, weight->offset, FV_F32,
                         &weight->shape, !weight->statistic && !layer->frozen);
}

fv_value fv_record_weight(fv_recording *r, fv_layer *layer, int32_t index) {
    if (!r->trial) return fv_net_weight(r->tape, r->net, layer, index);
    const fv_shape *shape = &layer->weight[index].shape;
    return fv_op_input(r->tape, shape->dim, shape->rank, FV_F32);
}

fv_value fv_weight_value(fv_tape *tape, fv_net *net, const char *path, int index) {
    if (!tape || !net || !path || !fv_ok(net->object.context)) return (fv_value){0};
    fv_net *owner;
    fv_layer *layer = fv_net_find(net, path, &owner);
    if (!layer) return (fv_value){0};
    if (index < 0 || index >= layer->weight_count) {
        fv_layer_fail(owner, layer, FV_ERROR_ARGUMENT, "has %d weights: there is no weight %d",
                      (int)layer->weight_count, index);
        return (fv_value){0};
    }
    return fv_net_weight(tape, owner, layer, index);
}

/* ---- Nodes ------------------------------------------------------------------------------------------------------- */

static int record_inner(fv_recording *outer, const fv_layer *layer, const char *label, const fv_value *inputs,
                        int32_t count, fv_value *outputs) {
    fv_net *net = layer->inner;
    fv_context *context = net->object.context;
    char prefix[512];
    if (snprintf(prefix, sizeof prefix, "%s/", label) >= (int)sizeof prefix)
        return fv_fail(context, FV_ERROR_ARGUMENT, "net %s lies too deep in other nets", net->name);
    fv_value *node_value = fv_alloc(context, (size_t)net->node_count, sizeof(fv_value), "values of a net");
    if (!node_value) return FV_ERROR_MEMORY;
    fv_recording r = *outer;
    r.net = net;
    r.prefix = prefix;
    int status = fv_record_nodes(&r, inputs, count, node_value);
    for (int32_t o = 0; !status && o < net->output_count; o++) outputs[o] = node_value[net->output[o]];
    fv_free(node_value);
    return status;
}

/* The image of one row that a layer of sequences works on, and back (what lost both axes has none to lose). */
static fv_value with_row(fv_tape *tape, fv_value v, bool image) {
    if (!fv_value_valid(tape, v)) return v;
    const fv_shape shape = fv_tape_value_of(tape, v)->shape;
    const int64_t *d = shape.dim;
    if (shape.rank != (image ? 3 : 4)) return v;
    return image ? fv_op_reshape(tape, v, (const int64_t[]){ d[0], 1, d[1], d[2] }, 4)
                 : fv_op_reshape(tape, v, (const int64_t[]){ d[0], d[2], d[3] }, 3);
}

static fv_value record_sequence(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    enum { MOST = 2 };
    fv_value images[MOST] = { { 0 } };
    for (int32_t i = 0; i < count && i < MOST; i++) images[i] = with_row(r->tape, inputs[i], true);
    return with_row(r->tape, fv_layer_types[layer->kind].record(r, layer, images, count), false);
}

/* Appends one application of a layer; a net within the net gives several outputs. */
static int record_layer(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count, fv_value *outputs) {
    fv_context *context = r->net->object.context;
    if (!fv_ok(context)) return context->status;
    char label[512];
    snprintf(label, sizeof label, "%s%s", r->prefix, layer->name);
    fv_tape_label(r->tape, label);
    if (layer->kind == FV_LAYER_NET) {
        int status = record_inner(r, layer, label, inputs, count, outputs);
        if (status) return status;
    } else
        outputs[0] = fv_layer_types[layer->kind].sequence ? record_sequence(r, layer, inputs, count)
                                                          : fv_layer_types[layer->kind].record(r, layer, inputs, count);
    if (fv_ok(context) && outputs[0].id > 0) return FV_OK;
    if (fv_ok(context)) return fv_layer_fail(r->net, layer, FV_ERROR_INTERNAL, "recorded nothing");
    name_error(context, r->root, label, layer);
    return context->status;
}

int fv_record_nodes(fv_recording *r, const fv_value *inputs, int32_t count, fv_value *node_value) {
    fv_net *net = r->net;
    int32_t widest = 1, status = FV_OK, label = r->tape->current_label;
    for (int32_t i = 0; i < net->node_count; i++)
        if (net->node[i].input_count > widest) widest = net->node[i].input_count;
    fv_value *given = fv_alloc(net->object.context, (size_t)widest, sizeof(fv_value), "inputs of a node");
    if (!given) return FV_ERROR_MEMORY;
    for (int32_t i = 0; i < net->input_count && i < count; i++) node_value[net->input[i]] = inputs[i];
    for (int32_t i = 0; i < net->node_count && !status; i++) {
        const fv_net_node *node = &net->node[i];
        fv_layer *layer = &net->layer[node->layer];
        if (layer->kind == FV_LAYER_INPUT || node->output > 0)
            continue; /* side-by-side nodes are written with their first */
        for (int32_t k = 0; k < node->input_count; k++) given[k] = node_value[node->input[k]];
        status = record_layer(r, layer, given, node->input_count, node_value + i);
    }
    r->tape->current_label = label;
    fv_free(given);
    return status;
}

/* ---- Shapes of new nodes ----------------------------------------------------------------------------------------- */

static bool has_free_size(const fv_shape *shape) {
    for (int32_t d = 1; d < shape->rank; d++)
        if (!shape->dim[d]) return true;
    return false;
}

static int try_layer(fv_net *net, const fv_layer *layer, fv_net_node *node, int32_t outputs, int trial) {
    fv_context *context = net->object.context;
    fv_tape *tape = fv_tape_new(context);
    size_t room = (size_t)node->input_count + (size_t)outputs;
    fv_value *inputs = tape ? fv_alloc(context, room, sizeof(fv_value), "a trial of a layer") : NULL;
    int status = inputs ? FV_OK : FV_ERROR_MEMORY;
    for (int32_t i = 0; !status && i < node->input_count; i++) {
        const fv_net_node *from = &net->node[node->input[i]];
        inputs[i] = fv_op_input(tape, from->trial[trial].dim, from->trial[trial].rank, from->type);
        if (!inputs[i].id) status = context->status;
    }
    fv_value *values = inputs ? inputs + node->input_count : NULL;
    fv_recording r = { .tape = tape, .mode = FV_MODE_INFER, .net = net, .root = net, .prefix = "", .trial = true };
    fv_layer copy = *layer;
    if (!status) status = record_layer(&r, &copy, inputs, node->input_count, values);
    for (int32_t o = 0; !status && o < outputs; o++) {
        const fv_tape_value *value = fv_tape_value_of(tape, values[o]);
        node[o].trial[trial] = value->shape;
        node[o].type = value->type;
    }
    fv_free(inputs);
    fv_tape_free(tape);
    return status;
}

static int infer_input(const fv_layer *layer, fv_net_node *node) {
    const fv_input_options *options = &layer->options.input;
    node->type = options->type;
    node->shape = (fv_shape){ .rank = options->rank + 1 };
    for (int32_t i = 0; i < options->rank; i++) node->shape.dim[i + 1] = options->shape[i];
    for (int t = 0; t < FV_TRIALS; t++) {
        node->trial[t] = node->shape;
        node->trial[t].dim[0] = 1;
        for (int32_t d = 1; d < node->shape.rank; d++)
            if (!node->shape.dim[d]) node->trial[t].dim[d] = free_size[t];
    }
    return FV_OK;
}

int fv_infer_node(fv_net *net, const fv_layer *layer, fv_net_node *node, int32_t outputs) {
    if (layer->kind == FV_LAYER_INPUT) return infer_input(layer, node);
    bool open = false;
    for (int32_t i = 0; i < node->input_count; i++) open |= has_free_size(&net->node[node->input[i]].shape);
    int status = try_layer(net, layer, node, outputs, 0);
    if (status) return status;
    if (open && try_layer(net, layer, node, outputs, 1)) {
        fv_context *context = net->object.context;
        if (context->status == FV_ERROR_MEMORY || context->status == FV_ERROR_INTERNAL) return context->status;
        char text[128];
        fv_net_shape_text(&net->node[node->input[0]].shape, text);
        context->status = FV_OK; /* what the second trial met is not the reason */
        return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "needs an input of fixed size, but was given %s", text);
    }
    for (int32_t o = 0; o < outputs; o++) {
        if (!open) node[o].trial[1] = node[o].trial[0];
        node[o].shape = node[o].trial[0];
        node[o].shape.dim[0] = 0;
        for (int32_t d = 1; d < node[o].shape.rank; d++)
            if (node[o].trial[0].dim[d] != node[o].trial[1].dim[d]) node[o].shape.dim[d] = 0;
    }
    return FV_OK;
}

/* ---- Public recording -------------------------------------------------------------------------------------------- */

static int check_values(fv_tape *tape, fv_net *net, fv_values inputs) {
    fv_context *context = net->object.context;
    if (tape->object.context != context)
        return fv_fail(context, FV_ERROR_ARGUMENT, "net %s cannot be recorded on a tape of another context", net->name);
    if (!net->output_count)
        return fv_fail(context, FV_ERROR_ARGUMENT, "net %s has no output: fv_output names one", net->name);
    if (inputs.count != net->input_count)
        return fv_fail(context, FV_ERROR_ARGUMENT, "net %s takes %d input%s, but was given %d", net->name,
                       (int)net->input_count, net->input_count == 1 ? "" : "s", (int)inputs.count);
    for (int32_t i = 0; i < inputs.count; i++) {
        if (!fv_value_valid(tape, inputs.value[i]))
            return fv_fail(context, FV_ERROR_ARGUMENT, "net %s: input %d is not a value of the tape", net->name,
                           (int)i);
        const fv_tape_value *given = fv_tape_value_of(tape, inputs.value[i]);
        const fv_net_node *node = &net->node[net->input[i]];
        bool fits = given->type == node->type && given->shape.rank == node->shape.rank;
        for (int32_t d = 1; fits && d < node->shape.rank; d++)
            fits = !node->shape.dim[d] || node->shape.dim[d] == given->shape.dim[d];
        char wanted[128], shape[96];
        if (!fits)
            return fv_fail(context, FV_ERROR_SHAPE, "net %s: input %s takes %s %s, but was given %s %s", net->name,
                           net->layer[node->layer].name, fv_type_name(node->type),
                           fv_net_shape_text(&node->shape, wanted), fv_type_name(given->type),
                           fv_shape_text(&given->shape, shape));
    }
    return FV_OK;
}

int fv_record_all(fv_tape *tape, fv_net *net, fv_values inputs, fv_mode mode, fv_value *outputs, int capacity) {
    if (!tape || !net || (!outputs && capacity > 0)) return FV_ERROR_ARGUMENT;
    fv_context *context = net->object.context;
    if (!fv_ok(context)) return context->status;
    int status = check_values(tape, net, inputs);
    if (status) return status;
    fv_value *node_value = fv_alloc(context, (size_t)net->node_count, sizeof(fv_value), "values of a net");
    if (!node_value) return FV_ERROR_MEMORY;
    fv_recording r = { .tape = tape, .mode = mode, .net = net, .root = net, .prefix = "" };
    status = fv_record_nodes(&r, inputs.value, inputs.count, node_value);
    for (int o = 0; !status && o < net->output_count && o < capacity; o++) outputs[o] = node_value[net->output[o]];
    fv_free(node_value);
    return status ? status : net->output_count;
}

fv_value fv_record(fv_tape *tape, fv_net *net, fv_values inputs, fv_mode mode) {
    fv_value output = {0};
    return fv_record_all(tape, net, inputs, mode, &output, 1) < 0 ? (fv_value){0} : output;
}

/* ---- Penalties on weights ---------------------------------------------------------------------------------------- */

static fv_value add_penalty(fv_tape *tape, fv_value sum, fv_op norm, float factor, fv_value weight) {
    if (factor == 0.0f) return sum;
    fv_attributes scale;
    memset(&scale, 0, sizeof scale);
    scale.affine.a = factor;
    fv_value term = FV_APPLY(tape, FV_OP_affine, &scale, FV_APPLY(tape, norm, NULL, weight));
    return sum.id ? fv_op_add(tape, sum, term) : term;
}

/* Frozen weights cost nothing, as in Keras. */
static bool is_penalized(const fv_layer *layer, int32_t index) {
    return !layer->frozen && (layer->weight[index].l1 != 0.0f || layer->weight[index].l2 != 0.0f);
}

bool fv_net_is_penalized(const fv_net *net) {
    for (int32_t l = 0; l < net->layer_count; l++) {
        if (net->layer[l].inner && fv_net_is_penalized(net->layer[l].inner)) return true;
        for (int32_t w = 0; w < net->layer[l].weight_count; w++)
            if (is_penalized(&net->layer[l], w)) return true;
    }
    return false;
}

fv_value fv_op_regularization(fv_tape *tape, fv_net *net) {
    if (!tape || !net || !fv_ok(net->object.context)) return (fv_value){0};
    if (!fv_net_is_penalized(net)) return fv_op_scalar(tape, 0.0f);
    fv_value sum = {0};
    int32_t count, label = tape->current_label;
    fv_net **family = fv_net_family_list(net, &count);
    for (int32_t n = 0; n < count; n++)
        for (int32_t l = 0; l < family[n]->layer_count; l++) {
            fv_layer *layer = &family[n]->layer[l];
            for (int32_t w = 0; w < layer->weight_count; w++) {
                if (!is_penalized(layer, w)) continue;
                fv_tape_label(tape, layer->name);
                fv_value value = fv_net_weight(tape, family[n], layer, w);
                sum = add_penalty(tape, sum, FV_OP_sum_abs, layer->weight[w].l1, value);
                sum = add_penalty(tape, sum, FV_OP_sum_squares, layer->weight[w].l2, value);
            }
        }
    tape->current_label = label;
    fv_free(family);
    return fv_ok(net->object.context) ? sum : (fv_value){0};
}
