/* SPDX-License-Identifier: MIT */
/*
 * Who dies, closes or is thrown out while calls are pending: every caller learns it at once, what was
 * answered before is not lost, and the server is left with nothing to keep.
 */
#include "process/endpoints.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#define CALLS VRD_ENDPOINT_CALLS_MAX

struct caller {
    vrd_cap_t cap;
    size_t len;
    pthread_t thread;
    atomic_int tid;
    ssize_t result;
};

static void *caller_run(void *arg)
{
    struct caller *caller = arg;
    uint8_t data[5000] = { 0 };

    atomic_store(&caller->tid, (int)syscall(SYS_gettid));
    caller->result = vrd_call(caller->cap, data, caller->len, data, sizeof data, VRD_FOREVER);
    return NULL;
}

/* That many threads wait in calls. */
static void callers_start(struct caller *callers, size_t n, vrd_cap_t cap)
{
    for (size_t i = 0; i < n; i++) {
        callers[i] = (struct caller){ .cap = cap, .len = 8 + 10 * i };
        EXPECT(pthread_create(&callers[i].thread, NULL, caller_run, &callers[i]), 0);
    }
    for (size_t i = 0; i < n; i++)
        while (atomic_load(&callers[i].tid) == 0)
            support_sleep_ms(1);
    support_wait_asleep(atomic_load(&callers[n - 1].tid)); /* and by then, as a rule, the others */
}

static void callers_join(struct caller *callers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        EXPECT(pthread_join(callers[i].thread, NULL), 0);
}

/* ---- the server ------------------------------------------------------------------------------------- */

struct scene {
    vrd_cap_t cap, client; /* the service, and a right to call                           */
    size_t taken;          /* calls that the server takes before its end ...             */
    size_t answered;       /* ... and of these, answers                                  */
    size_t reply_len;
    bool closes; /* instead of dying */
    struct support_gate ready;
};

static int server_run(void *arg)
{
    struct scene *scene = arg;
    static uint8_t data[5000];
    struct vrd_message request = { .data = data, .size = sizeof data };
    vrd_cap_t replies[CALLS];

    EXPECT(vrd_cap_close(scene->client), 0);
    for (size_t i = 0; i < scene->taken; i++)
        EXPECT(vrd_receive_call(scene->cap, &request, &replies[i], VRD_FOREVER), 0);
    support_gate_wait(&scene->ready);
    for (size_t i = 0; i < scene->answered; i++)
        EXPECT(vrd_reply(replies[i], data, scene->reply_len), 0);
    if (!scene->closes)
        kill(getpid(), SIGKILL);
    EXPECT(vrd_cap_close(scene->cap), 0);
    return 0;
}

static void server_ends(struct scene scene)
{
    struct caller callers[CALLS];
    size_t answered = 0, gone = 0;
    pid_t server;

    scene.cap = endpoint_new();
    scene.client = client_new(scene.cap);
    support_gate_init(&scene.ready);
    server = support_child(server_run, &scene);
    EXPECT(vrd_cap_close(scene.cap), 0);
    callers_start(callers, CALLS, scene.client);
    support_gate_open(&scene.ready);
    if (scene.closes)
        support_wait_exit(server, 0);
    else
        support_wait_signal(server, SIGKILL);
    callers_join(callers, CALLS);
    for (size_t i = 0; i < CALLS; i++) {
        answered += callers[i].result == (ssize_t)scene.reply_len;
        gone += callers[i].result == VRD_ERR_PEER_GONE;
    }
    EXPECT(answered, scene.answered);
    EXPECT(gone, CALLS - scene.answered);
    EXPECT(vrd_call(scene.client, "x", 1, NULL, 0, VRD_FOREVER), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(scene.client), 0);
    support_gate_deinit(&scene.ready);
}

static void test_server_ends(void **state)
{
    static const size_t reply_lens[] = { 8, 64, 65, 5000 };

    (void)state;
    for (uint32_t closes = 0; closes < 2; closes++) {
        server_ends((struct scene){ .closes = closes });
        server_ends((struct scene){ .closes = closes, .taken = 7 });
        server_ends((struct scene){ .closes = closes, .taken = CALLS });
        for (size_t i = 0; i < 4; i++) {
            server_ends((struct scene){
                .closes = closes, .taken = 9, .answered = 4, .reply_len = reply_lens[i] });
            server_ends((struct scene){
                .closes = closes, .taken = CALLS, .answered = CALLS, .reply_len = reply_lens[i] });
        }
    }
}

/* From whom it was derived makes no difference to either side. */
static void test_rights_are_taken_back(void **state)
{
    const vrd_cap_t cap = endpoint_new();
    struct vrd_message request = { 0 };
    struct caller callers[3];
    vrd_cap_t replies[3], rights[3];

    (void)state;
    for (size_t i = 0; i < 3; i++)
        EXPECT(vrd_cap_derive(i == 0 ? cap : rights[i - 1], VRD_RIGHT_SEND | VRD_RIGHT_GRANT,
                              &rights[i]),
               0);
    for (size_t i = 0; i < 3; i++) {
        uint8_t data[200];

        callers_start(&callers[i], 1, rights[i]);
        request = (struct vrd_message){ .data = data, .size = sizeof data };
        EXPECT(vrd_receive_call(cap, &request, &replies[i], VRD_FOREVER), 0);
    }
    EXPECT(vrd_cap_revoke(cap), 0);
    for (size_t i = 0; i < 3; i++) {
        callers_join(&callers[i], 1);
        EXPECT(callers[i].result, VRD_ERR_REVOKED);
        EXPECT(vrd_reply(replies[i], "x", 1), VRD_ERR_REVOKED);
        EXPECT(vrd_cap_close(rights[i]), 0);
    }
    EXPECT(vrd_cap_close(cap), 0);
}

