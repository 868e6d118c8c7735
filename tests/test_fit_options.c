/* test_fit_options.c - what fv_fit does beside its steps: callbacks, early stopping, frozen and shared layers, nets
 * within nets, augmentation, files, the bar on a terminal; and one step written by hand on the tape. */
#define _GNU_SOURCE
#include "support/fitting.h"
#include <fcntl.h>

/* ---- Callbacks, early stopping, the best weights ----------------------------------------------------------------- */

typedef struct count {
    int train_begin, train_end, epoch_begin, epoch_end, batch_end, answer_at, answer;
    fv_dataset *evaluate;
} count;

static int on_train_begin(void *user, fv_net *net) { return ((count *)user)->train_begin++, 0; }
static int on_train_end(void *user, fv_net *net) { return ((count *)user)->train_end++, 0; }
static int on_epoch_begin(void *user, fv_net *net, const fv_metrics *m) { return ((count *)user)->epoch_begin++, 0; }
static int on_epoch_end(void *user, fv_net *net, const fv_metrics *m) {
    count *n = user;
    assert_int_equal(m->epoch, ++n->epoch_end);
    assert_int_equal(fv_net_history(net).count, n->epoch_end);
    return n->epoch_end == n->answer_at ? n->answer : 0;
}
static int on_batch_end(void *user, fv_net *net, const fv_metrics *m) {
    count *n = user;
    assert_int_equal(m->batch, n->batch_end++ % m->batches + 1);
    assert_true(isfinite(m->loss) && m->accuracy >= 0 && m->accuracy <= 1);
    if (n->evaluate) fv_evaluate(net, n->evaluate, .batch_size = 7); /* disturbs nothing */
    return 0;
}

static void callbacks_are_called_and_obeyed(void **state) {
    float weights[3][10];
    count n[3] = { { 0 }, { .answer_at = 2, .answer = 1 }, { .answer_at = 1, .answer = FV_ERROR_FILE } };
    for (int i = 0; i < 3; i++) {
        fv_callbacks callbacks = { sizeof callbacks, &n[i],        on_train_begin, on_train_end,
                                   on_epoch_begin,   on_epoch_end, on_batch_end };
        fv_context *c = open_on("cpu", 1);
        fv_dataset *data = fv_digits(c, 110, 1);
        if (i == 1) n[i].evaluate = fv_digits(c, 20, 3);
        fv_net *net = full_net(c);
        int status = fv_fit(net, data, .epochs = i ? 5 : 2, .batch_size = 25, .callbacks = &callbacks);
        assert_int_equal(n[i].train_begin, 1);
        if (i == 2) {
            assert_int_equal(status, FV_ERROR_FILE);
            expect_error(c, FV_ERROR_FILE, "full: the callback epoch_end failed with -4");
            assert_int_equal(n[i].epoch_end, 1);
            fv_close(c);
            continue;
        }
        no_error(c);
        assert_int_equal(n[i].train_end, 1);
        assert_int_equal(n[i].epoch_begin, 2);
        assert_int_equal(n[i].epoch_end, 2);
        assert_int_equal(n[i].batch_end, 10);
        fv_get_weights(net, "output", 1, FV_NATIVE, weights[i], sizeof weights[i]);
        assert_int_equal(fv_close(c), 0);
    }
    assert_memory_equal(weights[0], weights[1], sizeof weights[0]);
}

