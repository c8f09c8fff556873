/* SPDX-License-Identifier: MIT */
/* macro.h - small words of the compiler. */
#pragma once

#include <stddef.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* For the few functions that are a message's way. */
#define hot_inline __attribute__((always_inline)) static inline

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define container_of(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Orders the compiler, not the processor. */
static inline void compiler_barrier(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/*
 * Between two looks at a word that another processor is about to write, where the next instructions
 * after it matter: lets nothing begin on the guess that the word is still the old one.
 */
static inline void cpu_look_again(void)
{
#if defined(__x86_64__)
    __builtin_ia32_lfence();
#endif
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/*
 * Soon to be written: takes the line away from the processor that read it last while there is time.
 * Processors that do not know how do nothing.
 */
static inline void cpu_prefetch_write(void *line)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(char *)line));
#else
    __builtin_prefetch(line, 1);
#endif
}
