#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs all benchmarks and prints one table. Usage: run.sh [--quick] [--programs DIR] [--output FILE]
# DIR is where the programs were built (default: build/bench beside this directory).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
programs=$here/../build/bench
output=
quick=
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=--quick; shift ;;
    --programs) programs=$2; shift 2 ;;
    --output) output=$2; shift 2 ;;
    *) echo "usage: $0 [--quick] [--programs DIR] [--output FILE]" >&2; exit 2 ;;
    esac
done
output=${output:-$programs/../bench-results.json}

parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
files=
failed=
for program in latency throughput wakeup fan_in call setup zero_copy; do
    echo "running $program" >&2
    arguments="--benchmark_out=$parts/$program.json --benchmark_out_format=json"
    [ $program = setup ] || arguments="$arguments $quick"
    # shellcheck disable=SC2086  # a list of words
    if "$programs/bench_$program" $arguments >"$parts/$program.txt" 2>&1; then
        files="$files $parts/$program.json"
    else
        tail -n 5 "$parts/$program.txt" >&2
        echo "$program failed" >&2
        failed=yes
    fi
done
# shellcheck disable=SC2086
python3 "$here/report.py" "$output" $files
[ -z "$failed" ]
