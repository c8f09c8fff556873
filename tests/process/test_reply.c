/* SPDX-License-Identifier: MIT */
/*
 * Reply capabilities: kept, answered in any order, used once; deadlines of callers; calls that are
 * dropped; entries that are all in use.
 */
#include "process/endpoints.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#define KEPT VRD_ENDPOINT_CALLS_MAX

/* ---- callers in threads -------------------------------------------------------------------------- */

struct caller {
    vrd_cap_t cap;
    uint32_t number;
    size_t len;
    int64_t timeout_ns;
    pthread_t thread;
    atomic_int tid;
    ssize_t result;
    uint8_t reply[70000];
};

static void *caller_run(void *arg)
{
    struct caller *caller = arg;
    uint8_t data[70000];

    atomic_store(&caller->tid, (int)syscall(SYS_gettid));
    number_fill(data, caller->len, (struct number){ caller->number, 1 });
    caller->result = vrd_call(caller->cap, data, caller->len, caller->reply, sizeof caller->reply,
                              caller->timeout_ns);
    return NULL;
}

static void caller_start(struct caller *caller, vrd_cap_t cap, uint32_t number, size_t len,
                         int64_t timeout_ns)
{
    *caller = (struct caller){
        .cap = cap, .number = number, .len = len, .timeout_ns = timeout_ns, .result = 1
    };
    EXPECT(pthread_create(&caller->thread, NULL, caller_run, caller), 0);
}

static void caller_expect(struct caller *caller, ssize_t result)
{
    EXPECT(pthread_join(caller->thread, NULL), 0);
    EXPECT(caller->result, result);
    if (result >= (ssize_t)sizeof(struct number))
        number_check(caller->reply, (size_t)result, (struct number){ ANSWERER(caller->number), 1 });
}

static void caller_wait_asleep(const struct caller *caller)
{
    while (atomic_load(&caller->tid) == 0)
        support_sleep_ms(1);
    support_wait_asleep(atomic_load(&caller->tid));
}

/* A request and the way back to whoever sent it. */
struct kept {
    vrd_cap_t reply;
    uint32_t number;
    size_t len;
    uint8_t data[70000];
};

static void keep(vrd_cap_t cap, struct kept *kept)
{
    struct vrd_message request = { .data = kept->data, .size = sizeof kept->data };

    EXPECT(vrd_receive_call(cap, &request, &kept->reply, VRD_FOREVER), 0);
    support_require(kept->reply != VRD_CAP_NONE);
    kept->len = request.len;
    kept->number = number_of(kept->data).sender;
    number_answer(kept->data, kept->len);
}

static void answer(const struct kept *kept, int expected)
{
    EXPECT(vrd_reply(kept->reply, kept->data, kept->len), expected);
}

static struct caller callers[KEPT + 4];
static struct kept kept[4 * KEPT];

/* ---- order ----------------------------------------------------------------------------------------- */

/* All entries of a link at once, answered in an order that has nothing to do with their coming. */
static void test_any_order(void **state)
{
    const vrd_cap_t cap = endpoint_new();
    const vrd_cap_t client = client_new(cap);
    uint64_t seed = 5;

    (void)state;
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < KEPT; i++)
            caller_start(&callers[i], client, i, 8 + i * (round % 3 == 0 ? 4000 : 7), VRD_FOREVER);
        for (size_t i = 0; i < KEPT; i++)
            keep(cap, &kept[i]);
        for (size_t left = KEPT; left > 0; left--) {
            const size_t next = random_next(&seed) % left;

            answer(&kept[next], 0);
            answer(&kept[next], VRD_ERR_INVALID_CAPABILITY); /* once */
            caller_expect(&callers[kept[next].number], (ssize_t)kept[next].len);
            kept[next] = kept[left - 1];
        }
    }
    EXPECT(vrd_cap_close(client), 0);
    EXPECT(vrd_cap_close(cap), 0);
}

