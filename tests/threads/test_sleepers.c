/* SPDX-License-Identifier: MIT */
/* Several threads asleep on one capability: as many wake as there is something for, and all at the
 * end. Each step waits for the one before it, so a wake-up that is lost stops the test for good. */
#include "process/channels.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#define THREADS 4

struct sleeper {
    vrd_cap_t cap;
    atomic_uint *done; /* messages moved by all threads together */
    atomic_int tid;
    pthread_t thread;
};

static void *receive_until_gone(void *arg)
{
    struct sleeper *sleeper = arg;
    struct number number;
    int64_t result;

    atomic_store(&sleeper->tid, (int)syscall(SYS_gettid));
    while ((result = numbered_receive_any(sleeper->cap, &number, VRD_FOREVER)) >= 0)
        atomic_fetch_add(sleeper->done, 1);
    EXPECT(result, VRD_ERR_PEER_GONE);
    return NULL;
}

static void *send_until_gone(void *arg)
{
    struct sleeper *sleeper = arg;
    int result;

    atomic_store(&sleeper->tid, (int)syscall(SYS_gettid));
    while ((result = numbered_try_send(sleeper->cap, 0, 0, 16, VRD_FOREVER)) == 0)
        atomic_fetch_add(sleeper->done, 1);
    EXPECT(result, VRD_ERR_PEER_GONE);
    return NULL;
}

static void sleepers_start(struct sleeper *sleepers, vrd_cap_t cap, atomic_uint *done,
                           void *(*run)(void *))
{
    for (size_t i = 0; i < THREADS; i++) {
        sleepers[i].cap = cap;
        sleepers[i].done = done;
        atomic_store(&sleepers[i].tid, 0);
        EXPECT(pthread_create(&sleepers[i].thread, NULL, run, &sleepers[i]), 0);
    }
}

static void sleepers_wait_asleep(struct sleeper *sleepers)
{
    for (size_t i = 0; i < THREADS; i++) {
        while (atomic_load(&sleepers[i].tid) == 0)
            support_sleep_ms(1);
        support_wait_asleep(atomic_load(&sleepers[i].tid));
    }
}

static void sleepers_join(struct sleeper *sleepers)
{
    for (size_t i = 0; i < THREADS; i++)
        EXPECT(pthread_join(sleepers[i].thread, NULL), 0);
}

static void wait_until(const atomic_uint *count, unsigned at_least)
{
    while (atomic_load(count) < at_least)
        support_sleep_ms(1);
}

/* ---- receivers -------------------------------------------------------------------------------- */

static void wake_receivers(bool deep)
{
    const struct ends ends = ends_new(16);
    struct sleeper sleepers[THREADS];
    atomic_uint received = 0;
    uint64_t seed = 1234567;
    unsigned sent = 0;

    sleepers_start(sleepers, ends.receive, &received, receive_until_gone);
    for (size_t round = 0; round < (deep ? 12 : support_iterations(2000)); round++) {
        const unsigned n = 1 + (unsigned)(random_next(&seed) % (THREADS + 2));

        if (deep)
            sleepers_wait_asleep(sleepers);
        for (unsigned i = 0; i < n; i++)
            numbered_send(ends.send, 0, sent++, 16);
        while (atomic_load(&received) < sent)
            if (deep)
                support_sleep_ms(1);
    }
    if (deep)
        sleepers_wait_asleep(sleepers);
    EXPECT(vrd_cap_close(ends.send), 0);
    sleepers_join(sleepers);
    EXPECT(received, sent);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

static void test_receivers_asleep_for_good(void **state)
{
    (void)state;
    wake_receivers(true);
}

static void test_receivers_on_their_way_to_sleep(void **state)
{
    (void)state;
    wake_receivers(false);
}

/* ---- senders ---------------------------------------------------------------------------------- */

static void wake_senders(size_t slots, bool deep)
{
    const struct ends ends = ends_new(slots);
    struct sleeper sleepers[THREADS];
    atomic_uint sent = 0;
    uint64_t seed = 7654321;
    unsigned taken = 0;

    sleepers_start(sleepers, ends.send, &sent, send_until_gone);
    wait_until(&sent, (unsigned)slots);
    for (size_t round = 0; round < (deep ? 12 : support_iterations(1000)); round++) {
        const unsigned n = 1 + (unsigned)(random_next(&seed) % slots);

        if (deep)
            sleepers_wait_asleep(sleepers);
        for (unsigned i = 0; i < n; i++, taken++)
            numbered_receive(ends.receive, 0, 0, 16);
        while (atomic_load(&sent) < taken + slots)
            if (deep)
                support_sleep_ms(1);
    }
    if (deep)
        sleepers_wait_asleep(sleepers);
    EXPECT(sent, taken + slots);
    EXPECT(vrd_cap_close(ends.receive), 0);
    sleepers_join(sleepers);
    EXPECT(vrd_cap_close(ends.send), 0);
}

static void test_senders_asleep_for_good(void **state)
{
    (void)state;
    wake_senders(1, true);
    wake_senders(6, true);
}

static void test_senders_on_their_way_to_sleep(void **state)
{
    (void)state;
    wake_senders(1, false);
    wake_senders(6, false);
}

/* ---- the end ------------------------------------------------------------------------------------ */

static int send_one_and_stay(void *arg)
{
    const struct ends *ends = arg;

    EXPECT(vrd_cap_close(ends->receive), 0);
    numbered_send(ends->send, 0, 0, 16);
    support_sleep_ms(UINT32_MAX);
    return 1;
}

static int receive_one_and_stay(void *arg)
{
    const struct ends *ends = arg;

    EXPECT(vrd_cap_close(ends->send), 0);
    numbered_receive(ends->receive, 0, 0, 16);
    support_sleep_ms(UINT32_MAX);
    return 1;
}

static void test_a_killed_sender_wakes_all_receivers(void **state)
{
    struct ends ends = ends_new(4);
    const pid_t pid = support_child(send_one_and_stay, &ends);
    struct sleeper sleepers[THREADS];
    atomic_uint received = 0;

    (void)state;
    EXPECT(vrd_cap_close(ends.send), 0);
    sleepers_start(sleepers, ends.receive, &received, receive_until_gone);
    wait_until(&received, 1);
    sleepers_wait_asleep(sleepers);
    support_kill(pid);
    sleepers_join(sleepers);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

static void test_a_killed_receiver_wakes_all_senders(void **state)
{
    struct ends ends = ends_new(4);
    const pid_t pid = support_child(receive_one_and_stay, &ends);
    struct sleeper sleepers[THREADS];
    atomic_uint sent = 0;

    (void)state;
    EXPECT(vrd_cap_close(ends.receive), 0);
    sleepers_start(sleepers, ends.send, &sent, send_until_gone);
    wait_until(&sent, 5);
    sleepers_wait_asleep(sleepers);
    support_kill(pid);
    sleepers_join(sleepers);
    EXPECT(vrd_cap_close(ends.send), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_receivers_asleep_for_good),
                     SUPPORT_TEST(test_receivers_on_their_way_to_sleep),
                     SUPPORT_TEST(test_senders_asleep_for_good),
                     SUPPORT_TEST(test_senders_on_their_way_to_sleep),
                     SUPPORT_TEST(test_a_killed_sender_wakes_all_receivers),
                     SUPPORT_TEST(test_a_killed_receiver_wakes_all_senders),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
