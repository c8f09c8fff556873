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
    atomic_uint held; /* by the link; once that is over, by each loan that was `lent` */
    pid_t pid;        /* whose it is; a forked child has a copy                       */

    /* with the pin of the port whose link it belongs to */
    struct loan_writer loans;
    uint32_t number; /* of the extension attached last        */
    uint32_t taken;  /* pieces, since idle ones were looked for */
    uint32_t lent;   /* pieces that the application has         */
};

/* All with the pin held, except where said. */

/*
 * At least `size` bytes to write to, for a link in good order. 0, VRD_ERR_CHANNEL_FULL (those who wait
 * as senders do will see it change) or another VRD_ERR_*.
 */
int lender_take(struct port *port, uint64_t size, struct heap_block **ret);

/* Now and then, when LENDER_TIDY pieces were taken: gives back what nothing was taken from since the last time. */
void lender_tidy(struct port *port);

#define LENDER_TIDY 16384

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

/* The application has a piece of it, or no more. */
static inline void lender_hold(struct lender *lender)
{
    lender->lent++;
}

static inline void lender_unhold(struct lender *lender)
{
    lender->lent--;
}

/* The link is over: what the application still has is let go of without a pin. NULL is fine. */
void lender_leave(struct lender *lender);

/* After lender_leave, by each who holds it; without a pin. The last one unmaps and frees it. */
void lender_let_go(struct lender *lender);
