#!/bin/bash
# The example programs and the tool, used as a user would: they train, repeat bit for bit, survive a kill, and answer bad input with one
# sentence and exit code 1 or 2.
cd "$(dirname "$0")/.." || exit 1
bin=$PWD/${FOVEA_BUILD:-build}/bin
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
status=0
ok() { echo "ok - $1"; }
bad() { echo "not ok - $1"; [ -z "$2" ] || echo "$2" | tail -4 | sed 's/^/# /'; status=1; }
lenet() { "$bin/lenet_mnist" --synthetic -q "$@"; }

# fails NAME CODE WORD COMMAND..: exit CODE and one line on stderr that holds WORD
fails() {
    local name=$1 code=$2 word=$3; shift 3
    "$@" >"$work/out" 2>"$work/err" </dev/null
    local got=$?
    local lines; lines=$(grep -cv -e "^Try " -e "^Usage: " -e "^device: " "$work/err")
    if [ $got = "$code" ] && grep -q -- "$word" "$work/err" && [ "$lines" = 1 ]; then ok "$name"
    else bad "$name (exit $got, $lines lines)" "$(cat "$work/err")"; fi
}

# One epoch that learns, with one JSON object at the end.
if lenet --limit-train 4000 --epochs 2 --json --output "$work/a" >"$work/a.json" 2>"$work/a.err"; then
    accuracy=$(tail -1 "$work/a.json" | sed -n 's/.*"test_accuracy": \([0-9.]*\).*/\1/p')
    if awk "BEGIN { exit !($accuracy > 0.8) }"; then ok "lenet_mnist learns drawn digits"; else bad "lenet_mnist learns drawn digits: $accuracy"; fi
else bad "lenet_mnist trains" "$(cat "$work/a.err")"; fi
for file in last.h5 best.h5 history.csv curves.svg; do [ -s "$work/a/$file" ] || bad "$file is written"; done
if tail -1 "$work/a.json" | python3 -c 'import json,sys; d=json.loads(sys.stdin.read()); assert all(k in d for k in "test_accuracy test_loss train_loss train_images_per_second seconds parameters device".split()) and d["parameters"]==61706' 2>"$work/err"; then ok "the JSON line is complete"; else bad "the JSON line is complete" "$(cat "$work/err")"; fi
if [ "$(head -1 "$work/a/history.csv")" = "epoch,accuracy,learning_rate,loss,val_accuracy,val_loss" ]; then ok "history.csv has Keras's columns"; else bad "history.csv has Keras's columns" "$(head -1 "$work/a/history.csv")"; fi

# The same run again, on one thread, and in two halves: the same bytes.
lenet --limit-train 4000 --epochs 2 --threads 1 --output "$work/b" 2>/dev/null
if cmp -s "$work/a/last.h5" "$work/b/last.h5"; then ok "one and two threads give the same file"; else bad "one and two threads give the same file"; fi
lenet --limit-train 4000 --epochs 2 --threads 2 --output "$work/b2" 2>/dev/null
if cmp -s "$work/a/last.h5" "$work/b2/last.h5"; then ok "the same run gives the same file"; else bad "the same run gives the same file"; fi

# Killed at a random moment after the first checkpoint, then resumed: the same weights.
long=(--synthetic -q --limit-train 8000 --epochs 5)
"$bin/lenet_mnist" "${long[@]}" --output "$work/d" 2>/dev/null
killed=no
for try in 1 2 3; do
    rm -rf "$work/c"
    "$bin/lenet_mnist" "${long[@]}" --output "$work/c" 2>/dev/null & pid=$!
    for wait in $(seq 400); do [ -s "$work/c/last.h5" ] && break; sleep 0.02; done
    sleep "0.$((RANDOM % 3))"
    kill -KILL $pid 2>/dev/null && killed=yes
    wait $pid 2>/dev/null
    [ $killed = yes ] && break
done
"$bin/lenet_mnist" "${long[@]}" --resume "$work/c/last.h5" --output "$work/c" 2>"$work/err" || bad "a killed run resumes" "$(cat "$work/err")"
if cmp -s "$work/c/last.h5" "$work/d/last.h5"; then ok "killed and resumed gives the same file (killed: $killed)"; else bad "killed and resumed gives the same file"; fi

# Ctrl-C saves, in the middle of an epoch, and exits 130; going on gives the same weights.
"$bin/lenet_mnist" "${long[@]}" --output "$work/e" 2>/dev/null & pid=$!
for wait in $(seq 400); do [ -s "$work/e/last.h5" ] && break; sleep 0.02; done
sleep 0.05; kill -INT $pid; wait $pid; code=$?
if [ $code = 130 ] && [ -s "$work/e/last.h5" ]; then
    ok "Ctrl-C saves and exits 130"
    "$bin/lenet_mnist" "${long[@]}" --resume "$work/e/last.h5" --output "$work/e" 2>/dev/null
    if cmp -s "$work/e/last.h5" "$work/d/last.h5"; then ok "stopped in the middle of an epoch and resumed gives the same file"; else bad "stopped in the middle of an epoch and resumed gives the same file"; fi
elif [ $code = 0 ]; then echo "skip - Ctrl-C: the run had ended"
else bad "Ctrl-C saves and exits 130 (exit $code)"; fi

# Reference and fast kernels agree.
for device in reference cpu; do lenet --limit-train 500 --epochs 1 --device $device --json --output "$work/$device" 2>/dev/null | tail -1 | sed -n 's/.*"test_loss": \([0-9.e-]*\).*/\1/p' >"$work/$device.loss"; done
if awk "BEGIN { a = $(cat "$work/reference.loss"); b = $(cat "$work/cpu.loss"); exit !(a > 0 && (a - b) ^ 2 <= (1e-3 * a) ^ 2) }"; then ok "reference and cpu agree within 1e-3"; else bad "reference and cpu agree within 1e-3: $(cat "$work"/*.loss | tr '\n' ' ')"; fi

