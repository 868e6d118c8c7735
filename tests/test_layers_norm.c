/* test_layers_norm.c - layers that normalise within a sample, against Keras and torch; layers that draw random numbers:
 * what they leave of mean, variance and channels; the configurations of both in Keras's form. */
#include "net/net.h"
#include "tables/norm.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static void assert_fine(fv_context *c) {
    if (fv_error(c)) fail_msg("unexpected error: %s", fv_error(c));
}
static void assert_error(fv_context *c, const char *sentence) {
    if (!fv_error(c)) fail_msg("no error, but expected: %s", sentence);
    if (strcmp(fv_error(c), sentence)) fail_msg("error:    %s\nexpected: %s", fv_error(c), sentence);
    fv_clear_error(c);
}

/* ---- Numbers of Keras and torch ---------------------------------------------------------------------------------- */

static fv_node add_layer(fv_net *net, fv_node x, const char *name) {
    if (!strcmp(name, "layer_norm")) return fv_layer_norm(net, x, .name = "n");
    if (!strcmp(name, "layer_norm_axes2")) return fv_layer_norm(net, x, .axes = 2, .epsilon = 1e-5f, .name = "n");
    if (!strcmp(name, "layer_norm_plain")) return fv_layer_norm(net, x, .no_scale = true, .no_center = true, .name = "n");
    if (!strcmp(name, "group_norm")) return fv_group_norm(net, x, .groups = 2, .name = "n");
    if (!strcmp(name, "instance_norm")) return fv_instance_norm(net, x, .name = "n");
    if (!strcmp(name, "rms_norm")) return fv_rms_norm(net, x, .name = "n");
    return fv_unit_norm(net, x, .name = "n");
}

static void assert_near(const char *name, const char *what, const float *got, const float *wanted, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!(fabsf(got[i] - wanted[i]) <= 2e-5f * (1 + fabsf(wanted[i]))))
            fail_msg("%s: element %lld of %s is %.9g, not %.9g", name, (long long)i, what, (double)got[i],
                     (double)wanted[i]);
}

static void check_case(const char *device, const struct norm_case *k) {
    fv_context *c = fv_open(device);
    fv_net *net = fv_net_new(c, "n");
    int64_t elements = 1;
    for (int i = 0; i < k->rank; i++) elements *= k->dims[i];
    fv_input_options input = { .struct_size = sizeof input, .rank = k->rank - 1 };
    memcpy(input.shape, k->dims + 1, sizeof(int64_t) * (size_t)(k->rank - 1));
    fv_output(net, add_layer(net, fv_input_with(net, &input), k->name));
    assert_fine(c);
    int weights = k->weight[0].value ? k->weight[1].value ? 2 : 1 : 0;
    assert_int_equal(fv_weight_count(net, "n"), weights);

    fv_tape *tape = fv_tape_new(c);
    fv_value x = fv_op_input(tape, k->dims, k->rank, FV_F32), dy = fv_op_constant(tape, k->dims, k->rank, k->dy);
    fv_watch(tape, x);
    fv_value y = fv_record(tape, net, FV_VALUES(x), FV_MODE_TRAIN), w[2] = { { 0 } };
    fv_backward(tape, fv_op_sum(tape, fv_op_mul(tape, y, dy), NULL, 0, false));
    fv_keep(tape, y);
    fv_value dx = fv_gradient(tape, x), dw[2] = { { 0 } };
    fv_keep(tape, dx);
    for (int i = 0; i < weights; i++) {
        w[i] = fv_weight_value(tape, net, "n", i);
        fv_keep(tape, dw[i] = fv_gradient(tape, w[i]));
    }
    int64_t size[2] = { 0 };
    for (int i = 0; i < weights; i++) {
        size[i] = fv_shape_elements(&fv_tape_value_of(tape, w[i])->shape);
        fv_set_weights(net, "n", i, FV_KERAS, k->weight[i].value, sizeof(float) * (size_t)size[i]);
    }
    fv_program *program = fv_compile(tape);
    float *got = calloc((size_t)elements, sizeof *got);
    fv_write(program, x, k->x, sizeof(float) * (size_t)elements);
    fv_run(program);
    assert_fine(c);
    fv_read(program, y, got, sizeof(float) * (size_t)elements);
    assert_near(k->name, "y", got, k->y, elements);
    fv_read(program, dx, got, sizeof(float) * (size_t)elements);
    assert_near(k->name, "dx", got, k->dx, elements);
    for (int i = 0; i < weights; i++) {
        fv_read(program, dw[i], got, sizeof(float) * (size_t)size[i]);
        assert_near(k->name, i ? "dbeta" : "dgamma", got, k->weight[i].gradient, size[i]);
    }
    assert_fine(c);
    free(got);
    fv_close(c);
}

