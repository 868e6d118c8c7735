/* test_batch_norm.c - a layer with state against Keras and torch: batch normalisation over several training steps, its
 * output, gradients and running statistics after each, then inference with what they have become. */
#include "net/net.h"
#include "tables/batch_norm.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void assert_near(const char *what, const char *device, int step, const float *got, const float *wanted,
                        int count) {
    for (int i = 0; i < count; i++)
        if (!(fabsf(got[i] - wanted[i]) <= 2e-5f * (1 + fabsf(wanted[i]))))
            fail_msg("%s of step %d on %s: element %d is %.9g, not %.9g", what, step, device, i, (double)got[i],
                     (double)wanted[i]);
}

static void compare_value(const char *what, const char *device, int step, fv_program *p, fv_value v,
                          const float *wanted, int count) {
    float got[ELEMENTS];
    assert_int_equal(fv_read(p, v, got, sizeof(float) * (size_t)count), FV_OK);
    assert_near(what, device, step, got, wanted, count);
}

static void train_and_infer(const char *device) {
    fv_context *c = fv_open(device);
    fv_net *net = fv_net_new(c, "n");
    fv_node in = fv_input(net, batch_dims[1], batch_dims[2], batch_dims[3]);
    fv_output(net, fv_batch_norm(net, in, .momentum = batch_momentum, .epsilon = batch_epsilon, .name = "n"));
    fv_set_weights(net, "n", 0, FV_KERAS, batch_gamma[0], sizeof batch_gamma[0]);
    fv_set_weights(net, "n", 1, FV_KERAS, batch_beta[0], sizeof batch_beta[0]);

    fv_tape *t = fv_tape_new(c);
    const fv_value x = fv_op_input(t, batch_dims, 4, FV_F32), dy = fv_op_input(t, batch_dims, 4, FV_F32);
    fv_watch(t, x);
    const fv_value y = fv_record(t, net, FV_VALUES(x), FV_MODE_TRAIN);
    fv_backward(t, fv_op_sum(t, fv_op_mul(t, y, dy), NULL, 0, false));
    const fv_value dx = fv_gradient(t, x), dgamma = fv_gradient(t, fv_weight_value(t, net, "n", 0));
    const fv_value dbeta = fv_gradient(t, fv_weight_value(t, net, "n", 1));
    fv_op_update(t, net, fv_sgd(.learning_rate = FV_ZERO)); /* the weights stay, the statistics go on */
    fv_keep(t, y), fv_keep(t, dx), fv_keep(t, dgamma), fv_keep(t, dbeta);
    fv_program *p = fv_compile(t);
    for (int step = 0; step < STEPS; step++) {
        float statistic[2][CHANNELS];
        fv_write(p, x, batch_x[step], sizeof batch_x[step]);
        fv_write(p, dy, batch_dy[step], sizeof batch_dy[step]);
        fv_run(p);
        if (fv_error(c)) fail_msg("%s", fv_error(c));
        compare_value("y", device, step, p, y, batch_y[step], ELEMENTS);
        compare_value("dx", device, step, p, dx, batch_dx[step], ELEMENTS);
        compare_value("dgamma", device, step, p, dgamma, batch_dgamma[step], CHANNELS);
        compare_value("dbeta", device, step, p, dbeta, batch_dbeta[step], CHANNELS);
        for (int i = 0; i < 2; i++) fv_get_weights(net, "n", 2 + i, FV_KERAS, statistic[i], sizeof statistic[i]);
        assert_near("running mean", device, step, statistic[0], batch_mean[step], CHANNELS);
        assert_near("running variance", device, step, statistic[1], batch_variance[step], CHANNELS);
    }
    float inferred[ELEMENTS], gamma[CHANNELS];
    fv_array image = { .data = batch_x[0], .rank = 4, .type = FV_F32 };
    memcpy(image.dims, batch_dims, sizeof batch_dims);
    fv_predict(net, NULL, .inputs = &image, .input_count = 1, .count = batch_dims[0], .output = inferred,
               .output_bytes = sizeof inferred);
    fv_get_weights(net, "n", 0, FV_KERAS, gamma, sizeof gamma);
    if (fv_error(c)) fail_msg("%s", fv_error(c));
    assert_near("inference", device, STEPS, inferred, batch_inferred[0], ELEMENTS);
    assert_memory_equal(gamma, batch_gamma[0], sizeof gamma);
    assert_int_equal(fv_close(c), 0);
}

static void on_reference(void **state) { train_and_infer("reference"); }
static void on_cpu(void **state) { train_and_infer("cpu"); }

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(on_reference), cmocka_unit_test(on_cpu) };
    return cmocka_run_group_tests_name("batch normalisation", tests, NULL, NULL);
}
