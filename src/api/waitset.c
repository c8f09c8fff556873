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
#include "os/loop.h"

#define EVENTS_FD (VRD_EVENT_READABLE | VRD_EVENT_WRITABLE | VRD_EVENT_HANGUP)
#define EVENTS_CAP VRD_EVENT_READY
#define ITEMS_FIRST 16
#define REACTOR UINT64_MAX /* the token of the process's own loop, in no-thread mode */
#define BATCH 64

_Static_assert(VRD_EVENT_READABLE == FD_IN && VRD_EVENT_WRITABLE == FD_OUT &&
                   VRD_EVENT_HANGUP == FD_HANGUP,
               "handed through");

/* A place in the set: free while `serial` is 0. Tokens are (serial, place). */
struct item {
    struct vrd_event what;
    int fd; /* that is watched */
    uint32_t serial;
};

struct vrd_waitset {
    pthread_mutex_t lock; /* over what follows, but for waiting on the loop's descriptor */
    struct loop *loop;
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
    r = loop_open(&set->loop);
    if (r == 0 && reactor_threadless())
        r = loop_add(set->loop, reactor_fd(), REACTOR);
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
    if (set->loop)
        loop_close(set->loop);
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

/* A capability that was closed has left the set; its number never comes back. */
static bool item_gone(const struct item *item)
{
    struct vrd_cap_info info;

    return item->what.cap != VRD_CAP_NONE &&
           vrd_cap_info(item->what.cap, &info) == VRD_ERR_INVALID_CAPABILITY;
}

static uint64_t item_token(const struct vrd_waitset *set, const struct item *item)
{
    return (uint64_t)item->serial << 32 | (uint64_t)(item - set->items);
}

/*
 * The loop holds on to a descriptor of this number. If that is one that has left the set, it lets go.
 * (What was closed here stays as long as a forked child has it open.) False: it is in use.
 */
static bool items_release(struct vrd_waitset *set, int fd)
{
    struct item *left = NULL;

    for (uint32_t i = 0; i < set->size; i++) {
        struct item *item = &set->items[i];

        if (item->serial == 0 || item->fd != fd)
            continue;
        if (!item_gone(item))
            return false;
        left = item;
    }
    if (!left)
        return false;
    loop_remove(set->loop, fd);
    left->serial = 0;
    return true;
}

static void items_sweep(struct vrd_waitset *set)
{
    for (uint32_t i = 0; i < set->size; i++) {
        struct item *item = &set->items[i];

        if (item->serial != 0 && item_gone(item)) {
            items_release(set, item->fd);
            item->serial = 0;
        }
    }
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

/* 0 or -errno. */
static int set_watch(struct vrd_waitset *set, const struct item *item)
{
    unsigned events = item->what.cap != VRD_CAP_NONE ? FD_IN : item->what.events;

    return loop_add_events(set->loop, item->fd, events, item_token(set, item));
}

static int set_add(struct vrd_waitset *set, const struct vrd_event *what, int fd)
{
    struct item *item = item_place(set, what);
    struct item before;
    int r;

    if (!item)
        return VRD_ERR_OUT_OF_MEMORY;
    before = *item;
    *item = (struct item){ .what = *what, .fd = fd, .serial = ++set->serial ? set->serial : 1 };
    r = set_watch(set, item);
    if (r == -EEXIST) {
        *item = before;
        if (!items_release(set, fd))
            return VRD_ERR_RESOURCE_BUSY;
        return set_add(set, what, fd);
    }
    if (r == 0)
        return 0;
    *item = before;
    if (r == -EPERM || r == -EBADF || r == -EINVAL || r == -ELOOP)
        return VRD_ERR_INVALID_ARGUMENT;
    return r == -ENOSPC ? VRD_ERR_QUOTA_EXCEEDED : error_from_errno(-r);
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

    if (!set || !event)
        return VRD_ERR_INVALID_ARGUMENT;
    pthread_mutex_lock(&set->lock);
    item = item_find(set, event);
    if (item && !item_gone(item)) /* else its descriptor may be another's by now */
        loop_remove(set->loop, item->fd);
    if (item)
        item->serial = 0;
    pthread_mutex_unlock(&set->lock);
    return item ? 0 : VRD_ERR_INVALID_ARGUMENT;
}

/* --- waiting ---------------------------------------------------------------------------------- */

/* What this token stands for, and what is to be told of it. False: nothing, or it was removed. Lock held. */
static bool event_of(const struct vrd_waitset *set, uint64_t token, struct vrd_event *ret)
{
    uint32_t place = (uint32_t)token;
    struct vrd_event event;

    if (place >= set->size || set->items[place].serial != token >> 32)
        return false;
    event = set->items[place].what;
    event.events = event.cap != VRD_CAP_NONE ? VRD_EVENT_READY : fd_events(event.fd, event.events);
    if (event.events != 0)
        *ret = event;
    return event.events != 0;
}

/* One look: how many are ready? *ret_reactor: the process's own loop is. */
static int set_look(struct vrd_waitset *set, struct vrd_event *events, size_t n, bool *ret_reactor)
{
    uint64_t tokens[BATCH];
    size_t count;
    int told = 0;

    *ret_reactor = false;
    pthread_mutex_lock(&set->lock);
    count = loop_collect(set->loop, tokens, n < BATCH ? n : BATCH);
    for (size_t i = 0; i < count; i++)
        if (tokens[i] == REACTOR)
            *ret_reactor = true;
        else
            told += event_of(set, tokens[i], &events[told]);
    pthread_mutex_unlock(&set->lock);
    return told;
}

/* What is ready now, also if the process's loop has to find that out: how many? */
static int set_collect(struct vrd_waitset *set, struct vrd_event *events, size_t n)
{
    bool reactor;
    int told = set_look(set, events, n, &reactor);

    if (!reactor)
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
        if (r > 0)
            return r;
        left = deadline == CLOCK_NEVER ? INT64_MAX : deadline - clock_now();
        if (left <= 0)
            return VRD_ERR_TIMEOUT;
        fd_wait_for(loop_fd(set->loop), left);
    }
}
