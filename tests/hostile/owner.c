/* SPDX-License-Identifier: MIT */
#include "owner.h"

#include "base/arith.h"
#include "cap/frame.h"
#include "os/fd.h"
#include "os/socket.h"
#include "peer.h"
#include "support/support.h"

static void owner_init_object(struct owner *owner, uint32_t slots, enum vrd_object_kind object)
{
    const struct frame greeting = { .type = FRAME_GREETING_SEND,
                                    .slots = slots,
                                    .max_message = 1 << 20,
                                    .rights = VRD_RIGHT_SEND,
                                    .object = (uint16_t)object };
    struct datagram datagram;
    struct frame hello;
    int pair[2];

    *owner = (struct owner){ .own_fd = -1 };
    support_require_equal(socket_pair(pair), 0);
    owner->invitation = pair[0];
    support_require_equal(raw_send_frame(pair[0], &greeting, NULL, 0), 0);
    support_require_equal(vrd_cap_import(pair[1], &owner->cap), 0);
    support_require_equal(socket_receive(pair[0], &datagram), 1);
    support_require_equal(frame_decode(datagram.data, datagram.len, datagram.n_fds, &hello), 0);
    support_require_equal(hello.type, FRAME_HELLO);
    owner->tether = fd_take(&datagram.fds[0]);
    owner->mask = pow2_ceil(hello.slots) - 1;
    support_require_equal(
        segment_import(datagram.fds[1], layout_sender_size(owner->mask + 1), &owner->sender), 0);
    datagram_deinit(&datagram);
    support_require_equal(segment_create(LAYOUT_RECEIVER_SIZE, &owner->own, &owner->own_fd), 0);
}

void owner_init(struct owner *owner, uint32_t slots)
{
    owner_init_object(owner, slots, VRD_OBJECT_CHANNEL);
}

void owner_deinit(struct owner *owner)
{
    support_require_equal(vrd_cap_close(owner->cap), 0);
    segment_unmap(&owner->own);
    segment_unmap(&owner->sender);
    fd_close(&owner->own_fd);
    fd_close(&owner->tether);
    fd_close(&owner->invitation);
}

void owner_welcome(struct owner *owner)
{
    const struct frame welcome = { .type = FRAME_WELCOME };

    support_require_equal(raw_send_frame(owner->tether, &welcome, &owner->own_fd, 1), 0);
}

static void owner_meet(struct owner *owner)
{
    owner_welcome(owner);
    support_require_equal(vrd_send_timed(owner->cap, "", 0, 0), 0);
    support_require_equal(vrd_send_timed(owner->cap, "", 0, 0), 0);
    owner_memory(owner)->cursor = 2;
}

void owner_linked(struct owner *owner, uint32_t slots)
{
    owner_init(owner, slots);
    owner_meet(owner);
}

void owner_linked_endpoint(struct owner *owner, uint32_t slots)
{
    owner_init_object(owner, slots, VRD_OBJECT_ENDPOINT);
    owner_meet(owner);
}

struct receiver_segment *owner_memory(const struct owner *owner)
{
    return owner->own.addr;
}
