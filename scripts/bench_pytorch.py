#!/usr/bin/env python3
"""Sets PyTorch beside `fovea bench`: the same networks, the same batches, on the same cores, in turns.

    python3 -m venv ~/peers && ~/peers/bin/pip install torch            # once, outside the source tree
    ~/peers/bin/python scripts/bench_pytorch.py                         # all models, 1 and 2 threads: most of an hour
    ~/peers/bin/python scripts/bench_pytorch.py lenet5:128 --mode train --threads 2 --rounds 3 --seconds 0.5
    ~/peers/bin/python scripts/bench_pytorch.py --memory                # of a training step, instead of speed
    ~/peers/bin/python scripts/bench_pytorch.py --device cuda           # on a GPU, in TF32 on both sides; --precision f32 or bf16

For each model, batch, mode and number of threads PyTorch runs in up to four ways: eager and torch.compile, contiguous and
channels-last; on a GPU also compiled and captured into CUDA graphs ("graphs"), as Fovea captures its steps. A round measures Fovea and then each of these for --seconds; the figure of a way is the median over the rounds, so that
what the machine does besides meets all of them alike. The table gives images a second and Fovea's ratio to PyTorch's best way.

Both sides train by SGD with momentum 0.9 on a batch that lies in memory, gradients set to nothing before each step; inference is without
gradients and with the running statistics. A compiler must be there for torch.compile (PyTorch's inductor writes C++).

--memory, on a CPU: how far the resident memory of a fresh process grows from before the network is made to its peak in the first
steps of training, PyTorch eager in both layouts, the smaller counts; libraries are loaded and used once before. Fovea's is that of
`fovea bench`, and what it plans (arena and store) is what `fovea summary` says."""
import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TRAINING = {"lenet5": 128, "mlp": 128, "alexnet_cifar": 128, "vgg11_bn_cifar": 64, "resnet18_cifar": 64, "mobilenet_cifar": 64}
INFERENCE = (128, 1)
WAYS = [(how, layout) for how in ("eager", "compile", "graphs") for layout in ("contiguous", "channels_last")]


# ---- the networks, as src/models builds them ---------------------------------------------------------------------------------------

def build(name):
    import torch
    from torch import nn

    def conv(i, o, kernel, stride=1, groups=1, relu=True):
        layers = [nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]
        return layers + [nn.ReLU(inplace=True)] if relu else layers

    class Block(nn.Module):
        def __init__(self, i, o, stride):
            super().__init__()
            self.body = nn.Sequential(*conv(i, o, 3, stride), *conv(o, o, 3, relu=False))
            self.side = nn.Sequential(*conv(i, o, 1, stride, relu=False)) if i != o else nn.Identity()

        def forward(self, x):
            return torch.relu(self.body(x) + self.side(x))

    if name == "mlp":
        layers = [nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)]
    elif name == "lenet5":
        layers = [nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
                  nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)]
    elif name == "alexnet_cifar":
        layers = [nn.Conv2d(3, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
                  nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
                  nn.Flatten(), nn.Linear(1152, 256), nn.ReLU(), nn.Linear(256, 10)]
    elif name == "vgg11_bn_cifar":
        layers, channels = [], 3
        for filters in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
            layers += conv(channels, filters, 3) if filters else [nn.MaxPool2d(2)]
            channels = filters or channels
        layers += [nn.Flatten(), nn.Linear(512, 10)]
    elif name == "resnet18_cifar":
        layers = conv(3, 64, 3)
        for i, o, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
            layers += [Block(i, o, stride), Block(o, o, 1)]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)]
    elif name == "mobilenet_cifar":
        layers, channels = conv(3, 32, 3), 32
        for filters, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)):
            layers += conv(channels, channels, 3, stride, channels) + conv(channels, filters, 1)
            channels = filters
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 10)]
    else:
        sys.exit(f"bench_pytorch: {name} is not among {', '.join(TRAINING)}")
    return nn.Sequential(*layers)


