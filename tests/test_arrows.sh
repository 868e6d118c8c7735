#!/bin/sh
# The arrows between folders point one way (docs/architecture.md): a file may include headers of its own folder and of those below it.
cd "$(dirname "$0")/.." || exit 1
status=0
may() { # folder, then the folders it may include from
    folder=$1; shift
    [ -d "src/$folder" ] || return 0
    found=0
    for file in src/"$folder"/*.[ch] src/"$folder"/*.cu; do
        [ -f "$file" ] || continue
        for include in $(sed -n 's|^#include "\([a-z_/]*\)/[a-z0-9_]*\.h".*|\1|p' "$file"); do
            ok=0
            for allowed in "$folder" "$@"; do [ "$include" = "$allowed" ] && ok=1; done
            [ $ok = 1 ] || { echo "# $file includes $include/"; found=1; }
        done
    done
    if [ $found = 0 ]; then echo "ok - src/$folder looks only downwards"; else echo "not ok - src/$folder looks only downwards"; status=1; fi
}
may core ops
may ops core tape
may tape core ops
may program core ops tape
may net core ops tape program
may models core ops tape program net
may data core ops
may io core ops tape program net data train
may train core ops tape program net data io
may cpu core ops
may cpu/reference core ops
may cuda core ops
may tool

# Programs see the public header alone.
if grep -ln '#include "' examples/*.c | xargs grep -h '#include "' | grep -qv '"options.h"'; then
    echo "not ok - examples include fovea.h and options.h alone"; status=1
else
    echo "ok - examples include fovea.h and options.h alone"
fi
long=$(wc -l examples/*_mnist.c examples/*_cifar.c | awk '$2 != "total" && $1 >= 120 { print $2 }')
if [ -z "$long" ]; then echo "ok - example programs stay under 120 lines"; else echo "not ok - example programs stay under 120 lines: $long"; status=1; fi
exit $status
