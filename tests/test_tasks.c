/* test_tasks.c - programs and backends: a wrapped reference makes groups, captures, refuses, fails, forgets to write, and counts
 * what it is asked for. */
#include "program/program.h"
#include <math.h>
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
static const fv_compile_options debugging = { .struct_size = sizeof(fv_compile_options), .debug = true };

/* ---- Backends ---------------------------------------------------------------------------------------------------- */

/* The reference with groups and capture, or without a kernel. */
static struct {
    int prepared, let_go, grouped, group_runs, released, captured, replayed, freed, runs;
    bool capturing;
} seen;
static const fv_task *recorded[64];
static int recorded_count;

static int run_watched(fv_device *device, const fv_task *task) {
    if (seen.capturing) {
        recorded[recorded_count++] = task;
        return FV_OK;
    }
    seen.runs++;
    return fv_backend_reference.kernels[task->op].run(device, task);
}

static int capture_begin(fv_device *device) {
    (void)device;
    return seen.capturing = true, recorded_count = 0, FV_OK;
}
static int capture_end(fv_device *device, void **graph) {
    (void)device;
    seen.captured++;
    seen.capturing = false;
    *graph = recorded;
    return FV_OK;
}
static int replay(fv_device *device, void *graph) {
    int status = FV_OK;
    seen.replayed++;
    for (int i = 0; i < recorded_count && !status; i++) status = run_watched(device, ((const fv_task **)graph)[i]);
    return status;
}
static void graph_free(fv_device *device, void *graph) { (void)device, (void)graph, seen.freed++; }

static bool joinable(const fv_task *task) { return fv_op_table[task->op]->flags & FV_SAME_SHAPE; }

static int make_group(fv_device *device, const fv_task *tasks, int count, fv_group *groups, int capacity) {
    (void)device;
    int made = 0;
    for (int i = 0; i < count && made < capacity; i++) {
        int end = i;
        while (end < count && joinable(&tasks[end]) &&
               (end == i || tasks[end].input[0].data == tasks[end - 1].output[0].data))
            end++;
        if (end - i < 2) continue;
        groups[made++] = (fv_group){ .first = i, .count = end - i, .algorithm = "watched" };
        i = end - 1;
    }
    seen.grouped += made;
    return made;
}
static int group_run(fv_device *device, const fv_task *tasks, const fv_group *group) {
    int status = FV_OK;
    seen.group_runs++;
    for (int i = 0; i < group->count && !status; i++) status = run_watched(device, &tasks[group->first + i]);
    return status;
}
static void group_release(fv_device *device, fv_group *group) { (void)device, (void)group, seen.released++; }

static fv_kernel watched_kernels[FV_OP_COUNT];
static fv_backend watched;

static fv_context *open_watched(void) {
    fv_context *c = open_device("reference");
    memset(&seen, 0, sizeof seen);
    for (int i = 0; i < FV_OP_COUNT; i++)
        watched_kernels[i] = (fv_kernel){ .run = fv_backend_reference.kernels[i].run ? run_watched : NULL };
    watched = fv_backend_reference;
    watched.kernels = watched_kernels;
    c->backend = &watched;
    return c;
}

static fv_program *three_in_a_row(fv_context *c, fv_value *x, fv_value *y) {
    fv_tape *t = fv_tape_new(c);
    *x = INPUT(t, 2, 2);
    *y = fv_op_softmax(t, fv_op_relu(t, fv_op_relu(t, fv_op_add(t, *x, *x))), 1);
    fv_keep(t, *y);
    return fv_compile(t);
}

static void check_runs(fv_program *p, fv_value x, fv_value y, int runs) {
    for (int i = 0; i < runs; i++) {
        float in[4] = { (float)i, (float)i, 9, 9 }, out[4];
        assert_int_equal(fv_write(p, x, in, sizeof in), 0);
        assert_int_equal(fv_run(p), 0);
        assert_int_equal(fv_read(p, y, out, sizeof out), 0);
        assert_memory_equal(out, ((float[]){ 0.5f, 0.5f, 0.5f, 0.5f }), sizeof out);
    }
}

static void test_groups(void **state) {
    (void)state;
    fv_context *c = open_watched();
    watched.group = make_group;
    watched.group_run = group_run;
    watched.group_release = group_release;
    fv_value x, y;
    fv_program *p = three_in_a_row(c, &x, &y);
    check_runs(p, x, y, 3);
    assert_int_equal(seen.grouped, 1);
    assert_int_equal(seen.group_runs, 3);
    assert_int_equal(seen.runs, 12);
    assert_int_equal(p->group[0].count, 3);
    float data[4] = { 1, 1, 2, 2 };
    assert_int_equal(fv_bind(p, x, data), 0); /* new addresses, new groups */
    assert_int_equal(fv_run(p), 0);
    assert_int_equal(seen.grouped, 2);
    assert_int_equal(seen.released, 1);
    FILE *file = tmpfile();
    assert_int_equal(fv_program_profile(p, 3, file), 0);
    assert_int_equal(fv_program_print(p, file), 0);
    fclose(file);
    fv_program_free(p);
    assert_int_equal(seen.released, 2);
    assert_int_equal(fv_close(c), 0);
}

