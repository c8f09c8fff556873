/* SPDX-License-Identifier: MIT */
/* Capabilities inside messages: they move, whole, at most once, and come back if the message stays. */
#include "process/channels.h"

#define CAPS_MAX VRD_MESSAGE_CAPS_MAX

/* ---- messages ------------------------------------------------------------------------------- */

static int carry_try(vrd_cap_t through, const vrd_cap_t *caps, uint32_t n, int64_t timeout_ns)
{
    struct vrd_message message = { .opcode = n, .n_caps = n };

    memcpy(message.caps, caps, n * sizeof *caps);
    return vrd_send_message(through, &message, timeout_ns);
}

static void carry(vrd_cap_t through, const vrd_cap_t *caps, uint32_t n)
{
    EXPECT(carry_try(through, caps, n, VRD_FOREVER), 0);
}

static void carry_one(vrd_cap_t through, vrd_cap_t cap)
{
    carry(through, &cap, 1);
}

/* Receives a message with just that many, up to `most` of them wanted. */
static void take(vrd_cap_t receive, vrd_cap_t *ret, uint32_t n, uint32_t most)
{
    struct vrd_message message = { .max_caps = most };

    EXPECT(vrd_receive_message(receive, &message, VRD_FOREVER), 0);
    EXPECT(message.opcode, n);
    EXPECT(message.n_caps, n < most ? n : most);
    memcpy(ret, message.caps, message.n_caps * sizeof *ret);
}

static vrd_cap_t take_one(vrd_cap_t receive)
{
    vrd_cap_t cap;

    take(receive, &cap, 1, 1);
    return cap;
}

/* The capability is not one of this process any more. */
static void expect_gone(vrd_cap_t cap)
{
    struct vrd_cap_info info;

    EXPECT(vrd_cap_info(cap, &info), VRD_ERR_INVALID_CAPABILITY);
}

static void expect_end(vrd_cap_t receive)
{
    EXPECT(vrd_receive(receive, NULL, 0), VRD_ERR_PEER_GONE);
}

/* ---- in one process ------------------------------------------------------------------------- */

static void test_to_send(void **state)
{
    struct ends way = ends_new(4), ends = ends_new(8);
    struct vrd_cap_info before, after;

    (void)state;
    EXPECT(vrd_cap_info(ends.send, &before), 0);
    for (uint32_t i = 0; i < 5; i++) {
        vrd_cap_t moved;

        numbered_send(ends.send, i, 0, 30); /* it has a link, and its messages stay */
        carry_one(way.send, ends.send);
        expect_gone(ends.send);
        moved = take_one(way.receive);
        support_require(moved != ends.send);
        EXPECT(vrd_cap_info(moved, &after), 0);
        EXPECT(after.kind, VRD_OBJECT_CHANNEL);
        EXPECT(after.rights, before.rights);
        EXPECT(after.slots, before.slots);
        EXPECT(after.max_message_size, before.max_message_size);
        EXPECT(after.depth, i + 1);
        EXPECT(after.links, 0);
        numbered_receive(ends.receive, i, 0, 30);
        numbered_send(moved, i, 1, 2000);
        numbered_receive(ends.receive, i, 1, 2000);
        ends.send = moved;
    }
    EXPECT(vrd_cap_close(ends.send), 0);
    expect_end(ends.receive);
    EXPECT(vrd_cap_close(ends.receive), 0);
    ends_close(&way);
}

static void test_to_receive(void **state)
{
    struct ends way = ends_new(4), ends = ends_new(8);

    (void)state;
    for (uint32_t i = 0; i < 5; i++) {
        vrd_cap_t moved;

        numbered_send(ends.send, 1, i, 30); /* waits where it is */
        carry_one(way.send, ends.receive);
        expect_gone(ends.receive);
        moved = take_one(way.receive);
        ends.receive = moved;
    }
    for (uint32_t i = 0; i < 5; i++)
        numbered_receive(ends.receive, 1, i, 30);
    EXPECT(vrd_cap_close(ends.send), 0);
    expect_end(ends.receive);
    EXPECT(vrd_cap_close(ends.receive), 0);
    ends_close(&way);
}

static void test_an_endpoint_whole(void **state)
{
    struct ends way = ends_new(4);
    struct vrd_cap_info info;
    vrd_cap_t endpoint;
    uint64_t id;
    char byte;

    (void)state;
    EXPECT(vrd_endpoint_create(&id, &endpoint), 0);
    carry_one(way.send, endpoint);
    expect_gone(endpoint);
    endpoint = take_one(way.receive);
    EXPECT(vrd_cap_info(endpoint, &info), 0);
    EXPECT(info.kind, VRD_OBJECT_ENDPOINT);
    EXPECT(vrd_send(endpoint, "x", 1), 0);
    EXPECT(vrd_receive(endpoint, &byte, 1), 1);
    EXPECT(vrd_cap_close(endpoint), 0);
    ends_close(&way);
}

