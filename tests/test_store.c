/* test_store.c - what outlives a step: regions that grow and move, the cache of compiled programs, the shared arena. */
#include "program/program.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- Tools ------------------------------------------------------------------------------------------------------- */

static fv_context *open_device(const char *name) {
    fv_context *c = fv_open(name);
    if (!fv_ok(c)) fail_msg("%s", fv_error(c));
    return c;
}

static void expect_error(fv_context *c, fv_status status, const char *part) {
    assert_non_null(fv_error(c));
    if (!strstr(fv_error(c), part)) fail_msg("'%s' does not contain '%s'", fv_error(c), part);
    assert_int_equal(fv_error_status(c), status);
    fv_clear_error(c);
}

#define SHAPE(...) (&(fv_shape){ (int32_t)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), { __VA_ARGS__ } })
#define INPUT(t, ...)                                                                                                  \
    fv_op_input(t, (int64_t[]){ __VA_ARGS__ }, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), FV_F32)

enum { PARAMETERS = 64 };
static const fv_segment segments[] = {
    { 0, 16, 1, 1, 0, 0 },
    { 16, 8, 1, 0, 0, 0 },
    { 32, 8, 1, 1, 0, 1 },
    { 48, 1, 1, 0, 0, 1 },
};

static int objects_of(const fv_context *c) {
    int count = 0;
    for (const fv_object *o = c->objects.next; o != &c->objects; o = o->next) count++;
    return count;
}

/* ---- Store ------------------------------------------------------------------------------------------------------- */

static void test_store(void **state) {
    (void)state;
    for (int wide = 0; wide < 2; wide++) {
        fv_context *c = open_device(wide ? "reference64" : "reference");
        fv_store *s = fv_store_new(c, segments, 4, PARAMETERS, 32);
        float out[PARAMETERS], three[3] = { 1, 2, 3 };
        assert_int_equal(fv_store_read(s, FV_SLOT1, 0, PARAMETERS, out), 0);
        for (int i = 0; i < PARAMETERS; i++) assert_true(out[i] == 0);
        assert_int_equal(s->elements[FV_SLOT1], PARAMETERS);
        assert_null(s->data[FV_GRADIENTS]);
        assert_int_equal(fv_store_write(s, FV_PARAMETERS, 5, 3, three), 0);
        assert_int_equal(s->version, 1);
        assert_int_equal(fv_store_read(s, FV_PARAMETERS, 4, 5, out), 0);
        assert_memory_equal(out, ((float[]){ 0, 1, 2, 3, 0 }), 5 * sizeof(float));
        assert_int_equal((uintptr_t)s->data[FV_PARAMETERS] % 64, 0);

        assert_int_equal(fv_store_region(s, FV_RATES, 3), 0);
        assert_int_equal(fv_store_write(s, FV_RATES, 0, 3, three), 0);
        uint64_t version = s->region_version;
        assert_int_equal(fv_store_region(s, FV_RATES, 2), 0);
        assert_int_equal(s->region_version, version);
        assert_int_equal(fv_store_region(s, FV_RATES, 100), 0);
        assert_int_equal(s->region_version, version + 1);
        assert_int_equal(fv_store_read(s, FV_RATES, 0, 5, out), 0);
        assert_memory_equal(out, ((float[]){ 1, 2, 3, 0, 0 }), 5 * sizeof(float));

        fv_segment table[4];
        assert_int_equal(fv_store_read(s, FV_SEGMENTS, 0, sizeof table, table), 0);
        assert_memory_equal(table, segments, sizeof table);
        table[1].frozen = 1;
        assert_int_equal(fv_store_set_segments(s, table, 4), 0);
        fv_segment back[4];
        assert_int_equal(fv_store_read(s, FV_SEGMENTS, 0, sizeof back, back), 0);
        assert_int_equal(back[1].frozen, 1);

        fv_store_write(s, FV_STATISTICS, 31, 2, three);
        expect_error(c, FV_ERROR_ARGUMENT, "writing 2 elements at 31 of the statistics, which are 32");
        fv_store_read(s, FV_STATISTICS, -1, 2, out);
        expect_error(c, FV_ERROR_ARGUMENT, "of the statistics");
        assert_null(fv_store_new(c, segments, 4, 32, 0));
        expect_error(c, FV_ERROR_ARGUMENT, "segment 2");
        fv_store_free(s);
        assert_int_equal(c->memory_used, 0);
        assert_int_equal(fv_close(c), 0);
    }
}

