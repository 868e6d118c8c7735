/* test_train.c - settings against their formulas, a training step against the same step written out by hand, and the
 * figures that training, evaluation and prediction report. How fv_fit runs, stops and goes on is in test_fit.c. */
#include "support/fitting.h"

/* ---- Schedules --------------------------------------------------------------------------------------------------- */

static void near(float got, double wanted) {
    if (fabs((double)got - wanted) > 2e-7 * (1 + fabs(wanted))) fail_msg("%.9g instead of %.9g", (double)got, wanted);
}

static void schedules_follow_their_formulas(void **state) {
    const double pi = acos(-1);
    fv_schedule none = { 0 };
    for (double e = 0; e < 10; e += 0.37) {
        near(fv_schedule_factor(none, e, 10), 1);
        near(fv_schedule_factor(fv_constant_schedule(), e, 10), 1);
        near(fv_schedule_factor(fv_step(.step_epochs = 3, .gamma = 0.5f), e, 10), pow(0.5, floor(e / 3)));
        near(fv_schedule_factor(fv_step(), e, 10), pow((double)0.1f, floor(e)));
        near(fv_schedule_factor(fv_multi_step(.milestones = { 2, 5.5f }, .gamma = 0.2f), e, 10),
             pow((double)0.2f, (e >= 2) + (e >= 5.5)));
        near(fv_schedule_factor(fv_exponential(), e, 10), pow((double)0.95f, e));
        near(fv_schedule_factor(fv_cosine(), e, 10), (1 + cos(pi * e / 10)) / 2);
        near(fv_schedule_factor(fv_cosine(.final_factor = 0.25f), e, 10), 0.25 + 0.75 * (1 + cos(pi * e / 10)) / 2);
        near(fv_schedule_factor(fv_linear(.final_factor = 0.5f), e, 10), 1 - 0.5 * e / 10);
        near(fv_schedule_factor(fv_polynomial(.power = 2), e, 10), pow(1 - e / 10, 2));
        near(fv_schedule_factor(fv_polynomial(), e, 10), 1 - e / 10);
        near(fv_schedule_factor(fv_plateau(), e, 10), 1);
        double q = (double)0.3f, p = e / 10, start = (double)0.04f;
        near(fv_schedule_factor(fv_one_cycle(), e, 10),
             p < q ? start + (1 - start) * (1 - cos(pi * p / q)) / 2 : (1 + cos(pi * (p - q) / (1 - q))) / 2);
        /* warm-up goes before, and what follows has the epochs that are left */
        near(fv_schedule_factor(fv_cosine(.warmup_epochs = 2), e, 10), e < 2 ? e / 2 : (1 + cos(pi * (e - 2) / 8)) / 2);
        near(fv_schedule_factor(fv_step(.warmup_epochs = 4, .warmup_factor = 0.5f, .step_epochs = 3), e, 10),
             e < 4 ? 0.5 + 0.5 * e / 4 : pow((double)0.1f, floor((e - 4) / 3)));
        near(fv_schedule_factor(fv_plateau(.warmup_epochs = 5), e, 10), e < 5 ? e / 5 : 1);
    }
    near(fv_schedule_factor(fv_cosine(), 10, 10), 0);
    near(fv_schedule_factor(fv_cosine(), 12, 10), 0); /* beyond its end it stays there */
    near(fv_schedule_factor(fv_one_cycle(.peak_fraction = 1), 10, 10), 1);
    near(fv_schedule_factor(fv_one_cycle(.initial_factor = FV_ZERO), 0, 10), 0);
    near(fv_schedule_factor(fv_cosine(.warmup_epochs = 10), 10, 10), 0);
    near(fv_schedule_factor(fv_exponential(.gamma = FV_ZERO), 1, 10), 0);
}

static void plateau_waits_and_cools_down(void **state) {
    static const struct {
        double value, factor;
    } epoch[] = {
        { 1.00, 1 },
        { 0.90, 1 },
        { 0.89995, 1 } /* not enough of an improvement */,
        { 0.95, 0.5 },
        { 0.95, 0.5 } /* cooling down */,
        { 0.95, 0.5 },
        { 0.95, 0.25 },
        { 0.50, 0.25 },
        { 0.60, 0.25 },
        { 0.40, 0.25 },
        { 0.50, 0.25 },
        { 0.50, 0.125 },
    };
    fv_training t = { 0 };
    fv_training_reset(&t, 1);
    t.schedule = fv_plateau(.gamma = 0.5f, .patience = 2, .cooldown = 2);
    for (size_t i = 0; i < sizeof(epoch) / sizeof(*epoch); i++) {
        fv_plateau_observe(&t, epoch[i].value);
        if (t.plateau_factor != epoch[i].factor)
            fail_msg("epoch %zu: factor %g instead of %g", i, t.plateau_factor, epoch[i].factor);
    }
}

