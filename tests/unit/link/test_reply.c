/* SPDX-License-Identifier: MIT */
/* The table of replies: in good order, and with words of an attacker on either side. */
#include "unit/unit.h"

#include <veridian/error.h>

#include "link/reply.h"

#define MAX_MESSAGE 100000

/* Both sides over plain memory: what a mapping forbids is tested with the segments. */
struct table {
    struct receiver_segment answers;
    _Alignas(128) uint8_t calls[sizeof(struct sender_segment)]; /* and no slots */
    struct reply_reader r;
    struct reply_writer w;
};

static struct table table;

static void table_init(void)
{
    memset(&table, 0, sizeof table);
    reply_reader_init(&table.r, (struct sender_segment *)(void *)table.calls, MAX_MESSAGE);
    reply_reader_answered(&table.r, &table.answers);
    reply_writer_init(&table.w, &table.answers, (struct sender_segment *)(void *)table.calls);
}

static void table_deinit(void)
{
    reply_reader_deinit(&table.r);
    reply_writer_deinit(&table.w);
}

static int begin(uint32_t sequence)
{
    const int entry = reply_pick(&table.r, sequence);

    if (entry >= 0)
        reply_begin(&table.r, entry, sequence);
    return entry;
}

static uint64_t word_of(int entry)
{
    return slot_load(&table.answers.replies[entry]);
}

static enum ring_state state_of(int entry)
{
    return reply_state(&table.r, entry, word_of(entry));
}

/* A buffer of whole pages, two mappings of the same memory. */
static struct segment buffer_new(size_t size, struct segment *ret_peer)
{
    void *own = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    void *peer;

    support_require(own != MAP_FAILED);
    peer = mremap(own, 0, size, MREMAP_MAYMOVE);
    support_require(peer != MAP_FAILED);
    *ret_peer = (struct segment){ .addr = peer, .size = size };
    return (struct segment){ .addr = own, .size = size };
}

/* Answers with any length, with a buffer that is made, told and attached when it is needed. */
static void answer(int entry, uint32_t sequence, struct ring_message message)
{
    const uint32_t at = (uint32_t)entry;

    assert_true(reply_expect(&table.w, at));
    if (message.len > SLOT_INLINE_MAX && !reply_writer_fits(&table.w, at, message.len)) {
        struct segment peer;
        struct segment own = buffer_new(reply_buffer_size(message.len), &peer);
        const uint32_t number = reply_writer_next(&table.w, at);

        assert_int_not_equal(number, 0);
        reply_writer_attach(&table.w, at, own);
        assert_int_equal(reply_reader_attach(&table.r, at, number, peer), 0);
    }
    reply_write(&table.w, at, sequence, &message);
}

/* --- in good order ------------------------------------------------------------------------------ */

static void every_length_arrives(void **state)
{
    static uint8_t data[MAX_MESSAGE], got[MAX_MESSAGE];
    uint64_t seed = 1;

    (void)state;
    table_init();
    random_fill(&seed, data, sizeof data);
    for (uint32_t sequence = 1; sequence < 3000; sequence++) {
        const size_t len = sequence < 200 ? sequence : random_below(&seed, MAX_MESSAGE + 1);
        const int entry = begin(sequence);
        struct ring_message in = { .data = got, .opcode = 9, .flags = 9 };

        assert_int_equal(entry, 0);
        assert_int_equal(state_of(entry), RING_EMPTY);
        answer(entry, sequence,
               (struct ring_message){
                   .data = data, .len = len, .opcode = sequence % 3, .flags = sequence % 2 });
        assert_int_equal(state_of(entry), RING_READY);
        assert_int_equal(reply_read(&table.r, entry, word_of(entry), &in, len), 0);
        assert_int_equal(in.len, len);
        assert_memory_equal(got, data, len);
        assert_int_equal(in.opcode, sequence % 3);
        assert_int_equal(in.flags, sequence % 2);
        if (len > 0) {
            assert_int_equal(reply_read(&table.r, entry, word_of(entry), &in, len - 1),
                             VRD_ERR_MESSAGE_TOO_LARGE);
            assert_int_equal(in.len, len);
        }
        reply_end(&table.r, entry);
    }
    table_deinit();
}

