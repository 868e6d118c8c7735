/* shaping.c - operations that move elements without computing: reshape (which moves nothing at all), broadcast,
 * concat, slice, transpose, pad. They take every type. */
#include "ops/family.h"
#include <math.h>

/* ---- reshape and broadcast --------------------------------------------------------------------------------------- */

/* One size may be -1: whatever is left. */
static int infer_reshape(fv_signature *s) {
    fv_shape_attributes *a = &s->attributes->shape;
    const fv_shape *x = s->input[0];
    fv_shape wanted = { .rank = a->rank };
    int64_t rest = fv_shape_elements(x);
    int32_t free_axis = -1;
    if (a->rank < 0 || a->rank > FV_RANK)
        return fv_op_fail(s, FV_ERROR_SHAPE, "%d dimensions are not within 0..%d", a->rank, FV_RANK);
    bool fits = true;
    for (int32_t i = 0; i < FV_RANK; i++) {
        if (i >= a->rank) {
            a->dim[i] = 0;
        } else if (a->dim[i] == -1 && free_axis < 0) {
            free_axis = i;
        } else {
            fits = fits && a->dim[i] >= 1 && rest % a->dim[i] == 0;
            if (fits) rest /= a->dim[i];
        }
        wanted.dim[i] = a->dim[i];
    }
    if (!fits || (free_axis < 0 && rest != 1))
        return fv_op_fail(s, FV_ERROR_SHAPE, "the %lld elements of %s do not fill %s", (long long)fv_shape_elements(x),
                          FV_TEXT(x), FV_TEXT(&wanted));
    if (free_axis >= 0) a->dim[free_axis] = rest;
    return fv_set_output(s, 0, s->input_type[0], a->rank, a->dim);
}

FV_GRADIENT(reshape_gradient) {
    if (!wanted[0]) return FV_OK;
    fv_shape x = *fv_shape_of(tape, fv_tape_input(tape, operation, 0));
    input_gradient[0] = fv_append_reshaped(tape, output_gradient[0], &x);
    return fv_tape_status(tape);
}

static int infer_broadcast(fv_signature *s) {
    fv_shape_attributes *a = &s->attributes->shape;
    const fv_shape *x = s->input[0];
    FV_TRY(fv_set_output(s, 0, s->input_type[0], a->rank, a->dim));
    for (int32_t i = a->rank; i < FV_RANK; i++) a->dim[i] = 0;
    bool fits = x->rank <= a->rank;
    for (int32_t i = 0; i < a->rank; i++) fits = fits && a->dim[i] >= 1;
    for (int32_t i = 1; fits && i <= x->rank; i++)
        fits = x->dim[x->rank - i] == 1 || x->dim[x->rank - i] == a->dim[a->rank - i];
    return fits ? FV_OK
                : fv_op_fail(s, FV_ERROR_SHAPE, "the shape %s cannot be repeated to %s", FV_TEXT(x),
                             FV_TEXT(&s->output[0]));
}

FV_GRADIENT(broadcast_gradient) {
    if (!wanted[0]) return FV_OK;
    fv_shape x = *fv_shape_of(tape, fv_tape_input(tape, operation, 0));
    input_gradient[0] = fv_append_reduced(tape, output_gradient[0], &x);
    return fv_tape_status(tape);
}

/* ---- concat, slice, pad ------------------------------------------------------------------------------------------ */

static int infer_concat(fv_signature *s) {
    const fv_shape *first = s->input[0];
    fv_shape y = *first;
    int32_t *axis = &s->attributes->axis.axis;
    FV_TRY(fv_check_axis(s, axis, first));
    for (int32_t i = 1; i < s->input_count; i++) {
        const fv_shape *x = s->input[i];
        bool fits = x->rank == first->rank;
        for (int32_t d = 0; fits && d < x->rank; d++) fits = d == *axis || x->dim[d] == first->dim[d];
        if (!fits)
            return fv_op_fail(s, FV_ERROR_SHAPE, "the shapes %s and %s differ in more than axis %d", FV_TEXT(first),
                              FV_TEXT(x), *axis);
        FV_TRY(fv_check_type(s, i, "further input", s->input_type[0]));
        if (__builtin_add_overflow(y.dim[*axis], x->dim[*axis], &y.dim[*axis]))
            return fv_op_fail(s, FV_ERROR_SHAPE, "the inputs, %s and more, are too large together", FV_TEXT(first));
    }
    return fv_set_output_like(s, 0, s->input_type[0], &y);
}

