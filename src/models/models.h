/* models.h - networks of the literature by name. A family is a file with a few builders; catalogue.c lists them all.
 * All nets end in logits: the softmax belongs to the loss. */
#ifndef FV_MODELS_H
#define FV_MODELS_H
#include "fovea.h"

/* Adds the layers to an empty net. What fails is recorded by the context; the catalogue looks there. */
typedef void fv_model_builder(fv_net *);

fv_model_builder fv_build_lenet5, fv_build_lenet5_keras, fv_build_lenet5_modern;                       /* lenet.c     */
fv_model_builder fv_build_mlp, fv_build_mlp_800, fv_build_keras_mnist_mlp;                             /* mlp.c       */
fv_model_builder fv_build_cnn_mnist, fv_build_keras_mnist_cnn, fv_build_cnn_25_50_100;                 /* cnn_mnist.c */
fv_model_builder fv_build_alexnet, fv_build_alexnet_2012, fv_build_alexnet_cifar;                      /* alexnet.c   */
fv_model_builder fv_build_vgg11, fv_build_vgg13, fv_build_vgg16, fv_build_vgg19;                       /* vgg.c       */
fv_model_builder fv_build_vgg11_bn_cifar, fv_build_vgg13_bn_cifar, fv_build_vgg16_bn_cifar, fv_build_vgg19_bn_cifar;
fv_model_builder fv_build_resnet18_cifar;                                                              /* resnet.c    */
fv_model_builder fv_build_mobilenet_cifar;                                                             /* mobilenet.c */
#endif
