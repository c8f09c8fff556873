/* SPDX-License-Identifier: MIT */
#include "object/ready.h"

#include <stdatomic.h>
#include <stddef.h>
#include <veridian/error.h>

#include "base/clock.h"
#include "base/error.h"
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
    if (!port->ready.armed)
        return;
    port->ready.armed = false;
    ready_signal(port);
    if (!function || !list_empty(&port->ready.told))
        return;
    list_append(&told, &port->ready.told);
    atomic_store_explicit(&telling, true, memory_order_relaxed);
}

void ready_hint(struct port *port)
{
    control_lock();
    ready_post(port);
    ready_signal(port);
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

bool ready_arm(struct port *port, const struct port_wait *wait)
{
    uint64_t ticket;

    control_lock();
    if (port->ready.signalled)
        event_clear(port->ready.fd);
    port->ready.signalled = false;
    port->ready.armed = true;
    control_unlock();
    ticket = port_arm_tethers(port, wait);
    if (port->ready.second && port->ready.ticket == ticket && !port_look(port, wait))
        return false;
    if (port_look_long(port, wait)) {
        ready_hint(port);
        return true;
    }
    control_lock();
    port->ready.second = ready_schedule(port);
    port->ready.ticket = ticket;
    control_unlock();
    return false;
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
    control_lock();
    function = new_function;
    function_user = user;
    atomic_store_explicit(&function_set, new_function != NULL, memory_order_relaxed);
    control_unlock();
}

static bool ready_tell_one(void)
{
    vrd_ready_fn *call = NULL;
    void *user = NULL;
    vrd_cap_t cap = VRD_CAP_NONE;

    control_lock();
    if (list_empty(&told)) {
        atomic_store_explicit(&telling, false, memory_order_relaxed);
    } else {
        struct port *port = container_of(told.next, struct port, ready.told);

        list_remove(&port->ready.told);
        cap = port->handle.cap;
        call = function;
        user = function_user;
    }
    control_unlock();
    if (call)
        call(cap, user);
    return cap != VRD_CAP_NONE;
}

void ready_tell(void)
{
    /* relaxed: set by this turn of the reactor, or by one that will look itself */
    if (!atomic_load_explicit(&telling, memory_order_relaxed))
        return;
    while (ready_tell_one())
        ;
}
