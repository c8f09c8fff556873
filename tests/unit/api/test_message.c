/* SPDX-License-Identifier: MIT */
/* Messages with more to them, batches, and the discarding of what does not fit. */
#include "unit/api/ends.h"

#include <limits.h>
#include <unistd.h>

static struct vrd_message message_of(void *data, size_t len)
{
    return (struct vrd_message){ .data = data, .len = len };
}

static struct vrd_message buffer_of(void *data, size_t size)
{
    return (struct vrd_message){ .data = data, .size = size };
}

static void all_that_is_told_arrives(void **state)
{
    static const uint32_t values[] = { 0, 1, 0x80000000, UINT32_MAX };
    static const size_t lens[] = { 0, 1, 56, 57, 64, 65, 1000 };
    struct ends ends = ends_new(4);
    uint8_t data[1000], got[1000];
    uint64_t random = 3;

    (void)state;
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < sizeof lens / sizeof lens[0]; k++) {
            struct vrd_message out = message_of(data, lens[k]), in;

            random_fill(&random, data, sizeof data);
            out.opcode = values[i];
            out.flags = values[3 - i];
            out.badge = 99; /* ignored */
            out.max_caps = 4;
            memset(&in, 0xee, sizeof in);
            in.data = got;
            in.size = sizeof got;
            memset(in.reserved, 0, sizeof in.reserved);
            assert_int_equal(vrd_send_message(ends.send, &out, VRD_FOREVER), 0);
            assert_int_equal(vrd_receive_message(ends.receive, &in, VRD_FOREVER), 0);
            assert_int_equal(in.opcode, values[i]);
            assert_int_equal(in.flags, values[3 - i]);
            assert_int_equal(in.badge, 0);
            assert_int_equal(in.n_caps, 0);
            assert_int_equal(in.len, lens[k]);
            assert_int_equal(in.size, sizeof got);
            assert_ptr_equal(in.data, got);
            assert_int_equal(in.source.pid, getpid());
            assert_int_equal(in.source.uid, getuid());
            assert_int_equal(in.source.gid, getgid());
            assert_memory_equal(got, data, lens[k]);
        }
    ends_close(&ends);
}

