/* test_sampling.c - layers that change the size of an image without weights (and those of sequences): outputs and input
 * gradients against PyTorch's and Keras's (tests/tables/sampling.h), configs there and back, and what is refused. */
#include "net/net.h"
#include "tables/sampling.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* ---- The layers of the table ------------------------------------------------------------------------------------- */

#define LAYER(name, ...)                                                                                               \
    static fv_node make_##name(fv_net *net, fv_node x) { return __VA_ARGS__; }
LAYER(max_pool1d, fv_max_pool1d(net, x, .size = 3, .stride = 2, .padding = 1))
LAYER(avg_pool1d, fv_avg_pool1d(net, x, .size = 3, .stride = 2, .pad = { 1, 1 }))
LAYER(avg_pool1d_exclude, fv_avg_pool1d(net, x, .size = 3, .stride = 2, .padding = 1, .exclude_padding = true,
                                        .ceil_mode = true))
LAYER(global_avg_pool1d, fv_global_avg_pool1d(net, x))
LAYER(global_max_pool1d, fv_global_max_pool1d(net, x))
LAYER(adaptive_avg_pool2d, fv_adaptive_avg_pool2d(net, x, .output_hw = { 3, 2 }))
LAYER(adaptive_avg_pool2d_up, fv_adaptive_avg_pool2d(net, x, .output_hw = { 3, 4 }))
LAYER(adaptive_max_pool2d, fv_adaptive_max_pool2d(net, x, .output_hw = { 3, 2 }))
LAYER(nearest, fv_resizing(net, x, .height = 7, .width = 3, .interpolation = FV_NEAREST, .corners = FV_ASYMMETRIC))
LAYER(nearest_exact, fv_resizing(net, x, .height = 7, .width = 3, .interpolation = FV_NEAREST))
LAYER(bilinear, fv_resizing(net, x, .height = 7, .width = 3))
LAYER(bilinear_align, fv_resizing(net, x, .height = 7, .width = 3, .corners = FV_ALIGN_CORNERS))
LAYER(bilinear_down, fv_resizing(net, x, .height = 3, .width = 2))
LAYER(upsample_align, fv_up_sampling2d(net, x, .interpolation = FV_BILINEAR, .corners = FV_ALIGN_CORNERS))
LAYER(reflect, fv_padding2d(net, x, .mode = FV_PAD_REFLECT, .pad = { 1, 3, 2, 1 }))
LAYER(replicate, fv_padding2d(net, x, .mode = FV_PAD_REPLICATE, .pad = { 1, 3, 2, 1 }))
LAYER(circular, fv_padding2d(net, x, .mode = FV_PAD_CIRCULAR, .pad = { 1, 3, 2, 1 }))
LAYER(constant, fv_padding2d(net, x, .value = 1.5f, .pad = { 1, 0, 2, 1 }))
LAYER(zero_padding1d, fv_zero_padding1d(net, x, .pad = { 1, 2 }))
LAYER(pixel_unshuffle, fv_space_to_depth(net, x, .channel_major = true))
LAYER(pixel_shuffle, fv_depth_to_space(net, x, .channel_major = true))
LAYER(channel_shuffle, fv_channel_shuffle(net, x, .groups = 3))
LAYER(up_sampling2d, fv_up_sampling2d(net, x, .size_hw = { 2, 3 }))
LAYER(up_sampling2d_bilinear, fv_up_sampling2d(net, x, .interpolation = FV_BILINEAR))
LAYER(up_sampling1d, fv_up_sampling1d(net, x, .size = 3))
LAYER(resizing, fv_resizing(net, x, .height = 6, .width = 7))
LAYER(cropping2d, fv_cropping2d(net, x, .crop = { 1, 2, 0, 3 }))
LAYER(cropping1d, fv_cropping1d(net, x, .crop = { 1, 3 }))
LAYER(adaptive_keras, fv_adaptive_avg_pool2d(net, x, .output_hw = { 2, 3 }))

