/* judge.c - is a result right? Componentwise: |result - oracle| <= 8 u sqrt(terms) magnitude, u = 2^-24, where terms
 * is the length of the sum behind an element and magnitude is what that sum is when nothing cancels. Exact where
 * nothing is rounded. Infinities and NaN must be the oracle's. */
#include "core/half.h"
#include "support/operations.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double UNIT = 0x1p-24;

/* The operation on absolute values: what it would be if nothing cancelled. */
static int absolute_magnitude(fv_context *c, const problem *p, double **magnitude, char *why) {
    problem copy = *p;
    if (p->op == FV_OP_conv2d_bias_activation || p->op == FV_OP_conv2d_transpose_bias_activation)
        copy.attributes.conv.activation = FV_LINEAR;
    if (p->op == FV_OP_dense_bias_activation) copy.attributes.dense.activation = FV_LINEAR;
    for (int i = 0; i < p->input_count; i++) {
        operand *o = &copy.input[i];
        if (o->absent || o->within) continue;
        const int64_t elements = fv_shape_elements(&o->shape);
        o->value = malloc((size_t)(elements + 1) * sizeof *o->value);
        for (int64_t e = 0; e < elements; e++)
            o->value[e] = o->type == FV_F32 ? fabs(p->input[i].value[e]) : p->input[i].value[e];
    }
    const int status = run_oracle(c, &copy, magnitude, why);
    for (int i = 0; i < p->input_count; i++)
        if (copy.input[i].value != p->input[i].value) free(copy.input[i].value);
    return status;
}

static int find_magnitude(fv_context *c, const problem *p, double *const *oracle, double **magnitude, char *why) {
    const op_rule *rule = op_rules[p->op];
    if (rule->bound == BOUND_ABSOLUTE && absolute_magnitude(c, p, magnitude, why)) return -1;
    for (int o = 0; o < p->output_count && rule->bound != BOUND_ABSOLUTE; o++) {
        if (p->output[o].absent) continue;
        const int64_t elements = fv_shape_elements(&p->output[o].shape);
        magnitude[o] = calloc((size_t)elements + 1, sizeof(double));
        if (rule->bound == BOUND_ROUNDED)
            for (int64_t i = 0; i < elements; i++) magnitude[o][i] = fabs(oracle[o][i]);
    }
    if (rule->bound == BOUND_OWN) rule->magnitude(p, oracle, magnitude);
    /* The activation rounds as well: sigmoid(0) is 0.5. No slope is much above 1 but that of exp, its result. */
    const bool steep = has_word(p, "exponential");
    if (fv_op_table[p->op]->flags & FV_FUSED)
        for (int64_t i = 0; magnitude[0] && i < fv_shape_elements(&p->output[0].shape); i++)
            magnitude[0][i] = magnitude[0][i] * (steep ? fmax(1, fabs(oracle[0][i])) : 1) + fabs(oracle[0][i]);
    return 0;
}

static double rounded_half(fv_type half, double x) {
    return half == FV_BF16 ? (double)fv_from_bf16(fv_to_bf16((float)x)) : (double)fv_from_f16(fv_to_f16((float)x));
}

/* What an output in 16 bits may differ by more: half a unit of its last place, f16's subnormal numbers; a filter's gradient that a
 * library gives in 16 bits; in a fused operation the bias and what the activation is taken of, which are rounded as well. */
static double half_slack(const problem *p, int o, double oracle, double magnitude) {
    if (p->half == FV_F32) return 0;
    const bool rounded = fv_precision_rules[p->op].outputs >> o & 1 || fv_precision_rules[p->op].lowers;
    const bool fused = fv_op_table[p->op]->flags & FV_FUSED && fv_precision_rules[p->op].lowers;
    const double unit = p->half == FV_BF16 ? 0x1.01p-8 : 0x1.01p-11;
    return rounded ? unit * (fabs(oracle) + (fused ? 2 * magnitude : 0)) + (p->half == FV_F16 ? 0x1p-25 : 0) : 0;
}

/* Error as a part of the bound; above 1: wrong. */
static double error_part(double result, double oracle, double bound) {
    if (isnan(oracle)) return isnan(result) ? 0 : INFINITY;
    if (isinf(oracle)) return result == oracle ? 0 : INFINITY;
    const double error = fabs(result - oracle);
    if (!isfinite(error)) return fabs(oracle) + bound > FLT_MAX ? 0 : INFINITY; /* beyond what f32 holds */
    if (error == 0) return 0;
    return isnan(bound) ? INFINITY : error / (bound + 0x1p-125); /* what is denormal may be lost */
}

