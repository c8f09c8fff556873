/* SPDX-License-Identifier: MIT */
/* The guide's section "Asynchronous Channels". */
#include "guide/guide.h"

static void test_create_send_receive(void **state)
{
    vrd_cap_t send, receive;
    uint32_t processed = 0;
    char msg[64];
    ssize_t len;

    (void)state;
    /* Create async channel */
    assert_int_equal(vrd_async_channel_create(1024, &send, &receive), VRD_OK);

    /* Producer side */
    for (uint32_t i = 0; i < 1024; i++)
        assert_int_equal(vrd_send_async(send, &i, sizeof i), VRD_OK);
    assert_int_equal(vrd_send_async(send, "x", 1), VRD_ERR_QUEUE_FULL);

    /* Consumer side */
    while ((len = vrd_receive_async(receive, msg, sizeof msg)) >= 0) {
        assert_int_equal(len, sizeof processed);
        assert_memory_equal(msg, &processed, sizeof processed);
        processed++;
    }
    assert_int_equal(len, VRD_ERR_QUEUE_EMPTY);
    assert_int_equal(processed, 1024);

    assert_int_equal(vrd_cap_close(send), VRD_OK);
    assert_int_equal(vrd_cap_close(receive), VRD_OK);
}

/* Neither call waits, whatever the other side does. */
static void test_never_waits(void **state)
{
    vrd_cap_t send, receive;
    char msg[64];

    (void)state;
    assert_int_equal(vrd_async_channel_create(1, &send, &receive), VRD_OK);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(vrd_receive_async(receive, msg, sizeof msg), VRD_ERR_CHANNEL_EMPTY);
        assert_int_equal(vrd_send_async(send, &i, sizeof i), VRD_OK);
        assert_int_equal(vrd_send_async(send, &i, sizeof i), VRD_ERR_CHANNEL_FULL);
        assert_int_equal(vrd_receive_async(receive, msg, sizeof msg), sizeof i);
        assert_memory_equal(msg, &i, sizeof i);
    }
    assert_int_equal(vrd_cap_close(send), VRD_OK);
    assert_int_equal(vrd_cap_close(receive), VRD_OK);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_create_send_receive),
                     SUPPORT_TEST(test_never_waits),
                     { 0 },
                 },
             .warm_up = guide_warm_up)