static fv_node make_max_unpool2d(fv_net *net, fv_node x) {
    fv_node y = fv_max_pool2d(net, x, .size = 2);
    return fv_max_unpool2d(net, fv_multiply(net, FV_NODES(y, y)), .pool = y);
}

/* Those of which the tables say nothing. */
LAYER(space_to_depth, fv_space_to_depth(net, x))
LAYER(depth_to_space, fv_depth_to_space(net, x, .block = 3))
LAYER(nails, fv_up_sampling2d(net, x, .size_hw = { 2, 3 }, .interpolation = FV_BED_OF_NAILS))
LAYER(max_pool1d_same, fv_max_pool1d(net, x, .padding = FV_SAME))
LAYER(avg_pool1d_same, fv_avg_pool1d(net, x, .size = 3, .stride = 1, .padding = FV_SAME))
LAYER(global_keeping, fv_global_max_pool1d(net, x, .keep_dims = true))

static const struct layer_case {
    const char *name, *class_name; /* of Keras */
    fv_node (*make)(fv_net *, fv_node);
    int rank;
    int64_t shape[3];
} cases[] = {
#define CASE(name, class_name, ...)                                                                                    \
    { #name, class_name, make_##name, COUNT(((int64_t[]){ __VA_ARGS__ })), { __VA_ARGS__ } }
    CASE(max_pool1d, "fovea>MaxPooling1D", 9, 2),
    CASE(avg_pool1d, "fovea>AveragePooling1D", 9, 2),
    CASE(avg_pool1d_exclude, "fovea>AveragePooling1D", 9, 2),
    CASE(global_avg_pool1d, "GlobalAveragePooling1D", 5, 3),
    CASE(global_max_pool1d, "GlobalMaxPooling1D", 5, 3),
    CASE(adaptive_avg_pool2d, "AdaptiveAveragePooling2D", 7, 5, 2),
    CASE(adaptive_avg_pool2d_up, "AdaptiveAveragePooling2D", 2, 3, 2),
    CASE(adaptive_max_pool2d, "AdaptiveMaxPooling2D", 7, 5, 2),
    CASE(max_unpool2d, "fovea>MaxUnpooling2D", 5, 6, 2),
    CASE(nearest, "fovea>Resizing", 4, 5, 2),
    CASE(nearest_exact, "Resizing", 4, 5, 2),
    CASE(bilinear, "Resizing", 4, 5, 2),
    CASE(bilinear_align, "fovea>Resizing", 4, 5, 2),
    CASE(bilinear_down, "Resizing", 7, 6, 1),
    CASE(upsample_align, "fovea>UpSampling2D", 3, 2, 2),
    CASE(reflect, "fovea>ReflectionPadding2D", 4, 3, 2),
    CASE(replicate, "fovea>ReplicationPadding2D", 4, 3, 2),
    CASE(circular, "fovea>CircularPadding2D", 4, 3, 2),
    CASE(constant, "fovea>ConstantPadding2D", 2, 3, 2),
    CASE(zero_padding1d, "ZeroPadding1D", 4, 2),
    CASE(pixel_unshuffle, "fovea>SpaceToDepth", 4, 6, 2),
    CASE(pixel_shuffle, "fovea>DepthToSpace", 2, 3, 8),
    CASE(channel_shuffle, "fovea>ChannelShuffle", 2, 2, 6),
    CASE(up_sampling2d, "UpSampling2D", 3, 2, 2),
    CASE(up_sampling2d_bilinear, "UpSampling2D", 3, 4, 2),
    CASE(up_sampling1d, "UpSampling1D", 4, 2),
    CASE(resizing, "Resizing", 4, 5, 2),
    CASE(cropping2d, "Cropping2D", 5, 6, 2),
    CASE(cropping1d, "Cropping1D", 6, 2),
    CASE(adaptive_keras, "AdaptiveAveragePooling2D", 5, 4, 2),
    CASE(space_to_depth, "fovea>SpaceToDepth", 4, 2, 3),
    CASE(depth_to_space, "fovea>DepthToSpace", 2, 1, 18),
    CASE(nails, "fovea>UpSampling2D", 2, 3, 2),
    CASE(max_pool1d_same, "MaxPooling1D", 5, 2),
    CASE(avg_pool1d_same, "AveragePooling1D", 5, 2),
    CASE(global_keeping, "GlobalMaxPooling1D", 5, 2),
};

/* ---- Running one ------------------------------------------------------------------------------------------------- */

enum { MOST = 256 };

static void assert_fine(fv_context *c) {
    if (fv_error(c)) fail_msg("unexpected error: %s", fv_error(c));
}

static void assert_error(fv_context *c, const char *sentence) {
    if (!fv_error(c)) fail_msg("no error, but expected: %s", sentence);
    assert_string_equal(fv_error(c), sentence);
    fv_clear_error(c);
}

static void formula(float *out, int64_t count, int factor, int shift, int modulus) {
    for (int64_t i = 0; i < count; i++) out[i] = (float)((factor * i + shift) % modulus - modulus / 2) / 16;
}

static fv_net *net_of(fv_context *c, const struct layer_case *l) {
    fv_net *net = fv_net_new(c, "n");
    FV_OPTIONS(fv_input_options, in);
    in.rank = l->rank;
    memcpy(in.shape, l->shape, sizeof l->shape);
    fv_output(net, l->make(net, fv_input_with(net, &in)));
    return net;
}

/* Output and gradient of the net for the input and the output gradient of the tables; how many numbers the output has. */
static int64_t run(fv_context *c, fv_net *net, const struct layer_case *l, float *y, float *dx) {
    int64_t shape[4] = { 1 }, inputs = 1;
    for (int i = 0; i < l->rank; i++) inputs *= shape[i + 1] = l->shape[i];
    fv_tape *tape = fv_tape_new(c);
    fv_value x = fv_op_input(tape, shape, l->rank + 1, FV_F32);
    fv_watch(tape, x);
    fv_value out = fv_record(tape, net, FV_VALUES(x), FV_MODE_TRAIN);
    assert_fine(c);
    fv_shape s = fv_tape_value_of(tape, out)->shape;
    int64_t outputs = fv_shape_elements(&s);
    float in[MOST], dy[MOST];
    assert_true(outputs <= MOST && inputs <= MOST);
    formula(in, inputs, 37, 11, 101);
    formula(dy, outputs, 53, 7, 89);
    fv_value weights = fv_op_constant(tape, s.dim, s.rank, dy);
    fv_backward(tape, fv_op_sum(tape, fv_op_mul(tape, out, weights), NULL, 0, false));
    fv_value gradient = fv_gradient(tape, x);
    fv_keep(tape, out);
    fv_keep(tape, gradient);
    fv_program *program = fv_compile(tape);
    fv_write(program, x, in, (size_t)inputs * sizeof(float));
    fv_run(program);
    fv_read(program, out, y, (size_t)outputs * sizeof(float));
    fv_read(program, gradient, dx, (size_t)inputs * sizeof(float));
    assert_fine(c);
    fv_program_free(program);
    fv_tape_free(tape);
    return outputs;
}

static const struct layer_case *find_case(const char *name) {
    for (int i = 0; i < COUNT(cases); i++)
        if (!strcmp(cases[i].name, name)) return &cases[i];
    fail_msg("no layer for the row %s", name);
    return NULL;
}

static void compare(const char *device, const char *name, const char *what, const float *got, const float *wanted,
                    int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!(fabsf(got[i] - wanted[i]) <= 2e-6f * (1 + fabsf(wanted[i]))))
            fail_msg("%s on %s: %s %lld is %.9g, not %.9g", name, device, what, (long long)i, got[i], wanted[i]);
}

