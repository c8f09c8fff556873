/* SPDX-License-Identifier: MIT */
#include "object/reactor.h"

#include <stdatomic.h>
#include <stddef.h>

#include "base/macro.h"
#include "object/control.h"
#include "object/name.h"
#include "object/peer.h"
#include "object/ready.h"
#include "object/relay.h"
#include "object/revoke.h"
#include "object/spare.h"
#include "os/cpu.h"
#include "os/event.h"
#include "os/fd.h"
#include "os/futex.h"
#include "os/loop.h"
#include "os/process.h"
#include "os/uring.h"

#define COLLECT_MAX 64
#define YIELDS_MAX 1000
#define STARVED_NS 1000000 /* pause */
#define LINGER_NS 50000
#define FOLLOW_NS 10000000 /* until a thread that sleeps beside another looks for itself */

/* After the last event. To set a timer that is nearer than the kernel's next tick takes 15 us. */
#define LEISURE_NS 5000000

/* The token of `owed`; all sources have a serial in theirs. */
#define TOKEN_OWED 1

/* With the control lock. */
static struct loop *loop; /* NULL until something is watched */
static uint64_t loop_identity;
static int owed = -1;  /* in the loop: readable while there is a reason for reactor_serve ... */
static bool owing;     /* ... as it is */
static bool serving;   /* ... but the thread that has this turn will see to it */
static bool relieved;  /* in this turn: a link has ended, and another may come */
static bool starved;   /* in this turn */
static bool expecting; /* something very soon */

/* Of the thread: what it sleeps on, opened with the control lock. NULL: in poll(). */
static struct uring *ring;
static uint64_t ring_identity;
static bool settled; /* it has what it will have */

static bool threadless;     /* set before the first use */
static atomic_bool running; /* the thread; set under the control lock, read anywhere */
static _Atomic uint32_t sent;

/* Where there is no thread, the first who sleeps does so on the loop, and on `kick`. */
static atomic_bool sleeping;
static atomic_int kick = -1; /* opened under the control lock */

/* What is open for as long as the loop is. 0 or -errno. */
static int reactor_equip(void)
{
    int fd = event_open(), r;

    if (fd < 0)
        return fd;
    r = loop_add(loop, fd, TOKEN_OWED);
    if (r < 0)
        fd_close(&fd);
    else if (owing)
        event_set(fd);
    owed = fd;
    return r;
}

static int reactor_open(void)
{
    int r = loop ? 0 : loop_open(&loop);

    if (r < 0 || loop_identity != 0)
        return r;
    r = reactor_equip();
    if (r < 0) {
        loop_close(loop);
        loop = NULL;
        return r;
    }
    loop_identity = fd_identity(loop_fd(loop));
    return 0;
}

int reactor_watch(int fd, unsigned events, uint64_t token)
{
    int r = reactor_open();

    return r < 0 ? r : loop_add_events(loop, fd, events, token);
}

void reactor_unwatch(int fd)
{
    if (loop)
        loop_remove(loop, fd);
}

void reactor_expect(void)
{
    expecting = true;
}

void reactor_relieved(void)
{
    relieved = serving; /* in another thread's turn it would be seen to when the next has come */
}

void reactor_starved(void)
{
    starved = true;
}

void reactor_owe(void)
{
    if (!owing && !serving && owed >= 0)
        event_set(owed);
    owing = true;
}

/* Who calls the application back afterwards, `serves`. False: there was not enough memory. */
static bool reactor_turn(bool serves)
{
    uint64_t tokens[COLLECT_MAX];
    bool fed;
    size_t n;

    control_lock();
    starved = relieved = false;
    serving = serves;
    n = loop ? loop_collect(loop, tokens, COLLECT_MAX) : 0;
    for (size_t i = 0; i < n; i++)
        if (tokens[i] != TOKEN_OWED)
            reactor_dispatch(tokens[i]);
        else if (serves)
            event_clear(owed);
    if (serves)
        owing = false;
    if (serves || !reactor_running())
        revoke_turn(false);
    serving = false;
    if (revoke_owes())
        reactor_owe();
    fed = !starved;
    if (starved)
        spares_drop();
    control_unlock();
    return fed;
}

void reactor_poll(void)
{
    reactor_turn(false);
}

void reactor_serve(void)
{
    bool fed = reactor_turn(true);

    name_admit();
    relay_adopt_all();
    ready_tell();
    peer_tell();
    if (!fed)
        process_pause(STARVED_NS);
}

/*
 * Peers that send without end keep us busy without end. The lock goes to whoever is there first, and
 * that would be us again and again: who waits for it needs time to wake up.
 */
static void reactor_give_way(void)
{
    for (int i = 0; i < YIELDS_MAX && control_wanted(); i++)
        cpu_yield();
}

/* Something is about to come: True: it has. */
static bool reactor_linger(int fd)
{
    bool wanted;

    control_lock();
    wanted = expecting;
    expecting = false;
    control_unlock();
    if (!wanted)
        return false;
    spare_make(1);
    return fd_look_for(fd, LINGER_NS);
}

/* A child that is forked meanwhile has to know what it inherits: the lock is held across fork. */
static void reactor_settle(int fd)
{
    control_lock();
    ring = uring_open(fd);
    ring_identity = ring ? fd_identity(uring_fd(ring)) : 0;
    settled = true;
    control_unlock();
}

