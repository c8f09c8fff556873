/* SPDX-License-Identifier: MIT */
#include "os/region.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define SEALS_SIZE (F_SEAL_SHRINK | F_SEAL_GROW)
#define POPULATE_MAX ((size_t)4 << 20) /* a fault costs more than mapping the page */

size_t region_memory_page(unsigned shift)
{
    return shift > 0 ? (size_t)1 << shift : (size_t)sysconf(_SC_PAGESIZE);
}

/* --- making ----------------------------------------------------------------------------------- */

static int memory_fd(const struct region_pages *pages)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd;

    if (pages->shift > 0)
        flags |= MFD_HUGETLB | pages->shift << MFD_HUGE_SHIFT;
    fd = memfd_create("veridian-region", flags | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("veridian-region", flags);
    if (fd >= 0)
        return fd;
    if (pages->shift > 0 && (errno == EINVAL || errno == ENODEV || errno == ENOSYS))
        return -ENOTSUP; /* no huge pages of this size */
    return -errno;
}

/* Of what kind is it? */
static bool fd_has_pages(int fd, unsigned shift)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return false;
    return shift > 0 ? fs.f_type == HUGETLBFS_MAGIC && (uint64_t)fs.f_bsize == UINT64_C(1) << shift
                     : fs.f_type == TMPFS_MAGIC;
}

/* Somebody else's memfd, to be made a region. */
static int memory_fd_check(int fd, size_t size, const struct region_pages *pages)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0 || (seals & (F_SEAL_SEAL | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0 ||
        !region_memory_writable(fd) || !fd_has_pages(fd, pages->shift))
        return -EPROTO;
    if (fstat(fd, &st) < 0 || st.st_size < 0 || (uint64_t)st.st_size != size)
        return -EPROTO;
    return 0;
}

/* Of a node that has too little, the kernel would find out by killing somebody. */
static int pages_room(size_t size, const struct region_pages *pages)
{
    uint64_t total, room;
    int r;

    if (pages->node < 0)
        return 0;
    r = placement_room(pages->node, &total, &room);
    if (r < 0)
        return r;
    return pages->shift == 0 && size > room ? -ENOMEM : 0;
}

/* Before Linux 5.14; all of it is allocated, so that no page can be missing. */
static void pages_touch(char *addr, size_t size, size_t page)
{
    for (size_t at = 0; at < size; at += page) {
        volatile char *byte = addr + at;
        const char kept = *byte;

        *byte = kept;
    }
}

/* All pages now: a hole would be billed to whoever reads it first. */
static int pages_allocate(int fd, void *addr, size_t size, unsigned shift)
{
    int r;

    do {
        r = fallocate(fd, 0, 0, (off_t)size);
    } while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    do {
        r = madvise(addr, size, MADV_POPULATE_WRITE);
    } while (r < 0 && errno == EINTR);
    if (r < 0 && errno != EINVAL)
        return -ENOMEM;
    if (r < 0)
        pages_touch(addr, size, region_memory_page(shift));
    return 0;
}

static int pages_settle(int fd, void *addr, size_t size, const struct region_pages *pages)
{
    int r;

    if (madvise(addr, size, MADV_DONTFORK) < 0)
        return -errno;
    if (pages->transparent && madvise(addr, size, MADV_HUGEPAGE) < 0)
        return errno == EINVAL ? -ENOTSUP : -errno;
    if (pages->node >= 0) {
        r = placement_bind(addr, size, pages->node);
        if (r < 0)
            return r;
    }
    return pages_allocate(fd, addr, size, pages->shift);
}

