/* SPDX-License-Identifier: MIT */
/*
 * heap.h - which bytes of a sender's heap extensions are in use. Only the book-keeping: nothing of
 * it lies in memory that a peer can see, and the extensions themselves are the caller's.
 *
 * A piece begins where the last one ended, as long as there is room: a stream goes round and round, and
 * does not come back to what has just been read, whose lines the reader's cache still has. Else good
 * fit: free blocks lie in bins whose sizes differ by at most an eighth, and join their free neighbours
 * at once. Taking and giving are bounded, however large the heap is. One thread at a time.
 *
 * Before all that, a piece is looked for among those that were given back last and are just as large. They
 * are parked: neither split nor joined, up to HEAP_PARKED_MAX of them, the last to come the first to go.
 *
 * Or else jemalloc has the pieces (heap_jemalloc.h), which then has the say where they are.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAP_GRAIN 64 /* bytes: blocks are multiples of it and aligned to it */
#define HEAP_BINS 512
#define HEAP_PARKS 16       /* sizes, by grains modulo it */
#define HEAP_PARKED_MAX 256 /* blocks of all sizes: as many as may be lent */

/* Bytes of an extension, in use or free. */
struct heap_block {
    uint64_t offset;
    uint64_t size;
    struct heap_extension *extension;
    bool used;                          /* or parked */
    bool run;                           /* jemalloc: a run of pages, past it */
    struct heap_block *before, *after;  /* neighbours in the extension            */
    struct heap_block *previous, *next; /* in its bin, while free; `next`: spare,  */
                                        /* or parked                           */
};

struct heap_extension {
    uint32_t number; /* the caller's name for it */
    void *addr;
    uint64_t size;
    uint64_t used;            /* bytes */
    bool touched;             /* something was taken from it since heap_rest */
    struct heap_block *first; /* jemalloc: of those in use; NULL: none */
    struct heap_pages *pages; /* jemalloc: those that are in use */
    struct heap_extension *next;
};

struct heap {
    struct heap_block *bins[HEAP_BINS];
    uint64_t filled[HEAP_BINS / 64]; /* a bit for each bin that is not empty */
    struct heap_block *spare;        /* to be used again */
    struct heap_extension *extensions;
    uint64_t size, used;                  /* bytes, of all extensions */
    struct heap_block *parks[HEAP_PARKS]; /* free, each one's all of one size; by `next` */
    uint32_t parked;                      /* how many */
    struct heap_block *rover;             /* a free block, in which or at whose start ... */
    uint64_t rover_at;                    /* ... the last piece ended; or NULL            */
    struct heap_jemalloc *jemalloc;       /* NULL: the heap of this file */
};

/* A heap of zeroes is empty, and needs no further preparation. */
void heap_deinit(struct heap *heap);

/* An empty one has its pieces from jemalloc from now on, if that can be. */
void heap_use_jemalloc(struct heap *heap);

/* In a forked child, where jemalloc's arena is left as it is: heap_deinit. */
void heap_forget(struct heap *heap);

/* `size` bytes more at `addr`, a multiple of HEAP_GRAIN (jemalloc: of pages). 0 or VRD_ERR_OUT_OF_MEMORY. */
int heap_extend(struct heap *heap, uint32_t number, void *addr, uint64_t size);

/* At least `size` bytes. NULL: no free block is large enough, or none was found soon. */
struct heap_block *heap_take(struct heap *heap, uint64_t size);
void heap_give(struct heap *heap, struct heap_block *block);

/* Is there an extension of which nothing is in use, nor was since heap_rest (`long_idle`)? Which? */
bool heap_idle(struct heap *heap, bool long_idle, uint32_t *ret_number);
void heap_rest(struct heap *heap);

/* Forgets an extension of which nothing is in use. */
void heap_shrink(struct heap *heap, uint32_t number);
