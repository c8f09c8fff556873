/* SPDX-License-Identifier: MIT */
/*
 * frame.h - what travels over the sockets. Frames have one size; a datagram of one byte is a ring
 * (a wake-up). Decoding is pure: bytes in, a checked struct frame out.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FRAME_SIZE 64
#define FRAME_VERSION 1
#define FRAME_FDS_MAX 250 /* below the kernel's SCM_MAX_FD of 253 */

enum frame_type {
    /* queued on an invitation by its maker: what the capability is */
    FRAME_GREETING_SEND = 1,    /* slots, max_message, rights, badge, depth, object; bytes: limit
                                   of the heap; extension: what segments are made of, see
                                   object/memory.h; count: 1 if the owner itself greets: HELLO_HERE
                                   will do; no fds                                                */
    FRAME_GREETING_RECEIVE = 2, /* slots, max_message, rights, object, bytes, extension; count:
                                   invitations that follow; fds: the root socket, if its other end is
                                   still held; of an endpoint, also its other end                 */
    /* from a holder of a capability to the owner, over any socket that confers a right */
    FRAME_HELLO = 3,  /* slots, max_message; fds: tether, sender's segment                        */
    FRAME_DERIVE = 4, /* rights, badge; fds: the owner's end of a new invitation; count: 1 if its
                         maker keeps the other end, so that its children may say HELLO too        */
    /* over a tether */
    FRAME_WELCOME = 5, /* owner to sender; fds: receiver's segment                                */
    FRAME_ATTACH = 6,  /* extension, bytes; fds: the segment. Sender to owner: a byte ring, or count
                          FRAME_ATTACH_HEAP: more room for loans; owner to sender: the buffer of
                          reply entry count - 1; to whoever holds a region: its new memory       */
    FRAME_CLOSE = 7,   /* either way; cause: look at the notice word, or where there is no link,
                          this is what it would say                                              */
    /* after FRAME_GREETING_RECEIVE */
    FRAME_INVITATIONS = 8, /* rights, badge, depth, count (as in DERIVE) of those who hold them; id:
                              what they were derived from, 1: the root, 2, 3, ...: the invitations
                              that came, in order; fds: the owner's ends                          */
    /* over a tether */
    FRAME_REVOKE = 9,    /* sender to owner; id: of the request                                   */
    FRAME_REVOKED = 10,  /* owner to sender; id: the request is carried out                       */
    FRAME_TRANSFER = 11, /* either way; id: the message names it; fds: invitations; with an answer,
                            count: its entry + 1                                                  */
    /* a reply capability that has moved to another process */
    FRAME_GREETING_REPLY = 12, /* slots (1), max_message                                          */
    FRAME_REPLY = 13,          /* bytes; fds: a segment with the reply, then invitations          */
    FRAME_GREETING_REGION = 14, /* bytes: its size; rights, badge, depth; id: 1 + vrd_region_mode,
                                   extension: 1 + vrd_transfer_mode, count: log2 of its huge pages;
                                   fds: its memory                                                */
    FRAME_DETACH = 15, /* sender to owner; extension: room for loans of which none is out         */
    FRAME_HELLO_HERE = 16, /* as HELLO, over a connection that its maker has accepted itself: the
                              connection is the tether; fds: sender's segment. Mostly said before
                              the greeting is there: if the owner has not accepted the connection,
                              or the segment is to have another size or other memory (extension,
                              as in the greeting), it does not count, once                        */
    FRAME_TYPE_MAX = FRAME_HELLO_HERE,
};

#define FRAME_ATTACH_HEAP 1

#define FRAME_TRANSFER_MAX 4 /* invitations with one message */

struct frame {
    enum frame_type type;
    uint32_t slots;
    uint32_t rights;
    uint32_t extension;
    uint32_t count;
    uint32_t depth;
    uint16_t object; /* enum vrd_object_kind; 0: not said */
    uint16_t cause;  /* enum notice_cause                 */
    uint64_t max_message;
    uint64_t bytes;
    uint64_t badge;
    uint64_t id;
};

/* Writes FRAME_SIZE bytes. */
void frame_encode(const struct frame *frame, uint8_t buf[FRAME_SIZE]);

/*
 * Reads a datagram of `len` bytes that came with `n_fds` descriptors. Returns 0, or
 * VRD_ERR_PEER_CORRUPT if it is not a well-formed frame with the descriptors its type wants.
 * Field values are checked for their own range only (slots within VRD_CHANNEL_SLOTS_MAX, known
 * rights, unused fields zero); limits of the object are the caller's to check.
 */
int frame_decode(const uint8_t *buf, size_t len, size_t n_fds, struct frame *ret);
