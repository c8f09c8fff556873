/* SPDX-License-Identifier: MIT */
#include "object/reactor.h"

#include <stdatomic.h>
#include <stddef.h>

#include "object/control.h"
#include "object/name.h"
#include "object/peer.h"
#include "object/ready.h"
#include "object/relay.h"
#include "os/cpu.h"
#include "os/fd.h"
#include "os/loop.h"
#include "os/process.h"

#define COLLECT_MAX 64
#define YIELDS_MAX 1000
#define STARVED_NS 1000000  /* pause */
#define CROWDED_NS 10000000 /* between looks, where there are several threads and none is ours */

static struct loop *loop; /* NULL until something is watched */
static uint64_t loop_identity;
static atomic_bool running; /* the thread; set under the control lock, read anywhere */
static bool threadless;     /* set before the first use */
static _Atomic uint32_t sent;
static bool starved, alone; /* in this turn; with the control lock */

static int reactor_open(void)
{
    int r = loop ? 0 : loop_open(&loop);

    if (r == 0 && loop_identity == 0)
        loop_identity = fd_identity(loop_fd(loop));
    return r;
}

int reactor_watch(int fd, uint64_t token)
{
    int r = reactor_open();

    return r < 0 ? r : loop_add(loop, fd, token);
}

void reactor_unwatch(int fd, uint64_t token)
{
    if (loop)
        loop_remove(loop, fd, token);
}

void reactor_starved(void)
{
    starved = true;
}

bool reactor_alone(void)
{
    return alone;
}

/* `unpinned`: the caller has no pin. False: there was not enough memory. */
static bool reactor_turn(bool unpinned)
{
    uint64_t tokens[COLLECT_MAX];
    bool fed;
    size_t n;

    control_lock();
    starved = false;
    alone = unpinned;
    n = loop ? loop_collect(loop, tokens, COLLECT_MAX) : 0;
    for (size_t i = 0; i < n; i++)
        reactor_dispatch(tokens[i]);
    fed = !starved;
    control_unlock();
    name_admit();
    ready_tell();
    peer_tell();
    if (unpinned)
        relay_adopt_all();
    return fed;
}

void reactor_poll(void)
{
    reactor_turn(false);
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

static void *reactor_run(void *arg)
{
    int fd = loop_fd(loop); /* the loop lives as long as the process */

    (void)arg;
    for (;;) {
        fd_wait(fd);
        reactor_give_way();
        if (!reactor_turn(true))
            process_pause(STARVED_NS);
    }
    return NULL;
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

void reactor_set_threadless(void)
{
    threadless = true;
}

bool reactor_threadless(void)
{
    return threadless;
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

/* Other threads may handle what this one waits for: then it has to look for itself now and then. */
bool reactor_wait(int64_t timeout)
{
    bool crowded = !process_single_threaded();
    int fd = reactor_fd();

    if (crowded && (timeout < 0 || timeout > CROWDED_NS))
        timeout = CROWDED_NS;
    if (fd < 0) {
        process_pause(STARVED_NS);
        return true;
    }
    if (timeout < 0)
        fd_wait(fd);
    else
        fd_wait_for(fd, timeout);
    if (!fd_readable(fd))
        return crowded;
    if (!reactor_turn(true))
        process_pause(STARVED_NS);
    return true;
}

bool reactor_serves(void)
{
    return reactor_start() || (threadless && process_single_threaded());
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
    if (loop && !closed && fd_identity(loop_fd(loop)) == loop_identity)
        loop_close(loop);
    loop = NULL;
    loop_identity = 0;
    atomic_store_explicit(&running, false, memory_order_relaxed);
}
