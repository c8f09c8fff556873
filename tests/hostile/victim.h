/* SPDX-License-Identifier: MIT */
/* victim.h - a channel under attack, with an honest sender beside. */
#ifndef HOSTILE_VICTIM_H
#define HOSTILE_VICTIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <veridian/ipc.h>

#define VICTIM_SLOTS 16
#define VICTIM_MESSAGE_MAX ((size_t)1 << 20)

struct victim {
    vrd_cap_t send, receive;
    size_t sent, received; /* by the honest sender                       */
    size_t corrupt;        /* times that the receiver said PEER_CORRUPT  */
    size_t strange;        /* messages that are not the honest sender's  */
};

void victim_init(struct victim *victim);
void victim_deinit(struct victim *victim);

/* An invitation with these rights. */
int victim_invite(const struct victim *victim, uint32_t rights);

/* Receives what there is, without waiting. Anything but messages, EMPTY and PEER_CORRUPT fails. */
void victim_pump(struct victim *victim);

/* The same with the type that peer_welcome wants. */
void victim_pump_any(void *victim);

/* Pumps until the other side of `fd` has hung up. */
void victim_pump_until_hung_up(struct victim *victim, int fd);

/* Pumps until the honest sender's link is the only one. */
void victim_pump_until_alone(struct victim *victim);

/* The honest sender's messages, small and large, arrive as before. */
void victim_require_well(struct victim *victim);

#endif
