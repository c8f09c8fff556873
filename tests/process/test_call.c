/* SPDX-License-Identifier: MIT */
/*
 * Calls and replies in good order: any size, any number of clients and of server threads, between
 * threads, after fork, and after exec.
 *
 * ctest: timeout=240
 */
#include "process/endpoints.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#define CLIENTS 8
#define SERVERS 4

/* ---- a server in this process ------------------------------------------------------------------- */

struct server {
    vrd_cap_t cap;
    size_t (*serve)(vrd_cap_t cap, size_t size);
    size_t n;
    pthread_t threads[SERVERS];
    size_t served[SERVERS];
    struct server_thread {
        struct server *server;
        size_t number;
    } numbers[SERVERS];
};

static void *server_run(void *arg)
{
    const struct server_thread *self = arg;
    struct server *server = self->server;

    server->served[self->number] = server->serve(server->cap, SERVED_MAX);
    return NULL;
}

static void server_start(struct server *server, vrd_cap_t cap, size_t n,
                         size_t (*serve_with)(vrd_cap_t cap, size_t size))
{
    *server = (struct server){ .cap = cap, .serve = serve_with, .n = n };
    for (size_t i = 0; i < n; i++) {
        server->numbers[i] = (struct server_thread){ server, i };
        EXPECT(pthread_create(&server->threads[i], NULL, server_run, &server->numbers[i]), 0);
    }
}

/* Closes the endpoint; returns how many calls were served. */
static size_t server_stop(struct server *server)
{
    size_t served = 0;

    EXPECT(vrd_cap_close(server->cap), 0);
    for (size_t i = 0; i < server->n; i++) {
        EXPECT(pthread_join(server->threads[i], NULL), 0);
        served += server->served[i];
    }
    return served;
}

/* ---- sizes --------------------------------------------------------------------------------------- */

static const size_t sizes[] = { 8,    9,     15,    16,     31,     33,     55,      56,
                                57,   63,    64,    65,     100,    1000,   4095,    4096,
                                4097, 10000, 65536, 100000, 300001, 524288, 1 << 20, 17 };

#define SIZES (sizeof sizes / sizeof sizes[0])

static void call_all_sizes(vrd_cap_t cap, uint32_t caller)
{
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t i = 0; i < SIZES; i++)
            numbered_call(cap, caller, i, sizes[round == 1 ? SIZES - 1 - i : i]);
}

static void test_every_size(void **state)
{
    size_t (*const ways[])(vrd_cap_t, size_t) = { serve, serve_combined };

    (void)state;
    for (size_t way = 0; way < 2; way++) {
        const vrd_cap_t cap = endpoint_new();
        const vrd_cap_t other = client_new(cap);
        struct server server;

        server_start(&server, cap, 1, ways[way]);
        call_all_sizes(cap, 1);
        call_all_sizes(other, 2);
        EXPECT(vrd_cap_close(other), 0);
        EXPECT(server_stop(&server), 2 * 3 * SIZES);
    }
}

/* More than the default limit, where the endpoint was made for it. */
static void test_several_mebibytes(void **state)
{
    const struct vrd_channel_options options = { .max_message_size = (size_t)5 << 20 };
    const size_t len = (size_t)5 << 20;
    uint8_t *data = malloc(len), *reply = malloc(len);
    struct vrd_message request = { .data = reply, .size = len };
    vrd_cap_t cap, client, answer;
    uint64_t id;

    (void)state;
    support_require(data && reply);
    EXPECT(vrd_endpoint_create_with(&options, &id, &cap), 0);
    client = client_new(cap);
    for (uint32_t i = 0; i < 3; i++) {
        pid_t child = fork();

        support_require(child >= 0);
        number_fill(data, len, (struct number){ 1, i });
        if (child == 0) {
            EXPECT(vrd_call(client, data, len, reply, len, VRD_FOREVER), len);
            number_check(reply, len, (struct number){ ANSWERER(1), i });
            EXPECT(vrd_call(client, data, len + 1, reply, len, VRD_FOREVER),
                   VRD_ERR_MESSAGE_TOO_LARGE);
            _exit(0);
        }
        EXPECT(vrd_receive_call(cap, &request, &answer, VRD_FOREVER), 0);
        EXPECT(request.len, len);
        number_answer(reply, len);
        EXPECT(vrd_reply(answer, reply, len), 0);
        support_wait_exit(child, 0);
    }
    EXPECT(vrd_cap_close(client), 0);
    EXPECT(vrd_cap_close(cap), 0);
    free(data);
    free(reply);
}

