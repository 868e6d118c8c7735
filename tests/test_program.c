/* test_program.c - programs: a network trained by hand on tape and store, reading and writing, the debug program, no
 * allocation in a run, and every allocation of compiling made to fail. */
#include "program/program.h"
#include <malloc.h>
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

/* ---- A network by hand: 2 - 8 tanh - 1, mean squared error, SGD with momentum --------------------------------------- */

enum { SAMPLES = 16, HIDDEN = 8, W1 = 0, B1 = 16, W2 = 32, B2 = 48, PARAMETERS = 64 };
static const fv_segment segments[] = {
    { W1, 2 * HIDDEN, 1, 1, 0, 0 },
    { B1, HIDDEN, 1, 0, 0, 0 },
    { W2, HIDDEN, 1, 1, 0, 1 },
    { B2, 1, 1, 0, 0, 1 },
};

typedef struct network {
    fv_context *context;
    fv_store *store;
    fv_tape *tape;
    fv_value x, target, loss, weight[4], hidden;
} network;

/* Exclusive or, with a little noise from the generator of the library. */
static void make_data(float x[SAMPLES][2], float target[SAMPLES][1]) {
    fv_random random = fv_random_make(11, 4);
    for (int i = 0; i < SAMPLES; i++) {
        for (int k = 0; k < 2; k++) x[i][k] = (float)((i >> k & 1 ? 1.0 : -1.0) + 0.1 * fv_random_normal(&random));
        target[i][0] = (i & 1) != (i >> 1 & 1) ? 1.0f : 0.0f;
    }
}

static void make_store(network *n, fv_context *c) {
    n->context = c;
    n->store = fv_store_new(c, segments, 4, PARAMETERS, 0);
    float initial[PARAMETERS] = { 0 };
    fv_random random = fv_random_make(5, 4);
    for (int i = 0; i < PARAMETERS; i++) initial[i] = (float)fv_random_normal(&random) * 0.7f;
    assert_int_equal(fv_store_write(n->store, FV_PARAMETERS, 0, PARAMETERS, initial), 0);
}

static void record_loss(network *n) {
    fv_tape *t = n->tape = fv_tape_new(n->context);
    n->x = INPUT(t, SAMPLES, 2);
    n->target = INPUT(t, SAMPLES, 1);
    n->weight[0] = fv_tape_state(t, n->store, FV_PARAMETERS, W1, FV_F32, SHAPE(HIDDEN, 2), true);
    n->weight[1] = fv_tape_state(t, n->store, FV_PARAMETERS, B1, FV_F32, SHAPE(HIDDEN), true);
    n->weight[2] = fv_tape_state(t, n->store, FV_PARAMETERS, W2, FV_F32, SHAPE(1, HIDDEN), true);
    n->weight[3] = fv_tape_state(t, n->store, FV_PARAMETERS, B2, FV_F32, SHAPE(1), true);
    fv_tape_label(t, "hidden");
    n->hidden = fv_op_tanh(t, fv_op_add(t, fv_op_dense(t, n->x, n->weight[0]), n->weight[1]));
    fv_tape_label(t, "output");
    fv_value y = fv_op_add(t, fv_op_dense(t, n->hidden, n->weight[2]), n->weight[3]);
    fv_tape_label(t, NULL);
    n->loss = fv_op_mean(t, fv_op_mean_squared_error(t, y, n->target));
    fv_keep(t, n->loss);
}

