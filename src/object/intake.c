/* SPDX-License-Identifier: MIT */
#include "object/intake.h"

#include <stdlib.h>
#include <veridian/error.h>

#include "base/clock.h"
#include "object/borrower.h"
#include "object/carried.h"
#include "object/control.h"
#include "object/link.h"
#include "object/loss.h"
#include "object/owner.h"
#include "object/port.h"
#include "object/reactor.h"
#include "object/ready.h"
#include "object/receiver.h"
#include "object/relay.h"
#include "object/reply.h"
#include "object/source.h"
#include "object/turns.h"

#define QUIET 256            /* messages of others after which a silent link goes cold */
#define BUSY_POLL_NS 1000000 /* between two looks at the sockets while messages keep coming */

/* Has the tether brought the byte ring that a message names? Before the message, or never. */
static int intake_fetch(struct link *link, bool *ret_starved)
{
    int r;

    control_lock();
    for (int i = 0; i < OWNER_FETCHES && link->tether && (i == 0 || !link->tether->drained); i++)
        owner_source_ready(link->tether);
    link->starved |= link->tether && !link->tether->drained;
    *ret_starved = link->starved;
    r = link->corrupt ? VRD_ERR_PEER_CORRUPT : link_adopt(link);
    control_unlock();
    return r;
}

static int intake_read_any(struct link *link, uint64_t word, struct ring_message *message,
                           size_t size)
{
    int r = ring_read(&link->ring, word, message, size);
    bool starved;

    if (r != RING_NEEDS_EXTENSION)
        return r;
    if (intake_fetch(link, &starved) < 0)
        return VRD_ERR_PEER_CORRUPT;
    r = ring_read(&link->ring, word, message, size);
    if (r != RING_NEEDS_EXTENSION)
        return r;
    if (link->revoked) /* it was more than its quota: what is left goes unread */
        return VRD_ERR_CHANNEL_EMPTY;
    return starved ? VRD_ERR_OUT_OF_MEMORY : VRD_ERR_PEER_CORRUPT;
}

/* For a view: what was lent stays where it is, all else is copied to memory of the view's own. */
static int intake_read_view(struct link *link, uint64_t word, struct ring_message *message)
{
    void *copy;
    int r;

    message->data = NULL;
    r = intake_read_any(link, word, message, 0);
    if (r != VRD_ERR_MESSAGE_TOO_LARGE)
        return r;
    copy = malloc(message->len);
    message->kept = !copy;
    if (!copy)
        return VRD_ERR_OUT_OF_MEMORY;
    message->data = copy;
    r = ring_read(&link->ring, word, message, message->len);
    if (r == 0)
        return 0;
    free(copy);
    message->data = NULL;
    return VRD_ERR_PEER_CORRUPT; /* it has changed in between */
}

static int intake_read(struct link *link, uint64_t word, struct ring_message *message, size_t size)
{
    int r = message->wants_view ? intake_read_view(link, word, message)
                                : intake_read_any(link, word, message, size);

    if (r < 0 || !message->view.memory)
        return r;
    if (message->wants_view)
        borrower_hold(message->view.memory);
    else
        borrower_heed(link->borrower, message->view.returns);
    return r;
}

/* The message that was read for a view is nobody's. */
static void intake_drop_view(struct ring_message *message)
{
    if (message->view.memory)
        borrower_release(message->view.memory, message->view.loan);
    else
        free(message->data);
}

/* A call: to be answered by whoever received it, if it was by a function that says so. */
static int intake_call(struct port *port, struct link *link, struct ring_message *message)
{
    uint32_t entry = message->call - 1;

    if (!message->wants_calls)
        return reply_refuse(link, entry, message->sequence);
    message->reply = reply_new(port, link, entry, message->sequence);
    return message->reply != VRD_CAP_NONE ? 0 : VRD_ERR_PEER_CORRUPT;
}