/* Replies of any length to requests of any other, empty ones included. */
static int ask_for_lengths(void *arg)
{
    const vrd_cap_t cap = *(const vrd_cap_t *)arg;
    static uint8_t reply[100001];
    uint64_t seed = 3;

    for (uint32_t i = 0; i < support_iterations(3000); i++) {
        uint32_t wanted = (uint32_t)(random_next(&seed) % (i % 20 == 0 ? 100000 : 200));

        EXPECT(vrd_call(cap, &wanted, sizeof wanted, reply, sizeof reply, VRD_FOREVER), wanted);
        number_check(reply, wanted, (struct number){ wanted, 1 });
    }
    EXPECT(vrd_call(cap, NULL, 0, NULL, 0, VRD_FOREVER), 0);
    return 0;
}

static void test_reply_of_another_length(void **state)
{
    vrd_cap_t cap = endpoint_new(), reply;
    uint32_t wanted = 1;
    struct vrd_message request = { .data = &wanted, .size = sizeof wanted };
    static uint8_t data[100001];
    const pid_t child = support_child(ask_for_lengths, &cap);

    (void)state;
    do {
        EXPECT(vrd_receive_call(cap, &request, &reply, VRD_FOREVER), 0);
        if (request.len == 0)
            break;
        number_fill(data, wanted, (struct number){ wanted, 1 });
        EXPECT(vrd_reply(reply, data, wanted), 0);
    } while (true);
    EXPECT(vrd_reply(reply, NULL, 0), 0);
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(cap), 0);
}

/* ---- processes ----------------------------------------------------------------------------------- */

struct client {
    vrd_cap_t cap;
    uint32_t number, calls;
};

static int client_run(void *arg)
{
    const struct client *client = arg;

    for (uint32_t i = 0; i < client->calls; i++)
        numbered_call(client->cap, client->number, i, 8 + (i * 7 + client->number) % 100);
    return 0;
}

/* Clients that are children, each with a link of its own over the inherited capability. */
static void test_forked_clients(void **state)
{
    (void)state;
    for (size_t threads = 1; threads <= SERVERS; threads += SERVERS - 1) {
        const vrd_cap_t cap = endpoint_new();
        struct client client = { .cap = cap, .calls = (uint32_t)support_iterations(3000) };
        pid_t children[CLIENTS];
        struct server server;

        for (uint32_t i = 0; i < CLIENTS; i++) {
            client.number = i;
            children[i] = support_child(client_run, &client);
        }
        server_start(&server, cap, threads, threads == 1 ? serve_combined : serve);
        for (uint32_t i = 0; i < CLIENTS; i++)
            support_wait_exit(children[i], 0);
        EXPECT(server_stop(&server), CLIENTS * client.calls);
    }
}

static int server_child(void *arg)
{
    const vrd_cap_t *caps = arg;

    EXPECT(vrd_cap_close(caps[1]), 0);
    serve_combined(caps[0], SERVED_MAX);
    return 0;
}

/* The server is the child; the parent keeps the right to call and nothing else. */
static void test_forked_server(void **state)
{
    vrd_cap_t caps[2] = { endpoint_new() };
    pid_t child;

    (void)state;
    caps[1] = client_new(caps[0]); /* said before the fork: the HELLO waits in the root socket */
    child = support_child(server_child, caps);
    EXPECT(vrd_cap_close(caps[0]), 0);
    for (uint32_t i = 0; i < 2000; i++)
        numbered_call(caps[1], 1, i, 8 + i % 70);
    support_kill(child);
    EXPECT(vrd_call(caps[1], "x", 1, NULL, 0, VRD_FOREVER), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(caps[1]), 0);
}

static int role_client(struct support_role_args *args)
{
    const vrd_cap_t cap = import_at(args, 0);

    for (uint32_t i = 0; i < 500; i++)
        numbered_call(cap, (uint32_t)atoi(args->args[0]), i, 8 + i % 300);
    numbered_call(cap, 9, 9, 300000);
    EXPECT(vrd_cap_close(cap), 0);
    return 0;
}

static void test_clients_after_exec(void **state)
{
    const vrd_cap_t cap = endpoint_new();
    pid_t children[CLIENTS];
    struct server server;

    (void)state;
    server_start(&server, cap, 2, serve);
    for (size_t i = 0; i < CLIENTS; i++) {
        char number[2] = { (char)('0' + i), 0 };
        int invitation;

        EXPECT(vrd_cap_export(cap, VRD_RIGHT_SEND, &invitation), 0);
        children[i] =
            support_spawn_role("client", &invitation, 1, (const char *const[]){ number, NULL });
        EXPECT(close(invitation), 0);
    }
    for (size_t i = 0; i < CLIENTS; i++)
        support_wait_exit(children[i], 0);
    EXPECT(server_stop(&server), CLIENTS * 501);
}

