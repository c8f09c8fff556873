/* SPDX-License-Identifier: MIT */
#include <veridian/endpoint.h>

#include <veridian/capability.h>
#include <veridian/error.h>

#include "api/message.h"
#include "api/options.h"
#include "api/transfer.h"
#include "base/clock.h"
#include "base/error.h"
#include "object/call.h"
#include "object/control.h"
#include "object/endpoint.h"
#include "os/fd.h"
#include "os/socket.h"

#define RIGHTS_ENDPOINT (VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

int vrd_endpoint_create_with(const struct vrd_channel_options *options, uint64_t *ret_id,
                             vrd_cap_t *ret_cap)
{
    static uint64_t last; /* with the control lock */
    struct vrd_channel_options filled = options ? *options : (struct vrd_channel_options){ 0 };
    struct port *port;
    vrd_cap_t cap;
    int root[2], r;

    if (!ret_id || !ret_cap || options_fill(&filled) < 0)
        return VRD_ERR_INVALID_ARGUMENT;
    r = control_ready();
    if (r < 0)
        return r;
    r = socket_pair(root);
    if (r < 0)
        return error_from_errno(-r);
    control_lock();
    port = endpoint_new(RIGHTS_ENDPOINT, (uint32_t)filled.slots, filled.max_message_size, root[0],
                        root[1], &cap);
    if (port) {
        endpoint_show(port, cap);
        *ret_id = ++last;
        *ret_cap = cap;
    }
    control_unlock();
    return port ? 0 : VRD_ERR_OUT_OF_MEMORY;
}

int vrd_endpoint_create(uint64_t *ret_id, vrd_cap_t *ret_cap)
{
    return vrd_endpoint_create_with(NULL, ret_id, ret_cap);
}

/* --- calling ---------------------------------------------------------------------------------- */

/* Sends and waits for the answer. Pin held; gives it back. */
static int call_held(struct port *port, vrd_cap_t cap, struct ring_message *request,
                     struct ring_message *reply, size_t size, int64_t timeout_ns)
{
    int64_t deadline = timeout_valid(timeout_ns) ? clock_deadline(timeout_ns) : 0;
    struct call call;
    int r;

    if (port->object != VRD_OBJECT_ENDPOINT || (!reply->data && size > 0)) {
        r = port->object != VRD_OBJECT_ENDPOINT ? VRD_ERR_NOT_SUPPORTED : VRD_ERR_INVALID_ARGUMENT;
        gate_leave(port);
        return r;
    }
    request->call = 1; /* any entry */
    r = transfer_send_keep(port, cap, request, timeout_ns);
    if (r < 0)
        return r == VRD_ERR_CHANNEL_FULL ? VRD_ERR_ENDPOINT_BUSY : r; /* the pin is given back */
    call = (struct call){ .calls = port->sender.calls, .entry = (int)request->call - 1 };
    r = call_finish(port, cap, call, reply, size, deadline);
    if (r != VRD_ERR_INVALID_CAPABILITY)
        gate_leave(port);
    return r;
}

static __attribute__((noinline)) ssize_t call_slow(vrd_cap_t cap, const void *request, size_t len,
                                                   void *reply, size_t size, int64_t timeout_ns)
{
    struct ring_message out = { .data = transfer_unconst(request), .len = len };
    struct ring_message in = { .data = reply };
    struct port *port;
    int r;

    port = gate_enter(cap, VRD_RIGHT_SEND, &r);
    if (!port)
        return r;
    r = call_held(port, cap, &out, &in, size, timeout_ns);
    return r < 0 ? r : (ssize_t)in.len;
}

ssize_t vrd_call(vrd_cap_t cap, const void *request, size_t len, void *reply, size_t size,
                 int64_t timeout_ns)
{
    return call_slow(cap, request, len, reply, size, timeout_ns);
}

