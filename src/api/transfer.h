/* SPDX-License-Identifier: MIT */
/*
 * transfer.h - moving one message through a port: the fast path, which is most of a program's life,
 * and the way that everything else takes. All with the pin held, as the gate left it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "api/gate.h"
#include "object/lender.h"
#include "object/link.h"

/* Reads only, whatever its type says: a struct ring_message serves both directions. */
static inline void *transfer_unconst(const void *data)
{
    return (void *)(uintptr_t)data;
}

/*
 * Sends `message`, waiting up to timeout_ns for room. Gives the pin back, whatever happens. Errors
 * as vrd_send_timed.
 */
int transfer_send(struct port *port, vrd_cap_t cap, struct ring_message *message,
                  int64_t timeout_ns);

/*
 * As transfer_send, but keeps the pin on success. If the message is a call (`call` is not 0), an
 * entry for the answer is picked (then `call` says which), also waiting for one; on success the call
 * has begun. If it `borrows`, nothing is sent, but `block` is to be written to. A
 * `block` that was to be lent is NULL once it is, also on failure; on success its lender is not held for
 * it any more, and `lender` is NULL.
 */
int transfer_send_keep(struct port *port, vrd_cap_t cap, struct ring_message *message,
                       int64_t timeout_ns);

/*
 * Receives into `message`, waiting up to timeout_ns. 0 with the pin held and the link that it came
 * from; or an error, as vrd_receive_timed, with the pin given back.
 */
int transfer_receive(struct port *port, vrd_cap_t cap, struct ring_message *message, size_t size,
                     int64_t timeout_ns, struct link **ret_link);

/*
 * A message that fits a slot and the channel's limit, on a link in good order with room. `call` as
 * for ring_write_small.
 */
hot_inline bool transfer_send_small(struct port *port, const void *data, size_t len,
                                    uint32_t opcode, uint32_t flags, unsigned call)
{
    return likely(data && len <= port->sender.small_max &&
                  /* relaxed: it says "look closer"; looking takes the lock */
                  atomic_load_explicit(&port->attention, memory_order_relaxed) == 0 &&
                  ring_write_small(&port->sender.ring, data, len, opcode, flags, call));
}

/* A message that no slot holds, on a link in good order with a byte ring and room in it. */
static inline bool transfer_send_bytes(struct port *port, const void *data, size_t len,
                                       uint32_t opcode, uint32_t flags)
{
    return data && len > SLOT_INLINE_MAX && len < LENDER_COPY_FROM && len <= port->max_message &&
           /* relaxed: as above */
           atomic_load_explicit(&port->attention, memory_order_relaxed) == 0 &&
           ring_write_bytes(&port->sender.ring, data, len, opcode, flags);
}

/* A piece to write to, on a link in good order that has lent before, and if there is room. */
static inline struct heap_block *transfer_borrow(struct port *port, size_t size)
{
    struct lender *lender = port->sender.lender;
    struct heap_block *block;

    if (unlikely(!lender || size > port->max_message ||
                 /* relaxed: as above */
                 atomic_load_explicit(&port->attention, memory_order_relaxed) != 0))
        return NULL;
    block = loan_take(&lender->loans, size);
    if (likely(block) && unlikely(++lender->taken >= LENDER_TIDY))
        lender_tidy(port);
    return block;
}

/* Does what the notice calls for and gives the pin back; for the end of a fast path. */
int transfer_send_end(struct port *port, uint64_t notice);
ssize_t transfer_receive_end(struct port *port, struct link *link, uint64_t notice, ssize_t n);

/*
 * Nothing there at the first look: looks a little longer at the current link, whose next slot it is,
 * before anything slower is tried; if it is the only one. The last word seen, for ring_state.
 */
uint64_t transfer_look(const struct port *port, const struct slot *slot);
