/* SPDX-License-Identifier: MIT */
/* A peer that says what is right, again and again: it is cut off, and keeps nobody busy. */
#include "support/support.h"

#include <unistd.h>

#include "peer.h"
#include "victim.h"

static const struct frame goodbye = { .type = FRAME_CLOSE };

static void test_close_is_said_once(void **state)
{
    struct victim victim;
    struct peer peer;
    int invitation;

    (void)state;
    victim_init(&victim);
    invitation = victim_invite(&victim, VRD_RIGHT_SEND);
    peer_connect(&peer, invitation, VICTIM_SLOTS, VICTIM_MESSAGE_MAX);
    peer_welcome(&peer, victim_pump_any, &victim);
    assert_int_equal(raw_send_frame(peer.tether, &goodbye, NULL, 0), 0);
    victim_require_well(&victim);
    /* the link is over, its tether is not: a forked child of the peer might have it */
    assert_false(raw_hung_up(peer.tether));
    assert_int_equal(raw_send_frame(peer.tether, &goodbye, NULL, 0), 0);
    victim_pump_until_hung_up(&victim, peer.tether);
    victim_require_well(&victim);
    peer_deinit(&peer);
    close(invitation);
    victim_deinit(&victim);
}

/* Before the first has been heard, too. */
static void test_close_is_said_once_in_a_row(void **state)
{
    struct victim victim;
    struct peer peer;
    int invitation;

    (void)state;
    victim_init(&victim);
    invitation = victim_invite(&victim, VRD_RIGHT_SEND);
    peer_connect(&peer, invitation, VICTIM_SLOTS, VICTIM_MESSAGE_MAX);
    peer_welcome(&peer, victim_pump_any, &victim);
    while (raw_send_frame(peer.tether, &goodbye, NULL, 0) == 0)
        ;
    victim_pump_until_hung_up(&victim, peer.tether);
    victim_require_well(&victim);
    peer_deinit(&peer);
    close(invitation);
    victim_deinit(&victim);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_close_is_said_once),
                     SUPPORT_TEST(test_close_is_said_once_in_a_row),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel)
