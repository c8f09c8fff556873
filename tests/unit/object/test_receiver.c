/* SPDX-License-Identifier: MIT */
/* The receiving side against senders by hand: who is let in, who is heard when, and the end. */
#include "unit/object/ports.h"

#include <errno.h>
#include <unistd.h>

#include "object/control.h"
#include "object/intake.h"
#include "object/move.h"
#include "object/owner.h"
#include "object/reactor.h"
#include "os/fd.h"

#define CAPACITY 8
#define MESSAGE_MAX 1000

/* The receiver, and the far end of its root. */
struct owner {
    struct port *port;
    vrd_cap_t cap;
    int root;
};

static struct owner owner_new(void)
{
    struct owner owner;
    int pair[2];

    support_require_equal(socket_pair(pair), 0);
    owner.root = pair[1];
    owner.port = port_receiver(CAPACITY, MESSAGE_MAX, &owner.cap);
    control_lock();
    support_require_equal(owner_root(owner.port, pair[0]), 0);
    control_unlock();
    return owner;
}

static void owner_free(struct owner *owner)
{
    port_hold_and_close(owner->port, owner->cap);
    fd_close(&owner->root);
}

/* A socket that confers `rights`. */
static int owner_invites(const struct owner *owner, uint32_t rights)
{
    int pair[2];

    support_require_equal(socket_pair(pair), 0);
    control_lock();
    support_require_equal(owner_invite(owner->port, pair[0], rights), 0);
    control_unlock();
    return pair[1];
}

struct sender_by_hand {
    struct ring_writer w;
    struct segment answer;
    int tether;
};

static void sender_hello_with(struct sender_by_hand *s, int fd, uint32_t slots,
                              uint64_t max_message)
{
    const struct frame hello = { .type = FRAME_HELLO, .slots = slots, .max_message = max_message };
    struct segment segment;
    int pair[2], segment_fd;

    *s = (struct sender_by_hand){ .tether = -1 };
    support_require_equal(socket_pair(pair), 0);
    support_require_equal(
        segment_create(layout_sender_size(ring_slots(slots)), &segment, &segment_fd), 0);
    ring_writer_init(&s->w, segment, slots);
    s->tether = pair[0];
    support_require_equal(frame_put(fd, &hello, (int[]){ pair[1], segment_fd }, 2), 0);
    close(pair[1]);
    close(segment_fd);
}

static void sender_connected(struct sender_by_hand *s, int fd)
{
    sender_hello_with(s, fd, CAPACITY, MESSAGE_MAX);
}

static void sender_free(struct sender_by_hand *s)
{
    ring_writer_deinit(&s->w);
    segment_unmap(&s->answer);
    fd_close(&s->tether);
}

static void sender_welcomed(struct sender_by_hand *s)
{
    datagram_auto datagram = { .pidfd = -1 };

    frame_get(s->tether, FRAME_WELCOME, &datagram);
    support_require_equal(segment_import(datagram.fds[0], LAYOUT_RECEIVER_SIZE, &s->answer), 0);
    ring_writer_answered(&s->w, s->answer.addr);
}

static void put(struct sender_by_hand *s, uint32_t value)
{
    const struct ring_message message = { .data = &value, .len = sizeof value };

    support_require_equal(ring_write(&s->w, &message), 0);
}

/* What a receive that does not wait says, once the sockets were read: the value, or an error. */
static int64_t take(const struct owner *owner)
{
    uint32_t value = 0;

    reactor_poll();
    const ssize_t n = vrd_receive_async(owner->cap, &value, sizeof value);

    return n < 0 ? n : (int64_t)value;
}

/* --- who is let in ------------------------------------------------------------------------------------ */

static void a_hello_over_the_root_makes_a_link_and_again(void **state)
{
    struct owner owner = owner_new();
    struct sender_by_hand senders[3];

    (void)state;
    assert_int_equal(take(&owner), VRD_ERR_CHANNEL_EMPTY);
    for (uint32_t i = 0; i < 3; i++) {
        sender_connected(&senders[i], owner.root);
        put(&senders[i], i);
    }
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(take(&owner), i);
    assert_int_equal(take(&owner), VRD_ERR_CHANNEL_EMPTY);
    for (uint32_t i = 0; i < 3; i++) {
        sender_welcomed(&senders[i]);
        put(&senders[i], 10 + i);
        assert_int_equal(take(&owner), 10 + i);
        sender_free(&senders[i]);
    }
    owner_free(&owner);
}

