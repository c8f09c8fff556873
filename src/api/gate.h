/* SPDX-License-Identifier: MIT */
/*
 * gate.h - the one way from a capability number to a port: finds it, takes its pin, checks that the
 * number is current and that it confers the right.
 */
#pragma once

#include <stdint.h>
#include <veridian/error.h>

#include "object/port.h"

/*
 * The usual way: the capability is this thread's. NULL: not so, or something is wrong; gate_enter
 * finds out. Leave with gate_leave_biased.
 */
hot_inline struct port *gate_try(vrd_cap_t cap, uint32_t right)
{
    struct handle *handle = handle_find(cap);

    if (unlikely(!handle || !pin_try_biased(&handle->pin)))
        return NULL;
    if (likely(handle->cap == cap && (handle->rights & right) != 0))
        return port_of(handle);
    pin_leave_biased();
    return NULL;
}

/* After gate_try. */
hot_inline void gate_leave_biased(void)
{
    pin_leave_biased();
}

/* Any of `rights` will do. NULL: *ret_error says why. Leave with gate_leave. */
struct port *gate_enter(vrd_cap_t cap, uint32_t rights, int *ret_error);

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