/* What came with a message: before the message, or never. */
static int intake_carried(struct link *link, uint64_t id, struct carried **ret)
{
    bool starved = false, revoked;
    int r = 0;

    control_lock();
    *ret = carried_take(&link->carried, id);
    control_unlock();
    if (*ret)
        return 0;
    r = intake_fetch(link, &starved);
    if (r < 0)
        return r;
    control_lock();
    *ret = carried_take(&link->carried, id);
    revoked = link->revoked;
    control_unlock();
    if (*ret)
        return 0;
    if (revoked) /* just now: the message is nobody's */
        return VRD_ERR_CHANNEL_EMPTY;
    return starved ? VRD_ERR_OUT_OF_MEMORY : VRD_ERR_PEER_CORRUPT;
}

/* The rest of a message that was read from `link`: capabilities, and who awaits an answer. */
static int intake_unpack(struct port *port, struct link *link, struct ring_message *message)
{
    int r = 0;

    message->carried = NULL;
    if (unlikely(message->transfer != 0))
        r = intake_carried(link, message->transfer, &message->carried);
    if (r == 0 && message->call != 0)
        r = intake_call(port, link, message);
    if (r < 0 || !message->wants_caps)
        carried_free(&message->carried);
    return r;
}

/* After a message was taken from `link`, whichever it is. */
static void intake_took(struct receiver *rx, struct link *link)
{
    uint64_t notice = __atomic_load_n(link->ring.notice, __ATOMIC_RELAXED);

    if ((uint32_t)notice == link->ring.position)
        link_ring(link, notice);
    if (link == rx->current && rx->budget > 0) {
        rx->budget--;
        return;
    }
    link->heard = ++rx->heard;
    link->drain_left -= link->ending;
}

/* The message was there before the link was revoked, or it is not taken. */
static enum ring_state intake_peek(const struct link *link, uint64_t *ret_word)
{
    enum ring_state state = ring_peek(&link->ring, ret_word);

    /* relaxed, but behind the acquire of the word: a message published after the revocation comes
     * with it */
    return __atomic_load_n(&link->revoked, __ATOMIC_RELAXED) ? RING_EMPTY : state;
}

/* The link is over; nothing that it sent is left, or nothing that could be trusted. */
static void intake_retire(struct port *port, struct link *link, enum notice_cause cause)
{
    struct receiver *rx = &port->receiver;

    turns_leave(rx, link);
    reply_forget(rx, link,
                 loss_is_revocation((uint16_t)cause) ? VRD_ERR_REVOKED : VRD_ERR_PEER_GONE);
    if (rx->oversize == link)
        rx->oversize = NULL;
    control_lock();
    rx->n_links--;
    /* A forked child of the sender may hold the tether and say HELLO over it. */
    link_free(link, cause, cause == NOTICE_CLOSED);
    rx->gone = rx->n_links == 0 && list_empty(&rx->sources);
    if (rx->gone) { /* nobody else tells those who sleep beside this thread, or watch */
        ready_post(port);
        port_wake(port);
    }
    control_unlock();
}

/* The current link: a result of intake_take, or CHANNEL_EMPTY after which the next is looked at. */
static int intake_take_current(struct port *port, struct ring_message *message, size_t size)
{
    struct receiver *rx = &port->receiver;
    struct link *link = rx->current;
    uint64_t word;
    int r;

    switch (link->ending && link->drain_left == 0 ? RING_EMPTY : intake_peek(link, &word)) {
    case RING_READY:
        r = intake_read(link, word, message, size);
        if (r < 0)
            break;
        r = intake_unpack(port, link, message);
        if (r < 0 && message->wants_view)
            intake_drop_view(message);
        break;
    case RING_CORRUPT:
        r = VRD_ERR_PEER_CORRUPT;
        break;
    default:
        r = link->broken ? VRD_ERR_PEER_CORRUPT : VRD_ERR_CHANNEL_EMPTY;
        break;
    }
    if (r == 0) {
        intake_took(rx, link);
    } else if (r == VRD_ERR_MESSAGE_TOO_LARGE) {
        rx->oversize = link;
        rx->oversize_at = link->ring.position;
        turns_next(rx);
    } else if (r == VRD_ERR_PEER_CORRUPT) {
        intake_retire(port, link, NOTICE_CORRUPT);
    } else if (r == VRD_ERR_OUT_OF_MEMORY && message->kept) {
        turns_next(rx);
    } else if (link->ending || r == VRD_ERR_OUT_OF_MEMORY) {
        intake_retire(port, link, link->revoked ? link->revoked : NOTICE_CLOSED);
    } else {
        turns_next(rx);
        if (rx->n_active > 1 && rx->heard - link->heard > QUIET)
            turns_cool(rx, link);
    }
    return r;
}

