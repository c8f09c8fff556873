/* SPDX-License-Identifier: MIT */
#include "os/fd.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

void fd_close(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}

bool fd_readable(int fd)
{
    struct pollfd entry = { .fd = fd, .events = POLLIN };

    return poll(&entry, 1, 0) > 0;
}

void fd_wait(int fd)
{
    struct pollfd entry = { .fd = fd, .events = POLLIN };

    poll(&entry, 1, -1);
}
