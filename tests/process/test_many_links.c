/* SPDX-License-Identifier: MIT */
/* One receiver, many senders: around the number that is polled, and far beyond it. */
#include "process/channels.h"

#define MOST 200

static const uint32_t some_counts[] = { 1, 2, 15, 16, 17, 18, 40, MOST };

#define N_COUNTS (sizeof some_counts / sizeof some_counts[0])

struct crowd {
    struct ends ends;
    uint32_t n;
    vrd_cap_t senders[MOST];
};

static struct crowd *crowd_new(uint32_t n, size_t slots)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);

    support_require(crowd != NULL);
    crowd->ends = ends_new(slots);
    crowd->n = n;
    for (uint32_t i = 0; i < n; i++)
        crowd->senders[i] = sender_new(crowd->ends.send);
    return crowd;
}

static void crowd_free(struct crowd *crowd)
{
    for (uint32_t i = 0; i < crowd->n; i++)
        EXPECT(vrd_cap_close(crowd->senders[i]), 0);
    ends_close(&crowd->ends);
    free(crowd);
}

/* Each has sent once, so that each has a link. */
static void crowd_greet(struct crowd *crowd)
{
    for (uint32_t i = 0; i < crowd->n; i++)
        numbered_send(crowd->senders[i], i, 0, 8);
    for (uint32_t i = 0; i < crowd->n; i++) {
        struct number number;

        EXPECT(numbered_receive_any(crowd->ends.receive, &number, VRD_FOREVER), 8);
        EXPECT(number.index, 0);
    }
}

static void test_all_send(void **state)
{
    (void)state;
    for (size_t c = 0; c < N_COUNTS; c++) {
        struct crowd *crowd = crowd_new(some_counts[c], 4);
        uint32_t next[MOST] = { 0 };
        struct number number;

        for (uint32_t round = 0; round < 5; round++) {
            for (uint32_t i = 0; i < 4; i++)
                for (uint32_t s = 0; s < crowd->n; s++)
                    numbered_send(crowd->senders[s], s, round * 4 + i, 8 + s);
            for (uint32_t i = 0; i < 4 * crowd->n; i++) {
                support_require(numbered_receive_any(crowd->ends.receive, &number, VRD_FOREVER) >
                                0);
                support_require(number.sender < crowd->n);
                EXPECT(number.index, next[number.sender]++);
            }
            EXPECT(vrd_receive_async(crowd->ends.receive, NULL, 0), VRD_ERR_CHANNEL_EMPTY);
        }
        crowd_free(crowd);
    }
}

static void test_one_of_many_sends(void **state)
{
    (void)state;
    for (size_t c = 0; c < N_COUNTS; c++) {
        struct crowd *crowd = crowd_new(some_counts[c], 16);
        const uint32_t active[3] = { 0, crowd->n / 2, crowd->n - 1 };

        crowd_greet(crowd);
        for (size_t a = 0; a < 3; a++) {
            const vrd_cap_t sender = crowd->senders[active[a]];

            for (uint32_t i = 0; i < 300; i++) {
                numbered_send(sender, 1, i, 20);
                if (i % 16 == 15)
                    for (uint32_t j = i - 15; j <= i; j++)
                        numbered_receive(crowd->ends.receive, 1, j, 20);
            }
            for (uint32_t j = 288; j < 300; j++)
                numbered_receive(crowd->ends.receive, 1, j, 20);
        }
        crowd_free(crowd);
    }
}

/* ---- from other processes ---------------------------------------------------------------------- */

struct wave {
    struct ends ends;
    uint32_t sender;
    uint32_t n;
    struct support_gate go[MOST];
};

static int send_wave(void *arg)
{
    const struct wave *wave = arg;

    EXPECT(vrd_cap_close(wave->ends.receive), 0);
    for (uint32_t i = 0; i < wave->n; i++)
        numbered_send(wave->ends.send, wave->sender, i, 8 + i % 90);
    return 0;
}

