/* optimizer.c - settings of the optimisers: fifteen floats whose meaning is in ops/ops.h. What they do is the
 * operations sgd_update and adam_update. */
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

static fv_optimizer adam(const fv_adam_options *given, uint32_t kind, float decay, bool decoupled) {
    fv_adam_options o;
    read_options(&o, sizeof o, given);
    fv_optimizer out = { .kind = kind };
    out.value[FV_RATE] = or_default(o.learning_rate, 0.001f);
    out.value[FV_DECAY] = or_default(o.weight_decay, decay);
    out.value[FV_DECOUPLED] = decoupled;
    out.value[FV_BETA1] = or_default(o.beta1, 0.9f);
    out.value[FV_BETA2] = or_default(o.beta2, 0.999f);
    out.value[FV_EPSILON] = or_default(o.epsilon, 1e-7f);
    return out;
}

fv_optimizer fv_adam_with(const fv_adam_options *given) { return adam(given, FV_OPTIMIZER_ADAM, 0, false); }
fv_optimizer fv_adamw_with(const fv_adam_options *given) { return adam(given, FV_OPTIMIZER_ADAMW, 0.004f, true); }

const char *fv_optimizer_name(const fv_optimizer *o) {
    static const char *const names[] = { "none", "sgd", "adam", "adamw" };
    return o->kind < sizeof(names) / sizeof(*names) ? names[o->kind] : "unknown";
}

int fv_optimizer_check(fv_context *context, const fv_optimizer *o) {
    static const struct {
        int index;
        const char *name;
        double below;
        bool sgd, adam;
    } range[] = {
        { FV_RATE, "learning_rate", INFINITY, true, true },
        { FV_DECAY, "weight_decay", INFINITY, true, true },
        { FV_MOMENTUM, "momentum", 1, true, false },
        { FV_BETA1, "beta1", 1, false, true },
        { FV_BETA2, "beta2", 1, false, true },
        { FV_EPSILON, "epsilon", INFINITY, false, true },
    };
    if (o->kind < FV_OPTIMIZER_SGD || o->kind > FV_OPTIMIZER_ADAMW)
        return fv_fail(context, FV_ERROR_ARGUMENT, "optimizer: kind %u is not known", o->kind);
    for (size_t i = 0; i < sizeof(range) / sizeof(*range); i++) {
        double value = (double)o->value[range[i].index];
        if (!(o->kind == FV_OPTIMIZER_SGD ? range[i].sgd : range[i].adam)) continue;
        if (value >= 0 && value < range[i].below) continue;
        if (isinf(range[i].below))
            return fv_fail(context, FV_ERROR_ARGUMENT, "%s: %s %g is not a number of at least 0", fv_optimizer_name(o),
                           range[i].name, value);
        return fv_fail(context, FV_ERROR_ARGUMENT, "%s: %s %g is not within 0..1 (1 excluded)", fv_optimizer_name(o),
                       range[i].name, value);
    }
    return FV_OK;
}
