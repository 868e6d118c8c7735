/* alexnet_cifar.c - AlexNet's plan (Krizhevsky et al. 2012) cut to 32x32 pixels: large filters first, overlapping 3x3/2 pooling,
 * a dense layer with dropout at the end; trained on CIFAR-10 with mirrored and shifted images. */
#include "options.h"

static fv_net *alexnet(fv_context *ctx) {
    fv_net *net = fv_net_new(ctx, "alexnet_cifar");
    fv_node x = fv_input(net, 32, 32, 3);
    x = fv_conv2d(net, x, .filters = 64, .kernel = 5, .padding = FV_SAME, .activation = FV_RELU, .name = "conv1");
    x = fv_max_pool2d(net, x, .size = 3, .stride = 2);
    x = fv_conv2d(net, x, .filters = 64, .kernel = 5, .padding = FV_SAME, .activation = FV_RELU, .name = "conv2");
    x = fv_max_pool2d(net, x, .size = 3, .stride = 2);
    x = fv_conv2d(net, x, .filters = 128, .kernel = 3, .padding = FV_SAME, .activation = FV_RELU, .name = "conv3");
    x = fv_conv2d(net, x, .filters = 128, .kernel = 3, .padding = FV_SAME, .activation = FV_RELU, .name = "conv4");
    x = fv_max_pool2d(net, x, .size = 3, .stride = 2);
    x = fv_dense(net, fv_flatten(net, x), .units = 256, .activation = FV_RELU, .name = "fc5");
    x = fv_dropout(net, x, .rate = 0.5f);
    fv_output(net, fv_dense(net, x, .units = 10, .name = "fc6"));
    return net;
}

int main(int argc, char **argv) {
    options o = { .program = "alexnet_cifar", .about = "Trains an AlexNet-style net on CIFAR-10.", .augments = true,
                  .epochs = 20, .batch_size = 128, .lr = 0.02f, .momentum = 0.9f, .weight_decay = 5e-4f, .opt = "sgd", .sched = "cosine" };
    fv_context *ctx = options_open(&o, argc, argv);
    fv_net *net = alexnet(ctx);
    fv_dataset *train = options_data(&o, ctx, "cifar10", FV_TRAIN), *test = options_data(&o, ctx, "cifar10", FV_TEST);
    if (o.augment) fv_augment(train, .flip = true, .crop = 4);

    if (options_training(&o, net)) fv_fit(net, train, .validation = test, OPTIONS_FIT(o));
    return options_finish(&o, ctx, net, test);
}
