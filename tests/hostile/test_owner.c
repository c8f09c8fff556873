/* SPDX-License-Identifier: MIT */
/*
 * A sender before an owner that lies: greetings and answers that are none, a cursor that is
 * anywhere, notices of every pattern. The sender gets an answer in time and loses nothing but its
 * link.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/macro.h"
#include "cap/frame.h"
#include "os/fd.h"
#include "os/socket.h"
#include "owner.h"
#include "peer.h"
#include "support/support.h"
#include "wrong.h"

#define SLOTS 8
#define MILLISECOND INT64_C(1000000)

/* ---- greetings ------------------------------------------------------------------------------------- */

/* What a process that imports `fd` is told; nothing may be left of it. */
static int import_result(int fd)
{
    vrd_cap_t cap = VRD_CAP_NONE;
    const int result = vrd_cap_import(fd, &cap);

    if (result == 0)
        support_require_equal(vrd_cap_close(cap), 0);
    else
        support_require_equal(cap, VRD_CAP_NONE);
    support_require(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
    return result;
}

static int greeting_result(const void *data, size_t len, const int *fds, size_t n_fds)
{
    struct support_snapshot before;
    int pair[2], result;

    support_snapshot_take(&before);
    support_socket_pair(pair);
    support_require_equal(raw_send(pair[0], data, len, fds, n_fds), 0);
    result = import_result(pair[1]);
    fd_close(&pair[0]);
    assert_true(support_snapshot_holds(&before));
    return result;
}

static void require_refused(int result)
{
    assert_true(result == VRD_ERR_PEER_CORRUPT || result == VRD_ERR_PEER_GONE);
}

static void test_greetings_of_a_wrong_size(void **state)
{
    static const size_t sizes[] = { 0, 1, 8, 63, 65, 72, 73, 4096 };
    const struct frame greeting = {
        .type = FRAME_GREETING_SEND, .slots = 1, .max_message = 1, .rights = VRD_RIGHT_SEND
    };
    uint8_t data[4096] = { 0 };

    (void)state;
    frame_encode(&greeting, data);
    assert_int_equal(greeting_result(data, FRAME_SIZE, NULL, 0), 0);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
        require_refused(greeting_result(data, sizes[i], NULL, 0));
}

static void test_greetings_with_wrong_values(void **state)
{
    static const struct frame greetings[] = {
        { .type = FRAME_GREETING_SEND, .slots = 0, .max_message = 1, .rights = VRD_RIGHT_SEND },
        { .type = FRAME_GREETING_SEND, .slots = UINT32_MAX, .max_message = 1, .rights = 1 },
        { .type = FRAME_GREETING_SEND, .slots = 1, .max_message = 0, .rights = VRD_RIGHT_SEND },
        { .type = FRAME_GREETING_SEND, .slots = 1, .max_message = UINT64_MAX, .rights = 1 },
        { .type = FRAME_GREETING_SEND, .slots = 1, .max_message = 1, .rights = 0 },
        { .type = FRAME_GREETING_SEND, .slots = 1, .max_message = 1, .rights = 1U << 31 },
        { .type = FRAME_GREETING_SEND, .slots = 1, .max_message = 1, .rights = VRD_RIGHT_RECEIVE },
        { .type = FRAME_GREETING_SEND, .slots = 1, .max_message = 1, .rights = VRD_RIGHT_GRANT },
        { .type = FRAME_GREETING_RECEIVE, .slots = 1, .max_message = 1, .rights = VRD_RIGHT_SEND },
        { .type = FRAME_GREETING_RECEIVE,
          .slots = 1,
          .max_message = 1,
          .rights = VRD_RIGHT_RECEIVE,
          .count = 3 },
        { .type = FRAME_GREETING_RECEIVE,
          .slots = 1,
          .max_message = 1,
          .rights = VRD_RIGHT_RECEIVE,
          .count = UINT32_MAX },
        { .type = FRAME_CLOSE },
    };
    uint8_t data[FRAME_SIZE];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(greetings); i++) {
        frame_encode(&greetings[i], data);
        require_refused(greeting_result(data, sizeof data, NULL, 0));
    }
}

