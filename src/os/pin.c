/* SPDX-License-Identifier: MIT */
#include "os/pin.h"

#include <sched.h>
#include <stddef.h>

#include "os/process.h"

#define PIN_PAGE 4096
#define PIN_STREAK_FIRST 256
#define PIN_STREAK_LAST (UINT32_C(1) << 20)

__thread struct pin_thread *pin_self;

static pthread_mutex_t records = PTHREAD_MUTEX_INITIALIZER;
static struct pin_thread *records_free; /* under `records` */
static pthread_key_t records_key;       /* gives a record back when its thread exits */
static bool records_key_made;
static bool pin_biases; /* set by pin_setup, before any other thread can ask */

static void pin_thread_release(void *arg)
{
    struct pin_thread *record = arg;

    pthread_mutex_lock(&records);
    pin_self = NULL;
    if (record->self) { /* not wiped by a fork since */
        record->next = records_free;
        records_free = record;
    }
    pthread_mutex_unlock(&records);
}

void pin_setup(void)
{
    pthread_mutex_init(&records, NULL); /* in a child, its holder may have stayed in the parent */
    records_free = NULL;
    if (!records_key_made)
        records_key_made = pthread_key_create(&records_key, pin_thread_release) == 0;
#ifdef VRD_TSAN
    pin_biases = false; /* the barrier between processors is invisible to the sanitizer */
#else
    pin_biases = process_barrier_register();
#endif
}

/* A page of records onto the free list. */
static bool records_grow(void)
{
    struct pin_thread *page = process_wiped_memory(PIN_PAGE);

    if (!page)
        return false;
    for (size_t i = 0; i < PIN_PAGE / sizeof(*page); i++) {
        page[i].next = records_free;
        records_free = &page[i];
    }
    return true;
}

bool pin_thread_register(void)
{
    struct pin_thread *record = pin_self; /* after a fork: wiped, and still this thread's own */

    pthread_mutex_lock(&records);
    if (!record && (records_free || records_grow())) {
        record = records_free;
        records_free = record->next;
    }
    pthread_mutex_unlock(&records);
    if (!record)
        return false;
    atomic_store_explicit(&record->busy, NULL, memory_order_relaxed);
    record->self = record;
    pin_self = record;
    if (records_key_made)
        pthread_setspecific(records_key, record);
    return true;
}

void pin_init(struct pin *pin)
{
    atomic_store_explicit(&pin->bias, PIN_NOBODY, memory_order_relaxed);
    atomic_store_explicit(&pin->waiting, 0, memory_order_relaxed);
    pin->streak = 0;
    pin->streak_wanted = PIN_STREAK_FIRST;
    pin->last = NULL;
    pthread_mutex_init(&pin->mutex, NULL);
}

void pin_renew(struct pin *pin)
{
    if (atomic_load_explicit(&pin->bias, memory_order_relaxed) == PIN_SHARED)
        atomic_store_explicit(&pin->bias, PIN_NOBODY, memory_order_relaxed);
    pin->streak = 0;
    pin->streak_wanted = PIN_STREAK_FIRST;
}

/* Under the mutex: after this nobody is in the pin by bias, and nobody comes in by it. */
static void pin_take_bias(struct pin *pin)
{
    struct pin_thread *holder = atomic_load_explicit(&pin->bias, memory_order_relaxed);

    if (holder == PIN_SHARED)
        return;
    atomic_store_explicit(&pin->bias, PIN_SHARED, memory_order_relaxed);
    if (holder == PIN_NOBODY)
        return;
    process_barrier(); /* stands for the fence that pin_try_biased does not have */
    /* acquire: pairs with the release in pin_leave */
    while (atomic_load_explicit(&holder->busy, memory_order_acquire) == pin)
        sched_yield();
    if (pin->streak_wanted < PIN_STREAK_LAST)
        pin->streak_wanted *= 2;
    pin->streak = 0;
}

/* Has this thread had the mutex to itself for long enough? */
static bool pin_deserved(struct pin *pin, bool fresh)
{
    if (pin->last != pin_self) {
        pin->last = pin_self;
        pin->streak = 0;
    }
    return fresh || ++pin->streak >= pin->streak_wanted;
}

void pin_lock(struct pin *pin)
{
    bool fresh;

    atomic_fetch_add_explicit(&pin->waiting, 1, memory_order_relaxed);
    pthread_mutex_lock(&pin->mutex);
    fresh = atomic_load_explicit(&pin->bias, memory_order_relaxed) == PIN_NOBODY;
    pin_take_bias(pin);
    atomic_fetch_sub_explicit(&pin->waiting, 1, memory_order_relaxed);
    if (!pin_biases || !pin_deserved(pin, fresh))
        return;
    /* From the mutex to the bias: busy first, so that whoever takes it away next waits for us. */
    atomic_store_explicit(&pin_self->busy, pin, memory_order_relaxed);
    atomic_store_explicit(&pin->bias, pin_self, memory_order_relaxed);
    pthread_mutex_unlock(&pin->mutex);
}
