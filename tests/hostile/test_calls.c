/* SPDX-License-Identifier: MIT */
/*
 * Calls between parties of which one lies: a caller that uses entries twice and asks to be rung in
 * every way, a server that answers with every word and announces buffers of every kind. The link
 * ends with PEER_CORRUPT, and nobody else notices.
 */
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <veridian/ipc.h>

#include "base/macro.h"
#include "cap/frame.h"
#include "os/fd.h"
#include "os/futex.h"
#include "owner.h"
#include "peer.h"
#include "support/support.h"

#define SLOTS 16
#define MESSAGE_MAX VRD_CHANNEL_MESSAGE_DEFAULT
#define MILLISECOND INT64_C(1000000)
#define FIRST_CALL 3 /* the sequence of the first call after owner_linked_endpoint */

static uint64_t word_of(unsigned kind, size_t len, uint32_t sequence)
{
    return (uint64_t)(kind & 0xff) << 40 | (uint64_t)(len & 0xff) << 32 | sequence;
}

/* ---- a caller that lies ---------------------------------------------------------------------------- */

struct stage {
    vrd_cap_t service, honest;
    struct peer peer;
    int invitation;
};

static void pump(void *arg)
{
    struct stage *stage = arg;
    struct vrd_message request = { 0 };
    vrd_cap_t reply;

    support_require_equal(vrd_receive_call(stage->service, &request, &reply, 0),
                          VRD_ERR_CHANNEL_EMPTY);
}

static void stage_begin(struct stage *stage)
{
    uint64_t id;
    int invitation;

    support_require_equal(vrd_endpoint_create(&id, &stage->service), 0);
    support_require_equal(vrd_cap_export(stage->service, VRD_RIGHT_SEND, &invitation), 0);
    support_require_equal(vrd_cap_import(invitation, &stage->honest), 0);
    support_require_equal(vrd_cap_export(stage->service, VRD_RIGHT_SEND, &stage->invitation), 0);
    peer_connect(&stage->peer, stage->invitation, SLOTS, MESSAGE_MAX);
    peer_welcome(&stage->peer, pump, stage);
}

/* The honest caller's request and the answer to it, which it did not wait for. */
static void stage_require_well(struct stage *stage)
{
    uint8_t data[8];
    struct vrd_message request = { .data = data, .size = sizeof data };
    vrd_cap_t reply;

    support_require_equal(vrd_call(stage->honest, "honest", 6, NULL, 0, 0), VRD_ERR_TIMEOUT);
    support_require_equal(vrd_receive_call(stage->service, &request, &reply, VRD_FOREVER), 0);
    support_require(request.len == 6 && memcmp(data, "honest", 6) == 0);
    support_require_equal(vrd_reply(reply, "x", 1), VRD_ERR_TIMEOUT);
}

static void stage_end(struct stage *stage)
{
    support_require_equal(vrd_cap_close(stage->honest), 0);
    support_require_equal(vrd_cap_close(stage->service), 0);
    fd_close(&stage->invitation);
    peer_deinit(&stage->peer);
}

static void publish_call(struct stage *stage, unsigned kind, const char *text)
{
    const size_t len = strlen(text);

    memcpy(peer_slot(&stage->peer, stage->peer.position)->head, text, len);
    peer_publish_word(&stage->peer, word_of(kind, len, stage->peer.position + 1));
}

static unsigned call_kind(uint32_t entry)
{
    return SLOT_INLINE | SLOT_CALL | entry << SLOT_ENTRY_SHIFT;
}

static int receive_call(struct stage *stage, vrd_cap_t *ret_reply)
{
    uint8_t data[64];
    struct vrd_message request = { .data = data, .size = sizeof data };

    return vrd_receive_call(stage->service, &request, ret_reply, 5000 * MILLISECOND);
}

