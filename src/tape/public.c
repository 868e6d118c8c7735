/* public.c - the operations of fovea.h: arguments of users become attributes. What infer refuses is not checked
 * twice. */
#include "ops/family.h"
#include "tape/record.h"
#include <math.h>
#include <string.h>

static const fv_value none = { 0 };

/* A user's shape: no axis may be empty. */
static int user_shape(fv_tape *tape, const char *what, const int64_t *dims, int rank, fv_shape *shape) {
    fv_context *context = tape->object.context;
    if (rank > 0 && !dims) return fv_fail(context, FV_ERROR_ARGUMENT, "%s: the shape is missing", what);
    int status = fv_shape_make(context, what, rank, dims, shape);
    for (int i = 0; i < rank && !status; i++)
        if (dims[i] < 1)
            status = fv_fail(context, FV_ERROR_SHAPE, "%s: %s is empty in axis %d", what,
                             fv_shape_text(shape, (char[96]){ 0 }), i);
    return status;
}

fv_value fv_op_input(fv_tape *tape, const int64_t *dims, int rank, fv_type type) {
    fv_shape shape;
    if (fv_tape_usable(tape) || user_shape(tape, "an input", dims, rank, &shape)) return none;
    if (fv_type_bytes(type)) return fv_tape_add_value(tape, FV_VALUE_INPUT, type, &shape);
    fv_fail(tape->object.context, FV_ERROR_ARGUMENT, "an input: there is no type number %d", (int)type);
    return none;
}

fv_value fv_op_constant(fv_tape *tape, const int64_t *dims, int rank, const float *values) {
    fv_shape shape;
    if (fv_tape_usable(tape) || user_shape(tape, "a constant", dims, rank, &shape)) return none;
    if (values) return fv_tape_constant(tape, FV_F32, &shape, values);
    fv_fail(tape->object.context, FV_ERROR_ARGUMENT, "a constant: the values are missing");
    return none;
}

fv_value fv_op_scalar(fv_tape *tape, float number) { return fv_op_constant(tape, NULL, 0, &number); }

/* ---- Arithmetic and activations ---------------------------------------------------------------------------------- */

#define UNARY(name)                                                                                                    \
    fv_value fv_op_##name(fv_tape *t, fv_value x) { return FV_APPLY(t, FV_OP_##name, NULL, x); }
#define BINARY(name)                                                                                                   \
    fv_value fv_op_##name(fv_tape *t, fv_value a, fv_value b) { return FV_APPLY(t, FV_OP_##name, NULL, a, b); }
#define ALONG_AXIS(name)                                                                                               \
    fv_value fv_op_##name(fv_tape *t, fv_value x, int axis) {                                                          \
        fv_attributes a = { .axis = { axis } };                                                                        \
        return FV_APPLY(t, FV_OP_##name, &a, x);                                                                       \
    }
BINARY(add)
BINARY(sub)
BINARY(mul)
BINARY(div)
UNARY(relu)
UNARY(tanh)
UNARY(sigmoid)
UNARY(exp)
UNARY(log)
UNARY(sqrt)
UNARY(rsqrt)
UNARY(square)
UNARY(abs)
BINARY(prelu)
BINARY(power)
BINARY(maximum)
BINARY(minimum)
BINARY(equal)
BINARY(not_equal)
BINARY(less)
BINARY(less_equal)
ALONG_AXIS(softmax)
ALONG_AXIS(log_softmax)
BINARY(dense)
BINARY(mean_squared_error)

