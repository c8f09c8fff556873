/* SPDX-License-Identifier: MIT */
/* Channels: arguments at their limits, on the slow path and on the fast one. */
#include "unit/api/ends.h"

#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/macro.h"

/* --- making ------------------------------------------------------------------------------------- */

static void slots_have_limits(void **state)
{
    vrd_cap_t send = 4711, receive = 4712;

    (void)state;
    assert_int_equal(vrd_channel_create(0, &send, &receive), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_channel_create(VRD_CHANNEL_SLOTS_MAX + 1, &send, &receive),
                     VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_channel_create((size_t)UINT32_MAX + 2, &send, &receive),
                     VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_channel_create(SIZE_MAX, &send, &receive), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(send, 4711);
    assert_int_equal(receive, 4712);
    assert_int_equal(vrd_async_channel_create(0, &send, &receive), VRD_ERR_INVALID_ARGUMENT);
    for (size_t slots = 1; slots <= VRD_CHANNEL_SLOTS_MAX; slots = slots * 3 + 1) {
        const struct ends ends = ends_new(slots); /* memory is taken at first use */

        ends_close(&ends);
    }
}

static void outputs_are_needed(void **state)
{
    vrd_cap_t cap = 4711;

    (void)state;
    assert_int_equal(vrd_channel_create(4, NULL, &cap), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_channel_create(4, &cap, NULL), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_channel_create_with(NULL, NULL, NULL), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(cap, 4711);
}

static void zero_means_the_default(void **state)
{
    const struct vrd_channel_options zero = { 0 };
    const struct vrd_channel_options *both[] = { NULL, &zero };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct vrd_cap_info info;
        struct ends ends;

        assert_int_equal(vrd_channel_create_with(both[i], &ends.send, &ends.receive), 0);
        assert_int_equal(vrd_cap_info(ends.send, &info), 0);
        assert_int_equal(info.slots, VRD_CHANNEL_SLOTS_DEFAULT);
        assert_int_equal(info.max_message_size, VRD_CHANNEL_MESSAGE_DEFAULT);
        ends_close(&ends);
    }
}

static void options_are_checked(void **state)
{
    struct vrd_channel_options options = { 0 };
    struct ends ends;

    (void)state;
    for (size_t i = 0; i < sizeof options.reserved / sizeof options.reserved[0]; i++) {
        options.reserved[i] = UINT64_C(1) << i * 4;
        assert_int_equal(vrd_channel_create_with(&options, &ends.send, &ends.receive),
                         VRD_ERR_INVALID_ARGUMENT);
        options.reserved[i] = 0;
    }
    options.max_message_size = SIZE_MAX;
    assert_int_equal(vrd_channel_create_with(&options, &ends.send, &ends.receive),
                     VRD_ERR_INVALID_ARGUMENT);
    options.max_message_size = 1;
    assert_int_equal(vrd_channel_create_with(&options, &ends.send, &ends.receive), 0);
    ends_close(&ends);
}

/* --- arguments ------------------------------------------------------------------------------------ */

static void what_is_no_capability_is_told(void **state)
{
    struct ends ends = ends_new(4);
    vrd_cap_t caps[ENDS_NO_CAPS];
    char byte = 0;

    (void)state;
    ends_settle(&ends);
    for (size_t i = ends_no_caps(&ends, caps); i-- > 0;) {
        assert_int_equal(vrd_send(caps[i], &byte, 1), VRD_ERR_INVALID_CAPABILITY);
        assert_int_equal(vrd_send_async(caps[i], &byte, 1), VRD_ERR_INVALID_CAPABILITY);
        assert_int_equal(vrd_send_timed(caps[i], &byte, 1, 1), VRD_ERR_INVALID_CAPABILITY);
        assert_int_equal(vrd_receive(caps[i], &byte, 1), VRD_ERR_INVALID_CAPABILITY);
        assert_int_equal(vrd_receive_async(caps[i], &byte, 1), VRD_ERR_INVALID_CAPABILITY);
        assert_int_equal(vrd_receive_timed(caps[i], &byte, 1, 1), VRD_ERR_INVALID_CAPABILITY);
    }
    ends_close(&ends);
    assert_int_equal(vrd_send(ends.send, &byte, 1), VRD_ERR_INVALID_CAPABILITY);
    assert_int_equal(vrd_receive(ends.receive, &byte, 1), VRD_ERR_INVALID_CAPABILITY);
}

static void each_end_does_its_part_only(void **state)
{
    struct ends ends = ends_new(4);
    char byte = 0;

    (void)state;
    for (int settled = 0; settled <= 1; settled++) {
        assert_int_equal(vrd_send(ends.receive, &byte, 1), VRD_ERR_PERMISSION_DENIED);
        assert_int_equal(vrd_send_async(ends.receive, &byte, 1), VRD_ERR_PERMISSION_DENIED);
        assert_int_equal(vrd_receive(ends.send, &byte, 1), VRD_ERR_PERMISSION_DENIED);
        assert_int_equal(vrd_receive_async(ends.send, &byte, 1), VRD_ERR_PERMISSION_DENIED);
        ends_settle(&ends);
    }
    ends_close(&ends);
}

static void negative_timeouts_are_refused(void **state)
{
    static const int64_t negative[] = { -2, -1000, INT64_MIN, INT64_MIN + 1 };
    struct ends ends = ends_new(4);
    char byte = 0;

    (void)state;
    for (int settled = 0; settled <= 1; settled++) {
        for (size_t i = 0; i < sizeof negative / sizeof negative[0]; i++) {
            assert_int_equal(vrd_send_timed(ends.send, &byte, 1, negative[i]),
                             VRD_ERR_INVALID_ARGUMENT);
            assert_int_equal(vrd_receive_timed(ends.receive, &byte, 1, negative[i]),
                             VRD_ERR_INVALID_ARGUMENT);
        }
        ends_settle(&ends);
    }
    assert_int_equal(vrd_send(ends.send, "m", 1), 0); /* also when there is one to be had */
    assert_int_equal(vrd_receive_timed(ends.receive, &byte, 1, -2), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_receive(ends.receive, &byte, 1), 1);
    assert_int_equal(byte, 'm');
    ends_close(&ends);
}

static void no_data_needs_no_memory(void **state)
{
    struct ends ends = ends_new(4);
    char byte = 7;

    (void)state;
    for (int settled = 0; settled <= 1; settled++) {
        assert_int_equal(vrd_send(ends.send, NULL, 1), VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(vrd_send(ends.send, NULL, 100), VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(vrd_receive(ends.receive, NULL, 1), VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(vrd_receive_async(ends.receive, NULL, 1), VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(vrd_send(ends.send, NULL, 0), 0);
        assert_int_equal(vrd_receive(ends.receive, NULL, 0), 0);
        assert_int_equal(vrd_send(ends.send, &byte, 0), 0);
        assert_int_equal(vrd_receive(ends.receive, &byte, 1), 0);
        ends_settle(&ends);
    }
    ends_close(&ends);
}

/* --- lengths -------------------------------------------------------------------------------------- */

static void the_limit_holds_below_a_slot_too(void **state)
{
    static const size_t limits[] = { 1, 2, 8, 55, 56, 57, 63, 64, 65, 100, 4096, 5000 };
    static uint8_t data[5001], got[5001];

    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct ends ends = ends_new_with(4, limits[i]);

        for (int settled = 0; settled <= 1; settled++) {
            assert_int_equal(vrd_send(ends.send, data, limits[i] + 1), VRD_ERR_MESSAGE_TOO_LARGE);
            assert_int_equal(vrd_send_async(ends.send, data, limits[i] + 1),
                             VRD_ERR_MESSAGE_TOO_LARGE);
            assert_int_equal(vrd_send(ends.send, data, limits[i]), 0);
            assert_int_equal(vrd_receive(ends.receive, got, sizeof got), limits[i]);
            ends_settle(&ends);
        }
        assert_int_equal(vrd_send(ends.send, data, SIZE_MAX), VRD_ERR_MESSAGE_TOO_LARGE);
        ends_close(&ends);
    }
}

static void each_length_arrives_as_it_was(void **state)
{
    struct ends ends = ends_new(4);
    struct guarded data = guarded_new(UNIT_PAGE), buffer = guarded_new(UNIT_PAGE);
    uint64_t random = 1;

    (void)state;
    random_fill(&random, data.addr, data.size);
    for (size_t len = 0; len <= 300; len++) {
        uint8_t *to = guarded_end(&buffer, len);

        assert_int_equal(vrd_send(ends.send, guarded_end(&data, len), len), 0);
        assert_int_equal(vrd_receive(ends.receive, to, len), len);
        assert_memory_equal(to, guarded_end(&data, len), len);
    }
    ends_close(&ends);
    guarded_free(&data);
    guarded_free(&buffer);
}

static void a_buffer_too_small_keeps_the_message(void **state)
{
    static const size_t lens[] = { 1, 10, 64, 65, 1000 };
    struct ends ends = ends_new(4);
    uint8_t data[1000], got[1000];

    (void)state;
    memset(data, 5, sizeof data);
    for (int settled = 0; settled <= 1; settled++) {
        for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
            memset(got, 9, sizeof got);
            assert_int_equal(vrd_send(ends.send, data, lens[i]), 0);
            for (int k = 0; k < 3; k++)
                assert_int_equal(vrd_receive(ends.receive, got, lens[i] - 1),
                                 VRD_ERR_MESSAGE_TOO_LARGE);
            assert_int_equal(vrd_receive_async(ends.receive, got, 0), VRD_ERR_MESSAGE_TOO_LARGE);
            assert_int_equal(got[0], 9);
            assert_int_equal(vrd_receive(ends.receive, got, lens[i]), lens[i]);
            assert_memory_equal(got, data, lens[i]);
        }
        ends_settle(&ends);
    }
    ends_close(&ends);
}

/* --- capacity and time ------------------------------------------------------------------------------- */

static void capacity_is_exact_and_timeouts_are_told(void **state)
{
    static const size_t slots[] = { 1, 2, 3, 5, 16, 17, 100 };
    char byte;

    (void)state;
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        struct ends ends = ends_new(slots[i]);

        for (int lap = 0; lap < 3; lap++) {
            assert_int_equal(vrd_receive_async(ends.receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
            for (size_t k = 0; k < slots[i]; k++)
                assert_int_equal(vrd_send_async(ends.send, "x", 1), 0);
            assert_int_equal(vrd_send_async(ends.send, "x", 1), VRD_ERR_CHANNEL_FULL);
            assert_int_equal(vrd_send_timed(ends.send, "x", 1, 0), VRD_ERR_CHANNEL_FULL);
            assert_int_equal(vrd_send_timed(ends.send, "x", 1, 1), VRD_ERR_TIMEOUT);
            for (size_t k = 0; k < slots[i]; k++)
                assert_int_equal(vrd_receive_async(ends.receive, &byte, 1), 1);
            assert_int_equal(vrd_receive_timed(ends.receive, &byte, 1, 0), VRD_ERR_CHANNEL_EMPTY);
            assert_int_equal(vrd_receive_timed(ends.receive, &byte, 1, 1), VRD_ERR_TIMEOUT);
        }
        ends_close(&ends);
    }
}

static void the_end_of_the_other_side_is_told(void **state)
{
    struct ends ends = ends_new(4);
    char byte;

    (void)state;
    assert_int_equal(vrd_send(ends.send, "a", 1), 0);
    assert_int_equal(vrd_send(ends.send, "b", 1), 0);
    assert_int_equal(vrd_cap_close(ends.send), 0);
    assert_int_equal(vrd_receive(ends.receive, &byte, 1), 1);
    assert_int_equal(byte, 'a');
    assert_int_equal(vrd_receive(ends.receive, &byte, 1), 1);
    assert_int_equal(byte, 'b');
    for (int i = 0; i < 3; i++) {
        assert_int_equal(vrd_receive(ends.receive, &byte, 1), VRD_ERR_PEER_GONE);
        assert_int_equal(vrd_receive_async(ends.receive, &byte, 1), VRD_ERR_PEER_GONE);
    }
    assert_int_equal(vrd_cap_close(ends.receive), 0);

    for (int settled = 0; settled <= 1; settled++) {
        ends = ends_new(4);
        if (settled)
            ends_settle(&ends);
        assert_int_equal(vrd_cap_close(ends.receive), 0);
        for (int i = 0; i < 3; i++)
            assert_int_equal(vrd_send(ends.send, "x", 1), VRD_ERR_PEER_GONE);
        assert_int_equal(vrd_cap_close(ends.send), 0);
    }
}

/* --- other threads -------------------------------------------------------------------------------------- */

struct waiter {
    vrd_cap_t cap;
    pid_t tid;
    struct support_gate started;
    ssize_t result;
    char byte;
};

static void *waiter_run(void *arg)
{
    struct waiter *waiter = arg;

    waiter->tid = gettid();
    support_gate_open(&waiter->started);
    waiter->result = vrd_receive(waiter->cap, &waiter->byte, 1);
    return NULL;
}

static pthread_t waiter_start(struct waiter *waiter, vrd_cap_t cap)
{
    pthread_t thread;

    *waiter = (struct waiter){ .cap = cap };
    support_gate_init(&waiter->started);
    support_require(pthread_create(&thread, NULL, waiter_run, waiter) == 0);
    support_gate_wait(&waiter->started);
    return thread;
}

static ssize_t waiter_end(struct waiter *waiter, pthread_t thread)
{
    support_require(pthread_join(thread, NULL) == 0);
    support_gate_deinit(&waiter->started);
    return waiter->result;
}

static void closing_ends_the_wait_of_others(void **state)
{
    (void)state;
    for (int asleep = 0; asleep <= 1; asleep++) {
        struct ends ends = ends_new(2);
        struct waiter waiter;
        const pthread_t thread = waiter_start(&waiter, ends.receive);

        if (asleep)
            support_wait_asleep(waiter.tid);
        assert_int_equal(vrd_cap_close(ends.receive), 0);
        assert_int_equal(waiter_end(&waiter, thread), VRD_ERR_INVALID_CAPABILITY);
        assert_int_equal(vrd_cap_close(ends.send), 0);
    }
}

/* Not by giving the CPU away, which on a busy machine takes thousands of times as long. */
static void spin_ns(uint64_t ns)
{
    const int64_t end = clock_deadline((int64_t)ns);

    while (clock_now() < end)
        cpu_relax();
}

/* The entry behind a closed number is used again at once, while somebody still wakes from it. */
static void a_reused_entry_wakes_the_old_and_the_new(void **state)
{
    uint64_t random = 9;

    (void)state;
    for (size_t round = 0; round < support_iterations(200); round++) {
        struct ends before = ends_new(2), after;
        struct waiter old, new;
        const pthread_t first = waiter_start(&old, before.receive);
        pthread_t second;

        if (round % 16 == 0)
            support_wait_asleep(old.tid);
        spin_ns(random_below(&random, 1000000));
        assert_int_equal(vrd_cap_close(before.send), 0);
        if (vrd_cap_close(before.receive) != 0)
            fail();
        after = ends_new(2);
        second = waiter_start(&new, after.receive);
        spin_ns(random_below(&random, 50000));
        assert_int_equal(vrd_send(after.send, "n", 1), 0);
        assert_int_equal(waiter_end(&new, second), 1);
        waiter_end(&old, first);
        /* It may have seen the end of the sender before its own. */
        assert_true(old.result == VRD_ERR_INVALID_CAPABILITY || old.result == VRD_ERR_PEER_GONE);
        ends_close(&after);
    }
}

static void many_threads_share_both_ends(void **state)
{
    struct ends ends = ends_new(8);
    struct waiter waiters[6];
    pthread_t threads[6];

    (void)state;
    for (int i = 0; i < 6; i++)
        threads[i] = waiter_start(&waiters[i], ends.receive);
    for (int i = 0; i < 6; i++)
        assert_int_equal(vrd_send(ends.send, "x", 1), 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(waiter_end(&waiters[i], threads[i]), 1);
    ends_close(&ends);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(slots_have_limits),
                     SUPPORT_TEST(outputs_are_needed),
                     SUPPORT_TEST(zero_means_the_default),
                     SUPPORT_TEST(options_are_checked),
                     SUPPORT_TEST(what_is_no_capability_is_told),
                     SUPPORT_TEST(each_end_does_its_part_only),
                     SUPPORT_TEST(negative_timeouts_are_refused),
                     SUPPORT_TEST(no_data_needs_no_memory),
                     SUPPORT_TEST(the_limit_holds_below_a_slot_too),
                     SUPPORT_TEST(each_length_arrives_as_it_was),
                     SUPPORT_TEST(a_buffer_too_small_keeps_the_message),
                     SUPPORT_TEST(capacity_is_exact_and_timeouts_are_told),
                     SUPPORT_TEST(the_end_of_the_other_side_is_told),
                     SUPPORT_TEST(closing_ends_the_wait_of_others),
                     SUPPORT_TEST(a_reused_entry_wakes_the_old_and_the_new),
                     SUPPORT_TEST(many_threads_share_both_ends),
                     { 0 },
                 },
             .warm_up = ends_warm_up)
