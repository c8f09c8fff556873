/* SPDX-License-Identifier: MIT */
#include "object/request.h"

#include <errno.h>
#include <veridian/error.h>

#include "base/clock.h"
#include "base/error.h"
#include "cap/frame.h"
#include "object/control.h"
#include "object/port.h"
#include "object/receiver.h"
#include "object/room.h"
#include "object/sender.h"

#define REVOKE_LIMIT INT64_C(5000000000)

/* Over what the capability is made of, which needs no link; else over its link's tether. */
static int request_make(struct port *port, const struct frame *frame, int fd)
{
    struct sender *s = &port->sender;
    int r = 0;

    if (s->state == SENDER_ENDED)
        return s->error;
    if (s->root >= 0 || s->state == SENDER_NEW) {
        int socket = s->root >= 0 ? s->root : s->inherited;

        r = sender_send(port, socket, frame, &fd, 1);
        return r == VRD_ERR_CHANNEL_FULL ? VRD_ERR_QUOTA_EXCEEDED : sender_refused(port, socket, r);
    }
    r = sender_attend(port);
    if (r < 0)
        return r;
    r = sender_say(port, frame, fd);
    if (r == -EAGAIN && receiver_pump(s->twin))
        r = sender_say(port, frame, fd);
    if (r == -EAGAIN)
        return VRD_ERR_QUOTA_EXCEEDED;
    return r < 0 ? error_from_errno(-r) : 0;
}

int request_derive(struct port *port, uint32_t rights, int fd)
{
    const struct frame frame = { .type = FRAME_DERIVE, .rights = rights };

    return request_make(port, &frame, fd);
}

int request_derive_kept(struct port *port, uint32_t rights, uint64_t badge, int fd)
{
    const struct frame frame = {
        .type = FRAME_DERIVE, .rights = rights, .badge = badge, .count = 1
    };

    return request_make(port, &frame, fd);
}

static bool request_look(struct port *port, const struct port_wait *wait)
{
    (void)wait;
    (void)port; /* the answer comes by post */
    return false;
}

static void request_arm(struct port *port, const struct port_wait *wait)
{
    (void)wait;
    (void)port;
}

static size_t request_points(struct port *port, const struct port_wait *wait,
                             struct futex_point *points)
{
    (void)wait;
    (void)port;
    (void)points;
    return 0;
}

static uint64_t request_ticket(const struct port *port, const struct port_wait *wait)
{
    (void)wait;
    return port->armed; /* nobody is asked to ring */
}

static const struct port_wait request_waits = {
    .look = request_look,
    .arm = request_arm,
    .points = request_points,
    .ticket = request_ticket,
    .peer_here = room_peer_here,
};

/* One wait for whatever comes. 0, or an error after which the pin is given back. */
static int request_wait(struct port *port, vrd_cap_t cap, int64_t deadline)
{
    int r = 0;

    receiver_pump(port->sender.twin); /* the owner may be this very process */
    if (!port_news(port))
        r = port_wait(port, cap, &request_waits, deadline);
    return r;
}

/* Sends the request, and numbers it. 0, VRD_ERR_CHANNEL_FULL: later, or why not. */
static int request_revocation(struct port *port, uint64_t *ret_id)
{
    struct frame frame = { .type = FRAME_REVOKE };
    int r = sender_attend(port);

    if (r < 0)
        return r;
    control_lock();
    frame.id = ++port->sender.asked;
    control_unlock();
    r = sender_say(port, &frame, -1);
    *ret_id = frame.id;
    if (r == -EAGAIN)
        return VRD_ERR_CHANNEL_FULL;
    return r < 0 ? error_from_errno(-r) : 0;
}

/* Is there an answer to the request? VRD_ERR_CHANNEL_EMPTY: not yet. */
static int request_answer(struct port *port, uint64_t id)
{
    struct sender *s = &port->sender;
    bool answered, lost;
    int r = sender_attend(port); /* first: what it has seen to is not told again */

    control_lock();
    answered = s->answered >= id;
    lost = s->unanswered >= id;
    control_unlock();
    if (answered)
        return 0;
    if (lost)
        return s->state == SENDER_ENDED ? s->error : VRD_ERR_PEER_GONE;
    return r < 0 ? r : VRD_ERR_CHANNEL_EMPTY;
}

int request_revoke(struct port *port, vrd_cap_t cap)
{
    int64_t deadline = clock_deadline(REVOKE_LIMIT);
    uint64_t id = 0;
    int r, w = 0;

    while ((r = request_revocation(port, &id)) == VRD_ERR_CHANNEL_FULL && clock_now() < deadline) {
        receiver_pump(port->sender.twin);
        w = port_nap(port, cap, HELLO_RETRY);
        if (w < 0)
            return w; /* closed: the pin is given back */
    }
    while (r == 0 && (r = request_answer(port, id)) == VRD_ERR_CHANNEL_EMPTY &&
           clock_now() < deadline) {
        w = request_wait(port, cap, deadline);
        if (w < 0)
            return w;
        r = 0;
    }
    pin_leave(&port->handle.pin);
    return r == VRD_ERR_CHANNEL_FULL || r == VRD_ERR_CHANNEL_EMPTY ? VRD_ERR_TIMEOUT : r;
}