/* Between turns: a link that never falls silent must not keep others from being heard. */
static void intake_housekeep(struct port *port)
{
    struct receiver *rx = &port->receiver;

    turns_look_again(rx);
    if (!reactor_running() && clock_now() - rx->polled > BUSY_POLL_NS) {
        receiver_poll(port);
        if (port_news(port))
            receiver_adopt(port);
    }
}

int intake_take(struct port *port, struct ring_message *message, size_t size,
                struct link **ret_link)
{
    struct receiver *rx = &port->receiver;

    if (rx->pending_error < 0) {
        int r = rx->pending_error;

        rx->pending_error = 0;
        return r;
    }
    if (message->wants_calls && pending_reserve(&rx->pending) < 0)
        return VRD_ERR_OUT_OF_MEMORY;
    if (port_news(port)) {
        relay_adopt(port);
        receiver_adopt(port);
    }
    if (rx->budget == 0 && rx->current) {
        turns_next(rx);
        intake_housekeep(port);
    }
    for (uint32_t n = rx->n_active; n > 0 && rx->current; n--) {
        struct link *link = rx->current;
        int r = intake_take_current(port, message, size);

        if (r == VRD_ERR_MESSAGE_TOO_LARGE) /* nothing is taken: no turn will end, and look */
            intake_housekeep(port);
        if (r != VRD_ERR_CHANNEL_EMPTY) {
            *ret_link = r == 0 ? link : NULL;
            return r;
        }
    }
    return rx->gone ? VRD_ERR_PEER_GONE : VRD_ERR_CHANNEL_EMPTY;
}

bool intake_take_more(struct port *port, struct ring_message *message, size_t size,
                      struct link **ret_link)
{
    struct receiver *rx = &port->receiver;
    int r = intake_take(port, message, size, ret_link);

    if (r == 0)
        return true;
    if (r == VRD_ERR_MESSAGE_TOO_LARGE) { /* found again; vrd_discard is for one that was told of */
        rx->oversize = NULL;
    } else if (r == VRD_ERR_PEER_CORRUPT || r == VRD_ERR_OUT_OF_MEMORY) {
        rx->pending_error = r;
        turns_count(rx);
        rx->granted = rx->budget = 0; /* the fast path would go past it */
    }
    return false;
}

int intake_discard(struct port *port)
{
    struct receiver *rx = &port->receiver;
    struct link *link = rx->oversize;
    struct carried *carried = NULL;
    uint64_t word, transfer;
    uint32_t loan;
    int r = 0;

    rx->oversize = NULL;
    if (!link || link->revoked || link->ring.position != rx->oversize_at ||
        ring_peek(&link->ring, &word) != RING_READY)
        return VRD_ERR_CHANNEL_EMPTY;
    transfer = slot_transfer(ring_slot(&link->ring), word);
    loan = ring_drop(&link->ring, word);
    if (loan != 0 && link->borrower)
        borrower_return(link->borrower, loan);
    intake_took(rx, link);
    if (transfer != 0)
        r = intake_carried(link, transfer, &carried);
    carried_free(&carried);
    if (r == 0 && port->object == VRD_OBJECT_ENDPOINT && slot_caller(word) != 0)
        r = reply_refuse(link, slot_caller(word) - 1, link->ring.position);
    if (r < 0)
        intake_retire(port, link, link->revoked ? link->revoked : NOTICE_CORRUPT);
    return 0;
}
