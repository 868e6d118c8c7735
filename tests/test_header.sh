#!/bin/sh
# The public face: the header compiles alone as C11 and C++17 without a warning, also with no option in a call; the library exports
# fv_ names only, and all that the header declares.
cd "$(dirname "$0")/.." || exit 1
build=${FOVEA_BUILD:-build}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
status=0
check() { # name, then a command
    name=$1; shift
    if "$@" >"$work/out" 2>&1; then echo "ok - $name"; else echo "not ok - $name"; sed 's/^/# /' "$work/out" | head -5; status=1; fi
}
cat >"$work/user.c" <<'C'
#include <fovea.h>
int main(void) {
    fv_context *ctx = fv_open("cpu");
    fv_net *net = fv_net_new(ctx, "user");
    fv_node x = fv_input(net, 8, 8, 3);
    x = fv_conv2d(net, x, .filters = 4, .kernel_hw = {3, 5}, .pad = {2, 1, 2, 2});
    x = fv_concat(net, FV_NODES(x, fv_batch_norm(net, x)), .axis = 3);
    fv_output(net, fv_dense(net, fv_flatten(net, x), .units = 2));
    fv_fit(net, NULL, .optimizer = fv_sgd(), .schedule = fv_cosine());
    fv_clear_error(ctx);
    return fv_close(ctx);
}
C
cat >"$work/user.cc" <<'C'
#include <fovea.h>
int main() {
    fv_context *ctx = fv_open("cpu");
    fv_net *net = fv_net_new(ctx, "user");
    FV_OPTIONS(fv_input_options, in); in.rank = 3; in.shape[0] = in.shape[1] = 28; in.shape[2] = 1;
    FV_OPTIONS(fv_dense_options, dense); dense.input = fv_input_with(net, &in); dense.units = 10;
    fv_output(net, fv_dense_with(net, &dense));
    return fv_close(ctx);
}
C
check "header is C11" ${CC:-cc} -std=c11 -Wall -Wextra -pedantic -Werror -Iinclude -fsyntax-only "$work/user.c"
check "header is C++17" ${CXX:-c++} -std=c++17 -Wall -Wextra -pedantic -Werror -Wno-missing-field-initializers -Iinclude -fsyntax-only "$work/user.cc"
library=$(ls "$build"/lib/libfovea.so 2>/dev/null)
if [ -n "$library" ]; then
    foreign=$(nm -D --defined-only "$library" | awk '$2 ~ /[TDBRVW]/ { print $3 }' | grep -v '^fv_' | grep -v '^FOVEA_')
    if [ -z "$foreign" ]; then echo "ok - the library exports fv_ names only"; else echo "not ok - the library exports fv_ names only"; echo "$foreign" | sed 's/^/# /'; status=1; fi
    nm -D --defined-only "$library" | sed 's/@.*//' | awk '{ print $3 }' | sort -u >"$work/has"
    sed -n 's/^FV_API .*[ *]\(fv_[a-z0-9_]*\)(.*/\1/p' include/fovea.h | sort -u >"$work/wants"
    missing=$(comm -13 "$work/has" "$work/wants")
    if [ -z "$missing" ]; then echo "ok - every declared function is there ($(wc -l <"$work/wants"))"; else echo "not ok - every declared function is there"; echo "$missing" | sed 's/^/# missing /'; status=1; fi
else
    echo "not ok - $build/lib/libfovea.so is missing"; status=1
fi
exit $status
