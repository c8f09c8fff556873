/* SPDX-License-Identifier: MIT */
/*
 * worker.h - a process that does with the library what it is told, one order at a time, and tells
 * what came of it. It knows nothing of what should have come: the test does.
 */
#ifndef PROPERTY_WORKER_H
#define PROPERTY_WORKER_H

#include "support/support.h"

#include <stdint.h>
#include <veridian/ipc.h>

enum worker_op {
    WORKER_CREATE,          /* size: slots; cap: sends, other: receives                       */
    WORKER_CREATE_ENDPOINT, /* size: slots; cap: derived from other, with all rights but to receive */
    WORKER_DERIVE,          /* rights, badge; cap                                             */
    WORKER_EXPORT,          /* rights; a descriptor                                           */
    WORKER_IMPORT,          /* a descriptor; cap                                              */
    WORKER_CLOSE,
    WORKER_REVOKE,
    WORKER_INFO,         /* rights, badge                                                  */
    WORKER_SEND,         /* tag, carried; one message, without waiting                     */
    WORKER_RECEIVE,      /* wait_ns, wanted; tag, badge, pid, carried                      */
    WORKER_CALL,         /* wait_ns, tag, carried; tag of the answer, carried              */
    WORKER_RECEIVE_CALL, /* wait_ns, wanted; tag, badge, pid, carried; cap: to answer with */
    WORKER_REPLY,        /* tag, carried                                                   */
    WORKER_SEND_MANY,    /* tag: of the first; count; waits                                */
    WORKER_RECEIVE_MANY, /* count; waits; checks that each sender's are in order           */
    WORKER_QUIT,         /* when all is closed: looks for leaks, and ends                  */
};

/* What a message says of itself: who sent it, and its place among the messages of that sender. */
struct worker_tag {
    uint32_t sender;
    uint32_t index;
};

/* Capabilities that travel with a message. */
struct worker_carried {
    uint32_t n;
    vrd_cap_t caps[VRD_MESSAGE_CAPS_MAX];
};

struct worker_order {
    enum worker_op op;
    vrd_cap_t cap;
    uint32_t rights;
    uint32_t size; /* of a message, or of a ring */
    uint64_t badge;
    int64_t wait_ns;
    struct worker_tag tag;
    uint32_t count;
    struct worker_carried carried;
    uint32_t wanted; /* of what came with a message */
    int fd;          /* in this process; -1: none */
};

struct worker_answer {
    int64_t result;
    vrd_cap_t cap, other;
    uint32_t rights;
    pid_t pid;
    uint64_t badge;
    struct worker_tag tag;
    struct worker_carried carried;
    int fd; /* in this process; -1: none */
};

struct worker {
    pid_t pid;
    int socket;
};

/* From a process that has not used the library. The new one begins with `forget`. */
void worker_start(struct worker *worker, void (*forget)(void));

void worker_tell(const struct worker *worker, const struct worker_order *order);
struct worker_answer worker_hear(const struct worker *worker);

/* Both. The order's descriptor stays the caller's, the answer's becomes the caller's. */
struct worker_answer worker_do(const struct worker *worker, const struct worker_order *order);

/* Requires that nothing is left in it. */
void worker_quit(struct worker *worker);

void worker_kill(struct worker *worker);

#endif
