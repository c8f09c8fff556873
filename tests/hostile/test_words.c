/* SPDX-License-Identifier: MIT */
/*
 * A receiver before a sender that writes what it likes into its segment: words that look right but
 * for one thing, descriptions that reach too far, words that change between two looks. The link
 * ends with PEER_CORRUPT, said once, and the honest sender beside notices nothing.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "base/macro.h"
#include "cap/frame.h"
#include "os/fd.h"
#include "peer.h"
#include "support/support.h"
#include "victim.h"
#include "wrong.h"

#define HONEST 3               /* messages that the attacker sends before it attacks */
#define RING (2 * LAYOUT_PAGE) /* its byte ring, number 1 */

struct stage {
    struct victim victim;
    struct support_snapshot before;
    struct peer peer;
    int invitation;
    uint8_t *bytes;
};

/* The byte ring, writable for the attacker, who made it without the library. */
static void stage_attach(struct stage *stage)
{
    const struct frame attach = { .type = FRAME_ATTACH, .extension = 1, .bytes = RING };
    struct segment segment;
    int fd;

    support_require_equal(segment_create(RING, &segment, &fd), 0);
    support_require_equal(raw_send_frame(stage->peer.tether, &attach, &fd, 1), 0);
    stage->bytes = segment.addr;
    fd_close(&fd);
}

static void stage_begin(struct stage *stage)
{
    const size_t strange = stage->victim.strange;

    support_snapshot_take(&stage->before);
    stage->invitation = victim_invite(&stage->victim, VRD_RIGHT_SEND);
    peer_connect(&stage->peer, stage->invitation, VICTIM_SLOTS, VICTIM_MESSAGE_MAX);
    peer_welcome(&stage->peer, victim_pump_any, &stage->victim);
    stage_attach(stage);
    for (int i = 0; i < HONEST; i++)
        peer_publish(&stage->peer, "fine", 4);
    while (stage->victim.strange < strange + HONEST)
        victim_pump(&stage->victim);
}

static void stage_end(struct stage *stage)
{
    struct segment bytes = { .addr = stage->bytes, .size = RING };

    segment_unmap(&bytes);
    fd_close(&stage->invitation);
    peer_deinit(&stage->peer);
    victim_require_well(&stage->victim);
    if (!support_snapshot_holds(&stage->before))
        support_fail(__FILE__, __LINE__, "something was left behind");
}

/* What the attacker has written is found out, told once, and ends its link. */
static void stage_found_out(struct stage *stage, const char *attack, uint64_t value)
{
    const size_t strange = stage->victim.strange, corrupt = stage->victim.corrupt;

    victim_require_well(&stage->victim);
    victim_pump_until_hung_up(&stage->victim, stage->peer.tether);
    if (stage->victim.corrupt != corrupt + 1 || stage->victim.strange != strange)
        support_fail(__FILE__, __LINE__, "%s, %#lx: told %zu times, %zu messages", attack, value,
                     stage->victim.corrupt - corrupt, stage->victim.strange - strange);
    if ((uint8_t)(stage->peer.owner->notice >> 32) != NOTICE_CORRUPT)
        support_fail(__FILE__, __LINE__, "%s, %#lx: the cause was not given", attack, value);
    stage_end(stage);
}

/* A word with the right sequence. */
static uint64_t word_next(const struct stage *stage, uint64_t kind, uint64_t len)
{
    return kind << 40 | len << 32 | (stage->peer.position + 1);
}

static void attack_word(struct stage *stage, const char *attack, uint64_t kind, uint64_t len)
{
    stage_begin(stage);
    peer_publish_word(&stage->peer, word_next(stage, kind, len));
    stage_found_out(stage, attack, kind << 8 | len);
}

static void test_lengths_too_long(void **state)
{
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (uint64_t len = SLOT_INLINE_MAX + 1; len < 256; len += len < 70 ? 1 : 37) {
        attack_word(&stage, "a length", SLOT_INLINE, len);
        attack_word(&stage, "a length with meta", SLOT_INLINE | SLOT_META, len);
    }
    attack_word(&stage, "a length", SLOT_INLINE, 255);
    victim_deinit(&stage.victim);
}

