#!/usr/bin/env python3
"""Tables of losses, optimisers, schedules and constraints from PyTorch and Keras, as C for tests/test_tables.c.

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


# ---- Optimisers: five steps of a matrix [3, 4], stored [units, inputs], and a vector [3] -------------------------------

WEIGHTS = [f32(0.5 * torch.randn(3, 4)), f32(0.5 * torch.randn(3))]
GRADIENTS = [[f32(torch.randn(3, 4) * (1 + k)), f32(torch.randn(3))] for k in range(5)]


def optimizer_case(name, fovea, step):
    """step(k, weights, gradients) changes the weights in place."""
    weights = [w.clone() for w in WEIGHTS]
    for k in range(5):
        step(k, weights, GRADIENTS[k])
    print(f'    {{ "{name}", {fovea},\n      {numbers(weights[0])}, {numbers(weights[1])} }},')


def of_torch(make):
    """An optimiser of PyTorch as such a step."""
    state = {}

    def step(k, weights, gradients):
        if k == 0:
            state["w"] = [torch.nn.Parameter(w.clone()) for w in weights]
            state["o"] = make(state["w"])
        for w, g in zip(state["w"], gradients):
            w.grad = g.clone()
        state["o"].step()
        for w, now in zip(weights, state["w"]):
            w.copy_(now.detach())
    return step


def of_keras(make):
    """An optimiser of Keras, in 32 bits."""
    import keras
    state = {}

    def step(k, weights, gradients):
        if k == 0:
            state["w"] = [keras.Variable(w.numpy().astype("float32")) for w in weights]
            state["o"] = make(keras.optimizers)
            state["o"].build(state["w"])
        state["o"].apply([g.float() for g in gradients], state["w"])
        for w, now in zip(weights, state["w"]):
            w.copy_(now.value.detach().double())
    return step


def lars(rate, momentum, decay, trust):
    """You et al. 2017, equations 6 and 7; vectors without the local rate."""
    velocity = [torch.zeros_like(w) for w in WEIGHTS]

    def step(k, weights, gradients):
        for v, w, g in zip(velocity, weights, gradients):
            local = trust * w.norm() / (g.norm() + decay * w.norm() + 1e-8) if w.dim() > 1 else 1
            v.mul_(momentum).add_(rate * local * (g + decay * w))
            w.sub_(v)
    return step


def lamb(rate, decay):
    """You et al. 2020, algorithm 2, with phi(z) = z."""
    m, v = [torch.zeros_like(w) for w in WEIGHTS], [torch.zeros_like(w) for w in WEIGHTS]

    def step(k, weights, gradients):
        for i, (w, g) in enumerate(zip(weights, gradients)):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g * g
            r = m[i] / (1 - 0.9 ** (k + 1)) / ((v[i] / (1 - 0.999 ** (k + 1))).sqrt() + 1e-6) + decay * w
            w.sub_(rate * w.norm() / r.norm() * r)
    return step


def muon_step(rate, decay, nesterov):
    """Keller Jordan's muon.py of 2024 in full precision, and its AdamW for the vector."""
    state = {"m": torch.zeros_like(WEIGHTS[0])}

    def orthogonal(x):
        x = x / (x.norm() + 1e-7)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return x

    vector = of_torch(lambda w: torch.optim.AdamW(w[1:], 0.003, betas=(0.9, 0.95), eps=1e-10, weight_decay=decay))

    def step(k, weights, gradients):
        matrix = weights[0].clone()
        vector(k, weights, gradients)
        state["m"].lerp_(gradients[0], 1 - 0.95)
        update = gradients[0].lerp(state["m"], 0.95) if nesterov else state["m"]
        matrix.mul_(1 - rate * decay).sub_(rate * max(1, 3 / 4) ** 0.5 * orthogonal(update))
        weights[0].copy_(matrix)
    return step