static int role_server(struct support_role_args *args)
{
    const vrd_cap_t cap = import_at(args, 0);
    struct vrd_cap_info info;

    EXPECT(vrd_cap_info(cap, &info), 0);
    EXPECT(info.kind, VRD_OBJECT_ENDPOINT);
    EXPECT(info.rights, VRD_RIGHT_RECEIVE | VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
    serve(cap, SERVED_MAX);
    return 0;
}

/* A launcher hands the service to a program that it starts; it and its children are clients. */
static void test_service_moves(void **state)
{
    const uint32_t rights = VRD_RIGHT_RECEIVE | VRD_RIGHT_SEND | VRD_RIGHT_GRANT;
    const vrd_cap_t cap = endpoint_new();
    vrd_cap_t client;
    int service, invitation;
    pid_t server;

    (void)state;
    EXPECT(vrd_cap_export(cap, VRD_RIGHT_SEND, &invitation), 0);
    EXPECT(vrd_cap_export(cap, rights, &service), 0);
    EXPECT(vrd_cap_close(cap), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_cap_import(invitation, &client), 0);
    server = support_spawn_role("server", &service, 1, NULL);
    EXPECT(close(service), 0);
    for (uint32_t i = 0; i < 500; i++)
        numbered_call(client, 3, i, 8 + i % 100);
    support_kill(server);
    EXPECT(vrd_call(client, "x", 1, NULL, 0, VRD_FOREVER), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(client), 0);
}

/* In one process: the moved endpoint can do all that the first could. */
static void test_moved_endpoint_is_whole(void **state)
{
    const uint32_t rights = VRD_RIGHT_RECEIVE | VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE;
    vrd_cap_t cap = endpoint_new(), client;
    struct server server;

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        int service;

        EXPECT(vrd_cap_export(cap, rights, &service), 0);
        EXPECT(vrd_cap_import(service, &cap), 0);
    }
    client = client_new(cap);
    server_start(&server, cap, 1, serve);
    numbered_call(cap, 1, 1, 100);
    numbered_call(client, 2, 1, 100);
    EXPECT(vrd_cap_close(client), 0);
    EXPECT(server_stop(&server), 2);
}

/* ---- threads ------------------------------------------------------------------------------------- */

static void *client_thread(void *arg)
{
    client_run(arg);
    return NULL;
}