static void test_kinds_that_do_not_exist(void **state)
{
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (uint64_t kind = 0; kind < 256; kind++)
        if ((kind & ~(uint64_t)SLOT_META) != SLOT_INLINE &&
            (kind & ~(uint64_t)SLOT_META) != SLOT_BYTES)
            attack_word(&stage, "a kind", kind, 8);
    victim_deinit(&stage.victim);
}

static void test_sequences_out_of_turn(void **state)
{
    static const int64_t distances[] = {
        2, 3, VICTIM_SLOTS - 1, VICTIM_SLOTS, VICTIM_SLOTS + 1, -1, -2, 1000, INT32_MAX, INT32_MIN
    };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (size_t i = 0; i < ARRAY_SIZE(distances); i++) {
        stage_begin(&stage);
        peer_publish_word(&stage.peer, (uint64_t)SLOT_INLINE << 40 | UINT64_C(4) << 32 |
                                           (uint32_t)(stage.peer.position + distances[i]));
        stage_found_out(&stage, "a sequence", (uint64_t)distances[i]);
    }
    victim_deinit(&stage.victim);
}

/* ---- descriptions ---------------------------------------------------------------------------------------- */

static void attack_description(struct stage *stage, struct slot_bytes description)
{
    stage_begin(stage);
    memcpy(peer_slot(&stage->peer, stage->peer.position)->head, &description, sizeof description);
    peer_publish_word(&stage->peer, word_next(stage, SLOT_BYTES, 0));
    stage_found_out(stage, "a description", description.offset);
}

static void test_descriptions_that_reach_too_far(void **state)
{
    static const struct slot_bytes descriptions[] = {
        { .offset = RING, .len = 100, .extension = 1 },
        { .offset = RING + 1, .len = 100, .extension = 1 },
        { .offset = UINT64_MAX, .len = 100, .extension = 1 },
        { .offset = UINT64_MAX - 50, .len = 100, .extension = 1 },
        { .offset = UINT64_C(1) << 63, .len = 100, .extension = 1 },
        { .offset = 0, .len = RING + 1, .extension = 1 },
        { .offset = 64, .len = RING + 1, .extension = 1 },
        { .offset = 0, .len = VICTIM_MESSAGE_MAX + 1, .extension = 1 },
        { .offset = 0, .len = UINT64_MAX, .extension = 1 },
        { .offset = 64, .len = UINT64_MAX - 63, .extension = 1 },
        { .offset = RING - 1, .len = UINT64_MAX - RING + 2, .extension = 1 },
        { .offset = 0, .len = INT64_MAX, .extension = 1 },
    };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (size_t i = 0; i < ARRAY_SIZE(descriptions); i++)
        attack_description(&stage, descriptions[i]);
    victim_deinit(&stage.victim);
}

/* Byte rings that never came, or never could. */
static void test_extensions_that_are_not_there(void **state)
{
    static const uint32_t numbers[] = { 0, 2, 3, 4, 5, 6, 1000, INT32_MAX, UINT32_MAX };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        attack_description(&stage, (struct slot_bytes){ .len = 100, .extension = numbers[i] });
    victim_deinit(&stage.victim);
}

