/* SPDX-License-Identifier: MIT */
/*
 * ring.h - one direction of messages between two parties that do not trust each other: a writer and
 * a reader, each with private state and one segment of its own (layout.h).
 *
 * Each word of the other side's segment is loaded once, checked, and used from the copy. Progress:
 * all functions are wait-free, bounded by the length of the message.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <veridian/error.h>

#include "base/arith.h"
#include "base/macro.h"
#include "link/copy.h"
#include "link/layout.h"
#include "link/loan.h"
#include "os/cpu.h"
#include "os/segment.h"

struct calls;
struct carried;

/* A message on its way in or out. */
struct ring_message {
    void *data;
    size_t len;
    uint32_t opcode;
    uint32_t flags;
    uint32_t call;           /* a reply is awaited, in this entry + 1; 0: no call                 */
    uint32_t sequence;       /* of a call that was read: its reply says it                        */
    bool wants_calls;        /* reading: who calls will be answered                               */
    uint64_t reply;          /* ... through this capability                                       */
    uint64_t transfer;       /* number of what travels with it; 0: nothing                        */
    struct carried *carried; /* that; reading: the caller's to free                         */
    bool wants_caps;         /* reading: it is not to be dropped                            */
    bool borrows;            /* writing: no message yet, but a piece to write `len` bytes to */
    struct heap_block *block;   /* writing: that; the payload is there. NULL: in `data`         */
    struct loan_writer *lender; /* writing: whose it is                                       */
    bool wants_view;            /* reading: a payload that was lent is not copied             */
    bool kept;                  /* reading: it is still there, though there is no memory      */
    struct loan_view view;      /* reading: where it is; the caller's to give back; or empty  */
    struct calls *answers;      /* ... of an answer: who holds it, under the entry `view.loan` */
};

/* Lines that a writer takes back at a time, before it needs them. */
#define RING_TAKEN 16

/* Byte rings that may be attached and not yet fully read, at a time. */
#define RING_EXTENSIONS_MAX 4

/* --- the writer ------------------------------------------------------------------------------- */

/* Up to where in the byte ring the message before `position` goes. */
struct ring_byte_end {
    uint32_t position; /* free once the cursor has reached this */
    uint64_t end;
};

struct ring_writer {
    struct slot *slots;
    const uint64_t *notice; /* the reader's; ring_silence before it has answered */
    const uint64_t *cursor; /* the reader's; NULL before it has answered         */
    uint32_t mask;
    uint32_t capacity;
    uint32_t position; /* published so far        */
    uint32_t limit;    /* may publish up to here  */
    struct sender_segment *own;
    struct segment segment;

    /* the byte ring in use, and its messages that are not yet known to be read, oldest first */
    struct segment bytes;
    uint64_t bytes_head, bytes_tail; /* run freely */
    struct ring_byte_end *ends;      /* mask + 1 entries, made with the first byte ring */
    uint32_t ends_head, ends_tail;
    uint32_t gauged;                       /* `position` when that was last looked at          */
    uint32_t distance;                     /* 0 is near, see writer_gauge                     */
    uint32_t bytes_idle;                   /* messages in a row that it was far too large for  */
    uint32_t extension;                    /* number of the byte ring in use; 0: none yet   */
    uint32_t retired[RING_EXTENSIONS_MAX]; /* position at which extension n was replaced    */

    struct loan_writer *loans; /* the caller's; NULL: none yet */
};

/* A notice that says nothing. */
extern const uint64_t ring_silence;

/* Ring slots for a capacity. */
static inline uint32_t ring_slots(uint32_t capacity)
{
    return pow2_ceil(capacity);
}

/* Takes the segment. */
void ring_writer_init(struct ring_writer *w, struct segment segment, uint32_t capacity);
void ring_writer_deinit(struct ring_writer *w);

/* In a forked child, which does not have the mappings: frees the rest. */
void ring_writer_forget(struct ring_writer *w);

/* The reader has answered with its segment. */
void ring_writer_answered(struct ring_writer *w, const struct receiver_segment *peer);

/*
 * Looks how far the reader is. 0, VRD_ERR_CHANNEL_FULL, or VRD_ERR_PEER_CORRUPT for a cursor that
 * went back or beyond what was published.
 */
int ring_writer_refresh(struct ring_writer *w);

/* Messages that the reader has not taken, as far as we have looked. */
static inline uint32_t ring_writer_unread(const struct ring_writer *w)
{
    return w->position - (w->limit - w->capacity);
}

