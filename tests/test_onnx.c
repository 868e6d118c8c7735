/* test_onnx.c - ONNX's own tests of operators (onnx/backend/test/data of ONNX 1.22: node, pytorch-converted,
 * pytorch-operator, simple), each through tape, compiler and program on both backends of the host. They are read from
 * $FOVEA_DATA/onnx_node_tests, which holds the archive or its folders. What does not apply is listed with a reason in
 * support/onnx_exceptions.c; everything else must pass, and what is listed must not.
 *     test_onnx [--list] [--filter PATTERN]      --list: a line a test, with the reason where it does not apply */
#include "core/core.h"
#include "core/half.h"
#include "support/onnx.h"
#include <dirent.h>
#include <fnmatch.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static const char *const kinds[] = { "node", "pytorch-converted", "pytorch-operator", "simple" };
static const char *const devices[] = { "reference", "cpu" };
enum { KINDS = 4, DEVICES = 2, MOST_TESTS = 4000, MOST_EXCEPTIONS = 60 };

static struct {
    char folder[400], unpacked[400]; /* unpacked: ours, to be removed; "" if there is none */
    fv_context *context[DEVICES];
    bool list;
    const char *filter;
    int exceptions_used[MOST_EXCEPTIONS][ONNX_PATTERNS];
} run;

/* ---- One test ---------------------------------------------------------------------------------------------------- */

/* Compares with ONNX's own tolerance: 1e-7 + 1e-3 |expected|. */
static bool same(const onnx_tensor *expected, const fv_shape *shape, const int64_t *order, fv_type type,
                 const void *data, char *why) {
    char a[96], b[96];
    fv_shape wanted = { .rank = expected->rank };
    bool fits = expected->rank == shape->rank;
    for (int i = 0; i < expected->rank && i < FV_RANK; i++) {
        wanted.dim[i] = expected->dim[i];
        fits = fits && expected->dim[i] == shape->dim[i];
    }
    if (!fits)
        return sprintf(why, "the shape is %s, not %s", fv_shape_text(shape, a), fv_shape_text(&wanted, b)), false;
    for (int64_t i = 0; i < expected->elements; i++) {
        const int64_t at = order ? order[i] : i;
        double got;
        switch (type) {
        case FV_F32: got = ((const float *)data)[at]; break;
        case FV_I32: got = ((const int32_t *)data)[at]; break;
        case FV_U8: got = ((const uint8_t *)data)[at]; break;
        case FV_BF16: got = fv_from_bf16(((const uint16_t *)data)[at]); break;
        default: got = fv_from_f16(((const uint16_t *)data)[at]); break;
        }
        const double value = expected->value[i];
        if (isnan(value) ? !isnan(got) : !(got == value || fabs(got - value) <= 1e-7 + 1e-3 * fabs(value)))
            return sprintf(why, "element %lld is %.9g, not %.9g", (long long)i, got, value), false;
    }
    return true;
}

static bool compare_output(fv_program *p, onnx_graph *g, int output, fv_value v, const char *path, char *why) {
    fv_shape shape;
    int64_t *order;
    onnx_tensor *expected = onnx_read_tensor(path);
    onnx_graph_output(g, output, &shape, &order);
    const fv_type type = g->tape->value[v.id].type;
    const size_t bytes = (size_t)fv_shape_elements(&shape) * fv_type_bytes(type);
    void *data = malloc(bytes + 1);
    bool good = false;
    if (!expected || !expected->value)
        sprintf(why, "%.200s is no tensor of numbers", path);
    else if (fv_read(p, v, data, bytes))
        sprintf(why, "%.300s", fv_error(g->tape->object.context));
    else
        good = same(expected, &shape, order, type, data, why);
    free(data);
    free(order);
    onnx_tensor_free(expected);
    return good;
}

static void feed(fv_program *p, const onnx_feed *f) {
    const size_t width = fv_type_bytes(f->type), bytes = (size_t)f->elements * width;
    char *data = malloc(bytes + 1);
    for (int64_t i = 0; i < f->elements; i++) {
        const double x = f->data[i];
        switch (f->type) {
        case FV_F32: ((float *)data)[i] = (float)x; break;
        case FV_I32: ((int32_t *)data)[i] = (int32_t)x; break;
        case FV_U8: ((uint8_t *)data)[i] = (uint8_t)x; break;
        case FV_BF16: ((uint16_t *)data)[i] = fv_to_bf16((float)x); break;
        default: ((uint16_t *)data)[i] = fv_to_f16((float)x); break;
        }
    }
    fv_write(p, f->value, data, bytes);
    free(data);
}

