/* SPDX-License-Identifier: MIT */
#include <veridian/endpoint.h>

#include <veridian/capability.h>
#include <veridian/error.h>

#include "api/loan.h"
#include "api/message.h"
#include "api/options.h"
#include "api/transfer.h"
#include "base/error.h"
#include "object/control.h"
#include "object/endpoint.h"
#include "object/source.h"
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
    uint32_t memory;
    int root[2], r;

    if (!ret_id || !ret_cap)
        return VRD_ERR_INVALID_ARGUMENT;
    r = options_fill(&filled, &memory);
    if (r == 0)
        r = control_ready();
    if (r < 0)
        return r;
    r = source_pair(root);
    if (r < 0)
        return error_from_errno(-r);
    control_lock();
    port = endpoint_new(RIGHTS_ENDPOINT, (uint32_t)filled.slots, filled.max_message_size, root[0],
                        root[1], &cap);
    if (port) {
        port->max_bytes = port->receiver.caller->max_bytes = filled.max_bytes;
        port->memory = port->receiver.caller->memory = memory;
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

/* --- serving ---------------------------------------------------------------------------------- */

/* Pin held, and kept on success only. */
static int receive_call_held(struct port *port, vrd_cap_t cap, struct vrd_message *request,
                             vrd_cap_t *ret_reply, int64_t timeout_ns)
{
    struct ring_message in = { .data = request->data,
                               .wants_calls = true,
                               .wants_caps = request->max_caps > 0 };
    struct link *link;
    int r;

    if (port->object != VRD_OBJECT_ENDPOINT) {
        gate_leave(port);
        return VRD_ERR_NOT_SUPPORTED;
    }
    r = transfer_receive(port, cap, &in, request->size, timeout_ns, &link);
    if (r == 0) {
        message_in(request, &in, link);
        carry_in(request, in.carried);
        *ret_reply = in.reply;
    } else if (r == VRD_ERR_MESSAGE_TOO_LARGE) {
        request->len = in.len;
    }
    return r;
}

int vrd_receive_call_view(vrd_cap_t cap, struct vrd_view *request, vrd_cap_t *ret_reply,
                          int64_t timeout_ns)
{
    struct ring_message in = { .wants_calls = true, .wants_view = true };
    struct link *link;
    struct port *port;
    int r;

    if (!request || !ret_reply)
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_enter(cap, VRD_RIGHT_RECEIVE, &r);
    if (!port)
        return r;
    if (port->object != VRD_OBJECT_ENDPOINT) {
        gate_leave(port);
        return VRD_ERR_NOT_SUPPORTED;
    }
    r = transfer_receive(port, cap, &in, 0, timeout_ns, &link);
    if (r < 0)
        return r;
    view_in(request, &in, link);
    *ret_reply = in.reply;
    gate_leave(port);
    return 0;
}

static __attribute__((noinline)) int receive_call_slow(vrd_cap_t cap, struct vrd_message *request,
                                                       vrd_cap_t *ret_reply, int64_t timeout_ns)
{
    int r;
    struct port *port = gate_enter(cap, VRD_RIGHT_RECEIVE, &r);

    if (!port)
        return r;
    r = receive_call_held(port, cap, request, ret_reply, timeout_ns);
    if (r == 0)
        gate_leave(port);
    return r;
}

hot_inline int receive_call(vrd_cap_t cap, struct vrd_message *request, vrd_cap_t *ret_reply,
                            int64_t timeout_ns)
{
    struct pin_thread *self = pin_self;
    struct port *port = gate_last(self, cap, GATE_RECEIVE);

    if (unlikely(!port || !timeout_valid(timeout_ns) || !gate_try(self, port, cap)))
        return receive_call_slow(cap, request, ret_reply, timeout_ns);
    if (unlikely(!message_take_small(port, request, ret_reply, timeout_ns))) {
        int r = receive_call_held(port, cap, request, ret_reply, timeout_ns);

        if (r < 0)
            return r;
        gate_leave(port);
        return 0;
    }
    gate_leave_biased(self);
    return 0;
}

int vrd_receive_call(vrd_cap_t cap, struct vrd_message *request, vrd_cap_t *ret_reply,
                     int64_t timeout_ns)
{
    if (!request || !ret_reply || !message_reserved_zero(request))
        return VRD_ERR_INVALID_ARGUMENT;
    return receive_call(cap, request, ret_reply, timeout_ns);
}

/* Answers a call that another process has received; NULL: without an answer. */
static int reply_relay(vrd_cap_t reply, const struct ring_message *message)
{
    int r;
    struct port *port = gate_enter(reply, GATE_ANY, &r);

    if (!port)
        return r;
    if (port->kind != PORT_REPLY) {
        gate_leave(port);
        return VRD_ERR_INVALID_CAPABILITY;
    }
    r = message ? relay_send(port, message) : 0;
    port_close(port);
    return r;
}

/* Uses it up without an answer. */
static int reply_waste(vrd_cap_t reply)
{
    struct pending_call *call;
    struct port *port;
    int r;

    if (!cap_is_reply(reply))
        return reply_relay(reply, NULL);
    port = gate_enter_reply(reply, &call, &r);
    if (!port)
        return r;
    reply_drop(port, call);
    gate_leave(port);
    return 0;
}

static __attribute__((noinline)) int reply_out(vrd_cap_t reply, const struct ring_message *message)
{
    struct pending_call *call;
    struct port *port;
    int r;

    if (!cap_is_reply(reply))
        return reply_relay(reply, message);
    port = gate_enter_reply(reply, &call, &r);
    if (!port)
        return r;
    r = reply_send(port, call, message);
    gate_leave(port);
    return r;
}

/* A small answer to a caller in good order. Pin held. */
hot_inline bool reply_small(struct port *port, vrd_cap_t reply, const void *data, size_t len,
                            uint32_t opcode, uint32_t flags, int *ret)
{
    struct pending *pending = &port->receiver.pending;
    struct pending_call *call = likely(pending->calls) ? reply_find(pending, reply) : NULL;
    uint32_t entry, sequence;
    struct link *link;
    uint64_t notice;

    if (unlikely(port_news(port) || !call || !call->link || call->link->ending || !data ||
                 len > SLOT_INLINE_MAX || len > port->max_message))
        return false;
    link = call->link;
    entry = call->entry;
    sequence = call->sequence;
    /* first: someone waits for it */
    reply_write_small(&link->replies, entry, sequence, data, len, opcode, flags);
    reply_take(pending, call);
    notice = reply_notice(&link->replies, entry, sequence);
    *ret = unlikely(notice != 0) ? reply_heed(link, entry, notice) : 0;
    return true;
}

/* An answer to what this thread has received last, or from where. */
hot_inline int reply_through(vrd_cap_t reply, const void *data, size_t len, uint32_t opcode,
                             uint32_t flags)
{
    struct pin_thread *self = pin_self;
    vrd_cap_t cap = self ? self->recent[GATE_RECEIVE].key : VRD_CAP_NONE;
    int r;

    if (likely(((cap ^ reply) & HANDLE_INDEX_MAX) == 0 && cap != VRD_CAP_NONE &&
               cap_is_reply(reply))) {
        struct port *port = self->recent[GATE_RECEIVE].value;

        if (likely(gate_try(self, port, cap))) {
            bool done = reply_small(port, reply, data, len, opcode, flags, &r);

            gate_leave_biased(self);
            if (likely(done))
                return r;
        }
    }
    return reply_out(
        reply, &(struct ring_message){
                   .data = transfer_unconst(data), .len = len, .opcode = opcode, .flags = flags });
}

int vrd_reply(vrd_cap_t reply, const void *data, size_t len)
{
    return reply_through(reply, data, len, 0, 0);
}

/* It cannot even be tried: uses it up, and says why. */
static int reply_failing(vrd_cap_t reply, int error)
{
    int r = reply_waste(reply);

    return r < 0 ? r : error;
}

int vrd_reply_message(vrd_cap_t reply, const struct vrd_message *message)
{
    int r = message ? message_check_send(message) : VRD_ERR_INVALID_ARGUMENT;
    struct ring_message out;
    struct carry carry;

    if (r < 0)
        return reply_failing(reply, r);
    if (message->n_caps == 0)
        return reply_through(reply, message->data, message->len, message->opcode, message->flags);
    out = message_out(message);
    r = carry_open(&carry, reply, message->caps, message->n_caps);
    if (r < 0)
        return reply_failing(reply, r);
    out.carried = &carry.out;
    r = reply_out(reply, &out);
    carry_close(&carry, r);
    return r;
}

/* The caller's own troubles are not those of a server's loop. */
static bool reply_failed(int r)
{
    return r < 0 && r != VRD_ERR_TIMEOUT && r != VRD_ERR_PEER_GONE && r != VRD_ERR_REVOKED;
}

int vrd_reply_receive(vrd_cap_t cap, vrd_cap_t *reply, const void *data, size_t len,
                      struct vrd_message *next, int64_t timeout_ns)
{
    vrd_cap_t last;
    int r;

    if (!reply)
        return VRD_ERR_INVALID_ARGUMENT;
    last = *reply;
    r = last != VRD_CAP_NONE ? vrd_reply(last, data, len) : 0;
    *reply = VRD_CAP_NONE;
    if (unlikely(reply_failed(r)))
        return r;
    if (!next || !message_reserved_zero(next))
        return VRD_ERR_INVALID_ARGUMENT;
    return receive_call(cap, next, reply, timeout_ns);
}
