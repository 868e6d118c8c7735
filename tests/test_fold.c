/* test_fold.c - what depends on weights only is computed once for each version of them; a batch normalisation by given
 * statistics goes into the weights of the layer before it. The compiled program must give what the tape means as it was
 * recorded (the debug program), now and after every way in which weights change; on the emulated GPU also when captured. */
#include "net/net.h"
#include "program/program.h"
#include "support/emulated.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { IMAGES = 3, SIDE = 6, CHANNELS = 8, MOST = IMAGES * SIDE * SIDE * 32 };

static fv_random source;

static fv_context *open_on(const char *device) {
    fv_context *c = fv_open_with(
        &(fv_open_options){ .struct_size = sizeof(fv_open_options), .device = device, .threads = 2, .seed = 3 });
    if (!fv_ok(c)) {
        print_message("no %s here: %s\n", device, fv_error(c));
        fv_close(c);
        return NULL;
    }
    source = fv_random_make(11, 3);
    return c;
}

static fv_value constant(fv_tape *t, int rank, const int64_t *dims, float shift) {
    static float values[MOST];
    int64_t elements = 1;
    for (int i = 0; i < rank; i++) elements *= dims[i];
    for (int64_t i = 0; i < elements; i++) values[i] = (float)fv_random_normal(&source) * 0.3f + shift;
    return fv_op_constant(t, dims, rank, values);
}
#define DIMS(...)                                                                                                      \
    (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }
#define CONSTANT(t, ...)   constant(t, DIMS(__VA_ARGS__), 0)
#define AROUND(t, at, ...) constant(t, DIMS(__VA_ARGS__), at)
#define INPUT(t, ...)      fv_op_input(t, (int64_t[]){ __VA_ARGS__ }, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / 8), FV_F32)

static int count_of(const fv_program *p, fv_op op, bool steady) {
    int count = 0;
    for (int32_t i = 0; i < p->task_count; i++) count += p->task[i].op == op && (i < p->steady_count) == steady;
    return count;
}

static void write_inputs(fv_program *p, const fv_tape *t) {
    static float values[MOST];
    fv_random random = fv_random_make(7, 7);
    for (int32_t v = 1; v < t->value_count; v++) {
        if (t->value[v].kind != FV_VALUE_INPUT) continue;
        int64_t elements = fv_shape_elements(&t->value[v].shape);
        for (int64_t i = 0; i < elements; i++) values[i] = (float)fv_random_normal(&random);
        assert_int_equal(fv_write(p, (fv_value){ v }, values, (size_t)elements * sizeof *values), 0);
    }
}

/* Runs both three times, so that a device which can has captured the compiled one, and compares what is kept. */
static void same_results(fv_program *p, fv_program *debug, const fv_tape *t) {
    static float a[MOST], b[MOST];
    write_inputs(p, t);
    write_inputs(debug, t);
    for (int i = 0; i < 3; i++) assert_int_equal(fv_run(p), 0);
    assert_int_equal(fv_run(debug), 0);
    for (int32_t v = 1; v < t->value_count; v++) {
        if (!t->value[v].kept) continue;
        size_t elements = (size_t)fv_shape_elements(&t->value[v].shape);
        assert_int_equal(fv_read(p, (fv_value){ v }, a, elements * sizeof *a), 0);
        assert_int_equal(fv_read(debug, (fv_value){ v }, b, elements * sizeof *b), 0);
        float largest = 0;
        for (size_t i = 0; i < elements; i++) largest = fmaxf(largest, fabsf(b[i]));
        assert_true(largest > 0.01f);
        for (size_t i = 0; i < elements; i++)
            if (!(fabsf(a[i] - b[i]) <= 1e-5f * largest))
                fail_msg("value %d, element %zu: %.9g, not %.9g", v, i, (double)a[i], (double)b[i]);
    }
}

