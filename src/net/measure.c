/* measure.c - how large a net is: weights, multiply-adds, bytes of a step. Multiply-adds come from the operations of a
 * recorded batch of one; bytes are those of the planner for a training step (cross-entropy for rows of scores, else
 * mean squared error; SGD with momentum) and for inference. No weight is drawn and no memory on the device is taken. */
#include "net/net.h"
#include <string.h>

/* ---- Weights ----------------------------------------------------------------------------------------------------- */

static fv_layer_size layer_weights(const fv_layer *layer) {
    fv_layer_size size = {0};
    for (int32_t w = 0; w < layer->weight_count; w++) {
        int64_t elements = fv_shape_elements(&layer->weight[w].shape);
        size.parameters += elements;
        if (!layer->weight[w].statistic && !layer->frozen) size.trainable += elements;
    }
    for (int32_t l = 0; layer->inner && l < layer->inner->layer_count; l++) {
        fv_layer_size inner = layer_weights(&layer->inner->layer[l]);
        size.parameters += inner.parameters;
        size.trainable += inner.trainable;
    }
    return size;
}

/* A net that occurs twice in the family counts once. */
static int count_weights(fv_net *net, fv_net_size *size) {
    int32_t count;
    fv_net **family = fv_net_family_list(net, &count);
    if (!family) return FV_ERROR_MEMORY;
    for (int32_t n = 0; n < count; n++)
        for (int32_t l = 0; l < family[n]->layer_count; l++) {
            if (family[n]->layer[l].inner) continue;
            fv_layer_size layer = layer_weights(&family[n]->layer[l]);
            size->parameters += layer.parameters;
            size->trainable += layer.trainable;
        }
    size->non_trainable = size->parameters - size->trainable;
    fv_free(family);
    return FV_OK;
}

/* ---- Tapes ------------------------------------------------------------------------------------------------------- */

static fv_value input_like(fv_tape *tape, const fv_net_node *node, int64_t batch) {
    int64_t dims[FV_RANK];
    memcpy(dims, node->shape.dim, sizeof dims);
    dims[0] = batch;
    return fv_op_input(tape, dims, node->shape.rank, node->type);
}

/* Records the net for a batch; outputs[output_count]. */
static int record(fv_tape *tape, fv_net *net, int64_t batch, fv_mode mode, fv_value *outputs) {
    fv_context *context = net->object.context;
    fv_value *inputs = fv_alloc(context, (size_t)net->input_count, sizeof(fv_value), "inputs of a net");
    if (!inputs) return FV_ERROR_MEMORY;
    for (int32_t i = 0; i < net->input_count; i++) inputs[i] = input_like(tape, &net->node[net->input[i]], batch);
    int count = fv_record_all(tape, net, (fv_values){ inputs, net->input_count }, mode, outputs, net->output_count);
    fv_free(inputs);
    return count < 0 ? count : (int)context->status;
}

static fv_value loss_of(fv_tape *tape, fv_value output) {
    const fv_tape_value *value = fv_tape_value_of(tape, output);
    fv_shape shape = value->shape;
    if (shape.rank != 2 || shape.dim[1] < 2)
        return fv_op_mean(tape,
                          fv_op_mean_squared_error(tape, output, fv_op_input(tape, shape.dim, shape.rank, FV_F32)));
    if (value->producer >= 0 && tape->operation[value->producer].op == FV_OP_softmax)
        output = fv_tape_input(tape, value->producer, 0);
    fv_value labels = fv_op_input(tape, shape.dim, 1, FV_I32);
    return fv_op_mean(tape, fv_op_softmax_cross_entropy(tape, output, labels, 0));
}

