/* checkpoint.c - how a training stands: figures read from the device, files written from them, the best weights kept,
 * and the explanation of a step whose result was not finite. */
#include "io/io.h"
#include "train/fit.h"
#include <math.h>
#include <string.h>

/* ---- A step that was not finite ---------------------------------------------------------------------------------- */

/* The device has not moved on from the failing step, nor written a weight since: the step is run again, operation by
 * operation. */
static int explain(fv_session *s, const fv_control *control) {
    fv_training *t = s->training;
    fv_step *step = fv_session_step(s, (int32_t)control->batch);
    char sentence[512] = "";
    int found = 0;
    bool backward = false;
    fv_program *debug = fv_program_new(step->tape, true);
    int status = debug ? fv_feed_bind(debug, &step->feed) : s->context->status;
    if (!status)
        status = fv_feed_write(debug, &step->feed, &s->staging, s->order + (int64_t)control->batch * s->o.batch_size,
                               step->rows);
    if (!status) found = fv_program_find_nonfinite(debug, sentence, sizeof sentence);
    if (found > 0 && debug->nonfinite_task >= 0)
        backward = debug->tape->operation[debug->task_operation[debug->nonfinite_task]].backward;
    fv_program_free(debug);
    t->step = control->step;
    t->batch = (int32_t)control->batch;
    if (!fv_ok(s->context)) return s->context->status;
    return fv_fail(s->context, FV_ERROR_NUMERIC, "%s: %s is not finite at epoch %d, batch %d: %s", s->net->name,
                   backward ? "a gradient" : "loss", t->epoch + 1, (int)control->batch + 1,
                   found > 0 ? sentence : "it is only with fused operations or in the sum of all gradients");
}

int fv_session_check(fv_session *s) {
    fv_training *t = s->training;
    fv_control control;
    float metrics[FV_METRIC_ELEMENTS];
    int status = fv_store_read(s->store, FV_CONTROL, 0, sizeof control, &control);
    if (!status) status = fv_store_read(s->store, FV_METRICS, 0, FV_METRIC_ELEMENTS, metrics);
    if (status) return status;
    s->checked = fv_clock();
    s->unchecked = 0;
    if (control.nonfinite) return explain(s, &control);
    if (s->scaled && control.step < t->step) t->step = control.step; /* some were skipped */
    t->loss_scale = s->scaled ? control.loss_scale : t->loss_scale;
    t->good_steps = s->scaled ? control.good_steps : t->good_steps;
    if (control.step != t->step || control.batch != (uint32_t)t->batch)
        return fv_fail(s->context, FV_ERROR_INTERNAL, "%s: the device stands at step %llu, the host at %llu",
                       s->net->name, (unsigned long long)control.step, (unsigned long long)t->step);
    memcpy(t->metrics, metrics, 2 * FV_METRIC_EVALUATION * sizeof(float)); /* evaluation's own are none of training's */
    t->sum_loss = (double)metrics[2 * FV_METRIC_LOSS];
    t->sum_accuracy = (double)metrics[2 * FV_METRIC_CORRECT];
    t->sum_count = fv_session_done(s, t->batch);
    bool counted = s->full.tape ? s->full.accuracy : s->last.accuracy;
    s->now.loss = t->sum_count ? t->sum_loss / (double)t->sum_count : NAN;
    s->now.accuracy = t->sum_count && counted ? t->sum_accuracy / (double)t->sum_count : NAN;
    return FV_OK;
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

typedef int (*writer)(fv_net *, const char *path);

static int save_with_training(fv_net *net, const char *path) { return fv_keras_save(net, path, true); }

static int write_file(fv_session *s, const char *name, writer write) {
    size_t bytes = strlen(s->o.output) + strlen(name) + 2;
    char *path = fv_alloc(s->context, bytes, 1, "a path");
    if (!path) return s->context->status;
    snprintf(path, bytes, "%s/%s", s->o.output, name);
    int status = write(s->net, path);
    fv_free(path);
    return status;
}

int fv_session_save(fv_session *s) { return s->o.output ? write_file(s, "last.h5", save_with_training) : FV_OK; }

int fv_session_epoch_files(fv_session *s, bool best) {
    if (!s->o.output) return FV_OK;
    int status = fv_session_save(s);
    if (!status && best) status = write_file(s, "best.h5", save_with_training);
    if (!status) status = write_file(s, "history.csv", fv_history_write_csv);
    return status ? status : write_file(s, "curves.svg", fv_curves_write_svg);
}

/* ---- The best weights -------------------------------------------------------------------------------------------- */

/* Copies the weights of the net and those within it one after another, to or from one array. */
static int copy_weights(fv_session *s, bool keep) {
    size_t at = 0;
    for (int32_t n = 0; n < s->family_count; n++) {
        fv_net *net = s->family[n];
        if (fv_net_to_host(net)) return s->context->status;
        float *part[2] = { net->host_parameters, net->host_statistics };
        size_t count[2] = { (size_t)net->parameters, (size_t)net->statistics };
        for (int i = 0; i < 2; i++) {
            if (count[i])
                memcpy(keep ? s->best + at : part[i], keep ? part[i] : s->best + at, count[i] * sizeof(float));
            at += count[i];
        }
        if (!keep && fv_net_host_changed(net)) return s->context->status;
    }
    return FV_OK;
}

int fv_session_keep_best(fv_session *s) {
    size_t count = 0;
    if (!s->o.restore_best) return FV_OK;
    for (int32_t n = 0; n < s->family_count; n++)
        count += (size_t)(s->family[n]->parameters + s->family[n]->statistics);
    if (!s->best) s->best = fv_alloc(s->context, count, sizeof *s->best, "the best weights");
    return s->best ? copy_weights(s, true) : s->context->status;
}

/* An earlier part of the training may have had the best epoch: then its file has the weights. */
int fv_session_restore_best(fv_session *s) {
    const fv_training *t = s->training;
    if (!s->o.restore_best || t->best < 0 || t->best == t->count - 1) return FV_OK;
    if (s->best) return copy_weights(s, false);
    if (s->o.resume && s->o.output) return write_file(s, "best.h5", fv_load_weights);
    return FV_OK;
}