/* Has the reader taken the message at `position`, one of the last 2^32? As far as we have looked. */
static inline bool ring_writer_passed(const struct ring_writer *w, uint32_t position)
{
    uint32_t unread = ring_writer_unread(w);

    /* all is read: then however long ago `position` was */
    return unread == 0 || unread < w->position - position;
}

/*
 * Is there room for the message, whose data the byte ring fits, now? 0, VRD_ERR_CHANNEL_FULL or
 * VRD_ERR_PEER_CORRUPT.
 */
int ring_writer_room(struct ring_writer *w, const struct ring_message *message);

/* Is there a byte ring that could ever hold `len`, and is it not far too large? */
bool ring_writer_fits(const struct ring_writer *w, size_t len);

/* The size of the byte ring to attach for messages of `len`. */
size_t ring_bytes_size(size_t len, size_t max_message);

/* May one more byte ring be attached now? Write a message to it at once. */
bool ring_writer_may_attach(struct ring_writer *w);

/*
 * Is a message of `len` bytes sooner with the reader by way of the memory than from this processor's cache?
 * Looks how far the reader is, now and then.
 */
bool ring_writer_far(struct ring_writer *w, size_t len);

/* Memory for byte rings; before the reader is told of one. 0 or VRD_ERR_OUT_OF_MEMORY. */
int ring_writer_reserve(struct ring_writer *w);

/*
 * Replaces the byte ring; takes the segment. The caller has told the reader about it, as number
 * w->extension + 1. VRD_ERR_OUT_OF_MEMORY leaves all as it was.
 */
int ring_writer_attach(struct ring_writer *w, struct segment bytes);

/*
 * Any message but the plain small ones. 0, VRD_ERR_CHANNEL_FULL, VRD_ERR_PEER_CORRUPT, or
 * VRD_ERR_PEER_GONE: the piece to lend is of another link. Data of a length over SLOT_INLINE_MAX needs
 * ring_writer_fits.
 */
int ring_write(struct ring_writer *w, const struct ring_message *message);

/*
 * A plain message of more than SLOT_INLINE_MAX bytes, where the byte ring in use fits and there is room.
 * False: ring_write finds out why not.
 */
bool ring_write_bytes(struct ring_writer *w, const void *data, size_t len, uint32_t opcode,
                      uint32_t flags);

hot_inline uint64_t slot_word_on(uint16_t cpu, uint32_t sequence, size_t len, unsigned kind)
{
    return (uint64_t)cpu << 48 | (uint64_t)(kind & 0xff) << 40 | (uint64_t)len << 32 | sequence;
}

hot_inline uint64_t slot_word(uint32_t sequence, size_t len, unsigned kind)
{
    return slot_word_on(cpu_current(), sequence, len, kind);
}

/* What a call whose answer goes to `entry` has in its kind. */
hot_inline unsigned slot_call(unsigned entry)
{
    return SLOT_CALL | entry << SLOT_ENTRY_SHIFT;
}

/* Publishes what is in the slot. release: pairs with the acquire in ring_peek. */
hot_inline void slot_publish(struct slot *slot, uint64_t word)
{
    __atomic_store_n(&slot->word, word, __ATOMIC_RELEASE);
}

/* An inline payload: head[] and on through tail[]. */
hot_inline uint8_t *slot_payload(struct slot *slot)
{
    return (uint8_t *)slot + offsetof(struct slot, head);
}

hot_inline const uint8_t *slot_payload_read(const struct slot *slot)
{
    return (const uint8_t *)slot + offsetof(struct slot, head);
}

/*
 * Behind a message: when three quarters of the room that was seen are used up, looks how far the reader
 * is, so that seldom anybody waits for that word. A cursor that is not to be believed is found where
 * there is no room left.
 */
hot_inline void ring_writer_look_ahead(struct ring_writer *w)
{
    uint32_t room = w->limit - w->position, cursor;

    if (likely(room != w->mask >> 2) || unlikely(!w->cursor))
        return;
    /* acquire: pairs with the release in ring_publish_cursor; what was read may be overwritten now */
    cursor = (uint32_t)__atomic_load_n(w->cursor, __ATOMIC_ACQUIRE);
    if (likely(w->position - cursor <= w->capacity - room))
        w->limit = cursor + w->capacity;
}

/*
 * Where a message has a multiple of RING_TAKEN before it: takes lines back that the reader had, ahead of
 * the messages that go there. Else each message waits for its line, and holds up all that is stored behind
 * it, so that few lines are on their way at a time; stores that follow each other without anything between
 * wait together. What they store means nothing yet, the slots are free. (Asking with prefetchw does not help:
 * see docs/design.md.)
 */
