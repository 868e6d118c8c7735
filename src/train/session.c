/* session.c - what happens before the first step: options are checked, an earlier training is taken up or forgotten,
 * everything is recorded and compiled. Whatever can fail fails here, before a weight is touched. */
#include "io/io.h"
#include "train/fit.h"
#include <float.h>
#include <math.h>
#include <string.h>

/* ---- Options ----------------------------------------------------------------------------------------------------- */

static int read_options(fv_session *s, const fv_fit_options *given) {
    fv_context *context = s->context;
    fv_fit_options *o = &s->o;
    if (fv_options_read(context, "fv_fit", o, sizeof *o, given)) return context->status;
    if (o->callbacks &&
        fv_options_read(context, "fv_fit's callbacks", &s->callbacks, sizeof s->callbacks, o->callbacks))
        return context->status;
    if (!o->epochs) o->epochs = 1;
    if (!o->batch_size) o->batch_size = 32;
    const struct {
        const char *name;
        double value, most;
    } range[] = {
        { "epochs", o->epochs, 1e6 },
        { "batch_size", o->batch_size, INT32_MAX },
        { "label_smoothing", (double)o->label_smoothing, 1 },
        { "clip_value", (double)o->clip_value, (double)FLT_MAX },
        { "clip_norm", (double)o->clip_norm, (double)FLT_MAX },
        { "patience", o->patience, INT32_MAX },
        { "min_delta", (double)o->min_delta, (double)FLT_MAX },
        { "save_steps", o->save_steps, INT32_MAX },
        { "stop_after_steps", o->stop_after_steps, INT32_MAX },
    };
    for (size_t i = 0; i < sizeof(range) / sizeof(*range); i++)
        if (!(range[i].value >= 0 && range[i].value <= range[i].most))
            return fv_fail(context, FV_ERROR_ARGUMENT, "%s: %s %g is out of its range", s->net->name, range[i].name,
                           range[i].value);
    if (o->optimizer.kind && fv_optimizer_check(context, &o->optimizer)) return context->status;
    if (fv_schedule_check(context, &o->schedule)) return context->status;
    if (fv_feed_check(s->net, o->data, true)) return context->status;
    if (o->validation && fv_feed_check(s->net, o->validation, true)) return context->status;
    if (o->save_steps && !o->output)
        return fv_fail(context, FV_ERROR_ARGUMENT, "%s: save_steps needs an output folder", s->net->name);
    s->batches = (int32_t)((o->data->count + o->batch_size - 1) / o->batch_size);
    return o->output ? fv_folder_make(context, o->output) : FV_OK;
}

/* ---- Where an earlier training ended ----------------------------------------------------------------------------- */

static int forget_slots(fv_session *s) {
    static const fv_region slots[] = { FV_SLOT0, FV_SLOT1, FV_SLOT2 };
    const fv_backend *backend = s->context->backend;
    for (int32_t n = 0; n < s->family_count; n++)
        for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
            fv_store *store = fv_net_store(s->family[n]);
            if (!store) return s->context->status;
            void *data = store->data[slots[i]];
            size_t bytes = (size_t)store->elements[slots[i]] * fv_device_element(s->context, FV_F32);
            if (data && backend->fill(s->context->device, data, 0, bytes))
                return fv_fail(s->context, FV_ERROR_DEVICE, "%s: the optimiser's state cannot be cleared",
                               s->net->name);
        }
    return FV_OK;
}

/* A file made under other settings cannot go on bit for bit, and in the middle of an epoch not at all. */
static int check_resumed(fv_session *s, const char *path) {
    const fv_training *t = s->training;
    const fv_fit_options *o = &s->o;
    if (!t->batch_size)
        return fv_fail(s->context, FV_ERROR_FORMAT, "%s holds no state of training to go on from", path);
    if (t->batch_size != o->batch_size)
        return fv_fail(s->context, FV_ERROR_ARGUMENT, "%s was made with a batch size of %d, not %d", path,
                       t->batch_size, o->batch_size);
    if (t->samples != o->data->count)
        return fv_fail(s->context, FV_ERROR_ARGUMENT, "%s was made with %lld samples, not %lld", path,
                       (long long)t->samples, (long long)o->data->count);
    if (o->optimizer.kind && o->optimizer.kind != t->optimizer.kind)
        return fv_fail(s->context, FV_ERROR_ARGUMENT, "%s was made with the optimiser %s, not %s", path,
                       fv_optimizer_name(&t->optimizer), fv_optimizer_name(&o->optimizer));
    if (t->batch < 0 || t->batch >= s->batches || t->epoch < t->first_epoch || t->first_epoch < 0)
        return fv_fail(s->context, FV_ERROR_FORMAT, "%s stands at epoch %d, batch %d, which does not exist", path,
                       t->epoch, t->batch);
    return FV_OK;
}

/* Other algorithms add in another order: the run goes on, but not as it would have. Said where the progress is shown. */
static void compare_tuned(fv_session *s) {
    char here[FV_TUNED_BYTES];
    fv_tuned_text(s->context, here);
    const char *then = s->training->tuned;
    if (s->o.resume && strcmp(here, then) != 0) {
        const char *const was = *then ? then : "none", *const is = *here ? here : "none";
        fv_log(s->context, "%s was trained with tuned choices %s and goes on with %s", s->o.resume, was, is);
        if (s->o.progress)
            fprintf(s->o.progress,
                    "%s was trained with tuned choices %s and goes on with %s: the last digits will differ\n",
                    s->o.resume, was, is);
    }
    memcpy(s->training->tuned, here, sizeof here);
}

