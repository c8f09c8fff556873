/* SPDX-License-Identifier: MIT */
/* The guide's section "Performance Best Practices": the fast path, and batches. */
#include "guide/guide.h"

static void test_fast_path_and_slow_path(void **state)
{
    static char large_data[100000];
    static char received[sizeof large_data];
    vrd_cap_t send_cap, recv_cap;

    (void)state;
    memset(large_data, 'L', sizeof large_data);
    assert_int_equal(vrd_channel_create(16, &send_cap, &recv_cap), VRD_OK);

    /* Good: uses fast path */
    assert_int_equal(vrd_send(send_cap, "status:ok", 9), VRD_OK);
    assert_int_equal(vrd_receive(recv_cap, received, sizeof received), 9);
    assert_memory_equal(received, "status:ok", 9);

    /* Less efficient: forces slow path */
    assert_int_equal(vrd_send(send_cap, large_data, sizeof large_data), VRD_OK);
    assert_int_equal(vrd_receive(recv_cap, received, sizeof received), sizeof large_data);
    assert_memory_equal(received, large_data, sizeof large_data);

    assert_int_equal(vrd_cap_close(send_cap), VRD_OK);
    assert_int_equal(vrd_cap_close(recv_cap), VRD_OK);
}

#define BATCH 10

static void test_batch_operations(void **state)
{
    vrd_cap_t send_cap, recv_cap;
    struct vrd_message messages[BATCH];
    uint32_t numbers[BATCH], processed = 0;

    (void)state;
    assert_int_equal(vrd_async_channel_create(64, &send_cap, &recv_cap), VRD_OK);
    memset(messages, 0, sizeof messages);
    for (uint32_t i = 0; i < BATCH; i++) {
        numbers[i] = i;
        messages[i].data = &numbers[i];
        messages[i].len = sizeof numbers[i];
    }
    assert_int_equal(vrd_send_batch(send_cap, messages, BATCH, VRD_FOREVER), BATCH);

    /* Good: batch receive */
    memset(messages, 0, sizeof messages);
    memset(numbers, 0xFF, sizeof numbers);
    for (uint32_t i = 0; i < BATCH; i++) {
        messages[i].data = &numbers[i];
        messages[i].size = sizeof numbers[i];
    }
    const int n = vrd_receive_batch(recv_cap, messages, BATCH, VRD_FOREVER);
    assert_int_equal(n, BATCH);
    for (int i = 0; i < n; i++) {
        assert_int_equal(messages[i].len, sizeof numbers[i]);
        assert_int_equal(numbers[i], processed++);
    }

    /* Less efficient: individual receives */
    for (uint32_t i = 0; i < BATCH; i++)
        assert_int_equal(vrd_send(send_cap, &i, sizeof i), VRD_OK);
    for (uint32_t i = 0; i < BATCH; i++) {
        uint32_t number;

        assert_int_equal(vrd_receive(recv_cap, &number, sizeof number), sizeof number);
        assert_int_equal(number, i);
    }
    assert_int_equal(vrd_cap_close(send_cap), VRD_OK);
    assert_int_equal(vrd_cap_close(recv_cap), VRD_OK);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_fast_path_and_slow_path),
                     SUPPORT_TEST(test_batch_operations),
                     { 0 },
                 },
             .warm_up = guide_warm_up)
