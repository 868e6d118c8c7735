/* vgg.c - VGG (Simonyan & Zisserman 2014): nothing but 3x3 convolutions, halved by pools. The 224x224 nets of the
 * paper, and nets for CIFAR-10 with batch normalisation and a single dense layer. */
#include "models/models.h"

/* Convolutions in each of the five blocks; their filters. */
typedef int blocks[5];
static const blocks vgg11 = { 1, 1, 2, 2, 2 }, vgg13 = { 2, 2, 2, 2, 2 }, vgg16 = { 2, 2, 3, 3, 3 },
                    vgg19 = { 2, 2, 4, 4, 4 };
static const int32_t filters[5] = { 64, 128, 256, 512, 512 };

/* Batch normalisation has a shift of its own, so the convolution below it needs no bias. He's initial values keep the
 * variance through relu. */
static fv_node conv(fv_net *net, fv_node x, int32_t count, bool batch_norm) {
    if (!batch_norm)
        return fv_conv2d(net, x, .filters = count, .kernel = 3, .padding = FV_SAME, .activation = FV_RELU,
                         .kernel_initializer = fv_he_normal());
    x = fv_conv2d(net, x, .filters = count, .kernel = 3, .padding = FV_SAME, .no_bias = true,
                  .kernel_initializer = fv_he_normal());
    return fv_batch_norm(net, x, .momentum = 0.9f, .epsilon = 1e-5f, .activation = FV_RELU);
}

static fv_node features(fv_net *net, fv_node x, const blocks convolutions, bool batch_norm) {
    for (int block = 0; block < 5; block++) {
        for (int i = 0; i < convolutions[block]; i++) x = conv(net, x, filters[block], batch_norm);
        x = fv_max_pool2d(net, x, .size = 2);
    }
    return fv_flatten(net, x);
}

static void imagenet(fv_net *net, const blocks convolutions) {
    fv_node x = features(net, fv_input(net, 224, 224, 3), convolutions, false);
    for (int i = 0; i < 2; i++)
        x = fv_dropout(net, fv_dense(net, x, .units = 4096, .activation = FV_RELU), .rate = 0.5f);
    fv_output(net, fv_dense(net, x, .units = 1000, .name = "output"));
}

static void cifar(fv_net *net, const blocks convolutions) {
    fv_node x = features(net, fv_input(net, 32, 32, 3), convolutions, true);
    fv_output(net, fv_dense(net, x, .units = 10, .name = "output"));
}

void fv_build_vgg11(fv_net *net) { imagenet(net, vgg11); }
void fv_build_vgg13(fv_net *net) { imagenet(net, vgg13); }
void fv_build_vgg16(fv_net *net) { imagenet(net, vgg16); }
void fv_build_vgg19(fv_net *net) { imagenet(net, vgg19); }
void fv_build_vgg11_bn_cifar(fv_net *net) { cifar(net, vgg11); }
void fv_build_vgg13_bn_cifar(fv_net *net) { cifar(net, vgg13); }
void fv_build_vgg16_bn_cifar(fv_net *net) { cifar(net, vgg16); }
void fv_build_vgg19_bn_cifar(fv_net *net) { cifar(net, vgg19); }
