/* SPDX-License-Identifier: MIT */
/*
 * jemalloc.h - the jemalloc that the process runs on, if it does: it was preloaded, or the program links it.
 * The library itself never does; without it there is nothing here. From version 5.3 on, which can keep
 * its own book-keeping out of an arena's extents.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* As jemalloc's extent_hooks_t. True is failure; NULL: no such thing. */
struct jemalloc_hooks {
    void *(*alloc)(struct jemalloc_hooks *hooks, void *new_addr, size_t size, size_t alignment,
                   bool *zero, bool *commit, unsigned arena);
    bool (*dalloc)(struct jemalloc_hooks *hooks, void *addr, size_t size, bool committed,
                   unsigned arena);
    void (*destroy)(struct jemalloc_hooks *hooks, void *addr, size_t size, bool committed,
                    unsigned arena);
    bool (*commit)(struct jemalloc_hooks *hooks, void *addr, size_t size, size_t offset,
                   size_t length, unsigned arena);
    bool (*decommit)(struct jemalloc_hooks *hooks, void *addr, size_t size, size_t offset,
                     size_t length, unsigned arena);
    bool (*purge_lazy)(struct jemalloc_hooks *hooks, void *addr, size_t size, size_t offset,
                       size_t length, unsigned arena);
    bool (*purge_forced)(struct jemalloc_hooks *hooks, void *addr, size_t size, size_t offset,
                         size_t length, unsigned arena);
    bool (*split)(struct jemalloc_hooks *hooks, void *addr, size_t size, size_t size_a,
                  size_t size_b, bool committed, unsigned arena);
    bool (*merge)(struct jemalloc_hooks *hooks, void *a, size_t size_a, void *b, size_t size_b,
                  bool committed, unsigned arena);
};

/* Is the process on one, and does VERIDIAN_HEAP=jemalloc ask for it? */
bool jemalloc_wanted(void);

/*
 * An arena that gets its extents by `hooks`, gives none of them back by itself, and has its book-keeping
 * elsewhere. False: there is none to be had.
 */
bool jemalloc_arena_new(struct jemalloc_hooks *hooks, unsigned *ret_arena);

/* With everything that was taken from it. */
void jemalloc_arena_free(unsigned arena);

/* Gives back all extents that nothing is taken from. */
void jemalloc_arena_purge(unsigned arena);

/* Of one arena, past the threads' caches; aligned to 64 bytes. NULL: its hooks have no room. */
void *jemalloc_take(unsigned arena, size_t size);
void jemalloc_give(void *data);
