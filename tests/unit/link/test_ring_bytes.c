/* SPDX-License-Identifier: MIT */
/* Byte rings: wrapping, room, sizes, replacement, and which may be attached when. */
#include "unit/link/pair.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* What message `index` consists of. */
static uint8_t byte_of(uint32_t index, size_t at)
{
    return (uint8_t)(index * 167 + at * 31 + (at >> 8));
}

static void fill(uint8_t *data, size_t len, uint32_t index)
{
    for (size_t i = 0; i < len; i++)
        data[i] = byte_of(index, i);
}

static void check(const uint8_t *data, size_t len, uint32_t index)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != byte_of(index, i))
            fail_msg("message %u: byte %zu of %zu is wrong", index, i, len);
}

/* One message through the ring, between guard pages on both sides. */
static void pass(struct pair *pair, struct guarded *data, size_t len, uint32_t index)
{
    struct ring_message in = { .data = guarded_end(data, len) };

    fill(guarded_end(data, len), len, index);
    assert_int_equal(pair_write(pair, guarded_end(data, len), len), 0);
    memset(data->addr, 0, data->size);
    assert_int_equal(pair_read(pair, &in, len), 0);
    assert_int_equal(in.len, len);
    check(in.data, len, index);
}

static void wraps_at_every_offset(void **state)
{
    static const size_t lens[] = { 65, 100, 127, 128, 129, 1000, 4031, 4032, 4033, 4095, 4096 };
    struct guarded data = guarded_new(3 * UNIT_PAGE);
    struct pair pair;
    uint32_t index = 0;

    (void)state;
    pair_init(&pair, 4, 1 << 20, UINT32_MAX - 300);
    for (size_t pages = 1; pages <= 3; pages++) {
        const size_t size = pages * UNIT_PAGE;

        pair_attach(&pair, size);
        for (size_t offset = 0; offset < size; offset += 64)
            for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
                pair.w.bytes_head = pair.w.bytes_tail = 5 * size + offset;
                pass(&pair, &data, lens[i], index++);
            }
        pass(&pair, &data, size, index++);
    }
    pair_deinit(&pair);
    guarded_free(&data);
}

static void full_when_the_bytes_are(void **state)
{
    uint8_t data[2048], got[2048];
    struct ring_message in = { .data = got };
    struct pair pair;

    (void)state;
    pair_init(&pair, 100, 1 << 20, UINT32_MAX - 2);
    pair_attach(&pair, 4096);
    memset(data, 1, sizeof data);
    assert_int_equal(pair_write(&pair, data, 2048), 0);
    assert_int_equal(pair_write(&pair, data, 1984), 0);
    assert_int_equal(pair_write(&pair, data, 65), VRD_ERR_CHANNEL_FULL);
    assert_int_equal(pair_write(&pair, data, 64), 0); /* inline: takes no bytes */
    assert_int_equal(pair_write(&pair, data, 66), VRD_ERR_CHANNEL_FULL);
    assert_int_equal(pair_read(&pair, &in, sizeof got), 0); /* the 2048 */
    assert_int_equal(pair_write(&pair, data, 2048), 0);
    assert_int_equal(pair_write(&pair, data, 65), VRD_ERR_CHANNEL_FULL);
    assert_int_equal(pair_read(&pair, &in, sizeof got), 0); /* the 1984 */
    assert_int_equal(pair_write(&pair, data, 1984), 0);
    assert_int_equal(pair_read(&pair, &in, sizeof got), 0); /* the inline one: frees nothing */
    assert_int_equal(in.len, 64);
    assert_int_equal(pair_write(&pair, data, 65), VRD_ERR_CHANNEL_FULL);
    pair_deinit(&pair);
}

static void full_when_the_slots_are(void **state)
{
    uint8_t data[100] = { 0 };
    struct ring_message in = { .data = data };
    struct pair pair;

    (void)state;
    pair_init(&pair, 3, 1 << 20, 0);
    pair_attach(&pair, 4096);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pair_write(&pair, data, 100), 0);
    assert_int_equal(pair_write(&pair, data, 100), VRD_ERR_CHANNEL_FULL);
    assert_int_equal(pair_read(&pair, &in, 100), 0);
    assert_int_equal(pair_write(&pair, data, 100), 0);
    pair_deinit(&pair);
}

