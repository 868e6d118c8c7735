/* vgg_cifar.c - VGG (Simonyan & Zisserman 2014) on CIFAR-10: nothing but 3x3 filters, doubled whenever pooling halves the map;
 * with batch normalisation, which came a year later, and one dense layer in place of three. */
#include "options.h"
#include <string.h>

/* Filters of the layers; 0 is a max pooling. */
static const struct { const char *name; int filters[24]; } plans[] = {
    { "vgg11", { 64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0, -1 } },
    { "vgg13", { 64, 64, 0, 128, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0, -1 } },
    { "vgg16", { 64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0, -1 } },
    { "vgg19", { 64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0, -1 } },
};

static fv_net *vgg(fv_context *ctx, const char *variant) {
    fv_net *net = fv_net_new(ctx, variant);
    fv_node x = fv_input(net, 32, 32, 3);
    for (size_t p = 0; p < sizeof plans / sizeof *plans; p++) {
        if (strcmp(plans[p].name, variant)) continue;
        for (const int *filters = plans[p].filters; *filters >= 0; filters++) {
            if (*filters == 0) {
                x = fv_max_pool2d(net, x, .size = 2);
                continue;
            }
            x = fv_conv2d(net, x, .filters = *filters, .kernel = 3, .padding = FV_SAME, .no_bias = true, .kernel_initializer = fv_he_normal());
            x = fv_batch_norm(net, x, .momentum = 0.9f, .epsilon = 1e-5f, .activation = FV_RELU);
        }
    }
    fv_output(net, fv_dense(net, fv_flatten(net, x), .units = 10, .name = "output"));
    return net;
}

int main(int argc, char **argv) {
    options o = { .program = "vgg_cifar", .about = "Trains VGG with batch normalisation on CIFAR-10.", .variants = "vgg11|vgg13|vgg16|vgg19",
                  .augments = true, .epochs = 20, .batch_size = 128, .lr = 0.02f, .momentum = 0.9f, .weight_decay = 5e-4f, .opt = "sgd", .sched = "cosine",
                  .warmup_epochs = 1 };
    fv_context *ctx = options_open(&o, argc, argv);
    fv_net *net = vgg(ctx, o.variant);
    fv_dataset *train = options_data(&o, ctx, "cifar10", FV_TRAIN), *test = options_data(&o, ctx, "cifar10", FV_TEST);
    if (o.augment) fv_augment(train, .flip = true, .crop = 4);

    if (options_training(&o, net)) fv_fit(net, train, .validation = test, OPTIONS_FIT(o));
    return options_finish(&o, ctx, net, test);
}
