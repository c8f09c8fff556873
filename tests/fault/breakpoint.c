/* SPDX-License-Identifier: MIT */
#include "breakpoint.h"

#if defined(__x86_64__)
#include <errno.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include "support/support.h"

/* Of the four there are the first is used. What it stops at, in DR7, is 0: instructions. */
#define ADDRESS_AT offsetof(struct user, u_debugreg[0])
#define CONTROL_AT offsetof(struct user, u_debugreg[7])
#define CONTROL_ON 1UL

static bool poke(pid_t thread, size_t where, uintptr_t value)
{
    return ptrace(PTRACE_POKEUSER, thread, (void *)where, (void *)value) == 0;
}

uintptr_t breakpoint_here(pid_t thread)
{
    const size_t where = offsetof(struct user, regs.rip);

    errno = 0;
    const long address = ptrace(PTRACE_PEEKUSER, thread, (void *)where, NULL);
    support_require_equal(errno, 0);
    return (uintptr_t)address;
}

bool breakpoint_set(pid_t thread, uintptr_t address)
{
    return poke(thread, ADDRESS_AT, address) && poke(thread, CONTROL_AT, CONTROL_ON);
}

void breakpoint_clear(pid_t thread)
{
    support_require(poke(thread, CONTROL_AT, 0));
}

#else
uintptr_t breakpoint_here(pid_t thread)
{
    (void)thread;
    return 0;
}

bool breakpoint_set(pid_t thread, uintptr_t address)
{
    (void)thread;
    (void)address;
    return false;
}

void breakpoint_clear(pid_t thread)
{
    (void)thread;
}
#endif
