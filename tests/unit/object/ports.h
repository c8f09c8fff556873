/* SPDX-License-Identifier: MIT */
/* ports.h - ports without the public functions around them, and frames by hand. */
#ifndef UNIT_OBJECT_PORTS_H
#define UNIT_OBJECT_PORTS_H

#include "unit/unit.h"

#include <veridian/ipc.h>

#include "cap/frame.h"
#include "object/port.h"
#include "os/socket.h"

#define MS INT64_C(1000000)

#define RIGHTS_SENDER (VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)
#define RIGHTS_RECEIVER (VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

/* What a process starts once and keeps is there from then on. */
int ports_warm_up(void);

/* Shown, not held. The receiver has no sources, the sender a root (or -1). */
struct port *port_receiver(uint32_t capacity, uint64_t max_message, vrd_cap_t *ret_cap);
struct port *port_sender(uint32_t capacity, uint64_t max_message, int root, vrd_cap_t *ret_cap);

/* With the pin. */
void port_hold(struct port *port, vrd_cap_t cap);
void port_let_go(struct port *port);
void port_hold_and_close(struct port *port, vrd_cap_t cap);

/* 0 or -errno. */
int frame_put(int fd, const struct frame *frame, const int *fds, size_t n_fds);

/* Takes the next frame; requires that there is one, of that type. The datagram is the caller's. */
struct frame frame_get(int fd, enum frame_type type, struct datagram *datagram);

#endif
