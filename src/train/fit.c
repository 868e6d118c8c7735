/* fit.c - the loop. The host fills the control block, the learning rates and the order of samples at the start of an
 * epoch; after that a step is one call of the prepared program, and the device is asked how it goes only now and
 * then. */
#include "train/fit.h"
#include <math.h>
#include <string.h>

enum { CHECK_STEPS = 64 };                /* look at the device after so many steps ..       */
static const double check_seconds = 0.25; /* .. or so much time, whichever comes first    */

/* ---- The start of an epoch --------------------------------------------------------------------------------------- */

static int fill_device(fv_session *s) {
    fv_training *t = s->training;
    double first = t->epoch - t->first_epoch, all = s->goal - t->first_epoch,
           rate = (double)t->optimizer.value[FV_RATE];
    for (int32_t b = 0; b < s->batches; b++)
        s->rates[b] = (float)(rate * t->plateau_factor *
                              (double)fv_schedule_factor(t->schedule, first + (double)b / s->batches, all));
    fv_control control = { .step = t->step,
                           .seed = { (uint32_t)t->seed, (uint32_t)(t->seed >> 32) },
                           .batch = (uint32_t)t->batch,
                           .epoch = (uint32_t)t->epoch };
    if (s->scaled) {
        control.loss_scale = t->loss_scale > 0 ? t->loss_scale : FV_LOSS_SCALE_FIRST;
        control.good_steps = t->good_steps;
    }
    int status = fv_epoch_order(s->o.data, t->seed, t->epoch, !s->o.no_shuffle, s->order);
    if (!status) status = fv_store_write(s->store, FV_ORDER, 0, s->o.data->count, s->order);
    if (!status) status = fv_store_write(s->store, FV_RATES, 0, s->batches, s->rates);
    if (!status) status = fv_store_write(s->store, FV_METRICS, 0, FV_METRIC_ELEMENTS, t->metrics);
    return status ? status : fv_store_write(s->store, FV_CONTROL, 0, sizeof control, &control);
}

/* ---- Callbacks --------------------------------------------------------------------------------------------------- */

typedef int (*net_callback)(void *, fv_net *);
typedef int (*metrics_callback)(void *, fv_net *, const fv_metrics *);

/* 0: go on; 1: stop after saving; negative: an error, ours to name when the callback did not. */
static int answer(fv_session *s, const char *name, int result) {
    if (!fv_ok(s->context)) return s->context->status;
    if (result > 0) s->ending = true;
    if (result >= 0) return FV_OK;
    return fv_fail(s->context, (fv_status)result, "%s: the callback %s failed with %d", s->net->name, name, result);
}

static int call_net(fv_session *s, const char *name, net_callback callback) {
    return callback ? answer(s, name, callback(s->callbacks.user, s->net)) : FV_OK;
}

static int call_metrics(fv_session *s, const char *name, metrics_callback callback) {
    return callback ? answer(s, name, callback(s->callbacks.user, s->net, &s->now)) : FV_OK;
}

/* ---- Batches ----------------------------------------------------------------------------------------------------- */

static bool interrupted(fv_session *s) {
    if (s->o.stop && *s->o.stop) s->stopping = true;
    if (s->o.stop_after_steps && s->steps >= s->o.stop_after_steps) s->stopping = true;
    return s->stopping || s->ending;
}

static int run_batch(fv_session *s) {
    fv_training *t = s->training;
    fv_step *step = fv_session_step(s, t->batch);
    int status = fv_feed_write(step->program, &step->feed, &s->staging, s->order + (int64_t)t->batch * s->o.batch_size,
                               step->rows);
    if (!status) status = fv_run(step->program);
    if (status) return status;
    for (int32_t n = 0; n < s->family_count; n++) fv_net_device_changed(s->family[n]);
    t->batch++;
    t->step++;
    s->steps++;
    s->unchecked++;
    return FV_OK;
}

static int after_batch(fv_session *s) {
    fv_training *t = s->training;
    bool save = s->o.save_steps && t->step % (uint64_t)s->o.save_steps == 0 && t->batch < s->batches;
    bool draw = fv_progress_due(&s->progress);
    s->now.batch = t->batch;
    s->now.learning_rate = (double)s->rates[t->batch - 1];
    if (!save && !draw && !s->callbacks.batch_end && s->unchecked < CHECK_STEPS &&
        fv_clock() - s->checked < check_seconds)
        return FV_OK;
    if (fv_session_check(s)) return s->context->status;
    if (draw) fv_progress_batch(&s->progress, &s->now);
    if (save && fv_session_save(s)) return s->context->status;
    return call_metrics(s, "batch_end", s->callbacks.batch_end);
}

