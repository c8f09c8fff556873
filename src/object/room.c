/* SPDX-License-Identifier: MIT */
#include "object/room.h"

#include "object/port.h"
#include "object/ready.h"
#include "object/sender.h"
#include "object/source.h"

#define CURSOR_PAUSE 8 /* between two loads of the cursor: each takes the line from the reader */

static uint32_t room_cursor_seen(const struct ring_writer *w)
{
    return w->limit - w->capacity;
}

/* Is it for the return of a loan, too? */
static bool room_wants_loans(const struct ring_writer *w)
{
    return w->loans && w->loans->wanting && w->loans->peer;
}

static bool room_look(struct port *port, const struct port_wait *wait)
{
    const struct ring_writer *w = &port->sender.ring;

    (void)wait;
    if (!w->cursor) /* the answer comes by post */
        return false;
    if (room_wants_loans(w) && loan_returned(w->loans))
        return true;
    for (int i = 0; i < CURSOR_PAUSE; i++)
        cpu_relax();
    /* relaxed: ring_writer_refresh loads it again, with acquire */
    return (uint32_t)__atomic_load_n(w->cursor, __ATOMIC_RELAXED) != room_cursor_seen(w);
}

/* Asks the owner to ring in this way for what `word`, one of our notices, then says. */
static void room_arm_notice(struct port *port, uint64_t *word, enum notice_ring how,
                            uint32_t awaited)
{
    uint64_t notice = (uint64_t)how << 40 | awaited;

    /* relaxed: nobody else writes it; the fence follows in port_doze */
    if (__atomic_load_n(word, __ATOMIC_RELAXED) == notice)
        return;
    if (how == RING_TETHER)
        source_await_ring(&port->sender.tether);
    __atomic_store_n(word, notice, __ATOMIC_RELAXED);
}

static void room_arm(struct port *port, const struct port_wait *wait)
{
    struct ring_writer *w = &port->sender.ring;
    enum notice_ring how = port_ring(port);

    (void)wait;
    if (!w->own)
        return;
    room_arm_notice(port, &w->own->notice, how, room_cursor_seen(w) + 1);
    if (room_wants_loans(w))
        room_arm_notice(port, &w->own->returns_notice, how, w->loans->returns + 1);
}

static size_t room_points(struct port *port, const struct port_wait *wait,
                          struct futex_point *points)
{
    const struct ring_writer *w = &port->sender.ring;
    size_t n = 0;

    (void)wait;
    if (!w->cursor)
        return 0;
    points[n++] =
        (struct futex_point){ .word = w->cursor, .value = room_cursor_seen(w), .shared = true };
    if (room_wants_loans(w))
        points[n++] = (struct futex_point){ .word = &w->loans->peer->returns,
                                            .value = w->loans->returns,
                                            .shared = true };
    return n;
}

static uint64_t room_ticket(const struct port *port, const struct port_wait *wait)
{
    const struct ring_writer *w = &port->sender.ring;
    uint64_t ticket = (uint64_t)port->sender.state << 32 | room_cursor_seen(w);

    (void)wait;
    return room_wants_loans(w) ? ticket * 31 + w->loans->returns + 1 : ticket;
}

bool room_peer_here(const struct port *port, const struct port_wait *wait)
{
    const struct ring_writer *w = &port->sender.ring;
    uint16_t cpu = w->cursor ? (uint16_t)(__atomic_load_n(w->cursor, __ATOMIC_RELAXED) >> 32) : 0;

    (void)wait;
    return cpu != 0 && cpu == cpu_current();
}

static const struct port_wait room_waits = {
    .look = room_look,
    .arm = room_arm,
    .points = room_points,
    .ticket = room_ticket,
    .peer_here = room_peer_here,
};

/* The owner's queue has no room for a HELLO, or for a frame: nothing tells when it has, but it will be soon. */
static bool room_is_of_a_queue(struct port *port)
{
    bool crowded = port->sender.crowded;

    port->sender.crowded = false; /* the next attempt tells */
    return crowded || port->sender.state == SENDER_NEW;
}

bool room_disappoint(struct port *port)
{
    if (!ready_wanted(port))
        return false;
    if (room_is_of_a_queue(port)) /* nobody will ring */
        ready_disarm(&port->ready);
    return ready_arm(port, &room_waits);
}

int room_wait(struct port *port, vrd_cap_t cap, int64_t deadline)
{
    if (room_is_of_a_queue(port))
        return port_nap(port, cap, HELLO_RETRY);
    return port_wait(port, cap, &room_waits, deadline);
}
