#!/bin/bash
# Plugins as a user meets them: what is found is told, what is broken is refused by name and never replaced by the CPU without a word.
# The plugins that load, or are refused for what they say of themselves, are made by test_core.c.
cd "$(dirname "$0")/.." || exit 1
bin=$PWD/${FOVEA_BUILD:-build}/bin
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
export FOVEA_BACKEND_PATH=$work/none:$work
unset FOVEA_DEVICE
status=0
ok() { echo "ok - $1"; }
bad() { echo "not ok - $1"; sed 's/^/# /' "$work/out" "$work/err" | tail -6; status=1; }
says() { # NAME WORD FILE
    if grep -q -- "$2" "$3"; then ok "$1"; else bad "$1"; fi
}

echo "not a library" >"$work/libfovea-cuda.so"
"$bin/fovea" devices >"$work/out" 2>"$work/err"
says "fovea devices shows why a plugin cannot be used" "cuda .*not usable: $work/libfovea-cuda.so: " "$work/out"
says "fovea devices lists the CPU" "^cpu " "$work/out"

"$bin/lenet_mnist" --synthetic --limit-train 100 --epochs 1 --device cuda --output "$work/run" >"$work/out" 2>"$work/err"
code=$?
if [ $code = 1 ] && [ ! -e "$work/run" ]; then ok "--device cuda without one fails before anything else"; else bad "--device cuda without one: exit $code"; fi
says "--device cuda says what the loader said" "device 'cuda' cannot be used: $work/libfovea-cuda.so: file too short" "$work/err"

"$bin/lenet_mnist" --synthetic --limit-train 100 --epochs 1 --device auto --output "$work/run" >"$work/out" 2>"$work/err"
code=$?
if [ $code = 0 ]; then ok "--device auto takes the CPU"; else bad "--device auto: exit $code"; fi
says "and says why it is not the GPU" "cpu, .*(no CUDA: $work/libfovea-cuda.so" "$work/err"

FOVEA_DEVICE=abacus "$bin/lenet_mnist" --synthetic --limit-train 100 --epochs 1 --output "$work/two" >"$work/out" 2>"$work/err"
code=$?
if [ $code != 0 ]; then ok "an unknown FOVEA_DEVICE is an error"; else bad "an unknown FOVEA_DEVICE: exit 0"; fi
says "that names the variable" "FOVEA_DEVICE: device 'abacus'" "$work/err"
exit $status
