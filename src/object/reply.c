/* SPDX-License-Identifier: MIT */
#include "object/reply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <veridian/error.h>

#include "base/error.h"
#include "cap/frame.h"
#include "object/control.h"
#include "object/link.h"
#include "object/memory.h"
#include "object/port.h"
#include "object/reactor.h"
#include "object/source.h"
#include "os/fd.h"
#include "os/futex.h"
#include "os/socket.h"

#define PENDING_FIRST 16

int pending_init(struct pending *pending)
{
    struct pending_call *calls = calloc(PENDING_FIRST, sizeof(*calls));

    if (!calls)
        return VRD_ERR_OUT_OF_MEMORY;
    *pending = (struct pending){ .calls = calls, .mask = PENDING_FIRST - 1 };
    return 0;
}

void pending_deinit(struct pending *pending)
{
    free(pending->calls);
    *pending = (struct pending){ 0 };
}

void pending_forget(struct pending *pending)
{
    if (pending->calls)
        memset(pending->calls, 0, ((size_t)pending->mask + 1) * sizeof(*pending->calls));
    pending->count = 0;
}

int pending_reserve(struct pending *pending)
{
    uint32_t mask = pending->mask * 2 + 1;
    struct pending_call *calls;

    if (pending->count <= pending->mask / 2)
        return 0;
    calls = calloc((size_t)mask + 1, sizeof(*calls));
    if (!calls)
        return VRD_ERR_OUT_OF_MEMORY;
    /* different modulo the old size, so also modulo the new one */
    for (uint32_t i = 0; i <= pending->mask; i++)
        if (pending->calls[i].serial != 0)
            calls[pending->calls[i].serial & mask] = pending->calls[i];
    free(pending->calls);
    pending->calls = calls;
    pending->mask = mask;
    return 0;
}

/* The next serial whose place is free: at least half of all are. */
static uint64_t reply_serial(struct port *port)
{
    const struct pending *pending = &port->receiver.pending;

    do
        port->serial = (port->serial + 1) & REPLY_SERIAL_MASK;
    while (port->serial == 0 || pending->calls[port->serial & pending->mask].serial != 0);
    return port->serial;
}

static vrd_cap_t reply_cap(const struct port *port, uint64_t serial)
{
    return REPLY_FLAG | serial << HANDLE_INDEX_BITS | (port->handle.cap & HANDLE_INDEX_MAX);
}

vrd_cap_t reply_renumber(struct port *port, struct pending_call *call)
{
    struct pending_call moved = *call;
    struct pending *pending = &port->receiver.pending;

    moved.serial = reply_serial(port); /* while the old one still has its place */
    moved.moving = false;
    call->serial = 0;
    pending->calls[moved.serial & pending->mask] = moved;
    if (moved.link)
        moved.link->serials[moved.entry] = moved.serial;
    return reply_cap(port, moved.serial);
}

vrd_cap_t reply_new(struct port *port, struct link *link, uint32_t entry, uint32_t sequence)
{
    struct pending *pending = &port->receiver.pending;
    uint64_t serial;

    if (!reply_expect(&link->replies, entry))
        return VRD_CAP_NONE;
    serial = reply_serial(port);
    pending->calls[serial & pending->mask] = (struct pending_call){
        .serial = serial, .link = link, .sequence = sequence, .entry = (uint8_t)entry
    };
    pending->count++;
    link->serials[entry] = serial;
    return reply_cap(port, serial);
}

int reply_heed(struct link *link, uint32_t entry, uint64_t notice)
{
    switch ((notice >> 40) & 0xff) {
    case RING_FUTEX:
        futex_wake(&link->replies.entries[entry].word, true);
        return 0;
    case RING_TETHER:
        control_lock();
        link_ring_tether(link);
        control_unlock();
        return 0;
    case RING_CANCELLED:
        return VRD_ERR_TIMEOUT;
    default:
        return 0;
    }
}

int reply_refuse(struct link *link, uint32_t entry, uint32_t sequence)
{
    if (!reply_expect(&link->replies, entry))
        return VRD_ERR_PEER_CORRUPT;
    reply_write_none(&link->replies, entry, sequence);
    reply_heed(link, entry, reply_notice(&link->replies, entry, sequence));
    return 0;
}

/* As link_bear, and link_relieve. */
static bool reply_room_bear(struct link *link, uint32_t mappings, uint64_t bytes)
{
    bool borne;

    control_lock();
    borne = link_bear(link, mappings, bytes);
    control_unlock();
    return borne;
}

static void reply_room_relieve(struct link *link, uint32_t mappings, uint64_t bytes)
{
    control_lock();
    link_relieve(link, mappings, bytes);
    control_unlock();
}

