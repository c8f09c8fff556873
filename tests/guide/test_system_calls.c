/* SPDX-License-Identifier: MIT */
/* The guide's section "System Call Interface": the nine calls, and nothing else. */
#include "guide/guide.h"

#include <pthread.h>

static const uint8_t *bytes(const char *text)
{
    return (const uint8_t *)text;
}

/* sys_create_channel, sys_send, sys_receive, sys_close. */
static void test_message_passing(void **state)
{
    uint64_t send, receive;
    uint8_t buf[16];

    (void)state;
    assert_int_equal(vrd_sys_create_channel(4, &send, &receive), VRD_OK);
    assert_int_equal(vrd_sys_send(send, bytes("hello"), 5), VRD_OK);
    assert_int_equal(vrd_sys_receive(receive, buf, sizeof buf), 5);
    assert_memory_equal(buf, "hello", 5);
    assert_int_equal(vrd_sys_send(receive, buf, 1), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(vrd_sys_receive(send, buf, 1), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(vrd_sys_reply(receive, buf, 1), VRD_ERR_INVALID_CAPABILITY);
    assert_int_equal(vrd_sys_call(send, buf, 1, buf), VRD_ERR_NOT_SUPPORTED);
    assert_int_equal(vrd_sys_close(send), VRD_OK);
    assert_int_equal(vrd_sys_receive(receive, buf, sizeof buf), VRD_ERR_PEER_GONE);
    assert_int_equal(vrd_sys_close(receive), VRD_OK);
    assert_int_equal(vrd_sys_close(receive), VRD_ERR_INVALID_CAPABILITY);
    assert_int_equal(vrd_sys_create_channel(0, &send, &receive), VRD_ERR_INVALID_ARGUMENT);
}

/* A client: calls with each letter, and gets each back, the next one in the alphabet. */
static int client(void *arg)
{
    const uint64_t *endpoint = arg;
    uint8_t reply[VRD_SYS_REPLY_MAX];

    for (int next = 'a'; next < 'z'; next++) {
        const uint8_t letter = (uint8_t)next;

        support_require_equal(vrd_sys_call(*endpoint, &letter, 1, reply), 1);
        support_require_equal(reply[0], letter + 1);
    }
    return 0;
}

/* sys_create_endpoint, sys_call, sys_receive, sys_reply. */
static void test_call_and_reply(void **state)
{
    uint64_t id, endpoint;
    uint8_t letter;

    (void)state;
    assert_int_equal(vrd_sys_create_endpoint(&id, &endpoint), VRD_OK);
    assert_true(id != 0);
    const pid_t child = support_child(client, &endpoint);
    for (int expected = 'a'; expected < 'z'; expected++) {
        assert_int_equal(vrd_sys_receive(endpoint, &letter, 1), 1);
        assert_int_equal(letter, expected);
        letter++;
        assert_int_equal(vrd_sys_reply(endpoint, &letter, 1), VRD_OK);
        assert_int_equal(vrd_sys_reply(endpoint, &letter, 1), VRD_ERR_INVALID_CAPABILITY);
    }
    support_wait_exit(child, 0);
    assert_int_equal(vrd_sys_close(endpoint), VRD_OK);
}

struct asked {
    uint64_t endpoint;
    int64_t results[3];
};

static void *asks(void *arg)
{
    struct asked *asked = arg;
    uint8_t reply[VRD_SYS_REPLY_MAX];

    for (size_t i = 0; i < 3; i++)
        asked->results[i] = vrd_sys_call(asked->endpoint, bytes("?"), 1, reply);
    return NULL;
}

static void *hears(void *arg)
{
    const uint64_t *endpoint = arg;
    uint8_t byte;

    support_require_equal(vrd_sys_receive(*endpoint, &byte, 1), 1);
    return NULL; /* and owes the answer */
}

/* What a thread has received and does not answer is dropped, by the next one or by its end. */
static void test_calls_that_are_not_answered(void **state)
{
    struct asked asked;
    pthread_t caller, thread;
    vrd_cap_t reply;
    uint8_t byte, large[VRD_SYS_REPLY_MAX + 1] = { 0 };
    uint64_t id;

    (void)state;
    assert_int_equal(vrd_sys_create_endpoint(&id, &asked.endpoint), VRD_OK);
    assert_int_equal(pthread_create(&caller, NULL, asks, &asked), 0);
    assert_int_equal(pthread_create(&thread, NULL, hears, &asked.endpoint), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(vrd_sys_receive(asked.endpoint, &byte, 1), 1); /* the second */

    struct vrd_message message = { .data = &byte, .size = 1 }; /* the third, by its own number */
    assert_int_equal(vrd_sys_reply(asked.endpoint, large, sizeof large), VRD_OK);
    assert_int_equal(vrd_receive_call(asked.endpoint, &message, &reply, VRD_FOREVER), VRD_OK);
    assert_int_equal(vrd_sys_reply(reply, large, VRD_SYS_REPLY_MAX), VRD_OK);
    assert_int_equal(pthread_join(caller, NULL), 0);
    assert_int_equal(asked.results[0], VRD_ERR_PEER_GONE);
    assert_int_equal(asked.results[1], VRD_ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(asked.results[2], VRD_SYS_REPLY_MAX);
    assert_int_equal(vrd_sys_close(asked.endpoint), VRD_OK);
}

/* Another program, which is given what it may do by its number. */
static int role_worker(struct support_role_args *args)
{
    const struct support_gate ready = { .fd = args->fds[0] };
    const struct support_gate revoked = { .fd = args->fds[1] };
    struct vrd_message grant = { .max_caps = 1 };
    vrd_cap_t inbox;

    support_require_equal(vrd_inbox_open(NULL, &inbox), VRD_OK);
    support_gate_open(&ready);
    support_require_equal(vrd_receive_message(inbox, &grant, VRD_FOREVER), VRD_OK);
    support_require_equal(grant.n_caps, 1);
    support_require_equal(vrd_sys_send(grant.caps[0], bytes("mine"), 4), VRD_OK);
    support_gate_wait(&revoked);
    support_require_equal(vrd_sys_send(grant.caps[0], bytes("mine"), 4), VRD_ERR_REVOKED);
    return 0;
}

/* sys_grant_cap, sys_revoke_cap. */
static void test_capability_operations(void **state)
{
    struct support_gate ready, revoked;
    uint64_t send, receive, inbox;
    uint8_t buf[8];
    int64_t grant;

    (void)state;
    support_runtime_dir();
    support_gate_init(&ready);
    support_gate_init(&revoked);
    assert_int_equal(vrd_sys_create_channel(4, &send, &receive), VRD_OK);
    assert_int_equal(vrd_inbox_open(NULL, &inbox), VRD_OK);
    const pid_t worker = support_spawn_role("worker", (int[]){ ready.fd, revoked.fd }, 2, NULL);
    support_gate_wait(&ready);

    grant = vrd_sys_grant_cap(send, (uint64_t)worker, VRD_RIGHTS_SEND_ONLY);
    assert_true(grant > 0);
    assert_int_equal(vrd_sys_receive(receive, buf, sizeof buf), 4);
    assert_int_equal(vrd_sys_revoke_cap((uint64_t)grant), VRD_OK);
    support_gate_open(&revoked);
    support_wait_exit(worker, 0);

    assert_int_equal(vrd_sys_grant_cap(send, UINT64_MAX, VRD_RIGHTS_SEND_ONLY),
                     VRD_ERR_PROCESS_NOT_FOUND);
    assert_int_equal(vrd_sys_grant_cap(send, (uint64_t)worker, VRD_RIGHTS_SEND_ONLY),
                     VRD_ERR_PROCESS_NOT_FOUND);
    assert_int_equal(vrd_sys_close((uint64_t)grant), VRD_OK);
    assert_int_equal(vrd_sys_close(inbox), VRD_OK);
    assert_int_equal(vrd_sys_close(send), VRD_OK);
    assert_int_equal(vrd_sys_close(receive), VRD_OK);
    support_gate_deinit(&ready);
    support_gate_deinit(&revoked);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_message_passing),
                     SUPPORT_TEST(test_call_and_reply),
                     SUPPORT_TEST(test_calls_that_are_not_answered),
                     SUPPORT_TEST(test_capability_operations),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "worker", role_worker },
                     { 0 },
                 },
             .warm_up = guide_warm_up)
