/* SPDX-License-Identifier: MIT */
#include <veridian/channel.h>

#include <veridian/async_channel.h>
#include <veridian/error.h>

#include "api/options.h"
#include "api/transfer.h"
#include "base/error.h"
#include "object/control.h"
#include "object/owner.h"
#include "object/source.h"
#include "os/fd.h"
#include "os/socket.h"

#define RIGHTS_SENDER (VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)
#define RIGHTS_RECEIVER (VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

/* Both ports over the two ends of a root pair; takes both. Control lock held. */
static int channel_make(const struct vrd_channel_options *options, uint32_t memory, int root[2],
                        vrd_cap_t *ret_send, vrd_cap_t *ret_recv)
{
    uint32_t slots = (uint32_t)options->slots;
    vrd_cap_t send = VRD_CAP_NONE, recv = VRD_CAP_NONE;
    struct port *sender, *receiver;
    fd_auto near = root[0];
    fd_auto far = root[1];

    sender = port_new(PORT_SENDER, RIGHTS_SENDER, slots, options->max_message_size, &send);
    if (!sender)
        return VRD_ERR_OUT_OF_MEMORY;
    receiver = port_new(PORT_RECEIVER, RIGHTS_RECEIVER, slots, options->max_message_size, &recv);
    if (!receiver) {
        port_free(sender);
        return VRD_ERR_OUT_OF_MEMORY;
    }
    receiver_init(receiver);
    if (owner_root(receiver, fd_take(&far)) < 0) {
        port_free(receiver);
        port_free(sender);
        return VRD_ERR_OUT_OF_MEMORY;
    }
    sender_init(sender, fd_take(&near));
    sender->sender.twin = recv;
    sender->max_bytes = receiver->max_bytes = options->max_bytes;
    sender->memory = receiver->memory = memory;
    sender->object = receiver->object = VRD_OBJECT_CHANNEL;
    port_show(sender, send);
    port_show(receiver, recv);
    *ret_send = send;
    *ret_recv = recv;
    return 0;
}

int vrd_channel_create_with(const struct vrd_channel_options *options, vrd_cap_t *ret_send,
                            vrd_cap_t *ret_recv)
{
    struct vrd_channel_options filled = options ? *options : (struct vrd_channel_options){ 0 };
    uint32_t memory;
    int root[2];
    int r;

    if (!ret_send || !ret_recv)
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
    r = channel_make(&filled, memory, root, ret_send, ret_recv);
    control_unlock();
    return r;
}

int vrd_channel_create(size_t slots, vrd_cap_t *ret_send, vrd_cap_t *ret_recv)
{
    struct vrd_channel_options options = { .slots = slots };

    if (slots == 0)
        return VRD_ERR_INVALID_ARGUMENT;
    return vrd_channel_create_with(&options, ret_send, ret_recv);
}

/* --- sending and receiving: nothing but the fast path, and a way out of it -------------------- */

/* Large, or no room, or news. Pin held. */
static __attribute__((noinline)) int send_held(struct port *port, vrd_cap_t cap, const void *data,
                                               size_t len, int64_t timeout_ns)
{
    struct ring_message message = { .data = transfer_unconst(data), .len = len };

    return transfer_send(port, cap, &message, timeout_ns);
}

/* More than a slot holds, mostly. Pin held. */
static __attribute__((noinline)) int send_large(struct port *port, vrd_cap_t cap, const void *data,
                                                size_t len, int64_t timeout_ns)
{
    uint64_t notice;

    if (!transfer_send_bytes(port, data, len, 0, 0))
        return send_held(port, cap, data, len, timeout_ns);
    notice = sender_notice_one(&port->sender.ring);
    if (unlikely(notice != 0))
        return transfer_send_end(port, notice);
    gate_leave(port);
    return 0;
}

/* The pin is not to be had by its bias. */
static __attribute__((noinline)) int send_slow(vrd_cap_t cap, const void *data, size_t len,
                                               int64_t timeout_ns)
{
    int r;
    struct port *port = gate_enter(cap, VRD_RIGHT_SEND, &r);

    return port ? send_held(port, cap, data, len, timeout_ns) : r;
}