static void all_entries_at_once_in_any_order(void **state)
{
    uint64_t seed = 2;
    uint32_t sequence = UINT32_MAX - 500; /* across the wrap */

    (void)state;
    table_init();
    for (int round = 0; round < 100; round++) {
        uint32_t sequences[REPLY_ENTRIES], left = REPLY_ALL_FREE;

        for (int i = 0; i < REPLY_ENTRIES; i++) {
            const int entry = begin(++sequence);

            assert_in_range(entry, 0, REPLY_ENTRIES - 1);
            sequences[entry] = sequence;
        }
        assert_int_equal(reply_pick(&table.r, sequence + 1), -1);
        while (left != 0) {
            const int entry = (int)random_below(&seed, REPLY_ENTRIES);
            struct ring_message in = { .data = &(uint32_t){ 0 } };

            if (!(left & 1U << entry))
                continue;
            left &= ~(1U << entry);
            answer(entry, sequences[entry],
                   (struct ring_message){ .data = &sequences[entry], .len = 4 });
            for (int other = 0; other < REPLY_ENTRIES; other++)
                if (left & 1U << other)
                    assert_int_equal(state_of(other), RING_EMPTY);
            assert_int_equal(reply_read(&table.r, entry, word_of(entry), &in, 4), 0);
            assert_memory_equal(in.data, &sequences[entry], 4);
            reply_end(&table.r, entry);
        }
        sequence += (uint32_t)random_below(&seed, 20);
    }
    table_deinit();
}

/* Views are released in any order, and an entry is used again when its own is. */
static void what_is_viewed_stays(void **state)
{
    uint8_t data[200];
    uint32_t left = REPLY_ALL_FREE;
    const void *views[REPLY_ENTRIES];
    uint64_t seed = 6;

    (void)state;
    table_init();
    for (uint32_t sequence = 1; sequence <= REPLY_ENTRIES; sequence++) {
        struct ring_message in = { .wants_view = true };
        const int entry = begin(sequence);

        memset(data, (int)sequence, sizeof data);
        answer(entry, sequence, (struct ring_message){ .data = data, .len = sizeof data });
        assert_int_equal(reply_read(&table.r, entry, word_of(entry), &in, 0), 0);
        assert_int_equal(in.view.len, sizeof data);
        assert_int_equal(in.view.loan, entry);
        views[entry] = in.view.data;
        reply_view(&table.r, entry);
    }
    for (uint32_t sequence = 100; left != 0; sequence++) {
        const int entry = (int)random_below(&seed, REPLY_ENTRIES);

        if (!(left & 1U << entry))
            continue;
        left &= ~(1U << entry);
        assert_int_equal(reply_pick(&table.r, sequence), -1);
        memset(data, entry + 1, sizeof data);
        assert_memory_equal(views[entry], data, sizeof data);
        reply_release(&table.r, entry);
        assert_int_equal(begin(sequence), entry);
        answer(entry, sequence, (struct ring_message){ .data = data, .len = sizeof data });
    }
    table_deinit();
}

/* Those that are still viewed when all else is over. */
static void views_outlive_the_table(void **state)
{
    static uint8_t data[200] = { 9 };

    (void)state;
    table_init();
    for (uint32_t sequence = 1; sequence <= 2; sequence++) {
        const int entry = begin(sequence);

        answer(entry, sequence, (struct ring_message){ .data = data, .len = 200 });
    }
    reply_view(&table.r, 1);
    reply_reader_deinit(&table.r);
    assert_memory_equal(table.r.buffers[1].segment.addr, data, sizeof data);
    assert_int_equal(table.r.buffers[0].segment.size, 0);
    reply_reader_deinit_viewed(&table.r);
    assert_int_equal(table.r.buffers[1].segment.size, 0);
    reply_writer_deinit(&table.w);
}

static void an_answer_in_its_buffer_is_not_copied(void **state)
{
    const struct ring_message first = { .data = (uint8_t[200]){ 5 }, .len = 200 };
    struct ring_message in = { .wants_view = true };
    struct segment segment;
    int entry;

    (void)state;
    table_init();
    entry = begin(1);
    answer(entry, 1, first);
    reply_end(&table.r, entry);
    entry = begin(2);
    assert_true(reply_expect(&table.w, 0));
    segment = reply_writer_take(&table.w, 0);
    assert_false(reply_writer_fits(&table.w, 0, 1));
    memset(segment.addr, 8, 200);
    reply_writer_put_back(&table.w, 0, segment);
    assert_true(reply_writer_fits(&table.w, 0, 200));
    reply_write(&table.w, 0, 2, &(struct ring_message){ .data = segment.addr, .len = 200 });
    assert_int_equal(reply_read(&table.r, entry, word_of(entry), &in, 0), 0);
    assert_int_equal(((const uint8_t *)in.view.data)[199], 8);
    table_deinit();
}

