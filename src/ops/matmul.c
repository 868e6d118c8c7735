/* matmul.c - products of matrices: a [.., m, k] times b [.., k, n], each of them transposed if asked for, the axes before
 * broadcast as NumPy does. The gradients are products again. */
#include "ops/family.h"

/* Sizes of op(a): rows and columns after transposing. */
static int64_t rows_of(const fv_shape *x, int32_t transposed) { return x->dim[x->rank - (transposed ? 1 : 2)]; }
static int64_t columns_of(const fv_shape *x, int32_t transposed) { return x->dim[x->rank - (transposed ? 2 : 1)]; }

static int infer_matmul(fv_signature *s) {
    fv_matmul_attributes *o = &s->attributes->matmul;
    const fv_shape *a = s->input[0], *b = s->input[1];
    FV_TRY(fv_check_f32(s, FV_NAMES("first matrix", "second matrix")));
    FV_TRY(fv_check_rank_least(s, 0, "first matrix", 2));
    FV_TRY(fv_check_rank_least(s, 1, "second matrix", 2));
    o->transpose_a = o->transpose_a != 0;
    o->transpose_b = o->transpose_b != 0;
    if (columns_of(a, o->transpose_a) != rows_of(b, o->transpose_b))
        return fv_op_fail(s, FV_ERROR_SHAPE, "the matrices %s%s and %s%s do not fit: %lld columns meet %lld rows", FV_TEXT(a),
                          o->transpose_a ? " transposed" : "", FV_TEXT(b), o->transpose_b ? " transposed" : "",
                          (long long)columns_of(a, o->transpose_a), (long long)rows_of(b, o->transpose_b));
    fv_shape y = { .rank = a->rank > b->rank ? a->rank : b->rank };
    for (int32_t i = 1; i <= y.rank - 2; i++) { /* from the last of the axes before */
        const int64_t of_a = i <= a->rank - 2 ? a->dim[a->rank - 2 - i] : 1;
        const int64_t of_b = i <= b->rank - 2 ? b->dim[b->rank - 2 - i] : 1;
        if (of_a != of_b && of_a != 1 && of_b != 1)
            return fv_op_fail(s, FV_ERROR_SHAPE, "the axes before the matrices of %s and %s do not broadcast", FV_TEXT(a),
                              FV_TEXT(b));
        y.dim[y.rank - 2 - i] = of_a == 1 ? of_b : of_a;
    }
    y.dim[y.rank - 2] = rows_of(a, o->transpose_a);
    y.dim[y.rank - 1] = columns_of(b, o->transpose_b);
    return fv_set_output_like(s, 0, FV_F32, &y);
}

static fv_value product(fv_tape *tape, fv_value a, bool transpose_a, fv_value b, bool transpose_b) {
    const fv_attributes attributes = { .matmul = { transpose_a, transpose_b } };
    return FV_APPLY(tape, FV_OP_matmul, &attributes, a, b);
}

/* All axes but the last as rows: one long product instead of a sum of many. */
static fv_value flattened(fv_tape *tape, fv_value v) {
    const fv_shape *x = fv_shape_of(tape, v);
    const fv_shape flat = { 2, { fv_shape_elements(x) / fv_last(x), fv_last(x) } };
    return fv_append_reshaped(tape, v, &flat);
}

/* y = A B: dA = dy B', dB = A' dy; of a transposed operand the transpose. Axes that broadcasting repeated are summed. */
FV_GRADIENT(matmul_gradient) {
    const fv_matmul_attributes o = fv_attributes_of(tape, operation).matmul;
    const fv_value a = fv_tape_input(tape, operation, 0), b = fv_tape_input(tape, operation, 1);
    const fv_value dy = output_gradient[0];
    const fv_shape of_a = *fv_shape_of(tape, a), of_b = *fv_shape_of(tape, b);
    const bool one_b = fv_shape_elements(&of_b) == of_b.dim[of_b.rank - 2] * fv_last(&of_b);
    fv_value da = { 0 }, db = { 0 };
    if (wanted[1] && one_b && !o.transpose_a) {
        const fv_value rows = flattened(tape, a), dy_rows = flattened(tape, dy);
        db = o.transpose_b ? product(tape, dy_rows, true, rows, false) : product(tape, rows, true, dy_rows, false);
        db = fv_append_reshaped(tape, db, &of_b);
    } else if (wanted[1]) {
        db = o.transpose_b ? product(tape, dy, true, a, o.transpose_a) : product(tape, a, !o.transpose_a, dy, false);
    }
    if (wanted[0]) da = o.transpose_a ? product(tape, b, o.transpose_b, dy, true) : product(tape, dy, false, b, !o.transpose_b);
    if (wanted[0]) input_gradient[0] = fv_append_reduced(tape, da, &of_a);
    if (wanted[1]) input_gradient[1] = fv_append_reduced(tape, db, &of_b);
    return fv_tape_status(tape);
}

static void cost_matmul(const fv_signature *s, fv_cost *cost) {
    const double k = (double)columns_of(s->input[0], s->attributes->matmul.transpose_a);
    cost->macs = k * fv_cost_elements(&s->output[0]);
    cost->flops = 2 * cost->macs;
    cost->bytes = fv_cost_bytes(s);
}

FV_DESC(matmul, matmul, .infer = infer_matmul, .gradient = matmul_gradient, .cost = cost_matmul);