/* Some calls wait while hundreds of others come and go. */
static void test_kept_while_others_are_answered(void **state)
{
    const vrd_cap_t cap = endpoint_new();
    vrd_cap_t clients[4];

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        clients[i] = client_new(cap);
        caller_start(&callers[i], clients[i], i, 20, VRD_FOREVER);
        keep(cap, &kept[i]);
    }
    for (uint32_t n = 0; n < 500; n++) {
        caller_start(&callers[4], clients[n % 4], 4, 8 + n % 200, VRD_FOREVER);
        keep(cap, &kept[4]);
        answer(&kept[4], 0);
        caller_expect(&callers[4], (ssize_t)kept[4].len);
    }
    for (uint32_t i = 4; i-- > 0;) {
        uint32_t number;

        answer(&kept[i], 0);
        number = kept[i].number;
        caller_expect(&callers[number], 20);
        EXPECT(vrd_cap_close(clients[i]), 0);
    }
    EXPECT(vrd_cap_close(cap), 0);
}

/* The table of calls that wait grows: four links with all that each may have. */
static void test_many_kept(void **state)
{
    static struct caller many[4][KEPT];
    const vrd_cap_t cap = endpoint_new();
    vrd_cap_t clients[4];

    (void)state;
    for (uint32_t c = 0; c < 4; c++) {
        clients[c] = client_new(cap);
        for (uint32_t i = 0; i < KEPT; i++) {
            caller_start(&many[c][i], clients[c], c * KEPT + i, 30, VRD_FOREVER);
            keep(cap, &kept[c * KEPT + i]);
        }
    }
    for (uint32_t i = 0; i < 4 * KEPT; i++) {
        const uint32_t at = (i * 13 + 5) % (4 * KEPT);

        answer(&kept[at], 0);
        caller_expect(&many[kept[at].number / KEPT][kept[at].number % KEPT], 30);
    }
    for (uint32_t c = 0; c < 4; c++)
        EXPECT(vrd_cap_close(clients[c]), 0);
    EXPECT(vrd_cap_close(cap), 0);
}

/* ---- numbers --------------------------------------------------------------------------------------- */

static void test_numbers_that_are_no_replies(void **state)
{
    const vrd_cap_t cap = endpoint_new(), other = endpoint_new();
    const struct ends ends = ends_new(4);
    vrd_cap_t stale;

    (void)state;
    caller_start(&callers[0], cap, 0, 8, VRD_FOREVER);
    keep(cap, &kept[0]);
    stale = kept[0].reply;
    /* a reply is no other capability, and no other capability is a reply */
    EXPECT(vrd_send(stale, "x", 1), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_receive_timed(stale, NULL, 0, 0), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_call(stale, "x", 1, NULL, 0, 0), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_reply(cap, "x", 1), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_reply(VRD_CAP_NONE, "x", 1), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_reply(ends.send, "x", 1), VRD_ERR_INVALID_CAPABILITY);
    /* neighbours: other calls, other endpoints, channels, entries that nobody has used */
    for (uint64_t bit = 0; bit < 64; bit++)
        EXPECT(vrd_reply(stale ^ UINT64_C(1) << bit, "x", 1), VRD_ERR_INVALID_CAPABILITY);
    for (uint64_t index = 0; index < 4096; index++)
        if (index != (stale & 0xfffff))
            EXPECT(vrd_reply((stale & ~UINT64_C(0xfffff)) | index, "x", 1),
                   VRD_ERR_INVALID_CAPABILITY);
    answer(&kept[0], 0);
    caller_expect(&callers[0], 8);
    EXPECT(vrd_reply(stale, "x", 1), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_cap_close(stale), VRD_ERR_INVALID_CAPABILITY);
    ends_close(&ends);
    EXPECT(vrd_cap_close(other), 0);
    EXPECT(vrd_cap_close(cap), 0);
}