static void an_invitation_is_burnt_by_its_hello(void **state)
{
    struct owner owner = owner_new();
    struct sender_by_hand sender, second;
    int fd = owner_invites(&owner, VRD_RIGHT_SEND);

    (void)state;
    sender_connected(&sender, fd);
    put(&sender, 1);
    assert_int_equal(take(&owner), 1);
    assert_true(socket_ended(fd));
    assert_int_equal(socket_send(fd, "x", 1, NULL, 0), -EPIPE);
    close(fd);
    sender_free(&sender);

    /* Two at once: the second comes to nothing. */
    fd = owner_invites(&owner, VRD_RIGHT_SEND);
    control_lock(); /* nobody looks before both are there */
    sender_connected(&sender, fd);
    sender_connected(&second, fd);
    control_unlock();
    put(&sender, 1);
    put(&second, 2);
    assert_int_equal(take(&owner), 1);
    assert_int_equal(take(&owner), VRD_ERR_CHANNEL_EMPTY);
    assert_true(socket_ended(second.tether));
    close(fd);
    sender_free(&sender);
    sender_free(&second);
    owner_free(&owner);
}

static void too_large_a_geometry_is_refused(void **state)
{
    static const struct {
        uint32_t slots;
        uint64_t max_message;
    } wishes[] = { { CAPACITY + 1, MESSAGE_MAX }, { CAPACITY, MESSAGE_MAX + 1 }, { 1 << 10, 1 } };

    (void)state;
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
        struct owner owner = owner_new();
        struct sender_by_hand sender;
        int fd = owner_invites(&owner, VRD_RIGHT_SEND);

        sender_hello_with(&sender, fd, wishes[i].slots, wishes[i].max_message);
        put(&sender, 1);
        assert_int_equal(take(&owner), VRD_ERR_CHANNEL_EMPTY);
        assert_true(socket_ended(sender.tether));
        assert_true(socket_ended(fd));
        close(fd);
        sender_free(&sender);
        owner_free(&owner);
    }
}

static void a_smaller_geometry_will_do(void **state)
{
    struct owner owner = owner_new();
    struct sender_by_hand sender;

    (void)state;
    sender_hello_with(&sender, owner.root, 1, 1);
    for (uint32_t i = 0; i < 20; i++) {
        put(&sender, i);
        assert_int_equal(take(&owner), i);
        if (i == 0)
            sender_welcomed(&sender);
    }
    sender_free(&sender);
    owner_free(&owner);
}

static void without_the_right_to_send_nobody_gets_in(void **state)
{
    struct owner owner = owner_new();
    struct sender_by_hand sender;
    int fd = owner_invites(&owner, VRD_RIGHT_GRANT);

    (void)state;
    sender_connected(&sender, fd);
    put(&sender, 1);
    assert_int_equal(take(&owner), VRD_ERR_CHANNEL_EMPTY);
    assert_true(socket_ended(sender.tether));
    close(fd);
    sender_free(&sender);
    owner_free(&owner);
}

/* --- deriving ------------------------------------------------------------------------------------------- */

static void derived_rights_are_a_subset_and_need_grant(void **state)
{
    (void)state;
    for (uint32_t rights = 1; rights <= 15; rights++)
        for (uint32_t wish = 1; wish <= 15 && !(rights & VRD_RIGHT_RECEIVE); wish++) {
            const struct frame derive = { .type = FRAME_DERIVE, .rights = wish };
            const bool legal = (rights & VRD_RIGHT_GRANT) != 0 && (wish & ~rights) == 0;
            struct owner owner = owner_new();
            int fd = owner_invites(&owner, rights), pair[2];

            assert_int_equal(socket_pair(pair), 0);
            assert_int_equal(frame_put(fd, &derive, &pair[1], 1), 0);
            close(pair[1]);
            take(&owner);
            assert_int_equal(socket_ended(pair[0]), !legal);
            assert_int_equal(socket_ended(fd), !legal);
            close(pair[0]);
            close(fd);
            owner_free(&owner);
        }
}

