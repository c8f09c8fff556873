/* SPDX-License-Identifier: MIT */
/* Answers that are written in place, and answers that are read in place. */
#include "process/loans.h"

#include <pthread.h>

#include "process/endpoints.h"

#define ENTRIES VRD_ENDPOINT_CALLS_MAX

/* Bytes of answer `i`: from none to more than any buffer before. */
static size_t len_of(uint32_t i)
{
    return i % 40 == 39 ? (size_t)5000 * (i % 100) : (size_t)i * 37 % 3000;
}

static struct vrd_loan answer_loan(vrd_cap_t reply, struct number number, size_t len)
{
    struct vrd_loan loan;

    EXPECT(vrd_reply_loan(reply, len, &loan), 0);
    EXPECT(loan.len, len);
    EXPECT(loan.size, len);
    EXPECT((uintptr_t)loan.data % 64, 0);
    number_fill(loan.data, len, number);
    return loan;
}

static void answer_in_place(vrd_cap_t reply, struct number number, size_t len)
{
    struct vrd_loan loan = answer_loan(reply, number, len);

    EXPECT(vrd_loan_send(&loan, 0), 0);
    support_require(loan.data == NULL);
}

/* The request is the number of the answer that is wanted. */
static struct vrd_view view_answer(vrd_cap_t cap, uint32_t i, size_t len)
{
    struct vrd_view view;

    EXPECT(vrd_call_view(cap, &i, sizeof i, &view, VRD_FOREVER), 0);
    EXPECT(view.len, len);
    number_check(view.data, len, (struct number){ 1, i });
    EXPECT(view.source.pid, 0);
    EXPECT(view.badge, 0);
    return view;
}

/* Answers `n` requests (0: until there is nobody left), every third by a copy. */
static void answer_all(vrd_cap_t endpoint, uint32_t n)
{
    struct vrd_message request = { .size = sizeof(uint32_t) };
    uint32_t i;
    vrd_cap_t reply;
    int r = 0;

    request.data = &i;
    for (uint32_t served = 0; n == 0 || served < n; served++) {
        const struct number *number;

        r = vrd_receive_call(endpoint, &request, &reply, VRD_FOREVER);
        if (r < 0)
            break;
        number = &(struct number){ 1, i };
        if (i % 3 != 2) {
            answer_in_place(reply, *number, len_of(i));
            continue;
        }
        uint8_t *copy = malloc(len_of(i) + 1);

        support_require(copy != NULL);
        number_fill(copy, len_of(i), *number);
        EXPECT(vrd_reply(reply, copy, len_of(i)), 0);
        free(copy);
    }
    support_require(r == 0 || r == VRD_ERR_PEER_GONE);
}

/* fd: the service. */
static int role_server(struct support_role_args *args)
{
    const vrd_cap_t endpoint = import_at(args, 0);

    answer_all(endpoint, 0);
    return 0;
}

static pid_t server_spawn(vrd_cap_t *ret_client)
{
    const vrd_cap_t endpoint = endpoint_new();
    int service, invitation;
    pid_t pid;

    EXPECT(vrd_cap_export(endpoint, VRD_RIGHT_SEND, &invitation), 0);
    EXPECT(vrd_cap_export(endpoint, VRD_RIGHT_RECEIVE, &service), 0);
    pid = support_spawn_role("server", &service, 1, NULL);
    EXPECT(close(service), 0);
    EXPECT(vrd_cap_import(invitation, ret_client), 0);
    return pid;
}

/* Any number of views up to all but one, of any age, beside answers that are copied. */
static void test_another_program_answers(void **state)
{
    struct vrd_view views[ENTRIES - 1] = { { 0 } };
    uint32_t numbers[ENTRIES - 1] = { 0 };
    static uint8_t data[512000];
    uint64_t random = 5;
    vrd_cap_t client;
    const pid_t pid = server_spawn(&client);

    (void)state;
    for (uint32_t i = 0; i < 2000; i++) {
        const size_t at = random_next(&random) % sizeof views / sizeof views[0];

        if (views[at].data) {
            number_check(views[at].data, views[at].len, (struct number){ 1, numbers[at] });
            release(&views[at]);
        }
        numbers[at] = i;
        views[at] = view_answer(client, i, len_of(i));
        EXPECT(vrd_call(client, &i, sizeof i, data, sizeof data, VRD_FOREVER), len_of(i));
        number_check(data, len_of(i), (struct number){ 1, i });
    }
    support_kill(pid);
    EXPECT(vrd_cap_close(client), 0);
    for (size_t at = 0; at < sizeof views / sizeof views[0]; at++) /* longer than all else */
        if (views[at].data) {
            number_check(views[at].data, views[at].len, (struct number){ 1, numbers[at] });
            release(&views[at]);
        }
}

