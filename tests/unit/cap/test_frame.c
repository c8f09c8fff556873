/* SPDX-License-Identifier: MIT */
/* Frames: each type, field and number of descriptors at its limits, and anything at all. */
#include "unit/unit.h"

#include <veridian/ipc.h>

#include "cap/frame.h"

/* Where the fields lie: builds of different ages have to agree. */
enum at {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_TYPE = 6,
    AT_SLOTS = 8,
    AT_RIGHTS = 12,
    AT_EXTENSION = 16,
    AT_COUNT = 20,
    AT_MAX_MESSAGE = 24,
    AT_BYTES = 32,
    AT_BADGE = 40,
    AT_ID = 48,
    AT_DEPTH = 56,
    AT_OBJECT = 60,
    AT_CAUSE = 62,
};

/* What a type has, said here a second time. */
struct shape {
    size_t fds_min, fds_max;
    bool geometry, rights, extension, bytes, id; /* must be set */
    bool count, badge, depth, object, cause;     /* may be set  */
    bool limit;                                  /* bytes may be set */
    bool memory;                                 /* extension may be set */
};

static const struct shape shapes[] = {
    [FRAME_GREETING_SEND] = { 0, 0, .geometry = true, .rights = true, .badge = true, .depth = true,
                              .object = true, .limit = true, .memory = true, .count = true },
    [FRAME_GREETING_RECEIVE] = { 0, 2, .geometry = true, .rights = true, .count = true,
                                 .object = true, .limit = true, .memory = true },
    [FRAME_HELLO] = { 2, 2, .geometry = true },
    [FRAME_DERIVE] = { 1, 1, .rights = true, .badge = true, .count = true },
    [FRAME_WELCOME] = { .fds_min = 1, .fds_max = 1 },
    [FRAME_ATTACH] = { 1, 1, .extension = true, .bytes = true, .count = true },
    [FRAME_CLOSE] = { .fds_min = 0, .fds_max = 0, .cause = true },
    [FRAME_INVITATIONS] = { 1, 250, .rights = true, .badge = true, .depth = true, .count = true,
                            .id = true },
    [FRAME_REVOKE] = { 0, 0, .id = true },
    [FRAME_REVOKED] = { 0, 0, .id = true },
    [FRAME_TRANSFER] = { 1, 4, .id = true, .count = true },
    [FRAME_GREETING_REPLY] = { 0, 0, .geometry = true },
    [FRAME_REPLY] = { 1, 5, .bytes = true },
    [FRAME_GREETING_REGION] = { 1, 1, .rights = true, .extension = true, .bytes = true, .id = true,
                                .count = true, .badge = true, .depth = true },
    [FRAME_DETACH] = { 0, 0, .extension = true },
    [FRAME_HELLO_HERE] = { 1, 1, .geometry = true, .memory = true },
};

#define TYPES ((int)(sizeof shapes / sizeof shapes[0]))

/* A good frame of that type. */
static struct frame good(int type)
{
    const struct shape *shape = &shapes[type];

    return (struct frame){
        .type = (enum frame_type)type,
        .slots = shape->geometry ? 16 : 0,
        .max_message = shape->geometry ? 4096 : 0,
        .rights = shape->rights ? VRD_RIGHT_SEND : 0,
        .extension = shape->extension ? 1 : 0,
        .bytes = shape->bytes ? 4096 : 0,
        .id = shape->id ? 1 : 0,
    };
}

static bool same(const struct frame *a, const struct frame *b)
{
    return a->type == b->type && a->slots == b->slots && a->rights == b->rights &&
           a->extension == b->extension && a->count == b->count &&
           a->max_message == b->max_message && a->bytes == b->bytes && a->badge == b->badge &&
           a->id == b->id && a->depth == b->depth && a->object == b->object && a->cause == b->cause;
}

/* Decodes an encoded frame with the fewest descriptors of its type. */
static int decode(const struct frame *frame, struct frame *ret)
{
    uint8_t buf[FRAME_SIZE];

    frame_encode(frame, buf);
    return frame_decode(buf, sizeof buf, shapes[frame->type].fds_min, ret);
}

static void accept_frame(struct frame frame)
{
    struct frame got;

    memset(&got, 0xee, sizeof got);
    assert_int_equal(decode(&frame, &got), 0);
    assert_true(same(&frame, &got));
}

static void refuse_frame(struct frame frame)
{
    struct frame got, before;

    memset(&got, 0xee, sizeof got);
    before = got;
    assert_int_equal(decode(&frame, &got), VRD_ERR_PEER_CORRUPT);
    assert_memory_equal(&got, &before, sizeof got); /* left alone */
}

