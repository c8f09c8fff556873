/* SPDX-License-Identifier: MIT */
/*
 * Peers that want everything: they get a share, and the others do not notice.
 *
 * ctest: no-tsan
 */
#include "support/support.h"

#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "cap/frame.h"
#include "link/layout.h"
#include "os/fd.h"
#include "os/socket.h"
#include "peer.h"
#include "victim.h"

#define LIMIT 400
#define GREED 1500

static void limit_descriptors(rlim_t n, struct rlimit *ret_before)
{
    struct rlimit limit;

    support_require_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    *ret_before = limit;
    support_require(limit.rlim_max >= n);
    limit.rlim_cur = n;
    support_require_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Over `fd`, for as long as it takes; false: the owner has hung up. */
static bool push(int fd, const struct frame *frame, const int *fds, size_t n)
{
    int r;

    while ((r = raw_send_frame(fd, frame, fds, n)) == -EAGAIN)
        support_sleep_ms(1);
    return r == 0;
}

struct greedy {
    int invitation;
    struct support_gate done, leave;
};

/* Keeps all that it can get. The owner says of the rest that it is too much. */
static int greedy_derives(void *arg)
{
    static int kept[GREED];
    const struct frame derive = { .type = FRAME_DERIVE, .rights = VRD_RIGHT_SEND };
    const struct greedy *greedy = arg;
    struct rlimit before;
    size_t refused = 0;

    limit_descriptors(2 * GREED, &before);
    for (size_t i = 0; i < GREED; i++) {
        int pair[2];

        support_require_equal(socket_pair(pair), 0);
        support_require(push(greedy->invitation, &derive, &pair[1], 1));
        fd_close(&pair[1]);
        kept[i] = pair[0];
    }
    while (!socket_over(kept[GREED - 1])) /* frames are taken in order */
        support_sleep_ms(1);
    for (size_t i = 0; i < GREED; i++) {
        struct datagram datagram;
        struct frame frame;

        if (!socket_over(kept[i]))
            continue;
        refused++;
        support_require_equal(socket_receive(kept[i], &datagram), 1);
        support_require_equal(frame_decode(datagram.data, datagram.len, datagram.n_fds, &frame), 0);
        support_require_equal(frame.type, FRAME_CLOSE);
        support_require_equal(frame.cause, NOTICE_POLICY);
        datagram_deinit(&datagram);
    }
    support_require(refused >= GREED - LIMIT);
    support_gate_open(&greedy->done);
    support_gate_wait(&greedy->leave);
    return 0;
}

/* The same with links, over a socket that may say HELLO again and again. */
static int greedy_links(void *arg)
{
    static struct peer peers[GREED / 4];
    const struct frame derive = { .type = FRAME_DERIVE, .rights = VRD_RIGHT_SEND, .count = 1 };
    const struct greedy *greedy = arg;
    struct rlimit before;
    int pair[2];

    limit_descriptors(2 * GREED, &before);
    support_require_equal(socket_pair(pair), 0);
    support_require(push(greedy->invitation, &derive, &pair[1], 1));
    for (size_t i = 0; i < GREED / 4; i++) {
        struct frame hello;

        peer_init(&peers[i], 1);
        hello = peer_hello(&peers[i], 64);
        support_require(push(pair[0], &hello, (int[]){ peers[i].far, peers[i].segment_fd }, 2));
        fd_close(&peers[i].far);
    }
    while (!socket_over(peers[GREED / 4 - 1].tether))
        support_sleep_ms(1);
    support_gate_open(&greedy->done);
    support_gate_wait(&greedy->leave);
    return 0;
}

static int imports_and_sends(void *arg)
{
    const struct greedy *greedy = arg;
    vrd_cap_t cap, derived;

    support_require_equal(vrd_cap_import(dup(greedy->invitation), &cap), 0);
    support_require_equal(vrd_cap_derive(cap, VRD_RIGHT_SEND, &derived), 0);
    support_require_equal(vrd_send(cap, "ok", 2), 0);
    support_require_equal(vrd_send(derived, "ok", 2), 0);
    return 0;
}

static void another_gets_in(struct victim *victim)
{
    struct greedy honest = { .invitation =
                                 victim_invite(victim, VRD_RIGHT_SEND | VRD_RIGHT_GRANT) };
    const size_t strange = victim->strange;
    const pid_t pid = support_child(imports_and_sends, &honest);

    fd_close(&honest.invitation);
    while (victim->strange < strange + 2) {
        victim_pump(victim);
        support_sleep_ms(1);
    }
    support_wait_exit(pid, 0);
}

static void greed_leaves_enough(int (*run)(void *))
{
    struct victim victim;
    struct greedy greedy;
    struct rlimit before;
    size_t fds;
    pid_t pid;

    victim_init(&victim);
    limit_descriptors(LIMIT, &before);
    support_gate_init(&greedy.done);
    support_gate_init(&greedy.leave);
    greedy.invitation = victim_invite(&victim, VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
    victim_require_well(&victim); /* the invitation has arrived */
    fds = support_count_fds();
    pid = support_child(run, &greedy);
    while (!fd_readable(greedy.done.fd)) {
        victim_pump(&victim);
        support_sleep_ms(1);
    }
    support_gate_wait(&greedy.done);
    victim_pump(&victim);
    assert_true(support_count_fds() > fds + LIMIT / 4); /* it has got something */
    assert_true(support_count_fds() < LIMIT - LIMIT / 16);
    victim_require_well(&victim);
    another_gets_in(&victim);
    support_gate_open(&greedy.leave);
    support_wait_exit(pid, 0);
    victim_pump_until_alone(&victim); /* and nothing is left of it */
    victim_require_well(&victim);
    while (support_count_fds() > fds) {
        victim_pump(&victim);
        support_sleep_ms(1);
    }
    fd_close(&greedy.invitation);
    support_gate_deinit(&greedy.done);
    support_gate_deinit(&greedy.leave);
    victim_deinit(&victim);
    support_require_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void test_derivations_are_shared_out(void **state)
{
    (void)state;
    greed_leaves_enough(greedy_derives);
}

static void test_links_are_shared_out(void **state)
{
    (void)state;
    greed_leaves_enough(greedy_links);
}

/* ---- floods ------------------------------------------------------------------------------------------ */

/* Derives and drops, says HELLO and drops, without end. */
static int flood(void *arg)
{
    const struct frame derive = { .type = FRAME_DERIVE, .rights = VRD_RIGHT_SEND };
    const struct frame repeated = { .type = FRAME_DERIVE, .rights = VRD_RIGHT_SEND, .count = 1 };
    const struct greedy *greedy = arg;
    int family[2];

    support_require_equal(socket_pair(family), 0);
    support_require(push(greedy->invitation, &repeated, &family[1], 1));
    for (;;) {
        struct frame hello;
        struct peer peer;
        int pair[2];

        support_require_equal(socket_pair(pair), 0);
        raw_send_frame(greedy->invitation, &derive, &pair[1], 1);
        fd_close(&pair[0]);
        fd_close(&pair[1]);
        peer_init(&peer, 1);
        hello = peer_hello(&peer, 64);
        raw_send_frame(family[0], &hello, (int[]){ peer.far, peer.segment_fd }, 2);
        peer_deinit(&peer);
    }
    return 0;
}

static int honest_sends(void *arg)
{
    const struct greedy *honest = arg;
    vrd_cap_t cap;

    support_require_equal(vrd_cap_import(dup(honest->invitation), &cap), 0);
    for (int i = 0; i < 300; i++)
        support_require_equal(vrd_send(cap, "x", 1), 0);
    support_require_equal(vrd_cap_revoke(cap), 0); /* nothing to revoke, but an answer to get */
    return 0;
}

static void test_a_flood_starves_nobody(void **state)
{
    struct greedy greedy, honest;
    struct victim victim;
    pid_t flooders[2], pid;

    (void)state;
    victim_init(&victim);
    for (int i = 0; i < 2; i++) {
        greedy.invitation = victim_invite(&victim, VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
        flooders[i] = support_child(flood, &greedy);
        fd_close(&greedy.invitation);
    }
    honest.invitation = victim_invite(&victim, VRD_RIGHT_SEND | VRD_RIGHT_REVOKE);
    pid = support_child(honest_sends, &honest);
    fd_close(&honest.invitation);
    for (size_t i = 0; victim.strange < 300; i++) {
        victim_pump(&victim);
        if (i % 64 == 0)
            victim_require_well(&victim);
    }
    support_wait_exit(pid, 0); /* its answer came from the reactor */
    support_kill(flooders[0]);
    support_kill(flooders[1]);
    victim_pump_until_alone(&victim);
    victim_require_well(&victim);
    victim_deinit(&victim);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_derivations_are_shared_out),
                     SUPPORT_TEST(test_links_are_shared_out),
                     SUPPORT_TEST(test_a_flood_starves_nobody),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel)
