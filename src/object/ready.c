/* SPDX-License-Identifier: MIT */
#include "object/ready.h"

#include <stdatomic.h>
#include <stddef.h>
#include <veridian/error.h>

#include "base/clock.h"
#include "base/error.h"
#include "object/callback.h"
#include "object/control.h"
#include "object/port.h"
#include "object/reactor.h"
#include "object/source.h"
#include "os/event.h"
#include "os/fd.h"

/* With the control lock. */
static struct list due = { &due, &due };
static struct list told = { &told, &told };
static struct source *timer;
static vrd_ready_fn *function;
static void *function_user;

static atomic_bool function_set;
static atomic_bool telling; /* `told` may not be empty */

static struct port *port_due(struct list *node)
{
    return container_of(node, struct port, ready.due);
}

void ready_init(struct ready *ready)
{
    *ready = (struct ready){ .fd = -1 };
    list_init(&ready->due);
    list_init(&ready->told);
}

bool ready_wanted(const struct port *port)
{
    /* relaxed: whoever sets the function learns nothing of operations that are under way */
    return port->ready.fd >= 0 || atomic_load_explicit(&function_set, memory_order_relaxed);
}

/* --- posting: control lock held --------------------------------------------------------------- */

static void ready_signal(struct port *port)
{
    if (port->ready.fd < 0 || port->ready.signalled)
        return;
    port->ready.signalled = true;
    event_set(port->ready.fd);
}

void ready_post(struct port *port)
{
    if (!ready_armed(&port->ready))
        return;
    atomic_store_explicit(&port->ready.armed, false, memory_order_relaxed);
    ready_signal(port);
    if (!function || !list_empty(&port->ready.told))
        return;
    list_append(&told, &port->ready.told);
    atomic_store_explicit(&telling, true, memory_order_relaxed);
    reactor_owe();
}

void ready_hint(struct port *port)
{
    control_lock();
    atomic_store_explicit(&port->ready.armed, true, memory_order_relaxed);
    ready_post(port);
    control_unlock();
}

/* --- the second look -------------------------------------------------------------------------- */

static bool timer_open(void)
{
    int fd;

    if (timer)
        return true;
    fd = event_open_timer();
    if (fd < 0)
        return false;
    timer = source_new(NULL, SOURCE_TIMER, fd);
    if (timer && source_watch(timer) < 0)
        source_free(&timer);
    return timer != NULL;
}

/* False: there is no timer to be had, the look has to be now. */
static bool ready_schedule(struct port *port)
{
    bool first;

    if (!timer_open())
        return false;
    list_remove(&port->ready.due);
    first = list_empty(&due);
    port->ready.due_at = clock_now() + PORT_DRAIN_NS;
    list_append(&due, &port->ready.due);
    if (first)
        event_set_timer(timer->fd, port->ready.due_at);
    return true;
}

void ready_source_ready(struct source *source)
{
    int64_t now = clock_now();

    event_clear(source->fd);
    while (!list_empty(&due)) {
        struct port *port = port_due(due.next);

        if (port->ready.due_at > now) {
            event_set_timer(source->fd, port->ready.due_at);
            return;
        }
        list_remove(&port->ready.due);
        ready_post(port);
    }
}

/* From now on whatever is posted is told. False: something was posted just before. */
static bool ready_expect(struct port *port, uint64_t ticket, bool second)
{
    bool quiet;

    control_lock();
    quiet = !port_news(port);
    if (quiet) {
        if (port->ready.signalled)
            event_clear(port->ready.fd);
        port->ready.signalled = false;
        atomic_store_explicit(&port->ready.armed, true, memory_order_relaxed);
        port->ready.second = second || ready_schedule(port);
        port->ready.ticket = ticket;
        if (!port->ready.second) /* no timer to be had: told at once, which is one way to be told */
            ready_post(port);
    }
    control_unlock();
    return quiet;
}

bool ready_arm(struct port *port, const struct port_wait *wait)
{
    uint64_t ticket = port_arm_tethers(port, wait);
    bool second = port->ready.second && port->ready.ticket == ticket;

    reactor_start(); /* in a forked child it may not run yet */
    if (second ? port_look(port, wait) : port_look_long(port, wait))
        return true;
    return !ready_expect(port, ticket, second);
}

/* --- the descriptor --------------------------------------------------------------------------- */

int ready_open(struct port *port)
{
    int fd;

    if (port->ready.fd >= 0)
        return port->ready.fd;
    fd = event_open();
    if (fd < 0)
        return error_from_errno(-fd);
    control_lock();
    port->ready.fd = fd;
    ready_signal(port); /* nobody has been disappointed yet */
    control_unlock();
    return fd;
}

void ready_close(struct port *port)
{
    list_remove(&port->ready.due);
    list_remove(&port->ready.told);
    atomic_store_explicit(&port->ready.armed, false, memory_order_relaxed);
    if (port->ready.signalled) /* a child may hold a copy, and a set go on watching it */
        event_clear(port->ready.fd);
    port->ready.signalled = false;
    fd_close(&port->ready.fd);
}

void ready_after_fork(void)
{
    list_init(&due);
    list_init(&told);
    source_free(&timer);
}

/* --- the function ----------------------------------------------------------------------------- */

void ready_set_function(vrd_ready_fn *new_function, void *user)
{
    callback_begin();
    control_lock();
    function = new_function;
    function_user = user;
    atomic_store_explicit(&function_set, new_function != NULL, memory_order_relaxed);
    control_unlock();
    callback_end();
}

/* False: there was nothing to tell. */
static bool ready_tell_one(void)
{
    vrd_ready_fn *call = NULL;
    vrd_cap_t cap = VRD_CAP_NONE;
    void *user = NULL;
    bool found;

    control_lock();
    found = !list_empty(&told);
    if (found) {
        struct port *port = container_of(told.next, struct port, ready.told);

        list_remove(&port->ready.told);
        cap = port->handle.cap;
        call = function;
        user = function_user;
    } else {
        atomic_store_explicit(&telling, false, memory_order_relaxed);
    }
    control_unlock();
    if (call)
        call(cap, user);
    return found;
}

void ready_tell(void)
{
    /* relaxed: set by this turn of the reactor, or by one that will look itself */
    if (!atomic_load_explicit(&telling, memory_order_relaxed))
        return;
    callback_begin();
    while (ready_tell_one())
        ;
    callback_end();
}
