/* SPDX-License-Identifier: MIT */
/*
 * segment.h - memory that one process writes and another reads: sealed memfds.
 *
 * The writer maps its memfd once, seals it (SHRINK, GROW, FUTURE_WRITE, SEAL), reopens it read-only,
 * takes the write permission from the inode and closes the writable descriptor. From then on the
 * kernel lets nobody make another writable mapping or descriptor, whatever their uid.
 */
#pragma once

#include <stddef.h>

#include "os/pages.h"

struct segment {
    void *addr;
    size_t size;
};

/*
 * Makes a segment of `size` bytes (whole pages of the kind), zeroed, fully allocated, mapped writable
 * here and not inherited by fork. *ret_fd is its read-only descriptor, for the peer. Returns 0 or -errno
 * (see pages_settle).
 */
int segment_create_of(size_t size, const struct pages *pages, struct segment *ret, int *ret_fd);

/*
 * Maps a peer's segment read-only, once it has been shown to be a sealed, fully allocated memfd of
 * `size` bytes, of ordinary pages or (`shift` > 0) of huge ones of just that size: nothing the peer can
 * do later makes reading it fault. Leaves `fd` to the caller. Returns 0, -EPROTO if it is anything else, or
 * another -errno.
 */
int segment_import_of(int fd, size_t size, unsigned shift, struct segment *ret);

/* The same of ordinary pages, from wherever. */
static inline int segment_create(size_t size, struct segment *ret, int *ret_fd)
{
    return segment_create_of(size, &(const struct pages){ .node = -1 }, ret, ret_fd);
}

static inline int segment_import(int fd, size_t size, struct segment *ret)
{
    return segment_import_of(fd, size, 0, ret);
}

/* Unmaps; a segment of size 0 is none. */
void segment_unmap(struct segment *segment);
