#!/usr/bin/env python3
"""Tables of losses, optimisers and schedules from PyTorch and Keras, as C for tests/test_tables.c.

    KERAS_BACKEND=torch python3 scripts/make_training_tables.py > tests/tables/training.h

What neither of the two has (LARS, hinges, focal losses) is written here in a few lines of torch, after its paper.
"""
import math
import torch
import torch.nn.functional as F

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)


def numbers(t, ctype="float"):
    """The values of a tensor as a C array literal."""
    flat = t.detach().reshape(-1).tolist()
    text = (f"{v:.9g}" if ctype != "int32_t" else str(int(v)) for v in flat)
    return f"(const {ctype}[]){{ {', '.join(text)} }}"


def f32(t):
    """What a C float can hold: inputs must be the same on both sides."""
    return t.to(torch.float32).to(torch.float64)


# ---- Losses -------------------------------------------------------------------------------------------------------

def loss_case(name, kind, options, x, target, function):
    x = f32(x).requires_grad_()
    loss = function(x, target)
    (gradient,) = torch.autograd.grad(loss, x)
    labels = not target.is_floating_point()
    shape = ", ".join(str(d) for d in x.shape)
    print(f'    {{ "{name}", {kind}, {{ .struct_size = sizeof(fv_loss_options){options} }}, {x.dim()}, {{ {shape} }},')
    print(f"      {numbers(x)},")
    print(f"      {'NULL, ' + numbers(target, 'int32_t') if labels else numbers(target) + ', NULL'}, {target.dim()}, {loss.item():.10g},")
    print(f"      {numbers(gradient)} }},")


def pixels(x):
    """[n, h, w, classes] to what PyTorch takes."""
    return x.permute(0, 3, 1, 2)


def log_cosh(x, t):
    return torch.log(torch.cosh(x - t)).mean()


def hinge(x, t):
    return torch.clamp(1 - t * x, min=0).mean()


def focal(x, y, gamma, alpha):
    log_p = F.log_softmax(x, -1).gather(-1, y[..., None])[..., 0]
    return (-alpha * (1 - log_p.exp()) ** gamma * log_p).mean()


def binary_focal(x, t, gamma, alpha):
    p = torch.sigmoid(x)
    p_t = p * t + (1 - p) * (1 - t)
    loss = F.binary_cross_entropy_with_logits(x, t, reduction="none") * (1 - p_t) ** gamma
    return (loss * (alpha * t + (1 - alpha) * (1 - t))).mean()


