/* test_fuse.c - fusion. The pattern table is tested apart from any backend: a wrapped reference claims the fused kernels, the
 * tape is fused, and then run on the true reference, which executes what the fused operations stand for. So the result must
 * be that of the tape as it was recorded. On the CPU backend the compiled program is compared with the debug program. */
#include "program/program.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- A backend that claims every fused kernel -------------------------------------------------------------------- */

static fv_kernel claimed[FV_OP_COUNT];
static fv_backend claimer;

static int run_never(fv_device *device, const fv_task *task) {
    (void)device, (void)task;
    return FV_ERROR_INTERNAL;
}

static int only_relu(fv_device *device, const fv_task *task, char *why, size_t bytes) {
    (void)device;
    snprintf(why, bytes, "only relu");
    return task->attributes->conv.activation == FV_LINEAR || task->attributes->conv.activation == FV_RELU
               ? 0
               : FV_ERROR_UNSUPPORTED;
}

static void fuse_claiming(fv_tape *t, fv_context *c) {
    const fv_backend *real = c->backend;
    for (int i = 0; i < FV_OP_COUNT; i++) {
        claimed[i] = real->kernels[i];
        if (!claimed[i].run) claimed[i].run = run_never;
    }
    claimer = *real;
    claimer.kernels = claimed;
    claimed[FV_OP_conv2d_bias_activation].supports = only_relu;
    c->backend = &claimer;
    assert_int_equal(fv_tape_remove_dead(t), 0);
    assert_int_equal(fv_tape_fuse(t, c), 0);
    c->backend = real;
}

static int count_of(const fv_tape *t, fv_op op) {
    int count = 0;
    for (int32_t i = 0; i < t->operation_count; i++) count += t->operation[i].op == op;
    return count;
}

static int32_t find(const fv_tape *t, fv_op op) {
    for (int32_t i = 0; i < t->operation_count; i++)
        if (t->operation[i].op == op) return i;
    return -1;
}

/* Order is still topological, and producers are right. */
static void check_tape(const fv_tape *t) {
    for (int32_t i = 0; i < t->operation_count; i++) {
        const fv_operation *o = &t->operation[i];
        for (int32_t k = 0; k < o->output_count; k++) assert_int_equal(t->value[o->output + k].producer, i);
        for (int32_t k = 0; k < o->input_count; k++) {
            const fv_tape_value *v = &t->value[t->operand[o->input + k]];
            assert_true(v->kind != FV_VALUE_TEMPORARY || (v->producer >= 0 && v->producer < i));
        }
    }
}

/* ---- Values ------------------------------------------------------------------------------------------------------ */

static fv_random source;

static fv_value constant(fv_tape *t, int rank, const int64_t *dims) {
    int64_t elements = 1;
    for (int i = 0; i < rank; i++) elements *= dims[i];
    float *values = calloc((size_t)elements, sizeof *values);
    for (int64_t i = 0; i < elements; i++) values[i] = (float)fv_random_uniform(&source) - 0.4f;
    fv_value v = fv_op_constant(t, dims, rank, values);
    free(values);
    return v;
}
#define CONSTANT(t, ...)                                                                                               \
    constant(t, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]){ __VA_ARGS__ })

static fv_value conv(fv_tape *t, fv_value x, fv_value w) {
    fv_attributes a = { .conv = { .stride = { 1, 1 }, .dilation = { 1, 1 }, .pad = { 1, 1, 1, 1 }, .groups = 1 } };
    return FV_APPLY(t, FV_OP_conv2d, &a, x, w);
}

static void write_inputs(fv_program *p, const fv_tape *t) {
    fv_random random = fv_random_make(7, 7);
    for (int32_t v = 1; v < t->value_count; v++) {
        const fv_tape_value *value = &t->value[v];
        if (value->kind != FV_VALUE_INPUT) continue;
        size_t elements = (size_t)fv_shape_elements(&value->shape);
        float *data = calloc(elements, sizeof *data);
        for (size_t i = 0; i < elements; i++)
            if (value->type == FV_I32)
                ((int32_t *)(void *)data)[i] = (int32_t)fv_random_below(&random, 3);
            else
                data[i] = (float)fv_random_normal(&random);
        assert_int_equal(fv_write(p, (fv_value){ v }, data, elements * 4), 0);
        free(data);
    }
}