int vrd_call_message(vrd_cap_t cap, const struct vrd_message *request, struct vrd_message *reply,
                     int64_t timeout_ns)
{
    struct ring_message out, in;
    struct port *port;
    int r = request ? message_check_send(request) : VRD_ERR_INVALID_ARGUMENT;

    if (r < 0)
        return r;
    if (!reply || !message_reserved_zero(reply))
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_enter(cap, VRD_RIGHT_SEND, &r);
    if (!port)
        return r;
    out = message_out(request);
    in = (struct ring_message){ .data = reply->data };
    r = call_held(port, cap, &out, &in, reply->size, timeout_ns);
    if (r == 0)
        message_in(reply, &in, NULL);
    else if (r == VRD_ERR_MESSAGE_TOO_LARGE && in.len > 0)
        reply->len = in.len;
    return r;
}

/* --- serving ---------------------------------------------------------------------------------- */

/* Pin held, and kept on success only. */
static int receive_call_held(struct port *port, vrd_cap_t cap, struct vrd_message *request,
                             vrd_cap_t *ret_reply, int64_t timeout_ns)
{
    struct ring_message in = { .data = request->data, .wants_calls = true };
    struct link *link;
    int r;

    if (port->object != VRD_OBJECT_ENDPOINT) {
        gate_leave(port);
        return VRD_ERR_NOT_SUPPORTED;
    }
    r = transfer_receive(port, cap, &in, request->size, timeout_ns, &link);
    if (r == 0) {
        message_in(request, &in, link);
        *ret_reply = in.reply;
    } else if (r == VRD_ERR_MESSAGE_TOO_LARGE) {
        request->len = in.len;
    }
    return r;
}

int vrd_receive_call(vrd_cap_t cap, struct vrd_message *request, vrd_cap_t *ret_reply,
                     int64_t timeout_ns)
{
    struct port *port;
    int r;

    if (!request || !ret_reply || !message_reserved_zero(request))
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_enter(cap, VRD_RIGHT_RECEIVE, &r);
    if (!port)
        return r;
    r = receive_call_held(port, cap, request, ret_reply, timeout_ns);
    if (r == 0)
        gate_leave(port);
    return r;
}

/* Uses it up without an answer. */
static int reply_waste(vrd_cap_t reply)
{
    struct pending_call *call;
    int r;
    struct port *port = gate_enter_reply(reply, &call, &r);

    if (!port)
        return r;
    reply_drop(port, call);
    gate_leave(port);
    return 0;
}

static int reply_out(vrd_cap_t reply, const struct ring_message *message)
{
    struct pending_call *call;
    int r;
    struct port *port = gate_enter_reply(reply, &call, &r);

    if (!port)
        return r;
    r = reply_send(port, call, message);
    gate_leave(port);
    return r;
}

int vrd_reply(vrd_cap_t reply, const void *data, size_t len)
{
    const struct ring_message message = { .data = transfer_unconst(data), .len = len };

    return reply_out(reply, &message);
}

int vrd_reply_message(vrd_cap_t reply, const struct vrd_message *message)
{
    int r = message ? message_check_send(message) : VRD_ERR_INVALID_ARGUMENT;
    struct ring_message out;

    if (r < 0) {
        int dropped = reply_waste(reply);

        return dropped < 0 ? dropped : r;
    }
    out = message_out(message);
    return reply_out(reply, &out);
}

int vrd_reply_receive(vrd_cap_t cap, vrd_cap_t *reply, const void *data, size_t len,
                      struct vrd_message *next, int64_t timeout_ns)
{
    vrd_cap_t last;
    int r = 0;

    if (!reply)
        return VRD_ERR_INVALID_ARGUMENT;
    last = *reply;
    *reply = VRD_CAP_NONE;
    if (last != VRD_CAP_NONE)
        r = vrd_reply(last, data, len);
    if (r < 0 && r != VRD_ERR_TIMEOUT && r != VRD_ERR_PEER_GONE && r != VRD_ERR_REVOKED)
        return r;
    return vrd_receive_call(cap, next, reply, timeout_ns);
}
