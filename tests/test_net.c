/* test_net.c - building nets: names, sentences of errors, options of older programs, shared layers, nets within nets,
 * weights in both layouts, initial values, recording, and what happens when memory runs out in between. */
#include "net/net.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
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

/* The error is there, says this, and is cleared. */
static void assert_error(fv_context *c, const char *sentence) {
    if (!fv_error(c)) fail_msg("no error, but expected: %s", sentence);
    if (strcmp(fv_error(c), sentence)) fail_msg("error:    %s\nexpected: %s", fv_error(c), sentence);
    fv_clear_error(c);
}

static fv_net_size measure(fv_net *net, int batch) {
    fv_net_size size = { .struct_size = sizeof size };
    fv_measure(net, batch, &size);
    return size;
}

/* ---- Names ------------------------------------------------------------------------------------------------------- */

static void names(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, NULL), *other = fv_net_new(c, NULL);
    assert_string_equal(fv_net_name(net), "net");
    assert_string_equal(fv_net_name(other), "net_1");
    fv_node x = fv_input(net, 8, 8, 2);
    x = fv_conv2d(net, x, .filters = 2, .kernel = 3);
    x = fv_conv2d(net, x, .filters = 2, .kernel = 3, .name = "conv2d_2");
    x = fv_conv2d(net, x, .filters = 2, .kernel = 1);
    x = fv_conv2d(net, x, .filters = 2, .kernel = 1);
    assert_fine(c);
    static const char *const expected[] = { "input", "conv2d", "conv2d_2", "conv2d_1", "conv2d_3" };
    assert_int_equal(fv_layer_count(net), COUNT(expected));
    for (int i = 0; i < COUNT(expected); i++) assert_string_equal(fv_layer_name(net, i), expected[i]);
    assert_string_equal(fv_layer_class(net, 0), "InputLayer");
    assert_string_equal(fv_layer_class(net, 1), "Conv2D");
    assert_null(fv_layer_name(net, 5));
    assert_null(fv_layer_class(net, -1));
    assert_int_equal(fv_layer_find(net, "conv2d_2"), 2);

    assert_int_equal(fv_layer_find(net, "conv2d_4"), FV_ERROR_ARGUMENT);
    assert_error(c, "net net has no layer 'conv2d_4'; near are conv2d_2, conv2d_1, conv2d_3, conv2d");
    fv_conv2d(net, x, .filters = 2, .kernel = 1, .name = "conv2d");
    assert_error(c, "net net has a layer 'conv2d' already");
    fv_conv2d(net, x, .filters = 2, .kernel = 1, .name = "a/b");
    assert_error(c, "the name 'a/b' of a layer holds a slash or a control character");
    fv_conv2d(net, x, .filters = 2, .kernel = 1, .name = "");
    assert_error(c, "the name of a layer is empty");
    assert_null(fv_net_new(c, "."));
    assert_error(c, "'.' is not a name for a net");
    assert_int_equal(fv_layer_count(net), COUNT(expected)); /* what fails leaves nothing behind */
}

/* ---- Sentences --------------------------------------------------------------------------------------------------- */

static fv_net *new_lenet5(fv_context *c, fv_node *x, int64_t size) {
    fv_net *net = fv_net_new(c, "lenet5");
    *x = fv_input(net, size, size, 1);
    *x = fv_conv2d(net, *x, .filters = 6, .kernel = 5, .padding = FV_SAME, .activation = FV_TANH, .name = "c1");
    *x = fv_avg_pool2d(net, *x, .size = 2);
    return net;
}

