#!/bin/sh
# Compiles every CUDA kernel with nvcc, warnings as errors, and finds registers spilled to memory: a test a file. CUDA_ARCH (90) says for what.
cd "$(dirname "$0")/.." || exit 1
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
arch=${CUDA_ARCH:-90}
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
passed=0
failed=0
for file in src/cuda/*.cu; do
    "$nvcc" -std=c++17 -O3 -arch="sm_$arch" -Iinclude -Isrc -Werror all-warnings -Xcompiler -Wall,-Wextra,-Wno-unused-parameter -Xptxas -v \
        -c -o /dev/null "$file" >"$log" 2>&1
    status=$?
    if [ $status -eq 0 ] && ! grep -q '[1-9][0-9]* bytes spill' "$log"; then
        passed=$((passed + 1))
        echo "ok - $file: at most $(sed -n 's/.*Used \([0-9]*\) registers.*/\1/p' "$log" | sort -n | tail -n 1) registers"
    else
        failed=$((failed + 1))
        echo "not ok - $file"
        grep -B 2 '[1-9][0-9]* bytes spill\|error' "$log"
    fi
done
echo
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
