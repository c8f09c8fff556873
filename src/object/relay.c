/* SPDX-License-Identifier: MIT */
#include "object/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <veridian/error.h>

#include "base/arith.h"
#include "base/error.h"
#include "base/list.h"
#include "cap/frame.h"
#include "link/layout.h"
#include "object/carried.h"
#include "object/control.h"
#include "object/port.h"
#include "object/reactor.h"
#include "object/source.h"
#include "os/fd.h"
#include "os/segment.h"
#include "os/socket.h"

/* At the start of the segment of a REPLY, followed by the payload. */
struct relay_header {
    uint64_t len;
    uint32_t opcode;
    uint32_t flags;
};

/* A call whose reply capability is elsewhere, or on its way. */
struct relay {
    struct list node; /* in `relays` or `answers` */
    struct port *port;
    vrd_cap_t reply;       /* the call's number, known here only once it has moved     */
    struct source *source; /* NULL: it is over, with an answer or without (segment)    */
    bool waiting;          /* ... and nobody has seen to it: in `answers`                */
    struct segment segment;
    struct carried *carried;
};

/* With the control lock. */
static struct list relays = { &relays, &relays };    /* elsewhere, or on their way */
static struct list answers = { &answers, &answers }; /* over                       */

/* --- life: control lock held ------------------------------------------------------------------ */

static struct relay *relay_new(struct port *port, vrd_cap_t reply, int fd)
{
    struct relay *relay = calloc(1, sizeof(*relay));

    if (!relay) {
        fd_close(&fd);
        return NULL;
    }
    relay->source = source_new(port, SOURCE_ANSWER, fd);
    if (!relay->source || source_watch(relay->source) < 0) {
        source_free(&relay->source);
        free(relay);
        return NULL;
    }
    relay->source->relay = relay;
    relay->port = port;
    relay->reply = reply;
    list_append(&relays, &relay->node);
    return relay;
}

/* Out of the list, whichever it is in. */
static void relay_take(struct relay *relay)
{
    list_remove(&relay->node);
    relay->port->receiver.n_answers -= relay->waiting;
    relay->waiting = false;
}

static void relay_free(struct relay *relay)
{
    relay_take(relay);
    source_free(&relay->source);
    segment_unmap(&relay->segment);
    carried_free(&relay->carried);
    free(relay);
}

static struct relay *relay_find_in(struct list *list, vrd_cap_t reply)
{
    list_foreach(node, list) {
        struct relay *relay = list_entry(node, struct relay, node);

        if (relay->reply == reply)
            return relay;
    }
    return NULL;
}

static struct relay *relay_find(vrd_cap_t reply)
{
    struct relay *relay = relay_find_in(&relays, reply);

    return relay ? relay : relay_find_in(&answers, reply);
}

static void relay_forget_in(struct list *list, const struct port *port)
{
    list_foreach(node, list) {
        struct relay *relay = list_entry(node, struct relay, node);

        if (relay->port == port)
            relay_free(relay);
    }
}

void relay_forget(struct port *port)
{
    relay_forget_in(&relays, port);
    relay_forget_in(&answers, port);
}

/* --- moving: pin held ------------------------------------------------------------------------- */

/* What its next holder is told. */
static int relay_greet(const struct port *port, int fd)
{
    const struct frame frame = { .type = FRAME_GREETING_REPLY,
                                 .slots = 1,
                                 .max_message = port->max_message };
    uint8_t buf[FRAME_SIZE];
    int r;

    frame_encode(&frame, buf);
    r = socket_send(fd, buf, sizeof(buf), NULL, 0);
    return r < 0 ? error_from_errno(-r) : 0;
}

int relay_mint(struct port *port, vrd_cap_t reply, struct pending_call *call, int *ret_fd)
{
    fd_auto near = -1;
    fd_auto far = -1;
    struct relay *relay;
    int pair[2], r;

    if (call->moving)
        return VRD_ERR_RESOURCE_BUSY;
    r = source_pair(pair);
    if (r < 0)
        return error_from_errno(-r);
    near = pair[0];
    far = pair[1];
    r = relay_greet(port, far);
    if (r < 0)
        return r;
    control_lock();
    relay = relay_new(port, reply, fd_take(&far));
    control_unlock();
    if (!relay)
        return VRD_ERR_OUT_OF_MEMORY;
    reactor_start(); /* the answer may come at any time */
    call->moving = true;
    *ret_fd = fd_take(&near);
    return 0;
}

void relay_moved(struct port *port, vrd_cap_t reply, struct pending_call *call)
{
    vrd_cap_t hidden = reply_renumber(port, call);
    struct relay *relay;

    control_lock();
    relay = relay_find(reply);
    if (relay)
        relay->reply = hidden;
    control_unlock();
}

void relay_kept(vrd_cap_t reply, struct pending_call *call)
{
    struct relay *relay;

    call->moving = false;
    control_lock();
    relay = relay_find(reply);
    if (relay)
        relay_free(relay);
    control_unlock();
}

/* --- what came back --------------------------------------------------------------------------- */

/* The answer in a segment, for reply_send. False: it is not one. */
static bool relay_message(const struct relay *relay, struct ring_message *ret)
{
    uint8_t *data = relay->segment.addr;
    struct relay_header header;

    if (relay->segment.size == 0)
        return false;
    memcpy(&header, data, sizeof(header));
    compiler_barrier(); /* the copy is checked and used, whatever its writer does now */
    if (header.len > relay->segment.size - sizeof(header))
        return false;
    *ret = (struct ring_message){ .data = data + sizeof(header),
                                  .len = header.len,
                                  .opcode = header.opcode,
                                  .flags = header.flags,
                                  .carried = relay->carried };
    return true;
}

