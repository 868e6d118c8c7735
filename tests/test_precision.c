/* test_precision.c - programs of 16 bits: small nets train in bf16 and f16 to the loss of f32 within a bound, on every device there
 * is; they repeat and go on after a file bit for bit; weights have f32 masters, of which the shadow is the rounding; a step whose
 * gradients overflow in f16 changes nothing but the scale of the loss; what cannot be had is refused. */
#define _GNU_SOURCE
#include "core/half.h"
#include "io/io.h"
#include "scratch.h"
#include "support/emulated.h"
#include "train/train.h"
#include <math.h>

static const char *const devices[] = { "reference", "cpu", "cuda" };
static bool emulated; /* there is a CUDA device to test on */

/* ---- Nets -------------------------------------------------------------------------------------------------------- */

static fv_net *lenet(fv_context *c) { return fv_model(c, "lenet5"); }

/* Batch norm, depthwise convolution, both poolings, dropout, an addition, a concatenation, a penalty. */
static fv_net *mixed(fv_context *c) {
    fv_net *net = fv_net_new(c, "mixed");
    fv_node x = fv_conv2d(net, fv_input(net, 28, 28, 1), .filters = 8, .kernel = 3, .stride = 2, .l2 = 1e-3f);
    x = fv_batch_norm(net, x, .activation = FV_RELU);
    fv_node y = fv_depthwise_conv2d(net, x, .kernel = 3, .padding = FV_SAME);
    y = fv_batch_norm(net, y, .activation = FV_RELU6);
    x = fv_add(net, FV_NODES(x, y));
    x = fv_concat(net, FV_NODES(fv_max_pool2d(net, x, .size = 2), fv_avg_pool2d(net, x, .size = 2)));
    x = fv_conv2d(net, x, .filters = 6, .kernel = 3, .activation = FV_TANH);
    x = fv_dropout(net, fv_flatten(net, x), .rate = 0.2f);
    fv_output(net, fv_dense(net, x, .units = 10, .activation = FV_SOFTMAX, .name = "output"));
    return net;
}

/* ---- Training ---------------------------------------------------------------------------------------------------- */

enum { MOST_WEIGHTS = 1 << 17 };
typedef struct result {
    double loss, test_loss;
    int64_t count;
    float weight[MOST_WEIGHTS];
} result;

typedef struct setting {
    const char *device;
    fv_precision precision;
    fv_net *(*make)(fv_context *);
    const char *output, *resume;
    int epochs, stop_after;
} setting;

static fv_context *open_with(const char *device, fv_precision precision) {
    return fv_open_with(&(fv_open_options){
        .struct_size = sizeof(fv_open_options), .device = device, .threads = 1, .seed = 5, .precision = precision });
}

static void read_weights(fv_net *net, result *r) {
    fv_store *store = fv_net_store(net);
    r->count = store->parameters;
    assert_true(r->count <= MOST_WEIGHTS);
    assert_int_equal(fv_store_read(store, FV_PARAMETERS, 0, r->count, r->weight), 0);
}

static void train(const setting *s, result *r) {
    fv_context *c = open_with(s->device, s->precision);
    fv_net *net = s->make(c);
    fv_dataset *data = fv_digits(c, 48, 7);
    fv_fit(net, data, .epochs = s->epochs ? s->epochs : 2, .batch_size = 16,
           .optimizer = fv_adam(.learning_rate = 0.002f), .output = s->output, .resume = s->resume,
           .stop_after_steps = s->stop_after);
    fv_history h = fv_net_history(net);
    fv_result test = { .struct_size = sizeof test };
    fv_evaluate(net, data, .result = &test);
    if (fv_error(c)) fail_msg("%s %s: %s", s->device, fv_precision_name(s->precision), fv_error(c));
    r->loss = h.count ? h.epoch[h.count - 1].loss : 0;
    r->test_loss = test.loss;
    read_weights(net, r);
    fv_close(c);
}

static result plain, half, again; /* too large for the stack */

/* The loss of two epochs: a part in 2^-8 (bf16) or 2^-11 (f16) of it for each rounding that lasts, of which there are a few. */
static double bound(fv_precision p, double loss) { return (p == FV_PRECISION_BF16 ? 4 * 0x1p-8 : 4 * 0x1p-11) * loss; }