/* The ring that a greeting speaks of is the importer's memory. */
static void test_a_greeting_of_a_huge_ring(void **state)
{
    const struct frame greeting = { .type = FRAME_GREETING_SEND,
                                    .slots = VRD_CHANNEL_SLOTS_MAX,
                                    .max_message = 1,
                                    .rights = VRD_RIGHT_SEND };
    struct vrd_cap_info info;
    vrd_cap_t cap;
    int pair[2];

    (void)state;
    support_socket_pair(pair);
    support_require_equal(raw_send_frame(pair[0], &greeting, NULL, 0), 0);
    support_require_equal(vrd_cap_import(pair[1], &cap), 0);
    assert_int_equal(vrd_cap_info(cap, &info), 0);
    assert_int_equal(info.slots, VRD_IMPORT_SLOTS_MAX);
    assert_true(mapping_own(0).end - mapping_own(0).start <=
                layout_sender_size(VRD_IMPORT_SLOTS_MAX));
    assert_int_equal(vrd_cap_close(cap), 0);
    fd_close(&pair[0]);
}

/* In place of the object's root socket. */
static void test_greetings_with_wrong_descriptors(void **state)
{
    const struct frame greeting = {
        .type = FRAME_GREETING_RECEIVE, .slots = 1, .max_message = 1, .rights = VRD_RIGHT_RECEIVE
    };
    uint8_t data[FRAME_SIZE];

    (void)state;
    frame_encode(&greeting, data);
    for (const struct wrong *wrong = wrong_sockets; wrong->name; wrong++) {
        int fds[3] = { wrong->make(), wrong->make(), wrong->make() };
        const int one = greeting_result(data, sizeof data, fds, 1);

        if (!wrong->dead_socket)
            require_refused(one);
        require_refused(greeting_result(data, sizeof data, fds, 3));
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
            fd_close(&fds[i]);
    }
}

static void test_import_of_wrong_descriptors(void **state)
{
    vrd_cap_t cap = VRD_CAP_NONE;

    (void)state;
    for (const struct wrong *wrong = wrong_sockets; wrong->name; wrong++) {
        struct support_snapshot before;

        support_snapshot_take(&before);
        assert_true(import_result(wrong->make()) < 0);
        assert_true(support_snapshot_holds(&before));
    }
    assert_int_equal(vrd_cap_import(-1, &cap), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_cap_import(1 << 20, &cap), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(cap, VRD_CAP_NONE);
}

/* ---- answers --------------------------------------------------------------------------------------------- */

/* The sender finds out, whatever it does meanwhile. */
static int sender_end(const struct owner *owner)
{
    int result;

    do {
        result = vrd_send_timed(owner->cap, "on", 2, 10 * MILLISECOND);
    } while (result == 0 || result == VRD_ERR_TIMEOUT);
    return result;
}

static void answer_is_refused(const void *data, size_t len, const int *fds, size_t n_fds,
                              const char *what)
{
    struct support_snapshot before;
    struct owner owner;
    int end;

    support_snapshot_take(&before);
    owner_init(&owner, SLOTS);
    support_require_equal(raw_send(owner.tether, data, len, fds, n_fds), 0);
    end = sender_end(&owner);
    if (end != VRD_ERR_PEER_CORRUPT && !(len == 0 && end == VRD_ERR_PEER_GONE))
        support_fail(__FILE__, __LINE__, "%s: the sender was told %d", what, end);
    assert_int_equal(sender_end(&owner), end);
    owner_deinit(&owner);
    assert_true(support_snapshot_holds(&before));
}

static void test_answers_with_a_wrong_segment(void **state)
{
    const struct frame welcome = { .type = FRAME_WELCOME };
    uint8_t data[FRAME_SIZE];

    (void)state;
    frame_encode(&welcome, data);
    for (const struct wrong *wrong = wrong_segments; wrong->name; wrong++) {
        int fd = wrong->make();

        answer_is_refused(data, sizeof data, &fd, 1, wrong->name);
        answer_is_refused(data, sizeof data, (int[]){ fd, fd }, 2, "two segments");
        fd_close(&fd);
    }
    answer_is_refused(data, sizeof data, NULL, 0, "no segment");
}

static void test_answers_of_a_wrong_size(void **state)
{
    static const size_t sizes[] = { 0, 1, 8, 63, 65, 72, 73, 4096 };
    const struct frame welcome = { .type = FRAME_WELCOME };
    uint8_t data[4096] = { 0 };
    int fd = sealed_memfd(LAYOUT_RECEIVER_SIZE);

    (void)state;
    frame_encode(&welcome, data);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        answer_is_refused(data, sizes[i], &fd, 1, "an answer of a wrong size");
        answer_is_refused(data, sizes[i], NULL, 0, "a bare answer of a wrong size");
    }
    fd_close(&fd);
}