static void bad_schedules_are_refused(void **state) {
    const struct {
        fv_schedule schedule;
        const char *part;
    } bad[] = {
        { { .kind = 77 }, "kind 77" },
        { fv_step(.step_epochs = FV_ZERO), "step_epochs is zero" },
        { fv_multi_step(.milestones = { 5, 3 }), "milestone 3 does not come after 5" },
        { fv_one_cycle(.peak_fraction = 1.5f), "peak_fraction" },
        { fv_cosine(.warmup_epochs = -1), "-1" },
        { fv_exponential(.gamma = NAN), "exponential: nan" },
    };
    fv_context *c = open_on("reference", 1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        fv_schedule_check(c, &bad[i].schedule);
        expect_error(c, FV_ERROR_ARGUMENT, bad[i].part);
    }
    assert_int_equal(fv_close(c), 0);
}

/* ---- Optimisers -------------------------------------------------------------------------------------------------- */

static void optimizers_have_their_defaults(void **state) {
    fv_optimizer sgd = fv_sgd(), adam = fv_adam(), adamw = fv_adamw();
    const float sgd_values[15] = { 0.01f }, adam_values[15] = { 0.001f, 0, 0, 0.9f, 0.999f, 1e-7f },
                adamw_values[15] = { 0.001f, 0.004f, 1, 0.9f, 0.999f, 1e-7f };
    assert_memory_equal(sgd.value, sgd_values, sizeof sgd_values);
    assert_memory_equal(adam.value, adam_values, sizeof adam_values);
    assert_memory_equal(adamw.value, adamw_values, sizeof adamw_values);
    assert_int_equal(sgd.kind, FV_OPTIMIZER_SGD);
    assert_int_equal(adamw.kind, FV_OPTIMIZER_ADAMW);
    sgd = fv_sgd(.learning_rate = FV_ZERO, .momentum = 0.9f, .weight_decay = 0.1f, .nesterov = true, .decoupled = true);
    const float all[15] = { 0, 0.1f, 1, 0.9f, 1 };
    assert_memory_equal(sgd.value, all, sizeof all);
    assert_false(signbit(sgd.value[0]));
    assert_float_equal(fv_adamw(.weight_decay = FV_ZERO).value[FV_DECAY], 0, 0);

    const struct {
        fv_optimizer optimizer;
        const char *part;
    } bad[] = {
        { { .kind = 99 }, "kind 99" },
        { fv_sgd(.learning_rate = -1), "learning_rate -1" },
        { fv_sgd(.momentum = 1), "momentum 1" },
        { fv_adam(.beta2 = 1.5f), "beta2 1.5" },
        { fv_adam(.epsilon = NAN), "epsilon nan" },
        { fv_sgd(.weight_decay = INFINITY), "inf" },
    };
    fv_context *c = open_on("reference", 1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        fv_optimizer_check(c, &bad[i].optimizer);
        expect_error(c, FV_ERROR_ARGUMENT, bad[i].part);
    }
    assert_int_equal(fv_close(c), 0);
}

/* ---- Order of samples -------------------------------------------------------------------------------------------- */

static void an_epoch_takes_every_sample_once(void **state) {
    enum { N = 1000, FIRST = 100, PART = 300 };
    fv_context *c = open_on("reference", 1);
    fv_dataset *whole = fv_digits(c, N, 1), *part = fv_dataset_take(whole, FIRST, PART);
    static int32_t a[N], b[N];
    bool seen[N] = { 0 };
    assert_int_equal(fv_epoch_order(whole, 7, 0, true, a), FV_OK);
    int in_place = 0;
    for (int i = 0; i < N; i++) {
        assert_true(a[i] >= 0 && a[i] < N && !seen[a[i]]);
        seen[a[i]] = true;
        in_place += a[i] == i;
    }
    assert_true(in_place < 10);
    fv_epoch_order(whole, 7, 0, true, b);
    assert_memory_equal(a, b, sizeof a);
    fv_epoch_order(whole, 7, 1, true, b);
    assert_memory_not_equal(a, b, sizeof a);
    fv_epoch_order(whole, 8, 0, true, b);
    assert_memory_not_equal(a, b, sizeof a);
    fv_epoch_order(whole, 7, 3, false, b);
    for (int i = 0; i < N; i++) assert_int_equal(b[i], i);
    fv_epoch_order(part, 7, 0, true, b); /* a view: numbers within the whole */
    for (int i = 0; i < PART; i++) assert_true(b[i] >= FIRST && b[i] < FIRST + PART);
    assert_int_equal(fv_close(c), 0);
}