/* With the entry awaiting an answer, another call in it. */
static void test_an_entry_is_used_twice(void **state)
{
    struct stage stage;

    (void)state;
    for (uint32_t pending = 1; pending <= REPLY_ENTRIES; pending++) {
        vrd_cap_t replies[REPLY_ENTRIES], none = VRD_CAP_NONE;

        stage_begin(&stage);
        for (uint32_t i = 0; i < pending; i++) {
            publish_call(&stage, call_kind(i), "call");
            support_require_equal(receive_call(&stage, &replies[i]), 0);
            support_require(replies[i] != VRD_CAP_NONE);
        }
        publish_call(&stage, call_kind(pending / 2), "again");
        support_require_equal(receive_call(&stage, &none), VRD_ERR_PEER_CORRUPT);
        support_require_equal(none, VRD_CAP_NONE);
        support_require_equal(stage.peer.owner->notice >> 32 & 0xff, NOTICE_CORRUPT);
        for (uint32_t i = 0; i < pending; i++)
            support_require_equal(vrd_reply(replies[i], "x", 1), VRD_ERR_PEER_GONE);
        stage_require_well(&stage);
        stage_end(&stage);
    }
}

/* Kinds that no caller writes, and replies where requests belong. */
static void test_kinds_that_are_none(void **state)
{
    struct stage stage;

    (void)state;
    for (unsigned kind = 0; kind < 256; kind++) {
        const unsigned plain = kind & ~(unsigned)(SLOT_META);
        const bool call = plain & SLOT_CALL && (plain & SLOT_KIND_MASK) == SLOT_INLINE;
        vrd_cap_t reply = VRD_CAP_NONE;
        int result;

        stage_begin(&stage);
        publish_call(&stage, kind, "call");
        result = receive_call(&stage, &reply);
        if (plain == SLOT_INLINE || call) {
            support_require_equal(result, 0);
            support_require_equal(reply != VRD_CAP_NONE, call);
        } else {
            support_require_equal(result, VRD_ERR_PEER_CORRUPT);
        }
        stage_require_well(&stage);
        stage_end(&stage);
    }
}

/* There is nobody to answer at a channel. */
static void test_call_on_a_channel(void **state)
{
    vrd_cap_t send, receive;
    struct peer peer;
    int invitation;
    char data[8];

    (void)state;
    support_require_equal(vrd_channel_create(SLOTS, &send, &receive), 0);
    support_require_equal(vrd_call(send, "x", 1, NULL, 0, 0), VRD_ERR_NOT_SUPPORTED);
    support_require_equal(vrd_cap_export(send, VRD_RIGHT_SEND, &invitation), 0);
    peer_connect(&peer, invitation, SLOTS, MESSAGE_MAX);
    peer_publish_word(&peer, word_of(call_kind(0), 0, 1));
    support_require_equal(vrd_receive_timed(receive, data, sizeof data, 5000 * MILLISECOND),
                          VRD_ERR_PEER_CORRUPT);
    peer_deinit(&peer);
    fd_close(&invitation);
    support_require_equal(vrd_cap_close(send), 0);
    support_require_equal(vrd_cap_close(receive), 0);
}

/* Whatever a caller says that it waits for, and however it wants to be rung. */
static void test_wishes_of_every_kind(void **state)
{
    uint64_t seed = 7;
    struct stage stage;

    (void)state;
    stage_begin(&stage);
    for (uint32_t i = 0; i < 20000; i++) {
        const uint32_t entry = i % REPLY_ENTRIES;
        const uint64_t wish =
            i % 3 ? (uint64_t)(i & 0xff) << 40 | (stage.peer.position + 1) : random_next(&seed);
        vrd_cap_t reply;
        int result;

        peer_memory(&stage.peer)->reply_notice[entry] = wish;
        publish_call(&stage, call_kind(entry), "call");
        support_require_equal(receive_call(&stage, &reply), 0);
        result = vrd_reply(reply, "x", 1);
        support_require(result == 0 || result == VRD_ERR_TIMEOUT);
    }
    stage_require_well(&stage);
    stage_end(&stage);
}

/* ---- a server that lies ------------------------------------------------------------------------------ */

/* Calls until something else than a deadline ends it. */
static ssize_t call_until_told(const struct owner *owner, void *reply, size_t size,
                               struct vrd_view *view)
{
    ssize_t result = VRD_ERR_TIMEOUT;

