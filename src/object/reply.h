/* SPDX-License-Identifier: MIT */
/*
 * reply.h - the answering side: calls that were received and not yet answered, each behind a reply
 * capability. That is a number that finds the endpoint's entry in the table of handles, and then the
 * call in the endpoint's own table; good for one use.
 *
 *   bits  0..19  index of the endpoint's handle
 *   bits 20..61  serial of the call
 *   bits 62..63  1; never in the number of anything else
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <veridian/capability.h>

#include "cap/handle.h"
#include "link/ring.h"

struct link;
struct port;
struct receiver;

#define REPLY_FLAG (UINT64_C(1) << 62)
#define REPLY_SERIAL_MASK ((UINT64_C(1) << 42) - 1)

static inline bool cap_is_reply(vrd_cap_t cap)
{
    return cap >> 62 == 1;
}

/* A call that awaits its answer. */
struct pending_call {
    uint64_t serial; /* 0: free */
    struct link *link;
    uint32_t sequence;
    uint8_t entry;
    bool moving;   /* its number is on its way to another process */
    bool lent;     /* its answer is being written in place, see answer.h */
    int16_t error; /* the link is gone (NULL): why */
};

struct pending {
    struct pending_call *calls; /* by serial, modulo; NULL: not an endpoint */
    uint32_t mask;
    uint32_t count;
};

/* All with the pin held, except where said. */

/* Makes the table: 0 or VRD_ERR_OUT_OF_MEMORY. */
int pending_init(struct pending *pending);
void pending_deinit(struct pending *pending);

/* In a forked child: all calls are the parent's. */
void pending_forget(struct pending *pending);

/* Makes sure that there is room for one more call: 0 or VRD_ERR_OUT_OF_MEMORY. */
int pending_reserve(struct pending *pending);

/*
 * A call came over `link`, for the answer in `entry`; after pending_reserve. Its reply capability, or
 * VRD_CAP_NONE: the entry awaits an answer already, the caller is corrupt.
 */
vrd_cap_t reply_new(struct port *port, struct link *link, uint32_t entry, uint32_t sequence);

/* Gives the call another number, its old one is nobody's. The result is good until the call is answered. */
vrd_cap_t reply_renumber(struct port *port, struct pending_call *call);

/* A call came that nobody will answer. */
int reply_refuse(struct link *link, uint32_t entry, uint32_t sequence);

/* The call, or NULL: there is none of that number (any more). */
hot_inline struct pending_call *reply_find(const struct pending *pending, vrd_cap_t reply)
{
    uint64_t serial = (reply >> HANDLE_INDEX_BITS) & REPLY_SERIAL_MASK;
    struct pending_call *call = &pending->calls[serial & pending->mask];

    return likely(call->serial == serial && serial != 0) ? call : NULL;
}

/* Out of the table; after this the call is somebody else's. */
hot_inline void reply_take(struct pending *pending, struct pending_call *call)
{
    call->serial = 0;
    pending->count--;
}

/*
 * Answers, and takes it out of the table. 0; TIMEOUT: nobody waits for it any more; PEER_GONE or
 * REVOKED: the caller is gone; MESSAGE_TOO_LARGE, OUT_OF_MEMORY ...: the caller is told that there
 * will be no answer.
 */
int reply_send(struct port *port, struct pending_call *call, const struct ring_message *message);

/*
 * Makes sure that the entry has a buffer for `len` bytes, which the caller has been told of. 0, or
 * QUOTA_EXCEEDED (its socket is full), OUT_OF_MEMORY ...
 */
int reply_room(struct link *link, uint32_t entry, size_t len);

/* Looks whether the caller is still there: 0, or why not. */
int reply_caller(struct port *port, const struct pending_call *call);

/* Drops the call: the caller is told that there will be no answer. */
void reply_drop(struct port *port, struct pending_call *call);

/* Does what a caller's notice calls for, after its answer: 0, or VRD_ERR_TIMEOUT. */
int reply_heed(struct link *link, uint32_t entry, uint64_t notice);

/* The link ends: its calls cannot be answered any more, for that reason. */
void reply_forget(struct receiver *rx, struct link *link, int error);
