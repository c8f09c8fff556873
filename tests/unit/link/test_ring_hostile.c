/* SPDX-License-Identifier: MIT */
/* What the other side may write, and what is made of it. */
#include "unit/link/pair.h"

static const uint32_t starts[] = { 0, 1, 5, UINT32_C(0x80000000), UINT32_MAX - 3, UINT32_MAX };

#define STARTS (sizeof starts / sizeof starts[0])

/* --- a hostile reader: its cursor --------------------------------------------------------------- */

static void a_cursor_lies_between_the_last_one_and_the_position(void **state)
{
    (void)state;
    for (size_t s = 0; s < STARTS; s++)
        for (uint32_t taken = 0; taken <= 5; taken++)
            for (int32_t offset = -40; offset <= 40; offset++) {
                struct pair pair;
                int expected;

                pair_init(&pair, 5, 64, starts[s]);
                for (int i = 0; i < 5; i++)
                    assert_true(pair_write_small(&pair, "x", 1));
                pair.receiver->cursor = (uint32_t)(starts[s] + taken);
                assert_int_equal(ring_writer_refresh(&pair.w),
                                 taken == 0 ? VRD_ERR_CHANNEL_FULL : 0);

                pair.receiver->cursor = (uint32_t)(starts[s] + taken + (uint32_t)offset);
                if (offset < 0 || offset > 5 - (int32_t)taken)
                    expected = VRD_ERR_PEER_CORRUPT;
                else
                    expected = taken == 0 && offset == 0 ? VRD_ERR_CHANNEL_FULL : 0;
                assert_int_equal(ring_writer_refresh(&pair.w), expected);
                assert_int_equal(ring_writer_refresh(&pair.w), expected); /* nothing was learnt */
                pair_deinit(&pair);
            }
}

static void extreme_cursors_are_refused(void **state)
{
    static const uint32_t far[] = { 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff };

    (void)state;
    for (size_t s = 0; s < STARTS; s++)
        for (size_t i = 0; i < sizeof far / sizeof far[0]; i++) {
            struct pair pair;

            pair_init(&pair, 4, 64, starts[s]);
            assert_true(pair_write_small(&pair, "x", 1));
            pair.receiver->cursor = (uint32_t)(starts[s] + far[i]);
            assert_int_equal(ring_writer_refresh(&pair.w), VRD_ERR_PEER_CORRUPT);
            pair_deinit(&pair);
        }
}

static void the_rest_of_the_cursor_word_is_no_position(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair, 4, 64, 9);
    assert_true(pair_write_small(&pair, "x", 1));
    pair.receiver->cursor = UINT64_C(0xffffffff00000000) | 10;
    assert_int_equal(ring_writer_refresh(&pair.w), 0);
    assert_int_equal(pair.w.limit, 14);
    pair_deinit(&pair);
}

