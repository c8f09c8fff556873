/* SPDX-License-Identifier: MIT */
#include <veridian/endpoint.h>

#include <veridian/error.h>

#include "api/loan.h"
#include "api/message.h"
#include "api/transfer.h"
#include "base/clock.h"
#include "object/call.h"

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

/* --- in place --------------------------------------------------------------------------------- */

/* With a loan as the request. */
static int call_lending(struct vrd_loan *request, struct ring_message *in, size_t size,
                        int64_t timeout_ns)
{
    struct ring_message out;
    struct port *port;
    int r;

    if (!loan_valid(request) || loan_answers(request))
        return VRD_ERR_INVALID_ARGUMENT;
    out = loan_out(request);
    port = gate_enter_for(request->cap, GATE_SEND, &r);
    if (!port)
        return r;
    r = call_held(port, request->cap, &out, NULL, in, size, timeout_ns);
    if (!out.block)
        loan_end(request, &out);
    return r;
}

ssize_t vrd_call_loan(struct vrd_loan *request, void *reply, size_t size, int64_t timeout_ns)
{
    struct ring_message in = call_wish(reply, NULL);
    int r = call_lending(request, &in, size, timeout_ns);

    return call_answered(r, &in, NULL);
}

/* What is made of an answer that was received with wants_view. */
static int call_viewed(int r, const struct ring_message *in, struct vrd_view *reply)
{
    if (r == 0)
        view_in(reply, in, NULL);
    return r;
}

int vrd_call_view(vrd_cap_t cap, const void *request, size_t len, struct vrd_view *reply,
                  int64_t timeout_ns)
{
    struct ring_message out = { .data = transfer_unconst(request), .len = len };
    struct ring_message in = { .wants_view = true };
    struct port *port;
    int r;

    if (!reply)
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_enter(cap, VRD_RIGHT_SEND, &r);
    if (!port)
        return r;
    r = call_held(port, cap, &out, NULL, &in, 0, timeout_ns);
    return call_viewed(r, &in, reply);
}

int vrd_call_loan_view(struct vrd_loan *request, struct vrd_view *reply, int64_t timeout_ns)
{
    struct ring_message in = { .wants_view = true };
    int r = reply ? call_lending(request, &in, 0, timeout_ns) : VRD_ERR_INVALID_ARGUMENT;

    return call_viewed(r, &in, reply);
}
