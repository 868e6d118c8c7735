#!/usr/bin/env python3
"""Writes tests/tables/conv_layers.txt: what Keras and PyTorch say of convolution layers, with their gradients.

    KERAS_BACKEND=torch python scripts/make_conv_tables.py tests/tables/conv_layers.txt

A case is a line "case NAME", then tensors, each a line "WORD size size ..." followed by a line of numbers: x, the weights w
as Keras shapes them (w0, w1, ...), the output y, and for the sum of y * g the gradients dx, d0, d1, ... Images have
their channels last. tests/test_conv_layers.c says by name which options of Fovea each case is. Needs keras 3 with the
PyTorch backend.
"""
import os
import sys

os.environ["KERAS_BACKEND"] = "torch"
import numpy as np
import torch
import torch.nn.functional as F
from keras import layers

random = np.random.default_rng(3)


def numbers(*shape):
    return torch.tensor(random.integers(-100, 101, shape) / 100.0, dtype=torch.float32)


def write(file, word, tensor):
    values = tensor.detach().cpu().numpy()
    print(word, *values.shape, file=file)
    print(*(f"{v:.9g}" for v in values.ravel()), file=file)


def record(file, name, x, weights, y):
    """weights: pairs of a tensor that has a gradient and how Keras shapes it."""
    g = numbers(*y.shape)
    (y * g).sum().backward()
    print("case", name, file=file)
    write(file, "x", x)
    for i, (w, shaped) in enumerate(weights):
        write(file, f"w{i}", shaped(w))
    write(file, "y", y)
    write(file, "g", g)
    write(file, "dx", x.grad)
    for i, (w, shaped) in enumerate(weights):
        write(file, f"d{i}", shaped(w.grad))


def keras_case(file, name, shape, layer):
    x = numbers(*shape).requires_grad_()
    layer.build(shape)
    for v in layer.trainable_variables:
        v.assign(numbers(*v.shape).numpy())
    y = layer(x)
    record(file, name, x, [(v.value, lambda t: t) for v in layer.trainable_variables], y)


def torch_case(file, name, shape, module):
    x = numbers(*shape).requires_grad_()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(numbers(*p.shape))
    first = x.movedim(-1, 1)
    y = module(first).movedim(1, -1)

    def shaped(w):
        return w if w.dim() == 1 else w.movedim((1, 0), (-2, -1))  # [in or out, other, window] -> [window, other, first]

    record(file, name, x, [(p, shaped) for p in module.parameters()], y)


def local_case(file, name, shape, filters, kernel, stride, padding):
    """Keras 2's layer: a matrix [window and channels, filters] and a bias for each position."""
    n, h, w, c = shape
    x = numbers(*shape).requires_grad_()
    size = [(s + 2 * padding - k) // stride + 1 for s, k in zip((h, w), kernel)]
    matrix = numbers(size[0] * size[1], kernel[0] * kernel[1] * c, filters).requires_grad_()
    bias = numbers(size[0], size[1], filters).requires_grad_()
    patches = F.unfold(x.movedim(-1, 1), kernel, padding=padding, stride=stride)  # [n, c * window, positions]
    patches = patches.reshape(n, c, kernel[0] * kernel[1], -1).permute(0, 3, 2, 1).flatten(2)
    y = torch.einsum("npk,pkf->npf", patches, matrix).reshape(n, *size, filters) + bias
    record(file, name, x, [(matrix, lambda t: t), (bias, lambda t: t)], y)


def main(path):
    nn = torch.nn
    with open(path, "w") as f:
        print("# made by scripts/make_conv_tables.py; Keras and PyTorch", torch.__version__.split("+")[0], file=f)
        k = lambda *a: keras_case(f, *a)
        t = lambda *a: torch_case(f, *a)
        k("conv1d_stride", (2, 7, 3), layers.Conv1D(4, 3, strides=2, activation="tanh"))
        k("conv1d_causal", (2, 8, 2), layers.Conv1D(3, 3, dilation_rate=2, padding="causal"))
        k("conv1d_same_groups", (1, 6, 4), layers.Conv1D(6, 4, padding="same", groups=2, use_bias=False))
        k("depthwise1d", (2, 7, 3), layers.DepthwiseConv1D(3, strides=2, depth_multiplier=2, padding="same"))
        k("depthwise2d", (1, 6, 5, 3), layers.DepthwiseConv2D((3, 2), strides=2, depth_multiplier=3, padding="same"))
        k("depthwise2d_one", (1, 4, 4, 1), layers.DepthwiseConv2D(3, depth_multiplier=2))
        k("separable1d", (2, 7, 3), layers.SeparableConv1D(4, 3, depth_multiplier=2, dilation_rate=2, padding="same"))
        k("separable2d", (1, 6, 5, 3), layers.SeparableConv2D(4, 3, strides=2, depth_multiplier=2, activation="relu"))
        k("transpose_valid", (2, 3, 4, 2), layers.Conv2DTranspose(3, 3, strides=2))
        k("transpose_valid_gaps", (1, 3, 2, 2), layers.Conv2DTranspose(2, 2, strides=3))
        k("transpose_valid_exact", (1, 3, 2, 2), layers.Conv2DTranspose(2, 2, strides=3, output_padding=0))
        k("transpose_same", (1, 3, 4, 2), layers.Conv2DTranspose(3, 4, strides=2, padding="same", activation="sigmoid"))
        k("transpose_same_stride1", (1, 4, 3, 2), layers.Conv2DTranspose(3, (3, 5), padding="same"))
        k("transpose_same_small", (1, 3, 2, 2), layers.Conv2DTranspose(2, 1, strides=2, padding="same"))
        k("transpose_same_output", (1, 3, 3, 2), layers.Conv2DTranspose(2, 5, strides=2, padding="same", output_padding=0))
        k("transpose_dilated", (1, 3, 4, 2), layers.Conv2DTranspose(2, (2, 3), dilation_rate=2))
        k("transpose1d_same", (2, 4, 2), layers.Conv1DTranspose(3, 4, strides=2, padding="same"))
        k("transpose1d_valid", (1, 4, 2), layers.Conv1DTranspose(3, 2, strides=3, output_padding=2))
        t("torch_transpose", (2, 3, 4, 4),
          nn.ConvTranspose2d(4, 6, (3, 4), stride=2, padding=1, output_padding=(1, 0), groups=2))
        t("torch_transpose_uneven", (1, 3, 4, 2),
          nn.ConvTranspose2d(2, 3, (2, 3), stride=(3, 2), padding=(0, 2), dilation=(2, 1), output_padding=(2, 1)))
        t("torch_transpose_depthwise", (1, 4, 3, 3), nn.ConvTranspose2d(3, 3, 3, stride=2, padding=1, groups=3, bias=False))
        t("torch_transpose1d", (2, 5, 4), nn.ConvTranspose1d(4, 2, 5, stride=3, padding=2, output_padding=1, groups=2))
        local_case(f, "local2d", (2, 5, 6, 2), 3, (3, 2), 2, 0)
        local_case(f, "local2d_padded", (1, 3, 3, 2), 2, (3, 3), 1, 1)
        local_case(f, "local1d", (2, 1, 7, 3), 2, (1, 3), 2, 0)


main(sys.argv[1])
