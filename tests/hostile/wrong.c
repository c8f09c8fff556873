/* SPDX-License-Identifier: MIT */
#include "wrong.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link/layout.h"
#include "support/support.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define SEALS_ALL (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)

static int pipe_end(void)
{
    int pair[2];

    support_require(pipe2(pair, O_CLOEXEC) == 0);
    close(pair[1]);
    return pair[0];
}

static int socket_of(int domain, int type)
{
    const int fd = socket(domain, type | SOCK_CLOEXEC, 0);

    support_require(fd >= 0);
    return fd;
}

static int unix_stream(void)
{
    return socket_of(AF_UNIX, SOCK_STREAM);
}

static int unix_unconnected(void)
{
    return socket_of(AF_UNIX, SOCK_SEQPACKET);
}

static int unix_listening(void)
{
    const int fd = unix_unconnected();
    const struct sockaddr address = { .sa_family = AF_UNIX };

    support_require(bind(fd, &address, sizeof address.sa_family) == 0);
    support_require(listen(fd, 1) == 0);
    return fd;
}

static int unix_abandoned(void)
{
    int pair[2];

    support_socket_pair(pair);
    close(pair[1]);
    return pair[0];
}

static int tcp(void)
{
    return socket_of(AF_INET, SOCK_STREAM);
}

static int dev_null(void)
{
    const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    support_require(fd >= 0);
    return fd;
}

static int regular_file(void)
{
    FILE *file = tmpfile();
    int fd;

    support_require(file != NULL);
    fd = dup(fileno(file));
    support_require(fd >= 0 && ftruncate(fd, LAYOUT_PAGE) == 0);
    fclose(file);
    return fd;
}

static int directory(void)
{
    const int fd = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    support_require(fd >= 0);
    return fd;
}

/* A memfd of one page, which is the size that the HELLO here promises. */
static int memfd(unsigned flags, size_t size, bool filled, int seals)
{
    const int fd = memfd_create("veridian", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

    if (fd < 0) /* no huge pages at all: any other wrong kind will do */
        return dev_null();
    support_require(ftruncate(fd, (off_t)size) == 0);
    if (filled)
        for (size_t at = 0; at < size; at += LAYOUT_PAGE)
            support_require(pwrite(fd, "", 1, (off_t)at) == 1);
    support_require(fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

static int memfd_unsealed(void)
{
    return memfd(0, LAYOUT_PAGE, true, 0);
}

static int memfd_writable(void)
{
    return memfd(0, LAYOUT_PAGE, true, SEALS_ALL & ~F_SEAL_FUTURE_WRITE);
}

static int memfd_shrinkable(void)
{
    return memfd(0, LAYOUT_PAGE, true, SEALS_ALL & ~F_SEAL_SHRINK);
}

static int memfd_growable(void)
{
    return memfd(0, LAYOUT_PAGE, true, SEALS_ALL & ~F_SEAL_GROW);
}

static int memfd_more_seals(void)
{
    return memfd(0, LAYOUT_PAGE, true, SEALS_ALL & ~F_SEAL_SEAL);
}

static int memfd_sparse(void)
{
    return memfd(0, LAYOUT_PAGE, false, SEALS_ALL);
}

int memfd_sparse_in_disguise(void)
{
    const int fd = memfd(0, LAYOUT_PAGE, false, 0);

    support_require(fallocate(fd, FALLOC_FL_KEEP_SIZE, LAYOUT_PAGE, LAYOUT_PAGE) == 0);
    support_require(fcntl(fd, F_ADD_SEALS, SEALS_ALL) == 0);
    return fd;
}

int sealed_memfd(size_t size)
{
    return memfd(0, size, true, SEALS_ALL);
}

static int memfd_empty(void)
{
    return memfd(0, 0, false, SEALS_ALL);
}

static int memfd_large(void)
{
    return memfd(0, 2 * LAYOUT_PAGE, true, SEALS_ALL);
}

static int memfd_huge_pages(void)
{
    return memfd(MFD_HUGETLB, 2 << 20, false, SEALS_ALL);
}

/* A sealed segment as it should be, but only to look at. */
static int memfd_path_only(void)
{
    const int fd = memfd(0, LAYOUT_PAGE, true, SEALS_ALL);
    char path[64];
    int only;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    only = open(path, O_PATH | O_CLOEXEC);
    support_require(only >= 0 && close(fd) == 0);
    return only;
}

const struct wrong wrong_sockets[] = {
    { "a pipe", pipe_end, false },
    { "a stream socket", unix_stream, false },
    { "an unconnected socket", unix_unconnected, true },
    { "a listening socket", unix_listening, true },
    { "a socket whose other end is closed", unix_abandoned, true },
    { "a TCP socket", tcp, false },
    { "/dev/null", dev_null, false },
    { "a file", regular_file, false },
    { "a memfd", memfd_unsealed, false },
    { "a directory", directory, false },
    { 0 },
};

const struct wrong wrong_segments[] = {
    { "a pipe", pipe_end, false },
    { "a socket", unix_abandoned, true },
    { "/dev/null", dev_null, false },
    { "a file", regular_file, false },
    { "a directory", directory, false },
    { "a memfd without seals", memfd_unsealed, false },
    { "a memfd that can be mapped writable", memfd_writable, false },
    { "a memfd that can shrink", memfd_shrinkable, false },
    { "a memfd that can grow", memfd_growable, false },
    { "a memfd that takes more seals", memfd_more_seals, false },
    { "a sparse memfd", memfd_sparse, false },
    { "a sparse memfd with blocks beyond its end", memfd_sparse_in_disguise, false },
    { "an empty memfd", memfd_empty, false },
    { "a memfd that is too large", memfd_large, false },
    { "a memfd of huge pages", memfd_huge_pages, false },
    { "a descriptor that is only a path", memfd_path_only, false },
    { 0 },
};
