/* test_cuda.c - the CUDA backend's host code on a machine without a GPU: the emulated plugin runs the same sources over a fake
 * runtime below cuDNN's and cuBLASLt's real descriptors (tests/cuda). Training there must give what the CPU gives, captured or
 * not; every call that can fail fails once and for good, and nothing may leak or pass in silence. The operations themselves are
 * in test_cuda.sh. Skipped where the plugin was not built. */
#define _GNU_SOURCE
#include "core/core.h"
#include "support/emulated.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static fake_control *gpu; /* of the emulated plugin */
static bool no_capture;

static void need_plugin(void) {
    if (!gpu) skip();
}

/* ---- One small training with all that keeps state ---------------------------------------------------------------------- */

typedef struct outcome_of_training {
    fv_status status;
    char sentence[1024];
    double loss, test_loss;
    float weight[64];
} outcome_of_training;

static fv_context *open_on(const char *device) {
    return fv_open_with(&(fv_open_options){
        .struct_size = sizeof(fv_open_options), .device = device, .threads = 1, .seed = 5, .no_capture = no_capture });
}

static outcome_of_training train(const char *device) {
    outcome_of_training o = { 0 };
    fv_context *c = open_on(device);
    fv_net *net = fv_net_new(c, "small");
    fv_node x = fv_conv2d(net, fv_input(net, 28, 28, 1), .filters = 4, .kernel = 5, .stride = 3, .l2 = 1e-3f);
    x = fv_batch_norm(net, x, .activation = FV_RELU);
    x = fv_max_pool2d(net, x, .size = 2);
    x = fv_dropout(net, fv_flatten(net, x), .rate = 0.3f);
    fv_output(net, fv_dense(net, x, .units = 10, .activation = FV_SOFTMAX, .name = "output"));
    fv_dataset *data = fv_digits(c, 64, 7);
    fv_augment(data, .flip = true, .crop = 2);
    fv_fit(net, data, .epochs = 2, .batch_size = 16, .optimizer = fv_sgd(.learning_rate = 0.05f, .momentum = 0.9f));
    fv_history h = fv_net_history(net);
    if (h.count) o.loss = h.epoch[h.count - 1].loss;
    fv_result r = { .struct_size = sizeof r };
    fv_evaluate(net, data, .result = &r);
    o.test_loss = r.loss;
    fv_get_weights(net, "output", 1, FV_NATIVE, o.weight, 10 * sizeof(float));
    if (c) o.status = fv_error_status(c);
    if (c && fv_error(c)) snprintf(o.sentence, sizeof o.sentence, "%s", fv_error(c));
    fv_close(c);
    return o;
}

static void same_training(const outcome_of_training *a, const outcome_of_training *b, double bound) {
    if (a->status || b->status) fail_msg("%s%s", a->sentence, b->sentence);
    if (fabs(a->loss - b->loss) > bound * fabs(a->loss) ||
        fabs(a->test_loss - b->test_loss) > bound * fabs(a->test_loss))
        fail_msg("losses %.9g and %.9g, test losses %.9g and %.9g", a->loss, b->loss, a->test_loss, b->test_loss);
    for (int i = 0; i < 10; i++)
        if (fabs(a->weight[i] - b->weight[i]) > bound)
            fail_msg("weight %d is %.9g and %.9g", i, a->weight[i], b->weight[i]);
}

static void nothing_is_left(const char *when) {
    if (gpu->used || gpu->objects)
        fail_msg("%s: %zu bytes of the device and %ld objects are left", when, gpu->used, gpu->objects);
}

/* ---- The tests ---------------------------------------------------------------------------------------------------------- */

static void trains_as_the_cpu_does(void **state) {
    need_plugin();
    const outcome_of_training cpu = train("cpu"), cuda = train("cuda");
    same_training(&cpu, &cuda, 1e-4);
    nothing_is_left("after training");
    assert_int_equal(gpu->complaints, 0);
}

/* Lazily executed work shows a missing wait; results must be the same bits. */
static void does_not_depend_on_when_work_runs(void **state) {
    need_plugin();
    const outcome_of_training eager = train("cuda");
    gpu->lazy = 1;
    const outcome_of_training lazy = train("cuda");
    gpu->lazy = 0;
    same_training(&eager, &lazy, 0);
    assert_int_equal(gpu->complaints, 0);
    nothing_is_left("after lazy training");
}

