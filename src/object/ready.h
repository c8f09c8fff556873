/* SPDX-License-Identifier: MIT */
/*
 * ready.h - telling others that a capability can be used, who do not wait for it in a call: by a
 * descriptor of the capability, for any event loop, and by a function of the process, for a scheduler.
 *
 * Told is who was disappointed: an operation that finds nothing to receive, or no room, asks the other
 * sides to ring their tethers, and what the reactor then posts is passed on. There is no fence on
 * their side, so the reactor says "look again" once, when what was under way has arrived (docs/design.md,
 * "Sleep").
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <veridian/process.h>

#include "base/list.h"

struct port;
struct port_wait;
struct source;

/* With the control lock, except where said. */
struct ready {
    int fd;            /* -1: nobody has asked for one (written with the pin, too) */
    bool signalled;    /* it is readable                                           */
    atomic_bool armed; /* somebody was disappointed, and not told anything since   */
    bool second;       /* a second look for `ticket` is due, or was had (pin)      */
    uint64_t ticket;   /* what was awaited then (pin) */
    int64_t due_at;
    struct list due;  /* in the order of time */
    struct list told; /* to be passed on when the lock is free */
};

void ready_init(struct ready *ready);

/* Does anyone want to be told? Pin held. */
bool ready_wanted(const struct port *port);

/*
 * An operation was disappointed; pin held. True: there is something after all, try again. False: the
 * disappointed will be told.
 */
bool ready_arm(struct port *port, const struct port_wait *wait);

/* Is somebody to be told when a tether rings? (Or was, just now.) Pin held. */
static inline bool ready_armed(const struct ready *ready)
{
    /* relaxed: it is set with the pin, and may be reset meanwhile, which does no harm */
    return atomic_load_explicit(&ready->armed, memory_order_relaxed);
}

/* The other sides are asked to ring in another way, or nobody will ring: look again later. Pin held. */
static inline void ready_disarm(struct ready *ready)
{
    ready->second = false;
}

/* Something may be there. Control lock held. */
void ready_post(struct port *port);

/* Says that something may be there, to whoever was disappointed or is now; pin held. */
void ready_hint(struct port *port);

/* The capability's descriptor, or VRD_ERR_*; pin held. */
int ready_open(struct port *port);

/* The capability is closed; also with the pin. */
void ready_close(struct port *port);

/* In a forked child, where every port starts anew (ready_init): descriptors are the parent's. */
void ready_after_fork(void);

/* The process's function; NULL: none. */
void ready_set_function(vrd_ready_fn *function, void *user);

/* The time for second looks has come. */
void ready_source_ready(struct source *source);

/* Without any lock, after the sources were seen to: calls the process's function. */
void ready_tell(void);
