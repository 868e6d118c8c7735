#!/bin/sh
# The code on the pages is real. Every block of C in docs/guide.md and README.md is compiled against the header without a warning, and:
#   ```c        a program where it has a main; else a piece, compiled as the inside of a function that has ctx, net, x, train and test
#   ```c file   functions
#   ```c run    a program that is linked with the library and run; it must end with 0 and print what follows the word "run"
#   ```cpp      a program in C++, linked and run
cd "$(dirname "$0")/.." || exit 1
build=${FOVEA_BUILD:-build}
case $build in /*) ;; *) build=$PWD/$build ;; esac
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
status=0
warnings="-Wall -Wextra -Werror -Wno-unused -Wno-unused-parameter"
# Sanitized libraries need a sanitized program.
case $build in */asan | */*-asan) sanitize=-fsanitize=address,undefined ;; */tsan | */*-tsan) sanitize=-fsanitize=thread ;; *) sanitize= ;; esac

# One file a block, named PAGE-LINE.KIND; what a program must print is in a file of the same name beside them
mkdir "$work/blocks" "$work/prints"
for page in docs/guide.md README.md; do
    [ -f "$page" ] || { echo "not ok - $page is there"; status=1; continue; }
    awk -v work="$work" -v page="$(basename "$page" .md)" '
        !inside && /^```c(pp)?( |$)/ { kind = $1 == "```cpp" ? "cpp" : NF > 1 ? $2 : "c"; inside = 1; name = page "-" NR "." kind; file = work "/blocks/" name; printf "" >file
            text = $0; if (kind == "run" && sub(/^```c run +/, "", text)) { print text >(work "/prints/" name); close(work "/prints/" name) }
            next }
        inside && /^```/ { inside = 0; close(file); next }
        inside { print >file }' "$page"
done

# compile NAME COMMAND...
compile() {
    name=$1; shift
    if "$@" >"$work/out" 2>&1; then return 0; fi
    echo "not ok - $name compiles"; grep -m 3 -E 'error|warning' "$work/out" | sed 's/^/# /'; status=1
    return 1
}
run() {
    expected=$(cat "$work/prints/$file" 2>/dev/null)
    if (cd "$work" && timeout 60 "$work/program") >"$work/out" 2>&1 && { [ -z "$expected" ] || grep -qF -- "$expected" "$work/out"; }; then echo "ok - $1 compiles and runs"; else
        echo "not ok - $1 runs"; tail -3 "$work/out" | sed 's/^/# /'; status=1
    fi
}
[ -e "$build/lib/libfovea.so" ] || { echo "not ok - $build/lib/libfovea.so is there"; exit 1; }

for file in $(ls "$work/blocks" | sort -t- -k1,1 -k2,2n); do
    block="${file%.*}" source="$work/source.c"
    case $file in
        *.run) kind=run ;;
        *.cpp) kind=cpp ;;
        *.file) kind="file" ;;
        *) kind=piece; grep -q 'int main' "$work/blocks/$file" && kind=program ;;
    esac
    block="$(echo "$block" | sed 's/-/.md, line /') ($kind)"
    { echo '#include <fovea.h>'; echo '#include <stdio.h>'; echo '#include <stdlib.h>'; } >"$source"
    if [ $kind = piece ]; then
        { echo 'void piece(fv_context *ctx, fv_net *net, fv_node x, fv_dataset *train, fv_dataset *test) {'
          cat "$work/blocks/$file"; echo '}'; } >>"$source"
    else cat "$work/blocks/$file" >>"$source"; fi
    # shellcheck disable=SC2086 # lists of flags
    case $kind in
        cpp) cp "$source" "$work/source.cc"
             compile "$block" ${CXX:-c++} -std=c++17 $warnings -Wno-missing-field-initializers $sanitize -Iinclude -o "$work/program" \
                 "$work/source.cc" -L"$build/lib" -lfovea -Wl,-rpath,"$build/lib" && run "$block" ;;
        run) compile "$block" ${CC:-cc} -std=c11 $warnings $sanitize -Iinclude -o "$work/program" "$source" -L"$build/lib" -lfovea \
                 -Wl,-rpath,"$build/lib" -lm && run "$block" ;;
        *) compile "$block" ${CC:-cc} -std=c11 $warnings -Iinclude -fsyntax-only "$source" && echo "ok - $block compiles" ;;
    esac
done

# What the pages name is there.
for word in $(cat docs/guide.md README.md 2>/dev/null | grep -o '\bfv_[a-z0-9_]*\|\bFV_[A-Z0-9_]*' | sort -u); do
    grep -q "\b$word\b" include/fovea.h && continue
    case $word in FV_ERROR_*) grep -q "X(${word#FV_ERROR_}," include/fovea.h && continue ;; esac
    echo "not ok - the header has $word"; status=1
done
for link in $(grep -o '](#[^)]*)' docs/guide.md | sed 's/](#\(.*\))/\1/'); do
    grep '^##* ' docs/guide.md | sed 's/^#* //' | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-\n_' | grep -qx -- "$link" || { echo "not ok - docs/guide.md has the heading #$link"; status=1; }
done
[ $status = 0 ] && echo "ok - every name and link of the pages exists"
exit $status