/* A read-only descriptor of it, and an inode of which nobody else's uid makes another kind. */
static int memory_reopen(int fd)
{
    char path[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
    fd_auto readonly = -1;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    readonly = open(path, O_RDONLY | O_CLOEXEC);
    if (readonly < 0 || fchmod(fd, 0400) < 0)
        return -errno;
    return fd_take(&readonly);
}

/* `fd` is of the right size; taken on success. */
static int memory_make(int *fd, size_t size, const struct region_pages *pages,
                       struct region_memory *ret)
{
    fd_auto readonly = -1;
    void *addr;
    int r;

    if (fcntl(*fd, F_ADD_SEALS, SEALS_SIZE) < 0)
        return -errno;
    readonly = memory_reopen(*fd);
    if (readonly < 0)
        return readonly;
    addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (addr == MAP_FAILED) /* of huge pages, also when there are too few */
        return -errno;
    r = pages_settle(*fd, addr, size, pages);
    if (r < 0) {
        munmap(addr, size);
        return r;
    }
    *ret = (struct region_memory){
        .fd = fd_take(&readonly),
        .writable_fd = fd_take(fd),
        .size = size,
        .shift = pages->shift,
        .addr = addr,
        .pages = *pages,
    };
    return 0;
}

int region_memory_create(size_t size, const struct region_pages *pages, int fd_consume,
                         struct region_memory *ret)
{
    fd_auto fd = fd_consume;
    int r = pages->node >= 0 ? placement_check(pages->node) : 0;

    if (r < 0)
        return r;
    if (size == 0 || size > PTRDIFF_MAX || size % region_memory_page(pages->shift) != 0)
        return -EINVAL;
    if (fd >= 0) {
        r = memory_fd_check(fd, size, pages);
        return r < 0 ? r : memory_make(&fd, size, pages, ret);
    }
    r = pages_room(size, pages);
    if (r < 0)
        return r;
    fd = memory_fd(pages);
    if (fd < 0)
        return fd;
    if (ftruncate(fd, (off_t)size) < 0)
        return errno == EFBIG || errno == EINVAL ? -ENOMEM : -errno;
    return memory_make(&fd, size, pages, ret);
}

int region_memory_publish(struct region_memory *memory)
{
    if (memory->seal != REGION_OPEN)
        return 0;
    if (fcntl(memory->writable_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) < 0)
        return -errno;
    memory->seal = REGION_PUBLISHED;
    return 0;
}

/*
 * In place of what is at `at`: there is no moment at which nothing is there. By the bare system call:
 * sanitizers take the other one for a write to all of it, which those who read there would race with.
 */
static bool mapping_place(void *at, size_t size, int protection, int flags, int fd)
{
    return syscall(SYS_mmap, at, size, protection, flags | MAP_FIXED, fd, 0L) != -1;
}

static int memory_place(int fd, size_t size, int protection, void *at)
{
    if (!mapping_place(at, size, protection, MAP_SHARED, fd))
        return -errno;
    return madvise(at, size, MADV_DONTFORK) < 0 ? -errno : 0;
}

int region_memory_freeze(struct region_memory *memory)
{
    int r = 0;

    if (memory->seal == REGION_FROZEN)
        return 0;
    if (memory->addr)
        r = memory_place(memory->fd, memory->size, PROT_READ, memory->addr);
    if (r < 0)
        return r;
    if (fcntl(memory->writable_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) < 0) {
        r = -errno;
        if (memory->addr && memory->seal == REGION_OPEN)
            memory_place(memory->writable_fd, memory->size, PROT_READ | PROT_WRITE, memory->addr);
        return r;
    }
    fd_close(&memory->writable_fd);
    memory->seal = REGION_FROZEN;
    return 0;
}

int region_memory_renew(struct region_memory *old, struct region_memory *ret)
{
    struct region_memory renewed = REGION_NONE;
    int r = region_memory_create(old->size, &old->pages, -1, &renewed);

    if (!renewed.addr)
        return r;
    memcpy(renewed.addr, old->addr, old->size);
    if (old->seal == REGION_PUBLISHED)
        r = region_memory_publish(&renewed);
    /* the new mapping itself: after the seal there can be no second one */
    if (r == 0 && mremap(renewed.addr, old->size, old->size, MREMAP_MAYMOVE | MREMAP_FIXED,
                         old->addr) == MAP_FAILED)
        r = -errno;
    if (r < 0) {
        region_memory_deinit(&renewed);
        return r;
    }
    renewed.addr = old->addr;
    old->addr = NULL;
    *ret = renewed;
    return 0;
}

void region_memory_deinit(struct region_memory *memory)
{
    if (memory->addr)
        munmap(memory->addr, memory->size);
    memory->addr = NULL;
    fd_close(&memory->fd);
    fd_close(&memory->writable_fd);
}

/* --- what a peer sent -------------------------------------------------------------------------- */

bool region_memory_sealed(int fd, enum region_seal seal)
{
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0 || (seals & SEALS_SIZE) != SEALS_SIZE)
        return false;
    if (seal == REGION_PUBLISHED)
        return (seals & (F_SEAL_FUTURE_WRITE | F_SEAL_WRITE)) != 0;
    return seal == REGION_OPEN || (seals & F_SEAL_WRITE) != 0;
}

