/* SPDX-License-Identifier: MIT */
/*
 * Loans between parties that mean harm. A receiver before a sender that describes what it never lent,
 * rewrites descriptions after sending, takes extensions away that are viewed, and floods it with them;
 * a sender before a receiver that gives back what it likes, as often as it likes.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "base/macro.h"
#include "cap/frame.h"
#include "os/fd.h"
#include "os/socket.h"
#include "owner.h"
#include "peer.h"
#include "support/support.h"
#include "victim.h"
#include "wrong.h"

#define HEAP (2 * LAYOUT_PAGE) /* its first extension */
#define NUMBER 5
#define LOAN (3 * LOANS_MAX + 7)

/* ---- a hostile sender ------------------------------------------------------------------------------- */

struct stage {
    struct victim victim;
    struct support_snapshot before;
    struct peer peer;
    int invitation;
    uint8_t *heap;
};

static int stage_attach(struct stage *stage, uint32_t number, size_t size)
{
    const struct frame attach = {
        .type = FRAME_ATTACH, .count = FRAME_ATTACH_HEAP, .extension = number, .bytes = size
    };
    struct segment segment;
    int fd, result;

    support_require_equal(segment_create(size, &segment, &fd), 0);
    result = raw_send_frame(stage->peer.tether, &attach, &fd, 1);
    if (!stage->heap)
        stage->heap = segment.addr;
    else
        segment_unmap(&segment);
    fd_close(&fd);
    return result;
}

static int stage_detach(struct stage *stage, uint32_t number)
{
    const struct frame detach = { .type = FRAME_DETACH, .extension = number };

    return raw_send_frame(stage->peer.tether, &detach, NULL, 0);
}

static void stage_begin(struct stage *stage)
{
    support_snapshot_take(&stage->before);
    stage->invitation = victim_invite(&stage->victim, VRD_RIGHT_SEND);
    peer_connect(&stage->peer, stage->invitation, VICTIM_SLOTS, VICTIM_MESSAGE_MAX);
    peer_welcome(&stage->peer, victim_pump_any, &stage->victim);
    stage->heap = NULL;
    support_require_equal(stage_attach(stage, NUMBER, HEAP), 0);
}

static void stage_end(struct stage *stage)
{
    struct segment heap = { .addr = stage->heap, .size = HEAP };

    segment_unmap(&heap);
    fd_close(&stage->invitation);
    peer_deinit(&stage->peer);
    victim_require_well(&stage->victim);
    if (!support_snapshot_holds(&stage->before))
        support_fail(__FILE__, __LINE__, "something was left behind");
}

static void stage_found_out(struct stage *stage, uint64_t attack)
{
    const size_t strange = stage->victim.strange, corrupt = stage->victim.corrupt;

    victim_require_well(&stage->victim);
    victim_pump_until_hung_up(&stage->victim, stage->peer.tether);
    if (stage->victim.corrupt != corrupt + 1 || stage->victim.strange != strange)
        support_fail(__FILE__, __LINE__, "%#lx: told %zu times, %zu messages", attack,
                     stage->victim.corrupt - corrupt, stage->victim.strange - strange);
    stage_end(stage);
}

static void stage_lend(struct stage *stage, struct slot_bytes bytes)
{
    memcpy(peer_slot(&stage->peer, stage->peer.position)->head, &bytes, sizeof bytes);
    peer_publish_word(&stage->peer, (uint64_t)SLOT_BYTES << 40 | (stage->peer.position + 1));
}

/* A view of what the attacker sends, past what the honest sender does. */
static struct vrd_view stage_view(struct stage *stage)
{
    struct vrd_view view;

    support_require_equal(vrd_receive_view(stage->victim.receive, &view, VRD_FOREVER), 0);
    return view;
}

/* Neither a copy nor a view comes of it. */
static void attack_description(struct stage *stage, struct slot_bytes bytes)
{
    struct vrd_view view;

    stage_begin(stage);
    stage_lend(stage, bytes);
    stage_found_out(stage, bytes.offset ^ bytes.len);
    stage_begin(stage);
    stage_lend(stage, bytes);
    support_require_equal(vrd_receive_view(stage->victim.receive, &view, VRD_FOREVER),
                          VRD_ERR_PEER_CORRUPT);
    stage_end(stage);
}

