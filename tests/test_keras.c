/* test_keras.c - Keras's layouts in both directions: nets that come back from files, files of other writers, files
 * that do not fit or are damaged. Files that Keras itself wrote come from FOVEA_DATA. */
#define _GNU_SOURCE
#include "nets.h"
#include <math.h>
#include <signal.h>
#include <sys/resource.h>

/* One layer near one output and far from the other: it counts as deep as its deepest call. */
static fv_net *uneven(const char *name) {
    fv_net *net = fv_net_new(ctx, name);
    fv_node x = fv_input(net, 4), before = fv_dense(net, x, .units = 4, .name = "before");
    fv_node near = fv_dense(net, before, .units = 4, .name = "shared"), far = fv_again(net, near, x);
    far = fv_dense(net, fv_dense(net, far, .units = 4, .name = "t1"), .units = 4, .name = "t2");
    fv_output(net, near);
    fv_output(net, fv_dense(net, far, .units = 4, .name = "t3"));
    assert_works();
    return net;
}

static void nets_come_back_from_files(void **state) {
    (void)state;
    static fv_net *(*const makers[])(const char *) = { chain, branches, nested, uneven };
    for (size_t i = 0; i < 4; i++) {
        fv_net *net = makers[i]("model"), *fresh = makers[i]("fresh");
        fill_weights(net, 1);
        assert_int_equal(fv_save(net, path_of("one.h5")), 0);
        fv_net *loaded = fv_load(ctx, path_of("one.h5"));
        assert_works();
        assert_string_equal(fv_net_name(loaded), "model");
        assert_true(weights_equal(net, loaded));
        assert_int_equal(fv_save(loaded, path_of("two.h5")), 0);
        assert_equal_files(path_of("one.h5"),
                           path_of("two.h5")); /* nothing is lost, and nothing tells of time or place */
        assert_false(weights_equal(net, fresh));
        assert_int_equal(fv_load_weights(fresh, path_of("one.h5")), 0);
        assert_true(weights_equal(net, fresh));
    }
}

/* The names in an attribute of a saved net. */
static void assert_names(fv_net *net, const char *path, const char *attribute, const char *const *expected) {
    fv_h5 h;
    void *image;
    fv_h5_texts names;
    assert_int_equal(fv_save(net, path_of("order.h5")), 0);
    open_image(&h, path_of("order.h5"), &image);
    hid_t group = fv_h5_open_group(&h, h.file, path);
    assert_int_equal(fv_h5_get_texts(&h, group, attribute, &names), 0);
    for (size_t i = 0; i < names.count; i++)
        assert_string_equal(names.text[i], expected[i] ? expected[i] : "(no more)");
    assert_null(expected[names.count]);
    fv_h5_free_texts(&names);
    fv_h5_close(&h);
    fv_free(image);
}

/* As Keras 3.15 lists the layers of these files. In a nested net first come the weights that are trained. */
static void layers_are_in_the_order_of_keras(void **state) {
    (void)state;
    assert_names(branches("model"), "model_weights", "layer_names",
                 (const char *[]){ "input", "deep1_pad", "deep1", "deep2", "near", "depthwise", "sum", "cat", "shared",
                                   "gap", "top", NULL });
    assert_names(uneven("model"), "model_weights", "layer_names",
                 (const char *[]){ "input", "before", "shared", "t1", "t2", "t3", NULL });
    assert_names(nested("model"), "model_weights/inner", "weight_names",
                 (const char *[]){ "bn/gamma", "bn/beta", "last/kernel", "last/bias", "conv/kernel", "conv/bias",
                                   "bn/moving_mean", "bn/moving_variance", NULL });
}

