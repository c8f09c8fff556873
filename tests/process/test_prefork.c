/* SPDX-License-Identifier: MIT */
/*
 * Pre-forked workers: processes that share RECEIVE divide the senders among them, each sender going
 * to one worker. When that one dies, the sender is told once and goes on with another.
 */
#include "process/channels.h"

#include <stdatomic.h>

#define WORKERS 3
#define SENDERS 9

/* Shared by all processes of a test. */
struct ledger {
    atomic_uint worker_of[SENDERS]; /* who last received from that sender, plus one        */
    atomic_uint received[SENDERS];  /* messages received of that sender, by all workers    */
    atomic_uint changes[SENDERS];   /* how often a sender's messages came to another worker */
    atomic_uint told[SENDERS];      /* PEER_GONE seen by that sender                       */
    atomic_bool stop;
};

struct team {
    struct ends ends;
    struct ledger *ledger;
    uint32_t index; /* of the worker or sender */
    uint32_t from;  /* the first message to send            */
    uint32_t to;    /* behind the last; 0: until told to stop */
};

static int work(void *arg)
{
    const struct team *team = arg;
    struct ledger *ledger = team->ledger;
    uint32_t next[SENDERS] = { 0 };
    struct number number;
    int64_t result;

    EXPECT(vrd_cap_close(team->ends.send), 0);
    while ((result = numbered_receive_any(team->ends.receive, &number, VRD_FOREVER)) >= 0) {
        support_require(number.sender < SENDERS);
        const unsigned before = atomic_exchange(&ledger->worker_of[number.sender], team->index + 1);
        if (before == team->index + 1) {
            EXPECT(number.index, next[number.sender]);
        } else {
            /* Another worker had those in between. */
            support_require(number.index >= next[number.sender]);
            atomic_fetch_add(&ledger->changes[number.sender], 1);
        }
        next[number.sender] = number.index + 1;
        atomic_fetch_add(&ledger->received[number.sender], 1);
    }
    EXPECT(result, VRD_ERR_PEER_GONE);
    return 0;
}

static int send_to_team(void *arg)
{
    const struct team *team = arg;

    EXPECT(vrd_cap_close(team->ends.receive), 0);
    for (uint32_t i = team->from; team->to ? i < team->to : !atomic_load(&team->ledger->stop);
         i++) {
        const int result =
            numbered_try_send(team->ends.send, team->index, i, 8 + i % 100, VRD_FOREVER);

        if (result != 0) {
            EXPECT(result, VRD_ERR_PEER_GONE);
            atomic_fetch_add(&team->ledger->told[team->index], 1);
        }
    }
    return 0;
}

static void start_all(struct team team, int (*run)(void *), size_t n, pid_t *pids)
{
    for (team.index = 0; team.index < n; team.index++)
        pids[team.index] = support_child(run, &team);
}

static void test_each_sender_stays_with_one_worker(void **state)
{
    struct ledger *ledger = support_shared_new(sizeof *ledger);
    const struct team team = { .ends = ends_new(16), .ledger = ledger, .to = 500 };
    pid_t workers[WORKERS], senders[SENDERS];

    (void)state;
    start_all(team, work, WORKERS, workers);
    start_all(team, send_to_team, SENDERS, senders);
    ends_close(&team.ends);
    for (size_t i = 0; i < SENDERS; i++)
        support_wait_exit(senders[i], 0);
    for (size_t i = 0; i < WORKERS; i++)
        support_wait_exit(workers[i], 0);
    for (size_t i = 0; i < SENDERS; i++) {
        EXPECT(ledger->received[i], 500);
        EXPECT(ledger->changes[i], 1);
        EXPECT(ledger->told[i], 0);
    }
    support_shared_free(ledger, sizeof *ledger);
}

/* With senders that come one at a time to workers that all sleep, somebody always takes it. */
static void test_one_sender_after_the_other(void **state)
{
    struct ledger *ledger = support_shared_new(sizeof *ledger);
    struct team team = { .ends = ends_new(4), .ledger = ledger };
    pid_t workers[WORKERS];

    (void)state;
    start_all(team, work, WORKERS, workers);
    for (uint32_t round = 0; round < 10; round++) {
        team.from = team.to;
        team.to += 20;
        for (team.index = 0; team.index < SENDERS; team.index++)
            support_wait_exit(support_child(send_to_team, &team), 0);
    }
    ends_close(&team.ends);
    for (size_t i = 0; i < WORKERS; i++)
        support_wait_exit(workers[i], 0);
    for (size_t i = 0; i < SENDERS; i++)
        EXPECT(ledger->received[i], 200);
    support_shared_free(ledger, sizeof *ledger);
}