static void error_sentences(void **state) {
    fv_context *c = *state;
    fv_node x;
    fv_net *net = new_lenet5(c, &x, 8);
    int layers = fv_layer_count(net), nodes = net->node_count;
    int64_t parameters = net->parameters;
    uint32_t stream = net->next_stream;
    fv_conv2d(net, x, .filters = 16, .kernel = 5, .name = "c3");
    assert_error(c, "lenet5: layer c3 (conv2d): kernel 5x5 is larger than its padded input 4x4");
    fv_conv2d(net, x, .filters = 16, .kernel_hw = { 2, 3 }, .dilation = 2, .name = "c3");
    assert_error(c, "lenet5: layer c3 (conv2d): dilated kernel 3x5 is larger than its padded input 4x4");
    fv_conv2d(net, x, .kernel = 5, .name = "c3");
    assert_error(c, "lenet5: layer c3 (conv2d): filters are 0: at least 1 is needed");
    fv_conv2d(net, x, .filters = 4, .name = "c3");
    assert_error(c, "lenet5: layer c3 (conv2d): kernel is 0x0: at least 1 is needed");
    fv_conv2d(net, x, .filters = 4, .kernel = 1, .groups = 4, .name = "c3");
    assert_error(c, "lenet5: layer c3 (conv2d): 4 groups do not divide its 6 channels and 4 filters");
    fv_conv2d(net, x, .filters = 4, .kernel = 1, .pad = { 0, -1 }, .name = "c3");
    assert_error(c, "lenet5: layer c3 (conv2d): pad of side 1 is -1: less than nothing");
    fv_conv2d(net, x, .filters = 4, .kernel = 1, .padding = -4, .name = "c3");
    assert_error(c, "lenet5: layer c3 (conv2d): there is no padding -4");
    fv_conv2d(net, x, .filters = 4, .kernel = 1, .activation = (fv_activation)77, .name = "c3");
    assert_error(c, "lenet5: layer c3 (conv2d): there is no activation number 77");
    fv_conv2d(net, x, .filters = 4, .kernel = 1, .kernel_initializer = fv_uniform(1, 0), .name = "c3");
    assert_error(c, "lenet5: layer c3 (conv2d): initializer of kernel: low is above high");
    fv_conv2d(net, fv_flatten(net, x), .filters = 4, .kernel = 1, .name = "c3");
    assert_error(c, "lenet5: layer c3 (conv2d): its input must be (None, height, width, channels), not (None, 96)");
    layers++, nodes++, stream++; /* the flatten */
    fv_dense(net, x, .units = 0, .name = "d");
    assert_error(c, "lenet5: layer d (dense): units are 0: at least 1 is needed");
    fv_dropout(net, x, .rate = 1, .name = "d");
    assert_error(c, "lenet5: layer d (dropout): rate 1 is not at least 0 and below 1");
    fv_reshape(net, x, .shape = { 5, -1 }, .rank = 2, .name = "r");
    assert_error(c, "lenet5: layer r (reshape): a sample of 96 elements (input [1, 4, 4, 6]) cannot become [5, -1]");
    fv_concat(net, FV_NODES(x, x), .axis = 4, .name = "cat");
    assert_error(c, "lenet5: layer cat (concatenate): axis 4 is not an axis of a sample: those are 1..3");
    fv_add(net, FV_NODES(x), .name = "sum");
    assert_error(c, "lenet5: layer sum (add): takes at least 2 inputs, but was given 1");
    fv_subtract(net, FV_NODES(x, x, x), .name = "sum");
    assert_error(c, "lenet5: layer sum (subtract): takes 2 inputs, but was given 3");
    fv_dense(net, (fv_node){ 99 }, .units = 1, .name = "d");
    assert_error(c, "lenet5: layer d (dense): its input is not a node of this net");
    fv_output(net, (fv_node){ 0 });
    assert_error(c, "net lenet5: the output is not a node of this net");
    fv_max_pool2d(net, x, .size = 9, .name = "p");
    assert_non_null(strstr(fv_error(c), "lenet5: layer p (max_pooling2d): "));
    fv_clear_error(c);
    fv_add(net, FV_NODES(x, fv_conv2d(net, x, .filters = 5, .kernel = 3)), .name = "sum");
    assert_non_null(strstr(fv_error(c), "lenet5: layer sum (add): "));
    fv_clear_error(c);
    layers++, nodes++, stream++, parameters += 272 + 16; /* the convolution: 5 3 3 6 and 5 */
    assert_int_equal(fv_layer_count(net), layers);
    assert_int_equal(net->node_count, nodes);
    assert_int_equal(net->parameters, parameters);
    assert_int_equal(net->next_stream, stream);
}

static void sizes_beyond_memory(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "huge");
    fv_input(net, INT64_MAX / 2, 3, 1);
    assert_non_null(strstr(fv_error(c), "huge: layer input (input): shape"));
    fv_clear_error(c);
    fv_node x = fv_input(net, 1 << 30, 1 << 20, 1);
    fv_dense(net, fv_flatten(net, x), .units = INT32_MAX, .name = "d");
    assert_non_null(
        strstr(fv_error(c),
               "huge: layer d (dense): kernel: shape [2147483647, 1125899906842624] is too large for any memory"));
    fv_clear_error(c);
    assert_int_equal(net->parameters, 0);
    fv_input_with(net, &(const fv_input_options){ .struct_size = sizeof(fv_input_options), .rank = 6 });
    assert_error(c, "huge: layer input_1 (input): a sample has 6 dimensions, which are not within 1..5");
    fv_dense(net, (fv_node){ 0 }, .units = 3);
    assert_error(c, "huge: layer dense (dense): its input is not a node of this net");
}

static void calls_that_do_nothing(void **state) {
    fv_context *c = *state;
    assert_int_equal(fv_conv2d(NULL, (fv_node){ 1 }, .filters = 1).id, 0);
    assert_int_equal(fv_input(NULL, 3).id, 0);
    assert_int_equal(fv_call(NULL, NULL, (fv_nodes){0}).id, 0);
    assert_int_equal(fv_again(NULL, (fv_node){ 1 }, (fv_node){ 1 }).id, 0);
    assert_int_equal(fv_output(NULL, (fv_node){ 1 }), FV_ERROR_ARGUMENT);
    assert_int_equal(fv_measure(NULL, 1, NULL), FV_ERROR_ARGUMENT);
    assert_null(fv_net_new(NULL, "x"));
    assert_null(fv_model(NULL, "lenet5"));
    fv_net_free(NULL);
    assert_fine(c);
    fv_net *net = fv_net_new(c, "quiet");
    fv_node x = fv_input(net, 4, 4, 1);
    fv_fail(c, FV_ERROR_ARGUMENT, "first");
    assert_int_equal(fv_dense(net, x, .units = 1).id, 0); /* while an error stands, nothing is added */
    assert_null(fv_net_new(c, "later"));
    assert_error(c, "first");
    assert_int_equal(fv_layer_count(net), 1);
    assert_true(fv_measure(net, 1, &(fv_net_size){ .struct_size = sizeof(fv_net_size) }) < 0);
    assert_error(c, "net quiet has no output: fv_output names one");
}