/*
 * tmpfs tells of holes; pages that were only reserved and never touched count as such. hugetlbfs does
 * not, and its count of blocks can be made up with blocks beyond the end: region_memory_map finds out.
 */
static bool fd_is_whole(int fd, const struct stat *st, unsigned shift)
{
    if (shift > 0)
        return st->st_blocks >= 0 && (uint64_t)st->st_blocks * 512 >= (uint64_t)st->st_size;
    return lseek(fd, 0, SEEK_HOLE) == st->st_size;
}

/* Seals are asked for first: see segment_check. */
int region_memory_check(int fd, size_t size, unsigned shift, enum region_seal seal)
{
    struct stat st;

    if (!region_memory_sealed(fd, seal) || !fd_has_pages(fd, shift))
        return -EPROTO;
    if (fstat(fd, &st) < 0 || st.st_size <= 0 || (uint64_t)st.st_size != size ||
        size % region_memory_page(shift) != 0)
        return -EPROTO;
    return fd_is_whole(fd, &st, shift) ? 0 : -EPROTO;
}

bool region_memory_writable(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_ACCMODE) == O_RDWR;
}

/* --- mapping ----------------------------------------------------------------------------------- */

/* Are all pages of the mapping there? */
static bool mapping_is_whole(char *addr, size_t size, size_t page)
{
    unsigned char there;

    for (size_t at = 0; at < size; at += page)
        if (mincore(addr + at, region_memory_page(0), &there) < 0 || !(there & 1))
            return false;
    return true;
}

/*
 * Every huge page is taken now, by a call that fails where a touch would kill; if that made pages which
 * were not there before, the file was not whole. The seals see to it that none can go.
 */
static int mapping_populate_huge(int fd, void *addr, size_t size, unsigned shift,
                                 const struct stat *before)
{
    struct stat after;

    if (madvise(addr, size, MADV_POPULATE_READ) < 0 && errno != EINVAL)
        return -EPROTO;
    if (fstat(fd, &after) < 0 || after.st_blocks != before->st_blocks)
        return -EPROTO;
    return mapping_is_whole(addr, size, region_memory_page(shift)) ? 0 : -EPROTO;
}

int region_memory_map(int fd, size_t size, unsigned shift, enum region_access access, void *at,
                      void **ret_addr)
{
    int protection = access == REGION_READ ? PROT_READ : PROT_READ | PROT_WRITE;
    int flags = access == REGION_COPY ? MAP_PRIVATE : MAP_SHARED;
    struct stat st;
    void *addr;
    int r = 0;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (access != REGION_COPY && (shift > 0 || size <= POPULATE_MAX))
        flags |= MAP_POPULATE;
    if (!at)
        addr = mmap(NULL, size, protection, flags, fd, 0);
    else
        addr = mapping_place(at, size, protection, flags, fd) ? at : MAP_FAILED;
    if (addr == MAP_FAILED)
        return -errno;
    if (madvise(addr, size, MADV_DONTFORK) < 0)
        r = -errno;
    if (r == 0 && shift > 0)
        r = mapping_populate_huge(fd, addr, size, shift, &st);
    if (r < 0) {
        if (at)
            region_memory_vacate(addr, size, access != REGION_READ);
        else
            munmap(addr, size);
        return r;
    }
    *ret_addr = addr;
    return 0;
}

void region_memory_unmap(void *addr, size_t size)
{
    if (addr)
        munmap(addr, size);
}

void region_memory_vacate(void *addr, size_t size, bool writable)
{
    mapping_place(addr, size, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    madvise(addr, size, MADV_DONTFORK);
}