    for (int i = 0; i < 12 && result == VRD_ERR_TIMEOUT; i++) {
        result = view ? vrd_call_view(owner->cap, "call", 4, view, 200 * MILLISECOND)
                      : vrd_call(owner->cap, "call", 4, reply, size, 200 * MILLISECOND);
        owner_memory(owner)->cursor = FIRST_CALL + (uint32_t)i;
    }
    return result;
}

/* All of a view is there to be read. */
static void view_read(struct vrd_view *view)
{
    unsigned sum = 0;

    for (size_t i = 0; i < view->len; i++)
        sum += ((const volatile uint8_t *)view->data)[i];
    support_require(sum <= 255 * view->len);
    support_require_equal(vrd_view_release(view), 0);
}

/* What a call is told when its entry says that already. */
static ssize_t answered(uint64_t word, const struct slot_bytes *bytes, const struct frame *attach,
                        size_t attached, bool viewing)
{
    struct vrd_view view;
    struct owner owner;
    struct segment buffer = { 0 };
    uint8_t reply[64];
    int fd = -1;
    ssize_t result;

    owner_linked_endpoint(&owner, SLOTS);
    if (attach) {
        /* so that the caller has a table for it */
        support_require_equal(vrd_call(owner.cap, "", 0, NULL, 0, 0), VRD_ERR_TIMEOUT);
        owner_memory(&owner)->replies[0].word = word_of(SLOT_NONE, 0, FIRST_CALL);
        support_require_equal(segment_create(attached, &buffer, &fd), 0);
        support_require_equal(raw_send_frame(owner.tether, attach, &fd, 1), 0);
        memset(buffer.addr, 'b', attached);
    }
    for (size_t i = attach ? 1 : 0; i < REPLY_ENTRIES; i++) {
        struct slot *entry = &owner_memory(&owner)->replies[i];

        if (bytes)
            memcpy(entry->head, bytes, sizeof *bytes);
        entry->word = word + (attach ? 1 : 0);
    }
    result = call_until_told(&owner, reply, sizeof reply, viewing ? &view : NULL);
    if (result == 0 && viewing) {
        result = (ssize_t)view.len;
        view_read(&view);
    }
    if (result == VRD_ERR_PEER_CORRUPT)
        support_require_equal(vrd_call(owner.cap, "", 0, NULL, 0, 0), VRD_ERR_PEER_CORRUPT);
    owner_deinit(&owner);
    segment_unmap(&buffer);
    fd_close(&fd);
    return result;
}

static ssize_t answered_with(uint64_t word, const struct slot_bytes *bytes,
                             const struct frame *attach, size_t attached)
{
    return answered(word, bytes, attach, attached, false);
}

static ssize_t viewed_with(uint64_t word, const struct slot_bytes *bytes,
                           const struct frame *attach, size_t attached)
{
    return answered(word, bytes, attach, attached, true);
}

static void test_answers_of_every_kind(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 256; kind++)
        for (size_t len = 0; len < 256; len += kind % 16 == SLOT_INLINE ? 1 : 51) {
            const unsigned plain = kind & ~(unsigned)SLOT_META;
            const bool viewing = (kind + len) % 2;
            const ssize_t result = answered(word_of(kind, len, FIRST_CALL), NULL, NULL, 0, viewing);

            if (plain == SLOT_INLINE && len <= SLOT_INLINE_MAX)
                support_require_equal(result, len);
            else if (plain == SLOT_NONE)
                support_require_equal(result, VRD_ERR_PEER_GONE);
            else
                support_require_equal(result, VRD_ERR_PEER_CORRUPT);
        }
}

static void test_answers_to_other_calls(void **state)
{
    static const uint32_t sequences[] = { 1, 2, 4, 5, 0x7fffffff, 0x80000003, UINT32_MAX };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sequences); i++)
        support_require_equal(answered_with(word_of(SLOT_INLINE, 1, sequences[i]), NULL, NULL, 0),
                              VRD_ERR_PEER_CORRUPT);
}

