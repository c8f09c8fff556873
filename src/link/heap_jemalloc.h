/* SPDX-License-Identifier: MIT */
/*
 * heap_jemalloc.h - the other back end of a heap: pieces come from a jemalloc arena of its own, whose extents
 * are runs of the heap's pages. Nothing that jemalloc knows lies in them; which pages it has is told
 * by a bitmap for each of the heap's extensions. Of those pages, pieces that are none of jemalloc's small
 * sizes are taken directly, since it would round them up by as much as a quarter and then some, and
 * `max_bytes` counts; so is a small one that it has no room for.
 */
#pragma once

#include "link/heap.h"

struct heap_jemalloc;

/* NULL: no arena is to be had. */
struct heap_jemalloc *heap_jemalloc_new(void);

/* Also every piece. The pages must still be there. */
void heap_jemalloc_free(struct heap_jemalloc *jemalloc);

/* All as in heap.h, without the accounts. */
int heap_jemalloc_extend(struct heap_jemalloc *jemalloc, struct heap_extension *extension);
void heap_jemalloc_shrink(struct heap_jemalloc *jemalloc, struct heap_extension *extension);
bool heap_jemalloc_take(struct heap_jemalloc *jemalloc, uint64_t size, struct heap_block *ret);
void heap_jemalloc_give(struct heap_jemalloc *jemalloc, const struct heap_block *block);

/* Has jemalloc nothing of it? After heap_jemalloc_purge. */
bool heap_jemalloc_has_none(const struct heap_extension *extension);
void heap_jemalloc_purge(struct heap_jemalloc *jemalloc);
