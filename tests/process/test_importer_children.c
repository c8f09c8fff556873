/* SPDX-License-Identifier: MIT */
/* Forked children of a process that imported its capability: they have only its tether. */
#include "process/channels.h"

struct inherited {
    vrd_cap_t cap;
    uint32_t sender;
};

static int send_inherited(void *arg)
{
    const struct inherited *inherited = arg;

    for (uint32_t i = 0; i < 100; i++)
        numbered_send(inherited->cap, inherited->sender, i, 8 + i);
    return 0;
}

static int do_nothing(void *arg)
{
    (void)arg;
    return 0;
}

static int fork_again(void *arg)
{
    const struct inherited *inherited = arg;
    struct inherited next = { inherited->cap, inherited->sender + 1 };

    /* Once before its own first use, once after it. */
    support_wait_exit(support_child(send_inherited, &next), 0);
    EXPECT(send_inherited(arg), 0);
    next.sender++;
    support_wait_exit(support_child(send_inherited, &next), 0);
    return 0;
}

/* Sender 0 is the importer, 1 and 2 its children, 3 to 5 a child with children of its own. */
static int role_importer_with_children(struct support_role_args *args)
{
    const vrd_cap_t cap = import_at(args, 0);
    struct inherited first = { cap, 1 }, second = { cap, 2 }, third = { cap, 3 };
    pid_t children[3];

    children[0] = support_child(send_inherited, &first);
    for (uint32_t i = 0; i < 50; i++)
        numbered_send(cap, 0, i, 8 + i);
    children[1] = support_child(send_inherited, &second);
    support_wait_exit(support_child(do_nothing, NULL), 0);
    children[2] = support_child(fork_again, &third);
    for (uint32_t i = 50; i < 100; i++)
        numbered_send(cap, 0, i, 8 + i);
    EXPECT(vrd_cap_close(cap), 0);
    for (size_t i = 0; i < 3; i++)
        support_wait_exit(children[i], 0);
    return 0;
}

static void test_children_of_an_importer(void **state)
{
    const uint32_t counts[6] = { 100, 100, 100, 100, 100, 100 };
    const struct ends ends = ends_new(4);
    int invitation;

    (void)state;
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &invitation), 0);
    EXPECT(vrd_cap_close(ends.send), 0);
    const pid_t pid = support_spawn_role("importer_with_children", &invitation, 1, NULL);
    EXPECT(close(invitation), 0);
    numbered_drain(ends.receive, counts, 6);
    support_wait_exit(pid, 0);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

/* The importer is killed; its child, which has not used the capability yet, is heard all the same. */
struct told {
    struct inherited inherited;
    struct support_gate go;
};

static int send_when_told(void *arg)
{
    struct told *told = arg;

    support_gate_wait(&told->go);
    return send_inherited(&told->inherited);
}

/* fds: an invitation, a gate for itself, a gate for the child. */
static int role_importer_to_kill(struct support_role_args *args)
{
    struct told told = { { import_at(args, 0), 1 }, { args->fds[2] } };

    for (uint32_t i = 0; i < 3; i++)
        numbered_send(told.inherited.cap, 0, i, 8);
    support_child(send_when_told, &told);
    support_gate_open(&(struct support_gate){ args->fds[1] });
    support_sleep_ms(UINT32_MAX);
    return 1;
}

static void test_child_of_a_killed_importer(void **state)
{
    const struct ends ends = ends_new(4);
    struct support_gate ready, go;
    int invitation;

    (void)state;
    support_gate_init(&ready);
    support_gate_init(&go);
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &invitation), 0);
    EXPECT(vrd_cap_close(ends.send), 0);
    const int fds[3] = { invitation, ready.fd, go.fd };
    const pid_t pid = support_spawn_role("importer_to_kill", fds, 3, NULL);
    EXPECT(close(invitation), 0);
    support_gate_wait(&ready);
    for (uint32_t i = 0; i < 3; i++)
        numbered_receive(ends.receive, 0, i, 8);
    support_kill(pid);
    EXPECT(vrd_receive_timed(ends.receive, NULL, 0, 50 * MS), VRD_ERR_TIMEOUT);
    support_gate_open(&go);
    for (uint32_t i = 0; i < 100; i++)
        numbered_receive(ends.receive, 1, i, 8 + i);
    EXPECT(vrd_receive(ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(ends.receive), 0);
    support_gate_deinit(&ready);
    support_gate_deinit(&go);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_children_of_an_importer),
                     SUPPORT_TEST(test_child_of_a_killed_importer),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "importer_with_children", role_importer_with_children },
                     { "importer_to_kill", role_importer_to_kill },
                     { 0 },
                 },
             .warm_up = channels_warm_up)
