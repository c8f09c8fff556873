/* SPDX-License-Identifier: MIT */
/* Invitations: used once, withdrawn, refused, and passed on by those who may. */
#include "process/channels.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* ---- one use only ------------------------------------------------------------------------------- */

/* Sends until it is told that nobody listens. */
static void expect_gone(vrd_cap_t cap)
{
    int result;

    while ((result = vrd_send_timed(cap, "unheard", 8, MS)) != VRD_ERR_PEER_GONE)
        support_require(result == 0 || result == VRD_ERR_TIMEOUT);
    EXPECT(vrd_send(cap, "unheard", 8), VRD_ERR_PEER_GONE);
    EXPECT(vrd_send_async(cap, "unheard", 8), VRD_ERR_PEER_GONE);
}

static void test_an_invitation_works_once(void **state)
{
    const struct ends ends = ends_new(16);
    vrd_cap_t first, second;
    int invitation;

    (void)state;
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &invitation), 0);
    const int copy = dup(invitation);
    EXPECT(vrd_cap_import(invitation, &first), 0);
    for (uint32_t i = 0; i < 3; i++)
        numbered_send(first, 0, i, 30);
    for (uint32_t i = 0; i < 3; i++)
        numbered_receive(ends.receive, 0, i, 30);

    const int result = vrd_cap_import(copy, &second);
    EXPECT(fcntl(copy, F_GETFD), -1);
    if (result == 0) {
        /* The owner has to look, and it looks when it receives. */
        numbered_send(first, 0, 3, 30);
        numbered_receive(ends.receive, 0, 3, 30);
        expect_gone(second);
        EXPECT(vrd_cap_close(second), 0);
    } else {
        EXPECT(result, VRD_ERR_PEER_GONE);
    }
    numbered_send(first, 0, 4, 30);
    numbered_receive(ends.receive, 0, 4, 30);
    EXPECT(vrd_receive_async(ends.receive, NULL, 0), VRD_ERR_CHANNEL_EMPTY);
    EXPECT(vrd_cap_close(first), 0);
    ends_close(&ends);
}

/* fds: an invitation that another process has, too, and a socket to report over.
 * Exits with 0 if it was heard, 1 if it was told that it is not. */
static int role_rival(struct support_role_args *args)
{
    vrd_cap_t cap;
    int result = vrd_cap_import(args->fds[0], &cap);

    /* More than fit: the last ones show that somebody reads. */
    for (uint32_t i = 0; result == 0 && i < 100; i++)
        result = numbered_try_send(cap, 0, i, 16, VRD_FOREVER);
    support_require(result == 0 || result == VRD_ERR_PEER_GONE);
    return result == 0 ? 0 : 1;
}

static void test_rivals_for_one_invitation(void **state)
{
    enum { RIVALS = 4 };
    const struct ends ends = ends_new(16);
    const uint32_t counts[] = { 100 };
    pid_t pids[RIVALS];
    size_t heard = 0;
    int invitation;

    (void)state;
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &invitation), 0);
    for (size_t i = 0; i < RIVALS; i++)
        pids[i] = support_spawn_role("rival", &invitation, 1, NULL);
    EXPECT(close(invitation), 0);
    EXPECT(vrd_cap_close(ends.send), 0);
    numbered_drain(ends.receive, counts, 1);
    for (size_t i = 0; i < RIVALS; i++) {
        int status;

        EXPECT(waitpid(pids[i], &status, 0), pids[i]);
        support_require(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        heard += WEXITSTATUS(status) == 0;
    }
    EXPECT(heard, 1);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

static void test_withdrawn_invitations(void **state)
{
    const struct ends ends = ends_new(4);
    int invitation;

    (void)state;
    for (size_t i = 0; i < 100; i++) {
        EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &invitation), 0);
        EXPECT(close(invitation), 0);
    }
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &invitation), 0);
    EXPECT(vrd_cap_close(ends.send), 0);
    /* Somebody may still come. */
    EXPECT(vrd_receive_timed(ends.receive, NULL, 0, 50 * MS), VRD_ERR_TIMEOUT);
    EXPECT(close(invitation), 0);
    EXPECT(vrd_receive(ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

static void test_invitation_of_an_owner_that_is_gone(void **state)
{
    const struct ends ends = ends_new(4);
    vrd_cap_t cap;
    int invitation;

    (void)state;
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &invitation), 0);
    EXPECT(vrd_cap_close(ends.receive), 0);
    const int result = vrd_cap_import(invitation, &cap);
    if (result == 0) {
        expect_gone(cap);
        EXPECT(vrd_cap_close(cap), 0);
    } else {
        EXPECT(result, VRD_ERR_PEER_GONE);
    }
    int fd = -77;
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &fd), VRD_ERR_PEER_GONE);
    EXPECT(fd, -77);
    EXPECT(vrd_send(ends.send, "x", 1), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(ends.send), 0);
}

