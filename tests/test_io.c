/* test_io.c - files of nets: replacing a file whatever happens, HDF5 that is read with suspicion, Keras's layouts in
 * both directions, checkpoints that go on where a training stopped. Files of other writers are made here with libhdf5
 * itself; those that Keras wrote come from FOVEA_DATA. */
#define _GNU_SOURCE
#include "io/keras.h"
#include "train/train.h"
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <dirent.h>
#include <zip.h>

#include <cmocka.h>

static fv_context *ctx;
static char folder[512];

static void assert_fails_(fv_status status, const char *words, int line) {
    if (fv_error_status(ctx) != status || !strstr(fv_error(ctx) ? fv_error(ctx) : "", words))
        fail_msg("line %d: %s '%s', not %s '%s'", line, fv_status_name(fv_error_status(ctx)),
                 fv_error(ctx) ? fv_error(ctx) : "", fv_status_name(status), words);
    assert_null(strchr(fv_error(ctx), '\n'));
    fv_clear_error(ctx);
}
#define assert_fails(status, words) assert_fails_(status, words, __LINE__)
#define assert_works()              assert_string_equal(fv_error(ctx) ? fv_error(ctx) : "", "")

static const char *path_of(const char *name) {
    static char path[8][1024];
    static int next;
    next = (next + 1) % 8;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

static const char *write_file(const char *name, const void *bytes, size_t size) {
    const char *path = path_of(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
    return path;
}

static unsigned char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*size + 1);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static void assert_content(const char *path, const char *text) {
    size_t size;
    unsigned char *bytes = read_file(path, &size);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(bytes, text, size);
    free(bytes);
}

static int files_in(const char *path) {
    int count = 0;
    DIR *entries = opendir(path);
    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries));)
        count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
    closedir(entries);
    return count;
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

static void a_file_is_replaced_whole(void **state) {
    (void)state;
    mkdir(path_of("replace"), 0777);
    const char *path = path_of("replace/file");
    assert_int_equal(fv_file_replace(ctx, path, "first", 5), 0);
    assert_content(path, "first");
    chmod(path, 0640);
    assert_int_equal(fv_file_replace(ctx, path, "the second", 10), 0);
    assert_content(path, "the second");
    struct stat about;
    stat(path, &about);
    assert_int_equal(about.st_mode & 0777, 0640);
    assert_int_equal(symlink("file", path_of("replace/link")), 0);
    assert_int_equal(fv_file_replace(ctx, path_of("replace/link"), "third", 5), 0);
    assert_content(path, "third");
    lstat(path_of("replace/link"), &about);
    assert_true(S_ISLNK(about.st_mode));
    assert_int_equal(files_in(path_of("replace")), 2); /* nothing temporary stays */
    char before[1024];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(path_of("replace")), 0);
    assert_int_equal(fv_file_replace(ctx, "bare", "name", 4), 0);
    assert_content("bare", "name");
    assert_int_equal(chdir(before), 0);
    assert_works();
    fv_file_replace(ctx, path_of("replace"), "x", 1);
    assert_fails(FV_ERROR_FILE, "it is a folder");
    fv_file_replace(ctx, path_of("replace/nowhere/file"), "x", 1);
    assert_fails(FV_ERROR_FILE, "cannot be created: No such file or directory");
    fv_file_replace(ctx, "/dev/null", "x", 1);
    assert_fails(FV_ERROR_FILE, "not a regular file");
}