static void test_frames_that_no_owner_sends(void **state)
{
    static const struct {
        struct frame frame;
        size_t n_fds;
    } frames[] = {
        { { .type = FRAME_HELLO, .slots = 1, .max_message = 1 }, 2 },
        { { .type = FRAME_ATTACH, .extension = 1, .bytes = LAYOUT_PAGE }, 1 },
        { { .type = FRAME_DERIVE, .rights = VRD_RIGHT_SEND }, 1 },
        { { .type = FRAME_GREETING_SEND, .slots = 1, .max_message = 1, .rights = 1 }, 0 },
        { { .type = FRAME_INVITATIONS, .rights = 1, .id = 1 }, 1 },
    };
    uint8_t data[FRAME_SIZE];
    int fd = sealed_memfd(LAYOUT_RECEIVER_SIZE);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(frames); i++) {
        frame_encode(&frames[i].frame, data);
        answer_is_refused(data, sizeof data, (int[]){ fd, fd }, frames[i].n_fds, "a wrong frame");
    }
    fd_close(&fd);
}

static void test_two_answers(void **state)
{
    struct owner owner;

    (void)state;
    owner_init(&owner, SLOTS);
    owner_welcome(&owner);
    owner_welcome(&owner);
    assert_int_equal(sender_end(&owner), VRD_ERR_PEER_CORRUPT);
    owner_deinit(&owner);
}

/* No answer at all: the ring fills, and then the sender waits no longer than it said. */
static void test_no_answer(void **state)
{
    struct owner owner;
    static uint8_t large[5000];

    (void)state;
    owner_init(&owner, SLOTS);
    for (int i = 0; i < SLOTS; i++)
        assert_int_equal(vrd_send_timed(owner.cap, large, sizeof large, 0), 0);
    assert_int_equal(vrd_send_timed(owner.cap, "", 0, 0), VRD_ERR_CHANNEL_FULL);
    assert_int_equal(vrd_send_timed(owner.cap, "", 0, 20 * MILLISECOND), VRD_ERR_TIMEOUT);
    fd_close(&owner.tether);
    assert_int_equal(vrd_send(owner.cap, "", 0), VRD_ERR_PEER_GONE);
    owner_deinit(&owner);
}

static void test_a_flood_of_rings(void **state)
{
    struct owner owner;

    (void)state;
    owner_linked(&owner, SLOTS);
    while (raw_send(owner.tether, "", 1, NULL, 0) == 0)
        ;
    assert_int_equal(sender_end(&owner), VRD_ERR_PEER_CORRUPT);
    owner_deinit(&owner);
}

/* A hint without a reason in the notice is none. */
static void test_hints_without_reason(void **state)
{
    const struct frame over = { .type = FRAME_CLOSE };
    struct owner owner;

    (void)state;
    owner_linked(&owner, SLOTS);
    for (uint32_t i = 0; i < 2000; i++) {
        raw_send_frame(owner.tether, &over, NULL, 0);
        assert_int_equal(vrd_send_timed(owner.cap, "on", 2, VRD_FOREVER), 0);
        owner_memory(&owner)->cursor = i + 3;
    }
    owner_deinit(&owner);
}

/* ---- the cursor ---------------------------------------------------------------------------------------------- */

/* The sender has filled the ring and has seen the cursor at 2. Wherever that stands next, a send
 * ends as documented, and where it cannot be, with PEER_CORRUPT. */
