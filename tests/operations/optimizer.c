/* optimizer.c - optimisers over the regions of a store. p20,7,33 lays parameters of these lengths into regions, each at a
 * multiple of 16 elements. */
#include "support/operations.h"
#include <math.h>
#include <string.h>

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
        const int64_t rows = whole(p, "rows", 0, 1), length = l->length[i];
        operand *o = given(p, name, FV_F32, rows > 1 && length % rows == 0 ? SHAPE(rows, length / rows) : SHAPE(length));
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
    const int slots = fv_op_table[p->op]->outputs - 1;
    const uint32_t needed = fv_optimizer_slots(p->attributes.update.kind, p->attributes.update.value);
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
    const char *const regions[] = { "gradients", "parameters", "slot0", "slot1", "slot2" };
    const bool squares_first = !is(p, "adam_update") && !is(p, "lamb_update") && !is(p, "muon_update");
    for (int i = 0; i < 2 + slots; i++) {
        if (i >= 2 && !(needed >> (i - 2) & 1)) {
            add_absent(p, regions[i]);
            continue;
        }
        /* means of squares are positive; that of g, which RMSprop keeps last, is smaller than its squares allow */
        const bool squares = i == (squares_first ? 2 : 3) || (is(p, "adadelta_update") && i == 3), last = i == 4;
        operand *o = add_input(p, regions[i], FV_F32, squares || last ? FILL_POSITIVE : FILL_UNIFORM, SHAPE(l->elements));
        fill_operand(p, o);
        const double factor = i == 0 ? number(p, "steep", 0, 1) : last && squares_first ? 0.25 : 1;
        for (int64_t e = 0; e < l->elements; e++) o->value[e] = (float)(o->value[e] * factor);
        spoil_gaps(o, l);
    }
    add_parts(p, l, "gradient", region);
}

static void update_attributes(problem *p) {
    fv_update_attributes *a = &p->attributes.update;
    for (uint32_t kind = FV_OPTIMIZER_COUNT - 1; kind; kind--)
        if (fv_optimizer_kinds[kind].update == p->op) a->kind = kind;
    if (is(p, "adam_update") && has_word(p, "decoupled")) a->kind = FV_OPTIMIZER_ADAMW;
    const struct {
        const char *op, *word;
        int index, entry;
        double otherwise;
    } setting[] = {
        { "", "rate", FV_RATE, 0, 0.1 },
        { "", "decay", FV_DECAY, 0, 0 },
        { "", "decoupled", FV_DECOUPLED, 0, 0 },
        { "sgd_update", "momentum", FV_MOMENTUM, 0, 0 },
        { "sgd_update", "nesterov", FV_NESTEROV, 0, 0 },
        { "adam_update", "beta", FV_BETA1, 0, 0.9 },
        { "adam_update", "beta", FV_BETA2, 1, 0.999 },
        { "adam_update", "epsilon", FV_EPSILON, 0, 1e-7 },
        { "adam_update", "amsgrad", FV_AMSGRAD, 0, 0 },
        { "rmsprop_update", "rho", FV_RHO, 0, 0.99 },
        { "rmsprop_update", "momentum", FV_MOMENTUM, 0, 0 },
        { "rmsprop_update", "centered", FV_CENTERED, 0, 0 },
        { "rmsprop_update", "epsilon", FV_EPSILON, 0, 1e-8 },
        { "adagrad_update", "slower", FV_RATE_DECAY, 0, 0 },
        { "adagrad_update", "initial", FV_INITIAL, 0, 0 },
        { "adagrad_update", "epsilon", FV_EPSILON, 0, 1e-10 },
        { "adadelta_update", "rho", FV_RHO, 0, 0.9 },
        { "adadelta_update", "epsilon", FV_EPSILON, 0, 1e-6 },
        { "lion_update", "beta", FV_BETA1, 0, 0.9 },
        { "lion_update", "beta", FV_BETA2, 1, 0.99 },
        { "lamb_update", "beta", FV_BETA1, 0, 0.9 },
        { "lamb_update", "beta", FV_BETA2, 1, 0.999 },
        { "lamb_update", "epsilon", FV_EPSILON, 0, 1e-6 },
        { "lars_update", "momentum", FV_MOMENTUM, 0, 0 },
        { "lars_update", "trust", FV_TRUST, 0, 0.5 },
        { "lars_update", "epsilon", FV_EPSILON, 0, 1e-8 },
        { "muon_update", "beta", FV_BETA1, 0, 0.9 },
        { "muon_update", "beta", FV_BETA2, 1, 0.95 },
        { "muon_update", "epsilon", FV_EPSILON, 0, 1e-6 },
        { "muon_update", "adam", FV_ADAM_RATIO, 0, 0.1 },
        { "muon_update", "momentum", FV_MUON_MOMENTUM, 0, 0.95 },
        { "muon_update", "plain", FV_MUON_PLAIN, 0, 0 },
        { "muon_update", "steps", FV_MUON_STEPS, 0, 5 },
    };
    for (size_t i = 0; i < sizeof setting / sizeof *setting; i++)
        if (!*setting[i].op || is(p, setting[i].op))
            a->value[setting[i].index] = (float)(has_word(p, setting[i].word) ? number(p, setting[i].word, setting[i].entry, 0)
                                                                             : setting[i].otherwise);
    a->clip_value = (float)number(p, "clip", 0, 0);
    a->clip_norm = (float)number(p, "longest", 0, 0);
}

