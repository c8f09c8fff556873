/* SPDX-License-Identifier: MIT */
#include "os/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "os/fd.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)

/* Small segments are mapped with their pages: a fault costs more than the page. */
#define POPULATE_MAX ((size_t)4 << 20)

static int memfd_new(void)
{
    int fd = memfd_create("veridian", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("veridian", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd;
}

static int fd_reopen_readonly(int fd)
{
    char path[sizeof("/proc/self/fd/") + 3 * sizeof(int)];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/*
 * Is every page there, for good? Block counts do not tell: blocks beyond the end count too, and can
 * be given back later. A page that was only reserved and never touched counts as a hole. After the
 * seals nobody can make a new one.
 */
static bool segment_is_whole(int fd, size_t size)
{
    return lseek(fd, 0, SEEK_HOLE) == (off_t)size;
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

int segment_create(size_t size, struct segment *ret, int *ret_fd)
{
    fd_auto fd = memfd_new();
    void *addr;
    int r;

    if (fd < 0)
        return -errno;
    do { /* all pages now: a hole would be billed to whoever reads it first */
        r = fallocate(fd, 0, 0, (off_t)size);
    } while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (addr == MAP_FAILED)
        return -errno;
    if (!segment_is_whole(fd, size)) /* mmap does not say when it could not populate */
        r = -ENOMEM;
    else
        r = madvise(addr, size, MADV_DONTFORK) < 0 ? -errno : segment_seal(fd, ret_fd);
    if (r < 0) {
        munmap(addr, size);
        return r;
    }
    *ret = (struct segment){ .addr = addr, .size = size };
    return 0;
}

/*
 * Seals are asked for first: the kernel answers for memfds only and without calling the file
 * system, which for a descriptor on FUSE would be the peer's program.
 */
static int segment_check(int fd, size_t size)
{
    struct statfs fs;
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0 || (seals & SEALS) != SEALS)
        return -EPROTO;
    if (fstatfs(fd, &fs) < 0 ||
        fs.f_type != TMPFS_MAGIC) /* a hugetlb page may be missing: SIGBUS */
        return -EPROTO;
    if (fstat(fd, &st) < 0 || st.st_size < 0 || (uint64_t)st.st_size != size)
        return -EPROTO;
    return segment_is_whole(fd, size) ? 0 : -EPROTO; /* holes would be billed to us */
}

int segment_import(int fd, size_t size, struct segment *ret)
{
    int r = segment_check(fd, size);
    void *addr;

    if (r < 0)
        return r;
    addr =
        mmap(NULL, size, PROT_READ, MAP_SHARED | (size <= POPULATE_MAX ? MAP_POPULATE : 0), fd, 0);
    if (addr == MAP_FAILED)
        return -errno;
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
