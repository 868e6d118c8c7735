/* schedule.c - learning-rate schedules: a factor f on the optimiser's rate as a function of the epoch e, with fractions
 * (batch b of n in epoch e has e + b/n), of E epochs in all. With w warm-up epochs and warm-up factor u:
 *     e < w:  f = u + (1 - u) e/w;  from there on, with t = e - w and p = t / (E - w) held within 0..1:
 *     constant     1                                   step         gamma^floor(t / step_epochs)
 *     multi-step   gamma^(milestones <= e)             exponential  gamma^t
 *     cosine       end + (1 - end) (1 + cos(pi p)) / 2 linear       1 + (end - 1) p
 *     polynomial   end + (1 - end) (1 - p)^power       plateau      1 (fv_plateau_observe lowers it after epochs)
 *     one-cycle    with peak q: p < q: start + (1 - start) (1 - cos(pi p/q)) / 2,
 *                  else end + (1 - end) (1 + cos(pi (p-q)/(1-q))) / 2
 * Milestones are values of e itself: warm-up does not shift them. */
#define _GNU_SOURCE
#include "train/train.h"
#include <math.h>
#include <string.h>

/* Kinds are saved in files: never renumber. 0 is the constant schedule too: a schedule nobody set. */
enum { CONSTANT = 1, STEP, MULTI_STEP, EXPONENTIAL, COSINE, LINEAR, POLYNOMIAL, PLATEAU, ONE_CYCLE, KINDS };
enum { WARMUP, WARMUP_FACTOR, FIRST }; /* value[] of every kind; the others follow */
enum { GAMMA = FIRST, STEP_EPOCHS, MILESTONES = STEP_EPOCHS, MILESTONE_COUNT = 6 };
enum { PATIENCE = GAMMA + 1, MIN_DELTA, COOLDOWN };
enum { END = FIRST, POWER, PEAK = POWER, START };

static float or_default(float value, float preset) { return value != 0 ? value : signbit(value) ? 0 : preset; }

static fv_schedule make(const fv_schedule_options *given, uint32_t kind, fv_schedule_options *o) {
    memset(o, 0, sizeof *o);
    size_t size = given ? given->struct_size : 0;
    if (given) memcpy(o, given, size < sizeof *o ? size : sizeof *o);
    fv_schedule out = { .kind = kind };
    out.value[WARMUP] = or_default(o->warmup_epochs, 0);
    out.value[WARMUP_FACTOR] = or_default(o->warmup_factor, 0);
    return out;
}

fv_schedule fv_constant_schedule_with(const fv_schedule_options *given) {
    fv_schedule_options o;
    return make(given, CONSTANT, &o);
}

fv_schedule fv_step_with(const fv_schedule_options *given) {
    fv_schedule_options o;
    fv_schedule out = make(given, STEP, &o);
    out.value[GAMMA] = or_default(o.gamma, 0.1f);
    out.value[STEP_EPOCHS] = or_default(o.step_epochs, 1);
    return out;
}

fv_schedule fv_multi_step_with(const fv_schedule_options *given) {
    fv_schedule_options o;
    fv_schedule out = make(given, MULTI_STEP, &o);
    out.value[GAMMA] = or_default(o.gamma, 0.1f);
    memcpy(out.value + MILESTONES, o.milestones, sizeof o.milestones);
    return out;
}

fv_schedule fv_exponential_with(const fv_schedule_options *given) {
    fv_schedule_options o;
    fv_schedule out = make(given, EXPONENTIAL, &o);
    out.value[GAMMA] = or_default(o.gamma, 0.95f);
    return out;
}

static fv_schedule falling(const fv_schedule_options *given, uint32_t kind) {
    fv_schedule_options o;
    fv_schedule out = make(given, kind, &o);
    out.value[END] = or_default(o.final_factor, 0);
    if (kind == POLYNOMIAL) out.value[POWER] = or_default(o.power, 1);
    if (kind == ONE_CYCLE) {
        out.value[PEAK] = or_default(o.peak_fraction, 0.3f);
        out.value[START] = or_default(o.initial_factor, 0.04f);
    }
    return out;
}

fv_schedule fv_cosine_with(const fv_schedule_options *given) { return falling(given, COSINE); }
fv_schedule fv_linear_with(const fv_schedule_options *given) { return falling(given, LINEAR); }
fv_schedule fv_polynomial_with(const fv_schedule_options *given) { return falling(given, POLYNOMIAL); }
fv_schedule fv_one_cycle_with(const fv_schedule_options *given) { return falling(given, ONE_CYCLE); }