/* A number never means a later call, also when the endpoint's entry is another's by then. */
static void test_stale_numbers_stay_stale(void **state)
{
    vrd_cap_t stale[64];
    size_t n = 0;

    (void)state;
    for (size_t round = 0; round < 64; round++) {
        const vrd_cap_t cap = endpoint_new();

        caller_start(&callers[0], cap, 0, 8, VRD_FOREVER);
        keep(cap, &kept[0]);
        for (size_t i = 0; i < n; i++) {
            EXPECT(vrd_reply(stale[i], "x", 1), VRD_ERR_INVALID_CAPABILITY);
            EXPECT(vrd_cap_close(stale[i]), VRD_ERR_INVALID_CAPABILITY);
        }
        stale[n++] = kept[0].reply;
        if (round % 2) {
            answer(&kept[0], 0);
            caller_expect(&callers[0], 8);
        }
        EXPECT(vrd_cap_close(cap), 0);
        if (round % 2 ==
            0) { /* its own capability went, or the server did: whichever it sees first */
            EXPECT(pthread_join(callers[0].thread, NULL), 0);
            support_require(callers[0].result == VRD_ERR_INVALID_CAPABILITY ||
                            callers[0].result == VRD_ERR_PEER_GONE);
        }
    }
}

/* ---- calls that nobody will answer -------------------------------------------------------------------- */

static void test_dropped_calls(void **state)
{
    const vrd_cap_t cap = endpoint_new();
    const vrd_cap_t client = client_new(cap);
    uint8_t data[100];
    struct vrd_message one = { .data = data, .size = sizeof data };

    (void)state;
    for (uint32_t way = 0; way < 6; way++) {
        caller_start(&callers[0], client, 0, way == 4 ? 90 : 20, VRD_FOREVER);
        caller_wait_asleep(&callers[0]);
        switch (way) {
        case 0:
            keep(cap, &kept[0]);
            EXPECT(vrd_cap_close(kept[0].reply), 0);
            EXPECT(vrd_cap_close(kept[0].reply), VRD_ERR_INVALID_CAPABILITY);
            break;
        case 1:
            EXPECT(vrd_receive(cap, data, sizeof data), 20);
            break;
        case 2:
            EXPECT(vrd_receive_message(cap, &one, VRD_FOREVER), 0);
            break;
        case 3:
            EXPECT(vrd_receive_batch(cap, &one, 1, VRD_FOREVER), 1);
            break;
        case 4:
            EXPECT(vrd_receive(cap, data, 10), VRD_ERR_MESSAGE_TOO_LARGE);
            EXPECT(vrd_discard(cap), 0);
            break;
        default:
            keep(cap, &kept[0]);
            EXPECT(vrd_reply(kept[0].reply, NULL, 5), VRD_ERR_INVALID_ARGUMENT);
            break;
        }
        caller_expect(&callers[0], VRD_ERR_PEER_GONE);
    }
    EXPECT(vrd_cap_close(client), 0);
    EXPECT(vrd_cap_close(cap), 0);
}

static void test_reply_that_is_too_large(void **state)
{
    const struct vrd_channel_options options = { .max_message_size = 1000 };
    static const uint8_t data[2000];
    vrd_cap_t cap, client;
    uint64_t id;

    (void)state;
    EXPECT(vrd_endpoint_create_with(&options, &id, &cap), 0);
    client = client_new(cap);
    caller_start(&callers[0], client, 0, 8, VRD_FOREVER);
    keep(cap, &kept[0]);
    EXPECT(vrd_reply(kept[0].reply, data, 1001), VRD_ERR_MESSAGE_TOO_LARGE);
    caller_expect(&callers[0], VRD_ERR_PEER_GONE);
    EXPECT(vrd_reply(kept[0].reply, data, 1000), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_call(client, data, 1001, NULL, 0, VRD_FOREVER), VRD_ERR_MESSAGE_TOO_LARGE);
    EXPECT(vrd_cap_close(client), 0);
    EXPECT(vrd_cap_close(cap), 0);
}