static void nobody_is_answered_by_none(void **state)
{
    struct ring_message in = { 0 };
    const uint32_t sequence = 77;
    int entry;

    (void)state;
    table_init();
    entry = begin(sequence);
    assert_true(reply_expect(&table.w, 0));
    reply_write_none(&table.w, 0, sequence);
    assert_int_equal(state_of(entry), RING_READY);
    assert_int_equal(reply_read(&table.r, entry, word_of(entry), &in, 0), VRD_ERR_PEER_GONE);
    table_deinit();
}

static void an_abandoned_entry_comes_back_when_answered(void **state)
{
    (void)state;
    table_init();
    for (uint32_t sequence = 1; sequence <= REPLY_ENTRIES; sequence++)
        reply_abandon(&table.r, begin(sequence));
    assert_int_equal(reply_pick(&table.r, 100), -1);
    for (uint32_t entry = 0; entry < REPLY_ENTRIES; entry++) {
        const uint64_t notice = reply_notice(&table.w, entry, entry + 1);

        assert_int_equal((notice >> 40) & 0xff, RING_CANCELLED);
        assert_true(reply_expect(&table.w, entry));
        reply_write_none(&table.w, entry, entry + 1);
        assert_int_equal(reply_pick(&table.r, 100), entry);
        reply_begin(&table.r, (int)entry, 100 + entry);
        assert_int_equal(reply_pick(&table.r, 100), -1);
    }
    table_deinit();
}

static void a_wish_is_for_one_call_only(void **state)
{
    int entry;

    (void)state;
    table_init();
    entry = begin(5);
    assert_int_equal(reply_notice(&table.w, 0, 5), 0);
    assert_false(reply_is_armed(&table.r, entry, RING_FUTEX));
    reply_arm(&table.r, entry, RING_FUTEX);
    assert_true(reply_is_armed(&table.r, entry, RING_FUTEX));
    assert_int_equal((reply_notice(&table.w, 0, 5) >> 40) & 0xff, RING_FUTEX);
    assert_int_equal(reply_notice(&table.w, 0, 6), 0);
    assert_int_equal(reply_notice(&table.w, 1, 5), 0);
    reply_end(&table.r, entry);
    reply_begin(&table.r, entry, 6);
    assert_false(reply_is_armed(&table.r, entry, RING_FUTEX));
    table_deinit();
}

/* An entry that says a call's sequence since long ago does not answer it. */
static void an_entry_that_says_it_already_is_not_picked(void **state)
{
    int entry;

    (void)state;
    table_init();
    assert_int_equal(reply_pick(&table.r, 0), -1); /* as all say since ever */
    assert_int_equal(reply_pick_quickly(&table.r, 0), -1);
    entry = begin(7);
    answer(entry, 7, (struct ring_message){ 0 });
    reply_end(&table.r, entry);
    assert_int_equal(reply_pick_quickly(&table.r, 7), -1);
    assert_int_equal(reply_pick(&table.r, 7), 1);
    assert_int_equal(reply_pick_quickly(&table.r, 8), 0);
    table_deinit();
}

/* --- words of an attacker ------------------------------------------------------------------------ */

static void other_sequences_are_corrupt(void **state)
{
    uint64_t seed = 3;
    int entry;

    (void)state;
    table_init();
    entry = begin(1000);
    answer(entry, 1000, (struct ring_message){ 0 });
    reply_end(&table.r, entry);
    entry = begin(2000);
    for (int i = 0; i < 100000; i++) {
        const uint64_t word = random_next(&seed);
        const uint32_t sequence = (uint32_t)word;

        if (sequence != 1000 && sequence != 2000)
            assert_int_equal(reply_state(&table.r, entry, word), RING_CORRUPT);
    }
    assert_int_equal(reply_state(&table.r, entry, 0), RING_CORRUPT);
    assert_int_equal(reply_state(&table.r, entry, 1000), RING_EMPTY);
    table_deinit();
}

/* Every kind and length, over random contents: never beyond the buffer, never another result. */
static void kinds_and_lengths_are_checked(void **state)
{
    uint8_t room[SLOT_INLINE_MAX];
    uint64_t seed = 4;
    int entry;

    (void)state;
    table_init();
    entry = begin(1);
    random_fill(&seed, table.answers.replies[entry].head, SLOT_HEAD_MAX);
    for (unsigned kind = 0; kind < 256; kind++)
        for (size_t len = 0; len < 256; len++) {
            const uint64_t word = slot_word(1, len, kind);
            const unsigned plain = kind & ~(unsigned)SLOT_META;
            struct ring_message in = { .data = room };
            const int result = reply_read(&table.r, entry, word, &in, sizeof room);

            if (plain == SLOT_INLINE && len <= SLOT_INLINE_MAX)
                assert_int_equal(result, 0);
            else if (plain == SLOT_NONE)
                assert_int_equal(result, VRD_ERR_PEER_GONE);
            else
                assert_true(result == VRD_ERR_PEER_CORRUPT ||
                            (plain == SLOT_BYTES && result == RING_NEEDS_EXTENSION));
        }
    table_deinit();
}

