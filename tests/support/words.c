/* words.c - words that the builders of several families share. */
#include "support/operations.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool is(const problem *p, const char *operation) { return !strcmp(fv_op_name(p->op), operation); }

/* The name of an elementwise activation; its parameter is the word alpha. */
int32_t activation_word(const problem *p, float *alpha) {
    int32_t activation = number(p, "relu", 0, 0) == 6 ? FV_RELU6 : FV_LINEAR; /* a word ends where its number begins */
    for (int32_t i = 1; i < FV_ACTIVATION_COUNT && activation == FV_LINEAR; i++)
        if (fv_activations[i].elementwise && has_word(p, fv_activations[i].name)) activation = i;
    *alpha = (float)number(p, "alpha", 0, fv_activations[activation].alpha);
    return activation;
}

/* pad1: all sides; pad1,2: rows, columns; pad1,0,2,3: top, bottom, left, right */
void pad_words(const problem *p, int32_t pad[4]) {
    const fv_shape given = shape_word(p, "pad", 0);
    for (int i = 0; i < 4 && given.rank > 0; i++)
        pad[i] = (int32_t)given.dim[given.rank == 4 ? i : given.rank == 2 ? i / 2 : 0];
}

void pair_words(const problem *p, const char *name, int32_t otherwise, int32_t out[2]) {
    for (int i = 0; i < 2; i++) out[i] = (int32_t)whole(p, name, i, otherwise);
}

fv_shape image_words(const problem *p) {
    return SHAPE(whole(p, "n", 0, 1), whole(p, "h", 0, 1), whole(p, "w", 0, 1), whole(p, "c", 0, 1));
}

operand *given(problem *p, const char *name, fv_type type, fv_shape shape) {
    operand *o = add_input(p, name, type, FILL_GIVEN, shape);
    o->value = calloc((size_t)fv_shape_elements(&shape) + 1, sizeof *o->value);
    return o;
}

/* bytes, ints: another type than f32 */
void choose_type(const problem *p, operand *o) {
    if (has_word(p, "bytes")) o->type = FV_U8, o->fill = FILL_BELOW, o->limit = 256;
    if (has_word(p, "ints")) o->type = FV_I32, o->fill = FILL_INTEGERS;
}

/* relu x2,3 : functions of one tensor that need no attributes */
int build_unary(fv_context *context, problem *p) {
    (void)context;
    operand *x = add_input(p, "x", FV_F32, FILL_UNIFORM, shape_word(p, "x", 0));
    if (op_rules[p->op]->kinked) x->fill = p->smooth ? FILL_APART : FILL_STEPS;
    choose_type(p, x);
    return 0;
}

/* broadcast x1,3 to2,3 - reshape x2,6 to3,4 - copy x2 - concat x2,3 x2,4 axis1 - slice x5,6 begin1,2 size3,4 -
 * pad x2,3 before1,0 after0,2; bytes and ints choose other types */
int build_shaping(fv_context *context, problem *p) {
    fv_attributes *a = &p->attributes;
    (void)context;
    for (int nth = 0; shape_word(p, "x", nth).rank >= 0; nth++) {
        operand *x = add_input(p, "x", FV_F32, FILL_UNIFORM, shape_word(p, "x", nth));
        if (nth) snprintf(x->name, sizeof x->name, "x%d", nth + 1);
        if (has_word(p, "bytes")) x->type = FV_U8, x->fill = FILL_BELOW, x->limit = 256;
        if (has_word(p, "ints")) x->type = FV_I32, x->fill = FILL_INTEGERS;
    }
    if (is(p, "reshape") || is(p, "broadcast")) {
        const fv_shape to = shape_word(p, "to", 0);
        a->shape.rank = to.rank;
        memcpy(a->shape.dim, to.dim, sizeof a->shape.dim);
    } else if (is(p, "concat")) {
        a->axis.axis = (int32_t)whole(p, "axis", 0, 0);
    } else if (is(p, "slice")) {
        memcpy(a->slice.begin, shape_word(p, "begin", 0).dim, sizeof a->slice.begin);
        memcpy(a->slice.size, shape_word(p, "size", 0).dim, sizeof a->slice.size);
    } else if (is(p, "strided_slice") || is(p, "strided_slice_gradient")) {
        memcpy(a->strided.begin, shape_word(p, "begin", 0).dim, sizeof a->strided.begin);
        memcpy(a->strided.size, shape_word(p, "size", 0).dim, sizeof a->strided.size);
        for (int i = 0; i < FV_RANK; i++) a->strided.step[i] = whole(p, "step", i, 1);
    } else if (is(p, "transpose")) {
        for (int i = 0; i < FV_RANK; i++) a->transpose.axes[i] = (int32_t)whole(p, "axes", i, i);
    } else if (is(p, "pad") || is(p, "pad_gradient")) {
        fv_shape *x = &p->input[0].shape; /* pad_gradient: x is that of pad, and the operand its padded form */
        a->pad.mode = has_word(p, "reflect")     ? FV_PAD_REFLECT
                      : has_word(p, "replicate") ? FV_PAD_REPLICATE
                      : has_word(p, "circular")  ? FV_PAD_CIRCULAR
                                                 : FV_PAD_CONSTANT;
        a->pad.value = (float)number(p, "value", 0, 0);
        memcpy(a->pad.before, shape_word(p, "before", 0).dim, sizeof a->pad.before);
        memcpy(a->pad.after, shape_word(p, "after", 0).dim, sizeof a->pad.after);
        for (int i = 0; i < x->rank && is(p, "pad_gradient"); i++) x->dim[i] += a->pad.before[i] + a->pad.after[i];
        p->terms = 9;
    }
    return 0;
}