/* The caller's buffer is too small for the reply: it is told how much there was. */
static void *call_with_little_room(void *arg)
{
    const vrd_cap_t cap = *(const vrd_cap_t *)arg;
    const struct vrd_message request = { .data = "request", .len = 7 };
    uint8_t data[8];
    struct vrd_message reply = { .data = data, .size = sizeof data };

    for (size_t i = 0; i < 3; i++) {
        static const size_t lens[] = { 9, 65, 5000 };

        support_require(vrd_call_message(cap, &request, &reply, VRD_FOREVER) ==
                        VRD_ERR_MESSAGE_TOO_LARGE);
        support_require(reply.len == lens[i]);
        support_require(vrd_call(cap, "x", 1, data, sizeof data, VRD_FOREVER) == 8);
    }
    return NULL;
}

static void test_buffer_too_small_for_the_reply(void **state)
{
    static const uint8_t data[5000];
    vrd_cap_t cap = endpoint_new(), reply;
    struct vrd_message request = { .data = kept[0].data, .size = 100 };
    pthread_t thread;

    (void)state;
    EXPECT(pthread_create(&thread, NULL, call_with_little_room, &cap), 0);
    for (size_t i = 0; i < 3; i++) {
        static const size_t lens[] = { 9, 65, 5000 };

        EXPECT(vrd_receive_call(cap, &request, &reply, VRD_FOREVER), 0);
        EXPECT(vrd_reply(reply, data, lens[i]), 0);
        EXPECT(vrd_receive_call(cap, &request, &reply, VRD_FOREVER), 0);
        EXPECT(vrd_reply(reply, data, 8), 0);
    }
    EXPECT(pthread_join(thread, NULL), 0);
    EXPECT(vrd_cap_close(cap), 0);
}

/* ---- deadlines -------------------------------------------------------------------------------------------- */

static void test_late_replies_are_dropped(void **state)
{
    const vrd_cap_t cap = endpoint_new();
    const vrd_cap_t client = client_new(cap);

    (void)state;
    for (uint32_t i = 0; i < 40; i++) { /* more than there are entries: each comes back */
        const size_t len = i % 3 == 0 ? 1000 * (i + 1) : 8 + i;

        caller_start(&callers[0], client, i, len, i % 2 ? 3 * MS : 0);
        keep(cap, &kept[0]);
        caller_expect(&callers[0], VRD_ERR_TIMEOUT);
        answer(&kept[0], VRD_ERR_TIMEOUT);
        answer(&kept[0], VRD_ERR_INVALID_CAPABILITY);
        /* the next caller gets its own answer, not this one */
        caller_start(&callers[1], client, 1000 + i, 50, VRD_FOREVER);
        keep(cap, &kept[1]);
        answer(&kept[1], 0);
        caller_expect(&callers[1], 50);
    }
    EXPECT(vrd_cap_close(client), 0);
    EXPECT(vrd_cap_close(cap), 0);
}

/* The request is still in the ring when the caller leaves. */
static void test_timeout_before_the_request_is_read(void **state)
{
    const vrd_cap_t cap = endpoint_new();
    const vrd_cap_t client = client_new(cap);

    (void)state;
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < KEPT; i++) {
            caller_start(&callers[i], client, i, 30, 2 * MS);
            caller_expect(&callers[i], VRD_ERR_TIMEOUT);
        }
        /* no room, and no entry */
        EXPECT(vrd_call(client, "x", 1, NULL, 0, 0), VRD_ERR_ENDPOINT_BUSY);
        EXPECT(vrd_call(client, "x", 1, NULL, 0, 2 * MS), VRD_ERR_TIMEOUT);
        for (uint32_t i = 0; i < KEPT; i++) {
            keep(cap, &kept[i]);
            EXPECT(kept[i].number, i);
        }
        /* room, but no entry */
        EXPECT(vrd_call(client, "x", 1, NULL, 0, 0), VRD_ERR_ENDPOINT_BUSY);
        EXPECT(vrd_call(client, "x", 1, NULL, 0, 2 * MS), VRD_ERR_TIMEOUT);
        for (uint32_t i = 0; i < KEPT; i++)
            answer(&kept[i], VRD_ERR_TIMEOUT);
    }
    EXPECT(vrd_cap_close(client), 0);
    EXPECT(vrd_cap_close(cap), 0);
}