static void test_many_processes_send(void **state)
{
    static const uint32_t sizes[] = { 15, 16, 17, 40 };

    (void)state;
    for (size_t s = 0; s < 4; s++) {
        struct wave wave = { .ends = ends_new(4), .n = 100 };
        uint32_t counts[40];
        pid_t pids[40];

        for (wave.sender = 0; wave.sender < sizes[s]; wave.sender++) {
            counts[wave.sender] = wave.n;
            pids[wave.sender] = support_child(send_wave, &wave);
        }
        EXPECT(vrd_cap_close(wave.ends.send), 0);
        numbered_drain(wave.ends.receive, counts, sizes[s]);
        for (size_t i = 0; i < sizes[s]; i++)
            support_wait_exit(pids[i], 0);
        EXPECT(vrd_cap_close(wave.ends.receive), 0);
    }
}

/* One message for each opening of the sender's gate. */
static int send_at_gate(void *arg)
{
    const struct wave *wave = arg;

    EXPECT(vrd_cap_close(wave->ends.receive), 0);
    for (uint32_t i = 0; i < wave->n; i++) {
        support_gate_wait(&wave->go[wave->sender]);
        numbered_send(wave->ends.send, wave->sender, i, 16);
    }
    return 0;
}

/* Links that were quiet for long wake a receiver that sleeps for good, one at a time. */
static void test_cold_links_wake_the_receiver(void **state)
{
    enum { SENDERS = 40, ROUNDS = 3 };
    struct wave wave = { .ends = ends_new(4), .n = ROUNDS };
    pid_t pids[SENDERS];

    (void)state;
    for (wave.sender = 0; wave.sender < SENDERS; wave.sender++) {
        support_gate_init(&wave.go[wave.sender]);
        pids[wave.sender] = support_child(send_at_gate, &wave);
    }
    EXPECT(vrd_cap_close(wave.ends.send), 0);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        EXPECT(vrd_receive_timed(wave.ends.receive, NULL, 0, 80 * MS), VRD_ERR_TIMEOUT);
        for (uint32_t i = 0; i < SENDERS; i++) {
            const uint32_t sender = (i * 7 + round) % SENDERS;

            support_gate_open(&wave.go[sender]);
            numbered_receive(wave.ends.receive, sender, round, 16);
        }
    }
    EXPECT(vrd_receive(wave.ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(wave.ends.receive), 0);
    for (uint32_t i = 0; i < SENDERS; i++) {
        support_wait_exit(pids[i], 0);
        support_gate_deinit(&wave.go[i]);
    }
}

/* One goes on without a pause; the others, each quiet for long, are heard beside it. */
static int flood(void *arg)
{
    const struct wave *wave = arg;
    int result;

    EXPECT(vrd_cap_close(wave->ends.receive), 0);
    for (uint32_t i = 0;; i++) {
        result = numbered_try_send(wave->ends.send, wave->sender, i, 16, VRD_FOREVER);
        if (result != 0)
            break;
    }
    EXPECT(result, VRD_ERR_PEER_GONE);
    return 0;
}

static void test_cold_links_are_heard_beside_a_flood(void **state)
{
    enum { SENDERS = 40, ROUNDS = 5 };
    struct wave wave = { .ends = ends_new(16), .n = ROUNDS };
    pid_t pids[SENDERS], flooder;
    uint32_t flooded = 0;

    (void)state;
    for (wave.sender = 0; wave.sender < SENDERS; wave.sender++) {
        support_gate_init(&wave.go[wave.sender]);
        pids[wave.sender] = support_child(send_at_gate, &wave);
    }
    flooder = support_child(flood, &wave);
    EXPECT(vrd_cap_close(wave.ends.send), 0);
    for (uint32_t round = 0; round < ROUNDS; round++)
        for (uint32_t sender = 0; sender < SENDERS; sender++) {
            struct number number;

            support_gate_open(&wave.go[sender]);
            do {
                EXPECT(numbered_receive_any(wave.ends.receive, &number, VRD_FOREVER), 16);
                EXPECT(number.index, number.sender == SENDERS ? flooded++ : round);
            } while (number.sender == SENDERS);
            EXPECT(number.sender, sender);
        }
    EXPECT(vrd_cap_close(wave.ends.receive), 0);
    support_wait_exit(flooder, 0);
    for (uint32_t i = 0; i < SENDERS; i++) {
        support_wait_exit(pids[i], 0);
        support_gate_deinit(&wave.go[i]);
    }
}