/* Waits until every sender has been heard since this was called. */
static void wait_for_progress(struct ledger *ledger)
{
    for (size_t i = 0; i < SENDERS; i++) {
        const unsigned before = atomic_load(&ledger->received[i]);

        while (atomic_load(&ledger->received[i]) == before)
            support_sleep_ms(1);
    }
}

static void test_a_killed_workers_senders_go_on(void **state)
{
    struct ledger *ledger = support_shared_new(sizeof *ledger);
    const struct team team = { .ends = ends_new(16), .ledger = ledger };
    pid_t workers[WORKERS], senders[SENDERS];
    unsigned owed[SENDERS] = { 0 };

    (void)state;
    start_all(team, work, WORKERS, workers);
    start_all(team, send_to_team, SENDERS, senders);
    ends_close(&team.ends);
    wait_for_progress(ledger);
    for (unsigned killed = 0; killed < WORKERS - 1; killed++) {
        /* Nobody changes the worker while it lives, so this is who will be told. */
        for (size_t i = 0; i < SENDERS; i++)
            owed[i] += atomic_load(&ledger->worker_of[i]) == killed + 1;
        support_kill(workers[killed]);
        wait_for_progress(ledger);
    }
    for (size_t i = 0; i < SENDERS; i++)
        EXPECT(atomic_load(&ledger->worker_of[i]), WORKERS);
    atomic_store(&ledger->stop, true);
    for (size_t i = 0; i < SENDERS; i++)
        support_wait_exit(senders[i], 0);
    support_wait_exit(workers[WORKERS - 1], 0);
    for (size_t i = 0; i < SENDERS; i++)
        EXPECT(atomic_load(&ledger->told[i]), owed[i]);
    support_shared_free(ledger, sizeof *ledger);
}

/* A parent that keeps RECEIVE, and never receives, starts another worker for the one that died. */
static void test_a_worker_is_replaced(void **state)
{
    struct ledger *ledger = support_shared_new(sizeof *ledger);
    struct team team = { .ends = ends_new(16), .ledger = ledger };
    pid_t senders[SENDERS];

    (void)state;
    start_all(team, send_to_team, SENDERS, senders);
    for (team.index = 0; team.index < 4; team.index++) {
        const pid_t worker = support_child(work, &team);

        wait_for_progress(ledger);
        support_kill(worker);
    }
    const pid_t last = support_child(work, &team);
    ends_close(&team.ends);
    wait_for_progress(ledger);
    atomic_store(&ledger->stop, true);
    for (size_t i = 0; i < SENDERS; i++)
        support_wait_exit(senders[i], 0);
    support_wait_exit(last, 0);
    for (size_t i = 0; i < SENDERS; i++)
        EXPECT(atomic_load(&ledger->told[i]), 4);
    support_shared_free(ledger, sizeof *ledger);
}

static int send_until_nobody_is_left(void *arg)
{
    const struct team *team = arg;
    unsigned in_a_row = 0;

    EXPECT(vrd_cap_close(team->ends.receive), 0);
    for (uint32_t i = 0; in_a_row < 20; i++) {
        const int result = numbered_try_send(team->ends.send, team->index, i, 8, VRD_FOREVER);

        support_require(result == 0 || result == VRD_ERR_PEER_GONE);
        in_a_row = result == 0 ? 0 : in_a_row + 1;
    }
    return 0;
}

static void test_all_workers_die(void **state)
{
    struct ledger *ledger = support_shared_new(sizeof *ledger);
    const struct team team = { .ends = ends_new(2), .ledger = ledger };
    pid_t workers[WORKERS], senders[SENDERS];

    (void)state;
    start_all(team, work, WORKERS, workers);
    start_all(team, send_until_nobody_is_left, SENDERS, senders);
    ends_close(&team.ends);
    wait_for_progress(ledger);
    for (size_t i = 0; i < WORKERS; i++)
        support_kill(workers[i]);
    for (size_t i = 0; i < SENDERS; i++)
        support_wait_exit(senders[i], 0);
    support_shared_free(ledger, sizeof *ledger);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_each_sender_stays_with_one_worker),
                     SUPPORT_TEST(test_one_sender_after_the_other),
                     SUPPORT_TEST(test_a_killed_workers_senders_go_on),
                     SUPPORT_TEST(test_a_worker_is_replaced),
                     SUPPORT_TEST(test_all_workers_die),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
