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

struct segment {
    void *addr;
    size_t size;
};

/*
 * Makes a segment of `size` bytes (whole pages), zeroed, fully allocated, mapped writable here and
 * not inherited by fork. *ret_fd is its read-only descriptor, for the peer. Returns 0 or -errno.
 */
int segment_create(size_t size, struct segment *ret, int *ret_fd);

/*
 * Maps a peer's segment read-only, once it has been shown to be a sealed, fully allocated memfd of
 * `size` bytes: nothing the peer can do later makes reading it fault. Leaves `fd` to the caller.
 * Returns 0, -EPROTO if it is anything else, or another -errno.
 */
int segment_import(int fd, size_t size, struct segment *ret);

/* Unmaps; a segment of size 0 is none. */
void segment_unmap(struct segment *segment);
