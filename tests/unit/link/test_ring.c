/* SPDX-License-Identifier: MIT */
/* The ring in good order: capacity, order, wrap-around of positions, meta, two threads. */
#include "unit/link/pair.h"

#include <pthread.h>
#include <sched.h>

#include "base/clock.h"

static const uint32_t starts[] = {
    0,         1, 1000, UINT32_C(0x7fffffff), UINT32_C(0x80000000), UINT32_MAX - 40, UINT32_MAX - 1,
    UINT32_MAX
};

#define STARTS (sizeof starts / sizeof starts[0])

static void put_number(struct pair *pair, uint64_t number)
{
    assert_true(pair_write_small(pair, &number, sizeof number));
}

static void expect_number(struct pair *pair, uint64_t number)
{
    uint64_t word, got = ~number;

    assert_int_equal(ring_peek(&pair->r, &word), RING_READY);
    assert_true(slot_is_small(word));
    assert_int_equal(pair_read_small(pair, word, &got, sizeof got), sizeof got);
    assert_int_equal(got, number);
}

static void expect_empty(struct pair *pair)
{
    uint64_t word;

    assert_int_equal(ring_peek(&pair->r, &word), RING_EMPTY);
}

static void holds_exactly_its_capacity_anywhere(void **state)
{
    (void)state;
    for (size_t s = 0; s < STARTS; s++)
        for (uint32_t capacity = 1; capacity <= 33; capacity++) {
            struct pair pair;
            uint64_t number = 0, next = 0;

            pair_init(&pair, capacity, 1 << 20, starts[s]);
            for (int lap = 0; lap < 5; lap++) {
                expect_empty(&pair);
                for (uint32_t i = 0; i < capacity; i++)
                    put_number(&pair, number++);
                assert_false(pair_write_small(&pair, &number, sizeof number));
                assert_int_equal(ring_writer_refresh(&pair.w), VRD_ERR_CHANNEL_FULL);
                assert_int_equal(pair_write(&pair, &number, sizeof number), VRD_ERR_CHANNEL_FULL);
                for (uint32_t i = 0; i < capacity; i++)
                    expect_number(&pair, next++);
                expect_empty(&pair);
                assert_int_equal(ring_writer_refresh(&pair.w), 0);
            }
            pair_deinit(&pair);
        }
}

static void one_read_makes_room_for_one(void **state)
{
    (void)state;
    for (size_t s = 0; s < STARTS; s++) {
        struct pair pair;

        pair_init(&pair, 5, 64, starts[s]);
        for (uint64_t i = 0; i < 5; i++)
            put_number(&pair, i);
        for (uint64_t i = 0; i < 100; i++) {
            const uint64_t next = i + 5;

            assert_int_equal(pair_write(&pair, &next, sizeof next), VRD_ERR_CHANNEL_FULL);
            expect_number(&pair, i);
            assert_int_equal(pair_write(&pair, &next, sizeof next), 0);
        }
        pair_deinit(&pair);
    }
}

static void before_the_answer_one_capacity_fits(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair, 6, 64, 0);
    pair.w.cursor = NULL;
    pair.w.notice = &ring_silence;
    for (uint64_t i = 0; i < 6; i++)
        put_number(&pair, i);
    assert_int_equal(ring_writer_refresh(&pair.w), VRD_ERR_CHANNEL_FULL);
    expect_number(&pair, 0);
    assert_int_equal(ring_writer_refresh(&pair.w), VRD_ERR_CHANNEL_FULL); /* not known yet */
    ring_writer_answered(&pair.w, pair.answer.addr);
    assert_int_equal(ring_writer_refresh(&pair.w), 0);
    put_number(&pair, 6);
    assert_false(pair_write_small(&pair, "", 1));
    pair_deinit(&pair);
}

