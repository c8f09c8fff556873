/* SPDX-License-Identifier: MIT */
/* Capabilities in calls and in replies. */
#include "process/channels.h"

#include <pthread.h>

#define CAPS_MAX VRD_MESSAGE_CAPS_MAX

static void expect_gone(vrd_cap_t cap)
{
    struct vrd_cap_info info;

    EXPECT(vrd_cap_info(cap, &info), VRD_ERR_INVALID_CAPABILITY);
}

static void expect_end(vrd_cap_t receive)
{
    EXPECT(vrd_receive(receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(receive), 0);
}

/* ---- a call by another thread --------------------------------------------------------------- */

struct caller {
    vrd_cap_t cap;
    int64_t timeout_ns;
    struct vrd_message request, reply;
    int result;
    pthread_t thread;
};

static void *caller_run(void *arg)
{
    struct caller *caller = arg;

    caller->result =
        vrd_call_message(caller->cap, &caller->request, &caller->reply, caller->timeout_ns);
    return NULL;
}

static void caller_start(struct caller *caller)
{
    caller->result = 1;
    EXPECT(pthread_create(&caller->thread, NULL, caller_run, caller), 0);
}

static int caller_end(struct caller *caller)
{
    pthread_join(caller->thread, NULL);
    return caller->result;
}

struct service {
    vrd_cap_t endpoint;
    vrd_cap_t client;
};

static struct service service_new(void)
{
    struct service service;
    uint64_t id;

    EXPECT(vrd_endpoint_create(&id, &service.endpoint), 0);
    service.client = sender_new(service.endpoint);
    return service;
}

static void service_end(const struct service *service)
{
    EXPECT(vrd_cap_close(service->client), 0);
    EXPECT(vrd_cap_close(service->endpoint), 0);
}

/* Both ways: the request brings a channel to send the answer to, the answer brings another one. */
static void test_both_ways(void **state)
{
    const struct service service = service_new();

    (void)state;
    for (uint32_t n = 1; n <= CAPS_MAX; n++) {
        struct caller caller = { .cap = n % 2 ? service.client : service.endpoint,
                                 .timeout_ns = VRD_FOREVER,
                                 .request = { .n_caps = n },
                                 .reply = { .max_caps = CAPS_MAX } };
        struct vrd_message request = { .max_caps = CAPS_MAX }, reply = { .opcode = 5, .n_caps = n };
        struct ends there[CAPS_MAX], back[CAPS_MAX];
        vrd_cap_t answer;

        for (uint32_t i = 0; i < n; i++) {
            there[i] = ends_new(4);
            back[i] = ends_new(4);
            caller.request.caps[i] = there[i].send;
            reply.caps[i] = i % 2 ? back[i].send : back[i].receive;
        }
        caller_start(&caller);
        EXPECT(vrd_receive_call(service.endpoint, &request, &answer, VRD_FOREVER), 0);
        EXPECT(request.n_caps, n);
        for (uint32_t i = 0; i < n; i++) { /* they are the server's, while the caller waits */
            EXPECT(vrd_cap_close(request.caps[i]), 0);
            expect_end(there[i].receive);
            expect_gone(there[i].send);
        }
        EXPECT(vrd_reply_message(answer, &reply), 0);
        EXPECT(caller_end(&caller), 0);
        EXPECT(caller.reply.opcode, 5);
        EXPECT(caller.reply.n_caps, n);
        for (uint32_t i = 0; i < n; i++) {
            expect_gone(reply.caps[i]);
            if (i % 2)
                back[i].send = caller.reply.caps[i];
            else
                back[i].receive = caller.reply.caps[i];
            numbered_send(back[i].send, i, n, 30);
            numbered_receive(back[i].receive, i, n, 30);
            ends_close(&back[i]);
        }
    }
    service_end(&service);
}

/* Answers a call of `caller` with one end of each of `n` new channels; the result of the reply. */
static int answer_with(const struct service *service, struct caller *caller, struct ends *ends,
                       uint32_t n, size_t len)
{
    static char data[100];
    struct vrd_message request = { 0 }, reply = { .data = data, .len = len, .n_caps = n };
    vrd_cap_t answer;

    for (uint32_t i = 0; i < n; i++) {
        ends[i] = ends_new(4);
        reply.caps[i] = ends[i].send;
    }
    caller_start(caller);
    EXPECT(vrd_receive_call(service->endpoint, &request, &answer, VRD_FOREVER), 0);
    return vrd_reply_message(answer, &reply);
}

static void test_fewer_wanted(void **state)
{
    const struct service service = service_new();
    struct ends ends[CAPS_MAX];

    (void)state;
    for (uint32_t most = 0; most <= CAPS_MAX; most++) {
        struct caller caller = { .cap = service.client,
                                 .timeout_ns = VRD_FOREVER,
                                 .reply = { .max_caps = most } };

        EXPECT(answer_with(&service, &caller, ends, CAPS_MAX, 0), 0);
        EXPECT(caller_end(&caller), 0);
        EXPECT(caller.reply.n_caps, most);
        for (uint32_t i = 0; i < CAPS_MAX; i++) {
            if (i < most)
                EXPECT(vrd_cap_close(caller.reply.caps[i]), 0);
            expect_end(ends[i].receive);
        }
    }
    service_end(&service);
}

static void test_answer_too_large(void **state)
{
    const struct service service = service_new();
    struct ends ends[2];
    char small[4];

    (void)state;
    for (size_t len = 5; len < 100; len += 90) {
        struct caller caller = { .cap = service.client,
                                 .timeout_ns = VRD_FOREVER,
                                 .reply = { .data = small, .size = 4, .max_caps = 4 } };

        EXPECT(answer_with(&service, &caller, ends, 2, len), 0);
        EXPECT(caller_end(&caller), VRD_ERR_MESSAGE_TOO_LARGE);
        EXPECT(caller.reply.len, len);
        expect_end(ends[0].receive);
        expect_end(ends[1].receive);
    }
    service_end(&service);
}

/* What nobody waits for any more comes back, and the call's place is used again. */
static void test_late_answers(void **state)
{
    const struct service service = service_new();
    struct ends ends[1];

    (void)state;
    for (uint32_t i = 0; i < 3 * VRD_ENDPOINT_CALLS_MAX; i++) {
        struct vrd_message request = { 0 }, reply = { .n_caps = 1 };
        vrd_cap_t answer;

        EXPECT(vrd_call(service.client, "", 0, NULL, 0, 0), VRD_ERR_TIMEOUT);
        ends[0] = ends_new(4);
        reply.caps[0] = ends[0].send;
        EXPECT(vrd_receive_call(service.endpoint, &request, &answer, VRD_FOREVER), 0);
        EXPECT(vrd_reply_message(answer, &reply), VRD_ERR_TIMEOUT);
        numbered_send(ends[0].send, 1, i, 30);
        numbered_receive(ends[0].receive, 1, i, 30);
        ends_close(&ends[0]);
    }
    struct caller caller = { .cap = service.client,
                             .timeout_ns = VRD_FOREVER,
                             .reply = { .max_caps = 1 } };
    EXPECT(answer_with(&service, &caller, ends, 1, 0), 0);
    EXPECT(caller_end(&caller), 0);
    EXPECT(caller.reply.n_caps, 1);
    EXPECT(vrd_cap_close(caller.reply.caps[0]), 0);
    expect_end(ends[0].receive);
    service_end(&service);
}

/* The deadline passes while the answer is being given: one of the two has it, never both or neither. */
static void test_at_the_deadline(void **state)
{
    const struct service service = service_new();
    size_t late = 0;

    (void)state;
    for (size_t i = 0; i < support_iterations(400); i++) {
        struct caller caller = { .cap = service.client,
                                 .timeout_ns = (int64_t)(i % 40) * 10000,
                                 .reply = { .max_caps = 1 } };
        struct ends ends[1];
        int told = answer_with(&service, &caller, ends, 1, 0);
        int got = caller_end(&caller);

        support_require(told == 0 || told == VRD_ERR_TIMEOUT);
        support_require(got == 0 || got == VRD_ERR_TIMEOUT);
        late += got != 0;
        if (got == 0)
            EXPECT(vrd_cap_close(caller.reply.caps[0]), 0);
        if (told != 0)
            EXPECT(vrd_cap_close(ends[0].send), 0);
        expect_end(ends[0].receive); /* also if both think that it went */
    }
    support_require(late > 0);
    service_end(&service);
}

static void test_a_reply_that_fails(void **state)
{
    const struct service service = service_new();
    struct ends ends = ends_new(4);
    vrd_cap_t bare;

    (void)state;
    EXPECT(vrd_cap_derive(ends.send, VRD_RIGHT_SEND, &bare), 0);
    for (int kind = 0; kind < 4; kind++) {
        static const int expected[] = { VRD_ERR_PERMISSION_DENIED, VRD_ERR_INVALID_ARGUMENT,
                                        VRD_ERR_MESSAGE_TOO_LARGE, VRD_ERR_INVALID_ARGUMENT };
        struct vrd_message request = { 0 }, reply = { .n_caps = 2, .caps = { ends.send, bare } };
        struct caller caller = { .cap = service.client, .timeout_ns = VRD_FOREVER };
        vrd_cap_t answer;

        if (kind > 0)
            reply.caps[1] = ends.receive;
        if (kind == 1)
            reply.caps[1] = ends.send;
        if (kind == 2)
            reply.len = VRD_CHANNEL_MESSAGE_DEFAULT + 1;
        if (kind == 3)
            reply.len = 1;
        caller_start(&caller);
        EXPECT(vrd_receive_call(service.endpoint, &request, &answer, VRD_FOREVER), 0);
        EXPECT(vrd_reply_message(answer, &reply), expected[kind]);
        EXPECT(caller_end(&caller), VRD_ERR_PEER_GONE);
        EXPECT(vrd_reply_message(answer, &reply), VRD_ERR_INVALID_CAPABILITY);
    }
    EXPECT(vrd_cap_close(bare), 0);
    numbered_send(ends.send, 1, 0, 30);
    numbered_receive(ends.receive, 1, 0, 30);
    ends_close(&ends);
    service_end(&service);
}

/* A call that is received and dropped, or by a function that wants no capabilities, or not at all. */
static void test_requests_that_are_dropped(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        const struct service service = service_new();
        struct ends ends = ends_new(4);
        struct caller caller = { .cap = service.client,
                                 .timeout_ns = VRD_FOREVER,
                                 .request = { .n_caps = 1, .caps = { ends.send } } };
        struct vrd_message request = { 0 };
        vrd_cap_t answer;

        caller_start(&caller);
        if (kind == 0) {
            EXPECT(vrd_receive(service.endpoint, NULL, 0), 0);
        } else if (kind < 3) {
            EXPECT(vrd_receive_call(service.endpoint, &request, &answer, VRD_FOREVER), 0);
            if (kind == 1)
                EXPECT(vrd_cap_close(answer), 0);
        } else {
            struct vrd_cap_info info;

            while (vrd_cap_info(ends.send, &info) == 0) /* it has not yet gone */
                support_sleep_ms(1);
        }
        EXPECT(vrd_cap_close(service.endpoint), 0);
        EXPECT(caller_end(&caller), VRD_ERR_PEER_GONE);
        expect_gone(ends.send);
        expect_end(ends.receive);
        EXPECT(vrd_cap_close(service.client), 0);
    }
}

