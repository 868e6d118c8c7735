#!/bin/sh
# Runs test programs and counts what they report.
#
#   scripts/run_tests.sh [-j N] PROGRAM...
#
# A program reports each test by a line: cmocka's own ("[       OK ] name"), TAP ("ok 1 - name", "not ok 2 - name",
# "ok 3 # SKIP why"), or, in shell tests, "ok - name", "not ok - name" and "skip - name: reason". A program that dies, runs
# out of time or reports nothing counts as one failure and is named. The last line is the total, alone:
# "N passed, N failed" or "N passed, N failed, N skipped". The exit status is 1 if anything failed or nothing ran.
#
#   FOVEA_BUILD=build    where the programs are; what they print goes to $FOVEA_BUILD/tests/<program>.log
#   TEST_TIMEOUT=900     seconds that one program may take
#   TEST_WRAPPER=...     a command to run compiled programs under, such as valgrind
#   TEST_JOBS=1          programs that run at once, as -j
# Each program gets a TMPDIR of its own, which is removed afterwards, and finds FOVEA_BUILD in its environment.
set -u

FOVEA_BUILD=${FOVEA_BUILD:-build}
export FOVEA_BUILD
logs=$FOVEA_BUILD/tests

# Reads a log; writes one line per test that did not pass ("failed NAME", "skipped NAME") and last "count P F S".
count() {
    awk -v status="$1" '
        function name(line) { sub(/^[^]]*\] /, "", line); return line }
        function fail(what) { failed++; print "failed " what }
        function skip(what) { skipped++; print "skipped " what }

        # cmocka repeats the failed and the skipped tests after the line "N test(s) run."; those lines are not counted again.
        /\[==========\] .*Running /         { inside = 1; next }
        /\[==========\] .*test\(s\) run/    { inside = 0; running = ""; next }
        inside && /\[ RUN      \] /         { running = name($0); next }
        inside && /\[       OK \] /         { passed++; running = ""; next }
        inside && /\[  FAILED  \] /         { fail(name($0)); running = ""; next }
        inside && /\[  SKIPPED \] /         { skip(name($0)); running = ""; next }

        /^1\.\.[0-9]+/                      { planned += substr($0, 4); next }
        /^(not )?ok .*# *[Ss][Kk][Ii][Pp]/  { sub(/^(not )?ok [0-9]*( - )?( *# *[Ss][Kk][Ii][Pp] *)?/, ""); skip($0); next }
        /^not ok /                          { sub(/^not ok [0-9]*( ?- )?/, ""); fail($0); next }
        /^ok /                              { passed++; next }
        /^skip - /                          { sub(/^skip - /, ""); skip($0); next }

        END {
            ran = passed + failed + skipped
            if (status == 124)         fail("(the whole program) stopped after its time was up" (running != "" ? ", in " running : ""))
            else if (running != "")    fail(running " (the program ended in it, exit status " status ")")
            else if (status != 0 && failed == 0) fail("(the whole program) exit status " status)
            else if (ran == 0)         fail("(the whole program) reported no test")
            else if (ran < planned)    fail("(the whole program) announced " planned " tests and reported " ran)
            print "count", passed + 0, failed + 0, skipped + 0
        }'
}

run_one() {
    program=$1
    name=$(basename "$program")
    log=$logs/$name.log
    case $name in *.sh) wrapper= ;; *) wrapper=${TEST_WRAPPER:-} ;; esac
    case $program in */*) ;; *) program=./$program ;; esac
    limit=
    if command -v timeout >/dev/null; then limit="timeout -k 10 ${TEST_TIMEOUT:-900}"; fi

    TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/fovea-test.XXXXXX") || exit 1
    export TMPDIR
    started=$(date +%s)
    # In the background, because `timeout` leaves the terminal's process group: so an interrupt still reaches the program.
    # shellcheck disable=SC2086 # both are lists of words
    $limit $wrapper "$program" >"$log" 2>&1 </dev/null &
    running=$!
    trap 'kill $running; rm -rf "$TMPDIR"; exit 130' INT TERM
    wait $running
    status=$?
    trap - INT TERM
    seconds=$(($(date +%s) - started))
    rm -rf "$TMPDIR"

    count $status <"$log" >"$logs/$name.result"
    # shellcheck disable=SC2046 # three numbers
    set -- $(sed -n 's/^count //p' "$logs/$name.result")
    line="$1 passed"
    [ "$2" -gt 0 ] && line="$line, $2 FAILED"
    [ "$3" -gt 0 ] && line="$line, $3 skipped"
    printf '%-32s %s (%s s)\n' "$name" "$line" "$seconds"
}

if [ "${1:-}" = --one ]; then
    run_one "$2"
    exit 0
fi

jobs=${TEST_JOBS:-1}
while getopts j: option; do
    case $option in
        j) jobs=$OPTARG ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))

rm -rf "$logs"
mkdir -p "$logs" || exit 1
# Each program is run by a new copy of this script, so that -j needs nothing but xargs.
[ $# -gt 0 ] && printf '%s\n' "$@" | xargs -n 1 -P "$jobs" "$0" --one

for program; do
    name=$(basename "$program")
    grep -q '^failed ' "$logs/$name.result" || continue
    printf '\n---- %s: the last lines of %s\n' "$name" "$logs/$name.log"
    tail -n 60 "$logs/$name.log"
done

for kind in skipped failed; do
    printed=
    for program; do
        name=$(basename "$program")
        list=$(sed -n "s/^$kind /    $name: /p" "$logs/$name.result")
        [ -z "$list" ] && continue
        [ -z "$printed" ] && printf '\n%s:\n' "$kind" && printed=yes
        printf '%s\n' "$list"
    done
done

cat /dev/null "$logs"/*.result 2>/dev/null | awk '
    /^count / { passed += $2; failed += $3; skipped += $4 }
    END {
        if (passed + failed + skipped == 0) print "no test ran"
        print ""
        printf "%d passed, %d failed", passed, failed
        if (skipped) printf ", %d skipped", skipped
        print ""
        exit failed > 0 || passed + failed + skipped == 0
    }' >"$logs/total"
status=$?
cat "$logs/total"
exit $status
