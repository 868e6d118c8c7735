/* test_conv_layers.c - the layers of convolution beside Conv2D: outputs and gradients against tables of Keras and PyTorch
 * (tests/tables/conv_layers.txt, from scripts/make_conv_tables.py), their JSON both ways, sizes, and what they refuse. */
#include "net/net.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static int open_cpu(void **state) { return *state = fv_open("cpu"), fv_error(*state) ? -1 : 0; }
static int open_reference(void **state) { return *state = fv_open("reference"), fv_error(*state) ? -1 : 0; }

static int close_context(void **state) {
    fv_close(*state);
    return 0;
}

static void assert_fine(fv_context *c) {
    if (fv_error(c)) fail_msg("unexpected error: %s", fv_error(c));
}

static void assert_error(fv_context *c, const char *sentence) {
    if (!fv_error(c)) fail_msg("no error, but expected: %s", sentence);
    if (strcmp(fv_error(c), sentence)) fail_msg("error:    %s\nexpected: %s", fv_error(c), sentence);
    fv_clear_error(c);
}

/* ---- The tables -------------------------------------------------------------------------------------------------- */

/* X(name, layer on input x of net) */
#define CASES(X)                                                                                                       \
    X(conv1d_stride, fv_conv1d(net, x, .filters = 4, .kernel = 3, .stride = 2, .activation = FV_TANH))                 \
    X(conv1d_causal, fv_conv1d(net, x, .filters = 3, .kernel = 3, .dilation = 2, .padding = FV_CAUSAL))                \
    X(conv1d_same_groups,                                                                                              \
      fv_conv1d(net, x, .filters = 6, .kernel = 4, .padding = FV_SAME, .groups = 2, .no_bias = true))                  \
    X(depthwise1d, fv_depthwise_conv1d(net, x, .kernel = 3, .stride = 2, .depth_multiplier = 2, .padding = FV_SAME))   \
    X(depthwise2d, fv_depthwise_conv2d(net, x, .kernel_hw = { 3, 2 }, .stride = 2, .depth_multiplier = 3,              \
                                       .padding = FV_SAME))                                                            \
    X(depthwise2d_one, fv_depthwise_conv2d(net, x, .kernel = 3, .depth_multiplier = 2))                                \
    X(separable1d, fv_separable_conv1d(net, x, .filters = 4, .kernel = 3, .depth_multiplier = 2, .dilation = 2,        \
                                       .padding = FV_SAME))                                                            \
    X(separable2d, fv_separable_conv2d(net, x, .filters = 4, .kernel = 3, .stride = 2, .depth_multiplier = 2,          \
                                       .activation = FV_RELU))                                                         \
    X(transpose_valid, fv_conv2d_transpose(net, x, .filters = 3, .kernel = 3, .stride = 2))                            \
    X(transpose_valid_gaps, fv_conv2d_transpose(net, x, .filters = 2, .kernel = 2, .stride = 3))                       \
    X(transpose_valid_exact,                                                                                           \
      fv_conv2d_transpose(net, x, .filters = 2, .kernel = 2, .stride = 3, .no_output_padding = true))                  \
    X(transpose_same, fv_conv2d_transpose(net, x, .filters = 3, .kernel = 4, .stride = 2, .padding = FV_SAME,          \
                                          .activation = FV_SIGMOID))                                                   \
    X(transpose_same_stride1, fv_conv2d_transpose(net, x, .filters = 3, .kernel_hw = { 3, 5 }, .padding = FV_SAME))    \
    X(transpose_same_small, fv_conv2d_transpose(net, x, .filters = 2, .kernel = 1, .stride = 2, .padding = FV_SAME))   \
    X(transpose_same_output, fv_conv2d_transpose(net, x, .filters = 2, .kernel = 5, .stride = 2, .padding = FV_SAME,   \
                                                 .no_output_padding = true))                                           \
    X(transpose_dilated, fv_conv2d_transpose(net, x, .filters = 2, .kernel_hw = { 2, 3 }, .dilation = 2))              \
    X(transpose1d_same, fv_conv1d_transpose(net, x, .filters = 3, .kernel = 4, .stride = 2, .padding = FV_SAME))       \
    X(transpose1d_valid, fv_conv1d_transpose(net, x, .filters = 3, .kernel = 2, .stride = 3, .output_padding = 2))     \
    X(torch_transpose, fv_conv2d_transpose(net, x, .filters = 6, .kernel_hw = { 3, 4 }, .stride = 2, .padding = 1,     \
                                           .output_padding_hw = { 1, 0 }, .groups = 2))                                \
    X(torch_transpose_uneven,                                                                                          \
      fv_conv2d_transpose(net, x, .filters = 3, .kernel_hw = { 2, 3 }, .stride_hw = { 3, 2 }, .pad = { 0, 0, 2, 2 },   \
                          .dilation_hw = { 2, 1 }, .output_padding_hw = { 2, 1 }))                                     \
    X(torch_transpose_depthwise, fv_conv2d_transpose(net, x, .filters = 3, .kernel = 3, .stride = 2, .padding = 1,     \
                                                     .groups = 3, .no_bias = true))                                    \
    X(torch_transpose1d, fv_conv1d_transpose(net, x, .filters = 2, .kernel = 5, .stride = 3, .padding = 2,             \
                                             .output_padding = 1, .groups = 2))                                        \
    X(local2d, fv_locally_connected2d(net, x, .filters = 3, .kernel_hw = { 3, 2 }, .stride = 2))                       \
    X(local2d_padded, fv_locally_connected2d(net, x, .filters = 2, .kernel = 3, .padding = FV_SAME))                   \
    X(local1d, fv_locally_connected2d(net, x, .filters = 2, .kernel_hw = { 1, 3 }, .stride = 2))