/* While the context holds an error nothing is written, and a file that cannot be written stays. */
static void a_failed_save_keeps_the_file(void **state) {
    (void)state;
    fv_net *net = chain("model");
    size_t size, after;
    assert_int_equal(fv_save(net, path_of("kept.h5")), 0);
    unsigned char *old = read_file(path_of("kept.h5"), &size);
    fill_weights(net, 5);
    fv_fail(ctx, FV_ERROR_NUMERIC, "the loss is not finite");
    assert_int_equal(fv_save(net, path_of("kept.h5")), FV_ERROR_NUMERIC);
    fv_clear_error(ctx);
    struct rlimit limit, small;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    small = limit;
    small.rlim_cur = size / 2;
    setrlimit(RLIMIT_FSIZE, &small);
    assert_int_equal(fv_save(net, path_of("kept.h5")), FV_ERROR_FILE);
    setrlimit(RLIMIT_FSIZE, &limit);
    signal(SIGXFSZ, handler);
    assert_fails(FV_ERROR_FILE, "the file that was there is whole");
    unsigned char *bytes = read_file(path_of("kept.h5"), &after);
    assert_int_equal(size, after);
    assert_memory_equal(old, bytes, size);
    free(old);
    free(bytes);
    fv_save(net, "");
    assert_fails(FV_ERROR_ARGUMENT, "no path");
    assert_int_equal(fv_save(NULL, "x"), FV_ERROR_ARGUMENT);
}

/* ---- Files that do not fit --------------------------------------------------------------------------------------- */

static void weights_that_do_not_fit_are_refused_whole(void **state) {
    (void)state;
    fv_net *saved = chain("saved"), *net = fv_net_new(ctx, "other"), *before = fv_net_new(ctx, "other");
    for (int i = 0; i < 2; i++) {
        fv_net *n = i ? before : net;
        fv_node x =
            fv_conv2d(n, fv_input(n, 8, 8, 2), .filters = 3, .kernel = 3, .padding = 1, .stride = 2, .name = "c1");
        x = fv_batch_norm(n, x, .name = "bn");
        fv_output(n, fv_dense(n, fv_flatten(n, x), .units = 5, .name = "out"));
        fill_weights(n, 100);
    }
    assert_int_equal(fv_save(saved, path_of("saved.h5")), 0);
    fv_load_weights(net, path_of("saved.h5"));
    assert_fails(FV_ERROR_FORMAT, "layer out: its kernel is [48, 4] in the file, but [48, 5] in the net other");
    assert_true(weights_equal(net, before)); /* though the first layers did fit */
    fv_net *shorter = fv_net_new(ctx, "shorter");
    fv_output(shorter, fv_conv2d(shorter, fv_input(shorter, 8, 8, 2), .filters = 3, .kernel = 3, .name = "c1"));
    fv_load_weights(shorter, path_of("saved.h5"));
    assert_fails(FV_ERROR_FORMAT, "holds weights of 3 layers, but the net shorter has 1 layers with weights");
    fv_net *bare = fv_net_new(ctx, "bare");
    fv_node x = fv_conv2d(bare, fv_input(bare, 8, 8, 2), .filters = 3, .kernel = 3, .padding = 1, .stride = 2,
                          .no_bias = true, .name = "c1");
    fv_output(bare, fv_dense(bare, fv_flatten(bare, fv_batch_norm(bare, x, .name = "bn")), .units = 4, .name = "out"));
    fv_load_weights(bare, path_of("saved.h5"));
    assert_fails(FV_ERROR_FORMAT, "layer c1: the file has 2 weights for it (as c1), but the net bare has 1");
}

