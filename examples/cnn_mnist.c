/* cnn_mnist.c - a small convolutional net with a fifth of the perceptron's weights reads digits better: filters grow with depth,
 * pooling halves the maps. 121,930 weights; about 99.2 % after five epochs. */
#include "options.h"

static fv_net *cnn(fv_context *ctx) {
    fv_net *net = fv_net_new(ctx, "cnn");
    fv_node x = fv_input(net, 28, 28, 1);
    x = fv_conv2d(net, x, .filters = 32, .kernel = 3, .activation = FV_RELU);
    x = fv_max_pool2d(net, x, .size = 2);
    x = fv_conv2d(net, x, .filters = 64, .kernel = 3, .activation = FV_RELU);
    x = fv_max_pool2d(net, x, .size = 2);
    x = fv_dense(net, fv_flatten(net, x), .units = 64, .activation = FV_RELU);
    fv_output(net, fv_dense(net, x, .units = 10, .name = "output"));
    return net;
}

int main(int argc, char **argv) {
    options o = { .program = "cnn_mnist", .about = "Trains a small convolutional net on MNIST.", .digits = true,
                  .epochs = 5, .batch_size = 128, .lr = 0.05f, .momentum = 0.9f, .opt = "sgd", .sched = "cosine" };
    fv_context *ctx = options_open(&o, argc, argv);
    fv_net *net = cnn(ctx);
    fv_dataset *train = options_data(&o, ctx, "mnist", FV_TRAIN), *test = options_data(&o, ctx, "mnist", FV_TEST);

    if (options_training(&o, net)) fv_fit(net, train, .validation = test, OPTIONS_FIT(o));
    return options_finish(&o, ctx, net, test);
}
