/* SPDX-License-Identifier: MIT */
/* owner.h - the receiving side of a link, by hand, facing an honest sender that imported what it
 * was given. */
#ifndef HOSTILE_OWNER_H
#define HOSTILE_OWNER_H

#include <stddef.h>
#include <stdint.h>
#include <veridian/ipc.h>

#include "link/layout.h"
#include "os/segment.h"

struct owner {
    vrd_cap_t cap;      /* the sender's capability                     */
    int invitation;     /* the owner's end                             */
    int tether;         /* the owner's end, from the sender's HELLO    */
    struct segment own; /* the receiver's segment, writable            */
    int own_fd;
    struct segment sender; /* read-only, as every owner has it         */
    uint32_t mask;
};

/* Greets, lets the sender import, and takes its HELLO; the sender has no answer yet. */
void owner_init(struct owner *owner, uint32_t slots);
void owner_deinit(struct owner *owner);

/* The answer as it should be. */
void owner_welcome(struct owner *owner);

/* owner_init and owner_welcome, and the sender has sent one message and knows. */
void owner_linked(struct owner *owner, uint32_t slots);

/* The same where what the sender holds is an endpoint's. */
void owner_linked_endpoint(struct owner *owner, uint32_t slots);

struct receiver_segment *owner_memory(const struct owner *owner);

#endif
