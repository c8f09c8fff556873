/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that are closed by another thread, and what is left of it. Not under ASan, whose allocator a child
 * inherits locked if that thread is just in it.
 *
 * ctest: no-asan no-tsan
 */
#include "unit/unit.h"

#include <unistd.h>

#include "base/macro.h"
#include "os/closer.h"

/* Waits until nobody has the writing end any more. */
static void expect_closed(int reading)
{
    char byte;

    assert_int_equal(read(reading, &byte, 1), 0);
    close(reading);
}

static void each_is_closed(void **state)
{
    int pairs[100][2];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        support_require(pipe(pairs[i]) == 0);
        closer_take(&pairs[i][1]);
        assert_int_equal(pairs[i][1], -1);
    }
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
        expect_closed(pairs[i][0]);
}

static int closes_its_own(void *arg)
{
    int pair[2];
    char byte;

    (void)arg;
    closer_after_fork();
    support_require(pipe(pair) == 0);
    closer_take(&pair[1]);
    support_require(read(pair[0], &byte, 1) == 0);
    return 0;
}

static void a_child_has_a_closer_of_its_own(void **state)
{
    int pair[2];

    (void)state;
    support_require(pipe(pair) == 0);
    closer_take(&pair[1]);
    support_wait_exit(support_child(closes_its_own, NULL), 0);
    expect_closed(pair[0]);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(each_is_closed),
                 SUPPORT_TEST(a_child_has_a_closer_of_its_own),
                 { 0 },
             })
