/* elementwise.c - arithmetic element by element. add, sub, mul and div broadcast as NumPy does: shapes are aligned
 * at their last axis, and an axis of size 1 (or a missing one) is repeated. Gradients sum over what was repeated. */
#include "ops/family.h"
#include <math.h>

static int infer_binary(fv_signature *s) {
    FV_TRY(fv_check_f32(s, FV_NAMES("first operand", "second operand")));
    const fv_shape *a = s->input[0], *b = s->input[1];
    const int32_t rank = a->rank > b->rank ? a->rank : b->rank;
    int64_t dims[FV_RANK] = { 0 };
    for (int32_t i = 1; i <= rank; i++) {
        int64_t da = i <= a->rank ? a->dim[a->rank - i] : 1, db = i <= b->rank ? b->dim[b->rank - i] : 1;
        if (da != db && da != 1 && db != 1)
            return fv_op_fail(s, FV_ERROR_SHAPE, "the shapes %s and %s do not fit together", FV_TEXT(a), FV_TEXT(b));
        dims[rank - i] = da == 1 ? db : da;
    }
    return fv_set_output(s, 0, FV_F32, rank, dims);
}

/* A piece of a gradient, summed to the shape of the input that it belongs to. */
static void reduce_to(fv_tape *tape, int32_t operation, int32_t input, fv_value piece, fv_value *input_gradient) {
    fv_shape shape = *fv_shape_of(tape, fv_tape_input(tape, operation, input));
    input_gradient[input] = fv_append_reduced(tape, piece, &shape);
}

FV_GRADIENT(sum_gradient) {
    const bool minus = tape->operation[operation].op == FV_OP_sub;
    if (wanted[0]) reduce_to(tape, operation, 0, output_gradient[0], input_gradient);
    if (wanted[1]) reduce_to(tape, operation, 1, output_gradient[0], input_gradient);
    if (wanted[1] && minus)
        input_gradient[1] = fv_append_scaled(tape, input_gradient[1], -1); /* after the sum: fewer elements */
    return fv_tape_status(tape);
}

FV_GRADIENT(mul_gradient) {
    const fv_value a = fv_tape_input(tape, operation, 0), b = fv_tape_input(tape, operation, 1);
    const fv_value dy = output_gradient[0];
    if (wanted[0]) reduce_to(tape, operation, 0, fv_append_product(tape, dy, b), input_gradient);
    if (wanted[1]) reduce_to(tape, operation, 1, fv_append_product(tape, dy, a), input_gradient);
    return fv_tape_status(tape);
}

/* y = a / b: da = dy / b, db = -dy y / b */
FV_GRADIENT(div_gradient) {
    const fv_value b = fv_tape_input(tape, operation, 1), y = fv_tape_output(tape, operation, 0);
    fv_value da = FV_APPLY(tape, FV_OP_div, NULL, output_gradient[0], b);
    if (wanted[0]) reduce_to(tape, operation, 0, da, input_gradient);
    if (wanted[1]) {
        reduce_to(tape, operation, 1, FV_APPLY(tape, FV_OP_mul, NULL, da, y), input_gradient);
        input_gradient[1] = fv_append_scaled(tape, input_gradient[1], -1);
    }
    return fv_tape_status(tape);
}

FV_GRADIENT(affine_gradient) {
    if (wanted[0])
        input_gradient[0] = fv_append_scaled(tape, output_gradient[0], fv_attributes_of(tape, operation).affine.a);
    return fv_tape_status(tape);
}

FV_GRADIENT(abs_gradient) {
    if (!wanted[0]) return FV_OK;
    fv_value sign = FV_APPLY(tape, FV_OP_sign, NULL, fv_tape_input(tape, operation, 0));
    input_gradient[0] = fv_append_product(tape, output_gradient[0], sign);
    return fv_tape_status(tape);
}

FV_GRADIENT(copy_gradient) {
    if (wanted[0]) input_gradient[0] = output_gradient[0];
    return fv_tape_status(tape);
}

static int infer_cast(fv_signature *s) {
    const int32_t type = s->attributes->cast.type;
    if (!fv_type_bytes((fv_type)type)) return fv_op_fail(s, FV_ERROR_ARGUMENT, "there is no type number %d", type);
    return fv_set_output_like(s, 0, (fv_type)type, s->input[0]);
}

static int infer_copy(fv_signature *s) { return fv_set_output_like(s, 0, s->input_type[0], s->input[0]); }

enum { FIRST = 1, EITHER = 3 }; /* inputs in whose place the output may lie, if they are as large */
FV_DESC(add, none, .infer = infer_binary, .gradient = sum_gradient, .may_share = EITHER);
FV_DESC(sub, none, .infer = infer_binary, .gradient = sum_gradient, .may_share = EITHER);
FV_DESC(mul, none, .infer = infer_binary, .gradient = mul_gradient, .may_share = EITHER);
FV_DESC(div, none, .infer = infer_binary, .gradient = div_gradient, .may_share = EITHER);
FV_DESC(affine, affine, .infer = fv_infer_same, .gradient = affine_gradient, .may_share = FIRST);
FV_DESC(abs, none, .infer = fv_infer_same, .gradient = abs_gradient, .may_share = FIRST);
FV_DESC(sign, none, .infer = fv_infer_same, .may_share = FIRST);
FV_DESC(cast, cast, .infer = infer_cast);
FV_DESC(copy, none, .infer = infer_copy, .gradient = copy_gradient);
