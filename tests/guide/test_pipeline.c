/* SPDX-License-Identifier: MIT */
/* The guide's example "Producer-Consumer Pipeline", each stage a process of its own. */
#include "guide/guide.h"

#include <sched.h>

#define ITEMS 20000

struct pipeline {
    vrd_cap_t channel_send, channel_receive;
    vrd_cap_t output_send, output_receive;
};

static uint64_t transform(uint64_t data)
{
    return data * data + 1;
}

/* The channel never waits: what does not fit now is tried again. */
static void send_item(vrd_cap_t channel, uint64_t item)
{
    int result;

    while ((result = vrd_send_async(channel, &item, sizeof item)) == VRD_ERR_QUEUE_FULL)
        sched_yield();
    support_require(result == VRD_OK);
}

static bool receive_item(vrd_cap_t channel, uint64_t *ret)
{
    ssize_t len;

    while ((len = vrd_receive_async(channel, ret, sizeof *ret)) == VRD_ERR_QUEUE_EMPTY)
        sched_yield();
    support_require(len == sizeof *ret || len == VRD_ERR_PEER_GONE);
    return len >= 0;
}

static int produce(void *arg)
{
    const struct pipeline *p = arg;

    support_require(vrd_cap_close(p->channel_receive) == VRD_OK);
    support_require(vrd_cap_close(p->output_send) == VRD_OK);
    support_require(vrd_cap_close(p->output_receive) == VRD_OK);
    for (uint64_t data = 0; data < ITEMS; data++)
        send_item(p->channel_send, data);
    return 0;
}

static int consume(void *arg)
{
    const struct pipeline *p = arg;
    uint64_t msg;

    support_require(vrd_cap_close(p->channel_send) == VRD_OK);
    support_require(vrd_cap_close(p->output_receive) == VRD_OK);
    while (receive_item(p->channel_receive, &msg))
        send_item(p->output_send, transform(msg));
    return 0;
}

static void test_pipeline(void **state)
{
    struct pipeline p;
    uint64_t processed, n = 0;

    (void)state;
    assert_int_equal(vrd_async_channel_create(1000, &p.channel_send, &p.channel_receive), VRD_OK);
    assert_int_equal(vrd_async_channel_create(1000, &p.output_send, &p.output_receive), VRD_OK);
    const pid_t producer = support_child(produce, &p);
    const pid_t consumer = support_child(consume, &p);
    assert_int_equal(vrd_cap_close(p.channel_send), VRD_OK);
    assert_int_equal(vrd_cap_close(p.channel_receive), VRD_OK);
    assert_int_equal(vrd_cap_close(p.output_send), VRD_OK);

    while (receive_item(p.output_receive, &processed))
        assert_int_equal(processed, transform(n++));
    assert_int_equal(n, ITEMS);
    support_wait_exit(producer, 0);
    support_wait_exit(consumer, 0);
    assert_int_equal(vrd_cap_close(p.output_receive), VRD_OK);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_pipeline),
                     { 0 },
                 },
             .warm_up = guide_warm_up)