#define ADD(NAME, LAYER)                                                                                               \
    static fv_node add_##NAME(fv_net *net, fv_node x) { return LAYER; }
CASES(ADD)
#define ENTRY(NAME, LAYER) { #NAME, add_##NAME },
static const struct { const char *name; fv_node (*add)(fv_net *, fv_node); } cases[] = { CASES(ENTRY) };

enum { MOST_TENSORS = 10 };
typedef struct tensor { char word[8]; fv_shape shape; float *value; } tensor;

static size_t bytes_of(const tensor *t) { return (size_t)fv_shape_elements(&t->shape) * sizeof(float); }

static const tensor *find(const tensor *tensors, const char *word, int number) {
    char name[16];
    snprintf(name, sizeof name, number < 0 ? "%s" : "%s%d", word, number);
    for (int i = 0; i < MOST_TENSORS; i++)
        if (!strcmp(tensors[i].word, name)) return &tensors[i];
    return NULL;
}

static FILE *open_tables(void) {
    FILE *file = fopen("tests/tables/conv_layers.txt", "r");
    if (!file) fail_msg("tests/tables/conv_layers.txt: run from the root of the repository");
    return file;
}

/* Tensors up to the next case, whose name goes to `next`; false: the file ends. */
static bool read_case(FILE *file, tensor *tensors, char next[64]) {
    char line[256], word[8];
    memset(tensors, 0, MOST_TENSORS * sizeof *tensors);
    for (int count = 0; fgets(line, sizeof line, file);) {
        if (sscanf(line, "case %63s", next) == 1) return true;
        tensor *t = &tensors[count++];
        int at = 0, more = 0;
        assert_true(count <= MOST_TENSORS && sscanf(line, "%7s%n", word, &at) == 1);
        snprintf(t->word, sizeof t->word, "%s", word);
        for (long long size; sscanf(line + at, "%lld%n", &size, &more) == 1; at += more)
            t->shape.dim[t->shape.rank++] = size;
        t->value = malloc(bytes_of(t) + 1);
        for (int64_t i = 0; i < fv_shape_elements(&t->shape); i++)
            if (fscanf(file, "%f", &t->value[i]) != 1) fail_msg("the tables are broken off");
        assert_non_null(fgets(line, sizeof line, file)); /* what is left of the line */
    }
    return false;
}

static void compare(const char *name, const char *what, int number, const float *given, const tensor *wanted) {
    double largest = 0;
    int64_t count = fv_shape_elements(&wanted->shape);
    for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabs((double)wanted->value[i]));
    for (int64_t i = 0; i < count; i++)
        if (!(fabs((double)given[i] - wanted->value[i]) <= 2e-6 * (1 + largest)))
            fail_msg("%s: %s%d [%lld] is %.9g, the table says %.9g", name, what, number, (long long)i, given[i],
                     wanted->value[i]);
}