/* PyTorch's and Keras's numbers, on both backends. */
static void as_the_tables(void **state) {
    (void)state;
    static const char *const devices[] = { "reference", "cpu" };
    for (int d = 0; d < 2; d++) {
        fv_context *c = fv_open(devices[d]);
        for (int i = 0; i < COUNT(sampling_rows); i++) {
            const struct layer_case *l = find_case(sampling_rows[i].name);
            float y[MOST], dx[MOST];
            fv_net *net = net_of(c, l);
            int64_t outputs = run(c, net, l, y, dx), inputs = 1;
            for (int k = 0; k < l->rank; k++) inputs *= l->shape[k];
            assert_int_equal(outputs, sampling_rows[i].outputs);
            compare(devices[d], l->name, "output", y, sampling_rows[i].y, outputs);
            compare(devices[d], l->name, "gradient", dx, sampling_rows[i].dx, inputs);
        }
        fv_close(c);
    }
}

/* Through text and back: the same class, the same numbers. */
static void configs_both_ways(void **state) {
    (void)state;
    fv_context *c = fv_open("reference");
    for (int i = 0; i < COUNT(cases); i++) {
        const struct layer_case *l = &cases[i];
        float y[2][MOST], dx[2][MOST];
        fv_net *net = net_of(c, l);
        assert_fine(c);
        int64_t outputs = run(c, net, l, y[0], dx[0]), inputs = 1;
        for (int k = 0; k < l->rank; k++) inputs *= l->shape[k];
        json_t *config = fv_net_to_config(net);
        fv_net *back = fv_net_from_config(c, config);
        assert_fine(c);
        assert_string_equal(fv_layer_class(back, fv_layer_count(back) - 1), l->class_name);
        json_t *again = fv_net_to_config(back);
        if (!json_equal(config, again)) fail_msg("%s is written in another way when read", l->name);
        assert_int_equal(run(c, back, l, y[1], dx[1]), outputs);
        assert_memory_equal(y[0], y[1], (size_t)outputs * sizeof(float));
        assert_memory_equal(dx[0], dx[1], (size_t)inputs * sizeof(float));
        json_decref(config);
        json_decref(again);
        fv_net_free(back);
        fv_net_free(net);
    }
    fv_close(c);
}