def make_step(name, batch, mode, how, layout, device, precision):
    """A function that starts one step; on a GPU it returns before the step is done."""
    import torch
    torch.manual_seed(1)
    shape = (batch, 1, 28, 28) if name in ("lenet5", "mlp") else (batch, 3, 32, 32)
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    net, x = build(name).to(device, memory_format=form), torch.rand(shape).to(device, memory_format=form)
    y = torch.randint(0, 10, (batch,)).to(device)
    net.train(mode == "train")
    run = {"eager": lambda: net, "compile": lambda: torch.compile(net),
           "graphs": lambda: torch.compile(net, mode="reduce-overhead")}[how]()
    narrow = torch.autocast(device, torch.bfloat16, enabled=device == "cuda" and precision == "bf16")
    if mode == "infer":
        def step():
            with torch.inference_mode(), narrow:
                return run(x)
        return step
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with narrow:
            loss = torch.nn.functional.cross_entropy(run(x), y)
        loss.backward()
        optimizer.step()
    return step


# ---- measuring ---------------------------------------------------------------------------------------------------------------------

def wait(device):
    if device == "cuda":
        import torch
        torch.cuda.synchronize()


def median_seconds(step, seconds, device):
    """As fovea bench does it: each sample is as many steps as fill five milliseconds, and ends when the device is done."""
    wait(device)
    begin = time.perf_counter()
    step()
    wait(device)
    runs = max(1, round(5e-3 / max(time.perf_counter() - begin, 1e-7)))
    samples, begin = [], time.perf_counter()
    while len(samples) < 3 or time.perf_counter() - begin < seconds:
        first = time.perf_counter()
        for _ in range(runs):
            step()
        wait(device)
        samples.append((time.perf_counter() - first) / runs)
    return statistics.median(samples)


def fovea(args, name, batch, mode, threads):
    command = [args.fovea, "bench", f"{name}:{batch}", "--mode", mode, "--threads", str(threads), "--device", args.device, "--json",
               "--seconds", str(args.seconds)]
    time.sleep(0.3)  # PyTorch's threads stop waiting awake
    if args.device == "cuda":
        command += ["--precision", args.precision]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"bench_pytorch: {' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])["results"][0]["images_per_second"]


def measure(args, name, batch, mode, threads):
    import torch
    torch.set_num_threads(threads)
    torch._dynamo.reset()  # compiled code has the number of threads in it
    steps = {}
    for way in WAYS:
        if way[0] not in args.ways or (name == "mlp" and way[1] == "channels_last"):
            continue
        try:
            steps[way] = make_step(name, batch, mode, *way, args.device, args.precision)
            for _ in range(3):
                steps[way]()
            wait(args.device)
        except Exception as error:  # no compiler, say: the other ways count
            steps.pop(way, None)
            print(f"bench_pytorch: {name}, {' '.join(way)}: {str(error).splitlines()[0]}", file=sys.stderr)
    figures = {"fovea": []}
    for _ in range(args.rounds):
        figures["fovea"].append(fovea(args, name, batch, mode, threads))
        for way, step in steps.items():
            figures.setdefault(way, []).append(batch / median_seconds(step, args.seconds, args.device))
    return {way: statistics.median(of_rounds) for way, of_rounds in figures.items()}


# ---- memory of training ------------------------------------------------------------------------------------------------------------

def pytorch_growth(name, batch, layout):
    """Runs in a process of its own."""
    import gc
    import torch
    torch.set_num_threads(1)
    make_step(name, 2, "train", "eager", layout, "cpu", "f32")()
    gc.collect()
    with open("/proc/self/clear_refs", "w") as reset:  # the peak counts from here
        reset.write("5")
    with open("/proc/self/statm") as statm:
        before = int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    step = make_step(name, batch, "train", "eager", layout, "cpu", "f32")
    for _ in range(3):
        step()
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return 1024 * peak - before