/* Each input gets its slice. */
FV_GRADIENT(concat_gradient) {
    const fv_operation concat = tape->operation[operation];
    const int32_t axis = concat.attributes.axis.axis;
    int64_t begin = 0;
    for (int32_t i = 0; i < concat.input_count; i++) {
        fv_shape x = *fv_shape_of(tape, fv_tape_input(tape, operation, i));
        fv_attributes a = { 0 };
        for (int32_t d = 0; d < x.rank; d++) a.slice.size[d] = x.dim[d];
        a.slice.begin[axis] = begin;
        begin += x.dim[axis];
        if (wanted[i]) input_gradient[i] = FV_APPLY(tape, FV_OP_slice, &a, output_gradient[0]);
    }
    return fv_tape_status(tape);
}

static int infer_slice(fv_signature *s) {
    fv_slice_attributes *a = &s->attributes->slice;
    const fv_shape *x = s->input[0];
    for (int32_t i = 0; i < FV_RANK; i++) {
        if (i >= x->rank) {
            a->begin[i] = a->size[i] = 0;
        } else if (a->begin[i] < 0 || a->size[i] < 1 || a->begin[i] >= x->dim[i] ||
                   a->size[i] > x->dim[i] - a->begin[i]) {
            return fv_op_fail(s, FV_ERROR_SHAPE, "%lld elements from %lld on are not within axis %d of %s",
                              (long long)a->size[i], (long long)a->begin[i], i, FV_TEXT(x));
        }
    }
    return fv_set_output(s, 0, s->input_type[0], x->rank, a->size);
}

FV_GRADIENT(slice_gradient) {
    if (!wanted[0]) return FV_OK;
    const fv_slice_attributes cut = fv_attributes_of(tape, operation).slice;
    const fv_shape x = *fv_shape_of(tape, fv_tape_input(tape, operation, 0));
    fv_attributes a = { 0 };
    for (int32_t i = 0; i < x.rank; i++) {
        a.pad.before[i] = cut.begin[i];
        a.pad.after[i] = x.dim[i] - cut.begin[i] - cut.size[i];
    }
    input_gradient[0] = FV_APPLY(tape, FV_OP_pad, &a, output_gradient[0]);
    return fv_tape_status(tape);
}

/* Of a gradient the box is input 0 and the whole, whose shape `size` says, output 0. */
static int infer_strided(fv_signature *s) {
    fv_strided_attributes *a = &s->attributes->strided;
    const bool back = s->op == FV_OP_strided_slice_gradient;
    const fv_shape *given = s->input[0];
    for (int32_t i = 0; i < FV_RANK; i++) {
        if (i >= given->rank) {
            a->begin[i] = a->size[i] = a->step[i] = 0;
            continue;
        }
        if (!a->step[i]) a->step[i] = 1;
        const int64_t whole = back ? a->size[i] : given->dim[i], size = back ? given->dim[i] : a->size[i];
        bool fits = size >= 1 && a->begin[i] >= 0 && a->begin[i] < whole && a->step[i] > INT64_MIN;
        const int64_t room = a->step[i] > 0 ? whole - 1 - a->begin[i] : a->begin[i];
        fits = fits && size - 1 <= room / (a->step[i] > 0 ? a->step[i] : -a->step[i]);
        if (!fits)
            return fv_op_fail(s, FV_ERROR_SHAPE, "%lld elements from %lld on in steps of %lld are not within the %lld of axis %d",
                              (long long)size, (long long)a->begin[i], (long long)a->step[i], (long long)whole, i);
    }
    return fv_set_output(s, 0, s->input_type[0], given->rank, a->size);
}

FV_GRADIENT(strided_gradient) {
    if (!wanted[0]) return FV_OK;
    fv_attributes a = fv_attributes_of(tape, operation);
    const bool back = tape->operation[operation].op == FV_OP_strided_slice_gradient;
    const fv_shape x = *fv_shape_of(tape, fv_tape_input(tape, operation, 0));
    for (int32_t i = 0; i < x.rank; i++) a.strided.size[i] = x.dim[i];
    input_gradient[0] = FV_APPLY(tape, back ? FV_OP_strided_slice : FV_OP_strided_slice_gradient, &a, output_gradient[0]);
    return fv_tape_status(tape);
}