def optimizers():
    o = torch.optim
    print("static const float first_weights[2][12] = { { " + ", ".join(f"{v:.9g}" for v in WEIGHTS[0].reshape(-1).tolist()) + " },\n    { "
          + ", ".join(f"{v:.9g}" for v in WEIGHTS[1].tolist()) + " } };")
    print("static const float gradients[5][2][12] = {")
    for g in GRADIENTS:
        print("    { { " + ", ".join(f"{v:.9g}" for v in g[0].reshape(-1).tolist()) + " },\n      { " +
              ", ".join(f"{v:.9g}" for v in g[1].tolist()) + " } },")
    print("};")
    print("#define OPTIMIZER_CASES \\")

    lines = []
    import builtins
    real = builtins.print
    builtins.print = lambda text: lines.append(text)
    optimizer_case("SGD", "fv_sgd(.learning_rate = 0.1f)", of_torch(lambda w: o.SGD(w, 0.1)))
    optimizer_case("SGD, momentum, decay", "fv_sgd(.learning_rate = 0.1f, .momentum = 0.9f, .weight_decay = 0.05f)",
                   of_torch(lambda w: o.SGD(w, 0.1, momentum=0.9, weight_decay=0.05)))
    optimizer_case("SGD, Nesterov", "fv_sgd(.learning_rate = 0.1f, .momentum = 0.9f, .nesterov = true)",
                   of_torch(lambda w: o.SGD(w, 0.1, momentum=0.9, nesterov=True)))
    optimizer_case("Adam", "fv_adam(.learning_rate = 0.1f, .epsilon = 1e-8f)", of_torch(lambda w: o.Adam(w, 0.1)))
    optimizer_case("Adam, decay", "fv_adam(.learning_rate = 0.1f, .epsilon = 1e-8f, .weight_decay = 0.05f)",
                   of_torch(lambda w: o.Adam(w, 0.1, weight_decay=0.05)))
    optimizer_case("AMSGrad", "fv_adam(.learning_rate = 0.1f, .beta2 = 0.5f, .epsilon = 1e-8f, .amsgrad = true)",
                   of_torch(lambda w: o.Adam(w, 0.1, betas=(0.9, 0.5), amsgrad=True)))
    optimizer_case("AdamW", "fv_adamw(.learning_rate = 0.1f, .epsilon = 1e-8f, .weight_decay = 0.05f)",
                   of_torch(lambda w: o.AdamW(w, 0.1, weight_decay=0.05)))
    optimizer_case("AdamW, AMSGrad", "fv_adamw(.learning_rate = 0.1f, .beta2 = 0.5f, .epsilon = 1e-8f, .weight_decay = 0.05f, .amsgrad = true)",
                   of_torch(lambda w: o.AdamW(w, 0.1, betas=(0.9, 0.5), weight_decay=0.05, amsgrad=True)))
    optimizer_case("RMSprop", "fv_rmsprop(.learning_rate = 0.1f)", of_torch(lambda w: o.RMSprop(w, 0.1)))
    optimizer_case("RMSprop, momentum, decay", "fv_rmsprop(.learning_rate = 0.01f, .rho = 0.9f, .momentum = 0.9f, .weight_decay = 0.05f)",
                   of_torch(lambda w: o.RMSprop(w, 0.01, alpha=0.9, momentum=0.9, weight_decay=0.05)))
    optimizer_case("RMSprop, centred", "fv_rmsprop(.learning_rate = 0.01f, .rho = 0.9f, .epsilon = 1e-4f, .centered = true)",
                   of_torch(lambda w: o.RMSprop(w, 0.01, alpha=0.9, eps=1e-4, centered=True)))
    optimizer_case("RMSprop, centred, momentum", "fv_rmsprop(.learning_rate = 0.01f, .rho = 0.9f, .momentum = 0.5f, .centered = true)",
                   of_torch(lambda w: o.RMSprop(w, 0.01, alpha=0.9, momentum=0.5, centered=True)))
    optimizer_case("Adagrad", "fv_adagrad(.learning_rate = 0.1f)", of_torch(lambda w: o.Adagrad(w, 0.1)))
    optimizer_case("Adagrad, all", "fv_adagrad(.learning_rate = 0.1f, .rate_decay = 0.1f, .initial = 0.5f, .weight_decay = 0.05f)",
                   of_torch(lambda w: o.Adagrad(w, 0.1, lr_decay=0.1, initial_accumulator_value=0.5, weight_decay=0.05)))
    optimizer_case("Adadelta", "fv_adadelta()", of_torch(lambda w: o.Adadelta(w)))
    optimizer_case("Adadelta, decay", "fv_adadelta(.learning_rate = 0.5f, .rho = 0.8f, .epsilon = 1e-3f, .weight_decay = 0.05f)",
                   of_torch(lambda w: o.Adadelta(w, 0.5, rho=0.8, eps=1e-3, weight_decay=0.05)))
    optimizer_case("Lion (Keras)", "fv_lion(.learning_rate = 0.01f)", of_keras(lambda k: k.Lion(0.01, beta_1=0.9, beta_2=0.99)))
    optimizer_case("Lion, decay (Keras)", "fv_lion(.learning_rate = 0.01f, .beta2 = 0.9f, .weight_decay = 0.5f)",
                   of_keras(lambda k: k.Lion(0.01, beta_1=0.9, beta_2=0.9, weight_decay=0.5)))
    optimizer_case("LAMB (Keras)", "fv_lamb(.learning_rate = 0.1f, .weight_decay = FV_ZERO)", of_keras(lambda k: k.Lamb(0.1, epsilon=1e-6)))
    optimizer_case("LAMB, decay", "fv_lamb(.learning_rate = 0.1f, .weight_decay = 0.05f)", lamb(0.1, 0.05))
    optimizer_case("LARS", "fv_lars(.learning_rate = 0.5f, .trust = 0.1f)", lars(0.5, 0.9, 1e-4, 0.1))
    optimizer_case("LARS, decay, no momentum", "fv_lars(.learning_rate = 0.5f, .momentum = FV_ZERO, .weight_decay = 0.05f, .trust = 0.1f)",
                   lars(0.5, 0, 0.05, 0.1))
    optimizer_case("Muon", "fv_muon(.adam_learning_rate = 0.003f)", muon_step(0.02, 0, True))
    optimizer_case("Muon, decay, plain", "fv_muon(.adam_learning_rate = 0.003f, .weight_decay = 0.1f, .no_nesterov = true)",
                   muon_step(0.02, 0.1, False))
    builtins.print = real
    print(" \\\n".join("\n".join(lines).split("\n")) + "\n")