static void cursor_at(uint32_t cursor)
{
    const uint32_t published = 2 + SLOTS;
    const bool possible = cursor - 2 <= SLOTS;
    struct owner owner;
    int result = 0;

    owner_linked(&owner, SLOTS);
    for (uint32_t i = 2; i < published; i++)
        assert_int_equal(vrd_send_timed(owner.cap, "on", 2, 0), 0);
    assert_int_equal(vrd_send_timed(owner.cap, "on", 2, 0), VRD_ERR_CHANNEL_FULL);
    owner_memory(&owner)->cursor = (uint64_t)0xdeadbeef << 32 | cursor;
    for (int i = 0; i < 3 * SLOTS && result == 0; i++)
        result = vrd_send_timed(owner.cap, "on", 2, MILLISECOND);
    if (result != (possible ? VRD_ERR_TIMEOUT : VRD_ERR_PEER_CORRUPT))
        support_fail(__FILE__, __LINE__, "cursor at %u: %d", cursor, result);
    owner_deinit(&owner);
}

static void test_cursor_anywhere(void **state)
{
    (void)state;
    for (uint32_t near = 0; near < 40; near++) {
        cursor_at(near);
        cursor_at(UINT32_MAX - near);
        cursor_at((UINT32_C(1) << 31) - 20 + near);
    }
    for (unsigned bit = 6; bit < 32; bit++)
        cursor_at(UINT32_C(1) << bit);
}

struct race {
    struct owner owner;
    atomic_bool stop;
};

/* Moves the words back and forth between the sender's looks. */
static void *race_run(void *arg)
{
    struct race *race = arg;
    struct receiver_segment *own = owner_memory(&race->owner);
    const struct sender_segment *sender = race->owner.sender.addr;
    uint64_t seed = 88172645463325252u;

    while (!race->stop) {
        const uint64_t word = random_next(&seed);
        const uint32_t published = (uint32_t)__atomic_load_n(
            &sender->slots[word & race->owner.mask].word, __ATOMIC_RELAXED);

        /* mostly a place where it could be, so that the sender goes on for a while */
        __atomic_store_n(&own->cursor, word % 1024 == 0 ? word : published, __ATOMIC_RELAXED);
        /* any ring, any position; no cause */
        __atomic_store_n(&own->notice, word & ~(UINT64_C(0xff) << 32), __ATOMIC_RELAXED);
    }
    return NULL;
}

static void test_words_change_between_looks(void **state)
{
    static uint8_t large[3000];

    (void)state;
    for (size_t round = 0; round < support_iterations(60); round++) {
        struct race race = { 0 };
        pthread_t thread;
        int result = 0;

        owner_linked(&race.owner, SLOTS);
        support_require(pthread_create(&thread, NULL, race_run, &race) == 0);
        for (size_t i = 0; i < 500 && (result == 0 || result == VRD_ERR_TIMEOUT); i++)
            result = vrd_send_timed(race.owner.cap, large, i % 3 == 0 ? sizeof large : i % 65,
                                    MILLISECOND);
        assert_true(result == 0 || result == VRD_ERR_TIMEOUT || result == VRD_ERR_PEER_CORRUPT);
        race.stop = true;
        support_require(pthread_join(thread, NULL) == 0);
        owner_deinit(&race.owner);
    }
}

/* ---- the notice ------------------------------------------------------------------------------------------------ */

/* All ways to ring, at positions near and far; also ways that do not exist. */
static void test_every_way_to_ring(void **state)
{
    static const int32_t positions[] = { -9, -1, 0, 1, 2, 3, 9, 1 << 30 };
    struct owner owner;
    uint32_t sent = 2;

    (void)state;
    owner_linked(&owner, SLOTS);
    for (uint64_t how = 0; how < 0x1000000; how += how < 0x100 ? 1 : 0xabcd)
        for (size_t i = 0; i < ARRAY_SIZE(positions); i++) {
            owner_memory(&owner)->notice = how << 40 | (sent + (uint32_t)positions[i]);
            assert_int_equal(vrd_send_timed(owner.cap, "on", 2, 0), 0);
            owner_memory(&owner)->cursor = ++sent;
            raw_hung_up(owner.tether); /* rings that came */
        }
    owner_deinit(&owner);
}

