/* test_fit.c - how fv_fit runs: it learns, gives the same bits with any number of threads, stops and goes on as if
 * it had never stopped, and tells when a step is not finite. Its options are in test_fit_options.c. */
#define _GNU_SOURCE
#include "support/fitting.h"

/* ---- Learning ---------------------------------------------------------------------------------------------------- */

static fv_net *digits_net(fv_context *c) {
    fv_net *net = fv_net_new(c, "digits");
    fv_node x = fv_conv2d(net, fv_input(net, 28, 28, 1), .filters = 6, .kernel = 5, .stride = 2, .activation = FV_RELU);
    x = fv_dense(net, fv_flatten(net, fv_max_pool2d(net, x)), .units = 32, .activation = FV_RELU);
    fv_output(net, fv_dense(net, x, .units = 10));
    return net;
}

static void it_learns_the_digits(void **state) {
    fv_context *c = open_on("cpu", 2);
    fv_dataset *train = fv_digits(c, 2000, 1), *test = fv_digits(c, 500, 2);
    fv_net *net = digits_net(c);
    fv_fit(net, train, .validation = test, .epochs = 6, .batch_size = 32, .optimizer = fv_adam(.learning_rate = 3e-3f),
           .schedule = fv_cosine());
    fv_result result = { .struct_size = sizeof result };
    fv_evaluate(net, test, .result = &result);
    no_error(c);
    fv_history h = fv_net_history(net);
    assert_int_equal(h.count, 6);
    assert_true(h.epoch[5].loss < h.epoch[0].loss / 3);
    if (result.accuracy < 0.85) fail_msg("accuracy %g", result.accuracy);
    assert_float_equal(result.accuracy, h.epoch[5].val_accuracy, 1e-9); /* validation is evaluation */
    assert_float_equal(result.loss, h.epoch[5].val_loss, 1e-5);
    assert_true(result.correct_top_k > result.correct);
    assert_int_equal(fv_close(c), 0);
}

/* ---- The same bits ----------------------------------------------------------------------------------------------- */

typedef struct way {
    const char *device;
    int threads;
    bool streamed;
    const char *run;
} way;

static int fetch(void *user, const int64_t *indices, int count, void *const *inputs, void *const *targets) {
    const fv_dataset *d = user;
    for (int i = 0; i < count; i++) {
        memcpy((char *)inputs[0] + i * 784, (const char *)d->input[0].data + indices[i] * 784, 784);
        memcpy((int32_t *)targets[0] + i, (const int32_t *)d->target[0].data + indices[i], sizeof(int32_t));
    }
    return 0;
}

static void train_some_way(const way *w) {
    fv_context *c = open_on(w->device, w->threads);
    fv_dataset *digits = fv_digits(c, 150, 1), *data = digits;
    if (w->streamed)
        data =
            fv_dataset_from_callback(c, &(fv_callback_options){ .struct_size = sizeof(fv_callback_options),
                                                                .samples = 150,
                                                                .fetch = fetch,
                                                                .user = digits,
                                                                .inputs = &(fv_array){ NULL, FV_U8, 3, { 28, 28, 1 } },
                                                                .input_count = 1,
                                                                .targets = &(fv_array){ NULL, FV_I32, 0, { 0 } },
                                                                .target_count = 1,
                                                                .classes = 10 });
    fv_augment(data, .flip = true, .crop = 2);
    fv_fit(full_net(c), data, .epochs = 2, .batch_size = 32, .optimizer = fv_adam(), .output = path_of(w->run, NULL));
    no_error(c);
    assert_int_equal(fv_close(c), 0);
}

static void threads_and_streams_change_no_bit(void **state) {
    const way ways[] = { { "cpu", 1, false, "one" }, { "cpu", 2, false, "two" }, { "cpu", 3, true, "streamed" } };
    for (int i = 0; i < 3; i++) train_some_way(&ways[i]);
    same_files(path_of("one", "last.h5"), path_of("two", "last.h5"));
    same_files(path_of("one", "history.csv"), path_of("two", "history.csv"));
    same_files(path_of("one", "curves.svg"), path_of("two", "curves.svg"));
    same_files(path_of("one", "last.h5"), path_of("streamed", "last.h5"));
}

