/* SPDX-License-Identifier: MIT */
#include "api/transfer.h"

#include "base/clock.h"
#include "link/look.h"
#include "object/call.h"
#include "object/intake.h"
#include "object/lender.h"
#include "object/room.h"
#include "os/cpu.h"

#define AGAIN 4    /* what is there may be nothing; then it is enough to say so */
#define LOOKS 1024 /* for about as long as an answer takes that is on its way */

int transfer_send_end(struct port *port, uint64_t notice)
{
    int r = sender_heed(port, notice);

    gate_leave(port);
    return r;
}

ssize_t transfer_receive_end(struct port *port, struct link *link, uint64_t notice, ssize_t n)
{
    link_ring(link, notice);
    gate_leave(port);
    return n;
}

uint64_t transfer_look(const struct port *port, const struct slot *slot)
{
    const struct ring_reader *ring = &port->receiver.current->ring;
    int looks = LOOKS;

    if (port->receiver.n_active != 1)
        return 0;
    if (slot_cpu(ring->last) != 0 && slot_cpu(ring->last) == cpu_current()) {
        if (!cpu_yield_cheaply()) /* the sender cannot run while we look */
            return 0;
        looks = 1;
    }
    return slot_await_like(slot, ring->position + 1, looks, ring->last);
}

/* What there is to do after a message was written, when `before` had been. */
static int send_written(struct port *port, uint32_t before)
{
    if (port->sender.state == SENDER_LINKED)
        return sender_unanswered(port, before);
    return sender_heed(port, sender_notice(&port->sender.ring, before));
}

/* The same for a call: if it was not sent, it has to be ended. */
static int send_called(struct port *port, const struct ring_message *message, uint32_t before)
{
    struct calls *calls = port->sender.calls;
    int r;

    call_begin(calls, (int)message->call - 1, before + 1);
    r = send_written(port, before);
    if (r < 0)
        call_end(port, calls);
    return r;
}

/* There will be room in the ring, or an entry for an answer. */
static bool send_may_wait(int r)
{
    return r == VRD_ERR_CHANNEL_FULL || r == VRD_ERR_ENDPOINT_BUSY;
}

/* Writes the message, whose payload is where it has to be. */
static int send_placed(struct port *port, struct ring_message *message, uint32_t *ret_before)
{
    struct ring_writer *w = &port->sender.ring;
    int r = 0;

    if (message->call != 0)
        r = call_pick(port, &message->call);
    if (r == 0 && message->carried)
        r = sender_carry(port, message);
    *ret_before = w->position;
    return r == 0 ? ring_write(w, message) : r;
}

/* Writes the message, on a link in good order. */
static int send_write(struct port *port, struct ring_message *message)
{
    bool lent = message->block != NULL;
    uint32_t before = 0;
    int r = 0;

    if (!lent && message->len >= LENDER_COPY_FROM)
        r = lender_copy(port, message);
    if (r == 0 && message->len > SLOT_INLINE_MAX && !message->block)
        r = sender_prepare(port, message->len);
    if (r == 0) {
        r = send_placed(port, message, &before);
        if (r < 0 && !lent && message->block)
            lender_give(port, message->block);
    }
    if (!lent || r == 0) /* what was lent is not the caller's any more */
        message->block = NULL;
    if (r == 0)
        r = message->call != 0 ? send_called(port, message, before) : send_written(port, before);
    if (lent && r == 0) { /* else, if it is lent, it was so over a link that has ended */
        lender_unhold(port->sender.lender);
        message->lender = NULL;
    }
    return r;
}

/*
 * No room for a loan: until something returns, or the cursor moves from where it is now. But if the ring is
 * full, until it moves from where it was when that was found: by now there may be room, and nothing
 * left that the receiver could take.
 */
static int send_lent_out(struct ring_writer *w, const struct ring_message *message)
{
    if (message->block && w->position == w->limit)
        return VRD_ERR_CHANNEL_FULL;
    return ring_writer_refresh(w) == VRD_ERR_PEER_CORRUPT ? VRD_ERR_PEER_CORRUPT
                                                          : VRD_ERR_CHANNEL_FULL;
}