/* Output and gradients by a tape of the layer's own. */
static void check_case(fv_context *c, const char *name, const tensor *tensors,
                       fv_node (*add)(fv_net *, fv_node)) {
    const tensor *x = find(tensors, "x", -1), *y = find(tensors, "y", -1), *g = find(tensors, "g", -1);
    fv_net *net = fv_net_new(c, name);
    FV_OPTIONS(fv_input_options, input);
    input.rank = x->shape.rank - 1;
    for (int i = 0; i < input.rank; i++) input.shape[i] = x->shape.dim[i + 1];
    fv_node out = add(net, fv_input_with(net, &input));
    fv_output(net, out);
    assert_fine(c);
    const char *layer = fv_layer_name(net, 1);
    int weights = fv_weight_count(net, layer);
    assert_null(find(tensors, "w", weights));
    for (int i = 0; i < weights; i++) {
        const tensor *w = find(tensors, "w", i);
        fv_shape keras = { 0 };
        keras.rank = fv_weight_shape(net, layer, i, FV_KERAS, keras.dim);
        if (!w || fv_shape_elements(&keras) != fv_shape_elements(&w->shape)) fail_msg("%s: weight %d", name, i);
        if (strncmp(name, "local", 5)) assert_true(fv_shape_equal(&keras, &w->shape));
        assert_int_equal(fv_set_weights(net, layer, i, FV_KERAS, w->value, bytes_of(w)), FV_OK);
    }
    fv_tape *tape = fv_tape_new(c);
    fv_value in = fv_op_input(tape, x->shape.dim, x->shape.rank, FV_F32), gradient[4], dx;
    fv_watch(tape, in);
    fv_value value = fv_record(tape, net, (fv_values){ &in, 1 }, FV_MODE_TRAIN);
    assert_fine(c);
    assert_true(fv_shape_equal(&fv_tape_value_of(tape, value)->shape, &y->shape));
    fv_value up = fv_op_constant(tape, g->shape.dim, g->shape.rank, g->value);
    fv_value loss = fv_op_sum(tape, fv_op_mul(tape, value, up), NULL, 0, false);
    fv_backward(tape, loss);
    fv_keep(tape, value);
    fv_keep(tape, dx = fv_gradient(tape, in));
    for (int i = 0; i < weights; i++)
        fv_keep(tape, gradient[i] = fv_gradient(tape, fv_weight_value(tape, net, layer, i)));
    fv_program *program = fv_compile(tape);
    fv_write(program, in, x->value, bytes_of(x));
    fv_run(program);
    assert_fine(c);
    float *result = malloc(65536), *turned = malloc(65536);
    assert_int_equal(fv_read(program, value, result, bytes_of(y)), FV_OK);
    compare(name, "y", 0, result, y);
    assert_int_equal(fv_read(program, dx, result, bytes_of(x)), FV_OK);
    compare(name, "dx", 0, result, find(tensors, "dx", -1));
    for (int i = 0; i < weights; i++) {
        const tensor *d = find(tensors, "d", i);
        assert_int_equal(fv_read(program, gradient[i], result, bytes_of(d)), FV_OK);
        fv_weight_permute(&net->layer[1].weight[i], true, result, turned);
        compare(name, "d", i, turned, d);
    }
    free(result);
    free(turned);
    fv_program_free(program);
    fv_tape_free(tape);
    fv_net_free(net);
}

