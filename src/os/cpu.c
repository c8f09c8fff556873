/* SPDX-License-Identifier: MIT */
#include "os/cpu.h"

#include <sched.h>
#include <stddef.h>
#include <sys/rseq.h>

#include "base/clock.h"

#define YIELD_DEAR 300000 /* ns: far more than two switches and what a peer does for a message */
#define YIELD_SKIP 64     /* times */

intptr_t cpu_offset;

static __thread int cpu_unknown __attribute__((tls_model("initial-exec"))) = -1;

void cpu_init(void)
{
#if defined(__x86_64__)
    char *self;

    __asm__("movq %%fs:0, %0" : "=r"(self));
    cpu_offset = (char *)&cpu_unknown - self;
#endif
    if (__rseq_size > 0)
        cpu_offset = __rseq_offset + (ptrdiff_t)offsetof(struct rseq, cpu_id);
}

void cpu_yield(void)
{
    sched_yield();
}

bool cpu_yield_cheaply(void)
{
    static __thread unsigned skip;
    int64_t began;

    if (skip > 0) {
        skip--;
        return false;
    }
    began = clock_now();
    sched_yield();
    if (clock_now() - began > YIELD_DEAR)
        skip = YIELD_SKIP;
    return true;
}