static void a_full_disk_leaves_the_old_file(void **state) {
    (void)state;
    struct rlimit old, small = { 4096, RLIM_INFINITY };
    char text[10000];
    memset(text, 'x', sizeof text);
    mkdir(path_of("full"), 0777);
    const char *path = path_of("full/file");
    assert_int_equal(fv_file_replace(ctx, path, "old", 3), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    int status = fv_file_replace(ctx, path, text, sizeof text);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(status, FV_ERROR_FILE);
    assert_fails(FV_ERROR_FILE, "full/file: cannot be written: File too large; the file that was there is whole");
    assert_content(path, "old");
    assert_int_equal(files_in(path_of("full")), 1);
    const char *disk = path_of("disk"); /* a real one, where this process may make it */
    mkdir(disk, 0777);
    if (mount("none", disk, "tmpfs", 0, "size=8k") == 0) {
        path = path_of("disk/file");
        assert_int_equal(fv_file_replace(ctx, path, "old", 3), 0);
        fv_file_replace(ctx, path, text, sizeof text);
        assert_fails(FV_ERROR_FILE, "No space left on device; the file that was there is whole");
        assert_content(path, "old");
        assert_int_equal(files_in(disk), 1);
        umount(disk);
    }
}

static void folders_are_made_with_their_parents(void **state) {
    (void)state;
    struct stat about;
    assert_int_equal(fv_folder_make(ctx, path_of("a/b//c/")), 0);
    assert_int_equal(fv_folder_make(ctx, path_of("a/b/c")), 0);
    assert_true(!stat(path_of("a/b/c"), &about) && S_ISDIR(about.st_mode));
    write_file("a/file", "x", 1);
    fv_folder_make(ctx, path_of("a/file"));
    assert_fails(FV_ERROR_FILE, "Not a directory");
    fv_folder_make(ctx, path_of("a/file/b"));
    assert_fails(FV_ERROR_FILE, "Not a directory");
    fv_folder_make(ctx, "");
    assert_fails(FV_ERROR_FILE, "cannot be made");
}

/* ---- Nets to save ------------------------------------------------------------------------------------------------ */

static fv_net *chain(const char *name) {
    fv_net *net = fv_net_new(ctx, name);
    fv_node x = fv_input(net, 8, 8, 2);
    x = fv_conv2d(net, x, .filters = 3, .kernel = 3, .padding = 1, .stride = 2, .name = "c1");
    x = fv_batch_norm(net, x, .activation = FV_RELU, .name = "bn");
    x = fv_dropout(net, x, .rate = 0.3f);
    fv_output(net, fv_dense(net, fv_flatten(net, x), .units = 4, .activation = FV_SOFTMAX, .name = "out"));
    assert_works();
    return net;
}

/* The short branch is made first, but Keras counts the deep one before it. */
static fv_net *branches(const char *name) {
    fv_net *net = fv_net_new(ctx, name);
    fv_node x = fv_input(net, 6, 5, 4);
    fv_node near = fv_conv2d(net, x, .filters = 4, .kernel = 1, .name = "near");
    fv_node a = fv_conv2d(net, x, .filters = 4, .kernel = 3, .padding = 1, .name = "deep1");
    a = fv_conv2d(net, a, .filters = 4, .kernel = 3, .padding = FV_SAME, .groups = 2, .name = "deep2");
    fv_node b = fv_conv2d(net, x, .filters = 8, .kernel = 3, .groups = 4, .padding = FV_SAME, .name = "depthwise");
    fv_node c = fv_concat(net, FV_NODES(b, fv_add(net, FV_NODES(a, near), .name = "sum")), .name = "cat");
    fv_node s = fv_conv2d(net, c, .filters = 12, .kernel = 1, .name = "shared");
    s = fv_again(net, s, s);
    fv_output(net, fv_dense(net, fv_global_avg_pool(net, s, .name = "gap"), .units = 3, .name = "top"));
    assert_works();
    return net;
}

/* Trained and frozen weights in turn, and layers of one name in both nets. */
static fv_net *nested(const char *name) {
    fv_net *inner = fv_net_new(ctx, "inner");
    fv_node x = fv_input(inner, 6, 5, 2), y = x;
    y = fv_conv2d(inner, y, .filters = 2, .kernel = 3, .padding = FV_SAME, .frozen = true, .name = "conv");
    y = fv_batch_norm(inner, y, .name = "bn");
    y = fv_conv2d(inner, y, .filters = 2, .kernel = 3, .padding = FV_SAME, .name = "last");
    fv_output(inner, fv_add(inner, FV_NODES(x, y)));
    fv_net *net = fv_net_new(ctx, name);
    x = fv_call(net, inner, FV_NODES(fv_input(net, 6, 5, 2)));
    x = fv_conv2d(net, x, .filters = 3, .kernel = 3, .name = "conv");
    fv_output(net, fv_dense(net, fv_flatten(net, fv_batch_norm(net, x, .name = "bn")), .units = 3, .name = "out"));
    assert_works();
    return net;
}

/* Every weight of a family has values of its own. */
static void fill_weights(fv_net *net, float first) {
    int32_t count;
    fv_net **family = fv_net_family_list(net, &count);
    for (int32_t n = 0; n < count; n++) {
        assert_int_equal(fv_net_to_host(family[n]), 0);
        for (int32_t l = 0; l < family[n]->layer_count; l++)
            for (int32_t w = 0; w < family[n]->layer[l].weight_count; w++) {
                const fv_weight *weight = &family[n]->layer[l].weight[w];
                float *values =
                    (weight->statistic ? family[n]->host_statistics : family[n]->host_parameters) + weight->offset;
                for (int64_t i = 0; i < fv_shape_elements(&weight->shape); i++) values[i] = first += 0.25f;
            }
        fv_net_host_changed(family[n]);
    }
    fv_free(family);
}

static bool weights_equal(fv_net *a, fv_net *b) {
    int32_t count[2];
    fv_net **family[2] = { fv_net_family_list(a, &count[0]), fv_net_family_list(b, &count[1]) };
    bool equal = count[0] == count[1];
    for (int32_t n = 0; n < count[0] && equal; n++) {
        fv_net *x = family[0][n], *y = family[1][n];
        equal = !fv_net_to_host(x) && !fv_net_to_host(y) && x->parameters == y->parameters &&
                x->statistics == y->statistics &&
                !memcmp(x->host_parameters, y->host_parameters, (size_t)x->parameters * sizeof(float)) &&
                !memcmp(x->host_statistics, y->host_statistics, (size_t)x->statistics * sizeof(float));
    }
    fv_free(family[0]);
    fv_free(family[1]);
    return equal;
}

static void assert_equal_files(const char *a, const char *b) {
    size_t size[2];
    unsigned char *bytes[2] = { read_file(a, &size[0]), read_file(b, &size[1]) };
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    free(bytes[0]);
    free(bytes[1]);
}

static void nets_come_back_from_files(void **state) {
    (void)state;
    static fv_net *(*const makers[])(const char *) = { chain, branches, nested };
    for (size_t i = 0; i < 3; i++) {
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

static void open_image(fv_h5 *h, const char *path, void **image) {
    size_t size;
    *image = fv_file_read(ctx, path, FV_MODEL_LIMIT, &size);
    assert_int_equal(fv_h5_open(h, ctx, path, *image, size, FV_MODEL_LIMIT), 0);
}

static void layers_are_in_the_order_of_keras(void **state) {
    (void)state;
    static const char *const expected[] = { "input", "deep1_pad", "deep1",  "deep2", "near", "depthwise",
                                            "sum",   "cat",       "shared", "gap",   "top" };
    static const char *const inner[] = { "bn/gamma",    "bn/beta",   "last/kernel",    "last/bias",
                                         "conv/kernel", "conv/bias", "bn/moving_mean", "bn/moving_variance" };
    fv_h5 h;
    void *image;
    fv_h5_texts names;
    assert_int_equal(fv_save(branches("model"), path_of("order.h5")), 0);
    open_image(&h, path_of("order.h5"), &image);
    hid_t group = fv_h5_open_group(&h, h.file, "model_weights");
    assert_int_equal(fv_h5_get_texts(&h, group, "layer_names", &names), 0);
    assert_int_equal(names.count, sizeof expected / sizeof *expected);
    for (size_t i = 0; i < names.count; i++) assert_string_equal(names.text[i], expected[i]);
    fv_h5_free_texts(&names);
    fv_h5_close(&h);
    fv_free(image);
    assert_int_equal(fv_save(nested("model"), path_of("order.h5")), 0); /* first what is trained, then the rest */
    open_image(&h, path_of("order.h5"), &image);
    group = fv_h5_open_group(&h, h.file, "model_weights/inner");
    assert_int_equal(fv_h5_get_texts(&h, group, "weight_names", &names), 0);
    assert_int_equal(names.count, 8);
    for (size_t i = 0; i < names.count; i++) assert_string_equal(names.text[i], inner[i]);
    fv_h5_free_texts(&names);
    fv_h5_close(&h);
    fv_free(image);
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

/* Fixed-length strings, padded with zeros, as Keras 2 writes lists. */
static void put_fixed(hid_t object, const char *name, const char *const *text, hsize_t count) {
    char bytes[16][32] = { { 0 } };
    for (hsize_t i = 0; i < count; i++) memcpy(bytes[i], text[i], strlen(text[i]));
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &count, NULL);
    H5Tset_size(type, 32);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, type, bytes);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

static void put_ramp(hid_t group, const char *path, hid_t type, int rank, const hsize_t *dims, float first) {
    hid_t links = H5Pcreate(H5P_LINK_CREATE), space = H5Screate_simple(rank, dims, NULL);
    H5Pset_create_intermediate_group(links, 1);
    float values[64];
    for (int i = 0; i < 64; i++) values[i] = first + (float)i;
    hid_t dataset = H5Dcreate2(group, path, type, space, links, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(links);
}

static fv_net *two_dense(void) {
    fv_net *net = fv_net_new(ctx, "two");
    fv_output(
        net, fv_dense(net, fv_dense(net, fv_input(net, 2), .units = 3, .name = "first"), .units = 1, .name = "second"));
    assert_works();
    return net;
}

static void assert_two_dense(fv_net *net) {
    float kernel[6], bias[3];
    assert_int_equal(fv_get_weights(net, "first", 0, FV_KERAS, kernel, sizeof kernel), 0);
    for (int i = 0; i < 6; i++) assert_true(kernel[i] == (float)(1 + i));
    assert_int_equal(fv_get_weights(net, "first", 0, FV_NATIVE, kernel, sizeof kernel), 0);
    assert_true(kernel[1] == 4); /* [units, inputs] */
    assert_int_equal(fv_get_weights(net, "second", 0, FV_KERAS, kernel, 3 * sizeof *kernel), 0);
    assert_true(kernel[2] == 23);
    assert_int_equal(fv_get_weights(net, "second", 1, FV_KERAS, bias, sizeof *bias), 0);
    assert_true(bias[0] == 31);
}

static const hsize_t k1[] = { 2, 3 }, b1[] = { 3 }, k2[] = { 3, 1 }, b2[] = { 1 };

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

/* names: with the attribute that newer files have, and then the numbers of the groups do not count. */
static void make_v3(const char *path, bool names) {
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const char *one = names ? "layers/dense_1" : "layers/dense", *two = names ? "layers/dense" : "layers/dense_1";
    char vars[64];
    put_ramp(file, (snprintf(vars, 64, "%s/vars/0", one), vars), H5T_IEEE_F32LE, 2, k1, 1);
    put_ramp(file, (snprintf(vars, 64, "%s/vars/1", one), vars), H5T_IEEE_F32LE, 1, b1, 11);
    put_ramp(file, (snprintf(vars, 64, "%s/vars/0", two), vars), H5T_IEEE_F32LE, 2, k2, 21);
    put_ramp(file, (snprintf(vars, 64, "%s/vars/1", two), vars), H5T_IEEE_F32LE, 1, b2, 31);
    for (int i = 0; i < 2 && names; i++) {
        hid_t group = H5Gopen2(file, (snprintf(vars, 64, "%s/vars", i ? two : one), vars), H5P_DEFAULT);
        put_fixed(group, "name", (const char *[]){ i ? "second" : "first" }, 1);
        H5Gclose(group);
    }
    H5Fclose(file);
}

static void make_archive(const char *path, const char *config, const char *weights, bool deflate) {
    int error;
    remove(path);
    zip_t *archive = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &error);
    assert_non_null(archive);
    zip_int64_t one = zip_file_add(archive, "config.json", zip_source_buffer(archive, config, strlen(config), 0), 0);
    zip_int64_t two = zip_file_add(archive, "model.weights.h5", zip_source_file(archive, weights, 0, -1), 0);
    for (int i = 0; i < 2; i++)
        zip_set_file_compression(archive, (zip_uint64_t)(i ? two : one), deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
    assert_int_equal(zip_close(archive), 0);
}

static const char two_dense_config[] = "{\"module\":\"keras\",\"class_name\":\"Sequential\",\"registered_name\":null,"
                                       "\"config\":{\"name\":\"two\",\"layers\":["
                                       "{\"module\":\"keras.layers\",\"class_name\":\"InputLayer\",\"config\":{\"batch_"
                                       "shape\":[null,2],\"dtype\":\"float32\",\"name\":\"in\"}},"
                                       "{\"module\":\"keras.layers\",\"class_name\":\"Dense\",\"config\":{\"name\":"
                                       "\"first\",\"units\":3,\"activation\":\"linear\"}},"
                                       "{\"module\":\"keras.layers\",\"class_name\":\"Dense\",\"config\":{\"name\":"
                                       "\"second\",\"units\":1,\"activation\":\"linear\"}}]}}";

static void the_third_layout_is_read(void **state) {
    (void)state;
    for (int names = 0; names < 2; names++) {
        make_v3(path_of("v3.weights.h5"), names);
        fv_net *net = two_dense();
        assert_int_equal(fv_load_weights(net, path_of("v3.weights.h5")), 0);
        assert_two_dense(net);
        for (int deflate = 0; deflate < 2; deflate++) {
            make_archive(path_of("v3.keras"), two_dense_config, path_of("v3.weights.h5"), deflate);
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
    make_archive(path_of("bad.keras"), "{\"class_name\": [", path_of("v3.weights.h5"), false);
    assert_null(fv_load(ctx, path_of("bad.keras")));
    assert_fails(FV_ERROR_FORMAT, "bad.keras: its description of the net is no JSON");
    make_archive(path_of("bad.keras"),
                 "{\"class_name\": \"Sequential\", \"config\": {\"layers\": [{\"class_name\": \"LSTM\", \"config\": "
                 "{\"name\": \"l\", \"batch_input_shape\": [null, 2]}}]}}",
                 path_of("v3.weights.h5"), false);
    assert_null(fv_load(ctx, path_of("bad.keras")));
    assert_true(strstr(fv_error(ctx), "bad.keras: ") && strstr(fv_error(ctx), "LSTM"));
    fv_clear_error(ctx);
}

/* ---- HDF5 that leads elsewhere or lies --------------------------------------------------------------------------- */

static hid_t wide_space(int rank, hsize_t size) {
    hsize_t dims[8] = { size, 1, 1, 1, 1, 1, 1, 1 };
    return H5Screate_simple(rank, dims, NULL);
}

static void add_dataset(hid_t file, const char *name, hid_t type, hid_t space, hid_t creation) {
    hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    assert_true(dataset >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    if (creation != H5P_DEFAULT) H5Pclose(creation);
}

static void suspicious_content_is_refused(void **state) {
    (void)state;
    hid_t file = H5Fcreate(path_of("trap.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), creation;
    const hsize_t four[] = { 4 }, chunk[] = { 2 }, many[] = { 1000 };
    put_ramp(file, "good", H5T_IEEE_F32LE, 1, four, 1);
    H5Lcreate_soft("/good", file, "soft", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external("/etc/hostname", "/", file, "external", H5P_DEFAULT, H5P_DEFAULT);
    creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(creation, "/etc/passwd", 0, 16);
    add_dataset(file, "outside", H5T_IEEE_F32LE, wide_space(1, 4), creation);
    creation = H5Pcreate(H5P_DATASET_CREATE);
    hid_t source = wide_space(1, 4);
    H5Pset_virtual(creation, source, "other.h5", "good", source);
    H5Sclose(source);
    add_dataset(file, "virtual", H5T_IEEE_F32LE, wide_space(1, 4), creation);
    add_dataset(file, "bomb", H5T_IEEE_F32LE, wide_space(1, (hsize_t)1 << 40), H5P_DEFAULT);
    creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 1, many);
    add_dataset(file, "huge", H5T_IEEE_F32LE, wide_space(1, (hsize_t)1 << 62), creation);
    add_dataset(file, "seven", H5T_IEEE_F32LE, wide_space(7, 4), H5P_DEFAULT);
    hid_t text = H5Tcopy(H5T_C_S1), pair = H5Tcreate(H5T_COMPOUND, 8), list = H5Tvlen_create(H5T_IEEE_F32LE);
    H5Tset_size(text, H5T_VARIABLE);
    H5Tinsert(pair, "a", 0, H5T_IEEE_F32LE);
    add_dataset(file, "text", text, wide_space(1, 4), H5P_DEFAULT);
    add_dataset(file, "compound", pair, wide_space(1, 4), H5P_DEFAULT);
    add_dataset(file, "lists", list, wide_space(1, 4), H5P_DEFAULT);
    add_dataset(file, "references", H5T_STD_REF_OBJ, wide_space(1, 4), H5P_DEFAULT);
    creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 1, chunk);
    H5Pset_scaleoffset(creation, H5Z_SO_FLOAT_DSCALE, 2);
    add_dataset(file, "scaled", H5T_IEEE_F32LE, wide_space(1, 4), creation);
    creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 1, chunk);
    H5Pset_shuffle(creation);
    H5Pset_deflate(creation, 6);
    H5Pset_fletcher32(creation);
    hid_t space = H5Screate_simple(1, four, NULL),
          packed = H5Dcreate2(file, "packed", H5T_IEEE_F32BE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    H5Dwrite(packed, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, (float[]){ 1, 2, 3, 4 });
    H5Dclose(packed);
    H5Sclose(space);
    H5Pclose(creation);
    put_fixed(file, "texts", (const char *[]){ "a", "b" }, 2);
    H5Tclose(text);
    H5Tclose(pair);
    H5Tclose(list);
    H5Fclose(file);

    static const struct {
        const char *name, *words;
    } cases[] = {
        { "soft", "no such data set" },
        { "external", "no such data set" },
        { "external/x", "no such data set" },
        { "outside", "in other files" },
        { "virtual", "virtual data set" },
        { "bomb", "declares more data than the file stores" },
        { "huge", "too large" },
        { "seven", "more than 6 axes" },
        { "text", "no plain numbers" },
        { "compound", "no plain numbers" },
        { "lists", "no plain numbers" },
        { "references", "no plain numbers" },
        { "scaled", "a filter other than" },
        { "absent", "no such data set" },
        { "good/x", "no such data set" },
        { "/good", "no such data set" },
        { "", "no such data set" },
        { "../good", "no such data set" },
    };
    fv_h5 h;
    void *image;
    fv_shape shape;
    open_image(&h, path_of("trap.h5"), &image);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_null(fv_h5_get_tensor(&h, h.file, cases[i].name, H5T_NATIVE_FLOAT, &shape));
        assert_fails(strstr(cases[i].words, "too large") ? FV_ERROR_SHAPE : FV_ERROR_FORMAT, cases[i].words);
    }
    static const char *const good[] = { "good", "packed" };
    for (int i = 0; i < 2; i++) {
        float *values = fv_h5_get_tensor(&h, h.file, good[i], H5T_NATIVE_FLOAT, &shape);
        assert_works();
        assert_true(shape.rank == 1 && shape.dim[0] == 4 && values[3] == 4);
        fv_free(values);
    }
    fv_h5_texts texts;
    double number;
    assert_true(fv_h5_get_numbers(&h, h.file, "texts", H5T_NATIVE_DOUBLE, 1, &number) < 0);
    assert_fails(FV_ERROR_FORMAT, "texts: the attribute has not the numbers");
    assert_null(fv_h5_get_text(&h, h.file, "texts"));
    assert_fails(FV_ERROR_FORMAT, "not one text");
    assert_true(fv_h5_get_texts(&h, h.file, "absent", &texts) < 0);
    assert_fails(FV_ERROR_FORMAT, "missing");
    assert_true(fv_h5_open_group(&h, h.file, "good") < 0);
    assert_fails(FV_ERROR_FORMAT, "no such group");
    h.left = 8; /* what may still be read is counted */
    assert_null(fv_h5_get_tensor(&h, h.file, "good", H5T_NATIVE_FLOAT, &shape));
    assert_fails(FV_ERROR_FORMAT, "declares more data than the 8 bytes");
    fv_h5_close(&h);
    fv_free(image);
}

static void long_lists_are_split(void **state) {
    (void)state;
    enum { NAMES = 9000 };
    static char name[NAMES][16];
    static const char *names[NAMES];
    for (int i = 0; i < NAMES; i++) names[i] = (snprintf(name[i], sizeof name[i], "layer_%d", i), name[i]);
    fv_h5 h;
    size_t size;
    assert_int_equal(fv_h5_create(&h, ctx, "list"), 0);
    fv_h5_put_texts(&h, h.file, "layer_names", names, NAMES);
    void *image = fv_h5_finish(&h, &size);
    fv_h5_close(&h);
    assert_works();
    assert_int_equal(fv_h5_open(&h, ctx, "list", image, size, FV_MODEL_LIMIT), 0);
    assert_false(fv_h5_has_attribute(&h, h.file, "layer_names"));
    assert_true(fv_h5_has_attribute(&h, h.file, "layer_names2"));
    fv_h5_texts texts;
    assert_int_equal(fv_h5_get_texts(&h, h.file, "layer_names", &texts), 0);
    assert_int_equal(texts.count, NAMES);
    for (int i = 0; i < NAMES; i++) assert_string_equal(texts.text[i], names[i]);
    fv_h5_free_texts(&texts);
    fv_h5_close(&h);
    fv_free(image);
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
        make_archive(path_of("whole.keras"), two_dense_config, path_of("v3.weights.h5"), deflate);
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
    t->wait_best = INFINITY;
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
                isinf(t->wait_best));
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
    make_v3(path_of("memory.weights.h5"), true);
    make_archive(path_of("memory.keras"), two_dense_config, path_of("memory.weights.h5"), true);
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

/* ---- Files that Keras wrote -------------------------------------------------------------------------------------- */

/* Weight k, element i: (i mod 97) / 97 - 0.5, plus one for vectors with k mod 4 = 3. */
static void assert_golden(fv_net *net) {
    static const struct {
        const char *layer;
        int k;
    } layers[] = { { "a", 0 }, { "b", 2 }, { "out", 4 } };
    for (int l = 0; l < 3; l++)
        for (int w = 0; w < 2; w++) {
            int64_t dims[FV_RANK], elements = 1;
            int rank = fv_weight_shape(net, layers[l].layer, w, FV_KERAS, dims);
            for (int i = 0; i < rank; i++) elements *= dims[i];
            float values[256];
            assert_int_equal(
                fv_get_weights(net, layers[l].layer, w, FV_KERAS, values, (size_t)elements * sizeof(float)), 0);
            for (int64_t i = 0; i < elements; i++) {
                double expected = (double)(i % 97) / 97 - 0.5 + (rank == 1 && (layers[l].k + w) % 4 == 3 ? 1 : 0);
                assert_true(fabs(values[i] - expected) < 1e-6);
            }
        }
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
    fv_net *net = NULL;
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/models/keras_golden/func_keras316.%s", data, containers[i]);
        if (i < 2) {
            net = fv_load(ctx, path);
        } else {
            fill_weights(net, 9);
            fv_load_weights(net, path);
        }
        assert_works();
        assert_golden(net);
        snprintf(path, sizeof path, "%s/models/keras_golden/seq_keras316.%s", data, containers[i]);
        if (i < 2)
            assert_null(fv_load(ctx, path));
        else
            fv_load_weights(net, path);
        assert_true(fv_error_status(ctx) != FV_OK && strstr(fv_error(ctx), path) &&
                    (i == 2 || strstr(fv_error(ctx), "Conv2D")));
        fv_clear_error(ctx);
    }
    snprintf(path, sizeof path, "%s/models/keras/fer2013_mini_XCEPTION.102-0.66.hdf5", data);
    assert_null(fv_load(ctx, path));
    assert_fails(FV_ERROR_UNSUPPORTED, "SeparableConv2D");
    snprintf(path, sizeof path, "%s/models/caffe/sample_data.h5", data);
    assert_null(fv_load(ctx, path));
    assert_fails(FV_ERROR_FORMAT, "holds no description of a net");
    fv_load_weights(net, path);
    assert_fails(FV_ERROR_FORMAT, "holds no weights in a layout of Keras");
}

static int set_up(void **state) {
    (void)state;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* for what the tests themselves ask of libhdf5 */
    const char *memory = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm"; /* every save waits for its disk */
    snprintf(folder, sizeof folder, "%s/fovea-io-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : memory);
    ctx = mkdtemp(folder) ? fv_open("reference") : NULL;
    return ctx && !fv_error(ctx) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return fv_close(ctx) || system(command);
}

static int begin(void **state) { /* one test's failure is not the next one's */
    (void)state;
    fv_alloc_fail(0, false);
    fv_clear_error(ctx);
    return 0;
}
#define TEST(name) cmocka_unit_test_setup(name, begin)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_file_is_replaced_whole),
        TEST(a_full_disk_leaves_the_old_file),
        TEST(folders_are_made_with_their_parents),
        TEST(nets_come_back_from_files),
        TEST(layers_are_in_the_order_of_keras),
        TEST(a_failed_save_keeps_the_file),
        TEST(weights_that_do_not_fit_are_refused_whole),
        TEST(layers_match_by_name_or_by_position),
        TEST(foreign_files_are_refused),
        TEST(weights_alone_are_read),
        TEST(the_third_layout_is_read),
        TEST(suspicious_content_is_refused),
        TEST(long_lists_are_split),
        TEST(cut_files_are_refused),
        TEST(changed_numbers_are_noticed),
        TEST(a_training_goes_on),
        TEST(only_its_own_training_goes_on),
        TEST(the_optimizer_is_written_for_keras),
        TEST(lack_of_memory_is_an_error),
        TEST(files_of_keras_are_read),
    };
    return cmocka_run_group_tests_name("io", tests, set_up, tear_down);
}
