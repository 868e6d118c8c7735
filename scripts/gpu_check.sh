#!/bin/sh
# Everything that only a GPU can show, in one command and without a network: the operations against the reference, training to its
# accuracy, captured steps against eager ones, equal runs, runs that go on, CPU against GPU, compute-sanitizer, speed beside
# PyTorch. Writes OUT/report.json (a line a step) and OUT/report.md; the exit status is 1 if a step failed.
#
#   scripts/gpu_check.sh [--out DIR] [--minutes N] [STEP...]   on the machine with the GPU (default: all steps, within 8 minutes)
#   scripts/gpu_check.sh --pack                                where it was built: gathers the programs and the libraries they need in
#                                                              build/gpu, so that the other machine needs neither HDF5 nor a compiler
#   scripts/gpu_check.sh --emulated [...]                      the same script on the emulated GPU, to test the script itself
#
# Steps: device operations lenet capture repeat resume cpu cifar precision sanitizer speed pytorch
# MNIST and CIFAR-10 are found as the programs find them (FOVEA_DATA, then ~/.cache/fovea); without MNIST the steps that need no accuracy
# train on drawn digits, the others are skipped.
# shellcheck disable=SC2086 # $drawn, $small_test and $small are lists of words
set -u
cd "$(dirname "$0")/.." || exit 2

out=${TMPDIR:-/tmp}/gpu_check
minutes=8
emulated=
steps=
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=$2; shift ;;
        --minutes) minutes=$2; shift ;;
        --emulated) emulated=1 ;;
        --pack) pack=1 ;;
        -h | --help) sed -n '2,16s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) echo "gpu_check: unknown option $1" >&2; exit 2 ;;
        *) steps="$steps $1" ;;
    esac
    shift
done
steps=${steps:-device operations lenet capture repeat resume cpu cifar precision sanitizer speed pytorch}

programs="lenet_mnist cnn_mnist alexnet_cifar vgg_cifar fovea test_operations"

# ---- gathering --------------------------------------------------------------------------------------------------------

if [ -n "${pack:-}" ]; then
    rm -rf build/gpu
    mkdir -p build/gpu/bin build/gpu/lib
    for p in $programs; do cp "build/bin/$p" build/gpu/bin/ || exit 1; done
    cp -P build/lib/libfovea.so* build/lib/libfovea-cuda.so build/gpu/lib/ || exit 1
    # What these need and a machine with a driver may lack; the C library, the driver's and NVIDIA's big libraries stay behind.
    for p in $programs; do ldd "build/gpu/bin/$p"; done | awk '/=> \// { print $3 }' | sort -u |
        grep -v -e '/libc\.' -e '/libm\.' -e '/libdl\.' -e '/libpthread\.' -e '/librt\.' -e '/ld-linux' -e libfovea -e libcu |
        xargs -I{} cp -L {} build/gpu/lib/
    strip -g build/gpu/bin/* build/gpu/lib/* 2>/dev/null
    du -sh build/gpu
    exit 0
fi

# ---- what there is ----------------------------------------------------------------------------------------------------

root=build
[ -d build/gpu ] && root=build/gpu
root=${FOVEA_BUILD:-$root}
bin=$root/bin
lib=$(cd "$root/lib" 2>/dev/null && pwd) || { echo "gpu_check: nothing is built: 'make CUDA=1 all tests' or --pack" >&2; exit 2; }
FOVEA_BACKEND_PATH=$lib
[ -n "$emulated" ] && FOVEA_BACKEND_PATH=$lib/emulated
export FOVEA_BACKEND_PATH

# cuDNN and cuBLASLt come with the toolkit, or with PyTorch's packages.
if [ -z "$emulated" ]; then
    found=
    for d in /usr/local/cuda/lib64 $(python3 -c 'import nvidia, os
for p in nvidia.__path__:
    for d in sorted(os.listdir(p)):
        f = os.path.join(p, d, "lib")
        if os.path.isdir(f): print(f)' 2>/dev/null); do found=$found:$d; done
    LD_LIBRARY_PATH=$lib$found${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
fi

mkdir -p "$out" || exit 2
: >"$out/report.json"
began=$(date +%s)
failed=0

left() { echo $((minutes * 60 - ($(date +%s) - began))); }

# Runs a step: its name, then a function that prints to the log, sets $figure to a line for the report and returns 0, 1 or 77 (skipped).
run_step() {
    log=$out/$1.log
    figure=
    if [ "$(left)" -lt 10 ]; then
        result=skipped
        figure="no time left"
        seconds=0
    else
        from=$(date +%s)
        "step_$1" >"$log" 2>&1
        case $? in 0) result=passed ;; 77) result=skipped ;; *) result=FAILED; failed=1 ;; esac
        seconds=$(($(date +%s) - from))
        [ -f "$out/$1.figure" ] && figure=$(cat "$out/$1.figure")
    fi
    printf '%-11s %-8s %4s s  %s\n' "$1" "$result" "$seconds" "$figure"
    printf '{"step": "%s", "result": "%s", "seconds": %s, "figure": "%s"}\n' "$1" "$result" "$seconds" \
        "$(printf '%s' "$figure" | sed 's/["\\]/ /g')" >>"$out/report.json"
    [ "$result" = FAILED ] && tail -n 15 "$log" | sed 's/^/    /'
}

say() { printf '%s' "$*" >"$out/$step.figure"; }
json() { sed -n "s/.*\"$2\": \([0-9.eE+-]*\).*/\1/p" "$1" | tail -n 1; }
limited() { # no single program may use up the time
    t=$(left)
    timeout "$((t < 5 ? 5 : t))" "$@"
}
few=${emulated:+128} # images: the emulated GPU is slow
less() { echo "${few:-$1}"; }
[ -n "$emulated" ] && small_test="--limit-test 64"
data=${FOVEA_DATA:-$HOME/.cache/fovea}
drawn=--synthetic
for file in "$data"/train-images* "$data"/mnist/train-images* "$data"/MNIST/raw/train-images*; do
    [ -z "$emulated" ] && [ -e "$file" ] && drawn=