/* Strange, but within what is the attacker's own: odd offsets, wrapping, short and empty payloads. */
static void test_descriptions_that_are_in_bounds(void **state)
{
    static const struct slot_bytes descriptions[] = {
        { .offset = 0, .len = 0, .extension = 1 },
        { .offset = 1, .len = 1, .extension = 1 },
        { .offset = RING - 1, .len = 1, .extension = 1 },
        { .offset = RING - 1, .len = 2, .extension = 1 },
        { .offset = RING - 1, .len = RING, .extension = 1 },
        { .offset = 17, .len = RING, .extension = 1 },
    };
    static uint8_t buf[RING];
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    stage_begin(&stage);
    for (size_t i = 0; i < RING; i++)
        stage.bytes[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < ARRAY_SIZE(descriptions); i++) {
        const struct slot_bytes *bytes = &descriptions[i];

        memcpy(peer_slot(&stage.peer, stage.peer.position)->head, bytes, sizeof *bytes);
        peer_publish_word(&stage.peer, word_next(&stage, SLOT_BYTES, 0xff));
        assert_int_equal(vrd_receive(stage.victim.receive, buf, sizeof buf), bytes->len);
        for (size_t k = 0; k < bytes->len; k++)
            assert_int_equal(buf[k], (uint8_t)((bytes->offset + k) % RING * 7));
    }
    stage_end(&stage);
    victim_deinit(&stage.victim);
}

/* ---- between two looks ------------------------------------------------------------------------------------- */

struct race {
    struct stage *stage;
    atomic_bool stop;
};

