/* SPDX-License-Identifier: MIT */
/* Capabilities whose message does not go, or is not wanted: given back, or closed; never lost in between. */
#include "process/channels.h"

#include <pthread.h>

#define CAPS_MAX VRD_MESSAGE_CAPS_MAX

static int carry_try(vrd_cap_t through, const vrd_cap_t *caps, uint32_t n, int64_t timeout_ns)
{
    struct vrd_message message = { .n_caps = n };

    memcpy(message.caps, caps, (n < CAPS_MAX ? n : CAPS_MAX) * sizeof *caps);
    return vrd_send_message(through, &message, timeout_ns);
}

static int carry_one_try(vrd_cap_t through, vrd_cap_t cap, int64_t timeout_ns)
{
    return carry_try(through, &cap, 1, timeout_ns);
}

static void expect_gone(vrd_cap_t cap)
{
    struct vrd_cap_info info;

    EXPECT(vrd_cap_info(cap, &info), VRD_ERR_INVALID_CAPABILITY);
}

static void expect_end(vrd_cap_t receive)
{
    EXPECT(vrd_receive(receive, NULL, 0), VRD_ERR_PEER_GONE);
}

/* Both numbers are valid, and a message gets through. */
static void expect_whole(const struct ends *ends)
{
    static uint32_t index;

    numbered_send(ends->send, 9, ++index, 30);
    numbered_receive(ends->receive, 9, index, 30);
}

/* ---- what cannot be sent -------------------------------------------------------------------- */

