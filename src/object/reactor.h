/* SPDX-License-Identifier: MIT */
/*
 * reactor.h - the one control loop of a process. It reads what comes over the sockets and posts it
 * to ports; it never touches a ring. It runs in a thread of its own from the first wait that really
 * sleeps; before that, whoever waits or looks polls it. In no-thread mode it stays like that: who
 * waits sleeps on the loop's descriptor, and so does the application.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What to do for a token that is ready; called with the control lock held. */
void reactor_dispatch(uint64_t token);

/* All with the control lock held: start and stop to watch for FD_*. 0 or -errno. */
int reactor_watch(int fd, unsigned events, uint64_t token);
void reactor_unwatch(int fd);

/* Handles what is ready now, without waiting. Takes the control lock. With or without a pin. */
void reactor_poll(void);

/*
 * The same, and then what needs pins: hands on answers that came from elsewhere, and calls the
 * application back, which may use any capability. With no pin and no lock.
 */
void reactor_serve(void);

/* With the control lock held: there is a reason for reactor_serve, whoever is having this turn. */
void reactor_owe(void);

/*
 * With the control lock held: something that is ready cannot be handled for want of memory. It stays
 * ready, and the thread pauses instead of trying at once again.
 */
void reactor_starved(void);

/*
 * With the control lock held: a link has ended, and another may come. If the thread has nothing else to do
 * after this turn, it makes a segment ready.
 */
void reactor_relieved(void);

/*
 * With the control lock held: a peer that is awake is about to say something. The thread looks for it
 * for a moment before it sleeps.
 */
void reactor_expect(void);

/* No-thread mode: chosen before anything else happens in the process. */
void reactor_set_threadless(void);
bool reactor_threadless(void);

/* Makes sure that the thread runs. False: there is none, who waits has to reactor_sleep. */
bool reactor_start(void);

bool reactor_running(void);

/* The loop's descriptor, readable while there is something for reactor_serve; or -errno. */
int reactor_fd(void);

/*
 * How to wait where there is no thread: serves the loop once, when something has come, unless `*bell`
 * is not `value` any more, and for `timeout` ns at most (negative: no limit). With no pin and no lock.
 * False: the time has passed. Who rings a bell calls reactor_kick.
 */
bool reactor_sleep(const atomic_uint *bell, uint32_t value, int64_t timeout);
void reactor_kick(void);

/* Waits until `fd` is readable, for `timeout` ns at most, or, where there is no thread, something was served. */
void reactor_wait(int fd, int64_t timeout);

/*
 * This process sent something to a socket that it may itself read: whoever finds nothing to receive
 * polls first if the count has moved.
 */
void reactor_sent(void);
uint32_t reactor_sent_count(void);

/* In a forked child: forgets the parent's thread and loop, whose descriptors may be closed already. */
void reactor_after_fork(bool closed);
