#!/bin/sh
#
# Checks the Promela models of the protocols with spin: the correct ones must pass over the whole
# state space, with every statement reached, and each deliberately broken one must fail, for the
# reason that it was broken for.
#
#   run.sh [model...]       all models, or those named (publish sleep cold crowd pin death revoke)
#
# Needs spin and a C compiler ($CC, else cc).

set -eu

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/veridian-model.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cd "$work"

only=" $* "
failures=0

# Builds ./pan from a model.
build() { # model macros compiler-options
    # shellcheck disable=SC2086
    spin $2 -a "$here/$1.pml" >spin.out 2>&1 &&
        ${CC:-cc} -w $3 -o pan pan.c >>spin.out 2>&1 && return 0
    cat spin.out
    exit 1
}

wanted() { # model
    [ "$only" = "  " ] || case $only in *" $1 "*) ;; *) return 1 ;; esac
}

report() { # verdict model macros
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.out)
    seconds=$(sed -n 's/^pan: elapsed time \([0-9.e+]*\) seconds.*/\1/p' pan.out)
    depth=$(sed -n 's/.*depth reached \([0-9]*\).*/\1/p' pan.out)
    printf '%-6s %-8s %-44s %10s states, depth %8s, %6s s\n' \
        "$1" "$2" "$3" "${states:-?}" "${depth:-?}" "${seconds:-?}"
    [ "$1" != WRONG ] && return 0
    failures=$((failures + 1))
    head -n 60 pan.out
}

searched_all() {
    grep -q 'errors: 0$' pan.out &&
        ! grep -q -e 'not completed' -e 'depth too small' -e 'out of memory' -e truncated pan.out
}

# Dead code in a model proves nothing. A process that never ends is meant, so its "-end-" is not.
all_reached() {
    ! grep 'state [0-9]*, "' pan.out | grep -v -q -e '"-end-"'
}

passes() { # model macros pan-options
    wanted "$1" || return 0
    build "$1" "$2" "-DSAFETY -O1"
    # shellcheck disable=SC2086
    ./pan -m1000000 -w22 $3 >pan.out 2>&1 || true
    if searched_all && all_reached; then report ok "$1" "$2"; else report WRONG "$1" "$2"; fi
}

# No endless run without passing a label progress.
progresses() { # model macros pan-options
    wanted "$1" || return 0
    build "$1" "$2" "-DNP -O1"
    # shellcheck disable=SC2086
    ./pan -l -m1000000 -w22 $3 >pan.out 2>&1 || true
    if searched_all; then report ok "$1" "$2 (progress)"; else report WRONG "$1" "$2 (progress)"; fi
}

fails() { # model macros pan-options what pan says
    wanted "$1" || return 0
    build "$1" "$2" "-DSAFETY -O0"
    # shellcheck disable=SC2086
    ./pan -m300000 -w18 $3 >pan.out 2>&1 || true
    if grep -q 'errors: 1$' pan.out && grep '^pan:1:' pan.out | grep -q -F -e "$4"; then
        report fails "$1" "$2"
    else
        report WRONG "$1" "$2"
    fi
}

passes publish "-DN=2" ""
passes publish "-DN=4" ""
fails publish "-DN=2 -DBROKEN_WORD_FIRST" "" "(one=="
fails publish "-DN=2 -DBROKEN_CURSOR_FIRST" "" "-copied)"
fails publish "-DN=2 -DBROKEN_FULL" "" "-copied)"
fails publish "-DN=2 -DBROKEN_NO_DRAIN" "" "(pos==published)"
fails publish "-DN=2 -DBROKEN_TAKES_LINE" "" "copied)"
fails publish "-DN=2 -DBROKEN_BATCH_FIRST" "" "copied)"
fails publish "-DN=2 -DBROKEN_BATCH_LAST" "" "invalid end state"

passes sleep "-DSIGNALS=1" -E
progresses sleep "-DSIGNALS=0" -E
passes sleep "-DHELLO -DSIGNALS=1" -E
fails sleep "-DSIGNALS=0 -DBROKEN_NO_BOUND" -E "(taken==sent)"
fails sleep "-DSIGNALS=0 -DBROKEN_CLOCK" -E "(taken==sent)"
fails sleep "-DSIGNALS=0 -DBROKEN_NO_FENCE" -E "(taken==sent)"
fails sleep "-DSIGNALS=1 -DBROKEN_NO_REARM" -E "(taken==sent)"
fails sleep "-DSIGNALS=0 -DBROKEN_RUNG" -E "(taken==sent)"
fails sleep "-DSIGNALS=0 -DBROKEN_WAKE_FIRST" -E "(taken==sent)"
fails sleep "-DSIGNALS=0 -DBROKEN_FRESH_WORD" -E "(taken==sent)"
fails sleep "-DHELLO -DSIGNALS=0 -DBROKEN_WELCOME_LATE" -E "(taken==sent)"
fails sleep "-DHELLO -DSIGNALS=0 -DBROKEN_WELCOME_ONLY" -E "(taken==sent)"

passes cold "-DMESSAGES=6" -E
fails cold "-DMESSAGES=6 -DBROKEN_ONE_LOOK" -E "(taken==sent)"
fails cold "-DMESSAGES=6 -DBROKEN_EARLY_BYTE" -E "(taken==sent)"
fails cold "-DMESSAGES=6 -DBROKEN_RING_FIRST" -E "(taken==sent)"
fails cold "-DMESSAGES=6 -DBROKEN_RING_TWICE" -E "(rung<=arms)"

passes crowd "-DMESSAGES=3" -E
fails crowd "-DMESSAGES=3 -DBROKEN_KEEP_BELL" -E "(position==sent)"
fails crowd "-DMESSAGES=3 -DBROKEN_WAKE_ONE" -E "(position==sent)"

passes pin "" ""
passes pin "-DCLOSE" ""
progresses pin "-DCLOSE" ""
fails pin "-DBROKEN_NO_MEMBARRIER" "" "!(working)"
fails pin "-DBROKEN_NO_BUSY" "" "!(working)"
fails pin "-DBROKEN_BIAS_NO_BUSY" "" "!(working)"
fails pin "-DBROKEN_CHECK_FIRST" "" "!(working)"
fails pin "-DCLOSE -DBROKEN_OLD_GENERATION" "" "!(closed)"

passes death "-DMESSAGES=2 -DSIGNALS=1" ""
fails death "-DMESSAGES=2 -DSIGNALS=0 -DBROKEN_NO_DRAIN" "" "(pos==published)"
fails death "-DMESSAGES=2 -DSIGNALS=0 -DBROKEN_SAMPLE_LATE" "" "invalid end state"
fails death "-DMESSAGES=2 -DSIGNALS=0 -DBROKEN_BUMP_FIRST" "" "invalid end state"
fails death "-DMESSAGES=2 -DSIGNALS=0 -DBROKEN_NO_BUMP" "" "invalid end state"

passes revoke "" -E
fails revoke "-DBROKEN_CHILDREN_ONLY" -E "(known["
fails revoke "-DBROKEN_ORPHANS" -E "(known["
fails revoke "-DBROKEN_LATE_DERIVE" -E "(known["
fails revoke "-DBROKEN_NO_LOOK" -E "(late&&"
fails revoke "-DBROKEN_ANSWER_FIRST" -E "(known["

[ "$failures" -eq 0 ] || { echo "$failures wrong"; exit 1; }
