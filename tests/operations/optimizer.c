/* optimizer.c - optimisers over the regions of a store. p20,7,33 lays parameters of these lengths into regions, each at a
 * multiple of 16 elements. */
#include "support/operations.h"
#include <math.h>

typedef struct layout {
    int count;
    int64_t length[8], offset[8], elements;
} layout;

static layout layout_words(const problem *p) {
    const fv_shape lengths = shape_word(p, "p", 0);
    layout l = { .count = lengths.rank < 0 ? 0 : lengths.rank };
    for (int i = 0; i < l.count; i++) {
        l.length[i] = lengths.dim[i];
        l.offset[i] = l.elements;
        l.elements += (l.length[i] + 15) / 16 * 16;
    }
    return l;
}

static void add_segments(problem *p, const layout *l) {
    fv_segment segment[8] = { { 0 } };
    for (int i = 0; i < l->count; i++)
        segment[i] = (fv_segment){ .offset = l->offset[i],
                                   .length = l->length[i],
                                   .layer = i,
                                   .rate = i == 1 ? (float)number(p, "factor", 0, 1) : 1,
                                   .decay = i == 0 ? (float)number(p, "decay_factor", 0, 1) : 1,
                                   .frozen = has_word(p, "frozen") && whole(p, "frozen", 0, 0) == i };
    const size_t bytes = (size_t)l->count * sizeof *segment;
    operand *o = given(p, "segments", FV_U8, SHAPE((int64_t)bytes));
    for (size_t b = 0; b < bytes; b++) o->value[b] = ((const unsigned char *)segment)[b];
}

/* Operands that lie in input `region`, one a parameter; missing1 leaves out the second. */
static void add_parts(problem *p, const layout *l, const char *name, int region) {
    for (int i = 0; i < l->count; i++) {
        if (has_word(p, "missing") && whole(p, "missing", 0, 0) == i) continue;
        operand *o = given(p, name, FV_F32, SHAPE(l->length[i]));
        o->within = region + 1;
        o->offset = l->offset[i];
    }
}

/* What is between the parameters belongs to nobody: kernels must neither use nor change it. */
static void spoil_gaps(operand *o, const layout *l) {
    for (int i = 0; i < l->count; i++) {
        const int64_t end = i + 1 < l->count ? l->offset[i + 1] : l->elements;
        for (int64_t e = l->offset[i] + l->length[i]; e < end; e++) o->value[e] = 1e30f;
    }
}

static void add_update_inputs(problem *p, const layout *l) {
    const bool adam = is(p, "adam_update");
    add_control(p);
    if (has_word(p, "rates")) {
        operand *rates = given(p, "rates", FV_F32, SHAPE(whole(p, "rates", 0, 1)));
        for (int64_t i = 0; i < rates->shape.dim[0]; i++) rates->value[i] = (float)(0.1 / (double)(1 + i));
    } else {
        add_absent(p, "rates");
    }
    add_segments(p, l);
    if (has_word(p, "norm"))
        given(p, "norm", FV_F32, SHAPE(1))->value[0] = (float)number(p, "norm", 0, 1);
    else
        add_absent(p, "norm");

    const int region = p->input_count;
    const char *const regions[] = { "gradients", "parameters", "slot0", "slot1" };
    for (int i = 0; i < 3 + adam; i++) {
        if (i == 2 && !adam && number(p, "momentum", 0, 0) == 0) {
            add_absent(p, regions[i]);
            continue;
        }
        operand *o = add_input(p, regions[i], FV_F32, i == 3 ? FILL_POSITIVE : FILL_UNIFORM, SHAPE(l->elements));
        fill_operand(p, o);
        if (i == 0)
            for (int64_t e = 0; e < l->elements; e++) o->value[e] = (float)(o->value[e] * number(p, "steep", 0, 1));
        spoil_gaps(o, l);
    }
    add_parts(p, l, "gradient", region);
}

