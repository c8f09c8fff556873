/* SPDX-License-Identifier: MIT */
#include <veridian/capability.h>

#include <limits.h>
#include <veridian/channel.h>

#include "api/gate.h"
#include "api/passing.h"
#include "base/error.h"
#include "cap/frame.h"
#include "object/control.h"
#include "object/loss.h"
#include "object/move.h"
#include "object/name.h"
#include "object/reactor.h"
#include "object/request.h"
#include "object/source.h"
#include "object/spare.h"
#include "os/fd.h"
#include "os/socket.h"

#define RIGHTS_SENDER (VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)
#define RIGHTS_ALL (VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)
#define RIGHTS_REGION (VRD_RIGHT_READ | VRD_RIGHT_WRITE | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

static int reply_close(vrd_cap_t cap)
{
    struct pending_call *call;
    int r;
    struct port *port = gate_enter_reply(cap, &call, &r);

    if (!port)
        return r;
    reply_drop(port, call);
    gate_leave(port);
    return 0;
}

int vrd_cap_close(vrd_cap_t cap)
{
    int r;
    struct port *port;

    if (cap_is_reply(cap))
        return reply_close(cap);
    port = gate_enter(cap, GATE_ANY, &r);
    if (!port)
        return r;
    port_close(port);
    spare_make(1); /* for the next, where somebody connects again and again: now nobody waits */
    return 0;
}

static void sender_info(struct port *port, struct vrd_cap_info *info)
{
    control_lock();
    info->owner = port->sender.owner;
    control_unlock();
    info->links = port->sender.state == SENDER_LINKED || port->sender.state == SENDER_ANSWERED;
    info->loss = sender_loss(port);
}

static void receiver_info(struct port *port, struct vrd_cap_info *info)
{
    control_lock();
    info->owner = control_pid();
    info->links = port->receiver.n_links;
    control_unlock();
}

int vrd_cap_info(vrd_cap_t cap, struct vrd_cap_info *ret)
{
    int r;
    struct port *port;

    if (!ret)
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_enter(cap, GATE_ANY, &r);
    if (!port)
        return r;
    *ret = (struct vrd_cap_info){
        .kind = port->object,
        .rights = port->handle.rights,
        .badge = port->badge,
        .depth = port->depth,
        .generation = cap >> HANDLE_INDEX_BITS,
        .slots = port->capacity,
        .max_message_size = port->max_message,
    };
    if (port->kind == PORT_SENDER)
        sender_info(port, ret);
    else if (port->kind == PORT_RECEIVER)
        receiver_info(port, ret);
    else if (port->kind == PORT_REGION)
        region_about(port, ret);
    gate_leave(port);
    return 0;
}

int vrd_notices_take(struct vrd_notice *ret, size_t n)
{
    int r = control_ready();
    int taken;

    if (n > INT_MAX || (!ret && n > 0))
        return VRD_ERR_INVALID_ARGUMENT;
    if (r < 0)
        return r;
    reactor_poll();
    control_lock();
    taken = (int)loss_take(ret, n);
    control_unlock();
    return taken;
}

int vrd_cap_revoke(vrd_cap_t cap)
{
    int r;
    struct port *port = gate_enter(cap, VRD_RIGHT_REVOKE | VRD_RIGHT_RECEIVE, &r);

    if (!port)
        return r;
    if (port->kind == PORT_SENDER)
        return request_revoke(port, cap);
    if (port->kind == PORT_REGION)
        return region_revoke(port, cap);
    if (port->moving) { /* the sockets are not ours to read */
        gate_leave(port);
        return VRD_ERR_RESOURCE_BUSY;
    }
    /* an endpoint is the first of those who may send; a channel's receiving side is not */
    receiver_revoke(port, !(port->handle.rights & VRD_RIGHT_SEND));
    gate_leave(port);
    return 0;
}

/* The port by which those rights are given away, with the pin held. NULL: *ret_error says why. */
static struct port *grant_enter(vrd_cap_t cap, uint32_t rights, int *ret_error)
{
    struct port *port = gate_enter(cap, VRD_RIGHT_GRANT, ret_error);

