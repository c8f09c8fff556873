/* SPDX-License-Identifier: MIT */
/* Close beside everything else: who waits is woken, who comes later is told, nothing is harmed. */
#include "process/channels.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#define THREADS 4

struct waiter {
    vrd_cap_t cap;
    bool sends;
    int64_t timeout_ns;
    atomic_int tid;
    int64_t result;
};

static void *wait_on_it(void *arg)
{
    struct waiter *waiter = arg;
    uint8_t data[64];

    atomic_store(&waiter->tid, (int)syscall(SYS_gettid));
    waiter->result = waiter->sends ? vrd_send_timed(waiter->cap, "x", 1, waiter->timeout_ns)
                                   : vrd_receive_timed(waiter->cap, data, 64, waiter->timeout_ns);
    return NULL;
}

/* THREADS threads sleep on the capability; then it is closed. */
static void close_beneath(vrd_cap_t cap, bool sends, int64_t timeout_ns)
{
    struct waiter waiters[THREADS];
    pthread_t threads[THREADS];

    for (size_t i = 0; i < THREADS; i++) {
        waiters[i] = (struct waiter){ .cap = cap, .sends = sends, .timeout_ns = timeout_ns };
        EXPECT(pthread_create(&threads[i], NULL, wait_on_it, &waiters[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        while (atomic_load(&waiters[i].tid) == 0)
            support_sleep_ms(1);
        support_wait_asleep(atomic_load(&waiters[i].tid));
    }
    EXPECT(vrd_cap_close(cap), 0);
    for (size_t i = 0; i < THREADS; i++) {
        EXPECT(pthread_join(threads[i], NULL), 0);
        EXPECT(waiters[i].result, VRD_ERR_INVALID_CAPABILITY);
    }
}

static void test_wakes_receivers(void **state)
{
    static const int64_t timeouts[] = { VRD_FOREVER, INT64_MAX };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        /* Without a link, with one, and with more than are polled. */
        for (size_t links = 0; links < 3; links++) {
            const struct ends ends = ends_new(4);
            vrd_cap_t others[20];

            for (size_t l = 0; links == 2 && l < 20; l++) {
                others[l] = sender_new(ends.send);
                numbered_send(others[l], 0, 0, 8);
                numbered_receive(ends.receive, 0, 0, 8);
            }
            if (links == 1) {
                numbered_send(ends.send, 0, 0, 8);
                numbered_receive(ends.receive, 0, 0, 8);
            }
            close_beneath(ends.receive, false, timeouts[i]);
            for (size_t l = 0; links == 2 && l < 20; l++)
                EXPECT(vrd_cap_close(others[l]), 0);
            EXPECT(vrd_cap_close(ends.send), 0);
        }
    }
}

static void test_wakes_senders(void **state)
{
    static const int64_t timeouts[] = { VRD_FOREVER, INT64_MAX };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        for (uint32_t linked = 0; linked < 2; linked++) {
            const struct ends ends = ends_new(2);

            numbered_send(ends.send, 0, 0, 8);
            if (linked) {
                numbered_receive(ends.receive, 0, 0, 8);
                numbered_send(ends.send, 0, 1, 8);
            }
            numbered_send(ends.send, 0, 1 + linked, 8);
            close_beneath(ends.send, true, timeouts[i]);
            /* What was sent stays readable. */
            numbered_receive(ends.receive, 0, linked, 8);
            numbered_receive(ends.receive, 0, 1 + linked, 8);
            EXPECT(vrd_receive(ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
            EXPECT(vrd_cap_close(ends.receive), 0);
        }
    }
}

/* The other end, in the same process, is told that it is alone. */
static void test_closing_the_other_end_wakes(void **state)
{
    (void)state;
    for (size_t sends = 0; sends < 2; sends++) {
        const struct ends ends = ends_new(1);
        struct waiter waiter = { .cap = sends ? ends.send : ends.receive,
                                 .sends = sends,
                                 .timeout_ns = VRD_FOREVER };
        pthread_t thread;

        if (sends)
            numbered_send(ends.send, 0, 0, 8);
        EXPECT(pthread_create(&thread, NULL, wait_on_it, &waiter), 0);
        while (atomic_load(&waiter.tid) == 0)
            support_sleep_ms(1);
        support_wait_asleep(atomic_load(&waiter.tid));
        EXPECT(vrd_cap_close(sends ? ends.receive : ends.send), 0);
        EXPECT(pthread_join(thread, NULL), 0);
        EXPECT(waiter.result, VRD_ERR_PEER_GONE);
        EXPECT(vrd_cap_close(waiter.cap), 0);
    }
}

/* ---- races ------------------------------------------------------------------------------------------ */

struct racer {
    vrd_cap_t cap;
    uint32_t kind;
    uint64_t seed;
};

static bool ended(int64_t result)
{
    return result == VRD_ERR_INVALID_CAPABILITY || result == VRD_ERR_PEER_GONE;
}

/* Sends until there is nothing to send to; each thread in a manner of its own. */
static void *send_until_closed(void *arg)
{
    const struct racer *racer = arg;
    uint64_t seed = racer->seed;
    uint8_t data[200] = { 0 };
    int64_t result;

    do {
        const size_t len = random_next(&seed) % sizeof data;
        const struct vrd_message messages[3] = { { .data = data, .len = len },
                                                 { .data = data, .len = 9 },
                                                 { .data = data, .len = 100, .opcode = 4 } };
        switch (racer->kind % 4) {
        case 0:
            result = vrd_send(racer->cap, data, len);
            break;
        case 1:
            result = vrd_send_async(racer->cap, data, len);
            break;
        case 2:
            result = vrd_send_timed(racer->cap, data, len, (int64_t)(random_next(&seed) % 200000));
            break;
        default:
            result = vrd_send_batch(racer->cap, messages, 3, VRD_FOREVER);
            break;
        }
        support_require(result >= 0 || ended(result) || result == VRD_ERR_CHANNEL_FULL ||
                        result == VRD_ERR_TIMEOUT);
    } while (!ended(result));
    return NULL;
}

static void *receive_until_closed(void *arg)
{
    const struct racer *racer = arg;
    uint64_t seed = racer->seed;
    uint8_t data[3][200];
    int64_t result;

    do {
        struct vrd_message messages[3] = { { .data = data[0], .size = 200 },
                                           { .data = data[1], .size = 200 },
                                           { .data = data[2], .size = 200 } };
        switch (racer->kind % 4) {
        case 0:
            result = vrd_receive(racer->cap, data, 200);
            break;
        case 1:
            result = vrd_receive_async(racer->cap, data, 200);
            break;
        case 2:
            result =
                vrd_receive_timed(racer->cap, data, 100, (int64_t)(random_next(&seed) % 200000));
            if (result == VRD_ERR_MESSAGE_TOO_LARGE)
                vrd_discard(racer->cap);
            break;
        default:
            result = vrd_receive_batch(racer->cap, messages, 3, VRD_FOREVER);
            break;
        }
        support_require(result >= 0 || ended(result) || result == VRD_ERR_CHANNEL_EMPTY ||
                        result == VRD_ERR_TIMEOUT || result == VRD_ERR_MESSAGE_TOO_LARGE);
    } while (!ended(result));
    return NULL;
}

/* In what order, and after how long, differs from round to round. */
static void race(uint32_t round, uint32_t n_senders, uint32_t n_receivers)
{
    const struct ends ends = ends_new(1 + round % 20);
    struct racer racers[2 * THREADS];
    pthread_t threads[2 * THREADS];
    uint64_t seed = round * 7919 + 17;
    uint32_t n = 0;

    for (uint32_t i = 0; i < n_senders; i++, n++) {
        racers[n] = (struct racer){ ends.send, i + round, random_next(&seed) };
        EXPECT(pthread_create(&threads[n], NULL, send_until_closed, &racers[n]), 0);
    }
    for (uint32_t i = 0; i < n_receivers; i++, n++) {
        racers[n] = (struct racer){ ends.receive, i + round / 2, random_next(&seed) };
        EXPECT(pthread_create(&threads[n], NULL, receive_until_closed, &racers[n]), 0);
    }
    for (volatile uint64_t spin = random_next(&seed) % 200000; spin > 0; spin--)
        ;
    if (round % 7 == 0)
        support_sleep_ms(round % 30);
    EXPECT(vrd_cap_close(round % 2 ? ends.send : ends.receive), 0);
    if (round % 3 == 0)
        support_sleep_ms(1);
    EXPECT(vrd_cap_close(round % 2 ? ends.receive : ends.send), 0);
    for (uint32_t i = 0; i < n; i++)
        EXPECT(pthread_join(threads[i], NULL), 0);
}

static void test_close_races_with_all(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 100; round++)
        race(round, THREADS, THREADS);
}

static void test_close_races_with_one_of_each(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 300; round++)
        race(round, 1, 1);
}

/* Waiters only: the close must find each at every step of falling asleep. */
static void test_close_races_with_falling_asleep(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 200; round++) {
        const struct ends ends = ends_new(1);
        struct waiter receiver = { .cap = ends.receive, .timeout_ns = VRD_FOREVER };
        struct waiter sender = { .cap = ends.send, .sends = true, .timeout_ns = VRD_FOREVER };
        const bool full = round % 2;
        uint64_t seed = round + 1;
        pthread_t thread;

        if (full)
            numbered_send(ends.send, 0, 0, 8);
        EXPECT(pthread_create(&thread, NULL, wait_on_it, full ? &sender : &receiver), 0);
        while (atomic_load(full ? &sender.tid : &receiver.tid) == 0)
            ;
        random_next(&seed);
        for (volatile uint64_t spin = random_next(&seed) % 100000; spin > 0; spin--)
            ;
        EXPECT(vrd_cap_close(full ? ends.send : ends.receive), 0);
        EXPECT(pthread_join(thread, NULL), 0);
        EXPECT((full ? sender : receiver).result, VRD_ERR_INVALID_CAPABILITY);
        EXPECT(vrd_cap_close(full ? ends.receive : ends.send), 0);
    }
}