static void test_descriptions_that_reach_too_far(void **state)
{
    static const uint64_t far[] = {
        HEAP + 1,  VICTIM_MESSAGE_MAX, VICTIM_MESSAGE_MAX + 1, UINT32_MAX,        INT64_MAX,
        1UL << 63, UINT64_MAX - HEAP,  UINT64_MAX - HEAP + 1,  UINT64_MAX - 4095, UINT64_MAX,
    };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (size_t i = 0; i < ARRAY_SIZE(far); i++) {
        struct slot_bytes bytes = { .len = far[i], .extension = NUMBER, .loan = LOAN };

        attack_description(&stage, bytes);
        bytes.offset = -far[i]; /* the end would wrap around to the start */
        attack_description(&stage, bytes);
        bytes = (struct slot_bytes){ .offset = far[i], .extension = NUMBER, .loan = LOAN };
        attack_description(&stage, bytes);
        bytes.len = 1;
        attack_description(&stage, bytes);
    }
    attack_description(&stage, (struct slot_bytes){ HEAP, 1, NUMBER, LOAN });
    attack_description(&stage, (struct slot_bytes){ 1, HEAP, NUMBER, LOAN });
    attack_description(&stage, (struct slot_bytes){ HEAP - 1, 2, NUMBER, LOAN });
    victim_deinit(&stage.victim);
}

static void test_numbers_that_are_not_there(void **state)
{
    static const uint32_t extensions[] = { 0, 1, NUMBER - 1, NUMBER + 16, NUMBER + 32, UINT32_MAX };
    static const uint32_t loans[] = { 1, 2, LOANS_MAX - 1 };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (size_t i = 0; i < ARRAY_SIZE(extensions); i++)
        attack_description(&stage, (struct slot_bytes){ 0, 100, extensions[i], LOAN });
    for (size_t i = 0; i < ARRAY_SIZE(loans); i++)
        attack_description(&stage, (struct slot_bytes){ 0, 100, NUMBER, loans[i] });
    victim_deinit(&stage.victim);
}

static void test_descriptions_that_are_in_bounds(void **state)
{
    static const struct slot_bytes descriptions[] = {
        { 0, 0, NUMBER, LOAN },        { HEAP, 0, NUMBER, LOAN },
        { HEAP - 1, 1, NUMBER, LOAN }, { 17, HEAP - 17, NUMBER, UINT32_MAX },
        { 0, HEAP, NUMBER, LOAN },     { 0, HEAP, NUMBER, LOANS_MAX },
    };
    static uint8_t buf[HEAP];
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    stage_begin(&stage);
    for (size_t i = 0; i < HEAP; i++)
        stage.heap[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < ARRAY_SIZE(descriptions); i++) {
        const struct slot_bytes bytes = descriptions[i];
        struct vrd_view view;

        stage_lend(&stage, bytes);
        assert_int_equal(vrd_receive(stage.victim.receive, buf, sizeof buf), bytes.len);
        assert_memory_equal(buf, stage.heap + bytes.offset, bytes.len);
        assert_int_equal(stage.peer.owner->released[bytes.loan % LOANS_MAX], bytes.loan);
        stage_lend(&stage, bytes);
        view = stage_view(&stage);
        assert_int_equal(view.len, bytes.len);
        assert_memory_equal(view.data, stage.heap + bytes.offset, bytes.len);
        assert_int_equal(vrd_view_release(&view), 0);
        assert_int_equal(stage.peer.owner->returns, 2 * (i + 1));
    }
    stage_end(&stage);
    victim_deinit(&stage.victim);
}