/* ---- fairness ----------------------------------------------------------------------------------- */

/* More than a sender may take in its turn before the next has one. */
#define TURN_AT_MOST 64

/* One sender's ring is full at every receive. The others have eight messages each; how many of the
 * flood come before the last of them is bounded by their turns. */
static void check_fair(uint32_t n)
{
    struct crowd *crowd = crowd_new(n, 16);
    uint32_t next[MOST] = { 0 }, left = 8 * (n - 1), flooded = 0, sent = 0;

    crowd_greet(crowd);
    for (uint32_t s = 1; s < n; s++)
        for (uint32_t i = 0; i < 8; i++)
            numbered_send(crowd->senders[s], s, i, 16);
    /* Beyond those that are polled a link reports itself; that it has, this makes sure. */
    EXPECT(numbered_try_send(crowd->senders[0], 0, sent, 16, 0), 0);
    sent++;
    while (left > 0) {
        struct number number;

        while (numbered_try_send(crowd->senders[0], 0, sent, 16, 0) == 0)
            sent++;
        EXPECT(numbered_receive_any(crowd->ends.receive, &number, VRD_FOREVER), 16);
        EXPECT(number.index, next[number.sender]++);
        if (number.sender == 0)
            support_require(++flooded <= TURN_AT_MOST * 8 * n);
        else
            left--;
    }
    crowd_free(crowd);
}

static void test_a_flood_does_not_starve_the_others(void **state)
{
    (void)state;
    check_fair(2);
    check_fair(5);
    check_fair(16);
}

/* All rings stay full: nobody gets ahead by more than a turn or so. */
static void test_shares_are_equal(void **state)
{
    static const uint32_t sizes[] = { 2, 7, 16 };

    (void)state;
    for (size_t c = 0; c < 3; c++) {
        struct crowd *crowd = crowd_new(sizes[c], 16);
        uint32_t sent[MOST] = { 0 }, got[MOST] = { 0 };

        for (uint32_t i = 0; i < 1000 * crowd->n; i++) {
            struct number number;

            for (uint32_t s = 0; s < crowd->n; s++)
                while (numbered_try_send(crowd->senders[s], s, sent[s], 16, 0) == 0)
                    sent[s]++;
            EXPECT(numbered_receive_any(crowd->ends.receive, &number, VRD_FOREVER), 16);
            EXPECT(number.index, got[number.sender]++);
        }
        for (uint32_t s = 0; s < crowd->n; s++)
            support_require(got[s] >= 1000 - 2 * TURN_AT_MOST && got[s] <= 1000 + 2 * TURN_AT_MOST);
        crowd_free(crowd);
    }
}

/* Senders come and go while others stay. */
static void test_senders_come_and_go(void **state)
{
    struct crowd *crowd = crowd_new(30, 4);
    uint64_t seed = 362436069;
    uint32_t next = 1;

    (void)state;
    crowd_greet(crowd);
    for (uint32_t i = 0; i < 500; i++) {
        const uint32_t s = (uint32_t)(random_next(&seed) % 30);

        if (random_next(&seed) % 2) {
            numbered_send(crowd->senders[s], s, next, 50);
            EXPECT(vrd_cap_close(crowd->senders[s]), 0);
            crowd->senders[s] = sender_new(crowd->ends.send);
        } else {
            numbered_send(crowd->senders[s], s, next, 50);
        }
        numbered_receive(crowd->ends.receive, s, next++, 50);
    }
    crowd_free(crowd);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_all_send),
                     SUPPORT_TEST(test_one_of_many_sends),
                     SUPPORT_TEST(test_many_processes_send),
                     SUPPORT_TEST(test_cold_links_wake_the_receiver),
                     SUPPORT_TEST(test_cold_links_are_heard_beside_a_flood),
                     SUPPORT_TEST(test_a_flood_does_not_starve_the_others),
                     SUPPORT_TEST(test_shares_are_equal),
                     SUPPORT_TEST(test_senders_come_and_go),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
