#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Installs the Debian 12 packages that this repository needs; does nothing when they are there.
#
#   scripts/setup.sh          what the library, its examples and its tools are built with
#   scripts/setup.sh --tests  that, and what its tests, benchmarks and checks use
set -euo pipefail

packages=(build-essential cmake libnuma-dev liburing-dev ninja-build pkg-config)
if [ "${1-}" = --tests ]; then
    packages+=(clang clang-format clang-tidy cppcheck iceoryx libbenchmark-dev libboost-dev libck-dev
        libiceoryx-posh-dev libzmq3-dev libnng-dev
        libclang-rt-14-dev libcmocka-dev libglib2.0-dev libjemalloc2 libuv1-dev llvm python3 spin)
fi

command -v dpkg-query >/dev/null || {
    echo "setup: this is not a Debian system; the packages would be: ${packages[*]}" >&2
    exit 1
}

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
fi
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120)

echo "setup: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    echo "setup: apt-get failed" >&2
    exit 1
fi
