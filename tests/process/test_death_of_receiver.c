/* SPDX-License-Identifier: MIT */
/* Receivers that are killed: their senders are told, also those that sleep at a full ring. */
#include "process/channels.h"

#include <signal.h>
#include <stdatomic.h>

struct victim {
    struct ends ends;
    struct support_gate ready;
    uint32_t n;      /* messages to receive before it stays */
    pid_t *innocent; /* shared; not NULL: has a child, which inherits all and does nothing */
};

static int hold_and_stay(void *arg)
{
    (void)arg;
    support_sleep_ms(UINT32_MAX);
    return 1;
}

static int receive_and_stay(void *arg)
{
    const struct victim *victim = arg;

    EXPECT(vrd_cap_close(victim->ends.send), 0);
    for (uint32_t i = 0; i < victim->n; i++)
        numbered_receive(victim->ends.receive, 0, i, 24);
    if (victim->innocent)
        *victim->innocent = support_child(hold_and_stay, NULL);
    support_gate_open(&victim->ready);
    return hold_and_stay(NULL);
}

struct killer {
    struct support_gate go;
    pid_t victim;
    pid_t sleeper;
};

/* Forked before the channel, so that it holds nothing of it. */
static int kill_when_asleep(void *arg)
{
    struct killer *killer = arg;

    support_gate_wait(&killer->go);
    support_wait_asleep(killer->sleeper);
    support_require(kill(killer->victim, SIGKILL) == 0);
    return 0;
}

static void kill_while_sender_sleeps(uint32_t received, bool with_child)
{
    struct killer *killer = support_shared_new(sizeof *killer);

    support_gate_init(&killer->go);
    const pid_t killer_pid = support_child(kill_when_asleep, killer);
    struct victim victim = { .ends = ends_new(8), .n = received };
    support_gate_init(&victim.ready);
    if (with_child)
        victim.innocent = support_shared_new(sizeof *victim.innocent);
    const pid_t pid = support_child(receive_and_stay, &victim);

    EXPECT(vrd_cap_close(victim.ends.receive), 0);
    uint32_t sent = 0;
    while (sent < received)
        numbered_send(victim.ends.send, 0, sent++, 24);
    support_gate_wait(&victim.ready);
    for (size_t i = 0; i < 8; i++)
        numbered_send(victim.ends.send, 0, sent++, 24);
    EXPECT(numbered_try_send(victim.ends.send, 0, sent, 24, 0), VRD_ERR_CHANNEL_FULL);
    killer->victim = pid;
    killer->sleeper = getpid();
    support_gate_open(&killer->go);
    EXPECT(numbered_try_send(victim.ends.send, 0, sent, 24, VRD_FOREVER), VRD_ERR_PEER_GONE);
    support_wait_signal(pid, SIGKILL);
    support_wait_exit(killer_pid, 0);

    if (!with_child)
        EXPECT(numbered_try_send(victim.ends.send, 0, sent, 24, VRD_FOREVER), VRD_ERR_PEER_GONE);
    else
        support_require(kill(*victim.innocent, SIGKILL) == 0);
    EXPECT(vrd_cap_close(victim.ends.send), 0);
    if (with_child)
        support_shared_free(victim.innocent, sizeof *victim.innocent);
    support_gate_deinit(&victim.ready);
    support_gate_deinit(&killer->go);
    support_shared_free(killer, sizeof *killer);
}

static void test_killed_while_the_sender_sleeps(void **state)
{
    (void)state;
    for (uint32_t received = 1; received < 20; received += 6)
        kill_while_sender_sleeps(received, false);
}

/* It had not even received once: the sender's link has no other side yet. */
static void test_killed_before_it_answered(void **state)
{
    (void)state;
    kill_while_sender_sleeps(0, false);
}

/* The receiver's child, which holds all that it inherited, could still receive, but it has not the
 * link: the sender is told at once. */
static void test_a_child_of_the_receiver_does_not_delay_the_end(void **state)
{
    (void)state;
    kill_while_sender_sleeps(1, true);
    kill_while_sender_sleeps(9, true);
}