/* A vector of n becomes [1, n] on the left and [n, 1] on the right, and its axis goes from the product again. */
fv_value fv_op_matmul(fv_tape *tape, fv_value a, fv_value b, bool transpose_a, bool transpose_b) {
    fv_attributes attributes = { .matmul = { transpose_a, transpose_b } };
    bool row = false, column = false;
    if (fv_value_valid(tape, a) && fv_tape_value_of(tape, a)->shape.rank == 1) {
        const fv_shape shape = { 2, { 1, fv_tape_value_of(tape, a)->shape.dim[0] } };
        a = fv_append_reshaped(tape, a, &shape);
        attributes.matmul.transpose_a = 0;
        row = true;
    }
    if (fv_value_valid(tape, b) && fv_tape_value_of(tape, b)->shape.rank == 1) {
        const fv_shape shape = { 2, { fv_tape_value_of(tape, b)->shape.dim[0], 1 } };
        b = fv_append_reshaped(tape, b, &shape);
        attributes.matmul.transpose_b = 0;
        column = true;
    }
    fv_value y = FV_APPLY(tape, FV_OP_matmul, &attributes, a, b);
    if (!y.id || (!row && !column)) return y;
    fv_shape shape = fv_tape_value_of(tape, y)->shape;
    const int64_t rows = shape.dim[shape.rank - 2], columns = shape.dim[shape.rank - 1];
    shape.rank -= 2;
    if (!row) shape.dim[shape.rank++] = rows;
    if (!column) shape.dim[shape.rank++] = columns;
    for (int i = shape.rank; i < FV_RANK; i++) shape.dim[i] = 0;
    return fv_append_reshaped(tape, y, &shape);
}

fv_value fv_op_greater(fv_tape *t, fv_value a, fv_value b) { return fv_op_less(t, b, a); }
fv_value fv_op_greater_equal(fv_tape *t, fv_value a, fv_value b) { return fv_op_less_equal(t, b, a); }

fv_value fv_op_where(fv_tape *t, fv_value condition, fv_value a, fv_value b) {
    return FV_APPLY(t, FV_OP_where, NULL, condition, a, b);
}

fv_value fv_op_leaky_relu(fv_tape *t, fv_value x, float negative_slope) {
    fv_attributes a = { .activation = { negative_slope } };
    return FV_APPLY(t, FV_OP_leaky_relu, &a, x);
}

fv_value fv_op_elu(fv_tape *t, fv_value x, float alpha) {
    fv_attributes a = { .activation = { alpha } };
    return FV_APPLY(t, FV_OP_elu, &a, x);
}

fv_value fv_op_activation(fv_tape *t, fv_value x, fv_activation activation) {
    if (activation == FV_LINEAR || fv_tape_usable(t)) return x;
    if ((unsigned)activation >= FV_ACTIVATION_COUNT) {
        fv_fail(t->object.context, FV_ERROR_ARGUMENT, "fv_op_activation: there is no activation number %d",
                (int)activation);
        return none;
    }
    const fv_activation_row *row = &fv_activations[activation];
    fv_attributes a = { 0 };
    if (row->elementwise)
        a.activation.alpha = row->alpha;
    else
        a.axis.axis = -1;
    return FV_APPLY(t, row->op, &a, x);
}

fv_value fv_op_affine(fv_tape *t, fv_value x, float factor, float offset) {
    fv_attributes a = { .affine = { factor, offset } };
    return FV_APPLY(t, FV_OP_affine, &a, x);
}

fv_value fv_op_clamp(fv_tape *t, fv_value x, float low, float high) {
    fv_attributes a = { .clamp = { low, high } };
    return FV_APPLY(t, FV_OP_clamp, &a, x);
}

fv_value fv_op_softmax_cross_entropy(fv_tape *tape, fv_value logits, fv_value target, float smoothing) {
    fv_attributes a = { .loss = { smoothing } };
    return FV_APPLY(tape, FV_OP_softmax_cross_entropy, &a, logits, target);
}

/* ---- Normalisation ----------------------------------------------------------------------------------------------- */

fv_value fv_op_layer_norm(fv_tape *t, fv_value x, fv_value gamma, fv_value beta, int axes, float epsilon) {
    fv_attributes a = { .sample_norm = { .epsilon = epsilon, .axes = axes } };
    return FV_APPLY(t, FV_OP_layer_norm, &a, x, gamma, beta);
}