/* ---- Options ----------------------------------------------------------------------------------------------------- */

static void options_by_size(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "sizes");
    fv_node x = fv_input(net, 6, 6, 2);
    /* A program of long ago knew filters, kernel and stride only: what lies behind its struct is not looked at. */
    fv_conv2d_options old = { .struct_size = offsetof(fv_conv2d_options, dilation),
                              .input = x,
                              .filters = 3,
                              .kernel_hw = { 3, 3 },
                              .dilation = 77,
                              .groups = 77,
                              .no_bias = true,
                              .frozen = true };
    fv_node y = fv_conv2d_with(net, &old);
    assert_fine(c);
    assert_int_equal(fv_weight_count(net, "conv2d"), 2);
    assert_false(fv_net_layer(net, "conv2d")->frozen);
    int64_t dims[FV_RANK];
    assert_int_equal(fv_node_shape(net, y, dims), 4);
    assert_int_equal(dims[1], 4);
    /* A newer program's larger struct is fine as long as what we do not know says nothing. */
    struct {
        fv_dense_options known;
        int64_t later;
    } new = { { .struct_size = sizeof new, .input = y, .units = 2 }, 0 };
    assert_int_not_equal(fv_dense_with(net, &new.known).id, 0);
    assert_fine(c);
    new.later = 1;
    assert_int_equal(fv_dense_with(net, &new.known).id, 0);
    assert_int_equal(fv_error_status(c), FV_ERROR_ARGUMENT);
    fv_clear_error(c);
    old.struct_size = 0;
    assert_int_equal(fv_conv2d_with(net, &old).id, 0);
    assert_int_equal(fv_error_status(c), FV_ERROR_ARGUMENT);
    fv_clear_error(c);
    fv_net_size half = { .struct_size = offsetof(fv_net_size, macs), .macs = -1 };
    fv_output(net, y);
    assert_int_equal(fv_measure(net, 1, &half), 0);
    assert_int_equal(half.parameters, 54 + 3 + 3 * 2 + 2);
    assert_int_equal(half.macs, -1); /* not ours to write */
}

static void options_resolved(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "defaults");
    fv_node x = fv_input(net, 9, 9, 2);
    fv_max_pool2d(net, x, .size_hw = { 3, 0 });
    const fv_pool2d_options *pool = &fv_net_layer(net, "max_pooling2d")->options.pool;
    assert_int_equal(pool->size_hw[0], 3);
    assert_int_equal(pool->size_hw[1], 2);
    assert_int_equal(pool->stride_hw[0], 3);
    assert_int_equal(pool->stride_hw[1], 2);
    fv_batch_norm(net, x);
    fv_batch_norm(net, x, .momentum = FV_ZERO, .epsilon = FV_ZERO);
    assert_true(fv_net_layer(net, "batch_normalization")->options.batch_norm.momentum == 0.99f);
    assert_true(fv_net_layer(net, "batch_normalization")->options.batch_norm.epsilon == 1e-3f);
    assert_true(fv_net_layer(net, "batch_normalization_1")->options.batch_norm.momentum == 0.0f);
    assert_true(fv_net_layer(net, "batch_normalization_1")->options.batch_norm.epsilon == 0.0f);
    fv_lrn(net, x, .k = FV_ZERO);
    const fv_lrn_options *lrn = &fv_net_layer(net, "lrn")->options.lrn;
    assert_true(lrn->size == 5 && lrn->alpha == 1e-4f && lrn->beta == 0.75f && lrn->k == 0.0f);
    fv_dropout(net, x);
    fv_dropout(net, x, .rate = FV_ZERO);
    assert_true(fv_net_layer(net, "dropout")->options.dropout.rate == 0.5f);
    assert_true(fv_net_layer(net, "dropout_1")->options.dropout.rate == 0.0f);
    fv_conv2d(net, x, .filters = 1, .kernel = 3, .padding = 1);
    const fv_conv2d_options *conv = &fv_net_layer(net, "conv2d")->options.conv2d;
    assert_int_equal(conv->padding, FV_VALID);
    for (int side = 0; side < 4; side++) assert_int_equal(conv->pad[side], 1);
    assert_int_equal(conv->kernel_initializer.kind, FV_INITIALIZER_GLOROT_UNIFORM);
    fv_concat(net, FV_NODES(x, x));
    assert_int_equal(fv_net_layer(net, "concatenate")->options.concat.axis, 3);
    assert_fine(c);
}