static void moves_each_inline_length(void **state)
{
    struct guarded data = guarded_new(UNIT_PAGE), buffer = guarded_new(UNIT_PAGE);
    struct pair pair;
    uint64_t random = 7;

    (void)state;
    pair_init(&pair, 4, 64, UINT32_MAX - 30);
    random_fill(&random, data.addr, data.size);
    for (size_t len = 0; len <= SLOT_INLINE_MAX; len++) {
        uint64_t word;

        assert_true(pair_write_small(&pair, guarded_end(&data, len), len) ||
                    pair_write(&pair, guarded_end(&data, len), len) == 0);
        assert_int_equal(ring_peek(&pair.r, &word), RING_READY);
        if (len > 0) /* too small by one: kept, and nothing is written */
            assert_int_equal(pair_read_small(&pair, word, buffer.addr + UNIT_PAGE, len - 1), -1);
        assert_int_equal(pair_read_small(&pair, word, guarded_end(&buffer, len), len), len);
        assert_memory_equal(guarded_end(&buffer, len), guarded_end(&data, len), len);
    }
    pair_deinit(&pair);
    guarded_free(&data);
    guarded_free(&buffer);
}

static void opcode_and_flags_travel(void **state)
{
    static const uint32_t values[] = { 0, 1, 0x80000000, UINT32_MAX };
    struct pair pair;
    char data[4] = "abc";

    (void)state;
    pair_init(&pair, 2, 64, 0);
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < 4; k++) {
            struct ring_message out = {
                .data = data, .len = 3, .opcode = values[i], .flags = values[k]
            };
            char got[8];
            struct ring_message in = { .data = got, .opcode = 9, .flags = 9 };
            uint64_t word;

            assert_int_equal(ring_write(&pair.w, &out), 0);
            assert_int_equal(ring_peek(&pair.r, &word), RING_READY);
            assert_int_equal(slot_is_small(word), values[i] == 0 && values[k] == 0);
            assert_int_equal(ring_read(&pair.r, word, &in, sizeof got), 0);
            assert_int_equal(in.opcode, values[i]);
            assert_int_equal(in.flags, values[k]);
            assert_int_equal(in.len, 3);
            assert_memory_equal(got, "abc", 3);

            /* The next plain one has none, whatever the slot still says. */
            assert_int_equal(pair_write(&pair, data, 1), 0);
            assert_int_equal(pair_read(&pair, &in, sizeof got), 0);
            assert_int_equal(in.opcode, 0);
            assert_int_equal(in.flags, 0);
            assert_int_equal(in.len, 1);
        }
    pair_deinit(&pair);
}

static void a_message_too_large_is_kept(void **state)
{
    struct pair pair;
    char buffer[16] = "untouched";
    struct ring_message in = { .data = buffer };
    uint64_t word;

    (void)state;
    pair_init(&pair, 2, 4096, 0);
    assert_int_equal(pair_write(&pair, "0123456789", 10), 0);
    for (size_t size = 0; size < 10; size++) {
        assert_int_equal(pair_read(&pair, &in, size), VRD_ERR_MESSAGE_TOO_LARGE);
        assert_int_equal(in.len, 10);
        assert_string_equal(buffer, "untouched");
    }
    assert_int_equal(pair_read(&pair, &in, 10), 0);
    assert_memory_equal(buffer, "0123456789", 10);

    assert_int_equal(pair_write(&pair, "a", 1), 0);
    assert_int_equal(pair_write(&pair, "b", 1), 0);
    assert_int_equal(ring_peek(&pair.r, &word), RING_READY);
    ring_drop(&pair.r, word);
    assert_int_equal(pair_read(&pair, &in, 1), 0);
    assert_int_equal(buffer[0], 'b');
    expect_empty(&pair);
    pair_deinit(&pair);
}

static void the_cursor_is_the_position(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair, 4, 64, UINT32_MAX - 3);
    for (uint32_t i = 1; i <= 10; i++) {
        put_number(&pair, i);
        expect_number(&pair, i);
        assert_int_equal((uint32_t)pair.receiver->cursor, (uint32_t)(UINT32_MAX - 3 + i));
        assert_int_equal(pair.receiver->cursor >> 48, 0);
        assert_int_equal(ring_writer_refresh(&pair.w), 0);
    }
    pair_deinit(&pair);
}

