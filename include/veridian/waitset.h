/* SPDX-License-Identifier: MIT */
/*
 * waitset.h - waiting for many things at once: channels, endpoints and plain descriptors. (The idea
 * is that of epoll, which is what it is made of, and of Zircon's ports.)
 */
#ifndef VERIDIAN_WAITSET_H
#define VERIDIAN_WAITSET_H

#include <veridian/types.h>

VRD_BEGIN_DECLS

/*
 * A descriptor that is readable while `cap` may be usable: there may be something to receive, or to
 * learn of an end; for a capability to send, there may be room. It belongs to the capability and closes
 * with it. Works in poll, epoll, libuv, GLib; reading it is not needed and does harm.
 *
 * What makes it unreadable is an operation that says CHANNEL_EMPTY, CHANNEL_FULL or TIMEOUT: go on
 * until then, with operations that do not wait. It may be readable although there is nothing: at first, and
 * once about 10 ms after it ran empty. Edge-triggered loops work too, since each new readiness is a new edge.
 *  INVALID_CAPABILITY  not a capability of this process
 *  NOT_SUPPORTED       of a region
 *  OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_cap_fd(vrd_cap_t cap);

#define VRD_EVENT_READABLE (UINT32_C(1) << 0) /* descriptors: as POLLIN                          */
#define VRD_EVENT_WRITABLE (UINT32_C(1) << 1) /* descriptors: as POLLOUT                         */
#define VRD_EVENT_HANGUP (UINT32_C(1) << 2)   /* descriptors: as POLLHUP or POLLERR; always told */
#define VRD_EVENT_READY (UINT32_C(1) << 3)    /* capabilities: as vrd_cap_fd                     */

/* Something to wait for (what it is, `events` and `user` are given), or something that happened. */
struct vrd_event {
    vrd_cap_t cap;   /* or VRD_CAP_NONE, and then */
    int fd;          /* a descriptor              */
    uint32_t events; /* VRD_EVENT_*               */
    void *user;      /* comes back as it was      */
};

struct vrd_waitset;

/*
 * Makes an empty set; free it in the same process. A set may be changed while others wait on it.
 *  INVALID_ARGUMENT  `ret` is NULL
 *  OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_waitset_new(struct vrd_waitset **ret);

/* Frees a set on which nobody waits. NULL is fine. What was in it is not closed. */
VRD_API void vrd_waitset_free(struct vrd_waitset *set);

/*
 * Adds a capability (READY is implied) or a descriptor, with what to be told of it. A capability that
 * is closed leaves the set by itself; a descriptor is removed before it is closed.
 *  INVALID_CAPABILITY  not a capability of this process
 *  INVALID_ARGUMENT    neither, or both; unknown events; a descriptor that cannot be waited for
 *  RESOURCE_BUSY       it is in the set already
 *  QUOTA_EXCEEDED, OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_waitset_add(struct vrd_waitset *set, const struct vrd_event *event);

/*
 * Removes what `event` names.
 *  INVALID_ARGUMENT  it is not in the set
 */
VRD_API int vrd_waitset_remove(struct vrd_waitset *set, const struct vrd_event *event);

/*
 * Waits up to `timeout_ns` until something in the set is ready, and tells up to n of them, of each as
 * long as it lasts. Returns how many, 0 only for n == 0.
 *  TIMEOUT           nothing in that time; with 0, now
 *  INVALID_ARGUMENT  a NULL pointer, n over INT_MAX, a negative timeout
 *  OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_waitset_wait(struct vrd_waitset *set, struct vrd_event *events, size_t n,
                             int64_t timeout_ns);

VRD_END_DECLS

#endif
