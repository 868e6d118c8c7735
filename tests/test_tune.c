/* test_tune.c - choices among algorithms: measuring leaves everything as it was, the file's choices are taken and repeat, and a file that
 * does not fit is refused in one sentence. On the CPU and, where the emulated plugin was built, on its GPU. */
#define _GNU_SOURCE
#include "net/net.h"
#include "support/emulated.h"
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char path[PATH_MAX], folder[PATH_MAX];
static bool emulated;

static fv_context *open_with(const char *device, const char *tuned) {
    return fv_open_with(&(fv_open_options){
        .struct_size = sizeof(fv_open_options), .device = device, .threads = 1, .seed = 5, .tuned = tuned });
}

enum { IMAGES = 2, SCORES = 4, RESULTS = IMAGES * SCORES };

static fv_net *make_net(fv_context *c) {
    fv_net *net = fv_net_new(c, "small");
    fv_node x =
        fv_conv2d(net, fv_input(net, 8, 8, 16), .filters = 16, .kernel = 3, .padding = FV_SAME, .activation = FV_RELU);
    x = fv_max_pool2d(net, x, .size = 2);
    fv_output(net, fv_dense(net, fv_flatten(net, x), .units = SCORES));
    return net;
}

static fv_program *make_program(fv_context *c, fv_net *net, fv_value *result) {
    fv_tape *tape = fv_tape_new(c);
    fv_value x = fv_op_input(tape, (int64_t[]){ IMAGES, 8, 8, 16 }, 4, FV_F32);
    *result = fv_record(tape, net, FV_VALUES(x), FV_MODE_INFER);
    fv_keep(tape, *result);
    fv_program *program = fv_compile(tape);
    float image[IMAGES * 8 * 8 * 16];
    for (size_t i = 0; i < sizeof image / sizeof *image; i++) image[i] = (float)(i % 13) / 13 - 0.5f;
    fv_write(program, x, image, sizeof image);
    return program;
}

/* What the net answers, and how its convolution is done. */
static void answer(const char *device, const char *tuned, float y[RESULTS], char algorithm[420]) {
    fv_context *c = open_with(device, tuned);
    fv_value result;
    fv_program *program = make_program(c, make_net(c), &result);
    fv_run(program);
    fv_read(program, result, y, RESULTS * sizeof *y);
    if (fv_error(c)) fail_msg("%s: %s", device, fv_error(c));
    for (int32_t i = 0; i < program->task_count; i++)
        if (program->task[i].op == FV_OP_conv2d_bias_activation)
            snprintf(algorithm, 420, "%s", program->task[i].algorithm);
    fv_close(c);
}

static void close_to(const float *a, const float *b) {
    for (int i = 0; i < RESULTS; i++)
        if (!(fabsf(a[i] - b[i]) <= 1e-4f)) fail_msg("value %d is %.9g and %.9g", i, a[i], b[i]);
}

static json_t *load(void) {
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);
    if (!root) fail_msg("%s: %s", path, error.text);
    return root;
}

static void store(json_t *root) {
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
}

static void tune(const char *device) {
    unlink(path);
    fv_context *c = open_with(device, NULL);
    fv_value result;
    fv_net *net = make_net(c);
    fv_program *program = make_program(c, net, &result);
    float before[RESULTS], after[RESULTS];
    fv_run(program);
    fv_read(program, result, before, sizeof before);
    fv_tune(program, path, NULL);
    fv_read(program, result, after, sizeof after);
    assert_memory_equal(before, after, sizeof before); /* its arena, */
    fv_run(program);
    fv_read(program, result, after, sizeof after);
    assert_memory_equal(before, after, sizeof before); /* and its weights are as they were */
    if (fv_error(c)) fail_msg("%s", fv_error(c));
    fv_close(c);
}

/* The entry of the convolution. */
static json_t *entry_of_convolution(json_t *root) {
    const char *key;
    json_t *entry;
    json_object_foreach(json_object_get(root, "choices"), key,
                        entry) if (!strncmp(key, "conv2d_bias_activation ", 23)) return entry;
    fail_msg("the file has no convolution");
    return NULL;
}

static void check_device(const char *device) {
    float plain[RESULTS], tuned[RESULTS], again[RESULTS];
    char own[420], taken[420];
    answer(device, NULL, plain, own);
    tune(device);
    json_t *root = load();
    char wanted[420];
    snprintf(wanted, sizeof wanted, "%s", json_string_value(json_object_get(entry_of_convolution(root), "algorithm")));
    answer(device, path, tuned, taken);
    assert_string_equal(taken, wanted);
    close_to(plain, tuned);
    answer(device, path, again, taken);
    assert_memory_equal(tuned, again, sizeof tuned);

    /* a way that nobody would take by itself */
    const bool cpu = !strcmp(device, "cpu");
    json_t *entry = entry_of_convolution(root);
    json_object_set_new(entry, "choice", json_integer(cpu ? 5 : 2));
    if (cpu) json_object_set_new(entry, "algorithm", json_string("direct"));
    store(root);
    if (cpu) {
        answer(device, path, tuned, taken);
        assert_string_equal(taken, "direct");
        assert_true(strcmp(own, taken) != 0);
        close_to(plain, tuned);
    }
    /* a way whose name is another now, and one that does not exist */
    for (int choice = cpu ? 4 : 2; choice <= 16; choice += 12) {
        root = load();
        json_object_set_new(entry_of_convolution(root), "choice", json_integer(choice));
        json_object_set_new(entry_of_convolution(root), "algorithm", json_string("magic"));
        store(root);
        fv_context *c = open_with(device, path);
        fv_value result;
        make_program(c, make_net(c), &result);
        if (!fv_error(c) || !strstr(fv_error(c), "wants way") || !strstr(fv_error(c), "'magic'"))
            fail_msg("way %d: '%s'", choice, fv_error(c) ? fv_error(c) : "accepted");
        fv_close(c);
    }
}

