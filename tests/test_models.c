/* test_models.c - the networks of the literature against their published figures: parameters, multiply-adds, shapes;
 * the exercises of the lectures; what a summary says, and that the bytes it gives are the bytes that a step takes. */
#include "net/net.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <cmocka.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static int open_reference(void **state) {
    *state = fv_open_with(
        &(const fv_open_options){ .struct_size = sizeof(fv_open_options), .device = "reference", .seed = 7 });
    return *state ? 0 : -1;
}

static int close_context(void **state) {
    fv_close(*state);
    return 0;
}

static void assert_fine(fv_context *c) {
    if (fv_error(c)) fail_msg("unexpected error: %s", fv_error(c));
}

static fv_net_size measure(fv_net *net, int batch) {
    fv_net_size size = { .struct_size = sizeof size };
    fv_measure(net, batch, &size);
    return size;
}

/* ---- Figures of the literature ----------------------------------------------------------------------------------- */

static void published_figures(void **state) {
    static const struct { const char *name; int64_t trainable, parameters, macs; } models[] = {
        { "lenet5", 61706, 61706, 416520 },
        { "lenet5_modern", 61706, 61706, 416520 },
        { "lenet5_keras", 545546, 545546, 4233960 },
        { "mlp", 535818, 535818, 535040 },
        { "mlp_800", 636010, 636010, 635200 },
        { "keras_mnist_mlp", 669706, 669706, 668672 },
        { "cnn_mnist", 121930, 121930, 2528000 },
        { "cnn_25_50_100", 137660, 137660, 1639350 },
        { "keras_mnist_cnn", 1199882, 1199882, 11992448 },
        { "alexnet_cifar", 626506, 626506, 39090688 },
        { "mobilenet_cifar", 3217226, 3239114, 46354432 },
        { "vgg11_bn_cifar", 9228362, 9233866, 152769536 },
        { "vgg13_bn_cifar", 9413066, 9418954, 228267008 },
        { "resnet18_cifar", 11173962, 11183562, 555422720 },
        { "vgg16_bn_cifar", 14724042, 14732490, 313201664 },
        { "vgg19_bn_cifar", 20035018, 20046026, 398136320 },
        { "alexnet", 62378344, 62378344, 1135256096 },
        { "alexnet_2012", 60965224, 60965224, 724406816 },
        { "vgg11", 132863336, 132863336, 7609090048 },
        { "vgg13", 133047848, 133047848, 11308466176 },
        { "vgg16", 138357544, 138357544, 15470264320 },
        { "vgg19", 143667240, 143667240, 19632062464 },
    };
    fv_context *c = *state;
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    for (int i = 0; i < COUNT(models); i++) {
        assert_string_equal(fv_model_name(i), models[i].name);
        fv_net *net = fv_model(c, models[i].name);
        fv_net_size size = measure(net, 32);
        assert_fine(c);
        assert_int_equal(size.trainable, models[i].trainable);
        assert_int_equal(size.parameters, models[i].parameters);
        assert_int_equal(size.non_trainable, models[i].parameters - models[i].trainable);
        assert_int_equal(size.macs, models[i].macs);
        assert_true(size.training_bytes > size.inference_bytes && size.inference_bytes > 4 * size.parameters);
        assert_null(net->host_parameters); /* nothing was drawn */
        assert_null(net->store);
        fv_net_free(net);
    }
    assert_null(fv_model_name(COUNT(models)));
    assert_null(fv_model_name(-1));
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_maxrss - before.ru_maxrss < 64 * 1024); /* kilobytes; VGG-16 itself has 540 MB of weights */
    assert_int_equal(c->memory_used, 0);
    assert_null(fv_model(c, "lenet6"));
    assert_non_null(strstr(fv_error(c), "there is no model 'lenet6'; there are lenet5, "));
}

static void assert_shape(fv_net *net, const char *layer, const int64_t *dims, int rank) {
    int index = fv_layer_find(net, layer);
    assert_true(index >= 0);
    for (int32_t n = 0; n < net->node_count; n++) {
        if (net->node[n].layer != index) continue;
        int64_t found[FV_RANK];
        assert_int_equal(fv_node_shape(net, (fv_node){ n + 1 }, found), rank + 1);
        assert_int_equal(found[0], 0);
        for (int d = 0; d < rank; d++) assert_int_equal(found[d + 1], dims[d]);
        return;
    }
    fail();
}

