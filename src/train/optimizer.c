/* optimizer.c - settings of the optimisers: fifteen floats whose meaning is in ops/ops.h. What they do is the operations
 * sgd_update, adam_update, ...; which settings they have stands in fv_optimizer_kinds. */
#include "train/train.h"
#include <math.h>
#include <string.h>

/* Zero means the default; -0.0f, FV_ZERO, means zero. */
static float or_default(float value, float preset) { return value != 0 ? value : signbit(value) ? 0 : preset; }

/* Settings come without a context: options too short or missing are taken as they are, fv_fit refuses what is wrong. */
static void read_options(void *to, size_t bytes, const void *from) {
    memset(to, 0, bytes);
    size_t given = from ? *(const size_t *)from : 0;
    if (from) memcpy(to, from, given < bytes ? given : bytes);
}

fv_optimizer fv_sgd_with(const fv_sgd_options *given) {
    fv_sgd_options o;
    read_options(&o, sizeof o, given);
    fv_optimizer out = { .kind = FV_OPTIMIZER_SGD };
    out.value[FV_RATE] = or_default(o.learning_rate, 0.01f);
    out.value[FV_DECAY] = or_default(o.weight_decay, 0);
    out.value[FV_DECOUPLED] = o.decoupled;
    out.value[FV_MOMENTUM] = or_default(o.momentum, 0);
    out.value[FV_NESTEROV] = o.nesterov;
    return out;
}

static fv_optimizer adam(const fv_adam_options *given, fv_optimizer out) {
    fv_adam_options o;
    read_options(&o, sizeof o, given);
    out.value[FV_RATE] = or_default(o.learning_rate, out.value[FV_RATE]);
    out.value[FV_DECAY] = or_default(o.weight_decay, out.value[FV_DECAY]);
    out.value[FV_BETA1] = or_default(o.beta1, 0.9f);
    out.value[FV_BETA2] = or_default(o.beta2, out.value[FV_BETA2]);
    out.value[FV_EPSILON] = or_default(o.epsilon, out.value[FV_EPSILON]);
    out.value[FV_AMSGRAD] = o.amsgrad;
    if (out.kind != FV_OPTIMIZER_ADAM && out.kind != FV_OPTIMIZER_ADAMW) out.value[FV_AMSGRAD] = 0;
    return out;
}

/* Rate, decay, decoupled, beta2, epsilon: what differs by default. */
#define ADAM(number, rate, decay, decoupled, beta2, epsilon)                                                           \
    (fv_optimizer){ number, { [FV_RATE] = (rate), [FV_DECAY] = (decay), [FV_DECOUPLED] = (decoupled),                  \
                              [FV_BETA2] = (beta2), [FV_EPSILON] = (epsilon) } }

fv_optimizer fv_adam_with(const fv_adam_options *given) {
    return adam(given, ADAM(FV_OPTIMIZER_ADAM, 0.001f, 0, false, 0.999f, 1e-7f));
}
fv_optimizer fv_adamw_with(const fv_adam_options *given) {
    return adam(given, ADAM(FV_OPTIMIZER_ADAMW, 0.001f, 0.004f, true, 0.999f, 1e-7f));
}
fv_optimizer fv_lamb_with(const fv_adam_options *given) {
    return adam(given, ADAM(FV_OPTIMIZER_LAMB, 0.001f, 0.01f, false, 0.999f, 1e-6f));
}
fv_optimizer fv_lion_with(const fv_adam_options *given) {
    fv_optimizer out = adam(given, ADAM(FV_OPTIMIZER_LION, 0.0001f, 0, true, 0.99f, 0));
    out.value[FV_EPSILON] = 0; /* it has none */
    return out;
}

fv_optimizer fv_rmsprop_with(const fv_rmsprop_options *given) {
    fv_rmsprop_options o;
    read_options(&o, sizeof o, given);
    fv_optimizer out = { .kind = FV_OPTIMIZER_RMSPROP };
    out.value[FV_RATE] = or_default(o.learning_rate, 0.01f);
    out.value[FV_DECAY] = or_default(o.weight_decay, 0);
    out.value[FV_DECOUPLED] = o.decoupled;
    out.value[FV_MOMENTUM] = or_default(o.momentum, 0);
    out.value[FV_RHO] = or_default(o.rho, 0.99f);
    out.value[FV_EPSILON] = or_default(o.epsilon, 1e-8f);
    out.value[FV_CENTERED] = o.centered;
    return out;
}