static void update_attributes(problem *p) {
    fv_update_attributes *a = &p->attributes.update;
    const bool adam = is(p, "adam_update");
    a->kind = !adam ? FV_OPTIMIZER_SGD : has_word(p, "decoupled") ? FV_OPTIMIZER_ADAMW : FV_OPTIMIZER_ADAM;
    a->value[FV_RATE] = (float)number(p, "rate", 0, 0.1);
    a->value[FV_DECAY] = (float)number(p, "decay", 0, 0);
    a->value[FV_DECOUPLED] = has_word(p, "decoupled");
    if (adam) {
        a->value[FV_BETA1] = (float)number(p, "beta", 0, 0.9);
        a->value[FV_BETA2] = has_word(p, "beta") ? (float)number(p, "beta", 1, 0.999) : 0.999f;
        a->value[FV_EPSILON] = (float)number(p, "epsilon", 0, 1e-7);
    } else {
        a->value[FV_MOMENTUM] = (float)number(p, "momentum", 0, 0);
        a->value[FV_NESTEROV] = has_word(p, "nesterov");
    }
    a->clip_value = (float)number(p, "clip", 0, 0);
    a->clip_norm = (float)number(p, "longest", 0, 0);
}

/* check_gradients p20,7 nan1 inf1 badloss noloss - sgd_update p20,7 rate rates momentum nesterov decay decoupled clip
 * longest (the norm to clip at) norm (as measured) frozen missing factor nonfinite - adam_update likewise,
 * beta0.9,0.999 - commit p5,7 nonfinite - advance batch_only nonfinite */
static int build_optimizer(fv_context *context, problem *p) {
    (void)context;
    const layout l = layout_words(p);
    if (is(p, "sgd_update") || is(p, "adam_update")) {
        update_attributes(p);
        add_update_inputs(p, &l);
        return 0;
    }
    add_control(p);
    if (is(p, "advance")) {
        p->attributes.advance.batch_only = has_word(p, "batch_only");
    } else if (is(p, "commit")) {
        operand *next;
        spoil_gaps(given(p, "statistics", FV_F32, SHAPE(l.elements)), &l);
        fill_operand(p, next = add_input(p, "next", FV_F32, FILL_UNIFORM, SHAPE(l.elements)));
        spoil_gaps(next, &l);
        add_parts(p, &l, "statistic", 2);
    } else {
        if (has_word(p, "noloss"))
            add_absent(p, "loss");
        else
            given(p, "loss", FV_F32, (fv_shape){ 0 })->value[0] = has_word(p, "badloss") ? NAN : 1.5;
        for (int i = 0; i < l.count; i++) {
            operand *g = add_input(p, "gradient", FV_F32, FILL_UNIFORM, SHAPE(l.length[i]));
            fill_operand(p, g);
            for (int64_t e = 0; e < l.length[i]; e++) g->value[e] = (float)(g->value[e] * number(p, "steep", 0, 1));
            if (has_word(p, "nan") && whole(p, "nan", 0, 0) == i) g->value[l.length[i] - 1] = NAN;
            if (has_word(p, "inf") && whole(p, "inf", 0, 0) == i) g->value[0] = -INFINITY;
            p->terms += l.length[i];
        }
    }
    return 0;
}

/* Old and new value, and the gradient that moved it; what lies between the parameters stays. */
static void magnitude_update(const problem *p, double *const *output, double *const *magnitude) {
    const double *g = values(p, "gradients");
    for (int o = 0; o < p->output_count; o++) {
        const double *old = p->input[written_input(p->op, o)].value;
        for (int64_t i = 0; magnitude[o] && i < elements_of(&p->output[o]); i++) {
            const double pulled = fabs(g[i]) < 1e20 ? fabs(g[i]) : 0;
            magnitude[o][i] = old[i] == output[o][i] ? 0 : fabs(old[i]) + fabs(output[o][i]) + pulled + pulled * pulled;
        }
    }
}

