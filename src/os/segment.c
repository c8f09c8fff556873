/* SPDX-License-Identifier: MIT */
#include "os/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/fd.h"
#include "os/newborn.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)

/* Small segments are mapped with their pages: a fault costs more than the page. */
#define POPULATE_MAX ((size_t)4 << 20)

static int fd_reopen_readonly(int fd)
{
    char path[sizeof("/proc/self/fd/") + 3 * sizeof(int)];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Seals and hands over: `fd` is mapped already, its last writable mapping. */
static int segment_seal(int fd, int *ret_fd)
{
    fd_auto readonly = -1;

    if (fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        return -errno;
    readonly = fd_reopen_readonly(fd);
    if (readonly < 0 || fchmod(readonly, 0400) < 0)
        return -errno;
    *ret_fd = fd_take(&readonly);
    return 0;
}

static int segment_make(size_t size, const struct pages *pages, struct segment *ret, int *ret_fd)
{
    fd_auto fd = pages_memfd("veridian", size, pages);
    void *addr;
    int r;

    if (fd < 0)
        return fd;
    addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (addr == MAP_FAILED) /* of huge pages, also when there are too few */
        return -errno;
    r = pages_settle(fd, addr, size, pages);
    if (r == 0)
        r = segment_seal(fd, ret_fd);
    if (r < 0) {
        munmap(addr, size);
        return r;
    }
    *ret = (struct segment){ .addr = addr, .size = size };
    return 0;
}

int segment_create_of(size_t size, const struct pages *pages, struct segment *ret, int *ret_fd)
{
    int r;

    newborn_begin();
    r = segment_make(size, pages, ret, ret_fd);
    newborn_end();
    return r;
}

/*
 * Seals are asked for first: the kernel answers for memfds only and without calling the file
 * system, which for a descriptor on FUSE would be the peer's program. *ret_shift is what the pages are of.
 */
static int segment_check(int fd, size_t size, unsigned shift, unsigned *ret_shift)
{
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0 || (seals & SEALS) != SEALS)
        return -EPROTO;
    if (pages_kind(fd, 0))
        shift = 0;
    else if (shift == 0 || !pages_kind(fd, shift)) /* a huge page may be missing: SIGBUS */
        return -EPROTO;
    if (!pages_whole(fd, size, shift)) /* holes would be billed to us */
        return -EPROTO;
    *ret_shift = shift;
    return 0;
}

int segment_import_of(int fd, size_t size, unsigned shift, struct segment *ret)
{
    int64_t blocks = 0;
    int r = segment_check(fd, size, shift, &shift);
    bool populate = shift > 0 || size <= POPULATE_MAX;
    void *addr;

    if (r < 0)
        return r;
    if (shift > 0)
        blocks = pages_blocks(fd);
    addr = mmap(NULL, size, PROT_READ, MAP_SHARED | (populate ? MAP_POPULATE : 0), fd, 0);
    if (addr == MAP_FAILED)
        return -errno;
    r = shift > 0 ? pages_take_huge(fd, addr, size, shift, blocks) : 0;
    if (r < 0) {
        munmap(addr, size);
        return r;
    }
    *ret = (struct segment){ .addr = addr, .size = size };
    return 0;
}

void segment_unmap(struct segment *segment)
{
    struct segment old = *segment;
    int saved = errno;

    *segment = (struct segment){ 0 };
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* a fork between the two must not unmap it again */
    if (old.size > 0)
        munmap(old.addr, old.size);
    errno = saved;
}
