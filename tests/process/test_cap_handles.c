/* SPDX-License-Identifier: MIT */
/* Handles: what a closed, forged or lesser one is told, and that numbers are never used again. */
#include "process/channels.h"

/* Every function that takes a capability says so of one that is none. */
static void refuse_all(vrd_cap_t cap)
{
    char data[8];
    int fd = -77;
    struct vrd_cap_info info = { .kind = 55 };
    struct vrd_message message = { .data = data, .len = 1, .size = 8 };

    EXPECT(vrd_send(cap, "x", 1), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_send_timed(cap, "x", 1, 0), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_send_async(cap, "x", 1), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_send_message(cap, &message, VRD_FOREVER), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_send_batch(cap, &message, 1, VRD_FOREVER), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_receive(cap, data, 8), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_receive_timed(cap, data, 8, 0), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_receive_async(cap, data, 8), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_receive_message(cap, &message, VRD_FOREVER), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_receive_batch(cap, &message, 1, VRD_FOREVER), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_discard(cap), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_cap_info(cap, &info), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_cap_export(cap, VRD_RIGHT_SEND, &fd), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_cap_export(cap, VRD_RIGHT_RECEIVE, &fd), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_cap_close(cap), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(info.kind, 55);
    EXPECT(fd, -77);
}

static void test_closed_handles(void **state)
{
    const struct ends ends = ends_new(4);

    (void)state;
    EXPECT(vrd_send(ends.send, "x", 1), 0);
    ends_close(&ends);
    refuse_all(ends.send);
    refuse_all(ends.receive);
}

static void test_no_capability(void **state)
{
    (void)state;
    refuse_all(VRD_CAP_NONE);
    refuse_all(UINT64_MAX);
    refuse_all((vrd_cap_t)INT64_MIN);
}

/* Every number one bit away from a live handle, and many random ones, are refused; the live ones go
 * on. */
static void test_forged_handles(void **state)
{
    const struct ends ends = ends_new(4);
    uint64_t seed = 0x9E3779B97F4A7C15u;

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        const vrd_cap_t forged[2] = { ends.send ^ (UINT64_C(1) << bit),
                                      ends.receive ^ (UINT64_C(1) << bit) };

        for (size_t i = 0; i < 2; i++)
            if (forged[i] != ends.send && forged[i] != ends.receive)
                refuse_all(forged[i]);
    }
    for (size_t i = 0; i < support_iterations(20000); i++) {
        const vrd_cap_t forged = random_next(&seed);

        support_require(forged != ends.send && forged != ends.receive);
        EXPECT(vrd_send(forged, "x", 1), VRD_ERR_INVALID_CAPABILITY);
    }
    numbered_send(ends.send, 1, 1, 16);
    numbered_receive(ends.receive, 1, 1, 16);
    ends_close(&ends);
}

static int compare_caps(const void *left, const void *right)
{
    const vrd_cap_t a = *(const vrd_cap_t *)left, b = *(const vrd_cap_t *)right;

    return a < b ? -1 : a > b;
}

#define CHANNELS 3000

static void test_numbers_are_never_used_again(void **state)
{
    const size_t n = support_iterations(CHANNELS);
    vrd_cap_t *seen = calloc(2 * n, sizeof *seen);

    (void)state;
    support_require(seen != NULL);
    for (size_t i = 0; i < n; i++) {
        const struct ends ends = ends_new(1);

        seen[2 * i] = ends.send;
        seen[2 * i + 1] = ends.receive;
        ends_close(&ends);
        EXPECT(vrd_send_async(seen[i], "x", 1), VRD_ERR_INVALID_CAPABILITY);
    }
    qsort(seen, 2 * n, sizeof *seen, compare_caps);
    for (size_t i = 1; i < 2 * n; i++)
        support_require(seen[i - 1] != seen[i]);
    support_require(seen[0] != VRD_CAP_NONE);
    free(seen);
}

static void test_many_live_at_once(void **state)
{
    const uint32_t n = 300;
    struct ends *ends = calloc(n, sizeof *ends);

    (void)state;
    support_require(ends != NULL);
    for (uint32_t i = 0; i < n; i++)
        ends[i] = ends_new(2);
    for (uint32_t i = 0; i < n; i += 2)
        ends_close(&ends[i]);
    for (uint32_t i = 0; i < n; i += 2) {
        refuse_all(ends[i].send);
        ends[i] = ends_new(2);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct vrd_cap_info info;

        EXPECT(vrd_cap_info(ends[i].send, &info), 0);
        EXPECT(info.slots, 2);
        ends_close(&ends[i]);
    }
    free(ends);
}

static void test_a_handle_lacks_the_other_ends_right(void **state)
{
    const struct ends ends = ends_new(4);
    char data[8];
    int fd = -77;
    struct vrd_message message = { .data = data, .len = 1, .size = 8 };

    (void)state;
    EXPECT(vrd_receive(ends.send, data, 8), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_receive_timed(ends.send, data, 8, 0), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_receive_async(ends.send, data, 8), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_receive_message(ends.send, &message, 0), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_receive_batch(ends.send, &message, 1, 0), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_discard(ends.send), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_send(ends.receive, data, 8), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_send_timed(ends.receive, data, 8, 0), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_send_async(ends.receive, data, 8), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_send_message(ends.receive, &message, 0), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_send_batch(ends.receive, &message, 1, 0), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_RECEIVE, &fd), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_cap_export(ends.receive, VRD_RIGHT_SEND, &fd), VRD_ERR_PERMISSION_DENIED);
    EXPECT(fd, -77);
    ends_close(&ends);
}