/* ---- A training by hand ------------------------------------------------------------------------------------------ */

enum { SAMPLES = 7, INPUTS = 3, BATCH = 3, EPOCHS = 4 };

typedef struct line {
    double w[INPUTS], b;
} line; /* y = w x + b */
typedef struct recipe {
    const char *name;
    fv_optimizer optimizer;
    fv_schedule schedule;
    float l1, l2, clip_value, clip_norm;
} recipe;

static void make_samples(float x[SAMPLES][INPUTS], float y[SAMPLES]) {
    fv_random r = fv_random_make(3, 0);
    for (int i = 0; i < SAMPLES; i++) {
        for (int k = 0; k < INPUTS; k++) x[i][k] = (float)fv_random_normal(&r);
        y[i] = (float)(1.5 * (double)x[i][0] - 0.5 * (double)x[i][1] + 0.25 + 0.1 * fv_random_normal(&r));
    }
}

/* Loss of one batch, its penalties included, and the gradient: parameters are w, then b. */
static double batch_gradient(const recipe *r, const line *l, float x[][INPUTS], const float *y, int rows, double *g) {
    double loss = 0;
    memset(g, 0, (INPUTS + 1) * sizeof *g);
    for (int i = 0; i < rows; i++) {
        double error = l->b - (double)y[i];
        for (int k = 0; k < INPUTS; k++) error += l->w[k] * (double)x[i][k];
        loss += error * error / rows;
        for (int k = 0; k < INPUTS; k++) g[k] += 2 * error * (double)x[i][k] / rows;
        g[INPUTS] += 2 * error / rows;
    }
    for (int k = 0; k < INPUTS; k++) {
        loss += (double)r->l1 * fabs(l->w[k]) + (double)r->l2 * l->w[k] * l->w[k];
        g[k] += (double)r->l1 * (l->w[k] > 0 ? 1 : l->w[k] < 0 ? -1 : 0) + 2 * (double)r->l2 * l->w[k];
    }
    return loss;
}

static void step_by_hand(const recipe *r, line *l, double *g, double *slot0, double *slot1, double rate, int step) {
    const float *v = r->optimizer.value;
    double norm = 0, scale = 1;
    for (int k = 0; k <= INPUTS; k++) norm += g[k] * g[k];
    if (r->clip_norm > 0) scale = fmin(1, (double)r->clip_norm / sqrt(norm)); /* of the raw gradients */
    for (int k = 0; k <= INPUTS; k++) {
        double *w = k < INPUTS ? &l->w[k] : &l->b, d = g[k], decay = (double)v[FV_DECAY];
        if (r->clip_value > 0) d = fmax(-(double)r->clip_value, fmin((double)r->clip_value, d));
        d *= scale;
        if (v[FV_DECOUPLED] != 0)
            *w -= rate * decay * *w;
        else
            d += decay * *w;
        if (r->optimizer.kind == FV_OPTIMIZER_SGD) {
            double m = (double)v[FV_MOMENTUM];
            slot0[k] = m * slot0[k] + d;
            *w -= rate * (v[FV_NESTEROV] != 0 ? d + m * slot0[k] : slot0[k]);
        } else {
            double b1 = (double)v[FV_BETA1], b2 = (double)v[FV_BETA2];
            slot0[k] = b1 * slot0[k] + (1 - b1) * d;
            slot1[k] = b2 * slot1[k] + (1 - b2) * d * d;
            double first = slot0[k] / (1 - pow(b1, step + 1)), second = slot1[k] / (1 - pow(b2, step + 1));
            *w -= rate * first / (sqrt(second) + (double)v[FV_EPSILON]);
        }
    }
}

