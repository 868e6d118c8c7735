/* sample_norm.c - what normalisation within a sample means: layer norm (Ba, Kiros & Hinton 2016), group norm (Wu & He
 * 2018; with as many groups as channels it is instance norm, Ulyanov et al. 2016), RMS norm (Zhang & Sennrich 2019) and
 * unit norm (division by the Euclidean length). Training and inference do the same: there are no running statistics. */
#include "ops/family.h"
#include <math.h>

/* What an operation of the family has: gamma; mean and beta. */
typedef struct form {
    bool gradient, scaled, centred, grouped;
    fv_op backward;
} form;

static form form_of(fv_op op) {
    switch ((int)op) {
    case FV_OP_layer_norm: return (form){ false, true, true, false, FV_OP_layer_norm_gradient };
    case FV_OP_layer_norm_gradient: return (form){ true, true, true, false, op };
    case FV_OP_group_norm: return (form){ false, true, true, true, FV_OP_group_norm_gradient };
    case FV_OP_group_norm_gradient: return (form){ true, true, true, true, op };
    case FV_OP_rms_norm: return (form){ false, true, false, false, FV_OP_rms_norm_gradient };
    case FV_OP_rms_norm_gradient: return (form){ true, true, false, false, op };
    case FV_OP_unit_norm: return (form){ false, false, false, false, FV_OP_unit_norm_gradient };
    default: return (form){ true, false, false, false, op };
    }
}

/* The shapes of gamma and beta, and of the statistics. */
static int shapes_of(fv_signature *s, bool grouped, fv_shape *weights, fv_shape *statistics) {
    fv_sample_norm_attributes *a = &s->attributes->sample_norm;
    const fv_shape *x = s->input[0];
    FV_TRY(fv_check_range(s, "epsilon", a->epsilon, 0, INFINITY));
    FV_TRY(fv_check_rank_least(s, 0, "input", grouped ? 2 : 1));
    if (grouped) {
        FV_TRY(fv_check_range(s, "groups", a->groups, 1, (double)fv_last(x)));
        if (fv_last(x) % a->groups)
            return fv_op_fail(s, FV_ERROR_SHAPE, "the %lld channels of %s do not make %d equal groups",
                              (long long)fv_last(x), FV_TEXT(x), a->groups);
        a->axes = 1;
        *statistics = (fv_shape){ .rank = 2, .dim = { x->dim[0], a->groups } };
    } else {
        if (!a->axes) a->axes = 1;
        FV_TRY(fv_check_range(s, "number of axes", a->axes, 1, x->rank));
        a->groups = 0;
        *statistics = (fv_shape){ .rank = x->rank - a->axes };
        for (int32_t i = 0; i < statistics->rank; i++) statistics->dim[i] = x->dim[i];
    }
    *weights = (fv_shape){ .rank = a->axes };
    for (int32_t i = 0; i < a->axes; i++) weights->dim[i] = x->dim[x->rank - a->axes + i];
    return FV_OK;
}

static int infer_forward(fv_signature *s) {
    const form f = form_of(s->op);
    fv_shape weights, statistics;
    FV_TRY(fv_check_f32(s, FV_NAMES("input", "gamma", "beta")));
    FV_TRY(shapes_of(s, f.grouped, &weights, &statistics));
    for (int32_t i = 1; i < s->input_count; i++)
        FV_TRY(fv_check_shape(s, i, i == 1 ? "gamma" : "beta", &weights, "what it scales"));
    for (int32_t o = 1; o <= 1 + f.centred; o++) FV_TRY(fv_set_output_like(s, o, FV_F32, &statistics));
    return fv_set_output_like(s, 0, FV_F32, s->input[0]);
}

static int infer_gradient(fv_signature *s) {
    const form f = form_of(s->op);
    fv_shape weights, statistics;
    FV_TRY(fv_check_f32(s, FV_NAMES("input", "output's gradient", "third operand", "fourth operand", "deviation")));
    FV_TRY(shapes_of(s, f.grouped, &weights, &statistics));
    FV_TRY(fv_check_shape(s, 1, "output's gradient", s->input[0], "the input"));
    if (f.scaled) FV_TRY(fv_check_shape(s, 2, "gamma", &weights, "what it scales"));
    for (int32_t i = 2 + f.scaled; i < s->input_count; i++)
        FV_TRY(fv_check_shape(s, i, i < s->input_count - 1 ? "mean" : "deviation", &statistics, "a statistic"));
    for (int32_t o = 1; o <= f.scaled + f.centred; o++) FV_TRY(fv_set_output_like(s, o, FV_F32, &weights));
    return fv_set_output_like(s, 0, FV_F32, s->input[0]);
}

FV_GRADIENT(norm_gradient) {
    const form f = form_of(tape->operation[operation].op);
    const int32_t inputs = 1 + f.scaled + f.centred;
    bool any = false;
    for (int32_t i = 0; i < inputs; i++) any |= wanted[i];
    if (!output_gradient[0].id || !any) return FV_OK;
    const fv_attributes a = fv_attributes_of(tape, operation);
    fv_value operand[5] = { fv_tape_input(tape, operation, 0), output_gradient[0] };
    int32_t count = 2;
    if (f.scaled) operand[count++] = fv_tape_input(tape, operation, 1);
    for (int32_t o = 1; o <= 1 + f.centred; o++) operand[count++] = fv_tape_output(tape, operation, o);
    const int32_t made = fv_tape_append(tape, f.backward, &a, operand, count);
    if (made < 0) return made;
    for (int32_t i = 0; i < inputs; i++)
        if (wanted[i]) input_gradient[i] = fv_tape_output(tape, made, i);
    return fv_tape_status(tape);
}

/* Two passes for the statistics, one for the result; the gradient sums twice as well. */
static void cost_norm(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ .flops = 8 * fv_cost_elements(s->input[0]), .bytes = fv_cost_bytes(s) };
}

#define NORM(NAME, GAMMA_BETA, GAMMA)                                                                                  \
    FV_DESC(NAME, sample_norm, .infer = infer_forward, .gradient = norm_gradient, .cost = cost_norm,                   \
            .optional = GAMMA_BETA);                                                                                   \
    FV_DESC(NAME##_gradient, sample_norm, .infer = infer_gradient, .cost = cost_norm, .optional = GAMMA)
NORM(layer_norm, 1 << 1 | 1 << 2, 1 << 2);
NORM(group_norm, 1 << 1 | 1 << 2, 1 << 2);
NORM(rms_norm, 1 << 1, 1 << 2);
NORM(unit_norm, 0, 0);
