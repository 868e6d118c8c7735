#!/usr/bin/env python3
"""Writes tests/tables/batch_norm.h: a batch normalisation layer over four training steps and one inference, by Keras 3 on torch.

usage: KERAS_BACKEND=torch python scripts/make_batch_norm_table.py > tests/tables/batch_norm.h
Layout is channels last. The running variance is Keras's, which takes the batch's own variance; PyTorch's takes n / (n - 1) of it."""
import keras
import numpy as np
import torch

STEPS, SHAPE, MOMENTUM, EPSILON = 4, (3, 2, 3, 4), 0.9, 1e-3


def row(name, arrays):
    print("static const float %s[%d][%d] = {" % (name, len(arrays), np.asarray(arrays[0]).size))
    for a in arrays:
        print("    { " + ", ".join("%.9ef" % float(v) for v in np.asarray(a).ravel()) + " },")
    print("};")


rng = np.random.default_rng(11)
layer = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON)
layer.build(SHAPE)
layer.gamma.assign(rng.normal(1, 0.5, SHAPE[-1]).astype(np.float32))
layer.beta.assign(rng.normal(0, 0.5, SHAPE[-1]).astype(np.float32))
names = ["x", "dy", "y", "dx", "dgamma", "dbeta", "mean", "variance"]
columns = {name: [] for name in names}
for step in range(STEPS):
    x = torch.tensor(rng.normal(step - 1, 1 + step, SHAPE).astype(np.float32), requires_grad=True)
    dy = torch.tensor(rng.normal(0, 1, SHAPE).astype(np.float32))
    for weight in (layer.gamma, layer.beta):
        weight.value.grad = None
    y = layer(x, training=True)
    (y * dy).sum().backward()
    values = [x.detach(), dy, y.detach(), x.grad, layer.gamma.value.grad, layer.beta.value.grad, layer.moving_mean.value.detach(),
              layer.moving_variance.value.detach()]
    for name, value in zip(names, values):
        columns[name].append(value.numpy().copy())
print("/* batch_norm.h - batch normalisation by Keras " + keras.__version__ + " and torch " + torch.__version__.split("+")[0] +
      ": made by\n * scripts/make_batch_norm_table.py. */\n/* clang-format off */")
print("enum { STEPS = %d, ELEMENTS = %d, CHANNELS = %d };" % (STEPS, np.prod(SHAPE), SHAPE[-1]))
print("static const int64_t batch_dims[4] = { %d, %d, %d, %d };" % SHAPE)
print("static const float batch_momentum = %gf, batch_epsilon = %gf;" % (MOMENTUM, EPSILON))
row("batch_gamma", [layer.gamma.value.detach().numpy()])
row("batch_beta", [layer.beta.value.detach().numpy()])
for name in names:
    row("batch_" + name, columns[name])
row("batch_inferred", [layer(torch.tensor(columns["x"][0]), training=False).detach().numpy()])
print("/* clang-format on */")
