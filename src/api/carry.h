/* SPDX-License-Identifier: MIT */
/*
 * carry.h - capabilities move with a message: first each becomes an invitation, then the message goes
 * with them, then they are closed here; or it does not go, and they stay. No pin is held, except where
 * said: each capability has its own.
 */
#pragma once

#include <stdint.h>
#include <veridian/capability.h>
#include <veridian/message.h>

#include "object/carried.h"

struct carry {
    const vrd_cap_t *caps;
    struct carried out; /* for ring_message.carried */
};

/*
 * Prepares the `n` capabilities for a message through `through`. VRD_ERR_INVALID_ARGUMENT: too many, one
 * of them twice, or `through` itself; else as passing_mint. On failure they are as before.
 */
int carry_open(struct carry *carry, vrd_cap_t through, const vrd_cap_t *caps, uint32_t n);

/* After carry_open: the message went (`result` 0), or not. A second time does nothing. */
void carry_close(struct carry *carry, int result);

/*
 * What came with a message, if anything did: the first max_caps become capabilities of this process,
 * or VRD_CAP_NONE where that fails; the rest is closed. Frees it. Also with a pin.
 */
void carry_in(struct vrd_message *message, struct carried *carried);
