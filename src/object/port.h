/* SPDX-License-Identifier: MIT */
/*
 * port.h - what a capability is in this process: one side of a channel, and how its threads wait.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <veridian/capability.h>

#include "base/arith.h"
#include "cap/handle.h"
#include "link/layout.h"
#include "object/ready.h"
#include "object/receiver.h"
#include "object/region.h"
#include "object/relay.h"
#include "object/sender.h"
#include "os/futex.h"

enum port_kind { PORT_NONE, PORT_SENDER, PORT_RECEIVER, PORT_REGION, PORT_REPLY };

struct port {
    struct handle handle; /* its pin guards this port; first */
    /* These two go on when the entry is used again: whoever slept on the port before may be late. */
    atomic_uint bell; /* rung for all who sleep; counts, so that no ring is ever lost   */
    atomic_uint sleepers;
    uint64_t serial; /* of the last call that came (pin); one number never names two calls */
    enum port_kind kind;
    enum vrd_object_kind object;
    uint32_t depth;        /* derivations from the object's root */
    enum vrd_loss loss;    /* why it is lost (control lock) */
    uint64_t badge;        /* of all that is sent with it; 0: none */
    uint32_t capacity;     /* of each link, in messages */
    uint64_t max_message;  /* bytes */
    uint64_t max_bytes;    /* that are lent over a link, at a time */
    uint32_t memory;       /* what its segments are made of, see memory.h */
    atomic_uint attention; /* 0, or PORT_*: the fast path of sending has to look closer      */
    uint64_t armed;    /* the ticket for which the other side was last asked to ring (pin)      */
    bool moving;       /* on its way to somebody else, in a message (pin)                       */
    vrd_cap_t closing; /* an endpoint, in two steps: its number before (control lock)        */
    bool by_tether;    /* ring so, whatever else would do (pin)                                 */
    struct ready ready;
    uint32_t spin; /* ns worth spinning before sleeping, learnt (pin) */
    bool hopes;    /* the next time, as long as it ever is (pin) */
    union {
        struct sender sender;
        struct receiver receiver;
        struct region region;
        struct reply_holder reply;
    };
};

#define PORT_NEWS 1U      /* something is posted: see to it under the control lock */
#define PORT_UNSETTLED 2U /* a sender in any state but ANSWERED (pin)              */

_Static_assert(sizeof(struct port) <= HANDLE_ENTRY_SIZE, "a port fits its table entry");

static inline struct port *port_of(struct handle *handle)
{
    return (struct port *)handle;
}

static inline bool port_news(const struct port *port)
{
    return atomic_load_explicit(&port->attention, memory_order_relaxed) & PORT_NEWS;
}

/* A new port, not yet known to anyone; control lock held. port_show makes its number valid. `max_bytes`
 * is what follows from the rest. */
struct port *port_new(enum port_kind kind, uint32_t rights, uint32_t capacity, uint64_t max_message,
                      vrd_cap_t *ret_cap);
void port_show(struct port *port, vrd_cap_t cap);

/* What a link may lend if nobody says otherwise. */
#define PORT_BYTES_MIN (UINT64_C(16) << 20)
#define PORT_BYTES_MESSAGES 4

static inline uint64_t port_max_bytes(uint64_t max_message)
{
    uint64_t bytes = round_up(max_message, LAYOUT_PAGE) * PORT_BYTES_MESSAGES;

    return bytes > PORT_BYTES_MIN ? bytes : PORT_BYTES_MIN;
}

/* Gives the entry of a port back that was never shown; control lock held. */
void port_free(struct port *port);

/*
 * Closes: pin held, control lock not. Wakes those who wait, frees the entry, and gives the pin back.
 */
void port_close(struct port *port);

/* Something was posted. Control lock held; who sleeps is woken when it is free. */
void port_post(struct port *port);

/* Wakes all who sleep on the port: they look again. Any thread. */
void port_wake(struct port *port);

/* In a forked child: all ports become those of a process that has no links. */
void port_after_fork(void);

/*
 * How one side waits. What belongs to one wait stands around it (container_of).
 *  look    is there a reason to return? A few loads.
 *  arm     asks the other side to ring
 *  points  the words it will change; at most FUTEX_POINTS_MAX - 1
 * All with the pin held.
 */
struct port_wait {
    bool (*look)(struct port *port, const struct port_wait *wait);
    void (*arm)(struct port *port, const struct port_wait *wait);
    size_t (*points)(struct port *port, const struct port_wait *wait, struct futex_point *points);
    /* differs once what is awaited differs */
    uint64_t (*ticket)(const struct port *port, const struct port_wait *wait);
    /* was the other side last seen on this CPU? */
    bool (*peer_here)(const struct port *port, const struct port_wait *wait);
    bool alone; /* its notice is nobody else's */
};

/*
 * Something comes very soon, from whoever may not have run yet: the next wait spins for as long as any, and
 * lets others have this CPU meanwhile. Pin held.
 */
void port_hope(struct port *port);

/*
 * Waits until there may be something to do or `deadline` is near enough to look at the clock: first
 * spinning, then asleep. Returns 0 with the pin held (whatever happened: look again), or
 * VRD_ERR_INVALID_CAPABILITY with the pin given back (the capability was closed meanwhile).
 */
int port_wait(struct port *port, vrd_cap_t cap, const struct port_wait *wait, int64_t deadline);

/* Sleeps for at most `ns`, or until something is posted. Results as port_wait. */
int port_nap(struct port *port, vrd_cap_t cap, int64_t ns);

/* How to have the other side ring: for a sleep on its words, or for the reactor. Pin held. */
enum notice_ring port_ring(const struct port *port);

/* Asks the other sides to ring their tethers; the result is the ticket. Pin held. */
uint64_t port_arm_tethers(struct port *port, const struct port_wait *wait);

/* Is there a reason not to wait? Once, or for as long as nearly all stores need to arrive. Pin held. */
bool port_look(struct port *port, const struct port_wait *wait);
bool port_look_long(struct port *port, const struct port_wait *wait);

/* How long a store may sit in the other side's store buffer: see docs/design.md, "Sleep". */
#define PORT_DRAIN_NS 10000000

/* Takes the pin and checks that `cap` is still this port. False: it is not, and the pin is free. */
bool port_enter(struct port *port, vrd_cap_t cap);
