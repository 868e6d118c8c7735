/* test_planner.c - the planner on random tapes from a seed, judged by a simulation that knows nothing of lifetimes: every
 * cell of the arena remembers which value was written there last, and every operand must find itself. And the verifier:
 * programs broken by hand are refused. Kernels of a wrapped backend ask for scratch and fill it with rubbish. */
#include "program/program.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- A backend whose kernels use scratch ------------------------------------------------------------------------- */

static fv_kernel wrapped[FV_OP_COUNT];
static fv_backend wrapper;

static int prepare_wrapped(fv_device *device, fv_task *task) {
    (void)device;
    uint32_t elements = (uint32_t)fv_elements(&task->output[0]);
    task->scratch_bytes = elements * 2654435761u % 5 * 100; /* 0, 100 .. 400: not multiples of the alignment */
    return FV_OK;
}

static int run_wrapped(fv_device *device, const fv_task *task) {
    if (task->scratch_bytes) memset(task->scratch, 0xA5, task->scratch_bytes);
    return fv_backend_reference.kernels[task->op].run(device, task);
}

static fv_context *open_wrapped(void) {
    fv_context *c = fv_open("reference");
    assert_true(fv_ok(c));
    for (int i = 0; i < FV_OP_COUNT; i++)
        if (fv_backend_reference.kernels[i].run)
            wrapped[i] = (fv_kernel){ .prepare = prepare_wrapped, .run = run_wrapped };
    wrapper = fv_backend_reference;
    wrapper.kernels = wrapped;
    c->backend = &wrapper;
    return c;
}

/* ---- Random tapes ------------------------------------------------------------------------------------------------ */

enum { ROWS = 6, MOST_VALUES = 256, OPERATIONS = 60 };

typedef struct maker {
    fv_tape *tape;
    fv_random random;
    fv_value value[MOST_VALUES]; /* all of [ROWS, width] */
    int count;
} maker;

static int64_t width(const maker *m, fv_value v) { return fv_tape_value_of(m->tape, v)->shape.dim[1]; }
static uint32_t below(maker *m, uint32_t n) { return fv_random_below(&m->random, n); }
static fv_value any(maker *m) { /* recent ones more often */
    int back = (int)below(m, below(m, 4) ? 6 : (uint32_t)m->count);
    return m->value[back < m->count ? m->count - 1 - back : 0];
}
static void push(maker *m, fv_value v) {
    assert_true(v.id > 0);
    if (m->count < MOST_VALUES) m->value[m->count++] = v;
}

static fv_value constant(maker *m, int64_t rows, int64_t columns) {
    float *values = calloc((size_t)(rows * columns), sizeof *values);
    for (int64_t i = 0; i < rows * columns; i++) values[i] = (float)fv_random_uniform(&m->random) - 0.5f;
    fv_value v = fv_op_constant(m->tape, (int64_t[]){ rows, columns }, 2, values);
    free(values);
    return v;
}

static fv_value normalized(maker *m, fv_value x) {
    float zeros[64] = { 0 }, ones[64];
    for (int i = 0; i < 64; i++) ones[i] = 1;
    int64_t channels = width(m, x);
    fv_value mean = fv_op_constant(m->tape, &channels, 1, zeros),
             variance = fv_op_constant(m->tape, &channels, 1, ones);
    fv_attributes a = { .norm = { .epsilon = 1e-3f, .momentum = 0.9f } };
    fv_value y = FV_APPLY(m->tape, FV_OP_batch_norm_train, &a, x, (fv_value){ 0 }, (fv_value){ 0 }, mean, variance);
    if (below(m, 2)) fv_keep(m->tape, (fv_value){ y.id + 3 }); /* of five outputs some are read, some are not */
    return y;
}

static void add_operation(maker *m) {
    fv_tape *t = m->tape;
    fv_value x = any(m), y = any(m);
    switch (below(m, 10)) {
    case 0: push(m, fv_op_relu(t, x)); break;
    case 1: push(m, fv_op_tanh(t, x)); break;
    case 2: push(m, width(m, x) == width(m, y) ? fv_op_add(t, x, y) : fv_op_sigmoid(t, x)); break;
    case 3: push(m, width(m, x) == width(m, y) ? fv_op_mul(t, x, y) : fv_op_sub(t, x, x)); break;
    case 4: push(m, fv_op_dense(t, x, constant(m, 1 + below(m, 20), width(m, x)))); break;
    case 5: push(m, fv_op_softmax(t, x, 1)); break;
    case 6:
        if (width(m, x) + width(m, y) <= 40) push(m, fv_op_concat(t, FV_VALUES(x, y), 1));
        break;
    case 7: { /* there and back: the reshaped value may be read, too */
        fv_value r = fv_op_reshape(t, x, (int64_t[]){ width(m, x), ROWS }, 2);
        push(m, fv_op_reshape(t, below(m, 2) ? r : fv_op_relu(t, r), (int64_t[]){ ROWS, width(m, x) }, 2));
        break;
    }
    case 8: push(m, normalized(m, x)); break;
    default: fv_keep(t, below(m, 3) ? x : fv_op_mean(t, x)); break;
    }
}

