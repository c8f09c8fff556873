/* SPDX-License-Identifier: MIT */
/* Many threads on one capability: every message once, and in order where there is an order. */
#include "process/channels.h"

#include <pthread.h>
#include <stdatomic.h>

#define THREADS_MAX 8
#define PER_THREAD 4000

struct job {
    vrd_cap_t cap;
    uint32_t sender;
    uint32_t n;
    size_t batch; /* messages a call; 0: one, by the plain call */
    uint32_t n_senders;
    atomic_uchar *seen; /* for each sender, for each message */
};

static void *send_all(void *arg)
{
    const struct job *job = arg;

    for (uint32_t i = 0; i < job->n; i++)
        numbered_send(job->cap, job->sender, i, 8 + (i + job->sender) % 120);
    return NULL;
}

static void *send_all_in_batches(void *arg)
{
    const struct job *job = arg;
    struct vrd_message messages[8];
    uint8_t data[8][8];

    memset(messages, 0, sizeof messages);
    for (uint32_t sent = 0; sent < job->n;) {
        const uint32_t n = job->n - sent < job->batch ? job->n - sent : (uint32_t)job->batch;

        for (uint32_t i = 0; i < n; i++) {
            number_fill(data[i], 8, (struct number){ job->sender, sent + i });
            messages[i].data = data[i];
            messages[i].len = 8;
        }
        const int result = vrd_send_batch(job->cap, messages, n, VRD_FOREVER);
        support_require(result > 0 && (uint32_t)result <= n);
        sent += (uint32_t)result;
    }
    return NULL;
}

static void see(const struct job *job, struct number number)
{
    support_require(number.sender < job->n_senders && number.index < job->n);
    EXPECT(atomic_fetch_add(&job->seen[number.sender * job->n + number.index], 1), 0);
}

/* Until every sender is gone. */
static void *receive_all(void *arg)
{
    const struct job *job = arg;
    int64_t last[THREADS_MAX];
    struct number number;
    int64_t result;

    for (size_t i = 0; i < THREADS_MAX; i++)
        last[i] = -1;
    while ((result = numbered_receive_any(job->cap, &number, VRD_FOREVER)) >= 0) {
        see(job, number);
        /* Others may have had what is missing, but nobody sees a sender go back. */
        support_require(number.index > last[number.sender]);
        last[number.sender] = number.index;
    }
    EXPECT(result, VRD_ERR_PEER_GONE);
    return NULL;
}

static void *receive_all_in_batches(void *arg)
{
    const struct job *job = arg;
    struct vrd_message messages[8];
    uint8_t data[8][128];
    int result;

    memset(messages, 0, sizeof messages);
    for (size_t i = 0; i < 8; i++) {
        messages[i].data = data[i];
        messages[i].size = sizeof data[i];
    }
    while ((result = vrd_receive_batch(job->cap, messages, job->batch, VRD_FOREVER)) > 0)
        for (size_t i = 0; i < (size_t)result; i++)
            see(job, number_of(data[i]));
    EXPECT(result, VRD_ERR_PEER_GONE);
    return NULL;
}

static void run(uint32_t n_senders, uint32_t n_receivers, size_t slots, size_t batch)
{
    const uint32_t n = (uint32_t)support_iterations(PER_THREAD);
    const struct ends ends = ends_new(slots);
    struct job jobs[THREADS_MAX];
    struct job receiver = { .cap = ends.receive,
                            .n = n,
                            .batch = batch,
                            .n_senders = n_senders,
                            .seen = calloc((size_t)n_senders * n, 1) };
    pthread_t senders[THREADS_MAX], receivers[THREADS_MAX];

    support_require(receiver.seen != NULL);
    for (uint32_t i = 0; i < n_receivers; i++)
        EXPECT(pthread_create(&receivers[i], NULL, batch ? receive_all_in_batches : receive_all,
                              &receiver),
               0);
    for (uint32_t i = 0; i < n_senders; i++) {
        jobs[i] = (struct job){ .cap = ends.send, .sender = i, .n = n, .batch = batch };
        EXPECT(pthread_create(&senders[i], NULL, batch ? send_all_in_batches : send_all, &jobs[i]),
               0);
    }
    for (uint32_t i = 0; i < n_senders; i++)
        EXPECT(pthread_join(senders[i], NULL), 0);
    EXPECT(vrd_cap_close(ends.send), 0);
    for (uint32_t i = 0; i < n_receivers; i++)
        EXPECT(pthread_join(receivers[i], NULL), 0);
    EXPECT(vrd_cap_close(ends.receive), 0);
    for (size_t i = 0; i < (size_t)n_senders * n; i++)
        EXPECT(receiver.seen[i], 1);
    free(receiver.seen);
}

