/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "os/fd.h"
#include "os/loop.h"

#define COLLECT_MAX 64

struct loop_epoll {
    struct loop loop;
    int fd;
};

static int epoll_open(struct loop **ret)
{
    struct loop_epoll *self = calloc(1, sizeof(*self));

    if (!self)
        return -ENOMEM;
    self->loop.ops = &loop_epoll;
    self->fd = epoll_create1(EPOLL_CLOEXEC);
    if (self->fd < 0) {
        free(self);
        return -errno;
    }
    *ret = &self->loop;
    return 0;
}

static void epoll_close(struct loop *loop)
{
    struct loop_epoll *self = (struct loop_epoll *)loop;

    fd_close(&self->fd);
    free(self);
}

static int epoll_fd(const struct loop *loop)
{
    return ((const struct loop_epoll *)loop)->fd;
}

static int epoll_add(struct loop *loop, int fd, unsigned events, uint64_t token)
{
    struct epoll_event event = { .events = (events & FD_IN ? (uint32_t)EPOLLIN : 0) |
                                           (events & FD_OUT ? (uint32_t)EPOLLOUT : 0),
                                 .data.u64 = token };

    return epoll_ctl(epoll_fd(loop), EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void epoll_remove(struct loop *loop, int fd, uint64_t token)
{
    int saved = errno;

    (void)token;
    epoll_ctl(epoll_fd(loop), EPOLL_CTL_DEL, fd, NULL);
    errno = saved;
}

static size_t epoll_collect(struct loop *loop, uint64_t *tokens, size_t max)
{
    struct epoll_event events[COLLECT_MAX];
    int saved = errno;
    int n = epoll_wait(epoll_fd(loop), events, max < COLLECT_MAX ? (int)max : COLLECT_MAX, 0);

    errno = saved;
    for (int i = 0; i < n; i++)
        tokens[i] = events[i].data.u64;
    return n < 0 ? 0 : (size_t)n;
}

const struct loop_ops loop_epoll = {
    .name = "epoll",
    .open = epoll_open,
    .close = epoll_close,
    .fd = epoll_fd,
    .add = epoll_add,
    .remove = epoll_remove,
    .collect = epoll_collect,
};
