/* SPDX-License-Identifier: MIT */
/*
 * relay.h - reply capabilities that move to another process. Whoever holds one has a socket, good for
 * one REPLY frame; its other end is the server's, who gives the caller the answer. The caller never
 * learns that it came from elsewhere.
 */
#pragma once

#include <stdint.h>
#include <veridian/capability.h>

#include "link/ring.h"

struct pending_call;
struct port;
struct source;

/* --- at the server ---------------------------------------------------------------------------- */

/* Makes an invitation for `call`, whose number is `reply`. Pin held. 0 or VRD_ERR_*. */
int relay_mint(struct port *port, vrd_cap_t reply, struct pending_call *call, int *ret_fd);

/* The message with it has gone: the number is nobody's any more. Or not. Pin held. */
void relay_moved(struct port *port, vrd_cap_t reply, struct pending_call *call);
void relay_kept(vrd_cap_t reply, struct pending_call *call);

/* Gives callers the answers that came from elsewhere. Pin held. */
void relay_adopt(struct port *port);

/* The same for all ports. No pin, no lock. */
void relay_adopt_all(void);

/* The port is closed, or a parent's: forgets what has moved from it. Also with the control lock. */
void relay_forget(struct port *port);

/* With the control lock only: the reactor found something. */
void relay_source_ready(struct source *source);

/* --- where it has moved to -------------------------------------------------------------------- */

struct reply_holder {
    int socket; /* with the pin */
    uint64_t identity;
};

/* Makes `port`, not yet shown, the holder; takes the socket. */
void relay_hold(struct port *port, int fd);

/* The answer: 0, or why there will be none; `port` has to be closed. Pin held. */
int relay_send(struct port *port, const struct ring_message *message);

void relay_close(struct port *port);
void relay_after_fork(struct port *port);
