/* SPDX-License-Identifier: MIT */
#include "os/region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/fd.h"
#include "os/newborn.h"
#include "os/pages.h"
#include "os/placement.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define SEALS_SIZE (F_SEAL_SHRINK | F_SEAL_GROW)
#define POPULATE_MAX ((size_t)4 << 20) /* a fault costs more than mapping the page */

/* --- making ----------------------------------------------------------------------------------- */

/* Somebody else's memfd, to be made a region. */
static int memory_fd_check(int fd, size_t size, const struct pages *pages)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0 || (seals & (F_SEAL_SEAL | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0 ||
        !region_memory_writable(fd) || !pages_kind(fd, pages->shift))
        return -EPROTO;
    if (fstat(fd, &st) < 0 || st.st_size < 0 || (uint64_t)st.st_size != size)
        return -EPROTO;
    return 0;
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
static int memory_make(int *fd, size_t size, const struct pages *pages, struct region_memory *ret)
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

static int memory_create(size_t size, const struct pages *pages, int fd_consume,
                         struct region_memory *ret)
{
    fd_auto fd = fd_consume;
    int r = pages->node >= 0 ? placement_check(pages->node) : 0;

    if (r < 0)
        return r;
    if (size == 0 || size > PTRDIFF_MAX || size % pages_size(pages->shift) != 0)
        return -EINVAL;
    if (fd >= 0) {
        r = memory_fd_check(fd, size, pages);
        return r < 0 ? r : memory_make(&fd, size, pages, ret);
    }
    fd = pages_memfd("veridian-region", size, pages);
    return fd < 0 ? fd : memory_make(&fd, size, pages, ret);
}

static int memory_publish(struct region_memory *memory)
{
    if (fcntl(memory->writable_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) < 0)
        return -errno;
    memory->seal = REGION_PUBLISHED;
    return 0;
}

int region_memory_create(size_t size, const struct pages *pages, int fd_consume,
                         enum region_seal seal, struct region_memory *ret)
{
    struct region_memory memory = REGION_NONE;
    int r;

    newborn_begin();
    r = memory_create(size, pages, fd_consume, &memory);
    if (r == 0 && seal == REGION_PUBLISHED)
        r = memory_publish(&memory);
    newborn_end();
    if (r < 0)
        region_memory_deinit(&memory);
    else
        *ret = memory;
    return r;
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
    int r = region_memory_create(old->size, &old->pages, -1, old->seal, &renewed);

    if (r < 0)
        return r;
    /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): what was made is mapped */
    memcpy(renewed.addr, old->addr, old->size);
    /* the new mapping itself: after the seal there can be no second one */
    if (mremap(renewed.addr, old->size, old->size, MREMAP_MAYMOVE | MREMAP_FIXED, old->addr) ==
        MAP_FAILED) {
        r = -errno;
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

/* Seals are asked for first: see segment_check. */
int region_memory_check(int fd, size_t size, unsigned shift, enum region_seal seal)
{
    if (!region_memory_sealed(fd, seal) || !pages_kind(fd, shift))
        return -EPROTO;
    return pages_whole(fd, size, shift) ? 0 : -EPROTO;
}

bool region_memory_writable(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_ACCMODE) == O_RDWR;
}

/* --- mapping ----------------------------------------------------------------------------------- */

int region_memory_map(int fd, size_t size, unsigned shift, enum region_access access, void *at,
                      void **ret_addr)
{
    int protection = access == REGION_READ ? PROT_READ : PROT_READ | PROT_WRITE;
    int flags = access == REGION_COPY ? MAP_PRIVATE : MAP_SHARED;
    const int64_t blocks = pages_blocks(fd);
    void *addr;
    int r = 0;

    if (blocks < 0)
        return (int)blocks;
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
        r = pages_take_huge(fd, addr, size, shift, blocks);
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