/* Every value kept on `names` is equal in both, relative to the largest element. */
static void compare_kept(fv_program *a, fv_program *b, const fv_tape *names, double tolerance) {
    int compared = 0;
    for (int32_t v = 1; v < names->value_count; v++) {
        if (!names->value[v].kept) continue;
        size_t elements = (size_t)fv_shape_elements(&names->value[v].shape);
        float *x = calloc(elements, 4), *y = calloc(elements, 4);
        assert_int_equal(fv_read(a, (fv_value){ v }, x, elements * 4), 0);
        assert_int_equal(fv_read(b, (fv_value){ v }, y, elements * 4), 0);
        double largest = 1e-3, worst = 0;
        for (size_t i = 0; i < elements; i++) {
            assert_true(isfinite(x[i]) && isfinite(y[i]));
            largest = fmax(largest, fabs((double)y[i]));
            worst = fmax(worst, fabs((double)x[i] - (double)y[i]));
        }
        if (worst > tolerance * largest) fail_msg("value %d differs by %g of %g", v, worst, largest);
        free(x);
        free(y);
        compared++;
    }
    assert_true(compared > 0);
}

/* The tape as recorded against the tape fused; both on the reference. Gives the fused one. */
static fv_tape *check_fused(fv_context *c, fv_tape *t, double tolerance) {
    fv_tape *fused = fv_tape_copy(t);
    fuse_claiming(fused, c);
    check_tape(fused);
    fv_program *plain = fv_compile_with(t, &(fv_compile_options){ .struct_size = sizeof(fv_compile_options), .debug = true }),
               *program = fv_compile(fused);
    if (!plain || !program) fail_msg("%s", fv_error(c));
    for (int32_t i = 0; i < program->tape->operation_count; i++)
        assert_false(fv_op_table[program->tape->operation[i].op]->flags &
                     FV_FUSED); /* the reference runs the expansion */
    write_inputs(plain, t);
    write_inputs(program, t);
    assert_int_equal(fv_run(plain), 0);
    assert_int_equal(fv_run(program), 0);
    compare_kept(program, plain, t, tolerance);
    fv_program_free(plain);
    fv_program_free(program);
    return fused;
}

static fv_context *open_reference(void) {
    fv_context *c = fv_open("reference");
    assert_true(fv_ok(c));
    source = fv_random_make(3, 3);
    return c;
}

/* ---- Chains ------------------------------------------------------------------------------------------------------ */

static void test_convolution(void **state) {
    (void)state;
    fv_context *c = open_reference();
    fv_tape *t = fv_tape_new(c);
    fv_tape_label(t, "c1");
    fv_value x = fv_op_input(t, (int64_t[]){ 2, 5, 4, 3 }, 4, FV_F32);
    fv_value y = fv_op_relu(t, fv_op_add(t, conv(t, x, CONSTANT(t, 6, 3, 3, 3)), CONSTANT(t, 6)));
    fv_tape_label(t, "c2");
    y = fv_op_add(t, CONSTANT(t, 4), conv(t, y, CONSTANT(t, 4, 3, 3, 6))); /* the bias first; no activation */
    fv_tape_label(t, "c3");
    y = fv_op_tanh(t,
                   fv_op_add(t, conv(t, y, CONSTANT(t, 4, 3, 3, 4)), CONSTANT(t, 4))); /* tanh is refused: bias only */
    fv_tape_label(t, "c4");
    y = fv_op_relu(t, conv(t, y, CONSTANT(t, 4, 3, 3, 4)));
    fv_keep(t, y);
    fv_tape *fused = check_fused(c, t, 0);
    assert_int_equal(count_of(fused, FV_OP_conv2d_bias_activation), 4);
    assert_int_equal(count_of(fused, FV_OP_conv2d), 0);
    assert_int_equal(count_of(fused, FV_OP_tanh), 1);
    assert_int_equal(fused->operation_count, 5);
    const fv_operation *first = &fused->operation[0], *last = &fused->operation[4];
    assert_string_equal(fused->label[first->label], "c1");
    assert_int_equal(first->attributes.conv.activation, FV_RELU);
    assert_int_equal(first->attributes.conv.pad[0], 1);
    assert_int_equal(fused->operand[last->input + 2], 0);
    assert_int_equal(last->output, y.id);
    assert_int_equal(fv_close(c), 0);
}

