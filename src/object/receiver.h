/* SPDX-License-Identifier: MIT */
/*
 * receiver.h - the receiving side of a channel: the owner. It answers HELLOs, merges its links, and
 * knows when the last sender is gone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <veridian/capability.h>

#include "base/list.h"
#include "cap/node.h"
#include "object/link.h"
#include "object/reply.h"

struct frame;
struct port;
struct source;

struct receiver {
    /* with the pin */
    struct link *current; /* the one to look at next, in `active`; NULL: no active link   */
    uint32_t budget;      /* messages left before the next link has its turn; not 0 only while
                             `current` may be read without a closer look                  */
    uint32_t granted;     /* `budget` when `heard` was last brought up to date            */
    uint64_t heard;       /* messages taken, up to then                                   */
    bool gone;            /* no link, and no socket by which one could come               */
    uint32_t n_active;
    struct list active, cooling;
    struct link *oversize;  /* whose message did not fit the buffer ...  */
    uint32_t oversize_at;   /* ... and its position                      */
    int64_t polled;         /* when the sockets were last looked at here ... */
    uint64_t polled_heard;  /* ... and after how many messages         */
    uint32_t sent_seen;     /* reactor_sent_count then */
    int pending_error;      /* met behind the first message of a batch: for the next take, or 0 */
    struct pending pending; /* calls to be answered                                         */
    struct port *caller;    /* an endpoint's other side: shares its number, and is found by
                               those who send; NULL: a channel                              */

    /* with the control lock */
    struct list sources; /* sockets that confer a right: root, invitations, tethers */
    struct list links;
    struct list posted; /* links with news */
    struct node tree;   /* what the root confers, and all that was derived from it */
    uint32_t n_links;
    uint32_t n_answers;   /* that came from elsewhere, see relay_adopt */
    uint32_t n_conferred; /* sockets that there have been */
    bool started;         /* the sources are watched */
    bool moving;          /* the right is on its way to somebody else, who alone may read them */
    bool ours;            /* made or used by this process, not just inherited */
};

/* Makes `port` a receiver that nobody can reach yet. */
void receiver_init(struct port *port);

/* Looks at the sockets, where that is due, before EMPTY is said. True: it did, take again. */
bool receiver_refresh(struct port *port);

/* Looks at the sockets now. Pin held. */
void receiver_poll(struct port *port);

/* Takes over what the reactor posted. Pin held. */
void receiver_adopt(struct port *port);

/* Waits for a message; see port_wait. */
int receiver_wait(struct port *port, vrd_cap_t cap, int64_t deadline);

/* Nothing was there, and the caller does not wait. True: there is something after all. */
bool receiver_disappoint(struct port *port);

/*
 * Lets the receiving side `cap` of this process, if it is still there, read its sockets. Not in a
 * child that has only inherited it: what it read would be missing where it is used.
 */
bool receiver_pump(vrd_cap_t cap);

/* Revokes all that can send; if not `too`, all but what the root confers. Pin held. */
void receiver_revoke(struct port *port, bool too);

/* Also with the control lock. */
void receiver_close(struct port *port);
void receiver_after_fork(struct port *port);

/* Something has happened to `link`, or (NULL) to some socket. Control lock held. */
void receiver_post(struct port *port, struct link *link);

/*
 * After a message was taken from `link`, the current one, out of the budget. The result is what the sender's notice says if it awaits
 * just this cursor, for link_ring; else 0.
 */
hot_inline uint64_t receiver_took(struct receiver *rx, const struct link *link)
{
    /* relaxed: see docs/design.md, "Sleep"; the compiler keeps it behind the store of the cursor */
    uint64_t notice = __atomic_load_n(link->ring.notice, __ATOMIC_RELAXED);

    rx->budget--;
    return unlikely((uint32_t)notice == link->ring.position) ? notice : 0;
}

/* The same after n messages whose cursor was published at once; rings if that is called for. */
static inline void receiver_took_batch(struct receiver *rx, struct link *link, uint32_t n)
{
    uint64_t notice = __atomic_load_n(link->ring.notice, __ATOMIC_RELAXED);

    rx->budget -= n;
    if (unlikely(position_within((uint32_t)notice, link->ring.position - n, n)))
        link_ring(link, notice);
}
