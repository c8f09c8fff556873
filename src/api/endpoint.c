/* SPDX-License-Identifier: MIT */
#include <veridian/endpoint.h>

#include <veridian/capability.h>
#include <veridian/error.h>

#include "api/loan.h"
#include "api/message.h"
#include "api/options.h"
#include "api/transfer.h"
#include "base/clock.h"
#include "base/error.h"
#include "object/call.h"
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

/* --- calling ---------------------------------------------------------------------------------- */

/* The capabilities of a call that was sent are the server's, before we wait. As port_wait. */
static int call_carried(struct port *port, vrd_cap_t cap, struct carry *carry)
{
    gate_leave(port); /* each has a pin of its own */
    carry_close(carry, 0);
    return port_enter(port, cap) ? 0 : VRD_ERR_INVALID_CAPABILITY;
}

/*
 * Sends and waits for the answer. `carry`: what the request carries, or NULL. Pin held; gives it back.
 */
static int call_held(struct port *port, vrd_cap_t cap, struct ring_message *request,
                     struct carry *carry, struct ring_message *reply, size_t size,
                     int64_t timeout_ns)
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
    r = carry ? call_carried(port, cap, carry) : 0;
    if (r == 0)
        r = call_finish(port, cap, call, reply, size, deadline);
    if (r != VRD_ERR_INVALID_CAPABILITY)
        gate_leave(port);
    return r;
}

/* What is made of an answer: its length, and the rest of it where that is wanted. */
static ssize_t call_answered(int r, const struct ring_message *in, struct vrd_message *reply)
{
    if (r == VRD_ERR_MESSAGE_TOO_LARGE && reply && in->len > 0)
        reply->len = in->len;
    if (r < 0)
        return r;
    if (reply) {
        message_in(reply, in, NULL);
        carry_in(reply, in->carried);
    }
    return (ssize_t)in->len;
}

/*
 * From here to call_through: `reply` is all that there is to fill in, or NULL: just the `size` bytes at
 * `buf`, where what the answer carries is closed.
 */
static struct ring_message call_wish(void *buf, const struct vrd_message *reply)
{
    return (struct ring_message){ .data = buf, .wants_caps = reply && reply->max_caps > 0 };
}

/* Large, or no room, or news. Pin held; gives it back. */
static __attribute__((noinline)) ssize_t call_plain(struct port *port, vrd_cap_t cap,
                                                    struct ring_message *request, void *buf,
                                                    size_t size, struct vrd_message *reply,
                                                    int64_t timeout_ns)
{
    struct ring_message in = call_wish(buf, reply);
    int r = call_held(port, cap, request, NULL, &in, size, timeout_ns);

    return call_answered(r, &in, reply);
}

/* The pin is not to be had by its bias. */
static __attribute__((noinline)) ssize_t call_slow(vrd_cap_t cap, struct ring_message *request,
                                                   void *buf, size_t size,
                                                   struct vrd_message *reply, int64_t timeout_ns)
{
    int r;
    struct port *port = gate_enter(cap, VRD_RIGHT_SEND, &r);

    return port ? call_plain(port, cap, request, buf, size, reply, timeout_ns) : r;
}

/* Sent, and the answer is not there, or not plain. Pin held; gives it back. */
static __attribute__((noinline)) ssize_t call_wait(struct port *port, vrd_cap_t cap,
                                                   struct call call, void *buf, size_t size,
                                                   struct vrd_message *reply, int64_t timeout_ns)
{
    struct ring_message in = call_wish(buf, reply);
    int r = call_finish(port, cap, call, &in, size, clock_deadline(timeout_ns));

    if (r != VRD_ERR_INVALID_CAPABILITY)
        gate_leave(port);
    return call_answered(r, &in, reply);
}

/* The server asked for something. Pin held; gives it back. */
static __attribute__((noinline)) ssize_t call_heed(struct port *port, vrd_cap_t cap,
                                                   struct call call, void *buf, size_t size,
                                                   struct vrd_message *reply, int64_t timeout_ns,
                                                   uint64_t notice)
{
    int r = sender_heed(port, notice);

    if (r == 0)
        return call_wait(port, cap, call, buf, size, reply, timeout_ns);
    call_end(port, call.calls);
    gate_leave(port);
    return r;
}

/* With `reply`, the answer may have an operation code and flags; else it is read to `buf` only. */
hot_inline ssize_t call_read_small(struct call call, uint64_t word, void *buf, size_t size,
                                   struct vrd_message *reply)
{
    struct reply_reader *replies = &call.calls->replies;
    struct ring_message in = { 0 };
    ssize_t n;