/* Without capture every step is launched anew, which takes more calls, and gives the same bits: nothing that changes was
 * frozen into the graph. */
static void captured_steps_are_eager_steps(void **state) {
    need_plugin();
    gpu->calls = 0;
    const outcome_of_training captured = train("cuda");
    const long calls = gpu->calls;
    no_capture = true;
    gpu->calls = 0;
    const outcome_of_training eager = train("cuda");
    no_capture = false;
    if (gpu->calls <= calls) fail_msg("%ld calls eager, %ld captured: nothing was captured", gpu->calls, calls);
    same_training(&captured, &eager, 0);
}

/* Data that is fetched batch by batch, as what does not fit into the device is: through pinned memory on a stream of its own. The same
 * bits as with data that lies on the device, whenever work runs; the pieces fail as all calls do. */
enum { PIXELS = 28 * 28, PICTURES = 70 };
static float pictures[PICTURES][PIXELS];
static int32_t labels[PICTURES];

static int fetch(void *user, const int64_t *samples, int count, void *const *inputs, void *const *targets) {
    for (int i = 0; i < count; i++) {
        memcpy((float *)inputs[0] + (size_t)i * PIXELS, pictures[samples[i]], sizeof *pictures);
        ((int32_t *)targets[0])[i] = labels[samples[i]];
    }
    return 0;
}

static outcome_of_training train_on_pictures(bool streamed) {
    outcome_of_training o = { 0 };
    fv_context *c = open_on("cuda");
    fv_net *net = fv_net_new(c, "small");
    fv_node x = fv_conv2d(net, fv_input(net, 28, 28, 1), .filters = 4, .kernel = 5, .stride = 3, .activation = FV_RELU);
    fv_output(net, fv_dense(net, fv_flatten(net, x), .units = 10, .name = "output"));
    fv_array input = { .type = FV_F32, .rank = 4, .dims = { PICTURES, 28, 28, 1 }, .data = pictures },
             target = { .type = FV_I32, .rank = 1, .dims = { PICTURES }, .data = labels },
             picture = { .type = FV_F32, .rank = 3, .dims = { 28, 28, 1 } }, label = { .type = FV_I32 };
    fv_dataset *data =
        streamed ? fv_dataset_from_callback(c, &(fv_callback_options){ .struct_size = sizeof(fv_callback_options),
                                                                       .samples = PICTURES,
                                                                       .fetch = fetch,
                                                                       .inputs = &picture,
                                                                       .input_count = 1,
                                                                       .targets = &label,
                                                                       .target_count = 1 })
                 : fv_dataset_from_memory(c, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                                   .inputs = &input,
                                                                   .input_count = 1,
                                                                   .targets = &target,
                                                                   .target_count = 1 });
    fv_fit(net, data, .epochs = 2, .batch_size = 16, .optimizer = fv_sgd(.learning_rate = 0.05f, .momentum = 0.9f));
    fv_history h = fv_net_history(net);
    if (h.count) o.loss = h.epoch[h.count - 1].loss;
    fv_get_weights(net, "output", 1, FV_NATIVE, o.weight, 10 * sizeof(float));
    o.status = fv_error_status(c);
    if (fv_error(c)) snprintf(o.sentence, sizeof o.sentence, "%s", fv_error(c));
    fv_close(c);
    return o;
}

static void streamed_data_is_resident_data(void **state) {
    need_plugin();
    for (int i = 0; i < PICTURES; i++) {
        labels[i] = i % 10;
        for (int k = 0; k < PIXELS; k++) pictures[i][k] = (float)((i * 31 + k * 17) % 97) / 97;
    }
    gpu->calls = 0;
    const outcome_of_training resident = train_on_pictures(false);
    const long resident_calls = gpu->calls;
    for (gpu->lazy = 0; gpu->lazy < 2; gpu->lazy++) {
        const outcome_of_training streamed = train_on_pictures(true);
        same_training(&resident, &streamed, 0);
        nothing_is_left("after streaming");
    }
    gpu->lazy = 0;
    assert_int_equal(gpu->complaints, 0);
    gpu->calls = 0;
    train_on_pictures(true);
    const long calls = gpu->calls; /* each batch: waits, events, copies on two streams */
    if (calls < resident_calls + 50)
        fail_msg("%ld calls streamed, %ld resident: nothing was streamed", calls, resident_calls);
    gpu->quiet = 1;
    for (long n = 1; n <= calls; n += getenv("FOVEA_QUICK") ? 37 : 5) {
        gpu->calls = 0;
        gpu->fail_at = n;
        const outcome_of_training o = train_on_pictures(true);
        gpu->fail_at = 0;
        nothing_is_left(gpu->failed_call ? gpu->failed_call : "?");
        if (o.status && (!*o.sentence || strchr(o.sentence, '\n')))
            fail_msg("call %ld (%s) fails with '%s'", n, gpu->failed_call, o.sentence);
        if (!o.status && strncmp(gpu->failed_call, "cudnn", 5) != 0) same_training(&resident, &o, 1e-4);
    }
    gpu->quiet = 0;
    gpu->complaints = 0;
}

