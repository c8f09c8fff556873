/* SPDX-License-Identifier: MIT */
/* step.h - death, or a pause, at a chosen instruction, by ptrace. */
#ifndef FAULT_STEP_H
#define FAULT_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "path.h"

/* In the victim, a child of the tracing thread: the operation stands between the two. */
void step_begin(void);
void step_end(void);

/* What is counted: instructions of the victim, or borders of system calls (an entry and an exit
 * each), where everything happens that others can see apart from stores to shared memory. */
enum step_unit { STEP_INSTRUCTION, STEP_SYSCALL };

/*
 * A walk through an operation: one victim after the other, each of which dies a stride further on.
 *
 *     struct step_walk walk = { .unit = STEP_INSTRUCTION, .stride = 3 };
 *     while (step_walk_next(&walk))
 *         ... start a victim; inside = step_kill(victim, &walk) ...
 *
 * A step costs ten times as much in a virtual machine as elsewhere. So a victim is not made to take
 * all of them: it runs to a breakpoint shortly before, at an instruction that the one before it is
 * known to have met, and is stepped from there.
 */
struct step_walk {
    enum step_unit unit;
    size_t stride;
    size_t step; /* after so many the next victim dies */

    bool begun, killed, ran_ahead; /* of the last victim: it died inside; a breakpoint was used */
    unsigned through;              /* so many in a row have been complete */
    struct step_path path;
};

/* False when the operation counts as gone through. */
bool step_walk_next(struct step_walk *walk);

/* Waits until the victim begins, lets it do `walk->step` steps, kills it there and reaps it. Returns
 * false if the operation was complete before that; then the victim goes on and has to exit with 0. */
bool step_kill(pid_t victim, struct step_walk *walk);

/* Waits until the victim begins, lets it do `count` instructions and stops it there, for others to do
 * what they like before step_resume. Returns false if it fell asleep before that; it must not
 * come to its end. */
bool step_pause(pid_t victim, size_t count);

/* `inside`: what step_pause said. */
void step_resume(pid_t victim, bool inside);

#endif