/* check_gradients p20,7 nan1 inf1 badloss noloss - sgd_update p20,7 rate rates momentum nesterov decay decoupled clip
 * longest (the norm to clip at) norm (as measured) frozen missing factor nonfinite - adam_update likewise,
 * beta0.9,0.999; rows4: gradients are matrices - commit p5,7 nonfinite - advance batch_only nonfinite */
static int build_optimizer(fv_context *context, problem *p) {
    (void)context;
    const layout l = layout_words(p);
    if (strstr(fv_op_name(p->op), "_update")) {
        update_attributes(p);
        add_update_inputs(p, &l);
        return 0;
    }
    add_control(p);
    if (is(p, "loss_scale")) return 0;
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

/* Old and new value, and the gradient that moved it; what lies between the parameters stays. Muon's five rounds multiply
 * small singular values, and their errors, by 3.44 each. */
static void magnitude_update(const problem *p, double *const *output, double *const *magnitude) {
    const double *g = values(p, "gradients"), rate = p->attributes.update.value[FV_RATE];
    const double more = is(p, "muon_update") ? 500 * rate : 0;
    for (int o = 0; o < p->output_count; o++) {
        if (!magnitude[o]) continue;
        const double *old = p->input[written_input(p->op, o)].value;
        for (int64_t i = 0; i < elements_of(&p->output[o]); i++) {
            const double pulled = fabs(g[i]) < 1e20 ? fabs(g[i]) : 0, moved = fabs(old[i]) + fabs(output[o][i]);
            magnitude[o][i] = old[i] == output[o][i] ? 0 : moved + pulled + pulled * pulled + (o ? 0 : more);
        }
    }
}

RULE(check_gradients, .build = build_optimizer, .bound = BOUND_ABSOLUTE,
     .rows = { ROWS("p2", "p15,16,17", "p64 nan0", "p3,3,3 inf2", "p7 badloss", "p100 steep0.001", "p129",
                    "p20,7 nonfinite noloss", "p20,7,33", "p1", "p100 noloss", "p20,7 nan1", "p20,7 inf0",
                    "p20,7 badloss", "p20,7 nonfinite", "p1000,16,17", "p5,3 steep1000", "p40,3 drop1",
                    "p31 nan0 noloss", "p20,7 lossscale256 steep256",
                    "p20,7 nan1 lossscale256", "p20,7 inf0 lossscale256 good9", "p20,7 badloss lossscale256",
                    "p20,7 badloss nan1 lossscale256", "p20,7 inf1 lossscale0.0000000596046447753906",
                    "p100003,5,70001 large", "p100003,5,70001 nan2 large") },
     .performance = ROWS("p400000,100"));

RULE(sgd_update, .build = build_optimizer, .bound = BOUND_OWN, .magnitude = magnitude_update,
     .rows = { ROWS("p15 momentum0.5", "p16", "p17 nesterov momentum0.9", "p1,1,1", "p20,7,33", "p1 rate0.01",
                    "p100,16 momentum0.9", "p20,7,33 momentum0.9 nesterov", "p20,7 decay0.1",
                    "p20,7 decay0.1 decoupled momentum0.5", "p20,7 clip0.25 steep3", "p20,7 longest1 norm4 steep3",
                    "p20,7 longest5 norm4", "p20,7,33 frozen1 momentum0.9", "p20,7,33 missing1 momentum0.9",
                    "p20,7 rates5 batch7", "p20,7 rates1 batch3", "p20,7 nonfinite momentum0.9",
                    "p20,7,9 factor0.1 decay_factor0 decay0.2", "p20,7 skip momentum0.9",
                    "p20,7 lossscale1024 steep1024 momentum0.9", "p20,7 lossscale4096 steep4096 clip0.3 longest1 norm3",
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

/* What all updates have. */
static const char *const updates[] = { "p15", "p16 step3", "p17 decay0.1", "p1,1,1", "p20,7,33", "p1 step0", "p100,16 step1000",
                                       "p20,7 decay0.1 decoupled", "p20,7 clip0.25 steep3", "p20,7 longest1 norm4",
                                       "p20,7,33 frozen1", "p20,7,33 missing1", "p20,7 rates5 batch7", "p20,7 nonfinite",
                                       "p20,7,9 factor0.1 decay_factor0 decay0.2", "p33 step5",
                                       "p500,3,129,65 decay0.01 clip0.5 longest2 norm3 rates4 batch2 step20",
                                       "p100003,5,70001 decay0.01 large", NULL };

#define UPDATE(name, ...)                                                                                              \
    RULE(name, .build = build_optimizer, .bound = BOUND_OWN, .magnitude = magnitude_update,                            \
         .rows = { updates, ROWS(__VA_ARGS__) }, .performance = ROWS("p400000,100"))

UPDATE(rmsprop_update, "p20,7 momentum0.9", "p20,7 centered", "p20,7 centered momentum0.5 decay0.1", "p20,7 rho0.5 epsilon0.1");
UPDATE(adagrad_update, "p20,7 step0 initial0.1", "p20,7 step9 slower0.1", "p20,7 epsilon0.1");
UPDATE(adadelta_update, "p20,7 rate1", "p20,7 rho0.5 epsilon0.01", "p20,7 rho0");
UPDATE(lion_update, "p20,7 beta0.5,0.9", "p20,7 beta0,0", "p20,7 rate0.001 decay1 decoupled");
UPDATE(lamb_update, "p20,7 beta0.5,0.9 epsilon0.01 step1", "p16000,9 decay0.1", "p20,8 rows4 decay0.1");
UPDATE(lars_update, "p20,7 momentum0.9", "p20,8,9 rows4", "p20,8,9 rows4 momentum0.9 decay0.1 trust0.01",
       "p16000,9 rows8 decay0.1 momentum0.5", "p20,8 rows4 epsilon1");
UPDATE(muon_update, "p20,7 rows4", "p20,7 rows5 plain", "p64,9,5 rows8 momentum0.5 decay0.1", "p4096,64,7 rows64 rate0.02",
       "p33 rows33", "p120 rows3 steps1", "p1024 rows16 clip0.2", "p40000,600 rows200 large", "p17,34 rows17 frozen1",
       "p36864 rows64 decay0.01 large");

/* constrain x8,3,3,4 kind1 axes1,2,3 least most rate offset16 nonfinite : the weight of that shape at the offset */
static int build_constrain(fv_context *context, problem *p) {
    (void)context;
    const fv_shape x = shape_word(p, "x", 0), axes = shape_word(p, "axes", 0);
    fv_constrain_attributes *a = &p->attributes.constrain;
    *a = (fv_constrain_attributes){ .kind = (uint32_t)whole(p, "kind", 0, 1),
                                    .least = (float)number(p, "least", 0, 0),
                                    .most = (float)number(p, "most", 0, 1),
                                    .rate = (float)number(p, "rate", 0, 1),
                                    .rank = x.rank,
                                    .offset = whole(p, "offset", 0, 0) };
    for (int i = 0; i < x.rank; i++) a->dim[i] = x.dim[i], p->terms *= x.dim[i];
    for (int i = 0; i < axes.rank; i++) a->axes |= 1u << axes.dim[i];
    add_control(p);
    add_input(p, "parameters", FV_F32, FILL_UNIFORM, SHAPE(a->offset + fv_shape_elements(&x) + 5));
    return 0;
}

RULE(constrain, .build = build_constrain, .bound = BOUND_OWN, .magnitude = magnitude_output,
     .rows = { ROWS("x1 axes0", "x5 axes0", "x33 axes0 offset16", "x4,3 axes1", "x4,3 axes0 offset16", "x8,3,3,4 axes1,2,3",
                    "x8,3,3,4 axes1", "x8,3,3,4 axes2 offset32", "x8,3,3,4 axes3", "x8,3,3,4 axes0", "x8,3,3,4 axes0,2",
                    "x8,3,3,4 axes0,1,2,3 most0.5", "x8,1,1,20 axes1,2,3", "x6,5,5,1 axes1,2", "x17,33 axes1 least2 most3",
                    "x17,33 axes1 kind3 least1", "x17,33 axes0 least1 most2 rate0.5", "x64 kind2", "x17,33 kind2 offset3",
                    "x9,4 axes1 nonfinite", "x9,4 axes1 scale0", "x5,6 axes1 nan3", "x2,3,4,5,6 axes1,3", "x3,1,5 axes1",
                    "x300,1001 axes1 large", "x300,1001 axes0 large", "x100003 kind2 large"), NULL },
     .performance = ROWS("x512,3,3,512 axes1,2,3"));

RULE(commit, .build = build_optimizer, .bound = BOUND_EXACT,
     .rows = { ROWS("p2", "p15", "p17", "p31,33", "p64 nonfinite", "p20,7,33 missing0", "p20,7,33 missing2",
                    "p1,1,1,1,1,1,1,1", "p128", "p5,17,100", "p1000,3", "p5,17", "p1", "p16,16,16", "p5,17 nonfinite",
                    "p20,7,33 missing1", "p100", "p3,3,3,3", "p257,1", "p50003,4096 large") });

RULE(advance, .build = build_optimizer, .bound = BOUND_EXACT,
     .rows = { ROWS("step1", "batch1", "batch63", "epoch1", "step7 batch7", "step4294967296", "batch_only batch1",
                    "batch_only step5", "nonfinite batch3 step3", "epoch100 step100", "batch4294967295", "seed3,4", "",
                    "batch_only", "nonfinite", "batch_only nonfinite", "step4294967295", "batch9 step9",
                    "batch4294967295 batch_only", "epoch3 batch1", "skip batch3 step3", "skip lossscale1024 good7",
                    "lossscale1024 good7", "lossscale1024 good1999", "lossscale1024 good1999 skip", "nonfinite lossscale1024",
                    "lossscale0.25 good1998 batch_only") });

RULE(loss_scale, .build = build_optimizer, .bound = BOUND_EXACT,
     .rows = { ROWS("lossscale65536", "lossscale1", "", "lossscale0.5", "lossscale2 step5", "lossscale4 batch3", "lossscale8 nonfinite",
                    "lossscale16 skip", "lossscale32 good5", "lossscale64 epoch2", "lossscale128 seed3,4", "lossscale256",
                    "lossscale512", "lossscale1024", "lossscale2048", "lossscale0.125", "lossscale0.0000000596046447753906",
                    "lossscale16777216", "step9", "nonfinite", "skip", "lossscale1099511627776") });
