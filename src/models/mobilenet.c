/* mobilenet.c - MobileNet (Howard et al. 2017): each 3x3 convolution is taken apart into one that looks at every channel
 * for itself (depthwise) and a 1x1 convolution that mixes them. */
#include "models/models.h"

static fv_node conv(fv_net *net, fv_node x, int32_t filters, int32_t kernel, int32_t stride, int32_t groups) {
    x = fv_conv2d(net, x, .filters = filters, .kernel = kernel, .stride = stride, .padding = kernel / 2,
                  .groups = groups, .no_bias = true, .kernel_initializer = fv_he_normal());
    return fv_batch_norm(net, x, .momentum = 0.9f, .epsilon = 1e-5f, .activation = FV_RELU);
}

/* Version 1 at full width, for 32x32 images: stem and second block keep the size, so the last maps are 2x2. */
void fv_build_mobilenet_cifar(fv_net *net) {
    static const struct { int32_t filters, stride; } blocks[] = {
        { 64, 1 },  { 128, 2 }, { 128, 1 }, { 256, 2 }, { 256, 1 },  { 512, 2 },  { 512, 1 },
        { 512, 1 }, { 512, 1 }, { 512, 1 }, { 512, 1 }, { 1024, 2 }, { 1024, 1 },
    };
    int32_t channels = 32;
    fv_node x = conv(net, fv_input(net, 32, 32, 3), channels, 3, 1, 1);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        x = conv(net, x, channels, 3, blocks[i].stride, channels);
        x = conv(net, x, channels = blocks[i].filters, 1, 1, 1);
    }
    fv_output(net, fv_dense(net, fv_global_avg_pool(net, x), .units = 10, .name = "output"));
}