static void train_by_hand(const recipe *r, line *l, double *losses) {
    float x[SAMPLES][INPUTS], y[SAMPLES];
    make_samples(x, y);
    double g[INPUTS + 1], slot0[INPUTS + 1] = { 0 }, slot1[INPUTS + 1] = { 0 };
    int batches = (SAMPLES + BATCH - 1) / BATCH, step = 0;
    for (int e = 0; e < EPOCHS; e++) {
        losses[e] = 0;
        for (int b = 0; b < batches; b++, step++) {
            int rows = b == batches - 1 ? SAMPLES - b * BATCH : BATCH;
            double factor = (double)fv_schedule_factor(r->schedule, e + (double)b / batches, EPOCHS);
            losses[e] += rows * batch_gradient(r, l, x + b * BATCH, y + b * BATCH, rows, g) / SAMPLES;
            step_by_hand(r, l, g, slot0, slot1, (double)r->optimizer.value[FV_RATE] * factor, step);
        }
    }
}

static void fit_equals_the_steps_written_out(void **state) {
    const recipe recipes[] = {
        { .name = "sgd", .optimizer = fv_sgd(.learning_rate = 0.1f) },
        { .name = "momentum, cosine",
          .optimizer = fv_sgd(.learning_rate = 0.05f, .momentum = 0.9f),
          .schedule = fv_cosine() },
        { .name = "nesterov, decay",
          .optimizer = fv_sgd(.learning_rate = 0.05f, .momentum = 0.8f, .nesterov = true, .weight_decay = 0.1f) },
        { .name = "decoupled decay",
          .optimizer = fv_sgd(.learning_rate = 0.05f, .momentum = 0.5f, .decoupled = true, .weight_decay = 0.1f) },
        { .name = "l1, l2", .optimizer = fv_sgd(.learning_rate = 0.05f), .l1 = 0.01f, .l2 = 0.02f },
        { .name = "clipped by value", .optimizer = fv_sgd(.learning_rate = 0.05f), .clip_value = 0.3f },
        { .name = "clipped by norm", .optimizer = fv_sgd(.learning_rate = 0.05f, .momentum = 0.9f), .clip_norm = 0.5f },
        { .name = "both clips", .optimizer = fv_sgd(.learning_rate = 0.05f), .clip_value = 0.4f, .clip_norm = 0.5f },
        { .name = "adam, warm-up",
          .optimizer = fv_adam(.learning_rate = 0.05f),
          .schedule = fv_linear(.warmup_epochs = 1) },
        { .name = "adam, decay", .optimizer = fv_adam(.learning_rate = 0.05f, .weight_decay = 0.1f) },
        { .name = "adamw, clip", .optimizer = fv_adamw(.learning_rate = 0.05f, .weight_decay = 0.1f), .clip_norm = 1 },
    };
    const char *const devices[] = { "reference64", "reference", "cpu" };
    float x[SAMPLES][INPUTS], y[SAMPLES];
    make_samples(x, y);
    for (size_t i = 0; i < sizeof(recipes) / sizeof(*recipes) * 3; i++) {
        const recipe *r = &recipes[i / 3];
        double losses[EPOCHS], within = i % 3 ? 5e-6 : 1e-6;
        line l = { .w = { 0.5, -0.25, 0.125 }, .b = 0.0625 };
        const float start[INPUTS] = { 0.5f, -0.25f, 0.125f }, bias = 0.0625f;
        fv_context *c = open_on(devices[i % 3], 1);
        fv_dataset *data =
            fv_dataset_from_memory(c, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                            .inputs = &(fv_array){ x, FV_F32, 2, { SAMPLES, INPUTS } },
                                                            .input_count = 1,
                                                            .targets = &(fv_array){ y, FV_F32, 1, { SAMPLES } },
                                                            .target_count = 1 });
        fv_net *net = fv_net_new(c, "line");
        fv_output(net, fv_dense(net, fv_input(net, INPUTS), .units = 1, .l1 = r->l1, .l2 = r->l2, .name = "d"));
        fv_set_weights(net, "d", 0, FV_NATIVE, start, sizeof start);
        fv_set_weights(net, "d", 1, FV_NATIVE, &bias, sizeof bias);
        fv_fit(net, data, .epochs = EPOCHS, .batch_size = BATCH, .optimizer = r->optimizer, .schedule = r->schedule,
               .no_shuffle = true, .clip_value = r->clip_value, .clip_norm = r->clip_norm);
        no_error(c);
        train_by_hand(r, &l, losses);
        float w[INPUTS], b;
        fv_get_weights(net, "d", 0, FV_NATIVE, w, sizeof w);
        fv_get_weights(net, "d", 1, FV_NATIVE, &b, sizeof b);
        for (int k = 0; k < INPUTS; k++)
            if (fabs((double)w[k] - l.w[k]) > within)
                fail_msg("%s, %s: w[%d] is %.9g, not %.9g", devices[i % 3], r->name, k, (double)w[k], l.w[k]);
        if (fabs((double)b - l.b) > within)
            fail_msg("%s, %s: b is %.9g, not %.9g", devices[i % 3], r->name, (double)b, l.b);
        for (int e = 0; e < EPOCHS; e++)
            if (fabs(fv_net_history(net).epoch[e].loss - losses[e]) > within * (1 + losses[e]))
                fail_msg("%s, %s: loss of epoch %d is %.9g, not %.9g", devices[i % 3], r->name, e,
                         fv_net_history(net).epoch[e].loss, losses[e]);
        assert_int_equal(fv_close(c), 0);
    }
}

