/* SPDX-License-Identifier: MIT */
/* clock.h - monotonic time in nanoseconds, and deadlines. */
#pragma once

#include <stdint.h>
#include <time.h>

#define CLOCK_NEVER INT64_MAX

static inline int64_t clock_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The point in time `timeout` ns from now; negative: never. */
static inline int64_t clock_deadline(int64_t timeout)
{
    int64_t deadline;

    if (timeout < 0 || __builtin_add_overflow(clock_now(), timeout, &deadline))
        return CLOCK_NEVER;
    return deadline;
}