fv_schedule fv_plateau_with(const fv_schedule_options *given) {
    fv_schedule_options o;
    fv_schedule out = make(given, PLATEAU, &o);
    out.value[GAMMA] = or_default(o.gamma, 0.1f);
    out.value[PATIENCE] = or_default(o.patience, 10);
    out.value[MIN_DELTA] = or_default(o.min_delta, 1e-4f);
    out.value[COOLDOWN] = or_default(o.cooldown, 0);
    return out;
}

/* Half a period of the cosine, from a to b as p goes from 0 to 1. */
static double ease(double a, double b, double p) { return b + (a - b) * (1 + cos(M_PI * p)) / 2; }

static double one_cycle(const float *v, double p) {
    double peak = (double)v[PEAK];
    return p < peak ? ease((double)v[START], 1, p / peak)
                    : ease(1, (double)v[END], peak < 1 ? (p - peak) / (1 - peak) : 0);
}

static double factor(const fv_schedule *schedule, double epoch, double epochs) {
    const float *v = schedule->value;
    double warmup = (double)v[WARMUP], end = (double)v[END], gamma = (double)v[GAMMA];
    if (epoch < warmup) return (double)v[WARMUP_FACTOR] + (1 - (double)v[WARMUP_FACTOR]) * epoch / warmup;
    double t = epoch - warmup, p = epochs > warmup ? fmin(t / (epochs - warmup), 1) : 1;
    int passed = 0;
    switch (schedule->kind) {
    case STEP: return pow(gamma, floor(t / (double)v[STEP_EPOCHS]));
    case MULTI_STEP:
        for (int i = 0; i < MILESTONE_COUNT && v[MILESTONES + i] > 0; i++) passed += epoch >= (double)v[MILESTONES + i];
        return pow(gamma, passed);
    case EXPONENTIAL: return pow(gamma, t);
    case COSINE: return ease(1, end, p);
    case LINEAR: return 1 + (end - 1) * p;
    case POLYNOMIAL: return end + (1 - end) * pow(1 - p, (double)v[POWER]);
    case ONE_CYCLE: return one_cycle(v, p);
    default: return 1;
    }
}

float fv_schedule_factor(fv_schedule schedule, double epoch, double epochs) {
    return (float)factor(&schedule, epoch < 0 ? 0 : epoch, epochs);
}

int fv_schedule_check(fv_context *context, const fv_schedule *schedule) {
    static const char *const name[KINDS] = { "constant", "constant", "step",       "multi-step", "exponential",
                                             "cosine",   "linear",   "polynomial", "plateau",    "one-cycle" };
    const float *v = schedule->value;
    if (schedule->kind >= KINDS)
        return fv_fail(context, FV_ERROR_ARGUMENT, "schedule: kind %u is not known", schedule->kind);
    for (int i = 0; i < 15; i++)
        if (!(v[i] >= 0 && v[i] < INFINITY))
            return fv_fail(context, FV_ERROR_ARGUMENT, "schedule %s: %g is not a number of at least 0",
                           name[schedule->kind], (double)v[i]);
    if (schedule->kind == STEP && v[STEP_EPOCHS] == 0)
        return fv_fail(context, FV_ERROR_ARGUMENT, "schedule step: step_epochs is zero");
    if (schedule->kind == ONE_CYCLE && v[PEAK] > 1)
        return fv_fail(context, FV_ERROR_ARGUMENT, "schedule one-cycle: peak_fraction %g is not within 0..1",
                       (double)v[PEAK]);
    for (int i = 1; schedule->kind == MULTI_STEP && i < MILESTONE_COUNT && v[MILESTONES + i] > 0; i++)
        if (v[MILESTONES + i] <= v[MILESTONES + i - 1])
            return fv_fail(context, FV_ERROR_ARGUMENT, "schedule multi-step: milestone %g does not come after %g",
                           (double)v[MILESTONES + i], (double)v[MILESTONES + i - 1]);
    return FV_OK;
}

void fv_plateau_observe(fv_training *training, double value) {
    const float *v = training->schedule.value;
    if (training->schedule.kind != PLATEAU) return;
    if (training->plateau_cooldown > 0) {
        training->plateau_cooldown--;
        training->plateau_waited = 0;
    }
    if (value < training->plateau_best - (double)v[MIN_DELTA]) {
        training->plateau_best = value;
        training->plateau_waited = 0;
    } else if (training->plateau_cooldown == 0 && ++training->plateau_waited >= (int)v[PATIENCE]) {
        training->plateau_factor *= (double)v[GAMMA];
        training->plateau_cooldown = (int)v[COOLDOWN];
        training->plateau_waited = 0;
    }
}
