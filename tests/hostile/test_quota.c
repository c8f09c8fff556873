/* SPDX-License-Identifier: MIT */
/*
 * Quotas of vrd_init: a peer gets what it may have, to the last piece, and the others do not notice.
 *
 * ctest: no-tsan
 */
#include "support/support.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "cap/frame.h"
#include "link/layout.h"
#include "object/carried.h"
#include "os/fd.h"
#include "os/socket.h"
#include "peer.h"
#include "victim.h"

#define LINKS 5
#define DESCRIPTORS 12
#define BYTES ((size_t)8 << 20)
#define GREED 60

struct greedy {
    int invitation;
    struct support_gate done, leave;
};

/* Over `fd`, for as long as it takes. */
static void push(int fd, const struct frame *frame, const int *fds, size_t n)
{
    int r;

    while ((r = raw_send_frame(fd, frame, fds, n)) == -EAGAIN)
        support_sleep_ms(1);
    support_require_equal(r, 0);
}

/* What the owner said of what it refuses. */
static void require_policy(int fd)
{
    datagram_auto datagram = { .pidfd = -1 };
    struct frame frame;

    support_require_equal(socket_receive(fd, &datagram), 1);
    support_require_equal(frame_decode(datagram.data, datagram.len, datagram.n_fds, &frame), 0);
    support_require_equal(frame.type, FRAME_CLOSE);
    support_require_equal(frame.cause, NOTICE_POLICY);
}

static size_t count_kept(const int *fds)
{
    size_t kept = 0;

    while (!socket_over(fds[GREED - 1])) /* frames are taken in order */
        support_sleep_ms(1);
    for (size_t i = 0; i < GREED; i++) {
        if (socket_over(fds[i]))
            require_policy(fds[i]);
        else
            kept++;
    }
    return kept;
}

static void stay(const struct greedy *greedy)
{
    support_gate_open(&greedy->done);
    support_gate_wait(&greedy->leave);
}

static int flood_of_hellos(void *arg)
{
    static struct peer peers[GREED];
    const struct frame derive = { .type = FRAME_DERIVE, .rights = VRD_RIGHT_SEND, .count = 1 };
    const struct greedy *greedy = arg;
    int pair[2], tethers[GREED];

    support_require_equal(socket_pair(pair), 0);
    push(greedy->invitation, &derive, &pair[1], 1);
    for (size_t i = 0; i < GREED; i++) {
        struct frame hello;

        peer_init(&peers[i], 1);
        hello = peer_hello(&peers[i], 64);
        push(pair[0], &hello, (int[]){ peers[i].far, peers[i].segment_fd }, 2);
        fd_close(&peers[i].far);
        tethers[i] = peers[i].tether;
    }
    support_require_equal(count_kept(tethers), LINKS);
    stay(greedy);
    return 0;
}

static int flood_of_derivations(void *arg)
{
    const struct frame derive = { .type = FRAME_DERIVE, .rights = VRD_RIGHT_SEND };
    const struct greedy *greedy = arg;
    int kept[GREED];

    for (size_t i = 0; i < GREED; i++) {
        int pair[2];

        support_require_equal(socket_pair(pair), 0);
        push(greedy->invitation, &derive, &pair[1], 1);
        fd_close(&pair[1]);
        kept[i] = pair[0];
    }
    support_require_equal(count_kept(kept), DESCRIPTORS);
    stay(greedy);
    return 0;
}

/* Capabilities for messages that never come: more than one link may keep waiting. */
static int hoard_of_transfers(void *arg)
{
    const struct frame derive = { .type = FRAME_DERIVE, .rights = VRD_RIGHT_SEND, .count = 1 };
    const struct greedy *greedy = arg;
    struct peer peer;
    int root[2], pair[2], ms = 0;

    support_require_equal(socket_pair(root), 0);
    push(greedy->invitation, &derive, &root[1], 1);
    peer_connect(&peer, root[0], 16, 64);
    for (uint64_t id = 1; id <= CARRIED_MAX; id++) {
        const struct frame transfer = { .type = FRAME_TRANSFER, .id = id };

        support_require_equal(socket_pair(pair), 0);
        raw_send_frame(peer.tether, &transfer, pair, 2); /* it may be over by now */
        fd_close(&pair[0]);
        fd_close(&pair[1]);
    }
    while (!socket_over(peer.tether) && ms++ < 5000)
        support_sleep_ms(1);
    support_require(socket_over(peer.tether));
    stay(greedy);
    return 0;
}

/* Links with large byte rings, more than there may be. */
static int hoard_of_bytes(void *arg)
{
    static char large[BYTES / 64];
    const struct greedy *greedy = arg;
    vrd_cap_t caps[GREED];
    struct vrd_cap_info info;
    size_t refused = 0;

    support_require_equal(vrd_cap_import(dup(greedy->invitation), &caps[0]), 0);
    for (size_t i = 1; i < GREED; i++) {
        support_require_equal(vrd_cap_derive(caps[0], VRD_RIGHT_SEND, &caps[i]), 0);
        if (vrd_send(caps[i], large, sizeof large) == VRD_ERR_REVOKED)
            refused = i; /* the owner has looked already */
    }
    while (refused == 0) {
        support_sleep_ms(1);
        for (size_t i = 1; i < GREED; i++)
            if (vrd_send(caps[i], "ok", 2) == VRD_ERR_REVOKED)
                refused = i;
    }
    support_require_equal(vrd_cap_info(caps[refused], &info), 0);
    support_require_equal(info.loss, VRD_LOSS_POLICY);
    support_require_equal(vrd_send(caps[0], "ok", 2), 0);
    stay(greedy);
    return 0;
}

