/* optimizer.c - what ends a training step: one look at all gradients, one update over whole regions of the store,
 * the running statistics written together, the control block moved on. The operations write state in place; the
 * gradients come as further inputs that lie in the gradient region, and the kernels find them there by their
 * addresses. */
#include "ops/family.h"
#include <math.h>

static int check_gradients_f32(fv_signature *s, int32_t first, const char *name) {
    for (int32_t i = first; i < s->input_count; i++) FV_TRY(fv_check_type(s, i, name, FV_F32));
    return FV_OK;
}

static int infer_check_gradients(fv_signature *s) {
    FV_TRY(fv_check_control(s, 0));
    FV_TRY(check_gradients_f32(s, 1, "gradient"));
    FV_TRY(fv_set_output(s, 1, FV_F32, 1, (int64_t[]){ 1 }));
    return fv_set_output_like(s, 0, FV_U8, s->input[0]);
}

/* ---- Updates ----------------------------------------------------------------------------------------------------- */

#define BELOW_ONE 1
#define ANY       INFINITY
#define COMMON    { "learning_rate", FV_RATE, ANY }, { "weight_decay", FV_DECAY, ANY }
#define ADAM      COMMON, { "beta1", FV_BETA1, BELOW_ONE }, { "beta2", FV_BETA2, BELOW_ONE }, { "epsilon", FV_EPSILON, ANY }

const fv_optimizer_kind fv_optimizer_kinds[FV_OPTIMIZER_COUNT] = {
    [FV_OPTIMIZER_SGD] = { "sgd", FV_OP_sgd_update, { COMMON, { "momentum", FV_MOMENTUM, BELOW_ONE } } },
    [FV_OPTIMIZER_ADAM] = { "adam", FV_OP_adam_update, { ADAM } },
    [FV_OPTIMIZER_ADAMW] = { "adamw", FV_OP_adam_update, { ADAM } },
    [FV_OPTIMIZER_RMSPROP] = { "rmsprop", FV_OP_rmsprop_update,
                               { COMMON, { "rho", FV_RHO, BELOW_ONE }, { "momentum", FV_MOMENTUM, BELOW_ONE },
                                 { "epsilon", FV_EPSILON, ANY } } },
    [FV_OPTIMIZER_ADAGRAD] = { "adagrad", FV_OP_adagrad_update,
                               { COMMON, { "rate_decay", FV_RATE_DECAY, ANY }, { "initial", FV_INITIAL, ANY },
                                 { "epsilon", FV_EPSILON, ANY } } },
    [FV_OPTIMIZER_ADADELTA] = { "adadelta", FV_OP_adadelta_update,
                                { COMMON, { "rho", FV_RHO, BELOW_ONE }, { "epsilon", FV_EPSILON, ANY } } },
    [FV_OPTIMIZER_LION] = { "lion", FV_OP_lion_update,
                            { COMMON, { "beta1", FV_BETA1, BELOW_ONE }, { "beta2", FV_BETA2, BELOW_ONE } } },
    [FV_OPTIMIZER_LAMB] = { "lamb", FV_OP_lamb_update, { ADAM } },
    [FV_OPTIMIZER_LARS] = { "lars", FV_OP_lars_update,
                            { COMMON, { "momentum", FV_MOMENTUM, BELOW_ONE }, { "trust", FV_TRUST, ANY },
                              { "epsilon", FV_EPSILON, ANY } } },
    [FV_OPTIMIZER_MUON] = { "muon", FV_OP_muon_update,
                            { ADAM, { "momentum", FV_MUON_MOMENTUM, BELOW_ONE },
                              { "adam_learning_rate / learning_rate", FV_ADAM_RATIO, ANY }, { "steps", FV_MUON_STEPS, 100 } } },
};

uint32_t fv_optimizer_slots(uint32_t kind, const float *value) {
    switch (kind) {
    case FV_OPTIMIZER_SGD:
    case FV_OPTIMIZER_LARS: return value[FV_MOMENTUM] != 0;
    case FV_OPTIMIZER_ADAM:
    case FV_OPTIMIZER_ADAMW: return 3u | (value[FV_AMSGRAD] != 0) << 2;
    case FV_OPTIMIZER_RMSPROP: return 1u | (value[FV_MOMENTUM] != 0) << 1 | (value[FV_CENTERED] != 0) << 2;
    case FV_OPTIMIZER_ADAGRAD:
    case FV_OPTIMIZER_LION: return 1;
    default: return 3;
    }
}

