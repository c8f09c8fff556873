/* SPDX-License-Identifier: MIT */
#include "object/borrower.h"

#include <errno.h>
#include <stdlib.h>
#include <veridian/error.h>

#include "base/error.h"
#include "cap/account.h"
#include "cap/frame.h"
#include "object/control.h"
#include "object/link.h"
#include "object/memory.h"
#include "os/futex.h"

struct borrower *borrower_new(struct link *link)
{
    const struct sender_segment *peer = link->ring.peer_segment.addr;
    struct borrower *borrower = malloc(sizeof(*borrower));

    if (!borrower)
        return NULL;
    *borrower = (struct borrower){
        .held = 1,
        .pid = control_pid(),
        .own = link->ring.own,
        .notice = &peer->returns_notice,
        .link = link,
        .account = link->account,
        .memory = link->memory,
    };
    return borrower;
}

/* Charges what it maps, until that is unmapped. */
static void borrower_charge(struct borrower *borrower, uint32_t mappings, uint64_t bytes)
{
    borrower->mappings += mappings;
    borrower->weight += bytes;
    account_charge(borrower->account, ACCOUNT_MAPPINGS, mappings);
    account_charge(borrower->account, ACCOUNT_BYTES, bytes);
}

/* Some of both, without which the account may be gone. */
static void borrower_discharge(struct borrower *borrower, uint32_t mappings, uint64_t bytes)
{
    borrower->mappings -= mappings;
    borrower->weight -= bytes;
    account_discharge(borrower->account, ACCOUNT_MAPPINGS, mappings);
    account_discharge(borrower->account, ACCOUNT_BYTES, bytes);
}

/* Control lock held. */
static void borrower_let_go(struct borrower *borrower)
{
    /* acq_rel: what the others did with it is done */
    if (atomic_fetch_sub_explicit(&borrower->held, 1, memory_order_acq_rel) != 1)
        return;
    segment_unmap(&borrower->own_segment);
    segment_unmap(&borrower->peer_segment);
    borrower_discharge(borrower, borrower->mappings, borrower->weight);
    free(borrower);
}

/* Maps it, held once. Control lock held. */
static int borrower_map(struct borrower *borrower, const struct frame *frame, int fd,
                        struct loan_memory **ret)
{
    struct segment segment;
    int r;

    if (!account_allows(borrower->account, ACCOUNT_MAPPINGS, 1) ||
        !account_allows(borrower->account, ACCOUNT_BYTES, frame->bytes))
        return VRD_ERR_QUOTA_EXCEEDED;
    r = segment_import_of(fd, frame->bytes, memory_shift(borrower->memory), &segment);
    if (r < 0)
        return r == -EPROTO ? VRD_ERR_PEER_CORRUPT : error_from_errno(-r);
    *ret = loan_memory_new(frame->extension, segment, borrower);
    if (!*ret)
        return VRD_ERR_OUT_OF_MEMORY;
    borrower_charge(borrower, 1, frame->bytes);
    /* relaxed: the link holds it, too */
    atomic_fetch_add_explicit(&borrower->held, 1, memory_order_relaxed);
    return 0;
}

/* Nobody holds the memory any more. Control lock held. */
static void borrower_free_memory(struct loan_memory *memory)
{
    struct borrower *borrower = memory->owner;
    uint64_t bytes = memory->segment.size;

    loan_memory_free(memory);
    borrower_discharge(borrower, 1, bytes);
    borrower_let_go(borrower);
}

/* Views may still hold it. NULL is fine. Control lock held. */
static void borrower_unmap(struct loan_memory *memory)
{
    if (memory && loan_memory_let_go(memory))
        borrower_free_memory(memory);
}

int borrower_attach(struct borrower *borrower, const struct frame *frame, int fd,
                    uint64_t max_bytes)
{
    struct borrower_place *place = &borrower->places[frame->extension % LOAN_EXTENSIONS_MAX];
    int r;

    if (place->number != 0 || frame->bytes > max_bytes - borrower->bytes)
        return VRD_ERR_PEER_CORRUPT;
    r = borrower_map(borrower, frame, fd, &place->arrived);
    if (r < 0)
        return r;
    place->number = frame->extension;
    place->size = frame->bytes;
    borrower->bytes += frame->bytes;
    return 0;
}

int borrower_detach(struct borrower *borrower, uint32_t number)
{
    struct borrower_place *place = &borrower->places[number % LOAN_EXTENSIONS_MAX];

    if (place->number != number)
        return VRD_ERR_PEER_CORRUPT;
    if (place->arrived)
        borrower_unmap(place->arrived);
    else
        place->retired = number;
    borrower->bytes -= place->size;
    place->arrived = NULL;
    place->number = 0;
    return 0;
}

void borrower_adopt(struct borrower *borrower, struct loan_reader *table)
{
    for (size_t i = 0; i < LOAN_EXTENSIONS_MAX; i++) {
        struct borrower_place *place = &borrower->places[i];

        if (place->retired != 0)
            borrower_unmap(loan_reader_detach(table, place->retired));
        if (place->arrived)
            loan_reader_attach(table, place->arrived);
        place->retired = 0;
        place->arrived = NULL;
    }
}

void borrower_leave(struct borrower *borrower, struct ring_reader *ring)
{
    borrower_charge(borrower, LINK_MAPPINGS, ring->peer_segment.size + ring->own_segment.size);
    borrower->own_segment = ring->own_segment;
    borrower->peer_segment = ring->peer_segment;
    ring->own_segment = ring->peer_segment = (struct segment){ 0 };
    borrower->link = NULL;
    borrower_adopt(borrower, &ring->loans);
    for (size_t i = 0; i < LOAN_EXTENSIONS_MAX; i++) {
        borrower_unmap(ring->loans.memories[i]);
        ring->loans.memories[i] = NULL;
    }
    borrower_let_go(borrower);
}

static void borrower_ring(struct borrower *borrower, uint64_t notice)
{
    switch ((notice >> 40) & 0xff) {
    case RING_FUTEX:
        futex_wake(&borrower->own->returns, true);
        break;
    case RING_TETHER:
        control_lock();
        if (borrower->link)
            link_ring_tether(borrower->link);
        control_unlock();
        break;
    default:
        break;
    }
}

void borrower_heed(struct borrower *borrower, uint32_t returns)
{
    /* seq_cst: behind the count; pairs with the fence between the sender's notice and its look */
    uint64_t notice = __atomic_load_n(borrower->notice, __ATOMIC_SEQ_CST);

    if (unlikely((uint32_t)notice == returns))
        borrower_ring(borrower, notice);
}

void borrower_return(struct borrower *borrower, uint32_t loan)
{
    if (borrower->pid == control_pid())
        borrower_heed(borrower, loan_release(borrower->own, loan));
}

void borrower_release(struct loan_memory *memory, uint32_t loan)
{
    borrower_return(memory->owner, loan);
    if (!loan_memory_let_go(memory))
        return;
    control_lock();
    borrower_free_memory(memory);
    control_unlock();
}