static void test_buffers_that_reach_too_far(void **state)
{
    const struct frame good = { .type = FRAME_ATTACH, .extension = 1, .bytes = 4096, .count = 2 };
    const uint64_t word = word_of(SLOT_BYTES, 0, FIRST_CALL);
    static const struct {
        struct slot_bytes bytes;
        ssize_t result;
    } cases[] = {
        { { .len = 64, .extension = 1 }, 64 },
        { { .len = 65, .extension = 1 }, VRD_ERR_MESSAGE_TOO_LARGE },
        { { .len = 4096, .extension = 1 }, VRD_ERR_MESSAGE_TOO_LARGE },
        { { .len = 4097, .extension = 1 }, VRD_ERR_PEER_CORRUPT },
        { { .len = UINT64_MAX, .extension = 1 }, VRD_ERR_PEER_CORRUPT },
        { { .len = 8, .offset = 1, .extension = 1 }, VRD_ERR_PEER_CORRUPT },
        { { .len = 8, .extension = 2 }, VRD_ERR_PEER_CORRUPT },
        { { .len = 8 }, VRD_ERR_PEER_CORRUPT },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const ssize_t fits = cases[i].result == VRD_ERR_MESSAGE_TOO_LARGE
                                 ? (ssize_t)cases[i].bytes.len
                                 : cases[i].result;

        support_require_equal(answered_with(word, &cases[i].bytes, &good, 4096), cases[i].result);
        support_require_equal(viewed_with(word, &cases[i].bytes, &good, 4096), fits);
    }
    support_require_equal(answered_with(word, &cases[0].bytes, NULL, 0), VRD_ERR_PEER_CORRUPT);
    support_require_equal(viewed_with(word, &cases[0].bytes, NULL, 0), VRD_ERR_PEER_CORRUPT);
}

