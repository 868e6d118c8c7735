/* fold.c - in a program that leaves the weights alone, what is computed from weights only is computed once for each version
 * of them, not at every run: such operations go to the front of the tape, where run.c skips them while the weights stay.
 * With that a batch normalisation by given statistics costs nothing behind a layer that is linear, since
 * (layer(x, w) + b - mean) s + beta = layer(x, w s) + (b - mean) s + beta,  s = gamma / sqrt(variance + epsilon). */
#include "ops/family.h"
#include "program/program.h"
#include <string.h>

/* ---- What depends on weights only -------------------------------------------------------------------------------- */

static bool is_weight(const fv_tape_value *v) {
    const bool shadow = v->region == FV_SHADOW_BF16 || v->region == FV_SHADOW_F16;
    return v->kind == FV_VALUE_STATE && (v->region == FV_PARAMETERS || v->region == FV_STATISTICS || shadow);
}

static bool steady_operation(const fv_tape *t, const fv_operation *o, const bool *steady) {
    if (o->op == FV_OP_NONE || fv_describe(o)->flags & FV_WRITES) return false;
    for (int32_t k = 0; k < o->input_count; k++)
        if (t->operand[o->input + k] && !steady[t->operand[o->input + k]]) return false;
    for (int32_t k = 0; k < o->output_count; k++)
        if (fv_value_in_store(&t->value[o->output + k])) return false;
    return o->input_count > 0;
}

void fv_tape_find_steady(const fv_tape *t, bool *steady) {
    memset(steady, 0, (size_t)t->value_count * sizeof *steady);
    for (int32_t v = 1; v < t->value_count; v++)
        if (is_weight(&t->value[v]) && t->value[v].producer >= 0) return;
    for (int32_t v = 1; v < t->value_count; v++)
        steady[v] = is_weight(&t->value[v]) || t->value[v].kind == FV_VALUE_CONSTANT;
    for (int32_t i = 0; i < t->operation_count; i++) {
        const fv_operation *o = &t->operation[i];
        bool all = steady_operation(t, o, steady);
        for (int32_t k = 0; k < o->output_count && all; k++) steady[o->output + k] = true;
    }
}

/* ---- Normalisation into weights ---------------------------------------------------------------------------------- */

/* Layers that are linear in their weights, operand 1; where the weights have the channels of the output: on their first axis
 * or, group by group, on their last. `fused` adds a vector at no cost. */
static const struct {
    fv_op op, fused;
    bool last;
} layers[] = {
    { FV_OP_conv2d, FV_OP_conv2d_bias_activation, false },
    { FV_OP_dense, FV_OP_dense_bias_activation, false },
    { FV_OP_conv2d_data_gradient, FV_OP_conv2d_transpose_bias_activation, true },
};
enum { LAYERS = sizeof layers / sizeof *layers };

typedef struct folder {
    fv_tape *tape;
    fv_context *context;
    int32_t *readers; /* operand slots that hold the value */
    bool *steady;
} folder;

static int32_t operand(const fv_tape *t, int32_t operation, int32_t k) {
    return t->operand[t->operation[operation].input + k];
}

/* The operation that makes a value which only one other reads, or -1. */
static int32_t only_for_one(const folder *f, int32_t value) {
    const fv_tape_value *v = &f->tape->value[value];
    bool vanishes = v->kind == FV_VALUE_TEMPORARY && !v->kept && !fv_value_in_store(v) && f->readers[value] == 1;
    return vanishes ? v->producer : -1;
}

static int layer_at(const folder *f, int32_t operation) {
    for (int k = 0; k < LAYERS && operation >= 0; k++)
        if (layers[k].op == f->tape->operation[operation].op && f->context->backend->kernels[layers[k].fused].run &&
            f->steady[operand(f->tape, operation, 1)])
            return k;
    return -1;
}

/* The layer whose output, perhaps after a bias, an operation reads as `value`. */
typedef struct linear {
    int32_t operation, bias; /* bias 0: none */
    int layer;
} linear;

static bool find_linear(const folder *f, int32_t value, linear *found) {
    const fv_tape *t = f->tape;
    int32_t producer = only_for_one(f, value), bias = 0;
    if (producer >= 0 && t->operation[producer].op == FV_OP_add) {
        int32_t a = operand(t, producer, 0), b = operand(t, producer, 1), x = f->steady[a] ? b : a;
        const fv_shape *sum = &t->value[value].shape, *vector = &t->value[bias = f->steady[a] ? a : b].shape;
        if (!f->steady[bias] || vector->rank != 1 || vector->dim[0] != fv_last(sum) ||
            !fv_shape_equal(sum, &t->value[x].shape))
            return false;
        producer = only_for_one(f, x);
    }
    *found = (linear){ producer, bias, layer_at(f, producer) };
    return found->layer >= 0;
}

static fv_value product(fv_tape *t, fv_value a, fv_value b) { return FV_APPLY(t, FV_OP_mul, NULL, a, b); }

/* w times a number for each channel of the output. */
static fv_value scaled(fv_tape *t, fv_value w, fv_value scale, bool last, int32_t groups) {
    const fv_shape own = *fv_shape_of(t, w);
    fv_shape split = own, along = own;
    if (last) { /* [groups, filters of a group, .., channels of a group] */
        split.rank = along.rank = own.rank + 1;
        for (int i = own.rank; i > 0; i--) split.dim[i] = own.dim[i - 1];
        split.dim[0] = groups;
        split.dim[1] = own.dim[0] / groups;
        for (int i = 0; i < along.rank; i++) along.dim[i] = i && i + 1 < along.rank ? 1 : split.dim[i];
    } else
        for (int i = 1; i < along.rank; i++) along.dim[i] = 1;
    fv_value y = product(t, fv_append_reshaped(t, w, &split), fv_append_reshaped(t, scale, &along));
    return fv_append_reshaped(t, y, &own);
}