static void test_dense(void **state) {
    (void)state;
    fv_context *c = open_reference();
    fv_tape *t = fv_tape_new(c);
    fv_value x = fv_op_input(t, (int64_t[]){ 3, 5 }, 2, FV_F32);
    fv_value y = fv_op_sigmoid(t, fv_op_add(t, fv_op_dense(t, x, CONSTANT(t, 7, 5)), CONSTANT(t, 7)));
    fv_keep(t, fv_op_tanh(t, fv_op_dense(t, y, CONSTANT(t, 2, 7))));
    fv_tape *fused = check_fused(c, t, 0);
    assert_int_equal(count_of(fused, FV_OP_dense_bias_activation), 2);
    assert_int_equal(fused->operation_count, 2);
    assert_int_equal(fv_close(c), 0);
}

/* What must not be fused: the value between has another reader, is kept, is placed, or the addition is no bias. */
static void test_obstacles(void **state) {
    (void)state;
    fv_context *c = open_reference();
    fv_store *s = fv_store_new(c, NULL, 0, 64, 0);
    fv_tape *t = fv_tape_new(c);
    fv_value x = fv_op_input(t, (int64_t[]){ 4, 4 }, 2, FV_F32), w = CONSTANT(t, 4, 4), b = CONSTANT(t, 4);
    fv_value two_readers = fv_op_dense(t, x, w);
    fv_keep(t, fv_op_mul(t, fv_op_relu(t, two_readers), two_readers));
    fv_value read_before = fv_op_dense(t, x, w);
    fv_keep(t, fv_op_mul(t, read_before, x));
    fv_keep(t, fv_op_relu(t, read_before));
    fv_value kept = fv_op_dense(t, x, w);
    fv_keep(t, kept);
    fv_keep(t, fv_op_relu(t, kept));
    fv_value placed = fv_tape_place(t, fv_op_dense(t, x, w), s, FV_GRADIENTS, 0);
    fv_keep(t, fv_op_relu(t, placed));
    fv_keep(t, fv_op_add(t, fv_op_dense(t, x, w), CONSTANT(t, 4, 4)));
    fv_keep(t, fv_op_add(t, fv_op_dense(t, x, w), CONSTANT(t, 4, 1)));
    fv_keep(t, fv_op_add(t, fv_op_dense(t, x, w), CONSTANT(t, 1)));
    fv_value twice = fv_op_dense(t, x, w);
    fv_keep(t, fv_op_add(t, twice, twice));
    fv_tape *fused = check_fused(c, t, 0);
    assert_int_equal(count_of(fused, FV_OP_dense_bias_activation), 0);
    fv_value plain = fv_op_add(t, fv_op_dense(t, x, w), b); /* and this one is */
    fv_keep(t, plain);
    assert_int_equal(count_of(check_fused(c, t, 0), FV_OP_dense_bias_activation), 1);
    fv_store_free(s);
    assert_int_equal(fv_close(c), 0);
}

