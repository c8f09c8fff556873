/* SPDX-License-Identifier: MIT */
/*
 * gate.h - the one way from a capability number to a port: finds it, takes its pin, checks that the
 * number is current and that it confers the right.
 */
#pragma once

#include <stdint.h>
#include <veridian/error.h>

#include "object/port.h"

/* The slow path of taking the pin: first use in a process, another thread's bias. 0 or VRD_ERR_*. */
int gate_lock(struct handle *handle);

/* Any of `rights` will do. NULL: *ret_error says why. Leave with gate_leave. */
static inline struct port *gate_enter(vrd_cap_t cap, uint32_t rights, int *ret_error)
{
    struct handle *handle = handle_find(cap);

    if (unlikely(!handle)) {
        *ret_error = VRD_ERR_INVALID_CAPABILITY;
        return NULL;
    }
    if (unlikely(!pin_try_biased(&handle->pin))) {
        *ret_error = gate_lock(handle);
        if (*ret_error < 0)
            return NULL;
    }
    if (likely(handle->cap == cap && (handle->rights & rights) != 0))
        return port_of(handle);
    *ret_error = cap != VRD_CAP_NONE && handle->cap == cap ? VRD_ERR_PERMISSION_DENIED
                                                           : VRD_ERR_INVALID_CAPABILITY;
    pin_leave(&handle->pin);
    return NULL;
}

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
