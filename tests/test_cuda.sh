#!/bin/sh
# The table of operation tests on the emulated GPU (tests/cuda), threads of a block in order, in reverse and at random; the
# script for GPU machines on it; and what a machine without a driver says. (Training on it: test_cuda.c.) Skipped where there is no CUDA toolkit.
set -u
build=${FOVEA_BUILD:-build}
emulated=$build/lib/emulated
failed=0

report() { # name, status, log
    if [ "$2" -eq 0 ]; then
        echo "ok - $1"
    else
        echo "not ok - $1"
        sed 's/^/    /' "$3" | tail -n 20
        failed=1
    fi
}

if [ ! -e "$emulated/libfovea-cuda.so" ]; then
    echo "skip - emulated_gpu: there is no CUDA toolkit, so the plugin was not built"
    exit 0
fi
FOVEA_BACKEND_PATH=$(cd "$emulated" && pwd)
export FOVEA_BACKEND_PATH
log=${TMPDIR:-/tmp}/test_cuda.log

for order in forward reverse random; do
    FOVEA_QUICK=1 FV_EMULATOR_ORDER=$order "$build/bin/test_operations" --device cuda --random 1 >"$log" 2>&1
    status=$?
    grep -q 'FAKE-GPU' "$log" && status=1
    report "operations_$order" $status "$log"
    [ -n "${FOVEA_QUICK:-}" ] && break # one order when time is short
done

# Where cuDNN has no plan the plain kernels work; it has one for every row, so it is told to have none.
FV_EMULATOR_NO_PLANS=1 FOVEA_QUICK=1 "$build/bin/test_operations" --device cuda --random 1 --filter conv2d >"$log" 2>&1
report "convolutions_without_plans" $? "$log"

scripts/gpu_check.sh --emulated --out "${TMPDIR:-/tmp}/gpu_check" ${FOVEA_QUICK:+device operations} >"$log" 2>&1
report "gpu_check_runs_on_the_emulated_gpu" $? "$log"

if [ -e "$build/lib/libfovea-cuda.so" ] && [ ! -e /dev/nvidia0 ]; then
    FOVEA_BACKEND_PATH=$(cd "$build/lib" && pwd) "$build/bin/lenet_mnist" --device cuda --limit-train 10 >"$log" 2>&1
    status=$?
    [ $status -ne 0 ] && grep -q 'driver' "$log" && [ "$(grep -c . "$log")" -eq 1 ]
    report "no_driver_is_said_in_one_sentence" $? "$log"
else
    echo "skip - no_driver_is_said_in_one_sentence: there is a GPU, or the plugin was not built (CUDA=1)"
fi
exit $failed
