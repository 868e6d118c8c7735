/* test_fit.c - how fv_fit runs: it learns, gives the same bits with any number of threads, stops and goes on as if it
 * had never stopped, tells when a step is not finite, listens to callbacks, and writes its files. */
#include "train/train.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[256];

static fv_context *open_on(const char *device, int threads) {
    return fv_open_with(
        &(fv_open_options){ .struct_size = sizeof(fv_open_options), .device = device, .threads = threads, .seed = 5 });
}

static void no_error(fv_context *c) {
    if (fv_error(c)) fail_msg("%s", fv_error(c));
}

static void expect_error(fv_context *c, fv_status status, const char *part) {
    if (!fv_error(c)) fail_msg("no error, but one that says '%s' should have come", part);
    if (!strstr(fv_error(c), part)) fail_msg("'%s' does not say '%s'", fv_error(c), part);
    if (fv_error_status(c) != status) fail_msg("'%s' is %s", fv_error(c), fv_status_name(fv_error_status(c)));
    fv_clear_error(c);
}

static const char *path_of(const char *run, const char *name) {
    static char path[4][512];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, 512, name ? "%s/%s/%s" : "%s/%s", folder, run, name);
    return p;
}

static char *read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    char *data = calloc(*bytes + 1, 1);
    assert_int_equal(fread(data, 1, *bytes, file), *bytes);
    fclose(file);
    return data;
}

static void same_files(const char *a, const char *b) {
    size_t na = 0, nb = 0;
    char *x = read_file(a, &na), *y = read_file(b, &nb);
    if (!x || !y || na != nb || memcmp(x, y, na)) fail_msg("%s (%zu bytes) and %s (%zu bytes) differ", a, na, b, nb);
    free(x);
    free(y);
}

/* Everything that keeps state of its own: random masks, running statistics, momenta. */
static fv_net *full_net(fv_context *c) {
    fv_net *net = fv_net_new(c, "full");
    fv_node x =
        fv_conv2d(net, fv_input(net, 28, 28, 1), .filters = 3, .kernel = 5, .stride = 3, .l2 = 1e-3f, .name = "c1");
    x = fv_batch_norm(net, x, .activation = FV_RELU, .momentum = 0.8f);
    x = fv_dropout(net, fv_flatten(net, x), .rate = 0.3f);
    fv_output(net, fv_dense(net, x, .units = 10, .activation = FV_SOFTMAX, .name = "output"));
    return net;
}

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
    expect_error(c, FV_ERROR_NUMERIC, "line: loss is not finite at epoch 1, batch 3: ");
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
    size_t bytes;
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
    fv_net *net = digits_net(c);
    fv_tape *tape = fv_tape_new(c);
    fv_value x = fv_op_input(tape, (int64_t[]){ 2, 28, 28, 1 }, 4, FV_F32);
    fv_record(tape, net, FV_VALUES(x), FV_MODE_TRAIN);
    fv_op_update(tape, net, fv_sgd());
    expect_error(c, FV_ERROR_ARGUMENT, "digits: fv_op_update comes after fv_backward");
    assert_int_equal(fv_op_update(NULL, net, fv_sgd()), FV_ERROR_ARGUMENT);
    assert_int_equal(fv_close(c), 0);
}

static int make_folder(void **state) {
    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.200s/fitXXXXXX", temporary ? temporary : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
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
        cmocka_unit_test(callbacks_are_called_and_obeyed),
        cmocka_unit_test(early_stopping_keeps_the_best),
        cmocka_unit_test(the_history_is_keras_csv),
        cmocka_unit_test(nets_within_nets_are_trained),
        cmocka_unit_test(a_step_by_hand_is_a_step_of_fit),
        cmocka_unit_test(updates_by_hand_want_a_gradient),
    };
    return cmocka_run_group_tests_name("fit", tests, make_folder, remove_folder);
}
