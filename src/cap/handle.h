/* SPDX-License-Identifier: MIT */
/*
 * handle.h - the table behind capability numbers. Entries are type-stable: their memory is never
 * given back or used for anything else, so that a stale number finds an entry whose generation has
 * moved on, at any time, from any thread.
 *
 *   bits  0..19  index
 *   bits 20..63  generation, from 1
 */
#pragma once

#include <stdint.h>
#include <veridian/capability.h>

#include "base/macro.h"
#include "os/pin.h"

/* An entry is a struct handle and whatever the object layer keeps behind it. */
#define HANDLE_ENTRY_SIZE 768

#define HANDLE_INDEX_BITS 20
#define HANDLE_INDEX_MAX ((UINT32_C(1) << HANDLE_INDEX_BITS) - 1)
#define HANDLE_CHUNK_BITS 6
#define HANDLE_CHUNKS (UINT32_C(1) << (HANDLE_INDEX_BITS - HANDLE_CHUNK_BITS))

struct handle {
    _Alignas(128) struct pin pin; /* guards all else here, and what the object layer keeps        */
    vrd_cap_t cap;                /* 0 while free */
    uint32_t rights;
    uint32_t next_free; /* under the table's caller's lock, while free */
    uint64_t generation;
};

/* Chunks appear and stay. acquire in handle_find pairs with release in handle_new. */
extern unsigned char *_Atomic handle_chunks[HANDLE_CHUNKS];

static inline struct handle *handle_at(uint32_t index)
{
    unsigned char *chunk =
        atomic_load_explicit(&handle_chunks[index >> HANDLE_CHUNK_BITS], memory_order_acquire);

    if (unlikely(!chunk))
        return NULL;
    index &= (UINT32_C(1) << HANDLE_CHUNK_BITS) - 1;
    return (struct handle *)(void *)(chunk + (size_t)index * HANDLE_ENTRY_SIZE);
}

/* The entry for a number, which may be stale or forged: compare `cap` once the pin is held. */
static inline struct handle *handle_find(vrd_cap_t cap)
{
    return handle_at((uint32_t)cap & HANDLE_INDEX_MAX);
}

/*
 * Takes a free entry; the caller serializes. Its number is *ret_cap, which it shows to no one until
 * it has stored it in the entry's `cap`. NULL: out of memory.
 */
struct handle *handle_new(vrd_cap_t *ret_cap);

/* Gives an entry back; `cap` is 0 already. */
void handle_free(struct handle *handle);

/* Entries ever used have an index below this. */
uint32_t handle_limit(void);
