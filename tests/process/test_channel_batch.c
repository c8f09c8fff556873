/* SPDX-License-Identifier: MIT */
/* Many messages a call: all, some or none of them, and always in order. */
#include "process/channels.h"

#include <limits.h>

#define N 64
#define ROOM 4096

/* Descriptions and buffers for up to N messages. */
struct batch {
    struct vrd_message messages[N];
    uint8_t data[N][ROOM];
};

static struct batch *batch_new(void)
{
    struct batch *batch = calloc(1, sizeof *batch);

    support_require(batch != NULL);
    for (size_t i = 0; i < N; i++) {
        batch->messages[i].data = batch->data[i];
        batch->messages[i].size = ROOM;
    }
    return batch;
}

static void batch_set(struct batch *batch, size_t at, uint32_t index, size_t len)
{
    batch->messages[at].len = len;
    batch->messages[at].opcode = index % 3 ? index : 0;
    batch->messages[at].flags = index % 5 ? 0 : index;
    number_fill(batch->data[at], len, (struct number){ 6, index });
}

static void batch_check(const struct batch *batch, size_t at, uint32_t index, size_t len)
{
    EXPECT(batch->messages[at].len, len);
    EXPECT(batch->messages[at].opcode, index % 3 ? index : 0);
    EXPECT(batch->messages[at].flags, index % 5 ? 0 : index);
    EXPECT(batch->messages[at].source.pid, getpid());
    EXPECT(batch->messages[at].n_caps, 0);
    number_check(batch->data[at], len, (struct number){ 6, index });
}

static size_t len_of(uint32_t index)
{
    return (size_t)index * 37 % 300;
}

static void test_whole_batches_of_mixed_sizes(void **state)
{
    const struct ends ends = ends_new(N);
    struct batch *batch = batch_new();
    uint32_t sent = 0, received = 0;

    (void)state;
    for (size_t n = 1; n <= N; n++) {
        for (size_t i = 0; i < n; i++, sent++)
            batch_set(batch, i, sent, len_of(sent));
        EXPECT(vrd_send_batch(ends.send, batch->messages, n, VRD_FOREVER), n);
        EXPECT(vrd_receive_batch(ends.receive, batch->messages, n, VRD_FOREVER), n);
        for (size_t i = 0; i < n; i++, received++)
            batch_check(batch, i, received, len_of(received));
    }
    free(batch);
    ends_close(&ends);
}

static void test_what_fits_is_sent(void **state)
{
    const struct ends ends = ends_new(5);
    struct batch *batch = batch_new();

    (void)state;
    for (uint32_t i = 0; i < 12; i++)
        batch_set(batch, i, i, len_of(i));
    EXPECT(vrd_send_batch(ends.send, batch->messages, 12, 0), 5);
    EXPECT(vrd_send_batch(ends.send, batch->messages + 5, 7, 0), VRD_ERR_CHANNEL_FULL);
    EXPECT(vrd_send_batch(ends.send, batch->messages + 5, 7, MS), VRD_ERR_TIMEOUT);
    struct batch *got = batch_new();
    EXPECT(vrd_receive_batch(ends.receive, got->messages, 2, 0), 2);
    EXPECT(vrd_send_batch(ends.send, batch->messages + 5, 7, VRD_FOREVER), 2);
    EXPECT(vrd_receive_batch(ends.receive, got->messages + 2, N - 2, 0), 5);
    EXPECT(vrd_send_batch(ends.send, batch->messages + 7, 5, VRD_FOREVER), 5);
    EXPECT(vrd_receive_batch(ends.receive, got->messages + 7, N - 7, VRD_FOREVER), 5);
    for (uint32_t i = 0; i < 12; i++)
        batch_check(got, i, i, len_of(i));
    EXPECT(vrd_receive_batch(ends.receive, got->messages, N, 0), VRD_ERR_CHANNEL_EMPTY);
    EXPECT(vrd_receive_batch(ends.receive, got->messages, N, MS), VRD_ERR_TIMEOUT);
    free(got);
    free(batch);
    ends_close(&ends);
}

static void test_no_messages(void **state)
{
    const struct ends ends = ends_new(1);

    (void)state;
    EXPECT(vrd_send_batch(ends.send, NULL, 0, 0), 0);
    EXPECT(vrd_send(ends.send, "x", 1), 0);
    EXPECT(vrd_send_batch(ends.send, NULL, 0, VRD_FOREVER), 0);
    ends_close(&ends);
}

