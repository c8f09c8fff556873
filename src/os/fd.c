/* SPDX-License-Identifier: MIT */
#include "os/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/closer.h"
#include "os/cpu.h"

uint64_t fd_identity(int fd)
{
    struct stat status;
    int saved = errno;
    bool open = fd >= 0 && fstat(fd, &status) == 0;

    errno = saved;
    return open ? (uint64_t)status.st_dev << 48 ^ status.st_ino : 0;
}

void fd_close(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}

void fd_close_foreign(int *fd)
{
    static const struct linger off;
    int saved = errno;
    bool quick = *fd < 0 || setsockopt(*fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off)) == 0 ||
                 fcntl(*fd, F_GET_SEALS) >= 0;

    if (quick)
        fd_close(fd);
    else
        closer_take(fd);
    errno = saved;
}

uint64_t fd_limit(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

int fd_duplicate(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    return copy < 0 ? -errno : copy;
}

bool fd_readable(int fd)
{
    struct pollfd entry = { .fd = fd, .events = POLLIN };

    return poll(&entry, 1, 0) > 0;
}

bool fd_look_for(int fd, int64_t ns)
{
    const int64_t until = clock_now() + ns;

    while (!fd_readable(fd)) {
        if (clock_now() >= until)
            return false;
        cpu_yield();
    }
    return true;
}

unsigned fd_events(int fd, unsigned events)
{
    struct pollfd entry = { .fd = fd,
                            .events = (short)((events & FD_IN ? POLLIN | POLLRDHUP : 0) |
                                              (events & FD_OUT ? POLLOUT : 0)) };
    int saved = errno;
    int n = poll(&entry, 1, 0);

    errno = saved;
    if (n <= 0 || (entry.revents & POLLNVAL))
        return 0;
    return (entry.revents & POLLIN ? FD_IN : 0U) | (entry.revents & POLLOUT ? FD_OUT : 0U) |
           (entry.revents & (POLLHUP | POLLRDHUP | POLLERR) ? FD_HANGUP : 0U);
}

void fd_wait(int fd)
{
    struct pollfd entry = { .fd = fd, .events = POLLIN };

    poll(&entry, 1, -1);
}

void fd_wait_for(int fd, int64_t timeout)
{
    fd_wait_any(&fd, 1, timeout);
}

bool fd_wait_any(const int *fds, size_t n, int64_t timeout)
{
    struct pollfd entries[FD_WAIT_MAX];
    struct timespec time = { .tv_sec = timeout / 1000000000, .tv_nsec = timeout % 1000000000 };
    int saved = errno;
    bool passed;

    for (size_t i = 0; i < n; i++)
        entries[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
    passed = ppoll(entries, n, timeout < 0 ? NULL : &time, NULL) == 0;
    errno = saved;
    return !passed;
}