hot_inline int send_through(struct pin_thread *self, struct port *port, vrd_cap_t cap,
                            const void *data, size_t len, int64_t timeout_ns)
{
    uint64_t notice;

    if (unlikely(!gate_try(self, port, cap)))
        return send_slow(cap, data, len, timeout_ns);
    if (unlikely(!transfer_send_small(port, data, len, 0, 0, 0)))
        return send_large(port, cap, data, len, timeout_ns);
    notice = sender_notice_one(&port->sender.ring);
    if (unlikely(notice != 0))
        return transfer_send_end(port, notice);
    ring_writer_look_ahead(&port->sender.ring);
    gate_leave_biased(self);
    return 0;
}

/* Through another capability than this thread's last. */
static __attribute__((noinline)) int send_other(vrd_cap_t cap, const void *data, size_t len,
                                                int64_t timeout_ns)
{
    struct port *port = gate_recall(pin_self, cap, GATE_SEND);

    return port ? send_through(pin_self, port, cap, data, len, timeout_ns)
                : send_slow(cap, data, len, timeout_ns);
}

hot_inline int send_plain(vrd_cap_t cap, const void *data, size_t len, int64_t timeout_ns)
{
    struct pin_thread *self = pin_self;
    struct port *port = gate_recent(self, cap, GATE_SEND);

    return likely(port) ? send_through(self, port, cap, data, len, timeout_ns)
                        : send_other(cap, data, len, timeout_ns);
}

/* Whatever is not plain, and waiting. Pin held. */
static __attribute__((noinline)) ssize_t receive_held(struct port *port, vrd_cap_t cap, void *buf,
                                                      size_t size, int64_t timeout_ns)
{
    struct ring_message message = { .data = buf };
    struct link *link;
    int r = transfer_receive(port, cap, &message, size, timeout_ns, &link);

    if (r < 0)
        return r;
    gate_leave(port);
    return (ssize_t)message.len;
}

/* What the current link's slot holds is not small, with this word. Pin held. */
static __attribute__((noinline)) ssize_t receive_large(struct port *port, vrd_cap_t cap,
                                                       uint64_t word, void *buf, size_t size,
                                                       int64_t timeout_ns)
{
    struct receiver *rx = &port->receiver;
    struct link *link = rx->current;
    ssize_t n = port_news(port) ? -1 : ring_read_bytes(&link->ring, word, buf, size);
    uint64_t notice;

    if (n < 0)
        return receive_held(port, cap, buf, size, timeout_ns);
    notice = receiver_took(rx, link);
    if (unlikely(notice != 0))
        return transfer_receive_end(port, link, notice, n);
    gate_leave(port);
    return n;
}

/* The pin is not to be had by its bias. */
static __attribute__((noinline)) ssize_t receive_slow(vrd_cap_t cap, void *buf, size_t size,
                                                      int64_t timeout_ns)
{
    int r;
    struct port *port = gate_enter(cap, VRD_RIGHT_RECEIVE, &r);

    return port ? receive_held(port, cap, buf, size, timeout_ns) : r;
}

/*
 * May receive_small take the message with this word? The news are looked at behind the acquire of
 * `word`, if relaxed: what was revoked before this was published, say, has been posted.
 */
hot_inline bool receive_is_small(const struct port *port, uint64_t word, size_t size)
{
    return likely(slot_is_small(word) && !port_news(port) && slot_fits(word, size));
}

/*
 * Takes a plain message that fits from the current link's slot. Pin held, by its bias; gives it back.
 * Nothing is left to do after the last call here, so that no caller has to keep anything for it.
 */
hot_inline ssize_t receive_small(struct pin_thread *self, struct port *port,
                                 const struct slot *slot, uint64_t word, void *buf, size_t size)
{
    struct receiver *rx = &port->receiver;
    struct link *link = rx->current;
    ssize_t n = slot_copy_small(slot, word, buf, size);
    uint64_t notice;

    ring_advance(&link->ring, word);
    notice = receiver_took(rx, link);
    if (unlikely(notice != 0))
        return transfer_receive_end(port, link, notice, n);
    gate_leave_biased(self);
    return n;
}

