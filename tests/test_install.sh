#!/bin/sh
# make install into a fresh prefix, then a user's program built with pkg-config alone, run, and make uninstall.
cd "$(dirname "$0")/.." || exit 1
case ${FOVEA_BUILD:-build} in */*) echo "skip - install: only the plain build is installed"; exit 0 ;; esac
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
status=0
check() {
    name=$1; shift
    if "$@" >"$work/out" 2>&1; then echo "ok - $name"; else echo "not ok - $name"; sed 's/^/# /' "$work/out" | tail -5; status=1; fi
}
cat >"$work/user.c" <<'C'
#include <fovea.h>
#include <math.h>
int main(void) {
    fv_context *ctx = fv_open("cpu");
    fv_net *net = fv_net_new(ctx, "user");
    fv_output(net, fv_dense(net, fv_input(net, 3), .units = 2, .activation = FV_SOFTMAX));
    float in[3] = { 1, 2, 3 }, out[2] = { 0 };
    fv_predict(net, NULL, .inputs = &(fv_array){ in, FV_F32, 2, { 1, 3 } }, .input_count = 1, .output = out, .output_bytes = sizeof out);
    if (fv_error(ctx)) fprintf(stderr, "%s\n", fv_error(ctx));
    return fv_close(ctx) || fabsf(out[0] + out[1] - 1) > 1e-5f;
}
C
export PKG_CONFIG_PATH="$work/prefix/lib/pkgconfig"
check "make install" make -s install PREFIX="$work/prefix" LIBDIR="$work/prefix/lib"
check "a program builds with pkg-config" sh -c "${CC:-cc} -o '$work/user' '$work/user.c' \$(pkg-config --cflags --libs fovea) -lm"
check "and runs" env LD_LIBRARY_PATH="$work/prefix/lib" "$work/user"
check "the tool runs from its prefix" env LD_LIBRARY_PATH="$work/prefix/lib" "$work/prefix/bin/fovea" devices
check "make uninstall" make -s uninstall PREFIX="$work/prefix" LIBDIR="$work/prefix/lib"
left=$(find "$work/prefix" -type f -o -type l 2>/dev/null)
if [ -z "$left" ]; then echo "ok - nothing is left"; else echo "not ok - nothing is left"; echo "$left" | sed 's/^/# /'; status=1; fi
exit $status
