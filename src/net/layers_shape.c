/* layers_shape.c - layers that reorder, repeat, look up and multiply: Permute, RepeatVector, Embedding, Dot. */
#include "net/net.h"
#include "ops/family.h"
#include <string.h>

/* ---- Permute, RepeatVector --------------------------------------------------------------------------------------- */

int fv_build_permute(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    const fv_permute_options *o = &layer->options.permute;
    uint32_t seen = 1;
    for (int32_t i = 1; i < FV_RANK; i++) {
        const int32_t axis = o->dims[i - 1];
        if (i >= inputs->rank ? axis == 0 : axis >= 1 && axis < inputs->rank && !(seen >> axis & 1)) {
            seen |= 1u << axis;
            continue;
        }
        fv_shape shape = *inputs;
        shape.dim[0] = 0;
        char text[128];
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "dims are not the axes 1..%d of its input %s, each once",
                             (int)inputs->rank - 1, fv_net_shape_text(&shape, text));
    }
    return FV_OK;
}

fv_value fv_record_permute(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    int32_t axes[FV_RANK] = { 0 };
    for (int32_t i = 1; i < FV_RANK; i++) axes[i] = layer->options.permute.dims[i - 1];
    return fv_append_transposed(r->tape, inputs[0], axes);
}

int fv_build_repeat_vector(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    const int32_t times = layer->options.repeat_vector.times;
    if (times < 1) return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "times is %d: at least 1 is needed", (int)times);
    if (inputs->rank == 2) return FV_OK;
    fv_shape shape = *inputs;
    shape.dim[0] = 0;
    char text[128];
    return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "its input must be (None, features), not %s",
                         fv_net_shape_text(&shape, text));
}

fv_value fv_record_repeat_vector(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_shape x = fv_tape_value_of(r->tape, inputs[0])->shape;
    const fv_shape one = { 3, { x.dim[0], 1, x.dim[1] } };
    const fv_shape all = { 3, { x.dim[0], layer->options.repeat_vector.times, x.dim[1] } };
    return fv_append_broadcast(r->tape, fv_append_reshaped(r->tape, inputs[0], &one), &all);
}

/* ---- Embedding --------------------------------------------------------------------------------------------------- */

int fv_build_embedding(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_embedding_options *o = &layer->options.embedding;
    if (o->input_dim < 1 || o->output_dim < 1)
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "a table of %d vectors of %d numbers: at least 1 is needed",
                             (int)o->input_dim, (int)o->output_dim);
    if (o->embeddings_initializer.kind == FV_INITIALIZER_DEFAULT) o->embeddings_initializer = fv_uniform(-0.05f, 0.05f);
    layer->frozen = o->frozen;
    fv_weight *table = fv_layer_add_weight(net, layer, "embeddings", FV_WEIGHT_VECTOR, 2,
                                           (const int64_t[]){ o->input_dim, o->output_dim }, o->embeddings_initializer,
                                           FV_INITIALIZER_UNIFORM);
    if (!table) return net->object.context->status;
    table->fan_in = o->input_dim; /* as Keras has it for any matrix */
    table->fan_out = o->output_dim;
    table->l1 = o->l1;
    table->l2 = o->l2;
    return FV_OK;
}

/* Numbers that come as floats lose their fraction, as in Keras. */
fv_value fv_record_embedding(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    fv_value numbers = inputs[0];
    const fv_attributes to_integers = { .cast = { FV_I32 } };
    if (fv_tape_value_of(r->tape, numbers)->type != FV_I32)
        numbers = FV_APPLY(r->tape, FV_OP_cast, &to_integers, numbers);
    return fv_op_gather(r->tape, fv_record_weight(r, layer, 0), numbers, 0, 0);
}

/* ---- Dot --------------------------------------------------------------------------------------------------------- */

int fv_build_dot(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_dot_options *o = &layer->options.dot;
    for (int i = 0; i < 2; i++) {
        const int32_t given = o->axes[i] ? o->axes[i] : -1, axis = given < 0 ? given + inputs[i].rank : given;
        if (axis < 1 || axis >= inputs[i].rank)
            return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "axis %d of input %d is not an axis of a sample: those are 1..%d",
                                 (int)given, i, (int)inputs[i].rank - 1);
        o->axes[i] = axis;
    }
    const int64_t a = inputs[0].dim[o->axes[0]], b = inputs[1].dim[o->axes[1]];
    if (a == b) return FV_OK;
    return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "%lld numbers along axis %d meet %lld along axis %d", (long long)a,
                         (int)o->axes[0], (long long)b, (int)o->axes[1]);
}

/* A matrix a sample, [batch, rest, axis], or [batch, axis, rest] where nothing need be moved for it. */
static fv_value as_matrices(fv_tape *tape, fv_value x, int32_t axis, bool normalize, bool *first) {
    const fv_shape shape = fv_tape_value_of(tape, x)->shape;
    const int64_t n = shape.dim[axis], rest = fv_shape_elements(&shape) / shape.dim[0] / n;
    *first = axis == 1 && shape.rank > 2 && !normalize;
    if (axis != shape.rank - 1 && !*first) {
        int32_t axes[FV_RANK], place = 0;
        for (int32_t i = 0; i < FV_RANK; i++)
            if (i != axis) axes[place++] = i;
        for (int32_t i = FV_RANK - 1; i >= shape.rank; i--) axes[i] = i;
        axes[shape.rank - 1] = axis;
        x = fv_append_transposed(tape, x, axes);
    }
    if (normalize) x = fv_op_unit_norm(tape, x, 1, 1e-12f);
    const fv_shape matrices = { 3, { shape.dim[0], *first ? n : rest, *first ? rest : n } };
    return fv_append_reshaped(tape, x, &matrices);
}

fv_value fv_record_dot(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    const fv_dot_options *o = &layer->options.dot;
    fv_shape y = { 1, { fv_tape_value_of(r->tape, inputs[0])->shape.dim[0] } };
    int64_t dim[2 * FV_RANK];
    int32_t rank = 0;
    for (int i = 0; i < 2; i++) {
        const fv_shape *x = &fv_tape_value_of(r->tape, inputs[i])->shape;
        for (int32_t d = 1; d < x->rank; d++)
            if (d != o->axes[i]) dim[rank++] = x->dim[d];
    }
    if (!rank) dim[rank++] = 1;
    if (rank >= FV_RANK) {
        fv_layer_fail(r->net, layer, FV_ERROR_SHAPE, "its output would have %d axes; %d are the most", (int)rank + 1, FV_RANK);
        return (fv_value){ 0 };
    }
    for (int32_t i = 0; i < rank; i++) y.dim[y.rank++] = dim[i];
    bool first[2];
    const fv_value a = as_matrices(r->tape, inputs[0], o->axes[0], o->normalize, &first[0]);
    const fv_value b = as_matrices(r->tape, inputs[1], o->axes[1], o->normalize, &first[1]);
    return fv_append_reshaped(r->tape, fv_op_matmul(r->tape, a, b, first[0], !first[1]), &y);
}