static void record_update(network *n) {
    fv_tape *t = n->tape;
    assert_int_equal(fv_backward(t, n->loss), 0);
    fv_value gradient[4];
    for (int i = 0; i < 4; i++)
        gradient[i] = fv_tape_place(t, fv_gradient(t, n->weight[i]), n->store, FV_GRADIENTS, segments[i].offset);
    fv_value control = fv_tape_state(t, n->store, FV_CONTROL, 0, FV_U8, SHAPE(sizeof(fv_control)), false);
    fv_value table = fv_tape_state(t, n->store, FV_SEGMENTS, 0, FV_U8, SHAPE(sizeof segments), false);
    fv_value region[3];
    const fv_region of[3] = { FV_GRADIENTS, FV_PARAMETERS, FV_SLOT0 };
    for (int i = 0; i < 3; i++) region[i] = fv_tape_state(t, n->store, of[i], 0, FV_F32, SHAPE(PARAMETERS), false);
    control =
        FV_APPLY(t, FV_OP_check_gradients, NULL, control, n->loss, gradient[0], gradient[1], gradient[2], gradient[3]);
    fv_attributes a = { .update = { .kind = FV_OPTIMIZER_SGD, .value = { [FV_RATE] = 0.1f, [FV_MOMENTUM] = 0.9f } } };
    FV_APPLY(t, FV_OP_sgd_update, &a, control, (fv_value){ 0 }, table, (fv_value){ 0 }, region[0], region[1], region[2],
             gradient[0], gradient[1], gradient[2], gradient[3]);
    FV_APPLY(t, FV_OP_advance, NULL, control);
    if (!fv_ok(n->context)) fail_msg("%s", fv_error(n->context));
}

static network make_network(const char *device) {
    network n;
    make_store(&n, open_device(device));
    record_loss(&n);
    record_update(&n);
    return n;
}

static void write_data(const network *n, fv_program *p) {
    float x[SAMPLES][2], target[SAMPLES][1];
    make_data(x, target);
    assert_int_equal(fv_write(p, n->x, x, sizeof x), 0);
    assert_int_equal(fv_write(p, n->target, target, sizeof target), 0);
}

static float run_for_loss(const network *n, fv_program *p) {
    float loss = NAN;
    assert_int_equal(fv_run(p), 0);
    assert_int_equal(fv_read(p, n->loss, &loss, sizeof loss), 0);
    return loss;
}

static void close_network(network *n) {
    fv_store_free(n->store);
    assert_int_equal(fv_close(n->context), 0);
}

static void train(const char *device) {
    network n = make_network(device);
    fv_program *step = fv_compile(n.tape);
    if (!step) fail_msg("%s", fv_error(n.context));
    fv_tape_free(n.tape); /* a program has its own copy */
    write_data(&n, step);
    float first = run_for_loss(&n, step), last = first;
    for (int i = 1; i < 400; i++) last = run_for_loss(&n, step);
    assert_true(first > 0.2f);
    assert_true(last < 0.01f);
    fv_control control;
    assert_int_equal(fv_store_read(n.store, FV_CONTROL, 0, sizeof control, &control), 0);
    assert_int_equal(control.step, 400);
    assert_int_equal(n.store->device_version, 400);
    record_loss(&n); /* without update: the same weights */
    fv_program *evaluation = fv_compile(n.tape);
    write_data(&n, evaluation);
    assert_true(run_for_loss(&n, evaluation) <= last);
    assert_int_equal(n.store->device_version, 400);
    close_network(&n);
}

static void test_training(void **state) { (void)state, train("reference"); }
static void test_training_in_double(void **state) { (void)state, train("reference64"); }
static void test_training_on_cpu(void **state) {
    (void)state;
    fv_context *c = fv_open("cpu");
    bool there = fv_ok(c);
    fv_close(c);
    if (!there) skip();
    train("cpu");
}

/* ---- Debug programs ---------------------------------------------------------------------------------------------- */

static void test_debug_agrees(void **state) {
    (void)state;
    network n = make_network("reference");
    float before[PARAMETERS], compiled[PARAMETERS], debug[PARAMETERS], loss[2];
    assert_int_equal(fv_store_read(n.store, FV_PARAMETERS, 0, PARAMETERS, before), 0);
    fv_program *p = fv_compile(n.tape);
    write_data(&n, p);
    loss[0] = run_for_loss(&n, p);
    assert_int_equal(fv_store_read(n.store, FV_PARAMETERS, 0, PARAMETERS, compiled), 0);
    assert_int_equal(fv_store_write(n.store, FV_PARAMETERS, 0, PARAMETERS, before), 0);
    float zeros[PARAMETERS] = { 0 };
    assert_int_equal(fv_store_write(n.store, FV_SLOT0, 0, PARAMETERS, zeros), 0);
    fv_program *d = fv_compile_with(n.tape, &debugging);
    write_data(&n, d);
    loss[1] = run_for_loss(&n, d);
    assert_int_equal(fv_store_read(n.store, FV_PARAMETERS, 0, PARAMETERS, debug), 0);
    assert_memory_equal(&loss[0], &loss[1], sizeof loss[0]);
    assert_memory_equal(compiled, debug, sizeof debug);
    assert_memory_not_equal(before, debug, sizeof debug);
    float hidden[SAMPLES * HIDDEN];
    assert_int_equal(fv_read(d, n.hidden, hidden, sizeof hidden), 0); /* kept by nobody */
    assert_true(fabsf(hidden[0]) <= 1);
    assert_int_equal(fv_read(p, n.hidden, hidden, sizeof hidden), FV_ERROR_ARGUMENT);
    expect_error(n.context, FV_ERROR_ARGUMENT, "tanh of hidden");
    close_network(&n);
}

