/* SPDX-License-Identifier: MIT */
#include "object/lender.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <veridian/error.h>

#include "base/arith.h"
#include "base/error.h"
#include "cap/frame.h"
#include "link/layout.h"
#include "object/control.h"
#include "object/memory.h"
#include "object/port.h"
#include "os/fd.h"
#include "os/jemalloc.h"

#define EXTENSION_MIN (UINT64_C(256) << 10)
#define EXTENSION_USUAL \
    (UINT64_C(1) << 20) /* from EXTENSION_MEDIUM on: more than the L2 cache holds, */
#define EXTENSION_MEDIUM \
    1024 /* from which the other CPU would have to fetch each line             */
#define EXTENSION_MAX (UINT64_C(64) << 20)  /* unless for a piece that is larger */
#define EXTENSION_PIECES 4                  /* of the size asked for, as long as they are small */
#define EXTENSION_SPARE (UINT64_C(8) << 20) /* the last one is kept, if it is no larger than this */

static struct lender *lender_new(struct sender *s)
{
    struct lender *lender = malloc(sizeof(*lender));

    if (!lender)
        return NULL;
    atomic_init(&lender->held, 1);
    lender->pid = control_pid();
    lender->number = lender->taken = lender->lent = 0;
    loan_writer_init(&lender->loans);
    if (jemalloc_wanted())
        heap_use_jemalloc(&lender->loans.heap);
    if (s->peer.addr)
        loan_writer_answered(&lender->loans, s->peer.addr);
    return lender;
}

void lender_let_go(struct lender *lender)
{
    /* acq_rel: what the others wrote is written before it is unmapped */
    if (atomic_fetch_sub_explicit(&lender->held, 1, memory_order_acq_rel) != 1)
        return;
    if (lender->pid == control_pid())
        loan_writer_deinit(&lender->loans);
    else
        loan_writer_forget(&lender->loans);
    free(lender);
}

void lender_leave(struct lender *lender)
{
    if (!lender)
        return;
    /* relaxed: who lets go of it without a pin has seen with the pin that the link is over */
    atomic_fetch_add_explicit(&lender->held, lender->lent, memory_order_relaxed);
    lender_let_go(lender);
}

/* Gives an extension back of which nothing is in use. 0 or VRD_ERR_*. */
static int lender_shrink(struct port *port, uint32_t number)
{
    const struct frame frame = { .type = FRAME_DETACH, .extension = number };
    int r = sender_say(port, &frame, -1);

    if (r < 0)
        return r == -EAGAIN ? VRD_ERR_CHANNEL_FULL : error_from_errno(-r);
    loan_writer_detach(&port->sender.lender->loans, number);
    return 0;
}

void lender_tidy(struct port *port)
{
    struct lender *lender = port->sender.lender;
    struct heap *heap = &lender->loans.heap;
    uint32_t number;

    lender->taken = 0;
    loan_reclaim(&lender->loans);
    while ((heap->extensions->next || heap->size > EXTENSION_SPARE) &&
           heap_idle(heap, true, &number) && lender_shrink(port, number) == 0) {
    }
    heap_rest(heap);
}

/* How large is the next extension to be, for a piece of `need` bytes? 0: there is no room for it. */
static uint64_t lender_extension_size(const struct port *port, uint64_t need)
{
    const uint64_t size_now = port->sender.lender->loans.heap.size;
    const uint64_t left = (port->max_bytes - size_now) & ~(uint64_t)(LAYOUT_PAGE - 1);
    uint64_t size = size_now;

    if (need > left)
        return 0;
    if (size < need * EXTENSION_PIECES)
        size = need * EXTENSION_PIECES;
    if (size < EXTENSION_MIN)
        size = EXTENSION_MIN;
    if (size < EXTENSION_USUAL && need > EXTENSION_MEDIUM)
        size = EXTENSION_USUAL;
    if (size > EXTENSION_MAX)
        size = EXTENSION_MAX;
    if (size < need)
        size = need;
    size = round_up(size, LAYOUT_PAGE);
    return size < left ? size : left;
}

