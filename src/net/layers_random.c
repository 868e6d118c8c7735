/* layers_random.c - layers that draw random numbers, in training only: dropout in its forms and Gaussian noise. Each layer
 * has a stream of its own; the rest of what keys its numbers stands in the control block. */
#include "net/net.h"
#include <math.h>
#include <string.h>

static int build_rate(fv_net *net, fv_layer *layer, int32_t rank, const fv_shape *input) {
    fv_dropout_options *o = &layer->options.dropout;
    o->rate = fv_option_float(o->rate, 0.5f);
    if (!(o->rate >= 0.0f && o->rate < 1.0f))
        return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "rate %g is not at least 0 and below 1", o->rate);
    if (!rank || input->rank == rank) return FV_OK;
    fv_shape shape = *input;
    shape.dim[0] = 0;
    char text[128];
    return fv_layer_fail(net, layer, FV_ERROR_SHAPE, "its input must be %s, not %s",
                         rank == 3 ? "(None, steps, channels)" : "(None, height, width, channels)",
                         fv_net_shape_text(&shape, text));
}

int fv_build_dropout(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    return build_rate(net, layer, 0, inputs);
}
int fv_build_spatial_dropout1d(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    return build_rate(net, layer, 3, inputs);
}
int fv_build_spatial_dropout2d(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    return build_rate(net, layer, 4, inputs);
}
int fv_build_gaussian_noise(fv_net *net, fv_layer *layer, const fv_shape *inputs, int32_t count) {
    fv_gaussian_noise_options *o = &layer->options.gaussian_noise;
    o->deviation = fv_option_float(o->deviation, 0.1f);
    if (o->deviation >= 0.0f && o->deviation < INFINITY) return FV_OK;
    return fv_layer_fail(net, layer, FV_ERROR_ARGUMENT, "deviation %g is not a number of at least 0", o->deviation);
}

static bool draws(fv_op op) {
    return op == FV_OP_dropout || op == FV_OP_alpha_dropout || op == FV_OP_gaussian_noise || op == FV_OP_gaussian_dropout;
}

/* Each use of a layer on a tape has a stream of its own: a shared layer must not draw the same mask twice. */
static uint32_t unused_stream(const fv_tape *tape, uint32_t stream) {
    bool used = true;
    while (used) {
        used = false;
        for (int32_t i = 0; i < tape->operation_count && !used; i++)
            used = draws(tape->operation[i].op) && tape->operation[i].attributes.random.stream == stream;
        if (used) stream += 0x9e3779b9u; /* far from the streams of other layers */
    }
    return stream;
}

/* x through an operation that draws; as it is in inference, and where rate says that nothing happens. */
static fv_value record_draw(fv_recording *r, const fv_layer *layer, fv_op op, float rate, fv_value x) {
    if (r->mode == FV_MODE_INFER || rate == 0.0f) return x;
    fv_store *store = fv_net_store(r->root); /* training advances the control block of the outermost net */
    if (!store) return (fv_value){0};
    fv_attributes attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.random.rate = rate;
    attributes.random.stream = unused_stream(r->tape, FV_STREAM_LAYERS + layer->stream);
    fv_shape control = { .rank = 1, .dim = { sizeof(fv_control) } };
    return FV_APPLY(r->tape, op, &attributes, x,
                    fv_tape_state(r->tape, store, FV_CONTROL, 0, FV_U8, &control, false));
}

fv_value fv_record_dropout(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    return record_draw(r, layer, FV_OP_dropout, layer->options.dropout.rate, inputs[0]);
}
fv_value fv_record_alpha_dropout(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    return record_draw(r, layer, FV_OP_alpha_dropout, layer->options.dropout.rate, inputs[0]);
}
fv_value fv_record_gaussian_dropout(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    return record_draw(r, layer, FV_OP_gaussian_dropout, layer->options.dropout.rate, inputs[0]);
}
fv_value fv_record_gaussian_noise(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    return record_draw(r, layer, FV_OP_gaussian_noise, layer->options.gaussian_noise.deviation, inputs[0]);
}

/* Whole channels are dropped: the mask is the dropout of ones [n, 1, .., channels], which the input is multiplied by. */
fv_value fv_record_spatial_dropout(fv_recording *r, fv_layer *layer, const fv_value *inputs, int32_t count) {
    fv_shape mask = fv_tape_value_of(r->tape, inputs[0])->shape;
    const float rate = layer->options.dropout.rate;
    if (r->mode == FV_MODE_INFER || rate == 0.0f) return inputs[0];
    for (int i = 1; i < mask.rank - 1; i++) mask.dim[i] = 1;
    const int64_t elements = fv_shape_elements(&mask);
    float *ones = fv_alloc(r->tape->object.context, (size_t)elements, sizeof *ones, "the mask of a dropout");
    if (!ones) return (fv_value){ 0 };
    for (int64_t i = 0; i < elements; i++) ones[i] = 1;
    fv_value whole = fv_tape_constant(r->tape, FV_F32, &mask, ones);
    fv_free(ones);
    return fv_op_mul(r->tape, inputs[0], record_draw(r, layer, FV_OP_dropout, rate, whole));
}