/* The server's end in the callers' own process: the number that they call is closed. */
static void test_own_endpoint_is_closed(void **state)
{
    struct caller callers[CALLS];
    struct vrd_message request = { 0 };
    vrd_cap_t reply;

    (void)state;
    for (size_t taken = 0; taken < 2; taken++) {
        const vrd_cap_t cap = endpoint_new();

        callers_start(callers, 4, cap);
        if (taken)
            EXPECT(vrd_receive_call(cap, &request, &reply, VRD_FOREVER), VRD_ERR_MESSAGE_TOO_LARGE);
        EXPECT(vrd_cap_close(cap), 0);
        callers_join(callers, 4);
        for (size_t i = 0; i < 4; i++)
            EXPECT(callers[i].result, VRD_ERR_INVALID_CAPABILITY);
    }
}

/* The callers' capability is closed under them; what the server then says concerns nobody. */
static void test_capability_is_closed_under_callers(void **state)
{
    const vrd_cap_t cap = endpoint_new(), client = client_new(cap);
    struct caller callers[CALLS];
    uint8_t data[5000];
    struct vrd_message request = { .data = data, .size = sizeof data };
    vrd_cap_t replies[CALLS];

    (void)state;
    callers_start(callers, CALLS, client);
    for (size_t i = 0; i < CALLS / 2; i++)
        EXPECT(vrd_receive_call(cap, &request, &replies[i], VRD_FOREVER), 0);
    EXPECT(vrd_cap_close(client), 0);
    callers_join(callers, CALLS);
    for (size_t i = 0; i < CALLS; i++)
        EXPECT(callers[i].result, VRD_ERR_INVALID_CAPABILITY);
    /* what it had sent is still received */
    for (size_t i = CALLS / 2; i < CALLS; i++)
        EXPECT(vrd_receive_call(cap, &request, &replies[i], VRD_FOREVER), 0);
    EXPECT(vrd_receive_call(cap, &request, &replies[0], 0), VRD_ERR_CHANNEL_EMPTY);
    for (size_t i = 1; i < CALLS; i++)
        EXPECT(vrd_reply(replies[i], data, i * 100), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(cap), 0);
}

/* ---- the client --------------------------------------------------------------------------------------- */

static int client_run(void *arg)
{
    const struct scene *scene = arg;
    struct caller callers[CALLS];

    callers_start(callers, CALLS, scene->client);
    support_gate_open(&scene->ready);
    callers_join(callers, CALLS);
    return 1;
}

static void test_client_is_killed(void **state)
{
    const vrd_cap_t cap = endpoint_new();
    static uint8_t data[5000];
    struct vrd_message request = { .data = data, .size = sizeof data };
    struct scene scene = { .client = cap };

    (void)state;
    support_gate_init(&scene.ready);
    for (size_t round = 0; round < 10; round++) {
        vrd_cap_t replies[CALLS];
        const pid_t client = support_child(client_run, &scene);
        size_t taken = round % 3 == 0 ? CALLS : 5 + round;

        for (size_t i = 0; i < taken; i++)
            EXPECT(vrd_receive_call(cap, &request, &replies[i], VRD_FOREVER), 0);
        support_gate_wait(&scene.ready);
        support_kill(client);
        if (round % 2) { /* all that it had sent comes, and then its link goes */
            for (; taken < CALLS; taken++)
                EXPECT(vrd_receive_call(cap, &request, &replies[taken], VRD_FOREVER), 0);
            EXPECT(vrd_receive_call(cap, &request, &replies[0], 50 * MS), VRD_ERR_TIMEOUT);
        } else {
            support_sleep_ms(50);
        }
        for (size_t i = round % 2; i < taken; i++)
            EXPECT(vrd_reply(replies[i], data, 8 + i * 100), VRD_ERR_PEER_GONE);
        while (taken < CALLS && vrd_receive_call(cap, &request, &replies[0], 50 * MS) == 0) {
            EXPECT(vrd_reply(replies[0], data, 8), VRD_ERR_PEER_GONE);
            taken++;
        }
        EXPECT(taken, CALLS);
    }
    support_gate_deinit(&scene.ready);
    EXPECT(vrd_cap_close(cap), 0);
}

/* A forked child has none of the parent's calls, in neither direction. */
static int child_without_calls(void *arg)
{
    const vrd_cap_t *caps = arg;

    EXPECT(vrd_reply(caps[1], "x", 1), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_cap_close(caps[1]), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_cap_close(caps[0]), 0);
    return 0;
}

static void test_child_inherits_no_calls(void **state)
{
    vrd_cap_t caps[2] = { endpoint_new() };
    struct caller caller;
    uint8_t data[100];
    struct vrd_message request = { .data = data, .size = sizeof data };

    (void)state;
    callers_start(&caller, 1, caps[0]);
    EXPECT(vrd_receive_call(caps[0], &request, &caps[1], VRD_FOREVER), 0);
    support_wait_exit(support_child(child_without_calls, caps), 0);
    EXPECT(vrd_reply(caps[1], data, 9), 0);
    callers_join(&caller, 1);
    EXPECT(caller.result, 9);
    EXPECT(vrd_cap_close(caps[0]), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_server_ends, 60),
                     SUPPORT_TEST(test_rights_are_taken_back),
                     SUPPORT_TEST(test_own_endpoint_is_closed),
                     SUPPORT_TEST(test_capability_is_closed_under_callers),
                     SUPPORT_TEST(test_client_is_killed),
                     SUPPORT_TEST(test_child_inherits_no_calls),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