static void a_long_message_with_meta_and_too_large_is_kept(void **state)
{
    uint8_t data[500], got[500] = { 0 };
    struct ring_message out = { .data = data, .len = sizeof data, .opcode = 3, .flags = 4 };
    struct ring_message in = { .data = got };
    struct pair pair;

    (void)state;
    pair_init(&pair, 3, 500, 0);
    pair_attach(&pair, 4096);
    fill(data, sizeof data, 1);
    assert_int_equal(ring_write(&pair.w, &out), 0);
    assert_int_equal(pair_read(&pair, &in, 499), VRD_ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(in.len, 500);
    assert_int_equal(got[0], 0);
    assert_int_equal(pair_read(&pair, &in, 500), 0);
    assert_int_equal(in.opcode, 3);
    assert_int_equal(in.flags, 4);
    check(got, 500, 1);
    pair_deinit(&pair);
}

/* --- sizes ---------------------------------------------------------------------------------------- */

static void sizes_hold_the_message_and_are_bounded(void **state)
{
    uint64_t random = 11;

    (void)state;
    for (size_t round = 0; round < 20000; round++) {
        const size_t max = 1 + (size_t)(random_next(&random) >> (1 + random_below(&random, 62)));
        const size_t len = 1 + random_below(&random, max < 64 * MIB ? max : 64 * MIB);
        const size_t size = ring_bytes_size(len, max > len ? max : len);

        assert_int_equal(size % 4096, 0);
        assert_true(size >= len);
        assert_true(size >= 256 * KIB);
        if (len > 8 * MIB)
            assert_true(size < len + 4096);
        else
            assert_true(size <= (len < 1024 ? 256 * KIB : MIB) || size < 8 * len + 4096);
    }
}

static void sizes_at_the_edges(void **state)
{
    (void)state;
    assert_int_equal(ring_bytes_size(65, MIB), 256 * KIB);
    assert_int_equal(ring_bytes_size(1023, MIB), 256 * KIB);
    assert_int_equal(ring_bytes_size(1024, MIB), MIB);
    assert_int_equal(ring_bytes_size(128 * KIB, MIB), MIB);
    assert_int_equal(ring_bytes_size(128 * KIB + 1, MIB), MIB + 4 * KIB);
    assert_int_equal(ring_bytes_size(MIB, MIB), 4 * MIB); /* never more than four of the largest */
    assert_int_equal(ring_bytes_size(8 * MIB, 1024 * MIB), 64 * MIB);
    assert_int_equal(ring_bytes_size(8 * MIB + 1, 1024 * MIB), 8 * MIB + 4096);
    assert_int_equal(ring_bytes_size(1024 * MIB, 1024 * MIB), 1024 * MIB);
    assert_int_equal(ring_bytes_size(65, PTRDIFF_MAX / 16), 256 * KIB);
    assert_int_equal(ring_bytes_size(MIB, PTRDIFF_MAX), 8 * MIB); /* also if somebody said so */
}

static void fits_up_to_its_size(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair, 4, 1 << 20, 0);
    assert_false(ring_writer_fits(&pair.w, 65));
    pair_attach(&pair, 8192);
    assert_true(ring_writer_fits(&pair.w, 65));
    assert_true(ring_writer_fits(&pair.w, 8192));
    assert_false(ring_writer_fits(&pair.w, 8193));
    pair_deinit(&pair);
}

/* Writes and reads n messages of `len`. */
static void pass_many(struct pair *pair, size_t len, unsigned n)
{
    uint8_t *data = calloc(1, len);
    struct ring_message in = { .data = data };

    assert_non_null(data);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(pair_write(pair, data, len), 0);
        assert_int_equal(pair_read(pair, &in, len), 0);
    }
    free(data);
}

static void a_large_one_is_given_back_after_long_disuse(void **state)
{
    const size_t edge = 9 * MIB / 64;
    struct pair pair;

    (void)state;
    pair_init(&pair, 4, 16 * MIB, UINT32_MAX - 2000);
    pair_attach(&pair, 9 * MIB);
    pass_many(&pair, 100, 1023);
    assert_true(ring_writer_fits(&pair.w, 100));
    pass_many(&pair, edge, 1); /* not far too large for this one: the count starts again */
    pass_many(&pair, 100, 1022);
    pass_many(&pair, edge - 1, 1);
    assert_true(ring_writer_fits(&pair.w, 100));
    pass_many(&pair, 100, 1);
    assert_false(ring_writer_fits(&pair.w, 100));

    pair_attach(&pair, 256 * KIB); /* starts anew */
    assert_true(ring_writer_fits(&pair.w, 100));
    pair_deinit(&pair);
}

