/* SPDX-License-Identifier: MIT */
#include "object/receiver.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "object/control.h"
#include "object/link.h"
#include "object/owner.h"
#include "object/port.h"
#include "object/reactor.h"
#include "object/ready.h"
#include "object/relay.h"
#include "object/revoke.h"
#include "object/source.h"
#include "object/turns.h"
#include "os/futex.h"

#define HOT_MAX 16           /* links that a sleeping receiver watches itself */
#define BUSY_POLL_NS 1000000 /* a caller is kept no longer by new sockets */
#define POLL_NS 20000        /* between two looks at the sockets while a caller polls */
#define START_RETRY_NS 1000000
#define NESTED_MAX 16  /* derivations that nobody has looked at, one from the other */
#define NESTED_USUAL 4 /* rounds: an invitation, a HELLO over it, and what came with that */
#define RIGHTS_ROOT (VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

_Static_assert(HOT_MAX < FUTEX_POINTS_MAX, "one point is the bell");

void receiver_init(struct port *port)
{
    struct receiver *rx = &port->receiver;

    list_init(&rx->active);
    list_init(&rx->cooling);
    list_init(&rx->sources);
    list_init(&rx->links);
    list_init(&rx->posted);
    node_init(&rx->tree, RIGHTS_ROOT);
    rx->polled_heard = UINT64_MAX; /* never */
    rx->ours = true;
}

/* --- sockets: pin held ------------------------------------------------------------------------ */

/* Control lock held. What cannot be watched now, for want of descriptors, is tried again. */
static void receiver_start(struct receiver *rx)
{
    if (rx->moving)
        return;
    rx->started = rx->ours = true;
    list_foreach(node, &rx->sources)
        if (source_watch(list_entry(node, struct source, node)) < 0)
            rx->started = false;
}

/* Handles what is ready; with it may come sockets with more, which are looked at too. */
static void receiver_poll_all(struct receiver *rx)
{
    int64_t started = clock_now();
    uint32_t before, after;

    control_lock();
    if (!rx->started)
        receiver_start(rx);
    after = rx->n_conferred;
    control_unlock();
    /* beyond the usual, not for long: a flood of new sockets would keep a caller that is not to wait */
    for (int i = 0; i < NESTED_MAX && (i < NESTED_USUAL || clock_now() - started < BUSY_POLL_NS);
         i++) {
        before = after;
        reactor_poll();
        control_lock();
        after = rx->n_conferred;
        control_unlock();
        if (after == before)
            return;
    }
}

void receiver_poll(struct port *port)
{
    struct receiver *rx = &port->receiver;

    turns_count(rx);
    rx->polled_heard = rx->heard;
    rx->sent_seen = reactor_sent_count();
    receiver_poll_all(rx);
    rx->polled = clock_now();
}

bool receiver_refresh(struct port *port)
{
    struct receiver *rx = &port->receiver;

    turns_count(rx);
    if (rx->started && rx->heard == rx->polled_heard && reactor_sent_count() == rx->sent_seen &&
        clock_now() - rx->polled < POLL_NS)
        return false;
    receiver_poll(port);
    turns_look_again(rx);
    return true;
}

void receiver_adopt(struct port *port)
{
    struct receiver *rx = &port->receiver;

    control_lock();
    /* acquire: pairs with the release in port_post */
    atomic_fetch_and_explicit(&port->attention, ~PORT_NEWS, memory_order_acquire);
    list_foreach(node, &rx->posted) {
        struct link *link = list_entry(node, struct link, posted);

        list_remove(&link->posted);
        if (link->state == LINK_NEW) /* who has just come mostly has something to say */
            port_hope(port);
        if (link_adopt(link) < 0)
            link->corrupt = true;
        link->broken = link->corrupt && !link->revoked;
        if (link->ended && !link->ending) {
            link->ending = true;
            link->drain_left = link->ring.mask + 1;
            if (link == rx->current) {
                turns_count(rx);
                turns_grant(rx);
            }
        }
        if (link->revoked)
            link->drain_left = 0;
        turns_join(rx, link);
    }
    rx->gone = rx->n_links == 0 && list_empty(&rx->sources);
    if (rx->n_answers > 0) /* not ours to see to: the next receive does */
        atomic_fetch_or_explicit(&port->attention, PORT_NEWS, memory_order_relaxed);
    control_unlock();
}

/* --- waiting: pin held ------------------------------------------------------------------------ */

static bool receiver_look(struct port *port, const struct port_wait *wait)
{
    struct receiver *rx = &port->receiver;
    uint64_t word;

    (void)wait;
    turns_look_again(rx); /* also before sleeping for good: by then all of them are due */
    list_foreach(node, &rx->active) {
        const struct link *link = list_entry(node, struct link, node);

        if (ring_peek(&link->ring, &word) != RING_EMPTY || link->ending)
            return true;
    }
    return false;
}

static void receiver_arm(struct port *port, const struct port_wait *wait)
{
    struct receiver *rx = &port->receiver;
    enum notice_ring how = port_ring(port);

    (void)wait;
    while (rx->n_active > HOT_MAX) {
        uint32_t before = rx->n_active;

        turns_cool(rx, list_entry(rx->active.next, struct link, node));
        if (rx->n_active == before) /* it has a message: no sleep now */
            return;
    }
    list_foreach(node, &rx->active)
        link_arm(list_entry(node, struct link, node), how);
}