done

# ---- the steps ----------------------------------------------------------------------------------------------------------

step_device() {
    "$bin/fovea" devices
    [ -n "$emulated" ] || nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader
    say "$("$bin/fovea" devices | sed -n 's/^cuda[^ ]* *//p' | head -n 1)"
    ! "$bin/fovea" devices | grep -q '^cuda.*not usable'
}

# Strict f32: the bounds are those of f32 arithmetic.
step_operations() {
    FOVEA_TF32=0 FOVEA_QUICK=${emulated:+1} limited "$bin/test_operations" --device cuda --random "$([ -n "$emulated" ] && echo 1 || echo 10)" ${emulated:+--filter relu}
    status=$?
    say "$(grep -c '^\[       OK' "$out/operations.log") tests passed, $(grep -c '^\[  FAILED  \] [a-z]' "$out/operations.log") failed"
    return $status
}

step_lenet() {
    [ -z "$emulated" ] && [ -n "$drawn" ] && { echo "there is no MNIST in $data"; return 77; }
    limited "$bin/lenet_mnist" $drawn ${small_test:-} --device cuda --epochs "$([ -n "$emulated" ] && echo 1 || echo 5)" ${few:+--limit-train $few} --output "$out/lenet" -q --json || return
    accuracy=$(json "$out/lenet.log" test_accuracy)
    say "test accuracy $accuracy, $(json "$out/lenet.log" train_images_per_second) images/s"
    [ -n "$emulated" ] || awk -v a="$accuracy" 'BEGIN { exit !(a >= 0.985) }'
}

train() { # folder, further options: a short training, with dropout and augmentation on a real GPU, whose last.h5 is compared
    folder=$1
    shift
    case " $* " in *" --resume "*) ;; *) rm -rf "$folder" ;; esac
    if [ -n "$emulated" ]; then set -- lenet_mnist "$@"; else set -- cnn_mnist --augment "$@"; fi
    program=$1
    shift
    ${runner:-limited} "$bin/$program" --device cuda $drawn ${small_test:-} --epochs 2 --limit-train "$(less 4096)" --output "$folder" -q --json "$@"
}

