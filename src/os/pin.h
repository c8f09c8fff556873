/* SPDX-License-Identifier: MIT */
/*
 * pin.h - mutual exclusion between the threads of one process that costs the usual single user no
 * atomic read-modify-write and no fence.
 *
 * A pin is biased to the thread that uses it: that thread says "busy with this pin" in its own record
 * and looks whether the bias is still its own, two plain stores and a load. Another thread takes the
 * bias away under the pin's mutex, makes all threads pass a barrier, and waits until the record says
 * something else; from then on all use the mutex, until one thread has had it to itself for long
 * enough to be worth the bias again. (The idea is that of biased locks and of hazard pointers with
 * asymmetric fences.)
 *
 * The record lies in memory that fork wipes, and points to itself: in a child no bias ever matches,
 * and the slow path finds out about the fork.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/macro.h"

struct pin;

/* What a thread used last, for whoever wants to find it again: only a guess, check it. */
struct pin_recent {
    uint64_t key;
    void *value;
};

struct pin_thread {
    _Alignas(128) struct pin_thread *self; /* NULL in a forked child, until it says hello   */
    _Atomic(const struct pin *) busy;
    struct pin_recent recent[2]; /* also wiped by a fork */
    struct pin_thread *next;     /* while free           */
};

struct pin {
    _Atomic(struct pin_thread *) bias; /* a record, PIN_NOBODY or PIN_SHARED */
    atomic_uint waiting;               /* threads that wait for the mutex or for the bias  */
    uint32_t streak;                   /* under the mutex: uses in a row by `last`         */
    uint32_t streak_wanted;            /* that many make it biased again; doubles          */
    struct pin_thread *last;
    pthread_mutex_t mutex;
};

#define PIN_NOBODY ((struct pin_thread *)1)
#define PIN_SHARED ((struct pin_thread *)2)

extern __thread struct pin_thread *pin_self __attribute__((tls_model("initial-exec")));

/* Once in each process, also in a forked child, before any other call. */
void pin_setup(void);

void pin_init(struct pin *pin);

/*
 * What the pin guards is another thing from now on: how its users got on with each other no longer
 * counts, and if they shared it, the first to come has the bias again. With the mutex held.
 */
void pin_renew(struct pin *pin);

/* Does this thread have a record of this process? If not, the next call is pin_thread_register. */
static inline bool pin_thread_known(void)
{
    return pin_self && pin_self->self;
}

/* False: out of memory. */
bool pin_thread_register(void);

/* The fast path of a thread with this record: true means the pin is held. */
hot_inline bool pin_try_biased(struct pin_thread *self, struct pin *pin)
{
    atomic_store_explicit(&self->busy, pin, memory_order_relaxed);
    compiler_barrier(); /* the processor's part is the other side's process_barrier() */
    if (likely(atomic_load_explicit(&pin->bias, memory_order_relaxed) == self->self))
        return true;
    atomic_store_explicit(&self->busy, NULL, memory_order_release);
    return false;
}

/* Takes the pin by the mutex, whoever has the bias; needs pin_thread_known(). */
void pin_lock(struct pin *pin);

/* Takes the pin one way or the other; needs pin_thread_known(). */
static inline void pin_enter(struct pin *pin)
{
    if (!pin_try_biased(pin_self, pin))
        pin_lock(pin);
}

/* Gives the pin back after pin_try_biased. release: pairs with the acquire in pin_take_bias. */
hot_inline void pin_leave_biased(struct pin_thread *self)
{
    atomic_store_explicit(&self->busy, NULL, memory_order_release);
}

/* Gives the pin back, however it was taken. */
static inline void pin_leave(struct pin *pin)
{
    struct pin_thread *self = pin_self;

    if (likely(atomic_load_explicit(&self->busy, memory_order_relaxed) == pin))
        pin_leave_biased(self);
    else
        pthread_mutex_unlock(&pin->mutex);
}

/* Should the holder give the pin back soon? */
static inline bool pin_wanted(const struct pin *pin)
{
    return atomic_load_explicit(&pin->waiting, memory_order_relaxed) != 0;
}