/* ---- Figures of evaluation --------------------------------------------------------------------------------------- */

/* Scores are the inputs themselves: a dense layer whose kernel is the unit matrix. */
static fv_net *identity_net(fv_context *c, int classes, fv_activation activation) {
    fv_net *net = fv_net_new(c, "identity");
    fv_output(net, fv_dense(net, fv_input(net, classes), .units = classes, .activation = activation, .l2 = 0.5f,
                            .name = "d"));
    float *unit = calloc((size_t)(classes * classes), sizeof *unit);
    for (int i = 0; i < classes; i++) unit[i * classes + i] = 1;
    fv_set_weights(net, "d", 0, FV_NATIVE, unit, sizeof *unit * (size_t)(classes * classes));
    free(unit);
    return net;
}

static void evaluation_counts_and_averages(void **state) {
    enum { N = 11, C = 6 };
    float x[N][C];
    int32_t label[N];
    fv_random r = fv_random_make(9, 9);
    double loss = 0, smoothed = 0;
    int64_t correct = 0, top3 = 0;
    for (int i = 0; i < N; i++) {
        double sum = 0;
        int better = 0;
        label[i] = (int32_t)fv_random_below(&r, C);
        for (int k = 0; k < C; k++) x[i][k] = (float)(2 * fv_random_normal(&r));
        for (int k = 0; k < C; k++) sum += exp((double)x[i][k]), better += x[i][k] > x[i][label[i]];
        loss += (log(sum) - (double)x[i][label[i]]) / N;
        for (int k = 0; k < C; k++) smoothed += (0.8 * (k == label[i]) + 0.2 / C) * (log(sum) - (double)x[i][k]) / N;
        correct += better == 0;
        top3 += better < 3;
    }
    smoothed += 0.5 * C;
    loss += 0.5 * C; /* the penalty: l2 times the sum of squares of the unit matrix */
    static const fv_activation activation[] = { FV_LINEAR, FV_SOFTMAX,
                                                FV_LOG_SOFTMAX }; /* the loss looks through the last two */
    for (int i = 0; i < 3; i++) {
        fv_context *c = open_on("reference", 1);
        fv_net *net = identity_net(c, C, activation[i]);
        fv_dataset *data =
            fv_dataset_from_memory(c, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                            .inputs = &(fv_array){ x, FV_F32, 2, { N, C } },
                                                            .input_count = 1,
                                                            .targets = &(fv_array){ label, FV_I32, 1, { N } },
                                                            .target_count = 1,
                                                            .classes = C });
        for (int batch = 1; batch <= 16; batch += 3) {
            fv_result result = { .struct_size = sizeof result };
            assert_int_equal(fv_evaluate(net, data, .batch_size = batch, .top_k = 3, .result = &result), FV_OK);
            assert_int_equal(result.correct, correct);
            assert_int_equal(result.correct_top_k, top3);
            assert_int_equal(result.total, N);
            assert_float_equal(result.loss, loss, 1e-5);
            assert_float_equal(result.accuracy, (double)correct / N, 1e-9);
            assert_float_equal(result.top_k_accuracy, (double)top3 / N, 1e-9);
        }
        struct {
            size_t size;
            int64_t correct, guard;
        } small = { 16, 0, 77 }; /* of an older header */
        fv_evaluate(net, data, .result = (fv_result *)(void *)&small);
        assert_int_equal(small.correct, correct);
        assert_int_equal(small.guard, 77);
        fv_fit(net, data, .validation = data, .batch_size = 4, .label_smoothing = 0.2f,
               .optimizer = fv_sgd(.learning_rate = FV_ZERO));
        no_error(c);
        assert_float_equal(fv_net_history(net).epoch[0].loss, smoothed, 1e-5);
        assert_float_equal(fv_net_history(net).epoch[0].val_loss, smoothed, 1e-5);
        assert_float_equal(fv_net_history(net).epoch[0].accuracy, (double)correct / N, 1e-6);
        fv_evaluate(net, data, .top_k = -1);
        expect_error(c, FV_ERROR_ARGUMENT, "the first -1 classes");
        fv_evaluate(net, NULL);
        expect_error(c, FV_ERROR_ARGUMENT, "no data set");
        assert_int_equal(fv_close(c), 0);
    }
}