static void one_that_is_not_large_is_kept(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair, 4, 16 * MIB, 0);
    pair_attach(&pair, 8 * MIB);
    pass_many(&pair, 100, 3000);
    assert_true(ring_writer_fits(&pair.w, 100));
    pair_deinit(&pair);
}

/* --- replacement, against a model ------------------------------------------------------------------- */

#define WINDOW 64 /* messages in flight, at most */

struct model_message {
    size_t len;
    uint32_t extension; /* 0: inline */
};

struct model {
    struct pair pair;
    uint64_t random;
    uint32_t capacity;
    uint32_t written, read; /* messages */
    struct model_message flight[WINDOW];
    uint32_t extension;
    size_t size;       /* of the byte ring in use */
    uint32_t first[4]; /* index of the first message of extension n, by n modulo 4 */
    bool used;         /* the extension in use has had its first message */

    /* byte rings on their way to the reader */
    struct segment sent[4];
    uint32_t sent_number[4];
    unsigned n_sent;
    uint32_t replaced;
};

static size_t model_need(size_t len)
{
    return len <= 64 ? 0 : (len + 63) / 64 * 64;
}

static size_t model_bytes_used(const struct model *m)
{
    size_t used = 0;

    for (uint32_t i = m->read; i != m->written; i++)
        if (m->flight[i % WINDOW].extension == m->extension)
            used += model_need(m->flight[i % WINDOW].len);
    return used;
}

/* The reader holds at most four, and lets go of one at the first message of the next. */
static bool model_may_attach(const struct model *m)
{
    return m->extension < 3 || m->first[(m->extension + 2) % 4] < m->read;
}

static void model_attach(struct model *m, size_t len)
{
    const size_t least = (len + 4095) / 4096 * 4096;
    struct segment peer, own;

    assert_int_equal(ring_writer_may_attach(&m->pair.w), model_may_attach(m));
    if (!model_may_attach(m))
        return;
    m->size = least + 4096 * random_below(&m->random, 3);
    own = pair_bytes(m->size, &peer);
    assert_int_equal(ring_writer_attach(&m->pair.w, own), 0);
    m->extension++;
    m->used = false;
    m->replaced++;
    assert_int_equal(m->pair.w.extension, m->extension);
    assert_true(m->n_sent < 4);
    m->sent[m->n_sent] = peer;
    m->sent_number[m->n_sent++] = m->extension;
}

/* The frames arrive, at the last moment or whenever it pleases. */
static void model_deliver(struct model *m)
{
    for (unsigned i = 0; i < m->n_sent; i++)
        assert_int_equal(ring_reader_attach(&m->pair.r, m->sent_number[i], m->sent[i]), 0);
    m->n_sent = 0;
}

static void model_write(struct model *m, size_t len, uint8_t *data)
{
    const bool slots = m->written - m->read < m->capacity;
    const bool bytes = model_need(len) <= m->size - model_bytes_used(m);
    const int expected = slots && (len <= 64 || bytes) ? 0 : VRD_ERR_CHANNEL_FULL;

    fill(data, len, m->written);
    assert_int_equal(pair_write(&m->pair, data, len), expected);
    if (expected != 0)
        return;
    if (len > 64 && !m->used) {
        m->first[m->extension % 4] = m->written;
        m->used = true;
    }
    m->flight[m->written++ % WINDOW] =
        (struct model_message){ .len = len, .extension = len > 64 ? m->extension : 0 };
}

static void model_read(struct model *m, uint8_t *data, size_t size)
{
    struct ring_message in = { .data = data };
    int r = pair_read(&m->pair, &in, size);

    if (m->read == m->written) {
        assert_int_equal(r, VRD_ERR_CHANNEL_EMPTY);
        return;
    }
    if (r == RING_NEEDS_EXTENSION) {
        assert_true(m->n_sent > 0);
        model_deliver(m);
        r = pair_read(&m->pair, &in, size);
    }
    assert_int_equal(r, 0);
    assert_int_equal(in.len, m->flight[m->read % WINDOW].len);
    check(data, in.len, m->read);
    m->read++;
}

