/* SPDX-License-Identifier: MIT */
/* What two processes see of each other, in numbers: builds of different ages have to agree. */
#include "unit/unit.h"

#include <veridian/channel.h>

#include "link/layout.h"
#include "link/ring.h"

static void slots_are_two_lines(void **state)
{
    (void)state;
    assert_int_equal(sizeof(struct slot), 128);
    assert_int_equal(_Alignof(struct slot), 128);
    assert_int_equal(offsetof(struct slot, word), 0);
    assert_int_equal(offsetof(struct slot, head), 8);
    assert_int_equal(offsetof(struct slot, tail), 64);
    assert_int_equal(offsetof(struct slot, opcode), 72);
    assert_int_equal(offsetof(struct slot, flags), 76);
    assert_int_equal(offsetof(struct slot, transfer), 80);
    assert_int_equal(SLOT_HEAD_MAX, 56);
    assert_int_equal(SLOT_INLINE_MAX, 64);
    assert_int_equal(SLOT_INLINE, 1);
    assert_int_equal(SLOT_BYTES, 2);
    assert_int_equal(SLOT_NONE, 3);
    assert_int_equal(SLOT_CALL, 64);
    assert_int_equal(SLOT_META, 128);
    assert_int_equal(
        (SLOT_KIND_MASK | (REPLY_ENTRIES - 1) << SLOT_ENTRY_SHIFT) & (SLOT_CALL | SLOT_META), 0);
}

static void a_byte_ring_is_named_in_24_bytes(void **state)
{
    (void)state;
    assert_int_equal(sizeof(struct slot_bytes), 24);
    assert_int_equal(offsetof(struct slot_bytes, offset), 0);
    assert_int_equal(offsetof(struct slot_bytes, len), 8);
    assert_int_equal(offsetof(struct slot_bytes, extension), 16);
}

static void segments_start_with_what_is_polled(void **state)
{
    (void)state;
    assert_int_equal(offsetof(struct sender_segment, notice), 0);
    assert_int_equal(offsetof(struct sender_segment, reply_notice), 128);
    assert_int_equal(offsetof(struct sender_segment, slots), 256);
    assert_int_equal(offsetof(struct receiver_segment, cursor), 0);
    assert_int_equal(offsetof(struct receiver_segment, notice), 128);
    assert_int_equal(offsetof(struct receiver_segment, replies), 256);
    assert_true(sizeof(struct receiver_segment) <= LAYOUT_RECEIVER_SIZE);
}

static void causes_and_rings_have_fixed_numbers(void **state)
{
    (void)state;
    assert_int_equal(NOTICE_NONE, 0);
    assert_int_equal(NOTICE_CLOSED, 1);
    assert_int_equal(NOTICE_REVOKED, 2);
    assert_int_equal(NOTICE_CORRUPT, 3);
    assert_int_equal(NOTICE_PARENT_REVOKED, 4);
    assert_int_equal(NOTICE_POLICY, 5);
    assert_int_equal(RING_NOT, 0);
    assert_int_equal(RING_FUTEX, 1);
    assert_int_equal(RING_TETHER, 2);
    assert_int_equal(RING_CANCELLED, 3);
}

static void segments_are_whole_pages(void **state)
{
    (void)state;
    assert_int_equal(layout_sender_size(1), 4096);
    assert_int_equal(layout_sender_size(16), 4096);
    assert_int_equal(layout_sender_size(32), 8192);
    assert_int_equal(layout_sender_size(64), 12288);
    for (uint32_t n = 1; n <= VRD_CHANNEL_SLOTS_MAX; n *= 2) {
        const size_t size = layout_sender_size(n), need = 256 + (size_t)n * 128;

        assert_int_equal(size % LAYOUT_PAGE, 0);
        assert_true(size >= need && size < need + LAYOUT_PAGE);
    }
}

static void slots_for_a_capacity_are_a_power_of_two(void **state)
{
    (void)state;
    assert_int_equal(ring_slots(1), 1);
    assert_int_equal(ring_slots(2), 2);
    assert_int_equal(ring_slots(3), 4);
    assert_int_equal(ring_slots(16), 16);
    assert_int_equal(ring_slots(17), 32);
    assert_int_equal(ring_slots(VRD_CHANNEL_SLOTS_MAX - 1), VRD_CHANNEL_SLOTS_MAX);
    assert_int_equal(ring_slots(VRD_CHANNEL_SLOTS_MAX), VRD_CHANNEL_SLOTS_MAX);
}

static void a_word_holds_four_things(void **state)
{
    const uint64_t word = slot_word(0xdeadbeef, 64, SLOT_BYTES | SLOT_META);

    (void)state;
    assert_int_equal((uint32_t)word, 0xdeadbeef);
    assert_int_equal((word >> 32) & 0xff, 64);
    assert_int_equal((word >> 40) & 0xff, 130);
    assert_true(slot_is_small(slot_word(0, 0, SLOT_INLINE)));
    assert_true(slot_is_small(slot_word(UINT32_MAX, 64, SLOT_INLINE)));
    assert_false(slot_is_small(slot_word(1, 0, SLOT_INLINE | SLOT_META)));
    assert_false(slot_is_small(slot_word(1, 0, SLOT_BYTES)));
    assert_false(slot_is_small(slot_word(1, 0, 0)));
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(slots_are_two_lines),
                 SUPPORT_TEST(a_byte_ring_is_named_in_24_bytes),
                 SUPPORT_TEST(segments_start_with_what_is_polled),
                 SUPPORT_TEST(causes_and_rings_have_fixed_numbers),
                 SUPPORT_TEST(segments_are_whole_pages),
                 SUPPORT_TEST(slots_for_a_capacity_are_a_power_of_two),
                 SUPPORT_TEST(a_word_holds_four_things),
                 { 0 },
             })
