/* SPDX-License-Identifier: MIT */
/*
 * call.h - the calling side: the calls that threads of this process have under way over one link.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <veridian/capability.h>

#include "link/reply.h"
#include "object/carried.h"

struct datagram;
struct frame;
struct port;
struct sender;

/*
 * Made with a link's first call. It outlives the link for as long as there are threads that have not
 * yet looked whether their answer came before the end, or views of answers. With the pin, except where
 * said.
 */
struct calls {
    struct reply_reader replies;
    atomic_uint held;    /* by the link, and by each view of an answer                      */
    uint32_t users;      /* threads that wait for an answer                                    */
    uint32_t hungry;     /* threads that wait for an entry                                     */
    int lost;            /* why the link is over; 0: it is not                                 */
    struct segment peer; /* the owner's segment, once the link is over                         */
    struct calls *next;  /* of those whose link is over                                        */

    /* with the control lock */
    struct reply_buffer inbox[REPLY_ENTRIES]; /* buffers on their way to `replies` */
    struct carried *carried[REPLY_ENTRIES];   /* what came for the answer to a call            */
    uint16_t unwanted; /* entries whose answer nobody awaits; changed with the pin, too       */
    bool starved;      /* a frame was lost for want of memory or descriptors                  */
};

/* Which call: the thread's own. */
struct call {
    struct calls *calls;
    int entry;
};

/* All with the pin held, except where said. */

/*
 * An entry for a call that is to be written next: 0, VRD_ERR_ENDPOINT_BUSY or VRD_ERR_OUT_OF_MEMORY.
 * *ret_entry counts from 1, as in struct ring_message.
 */
int call_pick(struct port *port, uint32_t *ret_entry);

/* The call was published; has to be ended. */
hot_inline void call_begin(struct calls *calls, int entry, uint32_t sequence)
{
    calls->users++;
    reply_begin(&calls->replies, entry, sequence);
}

/* Waits for an entry; as port_wait. */
int call_hunger(struct port *port, vrd_cap_t cap, int64_t deadline);

/*
 * Waits for the answer, and ends the call. 0 with `message` filled; or MESSAGE_TOO_LARGE (len is
 * set), TIMEOUT, PEER_GONE, REVOKED, PEER_CORRUPT, OUT_OF_MEMORY, all with the pin held; or
 * INVALID_CAPABILITY with the pin given back: the capability was closed meanwhile. With wants_view,
 * either message->answers is set, for call_view_release, or message->data is the caller's to free.
 */
int call_finish(struct port *port, vrd_cap_t cap, struct call call, struct ring_message *message,
                size_t size, int64_t deadline);

/*
 * Looks for the answer a little, before anything slower is tried: the last word seen; it is the
 * answer's if its sequence is the call's.
 */
uint64_t call_look_quickly(const struct call *call);

/* The rest of call_end. */
void call_end_slowly(struct port *port, struct calls *calls);

/* Ends a call whose entry is free again, or whose link is over. */
hot_inline void call_end(struct port *port, struct calls *calls)
{
    calls->users--;
    if (unlikely(calls->lost != 0 || calls->hungry > 0))
        call_end_slowly(port, calls);
}

/* An answer that was viewed is not any more. Any thread, without the pin and the control lock. */
void call_view_release(struct calls *calls, int entry);

/* The owner has answered the HELLO. */
void calls_answered(struct sender *s);

/* The link is over. Takes the owner's segment from `s` if anyone needs it. Also with the control lock. */
void calls_detach(struct sender *s, int error);

/* The capability is closed, or the process is a forked child: nobody waits any more. */
void calls_free(struct sender *s);

/*
 * With the control lock only: a buffer for answers came, perhaps of huge pages of `shift`. 0 or VRD_ERR_*;
 * `fd` stays the caller's.
 */
int calls_attach(struct sender *s, const struct frame *frame, int fd, uint64_t max_message,
                 unsigned shift);

/* The same: capabilities for an answer came with `datagram`. */
int calls_carried(struct sender *s, const struct frame *frame, struct datagram *datagram);
