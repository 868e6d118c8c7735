#!/bin/sh
# From a fresh checkout to a trained network: dependencies, build, data, three epochs of LeNet-5. Called by `make quickstart`.
set -eu
cd "$(dirname "$0")/.."

scripts/install_dependencies.sh
${MAKE:-make} -j"$(nproc 2>/dev/null || echo 1)" all

if data=$(scripts/download_data.sh mnist); then
    FOVEA_DATA=$data exec "${FOVEA_BUILD:-build}/bin/lenet_mnist" --epochs 3
fi
echo "quickstart: MNIST is not to be had here; training on generated digits instead (--synthetic)"
exec "${FOVEA_BUILD:-build}/bin/lenet_mnist" --epochs 3 --synthetic
