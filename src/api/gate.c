/* SPDX-License-Identifier: MIT */
#include "api/gate.h"

#include "object/control.h"

int gate_lock(struct handle *handle)
{
    int r = control_ready();

    if (r < 0)
        return r;
    pin_lock(&handle->pin);
    return 0;
}
