#!/usr/bin/env python3
"""Trains the nets of the example programs in PyTorch, with the same settings, and sets Fovea beside it.

    python3 -m venv ~/peers && ~/peers/bin/pip install torch numpy      # once, outside the source tree
    ~/peers/bin/python scripts/compare_pytorch.py alexnet_cifar --epochs 2 --limit-train 5000
    ~/peers/bin/python scripts/compare_pytorch.py vgg_cifar --epochs 2 --limit-train 5000 --fovea build/bin

The first argument is the name of an example: alexnet_cifar, vgg_cifar, lenet_mnist (the table's variant) or mlp_mnist. Settings that
are not given are the program's own defaults. A line of JSON is printed for each run, then a table over the seeds: mean, smallest,
largest and standard deviation of test accuracy and test loss, and the training speed. With --fovea the program is run with the same
settings and seeds, and the verdict is whether Fovea's mean lies within PyTorch's smallest and largest seed; the exit status is 1 where
it does not. --lines FILE takes PyTorch's runs from the lines of an earlier call instead of training, and needs no PyTorch then.

What is the same on both sides: layers, initial distributions, loss, optimiser, schedule by the batch, batch size, the smaller last
batch, augmentation, pixels as x / 255. What is not: the random numbers themselves, so runs of one seed are not to be compared
singly; and PyTorch's running variance is unbiased where Fovea's (as Keras's) is biased, n against n - 1 for n = 32 and more."""
import argparse
import gzip
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

PROGRAMS = {"alexnet_cifar": "cifar10", "vgg_cifar": "cifar10", "lenet_mnist": "mnist", "mlp_mnist": "mnist"}
SETTINGS = dict(epochs=int, batch_size=int, lr=float, momentum=float, weight_decay=float, warmup_epochs=float)
VGG = {
    "vgg11": [64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0],
    "vgg13": [64, 64, 0, 128, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0],
    "vgg16": [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0],
    "vgg19": [64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0],
}