static void all_types_are_known_here(void **state)
{
    (void)state;
    assert_int_equal(TYPES - 1, FRAME_TYPE_MAX);
    assert_int_equal(FRAME_SIZE, 64);
    for (int type = 1; type < TYPES; type++)
        accept_frame(good(type));
}

static void each_field_is_encoded_where_it_belongs(void **state)
{
    const struct frame frame = { .type = FRAME_ATTACH,
                                 .slots = 0x01020304,
                                 .rights = 0x05060708,
                                 .extension = 0x090a0b0c,
                                 .count = 0x0d0e0f10,
                                 .max_message = UINT64_C(0x1112131415161718),
                                 .bytes = UINT64_C(0x191a1b1c1d1e1f20),
                                 .badge = UINT64_C(0x2122232425262728),
                                 .id = UINT64_C(0x292a2b2c2d2e2f30),
                                 .depth = 0x31323334,
                                 .object = 0x3536,
                                 .cause = 0x3738 };
    uint8_t buf[FRAME_SIZE + 1];
    uint32_t word;
    uint64_t wide;
    uint16_t half;

    (void)state;
    memset(buf, 0xee, sizeof buf);
    frame_encode(&frame, buf);
    assert_memory_equal(buf, "VVRD", 4);
    memcpy(&half, buf + AT_VERSION, 2);
    assert_int_equal(half, FRAME_VERSION);
    memcpy(&half, buf + AT_TYPE, 2);
    assert_int_equal(half, FRAME_ATTACH);
    memcpy(&word, buf + AT_SLOTS, 4);
    assert_int_equal(word, frame.slots);
    memcpy(&word, buf + AT_RIGHTS, 4);
    assert_int_equal(word, frame.rights);
    memcpy(&word, buf + AT_EXTENSION, 4);
    assert_int_equal(word, frame.extension);
    memcpy(&word, buf + AT_COUNT, 4);
    assert_int_equal(word, frame.count);
    memcpy(&wide, buf + AT_MAX_MESSAGE, 8);
    assert_int_equal(wide, frame.max_message);
    memcpy(&wide, buf + AT_BYTES, 8);
    assert_int_equal(wide, frame.bytes);
    memcpy(&wide, buf + AT_BADGE, 8);
    assert_int_equal(wide, frame.badge);
    memcpy(&wide, buf + AT_ID, 8);
    assert_int_equal(wide, frame.id);
    memcpy(&word, buf + AT_DEPTH, 4);
    assert_int_equal(word, frame.depth);
    memcpy(&half, buf + AT_OBJECT, 2);
    assert_int_equal(half, frame.object);
    memcpy(&half, buf + AT_CAUSE, 2);
    assert_int_equal(half, frame.cause);
    assert_int_equal(buf[FRAME_SIZE], 0xee);
}

static void only_one_size_is_a_frame(void **state)
{
    struct guarded memory = guarded_new(UNIT_PAGE);
    struct frame frame = good(FRAME_CLOSE), got;
    uint8_t buf[FRAME_SIZE];

    (void)state;
    frame_encode(&frame, buf);
    for (size_t len = 0; len <= 200; len++) { /* and no byte more is looked at */
        uint8_t *at = guarded_end(&memory, len);

        memset(at, 0, len);
        memcpy(at, buf, len < sizeof buf ? len : sizeof buf);
        assert_int_equal(frame_decode(at, len, 0, &got),
                         len == FRAME_SIZE ? 0 : VRD_ERR_PEER_CORRUPT);
    }
    guarded_free(&memory);
}

static void descriptors_are_counted_exactly(void **state)
{
    (void)state;
    for (int type = 1; type < TYPES; type++) {
        struct frame frame = good(type), got;
        uint8_t buf[FRAME_SIZE];

        frame_encode(&frame, buf);
        for (size_t n = 0; n <= 260; n++)
            assert_int_equal(
                frame_decode(buf, sizeof buf, n, &got),
                n >= shapes[type].fds_min && n <= shapes[type].fds_max ? 0 : VRD_ERR_PEER_CORRUPT);
        assert_int_equal(frame_decode(buf, sizeof buf, SIZE_MAX, &got), VRD_ERR_PEER_CORRUPT);
    }
}

