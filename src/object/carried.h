/* SPDX-License-Identifier: MIT */
/*
 * carried.h - capabilities that travel with a message: sockets, in one TRANSFER frame over the
 * tether, numbered; then the message, which tells the number. They wait here for the message.
 */
#pragma once

#include <stdint.h>

#include "base/list.h"
#include "cap/frame.h"

struct datagram;

#define CARRIED_MAX 16 /* messages with capabilities that a link may have unread */

struct account;

struct carried {
    struct list node;
    uint64_t id;
    uint32_t n;
    int fds[FRAME_TRANSFER_MAX];             /* invitations; -1: taken                      */
    uint64_t identities[FRAME_TRANSFER_MAX]; /* of those that came, see fd_identity        */
};

/* What has come over a link and whose message has not been taken. With the control lock. */
struct carried_queue {
    struct account *account; /* pays for the descriptors, and outlives the queue; NULL: nobody */
    struct list waiting;     /* oldest first */
    uint32_t n;
    uint64_t last; /* number of the last one */
};

void carried_queue_init(struct carried_queue *queue);

/* Drops all; in a forked child, only what its number still belongs to. */
void carried_queue_deinit(struct carried_queue *queue);

/*
 * What a TRANSFER frame brought, whose descriptors it takes out of `datagram`: the caller's to free.
 * 0; VRD_ERR_PEER_CORRUPT: not sockets of ours; VRD_ERR_OUT_OF_MEMORY.
 */
int carried_new(const struct frame *frame, struct datagram *datagram, struct carried **ret);

/* The number of what an answer carries. */
static inline uint64_t carried_reply_id(uint32_t sequence)
{
    return UINT64_C(1) << 32 | sequence; /* never 0 */
}

/*
 * The same, into the queue. Also VRD_ERR_PEER_CORRUPT: out of order, or too many; VRD_ERR_QUOTA_EXCEEDED: more
 * than its account may have.
 */
int carried_arrived(struct carried_queue *queue, const struct frame *frame,
                    struct datagram *datagram);

/* What the oldest message carries: the caller's to free. NULL: it has not come, under this number. */
struct carried *carried_take(struct carried_queue *queue, uint64_t id);

/* Closes what nobody took, frees it, and sets the pointer to NULL. NULL is fine. */
void carried_free(struct carried **carried);
