/* SPDX-License-Identifier: MIT */
#include "object/port.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <veridian/error.h>

#include "base/clock.h"
#include "object/control.h"
#include "object/name.h"
#include "object/reactor.h"
#include "os/cpu.h"

#define SPIN_MAX 50000 /* ns: about what a sleep and wake-up across CPUs costs */
#define SPIN_MIN 2000
#define SPIN_LOOKS 64 /* between two looks at the clock */
#define YIELDS 3

/* How long a store may sit in the other side's store buffer: see docs/design.md, "Sleep". */
#define LOOK_LONG 2000 /* ns; nearly always enough */

struct port *port_new(enum port_kind kind, uint32_t rights, uint32_t capacity, uint64_t max_message,
                      vrd_cap_t *ret_cap)
{
    const size_t kept = offsetof(struct port, kind);
    struct handle *handle = handle_new(ret_cap);
    struct port *port = port_of(handle);

    if (!handle)
        return NULL;
    memset((char *)port + kept, 0, sizeof(*port) - kept);
    handle->rights = rights;
    port->kind = kind;
    port->capacity = capacity;
    port->max_message = max_message;
    port->max_bytes = port_max_bytes(max_message);
    port->spin = SPIN_MAX;
    ready_init(&port->ready);
    atomic_store_explicit(&port->attention, PORT_NEWS, memory_order_relaxed);
    return port;
}

void port_show(struct port *port, vrd_cap_t cap)
{
    struct pin *pin = &port->handle.pin;

    /*
     * Under the mutex only: the thread that uses the capability first gets the bias. Elsewhere the
     * pin comes before the control lock, which is held here; but only a thread with a stale number
     * can have this pin, and that leaves at once.
     */
    while (pthread_mutex_trylock(&pin->mutex) != 0)
        cpu_yield();
    pin_renew(pin);
    port->handle.cap = cap;
    pthread_mutex_unlock(&pin->mutex);
}

void port_free(struct port *port)
{
    handle_free(&port->handle);
}

void port_wake(struct port *port)
{
    /* seq_cst: pairs with `sleepers` in port_sleep; the futex compares `bell` */
    atomic_fetch_add(&port->bell, 1);
    if (atomic_load(&port->sleepers) > 0) {
        futex_wake(&port->bell, false);
        reactor_kick();
    }
}

void port_post(struct port *port)
{
    atomic_fetch_or_explicit(&port->attention, PORT_NEWS, memory_order_release);
    ready_post(port);
    /* as port_wake */
    atomic_fetch_add(&port->bell, 1);
    if (atomic_load(&port->sleepers) > 0)
        control_wake(&port->bell);
}

/*
 * An endpoint's calling side goes with it. It has a pin of its own, and a thread holds one at a time:
 * meanwhile the number is nobody's, and so nobody comes in.
 */
static void port_close_caller(struct port *port)
{
    vrd_cap_t cap = port->handle.cap;

    control_lock(); /* a child that is forked in between closes what it has inherited */
    port->closing = cap;
    port->handle.cap = VRD_CAP_NONE;
    control_unlock();
    pin_leave(&port->handle.pin);
    if (port_enter(port->receiver.caller, cap))
        port_close(port->receiver.caller);
    pin_enter(&port->handle.pin);
}

void port_close(struct port *port)
{
    if (port->kind == PORT_RECEIVER && port->receiver.caller)
        port_close_caller(port);
    if (port->kind == PORT_REGION) /* takes the lock itself, and not for long */
        region_close(port);
    control_lock();
    if (port->kind == PORT_SENDER)
        sender_close(port);
    else if (port->kind == PORT_RECEIVER)
        receiver_close(port);
    else if (port->kind == PORT_REPLY)
        relay_close(port);
    name_forget(port->handle.cap);
    port->closing = VRD_CAP_NONE;
    ready_close(port);
    port->handle.cap = VRD_CAP_NONE;
    port->handle.rights = 0;
    port_post(port);
    port_free(port);
    control_unlock();
    pin_leave(&port->handle.pin);
}