/* A net that gets worse: its loss is what a table says, since the learning rate pushes the one weight along a line. */
static void early_stopping_keeps_the_best(void **state) {
    enum { N = 8 };
    float x[N], y[N];
    for (int i = 0; i < N; i++) x[i] = 1, y[i] = 0;
    fv_context *c = open_on("cpu", 1);
    fv_dataset *data = fv_dataset_from_memory(c, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                                       .inputs = &(fv_array){ x, FV_F32, 2, { N, 1 } },
                                                                       .input_count = 1,
                                                                       .targets = &(fv_array){ y, FV_F32, 2, { N, 1 } },
                                                                       .target_count = 1 });
    for (int restore = 0; restore < 2; restore++) {
        fv_net *net = fv_net_new(c, "spring");
        fv_output(net, fv_dense(net, fv_input(net, 1), .units = 1, .no_bias = true, .kernel_initializer = fv_ones(),
                                .name = "w"));
        /* 2 * 1.6 > 2: each step overshoots and the loss grows from the first epoch on */
        fv_fit(net, data, .validation = data, .epochs = 20, .batch_size = N, .optimizer = fv_sgd(.learning_rate = 1.6f),
               .patience = 3, .restore_best = restore, .output = path_of("spring", NULL));
        no_error(c);
        fv_history h = fv_net_history(net);
        assert_int_equal(h.count, 4); /* the first is the best, and three more were waited for */
        assert_int_equal(h.best, 0);
        float w;
        fv_get_weights(net, "w", 0, FV_NATIVE, &w, sizeof w);
        assert_float_equal(w, pow(-2.2, restore ? 1 : 4), 1e-4);
        assert_float_equal(h.epoch[0].val_loss, 2.2 * 2.2, 1e-4);
        assert_float_equal(h.epoch[0].loss, 1, 1e-6); /* seen before the step */
    }
    for (int part = 0; part < 2; part++) { /* the best epoch may lie before a resume: its file remembers it */
        fv_net *net = fv_net_new(c, "spring");
        fv_output(net, fv_dense(net, fv_input(net, 1), .units = 1, .no_bias = true, .kernel_initializer = fv_ones(),
                                .name = "w"));
        fv_fit(net, data, .validation = data, .epochs = 20, .batch_size = N, .optimizer = fv_sgd(.learning_rate = 1.6f),
               .patience = 3, .restore_best = true, .output = path_of("spring", NULL), .stop_after_steps = part ? 0 : 2,
               .resume = part ? path_of("spring", "last.h5") : NULL);
        no_error(c);
        float w;
        fv_get_weights(net, "w", 0, FV_NATIVE, &w, sizeof w);
        assert_int_equal(fv_net_history(net).count, part ? 4 : 2);
        assert_float_equal(w, pow(-2.2, part ? 1 : 2), 1e-4);
    }
    fv_net *best = fv_load(c, path_of("spring", "best.h5"));
    float w = 0;
    fv_get_weights(best, "w", 0, FV_NATIVE, &w, sizeof w);
    assert_float_equal(w, -2.2, 1e-5);
    assert_int_equal(fv_close(c), 0);
}

/* ---- Files and words --------------------------------------------------------------------------------------------- */

static void the_history_is_keras_csv(void **state) {
    fv_context *c = open_on("cpu", 1);
    fv_dataset *data = fv_digits(c, 60, 1);
    FILE *stream = tmpfile();
    fv_net *net = full_net(c);
    fv_fit(net, data, .epochs = 2, .batch_size = 20, .optimizer = fv_sgd(.learning_rate = 0.5f),
           .schedule = fv_step(.gamma = 0.5f), .output = path_of("csv", NULL), .progress = stream, .save_steps = 2);
    no_error(c);
    size_t bytes = 0;
    char *text = read_file(path_of("csv", "history.csv"), &bytes);
    assert_non_null(text);
    int epoch, length = 0;
    double accuracy, rate, loss;
    assert_int_equal(strncmp(text, "epoch,accuracy,learning_rate,loss,val_accuracy,val_loss\n", 56), 0);
    const char *line = text + 56;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sscanf(line, "%d,%lf,%lf,%lf,NA,NA\n%n", &epoch, &accuracy, &rate, &loss, &length), 4);
        assert_int_equal(epoch, i);
        assert_float_equal(rate, i ? 0.25 : 0.5, 1e-9);
        assert_float_equal(loss, fv_net_history(net).epoch[i].loss, 1e-7);
        assert_float_equal(accuracy, fv_net_history(net).epoch[i].accuracy, 1e-7);
        line += length;
    }
    assert_int_equal(*line, 0);
    free(text);
    text = read_file(path_of("csv", "curves.svg"), &bytes);
    assert_non_null(text);
    assert_non_null(strstr(text, "<svg"));
    assert_string_equal(text + bytes - 7, "</svg>\n");
    free(text);

    char words[2000] = "";
    rewind(stream);
    size_t got = fread(words, 1, sizeof words - 1, stream);
    int lines = 0;
    for (size_t i = 0; i < got; i++) {
        lines += words[i] == '\n';
        assert_true(words[i] != 27 && words[i] != '\r'); /* no escape codes in a file */
    }
    assert_int_equal(lines, 2);
    assert_non_null(strstr(words, "2/2"));
    fclose(stream);
    assert_int_equal(fv_close(c), 0);
}