#define SHAPE_IS(net, layer, ...)                                                                                      \
    assert_shape(net, layer, (const int64_t[]){ __VA_ARGS__ }, COUNT(((const int64_t[]){ __VA_ARGS__ })))

static void published_shapes(void **state) {
    fv_context *c = *state;
    fv_net *lenet = fv_model(c, "lenet5"), *keras = fv_model(c, "lenet5_keras"), *alexnet = fv_model(c, "alexnet"),
           *vgg = fv_model(c, "vgg16");
    SHAPE_IS(lenet, "c1", 28, 28, 6);
    SHAPE_IS(lenet, "s2", 14, 14, 6);
    SHAPE_IS(lenet, "c3", 10, 10, 16);
    SHAPE_IS(lenet, "s4", 5, 5, 16);
    SHAPE_IS(lenet, "c5", 1, 1, 120);
    SHAPE_IS(lenet, "flatten", 120);
    SHAPE_IS(lenet, "output", 10);
    SHAPE_IS(keras, "s2", 27, 27, 6);
    SHAPE_IS(keras, "c3", 23, 23, 16);
    SHAPE_IS(keras, "s4", 11, 11, 16);
    SHAPE_IS(keras, "c5", 7, 7, 120);
    SHAPE_IS(keras, "flatten", 5880);
    SHAPE_IS(alexnet, "conv1", 55, 55, 96);
    SHAPE_IS(alexnet, "conv2", 27, 27, 256);
    SHAPE_IS(alexnet, "conv5", 13, 13, 256);
    SHAPE_IS(alexnet, "flatten", 9216);
    SHAPE_IS(vgg, "conv2d_12", 14, 14, 512);
    SHAPE_IS(vgg, "max_pooling2d_4", 7, 7, 512);
    SHAPE_IS(vgg, "flatten", 25088);
    assert_fine(c);
}

/* A net of one layer: what exercises ask about. */
static fv_net_size size_of_conv(fv_context *c, int64_t h, int64_t w, int64_t channels, fv_conv2d_options o,
                                int64_t out[FV_RANK]) {
    fv_net *net = fv_net_new(c, NULL);
    o.struct_size = sizeof o;
    o.input = fv_input(net, h, w, channels);
    fv_node y = fv_conv2d_with(net, &o);
    fv_output(net, y);
    assert_int_equal(fv_node_shape(net, y, out), 4);
    fv_net_size size = measure(net, 1);
    assert_fine(c);
    fv_net_free(net);
    return size;
}

static void exercises(void **state) {
    static const struct { int64_t h, w, channels; fv_conv2d_options o; int64_t rows, columns, parameters, macs;
    } table[] = {
        { 64, 64, 8, { .filters = 32, .kernel = 3 }, 62, 62, 2336, 8856576 },
        { 368, 487, 3, { .filters = 4, .kernel = 9 }, 360, 479, 976, (int64_t)360 * 479 * 972 },
        { 512, 512, 1, { .filters = 2, .kernel = 3 }, 510, 510, 20, 510 * 510 * 18 },
        { 512, 512, 1, { .filters = 1, .kernel = 9, .padding = FV_SAME }, 512, 512, 82, 512 * 512 * 81 },
        { 512, 512, 1, { .filters = 1, .kernel = 9, .padding = FV_FULL }, 520, 520, 82, 520 * 520 * 81 },
        { 32, 32, 3, { .filters = 6, .kernel = 5 }, 28, 28, 456, 28 * 28 * 450 },
        { 28, 28, 1, { .filters = 25, .kernel = 3 }, 26, 26, 250, 26 * 26 * 225 },
        { 227, 227, 3, { .filters = 96, .kernel = 11, .stride = 4 }, 55, 55, 34944, 105415200 },
        { 10,
          9,
          4,
          { .filters = 4,
            .kernel_hw = { 3, 2 },
            .stride_hw = { 2, 1 },
            .dilation_hw = { 1, 3 },
            .pad = { 1, 0, 2, 1 } },
          5,
          9,
          100,
          5 * 9 * 96 },
        { 7, 7, 6, { .filters = 12, .kernel = 3, .groups = 6, .no_bias = true }, 5, 5, 108, 25 * 108 },
        { 5, 5, 1, { .filters = 1, .kernel = 3, .stride = 2, .padding = 1 }, 3, 3, 10, 81 },
    };
    for (int i = 0; i < COUNT(table); i++) {
        int64_t out[FV_RANK];
        fv_net_size size = size_of_conv(*state, table[i].h, table[i].w, table[i].channels, table[i].o, out);
        assert_int_equal(out[1], table[i].rows);
        assert_int_equal(out[2], table[i].columns);
        assert_int_equal(out[3], table[i].o.filters);
        assert_int_equal(size.parameters, table[i].parameters);
        assert_int_equal(size.macs, table[i].macs);
    }
}