static void trains_to_the_loss_of_f32(fv_net *(*make)(fv_context *)) {
    train(&(setting){ .device = "reference", .precision = FV_PRECISION_F32, .make = make }, &plain);
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++)
        for (fv_precision p = FV_PRECISION_BF16; p <= FV_PRECISION_F16; p++) {
            if (!strcmp(devices[d], "cuda") && !emulated) continue;
            const setting s = { .device = devices[d], .precision = p, .make = make };
            train(&s, &half);
            print_message("%s %s: loss %.5f and %.5f, in f32 %.5f and %.5f\n", s.device, fv_precision_name(p),
                          half.loss, half.test_loss, plain.loss, plain.test_loss);
            assert_true(fabs(half.loss - plain.loss) <= bound(p, plain.loss));
            assert_true(fabs(half.test_loss - plain.test_loss) <= bound(p, plain.test_loss));
            assert_true(half.loss != plain.loss); /* it is another arithmetic */
            train(&s, &again);
            assert_memory_equal(half.weight, again.weight, (size_t)half.count * sizeof(float));
            assert_true(half.loss == again.loss && half.test_loss == again.test_loss);
        }
}
static void lenet_trains(void **state) { trains_to_the_loss_of_f32(lenet); }
static void mixed_trains(void **state) { trains_to_the_loss_of_f32(mixed); }

/* ---- Masters and shadow ------------------------------------------------------------------------------------------ */

static uint16_t shadow[MOST_WEIGHTS];

static void weights_are_f32(void **state) {
    fv_context *c = open_with("cpu", FV_PRECISION_BF16);
    fv_net *net = lenet(c), *other;
    fv_fit(net, fv_digits(c, 32, 7), .epochs = 1, .batch_size = 16);
    assert_int_equal(fv_evaluate(net, fv_digits(c, 32, 7)), 0); /* which rounds the newest weights */
    read_weights(net, &half);
    fv_store *store = fv_net_store(net);
    assert_int_equal(fv_store_read(store, FV_SHADOW_BF16, 0, store->parameters, shadow), 0);
    int64_t fine = 0;
    for (int64_t i = 0; i < half.count; i++) {
        assert_int_equal(shadow[i], fv_to_bf16(half.weight[i]));
        fine += fv_from_bf16(shadow[i]) != half.weight[i];
    }
    assert_true(fine > half.count / 2);
    assert_int_equal(fv_save(net, path_of("half.h5")), 0);
    fv_close(c);

    c = open_with("cpu", FV_PRECISION_F32);
    other = fv_load(c, path_of("half.h5"));
    assert_non_null(other);
    read_weights(other, &again);
    assert_memory_equal(half.weight, again.weight, (size_t)half.count * sizeof(float));
    fv_close(c);
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

static void goes_on_bit_for_bit(void **state) {
    for (fv_precision p = FV_PRECISION_BF16; p <= FV_PRECISION_F16; p++) {
        setting s = { .device = "cpu", .precision = p, .make = mixed, .epochs = 3, .output = path_of("one") };
        train(&s, &half);
        s.output = path_of("two");
        s.stop_after = 4; /* in the middle of the second epoch */
        train(&s, &again);
        s.stop_after = 0;
        s.resume = path_of("two/last.h5");
        train(&s, &again);
        assert_memory_equal(half.weight, again.weight, (size_t)half.count * sizeof(float));
        assert_true(half.loss == again.loss);
    }
}

/* ---- The scale of the loss --------------------------------------------------------------------------------------- */

static void overflow_skips_the_step(void **state) {
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++) {
        if (!strcmp(devices[d], "cuda") && !emulated) continue;
        fv_context *c = open_with(devices[d], FV_PRECISION_F16);
        fv_net *net = mixed(c);
        fv_dataset *data = fv_digits(c, 16, 7);
        const fv_optimizer adam = fv_adam();
        assert_int_equal(fv_fit(net, data, .epochs = 1, .batch_size = 16, .optimizer = adam), 0);
        fv_training *t = fv_net_training(net);
        assert_true(t->loss_scale == FV_LOSS_SCALE_FIRST && t->good_steps == 1 && t->step == 1);
        read_weights(net, &half);
        t->loss_scale = 0x1p60f; /* f16 ends at 65504 */
        assert_int_equal(fv_fit(net, data, .epochs = 2, .batch_size = 16, .optimizer = adam), 0);
        if (fv_error(c)) fail_msg("%s", fv_error(c));
        read_weights(net, &again);
        assert_memory_equal(half.weight, again.weight, (size_t)half.count * sizeof(float));
        assert_true(t->loss_scale == 0x1p58f && t->good_steps == 0 && t->step == 1);
        t->loss_scale = 0x1p4f;
        t->good_steps = FV_LOSS_SCALE_STEPS - 1;
        assert_int_equal(fv_fit(net, data, .epochs = 1, .batch_size = 16, .optimizer = adam), 0);
        read_weights(net, &again);
        assert_true(t->loss_scale == 0x1p5f && t->good_steps == 0 && t->step == 2);
        assert_true(memcmp(half.weight, again.weight, (size_t)half.count * sizeof(float)) != 0);
        fv_close(c);
    }
}

