/* SPDX-License-Identifier: MIT */
/*
 * sender.h - the sending side of a channel in one process: a right to make links (or one link), and
 * the link in use.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <veridian/capability.h>

#include "link/ring.h"
#include "object/carried.h"
#include "object/life.h"

struct calls;
struct frame;
struct lender;
struct outfit;
struct port;
struct source;

enum sender_state {
    SENDER_NEW,      /* no link; the next operation says HELLO                 */
    SENDER_LINKED,   /* HELLO is said, the owner has not answered              */
    SENDER_ANSWERED, /* the owner's segment is mapped                          */
    SENDER_ENDED,    /* for good; `error` says why                             */
};

struct sender {
    /* with the pin */
    struct ring_writer ring;
    uint32_t small_max; /* bytes the fast path may send: SLOT_INLINE_MAX, or the channel's limit */
    enum sender_state state;
    int error;
    int put_off;         /* what the next operation has to say first, or 0 */
    bool crowded;        /* the owner's queue had no room for the last frame */
    struct segment peer; /* the owner's segment */
    struct calls *calls; /* under way over the link; NULL before the first                    */
    struct calls *lost;  /* over links that have ended, with threads that have yet to look     */
    int root;            /* a socket that makes links, again and again; or -1                 */
    int inherited;       /* good for one HELLO: the tether that the parent left us, or what a
                            derived capability not yet used was born with; or -1              */
    uint64_t identity;   /* of `root`, or else of `inherited` */
    vrd_cap_t twin;      /* the receiving side made together with this one; may be gone       */
    uint64_t transfers;  /* messages with capabilities that went over the link ...            */
    uint32_t carried_at[CARRIED_MAX]; /* ... and positions of the last ones                   */
    struct lender *lender;            /* what is lent over the link; NULL before the first    */

    /* with the control lock */
    struct source *tether;
    struct life_watch life; /* of `owner` */
    pid_t owner;
    struct segment answer; /* of a WELCOME that the pin's holder has not taken over yet       */
    bool ended;            /* hang-up or exit */
    uint16_t cause;    /* enum notice_cause, as a CLOSE said; where there is no notice to look at */
    uint64_t asked;    /* requests to revoke that were made, by number ... */
    uint64_t answered; /* ... those that the owner has carried out ... */
    uint64_t unanswered; /* ... and those to which no answer will come */
    bool corrupt;        /* the owner broke the protocol */
};

/* All with the pin held, except where said. */

/* Makes `port` the sender over a root socket, or nothing (-1); takes it. Not yet shown. */
void sender_init(struct port *port, int root);

/* What it will say HELLO over, once, at its first use; takes it. */
void sender_inherit(struct port *port, int fd);

/*
 * Says HELLO over `fd`, which stays the caller's. Takes what it needs out of `outfit`, after making it
 * where it is not right. 0 or VRD_ERR_*.
 */
int sender_connect(struct port *port, int fd, struct outfit *outfit);

/*
 * Says HELLO over a connection whose greeting is yet to come: it counts if the owner greets itself, and
 * wants a segment of the usual size; otherwise it is said again.
 */
void sender_offer(int fd, struct outfit *outfit);

/*
 * The same as sender_connect over a connection that the owner has accepted itself, which becomes the tether: takes it.
 * Looks for the answer, for `patience` ns at most. The port is not yet shown.
 */
int sender_connect_here(struct port *port, int *fd, struct outfit *outfit, int64_t patience);

/*
 * Looks at all that is not the plain way of things: 0 when a message may be written, else why not.
 */
int sender_attend(struct port *port);

/* In state LINKED, after writing a message at position `before`. 0, or the link has ended. */
int sender_unanswered(struct port *port, uint32_t before);

/*
 * Sends a frame over `fd`, which confers the right. The owner's queue may be full: if the owner is this very
 * process, it reads first. 0 or VRD_ERR_*.
 */
int sender_send(struct port *port, int fd, const struct frame *frame, const int *fds, size_t n_fds);

/* The result of that, or what follows from it: has the right ended? */
int sender_refused(struct port *port, int fd, int error);

/* Sends a frame over the tether, with a descriptor or none (-1). 0 or -errno. */
int sender_say(struct port *port, const struct frame *frame, int fd);

/* Where the owner was last seen, as memory_pages wants it. */
static inline uint16_t sender_owner_cpu(const struct ring_writer *w)
{
    /* relaxed: nothing is read on the strength of it */
    return w->cursor ? (uint16_t)(__atomic_load_n(w->cursor, __ATOMIC_RELAXED) >> 32) : 0;
}

/* Data of more than SLOT_INLINE_MAX bytes needs this first, unless it is lent: 0 or VRD_ERR_*. */
int sender_prepare(struct port *port, size_t len);

/*
 * A message with capabilities (`carried`) needs this last, right before it is written: sends them ahead, and
 * sets `transfer`. 0: there is room for the message; VRD_ERR_CHANNEL_FULL, nothing was sent; VRD_ERR_*.
 */
int sender_carry(struct port *port, struct ring_message *message);

/*
 * What the receiver's notice says after all messages since position `before` were published, if it
 * calls for anything; else 0.
 */
hot_inline uint64_t sender_notice(const struct ring_writer *w, uint32_t before)
{
    uint64_t notice;

    /* The processor may do this load before the stores are visible: see docs/design.md, "Sleep". */
    compiler_barrier();
    notice = __atomic_load_n(w->notice, __ATOMIC_RELAXED);
    return unlikely(position_within((uint32_t)notice, before, w->position - before) ||
                    (uint8_t)(notice >> 32) != NOTICE_NONE)
               ? notice
               : 0;
}

/* The same after one message. */
hot_inline uint64_t sender_notice_one(const struct ring_writer *w)
{
    uint64_t notice;

    compiler_barrier();
    notice = __atomic_load_n(w->notice, __ATOMIC_RELAXED);
    return unlikely((uint32_t)notice == w->position || (uint8_t)(notice >> 32) != NOTICE_NONE)
               ? notice
               : 0;
}

/* There is no room: CHANNEL_FULL, or there never will be, and the link ends. */
int sender_full(struct port *port);

/* The tether takes no more: ends the link, and says why. */
int sender_broken(struct port *port);

/* Does what a notice calls for: rings; or ends the link and says why the receiver ended it. */
int sender_heed(struct port *port, uint64_t notice);

/* The same behind a batch of `n` messages: how many of them were sent, or none and why. */
int sender_heed_batch(struct port *port, uint64_t notice, uint32_t n);

/* A batch that was sent in part met `error`, which its next operation is to say if it would not find it. */
void sender_put_off(struct port *port, int error);

/* The receiver's cursor went wrong: ends the link, returns VRD_ERR_PEER_CORRUPT. */
int sender_corrupt(struct port *port);

/* Why it has ended, also if nobody has noticed yet. */
enum vrd_loss sender_loss(struct port *port);

/* Also with the control lock. */
void sender_close(struct port *port);
void sender_after_fork(struct port *port);

/* With the control lock only: the owner, if it is process `pid`, is no more. Was it? */
int sender_owner_gone(struct port *port, pid_t pid);

/* With the control lock only: the reactor found something on one of the sender's descriptors. */
void sender_source_ready(struct source *source);
