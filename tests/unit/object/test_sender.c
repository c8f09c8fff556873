/* SPDX-License-Identifier: MIT */
/* The sending side against an owner by hand: HELLO, the answer, the end and its causes. */
#include "unit/object/ports.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "object/control.h"
#include "object/owner.h"
#include "object/reactor.h"
#include "object/request.h"
#include "object/room.h"
#include "os/fd.h"

/* The owner: what it has of one sender. */
struct owner {
    struct port *port; /* the sender's */
    vrd_cap_t cap;
    int root;
    int tether;
    struct segment sender, own;
    int own_fd;
};

static void owner_init(struct owner *owner, uint32_t capacity)
{
    int pair[2];

    *owner = (struct owner){ .tether = -1, .own_fd = -1 };
    support_require_equal(socket_pair(pair), 0);
    owner->root = pair[1];
    owner->port = port_sender(capacity, 1000, pair[0], &owner->cap);
}

/* Takes the HELLO. */
static void owner_hello(struct owner *owner)
{
    datagram_auto datagram = { .pidfd = -1 };
    const struct frame hello = frame_get(owner->root, FRAME_HELLO, &datagram);

    support_require_equal(hello.slots, owner->port->capacity);
    support_require_equal(hello.max_message, 1000);
    support_require_equal(datagram.pid, getpid());
    owner->tether = fd_take(&datagram.fds[0]);
    support_require_equal(socket_adopt(owner->tether), 0);
    support_require_equal(segment_import(datagram.fds[1],
                                         layout_sender_size(ring_slots(hello.slots)),
                                         &owner->sender),
                          0);
}

static void owner_welcome(struct owner *owner)
{
    const struct frame welcome = { .type = FRAME_WELCOME };

    if (owner->own.size == 0)
        support_require_equal(segment_create(LAYOUT_RECEIVER_SIZE, &owner->own, &owner->own_fd), 0);
    support_require_equal(frame_put(owner->tether, &welcome, &owner->own_fd, 1), 0);
}

static struct receiver_segment *owner_says(const struct owner *owner)
{
    return owner->own.addr;
}

static void owner_hang_up(struct owner *owner)
{
    fd_close(&owner->tether);
    segment_unmap(&owner->sender);
    segment_unmap(&owner->own);
    fd_close(&owner->own_fd);
}

static void owner_deinit(struct owner *owner)
{
    port_hold_and_close(owner->port, owner->cap);
    owner_hang_up(owner);
    fd_close(&owner->root);
}

/* Linked and answered. */
static void owner_init_answered(struct owner *owner, uint32_t capacity)
{
    owner_init(owner, capacity);
    support_require_equal(vrd_send(owner->cap, "x", 1), 0);
    owner_hello(owner);
    owner_welcome(owner);
    support_require_equal(vrd_send_async(owner->cap, "y", 1), 0);
    support_require_equal(owner->port->sender.state, SENDER_ANSWERED);
    owner_says(owner)->cursor = 2;
}

static void the_first_message_says_hello(void **state)
{
    struct owner owner;
    const struct sender_segment *seen;

    (void)state;
    owner_init(&owner, 5);
    assert_int_equal(owner.port->sender.state, SENDER_NEW);
    assert_false(fd_readable(owner.root));
    assert_int_equal(vrd_send(owner.cap, "abc", 3), 0);
    assert_int_equal(owner.port->sender.state, SENDER_LINKED);
    owner_hello(&owner);
    seen = owner.sender.addr;
    assert_int_equal((uint32_t)seen->slots[0].word, 1);
    assert_int_equal(seen->slots[0].word >> 32 & 0xff, 3);
    assert_memory_equal(seen->slots[0].head, "abc", 3);
    owner_deinit(&owner);
}

