/* SPDX-License-Identifier: MIT */
/* name.h - the two steps of connecting to a name, for who looks closer in between. */
#pragma once

#include <stdint.h>
#include <veridian/capability.h>

struct outfit;

/* A connection to whoever listens under `name`; never waits. Errors as vrd_connect, or ENDPOINT_BUSY. */
int name_reach(const char *name, int *ret_fd);

/* Time for the answer of a publisher that is there, where none is given. */
#define NAME_ANSWER_NS INT64_C(1000000000)

/*
 * What the publisher answers, until `deadline`; may take the descriptor. Errors as vrd_connect; PEER_GONE:
 * it went away just now. `outfit`: what is ready for the link; see sender_offer.
 */
int name_meet(int *fd, struct outfit *outfit, int64_t deadline, vrd_cap_t *ret);