/* Each pixel has a label: rows are samples times pixels. */
static void labels_of_pixels_are_rows(void **state) {
    enum { N = 3, H = 2, W = 2, C = 3 };
    float x[N][H][W][C];
    int32_t label[N][H][W];
    fv_random r = fv_random_make(10, 0);
    int right = 0;
    for (int i = 0; i < N * H * W; i++) {
        float *score = &x[0][0][0][0] + i * C;
        int best = 0;
        for (int k = 0; k < C; k++) score[k] = (float)fv_random_normal(&r);
        for (int k = 1; k < C; k++) best = score[k] > score[best] ? k : best;
        (&label[0][0][0])[i] = i % 3 ? best : (best + 1) % C;
        right += i % 3 != 0;
    }
    fv_context *c = open_on("reference", 1);
    fv_net *net = fv_net_new(c, "pixels");
    fv_output(net, fv_activate(net, fv_input(net, H, W, C), .activation = FV_SOFTMAX));
    fv_dataset *data =
        fv_dataset_from_memory(c, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                        .inputs = &(fv_array){ x, FV_F32, 4, { N, H, W, C } },
                                                        .input_count = 1,
                                                        .targets = &(fv_array){ label, FV_I32, 3, { N, H, W } },
                                                        .target_count = 1 });
    fv_result result = { .struct_size = sizeof result };
    fv_evaluate(net, data, .batch_size = 2, .result = &result);
    no_error(c);
    assert_float_equal(result.accuracy, (double)right / (N * H * W), 1e-6);
    assert_int_equal(fv_close(c), 0);
}

/* ---- Losses ------------------------------------------------------------------------------------------------------ */

static fv_value absolute_error(fv_tape *tape, fv_value prediction, fv_value target, void *user) {
    ++*(int *)user;
    fv_value difference = fv_op_sub(tape, prediction, target);
    return fv_op_sum(tape, fv_op_mul(tape, difference, difference), (int[]){ 1 }, 1, false); /* one a sample */
}

static fv_value no_loss(fv_tape *tape, fv_value prediction, fv_value target, void *user) { return (fv_value){ 0 }; }

static void several_outputs_have_losses_and_weights(void **state) {
    enum { N = 5 };
    float x[N][2], y[N][2];
    int32_t label[N];
    fv_random r = fv_random_make(11, 0);
    double squares = 0, entropy = 0;
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 2; k++) x[i][k] = (float)fv_random_normal(&r), y[i][k] = (float)fv_random_normal(&r);
        label[i] = i % 2;
        for (int k = 0; k < 2; k++) squares += pow((double)x[i][k] - (double)y[i][k], 2) / 2 / N;
        entropy += (log(exp((double)x[i][0]) + exp((double)x[i][1])) - (double)x[i][label[i]]) / N;
    }
    fv_context *c = open_on("reference", 1);
    fv_net *net = fv_net_new(c, "two");
    fv_node in = fv_input(net, 2);
    fv_node a = fv_dense(net, in, .units = 2, .kernel_initializer = fv_zeros(), .no_bias = true, .name = "a");
    fv_output(net, fv_add(net, FV_NODES(in, a)));
    fv_output(net, fv_activate(net, in, .activation = FV_SOFTMAX));
    fv_dataset *data = fv_dataset_from_memory(
        c, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                 .inputs = &(fv_array){ x, FV_F32, 2, { N, 2 } },
                                 .input_count = 1,
                                 .targets = (fv_array[]){ { y, FV_F32, 2, { N, 2 } }, { label, FV_I32, 1, { N } } },
                                 .target_count = 2 });
    const float weights[] = { 0.5f, 3 };
    const fv_loss losses[] = { FV_MEAN_SQUARED_ERROR, FV_CROSS_ENTROPY };
    fv_fit(net, data, .batch_size = N, .optimizer = fv_sgd(.learning_rate = FV_ZERO), .loss_weights = weights);
    fv_fit(net, data, .batch_size = 2, .optimizer = fv_sgd(.learning_rate = FV_ZERO), .losses = losses);
    no_error(c);
    fv_history history = fv_net_history(net);
    assert_int_equal(history.count, 2);
    assert_float_equal(history.epoch[0].loss, 0.5 * squares + 3 * entropy, 1e-6);
    assert_float_equal(history.epoch[1].loss, squares + entropy, 1e-6);
    assert_true(isnan(history.epoch[0].accuracy)); /* of output 0, which has no labels */

    float out[2][N][2];
    fv_predict(net, data, .outputs = (float *[]){ out[0][0], out[1][0] }, .output_count = 2,
               .output_bytes = sizeof out[0], .batch_size = 2);
    no_error(c);
    for (int i = 0; i < N; i++) {
        assert_float_equal(out[0][i][0], x[i][0], 1e-6);
        assert_float_equal(out[1][i][0] + out[1][i][1], 1, 1e-6);
    }
    fv_predict(net, data, .output = out[0][0]);
    expect_error(c, FV_ERROR_ARGUMENT, "the net has 2 outputs, but memory is given for 1");
    fv_predict(net, data, .outputs = (float *[]){ out[0][0], out[1][0] }, .output_count = 2, .output_bytes = 10);
    expect_error(c, FV_ERROR_SHAPE, "5 samples needs 40 bytes, but has 10");
    assert_int_equal(fv_close(c), 0);
}