/* The net was trained before by this process: an unfinished run goes on, after a finished one another begins. */
static int take_up(fv_session *s) {
    fv_training *t = s->training;
    const fv_fit_options *o = &s->o;
    bool done = t->finished || (t->batch == 0 && t->epoch >= t->first_epoch + o->epochs);
    if (t->batch && (t->batch_size != o->batch_size || t->samples != o->data->count))
        return fv_fail(s->context, FV_ERROR_ARGUMENT,
                       "%s: the last fv_fit ended in the middle of an epoch of %lld samples in batches of %d: "
                       "the next goes on with the same, or from the start with .restart",
                       s->net->name, (long long)t->samples, t->batch_size);
    if (done) {
        t->first_epoch = t->epoch;
        t->waited = t->plateau_waited = t->plateau_cooldown = 0;
        t->wait_best = t->plateau_best = INFINITY;
        t->plateau_factor = 1;
    }
    if (o->optimizer.kind && o->optimizer.kind != t->optimizer.kind) {
        t->step = 0;
        return forget_slots(s);
    }
    return FV_OK;
}

static int find_position(fv_session *s) {
    const fv_fit_options *o = &s->o;
    if (o->resume && fv_keras_resume(s->net, o->resume)) return s->context->status;
    fv_training *t = s->training = fv_net_training(s->net);
    if (!t) return s->context->status;
    bool fresh = !o->resume && (o->restart || (!t->step && !t->count));
    if (fresh) fv_training_reset(t, s->context->seed);
    int status = o->resume ? check_resumed(s, o->resume) : fresh ? forget_slots(s) : take_up(s);
    if (status) return status;
    compare_tuned(s);
    t->finished = false;
    t->batch_size = o->batch_size;
    t->samples = o->data->count;
    if (o->optimizer.kind)
        t->optimizer = o->optimizer;
    else if (!t->optimizer.kind)
        t->optimizer = s->net->optimizer.kind ? s->net->optimizer : fv_sgd_with(NULL);
    if (o->schedule.kind || !o->resume) t->schedule = o->schedule;
    if (o->arguments) {
        fv_free(t->arguments);
        t->arguments = fv_copy_string(s->context, o->arguments);
    }
    s->goal = t->first_epoch + o->epochs;
    return s->context->status;
}

/* ---- Programs ---------------------------------------------------------------------------------------------------- */

static int make_step(fv_step *step, fv_step_settings *settings, int32_t rows) {
    settings->rows = rows;
    int status = fv_step_training(step, settings);
    return status ? status : fv_step_compile(step, false);
}

static int make_programs(fv_session *s) {
    fv_fit_options *o = &s->o;
    const fv_training *t = s->training;
    fv_step_settings settings = { .net = s->net,
                                  .data = o->data,
                                  .batch_size = o->batch_size,
                                  .batches = s->batches,
                                  .loss = { o->loss, o->label_smoothing, o->losses, o->loss_weights, o->loss_function,
                                            o->user, o->loss_options },
                                  .optimizer = t->optimizer,
                                  .clip_value = o->clip_value,
                                  .clip_norm = o->clip_norm,
                                  .precision = o->precision };
    const fv_precision precision = o->precision ? o->precision : s->context->precision;
    s->scaled = precision == FV_PRECISION_F16;
    int32_t rest = (int32_t)(o->data->count % o->batch_size);
    bool full = o->data->count >= o->batch_size;
    if (full && make_step(&s->full, &settings, o->batch_size)) return s->context->status;
    if (rest && make_step(&s->last, &settings, rest)) return s->context->status;
    if (fv_staging_make(s->context, &s->staging, full ? &s->full.feed : &s->last.feed, full ? o->batch_size : rest))
        return s->context->status;
    settings.data = o->validation;
    return o->validation ? fv_evaluation_make(&s->validation, &settings, o->validation->count) : FV_OK;
}

int fv_session_open(fv_session *s, fv_net *net, const fv_fit_options *given) {
    memset(s, 0, sizeof *s);
    s->net = net;
    s->context = net->object.context;
    if (read_options(s, given)) return s->context->status;
    s->family = fv_net_family_list(net, &s->family_count);
    if (!s->family || find_position(s)) return s->context->status;
    s->store = fv_net_store(net);
    if (!s->store || fv_store_region(s->store, FV_METRICS, FV_METRIC_ELEMENTS)) return s->context->status;
    s->order = fv_alloc(s->context, (size_t)s->o.data->count, sizeof *s->order, "the order of samples");
    s->rates = fv_alloc(s->context, (size_t)s->batches, sizeof *s->rates, "the learning rates of an epoch");
    if (!s->order || !s->rates || make_programs(s)) return s->context->status;
    fv_progress_begin(&s->progress, s->o.progress);
    return FV_OK;
}

void fv_session_close(fv_session *s) {
    fv_step_free(&s->last);
    fv_step_free(&s->full);
    fv_staging_free(&s->staging);
    fv_evaluation_free(&s->validation);
    fv_free(s->order);
    fv_free(s->rates);
    fv_free(s->family);
    fv_free(s->best);
}
