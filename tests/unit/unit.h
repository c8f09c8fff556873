/* SPDX-License-Identifier: MIT */
/*
 * unit.h - what the unit tests share: reproducible random numbers, and memory whose end is the end
 * of a page with nothing behind it.
 */
#ifndef UNIT_UNIT_H
#define UNIT_UNIT_H

#include "support/support.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define UNIT_PAGE ((size_t)4096)

/* xorshift64: the state must not be 0. */
static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* 0 to n - 1. */
static inline uint64_t random_below(uint64_t *state, uint64_t n)
{
    return (random_next(state) >> 11) % n;
}

static inline void random_fill(uint64_t *state, void *data, size_t len)
{
    uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(random_next(state) >> 32);
}

/* Whole pages with an untouchable page before and another behind. */
struct guarded {
    uint8_t *addr;
    size_t size;
};

static inline struct guarded guarded_new(size_t size)
{
    const size_t whole = (size + UNIT_PAGE - 1) & ~(UNIT_PAGE - 1);
    uint8_t *base =
        mmap(NULL, whole + 2 * UNIT_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    support_require(base != MAP_FAILED);
    support_require(mprotect(base + UNIT_PAGE, whole, PROT_READ | PROT_WRITE) == 0);
    return (struct guarded){ .addr = base + UNIT_PAGE, .size = whole };
}

static inline void guarded_free(struct guarded *guarded)
{
    support_require(munmap(guarded->addr - UNIT_PAGE, guarded->size + 2 * UNIT_PAGE) == 0);
    *guarded = (struct guarded){ 0 };
}

/* The last `len` bytes. */
static inline uint8_t *guarded_end(const struct guarded *guarded, size_t len)
{
    return guarded->addr + guarded->size - len;
}

#endif