# Variants, evaluation, the tool.
parameters() { "$@" --summary --json 2>/dev/null | tail -1 | sed -n 's/.*"parameters": \([0-9]*\).*/\1/p'; }
[ "$(parameters "$bin/lenet_mnist")" = 61706 ] && ok "LeNet-5 has 61,706 parameters" || bad "LeNet-5 has 61,706 parameters"
[ "$(parameters "$bin/lenet_mnist" --variant keras)" = 545546 ] && ok "the Keras listing has 545,546" || bad "the Keras listing has 545,546"
[ "$(parameters "$bin/mlp_mnist")" = 669706 ] && ok "the MLP has 669,706" || bad "the MLP has 669,706"
[ "$(parameters "$bin/cnn_mnist")" = 121930 ] && ok "the CNN has 121,930" || bad "the CNN has 121,930"
for program in alexnet_cifar vgg_cifar; do [ -n "$(parameters "$bin/$program")" ] && ok "$program --summary" || bad "$program --summary"; done
again=$(lenet --evaluate "$work/a/last.h5" --json 2>/dev/null | tail -1 | sed -n 's/.*"test_accuracy": \([0-9.]*\).*/\1/p')
[ "$again" = "$accuracy" ] && ok "--evaluate finds the accuracy again" || bad "--evaluate finds the accuracy again: $again, $accuracy"
"$bin/fovea" summary "$work/a/last.h5" >"$work/out" 2>&1 && grep -q 61,706 "$work/out" && ok "fovea summary reads the checkpoint" || bad "fovea summary reads the checkpoint" "$(cat "$work/out")"
if "$bin/fovea" bench lenet5:8 mlp:8 --device cpu,reference --seconds 0.01 --operations --json >"$work/out" 2>"$work/err" && grep -q "bordered (not " "$work/out" && tail -1 "$work/out" | python3 -c '
import json,sys
r = json.loads(sys.stdin.read())["results"]
assert [(x["model"], x["device"], x["mode"]) for x in r] == [(m, d, t) for d in ("cpu", "reference") for m in ("lenet5", "mlp") for t in ("train", "infer")]
assert all(x["batch"] == 8 and x["threads"] and x["images_per_second"] > 0 and x["milliseconds"] > 0 and x["gflops"] > 0 and x["percent_of_peak"] >= 0 for x in r)' 2>>"$work/err"
then ok "fovea bench"; else bad "fovea bench" "$(cat "$work/err")"; fi
if "$bin/fovea" tune lenet5:4 --device cpu -q --output "$work/tuned.json" 2>"$work/err" &&
    "$bin/fovea" bench lenet5:4 --device cpu --mode infer --seconds 0.01 -q --tuned "$work/tuned.json" 2>>"$work/err" &&
    lenet --device cpu --limit-train 64 --epochs 1 --tuned "$work/tuned.json" --output "$work/tuned" 2>>"$work/err"
then ok "fovea tune writes a file that bench and programs take"; else bad "fovea tune writes a file that bench and programs take" "$(cat "$work/err")"; fi
fails "a tuned file of another device" 1 "was measured on cpu, " "$bin/fovea" bench lenet5:4 --device reference --tuned "$work/tuned.json"
fails "bench of an unknown model" 1 "there is no model 'lenet6'" "$bin/fovea" bench lenet6
fails "bench of no batch" 2 "batch" "$bin/fovea" bench lenet5:0
"$bin/fovea" devices >"$work/out" 2>&1 && grep -q "^cpu" "$work/out" && ok "fovea devices" || bad "fovea devices" "$(cat "$work/out")"
for example in robust_fit spiral_by_hand; do "$bin/$example" >"$work/out" 2>&1 && ok "$example" || bad "$example" "$(cat "$work/out")"; done
for program in lenet_mnist mlp_mnist cnn_mnist alexnet_cifar vgg_cifar fovea; do "$bin/$program" --help >"$work/out" 2>&1 && "$bin/$program" --version >>"$work/out" 2>&1 && ok "$program --help, --version" || bad "$program --help, --version"; done

# Bad input.
fails "unknown option" 2 "--bogus" "$bin/lenet_mnist" --bogus
fails "unknown device" 1 "quantum" "$bin/lenet_mnist" --device quantum
fails "unknown variant" 2 "cubic" "$bin/lenet_mnist" --variant cubic
fails "bad number" 2 "epochs" "$bin/lenet_mnist" --epochs none
fails "missing data" 1 "nowhere" env -u FOVEA_DATA "$bin/lenet_mnist" --data-dir "$work/nowhere" --output "$work/x" -q
fails "missing file to resume" 1 "absent.h5" "$bin/lenet_mnist" --synthetic --resume "$work/absent.h5" -q
fails "foreign file" 1 "history.csv" "$bin/lenet_mnist" --synthetic --evaluate "$work/a/history.csv" -q
head -c 3000 "$work/a/last.h5" >"$work/short.h5"
fails "truncated file" 1 "short.h5" "$bin/fovea" evaluate "$work/short.h5" --data mnist
fails "weights of another net" 1 "last.h5" "$bin/mlp_mnist" --synthetic --evaluate "$work/a/last.h5" -q
fails "output that is a file" 1 "history.csv" "$bin/lenet_mnist" --synthetic --output "$work/a/history.csv" -q
fails "unknown network" 1 "lenet55" "$bin/fovea" summary lenet55
fails "no command" 2 "not a command" "$bin/fovea" frobnicate
exit $status
