/* test_activation.c - every activation and its gradient against PyTorch's numbers (tests/tables/activations.h), on both
 * backends; the layers that have parameters against their definition; functions of the tape that layers do not reach. */
#include "fovea.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tables/activations.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static const char *const devices[] = { "reference", "cpu" };

static void assert_near(double value, double wanted, double tolerance, const char *what, int i) {
    if (isnan(wanted) ? !isnan(value) : !(fabs(value - wanted) <= tolerance * (1e-3 + fabs(wanted))))
        fail_msg("%s, element %d: %.9g instead of %.9g", what, i, value, wanted);
}

/* y = f(x) and the gradient of its sum. */
static void run(const char *device, fv_value (*f)(fv_tape *, fv_value, const void *), const void *argument,
                const float *x, int n, float *y, float *dx) {
    fv_context *c = fv_open(device);
    fv_tape *t = fv_tape_new(c);
    fv_value input = fv_op_input(t, (int64_t[]){ n }, 1, FV_F32);
    fv_watch(t, input);
    fv_value output = f(t, input, argument);
    fv_keep(t, output);
    fv_backward(t, fv_op_sum(t, output, NULL, 0, false));
    fv_value gradient = fv_gradient(t, input);
    fv_keep(t, gradient);
    fv_program *p = fv_compile(t);
    fv_write(p, input, x, sizeof(float) * (size_t)n);
    fv_run(p);
    fv_read(p, output, y, sizeof(float) * (size_t)n);
    fv_read(p, gradient, dx, sizeof(float) * (size_t)n);
    if (fv_error(c)) fail_msg("%s", fv_error(c));
    fv_close(c);
}

static fv_value activation(fv_tape *t, fv_value x, const void *number) {
    return fv_op_activation(t, x, *(const fv_activation *)number);
}

static void pytorch_agrees(void **state) {
    (void)state;
    for (int d = 0; d < COUNT(devices); d++)
        for (int k = 0; k < COUNT(table); k++) {
            float y[POINTS], dx[POINTS];
            char what[64];
            run(devices[d], activation, &table[k].activation, points, POINTS, y, dx);
            for (int i = 0; i < POINTS; i++) {
                snprintf(what, sizeof what, "activation %d on %s, value", (int)table[k].activation, devices[d]);
                assert_near(y[i], table[k].value[i], 1e-6, what, i);
                snprintf(what, sizeof what, "activation %d on %s, slope", (int)table[k].activation, devices[d]);
                assert_near(dx[i], table[k].slope[i], 3e-4, what, i);
            }
        }
}

/* ---- Layers ------------------------------------------------------------------------------------------------------ */

enum { ROWS = 2, CHANNELS = 3, VALUES = ROWS * CHANNELS };
static const float sample[VALUES] = { -2, -0.25f, 0.5f, 1.5f, 3, 8 };

static void predict(fv_net *net, float *out) {
    fv_array input = { .data = sample, .type = FV_F32, .rank = 3, .dims = { 1, ROWS, CHANNELS } };
    if (fv_predict(net, NULL, .inputs = &input, .input_count = 1, .count = 1, .output = out,
                   .output_bytes = VALUES * sizeof *out))
        fail_msg("fv_predict");
}

