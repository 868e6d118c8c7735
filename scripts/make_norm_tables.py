#!/usr/bin/env python3
"""Writes tests/tables/norm.h: normalisation layers on small inputs, by Keras 3 (on torch) and torch's gradients.

usage: KERAS_BACKEND=torch python scripts/make_norm_tables.py > tests/tables/norm.h
The layouts are Fovea's (channels last), the defaults Keras's."""
import keras
import numpy as np
import torch

CASES = [  # name, layer, shape of the input
    ("layer_norm", lambda: keras.layers.LayerNormalization(), (3, 4, 5)),
    ("layer_norm_axes2", lambda: keras.layers.LayerNormalization(axis=[-2, -1], epsilon=1e-5), (3, 4, 5)),
    ("layer_norm_plain", lambda: keras.layers.LayerNormalization(center=False, scale=False), (2, 7)),
    ("group_norm", lambda: keras.layers.GroupNormalization(groups=2), (2, 3, 2, 6)),
    ("instance_norm", lambda: keras.layers.GroupNormalization(groups=-1), (2, 3, 3, 3)),
    ("rms_norm", lambda: keras.layers.RMSNormalization(), (3, 4, 5)),
    ("unit_norm", lambda: keras.layers.UnitNormalization(), (3, 4, 5)),
]


def floats(name, values):
    text = ", ".join(f"{float(v):.9g}f" if "." in f"{float(v):.9g}" or "e" in f"{float(v):.9g}" else f"{float(v):.1f}f"
                     for v in np.asarray(values).ravel())
    return f"static const float {name}[] = {{ {text} }};\n"


def main():
    rng = np.random.default_rng(5)
    print("/* norm.h - normalisation layers by Keras " + keras.__version__ + " and torch " + torch.__version__.split("+")[0] +
          ": made by scripts/make_norm_tables.py. */\n/* clang-format off */")
    table = []
    for name, make, shape in CASES:
        layer = make()
        layer.build(shape)
        x = torch.tensor(rng.normal(0.5, 2, shape).astype(np.float32), requires_grad=True)
        dy = torch.tensor(rng.normal(0, 1, shape).astype(np.float32))
        for w in layer.weights:
            w.assign(rng.normal(1, 0.5, w.shape).astype(np.float32))
        device = keras.ops.convert_to_tensor(x)
        y = layer(device)
        (y * dy).sum().backward()
        print(floats(name + "_x", x.detach()), end="")
        print(floats(name + "_dy", dy), end="")
        print(floats(name + "_y", y.detach()), end="")
        print(floats(name + "_dx", x.grad), end="")
        weights = [(w.name, w) for w in layer.weights]
        for k, w in weights:
            print(floats(f"{name}_{k}", w.value.detach()), end="")
            print(floats(f"{name}_d{k}", w.value.grad), end="")
        parts = [f"{{ {name}_{k}, {name}_d{k} }}" for k, _ in weights] + ["{ NULL, NULL }"] * (2 - len(weights))
        dims = ", ".join(str(d) for d in shape)
        table.append(f'    {{ "{name}", {len(shape)}, {{ {dims} }}, {name}_x, {name}_dy, {name}_y, {name}_dx, {{ {", ".join(parts)} }} }},')
    print("static const struct norm_case {\n    const char *name;\n    int rank;\n    int64_t dims[4];\n"
          "    const float *x, *dy, *y, *dx;\n    struct { const float *value, *gradient; } weight[2];\n} norm_cases[] = {")
    print("\n".join(table))
    print("};\n/* clang-format on */")


main()