/* The bias is made between the convolution and the addition: the fused operation moves behind it. */
static void test_late_bias(void **state) {
    (void)state;
    fv_context *c = open_reference();
    fv_tape *t = fv_tape_new(c);
    fv_value x = fv_op_input(t, (int64_t[]){ 3, 4 }, 2, FV_F32);
    fv_value y = fv_op_dense(t, x, CONSTANT(t, 4, 4)), b = fv_op_relu(t, CONSTANT(t, 4));
    fv_keep(t, fv_op_relu(t, fv_op_add(t, y, b)));
    fv_tape *fused = check_fused(c, t, 0);
    assert_int_equal(fused->operation_count, 2);
    assert_int_equal(fused->operation[1].op, FV_OP_dense_bias_activation);
    assert_int_equal(fv_close(c), 0);
}

/* Two chains recorded in turn: both are found, though the first moves the second. */
static void test_interleaved(void **state) {
    (void)state;
    fv_context *c = open_reference();
    fv_tape *t = fv_tape_new(c);
    fv_value x = fv_op_input(t, (int64_t[]){ 3, 4 }, 2, FV_F32), y[3];
    for (int i = 0; i < 3; i++) y[i] = fv_op_dense(t, x, CONSTANT(t, 4, 4));
    for (int i = 0; i < 3; i++) y[i] = fv_op_add(t, y[i], CONSTANT(t, 4));
    for (int i = 2; i >= 0; i--) y[i] = fv_op_relu(t, y[i]);
    for (int i = 0; i < 3; i++) fv_keep(t, y[i]);
    fv_tape *fused = check_fused(c, t, 0);
    assert_int_equal(fused->operation_count, 3);
    assert_int_equal(count_of(fused, FV_OP_dense_bias_activation), 3);
    assert_int_equal(fv_close(c), 0);
}

/* ---- Normalisation ----------------------------------------------------------------------------------------------- */

static void test_batch_norm(void **state) {
    (void)state;
    fv_context *c = open_reference();
    fv_tape *t = fv_tape_new(c);
    fv_value x = fv_op_input(t, (int64_t[]){ 8, 5 }, 2, FV_F32);
    fv_watch(t, x);
    fv_value gamma = CONSTANT(t, 5), beta = CONSTANT(t, 5), mean = CONSTANT(t, 5), variance = fv_op_mul(t, mean, mean);
    fv_attributes a = { .norm = { .epsilon = 1e-3f, .momentum = 0.9f } };
    fv_value normal = FV_APPLY(t, FV_OP_batch_norm_train, &a, x, gamma, beta, mean, variance);
    fv_keep(t, (fv_value){ normal.id + 3 });
    fv_value y = fv_op_relu(t, normal);
    fv_keep(t, y); /* its id must still be readable, though the fused operation's first output has another */
    fv_value z = fv_op_tanh(t, FV_APPLY(t, FV_OP_batch_norm_infer, &a, y, gamma, beta, mean, variance));
    fv_value loss = fv_op_mean(t, fv_op_mul(t, z, z));
    fv_keep(t, loss);
    assert_int_equal(fv_backward(t, loss), 0);
    fv_keep(t, fv_gradient(t, x));
    fv_tape *fused = check_fused(c, t, 1e-6);
    assert_int_equal(count_of(fused, FV_OP_batch_norm_train_activation), 1);
    assert_int_equal(count_of(fused, FV_OP_batch_norm_infer_activation), 1);
    assert_int_equal(count_of(fused, FV_OP_batch_norm_activation_gradient), 1);
    assert_int_equal(count_of(fused, FV_OP_batch_norm_train) + count_of(fused, FV_OP_relu) +
                         count_of(fused, FV_OP_relu_gradient),
                     0);
    const fv_operation *gradient = &fused->operation[find(fused, FV_OP_batch_norm_activation_gradient)];
    assert_int_equal(gradient->attributes.norm.activation, FV_RELU);
    assert_int_equal(fused->operand[gradient->input], x.id);
    assert_int_equal(fv_close(c), 0);
}