fv_optimizer fv_adagrad_with(const fv_adagrad_options *given) {
    fv_adagrad_options o;
    read_options(&o, sizeof o, given);
    fv_optimizer out = { .kind = FV_OPTIMIZER_ADAGRAD };
    out.value[FV_RATE] = or_default(o.learning_rate, 0.01f);
    out.value[FV_DECAY] = or_default(o.weight_decay, 0);
    out.value[FV_DECOUPLED] = o.decoupled;
    out.value[FV_EPSILON] = or_default(o.epsilon, 1e-10f);
    out.value[FV_RATE_DECAY] = or_default(o.rate_decay, 0);
    out.value[FV_INITIAL] = or_default(o.initial, 0);
    return out;
}

fv_optimizer fv_adadelta_with(const fv_adadelta_options *given) {
    fv_adadelta_options o;
    read_options(&o, sizeof o, given);
    fv_optimizer out = { .kind = FV_OPTIMIZER_ADADELTA };
    out.value[FV_RATE] = or_default(o.learning_rate, 1);
    out.value[FV_DECAY] = or_default(o.weight_decay, 0);
    out.value[FV_DECOUPLED] = o.decoupled;
    out.value[FV_RHO] = or_default(o.rho, 0.9f);
    out.value[FV_EPSILON] = or_default(o.epsilon, 1e-6f);
    return out;
}

fv_optimizer fv_lars_with(const fv_lars_options *given) {
    fv_lars_options o;
    read_options(&o, sizeof o, given);
    fv_optimizer out = { .kind = FV_OPTIMIZER_LARS };
    out.value[FV_RATE] = or_default(o.learning_rate, 0.1f);
    out.value[FV_DECAY] = or_default(o.weight_decay, 1e-4f);
    out.value[FV_MOMENTUM] = or_default(o.momentum, 0.9f);
    out.value[FV_TRUST] = or_default(o.trust, 0.001f);
    out.value[FV_EPSILON] = or_default(o.epsilon, 1e-8f);
    return out;
}

fv_optimizer fv_muon_with(const fv_muon_options *given) {
    fv_muon_options o;
    read_options(&o, sizeof o, given);
    fv_optimizer out = { .kind = FV_OPTIMIZER_MUON };
    const float rate = or_default(o.learning_rate, 0.02f), adam = or_default(o.adam_learning_rate, 3e-4f);
    out.value[FV_RATE] = rate;
    out.value[FV_DECAY] = or_default(o.weight_decay, 0);
    out.value[FV_DECOUPLED] = true;
    out.value[FV_BETA1] = or_default(o.beta1, 0.9f);
    out.value[FV_BETA2] = or_default(o.beta2, 0.95f);
    out.value[FV_EPSILON] = or_default(o.epsilon, 1e-10f);
    out.value[FV_ADAM_RATIO] = rate > 0 ? adam / rate : 0;
    out.value[FV_MUON_MOMENTUM] = or_default(o.momentum, 0.95f);
    out.value[FV_MUON_PLAIN] = o.no_nesterov;
    out.value[FV_MUON_STEPS] = (float)(o.steps ? o.steps : 5);
    return out;
}

const char *fv_optimizer_name(const fv_optimizer *o) {
    if (!o->kind) return "none";
    return o->kind < FV_OPTIMIZER_COUNT ? fv_optimizer_kinds[o->kind].name : "unknown";
}

/* The setting that is out of its range, or NULL. */
static const fv_optimizer_setting *wrong_setting(const fv_optimizer *o) {
    const fv_optimizer_setting *set = fv_optimizer_kinds[o->kind].setting;
    for (int i = 0; i < 8 && set[i].name; i++)
        if (!(o->value[set[i].index] >= 0 && (double)o->value[set[i].index] < set[i].below)) return &set[i];
    return NULL;
}

bool fv_optimizer_fits(const fv_optimizer *o) {
    return o->kind && o->kind < FV_OPTIMIZER_COUNT && !wrong_setting(o);
}

int fv_optimizer_check(fv_context *context, const fv_optimizer *o) {
    if (!o->kind || o->kind >= FV_OPTIMIZER_COUNT)
        return fv_fail(context, FV_ERROR_ARGUMENT, "optimizer: kind %u is not known", o->kind);
    const fv_optimizer_setting *wrong = wrong_setting(o);
    if (!wrong) return FV_OK;
    const double value = (double)o->value[wrong->index];
    if (isinf(wrong->below))
        return fv_fail(context, FV_ERROR_ARGUMENT, "%s: %s %g is not a number of at least 0", fv_optimizer_name(o),
                       wrong->name, value);
    return fv_fail(context, FV_ERROR_ARGUMENT, "%s: %s %g is not within 0..%g (%g excluded)", fv_optimizer_name(o),
                   wrong->name, value, wrong->below, wrong->below);
}