static void every_call_may_fail(void **state) {
    need_plugin();
    gpu->calls = 0;
    const outcome_of_training sound = train("cuda");
    const long calls = gpu->calls;
    assert_int_equal(sound.status, FV_OK);
    assert_true(calls > 500);
    const bool quick = getenv("FOVEA_QUICK") != NULL;
    long failed = 0;
    gpu->quiet = 1;
    for (long n = 1; n <= calls; n += quick ? 97 : 23)
        for (gpu->sticky = 0; gpu->sticky < 2; gpu->sticky++) {
            gpu->calls = 0;
            gpu->fail_at = n;
            const outcome_of_training o = train("cuda");
            gpu->fail_at = 0;
            nothing_is_left(gpu->failed_call ? gpu->failed_call : "?");
            if (o.status == FV_OK) continue; /* such as a kernel of cuDNN that another replaces */
            failed++;
            if (!*o.sentence || strchr(o.sentence, '\n'))
                fail_msg("call %ld (%s) fails with '%s'", n, gpu->failed_call, o.sentence);
        }
    gpu->quiet = gpu->sticky = 0;
    gpu->complaints = 0;
    print_message("%ld calls; %ld failures told\n", calls, failed);
    assert_true(failed > 0);
    const outcome_of_training again = train("cuda");
    same_training(&sound, &again, 0);
}

/* ---- What is missing is said in one sentence ---------------------------------------------------------------------------- */

static void opens_with(fv_status status, const char *sentence) {
    fv_context *c = fv_open("cuda");
    assert_int_equal(fv_error_status(c), status);
    if (strcmp(fv_error(c), sentence)) fail_msg("'%s' is not '%s'", fv_error(c), sentence);
    fv_close(c);
    c = fv_open("auto"); /* goes on without it and says why, but for a GPU that is there and does not open */
    if (gpu->no_image)
        assert_int_equal(fv_error_status(c), status);
    else if (fv_error(c) || strncmp(fv_device_line(c), "cpu, ", 5) || !strstr(fv_device_line(c), "(no CUDA: "))
        fail_msg("auto: %s: %s", fv_error(c) ? fv_error(c) : "", fv_device_line(c));
    fv_close(c);
    nothing_is_left("after a refusal");
}

static void what_is_missing_is_said(void **state) {
    need_plugin();
    const int driver = gpu->driver;
    gpu->driver = 0;
    opens_with(FV_ERROR_DEVICE,
               "device 'cuda' cannot be used: no NVIDIA driver is installed (libcuda.so.1 is missing)");
    gpu->driver = 12040;
    char wanted[200];
    snprintf(
        wanted, sizeof wanted,
        "device 'cuda' cannot be used: the NVIDIA driver supports CUDA 12.4, this build needs %d.%d: update the driver",
        driver / 1000, driver % 1000 / 10);
    opens_with(FV_ERROR_DEVICE, wanted);
    gpu->driver = driver;
    gpu->no_device = 1;
    opens_with(FV_ERROR_DEVICE,
               "device 'cuda' cannot be used: the NVIDIA driver finds no GPU (CUDA_VISIBLE_DEVICES may hide it)");
    gpu->no_device = 0;
    gpu->no_image = 1;
    gpu->device = 3;
    opens_with(FV_ERROR_DEVICE,
               "cuda:0: there is no code for emulated NVIDIA L40S (compute capability 8.9): build with CUDA_ARCH=89");
    gpu->no_image = gpu->device = 0;
    fv_context *c = fv_open("cuda:1");
    assert_string_equal(fv_error(c), "device 'cuda:1': cuda has 1 device, counted from 0");
    fv_close(c);
    c = fv_open("auto");
    if (!strstr(fv_device_line(c), "(chosen because it is there)"))
        fail_msg("'%s' does not say why", fv_device_line(c));
    fv_close(c);
}

