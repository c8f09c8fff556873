/* SPDX-License-Identifier: MIT */
/* The table of calls that wait for their answer: found by number, whatever else comes and goes. */
#include "unit/unit.h"

#include <veridian/error.h>

#include "object/reply.h"

static vrd_cap_t number_of(uint64_t serial)
{
    return REPLY_FLAG | serial << HANDLE_INDEX_BITS | 5;
}

static void put(struct pending *pending, uint64_t serial)
{
    struct pending_call *call = &pending->calls[serial & pending->mask];

    assert_int_equal(call->serial, 0);
    *call = (struct pending_call){ .serial = serial, .sequence = (uint32_t)serial };
    pending->count++;
}

static void expect_there(const struct pending *pending, uint64_t serial)
{
    const struct pending_call *call = reply_find(pending, number_of(serial));

    assert_non_null(call);
    assert_int_equal(call->serial, serial);
    assert_int_equal(call->sequence, (uint32_t)serial);
}

/* From each place of the table, the first one included, into a larger one. */
static void all_are_found_after_growing(void **state)
{
    (void)state;
    for (uint64_t first = 1; first < 300; first++) {
        struct pending pending;
        uint64_t n = 0;

        assert_int_equal(pending_init(&pending), 0);
        for (; n < 300; n++) {
            assert_int_equal(pending_reserve(&pending), 0);
            assert_true(pending.count <= pending.mask / 2);
            put(&pending, first + n);
            if (n < 70 || n == 299)
                for (uint64_t i = 0; i <= n; i++)
                    expect_there(&pending, first + i);
            assert_null(reply_find(&pending, number_of(first + n + 1)));
            assert_null(reply_find(&pending, number_of(first - 1)));
        }
        for (uint64_t i = 0; i < n; i++) {
            reply_take(&pending, reply_find(&pending, number_of(first + i)));
            assert_null(reply_find(&pending, number_of(first + i)));
        }
        assert_int_equal(pending.count, 0);
        pending_deinit(&pending);
    }
}

static void a_forgotten_table_is_empty_and_works(void **state)
{
    struct pending pending;

    (void)state;
    assert_int_equal(pending_init(&pending), 0);
    for (uint64_t i = 1; i < 8; i++)
        put(&pending, i);
    pending_forget(&pending);
    assert_int_equal(pending.count, 0);
    for (uint64_t i = 1; i < 8; i++)
        assert_null(reply_find(&pending, number_of(i)));
    put(&pending, 3);
    expect_there(&pending, 3);
    pending_deinit(&pending);
    pending_forget(&pending); /* a channel has none */
}

static void numbers_of_replies_are_their_own(void **state)
{
    (void)state;
    assert_true(cap_is_reply(number_of(1)));
    assert_true(cap_is_reply(number_of(REPLY_SERIAL_MASK)));
    assert_false(cap_is_reply(VRD_CAP_NONE));
    assert_false(cap_is_reply(UINT64_C(1) << 61));
    assert_false(cap_is_reply(UINT64_C(1) << 63));
    assert_false(cap_is_reply(UINT64_MAX));
    assert_true((int64_t)number_of(REPLY_SERIAL_MASK) > 0);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(all_are_found_after_growing),
                 SUPPORT_TEST(a_forgotten_table_is_empty_and_works),
                 SUPPORT_TEST(numbers_of_replies_are_their_own),
                 { 0 },
             })