    if (!port)
        return NULL;
    if ((rights & VRD_RIGHT_SEND) && (rights & VRD_RIGHT_RECEIVE) &&
        port->object != VRD_OBJECT_ENDPOINT)
        *ret_error = VRD_ERR_INVALID_ARGUMENT;
    else if ((rights & ~port->handle.rights) != 0)
        *ret_error = VRD_ERR_PERMISSION_DENIED;
    if (*ret_error < 0) {
        gate_leave(port);
        return NULL;
    }
    if (port->kind == PORT_SENDER || (rights & VRD_RIGHT_RECEIVE))
        return port;
    gate_leave(port);
    return gate_enter(cap, VRD_RIGHT_SEND, ret_error); /* an endpoint's other side */
}

/* What to say to who gets a capability derived from that of `port`. Pin held. */
static struct frame greeting_of(const struct port *port, uint32_t rights)
{
    return (struct frame){ .type = FRAME_GREETING_SEND,
                           .slots = port->capacity,
                           .max_message = port->max_message,
                           .rights = rights,
                           .badge = port->badge,
                           .depth = port->depth + 1,
                           .bytes = port->max_bytes,
                           .extension = port->memory,
                           .object = (uint16_t)port->object };
}

/* --- derive ----------------------------------------------------------------------------------- */

/* A port like `origin`, over a socket whose other end goes to the owner. Pin of `origin` held. */
static int derive_port(const struct port *origin, uint32_t rights, uint64_t badge, int *near,
                       vrd_cap_t *ret)
{
    struct port *port;
    vrd_cap_t cap;

    control_lock();
    port = port_new(PORT_SENDER, rights, origin->capacity, origin->max_message, &cap);
    if (port) {
        sender_init(port, -1);
        sender_inherit(port, fd_take(near));
        port->sender.twin = origin->sender.twin;
        port->object = origin->object;
        port->max_bytes = origin->max_bytes;
        port->memory = origin->memory;
        port->badge = badge;
        port->depth = origin->depth + 1;
        port_show(port, cap);
        *ret = cap;
    }
    control_unlock();
    return port ? 0 : VRD_ERR_OUT_OF_MEMORY;
}

/* Asks the owner for a derived right and keeps the near end of its socket. Pin held. */
static int derive_held(struct port *port, uint32_t rights, uint64_t badge, int *ret_near,
                       uint64_t *ret_far)
{
    fd_auto near = -1;
    fd_auto far = -1;
    int pair[2], r;

    if ((rights & ~port->handle.rights) != 0 || (badge != 0 && port->badge != 0))
        return VRD_ERR_PERMISSION_DENIED;
    r = source_pair(pair);
    if (r < 0)
        return error_from_errno(-r);
    near = pair[0];
    far = pair[1];
    r = request_derive_kept(port, rights, badge, far);
    if (r < 0)
        return r;
    *ret_near = fd_take(&near);
    *ret_far = fd_identity(far);
    return 0;
}

/* The port to derive from, with the pin; NULL: *ret_error says why. */
static struct port *derive_enter(vrd_cap_t cap, uint32_t rights, int *ret_error)
{
    *ret_error = VRD_ERR_INVALID_ARGUMENT;
    if ((rights & ~RIGHTS_SENDER) != 0 || !(rights & VRD_RIGHT_SEND))
        return NULL;
    return grant_enter(cap, rights, ret_error);
}

/* The region that is given away with those rights, with the pin. NULL: *ret_error says why. */
static struct port *region_enter(vrd_cap_t cap, uint32_t rights, int *ret_error)
{
    struct port *port = NULL;

    *ret_error = VRD_ERR_INVALID_ARGUMENT;
    if ((rights & ~RIGHTS_REGION) == 0)
        port = gate_enter_region(cap, VRD_RIGHT_GRANT, ret_error);
    if (*ret_error == VRD_ERR_INVALID_MEMORY_REGION) /* nothing else can be read */
        *ret_error = VRD_ERR_INVALID_ARGUMENT;
    return port;
}