static void a_full_ring_finds_a_corrupt_cursor_at_the_write(void **state)
{
    uint8_t data[100] = { 0 };
    struct pair pair;

    (void)state;
    pair_init(&pair, 2, 1000, 0);
    pair_attach(&pair, 4096);
    assert_int_equal(pair_write(&pair, data, 100), 0);
    assert_int_equal(pair_write(&pair, data, 100), 0);
    pair.receiver->cursor = 3;
    assert_int_equal(pair_write(&pair, data, 1), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(pair_write(&pair, data, 100), VRD_ERR_PEER_CORRUPT);
    pair.receiver->cursor = 1;
    assert_int_equal(pair_write(&pair, data, 100), 0);
    pair_deinit(&pair);
}

/* Random cursors: room is given for what is behind a legal cursor, and never more. */
static void random_cursors_never_make_too_much_room(void **state)
{
    uint64_t random = 3;

    (void)state;
    for (size_t round = 0; round < 40; round++) {
        const uint32_t capacity = 1 + (uint32_t)random_below(&random, 20);
        const uint32_t start = (uint32_t)(0 - random_below(&random, 300));
        uint32_t written = 0, taken = 0;
        struct pair pair;

        pair_init(&pair, capacity, 64, start);
        for (size_t step = 0; step < support_iterations(3000); step++) {
            const uint32_t claim =
                taken + (uint32_t)random_below(&random, 2 * capacity) - capacity / 2;
            int r;

            pair.receiver->cursor = start + claim;
            r = ring_writer_refresh(&pair.w);
            if (claim - taken > written - taken) {
                assert_int_equal(r, VRD_ERR_PEER_CORRUPT);
            } else {
                taken = claim;
                assert_int_equal(r, written - taken == capacity ? VRD_ERR_CHANNEL_FULL : 0);
            }
            for (uint64_t n = random_below(&random, capacity + 1); n > 0; n--) {
                const bool room = written - taken < capacity;

                assert_int_equal(pair_write_small(&pair, "x", 1), room);
                written += room;
            }
        }
        pair_deinit(&pair);
    }
}

/* --- a hostile writer: sequences, lengths, kinds ------------------------------------------------- */

static void only_two_sequences_are_legal(void **state)
{
    (void)state;
    for (size_t s = 0; s < STARTS; s++)
        for (uint32_t n = 1; n <= 16; n *= 2) {
            struct pair pair;

            pair_init(&pair, n, 64, starts[s]);
            for (uint32_t offset = 0; offset < 100; offset++) {
                const uint32_t sequence = starts[s] + 50 - offset;
                uint64_t word, got;
                enum ring_state expected = RING_CORRUPT;

                if (sequence == starts[s] + 1)
                    expected = RING_READY;
                else if (sequence == 0 || sequence == starts[s] + 1 - n)
                    expected = RING_EMPTY;
                word = slot_word(sequence, 1, SLOT_INLINE);
                pair.sender->slots[starts[s] & pair.r.mask].word = word;
                assert_int_equal(ring_peek(&pair.r, &got), expected);
                assert_int_equal(got, word);
            }
            pair_deinit(&pair);
        }
}

static void a_fresh_slot_is_empty(void **state)
{
    struct pair pair;
    uint64_t word;

    (void)state;
    for (uint32_t n = 1; n <= 64; n *= 4) {
        pair_init(&pair, n, 64, 0);
        assert_int_equal(ring_peek(&pair.r, &word), RING_EMPTY);
        pair_deinit(&pair);
    }
}

static void inline_lengths_end_at_64(void **state)
{
    uint8_t buffer[300];
    struct ring_message in = { .data = buffer };
    struct pair pair;

    (void)state;
    pair_init(&pair, 1, 1 << 20, 0);
    for (size_t len = 65; len <= 255; len++)
        for (unsigned meta = 0; meta <= SLOT_META; meta += SLOT_META) {
            const uint64_t word = slot_word(1, len, SLOT_INLINE | meta);

            assert_int_equal(ring_read(&pair.r, word, &in, sizeof buffer), VRD_ERR_PEER_CORRUPT);
            assert_int_equal(pair_read_small(&pair, word, buffer, sizeof buffer), -1);
        }
    assert_int_equal(pair.r.position, 0);
    pair_deinit(&pair);
}

static void unknown_kinds_are_refused(void **state)
{
    uint8_t buffer[64];
    struct ring_message in = { .data = buffer };
    struct pair pair;

    (void)state;
    pair_init(&pair, 1, 1 << 20, 0);
    for (unsigned kind = 0; kind <= 255; kind++) {
        if ((kind & 127) == SLOT_INLINE || (kind & 127) == SLOT_BYTES)
            continue;
        assert_int_equal(ring_read(&pair.r, slot_word(1, 0, kind), &in, sizeof buffer),
                         VRD_ERR_PEER_CORRUPT);
        assert_false(slot_is_small(slot_word(1, 0, kind)));
    }
    assert_int_equal(pair.r.position, 0);
    pair_deinit(&pair);
}

static void the_copy_of_the_word_counts(void **state)
{
    uint8_t buffer[64];
    struct ring_message in = { .data = buffer };
    struct pair pair;
    uint64_t word;

    (void)state;
    pair_init(&pair, 1, 64, 0);
    assert_int_equal(pair_write(&pair, "abc", 3), 0);
    assert_int_equal(ring_peek(&pair.r, &word), RING_READY);
    pair.sender->slots[0].word = slot_word(1, 200, 77); /* too late */
    assert_int_equal(ring_read(&pair.r, word, &in, 3), 0);
    assert_int_equal(in.len, 3);
    assert_memory_equal(buffer, "abc", 3);
    pair_deinit(&pair);
}

/* --- a hostile writer: byte rings ---------------------------------------------------------------- */

/* Publishes a message with this description, and what does the reader say? It keeps it. */
static int forge(struct pair *pair, struct slot_bytes bytes, uint8_t *buffer, size_t size)
{
    struct slot *slot = &pair->sender->slots[pair->r.position & pair->r.mask];
    struct ring_message in = { .data = buffer };
    const uint32_t position = pair->r.position;
    int r;

    memcpy(slot->head, &bytes, sizeof bytes);
    slot->word = slot_word(position + 1, 0, SLOT_BYTES);
    r = pair_read(pair, &in, size);
    if (r == 0) {
        assert_int_equal(in.len, bytes.len);
        assert_int_equal(pair->r.position, position + 1);
    } else {
        assert_int_equal(pair->r.position, position);
    }
    return r;
}

/* An extension whose end is the end of the world. */
static struct guarded attach_guarded(struct pair *pair, uint32_t number, size_t size)
{
    struct guarded bytes = guarded_new(size);

    assert_int_equal(
        ring_reader_attach(&pair->r, number, (struct segment){ .addr = bytes.addr, .size = size }),
        0);
    return bytes;
}

/* The reader has unmapped the middle. */
static void guards_free(struct guarded *bytes)
{
    support_require(munmap(bytes->addr - UNIT_PAGE, UNIT_PAGE) == 0);
    support_require(munmap(bytes->addr + bytes->size, UNIT_PAGE) == 0);
}

static void descriptions_beyond_the_byte_ring_are_refused(void **state)
{
    static const uint64_t far[] = { 4097,           8192,           UINT32_MAX,
                                    INT64_MAX,      UINT64_MAX / 2, UINT64_MAX - 4095,
                                    UINT64_MAX - 1, UINT64_MAX };
    struct guarded bytes, buffer = guarded_new(UNIT_PAGE);
    struct pair pair;

    (void)state;
    pair_init(&pair, 4, 1 << 20, UINT32_MAX - 1);
    bytes = attach_guarded(&pair, 1, 4096);
    for (size_t i = 0; i < sizeof far / sizeof far[0]; i++) {
        struct slot_bytes b = { .len = far[i], .extension = 1 };

        assert_int_equal(forge(&pair, b, buffer.addr, 4096), VRD_ERR_PEER_CORRUPT);
        b = (struct slot_bytes){ .len = 1, .offset = far[i], .extension = 1 };
        assert_int_equal(forge(&pair, b, buffer.addr, 4096), VRD_ERR_PEER_CORRUPT);
        b = (struct slot_bytes){ .len = far[i], .offset = far[i], .extension = 1 };
        assert_int_equal(forge(&pair, b, buffer.addr, 4096), VRD_ERR_PEER_CORRUPT);
        b = (struct slot_bytes){ .len = far[i], .offset = 0 - far[i], .extension = 1 };
        assert_int_equal(forge(&pair, b, buffer.addr, 4096), VRD_ERR_PEER_CORRUPT);
    }
    const struct slot_bytes at_the_end = { .len = 0, .offset = 4096, .extension = 1 };
    assert_int_equal(forge(&pair, at_the_end, buffer.addr, 4096), VRD_ERR_PEER_CORRUPT);
    pair_deinit(&pair);
    guards_free(&bytes);
    guarded_free(&buffer);
}

static void odd_but_legal_descriptions_stay_inside(void **state)
{
    struct guarded bytes, buffer = guarded_new(UNIT_PAGE);
    struct pair pair;
    uint64_t random = 5;

    (void)state;
    pair_init(&pair, 4, 4096, UINT32_MAX - 1);
    bytes = attach_guarded(&pair, 1, 4096);
    random_fill(&random, bytes.addr, bytes.size);
    for (size_t i = 0; i < 2000; i++) {
        const struct slot_bytes b = { .offset = random_below(&random, 4096),
                                      .len = random_below(&random, 4097),
                                      .extension = 1,
                                      .loan = 0 };
        uint8_t *at = guarded_end(&buffer, b.len);

        assert_int_equal(forge(&pair, b, at, b.len), 0);
        for (size_t k = 0; k < b.len; k++)
            assert_int_equal(at[k], bytes.addr[(b.offset + k) % 4096]);
    }
    pair_deinit(&pair);
    guards_free(&bytes);
    guarded_free(&buffer);
}

static void the_limit_of_the_link_holds(void **state)
{
    uint8_t buffer[4096];
    struct pair pair;
    struct slot_bytes b = { .len = 101, .extension = 1 };

    (void)state;
    pair_init(&pair, 4, 100, 0);
    pair_attach(&pair, 4096);
    assert_int_equal(forge(&pair, b, buffer, sizeof buffer), VRD_ERR_PEER_CORRUPT);
    b.len = 100;
    assert_int_equal(forge(&pair, b, buffer, 99), VRD_ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(forge(&pair, b, buffer, 100), 0);
    pair_deinit(&pair);
}

static void extensions_are_named_in_order(void **state)
{
    uint8_t buffer[64];
    struct pair pair;
    struct slot_bytes b = { .len = 1 };

    (void)state;
    pair_init(&pair, 4, 100, 0);
    for (b.extension = 1; b.extension < 4; b.extension++)
        assert_int_equal(forge(&pair, b, buffer, 64), RING_NEEDS_EXTENSION);
    static const uint32_t wrong[] = { 0, 4, 5, 0x80000000, UINT32_MAX };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        b.extension = wrong[i];
        assert_int_equal(forge(&pair, b, buffer, 64), VRD_ERR_PEER_CORRUPT);
    }
    for (int i = 0; i < 3; i++)
        pair_attach(&pair, 4096);
    b.extension = 2; /* 1 is dropped, unused */
    assert_int_equal(forge(&pair, b, buffer, 64), 0);
    b.extension = 1;
    assert_int_equal(forge(&pair, b, buffer, 64), VRD_ERR_PEER_CORRUPT);
    b.extension = 2;
    assert_int_equal(forge(&pair, b, buffer, 64), 0);
    b.extension = 4;
    assert_int_equal(forge(&pair, b, buffer, 64), RING_NEEDS_EXTENSION);
    b.extension = 6;
    assert_int_equal(forge(&pair, b, buffer, 64), VRD_ERR_PEER_CORRUPT);
    b.extension = 3;
    assert_int_equal(forge(&pair, b, buffer, 64), 0);
    pair_deinit(&pair);
}

static int attach_number(struct pair *pair, uint32_t number)
{
    struct segment peer;
    struct segment own = pair_bytes(4096, &peer);

    segment_unmap(&own);
    return ring_reader_attach(&pair->r, number, peer); /* takes it, whatever it says */
}

static void extensions_are_attached_in_order(void **state)
{
    uint8_t buffer[64];
    struct pair pair;

    (void)state;
    pair_init(&pair, 4, 100, 0);
    assert_int_equal(attach_number(&pair, 0), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(attach_number(&pair, 2), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(attach_number(&pair, 5), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(attach_number(&pair, UINT32_MAX), VRD_ERR_PEER_CORRUPT);
    for (uint32_t number = 1; number <= 4; number++) {
        assert_int_equal(attach_number(&pair, number), 0);
        assert_int_equal(attach_number(&pair, number), VRD_ERR_PEER_CORRUPT); /* twice */
    }
    assert_int_equal(attach_number(&pair, 5), VRD_ERR_PEER_CORRUPT); /* too many wait */
    const struct slot_bytes b = { .len = 1, .extension = 2 };
    assert_int_equal(forge(&pair, b, buffer, 64), 0);
    assert_int_equal(attach_number(&pair, 6), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(attach_number(&pair, 5), 0);
    pair_deinit(&pair);
}

/* --- anything at all ------------------------------------------------------------------------------ */

static void garbage_is_never_read_as_more_than_it_is(void **state)
{
    struct guarded bytes, buffer = guarded_new(UNIT_PAGE);
    struct pair pair;
    uint64_t random = 17;
    unsigned results[4] = { 0 };

    (void)state;
    pair_init(&pair, 4, 4096, UINT32_MAX - 100);
    bytes = attach_guarded(&pair, 1, 4096);
    for (size_t i = 0; i < support_iterations(100000); i++) {
        struct slot *slot = &pair.sender->slots[pair.r.position & pair.r.mask];
        const size_t size = random_below(&random, 4097);
        struct ring_message in = { .data = guarded_end(&buffer, size) };
        struct slot_bytes b = { .offset = random_next(&random) >> random_below(&random, 64),
                                .len = random_next(&random) >> random_below(&random, 64),
                                .extension = (uint32_t)random_below(&random, 3) };
        uint64_t word = random_next(&random);
        int r;

        memcpy(slot->head, &b, sizeof b);
        if (random_below(&random, 8) > 0) /* get past the first check */
            word = slot_word(pair.r.position + 1, random_below(&random, 100),
                             (unsigned)random_below(&random, 4) |
                                 (unsigned)random_below(&random, 2) * SLOT_META);
        slot->word = word;
        r = pair_read(&pair, &in, size);
        results[0] += r == 0;
        results[1] += r == VRD_ERR_PEER_CORRUPT;
        results[2] += r == VRD_ERR_MESSAGE_TOO_LARGE;
        results[3] += r == RING_NEEDS_EXTENSION;
        if (r == 0)
            assert_true(in.len <= size);
    }
    for (size_t i = 0; i < 4; i++)
        assert_true(results[i] > 0); /* it was worth it */
    pair_deinit(&pair);
    guards_free(&bytes);
    guarded_free(&buffer);
}

/* --- a hostile writer: loans --------------------------------------------------------------------- */

/* A heap extension whose end is the end of the world. */
static struct loan_memory *lend_guarded(struct pair *pair, uint32_t number, struct guarded *ret)
{
    struct loan_memory *memory;

    *ret = guarded_new(4096);
    memory = loan_memory_new(number, (struct segment){ .addr = ret->addr, .size = 4096 }, NULL);
    assert_non_null(memory);
    assert_int_equal(loan_reader_attach(&pair->r.loans, memory), 0);
    return memory;
}

static void lent_descriptions_end_where_the_extension_does(void **state)
{
    static const uint64_t edges[] = { 0,
                                      1,
                                      4095,
                                      4096,
                                      4097,
                                      8192,
                                      INT64_MAX,
                                      (uint64_t)INT64_MAX + 1,
                                      0 - UINT64_C(4096),
                                      UINT64_MAX };
    static const size_t n = sizeof edges / sizeof edges[0];
    struct guarded heap, buffer = guarded_new(UNIT_PAGE);
    struct loan_memory *memory;
    struct pair pair;
    uint64_t random = 7;

    (void)state;
    pair_init(&pair, 4, 1 << 20, UINT32_MAX - 1);
    memory = lend_guarded(&pair, 3, &heap);
    random_fill(&random, heap.addr, heap.size);
    for (size_t i = 0; i < n * n; i++) {
        const struct slot_bytes b = {
            .offset = edges[i / n], .len = edges[i % n], .extension = 3, .loan = 5 * LOANS_MAX + 9
        };
        const bool inside = b.len <= 4096 && b.offset <= 4096 - b.len;
        const uint32_t returns = pair.receiver->returns;
        uint8_t *at = inside ? guarded_end(&buffer, b.len) : buffer.addr;

        assert_int_equal(forge(&pair, b, at, 4096), inside ? 0 : VRD_ERR_PEER_CORRUPT);
        assert_int_equal(pair.receiver->returns, returns + inside); /* once, or not at all */
        if (inside)
            assert_memory_equal(at, heap.addr + b.offset, b.len);
    }
    assert_int_equal(pair.receiver->released[9], 5 * LOANS_MAX + 9);
    assert_ptr_equal(loan_reader_detach(&pair.r.loans, 3), memory);
    loan_memory_free(memory);
    pair_deinit(&pair);
    guards_free(&heap);
    guarded_free(&buffer);
}

static void loans_name_what_there_is(void **state)
{
    static const struct slot_bytes wrong[] = {
        { .len = 1, .extension = 3, .loan = 1 },             /* no use of a number     */
        { .len = 1, .extension = 3, .loan = LOANS_MAX - 1 }, /* the same               */
        { .len = 1, .extension = 0, .loan = LOANS_MAX },     /* no extension           */
        { .len = 101, .extension = 3, .loan = LOANS_MAX },   /* the limit of the link  */
        { .len = 1, .extension = 3, .loan = 0 },             /* that is no byte ring's */
    };
    static const uint32_t absent[] = { 1, 2, 4, 3 + LOAN_EXTENSIONS_MAX, UINT32_MAX };
    struct slot_bytes b = { .len = 1, .loan = LOANS_MAX };
    struct loan_memory *memory;
    struct guarded heap;
    uint8_t buffer[200];
    struct pair pair;

    (void)state;
    pair_init(&pair, 4, 100, 0);
    pair_attach(&pair, 4096);
    memory = lend_guarded(&pair, 3, &heap);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_true(forge(&pair, wrong[i], buffer, sizeof buffer) != 0);
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        b.extension = absent[i];
        assert_int_equal(forge(&pair, b, buffer, sizeof buffer), RING_NEEDS_EXTENSION);
    }
    b.extension = 3;
    b.len = 100;
    assert_int_equal(forge(&pair, b, buffer, 99), VRD_ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(pair.receiver->returns, 0); /* none of these gave anything back */
    assert_int_equal(forge(&pair, b, buffer, 100), 0);
    assert_int_equal(pair.receiver->returns, 1);
    assert_ptr_equal(loan_reader_detach(&pair.r.loans, 3), memory);
    loan_memory_free(memory);
    pair_deinit(&pair);
    guards_free(&heap);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(a_cursor_lies_between_the_last_one_and_the_position),
                 SUPPORT_TEST(extreme_cursors_are_refused),
                 SUPPORT_TEST(the_rest_of_the_cursor_word_is_no_position),
                 SUPPORT_TEST(a_full_ring_finds_a_corrupt_cursor_at_the_write),
                 SUPPORT_TEST(random_cursors_never_make_too_much_room),
                 SUPPORT_TEST(only_two_sequences_are_legal),
                 SUPPORT_TEST(a_fresh_slot_is_empty),
                 SUPPORT_TEST(inline_lengths_end_at_64),
                 SUPPORT_TEST(unknown_kinds_are_refused),
                 SUPPORT_TEST(the_copy_of_the_word_counts),
                 SUPPORT_TEST(descriptions_beyond_the_byte_ring_are_refused),
                 SUPPORT_TEST(odd_but_legal_descriptions_stay_inside),
                 SUPPORT_TEST(the_limit_of_the_link_holds),
                 SUPPORT_TEST(extensions_are_named_in_order),
                 SUPPORT_TEST(extensions_are_attached_in_order),
                 SUPPORT_TEST(garbage_is_never_read_as_more_than_it_is),
                 SUPPORT_TEST(lent_descriptions_end_where_the_extension_does),
                 SUPPORT_TEST(loans_name_what_there_is),
                 { 0 },
             })
