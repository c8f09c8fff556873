/* SPDX-License-Identifier: MIT */
#include <veridian/message.h>

#include <limits.h>
#include <string.h>
#include <veridian/async_channel.h>

#include "api/message.h"
#include "api/transfer.h"
#include "object/intake.h"

int message_check_send(const struct vrd_message *message)
{
    return message_reserved_zero(message) ? 0 : VRD_ERR_INVALID_ARGUMENT;
}

struct ring_message message_out(const struct vrd_message *message)
{
    return (struct ring_message){ .data = message->data,
                                  .len = message->len,
                                  .opcode = message->opcode,
                                  .flags = message->flags };
}

int message_send(vrd_cap_t cap, struct ring_message *out, int64_t timeout_ns)
{
    int r;
    struct port *port = gate_enter(cap, VRD_RIGHT_SEND, &r);

    return port ? transfer_send(port, cap, out, timeout_ns) : r;
}

/* Whatever is not small, or has to wait. Pin held; gives it back. */
static __attribute__((noinline)) int
send_held(struct port *port, vrd_cap_t cap, const struct vrd_message *message, int64_t timeout_ns)
{
    struct ring_message out = message_out(message);

    return transfer_send(port, cap, &out, timeout_ns);
}

/* The pin is not to be had by its bias, or there are capabilities. */
static __attribute__((noinline)) int send_slow(vrd_cap_t cap, const struct vrd_message *message,
                                               int64_t timeout_ns)
{
    struct ring_message out = message_out(message);
    struct carry carry;
    int r;

    if (message->n_caps == 0)
        return message_send(cap, &out, timeout_ns);
    r = carry_open(&carry, cap, message->caps, message->n_caps);
    if (r < 0)
        return r;
    out.carried = &carry.out;
    r = message_send(cap, &out, timeout_ns);
    carry_close(&carry, r);
    return r;
}

int vrd_send_message(vrd_cap_t cap, const struct vrd_message *message, int64_t timeout_ns)
{
    struct pin_thread *self = pin_self;
    struct port *port;
    uint64_t notice;

    if (unlikely(!message || !message_reserved_zero(message)))
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_last(self, cap, GATE_SEND);
    if (unlikely(!port || message->n_caps > 0 || !timeout_valid(timeout_ns) ||
                 !gate_try(self, port, cap)))
        return send_slow(cap, message, timeout_ns);
    if (unlikely(!transfer_send_small(port, message->data, message->len, message->opcode,
                                      message->flags, 0)))
        return send_held(port, cap, message, timeout_ns);
    notice = sender_notice_one(&port->sender.ring);
    if (unlikely(notice != 0))
        return transfer_send_end(port, notice);
    ring_writer_look_ahead(&port->sender.ring);
    gate_leave_biased(self);
    return 0;
}

/* As transfer_receive, into a struct vrd_message. */
static int message_receive(struct port *port, vrd_cap_t cap, struct vrd_message *message,
                           int64_t timeout_ns)
{
    struct ring_message in = { .data = message->data, .wants_caps = message->max_caps > 0 };
    struct link *link;
    int r = transfer_receive(port, cap, &in, message->size, timeout_ns, &link);

    if (r == 0) {
        message_in(message, &in, link);
        carry_in(message, in.carried);
    } else if (r == VRD_ERR_MESSAGE_TOO_LARGE) {
        message->len = in.len;
    }
    return r;
}

/* Whatever is not small, and waiting. Pin held; gives it back. */
static __attribute__((noinline)) int receive_held(struct port *port, vrd_cap_t cap,
                                                  struct vrd_message *message, int64_t timeout_ns)
{
    int r = message_receive(port, cap, message, timeout_ns);

    if (r == 0)
        gate_leave(port);
    return r;
}

