/* SPDX-License-Identifier: MIT */
/* futex.h - sleeping on words of memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A word, the value at which to sleep on it, and whether other processes wake it. */
struct futex_point {
    const void *word; /* 32 bits, aligned */
    uint32_t value;
    bool shared;
};

#define FUTEX_POINTS_MAX 24

/* Can this kernel wait on several words at once (Linux 5.16)? */
bool futex_many(void);

/*
 * Sleeps until one of the words is woken, or has another value, or `timeout` ns have passed
 * (negative: no limit). More than one point only where futex_many(). Returns -ETIMEDOUT for the pure
 * timeout and 0 for any other return, also a signal's: the caller looks again.
 */
int futex_sleep(const struct futex_point *points, size_t n, int64_t timeout);

/* Wakes all who sleep on `word`. */
void futex_wake(const void *word, bool shared);
