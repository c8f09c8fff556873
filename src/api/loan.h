/* SPDX-License-Identifier: MIT */
/* loan.h - between what the user holds of a loan or a view and what goes through a ring. */
#pragma once

#include <stdbool.h>
#include <veridian/loan.h>

#include "object/link.h"

/* Is there one, and does it hold what is to be sent? */
bool loan_valid(const struct vrd_loan *loan);

/* Is it what vrd_reply_loan gives? Then answer_out and answer_back are for it. */
static inline bool loan_answers(const struct vrd_loan *loan)
{
    return !loan->lender;
}

/* Answers the call with it. As vrd_loan_send; it is valid. */
int answer_out(struct vrd_loan *loan);

/* It is not to be sent. */
int answer_back(struct vrd_loan *loan);

/* The message that any other is to be. */
struct ring_message loan_out(const struct vrd_loan *loan);

/* Any other is over, having been lent as `out`. */
void loan_end(struct vrd_loan *loan, const struct ring_message *out);

/* What came over `link` (NULL: as an answer), and was received with wants_view. */
void view_in(struct vrd_view *view, const struct ring_message *in, const struct link *link);