/* The compiled program; it gives what the debug program gives. */
static fv_program *compile(fv_context *c, fv_tape *t) {
    fv_program *debug =
        fv_compile_with(t, &(fv_compile_options){ .struct_size = sizeof(fv_compile_options), .debug = true });
    fv_program *p = fv_compile(t);
    if (!p || !debug) fail_msg("%s", fv_error(c));
    assert_int_equal(debug->steady_count, 0);
    same_results(p, debug, t);
    fv_program_free(debug);
    return p;
}

static fv_value norm(fv_tape *t, fv_value x, fv_value gamma, fv_value beta, int64_t channels) {
    const fv_attributes a = { .norm = { .epsilon = 1e-3f } };
    return FV_APPLY(t, FV_OP_batch_norm_infer, &a, x, gamma, beta, CONSTANT(t, channels), AROUND(t, 2, channels));
}
static fv_value full_norm(fv_tape *t, fv_value x, int64_t channels) {
    return norm(t, x, AROUND(t, 1, channels), CONSTANT(t, channels), channels);
}

static fv_value conv(fv_tape *t, fv_op op, fv_value x, fv_value w, int32_t groups, const int64_t *shape) {
    fv_attributes a = { .conv = { .stride = { 1, 1 }, .dilation = { 1, 1 }, .pad = { 1, 1, 1, 1 }, .groups = groups } };
    for (int i = 0; i < 4 && shape; i++) a.conv.shape[i] = shape[i];
    return FV_APPLY(t, op, &a, x, w);
}

/* ---- Which normalisations fold ----------------------------------------------------------------------------------- */

static void folds_into_linear_layers(const char *device) {
    fv_context *c = open_on(device);
    if (!c) return;
    fv_tape *t = fv_tape_new(c);
    const fv_value none = { 0 }, x = INPUT(t, IMAGES, SIDE, SIDE, CHANNELS);
    const int64_t wider[] = { IMAGES, SIDE, SIDE, 12 };
    fv_value y = conv(t, FV_OP_conv2d, x, CONSTANT(t, 20, 3, 3, CHANNELS), 1, NULL);
    y = fv_op_relu(t, full_norm(t, y, 20));
    fv_keep(t, y);
    y = fv_op_add(t, conv(t, FV_OP_conv2d, y, CONSTANT(t, 20, 3, 3, 1), 20, NULL), CONSTANT(t, 20)); /* with a bias */
    y = fv_op_relu(t, full_norm(t, y, 20));
    fv_keep(t, y);
    y = fv_op_add(t, CONSTANT(t, CHANNELS), conv(t, FV_OP_conv2d, y, CONSTANT(t, CHANNELS, 3, 3, 10), 2, NULL));
    y = norm(t, y, AROUND(t, 1, CHANNELS), none, CHANNELS); /* neither shift nor activation */
    y = full_norm(t, y, CHANNELS);                          /* one behind the other */
    fv_keep(t, y);
    y = conv(t, FV_OP_conv2d_data_gradient, y, CONSTANT(t, CHANNELS, 3, 3, 6), 2, wider); /* transposed, two groups */
    y = fv_op_relu(t, norm(t, y, none, CONSTANT(t, 12), 12));
    fv_keep(t, y);
    y = fv_op_dense(t, y, CONSTANT(t, 5, 12));
    fv_keep(t, fv_op_tanh(t, norm(t, y, none, none, 5)));
    fv_program *p = compile(c, t);
    assert_int_equal(count_of(p, FV_OP_batch_norm_infer, false) + count_of(p, FV_OP_batch_norm_infer_activation, false),
                     0);
    assert_int_equal(count_of(p, FV_OP_add, false), 0);
    assert_int_equal(p->task_count - p->steady_count, 5);
    assert_int_equal(count_of(p, FV_OP_rsqrt, true), 6);
    fv_program_free(p);
    assert_int_equal(fv_close(c), 0);
}

