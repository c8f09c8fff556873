/* SPDX-License-Identifier: MIT */
/*
 * link.h - the receiver's side of one link: a ring, the tether, and who is at the other end.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <veridian/message.h>

#include "base/list.h"
#include "link/reply.h"
#include "object/carried.h"
#include "object/life.h"

struct account;
struct borrower;
struct datagram;
struct frame;
struct node;
struct port;
struct source;

#define LINK_MAPPINGS 2    /* its segments; byte rings come on top */
#define LINK_DESCRIPTORS 2 /* its tether, and the process, if this is its first */

enum link_state {
    LINK_NEW,     /* posted, not yet adopted                                             */
    LINK_ACTIVE,  /* polled: in the receiver's `active`                                  */
    LINK_COOLING, /* asked to ring its tether, and to be looked at once more when due     */
    LINK_COLD,    /* rings its tether */
};

struct link {
    /* with the pin */
    struct ring_reader ring;
    enum link_state state;
    struct list node;    /* in `active` or `cooling` */
    uint64_t heard;      /* the receiver's count of messages when this link's last one came  */
    int64_t cooled;      /* when it was asked to ring */
    bool ending;         /* no more will come: what is there is drained */
    bool broken;         /* `corrupt`, as it was adopted */
    uint32_t drain_left; /* ... and that is at most one ring */
    struct vrd_source source;
    uint64_t badge; /* of the capability that it is used with */
    struct reply_writer replies;
    uint64_t serials[REPLY_ENTRIES]; /* of the calls that are pending */

    /* with the control lock */
    struct list posted; /* in the receiver's `posted` */
    struct list all;    /* in the receiver's `links` */
    struct source *tether;
    struct life_watch life;                           /* of the process at the other end */
    struct ring_extension inbox[RING_EXTENSIONS_MAX]; /* byte rings on their way to the ring */
    uint32_t n_inbox;
    uint32_t attached;         /* mappings charged for byte rings */
    struct borrower *borrower; /* of what the sender lends; NULL before the first extension */
    uint64_t max_bytes;        /* that it may attach for that                               */
    uint32_t memory;           /* what segments are made of, see memory.h                   */
    struct account *account;   /* to whom is charged: the link, and */
    uint32_t mappings;         /* ... of what it is made of ...     */
    uint64_t bytes;            /* ... and their size                */
    struct carried_queue carried;
    struct node *right; /* that capability; NULL once it is revoked */
    struct list held;   /* in the node's `links` */
    uint8_t revoked;    /* enum notice_cause; nothing more is taken from it */
    bool ended;         /* hang-up, exit or CLOSE */
    bool corrupt;
    bool starved; /* a frame was lost for want of memory or descriptors */
};

/*
 * Answers a HELLO that came with `datagram` (which may lose descriptors to the link): maps the
 * sender's segment, makes ours, says WELCOME. The link belongs to the right that `over` confers, over
 * which the HELLO came and which with HELLO_HERE becomes its tether. Control lock held. NULL: refused,
 * nothing is left.
 */
struct link *link_new(struct port *port, const struct frame *hello, struct datagram *datagram,
                      struct source *over);

/*
 * Ends the link for the sender to see, and frees it. Its tether stays as a mere source if somebody
 * may still hold the other end (`keep_tether`). Pin and control lock held.
 */
void link_free(struct link *link, enum notice_cause cause, bool keep_tether);

/*
 * Takes the right away, for the sender to see; the pin's holder retires it unread. Control lock held.
 */
void link_revoke(struct link *link, enum notice_cause cause);

/*
 * What else the peer makes us keep for the link, until it is relieved of it or the link goes. False: that would be
 * more than it may have. Control lock held.
 */
bool link_bear(struct link *link, uint32_t mappings, uint64_t bytes);
void link_relieve(struct link *link, uint32_t mappings, uint64_t bytes);

/* May a link with so many slots be charged? Control lock held. */
bool link_affordable(const struct account *account, uint32_t slots);

/* Charges what the link keeps, until it is freed. Control lock held. */
void link_bill(struct link *link, struct account *account);

/* In a forked child: the link is the parent's. */
void link_forget(struct link *link);

/* An extension came over the tether. Control lock held. 0 or VRD_ERR_*. */
int link_attach(struct link *link, const struct frame *frame, int fd);

/* The sender gives one back. Control lock held. 0 or VRD_ERR_PEER_CORRUPT. */
int link_detach(struct link *link, uint32_t number);

/* Moves extensions from the inbox to the ring. Pin and control lock held. 0 or VRD_ERR_PEER_CORRUPT. */
int link_adopt(struct link *link);

/* Asks the sender to ring in this way for its next message. Pin held; a fence has to follow. */
void link_arm(struct link *link, enum notice_ring how);

/* One byte over the tether, as the sender has asked for. Control lock held. */
void link_ring_tether(struct link *link);

/* The sender awaits the cursor that was just published, as `notice` says. Pin held. */
void link_ring(struct link *link, uint64_t notice);
