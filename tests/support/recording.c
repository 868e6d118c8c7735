/* recording.c - see recording.h. */
#include "support/recording.h"

fv_context *context;
fv_store store; /* only its address matters here */

int open_context(void **state) {
    (void)state;
    context = fv_open("reference");
    assert_non_null(context);
    assert_null(fv_error(context));
    return 0;
}

int close_context(void **state) {
    (void)state;
    fv_close(context);
    return 0;
}

fv_shape shape_of(int rank, const int64_t *dims) {
    fv_shape shape = { 0 };
    assert_int_equal(fv_shape_make(context, "a test", rank, dims, &shape), FV_OK);
    return shape;
}

int64_t next_offset;
fv_value weight_of(fv_tape *tape, bool trainable, const int64_t *dims, int rank) {
    fv_shape shape = shape_of(rank, dims);
    fv_value v = fv_tape_state(tape, &store, FV_PARAMETERS, next_offset, FV_F32, &shape, trainable);
    next_offset += (fv_shape_elements(&shape) + 15) / 16 * 16;
    return v;
}

fv_value control_of(fv_tape *tape) {
    const fv_shape shape = { 1, { sizeof(fv_control) } };
    return fv_tape_state(tape, &store, FV_CONTROL, 0, FV_U8, &shape, false);
}

fv_value region_of(fv_tape *tape, fv_region region, fv_type type, int64_t elements) {
    const fv_shape shape = { 1, { elements } };
    return fv_tape_state(tape, &store, region, 0, type, &shape, false);
}

fv_value conv(fv_tape *t, fv_value x, fv_value w, int stride, int dilation, int groups, int top, int bottom, int left,
              int right) {
    fv_attributes a = { .conv = { .stride = { stride, stride },
                                  .dilation = { dilation, dilation },
                                  .groups = groups,
                                  .pad = { top, bottom, left, right } } };
    return FV_APPLY(t, FV_OP_conv2d, &a, x, w);
}

int count_of(const fv_tape *tape, fv_op op) {
    int count = 0;
    for (int32_t i = 0; i < tape->operation_count; i++) count += tape->operation[i].op == op;
    return count;
}

void assert_shape_at(const char *file, int line, const fv_tape *tape, fv_value v, int rank, const int64_t *dims) {
    if (!fv_value_valid(tape, v)) fail_msg("%s:%d: no value: %s", file, line, fv_error(context));
    const fv_shape wanted = shape_of(rank, dims), *got = &fv_tape_value_of(tape, v)->shape;
    if (!fv_shape_equal(&wanted, got)) fail_msg("%s:%d: %s instead of %s", file, line, FV_TEXT(got), FV_TEXT(&wanted));
}

void assert_refused_at(const char *file, int line, fv_value v, fv_status status, const char *const *words) {
    const char *error = fv_error(context);
    if (v.id || !error) fail_msg("%s:%d: not refused", file, line);
    if (fv_error_status(context) != status)
        fail_msg("%s:%d: status %d: %s", file, line, fv_error_status(context), error);
    for (; *words; words++)
        if (!strstr(error, *words)) fail_msg("%s:%d: '%s' is not in '%s'", file, line, *words, error);
    fv_clear_error(context);
}

void assert_ssa(const fv_tape *tape) {
    int32_t next = 1;
    for (int32_t i = 0; i < tape->operation_count; i++) {
        const fv_operation *o = &tape->operation[i];
        assert_in_range(o->op, FV_OP_NONE + 1, FV_OP_COUNT - 1);
        for (; next < o->output; next++) assert_int_equal(tape->value[next].producer, -1);
        assert_int_equal(o->output, next);
        assert_int_equal(o->output_count, fv_op_table[o->op]->outputs);
        for (int32_t n = 0; n < o->output_count; n++, next++) assert_int_equal(tape->value[next].producer, i);
        assert_true(o->input >= 0 && o->input + o->input_count <= tape->operand_count);
        for (int32_t n = 0; n < o->input_count; n++) {
            const int32_t id = tape->operand[o->input + n];
            assert_in_range(id, 0, o->output - 1);
            assert_true(id || fv_op_table[o->op]->optional >> n & 1);
        }
        assert_in_range(o->label, 0, tape->label_count - 1);
    }
    for (; next < tape->value_count; next++) assert_int_equal(tape->value[next].producer, -1);
    for (int32_t v = 1; v < tape->value_count; v++)
        for (int32_t d = 0; d < tape->value[v].shape.rank; d++) assert_true(tape->value[v].shape.dim[d] >= 1);
    for (int32_t v = 1; v < tape->gradient_count; v++)
        if (tape->gradient[v])
            assert_true(fv_shape_equal(&tape->value[v].shape, &tape->value[tape->gradient[v]].shape));
}
