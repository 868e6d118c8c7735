#!/usr/bin/env python3
"""Breaks kernels on purpose and says which test notices.

    scripts/mutants.py [--only WORD] [--write docs/results/mutants.md] [--jobs N]

Each mutant changes one expression of one file: a sign, an index off by one, a term left out. It is applied to a scratch
copy of the working tree, which is built (kernels of this machine's best instruction set only) and tested with the quick
table of operations, the relations and the golden figures. A mutant that no test notices is a hole in the tests: the exit
status is then 1. A mutant whose text no longer stands in its file, exactly once, must be repaired here: exit status 2."""
import argparse, os, platform, re, shutil, subprocess, sys, tempfile, time

# family, what is wrong, file, text, text instead
MUTANTS = [
    ("convolution", "stride and kernel: the tap above is read", "src/cpu/conv_direct.c",
     "conv_reads(d->p, d->gradient, axis, o, t)",
     "conv_reads(d->p, d->gradient, axis, o, t - (t > 1))"),
    ("dense", "a sum in several blocks forgets the first", "src/cpu/gemm.c",
     "accumulate = at > 0;",
     "accumulate = at > p->depth;"),
    ("pooling", "the next window lies on the wrong side", "src/cpu/pooling.c",
     "q++, at += channels, cell -= step)",
     "q++, at += channels, cell += step)"),
    ("activation", "a square is dropped from the slope of tanh", "src/cpu/activation.c",
     "GRADIENT_RANGE(tanh_gradient, dy * (1.0f - y * y))",
     "GRADIENT_RANGE(tanh_gradient, dy * (1.0f - y))"),
    ("normalization", "the variance forgets the mean", "src/cpu/normalization.c",
     "sum[1] / (double)run.rows - distance * distance",
     "sum[1] / (double)run.rows"),
    ("normalization", "windows of an even size lie one channel off in the gradient", "src/cpu/lrn.c",
     "window_sum(terms, c, (a->size - 1) / 2, a->size)",
     "window_sum(terms, c, a->size / 2, a->size)"),
    ("loss", "the gradient adds the target", "src/cpu/loss.c",
     "@@",
     "@@"),
    ("optimizer", "Adam without its epsilon", "src/cpu/optimizer.c",
     "@@",
     "@@"),
    ("shaping", "the outer axes of a slice begin at zero", "src/cpu/shaping.c",
     "offset += (i % run->box->dim[axis] + run->begin[axis]) * stride;",
     "offset += i % run->box->dim[axis] * stride;"),
    ("reduction", "a maximum takes the smaller", "src/cpu/reduction.c",
     "choose((x > best) | (x != x), x, best)",
     "choose((x < best) | (x != x), x, best)"),
    ("indexing", "a number one past the end is read", "src/cpu/indexing.c",
     "number >= 0 && number < size;",
     "number >= 0 && number <= size;"),
    ("random", "what dropout keeps is not scaled", "src/cpu/noise.c",
     "keep_if(drawn >= n->rate, x * n->scale)",
     "keep_if(drawn >= n->rate, x)"),
    ("elementwise", "the meaning: the gradient of a / b in b has the wrong sign", "src/ops/elementwise.c",
     """        reduce_to(tape, operation, 1, FV_APPLY(tape, FV_OP_mul, NULL, da, y), input_gradient);
        input_gradient[1] = fv_append_scaled(tape, input_gradient[1], -1);""",
     "        reduce_to(tape, operation, 1, FV_APPLY(tape, FV_OP_mul, NULL, da, y), input_gradient);"),
    ("pooling", "the specification itself: averages divide by one cell too few", "src/cpu/reference/pooling.c",
     "return end > begin ? end - begin : 0;",
     "return end > begin ? end - begin - 1 : 0;"),
]

PROGRAMS = ["test_operations", "test_relations", "test_golden"]


def best_isas():
    if platform.machine() not in ("x86_64", "amd64"):
        return []
    flags = re.search(r"^flags\s*:(.*)$", open("/proc/cpuinfo").read(), re.M).group(1).split()
    return ["ISAS=" + ("v4" if "avx512bw" in flags else "v3" if "avx2" in flags else "v2")]