/* A vector added to a normalisation is not its bias, and a masked x is not a masked gradient. */
static void test_batch_norm_obstacles(void **state) {
    (void)state;
    fv_context *c = open_reference();
    fv_tape *t = fv_tape_new(c);
    fv_attributes a = { .norm = { .epsilon = 1e-3f, .momentum = 0.9f } };
    fv_value x = fv_op_input(t, (int64_t[]){ 8, 5 }, 2, FV_F32), v = CONSTANT(t, 5), squares = fv_op_mul(t, v, v);
    fv_value normal = FV_APPLY(t, FV_OP_batch_norm_infer, &a, x, (fv_value){ 0 }, (fv_value){ 0 }, v, squares);
    fv_keep(t, fv_op_relu(t, fv_op_add(t, normal, CONSTANT(t, 5))));
    fv_value masked = FV_APPLY(t, FV_OP_relu_gradient, NULL, x, fv_op_tanh(t, x));
    fv_keep(t, FV_APPLY(t, FV_OP_batch_norm_gradient, &a, masked, x, (fv_value){ 0 }, v, v));
    assert_int_equal(check_fused(c, t, 0)->operation_count, t->operation_count);
    assert_int_equal(fv_close(c), 0);
}

/* ---- Every activation -------------------------------------------------------------------------------------------- */

static fv_value activated(fv_tape *t, fv_value x, int32_t activation, float alpha) {
    fv_attributes a = { .activation = { alpha } };
    return FV_APPLY(t, fv_activations[activation].op, &a, x);
}

/* Without gradients each elementwise one becomes part of the operation before it, its parameter with it. */
static void test_activations_in_inference(void **state) {
    (void)state;
    for (int32_t k = 1; k < FV_ACTIVATION_COUNT; k++) {
        fv_context *c = open_reference();
        fv_tape *t = fv_tape_new(c);
        const bool fuses = fv_activations[k].elementwise;
        const float alpha = k == FV_LEAKY_RELU || k == FV_ELU ? 0.125f : 0;
        fv_value x = fv_op_input(t, (int64_t[]){ 4, 5 }, 2, FV_F32), v = CONSTANT(t, 7), squares = fv_op_mul(t, v, v);
        fv_value y = activated(t, fv_op_add(t, fv_op_dense(t, x, CONSTANT(t, 7, 5)), v), k, alpha);
        fv_attributes a = { .norm = { .epsilon = 1e-3f } };
        fv_value normal = FV_APPLY(t, FV_OP_batch_norm_infer, &a, y, (fv_value){ 0 }, (fv_value){ 0 }, v, squares);
        fv_keep(t, activated(t, normal, k, alpha));
        fv_tape *fused = check_fused(c, t, 0);
        assert_int_equal(count_of(fused, fv_activations[k].op), fuses ? 0 : 2);
        int32_t dense = find(fused, FV_OP_dense_bias_activation), norm = find(fused, FV_OP_batch_norm_infer_activation);
        assert_true(dense >= 0 && (norm >= 0) == fuses);
        assert_int_equal(fused->operation[dense].attributes.dense.activation, fuses ? k : FV_LINEAR);
        assert_true(fused->operation[dense].attributes.dense.alpha == alpha);
        if (fuses) assert_int_equal(fused->operation[norm].attributes.norm.activation, k);
        if (fuses) assert_true(fused->operation[norm].attributes.norm.alpha == alpha);
        assert_int_equal(fv_close(c), 0);
    }
}