/* The parent was closing it: nobody here could, once it is nobody's number. */
static void port_close_after_fork(struct port *port)
{
    struct port *caller = port->receiver.caller;

    receiver_after_fork(port);
    receiver_close(port);
    if (caller->handle.cap == port->closing) { /* not yet closed, nor anybody else's */
        sender_close(caller);
        caller->handle.cap = VRD_CAP_NONE;
        port_free(caller);
    }
    port->closing = VRD_CAP_NONE;
    port_free(port);
}

void port_after_fork(void)
{
    for (uint32_t i = 0; i < handle_limit(); i++) {
        struct port *port = port_of(handle_at(i));

        pin_init(&port->handle.pin);
        atomic_store_explicit(&port->sleepers, 0, memory_order_relaxed);
        if (port->handle.cap == VRD_CAP_NONE)
            continue;
        port->moving = false;
        ready_init(&port->ready);
        if (port->kind == PORT_SENDER)
            sender_after_fork(port);
        else if (port->kind == PORT_RECEIVER)
            receiver_after_fork(port);
        else if (port->kind == PORT_REPLY)
            relay_after_fork(port);
        else
            region_after_fork(port);
        atomic_fetch_or_explicit(&port->attention, PORT_NEWS, memory_order_relaxed);
    }
    for (uint32_t i = 0; i < handle_limit(); i++) /* behind the other side of each */
        if (port_of(handle_at(i))->closing != VRD_CAP_NONE)
            port_close_after_fork(port_of(handle_at(i)));
}

bool port_enter(struct port *port, vrd_cap_t cap)
{
    pin_enter(&port->handle.pin);
    if (likely(port->handle.cap == cap))
        return true;
    pin_leave(&port->handle.pin);
    return false;
}

bool port_look(struct port *port, const struct port_wait *wait)
{
    return port_news(port) || wait->look(port, wait);
}

/*
 * Looks again and again until then. `yields`: whoever is looked for may have to run first, and here. True:
 * there is something.
 */
static bool port_spin(struct port *port, const struct port_wait *wait, int64_t started,
                      int64_t until, bool yields)
{
    int64_t now = started;

    do {
        for (int i = 0; i < SPIN_LOOKS; i++) {
            if (port_look(port, wait))
                return true;
            if (now - started > LOOK_LONG)
                cpu_relax();
        }
        if (pin_wanted(&port->handle.pin))
            return false;
        if (yields)
            yields = cpu_yield_cheaply();
        now = clock_now();
    } while (now < until);
    return false;
}

/* The other side runs on this CPU: let it. */
static bool port_yield(struct port *port, const struct port_wait *wait)
{
    bool found = port_look(port, wait);

    for (int i = 0; i < YIELDS && !found && cpu_yield_cheaply(); i++)
        found = port_look(port, wait);
    return found;
}

void port_hope(struct port *port)
{
    port->hopes = true;
}

static void port_learn(struct port *port, int64_t waited)
{
    if (waited <= SPIN_MAX)
        port->spin += (SPIN_MAX - port->spin) / 4;
    else
        port->spin -= (port->spin - SPIN_MIN) / 4;
}

enum nap { NAP_RANG, NAP_TIMEOUT, NAP_CLOSED };

/*
 * One sleep on the bell and n further points (from points[1] on), without the pin: the words may
 * change or even vanish meanwhile, the bell tells.
 */
static enum nap port_sleep(struct port *port, vrd_cap_t cap, uint32_t bell,
                           struct futex_point *points, size_t n, int64_t timeout)
{
    bool woken;

    points[0] = (struct futex_point){ .word = &port->bell, .value = bell, .shared = false };

    atomic_fetch_add(&port->sleepers, 1);
    pin_leave(&port->handle.pin);
    woken = reactor_running() ? futex_sleep(points, n + 1, timeout) == 0
                              : reactor_sleep(&port->bell, bell, timeout);
    atomic_fetch_sub(&port->sleepers, 1);
    if (!port_enter(port, cap))
        return NAP_CLOSED;
    return woken ? NAP_RANG : NAP_TIMEOUT;
}

enum notice_ring port_ring(const struct port *port)
{
    /* where there is no thread, the sleep is on the loop */
    return futex_many() && reactor_running() && !port->by_tether && !ready_armed(&port->ready)
               ? RING_FUTEX
               : RING_TETHER;
}