step_capture() {
    train "$out/captured" || return
    train "$out/eager" --no-capture || return
    say "last.h5 of captured and eager steps: same bytes"
    cmp "$out/captured/last.h5" "$out/eager/last.h5"
}

step_repeat() {
    train "$out/first" && train "$out/second" || return
    say "two runs: same bytes"
    cmp "$out/first/last.h5" "$out/second/last.h5"
}

# A run that is killed once it has written a checkpoint, and then goes on, against one that was left alone.
step_resume() {
    train "$out/whole" || return
    rm -rf "$out/killed"
    runner=exec train "$out/killed" & # so that this process is the program
    running=$!
    waited=0
    until [ -s "$out/killed/last.h5" ] || [ $waited -gt 600 ] || ! kill -0 $running 2>/dev/null; do sleep 0.1; waited=$((waited + 1)); done
    kill -KILL $running 2>/dev/null
    wait $running
    cut=$?
    [ $cut -eq 0 ] || train "$out/killed" --resume "$out/killed/last.h5" || return
    say "$([ $cut -eq 0 ] && echo 'the run had ended before it could be killed' || echo 'killed after a checkpoint and gone on'): same bytes as a run left alone"
    cmp "$out/whole/last.h5" "$out/killed/last.h5"
}

# The losses of each epoch in strict f32: other orders of the sums, so equal but for rounding, which training enlarges.
step_cpu() {
    epochs=$([ -n "$emulated" ] && echo 1 || echo 3)
    for device in cuda cpu; do
        limited "$bin/lenet_mnist" $drawn ${small_test:-} --device $device --precision f32 --epochs "$epochs" --limit-train "$(less 8192)" --output "$out/curve-$device" -q --json || return
        tail -n +2 "$out/curve-$device/history.csv" | cut -d, -f1,4,6 >"$out/curve-$device.csv"
    done
    paste -d, "$out/curve-cuda.csv" "$out/curve-cpu.csv" | awk -F, '
        function apart(a, b) { return (a > b ? a - b : b - a) / b }
        { for (i = 2; i <= 3; i++) if (apart($i, $(i + 3)) > worst) worst = apart($i, $(i + 3))
          line = line sprintf(" epoch %d: %.5f and %.5f;", $1 + 1, $2, $5) }
        END { printf "training losses of GPU and CPU,%s at most %.2g apart", line, worst; exit !(NR > 0 && worst <= 1e-2) }' >"$out/$step.figure"
}

# Three epochs of 5,000 images beside the CPU, in f32 and bf16, at a rate where training is calm; then of all images in bf16 and TF32, for
# the accuracy and the speed.
step_cifar() {
    [ -n "$emulated" ] && return 77
    figures=
    for net in alexnet_cifar vgg_cifar; do
        small="--epochs 3 --limit-train 5000 --lr 0.01"
        for way in cpu:f32 cuda:f32 cuda:bf16; do
            log=$out/$net-$way.log
            limited "$bin/$net" --device ${way%:*} --precision ${way#*:} $small --output "$out/$net-$way" -q --json >"$log" 2>&1 || {
                cat "$log"
                grep -q 'CIFAR' "$log" && ! [ -s "$out/$net-$way/history.csv" ] && return 77
                return 1
            }
            accuracy=$(json "$log" test_accuracy)
            [ $way = cpu:f32 ] && cpu=$accuracy
            figures="$figures $net on $way $accuracy;"
            awk -v a="$accuracy" -v b="$cpu" 'BEGIN { exit !(a > b - 0.05) }' || { say "accuracy:$figures too far below the CPU"; return 1; }
        done
        for precision in tf32 bf16; do
            log=$out/$net-$precision.log
            limited "$bin/$net" --device cuda --precision $precision --epochs 3 --output "$out/$net-$precision" -q --json >"$log" 2>&1 || { cat "$log"; return 1; }
            figures="$figures $net, all images, $precision $(json "$log" test_accuracy), $(json "$log" train_images_per_second) images/s;"
        done
    done
    say "accuracy after three epochs:$figures"
}

