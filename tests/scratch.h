/* scratch.h - what tests of files share: a context, a folder of their own, files in it, and the check of an error's
 * words. Included once by a test program, before its tests; run_in_scratch makes both, begins every test anew, and
 * clears up. */
#ifndef FV_TEST_SCRATCH_H
#define FV_TEST_SCRATCH_H
#include "core/core.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static fv_context *ctx;
static char folder[512];

/* The context holds this error, said with these words; it is cleared. */
static inline void assert_fails_(fv_status status, const char *words, int line) {
    if (fv_error_status(ctx) != status || !strstr(fv_error(ctx) ? fv_error(ctx) : "", words))
        fail_msg("line %d: %s '%s', not %s '%s'", line, fv_status_name(fv_error_status(ctx)),
                 fv_error(ctx) ? fv_error(ctx) : "", fv_status_name(status), words);
    assert_null(strchr(fv_error(ctx), '\n'));
    fv_clear_error(ctx);
}
#define assert_fails(status, words) assert_fails_(status, words, __LINE__)
#define assert_works()              assert_string_equal(fv_error(ctx) ? fv_error(ctx) : "", "")

static inline const char *path_of(const char *name) {
    static char path[8][1024];
    static int next;
    next = (next + 1) % 8;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

static inline const char *write_file(const char *name, const void *bytes, size_t size) {
    const char *path = path_of(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
    return path;
}

static inline unsigned char *read_file(const char *path, size_t *size) {
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

static int make_scratch(void **state) {
    (void)state;
    const char *memory = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm"; /* every save waits for its disk */
    snprintf(folder, sizeof folder, "%s/fovea-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : memory);
    ctx = mkdtemp(folder) ? fv_open("reference") : NULL;
    return ctx && !fv_error(ctx) ? 0 : -1;
}

static int clear_scratch(void **state) {
    (void)state;
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return fv_close(ctx) || system(command);
}

static int begin_test(void **state) { /* one test's failure is not the next one's */
    (void)state;
    fv_alloc_fail(0, false);
    fv_clear_error(ctx);
    return 0;
}

#define TEST(name)                   cmocka_unit_test_setup(name, begin_test)
#define run_in_scratch(group_name, tests) cmocka_run_group_tests_name(group_name, tests, make_scratch, clear_scratch)
#endif
