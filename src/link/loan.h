/* SPDX-License-Identifier: MIT */
/*
 * loan.h - payloads that are not copied: the writer lends a piece of its heap with a message, and the
 * reader gives it back by a word in its own segment, in any order and whenever it likes.
 *
 * A loan is a number below LOANS_MAX and, above it, which use of the number this is, from 1. The
 * reader's word for the number is only ever compared with the loan that is out; the number is used
 * again, as another loan, once the two have been seen to be equal. Whatever else the reader writes
 * there keeps the piece lent, or gives it back while the reader still looks at it, which is nobody's
 * loss but the reader's.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "link/heap.h"
#include "link/layout.h"
#include "os/segment.h"

#define LOAN_EXTENSIONS_MAX 16 /* of a heap, at a time */

/* --- the writer ------------------------------------------------------------------------------- */

struct loan_extension {
    struct segment segment;
    uint32_t number; /* 0: none */
};

struct loan_out {
    struct heap_block *block;
    uint32_t loan; /* as the message says; while not out, as the last one did */
};

struct loan_writer {
    struct heap heap;
    struct loan_extension extensions[LOAN_EXTENSIONS_MAX]; /* by number, modulo */
    const struct receiver_segment *peer; /* NULL before it has answered           */
    uint32_t returns; /* the reader's count, before all loans were last looked at  */
    bool wanting;     /* nothing could be lent, for want of what has yet to return */
    struct loan_out out[LOANS_MAX];
    uint16_t order[LOANS_MAX]; /* indices: first those that are out, then the others */
    uint16_t n_out;
};

void loan_writer_init(struct loan_writer *w);
void loan_writer_deinit(struct loan_writer *w);

/* In a forked child, which does not have the mappings: frees the rest. */
void loan_writer_forget(struct loan_writer *w);

static inline void loan_writer_answered(struct loan_writer *w, const struct receiver_segment *peer)
{
    w->peer = peer;
}

/* The next number after `last`, not 0, under which an extension may be attached. False: there is none. */
bool loan_writer_number(const struct loan_writer *w, uint32_t last, uint32_t *ret_number);

/* Takes the segment, also on failure. 0 or VRD_ERR_OUT_OF_MEMORY. */
int loan_writer_attach(struct loan_writer *w, uint32_t number, struct segment segment);

/* Lets go of an extension of which nothing is lent or about to be (heap_idle). */
void loan_writer_detach(struct loan_writer *w, uint32_t number);

/* A piece to write to. NULL: there is no room for it now, and `wanting` is set. */
struct heap_block *loan_take(struct loan_writer *w, uint64_t size);

static inline void *loan_data(const struct loan_writer *w, const struct heap_block *block)
{
    uint32_t number = block->extension->number;

    return (uint8_t *)w->extensions[number % LOAN_EXTENSIONS_MAX].segment.addr + block->offset;
}

/* Not to be sent after all. */
static inline void loan_cancel(struct loan_writer *w, struct heap_block *block)
{
    heap_give(&w->heap, block);
}

/*
 * Lends the first `len` bytes of a piece with a message, which is about to be published. 0, or
 * VRD_ERR_CHANNEL_FULL: too many are out, and `wanting` is set.
 */
int loan_lend(struct loan_writer *w, struct heap_block *block, uint64_t len,
              struct slot_bytes *ret);

/* May one more be lent? */
bool loan_writer_spare(struct loan_writer *w);

/* Takes back what the reader has released; for who needs room, loan_take and loan_lend do it. */
void loan_reclaim(struct loan_writer *w);

/* Has anything returned since all loans were last looked at? */
static inline bool loan_returned(const struct loan_writer *w)
{
    /* relaxed: loan_reclaim loads it again, with acquire */
    return w->peer && __atomic_load_n(&w->peer->returns, __ATOMIC_RELAXED) != w->returns;
}

/* --- the reader ------------------------------------------------------------------------------- */

/* An extension, mapped for as long as the reader's table or a view of some piece of it holds it. */
struct loan_memory {
    atomic_uint held;
    uint32_t number;
    struct segment segment;
    void *owner; /* the caller's word */
};

/* Takes the segment, also on failure; held once. NULL: out of memory. */
struct loan_memory *loan_memory_new(uint32_t number, struct segment segment, void *owner);

/* True: it was the last to hold it, and has to free it. */
static inline bool loan_memory_let_go(struct loan_memory *memory)
{
    /* acq_rel: what the others have read is read before it is unmapped */
    return atomic_fetch_sub_explicit(&memory->held, 1, memory_order_acq_rel) == 1;
}

void loan_memory_free(struct loan_memory *memory);

struct loan_reader {
    struct loan_memory *memories[LOAN_EXTENSIONS_MAX]; /* by number, modulo */
};

/* Takes what the caller holds, but on error: VRD_ERR_PEER_CORRUPT if its place is taken. */
int loan_reader_attach(struct loan_reader *r, struct loan_memory *memory);

/* What the table held is the caller's to let go of. NULL: there is none of that number. */
struct loan_memory *loan_reader_detach(struct loan_reader *r, uint32_t number);

/* Where a payload is that was lent. */
struct loan_view {
    const void *data;
    size_t len;
    uint32_t loan;
    uint32_t returns; /* once it is given back: the count */
    struct loan_memory *memory;
};

/* In place of a result of loan_find: the extension has not arrived. */
#define LOAN_NEEDS_EXTENSION 1

/*
 * Where is the payload of at most `max` bytes that this description, a private copy, tells of? 0 (holding
 * no memory), LOAN_NEEDS_EXTENSION or VRD_ERR_PEER_CORRUPT.
 */
int loan_find(const struct loan_reader *r, const struct slot_bytes *bytes, uint64_t max,
              struct loan_view *ret);

/*
 * Gives it back. Any thread. The result is the count of returns, for the writer's returns_notice, whose
 * load has to be seq_cst.
 */
static inline uint32_t loan_release(struct receiver_segment *own, uint32_t loan)
{
    /* release: what was read before is read; pairs with loan_look */
    __atomic_store_n(&own->released[loan % LOANS_MAX], loan, __ATOMIC_RELEASE);
    /* seq_cst: against a writer that says it awaits this, and then looks */
    return __atomic_add_fetch(&own->returns, 1, __ATOMIC_SEQ_CST);
}