static void layers_of_the_tables(void **state) {
    FILE *file = open_tables();
    tensor tensors[MOST_TENSORS];
    char name[64] = "", next[64] = "";
    int checked = 0;
    assert_non_null(fgets((char[256]){ 0 }, 256, file));
    bool more = read_case(file, tensors, next);
    while (more) {
        snprintf(name, sizeof name, "%s", next);
        more = read_case(file, tensors, next);
        int i = 0;
        while (i < COUNT(cases) && strcmp(cases[i].name, name)) i++;
        if (i == COUNT(cases)) fail_msg("there is no layer for the case %s", name);
        check_case(*state, name, tensors, cases[i].add);
        for (int t = 0; t < MOST_TENSORS; t++) free(tensors[t].value);
        checked++;
    }
    assert_int_equal(checked, COUNT(cases));
    fclose(file);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static fv_net *new_convolutions(fv_context *c) {
    fv_net *net = fv_net_new(c, "convolutions");
    fv_node x = fv_input(net, 9, 8, 4), l = fv_input(net, 20, 3);
    x = fv_depthwise_conv2d(net, x, .kernel = 3, .depth_multiplier = 2, .padding = 1, .l2 = 0.5f,
                            .kernel_initializer = fv_orthogonal(2));
    x = fv_separable_conv2d(net, x, .filters = 6, .kernel_hw = { 2, 3 }, .pad = { 1, 0, 2, 0 }, .depthwise_l1 = 0.25f,
                            .pointwise_l2 = 1, .bias_l1 = 2, .pointwise_initializer = fv_truncated_normal(0, 0.5f),
                            .depthwise_initializer = fv_variance_scaling(3, FV_FAN_OUT, FV_UNTRUNCATED_NORMAL));
    x = fv_conv2d_transpose(net, x, .filters = 4, .kernel = 3, .stride = 2, .padding = FV_SAME, .output_padding = 1,
                            .activation = FV_RELU);
    x = fv_conv2d_transpose(net, x, .filters = 6, .kernel = 3, .groups = 2, .pad = { 1, 0, 0, 2 }, .frozen = true);
    x = fv_conv2d_transpose(net, x, .filters = 3, .kernel = 2, .padding = FV_FULL, .dilation = 2, .no_bias = true);
    x = fv_conv2d_transpose(net, x, .filters = 3, .kernel = 2, .stride = 3, .no_output_padding = true);
    x = fv_locally_connected2d(net, x, .filters = 2, .kernel = 3, .stride = 4, .padding = FV_SAME, .l1 = 0.5f);
    x = fv_locally_connected2d(net, x, .filters = 2, .kernel = 2, .dilation = 2, .activation = FV_TANH, .no_bias = true);
    x = fv_bias(net, x, .activation = FV_SIGMOID, .l2 = 0.1f, .bias_initializer = fv_constant(0.5f));
    fv_output(net, fv_dense(net, fv_flatten(net, x), .units = 5, .kernel_initializer = fv_identity(2)));
    l = fv_conv1d(net, l, .filters = 4, .kernel = 3, .padding = FV_CAUSAL, .dilation = 2);
    l = fv_conv1d(net, l, .filters = 4, .kernel = 3, .padding = 1, .groups = 2, .activation = FV_TANH);
    l = fv_conv1d(net, l, .filters = 4, .kernel = 2, .flip_kernel = true, .pad = { 2, 1 },
                  .kernel_initializer = fv_dirac(0));
    l = fv_depthwise_conv1d(net, l, .kernel = 3, .stride = 2, .depth_multiplier = 3, .pad = { 2, 0 });
    l = fv_separable_conv1d(net, l, .filters = 4, .kernel = 3, .padding = FV_SAME, .activation = FV_GELU_TANH);
    l = fv_conv1d_transpose(net, l, .filters = 6, .kernel = 4, .stride = 2, .padding = FV_SAME);
    l = fv_conv1d_transpose(net, l, .filters = 6, .kernel = 3, .stride = 2, .groups = 3, .padding = 1,
                            .output_padding = 1);
    l = fv_locally_connected1d(net, l, .filters = 3, .kernel = 4, .stride = 3, .padding = FV_SAME,
                               .kernel_initializer = fv_variance_scaling(1, FV_FAN_AVERAGE, FV_UNTRUNCATED_NORMAL));
    fv_output(net, l);
    assert_fine(c);
    return net;
}

static void assert_json_equal(const json_t *a, const json_t *b) {
    if (json_equal(a, b)) return;
    char *left = json_dumps(a, JSON_COMPACT), *right = json_dumps(b, JSON_COMPACT);
    int same = 0;
    while (left[same] == right[same]) same++;
    print_error("they differ from here on:\n%.300s\n%.300s\n", left + same, right + same);
    free(left);
    free(right);
    fail();
}

static void round_trips(void **state) {
    fv_context *c = *state;
    fv_net *net = new_convolutions(c);
    json_t *config = fv_net_to_config(net), *extra = fv_net_extra_to_json(net);
    fv_net *back = fv_net_extra_from_json(c, config, extra);
    assert_fine(c);
    json_t *config2 = fv_net_to_config(back), *extra2 = fv_net_extra_to_json(back);
    assert_json_equal(config, config2);
    assert_json_equal(extra, extra2);
    assert_int_equal(back->layer_count, net->layer_count);
    for (int32_t l = 0; l < net->layer_count; l++) {
        const fv_layer *a = &net->layer[l], *b = &back->layer[l];
        assert_string_equal(a->name, b->name);
        assert_true(a->kind == b->kind && a->frozen == b->frozen && a->weight_count == b->weight_count);
        fv_layer_options one = a->options, two = b->options;
        one.conv2d.struct_size = two.conv2d.struct_size = 0; /* what the caller knew */
        one.conv2d.frozen = two.conv2d.frozen = false;       /* the layer says it */
        assert_memory_equal(&one, &two, sizeof one);
        for (int32_t w = 0; w < a->weight_count; w++) {
            assert_true(fv_shape_equal(&a->weight[w].shape, &b->weight[w].shape));
            assert_memory_equal(&a->weight[w].initializer, &b->weight[w].initializer, sizeof(fv_initializer));
            assert_true(a->weight[w].l1 == b->weight[w].l1 && a->weight[w].l2 == b->weight[w].l2);
        }
    }
    fv_net *plain = fv_net_from_config(c, config); /* what was written in parts becomes layers of its own */
    assert_fine(c);
    json_t *config3 = fv_net_to_config(plain);
    assert_json_equal(config, config3);
    json_decref(config);
    json_decref(config2);
    json_decref(config3);
    json_decref(extra);
    json_decref(extra2);
}

/* Names, classes, sizes and multiply-adds of one image. */
static void measures(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "m");
    fv_node x = fv_input(net, 6, 5, 4);
    x = fv_depthwise_conv2d(net, x, .kernel = 3, .depth_multiplier = 2);                     /* 4 x 3 x 8 */
    x = fv_separable_conv2d(net, x, .filters = 6, .kernel = 2, .padding = FV_SAME);          /* 4 x 3 x 6 */
    x = fv_conv2d_transpose(net, x, .filters = 2, .kernel = 4, .stride = 2, .padding = 1);   /* 8 x 6 x 2 */
    x = fv_locally_connected2d(net, x, .filters = 3, .kernel = 3, .stride = 2);              /* 3 x 2 x 3 */
    x = fv_bias(net, x);
    fv_output(net, x);
    static const struct { const char *name, *class_name; int64_t parameters, macs; } wanted[] = {
        { "input", "InputLayer", 0, 0 },
        { "depthwise_conv2d", "DepthwiseConv2D", 8 * 9 + 8, 12 * 8 * 9 },
        { "separable_conv2d", "SeparableConv2D", 8 * 4 + 8 * 6 + 6, 12 * (8 * 4 + 8 * 6) },
        { "conv2d_transpose", "Conv2DTranspose", 6 * 16 * 2 + 2, 12 * 6 * 16 * 2 },
        { "locally_connected2d", "LocallyConnected2D", 6 * (9 * 2 * 3 + 3), 6 * 9 * 2 * 3 },
        { "bias", "fovea>Bias", 18, 0 },
    };
    fv_layer_size sizes[COUNT(wanted)];
    fv_net_size size = { .struct_size = sizeof size };
    assert_int_equal(fv_net_measure(net, 1, &size, sizes), FV_OK);
    for (int i = 0; i < COUNT(wanted); i++) {
        assert_string_equal(fv_layer_name(net, i), wanted[i].name);
        if (i != 3) assert_string_equal(fv_layer_class(net, i), wanted[i].class_name);
        assert_int_equal(sizes[i].parameters, wanted[i].parameters);
        assert_int_equal(sizes[i].macs, wanted[i].macs);
    }
    int64_t dims[FV_RANK];
    assert_int_equal(fv_weight_shape(net, "locally_connected2d", 0, FV_KERAS, dims), 3);
    assert_true(dims[0] == 6 && dims[1] == 18 && dims[2] == 3);
    assert_int_equal(fv_weight_shape(net, "locally_connected2d", 1, FV_NATIVE, dims), 3);
    assert_true(dims[0] == 3 && dims[1] == 2 && dims[2] == 3);
}