static void test_finds_nonfinite(void **state) {
    (void)state;
    network n = make_network("reference");
    char sentence[256] = "";
    fv_program *d = fv_program_new(n.tape, true);
    write_data(&n, d);
    fv_control before, after;
    assert_int_equal(fv_store_read(n.store, FV_CONTROL, 0, sizeof before, &before), 0);
    assert_int_equal(fv_program_find_nonfinite(d, sentence, sizeof sentence), 0);
    assert_int_equal(fv_store_read(n.store, FV_CONTROL, 0, sizeof after, &after), 0);
    assert_memory_equal(&before, &after, sizeof after); /* the search is not a step */
    float huge[HIDDEN];
    for (int i = 0; i < HIDDEN; i++) huge[i] = 3e38f;
    assert_int_equal(fv_store_write(n.store, FV_PARAMETERS, W2, HIDDEN, huge), 0);
    assert_int_equal(fv_program_find_nonfinite(d, sentence, sizeof sentence), 1);
    assert_non_null(strstr(sentence, "output: output 0 [16, 1] is not finite"));
    assert_int_equal(d->task[d->nonfinite_task].op, FV_OP_dense);
    huge[3] = NAN;
    assert_int_equal(fv_store_write(n.store, FV_PARAMETERS, W1, HIDDEN, huge), 0);
    assert_int_equal(fv_program_find_nonfinite(d, sentence, sizeof sentence), 1);
    assert_string_equal(
        sentence, "dense hidden: input 1, of the parameters [8, 2] is not finite: 1 of 16 elements, the first at 3");
    close_network(&n);
}

/* ---- Allocation -------------------------------------------------------------------------------------------------- */

static void test_run_allocates_nothing(void **state) {
    (void)state;
    network n = make_network("reference");
    fv_program *p = fv_compile(n.tape);
    write_data(&n, p);
    run_for_loss(&n, p);
    size_t device = n.context->memory_used, host = mallinfo2().uordblks;
    fv_alloc_fail(0, false);
    float x[SAMPLES][2], target[SAMPLES][1], loss;
    make_data(x, target);
    int status = 0;
    for (int i = 0; i < 20; i++) {
        status |= fv_write(p, n.x, x, sizeof x);
        status |= fv_run(p);
        status |= fv_read(p, n.loss, &loss, sizeof loss);
    }
    size_t host_after = mallinfo2().uordblks;
    assert_int_equal(status, 0);
    assert_int_equal(fv_alloc_fail(0, false), 0);
    assert_int_equal(host_after, host);
    assert_int_equal(n.context->memory_used, device);
    close_network(&n);
}

