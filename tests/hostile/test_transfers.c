/* SPDX-License-Identifier: MIT */
/*
 * Capabilities that are sent wrongly: numbers out of order, descriptors of every kind, messages that
 * name what never came, transfers that no message names, answers of somebody who holds a reply
 * capability. Whoever does it loses the link or the right; nothing is left, and others notice nothing.
 */
#include "support/support.h"

#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/passing.h"
#include "base/macro.h"
#include "link/ring.h"
#include "os/fd.h"
#include "os/socket.h"
#include "owner.h"
#include "peer.h"
#include "victim.h"
#include "wrong.h"

struct stage {
    struct victim victim;
    struct support_snapshot before;
    struct peer peer;
    int invitation;
};

static void stage_start(struct stage *stage)
{
    support_snapshot_take(&stage->before);
    stage->invitation = victim_invite(&stage->victim, VRD_RIGHT_SEND);
    peer_connect(&stage->peer, stage->invitation, VICTIM_SLOTS, VICTIM_MESSAGE_MAX);
    peer_welcome(&stage->peer, victim_pump_any, &stage->victim);
}

static void stage_clean(struct stage *stage, const char *attack)
{
    fd_close(&stage->invitation);
    peer_deinit(&stage->peer);
    victim_pump_until_alone(&stage->victim);
    victim_require_well(&stage->victim);
    if (!support_snapshot_holds(&stage->before))
        support_fail(__FILE__, __LINE__, "%s left something behind", attack);
}

/* The victim ends the link. */
static void stage_over(struct stage *stage, const char *attack)
{
    victim_pump_until_hung_up(&stage->victim, stage->peer.tether);
    victim_require_well(&stage->victim);
    stage_clean(stage, attack);
}

/* n sockets whose other ends show what becomes of them. */
static int transfer_over(int to, uint64_t id, uint32_t count, int *far, size_t n)
{
    const struct frame frame = { .type = FRAME_TRANSFER, .id = id, .count = count };
    int fds[8] = { 0 }, r;

    for (size_t i = 0; i < n; i++) {
        int pair[2];

        support_require_equal(socket_pair(pair), 0);
        fds[i] = pair[0];
        far[i] = pair[1];
    }
    r = raw_send_frame(to, &frame, fds, n);
    for (size_t i = 0; i < n; i++)
        fd_close(&fds[i]);
    return r;
}

static int transfer(const struct stage *stage, uint64_t id, uint32_t count, int *far, size_t n)
{
    return transfer_over(stage->peer.tether, id, count, far, n);
}

static void expect_closed(struct victim *victim, int *far, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        while (!socket_ended(far[i])) {
            victim_pump(victim);
            support_sleep_ms(1);
        }
        fd_close(&far[i]);
    }
}

/* An empty message that names a transfer. */
static void publish(struct stage *stage, uint64_t id)
{
    peer_slot(&stage->peer, stage->peer.position)->transfer = id;
    peer_publish_word(&stage->peer,
                      slot_word(stage->peer.position + 1, 0, SLOT_INLINE | SLOT_META));
}

static void test_numbers_out_of_order(void **state)
{
    static const uint64_t wrong[] = { 0, 2, 17, UINT64_C(1) << 32, UINT64_MAX };
    struct stage stage;
    int far[2];

    (void)state;
    victim_init(&stage.victim);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        stage_start(&stage);
        support_require_equal(transfer(&stage, wrong[i], 0, far, 2), 0);
        expect_closed(&stage.victim, far, 2);
        stage_over(&stage, "a transfer out of order");
    }
    for (uint64_t again = 0; again < 3; again++) { /* replayed: unread, read, and an older one */
        stage_start(&stage);
        support_require_equal(transfer(&stage, 1, 0, far, 1), 0);
        if (again > 0)
            publish(&stage, 1);
        victim_pump(&stage.victim);
        if (again == 2) {
            support_require_equal(transfer(&stage, 2, 0, far + 1, 1), 0);
            publish(&stage, 2);
            victim_pump(&stage.victim);
            expect_closed(&stage.victim, far + 1, 1);
        }
        support_require_equal(transfer(&stage, 1, 0, far + 1, 1), 0);
        expect_closed(&stage.victim, far, 2);
        stage_over(&stage, "a transfer replayed");
    }
    victim_deinit(&stage.victim);
}

