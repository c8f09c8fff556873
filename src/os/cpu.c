/* SPDX-License-Identifier: MIT */
#include "os/cpu.h"

#include <sched.h>
#include <stddef.h>
#include <sys/rseq.h>

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