static void test_capture(void **state) {
    (void)state;
    fv_context *c = open_watched();
    watched.capture_begin = capture_begin;
    watched.capture_end = capture_end;
    watched.replay = replay;
    watched.graph_free = graph_free;
    fv_value x, y;
    fv_program *p = three_in_a_row(c, &x, &y);
    check_runs(p, x, y, 5);
    assert_int_equal(seen.captured, 1);
    assert_int_equal(seen.replayed, 4); /* all but the first */
    assert_int_equal(seen.runs, 20);
    float data[4] = { 1, 1, 2, 2 };
    assert_int_equal(fv_bind(p, x, data), 0); /* the graph holds the old address */
    assert_int_equal(seen.freed, 1);
    assert_int_equal(fv_run(p), 0);
    assert_int_equal(fv_run(p), 0);
    assert_int_equal(seen.captured, 2);
    fv_program_free(p);
    assert_int_equal(seen.freed, 2);
    assert_int_equal(fv_close(c), 0);
}

static int refuse(fv_device *device, const fv_task *task, char *why, size_t bytes) {
    (void)device, (void)task;
    snprintf(why, bytes, "more than 3 columns");
    return FV_ERROR_UNSUPPORTED;
}
static int prepare_something(fv_device *device, fv_task *task) {
    (void)device;
    task->kept = malloc(1);
    seen.prepared++;
    return FV_OK;
}
static void release_something(fv_device *device, fv_task *task) { (void)device, free(task->kept), seen.let_go++; }
static int fail_to_prepare(fv_device *device, fv_task *task) {
    (void)device, (void)task;
    return FV_ERROR_DEVICE;
}
static int fail_to_run(fv_device *device, const fv_task *task) {
    (void)device, (void)task;
    return FV_ERROR_DEVICE;
}

static int forget_to_run(fv_device *device, const fv_task *task) {
    (void)device, (void)task;
    return FV_OK;
}

/* A kernel that writes nothing shows in the debug program: its output is NaN, also where it lies in a store. */
static void test_poison(void **state) {
    (void)state;
    fv_context *c = open_watched();
    fv_store *s = fv_store_new(c, NULL, 0, 16, 0);
    fv_tape *t = fv_tape_new(c);
    fv_value y = fv_op_relu(t, INPUT(t, 4)), z = fv_tape_place(t, fv_op_tanh(t, y), s, FV_GRADIENTS, 0);
    fv_program *d = fv_compile_with(t, &debugging);
    float out[4];
    char sentence[256];
    assert_int_equal(fv_run(d), 0);
    assert_int_equal(fv_read(d, z, out, sizeof out), 0);
    assert_true(out[0] == 0);
    watched_kernels[FV_OP_tanh].run = forget_to_run;
    assert_int_equal(fv_run(d), 0);
    assert_int_equal(fv_read(d, z, out, sizeof out), 0);
    for (int i = 0; i < 4; i++) assert_true(isnan(out[i]));
    watched_kernels[FV_OP_relu].run = forget_to_run;
    assert_int_equal(fv_program_find_nonfinite(d, sentence, sizeof sentence), 1);
    assert_non_null(strstr(sentence, "relu: output 0 [4] is not finite: 4 of 4 elements"));
    fv_store_free(s);
    assert_int_equal(fv_close(c), 0);
}

static void test_missing_kernels(void **state) {
    (void)state;
    fv_context *c = open_watched();
    fv_tape *t = fv_tape_new(c);
    fv_tape_label(t, "c9");
    fv_keep(t, fv_op_softmax(t, fv_op_relu(t, INPUT(t, 2, 5)), 1));
    watched_kernels[FV_OP_softmax].supports = refuse;
    assert_null(fv_compile(t));
    expect_error(c, FV_ERROR_UNSUPPORTED, "softmax c9: not supported by reference: more than 3 columns");
    watched_kernels[FV_OP_softmax] = (fv_kernel){ 0 };
    assert_null(fv_compile(t));
    expect_error(c, FV_ERROR_UNSUPPORTED, "softmax c9: not supported by reference: it has no kernel");
    watched_kernels[FV_OP_softmax] =
        (fv_kernel){ .run = run_watched, .prepare = fail_to_prepare, .release = release_something };
    watched_kernels[FV_OP_relu] =
        (fv_kernel){ .run = run_watched, .prepare = prepare_something, .release = release_something };
    assert_null(fv_compile(t));
    assert_int_equal(seen.prepared, 1);
    assert_int_equal(seen.let_go, 1); /* the relu; what failed frees itself */
    expect_error(c, FV_ERROR_DEVICE, "softmax c9: reference could not prepare it");
    watched_kernels[FV_OP_softmax] = (fv_kernel){ .run = fail_to_run };
    fv_program *p = fv_compile(t);
    assert_int_equal(fv_run(p), FV_ERROR_DEVICE);
    expect_error(c, FV_ERROR_DEVICE, "softmax c9: failed on reference");
    fv_program_free(p);
    assert_int_equal(seen.prepared, 2);
    assert_int_equal(seen.let_go, 2);
    assert_int_equal(seen.runs, 1); /* the relu before it; no failed compilation ran anything */
    assert_int_equal(fv_close(c), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_capture),
        cmocka_unit_test(test_poison),
        cmocka_unit_test(test_missing_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