/* Masks, crops and orders are the same numbers everywhere; what remains is rounding. */
static void the_fast_backend_agrees_with_the_specification(void **state) {
    const char *const device[] = { "reference64", "reference", "cpu" };
    double loss[3];
    for (int i = 0; i < 3; i++) {
        fv_context *c = open_on(device[i], 2);
        fv_dataset *data = fv_digits(c, 200, 1);
        fv_augment(data, .crop = 2);
        fv_net *net = full_net(c);
        fv_fit(net, data, .validation = data, .epochs = 2, .batch_size = 32,
               .optimizer = fv_sgd(.learning_rate = 0.02f, .momentum = 0.9f));
        no_error(c);
        loss[i] = fv_net_history(net).epoch[1].val_loss;
        assert_int_equal(fv_close(c), 0);
    }
    assert_float_equal(loss[1], loss[0], 1e-4 * loss[0]);
    assert_float_equal(loss[2], loss[0], 1e-4 * loss[0]);
}

static void frozen_layers_stay(void **state) {
    fv_context *c = open_on("cpu", 1);
    fv_dataset *data = fv_digits(c, 60, 1);
    fv_net *net = full_net(c);
    float before[2][3 * 25], after[2][3 * 25], mean[2][3], bias[2][10];
    for (int i = 0; i < 2; i++) {
        fv_freeze(net, "c1", true);
        fv_freeze(net, "batch_normalization", i == 0);
        fv_get_weights(net, "c1", 0, FV_NATIVE, before[i], sizeof before[i]);
        fv_get_weights(net, "output", 1, FV_NATIVE, bias[0], sizeof bias[0]);
        fv_fit(net, data, .epochs = 2, .batch_size = 20, .optimizer = fv_adam(.weight_decay = 0.1f));
        no_error(c);
        fv_get_weights(net, "c1", 0, FV_NATIVE, after[i], sizeof after[i]);
        fv_get_weights(net, "batch_normalization", 2, FV_NATIVE, mean[i], sizeof mean[i]);
        fv_get_weights(net, "output", 1, FV_NATIVE, bias[1], sizeof bias[1]);
        no_error(c);
        assert_memory_equal(before[i], after[i], sizeof before[i]);
        assert_memory_not_equal(bias[0], bias[1], sizeof bias[0]);
    }
    for (int k = 0; k < 3; k++) {
        assert_float_equal(mean[0][k], 0, 0); /* frozen statistics too */
        assert_true(mean[1][k] != 0);
    }
    fv_freeze(net, "c1", false);
    fv_fit(net, data, .epochs = 1, .batch_size = 20, .optimizer = fv_adam());
    no_error(c);
    fv_get_weights(net, "c1", 0, FV_NATIVE, after[0], sizeof after[0]);
    assert_memory_not_equal(before[0], after[0], sizeof before[0]);
    assert_int_equal(fv_close(c), 0);
}

