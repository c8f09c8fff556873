/* SPDX-License-Identifier: MIT */
/*
 * layout.h - what two processes see of each other. Everything here crosses a trust boundary: fixed
 * widths, asserted offsets, no pointers.
 *
 * A link is two segments. The sender writes struct sender_segment and its slots; the receiver
 * writes struct receiver_segment, with its replies to the sender's calls. Each is read-only for the
 * other side, for good (sealed).
 */
#pragma once

#include <assert.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_LINE 64
#define LAYOUT_PAGE 4096

/*
 * The word a reader polls. One aligned 64-bit store publishes a message.
 *   bits  0..31  sequence: the position of the message + 1 (positions run freely, modulo 2^32)
 *   bits 32..39  inline length, 0 to SLOT_INLINE_MAX
 *   bits 40..47  kind: SLOT_*, for a call with its reply entry, and flags
 *   bits 48..63  CPU the sender ran on, plus one; 0: unknown
 * A reader that awaits position p in a ring of n slots finds sequence p+1 (published), or p+1-n (or
 * 0 in the first lap: not yet published). Anything else is a corrupt peer.
 */
#define SLOT_INLINE_MAX 64
#define SLOT_HEAD_MAX 56

enum slot_kind {
    SLOT_INLINE = 1, /* the payload is in the slot                                        */
    SLOT_BYTES = 2,  /* the slot holds a struct slot_bytes; payload in an extension       */
    SLOT_NONE = 3,   /* replies only: there will be none                                  */
    SLOT_CALL = 64,  /* flag: a reply is awaited, in the entry that SLOT_ENTRY tells      */
    SLOT_META = 128, /* flag: something in the second line but the payload is not zero    */
};

#define SLOT_KIND_MASK 3
#define SLOT_ENTRY_SHIFT 2 /* bits 2..5 of the kind */
#define REPLY_ENTRIES 16   /* calls that a link can have pending at a time */
#define LOANS_MAX 256      /* messages that are lent to the receiver at a time */

struct slot {
    alignas(2 * LAYOUT_LINE) uint64_t word;
    uint8_t head[SLOT_HEAD_MAX];                   /* first line, with the word               */
    uint8_t tail[SLOT_INLINE_MAX - SLOT_HEAD_MAX]; /* second line                           */
    uint32_t opcode;
    uint32_t flags;
    uint64_t transfer; /* capabilities that travel with the message; 0: none      */
    uint8_t reserved[40];
};

/* In head[], for SLOT_BYTES. The payload may wrap around the end of the byte ring. */
struct slot_bytes {
    uint64_t offset;
    uint64_t len;
    uint32_t extension; /* number of the byte ring: 1 for the first one attached to the link  */
    uint32_t loan;      /* 0; or the payload is in one piece in a heap extension, lent so     */
};

/*
 * What a side says to the other beside its data, in one 64-bit word, so that both halves are read
 * with one load:
 *   bits  0..31  the position awaited (a receiver: the count of messages published; a sender that
 *                waits for room: the cursor). The other side rings when it publishes just that.
 *                Nobody clears it.
 *   bits 32..39  why this side ended the link, NOTICE_*
 *   bits 40..47  how to ring, RING_*
 */
enum notice_cause {
    NOTICE_NONE = 0,
    NOTICE_CLOSED = 1,
    NOTICE_REVOKED = 2, /* this capability, or what it was derived from */
    NOTICE_CORRUPT = 3,
    NOTICE_PARENT_REVOKED = 4,
    NOTICE_POLICY = 5,
};
enum notice_ring {
    RING_NOT = 0,
    RING_FUTEX = 1,
    RING_TETHER = 2,
    RING_CANCELLED = 3, /* reply_notice only: nobody waits for this reply any more */
};

/* At the start of the sender's segment, followed by the slots. */
struct sender_segment {
    alignas(2 * LAYOUT_LINE) uint64_t notice; /* awaits a value of the receiver's cursor */
    uint64_t returns_notice;                  /* awaits a value of the receiver's `returns` */
    uint8_t reserved[2 * LAYOUT_LINE - 16];
    uint64_t reply_notice[REPLY_ENTRIES]; /* awaits the sequence of the call that uses the entry */
    struct slot slots[];
};

/*
 * The receiver's segment.
 *   cursor  bits  0..31  count of messages taken
 *           bits 32..47  CPU the receiver ran on, plus one
 *   replies what the calls of this link are answered; the word's sequence is that of the call
 *   released  by number (loan modulo LOANS_MAX), the loan that was given back last
 *   returns   how many were given back, in all
 */
struct receiver_segment {
    alignas(2 * LAYOUT_LINE) uint64_t cursor;
    uint8_t reserved1[2 * LAYOUT_LINE - 8];
    uint64_t notice; /* awaits a count of messages published */
    uint8_t reserved2[2 * LAYOUT_LINE - 8];
    struct slot replies[REPLY_ENTRIES];
    uint32_t released[LOANS_MAX];
    alignas(LAYOUT_LINE) uint32_t returns;
    uint8_t reserved3[LAYOUT_LINE - 4];
};

static_assert(sizeof(struct slot) == 128, "a slot is two lines");
static_assert(offsetof(struct slot, head) == 8 && offsetof(struct slot, tail) == 64, "first line");
static_assert(offsetof(struct slot, opcode) == 72 && offsetof(struct slot, flags) == 76, "meta");
static_assert(offsetof(struct slot, transfer) == 80, "transfer");
static_assert(sizeof(struct slot_bytes) == 24, "fits the first line");
static_assert(offsetof(struct sender_segment, reply_notice) == 128, "no false sharing");
static_assert(offsetof(struct sender_segment, slots) == 256, "slots start aligned");
static_assert(offsetof(struct receiver_segment, notice) == 128, "no false sharing");
static_assert(offsetof(struct receiver_segment, replies) == 256, "entries start aligned");
static_assert(offsetof(struct receiver_segment, returns) % LAYOUT_LINE == 0, "no false sharing");
static_assert(sizeof(struct receiver_segment) <= LAYOUT_PAGE, "fits a page");

/* Bytes of the sender's segment with a ring of n (a power of two) slots, in whole pages. */
static inline size_t layout_sender_size(uint32_t n)
{
    size_t size = sizeof(struct sender_segment) + (size_t)n * sizeof(struct slot);

    return (size + LAYOUT_PAGE - 1) & ~(size_t)(LAYOUT_PAGE - 1);
}

#define LAYOUT_RECEIVER_SIZE ((size_t)LAYOUT_PAGE)
