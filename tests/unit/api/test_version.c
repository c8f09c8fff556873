/* SPDX-License-Identifier: MIT */
/* The version says what it is: three numbers. */
#include "unit/unit.h"

#include <stdio.h>
#include <veridian/error.h>

static void is_three_numbers(void **state)
{
    unsigned major, minor, patch;
    char again[64];

    (void)state;
    assert_int_equal(sscanf(vrd_version(), "%u.%u.%u", &major, &minor, &patch), 3);
    snprintf(again, sizeof again, "%u.%u.%u", major, minor, patch);
    assert_string_equal(vrd_version(), again);
    assert_ptr_equal(vrd_version(), vrd_version());
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(is_three_numbers),
                 { 0 },
             })
