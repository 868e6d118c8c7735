/* test_core.c - the ground: published vectors of the random generator, checked sizes, the first error, memory and its
 * failures, names of devices, and plugins, good and bad, that the test compiles for itself. */
#define _GNU_SOURCE
#include "core/core.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- Random numbers ---------------------------------------------------------------------------------------------- */

static void philox_vectors(void **state) {
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } vector[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { ~0u, ~0u, ~0u, ~0u }, { ~0u, ~0u }, { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
          { 0xa4093822, 0x299f31d0 },
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    for (size_t i = 0; i < sizeof(vector) / sizeof(*vector); i++) {
        uint32_t out[4];
        fv_philox(vector[i].counter, vector[i].key, out);
        assert_memory_equal(out, vector[i].out, sizeof out);
    }
}

static void random_streams(void **state) {
    fv_random a = fv_random_make(7, 1), same = fv_random_make(7, 1), other = fv_random_make(7, 2),
              seed = fv_random_make(8, 1);
    int differ = 0, differ_seed = 0;
    for (int i = 0; i < 100; i++) {
        uint32_t word = fv_random_u32(&a);
        assert_int_equal(word, fv_random_u32(&same));
        differ += word != fv_random_u32(&other);
        differ_seed += word != fv_random_u32(&seed);
    }
    assert_int_equal(differ, 100);
    assert_int_equal(differ_seed, 100);

    uint32_t counter[4] = { 1, 0, 1, 0 }, key[2] = { 7, 0 }, block[4]; /* the second block of stream 1 */
    fv_random again = fv_random_make(7, 1);
    for (int i = 0; i < 4; i++) fv_random_u32(&again);
    fv_philox(counter, key, block);
    for (int i = 0; i < 4; i++) assert_int_equal(fv_random_u32(&again), block[i]);
}

static void random_distributions(void **state) {
    enum { DRAWS = 60000 };
    fv_random r = fv_random_make(1, 0);
    int count[6] = { 0 };
    for (int i = 0; i < DRAWS; i++) {
        uint32_t k = fv_random_below(&r, 6);
        assert_true(k < 6);
        count[k]++;
    }
    for (int k = 0; k < 6; k++) assert_true(abs(count[k] - DRAWS / 6) < 500); /* five deviations */
    assert_int_equal(fv_random_below(&r, 1), 0);
    assert_int_equal(fv_random_below(&r, 0), 0);
    for (int i = 0; i < 100; i++) assert_true(fv_random_below(&r, 0x80000001u) <= 0x80000000u);

    double sum = 0, squares = 0, normal = 0, normal_squares = 0;
    for (int i = 0; i < DRAWS; i++) {
        double u = fv_random_uniform(&r), n = fv_random_normal(&r);
        assert_true(u >= 0 && u < 1);
        sum += u, squares += u * u, normal += n, normal_squares += n * n;
    }
    assert_float_equal(sum / DRAWS, 0.5, 0.006);
    assert_float_equal(squares / DRAWS, 1.0 / 3, 0.006);
    assert_float_equal(normal / DRAWS, 0, 0.02);
    assert_float_equal(normal_squares / DRAWS, 1, 0.03);
}

/* ---- Shapes ------------------------------------------------------------------------------------------------------ */

static void shapes(void **state) {
    fv_context *c = fv_open("reference");
    fv_shape s, t;
    char text[96];
    assert_int_equal(fv_shape_make(c, "x", 4, (int64_t[]){ 128, 28, 28, 1 }, &s), FV_OK);
    assert_int_equal(fv_shape_elements(&s), 128 * 28 * 28);
    assert_string_equal(fv_shape_text(&s, text), "[128, 28, 28, 1]");
    assert_int_equal(fv_shape_make(c, "x", 0, NULL, &t), FV_OK);
    assert_int_equal(fv_shape_elements(&t), 1);
    assert_string_equal(fv_shape_text(&t, text), "[]");
    assert_true(fv_shape_equal(&s, &s));
    assert_false(fv_shape_equal(&s, &t));
    fv_shape_make(c, "x", 6, (int64_t[]){ 1, 1, 1, 1, 1, INT64_MAX / 8 }, &t);
    assert_true(fv_ok(c));
    fv_shape_text(&t, text);
    assert_int_equal(fv_close(c), 0);

    static const struct {
        int rank;
        int64_t dim[7];
        const char *part;
    } bad[] = {
        { 7, { 1, 1, 1, 1, 1, 1, 1 }, "7 dimensions" },
        { -1, { 0 }, "-1 dimensions" },
        { 2, { 3, -4 }, "negative size -4" },
        { 1, { INT64_MAX / 8 + 1 }, "too large" }, /* bytes overflow, elements do not */
        { 3, { 1 << 30, 1 << 30, 1 << 30 }, "[1073741824, 1073741824, 1073741824]" },
        { 4, { 0, 1 << 30, 1 << 30, 1 << 30 }, "too large" }, /* an empty axis hides nothing */
        { 6, { INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX }, "too large" },
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        c = fv_open("reference");
        assert_int_equal(fv_shape_make(c, "layer c3", bad[i].rank, bad[i].dim, &s), FV_ERROR_SHAPE);
        assert_int_equal(s.rank, 0);
        assert_non_null(strstr(fv_error(c), "layer c3"));
        assert_non_null(strstr(fv_error(c), bad[i].part));
        assert_int_equal(fv_close(c), 1);
    }
    assert_int_equal(fv_type_bytes(FV_F32), 4);
    assert_int_equal(fv_type_bytes(FV_U8), 1);
    assert_int_equal(fv_type_bytes((fv_type)99), 0);
    assert_string_equal(fv_type_name(FV_BF16), "bf16");
}

/* ---- Errors and objects ------------------------------------------------------------------------------------------ */

static void first_error_stays(void **state) {
    fv_context *c = fv_open("reference");
    assert_null(fv_error(c));
    assert_int_equal(fv_fail(c, FV_ERROR_SHAPE, "layer %s", "a"), FV_ERROR_SHAPE);
    assert_int_equal(fv_fail(c, FV_ERROR_FILE, "layer %s", "b"), FV_ERROR_FILE);
    assert_string_equal(fv_error(c), "layer a");
    assert_int_equal(fv_error_status(c), FV_ERROR_SHAPE);
    assert_false(fv_ok(c));
    fv_clear_error(c);
    assert_null(fv_error(c));
    assert_true(fv_ok(c));
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    fv_fail(c, FV_ERROR_FILE, "%s", text);
    assert_int_equal(strlen(fv_error(c)), sizeof c->error - 1);
    assert_string_equal(fv_error(c) + sizeof c->error - 4, "...");
    assert_int_equal(fv_close(c), 1);
    assert_string_equal(fv_status_name(FV_ERROR_SHAPE), "SHAPE");
    assert_string_equal(fv_status_text(FV_OK), "no error");
    assert_string_equal(fv_status_name((fv_status)5), "UNKNOWN");
    assert_non_null(fv_error(NULL));
    assert_int_equal(fv_close(NULL), 1);
    assert_int_equal(fv_fail(NULL, FV_ERROR_FILE, "x"), FV_ERROR_FILE);
    assert_string_equal(fv_version(), "0.1.0");
    assert_non_null(strstr(fv_build_info(), "HDF5 1."));
}

typedef struct thing {
    fv_object object;
    int number;
} thing;
static int released[4], release_count;
static void release_thing(void *object) {
    released[release_count++] = ((thing *)object)->number;
    fv_free(object);
}

static void objects_newest_first(void **state) {
    fv_context *c = fv_open("reference");
    thing *t[3];
    for (int i = 0; i < 3; i++) {
        t[i] = fv_alloc(c, 1, sizeof(thing), "a thing");
        t[i]->number = i;
        fv_object_add(c, t[i], release_thing);
    }
    release_count = 0;
    fv_object_free(t[1]);
    fv_object_free(NULL);
    assert_int_equal(fv_close(c), 0);
    assert_int_equal(release_count, 3);
    assert_int_equal(released[0], 1);
    assert_int_equal(released[1], 2);
    assert_int_equal(released[2], 0);
}

static char logged[4000];
static void keep_log(void *user, const char *line) {
    assert_ptr_equal(user, logged);
    snprintf(logged + strlen(logged), sizeof logged - strlen(logged), "%s\n", line);
}

/* ---- Options ----------------------------------------------------------------------------------------------------- */

static void options_grow(void **state) {
    fv_context *c = fv_open_with(&(fv_open_options){ .struct_size = sizeof(fv_open_options),
                                                     .device = "reference",
                                                     .threads = 3,
                                                     .seed = 42,
                                                     .log = keep_log,
                                                     .log_user = logged });
    assert_null(fv_error(c));
    assert_int_equal(c->threads, 3);
    assert_int_equal(c->seed, 42);
    assert_non_null(strstr(logged, "device: reference"));
    assert_int_equal(fv_close(c), 0);

    /* an older program: its struct ends after the device */
    struct {
        size_t size;
        const char *device;
    } old = { sizeof old, "reference" };
    c = fv_open_with((const fv_open_options *)(const void *)&old);
    assert_string_equal(fv_device_name(c), "reference");
    assert_int_equal(c->seed, 0);
    assert_int_equal(fv_close(c), 0);

    /* a newer one: fine while what we do not know is zero */
    struct {
        fv_open_options known;
        long unknown;
    } newer = { { .struct_size = sizeof newer, .device = "reference" }, 0 };
    c = fv_open_with(&newer.known);
    assert_int_equal(fv_close(c), 0);
    newer.unknown = 1;
    c = fv_open_with(&newer.known);
    assert_non_null(strstr(fv_error(c), "newer"));
    assert_int_equal(fv_close(c), 1);

    c = fv_open_with(&(fv_open_options){ .device = "reference" });
    assert_non_null(strstr(fv_error(c), "struct_size"));
    assert_int_equal(fv_close(c), 1);
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

static void host_memory(void **state) {
    fv_context *c = fv_open("reference");
    unsigned char *p = fv_alloc(c, 3, 7, "test");
    assert_int_equal((uintptr_t)p % 64, 0);
    for (int i = 0; i < 21; i++) assert_int_equal(p[i], 0);
    memset(p, 1, 21);
    p = fv_grow(c, p, 3, 20, 7, "test");
    for (int i = 0; i < 140; i++) assert_int_equal(p[i], i < 21);
    fv_free(p);
    p = fv_alloc(c, 0, 8, "nothing");
    assert_non_null(p);
    fv_free(p);
    assert_null(fv_copy_string(c, NULL));
    assert_true(fv_ok(c));
    assert_null(fv_alloc(c, SIZE_MAX / 2, 3, "the moon"));
    assert_int_equal(fv_error_status(c), FV_ERROR_MEMORY);
    assert_non_null(strstr(fv_error(c), "the moon"));
    fv_clear_error(c);

    fv_alloc_fail(2, false);
    void *a = fv_alloc(c, 1, 1, "a"), *b = fv_alloc(c, 1, 1, "b"), *d = fv_alloc(c, 1, 1, "d");
    assert_int_equal(fv_alloc_fail(0, false), 3);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(d);
    assert_string_equal(fv_error(c), "out of memory: b needs 1 bytes");
    fv_free(a);
    fv_free(d);
    fv_alloc_fail(1, true);
    assert_null(fv_alloc(c, 1, 1, "a"));
    assert_null(fv_alloc(c, 1, 1, "b"));
    fv_alloc_fail(0, false);
    fv_close(c);
}

static void device_memory(void **state) {
    fv_context *c = fv_open_with(
        &(fv_open_options){ .struct_size = sizeof(fv_open_options), .device = "reference", .memory_limit = 1000000 });
    void *a = fv_device_alloc(c, 600000, "the arena");
    assert_non_null(a);
    assert_int_equal(c->memory_used, 600000);
    assert_null(fv_device_alloc(c, 800000, "the arena"));
    assert_string_equal(fv_error(c),
                        "out of memory on reference: the arena needs 800.0 KB, but 400.0 KB of 1.0 MB (the memory "
                        "limit) are free: a batch of at most 50 % of this one would fit");
    assert_int_equal(c->memory_used, 600000);
    fv_clear_error(c);
    fv_device_free(c, a, 600000);
    assert_int_equal(c->memory_used, 0);
    void *b = fv_device_alloc(c, 800000, "the arena"); /* the context stays usable */
    assert_non_null(b);
    assert_null(fv_device_alloc(c, SIZE_MAX, "the universe"));
    assert_int_equal(fv_error_status(c), FV_ERROR_MEMORY);
    fv_device_free(c, b, 800000);
    fv_device_free(c, NULL, 5);
    fv_close(c);
}

static void open_survives_every_failing_allocation(void **state) {
    static const char *const device[] = { "reference", "reference64", "cpu" };
    for (size_t d = 0; d < sizeof(device) / sizeof(*device); d++) {
        fv_alloc_fail(0, false);
        assert_int_equal(fv_close(fv_open(device[d])), 0);
        int64_t count = fv_alloc_fail(0, false);
        assert_true(count >= 1);
        for (int64_t i = 1; i <= count; i++) {
            fv_alloc_fail(i, false);
            fv_context *c = fv_open(device[d]);
            fv_alloc_fail(0, false);
            assert_true(i > 1 ? c != NULL : c == NULL);
            if (c && fv_error(c)) {
                assert_int_equal(fv_error_status(c), FV_ERROR_MEMORY);
                fv_clear_error(c); /* does not make it usable */
                assert_non_null(fv_error(c));
            }
            fv_close(c);
        }
    }
}

/* ---- Devices ----------------------------------------------------------------------------------------------------- */

static void bad_device_names(void **state) {
    static const char *const bad[] = { "gpu",
                                       "CPU",
                                       "cpu:1",
                                       "cpu:",
                                       "cpu:x",
                                       ":0",
                                       "../evil",
                                       "cuda:99999",
                                       "cuda:-1",
                                       "a/b",
                                       "a very long name that fits into no field of any struct" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        fv_context *c = fv_open(bad[i]);
        assert_non_null(c);
        assert_int_equal(fv_error_status(c), FV_ERROR_DEVICE);
        assert_non_null(strstr(fv_error(c), "device '"));
        fv_clear_error(c);
        assert_non_null(fv_error(c));
        assert_int_equal(fv_close(c), 1);
    }
}

static void environment(void **state) {
    setenv("FOVEA_DEVICE", "reference", 1);
    fv_context *c = fv_open("auto");
    assert_string_equal(fv_device_name(c), "reference");
    fv_close(c);
    c = fv_open("cpu"); /* the variable overrides "auto" only */
    assert_string_equal(fv_device_name(c), "cpu");
    fv_close(c);
    setenv("FOVEA_DEVICE", "abacus", 1);
    c = fv_open(NULL);
    assert_non_null(strstr(fv_error(c), "FOVEA_DEVICE: device 'abacus'"));
    fv_close(c);
    unsetenv("FOVEA_DEVICE");

    setenv("OMP_NUM_THREADS", "3,2", 1);
    c = fv_open("reference");
    assert_int_equal(c->threads, 3);
    fv_close(c);
    setenv("FOVEA_NUM_THREADS", "5", 1);
    c = fv_open("reference");
    assert_int_equal(c->threads, 5);
    fv_close(c);
    setenv("FOVEA_NUM_THREADS", "many", 1);
    c = fv_open("reference");
    assert_non_null(strstr(fv_error(c), "FOVEA_NUM_THREADS: 'many'"));
    fv_close(c);
    unsetenv("FOVEA_NUM_THREADS");
    unsetenv("OMP_NUM_THREADS");
    c = fv_open_with(&(fv_open_options){ .struct_size = sizeof(fv_open_options), .threads = -2 });
    assert_non_null(strstr(fv_error(c), "threads: -2"));
    fv_close(c);
}

/* ---- Plugins ----------------------------------------------------------------------------------------------------- */

/* Memory and nothing else: enough to be opened. Macros bend it into what must be refused. */
static const char plugin_source[] =
    "#include \"core/backend.h\"\n"
    "#include <stdlib.h>\n#include <string.h>\n"
    "#ifndef ABI\n#define ABI FV_BACKEND_ABI\n#endif\n#ifndef OPS\n#define OPS FV_OP_COUNT\n#endif\n"
    "#ifndef COUNT\n#define COUNT 2\n#endif\n#ifndef NAME\n#define NAME \"fake\"\n#endif\n"
    "struct fv_device { int index; };\n"
    "static int opened(const fv_host *h, int i, fv_device **d) {\n"
    "    if (i == 1) return h->fail(h->context, FV_ERROR_DEVICE, \"fake:1 is broken\");\n"
    "    *d = h->alloc(h->context, sizeof **d, \"the device\"); if (!*d) return FV_ERROR_MEMORY; (*d)->index = i; "
    "return 0; }\n"
    "static void closed(fv_device *d) { free(d); }\n"
    "static void describe(fv_device *d, char *l, size_t n) { snprintf(l, n, \"number %d\", d->index); }\n"
    "static int count(char *why, size_t n) { if (!COUNT) snprintf(why, n, \"no driver\"); return COUNT; }\n"
    "static void *get(fv_device *d, size_t n) { (void)d; return malloc(n); }\n"
    "static void put(fv_device *d, void *p) { (void)d; free(p); }\n"
    "static int copy_in(fv_device *d, void *a, const void *b, size_t n) { (void)d; memcpy(a, b, n); return 0; }\n"
    "static int fill(fv_device *d, void *a, int b, size_t n) { (void)d; memset(a, b, n); return 0; }\n"
    "static int sync_all(fv_device *d) { (void)d; return 0; }\n"
    "static const fv_kernel kernels[FV_OP_COUNT];\n"
    "static const fv_backend backend = { .abi = ABI, .op_count = OPS, .op_checksum = CHECKSUM, .real_bytes = 4, .name "
    "= NAME,\n"
    "    .open = opened, .close = closed, .describe = describe, .count = count, .alloc = get, .free = put, .upload = "
    "copy_in,\n"
    "    .download = copy_in, .copy = copy_in, .fill = fill,\n"
    "#ifndef NO_SYNC\n    .sync = sync_all,\n#endif\n"
    "    .kernels = kernels };\n"
    "#ifdef NO_SYNC\nextern int never; int *keep = 0; int unused(void); int unused(void) { return sync_all(0); "
    "}\n#endif\n"
    "#ifdef UNRESOLVED\nextern int missing_function(void); int use(void); int use(void) { return missing_function(); "
    "}\n#endif\n"
    "#ifndef NO_ENTRY\nconst fv_backend *fovea_backend(void);\n"
    "__attribute__((visibility(\"default\"))) const fv_backend *fovea_backend(void) { return &backend; }\n#endif\n";

static char folder[64];

static bool build_plugin(const char *name, const char *macros) {
    char path[128], command[2048], root[256];
    snprintf(root, sizeof root, "%s", __FILE__);
    char *end = strstr(root, "tests/test_core.c");
    strcpy(end && end > root ? end : root, end && end > root ? "" : "./");
    snprintf(path, sizeof path, "%s/plugin.c", folder);
    FILE *file = fopen(path, "w");
    fputs(plugin_source, file);
    fclose(file);
    const char *compiler = getenv("CC");
    snprintf(command, sizeof command,
             "%s -w -std=gnu11 -shared -fPIC -fvisibility=hidden -DCHECKSUM=%uu %s -I%sinclude -I%ssrc %s "
             "-o %s/libfovea-%s.so",
             compiler && *compiler ? compiler : "cc", fv_op_checksum(), macros, root, root, path, folder, name);
    return system(command) == 0;
}

static void expect_refusal(const char *device, const char *part) {
    fv_context *c = fv_open(device);
    assert_non_null(fv_error(c));
    if (!strstr(fv_error(c), part)) fail_msg("'%s' does not say '%s'", fv_error(c), part);
    assert_int_equal(fv_error_status(c), FV_ERROR_DEVICE);
    assert_int_equal(fv_close(c), 1);
}

static int make_folder(void **state) {
    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.40s/pluginXXXXXX", temporary && strlen(temporary) < 40 ? temporary : "/tmp");
    return mkdtemp(folder) ? setenv("FOVEA_BACKEND_PATH", folder, 1) : -1;
}

static int remove_folder(void **state) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    unsetenv("FOVEA_BACKEND_PATH");
    return system(command);
}

static void plugin_opens(void **state) {
    if (!build_plugin("fake", "")) {
        print_message("no C compiler at run time\n");
        skip();
    }
    fv_context *c = fv_open("fake");
    assert_null(fv_error(c));
    assert_string_equal(fv_device_name(c), "fake:0");
    assert_string_equal(fv_device_line(c), "fake:0, number 0");
    void *data = fv_device_alloc(c, 100, "test");
    assert_non_null(data);
    fv_device_free(c, data, 100);
    assert_int_equal(fv_close(c), 0);
    expect_refusal("fake:1", "fake:1 is broken");
    expect_refusal("fake:2", "fake has 2 devices");
    fv_alloc_fail(2, false); /* its own allocation, through the host */
    c = fv_open("fake");
    fv_alloc_fail(0, false);
    assert_int_equal(fv_error_status(c), FV_ERROR_MEMORY);
    fv_close(c);
}

static void plugin_refused(void **state) {
    static const struct {
        const char *macros, *part;
    } bad[] = {
        { "-DABI=77", "interface 77, but this library has" },
        { "-DOPS=3", "built for 3 operations" },
        { "-UCHECKSUM -DCHECKSUM=1", "another list of operations (checksum 00000001" },
        { "-DNAME='\"other\"'", "names itself 'other'" },
        { "-DNO_SYNC", "lacks the function 'sync'" },
        { "-DNO_ENTRY", "no function fovea_backend" },
        { "-DUNRESOLVED", "missing_function" },
        { "-DCOUNT=0", "no driver" },
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        char name[32], file[128]; /* a new name each time: a library once loaded stays */
        snprintf(name, sizeof name, "bad%d", (int)i);
        char macros[256];
        snprintf(macros, sizeof macros, "-DNAME='\"%s\"' %s", name, bad[i].macros);
        if (!build_plugin(name, macros)) {
            print_message("no C compiler at run time\n");
            skip();
        }
        expect_refusal(name, bad[i].part);
        snprintf(file, sizeof file, "%s/libfovea-%s.so", folder, name);
        unlink(file);
    }
    expect_refusal("nowhere", "libfovea-nowhere.so is not in");
    expect_refusal("nowhere", folder);
}

static int seen_devices, seen_broken;
static void see_device(void *user, const char *name, const char *description, const char *why) {
    seen_devices++;
    if (!strcmp(name, "fake:0")) assert_string_equal(description, "number 0");
    if (!strcmp(name, "fake:1")) assert_string_equal(why, "fake:1 is broken");
    if (!strcmp(name, "torn")) assert_non_null(strstr(why, "libfovea-torn.so"));
    if (!strcmp(name, "cpu")) assert_null(why);
    seen_broken += why != NULL;
}

static void devices_listed(void **state) {
    if (!build_plugin("fake", "")) {
        print_message("no C compiler at run time\n");
        skip();
    }
    char path[128];
    snprintf(path, sizeof path, "%s/libfovea-torn.so", folder);
    FILE *file = fopen(path, "w");
    fputs("not a library", file);
    fclose(file);
    seen_devices = seen_broken = 0;
    int usable = fv_devices(see_device, NULL);
    assert_int_equal(usable + seen_broken, seen_devices);
    assert_true(usable >= 4); /* cpu, reference, reference64, fake:0 */
    assert_true(seen_broken >= 2);
    assert_int_equal(fv_devices(NULL, NULL), usable);
    expect_refusal("torn", path);
    unlink(path);
}

/* "auto" says why it took the CPU; "cuda" is never replaced by it. */
static void broken_cuda_is_told(void **state) {
    char path[128];
    snprintf(path, sizeof path, "%s/libfovea-cuda.so", folder);
    FILE *file = fopen(path, "w");
    fputs("not a library", file);
    fclose(file);
    fv_context *c = fv_open("auto");
    assert_string_equal(fv_device_name(c), "cpu");
    assert_non_null(strstr(fv_device_line(c), "(no CUDA: "));
    assert_non_null(strstr(fv_device_line(c), "libfovea-cuda.so"));
    assert_int_equal(fv_device_line(c)[strlen(fv_device_line(c)) - 1], ')');
    assert_int_equal(fv_close(c), 0);
    expect_refusal("cuda", path);
    expect_refusal("cuda:0", path);
    if (build_plugin("cuda", "-DNAME='\"cuda\"'")) {
        c = fv_open("auto"); /* a usable one is preferred */
        assert_string_equal(fv_device_name(c), "cuda:0");
        assert_int_equal(fv_close(c), 0);
    }
    unlink(path);
}

int main(void) {
    unsetenv("FOVEA_DEVICE");
    unsetenv("FOVEA_NUM_THREADS");
    unsetenv("OMP_NUM_THREADS");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_vectors),       cmocka_unit_test(random_streams),
        cmocka_unit_test(random_distributions), cmocka_unit_test(shapes),
        cmocka_unit_test(first_error_stays),    cmocka_unit_test(objects_newest_first),
        cmocka_unit_test(options_grow),         cmocka_unit_test(host_memory),
        cmocka_unit_test(device_memory),        cmocka_unit_test(open_survives_every_failing_allocation),
        cmocka_unit_test(bad_device_names),     cmocka_unit_test(environment),
        cmocka_unit_test(plugin_opens),         cmocka_unit_test(plugin_refused),
        cmocka_unit_test(devices_listed),       cmocka_unit_test(broken_cuda_is_told),
    };
    return cmocka_run_group_tests_name("core", tests, make_folder, remove_folder);
}
