/* evaluate.c - a pass over a data set without training: fv_evaluate and the validation of fv_fit. Sums are taken on
 * the device over samples, so a smaller last batch weighs what it should. */
#include "train/train.h"
#include "train/progress.h"
#include <math.h>
#include <string.h>

/* ---- Passes ------------------------------------------------------------------------------------------------------ */

static int make_step(fv_step *step, fv_step_settings *s, int32_t rows) {
    s->rows = rows;
    int status = fv_step_evaluation(step, s);
    return status ? status : fv_step_compile(step, s->cached);
}

int fv_evaluation_make(fv_evaluation *e, const fv_step_settings *given, int64_t count) {
    fv_step_settings s = *given;
    fv_context *context = s.net->object.context;
    memset(e, 0, sizeof *e);
    e->store = fv_net_store(s.net);
    e->count = count;
    e->batch_size = s.batch_size < count ? s.batch_size : (int32_t)count;
    e->order = fv_alloc(context, (size_t)s.data->count, sizeof *e->order, "the order of samples");
    if (!e->store || (!s.predict && fv_store_region(e->store, FV_METRICS, FV_METRIC_ELEMENTS))) return context->status;
    if (!e->order || fv_epoch_order(s.data, 0, 0, false, e->order)) return context->status;
    int32_t rest = (int32_t)(count % e->batch_size);
    if (make_step(&e->full, &s, e->batch_size)) return context->status;
    if (rest && make_step(&e->last, &s, rest)) return context->status;
    return fv_staging_make(context, &e->staging, &e->full.feed, e->batch_size);
}

void fv_evaluation_free(fv_evaluation *e) {
    fv_step_free(&e->last);
    fv_step_free(&e->full);
    fv_staging_free(&e->staging);
    fv_free(e->order);
    memset(e, 0, sizeof *e);
}

int fv_evaluation_run(fv_evaluation *e, int (*each)(void *user, fv_step *, int64_t first, int32_t rows), void *user) {
    int status = FV_OK;
    for (int64_t first = 0; first < e->count && !status; first += e->batch_size) {
        fv_step *step = e->count - first < e->batch_size ? &e->last : &e->full;
        status = fv_feed_write(step->program, &step->feed, &e->staging, e->order + first, step->rows);
        if (!status) status = fv_run(step->program);
        if (!status && each) status = each(user, step, first, step->rows);
    }
    return status;
}

int fv_evaluation_measure(fv_evaluation *e, fv_result *result) {
    enum { FIRST = 2 * FV_METRIC_EVALUATION, COUNT = FV_METRIC_ELEMENTS - FIRST };
    float sum[COUNT] = { 0 };
    int status = fv_store_write(e->store, FV_METRICS, FIRST, COUNT, sum);
    if (!status) status = fv_evaluation_run(e, NULL, NULL);
    if (!status) status = fv_store_read(e->store, FV_METRICS, FIRST, COUNT, sum);
    if (status) return status;
    double correct = (double)sum[2 * FV_METRIC_CORRECT], top = (double)sum[2 * FV_METRIC_TOP_K - FIRST],
           count = (double)e->count;
    bool counted = e->full.accuracy;
    result->total = e->count;
    result->loss = (double)sum[2 * FV_METRIC_LOSS] / count;
    result->correct = counted ? llround(correct) : 0;
    result->correct_top_k = counted ? llround(top) : 0;
    result->accuracy = counted ? correct / count : NAN;
    result->top_k_accuracy = counted ? top / count : NAN;
    return FV_OK;
}

/* ---- Public ------------------------------------------------------------------------------------------------------ */

int fv_evaluate_with(fv_net *net, const fv_evaluate_options *given) {
    if (!net) return FV_ERROR_ARGUMENT;
    fv_context *context = net->object.context;
    fv_evaluate_options o;
    if (!fv_ok(context) || fv_options_read(context, "fv_evaluate", &o, sizeof o, given)) return context->status;
    if (o.batch_size < 0 || o.top_k < 0)
        return fv_fail(context, FV_ERROR_ARGUMENT,
                       "%s: a batch size of %d and the first %d classes cannot be evaluated", net->name, o.batch_size,
                       o.top_k);
    if (fv_feed_check(net, o.data, true)) return context->status;
    fv_step_settings s = { .net = net,
                           .data = o.data,
                           .batch_size = o.batch_size ? o.batch_size : 256,
                           .cached = true,
                           .top_k = o.top_k ? o.top_k : 5,
                           .precision = o.precision,
                           .loss = { o.loss, o.label_smoothing, o.losses, o.loss_weights, o.loss_function, o.user,
                                     o.loss_options } };
    fv_result result = { .struct_size = sizeof result };
    double began = fv_clock();
    fv_evaluation e;
    int status = fv_evaluation_make(&e, &s, o.data->count);
    if (!status) status = fv_evaluation_measure(&e, &result);
    fv_evaluation_free(&e);
    result.seconds = fv_clock() - began;
    if (status || !o.result) return status;
    size_t size = o.result->struct_size; /* zero from a caller who did not set it: the whole */
    if (!size || size > sizeof result) size = sizeof result;
    result.struct_size = size;
    memcpy(o.result, &result, size);
    return FV_OK;
}
