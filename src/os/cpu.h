/* SPDX-License-Identifier: MIT */
/* cpu.h - which CPU this thread runs on, for the price of a load. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Where a thread finds its CPU number, as an offset from the thread pointer: in its
 * restartable-sequences area, or where the C library has none, in a word that says -1.
 */
extern intptr_t cpu_offset;

/* Finds the offset. Call once before cpu_current is worth calling. */
void cpu_init(void);

/* The CPU number plus one, in 16 bits; 0: not known. */
static inline uint16_t cpu_current(void)
{
#if defined(__x86_64__)
    uint32_t cpu;

    __asm__ volatile("movl %%fs:(%1), %0" : "=r"(cpu) : "r"(cpu_offset));
    return (uint16_t)(cpu + 1); /* not known is -1 */
#else
    return 0;
#endif
}

/* Lets another thread have this CPU, if one wants it. */
void cpu_yield(void);

/*
 * The same, to get a quick answer from the other thread. False, and not done: lately somebody else
 * had the CPU instead, for a whole time slice.
 */
bool cpu_yield_cheaply(void);