/* --- who is heard when ------------------------------------------------------------------------------------- */

#define MANY 40

/* However many there are and however silent some of them have been. */
static void many_senders_are_all_heard(void **state)
{
    struct owner owner = owner_new();
    struct sender_by_hand senders[MANY];
    uint64_t random = 77;

    (void)state;
    for (uint32_t i = 0; i < MANY; i++) {
        sender_connected(&senders[i], owner.root);
        put(&senders[i], i);
        assert_int_equal(take(&owner), i); /* the queue of HELLOs is short */
        sender_welcomed(&senders[i]);
    }
    for (size_t round = 0; round < support_iterations(3000); round++) {
        /* A few talk all the time, the others fall silent and talk again. */
        const uint32_t i = (uint32_t)(random_below(&random, 10) > 0 ? random_below(&random, 3)
                                                                    : random_below(&random, MANY));
        uint64_t notice;
        int64_t got;

        put(&senders[i], i);
        notice = *senders[i].w.notice;
        if ((uint32_t)notice == senders[i].w.position && (notice >> 40 & 0xff) == RING_TETHER)
            assert_int_equal(socket_send(senders[i].tether, "", 1, NULL, 0), 0);
        got = take(&owner);
        assert_int_equal(got, i);
    }
    for (uint32_t i = 0; i < MANY; i++)
        sender_free(&senders[i]);
    owner_free(&owner);
}

static void nobody_talks_all_the_time(void **state)
{
    struct owner owner = owner_new();
    struct sender_by_hand loud, quiet;
    int64_t got = 0;
    int loud_ones = 0;

    (void)state;
    sender_connected(&loud, owner.root);
    sender_connected(&quiet, owner.root);
    put(&loud, 1);
    put(&quiet, 2);
    assert_int_equal(take(&owner), 1);
    assert_int_equal(take(&owner), 2);
    sender_welcomed(&loud);
    sender_welcomed(&quiet);
    put(&quiet, 2);
    while (got != 2) { /* there is always one of the other's */
        assert_int_equal(ring_writer_refresh(&loud.w), 0);
        put(&loud, 1);
        got = take(&owner);
        assert_true(got == 1 || got == 2);
        loud_ones += got == 1;
        assert_true(loud_ones < 200);
        if (got == 2)
            break;
    }
    sender_free(&loud);
    sender_free(&quiet);
    owner_free(&owner);
}