static void stays_where_it_must(const char *device) {
    fv_context *c = open_on(device);
    if (!c) return;
    fv_tape *t = fv_tape_new(c);
    const fv_value x = INPUT(t, IMAGES, SIDE), w = CONSTANT(t, 10, SIDE), given = INPUT(t, 10);
    fv_value kept = fv_op_dense(t, x, w);
    fv_keep(t, kept);
    fv_keep(t, full_norm(t, kept, 10));
    fv_value twice = fv_op_dense(t, x, w);
    fv_keep(t, fv_op_mul(t, twice, full_norm(t, twice, 10)));
    fv_keep(t, norm(t, fv_op_dense(t, x, w), given, CONSTANT(t, 10), 10));            /* a scale that may change */
    fv_keep(t, full_norm(t, fv_op_add(t, fv_op_dense(t, x, w), given), 10));          /* a bias that may change */
    fv_keep(t, full_norm(t, fv_op_add(t, fv_op_dense(t, x, w), CONSTANT(t, 1)), 10)); /* no vector */
    fv_keep(t, full_norm(t, fv_op_relu(t, fv_op_dense(t, x, w)), 10));                /* not linear */
    fv_keep(t, full_norm(t, fv_op_dense(t, x, INPUT(t, 10, SIDE)), 10));              /* weights that may change */
    fv_program *p = compile(c, t);
    assert_int_equal(count_of(p, FV_OP_batch_norm_infer, false) + count_of(p, FV_OP_batch_norm_infer_activation, false),
                     7);
    assert_int_equal(p->steady_count, 0);
    fv_program_free(p);
    assert_int_equal(fv_close(c), 0);
}

/* Rounding: two units for the scale, one each for w s, b s and the sums, beside those of the product itself. */
static void stays_within_the_bound(const char *device) {
    fv_context *c = open_on(device);
    if (!c) return;
    enum { IN = 300, OUT = 24 };
    static float x[IMAGES * IN], w[OUT * IN], gamma[OUT], beta[OUT], bias[OUT], mean[OUT], variance[OUT],
        y[IMAGES][OUT];
    float *const vectors[] = { gamma, beta, bias, mean };
    for (int i = 0; i < IMAGES * IN; i++) x[i] = (float)fv_random_normal(&source);
    for (int i = 0; i < OUT * IN; i++) w[i] = (float)fv_random_normal(&source);
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < OUT; i++) vectors[k][i] = (float)fv_random_normal(&source) * (k == 3 ? 100 : 2);
    for (int i = 0; i < OUT; i++) variance[i] = powf(10, (float)(i % 9) - 6);
    fv_tape *t = fv_tape_new(c);
    const int64_t out[] = { OUT }, matrix[] = { OUT, IN };
    const fv_attributes a = { .norm = { .epsilon = 1e-5f } };
    fv_value in = INPUT(t, IMAGES, IN);
    fv_value z = fv_op_add(t, fv_op_dense(t, in, fv_op_constant(t, matrix, 2, w)), fv_op_constant(t, out, 1, bias));
    z = FV_APPLY(t, FV_OP_batch_norm_infer, &a, z, fv_op_constant(t, out, 1, gamma), fv_op_constant(t, out, 1, beta),
                 fv_op_constant(t, out, 1, mean), fv_op_constant(t, out, 1, variance));
    fv_keep(t, z);
    fv_program *p = fv_compile(t);
    assert_int_equal(p->task_count - p->steady_count, 1);
    assert_int_equal(fv_write(p, in, x, sizeof x), 0);
    assert_int_equal(fv_run(p), 0);
    assert_int_equal(fv_read(p, z, y, sizeof y), 0);
    for (int i = 0; i < IMAGES; i++)
        for (int o = 0; o < OUT; o++) {
            double scale = gamma[o] / sqrt((double)variance[o] + a.norm.epsilon), sum = 0, size = 0;
            for (int k = 0; k < IN; k++) {
                double term = (double)x[i * IN + k] * w[o * IN + k];
                sum += term, size += fabs(term);
            }
            double wanted = (sum + bias[o] - mean[o]) * scale + beta[o];
            double rest = (fabs(bias[o]) + fabs(mean[o])) * fabs(scale) + fabs(beta[o]);
            double bound = 0x1p-24 * (8 * sqrt(IN) * size * fabs(scale) + 6 * (size * fabs(scale) + rest));
            if (!(fabs(y[i][o] - wanted) <= bound))
                fail_msg("[%d, %d]: %.9g, not %.9g: beyond %g", i, o, (double)y[i][o], wanted, bound);
        }
    fv_program_free(p);
    assert_int_equal(fv_close(c), 0);
}