/* The pin is not to be had by its bias. */
static __attribute__((noinline)) int receive_slow(vrd_cap_t cap, struct vrd_message *message,
                                                  int64_t timeout_ns)
{
    int r;
    struct port *port = gate_enter(cap, VRD_RIGHT_RECEIVE, &r);

    return port ? receive_held(port, cap, message, timeout_ns) : r;
}

int vrd_receive_message(vrd_cap_t cap, struct vrd_message *message, int64_t timeout_ns)
{
    struct pin_thread *self = pin_self;
    struct port *port;

    if (unlikely(!message || !message_reserved_zero(message)))
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_last(self, cap, GATE_RECEIVE);
    if (unlikely(!port || !timeout_valid(timeout_ns) || !gate_try(self, port, cap)))
        return receive_slow(cap, message, timeout_ns);
    if (unlikely(!message_take_small(port, message, NULL, timeout_ns)))
        return receive_held(port, cap, message, timeout_ns);
    gate_leave_biased(self);
    return 0;
}

int vrd_discard(vrd_cap_t cap)
{
    int r;
    struct port *port = gate_enter(cap, VRD_RIGHT_RECEIVE, &r);

    if (!port)
        return r;
    r = intake_discard(port);
    gate_leave(port);
    return r;
}

/* --- batches ---------------------------------------------------------------------------------- */

/* Writes those of messages[0..n) that need nothing but room. How many? */
static size_t batch_write(struct port *port, const struct vrd_message *messages, size_t n)
{
    struct ring_writer *w = &port->sender.ring;
    size_t i;

    for (i = 0; i < n; i++) {
        const struct vrd_message *message = &messages[i];

        if (message->len > port->sender.small_max || (!message->data && message->len > 0) ||
            message->n_caps != 0 || !message_reserved_zero(message) ||
            !ring_write_small(w, message->data, message->len, message->opcode, message->flags, 0))
            break;
    }
    return i;
}

/* Those at the front that need nothing but room; wakes once for all. 0, or why it ends here. */
static int batch_send_plain(struct port *port, const struct vrd_message *messages, size_t n,
                            size_t *sent)
{
    uint32_t before = port->sender.ring.position;
    size_t written;
    int r;

    if (atomic_load_explicit(&port->attention, memory_order_relaxed) != 0)
        return 0;
    written = batch_write(port, messages, n);
    if (written == 0)
        return 0;
    r = sender_heed_batch(port, sender_notice(&port->sender.ring, before), (uint32_t)written);
    if (r > 0)
        *sent += (size_t)r;
    return r >= 0 && (size_t)r < written ? VRD_ERR_PEER_GONE : r < 0 ? r : 0;
}

/*
 * One after the other, without capabilities; counts those that were sent. 0: all. Gives the pin back.
 */
static int batch_send(struct port *port, vrd_cap_t cap, const struct vrd_message *messages,
                      size_t n, int64_t timeout_ns, size_t *sent)
{
    int r;

    *sent = 0;
    for (;;) {
        struct ring_message next;

        r = batch_send_plain(port, messages + *sent, n - *sent, sent);
        if (r < 0 || *sent == n)
            break;
        r = message_check_send(&messages[*sent]);
        if (r < 0)
            break;
        next = message_out(&messages[*sent]);
        r = transfer_send_keep(port, cap, &next, *sent == 0 ? timeout_ns : 0);
        if (r < 0)
            return r; /* the pin is given back */
        ++*sent;
    }
    gate_leave(port);
    return r;
}

/* As many as need the pin of `cap` only; or else one, with capabilities. Counts those that were sent. */
static int batch_send_some(vrd_cap_t cap, const struct vrd_message *messages, size_t n,
                           int64_t timeout_ns, size_t *ret_sent)
{
    struct port *port;
    size_t bare = 0;
    int r;

    while (bare < n && messages[bare].n_caps == 0)
        bare++;
    if (bare == 0 && n > 0) {
        r = vrd_send_message(cap, messages, timeout_ns);
        *ret_sent = r == 0;
        return r;
    }
    *ret_sent = 0;
    port = gate_enter(cap, VRD_RIGHT_SEND, &r);
    return port ? batch_send(port, cap, messages, bare, timeout_ns, ret_sent) : r;
}

