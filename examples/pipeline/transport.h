/* SPDX-License-Identifier: MIT */
/*
 * transport.h - one end of a one-way connection between two programs: a channel or a pipe.
 *
 * The launcher makes connections, and passes their ends to the programs as descriptors; a program
 * takes its ends by number. All results are 0 or a VRD_ERR_* number, for pipes too.
 */
#pragma once

#include "message.h"

#include <veridian/ipc.h>

enum transport_kind { TRANSPORT_VERIDIAN, TRANSPORT_PIPE };

struct transport {
    enum transport_kind kind;
    size_t message_size; /* the largest message, header included */
    vrd_cap_t cap;
    int fd;
};

/* "veridian" and "pipe". */
const char *transport_name(enum transport_kind kind);
int transport_parse(const char *name, enum transport_kind *ret);

/*
 * Makes a connection with room for `slots` messages. The descriptors are close-on-exec; closing
 * them is the caller's business.
 */
int transport_create(enum transport_kind kind, size_t slots, size_t message_size, int *ret_send_fd,
                     int *ret_receive_fd);

/* Takes one end. `fd` is gone afterwards. */
int transport_open(struct transport *transport, enum transport_kind kind, int fd,
                   size_t message_size);
void transport_close(struct transport *transport);

/* Both wait. `message` has room for message_size bytes, in the sender too. */
int transport_send(struct transport *transport, const struct message *message);
int transport_receive(struct transport *transport, struct message *message);
