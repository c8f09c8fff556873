/* SPDX-License-Identifier: MIT */
#include "object/memory.h"

#include <veridian/types.h>

#include "base/arith.h"
#include "os/placement.h"

#define HUGE_AT 16

bool memory_valid(uint32_t memory)
{
    return memory >> HUGE_AT <= VRD_PAGES_1_GIB;
}

uint32_t memory_word(uint32_t numa_node, uint32_t huge_pages)
{
    return (numa_node & MEMORY_PEER) | huge_pages << HUGE_AT;
}

unsigned memory_shift(uint32_t memory)
{
    switch (memory >> HUGE_AT) {
    case VRD_PAGES_2_MIB:
        return PAGES_2_MIB;
    case VRD_PAGES_1_GIB:
        return PAGES_1_GIB;
    default:
        return 0;
    }
}

struct pages memory_pages(uint32_t memory, uint16_t cpu)
{
    const uint32_t node = memory & MEMORY_PEER;
    struct pages pages = { .transparent = memory >> HUGE_AT == VRD_PAGES_TRANSPARENT, .node = -1 };

    if (node == MEMORY_PEER) {
        pages.node = cpu > 0 ? placement_node_of(cpu - 1U) : -1;
        pages.preferred = true;
    } else if (node > 0) {
        pages.node = (int)node - 1;
    }
    return pages;
}

struct pages memory_pages_large(uint32_t memory, uint16_t cpu, uint64_t *size, uint64_t most)
{
    struct pages pages = memory_pages(memory, cpu);
    const unsigned shift = memory_shift(memory);
    uint64_t whole;

    if (shift == 0 || *size < UINT64_C(1) << shift)
        return pages;
    whole = round_up(*size, UINT64_C(1) << shift);
    if (whole > most)
        return pages;
    *size = whole;
    pages.shift = shift;
    return pages;
}