static void the_cpu_takes_what_the_file_says(void **state) { check_device("cpu"); }
static void the_emulated_gpu_too(void **state) {
    if (!emulated) skip();
    check_device("cuda");
}

static void refused(const char *device, const char *text, const char *word) {
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    fv_context *c = open_with(device, path);
    if (!fv_error(c) || !strstr(fv_error(c), word))
        fail_msg("'%s': '%s' does not say '%s'", text, fv_error(c) ? fv_error(c) : "accepted", word);
    fv_close(c);
}

static void files_that_do_not_fit_are_refused(void **state) {
    refused("cpu", "", "test_tune.json: ");
    refused("cpu", "{", "test_tune.json: ");
    refused("cpu", "[]", "is not a file that 'fovea tune' has written");
    refused("cpu", "{\"format\": 1, \"device\": 5, \"choices\": {}}", "is not a file that 'fovea tune' has written");
    refused("cpu", "{\"format\": 2, \"device\": \"x\", \"choices\": {}}", "is of format 2, this library reads 1");
    refused("cpu", "{\"format\": 1, \"device\": \"abacus\", \"choices\": {}}",
            "was measured on abacus, and this is cpu, ");
    refused(
        "reference",
        "{\"format\": 1, \"device\": \"reference\", \"choices\": {\"relu\": {\"choice\": -1, \"algorithm\": \"\"}}}",
        "the entry of 'relu' is no choice");
    refused("reference", "{\"format\": 1, \"device\": \"reference\", \"choices\": {\"relu\": 7}}",
            "the entry of 'relu' is no choice");
    unlink(path);
    fv_context *c = open_with("cpu", path);
    if (!fv_error(c) || !strstr(fv_error(c), "test_tune.json"))
        fail_msg("a missing file: %s", fv_error(c) ? fv_error(c) : "accepted");
    fv_close(c);
    c = open_with("reference", NULL);
    fv_value result;
    fv_tune(make_program(c, make_net(c), &result), path, NULL);
    assert_string_equal(fv_error(c), "reference has one way for each operation: there is nothing to tune");
    fv_close(c);
}

/* The checkpoint knows the choices; going on with others is said, and going on with the same is not. */
static char *train(const char *tuned, int epochs, const char *resume) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *progress = open_memstream(&text, &bytes);
    fv_context *c = open_with("cpu", tuned);
    fv_net *net = fv_net_new(c, "digits");
    fv_node x = fv_conv2d(net, fv_input(net, 28, 28, 1), .filters = 4, .kernel = 3, .stride = 3);
    fv_output(net, fv_dense(net, fv_flatten(net, x), .units = 10));
    fv_fit(net, fv_digits(c, 32, 7), .epochs = epochs, .batch_size = 16, .output = folder, .resume = resume,
           .progress = progress, .optimizer = fv_sgd(.learning_rate = 0.05f));
    if (fv_error(c)) fail_msg("%s", fv_error(c));
    fv_close(c);
    fclose(progress);
    return text;
}

static void checkpoints_know_the_choices(void **state) {
    char last[PATH_MAX + 16];
    snprintf(last, sizeof last, "%s/last.h5", folder);
    tune("cpu");
    free(train(path, 1, NULL));
    char *text = train(path, 2, last);
    if (strstr(text, "tuned choices")) fail_msg("the same choices: %s", text);
    free(text);
    text = train(NULL, 3, last);
    if (!strstr(text, "was trained with tuned choices ") || !strstr(text, " and goes on with none"))
        fail_msg("without the file: %s", text);
    free(text);
    text = train(NULL, 4, last);
    if (strstr(text, "tuned choices")) fail_msg("without, as before: %s", text);
    free(text);
    text = train(path, 5, last);
    if (!strstr(text, "was trained with tuned choices none")) fail_msg("with the file again: %s", text);
    free(text);
}

int main(void) {
    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/test_tune.XXXXXX", temporary ? temporary : "/tmp");
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%.4000s/test_tune.json", folder);
    emulated = find_emulated() != NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cpu_takes_what_the_file_says),
        cmocka_unit_test(the_emulated_gpu_too),
        cmocka_unit_test(files_that_do_not_fit_are_refused),
        cmocka_unit_test(checkpoints_know_the_choices),
    };
    const int failed = cmocka_run_group_tests_name("tune", tests, NULL, NULL);
    char command[PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -rf '%.4000s'", folder);
    return system(command) || failed;
}