def defaults_of(program):
    """The settings that the example itself begins with, so that they are written down once."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "examples", program + ".c")
    with open(path) as f:
        table = re.search(r"options o = \{(.*?)\};", f.read(), re.S).group(1)
    found = dict(re.findall(r"\.(\w+) = ([-+.\de]+)f?\b", table))
    return dict({name: kind(found.get(name, 0)) for name, kind in SETTINGS.items()}, augment=".augments = true" in table)


# ---- data: what Fovea's readers give, as u8 NCHW ---------------------------------------------------------------------------------------

def find(folders, name):
    for folder in folders:
        for path in (os.path.join(folder, name), os.path.join(folder, name + ".gz")):
            if os.path.exists(path):
                return gzip.open(path) if path.endswith(".gz") else open(path, "rb")
    sys.exit(f"compare_pytorch: {name} is in none of {', '.join(folders)}")


def load(name, folder, train):
    import numpy as np
    if name == "mnist":
        folders = [folder, os.path.join(folder, "mnist"), os.path.join(folder, "MNIST", "raw")]
        stem = "train" if train else "t10k"
        with find(folders, f"{stem}-images-idx3-ubyte") as f:
            images = np.frombuffer(f.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
        with find(folders, f"{stem}-labels-idx1-ubyte") as f:
            labels = np.frombuffer(f.read(), np.uint8, offset=8)
        return images, labels
    folders = [folder, os.path.join(folder, "cifar-10-batches-bin")]
    rows = []
    for part in [f"data_batch_{i}.bin" for i in range(1, 6)] if train else ["test_batch.bin"]:
        with find(folders, part) as f:
            rows.append(np.frombuffer(f.read(), np.uint8).reshape(-1, 3073))
    rows = np.concatenate(rows)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]


# ---- nets --------------------------------------------------------------------------------------------------------------------------------

def build(program, variant):
    from torch import nn
    if program == "alexnet_cifar":
        def pool():
            return nn.MaxPool2d(3, 2)
        layers = [nn.Conv2d(3, 64, 5, padding=2), nn.ReLU(), pool(), nn.Conv2d(64, 64, 5, padding=2), nn.ReLU(), pool(),
                  nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), pool(),
                  nn.Flatten(), nn.Linear(3 * 3 * 128, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 10)]
    elif program == "vgg_cifar":
        layers, channels = [], 3
        for filters in VGG[variant]:
            if filters == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters, eps=1e-5, momentum=0.1), nn.ReLU()]
            channels = filters
        layers += [nn.Flatten(), nn.Linear(512, 10)]
    elif program == "lenet_mnist":
        layers = [nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
                  nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)]
    else:
        layers = [nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.2),
                  nn.Linear(512, 10)]
    net = nn.Sequential(*layers)
    for layer in net:
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        if program == "vgg_cifar" and isinstance(layer, nn.Conv2d):  # He normal as Keras draws it: cut at two deviations, widened to make up
            deviation = math.sqrt(2 / layer.weight[0].numel()) / 0.87962566103423978
            nn.init.trunc_normal_(layer.weight, 0, deviation, -2 * deviation, 2 * deviation)
        else:
            nn.init.xavier_uniform_(layer.weight)
    return net


# ---- one run -----------------------------------------------------------------------------------------------------------------------------

def factor(settings, epoch):
    """Of the learning rate, for a fractional epoch: a linear rise from 0 over the warm-up, then half a cosine to 0 over what is left."""
    warmup, epochs = settings["warmup_epochs"], settings["epochs"]
    if epoch < warmup:
        return epoch / warmup
    if settings["sched"] == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))


def augment(torch, images, crop=4):
    """Each image mirrored or not, then cut at random from itself with crop zero pixels around."""
    n, _, height, width = images.shape
    flipped = torch.where(torch.rand(n, 1, 1, 1) < 0.5, images.flip(3), images)
    padded = torch.nn.functional.pad(flipped, (crop,) * 4)
    rows = torch.randint(0, 2 * crop + 1, (n, 1)) + torch.arange(height)
    columns = torch.randint(0, 2 * crop + 1, (n, 1)) + torch.arange(width)
    return padded.permute(0, 2, 3, 1)[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def run_pytorch(settings, seed, train, test):
    import torch
    from torch.nn.functional import cross_entropy
    torch.manual_seed(seed)
    images, labels = (torch.from_numpy(a) for a in train)
    net = build(settings["program"], settings["variant"])
    optimizer = torch.optim.SGD(net.parameters(), lr=settings["lr"], momentum=settings["momentum"], weight_decay=settings["weight_decay"])
    size, batches = settings["batch_size"], math.ceil(len(labels) / settings["batch_size"])
    seconds = loss_sum = 0.0
    for epoch in range(settings["epochs"]):
        net.train()
        started, loss_sum, order = time.perf_counter(), 0.0, torch.randperm(len(labels))
        for batch in range(batches):
            rows = order[batch * size:(batch + 1) * size]
            x = images[rows]
            x = (augment(torch, x) if settings["augment"] else x).float() / 255
            for group in optimizer.param_groups:
                group["lr"] = settings["lr"] * factor(settings, epoch + batch / batches)
            loss = cross_entropy(net(x), labels[rows].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(rows)
        seconds += time.perf_counter() - started
    net.eval()
    right, test_loss = 0, 0.0
    with torch.no_grad():
        for x, y in zip(torch.from_numpy(test[0]).split(500), torch.from_numpy(test[1]).long().split(500)):
            scores = net(x.float() / 255)
            right += (scores.argmax(1) == y).sum().item()
            test_loss += cross_entropy(scores, y, reduction="sum").item()
    return dict(test_accuracy=right / len(test[1]), test_loss=test_loss / len(test[1]), train_loss=loss_sum / len(labels),
                train_images_per_second=len(labels) * settings["epochs"] / seconds, seconds=seconds,
                parameters=sum(p.numel() for p in net.parameters()))


def run_fovea(folder, settings, seed, args):
    command = [os.path.join(folder, settings["program"]), "--json", "-q", "--seed", str(seed), "--sched", settings["sched"]]
    for name in SETTINGS:
        command += ["--" + name.replace("_", "-"), str(settings[name])]
    for name in ("variant", "limit_train"):
        if settings[name]:
            command += ["--" + name.replace("_", "-"), str(settings[name])]
    if defaults_of(settings["program"])["augment"]:
        command.append("--augment" if settings["augment"] else "--no-augment")
    if args.data_dir:
        command += ["--data-dir", args.data_dir]
    if args.threads:
        command += ["--threads", str(args.threads)]
    with tempfile.TemporaryDirectory() as output:
        done = subprocess.run(command + ["--output", output], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"compare_pytorch: {' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


# ---- all of them -------------------------------------------------------------------------------------------------------------------------

FIGURES = (("test accuracy", "test_accuracy", "%.4f"), ("test loss", "test_loss", "%.4f"), ("images/s", "train_images_per_second", "%.0f"))


def report(runs):
    print(f"\n{'':10} {'':14} {'mean':>9} {'min':>9} {'max':>9} {'deviation':>9}   runs")
    spread = {}
    for framework in dict.fromkeys(r["framework"] for r in runs):
        for title, key, form in FIGURES:
            values = [r[key] for r in runs if r["framework"] == framework and r.get(key) is not None]
            if not values:
                continue
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            spread[framework, key] = statistics.mean(values), min(values), max(values)
            print(f"{framework:10} {title:14} " + " ".join(f"{form % v:>9}" for v in (*spread[framework, key], deviation)) + f"   {len(values)}")
    return spread


def verdict(spread):
    good = True
    print()
    for title, key, form in FIGURES[:2]:
        mean, (_, low, high) = spread["fovea", key][0], spread["pytorch", key]
        word = "within" if low <= mean <= high else "below" if mean < low else "above"
        good = good and word == "within"
        print(f"{title}: Fovea's mean {form % mean} is {word} PyTorch's seeds, {form % low} to {form % high}")
    return good


def emit(framework, settings, seed, figures, runs):
    line = dict(framework=framework, seed=seed, **settings, **figures)
    print(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in line.items()}), flush=True)
    runs.append(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--data-dir", default=os.environ.get("FOVEA_DATA", os.path.expanduser("~/.cache/fovea")))
    parser.add_argument("--variant", choices=VGG, help="of vgg_cifar (default vgg11)")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("-b", "--batch-size", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--momentum", type=float)
    parser.add_argument("--weight-decay", type=float)
    parser.add_argument("--warmup-epochs", type=float)
    parser.add_argument("--sched", choices=("cosine", "constant"), default="cosine")
    parser.add_argument("--augment", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--limit-train", type=int, metavar="N", help="the first N training images only")
    parser.add_argument("--seeds", type=int, default=5, help="how many (default 5): --first-seed, and those after it")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of both frameworks (default: theirs)")
    parser.add_argument("--fovea", metavar="FOLDER", help="run the program of this folder too, such as build/bin")
    parser.add_argument("--lines", metavar="FILE", help="take PyTorch's runs from the JSON lines of an earlier call")
    args = parser.parse_args()

    defaults = defaults_of(args.program)
    if args.variant and args.program != "vgg_cifar":
        parser.error("--variant belongs to vgg_cifar")
    if args.augment and not defaults["augment"]:
        parser.error(f"{args.program} does not augment")
    if args.seeds < 1:
        parser.error("--seeds: at least one")
    settings = dict(program=args.program, variant=(args.variant or "vgg11") if args.program == "vgg_cifar" else None, sched=args.sched,
                    limit_train=args.limit_train)
    for name in (*SETTINGS, "augment"):
        given = getattr(args, name)
        settings[name] = defaults[name] if given is None else given

    runs, seeds = [], range(args.first_seed, args.first_seed + args.seeds)
    if args.lines:
        with open(args.lines) as f:
            earlier = [json.loads(line) for line in f if line.startswith("{")]
        runs = [r for r in earlier if r["framework"] == "pytorch" and r["seed"] in seeds and all(r[k] == v for k, v in settings.items())]
        if len(runs) != len(seeds):
            sys.exit(f"compare_pytorch: {args.lines} holds {len(runs)} of the {len(seeds)} runs with these settings and seeds")
    else:
        import torch
        if args.threads:
            torch.set_num_threads(args.threads)
        train, test = (load(PROGRAMS[args.program], args.data_dir, part) for part in (True, False))
        if args.limit_train:
            train = tuple(a[:args.limit_train] for a in train)
        train, test = (tuple(a.copy() for a in pair) for pair in (train, test))
        print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads", file=sys.stderr)
        for seed in seeds:
            emit("pytorch", settings, seed, run_pytorch(settings, seed, train, test), runs)
    if args.fovea:
        for seed in seeds:
            emit("fovea", settings, seed, run_fovea(args.fovea, settings, seed, args), runs)
    spread = report(runs)
    return 0 if not args.fovea or verdict(spread) else 1


if __name__ == "__main__":
    sys.exit(main())