static void test_buffers_that_are_announced_wrong(void **state)
{
    const struct slot_bytes bytes = { .len = 8, .extension = 1 };
    static const struct frame wrong[] = {
        { .type = FRAME_ATTACH, .extension = 1, .bytes = 4096 },
        { .type = FRAME_ATTACH, .extension = 1, .bytes = 4096, .count = 17 },
        { .type = FRAME_ATTACH, .extension = 1, .bytes = 4096, .count = UINT32_MAX },
        { .type = FRAME_ATTACH, .extension = 1, .bytes = 8192, .count = 2 },
        { .type = FRAME_ATTACH, .extension = 1, .bytes = 4095, .count = 2 },
        { .type = FRAME_ATTACH, .extension = 1, .bytes = UINT64_C(1) << 40, .count = 2 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        support_require_equal(
            answered_with(word_of(SLOT_BYTES, 0, FIRST_CALL), &bytes, &wrong[i], 4096),
            VRD_ERR_PEER_CORRUPT);
}

/* While an answer is viewed, whatever the server says of its entry is about another. */
static void test_the_entry_of_a_view(void **state)
{
    struct frame attach = { .type = FRAME_ATTACH, .extension = 1, .bytes = 4096, .count = 2 };
    const struct slot_bytes bytes = { .len = 4096, .extension = 1 };
    struct segment buffer, other;
    struct vrd_view view;
    struct owner owner;
    struct slot *entry;
    int fd, other_fd;

    (void)state;
    owner_linked_endpoint(&owner, SLOTS);
    support_require_equal(vrd_call(owner.cap, "", 0, NULL, 0, 0), VRD_ERR_TIMEOUT);
    support_require_equal(segment_create(4096, &buffer, &fd), 0);
    memset(buffer.addr, 'b', 4096);
    support_require_equal(segment_create(4096, &other, &other_fd), 0);
    support_require_equal(raw_send_frame(owner.tether, &attach, &fd, 1), 0);
    entry = &owner_memory(&owner)->replies[1];
    memcpy(entry->head, &bytes, sizeof bytes);
    entry->word = word_of(SLOT_BYTES, 0, FIRST_CALL + 1);
    support_require_equal(call_until_told(&owner, NULL, 0, &view), 0);
    for (uint32_t i = 2; i < REPLY_ENTRIES; i++) {
        attach.extension++;
        while (raw_send_frame(owner.tether, &attach, &other_fd, 1) < 0)
            support_sleep_ms(1);
        entry->word = word_of(SLOT_BYTES, 0, FIRST_CALL + 2);
        support_require_equal(vrd_call(owner.cap, "", 0, NULL, 0, 0), VRD_ERR_TIMEOUT);
        owner_memory(&owner)->cursor = FIRST_CALL + i;
    }
    support_require_equal(vrd_call(owner.cap, "", 0, NULL, 0, 0), VRD_ERR_ENDPOINT_BUSY);
    support_require_equal(view.len, 4096);
    for (size_t i = 0; i < view.len; i++)
        support_require(((const char *)view.data)[i] == 'b');
    owner_deinit(&owner);
    view_read(&view);
    segment_unmap(&buffer);
    segment_unmap(&other);
    fd_close(&fd);
    fd_close(&other_fd);
}

/* A buffer for somebody who has never called. */
static void test_buffer_before_any_call(void **state)
{
    const struct frame attach = { .type = FRAME_ATTACH, .extension = 1, .bytes = 4096, .count = 1 };
    struct segment buffer;
    struct owner owner;
    ssize_t result;
    int fd;

    (void)state;
    owner_linked_endpoint(&owner, SLOTS);
    support_require_equal(segment_create(4096, &buffer, &fd), 0);
    support_require_equal(raw_send_frame(owner.tether, &attach, &fd, 1), 0);
    do {
        result = vrd_send_timed(owner.cap, "", 0, 0);
        owner_memory(&owner)->cursor++;
    } while (result == 0);
    support_require_equal(result, VRD_ERR_PEER_CORRUPT);
    owner_deinit(&owner);
    segment_unmap(&buffer);
    fd_close(&fd);
}

static void *call_for_large(void *arg)
{
    char reply[8];

    support_require_equal(
        vrd_call(*(const vrd_cap_t *)arg, "", 0, reply, sizeof reply, VRD_FOREVER), 5);
    support_require(memcmp(reply, "large", 5) == 0);
    return NULL;
}

/* Only the newest is kept, however many come. */
static void test_a_flood_of_buffers(void **state)
{
    struct frame attach = { .type = FRAME_ATTACH, .bytes = 4096, .count = 1 };
    const struct slot_bytes bytes = { .len = 5, .extension = 2000 };
    const uint32_t last = FIRST_CALL + REPLY_ENTRIES;
    struct mapping mappings[MAPPINGS_MAX];
    const struct slot *slots;
    struct segment buffer;
    struct owner owner;
    pthread_t thread;
    int fd;

    (void)state;
    owner_linked_endpoint(&owner, SLOTS);
    slots = ((const struct sender_segment *)owner.sender.addr)->slots;
    support_require_equal(vrd_call(owner.cap, "", 0, NULL, 0, 0), VRD_ERR_TIMEOUT);
    owner_memory(&owner)->replies[0].word = word_of(SLOT_NONE, 0, FIRST_CALL);
    support_require_equal(segment_create(4096, &buffer, &fd), 0);
    memcpy(buffer.addr, "large", 5);
    for (attach.extension = 1; attach.extension <= 2000;) {
        if (raw_send_frame(owner.tether, &attach, &fd, 1) == 0)
            attach.extension++;
        else
            support_sleep_ms(1);
    }
    support_require(mappings_of_segments(mappings) < 10);
    /* entry 0 was abandoned: it comes back when all others are in use */
    for (uint32_t i = 1; i < REPLY_ENTRIES; i++) {
        support_require_equal(vrd_call(owner.cap, "", 0, NULL, 0, 0), VRD_ERR_TIMEOUT);
        owner_memory(&owner)->cursor = FIRST_CALL + i;
    }
    support_require(pthread_create(&thread, NULL, call_for_large, &owner.cap) == 0);
    while (slots[(last - 1) & owner.mask].word << 32 >> 32 != last)
        support_sleep_ms(1);
    memcpy(owner_memory(&owner)->replies[0].head, &bytes, sizeof bytes);
    __atomic_store_n(&owner_memory(&owner)->replies[0].word, word_of(SLOT_BYTES, 0, last),
                     __ATOMIC_RELEASE);
    futex_wake(&owner_memory(&owner)->replies[0].word, true);
    support_require(pthread_join(thread, NULL) == 0);
    owner_deinit(&owner);
    segment_unmap(&buffer);
    fd_close(&fd);
}

static void *call_until_the_end(void *arg)
{
    char reply[8];

    support_require_equal(
        vrd_call(*(const vrd_cap_t *)arg, "", 0, reply, sizeof reply, VRD_FOREVER),
        VRD_ERR_PEER_GONE);
    return NULL;
}

static void *send_until_the_end(void *arg)
{
    ssize_t result;

    do
        result = vrd_send(*(const vrd_cap_t *)arg, "", 0);
    while (result == 0);
    support_require_equal(result, VRD_ERR_PEER_GONE);
    return NULL;
}

/* The owner says that it ends, but hangs up nowhere: the one thread that notices tells the others. */
static void test_an_end_that_one_thread_finds(void **state)
{
    void *(*const runs[])(void *) = { call_until_the_end, send_until_the_end };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
        struct owner owner;
        pthread_t threads[2];

        owner_linked_endpoint(&owner, SLOTS);
        for (size_t k = 0; k < ARRAY_SIZE(threads); k++)
            support_require(pthread_create(&threads[k], NULL, runs[i], &owner.cap) == 0);
        support_sleep_ms(50); /* asleep for good */
        __atomic_store_n(&owner_memory(&owner)->notice, (uint64_t)NOTICE_CLOSED << 32,
                         __ATOMIC_RELEASE);
        support_require_equal(vrd_send_timed(owner.cap, "", 0, 0), VRD_ERR_PEER_GONE);
        for (size_t k = 0; k < ARRAY_SIZE(threads); k++)
            support_require(pthread_join(threads[k], NULL) == 0);
        owner_deinit(&owner);
    }
}

/* Words, buffers and frames by chance: an answer of some kind in time, and nothing is left. */
static void test_answers_by_chance(void **state)
{
    uint64_t seed = 11;

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct owner owner;
        char reply[100];

        owner_linked_endpoint(&owner, SLOTS);
        for (uint32_t call = 0; call < 20; call++) {
            ssize_t result;

            for (size_t i = 0; i < REPLY_ENTRIES; i++) {
                struct slot *entry = &owner_memory(&owner)->replies[i];
                const uint64_t dice = random_next(&seed);

                if (dice % 4 == 0)
                    memcpy(entry->head, &dice, sizeof dice);
                if (dice % 3 == 0)
                    entry->word = word_of((unsigned)(dice >> 8), (dice >> 16) % 70,
                                          dice % 2 ? FIRST_CALL + call : (uint32_t)(dice >> 32));
            }
            result = vrd_call(owner.cap, "x", 1, reply, sizeof reply, MILLISECOND / 10);
            owner_memory(&owner)->cursor = FIRST_CALL + call;
            if (result == VRD_ERR_PEER_CORRUPT)
                break;
            support_require(result >= 0 || result == VRD_ERR_TIMEOUT ||
                            result == VRD_ERR_PEER_GONE);
        }
        owner_deinit(&owner);
    }
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_an_entry_is_used_twice),
                     SUPPORT_TEST(test_kinds_that_are_none),
                     SUPPORT_TEST(test_call_on_a_channel),
                     SUPPORT_TEST(test_wishes_of_every_kind),
                     SUPPORT_TEST(test_answers_of_every_kind),
                     SUPPORT_TEST(test_answers_to_other_calls),
                     SUPPORT_TEST(test_buffers_that_reach_too_far),
                     SUPPORT_TEST(test_buffers_that_are_announced_wrong),
                     SUPPORT_TEST(test_the_entry_of_a_view),
                     SUPPORT_TEST(test_buffer_before_any_call),
                     SUPPORT_TEST(test_a_flood_of_buffers),
                     SUPPORT_TEST(test_an_end_that_one_thread_finds),
                     SUPPORT_TEST(test_answers_by_chance),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel)
