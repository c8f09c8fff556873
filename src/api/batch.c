/* SPDX-License-Identifier: MIT */
/*
 * Many messages a call: the gate, the notice, the reader's cursor and the writer's once for all of them.
 */
#include <limits.h>
#include <veridian/async_channel.h>

#include "api/message.h"
#include "api/transfer.h"
#include "object/intake.h"
#include "os/cpu.h"

/*
 * Of messages that no slot holds: behind so many bytes a batch ends, so that the caller still finds all of
 * it in the L1 cache.
 */
#define BYTES ((size_t)16 << 10)

/* As gate_enter. */
static struct port *batch_enter(vrd_cap_t cap, uint32_t right, enum gate_use use, int *ret_error)
{
    struct port *port = gate_last(pin_self, cap, use);

    return port && gate_try(pin_self, port, cap) ? port : gate_enter(cap, right, ret_error);
}

/* --- sending ---------------------------------------------------------------------------------- */

/* Nothing travels with it but its data? */
hot_inline bool batch_is_plain(const struct vrd_message *message)
{
    return likely(message->n_caps == 0 && message_reserved_zero(message) &&
                  (message->data || message->len == 0));
}

/* Writes those of messages[0..n) that are small, plain and have room. How many? */
static size_t batch_write_small(struct port *port, const struct vrd_message *messages, size_t n)
{
    struct ring_writer *w = &port->sender.ring;
    struct slot *const slots = w->slots;
    const size_t small_max = port->sender.small_max;
    const uint32_t position = w->position, mask = w->mask, room = w->limit - position;
    const size_t most = n < room ? n : room;
    const uint16_t cpu = cpu_current();
    size_t i;

    for (i = 0; i < most; i++) {
        const struct vrd_message *message = &messages[i];
        const uint32_t at = position + (uint32_t)i;
        struct slot *slot = &slots[at & mask];
        unsigned kind;

        if (unlikely(message->len > small_max || !batch_is_plain(message)))
            break;
        kind = slot_put_small(slot, message->data, message->len, message->opcode, message->flags);
        slot_publish(slot, slot_word_on(cpu, at + 1, message->len, kind));
    }
    w->position = position + (uint32_t)i;
    return i;
}

/* Writes those that need nothing but room. How many? */
static size_t batch_write(struct port *port, const struct vrd_message *messages, size_t n)
{
    struct ring_writer *w = &port->sender.ring;
    size_t i = 0;

    if (w->limit - w->position < n)
        ring_writer_refresh(w); /* if it finds anything wrong, that is found again without room */
    for (;;) {
        const struct vrd_message *message;

        i += batch_write_small(port, messages + i, n - i);
        message = &messages[i];
        if (i == n || !batch_is_plain(message) ||
            !transfer_send_bytes(port, message->data, message->len, message->opcode,
                                 message->flags))
            return i;
        i++;
    }
}

/* Those at the front that need nothing but room; wakes once for all. 0, or why it ends here. */
static int batch_send_plain(struct port *port, const struct vrd_message *messages, size_t n,
                            size_t *sent)
{
    uint32_t before = port->sender.ring.position;
    uint64_t notice;
    size_t written;
    int r;

    if (atomic_load_explicit(&port->attention, memory_order_relaxed) != 0)
        return 0;
    written = batch_write(port, messages, n);
    if (written == 0)
        return 0;
    notice = sender_notice(&port->sender.ring, before);
    r = notice == 0 ? (int)written : sender_heed_batch(port, notice, (uint32_t)written);
    if (r > 0)
        *sent += (size_t)r;
    return r >= 0 && (size_t)r < written ? VRD_ERR_PEER_GONE : r < 0 ? r : 0;
}

/*
 * One after the other, up to one with capabilities; counts those that were sent. Gives the pin back.
 */