/* Nothing there at the first look, or nothing plain. */
static __attribute__((noinline)) ssize_t receive_miss(struct port *port, vrd_cap_t cap, void *buf,
                                                      size_t size, int64_t timeout_ns)
{
    const struct ring_reader *ring = &port->receiver.current->ring;
    const struct slot *slot = ring_slot(ring);
    uint64_t word;

    if (timeout_ns == 0)
        return receive_held(port, cap, buf, size, timeout_ns);
    word = transfer_look(port, slot);
    if (unlikely(ring_state(ring, word) != RING_READY))
        return receive_held(port, cap, buf, size, timeout_ns);
    if (likely(receive_is_small(port, word, size)))
        return receive_small(pin_self, port, slot, word, buf, size);
    return receive_large(port, cap, word, buf, size, timeout_ns);
}

hot_inline ssize_t receive_through(struct pin_thread *self, struct port *port, vrd_cap_t cap,
                                   void *buf, size_t size, int64_t timeout_ns)
{
    const struct slot *slot;
    uint64_t word;

    if (unlikely(!gate_try(self, port, cap)))
        return receive_slow(cap, buf, size, timeout_ns);
    if (unlikely(port->receiver.budget == 0 || !buf))
        return receive_held(port, cap, buf, size, timeout_ns);
    slot = ring_slot(&port->receiver.current->ring);
    word = slot_load(slot);
    if (unlikely(ring_state(&port->receiver.current->ring, word) != RING_READY))
        return receive_miss(port, cap, buf, size, timeout_ns);
    if (!receive_is_small(port, word, size))
        return receive_large(port, cap, word, buf, size, timeout_ns);
    return receive_small(self, port, slot, word, buf, size);
}

/* Through another capability than this thread's last. */
static __attribute__((noinline)) ssize_t receive_other(vrd_cap_t cap, void *buf, size_t size,
                                                       int64_t timeout_ns)
{
    struct port *port = gate_recall(pin_self, cap, GATE_RECEIVE);

    return port ? receive_through(pin_self, port, cap, buf, size, timeout_ns)
                : receive_slow(cap, buf, size, timeout_ns);
}

hot_inline ssize_t receive_plain(vrd_cap_t cap, void *buf, size_t size, int64_t timeout_ns)
{
    struct pin_thread *self = pin_self;
    struct port *port = gate_recent(self, cap, GATE_RECEIVE);

    return likely(port) ? receive_through(self, port, cap, buf, size, timeout_ns)
                        : receive_other(cap, buf, size, timeout_ns);
}

int vrd_send(vrd_cap_t cap, const void *data, size_t len)
{
    return send_plain(cap, data, len, VRD_FOREVER);
}

int vrd_send_timed(vrd_cap_t cap, const void *data, size_t len, int64_t timeout_ns)
{
    if (unlikely(!timeout_valid(timeout_ns))) /* an error also where nobody would have to wait */
        return send_slow(cap, data, len, timeout_ns);
    return send_plain(cap, data, len, timeout_ns);
}

ssize_t vrd_receive(vrd_cap_t cap, void *buf, size_t size)
{
    return receive_plain(cap, buf, size, VRD_FOREVER);
}

ssize_t vrd_receive_timed(vrd_cap_t cap, void *buf, size_t size, int64_t timeout_ns)
{
    if (unlikely(!timeout_valid(timeout_ns)))
        return receive_slow(cap, buf, size, timeout_ns);
    return receive_plain(cap, buf, size, timeout_ns);
}

/* --- async_channel.h -------------------------------------------------------------------------- */

int vrd_async_channel_create(size_t slots, vrd_cap_t *ret_send, vrd_cap_t *ret_recv)
{
    return vrd_channel_create(slots, ret_send, ret_recv);
}

int vrd_send_async(vrd_cap_t cap, const void *data, size_t len)
{
    return send_plain(cap, data, len, 0);
}

ssize_t vrd_receive_async(vrd_cap_t cap, void *buf, size_t size)
{
    return receive_plain(cap, buf, size, 0);
}