static void unanswered_it_fills_its_ring_once(void **state)
{
    struct owner owner;

    (void)state;
    owner_init(&owner, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(vrd_send_async(owner.cap, "x", 1), 0);
    assert_int_equal(vrd_send_async(owner.cap, "x", 1), VRD_ERR_CHANNEL_FULL);
    assert_int_equal(vrd_send_timed(owner.cap, "x", 1, MS), VRD_ERR_TIMEOUT);
    owner_hello(&owner);
    owner_welcome(&owner);
    owner_says(&owner)->cursor = 2;
    for (int i = 0; i < 2; i++)
        assert_int_equal(vrd_send_async(owner.cap, "x", 1), 0);
    assert_int_equal(vrd_send_async(owner.cap, "x", 1), VRD_ERR_CHANNEL_FULL);
    assert_int_equal(owner.port->sender.state, SENDER_ANSWERED);
    assert_int_equal(owner.port->sender.owner, getpid());
    owner_deinit(&owner);
}

static void the_end_is_as_the_owner_says(void **state)
{
    static const struct {
        enum notice_cause cause;
        int error;
    } ends[] = { { NOTICE_REVOKED, VRD_ERR_REVOKED },
                 { NOTICE_CORRUPT, VRD_ERR_PEER_CORRUPT },
                 { 77, VRD_ERR_PEER_GONE } };

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct owner owner;

        owner_init_answered(&owner, 4);
        fd_close(&owner.root);
        owner_says(&owner)->notice = (uint64_t)ends[i].cause << 32;
        for (int k = 0; k < 3; k++)
            assert_int_equal(vrd_send(owner.cap, "z", 1), ends[i].error);
        assert_int_equal(owner.port->sender.state, SENDER_ENDED);
        assert_int_equal(owner.port->sender.owner, 0);
        owner_deinit(&owner);
    }
}

static void while_the_root_lives_a_link_is_made_anew(void **state)
{
    struct owner owner;

    (void)state;
    owner_init_answered(&owner, 4);
    owner_hang_up(&owner);
    reactor_poll(); /* without a notice, it is the reactor who sees it */
    assert_int_equal(vrd_send(owner.cap, "lost", 4), VRD_ERR_PEER_GONE); /* said once */
    assert_int_equal(owner.port->sender.state, SENDER_NEW);
    assert_int_equal(vrd_send(owner.cap, "anew", 4), 0);
    owner_hello(&owner);
    assert_memory_equal(((const struct sender_segment *)owner.sender.addr)->slots[0].head, "anew",
                        4);
    owner_hang_up(&owner);
    fd_close(&owner.root);
    reactor_poll();
    for (int k = 0; k < 3; k++)
        assert_int_equal(vrd_send(owner.cap, "z", 1), VRD_ERR_PEER_GONE);
    assert_int_equal(owner.port->sender.state, SENDER_ENDED);
    owner_deinit(&owner);
}

static void revoked_stays_revoked_while_the_root_lives(void **state)
{
    struct owner owner;

    (void)state;
    owner_init_answered(&owner, 4);
    owner_says(&owner)->notice = (uint64_t)NOTICE_REVOKED << 32;
    for (int k = 0; k < 3; k++)
        assert_int_equal(vrd_send(owner.cap, "z", 1), VRD_ERR_REVOKED);
    assert_false(fd_readable(owner.root)); /* no HELLO */
    owner_deinit(&owner);
}

/* --- batches ------------------------------------------------------------------------------------------ */

/* Five at once over a link that ends just then, when the owner has taken `taken` of them. */
static int batch_at_the_end(struct owner *owner, enum notice_cause cause, uint32_t taken)
{
    const struct vrd_message message = { .data = (void *)(uintptr_t) "abc", .len = 3 };
    const struct vrd_message batch[5] = { message, message, message, message, message };

    owner_init_answered(owner, 64);
    owner_says(owner)->cursor = 2 + taken;
    owner_says(owner)->notice = (uint64_t)cause << 32;
    return vrd_send_batch(owner->cap, batch, 5, 0);
}

static void a_batch_at_the_end_tells_how_many_were_taken(void **state)
{
    (void)state;
    for (uint32_t taken = 0; taken <= 5; taken++) {
        struct owner owner;
        const int r = batch_at_the_end(&owner, NOTICE_REVOKED, taken);

        assert_int_equal(r, taken > 0 ? (int)taken : VRD_ERR_REVOKED);
        assert_int_equal(vrd_send(owner.cap, "z", 1), VRD_ERR_REVOKED);
        owner_deinit(&owner);
    }
}