/* An answer that was given before the server went is still taken, with what it carries. */
static void test_server_gone_after_the_answer(void **state)
{
    (void)state;
    for (size_t i = 0; i < support_iterations(100); i++) {
        const struct service service = service_new();
        struct caller caller = { .cap = service.client,
                                 .timeout_ns = VRD_FOREVER,
                                 .reply = { .max_caps = 1 } };
        struct ends ends[1];

        EXPECT(answer_with(&service, &caller, ends, 1, 0), 0);
        EXPECT(vrd_cap_close(service.endpoint), 0);
        EXPECT(caller_end(&caller), 0);
        EXPECT(caller.reply.n_caps, 1);
        EXPECT(vrd_send(caller.reply.caps[0], NULL, 0), 0);
        EXPECT(vrd_receive(ends[0].receive, NULL, 0), 0);
        EXPECT(vrd_cap_close(caller.reply.caps[0]), 0);
        expect_end(ends[0].receive);
        EXPECT(vrd_cap_close(service.client), 0);
    }
}

/* ---- reply capabilities --------------------------------------------------------------------- */

/* Moves it through `way`, in this process. */
static vrd_cap_t pass(const struct ends *way, vrd_cap_t cap)
{
    struct vrd_message out = { .n_caps = 1, .caps = { cap } }, in = { .max_caps = 1 };

    EXPECT(vrd_send_message(way->send, &out, VRD_FOREVER), 0);
    expect_gone(cap);
    EXPECT(vrd_receive_message(way->receive, &in, VRD_FOREVER), 0);
    EXPECT(in.n_caps, 1);
    return in.caps[0];
}