/* One more extension for a piece of `need` bytes, in place of idle ones if that has to be. */
static int lender_grow(struct port *port, uint64_t need)
{
    struct loan_writer *loans = &port->sender.lender->loans;
    struct frame frame = { .type = FRAME_ATTACH, .count = FRAME_ATTACH_HEAP };
    struct segment segment;
    struct pages pages;
    fd_auto fd = -1;
    uint32_t number;
    int r;

    while ((frame.bytes = lender_extension_size(port, need)) == 0 ||
           !loan_writer_number(loans, port->sender.lender->number, &frame.extension)) {
        if (!heap_idle(&loans->heap, false, &number))
            return VRD_ERR_CHANNEL_FULL;
        r = lender_shrink(port, number);
        if (r < 0)
            return r;
    }
    pages = memory_pages_large(port->memory, sender_owner_cpu(&port->sender.ring), &frame.bytes,
                               port->max_bytes - loans->heap.size);
    r = segment_create_of(frame.bytes, &pages, &segment, &fd);
    if (r < 0)
        return error_from_errno(-r);
    r = sender_say(port, &frame, fd);
    if (r < 0) {
        segment_unmap(&segment);
        return r == -EAGAIN ? VRD_ERR_CHANNEL_FULL : error_from_errno(-r);
    }
    port->sender.lender->number = frame.extension;
    return loan_writer_attach(loans, frame.extension, segment);
}

int lender_take(struct port *port, uint64_t size, struct heap_block **ret)
{
    struct sender *s = &port->sender;
    struct heap_block *block;
    int r;

    if (!s->lender)
        s->lender = lender_new(s);
    if (!s->lender)
        return VRD_ERR_OUT_OF_MEMORY;
    s->ring.loans = &s->lender->loans;
    block = loan_take(&s->lender->loans, size);
    if (unlikely(!block)) {
        r = lender_grow(port, size);
        if (r < 0)
            return r;
        block = loan_take(&s->lender->loans, size);
        if (!block)
            return VRD_ERR_OUT_OF_MEMORY;
    }
    if (++s->lender->taken >= LENDER_TIDY)
        lender_tidy(port);
    *ret = block;
    return 0;
}

/*
 * Is there to be one more copy of `len` bytes under way? If there are many, the receiver is waited for, as
 * it is where copies go through the byte ring; what it has taken and keeps does not count.
 */
static int lender_pace(struct port *port, uint64_t len)
{
    const uint64_t pieces = len * EXTENSION_PIECES;
    const uint64_t most = pieces > EXTENSION_USUAL ? pieces : EXTENSION_USUAL;
    struct loan_writer *loans = &port->sender.lender->loans;
    struct ring_writer *ring = &port->sender.ring;
    int r;

    if (loans->heap.used + len <= most)
        return 0;
    r = ring_writer_refresh(ring);
    if (r < 0)
        return r;
    loan_reclaim(loans); /* what was given back before the cursor moved, too */
    return loans->heap.used + len > most && ring_writer_unread(ring) > 0 ? VRD_ERR_CHANNEL_FULL : 0;
}

int lender_copy(struct port *port, struct ring_message *message)
{
    static const struct ring_message nothing;
    struct sender *s = &port->sender;
    int r = ring_writer_room(&s->ring, &nothing);

    if (r == 0 && s->lender)
        r = lender_pace(port, message->len);
    if (r < 0)
        return r;
    if (s->lender && !loan_writer_spare(&s->lender->loans))
        return 0;
    r = lender_take(port, message->len, &message->block);
    if (r < 0)
        return r == VRD_ERR_CHANNEL_FULL || r == VRD_ERR_OUT_OF_MEMORY ? 0 : r;
    copy_write(lender_data(s->lender, message->block), message->data, message->len,
               ring_writer_far(&s->ring, message->len));
    message->lender = &s->lender->loans;
    return 0;
}

void lender_give(struct port *port, struct heap_block *block)
{
    struct lender *lender = port->sender.lender;

    loan_cancel(&lender->loans, block);
    if (likely(!lender->loans.wanting))
        return;
    lender->loans.wanting = false;
    control_lock();
    port_post(port);
    control_unlock();
}
