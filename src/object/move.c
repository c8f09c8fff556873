/* SPDX-License-Identifier: MIT */
#include "object/move.h"

#include <errno.h>
#include <string.h>
#include <veridian/error.h>

#include "base/error.h"
#include "cap/frame.h"
#include "object/control.h"
#include "object/owner.h"
#include "object/port.h"
#include "object/source.h"
#include "os/fd.h"
#include "os/socket.h"

static int move_frame(int fd, const uint8_t frame[FRAME_SIZE], const int *fds, size_t n_fds)
{
    int r = socket_send(fd, frame, FRAME_SIZE, fds, n_fds);

    if (r == -EAGAIN) /* more invitations than the queue holds */
        return VRD_ERR_QUOTA_EXCEEDED;
    return r < 0 ? error_from_errno(-r) : 0;
}

/* The root socket, if anyone still holds its other end. */
static int move_root(struct port *port, int fd, uint32_t rights, uint32_t invitations)
{
    const struct source *first = list_entry(port->receiver.sources.next, struct source, node);
    struct frame frame = { .type = FRAME_GREETING_RECEIVE,
                           .slots = port->capacity,
                           .max_message = port->max_message,
                           .rights = rights,
                           .object = (uint16_t)port->object,
                           .bytes = port->max_bytes,
                           .extension = port->memory,
                           .count = invitations };
    int fds[2] = { first->fd, -1 };
    size_t n = first->kind == SOURCE_ROOT;
    uint8_t buf[FRAME_SIZE];

    if (port->receiver.caller) { /* its root stays as long as the receiver does */
        if (n == 0)
            return VRD_ERR_PEER_GONE;
        fds[n++] = port->receiver.caller->sender.root;
    }
    frame_encode(&frame, buf);
    return move_frame(fd, buf, fds, n);
}

/* Without links, a node has one socket. */
static struct frame move_invitation(const struct node *node, int *ret_fd)
{
    const struct source *source = list_entry(node->sockets.next, struct source, held);

    *ret_fd = source->fd;
    return (struct frame){ .type = FRAME_INVITATIONS,
                           .rights = node->rights,
                           .badge = node->badge,
                           .depth = node->depth,
                           .count = source->kind == SOURCE_DERIVED,
                           .id = node->parent->ordinal };
}

/* All that was derived and is not yet used, parents first, in frames of those that are alike. */
static int move_invitations(struct port *port, int fd)
{
    struct node *tree = &port->receiver.tree;
    uint8_t last[FRAME_SIZE], next[FRAME_SIZE];
    int fds[FRAME_FDS_MAX];
    uint32_t ordinal = 1;
    size_t n = 0;

    tree->ordinal = ordinal;
    for (struct node *node = node_next(tree, tree); node; node = node_next(tree, node)) {
        struct frame frame = move_invitation(node, &fds[n]);
        int socket = fds[n], r = 0;

        node->ordinal = ++ordinal;
        frame_encode(&frame, next);
        if (n > 0 && memcmp(next, last, FRAME_SIZE) != 0) {
            r = move_frame(fd, last, fds, n);
            n = 0;
        }
        memcpy(last, next, FRAME_SIZE);
        fds[n++] = socket;
        if (r == 0 && n == FRAME_FDS_MAX) {
            r = move_frame(fd, last, fds, n);
            n = 0;
        }
        if (r < 0)
            return r;
    }
    return n > 0 ? move_frame(fd, last, fds, n) : 0;
}

int move_give(struct port *port, int fd, uint32_t rights)
{
    struct receiver *rx = &port->receiver;
    uint32_t invitations = 0;
    bool tethers = false;
    int r;

    control_lock();
    list_foreach(node, &rx->sources) {
        enum source_kind kind = list_entry(node, struct source, node)->kind;

        invitations += kind == SOURCE_INVITATION || kind == SOURCE_DERIVED;
        tethers |= kind == SOURCE_LINK; /* also after the link: a child may say HELLO over it */
    }
    if (rx->n_links > 0 || tethers || rx->moving)
        r = VRD_ERR_RESOURCE_BUSY;
    else if (list_empty(&rx->sources))
        r = VRD_ERR_PEER_GONE;
    else
        r = move_root(port, fd, rights, invitations);
    if (r == 0)
        r = move_invitations(port, fd);
    if (r == 0) { /* at once: a HELLO that comes now is for the new holder */
        list_foreach(node, &rx->sources)
            source_unwatch(list_entry(node, struct source, node));
        rx->started = false;
        rx->moving = true;
    }
    control_unlock();
    return r;
}

void move_undo(struct port *port)
{
    control_lock();
    port->receiver.moving = false;
    port_post(port);
    control_unlock();
}

/* The root is the first, then the invitations in order. NULL: there are not so many. */
static struct node *move_nth(struct receiver *rx, uint64_t n)
{
    if (n == 1)
        return &rx->tree;
    list_foreach(node, &rx->sources) {
        const struct source *source = list_entry(node, struct source, node);

        if (source->kind != SOURCE_ROOT && --n == 1)
            return source->right;
    }
    return NULL;
}

int move_take(struct port *port, const struct frame *frame, int *fds, size_t n)
{
    struct receiver *rx = &port->receiver;
    struct node *parent = move_nth(rx, frame->id);
    struct frame child = *frame;

    if (!parent || frame->count > 1 || (frame->depth > 0 && frame->depth <= parent->depth) ||
        (parent->badge != 0 && frame->badge != parent->badge))
        return VRD_ERR_PEER_CORRUPT;
    if (parent->badge != 0)
        child.badge = 0; /* it has it from there */
    for (size_t i = 0; i < n; i++) {
        int r = owner_confer(port, fd_take(&fds[i]), parent, &child, NULL);

        if (r < 0)
            return r == VRD_ERR_PERMISSION_DENIED ? VRD_ERR_PEER_CORRUPT : r;
    }
    return 0;
}