/* With gradients those whose gradient needs the input stay apart: two operations read the value before them. */
static void test_activations_in_training(void **state) {
    (void)state;
    for (int32_t k = 1; k < FV_ACTIVATION_COUNT; k++) {
        if (!fv_activations[k].elementwise) continue;
        fv_context *c = open_reference();
        fv_tape *t = fv_tape_new(c);
        const float alpha = k == FV_LEAKY_RELU || k == FV_ELU ? 0.125f : 0;
        fv_value x = fv_op_input(t, (int64_t[]){ 8, 5 }, 2, FV_F32), v = CONSTANT(t, 5), squares = fv_op_mul(t, v, v);
        fv_watch(t, x);
        fv_attributes a = { .norm = { .epsilon = 1e-3f, .momentum = 0.9f } };
        fv_value normal = FV_APPLY(t, FV_OP_batch_norm_train, &a, x, v, v, v, squares);
        fv_value y = activated(t, normal, k, alpha);
        fv_value loss = fv_op_mean(t, fv_op_mul(t, y, y));
        fv_keep(t, loss);
        assert_int_equal(fv_backward(t, loss), 0);
        fv_keep(t, fv_gradient(t, x));
        fv_tape *fused = check_fused(c, t, 1e-5);
        const bool fuses = fv_activations[k].from_output;
        assert_int_equal(count_of(fused, FV_OP_batch_norm_train_activation), fuses);
        assert_int_equal(count_of(fused, fv_activations[k].op), !fuses);
        const int32_t gradient = find(fused, FV_OP_batch_norm_activation_gradient);
        assert_int_equal(gradient >= 0, fuses && k != FV_EXPONENTIAL); /* whose gradient is an ordinary product */
        if (gradient >= 0) assert_int_equal(fused->operation[gradient].attributes.norm.activation, k);
        if (gradient >= 0) assert_true(fused->operation[gradient].attributes.norm.alpha == alpha);
        assert_int_equal(fv_close(c), 0);
    }
}

/* ---- Losses ------------------------------------------------------------------------------------------------------ */

static void test_loss(void **state) {
    (void)state;
    fv_context *c = open_reference();
    fv_tape *t = fv_tape_new(c);
    fv_value x = fv_op_input(t, (int64_t[]){ 6, 3 }, 2, FV_F32), target = fv_op_input(t, (int64_t[]){ 6 }, 1, FV_I32);
    fv_watch(t, x);
    fv_value rows = fv_op_softmax_cross_entropy(t, x, target, 0.1f), loss = fv_op_mean(t, rows);
    fv_keep(t, loss);
    fv_keep(t, rows);
    assert_int_equal(fv_backward(t, loss), 0);
    fv_keep(t, fv_gradient(t, x));
    fv_tape *fused = check_fused(c, t, 1e-6);
    assert_int_equal(count_of(fused, FV_OP_softmax_cross_entropy_train), 1);
    assert_int_equal(
        count_of(fused, FV_OP_softmax_cross_entropy) + count_of(fused, FV_OP_softmax_cross_entropy_gradient), 0);

    t = fv_tape_new(c);
    x = fv_op_input(t, (int64_t[]){ 6, 3 }, 2, FV_F32), target = fv_op_input(t, (int64_t[]){ 6 }, 1, FV_I32);
    fv_keep(t, FV_APPLY(t, FV_OP_cross_entropy, NULL, fv_op_softmax(t, x, 1), target));
    fused = check_fused(c, t, 1e-5);
    assert_int_equal(fused->operation_count, 1);
    assert_int_equal(fused->operation[0].op, FV_OP_softmax_cross_entropy);
    assert_int_equal(fv_close(c), 0);
}

/* Near misses: another axis, another smoothing, other logits, other targets; probabilities that something else reads. */
static void test_unlike_losses(void **state) {
    (void)state;
    fv_context *c = open_reference();
    fv_tape *t = fv_tape_new(c);
    fv_value x = fv_op_input(t, (int64_t[]){ 3, 3 }, 2, FV_F32), z = fv_op_tanh(t, x), dloss = CONSTANT(t, 3);
    fv_value target = fv_op_input(t, (int64_t[]){ 3 }, 1, FV_I32), second = fv_op_input(t, (int64_t[]){ 3 }, 1, FV_I32);
    fv_keep(t, FV_APPLY(t, FV_OP_cross_entropy, NULL, fv_op_softmax(t, x, 0), target));
    fv_value probabilities = fv_op_softmax(t, x, 1);
    fv_keep(t, FV_APPLY(t, FV_OP_cross_entropy, NULL, probabilities, target));
    fv_keep(t, fv_op_relu(t, probabilities));
    fv_attributes smooth = { .loss = { 0.1f } };
    fv_keep(t, fv_op_softmax_cross_entropy(t, x, target, 0));
    fv_keep(t, FV_APPLY(t, FV_OP_softmax_cross_entropy_gradient, &smooth, x, target, dloss));
    fv_keep(t, FV_APPLY(t, FV_OP_softmax_cross_entropy_gradient, NULL, z, target, dloss));
    fv_keep(t, FV_APPLY(t, FV_OP_softmax_cross_entropy_gradient, NULL, x, second, dloss));
    fv_tape *fused = check_fused(c, t, 0);
    assert_int_equal(fused->operation_count, t->operation_count);
    fv_keep(t, FV_APPLY(t, FV_OP_softmax_cross_entropy_gradient, NULL, x, target, dloss));
    assert_int_equal(count_of(check_fused(c, t, 1e-6), FV_OP_softmax_cross_entropy_train), 1);
    assert_int_equal(fv_close(c), 0);
}

