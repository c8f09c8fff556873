/* SPDX-License-Identifier: MIT */
/*
 * loop.h - readiness of many descriptors, behind one interface. Calls are the caller's to serialize,
 * except for waiting on loop_fd.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "os/fd.h"

struct loop;

struct loop_ops {
    const char *name;
    int (*open)(struct loop **ret); /* 0 or -errno */
    void (*close)(struct loop *loop);
    int (*fd)(const struct loop *loop); /* readable while there is something to collect */
    int (*add)(struct loop *loop, int fd, unsigned events, uint64_t token); /* 0 or -errno */
    void (*remove)(struct loop *loop, int fd, uint64_t token);
    size_t (*collect)(struct loop *loop, uint64_t *tokens, size_t max);
};

struct loop {
    const struct loop_ops *ops;
};

extern const struct loop_ops loop_epoll;
#ifdef VRD_HAVE_URING
extern const struct loop_ops loop_uring;
#endif

/* The best loop that this build has and this kernel lets us have. 0 or -errno. */
int loop_open(struct loop **ret);

/*
 * In the same process: stops watching and frees. In a forked child: only lets go of what was
 * inherited.
 */
static inline void loop_close(struct loop *loop)
{
    loop->ops->close(loop);
}

/* A descriptor that is readable while there is something to collect. */
static inline int loop_fd(const struct loop *loop)
{
    return loop->ops->fd(loop);
}

/*
 * Watches `fd` for `events` (FD_*) and hang-up. Level-triggered: as long as it lasts, each collect
 * tells `token`.
 */
static inline int loop_add_events(struct loop *loop, int fd, unsigned events, uint64_t token)
{
    return loop->ops->add(loop, fd, events, token);
}

/* The same, to read. */
static inline int loop_add(struct loop *loop, int fd, uint64_t token)
{
    return loop->ops->add(loop, fd, FD_IN, token);
}

/* Stops watching; call before closing `fd`. A collect that has returned may still name the token. */
static inline void loop_remove(struct loop *loop, int fd, uint64_t token)
{
    loop->ops->remove(loop, fd, token);
}

/* Which tokens are ready now? Does not wait. */
static inline size_t loop_collect(struct loop *loop, uint64_t *tokens, size_t max)
{
    return loop->ops->collect(loop, tokens, max);
}