/* ---- Weights that change ----------------------------------------------------------------------------------------- */

static fv_net *make_net(fv_context *c) {
    fv_net *net = fv_net_new(c, "folded");
    fv_node x = fv_input(net, SIDE, SIDE, CHANNELS);
    x = fv_conv2d(net, x, .filters = 16, .kernel = 3, .padding = FV_SAME, .name = "c1");
    x = fv_batch_norm(net, x, .activation = FV_RELU, .momentum = 0.5f, .name = "n1");
    x = fv_conv2d(net, x, .filters = 16, .kernel = 3, .padding = FV_SAME, .groups = 16, .no_bias = true, .name = "c2");
    x = fv_batch_norm(net, x, .activation = FV_RELU, .momentum = 0.5f, .name = "n2");
    fv_output(net, fv_dense(net, fv_flatten(net, x), .units = 10, .name = "d"));
    return net;
}

static void train_one_epoch(fv_context *c, fv_net *net, const float *images) {
    static const int32_t label[IMAGES] = { 1, 7, 4 };
    fv_dataset *data = fv_dataset_from_memory(
        c, &(const fv_memory_options){
               .struct_size = sizeof(fv_memory_options),
               .inputs = &(fv_array){ (void *)(uintptr_t)images, FV_F32, 4, { IMAGES, SIDE, SIDE, CHANNELS } },
               .input_count = 1,
               .targets = &(fv_array){ (void *)(uintptr_t)label, FV_I32, 1, { IMAGES } },
               .target_count = 1 });
    fv_fit(net, data, .validation = data, .epochs = 2, .batch_size = IMAGES,
           .optimizer = fv_sgd(.learning_rate = 0.1f));
    fv_dataset_free(data);
}

/* The program has run before; now it agrees with one that runs for the first time, bit for bit, and with the debug program. */
static void follows(fv_context *c, fv_tape *t, fv_program *p, fv_value y, float *last) {
    float now[IMAGES * 10], fresh[IMAGES * 10];
    fv_program *other = compile(c, t),
               *debug = fv_compile_with(
                   t, &(fv_compile_options){ .struct_size = sizeof(fv_compile_options), .debug = true });
    same_results(p, debug, t);
    assert_int_equal(fv_read(p, y, now, sizeof now), 0);
    assert_int_equal(fv_read(other, y, fresh, sizeof fresh), 0);
    assert_memory_equal(now, fresh, sizeof now);
    assert_memory_not_equal(now, last, sizeof now);
    memcpy(last, now, sizeof now);
    fv_program_free(other);
    fv_program_free(debug);
}

static void follows_the_weights(const char *device, bool folds) {
    fv_context *c = open_on(device);
    if (!c) return;
    static float images[IMAGES * SIDE * SIDE * CHANNELS];
    float last[IMAGES * 10] = { 0 }, vector[16];
    for (size_t i = 0; i < sizeof images / sizeof *images; i++) images[i] = (float)fv_random_normal(&source);
    fv_net *net = make_net(c);
    fv_tape *t = fv_tape_new(c);
    fv_value x = INPUT(t, IMAGES, SIDE, SIDE, CHANNELS), y = fv_record(t, net, FV_VALUES(x), FV_MODE_INFER);
    fv_keep(t, y);
    fv_program *p = fv_compile(t);
    if (!p) fail_msg("%s", fv_error(c));
    assert_int_equal(p->steady_count > 0, folds);
    follows(c, t, p, y, last);
    static const struct {
        const char *layer;
        int index;
    } weights[] = { { "n1", 0 }, { "n1", 1 }, { "n1", 2 }, { "n1", 3 }, { "c1", 1 }, { "n2", 3 } };
    for (size_t k = 0; k < sizeof weights / sizeof *weights; k++) {
        for (int i = 0; i < 16; i++) vector[i] = 0.5f + (float)(i % 5 + (int)k) / 7;
        assert_int_equal(fv_set_weights(net, weights[k].layer, weights[k].index, FV_NATIVE, vector, sizeof vector), 0);
        follows(c, t, p, y, last);
    }
    for (int epoch = 0; epoch < 2; epoch++) { /* training runs programs of its own in between */
        train_one_epoch(c, net, images);
        if (fv_error(c)) fail_msg("%s", fv_error(c));
        follows(c, t, p, y, last);
    }
    fv_program_free(p);
    assert_int_equal(fv_close(c), 0);
}