/* ---- what is no invitation ------------------------------------------------------------------------ */

static void refuse_import(int fd)
{
    vrd_cap_t cap = 99;

    EXPECT(vrd_cap_import(fd, &cap), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(cap, 99);
    EXPECT(fcntl(fd, F_GETFD), -1);
}

static void test_other_descriptors_are_refused_and_closed(void **state)
{
    int pair[2];

    (void)state;
    refuse_import(-1);
    refuse_import(1 << 20);
    refuse_import(open("/dev/null", O_RDWR | O_CLOEXEC));
    refuse_import(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    refuse_import(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    support_require(pipe(pair) == 0);
    refuse_import(pair[0]);
    refuse_import(pair[1]);
    support_require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    refuse_import(pair[0]);
    close(pair[1]);
    refuse_import(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    refuse_import(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

/* A socket of the right kind, with something else to say, or nothing. */
static void test_strange_sockets(void **state)
{
    static const char noise[200] = "something else";
    const size_t lengths[] = { 1, 63, 64, 65, 200 };

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        vrd_cap_t cap = 99;
        int pair[2];

        support_socket_pair(pair);
        EXPECT(send(pair[1], noise, lengths[i], 0), lengths[i]);
        support_require(vrd_cap_import(pair[0], &cap) < 0);
        EXPECT(fcntl(pair[0], F_GETFD), -1);
        EXPECT(cap, 99);
        close(pair[1]);
    }
    support_require(
        vrd_cap_import(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), &(vrd_cap_t){ 0 }) < 0);
}

/* ---- rights ---------------------------------------------------------------------------------------- */

static void test_without_grant_nothing_is_passed_on(void **state)
{
    const struct ends ends = ends_new(4);
    struct vrd_cap_info info;
    int fd = -77;

    (void)state;
    const vrd_cap_t plain = sender_new(ends.send);
    EXPECT(vrd_cap_info(plain, &info), 0);
    EXPECT(info.rights, VRD_RIGHT_SEND);
    EXPECT(vrd_cap_export(plain, VRD_RIGHT_SEND, &fd), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_cap_export(plain, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &fd), VRD_ERR_PERMISSION_DENIED);
    EXPECT(fd, -77);
    char byte;
    EXPECT(vrd_receive_async(plain, &byte, 1), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_cap_close(plain), 0);
    ends_close(&ends);
}

/* fds: an invitation with GRANT, a socket to pass the next one over. */
static int role_granter(struct support_role_args *args)
{
    const vrd_cap_t cap = import_at(args, 0);
    struct vrd_cap_info info;
    int invitation;

    EXPECT(vrd_cap_info(cap, &info), 0);
    EXPECT(info.rights, VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
    EXPECT(vrd_cap_export(cap, VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_RECEIVE, &invitation),
           VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_export(cap, VRD_RIGHT_SEND, &invitation), 0);
    support_send_fd(args->fds[1], invitation);
    EXPECT(close(invitation), 0);
    numbered_send(cap, 0, 0, 30);
    return 0;
}

/* A holder with GRANT passes the right on, and may be gone before it is used. */
static void test_with_grant_a_holder_passes_it_on(void **state)
{
    const struct ends ends = ends_new(4);
    int sockets[2], invitation;
    vrd_cap_t passed;

    (void)state;
    support_socket_pair(sockets);
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &invitation), 0);
    EXPECT(vrd_cap_close(ends.send), 0);
    const int fds[2] = { invitation, sockets[1] };
    const pid_t pid = support_spawn_role("granter", fds, 2, NULL);
    EXPECT(close(invitation), 0);
    EXPECT(close(sockets[1]), 0);
    EXPECT(vrd_cap_import(support_receive_fd(sockets[0]), &passed), 0);
    numbered_send(passed, 1, 0, 30);
    support_wait_exit(pid, 0);

    const uint32_t counts[2] = { 1, 1 };
    EXPECT(vrd_cap_close(passed), 0);
    numbered_drain(ends.receive, counts, 2);
    EXPECT(vrd_cap_close(ends.receive), 0);
    EXPECT(close(sockets[0]), 0);
}

/* ---- an owner that does not look -------------------------------------------------------------------- */

struct quota {
    struct ends ends;
    struct support_gate full;
    struct support_gate looked;
};

static int export_until_refused(void *arg)
{
    const struct quota *quota = arg;
    static int invitations[4096];
    size_t n = 0;
    int result;

    EXPECT(vrd_cap_close(quota->ends.receive), 0);
    while ((result = vrd_cap_export(quota->ends.send, VRD_RIGHT_SEND, &invitations[n])) == 0)
        support_require(++n < 4096);
    EXPECT(result, VRD_ERR_QUOTA_EXCEEDED);
    support_require(n >= 16);
    support_gate_open(&quota->full);
    support_gate_wait(&quota->looked);

    int one_more;
    vrd_cap_t cap;
    while ((result = vrd_cap_export(quota->ends.send, VRD_RIGHT_SEND, &one_more)) != 0)
        EXPECT(result, VRD_ERR_QUOTA_EXCEEDED);
    EXPECT(vrd_cap_import(one_more, &cap), 0);
    numbered_send(cap, 1, 0, 10);
    EXPECT(vrd_cap_import(invitations[n / 2], &cap), 0);
    numbered_send(cap, 2, 0, 10);
    return 0;
}

static void test_invitations_that_the_owner_has_not_looked_at(void **state)
{
    struct quota quota = { .ends = ends_new(4) };
    const uint32_t counts[3] = { 0, 1, 1 };
    struct rlimit before;

    (void)state;
    EXPECT(getrlimit(RLIMIT_NOFILE, &before), 0);
    if (before.rlim_max < 8192)
        skip();
    EXPECT(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 8192, before.rlim_max }), 0);
    support_gate_init(&quota.full);
    support_gate_init(&quota.looked);
    const pid_t child = support_child(export_until_refused, &quota);
    EXPECT(vrd_cap_close(quota.ends.send), 0);
    support_gate_wait(&quota.full);
    EXPECT(vrd_receive_timed(quota.ends.receive, NULL, 0, 20 * MS), VRD_ERR_TIMEOUT);
    support_gate_open(&quota.looked);
    numbered_drain(quota.ends.receive, counts, 3);
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(quota.ends.receive), 0);
    support_gate_deinit(&quota.full);
    support_gate_deinit(&quota.looked);
    EXPECT(setrlimit(RLIMIT_NOFILE, &before), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_an_invitation_works_once),
                     SUPPORT_TEST(test_rivals_for_one_invitation),
                     SUPPORT_TEST(test_withdrawn_invitations),
                     SUPPORT_TEST(test_invitation_of_an_owner_that_is_gone),
                     SUPPORT_TEST(test_other_descriptors_are_refused_and_closed),
                     SUPPORT_TEST(test_strange_sockets),
                     SUPPORT_TEST(test_without_grant_nothing_is_passed_on),
                     SUPPORT_TEST(test_with_grant_a_holder_passes_it_on),
                     SUPPORT_TEST(test_invitations_that_the_owner_has_not_looked_at),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "rival", role_rival },
                     { "granter", role_granter },
                     { 0 },
                 },
             .warm_up = channels_warm_up)
