/* SPDX-License-Identifier: MIT */
#include "os/futex.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Newer than Debian 12's kernel headers would say on every architecture. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

struct waitv {
    uint64_t value;
    uint64_t word;
    uint32_t flags;
    uint32_t reserved;
};

#define WAITV_U32 0x02U
#define WAITV_PRIVATE 128U

bool futex_many(void)
{
    static atomic_int known; /* 0: not asked, 1: yes, 2: no; any thread finds the same answer */
    int answer = atomic_load_explicit(&known, memory_order_relaxed);

    if (answer == 0) {
        int saved = errno;

        answer = syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0) < 0 && errno == EINVAL ? 1 : 2;
        errno = saved;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == 1;
}

static struct timespec timespec_of(int64_t ns)
{
    return (struct timespec){ .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
}

static long sleep_one(const struct futex_point *point, int64_t timeout)
{
    struct timespec relative = timespec_of(timeout);
    int op = FUTEX_WAIT | (point->shared ? 0 : FUTEX_PRIVATE_FLAG);

    return syscall(SYS_futex, point->word, op, point->value, timeout < 0 ? NULL : &relative);
}

static long sleep_many(const struct futex_point *points, size_t n, int64_t timeout)
{
    struct waitv waiters[FUTEX_POINTS_MAX];
    struct timespec at;

    if (timeout >= 0) {
        clock_gettime(CLOCK_MONOTONIC, &at);
        if (__builtin_add_overflow((int64_t)at.tv_sec * 1000000000 + at.tv_nsec, timeout, &timeout))
            timeout = INT64_MAX;
        at = timespec_of(timeout);
    }
    for (size_t i = 0; i < n; i++)
        waiters[i] = (struct waitv){ .value = points[i].value,
                                     .word = (uintptr_t)points[i].word,
                                     .flags = WAITV_U32 | (points[i].shared ? 0 : WAITV_PRIVATE) };
    return syscall(SYS_futex_waitv, waiters, n, 0, timeout < 0 ? NULL : &at, CLOCK_MONOTONIC);
}

int futex_sleep(const struct futex_point *points, size_t n, int64_t timeout)
{
    int saved = errno;
    long r = n == 1 ? sleep_one(points, timeout) : sleep_many(points, n, timeout);
    int result = r < 0 && errno == ETIMEDOUT ? -ETIMEDOUT : 0;

    errno = saved;
    return result;
}

void futex_wake(const void *word, bool shared)
{
    int saved = errno;

    syscall(SYS_futex, word, FUTEX_WAKE | (shared ? 0 : FUTEX_PRIVATE_FLAG), INT_MAX);
    errno = saved;
}