static void as_in_keras(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(norm_cases); i++) {
        check_case("reference", &norm_cases[i]);
        check_case("cpu", &norm_cases[i]);
    }
}

/* ---- Random layers ----------------------------------------------------------------------------------------------- */

enum { ROWS = 64, SIDE = 8, CHANNELS = 16, ELEMENTS = ROWS * SIDE * SIDE * CHANNELS };

/* The layer's output on x, and the gradient of its sum, in training. */
static void run_layer(const char *device, fv_node (*add)(fv_net *, fv_node), const float *x, float *y, float *dx) {
    fv_context *c =
        fv_open_with(&(const fv_open_options){ .struct_size = sizeof(fv_open_options), .device = device, .seed = 3 });
    fv_net *net = fv_net_new(c, "r");
    fv_output(net, add(net, fv_input(net, SIDE, SIDE, CHANNELS)));
    fv_tape *tape = fv_tape_new(c);
    const int64_t shape[] = { ROWS, SIDE, SIDE, CHANNELS };
    fv_value in = fv_op_input(tape, shape, 4, FV_F32);
    fv_watch(tape, in);
    fv_value out = fv_record(tape, net, FV_VALUES(in), FV_MODE_TRAIN);
    fv_backward(tape, fv_op_sum(tape, out, NULL, 0, false));
    fv_value gradient = fv_gradient(tape, in);
    fv_keep(tape, out);
    fv_keep(tape, gradient);
    fv_program *program = fv_compile(tape);
    fv_write(program, in, x, sizeof(float) * ELEMENTS);
    fv_run(program);
    fv_read(program, out, y, sizeof(float) * ELEMENTS);
    fv_read(program, gradient, dx, sizeof(float) * ELEMENTS);
    assert_fine(c);
    /* In inference nothing happens. */
    fv_tape *infer = fv_tape_new(c);
    fv_record(infer, net, FV_VALUES(fv_op_input(infer, shape, 4, FV_F32)), FV_MODE_INFER);
    assert_int_equal(infer->operation_count, 0);
    fv_close(c);
}

static fv_node spatial(fv_net *net, fv_node x) { return fv_spatial_dropout2d(net, x, .rate = 0.25f); }
static fv_node alpha(fv_net *net, fv_node x) { return fv_alpha_dropout(net, x, .rate = 0.2f); }
static fv_node gaussian(fv_net *net, fv_node x) { return fv_gaussian_dropout(net, x, .rate = 0.2f); }
static fv_node noise(fv_net *net, fv_node x) { return fv_gaussian_noise(net, x, .deviation = 0.5f); }

static void moments(const float *x, double *mean, double *variance) {
    double sum = 0, squares = 0;
    for (int i = 0; i < ELEMENTS; i++) sum += x[i];
    for (int i = 0; i < ELEMENTS; i++) squares += pow(x[i] - sum / ELEMENTS, 2);
    *mean = sum / ELEMENTS, *variance = squares / ELEMENTS;
}

