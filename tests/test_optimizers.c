/* test_optimizers.c - every optimiser in fv_fit: it learns, one and two threads give the same bits, an interrupted
 * training goes on bit for bit from its file, frozen layers stay as they are; settings in Keras's words. */
#include "support/fitting.h"

#define OPTIMIZERS(X)                                                                                                  \
    X(sgd, fv_sgd(.learning_rate = 0.02f, .momentum = 0.9f))                                                           \
    X(amsgrad, fv_adam(.learning_rate = 0.003f, .amsgrad = true))                                                      \
    X(adamw, fv_adamw(.learning_rate = 0.003f))                                                                        \
    X(rmsprop, fv_rmsprop(.learning_rate = 0.001f, .momentum = 0.5f, .centered = true))                                \
    X(adagrad, fv_adagrad(.learning_rate = 0.03f, .initial = 0.01f))                                                   \
    X(adadelta, fv_adadelta(.weight_decay = 1e-4f))                                                                    \
    X(lion, fv_lion(.learning_rate = 0.001f, .weight_decay = 0.1f))                                                    \
    X(lamb, fv_lamb(.learning_rate = 0.01f))                                                                           \
    X(lars, fv_lars(.learning_rate = 0.5f, .trust = 0.02f))                                                            \
    X(muon, fv_muon(.weight_decay = 0.01f, .adam_learning_rate = 0.003f))
#define MAKER(name, call) static fv_optimizer make_##name(void) { return call; }
OPTIMIZERS(MAKER)
#define ROW(name, call) { #name, make_##name },
static const struct {
    const char *name;
    fv_optimizer (*make)(void);
} optimizers[] = { OPTIMIZERS(ROW) };
enum { OPTIMIZER_COUNT = sizeof optimizers / sizeof *optimizers, WEIGHTS = 10 * 192 };

typedef struct run {
    int threads, stop;
    const char *resume, *output;
    bool frozen;
} run;

/* Trains full_net for three epochs of seven batches; gives the last layer's kernel and the loss of the last epoch. */
static double train(int optimizer, run r, float *kernel, float *first) {
    fv_context *c = open_on("cpu", r.threads);
    fv_net *net = full_net(c);
    fv_dataset *data = fv_digits(c, 200, 1);
    if (r.frozen) fv_freeze(net, "c1", true);
    if (first) fv_get_weights(net, "c1", 0, FV_NATIVE, first, 75 * sizeof(float));
    int status = fv_fit(net, data, .epochs = 3, .batch_size = 30, .optimizer = optimizers[optimizer].make(),
                        .clip_norm = 20, .stop_after_steps = r.stop, .resume = r.resume, .output = r.output);
    if (status == FV_ERROR_STOPPED) fv_clear_error(c);
    no_error(c);
    fv_get_weights(net, "output", 0, FV_NATIVE, kernel, WEIGHTS * sizeof(float));
    if (first) fv_get_weights(net, "c1", 0, FV_NATIVE, first + 75, 75 * sizeof(float));
    fv_history h = fv_net_history(net);
    double loss = h.count ? h.epoch[h.count - 1].loss : NAN, begin = h.count ? h.epoch[0].loss : NAN;
    if (!r.stop && !(loss < begin)) fail_msg("%s: the loss went from %g to %g", optimizers[optimizer].name, begin, loss);
    assert_int_equal(fv_close(c), 0);
    return loss;
}

static void every_optimizer_learns_and_resumes(void **state) {
    static float kernel[4][WEIGHTS], first[150];
    for (int i = 0; i < OPTIMIZER_COUNT; i++) {
        const char *name = optimizers[i].name;
        char path[300];
        snprintf(path, sizeof path, "%s/%s", folder, name);
        train(i, (run){ .threads = 1 }, kernel[0], NULL);
        train(i, (run){ .threads = 2 }, kernel[1], NULL);
        if (memcmp(kernel[0], kernel[1], sizeof *kernel)) fail_msg("%s depends on the number of threads", name);
        train(i, (run){ .threads = 1, .stop = 10, .output = path }, kernel[2], NULL);
        train(i, (run){ .threads = 1, .resume = path_of(name, "last.h5"), .output = path }, kernel[2], NULL);
        if (memcmp(kernel[0], kernel[2], sizeof *kernel)) fail_msg("%s does not resume bit for bit", name);
        train(i, (run){ .threads = 1, .frozen = true }, kernel[3], first);
        if (memcmp(first, first + 75, 75 * sizeof *first)) fail_msg("%s changed a frozen layer", name);
    }
}