static fv_tape *random_tape(fv_context *c, uint64_t seed) {
    maker *m = calloc(1, sizeof *m);
    m->tape = fv_tape_new(c);
    m->random = fv_random_make(seed, 1);
    for (int i = 0; i < 3; i++) push(m, fv_op_input(m->tape, (int64_t[]){ ROWS, 3 + 4 * i }, 2, FV_F32));
    for (int i = 0; i < OPERATIONS; i++) add_operation(m);
    fv_keep(m->tape, m->value[m->count - 1]);
    fv_tape *tape = m->tape;
    free(m);
    assert_true(fv_ok(c));
    return tape;
}

/* ---- The simulation ---------------------------------------------------------------------------------------------- */

enum { CELL = 4, NOBODY = 0, SCRATCH = -1 };

typedef struct arena {
    int32_t *owner;
    size_t cells;
} arena;

static int32_t source(const fv_tape *t, int32_t v) {
    while (t->value[v].producer >= 0 && t->operation[t->value[v].producer].op == FV_OP_reshape)
        v = t->operand[t->operation[t->value[v].producer].input];
    return v;
}

/* Where the value lies by the addresses that kernels get. */
static bool extent(const fv_program *p, const fv_tensor *tensor, size_t *begin, size_t *end) {
    const unsigned char *at = tensor->data, *base = p->arena;
    if (!at || at < base || at >= base + p->arena_bytes) return false;
    *begin = (size_t)(at - base) / CELL;
    *end = *begin + (size_t)fv_elements(tensor);
    assert_int_equal((size_t)(at - base) % 64, 0);
    assert_true(*end * CELL <= p->arena_bytes);
    return true;
}

static void write_cells(arena *a, size_t begin, size_t end, int32_t owner) {
    for (size_t i = begin; i < end; i++) a->owner[i] = owner;
}

static void check_cells(const arena *a, size_t begin, size_t end, int32_t owner) {
    for (size_t i = begin; i < end; i++) assert_int_equal(a->owner[i], owner);
}

/* Outputs and scratch of one task must not meet each other, nor an operand, but for output 0 exactly in place. */
static void check_task(const fv_program *p, const fv_task *task) {
    enum { MOST = 16 };
    size_t begin[MOST], end[MOST];
    int count = 0, outputs = 0;
    for (int k = 0; k < task->output_count; k++) count += extent(p, &task->output[k], &begin[count], &end[count]);
    if (task->scratch_bytes) {
        begin[count] = (size_t)((unsigned char *)task->scratch - (unsigned char *)p->arena) / CELL;
        end[count] = begin[count] + (task->scratch_bytes + CELL - 1) / CELL;
        count++;
    }
    outputs = count;
    for (int k = 0; k < task->input_count && count < MOST; k++)
        count += extent(p, &task->input[k], &begin[count], &end[count]);
    for (int i = 0; i < outputs; i++)
        for (int k = i + 1; k < count; k++) {
            bool meets = begin[i] < end[k] && begin[k] < end[i];
            bool same = begin[i] == begin[k] && end[i] == end[k];
            assert_true(!meets || (k >= outputs && i == 0 && same && fv_op_table[task->op]->may_share));
        }
}

