/* SPDX-License-Identifier: MIT */
/*
 * outfit.h - what a sender brings to a new link: its segment and the tether. It can be made before it
 * is known with whom the link will be.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "os/segment.h"

struct outfit {
    struct segment segment; /* mapped to write */
    int segment_fd;         /* read-only, for the receiver */
    uint32_t memory;        /* of which it is made, see memory.h */
    int near, far;          /* the tether */
    bool offered;           /* the segment, by sender_offer */
};

#define OUTFIT_NONE ((struct outfit){ .segment_fd = -1, .near = -1, .far = -1 })

/* A segment for a ring of that capacity, of such memory (see memory.h); does nothing if there is one. 0 or -errno. */
int outfit_make(struct outfit *outfit, uint32_t capacity, uint32_t memory);

/* The tether. 0 or -errno. */
int outfit_tether(struct outfit *outfit);

/* Lets go of what nobody took out of it. */
void outfit_deinit(struct outfit *outfit);

#define outfit_auto __attribute__((cleanup(outfit_deinit))) struct outfit