static double exact_part(const problem *p, int o, double result, double oracle) {
    const bool half = p->half != FV_F32 && fv_precision_rules[p->op].outputs >> o & 1;
    if (isnan(oracle)) return isnan(result) ? 0 : INFINITY;
    if (p->output[o].type != FV_F32) return result == oracle ? 0 : INFINITY;
    return result == (half ? rounded_half(p->half, oracle) : (double)(float)oracle) ? 0 : INFINITY;
}

static void describe_place(const fv_shape *shape, int64_t i, char *text, size_t bytes) {
    int64_t at[FV_RANK];
    for (int axis = shape->rank - 1; axis >= 0; axis--) {
        at[axis] = i % shape->dim[axis];
        i /= shape->dim[axis];
    }
    size_t used = (size_t)snprintf(text, bytes, "[");
    for (int axis = 0; axis < shape->rank && used < bytes; axis++)
        used += (size_t)snprintf(text + used, bytes - used, axis ? ",%lld" : "%lld", (long long)at[axis]);
    if (used < bytes) snprintf(text + used, bytes - used, "]");
}

static bool judge_output(const problem *p, int o, const double *result, const double *oracle, const double *magnitude,
                         judgement *j) {
    const operand *out = &p->output[o];
    const bool exact = op_rules[p->op]->bound == BOUND_EXACT || out->type != FV_F32;
    const double factor = 8 * UNIT * (op_rules[p->op]->bound == BOUND_ROUNDED ? 1 : sqrt((double)p->terms));
    int64_t wrong = 0;
    for (int64_t i = 0; i < fv_shape_elements(&out->shape); i++) {
        const double bound = exact ? 0 : factor * magnitude[i] + half_slack(p, o, oracle[i], magnitude[i]);
        const bool beyond = p->half == FV_F16 && isinf(result[i]) && fabs(oracle[i]) + bound >= 65504;
        const double part = beyond  ? 0
                            : exact ? exact_part(p, o, result[i], oracle[i])
                                    : error_part(result[i], oracle[i], bound);
        if (part > j->worst) j->worst = part;
        if (part <= 1 || wrong++) continue;
        char place[80];
        describe_place(&out->shape, i, place, sizeof place);
        snprintf(j->why, sizeof j->why, "output %d%s is %.9g, not %.9g +- %.2g", o, place, result[i], oracle[i],
                 bound);
    }
    if (wrong > 1) {
        const size_t used = strlen(j->why);
        snprintf(j->why + used, sizeof j->why - used, " (and %lld more)", (long long)wrong - 1);
    }
    return !wrong;
}

bool judge(fv_context *c, const problem *p, double *const *result, judgement *j) {
    double *oracle[MOST_OUTPUTS] = { 0 }, *magnitude[MOST_OUTPUTS] = { 0 };
    char why[1200] = "";
    *j = (judgement){ 0 };
    bool good = !run_oracle(c, p, oracle, why) && !find_magnitude(c, p, oracle, magnitude, why);
    if (!good) snprintf(j->why, sizeof j->why, "the oracle: %s", why);
    for (int o = 0; o < p->output_count && good; o++)
        if (!p->output[o].absent) good = judge_output(p, o, result[o], oracle[o], magnitude[o], j);
    free_results(oracle);
    free_results(magnitude);
    return good;
}

bool check_problem(fv_context *oracle, fv_context *device, const fv_kernel *kernel, const problem *p, judgement *j,
                   outcome *out) {
    double *result[MOST_OUTPUTS] = { 0 };
    char why[1200] = "";
    *j = (judgement){ 0 };
    *out = run_problem(device, kernel, p, result, why);
    bool good = *out == RAN && judge(oracle, p, result, j);
    if (*out != RAN) snprintf(j->why, sizeof j->why, "%s", why);
    free_results(result);
    return good;
}

bool check_half(fv_context *oracle, fv_context *device, problem *p, fv_type half, judgement *j, outcome *out) {
    double *result[MOST_OUTPUTS] = { 0 };
    char why[1200] = "";
    *j = (judgement){ 0 };
    p->half = half;
    problem own = *p; /* as the device has it; the values are the same */
    for (int i = 0; i < p->input_count; i++) {
        if (p->input[i].type != FV_F32 || p->input[i].absent || !fv_precision_may(p->op, i)) continue;
        own.input[i].type = half;
        own.input[i].number = true;
        for (int64_t e = 0; e < fv_shape_elements(&p->input[i].shape); e++)
            p->input[i].value[e] = rounded_half(half, p->input[i].value[e]);
    }
    for (int o = 0; o < p->output_count; o++)
        if (fv_precision_rules[p->op].outputs >> o & 1) own.output[o].type = half, own.output[o].number = true;
    *out = run_problem(device, NULL, &own, result, why);
    const bool good = *out == RAN && judge(oracle, p, result, j);
    if (*out != RAN) snprintf(j->why, sizeof j->why, "%s", why);
    free_results(result);
    return good;
}
