/* SPDX-License-Identifier: MIT */
#include <veridian/capability.h>

#include <errno.h>
#include <veridian/channel.h>

#include "api/gate.h"
#include "api/passing.h"
#include "base/error.h"
#include "cap/frame.h"
#include "object/control.h"
#include "object/endpoint.h"
#include "object/memory.h"
#include "object/move.h"
#include "object/outfit.h"
#include "object/owner.h"
#include "os/fd.h"
#include "os/socket.h"

#define RIGHTS_ALL (VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

/* How much may be lent, and of what memory; a limit that no message would fit is none. */
static void greeting_limit(const struct frame *greeting, struct port *port)
{
    if (greeting->bytes >= round_up(greeting->max_message, LAYOUT_PAGE))
        port->max_bytes = greeting->bytes;
    port->memory = greeting->extension;
}

/* A capability to send, not yet shown. 0 or VRD_ERR_*. */
static int import_port(const struct frame *greeting, struct port **ret_port, vrd_cap_t *ret_cap)
{
    /* the ring will be our memory, and who greets us may be anyone */
    uint32_t slots =
        greeting->slots < VRD_IMPORT_SLOTS_MAX ? greeting->slots : VRD_IMPORT_SLOTS_MAX;
    struct port *port;

    if (!(greeting->rights & VRD_RIGHT_SEND) || (greeting->rights & VRD_RIGHT_RECEIVE) ||
        !memory_valid(greeting->extension))
        return VRD_ERR_PEER_CORRUPT;
    control_lock();
    port = port_new(PORT_SENDER, greeting->rights, slots, greeting->max_message, ret_cap);
    control_unlock();
    if (!port)
        return VRD_ERR_OUT_OF_MEMORY;
    sender_init(port, -1);
    greeting_limit(greeting, port);
    port->object =
        greeting->object == VRD_OBJECT_ENDPOINT ? VRD_OBJECT_ENDPOINT : VRD_OBJECT_CHANNEL;
    port->badge = greeting->badge;
    port->depth = greeting->depth;
    *ret_port = port;
    return 0;
}

/* HELLO is said at first use. */
static int import_lazily(const struct frame *greeting, int fd, vrd_cap_t *ret)
{
    fd_auto invitation = fd;
    struct port *port;
    vrd_cap_t cap;
    int r = import_port(greeting, &port, &cap);

    if (r < 0)
        return r;
    sender_inherit(port, fd_take(&invitation));
    control_lock();
    port_show(port, cap);
    control_unlock();
    *ret = cap;
    return 0;
}

/* HELLO goes out at once, over the invitation, which is used up by it. */
int passing_import(const struct frame *greeting, int *fd, struct outfit *outfit, int64_t patience,
                   vrd_cap_t *ret)
{
    struct port *port;
    vrd_cap_t cap;
    int r = import_port(greeting, &port, &cap);

    if (r < 0)
        return r;
    r = patience > 0 ? sender_connect_here(port, fd, outfit, patience)
                     : sender_connect(port, *fd, outfit);
    control_lock();
    if (r == 0)
        port_show(port, cap);
    else
        port_free(port);
    control_unlock();
    if (r == 0)
        *ret = cap;
    return r == VRD_ERR_CHANNEL_FULL ? VRD_ERR_QUOTA_EXCEEDED : r;
}

static int import_now(const struct frame *greeting, int fd, vrd_cap_t *ret)
{
    outfit_auto outfit = OUTFIT_NONE;

    return passing_import(greeting, &fd, &outfit, 0, ret);
}

/* A socket that came along. 0 or VRD_ERR_*. */
static int import_socket(int fd)
{
    int r = socket_adopt(fd);

    if (r == -ENOTSOCK || r == -ENOTCONN)
        return VRD_ERR_PEER_CORRUPT;
    return r < 0 ? error_from_errno(-r) : 0;
}

/* One frame of the invitations that follow the greeting, into `port`. How many, or VRD_ERR_*. */
static int import_invitations(struct port *port, struct datagram *datagram, uint32_t most)
{
    struct frame frame;
    int r;

    if (frame_decode(datagram->data, datagram->len, datagram->n_fds, &frame) < 0 ||
        frame.type != FRAME_INVITATIONS || datagram->n_fds > most)
        return VRD_ERR_PEER_CORRUPT;
    for (size_t i = 0; i < datagram->n_fds; i++) {
        r = import_socket(datagram->fds[i]);
        if (r < 0)
            return r;
    }
    r = move_take(port, &frame, datagram->fds, datagram->n_fds);
    if (r < 0)
        return r;
    return (int)datagram->n_fds;
}

/* All of them. Control lock held. */
static int import_all_invitations(struct port *port, int fd, uint32_t count)
{
    while (count > 0) {
        datagram_auto datagram = { .pidfd = -1 };
        int r = socket_receive(fd, &datagram);

        if (r == 0 || r == -EAGAIN || r == -EPROTO)
            r = VRD_ERR_PEER_CORRUPT;
        else
            r = r < 0 ? error_from_errno(-r) : import_invitations(port, &datagram, count);
        if (r < 0)
            return r;
        count -= (uint32_t)r;
    }
    return 0;
}

/* Both sides of it, whatever the rights let the new holder do. */
static int import_endpoint(const struct frame *greeting, struct datagram *datagram, int fd,
                           vrd_cap_t *ret)
{
    struct port *port;
    vrd_cap_t cap;
    int r;

    if (datagram->n_fds != 2)
        return VRD_ERR_PEER_CORRUPT;
    control_lock();
    port = endpoint_new(greeting->rights, greeting->slots, greeting->max_message,
                        fd_take(&datagram->fds[1]), fd_take(&datagram->fds[0]), &cap);
    r = port ? import_all_invitations(port, fd, greeting->count) : VRD_ERR_OUT_OF_MEMORY;
    if (r == 0) {
        greeting_limit(greeting, port);
        greeting_limit(greeting, port->receiver.caller);
        endpoint_show(port, cap);
        *ret = cap;
    } else if (port) {
        endpoint_free(port);
    }
    control_unlock();
    return r;
}

