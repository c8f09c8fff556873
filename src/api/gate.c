/* SPDX-License-Identifier: MIT */
#include "api/gate.h"

#include "object/control.h"

/* Takes the pin: perhaps the first use in this process, perhaps another thread's bias. */
static int gate_lock(struct handle *handle)
{
    int r = control_ready();

    if (r < 0)
        return r;
    if (!pin_try_biased(&handle->pin))
        pin_lock(&handle->pin);
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
