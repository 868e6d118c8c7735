/* elementwise.c - arithmetic element by element. Operations of several inputs broadcast as NumPy does: shapes are
 * aligned at their last axis, and an axis of size 1 (or a missing one) is repeated. Gradients sum over what was
 * repeated. */
#include "ops/family.h"
#include <math.h>

/* Two or three operands; every output has the shape to which they are repeated. */
static int infer_broadcast(fv_signature *s) {
    FV_TRY(fv_check_f32(s, FV_NAMES("first operand", "second operand", "third operand")));
    fv_shape all = *s->input[0];
    for (int32_t k = 1; k < s->input_count; k++) {
        const fv_shape *b = s->input[k], before = all;
        all.rank = before.rank > b->rank ? before.rank : b->rank;
        for (int32_t i = 1; i <= all.rank; i++) {
            int64_t da = i <= before.rank ? before.dim[before.rank - i] : 1, db = i <= b->rank ? b->dim[b->rank - i] : 1;
            if (da != db && da != 1 && db != 1)
                return fv_op_fail(s, FV_ERROR_SHAPE, "the shapes %s and %s do not fit together", FV_TEXT(&before),
                                  FV_TEXT(b));
            all.dim[all.rank - i] = da == 1 ? db : da;
        }
    }
    for (int32_t o = 0; o < fv_op_table[s->op]->outputs; o++) FV_TRY(fv_set_output(s, o, FV_F32, all.rank, all.dim));
    return FV_OK;
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

/* da = dy b a^(b-1), db = dy y log a */
FV_GRADIENT(power_gradient) {
    const fv_value operand[] = { fv_tape_input(tape, operation, 0), fv_tape_input(tape, operation, 1),
                                 output_gradient[0] };
    const int32_t g = fv_tape_append(tape, FV_OP_power_gradient, NULL, operand, 3);
    for (int32_t i = 0; i < 2 && g >= 0; i++)
        if (wanted[i]) reduce_to(tape, operation, i, fv_tape_output(tape, g, i), input_gradient);
    return fv_tape_status(tape);
}

/* The gradient goes to the larger one, or in halves to both: maximum_gradient(a, b, dy) is a's part. Of a minimum it
 * is the other's. */
FV_GRADIENT(maximum_gradient) {
    const fv_value v[] = { fv_tape_input(tape, operation, 0), fv_tape_input(tape, operation, 1) };
    const int32_t minimum = tape->operation[operation].op == FV_OP_minimum;
    for (int32_t i = 0; i < 2; i++)
        if (wanted[i])
            reduce_to(tape, operation, i,
                      FV_APPLY(tape, FV_OP_maximum_gradient, NULL, v[i ^ minimum], v[!i ^ minimum], output_gradient[0]),
                      input_gradient);
    return fv_tape_status(tape);
}

FV_GRADIENT(where_gradient) {
    const fv_value condition = fv_tape_input(tape, operation, 0), dy = output_gradient[0];
    for (int32_t i = 1; i <= 2; i++) {
        if (!wanted[i]) continue;
        const fv_value zero = fv_op_scalar(tape, 0);
        const fv_value part =
            FV_APPLY(tape, FV_OP_where, NULL, condition, i == 1 ? dy : zero, i == 1 ? zero : dy);
        reduce_to(tape, operation, i, part, input_gradient);
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

enum { FIRST = 1, EITHER = 3, ANY = 7 }; /* inputs in whose place the output may lie, if they are as large */
FV_DESC(add, none, .infer = infer_broadcast, .gradient = sum_gradient, .may_share = EITHER);
FV_DESC(sub, none, .infer = infer_broadcast, .gradient = sum_gradient, .may_share = EITHER);
FV_DESC(mul, none, .infer = infer_broadcast, .gradient = mul_gradient, .may_share = EITHER);
FV_DESC(div, none, .infer = infer_broadcast, .gradient = div_gradient, .may_share = EITHER);
FV_DESC(power, none, .infer = infer_broadcast, .gradient = power_gradient, .may_share = EITHER);
FV_DESC(power_gradient, none, .infer = infer_broadcast, .may_share = ANY);
FV_DESC(maximum, none, .infer = infer_broadcast, .gradient = maximum_gradient, .may_share = EITHER);
FV_DESC(minimum, none, .infer = infer_broadcast, .gradient = maximum_gradient, .may_share = EITHER);
FV_DESC(maximum_gradient, none, .infer = infer_broadcast, .may_share = ANY);
FV_DESC(equal, none, .infer = infer_broadcast, .may_share = EITHER);
FV_DESC(not_equal, none, .infer = infer_broadcast, .may_share = EITHER);
FV_DESC(less, none, .infer = infer_broadcast, .may_share = EITHER);
FV_DESC(less_equal, none, .infer = infer_broadcast, .may_share = EITHER);
FV_DESC(where, none, .infer = infer_broadcast, .gradient = where_gradient, .may_share = ANY);
FV_DESC(affine, affine, .infer = fv_infer_same, .gradient = affine_gradient, .may_share = FIRST);
FV_DESC(abs, none, .infer = fv_infer_same, .gradient = abs_gradient, .may_share = FIRST);
FV_DESC(sign, none, .infer = fv_infer_same, .may_share = FIRST);
FV_DESC(cast, cast, .infer = infer_cast);
FV_DESC(copy, none, .infer = infer_copy, .gradient = copy_gradient);