fv_value fv_op_group_norm(fv_tape *t, fv_value x, fv_value gamma, fv_value beta, int groups, float epsilon) {
    fv_attributes a = { .sample_norm = { .epsilon = epsilon, .groups = groups } };
    return FV_APPLY(t, FV_OP_group_norm, &a, x, gamma, beta);
}

fv_value fv_op_rms_norm(fv_tape *t, fv_value x, fv_value gamma, int axes, float epsilon) {
    fv_attributes a = { .sample_norm = { .epsilon = epsilon, .axes = axes } };
    return FV_APPLY(t, FV_OP_rms_norm, &a, x, gamma);
}

fv_value fv_op_unit_norm(fv_tape *t, fv_value x, int axes, float epsilon) {
    fv_attributes a = { .sample_norm = { .epsilon = epsilon, .axes = axes } };
    return FV_APPLY(t, FV_OP_unit_norm, &a, x);
}

/* ---- Convolutions ------------------------------------------------------------------------------------------------ */

static bool read_settings(fv_tape *tape, const char *what, const fv_conv_settings *given, fv_conv_settings *settings) {
    *settings = (fv_conv_settings){ 0 };
    return !fv_tape_usable(tape) &&
           (!given || !fv_options_read(tape->object.context, what, settings, sizeof *settings, given));
}

static fv_attributes conv_attributes(const fv_conv_settings *s) {
    fv_attributes a = { .conv = { .groups = s->groups, .flip = s->flip_kernel } };
    memcpy(a.conv.stride, s->stride, sizeof s->stride);
    memcpy(a.conv.dilation, s->dilation, sizeof s->dilation);
    memcpy(a.conv.pad, s->pad, sizeof s->pad);
    return a;
}

fv_value fv_op_conv2d(fv_tape *tape, fv_value x, fv_value kernel, const fv_conv_settings *given) {
    fv_conv_settings s;
    if (!read_settings(tape, __func__, given, &s)) return none;
    fv_attributes a = conv_attributes(&s);
    return FV_APPLY(tape, FV_OP_conv2d, &a, x, kernel);
}

/* What is odd about shapes and settings is left to infer. */
fv_value fv_op_conv2d_transpose(fv_tape *tape, fv_value x, fv_value kernel, const fv_conv_settings *given) {
    fv_conv_settings s;
    if (!read_settings(tape, __func__, given, &s)) return none;
    fv_attributes a = conv_attributes(&s);
    if (fv_value_valid(tape, x) && fv_value_valid(tape, kernel)) {
        const fv_shape *from = &fv_tape_value_of(tape, x)->shape, *w = &fv_tape_value_of(tape, kernel)->shape;
        a.conv.shape[0] = from->dim[0];
        __builtin_mul_overflow(w->dim[3], (int64_t)(s.groups ? s.groups : 1), &a.conv.shape[3]);
        for (int axis = 0; axis < 2; axis++) {
            int64_t stride = s.stride[axis] ? s.stride[axis] : 1, dilation = s.dilation[axis] ? s.dilation[axis] : 1;
            int64_t size = 0, reach = 0; /* too large for a number: 0, which infer refuses */
            bool fits = !__builtin_mul_overflow(from->dim[1 + axis] - 1, stride, &size) &&
                        !__builtin_mul_overflow(w->dim[1 + axis] - 1, dilation, &reach) &&
                        !__builtin_add_overflow(size, reach, &size);
            size = fits ? size + 1 - s.pad[2 * axis] - s.pad[2 * axis + 1] : 0;
            a.conv.shape[1 + axis] = s.size[axis] ? s.size[axis] : size;
        }
    }
    return FV_APPLY(tape, FV_OP_conv2d_data_gradient, &a, x, kernel);
}

