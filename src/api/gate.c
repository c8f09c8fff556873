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

struct port *gate_enter(vrd_cap_t cap, uint32_t rights, int *ret_error)
{
    struct handle *handle = handle_find(cap);

    *ret_error = handle && cap != VRD_CAP_NONE ? gate_lock(handle) : VRD_ERR_INVALID_CAPABILITY;
    if (*ret_error < 0)
        return NULL;
    if (handle->cap == cap && (handle->rights & rights) != 0)
        return port_of(handle);
    *ret_error = handle->cap == cap ? VRD_ERR_PERMISSION_DENIED : VRD_ERR_INVALID_CAPABILITY;
    pin_leave(&handle->pin);
    return NULL;
}

struct port *gate_recall(struct pin_thread *self, vrd_cap_t cap, enum gate_use use)
{
    uint32_t right = use == GATE_SEND ? VRD_RIGHT_SEND : VRD_RIGHT_RECEIVE;
    struct handle *handle = handle_find(cap);
    bool usable;

    if (!self || cap == VRD_CAP_NONE || !handle || !pin_try_biased(self, &handle->pin))
        return NULL;
    usable = handle->cap == cap && (handle->rights & right) != 0;
    pin_leave_biased(self);
    if (!usable)
        return NULL;
    /* Rights never change while the number lives, so the fast path need not look at them again. */
    self->recent[use] = (struct pin_recent){ .key = cap, .value = port_of(handle) };
    return port_of(handle);
}