static int check_settings(fv_signature *s) {
    const fv_update_attributes *a = &s->attributes->update;
    const fv_optimizer_kind *kind = a->kind < FV_OPTIMIZER_COUNT ? &fv_optimizer_kinds[a->kind] : fv_optimizer_kinds;
    if (kind->update != s->op) return fv_op_fail(s, FV_ERROR_ARGUMENT, "optimizer %u is another one", a->kind);
    for (const fv_optimizer_setting *set = kind->setting; set < kind->setting + 8 && set->name; set++)
        FV_TRY(fv_check_range(s, set->name, a->value[set->index], 0, set->below));
    FV_TRY(fv_check_range(s, "clipping by value", a->clip_value, 0, INFINITY));
    return fv_check_range(s, "clipping by norm", a->clip_norm, 0, INFINITY);
}

/* Control, rates or 0, segments, norm or 0, gradient region, parameters, slots .., gradients .. */
static int infer_update(fv_signature *s) {
    const fv_update_attributes *a = &s->attributes->update;
    const int32_t slots = fv_op_table[s->op]->outputs - 1;
    FV_TRY(check_settings(s));
    for (int32_t i = 0; i < slots; i++)
        if (!s->input[6 + i] && fv_optimizer_slots(a->kind, a->value) >> i & 1)
            return fv_op_fail(s, FV_ERROR_ARGUMENT, "slot %d is missing: these settings need it", i);
    FV_TRY(fv_check_control(s, 0));
    FV_TRY(fv_check_type(s, 1, "learning rates", FV_F32));
    FV_TRY(fv_check_rank(s, 1, "learning rates", 1, "[batches]"));
    FV_TRY(fv_check_type(s, 2, "segments", FV_U8));
    if (s->input[2]->rank != 1 || s->input[2]->dim[0] % (int64_t)sizeof(fv_segment))
        return fv_op_fail(s, FV_ERROR_SHAPE, "the segments %s are not whole structs of %d bytes", FV_TEXT(s->input[2]),
                          (int)sizeof(fv_segment));
    FV_TRY(fv_check_type(s, 3, "norm", FV_F32));
    if (s->input[3] && fv_shape_elements(s->input[3]) != 1)
        return fv_op_fail(s, FV_ERROR_SHAPE, "the norm must be one number, not %s", FV_TEXT(s->input[3]));
    FV_TRY(fv_check_type(s, 5, "parameters", FV_F32));
    FV_TRY(fv_check_rank(s, 5, "parameters", 1, "[elements]"));
    for (int32_t i = 4; i < 6 + slots; i++) {
        FV_TRY(fv_check_type(s, i, i == 4 ? "gradient region" : "slot", FV_F32));
        FV_TRY(fv_check_shape(s, i, i == 4 ? "gradient region" : "slot", s->input[5], "the parameters"));
    }
    FV_TRY(check_gradients_f32(s, 6 + slots, "gradient"));
    for (int32_t i = 6 + slots; i < s->input_count; i++)
        if (fv_shape_elements(s->input[i]) > s->input[5]->dim[0])
            return fv_op_fail(s, FV_ERROR_SHAPE, "the gradient %s has more elements than the parameters %s",
                              FV_TEXT(s->input[i]), FV_TEXT(s->input[5]));
    if (a->clip_norm > 0 && !s->input[3])
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "clipping by norm needs the norm of the gradients");
    for (int32_t o = 0; o <= slots; o++)
        if (s->input[5 + o]) FV_TRY(fv_set_output_like(s, o, FV_F32, s->input[5]));
    return FV_OK;
}

static int infer_commit(fv_signature *s) {
    FV_TRY(fv_check_control(s, 0));
    FV_TRY(check_gradients_f32(s, 1, "statistic"));
    FV_TRY(fv_check_rank(s, 1, "statistics", 1, "[elements]"));
    FV_TRY(fv_check_shape(s, 2, "region of new statistics", s->input[1], "the region of statistics"));
    return fv_set_output_like(s, 0, FV_F32, s->input[1]);
}

static int infer_constrain(fv_signature *s) {
    const fv_constrain_attributes *a = &s->attributes->constrain;
    const bool norm = a->kind != FV_CONSTRAINT_NON_NEG;
    fv_shape weight;
    int64_t end;
    FV_TRY(fv_check_control(s, 0));
    FV_TRY(fv_check_type(s, 1, "parameters", FV_F32));
    FV_TRY(fv_check_rank(s, 1, "parameters", 1, "[elements]"));
    FV_TRY(fv_shape_make(s->context, "constrain: the weight", a->rank, a->dim, &weight));
    if (!a->kind || a->kind >= FV_CONSTRAINT_COUNT)
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "there is no constraint number %u", a->kind);
    if (a->rank < 1 || a->offset < 0 || __builtin_add_overflow(a->offset, fv_shape_elements(&weight), &end) ||
        end > s->input[1]->dim[0])
        return fv_op_fail(s, FV_ERROR_SHAPE, "a weight %s at %lld does not lie within the parameters %s", FV_TEXT(&weight),
                          (long long)a->offset, FV_TEXT(s->input[1]));
    if (norm && (!a->axes || a->axes >= 1u << a->rank))
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "norms over axes %#x of a weight %s", a->axes, FV_TEXT(&weight));
    FV_TRY(fv_check_range(s, "the least norm", a->least, 0, INFINITY));
    if (norm) FV_TRY(fv_check_range(s, "the largest norm", a->most, a->least, INFINITY));
    FV_TRY(fv_check_range(s, "rate", a->rate, 0, 1));
    return fv_set_output_like(s, 0, FV_F32, s->input[1]);
}