/* ---- Properties -------------------------------------------------------------------------------------------------- */

/* Depth to space is the inverse of space to depth, in both orders. */
static void blocks_and_back(void **state) {
    (void)state;
    fv_context *c = fv_open("cpu");
    for (int major = 0; major < 2; major++) {
        const struct layer_case l = { .rank = 3, .shape = { 4, 6, 5 } };
        fv_net *net = fv_net_new(c, "n");
        fv_node x = fv_input(net, 4, 6, 5);
        x = fv_space_to_depth(net, x, .channel_major = major != 0);
        fv_output(net, fv_depth_to_space(net, x, .channel_major = major != 0));
        float y[MOST], dx[MOST], in[MOST], dy[MOST];
        assert_int_equal(run(c, net, &l, y, dx), 120);
        formula(in, 120, 37, 11, 101);
        formula(dy, 120, 53, 7, 89);
        assert_memory_equal(y, in, 120 * sizeof(float));
        assert_memory_equal(dx, dy, 120 * sizeof(float));
    }
    const struct layer_case *l = find_case("space_to_depth");
    float y[MOST], dx[MOST], in[MOST];
    assert_int_equal(run(c, net_of(c, l), l, y, dx), 24);
    formula(in, 24, 37, 11, 101);
    for (int i = 0; i < 24; i++) assert_true(y[i] == in[i]); /* an image two columns wide is as it lies */
    fv_close(c);
}

static void bed_of_nails(void **state) {
    (void)state;
    fv_context *c = fv_open("cpu");
    const struct layer_case *l = find_case("nails");
    float y[MOST], dx[MOST], in[MOST], dy[MOST];
    assert_int_equal(run(c, net_of(c, l), l, y, dx), 4 * 9 * 2);
    formula(in, 12, 37, 11, 101);
    formula(dy, 72, 53, 7, 89);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 9; j++)
            for (int k = 0; k < 2; k++) {
                bool nail = i % 2 == 0 && j % 3 == 0;
                int from = ((i / 2) * 3 + j / 3) * 2 + k, to = (i * 9 + j) * 2 + k;
                assert_true(y[to] == (nail ? in[from] : 0));
                if (nail) assert_true(dx[from] == dy[to]);
            }
    fv_close(c);
}

