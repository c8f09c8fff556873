/* SPDX-License-Identifier: MIT */
/*
 * control.h - the process as a whole: set up at first use, set up anew in a forked child, and the one
 * lock over everything that changes rarely (tables, sources, frames).
 *
 * Order: a pin, then the control lock; never the other way round. The lock is held across fork, so
 * that a child never inherits half-changed tables.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

struct datagram;

/* Call before anything else in each entry that may be a process's first. 0 or VRD_ERR_*. */
int control_ready(void);

void control_lock(void);
void control_unlock(void);

/*
 * With the lock held: wakes who sleeps on `bell`, which never goes away, once the lock is free. Who is
 * woken mostly wants the lock, and may have the CPU at once.
 */
void control_wake(const atomic_uint *bell);

/* Does somebody wait for the lock? For one who would take it again at once. */
bool control_wanted(void);

/* This process. */
pid_t control_pid(void);

/* Has this very process used the library? Not so a forked child that only inherited it. */
bool control_is_own(void);