static void random_layers(void **state) {
    (void)state;
    float *x = calloc(ELEMENTS, sizeof *x), *y[2], *dx[2];
    for (int i = 0; i < 2; i++) y[i] = calloc(ELEMENTS, sizeof **y), dx[i] = calloc(ELEMENTS, sizeof **dx);
    double mean, variance;
    fv_random random = fv_random_make(1, 1);
    fv_node (*const layers[])(fv_net *, fv_node) = { spatial, alpha, gaussian, noise };
    for (int l = 0; l < COUNT(layers); l++) {
        for (int i = 0; i < ELEMENTS; i++) x[i] = layers[l] == gaussian ? 1 : (float)fv_random_normal(&random);
        run_layer("cpu", layers[l], x, y[0], dx[0]);
        run_layer("reference", layers[l], x, y[1], dx[1]);
        for (int i = 0; i < ELEMENTS; i++) { /* the same draws: what is dropped, and to a rounding the rest */
            assert_float_equal(y[0][i], y[1][i], 1e-5f);
            assert_float_equal(dx[0][i], dx[1][i], 1e-5f);
            assert_true((dx[0][i] == 0) == (dx[1][i] == 0));
        }
        moments(y[0], &mean, &variance);
        if (layers[l] == alpha) { /* of SELU's output, as which x here passes: mean 0 and variance 1 stay */
            assert_true(fabs(mean) < 0.02 && fabs(variance - 1) < 0.03);
        } else if (layers[l] == gaussian) {
            assert_true(fabs(mean - 1) < 0.01 && fabs(variance - 0.25) < 0.01);
            for (int i = 0; i < ELEMENTS; i++) assert_float_equal(dx[0][i], y[0][i], 1e-6f);
        } else if (layers[l] == noise) {
            assert_true(fabs(mean) < 0.02 && fabs(variance - 1.25) < 0.03);
            for (int i = 0; i < ELEMENTS; i++) assert_true(dx[0][i] == 1);
        }
    }
    run_layer("cpu", spatial, x, y[0], dx[0]);
    int dropped = 0;
    for (int n = 0; n < ROWS; n++)
        for (int ch = 0; ch < CHANNELS; ch++) {
            const float factor = dx[0][n * SIDE * SIDE * CHANNELS + ch];
            assert_true(factor == 0 || fabsf(factor - 4.0f / 3) < 1e-6f);
            dropped += factor == 0;
            for (int p = 0; p < SIDE * SIDE; p++) assert_true(dx[0][(n * SIDE * SIDE + p) * CHANNELS + ch] == factor);
        }
    assert_true(dropped > 0.2 * ROWS * CHANNELS && dropped < 0.3 * ROWS * CHANNELS);
    free(x);
    for (int i = 0; i < 2; i++) free(y[i]), free(dx[i]);
}

/* ---- Keras's form ------------------------------------------------------------------------------------------------ */

static fv_net *keras_chain(fv_context *c, const char *class_name, const char *config) {
    json_t *net = json_pack("{s:s,s:{s:s,s:[{s:s,s:{s:s,s:[n,i,i,i]}},{s:s,s:o}]}}", "class_name", "Sequential", "config",
                            "name", "s", "layers", "class_name", "InputLayer", "config", "name", "i", "batch_shape", 4, 4,
                            8, "class_name", class_name, "config", json_loads(config, 0, NULL));
    assert_non_null(net);
    fv_net *read = fv_net_from_config(c, net);
    json_decref(net);
    return read;
}

static void written_and_read(void **state) {
    fv_context *c = *state;
    fv_net *net = fv_net_new(c, "both");
    fv_node x = fv_input(net, 4, 6, 8);
    x = fv_layer_norm(net, x, .axes = 3, .epsilon = FV_ZERO, .gamma_initializer = fv_constant(0.5f));
    x = fv_layer_norm(net, x, .no_center = true, .frozen = true);
    x = fv_group_norm(net, x, .groups = 4, .no_scale = true, .beta_initializer = fv_ones());
    x = fv_instance_norm(net, x, .epsilon = 1e-5f);
    x = fv_rms_norm(net, x, .axes = 2);
    x = fv_unit_norm(net, x, .axes = 2);
    x = fv_spatial_dropout2d(net, x, .rate = 0.125f);
    x = fv_alpha_dropout(net, x);
    x = fv_gaussian_dropout(net, x, .rate = FV_ZERO);
    x = fv_gaussian_noise(net, x, .deviation = 0.25f);
    x = fv_reshape(net, x, .shape = { 24, 8 }, .rank = 2);
    fv_output(net, fv_spatial_dropout1d(net, x));
    assert_fine(c);
    json_t *config = fv_net_to_config(net);
    fv_net *back = fv_net_from_config(c, config);
    assert_fine(c);
    json_t *again = fv_net_to_config(back);
    assert_true(json_equal(config, again));
    assert_int_equal(back->layer_count, net->layer_count);
    for (int32_t l = 0; l < net->layer_count; l++) {
        assert_int_equal(net->layer[l].kind, back->layer[l].kind);

        for (int32_t w = 0; w < net->layer[l].weight_count; w++)
            assert_true(fv_shape_equal(&net->layer[l].weight[w].shape, &back->layer[l].weight[w].shape));
    }
    assert_string_equal(fv_layer_class(back, 1), "fovea>LayerNormalization");
    assert_string_equal(fv_layer_class(back, 2), "LayerNormalization");
    fv_net *lists = keras_chain(c, "LayerNormalization", "{\"name\":\"n\",\"axis\":[3,-2]}");
    assert_fine(c);
    assert_int_equal(lists->layer[1].options.layer_norm.axes, 2);
    assert_int_equal(back->layer[4].options.group_norm.groups, -1);
    assert_true(back->layer[1].options.layer_norm.epsilon == 0 && back->layer[1].options.layer_norm.axes == 3);
    json_decref(config);
    json_decref(again);
}