static void bytes_are_checked(void **state)
{
    struct segment peer, own = buffer_new(8192, &peer);
    static uint8_t room[8192];
    const uint64_t word = slot_word(1, 0, SLOT_BYTES);
    struct ring_message in = { .data = room };
    static const struct {
        struct slot_bytes bytes;
        int result;
    } cases[] = {
        { { .len = 8192, .extension = 1 }, 0 },
        { { .len = 0, .extension = 1 }, 0 },
        { { .len = 8193, .extension = 1 }, VRD_ERR_PEER_CORRUPT },
        { { .len = MAX_MESSAGE + 1, .extension = 2 }, VRD_ERR_PEER_CORRUPT },
        { { .len = UINT64_MAX, .extension = 1 }, VRD_ERR_PEER_CORRUPT },
        { { .len = 8, .offset = 1, .extension = 1 }, VRD_ERR_PEER_CORRUPT },
        { { .len = 8, .offset = UINT64_MAX - 4, .extension = 1 }, VRD_ERR_PEER_CORRUPT },
        { { .len = 8, .extension = 0 }, VRD_ERR_PEER_CORRUPT },
        { { .len = 8, .extension = 2 }, RING_NEEDS_EXTENSION },
        { { .len = 8, .extension = UINT32_MAX }, RING_NEEDS_EXTENSION },
    };
    int entry;

    (void)state;
    table_init();
    entry = begin(1);
    assert_int_equal(reply_reader_attach(&table.r, (uint32_t)entry, 1, peer), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memcpy(table.answers.replies[entry].head, &cases[i].bytes, sizeof cases[i].bytes);
        assert_int_equal(reply_read(&table.r, entry, word, &in, sizeof room), cases[i].result);
    }
    segment_unmap(&own);
    table_deinit();
}

static void buffers_only_go_forward(void **state)
{
    struct segment peer, own;

    (void)state;
    table_init();
    for (uint32_t number = 1; number < 10; number += 3) {
        own = buffer_new(4096, &peer);
        assert_int_equal(reply_reader_attach(&table.r, 3, number, peer), 0);
        segment_unmap(&own);
        for (uint32_t older = 0; older <= number; older++) {
            own = buffer_new(4096, &peer);
            assert_int_equal(reply_reader_attach(&table.r, 3, older, peer), VRD_ERR_PEER_CORRUPT);
            segment_unmap(&own);
        }
    }
    table_deinit();
}

static void a_second_call_in_an_entry_is_found_out(void **state)
{
    (void)state;
    table_init();
    for (uint32_t entry = 0; entry < REPLY_ENTRIES; entry++) {
        assert_true(reply_expect(&table.w, entry));
        assert_false(reply_expect(&table.w, entry));
    }
    reply_write_none(&table.w, 5, 1);
    assert_true(reply_expect(&table.w, 5));
    table_deinit();
}

static void buffer_sizes_are_powers_of_two(void **state)
{
    (void)state;
    assert_int_equal(reply_buffer_size(0), 4096);
    assert_int_equal(reply_buffer_size(4096), 4096);
    assert_int_equal(reply_buffer_size(4097), 8192);
    assert_int_equal(reply_buffer_size((size_t)1 << 30), (size_t)1 << 30);
    assert_int_equal(reply_buffer_size(((size_t)1 << 30) + 1), (size_t)1 << 31);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(every_length_arrives),
                 SUPPORT_TEST(all_entries_at_once_in_any_order),
                 SUPPORT_TEST(what_is_viewed_stays),
                 SUPPORT_TEST(views_outlive_the_table),
                 SUPPORT_TEST(an_answer_in_its_buffer_is_not_copied),
                 SUPPORT_TEST(nobody_is_answered_by_none),
                 SUPPORT_TEST(an_abandoned_entry_comes_back_when_answered),
                 SUPPORT_TEST(a_wish_is_for_one_call_only),
                 SUPPORT_TEST(an_entry_that_says_it_already_is_not_picked),
                 SUPPORT_TEST(other_sequences_are_corrupt),
                 SUPPORT_TEST(kinds_and_lengths_are_checked),
                 SUPPORT_TEST(bytes_are_checked),
                 SUPPORT_TEST(buffers_only_go_forward),
                 SUPPORT_TEST(a_second_call_in_an_entry_is_found_out),
                 SUPPORT_TEST(buffer_sizes_are_powers_of_two),
                 { 0 },
             })
