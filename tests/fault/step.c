/* SPDX-License-Identifier: MIT */
#include "step.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "breakpoint.h"
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

/* So many times in a row has an operation to be complete before it counts as gone through: in a
 * virtual machine a step may go further than one instruction, once in many thousands. */
#define ENDS 3

/* Only who was stepped all the way tells that the operation is over: whoever ran past a breakpoint
 * took another way than the one before it. That one's step is tried again. */
bool step_walk_next(struct step_walk *walk)
{
    const bool missed = walk->begun && !walk->killed && walk->ran_ahead;

    if (walk->begun && !missed) {
        walk->step += walk->stride;
        walk->through = walk->killed ? 0 : walk->through + 1;
    }
    if (missed || walk->through > 0)
        step_path_clear(&walk->path);
    walk->begun = true;
    if (walk->through < ENDS)
        return true;
    step_path_clear(&walk->path);
    return false;
}

/* To the next stop of the kind that is awaited; false: the operation is complete. */
static bool go_on(pid_t victim, enum __ptrace_request how, size_t step)
{
    int stop;

    support_require(ptrace(how, victim, NULL, NULL) == 0);
    stop = next_stop(victim);
    if (stop != SIGSTOP && stop != (how == PTRACE_SYSCALL ? STOP_AT_SYSCALL : SIGTRAP))
        support_fail(__FILE__, __LINE__, "signal %d at step %zu", stop, step);
    return stop != SIGSTOP;
}

/* As far as a breakpoint helps; false: the operation is complete, it was not met so often. */
static bool run_ahead(pid_t victim, struct step_walk *walk, size_t *ret_steps)
{
    const struct step_landmark landmark = step_path_landmark(&walk->path);
    bool met = true;

    *ret_steps = 0;
    walk->ran_ahead = landmark.step > 0 && breakpoint_set(victim, landmark.address);
    if (!walk->ran_ahead)
        return true;
    for (size_t i = 0; met && i < landmark.visits; i++) {
        met = go_on(victim, PTRACE_CONT, landmark.step);
        if (met)
            support_require(breakpoint_here(victim) == landmark.address);
    }
    breakpoint_clear(victim);
    *ret_steps = landmark.step;
    return met;
}

static bool step_instructions(pid_t victim, struct step_walk *walk)
{
    size_t step;

    if (!run_ahead(victim, walk, &step))
        return false;
    step_path_put(&walk->path, step, breakpoint_here(victim));
    while (step < walk->step) {
        if (!go_on(victim, PTRACE_SINGLESTEP, step))
            return false;
        step_path_put(&walk->path, ++step, breakpoint_here(victim));
    }
    return true;
}

static bool step_system_calls(pid_t victim, struct step_walk *walk)
{
    walk->ran_ahead = false;
    for (size_t step = 0; step < walk->step; step++)
        if (!go_on(victim, PTRACE_SYSCALL, step))
            return false;
    return true;
}

/* Waits until the victim begins. */
static void step_first(pid_t victim)
{
    support_require_equal(next_stop(victim), SIGSTOP);
    stay_together(victim);
    support_require(ptrace(PTRACE_SETOPTIONS, victim, NULL,
                           (void *)(uintptr_t)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)) == 0);
}

bool step_kill(pid_t victim, struct step_walk *walk)
{
    step_first(victim);
    walk->killed = walk->unit == STEP_SYSCALL ? step_system_calls(victim, walk)
                                              : step_instructions(victim, walk);
    if (walk->killed) {
        support_kill(victim);
        return true;
    }
    support_require(ptrace(PTRACE_DETACH, victim, NULL, NULL) == 0);
    support_wait_exit(victim, 0);
    return false;
}

/* Does it stop without having slept first? */
static bool stops_awake(pid_t victim, int *ret_status)
{
    for (;;) {
        for (int i = 0; i < 1000; i++)
            if (waitpid(victim, ret_status, WNOHANG) == victim)
                return true;
        if (support_asleep(victim))
            return false;
    }
}

bool step_pause(pid_t victim, size_t count)
{
    int status;

    step_first(victim);
    for (size_t i = 0; i < count; i++) {
        support_require(ptrace(PTRACE_SINGLESTEP, victim, NULL, NULL) == 0);
        if (!stops_awake(victim, &status))
            return false;
        support_require(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
    }
    return true;
}

void step_resume(pid_t victim, bool inside)
{
    if (!inside) /* its step ends when it wakes up */
        support_require_equal(next_stop(victim), SIGTRAP);
    support_require(ptrace(PTRACE_DETACH, victim, NULL, NULL) == 0);
}