fv_value fv_op_local_conv2d(fv_tape *tape, fv_value x, fv_value kernel, const fv_conv_settings *given) {
    fv_conv_settings s;
    if (!read_settings(tape, __func__, given, &s)) return none;
    if (s.groups > 1 || s.flip_kernel) {
        fv_fail(tape->object.context, FV_ERROR_UNSUPPORTED, "local_conv2d: groups and flipped kernels are not supported");
        return none;
    }
    fv_attributes a = { 0 };
    memcpy(a.local.stride, s.stride, sizeof s.stride);
    memcpy(a.local.dilation, s.dilation, sizeof s.dilation);
    memcpy(a.local.pad, s.pad, sizeof s.pad);
    return FV_APPLY(tape, FV_OP_local_conv2d, &a, x, kernel);
}

/* ---- Reductions -------------------------------------------------------------------------------------------------- */

/* Axes to bits; negative ones count from the end, and none may come twice. */
static int axis_bits(fv_tape *tape, fv_op op, fv_value x, const int *axes, int count, uint32_t *bits) {
    fv_context *context = tape->object.context;
    const fv_shape *shape = &fv_tape_value_of(tape, x)->shape;
    const char *name = fv_op_name(op);
    if (count < 0 || (count && !axes))
        return fv_fail(context, FV_ERROR_ARGUMENT, "%s: the list of axes is missing", name);
    for (int i = 0; i < count; i++) {
        const int64_t axis = axes[i] < 0 ? (int64_t)axes[i] + shape->rank : axes[i];
        if (axis < 0 || axis >= shape->rank)
            return fv_fail(context, FV_ERROR_SHAPE, "%s: axis %d is not one of the %d axes of %s", name, axes[i],
                           shape->rank, fv_shape_text(shape, (char[96]){ 0 }));
        if (*bits >> axis & 1) return fv_fail(context, FV_ERROR_ARGUMENT, "%s: axis %d is given twice", name, axes[i]);
        *bits |= 1u << axis;
    }
    return FV_OK;
}

static fv_value reduce(fv_tape *tape, fv_op op, fv_value x, const int *axes, int count, bool keep_dims, int correction) {
    fv_attributes a = { .reduce = { .keep_dims = keep_dims, .correction = correction } };
    if (fv_tape_usable(tape) || (fv_value_valid(tape, x) && axis_bits(tape, op, x, axes, count, &a.reduce.axes)))
        return none;
    return FV_APPLY(tape, op, &a, x);
}

#define REDUCTION(name, op)                                                                                            \
    fv_value fv_op_##name(fv_tape *t, fv_value x, const int *axes, int count, bool keep_dims) {                        \
        return reduce(t, FV_OP_##op, x, axes, count, keep_dims, 0);                                                    \
    }
REDUCTION(sum, sum)
REDUCTION(mean_over, mean)
REDUCTION(max, max)
REDUCTION(min, min)
REDUCTION(prod, prod)
REDUCTION(logsumexp, logsumexp)
REDUCTION(argmax, argmax)
REDUCTION(argmin, argmin)

fv_value fv_op_variance(fv_tape *tape, fv_value x, const int *axes, int count, bool keep_dims, int correction,
                        fv_value *mean) {
    fv_value variance = reduce(tape, FV_OP_variance, x, axes, count, keep_dims, correction);
    if (mean) *mean = variance.id ? (fv_value){ variance.id + 1 } : none;
    return variance;
}

fv_value fv_op_cumsum(fv_tape *tape, fv_value x, int axis, bool exclusive, bool reverse) {
    fv_attributes a = { .cumsum = { axis, exclusive, reverse } };
    return FV_APPLY(tape, FV_OP_cumsum, &a, x);
}

fv_value fv_op_mean(fv_tape *tape, fv_value x) { return FV_APPLY(tape, FV_OP_mean, NULL, x); }

/* ---- Shaping ----------------------------------------------------------------------------------------------------- */

/* The first values of a user's list, 0 where it is missing: infer refuses that with both shapes named. */
static void copy_dims(int64_t to[FV_RANK], const int64_t *from, int count) {
    for (int i = 0; i < count && i < FV_RANK; i++) to[i] = from ? from[i] : 0;
}