static void test_one_to_four(void **state)
{
    struct ends way = ends_new(16);

    (void)state;
    for (uint32_t n = 1; n <= CAPS_MAX; n++) {
        struct ends ends[CAPS_MAX];
        vrd_cap_t caps[CAPS_MAX], moved[CAPS_MAX];

        for (uint32_t i = 0; i < n; i++) {
            ends[i] = ends_new(2);
            caps[i] = i % 2 == 0 ? ends[i].send : ends[i].receive;
        }
        carry(way.send, caps, n);
        take(way.receive, moved, n, CAPS_MAX);
        for (uint32_t i = 0; i < n; i++) {
            expect_gone(caps[i]);
            if (i % 2 == 0)
                ends[i].send = moved[i];
            else
                ends[i].receive = moved[i];
            numbered_send(ends[i].send, i, n, 30);
            numbered_receive(ends[i].receive, i, n, 30);
            ends_close(&ends[i]);
        }
    }
    ends_close(&way);
}

static void test_with_data_of_all_sizes(void **state)
{
    static const size_t sizes[] = { 0, 1, 56, 64, 65, 4096, 1000000 };
    struct ends way = ends_new(4), ends = ends_new(8);
    uint8_t *data = malloc(1000000), *got = malloc(1000000);

    (void)state;
    support_require(data && got);
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct vrd_message out = { .flags = i, .data = data, .len = sizes[i], .n_caps = 1 };
        struct vrd_message in = { .data = got, .size = 1000000, .max_caps = CAPS_MAX };

        number_fill(data, sizes[i], (struct number){ 1, i });
        out.caps[0] = ends.send;
        EXPECT(vrd_send_message(way.send, &out, 0), 0);
        EXPECT(vrd_send(way.send, "plain", 5), 0);
        EXPECT(vrd_receive_message(way.receive, &in, 0), 0);
        EXPECT(in.len, sizes[i]);
        EXPECT(in.flags, i);
        EXPECT(in.n_caps, 1);
        number_check(got, sizes[i], (struct number){ 1, i });
        ends.send = in.caps[0];
        EXPECT(vrd_receive_message(way.receive, &in, 0), 0);
        EXPECT(in.n_caps, 0);
        EXPECT(in.len, 5);
    }
    free(data);
    free(got);
    ends_close(&ends);
    ends_close(&way);
}

/* Never used in between: no link is made on the way. */
static void test_unused_and_moved_on(void **state)
{
    struct ends way = ends_new(4), ends = ends_new(8);
    struct vrd_cap_info info;
    vrd_cap_t cap;

    (void)state;
    EXPECT(vrd_cap_derive_badged(ends.send, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, 77, &cap), 0);
    for (uint32_t i = 0; i < 10; i++) {
        carry_one(way.send, cap);
        cap = take_one(way.receive);
    }
    EXPECT(vrd_cap_info(ends.receive, &info), 0);
    EXPECT(info.links, 0);
    EXPECT(vrd_cap_info(cap, &info), 0);
    EXPECT(info.badge, 77);
    EXPECT(info.rights, VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
    EXPECT(vrd_send(cap, "x", 1), 0);
    struct vrd_message in = { 0 };
    EXPECT(vrd_receive_message(ends.receive, &in, VRD_FOREVER), VRD_ERR_MESSAGE_TOO_LARGE);
    EXPECT(vrd_discard(ends.receive), 0);
    EXPECT(vrd_cap_close(cap), 0);
    ends_close(&ends);
    ends_close(&way);
}

/* A region moves as it is derived: its maker stays. */
static void test_a_region(void **state)
{
    const uint32_t rights = VRD_RIGHT_READ | VRD_RIGHT_GRANT;
    struct ends way = ends_new(1);
    struct vrd_cap_info info;
    vrd_cap_t region, cap;
    char *writable, *readable;
    size_t size;

    (void)state;
    EXPECT(vrd_region_create(4096, VRD_RIGHT_READ | VRD_RIGHT_WRITE, NULL, &region), 0);
    EXPECT(vrd_region_map(region, VRD_RIGHT_READ | VRD_RIGHT_WRITE, (void **)&writable, &size), 0);
    memcpy(writable, "written before", sizeof "written before");
    EXPECT(vrd_cap_derive(region, rights, &cap), 0);
    for (int i = 0; i < 5; i++) {
        EXPECT(vrd_send(way.send, "", 0), 0);
        EXPECT(carry_try(way.send, &cap, 1, 0), VRD_ERR_CHANNEL_FULL);
        EXPECT(vrd_receive(way.receive, NULL, 0), 0);
        carry_one(way.send, cap);
        expect_gone(cap);
        cap = take_one(way.receive);
        EXPECT(vrd_cap_info(cap, &info), 0);
        EXPECT(info.kind, VRD_OBJECT_REGION);
        EXPECT(info.rights, rights);
    }
    EXPECT(vrd_region_map(cap, VRD_RIGHT_READ, (void **)&readable, &size), 0);
    EXPECT(strcmp(readable, "written before"), 0);
    EXPECT(vrd_region_unmap(cap), 0);
    EXPECT(vrd_cap_close(cap), 0);
    EXPECT(vrd_region_unmap(region), 0);
    EXPECT(vrd_cap_close(region), 0);
    ends_close(&way);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_to_send),
                     SUPPORT_TEST(test_to_receive),
                     SUPPORT_TEST(test_an_endpoint_whole),
                     SUPPORT_TEST(test_one_to_four),
                     SUPPORT_TEST(test_with_data_of_all_sizes),
                     SUPPORT_TEST(test_unused_and_moved_on),
                     SUPPORT_TEST(test_a_region),
                     { 0 },
                 },
             .warm_up = channels_warm_up);