uint64_t port_arm_tethers(struct port *port, const struct port_wait *wait)
{
    uint64_t ticket;

    port->by_tether = true;
    wait->arm(port, wait);
    port->by_tether = false;
    ticket = wait->ticket(port, wait);
    port->armed = ticket;
    atomic_thread_fence(memory_order_seq_cst); /* between our notices and our look */
    return ticket;
}

bool port_look_long(struct port *port, const struct port_wait *wait)
{
    int64_t now = clock_now();

    return wait->peer_here(port, wait) ? port_look(port, wait)
                                       : port_spin(port, wait, now, now + LOOK_LONG, false);
}

/*
 * The notice has room for one thread's wish: those who sleep on an older one have to come and look,
 * or nobody would ring for them.
 */
static void port_armed(struct port *port, const struct port_wait *wait, uint64_t ticket)
{
    if (wait->alone || port->armed == ticket)
        return;
    port->armed = ticket;
    if (atomic_load(&port->sleepers) > 0)
        port_wake(port);
}

/*
 * The other side publishes and then looks at our notice without a fence between: it may miss a
 * notice written meanwhile, but its store is visible PORT_DRAIN_NS later at the latest. So: arm, fence,
 * look for a while, sleep no longer than PORT_DRAIN_NS, look, and only then sleep for good.
 */
static int port_doze(struct port *port, vrd_cap_t cap, const struct port_wait *wait,
                     int64_t deadline)
{
    struct futex_point points[FUTEX_POINTS_MAX];
    int64_t fenced, left;
    uint64_t ticket;
    uint32_t bell;
    size_t n;
    enum nap nap;

    reactor_start();
    reactor_poll();
    ready_disarm(&port->ready);
    wait->arm(port, wait);
    ticket = wait->ticket(port, wait);
    port_armed(port, wait, ticket);
    atomic_thread_fence(memory_order_seq_cst);
    fenced = clock_now();
    /* acquire: what was posted before this ring is seen by the look that follows */
    bell = atomic_load_explicit(&port->bell, memory_order_acquire);
    /* the words as they are before the look: what changes after it, or rings, ends the sleep */
    n = port_ring(port) == RING_FUTEX ? wait->points(port, wait, points + 1) : 0;
    /* what ran on this CPU has no stores left in flight, one look is as good as many */
    if (wait->peer_here(port, wait) ? port_look(port, wait)
                                    : port_spin(port, wait, fenced, fenced + LOOK_LONG, false))
        return 0;
    left = deadline - clock_now();
    if (left <= 0)
        return 0;
    nap = port_sleep(port, cap, bell, points, n, left < PORT_DRAIN_NS ? left : PORT_DRAIN_NS);
    if (nap == NAP_CLOSED)
        return VRD_ERR_INVALID_CAPABILITY;
    if (nap != NAP_TIMEOUT || port_look(port, wait) || wait->ticket(port, wait) != ticket)
        return 0;
    left = deadline - clock_now();
    if (left <= 0)
        return 0;
    nap = port_sleep(port, cap, bell, points, n, deadline == CLOCK_NEVER ? -1 : left);
    return nap == NAP_CLOSED ? VRD_ERR_INVALID_CAPABILITY : 0;
}

int port_nap(struct port *port, vrd_cap_t cap, int64_t ns)
{
    uint32_t bell = atomic_load_explicit(&port->bell, memory_order_acquire);
    struct futex_point point;

    if (port_sleep(port, cap, bell, &point, 0, ns) == NAP_CLOSED)
        return VRD_ERR_INVALID_CAPABILITY;
    return 0;
}

int port_wait(struct port *port, vrd_cap_t cap, const struct port_wait *wait, int64_t deadline)
{
    const bool hopes = port->hopes;
    int64_t started, until;
    int r;

    if (wait->peer_here(port, wait)) {
        if (port_yield(port, wait))
            return 0;
        return port_doze(port, cap, wait, deadline);
    }
    started = clock_now();
    until = started + (hopes ? SPIN_MAX : (int64_t)port->spin);
    port->hopes = false;
    if (until > deadline)
        until = deadline;
    if (port_spin(port, wait, started, until, hopes)) {
        port_learn(port, 0);
        return 0;
    }
    if (clock_now() >= deadline)
        return 0;
    r = port_doze(port, cap, wait, deadline);
    if (r == 0)
        port_learn(port, clock_now() - started);
    return r;
}