struct closer {
    vrd_cap_t cap;
    pthread_barrier_t *barrier;
    int result;
};

static void *close_it(void *arg)
{
    struct closer *closer = arg;

    pthread_barrier_wait(closer->barrier);
    closer->result = vrd_cap_close(closer->cap);
    return NULL;
}

static void test_only_one_closes(void **state)
{
    pthread_barrier_t barrier;

    (void)state;
    EXPECT(pthread_barrier_init(&barrier, NULL, THREADS), 0);
    for (uint32_t round = 0; round < 100; round++) {
        const struct ends ends = ends_new(4);
        struct closer closers[THREADS];
        pthread_t threads[THREADS];
        size_t closed = 0;

        if (round % 2)
            numbered_send(ends.send, 0, 0, 8);
        for (size_t i = 0; i < THREADS; i++) {
            closers[i] = (struct closer){ ends.send, &barrier, 1 };
            EXPECT(pthread_create(&threads[i], NULL, close_it, &closers[i]), 0);
        }
        for (size_t i = 0; i < THREADS; i++) {
            EXPECT(pthread_join(threads[i], NULL), 0);
            support_require(closers[i].result == 0 ||
                            closers[i].result == VRD_ERR_INVALID_CAPABILITY);
            closed += closers[i].result == 0;
        }
        EXPECT(closed, 1);
        if (round % 2)
            numbered_receive(ends.receive, 0, 0, 8);
        EXPECT(vrd_receive(ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
        EXPECT(vrd_cap_close(ends.receive), 0);
    }
    EXPECT(pthread_barrier_destroy(&barrier), 0);
}

/* Threads create, use and close channels of their own, all at once: handles are one table. */
static void *make_use_and_close(void *arg)
{
    const uint32_t sender = *(const uint32_t *)arg;

    for (uint32_t i = 0; i < support_iterations(400); i++) {
        const struct ends ends = ends_new(1 + i % 5);
        const vrd_cap_t other = i % 3 ? VRD_CAP_NONE : sender_new(ends.send);

        numbered_send(ends.send, sender, i, 8 + i % 100);
        numbered_receive(ends.receive, sender, i, 8 + i % 100);
        if (other) {
            numbered_send(other, sender, i, 8);
            numbered_receive(ends.receive, sender, i, 8);
            EXPECT(vrd_cap_close(other), 0);
        }
        ends_close(&ends);
        EXPECT(vrd_send(ends.send, "x", 1), VRD_ERR_INVALID_CAPABILITY);
    }
    return NULL;
}

static void test_threads_with_channels_of_their_own(void **state)
{
    uint32_t numbers[THREADS];
    pthread_t threads[THREADS];

    (void)state;
    for (uint32_t i = 0; i < THREADS; i++) {
        numbers[i] = i;
        EXPECT(pthread_create(&threads[i], NULL, make_use_and_close, &numbers[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        EXPECT(pthread_join(threads[i], NULL), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_wakes_receivers),
                     SUPPORT_TEST(test_wakes_senders),
                     SUPPORT_TEST(test_closing_the_other_end_wakes),
                     SUPPORT_TEST(test_close_races_with_all),
                     SUPPORT_TEST(test_close_races_with_one_of_each),
                     SUPPORT_TEST(test_close_races_with_falling_asleep),
                     SUPPORT_TEST(test_only_one_closes),
                     SUPPORT_TEST(test_threads_with_channels_of_their_own),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
