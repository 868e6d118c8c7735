/* reduction.c - sums, means, extremes, products, variances over a set of axes (a bit an axis; none means all), where the
 * extremes are, the two sums over everything that penalties on weights are made of, and running sums along an axis. */
#include "ops/family.h"

/* The shape after reduction, with the reduced axes as 1 or left out. */
static fv_shape reduced(const fv_shape *x, uint32_t axes, bool keep_dims) {
    fv_shape y = { 0 };
    for (int32_t i = 0; i < x->rank; i++)
        if (!(axes >> i & 1)) {
            y.dim[y.rank++] = x->dim[i];
        } else if (keep_dims) {
            y.dim[y.rank++] = 1;
        }
    return y;
}

static int complete_axes(fv_signature *s, fv_shape *y) {
    fv_reduce_attributes *a = &s->attributes->reduce;
    const fv_shape *x = s->input[0];
    const uint32_t all = (1u << x->rank) - 1;
    if (a->axes & ~all)
        return fv_op_fail(s, FV_ERROR_SHAPE, "axis %d is not one of the %d axes of %s", 31 - __builtin_clz(a->axes),
                          x->rank, FV_TEXT(x));
    if (!a->axes) a->axes = all;
    a->keep_dims = a->keep_dims != 0;
    *y = reduced(x, a->axes, a->keep_dims);
    return FV_OK;
}

static int infer_reduce(fv_signature *s) {
    fv_shape y;
    FV_TRY(fv_check_f32(s, FV_NAMES("input")));
    FV_TRY(complete_axes(s, &y));
    return fv_set_output_like(s, 0, FV_F32, &y);
}

static int infer_variance(fv_signature *s) {
    const fv_shape *x = s->input[0];
    FV_TRY(infer_reduce(s));
    FV_TRY(fv_set_output_like(s, 1, FV_F32, &s->output[0]));
    const double count = fv_cost_elements(x) / fv_cost_elements(&s->output[0]);
    const int32_t correction = s->attributes->reduce.correction;
    if (correction >= 0 && correction < count) return FV_OK;
    return fv_op_fail(s, FV_ERROR_ARGUMENT, "a correction of %d is not within 0..%g: the sum of %g squares of %s is divided by what is left",
                      correction, count - 1, count, FV_TEXT(x));
}

static int infer_place(fv_signature *s) {
    FV_TRY(infer_reduce(s));
    s->output_type[0] = FV_I32;
    if (fv_cost_elements(s->input[0]) <= INT32_MAX) return FV_OK;
    return fv_op_fail(s, FV_ERROR_SHAPE, "%s has more elements than an i32 counts", FV_TEXT(s->input[0]));
}

static int infer_total(fv_signature *s) {
    FV_TRY(fv_check_f32(s, FV_NAMES("input")));
    return fv_set_output(s, 0, FV_F32, 0, NULL);
}

/* x, what it was reduced to unless the gradient does without, and the gradient of that. */
static int infer_spread(fv_signature *s) {
    fv_shape y;
    const bool product = s->op == FV_OP_prod_gradient;
    FV_TRY(fv_check_f32(s, product ? FV_NAMES("input", "result's gradient") : FV_NAMES("input", "result", "result's gradient")));
    FV_TRY(complete_axes(s, &y));
    for (int32_t i = 1; i < s->input_count; i++)
        FV_TRY(fv_check_shape(s, i, i == 1 && !product ? "result" : "result's gradient", &y, "the reduced input"));
    return fv_set_output_like(s, 0, FV_F32, s->input[0]);
}

static int infer_cumsum(fv_signature *s) {
    fv_cumsum_attributes *a = &s->attributes->cumsum;
    FV_TRY(fv_check_f32(s, FV_NAMES("input")));
    FV_TRY(fv_check_axis(s, &a->axis, s->input[0]));
    a->exclusive = a->exclusive != 0;
    a->reverse = a->reverse != 0;
    return fv_set_output_like(s, 0, FV_F32, s->input[0]);
}

FV_GRADIENT(sum_gradient) {
    if (!wanted[0]) return FV_OK;
    const fv_operation sum = tape->operation[operation];
    const fv_shape x = *fv_shape_of(tape, fv_tape_input(tape, operation, 0));
    const fv_shape kept = reduced(&x, sum.attributes.reduce.axes, true);
    fv_value dy = output_gradient[0];
    if (sum.op == FV_OP_mean) dy = fv_append_scaled(tape, dy, (float)(fv_cost_elements(&kept) / fv_cost_elements(&x)));
    /* A single number repeats itself; otherwise the reduced axes must stand where they were. */
    if (fv_shape_of(tape, dy)->rank) dy = fv_append_reshaped(tape, dy, &kept);
    input_gradient[0] = fv_append_broadcast(tape, dy, &x);
    return fv_tape_status(tape);
}