static void a_batch_at_the_end_keeps_what_is_said_once(void **state)
{
    (void)state;
    for (uint32_t taken = 0; taken <= 5; taken++) {
        struct owner owner;
        const int r = batch_at_the_end(&owner, NOTICE_CLOSED, taken);

        assert_int_equal(r, taken > 0 ? (int)taken : VRD_ERR_PEER_GONE);
        if (taken > 0)
            assert_int_equal(vrd_send(owner.cap, "z", 1), VRD_ERR_PEER_GONE);
        assert_int_equal(vrd_send(owner.cap, "anew", 4), 0); /* the root lives */
        owner_deinit(&owner);
    }
}

/* The plain ones were sent; the end is met by one that is not. */
static void a_batch_puts_off_what_a_later_one_meets(void **state)
{
    static char large[200];
    const struct vrd_message batch[2] = { { .data = large, .len = 100 },
                                          { .data = large, .len = 200 } };
    struct owner owner;

    (void)state;
    owner_init(&owner, 64);
    assert_int_equal(vrd_send(owner.cap, "x", 1), 0);
    owner_hello(&owner);
    owner_welcome(&owner);
    assert_int_equal(vrd_send(owner.cap, large, 100), 0); /* there is a byte ring */
    owner_says(&owner)->cursor = 3;                       /* takes the first of the batch ... */
    owner_says(&owner)->notice = (uint64_t)NOTICE_CLOSED << 32;
    assert_int_equal(vrd_send_batch(owner.cap, batch, 2, 0), 1); /* ... not the second */
    assert_int_equal(vrd_send(owner.cap, "z", 1), VRD_ERR_PEER_GONE);
    assert_int_equal(vrd_send(owner.cap, "anew", 4), 0);
    owner_deinit(&owner);
}

/* --- what an owner must not say ----------------------------------------------------------------------- */

static void expect_corrupt(struct owner *owner)
{
    reactor_poll();
    for (int k = 0; k < 2; k++)
        assert_int_equal(vrd_send(owner->cap, "z", 1), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(owner->port->sender.state, SENDER_ENDED);
    assert_int_equal(((const struct sender_segment *)owner->sender.addr)->notice >> 32 & 0xff,
                     NOTICE_CORRUPT); /* and the owner may know */
    owner_deinit(owner);
}

static void a_cursor_beyond_is_corrupt(void **state)
{
    struct owner owner;

    (void)state;
    owner_init_answered(&owner, 2);
    assert_int_equal(vrd_send_async(owner.cap, "z", 1), 0);
    assert_int_equal(vrd_send_async(owner.cap, "z", 1), 0);
    owner_says(&owner)->cursor = 5;
    expect_corrupt(&owner);
}

static void a_second_welcome_is_corrupt(void **state)
{
    struct owner owner;

    (void)state;
    owner_init_answered(&owner, 4);
    owner_welcome(&owner);
    expect_corrupt(&owner);
}

static void a_ring_that_nobody_asked_for_is_corrupt(void **state)
{
    struct owner owner;

    (void)state;
    owner_init_answered(&owner, 4);
    assert_int_equal(socket_send(owner.tether, "", 1, NULL, 0), 0);
    expect_corrupt(&owner);
}

static void frames_that_are_not_an_owners_are_corrupt(void **state)
{
    const struct frame frames[] = {
        { .type = FRAME_GREETING_SEND, .slots = 4, .max_message = 9, .rights = VRD_RIGHT_SEND },
        { .type = FRAME_DERIVE, .rights = VRD_RIGHT_SEND },
        { .type = FRAME_ATTACH, .extension = 1, .bytes = 4096 },
        { .type = FRAME_INVITATIONS, .rights = VRD_RIGHT_SEND, .id = 1 },
        { .type = FRAME_HELLO, .slots = 4, .max_message = 9 },
    };
    const size_t n_fds[] = { 0, 1, 1, 1, 2 };

    (void)state;
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        struct owner owner;

        owner_init_answered(&owner, 4);
        assert_int_equal(
            frame_put(owner.tether, &frames[i], (int[]){ owner.own_fd, owner.own_fd }, n_fds[i]),
            0);
        expect_corrupt(&owner);
    }
}

