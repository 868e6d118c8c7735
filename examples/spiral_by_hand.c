/* spiral_by_hand.c - a training loop without fv_fit: record one step on a tape, differentiate it, append the optimiser, compile, and run
 * it a thousand times on batches written from here. Two interleaved spirals are told apart by two hidden layers. */
#include <fovea.h>
#include <math.h>
#include <stdlib.h>

enum { BATCH = 128, STEPS = 1500 };

static void spiral(float points[BATCH][2], int32_t labels[BATCH]) {
    for (int i = 0; i < BATCH; i++) {
        float along = (float)rand() / (float)RAND_MAX, angle = 10 * along + 3.14159265f * (float)(i % 2);
        points[i][0] = along * cosf(angle);
        points[i][1] = along * sinf(angle);
        labels[i] = i % 2;
    }
}

int main(void) {
    fv_context *ctx = fv_open("auto");
    fv_net *net = fv_net_new(ctx, "spiral");
    fv_node h = fv_dense(net, fv_input(net, 2), .units = 64, .activation = FV_RELU);
    h = fv_dense(net, h, .units = 64, .activation = FV_RELU);
    fv_output(net, fv_dense(net, h, .units = 2));

    /* One training step: the loss, its gradients and the update are operations on one tape. */
    fv_tape *t = fv_tape_new(ctx);
    fv_value points = fv_op_input(t, (int64_t[]){ BATCH, 2 }, 2, FV_F32), labels = fv_op_input(t, (int64_t[]){ BATCH }, 1, FV_I32);
    fv_value logits = fv_record(t, net, FV_VALUES(points), FV_MODE_TRAIN);
    fv_value loss = fv_op_mean(t, fv_op_softmax_cross_entropy(t, logits, labels, 0));
    fv_backward(t, loss);
    fv_op_update(t, net, fv_adam(.learning_rate = 0.01f));
    fv_keep(t, loss);
    fv_keep(t, logits);
    fv_program *step = fv_compile(t);

    float batch[BATCH][2], scores[BATCH][2], value = 0;
    int32_t truth[BATCH];
    for (int i = 0; i < STEPS && !fv_error(ctx); i++) {
        spiral(batch, truth);
        fv_write(step, points, batch, sizeof batch);
        fv_write(step, labels, truth, sizeof truth);
        fv_run(step);
        if (i % 250 == 0) fv_read(step, loss, &value, sizeof value), printf("step %4d  loss %.4f\n", i, value);
    }

    spiral(batch, truth); /* fresh points; predicting leaves the weights alone */
    fv_predict(net, NULL, .inputs = &(fv_array){ batch, FV_F32, 2, { BATCH, 2 } }, .input_count = 1, .output = scores[0], .output_bytes = sizeof scores);
    int right = 0;
    for (int i = 0; i < BATCH; i++) right += (scores[i][1] > scores[i][0]) == truth[i];
    if (fv_error(ctx)) fprintf(stderr, "spiral_by_hand: %s\n", fv_error(ctx));
    else printf("%d of %d fresh points on the right spiral\n", right, BATCH);
    return fv_close(ctx);
}
