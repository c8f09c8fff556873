/* SPDX-License-Identifier: MIT */
/* Rounding and free-running positions, at their edges. */
#include "unit/unit.h"

#include "base/arith.h"

static void rounds_up_to_the_next_multiple(void **state)
{
    (void)state;
    for (uint64_t align = 1; align <= UINT64_C(1) << 32; align <<= 1) {
        assert_int_equal(round_up(0, align), 0);
        assert_int_equal(round_up(1, align), align);
        assert_int_equal(round_up(align, align), align);
        assert_int_equal(round_up(align + 1, align), align == 1 ? 2 : 2 * align);
        assert_int_equal(round_up(3 * align - align / 2, align), 3 * align);
    }
    assert_int_equal(round_up(UINT64_C(1) << 63, 4096), UINT64_C(1) << 63);
    assert_int_equal(round_up((UINT64_C(1) << 63) - 1, 4096), UINT64_C(1) << 63);
}

static uint32_t pow2_ceil_slowly(uint32_t n)
{
    uint64_t p = 1;

    while (p < n)
        p *= 2;
    return (uint32_t)p;
}

static void finds_the_next_power_of_two(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 5000; n++)
        assert_int_equal(pow2_ceil(n), pow2_ceil_slowly(n));
    for (unsigned bit = 1; bit <= 31; bit++) {
        const uint32_t p = UINT32_C(1) << bit;

        assert_int_equal(pow2_ceil(p), p);
        assert_int_equal(pow2_ceil(p - 1), bit == 1 ? 1 : p);
        if (bit < 31)
            assert_int_equal(pow2_ceil(p + 1), 2 * p);
    }
}

/* The definition, one position after the other. */
static bool within_slowly(uint32_t position, uint32_t from, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (position == (uint32_t)(from + 1 + i))
            return true;
    return false;
}

static void tells_which_positions_lie_within(void **state)
{
    static const uint32_t starts[] = { 0, 1, 100, UINT32_MAX / 2, UINT32_MAX - 5, UINT32_MAX };

    (void)state;
    for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++)
        for (uint32_t n = 0; n <= 12; n++)
            for (uint32_t offset = 0; offset < 40; offset++) {
                const uint32_t position = starts[s] + offset - 10;

                assert_int_equal(position_within(position, starts[s], n),
                                 within_slowly(position, starts[s], n));
            }
    assert_false(position_within(7, 7, UINT32_MAX));
    assert_true(position_within(6, 7, UINT32_MAX));
    assert_true(position_within(8, 7, 1));
    assert_false(position_within(7, 7, 0));
    assert_false(position_within(8, 7, 0));
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(rounds_up_to_the_next_multiple),
                 SUPPORT_TEST(finds_the_next_power_of_two),
                 SUPPORT_TEST(tells_which_positions_lie_within),
                 { 0 },
             })