static void test_views_outlive_a_killed_server(void **state)
{
    struct vrd_view first, second, none;
    uint32_t i = 0;
    vrd_cap_t client;
    const pid_t pid = server_spawn(&client);

    (void)state;
    first = view_answer(client, 37, len_of(37));
    second = view_answer(client, 39, len_of(39));
    support_kill(pid);
    EXPECT(vrd_call_view(client, &i, sizeof i, &none, VRD_FOREVER), VRD_ERR_PEER_GONE);
    number_check(first.data, first.len, (struct number){ 1, 37 });
    release(&first);
    EXPECT(vrd_cap_close(client), 0);
    number_check(second.data, second.len, (struct number){ 1, 39 });
    release(&second);
}

/* ---- in one process --------------------------------------------------------------------------- */

struct pair {
    vrd_cap_t endpoint, client;
};

static struct pair pair_new(void)
{
    const vrd_cap_t endpoint = endpoint_new();

    return (struct pair){ .endpoint = endpoint, .client = client_new(endpoint) };
}

static void pair_close(const struct pair *pair)
{
    EXPECT(vrd_cap_close(pair->client), 0);
    EXPECT(vrd_cap_close(pair->endpoint), 0);
}

struct server {
    vrd_cap_t endpoint;
    uint32_t n;
    pthread_t thread;
};

static void *server_run(void *arg)
{
    const struct server *server = arg;

    answer_all(server->endpoint, server->n);
    return NULL;
}

static void server_start(struct server *server, vrd_cap_t endpoint, uint32_t n)
{
    *server = (struct server){ .endpoint = endpoint, .n = n };
    EXPECT(pthread_create(&server->thread, NULL, server_run, server), 0);
}

static void *release_later(void *arg)
{
    support_sleep_ms(20);
    release(arg);
    return NULL;
}

/* As many views as there can be calls: the next call waits until another thread releases one. */
static void test_one_view_too_many(void **state)
{
    const struct pair pair = pair_new();
    struct vrd_view views[ENTRIES], one;
    struct server server;
    uint32_t i = 50;
    pthread_t thread;

    (void)state;
    server_start(&server, pair.endpoint, ENTRIES + 2);
    for (uint32_t at = 0; at < ENTRIES; at++)
        views[at] = view_answer(pair.client, 3 * at + 4, len_of(3 * at + 4));
    EXPECT(vrd_call_view(pair.client, &i, sizeof i, &one, 0), VRD_ERR_ENDPOINT_BUSY);
    EXPECT(vrd_call_view(pair.client, &i, sizeof i, &one, 10 * MS), VRD_ERR_TIMEOUT);
    EXPECT(vrd_call(pair.client, &i, sizeof i, NULL, 0, 0), VRD_ERR_ENDPOINT_BUSY);
    EXPECT(pthread_create(&thread, NULL, release_later, &views[7]), 0);
    views[7] = view_answer(pair.client, 52, len_of(52));
    EXPECT(pthread_join(thread, NULL), 0);
    for (uint32_t at = 0; at < ENTRIES; at++)
        release(&views[at]);
    one = view_answer(pair.client, 7, len_of(7));
    release(&one);
    EXPECT(pthread_join(server.thread, NULL), 0);
    pair_close(&pair);
}

/* A call that another thread makes, and a reply capability for it. */
struct asked {
    vrd_cap_t client, reply;
    struct vrd_view view;
    int result;
    pthread_t thread;
};

static void *asked_run(void *arg)
{
    struct asked *asked = arg;

    asked->result = vrd_call_view(asked->client, "", 0, &asked->view, VRD_FOREVER);
    return NULL;
}

static void ask(struct asked *asked, const struct pair *pair)
{
    struct vrd_message request = { 0 };

    *asked = (struct asked){ .client = pair->client };
    EXPECT(pthread_create(&asked->thread, NULL, asked_run, asked), 0);
    EXPECT(vrd_receive_call(pair->endpoint, &request, &asked->reply, VRD_FOREVER), 0);
}