static void summary_text(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "sobel");
    fv_output(net, fv_conv2d(net, fv_input(net, 512, 512, 1), .filters = 2, .kernel = 3));
    FILE *file = tmpfile();
    assert_int_equal(fv_summary(net, file, 2), 0);
    char text[4096];
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    static const char *const parts[] = {
        "Model: \"sobel\"\n",
        "conv2d (Conv2D)",
        "(None, 510, 510, 2)",
        " 20 ",
        "4,681,800\n",
        "Total params: 20 (80.00 B)\n",
        "Trainable params: 20 (80.00 B)\n",
        "Non-trainable params: 0 (0.00 B)\n",
        "Multiply-adds: 4,681,800 for one image\n",
        "batch of 2",
    };
    for (int i = 0; i < COUNT(parts); i++)
        if (!strstr(text, parts[i])) fail_msg("the summary lacks '%s':\n%s", parts[i], text);
    assert_null(strstr(text, "Connected to")); /* a chain needs no such column */
    /* The bytes are those of the planner and of the regions, to the byte. */
    fv_net_size size = measure(net, 2);
    fv_tape *tape = fv_tape_new(c);
    fv_value x = fv_op_input(tape, (const int64_t[]){ 2, 512, 512, 1 }, 4, FV_F32);
    fv_keep(tape, fv_record(tape, net, FV_VALUES(x), FV_MODE_INFER));
    fv_program *program = fv_compile(tape);
    assert_fine(c);
    assert_int_equal(size.inference_bytes, fv_program_bytes(program) + 4 * net->store->parameters);
    assert_int_equal(net->store->parameters, 48); /* 18 and 2, each padded to 16 */
}

/* A step written by hand takes what was measured: arena and inputs as planned, regions of the store, nothing else. */
static void step_bytes(void **state) {
    static const char *const devices[] = { "reference", "cpu", "reference64" };
    for (int d = 0; d < COUNT(devices); d++) {
        fv_context *c = fv_open(devices[d]);
        fv_net *net = fv_model(c, "lenet5");
        fv_net_size size = measure(net, 24);
        assert_int_equal(c->memory_used, 0);
        fv_tape *tape = fv_tape_new(c);
        fv_value x = fv_op_input(tape, (const int64_t[]){ 24, 28, 28, 1 }, 4, FV_F32);
        fv_value labels = fv_op_input(tape, (const int64_t[]){ 24 }, 1, FV_I32);
        fv_value scores = fv_record(tape, net, FV_VALUES(x), FV_MODE_TRAIN);
        fv_value loss = fv_op_mean(tape, fv_op_softmax_cross_entropy(tape, scores, labels, 0));
        fv_keep(tape, loss);
        fv_backward(tape, loss);
        fv_op_update(tape, net, fv_sgd(.learning_rate = 0.1f, .momentum = 0.9f));
        fv_program *program = fv_compile(tape);
        fv_run(program);
        assert_fine(c);
        assert_int_equal(size.training_bytes, c->memory_used - program->constant_bytes);
        fv_close(c);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_reference, close_context)
    const struct CMUnitTest tests[] = {
        TEST(published_figures), TEST(published_shapes), TEST(exercises), TEST(summary_text), TEST(step_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
