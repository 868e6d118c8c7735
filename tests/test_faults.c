/* test_faults.c - the whole way (net, data, training, saving, loading, predicting) with the n-th allocation failing, for every n: the context
 * tells of the lack of memory in one sentence, everything can still be freed, and the next attempt succeeds. Leaks are seen by the sanitizer
 * and valgrind builds of this very test. */
#include "core/core.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[256];

static fv_status whole_way(char *sentence, size_t bytes) {
    char path[512];
    snprintf(path, sizeof path, "%s/model.h5", folder);
    fv_context *ctx = fv_open_with(&(fv_open_options){ .struct_size = sizeof(fv_open_options), .device = "cpu", .threads = 1 });
    fv_net *net = fv_net_new(ctx, "small");
    fv_node x = fv_input(net, 28, 28, 1);
    x = fv_conv2d(net, x, .filters = 2, .kernel = 5, .stride = 4, .activation = FV_RELU);
    x = fv_batch_norm(net, x);
    fv_output(net, fv_dense(net, fv_flatten(net, x), .units = 10, .l2 = 1e-4f));
    fv_dataset *data = fv_digits(ctx, 40, 7), *first = NULL, *second = NULL;
    fv_dataset_split(data, 0.8f, true, 3, &first, &second);
    fv_fit(net, first, .validation = second, .epochs = 1, .batch_size = 16, .optimizer = fv_adam());
    fv_save(net, path);
    fv_net *again = fv_load(ctx, path);
    fv_result r = { .struct_size = sizeof r };
    fv_evaluate(again, second, .result = &r);
    fv_status status = ctx ? fv_error_status(ctx) : FV_ERROR_MEMORY;
    snprintf(sentence, bytes, "%s", !ctx ? "no context" : fv_error(ctx) ? fv_error(ctx) : "");
    fv_close(ctx);
    return status;
}

static void every_allocation(bool sticky) {
    char sentence[1024];
    fv_alloc_fail(0, false);
    assert_int_equal(whole_way(sentence, sizeof sentence), FV_OK);
    int64_t sites = fv_alloc_fail(0, false);
    assert_true(sites > 50);
    print_message("%lld allocations on the way\n", (long long)sites);
    bool quick = getenv("FOVEA_QUICK") != NULL;
    int64_t failed = 0;
    for (int64_t n = 1; n <= sites; n += quick ? 7 : 1) {
        fv_alloc_fail(n, sticky);
        fv_status status = whole_way(sentence, sizeof sentence);
        fv_alloc_fail(0, false);
        if (status == FV_OK) continue; /* something that the library can do without, such as a copy of the data on the device */
        failed++;
        if (status != FV_ERROR_MEMORY || !strlen(sentence) || strchr(sentence, '\n'))
            fail_msg("allocation %lld of %lld: status %d, '%s'", (long long)n, (long long)sites, status, sentence);
    }
    assert_true(failed > (quick ? sites / 14 : sites / 2));
    assert_int_equal(whole_way(sentence, sizeof sentence), FV_OK);
}

static void each_allocation_once(void **state) {
    (void)state;
    every_allocation(false);
}

static void each_allocation_and_all_after_it(void **state) {
    (void)state;
    every_allocation(true);
}

int main(void) {
    snprintf(folder, sizeof folder, "%s", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    const struct CMUnitTest tests[] = { cmocka_unit_test(each_allocation_once), cmocka_unit_test(each_allocation_and_all_after_it) };
    return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
