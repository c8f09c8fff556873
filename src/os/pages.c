/* SPDX-License-Identifier: MIT */
#include "os/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "os/fd.h"
#include "os/placement.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

size_t pages_size(unsigned shift)
{
    return shift > 0 ? (size_t)1 << shift : (size_t)sysconf(_SC_PAGESIZE);
}

static int memfd_new(const char *name, const struct pages *pages)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd;

    if (pages->shift > 0)
        flags |= MFD_HUGETLB | pages->shift << MFD_HUGE_SHIFT;
    fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create(name, flags);
    if (fd >= 0)
        return fd;
    if (pages->shift > 0 && (errno == EINVAL || errno == ENODEV || errno == ENOSYS))
        return -ENOTSUP; /* no huge pages of this size */
    return -errno;
}

/* Of a node that has too little, the kernel would find out by killing somebody. */
static int pages_room(size_t size, const struct pages *pages)
{
    uint64_t total, room;
    int r;

    if (pages->node < 0 || pages->preferred)
        return 0;
    r = placement_room(pages->node, &total, &room);
    if (r < 0)
        return r;
    return pages->shift == 0 && size > room ? -ENOMEM : 0;
}

int pages_memfd(const char *name, size_t size, const struct pages *pages)
{
    fd_auto fd = -1;
    int r = pages_room(size, pages);

    if (r < 0)
        return r;
    fd = memfd_new(name, pages);
    if (fd < 0)
        return fd;
    if (ftruncate(fd, (off_t)size) < 0)
        return errno == EFBIG || errno == EINVAL ? -ENOMEM : -errno;
    return fd_take(&fd);
}

/* Before Linux 5.14: allocates all of it, and then touches it, when no page can be missing. */
static int pages_touch(int fd, char *addr, size_t size, size_t page)
{
    int r;

    do {
        r = fallocate(fd, 0, 0, (off_t)size);
    } while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    for (size_t at = 0; at < size; at += page) {
        volatile char *byte = addr + at;
        const char kept = *byte;

        *byte = kept;
    }
    return 0;
}

/* All pages now: a hole would be billed to whoever reads it first. */
static int pages_allocate(int fd, void *addr, size_t size, unsigned shift)
{
    int r;

    do {
        r = madvise(addr, size, MADV_POPULATE_WRITE);
    } while (r < 0 && errno == EINTR);
    if (r < 0 && errno == EINVAL)
        return pages_touch(fd, addr, size, pages_size(shift));
    return r < 0 ? -ENOMEM : 0;
}

static int pages_advise(void *addr, size_t size, const struct pages *pages)
{
    if (pages->transparent && madvise(addr, size, MADV_HUGEPAGE) < 0)
        return errno == EINVAL ? -ENOTSUP : -errno;
    return 0;
}

int pages_settle(int fd, void *addr, size_t size, const struct pages *pages)
{
    int r;

    if (madvise(addr, size, MADV_DONTFORK) < 0)
        return -errno;
    r = pages_advise(addr, size, pages);
    if (r == 0 && pages->node >= 0) {
        r = placement_bind(addr, size, pages->node, pages->preferred);
        if (pages->preferred)
            r = 0;
    }
    return r < 0 ? r : pages_allocate(fd, addr, size, pages->shift);
}

int pages_probe(const struct pages *pages)
{
    size_t size = pages_size(pages->shift);
    fd_auto fd = -1;
    void *addr;
    int r = pages->node >= 0 && !pages->preferred ? placement_check(pages->node) : 0;

    if (r < 0 || (pages->shift == 0 && !pages->transparent))
        return r;
    fd = pages_memfd("veridian", size, pages);
    if (fd < 0)
        return fd;
    addr =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); /* a huge page is reserved */
    if (addr == MAP_FAILED)
        return -errno;
    r = pages_advise(addr, size, pages);
    munmap(addr, size);
    return r;
}

/* --- what a peer sent -------------------------------------------------------------------------- */

bool pages_kind(int fd, unsigned shift)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return false;
    return shift > 0 ? fs.f_type == HUGETLBFS_MAGIC && (uint64_t)fs.f_bsize == UINT64_C(1) << shift
                     : fs.f_type == TMPFS_MAGIC;
}

/*
 * tmpfs tells of holes; pages that were only reserved and never touched count as such. hugetlbfs does
 * not, and its count of blocks can be made up with blocks beyond the end: pages_take_huge finds out.
 */
bool pages_whole(int fd, size_t size, unsigned shift)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || st.st_size <= 0 || (uint64_t)st.st_size != size ||
        size % pages_size(shift) != 0)
        return false;
    if (shift > 0)
        return st.st_blocks >= 0 && (uint64_t)st.st_blocks * 512 >= size;
    return lseek(fd, 0, SEEK_HOLE) == st.st_size;
}

int64_t pages_blocks(int fd)
{
    struct stat st;

    return fstat(fd, &st) < 0 ? -errno : st.st_blocks;
}

/* Are all pages of the mapping there? */
static bool mapping_is_whole(char *addr, size_t size, size_t page)
{
    unsigned char there;

    for (size_t at = 0; at < size; at += page)
        if (mincore(addr + at, pages_size(0), &there) < 0 || !(there & 1))
            return false;
    return true;
}

int pages_take_huge(int fd, void *addr, size_t size, unsigned shift, int64_t blocks)
{
    if (madvise(addr, size, MADV_POPULATE_READ) < 0 && errno != EINVAL)
        return -EPROTO;
    if (pages_blocks(fd) != blocks)
        return -EPROTO;
    return mapping_is_whole(addr, size, pages_size(shift)) ? 0 : -EPROTO;
}