/* Unpooling shares the index of its pool: one pool on the tape, and its index lives for both. */
static void one_pool_for_unpooling(void **state) {
    (void)state;
    fv_context *c = fv_open("cpu");
    fv_net *net = net_of(c, find_case("max_unpool2d"));
    fv_tape *tape = fv_tape_new(c);
    fv_record(tape, net, FV_VALUES(fv_op_input(tape, (const int64_t[]){ 2, 5, 6, 2 }, 4, FV_F32)), FV_MODE_INFER);
    assert_fine(c);
    int pools = 0;
    for (int32_t i = 0; i < tape->operation_count; i++) pools += tape->operation[i].op == FV_OP_max_pool2d;
    assert_int_equal(pools, 1);
    fv_close(c);
}

/* Sizes that are free stay free, and what follows from the size of the output does not. */
static void free_sizes(void **state) {
    (void)state;
    fv_context *c = fv_open("reference");
    fv_net *net = fv_net_new(c, "n");
    int64_t dims[FV_RANK];
    fv_node x = fv_input(net, 0, 0, 4);
    assert_int_equal(fv_node_shape(net, fv_up_sampling2d(net, x), dims), 4);
    assert_true(dims[1] == 0 && dims[2] == 0 && dims[3] == 4);
    fv_node_shape(net, fv_adaptive_avg_pool2d(net, x, .output = 3), dims);
    assert_true(dims[1] == 3 && dims[2] == 3);
    fv_node_shape(net, fv_resizing(net, x, .height = 5, .width = 6), dims);
    assert_true(dims[1] == 5 && dims[2] == 6);
    fv_node s = fv_input(net, 0, 4);
    assert_int_equal(fv_node_shape(net, fv_max_pool1d(net, s), dims), 3);
    assert_true(dims[1] == 0 && dims[2] == 4);
    assert_int_equal(fv_node_shape(net, fv_global_avg_pool1d(net, s), dims), 2);
    assert_fine(c);
    fv_close(c);
}

/* ---- Refusals ---------------------------------------------------------------------------------------------------- */

static void refusals(void **state) {
    (void)state;
    fv_context *c = fv_open("reference");
    fv_net *net = fv_net_new(c, "n");
    fv_node image = fv_input(net, 6, 5, 4), steps = fv_input(net, 6, 4);
    fv_max_pool1d(net, image, .name = "a");
    assert_error(c, "n: layer a (max_pooling1d): its input must be (None, steps, channels), not (None, 6, 5, 4)");
    fv_up_sampling2d(net, steps, .name = "a");
    assert_error(c, "n: layer a (up_sampling2d): its input must be (None, height, width, channels), not (None, 6, 4)");
    fv_max_unpool2d(net, image, .pool = image);
    assert_error(c, "net n: fv_max_unpool2d: pool is not the output of a max_pool2d layer of this net");
    fv_max_unpool2d(net, image, .pool = fv_max_pool2d(net, image, .name = "p"), .name = "a");
    assert_error(c, "n: layer a (max_unpooling2d): the output's gradient has shape [1, 6, 5, 4] where the output has "
                    "[1, 3, 2, 4]");
    fv_padding2d(net, image, .mode = FV_PAD_REFLECT, .padding = 5, .name = "a");
    assert_error(c, "n: layer a (padding2d): axis 2 of [1, 6, 5, 4] can be reflected by 4 elements at most, not by 5 "
                    "and 5");
    fv_padding2d(net, image, .mode = FV_PAD_CIRCULAR, .pad = { 7, 0, 0, 0 }, .name = "a");
    assert_error(c, "n: layer a (padding2d): axis 1 of [1, 6, 5, 4] can be repeated by 6 elements at most, not by 7 "
                    "and 0");
    fv_cropping2d(net, image, .cropping = -1, .name = "a");
    assert_error(c, "n: layer a (cropping2d): crop of side 0 is -1: less than nothing");
    fv_resizing(net, image, .height = 4, .name = "a");
    assert_error(c, "n: layer a (resizing): height x width is 4x0: at least 1 is needed");
    fv_resizing(net, image, .height = 4, .width = 4, .interpolation = FV_BED_OF_NAILS, .name = "a");
    assert_error(c, "n: layer a (resizing): interpolation 3 is neither nearest nor bilinear");
    fv_space_to_depth(net, image, .name = "a");
    assert_error(c, "n: layer a (space_to_depth): the height and the width of [1, 6, 5, 4] are no multiple of 2");
    fv_depth_to_space(net, image, .block = 3, .name = "a");
    assert_error(c, "n: layer a (depth_to_space): the channels of [1, 6, 5, 4] are no multiple of 9");
    fv_channel_shuffle(net, image, .groups = 3, .name = "a");
    assert_error(c, "n: layer a (channel_shuffle): 3 groups do not divide its 4 channels");
    fv_adaptive_max_pool2d(net, image, .output = -2, .name = "a");
    assert_error(c, "n: layer a (adaptive_max_pooling2d): output is -2x-2: at least 1 is needed");
    fv_close(c);
}