static void a_loss_of_ones_own(void **state) {
    enum { N = 4 };
    float x[N][2] = { { 1, 2 }, { 3, 4 }, { 5, 6 }, { 7, 8 } }, y[N][2] = { { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 } };
    fv_context *c = open_on("reference", 1);
    fv_net *net = identity_net(c, 2, FV_LINEAR);
    fv_dataset *data = fv_dataset_from_memory(c, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                                       .inputs = &(fv_array){ x, FV_F32, 2, { N, 2 } },
                                                                       .input_count = 1,
                                                                       .targets = &(fv_array){ y, FV_F32, 2, { N, 2 } },
                                                                       .target_count = 1 });
    int calls = 0;
    fv_result result = { .struct_size = sizeof result };
    fv_evaluate(net, data, .loss_function = absolute_error, .user = &calls, .result = &result);
    no_error(c);
    assert_int_equal(calls, 1);
    assert_float_equal(result.loss, (5 + 25 + 61 + 113) / 4.0 + 0.5 * 2, 1e-4);
    assert_true(isnan(result.accuracy));
    fv_fit(net, data, .loss_function = absolute_error, .user = &calls, .optimizer = fv_sgd(.learning_rate = 1e-3f),
           .epochs = 3);
    no_error(c);
    assert_true(fv_net_history(net).epoch[2].loss < fv_net_history(net).epoch[0].loss);
    fv_fit(net, data, .loss_function = no_loss);
    expect_error(c, FV_ERROR_ARGUMENT, "identity, output d: the loss function returned no value");
    assert_int_equal(fv_close(c), 0);
}

/* ---- What does not fit ------------------------------------------------------------------------------------------- */

