/* indexing.c - operations that go by numbers (i32): gather, its adjoint scatter_add, one_hot, top_k. A number that the
 * axis has not reads zeros and writes nothing: gather(x, i) is one_hot(i) times x, for every i. The first `batch` axes
 * are common to x and the numbers: batch = rank - 1 takes other numbers from each row. */
#include "ops/family.h"
#include <math.h>

/* The axis, counted within `rank` axes, and the batch. */
static int check_place(fv_signature *s, int32_t numbers, int32_t rank) {
    fv_gather_attributes *a = &s->attributes->gather;
    const fv_shape *shape = s->input[numbers];
    const int64_t axis = a->axis < 0 ? (int64_t)a->axis + rank : a->axis;
    FV_TRY(fv_check_type(s, numbers, "numbers", FV_I32));
    if (axis < 0 || axis >= rank)
        return fv_op_fail(s, FV_ERROR_SHAPE, "axis %d is not one of the %d axes of the whole", a->axis, rank);
    a->axis = (int32_t)axis;
    if (a->batch < 0 || a->batch > a->axis || a->batch > shape->rank)
        return fv_op_fail(s, FV_ERROR_SHAPE, "%d common axes are more than come before axis %d or than %s has", a->batch,
                          a->axis, FV_TEXT(shape));
    return FV_OK;
}

/* Shape before the axis, what lies in its place, shape after it. */
static int set_joined(fv_signature *s, fv_type type, const fv_shape *around, int32_t before, const int64_t *middle,
                      int32_t count, int32_t after) {
    int64_t dim[3 * FV_RANK];
    int32_t rank = 0;
    for (int32_t i = 0; i < before; i++) dim[rank++] = around->dim[i];
    for (int32_t i = 0; i < count; i++) dim[rank++] = middle[i];
    for (int32_t i = after; i < around->rank; i++) dim[rank++] = around->dim[i];
    return fv_set_output(s, 0, type, rank, dim);
}

static int infer_gather(fv_signature *s) {
    fv_gather_attributes *a = &s->attributes->gather;
    const fv_shape *x = s->input[0], *numbers = s->input[1];
    FV_TRY(fv_check_rank_least(s, 0, "input", 1));
    FV_TRY(check_place(s, 1, x->rank));
    a->size = 0;
    for (int32_t i = 0; i < a->batch; i++)
        if (numbers->dim[i] != x->dim[i])
            return fv_op_fail(s, FV_ERROR_SHAPE, "the first %d axes of the numbers %s are not those of the input %s",
                              a->batch, FV_TEXT(numbers), FV_TEXT(x));
    return set_joined(s, s->input_type[0], x, a->axis, numbers->dim + a->batch, numbers->rank - a->batch, a->axis + 1);
}

static int infer_scatter_add(fv_signature *s) {
    fv_gather_attributes *a = &s->attributes->gather;
    const fv_shape *numbers = s->input[0], *values = s->input[1];
    FV_TRY(fv_check_type(s, 1, "values", FV_F32));
    const int32_t own = numbers->rank - a->batch;
    FV_TRY(check_place(s, 0, values->rank - own + 1));
    FV_TRY(fv_check_range(s, "size", (double)a->size, 1, INT32_MAX));
    bool fits = a->axis + own <= values->rank;
    for (int32_t i = 0; fits && i < numbers->rank; i++)
        fits = numbers->dim[i] == values->dim[i < a->batch ? i : a->axis + i - a->batch];
    if (!fits)
        return fv_op_fail(s, FV_ERROR_SHAPE, "the values %s have not the axes of the numbers %s from axis %d on",
                          FV_TEXT(values), FV_TEXT(numbers), a->axis);
    return set_joined(s, FV_F32, values, a->axis, &a->size, 1, a->axis + own);
}

static int infer_one_hot(fv_signature *s) {
    fv_gather_attributes *a = &s->attributes->gather;
    FV_TRY(fv_check_type(s, 0, "numbers", FV_I32));
    FV_TRY(fv_check_range(s, "the number of classes", (double)a->size, 1, INT32_MAX));
    a->axis = a->batch = 0;
    return set_joined(s, FV_F32, s->input[0], s->input[0]->rank, &a->size, 1, s->input[0]->rank);
}

static int infer_top_k(fv_signature *s) {
    FV_TRY(fv_check_type(s, 0, "input", FV_F32));
    FV_TRY(fv_check_rank_least(s, 0, "input", 1));
    fv_shape y = *s->input[0];
    int64_t *n = &y.dim[y.rank - 1];
    FV_TRY(fv_check_range(s, "k", s->attributes->top_k.k, 1, (double)(*n < INT32_MAX ? *n : INT32_MAX)));
    *n = s->attributes->top_k.k;
    FV_TRY(fv_set_output_like(s, 0, FV_F32, &y));
    return fv_set_output_like(s, 1, FV_I32, &y);
}

FV_GRADIENT(gather_gradient) {
    if (!wanted[0]) return FV_OK;
    fv_attributes a = fv_attributes_of(tape, operation);
    a.gather.size = fv_shape_of(tape, fv_tape_input(tape, operation, 0))->dim[a.gather.axis];
    input_gradient[0] =
        FV_APPLY(tape, FV_OP_scatter_add, &a, fv_tape_input(tape, operation, 1), output_gradient[0]);
    return fv_tape_status(tape);
}

FV_GRADIENT(scatter_add_gradient) {
    if (!wanted[1]) return FV_OK;
    const fv_attributes a = fv_attributes_of(tape, operation);
    input_gradient[1] = FV_APPLY(tape, FV_OP_gather, &a, output_gradient[0], fv_tape_input(tape, operation, 0));
    return fv_tape_status(tape);
}

FV_GRADIENT(top_k_gradient) {
    if (!wanted[0] || !output_gradient[0].id) return FV_OK;
    const fv_shape x = *fv_shape_of(tape, fv_tape_input(tape, operation, 0));
    const fv_attributes a = { .gather = { x.rank - 1, x.rank - 1, fv_last(&x) } };
    input_gradient[0] =
        FV_APPLY(tape, FV_OP_scatter_add, &a, fv_tape_output(tape, operation, 1), output_gradient[0]);
    return fv_tape_status(tape);
}

/* One look at each number, and a logarithm of k steps for those that come among the best. */
static void cost_top_k(const fv_signature *s, fv_cost *cost) {
    *cost = (fv_cost){ .flops = fv_cost_elements(s->input[0]), .bytes = fv_cost_bytes(s) };
}

FV_DESC(gather, gather, .infer = infer_gather, .gradient = gather_gradient, .cost = fv_cost_moved);
FV_DESC(scatter_add, gather, .infer = infer_scatter_add, .gradient = scatter_add_gradient);
FV_DESC(one_hot, gather, .infer = infer_one_hot);
FV_DESC(top_k, top_k, .infer = infer_top_k, .gradient = top_k_gradient, .cost = cost_top_k);