/* Appends what the new weights and the new bias are computed by. */
static int append_folded(fv_tape *t, int32_t norm, const linear *l, fv_value *w, fv_value *b) {
    const fv_value gamma = fv_tape_input(t, norm, 1), beta = fv_tape_input(t, norm, 2), bias = { l->bias };
    const fv_value mean = fv_tape_input(t, norm, 3), variance = fv_tape_input(t, norm, 4);
    const fv_operation layer = t->operation[l->operation];
    const fv_attributes shift = { .affine = { .a = 1, .b = t->operation[norm].attributes.norm.epsilon } };
    const int32_t groups = layers[l->layer].last ? layer.attributes.conv.groups : 1, label = t->current_label;
    t->current_label = layer.label;
    fv_value scale = FV_APPLY(t, FV_OP_rsqrt, NULL, FV_APPLY(t, FV_OP_affine, &shift, variance));
    if (gamma.id) scale = product(t, gamma, scale);
    *w = scaled(t, fv_tape_input(t, l->operation, 1), scale, layers[l->layer].last, groups);
    fv_value centre = bias.id ? FV_APPLY(t, FV_OP_sub, NULL, mean, bias) : mean;
    *b = product(t, centre, scale);
    *b = beta.id ? FV_APPLY(t, FV_OP_sub, NULL, beta, *b)
                 : FV_APPLY(t, FV_OP_affine, &(fv_attributes){ .affine = { .a = -1 } }, *b);
    t->current_label = label;
    return fv_tape_status(t);
}

/* The normalisation becomes the addition of the new bias, the layer reads the new weights; 1, or a status. */
static int fold(folder *f, int32_t norm, const linear *l) {
    fv_tape *t = f->tape;
    fv_value w, b;
    int status = append_folded(t, norm, l, &w, &b);
    if (status) return status;
    fv_operation *o = &t->operation[norm], *layer = &t->operation[l->operation];
    if (l->bias) t->operation[t->value[t->operand[o->input]].producer].op = FV_OP_NONE;
    t->operand[layer->input + 1] = w.id;
    t->operand[o->input] = layer->output;
    t->operand[o->input + 1] = b.id;
    o->op = FV_OP_add;
    o->input_count = 2;
    memset(&o->attributes, 0, sizeof o->attributes);
    return 1;
}

static bool norm_of_weights(const folder *f, int32_t operation) {
    bool all = f->tape->operation[operation].op == FV_OP_batch_norm_infer;
    for (int32_t k = 1; k < 5 && all; k++) {
        int32_t value = operand(f->tape, operation, k);
        all = !value || f->steady[value];
    }
    return all;
}

/* ---- The whole tape ---------------------------------------------------------------------------------------------- */

/* The values of the tape as it is now: who reads them, and which depend on weights only. */
static int look(folder *f) {
    const fv_tape *t = f->tape;
    fv_free(f->readers);
    fv_free(f->steady);
    f->readers = fv_alloc(f->context, (size_t)t->value_count, sizeof *f->readers, "folding");
    f->steady = fv_alloc(f->context, (size_t)t->value_count, sizeof *f->steady, "folding");
    if (!f->readers || !f->steady) return FV_ERROR_MEMORY;
    for (int32_t i = 0; i < t->operation_count; i++) {
        const fv_operation *o = &t->operation[i];
        for (int32_t k = 0; k < o->input_count && o->op != FV_OP_NONE; k++) f->readers[t->operand[o->input + k]]++;
    }
    fv_tape_find_steady(t, f->steady);
    return FV_OK;
}

/* Operations on weights alone to the front; each part keeps its order. */
int fv_tape_bring_forward(fv_tape *t, fv_context *c) {
    fv_operation *list = fv_alloc(c, (size_t)t->operation_count, sizeof *list, "folding");
    bool *steady = fv_alloc(c, (size_t)t->value_count, sizeof *steady, "folding");
    if (list && steady) {
        int32_t count = 0;
        fv_tape_find_steady(t, steady);
        for (int first = 1; first >= 0; first--)
            for (int32_t i = 0; i < t->operation_count; i++)
                if (steady_operation(t, &t->operation[i], steady) == first) list[count++] = t->operation[i];
        memcpy(t->operation, list, (size_t)count * sizeof *list);
        fv_tape_compact(t);
    }
    fv_free(list);
    fv_free(steady);
    return list && steady ? FV_OK : FV_ERROR_MEMORY;
}

int fv_tape_fold(fv_tape *t, fv_context *c) {
    if (!t || !c) return FV_ERROR_ARGUMENT;
    folder f = { .tape = t, .context = c };
    int status = look(&f);
    for (int32_t i = 0; i < t->operation_count && status >= 0; i++) {
        linear l;
        if (!norm_of_weights(&f, i) || !find_linear(&f, operand(t, i, 0), &l)) continue;
        status = fold(&f, i, &l);
        if (status == 1) status = look(&f);
    }
    if (!status) status = fv_tape_bring_forward(t, c);
    fv_free(f.readers);
    fv_free(f.steady);
    return status;
}
