/* SPDX-License-Identifier: MIT */
/*
 * revoke.h - the owner takes back what was derived from a capability. All with the control lock held,
 * no pin needed: rings are not touched, whoever has the pin retires the links unread.
 *
 * A socket is shut down first and then read to its end: what came before has its effect, and so is
 * found and revoked too, and nothing can come after. So nobody who derives at the same time escapes.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "link/layout.h"

struct node;
struct port;

/*
 * What has to be done before a revocation is over is to make each socket deaf and to read it to its end.
 * To say why, to shut it down for its holders and to close it takes longer: where there are hundreds, the
 * reactor does it for all but the first, some in each turn.
 */

/* All that was derived from `top`, to any depth; if `too`, also what `top` itself confers. */
void revoke_below(struct port *port, struct node *top, bool too);

/* The links with process `pid`, and the rights by which they were made. How many links? */
int revoke_process(struct port *port, pid_t pid);

/*
 * Some of what the last revocations left, or `all`. True: there were any. `revoke_owes`: there are.
 */
bool revoke_turn(bool all);
bool revoke_owes(void);

/* Without locks, after a revocation: sees to it that what is left will have its turn. */
void revoke_settle(void);

/* Without the control lock: all of it, now. True: there was any. */
bool revoke_hurry(void);

/* In a forked child: its parent tells. */
void revoke_after_fork(void);

/* Says CLOSE over a socket whose holder is to learn why it ends, and ends it for all who hold it. */
void revoke_socket(int fd, enum notice_cause cause);

/* The same for what a peer has sent, if it is a socket of ours. */
void revoke_foreign(int fd, enum notice_cause cause);
