/* test_checkpoint.c - checkpoints that go on where a training stopped, the optimiser in Keras's terms, and saving and
 * loading with the n-th allocation failing. */
#include "nets.h"
#include "train/train.h"
#include <math.h>

/* ---- Training ---------------------------------------------------------------------------------------------------- */

static void begin_training(fv_net *net, fv_training *expected) {
    fv_training *t = fv_net_training(net);
    assert_non_null(t);
    static const fv_metrics epochs[2] = { { 1, 5, 10, 10, 0.5, 0.25, NAN, NAN, 0.01, 3.5 },
                                          { 2, 5, 10, 10, 0.1 + 0.2, 0.75, 1e-300, 1, 0.005, 2 } };
    t->history = fv_alloc(ctx, 4, sizeof *t->history, "history");
    memcpy(t->history, epochs, sizeof epochs);
    t->count = 2;
    t->capacity = 4;
    t->best = 1;
    t->best_value = 1 / 3.0;
    t->waited = 3;
    t->wait_best = -0.75;
    t->plateau_factor = 0.1;
    t->plateau_best = NAN;
    t->plateau_waited = 2;
    t->plateau_cooldown = 1;
    t->step = (uint64_t)1 << 40 | 17;
    t->epoch = 2;
    t->batch = 7;
    t->first_epoch = 1;
    t->sum_loss = 1e-17;
    t->sum_accuracy = 12345.678;
    t->sum_count = (int64_t)1 << 33;
    for (int i = 0; i < 16; i++) t->metrics[i] = (float)i / 3;
    t->seed = UINT64_MAX - 3;
    t->batch_size = 32;
    t->samples = 60000;
    t->optimizer = fv_adam(.learning_rate = 0.002f);
    t->schedule = fv_cosine(.warmup_epochs = 1);
    fv_free(t->arguments);
    t->arguments = fv_copy_string(ctx, "{\"name\": \"caf\xc3\xa9\"}");
    *expected = *t;
    fv_store *store = fv_net_store(net);
    for (int slot = 0; slot < 2; slot++) {
        float values[4096];
        assert_true(store->parameters <= 4096);
        for (int64_t i = 0; i < store->parameters; i++) values[i] = (float)(i + 1) * (slot ? 1e-3f : -1);
        assert_int_equal(fv_store_region(store, slot ? FV_SLOT1 : FV_SLOT0, 0), 0);
        assert_int_equal(fv_store_write(store, slot ? FV_SLOT1 : FV_SLOT0, 0, store->parameters, values), 0);
    }
}

static bool same_double(double a, double b) { return !memcmp(&a, &b, sizeof a) || (isnan(a) && isnan(b)); }

static void a_training_goes_on(void **state) {
    (void)state;
    fv_net *net = chain("model"), *other = chain("model");
    fv_training expected;
    fill_weights(net, 7);
    begin_training(net, &expected);
    assert_int_equal(fv_save(net, path_of("last.h5")), 0);
    assert_int_equal(fv_keras_resume(other, path_of("last.h5")), 0);
    assert_works();
    assert_true(weights_equal(net, other));
    const fv_training *t = other->training;
    assert_int_equal(t->count, 2);
    for (int i = 0; i < 2; i++) {
        const fv_metrics *a = &t->history[i], *b = &expected.history[i];
        assert_true(a->epoch == b->epoch && a->epochs == b->epochs && a->batch == b->batch && a->batches == b->batches);
        assert_true(same_double(a->loss, b->loss) && same_double(a->accuracy, b->accuracy) &&
                    same_double(a->val_loss, b->val_loss) && same_double(a->val_accuracy, b->val_accuracy) &&
                    same_double(a->learning_rate, b->learning_rate) && isnan(a->seconds));
    }
    assert_true(t->best == 1 && same_double(t->best_value, expected.best_value) && t->waited == 3 &&
                t->wait_best == -0.75);
    assert_true(same_double(t->plateau_factor, 0.1) && isnan(t->plateau_best) && t->plateau_waited == 2 &&
                t->plateau_cooldown == 1);
    assert_true(t->step == expected.step && t->epoch == 2 && t->batch == 7 && t->first_epoch == 1);
    assert_true(t->sum_loss == 1e-17 && t->sum_accuracy == 12345.678 && t->sum_count == expected.sum_count);
    assert_memory_equal(t->metrics, expected.metrics, sizeof t->metrics);
    assert_true(t->seed == expected.seed && t->batch_size == 32 && t->samples == 60000);
    assert_memory_equal(&t->optimizer, &expected.optimizer, sizeof t->optimizer);
    assert_memory_equal(&t->schedule, &expected.schedule, sizeof t->schedule);
    assert_string_equal(t->arguments, expected.arguments);
    float slot[2][4096];
    for (int s = 0; s < 2; s++) {
        for (int n = 0; n < 2; n++)
            assert_int_equal(
                fv_store_read((n ? other : net)->store, s ? FV_SLOT1 : FV_SLOT0, 0, net->store->parameters, slot[n]),
                0);
        assert_memory_equal(slot[0], slot[1], (size_t)net->store->parameters * sizeof(float));
    }
    assert_int_equal(fv_save(other, path_of("again.h5")), 0);
    assert_equal_files(path_of("last.h5"), path_of("again.h5"));
}