static void asked_expect(struct asked *asked, struct number number, size_t len)
{
    EXPECT(pthread_join(asked->thread, NULL), 0);
    EXPECT(asked->result, 0);
    EXPECT(asked->view.len, len);
    number_check(asked->view.data, len, number);
    release(&asked->view);
}

static void test_answers_of_every_length(void **state)
{
    static const size_t lens[] = { 0, 1, 56, 57, 64, 65, 4096, 4097, 100000, 1 << 20 };
    const struct pair pair = pair_new();
    static uint8_t data[1 << 20];
    struct asked asked;

    (void)state;
    for (uint32_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        struct vrd_message reply = { .data = data, .len = lens[i], .opcode = i, .flags = 2 * i };
        struct vrd_loan loan;

        number_fill(data, lens[i], (struct number){ 2, i });
        ask(&asked, &pair);
        EXPECT(vrd_reply_message(asked.reply, &reply), 0);
        pthread_join(asked.thread, NULL);
        EXPECT(asked.view.opcode, i);
        EXPECT(asked.view.flags, 2 * i);
        EXPECT(asked.view.len, lens[i]);
        number_check(asked.view.data, lens[i], (struct number){ 2, i });
        release(&asked.view);

        ask(&asked, &pair);
        loan = answer_loan(asked.reply, (struct number){ 3, i }, 1 << 20);
        number_fill(loan.data, lens[i], (struct number){ 3, i });
        loan.len = lens[i]; /* less than was borrowed */
        loan.opcode = i + 1;
        loan.flags = 7;
        EXPECT(vrd_loan_send(&loan, 0), 0);
        pthread_join(asked.thread, NULL);
        EXPECT(asked.view.opcode, i + 1);
        EXPECT(asked.view.flags, 7);
        EXPECT(asked.view.len, lens[i]);
        number_check(asked.view.data, lens[i], (struct number){ 3, i });
        release(&asked.view);
    }
    pair_close(&pair);
}

