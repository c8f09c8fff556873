/* SPDX-License-Identifier: MIT */
/* Senders that are killed: all that they had sent is read, then the end is seen. */
#include "process/channels.h"

#include <signal.h>

struct victim {
    struct ends ends;
    struct support_gate ready;
    uint32_t n;
    size_t len;
};

static int send_and_stay(void *arg)
{
    const struct victim *victim = arg;

    EXPECT(vrd_cap_close(victim->ends.receive), 0);
    for (uint32_t i = 0; i < victim->n; i++)
        numbered_send(victim->ends.send, 0, i, victim->len);
    support_gate_open(&victim->ready);
    support_sleep_ms(UINT32_MAX);
    return 1;
}

static int hold_and_stay(void *arg)
{
    (void)arg;
    support_sleep_ms(UINT32_MAX);
    return 1;
}

/* Kills `victim` when `sleeper` sleeps. */
struct killer {
    pid_t sleeper;
    pid_t victim;
};

static int kill_when_asleep(void *arg)
{
    const struct killer *killer = arg;

    support_wait_asleep(killer->sleeper);
    support_require(kill(killer->victim, SIGKILL) == 0);
    return 0;
}

/* The killer is forked before the channel, so that it holds nothing of it. */
struct killer_told {
    struct support_gate go;
    struct killer *killer;
};

static int kill_when_told(void *arg)
{
    const struct killer_told *told = arg;

    support_gate_wait(&told->go);
    return kill_when_asleep(told->killer);
}

static void receive_n(vrd_cap_t receive, uint32_t n, size_t len)
{
    for (uint32_t i = 0; i < n; i++)
        numbered_receive(receive, 0, i, len);
}

/* ---- while the receiver sleeps ----------------------------------------------------------------- */