static void test_wrong_arguments(void **state)
{
    struct ends way = ends_new(4), ends = ends_new(4);
    const vrd_cap_t twice[2] = { ends.send, ends.send };
    const vrd_cap_t five[CAPS_MAX] = { ends.send };

    (void)state;
    EXPECT(carry_try(way.send, twice, 2, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(carry_try(way.send, five, CAPS_MAX + 1, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(carry_one_try(way.send, way.send, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(carry_one_try(way.send, VRD_CAP_NONE, 0), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(carry_one_try(way.send, ends.send + (UINT64_C(1) << 30), 0), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(carry_one_try(way.receive, ends.send, 0), VRD_ERR_PERMISSION_DENIED);
    EXPECT(carry_one_try(VRD_CAP_NONE, ends.send, 0), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(carry_one_try(way.send, ends.send, -2), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_async(way.receive, NULL, 0), VRD_ERR_CHANNEL_EMPTY);
    expect_whole(&ends);
    ends_close(&ends);
    ends_close(&way);
}

static void test_too_large(void **state)
{
    struct vrd_channel_options options = { .slots = 4, .max_message_size = 100 };
    struct ends way, ends = ends_new(4);
    struct vrd_message message = { .data = (char[101]){ 0 }, .len = 101, .n_caps = 2 };

    (void)state;
    EXPECT(vrd_channel_create_with(&options, &way.send, &way.receive), 0);
    message.caps[0] = ends.send;
    message.caps[1] = ends.receive;
    EXPECT(vrd_send_message(way.send, &message, 0), VRD_ERR_MESSAGE_TOO_LARGE);
    expect_whole(&ends);
    ends_close(&ends);
    ends_close(&way);
}

static void test_without_grant(void **state)
{
    struct ends way = ends_new(4), ends = ends_new(4);
    vrd_cap_t bare, caps[2];

    (void)state;
    EXPECT(vrd_cap_derive(ends.send, VRD_RIGHT_SEND, &bare), 0);
    EXPECT(carry_one_try(way.send, bare, 0), VRD_ERR_PERMISSION_DENIED);
    /* those before it in the message come back */
    caps[0] = ends.receive;
    caps[1] = bare;
    EXPECT(carry_try(way.send, caps, 2, 0), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_send(bare, NULL, 0), 0);
    EXPECT(vrd_receive(ends.receive, NULL, 0), 0);
    EXPECT(vrd_cap_close(bare), 0);
    ends_close(&ends);
    ends_close(&way);
}

static void test_receive_while_a_link_is_live(void **state)
{
    struct ends way = ends_new(4), ends = ends_new(4), other = ends_new(4);
    const vrd_cap_t caps[2] = { other.send, ends.receive };

    (void)state;
    expect_whole(&ends);
    EXPECT(carry_try(way.send, caps, 2, 0), VRD_ERR_RESOURCE_BUSY);
    expect_whole(&ends);
    expect_whole(&other);
    ends_close(&other);
    ends_close(&ends);
    ends_close(&way);
}

/* Full, so that nothing goes; then room, and the same numbers go. */
static void test_no_room(void **state)
{
    struct ends way = ends_new(2), ends = ends_new(4);
    vrd_cap_t caps[2] = { ends.send, ends.receive };
    struct vrd_message in = { .max_caps = 2 };

    (void)state;
    EXPECT(vrd_send(way.send, NULL, 0), 0);
    EXPECT(vrd_send(way.send, NULL, 0), 0);
    for (uint32_t i = 0; i < 50; i++) {
        EXPECT(carry_try(way.send, caps, 2, 0), VRD_ERR_CHANNEL_FULL);
        EXPECT(carry_try(way.send, caps, 2, MS), VRD_ERR_TIMEOUT);
    }
    numbered_send(ends.send, 1, 0, 30);
    EXPECT(vrd_receive(way.receive, NULL, 0), 0);
    EXPECT(vrd_receive(way.receive, NULL, 0), 0);
    EXPECT(carry_try(way.send, caps, 2, 0), 0);
    expect_gone(caps[0]);
    expect_gone(caps[1]);
    EXPECT(vrd_receive_message(way.receive, &in, 0), 0);
    EXPECT(in.n_caps, 2);
    numbered_receive(in.caps[1], 1, 0, 30);
    ends = (struct ends){ in.caps[0], in.caps[1] };
    expect_whole(&ends);
    ends_close(&ends);
    ends_close(&way);
}

/* A link takes so many messages with capabilities before the receiver has read one. */
static void test_many_unread(void **state)
{
    struct ends way = ends_new(64), ends = ends_new(4);
    uint32_t sent = 0;
    vrd_cap_t cap;

    (void)state;
    for (;; sent++) {
        int r;

        EXPECT(vrd_cap_derive(ends.send, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &cap), 0);
        r = carry_one_try(way.send, cap, 0);
        if (r == 0)
            continue;
        EXPECT(r, VRD_ERR_CHANNEL_FULL);
        break;
    }
    support_require(sent >= 8 && sent < 64);
    EXPECT(vrd_send(way.send, "x", 1), 0); /* there is room for others */
    for (uint32_t round = 0; round < 100; round++) {
        struct vrd_message in = { .max_caps = 1 };

        EXPECT(vrd_receive_message(way.receive, &in, 0),
               round == sent ? VRD_ERR_MESSAGE_TOO_LARGE : 0);
        if (round == sent) {
            EXPECT(vrd_discard(way.receive), 0);
            continue;
        }
        EXPECT(in.n_caps, 1);
        EXPECT(carry_one_try(way.send, cap, 0), 0);
        cap = in.caps[0];
    }
    EXPECT(vrd_send(cap, NULL, 0), 0);
    EXPECT(vrd_receive(ends.receive, NULL, 0), 0);
    EXPECT(vrd_cap_close(cap), 0);
    ends_close(&way); /* with what is unread */
    EXPECT(vrd_cap_close(ends.send), 0);
    expect_end(ends.receive);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

static void test_peer_gone(void **state)
{
    struct ends ends = ends_new(4);

    (void)state;
    for (int linked = 0; linked < 2; linked++) {
        struct ends way = ends_new(4);
        const vrd_cap_t caps[2] = { ends.send, ends.receive };

        if (linked) {
            EXPECT(vrd_send(way.send, NULL, 0), 0);
            EXPECT(vrd_receive(way.receive, NULL, 0), 0);
        }
        EXPECT(vrd_cap_close(way.receive), 0);
        EXPECT(carry_try(way.send, caps, 2, VRD_FOREVER), VRD_ERR_PEER_GONE);
        EXPECT(vrd_cap_close(way.send), 0);
    }
    expect_whole(&ends);
    ends_close(&ends);
}

/* ---- what is not wanted --------------------------------------------------------------------- */

/* Sends both ends of `n` channels but the other ends; `keep` is what shows that they are closed. */
static void carry_sends(vrd_cap_t through, struct ends *ends, uint32_t n)
{
    vrd_cap_t caps[CAPS_MAX];

    for (uint32_t i = 0; i < n; i++) {
        ends[i] = ends_new(4);
        caps[i] = ends[i].send;
    }
    EXPECT(carry_try(through, caps, n, 0), 0);
}

static void expect_ends(const struct ends *ends, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        expect_end(ends[i].receive);
        EXPECT(vrd_cap_close(ends[i].receive), 0);
    }
}

static void test_fewer_wanted(void **state)
{
    struct ends way = ends_new(4), ends[CAPS_MAX];

    (void)state;
    for (uint32_t most = 0; most <= CAPS_MAX + 3; most++) {
        struct vrd_message in = { .max_caps = most };
        const uint32_t got = most < CAPS_MAX ? most : CAPS_MAX;

        carry_sends(way.send, ends, CAPS_MAX);
        EXPECT(vrd_receive_message(way.receive, &in, 0), 0);
        EXPECT(in.n_caps, got);
        expect_ends(ends + got, CAPS_MAX - got);
        for (uint32_t i = 0; i < got; i++) {
            EXPECT(vrd_send(in.caps[i], NULL, 0), 0);
            EXPECT(vrd_receive(ends[i].receive, NULL, 0), 0);
            EXPECT(vrd_cap_close(in.caps[i]), 0);
        }
        expect_ends(ends, got);
    }
    ends_close(&way);
}

static void test_plain_receives(void **state)
{
    struct ends way = ends_new(4), ends[CAPS_MAX];

    (void)state;
    carry_sends(way.send, ends, 4);
    EXPECT(vrd_receive(way.receive, NULL, 0), 0);
    expect_ends(ends, 4);
    carry_sends(way.send, ends, 3);
    EXPECT(vrd_receive_async(way.receive, NULL, 0), 0);
    expect_ends(ends, 3);
    ends_close(&way);
}

static void test_discarded(void **state)
{
    struct ends way = ends_new(4), ends[2];
    struct vrd_message out = { .data = "large", .len = 5, .n_caps = 2 }, in = { .max_caps = 2 };

    (void)state;
    for (int i = 0; i < 2; i++) {
        ends[i] = ends_new(4);
        out.caps[i] = ends[i].send;
    }
    EXPECT(vrd_send_message(way.send, &out, 0), 0);
    EXPECT(vrd_receive_message(way.receive, &in, 0), VRD_ERR_MESSAGE_TOO_LARGE);
    EXPECT(in.len, 5);
    EXPECT(vrd_discard(way.receive), 0);
    expect_ends(ends, 2);
    carry_sends(way.send, ends, 1); /* those after it are found */
    EXPECT(vrd_receive_message(way.receive, &in, 0), 0);
    EXPECT(in.n_caps, 1);
    EXPECT(vrd_cap_close(in.caps[0]), 0);
    expect_ends(ends, 1);
    ends_close(&way);
}

/* Whichever end of the way closes first: nobody has them. */
static void test_never_read(void **state)
{
    struct ends ends[CAPS_MAX];

    (void)state;
    for (int linked = 0; linked < 2; linked++) {
        for (int sender_first = 0; sender_first < 2; sender_first++) {
            struct ends way = ends_new(4);

            if (linked) {
                EXPECT(vrd_send(way.send, NULL, 0), 0);
                EXPECT(vrd_receive(way.receive, NULL, 0), 0);
            }
            carry_sends(way.send, ends, 3);
            EXPECT(vrd_cap_close(sender_first ? way.send : way.receive), 0);
            EXPECT(vrd_cap_close(sender_first ? way.receive : way.send), 0);
            expect_ends(ends, 3);
        }
    }
}

/* What was sent before the sender closed is there to be read, with all that it carries. */
/* What was revoked is never read, so what it carries is closed, though nobody receives any more. */
static void revoked_on_its_way(unsigned pause_ms)
{
    const struct ends way = ends_new(4), ends = ends_new(4), later = ends_new(4);
    const vrd_cap_t sender = sender_new(way.send);

    EXPECT(vrd_send(sender, NULL, 0), 0);
    EXPECT(vrd_receive(way.receive, NULL, 0), 0);
    EXPECT(carry_one_try(sender, ends.send, VRD_FOREVER), 0);
    support_sleep_ms(pause_ms);
    EXPECT(vrd_cap_revoke(way.receive), 0);
    EXPECT(vrd_receive_timed(ends.receive, NULL, 0, 5000 * MS), VRD_ERR_PEER_GONE);
    EXPECT(carry_one_try(sender, later.send, 0), VRD_ERR_REVOKED);
    expect_whole(&later);
    EXPECT(vrd_cap_close(sender), 0);
    EXPECT(vrd_cap_close(ends.receive), 0);
    ends_close(&later);
    ends_close(&way);
}

static void test_revoked_on_its_way(void **state)
{
    (void)state;
    revoked_on_its_way(0);
    revoked_on_its_way(20); /* mostly, what is carried has been taken off the socket by now */
}

static void test_sender_closed(void **state)
{
    struct ends way = ends_new(4), ends[CAPS_MAX];
    struct vrd_message in = { .max_caps = CAPS_MAX };

    (void)state;
    carry_sends(way.send, ends, 2);
    EXPECT(vrd_cap_close(way.send), 0);
    EXPECT(vrd_receive_message(way.receive, &in, VRD_FOREVER), 0);
    EXPECT(in.n_caps, 2);
    expect_end(way.receive);
    EXPECT(vrd_cap_close(way.receive), 0);
    for (int i = 0; i < 2; i++) {
        EXPECT(vrd_send(in.caps[i], NULL, 0), 0);
        EXPECT(vrd_receive(ends[i].receive, NULL, 0), 0);
        EXPECT(vrd_cap_close(in.caps[i]), 0);
    }
    expect_ends(ends, 2);
}

/* ---- batches -------------------------------------------------------------------------------- */

static void test_in_batches(void **state)
{
    struct ends way = ends_new(16), ends = ends_new(4);
    struct vrd_message out[5] = { { .data = "0", .len = 1 },
                                  { .data = "1", .len = 1, .n_caps = 1 },
                                  { .data = "2", .len = 1 },
                                  { .data = "3", .len = 1, .n_caps = 1 },
                                  { .data = "4", .len = 1 } };
    struct vrd_message in[5];
    char bytes[5];

    (void)state;
    out[1].caps[0] = ends.send;
    out[3].caps[0] = ends.receive;
    EXPECT(vrd_send_batch(way.send, out, 5, 0), 5);
    for (int i = 0; i < 5; i++)
        in[i] = (struct vrd_message){ .data = &bytes[i], .size = 1, .max_caps = 1 };
    EXPECT(vrd_receive_batch(way.receive, in, 5, 0), 5);
    for (int i = 0; i < 5; i++) {
        EXPECT(bytes[i], '0' + i);
        EXPECT(in[i].n_caps, i % 2);
    }
    ends = (struct ends){ in[1].caps[0], in[3].caps[0] };
    expect_whole(&ends);
    /* stops before what cannot go */
    out[1].caps[0] = ends.send;
    out[3].caps[0] = VRD_CAP_NONE;
    EXPECT(vrd_send_batch(way.send, out, 5, 0), 3);
    EXPECT(vrd_send_batch(way.send, out + 3, 2, 0), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_receive_batch(way.receive, in, 5, 0), 3);
    EXPECT(in[1].n_caps, 1);
    ends.send = in[1].caps[0];
    expect_whole(&ends);
    ends_close(&ends);
    ends_close(&way);
}

/* ---- threads -------------------------------------------------------------------------------- */

struct mover {
    vrd_cap_t through;
    vrd_cap_t cap;
    int64_t timeout_ns;
    int result;
    bool stubborn; /* tries again while somebody else is about to */
};

static void *mover_run(void *arg)
{
    struct mover *mover = arg;

    do
        mover->result = carry_one_try(mover->through, mover->cap, mover->timeout_ns);
    while (mover->stubborn && mover->result == VRD_ERR_RESOURCE_BUSY);
    return NULL;
}

static void mover_start(struct mover *mover, pthread_t *ret)
{
    EXPECT(pthread_create(ret, NULL, mover_run, mover), 0);
}

/* While one thread waits for room, the capability works, but nobody else moves it. */
static void test_on_its_way_already(void **state)
{
    struct ends way = ends_new(1), other = ends_new(4), ends = ends_new(4);
    struct vrd_message in = { .max_caps = 1 };
    vrd_cap_t cap = ends.send;
    pthread_t thread;
    int fd, r;

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct mover mover = { way.send, cap, VRD_FOREVER, 1, true };

        EXPECT(vrd_send(way.send, NULL, 0), 0);
        mover_start(&mover, &thread);
        while ((r = carry_one_try(other.send, cap, 0)) == 0) { /* it was faster: again */
            EXPECT(vrd_receive_message(other.receive, &in, 0), 0);
            pthread_join(thread, NULL);
            EXPECT(mover.result, VRD_ERR_INVALID_CAPABILITY);
            cap = mover.cap = in.caps[0];
            mover_start(&mover, &thread);
        }
        EXPECT(r, VRD_ERR_RESOURCE_BUSY);
        if (i == 0) {
            EXPECT(vrd_send(cap, NULL, 0), 0);
            EXPECT(vrd_receive(ends.receive, NULL, 0), 0);
        } else {
            EXPECT(vrd_cap_export(cap, VRD_RIGHT_RECEIVE, &fd), VRD_ERR_RESOURCE_BUSY);
            EXPECT(vrd_receive_async(cap, NULL, 0), VRD_ERR_CHANNEL_EMPTY);
            EXPECT(vrd_receive_timed(cap, NULL, 0, MS), VRD_ERR_TIMEOUT);
        }
        EXPECT(vrd_receive(way.receive, NULL, 0), 0);
        EXPECT(vrd_receive_message(way.receive, &in, VRD_FOREVER), 0);
        EXPECT(in.n_caps, 1);
        pthread_join(thread, NULL);
        EXPECT(mover.result, 0);
        expect_gone(cap);
        if (i == 0) {
            EXPECT(vrd_cap_close(in.caps[0]), 0);
            EXPECT(vrd_cap_close(ends.receive), 0);
            ends = ends_new(4);
            numbered_send(ends.send, 1, 0, 30);
            cap = ends.receive;
        }
    }
    numbered_receive(in.caps[0], 1, 0, 30);
    EXPECT(vrd_cap_close(ends.send), 0);
    EXPECT(vrd_cap_close(in.caps[0]), 0);
    ends_close(&other);
    ends_close(&way);
}

/* Whoever waits for room with it learns that it was closed. */
static void test_closed_on_its_way(void **state)
{
    struct ends way = ends_new(1), ends = ends_new(4);
    struct mover mover = { way.send, ends.send, VRD_FOREVER, 1, true };
    struct vrd_message in = { .max_caps = 1 };
    pthread_t thread;

    (void)state;
    EXPECT(vrd_send(way.send, NULL, 0), 0);
    mover_start(&mover, &thread);
    while (carry_one_try(way.send, ends.send, 0) != VRD_ERR_RESOURCE_BUSY)
        support_sleep_ms(1);
    EXPECT(vrd_cap_close(ends.send), 0);
    EXPECT(vrd_receive(way.receive, NULL, 0), 0);
    pthread_join(thread, NULL);
    EXPECT(mover.result, 0); /* what it was made into for the message has gone before */
    EXPECT(vrd_receive_message(way.receive, &in, VRD_FOREVER), 0);
    EXPECT(vrd_send(in.caps[0], NULL, 0), 0);
    EXPECT(vrd_receive(ends.receive, NULL, 0), 0);
    EXPECT(vrd_cap_close(in.caps[0]), 0);
    expect_end(ends.receive);
    EXPECT(vrd_cap_close(ends.receive), 0);
    ends_close(&way);
}

/* Two threads move the same one, again and again: one of them does. */
static void test_two_movers(void **state)
{
    struct ends way[2] = { ends_new(4), ends_new(4) }, ends = ends_new(4);
    vrd_cap_t cap = ends.send;

    (void)state;
    for (size_t round = 0; round < support_iterations(500); round++) {
        struct mover movers[2] = { { way[0].send, cap, VRD_FOREVER, 1, false },
                                   { way[1].send, cap, VRD_FOREVER, 1, false } };
        struct vrd_message in = { .max_caps = 1 };
        pthread_t threads[2];
        int won;

        for (int i = 0; i < 2; i++)
            mover_start(&movers[i], &threads[i]);
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
        won = movers[0].result == 0 ? 0 : 1;
        EXPECT(movers[won].result, 0);
        support_require(movers[!won].result == VRD_ERR_RESOURCE_BUSY ||
                        movers[!won].result == VRD_ERR_INVALID_CAPABILITY);
        EXPECT(vrd_receive_message(way[won].receive, &in, 0), 0);
        EXPECT(in.n_caps, 1);
        cap = in.caps[0];
    }
    ends.send = cap;
    expect_whole(&ends);
    ends_close(&ends);
    ends_close(&way[0]);
    ends_close(&way[1]);
}

/* Each over the other: at most one arrives; nothing hangs, nothing is lost that was not sent. */
static void test_each_over_the_other(void **state)
{
    (void)state;
    for (size_t round = 0; round < support_iterations(300); round++) {
        struct ends a = ends_new(2), b = ends_new(2);
        struct mover movers[2] = { { b.send, a.send, VRD_FOREVER, 1, false },
                                   { a.send, b.send, VRD_FOREVER, 1, false } };
        pthread_t threads[2];

        for (int i = 0; i < 2; i++)
            mover_start(&movers[i], &threads[i]);
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
        for (int i = 0; i < 2; i++)
            support_require(movers[i].result == 0 ||
                            movers[i].result == VRD_ERR_INVALID_CAPABILITY);
        support_require(movers[0].result == 0 || movers[1].result == 0);
        EXPECT(vrd_cap_close(a.receive), 0); /* each may hold the other's only sender */
        EXPECT(vrd_cap_close(b.receive), 0);
        if (movers[0].result != 0)
            EXPECT(vrd_cap_close(a.send), 0);
        if (movers[1].result != 0)
            EXPECT(vrd_cap_close(b.send), 0);
    }
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_wrong_arguments),
                     SUPPORT_TEST(test_too_large),
                     SUPPORT_TEST(test_without_grant),
                     SUPPORT_TEST(test_receive_while_a_link_is_live),
                     SUPPORT_TEST(test_no_room),
                     SUPPORT_TEST(test_many_unread),
                     SUPPORT_TEST(test_peer_gone),
                     SUPPORT_TEST(test_fewer_wanted),
                     SUPPORT_TEST(test_plain_receives),
                     SUPPORT_TEST(test_discarded),
                     SUPPORT_TEST(test_never_read),
                     SUPPORT_TEST(test_revoked_on_its_way),
                     SUPPORT_TEST(test_sender_closed),
                     SUPPORT_TEST(test_in_batches),
                     SUPPORT_TEST(test_on_its_way_already),
                     SUPPORT_TEST(test_closed_on_its_way),
                     SUPPORT_TEST(test_two_movers),
                     SUPPORT_TEST(test_each_over_the_other),
                     { 0 },
                 },
             .warm_up = channels_warm_up);