/* The same layers on two inputs, one of them pixels: gradients of both add up. */
static void shared_layers_and_several_inputs(void **state) {
    enum { N = 30 };
    static float a[N][6], y[N];
    static unsigned char b[N][6];
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 6; k++) {
            a[i][k] = (float)((i * 7 + k * 3) % 11) / 11;
            b[i][k] = (unsigned char)((i * 5 + k * 13) % 256);
            y[i] += a[i][k] + (float)b[i][k] / 255;
        }
    fv_context *c = open_on("cpu", 1);
    fv_dataset *data = fv_dataset_from_memory(
        c, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                 .inputs = (fv_array[]){ { a, FV_F32, 2, { N, 6 } }, { b, FV_U8, 2, { N, 6 } } },
                                 .input_count = 2,
                                 .targets = &(fv_array){ y, FV_F32, 1, { N } },
                                 .target_count = 1 });
    fv_net *net = fv_net_new(c, "twins");
    fv_node first = fv_input(net, 6), second = fv_input(net, 6);
    fv_node left = fv_dense(net, first, .units = 1, .name = "d"), right = fv_again(net, left, second);
    fv_output(net, fv_add(net, FV_NODES(left, right)));
    fv_fit(net, data, .epochs = 400, .batch_size = N, .optimizer = fv_sgd(.learning_rate = 0.02f, .momentum = 0.9f));
    no_error(c);
    float w[6], out[N];
    fv_get_weights(net, "d", 0, FV_NATIVE, w, sizeof w);
    for (int k = 0; k < 6; k++) assert_float_equal(w[k], 1, 0.1);
    fv_predict(net, data, .output = out);
    for (int i = 0; i < N; i++) assert_float_equal(out[i], y[i], 0.1);
    fv_dataset *one = fv_digits(c, 5, 1);
    fv_fit(net, one);
    expect_error(c, FV_ERROR_SHAPE, "twins: the net has 2 inputs, but the samples have 1");
    assert_int_equal(fv_close(c), 0);
}

/* On a terminal a bar is drawn over itself; the results stay. */
static void a_terminal_gets_a_bar(void **state) {
    for (int plain = 0; plain < 2; plain++) {
        int master = posix_openpt(O_RDWR | O_NOCTTY);
        if (master < 0 || grantpt(master) || unlockpt(master)) {
            print_message("no pseudo-terminals here\n");
            skip();
        }
        int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
        assert_true(slave >= 0);
        FILE *stream = fdopen(slave, "w");
        setenv("TERM", "xterm", 1);
        setenv("COLUMNS", "80", 1);
        if (plain)
            setenv("NO_COLOR", "1", 1);
        else
            unsetenv("NO_COLOR");
        fv_context *c = open_on("cpu", 1);
        fv_fit(full_net(c), fv_digits(c, 60, 1), .epochs = 2, .batch_size = 20, .progress = stream);
        no_error(c);
        assert_int_equal(fv_close(c), 0);
        char words[8000] = "";
        fcntl(master, F_SETFL, O_NONBLOCK);
        for (size_t used = 0; used < sizeof words - 1;) { /* what was written comes in pieces */
            ssize_t got = read(master, words + used, sizeof words - 1 - used);
            if (got <= 0) break;
            used += (size_t)got;
        }
        assert_non_null(strchr(words, '\r'));
        assert_non_null(strstr(words, "ETA"));
        assert_non_null(strstr(words, "Epoch 2/2"));
        assert_true(plain == !strstr(words, "\033[32m"));
        fclose(stream);
        close(master);
    }
    unsetenv("COLUMNS");
    unsetenv("NO_COLOR");
}

