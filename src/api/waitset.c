/* SPDX-License-Identifier: MIT */
#include <veridian/waitset.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <veridian/capability.h>
#include <veridian/error.h>

#include "api/gate.h"
#include "base/clock.h"
#include "base/error.h"
#include "object/control.h"
#include "object/reactor.h"
#include "object/ready.h"
#include "os/fd.h"
#include "os/pollset.h"

#define EVENTS_FD (VRD_EVENT_READABLE | VRD_EVENT_WRITABLE | VRD_EVENT_HANGUP)
#define EVENTS_CAP VRD_EVENT_READY
#define ITEMS_FIRST 16
#define REACTOR UINT64_MAX /* the token of the process's own loop, in no-thread mode */
#define BATCH 64

_Static_assert(VRD_EVENT_READABLE == POLLSET_IN && VRD_EVENT_WRITABLE == POLLSET_OUT &&
                   VRD_EVENT_HANGUP == POLLSET_HANGUP,
               "handed through");

/* A place in the set: free while `serial` is 0. Tokens are (serial, place). */
struct item {
    struct vrd_event what;
    uint32_t serial;
};

struct vrd_waitset {
    pthread_mutex_t lock; /* over what follows but for `set` */
    int set;
    struct item *items;
    uint32_t size;
    uint32_t serial;
};

int vrd_cap_fd(vrd_cap_t cap)
{
    int r;
    struct port *port = gate_enter(cap, GATE_ANY, &r);

    if (!port)
        return r;
    r = port->kind == PORT_REGION || port->kind == PORT_REPLY ? VRD_ERR_NOT_SUPPORTED
                                                              : ready_open(port);
    gate_leave(port);
    if (r >= 0)
        reactor_start();
    return r;
}

/* --- a set ------------------------------------------------------------------------------------ */

int vrd_waitset_new(struct vrd_waitset **ret)
{
    struct vrd_waitset *set;
    int r;

    if (!ret)
        return VRD_ERR_INVALID_ARGUMENT;
    r = control_ready();
    if (r < 0)
        return r;
    set = calloc(1, sizeof(*set));
    if (!set)
        return VRD_ERR_OUT_OF_MEMORY;
    pthread_mutex_init(&set->lock, NULL);
    set->set = pollset_open();
    r = set->set < 0 ? set->set : 0;
    if (r == 0 && reactor_threadless())
        r = pollset_add(set->set, reactor_fd(), POLLSET_IN, REACTOR);
    if (r < 0) {
        vrd_waitset_free(set);
        return error_from_errno(-r);
    }
    *ret = set;
    return 0;
}

void vrd_waitset_free(struct vrd_waitset *set)
{
    if (!set)
        return;
    fd_close(&set->set);
    pthread_mutex_destroy(&set->lock);
    free(set->items);
    free(set);
}

/* --- what is in it: lock held ----------------------------------------------------------------- */

static struct item *item_find(struct vrd_waitset *set, const struct vrd_event *what)
{
    for (uint32_t i = 0; i < set->size; i++) {
        struct item *item = &set->items[i];

        if (item->serial != 0 && item->what.cap == what->cap &&
            (what->cap != VRD_CAP_NONE || item->what.fd == what->fd))
            return item;
    }
    return NULL;
}

/* Capabilities that were closed have left the set; their numbers never come back. */
static void items_sweep(struct vrd_waitset *set)
{
    struct vrd_cap_info info;

    for (uint32_t i = 0; i < set->size; i++)
        if (set->items[i].serial != 0 && set->items[i].what.cap != VRD_CAP_NONE &&
            vrd_cap_info(set->items[i].what.cap, &info) == VRD_ERR_INVALID_CAPABILITY)
            set->items[i].serial = 0;
}

static struct item *item_free(struct vrd_waitset *set)
{
    for (uint32_t i = 0; i < set->size; i++)
        if (set->items[i].serial == 0)
            return &set->items[i];
    return NULL;
}

/* A place for `what`: its own, if a descriptor of that number was in the set before. */
static struct item *item_place(struct vrd_waitset *set, const struct vrd_event *what)
{
    struct item *item = item_find(set, what);
    uint32_t size = set->size ? 2 * set->size : ITEMS_FIRST;
    struct item *grown;

    if (!item)
        item = item_free(set);
    if (!item) {
        items_sweep(set);
        item = item_free(set);
    }
    if (item)
        return item;
    grown = realloc(set->items, size * sizeof(*grown));
    if (!grown)
        return NULL;
    for (uint32_t i = set->size; i < size; i++)
        grown[i].serial = 0;
    set->items = grown;
    item = &grown[set->size];
    set->size = size;
    return item;
}

