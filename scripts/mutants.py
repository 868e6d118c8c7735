#!/usr/bin/env python3
"""Breaks kernels on purpose and says which test notices.

    scripts/mutants.py [--only WORD] [--write docs/results/mutants.md] [--jobs N]

Each mutant changes one expression of one file: a sign, an index off by one, a term left out. It is applied to a scratch
copy of the working tree, which is built (kernels of this machine's best instruction set only) and tested with the quick
table of operations, the relations and the golden figures. A mutant that no test notices is a hole in the tests: the exit
status is then 1. Before anything is built, a mutant whose text no longer stands in its file, exactly once, is an error (2):
repair it here."""
import argparse, os, platform, re, shutil, subprocess, sys, tempfile, time

# family, what is wrong, file, text, text instead
MUTANTS = [
    ("convolution", "taps after the second read the pixel before", "src/cpu/conv_direct.c",
     "conv_reads(d->p, d->gradient, axis, o, t)",
     "conv_reads(d->p, d->gradient, axis, o, t - (t > 1))"),
    ("convolution", "the second piece of a long sum overwrites the first", "src/cpu/conv_direct.c",
     "ldc, index > 0, finished",
     "ldc, index > 1, finished"),
    ("dense", "the second piece of a long sum overwrites the first", "src/cpu/gemm.c",
     "accumulate = at > 0;",
     "accumulate = at > p->depth;"),
    ("pooling", "the next window lies on the wrong side", "src/cpu/pooling.c",
     "q++, at += channels, cell -= step)",
     "q++, at += channels, cell += step)"),
    ("activation", "the slope of tanh is not squared", "src/cpu/activation.c",
     "SLOPE(FV_TANH, tanh, dy * (1.0f - v * v))",
     "SLOPE(FV_TANH, tanh, dy * (1.0f - v))    "),
    ("normalization", "the variance forgets the mean", "src/cpu/normalization.c",
     "sum[1] / (double)run.rows - distance * distance",
     "sum[1] / (double)run.rows"),
    ("normalization", "in the gradient, windows of an even size lie one channel off", "src/cpu/lrn.c",
     "window_sum(terms, c, (a->size - 1) / 2, a->size)",
     "window_sum(terms, c, a->size / 2, a->size)"),
    ("loss", "the gradient adds the target", "src/cpu/loss.c",
     "(e * scale - t) * g",
     "(e * scale + t) * g"),
    ("optimizer", "decoupled decay forgets the learning rate", "src/cpu/optimizer.c",
     "*w -= *w * (rate * decay);",
     "*w -= *w * decay;"),
    ("shaping", "outer axes of a slice begin at zero", "src/cpu/shaping.c",
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
    ("elementwise", "in the meaning: the gradient of a / b by b has the wrong sign", "src/ops/elementwise.c",
     "FV_APPLY(tape, FV_OP_mul, NULL, da, y), input_gradient);\n        input_gradient[1] = fv_append_scaled(tape, input_gradient[1], -1);",
     "FV_APPLY(tape, FV_OP_mul, NULL, da, y), input_gradient);"),
    ("pooling", "in the specification: averages divide by one cell too few", "src/cpu/reference/pooling.c",
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
    try:
        open(path, "w").write(text.replace(old, new))
        good, log = build(tree, arguments.jobs)
        return ("", noticed(tree)) if good else ("it does not compile:\n" + log[-1500:], [])
    finally:
        open(path, "w").write(text)


def page(rows):
    missed = sum(not found for _, found in rows)
    verdict = "All %d are noticed" % len(rows) if not missed else "%d of %d are **not** noticed" % (missed, len(rows))
    lines = ["# Kernels broken on purpose", "",
             "Written by `scripts/mutants.py --write docs/results/mutants.md`. Each row is one change to one expression, built and tested alone:",
             "quick table of operations (`FOVEA_QUICK=1 build/bin/test_operations`), relations, golden figures. %s; the" % verdict,
             "last column names the first tests that did. (The first run found a hole: only rows marked `large` had sums of several pieces. Small",
             "ones have been added.)", "",
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
status = 0
tree = tempfile.mkdtemp(prefix="fovea-mutants.")
rows = []
try:
    copy_tree(tree)
    stale = [m for m in MUTANTS if open(os.path.join(tree, m[2])).read().count(m[3]) != 1]
    for m in stale:
        print("%s: this does not stand there once: %s" % (m[2], m[3]))
    if stale:
        sys.exit(2)
    good, log = build(tree, arguments.jobs)
    failed = noticed(tree) if good else []
    if failed or not good:
        sys.exit("without a mutant these fail: " + ", ".join(failed) if good else log[-3000:])
    for mutant in MUTANTS:
        if arguments.only not in mutant[0] + " " + mutant[2]:
            continue
        started = time.time()
        trouble, found = mutate(tree, mutant)
        if not found:
            status = 1
        print("%-14s %-70s %s (%.0f s)" % (mutant[0], mutant[1], trouble or ", ".join(found[:3]) or "NOT NOTICED",
                                           time.time() - started), flush=True)
        rows.append((mutant, found))
    if arguments.write:
        open(arguments.write, "w").write(page(rows))
finally:
    shutil.rmtree(tree)
sys.exit(status)
