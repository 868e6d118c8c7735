/* alexnet.c - AlexNet (Krizhevsky, Sutskever & Hinton 2012): as tables give it, as two GPUs held it, and small for
 * CIFAR-10. */
#include "models/models.h"

static fv_node conv(fv_net *net, fv_node x, int32_t filters, int32_t kernel, int32_t groups, const char *name) {
    return fv_conv2d(net, x, .filters = filters, .kernel = kernel, .padding = FV_SAME, .groups = groups,
                     .activation = FV_RELU, .name = name);
}

/* groups 2: conv2, conv4 and conv5 see only the maps of their own GPU, and the responses are normalised. */
static void build(fv_net *net, int32_t groups) {
    fv_node x = fv_input(net, 227, 227, 3);
    x = fv_conv2d(net, x, .filters = 96, .kernel = 11, .stride = 4, .activation = FV_RELU, .name = "conv1");
    if (groups > 1) x = fv_lrn(net, x);
    x = conv(net, fv_max_pool2d(net, x, .size = 3, .stride = 2), 256, 5, groups, "conv2");
    if (groups > 1) x = fv_lrn(net, x);
    x = conv(net, fv_max_pool2d(net, x, .size = 3, .stride = 2), 384, 3, 1, "conv3");
    x = conv(net, conv(net, x, 384, 3, groups, "conv4"), 256, 3, groups, "conv5");
    x = fv_flatten(net, fv_max_pool2d(net, x, .size = 3, .stride = 2));
    x = fv_dropout(net, fv_dense(net, x, .units = 4096, .activation = FV_RELU, .name = "fc6"), .rate = 0.5f);
    x = fv_dropout(net, fv_dense(net, x, .units = 4096, .activation = FV_RELU, .name = "fc7"), .rate = 0.5f);
    fv_output(net, fv_dense(net, x, .units = 1000, .name = "fc8"));
}

void fv_build_alexnet(fv_net *net) { build(net, 1); }
void fv_build_alexnet_2012(fv_net *net) { build(net, 2); }

void fv_build_alexnet_cifar(fv_net *net) {
    fv_node x = conv(net, fv_input(net, 32, 32, 3), 64, 5, 1, "conv1");
    x = conv(net, fv_max_pool2d(net, x, .size = 3, .stride = 2), 64, 5, 1, "conv2");
    x = conv(net, fv_max_pool2d(net, x, .size = 3, .stride = 2), 128, 3, 1, "conv3");
    x = fv_max_pool2d(net, conv(net, x, 128, 3, 1, "conv4"), .size = 3, .stride = 2);
    x = fv_dense(net, fv_flatten(net, x), .units = 256, .activation = FV_RELU, .name = "fc5");
    fv_output(net, fv_dense(net, x, .units = 10, .name = "output"));
}