static void test_wrong_counts(void **state)
{
    struct stage stage;
    int far[8];

    (void)state;
    victim_init(&stage.victim);
    for (size_t n = 0; n <= 8; n++) {
        if (n >= 1 && n <= FRAME_TRANSFER_MAX)
            continue;
        stage_start(&stage);
        support_require_equal(transfer(&stage, 1, 0, far, n), 0);
        expect_closed(&stage.victim, far, n);
        stage_over(&stage, "a transfer of so many");
    }
    stage_start(&stage);
    support_require_equal(transfer(&stage, 1, 1, far, 1), 0); /* as if it were an answer */
    expect_closed(&stage.victim, far, 1);
    stage_over(&stage, "a transfer with a count");
    victim_deinit(&stage.victim);
}

static void test_wrong_descriptors(void **state)
{
    const struct frame frame = { .type = FRAME_TRANSFER, .id = 1 };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (const struct wrong *wrong = wrong_sockets; wrong->name; wrong++)
        for (int at = 0; at < 2; at++) {
            int fds[2], pair[2];

            if (wrong->dead_socket)
                continue;
            stage_start(&stage);
            support_require_equal(socket_pair(pair), 0);
            fds[at] = wrong->make();
            fds[!at] = pair[0];
            support_require_equal(raw_send_frame(stage.peer.tether, &frame, fds, 2), 0);
            fd_close(&fds[0]);
            fd_close(&fds[1]);
            expect_closed(&stage.victim, &pair[1], 1);
            stage_over(&stage, wrong->name);
        }
    victim_deinit(&stage.victim);
}

static void test_over_an_invitation(void **state)
{
    struct stage stage;
    int far[1];

    (void)state;
    victim_init(&stage.victim);
    support_snapshot_take(&stage.before);
    stage.invitation = victim_invite(&stage.victim, VRD_RIGHT_SEND);
    peer_init(&stage.peer, VICTIM_SLOTS);
    support_require_equal(transfer_over(stage.invitation, 1, 0, far, 1), 0);
    expect_closed(&stage.victim, far, 1);
    victim_pump_until_hung_up(&stage.victim, stage.invitation);
    stage_clean(&stage, "a transfer without a link");
    victim_deinit(&stage.victim);
}

/* Messages that name what has not come, or not next. */
static void test_what_never_came(void **state)
{
    static const struct {
        uint64_t sent, named;
    } cases[] = { { 0, 1 }, { 0, UINT64_MAX }, { 1, 2 }, { 2, 2 }, { 1, UINT64_C(1) << 63 | 1 } };
    struct stage stage;
    int far[2];

    (void)state;
    victim_init(&stage.victim);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const size_t corrupt = stage.victim.corrupt;

        stage_start(&stage);
        for (uint64_t id = 1; id <= cases[i].sent; id++)
            support_require_equal(transfer(&stage, id, 0, &far[id - 1], 1), 0);
        publish(&stage, cases[i].named);
        expect_closed(&stage.victim, far, cases[i].sent);
        stage_over(&stage, "a message that names what never came");
        support_require_equal(stage.victim.corrupt, corrupt + 1);
    }
    victim_deinit(&stage.victim);
}

/* Transfers without messages: so many are kept, and no more. */
static void test_a_flood(void **state)
{
    struct stage stage;
    size_t sent = 0;
    int far[400][4];

    (void)state;
    victim_init(&stage.victim);
    stage_start(&stage);
    while (sent < 400 && transfer(&stage, sent + 1, 0, far[sent], 4) == 0) {
        sent++;
        if (sent == 16) { /* as an honest one might */
            victim_require_well(&stage.victim);
            assert_false(raw_hung_up(stage.peer.tether));
            assert_false(socket_ended(far[0][0]));
        }
        victim_pump(&stage.victim);
    }
    assert_true(sent > 16 && sent < 400);
    for (int i = 0; i < 4; i++) /* those of the one that could not be sent */
        fd_close(&far[sent][i]);
    for (size_t i = 0; i < sent; i++)
        expect_closed(&stage.victim, far[i], 4);
    stage_over(&stage, "a flood of transfers");
    victim_deinit(&stage.victim);
}