/* ---- Graphs ------------------------------------------------------------------------------------------------------ */

static void shared_layers(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "siamese");
    fv_node a = fv_input(net, 6), b = fv_input(net, 6), narrow = fv_input(net, 5);
    fv_node left = fv_dense(net, a, .units = 4, .name = "tower"), right = fv_again(net, left, b);
    fv_node twice = fv_subtract(net, FV_NODES(left, right));
    fv_output(net, twice);
    assert_fine(c);
    assert_int_equal(fv_layer_count(net), 5);
    assert_int_equal(net->node_count, 6);
    fv_net_size size = measure(net, 3);
    assert_int_equal(size.parameters, 28);
    assert_int_equal(size.macs, 48); /* the work is done twice */
    fv_again(net, left, narrow);
    assert_non_null(strstr(fv_error(c), "siamese: layer tower (dense): "));
    fv_clear_error(c);
    fv_again(net, a, b);
    assert_error(c, "siamese: layer input (input): an input cannot be applied to a node");
    fv_again(net, twice, a);
    assert_error(c, "siamese: layer subtract (subtract): takes 2 inputs, but was given 1");
    assert_false(fv_net_is_chain(net));
}

/* The lists of a net move while they grow: a layer that is applied again must not be lost with the old one. */
static void shared_layers_grow(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "deep");
    fv_node x = fv_input(net, 4), shared = fv_dense(net, x, .units = 4);
    for (int i = 0; i < 70; i++) {
        x = fv_again(net, shared, x);
        x = fv_activate(net, x, .activation = FV_RELU);
    }
    fv_output(net, x);
    assert_fine(c);
    assert_int_equal(fv_layer_count(net), 72);
    assert_int_equal(measure(net, 1).parameters, 20);
    assert_int_equal(measure(net, 1).macs, 71 * 16);
    assert_string_equal(fv_layer_name(net, 71), "activation_69");
}

static fv_net *new_block(fv_context *c, int32_t filters) {
    fv_net *net = fv_net_new(c, "block");
    fv_node x = fv_input(net, 8, 8, 4);
    fv_node y = fv_conv2d(net, x, .filters = filters, .kernel = 3, .padding = FV_SAME, .name = "conv");
    fv_output(net, fv_batch_norm(net, y, .name = "norm"));
    fv_output(net, y);
    return net;
}

static void nets_in_nets(void **state) {
    fv_context *c = *state;
    fv_net *block = new_block(c, 4), *net = fv_net_new(c, "outer");
    fv_node x = fv_input(net, 8, 8, 4), wrong = fv_input(net, 7, 8, 4);
    fv_node y = fv_call(net, block, FV_NODES(x)), again = fv_call(net, block, FV_NODES(y));
    fv_node sum = fv_add(net, FV_NODES(again, (fv_node){ y.id + 1 }));
    fv_output(net, sum);
    assert_fine(c);
    assert_int_equal(fv_layer_count(net), 4);     /* two inputs, the net once, the sum */
    assert_int_equal(again.id, y.id + 2);         /* each application has two outputs */
    assert_string_equal(fv_layer_class(net, 2), "Functional");
    fv_net_size size = measure(net, 1);
    assert_int_equal(size.parameters, 148 + 16);
    assert_int_equal(size.trainable, 148 + 8);
    assert_int_equal(size.macs, 2 * 64 * 144);
    assert_int_equal(fv_weight_count(net, "block/conv"), 2);
    assert_int_equal(fv_weight_count(net, "block"), 0);
    fv_net *family[4];
    assert_int_equal(fv_net_family(net, family, 4), 2);
    assert_ptr_equal(family[0], net);
    assert_ptr_equal(family[1], block);
    fv_freeze(net, "block/conv", true);
    assert_int_equal(measure(net, 1).trainable, 8);
    fv_freeze(net, "block", true);
    assert_int_equal(measure(net, 1).trainable, 0);
    fv_freeze(net, "block", false);
    assert_int_equal(measure(net, 1).trainable, 156);

    fv_call(net, block, FV_NODES(wrong));
    assert_error(c, "outer: layer block (net): net block takes f32 (None, 8, 8, 4), but was given f32 (None, 7, 8, 4)");
    fv_call(net, net, FV_NODES(x));
    assert_error(c, "net outer cannot call net outer, which contains it");
    fv_call(block, net, FV_NODES(x));
    assert_error(c, "net block cannot call net outer, which contains it");
    fv_call(net, fv_net_new(c, "empty"), FV_NODES(x));
    assert_error(c, "net outer cannot call net empty, which has no output yet");
    fv_net_free(block);
    assert_error(c, "net block is a part of net outer, which must be freed first");
    fv_weight_count(net, "blok/conv");
    assert_error(c, "net outer holds no net 'blok'");
    fv_net_free(net);
    fv_net_free(block);
    assert_fine(c);
}