/* Names that all fit are followed; else the order counts. */
static void layers_match_by_name_or_by_position(void **state) {
    (void)state;
    static const char *const order[3][2] = { { "a", "b" }, { "b", "a" }, { "x", "y" } };
    fv_net *net[3];
    for (int i = 0; i < 3; i++) {
        net[i] = fv_net_new(ctx, "net");
        fv_node x = fv_dense(net[i], fv_input(net[i], 3), .units = 3, .name = order[i][0]);
        fv_output(net[i], fv_dense(net[i], x, .units = 3, .name = order[i][1]));
        fill_weights(net[i], (float)(10 * i));
    }
    assert_int_equal(fv_save(net[0], path_of("names.h5")), 0);
    assert_int_equal(fv_load_weights(net[1], path_of("names.h5")), 0);
    assert_int_equal(fv_load_weights(net[2], path_of("names.h5")), 0);
    float first[9], second[9];
    assert_int_equal(fv_get_weights(net[0], "a", 0, FV_NATIVE, first, sizeof first), 0);
    assert_int_equal(fv_get_weights(net[1], "a", 0, FV_NATIVE, second, sizeof second), 0);
    assert_memory_equal(first, second, sizeof first);
    assert_int_equal(fv_get_weights(net[2], "x", 0, FV_NATIVE, second, sizeof second), 0);
    assert_memory_equal(first, second, sizeof first);
}

static void foreign_files_are_refused(void **state) {
    (void)state;
    fv_net *net = chain("model");
    assert_null(fv_load(ctx, path_of("nowhere.h5")));
    assert_fails(FV_ERROR_FILE, "nowhere.h5: cannot be opened: No such file");
    assert_null(fv_load(ctx, folder));
    assert_fails(FV_ERROR_FILE, "is a folder");
    assert_null(fv_load(ctx, NULL));
    assert_fails(FV_ERROR_ARGUMENT, "no path");
    static const char *const contents[] = { "", "epoch,loss\n", "\x89PNG\r\n\x1a\n0000", "\x89HDF\r\n\x1a\n",
                                            "PK\3\4 and so on" };
    static const char *const words[] = { "neither an HDF5 file", "neither an HDF5 file", "neither an HDF5 file",
                                         "damaged or incomplete HDF5", "damaged zip" };
    for (int i = 0; i < 5; i++) {
        assert_null(fv_load(ctx, write_file("foreign", contents[i], strlen(contents[i]))));
        assert_fails(FV_ERROR_FORMAT, words[i]);
        fv_load_weights(net, path_of("foreign"));
        assert_fails(FV_ERROR_FORMAT, words[i]);
    }
}

/* ---- Files of others, made with libhdf5 -------------------------------------------------------------------------- */