static void refuse(fv_context *c, const char *class_name, const char *config, const char *sentence) {
    assert_null(keras_chain(c, class_name, config));
    if (!fv_error(c) || !strstr(fv_error(c), sentence)) fail_msg("%s\nexpected: %s", fv_error(c), sentence);
    fv_clear_error(c);
}

static void refused(void **state) {
    fv_context *c = *state;
    refuse(c, "LayerNormalization", "{\"name\":\"n\",\"axis\":[1]}", "only the last axes are supported");
    refuse(c, "LayerNormalization", "{\"name\":\"n\",\"axis\":[1,3]}", "only the last axes are supported");
    refuse(c, "LayerNormalization", "{\"name\":\"n\",\"rms_scaling\":true}", "option 'rms_scaling' is not supported");
    refuse(c, "GroupNormalization", "{\"name\":\"n\",\"axis\":1}", "only the last axis is supported");
    refuse(c, "GroupNormalization", "{\"name\":\"n\",\"groups\":3}", "8 channels do not make 3 equal groups");
    refuse(c, "SpatialDropout1D", "{\"name\":\"n\",\"rate\":0.5}", "its input must be (None, steps, channels), not");
    refuse(c, "GaussianNoise", "{\"name\":\"n\"}", "option 'stddev' is missing or negative");
    refuse(c, "AlphaDropout", "{\"name\":\"n\",\"rate\":0.5,\"noise_shape\":[1,2]}", "option 'noise_shape' is not supported");

    fv_net *net = fv_net_new(c, "wrong");
    fv_node x = fv_input(net, 4, 4, 8);
    fv_layer_norm(net, x, .axes = 4);
    assert_error(c, "wrong: layer layer_normalization (layer_normalization): axes is 4, but a sample has 1..3 of them");
    fv_group_norm(net, x);
    assert_error(c, "wrong: layer group_normalization (group_normalization): 8 channels do not make 32 equal groups");
    fv_instance_norm(net, x, .groups = 2);
    assert_error(c, "net wrong: an instance normalisation has no groups");
    fv_rms_norm(net, x, .epsilon = -1);
    assert_error(c, "wrong: layer rms_normalization (rms_normalization): epsilon -1 is not a number of at least 0");
    fv_alpha_dropout(net, x, .rate = 1);
    assert_error(c, "wrong: layer alpha_dropout (alpha_dropout): rate 1 is not at least 0 and below 1");
    fv_gaussian_noise(net, x, .deviation = NAN);
    assert_error(c, "wrong: layer gaussian_noise (gaussian_noise): deviation nan is not a number of at least 0");
}

static int open_reference(void **state) { return (*state = fv_open("reference")) ? 0 : -1; }
static int close_context(void **state) {
    fv_close(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_in_keras),
        cmocka_unit_test(random_layers),
        cmocka_unit_test_setup_teardown(written_and_read, open_reference, close_context),
        cmocka_unit_test_setup_teardown(refused, open_reference, close_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