static int infer_transpose(fv_signature *s) {
    int32_t *axes = s->attributes->transpose.axes;
    const fv_shape *x = s->input[0];
    uint32_t seen = 0;
    int64_t dim[FV_RANK];
    for (int32_t i = 0; i < FV_RANK; i++) {
        if (i >= x->rank) {
            axes[i] = i;
            continue;
        }
        FV_TRY(fv_check_axis(s, &axes[i], x));
        if (seen >> axes[i] & 1)
            return fv_op_fail(s, FV_ERROR_SHAPE, "axis %d of %s is named twice in the new order", axes[i], FV_TEXT(x));
        seen |= 1u << axes[i];
        dim[i] = x->dim[axes[i]];
    }
    return fv_set_output(s, 0, s->input_type[0], x->rank, dim);
}

/* The way back. */
FV_GRADIENT(transpose_gradient) {
    if (!wanted[0]) return FV_OK;
    const fv_attributes forth = fv_attributes_of(tape, operation);
    int32_t back[FV_RANK];
    for (int32_t i = 0; i < FV_RANK; i++) back[forth.transpose.axes[i]] = i;
    input_gradient[0] = fv_append_transposed(tape, output_gradient[0], back);
    return fv_tape_status(tape);
}

/* A mirror image has no second edge, and what is repeated is repeated once: reflection reaches one element less than the
 * axis has, a circular surrounding as many. */
static int check_surrounding(fv_signature *s, const fv_shape *x) {
    const fv_pad_attributes *a = &s->attributes->pad;
    FV_TRY(fv_check_range(s, "mode", a->mode, FV_PAD_CONSTANT, FV_PAD_CIRCULAR));
    if (a->mode == FV_PAD_CONSTANT || a->mode == FV_PAD_REPLICATE) return FV_OK;
    for (int32_t i = 0; i < x->rank; i++) {
        const int64_t most = x->dim[i] - (a->mode == FV_PAD_REFLECT);
        if (a->before[i] > most || a->after[i] > most)
            return fv_op_fail(s, FV_ERROR_SHAPE,
                              "axis %d of %s can be %s by %lld elements at most, not by %lld and %lld", i, FV_TEXT(x),
                              a->mode == FV_PAD_REFLECT ? "reflected" : "repeated", (long long)most,
                              (long long)a->before[i], (long long)a->after[i]);
    }
    return FV_OK;
}

/* The value around a constant padding must be one that the type has. */
static int check_value(fv_signature *s) {
    fv_pad_attributes *a = &s->attributes->pad;
    const fv_type type = s->input_type[0];
    const double value = a->value;
    if (a->mode != FV_PAD_CONSTANT) a->value = 0;
    if (type == FV_F32 || a->value == 0) return FV_OK;
    if (value == (double)(int64_t)fmax(-0x1p31, fmin(0x1p31, value)) &&
        ((type == FV_U8 && value >= 0 && value <= 255) || (type == FV_I32 && value >= -0x1p31 && value < 0x1p31)))
        return FV_OK;
    return fv_op_fail(s, FV_ERROR_ARGUMENT, "the value %g is not one of type %s", value, fv_type_name(type));
}

static int infer_pad(fv_signature *s) {
    fv_pad_attributes *a = &s->attributes->pad;
    fv_shape y = *s->input[0];
    for (int32_t i = 0; i < FV_RANK; i++) {
        if (i >= y.rank) {
            a->before[i] = a->after[i] = 0;
        } else if (a->before[i] < 0 || a->after[i] < 0 || __builtin_add_overflow(y.dim[i], a->before[i], &y.dim[i]) ||
                   __builtin_add_overflow(y.dim[i], a->after[i], &y.dim[i])) {
            return fv_op_fail(s, FV_ERROR_SHAPE, "axis %d of %s cannot be padded by %lld and %lld", i,
                              FV_TEXT(s->input[0]), (long long)a->before[i], (long long)a->after[i]);
        }
    }
    FV_TRY(check_surrounding(s, s->input[0]));
    FV_TRY(check_value(s));
    return fv_set_output_like(s, 0, s->input_type[0], &y);
}

enum { PADDED_AT_ONCE = 2 }; /* axes whose surroundings one pad_gradient folds back */

