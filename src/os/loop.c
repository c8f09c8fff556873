/* SPDX-License-Identifier: MIT */
#include "os/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define COLLECT_MAX 64

struct loop {
    int fd;
};

int loop_open(struct loop **ret)
{
    struct loop *loop = calloc(1, sizeof(*loop));

    if (!loop)
        return -ENOMEM;
    loop->fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->fd < 0) {
        free(loop);
        return -errno;
    }
    *ret = loop;
    return 0;
}

void loop_close(struct loop *loop)
{
    fd_close(&loop->fd);
    free(loop);
}

int loop_fd(const struct loop *loop)
{
    return loop->fd;
}

int loop_add_events(struct loop *loop, int fd, unsigned events, uint64_t token)
{
    struct epoll_event event = { .events = (events & FD_IN ? (uint32_t)EPOLLIN : 0) |
                                           (events & FD_OUT ? (uint32_t)EPOLLOUT : 0),
                                 .data.u64 = token };

    return epoll_ctl(loop->fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void loop_remove(struct loop *loop, int fd)
{
    int saved = errno;

    epoll_ctl(loop->fd, EPOLL_CTL_DEL, fd, NULL);
    errno = saved;
}

size_t loop_collect(struct loop *loop, uint64_t *tokens, size_t max)
{
    struct epoll_event events[COLLECT_MAX];
    int saved = errno;
    int n = epoll_wait(loop->fd, events, max < COLLECT_MAX ? (int)max : COLLECT_MAX, 0);

    errno = saved;
    for (int i = 0; i < n; i++)
        tokens[i] = events[i].data.u64;
    return n < 0 ? 0 : (size_t)n;
}
