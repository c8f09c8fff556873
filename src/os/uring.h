/* SPDX-License-Identifier: MIT */
/*
 * uring.h - how one thread waits for one descriptor, again and again, on an io_uring of its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uring;

#ifdef VRD_HAVE_URING

/* For the calling thread alone to wait on for `fd`. NULL: refused, or no room for it. */
struct uring *uring_open(int fd);

/* In the process that opened it, or in a forked child, which only lets go of what was inherited. */
void uring_close(struct uring *uring);

/* The ring's own descriptor. */
int uring_fd(const struct uring *uring);

/*
 * Waits until the descriptor is readable, for `timeout` ns at most (negative: no limit). May end
 * early, or for what somebody else has taken since. False: the time has passed.
 */
bool uring_wait(struct uring *uring, int64_t timeout);

#else /* built without liburing: refused */

static inline struct uring *uring_open(int fd)
{
    (void)fd;
    return NULL;
}

static inline void uring_close(struct uring *uring)
{
    (void)uring;
}

static inline int uring_fd(const struct uring *uring)
{
    (void)uring;
    return -1;
}

static inline bool uring_wait(struct uring *uring, int64_t timeout)
{
    (void)uring;
    (void)timeout;
    return true;
}

#endif