static void test_gone_before_the_message(void **state)
{
    struct stage stage;
    int far[4];

    (void)state;
    victim_init(&stage.victim);
    stage_start(&stage);
    support_require_equal(transfer(&stage, 1, 0, far, 4), 0);
    victim_pump(&stage.victim);
    fd_close(&stage.peer.tether);
    expect_closed(&stage.victim, far, 4);
    stage_clean(&stage, "a transfer whose sender is gone");
    victim_deinit(&stage.victim);
}

/* Sockets of the right kind with anything in them: what is no invitation is no capability. */
static void test_invitations_that_are_none(void **state)
{
    static const struct frame said[] = {
        { .type = FRAME_CLOSE },
        { .type = FRAME_WELCOME },
        { .type = FRAME_GREETING_SEND, .slots = 1, .max_message = 1, .rights = VRD_RIGHT_RECEIVE },
        { .type = FRAME_GREETING_SEND, .slots = 1, .max_message = 1, .rights = VRD_RIGHT_GRANT },
        { .type = FRAME_GREETING_RECEIVE, .slots = 1, .max_message = 1, .rights = VRD_RIGHT_SEND },
        { .type = FRAME_GREETING_RECEIVE,
          .slots = 1,
          .max_message = 1,
          .rights = VRD_RIGHT_RECEIVE,
          .count = 1000000 },
        { .type = FRAME_HELLO, .slots = 1, .max_message = 1 },
    };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    stage_start(&stage);
    for (size_t i = 0; i < ARRAY_SIZE(said); i++) {
        struct vrd_message in = { .max_caps = 4 };
        int far[2];

        support_require_equal(transfer(&stage, i + 1, 0, far, 2), 0);
        support_require_equal(raw_send_frame(far[0], &said[i], NULL, 0), 0);
        fd_close(&far[1]); /* withdrawn */
        publish(&stage, i + 1);
        support_require_equal(vrd_receive_message(stage.victim.receive, &in, VRD_FOREVER), 0);
        support_require_equal(in.n_caps, 2);
        support_require_equal(in.caps[0], VRD_CAP_NONE);
        support_require_equal(in.caps[1], VRD_CAP_NONE);
        expect_closed(&stage.victim, far, 1);
    }
    stage_clean(&stage, "invitations that are none");
    victim_deinit(&stage.victim);
}

/* What is taken for a capability, and is the attacker's: using it harms nothing but itself. */
static void test_a_capability_of_the_attacker(void **state)
{
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (int kind = 0; kind < 3; kind++) {
        struct vrd_message in = { .max_caps = 1 };
        const struct frame welcome = { .type = FRAME_WELCOME };
        int far[1], r = 0;

        stage_start(&stage);
        support_require_equal(transfer(&stage, 1, 0, far, 1), 0);
        publish(&stage, 1);
        support_require_equal(vrd_receive_message(stage.victim.receive, &in, VRD_FOREVER), 0);
        support_require_equal(in.n_caps, 1);
        if (kind == 0)
            fd_close(&far[0]);
        if (kind == 1) /* nobody reads this socket: only a HELLO goes out by it */
            support_require_equal(raw_send_frame(far[0], &welcome, &stage.peer.segment_fd, 1), 0);
        for (int i = 0; r == 0 && i < 100; i++)
            r = vrd_send_async(in.caps[0], "secret", 6);
        assert_int_equal(r, kind == 0 ? VRD_ERR_PEER_GONE : VRD_ERR_CHANNEL_FULL);
        support_require_equal(vrd_cap_close(in.caps[0]), 0);
        fd_close(&far[0]);
        stage_clean(&stage, "the attacker's own capability");
    }
    victim_deinit(&stage.victim);
}

/* ---- an owner to its sender ----------------------------------------------------------------- */

