/* SPDX-License-Identifier: MIT */
/* cpu.h - which CPU this thread runs on, for the price of a load. */
#pragma once

#include <stdint.h>

/*
 * Where this thread's restartable-sequences area keeps the CPU number, as an offset from the thread
 * pointer; 0 while not known or where the C library has not registered one.
 */
extern intptr_t cpu_rseq_offset;

/* Finds the offset. Call once before cpu_current is worth calling. */
void cpu_init(void);

/* The CPU number plus one, in 16 bits; 0: not known. */
static inline uint16_t cpu_current(void)
{
#if defined(__x86_64__)
    uint32_t cpu;

    if (cpu_rseq_offset == 0)
        return 0;
    __asm__ volatile("movl %%fs:(%1), %0" : "=r"(cpu) : "r"(cpu_rseq_offset));
    return (uint16_t)(cpu + 1); /* not registered is -1 */
#else
    return 0;
#endif
}

/* How many CPUs may this thread use? */
unsigned cpu_count(void);