/* ---- Stopping and going on --------------------------------------------------------------------------------------- */

typedef struct plan {
    fv_optimizer optimizer;
    fv_schedule schedule;
    int stop_after;
    const char *resume;
    const char *run;
    int epochs;
} plan;

static int train_by_plan(const plan *p) {
    fv_context *c = open_on("cpu", 1);
    fv_dataset *train = fv_digits(c, 110, 1), *test = fv_digits(c, 30, 2);
    fv_augment(train, .crop = 1);
    int status = fv_fit(full_net(c), train, .validation = test, .epochs = p->epochs, .batch_size = 25,
                        .optimizer = p->optimizer, .schedule = p->schedule, .stop_after_steps = p->stop_after,
                        .resume = p->resume, .output = path_of(p->run, NULL));
    no_error(c);
    assert_int_equal(fv_close(c), 0);
    return status;
}

static void a_resumed_run_equals_a_straight_one(void **state) {
    const plan plans[] = {
        { .optimizer = fv_sgd(.learning_rate = 0.05f, .momentum = 0.9f), .schedule = fv_cosine(), .epochs = 3 },
        { .optimizer = fv_adamw(), .schedule = fv_plateau(.patience = 1, .gamma = 0.5f, .min_delta = 1), .epochs = 4 },
    };
    for (int i = 0; i < 2; i++) {
        plan straight = plans[i];
        straight.run = i ? "straight1" : "straight0";
        assert_int_equal(train_by_plan(&straight), FV_OK);
        for (int stop = 1; stop <= 15;
             stop += i ? 6 : 3) { /* an epoch has five batches: in the middle of one, and between two */
            plan part = plans[i];
            part.run = "parts";
            part.stop_after = stop;
            assert_int_equal(train_by_plan(&part), FV_OK);
            part.resume = path_of("parts", "last.h5");
            part.stop_after = 4;
            assert_int_equal(train_by_plan(&part), FV_OK);
            part.resume = path_of("parts", "last.h5");
            part.stop_after = 0;
            part.optimizer = (fv_optimizer){ 0 }; /* the file knows */
            part.schedule = (fv_schedule){ 0 };
            assert_int_equal(train_by_plan(&part), FV_OK);
            same_files(path_of(straight.run, "last.h5"), path_of("parts", "last.h5"));
            same_files(path_of(straight.run, "best.h5"), path_of("parts", "best.h5"));
            same_files(path_of(straight.run, "history.csv"), path_of("parts", "history.csv"));
        }
    }
}

static void going_on_within_a_process_is_the_same(void **state) {
    fv_optimizer adam = fv_adam();
    float straight[2][10], parts[2][10];
    for (int i = 0; i < 2; i++) {
        fv_context *c = open_on("cpu", 1);
        fv_dataset *data = fv_digits(c, 110, 1);
        fv_net *net = full_net(c);
        if (i == 0) {
            fv_fit(net, data, .epochs = 3, .batch_size = 25, .optimizer = adam, .schedule = fv_linear());
        } else {
            for (int k = 0; k < 3; k++)
                fv_fit(net, data, .epochs = 3, .batch_size = 25, .optimizer = adam, .schedule = fv_linear(),
                       .stop_after_steps = k < 2 ? 6 : 0);
        }
        no_error(c);
        assert_int_equal(fv_net_history(net).count, 3);
        fv_get_weights(net, "output", 1, FV_NATIVE, i ? parts[0] : straight[0], sizeof parts[0]);
        fv_fit(net, data, .epochs = 2, .batch_size = 30, .optimizer = adam); /* that run was done: another follows */
        no_error(c);
        fv_history h = fv_net_history(net);
        assert_int_equal(h.count, 5);
        assert_int_equal(h.epoch[4].epoch, 5);
        assert_int_equal(h.epoch[4].epochs, 5);
        fv_get_weights(net, "output", 1, FV_NATIVE, i ? parts[1] : straight[1], sizeof parts[1]);
        fv_fit(net, data, .epochs = 1, .batch_size = 30, .restart = true);
        no_error(c);
        assert_int_equal(fv_net_history(net).count, 1);
        fv_fit(net, data, .epochs = 2, .batch_size = 30, .stop_after_steps = 1);
        fv_fit(net, data, .epochs = 2, .batch_size = 10);
        expect_error(c, FV_ERROR_ARGUMENT, "in the middle of an epoch of 110 samples in batches of 30");
        assert_int_equal(fv_close(c), 0);
    }
    assert_memory_equal(straight, parts, sizeof straight);
}