def losses():
    print("static const struct loss_case {\n    const char *name;\n    fv_loss kind;\n    fv_loss_options options;\n    int rank;\n"
          "    int64_t shape[4];\n    const float *x, *target;\n    const int32_t *labels;\n    int target_rank;\n    double loss;\n"
          "    const float *gradient;\n} loss_cases[] = {")
    x, other = 2 * torch.randn(4, 5), f32(torch.randn(4, 5))
    y, holes = torch.tensor([1, 0, 4, 2]), torch.tensor([1, -1, 4, -1])
    t = f32(torch.softmax(torch.randn(4, 5), -1))
    yes, probability = torch.randint(0, 2, (4, 5)).double(), f32(torch.sigmoid(torch.randn(4, 5)))
    w = f32(torch.tensor([0.5, 2, 1, 3, 0.25]))
    weights = f", .class_weights = {numbers(w)}, .class_count = 5"
    image, mask = torch.randn(2, 2, 3, 4), torch.randint(0, 4, (2, 2, 3))
    sign = 2 * yes - 1
    CE, BCE = "FV_CROSS_ENTROPY", "FV_BINARY_CROSS_ENTROPY"
    loss_case("cross-entropy", CE, "", x, y, F.cross_entropy)
    loss_case("smoothed", CE, ", .label_smoothing = 0.125f", x, y, lambda x, y: F.cross_entropy(x, y, label_smoothing=0.125))
    loss_case("weighted", CE, weights, x, y, lambda x, y: F.cross_entropy(x, y, w))
    loss_case("weighted, smoothed", CE, weights + ", .label_smoothing = 0.125f", x, y,
              lambda x, y: F.cross_entropy(x, y, w, label_smoothing=0.125))
    loss_case("ignoring", CE, ", .ignore = true, .ignore_label = -1", x, holes, lambda x, y: F.cross_entropy(x, y, ignore_index=-1))
    loss_case("weighted, ignoring", CE, weights + ", .ignore = true, .ignore_label = 1", x, y,
              lambda x, y: F.cross_entropy(x, y, w, ignore_index=1))
    loss_case("distributions", CE, "", x, t, F.cross_entropy)
    loss_case("distributions, weighted", CE, weights, x, t, lambda x, t: F.cross_entropy(x, t, w))
    loss_case("pixels", CE, "", image, mask, lambda x, y: F.cross_entropy(pixels(x), y))
    loss_case("pixels, ignoring", CE, ", .ignore = true, .ignore_label = 2", image, mask,
              lambda x, y: F.cross_entropy(pixels(x), y, ignore_index=2))
    loss_case("of probabilities", CE, ", .from_probabilities = true", torch.softmax(x, -1), y, lambda p, y: F.nll_loss(p.log(), y))
    loss_case("squared error", "FV_MEAN_SQUARED_ERROR", "", x, other, F.mse_loss)
    loss_case("absolute error", "FV_MEAN_ABSOLUTE_ERROR", "", x, other, F.l1_loss)
    loss_case("Huber", "FV_HUBER", ", .delta = 1.5f", x, other, lambda x, t: F.huber_loss(x, t, delta=1.5))
    loss_case("smooth L1", "FV_SMOOTH_L1", ", .delta = 0.5f", x, other, lambda x, t: F.smooth_l1_loss(x, t, beta=0.5))
    loss_case("log cosh", "FV_LOG_COSH", "", x, other, log_cosh)
    loss_case("binary", BCE, "", x, yes, F.binary_cross_entropy_with_logits)
    loss_case("binary, smoothed", BCE, ", .label_smoothing = 0.25f", x, yes,
              lambda x, t: F.binary_cross_entropy_with_logits(x, t * 0.75 + 0.125))
    loss_case("binary, weighted", BCE, ", .positive_weight = 3", x, yes,
              lambda x, t: F.binary_cross_entropy_with_logits(x, t, pos_weight=torch.tensor(3.0)))
    loss_case("binary, labels", BCE, "", x, yes.long(), lambda x, t: F.binary_cross_entropy_with_logits(x, t.double()))
    loss_case("binary of probabilities", BCE, ", .from_probabilities = true", probability, yes, F.binary_cross_entropy)
    loss_case("hinge", "FV_HINGE", "", x, sign, hinge)
    loss_case("hinge, labels", "FV_HINGE", "", x, yes.long(), lambda x, t: hinge(x, 2 * t - 1))
    loss_case("squared hinge", "FV_SQUARED_HINGE", "", x, sign, lambda x, t: (torch.clamp(1 - t * x, min=0) ** 2).mean())
    loss_case("margins", "FV_MULTI_CLASS_HINGE", "", x, y, F.multi_margin_loss)
    loss_case("margins, squared", "FV_MULTI_CLASS_HINGE", ", .squared = true, .margin = 0.5f" + weights, x, y,
              lambda x, y: F.multi_margin_loss(x, y, p=2, margin=0.5, weight=w))
    loss_case("divergence", "FV_KL_DIVERGENCE", "", torch.softmax(x, -1), t, lambda p, t: F.kl_div(p.log(), t, reduction="batchmean"))
    loss_case("cosine", "FV_COSINE_SIMILARITY", "", x, other, lambda x, t: -F.cosine_similarity(x, t).mean())
    loss_case("focal", "FV_FOCAL", "", x, y, lambda x, y: focal(x, y, 2, 0.25))
    loss_case("focal, gamma 1.5", "FV_FOCAL", ", .gamma = 1.5f, .alpha = 1", x, y, lambda x, y: focal(x, y, 1.5, 1))
    loss_case("binary focal", "FV_BINARY_FOCAL", "", x, yes, lambda x, t: binary_focal(x, t, 2, 0.25))
    loss_case("Poisson", "FV_POISSON", "", x.abs() + 0.1, other.abs(),
              lambda x, t: F.poisson_nll_loss(x, t, log_input=False, eps=1e-7))
    print("};\n")


def main():
    print("/* training.h - made by scripts/make_training_tables.py with PyTorch " + torch.__version__.split("+")[0] + ": do not edit. */")
    print("/* clang-format off */")
    losses()


main()