static int derive_region(vrd_cap_t cap, uint32_t rights, vrd_cap_t *ret)
{
    int r;
    struct port *port = region_enter(cap, rights, &r);

    if (!port)
        return r;
    r = region_derive(port, rights,
                      port->region.transfer == VRD_TRANSFER_COPY_ON_WRITE
                          ? VRD_TRANSFER_COPY_ON_WRITE
                          : VRD_TRANSFER_SHARE,
                      ret);
    gate_leave(port);
    return r;
}

static int derive(vrd_cap_t cap, uint32_t rights, uint64_t badge, vrd_cap_t *ret)
{
    struct port *port;
    fd_auto near = -1;
    uint64_t far;
    int r;

    if (ret && (rights & VRD_RIGHT_READ) && badge == 0)
        return derive_region(cap, rights, ret);
    if (!ret)
        return VRD_ERR_INVALID_ARGUMENT;
    port = derive_enter(cap, rights, &r);
    if (!port)
        return r;
    r = derive_held(port, rights, badge, &near, &far);
    if (r == 0)
        r = derive_port(port, rights, badge != 0 ? badge : port->badge, &near, ret);
    gate_leave(port);
    return r;
}

int passing_derive(vrd_cap_t cap, uint32_t rights, struct name_right *ret)
{
    struct port *port;
    int r;

    port = derive_enter(cap, rights, &r);
    if (!port)
        return r;
    r = derive_held(port, rights | VRD_RIGHT_GRANT, 0, &ret->fd, &ret->far);
    if (r == 0) {
        ret->owner = port->sender.twin;
        ret->greeting = greeting_of(port, rights);
        ret->greeting.depth++; /* one for the socket, one for who gets it */
    }
    gate_leave(port);
    return r;
}

int vrd_cap_derive(vrd_cap_t cap, uint32_t rights, vrd_cap_t *ret)
{
    return derive(cap, rights, 0, ret);
}

int vrd_cap_derive_badged(vrd_cap_t cap, uint32_t rights, uint64_t badge, vrd_cap_t *ret)
{
    return badge != 0 ? derive(cap, rights, badge, ret) : VRD_ERR_INVALID_ARGUMENT;
}

/* --- export: pin held ------------------------------------------------------------------------- */

/*
 * The invitation is greeted from the owner's end, which then goes to the owner. `kept`: whoever gets it
 * may leave it to children.
 */
static int export_send(struct port *port, uint32_t rights, int far, bool kept)
{
    const struct frame greeting = greeting_of(port, rights);
    uint8_t buf[FRAME_SIZE];
    int r;

    frame_encode(&greeting, buf);
    r = socket_send(far, buf, sizeof(buf), NULL, 0);
    if (r < 0)
        return error_from_errno(-r);
    return kept ? request_derive_kept(port, rights, 0, far) : request_derive(port, rights, far);
}

static int export_held(struct port *port, uint32_t rights, bool kept, int *ret_fd)
{
    fd_auto near = -1;
    fd_auto far = -1;
    int pair[2];
    int r = source_pair(pair);

    if (r < 0)
        return error_from_errno(-r);
    near = pair[0];
    far = pair[1];
    r = port->kind == PORT_SENDER ? export_send(port, rights, far, kept)
                                  : move_give(port, far, rights);
    if (r == 0)
        *ret_fd = fd_take(&near);
    return r;
}

static int export_region(vrd_cap_t cap, uint32_t rights, int *ret_fd)
{
    int r;
    struct port *port = region_enter(cap, rights, &r);

    if (!port)
        return r;
    r = region_invite(port, rights, ret_fd);
    if (r == 0 && port->region.transfer == VRD_TRANSFER_MOVE)
        port_close(port);
    else
        gate_leave(port);
    return r;
}

