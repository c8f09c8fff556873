/* SPDX-License-Identifier: MIT */
/*
 * region.h - memory that several processes map: memfds whose size is sealed, fully allocated, and
 * whose contents the kernel protects as far as their mode says.
 *
 *   open       whoever has a writable descriptor writes
 *   published  FUTURE_WRITE: the one mapping that the maker has is the last writable one
 *   frozen     WRITE: nobody writes, ever again
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/pages.h"

enum region_seal { REGION_OPEN, REGION_PUBLISHED, REGION_FROZEN };

struct region_memory {
    int fd;          /* read-only, for others */
    int writable_fd; /* the maker's; -1: none */
    size_t size;
    unsigned shift;
    void *addr; /* the maker's mapping, which is not inherited by fork; NULL: none */
    enum region_seal seal;
    struct pages pages;
};

#define REGION_NONE \
    { \
        .fd = -1, .writable_fd = -1 \
    }

/*
 * Makes `size` bytes (a multiple of the page) of memory, all of it allocated, mapped writable here.
 * `fd` is a memfd to make it of, whose contents stay and which is taken also on failure, or -1. Returns
 * 0 or -errno: -ENODEV no such node, -ENOTSUP no such pages or no placement in this build or kernel,
 * -ENOMEM or -ENOSPC not so much, or not so many huge pages, -EPROTO `fd` will not do.
 *
 * Of REGION_PUBLISHED memory the maker's mapping is the only way to write, also for a child that is forked
 * meanwhile; REGION_OPEN: it may be frozen later.
 */
int region_memory_create(size_t size, const struct pages *pages, int fd, enum region_seal seal,
                         struct region_memory *ret);

/*
 * From now on nobody can write; the maker's mapping stays where it is and becomes read-only. 0 or
 * -errno; -EBUSY: somebody else has a writable mapping, nothing has changed.
 */
int region_memory_freeze(struct region_memory *memory);

/*
 * New memory with the same contents and the same seals, which takes the place of the old one's mapping.
 * Nobody may write meanwhile. `old` is then the caller's to deinit. 0, or -errno and nothing has changed.
 */
int region_memory_renew(struct region_memory *old, struct region_memory *ret);

/* Closes and unmaps. */
void region_memory_deinit(struct region_memory *memory);

/*
 * Is `fd`, which a peer sent, memory of just that kind: sealed at least as `seal` says, `size` bytes,
 * of pages of `shift`, without holes? Then nothing that anybody can do makes reading it fault. 0,
 * -EPROTO, or another -errno.
 */
int region_memory_check(int fd, size_t size, unsigned shift, enum region_seal seal);

/* Are the seals, which alone can be asked for at any time, at least those? */
bool region_memory_sealed(int fd, enum region_seal seal);

/* Can `fd` be mapped writable, as far as its own mode goes? */
bool region_memory_writable(int fd);

enum region_access {
    REGION_READ,
    REGION_WRITE, /* shared with all others */
    REGION_COPY,  /* writable, and what is written stays in this mapping */
};

/*
 * Maps what region_memory_check has found good; in place of what is at `at`, or anywhere (NULL). Not
 * inherited by fork. 0 or -errno; -EPROTO: there are holes after all.
 */
int region_memory_map(int fd, size_t size, unsigned shift, enum region_access access, void *at,
                      void **ret_addr);
void region_memory_unmap(void *addr, size_t size);

/* Puts zeroes of our own in place of a mapping: whoever still uses it does not crash. */
void region_memory_vacate(void *addr, size_t size, bool writable);