static int set_add(struct vrd_waitset *set, const struct vrd_event *what, int fd)
{
    struct item *item = item_place(set, what);
    uint32_t serial = set->serial + 1 != 0 ? set->serial + 1 : 1;
    uint64_t place;
    int r;

    if (!item)
        return VRD_ERR_OUT_OF_MEMORY;
    place = (uint64_t)(item - set->items);
    r = pollset_add(set->set, fd, what->cap != VRD_CAP_NONE ? POLLSET_IN : what->events,
                    (uint64_t)serial << 32 | place);
    if (r == -EEXIST)
        return VRD_ERR_RESOURCE_BUSY;
    if (r == -EPERM || r == -EBADF || r == -EINVAL || r == -ELOOP)
        return VRD_ERR_INVALID_ARGUMENT;
    if (r == -ENOSPC)
        return VRD_ERR_QUOTA_EXCEEDED;
    if (r < 0)
        return error_from_errno(-r);
    set->serial = item->serial = serial;
    item->what = *what;
    return 0;
}

int vrd_waitset_add(struct vrd_waitset *set, const struct vrd_event *event)
{
    bool is_cap = event && event->cap != VRD_CAP_NONE;
    int fd, r;

    if (!set || !event || (!is_cap && event->fd < 0) ||
        (event->events & ~(is_cap ? EVENTS_CAP : EVENTS_FD)) != 0)
        return VRD_ERR_INVALID_ARGUMENT;
    fd = is_cap ? vrd_cap_fd(event->cap) : event->fd;
    if (fd < 0)
        return fd;
    pthread_mutex_lock(&set->lock);
    r = set_add(set, event, fd);
    pthread_mutex_unlock(&set->lock);
    return r;
}

int vrd_waitset_remove(struct vrd_waitset *set, const struct vrd_event *event)
{
    struct item *item;
    int fd = -1;

    if (!set || !event)
        return VRD_ERR_INVALID_ARGUMENT;
    pthread_mutex_lock(&set->lock);
    item = item_find(set, event);
    if (item) {
        item->serial = 0;
        fd = item->what.cap != VRD_CAP_NONE ? vrd_cap_fd(item->what.cap) : item->what.fd;
    }
    if (fd >= 0) /* else it is closed, and has left */
        pollset_remove(set->set, fd);
    pthread_mutex_unlock(&set->lock);
    return item ? 0 : VRD_ERR_INVALID_ARGUMENT;
}

/* --- waiting ---------------------------------------------------------------------------------- */

/* False: what this token stands for has been removed. */
static bool event_of(struct vrd_waitset *set, const struct pollset_event *found,
                     struct vrd_event *ret)
{
    uint32_t place = (uint32_t)found->token;
    bool there;

    pthread_mutex_lock(&set->lock);
    there = place < set->size && set->items[place].serial == found->token >> 32;
    if (there) {
        *ret = set->items[place].what;
        ret->events = ret->cap != VRD_CAP_NONE ? VRD_EVENT_READY : found->events;
    }
    pthread_mutex_unlock(&set->lock);
    return there;
}

/* One look: how many are ready, or VRD_ERR_*. *ret_reactor: the process's own loop is. */
static int set_look(struct vrd_waitset *set, struct vrd_event *events, size_t n, bool *ret_reactor)
{
    struct pollset_event found[BATCH];
    int count = pollset_collect(set->set, found, n < BATCH ? n : BATCH);
    int told = 0;

    if (count < 0)
        return error_from_errno(-count);
    *ret_reactor = false;
    for (int i = 0; i < count; i++)
        if (found[i].token == REACTOR)
            *ret_reactor = true;
        else
            told += event_of(set, &found[i], &events[told]);
    return told;
}

/* What is ready now, also if the loop has to find that out: how many, or VRD_ERR_*. */
static int set_collect(struct vrd_waitset *set, struct vrd_event *events, size_t n)
{
    bool reactor;
    int told = set_look(set, events, n, &reactor);

    if (told < 0 || !reactor)
        return told;
    reactor_serve();
    return told > 0 ? told : set_look(set, events, n, &reactor);
}

int vrd_waitset_wait(struct vrd_waitset *set, struct vrd_event *events, size_t n,
                     int64_t timeout_ns)
{
    int64_t deadline;
    int r;

    if (!set || (!events && n > 0) || n > INT_MAX || !timeout_valid(timeout_ns))
        return VRD_ERR_INVALID_ARGUMENT;
    r = control_ready();
    if (r < 0 || n == 0)
        return r;
    deadline = clock_deadline(timeout_ns);
    for (;;) {
        int64_t left;

        r = set_collect(set, events, n);
        if (r != 0)
            return r;
        left = deadline == CLOCK_NEVER ? INT64_MAX : deadline - clock_now();
        if (left <= 0)
            return VRD_ERR_TIMEOUT;
        fd_wait_for(set->set, left);
    }
}