def copy_tree(to):
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=True,
                           capture_output=True).stdout.decode().split("\0")
    for name in filter(os.path.isfile, names):
        os.makedirs(os.path.join(to, os.path.dirname(name)), exist_ok=True)
        shutil.copy2(name, os.path.join(to, name))


def build(tree, jobs):
    made = subprocess.run(["make", "-j%d" % jobs, *best_isas(), *("build/bin/" + p for p in PROGRAMS)], cwd=tree,
                          capture_output=True, text=True)
    return made.returncode == 0, made.stdout + made.stderr


def noticed(tree):
    """The names of the tests that fail, program by program."""
    found = []
    for program in PROGRAMS:
        run = subprocess.run(["build/bin/" + program], cwd=tree, capture_output=True, text=True, timeout=900,
                             env={**os.environ, "FOVEA_QUICK": "1"})
        failed = re.findall(r"^\[  FAILED  \] (\w+)$", run.stdout + "\n" + run.stderr, re.M)
        if not failed and run.returncode:
            failed = ["(ended with status %d)" % run.returncode]
        found += ["%s: %s" % (program, name) for name in dict.fromkeys(failed)]
    return found


def mutate(tree, mutant):
    family, wrong, name, old, new = mutant
    path = os.path.join(tree, name)
    text = open(path).read()
    if text.count(old) != 1:
        sys.exit_status = 2
        return "the text stands there %d times: %s" % (text.count(old), old), []
    try:
        open(path, "w").write(text.replace(old, new))
        good, log = build(tree, arguments.jobs)
        return ("", noticed(tree)) if good else ("it does not compile:\n" + log[-1500:], [])
    finally:
        open(path, "w").write(text)


def page(rows):
    lines = ["# Kernels broken on purpose", "",
             "Written by `scripts/mutants.py --write docs/results/mutants.md`. Each row is one change to one expression; the tests are the quick",
             "table of operations (`FOVEA_QUICK=1 build/bin/test_operations`), the relations and the golden figures. Every change is noticed; the",
             "table names the first tests that did.", "",
             "| family | what is wrong | file | from | to | noticed by |", "|---|---|---|---|---|---|"]
    for (family, wrong, name, old, new), found in rows:
        shown = ", ".join("`%s`" % f for f in found[:4]) + (" and %d more" % (len(found) - 4) if len(found) > 4 else "")
        code = lambda s: "`" + " ".join(s.split()).replace("|", "\\|") + "`"
        lines.append("| %s | %s | `%s` | %s | %s | %s |" % (family, wrong, name, code(old), code(new), shown or "**nothing**"))
    return "\n".join(lines) + "\n"


parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--only", default="", help="mutants whose family or file has this word")
parser.add_argument("--write", metavar="FILE", help="the result as a page")
parser.add_argument("--jobs", type=int, default=2, help="of make")
arguments = parser.parse_args()
os.chdir(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.exit_status = 0
tree = tempfile.mkdtemp(prefix="fovea-mutants.")
rows = []
try:
    copy_tree(tree)
    good, log = build(tree, arguments.jobs)
    if not good or noticed(tree):
        sys.exit("the tests do not pass without a mutant" if good else log[-3000:])
    for mutant in MUTANTS:
        if arguments.only not in mutant[0] + " " + mutant[2]:
            continue
        started = time.time()
        trouble, found = mutate(tree, mutant)
        if not found:
            sys.exit_status = max(sys.exit_status, 1)
        print("%-14s %-70s %s (%.0f s)" % (mutant[0], mutant[1], trouble or ", ".join(found[:3]) or "NOT NOTICED",
                                           time.time() - started), flush=True)
        rows.append((mutant, found))
    if arguments.write and sys.exit_status < 2:
        open(arguments.write, "w").write(page(rows))
finally:
    shutil.rmtree(tree)
sys.exit(sys.exit_status)
