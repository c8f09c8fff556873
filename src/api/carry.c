/* SPDX-License-Identifier: MIT */
#include "api/carry.h"

#include <stdbool.h>
#include <veridian/error.h>

#include "api/passing.h"
#include "os/fd.h"

static bool carry_valid(vrd_cap_t through, const vrd_cap_t *caps, uint32_t n)
{
    if (n > VRD_MESSAGE_CAPS_MAX)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        if (caps[i] == through)
            return false;
        for (uint32_t j = 0; j < i; j++)
            if (caps[i] == caps[j])
                return false;
    }
    return true;
}

int carry_open(struct carry *carry, vrd_cap_t through, const vrd_cap_t *caps, uint32_t n)
{
    int r = 0;

    *carry = (struct carry){ .caps = caps };
    if (!carry_valid(through, caps, n))
        return VRD_ERR_INVALID_ARGUMENT;
    for (uint32_t i = 0; r == 0 && i < n; i++) {
        r = passing_mint(caps[i], &carry->out.fds[i]);
        carry->out.n += r == 0;
    }
    if (r < 0)
        carry_close(carry, r);
    return r;
}

void carry_close(struct carry *carry, int result)
{
    for (uint32_t i = 0; i < carry->out.n; i++) {
        if (result < 0) {
            passing_kept(carry->caps[i], fd_take(&carry->out.fds[i]));
        } else {
            passing_moved(carry->caps[i]);
            fd_close(&carry->out.fds[i]);
        }
    }
    carry->out.n = 0;
}

void carry_in(struct vrd_message *message, struct carried *carried)
{
    if (!carried)
        return;
    message->n_caps = carried->n < message->max_caps ? carried->n : message->max_caps;
    for (uint32_t i = 0; i < message->n_caps; i++) {
        message->caps[i] = VRD_CAP_NONE;
        passing_accept(fd_take(&carried->fds[i]), &message->caps[i]);
    }
    carried_free(&carried);
}
