/* mlp.c - fully connected nets for MNIST: what convolution has to beat. */
#include "models/models.h"

static void build(fv_net *net, const int32_t *units, int layers, float dropout) {
    fv_node x = fv_flatten(net, fv_input(net, 28, 28, 1));
    for (int i = 0; i < layers; i++) {
        x = fv_dense(net, x, .units = units[i], .activation = FV_RELU);
        if (dropout > 0) x = fv_dropout(net, x, .rate = dropout);
    }
    fv_output(net, fv_dense(net, x, .units = 10, .name = "output"));
}

void fv_build_mlp(fv_net *net) { build(net, (const int32_t[]){ 512, 256 }, 2, 0); }

/* One hidden layer of 800 (Simard, Steinkraus & Platt 2003): 1.6 % errors without distorted images. */
void fv_build_mlp_800(fv_net *net) { build(net, (const int32_t[]){ 800 }, 1, 0); }

/* Keras's example mnist_mlp: 98.40 % after 20 epochs. */
void fv_build_keras_mnist_mlp(fv_net *net) { build(net, (const int32_t[]){ 512, 512 }, 2, 0.2f); }