static void test_refused_arguments(void **state)
{
    const struct ends ends = ends_new(4);
    char data[8];
    struct vrd_message message = { .data = data, .len = 1, .size = 8 };
    int fd = -77;

    (void)state;
    EXPECT(vrd_send(ends.send, NULL, 1), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_send_async(ends.send, NULL, 1), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive(ends.receive, NULL, 1), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_async(ends.receive, NULL, 1), VRD_ERR_INVALID_ARGUMENT);
    for (int64_t timeout = -2; timeout > INT64_MIN / 2; timeout *= 2) {
        EXPECT(vrd_send_timed(ends.send, data, 1, timeout), VRD_ERR_INVALID_ARGUMENT);
        EXPECT(vrd_receive_timed(ends.receive, data, 1, timeout), VRD_ERR_INVALID_ARGUMENT);
        EXPECT(vrd_send_message(ends.send, &message, timeout), VRD_ERR_INVALID_ARGUMENT);
        EXPECT(vrd_receive_message(ends.receive, &message, timeout), VRD_ERR_INVALID_ARGUMENT);
    }
    EXPECT(vrd_cap_export(ends.send, 0, &fd), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND | 1u << 31, &fd), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE, &fd),
           VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_info(ends.send, NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(fd, -77);
    ends_close(&ends);
}

/* The longest timeouts are as good as none: they must not run over. */
static void test_longest_timeouts(void **state)
{
    const struct ends ends = ends_new(4);
    char byte;

    (void)state;
    EXPECT(vrd_send_timed(ends.send, "x", 1, INT64_MAX), 0);
    EXPECT(vrd_receive_timed(ends.receive, &byte, 1, INT64_MAX), 1);
    EXPECT(vrd_cap_close(ends.send), 0);
    EXPECT(vrd_receive_timed(ends.receive, &byte, 1, INT64_MAX), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

/* ---- info ------------------------------------------------------------------------------------- */

static struct vrd_cap_info info_of(vrd_cap_t cap)
{
    struct vrd_cap_info info;

    memset(&info, 0xAA, sizeof info);
    EXPECT(vrd_cap_info(cap, &info), 0);
    for (size_t i = 0; i < sizeof info.reserved / sizeof info.reserved[0]; i++)
        EXPECT(info.reserved[i], 0);
    EXPECT(info.kind, VRD_OBJECT_CHANNEL);
    EXPECT(info.badge, 0);
    return info;
}

static void test_info_of_both_ends(void **state)
{
    const struct ends ends = ends_new(5);
    struct vrd_cap_info sender = info_of(ends.send), receiver = info_of(ends.receive);
    char byte;

    (void)state;
    EXPECT(sender.rights & (VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT),
           VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
    EXPECT(receiver.rights & (VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT),
           VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT);
    EXPECT(sender.slots, 5);
    EXPECT(receiver.slots, 5);
    EXPECT(sender.links, 0);
    EXPECT(receiver.links, 0);

    EXPECT(vrd_send(ends.send, "x", 1), 0);
    EXPECT(vrd_receive(ends.receive, &byte, 1), 1);
    EXPECT(vrd_send(ends.send, "x", 1), 0);
    sender = info_of(ends.send);
    receiver = info_of(ends.receive);
    EXPECT(sender.owner, getpid());
    EXPECT(receiver.owner, getpid());
    EXPECT(sender.links, 1);
    EXPECT(receiver.links, 1);
    ends_close(&ends);
}

static void test_info_counts_links(void **state)
{
    const struct ends ends = ends_new(5);
    vrd_cap_t senders[30];
    char byte;

    (void)state;
    for (uint32_t i = 0; i < 30; i++) {
        senders[i] = sender_new(ends.send);
        EXPECT(vrd_send(senders[i], "x", 1), 0);
        EXPECT(vrd_receive(ends.receive, &byte, 1), 1);
        EXPECT(info_of(ends.receive).links, i + 1);
    }
    for (uint32_t i = 30; i-- > 0;) {
        EXPECT(vrd_cap_close(senders[i]), 0);
        /* The link goes when the receiver looks after the hang-up was seen. */
        while (info_of(ends.receive).links > i)
            EXPECT(vrd_receive_timed(ends.receive, &byte, 1, MS), VRD_ERR_TIMEOUT);
    }
    ends_close(&ends);
}

static void test_generations_differ(void **state)
{
    struct ends ends = ends_new(5);
    const struct vrd_cap_info first = info_of(ends.send);

    (void)state;
    ends_close(&ends);
    for (size_t i = 0; i < 100; i++) {
        const struct ends again = ends_new(5);

        /* Either another place, or the same one in another generation. */
        support_require(again.send != ends.send && again.receive != ends.send);
        ends_close(&again);
    }
    support_require(first.generation != 0);
    refuse_all(ends.send);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_closed_handles),
                     SUPPORT_TEST(test_no_capability),
                     SUPPORT_TEST(test_forged_handles),
                     SUPPORT_TEST(test_numbers_are_never_used_again),
                     SUPPORT_TEST(test_many_live_at_once),
                     SUPPORT_TEST(test_a_handle_lacks_the_other_ends_right),
                     SUPPORT_TEST(test_refused_arguments),
                     SUPPORT_TEST(test_longest_timeouts),
                     SUPPORT_TEST(test_info_of_both_ends),
                     SUPPORT_TEST(test_info_counts_links),
                     SUPPORT_TEST(test_generations_differ),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
