/* SPDX-License-Identifier: MIT */
/*
 * intake.h - takes messages out of a receiver's links, with all that belongs to them: what the tether
 * brought, capabilities, who awaits an answer. All with the receiver's pin.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct link;
struct port;
struct ring_message;

/*
 * Takes one message from any link into `message` (data, at most `size` bytes): 0 and the link it
 * came from, VRD_ERR_CHANNEL_EMPTY, _MESSAGE_TOO_LARGE, _PEER_CORRUPT, _PEER_GONE. Does not wait.
 */
int intake_take(struct port *port, struct ring_message *message, size_t size,
                struct link **ret_link);

/*
 * One more for a batch: as intake_take, but an error is kept for the next take. True: `message` and
 * `ret_link` are set.
 */
bool intake_take_more(struct port *port, struct ring_message *message, size_t size,
                      struct link **ret_link);

/* Drops the message that did not fit the buffer. 0, or VRD_ERR_CHANNEL_EMPTY: there is none. */
int intake_discard(struct port *port);
