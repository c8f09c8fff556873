#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Installs what is needed, builds the library, and runs its main job: three programs move a file
# through two channels, and the same three move it through pipes.
#
#   scripts/run.sh [FILE [PIPELINE_OPTION...]]    without a file, one of 256 MiB is made
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
build=$top/build/release

"$top/scripts/setup.sh"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "building in $build"
if ! { cmake -S "$top" -B "$build" -G Ninja -DVERIDIAN_TESTS=OFF -DVERIDIAN_BENCH=OFF &&
    cmake --build "$build"; } >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    exit 1
fi

file=${1-$build/sample}
[ $# -eq 0 ] || shift
if [ "$file" = "$build/sample" ] && [ ! -e "$file" ]; then
    head -c 256M /dev/urandom >"$file.new"
    mv "$file.new" "$file"
fi
"$build/examples/pipeline/pipeline" "$@" "$file"