/* A piece lent twice, of an extension that goes, by a sender that goes: each view stays. */
static void test_views_of_what_is_taken_away(void **state)
{
    struct stage stage;
    struct vrd_view views[3];

    (void)state;
    victim_init(&stage.victim);
    stage_begin(&stage);
    memset(stage.heap, 7, HEAP);
    for (int i = 0; i < 2; i++) {
        stage_lend(&stage, (struct slot_bytes){ 0, HEAP, NUMBER, LOAN });
        views[i] = stage_view(&stage);
    }
    assert_int_equal(stage_detach(&stage, NUMBER), 0);
    assert_int_equal(stage_attach(&stage, NUMBER + 16, HEAP), 0); /* in its place */
    stage_lend(&stage, (struct slot_bytes){ 0, HEAP, NUMBER + 16, LOAN });
    views[2] = stage_view(&stage);
    fd_close(&stage.peer.tether);
    victim_pump_until_alone(&stage.victim);
    for (size_t i = 0; i < HEAP; i++) {
        assert_int_equal(((const uint8_t *)views[0].data)[i], 7);
        assert_int_equal(((const uint8_t *)views[1].data)[i], 7);
        assert_int_equal(((const uint8_t *)views[2].data)[i], 0);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(vrd_view_release(&views[i]), 0);
    stage_end(&stage);
    victim_deinit(&stage.victim);
}

/* ---- frames ---- */

/* One more extension, and a view of it: for that, all that was sent before has to be read. */
static void stage_catch_up(struct stage *stage, uint32_t number)
{
    struct vrd_view view;

    while (stage_attach(stage, number, LAYOUT_PAGE) == -EAGAIN)
        support_sleep_ms(1);
    stage_lend(stage, (struct slot_bytes){ 0, 1, number, LOAN });
    view = stage_view(stage);
    assert_int_equal(vrd_view_release(&view), 0);
}

static void test_extensions_out_of_order(void **state)
{
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (int attack = 0; attack < 6; attack++) {
        stage_begin(&stage);
        switch (attack) {
        case 0: /* its place is taken */
            stage_attach(&stage, NUMBER, HEAP);
            break;
        case 1:
            stage_attach(&stage, NUMBER + 16, HEAP);
            break;
        case 2: /* never came */
            stage_detach(&stage, NUMBER + 1);
            break;
        case 3:
            stage_detach(&stage, NUMBER + 16);
            break;
        case 4:
            stage_detach(&stage, NUMBER);
            stage_detach(&stage, NUMBER);
            break;
        default: /* gone */
            stage_detach(&stage, NUMBER);
            stage_catch_up(&stage, NUMBER + 1);
            stage_lend(&stage, (struct slot_bytes){ 0, 1, NUMBER, LOAN });
        }
        stage_found_out(&stage, (uint64_t)attack);
    }
    victim_deinit(&stage.victim);
}

static void test_more_than_the_channel_allows(void **state)
{
    const struct vrd_channel_options options = { .max_message_size = LAYOUT_PAGE,
                                                 .max_bytes = HEAP };
    struct stage stage;

    (void)state;
    for (int beyond = 0; beyond < 3; beyond++) {
        victim_init(&stage.victim);
        assert_int_equal(vrd_cap_close(stage.victim.send), 0);
        assert_int_equal(vrd_cap_close(stage.victim.receive), 0);
        assert_int_equal(
            vrd_channel_create_with(&options, &stage.victim.send, &stage.victim.receive), 0);
        stage.invitation = victim_invite(&stage.victim, VRD_RIGHT_SEND);
        peer_connect(&stage.peer, stage.invitation, VICTIM_SLOTS, LAYOUT_PAGE);
        peer_welcome(&stage.peer, victim_pump_any, &stage.victim);
        stage.heap = NULL;
        if (beyond == 0) { /* all that it may, again and again */
            for (uint32_t i = 1; i < 40; i++) {
                assert_int_equal(stage_attach(&stage, i, HEAP), 0);
                assert_int_equal(stage_detach(&stage, i), 0);
                victim_pump(&stage.victim);
            }
            assert_false(raw_hung_up(stage.peer.tether));
        } else {
            assert_int_equal(stage_attach(&stage, 1, beyond == 1 ? HEAP + LAYOUT_PAGE : HEAP), 0);
            if (beyond == 2)
                assert_int_equal(stage_attach(&stage, 2, LAYOUT_PAGE), 0);
            victim_pump_until_hung_up(&stage.victim, stage.peer.tether);
            while (stage.victim.corrupt == 0)
                victim_pump(&stage.victim);
        }
        segment_unmap(&(struct segment){ stage.heap, beyond == 1 ? HEAP + LAYOUT_PAGE : HEAP });
        fd_close(&stage.invitation);
        peer_deinit(&stage.peer);
        victim_deinit(&stage.victim);
    }
}

static void test_what_is_no_extension(void **state)
{
    const struct frame attach = {
        .type = FRAME_ATTACH, .count = FRAME_ATTACH_HEAP, .extension = 9, .bytes = LAYOUT_PAGE
    };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (const struct wrong *wrong = wrong_segments; wrong->name; wrong++) {
        int fd = wrong->make();

        stage_begin(&stage);
        if (raw_send_frame(stage.peer.tether, &attach, &fd, 1) == 0)
            stage_found_out(&stage, (uint64_t)(wrong - wrong_segments));
        else /* the kernel would not have it */
            stage_end(&stage);
        fd_close(&fd);
    }
    victim_deinit(&stage.victim);
}

/* Nobody receives; the reactor takes it all, and keeps nothing of it. */
static void test_a_flood_of_extensions(void **state)
{
    struct support_snapshot before;
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    victim_require_well(&stage.victim);
    stage_begin(&stage);
    stage_catch_up(&stage, NUMBER + 2);
    support_snapshot_take(&before);
    for (uint32_t i = 0; i < 5000; i++) {
        while (stage_attach(&stage, NUMBER + 1 + 16 * i, LAYOUT_PAGE) == -EAGAIN)
            support_sleep_ms(1);
        while (stage_detach(&stage, NUMBER + 1 + 16 * i) == -EAGAIN)
            support_sleep_ms(1);
    }
    victim_require_well(&stage.victim);
    while (stage_detach(&stage, NUMBER + 2) == -EAGAIN)
        support_sleep_ms(1);
    stage_catch_up(&stage, NUMBER + 3);
    assert_true(support_snapshot_holds(&before));
    assert_int_equal(stage.victim.corrupt, 0);
    stage_end(&stage);
    victim_deinit(&stage.victim);
}

/* ---- between two looks ---- */

struct race {
    struct stage *stage;
    atomic_bool stop;
};

/* Rewrites the description of what it has just sent: right, nearly right and wrong. */
static void *race_run(void *arg)
{
    struct race *race = arg;
    struct peer *peer = &race->stage->peer;
    uint64_t seed = UINT64_C(88172645463325252);

    while (!race->stop) {
        const uint64_t random = random_next(&seed);
        const uint32_t cursor = (uint32_t)__atomic_load_n(&peer->owner->cursor, __ATOMIC_RELAXED);
        struct slot *slot = peer_slot(peer, cursor);
        const struct slot_bytes bytes = { .offset = random >> 8 & (2 * HEAP - 1),
                                          .len = random >> 24 & (2 * HEAP - 1),
                                          .extension = NUMBER,
                                          .loan = LOAN + (random >> 40 & 3) };

        if (bytes.offset + bytes.len <= HEAP)
            memcpy(slot->head, &bytes, sizeof bytes);
        __atomic_store_n(&slot->word, (uint64_t)SLOT_BYTES << 40 | (cursor + 1), __ATOMIC_RELEASE);
        memcpy(slot->head,
               random & 2 ? &bytes : &(struct slot_bytes){ 1, HEAP - 1, NUMBER, LOANS_MAX },
               sizeof bytes);
        __atomic_store_n(&peer_memory(peer)->returns_notice,
                         (random >> 50 & 3) << 40 | (peer->owner->returns + 1), __ATOMIC_RELAXED);
    }
    return NULL;
}

static void test_descriptions_change_between_looks(void **state)
{
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (size_t round = 0; round < support_iterations(300); round++) {
        struct race race = { .stage = &stage };
        const size_t corrupt = stage.victim.corrupt;
        pthread_t thread;

        stage_begin(&stage);
        support_require(pthread_create(&thread, NULL, race_run, &race) == 0);
        for (int i = 0; i < 20 && stage.victim.corrupt == corrupt; i++) {
            struct vrd_view view;
            int r;

            victim_require_well(&stage.victim);
            r = vrd_receive_view(stage.victim.receive, &view, 0);
            if (r == VRD_ERR_PEER_CORRUPT)
                stage.victim.corrupt++;
            if (r == 0) {
                assert_true(view.len <= HEAP);
                if (view.len > 0) /* its ends are there */
                    assert_int_equal(((const volatile uint8_t *)view.data)[0] |
                                         ((const volatile uint8_t *)view.data)[view.len - 1],
                                     0);
                assert_int_equal(vrd_view_release(&view), 0);
            }
        }
        race.stop = true;
        support_require(pthread_join(thread, NULL) == 0);
        fd_close(&stage.peer.tether);
        victim_require_well(&stage.victim);
        assert_in_range(stage.victim.corrupt, corrupt, corrupt + 1);
        stage_end(&stage);
    }
    victim_deinit(&stage.victim);
}

/* How it wants to be told of returns, and that it never listens. */
static void test_every_notice(void **state)
{
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    stage_begin(&stage);
    for (uint32_t how = 0; how < 4 * 256; how++) {
        struct vrd_view view;

        peer_memory(&stage.peer)->returns_notice =
            (uint64_t)(how / 4) << 40 | (stage.peer.owner->returns + how % 4);
        stage_lend(&stage, (struct slot_bytes){ 0, 100, NUMBER, LOAN });
        view = stage_view(&stage);
        assert_int_equal(vrd_view_release(&view), 0);
    }
    for (int i = 0; i < 2000; i++) {
        struct vrd_view view;

        peer_memory(&stage.peer)->returns_notice =
            (uint64_t)RING_TETHER << 40 | (stage.peer.owner->returns + 1);
        stage_lend(&stage, (struct slot_bytes){ 0, 100, NUMBER, LOAN });
        view = stage_view(&stage);
        assert_int_equal(vrd_view_release(&view), 0);
    }
    assert_int_equal(stage.victim.corrupt, 0);
    stage_end(&stage);
    victim_deinit(&stage.victim);
}

/* ---- a hostile receiver ------------------------------------------------------------------------------- */

#define HELD 64

/* Takes the frames that the sender sends, and throws them away. */
static void owner_pump(const struct owner *owner)
{
    struct datagram datagram;

    while (socket_receive(owner->tether, &datagram) == 1)
        datagram_deinit(&datagram);
}

static void owner_scribble(const struct owner *owner, uint64_t *seed)
{
    struct receiver_segment *own = owner_memory(owner);

    for (int i = 0; i < 8; i++)
        __atomic_store_n(&own->released[random_next(seed) % LOANS_MAX],
                         (uint32_t)random_next(seed) % (64 * LOANS_MAX), __ATOMIC_RELAXED);
    __atomic_store_n(&own->returns, (uint32_t)random_next(seed), __ATOMIC_RELAXED);
}

/* Whatever it says is given back: no two loans that the application writes to share a byte. */
static void test_words_that_give_back_anything(void **state)
{
    static struct vrd_loan loans[HELD];
    uint64_t seed = 99;
    struct owner owner;

    (void)state;
    owner_linked(&owner, 16);
    for (uint32_t round = 0; round < support_iterations(20000); round++) {
        const size_t i = random_next(&seed) % HELD;
        const uint8_t *bytes = loans[i].data;
        int r;

        owner_scribble(&owner, &seed);
        owner_pump(&owner);
        __atomic_store_n(&owner_memory(&owner)->cursor, round, __ATOMIC_RELEASE);
        if (bytes) {
            for (size_t k = 0; k < loans[i].size; k++)
                support_require(bytes[k] == (uint8_t)i);
            loans[i].len = loans[i].size;
            if (random_next(&seed) % 2 || vrd_loan_send(&loans[i], 0) < 0)
                assert_int_equal(vrd_loan_cancel(&loans[i]), 0);
        } else if ((r = vrd_loan_timed(owner.cap, random_next(&seed) % 9000, 0, &loans[i])) == 0) {
            memset(loans[i].data, (int)i, loans[i].size);
        } else if (r != VRD_ERR_CHANNEL_FULL) { /* the cursor was one too many */
            break;
        }
    }
    for (size_t i = 0; i < HELD; i++)
        if (loans[i].data)
            assert_int_equal(vrd_loan_cancel(&loans[i]), 0);
    owner_deinit(&owner);
}

struct bumps {
    const struct owner *owner;
    atomic_bool stop;
};

static void *bumps_run(void *arg)
{
    struct bumps *bumps = arg;

    while (!bumps->stop)
        __atomic_fetch_add(&owner_memory(bumps->owner)->returns, 1, __ATOMIC_RELAXED);
    return NULL;
}

/* It counts returns and returns nothing: who waits for room waits no longer than it wants to. */
static void test_a_count_that_never_rests(void **state)
{
    struct bumps bumps = { 0 };
    struct vrd_loan loans[16], loan;
    struct owner owner;
    pthread_t thread;
    size_t n = 0;

    (void)state;
    owner_linked(&owner, 16);
    bumps.owner = &owner;
    while (n < 16 && vrd_loan_timed(owner.cap, (size_t)1 << 20, 0, &loans[n]) == 0)
        n++;
    support_require(n > 0 && n <= 16);
    support_require(pthread_create(&thread, NULL, bumps_run, &bumps) == 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(vrd_loan_timed(owner.cap, (size_t)1 << 20, 20000000, &loan),
                         VRD_ERR_TIMEOUT);
    bumps.stop = true;
    support_require(pthread_join(thread, NULL) == 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(vrd_loan_cancel(&loans[i]), 0);
    owner_deinit(&owner);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_descriptions_that_reach_too_far),
                     SUPPORT_TEST(test_numbers_that_are_not_there),
                     SUPPORT_TEST(test_descriptions_that_are_in_bounds),
                     SUPPORT_TEST(test_views_of_what_is_taken_away),
                     SUPPORT_TEST(test_extensions_out_of_order),
                     SUPPORT_TEST(test_more_than_the_channel_allows),
                     SUPPORT_TEST(test_what_is_no_extension),
                     SUPPORT_TEST(test_a_flood_of_extensions),
                     SUPPORT_TEST_TIMEOUT(test_descriptions_change_between_looks, 60),
                     SUPPORT_TEST(test_every_notice),
                     SUPPORT_TEST(test_words_that_give_back_anything),
                     SUPPORT_TEST(test_a_count_that_never_rests),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel)
