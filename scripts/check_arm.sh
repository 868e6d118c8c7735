#!/bin/sh
# The test programs built for 64-bit Arm (NEON) and run by QEMU's user emulation, on a machine of another kind. Needs aarch64-linux-gnu-gcc
# and qemu-aarch64; the libraries come from Debian's packages for arm64, unpacked in build/arm64/root without being installed:
# that takes no rights, but apt-get and, the first time, a network.
#
#   scripts/check_arm.sh              all test programs, long tests shortened
#   scripts/check_arm.sh PROGRAM...   only these, such as test_operations
set -u
cd "$(dirname "$0")/.." || exit 1
build=build/arm64
root=$PWD/$build/root
packages="libhdf5-dev libpng-dev libturbojpeg0-dev zlib1g-dev libzip-dev libjansson-dev libcmocka-dev"

for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v $tool >/dev/null || { echo "check_arm: $tool is not installed (Debian: gcc-aarch64-linux-gnu, qemu-user)" >&2 && exit 1; }
done

# apt-get with lists, cache and status of its own, so that nothing of this system changes.
fetch() {
    command -v apt-get >/dev/null || { echo "check_arm: without apt-get, put an arm64 system with $packages in $root" >&2 && return 1; }
    apt=$PWD/$build/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$root.part"
    set -- -q -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 \
        -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" -o Dir::State::status=/dev/null
    # shellcheck disable=SC2086 # a list of words
    apt-get "$@" update && apt-get "$@" install -y --no-install-recommends --download-only $packages || return 1
    for package in "$apt"/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$root.part" || return 1
    done
    mv "$root.part" "$root" && rm -rf "$apt"
}
[ -d "$root" ] || fetch || exit 1

libraries=$root/usr/lib/aarch64-linux-gnu
cat >$build/pkg-config <<END
#!/bin/sh
PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_LIBDIR=$libraries/pkgconfig:$root/usr/share/pkgconfig exec pkg-config "\$@"
END
chmod +x $build/pkg-config

# Everything under one name of a folder, so that a plain build is left alone.
# shellcheck disable=SC2086 # perhaps "ccache gcc"
"${MAKE:-make}" -j"$(nproc)" BUILD=$build CUDA=0 CC="${ARM_CC:-aarch64-linux-gnu-gcc} --sysroot=$root" PKG_CONFIG="$PWD/$build/pkg-config" \
    WERROR=1 tests || exit 1
if [ $# -eq 0 ]; then set -- "$build"/bin/test_*; else
    for program; do
        set -- "$@" "$build/bin/$program"
        shift
    done
fi
# Tests that compile something themselves take CC.
FOVEA_QUICK=1 CC="aarch64-linux-gnu-gcc --sysroot=$root" FOVEA_BUILD=$build TEST_TIMEOUT=3600 TEST_WRAPPER="qemu-aarch64 -L $root" scripts/run_tests.sh "$@"
