/* SPDX-License-Identifier: MIT */
/* Revoking, against holders that do not care for it and owners that lie about it. */
#include "support/support.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "cap/frame.h"
#include "link/layout.h"
#include "os/fd.h"
#include "os/socket.h"
#include "owner.h"
#include "peer.h"
#include "victim.h"

#define ALL (VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

/* ---- a holder by hand ------------------------------------------------------------------------- */

struct stage {
    struct victim victim;
    struct peer peer;
    int invitation;
};

static void stage_init(struct stage *stage, uint32_t rights)
{
    victim_init(&stage->victim);
    stage->invitation = victim_invite(&stage->victim, rights);
    peer_connect(&stage->peer, stage->invitation, VICTIM_SLOTS, VICTIM_MESSAGE_MAX);
    peer_welcome(&stage->peer, victim_pump_any, &stage->victim);
}

static void stage_deinit(struct stage *stage)
{
    peer_deinit(&stage->peer);
    fd_close(&stage->invitation);
    victim_pump_until_alone(&stage->victim);
    victim_require_well(&stage->victim);
    victim_deinit(&stage->victim);
}

/* A new socket to the owner, derived over `fd`. */
static int derive(int fd, uint32_t rights)
{
    const struct frame frame = { .type = FRAME_DERIVE, .rights = rights };
    int pair[2];

    support_require_equal(socket_pair(pair), 0);
    support_require_equal(raw_send_frame(fd, &frame, &pair[1], 1), 0);
    fd_close(&pair[1]);
    return pair[0];
}

/* The first CLOSE that is there to read. */
static uint16_t cause_over(int fd)
{
    for (;;) {
        datagram_auto datagram = { .pidfd = -1 };
        struct frame frame;

        support_require_equal(socket_receive(fd, &datagram), 1);
        support_require_equal(frame_decode(datagram.data, datagram.len, datagram.n_fds, &frame), 0);
        if (frame.type == FRAME_CLOSE)
            return frame.cause;
    }
}

/* Whatever it publishes after the revocation is not taken, and its socket is of no use. */
static void test_a_holder_that_goes_on(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, ALL);
    peer_publish(&stage.peer, "one", 3);
    while (stage.victim.strange < 1)
        victim_pump(&stage.victim);
    assert_int_equal(vrd_cap_revoke(stage.victim.send), 0);
    for (int i = 0; i < VICTIM_SLOTS - 1; i++)
        peer_publish(&stage.peer, "more", 4);
    victim_pump(&stage.victim);
    assert_int_equal(stage.victim.strange, 1);
    assert_int_equal((uint8_t)(stage.peer.owner->notice >> 32), NOTICE_REVOKED);
    assert_int_equal(cause_over(stage.peer.tether), NOTICE_REVOKED);
    assert_int_equal(raw_send(stage.peer.tether, "", 1, NULL, 0), -EPIPE);
    stage_deinit(&stage);
}

/* All that was queued when it came is found: what it derived, and what was derived from that, and a
 * HELLO over one of them. */
static void test_what_is_queued_is_revoked_too(void **state)
{
    struct stage stage;
    struct peer late;
    int first, second, third;

    (void)state;
    stage_init(&stage, ALL);
    first = derive(stage.peer.tether, ALL);
    second = derive(first, ALL);
    third = derive(second, ALL);
    peer_connect(&late, third, VICTIM_SLOTS, VICTIM_MESSAGE_MAX);
    peer_publish(&late, "late", 4);
    assert_int_equal(vrd_cap_revoke(stage.victim.send), 0);
    assert_int_equal(cause_over(first), NOTICE_PARENT_REVOKED);
    assert_int_equal(cause_over(second), NOTICE_PARENT_REVOKED);
    assert_true(socket_over(third));
    assert_true(socket_over(late.tether));
    assert_int_equal(cause_over(late.tether), NOTICE_PARENT_REVOKED);
    victim_pump(&stage.victim);
    assert_int_equal(stage.victim.strange, 0);
    peer_deinit(&late);
    fd_close(&first);
    fd_close(&second);
    fd_close(&third);
    stage_deinit(&stage);
}

static void ends_the_link(uint32_t rights, const struct frame *frame, int fd)
{
    struct stage stage;

    stage_init(&stage, rights);
    support_require_equal(raw_send_frame(stage.peer.tether, frame, &fd, fd >= 0), 0);
    victim_pump_until_hung_up(&stage.victim, stage.peer.tether);
    victim_require_well(&stage.victim);
    stage_deinit(&stage);
}