static void simulate(const fv_program *p) {
    arena a = { .cells = p->arena_bytes / CELL };
    a.owner = calloc(a.cells + 1, sizeof *a.owner);
    size_t begin, end;
    for (int32_t i = 0; i < p->task_count; i++) {
        const fv_task *task = &p->task[i];
        const int32_t *id = p->tensor_value + (task->input - p->tensor);
        for (int k = 0; k < task->input_count; k++)
            if (extent(p, &task->input[k], &begin, &end))
                check_cells(&a, begin, end, source(p->tape, id[k]));
            else if (id[k])
                assert_int_not_equal(p->tape->value[source(p->tape, id[k])].kind, FV_VALUE_TEMPORARY);
        check_task(p, task);
        if (task->scratch_bytes) {
            begin = (size_t)((unsigned char *)task->scratch - (unsigned char *)p->arena) / CELL;
            write_cells(&a, begin, begin + (task->scratch_bytes + CELL - 1) / CELL, SCRATCH);
        }
        for (int k = 0; k < task->output_count; k++)
            if (extent(p, &task->output[k], &begin, &end)) write_cells(&a, begin, end, id[task->input_count + k]);
    }
    for (int32_t v = 1; v < p->tape->value_count; v++) { /* what is kept is still there */
        const fv_tape_value *value = &p->tape->value[v];
        assert_int_equal(p->place[v].first, p->place[source(p->tape, v)].first);
        if (!value->kept || value->kind != FV_VALUE_TEMPORARY) continue;
        fv_tensor tensor = { .data = fv_program_address(p, v), .rank = value->shape.rank };
        memcpy(tensor.dim, value->shape.dim, sizeof tensor.dim);
        if (extent(p, &tensor, &begin, &end)) check_cells(&a, begin, end, source(p->tape, v));
    }
    free(a.owner);
}

/* ---- Bounds ------------------------------------------------------------------------------------------------------ */

static size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* No arena is larger than all blocks side by side (a debug program's is exactly that), or smaller than what one task touches. */
static void check_bounds(const fv_program *p) {
    size_t sum = 0, largest = 0;
    for (int32_t i = 0; i < p->task_count; i++) {
        const fv_task *task = &p->task[i];
        size_t touched = rounded(task->scratch_bytes), begin, end;
        sum += rounded(task->scratch_bytes);
        const unsigned char *seen[64];
        int count = 0;
        for (int k = 0; k < task->input_count + task->output_count; k++) {
            const fv_tensor *tensor = k < task->input_count ? &task->input[k] : &task->output[k - task->input_count];
            if (!extent(p, tensor, &begin, &end)) continue;
            size_t bytes = rounded((end - begin) * CELL);
            if (k >= task->input_count) sum += bytes;
            bool known = false;
            for (int s = 0; s < count; s++) known |= seen[s] == tensor->data;
            seen[count++] = tensor->data;
            if (!known) touched += bytes;
        }
        if (touched > largest) largest = touched;
    }
    assert_true(p->debug ? p->arena_bytes == sum : p->arena_bytes <= sum);
    assert_true(p->arena_bytes >= largest);
}

/* ---- Tests ------------------------------------------------------------------------------------------------------- */

static void write_inputs(fv_program *p, uint64_t seed) {
    fv_random random = fv_random_make(seed, 2);
    for (int32_t v = 1; v < p->tape->value_count; v++) {
        const fv_tape_value *value = &p->tape->value[v];
        if (value->kind != FV_VALUE_INPUT) continue;
        float data[ROWS * 64];
        int64_t elements = fv_shape_elements(&value->shape);
        for (int64_t i = 0; i < elements; i++) data[i] = (float)fv_random_normal(&random);
        assert_int_equal(fv_write(p, (fv_value){ v }, data, (size_t)elements * sizeof(float)), 0);
    }
}

static void compare_kept(fv_program *a, fv_program *b, const fv_tape *tape) {
    for (int32_t v = 1; v < tape->value_count; v++) {
        if (!tape->value[v].kept) continue;
        float x[ROWS * 64], y[ROWS * 64];
        size_t bytes = (size_t)fv_shape_elements(&tape->value[v].shape) * sizeof(float);
        assert_int_equal(fv_read(a, (fv_value){ v }, x, bytes), 0);
        assert_int_equal(fv_read(b, (fv_value){ v }, y, bytes), 0);
        assert_memory_equal(x, y, bytes);
    }
}

static void test_random_tapes(void **state) {
    (void)state;
    fv_context *c = open_wrapped();
    size_t planned = 0, without_reuse = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        fv_tape *tape = random_tape(c, seed);
        fv_program *compiled = fv_compile(tape),
                   *debug = fv_compile_with(tape, &(fv_compile_options){ .struct_size = sizeof(fv_compile_options), .debug = true });
        assert_non_null(compiled);
        assert_non_null(debug);
        write_inputs(compiled, seed);
        write_inputs(debug, seed);
        for (int run = 0; run < 2; run++) { /* the second finds what the first left behind */
            assert_int_equal(fv_run(compiled), 0);
            assert_int_equal(fv_run(debug), 0);
            compare_kept(compiled, debug, tape);
        }
        simulate(compiled);
        simulate(debug);
        check_bounds(compiled);
        check_bounds(debug);
        planned += compiled->arena_bytes;
        without_reuse += debug->arena_bytes;
        fv_program_free(compiled);
        fv_program_free(debug);
        fv_tape_free(tape);
    }
    assert_true(2 * planned < without_reuse);
    assert_int_equal(fv_close(c), 0);
}

