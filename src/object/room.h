/* SPDX-License-Identifier: MIT */
/*
 * room.h - a sender waits for room: in the ring, and where it lends, in its heap. All with the pin.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <veridian/types.h>

#define HELLO_RETRY INT64_C(1000000) /* ns; nobody tells when the owner's queue has room again */

struct port;
struct port_wait;

/* Waits for room; see port_wait. */
int room_wait(struct port *port, vrd_cap_t cap, int64_t deadline);

/* There was no room, and the caller does not wait. True: there is room after all. */
bool room_disappoint(struct port *port);

/* Was the receiver last seen on this CPU? */
bool room_peer_here(const struct port *port, const struct port_wait *wait);
