/* SPDX-License-Identifier: MIT */
/* The first use of channels in a process starts what stays until its end. A file of its own, so
 * that tests of the lower layers do not link the public functions. */
#include "support/support.h"

#include <veridian/ipc.h>

int support_warm_up_channel(void)
{
    vrd_cap_t send, receive, imported;
    int invitation;
    char byte = 1;

    if (vrd_channel_create(16, &send, &receive) != 0)
        return -1;
    if (vrd_cap_export(send, VRD_RIGHT_SEND, &invitation) != 0)
        return -1;
    if (vrd_cap_import(invitation, &imported) != 0)
        return -1;
    if (vrd_send(imported, &byte, 1) != 0 || vrd_receive(receive, &byte, 1) != 1)
        return -1;
    /* a wait that sleeps starts the reactor's thread */
    if (vrd_receive_timed(receive, &byte, 1, 5000000) != VRD_ERR_TIMEOUT)
        return -1;
    if (vrd_cap_close(imported) != 0 || vrd_cap_close(send) != 0 || vrd_cap_close(receive) != 0)
        return -1;

    /* The reactor lets go of the link's descriptors in its own time; the comparison of the first
     * test must not count them as held from before. */
    size_t fds, settled = 0;
    do {
        fds = support_count_fds();
        support_sleep_ms(20);
        settled = support_count_fds() == fds ? settled + 1 : 0;
    } while (settled < 5);
    return 0;
}
