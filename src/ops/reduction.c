/* reduction.c - sums, means and maxima over a set of axes (a bit an axis; none means all), and the two sums over
 * everything that penalties on weights are made of. */
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

static int infer_total(fv_signature *s) {
    FV_TRY(fv_check_f32(s, FV_NAMES("input")));
    return fv_set_output(s, 0, FV_F32, 0, NULL);
}

static int infer_max_gradient(fv_signature *s) {
    fv_shape y;
    FV_TRY(fv_check_f32(s, FV_NAMES("input", "maximum", "maximum's gradient")));
    FV_TRY(complete_axes(s, &y));
    FV_TRY(fv_check_shape(s, 1, "maximum", &y, "the reduced input"));
    FV_TRY(fv_check_shape(s, 2, "maximum's gradient", &y, "the reduced input"));
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

FV_GRADIENT(max_gradient) {
    if (!wanted[0]) return FV_OK;
    const fv_attributes a = fv_attributes_of(tape, operation);
    input_gradient[0] = FV_APPLY(tape, FV_OP_max_gradient, &a, fv_tape_input(tape, operation, 0),
                                 fv_tape_output(tape, operation, 0), output_gradient[0]);
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
    *cost = (fv_cost){ .flops = (s->op == FV_OP_sum_squares ? 2 : 1) * fv_cost_elements(s->input[0]),
                       .bytes = fv_cost_bytes(s) };
}

FV_DESC(sum, reduce, .infer = infer_reduce, .gradient = sum_gradient, .cost = cost_reduce);
FV_DESC(mean, reduce, .infer = infer_reduce, .gradient = sum_gradient, .cost = cost_reduce);
FV_DESC(sum_squares, none, .infer = infer_total, .gradient = sum_squares_gradient, .cost = cost_reduce);
FV_DESC(sum_abs, none, .infer = infer_total, .gradient = sum_abs_gradient, .cost = cost_reduce);
FV_DESC(max, reduce, .infer = infer_reduce, .gradient = max_gradient, .cost = cost_reduce);
FV_DESC(max_gradient, reduce, .infer = infer_max_gradient, .cost = cost_reduce);