/* A region that grows moves; a program that was resolved before follows it. */
static void test_region_moves(void **state) {
    (void)state;
    fv_context *c = open_device("reference");
    fv_store *s = fv_store_new(c, NULL, 0, 0, 0);
    fv_tape *t = fv_tape_new(c);
    fv_value rates = fv_tape_state(t, s, FV_RATES, 1, FV_F32, SHAPE(2), false), y = fv_op_relu(t, rates);
    fv_keep(t, y);
    fv_program *p = fv_compile(t);
    float out[2];
    for (int grown = 0; grown < 2; grown++) {
        if (grown) assert_int_equal(fv_store_region(s, FV_RATES, 1000), 0);
        assert_int_equal(fv_store_write(s, FV_RATES, 0, 3, ((float[]){ 1, (float)grown, 3 })), 0);
        assert_int_equal(fv_run(p), 0);
        assert_int_equal(fv_read(p, y, out, sizeof out), 0);
        assert_true(out[0] == (float)grown && out[1] == 3);
    }
    fv_store_free(s);
    assert_int_equal(fv_close(c), 0);
}

/* ---- Cache ------------------------------------------------------------------------------------------------------- */

static fv_tape *scaled_tape(fv_context *c, fv_store *s, int64_t rows, fv_value *x, fv_value *y) {
    fv_tape *t = fv_tape_new(c);
    *x = INPUT(t, rows, 16);
    *y = fv_op_softmax(t, s ? fv_op_add(t, *x, fv_tape_state(t, s, FV_PARAMETERS, 0, FV_F32, SHAPE(16), true)) : *x, 1);
    fv_keep(t, *y);
    return t;
}

static void check_cache(bool with_store) {
    fv_context *c = open_device("reference");
    fv_store *s = with_store ? fv_store_new(c, NULL, 0, 16, 0) : NULL;
    fv_value x, y;
    fv_program *p[10];
    for (int i = 0; i < 8; i++) {
        fv_tape *t = scaled_tape(c, s, 1 + i, &x, &y);
        p[i] = fv_program_cached(t);
        assert_non_null(p[i]);
        fv_tape_free(t);
    }
    int objects = objects_of(c);
    for (int i = 0; i < 8; i += 2) { /* the even ones are used again */
        fv_tape *t = scaled_tape(c, s, 1 + i, &x, &y);
        assert_ptr_equal(fv_program_cached(t), p[i]);
        fv_tape_free(t);
    }
    for (int i = 8; i < 10; i++) { /* 1 and 3 go */
        fv_tape *t = scaled_tape(c, s, 1 + i, &x, &y);
        p[i] = fv_program_cached(t);
        fv_tape_free(t);
    }
    assert_int_equal(objects_of(c), objects);
    for (int i = 0; i < 10; i += 2) {
        fv_tape *t = scaled_tape(c, s, 1 + i, &x, &y);
        assert_ptr_equal(fv_program_cached(t), p[i]);
        fv_keep(t, x); /* another kept value is another program */
        fv_tape_free(t);
    }
    fv_tape *t = scaled_tape(c, s, 2, &x, &y); /* 1 was evicted: compiled anew, in place of 5 */
    fv_program *anew = fv_program_cached(t);
    assert_non_null(anew);
    fv_value z = fv_op_relu(t, y);
    fv_keep(t, z);
    assert_ptr_not_equal(fv_program_cached(t), anew);
    assert_int_equal(objects_of(c), objects + 1);
    fv_store_free(s);
    if (with_store) assert_int_equal(objects_of(c), 1); /* the tape; the programs went with their store */
    assert_int_equal(fv_close(c), 0);
}

static void test_cache(void **state) { (void)state, check_cache(true), check_cache(false); }

/* Cached programs share one arena: a larger one moves it, and the smaller one follows. */
static void test_shared_arena(void **state) {
    (void)state;
    fv_context *c = open_device("reference");
    fv_store *s = fv_store_new(c, NULL, 0, 16, 0);
    fv_value x[2], y[2];
    float in[64 * 16] = { 0 }, out[64 * 16];
    fv_program *p[2];
    fv_tape *small = scaled_tape(c, s, 2, &x[0], &y[0]), *large = scaled_tape(c, s, 64, &x[1], &y[1]);
    p[0] = fv_program_cached(small);
    assert_int_equal(fv_write(p[0], x[0], in, 2 * 16 * sizeof(float)), 0);
    assert_int_equal(fv_run(p[0]), 0);
    p[1] = fv_program_shared(large);
    assert_int_equal(s->arena_bytes, p[1]->arena_bytes);
    assert_true(s->arena_bytes > p[0]->arena_bytes);
    fv_read(p[0], y[0], out, 2 * 16 * sizeof(float));
    expect_error(c, FV_ERROR_ARGUMENT, "holds nothing before fv_run"); /* it lay in the old arena */
    assert_int_equal(fv_write(p[1], x[1], in, sizeof in), 0);
    for (int i = 1; i >= 0; i--) { /* the input written before the arena moved is still there */
        assert_int_equal(fv_run(p[i]), 0);
        assert_int_equal(fv_read(p[i], y[i], out, (i ? 64 : 2) * 16 * sizeof(float)), 0);
        assert_true(out[0] == 0.0625f && out[31] == 0.0625f);
    }
    fv_program_free(p[1]);
    fv_store_free(s);
    assert_int_equal(fv_close(c), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store),
        cmocka_unit_test(test_region_moves),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_shared_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
