/* SPDX-License-Identifier: MIT */
/* message.h - between what the user describes a message with and what goes through a ring. */
#pragma once

#include <stdbool.h>
#include <veridian/message.h>

#include "api/carry.h"
#include "object/link.h"

bool message_reserved_zero(const struct vrd_message *message);

/* 0, or why this cannot be sent. */
int message_check_send(const struct vrd_message *message);

struct ring_message message_out(const struct vrd_message *message);

/* Through a capability with SEND; takes and gives back its pin. Errors as vrd_send_timed. */
int message_send(vrd_cap_t cap, struct ring_message *out, int64_t timeout_ns);

/* What came over `link`; NULL: as an answer, whose source is not told. With carry_in for the rest. */
static inline void message_in(struct vrd_message *message, const struct ring_message *in,
                              const struct link *link)
{
    message->opcode = in->opcode;
    message->flags = in->flags;
    message->badge = link ? link->badge : 0;
    message->len = in->len;
    message->n_caps = 0;
    message->source = link ? link->source : (struct vrd_source){ 0 };
}