/* Nobody receives at the endpoint while the answer comes. */
static void test_a_reply_from_elsewhere(void **state)
{
    static const size_t sizes[] = { 0, 5, 64, 65, 5000, 300000 };
    const struct service service = service_new();
    struct ends way = ends_new(4);
    uint8_t *data = malloc(300000), *got = malloc(300000);

    (void)state;
    support_require(data && got);
    for (uint32_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) {
        const size_t len = sizes[i / 2];
        struct caller caller = { .cap = service.client,
                                 .timeout_ns = VRD_FOREVER,
                                 .reply = { .data = got, .size = 300000, .max_caps = 2 } };
        struct vrd_message request = { 0 },
                           reply = { .opcode = 7, .flags = i, .data = data, .len = len };
        struct vrd_cap_info info;
        struct ends ends[2] = { ends_new(2), ends_new(2) };
        vrd_cap_t answer, first;

        number_fill(data, len, (struct number){ 3, i });
        caller_start(&caller);
        EXPECT(vrd_receive_call(service.endpoint, &request, &answer, VRD_FOREVER), 0);
        first = answer;
        for (uint32_t moves = 0; moves <= i % 3; moves++)
            answer = pass(&way, answer);
        EXPECT(vrd_reply(first, "", 0), VRD_ERR_INVALID_CAPABILITY);
        EXPECT(vrd_cap_info(answer, &info), 0);
        EXPECT(info.kind, VRD_OBJECT_REPLY);
        EXPECT(vrd_send(answer, "", 0), VRD_ERR_PERMISSION_DENIED);
        EXPECT(vrd_cap_fd(answer), VRD_ERR_NOT_SUPPORTED);
        if (i % 2 == 1) {
            reply.n_caps = 2;
            reply.caps[0] = ends[0].send;
            reply.caps[1] = ends[1].receive;
        }
        EXPECT(vrd_reply_message(answer, &reply), 0);
        EXPECT(caller_end(&caller), 0);
        EXPECT(vrd_reply(answer, "", 0), VRD_ERR_INVALID_CAPABILITY);
        EXPECT(caller.reply.opcode, 7);
        EXPECT(caller.reply.flags, i);
        EXPECT(caller.reply.len, len);
        number_check(got, len, (struct number){ 3, i });
        EXPECT(caller.reply.n_caps, reply.n_caps);
        if (i % 2 == 1) {
            ends[0].send = caller.reply.caps[0];
            ends[1].receive = caller.reply.caps[1];
        }
        for (int at = 0; at < 2; at++) {
            numbered_send(ends[at].send, 1, i, 30);
            numbered_receive(ends[at].receive, 1, i, 30);
            ends_close(&ends[at]);
        }
    }
    free(data);
    free(got);
    ends_close(&way);
    service_end(&service);
}