static void model_step(struct model *m, uint8_t *data, size_t size)
{
    const size_t len = random_below(&m->random, 4) == 0 ? random_below(&m->random, 65)
                                                        : 65 + random_below(&m->random, size - 64);

    switch (random_below(&m->random, 8)) {
    case 0: /* replaces the byte ring, needed or not; a message goes to it at once */
        if (m->written - m->read < m->capacity && (m->used || m->extension == 0)) {
            model_attach(m, 65 + len);
            if (!m->used)
                model_write(m, 65, data);
        }
        break;
    case 1:
        if (random_below(&m->random, 4) == 0)
            model_deliver(m);
        break;
    case 2:
    case 3:
    case 4:
        model_read(m, data, size);
        break;
    default:
        assert_int_equal(len <= 64 || ring_writer_fits(&m->pair.w, len),
                         len <= 64 || model_need(len) <= m->size);
        if (len <= 64 || model_need(len) <= m->size)
            model_write(m, len, data);
        break;
    }
}

static void replacements_behave_like_the_model(void **state)
{
    static const uint32_t capacities[] = { 1, 2, 3, 5, 16, 33 };
    static const uint32_t starts[] = { 0, UINT32_MAX - 1000, UINT32_MAX - 20000 };
    const size_t size = 10000;
    uint8_t *data = malloc(size);

    (void)state;
    assert_non_null(data);
    for (size_t c = 0; c < sizeof capacities / sizeof capacities[0]; c++)
        for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++) {
            struct model m = { .random = 1 + c * 10 + s, .capacity = capacities[c] };

            pair_init(&m.pair, m.capacity, 1 << 20, starts[s]);
            for (size_t step = 0; step < support_iterations(40000); step++)
                model_step(&m, data, size);
            assert_true(m.replaced > support_iterations(40000) / 100);
            while (m.read != m.written)
                model_read(&m, data, size);
            model_deliver(&m);
            pair_deinit(&m.pair);
        }
    free(data);
}

static void four_wait_at_most(void **state)
{
    uint8_t data[100] = { 0 };
    struct ring_message in = { .data = data };
    struct pair pair;

    (void)state;
    pair_init(&pair, 16, 1000, UINT32_MAX - 1);
    for (int i = 0; i < RING_EXTENSIONS_MAX - 1; i++) {
        assert_true(ring_writer_may_attach(&pair.w));
        pair_attach(&pair, 4096);
        assert_int_equal(pair_write(&pair, data, 100), 0);
    }
    for (int i = 0; i < 20; i++) {
        assert_false(ring_writer_may_attach(&pair.w));
        assert_int_equal(pair_read(&pair, &in, 100), 0);
        assert_true(ring_writer_may_attach(&pair.w));
        pair_attach(&pair, 4096);
        assert_int_equal(pair_write(&pair, data, 100), 0);
    }
    pair_deinit(&pair);
}

static void long_unused_positions_do_not_count(void **state)
{
    uint8_t data[100] = { 0 };
    struct ring_message in = { .data = data };
    struct pair pair;

    (void)state;
    pair_init(&pair, 4, 1000, 77);
    for (int i = 0; i < RING_EXTENSIONS_MAX + 2; i++) {
        pair_attach(&pair, 4096);
        assert_int_equal(pair_write(&pair, data, 100), 0);
        assert_int_equal(pair_read(&pair, &in, 100), 0);
    }
    /* All is read; the next 2^32 messages are plain ones. Then positions repeat. */
    assert_int_equal(ring_writer_refresh(&pair.w), 0);
    for (uint32_t i = 0; i < RING_EXTENSIONS_MAX; i++) {
        pair.w.retired[i] = pair.w.position;
        assert_true(ring_writer_may_attach(&pair.w));
    }
    pair_deinit(&pair);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(wraps_at_every_offset),
                 SUPPORT_TEST(full_when_the_bytes_are),
                 SUPPORT_TEST(full_when_the_slots_are),
                 SUPPORT_TEST(a_long_message_with_meta_and_too_large_is_kept),
                 SUPPORT_TEST(sizes_hold_the_message_and_are_bounded),
                 SUPPORT_TEST(sizes_at_the_edges),
                 SUPPORT_TEST(fits_up_to_its_size),
                 SUPPORT_TEST(a_large_one_is_given_back_after_long_disuse),
                 SUPPORT_TEST(one_that_is_not_large_is_kept),
                 SUPPORT_TEST_TIMEOUT(replacements_behave_like_the_model, 60),
                 SUPPORT_TEST(four_wait_at_most),
                 SUPPORT_TEST(long_unused_positions_do_not_count),
                 { 0 },
             })
