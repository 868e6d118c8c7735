/* robust_fit.c - a loss of one's own, written on the tape. A tenth of the measurements is wild: the squared error bends the curve
 * towards them, Geman and McClure's loss d^2 / (1 + d^2) (1985) saturates and lets them be. The gradient comes from the tape;
 * before training it is checked against central differences. */
#include <fovea.h>
#include <math.h>
#include <stdlib.h>

enum { SAMPLES = 512 };

/* One value a sample; called while the training step is recorded. */
static fv_value geman_mcclure(fv_tape *t, fv_value prediction, fv_value target, void *scale) {
    fv_value d = fv_op_mul(t, fv_op_sub(t, prediction, target), fv_op_scalar(t, *(float *)scale));
    fv_value square = fv_op_mul(t, d, d);
    return fv_op_sum(t, fv_op_div(t, square, fv_op_add(t, square, fv_op_scalar(t, 1))), (int[]){ 1 }, 1, false);
}

/* Largest difference between the tape's gradient and central differences, at a few points. */
static float gradient_error(fv_context *ctx, float scale) {
    enum { N = 5 };
    const float target[N] = { 0, 0.1f, -0.2f, 0.3f, 1 };
    float x[N] = { 0.5f, -0.7f, 0.1f, 2, 0.9f }, gradient[N], worst = 0;
    const float h = 1e-2f;
    fv_tape *t = fv_tape_new(ctx);
    fv_value prediction = fv_op_input(t, (int64_t[]){ N, 1 }, 2, FV_F32);
    fv_watch(t, prediction);
    fv_value goal = fv_op_constant(t, (int64_t[]){ N, 1 }, 2, target);
    fv_value loss = fv_op_sum(t, geman_mcclure(t, prediction, goal, &scale), NULL, 0, false);
    fv_backward(t, loss);
    fv_value slope = fv_gradient(t, prediction);
    fv_keep(t, loss);
    fv_keep(t, slope);
    fv_program *p = fv_compile(t);
    fv_write(p, prediction, x, sizeof x);
    fv_run(p);
    fv_read(p, slope, gradient, sizeof gradient);
    for (int i = 0; i < N && !fv_error(ctx); i++) {
        float at = x[i], high = 0, low = 0;
        x[i] = at + h, fv_write(p, prediction, x, sizeof x), fv_run(p), fv_read(p, loss, &high, sizeof high);
        x[i] = at - h, fv_write(p, prediction, x, sizeof x), fv_run(p), fv_read(p, loss, &low, sizeof low);
        x[i] = at;
        worst = fmaxf(worst, fabsf(gradient[i] - (high - low) / (2 * h)));
    }
    fv_program_free(p);
    fv_tape_free(t);
    return worst;
}

static float uniform(void) { return (float)rand() / (float)RAND_MAX; }

/* Root of the mean squared distance to the true curve. */
static float fit(fv_context *ctx, fv_dataset *data, const float *x, const float *truth, fv_loss_function loss, float *scale) {
    float y[SAMPLES], sum = 0;
    fv_net *net = fv_net_new(ctx, "curve");
    fv_node h = fv_dense(net, fv_input(net, 1), .units = 32, .activation = FV_TANH);
    h = fv_dense(net, h, .units = 32, .activation = FV_TANH);
    fv_output(net, fv_dense(net, h, .units = 1));
    fv_fit(net, data, .epochs = 200, .batch_size = 64, .optimizer = fv_adam(.learning_rate = 0.01f), .schedule = fv_cosine(),
           .loss_function = loss, .user = scale);
    fv_predict(net, NULL, .inputs = &(fv_array){ x, FV_F32, 2, { SAMPLES, 1 } }, .input_count = 1, .output = y, .output_bytes = sizeof y);
    for (int i = 0; i < SAMPLES && !fv_error(ctx); i++) sum += (y[i] - truth[i]) * (y[i] - truth[i]);
    fv_net_free(net);
    return sqrtf(sum / SAMPLES);
}

int main(void) {
    float x[SAMPLES], truth[SAMPLES], measured[SAMPLES], scale = 4;
    for (int i = 0; i < SAMPLES; i++) {
        x[i] = 2 * uniform() - 1;
        truth[i] = sinf(4 * x[i]);
        measured[i] = truth[i] + 0.05f * (uniform() - 0.5f) + (i % 10 == 0 ? 3 + 2 * uniform() : 0);
    }
    fv_context *ctx = fv_open("auto");
    const fv_array inputs = { x, FV_F32, 2, { SAMPLES, 1 } }, targets = { measured, FV_F32, 2, { SAMPLES, 1 } };
    fv_dataset *data = fv_dataset_from_memory(ctx, &(fv_memory_options){ .struct_size = sizeof(fv_memory_options), .inputs = &inputs,
                                              .input_count = 1, .targets = &targets, .target_count = 1 });
    float gradient = gradient_error(ctx, scale);
    float squared = fit(ctx, data, x, truth, NULL, NULL), robust = fit(ctx, data, x, truth, geman_mcclure, &scale);
    if (fv_error(ctx)) fprintf(stderr, "robust_fit: %s\n", fv_error(ctx));
    else printf("gradient differs from central differences by at most %.1e\ndistance to the true curve: squared error %.3f, Geman-McClure %.3f\n",
                gradient, squared, robust);
    bool bad = !(gradient < 1e-2f) || !(robust < squared);
    return fv_close(ctx) || bad;
}
