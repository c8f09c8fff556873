/* SPDX-License-Identifier: MIT */
#include "step.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/support.h"

/* A syscall stop, told from other traps: PTRACE_O_TRACESYSGOOD. */
#define STOP_AT_SYSCALL (SIGTRAP | 0x80)

void step_begin(void)
{
    support_require(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    support_require(raise(SIGSTOP) == 0);
}

void step_end(void)
{
    support_require(raise(SIGSTOP) == 0);
}

/* Waits for the next stop of the victim and returns its signal. */
static int next_stop(pid_t victim)
{
    int status;

    while (waitpid(victim, &status, 0) != victim)
        support_require_equal(errno, EINTR);
    if (!WIFSTOPPED(status))
        support_fail(__FILE__, __LINE__, "the victim ended by itself, wait status 0x%x", status);
    return WSTOPSIG(status);
}

/* On one CPU: a step across two takes several times as long. */
static void stay_together(pid_t victim)
{
    const int cpu = sched_getcpu();
    cpu_set_t set;

    support_require(cpu >= 0);
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    support_require(sched_setaffinity(victim, sizeof set, &set) == 0);
}

bool step_kill(pid_t victim, enum step_unit unit, size_t count)
{
    const int trap = unit == STEP_SYSCALL ? STOP_AT_SYSCALL : SIGTRAP;

    support_require_equal(next_stop(victim), SIGSTOP);
    stay_together(victim);
    support_require(ptrace(PTRACE_SETOPTIONS, victim, NULL,
                           (void *)(uintptr_t)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)) == 0);
    for (size_t i = 0; i < count; i++) {
        int stop;

        support_require(ptrace(unit == STEP_SYSCALL ? PTRACE_SYSCALL : PTRACE_SINGLESTEP, victim,
                               NULL, NULL) == 0);
        stop = next_stop(victim);
        if (stop == SIGSTOP) {
            support_require(ptrace(PTRACE_DETACH, victim, NULL, NULL) == 0);
            support_wait_exit(victim, 0);
            return false;
        }
        if (stop != trap)
            support_fail(__FILE__, __LINE__, "signal %d at step %zu", stop, i);
    }
    support_kill(victim);
    return true;
}