/* False: the time has passed. */
static bool reactor_await(int fd, int64_t timeout)
{
    return ring ? uring_wait(ring, timeout) : fd_wait_any(&fd, 1, timeout);
}

static bool reactor_was_relieved(void)
{
    bool was;

    control_lock();
    was = relieved;
    relieved = false;
    control_unlock();
    return was;
}

/* Until there is something to do; at leisure, what is needed later is made ready. */
static void reactor_rest(int fd)
{
    if (reactor_was_relieved() && !fd_readable(fd))
        spare_make(SPARES_MAX);
    while (!settled || spares_short(SPARES_MAX)) {
        if (reactor_await(fd, LEISURE_NS))
            return;
        if (!settled)
            reactor_settle(fd);
        else if (!spare_make(SPARES_MAX))
            break;
    }
    reactor_await(fd, -1);
}

static void *reactor_run(void *arg)
{
    int fd = loop_fd(loop); /* the loop lives as long as the process */

    (void)arg;
    for (;;) {
        if (!reactor_linger(fd))
            reactor_rest(fd);
        reactor_give_way();
        reactor_serve();
    }
    return NULL;
}

/* --- with a thread, and without --------------------------------------------------------------- */

void reactor_set_threadless(void)
{
    threadless = true;
}

bool reactor_threadless(void)
{
    return threadless;
}

bool reactor_running(void)
{
    /* relaxed: only says that the thread exists, nothing is read on the strength of it */
    return atomic_load_explicit(&running, memory_order_relaxed);
}

bool reactor_start(void)
{
    bool runs;

    if (reactor_running())
        return true;
    if (threadless)
        return false;
    control_lock();
    runs = atomic_load_explicit(&running, memory_order_relaxed);
    if (!runs && reactor_open() == 0)
        runs = process_thread(reactor_run, "veridian") == 0;
    atomic_store_explicit(&running, runs, memory_order_relaxed);
    control_unlock();
    return runs;
}

int reactor_fd(void)
{
    int r;

    control_lock();
    r = reactor_open();
    if (r == 0)
        r = loop_fd(loop);
    control_unlock();
    return r;
}

/* -1: no descriptor is left for it. */
static int reactor_kick_fd(void)
{
    int fd;

    control_lock();
    fd = atomic_load(&kick);
    if (fd < 0) {
        fd = event_open();
        atomic_store(&kick, fd < 0 ? -1 : fd);
    }
    control_unlock();
    return fd < 0 ? -1 : fd;
}

/*
 * Beside a thread that sleeps on the loop, which rings the bell for us, but may also go away; or where
 * there was to be a thread, but none could be started yet.
 */
static bool reactor_nap(const atomic_uint *bell, uint32_t value, int64_t timeout)
{
    const struct futex_point point = { .word = bell, .value = value, .shared = false };
    bool cut = timeout < 0 || timeout > FOLLOW_NS;
    bool woken = futex_sleep(&point, 1, cut ? FOLLOW_NS : timeout) == 0;

    reactor_serve();
    return woken || cut;
}

bool reactor_sleep(const atomic_uint *bell, uint32_t value, int64_t timeout)
{
    bool woken = true, cut;
    int fds[2];

    /* seq_cst, and so is the load of the bell: they pair with those of port_wake and reactor_kick */
    if (!threadless || atomic_exchange(&sleeping, true))
        return reactor_nap(bell, value, timeout);
    fds[0] = reactor_fd();
    fds[1] = reactor_kick_fd();
    cut = (fds[0] < 0 || fds[1] < 0) && (timeout < 0 || timeout > STARVED_NS);
    if (atomic_load(bell) == value)
        woken = fd_wait_any(fds, 2, cut ? STARVED_NS : timeout) || cut;
    atomic_store(&sleeping, false);
    if (fds[1] >= 0)
        event_clear(fds[1]);
    reactor_serve();
    return woken;
}

void reactor_kick(void)
{
    int fd = unlikely(atomic_load(&sleeping)) ? atomic_load(&kick) : -1;

    if (fd >= 0)
        event_set(fd);
}

void reactor_wait(int fd, int64_t timeout)
{
    int fds[2] = { fd, -1 };

    if (reactor_running()) {
        fd_wait_for(fd, timeout);
        return;
    }
    fds[1] = reactor_fd();
    fd_wait_any(fds, 2, timeout);
    reactor_serve();
}

void reactor_sent(void)
{
    /* release: pairs with the acquire in reactor_sent_count; what was sent is in the socket */
    atomic_fetch_add_explicit(&sent, 1, memory_order_release);
}

uint32_t reactor_sent_count(void)
{
    return atomic_load_explicit(&sent, memory_order_acquire);
}

void reactor_after_fork(bool closed)
{
    int fd = atomic_load(&kick);

    /* one event looks like another: they were opened, and are gone, with the loop */
    if (loop && !closed && fd_identity(loop_fd(loop)) == loop_identity) {
        loop_close(loop);
        fd_close(&owed);
        fd_close(&fd);
        if (ring && fd_identity(uring_fd(ring)) == ring_identity)
            uring_close(ring);
    }
    ring = NULL;
    ring_identity = 0;
    settled = false;
    loop = NULL;
    loop_identity = 0;
    owed = -1;
    owing = serving = false;
    atomic_store(&kick, -1);
    atomic_store(&sleeping, false);
    atomic_store_explicit(&running, false, memory_order_relaxed);
}
