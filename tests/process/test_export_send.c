/* SPDX-License-Identifier: MIT */
/* SEND for programs started with exec, and over SCM_RIGHTS, as often as anybody likes. */
#include "process/channels.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>

static uint32_t arg_number(const struct support_role_args *args, size_t i)
{
    support_require(i < args->n_args);
    return (uint32_t)strtoul(args->args[i], NULL, 10);
}

/* fd: an invitation. args: who, how many. */
static int role_sender(struct support_role_args *args)
{
    const vrd_cap_t send = import_at(args, 0);
    const uint32_t sender = arg_number(args, 0), n = arg_number(args, 1);

    for (uint32_t i = 0; i < n; i++)
        numbered_send(send, sender, i, 8 + i % 200);
    EXPECT(vrd_cap_close(send), 0);
    return 0;
}

static pid_t spawn_sender(vrd_cap_t cap, uint32_t sender, uint32_t n)
{
    char sender_text[16], n_text[16];
    const char *const args[] = { sender_text, n_text, NULL };
    int invitation;

    snprintf(sender_text, sizeof sender_text, "%u", sender);
    snprintf(n_text, sizeof n_text, "%u", n);
    EXPECT(vrd_cap_export(cap, VRD_RIGHT_SEND, &invitation), 0);
    const pid_t pid = support_spawn_role("sender", &invitation, 1, args);
    EXPECT(close(invitation), 0);
    return pid;
}

static void test_invitations_are_close_on_exec(void **state)
{
    const struct ends ends = ends_new(4);
    int invitation;

    (void)state;
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &invitation), 0);
    EXPECT(fcntl(invitation, F_GETFD), FD_CLOEXEC);
    EXPECT(close(invitation), 0);
    ends_close(&ends);
}

static void test_one_program_sends(void **state)
{
    const uint32_t counts[] = { 3000 };
    const struct ends ends = ends_new(16);
    const pid_t pid = spawn_sender(ends.send, 0, 3000);

    (void)state;
    EXPECT(vrd_cap_close(ends.send), 0);
    numbered_drain(ends.receive, counts, 1);
    EXPECT(vrd_cap_close(ends.receive), 0);
    support_wait_exit(pid, 0);
}

static void test_many_programs_send(void **state)
{
    enum { SENDERS = 10 };
    const struct ends ends = ends_new(3);
    uint32_t counts[SENDERS + 1] = { 0 };
    pid_t pids[SENDERS];

    (void)state;
    for (uint32_t i = 0; i < SENDERS; i++) {
        counts[i] = 300;
        pids[i] = spawn_sender(ends.send, i, 300);
    }
    counts[SENDERS] = 3;
    for (uint32_t i = 0; i < 3; i++)
        numbered_send(ends.send, SENDERS, i, 30);
    EXPECT(vrd_cap_close(ends.send), 0);
    numbered_drain(ends.receive, counts, SENDERS + 1);
    EXPECT(vrd_cap_close(ends.receive), 0);
    for (size_t i = 0; i < SENDERS; i++)
        support_wait_exit(pids[i], 0);
}

/* Import does not wait for the owner, nor do as many messages as fit. */
static void test_importer_does_not_wait_for_the_owner(void **state)
{
    const struct ends ends = ends_new(16);
    const uint32_t counts[] = { 16 };
    const pid_t pid = spawn_sender(ends.send, 0, 16);

    (void)state;
    support_wait_exit(pid, 0);
    EXPECT(vrd_cap_close(ends.send), 0);
    numbered_drain(ends.receive, counts, 1);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

/* ---- over a socket ---------------------------------------------------------------------------- */

/* fd: a socket over which invitations come, one after the other; args: how many. */
static int role_import_many(struct support_role_args *args)
{
    const uint32_t n = arg_number(args, 0);

    for (uint32_t i = 0; i < n; i++) {
        vrd_cap_t cap;

        EXPECT(vrd_cap_import(support_receive_fd(args->fds[0]), &cap), 0);
        numbered_send(cap, i, 0, 20);
        EXPECT(vrd_cap_close(cap), 0);
    }
    return 0;
}

static void test_a_thousand_invitations_over_a_socket(void **state)
{
    enum { INVITATIONS = 1000 };
    const struct ends ends = ends_new(16);
    const char *const args[] = { "1000", NULL };
    int sockets[2];

    (void)state;
    support_socket_pair(sockets);
    const pid_t pid = support_spawn_role("import_many", &sockets[1], 1, args);
    EXPECT(close(sockets[1]), 0);
    for (uint32_t i = 0; i < INVITATIONS; i++) {
        int invitation;

        EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &invitation), 0);
        support_send_fd(sockets[0], invitation);
        EXPECT(close(invitation), 0);
        numbered_receive(ends.receive, i, 0, 20);
    }
    EXPECT(close(sockets[0]), 0);
    support_wait_exit(pid, 0);
    ends_close(&ends);
}

/* All of them outstanding together. */
static void test_a_thousand_invitations_at_once(void **state)
{
    enum { INVITATIONS = 1000, AT_ONCE = 100 };
    const struct ends ends = ends_new(1);
    static int invitations[INVITATIONS];
    static uint8_t seen[INVITATIONS];
    struct rlimit before;

    (void)state;
    EXPECT(getrlimit(RLIMIT_NOFILE, &before), 0);
    if (before.rlim_max < 8192)
        skip();
    EXPECT(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 8192, before.rlim_max }), 0);
    for (size_t i = 0; i < INVITATIONS; i++)
        EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &invitations[i]), 0);
    EXPECT(vrd_cap_close(ends.send), 0);
    for (uint32_t i = 0; i < INVITATIONS; i++) {
        vrd_cap_t cap;

        EXPECT(vrd_cap_import(invitations[i], &cap), 0);
        numbered_send(cap, i, 0, 8);
        EXPECT(vrd_cap_close(cap), 0);
        for (size_t j = 0; j < AT_ONCE && (i + 1) % AT_ONCE == 0; j++) {
            struct number number;

            EXPECT(numbered_receive_any(ends.receive, &number, VRD_FOREVER), 8);
            support_require(number.sender <= i && !seen[number.sender]++);
        }
    }
    EXPECT(vrd_receive(ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(ends.receive), 0);
    EXPECT(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* More than a socket's queue holds, each withdrawn: the root must still have its turn. */
static void test_thousands_withdrawn(void **state)
{
    const struct ends ends = ends_new(8);
    int fd;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &fd), 0);
        EXPECT(close(fd), 0);
    }
    numbered_send(ends.send, 1, 0, 30);
    numbered_receive(ends.receive, 1, 0, 30);
    ends_close(&ends);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_thousands_withdrawn),
                     SUPPORT_TEST(test_invitations_are_close_on_exec),
                     SUPPORT_TEST(test_one_program_sends),
                     SUPPORT_TEST(test_many_programs_send),
                     SUPPORT_TEST(test_importer_does_not_wait_for_the_owner),
                     SUPPORT_TEST(test_a_thousand_invitations_over_a_socket),
                     SUPPORT_TEST(test_a_thousand_invitations_at_once),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "sender", role_sender },
                     { "import_many", role_import_many },
                     { 0 },
                 },
             .warm_up = channels_warm_up)