/* Convolutions that need much scratch: Winograd's of both sizes, with their gradients, and the update. */
static void test_step_of_convolutions_allocates_nothing(void **state) {
    (void)state;
    enum { IMAGES = 2, SIZE = 16, CLASSES = 4 };
    static const float image[IMAGES * SIZE * SIZE * 3] = { 0.5f };
    const int32_t label[IMAGES] = { 1, 3 };
    fv_context *c = open_device("cpu");
    fv_net *net = fv_net_new(c, "scratch");
    fv_node x = fv_input(net, SIZE, SIZE, 3);
    x = fv_conv2d(net, x, .filters = 32, .kernel = 5, .padding = FV_SAME, .activation = FV_RELU);
    x = fv_conv2d(net, x, .filters = 48, .kernel = 5, .padding = FV_SAME, .activation = FV_RELU);
    x = fv_max_pool2d(net, fv_conv2d(net, x, .filters = 64, .kernel = 3, .padding = FV_SAME), .size = 3, .stride = 2);
    fv_output(net, fv_dense(net, fv_flatten(net, x), .units = CLASSES));
    fv_tape *t = fv_tape_new(c);
    fv_value images = INPUT(t, IMAGES, SIZE, SIZE, 3), labels = fv_op_input(t, (int64_t[]){ IMAGES }, 1, FV_I32);
    fv_value y = fv_record(t, net, FV_VALUES(images), FV_MODE_TRAIN);
    fv_value loss = fv_op_mean(t, fv_op_softmax_cross_entropy(t, y, labels, 0));
    fv_backward(t, loss);
    fv_op_update(t, net, fv_sgd(.learning_rate = 1e-3f, .momentum = 0.9f));
    fv_keep(t, loss);
    fv_program *p = fv_compile(t);
    int winograd = 0;
    for (int i = 0; p && i < p->task_count; i++) {
        const char *algorithm = p->task[i].algorithm;
        winograd += algorithm && !strncmp(algorithm, "Winograd", 8);
    }
    assert_true(winograd >= 4); /* or the test would not be about it */
    size_t device = 0, host = 0;
    float value = 0;
    for (int step = 0; step < 5; step++) {
        assert_int_equal(fv_write(p, images, image, sizeof image) | fv_write(p, labels, label, sizeof label), 0);
        assert_int_equal(fv_run(p) | fv_read(p, loss, &value, sizeof value), 0);
        if (step == 0) device = c->memory_used, host = mallinfo2().uordblks, fv_alloc_fail(0, false);
    }
    assert_int_equal(mallinfo2().uordblks, host);
    assert_int_equal(fv_alloc_fail(0, false), 0);
    assert_int_equal(c->memory_used, device);
    assert_true(isfinite(value));
    assert_int_equal(fv_close(c), 0);
}

static int objects_of(const fv_context *c) {
    int count = 0;
    for (const fv_object *o = c->objects.next; o != &c->objects; o = o->next) count++;
    return count;
}

static int64_t sweep(bool cached, bool sticky) {
    network n = make_network("reference");
    fv_store_region(n.store, FV_GRADIENTS, 0); /* regions stay with the store, so they are not counted */
    fv_store_region(n.store, FV_SLOT0, 0);
    fv_store_region(n.store, FV_SEGMENTS, 0);
    fv_store_region(n.store, FV_CONTROL, 0);
    size_t used = n.context->memory_used;
    int objects = objects_of(n.context);
    int64_t failures = 0;
    for (;; failures++) {
        fv_alloc_fail(failures + 1, sticky);
        fv_program *p = cached ? fv_program_cached(n.tape) : fv_compile(n.tape);
        fv_alloc_fail(0, false);
        if (p) break;
        expect_error(n.context, FV_ERROR_MEMORY, "out of memory");
        assert_int_equal(objects_of(n.context), objects);
        assert_int_equal(n.context->memory_used, used + n.store->arena_bytes);
    }
    fv_program *p = cached ? fv_program_cached(n.tape) : fv_compile(n.tape);
    assert_non_null(p);
    write_data(&n, p);
    assert_true(run_for_loss(&n, p) > 0.1f);
    close_network(&n);
    return failures;
}

static void test_allocation_failures(void **state) {
    (void)state;
    int64_t failures = sweep(false, false);
    assert_true(failures > 15);
    assert_int_equal(sweep(false, true), failures);
    assert_true(sweep(true, false) > 15);
}

static void test_memory_limit(void **state) {
    (void)state;
    fv_context *c = fv_open_with(
        &(fv_open_options){ .struct_size = sizeof(fv_open_options), .device = "reference", .memory_limit = 4096 });
    fv_tape *t = fv_tape_new(c);
    fv_keep(t, fv_op_softmax(t, INPUT(t, 100, 100), 1));
    assert_null(fv_compile(t));
    expect_error(c, FV_ERROR_MEMORY, "the arena of a program needs 40.0 KB");
    t = fv_tape_new(c);
    fv_keep(t, fv_op_softmax(t, INPUT(t, 10, 10), 1));
    fv_program *p = fv_compile(t);
    assert_non_null(p);
    assert_int_equal(fv_run(p), 0);
    assert_int_equal(fv_close(c), 0);
}