static int infer_advance(fv_signature *s) {
    FV_TRY(fv_check_control(s, 0));
    s->attributes->advance.batch_only = s->attributes->advance.batch_only != 0;
    return fv_set_output_like(s, 0, FV_U8, s->input[0]);
}

static int infer_loss_scale(fv_signature *s) {
    FV_TRY(fv_check_control(s, 0));
    return fv_set_output(s, 0, FV_F32, 1, (int64_t[]){ 1 });
}

/* ---- Cost: only what the gradients cover is touched -------------------------------------------------------------- */

static double covered(const fv_signature *s, int32_t first) {
    double elements = 0;
    for (int32_t i = first; i < s->input_count; i++)
        if (s->input[i]) elements += fv_cost_elements(s->input[i]);
    return elements;
}

static void cost_check_gradients(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ .flops = 2 * covered(s, 1), .bytes = 4 * covered(s, 1) };
}

/* Gradient and weight are read, the weight and each slot that is there read and written. */
static void cost_update(const fv_signature *s, fv_cost *cost) {
    const int32_t slots = fv_op_table[s->op]->outputs - 1;
    double passes = 3;
    for (int32_t i = 0; i < slots; i++) passes += s->input[6 + i] ? 2 : 0;
    const double elements = covered(s, 6 + slots);
    *cost = (fv_cost){ .flops = 2 * passes * elements, .bytes = 4 * passes * elements };
}

/* Five rounds of X X', A A and A X for each matrix, seen from its shorter side. */
static void cost_muon(const fv_signature *s, fv_cost *cost) {
    cost_update(s, cost);
    for (int32_t i = 8; i < s->input_count; i++) {
        if (!s->input[i] || s->input[i]->rank < 2) continue;
        const double rows = (double)s->input[i]->dim[0], columns = fv_cost_elements(s->input[i]) / rows;
        const double side = fmin(rows, columns);
        cost->flops += (double)s->attributes->update.value[FV_MUON_STEPS] * 2 * side * side * (2 * fmax(rows, columns) + side);
    }
}

static void cost_commit(const fv_signature *s, fv_cost *cost) { *cost = (fv_cost){ .bytes = 8 * covered(s, 3) }; }
static void cost_advance(const fv_signature *s, fv_cost *cost) { fv_cost_moved(s, cost); }

/* Which input each output overwrites, counted from 1; the norm is an ordinary output. */
FV_DESC(check_gradients, none, .infer = infer_check_gradients, .cost = cost_check_gradients, .optional = 1 << 1,
        .writes = { 1 });
#define UPDATE(name, cost_of, absent, ...)                                                                             \
    FV_DESC(name, update, .infer = infer_update, .cost = cost_of, .optional = 1 << 1 | 1 << 3 | (absent),               \
            .writes = { 6, __VA_ARGS__ })
UPDATE(sgd_update, cost_update, 1 << 6, 7);
UPDATE(adam_update, cost_update, 1 << 8, 7, 8, 9);
UPDATE(rmsprop_update, cost_update, 1 << 7 | 1 << 8, 7, 8, 9);
UPDATE(adagrad_update, cost_update, 0, 7);
UPDATE(adadelta_update, cost_update, 0, 7, 8);
UPDATE(lion_update, cost_update, 0, 7);
UPDATE(lamb_update, cost_update, 0, 7, 8);
UPDATE(lars_update, cost_update, 1 << 6, 7);
UPDATE(muon_update, cost_muon, 0, 7, 8);
FV_DESC(constrain, constrain, .infer = infer_constrain, .writes = { 2 });
FV_DESC(commit, none, .infer = infer_commit, .cost = cost_commit, .writes = { 2 });
FV_DESC(loss_scale, none, .infer = infer_loss_scale);
FV_DESC(advance, advance, .infer = infer_advance, .cost = cost_advance, .writes = { 1 });