static void what_is_too_large_waits_while_others_are_heard(void **state)
{
    struct owner owner = owner_new();
    struct sender_by_hand large, small;
    const struct ring_message message = { .data = (char[]){ "0123456789" }, .len = 10 };
    char buffer[10];

    (void)state;
    sender_connected(&large, owner.root);
    sender_connected(&small, owner.root);
    assert_int_equal(ring_write(&large.w, &message), 0);
    for (uint32_t i = 0; i < 3; i++)
        put(&small, i);
    for (uint32_t i = 0; i < 3; i++) {
        int64_t got = take(&owner);

        if (got == VRD_ERR_MESSAGE_TOO_LARGE)
            got = take(&owner);
        assert_int_equal(got, i);
    }
    assert_int_equal(take(&owner), VRD_ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(vrd_receive_async(owner.cap, buffer, sizeof buffer), 10);
    assert_memory_equal(buffer, "0123456789", 10);
    sender_free(&large);
    sender_free(&small);
    owner_free(&owner);
}

/* --- the end ------------------------------------------------------------------------------------------------ */

static void what_a_sender_left_is_received_first(void **state)
{
    struct owner owner = owner_new();
    struct sender_by_hand sender;

    (void)state;
    sender_connected(&sender, owner.root);
    for (uint32_t i = 0; i < CAPACITY; i++)
        put(&sender, i);
    sender_free(&sender);
    fd_close(&owner.root);
    for (uint32_t i = 0; i < CAPACITY; i++)
        assert_int_equal(take(&owner), i);
    for (int i = 0; i < 3; i++)
        assert_int_equal(take(&owner), VRD_ERR_PEER_GONE);
    owner_free(&owner);
}

/* Whoever goes on writing after its end is not listened to for ever: a turn and a ring, at most. */
static void an_end_is_an_end(void **state)
{
    struct owner owner = owner_new();
    struct sender_by_hand sender;
    uint32_t n = 0;
    int64_t got;

    (void)state;
    sender_connected(&sender, owner.root);
    put(&sender, 0);
    assert_int_equal(take(&owner), 0);
    sender_welcomed(&sender);
    fd_close(&sender.tether); /* its memory is still there */
    reactor_poll();
    do {
        assert_int_equal(ring_writer_refresh(&sender.w), 0);
        put(&sender, n);
        got = take(&owner);
        n++;
        assert_true(n < 100);
    } while (got >= 0);
    assert_int_equal(got, VRD_ERR_CHANNEL_EMPTY);
    sender_free(&sender);
    owner_free(&owner);
}

static void a_corrupt_sender_is_told_once_and_the_others_go_on(void **state)
{
    struct owner owner = owner_new();
    struct sender_by_hand good, bad;
    int64_t got;
    int told = 0, values = 0;

    (void)state;
    sender_connected(&good, owner.root);
    sender_connected(&bad, owner.root);
    put(&good, 1);
    put(&bad, 2);
    assert_int_equal(take(&owner), 1);
    assert_int_equal(take(&owner), 2);
    sender_welcomed(&good);
    sender_welcomed(&bad);
    bad.w.slots[1].word = 4711; /* no sequence of these days */
    for (int i = 0; i < 5; i++)
        put(&good, 5);
    while ((got = take(&owner)) != VRD_ERR_CHANNEL_EMPTY) {
        told += got == VRD_ERR_PEER_CORRUPT;
        values += got == 5;
    }
    assert_int_equal(told, 1);
    assert_int_equal(values, 5);
    assert_int_equal(*bad.w.notice >> 32 & 0xff, NOTICE_CORRUPT);
    put(&good, 6);
    assert_int_equal(take(&owner), 6);
    sender_free(&good);
    sender_free(&bad);
    owner_free(&owner);
}

static void without_any_socket_it_is_over(void **state)
{
    struct owner owner = owner_new();
    int fd = owner_invites(&owner, VRD_RIGHT_SEND);

    (void)state;
    assert_int_equal(take(&owner), VRD_ERR_CHANNEL_EMPTY);
    fd_close(&owner.root);
    assert_int_equal(take(&owner), VRD_ERR_CHANNEL_EMPTY); /* an invitation is out */
    reactor_poll();
    assert_int_equal(take(&owner), VRD_ERR_CHANNEL_EMPTY);
    close(fd);
    reactor_poll();
    assert_int_equal(take(&owner), VRD_ERR_PEER_GONE);
    owner_free(&owner);
}

/* --- moving ---------------------------------------------------------------------------------------------------- */

static int move(const struct owner *owner, int fd)
{
    int r;

    port_hold(owner->port, owner->cap);
    r = move_give(owner->port, fd, VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT);
    port_let_go(owner->port);
    return r;
}

static void the_sockets_move_in_frames_of_equal_rights(void **state)
{
    static const uint32_t rights[] = { 1, 1, 5, 5, 5, 1 };
    static const size_t runs[] = { 2, 3, 1 };
    struct owner owner = owner_new();
    int fds[6], pair[2];
    size_t at = 0;

    (void)state;
    for (int i = 0; i < 6; i++)
        fds[i] = owner_invites(&owner, rights[i]);
    assert_int_equal(socket_pair(pair), 0);
    assert_int_equal(move(&owner, pair[0]), 0);
    {
        datagram_auto datagram = { .pidfd = -1 };
        const struct frame greeting = frame_get(pair[1], FRAME_GREETING_RECEIVE, &datagram);

        assert_int_equal(greeting.slots, CAPACITY);
        assert_int_equal(greeting.max_message, MESSAGE_MAX);
        assert_int_equal(greeting.rights, VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT);
        assert_int_equal(greeting.count, 6);
        assert_int_equal(datagram.n_fds, 1);
        assert_int_equal(socket_send(datagram.fds[0], "root", 4, NULL, 0), 0);
    }
    for (int run = 0; run < 3; run++) {
        datagram_auto datagram = { .pidfd = -1 };
        const struct frame frame = frame_get(pair[1], FRAME_INVITATIONS, &datagram);

        assert_int_equal(datagram.n_fds, runs[run]);
        assert_int_equal(frame.rights, rights[at]);
        for (size_t i = 0; i < datagram.n_fds; i++, at++) { /* each is the other end of its own */
            assert_int_equal(socket_send(datagram.fds[i], "inv", 3, NULL, 0), 0);
            assert_true(fd_readable(fds[at]));
        }
    }
    assert_true(fd_readable(owner.root));
    assert_false(fd_readable(pair[1]));
    for (int i = 0; i < 6; i++)
        close(fds[i]);
    close(pair[0]);
    close(pair[1]);
    owner_free(&owner);
}

static void a_link_keeps_it_here(void **state)
{
    struct owner owner = owner_new();
    struct sender_by_hand sender;
    int pair[2];

    (void)state;
    assert_int_equal(socket_pair(pair), 0);
    sender_connected(&sender, owner.root);
    put(&sender, 1);
    assert_int_equal(take(&owner), 1);
    assert_int_equal(move(&owner, pair[0]), VRD_ERR_RESOURCE_BUSY);
    assert_false(fd_readable(pair[1]));
    sender_free(&sender);
    fd_close(&owner.root);
    reactor_poll();
    assert_int_equal(take(&owner), VRD_ERR_PEER_GONE);
    assert_int_equal(move(&owner, pair[0]), VRD_ERR_PEER_GONE); /* nothing is left to move */
    close(pair[0]);
    close(pair[1]);
    owner_free(&owner);
}

static void a_pump_reads_the_sockets_of_whoever_is_there(void **state)
{
    struct owner owner = owner_new();
    struct sender_by_hand sender;
    vrd_cap_t cap;

    (void)state;
    sender_connected(&sender, owner.root);
    assert_false(fd_readable(sender.tether));
    assert_true(receiver_pump(owner.cap));
    assert_true(fd_readable(sender.tether)); /* WELCOME */
    assert_false(receiver_pump(VRD_CAP_NONE));
    assert_false(receiver_pump(owner.cap ^ (UINT64_C(1) << 40)));
    assert_false(receiver_pump(UINT64_MAX));
    cap = owner.cap;
    sender_free(&sender);
    owner_free(&owner);
    assert_false(receiver_pump(cap));
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(a_hello_over_the_root_makes_a_link_and_again),
                     SUPPORT_TEST(an_invitation_is_burnt_by_its_hello),
                     SUPPORT_TEST(too_large_a_geometry_is_refused),
                     SUPPORT_TEST(a_smaller_geometry_will_do),
                     SUPPORT_TEST(without_the_right_to_send_nobody_gets_in),
                     SUPPORT_TEST(derived_rights_are_a_subset_and_need_grant),
                     SUPPORT_TEST(many_senders_are_all_heard),
                     SUPPORT_TEST(nobody_talks_all_the_time),
                     SUPPORT_TEST(what_is_too_large_waits_while_others_are_heard),
                     SUPPORT_TEST(what_a_sender_left_is_received_first),
                     SUPPORT_TEST(an_end_is_an_end),
                     SUPPORT_TEST(a_corrupt_sender_is_told_once_and_the_others_go_on),
                     SUPPORT_TEST(without_any_socket_it_is_over),
                     SUPPORT_TEST(the_sockets_move_in_frames_of_equal_rights),
                     SUPPORT_TEST(a_link_keeps_it_here),
                     SUPPORT_TEST(a_pump_reads_the_sockets_of_whoever_is_there),
                     { 0 },
                 },
             .warm_up = ports_warm_up)
