#!/usr/bin/env python3
"""Values and derivatives of PyTorch's activations, in double precision: tests/tables/activations.h. Needs torch.

    scripts/make_activation_tables.py > tests/tables/activations.h

Points are chosen off the kinks, where frameworks differ by convention, and include both tails."""
import torch
import torch.nn.functional as F

POINTS = [-30.0, -9.25, -5.5, -3.75, -2.875, -1.625, -1.1875, -0.75, -0.28125, -0.0625, -0.0009765625, 0.0009765625, 0.125,
          0.40625, 0.8125, 1.3125, 2.625, 3.5, 4.75, 6.5, 11.0, 40.0]
ACTIVATIONS = {
    "RELU": F.relu, "TANH": torch.tanh, "SIGMOID": torch.sigmoid, "LEAKY_RELU": lambda x: F.leaky_relu(x, 0.2),
    "ELU": F.elu, "SELU": F.selu, "RELU6": F.relu6, "HARD_TANH": F.hardtanh, "HARD_SIGMOID": F.hardsigmoid,
    "SOFTPLUS": lambda x: F.softplus(x, threshold=100), "SOFTSIGN": F.softsign, "GELU": F.gelu,
    "GELU_TANH": lambda x: F.gelu(x, approximate="tanh"), "SILU": F.silu, "MISH": F.mish, "HARD_SWISH": F.hardswish,
    "EXPONENTIAL": torch.exp,
}


def row(numbers):
    lines, line = [], "     "
    for number in numbers:
        text = f" {number:.9g},"
        if len(line) + len(text) > 116:
            lines.append(line)
            line = "     "
        line += text
    return "\n".join(lines + [line])[:-1].lstrip()


print(f"""/* activations.h - values and derivatives of PyTorch {torch.__version__.split('+')[0]} in double precision, made by
 * scripts/make_activation_tables.py. */
enum {{ POINTS = {len(POINTS)} }};
static const float points[POINTS] = {{ {row(POINTS)} }};
static const struct {{
    fv_activation activation;
    double value[POINTS], slope[POINTS];
}} table[] = {{""")
for name, function in ACTIVATIONS.items():
    x = torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    y = function(x)
    y.sum().backward()
    print(f"    {{ FV_{name},\n      {{ {row(y.tolist())} }},\n      {{ {row(x.grad.tolist())} }} }},")
print("};")