static void test_answers_to_no_call(void **state)
{
    static const uint32_t counts[] = { 0, 1, REPLY_ENTRIES, REPLY_ENTRIES + 1, UINT32_MAX };

    (void)state;
    for (size_t at = 0; at < ARRAY_SIZE(counts); at++) {
        const struct frame frame = { .type = FRAME_TRANSFER,
                                     .id = UINT64_C(1) << 32,
                                     .count = counts[at] };
        struct support_snapshot before;
        struct owner owner;
        int pair[2], r = 0;

        support_snapshot_take(&before);
        owner_linked(&owner, 8);
        support_require_equal(socket_pair(pair), 0);
        support_require_equal(raw_send_frame(owner.tether, &frame, pair, 1), 0);
        fd_close(&pair[0]);
        for (int i = 0; r != VRD_ERR_PEER_CORRUPT && i < 1000; i++) {
            r = vrd_send_timed(owner.cap, "", 0, 1000000);
            owner_memory(&owner)->cursor = (uint64_t)i + 3;
            support_sleep_ms(1);
        }
        assert_int_equal(r, VRD_ERR_PEER_CORRUPT);
        assert_true(socket_ended(pair[1]));
        fd_close(&pair[1]);
        owner_deinit(&owner);
        assert_true(support_snapshot_holds(&before));
    }
}

/* ---- who holds a reply capability ----------------------------------------------------------- */

struct client {
    vrd_cap_t cap;
    char reply[64];
    ssize_t result;
};

static void *client_run(void *arg)
{
    struct client *client = arg;

    client->result = vrd_call(client->cap, "", 0, client->reply, sizeof client->reply, VRD_FOREVER);
    return NULL;
}

/* Calls, takes the reply capability out of the library, and lets `attack` loose on its socket. */
static ssize_t relay_attack(void (*attack)(int fd, const void *arg), const void *arg)
{
    struct support_snapshot before;
    struct client client = { 0 };
    struct vrd_message request = { 0 };
    vrd_cap_t endpoint, reply;
    pthread_t thread;
    uint64_t id;
    int fd;

    support_snapshot_take(&before);
    support_require_equal(vrd_endpoint_create(&id, &endpoint), 0);
    client.cap = endpoint;
    support_require_equal(pthread_create(&thread, NULL, client_run, &client), 0);
    support_require_equal(vrd_receive_call(endpoint, &request, &reply, VRD_FOREVER), 0);
    support_require_equal(passing_mint(reply, &fd), 0);
    passing_moved(reply);
    attack(fd, arg);
    pthread_join(thread, NULL);
    while (!raw_hung_up(fd)) /* good for one frame */
        support_sleep_ms(1);
    fd_close(&fd);
    support_require_equal(vrd_call(endpoint, "", 0, NULL, 0, 0), VRD_ERR_TIMEOUT); /* still there */
    support_require_equal(vrd_cap_close(endpoint), 0);
    assert_true(support_snapshot_holds(&before));
    return client.result;
}

struct said {
    size_t size;  /* of the segment          */
    size_t bytes; /* as the frame says it    */
    uint64_t len; /* as the segment says it  */
    int n_caps;
    int (*make)(void); /* in place of the segment */
    int (*cap)(void);  /* in place of a capability */
};

static void say(int fd, const void *arg)
{
    const struct said *said = arg;
    const struct frame frame = { .type = FRAME_REPLY, .bytes = said->bytes };
    struct segment segment = { 0 };
    int fds[8], n = 1;

    fds[0] = -1;
    if (said->make) {
        fds[0] = said->make();
    } else {
        support_require_equal(segment_create(said->size, &segment, &fds[0]), 0);
        memcpy(segment.addr, &said->len, sizeof said->len);
        segment_unmap(&segment);
    }
    for (int i = 0; i < said->n_caps; i++) {
        int pair[2];

        support_require_equal(socket_pair(pair), 0);
        fd_close(&pair[1]);
        fds[n++] = pair[0];
    }
    if (said->cap)
        fds[n++] = said->cap();
    support_require_equal(raw_send_frame(fd, &frame, fds, (size_t)n), 0);
    raw_send_frame(fd, &frame, fds, (size_t)n); /* a second one is nobody's business */
    for (int i = 0; i < n; i++)
        fd_close(&fds[i]);
}

