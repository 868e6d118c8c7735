/* fitting.h - what the tests of training share: contexts, errors that must come, files to compare, a net that has
 * everything. */
#ifndef FITTING_H
#define FITTING_H
#include "train/train.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[256]; /* of the test program, made by make_folder */

static inline fv_context *open_on(const char *device, int threads) {
    return fv_open_with(
        &(fv_open_options){ .struct_size = sizeof(fv_open_options), .device = device, .threads = threads, .seed = 5 });
}

static inline void no_error(fv_context *c) {
    if (fv_error(c)) fail_msg("%s", fv_error(c));
}

static inline void expect_error(fv_context *c, fv_status status, const char *part) {
    if (!fv_error(c)) fail_msg("no error, but one that says '%s' should have come", part);
    if (!strstr(fv_error(c), part)) fail_msg("'%s' does not say '%s'", fv_error(c), part);
    if (fv_error_status(c) != status) fail_msg("'%s' is %s", fv_error(c), fv_status_name(fv_error_status(c)));
    fv_clear_error(c);
}

static inline const char *path_of(const char *run, const char *name) {
    static char path[4][512];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, 512, name ? "%s/%s/%s" : "%s/%s", folder, run, name);
    return p;
}

static inline char *read_file(const char *path, size_t *bytes) {
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

static inline void same_files(const char *a, const char *b) {
    size_t na = 0, nb = 0;
    char *x = read_file(a, &na), *y = read_file(b, &nb);
    if (!x || !y || na != nb || memcmp(x, y, na)) fail_msg("%s (%zu bytes) and %s (%zu bytes) differ", a, na, b, nb);
    free(x);
    free(y);
}

/* Everything that keeps state of its own: random masks, running statistics, momenta. */
static inline fv_net *full_net(fv_context *c) {
    fv_net *net = fv_net_new(c, "full");
    fv_node x =
        fv_conv2d(net, fv_input(net, 28, 28, 1), .filters = 3, .kernel = 5, .stride = 3, .l2 = 1e-3f, .name = "c1");
    x = fv_batch_norm(net, x, .activation = FV_RELU, .momentum = 0.8f);
    x = fv_dropout(net, fv_flatten(net, x), .rate = 0.3f);
    fv_output(net, fv_dense(net, x, .units = 10, .activation = FV_SOFTMAX, .name = "output"));
    return net;
}

static inline int make_folder(void **state) {
    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.200s/fitXXXXXX", temporary ? temporary : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state) {
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}
#endif