static void a_resume_that_cannot_be_exact_is_refused(void **state) {
    plan p = { .optimizer = fv_sgd(), .run = "refused", .epochs = 1 };
    train_by_plan(&p);
    const char *last = path_of("refused", "last.h5");
    fv_context *c = open_on("cpu", 1);
    fv_dataset *data = fv_digits(c, 110, 1), *other = fv_digits(c, 50, 1);
    fv_net *net = full_net(c);
    fv_fit(net, data, .batch_size = 10, .resume = last);
    expect_error(c, FV_ERROR_ARGUMENT, "made with a batch size of 25, not 10");
    fv_fit(net, other, .batch_size = 25, .resume = last);
    expect_error(c, FV_ERROR_ARGUMENT, "made with 110 samples, not 50");
    fv_fit(net, data, .batch_size = 25, .resume = last, .optimizer = fv_adam());
    expect_error(c, FV_ERROR_ARGUMENT, "made with the optimiser sgd, not adam");
    fv_fit(net, data, .batch_size = 25, .resume = last, .epochs = 1); /* nothing is left to do */
    no_error(c);
    assert_int_equal(fv_net_history(net).count, 1);
    fv_fit(net, data, .batch_size = 25, .resume = last, .epochs = 2); /* epochs counts all of them */
    no_error(c);
    assert_int_equal(fv_net_history(net).count, 2);
    fv_save(full_net(c), path_of("refused", "plain.h5"));
    no_error(c);
    fv_fit(net, data, .batch_size = 25, .resume = path_of("refused", "plain.h5"));
    expect_error(c, FV_ERROR_FORMAT, "plain.h5");
    assert_int_equal(fv_close(c), 0);
}

static volatile sig_atomic_t stop_flag;

static int stop_at_seven(void *user, fv_net *net, const fv_metrics *m) {
    stop_flag = m->epoch == 2 && m->batch == 2;
    return 0;
}

static void a_stop_saves_and_says_where(void **state) {
    fv_callbacks callbacks = { .struct_size = sizeof callbacks, .batch_end = stop_at_seven };
    fv_context *c = open_on("cpu", 1);
    fv_dataset *data = fv_digits(c, 110, 1);
    stop_flag = 0;
    int status = fv_fit(full_net(c), data, .epochs = 3, .batch_size = 25, .stop = &stop_flag, .callbacks = &callbacks,
                        .output = path_of("stop", NULL));
    assert_int_equal(status, FV_ERROR_STOPPED);
    expect_error(c, FV_ERROR_STOPPED, "stopped on request in epoch 2 after batch 2 of 5");
    fv_net *net = full_net(c);
    fv_fit(net, data, .epochs = 3, .batch_size = 25, .resume = path_of("stop", "last.h5"));
    no_error(c);
    assert_int_equal(fv_net_history(net).count, 3);
    fv_net *straight = full_net(c);
    fv_fit(straight, data, .epochs = 3, .batch_size = 25);
    float a[10], b[10];
    fv_get_weights(net, "output", 1, FV_NATIVE, a, sizeof a);
    fv_get_weights(straight, "output", 1, FV_NATIVE, b, sizeof b);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(fv_close(c), 0);
}

/* ---- A step that is not finite ----------------------------------------------------------------------------------- */

