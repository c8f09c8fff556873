/* SPDX-License-Identifier: MIT */
/* The guide's section "Error Handling". */
#include "guide/guide.h"

enum outcome { SUCCESS, RETRY_LATER, HANDLE_ERROR, BACK_OFF, OTHER_ERROR };

static enum outcome send_and_match(vrd_cap_t cap, const void *msg, size_t len)
{
    switch (vrd_send_timed(cap, msg, len, 0)) {
    case VRD_OK:
        return SUCCESS;
    case VRD_ERR_QUEUE_FULL:
        return RETRY_LATER;
    case VRD_ERR_INVALID_CAPABILITY:
        return HANDLE_ERROR;
    case VRD_ERR_RATE_LIMIT_EXCEEDED:
        return BACK_OFF;
    default:
        return OTHER_ERROR;
    }
}

static void test_each_outcome(void **state)
{
    vrd_cap_t send_cap, recv_cap;

    (void)state;
    assert_int_equal(vrd_channel_create(2, &send_cap, &recv_cap), VRD_OK);
    assert_int_equal(send_and_match(send_cap, "a", 1), SUCCESS);
    assert_int_equal(send_and_match(send_cap, "b", 1), SUCCESS);
    assert_int_equal(send_and_match(send_cap, "c", 1), RETRY_LATER);
    assert_int_equal(send_and_match(recv_cap, "d", 1), OTHER_ERROR);
    assert_int_equal(vrd_cap_close(send_cap), VRD_OK);
    assert_int_equal(send_and_match(send_cap, "e", 1), HANDLE_ERROR);
    assert_int_equal(vrd_cap_close(recv_cap), VRD_OK);
}

/* Every error can be said in words, and translated for programs that speak errno. */
static void test_errors_in_words(void **state)
{
    (void)state;
    assert_string_equal(vrd_error_name(VRD_ERR_QUEUE_FULL), "VRD_ERR_CHANNEL_FULL");
    assert_string_equal(vrd_error_name(VRD_ERR_INVALID_CAPABILITY), "VRD_ERR_INVALID_CAPABILITY");
    for (int err = VRD_ERR_SYSTEM; err < 0; err++) {
        assert_non_null(vrd_error_name(err));
        assert_true(strlen(vrd_strerror(err)) > 0);
        assert_true(vrd_error_to_errno(err) > 0);
    }
    assert_int_equal(vrd_error_to_errno(VRD_OK), 0);
    assert_null(vrd_error_name(VRD_ERR_SYSTEM - 1));
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_each_outcome),
                     SUPPORT_TEST(test_errors_in_words),
                     { 0 },
                 },
             .warm_up = guide_warm_up)