static int record_training(fv_tape *tape, fv_net *net, const fv_value *outputs) {
    fv_context *context = net->object.context;
    fv_value loss = loss_of(tape, outputs[0]);
    for (int32_t o = 1; o < net->output_count; o++) loss = fv_op_add(tape, loss, loss_of(tape, outputs[o]));
    if (fv_net_is_penalized(net)) loss = fv_op_add(tape, loss, fv_op_regularization(tape, net));
    if (!fv_ok(context) || !fv_tape_value_of(tape, loss)->needs_gradient) return context->status;
    fv_keep(tape, loss);
    if (fv_backward(tape, loss)) return context->status;
    return fv_op_update(tape, net, fv_sgd(.learning_rate = 0.01f, .momentum = 0.9f));
}

/* ---- Bytes ------------------------------------------------------------------------------------------------------- */

/* Of the regions of stores that a tape refers to, each once. */
static int64_t region_bytes(const fv_tape *tape, fv_net **family, int32_t count) {
    int64_t bytes = 0;
    for (int32_t n = 0; n < count; n++)
        for (int region = FV_REGION_NONE + 1; region < FV_REGION_COUNT; region++) {
            const fv_store *store = family[n]->store;
            int64_t elements = 0;
            for (int32_t v = 1; store && v < tape->value_count; v++) {
                const fv_tape_value *value = &tape->value[v];
                if (value->store != store || (int)value->region != region) continue;
                int64_t end = value->offset + fv_shape_elements(&value->shape);
                if (end > elements) elements = end;
            }
            if (!elements) continue;
            if (region >= FV_PARAMETERS && region <= FV_SLOT2) elements = store->parameters;
            if (region == FV_STATISTICS || region == FV_NEXT_STATISTICS) elements = store->statistics;
            bytes += elements * (int64_t)fv_device_element(store->context, fv_region_type((fv_region)region));
        }
    return bytes;
}

static int64_t label_macs(const fv_tape *tape, int32_t index, double macs, const fv_net *net, fv_layer_size *layers) {
    const char *label = tape->label[tape->operation[index].label];
    size_t length = strcspn(label, "/");
    for (int32_t l = 0; layers && l < net->layer_count; l++)
        if (!strncmp(net->layer[l].name, label, length) && !net->layer[l].name[length]) layers[l].macs += (int64_t)macs;
    return (int64_t)macs;
}

static int count_macs(const fv_tape *tape, const fv_net *net, int64_t *total, fv_layer_size *layers) {
    for (int32_t i = 0; i < tape->operation_count; i++) {
        const fv_operation *operation = &tape->operation[i];
        size_t count = (size_t)operation->input_count;
        const fv_shape **shapes = fv_alloc(net->object.context, count, sizeof *shapes, "shapes of an operation");
        fv_type *types = fv_alloc(net->object.context, count, sizeof *types, "types of an operation");
        fv_shape output[8];
        fv_type output_type[8];
        for (size_t k = 0; shapes && types && k < count; k++) {
            const fv_tape_value *value = &tape->value[tape->operand[(size_t)operation->input + k]];
            shapes[k] = value->kind == FV_VALUE_NONE ? NULL : &value->shape;
            types[k] = value->type;
        }
        for (int32_t o = 0; o < operation->output_count && o < 8; o++) {
            output[o] = tape->value[operation->output + o].shape;
            output_type[o] = tape->value[operation->output + o].type;
        }
        fv_attributes attributes = operation->attributes;
        fv_signature signature = { .context = net->object.context, .op = operation->op, .attributes = &attributes,
                                   .input_count = operation->input_count, .input = shapes, .input_type = types,
                                   .output = output, .output_type = output_type };
        fv_cost cost = {0};
        if (shapes && types) fv_op_cost(&signature, &cost);
        fv_free(shapes);
        fv_free(types);
        if (!fv_ok(net->object.context)) return net->object.context->status;
        *total += label_macs(tape, i, cost.macs, net, layers);
    }
    return FV_OK;
}

typedef struct measuring { fv_net *net; fv_net **family; int32_t count; fv_value *outputs; } measuring;