static void test_a_loan_for_an_answer_is_over_in_many_ways(void **state)
{
    const struct pair pair = pair_new();
    struct vrd_loan loan, other;
    struct asked asked;
    static uint8_t data[9000];

    (void)state;
    ask(&asked, &pair);
    EXPECT(vrd_reply_loan(asked.reply, 1, NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_reply_loan(asked.reply, VRD_CHANNEL_MESSAGE_DEFAULT + 1, &loan),
           VRD_ERR_MESSAGE_TOO_LARGE);
    EXPECT(vrd_reply_loan(pair.client, 1, &loan), VRD_ERR_INVALID_CAPABILITY);
    loan = answer_loan(asked.reply, (struct number){ 4, 0 }, 5000);
    EXPECT(vrd_reply_loan(asked.reply, 1, &other), VRD_ERR_RESOURCE_BUSY);
    EXPECT(vrd_call_loan(&loan, NULL, 0, 0), VRD_ERR_INVALID_ARGUMENT);
    loan.len = 5001;
    EXPECT(vrd_loan_send(&loan, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_loan_cancel(&loan), 0);
    EXPECT(vrd_loan_cancel(&loan), VRD_ERR_INVALID_ARGUMENT);
    loan = answer_loan(asked.reply, (struct number){ 4, 1 }, 5000); /* the same room */
    EXPECT(vrd_loan_send(&loan, 0), 0);
    asked_expect(&asked, (struct number){ 4, 1 }, 5000);
    EXPECT(vrd_reply_loan(asked.reply, 1, &loan), VRD_ERR_INVALID_CAPABILITY);

    /* answered otherwise */
    ask(&asked, &pair);
    loan = answer_loan(asked.reply, (struct number){ 4, 2 }, 5000);
    number_fill(data, sizeof data, (struct number){ 4, 3 });
    EXPECT(vrd_reply(asked.reply, data, sizeof data), 0);
    EXPECT(vrd_loan_send(&loan, 0), VRD_ERR_INVALID_CAPABILITY);
    number_check(loan.data, 5000, (struct number){ 4, 2 });
    EXPECT(vrd_loan_cancel(&loan), 0);
    asked_expect(&asked, (struct number){ 4, 3 }, sizeof data);

    /* by little, so that the entry has no buffer for the next answer */
    ask(&asked, &pair);
    loan = answer_loan(asked.reply, (struct number){ 4, 4 }, 5000);
    EXPECT(vrd_reply(asked.reply, data, 0), 0);
    asked_expect(&asked, (struct number){ 4, 5 }, 0);
    ask(&asked, &pair);
    other = answer_loan(asked.reply, (struct number){ 4, 6 }, 5000);
    EXPECT(vrd_loan_cancel(&loan), 0);
    EXPECT(vrd_loan_send(&other, 0), 0);
    asked_expect(&asked, (struct number){ 4, 6 }, 5000);

    /* dropped */
    ask(&asked, &pair);
    loan = answer_loan(asked.reply, (struct number){ 4, 7 }, 5000);
    EXPECT(vrd_cap_close(asked.reply), 0);
    EXPECT(pthread_join(asked.thread, NULL), 0);
    EXPECT(asked.result, VRD_ERR_PEER_GONE);
    EXPECT(vrd_loan_send(&loan, 0), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_loan_cancel(&loan), 0);
    pair_close(&pair);
}

static void test_the_caller_goes(void **state)
{
    const struct pair pair = pair_new();
    struct vrd_message request = { 0 };
    struct vrd_loan loan;
    vrd_cap_t client = client_new(pair.endpoint), reply;

    (void)state;
    /* nobody waits any more */
    EXPECT(vrd_call(client, "", 0, NULL, 0, 0), VRD_ERR_TIMEOUT);
    EXPECT(vrd_receive_call(pair.endpoint, &request, &reply, VRD_FOREVER), 0);
    loan = answer_loan(reply, (struct number){ 5, 0 }, 5000);
    EXPECT(vrd_loan_send(&loan, 0), VRD_ERR_TIMEOUT);
    support_require(loan.data == NULL);

    /* there is no caller any more */
    EXPECT(vrd_call(client, "", 0, NULL, 0, 0), VRD_ERR_TIMEOUT);
    EXPECT(vrd_receive_call(pair.endpoint, &request, &reply, VRD_FOREVER), 0);
    loan = answer_loan(reply, (struct number){ 5, 1 }, 5000);
    EXPECT(vrd_cap_close(client), 0);
    EXPECT(vrd_receive_call(pair.endpoint, &request, &client, 50 * MS), VRD_ERR_TIMEOUT);
    number_check(loan.data, 5000, (struct number){ 5, 1 });
    EXPECT(vrd_loan_send(&loan, 0), VRD_ERR_PEER_GONE);
    support_require(loan.data == NULL);

    /* nor when it is asked for */
    client = client_new(pair.endpoint);
    EXPECT(vrd_call(client, "", 0, NULL, 0, 0), VRD_ERR_TIMEOUT);
    EXPECT(vrd_receive_call(pair.endpoint, &request, &reply, VRD_FOREVER), 0);
    EXPECT(vrd_cap_close(client), 0);
    EXPECT(vrd_receive_call(pair.endpoint, &request, &client, 50 * MS), VRD_ERR_TIMEOUT);
    EXPECT(vrd_reply_loan(reply, 5000, &loan), VRD_ERR_PEER_GONE);
    EXPECT(vrd_reply(reply, "", 0), VRD_ERR_PEER_GONE);
    pair_close(&pair);
}

static void test_the_endpoint_goes(void **state)
{
    const struct pair pair = pair_new();
    struct vrd_loan loan;
    struct asked asked;

    (void)state;
    ask(&asked, &pair);
    loan = answer_loan(asked.reply, (struct number){ 6, 0 }, 70000);
    pair_close(&pair);
    EXPECT(pthread_join(asked.thread, NULL), 0);
    support_require(asked.result == VRD_ERR_PEER_GONE ||
                    asked.result == VRD_ERR_INVALID_CAPABILITY);
    number_check(loan.data, 70000, (struct number){ 6, 0 });
    EXPECT(vrd_loan_send(&loan, 0), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_loan_cancel(&loan), 0);
}

/* The request in place, and the answer. */
static void test_both_in_place(void **state)
{
    const struct pair pair = pair_new();
    struct vrd_loan loan;
    struct server server;
    struct vrd_view view;

    (void)state;
    server_start(&server, pair.endpoint, 200);
    for (uint32_t i = 0; i < 200; i++) {
        EXPECT(vrd_loan(pair.client, sizeof i, &loan), 0);
        memcpy(loan.data, &i, sizeof i);
        EXPECT(vrd_call_loan_view(&loan, NULL, 0), VRD_ERR_INVALID_ARGUMENT);
        EXPECT(vrd_call_loan_view(&loan, &view, VRD_FOREVER), 0);
        support_require(loan.data == NULL);
        EXPECT(view.len, len_of(i));
        number_check(view.data, view.len, (struct number){ 1, i });
        release(&view);
    }
    EXPECT(vrd_call_view(pair.client, "", 0, NULL, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_call_loan_view(&loan, &view, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(pthread_join(server.thread, NULL), 0);
    pair_close(&pair);
}

/* ---- who else may answer -------------------------------------------------------------------------- */

/* fd: an invitation to a channel by which a reply capability comes. */
static int role_deputy(struct support_role_args *args)
{
    const vrd_cap_t receive = import_at(args, 0);
    struct vrd_message message = { .max_caps = 1 };
    struct vrd_loan loan;

    for (uint32_t i = 0; i < 3; i++) {
        const size_t len = i * 30000;

        EXPECT(vrd_receive_message(receive, &message, VRD_FOREVER), 0);
        EXPECT(message.n_caps, 1);
        EXPECT(vrd_reply_loan(message.caps[0], VRD_CHANNEL_MESSAGE_DEFAULT + 1, &loan),
               VRD_ERR_MESSAGE_TOO_LARGE);
        loan = answer_loan(message.caps[0], (struct number){ 7, i }, 100);
        EXPECT(vrd_loan_cancel(&loan), 0);
        answer_in_place(message.caps[0], (struct number){ 7, i }, len);
        EXPECT(vrd_reply(message.caps[0], "", 0), VRD_ERR_INVALID_CAPABILITY);
    }
    return 0;
}

static void test_a_deputy_answers(void **state)
{
    const struct pair pair = pair_new();
    const struct ends ends = ends_new(4);
    struct asked asked;
    int invitation;
    pid_t pid;

    (void)state;
    EXPECT(vrd_cap_export(ends.receive, VRD_RIGHT_RECEIVE, &invitation), 0);
    pid = support_spawn_role("deputy", &invitation, 1, NULL);
    EXPECT(close(invitation), 0);
    for (uint32_t i = 0; i < 3; i++) {
        struct vrd_message message = { .n_caps = 1 };

        ask(&asked, &pair);
        message.caps[0] = asked.reply;
        EXPECT(vrd_send_message(ends.send, &message, VRD_FOREVER), 0);
        asked_expect(&asked, (struct number){ 7, i }, i * 30000);
    }
    support_wait_exit(pid, 0);
    EXPECT(vrd_cap_close(ends.send), 0);
    pair_close(&pair);
}

/* What is lent here cannot be sent by whoever the call has moved to. */
static void test_a_lent_call_moves(void **state)
{
    const struct pair pair = pair_new();
    const struct ends ends = ends_new(4);
    struct vrd_message message = { .n_caps = 1, .max_caps = 1 };
    struct vrd_loan loan;
    struct asked asked;

    (void)state;
    ask(&asked, &pair);
    loan = answer_loan(asked.reply, (struct number){ 8, 0 }, 5000);
    message.caps[0] = asked.reply;
    EXPECT(vrd_send_message(ends.send, &message, 0), 0);
    EXPECT(vrd_loan_send(&loan, 0), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_receive_message(ends.receive, &message, 0), 0);
    answer_in_place(message.caps[0], (struct number){ 8, 1 }, 6000);
    asked_expect(&asked, (struct number){ 8, 1 }, 6000);
    number_check(loan.data, 5000, (struct number){ 8, 0 });
    EXPECT(vrd_loan_cancel(&loan), 0);
    ends_close(&ends);
    pair_close(&pair);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_another_program_answers),
                     SUPPORT_TEST(test_views_outlive_a_killed_server),
                     SUPPORT_TEST(test_one_view_too_many),
                     SUPPORT_TEST(test_answers_of_every_length),
                     SUPPORT_TEST(test_a_loan_for_an_answer_is_over_in_many_ways),
                     SUPPORT_TEST(test_the_caller_goes),
                     SUPPORT_TEST(test_the_endpoint_goes),
                     SUPPORT_TEST(test_both_in_place),
                     SUPPORT_TEST(test_a_deputy_answers),
                     SUPPORT_TEST(test_a_lent_call_moves),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "server", role_server },
                     { "deputy", role_deputy },
                     { 0 },
                 },
             .warm_up = channels_warm_up)