/* ---- Reading, writing, binding ----------------------------------------------------------------------------------- */

static void test_reading_and_writing(void **state) {
    (void)state;
    fv_context *c = open_device("reference");
    fv_tape *t = fv_tape_new(c);
    const float values[6] = { 1, -2, 3, -4, 5, -6 };
    float out[6];
    fv_tape_label(t, "act");
    fv_value x = INPUT(t, 2, 3), unused = INPUT(t, 4), k = fv_op_constant(t, (int64_t[]){ 3 }, 1, values);
    fv_value sum = fv_op_add(t, x, k), y = fv_op_relu(t, sum), dead = fv_op_tanh(t, y),
             r = fv_op_reshape(t, y, (int64_t[]){ 6 }, 1);
    fv_keep(t, r);
    fv_program *p = fv_compile(t);
    assert_int_equal(p->input_bytes, 64); /* what nobody reads has no memory */
    assert_int_equal(p->task_count, 2);   /* tanh is dead, reshape needs no task */
    assert_int_equal(fv_read(p, r, out, sizeof out), FV_ERROR_ARGUMENT);
    expect_error(c, FV_ERROR_ARGUMENT, "holds nothing before fv_run");
    assert_int_equal(fv_write(p, x, values, sizeof values), 0);
    assert_int_equal(fv_write(p, unused, values, 4 * sizeof(float)), 0);
    assert_int_equal(fv_run(p), 0);
    assert_int_equal(fv_read(p, r, out, sizeof out), 0);
    assert_memory_equal(out, ((float[]){ 2, 0, 6, 0, 3, 0 }), sizeof out);
    assert_int_equal(fv_read(p, x, out, sizeof out), 0);
    assert_memory_equal(out, values, sizeof out);
    assert_int_equal(fv_read(p, k, out, 3 * sizeof(float)), 0);
    assert_memory_equal(out, values, 3 * sizeof(float));

    assert_int_equal(fv_read(p, sum, out, sizeof out), FV_ERROR_ARGUMENT);
    expect_error(c, FV_ERROR_ARGUMENT, "add of act, f32 [2, 3]) is not kept");
    fv_read(p, dead, out, sizeof out);
    expect_error(c, FV_ERROR_ARGUMENT, "is not kept");
    fv_write(p, x, values, 5 * sizeof(float));
    expect_error(c, FV_ERROR_SHAPE, "has 24 bytes, but 20 were given");
    fv_read(p, r, out, 4);
    expect_error(c, FV_ERROR_SHAPE, "has 24 bytes, but 4 were given");
    fv_write(p, k, values, 3 * sizeof(float));
    expect_error(c, FV_ERROR_ARGUMENT, "is not an input");
    fv_write(p, (fv_value){ 1000 }, values, 4);
    expect_error(c, FV_ERROR_ARGUMENT, "no value 1000");
    fv_fail(c, FV_ERROR_FILE, "an earlier failure"); /* while it stands nothing runs */
    assert_int_equal(fv_run(p), FV_ERROR_FILE);
    assert_null(fv_compile(t));
    fv_clear_error(c);
    assert_int_equal(fv_run(NULL), FV_ERROR_ARGUMENT);
    assert_int_equal(fv_close(c), 0);
}

static void test_doubles(void **state) {
    (void)state;
    fv_context *c = open_device("reference64");
    enum { MANY = 3000 }; /* more than are converted at a time */
    float *values = malloc(2 * MANY * sizeof *values), *out = values + MANY;
    for (int i = 0; i < MANY; i++) values[i] = (float)i / 7;
    fv_tape *t = fv_tape_new(c);
    fv_value x = INPUT(t, MANY), k = fv_op_constant(t, (int64_t[]){ MANY }, 1, values), y = fv_op_add(t, x, k);
    fv_keep(t, y);
    fv_program *p = fv_compile(t);
    assert_int_equal(p->input_bytes, MANY * sizeof(double));
    assert_int_equal(fv_write(p, x, values, MANY * sizeof *values), 0);
    assert_int_equal(fv_run(p), 0);
    assert_int_equal(fv_read(p, y, out, MANY * sizeof *values), 0);
    for (int i = 0; i < MANY; i++) assert_true(out[i] == 2 * values[i]);
    free(values);
    assert_int_equal(fv_close(c), 0);
}