/* ---- Refusals ---------------------------------------------------------------------------------------------------- */

static void refusals(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "r");
    fv_node x = fv_input(net, 6, 6, 4), l = fv_input(net, 9, 4);
    FV_OPTIONS(fv_input_options, open);
    open.rank = 3;
    open.shape[2] = 3;
    fv_node any = fv_input_with(net, &open);
    fv_conv1d(net, x, .filters = 2, .kernel = 3, .name = "a");
    assert_error(c, "r: layer a (conv1d): its input must be (None, steps, channels), not (None, 6, 6, 4)");
    fv_conv2d_transpose(net, l, .filters = 2, .kernel = 3, .name = "a");
    assert_error(c, "r: layer a (conv2d_transpose): its input must be (None, height, width, channels), not (None, 9, 4)");
    fv_conv1d(net, l, .filters = 2, .kernel = 10, .name = "a");
    assert_error(c, "r: layer a (conv1d): kernel 1x10 is larger than its padded input 1x9");
    fv_conv2d_transpose(net, x, .filters = 2, .kernel = 3, .stride = 2, .output_padding = 2, .name = "a");
    assert_error(c, "r: layer a (conv2d_transpose): output padding 2 must be at least 0 and below the stride 2");
    fv_conv2d_transpose(net, x, .filters = 2, .kernel = 3, .padding = 4, .name = "a");
    assert_error(c, "r: layer a (conv2d_transpose): its padding leaves 0x0 of the output");
    fv_conv2d_transpose(net, x, .filters = 3, .kernel = 3, .groups = 2, .name = "a");
    assert_error(c, "r: layer a (conv2d_transpose): 2 groups do not divide its 4 channels and 3 filters");
    fv_separable_conv2d(net, x, .filters = 3, .kernel = 3, .depth_multiplier = -1, .name = "a");
    assert_error(c, "r: layer a (separable_conv2d): depth_multiplier is -1, which 4 channels cannot have");
    fv_locally_connected2d(net, x, .filters = 3, .kernel = 7, .name = "a");
    assert_error(c, "r: layer a (locally_connected2d): kernel 7x7 is larger than its padded input 6x6");
    fv_locally_connected2d(net, any, .filters = 3, .kernel = 3, .name = "a");
    assert_error(c, "r: layer a (locally_connected2d): needs an input of fixed size, but was given (None, None, None, 3)");
    fv_dense(net, l, .units = 3, .bias_initializer = fv_orthogonal(1), .name = "a");
    assert_error(c, "r: layer a (dense): initializer of bias: only a kernel can be orthogonal");
    fv_conv2d(net, x, .filters = 4, .kernel = 3, .kernel_initializer = fv_identity(1), .name = "a");
    assert_error(c, "r: layer a (conv2d): initializer of kernel: only a dense kernel can be the identity");
    fv_conv2d(net, x, .filters = 4, .kernel = 3, .kernel_initializer = fv_dirac(3), .name = "a");
    assert_error(c, "r: layer a (conv2d): initializer of kernel: its groups must divide the filters");
    fv_dense(net, l, .units = 3, .name = "a",
             .kernel_initializer = fv_variance_scaling(0, FV_FAN_IN, FV_UNIFORM));
    assert_error(c, "r: layer a (dense): initializer of kernel: the scale must be above zero");
    assert_int_equal(fv_layer_count(net), 3);
}