def compare_memory(args):
    print("| model | batch | PyTorch contiguous | channels-last | Fovea resident | planned | planned of the smaller |\n|" + "---|" * 7, flush=True)
    for text in args.models or ("alexnet_cifar", "vgg11_bn_cifar", "resnet18_cifar", "mobilenet_cifar"):
        name, _, batch = text.partition(":")
        batch = int(batch or TRAINING[name])
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            theirs = pool.starmap(pytorch_growth, [(name, batch, layout) for layout in ("contiguous", "channels_last")], chunksize=1)
        results = []
        for command in (["bench", f"{name}:{batch}", "--mode", "train", "--seconds", "0.1"], ["summary", name, "-b", str(batch)]):
            done = subprocess.run([args.fovea, *command, "--device", "cpu", "--threads", "1", "--json"], stdout=subprocess.PIPE, text=True, check=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
        ours, planned = results[0]["results"][0]["resident_bytes"], results[1]["training_bytes"]
        row = [f"{size / 1e6:,.1f} MB" for size in (*theirs, ours, planned)]
        print("| " + " | ".join([name, str(batch), *row, f"{100 * planned / min(theirs):.0f} %"]) + " |", flush=True)


# ---- all of them -------------------------------------------------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL[:BATCH]", help=f"of {', '.join(TRAINING)} (default all)")
    parser.add_argument("--mode", choices=("train", "infer", "both"), default="both")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("tf32", "f32", "bf16"), default="tf32", help="on a GPU, on both sides; bf16 is PyTorch's autocast (default tf32)")
    parser.add_argument("--threads", help="numbers of threads (default 1,2; with a GPU 1)")
    parser.add_argument("--ways", help="of eager, compile, graphs (default: eager,compile; with a GPU all)")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--seconds", type=float, default=1, help="of each figure in a round (default 1)")
    parser.add_argument("--fovea", metavar="PROGRAM", default=os.path.join(HERE, "..", "build", "bin", "fovea"))
    parser.add_argument("--memory", action="store_true", help="compare the memory of training instead")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on a line of its own")
    args = parser.parse_args()
    args.ways = (args.ways or ("eager,compile" if args.device == "cpu" else "eager,compile,graphs")).split(",")
    args.threads = args.threads or ("1,2" if args.device == "cpu" else "1")
    if args.rounds < 1 or not set(args.ways) <= {"eager", "compile", "graphs"} or (args.device == "cpu" and "graphs" in args.ways):
        parser.error("--rounds is at least 1, --ways of eager, compile and, on a GPU, graphs")

    if args.memory:
        return compare_memory(args)

    import torch
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("bench_pytorch: this PyTorch finds no GPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    torch.backends.cudnn.benchmark = True  # PyTorch at its best: it may time cuDNN's engines
    cases = []
    for text in args.models or TRAINING:
        name, _, batch = text.partition(":")
        if name not in TRAINING:
            parser.error(f"{name} is not among {', '.join(TRAINING)}")
        if args.mode != "infer":
            cases.append((name, int(batch or TRAINING[name]), "train"))
        if args.mode != "train":
            cases += [(name, size, "infer") for size in ((int(batch),) if batch else INFERENCE)]
    where = torch.backends.cpu.get_cpu_capability() if args.device == "cpu" else f"{torch.cuda.get_device_name()}, {args.precision}"
    print(f"PyTorch {torch.__version__}, {where}; images a second, medians of {args.rounds} rounds\n")
    titles = [" ".join(way).replace("_", "-") for way in WAYS if way[0] in args.ways]
    head = ["model", "batch", "mode", "threads", *titles, "Fovea", "ratio"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head), flush=True)
    results = []
    for name, batch, mode in cases:
        for threads in map(int, args.threads.split(",")):
            figures = measure(args, name, batch, mode, threads)
            best = max((value for way, value in figures.items() if way != "fovea"), default=float("nan"))
            row = [f"{figures[way]:,.0f}" if way in figures else "" for way in WAYS if way[0] in args.ways]
            ratio = figures["fovea"] / best
            print("| " + " | ".join([name, str(batch), mode, str(threads), *row, f"{figures['fovea']:,.0f}", f"{ratio:.2f}"]) + " |", flush=True)
            results.append(dict(model=name, batch=batch, mode=mode, threads=threads, fovea=figures["fovea"], pytorch=best, ratio=ratio,
                                ways={" ".join(way): value for way, value in figures.items() if way != "fovea"}))
    if args.json:
        print(json.dumps(dict(pytorch=torch.__version__, results=results)))


if __name__ == "__main__":
    main()
