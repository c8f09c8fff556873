/* SPDX-License-Identifier: MIT */
/* Deriving: in one process and across several, over what a channel was born with and over a link;
 * rights that only shrink, and badges that the owner adds. */
#include "process/channels.h"

#include <sys/resource.h>

#define SENDER (VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

static struct vrd_cap_info info_of(vrd_cap_t cap)
{
    struct vrd_cap_info info;

    EXPECT(vrd_cap_info(cap, &info), 0);
    return info;
}

static vrd_cap_t derived(vrd_cap_t cap, uint32_t rights)
{
    vrd_cap_t ret;

    EXPECT(vrd_cap_derive(cap, rights, &ret), 0);
    return ret;
}

static vrd_cap_t badged(vrd_cap_t cap, uint32_t rights, uint64_t badge)
{
    vrd_cap_t ret;

    EXPECT(vrd_cap_derive_badged(cap, rights, badge, &ret), 0);
    return ret;
}

/* The next message is `value`, with that badge, from that process. */
static void receive_badged(vrd_cap_t cap, uint64_t value, uint64_t badge, pid_t pid)
{
    uint64_t got = 0;
    struct vrd_message message = { .data = &got, .size = sizeof got };

    EXPECT(vrd_receive_message(cap, &message, VRD_FOREVER), 0);
    EXPECT(message.len, sizeof got);
    EXPECT(got, value);
    EXPECT(message.badge, badge);
    EXPECT(message.source.pid, pid);
}

static void send_value(vrd_cap_t cap, uint64_t value)
{
    EXPECT(vrd_send(cap, &value, sizeof value), 0);
}

/* ---- in one process ------------------------------------------------------------------------- */

static void test_derived_capabilities_send(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t a = derived(ends.send, SENDER);
    const vrd_cap_t b = derived(a, VRD_RIGHT_SEND);

    (void)state;
    send_value(b, 1);
    receive_badged(ends.receive, 1, 0, getpid());
    send_value(a, 2);
    receive_badged(ends.receive, 2, 0, getpid());
    send_value(ends.send, 3);
    receive_badged(ends.receive, 3, 0, getpid());
    EXPECT(vrd_cap_close(a), 0);
    send_value(b, 4); /* goes on without what it was derived from */
    receive_badged(ends.receive, 4, 0, getpid());
    EXPECT(vrd_cap_close(b), 0);
    ends_close(&ends);
}

