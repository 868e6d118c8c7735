/* keras_optimizer.c - the settings of optimisers in Keras's words, both ways. Keras's weight decay is decoupled, so ours
 * is named there only where it is. LARS and Muon are not written: Keras has no LARS, and another Muon (its scale and its
 * momentum differ). Epsilon is written as it is, though Keras puts it elsewhere: under the root in RMSprop and Adagrad, and
 * beside the uncorrected root in Adam. */
#include "io/keras.h"
#include "net/config.h"
#include "train/train.h"
#include <string.h>

#define BETAS { "beta_1", FV_BETA1, 'f' }, { "beta_2", FV_BETA2, 'f' }
static const fv_keras_optimizer optimizers[] = {
    { FV_OPTIMIZER_SGD, "SGD", "sgd", { "momentum" }, { { "momentum", FV_MOMENTUM, 'f' }, { "nesterov", FV_NESTEROV, 'b' } } },
    { FV_OPTIMIZER_ADAM, "Adam", "adam", { "momentum", "velocity", "velocity_hat" },
      { BETAS, { "epsilon", FV_EPSILON, 'f' }, { "amsgrad", FV_AMSGRAD, 'b' } } },
    { FV_OPTIMIZER_ADAMW, "AdamW", "adamw", { "momentum", "velocity", "velocity_hat" },
      { BETAS, { "epsilon", FV_EPSILON, 'f' }, { "amsgrad", FV_AMSGRAD, 'b' } } },
    { FV_OPTIMIZER_RMSPROP, "RMSprop", "rmsprop", { "velocity", "momentum", "average_gradient" },
      { { "rho", FV_RHO, 'f' }, { "momentum", FV_MOMENTUM, 'f' }, { "epsilon", FV_EPSILON, 'f' },
        { "centered", FV_CENTERED, 'b' } } },
    { FV_OPTIMIZER_ADAGRAD, "Adagrad", "adagrad", { "accumulator" },
      { { "initial_accumulator_value", FV_INITIAL, 'f' }, { "epsilon", FV_EPSILON, 'f' } } },
    { FV_OPTIMIZER_ADADELTA, "Adadelta", "adadelta", { "accumulated_grad", "accumulated_delta_var" },
      { { "rho", FV_RHO, 'f' }, { "epsilon", FV_EPSILON, 'f' } } },
    { FV_OPTIMIZER_LION, "Lion", "lion", { "momentum" }, { BETAS } },
    { FV_OPTIMIZER_LAMB, "Lamb", "lamb", { "momentum", "velocity" }, { BETAS, { "epsilon", FV_EPSILON, 'f' } } },
};
enum { OPTIMIZERS = sizeof optimizers / sizeof *optimizers };

/* LAMB's decay is part of its step, Keras's is not. */
static bool decays_as_keras(const fv_keras_optimizer *keras, const float *value) {
    if (value[FV_DECAY] == 0) return true;
    return keras->kind != FV_OPTIMIZER_LAMB && (value[FV_DECOUPLED] != 0 || keras->kind == FV_OPTIMIZER_ADAMW);
}

const fv_keras_optimizer *fv_keras_optimizer_of(const fv_optimizer *settings) {
    for (size_t i = 0; i < OPTIMIZERS; i++)
        if (optimizers[i].kind == settings->kind) return &optimizers[i];
    return NULL;
}

