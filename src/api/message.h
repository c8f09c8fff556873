/* SPDX-License-Identifier: MIT */
/* message.h - between what the user describes a message with and what goes through a ring. */
#pragma once

#include <stdbool.h>
#include <veridian/message.h>

#include "api/carry.h"
#include "api/transfer.h"
#include "object/link.h"

static inline bool message_reserved_zero(const struct vrd_message *message)
{
    uint64_t any = 0;

    for (size_t i = 0; i < ARRAY_SIZE(message->reserved); i++)
        any |= message->reserved[i];
    return any == 0;
}

/* 0, or why this cannot be sent. */
int message_check_send(const struct vrd_message *message);

struct ring_message message_out(const struct vrd_message *message);

/* Through a capability with SEND; takes and gives back its pin. Errors as vrd_send_timed. */
int message_send(vrd_cap_t cap, struct ring_message *out, int64_t timeout_ns);

/*
 * As transfer_receive, into a struct vrd_message: 0 with the pin held, or an error with the pin
 * given back.
 */
int message_receive(struct port *port, vrd_cap_t cap, struct vrd_message *message,
                    int64_t timeout_ns);

/* What came with a badge from there. With carry_in for the rest. */
hot_inline void message_fill(struct vrd_message *message, const struct ring_message *in,
                             uint64_t badge, struct vrd_source source)
{
    message->opcode = in->opcode;
    message->flags = in->flags;
    message->badge = badge;
    message->len = in->len;
    message->n_caps = 0;
    message->source = source;
}

/* What came over `link`; NULL: as an answer, whose source is not told. */
static inline void message_in(struct vrd_message *message, const struct ring_message *in,
                              const struct link *link)
{
    message_fill(message, in, link ? link->badge : 0,
                 link ? link->source : (struct vrd_source){ 0 });
}

/*
 * Takes a small message that is there already, or very soon, from the one link that is looked at; with
 * `ret_reply`, also a call. False: transfer_receive finds out what there is. Pin held.
 */
hot_inline bool message_take_small(struct port *port, struct vrd_message *message,
                                   vrd_cap_t *ret_reply, int64_t timeout_ns)
{
    struct receiver *rx = &port->receiver;
    struct link *link = rx->current;
    struct ring_message in = { 0 };
    const struct slot *slot;
    uint64_t word, notice;
    uint32_t caller;
    ssize_t n;

    if (unlikely(rx->budget == 0 || !message->data ||
                 (ret_reply && (!rx->pending.calls || rx->pending.count > rx->pending.mask / 2))))
        return false;
    slot = ring_slot(&link->ring);
    word = slot_load(slot);
    if (unlikely(ring_state(&link->ring, word) != RING_READY) && timeout_ns != 0)
        word = transfer_look(port, slot);
    /* the news behind the acquire of `word`: what was revoked before this was published is posted */
    if (unlikely(ring_state(&link->ring, word) != RING_READY || !slot_is_inline(word, ret_reply) ||
                 port_news(port)))
        return false;
    caller = ret_reply ? slot_caller(word) : 0;
    if (unlikely(caller != 0 && (link->replies.pending & UINT32_C(1) << (caller - 1))))
        return false;
    slot_get_meta(slot, word, &in);
    n = unlikely(in.transfer != 0) ? -1 : slot_copy_small(slot, word, message->data, message->size);
    if (unlikely(n < 0))
        return false;
    ring_advance(&link->ring, word);
    notice = receiver_took(rx, link);
    if (caller != 0)
        reply_prepare(&link->replies, caller - 1, (size_t)n);
    if (ret_reply)
        *ret_reply =
            caller != 0 ? reply_new(port, link, caller - 1, link->ring.position) : VRD_CAP_NONE;
    in.len = (size_t)n;
    message_in(message, &in, link);
    if (unlikely(notice != 0))
        link_ring(link, notice);
    return true;
}
