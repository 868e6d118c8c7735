#!/bin/sh
# The CUDA kernels under clang's ThreadSanitizer: in the emulated plugin every CUDA thread is a thread of the sanitizer, and only barriers and
# the ends of launches order memory, so that a race within a block or between blocks is reported. Small rows of every family.
cd "$(dirname "$0")/.." || exit 1
make=${MAKE:-make}
build=build/race
"$make" -j"$(nproc)" BUILD=$build CC=clang CXX=clang++ SANITIZE=thread emulated $build/tsan/bin/test_operations || exit 1
passed=0
failed=0
for family in relu_gradient add max_pool2d avg_pool2d batch_norm lrn layer_norm sum variance softmax softmax_cross_entropy huber gather scatter_add \
    top_k dropout flip transpose pad resize sgd_update adam_update check_gradients metric_add local_conv2d prelu; do
    if FOVEA_QUICK=1 FOVEA_NUM_THREADS=1 FOVEA_BACKEND_PATH=$PWD/$build/tsan/lib/emulated TSAN_OPTIONS="halt_on_error=1 report_signal_unsafe=0" \
        timeout 300 $build/tsan/bin/test_operations --device cuda --random 0 --filter $family >$build/race.log 2>&1; then
        passed=$((passed + 1))
        echo "ok - $family"
    else
        failed=$((failed + 1))
        echo "not ok - $family"
        tail -n 30 $build/race.log
    fi
done
echo
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