static void test_answers_from_elsewhere(void **state)
{
    static const struct said good = { .size = 4096, .bytes = 4096, .len = 5 };
    static const struct said bad[] = {
        { .size = 4096, .bytes = 8192, .len = 5 },
        { .size = 8192, .bytes = 4096, .len = 5 },
        { .size = 4096, .bytes = 4096, .len = 4096 },
        { .size = 4096, .bytes = 4096, .len = UINT64_MAX },
        { .size = 4096, .bytes = 1, .len = 1 },
        { .size = 4096, .bytes = UINT64_C(1) << 40, .len = 5 },
        { .size = (size_t)4 << 20, .bytes = (size_t)4 << 20, .len = 5 },
        { .size = 4096, .bytes = 4096, .len = 5, .n_caps = 5 },
        { .size = 4096, .bytes = 4096, .len = 5, .n_caps = 7 },
    };

    (void)state;
    assert_int_equal(relay_attack(say, &good), 5);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(relay_attack(say, &bad[i]), VRD_ERR_PEER_GONE);
    for (const struct wrong *wrong = wrong_segments; wrong->name; wrong++) {
        const struct said said = { .bytes = 4096, .make = wrong->make };

        assert_int_equal(relay_attack(say, &said), VRD_ERR_PEER_GONE);
    }
    for (const struct wrong *wrong = wrong_sockets; wrong->name; wrong++) {
        const struct said said = { .size = 4096, .bytes = 4096, .len = 5, .cap = wrong->make };

        if (!wrong->dead_socket)
            assert_int_equal(relay_attack(say, &said), VRD_ERR_PEER_GONE);
    }
}

static void say_frame(int fd, const void *arg)
{
    support_require_equal(raw_send_frame(fd, arg, NULL, 0), 0);
}

static void say_byte(int fd, const void *arg)
{
    (void)arg;
    support_require_equal(raw_send(fd, "", 1, NULL, 0), 0);
}

static void hang_up(int fd, const void *arg)
{
    (void)arg;
    shutdown(fd, SHUT_RDWR);
}

static void test_no_answers_from_elsewhere(void **state)
{
    static const struct frame frames[] = {
        { .type = FRAME_CLOSE },
        { .type = FRAME_REPLY, .bytes = 4096 },
        { .type = FRAME_HELLO, .slots = 1, .max_message = 1 },
        { .type = FRAME_REVOKE, .id = 1 },
        { .type = FRAME_GREETING_REPLY, .slots = 1, .max_message = 1 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(frames); i++)
        assert_int_equal(relay_attack(say_frame, &frames[i]), VRD_ERR_PEER_GONE);
    assert_int_equal(relay_attack(say_byte, NULL), VRD_ERR_PEER_GONE);
    assert_int_equal(relay_attack(hang_up, NULL), VRD_ERR_PEER_GONE);
}

static int warm_up(void)
{
    vrd_cap_t send, receive;
    char byte;

    if (support_warm_up_channel() != 0 || vrd_channel_create(1, &send, &receive) != 0)
        return -1;
    if (vrd_receive_timed(receive, &byte, 1, 50000000) != VRD_ERR_TIMEOUT)
        return -1;
    return vrd_cap_close(send) != 0 || vrd_cap_close(receive) != 0 ? -1 : 0;
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_numbers_out_of_order),
                     SUPPORT_TEST(test_wrong_counts),
                     SUPPORT_TEST(test_wrong_descriptors),
                     SUPPORT_TEST(test_over_an_invitation),
                     SUPPORT_TEST(test_what_never_came),
                     SUPPORT_TEST(test_a_flood),
                     SUPPORT_TEST(test_gone_before_the_message),
                     SUPPORT_TEST(test_invitations_that_are_none),
                     SUPPORT_TEST(test_a_capability_of_the_attacker),
                     SUPPORT_TEST(test_answers_to_no_call),
                     SUPPORT_TEST(test_answers_from_elsewhere),
                     SUPPORT_TEST(test_no_answers_from_elsewhere),
                     { 0 },
                 },
             .warm_up = warm_up)