static void test_one_to_one(void **state)
{
    (void)state;
    run(1, 1, 1, 0);
    run(1, 1, 16, 0);
    run(1, 1, 1000, 0);
}

static void test_many_senders(void **state)
{
    (void)state;
    run(2, 1, 16, 0);
    run(8, 1, 3, 0);
}

static void test_many_receivers(void **state)
{
    (void)state;
    run(1, 2, 16, 0);
    run(1, 8, 3, 0);
}

static void test_many_of_both(void **state)
{
    (void)state;
    run(2, 2, 1, 0);
    run(4, 4, 16, 0);
    run(8, 8, 64, 0);
}

static void test_batches(void **state)
{
    (void)state;
    run(1, 1, 16, 8);
    run(4, 1, 3, 5);
    run(4, 4, 64, 8);
}

/* ---- a capability for each thread --------------------------------------------------------------- */

static void *send_all_and_close(void *arg)
{
    const struct job *job = arg;

    send_all(arg);
    EXPECT(vrd_cap_close(job->cap), 0);
    return NULL;
}

static void test_a_capability_for_each_thread(void **state)
{
    const struct ends ends = ends_new(8);
    const uint32_t n = (uint32_t)support_iterations(PER_THREAD);
    struct job jobs[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    uint32_t counts[THREADS_MAX];

    (void)state;
    for (uint32_t i = 0; i < THREADS_MAX; i++) {
        jobs[i] = (struct job){ .cap = sender_new(ends.send), .sender = i, .n = n };
        counts[i] = n;
        EXPECT(pthread_create(&threads[i], NULL, send_all_and_close, &jobs[i]), 0);
    }
    EXPECT(vrd_cap_close(ends.send), 0);
    numbered_drain(ends.receive, counts, THREADS_MAX);
    for (uint32_t i = 0; i < THREADS_MAX; i++)
        EXPECT(pthread_join(threads[i], NULL), 0);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

/* ---- message too large beside other receivers ---------------------------------------------------- */

/* A message that one thread's buffer is too small for is received by whoever can, or discarded,
 * never both and never twice. */
struct picky {
    vrd_cap_t cap;
    bool small; /* its buffer */
    atomic_uint *received;
    atomic_uint *discarded;
};

static void *receive_picky(void *arg)
{
    const struct picky *picky = arg;
    uint8_t data[256];
    ssize_t result;

    while ((result = vrd_receive(picky->cap, data, picky->small ? 100 : 256)) !=
           VRD_ERR_PEER_GONE) {
        if (result >= 0) {
            number_check(data, (size_t)result, number_of(data));
            atomic_fetch_add(picky->received, 1);
            continue;
        }
        EXPECT(result, VRD_ERR_MESSAGE_TOO_LARGE);
        const int discarded = vrd_discard(picky->cap);
        support_require(discarded == 0 || discarded == VRD_ERR_CHANNEL_EMPTY);
        if (discarded == 0)
            atomic_fetch_add(picky->discarded, 1);
    }
    return NULL;
}

static void test_discard_beside_receivers(void **state)
{
    const uint32_t n = (uint32_t)support_iterations(6000);
    const struct ends ends = ends_new(16);
    atomic_uint received = 0, discarded = 0;
    struct picky picky[4];
    pthread_t threads[4];

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        picky[i] = (struct picky){ ends.receive, i % 2, &received, &discarded };
        EXPECT(pthread_create(&threads[i], NULL, receive_picky, &picky[i]), 0);
    }
    for (uint32_t i = 0; i < n; i++)
        numbered_send(ends.send, 1, i, i % 2 ? 200 : 20);
    EXPECT(vrd_cap_close(ends.send), 0);
    for (size_t i = 0; i < 4; i++)
        EXPECT(pthread_join(threads[i], NULL), 0);
    EXPECT(received + discarded, n);
    support_require(received >= n / 2);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_one_to_one),
                     SUPPORT_TEST(test_many_senders),
                     SUPPORT_TEST(test_many_receivers),
                     SUPPORT_TEST(test_many_of_both),
                     SUPPORT_TEST(test_batches),
                     SUPPORT_TEST(test_a_capability_for_each_thread),
                     SUPPORT_TEST(test_discard_beside_receivers),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
