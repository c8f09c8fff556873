/* SPDX-License-Identifier: MIT */
/* breakpoint.h - a hardware breakpoint in one stopped thread that is traced. */
#ifndef FAULT_BREAKPOINT_H
#define FAULT_BREAKPOINT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The address of the instruction that the thread does next; 0 where it cannot be told. */
uintptr_t breakpoint_here(pid_t thread);

/* The thread stops (SIGTRAP) each time before it does the instruction at `address`; others of its
 * process do not, which is why it is not written into the code. False where there is no such thing. */
bool breakpoint_set(pid_t thread, uintptr_t address);
void breakpoint_clear(pid_t thread);

#endif
