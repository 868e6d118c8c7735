#!/usr/bin/env python3
"""Loads a model that Fovea saved into real Keras and compares the predictions.

    python scripts/check_keras.py MODEL INPUTS OUTPUTS [--tolerance 1e-5] [--save]

MODEL    .h5 (or .keras) file
INPUTS   what the model is given: .npy, or raw little-endian f32 in the layout of the model's input
OUTPUTS  what Fovea predicted, .npy or raw f32: compared, exit code 1 if an element differs by more than the tolerance;
         with --save Keras's prediction is written there instead, as raw f32

Needs keras 3 (with any backend: KERAS_BACKEND=torch, jax or tensorflow), h5py and numpy; no part of the tests does. The
classes below are Fovea's layers that Keras lacks, in Keras's terms: to open such a file elsewhere, copy the class.
"""
import argparse
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
from keras import ops

fovea = keras.saving.register_keras_serializable(package="fovea")


@fovea
class LRN(keras.layers.Layer):
    """Local response normalisation across channels: x / (k + alpha * sum x^2)^beta."""

    def __init__(self, size=5, alpha=1e-4, beta=0.75, k=2.0, **options):
        super().__init__(**options)
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def call(self, x):
        before = self.size // 2
        padded = ops.pad(x * x, [[0, 0]] * (len(x.shape) - 1) + [[before, self.size - 1 - before]])
        total = sum(padded[..., i : i + x.shape[-1]] for i in range(self.size))
        return x / ops.power(self.k + self.alpha * total, self.beta)


def window(x, pool, strides, padding, pad, ceil_mode, fill):
    """Pads x as Fovea's pooling does, so that a valid pooling follows; a partial last window is filled up."""
    amounts = []
    for axis in range(2):
        size, k, s = x.shape[1 + axis], pool[axis], strides[axis]
        if pad is not None:
            before, after = pad[2 * axis], pad[2 * axis + 1]
        elif padding == "same":
            total = max((-(-size // s) - 1) * s + k - size, 0)
            before, after = total // 2, total - total // 2
        else:
            before = after = k - 1 if padding == "full" else 0
        if ceil_mode:
            count = -(-(size + before + after - k) // s) + 1
            if (count - 1) * s >= size + before:
                count -= 1
            after = max(after, (count - 1) * s + k - size - before)
        amounts.append([before, after])
    return ops.pad(x, [[0, 0], *amounts, [0, 0]], constant_values=fill)


@fovea
class MaxPooling2D(keras.layers.Layer):
    def __init__(self, pool_size, strides, padding="valid", pad=None, ceil_mode=False, data_format=None, **options):
        super().__init__(**options)
        self.settings = (pool_size, strides, padding, pad, ceil_mode)

    def call(self, x):
        pool, strides = self.settings[:2]
        return ops.max_pool(window(x, *self.settings, fill=-3e38), pool, strides, "valid", "channels_last")


@fovea
class AveragePooling2D(keras.layers.Layer):
    """Counts the padding unless exclude_padding, but never what only fills up a partial window."""

    def __init__(self, pool_size, strides, padding="valid", pad=None, ceil_mode=False, exclude_padding=False,
                 data_format=None, **options):
        super().__init__(**options)
        self.settings, self.exclude = (pool_size, strides, padding, pad, ceil_mode), exclude_padding

    def call(self, x):
        pool, strides, padding, pad, ceil_mode = self.settings
        ones = ops.ones_like(x)
        if not self.exclude:
            ones = window(ones, pool, strides, padding, pad, False, 1.0)
            extra = window(x, *self.settings, fill=0.0).shape
            ones = ops.pad(ones, [[0, 0]] + [[0, extra[i] - ones.shape[i]] for i in (1, 2)] + [[0, 0]])
        else:
            ones = window(ones, *self.settings, fill=0.0)
        total = ops.average_pool(window(x, *self.settings, fill=0.0), pool, strides, "valid", "channels_last")
        return total / ops.average_pool(ones, pool, strides, "valid", "channels_last")


@fovea
class FlipConv2D(keras.layers.Conv2D):
    """True convolution: the kernel is read from its end."""

    def __init__(self, pad=None, **options):
        self.full = options.get("padding") == "full"
        if pad is not None or self.full:
            options["padding"] = "valid"
        super().__init__(**options)
        pad = [0, 0, 0, 0] if pad is None else pad
        self.pad = [pad[:2], pad[2:]]
        if self.full:
            self.pad = [[d * (k - 1)] * 2 for k, d in zip(self.kernel_size, self.dilation_rate)]

    def compute_output_shape(self, shape):
        grown = [size + sum(pad) for size, pad in zip(shape[1:3], self.pad)]
        return super().compute_output_shape((shape[0], *grown, shape[3]))

    def call(self, x):
        x = ops.pad(x, [[0, 0], *self.pad, [0, 0]])
        y = ops.conv(x, ops.flip(self.kernel, (0, 1)), strides=self.strides, padding=self.padding,
                     data_format="channels_last", dilation_rate=self.dilation_rate)
        y = y if self.bias is None else y + self.bias
        return y if self.activation is None else self.activation(y)


def read(path, shape):
    values = np.load(path) if path.endswith(".npy") else np.fromfile(path, "<f4")
    return values.reshape([-1, *shape[1:]])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("inputs")
    parser.add_argument("outputs")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    model = keras.models.load_model(arguments.model)
    predicted = np.asarray(model.predict(read(arguments.inputs, model.input_shape), verbose=0), "<f4")
    if arguments.save:
        predicted.tofile(arguments.outputs)
        return 0
    ours = read(arguments.outputs, model.output_shape)
    difference = float(np.abs(predicted - ours).max()) if predicted.shape == ours.shape else float("inf")
    optimizer = getattr(model, "optimizer", None)
    print(f"{arguments.model}: keras {keras.__version__} ({keras.backend.backend()}), {len(model.layers)} layers, "
          f"{model.count_params()} parameters, optimizer {optimizer.name if optimizer else None}, "
          f"{len(predicted)} predictions, largest difference {difference:.3g}")
    return difference > arguments.tolerance


if __name__ == "__main__":
    sys.exit(main())
