/* SPDX-License-Identifier: MIT */
#include "object/loss.h"

#include "link/layout.h"
#include "object/port.h"

static struct vrd_notice losses[LOSSES_MAX];
static size_t first, count; /* a ring: losses[first], and so on */
static uint32_t forgotten;  /* since the last one that was taken */

enum vrd_loss loss_of_cause(uint8_t cause)
{
    switch (cause) {
    case NOTICE_REVOKED:
        return VRD_LOSS_REVOKED;
    case NOTICE_PARENT_REVOKED:
        return VRD_LOSS_PARENT_REVOKED;
    case NOTICE_POLICY:
        return VRD_LOSS_POLICY;
    case NOTICE_CORRUPT:
        return VRD_LOSS_CORRUPT;
    case NOTICE_CLOSED:
        return VRD_LOSS_CLOSED;
    default:
        return VRD_LOSS_OWNER_GONE;
    }
}

bool loss_is_revocation(uint16_t cause)
{
    return cause == NOTICE_REVOKED || cause == NOTICE_PARENT_REVOKED || cause == NOTICE_POLICY;
}

void loss_note(struct port *port, enum vrd_loss loss)
{
    if (port->loss != VRD_LOSS_NONE || loss == VRD_LOSS_NONE)
        return;
    port->loss = loss;
    if (port->handle.cap == VRD_CAP_NONE) /* nobody has seen it yet */
        return;
    if (count == LOSSES_MAX) {
        first = (first + 1) % LOSSES_MAX;
        count--;
        forgotten++;
    }
    losses[(first + count++) % LOSSES_MAX] =
        (struct vrd_notice){ .cap = port->handle.cap, .badge = port->badge, .loss = loss };
}

size_t loss_take(struct vrd_notice *ret, size_t n)
{
    size_t taken;

    for (taken = 0; taken < n && count > 0; taken++, count--) {
        ret[taken] = losses[first];
        ret[taken].forgotten = forgotten;
        forgotten = 0;
        first = (first + 1) % LOSSES_MAX;
    }
    return taken;
}

void loss_after_fork(void)
{
    first = count = 0;
    forgotten = 0;
}