/* Closed, unread, refused: the caller is told; moved back by a failure: it works as before. */
static void test_a_reply_that_went_and_does_not_come(void **state)
{
    const struct service service = service_new();

    (void)state;
    for (int kind = 0; kind < 6; kind++) {
        struct ends way = ends_new(1);
        struct caller caller = { .cap = service.client, .timeout_ns = VRD_FOREVER };
        struct vrd_message request = { 0 }, out = { .n_caps = 1 }, in = { .max_caps = 1 };
        int expected = VRD_ERR_PEER_GONE;

        caller_start(&caller);
        EXPECT(vrd_receive_call(service.endpoint, &request, out.caps, VRD_FOREVER), 0);
        if (kind == 0) {
            EXPECT(vrd_send(way.send, "", 0), 0);
            EXPECT(vrd_send_message(way.send, &out, 0), VRD_ERR_CHANNEL_FULL);
            EXPECT(vrd_send_message(way.send, &out, MS), VRD_ERR_TIMEOUT);
            EXPECT(vrd_reply(out.caps[0], "", 0), 0);
            expected = 0;
        } else {
            EXPECT(vrd_send_message(way.send, &out, 0), 0);
        }
        if (kind == 1)
            EXPECT(vrd_receive(way.receive, NULL, 0), 0);
        if (kind >= 3) {
            EXPECT(vrd_receive_message(way.receive, &in, 0), 0);
            EXPECT(in.n_caps, 1);
        }
        if (kind == 3)
            EXPECT(vrd_cap_close(in.caps[0]), 0);
        if (kind == 4)
            EXPECT(vrd_reply(in.caps[0], "", VRD_CHANNEL_MESSAGE_DEFAULT + 1),
                   VRD_ERR_MESSAGE_TOO_LARGE);
        if (kind == 5) {
            in.n_caps = 1;
            EXPECT(vrd_reply_message(in.caps[0], &in), VRD_ERR_INVALID_ARGUMENT);
        }
        ends_close(&way);
        EXPECT(caller_end(&caller), expected);
        if (kind >= 3)
            expect_gone(in.caps[0]);
    }
    service_end(&service);
}

