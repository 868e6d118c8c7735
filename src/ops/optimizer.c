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

/* What sgd_update and adam_update share: control, rates or 0, segments, norm or 0, gradient region, parameters, slots .. */
static int check_update(fv_signature *s, int32_t slots) {
    const fv_update_attributes *a = &s->attributes->update;
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
    FV_TRY(fv_check_range(s, "learning rate", a->value[FV_RATE], 0, INFINITY));
    FV_TRY(fv_check_range(s, "weight decay", a->value[FV_DECAY], 0, INFINITY));
    FV_TRY(fv_check_range(s, "clipping by value", a->clip_value, 0, INFINITY));
    FV_TRY(fv_check_range(s, "clipping by norm", a->clip_norm, 0, INFINITY));
    if (a->clip_norm > 0 && !s->input[3])
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "clipping by norm needs the norm of the gradients");
    for (int32_t o = 0; o <= slots; o++)
        if (s->input[5 + o]) FV_TRY(fv_set_output_like(s, o, FV_F32, s->input[5]));
    return FV_OK;
}

static int infer_sgd_update(fv_signature *s) {
    const fv_update_attributes *a = &s->attributes->update;
    if (a->kind != FV_OPTIMIZER_SGD) return fv_op_fail(s, FV_ERROR_ARGUMENT, "optimizer %u is not SGD", a->kind);
    FV_TRY(fv_check_range(s, "momentum", a->value[FV_MOMENTUM], 0, INFINITY));
    if (a->value[FV_MOMENTUM] > 0 && !s->input[6]) return fv_op_fail(s, FV_ERROR_ARGUMENT, "momentum needs a slot");
    return check_update(s, 1);
}

static int infer_adam_update(fv_signature *s) {
    const fv_update_attributes *a = &s->attributes->update;
    if (a->kind != FV_OPTIMIZER_ADAM && a->kind != FV_OPTIMIZER_ADAMW)
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "optimizer %u is neither Adam nor AdamW", a->kind);
    FV_TRY(fv_check_range(s, "beta1", a->value[FV_BETA1], 0, 1));
    FV_TRY(fv_check_range(s, "beta2", a->value[FV_BETA2], 0, 1));
    FV_TRY(fv_check_range(s, "epsilon", a->value[FV_EPSILON], 0, INFINITY));
    return check_update(s, 2);
}

static int infer_commit(fv_signature *s) {
    FV_TRY(fv_check_control(s, 0));
    FV_TRY(check_gradients_f32(s, 1, "statistic"));
    FV_TRY(fv_check_rank(s, 1, "statistics", 1, "[elements]"));
    FV_TRY(fv_check_shape(s, 2, "region of new statistics", s->input[1], "the region of statistics"));
    return fv_set_output_like(s, 0, FV_F32, s->input[1]);
}

static int infer_advance(fv_signature *s) {
    FV_TRY(fv_check_control(s, 0));
    s->attributes->advance.batch_only = s->attributes->advance.batch_only != 0;
    return fv_set_output_like(s, 0, FV_U8, s->input[0]);
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

/* SGD reads gradient, weight and velocity and writes the last two; Adam has one slot more. */
static void cost_sgd(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ .flops = 4 * covered(s, 7), .bytes = 4 * (s->input[6] ? 5 : 3) * covered(s, 7) };
}

static void cost_adam(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ .flops = 12 * covered(s, 8), .bytes = 4 * 7 * covered(s, 8) };
}

static void cost_commit(const fv_signature *s, fv_cost *cost) { *cost = (fv_cost){ .bytes = 8 * covered(s, 3) }; }
static void cost_advance(const fv_signature *s, fv_cost *cost) { fv_cost_moved(s, cost); }

/* Which input each output overwrites, counted from 1; the norm is an ordinary output. */
FV_DESC(check_gradients, none, .infer = infer_check_gradients, .cost = cost_check_gradients, .optional = 1 << 1,
        .writes = { 1 });
FV_DESC(sgd_update, update, .infer = infer_sgd_update, .cost = cost_sgd, .optional = 1 << 1 | 1 << 3 | 1 << 6,
        .writes = { 6, 7 });
FV_DESC(adam_update, update, .infer = infer_adam_update, .cost = cost_adam, .optional = 1 << 1 | 1 << 3,
        .writes = { 6, 7, 8 });
FV_DESC(commit, none, .infer = infer_commit, .cost = cost_commit, .writes = { 2 });
FV_DESC(advance, advance, .infer = infer_advance, .cost = cost_advance, .writes = { 1 });
