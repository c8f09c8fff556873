/* SPDX-License-Identifier: MIT */
/* descriptors.h - is every descriptor closed? */
#ifndef FUZZ_DESCRIPTORS_H
#define FUZZ_DESCRIPTORS_H

#include <fcntl.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

/* The number that the next descriptor gets: a leak moves it, or the ones after it. */
static inline int descriptors_next(void)
{
    const int first = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int second = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int sum = first + second;

    close(first);
    close(second);
    return sum;
}

/* Is it what it was? The library's thread may have one in its hands: it gets some seconds. */
static inline bool descriptors_hold(int before)
{
    const struct timespec millisecond = { .tv_nsec = 1000000 };

    for (int i = 0; i < 5000; i++) {
        if (descriptors_next() == before)
            return true;
        nanosleep(&millisecond, NULL);
    }
    return false;
}

#endif