static int macs_of_one(measuring *m, fv_net_size *size, fv_layer_size *layers) {
    fv_tape *tape = fv_tape_new(m->net->object.context);
    int status = tape ? record(tape, m->net, 1, FV_MODE_INFER, m->outputs) : FV_ERROR_MEMORY;
    if (!status) status = count_macs(tape, m->net, &size->macs, layers);
    fv_tape_free(tape);
    return status;
}

static int bytes_of_step(measuring *m, int64_t batch, fv_mode mode, int64_t *bytes) {
    fv_tape *tape = fv_tape_new(m->net->object.context);
    int status = tape ? record(tape, m->net, batch, mode, m->outputs) : FV_ERROR_MEMORY;
    if (!status && mode == FV_MODE_TRAIN) status = record_training(tape, m->net, m->outputs);
    for (int32_t o = 0; !status && mode == FV_MODE_INFER && o < m->net->output_count; o++)
        status = fv_keep(tape, m->outputs[o]);
    if (!status) status = fv_program_measure(tape, bytes);
    if (!status) *bytes += region_bytes(tape, m->family, m->count);
    fv_tape_free(tape);
    return status;
}

/* ---- All of it --------------------------------------------------------------------------------------------------- */

static bool has_free_size(const fv_net *net) {
    for (int32_t i = 0; i < net->input_count; i++)
        for (int32_t d = 1; d < net->node[net->input[i]].shape.rank; d++)
            if (!net->node[net->input[i]].shape.dim[d]) return true;
    return false;
}

static int measure_programs(fv_net *net, int64_t batch, fv_net_size *size, fv_layer_size *layers) {
    fv_context *context = net->object.context;
    measuring m = { .net = net };
    m.family = fv_net_family_list(net, &m.count);
    m.outputs = m.family ? fv_alloc(context, (size_t)net->output_count, sizeof(fv_value), "outputs of a net") : NULL;
    for (int32_t n = 0; n < m.count; n++) m.family[n]->measuring = true;
    int status = m.outputs ? macs_of_one(&m, size, layers) : FV_ERROR_MEMORY;
    if (!status) status = bytes_of_step(&m, batch, FV_MODE_TRAIN, &size->training_bytes);
    if (!status) status = bytes_of_step(&m, batch, FV_MODE_INFER, &size->inference_bytes);
    for (int32_t n = 0; n < m.count; n++) {
        m.family[n]->measuring = false;
        if (m.family[n]->device_current || !m.family[n]->store) continue;
        fv_store_free(m.family[n]->store); /* it was made for this only */
        m.family[n]->store = NULL;
    }
    fv_free(m.outputs);
    fv_free(m.family);
    return status;
}

int fv_net_measure(fv_net *net, int batch_size, fv_net_size *size, fv_layer_size *layers) {
    fv_context *context = net->object.context;
    if (!fv_ok(context)) return context->status;
    if (batch_size < 0)
        return fv_fail(context, FV_ERROR_ARGUMENT, "net %s: a batch of %d cannot be measured", net->name, batch_size);
    if (!net->output_count)
        return fv_fail(context, FV_ERROR_ARGUMENT, "net %s has no output: fv_output names one", net->name);
    size->layers = net->layer_count;
    for (int32_t l = 0; layers && l < net->layer_count; l++) layers[l] = layer_weights(&net->layer[l]);
    int status = count_weights(net, size);
    if (status || has_free_size(net)) return status; /* work and memory depend on the size of the input */
    return measure_programs(net, batch_size ? batch_size : 1, size, layers);
}

int fv_measure(fv_net *net, int batch_size, fv_net_size *out) {
    if (!net || !out) return FV_ERROR_ARGUMENT;
    fv_net_size size = {0};
    int status = fv_net_measure(net, batch_size, &size, NULL);
    if (status) return status;
    size_t known = out->struct_size;
    if (known < sizeof(size_t) || known > sizeof size)
        return fv_fail(net->object.context, FV_ERROR_ARGUMENT, "fv_measure: struct_size of the result is not set");
    size.struct_size = known;
    memcpy(out, &size, known);
    return FV_OK;
}