static void unknown_types_and_versions_are_refused(void **state)
{
    struct frame frame = good(FRAME_CLOSE), got;
    uint8_t buf[FRAME_SIZE];

    (void)state;
    frame_encode(&frame, buf);
    for (uint32_t type = 0; type <= UINT16_MAX; type++) {
        const uint16_t half = (uint16_t)type;

        if (type >= 1 && type < (uint32_t)TYPES)
            continue;
        memcpy(buf + AT_TYPE, &half, 2);
        assert_int_equal(frame_decode(buf, sizeof buf, 0, &got), VRD_ERR_PEER_CORRUPT);
        assert_int_equal(frame_decode(buf, sizeof buf, 1, &got), VRD_ERR_PEER_CORRUPT);
    }
    frame_encode(&frame, buf);
    for (uint32_t version = 0; version <= UINT16_MAX; version++) {
        const uint16_t half = (uint16_t)version;

        memcpy(buf + AT_VERSION, &half, 2);
        assert_int_equal(frame_decode(buf, sizeof buf, 0, &got),
                         version == FRAME_VERSION ? 0 : VRD_ERR_PEER_CORRUPT);
    }
}

static void geometry_has_limits(void **state)
{
    static const uint32_t slots_good[] = {
        1, 2, 3, 17, VRD_CHANNEL_SLOTS_MAX - 1, VRD_CHANNEL_SLOTS_MAX
    };
    static const uint32_t slots_bad[] = { 0, VRD_CHANNEL_SLOTS_MAX + 1, INT32_MAX, 0x80000000,
                                          UINT32_MAX };
    static const uint64_t max_good[] = { 1, 64, 65, 4096, PTRDIFF_MAX - 1, PTRDIFF_MAX };
    static const uint64_t max_bad[] = { 0, (uint64_t)PTRDIFF_MAX + 1, UINT64_MAX };

    (void)state;
    for (int type = 1; type < TYPES; type++) {
        struct frame frame = good(type);

        if (!shapes[type].geometry)
            continue;
        for (size_t i = 0; i < sizeof slots_good / sizeof slots_good[0]; i++) {
            frame.slots = slots_good[i];
            accept_frame(frame);
        }
        for (size_t i = 0; i < sizeof slots_bad / sizeof slots_bad[0]; i++) {
            frame.slots = slots_bad[i];
            refuse_frame(frame);
        }
        frame = good(type);
        for (size_t i = 0; i < sizeof max_good / sizeof max_good[0]; i++) {
            frame.max_message = max_good[i];
            accept_frame(frame);
        }
        for (size_t i = 0; i < sizeof max_bad / sizeof max_bad[0]; i++) {
            frame.max_message = max_bad[i];
            refuse_frame(frame);
        }
    }
}

static void rights_are_some_of_the_known(void **state)
{
    (void)state;
    for (int type = 1; type < TYPES; type++) {
        struct frame frame = good(type);

        if (!shapes[type].rights)
            continue;
        for (frame.rights = 1; frame.rights <= 63; frame.rights++)
            accept_frame(frame);
        frame.rights = 0;
        refuse_frame(frame);
        for (int bit = 6; bit < 32; bit++) {
            frame.rights = UINT32_C(1) << bit;
            refuse_frame(frame);
            frame.rights |= VRD_RIGHT_SEND;
            refuse_frame(frame);
        }
    }
}

static void extensions_have_a_number_and_a_size(void **state)
{
    struct frame frame = good(FRAME_ATTACH);

    (void)state;
    frame.extension = UINT32_MAX;
    accept_frame(frame);
    frame.extension = 0;
    refuse_frame(frame);
    frame = good(FRAME_ATTACH);
    frame.bytes = 1;
    accept_frame(frame);
    frame.bytes = PTRDIFF_MAX;
    accept_frame(frame);
    frame.bytes = (uint64_t)PTRDIFF_MAX + 1;
    refuse_frame(frame);
    frame.bytes = UINT64_MAX;
    refuse_frame(frame);
    frame.bytes = 0;
    refuse_frame(frame);
}

static void requests_and_transfers_have_a_number(void **state)
{
    (void)state;
    for (int type = 1; type < TYPES; type++) {
        struct frame frame = good(type);

        if (!shapes[type].id)
            continue;
        frame.id = UINT64_MAX;
        accept_frame(frame);
        frame.id = 0;
        refuse_frame(frame);
    }
}

static void any_count_will_do_where_there_is_one(void **state)
{
    struct frame frame = good(FRAME_GREETING_RECEIVE);

    (void)state;
    for (int bit = 0; bit < 32; bit++) {
        frame.count = UINT32_C(1) << bit;
        accept_frame(frame);
    }
    frame.count = UINT32_MAX;
    accept_frame(frame);
}

