/* gradient.c - the gradient that fv_backward records for an operation against central differences in double precision.
 * The loss is the sum of the output's elements with random weights, so that every output element takes part. */
#include "support/operations.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PROBED = 24 }; /* elements of each input whose difference is taken */

static const double STEP = 1e-5, ALLOWED = 1e-6;

typedef struct trial {
    fv_context *context;
    problem *problem;
    fv_tape *tape;
    fv_value input[MOST_OPERANDS], loss;
    int32_t forward;     /* operations up to the loss */
    double **value;
    judgement *judgement;
} trial;

static bool fail(trial *t, const char *what) {
    const char *error = fv_error(t->context);
    snprintf(t->judgement->why, sizeof t->judgement->why, "%s: %s", what, error ? error : "without an error");
    fv_clear_error(t->context);
    return false;
}

static bool probed(const trial *t, int i) {
    const operand *o = &t->problem->input[i];
    return op_rules[t->problem->op]->differentiable >> i & 1 && !o->absent && o->type == FV_F32;
}

static fv_value random_weights(trial *t, const fv_shape *shape) {
    const int64_t elements = fv_shape_elements(shape);
    float *weight = calloc((size_t)elements + 1, sizeof *weight);
    fv_random r = fv_random_make(t->problem->seed, 99);
    for (int64_t i = 0; i < elements; i++) weight[i] = (float)(fv_random_uniform(&r) * 2 - 1);
    fv_value v = fv_op_constant(t->tape, shape->dim, shape->rank, weight);
    free(weight);
    return v;
}

static bool record(trial *t) {
    const problem *p = t->problem;
    for (int i = 0; i < p->input_count; i++) {
        const operand *o = &p->input[i];
        if (o->absent) continue;
        t->input[i] = fv_op_input(t->tape, o->shape.dim, o->shape.rank, o->type);
        if (probed(t, i) && fv_watch(t->tape, t->input[i])) return fail(t, "fv_watch");
    }
    const fv_value y = fv_tape_apply(t->tape, p->op, &p->attributes, t->input, p->input_count);
    if (!y.id) return fail(t, "recording the operation");
    const fv_shape shape = fv_tape_value_of(t->tape, y)->shape;
    t->loss = fv_op_sum(t->tape, fv_op_mul(t->tape, y, random_weights(t, &shape)), NULL, 0, false);
    t->forward = t->tape->operation_count;
    return fv_backward(t->tape, t->loss) == FV_OK || fail(t, "fv_backward");
}

static bool run(trial *t, int32_t count) {
    char why[1200];
    if (!run_tape(t->context, t->tape, 0, count, t->value, why)) return true;
    snprintf(t->judgement->why, sizeof t->judgement->why, "%s", why);
    return false;
}

static double loss_at(trial *t, double *element, double x) {
    const double old = *element;
    *element = x;
    const bool good = run(t, t->forward);
    *element = old;
    return good ? t->value[t->loss.id][0] : NAN;
}

static bool compare_input(trial *t, int i) {
    const problem *p = t->problem;
    const fv_value g = fv_gradient(t->tape, t->input[i]);
    if (!g.id) return fail(t, "an input has no gradient");
    if (!fv_shape_equal(&fv_tape_value_of(t->tape, g)->shape, &p->input[i].shape))
        return fail(t, "the gradient has another shape");

    const int64_t elements = fv_shape_elements(&p->input[i].shape);
    const int64_t stride = elements > MOST_PROBED ? elements / MOST_PROBED + 1 : 1;
    double scale = 1e-3; /* so that gradients of zero have something to be compared with */
    for (int64_t e = 0; e < elements; e++) scale = fmax(scale, fabs(t->value[g.id][e]));
    for (int64_t e = 0; e < elements; e += stride) {
        double *x = &t->value[t->input[i].id][e];
        const double above = loss_at(t, x, *x + STEP), below = loss_at(t, x, *x - STEP);
        const double difference = (above - below) / (2 * STEP), recorded = t->value[g.id][e];
        const double error = fabs(difference - recorded) / scale;
        if (error > t->judgement->worst) t->judgement->worst = error;
        if (error <= ALLOWED) continue;
        snprintf(t->judgement->why, sizeof t->judgement->why,
                 "the gradient of input %d (%s), element %lld, is %.9g where differences give %.9g", i,
                 p->input[i].name, (long long)e, recorded, difference);
        return false;
    }
    return true;
}

static bool compare(trial *t) {
    const problem *p = t->problem;
    t->value = tape_values(t->tape);
    for (int i = 0; i < p->input_count; i++)
        if (!p->input[i].absent)
            memcpy(t->value[t->input[i].id], p->input[i].value,
                   (size_t)fv_shape_elements(&p->input[i].shape) * sizeof(double));
    if (!run(t, t->tape->operation_count)) return false;
    for (int i = 0; i < p->input_count; i++)
        if (probed(t, i) && !compare_input(t, i)) return false;
    return true;
}

bool check_gradient(fv_context *c, const char *text, uint64_t seed, judgement *j) {
    *j = (judgement){ 0 };
    trial t = { .context = c, .judgement = j };
    bool good = !problem_make(c, text, seed, true, &t.problem);
    if (!good) snprintf(j->why, sizeof j->why, "%s", t.problem ? t.problem->error : "out of memory");
    if (good) {
        t.tape = fv_tape_new(c);
        good = record(&t) && compare(&t);
        free_tape_values(t.tape, t.value);
        fv_tape_free(t.tape);
    }
    problem_free(t.problem);
    return good;
}