static int imports_and_sends(void *arg)
{
    static char large[BYTES / 64];
    const struct greedy *greedy = arg;
    vrd_cap_t cap;

    support_require_equal(vrd_cap_import(dup(greedy->invitation), &cap), 0);
    support_require_equal(vrd_send(cap, large, sizeof large), 0); /* is discarded */
    support_require_equal(vrd_send(cap, "ok", 2), 0);
    return 0;
}

static void another_gets_in(struct victim *victim)
{
    struct greedy honest = { .invitation = victim_invite(victim, VRD_RIGHT_SEND) };
    const size_t strange = victim->strange;
    const pid_t pid = support_child(imports_and_sends, &honest);

    fd_close(&honest.invitation);
    while (victim->strange < strange + 1) {
        victim_pump(victim);
        support_sleep_ms(1);
    }
    support_wait_exit(pid, 0);
}

static int within_quota(const struct vrd_init_options *options, int (*run)(void *))
{
    struct victim victim;
    struct greedy greedy;
    pid_t pid;

    support_require_equal(vrd_init(options), 0);
    victim_init(&victim);
    support_gate_init(&greedy.done);
    support_gate_init(&greedy.leave);
    greedy.invitation = victim_invite(&victim, VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
    victim_require_well(&victim); /* the invitation has arrived */
    pid = support_child(run, &greedy);
    while (!fd_readable(greedy.done.fd)) {
        victim_pump(&victim);
        support_sleep_ms(1);
    }
    support_gate_wait(&greedy.done);
    victim_require_well(&victim);
    another_gets_in(&victim);
    support_gate_open(&greedy.leave);
    support_wait_exit(pid, 0);
    victim_pump_until_alone(&victim);
    victim_require_well(&victim);
    support_require_equal(victim.corrupt, 0);
    fd_close(&greedy.invitation);
    support_gate_deinit(&greedy.done);
    support_gate_deinit(&greedy.leave);
    victim_deinit(&victim);
    return 0;
}

static int role_links(struct support_role_args *args)
{
    (void)args;
    return within_quota(&(struct vrd_init_options){ .peer_links = LINKS }, flood_of_hellos);
}

static int role_descriptors(struct support_role_args *args)
{
    (void)args;
    return within_quota(&(struct vrd_init_options){ .peer_descriptors = DESCRIPTORS },
                        flood_of_derivations);
}

static int role_transfers(struct support_role_args *args)
{
    (void)args;
    return within_quota(&(struct vrd_init_options){ .peer_descriptors = DESCRIPTORS },
                        hoard_of_transfers);
}

static int role_bytes(struct support_role_args *args)
{
    (void)args;
    return within_quota(&(struct vrd_init_options){ .peer_bytes = BYTES }, hoard_of_bytes);
}

#define ANSWER ((size_t)512 << 10)

/* Its answers are large: the second does not fit beside the first, which it still looks at. */
static int asks_for_much(void *arg)
{
    static char bytes[ANSWER];
    const vrd_cap_t cap = *(const vrd_cap_t *)arg;

    support_require_equal(vrd_call(cap, "1", 1, bytes, sizeof bytes, VRD_FOREVER), sizeof bytes);
    support_require_equal(vrd_call(cap, "2", 1, bytes, 1, VRD_FOREVER), VRD_ERR_PEER_GONE);
    support_require_equal(vrd_call(cap, "3", 1, bytes, 1, VRD_FOREVER), 1);
    return 0;
}

/* A call, answered with so many bytes. */
static int answer_with(vrd_cap_t endpoint, size_t len)
{
    static char bytes[2 * ANSWER];
    struct vrd_message request = { 0 };
    vrd_cap_t reply;
    char byte;

    request.data = &byte;
    request.size = 1;
    support_require_equal(vrd_receive_call(endpoint, &request, &reply, VRD_FOREVER), 0);
    return vrd_reply(reply, bytes, len);
}

static int role_answers(struct support_role_args *args)
{
    const struct vrd_init_options options = { .peer_bytes = ANSWER + ANSWER / 2 };
    vrd_cap_t endpoint;
    uint64_t id;
    pid_t pid;

    (void)args;
    support_require_equal(vrd_init(&options), 0);
    support_require_equal(vrd_endpoint_create(&id, &endpoint), 0);
    pid = support_child(asks_for_much, &endpoint);
    support_require_equal(answer_with(endpoint, ANSWER), 0);
    support_require_equal(answer_with(endpoint, 2 * ANSWER), VRD_ERR_QUOTA_EXCEEDED);
    support_require_equal(answer_with(endpoint, 1), 0);
    support_wait_exit(pid, 0);
    support_require_equal(vrd_cap_close(endpoint), 0);
    return 0;
}

static void test_answers(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("answers", NULL, 0, NULL), 0);
}

static void test_links(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("links", NULL, 0, NULL), 0);
}

static void test_descriptors(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("descriptors", NULL, 0, NULL), 0);
}

static void test_transfers(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("transfers", NULL, 0, NULL), 0);
}

static void test_bytes(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("bytes", NULL, 0, NULL), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_links),
                     SUPPORT_TEST(test_descriptors),
                     SUPPORT_TEST(test_transfers),
                     SUPPORT_TEST(test_bytes),
                     SUPPORT_TEST(test_answers),
                     { 0 },
                 },
             .roles = (const struct support_role[]){ { "links", role_links },
                                                     { "descriptors", role_descriptors },
                                                     { "transfers", role_transfers },
                                                     { "answers", role_answers },
                                                     { "bytes", role_bytes },
                                                     { 0 } })