fv_value fv_op_reshape(fv_tape *tape, fv_value x, const int64_t *shape, int rank) {
    fv_attributes a = { .shape = { .rank = rank } };
    copy_dims(a.shape.dim, shape, rank);
    return FV_APPLY(tape, FV_OP_reshape, &a, x);
}

fv_value fv_op_slice(fv_tape *tape, fv_value x, const int64_t *begin, const int64_t *size) {
    fv_attributes a = { 0 };
    if (fv_value_valid(tape, x)) {
        copy_dims(a.slice.begin, begin, fv_tape_value_of(tape, x)->shape.rank);
        copy_dims(a.slice.size, size, fv_tape_value_of(tape, x)->shape.rank);
    }
    return FV_APPLY(tape, FV_OP_slice, &a, x);
}

fv_value fv_op_strided_slice(fv_tape *tape, fv_value x, const int64_t *begin, const int64_t *size, const int64_t *step) {
    fv_attributes a = { 0 };
    if (!fv_value_valid(tape, x)) return FV_APPLY(tape, FV_OP_strided_slice, &a, x);
    const int rank = fv_tape_value_of(tape, x)->shape.rank;
    bool plain = true;
    for (int i = 0; i < rank && step; i++) plain = plain && step[i] == 1;
    if (plain) return fv_op_slice(tape, x, begin, size);
    copy_dims(a.strided.begin, begin, rank);
    copy_dims(a.strided.size, size, rank);
    copy_dims(a.strided.step, step, rank);
    return FV_APPLY(tape, FV_OP_strided_slice, &a, x);
}

fv_value fv_op_reverse(fv_tape *tape, fv_value x, const int *axes, int count) {
    uint32_t bits = 0;
    if (fv_tape_usable(tape) || (fv_value_valid(tape, x) && axis_bits(tape, FV_OP_strided_slice, x, axes, count, &bits)))
        return none;
    fv_attributes a = { 0 };
    const fv_shape *shape = fv_value_valid(tape, x) ? &fv_tape_value_of(tape, x)->shape : &(fv_shape){ 0 };
    for (int i = 0; i < shape->rank; i++) {
        const bool turned = !count || bits >> i & 1;
        a.strided.begin[i] = turned ? shape->dim[i] - 1 : 0;
        a.strided.size[i] = shape->dim[i];
        a.strided.step[i] = turned ? -1 : 1;
    }
    return FV_APPLY(tape, FV_OP_strided_slice, &a, x);
}

int fv_op_split(fv_tape *tape, fv_value x, int axis, const int64_t *sizes, int count, fv_value *parts) {
    int status = fv_tape_usable(tape);
    if (status) return status;
    fv_context *context = tape->object.context;
    if (!fv_value_valid(tape, x) || count < 1 || !parts)
        return fv_fail(context, FV_ERROR_ARGUMENT, "split: a value, a number of parts and room for them are needed");
    const fv_shape shape = fv_tape_value_of(tape, x)->shape;
    const int64_t along = axis < 0 ? (int64_t)axis + shape.rank : axis;
    if (along < 0 || along >= shape.rank)
        return fv_fail(context, FV_ERROR_SHAPE, "split: axis %d is not one of the %d axes of %s", axis, shape.rank,
                       fv_shape_text(&shape, (char[96]){ 0 }));
    int64_t sum = 0;
    for (int i = 0; i < count && sizes && sum <= shape.dim[along]; i++) {
        if (sizes[i] < 1 || sizes[i] > shape.dim[along]) sum = shape.dim[along];
        sum += sizes[i];
    }
    if (sizes ? sum != shape.dim[along] : shape.dim[along] % count != 0)
        return fv_fail(context, FV_ERROR_SHAPE, sizes ? "split: the sizes of %d parts do not add up to axis %d of %s"
                                                      : "split: %d equal parts do not make axis %d of %s",
                       count, (int)along, fv_shape_text(&shape, (char[96]){ 0 }));
    int64_t begin[FV_RANK] = { 0 }, size[FV_RANK];
    copy_dims(size, shape.dim, shape.rank);
    for (int i = 0; i < count; i++, begin[along] += size[along]) {
        size[along] = sizes ? sizes[i] : shape.dim[along] / count;
        parts[i] = count > 1 ? fv_op_slice(tape, x, begin, size) : x;
        if (!parts[i].id) return context->status;
    }
    return FV_OK;
}