static void test_requests_that_are_not_allowed(void **state)
{
    const struct frame revoke = { .type = FRAME_REVOKE, .id = 1 };
    const struct frame revoked = { .type = FRAME_REVOKED, .id = 1 };
    struct frame badged = { .type = FRAME_DERIVE, .rights = VRD_RIGHT_SEND, .count = 2 };
    struct victim victim;
    int invitation, pair[2];

    (void)state;
    ends_the_link(VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &revoke, -1);
    ends_the_link(ALL, &revoked, -1); /* that is for the owner to say */
    support_socket_pair(pair);
    ends_the_link(ALL, &badged, pair[0]);
    fd_close(&pair[0]);
    fd_close(&pair[1]);

    /* over what is no link: nobody could be told */
    victim_init(&victim);
    invitation = victim_invite(&victim, ALL);
    assert_int_equal(raw_send_frame(invitation, &revoke, NULL, 0), 0);
    victim_pump_until_hung_up(&victim, invitation);
    victim_require_well(&victim);
    fd_close(&invitation);
    victim_deinit(&victim);
}

static void test_a_second_badge_ends_the_link(void **state)
{
    struct frame badged = { .type = FRAME_DERIVE, .rights = ALL, .badge = 5 };
    struct stage stage;
    struct peer second;
    int pair[2];

    (void)state;
    stage_init(&stage, ALL);
    assert_int_equal(socket_pair(pair), 0);
    assert_int_equal(raw_send_frame(stage.peer.tether, &badged, &pair[1], 1), 0);
    fd_close(&pair[1]);
    peer_connect(&second, pair[0], VICTIM_SLOTS, VICTIM_MESSAGE_MAX);
    peer_welcome(&second, victim_pump_any, &stage.victim);
    fd_close(&pair[0]);
    assert_int_equal(socket_pair(pair), 0);
    badged.badge = 6;
    assert_int_equal(raw_send_frame(second.tether, &badged, &pair[1], 1), 0);
    fd_close(&pair[1]);
    victim_pump_until_hung_up(&stage.victim, second.tether);
    fd_close(&pair[0]);
    peer_deinit(&second);
    stage_deinit(&stage);
}

/* A thousand requests in a row: the last answer is for all. */
static void test_a_flood_of_requests(void **state)
{
    struct stage stage;
    uint64_t last = 0, answered = 0;

    (void)state;
    stage_init(&stage, ALL);
    for (uint64_t id = 1; id <= 1000; id++) {
        const struct frame revoke = { .type = FRAME_REVOKE, .id = id };

        while (raw_send_frame(stage.peer.tether, &revoke, NULL, 0) == -EAGAIN)
            victim_pump(&stage.victim);
        last = id;
    }
    victim_require_well(&stage.victim);
    while (answered < last) {
        datagram_auto datagram = { .pidfd = -1 };
        struct frame frame;
        const int r = socket_receive(stage.peer.tether, &datagram);

        if (r == -EAGAIN) {
            victim_pump(&stage.victim);
            continue;
        }
        assert_int_equal(r, 1);
        assert_int_equal(frame_decode(datagram.data, datagram.len, datagram.n_fds, &frame), 0);
        assert_int_equal(frame.type, FRAME_REVOKED);
        assert_true(frame.id > answered && frame.id <= last);
        answered = frame.id;
    }
    stage_deinit(&stage);
}

/* ---- an owner by hand ------------------------------------------------------------------------- */

/* Answers that nobody asked for. */
static void test_answers_to_nothing(void **state)
{
    const struct frame revoked = { .type = FRAME_REVOKED, .id = 1 };
    struct owner owner;

    (void)state;
    owner_linked(&owner, 4);
    assert_int_equal(raw_send_frame(owner.tether, &revoked, NULL, 0), 0);
    while (vrd_send_timed(owner.cap, "x", 1, 0) == VRD_ERR_CHANNEL_FULL)
        support_sleep_ms(1);
    owner_memory(&owner)->cursor = 3;
    while (vrd_send_timed(owner.cap, "x", 1, 1000000) != VRD_ERR_PEER_CORRUPT)
        support_sleep_ms(1);
    owner_deinit(&owner);
}

/* A cause that there is not. */
static void test_a_cause_that_there_is_not(void **state)
{
    const struct frame close_frame = { .type = FRAME_CLOSE, .cause = NOTICE_POLICY + 1 };
    struct vrd_cap_info info;
    struct owner owner;

    (void)state;
    owner_linked(&owner, 4);
    assert_int_equal(raw_send_frame(owner.tether, &close_frame, NULL, 0), 0);
    do
        assert_int_equal(vrd_cap_info(owner.cap, &info), 0);
    while (info.loss == VRD_LOSS_NONE);
    assert_int_equal(info.loss, VRD_LOSS_CORRUPT);
    owner_deinit(&owner);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_a_holder_that_goes_on),
                     SUPPORT_TEST(test_what_is_queued_is_revoked_too),
                     SUPPORT_TEST(test_requests_that_are_not_allowed),
                     SUPPORT_TEST(test_a_second_badge_ends_the_link),
                     SUPPORT_TEST(test_a_flood_of_requests),
                     SUPPORT_TEST(test_answers_to_nothing),
                     SUPPORT_TEST(test_a_cause_that_there_is_not),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel)
