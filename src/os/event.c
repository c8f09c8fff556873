/* SPDX-License-Identifier: MIT */
#include "os/event.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

int event_open(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

void event_set(int fd)
{
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof(one)); /* full is readable, too */

    (void)n;
}

void event_clear(int fd)
{
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof(count)); /* nothing there is clear already */

    (void)n;
}

int event_open_timer(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

void event_set_timer(int fd, int64_t when)
{
    struct itimerspec time = { .it_value = { .tv_sec = when / 1000000000,
                                             .tv_nsec = when % 1000000000 } };

    timerfd_settime(fd, TFD_TIMER_ABSTIME, &time, NULL);
}
