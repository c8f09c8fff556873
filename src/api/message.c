/* SPDX-License-Identifier: MIT */
#include <veridian/message.h>

#include "api/message.h"
#include "api/transfer.h"
#include "object/intake.h"

int message_check_send(const struct vrd_message *message)
{
    return message_reserved_zero(message) ? 0 : VRD_ERR_INVALID_ARGUMENT;
}

struct ring_message message_out(const struct vrd_message *message)
{
    return (struct ring_message){ .data = message->data,
                                  .len = message->len,
                                  .opcode = message->opcode,
                                  .flags = message->flags };
}

int message_send(vrd_cap_t cap, struct ring_message *out, int64_t timeout_ns)
{
    int r;
    struct port *port = gate_enter(cap, VRD_RIGHT_SEND, &r);

    return port ? transfer_send(port, cap, out, timeout_ns) : r;
}

/* Whatever is not small, or has to wait. Pin held; gives it back. */
static __attribute__((noinline)) int
send_held(struct port *port, vrd_cap_t cap, const struct vrd_message *message, int64_t timeout_ns)
{
    struct ring_message out = message_out(message);

    return transfer_send(port, cap, &out, timeout_ns);
}

/* The pin is not to be had by its bias, or there are capabilities. */
static __attribute__((noinline)) int send_slow(vrd_cap_t cap, const struct vrd_message *message,
                                               int64_t timeout_ns)
{
    struct ring_message out = message_out(message);
    struct carry carry;
    int r;

    if (message->n_caps == 0)
        return message_send(cap, &out, timeout_ns);
    r = carry_open(&carry, cap, message->caps, message->n_caps);
    if (r < 0)
        return r;
    out.carried = &carry.out;
    r = message_send(cap, &out, timeout_ns);
    carry_close(&carry, r);
    return r;
}

int vrd_send_message(vrd_cap_t cap, const struct vrd_message *message, int64_t timeout_ns)
{
    struct pin_thread *self = pin_self;
    struct port *port;
    uint64_t notice;

    if (unlikely(!message || !message_reserved_zero(message)))
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_last(self, cap, GATE_SEND);
    if (unlikely(!port || message->n_caps > 0 || !timeout_valid(timeout_ns) ||
                 !gate_try(self, port, cap)))
        return send_slow(cap, message, timeout_ns);
    if (unlikely(!transfer_send_small(port, message->data, message->len, message->opcode,
                                      message->flags, 0)))
        return send_held(port, cap, message, timeout_ns);
    notice = sender_notice_one(&port->sender.ring);
    if (unlikely(notice != 0))
        return transfer_send_end(port, notice);
    ring_writer_look_ahead(&port->sender.ring);
    gate_leave_biased(self);
    return 0;
}

int message_receive(struct port *port, vrd_cap_t cap, struct vrd_message *message,
                    int64_t timeout_ns)
{
    struct ring_message in = { .data = message->data, .wants_caps = message->max_caps > 0 };
    struct link *link;
    int r = transfer_receive(port, cap, &in, message->size, timeout_ns, &link);

    if (r == 0) {
        message_in(message, &in, link);
        carry_in(message, in.carried);
    } else if (r == VRD_ERR_MESSAGE_TOO_LARGE) {
        message->len = in.len;
    }
    return r;
}

/* Whatever is not small, and waiting. Pin held; gives it back. */
static __attribute__((noinline)) int receive_held(struct port *port, vrd_cap_t cap,
                                                  struct vrd_message *message, int64_t timeout_ns)
{
    int r = message_receive(port, cap, message, timeout_ns);

    if (r == 0)
        gate_leave(port);
    return r;
}

/* The pin is not to be had by its bias. */
static __attribute__((noinline)) int receive_slow(vrd_cap_t cap, struct vrd_message *message,
                                                  int64_t timeout_ns)
{
    int r;
    struct port *port = gate_enter(cap, VRD_RIGHT_RECEIVE, &r);

    return port ? receive_held(port, cap, message, timeout_ns) : r;
}

int vrd_receive_message(vrd_cap_t cap, struct vrd_message *message, int64_t timeout_ns)
{
    struct pin_thread *self = pin_self;
    struct port *port;

    if (unlikely(!message || !message_reserved_zero(message)))
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_last(self, cap, GATE_RECEIVE);
    if (unlikely(!port || !timeout_valid(timeout_ns) || !gate_try(self, port, cap)))
        return receive_slow(cap, message, timeout_ns);
    if (unlikely(!message_take_small(port, message, NULL, timeout_ns)))
        return receive_held(port, cap, message, timeout_ns);
    gate_leave_biased(self);
    return 0;
}

int vrd_discard(vrd_cap_t cap)
{
    int r;
    struct port *port = gate_enter(cap, VRD_RIGHT_RECEIVE, &r);

    if (!port)
        return r;
    r = intake_discard(port);
    gate_leave(port);
    return r;
}