static int batch_send(struct port *port, vrd_cap_t cap, const struct vrd_message *messages,
                      size_t n, int64_t timeout_ns, size_t *sent)
{
    int r;

    *sent = 0;
    for (;;) {
        struct ring_message next;

        r = batch_send_plain(port, messages + *sent, n - *sent, sent);
        if (r < 0 || *sent == n || messages[*sent].n_caps != 0)
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

/*
 * As many as need the pin of `cap` only; or else one, with capabilities. Counts those that were sent.
 */
static int batch_send_some(vrd_cap_t cap, const struct vrd_message *messages, size_t n,
                           int64_t timeout_ns, size_t *ret_sent)
{
    struct port *port;
    int r;

    if (n > 0 && messages->n_caps != 0) {
        r = vrd_send_message(cap, messages, timeout_ns);
        *ret_sent = r == 0;
        return r;
    }
    *ret_sent = 0;
    port = batch_enter(cap, VRD_RIGHT_SEND, GATE_SEND, &r);
    return port ? batch_send(port, cap, messages, n, timeout_ns, ret_sent) : r;
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

/* --- receiving -------------------------------------------------------------------------------- */

/* Is this a place for a message of `len` bytes? */
hot_inline bool batch_holds(const struct vrd_message *message, size_t len)
{
    return likely(message->size >= len && (message->data || message->size == 0) &&
                  message_reserved_zero(message));
}

/* Copies the message at the reader's position out, if it is plain and fits. */
static bool batch_take_one(struct link *link, uint64_t word, struct vrd_message *message)
{
    const struct slot *slot = ring_slot(&link->ring);
    struct ring_message in = { 0 };
    ssize_t len;

    slot_get_meta(slot, word, &in);
    if (!batch_holds(message, 0) || in.transfer != 0)
        return false;
    if (slot_is_inline(word, false))
        len = slot_copy_small(slot, word, message->data, message->size);
    else
        len = ring_copy_bytes(&link->ring, word, message->data, message->size);
    if (len < 0)
        return false;
    in.len = (size_t)len;
    link->ring.position++;
    message_in(message, &in, link);
    return true;
}

/* What is left of the bytes of a batch behind a message; small ones do not count. */
hot_inline size_t batch_left(size_t left, size_t len)
{
    if (likely(len <= SLOT_INLINE_MAX))
        return left;
    return left > len ? left - len : 0;
}

/* Copies the small message with this word out, if it is plain and fits. */
hot_inline bool batch_take_small(struct link *link, uint64_t word, struct vrd_message *message)
{
    const struct ring_message in = { .len = (word >> 32) & 0xff };

    if (unlikely(!slot_fits(word, SLOT_INLINE_MAX) || !batch_holds(message, in.len)))
        return false;
    copy_small(message->data, slot_payload_read(ring_slot(&link->ring)), in.len);
    message_fill(message, &in, link->badge, link->source);
    link->ring.position++;
    return true;
}

/*
 * Takes plain messages from the current link, and says once how far it is. How many? The news are
 * looked at behind the acquire of each word: what was revoked before that was published is posted.
 */
static size_t batch_read(struct port *port, struct vrd_message *messages, size_t n, size_t *left)
{
    struct receiver *rx = &port->receiver;
    struct link *link = rx->current;
    size_t most = n < rx->budget ? n : rx->budget;
    size_t got = 0;
    uint64_t word, last = 0;

    while (*left > 0 && got < most && ring_peek(&link->ring, &word) == RING_READY) {
        struct vrd_message *message = &messages[got];

        if (unlikely(port_news(port)) ||
            !(slot_is_small(word) ? batch_take_small(link, word, message)
                                  : batch_take_one(link, word, message)))
            break;
        *left = batch_left(*left, message->len);
        last = word;
        got++;
    }
    if (got > 0) {
        link->ring.last = last;
        ring_publish_cursor(&link->ring);
        receiver_took_batch(rx, link, (uint32_t)got);
    }
    return got;
}

/* One more, if it is there. */
static bool batch_read_one(struct port *port, struct vrd_message *message)
{
    struct ring_message in = { .data = message->data, .wants_caps = message->max_caps > 0 };
    struct link *link;

    if (!batch_holds(message, 0) || !intake_take_more(port, &in, message->size, &link))
        return false;
    message_in(message, &in, link);
    carry_in(message, in.carried);
    return true;
}

/* Nothing there yet? Looks a little longer at the one link, before anything slower is tried. */
static void batch_look(const struct port *port)
{
    const struct ring_reader *ring;
    uint64_t word;

    if (port->receiver.budget == 0 || port_news(port))
        return;
    ring = &port->receiver.current->ring;
    if (ring_peek(ring, &word) == RING_EMPTY)
        transfer_look(port, ring_slot(ring));
}

/* Is this all there is? Then nobody has to look more closely before it is handed out. */
static bool batch_at_end(const struct port *port)
{
    const struct receiver *rx = &port->receiver;
    uint64_t word;

    return rx->n_active == 1 && rx->budget > 0 && !port_news(port) &&
           ring_peek(&rx->current->ring, &word) == RING_EMPTY;
}

int vrd_receive_batch(vrd_cap_t cap, struct vrd_message *messages, size_t n, int64_t timeout_ns)
{
    size_t left = BYTES;
    struct port *port;
    size_t got = 0;
    int r;

    if (n > INT_MAX || !timeout_valid(timeout_ns) ||
        (n > 0 && (!messages || !message_reserved_zero(messages))))
        return VRD_ERR_INVALID_ARGUMENT;
    port = batch_enter(cap, VRD_RIGHT_RECEIVE, GATE_RECEIVE, &r);
    if (!port)
        return r;
    if (n > 0 && timeout_ns != 0)
        batch_look(port);
    got = batch_read(port, messages, n, &left);
    if (got == 0 && n > 0) {
        r = message_receive(port, cap, messages, timeout_ns);
        if (r < 0)
            return r; /* the pin is given back */
        left = batch_left(left, messages->len);
        got = 1;
    }
    while (got < n && left > 0) {
        got += batch_read(port, messages + got, n - got, &left);
        if (got == n || left == 0 || batch_at_end(port) || !batch_read_one(port, &messages[got]))
            break;
        left = batch_left(left, messages[got].len);
        got++;
    }
    gate_leave(port);
    return (int)got;
}
