/* SPDX-License-Identifier: MIT */
/*
 * borrower.h - what views need of the link that brought them: the mappings that they lie in, and the
 * words by which they are given back. They may outlive the link, the capability and the sender, and
 * be released by any thread, without a pin.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "link/loan.h"
#include "link/ring.h"

struct account;
struct frame;
struct link;

/* What the sender has under a number modulo LOAN_EXTENSIONS_MAX. */
struct borrower_place {
    uint32_t number; /* 0: nothing */
    uint64_t size;
    struct loan_memory *arrived; /* not yet in the link's table                       */
    uint32_t retired;            /* still in the link's table, but detached; 0: none */
};

struct borrower {
    atomic_uint held;             /* by the link, and by each extension that is mapped */
    pid_t pid;                    /* whose they are; a forked child has copies         */
    struct receiver_segment *own; /* not there in a forked child                       */
    const uint64_t *notice;       /* the sender's returns_notice                       */

    /* with the control lock */
    struct link *link; /* NULL: it is over, and `own` and `peer` are our mappings */
    struct segment own_segment, peer_segment;
    struct account *account; /* to whom `mappings` and their `weight` are charged */
    uint32_t mappings;
    uint32_t memory; /* see memory.h */
    uint64_t weight; /* bytes */
    uint64_t bytes;  /* of all extensions that the sender has attached */
    struct borrower_place places[LOAN_EXTENSIONS_MAX];
};

/* With the control lock. NULL: out of memory. */
struct borrower *borrower_new(struct link *link);

/* The sender has attached an extension to its heap. Control lock held. 0 or VRD_ERR_*. */
int borrower_attach(struct borrower *borrower, const struct frame *frame, int fd,
                    uint64_t max_bytes);

/* The sender has no use for an extension any more. Control lock held. 0 or VRD_ERR_PEER_CORRUPT. */
int borrower_detach(struct borrower *borrower, uint32_t number);

/* Brings the link's table up to date. Pin and control lock held. */
void borrower_adopt(struct borrower *borrower, struct loan_reader *table);

/* The link is over: takes its segments, which views may need, and its table. Pin and control lock held. */
void borrower_leave(struct borrower *borrower, struct ring_reader *ring);

/* A loan was given back, the count is `returns`: rings if the sender waits for that. Any thread. */
void borrower_heed(struct borrower *borrower, uint32_t returns);

/* Gives a loan back. Any thread. */
void borrower_return(struct borrower *borrower, uint32_t loan);

/* A view holds the memory that it lies in. Pin held. */
static inline void borrower_hold(struct loan_memory *memory)
{
    /* relaxed: the table holds it, too */
    atomic_fetch_add_explicit(&memory->held, 1, memory_order_relaxed);
}

/* The view is released: gives back the loan. Any thread, without the control lock. */
void borrower_release(struct loan_memory *memory, uint32_t loan);
