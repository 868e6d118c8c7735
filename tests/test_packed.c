/* test_packed.c - weights that a program of inference keeps in the kernels' own order: they are packed once, and again
 * after every way in which they can change. */
#include "net/net.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { IMAGES = 2, SIDE = 48, CHANNELS = 16, CLASSES = 5 };

/* By blocks at 36 points, by panels at 36 points, direct, and a dense layer. */
static fv_net *make_net(fv_context *c) {
    fv_net *net = fv_net_new(c, "packed");
    fv_node x = fv_input(net, SIDE, SIDE, CHANNELS);
    x = fv_conv2d(net, x, .filters = 24, .kernel = 3, .padding = FV_SAME, .activation = FV_RELU, .name = "blocks");
    x = fv_conv2d(net, fv_avg_pool2d(net, x, .size = 4), .filters = 48, .kernel = 3, .padding = 1, .name = "panels");
    x = fv_conv2d(net, x, .filters = 20, .kernel = 4, .stride = 2, .name = "direct");
    fv_output(net, fv_dense(net, fv_flatten(net, x), .units = CLASSES, .name = "dense"));
    return net;
}

static fv_program *inference(fv_context *c, fv_net *net, fv_value *x, fv_value *y) {
    const int64_t shape[] = { IMAGES, SIDE, SIDE, CHANNELS };
    fv_tape *tape = fv_tape_new(c);
    *x = fv_op_input(tape, shape, 4, FV_F32);
    *y = fv_record(tape, net, FV_VALUES(*x), FV_MODE_INFER);
    fv_keep(tape, *y);
    fv_program *p = fv_compile(tape);
    assert_non_null(p);
    return p;
}

static void run(fv_program *p, fv_value x, fv_value y, float *out) {
    static float image[IMAGES * SIDE * SIDE * CHANNELS];
    for (size_t i = 0; i < sizeof image / sizeof *image; i++) image[i] = (float)((i * 2654435761u) >> 8 & 1023) / 512 - 1;
    assert_int_equal(fv_write(p, x, image, sizeof image), 0);
    for (int i = 0; i < 2; i++) assert_int_equal(fv_run(p), 0);
    assert_int_equal(fv_read(p, y, out, IMAGES * CLASSES * sizeof *out), 0);
}

/* The program that has run before agrees with one that packs for the first time; returns whether the result is new. */
static bool agrees(fv_context *c, fv_net *net, fv_program *p, fv_value x, fv_value y, float *last) {
    float now[IMAGES * CLASSES], fresh[IMAGES * CLASSES];
    fv_value fresh_x, fresh_y;
    fv_program *other = inference(c, net, &fresh_x, &fresh_y);
    run(p, x, y, now);
    run(other, fresh_x, fresh_y, fresh);
    fv_program_free(other);
    assert_memory_equal(now, fresh, sizeof now);
    bool changed = memcmp(now, last, sizeof now) != 0;
    memcpy(last, now, sizeof now);
    return changed;
}

static void train_one_step(fv_context *c, fv_net *net) {
    static float image[IMAGES * SIDE * SIDE * CHANNELS];
    const int32_t label[IMAGES] = { 1, 3 };
    for (size_t i = 0; i < sizeof image / sizeof *image; i++) image[i] = (float)(i % 7) / 7;
    fv_dataset *data = fv_dataset_from_memory(
        c, &(const fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                       .inputs = &(fv_array){ image, FV_F32, 4, { IMAGES, SIDE, SIDE, CHANNELS } }, .input_count = 1,
                                       .targets = &(fv_array){ (void *)label, FV_I32, 1, { IMAGES } }, .target_count = 1 });
    assert_int_equal(fv_fit(net, data, .batch_size = IMAGES, .optimizer = fv_sgd(.learning_rate = 0.1f)), 0);
}

static void packed_weights_follow_the_weights(void **state) {
    fv_context *c = fv_open_with(&(fv_open_options){ .struct_size = sizeof(fv_open_options), .device = "cpu", .threads = 2, .seed = 3 });
    fv_net *net = make_net(c);
    float last[IMAGES * CLASSES] = { 0 }, bias[20];
    fv_value x, y;
    fv_program *p = inference(c, net, &x, &y);
    assert_true(p->packed_bytes > 0);
    assert_true(fv_program_bytes(p) >= (int64_t)(p->arena_bytes + p->packed_bytes));
    assert_true(agrees(c, net, p, x, y, last));
    assert_false(agrees(c, net, p, x, y, last));

    static float kernel[24 * 3 * 3 * CHANNELS];
    for (size_t i = 0; i < sizeof kernel / sizeof *kernel; i++) kernel[i] = (float)(i % 11) / 50 - 0.1f;
    assert_int_equal(fv_set_weights(net, "blocks", 0, FV_NATIVE, kernel, sizeof kernel), 0);
    assert_true(agrees(c, net, p, x, y, last));
    for (int i = 0; i < 20; i++) bias[i] = (float)i;
    assert_int_equal(fv_set_weights(net, "direct", 1, FV_NATIVE, bias, sizeof bias), 0);
    assert_true(agrees(c, net, p, x, y, last));
    for (int step = 0; step < 2; step++) {
        train_one_step(c, net);
        assert_true(agrees(c, net, p, x, y, last));
    }
    assert_null(fv_error(c));
    assert_int_equal(fv_close(c), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(packed_weights_follow_the_weights) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
