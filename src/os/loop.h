/* SPDX-License-Identifier: MIT */
/*
 * loop.h - readiness of many descriptors, as one descriptor that can be waited for. Calls are the
 * caller's to serialize, except for waiting on loop_fd. How a thread waits is its own affair: in
 * poll(), or on an io_uring (uring.h).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "os/fd.h"

struct loop;

/* 0 or -errno. */
int loop_open(struct loop **ret);

/*
 * In the same process: stops watching and frees. In a forked child: only lets go of what was
 * inherited.
 */
void loop_close(struct loop *loop);

/* A descriptor that is readable while there is something to collect. */
int loop_fd(const struct loop *loop);

/*
 * Watches `fd` for `events` (FD_*) and hang-up. Level-triggered: as long as it lasts, each collect
 * tells `token`. 0 or -errno.
 */
int loop_add_events(struct loop *loop, int fd, unsigned events, uint64_t token);

/* The same, to read. */
static inline int loop_add(struct loop *loop, int fd, uint64_t token)
{
    return loop_add_events(loop, fd, FD_IN, token);
}

/* Stops watching; call before closing `fd`. A collect that has returned may still name its token. */
void loop_remove(struct loop *loop, int fd);

/* Which tokens are ready now? Does not wait. */
size_t loop_collect(struct loop *loop, uint64_t *tokens, size_t max);