/* ---- What is asked for ------------------------------------------------------------------------------------------- */

static void values_are_read_as_f32(void **state) {
    const float x[4] = { 1, -2.7182818f, 3.1415927f, 100.03f };
    for (int debug = 0; debug < 2; debug++) {
        fv_tape *t = fv_tape_new(ctx);
        const fv_value in = fv_op_input(t, (int64_t[]){ 2, 2 }, 2, FV_F32);
        const fv_value y = FV_APPLY(t, FV_OP_relu, NULL, FV_APPLY(t, FV_OP_matmul, NULL, in, in));
        fv_keep(t, y);
        fv_program *p = fv_compile_with(t, &(fv_compile_options){ .struct_size = sizeof(fv_compile_options),
                                                                  .debug = debug != 0,
                                                                  .precision = FV_PRECISION_BF16 });
        float out[4], r[4];
        for (int i = 0; i < 4; i++) r[i] = fv_from_bf16(fv_to_bf16(x[i]));
        assert_int_equal(fv_write(p, in, x, sizeof x), 0);
        assert_int_equal(fv_run(p), 0);
        assert_int_equal(fv_read(p, y, out, sizeof out), 0);
        for (int i = 0; i < 4; i++) {
            const double sum =
                (double)r[i / 2 * 2] * (double)r[i % 2] + (double)r[i / 2 * 2 + 1] * (double)r[2 + i % 2];
            assert_true(out[i] == fmaxf(0, fv_from_bf16(fv_to_bf16((float)sum))));
        }
        fv_program_free(p);
        fv_tape_free(t);
    }
    assert_works();
}

static void what_cannot_be_had_is_refused(void **state) {
    fv_context *c = open_with("cpu", FV_PRECISION_TF32);
    assert_string_equal(fv_error(c), "cpu cannot compute in tf32: it has f32, bf16, f16");
    fv_close(c);
    c = open_with("cpu", (fv_precision)9);
    assert_non_null(strstr(fv_error(c), "no precision number 9"));
    fv_close(c);
    fv_tape *t = fv_tape_new(ctx);
    const fv_value a = fv_op_input(t, (int64_t[]){ 2 }, 1, FV_BF16), b = fv_op_input(t, (int64_t[]){ 2 }, 1, FV_F32);
    FV_APPLY(t, FV_OP_add, NULL, a, b);
    assert_fails(FV_ERROR_ARGUMENT, "input 1 is f32 where another is bf16");
    FV_APPLY(t, FV_OP_exp, NULL, a);
    assert_fails(FV_ERROR_ARGUMENT, "must be f32, not bf16");
    fv_tape_free(t);
}

int main(void) {
    if (!getenv("FOVEA_BACKEND_PATH")) find_emulated();
    fv_context *c = fv_open("cuda");
    emulated = !fv_error(c);
    fv_close(c);
    if (!emulated) printf("no CUDA device, not even an emulated one: not tested there\n");
    const struct CMUnitTest tests[] = { TEST(lenet_trains),
                                        TEST(mixed_trains),
                                        TEST(weights_are_f32),
                                        TEST(goes_on_bit_for_bit),
                                        TEST(overflow_skips_the_step),
                                        TEST(values_are_read_as_f32),
                                        TEST(what_cannot_be_had_is_refused) };
    return run_in_scratch("precision", tests);
}
