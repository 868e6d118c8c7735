/* catalogue.c - the ordered list of the networks that fv_model knows: small ones first, with their parameters. */
#include "models/models.h"
#include "net/net.h"
#include <string.h>

static const struct { const char *name; fv_model_builder *build; } catalogue[] = {
    { "lenet5", fv_build_lenet5 },                     /*      61,706 */
    { "lenet5_modern", fv_build_lenet5_modern },       /*      61,706 */
    { "lenet5_keras", fv_build_lenet5_keras },         /*     545,546 */
    { "mlp", fv_build_mlp },                           /*     535,818 */
    { "mlp_800", fv_build_mlp_800 },                   /*     636,010 */
    { "keras_mnist_mlp", fv_build_keras_mnist_mlp },   /*     669,706 */
    { "cnn_mnist", fv_build_cnn_mnist },               /*     121,930 */
    { "cnn_25_50_100", fv_build_cnn_25_50_100 },       /*     137,660 */
    { "keras_mnist_cnn", fv_build_keras_mnist_cnn },   /*   1,199,882 */
    { "alexnet_cifar", fv_build_alexnet_cifar },       /*     626,506 */
    { "mobilenet_cifar", fv_build_mobilenet_cifar },   /*   3,217,226 */
    { "vgg11_bn_cifar", fv_build_vgg11_bn_cifar },     /*   9,228,362 */
    { "vgg13_bn_cifar", fv_build_vgg13_bn_cifar },     /*   9,413,066 */
    { "resnet18_cifar", fv_build_resnet18_cifar },     /*  11,173,962 */
    { "vgg16_bn_cifar", fv_build_vgg16_bn_cifar },     /*  14,724,042 */
    { "vgg19_bn_cifar", fv_build_vgg19_bn_cifar },     /*  20,035,018 */
    { "alexnet", fv_build_alexnet },                   /*  62,378,344 */
    { "alexnet_2012", fv_build_alexnet_2012 },         /*  60,965,224 */
    { "vgg11", fv_build_vgg11 },                       /* 132,863,336 */
    { "vgg13", fv_build_vgg13 },                       /* 133,047,848 */
    { "vgg16", fv_build_vgg16 },                       /* 138,357,544 */
    { "vgg19", fv_build_vgg19 },                       /* 143,667,240 */
};
enum { MODELS = sizeof catalogue / sizeof *catalogue };

const char *fv_model_name(int index) { return index >= 0 && index < MODELS ? catalogue[index].name : NULL; }

static int fail_name(fv_context *context, const char *name) {
    char list[768];
    size_t used = 0;
    for (int i = 0; i < MODELS && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", catalogue[i].name);
    return fv_fail(context, FV_ERROR_ARGUMENT, "there is no model '%.80s'; there are %s", name, list);
}

fv_net *fv_model(fv_context *context, const char *name) {
    if (!fv_ok(context) || !name) return NULL;
    for (int i = 0; i < MODELS; i++) {
        if (strcmp(catalogue[i].name, name)) continue;
        fv_net *net = fv_net_new(context, name);
        if (!net) return NULL;
        catalogue[i].build(net);
        if (fv_ok(context)) return net;
        fv_net_free(net);
        return NULL;
    }
    fail_name(context, name);
    return NULL;
}