static void test_chain_needs_two_blocks(void **state) {
    (void)state;
    fv_context *c = fv_open("reference");
    fv_tape *t = fv_tape_new(c);
    fv_value x = fv_op_input(t, (int64_t[]){ 8, 16 }, 2, FV_F32);
    for (int i = 0; i < 20; i++) x = i % 2 ? fv_op_softmax(t, x, 1) : fv_op_relu(t, x); /* relu in place, softmax not */
    fv_keep(t, x);
    fv_program *p = fv_compile(t);
    assert_non_null(p);
    assert_int_equal(p->arena_bytes, 2 * 8 * 16 * sizeof(float));
    assert_int_equal(p->input_bytes, 8 * 16 * sizeof(float));
    assert_int_equal(fv_program_bytes(p), 3 * 8 * 16 * sizeof(float));
    fv_program_free(p);
    fv_tape *in_place = fv_tape_new(c);
    x = fv_op_softmax(in_place, fv_op_input(in_place, (int64_t[]){ 8, 16 }, 2, FV_F32), 1);
    for (int i = 0; i < 20; i++) x = fv_op_relu(in_place, x);
    fv_keep(in_place, x);
    p = fv_compile(in_place);
    assert_int_equal(p->arena_bytes, 8 * 16 * sizeof(float));
    fv_program_free(p);
    p = fv_compile(t);
    int64_t measured = 0;
    size_t used = c->memory_used;
    assert_int_equal(fv_program_measure(t, &measured), 0);
    assert_int_equal(measured, fv_program_bytes(p));
    assert_int_equal(c->memory_used, used);
    assert_int_equal(fv_close(c), 0);
}

/* ---- The verifier ------------------------------------------------------------------------------------------------ */

static fv_program *program_to_break(fv_context *c) {
    fv_tape *t = fv_tape_new(c);
    fv_value x = fv_op_input(t, (int64_t[]){ 4, 8 }, 2, FV_F32);
    fv_value a = fv_op_softmax(t, x, 1), b = fv_op_softmax(t, a, 1), d = fv_op_softmax(t, b, 1);
    fv_keep(t, fv_op_add(t, fv_op_add(t, a, b), d));
    fv_program *p = fv_program_build(t, NULL, false);
    assert_non_null(p);
    assert_int_equal(fv_program_verify(p), 0);
    return p;
}

static void expect_error(fv_context *c, fv_status status, const char *part) {
    assert_non_null(fv_error(c));
    if (!strstr(fv_error(c), part)) fail_msg("'%s' does not contain '%s'", fv_error(c), part);
    assert_int_equal(fv_error_status(c), status);
    fv_clear_error(c);
}

static void test_verifier_overlap(void **state) {
    (void)state;
    fv_context *c = fv_open("reference");
    fv_program *p = program_to_break(c);
    int32_t first = p->tape->operation[0].output, second = p->tape->operation[1].output;
    int64_t offset = p->place[second].offset;
    p->place[second].offset = p->place[first].offset; /* both live during task 1 */
    assert_int_equal(fv_program_verify(p), FV_ERROR_INTERNAL);
    expect_error(c, FV_ERROR_INTERNAL, "overlap in the arena");
    p->place[second].offset = p->place[first].offset + 64;
    assert_int_equal(fv_program_verify(p), FV_ERROR_INTERNAL);
    expect_error(c, FV_ERROR_INTERNAL, "overlap in the arena");
    p->place[second].offset = (int64_t)p->arena_bytes;
    assert_int_equal(fv_program_verify(p), FV_ERROR_INTERNAL);
    expect_error(c, FV_ERROR_INTERNAL, "outside the arena");
    p->place[second].offset = offset;
    assert_int_equal(fv_program_verify(p), 0);
    p->task[1].scratch_bytes = 64; /* scratch where an operand lies */
    p->scratch_offset[1] = p->place[first].offset;
    assert_int_equal(fv_program_verify(p), FV_ERROR_INTERNAL);
    expect_error(c, FV_ERROR_INTERNAL, "overlap in the arena");
    p->task[1].scratch_bytes = 0;
    assert_int_equal(fv_close(c), 0);
}

