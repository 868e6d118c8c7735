#!/bin/sh
# An operation that is added in fewer than its five places is noticed (docs/adding_an_operation.md). A line `forgotten` in ops.def alone
# must make the linker ask for its meaning, both reference kernels, the fast kernel and the entry in the table of tests, each by name;
# without the line in ops.def a description must not compile.
cd "$(dirname "$0")/.." || exit 1
build=${FOVEA_BUILD:-build}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
status=0
flags="-std=gnu11 -Isrc -Iinclude -Itests"

# with DIRECTORY FILE FLAGS: what the linker misses when the table in FILE is made from the ops.def in DIRECTORY
missing() {
    directory=$1 file=$2; shift 2
    # shellcheck disable=SC2086 # flags are words
    ${CC:-cc} -I"$directory" $flags "$@" -c -o "$work/table.o" "$file" 2>"$work/compile" || { cat "$work/compile"; return; }
    ${CC:-cc} -o "$work/program" "$work/main.o" "$work/table.o" "$build/lib/libfovea.a" 2>&1
}
echo 'int main(void) { return 0; }' >"$work/main.c"
${CC:-cc} -c -o "$work/main.o" "$work/main.c" || exit 1
mkdir "$work/with" "$work/without"
cp src/ops.def "$work/without/"
{ cat src/ops.def; echo 'FV_OP(forgotten, 1, 1, 1, 0, "x -> y")'; } >"$work/with/ops.def"

noticed() { # place symbol FILE FLAGS
    place=$1 symbol=$2; shift 2
    missing "$work/without" "$@" >"$work/before"
    missing "$work/with" "$@" >"$work/after"
    if grep -q forgotten "$work/before"; then echo "not ok - $place: the list as it is should do"; sed 's/^/# /' "$work/before" | head -5; status=1
    elif grep -q "undefined reference to .*$symbol" "$work/after"; then echo "ok - $place forgotten: the linker misses $symbol"
    else echo "not ok - $place forgotten: the linker should miss $symbol"; sed 's/^/# /' "$work/after" | head -5; status=1; fi
}
noticed "the meaning" fv_op_desc_forgotten src/ops/table.c
noticed "the reference kernel" fv_reference_forgotten_float src/cpu/reference/backend.c
noticed "the reference kernel in double" fv_reference_forgotten_double src/cpu/reference/backend.c
noticed "the fast kernel" fv_kernel_forgotten_generic src/cpu/table.c -DFV_ISA=generic
noticed "the entry in the table of tests" op_rule_forgotten tests/support/table.c

cat >"$work/meaning.c" <<'C'
#include "ops/family.h"
FV_DESC(forgotten, none, .infer = fv_infer_same);
C
# shellcheck disable=SC2086 # flags are words
if ${CC:-cc} $flags -fsyntax-only "$work/meaning.c" 2>"$work/compile"; then echo "not ok - the line in ops.def forgotten: a description compiles"; status=1
elif grep -q FV_LEAST_forgotten "$work/compile"; then echo "ok - the line in ops.def forgotten: the description does not compile"
else echo "not ok - the line in ops.def forgotten: another error"; sed 's/^/# /' "$work/compile" | head -5; status=1; fi
# shellcheck disable=SC2086 # flags are words
if ${CC:-cc} -I"$work/with" $flags -fsyntax-only "$work/meaning.c" 2>"$work/compile"; then echo "ok - with it, it does"; else echo "not ok - with it, it does"; sed 's/^/# /' "$work/compile" | head -5; status=1; fi
exit $status
