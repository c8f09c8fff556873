/* SPDX-License-Identifier: MIT */
/*
 * Capabilities that move between processes: forked and unrelated ones, in chains, and with one side
 * killed at any time: then they are closed, and whoever waits for their end sees it.
 *
 * ctest: timeout=180
 */
#include "process/channels.h"

#include <signal.h>

static void carry(vrd_cap_t through, const vrd_cap_t *caps, uint32_t n)
{
    struct vrd_message message = { .n_caps = n };

    memcpy(message.caps, caps, n * sizeof *caps);
    EXPECT(vrd_send_message(through, &message, VRD_FOREVER), 0);
}

static void carry_one(vrd_cap_t through, vrd_cap_t cap)
{
    carry(through, &cap, 1);
}

static uint32_t take(vrd_cap_t receive, vrd_cap_t caps[VRD_MESSAGE_CAPS_MAX])
{
    struct vrd_message message = { .max_caps = VRD_MESSAGE_CAPS_MAX };

    EXPECT(vrd_receive_message(receive, &message, VRD_FOREVER), 0);
    memcpy(caps, message.caps, sizeof message.caps);
    return message.n_caps;
}

static vrd_cap_t take_one(vrd_cap_t receive)
{
    vrd_cap_t caps[VRD_MESSAGE_CAPS_MAX];

    EXPECT(take(receive, caps), 1);
    return caps[0];
}

static int export(vrd_cap_t cap, uint32_t rights)
{
    int fd;

    EXPECT(vrd_cap_export(cap, rights, &fd), 0);
    return fd;
}