/* A pixel at the left is seen unless its image was mirrored; which ones are is known from the random numbers. */
static void training_sees_augmented_images(void **state) {
    enum { N = 50, EPOCHS = 3 };
    static unsigned char x[N][2][3];
    static float y[N];
    for (int i = 0; i < N; i++) x[i][0][0] = 255;
    fv_context *c = open_on("cpu", 1);
    fv_dataset *data =
        fv_dataset_from_memory(c, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                        .inputs = &(fv_array){ x, FV_U8, 4, { N, 2, 3, 1 } },
                                                        .input_count = 1,
                                                        .targets = &(fv_array){ y, FV_F32, 2, { N, 1 } },
                                                        .target_count = 1 });
    fv_augment(data, .flip = true);
    fv_net *net = fv_net_new(c, "eye");
    fv_output(net, fv_dense(net, fv_flatten(net, fv_input(net, 2, 3, 1)), .units = 1, .no_bias = true, .name = "d"));
    fv_set_weights(net, "d", 0, FV_NATIVE, (float[6]){ 1 }, 6 * sizeof(float));
    fv_fit(net, data, .validation = data, .epochs = EPOCHS, .batch_size = 8,
           .optimizer = fv_sgd(.learning_rate = FV_ZERO));
    no_error(c);
    for (uint32_t e = 0; e < EPOCHS; e++) {
        int seen = 0;
        for (uint32_t i = 0; i < N; i++) {
            uint32_t word[4];
            fv_philox((uint32_t[4]){ i, FV_STREAM_FLIP, e, 0 }, (uint32_t[2]){ 5, 0 }, word);
            seen += !(word[0] >> 31);
        }
        assert_true(seen > 10 && seen < 40);
        assert_float_equal(fv_net_history(net).epoch[e].loss, (double)seen / N, 1e-6);
        assert_float_equal(fv_net_history(net).epoch[e].val_loss, 1, 1e-6); /* validation sees them as they are */
    }
    assert_int_equal(fv_close(c), 0);
}

static void a_plateau_lowers_the_rate(void **state) {
    fv_context *c = open_on("cpu", 1);
    fv_dataset *data = fv_digits(c, 30, 1);
    fv_net *net = full_net(c);
    fv_fit(net, data, .epochs = 5, .batch_size = 10, .optimizer = fv_sgd(.learning_rate = 0.1f),
           .schedule = fv_plateau(.patience = 2, .gamma = 0.5f, .min_delta = 100));
    no_error(c);
    static const double factor[] = { 1, 1, 1, 0.5,
                                     0.5 }; /* the first is an improvement on nothing, then two are waited for */
    for (int e = 0; e < 5; e++) assert_float_equal(fv_net_history(net).epoch[e].learning_rate, 0.1 * factor[e], 1e-7);
    assert_int_equal(fv_close(c), 0);
}

/* A net within a net keeps its own weights, which are trained and saved with the whole. */
static void nets_within_nets_are_trained(void **state) {
    fv_context *c = open_on("cpu", 1);
    fv_dataset *data = fv_digits(c, 64, 1);
    fv_net *inner = fv_net_new(c, "inner");
    fv_node x = fv_dense(inner, fv_input(inner, 784), .units = 8, .activation = FV_RELU, .name = "h");
    fv_output(inner, fv_batch_norm(inner, x, .name = "bn"));
    fv_net *net = fv_net_new(c, "outer");
    x = fv_call(net, inner, FV_NODES(fv_flatten(net, fv_input(net, 28, 28, 1))));
    fv_output(net, fv_dense(net, fv_dropout(net, x, .rate = 0.1f), .units = 10, .name = "o"));
    float before[8], after[8], mean[8], variance[8];
    fv_get_weights(inner, "bn", 0, FV_NATIVE, before, sizeof before);
    fv_fit(net, data, .epochs = 3, .batch_size = 16, .optimizer = fv_adam(.learning_rate = 0.01f),
           .restore_best = true);
    no_error(c);
    fv_get_weights(inner, "bn", 0, FV_NATIVE, after, sizeof after);
    fv_get_weights(inner, "bn", 2, FV_NATIVE, mean, sizeof mean);
    fv_get_weights(inner, "bn", 3, FV_NATIVE, variance, sizeof variance);
    int moved = 0, committed = 0;
    for (int i = 0; i < 8; i++) moved += before[i] != after[i], committed += mean[i] != 0 && variance[i] != 1;
    assert_true(moved > 0);
    assert_true(committed > 0);
    assert_true(fv_net_history(net).epoch[2].loss < fv_net_history(net).epoch[0].loss);
    assert_int_equal(fv_close(c), 0);
}