hot_inline void ring_writer_take_lines(const struct ring_writer *w, uint32_t position)
{
    if (likely(position % RING_TAKEN != 0) || w->limit - position < 2 * RING_TAKEN)
        return;
    for (uint32_t i = RING_TAKEN; i < 2 * RING_TAKEN; i++)
        *(volatile uint8_t *)w->slots[(position + i) & w->mask].head = 0;
}

/* What few messages have: the flag that says so, or 0. */
hot_inline unsigned slot_put_meta(struct slot *slot, uint32_t opcode, uint32_t flags,
                                  uint64_t transfer)
{
    if ((opcode | flags | transfer) == 0)
        return 0;
    slot->opcode = opcode;
    slot->flags = flags;
    slot->transfer = transfer;
    return SLOT_META;
}

/* All of a message of at most SLOT_INLINE_MAX bytes but the word. The result is its kind. */
hot_inline unsigned slot_put_small(struct slot *slot, const void *data, size_t len, uint32_t opcode,
                                   uint32_t flags)
{
    copy_into_line(slot_payload(slot), data, len);
    return SLOT_INLINE | slot_put_meta(slot, opcode, flags, 0);
}

/*
 * A message of at most SLOT_INLINE_MAX bytes; `call` is 0, or slot_call(). False: ring_write finds out
 * why not.
 */
hot_inline bool ring_write_small(struct ring_writer *w, const void *data, size_t len,
                                 uint32_t opcode, uint32_t flags, unsigned call)
{
    uint32_t position = w->position;
    struct slot *slot = &w->slots[position & w->mask];
    unsigned kind;

    if (unlikely(position == w->limit))
        return false;
    kind = slot_put_small(slot, data, len, opcode, flags) | call;
    w->position = ++position;
    slot_publish(slot, slot_word(position, len, kind));
    if (len > SLOT_HEAD_MAX || (opcode | flags) != 0)
        cpu_prefetch_write(w->slots[position & w->mask].tail);
    else
        ring_writer_take_lines(w, position);
    return true;
}

/* --- the reader ------------------------------------------------------------------------------- */

struct ring_extension {
    struct segment segment;
    uint32_t number;
};

struct ring_reader {
    const struct slot *slots;
    const uint64_t *notice; /* the writer's */
    struct receiver_segment *own;
    uint32_t mask;
    bool calls;        /* may there be any?                           */
    uint32_t position; /* taken so far                                */
    uint64_t last;     /* the word of the last message, for slot_cpu  */
    uint64_t max_message;
    struct segment peer_segment, own_segment;
    struct ring_extension extensions[RING_EXTENSIONS_MAX]; /* by number, modulo */
    uint32_t extension;                                    /* the newest that a message has named */
    struct loan_reader loans;                              /* filled and emptied by the caller    */
};

/* Takes both segments. */
void ring_reader_init(struct ring_reader *r, struct segment peer, struct segment own,
                      uint32_t slots, uint64_t max_message);
void ring_reader_deinit(struct ring_reader *r);

/* In a forked child, which has the peer's mappings but not ours. */
void ring_reader_forget(struct ring_reader *r);

/*
 * A byte ring arrived, as number `number`; takes the segment, also on error: VRD_ERR_PEER_CORRUPT
 * if the number is not the next or too many wait.
 */
int ring_reader_attach(struct ring_reader *r, uint32_t number, struct segment segment);

enum ring_state { RING_EMPTY, RING_READY, RING_CORRUPT };

/* Where the next message will be. */
hot_inline const struct slot *ring_slot(const struct ring_reader *r)
{
    return &r->slots[r->position & r->mask];
}

/* acquire: pairs with the release in slot_publish */
hot_inline uint64_t slot_load(const struct slot *slot)
{
    return __atomic_load_n(&slot->word, __ATOMIC_ACQUIRE);
}

/* What does a word loaded from ring_slot say? */
hot_inline enum ring_state ring_state(const struct ring_reader *r, uint64_t word)
{
    uint32_t sequence = (uint32_t)word;

    if (sequence == r->position + 1)
        return RING_READY;
    /* not yet: what the last lap left here, or nothing in the first lap */
    if (likely(sequence == r->position - r->mask || sequence == 0))
        return RING_EMPTY;
    return RING_CORRUPT;
}

