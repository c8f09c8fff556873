/* SPDX-License-Identifier: MIT */
/* Copies of 0 to 64 bytes: exactly these bytes, read and written nowhere else. */
#include "unit/unit.h"

#include "link/copy.h"
#include "link/layout.h"

/* Not inlined with a known length. */
static __attribute__((noinline)) void copy(void *to, const void *from, size_t len)
{
    copy_small(to, from, len);
}

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
            copy(to + shift, from, len);
            assert_memory_equal(to, expected, sizeof to);
        }
}

static void touches_nothing_beyond_the_end(void **state)
{
    struct guarded from = guarded_new(UNIT_PAGE), to = guarded_new(UNIT_PAGE);
    uint64_t random = 43;

    (void)state;
    random_fill(&random, from.addr, from.size);
    for (size_t len = 0; len <= SLOT_INLINE_MAX; len++) {
        copy(guarded_end(&to, len), guarded_end(&from, len), len);
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
    for (size_t len = 0; len <= SLOT_INLINE_MAX; len++) {
        copy(to.addr, from.addr, len);
        assert_memory_equal(to.addr, from.addr, len);
    }
    guarded_free(&from);
    guarded_free(&to);
}

static void nothing_can_come_from_nowhere(void **state)
{
    uint8_t byte = 7;

    (void)state;
    copy(&byte, NULL, 0);
    copy(NULL, &byte, 0);
    assert_int_equal(byte, 7);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(copies_each_length_and_leaves_the_rest),
                 SUPPORT_TEST(touches_nothing_beyond_the_end),
                 SUPPORT_TEST(touches_nothing_before_the_start),
                 SUPPORT_TEST(nothing_can_come_from_nowhere),
                 { 0 },
             })
