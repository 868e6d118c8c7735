/* test_losses.c - losses in fv_fit and fv_evaluate: yes-or-no outputs, images of labels with some that do not count,
 * distributions as targets, several outputs with a loss and options each; and what the accuracy counts. */
#include "support/fitting.h"

enum { SAMPLES = 64 };

static float noise(uint32_t *state) { return (float)((*state = *state * 1664525u + 1013904223u) >> 8) / (1 << 23) - 1; }

static fv_dataset *data_of(fv_context *c, const fv_array *inputs, const fv_array *targets, int32_t target_count) {
    fv_memory_options o = { .struct_size = sizeof o, .inputs = inputs, .input_count = 1, .targets = targets,
                            .target_count = target_count };
    return fv_dataset_from_memory(c, &o);
}

/* Is the sum of four numbers positive? The same answer as a class number and as a float. */
static void yes_or_no(void **state) {
    float x[SAMPLES * 4], y[SAMPLES];
    int32_t label[SAMPLES];
    uint32_t seed = 1;
    for (int i = 0; i < SAMPLES * 4; i++) x[i] = noise(&seed);
    for (int i = 0; i < SAMPLES; i++) y[i] = (float)(label[i] = x[4 * i] + x[4 * i + 1] + x[4 * i + 2] + x[4 * i + 3] > 0);
    const fv_array input = { x, FV_F32, 2, { SAMPLES, 4 } };
    const fv_array target[2] = { { label, FV_I32, 1, { SAMPLES } }, { y, FV_F32, 2, { SAMPLES, 1 } } };
    const struct {
        fv_loss loss;
        int target;
        fv_activation activation;
        fv_loss_options options;
    } cases[] = {
        { FV_LOSS_AUTO, 0, FV_SIGMOID, { 0 } },           { FV_LOSS_AUTO, 0, FV_LINEAR, { 0 } },
        { FV_BINARY_CROSS_ENTROPY, 1, FV_SIGMOID, { 0 } }, { FV_BINARY_FOCAL, 1, FV_LINEAR, { .gamma = 1 } },
        { FV_HINGE, 0, FV_LINEAR, { 0 } },                { FV_SQUARED_HINGE, 0, FV_LINEAR, { 0 } },
        { FV_BINARY_CROSS_ENTROPY, 0, FV_SIGMOID, { .from_probabilities = true } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fv_context *c = open_on("cpu", 2);
        fv_dataset *data = data_of(c, &input, &target[cases[i].target], 1);
        fv_net *net = fv_net_new(c, "side");
        fv_output(net, fv_dense(net, fv_input(net, 4), .units = 1, .activation = cases[i].activation));
        fv_loss_options options = cases[i].options;
        options.struct_size = sizeof options;
        fv_result r = { .struct_size = sizeof r };
        fv_fit(net, data, .epochs = 60, .batch_size = 16, .loss = cases[i].loss, .loss_options = &options,
               .optimizer = fv_adam(.learning_rate = 0.05f));
        fv_evaluate(net, data, .loss = cases[i].loss, .loss_options = &options, .result = &r);
        no_error(c);
        const fv_metrics *last = &fv_net_history(net).epoch[59];
        if (!(r.accuracy > 0.93) || !(last->accuracy > 0.9) || !(r.loss < 0.35))
            fail_msg("case %zu: accuracy %g, then %g, loss %g", i, last->accuracy, r.accuracy, r.loss);
        assert_int_equal(fv_close(c), 0);
    }
}

/* Which of three channels is the largest, at every pixel; label 3 says that nobody knows. */
static void images_of_labels(void **state) {
    enum { SIDE = 5, PIXELS = SIDE * SIDE, CLASSES = 3 };
    static float x[SAMPLES * PIXELS * CLASSES];
    static int32_t label[SAMPLES * PIXELS];
    const float weights[CLASSES] = { 1, 2, 0.5f };
    uint32_t seed = 5;
    int counted = 0;
    for (int i = 0; i < SAMPLES * PIXELS; i++) {
        float *pixel = x + i * CLASSES;
        for (int k = 0; k < CLASSES; k++) pixel[k] = noise(&seed);
        label[i] = 0;
        for (int k = 1; k < CLASSES; k++)
            if (pixel[k] > pixel[label[i]]) label[i] = k;
        if (i % 4 == 0) label[i] = 3;
        else counted++;
    }
    const fv_array input = { x, FV_F32, 4, { SAMPLES, SIDE, SIDE, CLASSES } };
    const fv_array target = { label, FV_I32, 3, { SAMPLES, SIDE, SIDE } };
    const fv_loss losses[] = { FV_LOSS_AUTO, FV_FOCAL, FV_MULTI_CLASS_HINGE };
    for (int i = 0; i < 3; i++) {
        fv_context *c = open_on("cpu", 2);
        fv_dataset *data = data_of(c, &input, &target, 1);
        fv_net *net = fv_net_new(c, "pixels");
        fv_output(net, fv_conv2d(net, fv_input(net, SIDE, SIDE, CLASSES), .filters = CLASSES, .kernel = 1));
        const fv_loss_options options = { .struct_size = sizeof options, .class_weights = weights, .class_count = CLASSES,
                                          .ignore = true, .ignore_label = 3 };
        fv_result r = { .struct_size = sizeof r };
        fv_fit(net, data, .epochs = 40, .batch_size = 13, .loss = losses[i], .loss_options = &options,
               .optimizer = fv_adam(.learning_rate = 0.05f));
        fv_evaluate(net, data, .loss = losses[i], .loss_options = &options, .result = &r);
        no_error(c);
        /* of those that count, all but a few are right; with the others counted it would be at most 3/4 */
        if (!(r.accuracy > 0.9)) fail_msg("loss %d: accuracy %g", losses[i], r.accuracy);
        assert_true(counted * 4 == SAMPLES * PIXELS * 3);
        assert_int_equal(fv_close(c), 0);
    }
}

/* Two outputs of one trunk: a class number with an ignored one, and a number; a loss, a weight and options each. */
static void each_output_its_own(void **state) {
    float x[SAMPLES * 4], value[SAMPLES], distribution[SAMPLES * 2];
    int32_t label[SAMPLES];
    uint32_t seed = 3;
    for (int i = 0; i < SAMPLES * 4; i++) x[i] = noise(&seed);
    for (int i = 0; i < SAMPLES; i++) {
        label[i] = i % 5 ? x[4 * i] > 0 : 2;
        value[i] = x[4 * i + 1] - x[4 * i + 2] + (i % 9 ? 0 : 50);
        distribution[2 * i] = x[4 * i] > 0 ? 0.1f : 0.9f;
        distribution[2 * i + 1] = 1 - distribution[2 * i];
    }
    const fv_array input = { x, FV_F32, 2, { SAMPLES, 4 } };
    const fv_array target[2] = { { label, FV_I32, 1, { SAMPLES } }, { value, FV_F32, 1, { SAMPLES } } };
    const fv_array dense = { distribution, FV_F32, 2, { SAMPLES, 2 } };
    fv_context *c = open_on("cpu", 1);
    fv_dataset *data = data_of(c, &input, target, 2);
    fv_net *net = fv_net_new(c, "two");
    fv_node trunk = fv_dense(net, fv_input(net, 4), .units = 8, .activation = FV_TANH);
    fv_output(net, fv_dense(net, trunk, .units = 3, .activation = FV_SOFTMAX, .name = "class"));
    fv_output(net, fv_dense(net, trunk, .units = 1, .name = "value"));
    const fv_loss losses[2] = { FV_CROSS_ENTROPY, FV_HUBER };
    const float weights[2] = { 1, 0.5f };
    const fv_loss_options options[2] = { { .struct_size = sizeof *options, .ignore = true, .ignore_label = 2 },
                                         { .struct_size = sizeof *options, .delta = 0.1f } };
    fv_result before = { .struct_size = sizeof before }, after = before;
    fv_evaluate(net, data, .losses = losses, .loss_weights = weights, .loss_options = options, .result = &before);
    fv_fit(net, data, .epochs = 100, .batch_size = 16, .losses = losses, .loss_weights = weights, .loss_options = options,
           .optimizer = fv_adam(.learning_rate = 0.02f));
    fv_evaluate(net, data, .losses = losses, .loss_weights = weights, .loss_options = options, .result = &after);
    no_error(c);
    assert_true(after.accuracy > 0.93 && after.loss < before.loss);

    fv_dataset *soft = data_of(c, &input, &dense, 1); /* the accuracy of distributions is that of their maxima */
    fv_net *one = fv_net_new(c, "one");
    fv_output(one, fv_dense(one, fv_input(one, 4), .units = 2, .activation = FV_SOFTMAX));
    const fv_loss kinds[] = { FV_LOSS_AUTO, FV_KL_DIVERGENCE };
    for (int i = 0; i < 2; i++) {
        fv_fit(one, soft, .epochs = 40, .restart = true, .loss = kinds[i], .optimizer = fv_adam(.learning_rate = 0.05f));
        no_error(c);
        assert_true(fv_net_history(one).epoch[39].accuracy > 0.93);
    }
    assert_int_equal(fv_close(c), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(yes_or_no), cmocka_unit_test(images_of_labels),
                                        cmocka_unit_test(each_output_its_own) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