/* Writes and rewrites the word and the description of every slot: right, nearly right and wrong. */
static void *race_run(void *arg)
{
    struct race *race = arg;
    struct peer *peer = &race->stage->peer;
    uint64_t seed = UINT64_C(88172645463325252);

    while (!race->stop) {
        const uint64_t random = random_next(&seed);
        const uint32_t cursor = (uint32_t)__atomic_load_n(&peer->owner->cursor, __ATOMIC_RELAXED);
        struct slot *slot = peer_slot(peer, cursor);
        const uint64_t kind = random & 1 ? SLOT_INLINE : SLOT_BYTES;
        const struct slot_bytes bytes = { .offset = random >> 8 & (2 * RING - 1),
                                          .len = random >> 24 & (2 * RING - 1),
                                          .extension = 1 };
        uint64_t len = random >> 40 & 0x7f;

        if (random >> 50 & 0x3ff) /* usually good enough to go on */
            len &= 0x3f;
        if (bytes.offset < RING && bytes.len <= RING)
            memcpy(slot->head, &bytes, sizeof bytes);
        __atomic_store_n(&slot->word, kind << 40 | len << 32 | (cursor + 1), __ATOMIC_RELEASE);
        memcpy(slot->head, random & 2 ? &bytes : &(struct slot_bytes){ .len = 70, .extension = 1 },
               sizeof bytes);
        __atomic_store_n(&peer_memory(peer)->notice, random & ~(UINT64_C(0xff) << 32),
                         __ATOMIC_RELAXED);
        if (random >> 60 == 0) /* taken back */
            __atomic_store_n(&slot->word, cursor - peer->mask, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void test_words_change_between_looks(void **state)
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
        for (int i = 0; i < 20 && stage.victim.corrupt == corrupt; i++)
            victim_require_well(&stage.victim);
        race.stop = true;
        support_require(pthread_join(thread, NULL) == 0);
        fd_close(&stage.peer.tether);
        victim_require_well(&stage.victim);
        assert_in_range(stage.victim.corrupt, corrupt, corrupt + 1);
        stage_end(&stage);
    }
    victim_deinit(&stage.victim);
}

/* ---- its notice ---------------------------------------------------------------------------------------------- */

/* What the attacker says it waits for, and how it wants to be woken: the receiver does what can be
 * done and goes on. */
static void test_every_notice(void **state)
{
    static const int32_t positions[] = { -17, -1, 0, 1, 2, 16, INT32_MAX };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    stage_begin(&stage);
    for (uint64_t high = 0; high < 0x10000; high += high < 0x400 ? 1 : 0xef)
        for (size_t i = 0; i < ARRAY_SIZE(positions); i++) {
            const size_t strange = stage.victim.strange;
            const uint64_t cause = high & 0xff, how = high >> 8;

            peer_memory(&stage.peer)->notice =
                how << 40 | cause << 32 | (stage.peer.position + (uint32_t)positions[i]);
            peer_publish(&stage.peer, "fine", 4);
            while (stage.victim.strange == strange)
                victim_pump(&stage.victim);
            raw_hung_up(stage.peer.tether); /* rings that came */
        }
    assert_int_equal(stage.victim.corrupt, 0);
    stage_end(&stage);
    victim_deinit(&stage.victim);
}

/* It asks for rings and never takes them. */
static void test_rings_that_nobody_takes(void **state)
{
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    stage_begin(&stage);
    for (int i = 0; i < 2000; i++) {
        const size_t strange = stage.victim.strange;

        peer_memory(&stage.peer)->notice = (uint64_t)RING_TETHER << 40 | (stage.peer.position + 1);
        peer_publish(&stage.peer, "fine", 4);
        while (stage.victim.strange == strange)
            victim_pump(&stage.victim);
    }
    assert_int_equal(stage.victim.corrupt, 0);
    stage_end(&stage);
    victim_deinit(&stage.victim);
}

/* A ring that was asked for and comes when the link is over is no crime; one more is. */
static void test_a_ring_that_comes_late(void **state)
{
    const struct frame close = { .type = FRAME_CLOSE };
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    stage_begin(&stage);
    while (stage.peer.owner->notice != ((uint64_t)RING_TETHER << 40 | (stage.peer.position + 1)))
        victim_require_well(&stage.victim); /* until this link has gone cold */
    support_require_equal(raw_send_frame(stage.peer.tether, &close, NULL, 0), 0);
    victim_pump_until_alone(&stage.victim);
    support_require_equal(raw_send(stage.peer.tether, "", 1, NULL, 0), 0);
    victim_require_well(&stage.victim);
    for (int i = 0; i < 20; i++) {
        victim_pump(&stage.victim);
        assert_false(raw_hung_up(stage.peer.tether));
        support_sleep_ms(1);
    }
    support_require_equal(raw_send(stage.peer.tether, "", 1, NULL, 0), 0);
    victim_pump_until_hung_up(&stage.victim, stage.peer.tether);
    assert_int_equal(stage.victim.corrupt, 0);
    stage_end(&stage);
    victim_deinit(&stage.victim);
}

/* What a batch meets behind its first message is not lost. */
static void test_found_out_in_a_batch(void **state)
{
    struct vrd_message messages[4];
    uint8_t data[4][SLOT_INLINE_MAX];
    struct stage stage;

    (void)state;
    victim_init(&stage.victim);
    for (int honest = 0; honest < 2; honest++) {
        stage_begin(&stage);
        for (size_t i = 0; i < ARRAY_SIZE(messages); i++)
            messages[i] = (struct vrd_message){ .data = data[i], .size = sizeof data[i] };
        peer_publish(&stage.peer, "fine", 4);
        peer_publish(&stage.peer, "fine", 4);
        peer_publish_word(&stage.peer, word_next(&stage, SLOT_INLINE, 255));
        assert_int_equal(vrd_receive_batch(stage.victim.receive, messages, 4, 0), 2);
        if (honest)
            assert_int_equal(vrd_send(stage.victim.send, "honest", 6), 0);
        assert_int_equal(vrd_receive_async(stage.victim.receive, data[0], sizeof data[0]),
                         VRD_ERR_PEER_CORRUPT);
        assert_int_equal(vrd_receive_async(stage.victim.receive, data[0], sizeof data[0]),
                         honest ? 6 : VRD_ERR_CHANNEL_EMPTY);
        stage_end(&stage);
    }
    victim_deinit(&stage.victim);
}

/* ---- while the receiver sleeps ------------------------------------------------------------------------------ */

static void *receive_run(void *arg)
{
    const struct victim *victim = arg;
    uint8_t buf[64];
    intptr_t result = vrd_receive(victim->receive, buf, sizeof buf);

    while (result == VRD_ERR_PEER_CORRUPT)
        result = vrd_receive(victim->receive, buf, sizeof buf);
    return (void *)result;
}

/* Wakes a sleeper again and again for nothing; it sleeps on, and wakes for the honest message. */
static void test_wakes_for_nothing(void **state)
{
    struct stage stage;
    pthread_t thread;
    void *result;

    (void)state;
    victim_init(&stage.victim);
    stage_begin(&stage);
    support_require(pthread_create(&thread, NULL, receive_run, &stage.victim) == 0);
    for (size_t i = 0; i < support_iterations(20000); i++) {
        /* the word of the last lap, as it is, and another that also says: nothing yet */
        peer_publish_word(&stage.peer, i % 2 == 0 ? 0 : stage.peer.position - stage.peer.mask);
        stage.peer.position--;
    }
    support_require_equal(vrd_send(stage.victim.send, "honest", 6), 0);
    support_require(pthread_join(thread, &result) == 0);
    assert_int_equal((intptr_t)result, 6);
    stage_end(&stage);
    victim_deinit(&stage.victim);
}

static void pump_quietly(void *arg)
{
    support_require_equal(vrd_receive_timed(*(const vrd_cap_t *)arg, NULL, 0, 0),
                          VRD_ERR_CHANNEL_EMPTY);
}

/* The word is found out once, as a rule by the one who does not sleep. */
static atomic_uint found_out;

static void *receive_until_gone(void *arg)
{
    ssize_t result;

    while ((result = vrd_receive(*(const vrd_cap_t *)arg, NULL, 0)) == VRD_ERR_PEER_CORRUPT)
        atomic_fetch_add(&found_out, 1);
    support_require_equal(result, VRD_ERR_PEER_GONE);
    return NULL;
}

/* Nobody else can send: the thread that finds the last sender out tells those who sleep beside it. */
static void test_the_last_sender_is_found_out(void **state)
{
    vrd_cap_t send, receive;
    pthread_t threads[3];
    struct peer peer;
    ssize_t result;
    int invitation;

    (void)state;
    atomic_store(&found_out, 0);
    support_require_equal(vrd_channel_create(VICTIM_SLOTS, &send, &receive), 0);
    support_require_equal(vrd_cap_export(send, VRD_RIGHT_SEND, &invitation), 0);
    peer_connect(&peer, invitation, VICTIM_SLOTS, VRD_CHANNEL_MESSAGE_DEFAULT);
    peer_welcome(&peer, pump_quietly, &receive);
    fd_close(&invitation);
    support_require_equal(vrd_cap_close(send), 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        support_require(pthread_create(&threads[i], NULL, receive_until_gone, &receive) == 0);
    support_sleep_ms(50); /* asleep for good */
    peer_slot(&peer, peer.position)->word =
        (uint64_t)255 << 40 | (peer.position + 1); /* and no ring */
    while ((result = vrd_receive_timed(receive, NULL, 0, 0)) == VRD_ERR_PEER_CORRUPT)
        atomic_fetch_add(&found_out, 1);
    support_require_equal(result, VRD_ERR_PEER_GONE);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        support_require(pthread_join(threads[i], NULL) == 0);
    support_require_equal(atomic_load(&found_out), 1);
    support_require_equal(vrd_cap_close(receive), 0);
    peer_deinit(&peer);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_lengths_too_long),
                     SUPPORT_TEST(test_kinds_that_do_not_exist),
                     SUPPORT_TEST(test_sequences_out_of_turn),
                     SUPPORT_TEST(test_descriptions_that_reach_too_far),
                     SUPPORT_TEST(test_extensions_that_are_not_there),
                     SUPPORT_TEST(test_descriptions_that_are_in_bounds),
                     SUPPORT_TEST(test_words_change_between_looks),
                     SUPPORT_TEST(test_every_notice),
                     SUPPORT_TEST(test_rings_that_nobody_takes),
                     SUPPORT_TEST(test_a_ring_that_comes_late),
                     SUPPORT_TEST(test_found_out_in_a_batch),
                     SUPPORT_TEST(test_wakes_for_nothing),
                     SUPPORT_TEST(test_the_last_sender_is_found_out),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel);
