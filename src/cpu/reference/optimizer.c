/* optimizer.c - one step of the optimiser over the parameters of a store, and what surrounds it: the search for
 * values that are not finite, the commit of running statistics, the advance of the control block. Gradients lie in
 * the gradient region at the offsets of their parameters. While the sticky flag is set nothing is written. */
#include "core/control.h"
#include "cpu/reference/reference.h"

/* Sets the sticky flag when the loss (may be absent) or a gradient is not finite; gives the norm of all gradients. */
KERNEL(check_gradients) {
    fv_control *control = task->output[0].data;
    const fv_tensor *norm = &task->output[1];
    double squares = 0;

    for (int g = 1; g < task->input_count; g++) {
        const fv_tensor *t = &task->input[g];
        if (!t->data) continue;
        EACH(i, fv_elements(t)) {
            if (!isfinite(real(t)[i])) control->nonfinite = 1;
            if (g > 1) squares += (double)real(t)[i] * real(t)[i];
        }
    }
    if (norm->data) real(norm)[0] = (REAL)sqrt(squares);
    return FV_OK;
}

/* ---- Updates ----------------------------------------------------------------------------------------------------- */

/* Inputs that all updates have in common; the gradients follow the slots. */
enum { CONTROL, RATES, SEGMENTS, NORM, GRADIENT_REGION, PARAMETERS, FIRST_SLOT };

static const fv_segment *segment_at(const fv_tensor *segments, int64_t offset) {
    const fv_segment *s = segments->data;
    EACH(i, fv_elements(segments) / (int64_t)sizeof *s) if (inside(offset - s[i].offset, s[i].length)) return &s[i];
    return NULL;
}

/* The learning rate of this step. */
static double rate_of(const fv_task *task) {
    const fv_control *control = task->input[CONTROL].data;
    const fv_tensor *rates = &task->input[RATES];
    return rates->data ? real(rates)[control->batch % fv_elements(rates)] : task->attributes->update.value[FV_RATE];
}

/* What one step does to one parameter. */
typedef struct update {
    const fv_update_attributes *settings;
    uint64_t step;        /* from 1 */
    double rate, decay;   /* of this segment */
    double scale;         /* of gradients, by their norm */
    bool decoupled;
} update;

/* g is limited to +-clip_value, scaled down where all gradients together are longer than clip_norm, and, when weight
 * decay is coupled, decay w is added. Decoupled decay shrinks w itself. */
static double prepared_gradient(const update *u, double g, REAL *w) {
    const double limit = u->settings->clip_value;
    if (limit > 0) g = g > limit ? limit : g < -limit ? -limit : g;
    g *= u->scale;
    if (!u->decoupled) return g + u->decay * *w;
    *w -= (REAL)(u->rate * u->decay * *w);
    return g;
}

typedef void update_rule(const update *, double g, REAL *w, REAL *slot0, REAL *slot1);
/* Calls rule for every element of every gradient whose parameter is not frozen. Slots may be absent. */
static void update_parameters(const fv_task *task, int slots, update_rule *rule) {
    const fv_control *control = task->input[CONTROL].data;
    const fv_update_attributes *settings = &task->attributes->update;
    const fv_tensor *norm = &task->input[NORM];
    if (control->nonfinite) return;

    update u = { .settings = settings, .step = control->step + 1, .scale = 1 };
    u.decoupled = settings->kind == FV_OPTIMIZER_ADAMW || settings->value[FV_DECOUPLED] != 0;
    if (settings->clip_norm > 0 && norm->data && real(norm)[0] > settings->clip_norm)
        u.scale = settings->clip_norm / (double)real(norm)[0];

    for (int g = FIRST_SLOT + slots; g < task->input_count; g++) {
        const fv_tensor *gradient = &task->input[g];
        const int64_t offset = real(gradient) - real(&task->input[GRADIENT_REGION]);
        const fv_segment *segment = segment_at(&task->input[SEGMENTS], offset);
        if (!segment || segment->frozen) continue;
        u.rate = rate_of(task) * segment->rate;
        u.decay = (double)settings->value[FV_DECAY] * segment->decay;

        REAL *w = real(&task->output[0]) + offset, *slot[2] = { NULL, NULL };
        for (int s = 0; s < slots; s++)
            if (task->output[1 + s].data) slot[s] = real(&task->output[1 + s]) + offset;
        EACH(i, fv_elements(gradient))
            rule(&u, real(gradient)[i], w + i, slot[0] ? slot[0] + i : NULL, slot[1] ? slot[1] + i : NULL);
    }
}

/* v = momentum v + g; w -= rate v, or Nesterov's look ahead: w -= rate (g + momentum v) */
static void sgd_rule(const update *u, double g, REAL *w, REAL *velocity, REAL *unused) {
    (void)unused;
    const double momentum = u->settings->value[FV_MOMENTUM];
    g = prepared_gradient(u, g, w);
    double v = g;
    if (velocity) *velocity = (REAL)(v = momentum * *velocity + g);
    *w = (REAL)(*w - u->rate * (u->settings->value[FV_NESTEROV] != 0 ? g + momentum * v : v));
}

/* Kingma & Ba 2015: m and v are running means of g and g^2, corrected for their start at zero. */
static void adam_rule(const update *u, double g, REAL *w, REAL *m, REAL *v) {
    const double beta1 = u->settings->value[FV_BETA1], beta2 = u->settings->value[FV_BETA2];
    g = prepared_gradient(u, g, w);
    *m = (REAL)(beta1 * *m + (1 - beta1) * g);
    *v = (REAL)(beta2 * *v + (1 - beta2) * g * g);
    const double mean = *m / (1 - pow(beta1, (double)u->step));
    const double deviation = sqrt(*v) / sqrt(1 - pow(beta2, (double)u->step));
    *w = (REAL)(*w - u->rate * mean / (deviation + u->settings->value[FV_EPSILON]));
}

KERNEL(sgd_update) {
    update_parameters(task, 1, sgd_rule);
    return FV_OK;
}

KERNEL(adam_update) {
    update_parameters(task, 2, adam_rule);
    return FV_OK;
}

/* ---- The end of a step ------------------------------------------------------------------------------------------- */

/* New running statistics take the place of the old ones. */
KERNEL(commit) {
    const fv_control *control = task->input[0].data;
    const fv_tensor *region = &task->input[2];
    if (control->nonfinite) return FV_OK;

    for (int t = 3; t < task->input_count; t++) {
        const int64_t offset = real(&task->input[t]) - real(region);
        EACH(i, fv_elements(&task->input[t])) real(&task->output[0])[offset + i] = real(&task->input[t])[i];
    }
    return FV_OK;
}

KERNEL(advance) {
    fv_control *control = task->output[0].data;
    if (control->nonfinite) return FV_OK;
    control->batch++;
    if (!task->attributes->advance.batch_only) control->step++;
    return FV_OK;
}