static int import_receive(const struct frame *greeting, struct datagram *datagram, int fd,
                          vrd_cap_t *ret)
{
    struct port *port;
    vrd_cap_t cap;
    int r = 0;

    if (!(greeting->rights & VRD_RIGHT_RECEIVE) || !memory_valid(greeting->extension) ||
        (greeting->object != VRD_OBJECT_ENDPOINT &&
         ((greeting->rights & VRD_RIGHT_SEND) || datagram->n_fds > 1)))
        return VRD_ERR_PEER_CORRUPT;
    for (size_t i = 0; i < datagram->n_fds; i++) {
        r = import_socket(datagram->fds[i]);
        if (r < 0)
            return r;
    }
    if (greeting->object == VRD_OBJECT_ENDPOINT)
        return import_endpoint(greeting, datagram, fd, ret);
    control_lock();
    port = port_new(PORT_RECEIVER, greeting->rights, greeting->slots, greeting->max_message, &cap);
    if (port) {
        receiver_init(port);
        greeting_limit(greeting, port);
        port->object = VRD_OBJECT_CHANNEL;
        if (datagram->n_fds > 0)
            r = owner_root(port, fd_take(&datagram->fds[0]));
        if (r == 0)
            r = import_all_invitations(port, fd, greeting->count);
        if (r == 0) {
            port_show(port, cap);
            *ret = cap;
        } else {
            receiver_close(port);
            port_free(port);
        }
    }
    control_unlock();
    return port ? r : VRD_ERR_OUT_OF_MEMORY;
}

/* A call's, from the process that received it. Takes `fd`. */
static int import_reply(const struct frame *greeting, int fd, vrd_cap_t *ret)
{
    struct port *port;
    vrd_cap_t cap;

    control_lock();
    port = port_new(PORT_REPLY, VRD_RIGHT_GRANT, greeting->slots, greeting->max_message, &cap);
    if (port) {
        port->object = VRD_OBJECT_REPLY;
        relay_hold(port, fd);
        port_show(port, cap);
        *ret = cap;
    }
    control_unlock();
    if (!port)
        fd_close(&fd);
    return port ? 0 : VRD_ERR_OUT_OF_MEMORY;
}

/* 1, 0 if there is none, or VRD_ERR_*. */
static int import_greeting(int fd, int (*read)(int fd, struct datagram *ret),
                           struct datagram *datagram, struct frame *greeting)
{
    int r;

    datagram_deinit(datagram);
    r = read(fd, datagram);
    if (r == 0)
        return VRD_ERR_PEER_GONE;
    if (r == -EAGAIN)
        return 0;
    if (r < 0)
        return r == -EPROTO ? VRD_ERR_PEER_CORRUPT : error_from_errno(-r);
    r = frame_decode(datagram->data, datagram->len, datagram->n_fds, greeting);
    return r < 0 ? r : 1;
}

/* Takes `fd`, which socket_adopt has seen. */
static int import_any(int fd_consume, bool lazily, vrd_cap_t *ret)
{
    datagram_auto datagram = { .pidfd = -1 };
    struct frame greeting = { .type = FRAME_GREETING_SEND, /* where the maker queued none */
                              .slots = VRD_CHANNEL_SLOTS_DEFAULT,
                              .max_message = VRD_CHANNEL_MESSAGE_DEFAULT,
                              .rights = VRD_RIGHT_SEND };
    fd_auto fd = fd_consume;
    int r;

    /* Left there, where others may have the invitation too: whose HELLO comes first must be right. */
    r = import_greeting(fd, socket_peek, &datagram, &greeting);
    if (r > 0 &&
        (greeting.type == FRAME_GREETING_RECEIVE || greeting.type == FRAME_GREETING_REGION)) {
        r = import_greeting(fd, socket_receive, &datagram, &greeting);
        if (r == 0) /* somebody else took it */
            return VRD_ERR_PEER_GONE;
    }
    if (r < 0)
        return r;
    if (greeting.type != FRAME_GREETING_REGION && (greeting.rights & ~RIGHTS_ALL) != 0)
        return VRD_ERR_PEER_CORRUPT;
    switch (greeting.type) {
    case FRAME_GREETING_SEND:
        return lazily ? import_lazily(&greeting, fd_take(&fd), ret)
                      : import_now(&greeting, fd, ret);
    case FRAME_GREETING_RECEIVE:
        return import_receive(&greeting, &datagram, fd, ret);
    case FRAME_GREETING_REPLY:
        return import_reply(&greeting, fd_take(&fd), ret);
    case FRAME_GREETING_REGION:
        return region_import(&greeting, &datagram, fd_take(&fd), VRD_CAP_NONE, ret);
    default:
        return VRD_ERR_PEER_CORRUPT;
    }
}

int passing_accept(int fd, vrd_cap_t *ret)
{
    return import_any(fd, true, ret);
}

int vrd_cap_import(int fd_consume, vrd_cap_t *ret)
{
    fd_auto fd = fd_consume;
    int r;

    if (!ret || fd < 0)
        return VRD_ERR_INVALID_ARGUMENT;
    r = control_ready();
    if (r < 0)
        return r;
    r = socket_adopt(fd);
    if (r < 0)
        return r == -ENOTSOCK || r == -EBADF ? VRD_ERR_INVALID_ARGUMENT : error_from_errno(-r);
    return import_any(fd_take(&fd), false, ret);
}
