/* SPDX-License-Identifier: MIT */
/*
 * source.h - a descriptor that the reactor watches for a port, and what it means there. All under
 * the control lock.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"

struct account;
struct datagram;
struct life;
struct link;
struct name;
struct node;
struct peer;
struct port;
struct relay;

enum source_kind {
    SOURCE_ROOT,       /* receiver: the object's root socket                        */
    SOURCE_INVITATION, /* receiver: an invitation not yet used                      */
    SOURCE_DERIVED,    /* receiver: the same, kept by the process that derived it   */
    SOURCE_LINK,       /* receiver: the tether of a link                            */
    SOURCE_TETHER,     /* sender: the tether of its link                            */
    SOURCE_LISTENER,   /* name: where others connect                                */
    SOURCE_LIFE,       /* process: one that we have links with                      */
    SOURCE_PEER,       /* process: one that we have had a link with                 */
    SOURCE_TIMER,      /* when second looks are due                                 */
    SOURCE_LEASE,      /* when the spare segment of one who connects goes           */
    SOURCE_NAME,       /* name: the socket of the right that it hands on            */
    SOURCE_HOLDER,     /* a region's maker: somebody who holds the region           */
    SOURCE_MAKER,      /* whoever holds a region: its maker                         */
    SOURCE_ANSWER,     /* a reply capability that has moved: whoever holds it       */
    SOURCE_LEAVING,    /* revoked; whoever holds it has yet to be told why          */
};

struct source {
    struct list node; /* in a receiver's list of sockets that confer a right */
    int fd;           /* -1: lost, see sources_after_fork */
    enum source_kind kind;
    uint32_t serial;
    uint64_t identity; /* of `fd` */
    uint32_t arms;     /* times that the other end was asked for a byte over it */
    uint32_t rings;    /* bytes that came */
    bool watched;
    bool drained;  /* the last source_drain left nothing */
    bool closed;   /* CLOSE was said over it */
    bool offered;  /* a HELLO_HERE came over it that did not count */
    bool revoked;  /* what still comes over it makes nothing that lasts */
    bool accepted; /* an invitation: a connection to a name of this process, good for HELLO_HERE */
    uint8_t parting; /* leaving: enum notice_cause, and ... */
    uint8_t copies;  /* ... how often it is said */
    uint64_t revoke; /* request to revoke what was derived from `right`; 0: none */
    struct port *port;
    struct link *link;
    struct name *name;
    struct life *life;
    struct peer *peer;
    struct relay *relay;
    struct node *right;      /* what it confers on those who hold the other end; or NULL */
    struct list held;        /* in the node's `sockets` */
    struct account *account; /* to whom its descriptor is charged; NULL: to nobody */
};

/* As socket_pair; what is on its way out makes room. Without the control lock. */
int source_pair(int ret[2]);

/* Takes `fd`, also on failure. NULL: out of memory. */
struct source *source_new(struct port *port, enum source_kind kind, int fd);

/* A number for a source that no other will have, and the source, while it is there; else NULL. */
uint64_t source_token(const struct source *source);
struct source *source_find(uint64_t token);

/* From now on the socket confers `node`, until it is freed. */
void source_confer(struct source *source, struct node *node);

/* Whoever costs us something; NULL: we ourselves, or no memory to tell. */
struct account *source_payer(uid_t uid, pid_t pid);

/* Charges its descriptor, until it is freed. NULL sources are fine. */
void source_bill(struct source *source, struct account *account);

/* 0 or VRD_ERR_*. Again and again is fine. */
int source_watch(struct source *source);

/* The same, for room to send. */
int source_watch_room(struct source *source);

void source_unwatch(struct source *source);

/*
 * The other end of a tether, if that is still there, is about to be asked for a byte over it: one more will
 * be no excess. Without the control lock, which it takes.
 */
void source_await_ring(struct source *const *tether);

/* A byte came over it: 0, or VRD_ERR_PEER_CORRUPT if nobody had asked for one more. */
int source_rang(struct source *source, size_t n_fds);

/*
 * Lets go of all that it belongs to, but keeps the descriptor, which stays charged: one of SOURCE_LEAVING in
 * `list`. Control lock held.
 */
void source_leave(struct source *source, struct list *list);

/* Stops watching, closes the descriptor, frees, and sets the pointer to NULL. NULL is fine. */
void source_free(struct source **source);

/* The same, but hands the descriptor over. */
int source_take_fd(struct source **source);

/*
 * In a forked child, before anything is closed: finds the sources whose descriptors somebody has
 * closed (closefrom) and perhaps opened anew. They are no longer ours. True: there are any.
 */
bool sources_after_fork(void);

/*
 * Takes all datagrams that wait (a bounded number: then the loop tells again) and calls `handle` for
 * each, until it returns a negative error. The result is that error, VRD_ERR_PEER_GONE at the end of
 * the stream, or 0. `handle` must not free the source.
 */
int source_drain(struct source *source, int (*handle)(struct source *, struct datagram *));