static void kill_while_receiver_sleeps(uint32_t n, size_t len, bool read_first)
{
    struct killer_told told = { .killer = support_shared_new(sizeof *told.killer) };

    support_gate_init(&told.go);
    const pid_t killer = support_child(kill_when_told, &told);
    struct victim victim = { .ends = ends_new(16), .n = n, .len = len };
    support_gate_init(&victim.ready);
    const pid_t pid = support_child(send_and_stay, &victim);

    EXPECT(vrd_cap_close(victim.ends.send), 0);
    support_gate_wait(&victim.ready);
    if (read_first)
        receive_n(victim.ends.receive, n, len);
    *told.killer = (struct killer){ getpid(), pid };
    support_gate_open(&told.go);
    if (!read_first)
        receive_n(victim.ends.receive, n, len);
    EXPECT(vrd_receive(victim.ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_receive(victim.ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_receive_async(victim.ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(victim.ends.receive), 0);
    support_wait_signal(pid, SIGKILL);
    support_wait_exit(killer, 0);
    support_gate_deinit(&victim.ready);
    support_gate_deinit(&told.go);
    support_shared_free(told.killer, sizeof *told.killer);
}

static void test_killed_while_the_receiver_sleeps(void **state)
{
    (void)state;
    kill_while_receiver_sleeps(0, 8, true);
    kill_while_receiver_sleeps(1, 8, true);
    kill_while_receiver_sleeps(16, 60, true);
    kill_while_receiver_sleeps(5, 3000, true);
    kill_while_receiver_sleeps(5, 3000, false);
}

/* ---- with unread messages ------------------------------------------------------------------------ */

static void kill_with_unread(uint32_t slots, uint32_t n, size_t len, bool linked)
{
    struct victim victim = { .ends = ends_new(slots), .n = n, .len = len };

    support_gate_init(&victim.ready);
    const pid_t pid = support_child(send_and_stay, &victim);
    EXPECT(vrd_cap_close(victim.ends.send), 0);
    support_gate_wait(&victim.ready);
    if (linked)
        numbered_receive(victim.ends.receive, 0, 0, len);
    support_kill(pid);
    for (uint32_t i = linked ? 1 : 0; i < n; i++)
        numbered_receive(victim.ends.receive, 0, i, len);
    EXPECT(vrd_receive(victim.ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(victim.ends.receive), 0);
    support_gate_deinit(&victim.ready);
}

/* The ring is full. The owner has looked at the link before, or sees it only after the death. */
static void test_killed_with_unread_messages(void **state)
{
    static const size_t sizes[] = { 0, 8, 56, 64, 65, 4096 };

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        kill_with_unread(16, 16, sizes[i], false);
        kill_with_unread(16, 16, sizes[i], true);
        kill_with_unread(1, 1, sizes[i], false);
        kill_with_unread(1000, sizes[i] > 65 ? 60 : 1000, sizes[i], i % 2);
        kill_with_unread(3, 2, sizes[i], i % 2);
    }
}

/* ---- in the middle of everything ------------------------------------------------------------------ */

struct streamer {
    struct ends ends;
    size_t longest;
};

static int stream_for_ever(void *arg)
{
    const struct streamer *streamer = arg;

    EXPECT(vrd_cap_close(streamer->ends.receive), 0);
    for (uint32_t i = 0;; i++)
        numbered_send(streamer->ends.send, 0, i, 8 + i % streamer->longest);
}

/* Whatever the instant, what is read is a beginning of what was sent, without a gap or a tear. */
static void test_killed_at_random_instants(void **state)
{
    uint64_t seed = 521288629;

    (void)state;
    for (uint32_t round = 0; round < 120; round++) {
        struct streamer streamer = { ends_new(1 + random_next(&seed) % 40), round % 2 ? 50 : 3000 };
        const pid_t pid = support_child(stream_for_ever, &streamer);
        struct number number;
        int64_t result;

        EXPECT(vrd_cap_close(streamer.ends.send), 0);
        const uint32_t stop = (uint32_t)(random_next(&seed) % 2000);
        for (uint32_t i = 0; i < stop; i++) {
            support_require(numbered_receive_any(streamer.ends.receive, &number, VRD_FOREVER) > 0);
            EXPECT(number.index, i);
        }
        support_kill(pid);
        uint32_t next = stop;
        while ((result = numbered_receive_any(streamer.ends.receive, &number, VRD_FOREVER)) > 0)
            EXPECT(number.index, next++);
        EXPECT(result, VRD_ERR_PEER_GONE);
        EXPECT(vrd_cap_close(streamer.ends.receive), 0);
    }
}

/* ---- among others -------------------------------------------------------------------------------- */

static void test_one_of_several_is_killed(void **state)
{
    enum { SENDERS = 6 };
    struct streamer streamer = { ends_new(8), 100 };
    pid_t pids[SENDERS];
    uint32_t next[SENDERS] = { 0 };
    struct number number;

    (void)state;
    /* All stream as sender 0; the kernel's word for who it was tells them apart. */
    for (size_t i = 0; i < SENDERS; i++)
        pids[i] = support_child(stream_for_ever, &streamer);
    EXPECT(vrd_cap_close(streamer.ends.send), 0);
    uint8_t data[NUMBERED_MAX];
    struct vrd_message message = { .data = data, .size = sizeof data };
    int result;
    for (size_t alive = SENDERS; alive > 0; alive--) {
        for (size_t i = 0; i < 2000; i++) {
            EXPECT(vrd_receive_message(streamer.ends.receive, &message, VRD_FOREVER), 0);
            number = number_of(data);
            size_t s = 0;
            while (pids[s] != message.source.pid)
                support_require(++s < SENDERS);
            EXPECT(number.index, next[s]++);
        }
        support_kill(pids[alive - 1]);
    }
    while ((result = vrd_receive_message(streamer.ends.receive, &message, VRD_FOREVER)) == 0)
        ;
    EXPECT(result, VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(streamer.ends.receive), 0);
}

/* ---- beside innocent children ---------------------------------------------------------------------- */

/* The sender's child has closed what it inherited, and outlives its parent. */
static int close_and_stay(void *arg)
{
    const struct victim *victim = arg;

    EXPECT(vrd_cap_close(victim->ends.send), 0);
    return hold_and_stay(NULL);
}

struct family {
    struct victim victim;
    pid_t *child; /* shared */
    int (*child_does)(void *);
};

static int send_with_a_child(void *arg)
{
    const struct family *family = arg;
    struct victim victim = family->victim;

    EXPECT(vrd_cap_close(victim.ends.receive), 0);
    for (uint32_t i = 0; i < victim.n; i++)
        numbered_send(victim.ends.send, 0, i, victim.len);
    *family->child = support_child(family->child_does, &victim);
    support_wait_asleep(*family->child);
    support_gate_open(&victim.ready);
    return hold_and_stay(NULL);
}

static void test_a_child_that_closed_does_not_delay_the_end(void **state)
{
    struct family family = {
        .victim = { .ends = ends_new(16), .n = 5, .len = 100 },
        .child = support_shared_new(sizeof(pid_t)),
        .child_does = close_and_stay,
    };

    (void)state;
    support_gate_init(&family.victim.ready);
    const pid_t pid = support_child(send_with_a_child, &family);
    EXPECT(vrd_cap_close(family.victim.ends.send), 0);
    support_gate_wait(&family.victim.ready);
    support_kill(pid);
    receive_n(family.victim.ends.receive, 5, 100);
    EXPECT(vrd_receive(family.victim.ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    support_require(kill(*family.child, SIGKILL) == 0);
    EXPECT(vrd_cap_close(family.victim.ends.receive), 0);
    support_gate_deinit(&family.victim.ready);
    support_shared_free(family.child, sizeof(pid_t));
}

/* A program started by the sender holds nothing, as all is close-on-exec. */
static int role_bystander(struct support_role_args *args)
{
    support_gate_open(&(struct support_gate){ args->fds[0] });
    return hold_and_stay(NULL);
}

static int send_with_a_program(void *arg)
{
    const struct family *family = arg;
    const struct victim *victim = &family->victim;

    EXPECT(vrd_cap_close(victim->ends.receive), 0);
    for (uint32_t i = 0; i < victim->n; i++)
        numbered_send(victim->ends.send, 0, i, victim->len);

    struct support_gate running;
    support_gate_init(&running);
    *family->child = support_spawn_role("bystander", &running.fd, 1, NULL);
    support_gate_wait(&running);
    support_gate_open(&victim->ready);
    return hold_and_stay(NULL);
}

static void test_a_program_of_the_sender_does_not_delay_the_end(void **state)
{
    struct family family = {
        .victim = { .ends = ends_new(16), .n = 5, .len = 100 },
        .child = support_shared_new(sizeof(pid_t)),
    };

    (void)state;
    support_gate_init(&family.victim.ready);
    const pid_t pid = support_child(send_with_a_program, &family);
    EXPECT(vrd_cap_close(family.victim.ends.send), 0);
    support_gate_wait(&family.victim.ready);
    support_kill(pid);
    receive_n(family.victim.ends.receive, 5, 100);
    EXPECT(vrd_receive(family.victim.ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    support_require(kill(*family.child, SIGKILL) == 0);
    EXPECT(vrd_cap_close(family.victim.ends.receive), 0);
    support_gate_deinit(&family.victim.ready);
    support_shared_free(family.child, sizeof(pid_t));
}

/* A child of the receiver that inherited everything must not keep a dead sender alive, either. */
static void test_a_child_of_the_receiver_does_not_delay_the_end(void **state)
{
    struct victim victim = { .ends = ends_new(16), .n = 5, .len = 100 };

    (void)state;
    support_gate_init(&victim.ready);
    const pid_t pid = support_child(send_and_stay, &victim);
    EXPECT(vrd_cap_close(victim.ends.send), 0);
    support_gate_wait(&victim.ready);
    receive_n(victim.ends.receive, 5, 100);
    const pid_t innocent = support_child(hold_and_stay, NULL);
    support_kill(pid);
    EXPECT(vrd_receive(victim.ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    support_kill(innocent);
    EXPECT(vrd_cap_close(victim.ends.receive), 0);
    support_gate_deinit(&victim.ready);
}

/* ---- programs ---------------------------------------------------------------------------------------- */

/* fds: an invitation, a gate. */
static int role_sender(struct support_role_args *args)
{
    const vrd_cap_t send = import_at(args, 0);

    for (uint32_t i = 0; i < 16; i++)
        numbered_send(send, 0, i, 8 + i * 40);
    support_gate_open(&(struct support_gate){ args->fds[1] });
    return hold_and_stay(NULL);
}

static void test_a_killed_program(void **state)
{
    (void)state;
    for (uint32_t look = 0; look <= 16; look += 8) {
        const struct ends ends = ends_new(16);
        struct support_gate ready;
        int invitation;

        support_gate_init(&ready);
        EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &invitation), 0);
        EXPECT(vrd_cap_close(ends.send), 0);
        const pid_t pid = support_spawn_role("sender", (int[]){ invitation, ready.fd }, 2, NULL);
        EXPECT(close(invitation), 0);
        support_gate_wait(&ready);
        for (uint32_t i = 0; i < look; i++)
            numbered_receive(ends.receive, 0, i, 8 + i * 40);
        support_kill(pid);
        for (uint32_t i = look; i < 16; i++)
            numbered_receive(ends.receive, 0, i, 8 + i * 40);
        EXPECT(vrd_receive(ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
        EXPECT(vrd_cap_close(ends.receive), 0);
        support_gate_deinit(&ready);
    }
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_killed_while_the_receiver_sleeps),
                     SUPPORT_TEST(test_killed_with_unread_messages),
                     SUPPORT_TEST(test_killed_at_random_instants),
                     SUPPORT_TEST(test_one_of_several_is_killed),
                     SUPPORT_TEST(test_a_child_that_closed_does_not_delay_the_end),
                     SUPPORT_TEST(test_a_program_of_the_sender_does_not_delay_the_end),
                     SUPPORT_TEST(test_a_child_of_the_receiver_does_not_delay_the_end),
                     SUPPORT_TEST(test_a_killed_program),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "bystander", role_bystander },
                     { "sender", role_sender },
                     { 0 },
                 },
             .warm_up = channels_warm_up)