fv_value fv_op_stack(fv_tape *tape, fv_values values, int axis) {
    if (fv_tape_usable(tape)) return none;
    fv_context *context = tape->object.context;
    fv_shape shape = { 0 };
    if (values.count > 0 && values.value && fv_value_valid(tape, values.value[0]))
        shape = fv_tape_value_of(tape, values.value[0])->shape;
    const int64_t along = axis < 0 ? (int64_t)axis + shape.rank + 1 : axis;
    if (along < 0 || along > shape.rank || shape.rank == FV_RANK) {
        fv_fail(context, FV_ERROR_SHAPE, "stack: %s can have no new axis %d", fv_shape_text(&shape, (char[96]){ 0 }), axis);
        return none;
    }
    fv_value *wider = fv_alloc(context, values.count > 0 ? (size_t)values.count : 1, sizeof(fv_value), "values to stack");
    if (!wider) return none;
    for (int i = shape.rank++; i > along; i--) shape.dim[i] = shape.dim[i - 1];
    shape.dim[along] = 1;
    for (int i = 0; i < values.count; i++) wider[i] = fv_op_reshape(tape, values.value[i], shape.dim, shape.rank);
    fv_value y = fv_op_concat(tape, (fv_values){ wider, values.count }, (int)along);
    fv_free(wider);
    return y;
}

fv_value fv_op_transpose(fv_tape *tape, fv_value x, const int *axes) {
    if (!fv_value_valid(tape, x)) return FV_APPLY(tape, FV_OP_transpose, NULL, x); /* says what is wrong */
    const int rank = fv_tape_value_of(tape, x)->shape.rank;
    int32_t order[FV_RANK] = { 0 };
    for (int i = 0; i < rank; i++) order[i] = axes ? axes[i] : rank - 1 - i;
    return fv_append_transposed(tape, x, order);
}

fv_value fv_op_gather(fv_tape *tape, fv_value x, fv_value numbers, int axis, int batch_axes) {
    fv_attributes a = { .gather = { axis, batch_axes, 0 } };
    return FV_APPLY(tape, FV_OP_gather, &a, x, numbers);
}

fv_value fv_op_scatter_add(fv_tape *tape, fv_value numbers, fv_value values, int axis, int batch_axes, int64_t size) {
    fv_attributes a = { .gather = { axis, batch_axes, size } };
    return FV_APPLY(tape, FV_OP_scatter_add, &a, numbers, values);
}

fv_value fv_op_one_hot(fv_tape *tape, fv_value numbers, int classes) {
    fv_attributes a = { .gather = { .size = classes } };
    return FV_APPLY(tape, FV_OP_one_hot, &a, numbers);
}

fv_value fv_op_top_k(fv_tape *tape, fv_value x, int k, fv_value *numbers) {
    fv_attributes a = { .top_k = { k } };
    fv_value values = FV_APPLY(tape, FV_OP_top_k, &a, x);
    if (numbers) *numbers = values.id ? (fv_value){ values.id + 1 } : none;
    return values;
}

fv_value fv_op_concat(fv_tape *tape, fv_values values, int axis) {
    fv_attributes a = { .axis = { axis } };
    return fv_tape_apply(tape, FV_OP_concat, &a, values.value, values.value ? values.count : 0);
}

/* ---- Images ------------------------------------------------------------------------------------------------------ */

static fv_attributes window_attributes(const fv_window *window) {
    fv_attributes a = { 0 };
    for (int i = 0; window && i < 4; i++) {
        a.pool.pad[i] = window->pad[i];
        if (i >= 2) continue;
        a.pool.kernel[i] = window->size[i];
        a.pool.stride[i] = window->stride[i];
        a.pool.output[i] = window->output[i];
    }
    if (!window) return a; /* infer refuses a window without a size */
    a.pool.ceil_mode = window->ceil_mode;
    a.pool.exclude_padding = window->exclude_padding;
    a.pool.flat = window->flat;
    return a;
}