static void test_binding(void **state) {
    (void)state;
    fv_context *c = open_device("reference");
    fv_tape *t = fv_tape_new(c);
    fv_value large = INPUT(t, 1000), small = INPUT(t, 1000), y = fv_op_sub(t, large, small);
    fv_keep(t, y);
    float data[1000], out[1000], fours[1000];
    for (int i = 0; i < 1000; i++) data[i] = 7, fours[i] = 4;
    fv_program *p = fv_compile(t);
    assert_int_equal(fv_program_bytes(p), 3 * 4032);
    size_t used = c->memory_used;
    assert_int_equal(fv_bind(p, large, data), 0); /* the reference's device memory is the host's */
    assert_int_equal(fv_program_bytes(p), 2 * 4032);
    assert_int_equal(fv_write(p, small, fours, sizeof fours), 0);
    assert_int_equal(c->memory_used, used + 4032);
    for (int run = 0; run < 2; run++) {
        data[999] = (float)run;
        assert_int_equal(fv_run(p), 0);
        assert_int_equal(fv_read(p, y, out, sizeof out), 0);
        assert_true(out[0] == 3 && out[999] == (float)run - 4);
    }
    assert_int_equal(fv_bind(p, large, fours), 0); /* anew */
    assert_int_equal(fv_run(p), 0);
    assert_int_equal(fv_read(p, y, out, sizeof out), 0);
    assert_true(out[0] == 0 && out[999] == 0);
    fv_write(p, large, data, sizeof data);
    expect_error(c, FV_ERROR_ARGUMENT, "is bound to device memory");
    fv_bind(p, y, data);
    expect_error(c, FV_ERROR_ARGUMENT, "is not an input");
    assert_int_equal(fv_close(c), 0);
}

/* A placed value lies in the store, also through reshapes, and when its source cannot lie there. */
static void test_placing(void **state) {
    (void)state;
    fv_context *c = open_device("reference");
    fv_store *s = fv_store_new(c, NULL, 0, 64, 0);
    fv_tape *t = fv_tape_new(c);
    const float values[4] = { -1, 2, -3, 4 };
    fv_value x = INPUT(t, 2, 2), y = fv_op_relu(t, x), row = fv_op_reshape(t, y, (int64_t[]){ 4 }, 1);
    fv_keep(t, fv_tape_place(t, row, s, FV_GRADIENTS, 16));
    fv_value again = fv_op_reshape(t, y, (int64_t[]){ 1, 4 }, 2); /* y lies at 16 already */
    t->value[again.id].store = s;
    t->value[again.id].region = FV_GRADIENTS;
    t->value[again.id].offset = 32;
    fv_keep(t, again);
    fv_value source = fv_op_tanh(t, x),
             moved = fv_op_reshape(t, source, (int64_t[]){ 4, 1 }, 2); /* the source goes there */
    t->value[moved.id].store = s;
    t->value[moved.id].region = FV_GRADIENTS;
    t->value[moved.id].offset = 8;
    fv_keep(t, moved);
    fv_value copy = FV_APPLY(t, FV_OP_copy, NULL, row); /* to where it lies already: no task */
    t->value[copy.id].store = s;
    t->value[copy.id].region = FV_GRADIENTS;
    t->value[copy.id].offset = 16;
    fv_keep(t, copy);
    fv_keep(t, fv_tape_place(t, x, s, FV_GRADIENTS, 48));
    fv_program *p = fv_compile(t);
    if (!p) fail_msg("%s", fv_error(c));
    assert_int_equal(p->arena_bytes, 0);
    assert_int_equal(p->task_count, 4);
    assert_int_equal(fv_write(p, x, values, sizeof values), 0);
    assert_int_equal(fv_run(p), 0);
    float out[64];
    assert_int_equal(fv_store_read(s, FV_GRADIENTS, 0, 64, out), 0);
    assert_true(out[9] == tanhf(2));
    assert_memory_equal(out + 16, ((float[]){ 0, 2, 0, 4 }), sizeof values);
    assert_memory_equal(out + 32, ((float[]){ 0, 2, 0, 4 }), sizeof values);
    assert_memory_equal(out + 48, values, sizeof values);
    assert_int_equal(fv_read(p, again, out, sizeof values), 0);
    assert_true(out[1] == 2);
    fv_store_free(s);
    assert_int_equal(fv_run(p), FV_ERROR_ARGUMENT);
    expect_error(c, FV_ERROR_ARGUMENT, "after a net that it works on had been freed");
    fv_program_free(p);
    assert_int_equal(fv_close(c), 0);
}

