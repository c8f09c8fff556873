#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Installs what is needed, then builds and tests the library in every configuration and checks its
# sources. Stops at the first step that fails and shows its log. The last line is the number of
# tests that ran.
#
#   scripts/test.sh [STEP...]    all steps, or only those named
set -euo pipefail
cd "$(dirname "$0")/.."

readonly out=$PWD/build/test
readonly jobs=$(nproc)
readonly wanted=("$@")

passed=0
started=$SECONDS
mkdir -p "$out"

# ---- the frame ---------------------------------------------------------------------------------

is_wanted() { # STEP
    [ ${#wanted[@]} -eq 0 ] && return 0
    local name
    for name in "${wanted[@]}"; do
        [ "$name" = "$1" ] && return 0
    done
    return 1
}

# Runs a function or command as one step: its output goes to a log, which is shown if it fails.
step() { # NAME COMMAND...
    local name=$1 log=$out/$1.log begun=$SECONDS
    shift
    is_wanted "$name" || return 0
    printf '%-16s ' "$name"
    # Waited for rather than tested: inside of a condition -e would not hold.
    ("$@") >"$log" 2>&1 </dev/null &
    if ! wait $!; then
        printf 'FAILED after %d s\n\n' $((SECONDS - begun))
        tail -n 400 "$log"
        printf '\n%s failed; the whole log is %s\n' "$name" "$log"
        exit 1
    fi

    local tests
    tests=$(sed -nE 's/^100% tests passed, 0 tests failed out of ([0-9]+)$/\1/p' "$log" | tail -n 1)
    passed=$((passed + ${tests:-0}))
    printf '%4d s%s\n' $((SECONDS - begun)) "${tests:+  $tests tests}"
}

# ---- the steps ---------------------------------------------------------------------------------

configure() { # CONFIGURATION [CMAKE_ARGUMENT...]
    local name=$1
    shift
    cmake -S . -B "$out/$name" -G Ninja -DVERIDIAN_WERROR=ON "$@"
}

build() { # CONFIGURATION [CMAKE_ARGUMENT...]
    configure "$@"
    cmake --build "$out/$1" -j "$jobs"
}

build_and_test() { # CONFIGURATION LABELS_LEFT_OUT [CMAKE_ARGUMENT...]
    local name=$1 left_out=$2
    shift 2
    build "$name" "$@"
    local less=()
    if [ -n "$left_out" ]; then
        less=(-LE "$left_out" -E '^model$')
    fi
    ctest --test-dir "$out/$name" -j "$jobs" --output-on-failure --no-tests=error "${less[@]}"
}

# The benchmarks are not part of the default target. Built here so that they do not rot, not run:
# on a busy machine their figures mean nothing.
build_benchmarks() {
    local targets
    mapfile -t targets < <(ninja -C "$out/release" -t targets all | sed -nE 's/^(bench_[a-z_]+): phony$/\1/p')
    [ ${#targets[@]} -gt 0 ]
    ninja -C "$out/release" -j "$jobs" "${targets[@]}"
}

tidy() {
    find src examples tests -name '*.c' -not -path 'tests/fuzz/*' -not -path 'tests/install/*' -print0 |
        xargs -0 -n 4 -P "$jobs" clang-tidy --quiet --warnings-as-errors='*' -p "$out/clang"
}

check() {
    cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --language=c \
        --enable=warning,performance,portability --suppressions-list=scripts/cppcheck.txt \
        -D__linux__ -D__x86_64__ -D_GNU_SOURCE -DVRD_HAVE_URING=1 -DVRD_HAVE_NUMA=1 -DVRD_VERSION='""' \
        -Iinclude -Isrc -Itests -j "$jobs" src tests/support
}

step setup scripts/setup.sh --tests
step format scripts/format.sh --check
step release build_and_test release '' -DCMAKE_C_COMPILER=gcc
step benchmarks build_benchmarks
step cppcheck check
step clang build clang -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++
step tidy tidy
# Without the optional libraries. Killing at every instruction takes minutes and has nothing to do
# with them.
step bare build_and_test bare 'once|fault' \
    -DCMAKE_C_COMPILER=gcc -DVERIDIAN_WITH_URING=OFF -DVERIDIAN_WITH_NUMA=OFF \
    -DVERIDIAN_WITH_JEMALLOC=OFF -DVERIDIAN_TEST_LIBUV=OFF -DVERIDIAN_TEST_GLIB=OFF \
    -DVERIDIAN_BENCH=OFF
step address build_and_test address once \
    -DCMAKE_C_COMPILER=gcc -DVERIDIAN_SANITIZE=address -DVERIDIAN_BENCH=OFF
step thread build_and_test thread once \
    -DCMAKE_C_COMPILER=gcc -DVERIDIAN_SANITIZE=thread -DVERIDIAN_BENCH=OFF
step fuzz build_and_test fuzz '' -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
    -DVERIDIAN_FUZZ=ON -DVERIDIAN_FUZZ_SECONDS=10 \
    -DVERIDIAN_TESTS=OFF -DVERIDIAN_EXAMPLES=OFF -DVERIDIAN_BENCH=OFF

printf 'all steps took %d s\n' $((SECONDS - started))
printf '%d passed, 0 failed\n' "$passed"
