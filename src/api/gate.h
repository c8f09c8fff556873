/* SPDX-License-Identifier: MIT */
/*
 * gate.h - the one way from a capability number to a port: finds it, takes its pin, checks that the
 * number is current and that it confers the right.
 */
#pragma once

#include <stdint.h>
#include <veridian/error.h>

#include "object/port.h"

/* By what a thread remembers the capability it used last: one to send with, one to receive with. */
enum gate_use { GATE_SEND, GATE_RECEIVE };

/* The port that this thread used last, if it is the one. */
hot_inline struct port *gate_recent(const struct pin_thread *self, vrd_cap_t cap, enum gate_use use)
{
    return likely(self && self->recent[use].key == cap) ? self->recent[use].value : NULL;
}

/* Finds the port for a thread that used another one last. NULL: gate_enter says why. */
struct port *gate_recall(struct pin_thread *self, vrd_cap_t cap, enum gate_use use);

/* The one or the other; NULL also for a thread that has not used any. */
hot_inline struct port *gate_last(struct pin_thread *self, vrd_cap_t cap, enum gate_use use)
{
    struct port *port = gate_recent(self, cap, use);

    return likely(port) ? port : gate_recall(self, cap, use);
}

/*
 * Takes the pin of a port that gate_recent or gate_recall found, if it is biased to this thread and
 * the number is current. Leave with gate_leave_biased.
 */
hot_inline bool gate_try(struct pin_thread *self, struct port *port, vrd_cap_t cap)
{
    if (unlikely(!pin_try_biased(self, &port->handle.pin)))
        return false;
    if (likely(port->handle.cap == cap))
        return true;
    pin_leave_biased(self);
    return false;
}

/* After gate_try. */
hot_inline void gate_leave_biased(struct pin_thread *self)
{
    pin_leave_biased(self);
}

/*
 * Takes the pin of the port that confers the right for a use; at once, if this thread used it last and has
 * its bias. NULL: *ret_error says why. Leave with gate_leave.
 */
struct port *gate_enter_slow(vrd_cap_t cap, enum gate_use use, int *ret_error);

hot_inline struct port *gate_enter_for(vrd_cap_t cap, enum gate_use use, int *ret_error)
{
    struct pin_thread *self = pin_self;
    struct port *port = gate_last(self, cap, use);

    return likely(port && gate_try(self, port, cap)) ? port : gate_enter_slow(cap, use, ret_error);
}

/*
 * Any of `rights` will do; with SEND alone, an endpoint's sending side is found. NULL: *ret_error
 * says why. Leave with gate_leave.
 */
struct port *gate_enter(vrd_cap_t cap, uint32_t rights, int *ret_error);

/* The endpoint that a reply capability belongs to, and the call. NULL: *ret_error says why. */
struct port *gate_enter_reply(vrd_cap_t reply, struct pending_call **ret_call, int *ret_error);

/* The same for what has to be a region: else VRD_ERR_INVALID_MEMORY_REGION. */
struct port *gate_enter_region(vrd_cap_t cap, uint32_t rights, int *ret_error);

static inline void gate_leave(struct port *port)
{
    pin_leave(&port->handle.pin);
}

#define GATE_ANY UINT32_MAX

/* VRD_ERR_INVALID_ARGUMENT for a negative timeout that is not VRD_FOREVER. */
static inline bool timeout_valid(int64_t timeout_ns)
{
    return timeout_ns >= VRD_FOREVER;
}