/* Weights alone, in Keras 2's names, the lists fixed-length or in parts, the numbers f32 or f64. */
static void weights_alone_are_read(void **state) {
    (void)state;
    for (int parts = 0; parts < 2; parts++) {
        hid_t type = parts ? H5T_IEEE_F64LE : H5T_IEEE_F32LE,
              file = H5Fcreate(path_of("alone.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        if (parts) {
            put_fixed(file, "layer_names0", (const char *[]){ "dense_7", "dropout" }, 2);
            put_fixed(file, "layer_names1", (const char *[]){ "dense_8" }, 1);
        } else {
            put_fixed(file, "layer_names", (const char *[]){ "dense_7", "dropout", "dense_8" }, 3);
        }
        put_ramp(file, "dense_7/dense_7/kernel:0", type, 2, k1, 1);
        put_ramp(file, "dense_7/dense_7/bias:0", type, 1, b1, 11);
        put_ramp(file, "dense_8/dense_8/kernel:0", type, 2, k2, 21);
        put_ramp(file, "dense_8/dense_8/bias:0", type, 1, b2, 31);
        hid_t group = H5Gopen2(file, "dense_7", H5P_DEFAULT);
        put_fixed(group, "weight_names", (const char *[]){ "dense_7/kernel:0", "dense_7/bias:0" }, 2);
        H5Gclose(group);
        group = H5Gcreate2(file, "dropout", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        put_fixed(group, "weight_names", NULL, 0);
        H5Gclose(group);
        group = H5Gopen2(file, "dense_8", H5P_DEFAULT);
        put_fixed(group, "weight_names", (const char *[]){ "dense_8/kernel:0", "dense_8/bias:0" }, 2);
        H5Gclose(group);
        H5Fclose(file);
        fv_net *net = two_dense();
        assert_int_equal(fv_load_weights(net, path_of("alone.h5")), 0);
        assert_two_dense(net);
        assert_null(fv_load(ctx, path_of("alone.h5")));
        assert_fails(FV_ERROR_FORMAT, "holds no description of a net, only weights");
    }
}

/* Vectors of one length could be taken for each other: their names are compared. */
static void names_of_weights_are_compared(void **state) {
    (void)state;
    static const char *const orders[2][4] = { { "n/gamma:0", "n/beta:0", "n/moving_mean:0", "n/moving_variance:0" },
                                              { "n/gamma:0", "n/moving_mean:0", "n/beta:0", "n/moving_variance:0" } };
    const hsize_t three[] = { 3 };
    fv_net *net = fv_net_new(ctx, "norm");
    fv_output(net, fv_batch_norm(net, fv_input(net, 3), .name = "n"));
    for (int wrong = 0; wrong < 2; wrong++) {
        hid_t file = H5Fcreate(path_of("norm.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        put_fixed(file, "layer_names", (const char *[]){ "n" }, 1);
        hid_t group = H5Gcreate2(file, "n", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        for (int i = 0; i < 4; i++) put_ramp(group, orders[wrong][i], H5T_IEEE_F32LE, 1, three, (float)(10 * i + 1));
        put_fixed(group, "weight_names", orders[wrong], 4);
        H5Gclose(group);
        H5Fclose(file);
        int status = fv_load_weights(net, path_of("norm.h5"));
        if (wrong) {
            assert_fails(FV_ERROR_FORMAT, "layer n: weight 1 is n/moving_mean:0 in the file, but beta in the net norm");
        } else {
            float mean[3];
            assert_int_equal(status, 0);
            assert_int_equal(fv_get_weights(net, "n", 2, FV_KERAS, mean, sizeof mean), 0);
            assert_true(mean[0] == 21);
        }
    }
}

static void the_third_layout_is_read(void **state) {
    (void)state;
    for (int names = 0; names < 2; names++) {
        make_v3(path_of("v3.weights.h5"), names);
        fv_net *net = two_dense();
        assert_int_equal(fv_load_weights(net, path_of("v3.weights.h5")), 0);
        assert_two_dense(net);
        for (int deflate = 0; deflate < 2; deflate++) {
            make_archive(path_of("v3.keras"), two_dense_config, path_of("v3.weights.h5"),
                         deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE);
            net = fv_load(ctx, path_of("v3.keras"));
            assert_works();
            assert_two_dense(net);
        }
        fv_net *wide = fv_net_new(ctx, "wide");
        fv_output(wide, fv_dense(wide, fv_dense(wide, fv_input(wide, 2), .units = 4, .name = "first"), .units = 1,
                                 .name = "second"));
        fv_load_weights(wide, path_of("v3.keras"));
        assert_fails(FV_ERROR_FORMAT, "layer first: its kernel is [2, 3] in the file, but [2, 4] in the net wide");
    }
    fv_net *conv = fv_net_new(ctx, "conv");
    fv_output(conv, fv_conv2d(conv, fv_input(conv, 4, 4, 1), .filters = 1, .kernel = 3, .name = "c"));
    fv_load_weights(conv, path_of("v3.weights.h5"));
    assert_fails(FV_ERROR_FORMAT, "layer c: the file has no kernel for it (as conv2d)");
    if (zip_compression_method_supported(ZIP_CM_BZIP2, 1)) {
        make_archive(path_of("bad.keras"), two_dense_config, path_of("v3.weights.h5"), ZIP_CM_BZIP2);
        assert_null(fv_load(ctx, path_of("bad.keras")));
        assert_fails(FV_ERROR_FORMAT, "model.weights.h5 is packed by a method other than deflate");
    }
    make_archive(path_of("bad.keras"), "{\"class_name\": [", path_of("v3.weights.h5"), ZIP_CM_STORE);
    assert_null(fv_load(ctx, path_of("bad.keras")));
    assert_fails(FV_ERROR_FORMAT, "bad.keras: its description of the net is no JSON");
    make_archive(path_of("bad.keras"),
                 "{\"class_name\": \"Sequential\", \"config\": {\"layers\": [{\"class_name\": \"LSTM\", \"config\": "
                 "{\"name\": \"l\", \"batch_input_shape\": [null, 2]}}]}}",
                 path_of("v3.weights.h5"), ZIP_CM_STORE);
    assert_null(fv_load(ctx, path_of("bad.keras")));
    assert_true(strstr(fv_error(ctx), "bad.keras: ") && strstr(fv_error(ctx), "LSTM"));
    fv_clear_error(ctx);
}

/* ---- Damage ------------------------------------------------------------------------------------------------------ */

/* Every beginning of the file is refused, with the file's name, or loads the same net. */
static void refuse_every_cut(const char *path, fv_net *original, size_t step) {
    size_t size;
    unsigned char *bytes = read_file(path, &size);
    for (size_t cut = 0; cut < size; cut += cut + 200 < size && cut > 200 ? step : 1) {
        fv_net *net = fv_load(ctx, write_file("cut", bytes, cut));
        if (net)
            assert_true(weights_equal(net, original));
        else
            assert_true(fv_error_status(ctx) == FV_ERROR_FORMAT && strstr(fv_error(ctx), "/cut: ") &&
                        !strchr(fv_error(ctx), '\n'));
        fv_clear_error(ctx);
        fv_net_free(net);
    }
    free(bytes);
}

static void cut_files_are_refused(void **state) {
    (void)state;
    fv_net *net = two_dense();
    assert_int_equal(fv_save(net, path_of("whole.h5")), 0);
    refuse_every_cut(path_of("whole.h5"), net, getenv("FOVEA_QUICK") ? 97 : 7);
    make_v3(path_of("v3.weights.h5"), true);
    for (int deflate = 0; deflate < 2; deflate++) {
        make_archive(path_of("whole.keras"), two_dense_config, path_of("v3.weights.h5"),
                     deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE);
        fv_net *loaded = fv_load(ctx, path_of("whole.keras"));
        refuse_every_cut(path_of("whole.keras"), loaded, getenv("FOVEA_QUICK") ? 97 : 7);
    }
}

/* One bit of any number in the file is noticed. */
static void changed_numbers_are_noticed(void **state) {
    (void)state;
    fv_net *net = two_dense();
    fill_weights(net, 3);
    assert_int_equal(fv_save(net, path_of("sum.h5")), 0);
    size_t size;
    unsigned char *bytes = read_file(path_of("sum.h5"), &size);
    static const char *const names[] = { "first/first/kernel", "first/first/bias", "second/second/kernel",
                                         "second/second/bias" };
    for (int i = 0; i < 4; i++) {
        hid_t file = H5Fopen(path_of("sum.h5"), H5F_ACC_RDONLY, H5P_DEFAULT),
              group = H5Gopen2(file, "model_weights", H5P_DEFAULT);
        hid_t dataset = H5Dopen2(group, names[i], H5P_DEFAULT);
        haddr_t at = H5Dget_offset(dataset);
        hsize_t stored = H5Dget_storage_size(dataset);
        H5Dclose(dataset);
        H5Gclose(group);
        H5Fclose(file);
        for (hsize_t k = 0; k < stored; k++) {
            bytes[at + k] ^= 1;
            assert_null(fv_load(ctx, write_file("changed.h5", bytes, size)));
            assert_fails(FV_ERROR_FORMAT, "its checksum does not fit: the file is damaged");
            bytes[at + k] ^= 1;
        }
    }
    char *units = memmem(bytes, size, "\"units\": 3", 10); /* and so is the description */
    assert_non_null(units);
    units[9] = '4';
    assert_null(fv_load(ctx, write_file("changed.h5", bytes, size)));
    assert_fails(FV_ERROR_FORMAT, "the checksum of its description does not fit");
    free(bytes);
}

/* ---- Files that Keras wrote -------------------------------------------------------------------------------------- */

/* Weight k of the net, in Keras's order, element i: (i mod 97) / 97 - 0.5, plus one for vectors with k mod 4 = 3. */
static void assert_golden(fv_net *net) {
    int k = 0;
    for (int l = 0; l < fv_layer_count(net); l++)
        for (int w = 0; w < fv_weight_count(net, fv_layer_name(net, l)); w++, k++) {
            const char *layer = fv_layer_name(net, l);
            int64_t dims[FV_RANK], elements = 1;
            const int rank = fv_weight_shape(net, layer, w, FV_KERAS, dims);
            for (int i = 0; i < rank; i++) elements *= dims[i];
            float *values = malloc((size_t)elements * sizeof *values);
            assert_int_equal(fv_get_weights(net, layer, w, FV_KERAS, values, (size_t)elements * sizeof *values), 0);
            for (int64_t i = 0; i < elements; i++) {
                const double expected = (double)(i % 97) / 97 - 0.5 + (rank == 1 && k % 4 == 3 ? 1 : 0);
                if (fabs(values[i] - expected) >= 1e-6)
                    fail_msg("weight %d of %s, element %lld: %g, not %g", w, layer, (long long)i, values[i], expected);
            }
            free(values);
        }
    assert_true(k > 4);
}

static void files_of_keras_are_read(void **state) {
    (void)state;
    const char *data = getenv("FOVEA_DATA");
    char path[1024];
    snprintf(path, sizeof path, "%s/models/keras_golden/func_keras316.h5", data ? data : "");
    if (!data || access(path, R_OK)) {
        print_message("FOVEA_DATA is not set or lacks models/keras_golden: Keras's own files are not read\n");
        skip();
    }
    static const char *const containers[] = { "h5", "keras", "weights.h5" };
    static const char *const models[] = { "func_keras316", "seq_keras316" };
    fv_net *net[2] = { NULL, NULL };
    for (int i = 0; i < 6; i++) {
        const int m = i % 2, container = i / 2;
        snprintf(path, sizeof path, "%s/models/keras_golden/%s.%s", data, models[m], containers[container]);
        if (container < 2) {
            net[m] = fv_load(ctx, path);
        } else {
            fill_weights(net[m], 9);
            fv_load_weights(net[m], path);
        }
        assert_works();
        assert_golden(net[m]);
    }
    snprintf(path, sizeof path, "%s/models/keras_golden/seq_keras316.weights.h5", data);
    fv_load_weights(net[0], path); /* another net's */
    assert_true(fv_error_status(ctx) != FV_OK && strstr(fv_error(ctx), path));
    fv_clear_error(ctx);
    snprintf(path, sizeof path, "%s/models/keras/fer2013_mini_XCEPTION.102-0.66.hdf5", data);
    assert_non_null(fv_load(ctx, path)); /* separable convolutions, by Keras 2 */
    assert_works();
    snprintf(path, sizeof path, "%s/models/caffe/sample_data.h5", data);
    assert_null(fv_load(ctx, path));
    assert_fails(FV_ERROR_FORMAT, "holds no description of a net");
    fv_load_weights(net[0], path);
    assert_fails(FV_ERROR_FORMAT, "holds no weights in a layout of Keras");
}

int main(void) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* for what the tests themselves ask of libhdf5 */
    const struct CMUnitTest tests[] = { TEST(nets_come_back_from_files),
                                        TEST(layers_are_in_the_order_of_keras),
                                        TEST(a_failed_save_keeps_the_file),
                                        TEST(weights_that_do_not_fit_are_refused_whole),
                                        TEST(layers_match_by_name_or_by_position),
                                        TEST(foreign_files_are_refused),
                                        TEST(weights_alone_are_read),
                                        TEST(names_of_weights_are_compared),
                                        TEST(the_third_layout_is_read),
                                        TEST(cut_files_are_refused),
                                        TEST(changed_numbers_are_noticed),
                                        TEST(files_of_keras_are_read) };
    return run_in_scratch("keras", tests);
}