static void relay_carry_out(struct port *port, const struct relay *relay)
{
    struct pending_call *call = reply_find(&port->receiver.pending, relay->reply);
    struct ring_message message;

    if (!call) /* answered here, before it had moved */
        return;
    if (relay_message(relay, &message))
        reply_send(port, call, &message);
    else
        reply_drop(port, call);
}

/* One of `port`; out of the list. */
static struct relay *relay_next(const struct port *port)
{
    struct relay *found = NULL;

    control_lock();
    list_foreach(node, &answers) {
        struct relay *relay = list_entry(node, struct relay, node);

        if (relay->port != port)
            continue;
        relay_take(relay);
        found = relay;
        break;
    }
    control_unlock();
    return found;
}

void relay_adopt(struct port *port)
{
    struct relay *relay;

    while ((relay = relay_next(port))) {
        relay_carry_out(port, relay);
        control_lock();
        relay_free(relay);
        control_unlock();
    }
}

void relay_adopt_all(void)
{
    struct port *port;
    vrd_cap_t cap;

    for (;;) {
        control_lock();
        port = list_empty(&answers) ? NULL : list_entry(answers.next, struct relay, node)->port;
        cap = port ? port->handle.cap : VRD_CAP_NONE;
        control_unlock();
        if (!port || control_ready() < 0 || !port_enter(port, cap))
            return; /* closed just now: it has forgotten them */
        relay_adopt(port);
        pin_leave(&port->handle.pin);
    }
}

/* --- what the reactor finds: control lock held ------------------------------------------------ */

/* The segment, then what the answer carries. */
static int relay_answer(struct relay *relay, const struct frame *frame, struct datagram *datagram)
{
    uint64_t most = relay->port->max_message + sizeof(struct relay_header);
    int r;

    if (frame->bytes > round_up(most, LAYOUT_PAGE))
        return VRD_ERR_PEER_CORRUPT;
    r = segment_import(datagram->fds[0], frame->bytes, &relay->segment);
    if (r < 0) /* it may be anything: the datagram's to close */
        return r;
    fd_close(&datagram->fds[0]);
    datagram->n_fds--;
    memmove(datagram->fds, datagram->fds + 1, datagram->n_fds * sizeof(int));
    if (datagram->n_fds > 0)
        r = carried_new(frame, datagram, &relay->carried);
    if (r < 0)
        segment_unmap(&relay->segment);
    return r;
}

static int relay_frame(struct source *source, struct datagram *datagram)
{
    struct frame frame;

    if (frame_decode(datagram->data, datagram->len, datagram->n_fds, &frame) == 0 &&
        frame.type == FRAME_REPLY)
        relay_answer(source->relay, &frame, datagram);
    return VRD_ERR_PEER_GONE; /* nothing else, and nothing after it */
}

void relay_source_ready(struct source *source)
{
    struct relay *relay = source->relay;

    if (source_drain(source, relay_frame) == 0)
        return;
    source_free(&relay->source);
    list_remove(&relay->node);
    list_append(&answers, &relay->node);
    relay->waiting = true;
    relay->port->receiver.n_answers++;
    port_post(relay->port);
    reactor_owe(); /* which enters the port: its user may be busy */
}

/* --- where it has moved to -------------------------------------------------------------------- */

void relay_hold(struct port *port, int fd)
{
    port->reply = (struct reply_holder){ .socket = fd, .identity = fd_identity(fd) };
}

static int relay_write(const struct ring_message *message, struct frame *frame, int *ret_fd)
{
    const struct relay_header header = { .len = message->len,
                                         .opcode = message->opcode,
                                         .flags = message->flags };
    struct segment segment;
    int r;

    frame->bytes = round_up(sizeof(header) + message->len, LAYOUT_PAGE);
    r = segment_create(frame->bytes, &segment, ret_fd);
    if (r < 0)
        return error_from_errno(-r);
    memcpy(segment.addr, &header, sizeof(header));
    if (message->len > 0)
        memcpy((uint8_t *)segment.addr + sizeof(header), message->data, message->len);
    segment_unmap(&segment);
    return 0;
}

int relay_send(struct port *port, const struct ring_message *message)
{
    struct frame frame = { .type = FRAME_REPLY };
    int fds[1 + FRAME_TRANSFER_MAX];
    uint8_t buf[FRAME_SIZE];
    fd_auto fd = -1;
    size_t n = 1;
    int r;

    if (message->len > port->max_message)
        return VRD_ERR_MESSAGE_TOO_LARGE;
    if (!message->data && message->len > 0)
        return VRD_ERR_INVALID_ARGUMENT;
    r = relay_write(message, &frame, &fd);
    if (r < 0)
        return r;
    fds[0] = fd;
    for (uint32_t i = 0; message->carried && i < message->carried->n; i++)
        fds[n++] = message->carried->fds[i];
    frame_encode(&frame, buf);
    r = socket_send(port->reply.socket, buf, sizeof(buf), fds, n);
    reactor_sent();
    return r < 0 ? error_from_errno(-r) : 0;
}

void relay_close(struct port *port)
{
    fd_close(&port->reply.socket);
}

void relay_after_fork(struct port *port)
{
    if (fd_identity(port->reply.socket) != port->reply.identity)
        port->reply.socket = -1; /* closed, and perhaps somebody else's by now */
}
