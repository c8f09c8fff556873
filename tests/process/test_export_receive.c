/* SPDX-License-Identifier: MIT */
/* RECEIVE moves, with all that is queued; and nothing is lost on the way. */
#include "process/channels.h"

#include <fcntl.h>
#include <sys/resource.h>

/* Moves RECEIVE out of this process and in again. */
static vrd_cap_t move(vrd_cap_t receive)
{
    vrd_cap_t moved;
    int invitation;

    EXPECT(vrd_cap_export(receive, VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT, &invitation), 0);
    EXPECT(vrd_receive_async(receive, NULL, 0), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_cap_close(receive), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(fcntl(invitation, F_GETFD), FD_CLOEXEC);
    EXPECT(vrd_cap_import(invitation, &moved), 0);
    support_require(moved != receive);
    return moved;
}

static void test_queued_messages_survive(void **state)
{
    struct ends ends = ends_new(16);
    struct vrd_cap_info info;

    (void)state;
    for (uint32_t i = 0; i < 15; i++)
        numbered_send(ends.send, 2, i, 8 + i * 100);
    ends.receive = move(ends.receive);
    EXPECT(vrd_cap_info(ends.receive, &info), 0);
    EXPECT(info.rights, VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT);
    EXPECT(info.slots, 16);
    EXPECT(info.max_message_size, VRD_CHANNEL_MESSAGE_DEFAULT);
    numbered_send(ends.send, 2, 15, 8 + 1500);
    EXPECT(numbered_try_send(ends.send, 2, 16, 8, 0), VRD_ERR_CHANNEL_FULL);
    for (uint32_t i = 0; i < 16; i++)
        numbered_receive(ends.receive, 2, i, 8 + i * 100);
    EXPECT(vrd_cap_close(ends.send), 0);
    EXPECT(vrd_receive(ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

static void test_moves_many_times(void **state)
{
    struct ends ends = ends_new(8);
    vrd_cap_t others[3];

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        others[i] = sender_new(ends.send);
        numbered_send(others[i], i, 0, 100);
    }
    for (uint32_t i = 0; i < 8; i++) {
        ends.receive = move(ends.receive);
        numbered_send(ends.send, 3, i, 30);
    }
    const uint32_t counts[4] = { 1, 1, 1, 8 };
    for (uint32_t i = 0; i < 3; i++)
        EXPECT(vrd_cap_close(others[i]), 0);
    EXPECT(vrd_cap_close(ends.send), 0);
    numbered_drain(ends.receive, counts, 4);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

static void test_senders_that_are_gone_are_heard(void **state)
{
    struct ends ends = ends_new(8);

    (void)state;
    for (uint32_t i = 0; i < 8; i++)
        numbered_send(ends.send, 1, i, 70);
    EXPECT(vrd_cap_close(ends.send), 0);
    ends.receive = move(ends.receive);
    const uint32_t counts[2] = { 0, 8 };
    numbered_drain(ends.receive, counts, 2);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

static void test_busy_while_a_link_is_live(void **state)
{
    struct ends ends = ends_new(8);
    int fd = -77;

    (void)state;
    const vrd_cap_t other = sender_new(ends.send);
    for (uint32_t i = 0; i < 5; i++) {
        numbered_send(other, 1, i, 30);
        numbered_receive(ends.receive, 1, i, 30);
        EXPECT(vrd_cap_export(ends.receive, VRD_RIGHT_RECEIVE, &fd), VRD_ERR_RESOURCE_BUSY);
        EXPECT(fd, -77);
    }
    numbered_send(other, 1, 5, 30);
    EXPECT(vrd_cap_close(other), 0);
    numbered_receive(ends.receive, 1, 5, 30);
    /* Once the link has ended and is empty, RECEIVE may go. */
    while (vrd_cap_export(ends.receive, VRD_RIGHT_RECEIVE, &fd) == VRD_ERR_RESOURCE_BUSY)
        EXPECT(vrd_receive_timed(ends.receive, NULL, 0, MS), VRD_ERR_TIMEOUT);
    EXPECT(vrd_cap_import(fd, &ends.receive), 0);
    numbered_send(ends.send, 2, 0, 30);
    numbered_receive(ends.receive, 2, 0, 30);
    ends_close(&ends);
}

static void test_without_grant_it_stays(void **state)
{
    struct ends ends = ends_new(8);
    vrd_cap_t moved;
    int fd;

    (void)state;
    EXPECT(vrd_cap_export(ends.receive, VRD_RIGHT_RECEIVE, &fd), 0);
    EXPECT(vrd_cap_import(fd, &moved), 0);
    fd = -77;
    EXPECT(vrd_cap_export(moved, VRD_RIGHT_RECEIVE, &fd), VRD_ERR_PERMISSION_DENIED);
    EXPECT(fd, -77);
    numbered_send(ends.send, 1, 0, 30);
    numbered_receive(moved, 1, 0, 30);
    ends_close(&(struct ends){ ends.send, moved });
}

static void test_refused_rights(void **state)
{
    const struct ends ends = ends_new(8);
    int fd = -77;

    (void)state;
    EXPECT(vrd_cap_export(ends.receive, 0, &fd), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_export(ends.receive, VRD_RIGHT_RECEIVE | 1u << 20, &fd),
           VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_export(ends.receive, VRD_RIGHT_RECEIVE | VRD_RIGHT_SEND, &fd),
           VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_export(ends.receive, VRD_RIGHT_RECEIVE, NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(fd, -77);
    numbered_send(ends.send, 1, 0, 30);
    numbered_receive(ends.receive, 1, 0, 30);
    ends_close(&ends);
}

static void test_withdrawn(void **state)
{
    const struct ends ends = ends_new(8);
    int fd;

    (void)state;
    numbered_send(ends.send, 1, 0, 30);
    EXPECT(vrd_cap_export(ends.receive, VRD_RIGHT_RECEIVE, &fd), 0);
    numbered_send(ends.send, 1, 1, 30);
    EXPECT(close(fd), 0);
    int result;
    while ((result = numbered_try_send(ends.send, 1, 2, 30, MS)) != VRD_ERR_PEER_GONE)
        support_require(result == 0 || result == VRD_ERR_TIMEOUT);
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &fd), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(ends.send), 0);
}

static void test_works_once(void **state)
{
    struct ends ends = ends_new(8);
    vrd_cap_t second = 99;
    int fd;

    (void)state;
    EXPECT(vrd_cap_export(ends.receive, VRD_RIGHT_RECEIVE, &fd), 0);
    const int copy = dup(fd);
    EXPECT(vrd_cap_import(fd, &ends.receive), 0);
    EXPECT(vrd_cap_import(copy, &second), VRD_ERR_PEER_GONE);
    EXPECT(second, 99);
    EXPECT(fcntl(copy, F_GETFD), -1);
    numbered_send(ends.send, 1, 0, 30);
    numbered_receive(ends.receive, 1, 0, 30);
    ends_close(&ends);
}

/* Invitations that nobody has used yet go along, be they many. */
static void test_unused_invitations_move_too(void **state)
{
    enum { INVITATIONS = 600 };
    static int invitations[INVITATIONS];
    struct ends ends = ends_new(2);
    struct rlimit before;

    (void)state;
    EXPECT(getrlimit(RLIMIT_NOFILE, &before), 0);
    if (before.rlim_max < 8192)
        skip();
    EXPECT(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 8192, before.rlim_max }), 0);
    for (size_t i = 0; i < INVITATIONS; i++)
        EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &invitations[i]), 0);
    ends.receive = move(ends.receive);
    for (uint32_t i = 0; i < INVITATIONS; i++) {
        vrd_cap_t cap;

        EXPECT(vrd_cap_import(invitations[i], &cap), 0);
        numbered_send(cap, i, 0, 20);
        EXPECT(vrd_cap_close(cap), 0);
        numbered_receive(ends.receive, i, 0, 20);
    }
    ends_close(&ends);
    EXPECT(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* ---- to another program ----------------------------------------------------------------------- */

/* fd: an invitation to receive; drains what one sender sends: the number given. */
/* Of changing rights, so that each needs a datagram of its own to move. */
static void test_more_invitations_than_can_move(void **state)
{
    const struct ends ends = ends_new(4);
    static int invitations[800];
    int moved = -77;

    (void)state;
    for (size_t i = 0; i < 800; i++)
        EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND | (i % 2 ? VRD_RIGHT_GRANT : 0),
                              &invitations[i]),
               0);
    EXPECT(vrd_cap_export(ends.receive, VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT, &moved),
           VRD_ERR_QUOTA_EXCEEDED);
    EXPECT(moved, -77);
    /* All is as it was. */
    numbered_send(ends.send, 0, 0, 8);
    numbered_receive(ends.receive, 0, 0, 8);
    for (size_t i = 0; i < 800; i++)
        EXPECT(close(invitations[i]), 0);
    ends_close(&ends);
}

static int role_receiver(struct support_role_args *args)
{
    const vrd_cap_t receive = import_at(args, 0);
    const uint32_t counts[1] = { (uint32_t)strtoul(args->args[0], NULL, 10) };

    numbered_drain(receive, counts, 1);
    EXPECT(vrd_cap_close(receive), 0);
    return 0;
}

static pid_t spawn_receiver(vrd_cap_t receive, const char *count)
{
    const char *const args[] = { count, NULL };
    int fd;

    EXPECT(vrd_cap_export(receive, VRD_RIGHT_RECEIVE, &fd), 0);
    const pid_t pid = support_spawn_role("receiver", &fd, 1, args);
    EXPECT(close(fd), 0);
    return pid;
}

static void test_another_program_receives(void **state)
{
    const struct ends ends = ends_new(16);

    (void)state;
    /* Some before it moves, some after. */
    for (uint32_t i = 0; i < 10; i++)
        numbered_send(ends.send, 0, i, 8 + i * 30);
    const pid_t pid = spawn_receiver(ends.receive, "2000");
    for (uint32_t i = 10; i < 2000; i++)
        numbered_send(ends.send, 0, i, 8 + i % 300);
    EXPECT(vrd_cap_close(ends.send), 0);
    support_wait_exit(pid, 0);
}

static void test_sender_sees_the_new_owner_die(void **state)
{
    const struct ends ends = ends_new(4);
    struct vrd_cap_info info = { 0 };
    int result;

    (void)state;
    const pid_t pid = spawn_receiver(ends.receive, "1000000");
    for (uint32_t i = 0; info.owner == 0; i++) {
        numbered_send(ends.send, 0, i, 8);
        EXPECT(vrd_cap_info(ends.send, &info), 0);
    }
    EXPECT(info.owner, pid);
    support_kill(pid);
    while ((result = numbered_try_send(ends.send, 0, 0, 8, VRD_FOREVER)) == 0)
        ;
    EXPECT(result, VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(ends.send), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_queued_messages_survive),
                     SUPPORT_TEST(test_moves_many_times),
                     SUPPORT_TEST(test_senders_that_are_gone_are_heard),
                     SUPPORT_TEST(test_busy_while_a_link_is_live),
                     SUPPORT_TEST(test_without_grant_it_stays),
                     SUPPORT_TEST(test_refused_rights),
                     SUPPORT_TEST(test_withdrawn),
                     SUPPORT_TEST(test_works_once),
                     SUPPORT_TEST(test_unused_invitations_move_too),
                     SUPPORT_TEST(test_more_invitations_than_can_move),
                     SUPPORT_TEST(test_another_program_receives),
                     SUPPORT_TEST(test_sender_sees_the_new_owner_die),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "receiver", role_receiver },
                     { 0 },
                 },
             .warm_up = channels_warm_up)