static void the_silent_notice_says_nothing(void **state)
{
    struct ring_writer w = { 0 };

    (void)state;
    assert_int_equal(ring_silence, 0);
    ring_writer_forget(&w);
    assert_ptr_equal(w.notice, &ring_silence);
    assert_null(w.cursor);
    ring_writer_deinit(&w); /* of nothing, again and again */
    ring_writer_deinit(&w);
    assert_ptr_equal(w.notice, &ring_silence);
}

/* --- two threads -------------------------------------------------------------------------------- */

struct stream {
    struct pair pair;
    uint64_t n;
    int64_t
        deadline; /* then it ends early: on a busy machine each hand-over may take milliseconds */
};

#define STREAM_NS (INT64_C(2) * 1000000000)

/* For the other thread: mostly it runs, and on a busy machine giving the CPU away takes long. */
static void stream_relax(unsigned *times)
{
    if (++*times % 256 == 0)
        sched_yield();
    cpu_relax();
}

/* Message i: its number, then that many bytes of it. */
static size_t stream_len(uint64_t i)
{
    return 8 + i % 57;
}

static void stream_put(struct stream *stream, const struct ring_message *message)
{
    unsigned times = 0;
    int r;

    while ((r = ring_write(&stream->pair.w, message)) == VRD_ERR_CHANNEL_FULL)
        stream_relax(&times);
    support_require_equal(r, 0);
}

/* Ends with an empty message. */
static void *stream_write(void *arg)
{
    struct stream *stream = arg;
    const struct ring_message end = { .len = 0 };
    uint8_t data[64];

    for (uint64_t i = 0; i < stream->n && (i % 16 != 0 || clock_now() < stream->deadline); i++) {
        const struct ring_message message = { .data = data,
                                              .len = stream_len(i),
                                              .opcode = i % 3 == 0 };

        memset(data, (int)(i & 0xff), sizeof data);
        memcpy(data, &i, sizeof i);
        stream_put(stream, &message);
    }
    stream_put(stream, &end);
    return NULL;
}

/* False: that was the end. */
static bool stream_expect(struct stream *stream, uint64_t i)
{
    uint8_t data[64], expected[64];
    struct ring_message message = { .data = data };
    unsigned times = 0;
    int r;

    while ((r = pair_read(&stream->pair, &message, sizeof data)) == VRD_ERR_CHANNEL_EMPTY)
        stream_relax(&times);
    assert_int_equal(r, 0);
    if (message.len == 0)
        return false;
    assert_int_equal(message.len, stream_len(i));
    assert_int_equal(message.opcode, i % 3 == 0);
    memset(expected, (int)(i & 0xff), sizeof expected);
    memcpy(expected, &i, sizeof i);
    assert_memory_equal(data, expected, message.len);
    return true;
}

static void threads_pass_whole_messages_in_order(void **state)
{
    static const uint32_t capacities[] = { 1, 3, 16, 100 };

    (void)state;
    for (size_t c = 0; c < sizeof capacities / sizeof capacities[0]; c++) {
        struct stream stream = { .n = support_iterations(100000),
                                 .deadline = clock_deadline(STREAM_NS) };
        pthread_t writer;
        uint64_t i = 0;

        pair_init(&stream.pair, capacities[c], 64, (uint32_t) - (stream.n / 2));
        assert_int_equal(pthread_create(&writer, NULL, stream_write, &stream), 0);
        while (stream_expect(&stream, i))
            i++;
        assert_true(i > 0);
        pthread_join(writer, NULL);
        pair_deinit(&stream.pair);
    }
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(holds_exactly_its_capacity_anywhere),
                 SUPPORT_TEST(one_read_makes_room_for_one),
                 SUPPORT_TEST(before_the_answer_one_capacity_fits),
                 SUPPORT_TEST(moves_each_inline_length),
                 SUPPORT_TEST(opcode_and_flags_travel),
                 SUPPORT_TEST(a_message_too_large_is_kept),
                 SUPPORT_TEST(the_cursor_is_the_position),
                 SUPPORT_TEST(the_silent_notice_says_nothing),
                 SUPPORT_TEST(threads_pass_whole_messages_in_order),
                 { 0 },
             })