/* ---- On the tape ------------------------------------------------------------------------------------------------- */

static int64_t elements(fv_tape *tape, fv_value v) { return fv_shape_elements(&fv_tape_value_of(tape, v)->shape); }

/* <conv(x, w), y> = <x, transpose(y, w)>: the two are adjoint, with any settings. */
static void adjoint(void **state) {
    fv_context *c = *state;
    static const fv_conv_settings rows[] = {
        { .struct_size = sizeof *rows },
        { .struct_size = sizeof *rows, .stride = { 2, 3 }, .pad = { 1, 0, 2, 1 }, .size = { 7, 8 } },
        { .struct_size = sizeof *rows, .dilation = { 2, 1 }, .groups = 2, .flip_kernel = true },
    };
    for (int i = 0; i < COUNT(rows); i++) {
        fv_tape *tape = fv_tape_new(c);
        float numbers[2048];
        for (int k = 0; k < 2048; k++) numbers[k] = (float)(k * 7919 % 41 - 20) / 20;
        int groups = rows[i].groups ? rows[i].groups : 1;
        fv_value x = fv_op_constant(tape, (const int64_t[]){ 2, 7, 8, 4 }, 4, numbers + 3);
        fv_value w = fv_op_constant(tape, (const int64_t[]){ 6, 3, 2, 4 / groups }, 4, numbers + 7);
        fv_value y = fv_op_conv2d(tape, x, w, i ? &rows[i] : NULL);
        assert_fine(c);
        fv_shape shape = fv_tape_value_of(tape, y)->shape;
        assert_true(elements(tape, y) < 2000);
        fv_value g = fv_op_constant(tape, shape.dim, 4, numbers + 11);
        fv_value back = fv_op_conv2d_transpose(tape, g, w, i ? &rows[i] : NULL);
        assert_fine(c);
        assert_true(fv_shape_equal(&fv_tape_value_of(tape, back)->shape, &fv_tape_value_of(tape, x)->shape));
        fv_value left = fv_op_sum(tape, fv_op_mul(tape, y, g), NULL, 0, false);
        fv_value right = fv_op_sum(tape, fv_op_mul(tape, x, back), NULL, 0, false);
        fv_keep(tape, left);
        fv_keep(tape, right);
        fv_program *program = fv_compile(tape);
        fv_run(program);
        float a, b;
        fv_read(program, left, &a, sizeof a);
        fv_read(program, right, &b, sizeof b);
        assert_fine(c);
        if (!(fabsf(a - b) <= 1e-4f * (1 + fabsf(a)))) fail_msg("settings %d: %g and %g", i, a, b);
        fv_program_free(program);
    }
    fv_tape *tape = fv_tape_new(c);
    fv_value x = fv_op_input(tape, (const int64_t[]){ 2, 7, 8, 4 }, 4, FV_F32);
    fv_value w = fv_op_input(tape, (const int64_t[]){ 5, 7, 3, 2, 4, 6 }, 6, FV_F32);
    assert_int_equal(elements(tape, fv_op_local_conv2d(tape, x, w, NULL)), 2 * 5 * 7 * 6);
    fv_op_local_conv2d(tape, x, w, &rows[2]);
    assert_error(c, "local_conv2d: groups and flipped kernels are not supported");
    fv_op_local_conv2d(tape, x, w, &rows[1]);
    assert_error(c, "local_conv2d: the kernel [5, 7, 3, 2, 4, 6] is for 5x7 positions, but the input [2, 7, 8, 4] gives 3x4");
}

