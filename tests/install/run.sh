#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Installs the build into an empty prefix, moves the prefix, and uses it from outside as C, C++,
# CMake and Python programs do.
#
#   run.sh BUILD_DIR LIBDIR CC CXX
set -euo pipefail

build=$1 libdir=$2 cc=$3 cxx=$4
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step() { echo "-- $*"; }
fail() { echo "install: $*" >&2; exit 1; }

# The package must not remember where it was installed: it is used from another place.
step "install"
cmake --install "$build" --prefix "$work/first" >"$work/install.log" || { cat "$work/install.log"; exit 1; }
mv "$work/first" "$work/prefix"
prefix=$work/prefix
lib=$prefix/$libdir
so=$lib/libveridian-ipc.so
! grep -rI "$work" "$prefix" || fail "an installed file names the prefix"

step "soname and symbols"
soname=$(objdump -p "$so" | awk '$1 == "SONAME" { print $2 }')
[ "$soname" = libveridian-ipc.so.0 ] || fail "the soname is $soname"
[ -e "$lib/$soname" ] || fail "$soname is not installed"
strays=$(nm -D --defined-only "$so" | awk '{ print $3 }' | grep -vE '^(vrd_[a-z0-9_]+@@VERIDIAN_IPC_0|VERIDIAN_IPC_0)$' || true)
[ -z "$strays" ] || fail "symbols that should not leave the library: $strays"

# Every function that the headers declare must be there, and nothing else.
declared=$(echo '#include <veridian/ipc.h>' | "$cc" -E -P "-I$prefix/include" - | tr '\n' ' ' |
    grep -oE '\(visibility\("default"\)\)\) [^;]*;' | sed -E 's/^[^;]*[^a-z0-9_](vrd_[a-z0-9_]+)\(.*/\1/' | sort -u)
exported=$(nm -D --defined-only "$so" | awk '$2 == "T" { sub(/@.*/, "", $3); print $3 }' | sort -u)
diff <(echo "$declared") <(echo "$exported") || fail "declared (<) and exported (>) functions differ"

export PKG_CONFIG_PATH=$lib/pkgconfig LD_LIBRARY_PATH=$lib
strict="-Wall -Wextra -pedantic -Werror"

compile_and_run() { # NAME COMPILER STANDARD SOURCE PKG_CONFIG_FLAG LINK_FLAG
    step "pkg-config: $1"
    # shellcheck disable=SC2046,SC2086
    "$2" -std="$3" $strict "$here/$4" -o "$work/$1" $6 $(pkg-config --cflags --libs $5 veridian-ipc)
    "$work/$1"
}
compile_and_run c_shared "$cc" c11 outside.c "" ""
compile_and_run cpp_shared "$cxx" c++17 outside.cpp "" ""
compile_and_run c_static "$cc" c11 outside.c --static -static
compile_and_run cpp_static "$cxx" c++17 outside.cpp --static -static
[ "$(pkg-config --modversion veridian-ipc)" = "$("$work/c_shared" | cut -d' ' -f1)" ] ||
    fail "the .pc file and the library disagree about the version"

step "find_package"
CC=$cc CXX=$cxx cmake -S "$here/consumer" -B "$work/consumer" -DCMAKE_PREFIX_PATH="$prefix" >"$work/cmake.log" ||
    { cat "$work/cmake.log"; exit 1; }
cmake --build "$work/consumer" >"$work/cmake.log" || { cat "$work/cmake.log"; exit 1; }
for program in ipc_c ipc_cpp ipc_static_c ipc_static_cpp; do
    "$work/consumer/$program"
done

step "dlopen from Python"
python3 "$here/outside.py" "$so"
