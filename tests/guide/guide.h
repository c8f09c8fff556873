/* SPDX-License-Identifier: MIT */
/* guide.h - what the guide's sections share in their C form. */
#ifndef GUIDE_GUIDE_H
#define GUIDE_GUIDE_H

#include "support/support.h"

#include <string.h>
#include <unistd.h>
#include <veridian/ipc.h>

/* All that a process starts once and keeps, a wait that sleeps included, comes before the first
 * comparison of what is held. */
static inline int guide_warm_up(void)
{
    vrd_cap_t send, receive;
    char byte;

    if (support_warm_up_channel() != 0 || vrd_channel_create(1, &send, &receive) != VRD_OK)
        return -1;
    if (vrd_receive_timed(receive, &byte, 1, INT64_C(50000000)) != VRD_ERR_TIMEOUT)
        return -1;
    return vrd_cap_close(send) != VRD_OK || vrd_cap_close(receive) != VRD_OK ? -1 : 0;
}

#endif
