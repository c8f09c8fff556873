/* SPDX-License-Identifier: MIT */
/*
 * pages.h - what memfds are made of: ordinary or huge pages, from any NUMA node or from one, and all of
 * them there from the start. Whoever makes the memfd is billed for them; a page that is missing would
 * be billed to its reader or, a huge one, kill it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the pages are to be like. */
struct pages {
    unsigned shift;   /* of huge pages, 21 or 30; 0: ordinary ones                    */
    bool transparent; /* ask the kernel to make huge pages out of ordinary ones       */
    bool preferred;   /* from that node if it has some; else all of them from there   */
    int node;         /* NUMA node; -1: wherever                                      */
};

#define PAGES_2_MIB 21
#define PAGES_1_GIB 30

/* The size of a page. */
size_t pages_size(unsigned shift);

/*
 * Are there such pages in this kernel, and one in the pool of huge ones? 0, -ENODEV: no such node,
 * -ENOTSUP: no such pages or no placement in this build or kernel, -ENOMEM or another -errno.
 */
int pages_probe(const struct pages *pages);

/* A memfd of `size` bytes, still without its pages. It or -errno. */
int pages_memfd(const char *name, size_t size, const struct pages *pages);

/*
 * Allocates all pages of that memfd, for its first mapping, which fork will not inherit. 0 or -errno:
 * as pages_probe, and -ENOMEM or -ENOSPC: not so much, or not so many huge pages.
 */
int pages_settle(int fd, void *addr, size_t size, const struct pages *pages);

/* Is it a memfd of such pages? */
bool pages_kind(int fd, unsigned shift);

/* Is it of `size` bytes without holes? With huge pages, only pages_take_huge is certain. */
bool pages_whole(int fd, size_t size, unsigned shift);

/* What the file has, for pages_take_huge; or -errno. */
int64_t pages_blocks(int fd);

/*
 * Takes every huge page of a mapping, by a call that fails where a touch would kill; if that made pages
 * which were not there before, when pages_blocks said `blocks`, the file was not whole: -EPROTO. The seals
 * see to it that none can go.
 */
int pages_take_huge(int fd, void *addr, size_t size, unsigned shift, int64_t blocks);
