/* SPDX-License-Identifier: MIT */
/* Monotonic nanoseconds, and deadlines that do not overflow. */
#include "unit/unit.h"

#include "base/clock.h"

static void never_goes_back(void **state)
{
    int64_t last = clock_now();

    (void)state;
    assert_true(last > 0);
    for (size_t i = 0; i < support_iterations(100000); i++) {
        const int64_t now = clock_now();

        if (now < last)
            fail_msg("%jd after %jd", (intmax_t)now, (intmax_t)last);
        last = now;
    }
}

static void agrees_with_the_monotonic_clock(void **state)
{
    struct timespec before, after;
    int64_t now;

    (void)state;
    clock_gettime(CLOCK_MONOTONIC, &before);
    now = clock_now();
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true(now >= before.tv_sec * INT64_C(1000000000) + before.tv_nsec);
    assert_true(now <= after.tv_sec * INT64_C(1000000000) + after.tv_nsec);
}

static void a_deadline_lies_that_far_ahead(void **state)
{
    static const int64_t timeouts[] = { 0, 1, 1000, INT64_C(1) << 40, INT64_C(1) << 61 };

    (void)state;
    for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
        const int64_t before = clock_now();
        const int64_t deadline = clock_deadline(timeouts[i]);

        assert_true(deadline >= before + timeouts[i]);
        assert_true(deadline <= clock_now() + timeouts[i]);
    }
}

static void what_is_too_far_is_never(void **state)
{
    (void)state;
    assert_true(clock_deadline(-1) == CLOCK_NEVER);
    assert_true(clock_deadline(INT64_MIN) == CLOCK_NEVER);
    assert_true(clock_deadline(INT64_MAX) == CLOCK_NEVER);
    assert_true(clock_deadline(INT64_MAX - 1) == CLOCK_NEVER);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(never_goes_back),
                 SUPPORT_TEST(agrees_with_the_monotonic_clock),
                 SUPPORT_TEST(a_deadline_lies_that_far_ahead),
                 SUPPORT_TEST(what_is_too_far_is_never),
                 { 0 },
             })