/* ---- Initial weights --------------------------------------------------------------------------------------------- */

static float *drawn(fv_net *net, const char *layer, int64_t count) {
    float *values = malloc((size_t)count * sizeof *values);
    if (fv_get_weights(net, layer, 0, FV_KERAS, values, (size_t)count * sizeof *values))
        fail_msg("%s", fv_error(net->object.context));
    return values;
}

/* Of [rows, columns] the fewer are orthogonal and of length gain. */
static void assert_orthogonal(fv_net *net, const char *layer, int64_t rows, int64_t columns, double gain) {
    float *m = drawn(net, layer, rows * columns);
    int64_t few = rows < columns ? rows : columns, many = rows < columns ? columns : rows;
    for (int64_t i = 0; i < few; i++)
        for (int64_t j = 0; j <= i; j++) {
            double dot = 0;
            for (int64_t k = 0; k < many; k++)
                dot += rows < columns ? (double)m[i * columns + k] * m[j * columns + k]
                                      : (double)m[k * columns + i] * m[k * columns + j];
            if (fabs(dot - (i == j ? gain * gain : 0)) > 1e-5 * gain * gain)
                fail_msg("%s: rows %d and %d have product %g", layer, (int)i, (int)j, dot);
        }
    free(m);
}

/* Mean 0, this deviation, and nothing beyond the bound. */
static void assert_spread(fv_net *net, const char *layer, int64_t count, double deviation, double bound) {
    float *values = drawn(net, layer, count);
    double sum = 0, squares = 0, most = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += values[i];
        squares += (double)values[i] * values[i];
        most = fmax(most, fabs((double)values[i]));
    }
    double mean = sum / (double)count, root = sqrt((double)count);
    if (fabs(mean) > 5 * deviation / root) fail_msg("%s: mean %g", layer, mean);
    if (fabs(sqrt(squares / (double)count) / deviation - 1) > 5 / root)
        fail_msg("%s: deviation %g, not %g", layer, sqrt(squares / (double)count), deviation);
    if (most > bound || (bound < 1e9 && most < 0.97 * bound)) fail_msg("%s: largest %g of %g", layer, most, bound);
    free(values);
}

