/* lenet.c - LeNet-5 (LeCun, Bottou, Bengio & Haffner 1998) as lectures give it. MNIST's 28x28 images are padded to the
 * 32x32 of the paper by the first layer ("same"), so that its maps are 28x28, 14x14, 10x10, 5x5, 1x1. */
#include "models/models.h"

typedef struct lenet {
    fv_activation activation;
    bool max_pool;
    int32_t first_stride;  /* of the first pool */
} lenet;

static fv_node pool(fv_net *net, fv_node x, const lenet *l, int32_t stride, const char *name) {
    return l->max_pool ? fv_max_pool2d(net, x, .size = 2, .stride = stride, .name = name)
                       : fv_avg_pool2d(net, x, .size = 2, .stride = stride, .name = name);
}

static void build(fv_net *net, const lenet *l) {
    fv_node x = fv_input(net, 28, 28, 1);
    x = fv_conv2d(net, x, .filters = 6, .kernel = 5, .padding = FV_SAME, .activation = l->activation, .name = "c1");
    x = pool(net, x, l, l->first_stride, "s2");
    x = fv_conv2d(net, x, .filters = 16, .kernel = 5, .activation = l->activation, .name = "c3");
    x = pool(net, x, l, 2, "s4");
    x = fv_conv2d(net, x, .filters = 120, .kernel = 5, .activation = l->activation, .name = "c5");
    x = fv_dense(net, fv_flatten(net, x), .units = 84, .activation = l->activation, .name = "f6");
    fv_output(net, fv_dense(net, x, .units = 10, .name = "output"));
}

/* The table: tanh, average pools of stride 2. */
void fv_build_lenet5(fv_net *net) { build(net, &(const lenet){ FV_TANH, false, 2 }); }

/* What became usual later: relu and maximum. */
void fv_build_lenet5_modern(fv_net *net) { build(net, &(const lenet){ FV_RELU, true, 2 }); }

/* A well-known listing whose first pool has stride 1: c5 then sees 11x11 maps and the net is nine times as large. */
void fv_build_lenet5_keras(fv_net *net) { build(net, &(const lenet){ FV_TANH, false, 1 }); }
