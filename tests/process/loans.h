/* SPDX-License-Identifier: MIT */
/* loans.h - what the tests of loans share. */
#ifndef PROCESS_LOANS_H
#define PROCESS_LOANS_H

#include "process/channels.h"

#define PAGE ((size_t)4096)

/* A channel whose senders may lend `bytes`, in messages of up to `max`. */
static inline struct ends ends_with(size_t slots, size_t max, size_t bytes)
{
    const struct vrd_channel_options options = { .slots = slots,
                                                 .max_message_size = max,
                                                 .max_bytes = bytes };
    struct ends ends;

    EXPECT(vrd_channel_create_with(&options, &ends.send, &ends.receive), 0);
    return ends;
}

static inline struct vrd_loan loan_of(vrd_cap_t cap, struct number number, size_t len)
{
    struct vrd_loan loan;

    EXPECT(vrd_loan(cap, len, &loan), 0);
    EXPECT(loan.len, len);
    EXPECT(loan.size, len);
    EXPECT((uintptr_t)loan.data % 64, 0);
    number_fill(loan.data, len, number);
    return loan;
}

static inline void lend(vrd_cap_t cap, struct number number, size_t len)
{
    struct vrd_loan loan = loan_of(cap, number, len);

    EXPECT(vrd_loan_send(&loan, VRD_FOREVER), 0);
    support_require(loan.data == NULL);
}

static inline struct vrd_view view_of(vrd_cap_t cap, struct number number, size_t len)
{
    struct vrd_view view;

    EXPECT(vrd_receive_view(cap, &view, VRD_FOREVER), 0);
    EXPECT(view.len, len);
    number_check(view.data, len, number);
    return view;
}

static inline void release(struct vrd_view *view)
{
    EXPECT(vrd_view_release(view), 0);
    support_require(view->data == NULL);
}

#endif
