/* SPDX-License-Identifier: MIT */
/*
 * peer.h - the processes that this one has had links with: telling of their ends, and sending one away.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <veridian/process.h>

struct source;

/* The process's function; NULL: none. Watches those who have links already, too. */
void peer_set_function(vrd_exit_fn *function, void *user);

/* There is a link with process `pid`, and `pidfd` is its (the caller's) or -1. Control lock held. */
void peer_met(pid_t pid, int pidfd);

/* Ends all links with it. How many? */
int peer_cleanup(pid_t pid);

/* A process has died. Control lock held. */
void peer_source_ready(struct source *source);

/* In a forked child: its parent's peers are not its own. True: there is a function, which needs a thread. */
bool peer_after_fork(void);

/* Without any lock, after the sources were seen to: calls the process's function. */
void peer_tell(void);
