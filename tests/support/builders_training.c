/* builders_training.c - from words to attributes and operands, for what surrounds a net in training: losses, metrics,
 * optimisers over the regions of a store, random numbers and batches. */
#include "support/operations.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is(const problem *p, const char *operation) { return !strcmp(fv_op_name(p->op), operation); }

/* softmax_cross_entropy n4 classes10 smoothing0.1 dense loose bad : labels, or distributions over the classes, or
 * (loose) dense targets that are none; also cross_entropy, in_top_k (k), their gradients and the fused form */
int build_loss(fv_context *context, problem *p) {
    (void)context;
    const int64_t rows = whole(p, "n", 0, 1), classes = whole(p, "classes", 0, 2);
    const bool probabilities = !strncmp(fv_op_name(p->op), "cross_entropy", 13), top_k = is(p, "in_top_k");
    fill scores = probabilities ? FILL_PROBABILITY : FILL_UNIFORM;
    if (top_k) scores = FILL_STEPS;
    add_input(p, "x", FV_F32, scores, SHAPE(rows, classes));
    if (has_word(p, "dense") || has_word(p, "loose")) {
        add_input(p, "target", FV_F32, has_word(p, "loose") ? FILL_UNIFORM : FILL_DISTRIBUTION, SHAPE(rows, classes));
    } else {
        operand *target = add_input(p, "target", FV_I32, FILL_BELOW, SHAPE(rows));
        target->limit = classes;
    }
    if (strstr(fv_op_name(p->op), "gradient") || strstr(fv_op_name(p->op), "train"))
        add_input(p, "dloss", FV_F32, FILL_UNIFORM, SHAPE(rows));
    if (top_k) p->attributes.top_k.k = (int32_t)whole(p, "k", 0, 1);
    else p->attributes.loss.smoothing = (float)number(p, "smoothing", 0, 0);
    p->terms = classes;
    return 0;
}

/* mean_squared_error x4,3,2 */
int build_mean_squared_error(fv_context *context, problem *p) {
    (void)context;
    const fv_shape x = shape_word(p, "x", 0);
    add_input(p, "x", FV_F32, FILL_UNIFORM, x);
    add_input(p, "target", FV_F32, FILL_UNIFORM, x);
    if (is(p, "mean_squared_error_gradient"))
        add_input(p, "dloss", FV_F32, FILL_UNIFORM, x.rank ? SHAPE(x.dim[0]) : (fv_shape){ 0 });
    for (int axis = 1; axis < x.rank; axis++) p->terms *= x.dim[axis];
    return 0;
}

static operand *given(problem *p, const char *name, fv_type type, fv_shape shape) {
    operand *o = add_input(p, name, type, FILL_GIVEN, shape);
    o->value = calloc((size_t)fv_shape_elements(&shape) + 1, sizeof *o->value);
    return o;
}

/* metric_add x33 sum1000,0.00001 : state (sum, compensation) */
int build_metric(fv_context *context, problem *p) {
    (void)context;
    operand *state = given(p, "state", FV_F32, SHAPE(2));
    for (int i = 0; i < 2; i++) state->value[i] = has_word(p, "sum") ? (float)number(p, "sum", i, 0) : 0;
    if (shape_word(p, "sum", 0).rank < 2) state->value[1] = 0;
    add_input(p, "x", FV_F32, FILL_UNIFORM, shape_word(p, "x", 0));
    return 0;
}

/* ---- Optimisers: p20,7,33 lays parameters of these lengths into regions, each at a multiple of 16 elements ------- */

typedef struct layout { int count; int64_t length[8], offset[8], elements; } layout;

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
        segment[i] = (fv_segment){ .offset = l->offset[i], .length = l->length[i], .layer = i,
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
    if (has_word(p, "norm")) given(p, "norm", FV_F32, SHAPE(1))->value[0] = (float)number(p, "norm", 0, 1);
    else add_absent(p, "norm");

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
int build_optimizer(fv_context *context, problem *p) {
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
        if (has_word(p, "noloss")) add_absent(p, "loss");
        else given(p, "loss", FV_F32, (fv_shape){ 0 })->value[0] = has_word(p, "badloss") ? NAN : 1.5;
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

/* ---- Random numbers and batches ---------------------------------------------------------------------------------- */

static void choose_type(problem *p, operand *o) {
    if (has_word(p, "bytes")) o->type = FV_U8, o->fill = FILL_BELOW, o->limit = 256;
    if (has_word(p, "ints")) o->type = FV_I32, o->fill = FILL_INTEGERS;
}

static void add_samples(problem *p, int64_t rows, int64_t samples) {
    add_input(p, "samples", FV_I32, FILL_BELOW, SHAPE(rows))->limit = samples;
}

/* dropout x4,7 rate0.3 stream1030 step seed - batch_samples samples20 size6 rows6 batch2 - gather_batch x10,4 rows5
 * bytes bad - flip n h w c bytes epoch - pad_crop n h w c crop2 bytes epoch */
int build_random(fv_context *context, problem *p) {
    fv_attributes *a = &p->attributes;
    (void)context;
    if (is(p, "dropout")) {
        a->random = (fv_random_attributes){ .rate = (float)number(p, "rate", 0, 0.5),
                                            .stream = (uint32_t)whole(p, "stream", 0, FV_STREAM_LAYERS) };
        add_input(p, "x", FV_F32, FILL_APART, shape_word(p, "x", 0));
        add_control(p);
    } else if (is(p, "batch_samples")) {
        a->batch = (fv_batch_attributes){ .size = whole(p, "size", 0, 4), .rows = whole(p, "rows", 0, 4) };
        add_samples(p, whole(p, "samples", 0, 8), whole(p, "samples", 0, 8));
        add_control(p);
    } else if (is(p, "gather_batch")) {
        const fv_shape x = shape_word(p, "x", 0);
        choose_type(p, add_input(p, "x", FV_F32, FILL_UNIFORM, x));
        add_samples(p, whole(p, "rows", 0, 4), x.dim[0]);
    } else {
        const fv_shape x = SHAPE(whole(p, "n", 0, 1), whole(p, "h", 0, 1), whole(p, "w", 0, 1), whole(p, "c", 0, 1));
        if (is(p, "pad_crop")) a->random.crop = (int32_t)whole(p, "crop", 0, 1);
        choose_type(p, add_input(p, "x", FV_F32, FILL_UNIFORM, x));
        add_samples(p, x.dim[0], 1 << 20);
        add_control(p);
    }
    return 0;
}
