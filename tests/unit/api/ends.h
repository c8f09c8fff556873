/* SPDX-License-Identifier: MIT */
/* ends.h - a channel whose both ends are in this process, and what every test of the API needs. */
#ifndef UNIT_API_ENDS_H
#define UNIT_API_ENDS_H

#include "unit/unit.h"

#include <veridian/ipc.h>

#define MS INT64_C(1000000)

/* Also a wait that sleeps: what a process starts once and keeps is there from then on. */
static inline int ends_warm_up(void)
{
    vrd_cap_t send, receive;
    char byte;

    if (support_warm_up_channel() != 0 || vrd_channel_create(1, &send, &receive) != 0)
        return -1;
    if (vrd_receive_timed(receive, &byte, 1, 30 * MS) != VRD_ERR_TIMEOUT)
        return -1;
    return vrd_cap_close(send) != 0 || vrd_cap_close(receive) != 0 ? -1 : 0;
}

struct ends {
    vrd_cap_t send, receive;
};

static inline struct ends ends_new_with(size_t slots, size_t max_message)
{
    const struct vrd_channel_options options = { .slots = slots, .max_message_size = max_message };
    struct ends ends;

    support_require_equal(vrd_channel_create_with(&options, &ends.send, &ends.receive), 0);
    return ends;
}

static inline struct ends ends_new(size_t slots)
{
    return ends_new_with(slots, 0);
}

static inline void ends_close(const struct ends *ends)
{
    support_require_equal(vrd_cap_close(ends->send), 0);
    support_require_equal(vrd_cap_close(ends->receive), 0);
}

/* One message there, so that all that follow take the fast path. */
static inline void ends_settle(const struct ends *ends)
{
    char byte = 1;

    for (int i = 0; i < 3; i++) {
        support_require_equal(vrd_send(ends->send, &byte, 1), 0);
        support_require_equal(vrd_receive(ends->receive, &byte, 1), 1);
    }
}

/* Numbers that are no capability of this process. */
static inline size_t ends_no_caps(const struct ends *ends, vrd_cap_t *caps)
{
    size_t n = 0;

    caps[n++] = VRD_CAP_NONE;
    caps[n++] = 1;
    caps[n++] = UINT64_MAX;
    caps[n++] = ends->send ^ (UINT64_C(1) << 20); /* another generation */
    caps[n++] = ends->send ^ (UINT64_C(1) << 63);
    caps[n++] = ends->send & ((UINT64_C(1) << 20) - 1); /* no generation */
    caps[n++] = ends->receive + (UINT64_C(1) << 19);    /* another index */
    return n;
}

#define ENDS_NO_CAPS 7

#endif