static void only_its_own_training_goes_on(void **state) {
    (void)state;
    fv_net *net = chain("model"), *renamed = chain("another"), *empty = chain("model");
    fv_training expected;
    begin_training(net, &expected);
    assert_int_equal(fv_save(net, path_of("last.h5")), 0);
    fv_keras_resume(renamed, path_of("last.h5"));
    assert_fails(FV_ERROR_FORMAT, "was saved by another net than another");
    assert_int_equal(fv_keras_save(net, path_of("plain.h5"), false), 0);
    fv_keras_resume(empty, path_of("plain.h5"));
    assert_fails(FV_ERROR_FORMAT, "holds no state of a training");
    fv_net *loaded = fv_load(ctx, path_of("last.h5")); /* a loaded net begins anew */
    assert_true(loaded && !loaded->training);
    hid_t file = H5Fopen(path_of("last.h5"), H5F_ACC_RDWR, H5P_DEFAULT),
          group = H5Gopen2(file, "fovea/training", H5P_DEFAULT);
    hid_t attribute = H5Aopen(group, "step", H5P_DEFAULT);
    assert_true(H5Awrite(attribute, H5T_NATIVE_UINT64, &(uint64_t){ 18 }) >= 0);
    H5Aclose(attribute);
    H5Gclose(group);
    H5Fclose(file);
    fv_keras_resume(empty, path_of("last.h5"));
    assert_fails(FV_ERROR_FORMAT, "the checksum of its state of training does not fit");
}

