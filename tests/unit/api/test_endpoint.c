/* SPDX-License-Identifier: MIT */
/* What the functions of endpoints say of their arguments, and of capabilities that are something else. */
#include "unit/unit.h"

#include <veridian/ipc.h>

static vrd_cap_t cap, send_cap, receive_cap;

static int setup(void **state)
{
    uint64_t id;

    (void)state;
    return vrd_endpoint_create(&id, &cap) < 0 || vrd_channel_create(4, &send_cap, &receive_cap) < 0;
}

static int teardown(void **state)
{
    (void)state;
    return vrd_cap_close(cap) < 0 || vrd_cap_close(send_cap) < 0 || vrd_cap_close(receive_cap) < 0;
}

static void creating(void **state)
{
    const struct vrd_channel_options reserved = { .reserved = { 1 } };
    const struct vrd_channel_options slots = { .slots = VRD_CHANNEL_SLOTS_MAX + 1 };
    const struct vrd_channel_options good = { .slots = 3, .max_message_size = 500 };
    uint64_t id = 77, other;
    vrd_cap_t made = 78;
    struct vrd_cap_info info;

    (void)state;
    assert_int_equal(vrd_endpoint_create(NULL, &made), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_endpoint_create(&id, NULL), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_endpoint_create_with(&reserved, &id, &made), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_endpoint_create_with(&slots, &id, &made), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(id, 77);
    assert_int_equal(made, 78);
    assert_int_equal(vrd_endpoint_create_with(&good, &id, &made), 0);
    assert_int_equal(vrd_cap_info(made, &info), 0);
    assert_int_equal(info.kind, VRD_OBJECT_ENDPOINT);
    assert_int_equal(info.rights,
                     VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE);
    assert_int_equal(info.slots, 3);
    assert_int_equal(info.max_message_size, 500);
    assert_int_equal(vrd_cap_close(made), 0);
    assert_int_equal(vrd_endpoint_create(&other, &made), 0);
    assert_int_not_equal(other, id);
    assert_int_equal(vrd_cap_close(made), 0);
}

static void calling(void **state)
{
    char data[8] = { 0 };
    struct vrd_message request = { .data = data, .len = 8 }, bad = request;
    struct vrd_message reply = { .data = data, .size = 8 };

    (void)state;
    assert_int_equal(vrd_call(cap, NULL, 1, data, 8, 0), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_call(cap, data, 1, NULL, 8, 0), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_call(cap, data, 1, data, 8, -2), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_call(cap, data, VRD_CHANNEL_MESSAGE_DEFAULT + 1, data, 8, 0),
                     VRD_ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(vrd_call(send_cap, data, 1, data, 8, 0), VRD_ERR_NOT_SUPPORTED);
    assert_int_equal(vrd_call(receive_cap, data, 1, data, 8, 0), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(vrd_call(VRD_CAP_NONE, data, 1, data, 8, 0), VRD_ERR_INVALID_CAPABILITY);
    assert_int_equal(vrd_call(cap ^ 1, data, 1, data, 8, 0), VRD_ERR_INVALID_CAPABILITY);
    assert_int_equal(vrd_call_message(cap, NULL, &reply, 0), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_call_message(cap, &request, NULL, 0), VRD_ERR_INVALID_ARGUMENT);
    bad.reserved[3] = 1;
    assert_int_equal(vrd_call_message(cap, &bad, &reply, 0), VRD_ERR_INVALID_ARGUMENT);
    reply.reserved[0] = 1;
    assert_int_equal(vrd_call_message(cap, &request, &reply, 0), VRD_ERR_INVALID_ARGUMENT);
    /* nothing of this was sent */
    assert_int_equal(vrd_receive_async(cap, data, 8), VRD_ERR_CHANNEL_EMPTY);
}

static void serving(void **state)
{
    char data[8];
    struct vrd_message request = { .data = data, .size = 8 }, bad = request;
    vrd_cap_t reply = 5;

    (void)state;
    bad.reserved[0] = 1;
    assert_int_equal(vrd_receive_call(cap, NULL, &reply, 0), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_receive_call(cap, &request, NULL, 0), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_receive_call(cap, &bad, &reply, 0), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_receive_call(cap, &request, &reply, -7), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_receive_call(receive_cap, &request, &reply, 0), VRD_ERR_NOT_SUPPORTED);
    assert_int_equal(vrd_receive_call(send_cap, &request, &reply, 0), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(vrd_receive_call(cap, &request, &reply, 0), VRD_ERR_CHANNEL_EMPTY);
    assert_int_equal(vrd_receive_call(cap, &request, &reply, 1000000), VRD_ERR_TIMEOUT);
    request.data = NULL;
    assert_int_equal(vrd_receive_call(cap, &request, &reply, 0), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(reply, 5);
    assert_int_equal(vrd_reply_receive(cap, NULL, NULL, 0, &request, 0), VRD_ERR_INVALID_ARGUMENT);
}

/* A reply capability is used up also by what cannot be sent. */
static void replying(void **state)
{
    struct vrd_message request = { 0 };
    const struct vrd_message bad = { .reserved = { 1 } };
    vrd_cap_t reply;

    (void)state;
    for (int way = 0; way < 3; way++) {
        assert_int_equal(vrd_call(cap, NULL, 0, NULL, 0, 0), VRD_ERR_TIMEOUT);
        assert_int_equal(vrd_receive_call(cap, &request, &reply, VRD_FOREVER), 0);
        if (way == 0)
            assert_int_equal(vrd_reply_message(reply, NULL), VRD_ERR_INVALID_ARGUMENT);
        else if (way == 1)
            assert_int_equal(vrd_reply_message(reply, &bad), VRD_ERR_INVALID_ARGUMENT);
        else
            assert_int_equal(vrd_reply(reply, NULL, 3), VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(vrd_reply(reply, NULL, 0), VRD_ERR_INVALID_CAPABILITY);
        assert_int_equal(vrd_reply_message(reply, &request), VRD_ERR_INVALID_CAPABILITY);
    }
}

static void giving_away(void **state)
{
    const uint32_t both = VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE;
    int fd = -1;

    (void)state;
    assert_int_equal(vrd_cap_export(send_cap, both, &fd), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_cap_export(receive_cap, both, &fd), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_cap_export(cap, VRD_RIGHT_GRANT, &fd), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(fd, -1);
}

#define TEST(fn) SUPPORT_TEST_FIXTURE(fn, setup, teardown)

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     TEST(creating),
                     TEST(calling),
                     TEST(serving),
                     TEST(replying),
                     TEST(giving_away),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel)