static void free_sizes(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "fcn");
    fv_node x = fv_input(net, 0, 0, 3);
    x = fv_conv2d(net, x, .filters = 8, .kernel = 3, .padding = FV_SAME);
    x = fv_max_pool2d(net, x, .size = 2);
    fv_node pooled = fv_global_avg_pool(net, x);
    int64_t dims[FV_RANK];
    assert_int_equal(fv_node_shape(net, x, dims), 4);
    assert_true(dims[0] == 0 && dims[1] == 0 && dims[2] == 0 && dims[3] == 8);
    assert_int_equal(fv_node_shape(net, pooled, dims), 2);
    assert_int_equal(dims[1], 8);
    fv_output(net, fv_dense(net, pooled, .units = 2));
    fv_net_size size = measure(net, 1);
    assert_int_equal(size.parameters, 224 + 18);
    assert_int_equal(size.macs, 0);
    fv_dense(net, fv_flatten(net, x), .units = 2, .name = "d");
    assert_error(c, "fcn: layer d (dense): needs an input of fixed size, but was given (None, None)");
    fv_tape *tape = fv_tape_new(c);
    fv_value image = fv_op_input(tape, (const int64_t[]){ 2, 31, 17, 3 }, 4, FV_F32);
    fv_value scores = fv_record(tape, net, FV_VALUES(image), FV_MODE_INFER);
    assert_fine(c);
    assert_int_equal(fv_tape_value_of(tape, scores)->shape.dim[1], 2);
    fv_value grey = fv_op_input(tape, (const int64_t[]){ 2, 31, 17, 1 }, 4, FV_F32);
    assert_int_equal(fv_record(tape, net, FV_VALUES(grey), FV_MODE_INFER).id, 0);
    assert_error(c, "net fcn: input input takes f32 (None, None, None, 3), but was given f32 [2, 31, 17, 1]");
    assert_int_equal(fv_record(tape, net, FV_VALUES(image, image), FV_MODE_INFER).id, 0);
    assert_error(c, "net fcn takes 1 input, but was given 2");
}

/* ---- Weights ----------------------------------------------------------------------------------------------------- */

/* Keras's kernel [h, w, in, out] of element (r, s, c, k) is ours [out, h, w, in] of (k, r, s, c). */
static void weight_layouts(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "layouts");
    fv_node x = fv_input(net, 5, 5, 3);
    fv_conv2d(net, x, .filters = 4, .kernel_hw = { 2, 3 }, .name = "conv");
    fv_conv2d(net, x, .filters = 6, .kernel = 2, .groups = 3, .name = "depthwise");
    fv_dense(net, x, .units = 2, .name = "dense");
    int64_t dims[FV_RANK];
    float keras[72], native[72], back[72];
    for (int i = 0; i < 72; i++) keras[i] = (float)i;
    assert_int_equal(fv_weight_shape(net, "conv", 0, FV_KERAS, dims), 4);
    assert_true(dims[0] == 2 && dims[1] == 3 && dims[2] == 3 && dims[3] == 4);
    assert_int_equal(fv_set_weights(net, "conv", 0, FV_KERAS, keras, sizeof keras), 0);
    assert_int_equal(fv_get_weights(net, "conv", 0, FV_NATIVE, native, sizeof native), 0);
    for (int k = 0; k < 4; k++)
        for (int r = 0; r < 2; r++)
            for (int s = 0; s < 3; s++)
                for (int i = 0; i < 3; i++)
                    assert_true(native[((k * 2 + r) * 3 + s) * 3 + i] == keras[((r * 3 + s) * 3 + i) * 4 + k]);
    assert_int_equal(fv_get_weights(net, "conv", 0, FV_KERAS, back, sizeof back), 0);
    assert_memory_equal(back, keras, sizeof keras);

    assert_string_equal(fv_layer_class(net, fv_layer_find(net, "depthwise")), "DepthwiseConv2D");
    assert_int_equal(fv_weight_shape(net, "depthwise", 0, FV_NATIVE, dims), 4);
    assert_true(dims[0] == 6 && dims[1] == 2 && dims[2] == 2 && dims[3] == 1);
    assert_int_equal(fv_weight_shape(net, "depthwise", 0, FV_KERAS, dims), 4);
    assert_true(dims[0] == 2 && dims[1] == 2 && dims[2] == 3 && dims[3] == 2);
    const fv_weight *depthwise = fv_net_layer(net, "depthwise")->weight;
    assert_true(fv_net_weight_fits(depthwise, &(const fv_shape){ 4, { 2, 2, 3, 2 } }));
    assert_true(fv_net_weight_fits(depthwise, &(const fv_shape){ 4, { 2, 2, 1, 6 } })); /* of a Conv2D in groups */
    assert_false(fv_net_weight_fits(depthwise, &(const fv_shape){ 4, { 2, 2, 6, 1 } }));
    assert_false(fv_net_weight_fits(fv_net_layer(net, "conv")->weight, &(const fv_shape){ 4, { 2, 3, 1, 12 } }));
    assert_int_equal(fv_set_weights(net, "depthwise", 0, FV_KERAS, keras, 24 * sizeof *keras), 0);
    assert_int_equal(fv_get_weights(net, "depthwise", 0, FV_NATIVE, native, 24 * sizeof *keras), 0);
    for (int i = 0; i < 3; i++)     /* channel */
        for (int m = 0; m < 2; m++) /* multiplier */
            for (int p = 0; p < 4; p++) assert_true(native[(i * 2 + m) * 4 + p] == keras[(p * 3 + i) * 2 + m]);

    assert_int_equal(fv_weight_shape(net, "dense", 0, FV_KERAS, dims), 2);
    assert_true(dims[0] == 3 && dims[1] == 2);
    assert_int_equal(fv_set_weights(net, "dense", 0, FV_KERAS, keras, 6 * sizeof *keras), 0);
    assert_int_equal(fv_get_weights(net, "dense", 0, FV_NATIVE, native, 6 * sizeof *keras), 0);
    const float transposed[6] = { 0, 2, 4, 1, 3, 5 };
    assert_memory_equal(native, transposed, sizeof transposed);
    assert_fine(c);

    fv_get_weights(net, "dense", 0, FV_NATIVE, native, 7);
    assert_error(c, "kernel of layer dense of net layouts is [2, 3] and needs 24 bytes, not 7");
    fv_get_weights(net, "dense", 2, FV_NATIVE, native, 24);
    assert_error(c, "layouts: layer dense (dense): has 2 weights: there is no weight 2");
}

