/* SPDX-License-Identifier: MIT */
/*
 * request.h - what the holder of a right to send asks the owner for: rights derived from it, and their end.
 * All with the pin.
 */
#pragma once

#include <stdint.h>
#include <veridian/types.h>

struct port;

/* Asks the owner for an invitation whose other end is `fd`. 0 or VRD_ERR_*. */
int request_derive(struct port *port, uint32_t rights, int fd);

/* The same for a capability that stays here, and in children; `badge` may be 0. */
int request_derive_kept(struct port *port, uint32_t rights, uint64_t badge, int fd);

/*
 * Has the owner revoke what was derived from this one, and waits for its answer. Gives the pin back,
 * whatever happens. Errors as vrd_cap_revoke.
 */
int request_revoke(struct port *port, vrd_cap_t cap);