static void layers_follow_their_definition(void **state) {
    (void)state;
    for (int d = 0; d < COUNT(devices); d++)
        for (int kind = 0; kind < 10; kind++) {
            fv_context *c = fv_open(devices[d]);
            fv_net *net = fv_net_new(c, "layers");
            fv_node x = fv_input(net, ROWS, CHANNELS), y = x;
            float out[VALUES];
            switch (kind) {
            case 0: y = fv_leaky_relu(net, x); break;
            case 1: y = fv_elu(net, x, .alpha = 0.5f); break;
            case 2: y = fv_relu(net, x, .max_value = 6, .negative_slope = 0.1f, .threshold = 1); break;
            case 3: y = fv_relu(net, x, .max_value = 2); break;
            case 4: y = fv_relu(net, x, .max_value = 2, .negative_slope = 0.5f); break;
            case 5: y = fv_prelu(net, x, .shared_axes = { 1 }, .alpha_initializer = fv_constant(0.25f)); break;
            case 6: y = fv_softmax(net, x, .axis = 1); break;
            case 7: y = fv_rescaling(net, x, .scale = 2, .offset = -1); break;
            case 8: y = fv_average(net, FV_NODES(x, fv_maximum(net, FV_NODES(x, fv_rescaling(net, x, .scale = -1))))); break;
            default: y = fv_minimum(net, FV_NODES(x, fv_rescaling(net, x, .scale = FV_ZERO, .offset = 1))); break;
            }
            fv_output(net, y);
            predict(net, out);
            if (fv_error(c)) fail_msg("%s", fv_error(c));
            for (int i = 0; i < VALUES; i++) {
                const double v = sample[i], other = sample[(i + CHANNELS) % VALUES];
                const double wanted[] = { v < 0 ? 0.3 * v : v,
                                          v < 0 ? 0.5 * expm1(v) : v,
                                          v > 1 ? fmin(v, 6) : 0.1 * (v - 1),
                                          fmin(fmax(v, 0), 2),
                                          fmin(v < 0 ? 0.5 * v : v, 2),
                                          v < 0 ? 0.25 * v : v,
                                          1 / (1 + exp(other - v)),
                                          2 * v - 1,
                                          (v + fabs(v)) / 2,
                                          fmin(v, 1) };
                char what[32];
                snprintf(what, sizeof what, "layer %d on %s", kind, devices[d]);
                assert_near(out[i], wanted[kind], 1e-5, what, i);
            }
            fv_close(c);
        }
}

/* A net trains through every activation: each gradient reaches the first layer. */
static void slopes_of_prelu_are_learned(void **state) {
    (void)state;
    fv_context *c = fv_open("cpu");
    fv_net *net = fv_net_new(c, "prelu");
    fv_node x = fv_input(net, 1);
    fv_output(net, fv_prelu(net, x, .name = "p"));
    float inputs[64], targets[64], slope;
    for (int i = 0; i < 64; i++) {
        inputs[i] = (float)(i - 32) / 16;
        targets[i] = inputs[i] < 0 ? 0.3f * inputs[i] : inputs[i];
    }
    fv_array in = { .data = inputs, .type = FV_F32, .rank = 2, .dims = { 64, 1 } };
    fv_array out = { .data = targets, .type = FV_F32, .rank = 2, .dims = { 64, 1 } };
    fv_dataset *data = fv_dataset_from_memory(c, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options),
                                                                       .inputs = &in, .input_count = 1,
                                                                       .targets = &out, .target_count = 1 });
    fv_fit(net, data, .epochs = 40, .batch_size = 16, .optimizer = fv_sgd(.learning_rate = 0.1f));
    fv_get_weights(net, "p", 0, FV_NATIVE, &slope, sizeof slope);
    if (fv_error(c)) fail_msg("%s", fv_error(c));
    assert_near(slope, 0.3, 1e-3, "the slope", 0);
    fv_close(c);
}

/* ---- The tape ---------------------------------------------------------------------------------------------------- */

/* sum of |x|^1.5 where x < 2, clamped, else 3: its gradient by hand */
static fv_value composed(fv_tape *t, fv_value x, const void *argument) {
    (void)argument;
    fv_value small = fv_op_less(t, x, fv_op_scalar(t, 2));
    fv_value y = fv_op_where(t, small, fv_op_power(t, fv_op_abs(t, x), fv_op_scalar(t, 1.5f)), fv_op_scalar(t, 3));
    return fv_op_clamp(t, y, 0.25f, INFINITY);
}

static void functions_compose(void **state) {
    (void)state;
    const float x[] = { -4, -1.5f, -0.0625f, 0.5f, 1, 1.75f, 2, 7 };
    for (int d = 0; d < COUNT(devices); d++) {
        float y[8], dx[8];
        run(devices[d], composed, NULL, x, 8, y, dx);
        for (int i = 0; i < 8; i++) {
            const double power = pow(fabs(x[i]), 1.5), slope = copysign(1.5 * sqrt(fabs(x[i])), x[i]);
            assert_near(y[i], x[i] < 2 ? fmax(power, 0.25) : 3, 1e-6, devices[d], i);
            assert_near(dx[i], x[i] < 2 && power > 0.25 ? slope : 0, 1e-6, devices[d], i);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pytorch_agrees),
        cmocka_unit_test(layers_follow_their_definition),
        cmocka_unit_test(slopes_of_prelu_are_learned),
        cmocka_unit_test(functions_compose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
