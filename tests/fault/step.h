/* SPDX-License-Identifier: MIT */
/* step.h - death at a chosen instruction, by ptrace. */
#ifndef FAULT_STEP_H
#define FAULT_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* In the victim, a child of the tracing thread: the operation stands between the two. */
void step_begin(void);
void step_end(void);

/* What is counted: instructions of the victim, or borders of system calls (an entry and an exit
 * each), where everything happens that others can see apart from stores to shared memory. */
enum step_unit { STEP_INSTRUCTION, STEP_SYSCALL };

/* Waits until the victim begins, lets it do `count` steps, kills it there and reaps it. Returns
 * false if the operation was complete before that; then the victim goes on and has to exit with 0. */
bool step_kill(pid_t victim, enum step_unit unit, size_t count);

/* So many times in a row has an operation to be complete before it counts as gone through: in a
 * virtual machine a step may go further than one instruction, once in many thousands. */
#define STEP_ENDS 3

#endif