/* One step on the tape by hand is one step of fv_fit. */
static void a_step_by_hand_is_a_step_of_fit(void **state) {
    enum { N = 12 };
    float by_hand[10], by_fit[10];
    for (int i = 0; i < 2; i++) {
        fv_context *c = open_on("cpu", 1);
        fv_dataset *data = fv_digits(c, N, 1);
        fv_net *net = full_net(c);
        fv_optimizer optimizer = fv_sgd(.learning_rate = 0.1f, .momentum = 0.5f);
        if (i == 0) {
            fv_fit(net, data, .epochs = 3, .batch_size = N, .optimizer = optimizer, .no_shuffle = true);
        } else {
            static float pixels[N * 784];
            for (int k = 0; k < N * 784; k++)
                pixels[k] = (float)((const unsigned char *)data->input[0].data)[k] * (1.0f / 255);
            fv_tape *tape = fv_tape_new(c);
            fv_value x = fv_op_input(tape, (int64_t[]){ N, 28, 28, 1 }, 4, FV_F32),
                     y = fv_op_input(tape, (int64_t[]){ N }, 1, FV_I32);
            fv_net *logits = net;
            fv_value p = fv_record(tape, logits, FV_VALUES(x), FV_MODE_TRAIN);
            fv_value z =
                fv_tape_input(tape, fv_tape_value_of(tape, p)->producer, 0); /* what its softmax was taken of */
            fv_value loss = fv_op_add(tape, fv_op_mean(tape, fv_op_softmax_cross_entropy(tape, z, y, 0)),
                                      fv_op_regularization(tape, net));
            fv_backward(tape, loss);
            fv_op_update(tape, net, optimizer);
            fv_keep(tape, loss);
            fv_program *program = fv_compile(tape);
            fv_write(program, x, pixels, sizeof pixels);
            fv_write(program, y, data->target[0].data, N * sizeof(int32_t));
            for (int step = 0; step < 3; step++) fv_run(program);
            float value = 0;
            fv_read(program, loss, &value, sizeof value);
            assert_true(isfinite(value) && value > 0);
        }
        no_error(c);
        fv_get_weights(net, "output", 1, FV_NATIVE, i ? by_hand : by_fit, sizeof by_fit);
        no_error(c);
        assert_int_equal(fv_close(c), 0);
    }
    for (int k = 0; k < 10; k++) assert_float_equal(by_hand[k], by_fit[k], 1e-6);
}

static void updates_by_hand_want_a_gradient(void **state) {
    fv_context *c = open_on("cpu", 1);
    fv_net *net = full_net(c);
    fv_tape *tape = fv_tape_new(c);
    fv_value x = fv_op_input(tape, (int64_t[]){ 2, 28, 28, 1 }, 4, FV_F32);
    fv_record(tape, net, FV_VALUES(x), FV_MODE_TRAIN);
    fv_op_update(tape, net, fv_sgd());
    expect_error(c, FV_ERROR_ARGUMENT, "full: fv_op_update comes after fv_backward");
    assert_int_equal(fv_op_update(NULL, net, fv_sgd()), FV_ERROR_ARGUMENT);
    assert_int_equal(fv_close(c), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callbacks_are_called_and_obeyed),
        cmocka_unit_test(early_stopping_keeps_the_best),
        cmocka_unit_test(the_history_is_keras_csv),
        cmocka_unit_test(the_fast_backend_agrees_with_the_specification),
        cmocka_unit_test(frozen_layers_stay),
        cmocka_unit_test(shared_layers_and_several_inputs),
        cmocka_unit_test(a_terminal_gets_a_bar),
        cmocka_unit_test(training_sees_augmented_images),
        cmocka_unit_test(a_plateau_lowers_the_rate),
        cmocka_unit_test(nets_within_nets_are_trained),
        cmocka_unit_test(a_step_by_hand_is_a_step_of_fit),
        cmocka_unit_test(updates_by_hand_want_a_gradient),
    };
    return cmocka_run_group_tests_name("fit options", tests, make_folder, remove_folder);
}