/* dloss depends on the loss (the loss squared): one pass cannot give both. */
static void test_dependent_loss(void **state) {
    (void)state;
    fv_context *c = open_reference();
    fv_tape *t = fv_tape_new(c);
    fv_value x = fv_op_input(t, (int64_t[]){ 6, 3 }, 2, FV_F32), target = fv_op_input(t, (int64_t[]){ 6 }, 1, FV_I32);
    fv_watch(t, x);
    fv_value rows = fv_op_softmax_cross_entropy(t, x, target, 0), loss = fv_op_mean(t, fv_op_mul(t, rows, rows));
    fv_keep(t, loss);
    assert_int_equal(fv_backward(t, loss), 0);
    fv_keep(t, fv_gradient(t, x));
    fv_tape *fused = check_fused(c, t, 1e-6);
    assert_int_equal(count_of(fused, FV_OP_softmax_cross_entropy_train), 0);
    assert_int_equal(count_of(fused, FV_OP_softmax_cross_entropy), 1);
    assert_int_equal(fv_close(c), 0);
}

/* dloss is computed between the loss and its gradient: what reads the loss moves behind. But a metric that the readers of
 * the loss read may not be written before them. */
static void test_moved_loss(void **state) {
    (void)state;
    for (int conflict = 0; conflict < 2; conflict++) {
        fv_context *c = open_reference();
        fv_store *s = fv_store_new(c, NULL, 0, 0, 0);
        fv_tape *t = fv_tape_new(c);
        fv_shape pair = { 1, { 2 } };
        fv_value x = fv_op_input(t, (int64_t[]){ 6, 3 }, 2, FV_F32),
                 target = fv_op_input(t, (int64_t[]){ 6 }, 1, FV_I32);
        fv_value metric = fv_tape_state(t, s, FV_METRICS, 0, FV_F32, &pair, false);
        fv_value other = fv_tape_state(t, s, FV_METRICS, 2, FV_F32, &pair, false);
        fv_value rows = fv_op_softmax_cross_entropy(t, x, target, 0);
        FV_APPLY(t, FV_OP_metric_add, NULL, other, rows);
        fv_keep(t, fv_op_add(t, fv_op_mean(t, rows), metric)); /* reads the metric as it was, and the loss */
        fv_value weights = fv_op_sigmoid(t, CONSTANT(t, 6));
        if (conflict) FV_APPLY(t, FV_OP_metric_add, NULL, metric, weights);
        fv_keep(t, FV_APPLY(t, FV_OP_softmax_cross_entropy_gradient, NULL, x, target, weights));
        fv_tape *fused = fv_tape_copy(t);
        fuse_claiming(fused, c);
        check_tape(fused);
        assert_int_equal(count_of(fused, FV_OP_softmax_cross_entropy_train), !conflict);
        if (!conflict) assert_true(find(fused, FV_OP_sigmoid) < find(fused, FV_OP_softmax_cross_entropy_train));
        fv_program *plain = fv_compile(t), *program = fv_compile(fused);
        assert_true(plain && program);
        for (int k = 0; k < 2; k++) { /* each from metrics that are zero */
            fv_program *p = k ? program : plain;
            assert_int_equal(fv_store_write(s, FV_METRICS, 0, 4, (float[4]){ 0 }), 0);
            write_inputs(p, t);
            assert_int_equal(fv_run(p), 0);
        }
        compare_kept(program, plain, t, 1e-6);
        fv_program_free(plain);
        fv_program_free(program);
        fv_store_free(s);
        assert_int_equal(fv_close(c), 0);
    }
}