# The same training in strict f32 and in 16 bits. The CIFAR programs do so at length.
step_precision() {
    figures=
    for precision in f32 bf16 f16; do
        limited "$bin/lenet_mnist" $drawn ${small_test:-} --device cuda --precision $precision --epochs 1 --limit-train "$(less 8192)" \
            --output "$out/lenet-$precision" -q --json >"$out/lenet-$precision.log" 2>&1 || { cat "$out/lenet-$precision.log"; return 1; }
        figures="$figures $precision: loss $(json "$out/lenet-$precision.log" test_loss), $(json "$out/lenet-$precision.log" train_images_per_second) images/s;"
    done
    say "one epoch of LeNet-5,$figures"
    for precision in bf16 f16; do
        awk -v a="$(json "$out/lenet-$precision.log" test_loss)" -v b="$(json "$out/lenet-f32.log" test_loss)" \
            'BEGIN { d = (a - b) / b; exit !(d < 0.02 && d > -0.02) }' || return
    done
}

step_sanitizer() {
    tool=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null) || return 77
    for check in memcheck racecheck initcheck synccheck; do
        for family in relu max_pool2d batch_norm sum softmax sgd_update conv2d; do
            echo "== $check $family"
            FOVEA_QUICK=1 limited "$tool" --tool $check --error-exitcode 9 "$bin/test_operations" --device cuda --random 0 --filter "$family" >"$out/sanitizer.one" 2>&1
            status=$?
            if grep -q 'Device not supported\|not supported on this device' "$out/sanitizer.one"; then return 77; fi
            tail -n 3 "$out/sanitizer.one"
            [ $status -eq 0 ] || { cat "$out/sanitizer.one"; return 1; }
        done
    done
    say "memcheck, racecheck, initcheck and synccheck over seven families: clean"
}

step_speed() {
    [ -n "$emulated" ] && return 77
    for precision in tf32 bf16; do
        limited "$bin/fovea" bench lenet5:128 lenet5:1024 mlp:128 alexnet_cifar:512 vgg11_bn_cifar:512 resnet18_cifar:512 --device cuda \
            --precision $precision --seconds 1 --json || return
    done
    limited "$bin/fovea" tune alexnet_cifar:512 --device cuda --output "$out/tuned.json" -q &&
        limited "$bin/fovea" bench alexnet_cifar:512 --device cuda --tuned "$out/tuned.json" --seconds 1 --json || return
    say "$(grep -o '"model": "[^"]*"\|"mode": "[^"]*"\|"images_per_second": [0-9.e+]*' "$out/speed.log" | sed 's/.*: //; s/"//g' | paste -sd' ' | cut -c1-700)"
}

# PyTorch, if it is installed and finds the GPU, trains and infers the same networks; the table goes into the report.
step_pytorch() {
    [ -n "$emulated" ] && return 77
    python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null || { echo "no PyTorch with a GPU"; return 77; }
    for precision in tf32 bf16; do
        limited python3 scripts/bench_pytorch.py --device cuda --precision $precision --fovea "$bin/fovea" --rounds 3 --seconds 0.3 --json lenet5:128 alexnet_cifar:512 vgg11_bn_cifar:512 resnet18_cifar:512 || return
    done
    say "$(sed -n 's/.*"results": \(.*\)}/\1/p' "$out/pytorch.log" | grep -o '"model": "[^"]*"\|"mode": "[^"]*"\|"ratio": [0-9.]*' | sed 's/.*: //; s/"//g' | paste -sd' ' | cut -c1-400)"
}

for step in $steps; do
    rm -f "$out/$step.figure"
    run_step "$step"
done

{
    echo "# GPU check"
    echo
    echo "$(date -u '+%Y-%m-%d %H:%M UTC'), $("$bin/fovea" devices 2>/dev/null | sed -n 's/^cuda[^ ]* *//p' | head -n 1)"
    echo
    echo "Command: \`scripts/gpu_check.sh $steps\`"
    echo
    echo "| step | result | seconds | |"
    echo "|---|---|---:|---|"
    sed 's/{"step": "\([^"]*\)", "result": "\(.*\)", "seconds": \(.*\), "figure": "\(.*\)"}/| \1 | \2 | \3 | \4 |/' "$out/report.json"
    grep -h '^|' "$out/pytorch.log" 2>/dev/null | sed '1i\
'
} >"$out/report.md"
echo "report: $out/report.md"
exit $failed