/* Any operation, not only those of normalisation: it runs when the store was written and at no other time, and its result
 * can be kept. */
static void runs_once_a_version(const char *device) {
    fv_context *c = open_on(device);
    if (!c) return;
    fv_store *s = fv_store_new(c, NULL, 0, 32, 0);
    fv_tape *t = fv_tape_new(c);
    const fv_shape four = { 1, { 4 } };
    fv_value a = fv_tape_state(t, s, FV_PARAMETERS, 0, FV_F32, &four, false);
    fv_value b = fv_tape_state(t, s, FV_PARAMETERS, 16, FV_F32, &four, false), x = INPUT(t, 4);
    fv_value between = fv_op_add(t, a, b), product = fv_op_mul(t, between, b), y = fv_op_mul(t, x, product);
    fv_keep(t, product);
    fv_keep(t, y);
    fv_program *p = fv_compile(t);
    assert_int_equal(p->steady_count, 2);
    assert_int_equal(p->steady_bytes, 64); /* what only steady tasks read lies in the arena */
    float result[4], values[4] = { 2, 3, 4, 5 };
    for (int version = 1; version < 4; version++) {
        const float one = (float)version;
        for (int k = 0; k < 2; k++)
            assert_int_equal(fv_store_write(s, FV_PARAMETERS, k ? 16 : 0, 4, (float[]){ one, one, one, one }), 0);
        assert_int_equal(fv_write(p, x, values, sizeof values), 0);
        for (int k = 0; k < 3; k++) assert_int_equal(fv_run(p), 0);
        assert_int_equal(fv_read(p, y, result, sizeof result), 0);
        for (int i = 0; i < 4; i++) assert_true(result[i] == 2 * one * one * values[i]);
        assert_int_equal(fv_read(p, product, result, sizeof result), 0);
        for (int i = 0; i < 4; i++) assert_true(result[i] == 2 * one * one);
        /* Spoilt behind its back: it is not computed anew. */
        assert_int_equal(fv_device_write(c, p->steady, FV_F32, 4, (float[]){ -1, -1, -1, -1 }), 0);
        assert_int_equal(fv_run(p), 0);
        assert_int_equal(fv_read(p, y, result, sizeof result), 0);
        for (int i = 0; i < 4; i++) assert_true(result[i] == -values[i]);
    }
    fv_program_free(p);
    fv_store_free(s);
    assert_int_equal(fv_close(c), 0);
}

/* ---- All of them, where there is such a device ------------------------------------------------------------------- */

static void layers_that_fold(void **state) { folds_into_linear_layers("cpu"), folds_into_linear_layers("cuda"); }
static void layers_that_stay(void **state) { stays_where_it_must("cpu"), stays_where_it_must("cuda"); }
static void bound(void **state) { stays_within_the_bound("cpu"), stays_within_the_bound("cuda"); }
static void versions(void **state) {
    follows_the_weights("cpu", true), follows_the_weights("cuda", true), follows_the_weights("reference", false);
}
static void once(void **state) {
    runs_once_a_version("cpu"), runs_once_a_version("cuda"), runs_once_a_version("reference");
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(layers_that_fold), cmocka_unit_test(layers_that_stay),
                                        cmocka_unit_test(bound), cmocka_unit_test(versions), cmocka_unit_test(once) };
    find_emulated();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