/* The loss is not kept: Keras compiles without one. */
json_t *fv_keras_training_config(const fv_keras_optimizer *keras, const fv_optimizer *settings) {
    const float *v = settings->value;
    const bool decay = v[FV_DECAY] > 0 && decays_as_keras(keras, v);
    json_t *config = json_pack("{s:s,s:o,s:o}", "name", keras->prefix, "learning_rate", fv_json_float(v[FV_RATE]),
                               "weight_decay", decay ? fv_json_float(v[FV_DECAY]) : json_null());
    for (int i = 0; i < FV_KERAS_SETTINGS && keras->setting[i].name; i++) {
        const float value = v[keras->setting[i].index];
        fv_json_put(&config, keras->setting[i].name,
                    keras->setting[i].type == 'b' ? json_boolean(value != 0) : fv_json_float(value));
    }
    return json_pack("{s:n,s:n,s:n,s:n,s:{s:s,s:o}}", "loss", "loss_weights", "metrics", "weighted_metrics",
                     "optimizer_config", "class_name", keras->class_name, "config", config);
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

/* What is missing keeps the value it has: Keras's default. */
static bool read_number(const json_t *config, const char *name, float *value) {
    const json_t *number = json_object_get(config, name);
    if (!number || json_is_null(number)) return true;
    if (json_is_boolean(number)) *value = (float)json_is_true(number);
    else if (json_is_number(number)) *value = (float)json_number_value(number);
    else return false; /* a schedule, say */
    return true;
}

/* Settings that change what a step does and have no place in fv_optimizer. */
static const char *unknown_setting(const json_t *config) {
    static const char *const names[] = { "clipnorm", "clipvalue", "global_clipnorm", "gradient_accumulation_steps",
                                         "loss_scale_factor" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *value = json_object_get(config, names[i]);
        if (value && !json_is_null(value)) return names[i];
    }
    return json_is_true(json_object_get(config, "use_ema")) ? "use_ema" : NULL;
}

static fv_optimizer keras_defaults(uint32_t kind) {
    fv_optimizer o = { .kind = kind };
    o.value[FV_RATE] = kind == FV_OPTIMIZER_SGD ? 0.01f : 0.001f;
    if (kind == FV_OPTIMIZER_RMSPROP) o.value[FV_RHO] = 0.9f;
    else if (kind == FV_OPTIMIZER_ADADELTA) o.value[FV_RHO] = 0.95f;
    else if (kind != FV_OPTIMIZER_SGD && kind != FV_OPTIMIZER_ADAGRAD) {
        o.value[FV_BETA1] = 0.9f;
        o.value[FV_BETA2] = kind == FV_OPTIMIZER_LION ? 0.99f : 0.999f;
    }
    if (kind == FV_OPTIMIZER_ADAGRAD) o.value[FV_INITIAL] = 0.1f;
    if (kind != FV_OPTIMIZER_SGD && kind != FV_OPTIMIZER_LION) o.value[FV_EPSILON] = 1e-7f;
    if (kind == FV_OPTIMIZER_ADAMW) o.value[FV_DECAY] = 0.004f;
    return o;
}

fv_optimizer fv_keras_optimizer_read(fv_context *context, const char *path, const json_t *described) {
    const fv_optimizer none = { 0 };
    const char *name = json_string_value(json_object_get(described, "class_name"));
    const json_t *config = json_object_get(described, "config");
    for (size_t i = 0; name && i < OPTIMIZERS; i++) {
        const fv_keras_optimizer *keras = &optimizers[i];
        if (strcmp(name, keras->class_name)) continue;
        fv_optimizer o = keras_defaults(keras->kind);
        const char *unknown = unknown_setting(config);
        bool fits = !unknown && read_number(config, "learning_rate", &o.value[FV_RATE]) &&
                    read_number(config, "weight_decay", &o.value[FV_DECAY]);
        for (int k = 0; fits && k < FV_KERAS_SETTINGS && keras->setting[k].name; k++)
            fits = read_number(config, keras->setting[k].name, &o.value[keras->setting[k].index]);
        o.value[FV_DECOUPLED] = o.value[FV_DECAY] > 0 || keras->kind == FV_OPTIMIZER_ADAMW || keras->kind == FV_OPTIMIZER_LION;
        if (keras->kind == FV_OPTIMIZER_LAMB) fits = fits && o.value[FV_DECAY] == 0;
        if (fits && fv_optimizer_fits(&o)) return o;
        fv_log(context, "%s: the settings of its optimiser %s are not taken over (%s)", path, name,
               unknown ? unknown : "learning_rate, weight_decay or another is not a number that fits");
        return none;
    }
    if (name) fv_log(context, "%s: its optimiser %s is not one of Fovea's", path, name);
    return none;
}
