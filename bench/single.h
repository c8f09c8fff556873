/* SPDX-License-Identifier: MIT */
/* single.h - what the programs share that measure in one process and one thread. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static inline void require(int ok)
{
    if (!ok) {
        fputs("a call failed\n", stderr);
        exit(EXIT_FAILURE);
    }
}

static inline int compare_samples(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Sorts them. */
static inline double median(double *samples, size_t n)
{
    qsort(samples, n, sizeof *samples, compare_samples);
    return samples[n / 2];
}