/* A constant surrounding depends on nothing: its gradient is a slice. The others are folded back, two axes at a time:
 * images have no more. */
FV_GRADIENT(pad_gradient) {
    if (!wanted[0]) return FV_OK;
    const fv_pad_attributes pad = fv_attributes_of(tape, operation).pad;
    const fv_shape x = *fv_shape_of(tape, fv_tape_input(tape, operation, 0));
    fv_attributes a = { 0 };
    if (pad.mode == FV_PAD_CONSTANT) {
        for (int32_t i = 0; i < x.rank; i++) {
            a.slice.begin[i] = pad.before[i];
            a.slice.size[i] = x.dim[i];
        }
        input_gradient[0] = FV_APPLY(tape, FV_OP_slice, &a, output_gradient[0]);
        return fv_tape_status(tape);
    }
    fv_value gradient = output_gradient[0];
    for (int32_t i = x.rank - 1, axes = 0; i >= 0; i--) {
        a.pad.mode = pad.mode;
        a.pad.before[i] = pad.before[i];
        a.pad.after[i] = pad.after[i];
        axes += pad.before[i] || pad.after[i];
        if (axes < PADDED_AT_ONCE && (i || !axes)) continue;
        gradient = FV_APPLY(tape, FV_OP_pad_gradient, &a, gradient);
        a = (fv_attributes){ 0 };
        axes = 0;
    }
    input_gradient[0] = gradient;
    return fv_tape_status(tape);
}

static int infer_pad_gradient(fv_signature *s) {
    fv_pad_attributes *a = &s->attributes->pad;
    fv_shape x = *s->input[0];
    int32_t axes = 0;
    FV_TRY(fv_check_type(s, 0, "output's gradient", FV_F32));
    for (int32_t i = 0; i < FV_RANK; i++) {
        if (i >= x.rank) a->before[i] = a->after[i] = 0;
        axes += a->before[i] || a->after[i];
        if (i < x.rank && a->before[i] >= 0 && a->before[i] < x.dim[i] && a->after[i] >= 0 &&
            a->after[i] < x.dim[i] - a->before[i])
            x.dim[i] -= a->before[i] + a->after[i];
        else if (i < x.rank)
            return fv_op_fail(s, FV_ERROR_SHAPE, "axis %d of %s was not padded by %lld and %lld", i,
                              FV_TEXT(s->input[0]), (long long)a->before[i], (long long)a->after[i]);
    }
    if (axes > PADDED_AT_ONCE)
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "%d axes cannot be folded back at once, only %d", axes, PADDED_AT_ONCE);
    if (a->mode == FV_PAD_CONSTANT)
        return fv_op_fail(s, FV_ERROR_ARGUMENT, "the gradient of a constant padding is a slice");
    FV_TRY(check_surrounding(s, &x));
    a->value = 0;
    return fv_set_output_like(s, 0, FV_F32, &x);
}

FV_GRADIENT(pad_back_gradient) {
    if (!wanted[0]) return FV_OK;
    const fv_attributes a = fv_attributes_of(tape, operation);
    input_gradient[0] = FV_APPLY(tape, FV_OP_pad, &a, output_gradient[0]);
    return fv_tape_status(tape);
}

FV_DESC(reshape, shape, .infer = infer_reshape, .gradient = reshape_gradient);
FV_DESC(broadcast, shape, .infer = infer_broadcast, .gradient = broadcast_gradient);
FV_DESC(concat, axis, .infer = infer_concat, .gradient = concat_gradient, .cost = fv_cost_moved);
FV_DESC(slice, slice, .infer = infer_slice, .gradient = slice_gradient, .cost = fv_cost_moved);
FV_DESC(strided_slice, strided, .infer = infer_strided, .gradient = strided_gradient, .cost = fv_cost_moved);
FV_DESC(strided_slice_gradient, strided, .infer = infer_strided, .gradient = strided_gradient, .cost = fv_cost_moved);
FV_DESC(transpose, transpose, .infer = infer_transpose, .gradient = transpose_gradient, .cost = fv_cost_moved);
FV_DESC(pad_gradient, pad, .infer = infer_pad_gradient, .gradient = pad_back_gradient);
FV_DESC(pad, pad, .infer = infer_pad, .gradient = pad_gradient, .cost = fv_cost_moved);