/* The store takes over when a program needs it; both ways stay in step. */
static void weights_on_the_device(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "device");
    fv_node x = fv_input(net, 3);
    fv_output(net, fv_batch_norm(net, fv_dense(net, x, .units = 2, .name = "d"), .name = "n"));
    float kernel[6], other[6], mean[2] = { 5, 6 };
    assert_int_equal(fv_get_weights(net, "d", 0, FV_NATIVE, kernel, sizeof kernel), 0);
    assert_false(net->device_current);
    fv_tape *tape = fv_tape_new(c);
    fv_value in = fv_op_input(tape, (const int64_t[]){ 1, 3 }, 2, FV_F32);
    fv_record(tape, net, FV_VALUES(in), FV_MODE_INFER);
    assert_fine(c);
    assert_true(net->device_current);
    assert_int_equal(fv_get_weights(net, "d", 0, FV_NATIVE, other, sizeof other), 0);
    assert_memory_equal(kernel, other, sizeof kernel);
    for (int i = 0; i < 6; i++) other[i] = (float)i;
    assert_int_equal(fv_set_weights(net, "d", 0, FV_NATIVE, other, sizeof other), 0);
    assert_int_equal(fv_set_weights(net, "n", 2, FV_NATIVE, mean, sizeof mean), 0);
    assert_int_equal(fv_store_read(net->store, FV_PARAMETERS, net->layer[1].weight[0].offset, 6, kernel), 0);
    assert_memory_equal(kernel, other, sizeof kernel);
    kernel[0] = 42;
    assert_int_equal(fv_store_write(net->store, FV_PARAMETERS, 0, 1, kernel), 0); /* as an optimiser would */
    assert_int_equal(fv_net_to_host(net), 0);
    assert_true(net->host_parameters[0] == 42);
    assert_true(net->host_statistics[1] == 6);
    net->host_parameters[1] = 43;
    assert_int_equal(fv_net_host_changed(net), 0);
    assert_int_equal(fv_get_weights(net, "d", 0, FV_NATIVE, kernel, sizeof kernel), 0);
    assert_true(kernel[0] == 42 && kernel[1] == 43);
    fv_control control;
    assert_int_equal(fv_store_region(net->store, FV_CONTROL, 0), 0);
    assert_int_equal(fv_store_read(net->store, FV_CONTROL, 0, sizeof control, &control), 0);
    assert_int_equal(control.seed[0], 7); /* a loop written by hand draws from the context's seed */
    assert_int_equal(control.step, 0);
    for (int32_t l = 0; l < net->layer_count; l++)
        for (int32_t w = 0; w < net->layer[l].weight_count; w++)
            assert_int_equal(net->layer[l].weight[w].offset % 16, 0);
    assert_int_equal(net->store->segment_count, 4);
    assert_false(net->store->segment[0].frozen);
    fv_freeze(net, "d", true);
    assert_true(net->store->segment[0].frozen && net->store->segment[1].frozen && !net->store->segment[2].frozen);
    fv_dense(net, x, .units = 3, .name = "late");
    assert_error(
        c, "device: layer late (dense): the net is in use already: layers with weights come before it is recorded");
    assert_int_not_equal(fv_activate(net, x, .activation = FV_SOFTMAX).id, 0); /* one without weights may come later */
}