RULE(check_gradients, .build = build_optimizer, .bound = BOUND_ABSOLUTE,
     .rows = { ROWS("p2", "p15,16,17", "p64 nan0", "p3,3,3 inf2", "p7 badloss", "p100 steep0.001", "p129",
                    "p20,7 nonfinite noloss", "p20,7,33", "p1", "p100 noloss", "p20,7 nan1", "p20,7 inf0",
                    "p20,7 badloss", "p20,7 nonfinite", "p1000,16,17", "p5,3 steep1000", "p40,3 drop1",
                    "p31 nan0 noloss", "p100003,5,70001 large", "p100003,5,70001 nan2 large") },
     .performance = ROWS("p400000,100"));

RULE(sgd_update, .build = build_optimizer, .bound = BOUND_OWN, .magnitude = magnitude_update,
     .rows = { ROWS("p15 momentum0.5", "p16", "p17 nesterov momentum0.9", "p1,1,1", "p20,7,33", "p1 rate0.01",
                    "p100,16 momentum0.9", "p20,7,33 momentum0.9 nesterov", "p20,7 decay0.1",
                    "p20,7 decay0.1 decoupled momentum0.5", "p20,7 clip0.25 steep3", "p20,7 longest1 norm4 steep3",
                    "p20,7 longest5 norm4", "p20,7,33 frozen1 momentum0.9", "p20,7,33 missing1 momentum0.9",
                    "p20,7 rates5 batch7", "p20,7 rates1 batch3", "p20,7 nonfinite momentum0.9",
                    "p20,7,9 factor0.1 decay_factor0 decay0.2",
                    "p500,3,129,65 momentum0.9 nesterov decay0.01 clip0.5 longest2 norm3 rates4 batch2 factor2 frozen2",
                    "p100003,5,70001 momentum0.9 nesterov decay0.01 large", "p100003,5,70001 frozen0 clip0.5 large") },
     .performance = ROWS("p400000,100 momentum0.9"));

RULE(adam_update, .build = build_optimizer, .bound = BOUND_OWN, .magnitude = magnitude_update,
     .rows = { ROWS("p15", "p16 step3", "p17 decay0.1", "p1,1,1", "p20,7,33", "p1 step0", "p100,16 step1000",
                    "p20,7 decay0.1", "p20,7 decay0.1 decoupled", "p20,7 clip0.25 steep3", "p20,7 longest1 norm4",
                    "p20,7,33 frozen1", "p20,7,33 missing1", "p20,7 rates5 batch7", "p20,7 nonfinite",
                    "p20,7,9 factor0.1 decay_factor0 decay0.2 decoupled", "p20,7 beta0.5,0.9 epsilon0.01 step1",
                    "p500,3,129,65 decay0.01 clip0.5 longest2 norm3 rates4 batch2 step20", "p33 beta0,0 step5",
                    "p20 step5000000000", "p100003,5,70001 decay0.01 decoupled large") },
     .performance = ROWS("p400000,100"));

RULE(commit, .build = build_optimizer, .bound = BOUND_EXACT,
     .rows = { ROWS("p2", "p15", "p17", "p31,33", "p64 nonfinite", "p20,7,33 missing0", "p20,7,33 missing2",
                    "p1,1,1,1,1,1,1,1", "p128", "p5,17,100", "p1000,3", "p5,17", "p1", "p16,16,16", "p5,17 nonfinite",
                    "p20,7,33 missing1", "p100", "p3,3,3,3", "p257,1", "p50003,4096 large") });

RULE(advance, .build = build_optimizer, .bound = BOUND_EXACT,
     .rows = { ROWS("step1", "batch1", "batch63", "epoch1", "step7 batch7", "step4294967296", "batch_only batch1",
                    "batch_only step5", "nonfinite batch3 step3", "epoch100 step100", "batch4294967295", "seed3,4", "",
                    "batch_only", "nonfinite", "batch_only nonfinite", "step4294967295", "batch9 step9",
                    "batch4294967295 batch_only", "epoch3 batch1") });