static void test_refused_arguments(void **state)
{
    const struct ends ends = ends_new(4);
    char byte = 1;
    struct vrd_message message = { .data = &byte, .len = 1, .size = 1 };

    (void)state;
    EXPECT(vrd_send_batch(ends.send, NULL, 1, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_batch(ends.receive, NULL, 1, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_send_batch(ends.send, &message, (size_t)INT_MAX + 1, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_batch(ends.receive, &message, (size_t)INT_MAX + 1, 0),
           VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_send_batch(ends.send, &message, 1, -2), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_batch(ends.receive, &message, 1, -2), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_batch(ends.receive, &message, 1, 0), VRD_ERR_CHANNEL_EMPTY);
    ends_close(&ends);
}

/* A bad message at the front is the call's error; later it only ends the batch before it. */
static void check_bad_message(const struct ends *ends, struct batch *batch, size_t at, int error)
{
    const int result = vrd_send_batch(ends->send, batch->messages, 8, 0);

    EXPECT(result, at == 0 ? error : (int)at);
    for (uint32_t i = 0; i < at; i++)
        numbered_receive(ends->receive, 6, i, 50);
    EXPECT(vrd_receive_async(ends->receive, NULL, 0), VRD_ERR_CHANNEL_EMPTY);
}

static void test_bad_messages_in_a_batch(void **state)
{
    const struct vrd_channel_options options = { .slots = 8, .max_message_size = 50 };
    struct ends ends;
    struct batch *batch = batch_new();

    (void)state;
    EXPECT(vrd_channel_create_with(&options, &ends.send, &ends.receive), 0);
    for (uint32_t i = 0; i < 8; i++)
        batch_set(batch, i, i, 50);
    for (size_t at = 0; at < 8; at++) {
        struct vrd_message *bad = &batch->messages[at];
        const struct vrd_message good = *bad;

        bad->len = 51;
        check_bad_message(&ends, batch, at, VRD_ERR_MESSAGE_TOO_LARGE);
        *bad = good;
        bad->data = NULL;
        check_bad_message(&ends, batch, at, VRD_ERR_INVALID_ARGUMENT);
        *bad = good;
        bad->reserved[0] = 1;
        check_bad_message(&ends, batch, at, VRD_ERR_INVALID_ARGUMENT);
        *bad = good;
        bad->n_caps = 1;
        check_bad_message(&ends, batch, at, VRD_ERR_INVALID_CAPABILITY);
        *bad = good;
    }
    EXPECT(vrd_send_batch(ends.send, batch->messages, 8, 0), 8);
    free(batch);
    ends_close(&ends);
}

static void test_receive_batch_stops_at_a_large_message(void **state)
{
    const struct ends ends = ends_new(8);
    struct batch *batch = batch_new();

    (void)state;
    for (uint32_t i = 0; i < 5; i++)
        numbered_send(ends.send, 6, i, i == 3 ? 100 : 10);
    for (size_t i = 0; i < N; i++)
        batch->messages[i].size = 99;
    batch->messages[3].len = 7;
    EXPECT(vrd_receive_batch(ends.receive, batch->messages, N, VRD_FOREVER), 3);
    EXPECT(batch->messages[3].len, 7);
    EXPECT(vrd_discard(ends.receive), VRD_ERR_CHANNEL_EMPTY); /* nobody was told of it */
    for (uint32_t i = 0; i < 3; i++)
        number_check(batch->data[i], 10, (struct number){ 6, i });
    EXPECT(vrd_receive_batch(ends.receive, batch->messages, N, VRD_FOREVER),
           VRD_ERR_MESSAGE_TOO_LARGE);
    EXPECT(batch->messages[0].len, 100);
    EXPECT(vrd_discard(ends.receive), 0);
    EXPECT(vrd_receive_batch(ends.receive, batch->messages, N, VRD_FOREVER), 1);
    number_check(batch->data[0], 10, (struct number){ 6, 4 });
    free(batch);
    ends_close(&ends);
}

/* Reserved fields: refused at the front, and the end of the batch later on; nothing is lost. */
static void test_bad_places_in_a_batch(void **state)
{
    const struct ends ends = ends_new(8);
    struct batch *batch = batch_new();

    (void)state;
    for (uint32_t length = 10; length <= 100; length += 90) {
        for (uint32_t i = 0; i < 5; i++)
            numbered_send(ends.send, 6, i, length);
        batch->messages[3].reserved[2] = 1;
        EXPECT(vrd_receive_batch(ends.receive, batch->messages, N, 0), 3);
        EXPECT(vrd_receive_batch(ends.receive, batch->messages + 3, 1, 0),
               VRD_ERR_INVALID_ARGUMENT);
        batch->messages[3].reserved[2] = 0;
        EXPECT(vrd_receive_batch(ends.receive, batch->messages + 3, N - 3, 0), 2);
        for (uint32_t i = 0; i < 5; i++)
            number_check(batch->data[i], length, (struct number){ 6, i });
    }
    free(batch);
    ends_close(&ends);
}

/* Messages over 64 bytes: a batch ends behind 16 KiB of them, and the next one goes on there. */
static void test_receive_batch_ends_behind_many_bytes(void **state)
{
    const struct ends ends = ends_new(16);
    struct vrd_message messages[8] = { { 0 } };
    static uint8_t out[4096], in[8][4096];

    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        messages[i].data = in[i];
        messages[i].size = sizeof(in[i]);
        memset(out, (int)i + 1, sizeof(out));
        EXPECT(vrd_send(ends.send, out, sizeof(out)), 0);
    }
    for (uint32_t i = 0; i < 8; i += 4)
        EXPECT(vrd_receive_batch(ends.receive, messages + i, 8 - i, 0), 4);
    for (uint32_t i = 0; i < 8; i++) {
        memset(out, (int)i + 1, sizeof(out));
        EXPECT(memcmp(in[i], out, sizeof(out)), 0);
        EXPECT(messages[i].len, sizeof(out));
    }
    ends_close(&ends);
}

static void test_receive_batch_from_many_senders(void **state)
{
    const struct ends ends = ends_new(16);
    struct batch *batch = batch_new();
    vrd_cap_t senders[20];
    uint32_t next[20] = { 0 }, got = 0;

    (void)state;
    for (uint32_t s = 0; s < 20; s++) {
        senders[s] = sender_new(ends.send);
        for (uint32_t i = 0; i < 16; i++)
            numbered_send(senders[s], s, i, 20);
        EXPECT(vrd_cap_close(senders[s]), 0);
    }
    EXPECT(vrd_cap_close(ends.send), 0);
    while (got < 20 * 16) {
        const int n = vrd_receive_batch(ends.receive, batch->messages, N, VRD_FOREVER);

        support_require(n > 0 && n <= N);
        for (size_t i = 0; i < (size_t)n; i++) {
            const struct number number = number_of(batch->data[i]);

            support_require(number.sender < 20);
            number_check(batch->data[i], 20,
                         (struct number){ number.sender, next[number.sender]++ });
        }
        got += (uint32_t)n;
    }
    EXPECT(vrd_receive_batch(ends.receive, batch->messages, N, VRD_FOREVER), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(ends.receive), 0);
    free(batch);
}

/* ---- between processes ------------------------------------------------------------------------ */

#define STREAM 20000

static int send_in_batches(void *arg)
{
    const struct ends *ends = arg;
    struct batch *batch = batch_new();
    uint64_t seed = 88172645463325252u;
    uint32_t sent = 0;

    EXPECT(vrd_cap_close(ends->receive), 0);
    while (sent < STREAM) {
        size_t n = 1 + random_next(&seed) % N;

        n = n > STREAM - sent ? STREAM - sent : n;
        for (size_t i = 0; i < n; i++) {
            batch->messages[i].len = 8 + (sent + i) % 100;
            number_fill(batch->data[i], batch->messages[i].len,
                        (struct number){ 6, sent + (uint32_t)i });
        }
        const int result = vrd_send_batch(ends->send, batch->messages, n, VRD_FOREVER);
        support_require(result > 0 && (size_t)result <= n);
        sent += (uint32_t)result;
    }
    free(batch);
    return 0;
}

static void stream_in_batches(size_t slots)
{
    struct ends ends = ends_new(slots);
    const pid_t child = support_child(send_in_batches, &ends);
    struct batch *batch = batch_new();
    uint64_t seed = 2463534242u;
    uint32_t received = 0;

    EXPECT(vrd_cap_close(ends.send), 0);
    for (;;) {
        const size_t n = 1 + random_next(&seed) % N;
        const int result = vrd_receive_batch(ends.receive, batch->messages, n, VRD_FOREVER);

        if (result == VRD_ERR_PEER_GONE)
            break;
        support_require(result > 0 && (size_t)result <= n);
        for (size_t i = 0; i < (size_t)result; i++, received++) {
            EXPECT(batch->messages[i].len, 8 + received % 100);
            number_check(batch->data[i], batch->messages[i].len, (struct number){ 6, received });
        }
    }
    EXPECT(received, STREAM);
    EXPECT(vrd_cap_close(ends.receive), 0);
    support_wait_exit(child, 0);
    free(batch);
}

static void test_batches_between_processes(void **state)
{
    (void)state;
    stream_in_batches(1);
    stream_in_batches(16);
    stream_in_batches(1000);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_whole_batches_of_mixed_sizes),
                     SUPPORT_TEST(test_what_fits_is_sent),
                     SUPPORT_TEST(test_no_messages),
                     SUPPORT_TEST(test_refused_arguments),
                     SUPPORT_TEST(test_bad_messages_in_a_batch),
                     SUPPORT_TEST(test_receive_batch_stops_at_a_large_message),
                     SUPPORT_TEST(test_bad_places_in_a_batch),
                     SUPPORT_TEST(test_receive_batch_ends_behind_many_bytes),
                     SUPPORT_TEST(test_receive_batch_from_many_senders),
                     SUPPORT_TEST(test_batches_between_processes),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