static void initial_values(void **state) {
    fv_context *c = *state;
    enum { N = 200 * 300 };
    static float w[N], again[N];
    const struct { fv_initializer initializer; double mean, deviation, limit; } rows[] = {
        { fv_glorot_uniform(), 0, sqrt(2.0 / 500), sqrt(6.0 / 500) },
        { fv_glorot_normal(), 0, sqrt(2.0 / 500), 2 * sqrt(2.0 / 500) / 0.87962566103423978 },
        { fv_he_uniform(), 0, sqrt(2.0 / 300), sqrt(6.0 / 300) },
        { fv_he_normal(), 0, sqrt(2.0 / 300), 2 * sqrt(2.0 / 300) / 0.87962566103423978 },
        { fv_lecun_uniform(), 0, sqrt(1.0 / 300), sqrt(3.0 / 300) },
        { fv_lecun_normal(), 0, sqrt(1.0 / 300), 2 * sqrt(1.0 / 300) / 0.87962566103423978 },
        { fv_uniform(-1, 3), 1, 4 / sqrt(12), 2 },
        { fv_normal(2, 0.5f), 2, 0.5, 3 },
        { fv_constant(0.25f), 0.25, 0, 0 },
        { fv_ones(), 1, 0, 0 },
        { fv_zeros(), 0, 0, 0 },
    };
    for (int i = 0; i < COUNT(rows); i++) {
        fv_net *net = fv_net_new(c, "drawn"), *same = fv_net_new(c, "drawn"), *renamed = fv_net_new(c, "renamed");
        fv_dense(net, fv_input(net, 300), .units = 200, .name = "d", .kernel_initializer = rows[i].initializer);
        fv_dense(same, fv_input(same, 300), .units = 200, .name = "d", .kernel_initializer = rows[i].initializer);
        fv_dense(renamed, fv_input(renamed, 300), .units = 200, .name = "d", .kernel_initializer = rows[i].initializer);
        assert_int_equal(fv_get_weights(net, "d", 0, FV_NATIVE, w, sizeof w), 0);
        double sum = 0, squares = 0, largest = 0;
        for (int k = 0; k < N; k++) {
            sum += w[k];
            squares += (w[k] - rows[i].mean) * (w[k] - rows[i].mean);
            largest = fmax(largest, fabs(w[k] - rows[i].mean));
        }
        assert_true(fabs(sum / N - rows[i].mean) <= 5 * rows[i].deviation / sqrt(N));
        assert_true(fabs(sqrt(squares / N) - rows[i].deviation) <= 0.02 * rows[i].deviation);
        assert_true(largest <= rows[i].limit * (1 + 1e-6) && largest >= 0.6 * rows[i].limit);
        assert_int_equal(fv_get_weights(same, "d", 0, FV_NATIVE, again, sizeof again), 0);
        assert_memory_equal(w, again, sizeof w);
        assert_int_equal(fv_get_weights(renamed, "d", 0, FV_NATIVE, again, sizeof again), 0);
        assert_true(!memcmp(w, again, sizeof w) == (rows[i].deviation == 0));
        fv_net_free(net);
        fv_net_free(same);
        fv_net_free(renamed);
    }
    fv_net *net = fv_net_new(c, "fans");
    fv_node x = fv_input(net, 9, 9, 6);
    fv_conv2d(net, x, .filters = 8, .kernel = 3, .groups = 2, .name = "grouped");
    fv_conv2d(net, x, .filters = 12, .kernel = 3, .groups = 6, .name = "depthwise");
    const fv_weight *grouped = fv_net_layer(net, "grouped")->weight,
                    *depthwise = fv_net_layer(net, "depthwise")->weight;
    assert_true(grouped->fan_in == 27 &&
                grouped->fan_out == 72); /* Keras looks at its kernels [3,3,3,8] and [3,3,6,2] */
    assert_true(depthwise->fan_in == 54 && depthwise->fan_out == 18);
    assert_fine(c);
}

/* ---- Recording --------------------------------------------------------------------------------------------------- */

static int count_operations(const fv_tape *tape, fv_op op, uint32_t *stream) {
    int count = 0;
    for (int32_t i = 0; i < tape->operation_count; i++) {
        if (tape->operation[i].op != op) continue;
        if (stream) stream[count] = tape->operation[i].attributes.random.stream;
        count++;
    }
    return count;
}

