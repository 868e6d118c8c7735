/* cnn_mnist.c - small convolutional nets for MNIST, with filters that grow with depth. */
#include "models/models.h"

static fv_node conv(fv_net *net, fv_node x, int32_t filters) {
    return fv_conv2d(net, x, .filters = filters, .kernel = 3, .activation = FV_RELU);
}

static void classify(fv_net *net, fv_node x, int32_t units, float dropout) {
    x = fv_dense(net, fv_flatten(net, x), .units = units, .activation = FV_RELU);
    if (dropout > 0) x = fv_dropout(net, x, .rate = dropout);
    fv_output(net, fv_dense(net, x, .units = 10, .name = "output"));
}

/* 32 and 64 filters, each with a pool behind it, then 64 units. */
void fv_build_cnn_mnist(fv_net *net) {
    fv_node x = fv_max_pool2d(net, conv(net, fv_input(net, 28, 28, 1), 32), .size = 2);
    x = fv_max_pool2d(net, conv(net, x, 64), .size = 2);
    classify(net, x, 64, 0);
}

/* A textbook's first net: 25 and 50 filters, 100 units. */
void fv_build_cnn_25_50_100(fv_net *net) {
    fv_node x = fv_max_pool2d(net, conv(net, fv_input(net, 28, 28, 1), 25), .size = 2);
    x = fv_max_pool2d(net, conv(net, x, 50), .size = 2);
    classify(net, x, 100, 0);
}

/* Keras's example mnist_cnn: 99.25 % after 12 epochs. */
void fv_build_keras_mnist_cnn(fv_net *net) {
    fv_node x = conv(net, conv(net, fv_input(net, 28, 28, 1), 32), 64);
    x = fv_dropout(net, fv_max_pool2d(net, x, .size = 2), .rate = 0.25f);
    classify(net, x, 128, 0.5f);
}
