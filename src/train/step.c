/* step.c - a batch as a tape: reading, the net, the loss, the figures; in training also gradients and the optimiser. A
 * batch of another size is another tape. */
#include "ops/family.h"
#include "train/train.h"
#include <string.h>

static fv_value state(fv_tape *tape, fv_store *store, fv_region region, int64_t offset, int64_t length) {
    fv_shape shape;
    if (fv_shape_make(store->context, "a region of the store", 1, &length, &shape)) return (fv_value){ 0 };
    return fv_tape_state(tape, store, region, offset, fv_region_type(region), &shape, false);
}

static void add_metric(fv_tape *tape, fv_store *store, int pair, fv_value v) {
    if (v.id) FV_APPLY(tape, FV_OP_metric_add, NULL, state(tape, store, FV_METRICS, 2 * pair, 2), v);
}

/* Sums over samples: the loss is a mean over the rows of this batch. */
static void add_metrics(fv_step *step, fv_store *store, const fv_step_settings *s, int pair, fv_value target) {
    fv_tape *tape = step->tape;
    fv_attributes a;
    memset(&a, 0, sizeof a);
    a.affine.a = (float)step->rows;
    fv_tape_label(tape, "metrics");
    add_metric(tape, store, pair + FV_METRIC_LOSS, FV_APPLY(tape, FV_OP_affine, &a, step->loss));
    fv_value correct = fv_correct_record(tape, &s->loss, step->output[0], target, 1);
    step->accuracy = correct.id != 0;
    add_metric(tape, store, pair + FV_METRIC_CORRECT, correct);
    if (s->top_k > 0 && correct.id)
        add_metric(tape, store, FV_METRIC_TOP_K, fv_correct_record(tape, &s->loss, step->output[0], target, s->top_k));
    fv_tape_label(tape, NULL);
}

static int record_net(fv_step *step, fv_net *net, const fv_value *inputs, fv_mode mode) {
    fv_values list = { inputs, net->input_count };
    int count = fv_record_all(step->tape, net, list, mode, step->output, FV_DATASET_ARRAYS);
    step->output_count = count;
    return count < 0 ? count : net->object.context->status;
}

static int begin(fv_step *step, const fv_step_settings *s, bool targets) {
    fv_context *context = s->net->object.context;
    memset(step, 0, sizeof *step);
    step->rows = s->rows;
    step->feed = (fv_feed){ .data = s->data, .targets = targets };
    int resident = fv_dataset_device(s->data);
    if (resident && resident != FV_ERROR_MEMORY) return context->status;
    step->feed.resident = resident == FV_OK;
    step->tape = fv_tape_new(context);
    if (step->tape) step->tape->precision = s->precision;
    return context->status;
}

/* In f16 the loss is multiplied by the scale in the control block; the update divides the gradients by it. */
static fv_value scaled(fv_tape *tape, fv_value loss, fv_value control) {
    const fv_precision given = tape->precision, precision = given ? given : tape->object.context->precision;
    if (precision != FV_PRECISION_F16) return loss;
    fv_value scale = FV_APPLY(tape, FV_OP_loss_scale, NULL, control);
    scale = fv_append_reshaped(tape, scale, &fv_tape_value_of(tape, loss)->shape);
    return FV_APPLY(tape, FV_OP_mul, NULL, scale, loss);
}

static int record_training(fv_step *step, const fv_step_settings *s) {
    fv_tape *tape = step->tape;
    fv_net *net = s->net;
    fv_context *context = net->object.context;
    fv_store *store = fv_net_store(net);
    if (!store) return context->status;
    fv_value inputs[FV_DATASET_ARRAYS] = { { 0 } }, targets[FV_DATASET_ARRAYS] = { { 0 } };
    fv_value control = state(tape, store, FV_CONTROL, 0, sizeof(fv_control));
    fv_attributes a;
    memset(&a, 0, sizeof a);
    a.batch = (fv_batch_attributes){ .size = s->batch_size, .rows = s->rows };
    fv_value samples =
        FV_APPLY(tape, FV_OP_batch_samples, &a, state(tape, store, FV_ORDER, 0, s->data->count), control);
    if (fv_feed_record(tape, net, &step->feed, s->rows, samples, control, inputs, targets)) return context->status;
    if (record_net(step, net, inputs, FV_MODE_TRAIN)) return context->status;
    step->loss = fv_loss_record(tape, net, &s->loss, step->output, targets, step->output_count);
    if (!fv_ok(context)) return context->status;
    add_metrics(step, store, s, FV_METRIC_TRAINING, targets[0]);
    if (!fv_tape_value_of(tape, step->loss)->needs_gradient)
        return fv_fail(context, FV_ERROR_ARGUMENT,
                       "%s: nothing to train: no weight that is not frozen takes part in the loss", net->name);
    if (fv_backward(tape, scaled(tape, step->loss, control))) return context->status;
    return fv_update_record(tape, net,
                            &(fv_update_settings){ .optimizer = s->optimizer,
                                                   .clip_value = s->clip_value,
                                                   .clip_norm = s->clip_norm,
                                                   .loss = step->loss,
                                                   .rates = s->batches });
}

static int record_evaluation(fv_step *step, const fv_step_settings *s) {
    fv_tape *tape = step->tape;
    fv_net *net = s->net;
    fv_context *context = net->object.context;
    fv_store *store = fv_net_store(net);
    if (!store) return context->status;
    fv_value inputs[FV_DATASET_ARRAYS] = { { 0 } }, targets[FV_DATASET_ARRAYS] = { { 0 } };
    int64_t rows = s->rows;
    if (step->feed.resident) step->feed.samples = fv_op_input(tape, &rows, 1, FV_I32);
    if (fv_feed_record(tape, net, &step->feed, s->rows, step->feed.samples, (fv_value){ 0 }, inputs, targets))
        return context->status;
    if (record_net(step, net, inputs, FV_MODE_INFER)) return context->status;
    if (s->predict) {
        for (int32_t i = 0; i < step->output_count; i++) fv_keep(tape, step->output[i]);
        return context->status;
    }
    step->loss = fv_loss_record(tape, net, &s->loss, step->output, targets, step->output_count);
    if (fv_ok(context)) add_metrics(step, store, s, FV_METRIC_EVALUATION, targets[0]);
    return context->status;
}

int fv_step_training(fv_step *step, const fv_step_settings *s) {
    int status = begin(step, s, true);
    return status ? status : record_training(step, s);
}

int fv_step_evaluation(fv_step *step, const fv_step_settings *s) {
    int status = begin(step, s, !s->predict);
    return status ? status : record_evaluation(step, s);
}

int fv_step_compile(fv_step *step, bool cached) {
    fv_context *context = step->tape->object.context;
    step->cached = cached;
    step->program = cached ? fv_program_cached(step->tape) : fv_program_shared(step->tape);
    if (!step->program) return fv_ok(context) ? FV_ERROR_INTERNAL : context->status;
    return fv_feed_bind(step->program, &step->feed);
}

void fv_step_free(fv_step *step) {
    if (!step->cached) fv_program_free(step->program);
    fv_tape_free(step->tape);
    step->tape = NULL;
    step->program = NULL;
}