struct unanswered {
    vrd_cap_t cap;
    struct support_gate sent, answered;
};

static int call_ahead_of_the_answer(void *arg)
{
    const struct unanswered *test = arg;

    for (uint32_t i = 0; i < KEPT; i++)
        EXPECT(
            vrd_call(test->cap, (struct number[]){ { i, 1 } }, sizeof(struct number), NULL, 0, 0),
            VRD_ERR_TIMEOUT);
    EXPECT(vrd_call(test->cap, "x", 1, NULL, 0, 0), VRD_ERR_ENDPOINT_BUSY);
    support_gate_open(&test->sent);
    support_gate_wait(&test->answered);
    EXPECT(vrd_call(test->cap, (struct number[]){ { KEPT, 1 } }, sizeof(struct number), NULL, 0, 0),
           VRD_ERR_TIMEOUT);
    support_gate_open(&test->sent);
    support_gate_wait(&test->answered);
    return 0;
}

/* All entries are in use when the owner answers the HELLO: nobody but the next call looks for that
 * answer, and finds that they are free. */
static void test_entries_free_with_the_welcome(void **state)
{
    struct unanswered test = { .cap = endpoint_new() };
    pid_t child;

    (void)state;
    support_gate_init(&test.sent);
    support_gate_init(&test.answered);
    child = support_child(call_ahead_of_the_answer, &test);
    support_gate_wait(&test.sent);
    for (uint32_t i = 0; i < KEPT; i++) {
        keep(test.cap, &kept[i]);
        EXPECT(kept[i].number, i);
        answer(&kept[i], VRD_ERR_TIMEOUT);
    }
    support_gate_open(&test.answered);
    support_gate_wait(&test.sent);
    keep(test.cap, &kept[0]);
    EXPECT(kept[0].number, KEPT);
    answer(&kept[0], VRD_ERR_TIMEOUT);
    support_gate_open(&test.answered);
    support_wait_exit(child, 0);
    support_gate_deinit(&test.sent);
    support_gate_deinit(&test.answered);
    EXPECT(vrd_cap_close(test.cap), 0);
}

/* One call too many waits for an entry, and gets the first that comes free. */
static void test_one_call_too_many_waits(void **state)
{
    const vrd_cap_t cap = endpoint_new();
    const vrd_cap_t client = client_new(cap);

    (void)state;
    for (uint32_t abandoned = 0; abandoned < 2; abandoned++) {
        for (uint32_t i = 0; i < KEPT; i++) {
            caller_start(&callers[i], client, i, 30, abandoned ? MS : VRD_FOREVER);
            keep(cap, &kept[i]);
            if (abandoned)
                caller_expect(&callers[i], VRD_ERR_TIMEOUT);
        }
        for (uint32_t i = KEPT; i < KEPT + 4; i++)
            caller_start(&callers[i], client, i, 30, VRD_FOREVER);
        support_sleep_ms(20);
        for (uint32_t i = 0; i < KEPT + 4; i++) {
            if (i >= KEPT)
                keep(cap, &kept[i]);
            answer(&kept[i], abandoned && i < KEPT ? VRD_ERR_TIMEOUT : 0);
        }
        for (uint32_t i = abandoned ? KEPT : 0; i < KEPT + 4; i++)
            caller_expect(&callers[i], 30);
    }
    EXPECT(vrd_cap_close(client), 0);
    EXPECT(vrd_cap_close(cap), 0);
}

/* ---- plain messages ---------------------------------------------------------------------------------------- */