/* A softmax may not lie where its operand lay, though that dies there; and of two operands at one place a sum neither. */
static void test_verifier_in_place(void **state) {
    (void)state;
    fv_context *c = fv_open("reference");
    for (int twice = 0; twice < 2; twice++) {
        fv_tape *t = fv_tape_new(c);
        fv_value a = fv_op_softmax(t, fv_op_input(t, (int64_t[]){ 4, 8 }, 2, FV_F32), 1);
        fv_value b = twice ? fv_op_mul(t, a, fv_op_reshape(t, a, (int64_t[]){ 4, 8 }, 2)) : fv_op_softmax(t, a, 1);
        fv_keep(t, b);
        fv_program *p = fv_program_build(t, NULL, false);
        assert_int_equal(p->arena_bytes, 256);
        p->place[b.id].offset = p->place[a.id].offset;
        assert_int_equal(fv_program_verify(p), FV_ERROR_INTERNAL);
        expect_error(c, FV_ERROR_INTERNAL, "overlap in the arena");
    }
    assert_int_equal(fv_close(c), 0);
}

static void test_verifier_placed(void **state) {
    (void)state;
    fv_context *c = fv_open("reference");
    fv_store *s = fv_store_new(c, NULL, 0, 64, 0);
    for (int64_t offset = 12; offset <= 16; offset += 4) { /* sixteen elements from 0, then from 12 or 16 */
        fv_tape *t = fv_tape_new(c);
        fv_value x = fv_op_input(t, (int64_t[]){ 16 }, 1, FV_F32);
        fv_keep(t, fv_tape_place(t, fv_op_relu(t, x), s, FV_GRADIENTS, 0));
        fv_keep(t, fv_tape_place(t, fv_op_tanh(t, x), s, FV_GRADIENTS, offset));
        bool fits = offset == 16;
        assert_int_equal(fv_compile(t) != NULL, fits);
        if (!fits) expect_error(c, FV_ERROR_INTERNAL, "overlap in the gradients");
    }
    fv_store_free(s);
    assert_int_equal(fv_close(c), 0);
}

static void test_verifier_order(void **state) {
    (void)state;
    fv_context *c = fv_open("reference");
    fv_program *p = program_to_break(c);
    fv_tape *t = p->tape;
    fv_operation swapped = t->operation[1];
    t->operation[1] = t->operation[2];
    t->operation[2] = swapped;
    fv_tape_compact(t); /* producers as the new order has them */
    assert_int_equal(fv_program_verify(p), FV_ERROR_INTERNAL);
    expect_error(c, FV_ERROR_INTERNAL, "before it is written");
    assert_int_equal(fv_close(c), 0);
}

/* A tape on which parameters are read again, under their old name, after the metric state that holds them was written. */
static void test_verifier_old_state(void **state) {
    (void)state;
    fv_context *c = fv_open("reference");
    fv_store *s = fv_store_new(c, NULL, 0, 0, 0);
    fv_tape *t = fv_tape_new(c);
    fv_shape pair = { 1, { 2 } };
    fv_value metric = fv_tape_state(t, s, FV_METRICS, 0, FV_F32, &pair, false);
    fv_value x = fv_op_input(t, (int64_t[]){ 4 }, 1, FV_F32);
    fv_tape_label(t, "early");
    fv_keep(t, fv_op_relu(t, metric));
    fv_tape_label(t, "counter");
    fv_value newer = FV_APPLY(t, FV_OP_metric_add, NULL, metric, x);
    fv_tape_label(t, "late");
    fv_value fine = fv_op_relu(t, newer);
    fv_keep(t, fine);
    fv_program *p = fv_compile(t);
    assert_non_null(p);
    fv_program_free(p);
    fv_keep(t, fv_op_tanh(t, fv_op_reshape(t, metric, (int64_t[]){ 1, 2 }, 2))); /* also through a reshape */
    assert_null(fv_compile(t));
    assert_non_null(strstr(fv_error(c), "tanh late"));
    expect_error(c, FV_ERROR_ARGUMENT, "metric_add counter");
    fv_store_free(s);
    assert_int_equal(fv_close(c), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_tapes),       cmocka_unit_test(test_chain_needs_two_blocks),
        cmocka_unit_test(test_verifier_overlap),   cmocka_unit_test(test_verifier_in_place),
        cmocka_unit_test(test_verifier_placed),    cmocka_unit_test(test_verifier_order),
        cmocka_unit_test(test_verifier_old_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