/* Not enough memory on the device: one sentence with what was needed, what is free and which batch would fit; a smaller one
 * then does. */
static void too_little_memory_is_told(void **state) {
    need_plugin();
    fv_context *c = open_on("cuda");
    fv_net *net = fv_net_new(c, "wide");
    fv_node x = fv_conv2d(net, fv_input(net, 28, 28, 1), .filters = 16, .kernel = 3);
    fv_output(net, fv_dense(net, fv_flatten(net, fv_max_pool2d(net, x, .size = 2)), .units = 10));
    fv_dataset *data = fv_digits(c, 64, 7);
    const size_t capacity = gpu->capacity;
    gpu->capacity = 4 << 20;
    fv_fit(net, data, .epochs = 1, .batch_size = 64, .optimizer = fv_sgd(.learning_rate = 0.05f));
    char sentence[1024];
    snprintf(sentence, sizeof sentence, "%s", fv_error(c) ? fv_error(c) : "it fits");
    assert_int_equal(fv_error_status(c), FV_ERROR_MEMORY);
    if (!strstr(sentence, " needs ") || !strstr(sentence, " are free") || !strstr(sentence, "would fit"))
        fail_msg("'%s' does not say what is needed, what is free and what would fit", sentence);
    fv_clear_error(c);
    fv_fit(net, data, .epochs = 1, .batch_size = 8, .optimizer = fv_sgd(.learning_rate = 0.05f));
    if (fv_error(c)) fail_msg("a smaller batch: %s", fv_error(c));
    gpu->capacity = capacity;
    fv_close(c);
    nothing_is_left("after too little memory");
}

/* A shape that cuDNN refuses is done by plain kernels, and the profile repeats cuDNN's words. */
static void what_cudnn_refuses_is_shown(void **state) {
    need_plugin();
    gpu->no_plans = 1;
    fv_context *c = open_on("cuda");
    fv_net *net = fv_net_new(c, "plain");
    fv_output(net, fv_conv2d(net, fv_input(net, 6, 6, 2), .filters = 3, .kernel = 3));
    fv_tape *tape = fv_tape_new(c);
    fv_value y =
        fv_record(tape, net, FV_VALUES(fv_op_input(tape, (int64_t[]){ 1, 6, 6, 2 }, 4, FV_F32)), FV_MODE_INFER);
    fv_keep(tape, y);
    fv_program *program = fv_compile(tape);
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    fv_program_profile(program, 1, stream);
    fclose(stream);
    gpu->no_plans = 0;
    if (fv_error(c) || !strstr(text, "plain kernel: cuDNN has no plan ("))
        fail_msg("%s\n%s", fv_error(c) ? fv_error(c) : "", text);
    free(text);
    fv_close(c);
    nothing_is_left("after a plain kernel");
}

/* Every operation has a kernel here, but for those that only rename memory. */
static void every_operation_is_there(void **state) {
    need_plugin();
    fv_context *c = open_on("cuda");
    char missing[2000] = "";
    for (int op = FV_OP_NONE + 1; op < FV_OP_COUNT; op++)
        if (!c->backend->kernels[op].run)
            snprintf(missing + strlen(missing), sizeof missing - strlen(missing), " %s", fv_op_name((fv_op)op));
    fv_close(c);
    if (*missing) fail_msg("no CUDA kernel:%s", missing);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_is_there),          cmocka_unit_test(trains_as_the_cpu_does),
        cmocka_unit_test(does_not_depend_on_when_work_runs), cmocka_unit_test(captured_steps_are_eager_steps),
        cmocka_unit_test(too_little_memory_is_told),         cmocka_unit_test(every_call_may_fail),
        cmocka_unit_test(streamed_data_is_resident_data),    cmocka_unit_test(what_is_missing_is_said),
        cmocka_unit_test(what_cudnn_refuses_is_shown),
    };
    gpu = find_emulated();
    return cmocka_run_group_tests_name("cuda", tests, NULL, NULL);
}