/* One data set of one test on one device. */
static bool run_set(fv_context *c, const onnx_model *m, const char *folder, char *why) {
    char path[1000];
    onnx_tensor *given[ONNX_TENSORS] = { 0 };
    int count = 0;
    for (; count < ONNX_TENSORS; count++) {
        snprintf(path, sizeof path, "%s/input_%d.pb", folder, count);
        if (access(path, R_OK) || !(given[count] = onnx_read_tensor(path))) break;
    }
    fv_tape *t = fv_tape_new(c);
    onnx_graph *g = calloc(1, sizeof *g);
    fv_program *p = NULL;
    fv_value output[ONNX_TENSORS] = { 0 };
    bool good = !onnx_record(g, t, m, given, count);
    for (int o = 0; good && o < m->output_count; o++) {
        fv_shape shape;
        int64_t *order;
        output[o] = onnx_graph_output(g, o, &shape, &order);
        free(order);
        good = output[o].id && !fv_keep(t, output[o]);
    }
    good = good && (p = fv_compile(t));
    for (int i = 0; good && i < g->feed_count; i++) feed(p, &g->feed[i]);
    good = good && !fv_run(p);
    if (!good) snprintf(why, 600, "%s", g->why[0] ? g->why : fv_error(c) ? fv_error(c) : "?");
    for (int o = 0; good && o < m->output_count; o++) {
        snprintf(path, sizeof path, "%s/output_%d.pb", folder, o);
        good = compare_output(p, g, o, output[o], path, why);
    }
    fv_program_free(p);
    onnx_graph_free(g);
    free(g);
    fv_tape_free(t);
    fv_clear_error(c);
    for (int i = 0; i < count; i++) onnx_tensor_free(given[i]);
    return good;
}

static bool run_sets(fv_context *c, const onnx_model *m, const char *folder, char *why) {
    int sets = 0;
    bool good = true;
    for (; good; sets++) {
        char set[960];
        snprintf(set, sizeof set, "%s/test_data_set_%d", folder, sets);
        if (access(set, R_OK)) break;
        good = run_set(c, m, set, why);
    }
    if (!sets) sprintf(why, "it has no data");
    return good && sets;
}

/* ---- All of them ------------------------------------------------------------------------------------------------- */

static bool matches(const char *pattern, const char *name, const onnx_model *m) {
    if (strncmp(pattern, "op:", 3)) return !fnmatch(pattern, name, 0);
    for (int n = 0; m && n < m->node_count; n++)
        if (!strcmp(pattern + 3, m->node[n].operator)) return true;
    return false;
}

/* Why the test does not apply, or NULL. */
static const char *reason_against(const char *name, const onnx_model *m) {
    for (int i = 0; onnx_exceptions[i].reason; i++)
        for (int p = 0; onnx_exceptions[i].pattern[p]; p++)
            if (matches(onnx_exceptions[i].pattern[p], name, m)) {
                run.exceptions_used[i][p]++;
                return onnx_exceptions[i].reason;
            }
    return NULL;
}

typedef struct tally {
    int passed, inapplicable, failed;
} tally;