static void recording_modes(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "modes");
    fv_node x = fv_input(net, 4, 4, 2);
    fv_node n = fv_batch_norm(net, x, .name = "norm"), m = fv_again(net, n, n);
    fv_node d = fv_dropout(net, m, .name = "drop"), e = fv_again(net, d, d);
    fv_output(net, fv_dense(net, fv_flatten(net, e), .units = 3, .l1 = 0.1f, .bias_l2 = 0.2f, .name = "dense"));
    fv_tape *infer = fv_tape_new(c), *train = fv_tape_new(c);
    const int64_t shape[] = { 5, 4, 4, 2 };
    assert_int_not_equal(fv_record(infer, net, FV_VALUES(fv_op_input(infer, shape, 4, FV_F32)), FV_MODE_INFER).id, 0);
    assert_int_equal(count_operations(infer, FV_OP_batch_norm_infer, NULL), 2);
    assert_int_equal(count_operations(infer, FV_OP_dropout, NULL), 0);
    assert_int_not_equal(fv_record(train, net, FV_VALUES(fv_op_input(train, shape, 4, FV_F32)), FV_MODE_TRAIN).id, 0);
    uint32_t stream[4];
    assert_int_equal(count_operations(train, FV_OP_batch_norm_train, NULL), 2);
    assert_int_equal(count_operations(train, FV_OP_dropout, stream), 2);
    assert_int_equal(stream[0], FV_STREAM_LAYERS + net->layer[2].stream);
    assert_int_not_equal(stream[0], stream[1]); /* a layer used twice draws twice */
    /* The second use of the norm goes on from the first one's running mean; one value is placed for each statistic. */
    int placed = 0, chained = 0;
    for (int32_t i = 1; i < train->value_count; i++) placed += train->value[i].region == FV_NEXT_STATISTICS;
    for (int32_t i = 0; i < train->operation_count; i++)
        if (train->operation[i].op == FV_OP_batch_norm_train)
            chained += train->value[fv_tape_input(train, i, 3).id].kind == FV_VALUE_TEMPORARY;
    assert_int_equal(placed, 2);
    assert_int_equal(chained, 1);
    /* Penalties: l1 of the kernel, l2 of the bias; none when frozen. */
    assert_int_not_equal(fv_op_regularization(train, net).id, 0);
    assert_int_equal(count_operations(train, FV_OP_sum_abs, NULL), 1);
    assert_int_equal(count_operations(train, FV_OP_sum_squares, NULL), 1);
    fv_value kernel = fv_weight_value(train, net, "dense", 0);
    assert_true(fv_tape_value_of(train, kernel)->needs_gradient);
    fv_freeze(net, "dense", true);
    fv_freeze(net, "norm", true);
    fv_tape *frozen = fv_tape_new(c);
    fv_record(frozen, net, FV_VALUES(fv_op_input(frozen, shape, 4, FV_F32)), FV_MODE_TRAIN);
    fv_value none = fv_op_regularization(frozen, net); /* still a value: loss + penalty must work */
    assert_int_equal(fv_tape_value_of(frozen, none)->kind, FV_VALUE_CONSTANT);
    assert_false(fv_net_is_penalized(net));
    assert_int_equal(count_operations(frozen, FV_OP_batch_norm_train, NULL),
                     0); /* frozen: running statistics, as in Keras */
    assert_false(fv_tape_value_of(frozen, fv_weight_value(frozen, net, "dense", 0))->needs_gradient);
    assert_fine(c);
    fv_weight_value(frozen, net, "dense", 7);
    assert_error(c, "modes: layer dense (dense): has 2 weights: there is no weight 7");
}

/* ---- Memory that runs out ---------------------------------------------------------------------------------------- */

static void build_everything(fv_context *c) {
    fv_net *block = new_block(c, 4), *net = fv_net_new(c, "outer");
    fv_node x = fv_input(net, 8, 8, 4), y = fv_call(net, block, FV_NODES(x)), z = fv_again(net, y, y);
    y = fv_concat(net, FV_NODES(y, z, fv_max_pool2d(net, x, .size = 3, .stride = 1, .padding = FV_SAME)));
    y = fv_dropout(net, fv_dense(net, fv_global_avg_pool(net, y), .units = 3, .l2 = 0.1f, .name = "d"));
    fv_output(net, y);
    float bias[3];
    fv_get_weights(net, "d", 1, FV_KERAS, bias, sizeof bias);
    FILE *nowhere = fopen("/dev/null", "w");
    fv_summary(net, nowhere, 4);
    fclose(nowhere);
    fv_set_weights(net, "d", 1, FV_KERAS, bias, sizeof bias);
    fv_net_free(net);
    fv_net_free(block);
}

static void memory_runs_out(void **state) {
    fv_context *c = *state;
    fv_alloc_fail(0, false);
    build_everything(c);
    assert_fine(c);
    int64_t allocations = fv_alloc_fail(0, false);
    assert_true(allocations > 50);
    for (int sticky = 0; sticky < 2; sticky++)
        for (int64_t n = 1; n <= allocations; n += allocations > 2000 ? 7 : 1) {
            fv_alloc_fail(n, sticky);
            build_everything(c);
            fv_alloc_fail(0, false);
            if (fv_error_status(c) != FV_ERROR_MEMORY)
                fail_msg("allocation %lld of %lld failed, and the error is: %s", (long long)n, (long long)allocations,
                         fv_error(c) ? fv_error(c) : "none");
            fv_clear_error(c);
            while (c->objects.next != &c->objects) fv_object_free(c->objects.next);
            assert_int_equal(c->memory_used, 0);
        }
    build_everything(c);
    assert_fine(c);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_reference, close_context)
    const struct CMUnitTest tests[] = {
        TEST(names), TEST(error_sentences), TEST(sizes_beyond_memory), TEST(calls_that_do_nothing),
        TEST(options_by_size), TEST(options_resolved), TEST(shared_layers), TEST(shared_layers_grow),
        TEST(nets_in_nets), TEST(free_sizes), TEST(weight_layouts), TEST(weights_on_the_device),
        TEST(initial_values), TEST(recording_modes), TEST(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
