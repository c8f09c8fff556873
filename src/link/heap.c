/* SPDX-License-Identifier: MIT */
#include "link/heap.h"

#include <stdlib.h>
#include <veridian/error.h>

#include "base/arith.h"
#include "base/macro.h"
#include "link/heap_jemalloc.h"

#define STEPS 8 /* bins to a doubling of the size */
#define STEPS_SHIFT 3
#define LOOKS 32 /* when nothing else is left: blocks of the bin that the size itself falls in */

/* The bin of free blocks of `size` bytes; larger blocks lie in it or behind it. */
static unsigned heap_bin(uint64_t size)
{
    uint64_t grains = size / HEAP_GRAIN;
    unsigned doublings;

    if (grains < STEPS)
        return (unsigned)grains;
    doublings = 63 - (unsigned)__builtin_clzll(grains) - STEPS_SHIFT;
    return (doublings + 1) * STEPS + (unsigned)(grains >> doublings) % STEPS;
}

static struct heap_block *block_new(struct heap *heap)
{
    struct heap_block *block = heap->spare;

    if (!block)
        return malloc(sizeof(*block));
    heap->spare = block->next;
    return block;
}

static void block_free(struct heap *heap, struct heap_block *block)
{
    block->next = heap->spare;
    heap->spare = block;
}

static void block_file(struct heap *heap, struct heap_block *block)
{
    unsigned bin = heap_bin(block->size);

    block->used = false;
    block->previous = NULL;
    block->next = heap->bins[bin];
    if (block->next)
        block->next->previous = block;
    heap->bins[bin] = block;
    heap->filled[bin / 64] |= UINT64_C(1) << bin % 64;
}

static void block_unfile(struct heap *heap, struct heap_block *block)
{
    unsigned bin = heap_bin(block->size);

    if (block->next)
        block->next->previous = block->previous;
    if (block->previous)
        block->previous->next = block->next;
    else
        heap->bins[bin] = block->next;
    if (!heap->bins[bin])
        heap->filled[bin / 64] &= ~(UINT64_C(1) << bin % 64);
}

/* Leaves `size` bytes to a block; the rest becomes one of its own, if there is memory to say so. */
static void block_split(struct heap *heap, struct heap_block *block, uint64_t size)
{
    struct heap_block *rest = block->size > size ? block_new(heap) : NULL;

    if (!rest)
        return;
    *rest = (struct heap_block){ .offset = block->offset + size,
                                 .size = block->size - size,
                                 .extension = block->extension,
                                 .before = block,
                                 .after = block->after };
    if (rest->after)
        rest->after->before = rest;
    block->after = rest;
    block->size = size;
    block_file(heap, rest);
}

/* Joins `block` with the one behind it. Neither is in a bin. */
static void block_join(struct heap *heap, struct heap_block *block)
{
    struct heap_block *rest = block->after;

    block->size += rest->size;
    block->after = rest->after;
    if (block->after)
        block->after->before = block;
    if (heap->rover == rest)
        heap->rover = block;
    block_free(heap, rest);
}

void heap_use_jemalloc(struct heap *heap)
{
    heap->jemalloc = heap_jemalloc_new();
}

void heap_deinit(struct heap *heap)
{
    if (heap->jemalloc)
        heap_jemalloc_free(heap->jemalloc);
    heap_forget(heap);
}