static void arguments_are_checked(void **state)
{
    struct ends ends = ends_new(4);
    struct vrd_message message = message_of("x", 1);
    vrd_cap_t caps[ENDS_NO_CAPS];
    char byte;

    (void)state;
    ends_settle(&ends);
    assert_int_equal(vrd_send_message(ends.send, NULL, 0), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_receive_message(ends.receive, NULL, 0), VRD_ERR_INVALID_ARGUMENT);
    for (int i = 0; i < 4; i++) {
        message.reserved[i] = 1;
        assert_int_equal(vrd_send_message(ends.send, &message, 0), VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(vrd_receive_message(ends.receive, &message, 0), VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(vrd_send_batch(ends.send, &message, 1, 0), VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(vrd_receive_batch(ends.receive, &message, 1, 0), VRD_ERR_INVALID_ARGUMENT);
        message.reserved[i] = 0;
    }
    message.n_caps = 1;
    assert_int_equal(vrd_send_message(ends.send, &message, 0), VRD_ERR_INVALID_CAPABILITY);
    assert_int_equal(vrd_send_batch(ends.send, &message, 1, 0), VRD_ERR_INVALID_CAPABILITY);
    message.n_caps = 0;
    assert_int_equal(vrd_send_message(ends.send, &message, -2), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_receive_message(ends.receive, &message, -2), VRD_ERR_INVALID_ARGUMENT);
    message.data = NULL;
    assert_int_equal(vrd_send_message(ends.send, &message, 0), VRD_ERR_INVALID_ARGUMENT);
    message.size = 1;
    assert_int_equal(vrd_receive_message(ends.receive, &message, 0), VRD_ERR_INVALID_ARGUMENT);
    message = message_of(&byte, 1);
    assert_int_equal(vrd_send_message(ends.receive, &message, 0), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(vrd_receive_message(ends.send, &message, 0), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(vrd_discard(ends.send), VRD_ERR_PERMISSION_DENIED);
    for (size_t i = ends_no_caps(&ends, caps); i-- > 0;) {
        assert_int_equal(vrd_send_message(caps[i], &message, 0), VRD_ERR_INVALID_CAPABILITY);
        assert_int_equal(vrd_receive_message(caps[i], &message, 0), VRD_ERR_INVALID_CAPABILITY);
        assert_int_equal(vrd_send_batch(caps[i], &message, 1, 0), VRD_ERR_INVALID_CAPABILITY);
        assert_int_equal(vrd_receive_batch(caps[i], &message, 1, 0), VRD_ERR_INVALID_CAPABILITY);
        assert_int_equal(vrd_discard(caps[i]), VRD_ERR_INVALID_CAPABILITY);
    }
    assert_int_equal(vrd_receive_async(ends.receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
    ends_close(&ends);
}

static void too_large_tells_the_length_and_nothing_else(void **state)
{
    static const size_t lens[] = { 2, 64, 65, 500 };
    struct ends ends = ends_new(4);
    uint8_t data[500] = { 1 }, got[500];

    (void)state;
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        struct vrd_message out = message_of(data, lens[i]), in = buffer_of(got, lens[i] - 1);
        struct vrd_message before;

        out.opcode = 5;
        in.opcode = 77;
        in.n_caps = 3;
        in.badge = 8;
        before = in;
        before.len = lens[i];
        assert_int_equal(vrd_send_message(ends.send, &out, 0), 0);
        assert_int_equal(vrd_receive_message(ends.receive, &in, VRD_FOREVER),
                         VRD_ERR_MESSAGE_TOO_LARGE);
        assert_memory_equal(&in, &before, sizeof in);
        in.size = in.len;
        assert_int_equal(vrd_receive_message(ends.receive, &in, 0), 0);
        assert_int_equal(in.opcode, 5);
    }
    ends_close(&ends);
}

static void a_failure_changes_nothing(void **state)
{
    struct ends ends = ends_new(4);
    char byte;
    struct vrd_message in = buffer_of(&byte, 1), before;

    (void)state;
    in.opcode = 4;
    in.len = 17;
    before = in;
    assert_int_equal(vrd_receive_message(ends.receive, &in, 0), VRD_ERR_CHANNEL_EMPTY);
    assert_int_equal(vrd_receive_message(ends.receive, &in, 1), VRD_ERR_TIMEOUT);
    assert_memory_equal(&in, &before, sizeof in);
    assert_int_equal(vrd_cap_close(ends.send), 0);
    assert_int_equal(vrd_receive_message(ends.receive, &in, VRD_FOREVER), VRD_ERR_PEER_GONE);
    assert_memory_equal(&in, &before, sizeof in);
    assert_int_equal(vrd_cap_close(ends.receive), 0);
}

static void discard_drops_what_was_too_large_and_only_that(void **state)
{
    static const size_t lens[] = { 10, 200 };
    struct ends ends = ends_new(4);
    uint8_t data[200] = { 1 };
    char byte;

    (void)state;
    assert_int_equal(vrd_discard(ends.receive), VRD_ERR_CHANNEL_EMPTY);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(vrd_send(ends.send, data, lens[i]), 0);
        assert_int_equal(vrd_send(ends.send, "n", 1), 0);
        assert_int_equal(vrd_discard(ends.receive), VRD_ERR_CHANNEL_EMPTY);
        assert_int_equal(vrd_receive(ends.receive, &byte, 1), VRD_ERR_MESSAGE_TOO_LARGE);
        assert_int_equal(vrd_discard(ends.receive), 0);
        assert_int_equal(vrd_discard(ends.receive), VRD_ERR_CHANNEL_EMPTY);
        assert_int_equal(vrd_receive(ends.receive, &byte, 1), 1);
        assert_int_equal(byte, 'n');
    }
    /* Received after all: there is nothing to be dropped any more. */
    assert_int_equal(vrd_send(ends.send, data, 10), 0);
    assert_int_equal(vrd_receive(ends.receive, &byte, 1), VRD_ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(vrd_receive(ends.receive, data, 10), 10);
    assert_int_equal(vrd_send(ends.send, "k", 1), 0);
    assert_int_equal(vrd_discard(ends.receive), VRD_ERR_CHANNEL_EMPTY);
    assert_int_equal(vrd_receive(ends.receive, &byte, 1), 1);
    assert_int_equal(byte, 'k');
    ends_close(&ends);
}

static void discarding_makes_room(void **state)
{
    struct ends ends = ends_new(2);
    char byte;

    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(vrd_send_async(ends.send, "xx", 2), 0);
        assert_int_equal(vrd_send_async(ends.send, "xx", 2), 0);
        assert_int_equal(vrd_send_async(ends.send, "xx", 2), VRD_ERR_CHANNEL_FULL);
        for (int k = 0; k < 2; k++) {
            assert_int_equal(vrd_receive(ends.receive, &byte, 1), VRD_ERR_MESSAGE_TOO_LARGE);
            assert_int_equal(vrd_discard(ends.receive), 0);
        }
        assert_int_equal(vrd_receive_async(ends.receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
    }
    ends_close(&ends);
}

/* --- batches ------------------------------------------------------------------------------------------ */

#define BATCH 40

static void batches_of_none_and_of_too_many(void **state)
{
    struct ends ends = ends_new(4);
    struct vrd_message message = message_of("x", 1);

    (void)state;
    for (int settled = 0; settled <= 1; settled++) {
        assert_int_equal(vrd_send_batch(ends.send, NULL, 0, VRD_FOREVER), 0);
        assert_int_equal(vrd_send_batch(ends.send, &message, 0, 0), 0);
        assert_int_equal(vrd_receive_batch(ends.receive, NULL, 0, VRD_FOREVER), 0);
        assert_int_equal(vrd_send_batch(ends.send, NULL, 1, 0), VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(vrd_receive_batch(ends.receive, NULL, 1, 0), VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(vrd_send_batch(ends.send, &message, (size_t)INT_MAX + 1, 0),
                         VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(vrd_receive_batch(ends.receive, &message, SIZE_MAX, 0),
                         VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(vrd_send_batch(ends.send, &message, 1, -2), VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(vrd_receive_batch(ends.receive, &message, 1, -2),
                         VRD_ERR_INVALID_ARGUMENT);
        ends_settle(&ends);
    }
    ends_close(&ends);
}

static void a_batch_sends_what_fits_and_receives_what_is_there(void **state)
{
    static const size_t slots[] = { 1, 3, 16, 64 };
    struct vrd_message out[BATCH], in[BATCH];
    uint32_t numbers[BATCH], got[BATCH];

    (void)state;
    for (size_t s = 0; s < sizeof slots / sizeof slots[0]; s++) {
        struct ends ends = ends_new(slots[s]);
        const size_t most = slots[s] < BATCH ? slots[s] : BATCH;

        for (int lap = 0; lap < 4; lap++) {
            for (uint32_t i = 0; i < BATCH; i++) {
                numbers[i] = i * 3 + (uint32_t)lap;
                out[i] = message_of(&numbers[i], sizeof numbers[i]);
                out[i].opcode = lap & 1 ? i : 0; /* with and without the fast path */
                in[i] = buffer_of(&got[i], sizeof got[i]);
            }
            assert_int_equal(vrd_send_batch(ends.send, out, BATCH, 0), most);
            if (most == slots[s]) {
                assert_int_equal(vrd_send_batch(ends.send, out, BATCH, 0), VRD_ERR_CHANNEL_FULL);
                assert_int_equal(vrd_send_batch(ends.send, out, 1, 1), VRD_ERR_TIMEOUT);
            }
            assert_int_equal(vrd_receive_batch(ends.receive, in, BATCH, VRD_FOREVER), most);
            for (uint32_t i = 0; i < most; i++) {
                assert_int_equal(got[i], numbers[i]);
                assert_int_equal(in[i].len, sizeof got[i]);
                assert_int_equal(in[i].opcode, lap & 1 ? i : 0);
                assert_int_equal(in[i].source.pid, getpid());
            }
            assert_int_equal(vrd_receive_batch(ends.receive, in, BATCH, 0), VRD_ERR_CHANNEL_EMPTY);
            assert_int_equal(vrd_receive_batch(ends.receive, in, 1, 1), VRD_ERR_TIMEOUT);
        }
        ends_close(&ends);
    }
}

/* An error at a later message ends the batch before it; at the first it is the result. */
static void an_error_ends_the_batch(void **state)
{
    struct ends ends = ends_new_with(16, 100);
    static uint8_t data[101];
    char got;

    (void)state;
    for (int kind = 0; kind < 4; kind++)
        for (int at = 0; at < 5; at++) {
            struct vrd_message out[5];
            int expected = VRD_ERR_INVALID_ARGUMENT;

            for (int i = 0; i < 5; i++)
                out[i] = message_of(data, 1);
            if (kind == 0) {
                out[at].len = 101;
                expected = VRD_ERR_MESSAGE_TOO_LARGE;
            } else if (kind == 1) {
                out[at].data = NULL;
            } else if (kind == 2) {
                out[at].reserved[3] = 1;
            } else {
                out[at].n_caps = 1;
                expected = VRD_ERR_INVALID_CAPABILITY;
            }
            assert_int_equal(vrd_send_batch(ends.send, out, 5, 0), at == 0 ? expected : at);
            for (int i = 0; i < at; i++)
                assert_int_equal(vrd_receive_async(ends.receive, &got, 1), 1);
            assert_int_equal(vrd_receive_async(ends.receive, &got, 1), VRD_ERR_CHANNEL_EMPTY);
        }
    ends_close(&ends);
}

static void a_buffer_too_small_ends_the_batch(void **state)
{
    struct ends ends = ends_new(16);
    uint8_t data[100] = { 0 }, got[5][100];

    (void)state;
    for (size_t len = 8; len <= 80; len += 72)
        for (int at = 0; at < 5; at++) {
            struct vrd_message in[5];

            for (int i = 0; i < 5; i++) {
                in[i] = buffer_of(got[i], i == at ? len - 1 : len);
                assert_int_equal(vrd_send(ends.send, data, len), 0);
            }
            assert_int_equal(vrd_receive_batch(ends.receive, in, 5, 0),
                             at == 0 ? VRD_ERR_MESSAGE_TOO_LARGE : at);
            for (int i = at; i < 5; i++)
                assert_int_equal(vrd_receive_async(ends.receive, got[0], sizeof got[0]), len);
        }
    ends_close(&ends);
}

static void mixed_batches_arrive_in_order(void **state)
{
    struct ends ends = ends_new(50);
    static uint8_t data[BATCH][3000], got[BATCH][3000];
    struct vrd_message out[BATCH], in[BATCH];
    uint64_t random = 21;

    (void)state;
    for (int lap = 0; lap < 50; lap++) {
        int sent = 0, received = 0;

        for (int i = 0; i < BATCH; i++) {
            const size_t len = random_below(&random, 3) == 0 ? random_below(&random, 3000)
                                                             : random_below(&random, 65);

            random_fill(&random, data[i], len);
            out[i] = message_of(data[i], len);
            out[i].flags = random_below(&random, 4) == 0 ? (uint32_t)i : 0;
            in[i] = buffer_of(got[i], sizeof got[i]);
        }
        while (received < BATCH) {
            if (sent < BATCH) {
                const int n = vrd_send_batch(ends.send, out + sent, (size_t)(BATCH - sent), 0);

                assert_true(n > 0 || n == VRD_ERR_CHANNEL_FULL);
                sent += n > 0 ? n : 0;
            }
            const int n = vrd_receive_batch(ends.receive, in + received,
                                            1 + random_below(&random, (uint64_t)(BATCH - received)),
                                            VRD_FOREVER);
            assert_true(n > 0);
            received += n;
        }
        for (int i = 0; i < BATCH; i++) {
            assert_int_equal(in[i].len, out[i].len);
            assert_int_equal(in[i].flags, out[i].flags);
            assert_memory_equal(got[i], data[i], in[i].len);
        }
    }
    ends_close(&ends);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(all_that_is_told_arrives),
                     SUPPORT_TEST(arguments_are_checked),
                     SUPPORT_TEST(too_large_tells_the_length_and_nothing_else),
                     SUPPORT_TEST(a_failure_changes_nothing),
                     SUPPORT_TEST(discard_drops_what_was_too_large_and_only_that),
                     SUPPORT_TEST(discarding_makes_room),
                     SUPPORT_TEST(batches_of_none_and_of_too_many),
                     SUPPORT_TEST(a_batch_sends_what_fits_and_receives_what_is_there),
                     SUPPORT_TEST(an_error_ends_the_batch),
                     SUPPORT_TEST(a_buffer_too_small_ends_the_batch),
                     SUPPORT_TEST(mixed_batches_arrive_in_order),
                     { 0 },
                 },
             .warm_up = ends_warm_up)
