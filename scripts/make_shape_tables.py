#!/usr/bin/env python3
"""Writes tests/tables/shape.h: layers of Keras 3 (on torch) and operations of torch that move, look up, multiply and reduce,
with torch's gradients.

usage: KERAS_BACKEND=torch python scripts/make_shape_tables.py > tests/tables/shape.h"""
import keras
import numpy as np
import torch

K = keras.layers
CASES = [  # name, function of one or two tensors, their shapes
    ("permute", K.Permute((3, 1, 2)), (2, 2, 3, 4)),
    ("repeat_vector", K.RepeatVector(3), (2, 4)),
    ("dot_vectors", K.Dot(axes=1), (3, 4), (3, 4)),
    ("dot_cosine", K.Dot(axes=-1, normalize=True), (3, 4), (3, 4)),
    ("dot_first", K.Dot(axes=1), (2, 3, 4), (2, 3, 5)),
    ("dot_mixed", K.Dot(axes=(2, 1), normalize=True), (2, 3, 4), (2, 4, 5)),
    ("dot_deep", K.Dot(axes=(2, 3)), (2, 2, 4, 3), (2, 2, 3, 4)),
    ("matmul", torch.matmul, (2, 1, 3, 4), (3, 4, 2)),
    ("matmul_vector", torch.matmul, (2, 3, 4), (4,)),
    ("logsumexp", lambda x: torch.logsumexp(x, (0, 2)), (2, 3, 4)),
    ("prod", lambda x: torch.prod(x, 1), (4, 5)),
    ("variance", lambda x: torch.var(x, (0, 2), correction=1), (2, 3, 4)),
    ("amin", lambda x: torch.amin(x, (1, 2)), (2, 3, 4)),
    ("cumsum", lambda x: torch.cumsum(x, 1), (2, 5, 3)),
    ("top_k", lambda x: torch.topk(x, 3).values, (3, 7)),
    ("reverse", lambda x: torch.flip(x, (0, 2)), (2, 3, 4)),
    ("stride", lambda x: x[:, 1::2, ::3], (2, 6, 7)),
]


def floats(name, values):
    text = ", ".join(f"{v:.9g}f" if "." in f"{v:.9g}" or "e" in f"{v:.9g}" else f"{v:.1f}f"
                     for v in map(float, values.detach().numpy().ravel()))
    return f"static const float {name}[] = {{ {text} }};"


def dims(shape):
    return f"{len(shape)}, {{ {', '.join(map(str, shape))} }}"


def main():
    rng = np.random.default_rng(7)
    draw = lambda shape, grad: torch.tensor(rng.normal(0, 1.5, shape).astype(np.float32), requires_grad=grad)
    print(f"/* shape.h - layers of Keras {keras.__version__} and operations of torch {torch.__version__.split('+')[0]}: "
          "made by scripts/make_shape_tables.py. */\n/* clang-format off */")
    table = []
    for name, function, *shapes in CASES:
        inputs = [draw(s, True) for s in shapes]
        if name == "prod":  # zeros: one in a row, several in a row
            inputs = [x.detach().round().requires_grad_() for x in inputs]
        layer = isinstance(function, keras.Layer)
        y = function(inputs if len(inputs) > 1 else inputs[0]) if layer else function(*inputs)
        dy = draw(tuple(y.shape), False)
        (y * dy).sum().backward()
        for what, value in [("y", y), ("dy", dy)]:
            print(floats(f"{name}_{what}", value))
        parts = []
        for i, x in enumerate(inputs):
            print(floats(f"{name}_x{i}", x))
            print(floats(f"{name}_dx{i}", x.grad))
            parts.append(f"{{ {dims(shapes[i])}, {name}_x{i}, {name}_dx{i} }}")
        table.append(f'    {{ "{name}", {{ {", ".join(parts)} }}, {dims(tuple(y.shape))}, {name}_y, {name}_dy }},')
    numbers = np.array([[1, 4, 0], [4, 4, 2]])
    layer = K.Embedding(5, 4)
    y = layer(numbers)
    dy = draw(tuple(y.shape), False)
    (y * dy).sum().backward()
    for what, value in [("table", layer.embeddings.value), ("y", y), ("dy", dy), ("dtable", layer.embeddings.value.grad)]:
        print(floats(f"embedding_{what}", value))
    print("static const int32_t embedding_numbers[] = { " + ", ".join(map(str, numbers.ravel())) + " };")
    print("static const struct shape_case {\n    const char *name;\n"
          "    struct { int rank; int64_t dims[4]; const float *x, *dx; } input[2];\n"
          "    int rank;\n    int64_t dims[5];\n    const float *y, *dy;\n} shape_cases[] = {")
    print("\n".join(table) + "\n};\n/* clang-format on */")


main()
