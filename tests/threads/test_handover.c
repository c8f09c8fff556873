/* SPDX-License-Identifier: MIT */
/* A capability that goes from one thread to another: used by each as if it had it alone. */
#include "process/channels.h"

#include <pthread.h>
#include <semaphore.h>

/* Two threads take turns on both ends; the numbers run on across them. */
struct relay {
    struct ends ends;
    sem_t *mine;
    sem_t *other;
    uint32_t *next; /* touched by whoever has the turn */
    uint32_t per_turn;
    uint32_t turns;
};

static void *take_turns(void *arg)
{
    const struct relay *relay = arg;

    for (uint32_t turn = 0; turn < relay->turns; turn++) {
        while (sem_wait(relay->mine) != 0)
            ;
        for (uint32_t i = 0; i < relay->per_turn; i++, ++*relay->next) {
            numbered_send(relay->ends.send, 1, *relay->next, 8 + i % 90);
            numbered_receive(relay->ends.receive, 1, *relay->next, 8 + i % 90);
        }
        EXPECT(sem_post(relay->other), 0);
    }
    return NULL;
}

static void relay_turns(uint32_t turns, uint32_t per_turn)
{
    sem_t first, second;
    uint32_t next = 0;
    struct relay relays[2];
    pthread_t threads[2];

    EXPECT(sem_init(&first, 0, 1), 0);
    EXPECT(sem_init(&second, 0, 0), 0);
    relays[0] = (struct relay){ ends_new(4), &first, &second, &next, per_turn, turns };
    relays[1] = (struct relay){ relays[0].ends, &second, &first, &next, per_turn, turns };
    for (size_t i = 0; i < 2; i++)
        EXPECT(pthread_create(&threads[i], NULL, take_turns, &relays[i]), 0);
    for (size_t i = 0; i < 2; i++)
        EXPECT(pthread_join(threads[i], NULL), 0);
    EXPECT(next, 2 * turns * per_turn);
    ends_close(&relays[0].ends);
    EXPECT(sem_destroy(&first), 0);
    EXPECT(sem_destroy(&second), 0);
}

static void test_two_threads_take_turns(void **state)
{
    (void)state;
    relay_turns((uint32_t)support_iterations(2000), 1);
    relay_turns((uint32_t)support_iterations(100), 200);
}

/* Many threads, each there for one message only: what a thread leaves behind is taken over. */
static void *send_one(void *arg)
{
    const struct relay *relay = arg;

    numbered_send(relay->ends.send, 2, *relay->next, 40);
    return NULL;
}

static void *receive_one(void *arg)
{
    const struct relay *relay = arg;

    numbered_receive(relay->ends.receive, 2, *relay->next, 40);
    return NULL;
}

static void test_a_thread_for_each_message(void **state)
{
    uint32_t next = 0;
    struct relay relay = { .ends = ends_new(4), .next = &next };

    (void)state;
    for (; next < support_iterations(1500); next++) {
        pthread_t thread;

        EXPECT(pthread_create(&thread, NULL, next % 3 ? send_one : receive_one, &relay), 0);
        if (next % 3 == 0)
            numbered_send(relay.ends.send, 2, next, 40);
        EXPECT(pthread_join(thread, NULL), 0);
        if (next % 3 != 0)
            numbered_receive(relay.ends.receive, 2, next, 40);
    }
    ends_close(&relay.ends);
}

/* The end is closed by a thread that never used it, while the one that did is elsewhere. */
static void *close_both(void *arg)
{
    const struct relay *relay = arg;

    ends_close(&relay->ends);
    return NULL;
}

static void test_closed_by_a_stranger(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < support_iterations(500); i++) {
        struct relay relay = { .ends = ends_new(4) };
        pthread_t thread;

        numbered_send(relay.ends.send, 2, i, 40);
        numbered_receive(relay.ends.receive, 2, i, 40);
        EXPECT(pthread_create(&thread, NULL, close_both, &relay), 0);
        EXPECT(pthread_join(thread, NULL), 0);
        EXPECT(vrd_send(relay.ends.send, "x", 1), VRD_ERR_INVALID_CAPABILITY);
        EXPECT(vrd_receive(relay.ends.receive, NULL, 0), VRD_ERR_INVALID_CAPABILITY);
    }
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_two_threads_take_turns),
                     SUPPORT_TEST(test_a_thread_for_each_message),
                     SUPPORT_TEST(test_closed_by_a_stranger),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
