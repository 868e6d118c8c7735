#!/bin/sh
# Pages that are tables of the library are as `make docs` writes them; every operation says its inputs and outputs; every function of
# fovea.h that adds a layer is in the table of layers, with exactly the options of its struct.
cd "$(dirname "$0")/.." || exit 1
build=${FOVEA_BUILD:-build}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
status=0
verdict() { # name; the file work/bad says what is wrong
    if [ -s "$work/bad" ]; then echo "not ok - $1"; sed 's/^/# /' "$work/bad" | head -30; status=1; else echo "ok - $1"; fi
}

for page in operations layers; do
    "$build/bin/fovea" $page --markdown | diff - docs/$page.md >"$work/bad" 2>&1
    verdict "docs/$page.md is what 'make docs' writes"
done

"$build/bin/fovea" operations --markdown | awk -F ' [|] ' '/^[|] `/ && $2 !~ /->/ { print $1 " has no \"inputs -> outputs\" in src/ops.def" }' >"$work/bad"
verdict "every operation says its inputs and outputs"

# The members of a struct of the header, a line each: comments away, declarations apart, the last word of each.
members() {
    sed -e 's|/\*.*\*/||' include/fovea.h | tr '\n' ' ' | grep -o "typedef struct $1 {[^}]*} $1;" | sed -e 's/^[^{]*{//' -e 's/}.*//' | tr ';,' '\n\n' |
        sed -e 's/\[[^]]*\]//g' -e 's/ *$//' -e 's/.*[ *]//' | grep . | grep -vx -e struct_size -e input -e inputs -e name -e frozen | sort
}
"$build/bin/fovea" layers --markdown >"$work/layers"
: >"$work/bad"
sed -n 's/^FV_API fv_node \(fv_[a-z0-9_]*_with\)(fv_net \*, const \(fv_[a-z0-9_]*\) \*);.*/\1 \2/p' include/fovea.h >"$work/functions"
while read -r function struct; do
    name=$(sed -n "s/^#define \(fv_[a-z0-9_]*\)(net, \.\.\.) $function(.*/\1/p" include/fovea.h)
    row=$(grep "^| \`$name\` |" "$work/layers")
    if [ -z "$row" ]; then echo "$function is not in src/net/list.c" >>"$work/bad"; continue; fi
    # Options are "a, b = value, c": the values may hold commas within brackets.
    echo "$row" | awk -F ' [|] ' '{ print $4 }' | sed -e 's/([^)]*)//g' | tr ',' '\n' | sed -e 's/=.*//' -e 's/ //g' | grep . | sort >"$work/told"
    members "$struct" >"$work/members"
    diff "$work/told" "$work/members" | sed -n -e "s/^< /$name: the table has an option /p" -e "s/^> /$name: the table lacks the option /p" >>"$work/bad"
done <"$work/functions"
[ "$(wc -l <"$work/functions")" -ge 18 ] || echo "few functions found in fovea.h" >>"$work/bad"
verdict "every layer is in the table with its options"
exit $status
