/* check.c - what the infer functions ask of their inputs, with the sentences for when it is not so; the plainest
 * infer and the pieces of costs. Absent inputs pass every check: which ones may be absent stands in the
 * description. */
#include "ops/family.h"
#include <float.h>
#include <math.h>

int fv_check_type(fv_signature *s, int32_t input, const char *name, fv_type type) {
    if (!s->input[input] || s->input_type[input] == type) return FV_OK;
    if (type == FV_F32 && fv_type_half(s->input_type[input]) && fv_precision_may(s->op, input)) return FV_OK;
    return fv_op_fail(s, FV_ERROR_ARGUMENT, "the %s %s must be %s, not %s", name, FV_TEXT(s->input[input]),
                      fv_type_name(type), fv_type_name(s->input_type[input]));
}

int fv_check_f32(fv_signature *s, const char *const *names) {
    for (int32_t i = 0; names[i] && i < s->input_count; i++) FV_TRY(fv_check_type(s, i, names[i], FV_F32));
    return FV_OK;
}

int fv_check_rank(fv_signature *s, int32_t input, const char *name, int32_t rank, const char *form) {
    if (!s->input[input] || s->input[input]->rank == rank) return FV_OK;
    return fv_op_fail(s, FV_ERROR_SHAPE, "the %s must be %s, not %s", name, form, FV_TEXT(s->input[input]));
}

int fv_check_rank_least(fv_signature *s, int32_t input, const char *name, int32_t rank) {
    if (!s->input[input] || s->input[input]->rank >= rank) return FV_OK;
    return fv_op_fail(s, FV_ERROR_SHAPE, "the %s %s needs at least %d dimension%s", name, FV_TEXT(s->input[input]),
                      rank, rank == 1 ? "" : "s");
}

int fv_check_channels(fv_signature *s, int32_t input, const char *name, int32_t of) {
    const fv_shape *shape = s->input[input];
    if (!shape) return FV_OK;
    int64_t channels = fv_last(s->input[of]);
    if (shape->rank == 1 && shape->dim[0] == channels) return FV_OK;
    return fv_op_fail(s, FV_ERROR_SHAPE, "the %s must be [%lld] to fit %s, not %s", name, (long long)channels,
                      FV_TEXT(s->input[of]), FV_TEXT(shape));
}

int fv_check_shape(fv_signature *s, int32_t input, const char *name, const fv_shape *shape, const char *what) {
    if (!s->input[input] || fv_shape_equal(s->input[input], shape)) return FV_OK;
    return fv_op_fail(s, FV_ERROR_SHAPE, "the %s has shape %s where %s has %s", name, FV_TEXT(s->input[input]), what,
                      FV_TEXT(shape));
}

int fv_check_control(fv_signature *s, int32_t input) {
    const fv_shape *shape = s->input[input];
    if (s->input_type[input] == FV_U8 && shape->rank == 1 && shape->dim[0] == (int64_t)sizeof(fv_control)) return FV_OK;
    return fv_op_fail(s, FV_ERROR_ARGUMENT, "the control block must be u8 [%d], not %s %s", (int)sizeof(fv_control),
                      fv_type_name(s->input_type[input]), FV_TEXT(shape));
}

int fv_check_scores_and_target(fv_signature *s, const char *scores) {
    FV_TRY(fv_check_type(s, 0, scores, FV_F32));
    FV_TRY(fv_check_rank_least(s, 0, scores, 2));
    const fv_shape *shape = s->input[0], *target = s->input[1];
    fv_shape rows = *shape;
    rows.rank--;
    if (s->input_type[1] == FV_I32 ? fv_shape_equal(target, &rows)
                                   : s->input_type[1] == FV_F32 && fv_shape_equal(target, shape))
        return FV_OK;
    return fv_op_fail(s, FV_ERROR_SHAPE,
                      "the target %s %s fits the %s %s neither as class numbers i32 %s nor as f32 %s",
                      fv_type_name(s->input_type[1]), FV_TEXT(target), scores, FV_TEXT(shape), FV_TEXT(&rows),
                      FV_TEXT(shape));
}

int fv_check_range(fv_signature *s, const char *name, double value, double least, double most) {
    if (value >= least && value <= most) return FV_OK;
    if (isnan(value)) return fv_op_fail(s, FV_ERROR_ARGUMENT, "%s is not a number", name);
    if (isinf(most)) return fv_op_fail(s, FV_ERROR_ARGUMENT, "%s is %g, it must be at least %g", name, value, least);
    return fv_op_fail(s, FV_ERROR_ARGUMENT, "%s is %g, it must be within %g..%g", name, value, least, most);
}

int fv_check_axis(fv_signature *s, int32_t *axis, const fv_shape *shape) {
    int64_t number = *axis < 0 ? (int64_t)*axis + shape->rank : *axis;
    if (number < 0 || number >= shape->rank)
        return fv_op_fail(s, FV_ERROR_SHAPE, "axis %d is not one of the %d axes of %s", *axis, shape->rank,
                          FV_TEXT(shape));
    *axis = (int32_t)number;
    return FV_OK;
}

int fv_check_activation(fv_signature *s, int32_t activation, float alpha) {
    if (activation >= FV_LINEAR && activation < FV_ACTIVATION_COUNT && fv_activations[activation].elementwise)
        return fv_check_range(s, "alpha", alpha, 0, FLT_MAX);
    return fv_op_fail(s, FV_ERROR_ARGUMENT, "activation %d is not an elementwise one", activation);
}

int fv_set_output(fv_signature *s, int32_t output, fv_type type, int32_t rank, const int64_t *dims) {
    char what[128];
    bool named = s->layer && *s->layer;
    snprintf(what, sizeof what, "%s%s%s", fv_op_name(s->op), named ? " " : "", named ? s->layer : "");
    s->output_type[output] = type;
    return fv_shape_make(s->context, what, rank, dims, &s->output[output]);
}

int fv_set_output_like(fv_signature *s, int32_t output, fv_type type, const fv_shape *shape) {
    return fv_set_output(s, output, type, shape->rank, shape->dim);
}

int fv_infer_same(fv_signature *s) {
    for (int32_t i = 0; i < s->input_count; i++) {
        FV_TRY(fv_check_type(s, i, i ? "second operand" : "input", FV_F32));
        FV_TRY(fv_check_shape(s, i, "second operand", s->input[0], "the first"));
    }
    return fv_set_output_like(s, 0, FV_F32, s->input[0]);
}

/* ---- Cost -------------------------------------------------------------------------------------------------------- */

double fv_cost_elements(const fv_shape *shape) { return (double)fv_shape_elements(shape); }

double fv_cost_bytes(const fv_signature *s) {
    double bytes = 0;
    for (int32_t i = 0; i < s->input_count; i++)
        if (s->input[i]) bytes += fv_cost_elements(s->input[i]) * (double)fv_type_bytes(s->input_type[i]);
    for (int32_t o = 0; o < fv_op_table[s->op]->outputs; o++)
        bytes += fv_cost_elements(&s->output[o]) * (double)fv_type_bytes(s->output_type[o]);
    return bytes;
}

void fv_cost_moved(const fv_signature *s, fv_cost *cost) {
    cost->bytes = 2 * fv_cost_elements(&s->output[0]) * (double)fv_type_bytes(s->output_type[0]);
}
