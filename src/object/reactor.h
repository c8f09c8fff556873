/* SPDX-License-Identifier: MIT */
/*
 * reactor.h - the one control loop of a process. It reads what comes over the sockets and posts it
 * to ports; it never touches a ring. It runs in a thread of its own from the first wait that really
 * sleeps; before that, whoever waits or looks polls it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What to do for a token that is ready; called with the control lock held. */
void reactor_dispatch(uint64_t token);

/* All with the control lock held: start and stop to watch. 0 or -errno. */
int reactor_watch(int fd, uint64_t token);
void reactor_unwatch(int fd, uint64_t token);

/* Handles what is ready now, without waiting. Takes the control lock. */
void reactor_poll(void);

/*
 * With the control lock held: something that is ready cannot be handled for want of memory. It stays
 * ready, and the thread pauses instead of trying at once again.
 */
void reactor_starved(void);

/*
 * With the control lock held, in a turn: nobody waits for its end with a pin; then relay_adopt_all
 * follows.
 */
bool reactor_alone(void);

/* Makes sure that the thread runs. False: it cannot be started, the caller has to poll. */
bool reactor_start(void);

bool reactor_running(void);

/*
 * In no-thread mode, chosen before anything else happens in the process, there is no thread, and whoever
 * waits does the reactor's work.
 */
void reactor_set_threadless(void);
bool reactor_threadless(void);

/* In that mode: waits for something to handle, up to `timeout` ns (negative: for ever), and handles it. */
bool reactor_wait(int64_t timeout);

/* Starts the thread. Will somebody see to the sources while the caller sleeps, however long? */
bool reactor_serves(void);

/* The loop's descriptor, or -errno. */
int reactor_fd(void);

/*
 * This process sent something to a socket that it may itself read: whoever finds nothing to receive
 * polls first if the count has moved.
 */
void reactor_sent(void);
uint32_t reactor_sent_count(void);

/* In a forked child: forgets the parent's thread and loop, whose descriptors may be closed already. */
void reactor_after_fork(bool closed);
