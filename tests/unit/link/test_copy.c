/* SPDX-License-Identifier: MIT */
/* Copies of any length: exactly these bytes, read and written nowhere else. */
#include "unit/unit.h"

#include "link/copy.h"
#include "link/layout.h"

/* Not inlined with a known length. */
static __attribute__((noinline)) void copy_anywhere(void *to, const void *from, size_t len)
{
    copy_small(to, from, len);
}

static __attribute__((noinline)) void copy_to_slot(void *to, const void *from, size_t len)
{
    copy_into_line(to, from, len);
}

static void (*const copies[])(void *to, const void *from, size_t len) = { copy_anywhere,
                                                                          copy_to_slot };
#define COPIES (sizeof copies / sizeof copies[0])

static void copies_each_length_and_leaves_the_rest(void **state)
{
    uint64_t random = 42;

    (void)state;
    for (size_t round = 0; round < support_iterations(20); round++)
        for (size_t len = 0; len <= SLOT_INLINE_MAX; len++) {
            uint8_t from[SLOT_INLINE_MAX + 16], to[SLOT_INLINE_MAX + 16], expected[sizeof to];
            const size_t shift = random_below(&random, 16);

            random_fill(&random, from, sizeof from);
            random_fill(&random, to, sizeof to);
            memcpy(expected, to, sizeof to);
            memcpy(expected + shift, from, len);
            copies[round % COPIES](to + shift, from, len);
            assert_memory_equal(to, expected, sizeof to);
        }
}

static void touches_nothing_beyond_the_end(void **state)
{
    struct guarded from = guarded_new(UNIT_PAGE), to = guarded_new(UNIT_PAGE);
    uint64_t random = 43;

    (void)state;
    random_fill(&random, from.addr, from.size);
    for (size_t i = 0; i < COPIES; i++)
        for (size_t len = 0; len <= SLOT_INLINE_MAX; len++) {
            memset(guarded_end(&to, len), 0, len);
            copies[i](guarded_end(&to, len), guarded_end(&from, len), len);
            assert_memory_equal(guarded_end(&to, len), guarded_end(&from, len), len);
        }
    guarded_free(&from);
    guarded_free(&to);
}

static void touches_nothing_before_the_start(void **state)
{
    struct guarded from = guarded_new(UNIT_PAGE), to = guarded_new(UNIT_PAGE);
    uint64_t random = 44;

    (void)state;
    random_fill(&random, from.addr, from.size);
    for (size_t i = 0; i < COPIES; i++)
        for (size_t len = 0; len <= SLOT_INLINE_MAX; len++) {
            memset(to.addr, 0, len);
            copies[i](to.addr, from.addr, len);
            assert_memory_equal(to.addr, from.addr, len);
        }
    guarded_free(&from);
    guarded_free(&to);
}

static void nothing_can_come_from_nowhere(void **state)
{
    uint8_t byte = 7;

    (void)state;
    for (size_t i = 0; i < COPIES; i++) {
        copies[i](&byte, NULL, 0);
        copies[i](NULL, &byte, 0);
    }
    assert_int_equal(byte, 7);
}

/* On both sides of the length from which on wide loops do it, and some rounds more. */
#define LONG_MIN 3900
#define LONG_MAX 4500

/* Into and out of a ring, whose end of the copy is aligned; the other one is not. */
static void copies_long_ones(void **state)
{
    static uint8_t from[LONG_MAX + 64];
    static _Alignas(LAYOUT_LINE) uint8_t ring[LONG_MAX + 64], before[sizeof ring];
    uint8_t out[sizeof from];
    uint64_t random = 45;

    (void)state;
    random_fill(&random, from, sizeof from);
    for (size_t len = LONG_MIN; len <= LONG_MAX; len++) {
        const size_t shift = random_below(&random, 64);

        for (int past_caches = 0; past_caches < 2; past_caches++) {
            random_fill(&random, ring, sizeof ring);
            memcpy(before, ring, sizeof ring);
            copy_write(ring, from + shift, len, past_caches);
            assert_memory_equal(ring, from + shift, len);
            assert_memory_equal(ring + len, before + len, sizeof ring - len);
        }
        memcpy(out, before, sizeof out);
        copy_read(out + shift, ring, len);
        assert_memory_equal(out, before, shift);
        assert_memory_equal(out + shift, ring, len);
        assert_memory_equal(out + shift + len, before + shift + len, sizeof out - shift - len);
    }
}

static void long_ones_touch_nothing_beyond_the_end(void **state)
{
    struct guarded from = guarded_new(2 * UNIT_PAGE), to = guarded_new(2 * UNIT_PAGE);
    uint64_t random = 46;

    (void)state;
    random_fill(&random, from.addr, from.size);
    for (size_t len = 0; len <= from.size; len += LAYOUT_LINE)
        for (int past_caches = 0; past_caches < 2; past_caches++) {
            memset(to.addr, 0, to.size);
            copy_write(guarded_end(&to, len), guarded_end(&from, len), len, past_caches);
            assert_memory_equal(guarded_end(&to, len), guarded_end(&from, len), len);
        }
    for (size_t len = LONG_MIN; len <= LONG_MAX; len++) {
        memset(to.addr, 0, to.size);
        copy_read(guarded_end(&to, len), guarded_end(&from, len), len);
        assert_memory_equal(guarded_end(&to, len), guarded_end(&from, len), len);
    }
    guarded_free(&from);
    guarded_free(&to);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(copies_each_length_and_leaves_the_rest),
                 SUPPORT_TEST(touches_nothing_beyond_the_end),
                 SUPPORT_TEST(touches_nothing_before_the_start),
                 SUPPORT_TEST(nothing_can_come_from_nowhere),
                 SUPPORT_TEST(copies_long_ones),
                 SUPPORT_TEST(long_ones_touch_nothing_beyond_the_end),
                 { 0 },
             })