static void initial_weights(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "i");
    fv_node x = fv_input(net, 8, 8, 32), v = fv_input(net, 100);
    fv_output(net, x);
    fv_conv2d(net, x, .filters = 40, .kernel = 3, .kernel_initializer = fv_orthogonal(1), .name = "tall");
    fv_conv2d(net, x, .filters = 300, .kernel_hw = { 1, 2 }, .kernel_initializer = fv_orthogonal(1.5f), .name = "wide");
    fv_conv2d_transpose(net, x, .filters = 7, .kernel = 3, .kernel_initializer = fv_orthogonal(1), .name = "up");
    fv_dense(net, v, .units = 100, .kernel_initializer = fv_orthogonal(2), .name = "square");
    assert_orthogonal(net, "tall", 9 * 32, 40, 1);
    assert_orthogonal(net, "wide", 2 * 32, 300, 1.5);
    assert_orthogonal(net, "up", 9 * 7, 32, 1);
    assert_orthogonal(net, "square", 100, 100, 2);
    assert_fine(c);

    static const struct { fv_fan fan; fv_distribution distribution; double n, bound; } rows[] = {
        { FV_FAN_IN, FV_UNIFORM, 100, 1.7320508 },
        { FV_FAN_OUT, FV_TRUNCATED_NORMAL, 300, 2 / 0.87962566 },
        { FV_FAN_AVERAGE, FV_UNTRUNCATED_NORMAL, 200, 1e10 },
    };
    for (int i = 0; i < COUNT(rows); i++) {
        char name[16];
        snprintf(name, sizeof name, "v%d", i);
        fv_dense(net, v, .units = 300, .name = name,
                 .kernel_initializer = fv_variance_scaling(2.5f, rows[i].fan, rows[i].distribution));
        assert_spread(net, name, 30000, sqrt(2.5 / rows[i].n), rows[i].bound * sqrt(2.5 / rows[i].n));
    }
    fv_dense(net, v, .units = 300, .kernel_initializer = fv_truncated_normal(0, 0.5f), .name = "cut");
    assert_spread(net, "cut", 30000, 0.5 * 0.87962566, 1); /* the deviation before the cut, as in Keras */

    fv_dense(net, v, .units = 40, .kernel_initializer = fv_identity(3), .name = "one");
    float *m = drawn(net, "one", 4000);
    for (int i = 0; i < 4000; i++) assert_true(m[i] == (i / 40 == i % 40 ? 3.0f : 0.0f));
    free(m);
    assert_fine(c);
}

/* A convolution that starts as Dirac's passes its input on, group by group. */
static void dirac(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "d");
    fv_node x = fv_input(net, 5, 6, 4);
    x = fv_conv2d(net, x, .filters = 4, .kernel = 3, .padding = FV_SAME, .kernel_initializer = fv_dirac(0));
    x = fv_conv2d(net, x, .filters = 4, .kernel = 5, .padding = FV_SAME, .groups = 2, .kernel_initializer = fv_dirac(2));
    fv_output(net, fv_depthwise_conv2d(net, x, .kernel = 3, .padding = 1, .kernel_initializer = fv_dirac(4)));
    float in[120], out[120];
    for (int i = 0; i < 120; i++) in[i] = (float)(i % 17) - 8;
    fv_array array = { .data = in, .type = FV_F32, .rank = 4, .dims = { 1, 5, 6, 4 } };
    fv_predict_with(net, &(const fv_predict_options){ .struct_size = sizeof(fv_predict_options), .inputs = &array,
                                                      .input_count = 1, .output = out, .output_bytes = sizeof out });
    assert_fine(c);
    assert_memory_equal(in, out, sizeof in);
}

int main(void) {
#define CPU(test)       cmocka_unit_test_setup_teardown(test, open_cpu, close_context)
#define REFERENCE(test) cmocka_unit_test_setup_teardown(test, open_reference, close_context)
    const struct CMUnitTest tests[] = {
        REFERENCE(layers_of_the_tables), CPU(layers_of_the_tables), REFERENCE(round_trips), REFERENCE(measures),
        REFERENCE(refusals), CPU(adjoint), REFERENCE(initial_weights), CPU(dirac),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
