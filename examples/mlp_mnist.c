/* mlp_mnist.c - two hidden layers of 512 read digits without a single convolution: the yardstick that cnn_mnist has to beat.
 * 669,706 weights; about 98.3 % after ten epochs. */
#include "options.h"

static fv_net *mlp(fv_context *ctx) {
    fv_net *net = fv_net_new(ctx, "mlp");
    fv_node x = fv_flatten(net, fv_input(net, 28, 28, 1));
    x = fv_dense(net, x, .units = 512, .activation = FV_RELU, .name = "hidden1");
    x = fv_dropout(net, x, .rate = 0.2f);
    x = fv_dense(net, x, .units = 512, .activation = FV_RELU, .name = "hidden2");
    x = fv_dropout(net, x, .rate = 0.2f);
    fv_output(net, fv_dense(net, x, .units = 10, .name = "output"));
    return net;
}

int main(int argc, char **argv) {
    options o = { .program = "mlp_mnist", .about = "Trains a multilayer perceptron on MNIST.", .digits = true,
                  .epochs = 10, .batch_size = 128, .lr = 0.1f, .momentum = 0.9f, .opt = "sgd", .sched = "cosine" };
    fv_context *ctx = options_open(&o, argc, argv);
    fv_net *net = mlp(ctx);
    fv_dataset *train = options_data(&o, ctx, "mnist", FV_TRAIN), *test = options_data(&o, ctx, "mnist", FV_TEST);

    if (options_training(&o, net)) fv_fit(net, train, .validation = test, OPTIONS_FIT(o));
    return options_finish(&o, ctx, net, test);
}