/* More threads than a link has entries, all through one capability. */
static void test_many_threads_on_one_capability(void **state)
{
    enum { THREADS = VRD_ENDPOINT_CALLS_MAX + 8 };
    const vrd_cap_t cap = endpoint_new();
    const vrd_cap_t client = client_new(cap);
    struct client clients[THREADS];
    pthread_t threads[THREADS];
    struct server server;

    (void)state;
    server_start(&server, cap, 2, serve);
    for (uint32_t i = 0; i < THREADS; i++) {
        clients[i] = (struct client){ client, i, (uint32_t)support_iterations(300) };
        EXPECT(pthread_create(&threads[i], NULL, client_thread, &clients[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        EXPECT(pthread_join(threads[i], NULL), 0);
    EXPECT(vrd_cap_close(client), 0);
    EXPECT(server_stop(&server), THREADS * support_iterations(300));
}

/* ---- where there is little to run on --------------------------------------------------------------- */

static int on_one_cpu(void *arg)
{
    cpu_set_t set;

    (void)arg;
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    EXPECT(sched_setaffinity(0, sizeof set, &set), 0);
    test_forked_clients(NULL);
    test_every_size(NULL);
    return 0;
}

static void test_on_one_cpu(void **state)
{
    (void)state;
    support_wait_exit(support_child(on_one_cpu, NULL), 0);
}

/* Each side falls asleep before the other moves. */
static int sleepy_client(void *arg)
{
    const vrd_cap_t cap = *(const vrd_cap_t *)arg;

    for (uint32_t i = 0; i < 8; i++) {
        numbered_call(cap, 1, i, 8 + i * 20);
        support_sleep_ms(30); /* the server sleeps meanwhile, for good */
    }
    return 0;
}

static void test_both_sides_sleep(void **state)
{
    vrd_cap_t cap = endpoint_new(), reply;
    uint8_t data[200];
    struct vrd_message request = { .data = data, .size = sizeof data };
    const pid_t child = support_child(sleepy_client, &cap);

    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        EXPECT(vrd_receive_call(cap, &request, &reply, VRD_FOREVER), 0);
        support_wait_asleep(child);
        number_answer(data, request.len);
        EXPECT(vrd_reply(reply, data, request.len), 0);
    }
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(cap), 0);
}

/* Before Linux 5.16 nobody can sleep on several words: replies are rung over the tether then. */
static int role_old_kernel(struct support_role_args *args)
{
    (void)args;
    support_refuse_syscall(SYS_futex_waitv, ENOSYS);
    test_both_sides_sleep(NULL);
    test_many_threads_on_one_capability(NULL);
    test_forked_clients(NULL);
    return 0;
}

static void test_on_an_old_kernel(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("old-kernel", NULL, 0, NULL), 0);
}

/* ---- what comes with a call ------------------------------------------------------------------------ */

static int call_with_message(void *arg)
{
    const vrd_cap_t cap = *(const vrd_cap_t *)arg;
    uint8_t data[200];

    for (size_t len = 0; len <= 200; len += 40) {
        const struct vrd_message request = {
            .opcode = 7, .flags = (uint32_t)len, .data = data, .len = len
        };
        struct vrd_message reply = { .data = data, .size = sizeof data };

        EXPECT(vrd_call_message(cap, &request, &reply, VRD_FOREVER), 0);
        EXPECT(reply.opcode, 8);
        EXPECT(reply.flags, len + 1);
        EXPECT(reply.len, 200 - len);
        EXPECT(reply.n_caps, 0);
    }
    return 0;
}

static void test_opcode_flags_and_source(void **state)
{
    vrd_cap_t cap = endpoint_new(), reply;
    uint8_t data[200] = { 0 };
    struct vrd_message request = { .data = data, .size = sizeof data };
    const pid_t child = support_child(call_with_message, &cap);

    (void)state;
    for (size_t len = 0; len <= 200; len += 40) {
        EXPECT(vrd_receive_call(cap, &request, &reply, VRD_FOREVER), 0);
        EXPECT(request.opcode, 7);
        EXPECT(request.flags, len);
        EXPECT(request.len, len);
        EXPECT(request.source.pid, child);
        EXPECT(request.source.uid, getuid());
        EXPECT(vrd_reply_message(reply, &(struct vrd_message){ .opcode = 8,
                                                               .flags = (uint32_t)len + 1,
                                                               .data = data,
                                                               .len = 200 - len }),
               0);
    }
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(cap), 0);
}

/* Who calls cannot say that it is somebody else. */
static void test_badges_tell_clients_apart(void **state)
{
    const vrd_cap_t cap = endpoint_new();
    vrd_cap_t badged[3], reply;
    struct vrd_message request = { 0 };

    (void)state;
    for (uint64_t i = 0; i < 3; i++) {
        EXPECT(vrd_cap_derive_badged(cap, VRD_RIGHT_SEND, 100 + i, &badged[i]), 0);
        EXPECT(vrd_call(badged[i], NULL, 0, NULL, 0, 0), VRD_ERR_TIMEOUT);
    }
    EXPECT(vrd_call(cap, NULL, 0, NULL, 0, 0), VRD_ERR_TIMEOUT);
    for (uint64_t i = 0; i < 4; i++) {
        EXPECT(vrd_receive_call(cap, &request, &reply, VRD_FOREVER), 0);
        support_require(request.badge == 0 || (request.badge >= 100 && request.badge < 103));
        EXPECT(vrd_reply(reply, NULL, 0), VRD_ERR_TIMEOUT);
    }
    for (size_t i = 0; i < 3; i++)
        EXPECT(vrd_cap_close(badged[i]), 0);
    EXPECT(vrd_cap_close(cap), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_every_size, 60),
                     SUPPORT_TEST(test_several_mebibytes),
                     SUPPORT_TEST(test_reply_of_another_length),
                     SUPPORT_TEST_TIMEOUT(test_forked_clients, 60),
                     SUPPORT_TEST(test_forked_server),
                     SUPPORT_TEST(test_clients_after_exec),
                     SUPPORT_TEST(test_service_moves),
                     SUPPORT_TEST(test_moved_endpoint_is_whole),
                     SUPPORT_TEST(test_many_threads_on_one_capability),
                     SUPPORT_TEST_TIMEOUT(test_on_one_cpu, 120),
                     SUPPORT_TEST(test_both_sides_sleep),
                     SUPPORT_TEST(test_on_an_old_kernel),
                     SUPPORT_TEST(test_opcode_flags_and_source),
                     SUPPORT_TEST(test_badges_tell_clients_apart),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "client", role_client },
                     { "server", role_server },
                     { "old-kernel", role_old_kernel },
                     { 0 },
                 },
             .warm_up = channels_warm_up)
