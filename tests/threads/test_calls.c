/* SPDX-License-Identifier: MIT */
/*
 * Many threads call, many serve, through capabilities that they share: each caller gets the answer to
 * its own request, whoever answers, in whatever order; and closing beside all that harms nobody.
 */
#include "process/endpoints.h"

#include <pthread.h>
#include <stdatomic.h>

#define CALLERS 6
#define SERVERS 3

static atomic_bool closing; /* only then may a capability be gone that nobody has used up */

struct caller {
    vrd_cap_t cap;
    uint32_t number, calls;
    uint32_t done;
};

/* Some calls give up before their answer, and none gets another's. */
static void *call_some(void *arg)
{
    struct caller *caller = arg;
    uint64_t seed = caller->number;
    uint8_t data[2000], reply[2000];

    for (uint32_t i = 0; i < caller->calls; i++) {
        const uint64_t dice = random_next(&seed);
        const size_t len = 8 + (dice % 16 == 0 ? dice / 16 % 1900 : dice / 16 % 80);
        const int64_t timeout =
            dice / 65536 % 8 == 0 ? (int64_t)(dice / 1048576 % 50000) : VRD_FOREVER;
        ssize_t result;

        number_fill(data, len, (struct number){ caller->number, i });
        result = vrd_call(caller->cap, data, len, reply, sizeof reply, timeout);
        if (result >= 0) {
            EXPECT(result, len);
            number_check(reply, len, (struct number){ ANSWERER(caller->number), i });
            caller->done++;
            continue;
        }
        if (result == VRD_ERR_INVALID_CAPABILITY || result == VRD_ERR_PEER_GONE) {
            support_require(atomic_load(&closing));
            break;
        }
        support_require(timeout != VRD_FOREVER &&
                        (result == VRD_ERR_TIMEOUT || result == VRD_ERR_ENDPOINT_BUSY));
    }
    return NULL;
}

/* Answers late and in another order: up to eight requests are in hand at a time. */
static void *serve_shuffled(void *arg)
{
    const vrd_cap_t cap = *(const vrd_cap_t *)arg;
    struct {
        vrd_cap_t reply;
        size_t len;
        uint8_t data[2000];
    } hand[8];
    uint64_t seed = cap;
    size_t held = 0;
    int result;

    do {
        struct vrd_message request = { .data = hand[held].data, .size = sizeof hand[held].data };

        result = vrd_receive_call(cap, &request, &hand[held].reply,
                                  held > 0 ? (int64_t)(random_next(&seed) % 50000) : VRD_FOREVER);
        if (result == 0) {
            hand[held].len = request.len;
            number_answer(hand[held].data, request.len);
            held++;
        }
        while (held > 0 && (result != 0 || held == 8 || random_next(&seed) % 3 == 0)) {
            const size_t at = random_next(&seed) % held;
            const int told = vrd_reply(hand[at].reply, hand[at].data, hand[at].len);

            support_require(told == 0 || told == VRD_ERR_TIMEOUT || told == VRD_ERR_PEER_GONE ||
                            (told == VRD_ERR_INVALID_CAPABILITY && atomic_load(&closing)));
            hand[at] = hand[--held];
        }
    } while (result == 0 || result == VRD_ERR_TIMEOUT || result == VRD_ERR_CHANNEL_EMPTY);
    support_require(result == VRD_ERR_INVALID_CAPABILITY || result == VRD_ERR_PEER_GONE);
    return NULL;
}

static void *serve_plainly(void *arg)
{
    serve_combined(*(const vrd_cap_t *)arg, 4096);
    return NULL;
}

/* `shared`: all callers through one capability; else one each. */
static void run(bool shared, void *(*serve_with)(void *), uint32_t calls, bool close_beside)
{
    vrd_cap_t cap = endpoint_new(), client = client_new(cap);
    struct caller callers[CALLERS];
    pthread_t threads[CALLERS], servers[SERVERS];

    atomic_store(&closing, false);
    for (size_t i = 0; i < SERVERS; i++)
        EXPECT(pthread_create(&servers[i], NULL, serve_with, &cap), 0);
    for (uint32_t i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){ .cap = shared   ? client
                                             : i == 0 ? cap
                                                      : client_new(cap),
                                      .number = i,
                                      .calls = calls };
        EXPECT(pthread_create(&threads[i], NULL, call_some, &callers[i]), 0);
    }
    if (close_beside) {
        support_sleep_ms(calls % 7);
        atomic_store(&closing, true);
        for (uint32_t i = 0; i < CALLERS && calls % 2; i++) /* callers first, or the server */
            vrd_cap_close(callers[i].cap);
        EXPECT(vrd_cap_close(cap), calls % 2 && !shared ? VRD_ERR_INVALID_CAPABILITY : 0);
    }
    for (uint32_t i = 0; i < CALLERS; i++) {
        EXPECT(pthread_join(threads[i], NULL), 0);
        if (!close_beside)
            support_require(callers[i].done > calls / 2);
    }
    for (uint32_t i = 0; i < CALLERS && !shared; i++)
        if (callers[i].cap != cap)
            vrd_cap_close(callers[i].cap);
    vrd_cap_close(client);
    atomic_store(&closing, true);
    vrd_cap_close(cap);
    for (size_t i = 0; i < SERVERS; i++)
        EXPECT(pthread_join(servers[i], NULL), 0);
}

static void test_through_one_capability(void **state)
{
    (void)state;
    run(true, serve_plainly, (uint32_t)support_iterations(3000), false);
    run(true, serve_shuffled, (uint32_t)support_iterations(3000), false);
}

static void test_through_one_each(void **state)
{
    (void)state;
    run(false, serve_plainly, (uint32_t)support_iterations(3000), false);
    run(false, serve_shuffled, (uint32_t)support_iterations(3000), false);
}

static void test_closing_beside(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < support_iterations(100); i++) {
        run(i % 3 != 0, serve_plainly, 100000 + i, true);
        run(i % 3 == 0, serve_shuffled, 100001 + i, true);
    }
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_through_one_capability, 60),
                     SUPPORT_TEST_TIMEOUT(test_through_one_each, 60),
                     SUPPORT_TEST_TIMEOUT(test_closing_beside, 60),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
