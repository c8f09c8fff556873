/* SPDX-License-Identifier: MIT */
/*
 * reply.h - the answers to calls. Calls go through the ring; each names one of REPLY_ENTRIES entries
 * in the answering side's segment, where its answer will be, whatever the order of answers. The
 * caller picks the entry and does not use it again before it was answered; so there is nothing to
 * allocate, and nobody waits for somebody else's answer.
 *
 * As for the ring: two parties that do not trust each other, each with private state; each word of
 * the other side is loaded once, checked, and used from the copy. All functions are wait-free.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "link/ring.h"

/* Where an entry's answers are that do not fit it. */
struct reply_buffer {
    struct segment segment;
    uint32_t number; /* counts; each one told by an ATTACH */
};

#define REPLY_BUFFER_MIN LAYOUT_PAGE

/* The size of the buffer for an answer of `len` bytes. */
static inline size_t reply_buffer_size(size_t len)
{
    size_t size = REPLY_BUFFER_MIN;

    while (size < len)
        size *= 2;
    return size;
}

/* --- the caller's side ------------------------------------------------------------------------ */

#define REPLY_ALL_FREE ((uint16_t)((1U << REPLY_ENTRIES) - 1))

struct reply_reader {
    const struct slot *entries; /* the other side's; NULL before it has answered the HELLO     */
    uint64_t *notices;          /* ours */
    uint16_t free;              /* entries that no call uses                                   */
    uint16_t abandoned;         /* entries whose caller went away before there was an answer   */
    uint16_t viewed;            /* entries whose buffer is being read in place                 */
    uint16_t released;          /* ... and is no more: added to by any thread                  */
    uint64_t last;              /* the word of the last answer, for slot_cpu                   */
    uint64_t max_message;
    uint32_t sequence[REPLY_ENTRIES]; /* of the call that uses the entry, or used it last      */
    uint32_t before[REPLY_ENTRIES];   /* what the entry says until then                        */
    struct reply_buffer buffers[REPLY_ENTRIES];
};

/* `own` is the caller's segment. */
void reply_reader_init(struct reply_reader *r, struct sender_segment *own, uint64_t max_message);

/* Leaves the buffers that are viewed. */
void reply_reader_deinit(struct reply_reader *r);

/* No view is left: the rest of reply_reader_deinit. */
void reply_reader_deinit_viewed(struct reply_reader *r);

/* The other side has answered the HELLO with its segment. */
void reply_reader_answered(struct reply_reader *r, const struct receiver_segment *peer);

/* A buffer for `entry` has come; takes it, also on error: VRD_ERR_PEER_CORRUPT for an older one. */
int reply_reader_attach(struct reply_reader *r, uint32_t entry, uint32_t number,
                        struct segment segment);

/* An entry for the call that will have this sequence; also one released, or answered late, since; or -1. */
int reply_pick(struct reply_reader *r, uint32_t sequence);

/* The same, only if it is the first one that comes to mind. */
hot_inline int reply_pick_quickly(const struct reply_reader *r, uint32_t sequence)
{
    int entry;

    if (unlikely(r->free == 0))
        return -1;
    entry = __builtin_ctz(r->free);
    return likely(r->sequence[entry] != sequence) ? entry : -1;
}

/* The call is about to be published. */
hot_inline void reply_begin(struct reply_reader *r, int entry, uint32_t sequence)
{
    r->free &= (uint16_t) ~(1U << entry);
    r->before[entry] = r->sequence[entry];
    r->sequence[entry] = sequence;
}

/* The answer is read: the entry may be used again. */
hot_inline void reply_end(struct reply_reader *r, int entry)
{
    r->free |= (uint16_t)(1U << entry);
}

/* In place of reply_end: the answer stays in the entry's buffer until reply_release. */
static inline void reply_view(struct reply_reader *r, int entry)
{
    r->viewed |= (uint16_t)(1U << entry);
}

/* Any thread, also without the pin. */
static inline void reply_release(struct reply_reader *r, int entry)
{
    /* release: what was read before is read; pairs with reply_collect_released */
    __atomic_fetch_or(&r->released, (uint16_t)(1U << entry), __ATOMIC_RELEASE);
}

/* Nobody will read the answer. */
void reply_abandon(struct reply_reader *r, int entry);

/* Asks to be rung for the answer; a fence has to follow. */
void reply_arm(struct reply_reader *r, int entry, enum notice_ring how);

/* Was just that asked before? */
bool reply_is_armed(const struct reply_reader *r, int entry, enum notice_ring how);

/* What does a word loaded from the entry say? */
hot_inline enum ring_state reply_state(const struct reply_reader *r, int entry, uint64_t word)
{
    if ((uint32_t)word == r->sequence[entry])
        return RING_READY;
    return likely((uint32_t)word == r->before[entry]) ? RING_EMPTY : RING_CORRUPT;
}