static void test_plain_messages_need_no_reply(void **state)
{
    const vrd_cap_t cap = endpoint_new();
    const vrd_cap_t client = client_new(cap);
    struct vrd_message request = { .data = kept[0].data, .size = sizeof kept[0].data };
    vrd_cap_t reply;

    (void)state;
    for (uint32_t i = 0; i < 100; i++) {
        const vrd_cap_t from = i % 2 ? cap : client;

        reply = 1;
        numbered_send(from, 1, i, 8 + i * 3);
        EXPECT(vrd_receive_call(cap, &request, &reply, VRD_FOREVER), 0);
        EXPECT(reply, VRD_CAP_NONE);
        number_check(request.data, request.len, (struct number){ 1, i });
        caller_start(&callers[0], from, 2, 8 + i * 3, VRD_FOREVER);
        keep(cap, &kept[1]);
        answer(&kept[1], 0);
        caller_expect(&callers[0], 8 + i * 3);
        numbered_send(from, 3, i, 40);
        numbered_receive(cap, 3, i, 40);
    }
    EXPECT(vrd_cap_close(client), 0);
    EXPECT(vrd_cap_close(cap), 0);
}

/* ---- answering and receiving at once ------------------------------------------------------------------------ */

static void test_reply_receive(void **state)
{
    const vrd_cap_t cap = endpoint_new(), other = endpoint_new();
    struct vrd_message next = { .data = kept[0].data, .size = sizeof kept[0].data };
    vrd_cap_t reply = VRD_CAP_NONE;

    (void)state;
    EXPECT(vrd_reply_receive(cap, &reply, NULL, 0, &next, 0), VRD_ERR_CHANNEL_EMPTY);
    EXPECT(reply, VRD_CAP_NONE);
    /* the caller is gone by the time of the answer: the loop goes on */
    caller_start(&callers[0], cap, 0, 8, 2 * MS);
    EXPECT(vrd_reply_receive(cap, &reply, NULL, 0, &next, VRD_FOREVER), 0);
    caller_expect(&callers[0], VRD_ERR_TIMEOUT);
    EXPECT(vrd_reply_receive(cap, &reply, "x", 1, &next, 2 * MS), VRD_ERR_TIMEOUT);
    EXPECT(reply, VRD_CAP_NONE);
    /* what the server does wrong it is told */
    caller_start(&callers[0], cap, 0, 8, VRD_FOREVER);
    EXPECT(vrd_reply_receive(cap, &reply, NULL, 0, &next, VRD_FOREVER), 0);
    EXPECT(vrd_reply_receive(cap, &reply, NULL, 9, &next, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(reply, VRD_CAP_NONE);
    caller_expect(&callers[0], VRD_ERR_PEER_GONE);
    reply = 12345;
    EXPECT(vrd_reply_receive(cap, &reply, NULL, 0, &next, 0), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(reply, VRD_CAP_NONE);
    /* the answer may be to a call of another endpoint */
    caller_start(&callers[0], other, 0, 8, VRD_FOREVER);
    keep(other, &kept[1]);
    reply = kept[1].reply;
    EXPECT(vrd_reply_receive(cap, &reply, kept[1].data, 8, &next, 0), VRD_ERR_CHANNEL_EMPTY);
    caller_expect(&callers[0], 8);
    EXPECT(vrd_cap_close(other), 0);
    EXPECT(vrd_cap_close(cap), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_any_order),
                     SUPPORT_TEST(test_kept_while_others_are_answered),
                     SUPPORT_TEST(test_many_kept),
                     SUPPORT_TEST(test_numbers_that_are_no_replies),
                     SUPPORT_TEST(test_stale_numbers_stay_stale),
                     SUPPORT_TEST(test_dropped_calls),
                     SUPPORT_TEST(test_reply_that_is_too_large),
                     SUPPORT_TEST(test_buffer_too_small_for_the_reply),
                     SUPPORT_TEST(test_late_replies_are_dropped),
                     SUPPORT_TEST(test_timeout_before_the_request_is_read),
                     SUPPORT_TEST(test_entries_free_with_the_welcome),
                     SUPPORT_TEST(test_one_call_too_many_waits),
                     SUPPORT_TEST(test_plain_messages_need_no_reply),
                     SUPPORT_TEST(test_reply_receive),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