/* A placed value that no operation reads lives if something that writes state looks at that part of the store. */
static void test_dead_and_placed(void **state) {
    (void)state;
    fv_context *c = open_device("reference");
    fv_store *s = fv_store_new(c, NULL, 0, 0, 32);
    fv_tape *t = fv_tape_new(c);
    fv_value x = INPUT(t, 16), control = fv_tape_state(t, s, FV_CONTROL, 0, FV_U8, SHAPE(sizeof(fv_control)), false);
    fv_value statistics = fv_tape_state(t, s, FV_STATISTICS, 0, FV_F32, SHAPE(32), false);
    fv_value next = fv_tape_state(t, s, FV_NEXT_STATISTICS, 0, FV_F32, SHAPE(32), false);
    fv_value named = fv_tape_place(t, fv_op_relu(t, x), s, FV_NEXT_STATISTICS, 0);
    fv_tape_place(t, fv_op_tanh(t, x), s, FV_NEXT_STATISTICS, 16);
    fv_op_sigmoid(t, x);                                     /* dead */
    fv_tape_place(t, fv_op_sigmoid(t, x), s, FV_METRICS, 0); /* nobody looks there: dead */
    FV_APPLY(t, FV_OP_commit, NULL, control, statistics, next, named);
    assert_int_equal(t->operation_count, 5);
    assert_int_equal(fv_tape_remove_dead(t), 0);
    assert_int_equal(t->operation_count, 3);
    assert_int_equal(t->operation[1].op, FV_OP_tanh);
    fv_store_free(s);
    assert_int_equal(fv_close(c), 0);
}

/* ---- Print ------------------------------------------------------------------------------------------------------- */

static void read_back(FILE *file, char *text, size_t bytes) {
    rewind(file);
    text[fread(text, 1, bytes - 1, file)] = 0;
    fclose(file);
}

static void test_print_and_profile(void **state) {
    (void)state;
    network n = make_network("reference");
    fv_program *p = fv_compile(n.tape);
    write_data(&n, p);
    char text[16384], part[64];
    FILE *file = tmpfile();
    assert_int_equal(fv_program_print(p, file), 0);
    read_back(file, text, sizeof text);
    snprintf(part, sizeof part, "%d tasks on reference: arena %zu bytes", p->task_count, p->arena_bytes);
    assert_non_null(strstr(text, part));
    assert_non_null(strstr(text, "[16, 2] [8, 2] -> [16, 8]"));
    assert_non_null(strstr(text, "gradients 32 + 8"));
    int lines = 0;
    for (const char *s = text; (s = strchr(s, '\n')); s++) lines++;
    assert_int_equal(lines, 1 + p->task_count);
    file = tmpfile();
    assert_int_equal(fv_program_profile(p, 3, file), 0);
    assert_int_equal(n.store->device_version, 2); /* a profile runs the program */
    read_back(file, text, sizeof text);
    snprintf(part, sizeof part, "sum of %d", p->task_count);
    assert_non_null(strstr(text, part));
    assert_non_null(strstr(text, "hidden"));
    fv_program_profile(p, 0, stderr);
    expect_error(n.context, FV_ERROR_ARGUMENT, "0 runs");
    close_network(&n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training),
        cmocka_unit_test(test_training_in_double),
        cmocka_unit_test(test_training_on_cpu),
        cmocka_unit_test(test_debug_agrees),
        cmocka_unit_test(test_finds_nonfinite),
        cmocka_unit_test(test_run_allocates_nothing),
        cmocka_unit_test(test_step_of_convolutions_allocates_nothing),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_memory_limit),
        cmocka_unit_test(test_reading_and_writing),
        cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_binding),
        cmocka_unit_test(test_placing),
        cmocka_unit_test(test_dead_and_placed),
        cmocka_unit_test(test_print_and_profile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
