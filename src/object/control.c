/* SPDX-License-Identifier: MIT */
#include "object/control.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <veridian/error.h>

#include "base/macro.h"
#include "object/callback.h"
#include "object/link.h"
#include "object/loss.h"
#include "object/name.h"
#include "object/peer.h"
#include "object/port.h"
#include "object/reactor.h"
#include "object/revoke.h"
#include "object/source.h"
#include "object/spare.h"
#include "os/closer.h"
#include "os/cpu.h"
#include "os/fd.h"
#include "os/futex.h"
#include "os/newborn.h"
#include "os/pin.h"
#include "os/process.h"
#include "os/socket.h"

#define WAKES_MAX 16
#define LOCK_LOOKS 200 /* some microseconds: a sleep and a wake-up cost many times more */

/* In memory that fork wipes: a child starts at FRESH again. */
enum { FRESH, IN_PROGRESS, READY };

struct epoch {
    atomic_int state;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct epoch *epoch; /* NULL: no memory for it */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint waiting; /* threads, for the lock */
static const atomic_uint *wakes[WAKES_MAX];
static size_t n_wakes; /* with the lock */
static pid_t pid;
static bool inherited; /* some ancestor has been set up: there may be ports */

/* In this order: who makes memory may hold the lock, and never waits for it. */
static void fork_prepare(void)
{
    control_lock();
    newborn_await();
}

static void fork_done(void)
{
    newborn_resume();
    control_unlock();
}

static void control_once(void)
{
    epoch = process_wiped_memory(4096);
    cpu_init();
    pthread_atfork(fork_prepare, fork_done, fork_done);
}

/* True: there has to be a thread, nobody may ever wait. */
static bool control_setup(void)
{
    bool served = false;

    if (inherited) {
        pthread_mutex_init(&lock, NULL); /* also after a fork that ran no handlers */
        newborn_after_fork();
        atomic_store_explicit(&waiting, 0, memory_order_relaxed);
    }
    pin_setup();
    pid = process_self();
    if (inherited) {
        reactor_after_fork(sources_after_fork());
        revoke_after_fork();
        callback_after_fork();
        spares_after_fork();
        closer_after_fork();
        name_after_fork();
        ready_after_fork();
        served = peer_after_fork();
        port_after_fork();
        loss_after_fork();
    }
    inherited = true;
    return served;
}

int control_ready(void)
{
    int state = FRESH;

    if (likely(pin_thread_known())) /* it got its record here, in this process */
        return 0;
    pthread_once(&once, control_once);
    if (unlikely(!epoch))
        return VRD_ERR_OUT_OF_MEMORY;
    /* acquire: pairs with the release below */
    if (likely(atomic_load_explicit(&epoch->state, memory_order_acquire) == READY))
        return pin_thread_register() ? 0 : VRD_ERR_OUT_OF_MEMORY;
    if (atomic_compare_exchange_strong(&epoch->state, &state, IN_PROGRESS)) {
        bool served = control_setup();

        atomic_store_explicit(&epoch->state, READY, memory_order_release);
        if (served)
            reactor_start();
    }
    while (atomic_load_explicit(&epoch->state, memory_order_acquire) != READY)
        cpu_yield();
    return pin_thread_known() || pin_thread_register() ? 0 : VRD_ERR_OUT_OF_MEMORY;
}

void control_lock(void)
{
    for (int i = 0; i < LOCK_LOOKS; i++) {
        if (likely(pthread_mutex_trylock(&lock) == 0))
            return;
        cpu_relax();
    }
    /* relaxed: only a hint, for control_wanted */
    atomic_fetch_add_explicit(&waiting, 1, memory_order_relaxed);
    pthread_mutex_lock(&lock);
    atomic_fetch_sub_explicit(&waiting, 1, memory_order_relaxed);
}

bool control_wanted(void)
{
    return atomic_load_explicit(&waiting, memory_order_relaxed) > 0;
}

static void bells_ring(const atomic_uint *const *bells, size_t n)
{
    for (size_t i = 0; i < n; i++)
        futex_wake(bells[i], false);
    reactor_kick();
}

void control_wake(const atomic_uint *bell)
{
    if (n_wakes == WAKES_MAX) {
        bells_ring(wakes, n_wakes);
        n_wakes = 0;
    }
    wakes[n_wakes++] = bell;
}

void control_unlock(void)
{
    const atomic_uint *bells[WAKES_MAX];
    size_t n = n_wakes;

    n_wakes = 0;
    if (unlikely(n > 0))
        memcpy(bells, wakes, n * sizeof(bells[0]));
    pthread_mutex_unlock(&lock);
    if (unlikely(n > 0))
        bells_ring(bells, n);
}

pid_t control_pid(void)
{
    return pid;
}

bool control_is_own(void)
{
    return epoch && atomic_load_explicit(&epoch->state, memory_order_acquire) == READY;
}