/* The owner asks for rings and never takes them. */
static void test_rings_that_nobody_takes(void **state)
{
    struct owner owner;

    (void)state;
    owner_linked(&owner, SLOTS);
    for (uint32_t sent = 2; sent < 2000; sent++) {
        owner_memory(&owner)->notice = (uint64_t)RING_TETHER << 40 | (sent + 1);
        assert_int_equal(vrd_send_timed(owner.cap, "on", 2, 0), 0);
        owner_memory(&owner)->cursor = sent + 1;
    }
    owner_deinit(&owner);
}

static void test_every_cause(void **state)
{
    (void)state;
    for (uint64_t cause = 1; cause < 256; cause++) {
        const bool revoked =
            cause == NOTICE_REVOKED || cause == NOTICE_PARENT_REVOKED || cause == NOTICE_POLICY;
        const int expected = revoked                   ? VRD_ERR_REVOKED
                             : cause == NOTICE_CORRUPT ? VRD_ERR_PEER_CORRUPT
                                                       : VRD_ERR_PEER_GONE;
        struct owner owner;

        owner_linked(&owner, SLOTS);
        owner_memory(&owner)->notice = cause << 32;
        assert_int_equal(vrd_send_timed(owner.cap, "on", 2, 0), expected);
        owner_memory(&owner)->notice = 0; /* it does not take it back */
        assert_int_equal(vrd_send_timed(owner.cap, "on", 2, 0), expected);
        owner_deinit(&owner);
    }
}

/* ---- readiness ---------------------------------------------------------------------------------------- */

/* Full, and the descriptor will say when it is so no more: past the second look, which comes anyway. */
static int full_and_quiet(vrd_cap_t cap)
{
    const int fd = vrd_cap_fd(cap);

    support_require(fd >= 0);
    for (int looks = 0; looks < 2; looks++) {
        if (looks > 0)
            fd_wait(fd);
        while (vrd_send_timed(cap, "x", 1, 0) == 0)
            ;
    }
    support_require(!fd_readable(fd));
    return fd;
}

/* The owner says that it is over where only one who sends looks, and nothing over the tether: whoever
 * sleeps on the descriptor is told by the one who has found out. */
static void test_an_end_that_a_sender_finds(void **state)
{
    struct owner owner;
    int fd;

    (void)state;
    owner_linked(&owner, SLOTS);
    fd = full_and_quiet(owner.cap);
    owner_memory(&owner)->notice = (uint64_t)NOTICE_CLOSED << 32;
    assert_int_equal(vrd_send_timed(owner.cap, "x", 1, 0), VRD_ERR_PEER_GONE);
    assert_true(fd_readable(fd));
    owner_deinit(&owner);
}

/* Also the timer of second looks, which stays. */
static int owner_warm_up(void)
{
    struct owner owner;

    if (support_warm_up_channel() != 0)
        return -1;
    owner_linked(&owner, SLOTS);
    full_and_quiet(owner.cap);
    owner_deinit(&owner);
    return 0;
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_greetings_of_a_wrong_size),
                     SUPPORT_TEST(test_greetings_with_wrong_values),
                     SUPPORT_TEST(test_a_greeting_of_a_huge_ring),
                     SUPPORT_TEST(test_greetings_with_wrong_descriptors),
                     SUPPORT_TEST(test_import_of_wrong_descriptors),
                     SUPPORT_TEST(test_answers_with_a_wrong_segment),
                     SUPPORT_TEST(test_answers_of_a_wrong_size),
                     SUPPORT_TEST(test_frames_that_no_owner_sends),
                     SUPPORT_TEST(test_two_answers),
                     SUPPORT_TEST(test_no_answer),
                     SUPPORT_TEST(test_a_flood_of_rings),
                     SUPPORT_TEST(test_hints_without_reason),
                     SUPPORT_TEST(test_cursor_anywhere),
                     SUPPORT_TEST_TIMEOUT(test_words_change_between_looks, 120),
                     SUPPORT_TEST(test_every_way_to_ring),
                     SUPPORT_TEST(test_rings_that_nobody_takes),
                     SUPPORT_TEST(test_every_cause),
                     SUPPORT_TEST(test_an_end_that_a_sender_finds),
                     { 0 },
                 },
             .warm_up = owner_warm_up);
