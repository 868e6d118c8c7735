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


def over_axes(layer):
    """A normalisation over several of the last axes: Keras has it, but forgets the list of axes when it reads HDF5."""

    def make(self, axes, **options):
        layer.__init__(self, axis=list(range(-axes, 0)), **options)

    return fovea(type(layer.__name__, (layer,), {"__init__": make}))


for normalization in keras.layers.LayerNormalization, keras.layers.RMSNormalization, keras.layers.UnitNormalization:
    over_axes(normalization)


def surrounding(x, pool, strides, padding, pad, ceil_mode):
    """Rows and columns around x so that a valid pooling gives Fovea's windows; a partial last window is filled up."""
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
    return amounts


def window(x, *settings, fill):
    return ops.pad(x, [[0, 0], *surrounding(x, *settings), [0, 0]], constant_values=fill)


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


def line(layer):
    """A layer of sequences: the layer of images, on images of one row."""

    def make(self, pool_size, strides, **options):
        layer.__init__(self, (1, pool_size), (1, strides), **options)

    return fovea(type(layer.__name__[:-2] + "1D", (layer,), {
        "__init__": make, "call": lambda self, x: layer.call(self, x[:, None])[:, 0]}))


MaxPooling1D, AveragePooling1D = line(MaxPooling2D), line(AveragePooling2D)


def nails(x, size, shape=None):
    """Pixels at multiples of size, zeros between them; cut or filled up to shape."""
    n, h, w, c = x.shape
    x = ops.pad(ops.reshape(x, (-1, h, 1, w, 1, c)), [[0, 0]] * 2 + [[0, size[0] - 1], [0, 0], [0, size[1] - 1], [0, 0]])
    x = ops.reshape(x, (-1, h * size[0], w * size[1], c))
    if shape:
        x = ops.pad(x[:, : shape[0], : shape[1]], [[0, 0]] + [[0, max(shape[i] - x.shape[1 + i], 0)] for i in (0, 1)] + [[0, 0]])
    return x


@fovea
class MaxUnpooling2D(MaxPooling2D):
    """Inputs: what is to be unpooled, and what was pooled."""

    def call(self, inputs):
        (x, source), (pool, strides) = inputs, self.settings[:2]
        padded, amounts = window(source, *self.settings, fill=-3e38), surrounding(source, *self.settings)
        cells = [divmod(k, pool[1]) for k in range(pool[0] * pool[1])]
        reach = [(x.shape[1 + i] - 1) * strides[i] + 1 for i in (0, 1)]
        values = [padded[:, r : r + reach[0] : strides[0], s : s + reach[1] : strides[1]] for r, s in cells]
        best = ops.argmax(ops.stack(values, -1), -1)
        h, w = padded.shape[1:3]
        total = 0
        for k, (r, s) in enumerate(cells):
            part = nails(x * ops.cast(best == k, x.dtype), strides, (h - r, w - s))
            total = total + ops.pad(part, [[0, 0], [r, 0], [s, 0], [0, 0]])
        (top, _), (left, _) = amounts
        return total[:, top : top + source.shape[1], left : left + source.shape[2]]


class Surrounding(keras.layers.Layer):
    """source(i, size): the pixel that is shown at position i, which is outside of the image."""

    def __init__(self, padding, data_format=None, **options):
        super().__init__(**options)
        self.padding = padding

    def call(self, x):
        for axis, (before, after) in enumerate(self.padding, 1):
            size = x.shape[axis]
            shown = [i if 0 <= i < size else self.source(i, size) for i in range(-before, size + after)]
            x = ops.take(x, np.array(shown), axis=axis)
        return x


@fovea
class ReflectionPadding2D(Surrounding):
    def source(self, i, size):
        return -i if i < 0 else 2 * (size - 1) - i


@fovea
class ReplicationPadding2D(Surrounding):
    def source(self, i, size):
        return 0 if i < 0 else size - 1


@fovea
class CircularPadding2D(Surrounding):
    def source(self, i, size):
        return i % size


@fovea
class ConstantPadding2D(Surrounding):
    def __init__(self, value=0.0, **options):
        super().__init__(**options)
        self.value = value

    def call(self, x):
        return ops.pad(x, [[0, 0], *self.padding, [0, 0]], constant_values=self.value)


def weights(size, out, interpolation, corners):
    """[out, size]: how much of each old pixel is in a new one, along one axis."""
    p = np.arange(out)
    at = {"half_pixel": (p + 0.5) * size / out - 0.5, "align_corners": p * (size - 1) / max(out - 1, 1),
          "asymmetric": p * size / out}[corners]
    if interpolation == "nearest":
        at = np.floor(at if corners == "asymmetric" else at + 0.5)
    at = np.clip(at, 0, size - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size)[None])).astype("f4")