static void a_welcome_with_something_else_is_corrupt(void **state)
{
    struct owner owner;

    (void)state;
    owner_init(&owner, 4);
    assert_int_equal(vrd_send(owner.cap, "x", 1), 0);
    owner_hello(&owner);
    owner.own_fd = memfd_create("unit", MFD_CLOEXEC);
    assert_int_equal(ftruncate(owner.own_fd, LAYOUT_RECEIVER_SIZE), 0);
    assert_int_equal(
        frame_put(owner.tether, &(struct frame){ .type = FRAME_WELCOME }, &owner.own_fd, 1), 0);
    expect_corrupt(&owner);
}

/* --- byte rings ------------------------------------------------------------------------------------------ */

static void a_byte_ring_is_announced_before_its_first_message(void **state)
{
    uint8_t data[1000] = { 1 };
    struct owner owner;
    struct slot_bytes bytes;
    struct frame frame;

    (void)state;
    owner_init_answered(&owner, 4);
    assert_int_equal(vrd_send_async(owner.cap, data, 65), 0);
    assert_int_equal(vrd_send_async(owner.cap, data, 1000), 0); /* fits the same */
    {
        datagram_auto datagram = { .pidfd = -1 };

        frame = frame_get(owner.tether, FRAME_ATTACH, &datagram);
        assert_int_equal(frame.extension, 1);
        assert_int_equal(frame.bytes, ring_bytes_size(65, 1000));
    }
    for (int i = 2; i < 4; i++) {
        const struct slot *slot = &((const struct sender_segment *)owner.sender.addr)->slots[i];

        memcpy(&bytes, slot->head, sizeof bytes);
        assert_int_equal(slot->word >> 40 & 0xff, SLOT_BYTES);
        assert_int_equal(bytes.extension, 1);
        assert_int_equal(bytes.len, i == 2 ? 65 : 1000);
    }
    assert_false(fd_readable(owner.tether));
    owner_deinit(&owner);
}

static size_t addresses_used(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    size_t pages = 0;

    support_require(file != NULL && fscanf(file, "%zu", &pages) == 1);
    fclose(file);
    return pages * UNIT_PAGE;
}

/*
 * The bookkeeping of a ring of 2^20 slots takes 16 MiB, and there are not so many left. In a fresh
 * program: another thread's arena would have them.
 */
static int role_without_memory(struct support_role_args *args)
{
    vrd_cap_t send, receive;
    struct rlimit limit;
    uint8_t data[100] = { 7 }, got[100];

    (void)args;
    support_require_equal(vrd_channel_create(VRD_CHANNEL_SLOTS_MAX, &send, &receive), 0);
    support_require_equal(vrd_send(send, "x", 1), 0);
    support_require_equal(vrd_receive(receive, got, sizeof got), 1);
    support_require_equal(getrlimit(RLIMIT_AS, &limit), 0);
    limit.rlim_cur = addresses_used() + ((size_t)8 << 20);
    support_require_equal(setrlimit(RLIMIT_AS, &limit), 0);
    for (int i = 0; i < 3; i++)
        support_require_equal(vrd_send(send, data, sizeof data), VRD_ERR_OUT_OF_MEMORY);
    limit.rlim_cur = limit.rlim_max;
    support_require_equal(setrlimit(RLIMIT_AS, &limit), 0);
    for (int i = 0; i < 3; i++) {
        support_require_equal(vrd_send(send, data, sizeof data), 0);
        support_require_equal(vrd_receive(receive, got, sizeof got), sizeof data);
        support_require(memcmp(data, got, sizeof data) == 0);
    }
    support_require_equal(vrd_cap_close(send), 0);
    support_require_equal(vrd_cap_close(receive), 0);
    return 0;
}

