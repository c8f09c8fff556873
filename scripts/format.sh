#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Formats every C and C++ file of the repository in place; with --check only says what is wrong.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=(-i)
if [ "${1-}" = --check ]; then
    mode=(--dry-run --Werror)
fi
find include src tests examples bench -name '*.[ch]' -print0 -o -name '*.[ch]pp' -print0 |
    xargs -0 clang-format --style=file "${mode[@]}"