void heap_forget(struct heap *heap)
{
    while (heap->extensions) {
        struct heap_extension *extension = heap->extensions;

        heap->extensions = extension->next;
        for (struct heap_block *block = extension->first, *after; block; block = after) {
            after = block->after;
            free(block);
        }
        free(extension);
    }
    for (struct heap_block *block = heap->spare, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    *heap = (struct heap){ 0 };
}

/* What is free in a new one; NULL: nothing, for want of memory. */
static struct heap_block *extension_block(struct heap *heap, struct heap_extension *extension)
{
    struct heap_block *block = block_new(heap);

    if (!block)
        return NULL;
    *block = (struct heap_block){ .size = extension->size, .extension = extension };
    block_file(heap, block);
    return block;
}

int heap_extend(struct heap *heap, uint32_t number, void *addr, uint64_t size)
{
    struct heap_extension *extension = malloc(sizeof(*extension));
    bool ready;

    if (!extension)
        return VRD_ERR_OUT_OF_MEMORY;
    *extension = (struct heap_extension){
        .number = number, .addr = addr, .size = size, .next = heap->extensions
    };
    if (heap->jemalloc) {
        ready = heap_jemalloc_extend(heap->jemalloc, extension) == 0;
    } else {
        extension->first = extension_block(heap, extension);
        ready = extension->first != NULL;
    }
    if (!ready) {
        free(extension);
        return VRD_ERR_OUT_OF_MEMORY;
    }
    heap->extensions = extension;
    heap->size += size;
    return 0;
}

/* Any block of the bins behind that of `size` is large enough. */
static struct heap_block *heap_find_larger(const struct heap *heap, unsigned bin)
{
    uint64_t filled = heap->filled[bin / 64] & ~UINT64_C(0) << bin % 64;

    for (size_t i = bin / 64;;) {
        if (filled != 0)
            return heap->bins[i * 64 + (unsigned)__builtin_ctzll(filled)];
        if (++i == HEAP_BINS / 64)
            return NULL;
        filled = heap->filled[i];
    }
}

static struct heap_block *heap_find(const struct heap *heap, uint64_t size)
{
    unsigned bin = heap_bin(size);
    struct heap_block *same = heap->bins[bin], *larger;

    if (same && same->size >= size)
        return same;
    larger = heap_find_larger(heap, bin + 1);
    if (larger)
        return larger;
    for (int i = 0; same && i < LOOKS; i++, same = same->next)
        if (same->size >= size)
            return same;
    return NULL;
}

static struct heap_block **heap_park(struct heap *heap, uint64_t size)
{
    return &heap->parks[size / HEAP_GRAIN % HEAP_PARKS];
}

/* Where the last piece ended, if there is room. Out of its bin. */
static struct heap_block *heap_rove(struct heap *heap, uint64_t size)
{
    struct heap_block *block = heap->rover;
    uint64_t skip;

    if (!block)
        return NULL;
    skip = heap->rover_at - block->offset;
    if (block->size - skip < size)
        return NULL;
    block_unfile(heap, block);
    if (skip == 0)
        return block;
    block_split(heap, block, skip);
    if (block->size > skip) /* no memory to do so */
        return block;
    block_file(heap, block);
    block_unfile(heap, block->after);
    return block->after;
}

/* Anywhere. Out of its bin. */
static struct heap_block *heap_search(struct heap *heap, uint64_t size)
{
    struct heap_block *block = heap_find(heap, size);

    if (block)
        block_unfile(heap, block);
    return block;
}

/* `size` is a multiple of HEAP_GRAIN. */
static struct heap_block *heap_cut(struct heap *heap, uint64_t size)
{
    struct heap_block *block = heap_rove(heap, size);

    if (!block)
        block = heap_search(heap, size);
    if (!block)
        return NULL;
    block_split(heap, block, size);
    heap->rover = block->after && !block->after->used ? block->after : NULL;
    heap->rover_at = block->offset + block->size;
    block->used = true;
    return block;
}

/* Makes a block that nobody has one with its free neighbours. */
static void heap_join(struct heap *heap, struct heap_block *block)
{
    if (block->after && !block->after->used) {
        block_unfile(heap, block->after);
        block_join(heap, block);
    }
    if (block->before && !block->before->used) {
        block = block->before;
        block_unfile(heap, block);
        block_join(heap, block);
    }
    block_file(heap, block);
}

/* Nothing is parked any more. */
static void heap_clear(struct heap *heap)
{
    for (size_t i = 0; i < HEAP_PARKS && heap->parked > 0; i++) {
        struct heap_block *block = heap->parks[i];

        heap->parks[i] = NULL;
        for (struct heap_block *next; block; block = next) {
            next = block->next;
            heap->parked--;
            heap_join(heap, block);
        }
    }
}

/* As heap_cut. */
static __attribute__((noinline)) struct heap_block *heap_take_new(struct heap *heap, uint64_t size)
{
    struct heap_block *block = heap_cut(heap, size);

    if (block || heap->parked == 0)
        return block;
    heap_clear(heap);
    return heap_cut(heap, size);
}

/* With the size in grains. */
static struct heap_block *heap_take_jemalloc(struct heap *heap, uint64_t size)
{
    struct heap_block *block = block_new(heap);
    struct heap_extension *extension;

    if (!block)
        return NULL;
    *block = (struct heap_block){ .used = true };
    if (!heap_jemalloc_take(heap->jemalloc, size, block)) {
        block_free(heap, block);
        return NULL;
    }
    extension = block->extension;
    block->after = extension->first;
    if (block->after)
        block->after->before = block;
    extension->first = block;
    return block;
}

static void heap_give_jemalloc(struct heap *heap, struct heap_block *block)
{
    heap_jemalloc_give(heap->jemalloc, block);
    if (block->after)
        block->after->before = block->before;
    if (block->before)
        block->before->after = block->after;
    else
        block->extension->first = block->after;
    block_free(heap, block);
}

/* With the size in grains. One that is parked, or a new one. */
static inline struct heap_block *heap_take_own(struct heap *heap, uint64_t size)
{
    struct heap_block **park = heap_park(heap, size), *block = *park;

    if (unlikely(!block || block->size != size))
        return heap_take_new(heap, size);
    *park = block->next;
    heap->parked--;
    return block;
}

static inline void heap_give_own(struct heap *heap, struct heap_block *block)
{
    struct heap_block **park = heap_park(heap, block->size);

    if (unlikely(heap->parked == HEAP_PARKED_MAX || (*park && (*park)->size != block->size) ||
                 !block->extension->touched)) { /* or it would never be idle */
        heap_join(heap, block);
        return;
    }
    block->next = *park;
    *park = block;
    heap->parked++;
}

struct heap_block *heap_take(struct heap *heap, uint64_t size)
{
    struct heap_block *block;

    if (unlikely(size > heap->size))
        return NULL;
    size = size > 0 ? round_up(size, HEAP_GRAIN) : HEAP_GRAIN;
    block = unlikely(heap->jemalloc) ? heap_take_jemalloc(heap, size) : heap_take_own(heap, size);
    if (unlikely(!block))
        return NULL;
    block->extension->used += block->size;
    block->extension->touched = true;
    heap->used += block->size;
    return block;
}

void heap_give(struct heap *heap, struct heap_block *block)
{
    block->extension->used -= block->size;
    heap->used -= block->size;
    if (unlikely(heap->jemalloc))
        heap_give_jemalloc(heap, block);
    else
        heap_give_own(heap, block);
}

bool heap_idle(struct heap *heap, bool long_idle, uint32_t *ret_number)
{
    for (const struct heap_extension *e = heap->extensions; e; e = e->next) {
        if (e->used > 0 || (long_idle && e->touched))
            continue;
        if (heap->jemalloc) {
            heap_jemalloc_purge(heap->jemalloc);
            if (!heap_jemalloc_has_none(e))
                continue;
        }
        heap_clear(heap); /* who asks will forget it, and it has to be one block for that */
        *ret_number = e->number;
        return true;
    }
    return false;
}

void heap_rest(struct heap *heap)
{
    for (struct heap_extension *e = heap->extensions; e; e = e->next)
        e->touched = false;
    heap_clear(heap);
    heap->rover = NULL; /* or it would never leave an extension that is too large */
}

void heap_shrink(struct heap *heap, uint32_t number)
{
    struct heap_extension **at = &heap->extensions;
    struct heap_extension *extension;

    while ((*at)->number != number)
        at = &(*at)->next;
    extension = *at;
    *at = extension->next;
    heap->size -= extension->size;
    if (heap->jemalloc) {
        heap_jemalloc_shrink(heap->jemalloc, extension);
    } else {
        if (heap->rover == extension->first)
            heap->rover = NULL;
        block_unfile(heap, extension->first);
        block_free(heap, extension->first);
    }
    free(extension);
}
