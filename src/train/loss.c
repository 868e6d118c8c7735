/* loss.c - from outputs and targets to one scalar: the loss of each output, weighted, and the penalties of the layers.
 * Everything is ordinary operations on the tape, so a loss of the user's own is no different from ours. */
#include "train/train.h"
#include <string.h>

/* ---- Shapes ------------------------------------------------------------------------------------------------------ */

static int64_t elements(const fv_tape *tape, fv_value v) {
    return fv_shape_elements(&fv_tape_value_of(tape, v)->shape);
}

static fv_value reshape(fv_tape *tape, fv_value v, int rank, const int64_t *dim) {
    const fv_shape *shape = &fv_tape_value_of(tape, v)->shape;
    if (shape->rank == rank && (!rank || !memcmp(shape->dim, dim, sizeof(int64_t) * (size_t)rank))) return v;
    return fv_op_reshape(tape, v, dim, rank);
}

/* Rows of scores over the last axis, and as many labels or rows of probabilities: images of labels become rows too. */
typedef struct rows {
    fv_value score, target;
    int64_t count, classes;
} rows;

static int by_rows(fv_tape *tape, const char *name, fv_value score, fv_value target, rows *out) {
    const fv_tape_value *s = fv_tape_value_of(tape, score), *t = fv_tape_value_of(tape, target);
    char text[2][96];
    fv_context *context = tape->object.context;
    int64_t classes = s->shape.rank ? s->shape.dim[s->shape.rank - 1] : 0;
    if (s->shape.rank < 2 || classes < 1)
        return fv_fail(context, FV_ERROR_SHAPE, "%s: a cross-entropy needs scores [samples, .., classes], not %s", name,
                       fv_shape_text(&s->shape, text[0]));
    int64_t count = fv_shape_elements(&s->shape) / classes, wanted = t->type == FV_I32 ? count : count * classes;
    if (fv_shape_elements(&t->shape) != wanted)
        return fv_fail(context, FV_ERROR_SHAPE, "%s: the output is %s, but the target is %s %s", name,
                       fv_shape_text(&s->shape, text[0]), fv_type_name(t->type), fv_shape_text(&t->shape, text[1]));
    bool labels = t->type == FV_I32;
    const int64_t dim[2] = { count, classes };
    *out = (rows){ .count = count, .classes = classes };
    out->score = reshape(tape, score, 2, dim);
    out->target = reshape(tape, target, labels ? 1 : 2, dim);
    return context->status;
}

/* ---- One output -------------------------------------------------------------------------------------------------- */

/* What a softmax over the last axis was taken of, or id 0. Reshapes that keep the last axis are looked through. */
static fv_value logits_of(const fv_tape *tape, fv_value output) {
    for (;;) {
        const fv_tape_value *v = fv_tape_value_of(tape, output);
        if (v->producer < 0 || v->kind != FV_VALUE_TEMPORARY) return (fv_value){ 0 };
        const fv_operation *operation = &tape->operation[v->producer];
        fv_value input = fv_tape_input(tape, v->producer, 0);
        const fv_shape *from = &fv_tape_value_of(tape, input)->shape;
        if (operation->op == FV_OP_softmax || operation->op == FV_OP_log_softmax)
            return operation->attributes.axis.axis == from->rank - 1 ? input : (fv_value){ 0 };
        if (operation->op != FV_OP_reshape || !from->rank || !v->shape.rank) return (fv_value){ 0 };
        if (from->dim[from->rank - 1] != v->shape.dim[v->shape.rank - 1]) return (fv_value){ 0 };
        output = input;
    }
}

static fv_value cross_entropy(fv_tape *tape, const char *name, fv_value output, fv_value target, float smoothing) {
    fv_value logits = logits_of(tape, output);
    rows r;
    if (by_rows(tape, name, logits.id ? logits : output, target, &r)) return (fv_value){ 0 };
    return fv_op_softmax_cross_entropy(tape, r.score, r.target, smoothing);
}

static fv_value squared_error(fv_tape *tape, const char *name, fv_value output, fv_value target) {
    const fv_tape_value *o = fv_tape_value_of(tape, output), *t = fv_tape_value_of(tape, target);
    char text[2][96];
    if (t->type != FV_F32) {
        fv_fail(tape->object.context, FV_ERROR_ARGUMENT, "%s: a mean squared error needs f32 targets, not %s", name,
                fv_type_name(t->type));
        return (fv_value){ 0 };
    }
    if (elements(tape, output) != elements(tape, target)) {
        fv_fail(tape->object.context, FV_ERROR_SHAPE, "%s: the output is %s, but the target is %s", name,
                fv_shape_text(&o->shape, text[0]), fv_shape_text(&t->shape, text[1]));
        return (fv_value){ 0 };
    }
    fv_shape shape = o->shape;
    return fv_op_mean_squared_error(tape, output, reshape(tape, target, shape.rank, shape.dim));
}

