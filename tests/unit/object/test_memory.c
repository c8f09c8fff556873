/* SPDX-License-Identifier: MIT */
/* What a channel's creator says of its memory, as a word that may come from anywhere. */
#include "unit/unit.h"

#include <veridian/channel.h>

#include "object/memory.h"

#define HUGE (UINT64_C(2) << 20)

static void the_word_says_what_the_options_said(void **state)
{
    struct pages pages = memory_pages(memory_word(0, VRD_PAGES_DEFAULT), 1);

    (void)state;
    assert_int_equal(pages.node, -1);
    assert_false(pages.transparent);
    assert_false(pages.preferred);
    pages = memory_pages(memory_word(VRD_NUMA_NODE(3), VRD_PAGES_TRANSPARENT), 1);
    assert_int_equal(pages.node, 3);
    assert_true(pages.transparent);
    assert_false(pages.preferred);
    pages = memory_pages(memory_word(VRD_NUMA_PEER, VRD_PAGES_2_MIB), 0);
    assert_int_equal(pages.node, -1); /* it was not seen yet */
    assert_int_equal(pages.shift, 0); /* what has a layout is never of huge pages */
    pages = memory_pages(memory_word(VRD_NUMA_PEER, VRD_PAGES_2_MIB), 0xffff);
    assert_int_equal(pages.node, -1); /* there is no such CPU */
    assert_int_equal(memory_shift(memory_word(0, VRD_PAGES_TRANSPARENT)), 0);
    assert_int_equal(memory_shift(memory_word(VRD_NUMA_PEER, VRD_PAGES_2_MIB)), 21);
    assert_int_equal(memory_shift(memory_word(VRD_NUMA_NODE(3), VRD_PAGES_1_GIB)), 30);
}

static void words_that_say_nothing_are_found(void **state)
{
    (void)state;
    assert_true(memory_valid(0));
    assert_true(memory_valid(memory_word(VRD_NUMA_PEER, VRD_PAGES_1_GIB)));
    assert_false(memory_valid(memory_word(0, VRD_PAGES_1_GIB + 1)));
    assert_false(memory_valid(UINT32_C(1) << 24));
    assert_false(memory_valid(UINT32_MAX));
}

static void huge_pages_are_for_what_fills_them(void **state)
{
    static const struct {
        uint64_t size, most, becomes;
        bool huge;
    } sizes[] = {
        { HUGE - 4096, UINT64_MAX, HUGE - 4096, false }, /* smaller than one */
        { HUGE, UINT64_MAX, HUGE, true },
        { HUGE + 4096, UINT64_MAX, 2 * HUGE, true },
        { HUGE + 4096, 2 * HUGE, 2 * HUGE, true },
        { HUGE + 4096, 2 * HUGE - 1, HUGE + 4096, false }, /* there is no room for whole ones */
    };

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t size = sizes[i].size;
        struct pages pages =
            memory_pages_large(memory_word(0, VRD_PAGES_2_MIB), 0, &size, sizes[i].most);

        assert_int_equal(size, sizes[i].becomes);
        assert_int_equal(pages.shift, sizes[i].huge ? 21 : 0);
        size = sizes[i].size;
        pages = memory_pages_large(memory_word(0, VRD_PAGES_TRANSPARENT), 0, &size, sizes[i].most);
        assert_int_equal(size, sizes[i].size);
        assert_int_equal(pages.shift, 0);
    }
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(the_word_says_what_the_options_said),
                 SUPPORT_TEST(words_that_say_nothing_are_found),
                 SUPPORT_TEST(huge_pages_are_for_what_fills_them),
                 { 0 },
             })