/* ---- The end of an epoch ----------------------------------------------------------------------------------------- */

static int validate(fv_session *s) {
    fv_result result;
    if (!s->o.validation) return FV_OK;
    if (fv_evaluation_measure(&s->validation, &result)) return s->context->status;
    s->now.val_loss = result.loss;
    s->now.val_accuracy = result.accuracy;
    return FV_OK;
}

/* The history, the best epoch, and what waits for an improvement. Returns whether this epoch is the best. */
static bool observe(fv_session *s) {
    fv_training *t = s->training;
    double value = s->o.validation ? s->now.val_loss : s->now.loss;
    bool best = t->best < 0 || value < t->best_value;
    if (best) {
        t->best = t->count - 1;
        t->best_value = value;
    }
    if (value < t->wait_best - (double)s->o.min_delta) {
        t->wait_best = value;
        t->waited = 0;
    } else if (++t->waited >= s->o.patience && s->o.patience) {
        s->ending = true;
    }
    fv_plateau_observe(t, value);
    return best;
}

static int finish_epoch(fv_session *s, double began) {
    fv_training *t = s->training;
    s->now.seconds = fv_clock() - began;
    if (validate(s) || fv_training_add(s->context, t, &s->now)) return s->context->status;
    bool best = observe(s);
    t->epoch++;
    t->batch = 0;
    t->sum_loss = t->sum_accuracy = 0;
    t->sum_count = 0;
    memset(t->metrics, 0, sizeof t->metrics);
    if (best && fv_session_keep_best(s)) return s->context->status;
    if (fv_session_epoch_files(s, best)) return s->context->status;
    fv_progress_epoch_end(&s->progress, &s->now);
    return call_metrics(s, "epoch_end", s->callbacks.epoch_end);
}

static int train_epoch(fv_session *s) {
    fv_training *t = s->training;
    s->now = (fv_metrics){ .epoch = t->epoch + 1,
                           .epochs = s->goal,
                           .batch = t->batch,
                           .batches = s->batches,
                           .loss = NAN,
                           .accuracy = NAN,
                           .val_loss = NAN,
                           .val_accuracy = NAN,
                           .learning_rate = NAN };
    if (fill_device(s)) return s->context->status;
    s->now.learning_rate = (double)s->rates[t->batch];
    fv_progress_epoch_begin(&s->progress, &s->now);
    if (call_metrics(s, "epoch_begin", s->callbacks.epoch_begin)) return s->context->status;
    double began = s->checked = fv_clock();
    while (t->batch < s->batches && !interrupted(s))
        if (run_batch(s) || after_batch(s)) return s->context->status;
    if (fv_session_check(s)) return s->context->status;
    if (t->batch == s->batches) return finish_epoch(s, began);
    return fv_session_save(s);
}

/* ---- All of it --------------------------------------------------------------------------------------------------- */

static int stopped(fv_session *s) {
    const fv_training *t = s->training;
    if (!(s->o.stop && *s->o.stop)) return FV_OK;
    char where[64];
    if (t->batch)
        snprintf(where, sizeof where, "in epoch %d after batch %d of %d", t->epoch + 1, t->batch, s->batches);
    else
        snprintf(where, sizeof where, "after epoch %d", t->epoch);
    return fv_fail(s->context, FV_ERROR_STOPPED, "%s: stopped on request %s%s%s%s", s->net->name, where,
                   s->o.output ? "; goes on from " : "", s->o.output ? s->o.output : "", s->o.output ? "/last.h5" : "");
}

static int train(fv_session *s) {
    fv_training *t = s->training;
    if (call_net(s, "train_begin", s->callbacks.train_begin)) return s->context->status;
    while (t->epoch < s->goal && !s->ending &&
           !s->stopping) { /* a stop that came before the first batch is saved, too */
        if (train_epoch(s)) return s->context->status;
        interrupted(s);
    }
    bool unfinished = s->stopping && !s->ending && t->epoch < s->goal;
    if (!unfinished) {
        t->finished = t->batch == 0;
        if (fv_session_restore_best(s)) return s->context->status;
    }
    if (call_net(s, "train_end", s->callbacks.train_end)) return s->context->status;
    return unfinished ? stopped(s) : FV_OK;
}

int fv_fit_with(fv_net *net, const fv_fit_options *given) {
    if (!net) return FV_ERROR_ARGUMENT;
    fv_context *context = net->object.context;
    if (!fv_ok(context)) return context->status;
    fv_session session;
    int status = fv_session_open(&session, net, given);
    if (!status) status = train(&session);
    if (session.progress.shown) fputc('\n', session.o.progress); /* a bar that was interrupted */
    fv_session_close(&session);
    return status;
}
