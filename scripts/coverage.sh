#!/bin/sh
# Which lines of the CUDA backend, host code and kernels, run in the tests on the emulated GPU (docs/cuda.md): builds with counters, runs the
# table of operations, test_cuda, test_plans and test_tune, and prints a line a file and their sum. Called by `make coverage`.
set -u
cd "$(dirname "$0")/.." || exit 1
make=${MAKE:-make}
out=build/coverage
"$make" COVERAGE=1 emulated $out/bin/test_operations $out/bin/test_cuda $out/bin/test_plans $out/bin/test_tune >/dev/null || exit 1
objects=$(sed -n 's/^\(build\/obj\/[0-9]*\).*/\1/p' $out/configuration)/emulated/src/cuda
[ -d "$objects" ] || { echo "coverage: there is no CUDA toolkit, so the plugin was not built" >&2; exit 1; }
rm -f "$objects"/*.gcda
export FOVEA_BUILD=$out FOVEA_QUICK=1
failed=0
FOVEA_BACKEND_PATH=$PWD/$out/lib/emulated $out/bin/test_operations --device cuda --random 1 >$out/operations.log 2>&1 || failed=1
for test in test_cuda test_plans test_tune; do $out/bin/$test >$out/$test.log 2>&1 || failed=1; done
[ $failed = 0 ] || echo "coverage: a test failed: $out/*.log" >&2
# A header counts once, with the unit that runs most of it.
for counts in "$objects"/*.gcda; do gcov -n "$counts" 2>/dev/null; done | awk '
    /^File / { file = $2; gsub("\047", "", file) }
    /^Lines executed:/ && file ~ /^src\/cuda\// {
        sub("Lines executed:", ""); sub("%.*of", "")
        if (!(file in lines) || $1 / 100 * $2 > hit[file] * lines[file]) { hit[file] = $1 / 100; lines[file] = $2 }
        file = ""
    }
    END {
        for (f in lines) {
            printf "%-36s %6.1f %% of %4d lines\n", f, 100 * hit[f], lines[f] | "sort"
            kind = f ~ /\.c$/ ? "host" : "kernels"
            all[kind] += lines[f]; ran[kind] += hit[f] * lines[f]
        }
        close("sort")
        for (kind in all) printf "%-36s %6.1f %% of %4d lines\n", kind, 100 * ran[kind] / all[kind], all[kind]
    }'
exit $failed