static void what_does_not_fit_is_named(void **state) {
    fv_context *c = open_on("reference", 1);
    fv_dataset *digits = fv_digits(c, 20, 1);
    fv_net *net = fv_net_new(c, "lenet5");
    fv_node x = fv_input(net, 32, 32, 1);
    fv_fit(net, digits);
    expect_error(c, FV_ERROR_ARGUMENT, "lenet5: the net has no output");
    fv_output(net, fv_dense(net, fv_flatten(net, x), .units = 10));
    fv_fit(net, digits);
    expect_error(c, FV_ERROR_SHAPE, "[32, 32, 1], but those of the data set are [28, 28, 1]");
    fv_fit(net, NULL);
    expect_error(c, FV_ERROR_ARGUMENT, "lenet5: no data set");

    fv_net *five = fv_net_new(c, "five");
    fv_output(five, fv_dense(five, fv_flatten(five, fv_input(five, 28, 28)), .units = 5,
                             .name = "scores")); /* [28, 28] is [28, 28, 1] */
    fv_fit(five, digits);
    expect_error(c, FV_ERROR_SHAPE, "the data set has 10 classes, but output scores gives 5");

    fv_net *ten = fv_net_new(c, "ten");
    fv_output(ten, fv_dense(ten, fv_flatten(ten, fv_input(ten, 28, 28, 1)), .units = 10, .name = "scores"));
    const struct {
        fv_fit_options options;
        const char *part;
    } bad[] = {
        { { .epochs = -1 }, "epochs -1" },
        { { .batch_size = -5 }, "batch_size -5" },
        { { .label_smoothing = 1.5f }, "label_smoothing 1.5" },
        { { .clip_norm = -1 }, "clip_norm -1" },
        { { .clip_value = NAN }, "clip_value nan" },
        { { .save_steps = 5 }, "save_steps needs an output folder" },
        { { .loss = FV_MEAN_SQUARED_ERROR }, "ten, output scores: this loss needs f32 targets: " },
        { { .loss = (fv_loss)99 }, "loss 99 is not known" },
        { { .optimizer = { .kind = 99 } }, "optimizer: kind 99" },
        { { .output = "/dev/null/here" }, "/dev/null/here" },
        { { .resume = "/nowhere/last.h5" }, "/nowhere/last.h5" },
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        fv_fit_options o = bad[i].options;
        o.struct_size = sizeof o;
        o.data = digits;
        assert_true(fv_fit_with(ten, &o) < 0);
        if (!fv_error(c) || !strstr(fv_error(c), bad[i].part))
            fail_msg("'%s' does not say '%s'", fv_error(c), bad[i].part);
        fv_clear_error(c);
    }
    assert_int_equal(fv_net_history(ten).count, 0);
    fv_freeze(ten, "scores", true);
    fv_fit(ten, digits);
    expect_error(c, FV_ERROR_ARGUMENT, "ten: nothing to train");
    assert_int_equal(fv_fit_with(NULL, NULL), FV_ERROR_ARGUMENT);
    assert_int_equal(fv_close(c), 0);
}

/* ---- Prediction -------------------------------------------------------------------------------------------------- */

static void prediction_is_the_same_from_everywhere(void **state) {
    enum { N = 10 };
    fv_context *c = open_on("cpu", 1);
    fv_dataset *digits = fv_digits(c, N, 4);
    fv_net *net = fv_net_new(c, "small");
    fv_node x = fv_conv2d(net, fv_input(net, 28, 28, 1), .filters = 3, .kernel = 5, .stride = 3, .activation = FV_RELU);
    fv_output(net, fv_dense(net, fv_flatten(net, x), .units = 4));
    float whole[N][4], parts[N][4], raw[N][4], scaled[N][4];
    static unsigned char pixels[N][28][28];
    static float image[N][28][28];
    fv_predict(net, digits, .output = whole[0], .output_bytes = sizeof whole);
    fv_predict(net, digits, .output = parts[0], .batch_size = 3);
    no_error(c);
    for (int i = 0; i < N; i++) {
        const unsigned char *from = (const unsigned char *)digits->input[0].data + i * 28 * 28;
        memcpy(pixels[i], from, 28 * 28);
        for (int k = 0; k < 28 * 28; k++) (&image[i][0][0])[k] = (float)from[k] / 255;
    }
    fv_array u8 = { pixels, FV_U8, 4, { N, 28, 28, 1 } }, f32 = { image, FV_F32, 3, { N, 28, 28 } };
    fv_predict(net, NULL, .inputs = &u8, .output = raw[0]);
    fv_predict(net, NULL, .inputs = &f32, .input_count = 1, .output = scaled[0], .batch_size = 4, .count = 7);
    no_error(c);
    assert_memory_equal(whole, raw, sizeof whole);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 4; k++) {
            assert_float_equal(whole[i][k], parts[i][k], 1e-5);
            if (i < 7) assert_float_equal(whole[i][k], scaled[i][k], 1e-5);
        }
    fv_predict(net, digits, .output = whole[0], .count = N + 1);
    expect_error(c, FV_ERROR_ARGUMENT, "11 samples are asked for, but there are 10");
    assert_int_equal(fv_close(c), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules_follow_their_formulas),
        cmocka_unit_test(plateau_waits_and_cools_down),
        cmocka_unit_test(bad_schedules_are_refused),
        cmocka_unit_test(optimizers_have_their_defaults),
        cmocka_unit_test(an_epoch_takes_every_sample_once),
        cmocka_unit_test(fit_equals_the_steps_written_out),
        cmocka_unit_test(evaluation_counts_and_averages),
        cmocka_unit_test(labels_of_pixels_are_rows),
        cmocka_unit_test(several_outputs_have_losses_and_weights),
        cmocka_unit_test(a_loss_of_ones_own),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(prediction_is_the_same_from_everywhere),
    };
    return cmocka_run_group_tests_name("train", tests, NULL, NULL);
}
