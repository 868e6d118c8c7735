#!/bin/bash
# On the real data (FOVEA_DATA): Keras's own files give exactly their reference counts, and the main programs reach their accuracy.
cd "$(dirname "$0")/.." || exit 1
bin=$PWD/${FOVEA_BUILD:-build}/bin
if [ -z "$FOVEA_DATA" ] || [ ! -d "$FOVEA_DATA" ]; then echo "skip - real data: FOVEA_DATA names no folder"; exit 0; fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
status=0
field() { sed -n "s/.*\"$1\": \([-0-9.e]*\).*/\1/p"; }
counts() { # NAME EXPECTED ARGUMENTS..
    local name=$1 expected=$2; shift 2
    local got; got=$("$bin/fovea" evaluate "$@" --data mnist --json 2>"$work/err" | tail -1 | field correct)
    if [ "$got" = "$expected" ]; then echo "ok - $name: $got of 10,000"; else echo "not ok - $name: '$got', not $expected"; sed 's/^/# /' "$work/err"; status=1; fi
}
keras=$FOVEA_DATA/models/keras
if [ -d "$keras" ]; then
    counts "LeNet-5 by Keras 2.3.1" 9784 "$keras/ryecatcher_lenet5_keras2.3.1.h5" --pixel-scale 1
    counts "CNN by Keras 3.10" 9905 "$keras/himalrana_mnist_cnn_keras3.10.h5"
    counts "its .weights.h5" 9905 "$keras/himalrana_mnist.weights.h5" --model "$keras/himalrana_mnist_cnn_keras3.10.h5"
    "$bin/fovea" evaluate "$keras/tiny_XCEPTION_KDEF.hdf5" --data mnist >"$work/out" 2>"$work/err"; code=$?
    if [ $code = 1 ] && [ "$(wc -l <"$work/err")" = 1 ]; then echo "ok - a model with a layer that is not read yet is refused: $(cut -c1-120 "$work/err")"; else echo "not ok - unknown layer class"; sed 's/^/# /' "$work/err"; status=1; fi
else echo "skip - Keras's files: $keras is missing"; fi
reaches() { # PROGRAM BAR ARGUMENTS..
    local program=$1 bar=$2; shift 2
    local got; got=$("$bin/$program" "$@" -q --json --output "$work/$program" 2>"$work/err" | tail -1 | field test_accuracy)
    if awk "BEGIN { exit !(${got:-0} >= $bar) }"; then echo "ok - $program $*: $got"; else echo "not ok - $program $*: '$got' is below $bar"; sed 's/^/# /' "$work/err"; status=1; fi
}
reaches lenet_mnist 0.985 --epochs 5
reaches cnn_mnist 0.975 --epochs 1
reaches mlp_mnist 0.96 --epochs 1
reaches alexnet_cifar 0.2 --epochs 2 --limit-train 2000 -b 32 --no-augment
reaches vgg_cifar 0.2 --epochs 2 --limit-train 1000 -b 32 --lr 0.02 --no-augment
exit $status
