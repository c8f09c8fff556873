/* SPDX-License-Identifier: MIT */
#include "cap/handle.h"

#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

unsigned char *_Atomic handle_chunks[HANDLE_CHUNKS];

static uint32_t limit;             /* indices below were handed out, but for 0 */
static uint32_t free_first = NONE; /* oldest first: a number rests as long as it can */
static uint32_t free_last = NONE;

static uint32_t handle_index(const struct handle *handle)
{
    return (uint32_t)(handle->generation & HANDLE_INDEX_MAX);
}

/* Index 0 is nobody's: with it, VRD_CAP_NONE would find an entry that is being made or closed. */
static struct handle *handle_grow(void)
{
    uint32_t index = limit > 0 ? limit : 1;
    uint32_t chunk = index >> HANDLE_CHUNK_BITS;
    struct handle *handle;

    if (index > HANDLE_INDEX_MAX)
        return NULL;
    if (!handle_at(index)) {
        size_t size = (size_t)HANDLE_ENTRY_SIZE << HANDLE_CHUNK_BITS;
        unsigned char *entries = aligned_alloc(128, size);

        if (!entries)
            return NULL;
        memset(entries, 0, size);
        for (uint32_t i = 0; i < UINT32_C(1) << HANDLE_CHUNK_BITS; i++) {
            handle = (struct handle *)(void *)(entries + (size_t)i * HANDLE_ENTRY_SIZE);
            pin_init(&handle->pin);
            handle->generation = (chunk << HANDLE_CHUNK_BITS) + i; /* and index, as in the number */
        }
        atomic_store_explicit(&handle_chunks[chunk], entries, memory_order_release);
    }
    limit = index + 1;
    return handle_at(index);
}

struct handle *handle_new(vrd_cap_t *ret_cap)
{
    struct handle *handle;

    if (free_first != NONE) {
        handle = handle_at(free_first);
        free_first = handle->next_free;
        if (free_first == NONE)
            free_last = NONE;
    } else {
        handle = handle_grow();
    }
    if (!handle)
        return NULL;
    handle->generation += UINT64_C(1) << HANDLE_INDEX_BITS;
    *ret_cap = handle->generation;
    return handle;
}

void handle_free(struct handle *handle)
{
    uint32_t index = handle_index(handle);

    handle->next_free = NONE;
    if (free_last != NONE)
        handle_at(free_last)->next_free = index;
    else
        free_first = index;
    free_last = index;
}

uint32_t handle_limit(void)
{
    return limit;
}