# ---- Schedules: the factor after each of 40 batches, ten an epoch -----------------------------------------------------

def schedule_case(name, fovea, make, epochs=4):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], 1.0)
    schedule, factors = make(optimizer), []
    for _ in range(10 * epochs):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    print(f'    {{ "{name}", {fovea}, {numbers(torch.tensor(factors))} }}, \\')


def schedules():
    l = torch.optim.lr_scheduler
    print("/* Of 40 batches, ten an epoch: schedules of PyTorch that step at every batch. */\n#define SCHEDULE_CASES \\")
    schedule_case("constant", "fv_constant_schedule(.gamma = 0)", lambda o: l.ConstantLR(o, 1.0))
    schedule_case("step", "fv_step(.gamma = 0.5f, .step_epochs = 1.5f)", lambda o: l.StepLR(o, 15, 0.5))
    schedule_case("multi-step", "fv_multi_step(.gamma = 0.2f, .milestones = { 1, 2.5f })", lambda o: l.MultiStepLR(o, [10, 25], 0.2))
    schedule_case("exponential", "fv_exponential(.gamma = 0.5f)", lambda o: l.ExponentialLR(o, 0.5 ** 0.1))
    schedule_case("cosine", "fv_cosine(.final_factor = 0.05f)", lambda o: l.CosineAnnealingLR(o, 40, 0.05))
    schedule_case("linear", "fv_linear(.final_factor = 0.2f)", lambda o: l.LinearLR(o, 1.0, 0.2, 40))
    schedule_case("polynomial", "fv_polynomial(.power = 2)", lambda o: l.PolynomialLR(o, 40, 2.0))
    schedule_case("warm-up, cosine", "fv_cosine(.warmup_epochs = 1, .warmup_factor = 0.1f)",
                  lambda o: l.SequentialLR(o, [l.LinearLR(o, 0.1, 1.0, 10), l.CosineAnnealingLR(o, 30)], [10]))
    print("\n/* PyTorch's OneCycleLR reaches its end at the last batch, one early: 41 batches of it are 40 of ours. */")
    print("#define ONE_CYCLE_CASES \\")
    # with n steps in all its peak lies at pct n - 1 and its end at n - 1
    schedule_case("one-cycle", "fv_one_cycle(.peak_fraction = 0.25f, .initial_factor = 0.04f, .final_factor = 0.001f)",
                  lambda o: l.OneCycleLR(o, 1.0, total_steps=41, pct_start=11 / 41, div_factor=25, final_div_factor=40))
    print("")


# ---- Constraints: weights in Keras's layout before and after ---------------------------------------------------------

def constraints():
    from keras import constraints as k
    w = {2: f32(torch.randn(4, 3)), 4: f32(0.5 * torch.randn(2, 3, 2, 3))}  # [inputs, units], [h, w, in, out]
    w[2][:, 1] *= 0.1

    def case(name, fovea, rank, constraint, axes=0):
        after = constraint(w[rank].float()).double()
        shape = ", ".join(str(d) for d in w[rank].shape)
        print(f'    {{ "{name}", {fovea}, {axes}, {rank}, {{ {shape} }}, \\\n      {numbers(w[rank])}, \\\n      {numbers(after)} }}, \\')

    print("#define CONSTRAINT_CASES \\")
    case("max norm, units", "fv_max_norm_constraint(1.5f)", 2, k.MaxNorm(1.5))
    case("max norm, inputs", "fv_max_norm_constraint(1)", 2, k.MaxNorm(1.0, axis=1), 1 << 0)
    case("max norm, whole", "fv_max_norm_constraint(1)", 2, k.MaxNorm(1.0, axis=[0, 1]), 3)
    case("not negative", "fv_non_neg_constraint()", 2, k.NonNeg())
    case("unit norm", "fv_unit_norm_constraint()", 2, k.UnitNorm())
    case("norm between", "fv_min_max_norm_constraint(0.5f, 1, 0.75f)", 2, k.MinMaxNorm(0.5, 1.0, 0.75))
    case("max norm, filters", "fv_max_norm_constraint(1)", 4, k.MaxNorm(1.0, axis=[0, 1, 2]))
    case("max norm, rows", "fv_max_norm_constraint(0.5f)", 4, k.MaxNorm(0.5, axis=0), 1 << 1)
    case("unit norm, channels", "fv_unit_norm_constraint()", 4, k.UnitNorm(axis=[2, 3]), 1 << 0 | 1 << 3)
    case("not negative, filters", "fv_non_neg_constraint()", 4, k.NonNeg())
    print("")


def main():
    print("/* training.h - made by scripts/make_training_tables.py with PyTorch " + torch.__version__.split("+")[0] + ": do not edit. */")
    print("/* clang-format off */")
    losses()
    optimizers()
    schedules()
    constraints()


main()