int reply_room(struct link *link, uint32_t entry, size_t len)
{
    struct frame frame = { .type = FRAME_ATTACH,
                           .count = entry + 1,
                           .bytes = reply_buffer_size(len) };
    uint8_t buf[FRAME_SIZE];
    struct segment segment;
    struct pages pages;
    fd_auto fd = -1;
    size_t old;
    int r;

    if (reply_writer_fits(&link->replies, entry, len))
        return 0;
    frame.extension = reply_writer_next(&link->replies, entry);
    if (frame.extension == 0)
        return VRD_ERR_OUT_OF_MEMORY;
    old = link->replies.buffers[entry].segment.size;
    pages = memory_pages_large(link->memory, slot_cpu(link->ring.last), &frame.bytes, PTRDIFF_MAX);
    if (!reply_room_bear(link, 1, frame.bytes))
        return VRD_ERR_QUOTA_EXCEEDED;
    r = segment_create_of(frame.bytes, &pages, &segment, &fd);
    if (r == 0) {
        frame_encode(&frame, buf);
        control_lock();
        r = link->tether ? socket_send(link->tether->fd, buf, sizeof(buf), &fd, 1) : -EPIPE;
        control_unlock();
        reactor_sent();
        if (r < 0)
            segment_unmap(&segment);
    }
    if (r < 0) {
        reply_room_relieve(link, 1, frame.bytes);
        return r == -EAGAIN ? VRD_ERR_QUOTA_EXCEEDED : error_from_errno(-r);
    }
    reply_room_relieve(link, old > 0, old);
    reply_writer_attach(&link->replies, entry, segment);
    return 0;
}

/* What an answer carries, ahead of it. 0 and its number, or VRD_ERR_*. */
static int reply_carry(struct link *link, uint32_t entry, uint32_t sequence,
                       const struct carried *carried, uint64_t *ret_id)
{
    const struct frame frame = { .type = FRAME_TRANSFER,
                                 .count = entry + 1,
                                 .id = carried_reply_id(sequence) };
    uint64_t notice = reply_notice(&link->replies, entry, sequence);
    uint8_t buf[FRAME_SIZE];
    int r;

    if (((notice >> 40) & 0xff) == RING_CANCELLED) /* it would be for nobody */
        return VRD_ERR_TIMEOUT;
    frame_encode(&frame, buf);
    control_lock();
    r = link->tether ? socket_send(link->tether->fd, buf, sizeof(buf), carried->fds, carried->n)
                     : -EPIPE;
    control_unlock();
    reactor_sent();
    if (r < 0)
        return r == -EAGAIN ? VRD_ERR_QUOTA_EXCEEDED : error_from_errno(-r);
    *ret_id = frame.id;
    return 0;
}

int reply_caller(struct port *port, const struct pending_call *call)
{
    if (port_news(port))
        receiver_adopt(port);
    if (!call->link)
        return call->error;
    if (!call->link->ending)
        return 0;
    return __atomic_load_n(&call->link->revoked, __ATOMIC_RELAXED) ? VRD_ERR_REVOKED
                                                                   : VRD_ERR_PEER_GONE;
}

int reply_send(struct port *port, struct pending_call *call, const struct ring_message *message)
{
    uint32_t entry = call->entry, sequence = call->sequence;
    struct ring_message out = *message;
    int r = reply_caller(port, call), told;
    struct link *link = call->link;

    reply_take(&port->receiver.pending, call);
    if (!link)
        return r;
    if (r == 0 && message->len > port->max_message)
        r = VRD_ERR_MESSAGE_TOO_LARGE;
    if (r == 0 && !message->data && message->len > 0)
        r = VRD_ERR_INVALID_ARGUMENT;
    if (r == 0 && message->len > SLOT_INLINE_MAX) /* told before the answer */
        r = reply_room(link, entry, message->len);
    if (r == 0 && message->carried)
        r = reply_carry(link, entry, sequence, message->carried, &out.transfer);
    if (r == 0)
        reply_write(&link->replies, entry, sequence, &out);
    else
        reply_write_none(&link->replies, entry, sequence);
    told = reply_heed(link, entry, reply_notice(&link->replies, entry, sequence));
    return r < 0 ? r : told;
}

void reply_drop(struct port *port, struct pending_call *call)
{
    struct link *link = call->link;
    uint32_t entry = call->entry, sequence = call->sequence;

    reply_take(&port->receiver.pending, call);
    if (!link)
        return;
    reply_write_none(&link->replies, entry, sequence);
    reply_heed(link, entry, reply_notice(&link->replies, entry, sequence));
}

void reply_forget(struct receiver *rx, struct link *link, int error)
{
    for (uint32_t left = link->replies.pending; left != 0; left &= left - 1) {
        uint64_t serial = link->serials[__builtin_ctz(left)];
        struct pending_call *call = &rx->pending.calls[serial & rx->pending.mask];

        call->link = NULL;
        call->error = (int16_t)error;
    }
}
