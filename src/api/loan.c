/* SPDX-License-Identifier: MIT */
#include <veridian/loan.h>

#include <stdlib.h>

#include "api/loan.h"
#include "api/transfer.h"
#include "object/borrower.h"
#include "object/call.h"
#include "object/control.h"
#include "object/lender.h"

_Static_assert(VRD_LOANS_MAX == LOANS_MAX, "as the segments have it");
_Static_assert(REPLY_ENTRIES <= LOANS_MAX, "the number of a view tells an entry from a loan");

/* --- sending ---------------------------------------------------------------------------------- */

/* It is the piece `block`, with which the lender is held; what a user sees of it. */
static void loan_in(struct vrd_loan *loan, vrd_cap_t cap, struct lender *lender,
                    struct heap_block *block, size_t size)
{
    lender_hold(lender);
    /* member by member: as one, the compiler clears it by an instruction that is slow to start */
    loan->data = lender_data(lender, block);
    loan->size = loan->len = size;
    loan->opcode = loan->flags = 0;
    loan->cap = cap;
    loan->lender = lender;
    loan->piece = block;
    loan->reserved[0] = loan->reserved[1] = loan->reserved[2] = loan->reserved[3] = 0;
}

/* Not at once. Pin held, on success still. */
static __attribute__((noinline)) int loan_wait(struct port *port, vrd_cap_t cap, size_t size,
                                               int64_t timeout_ns, struct heap_block **ret)
{
    struct ring_message message = { .len = size, .borrows = true };
    int r = transfer_send_keep(port, cap, &message, timeout_ns);

    *ret = message.block;
    return r;
}

int vrd_loan_timed(vrd_cap_t cap, size_t size, int64_t timeout_ns, struct vrd_loan *ret)
{
    struct heap_block *block = NULL;
    struct port *port;
    int r = 0;

    if (!ret)
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_enter_for(cap, GATE_SEND, &r);
    if (!port)
        return r;
    if (likely(timeout_valid(timeout_ns)))
        block = transfer_borrow(port, size);
    if (unlikely(!block)) {
        r = loan_wait(port, cap, size, timeout_ns, &block);
        if (r < 0)
            return r;
    }
    loan_in(ret, cap, port->sender.lender, block, size);
    gate_leave(port);
    return 0;
}

int vrd_loan(vrd_cap_t cap, size_t size, struct vrd_loan *ret)
{
    return vrd_loan_timed(cap, size, VRD_FOREVER, ret);
}

bool loan_valid(const struct vrd_loan *loan)
{
    return loan && loan->data && loan->len <= loan->size;
}

struct ring_message loan_out(const struct vrd_loan *loan)
{
    struct lender *lender = loan->lender;

    return (struct ring_message){ .data = loan->data,
                                  .len = loan->len,
                                  .opcode = loan->opcode,
                                  .flags = loan->flags,
                                  .block = loan->piece,
                                  .lender = &lender->loans };
}

/* No loan any more. */
static inline void loan_clear(struct vrd_loan *loan)
{
    loan->data = loan->lender = loan->piece = NULL; /* no more: as above */
    loan->size = loan->len = 0;
}

void loan_end(struct vrd_loan *loan, const struct ring_message *out)
{
    if (out->lender)
        lender_let_go(loan->lender);
    loan_clear(loan);
}

int vrd_loan_send(struct vrd_loan *loan, int64_t timeout_ns)
{
    struct ring_message message;
    struct port *port;
    int r;

    if (!loan_valid(loan) || !timeout_valid(timeout_ns))
        return VRD_ERR_INVALID_ARGUMENT;
    if (loan_answers(loan))
        return answer_out(loan);
    message = loan_out(loan);
    port = gate_enter_for(loan->cap, GATE_SEND, &r);
    if (!port)
        return r;
    r = transfer_send(port, loan->cap, &message, timeout_ns);
    if (r == 0)
        loan_end(loan, &message);
    return r;
}

int vrd_loan_cancel(struct vrd_loan *loan)
{
    struct port *port;
    bool linked;
    int r;

    if (!loan || !loan->data)
        return VRD_ERR_INVALID_ARGUMENT;
    if (loan_answers(loan))
        return answer_back(loan);
    port = gate_enter_for(loan->cap, GATE_SEND, &r);
    if (!port && r != VRD_ERR_INVALID_CAPABILITY)
        return r;
    linked = port && port->sender.lender == loan->lender;
    if (linked) { /* else its heap is nobody's any more */
        lender_give(port, loan->piece);
        lender_unhold(loan->lender);
    }
    if (port)
        gate_leave(port);
    if (!linked)
        lender_let_go(loan->lender);
    loan_clear(loan);
    return 0;
}

/* --- receiving -------------------------------------------------------------------------------- */

static const char nothing[1]; /* what an empty view shows that is a copy */

void view_in(struct vrd_view *view, const struct ring_message *in, const struct link *link)
{
    *view = (struct vrd_view){ .data = in->view.data ? in->view.data : in->data,
                               .len = in->len,
                               .opcode = in->opcode,
                               .flags = in->flags,
                               .memory = in->answers ? (void *)in->answers : in->view.memory,
                               .loan = in->view.loan };
    if (link) {
        view->badge = link->badge;
        view->source = link->source;
    }
    if (!view->data)
        view->data = nothing;
}

int vrd_receive_view(vrd_cap_t cap, struct vrd_view *ret, int64_t timeout_ns)
{
    struct ring_message message = { .wants_view = true };
    struct link *link;
    struct port *port;
    int r;

    if (!ret)
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_enter_for(cap, GATE_RECEIVE, &r);
    if (!port)
        return r;
    r = transfer_receive(port, cap, &message, 0, timeout_ns, &link);
    if (r < 0)
        return r;
    view_in(ret, &message, link);
    gate_leave(port);
    return 0;
}

int vrd_view_release(struct vrd_view *view)
{
    int r;

    if (!view || !view->data)
        return VRD_ERR_INVALID_ARGUMENT;
    r = control_ready();
    if (r < 0)
        return r;
    if (view->memory && view->loan < REPLY_ENTRIES)
        call_view_release(view->memory, (int)view->loan);
    else if (view->memory)
        borrower_release(view->memory, (uint32_t)view->loan);
    else if (view->data != nothing)
        free(transfer_unconst(view->data));
    view->data = view->memory = NULL;
    view->len = 0;
    view->loan = 0;
    return 0;
}
