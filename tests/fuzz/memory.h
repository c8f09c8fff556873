/* SPDX-License-Identifier: MIT */
/* memory.h - segments with an unmapped page behind them: one byte too far is a fault. */
#ifndef FUZZ_MEMORY_H
#define FUZZ_MEMORY_H

#include "input.h"

#include <sys/mman.h>

#include "link/layout.h"
#include "os/segment.h"

#define MEMORY_BLOCKS_MAX 64

struct memory {
    void *blocks[MEMORY_BLOCKS_MAX];
    size_t sizes[MEMORY_BLOCKS_MAX];
    size_t n;
};

/* A zeroed segment of whole pages, which its user may unmap; size 0 when there are too many. */
static inline struct segment memory_segment(struct memory *memory, size_t size)
{
    uint8_t *block;

    if (memory->n == MEMORY_BLOCKS_MAX)
        return (struct segment){ 0 };
    block =
        mmap(NULL, size + LAYOUT_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fuzz_require(block != MAP_FAILED);
    fuzz_require(mprotect(block + size, LAYOUT_PAGE, PROT_NONE) == 0);
    memory->blocks[memory->n] = block;
    memory->sizes[memory->n++] = size;
    return (struct segment){ .addr = block, .size = size };
}

/* The guards; call when all segments have been unmapped. */
static inline void memory_deinit(struct memory *memory)
{
    for (size_t i = 0; i < memory->n; i++)
        fuzz_require(munmap((uint8_t *)memory->blocks[i] + memory->sizes[i], LAYOUT_PAGE) == 0);
}

#endif