static void test_a_reply_whose_server_is_gone(void **state)
{
    struct service service = service_new();
    struct ends way = ends_new(4);
    struct caller caller = { .cap = service.client, .timeout_ns = VRD_FOREVER };
    struct vrd_message request = { 0 };
    vrd_cap_t answer;

    (void)state;
    caller_start(&caller);
    EXPECT(vrd_receive_call(service.endpoint, &request, &answer, VRD_FOREVER), 0);
    answer = pass(&way, answer);
    EXPECT(vrd_cap_close(service.endpoint), 0);
    EXPECT(caller_end(&caller), VRD_ERR_PEER_GONE);
    EXPECT(vrd_reply(answer, "", 0), VRD_ERR_PEER_GONE);
    expect_gone(answer);
    EXPECT(vrd_cap_close(service.client), 0);
    ends_close(&way);
}

/* Many at a time, answered in another order. */
static void test_many_replies_elsewhere(void **state)
{
    const struct service service = service_new();
    struct ends way = ends_new(4);
    struct caller callers[VRD_ENDPOINT_CALLS_MAX];
    vrd_cap_t answers[VRD_ENDPOINT_CALLS_MAX];
    uint32_t sent[VRD_ENDPOINT_CALLS_MAX], numbers[VRD_ENDPOINT_CALLS_MAX];
    uint32_t got[VRD_ENDPOINT_CALLS_MAX];

    (void)state;
    for (uint32_t i = 0; i < VRD_ENDPOINT_CALLS_MAX; i++) {
        struct vrd_message request = { .data = &numbers[i], .size = 4 };

        sent[i] = i;
        callers[i] = (struct caller){ .cap = service.client,
                                      .timeout_ns = VRD_FOREVER,
                                      .request = { .data = &sent[i], .len = 4 },
                                      .reply = { .data = &got[i], .size = 4 } };
        caller_start(&callers[i]);
        EXPECT(vrd_receive_call(service.endpoint, &request, &answers[i], VRD_FOREVER), 0);
        EXPECT(numbers[i], i);
        answers[i] = pass(&way, answers[i]);
    }
    for (uint32_t i = 0; i < VRD_ENDPOINT_CALLS_MAX; i++) {
        const uint32_t at = i * 5 % VRD_ENDPOINT_CALLS_MAX;

        EXPECT(vrd_reply(answers[at], &numbers[at], 4), 0);
        EXPECT(caller_end(&callers[at]), 0);
        EXPECT(got[at], at);
    }
    ends_close(&way);
    service_end(&service);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_both_ways),
                     SUPPORT_TEST(test_fewer_wanted),
                     SUPPORT_TEST(test_answer_too_large),
                     SUPPORT_TEST(test_late_answers),
                     SUPPORT_TEST(test_at_the_deadline),
                     SUPPORT_TEST(test_a_reply_that_fails),
                     SUPPORT_TEST(test_requests_that_are_dropped),
                     SUPPORT_TEST(test_server_gone_after_the_answer),
                     SUPPORT_TEST(test_a_reply_from_elsewhere),
                     SUPPORT_TEST(test_a_reply_that_went_and_does_not_come),
                     SUPPORT_TEST(test_a_reply_whose_server_is_gone),
                     SUPPORT_TEST(test_many_replies_elsewhere),
                     { 0 },
                 },
             .warm_up = channels_warm_up);
