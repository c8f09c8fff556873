/* SPDX-License-Identifier: MIT */
/*
 * answer.h - answers that are written in place: the buffer of a call's reply entry, in the hands of the
 * application until it answers. The entry has no other use for it meanwhile: its caller makes no other
 * call in it, and whoever answers this one otherwise makes a new buffer. Where the call was received by
 * another process, it is memory of our own, which is copied on the way there.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "os/segment.h"

struct pending_call;
struct port;
struct ring_message;

struct answer {
    pid_t pid;              /* whose it is; a forked child does not have the buffer */
    struct segment segment; /* the buffer; empty if the data is behind this         */
    void *data;
};

/*
 * Room for an answer of up to `size` bytes. 0; MESSAGE_TOO_LARGE, RESOURCE_BUSY (it has been lent
 * already), PEER_GONE or REVOKED (the caller is gone), or as reply_room; the call still awaits its
 * answer. Pin held.
 */
int answer_borrow(struct port *port, struct pending_call *call, size_t size, struct answer **ret);

/* The same for a call that another process has received, of which `port` is the moved reply. Pin held. */
int answer_borrow_moved(struct port *port, size_t size, struct answer **ret);

/* As reply_send, with a message that is there; ends the answer. Pin held. */
int answer_send(struct port *port, struct pending_call *call, struct answer *answer,
                const struct ring_message *message);

/* It is not to be sent, and the call awaits its answer as before. Ends the answer. Pin held. */
void answer_cancel(struct pending_call *call, struct answer *answer);

/* The same when there is no such call (any more). Without a pin. */
void answer_free(struct answer *answer);