    if (!reply)
        return slot_is_small(word) ? reply_copy_small(replies, call.entry, word, buf, size) : -1;
    if (unlikely(!slot_is_inline(word, false)))
        return -1;
    slot_get_meta(&replies->entries[call.entry], word, &in);
    n = in.transfer != 0 ? -1 : reply_copy_small(replies, call.entry, word, buf, size);
    if (likely(n >= 0)) {
        in.len = (size_t)n;
        message_in(reply, &in, NULL);
    }
    return n;
}

/* What is said of a request where the fast path does not take it. */
#define CALL_REQUEST \
    (&(struct ring_message){ \
        .data = transfer_unconst(data), .len = len, .opcode = opcode, .flags = flags })

hot_inline ssize_t call_through(vrd_cap_t cap, const void *data, size_t len, uint32_t opcode,
                                uint32_t flags, void *buf, size_t size, struct vrd_message *reply,
                                int64_t timeout_ns)
{
    struct pin_thread *self = pin_self;
    struct port *port = gate_last(self, cap, GATE_SEND);
    struct ring_writer *w;
    struct call call;
    uint64_t notice, word;
    ssize_t n;

    if (unlikely(!port || !timeout_valid(timeout_ns) || !gate_try(self, port, cap)))
        return call_slow(cap, CALL_REQUEST, buf, size, reply, timeout_ns);
    w = &port->sender.ring;
    call.calls = port->sender.calls;
    call.entry =
        likely(call.calls) ? reply_pick_quickly(&call.calls->replies, w->position + 1) : -1;
    if (unlikely(
            call.entry < 0 || !buf ||
            !transfer_send_small(port, data, len, opcode, flags, slot_call((unsigned)call.entry))))
        return call_plain(port, cap, CALL_REQUEST, buf, size, reply, timeout_ns);
    call_begin(call.calls, call.entry, w->position);
    notice = sender_notice_one(w);
    if (unlikely(notice != 0))
        return call_heed(port, cap, call, buf, size, reply, timeout_ns, notice);
    ring_writer_look_ahead(w);
    word = likely(timeout_ns != 0) ? call_look_quickly(&call) : 0;
    n = likely((uint32_t)word == w->position) ? call_read_small(call, word, buf, size, reply) : -1;
    if (unlikely(n < 0))
        return call_wait(port, cap, call, buf, size, reply, timeout_ns);
    reply_end(&call.calls->replies, call.entry);
    call_end(port, call.calls);
    gate_leave_biased(self);
    return n;
}

ssize_t vrd_call(vrd_cap_t cap, const void *request, size_t len, void *reply, size_t size,
                 int64_t timeout_ns)
{
    return call_through(cap, request, len, 0, 0, reply, size, NULL, timeout_ns);
}

/* The request carries capabilities. */
static int call_carrying(vrd_cap_t cap, const struct vrd_message *request,
                         struct vrd_message *reply, int64_t timeout_ns)
{
    struct ring_message out = message_out(request), in = call_wish(reply->data, reply);
    struct port *port;
    struct carry carry;
    int r = carry_open(&carry, cap, request->caps, request->n_caps);

    if (r < 0)
        return r;
    out.carried = &carry.out;
    port = gate_enter(cap, VRD_RIGHT_SEND, &r);
    if (port)
        r = call_held(port, cap, &out, &carry, &in, reply->size, timeout_ns);
    carry_close(&carry, r);
    return call_answered(r, &in, reply) < 0 ? r : 0;
}

int vrd_call_message(vrd_cap_t cap, const struct vrd_message *request, struct vrd_message *reply,
                     int64_t timeout_ns)
{
    ssize_t r;

    if (!request || !reply || !message_reserved_zero(request) || !message_reserved_zero(reply))
        return VRD_ERR_INVALID_ARGUMENT;
    if (unlikely(request->n_caps > 0))
        return call_carrying(cap, request, reply, timeout_ns);
    r = call_through(cap, request->data, request->len, request->opcode, request->flags, reply->data,
                     reply->size, reply, timeout_ns);
    return r < 0 ? (int)r : 0;
}

ssize_t vrd_call_loan(struct vrd_loan *request, void *reply, size_t size, int64_t timeout_ns)
{
    struct ring_message out, in = call_wish(reply, NULL);
    struct port *port;
    int r;

    if (!loan_valid(request))
        return VRD_ERR_INVALID_ARGUMENT;
    out = loan_out(request);
    port = gate_enter(request->cap, VRD_RIGHT_SEND, &r);
    if (!port)
        return r;
    r = call_held(port, request->cap, &out, NULL, &in, size, timeout_ns);
    if (!out.block)
        loan_end(request);
    return call_answered(r, &in, NULL);
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