/* The sender's own child, with copies of all its descriptors, must not keep the receiver alive. */
static void test_a_child_of_the_sender_does_not_delay_the_end(void **state)
{
    struct victim victim = { .ends = ends_new(8), .n = 3 };
    int result;

    (void)state;
    support_gate_init(&victim.ready);
    const pid_t pid = support_child(receive_and_stay, &victim);
    EXPECT(vrd_cap_close(victim.ends.receive), 0);
    for (uint32_t i = 0; i < 3; i++)
        numbered_send(victim.ends.send, 0, i, 24);
    support_gate_wait(&victim.ready);
    const pid_t innocent = support_child(hold_and_stay, NULL);
    support_kill(pid);
    while ((result = numbered_try_send(victim.ends.send, 0, 0, 24, VRD_FOREVER)) == 0)
        ;
    EXPECT(result, VRD_ERR_PEER_GONE);
    support_kill(innocent);
    EXPECT(vrd_cap_close(victim.ends.send), 0);
    support_gate_deinit(&victim.ready);
}

/* ---- with room in the ring ---------------------------------------------------------------------- */

/* A sender with room in its ring, which never sleeps, is told all the same, before it has filled
 * the ring. */
static void test_a_sender_with_room_is_told(void **state)
{
    struct victim victim = { .ends = ends_new(4096), .n = 5 };
    int result;

    (void)state;
    support_gate_init(&victim.ready);
    const pid_t pid = support_child(receive_and_stay, &victim);
    EXPECT(vrd_cap_close(victim.ends.receive), 0);
    for (uint32_t i = 0; i < 5; i++)
        numbered_send(victim.ends.send, 0, i, 24);
    support_gate_wait(&victim.ready);
    support_kill(pid);
    while ((result = numbered_try_send(victim.ends.send, 0, 0, 24, 0)) != VRD_ERR_PEER_GONE) {
        EXPECT(result, 0);
        support_sleep_ms(1);
    }
    EXPECT(vrd_cap_close(victim.ends.send), 0);
    support_gate_deinit(&victim.ready);
}

/* ---- closing rather than dying ------------------------------------------------------------------ */

static int receive_and_close(void *arg)
{
    const struct victim *victim = arg;

    EXPECT(vrd_cap_close(victim->ends.send), 0);
    for (uint32_t i = 0; i < victim->n; i++)
        numbered_receive(victim->ends.receive, 0, i, 24);
    support_gate_wait(&victim->ready);
    EXPECT(vrd_cap_close(victim->ends.receive), 0);
    return hold_and_stay(NULL);
}

struct opener {
    struct support_gate go;
    struct support_gate target;
    pid_t sleeper;
    uint32_t full; /* so many messages were sent when it sleeps for the last time */
    atomic_uint sent;
};

static int open_when_asleep(void *arg)
{
    struct opener *opener = arg;

    support_gate_wait(&opener->go);
    while (atomic_load(&opener->sent) < opener->full)
        support_sleep_ms(1);
    support_wait_asleep(opener->sleeper);
    support_gate_open(&opener->target);
    return 0;
}

static void test_closed_while_the_sender_sleeps(void **state)
{
    (void)state;
    for (uint32_t received = 0; received < 10; received += 3) {
        struct opener *opener = support_shared_new(sizeof *opener);

        support_gate_init(&opener->go);
        support_gate_init(&opener->target);
        const pid_t helper = support_child(open_when_asleep, opener);
        struct victim victim = { .ends = ends_new(4), .ready = opener->target, .n = received };
        const pid_t pid = support_child(receive_and_close, &victim);

        EXPECT(vrd_cap_close(victim.ends.receive), 0);
        opener->sleeper = getpid();
        opener->full = received + 4;
        support_gate_open(&opener->go);
        int result;
        uint32_t sent = 0;
        while ((result = numbered_try_send(victim.ends.send, 0, sent, 24, VRD_FOREVER)) == 0)
            atomic_store(&opener->sent, ++sent);
        EXPECT(result, VRD_ERR_PEER_GONE);
        EXPECT(sent, received + 4);
        EXPECT(vrd_cap_close(victim.ends.send), 0);
        support_kill(pid);
        support_wait_exit(helper, 0);
        support_gate_deinit(&opener->go);
        support_gate_deinit(&opener->target);
        support_shared_free(opener, sizeof *opener);
    }
}

