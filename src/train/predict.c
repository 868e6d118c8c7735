/* predict.c - outputs of a net for samples of a data set or of the user's arrays, batch by batch, read straight into
 * the user's memory. */
#include "train/train.h"
#include <string.h>

typedef struct target {
    float *const *output;
    int64_t elements[FV_DATASET_ARRAYS];
} target; /* elements of one sample */

static int read_outputs(void *user, fv_step *step, int64_t first, int32_t rows) {
    const target *to = user;
    int status = FV_OK;
    for (int32_t i = 0; i < step->output_count && !status; i++) {
        int64_t n = to->elements[i];
        if (to->output[i])
            status =
                fv_read(step->program, step->output[i], to->output[i] + first * n, (size_t)(rows * n) * sizeof(float));
    }
    return status;
}

/* The sizes of the outputs are known once they are recorded. */
static int check_outputs(fv_net *net, const fv_step *step, int64_t count, size_t bytes, target *to) {
    for (int32_t i = 0; i < step->output_count; i++) {
        const fv_tape_value *v = fv_tape_value_of(step->tape, step->output[i]);
        to->elements[i] = fv_shape_elements(&v->shape) / step->rows;
        int64_t needed;
        const char *name = net->layer[net->node[net->output[i]].layer].name;
        if (v->type != FV_F32)
            return fv_fail(net->object.context, FV_ERROR_ARGUMENT, "%s: output %s is %s, not f32", net->name, name,
                           fv_type_name(v->type));
        if (__builtin_mul_overflow(to->elements[i], count * (int64_t)sizeof(float), &needed))
            return fv_fail(net->object.context, FV_ERROR_SHAPE, "%s: output %s is too large for any memory", net->name,
                           name);
        if (bytes && (uint64_t)needed > bytes)
            return fv_fail(net->object.context, FV_ERROR_SHAPE,
                           "%s: output %s of %lld samples needs %lld bytes, but has %zu", net->name, name,
                           (long long)count, (long long)needed, bytes);
    }
    return FV_OK;
}

static int predict(fv_net *net, fv_dataset *data, const fv_predict_options *o, float *const *outputs) {
    fv_context *context = net->object.context;
    int64_t count = o->count ? o->count : data->count;
    if (count < 0 || count > data->count)
        return fv_fail(context, FV_ERROR_ARGUMENT, "%s: %lld samples are asked for, but there are %lld", net->name,
                       (long long)count, (long long)data->count);
    fv_step_settings s = { .net = net,
                           .data = data,
                           .batch_size = o->batch_size ? o->batch_size : 256,
                           .predict = true,
                           .cached = true,
                           .precision = o->precision };
    target to = { .output = outputs };
    fv_evaluation e;
    int status = fv_evaluation_make(&e, &s, count);
    if (!status) status = check_outputs(net, &e.full, count, o->output_bytes, &to);
    if (!status) status = fv_evaluation_run(&e, read_outputs, &to);
    fv_evaluation_free(&e);
    return status;
}

int fv_predict_with(fv_net *net, const fv_predict_options *given) {
    if (!net) return FV_ERROR_ARGUMENT;
    fv_context *context = net->object.context;
    fv_predict_options o;
    if (!fv_ok(context) || fv_options_read(context, "fv_predict", &o, sizeof o, given)) return context->status;
    if (o.batch_size < 0) return fv_fail(context, FV_ERROR_ARGUMENT, "%s: a batch size of %d", net->name, o.batch_size);
    float *const *outputs = o.outputs ? o.outputs : &o.output;
    int32_t count = o.outputs ? o.output_count : o.output != NULL;
    if (count != net->output_count)
        return fv_fail(context, FV_ERROR_ARGUMENT, "%s: the net has %d outputs, but memory is given for %d", net->name,
                       net->output_count, count);
    fv_dataset *data = o.data, *arrays = NULL;
    if (!data && o.inputs) {
        FV_OPTIONS(fv_memory_options, m);
        m.inputs = o.inputs;
        m.input_count = o.input_count ? o.input_count : 1;
        m.borrow = true;
        data = arrays = fv_dataset_from_memory(context, &m);
        if (!data) return context->status;
    }
    int status = fv_feed_check(net, data, false);
    if (!status) status = predict(net, data, &o, outputs);
    fv_dataset_free(arrays);
    return status;
}