static size_t receiver_points(struct port *port, const struct port_wait *wait,
                              struct futex_point *points)
{
    struct receiver *rx = &port->receiver;
    size_t n = 0;

    (void)wait;
    list_foreach(node, &rx->active) {
        const struct link *link = list_entry(node, struct link, node);
        const uint64_t *word = &link->ring.slots[link->ring.position & link->ring.mask].word;

        if (n == HOT_MAX)
            break;
        points[n++] = (struct futex_point){
            .word = word,
            .value = (uint32_t)__atomic_load_n(word, __ATOMIC_RELAXED),
            .shared = true,
        };
    }
    return n;
}

static uint64_t receiver_ticket(const struct port *port, const struct port_wait *wait)
{
    const struct receiver *rx = &port->receiver;
    uint64_t ticket = rx->n_active;

    (void)wait;
    list_foreach(node, &rx->active)
        ticket = ticket * 31 + list_entry(node, struct link, node)->ring.position;
    return ticket;
}

static bool receiver_peer_here(const struct port *port, const struct port_wait *wait)
{
    const struct receiver *rx = &port->receiver;

    (void)wait;
    uint16_t cpu = rx->current ? slot_cpu(rx->current->ring.last) : 0;

    return cpu != 0 && cpu == cpu_current();
}

static const struct port_wait receiver_waits = {
    .look = receiver_look,
    .arm = receiver_arm,
    .points = receiver_points,
    .ticket = receiver_ticket,
    .peer_here = receiver_peer_here,
};

bool receiver_disappoint(struct port *port)
{
    return ready_wanted(port) && ready_arm(port, &receiver_waits);
}

int receiver_wait(struct port *port, vrd_cap_t cap, int64_t deadline)
{
    struct receiver *rx = &port->receiver;

    if (!rx->started && receiver_refresh(port))
        return rx->started ? 0 : port_nap(port, cap, START_RETRY_NS);
    return port_wait(port, cap, &receiver_waits, deadline);
}

/* --- life: pin and control lock held ---------------------------------------------------------- */

static void receiver_free_sources(struct receiver *rx)
{
    list_foreach(node, &rx->sources) {
        struct source *source = list_entry(node, struct source, node);

        source_free(&source);
    }
}

void receiver_close(struct port *port)
{
    struct receiver *rx = &port->receiver;

    list_foreach(node, &rx->links)
        link_free(list_entry(node, struct link, all), NOTICE_CLOSED, false);
    receiver_free_sources(rx);
    relay_forget(port);
    pending_deinit(&rx->pending);
    rx->current = NULL;
    rx->n_active = rx->n_links = 0;
}

/* Links are the parent's. The sockets that confer rights are shared, but not the tethers. */
void receiver_after_fork(struct port *port)
{
    struct receiver *rx = &port->receiver;

    list_foreach(node, &rx->links)
        link_forget(list_entry(node, struct link, all));
    list_foreach(node, &rx->sources) {
        struct source *source = list_entry(node, struct source, node);

        source->watched = false;
        if (source->kind == SOURCE_LINK || source->fd < 0) /* of a link that was over, or lost */
            source_free(&source);
    }
    relay_forget(port);
    pending_forget(&rx->pending);
    rx->current = rx->oversize = NULL;
    rx->n_active = rx->n_links = 0;
    rx->budget = rx->granted = 0;
    rx->polled_heard = UINT64_MAX;
    rx->pending_error = 0;
    rx->started = rx->ours = rx->gone = rx->moving = false;
    list_init(&rx->active);
    list_init(&rx->cooling);
    list_init(&rx->links);
    list_init(&rx->posted);
}

/* --- what the reactor finds: control lock held ------------------------------------------------ */

void receiver_post(struct port *port, struct link *link)
{
    if (link && list_empty(&link->posted))
        list_append(&port->receiver.posted, &link->posted);
    port_post(port);
}

void receiver_revoke(struct port *port, bool too)
{
    struct receiver *rx = &port->receiver;

    control_lock();
    if (!too && rx->ours) /* what was derived may be waiting there, unread */
        owner_read_all(&rx->tree, NULL);
    revoke_below(port, &rx->tree, too);
    control_unlock();
    receiver_adopt(port);
    revoke_settle();
}

bool receiver_pump(vrd_cap_t cap)
{
    struct handle *handle = handle_find(cap);
    struct port *port = port_of(handle);
    bool here;

    control_lock();
    here = handle && handle->cap == cap && port->kind == PORT_RECEIVER && port->receiver.ours &&
           !port->receiver.moving;
    if (here) {
        struct list *first = port->receiver.sources.next;

        receiver_start(&port->receiver);
        /* The root by name: among many ready sources, its turn may be far off. */
        if (first != &port->receiver.sources)
            owner_source_ready(list_entry(first, struct source, node));
    }
    control_unlock();
    if (here)
        reactor_poll();
    return here;
}