/* What Keras can say of an optimiser comes back from a file, and serves an fv_fit that names none. */
static void settings_come_back_from_files(void **state) {
    static float kernel[WEIGHTS];
    for (int i = 0; i < OPTIMIZER_COUNT; i++) {
        const char *name = optimizers[i].name;
        char path[300];
        snprintf(path, sizeof path, "%s/%s_saved", folder, name);
        train(i, (run){ .threads = 1, .stop = 3, .output = path }, kernel, NULL);
        const fv_optimizer made = optimizers[i].make();
        char again[300];
        snprintf(again, sizeof again, "%s/again.h5", folder);
        for (int pass = 0; pass < 2; pass++) { /* of a net that was never trained here, too */
            fv_context *c = open_on("reference", 1);
            snprintf(path, sizeof path, "%s/%s_saved/last.h5", folder, name);
            fv_net *net = fv_load(c, pass ? again : path);
            no_error(c);
            const bool kept = strcmp(name, "lars") && strcmp(name, "muon"); /* Keras cannot say these */
            assert_int_equal(net->optimizer.kind, kept ? made.kind : 0);
            for (int k = 0; kept && k < 15; k++) {
                const bool decay = k == FV_DECAY || k == FV_DECOUPLED; /* only what is decoupled is named there */
                if (decay && !(made.value[FV_DECOUPLED] != 0 && made.value[FV_DECAY] > 0)) continue;
                if (fabsf(net->optimizer.value[k] - made.value[k]) > 1e-7f)
                    fail_msg("%s: value %d is %g, not %g", name, k, net->optimizer.value[k], made.value[k]);
            }
            if (!pass) fv_save(net, again);
            fv_fit(net, fv_digits(c, 30, 1));
            no_error(c);
            assert_int_equal(fv_net_training(net)->optimizer.kind, kept ? made.kind : FV_OPTIMIZER_SGD);
            assert_int_equal(fv_close(c), 0);
        }
    }
}

/* Constraints hold after training, and come back from files with their axes. */
static void constraints_hold_and_are_kept(void **state) {
    fv_context *c = open_on("cpu", 2);
    fv_net *net = fv_net_new(c, "held");
    fv_constraint over_rows = fv_min_max_norm_constraint(0.1f, 0.5f, 1);
    over_rows.axes = 1u << 1;
    fv_node x = fv_input(net, 28, 28, 1);
    x = fv_conv2d(net, x, .filters = 4, .kernel = 5, .stride = 4, .kernel_constraint = over_rows,
                  .bias_constraint = fv_non_neg_constraint(), .name = "c1");
    x = fv_conv2d(net, x, .filters = 8, .kernel = 3, .groups = 4, .kernel_constraint = fv_unit_norm_constraint(), .name = "c2");
    fv_output(net, fv_dense(net, fv_flatten(net, x), .units = 10, .kernel_constraint = fv_max_norm_constraint(0.7f), .name = "d"));
    fv_fit(net, fv_digits(c, 100, 1), .epochs = 2, .optimizer = fv_sgd(.learning_rate = 0.1f));
    no_error(c);
    float kernel[10 * 128], bias[4], filters[8 * 9];
    fv_get_weights(net, "d", 0, FV_NATIVE, kernel, sizeof kernel);
    fv_get_weights(net, "c1", 1, FV_NATIVE, bias, sizeof bias);
    fv_get_weights(net, "c2", 0, FV_NATIVE, filters, sizeof filters);
    no_error(c);
    for (int unit = 0; unit < 10; unit++) {
        double squares = 0;
        for (int i = 0; i < 128; i++) squares += pow((double)kernel[unit * 128 + i], 2);
        assert_true(sqrt(squares) < 0.7001);
    }
    for (int i = 0; i < 4; i++) assert_true(bias[i] >= 0);
    for (int f = 0; f < 8; f++) {
        double squares = 0;
        for (int i = 0; i < 9; i++) squares += pow((double)filters[f * 9 + i], 2);
        assert_true(fabs(squares - 1) < 1e-5);
    }
    const char *path = path_of("held.h5", NULL);
    fv_save(net, path);
    fv_net *again = fv_load(c, path);
    no_error(c);
    const fv_net *nets[2] = { net, again };
    const fv_constraint *held[2][4];
    for (int n = 0; n < 2; n++) {
        int count = 0;
        for (int32_t l = 0; l < nets[n]->layer_count; l++)
            for (int32_t w = 0; w < nets[n]->layer[l].weight_count; w++)
                if (nets[n]->layer[l].weight[w].constraint.kind) held[n][count++] = &nets[n]->layer[l].weight[w].constraint;
        assert_int_equal(count, 4);
    }
    for (int i = 0; i < 4; i++) assert_memory_equal(held[0][i], held[1][i], sizeof(fv_constraint));

    fv_dense(net, fv_input(net, 4), .units = 2, .kernel_constraint = fv_max_norm_constraint(-1));
    expect_error(c, FV_ERROR_ARGUMENT, "norms within 0..-1");
    fv_constraint far = fv_unit_norm_constraint();
    far.axes = 1u << 3;
    fv_dense(net, fv_input(net, 4), .units = 2, .kernel_constraint = far);
    expect_error(c, FV_ERROR_ARGUMENT, "it has only 2 axes");
    fv_dense(net, fv_input(net, 4), .units = 2, .bias_constraint = { .kind = 77 });
    expect_error(c, FV_ERROR_ARGUMENT, "no constraint number 77");
    assert_int_equal(fv_close(c), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_optimizer_learns_and_resumes),
                                        cmocka_unit_test(settings_come_back_from_files),
                                        cmocka_unit_test(constraints_hold_and_are_kept) };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
