#!/usr/bin/env python3
"""Writes tests/tables/sampling.h: outputs and input gradients of PyTorch and Keras for tests/test_sampling.c.

Input and output gradient are formulas that the test repeats: x[i] = ((37 i + 11) mod 101 - 50) / 16 and
dy[i] = ((53 i + 7) mod 89 - 44) / 16, i counting in Fovea's order (channels last).
Needs PyTorch 2 and Keras 3: KERAS_BACKEND=torch python scripts/make_sampling_tables.py > tests/tables/sampling.h
"""
import os

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
import torch
import torch.nn.functional as F


def pool_and_back(x):
    y, index = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(y * y, index, 2, output_size=x.shape[2:])


# name: (sample's shape in Fovea's order, function of NCHW or NCL)
TORCH = {
    "max_pool1d": ((9, 2), lambda x: F.max_pool1d(x, 3, 2, 1)),
    "avg_pool1d": ((9, 2), lambda x: F.avg_pool1d(x, 3, 2, 1)),
    "avg_pool1d_exclude": ((9, 2), lambda x: F.avg_pool1d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False)),
    "global_avg_pool1d": ((5, 3), lambda x: x.mean(2)),
    "global_max_pool1d": ((5, 3), lambda x: x.amax(2)),
    "adaptive_avg_pool2d": ((7, 5, 2), lambda x: F.adaptive_avg_pool2d(x, (3, 2))),
    "adaptive_avg_pool2d_up": ((2, 3, 2), lambda x: F.adaptive_avg_pool2d(x, (3, 4))),
    "adaptive_max_pool2d": ((7, 5, 2), lambda x: F.adaptive_max_pool2d(x, (3, 2))),
    "max_unpool2d": ((5, 6, 2), pool_and_back),
    "nearest": ((4, 5, 2), lambda x: F.interpolate(x, (7, 3))),
    "nearest_exact": ((4, 5, 2), lambda x: F.interpolate(x, (7, 3), mode="nearest-exact")),
    "bilinear": ((4, 5, 2), lambda x: F.interpolate(x, (7, 3), mode="bilinear")),
    "bilinear_align": ((4, 5, 2), lambda x: F.interpolate(x, (7, 3), mode="bilinear", align_corners=True)),
    "bilinear_down": ((7, 6, 1), lambda x: F.interpolate(x, (3, 2), mode="bilinear")),
    "upsample_align": ((3, 2, 2), lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)),
    "reflect": ((4, 3, 2), lambda x: F.pad(x, (2, 1, 1, 3), mode="reflect")),
    "replicate": ((4, 3, 2), lambda x: F.pad(x, (2, 1, 1, 3), mode="replicate")),
    "circular": ((4, 3, 2), lambda x: F.pad(x, (2, 1, 1, 3), mode="circular")),
    "constant": ((2, 3, 2), lambda x: F.pad(x, (2, 1, 1, 0), value=1.5)),
    "zero_padding1d": ((4, 2), lambda x: F.pad(x, (1, 2))),
    "pixel_unshuffle": ((4, 6, 2), lambda x: F.pixel_unshuffle(x, 2)),
    "pixel_shuffle": ((2, 3, 8), lambda x: F.pixel_shuffle(x, 2)),
    "channel_shuffle": ((2, 2, 6), lambda x: F.channel_shuffle(x, 3)),
}
# name: (sample's shape, layer of Keras, channels last)
KERAS = {
    "up_sampling2d": ((3, 2, 2), keras.layers.UpSampling2D((2, 3))),
    "up_sampling2d_bilinear": ((3, 4, 2), keras.layers.UpSampling2D(2, interpolation="bilinear")),
    "up_sampling1d": ((4, 2), keras.layers.UpSampling1D(3)),
    "resizing": ((4, 5, 2), keras.layers.Resizing(6, 7)),
    "cropping2d": ((5, 6, 2), keras.layers.Cropping2D(((1, 2), (0, 3)))),
    "cropping1d": ((6, 2), keras.layers.Cropping1D((1, 3))),
    "adaptive_keras": ((5, 4, 2), keras.layers.AdaptiveAveragePooling2D((2, 3))),
}


def numbers(count, factor, shift, modulus):
    i = torch.arange(count, dtype=torch.float64)
    return (torch.remainder(factor * i + shift, modulus) - modulus // 2) / 16


def last(t):
    return t if t.dim() < 3 else t.movedim(1, -1).contiguous()


def row(name, shape, function, channels_last):
    count = int(torch.tensor(shape).prod())
    x = numbers(count, 37, 11, 101).reshape((1,) + shape).float().requires_grad_()
    y = function(x) if channels_last else last(function(x.movedim(-1, 1)))
    y.backward(numbers(y.numel(), 53, 7, 89).reshape(y.shape).float())
    text = [", ".join("%.9g" % v for v in t.detach().reshape(-1).tolist()) for t in (y, x.grad)]
    print('    { "%s", %d,\n      { %s },\n      { %s } },' % (name, y.numel(), *text))


print("/* Made by scripts/make_sampling_tables.py with PyTorch %s and Keras %s. */" % (torch.__version__, keras.__version__))
print("static const struct sampling_row {\n    const char *name;\n    int outputs;\n    float y[96], dx[96];")
print("} sampling_rows[] = {")
for name, (shape, function) in TORCH.items():
    row(name, shape, function, False)
for name, (shape, layer) in KERAS.items():
    row(name, shape, layer, True)
print("};")
