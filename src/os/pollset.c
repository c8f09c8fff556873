/* SPDX-License-Identifier: MIT */
#include "os/pollset.h"

#include <errno.h>
#include <sys/epoll.h>

#define COLLECT_MAX 64

int pollset_open(void)
{
    int set = epoll_create1(EPOLL_CLOEXEC);

    return set < 0 ? -errno : set;
}

int pollset_add(int set, int fd, unsigned events, uint64_t token)
{
    struct epoll_event event = { .events = (events & POLLSET_IN ? EPOLLIN | EPOLLRDHUP : 0U) |
                                           (events & POLLSET_OUT ? EPOLLOUT : 0U),
                                 .data = { .u64 = token } };

    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int pollset_remove(int set, int fd)
{
    return epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

int pollset_collect(int set, struct pollset_event *events, size_t max)
{
    struct epoll_event found[COLLECT_MAX];
    int n = epoll_wait(set, found, (int)(max < COLLECT_MAX ? max : COLLECT_MAX), 0);

    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++)
        events[i] = (struct pollset_event){
            .token = found[i].data.u64,
            .events = (found[i].events & EPOLLIN ? POLLSET_IN : 0U) |
                      (found[i].events & EPOLLOUT ? POLLSET_OUT : 0U) |
                      (found[i].events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR) ? POLLSET_HANGUP : 0U),
        };
    return n;
}