/* What Keras's optimiser would hold, in its order and layout. */
static void the_optimizer_is_written_for_keras(void **state) {
    (void)state;
    static const char *const expected[] = { "adam/iteration",
                                            "adam/learning_rate",
                                            "adam/first_kernel_momentum",
                                            "adam/first_kernel_velocity",
                                            "adam/first_bias_momentum",
                                            "adam/first_bias_velocity",
                                            "adam/second_kernel_momentum",
                                            "adam/second_kernel_velocity",
                                            "adam/second_bias_momentum",
                                            "adam/second_bias_velocity" };
    fv_net *net = two_dense();
    fv_training unused;
    begin_training(net, &unused);
    assert_int_equal(fv_save(net, path_of("adam.h5")), 0);
    fv_h5 h;
    void *image;
    fv_h5_texts names;
    fv_shape shape;
    open_image(&h, path_of("adam.h5"), &image);
    hid_t group = fv_h5_open_group(&h, h.file, "optimizer_weights");
    assert_int_equal(fv_h5_get_texts(&h, group, "weight_names", &names), 0);
    assert_int_equal(names.count, 10);
    for (int i = 0; i < 10; i++) assert_string_equal(names.text[i], expected[i]);
    int64_t *step = fv_h5_get_tensor(&h, group, expected[0], H5T_NATIVE_INT64, &shape);
    assert_true(shape.rank == 0 && *step == (int64_t)net->training->step);
    float *rate = fv_h5_get_tensor(&h, group, expected[1], H5T_NATIVE_FLOAT, &shape);
    assert_true(*rate == 0.002f);
    float *kernel = fv_h5_get_tensor(&h, group, expected[2], H5T_NATIVE_FLOAT, &shape);
    assert_true(shape.rank == 2 && shape.dim[0] == 2 && shape.dim[1] == 3 && kernel[0] == -1 && kernel[1] == -3 &&
                kernel[3] == -2);
    char *text = fv_h5_get_text(&h, h.file, "training_config");
    assert_works();
    assert_non_null(strstr(text, "\"class_name\": \"Adam\""));
    assert_non_null(strstr(text, "\"beta_1\": 0.9,"));
    fv_free(step);
    fv_free(rate);
    fv_free(kernel);
    fv_free(text);
    fv_h5_free_texts(&names);
    fv_h5_close(&h);
    fv_free(image);
    net = chain("model"); /* what is not trained has no slots: 6 of 8 weights */
    begin_training(net, &unused);
    assert_int_equal(fv_freeze(net, "c1", true), 0); /* and now 4 */
    assert_int_equal(fv_save(net, path_of("adam.h5")), 0);
    open_image(&h, path_of("adam.h5"), &image);
    group = fv_h5_open_group(&h, h.file, "optimizer_weights");
    assert_int_equal(fv_h5_get_texts(&h, group, "weight_names", &names), 0);
    assert_int_equal(names.count, 2 + 2 * 4);
    assert_string_equal(names.text[2], "adam/bn_gamma_momentum");
    fv_h5_free_texts(&names);
    fv_h5_close(&h);
    fv_free(image);
}

/* ---- Lack of memory ---------------------------------------------------------------------------------------------- */

static fv_status save_and_load(fv_net *net, fv_net *target, const char *path) {
    fv_save(net, path);
    fv_net *loaded = fv_load(ctx, path);
    fv_keras_resume(target, path);
    fv_load_weights(target, path_of("memory.weights.h5"));
    fv_net_free(loaded);
    fv_net *archived = fv_load(ctx, path_of("memory.keras"));
    fv_net_free(archived);
    return fv_error_status(ctx);
}

static void lack_of_memory_is_an_error(void **state) {
    (void)state;
    fv_net *net = two_dense(), *target = two_dense();
    fv_training unused;
    begin_training(net, &unused);
    make_v3(path_of("memory.weights.h5"), ZIP_CM_DEFLATE);
    make_archive(path_of("memory.keras"), two_dense_config, path_of("memory.weights.h5"), ZIP_CM_DEFLATE);
    const char *path = path_of("memory.h5");
    assert_int_equal(save_and_load(net, target, path), FV_OK);
    fv_alloc_fail(0, false);
    assert_int_equal(save_and_load(net, target, path), FV_OK);
    int64_t sites = fv_alloc_fail(0, false);
    assert_true(sites > 50);
    for (int64_t n = 1; n <= sites; n += getenv("FOVEA_QUICK") ? 5 : 1) {
        fv_alloc_fail(n, true);
        assert_int_equal(save_and_load(net, target, path), FV_ERROR_MEMORY);
        fv_alloc_fail(0, false);
        fv_clear_error(ctx);
        fv_net *whole = fv_load(ctx, path); /* the file is whole at any time */
        assert_works();
        fv_net_free(whole);
    }
}

int main(void) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* for what the tests themselves ask of libhdf5 */
    const struct CMUnitTest tests[] = { TEST(a_training_goes_on), TEST(only_its_own_training_goes_on),
                                        TEST(the_optimizer_is_written_for_keras), TEST(lack_of_memory_is_an_error) };
    return run_in_scratch("checkpoint", tests);
}