static void without_memory_for_it_nothing_is_announced(void **state)
{
    (void)state;
    if (support_slowdown() > 1) {
        print_message("left out under a sanitizer, which needs the addresses\n");
        return;
    }
    support_wait_exit(support_spawn_role("without-memory", NULL, 0, NULL), 0);
}

/* --- rights and the end ------------------------------------------------------------------------------------ */

static void deriving_goes_over_the_root_or_the_tether(void **state)
{
    struct owner owner;
    int pair[2];

    (void)state;
    assert_int_equal(socket_pair(pair), 0);
    owner_init_answered(&owner, 4);
    for (int rooted = 1; rooted >= 0; rooted--) {
        datagram_auto datagram = { .pidfd = -1 };
        struct frame frame;

        if (!rooted)
            fd_close(&owner.port->sender.root);
        port_hold(owner.port, owner.cap);
        assert_int_equal(request_derive(owner.port, VRD_RIGHT_SEND, pair[0]), 0);
        port_let_go(owner.port);
        frame = frame_get(rooted ? owner.root : owner.tether, FRAME_DERIVE, &datagram);
        assert_int_equal(frame.rights, VRD_RIGHT_SEND);
        assert_int_equal(datagram.n_fds, 1);
    }
    close(pair[0]);
    close(pair[1]);
    owner_deinit(&owner);
}

static void deriving_from_nobody_is_told(void **state)
{
    struct owner owner;
    int pair[2];

    (void)state;
    assert_int_equal(socket_pair(pair), 0);
    owner_init_answered(&owner, 4);
    fd_close(&owner.root);
    port_hold(owner.port, owner.cap);
    assert_int_equal(request_derive(owner.port, VRD_RIGHT_SEND, pair[0]), VRD_ERR_PEER_GONE);
    port_let_go(owner.port);
    close(pair[0]);
    close(pair[1]);
    owner_deinit(&owner);
}

static void closing_says_so(void **state)
{
    struct owner owner;
    datagram_auto datagram = { .pidfd = -1 };

    (void)state;
    owner_init_answered(&owner, 4);
    port_hold_and_close(owner.port, owner.cap);
    frame_get(owner.tether, FRAME_CLOSE, &datagram);
    assert_true(socket_ended(owner.tether));
    assert_true(socket_ended(owner.root));
    assert_int_equal(((const struct sender_segment *)owner.sender.addr)->notice >> 32 & 0xff,
                     NOTICE_CLOSED);
    owner_hang_up(&owner);
    fd_close(&owner.root);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(the_first_message_says_hello),
                     SUPPORT_TEST(unanswered_it_fills_its_ring_once),
                     SUPPORT_TEST(the_end_is_as_the_owner_says),
                     SUPPORT_TEST(while_the_root_lives_a_link_is_made_anew),
                     SUPPORT_TEST(revoked_stays_revoked_while_the_root_lives),
                     SUPPORT_TEST(a_batch_at_the_end_tells_how_many_were_taken),
                     SUPPORT_TEST(a_batch_at_the_end_keeps_what_is_said_once),
                     SUPPORT_TEST(a_batch_puts_off_what_a_later_one_meets),
                     SUPPORT_TEST(a_cursor_beyond_is_corrupt),
                     SUPPORT_TEST(a_second_welcome_is_corrupt),
                     SUPPORT_TEST(a_ring_that_nobody_asked_for_is_corrupt),
                     SUPPORT_TEST(frames_that_are_not_an_owners_are_corrupt),
                     SUPPORT_TEST(a_welcome_with_something_else_is_corrupt),
                     SUPPORT_TEST(a_byte_ring_is_announced_before_its_first_message),
                     SUPPORT_TEST(without_memory_for_it_nothing_is_announced),
                     SUPPORT_TEST(deriving_goes_over_the_root_or_the_tether),
                     SUPPORT_TEST(deriving_from_nobody_is_told),
                     SUPPORT_TEST(closing_says_so),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "without-memory", role_without_memory },
                     { 0 },
                 },
             .warm_up = ports_warm_up)