/* ---- On the CPU -------------------------------------------------------------------------------------------------- */

static void test_on_cpu(void **state) {
    (void)state;
    fv_context *c = fv_open("cpu");
    if (!fv_ok(c)) {
        print_message("no CPU backend here: %s\n", fv_error(c));
        fv_close(c);
        skip();
    }
    source = fv_random_make(5, 5);
    fv_tape *t = fv_tape_new(c);
    fv_value x = fv_op_input(t, (int64_t[]){ 4, 8, 8, 3 }, 4, FV_F32),
             target = fv_op_input(t, (int64_t[]){ 4 }, 1, FV_I32);
    fv_watch(t, x);
    fv_value gamma = CONSTANT(t, 16), beta = CONSTANT(t, 16), mean = CONSTANT(t, 16),
             variance = fv_op_mul(t, mean, mean);
    fv_attributes norm = { .norm = { .epsilon = 1e-3f, .momentum = 0.9f } };
    fv_value y = fv_op_relu(t, fv_op_add(t, conv(t, x, CONSTANT(t, 16, 3, 3, 3)), CONSTANT(t, 16)));
    y = fv_op_relu(t, FV_APPLY(t, FV_OP_batch_norm_train, &norm, conv(t, y, CONSTANT(t, 16, 3, 3, 16)), gamma, beta,
                               mean, variance));
    y = fv_op_tanh(t, FV_APPLY(t, FV_OP_batch_norm_infer, &norm, y, gamma, beta, mean, variance));
    fv_keep(t, y);
    y = fv_op_reshape(t, y, (int64_t[]){ 4, 1024 }, 2);
    y = fv_op_sigmoid(t, fv_op_add(t, fv_op_dense(t, y, CONSTANT(t, 20, 1024)), CONSTANT(t, 20)));
    y = fv_op_dense(t, y, CONSTANT(t, 3, 20));
    fv_value loss = fv_op_mean(t, fv_op_softmax_cross_entropy(t, y, target, 0));
    fv_keep(t, loss);
    assert_int_equal(fv_backward(t, loss), 0);
    fv_keep(t, fv_gradient(t, x));
    fv_program *debug = fv_compile_with(t, &(fv_compile_options){ .struct_size = sizeof(fv_compile_options), .debug = true }),
               *program = fv_compile(t);
    if (!debug || !program) fail_msg("%s", fv_error(c));
    for (int i = 0; i < FV_OP_COUNT; i++) /* what the backend can fuse is fused */
        if (fv_op_table[i] && fv_op_table[i]->flags & FV_FUSED && c->backend->kernels[i].run &&
            !c->backend->kernels[i].supports && !count_of(program->tape, (fv_op)i))
            fail_msg("%s has a kernel on the CPU but was not formed", fv_op_name((fv_op)i));
    write_inputs(debug, t);
    write_inputs(program, t);
    assert_int_equal(fv_run(debug), 0);
    assert_int_equal(fv_run(program), 0);
    compare_kept(program, debug, t, 2e-5);
    assert_int_equal(fv_close(c), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolution),
        cmocka_unit_test(test_dense),
        cmocka_unit_test(test_obstacles),
        cmocka_unit_test(test_late_bias),
        cmocka_unit_test(test_batch_norm),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_dependent_loss),
        cmocka_unit_test(test_moved_loss),
        cmocka_unit_test(test_on_cpu),
        cmocka_unit_test(test_interleaved),
        cmocka_unit_test(test_batch_norm_obstacles),
        cmocka_unit_test(test_activations_in_inference),
        cmocka_unit_test(test_activations_in_training),
        cmocka_unit_test(test_unlike_losses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
