#!/bin/sh
# Everything that is checked before a capability counts as done, stage by stage. Called by `make check-full`.
# A stage is a row below; each writes a log to build/full/ and one line here. The last line is the sum of all stages.
#
#   scripts/check_full.sh [STAGE...]      only these stages
set -u
cd "$(dirname "$0")/.." || exit 1
make=${MAKE:-make}
export MAKEFLAGS="${MAKEFLAGS:-} --no-print-directory"
logs=build/full
mkdir -p "$logs"
rm -f "$logs"/*.log "$logs/totals"
only=" $* "

cores=$(nproc 2>/dev/null || echo 1)

# What a stage may need of this machine; prints what is missing.
lacks() {
    case $1 in
        -) ;;
        v2) flags="sse4_2 popcnt" ;;
        v3) flags="avx2 fma" ;;
        v4) flags="avx512f avx512bw avx512vl" ;;
        nvcc) command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || echo "there is no CUDA toolkit" ;;
        *) command -v "$1" >/dev/null 2>&1 || echo "$1 is not installed" ;;
    esac
    case $1 in v[234])
        for flag in $flags; do
            grep -qw "$flag" /proc/cpuinfo || { echo "this processor has no $flag" && break; }
        done ;;
    esac
}

# stage NAME NEEDS COMMAND...: the command ends with the line of run_tests.sh, "N passed, N failed[, N skipped]"
stage() {
    name=$1 needs=$2
    shift 2
    case $only in "  " | *" $name "*) ;; *) return ;; esac
    reason=$(lacks "$needs")
    if [ -n "$reason" ]; then
        printf '%-10s skipped: %s\n' "$name" "$reason"
        echo "0 0 1" >>"$logs/totals"
        return
    fi
    started=$(date +%s)
    if env "$@" >"$logs/$name.log" 2>&1 </dev/null; then result=passed; else result=FAILED; fi
    total=$(grep -E '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$logs/$name.log" | tail -n 1)
    printf '%-10s %s: %s (%s s)\n' "$name" "$result" "${total:-did not get as far as the tests}" $(($(date +%s) - started))
    # A stage that failed without a failed test (it did not build, say) is a failure of its own.
    printf '%s\n' "${total:-0 passed, 0 failed}" | awk -v result="$result" '
        { failed = $3 + 0; print $1 + 0, (result == "FAILED" && failed == 0) ? 1 : failed, $5 + 0 }' >>"$logs/totals"
    if [ $result = FAILED ]; then
        sed 's/^/    /' "$logs/$name.log" | tail -n 40
    fi
}

# Idle OpenMP threads must sleep under valgrind, which runs one thread at a time; blocks still reachable at exit are not leaks.
valgrind="valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite"

#     name       needs     command
stage check      -         "$make" -j"$cores" check WERROR=1
stage sweep      -         FOVEA_RANDOM=400 FOVEA_BUILD=build TEST_TIMEOUT=3600 scripts/run_tests.sh build/bin/test_operations
stage v2         v2        FOVEA_CPU=v2 "$make" -j"$cores" check WERROR=1
stage v3         v3        FOVEA_CPU=v3 "$make" -j"$cores" check WERROR=1
stage v4         v4        FOVEA_CPU=v4 "$make" -j"$cores" check WERROR=1
stage arm        qemu-aarch64 scripts/check_arm.sh
stage groups     -         FOVEA_GROUPS=all "$make" -j"$cores" check WERROR=1
stage clang      clang     "$make" -j"$cores" check-quick WERROR=1 CC=clang BUILD=build/clang
stage sanitize   -         UBSAN_OPTIONS=print_stacktrace=1 "$make" -j"$cores" check-quick SANITIZE=address,undefined
stage cuda       nvcc      scripts/check_nvcc.sh
stage plans      nvcc      FOVEA_PLANS=all FOVEA_BUILD=build scripts/run_tests.sh build/bin/test_plans
stage race       clang     scripts/check_race.sh
stage debug      -         "$make" -j"$cores" check-quick DEBUG=1
stage valgrind   valgrind  FOVEA_CPU=v3 OMP_WAIT_POLICY=passive TEST_TIMEOUT=3600 TEST_WRAPPER="$valgrind" \
                           "$make" -j"$cores" check-quick WERROR=1

[ -f "$logs/totals" ] || { echo "no such stage:$only" >&2 && exit 2; }
awk '{ passed += $1; failed += $2; skipped += $3 }
     END {
         printf "\n%d passed, %d failed", passed, failed
         if (skipped) printf ", %d skipped", skipped
         print ""
         exit failed > 0 || passed == 0
     }' "$logs/totals"