fv_value fv_op_max_pool2d(fv_tape *tape, fv_value x, const fv_window *window, fv_value *index) {
    fv_attributes a = window_attributes(window);
    const fv_value y = FV_APPLY(tape, FV_OP_max_pool2d, &a, x);
    if (index) *index = (fv_value){ y.id ? y.id + 1 : 0 };
    return y;
}

fv_value fv_op_avg_pool2d(fv_tape *tape, fv_value x, const fv_window *window) {
    fv_attributes a = window_attributes(window);
    return FV_APPLY(tape, FV_OP_avg_pool2d, &a, x);
}

fv_value fv_op_max_unpool2d(fv_tape *tape, fv_value x, fv_value index, const fv_window *window, int64_t height,
                            int64_t width) {
    fv_attributes a = window_attributes(window);
    if (fv_value_valid(tape, x)) {
        const fv_shape *shape = &fv_tape_value_of(tape, x)->shape;
        const int64_t image[4] = { shape->dim[0], height, width, shape->rank == 4 ? shape->dim[3] : 1 };
        for (int i = 0; i < 4; i++) a.pool.shape[i] = image[i];
    }
    return FV_APPLY(tape, FV_OP_max_pool2d_gradient, &a, index, x);
}

fv_value fv_op_resize(fv_tape *tape, fv_value x, int64_t height, int64_t width, fv_interpolation interpolation,
                      fv_corners corners) {
    fv_attributes a = { .resize = { .interpolation = (int32_t)interpolation, .corners = (int32_t)corners,
                                    .output = { height, width } } };
    return FV_APPLY(tape, FV_OP_resize, &a, x);
}

fv_value fv_op_pad(fv_tape *tape, fv_value x, const int64_t *before, const int64_t *after, fv_pad_mode mode,
                   float value) {
    fv_attributes a = { .pad = { .mode = (int32_t)mode, .value = value } };
    if (fv_value_valid(tape, x)) {
        copy_dims(a.pad.before, before, fv_tape_value_of(tape, x)->shape.rank);
        copy_dims(a.pad.after, after, fv_tape_value_of(tape, x)->shape.rank);
    }
    return FV_APPLY(tape, FV_OP_pad, &a, x);
}

/* ---- Marks ------------------------------------------------------------------------------------------------------- */

int fv_keep(fv_tape *tape, fv_value v) {
    int status = fv_tape_usable(tape);
    if (status) return status;
    if (!fv_value_valid(tape, v) || fv_tape_value_of(tape, v)->kind == FV_VALUE_NONE)
        return fv_fail(tape->object.context, FV_ERROR_ARGUMENT, "fv_keep: this is not a value of the tape");
    tape->value[v.id].kept = true;
    return FV_OK;
}

/* What was made from the value before would not know. */
int fv_watch(fv_tape *tape, fv_value v) {
    int status = fv_tape_usable(tape);
    if (status) return status;
    fv_context *context = tape->object.context;
    if (!fv_value_valid(tape, v))
        return fv_fail(context, FV_ERROR_ARGUMENT, "fv_watch: this is not a value of the tape");
    fv_tape_value *value = &tape->value[v.id];
    if ((value->kind != FV_VALUE_INPUT && value->kind != FV_VALUE_CONSTANT) || value->type != FV_F32)
        return fv_fail(context, FV_ERROR_ARGUMENT, "fv_watch: %%%d is not an input or a constant of f32", v.id);
    for (int32_t i = 0; i < tape->operand_count; i++)
        if (tape->operand[i] == v.id)
            return fv_fail(context, FV_ERROR_ARGUMENT, "fv_watch: %%%d has been used already", v.id);
    value->needs_gradient = true;
    return FV_OK;
}
