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

/* Adds the root socket, or an invitation not yet used; takes it. Control lock held. 0 or VRD_ERR_*. */
int receiver_root(struct port *port, int fd);
int receiver_invite(struct port *port, int fd, uint32_t rights); /* derived from the root */

/*
 * As an INVITATIONS frame of who had the right before says; takes the descriptors that it keeps.
 * Control lock held. 0, VRD_ERR_PEER_CORRUPT or another VRD_ERR_*.
 */
int receiver_inherit(struct port *port, const struct frame *frame, int *fds, size_t n);

/*
 * Takes one message from any link into `message` (data, at most `size` bytes): 0 and the link it
 * came from, VRD_ERR_CHANNEL_EMPTY, _MESSAGE_TOO_LARGE, _PEER_CORRUPT, _PEER_GONE. Does not wait.
 * Pin held.
 */
int receiver_take(struct port *port, struct ring_message *message, size_t size,
                  struct link **ret_link);

/*
 * One more for a batch: as receiver_take, but an error is kept for the next take. True: `message` and
 * `ret_link` are set.
 */
bool receiver_take_more(struct port *port, struct ring_message *message, size_t size,
                        struct link **ret_link);

/* Looks at the sockets, where that is due, before EMPTY is said. True: it did, take again. */
bool receiver_refresh(struct port *port);

/* Takes over what the reactor posted. Pin held. */
void receiver_adopt(struct port *port);

int receiver_discard(struct port *port);

/* Waits for a message; see port_wait. */
int receiver_wait(struct port *port, vrd_cap_t cap, int64_t deadline);

/* Nothing was there, and the caller does not wait. True: there is something after all. */
bool receiver_disappoint(struct port *port);

/*
 * Lets the receiving side `cap` of this process, if it is still there, read its sockets. Not in a
 * child that has only inherited it: what it read would be missing where it is used.
 */
bool receiver_pump(vrd_cap_t cap);

/*
 * Moves the right: sends all sockets over `fd`, the new holder's invitation. 0, or VRD_ERR_* and
 * nothing has moved. Then the port only waits to be closed, or for receiver_stay, after nobody has got
 * the invitation. Pin held.
 */
int receiver_move(struct port *port, int fd, uint32_t rights);
void receiver_stay(struct port *port);

/* Revokes all that can send; if not `too`, all but what the root confers. Pin held. */
void receiver_revoke(struct port *port, bool too);

/* Also with the control lock. */
void receiver_close(struct port *port);
void receiver_after_fork(struct port *port);

/* With the control lock only: links with process `pid` get no more messages. How many? */
int receiver_sender_gone(struct port *port, pid_t pid);

/* With the control lock only: the reactor found something on one of the receiver's descriptors. */
void receiver_source_ready(struct source *source);

/* Carries out what came over one of its sockets; as source_drain. Control lock held. */
int receiver_drain(struct source *source);

/*
 * The socket of that identity over which the owner `cap` in this process derives, if it is here and was
 * read already; NULL: not so. `token`, 0 at first, makes it quick the next time. Control lock held.
 */
struct source *receiver_source(vrd_cap_t cap, uint64_t identity, uint64_t *token);

/*
 * As a DERIVE over that source with `fd`, which it takes: a connection that this process has accepted
 * from `who`, who pays for it. Control lock held. 0 or VRD_ERR_*.
 */
int receiver_accept(struct source *over, uint32_t rights, int fd, const struct vrd_source *who);

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
