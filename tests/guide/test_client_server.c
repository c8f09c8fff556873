/* SPDX-License-Identifier: MIT */
/* The guide's example "Simple Client-Server", and its "Creating Capabilities" with an endpoint. */
#include "guide/guide.h"

/* Answers in capitals; whoever says "stop" ends the server. */
static void process_request(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] >= 'a' && text[i] <= 'z')
            text[i] = (char)(text[i] - 'a' + 'A');
}

static int serve(void *arg)
{
    const vrd_cap_t *server_cap = arg;
    char data[256];
    struct vrd_message msg = { .data = data, .size = sizeof data };
    vrd_cap_t reply_cap;

    do {
        support_require(vrd_receive_call(*server_cap, &msg, &reply_cap, VRD_FOREVER) == VRD_OK);
        process_request(data, msg.len);
        support_require(vrd_reply(reply_cap, data, msg.len) == VRD_OK);
    } while (msg.len != 4 || memcmp(data, "STOP", 4) != 0);
    return 0;
}

/* The same loop, with one function for both halves. */
static int serve_in_one(void *arg)
{
    const vrd_cap_t *server_cap = arg;
    char data[256];
    struct vrd_message msg = { .data = data, .size = sizeof data };
    vrd_cap_t reply_cap = VRD_CAP_NONE;

    do {
        support_require(
            vrd_reply_receive(*server_cap, &reply_cap, data, msg.len, &msg, VRD_FOREVER) == VRD_OK);
        process_request(data, msg.len);
    } while (msg.len != 4 || memcmp(data, "STOP", 4) != 0);
    support_require(vrd_reply(reply_cap, data, msg.len) == VRD_OK);
    return 0;
}

static void expect_answer(vrd_cap_t cap, const char *request, const char *expected)
{
    char response[256];
    const ssize_t len =
        vrd_call(cap, request, strlen(request), response, sizeof response, VRD_FOREVER);

    assert_int_equal(len, strlen(expected));
    assert_memory_equal(response, expected, strlen(expected));
}

static void test_client_and_server(void **state)
{
    int (*const servers[])(void *) = { serve, serve_in_one };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        uint64_t endpoint_id;
        vrd_cap_t server_cap;

        assert_int_equal(vrd_endpoint_create(&endpoint_id, &server_cap), VRD_OK);
        assert_int_not_equal(endpoint_id, 0);
        const pid_t server = support_child(servers[i], &server_cap);

        /* Client */
        expect_answer(server_cap, "a request", "A REQUEST");
        expect_answer(server_cap, "stop", "STOP");
        support_wait_exit(server, 0);
        assert_int_equal(vrd_cap_close(server_cap), VRD_OK);
    }
}

/* A client that has nothing but the right to send. */
static void test_restricted_client(void **state)
{
    uint64_t endpoint_id;
    vrd_cap_t cap, restricted_cap;
    struct vrd_message msg = { 0 };
    vrd_cap_t reply_cap;

    (void)state;
    /* Create endpoint with full permissions */
    assert_int_equal(vrd_endpoint_create(&endpoint_id, &cap), VRD_OK);

    /* Create restricted capability */
    assert_int_equal(vrd_cap_derive(cap, VRD_RIGHTS_SEND_ONLY, &restricted_cap), VRD_OK);

    const pid_t server = support_child(serve, &cap);
    expect_answer(restricted_cap, "hello", "HELLO");
    assert_int_equal(vrd_receive_call(restricted_cap, &msg, &reply_cap, 0),
                     VRD_ERR_PERMISSION_DENIED);
    expect_answer(restricted_cap, "stop", "STOP");
    support_wait_exit(server, 0);
    assert_int_equal(vrd_cap_close(restricted_cap), VRD_OK);
    assert_int_equal(vrd_cap_close(cap), VRD_OK);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_client_and_server),
                     SUPPORT_TEST(test_restricted_client),
                     { 0 },
                 },
             .warm_up = guide_warm_up)