/* One attempt. */
static int send_try(struct port *port, struct ring_message *message)
{
    int r = 0;

    if (atomic_load_explicit(&port->attention, memory_order_relaxed) != 0)
        r = sender_attend(port);
    if (r == 0)
        r = message->borrows ? lender_take(port, message->len, &message->block)
                             : send_write(port, message);
    if (r == VRD_ERR_CHANNEL_FULL && (message->borrows || message->block))
        r = send_lent_out(&port->sender.ring, message);
    if (send_may_wait(r) && port->sender.state == SENDER_LINKED) {
        int full = r;

        /* The owner's answer may be here and not yet posted: with it come the cursor, which makes
         * room, and the answers to calls, which make entries free. */
        atomic_store_explicit(&port->attention, 1, memory_order_relaxed);
        r = sender_attend(port);
        if (r == 0)
            r = port->sender.state == SENDER_ANSWERED ? send_try(port, message) : full;
    }
    if (r == VRD_ERR_CHANNEL_FULL && port->sender.state == SENDER_ANSWERED)
        r = sender_full(port);
    if (r == VRD_ERR_PEER_GONE && port->sender.state != SENDER_NEW &&
        port->sender.state != SENDER_ENDED)
        return sender_broken(port);
    return r == VRD_ERR_PEER_CORRUPT && port->sender.state != SENDER_ENDED ? sender_corrupt(port)
                                                                           : r;
}

/* The result was to be `r`: who wants to be told when there is room will be, unless there is some. */
static int send_disappointed(struct port *port, struct ring_message *message, int r)
{
    for (int i = 0; i < AGAIN; i++) {
        int again;

        if (!room_disappoint(port))
            return r;
        again = send_try(port, message);
        if (!send_may_wait(again))
            return again;
    }
    ready_hint(port);
    return r;
}

int transfer_send_keep(struct port *port, vrd_cap_t cap, struct ring_message *message,
                       int64_t timeout_ns)
{
    int64_t deadline = 0;
    int r;

    if (!timeout_valid(timeout_ns) || (!message->data && message->len > 0 && !message->borrows)) {
        r = VRD_ERR_INVALID_ARGUMENT;
    } else if (message->len > port->max_message) {
        r = VRD_ERR_MESSAGE_TOO_LARGE;
    } else {
        r = send_try(port, message);
        if (send_may_wait(r) && timeout_ns != 0)
            deadline = clock_deadline(timeout_ns);
    }
    while (send_may_wait(r) && timeout_ns != 0) {
        if (deadline != CLOCK_NEVER && clock_now() >= deadline) {
            r = VRD_ERR_TIMEOUT;
            break;
        }
        r = r == VRD_ERR_CHANNEL_FULL ? room_wait(port, cap, deadline)
                                      : call_hunger(port, cap, deadline);
        if (r < 0)
            return r; /* closed: the pin is given back */
        r = send_try(port, message);
    }
    if (send_may_wait(r) || r == VRD_ERR_TIMEOUT)
        r = send_disappointed(port, message, r);
    if (r < 0)
        gate_leave(port);
    return r;
}

int transfer_send(struct port *port, vrd_cap_t cap, struct ring_message *message,
                  int64_t timeout_ns)
{
    int r = transfer_send_keep(port, cap, message, timeout_ns);

    if (r == 0)
        gate_leave(port);
    return r;
}

/* The result was to be `r`: who wants to be told of a message will be, unless there is one. */
static int receive_disappointed(struct port *port, struct ring_message *message, size_t size,
                                struct link **ret_link, int r)
{
    for (int i = 0; i < AGAIN; i++) {
        int again;

        if (!receiver_disappoint(port))
            return r;
        again = intake_take(port, message, size, ret_link);
        if (again != VRD_ERR_CHANNEL_EMPTY)
            return again;
    }
    ready_hint(port);
    return r;
}

int transfer_receive(struct port *port, vrd_cap_t cap, struct ring_message *message, size_t size,
                     int64_t timeout_ns, struct link **ret_link)
{
    int64_t deadline = 0;
    int r;

    if (!timeout_valid(timeout_ns) || (!message->data && size > 0)) {
        gate_leave(port);
        return VRD_ERR_INVALID_ARGUMENT;
    }
    r = intake_take(port, message, size, ret_link);
    if (r == VRD_ERR_CHANNEL_EMPTY && timeout_ns == 0 && receiver_refresh(port))
        r = intake_take(port, message, size, ret_link);
    if (r == VRD_ERR_CHANNEL_EMPTY && timeout_ns != 0)
        deadline = clock_deadline(timeout_ns);
    while (r == VRD_ERR_CHANNEL_EMPTY && timeout_ns != 0) {
        if (deadline != CLOCK_NEVER && clock_now() >= deadline) {
            r = VRD_ERR_TIMEOUT;
            break;
        }
        r = receiver_wait(port, cap, deadline);
        if (r < 0)
            return r; /* closed: the pin is given back */
        r = intake_take(port, message, size, ret_link);
    }
    if (r == VRD_ERR_CHANNEL_EMPTY || r == VRD_ERR_TIMEOUT)
        r = receive_disappointed(port, message, size, ret_link, r);
    if (r < 0)
        gate_leave(port);
    return r;
}