/* What is at the reader's position? *ret_word is the copy to work with. */
hot_inline enum ring_state ring_peek(const struct ring_reader *r, uint64_t *ret_word)
{
    *ret_word = slot_load(ring_slot(r));
    return ring_state(r, *ret_word);
}

/* What travels with the message of this word; 0: nothing. */
static inline uint64_t slot_transfer(const struct slot *slot, uint64_t word)
{
    return (word >> 40) & SLOT_META ? __atomic_load_n(&slot->transfer, __ATOMIC_RELAXED) : 0;
}

static inline void slot_get_meta(const struct slot *slot, uint64_t word,
                                 struct ring_message *message)
{
    bool meta = (word >> 40) & SLOT_META;

    message->opcode = meta ? __atomic_load_n(&slot->opcode, __ATOMIC_RELAXED) : 0;
    message->flags = meta ? __atomic_load_n(&slot->flags, __ATOMIC_RELAXED) : 0;
    message->transfer = slot_transfer(slot, word);
}

/* Where the writer of this word ran, as cpu_current() says it there; 0: unknown. */
static inline uint16_t slot_cpu(uint64_t word)
{
    return (uint16_t)(word >> 48);
}

/* Says how far the reader is. release: pairs with the acquire in ring_writer_refresh. */
hot_inline void ring_publish_cursor(struct ring_reader *r)
{
    __atomic_store_n(&r->own->cursor, (uint64_t)cpu_current() << 32 | r->position,
                     __ATOMIC_RELEASE);
}

hot_inline void ring_advance(struct ring_reader *r, uint64_t word)
{
    r->position++;
    r->last = word;
    ring_publish_cursor(r);
}

/* A plain inline message, for slot_copy_small? */
hot_inline bool slot_is_small(uint64_t word)
{
    return ((word >> 40) & 0xff) == SLOT_INLINE;
}

/* The same, or with something in its second line; or (`calls`) a call. */
hot_inline bool slot_is_inline(uint64_t word, bool calls)
{
    unsigned kind = (unsigned)(word >> 40) & 0xff & ~(unsigned)SLOT_META;

    return kind == SLOT_INLINE ||
           (calls && (kind & ~slot_call(REPLY_ENTRIES - 1)) == SLOT_INLINE && (kind & SLOT_CALL));
}

/* The entry in which the sender of this word awaits a reply, + 1; 0: it awaits none. */
hot_inline uint32_t slot_caller(uint64_t word)
{
    unsigned kind = (unsigned)(word >> 40) & 0xff;

    return kind & SLOT_CALL ? (kind >> SLOT_ENTRY_SHIFT) % REPLY_ENTRIES + 1 : 0;
}

/* Does the inline length make sense, and do `size` bytes hold it? */
hot_inline bool slot_fits(uint64_t word, size_t size)
{
    size_t len = (word >> 32) & 0xff;

    return likely(len <= size && len <= SLOT_INLINE_MAX);
}

/* Copies a plain inline message out: its length, or -1: ring_read finds out why not. */
hot_inline ssize_t slot_copy_small(const struct slot *slot, uint64_t word, void *buf, size_t size)
{
    size_t len = (word >> 32) & 0xff;

    if (unlikely(!slot_fits(word, size)))
        return -1;
    copy_small(buf, slot_payload_read(slot), len);
    return (ssize_t)len;
}

/* In place of a result of ring_read: the extension that the message names has not arrived. */
#define RING_NEEDS_EXTENSION 1

/*
 * Takes any message into `message` (data, at most `size` bytes, unless it was lent and wants_view; len
 * is set, also when it is too large; view says what was lent, and if not wants_view is given back). 0,
 * RING_NEEDS_EXTENSION (the message is kept), VRD_ERR_MESSAGE_TOO_LARGE (kept) or VRD_ERR_PEER_CORRUPT.
 */
int ring_read(struct ring_reader *r, uint64_t word, struct ring_message *message, size_t size);

/*
 * Copies the message at the reader's position out, if it is in the byte ring of the one before and
 * fits `buf`: its length, or -1: ring_read finds out why not.
 */
ssize_t ring_copy_bytes(const struct ring_reader *r, uint64_t word, void *buf, size_t size);

/* The same, and takes it, if nothing else is with it. */
ssize_t ring_read_bytes(struct ring_reader *r, uint64_t word, void *buf, size_t size);

/* Drops the message at the reader's position. The result is the loan to give back, or 0. */
uint32_t ring_drop(struct ring_reader *r, uint64_t word);
