/* SPDX-License-Identifier: MIT */
/* loan.h - between what the user holds of a loan or a view and what goes through a ring. */
#pragma once

#include <stdbool.h>
#include <veridian/loan.h>

#include "object/link.h"

/* Is there one, and does it hold what is to be sent? */
bool loan_valid(const struct vrd_loan *loan);

/* The message that it is to be. */
struct ring_message loan_out(const struct vrd_loan *loan);

/* It is over. */
void loan_end(struct vrd_loan *loan);

/* What came over `link`, and was received with wants_view. */
void view_in(struct vrd_view *view, const struct ring_message *in, const struct link *link);