/* Some were sent: what kept the next from it is said by whatever comes next. */
static void batch_put_off(vrd_cap_t cap, int error)
{
    int r;
    struct port *port = gate_enter(cap, VRD_RIGHT_SEND, &r);

    if (!port)
        return;
    sender_put_off(port, error);
    gate_leave(port);
}

int vrd_send_batch(vrd_cap_t cap, const struct vrd_message *messages, size_t n, int64_t timeout_ns)
{
    size_t sent = 0, more;
    int r;

    if (n > INT_MAX || (!messages && n > 0) || !timeout_valid(timeout_ns))
        return VRD_ERR_INVALID_ARGUMENT;
    do {
        r = batch_send_some(cap, messages + sent, n - sent, sent == 0 ? timeout_ns : 0, &more);
        sent += more;
    } while (r == 0 && sent < n);
    if (r < 0 && sent > 0)
        batch_put_off(cap, r);
    return sent > 0 ? (int)sent : r;
}

/* Takes plain messages from the current link, and says once how far it is. How many? */
static size_t batch_read(struct port *port, struct vrd_message *messages, size_t n)
{
    struct receiver *rx = &port->receiver;
    struct link *link = rx->current;
    size_t most = n < rx->budget ? n : rx->budget;
    size_t i;

    for (i = 0; i < most; i++) {
        struct vrd_message *message = &messages[i];
        const struct slot *slot = ring_slot(&link->ring);
        uint64_t word = slot_load(slot);
        struct ring_message in = { 0 };
        ssize_t len;

        if (ring_state(&link->ring, word) != RING_READY || !slot_is_inline(word, false) ||
            port_news(port) || (!message->data && message->size > 0))
            break;
        slot_get_meta(slot, word, &in);
        len = in.transfer != 0 ? -1 : slot_copy_small(slot, word, message->data, message->size);
        if (len < 0)
            break;
        in.len = (size_t)len;
        link->ring.position++;
        link->ring.last = word;
        message_in(message, &in, link);
    }
    if (i > 0) {
        ring_publish_cursor(&link->ring);
        receiver_took_batch(rx, link, (uint32_t)i);
    }
    return i;
}

/* One more, if it is there. */
static bool batch_read_one(struct port *port, struct vrd_message *message)
{
    struct ring_message in = { .data = message->data, .wants_caps = message->max_caps > 0 };
    struct link *link;

    if ((!message->data && message->size > 0) || !intake_take_more(port, &in, message->size, &link))
        return false;
    message_in(message, &in, link);
    carry_in(message, in.carried);
    return true;
}

int vrd_receive_batch(vrd_cap_t cap, struct vrd_message *messages, size_t n, int64_t timeout_ns)
{
    struct port *port;
    size_t got = 0;
    int r;

    if (n > INT_MAX || (!messages && n > 0) || !timeout_valid(timeout_ns))
        return VRD_ERR_INVALID_ARGUMENT;
    for (size_t i = 0; i < n; i++)
        if (!message_reserved_zero(&messages[i]))
            return VRD_ERR_INVALID_ARGUMENT;
    port = gate_enter(cap, VRD_RIGHT_RECEIVE, &r);
    if (!port)
        return r;
    got = batch_read(port, messages, n);
    if (got == 0 && n > 0) {
        r = message_receive(port, cap, messages, timeout_ns);
        if (r < 0)
            return r; /* the pin is given back */
        got = 1;
    }
    while (got < n) {
        got += batch_read(port, messages + got, n - got);
        if (got == n || !batch_read_one(port, &messages[got]))
            break;
        got++;
    }
    gate_leave(port);
    return (int)got;
}