/* Copies a plain inline answer out: its length, or -1: reply_read finds out why not. */
hot_inline ssize_t reply_copy_small(struct reply_reader *r, int entry, uint64_t word, void *buf,
                                    size_t size)
{
    r->last = word;
    return slot_copy_small(&r->entries[entry], word, buf, size);
}

/*
 * Reads any answer into `message` (data, at most `size` bytes, unless it is in a buffer and wants_view:
 * `view` says where; len and transfer are set, also when it is too large). 0, RING_NEEDS_EXTENSION, VRD_ERR_MESSAGE_TOO_LARGE, VRD_ERR_PEER_GONE (there will be no
 * answer) or VRD_ERR_PEER_CORRUPT. The entry is still in use.
 */
int reply_read(struct reply_reader *r, int entry, uint64_t word, struct ring_message *message,
               size_t size);

/* --- the answering side ----------------------------------------------------------------------- */

struct reply_writer {
    struct slot *entries;         /* ours */
    const uint64_t *notices;      /* the caller's */
    uint32_t pending;             /* entries with a call that is not answered */
    struct reply_buffer *buffers; /* of all entries; NULL before the first large answer */
};

/* `own` is the answering side's segment, `peer` the caller's. */
void reply_writer_init(struct reply_writer *w, struct receiver_segment *own,
                       const struct sender_segment *peer);
void reply_writer_deinit(struct reply_writer *w);

/* In a forked child, which does not have our mappings. */
void reply_writer_forget(struct reply_writer *w);

/* A call came. False: the one before it in this entry is not answered. */
hot_inline bool reply_expect(struct reply_writer *w, uint32_t entry)
{
    uint32_t bit = UINT32_C(1) << entry;

    if (unlikely(w->pending & bit))
        return false;
    w->pending |= bit;
    return true;
}

/* The answer may be as long as the call: nobody looks at an entry's second line meanwhile. */
hot_inline void reply_prepare(struct reply_writer *w, uint32_t entry, size_t len)
{
    if (len > SLOT_HEAD_MAX)
        cpu_prefetch_write(w->entries[entry].tail);
}

/* Says that the answer is there. */
hot_inline void reply_publish(struct reply_writer *w, uint32_t entry, uint64_t word)
{
    slot_publish(&w->entries[entry], word);
    w->pending &= ~(UINT32_C(1) << entry);
}

/* At most SLOT_INLINE_MAX bytes. */
hot_inline void reply_write_small(struct reply_writer *w, uint32_t entry, uint32_t sequence,
                                  const void *data, size_t len, uint32_t opcode, uint32_t flags)
{
    struct slot *slot = &w->entries[entry];

    copy_into_line(slot_payload(slot), data, len);
    reply_publish(w, entry,
                  slot_word(sequence, len, SLOT_INLINE | slot_put_meta(slot, opcode, flags, 0)));
}

/* There will be no answer. */
void reply_write_none(struct reply_writer *w, uint32_t entry, uint32_t sequence);

/* Has the entry a buffer for that many bytes? */
bool reply_writer_fits(const struct reply_writer *w, uint32_t entry, size_t len);

/* The number of the entry's next buffer; 0: out of memory. */
uint32_t reply_writer_next(struct reply_writer *w, uint32_t entry);

/* Replaces the entry's buffer; takes it. The caller has told the other side, by that number. */
void reply_writer_attach(struct reply_writer *w, uint32_t entry, struct segment segment);

/* An answer that is written in place has the buffer of its entry, which has none until it is put back. */
static inline struct segment reply_writer_take(struct reply_writer *w, uint32_t entry)
{
    struct segment segment = w->buffers[entry].segment;

    w->buffers[entry].segment = (struct segment){ 0 };
    return segment;
}

static inline void reply_writer_put_back(struct reply_writer *w, uint32_t entry,
                                         struct segment segment)
{
    w->buffers[entry].segment = segment;
}

/* Any answer; a length over SLOT_INLINE_MAX needs reply_writer_fits, and may be in that buffer already. */
void reply_write(struct reply_writer *w, uint32_t entry, uint32_t sequence,
                 const struct ring_message *message);

/* What the caller's notice says after its answer was published, if it is about just this; else 0. */
hot_inline uint64_t reply_notice(const struct reply_writer *w, uint32_t entry, uint32_t sequence)
{
    uint64_t notice;

    /* The processor may do this load before the stores are visible: see docs/design.md, "Sleep". */
    compiler_barrier();
    notice = __atomic_load_n(&w->notices[entry], __ATOMIC_RELAXED);
    return unlikely((uint32_t)notice == sequence) ? notice : 0;
}