static int export_any(vrd_cap_t cap, uint32_t rights, bool kept, int *ret_fd)
{
    struct port *port;
    int r;

    if (rights & VRD_RIGHT_READ)
        return export_region(cap, rights, ret_fd);
    if ((rights & ~RIGHTS_ALL) != 0 || (rights & (VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE)) == 0)
        return VRD_ERR_INVALID_ARGUMENT;
    port = grant_enter(cap, rights, &r);
    if (!port)
        return r;
    r = export_held(port, rights, kept, ret_fd);
    if (r == 0 && port->kind == PORT_RECEIVER)
        port_close(port);
    else
        gate_leave(port);
    return r;
}

int vrd_cap_export(vrd_cap_t cap, uint32_t rights, int *ret_fd)
{
    return ret_fd ? export_any(cap, rights, false, ret_fd) : VRD_ERR_INVALID_ARGUMENT;
}

int passing_invite(vrd_cap_t cap, uint32_t rights, int *ret_fd)
{
    return export_any(cap, rights, true, ret_fd);
}

/* --- move ------------------------------------------------------------------------------------- */

static int reply_mint(vrd_cap_t cap, int *ret_fd)
{
    struct pending_call *call;
    int r;
    struct port *port = gate_enter_reply(cap, &call, &r);

    if (!port)
        return r;
    r = relay_mint(port, cap, call, ret_fd);
    gate_leave(port);
    return r;
}

/* Pin held. */
static int port_mint(struct port *port, int *ret_fd)
{
    uint32_t rights = port->handle.rights;

    if (port->moving)
        return VRD_ERR_RESOURCE_BUSY;
    switch (port->kind) {
    case PORT_REGION:
        return region_invite(port, rights, ret_fd);
    case PORT_REPLY: /* it is one */
        *ret_fd = fd_duplicate(port->reply.socket);
        return *ret_fd < 0 ? error_from_errno(-*ret_fd) : 0;
    default:
        return export_held(port, rights, true, ret_fd);
    }
}

int passing_mint(vrd_cap_t cap, int *ret_fd)
{
    struct port *port;
    int r;

    if (cap_is_reply(cap))
        return reply_mint(cap, ret_fd);
    port = gate_enter(cap, VRD_RIGHT_GRANT, &r);
    if (!port)
        return r;
    r = port_mint(port, ret_fd);
    if (r == 0)
        port->moving = true;
    gate_leave(port);
    return r;
}

/* A reply capability has gone, or not. */
static void reply_passed(vrd_cap_t cap, bool gone)
{
    struct pending_call *call;
    int r;
    struct port *port = gate_enter_reply(cap, &call, &r);

    if (!port)
        return;
    if (gone)
        relay_moved(port, cap, call);
    else
        relay_kept(cap, call);
    gate_leave(port);
}

void passing_moved(vrd_cap_t cap)
{
    struct port *port;
    int r;

    if (cap_is_reply(cap)) {
        reply_passed(cap, true);
        return;
    }
    port = gate_enter(cap, GATE_ANY, &r);
    if (port)
        port_close(port);
}

/* Takes back what the invitation holds, to receive or to memory. False: somebody was faster. */
static bool move_withdraw(int fd)
{
    bool here = false;

    for (;;) {
        datagram_auto datagram = { .pidfd = -1 };

        if (socket_receive(fd, &datagram) <= 0)
            return here;
        here = true;
    }
}

/* Pin held; gives it back. */
static void port_kept(struct port *port, int invitation)
{
    port->moving = false;
    if (port->kind == PORT_REPLY) { /* a copy of what stays */
        gate_leave(port);
        return;
    }
    if (port->kind != PORT_SENDER && !move_withdraw(invitation)) {
        port_close(port);
        return;
    }
    socket_shutdown(invitation);
    if (port->kind == PORT_RECEIVER)
        move_undo(port);
    gate_leave(port);
}

void passing_kept(vrd_cap_t cap, int fd)
{
    fd_auto invitation = fd;
    struct port *port;
    int r;

    if (cap_is_reply(cap)) {
        reply_passed(cap, false);
        return;
    }
    port = gate_enter(cap, GATE_ANY, &r);
    if (port)
        port_kept(port, invitation);
    else
        socket_shutdown(invitation);
}
