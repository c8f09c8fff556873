/* SPDX-License-Identifier: MIT */
/*
 * memory.h - of what a channel's segments are made, as its creator said. One word, which travels in the
 * greetings: each side makes its own segments, and both have to know what to expect of the other's.
 *   bits  0..15  NUMA node + 1; 0: wherever; MEMORY_PEER: next to the reader
 *   bits 16..23  enum vrd_huge_pages
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "os/pages.h"

#define MEMORY_PEER 0xffffU

/* May the word be followed? It may come from anywhere. */
bool memory_valid(uint32_t memory);

/* What the options say (numa_node, huge_pages) as a word; valid ones only. */
uint32_t memory_word(uint32_t numa_node, uint32_t huge_pages);

/* Of which huge pages a peer's segment of messages may be; 0: ordinary ones only. */
unsigned memory_shift(uint32_t memory);

/* For a segment of fixed layout, whose reader was last seen on `cpu` (plus one; 0: unknown). */
struct pages memory_pages(uint32_t memory, uint16_t cpu);

/*
 * For a segment of *size bytes of messages: of huge pages if it is at least as large as one; then *size
 * grows to whole ones, unless that were more than `most`.
 */
struct pages memory_pages_large(uint32_t memory, uint16_t cpu, uint64_t *size, uint64_t most);