static fv_value loss_of(fv_tape *tape, const fv_loss_settings *s, const char *name, fv_loss kind, fv_value output,
                        fv_value target) {
    fv_context *context = tape->object.context;
    if (s->function) {
        fv_value loss = s->function(tape, output, target, s->user);
        if (fv_ok(context) && !fv_value_valid(tape, loss))
            fv_fail(context, FV_ERROR_ARGUMENT, "%s: the loss function returned no value", name);
        return loss;
    }
    if (kind == FV_LOSS_AUTO) {
        bool labels = fv_tape_value_of(tape, target)->type == FV_I32;
        kind = labels || logits_of(tape, output).id ? FV_CROSS_ENTROPY : FV_MEAN_SQUARED_ERROR;
    }
    if (kind == FV_CROSS_ENTROPY) return cross_entropy(tape, name, output, target, s->smoothing);
    if (kind == FV_MEAN_SQUARED_ERROR) return squared_error(tape, name, output, target);
    fv_fail(context, FV_ERROR_ARGUMENT, "%s: loss %d is not known", name, kind);
    return (fv_value){ 0 };
}

fv_value fv_correct_record(fv_tape *tape, fv_value output, fv_value target, int32_t k) {
    const fv_tape_value *o = fv_tape_value_of(tape, output), *t = fv_tape_value_of(tape, target);
    if (t->type != FV_I32 || o->shape.rank < 2) return (fv_value){ 0 };
    fv_value logits = logits_of(tape, output); /* of the same order as the probabilities, and there already */
    int64_t samples = o->shape.dim[0];
    rows r;
    if (by_rows(tape, "accuracy", logits.id ? logits : output, target, &r)) return (fv_value){ 0 };
    fv_attributes a = { .top_k = { .k = (int32_t)(k < r.classes ? k : r.classes) } };
    fv_value correct = FV_APPLY(tape, FV_OP_in_top_k, &a, r.score, r.target);
    if (!correct.id || r.count == samples || !samples) return correct;
    memset(&a, 0, sizeof a); /* many rows a sample: the part of them that is right */
    a.affine = (fv_affine_attributes){ .a = (float)((double)samples / (double)r.count) };
    return FV_APPLY(tape, FV_OP_affine, &a, correct);
}

/* ---- Penalties --------------------------------------------------------------------------------------------------- */

static fv_value add(fv_tape *tape, fv_value sum, fv_value term) { return sum.id ? fv_op_add(tape, sum, term) : term; }

static fv_value scaled(fv_tape *tape, fv_value v, float factor) {
    if (factor == 1) return v;
    fv_attributes a;
    memset(&a, 0, sizeof a);
    a.affine.a = factor;
    return FV_APPLY(tape, FV_OP_affine, &a, v);
}

static bool has_penalty(const fv_layer *layer) {
    for (int32_t w = 0; w < layer->weight_count; w++)
        if (layer->weight[w].l1 != 0 || layer->weight[w].l2 != 0) return true;
    return false;
}

/* Id 0 where no layer asks for any: most nets need no operation at all. */
static fv_value penalties(fv_tape *tape, fv_net *net) {
    int32_t count;
    fv_net **family = fv_net_family_list(net, &count);
    bool any = false;
    for (int32_t n = 0; n < count; n++)
        for (int32_t l = 0; l < family[n]->layer_count; l++)
            any |= !family[n]->layer[l].frozen && has_penalty(&family[n]->layer[l]);
    fv_free(family);
    return any ? fv_op_regularization(tape, net) : (fv_value){ 0 };
}

/* ---- All of it --------------------------------------------------------------------------------------------------- */

static fv_value to_scalar(fv_tape *tape, fv_value v) {
    if (!v.id) return v;
    return elements(tape, v) == 1 ? reshape(tape, v, 0, NULL) : fv_op_mean(tape, v);
}

fv_value fv_loss_record(fv_tape *tape, fv_net *net, const fv_loss_settings *s, const fv_value *outputs,
                        const fv_value *targets, int32_t count) {
    fv_context *context = tape->object.context;
    fv_value sum = { 0 };
    for (int32_t i = 0; i < count && fv_ok(context); i++) {
        const char *layer = net->layer[net->node[net->output[i]].layer].name;
        char name[320], label[160];
        snprintf(name, sizeof name, "%s, output %s", net->name, layer);
        snprintf(label, sizeof label, "%s/loss", layer);
        fv_tape_label(tape, label);
        fv_loss kind = s->losses ? s->losses[i] : s->loss;
        fv_value loss = to_scalar(tape, loss_of(tape, s, name, kind, outputs[i], targets[i]));
        if (loss.id) sum = add(tape, sum, scaled(tape, loss, s->weights ? s->weights[i] : 1));
    }
    fv_tape_label(tape, NULL);
    fv_value extra = fv_ok(context) ? penalties(tape, net) : (fv_value){ 0 };
    if (extra.id) sum = add(tape, sum, extra);
    return fv_ok(context) ? sum : (fv_value){ 0 };
}
