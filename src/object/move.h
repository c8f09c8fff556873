/* SPDX-License-Identifier: MIT */
/*
 * move.h - the right to receive on its way from one process to another, with all sockets that belong to it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct frame;
struct port;

/*
 * Moves the right: sends all sockets over `fd`, the new holder's invitation. 0, or VRD_ERR_* and
 * nothing has moved. Then the port only waits to be closed, or for move_undo, after nobody has got
 * the invitation. Pin held.
 */
int move_give(struct port *port, int fd, uint32_t rights);
void move_undo(struct port *port);

/*
 * As an INVITATIONS frame of who had the right before says; takes the descriptors that it keeps.
 * Control lock held. 0, VRD_ERR_PEER_CORRUPT or another VRD_ERR_*.
 */
int move_take(struct port *port, const struct frame *frame, int *fds, size_t n);