/* ---- in the middle of everything ------------------------------------------------------------------ */

static int receive_for_ever(void *arg)
{
    const struct victim *victim = arg;
    struct number number;

    EXPECT(vrd_cap_close(victim->ends.send), 0);
    for (uint32_t i = 0;; i++) {
        support_require(numbered_receive_any(victim->ends.receive, &number, VRD_FOREVER) > 0);
        EXPECT(number.index, i);
    }
}

static void test_killed_at_random_instants(void **state)
{
    uint64_t seed = 88675123;

    (void)state;
    for (uint32_t round = 0; round < 120; round++) {
        struct victim victim = { .ends = ends_new(1 + random_next(&seed) % 40) };
        const pid_t pid = support_child(receive_for_ever, &victim);
        const uint32_t stop = (uint32_t)(random_next(&seed) % 2000);
        uint32_t sent = 0;
        int result;

        EXPECT(vrd_cap_close(victim.ends.receive), 0);
        for (; sent < stop; sent++)
            numbered_send(victim.ends.send, 0, sent, 8 + sent % (round % 2 ? 50 : 2000));
        support_require(kill(pid, SIGKILL) == 0);
        do
            result = numbered_try_send(victim.ends.send, 0, sent, 8 + sent % 50, VRD_FOREVER);
        while (result == 0 && ++sent);
        EXPECT(result, VRD_ERR_PEER_GONE);
        EXPECT(vrd_cap_close(victim.ends.send), 0);
        support_wait_signal(pid, SIGKILL);
    }
}

/* ---- programs ---------------------------------------------------------------------------------------- */

/* fds: an invitation to receive, a gate. */
static int role_receiver(struct support_role_args *args)
{
    const vrd_cap_t receive = import_at(args, 0);

    for (uint32_t i = 0; i < 5; i++)
        numbered_receive(receive, 0, i, 24);
    support_gate_open(&(struct support_gate){ args->fds[1] });
    return hold_and_stay(NULL);
}

static void test_a_killed_program(void **state)
{
    const struct ends ends = ends_new(4);
    struct support_gate ready;
    int invitation, result;

    (void)state;
    support_gate_init(&ready);
    EXPECT(vrd_cap_export(ends.receive, VRD_RIGHT_RECEIVE, &invitation), 0);
    const pid_t pid = support_spawn_role("receiver", (int[]){ invitation, ready.fd }, 2, NULL);
    EXPECT(close(invitation), 0);
    for (uint32_t i = 0; i < 9; i++)
        numbered_send(ends.send, 0, i, 24);
    support_gate_wait(&ready);
    EXPECT(numbered_try_send(ends.send, 0, 9, 24, 5 * MS), VRD_ERR_TIMEOUT);
    support_kill(pid);
    while ((result = numbered_try_send(ends.send, 0, 9, 24, VRD_FOREVER)) == 0)
        ;
    EXPECT(result, VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(ends.send), 0);
    support_gate_deinit(&ready);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_killed_while_the_sender_sleeps),
                     SUPPORT_TEST(test_killed_before_it_answered),
                     SUPPORT_TEST(test_a_child_of_the_receiver_does_not_delay_the_end),
                     SUPPORT_TEST(test_a_child_of_the_sender_does_not_delay_the_end),
                     SUPPORT_TEST(test_a_sender_with_room_is_told),
                     SUPPORT_TEST(test_closed_while_the_sender_sleeps),
                     SUPPORT_TEST(test_killed_at_random_instants),
                     SUPPORT_TEST(test_a_killed_program),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "receiver", role_receiver },
                     { 0 },
                 },
             .warm_up = channels_warm_up)