@fovea
class Resizing(keras.layers.Layer):
    def __init__(self, height, width, interpolation="bilinear", corners="half_pixel", **options):
        super().__init__(**options)
        self.shape, self.settings = (height, width), (interpolation, corners)

    def call(self, x):
        rows, columns = (weights(x.shape[1 + i], self.shape[i], *self.settings) for i in (0, 1))
        return ops.einsum("ph,qw,nhwc->npqc", rows, columns, x)


@fovea
class UpSampling2D(Resizing):
    def __init__(self, size, **options):
        super().__init__(1, 1, **options)
        self.size = size

    def call(self, x):
        self.shape = (x.shape[1] * self.size[0], x.shape[2] * self.size[1])
        return nails(x, self.size) if self.settings[0] == "bed_of_nails" else super().call(x)


@fovea
class SpaceToDepth(keras.layers.Layer):
    def __init__(self, block, channel_major=False, **options):
        super().__init__(**options)
        self.block, self.channel_major = block, channel_major

    def call(self, x):
        b, (n, h, w, c) = self.block, x.shape
        x = ops.reshape(x, (-1, h // b, b, w // b, b, c))
        x = ops.transpose(x, (0, 1, 3, 5, 2, 4) if self.channel_major else (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, h // b, w // b, b * b * c))


@fovea
class DepthToSpace(SpaceToDepth):
    def call(self, x):
        b, (n, h, w, c) = self.block, x.shape
        c //= b * b
        x = ops.reshape(x, (-1, h, w, c, b, b) if self.channel_major else (-1, h, w, b, b, c))
        x = ops.transpose(x, (0, 1, 4, 2, 5, 3) if self.channel_major else (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, h * b, w * b, c))


@fovea
class ChannelShuffle(keras.layers.Layer):
    def __init__(self, groups, **options):
        super().__init__(**options)
        self.groups = groups

    def call(self, x):
        c = x.shape[-1]
        order = np.arange(c).reshape(self.groups, -1).T.reshape(-1)
        return ops.take(x, order, axis=-1)


def grow(x, pad):
    """pad: top, bottom, left, right; of a sequence only the last two count."""
    return ops.pad(x, [[0, 0], *[pad[:2], pad[2:]][4 - len(x.shape):], [0, 0]])


def sizes(value, axes):
    return [value] * axes if isinstance(value, int) else list(value)


class Flipped:
    """True convolution: the kernel is read from its end."""

    def __init__(self, pad=None, **options):
        self.full = options.get("padding") == "full"
        if pad is not None or self.full:
            options["padding"] = "valid"
        super().__init__(**options)
        self.pad = [0, 0, 0, 0] if pad is None else pad
        if self.full:
            reach = [d * (k - 1) for k, d in zip(self.kernel_size, self.dilation_rate)]
            self.pad = [reach[0], reach[0], reach[-1], reach[-1]]

    def compute_output_shape(self, shape):
        return super().compute_output_shape(grown_shape(shape, self.pad))

    def call(self, x):
        axes = tuple(range(len(self.kernel_size)))
        y = ops.conv(grow(x, self.pad), ops.flip(self.kernel, axes), strides=self.strides, padding=self.padding,
                     data_format="channels_last", dilation_rate=self.dilation_rate)
        y = y if self.bias is None else y + self.bias
        return y if self.activation is None else self.activation(y)


def grown_shape(shape, pad):
    axes = [pad[:2], pad[2:]][4 - len(shape):]
    return (shape[0], *(n if n is None else n + sum(p) for n, p in zip(shape[1:-1], axes)), shape[-1])


@fovea
class FlipConv2D(Flipped, keras.layers.Conv2D):
    pass


@fovea
class FlipConv1D(Flipped, keras.layers.Conv1D):
    pass


class Transposed:
    """Padding in pixels, which are cut from what all windows reach, and groups: kernel [window, filters / groups, channels]."""

    def __init__(self, pad=None, groups=1, output_padding=None, **options):
        self.full, self.pad, self.groups = options.get("padding") == "full", pad or [0] * 4, groups
        self.more = sizes(output_padding or 0, self.axes)
        self.same = options.get("padding") == "same"
        super().__init__(**{**options, "padding": "valid"})
        if self.full:
            reach = [d * (k - 1) for k, d in zip(self.kernel_size, self.dilation_rate)]
            self.pad = [reach[0], reach[0], reach[-1], reach[-1]]

    def build(self, shape):
        window = tuple(self.kernel_size)
        self.kernel = self.add_weight(name="kernel", shape=window + (self.filters // self.groups, shape[-1]))
        self.bias = self.add_weight(name="bias", shape=(self.filters,)) if self.use_bias else None

    def call(self, x):
        parts = zip(ops.split(x, self.groups, -1), ops.split(self.kernel, self.groups, -1))
        y = ops.concatenate([ops.conv_transpose(a, k, self.strides, "valid", [0] * self.axes, "channels_last",
                                                self.dilation_rate) for a, k in parts], -1)
        pads = [self.pad[:2], self.pad[2:]][2 - self.axes:]
        if self.same:
            wanted = [s * n for n, s in zip(x.shape[1:-1], self.strides)]
            cut = [max(n - s, 0) for n, s in zip(y.shape[1:-1], wanted)]
            pads = [[c // 2, c - c // 2] for c in cut]
            self.more = [max(s - n, 0) for n, s in zip(y.shape[1:-1], wanted)]
        y = ops.pad(y, [[0, 0], *([0, m] for m in self.more), [0, 0]])
        for axis, (before, after) in enumerate(pads):
            y = ops.take(y, np.arange(before, y.shape[1 + axis] - after), 1 + axis)
        y = y if self.bias is None else y + self.bias
        return y if self.activation is None else self.activation(y)

    def compute_output_shape(self, shape):
        return ops.shape(self.call(ops.zeros([1, *shape[1:]])))


@fovea
class Conv2DTranspose(Transposed, keras.layers.Conv2DTranspose):
    axes = 2


@fovea
class Conv1DTranspose(Transposed, keras.layers.Conv1DTranspose):
    axes = 1


class Local(keras.layers.Layer):
    """Keras 2's unshared convolution: a matrix and a bias for each position."""

    def __init__(self, filters, kernel_size, strides, padding="valid", activation=None, use_bias=True, data_format=None,
                 dilation_rate=None, kernel_initializer=None, bias_initializer=None, implementation=1, **options):
        super().__init__(**options)
        self.filters, self.use_bias = filters, use_bias
        self.window, self.steps, self.spread = (sizes(v, self.axes) for v in (kernel_size, strides, dilation_rate or 1))
        self.activation = keras.activations.get(activation)

    def build(self, shape):
        self.size = [(n - d * (k - 1) - 1) // s + 1
                     for n, k, s, d in zip(shape[1:-1], self.window, self.steps, self.spread)]
        values = int(np.prod(self.window)) * shape[-1]
        self.kernel = self.add_weight(name="kernel", shape=(int(np.prod(self.size)), values, self.filters))
        self.bias = self.add_weight(name="bias", shape=(*self.size, self.filters)) if self.use_bias else None

    def call(self, x):
        rows = []
        for i, at in enumerate(np.ndindex(*self.size)):
            taps = [np.arange(k) * d + p * s for p, k, s, d in zip(at, self.window, self.steps, self.spread)]
            patch = x
            for axis, tap in enumerate(taps):
                patch = ops.take(patch, tap, 1 + axis)
            rows.append(ops.matmul(ops.reshape(patch, [x.shape[0], -1]), self.kernel[i]))
        y = ops.reshape(ops.stack(rows, 1), [x.shape[0], *self.size, self.filters])
        return self.activation(y if self.bias is None else y + self.bias)

    def compute_output_shape(self, shape):
        return (shape[0], *self.size, self.filters)


@fovea
class LocallyConnected2D(Local):
    axes = 2


@fovea
class LocallyConnected1D(Local):
    axes = 1


keras.utils.get_custom_objects().update(LocallyConnected2D=LocallyConnected2D, LocallyConnected1D=LocallyConnected1D)


@fovea
class Bias(keras.layers.Layer):
    """A bias of its own for every value of a sample."""

    def __init__(self, activation=None, bias_initializer="zeros", **options):
        super().__init__(**options)
        self.activation = keras.activations.get(activation)

    def build(self, shape):
        self.bias = self.add_weight(name="bias", shape=tuple(shape[1:]))

    def call(self, x):
        return self.activation(x + self.bias)


@fovea
class Dirac(keras.initializers.Initializer):
    """Filter i of each group passes channel i on; the weights come from the file, so a model needs it by name only."""

    def __init__(self, groups=1):
        self.groups = int(groups)

    def __call__(self, shape, dtype=None):
        return ops.zeros(shape, dtype)


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