static void a_step_that_is_not_finite_is_named(void **state) {
    enum { N = 40 };
    static float x[N][4], y[N];
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 4; k++) x[i][k] = (float)(i + k) / N, y[i] = x[i][0];
    x[25][1] = NAN; /* in the third of four batches */
    fv_context *c = open_on("cpu", 1);
    fv_dataset *data = fv_dataset_from_memory(c, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                                       .inputs = &(fv_array){ x, FV_F32, 2, { N, 4 } },
                                                                       .input_count = 1,
                                                                       .targets = &(fv_array){ y, FV_F32, 1, { N } },
                                                                       .target_count = 1 });
    fv_net *net = fv_net_new(c, "line"), *same = fv_net_new(c, "line");
    fv_output(net, fv_dense(net, fv_input(net, 4), .units = 1, .name = "f1"));
    fv_output(same, fv_dense(same, fv_input(same, 4), .units = 1, .name = "f1"));
    float before[4], after[4];
    fv_fit(same, data, .batch_size = 10, .no_shuffle = true, .stop_after_steps = 2);
    fv_get_weights(same, "f1", 0, FV_NATIVE, before, sizeof before);
    fv_fit(net, data, .batch_size = 10, .no_shuffle = true, .epochs = 2, .output = path_of("nan", NULL));
    expect_error(c, FV_ERROR_NUMERIC, "line: loss is not finite at epoch 1, batch 3: gather_batch batch: input 0");
    fv_get_weights(net, "f1", 0, FV_NATIVE, after, sizeof after);
    assert_memory_equal(before, after, sizeof before); /* as before the failing step */
    assert_int_not_equal(access(path_of("nan", "last.h5"), F_OK), 0);
    x[25][1] = 0.5f;
    fv_dataset *repaired =
        fv_dataset_from_memory(c, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                        .inputs = &(fv_array){ x, FV_F32, 2, { N, 4 } },
                                                        .input_count = 1,
                                                        .targets = &(fv_array){ y, FV_F32, 1, { N } },
                                                        .target_count = 1 });
    fv_fit(net, repaired, .batch_size = 10, .no_shuffle = true, .epochs = 2); /* and it may go on */
    no_error(c);
    assert_int_equal(fv_net_history(net).count, 2);
    assert_true(isfinite(fv_net_history(net).epoch[1].loss));
    assert_int_equal(fv_close(c), 0);
}

static void a_rate_too_high_names_a_layer(void **state) {
    fv_context *c = open_on("cpu", 1);
    fv_dataset *data = fv_digits(c, 200, 1);
    fv_net *net = digits_net(c);
    fv_fit(net, data, .batch_size = 20, .epochs = 3, .optimizer = fv_sgd(.learning_rate = 1e30f),
           .output = path_of("high", NULL));
    assert_int_equal(fv_error_status(c), FV_ERROR_NUMERIC);
    const char *sentence = fv_error(c);
    if (!strstr(sentence, "digits: ") || !strstr(sentence, "epoch 1, batch 2: ") ||
        (!strstr(sentence, "conv2d") && !strstr(sentence, "dense")))
        fail_msg("%s", sentence);
    fv_clear_error(c);
    int64_t dims[FV_RANK];
    assert_int_equal(fv_weight_shape(net, "conv2d", 0, FV_NATIVE, dims), 4);
    float w[6 * 5 * 5];
    fv_get_weights(net, "conv2d", 0, FV_NATIVE, w, sizeof w);
    for (int i = 0; i < 150; i++) assert_true(isfinite(w[i]));
    assert_int_equal(fv_close(c), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_learns_the_digits),
        cmocka_unit_test(threads_and_streams_change_no_bit),
        cmocka_unit_test(a_resumed_run_equals_a_straight_one),
        cmocka_unit_test(going_on_within_a_process_is_the_same),
        cmocka_unit_test(a_resume_that_cannot_be_exact_is_refused),
        cmocka_unit_test(a_stop_saves_and_says_where),
        cmocka_unit_test(a_step_that_is_not_finite_is_named),
        cmocka_unit_test(a_rate_too_high_names_a_layer),
    };
    return cmocka_run_group_tests_name("fit", tests, make_folder, remove_folder);
}
