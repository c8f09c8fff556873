/* SPDX-License-Identifier: MIT */
#include <veridian/message.h>

#include <limits.h>
#include <string.h>
#include <veridian/async_channel.h>

#include "api/transfer.h"

static bool message_reserved_zero(const struct vrd_message *message)
{
    uint64_t any = 0;

    for (size_t i = 0; i < ARRAY_SIZE(message->reserved); i++)
        any |= message->reserved[i];
    return any == 0;
}

/* 0, or why this cannot be sent. */
static int message_check_send(const struct vrd_message *message)
{
    if (!message_reserved_zero(message))
        return VRD_ERR_INVALID_ARGUMENT;
    return message->n_caps != 0 ? VRD_ERR_NOT_SUPPORTED : 0;
}

static struct ring_message message_out(const struct vrd_message *message)
{
    return (struct ring_message){ .data = message->data,
                                  .len = message->len,
                                  .opcode = message->opcode,
                                  .flags = message->flags };
}

static void message_in(struct vrd_message *message, const struct ring_message *in,
                       const struct link *link)
{
    message->opcode = in->opcode;
    message->flags = in->flags;
    message->badge = 0;
    message->len = in->len;
    message->n_caps = 0;
    message->source = link->source;
}

int vrd_send_message(vrd_cap_t cap, const struct vrd_message *message, int64_t timeout_ns)
{
    struct ring_message out;
    struct port *port;
    int r = message ? message_check_send(message) : VRD_ERR_INVALID_ARGUMENT;

    if (r < 0)
        return r;
    port = gate_enter(cap, VRD_RIGHT_SEND, &r);
    if (!port)
        return r;
    out = message_out(message);
    return transfer_send(port, cap, &out, timeout_ns);
}

/* As transfer_receive, into a struct vrd_message. */
static int message_receive(struct port *port, vrd_cap_t cap, struct vrd_message *message,
                           int64_t timeout_ns)
{
    struct ring_message in = { .data = message->data };
    struct link *link;
    int r = transfer_receive(port, cap, &in, message->size, timeout_ns, &link);

    if (r == 0)
        message_in(message, &in, link);
    else if (r == VRD_ERR_MESSAGE_TOO_LARGE)
        message->len = in.len;
    return r;
}

int vrd_receive_message(vrd_cap_t cap, struct vrd_message *message, int64_t timeout_ns)
{
    struct port *port;
    int r;

    if (!message || !message_reserved_zero(message))
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_enter(cap, VRD_RIGHT_RECEIVE, &r);
    if (!port)
        return r;
    r = message_receive(port, cap, message, timeout_ns);
    if (r == 0)
        gate_leave(port);
    return r;
}

int vrd_discard(vrd_cap_t cap)
{
    int r;
    struct port *port = gate_enter(cap, VRD_RIGHT_RECEIVE, &r);

    if (!port)
        return r;
    r = receiver_discard(port);
    gate_leave(port);
    return r;
}

/* How many more of messages[0..n) can be written without waiting? Wakes once, for all. */
static size_t batch_write(struct port *port, const struct vrd_message *messages, size_t n)
{
    struct ring_writer *w = &port->sender.ring;
    uint32_t before = w->position;
    size_t i;

    for (i = 0; i < n; i++) {
        const struct vrd_message *message = &messages[i];
        struct ring_message out = message_out(message);

        if (message_check_send(message) < 0 || (!out.data && out.len > 0) ||
            out.len > port->max_message)
            break;
        if (out.len > SLOT_INLINE_MAX && !ring_writer_fits(w, out.len))
            break;
        if (ring_write(w, &out) < 0)
            break;
    }
    sender_ring(port, transfer_awaited(port, before));
    return i;
}

int vrd_send_batch(vrd_cap_t cap, const struct vrd_message *messages, size_t n, int64_t timeout_ns)
{
    struct ring_message first;
    struct port *port;
    size_t sent = 0;
    int r;

    if (n > INT_MAX || (!messages && n > 0) || !timeout_valid(timeout_ns))
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_enter(cap, VRD_RIGHT_SEND, &r);
    if (!port)
        return r;
    while (sent < n) {
        if (transfer_send_settled(port))
            sent += batch_write(port, messages + sent, n - sent);
        if (sent == n)
            break;
        /* What the plain way does not take: a full ring, a new byte ring, an error. */
        r = message_check_send(&messages[sent]);
        if (r < 0) {
            break;
        }
        first = message_out(&messages[sent]);
        r = transfer_send_keep(port, cap, &first, sent == 0 ? timeout_ns : 0);
        if (r < 0)
            return sent > 0 ? (int)sent : r;
        sent++;
    }
    gate_leave(port);
    return sent > 0 || n == 0 ? (int)sent : r;
}

int vrd_receive_batch(vrd_cap_t cap, struct vrd_message *messages, size_t n, int64_t timeout_ns)
{
    struct port *port;
    size_t got;
    int r;

    if (n > INT_MAX || (!messages && n > 0) || !timeout_valid(timeout_ns))
        return VRD_ERR_INVALID_ARGUMENT;
    for (size_t i = 0; i < n; i++)
        if (!message_reserved_zero(&messages[i]))
            return VRD_ERR_INVALID_ARGUMENT;
    port = gate_enter(cap, VRD_RIGHT_RECEIVE, &r);
    if (!port)
        return r;
    for (got = 0; got < n; got++) {
        struct ring_message in = { .data = messages[got].data };
        struct link *link;

        if (got == 0) {
            r = message_receive(port, cap, &messages[0], timeout_ns);
            if (r < 0)
                return r;
            continue;
        }
        if ((!in.data && messages[got].size > 0) ||
            receiver_take(port, &in, messages[got].size, &link) < 0)
            break;
        message_in(&messages[got], &in, link);
    }
    gate_leave(port);
    return (int)got;
}