static void refusals_of_files(void **state) {
    (void)state;
    static const struct { const char *layer, *sentence;
    } wrong[] = {
        { "{'class_name':'UpSampling2D','config':{'name':'u','size':[2,2],'interpolation':'bicubic'}}",
          "layer u of class UpSampling2D: interpolation 'bicubic' is not supported" },
        { "{'class_name':'UpSampling2D','config':{'name':'u','interpolation':'bed_of_nails'}}",
          "layer u of class UpSampling2D: interpolation 'bed_of_nails' is not supported" },
        { "{'class_name':'Resizing','config':{'name':'u','height':4,'width':4,'antialias':true}}",
          "layer u of class Resizing: option 'antialias' is not supported" },
        { "{'class_name':'Resizing','config':{'name':'u','height':4,'width':4,'crop_to_aspect_ratio':true}}",
          "layer u of class Resizing: option 'crop_to_aspect_ratio' is not supported" },
        { "{'class_name':'Resizing','config':{'name':'u','height':4}}",
          "layer u of class Resizing: option 'height' or 'width' is missing or below 1" },
        { "{'class_name':'Cropping2D','config':{'name':'u','cropping':[[1,-1],[0,0]]}}",
          "layer u of class Cropping2D: option 'cropping' is not a number of pixels for each side" },
        { "{'class_name':'AdaptiveMaxPooling2D','config':{'name':'u'}}",
          "layer u of class AdaptiveMaxPooling2D: option 'output_size' is missing" },
        { "{'class_name':'MaxPooling1D','config':{'name':'u','pool_size':[2,2]}}",
          "layer u of class MaxPooling1D: option 'pool_size' is not a whole number of at least 1" },
    };
    fv_context *c = fv_open("reference");
    for (int i = 0; i < COUNT(wrong); i++) {
        char text[512];
        snprintf(text, sizeof text,
                 "{'class_name':'Sequential','config':{'name':'s','layers':[{'class_name':'InputLayer','config':"
                 "{'name':'in','batch_shape':[null,6,6,4]}},%s]}}", wrong[i].layer);
        for (char *at = text; *at; at++)
            if (*at == '\'') *at = '"';
        json_t *json = json_loads(text, 0, NULL);
        assert_non_null(json);
        assert_null(fv_net_from_config(c, json));
        assert_error(c, wrong[i].sentence);
        json_decref(json);
    }
    fv_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_tables),          cmocka_unit_test(configs_both_ways),
        cmocka_unit_test(blocks_and_back),        cmocka_unit_test(bed_of_nails),
        cmocka_unit_test(one_pool_for_unpooling), cmocka_unit_test(free_sizes),
        cmocka_unit_test(refusals),               cmocka_unit_test(refusals_of_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