static void expect_end(vrd_cap_t receive)
{
    EXPECT(vrd_receive(receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(receive), 0);
}

/* ---- roles ---------------------------------------------------------------------------------- */

/* Passes on what comes: from the receiving end of a channel to the sending end of the next. */
static int role_stage(struct support_role_args *args)
{
    const vrd_cap_t from = import_at(args, 0), to = import_at(args, 1);
    struct vrd_message message = { .max_caps = VRD_MESSAGE_CAPS_MAX };
    int r;

    while ((r = vrd_receive_message(from, &message, VRD_FOREVER)) == 0)
        EXPECT(vrd_send_message(to, &message, VRD_FOREVER), 0);
    EXPECT(r, VRD_ERR_PEER_GONE);
    return 0;
}

/* Sends a number with each capability that comes and closes it. */
static int role_user(struct support_role_args *args)
{
    const vrd_cap_t from = import_at(args, 0);
    struct vrd_message message = { .max_caps = VRD_MESSAGE_CAPS_MAX };
    uint32_t index = 0;
    int r;

    while ((r = vrd_receive_message(from, &message, VRD_FOREVER)) == 0)
        for (uint32_t i = 0; i < message.n_caps; i++) {
            numbered_send(message.caps[i], 5, index++, 100);
            EXPECT(vrd_cap_close(message.caps[i]), 0);
        }
    EXPECT(r, VRD_ERR_PEER_GONE);
    return 0;
}

/* Calls with a capability, and uses what the answer brings. */
static int role_client(struct support_role_args *args)
{
    const vrd_cap_t server = import_at(args, 0);

    for (uint32_t i = 0; i < 20; i++) {
        struct ends ends = ends_new(4);
        struct vrd_message request = { .n_caps = 1, .caps = { ends.send } };
        struct vrd_message reply = { .max_caps = 1 };

        EXPECT(vrd_call_message(server, &request, &reply, VRD_FOREVER), 0);
        EXPECT(reply.n_caps, 1);
        numbered_receive(ends.receive, 7, i, 50);
        numbered_send(reply.caps[0], 8, i, 50);
        EXPECT(vrd_cap_close(reply.caps[0]), 0);
        expect_end(ends.receive);
    }
    return 0;
}

/* Answers the calls whose reply capabilities come, in threes and backwards. */
static int role_answerer(struct support_role_args *args)
{
    const vrd_cap_t from = import_at(args, 0);
    struct vrd_message message = { .max_caps = VRD_MESSAGE_CAPS_MAX };
    int r;

    while ((r = vrd_receive_message(from, &message, VRD_FOREVER)) == 0)
        for (uint32_t i = message.n_caps; i-- > 0;)
            EXPECT(vrd_reply(message.caps[i], "elsewhere", 9), 0);
    EXPECT(r, VRD_ERR_PEER_GONE);
    return 0;
}

static pid_t start(const char *role, const int *fds, size_t n)
{
    const pid_t pid = support_spawn_role(role, fds, n, NULL);

    for (size_t i = 0; i < n; i++)
        close(fds[i]);
    return pid;
}

/* ---- chains --------------------------------------------------------------------------------- */

/* Through two other processes and back, both kinds. */
static void test_round_a_ring(void **state)
{
    struct ends out = ends_new(4), between = ends_new(4), back = ends_new(4), ends = ends_new(8);
    pid_t pids[2];

    (void)state;
    pids[0] = start(
        "stage",
        (int[]){ export(out.receive, VRD_RIGHT_RECEIVE), export(between.send, VRD_RIGHT_SEND) }, 2);
    pids[1] = start(
        "stage",
        (int[]){ export(between.receive, VRD_RIGHT_RECEIVE), export(back.send, VRD_RIGHT_SEND) },
        2);
    EXPECT(vrd_cap_close(between.send), 0);
    EXPECT(vrd_cap_close(back.send), 0);
    for (uint32_t i = 0; i < 20; i++) {
        const vrd_cap_t caps[2] = { ends.send, ends.receive };
        vrd_cap_t moved[VRD_MESSAGE_CAPS_MAX];

        numbered_send(ends.send, 1, i, 100); /* one more on its way, in the link that it has here */
        if (i % 2 == 0) {
            numbered_receive(ends.receive, 1, i, 100);
            carry_one(out.send, ends.send);
            ends.send = take_one(back.receive);
            continue;
        }
        EXPECT(vrd_cap_close(ends.send), 0);
        numbered_receive(ends.receive, 1, i, 100);
        EXPECT(vrd_receive(ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
        EXPECT(vrd_cap_close(ends.receive), 0);
        ends = ends_new(8);
        memcpy(moved, caps, sizeof caps);
        carry(out.send, (vrd_cap_t[]){ ends.send, ends.receive }, 2);
        EXPECT(take(back.receive, moved), 2);
        ends = (struct ends){ moved[0], moved[1] };
    }
    EXPECT(vrd_cap_close(out.send), 0);
    expect_end(back.receive);
    for (int i = 0; i < 2; i++)
        support_wait_exit(pids[i], 0);
    numbered_send(ends.send, 1, 99, 100);
    numbered_receive(ends.receive, 1, 99, 100);
    ends_close(&ends);
}

/* The owner stays here, its senders go through one process to another and are used there. */
static void test_used_two_processes_away(void **state)
{
    struct ends out = ends_new(4), between = ends_new(4), ends = ends_new(8);
    pid_t pids[2];
    uint32_t index = 0;

    (void)state;
    pids[0] = start(
        "stage",
        (int[]){ export(out.receive, VRD_RIGHT_RECEIVE), export(between.send, VRD_RIGHT_SEND) }, 2);
    pids[1] = start("user", (int[]){ export(between.receive, VRD_RIGHT_RECEIVE) }, 1);
    EXPECT(vrd_cap_close(between.send), 0);
    for (uint32_t n = 1; n <= VRD_MESSAGE_CAPS_MAX; n++) {
        vrd_cap_t caps[VRD_MESSAGE_CAPS_MAX];
        uint32_t seen = 0;

        for (uint32_t i = 0; i < n; i++)
            EXPECT(vrd_cap_derive_badged(ends.send, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, 100 + i,
                                         &caps[i]),
                   0);
        carry(out.send, caps, n);
        for (uint32_t i = 0; i < n; i++) {
            struct vrd_message in = { .data = (char[100]){ 0 }, .size = 100 };

            uint32_t at;

            EXPECT(vrd_receive_message(ends.receive, &in, VRD_FOREVER), 0);
            at = number_of(in.data).index;
            support_require(at - index < n && !(seen & 1U << (at - index))); /* in any order */
            number_check(in.data, in.len, (struct number){ 5, at });
            EXPECT(in.badge, 100 + at - index);
            EXPECT(in.source.pid, pids[1]);
            seen |= 1U << (at - index);
        }
        index += n;
    }
    EXPECT(vrd_cap_close(out.send), 0);
    for (int i = 0; i < 2; i++)
        support_wait_exit(pids[i], 0);
    EXPECT(vrd_cap_close(ends.send), 0);
    expect_end(ends.receive);
}

/* ---- calls ---------------------------------------------------------------------------------- */

static void test_calls_both_ways(void **state)
{
    vrd_cap_t endpoint;
    uint64_t id;
    pid_t pid;

    (void)state;
    EXPECT(vrd_endpoint_create(&id, &endpoint), 0);
    pid = start("client", (int[]){ export(endpoint, VRD_RIGHT_SEND) }, 1);
    for (uint32_t i = 0; i < 20; i++) {
        struct ends ends = ends_new(4);
        struct vrd_message request = { .max_caps = 1 }, reply = { .n_caps = 1 };
        vrd_cap_t answer;

        EXPECT(vrd_receive_call(endpoint, &request, &answer, VRD_FOREVER), 0);
        EXPECT(request.n_caps, 1);
        reply.caps[0] = ends.send;
        EXPECT(vrd_reply_message(answer, &reply), 0);
        numbered_send(request.caps[0], 7, i, 50);
        numbered_receive(ends.receive, 8, i, 50);
        EXPECT(vrd_cap_close(request.caps[0]), 0);
        expect_end(ends.receive);
    }
    support_wait_exit(pid, 0);
    EXPECT(vrd_cap_close(endpoint), 0);
}

struct callers {
    vrd_cap_t endpoint;
    uint32_t n;
};

static int call_some(void *arg)
{
    const struct callers *callers = arg;

    for (uint32_t i = 0; i < callers->n; i++) {
        char reply[16];

        EXPECT(vrd_call(callers->endpoint, &i, sizeof i, reply, sizeof reply, VRD_FOREVER), 9);
        EXPECT(memcmp(reply, "elsewhere", 9), 0);
    }
    return 0;
}

static void test_answered_by_another_process(void **state)
{
    struct ends out = ends_new(4);
    struct callers callers = { .n = 30 };
    pid_t clients[3], answerer;
    uint64_t id;

    (void)state;
    EXPECT(vrd_endpoint_create(&id, &callers.endpoint), 0);
    answerer = start("answerer", (int[]){ export(out.receive, VRD_RIGHT_RECEIVE) }, 1);
    for (int i = 0; i < 3; i++)
        clients[i] = support_child(call_some, &callers);
    for (uint32_t i = 0; i < callers.n; i++) {
        struct vrd_message request = { .data = &(uint32_t){ 0 }, .size = 4 };
        vrd_cap_t answers[3];

        for (int at = 0; at < 3; at++) /* of one client each: the others wait for theirs */
            EXPECT(vrd_receive_call(callers.endpoint, &request, &answers[at], VRD_FOREVER), 0);
        carry(out.send, answers, 3);
    }
    for (int i = 0; i < 3; i++)
        support_wait_exit(clients[i], 0);
    EXPECT(vrd_cap_close(out.send), 0);
    support_wait_exit(answerer, 0);
    EXPECT(vrd_cap_close(callers.endpoint), 0);
}

/* ---- fork ----------------------------------------------------------------------------------- */

static int send_one(void *arg)
{
    numbered_send(*(vrd_cap_t *)arg, 3, 0, 30);
    return 0;
}

/* A capability that came and was not used before the fork is the child's, too. */
static void test_children_inherit_what_came(void **state)
{
    struct ends way = ends_new(4), ends = ends_new(4);
    vrd_cap_t moved;

    (void)state;
    carry_one(way.send, ends.send);
    moved = take_one(way.receive);
    for (int i = 0; i < 2; i++) {
        const pid_t pid = support_child(send_one, &moved);

        numbered_receive(ends.receive, 3, 0, 30);
        support_wait_exit(pid, 0);
        numbered_send(moved, 4, (uint32_t)i, 30); /* the first time it has a link only now */
        numbered_receive(ends.receive, 4, (uint32_t)i, 30);
    }
    EXPECT(vrd_cap_close(moved), 0);
    expect_end(ends.receive);
    ends_close(&way);
}

/* What waits unread at the parent is not the child's. */
static int use_library(void *arg)
{
    struct ends ends = ends_new(2);

    (void)arg;
    ends_close(&ends);
    support_sleep_ms(100);
    return 0;
}

static void test_children_do_not_keep_what_is_unread(void **state)
{
    struct ends way = ends_new(4), ends = ends_new(4);
    pid_t pid;

    (void)state;
    EXPECT(vrd_send(way.send, "", 0), 0);
    EXPECT(vrd_receive(way.receive, NULL, 0), 0);
    carry_one(way.send, ends.send);
    EXPECT(vrd_receive_timed(ends.receive, NULL, 0, MS), VRD_ERR_TIMEOUT); /* it has come over */
    pid = support_child(use_library, NULL);
    EXPECT(vrd_receive(way.receive, NULL, 0), 0);
    expect_end(ends.receive);
    support_wait_exit(pid, 0);
    ends_close(&way);
}

/* ---- deaths --------------------------------------------------------------------------------- */

static int role_sender(struct support_role_args *args)
{
    const vrd_cap_t to = import_at(args, 0), report = import_at(args, 1);

    for (;;) {
        struct ends ends = ends_new(4);

        carry_one(report, ends.receive);
        carry_one(to, ends.send);
    }
    return 0;
}

/* Whenever the sender dies, what was on its way ends here: each receiving end sees its end. */
static void test_sender_killed(void **state)
{
    (void)state;
    for (size_t round = 0; round < support_iterations(60); round++) {
        struct ends way = ends_new(4), report = ends_new(64);
        struct vrd_message message = { .max_caps = 1 };
        vrd_cap_t receivers[1000];
        uint32_t n = 0;
        pid_t pid;
        int r = 0;

        pid = start(
            "sender",
            (int[]){ export(way.send, VRD_RIGHT_SEND), export(report.send, VRD_RIGHT_SEND) }, 2);
        EXPECT(vrd_cap_close(way.send), 0);
        EXPECT(vrd_cap_close(report.send), 0);
        for (size_t i = 0; i < round % 20; i++) {
            receivers[n++] = take_one(report.receive);
            EXPECT(vrd_receive(way.receive, NULL, 0), 0); /* not wanted */
        }
        if (round % 3 == 0)
            support_sleep_ms(1);
        support_kill(pid);
        while (n < 1000 && (r = vrd_receive_message(report.receive, &message, VRD_FOREVER)) == 0)
            if (message.caps[0] != VRD_CAP_NONE)
                receivers[n++] = message.caps[0];
        EXPECT(r, VRD_ERR_PEER_GONE);
        if (round % 2 == 0)
            EXPECT(vrd_cap_close(way.receive), 0); /* with what is unread */
        else
            while (vrd_receive(way.receive, NULL, 0) >= 0)
                ;
        for (uint32_t i = 0; i < n; i++)
            expect_end(receivers[i]);
        if (round % 2 == 1)
            EXPECT(vrd_cap_close(way.receive), 0);
        EXPECT(vrd_cap_close(report.receive), 0);
    }
}

static int role_sleeper(struct support_role_args *args)
{
    const vrd_cap_t from = import_at(args, 0);
    vrd_cap_t caps[VRD_MESSAGE_CAPS_MAX];

    for (int i = 0; i < 3; i++)
        take(from, caps); /* some used, some not, some unread */
    EXPECT(vrd_send(caps[0], NULL, 0), 0);
    support_gate_wait(&(struct support_gate){ args->fds[1] });
    return 0;
}

/* All that the receiver had, read or not, used or not, is closed when it dies. */
static void test_receiver_killed(void **state)
{
    (void)state;
    for (size_t round = 0; round < support_iterations(20); round++) {
        struct ends way = ends_new(8), ends[6][2];
        struct support_gate never;
        pid_t pid;
        int fd;

        support_gate_init(&never);
        fd = export(way.receive, VRD_RIGHT_RECEIVE);
        pid = support_spawn_role("sleeper", (int[]){ fd, never.fd }, 2, NULL);
        close(fd);
        for (int i = 0; i < 6; i++) {
            vrd_cap_t caps[2];

            for (int at = 0; at < 2; at++) {
                ends[i][at] = ends_new(4);
                caps[at] = ends[i][at].send;
            }
            carry(way.send, caps, 2);
        }
        EXPECT(vrd_receive(ends[2][0].receive, NULL, 0), 0); /* the third has been taken */
        support_kill(pid);
        for (int i = 0; i < 6; i++)
            for (int at = 0; at < 2; at++)
                expect_end(ends[i][at].receive);
        EXPECT(vrd_send(way.send, NULL, 0), VRD_ERR_PEER_GONE);
        EXPECT(vrd_cap_close(way.send), 0);
        support_gate_deinit(&never);
    }
}

static int role_keeper(struct support_role_args *args)
{
    take_one(import_at(args, 0));
    support_gate_open(&(struct support_gate){ args->fds[1] });
    pause();
    return 0;
}

static int call_in_vain(void *arg)
{
    const struct callers *callers = arg;

    EXPECT(vrd_call(callers->endpoint, "", 0, NULL, 0, VRD_FOREVER), VRD_ERR_PEER_GONE);
    return 0;
}

/* Whoever holds a reply capability dies: the caller is told, by the server's reactor. */
static void test_answerer_killed(void **state)
{
    (void)state;
    for (size_t round = 0; round < support_iterations(20); round++) {
        struct ends out = ends_new(4);
        struct callers callers = { .n = 1 };
        struct vrd_message request = { .data = &(uint32_t){ 0 }, .size = 4 };
        struct support_gate taken;
        vrd_cap_t answer;
        pid_t pid;
        uint64_t id;
        int fd;

        support_gate_init(&taken);
        EXPECT(vrd_endpoint_create(&id, &callers.endpoint), 0);
        fd = export(out.receive, VRD_RIGHT_RECEIVE);
        pid = support_spawn_role("keeper", (int[]){ fd, taken.fd }, 2, NULL);
        close(fd);
        const pid_t caller = support_child(call_in_vain, &callers);
        EXPECT(vrd_receive_call(callers.endpoint, &request, &answer, VRD_FOREVER), 0);
        carry_one(out.send, answer);
        if (round % 2 == 0)
            support_gate_wait(&taken);
        support_kill(pid);
        support_wait_exit(caller, 0);
        EXPECT(vrd_cap_close(callers.endpoint), 0);
        EXPECT(vrd_cap_close(out.send), 0);
        support_gate_deinit(&taken);
    }
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_round_a_ring),
                     SUPPORT_TEST(test_used_two_processes_away),
                     SUPPORT_TEST(test_calls_both_ways),
                     SUPPORT_TEST(test_answered_by_another_process),
                     SUPPORT_TEST(test_children_inherit_what_came),
                     SUPPORT_TEST(test_children_do_not_keep_what_is_unread),
                     SUPPORT_TEST_TIMEOUT(test_sender_killed, 60),
                     SUPPORT_TEST_TIMEOUT(test_receiver_killed, 60),
                     SUPPORT_TEST_TIMEOUT(test_answerer_killed, 60),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "stage", role_stage },
                     { "user", role_user },
                     { "client", role_client },
                     { "answerer", role_answerer },
                     { "sender", role_sender },
                     { "sleeper", role_sleeper },
                     { "keeper", role_keeper },
                     { 0 },
                 },
             .warm_up = channels_warm_up);
