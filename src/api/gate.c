/* SPDX-License-Identifier: MIT */
#include "api/gate.h"

#include "object/control.h"

/* Takes the pin: perhaps the first use in this process, perhaps another thread's bias. */
static int gate_lock(struct handle *handle)
{
    int r = control_ready();

    if (r < 0)
        return r;
    pin_enter(&handle->pin);
    return 0;
}

/* The side of an endpoint that sends, if that is asked for; else NULL: the port itself. */
static struct port *gate_caller(struct port *port, uint32_t rights)
{
    return rights == VRD_RIGHT_SEND && port->kind == PORT_RECEIVER ? port->receiver.caller : NULL;
}

struct port *gate_enter(vrd_cap_t cap, uint32_t rights, int *ret_error)
{
    struct handle *handle = handle_find(cap);

    *ret_error = handle && cap != VRD_CAP_NONE ? gate_lock(handle) : VRD_ERR_INVALID_CAPABILITY;
    if (*ret_error < 0)
        return NULL;
    if (handle->cap == cap && (handle->rights & rights) != 0) {
        struct port *caller = gate_caller(port_of(handle), rights);

        if (likely(!caller))
            return port_of(handle);
        pin_leave(&handle->pin);
        if (port_enter(caller, cap))
            return caller;
        *ret_error = VRD_ERR_INVALID_CAPABILITY;
        return NULL;
    }
    *ret_error = handle->cap == cap ? VRD_ERR_PERMISSION_DENIED : VRD_ERR_INVALID_CAPABILITY;
    pin_leave(&handle->pin);
    return NULL;
}

struct port *gate_enter_slow(vrd_cap_t cap, enum gate_use use, int *ret_error)
{
    return gate_enter(cap, use == GATE_SEND ? VRD_RIGHT_SEND : VRD_RIGHT_RECEIVE, ret_error);
}

struct port *gate_enter_reply(vrd_cap_t reply, struct pending_call **ret_call, int *ret_error)
{
    struct handle *handle = handle_find(reply);
    struct port *port = port_of(handle);

    *ret_error = handle && cap_is_reply(reply) ? gate_lock(handle) : VRD_ERR_INVALID_CAPABILITY;
    if (*ret_error < 0)
        return NULL;
    if (handle->cap != VRD_CAP_NONE && port->kind == PORT_RECEIVER &&
        port->object == VRD_OBJECT_ENDPOINT) {
        *ret_call = reply_find(&port->receiver.pending, reply);
        if (*ret_call)
            return port;
    }
    *ret_error = VRD_ERR_INVALID_CAPABILITY;
    pin_leave(&handle->pin);
    return NULL;
}

struct port *gate_enter_region(vrd_cap_t cap, uint32_t rights, int *ret_error)
{
    struct port *port = gate_enter(cap, GATE_ANY, ret_error);

    if (!port)
        return NULL;
    if (port->kind != PORT_REGION)
        *ret_error = VRD_ERR_INVALID_MEMORY_REGION;
    else if ((port->handle.rights & rights) == 0)
        *ret_error = VRD_ERR_PERMISSION_DENIED;
    if (*ret_error == 0)
        return port;
    gate_leave(port);
    return NULL;
}

struct port *gate_recall(struct pin_thread *self, vrd_cap_t cap, enum gate_use use)
{
    uint32_t right = use == GATE_SEND ? VRD_RIGHT_SEND : VRD_RIGHT_RECEIVE;
    struct handle *handle = handle_find(cap);
    struct port *caller = NULL;
    bool usable;

    if (!self || cap == VRD_CAP_NONE || !handle || !pin_try_biased(self, &handle->pin))
        return NULL;
    usable = handle->cap == cap && (handle->rights & right) != 0;
    if (usable)
        caller = gate_caller(port_of(handle), right);
    pin_leave_biased(self);
    if (!usable)
        return NULL;
    /* Rights never change while the number lives, so the fast path need not look at them again. */
    self->recent[use] =
        (struct pin_recent){ .key = cap, .value = caller ? caller : port_of(handle) };
    return self->recent[use].value;
}