static void test_the_end_comes_with_the_last_derived_one(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t unused = derived(ends.send, SENDER);
    const vrd_cap_t below = derived(unused, VRD_RIGHT_SEND);
    char byte;

    (void)state;
    EXPECT(vrd_cap_close(ends.send), 0);
    EXPECT(vrd_receive_async(ends.receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
    EXPECT(vrd_cap_close(unused), 0);
    EXPECT(vrd_receive_async(ends.receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
    EXPECT(vrd_cap_close(below), 0);
    EXPECT(vrd_receive(ends.receive, &byte, 1), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

static void test_info_tells_rights_badge_and_depth(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t a = badged(ends.send, SENDER, UINT64_MAX);
    const vrd_cap_t b = derived(a, VRD_RIGHT_SEND | VRD_RIGHT_REVOKE);

    (void)state;
    EXPECT(info_of(ends.send).depth, 0);
    EXPECT(info_of(ends.send).badge, 0);
    EXPECT(info_of(a).depth, 1);
    EXPECT(info_of(a).rights, SENDER);
    support_require(info_of(a).badge == UINT64_MAX);
    EXPECT(info_of(b).depth, 2);
    EXPECT(info_of(b).rights, VRD_RIGHT_SEND | VRD_RIGHT_REVOKE);
    support_require(info_of(b).badge == UINT64_MAX);
    EXPECT(info_of(b).kind, VRD_OBJECT_CHANNEL);
    EXPECT(info_of(b).slots, 16);
    EXPECT(vrd_cap_close(a), 0);
    EXPECT(vrd_cap_close(b), 0);
    ends_close(&ends);
}

static void test_rights_only_shrink(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t no_grant = derived(ends.send, VRD_RIGHT_SEND | VRD_RIGHT_REVOKE);
    const vrd_cap_t no_revoke = derived(ends.send, VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
    vrd_cap_t none = 99;
    int fd = -7;

    (void)state;
    EXPECT(vrd_cap_derive(no_grant, VRD_RIGHT_SEND, &none), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_cap_derive_badged(no_grant, VRD_RIGHT_SEND, 1, &none), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_cap_derive(no_revoke, SENDER, &none), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_cap_export(no_revoke, SENDER, &fd), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_cap_derive(ends.receive, VRD_RIGHT_SEND, &none), VRD_ERR_PERMISSION_DENIED);
    EXPECT(none, 99);
    EXPECT(fd, -7);
    EXPECT(vrd_cap_close(no_grant), 0);
    EXPECT(vrd_cap_close(no_revoke), 0);
    ends_close(&ends);
}

static void test_arguments_that_make_no_sense(void **state)
{
    static const uint32_t wrong[] = { 0,
                                      VRD_RIGHT_GRANT,
                                      VRD_RIGHT_RECEIVE,
                                      VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE,
                                      VRD_RIGHT_SEND | 1u << 31,
                                      UINT32_MAX };
    const struct ends ends = ends_new(16);
    vrd_cap_t none = 99;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        EXPECT(vrd_cap_derive(ends.send, wrong[i], &none), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_derive(ends.send, VRD_RIGHT_SEND, NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_derive_badged(ends.send, VRD_RIGHT_SEND, 0, &none), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_derive(VRD_CAP_NONE, VRD_RIGHT_SEND, &none), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(none, 99);
    ends_close(&ends);
}

static void test_a_second_badge_is_refused(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t a = badged(ends.send, SENDER, 5);
    vrd_cap_t none = 99;

    (void)state;
    EXPECT(vrd_cap_derive_badged(a, SENDER, 6, &none), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_cap_derive_badged(a, SENDER, 5, &none), VRD_ERR_PERMISSION_DENIED);
    EXPECT(none, 99);
    EXPECT(vrd_cap_close(a), 0);
    ends_close(&ends);
}

/* Many more than a socket's queue holds: the owner is this very process, and reads on the way. */
static void test_more_than_the_queue_holds(void **state)
{
    enum { N = 350 };
    const struct ends ends = ends_new(4);
    const vrd_cap_t unused = derived(ends.send, SENDER);
    const vrd_cap_t used = derived(ends.send, SENDER);
    static vrd_cap_t caps[3 * N];
    struct rlimit before;

    (void)state;
    EXPECT(getrlimit(RLIMIT_NOFILE, &before), 0);
    if (before.rlim_max < 8192)
        skip();
    EXPECT(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 8192, before.rlim_max }), 0);
    send_value(used, 1);
    receive_badged(ends.receive, 1, 0, getpid());
    for (size_t i = 0; i < N; i++) {
        caps[3 * i] = badged(ends.send, VRD_RIGHT_SEND, 3 * i + 1);
        caps[3 * i + 1] = badged(unused, VRD_RIGHT_SEND, 3 * i + 2);
        caps[3 * i + 2] = badged(used, VRD_RIGHT_SEND, 3 * i + 3);
    }
    for (size_t i = 0; i < 3 * N; i += 97) {
        send_value(caps[i], i);
        receive_badged(ends.receive, i, i + 1, getpid());
    }
    for (size_t i = 0; i < 3 * N; i++)
        EXPECT(vrd_cap_close(caps[i]), 0);
    EXPECT(vrd_cap_close(unused), 0);
    EXPECT(vrd_cap_close(used), 0);
    ends_close(&ends);
    EXPECT(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* ---- across processes ----------------------------------------------------------------------- */

/* fds: an invitation, a socket. Derives with and without a badge, by itself and for others. */
static int role_deriver(struct support_role_args *args)
{
    const vrd_cap_t cap = import_at(args, 0);
    const vrd_cap_t mine = badged(cap, SENDER, 41);
    const vrd_cap_t below = derived(mine, VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
    int invitation;

    EXPECT(info_of(cap).depth, 1);
    EXPECT(info_of(below).depth, 3);
    EXPECT(info_of(below).badge, 41);
    send_value(cap, 1);
    send_value(mine, 2);
    send_value(below, 3);
    EXPECT(vrd_cap_export(below, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &invitation), 0);
    support_send_fd(args->fds[1], invitation);
    EXPECT(close(invitation), 0);
    EXPECT(vrd_cap_close(cap), 0);
    EXPECT(vrd_cap_close(mine), 0);
    EXPECT(vrd_cap_close(below), 0);
    return 0;
}

/* The owner's program does nothing for it but receive what is sent. */
static void test_another_program_derives_and_exports(void **state)
{
    const struct ends ends = ends_new(16);
    int pair[2], invitation;
    vrd_cap_t back;
    pid_t pid;

    (void)state;
    support_socket_pair(pair);
    EXPECT(vrd_cap_export(ends.send, SENDER, &invitation), 0);
    pid = support_spawn_role("deriver", (int[]){ invitation, pair[1] }, 2, NULL);
    EXPECT(close(invitation), 0);
    EXPECT(close(pair[1]), 0);
    for (int i = 0; i < 3; i++) {
        uint64_t got = 0;
        struct vrd_message message = { .data = &got, .size = sizeof got };

        EXPECT(vrd_receive_message(ends.receive, &message, VRD_FOREVER), 0);
        support_require(got >= 1 && got <= 3);
        EXPECT(message.badge, got == 1 ? 0 : 41);
        EXPECT(message.source.pid, pid);
    }
    EXPECT(vrd_cap_import(support_receive_fd(pair[0]), &back), 0);
    support_wait_exit(pid, 0);
    EXPECT(info_of(back).badge, 41);
    EXPECT(info_of(back).depth, 4);
    EXPECT(info_of(back).rights, VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
    send_value(back, 9); /* all that it was derived from is gone */
    receive_badged(ends.receive, 9, 41, getpid());
    EXPECT(vrd_cap_close(back), 0);
    EXPECT(close(pair[0]), 0);
    ends_close(&ends);
}

/* ---- the receiving side moves ------------------------------------------------------------------ */

/* fd: the receiving side, with all that was derived and is not yet used. */
static int role_new_owner(struct support_role_args *args)
{
    const vrd_cap_t receive = import_at(args, 0);
    uint64_t got;

    for (;;) {
        struct vrd_message message = { .data = &got, .size = sizeof got };
        const int r = vrd_receive_message(receive, &message, VRD_FOREVER);

        if (r == VRD_ERR_PEER_GONE)
            return 0;
        EXPECT(r, 0);
        EXPECT(message.badge, got);
    }
}

static void test_the_tree_moves_with_the_receiving_side(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t a = badged(ends.send, SENDER, 10);
    const vrd_cap_t b = derived(ends.send, SENDER);
    vrd_cap_t below[40], imported;
    int receive, invitation;
    pid_t pid;

    (void)state;
    for (size_t i = 0; i < 40; i += 2) {
        below[i] = derived(i % 3 > 0 || i == 0 ? a : below[i / 2 & ~(size_t)1], SENDER);
        below[i + 1] = badged(b, VRD_RIGHT_SEND, 100 + i);
    }
    EXPECT(vrd_cap_export(below[38], VRD_RIGHT_SEND, &invitation), 0);
    EXPECT(vrd_cap_export(ends.receive, VRD_RIGHT_RECEIVE, &receive), 0);
    pid = support_spawn_role("new_owner", &receive, 1, NULL);
    EXPECT(close(receive), 0);
    send_value(a, 10);
    send_value(b, 0);
    for (size_t i = 0; i < 40; i += 2) {
        send_value(below[i], 10);
        send_value(below[i + 1], 100 + i);
    }
    EXPECT(vrd_cap_import(invitation, &imported), 0);
    send_value(imported, 10);
    EXPECT(vrd_cap_revoke(a), 0); /* the new owner knows what is below what */
    for (size_t i = 0; i < 40; i += 2) {
        EXPECT(vrd_send(below[i], "", 0), VRD_ERR_REVOKED);
        EXPECT(info_of(below[i]).loss,
               i % 3 > 0 || i == 0 ? VRD_LOSS_REVOKED : VRD_LOSS_PARENT_REVOKED);
        send_value(below[i + 1], 100 + i);
        EXPECT(vrd_cap_close(below[i]), 0);
        EXPECT(vrd_cap_close(below[i + 1]), 0);
    }
    EXPECT(vrd_send(imported, "", 0), VRD_ERR_REVOKED);
    EXPECT(vrd_cap_close(imported), 0);
    EXPECT(vrd_cap_close(a), 0);
    EXPECT(vrd_cap_close(b), 0);
    EXPECT(vrd_cap_close(ends.send), 0);
    support_wait_exit(pid, 0);
}

/* ---- fork ------------------------------------------------------------------------------------- */

static vrd_cap_t inherited;

static int child_sends(void *arg)
{
    send_value(inherited, 10 + (uint64_t)(uintptr_t)arg);
    return 0;
}

/* Not used before the fork: parent and children make a link each with what it was born with. */
static void test_an_unused_derived_capability_is_inherited(void **state)
{
    const struct ends ends = ends_new(16);
    pid_t pids[3];

    (void)state;
    inherited = badged(ends.send, SENDER, 12);
    for (uintptr_t i = 0; i < 3; i++) {
        pids[i] = support_child(child_sends, (void *)i);
        receive_badged(ends.receive, 10 + i, 12, pids[i]);
        support_wait_exit(pids[i], 0);
    }
    send_value(inherited, 1);
    receive_badged(ends.receive, 1, 12, getpid());
    pids[0] = support_child(child_sends, NULL); /* and now from a used one */
    receive_badged(ends.receive, 10, 12, pids[0]);
    support_wait_exit(pids[0], 0);
    EXPECT(vrd_cap_close(inherited), 0);
    ends_close(&ends);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_derived_capabilities_send),
                     SUPPORT_TEST(test_the_end_comes_with_the_last_derived_one),
                     SUPPORT_TEST(test_info_tells_rights_badge_and_depth),
                     SUPPORT_TEST(test_rights_only_shrink),
                     SUPPORT_TEST(test_arguments_that_make_no_sense),
                     SUPPORT_TEST(test_a_second_badge_is_refused),
                     SUPPORT_TEST(test_more_than_the_queue_holds),
                     SUPPORT_TEST(test_another_program_derives_and_exports),
                     SUPPORT_TEST(test_the_tree_moves_with_the_receiving_side),
                     SUPPORT_TEST(test_an_unused_derived_capability_is_inherited),
                     { 0 },
                 },
             .roles = (const struct support_role[]){ { "deriver", role_deriver },
                                                     { "new_owner", role_new_owner },
                                                     { 0 } },
             .warm_up = channels_warm_up)
