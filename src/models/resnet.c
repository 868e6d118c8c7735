/* resnet.c - residual networks (He, Zhang, Ren & Sun 2015): a block adds its input to what its two convolutions make of
 * it. Where the maps shrink and the filters double, a 1x1 convolution brings the input to that shape (option B). */
#include "models/models.h"

/* Batch normalisation follows every convolution, which therefore needs no bias. */
static fv_node conv(fv_net *net, fv_node x, int32_t filters, int32_t kernel, int32_t stride, fv_activation activation) {
    x = fv_conv2d(net, x, .filters = filters, .kernel = kernel, .stride = stride, .padding = kernel / 2, .no_bias = true,
                  .kernel_initializer = fv_he_normal());
    return fv_batch_norm(net, x, .momentum = 0.9f, .epsilon = 1e-5f, .activation = activation);
}

static fv_node block(fv_net *net, fv_node x, int32_t filters, int32_t stride, bool project) {
    fv_node y = conv(net, conv(net, x, filters, 3, stride, FV_RELU), filters, 3, 1, FV_LINEAR);
    if (project) x = conv(net, x, filters, 1, stride, FV_LINEAR);
    return fv_add(net, FV_NODES(y, x), .activation = FV_RELU);
}

/* ResNet-18 for 32x32 images: the stem is one 3x3 convolution and nothing is pooled before the end. Its four stages of
 * two blocks are those of the net for ImageNet. */
void fv_build_resnet18_cifar(fv_net *net) {
    fv_node x = conv(net, fv_input(net, 32, 32, 3), 64, 3, 1, FV_RELU);
    for (int stage = 0; stage < 4; stage++)
        for (int i = 0; i < 2; i++) {
            bool first = stage > 0 && i == 0;
            x = block(net, x, 64 << stage, first ? 2 : 1, first);
        }
    fv_output(net, fv_dense(net, fv_global_avg_pool(net, x), .units = 10, .name = "output"));
}
