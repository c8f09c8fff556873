/* SPDX-License-Identifier: MIT */
/* arith.h - integer arithmetic that cannot surprise. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* `align` is a power of two, `n` at most 2^63. */
static inline uint64_t round_up(uint64_t n, uint64_t align)
{
    return (n + align - 1) & ~(align - 1);
}

/* The smallest power of two >= n, for 1 <= n <= 2^31. */
static inline uint32_t pow2_ceil(uint32_t n)
{
    return n <= 1 ? 1 : UINT32_C(1) << (32 - __builtin_clz(n - 1));
}

/* Is `position` one of the `n` positions after `from`? Positions run freely, modulo 2^32. */
static inline bool position_within(uint32_t position, uint32_t from, uint32_t n)
{
    return position - from - 1 < n;
}
