/* lenet_mnist.c - LeNet-5 (LeCun et al. 1998) learns to read handwritten digits: 61,706 weights, about 99 % right after a minute.
 *
 *   lenet_mnist --epochs 5            the table of the lectures: tanh, average pooling
 *   lenet_mnist --variant modern      ReLU and max pooling
 *   lenet_mnist --variant keras       the Keras listing that many courses print: its first pooling moves by one pixel only */
#include "options.h"
#include <string.h>

static fv_net *lenet5(fv_context *ctx, const char *variant) {
    bool keras = !strcmp(variant, "keras"), modern = !strcmp(variant, "modern");
    fv_activation f = modern ? FV_RELU : FV_TANH;
    fv_net *net = fv_net_new(ctx, "lenet5");

    fv_node x = fv_input(net, 28, 28, 1);
    x = fv_conv2d(net, x, .filters = 6, .kernel = 5, .padding = FV_SAME, .activation = f, .name = "c1");
    x = modern ? fv_max_pool2d(net, x, .size = 2, .name = "s2") : fv_avg_pool2d(net, x, .size = 2, .stride = keras ? 1 : 2, .name = "s2");
    x = fv_conv2d(net, x, .filters = 16, .kernel = 5, .activation = f, .name = "c3");
    x = modern ? fv_max_pool2d(net, x, .size = 2, .name = "s4") : fv_avg_pool2d(net, x, .size = 2, .name = "s4");
    x = fv_conv2d(net, x, .filters = 120, .kernel = 5, .activation = f, .name = "c5");
    x = fv_dense(net, fv_flatten(net, x), .units = 84, .activation = f, .name = "f6");
    fv_output(net, fv_dense(net, x, .units = 10, .name = "output"));
    return net;
}

int main(int argc, char **argv) {
    options o = { .program = "lenet_mnist", .about = "Trains LeNet-5 on MNIST.", .variants = "table|keras|modern", .digits = true,
                  .epochs = 5, .batch_size = 64, .lr = 0.05f, .momentum = 0.9f, .weight_decay = 1e-3f, .opt = "sgd", .sched = "cosine" };
    fv_context *ctx = options_open(&o, argc, argv);
    fv_net *net = lenet5(ctx, o.variant);
    fv_dataset *train = options_data(&o, ctx, "mnist", FV_TRAIN), *test = options_data(&o, ctx, "mnist", FV_TEST);

    if (options_training(&o, net)) fv_fit(net, train, .validation = test, OPTIONS_FIT(o));
    return options_finish(&o, ctx, net, test);
}