/* Is this byte one of a field that the type has? */
static bool byte_used(const struct shape *shape, size_t at)
{
    if (at < AT_SLOTS)
        return true;
    if (at < AT_RIGHTS || (at >= AT_MAX_MESSAGE && at < AT_BYTES))
        return shape->geometry;
    if (at < AT_EXTENSION)
        return shape->rights;
    if (at < AT_COUNT)
        return shape->extension || shape->memory;
    if (at < AT_MAX_MESSAGE)
        return shape->count;
    if (at < AT_BADGE)
        return shape->bytes || shape->limit;
    if (at < AT_ID)
        return shape->badge;
    if (at < AT_DEPTH)
        return shape->id;
    if (at < AT_OBJECT)
        return shape->depth;
    return at < AT_CAUSE ? shape->object : shape->cause;
}

static void unused_bytes_are_zero(void **state)
{
    (void)state;
    for (int type = 1; type < TYPES; type++)
        for (size_t at = 0; at < FRAME_SIZE; at++)
            for (int bit = 0; bit < 8; bit++) {
                struct frame frame = good(type), got;
                uint8_t buf[FRAME_SIZE];

                if (byte_used(&shapes[type], at))
                    continue;
                frame_encode(&frame, buf);
                buf[at] = (uint8_t)(1 << bit);
                assert_int_equal(frame_decode(buf, sizeof buf, shapes[type].fds_min, &got),
                                 VRD_ERR_PEER_CORRUPT);
            }
}

static struct frame random_good(uint64_t *random)
{
    struct frame frame = good(1 + (int)random_below(random, (uint64_t)TYPES - 1));
    const struct shape *shape = &shapes[frame.type];

    if (shape->geometry) {
        frame.slots = 1 + (uint32_t)random_below(random, VRD_CHANNEL_SLOTS_MAX);
        frame.max_message = (random_next(random) >> (1 + random_below(random, 60))) | 1;
    }
    if (shape->rights)
        frame.rights = 1 + (uint32_t)random_below(random, 63);
    if (shape->extension || shape->memory)
        frame.extension = (uint32_t)random_next(random) | 1;
    if (shape->bytes || shape->limit)
        frame.bytes = (random_next(random) >> (1 + random_below(random, 60))) | 1;
    if (shape->id)
        frame.id = random_next(random) | 1;
    if (shape->count)
        frame.count = (uint32_t)random_next(random);
    if (shape->badge)
        frame.badge = random_next(random);
    if (shape->depth)
        frame.depth = (uint32_t)random_next(random);
    if (shape->object)
        frame.object = (uint16_t)random_next(random);
    if (shape->cause)
        frame.cause = (uint16_t)random_next(random);
    return frame;
}

static void random_frames_come_back_as_they_were(void **state)
{
    uint64_t random = 99;

    (void)state;
    for (size_t i = 0; i < support_iterations(200000); i++)
        accept_frame(random_good(&random));
}

/* What is accepted is what its encoding says: decode and encode are each other's reverse. */
static void changed_and_random_bytes_are_refused_or_faithful(void **state)
{
    uint64_t random = 101;
    size_t accepted = 0;

    (void)state;
    for (size_t i = 0; i < support_iterations(500000); i++) {
        struct frame frame = random_good(&random), got;
        uint8_t buf[FRAME_SIZE], again[FRAME_SIZE];
        const size_t n_fds = random_below(&random, 4);

        frame_encode(&frame, buf);
        if (i % 8 == 0)
            random_fill(&random, buf + (i % 3) * 8, sizeof buf - (i % 3) * 8);
        else
            for (uint64_t n = random_below(&random, 3); n > 0; n--)
                buf[random_below(&random, sizeof buf)] = (uint8_t)random_next(&random);
        if (frame_decode(buf, sizeof buf, n_fds, &got) != 0)
            continue;
        accepted++;
        assert_true(n_fds >= shapes[got.type].fds_min && n_fds <= shapes[got.type].fds_max);
        frame_encode(&got, again);
        assert_memory_equal(buf, again, sizeof buf);
    }
    assert_true(accepted > 0);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(all_types_are_known_here),
                 SUPPORT_TEST(each_field_is_encoded_where_it_belongs),
                 SUPPORT_TEST(only_one_size_is_a_frame),
                 SUPPORT_TEST(descriptors_are_counted_exactly),
                 SUPPORT_TEST(unknown_types_and_versions_are_refused),
                 SUPPORT_TEST(geometry_has_limits),
                 SUPPORT_TEST(rights_are_some_of_the_known),
                 SUPPORT_TEST(extensions_have_a_number_and_a_size),
                 SUPPORT_TEST(requests_and_transfers_have_a_number),
                 SUPPORT_TEST(any_count_will_do_where_there_is_one),
                 SUPPORT_TEST(unused_bytes_are_zero),
                 SUPPORT_TEST(random_frames_come_back_as_they_were),
                 SUPPORT_TEST(changed_and_random_bytes_are_refused_or_faithful),
                 { 0 },
             })