/* The smallest equals its result as the largest does. */
FV_GRADIENT(spread_gradient) {
    if (!wanted[0]) return FV_OK;
    const fv_attributes a = fv_attributes_of(tape, operation);
    const fv_value x = fv_tape_input(tape, operation, 0), y = fv_tape_output(tape, operation, 0);
    switch (tape->operation[operation].op) {
    case FV_OP_prod: input_gradient[0] = FV_APPLY(tape, FV_OP_prod_gradient, &a, x, output_gradient[0]); break;
    case FV_OP_logsumexp: input_gradient[0] = FV_APPLY(tape, FV_OP_logsumexp_gradient, &a, x, y, output_gradient[0]); break;
    default: input_gradient[0] = FV_APPLY(tape, FV_OP_max_gradient, &a, x, y, output_gradient[0]);
    }
    return fv_tape_status(tape);
}

/* dx = 2 (x - mean) dvariance / (count - correction) + dmean / count */
FV_GRADIENT(variance_gradient) {
    if (!wanted[0]) return FV_OK;
    const fv_reduce_attributes a = fv_attributes_of(tape, operation).reduce;
    const fv_value x = fv_tape_input(tape, operation, 0), mean = fv_tape_output(tape, operation, 1);
    const fv_shape whole = *fv_shape_of(tape, x), kept = reduced(&whole, a.axes, true);
    const double count = fv_cost_elements(&whole) / fv_cost_elements(&kept);
    fv_value dx = { 0 };
    if (output_gradient[0].id) {
        fv_value factor = fv_append_scaled(tape, output_gradient[0], (float)(2 / (count - a.correction)));
        fv_value apart = FV_APPLY(tape, FV_OP_sub, NULL, x, fv_append_reshaped(tape, mean, &kept));
        dx = FV_APPLY(tape, FV_OP_mul, NULL, apart, fv_append_reshaped(tape, factor, &kept));
    }
    if (output_gradient[1].id) {
        fv_value share = fv_append_scaled(tape, output_gradient[1], (float)(1 / count));
        share = fv_append_reshaped(tape, share, &kept);
        dx = dx.id ? FV_APPLY(tape, FV_OP_add, NULL, dx, share) : fv_append_broadcast(tape, share, &whole);
    }
    input_gradient[0] = dx;
    return fv_tape_status(tape);
}

/* An element goes into all sums from its own on: counted from the other end. */
FV_GRADIENT(cumsum_gradient) {
    if (!wanted[0]) return FV_OK;
    fv_attributes a = fv_attributes_of(tape, operation);
    a.cumsum.reverse = !a.cumsum.reverse;
    input_gradient[0] = FV_APPLY(tape, FV_OP_cumsum, &a, output_gradient[0]);
    return fv_tape_status(tape);
}

/* The factors meet as numbers before they meet the tensor. */
FV_GRADIENT(sum_squares_gradient) {
    if (wanted[0])
        input_gradient[0] = FV_APPLY(tape, FV_OP_mul, NULL, fv_tape_input(tape, operation, 0),
                                     fv_append_scaled(tape, output_gradient[0], 2));
    return fv_tape_status(tape);
}

FV_GRADIENT(sum_abs_gradient) {
    if (!wanted[0]) return FV_OK;
    fv_value sign = FV_APPLY(tape, FV_OP_sign, NULL, fv_tape_input(tape, operation, 0));
    input_gradient[0] = fv_append_product(tape, output_gradient[0], sign);
    return fv_tape_status(tape);
}

static void cost_reduce(const fv_signature *s, fv_cost *cost) {
    const int each = s->op == FV_OP_variance ? 4 : s->op == FV_OP_sum_squares || s->op == FV_OP_logsumexp ? 2 : 1;
    *cost = (fv_cost){ .flops = each * fv_cost_elements(s->input[0]),
                       .bytes = fv_cost_bytes(s) };
}

FV_DESC(sum, reduce, .infer = infer_reduce, .gradient = sum_gradient, .cost = cost_reduce);
FV_DESC(mean, reduce, .infer = infer_reduce, .gradient = sum_gradient, .cost = cost_reduce);
FV_DESC(sum_squares, none, .infer = infer_total, .gradient = sum_squares_gradient, .cost = cost_reduce);
FV_DESC(sum_abs, none, .infer = infer_total, .gradient = sum_abs_gradient, .cost = cost_reduce);
FV_DESC(max, reduce, .infer = infer_reduce, .gradient = spread_gradient, .cost = cost_reduce);
FV_DESC(max_gradient, reduce, .infer = infer_spread, .cost = cost_reduce);
FV_DESC(min, reduce, .infer = infer_reduce, .gradient = spread_gradient, .cost = cost_reduce);
FV_DESC(prod, reduce, .infer = infer_reduce, .gradient = spread_gradient, .cost = cost_reduce);
FV_DESC(prod_gradient, reduce, .infer = infer_spread, .cost = cost_reduce);
FV_DESC(variance, reduce, .infer = infer_variance, .gradient = variance_gradient, .cost = cost_reduce);
FV_DESC(logsumexp, reduce, .infer = infer_reduce, .gradient = spread_gradient, .cost = cost_reduce);
FV_DESC(logsumexp_gradient, reduce, .infer = infer_spread, .cost = cost_reduce);
FV_DESC(argmax, reduce, .infer = infer_place, .cost = cost_reduce);
FV_DESC(argmin, reduce, .infer = infer_place, .cost = cost_reduce);
FV_DESC(cumsum, cumsum, .infer = infer_cumsum, .gradient = cumsum_gradient, .cost = cost_reduce);
