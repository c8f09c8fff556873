/* SPDX-License-Identifier: MIT */
/*
 * lender.h - the heap that a sender lends from over one link. It grows by extensions, as large as the
 * channel allows, and gives those back that are idle. A loan that is neither sent nor cancelled holds
 * it, also when the link and the capability are gone.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "link/loan.h"
#include "link/ring.h"

struct port;

struct lender {
    atomic_uint held; /* by the link, and by each loan that the application has */
    pid_t pid;        /* whose it is; a forked child has a copy                 */

    /* with the pin of the port whose link it belongs to */
    struct loan_writer loans;
    uint32_t number; /* of the extension attached last        */
    uint32_t taken;  /* pieces, since idle ones were looked for */
};

/* All with the pin held, except where said. */

/*
 * At least `size` bytes to write to, for a link in good order. 0, VRD_ERR_CHANNEL_FULL (those who wait
 * as senders do will see it change) or another VRD_ERR_*.
 */
int lender_take(struct port *port, uint64_t size, struct heap_block **ret);

/* From here on a message is copied to the heap, once, rather than through the byte ring. */
#define LENDER_COPY_FROM 4097

/*
 * Copies the data of a message to a piece of its own (`block`), so that the receiver need not; or not, if
 * that is full of what the receiver keeps. 0, VRD_ERR_CHANNEL_FULL: wait for the receiver, or VRD_ERR_*.
 */
int lender_copy(struct port *port, struct ring_message *message);

/* The piece is not sent after all. Those who wait for room look again. */
void lender_give(struct port *port, struct heap_block *block);

static inline void *lender_data(const struct lender *lender, const struct heap_block *block)
{
    return loan_data(&lender->loans, block);
}

static inline void lender_hold(struct lender *lender)
{
    /* relaxed: the link holds it, too */
    atomic_fetch_add_explicit(&lender->held, 1, memory_order_relaxed);
}

/* Without a pin. The last one unmaps and frees it. NULL is fine. */
void lender_let_go(struct lender *lender);
