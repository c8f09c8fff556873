/* SPDX-License-Identifier: MIT */
/* The guide's section "Synchronous Message Passing", and its "Fast Path Optimization". */
#include "guide/guide.h"

static void test_create_send_receive(void **state)
{
    vrd_cap_t send_cap, recv_cap;
    char received[64];

    (void)state;
    /* Create a channel */
    assert_int_equal(vrd_channel_create(64, &send_cap, &recv_cap), VRD_OK);

    /* Send a message */
    assert_int_equal(vrd_send(send_cap, "Hello, world!", 13), VRD_OK);

    /* Receive a message */
    assert_int_equal(vrd_receive(recv_cap, received, sizeof received), 13);
    assert_memory_equal(received, "Hello, world!", 13);

    assert_int_equal(vrd_cap_close(send_cap), VRD_OK);
    assert_int_equal(vrd_cap_close(recv_cap), VRD_OK);
}

/* "Synchronous IPC provides direct message exchange with blocking semantics." */
static int answer(void *arg)
{
    const vrd_cap_t *caps = arg;
    char request[64];

    support_require(vrd_cap_close(caps[0]) == VRD_OK);
    support_require(vrd_cap_close(caps[3]) == VRD_OK);
    const ssize_t len = vrd_receive(caps[1], request, sizeof request);
    support_require(len > 0);
    support_require(vrd_send(caps[2], request, (size_t)len) == VRD_OK);
    return 0;
}

static void test_both_sides_wait(void **state)
{
    /* There and back: send, receive, send, receive. */
    vrd_cap_t caps[4];
    char reply[64];

    (void)state;
    assert_int_equal(vrd_channel_create(1, &caps[0], &caps[1]), VRD_OK);
    assert_int_equal(vrd_channel_create(1, &caps[2], &caps[3]), VRD_OK);
    const pid_t child = support_child(answer, caps);
    assert_int_equal(vrd_cap_close(caps[1]), VRD_OK);
    assert_int_equal(vrd_cap_close(caps[2]), VRD_OK);

    support_wait_asleep(child); /* nothing is there yet: it waits */
    assert_int_equal(vrd_send(caps[0], "ping", 4), VRD_OK);
    assert_int_equal(vrd_receive(caps[3], reply, sizeof reply), 4);
    assert_memory_equal(reply, "ping", 4);

    support_wait_exit(child, 0);
    assert_int_equal(vrd_receive(caps[3], reply, sizeof reply), VRD_ERR_PEER_GONE);
    assert_int_equal(vrd_cap_close(caps[0]), VRD_OK);
    assert_int_equal(vrd_cap_close(caps[3]), VRD_OK);
}

/* "Messages of up to 64 bytes use register-based transfer": the same call, chosen by the length. */
static void test_fast_path(void **state)
{
    vrd_cap_t send_cap, recv_cap;
    char data[128], received[128];

    (void)state;
    assert_int_equal(vrd_channel_create(64, &send_cap, &recv_cap), VRD_OK);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 7);

    /* This automatically uses the fast path */
    assert_int_equal(vrd_send(send_cap, data, 64), VRD_OK);
    assert_int_equal(vrd_receive(recv_cap, received, sizeof received), 64);
    assert_memory_equal(received, data, 64);

    /* This does not */
    assert_int_equal(vrd_send(send_cap, data, 65), VRD_OK);
    assert_int_equal(vrd_receive(recv_cap, received, sizeof received), 65);
    assert_memory_equal(received, data, 65);

    assert_int_equal(vrd_cap_close(send_cap), VRD_OK);
    assert_int_equal(vrd_cap_close(recv_cap), VRD_OK);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_create_send_receive),
                     SUPPORT_TEST(test_both_sides_wait),
                     SUPPORT_TEST(test_fast_path),
                     { 0 },
                 },
             .warm_up = guide_warm_up)
