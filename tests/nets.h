/* nets.h - small nets for tests of files, with weights that are all different, and files of other writers made by
 * libhdf5. */
#ifndef FV_TEST_NETS_H
#define FV_TEST_NETS_H
#include "io/keras.h"
#include "scratch.h"
#include <zip.h>

static inline fv_net *chain(const char *name) {
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
static inline fv_net *branches(const char *name) {
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
static inline fv_net *nested(const char *name) {
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
static inline void fill_weights(fv_net *net, float first) {
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

static inline bool weights_equal(fv_net *a, fv_net *b) {
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

static inline void assert_equal_files(const char *a, const char *b) {
    size_t size[2];
    unsigned char *bytes[2] = { read_file(a, &size[0]), read_file(b, &size[1]) };
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    free(bytes[0]);
    free(bytes[1]);
}

static inline void open_image(fv_h5 *h, const char *path, void **image) {
    size_t size;
    *image = fv_file_read(ctx, path, FV_MODEL_LIMIT, &size);
    assert_int_equal(fv_h5_open(h, ctx, path, *image, size, FV_MODEL_LIMIT), 0);
}

/* ---- Files of others, made with libhdf5 -------------------------------------------------------------------------- */

/* Fixed-length strings, padded with zeros, as Keras 2 writes lists. */
static inline void put_fixed(hid_t object, const char *name, const char *const *text, hsize_t count) {
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

static inline void put_ramp(hid_t group, const char *path, hid_t type, int rank, const hsize_t *dims, float first) {
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

static inline fv_net *two_dense(void) {
    fv_net *net = fv_net_new(ctx, "two");
    fv_output(
        net, fv_dense(net, fv_dense(net, fv_input(net, 2), .units = 3, .name = "first"), .units = 1, .name = "second"));
    assert_works();
    return net;
}

static inline void assert_two_dense(fv_net *net) {
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

/* names: with the attribute that newer files have, and then the numbers of the groups do not count. */
static inline void make_v3(const char *path, bool names) {
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

static inline void make_archive(const char *path, const char *config, const char *weights, int method) {
    int error;
    remove(path);
    zip_t *archive = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &error);
    assert_non_null(archive);
    zip_int64_t one = zip_file_add(archive, "config.json", zip_source_buffer(archive, config, strlen(config), 0), 0);
    zip_int64_t two = zip_file_add(archive, "model.weights.h5", zip_source_file(archive, weights, 0, -1), 0);
    for (int i = 0; i < 2; i++) zip_set_file_compression(archive, (zip_uint64_t)(i ? two : one), method, 0);
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
#endif