static void one(const char *kind, const char *name, tally *t) {
    char folder[900], path[950], why[700] = "";
    snprintf(folder, sizeof folder, "%s/%s/%s", run.folder, kind, name);
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    onnx_model *m = onnx_read_model(path);
    const char *e = reason_against(name, m);
    bool good = m != NULL;
    if (!m) sprintf(why, "the model cannot be read");
    for (int d = 0; good && d < (e ? 1 : DEVICES); d++) {
        good = run_sets(run.context[d], m, folder, why);
        if (!good && !e) print_error("%s on %s: %s\n", name, devices[d], why);
    }
    if (e && good) print_error("%s passes and does not belong to the exceptions (%s)\n", name, e);
    if (!m && !e) print_error("%s: %s\n", name, why);
    if (run.list) printf("%-70s %s%s\n", name, e ? "does not apply: " : good ? "passed" : "FAILED: ", e ? e : why);
    if (e && !good)
        t->inapplicable++;
    else if (e || !good)
        t->failed++;
    else
        t->passed++;
    onnx_model_free(m);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void tests_of(const char *kind) {
    char path[600], *name[MOST_TESTS];
    int count = 0;
    tally t = { 0 };
    snprintf(path, sizeof path, "%s/%s", run.folder, kind);
    DIR *folder = opendir(path);
    if (!folder) fail_msg("%s cannot be read", path);
    for (struct dirent *e; count < MOST_TESTS && (e = readdir(folder));)
        if (!strncmp(e->d_name, "test_", 5)) name[count++] = strdup(e->d_name);
    closedir(folder);
    qsort(name, (size_t)count, sizeof *name, by_name);
    for (int i = 0; i < count; i++) {
        if (!run.filter || !fnmatch(run.filter, name[i], 0)) one(kind, name[i], &t);
        free(name[i]);
    }
    print_message("%s: %d passed on both backends, %d do not apply, %d failed\n", kind, t.passed, t.inapplicable,
                  t.failed);
    assert_int_equal(t.failed, 0);
    if (!run.filter) assert_true(t.passed > 0);
}

static void node_tests(void **state) { tests_of(kinds[0]); }
static void converted_tests(void **state) { tests_of(kinds[1]); }
static void operator_tests(void **state) { tests_of(kinds[2]); }
static void simple_tests(void **state) { tests_of(kinds[3]); }

/* An exception that matches no test, or names an operator that is there, has outlived its reason. */
static void exceptions_are_needed(void **state) {
    int stale = 0;
    for (int i = 0; onnx_exceptions[i].reason; i++)
        for (int p = 0; onnx_exceptions[i].pattern[p]; p++) {
            const char *pattern = onnx_exceptions[i].pattern[p], *why = NULL;
            if (!run.filter && !run.exceptions_used[i][p]) why = "matches no test";
            if (!strncmp(pattern, "op:", 3) && onnx_recorder_of(pattern + 3)) why = "is an operator that is there";
            if (why) print_error("%s %s\n", pattern, why), stale++;
        }
    assert_int_equal(stale, 0);
}

/* ---- The data ---------------------------------------------------------------------------------------------------- */

/* The folder with "node" in it: as it is, or the archive unpacked beside other temporary files. */
static bool find_data(char *why) {
    const char *data = getenv("FOVEA_DATA"), *temporary = getenv("TMPDIR");
    char path[500], command[1100];
    if (!data || !*data) return sprintf(why, "FOVEA_DATA is not set"), false;
    snprintf(run.folder, sizeof run.folder, "%.300s/onnx_node_tests", data);
    snprintf(path, sizeof path, "%s/node", run.folder);
    if (!access(path, R_OK)) return true;
    snprintf(run.unpacked, sizeof run.unpacked, "%.200s/onnxXXXXXX", temporary ? temporary : "/tmp");
    if (!mkdtemp(run.unpacked)) return run.unpacked[0] = 0, sprintf(why, "there is no temporary folder"), false;
    snprintf(command, sizeof command, "tar xJf '%s'/onnx_node_tests_v*.tar.xz -C '%s' 2>/dev/null", run.folder,
             run.unpacked);
    if (system(command)) return sprintf(why, "%.300s has no archive that can be unpacked", run.folder), false;
    memcpy(run.folder, run.unpacked, sizeof run.folder);
    return true;
}

static void remove_data(void) {
    char command[500];
    snprintf(command, sizeof command, "rm -rf '%s'", run.unpacked);
    if (run.unpacked[0] && system(command)) fprintf(stderr, "test_onnx: %s stays behind\n", run.unpacked);
}

int main(int count, char **argument) {
    char why[400] = "";
    for (int i = 1; i < count; i++) {
        if (!strcmp(argument[i], "--list"))
            run.list = true;
        else if (!strcmp(argument[i], "--filter") && i + 1 < count)
            run.filter = argument[++i];
        else
            return fprintf(stderr, "usage: test_onnx [--list] [--filter PATTERN]\n"), 2;
    }
    if (!find_data(why)) {
        remove_data();
        printf("skip - ONNX's operator tests: %s\n", why);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(node_tests),   cmocka_unit_test(converted_tests),       cmocka_unit_test(operator_tests),
        cmocka_unit_test(simple_tests), cmocka_unit_test(exceptions_are_needed),
    };
    for (int d = 0; d < DEVICES; d++) run.context[d] = fv_open(devices[d]);
    int failed = cmocka_run_group_tests_name("onnx", tests, NULL, NULL);
    for (int d = 0; d < DEVICES; d++) failed |= fv_close(run.context[d]);
    remove_data();
    return failed;
}
