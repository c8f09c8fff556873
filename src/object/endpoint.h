/* SPDX-License-Identifier: MIT */
/* endpoint.h - both sides of an endpoint in the process that owns it, behind one number. */
#pragma once

#include <stdint.h>
#include <veridian/capability.h>

struct port;

/* All with the control lock held. */

/*
 * Makes the receiver over `far` and its hidden sender over `near`, the two ends of a root pair; takes
 * both, also on failure. Not yet shown. NULL: out of memory.
 */
struct port *endpoint_new(uint32_t rights, uint32_t slots, uint64_t max_message, int near, int far,
                          vrd_cap_t *ret_cap);

/* Makes the number valid. */
void endpoint_show(struct port *receiver, vrd_cap_t cap);

/* Undoes endpoint_new, before it was shown. */
void endpoint_free(struct port *receiver);
