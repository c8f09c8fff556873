/* SPDX-License-Identifier: MIT */
/* How many messages fit, and what is said when none does or none is there. */
#include "process/channels.h"

static const size_t some_slots[] = { 1, 2, 3, 4, 5, 7, 15, 16, 17, 64, 100, 1000, 4096 };

#define N_SLOTS (sizeof some_slots / sizeof some_slots[0])

static void fill(vrd_cap_t send, uint32_t sender, uint32_t from, size_t n)
{
    for (uint32_t i = 0; i < n; i++)
        EXPECT(numbered_try_send(send, sender, from + i, 24, 0), 0);
    EXPECT(numbered_try_send(send, sender, 0, 24, 0), VRD_ERR_CHANNEL_FULL);
}

static void test_capacity_is_exact(void **state)
{
    (void)state;
    for (size_t s = 0; s < N_SLOTS; s++) {
        const uint32_t n = (uint32_t)some_slots[s];
        const struct ends ends = ends_new(n);

        for (uint32_t lap = 0; lap < 3; lap++) {
            fill(ends.send, 1, lap * n, n);
            for (uint32_t i = 0; i < n; i++)
                numbered_receive(ends.receive, 1, lap * n + i, 24);
            EXPECT(vrd_receive_async(ends.receive, NULL, 0), VRD_ERR_CHANNEL_EMPTY);
        }
        ends_close(&ends);
    }
}

/* Each message taken makes room for just one, at every position of the ring. */
static void test_each_receive_makes_room_for_one(void **state)
{
    (void)state;
    for (size_t s = 0; s < N_SLOTS; s++) {
        const uint32_t n = (uint32_t)some_slots[s];
        const struct ends ends = ends_new(n);

        fill(ends.send, 1, 0, n);
        for (uint32_t i = 0; i < 2 * n + 3; i++) {
            numbered_receive(ends.receive, 1, i, 24);
            fill(ends.send, 1, i + n, 1);
        }
        ends_close(&ends);
    }
}

static void test_each_sender_has_its_own_room(void **state)
{
    const struct ends ends = ends_new(3);
    const vrd_cap_t second = sender_new(ends.send), third = sender_new(ends.send);
    const uint32_t counts[] = { 3, 3, 3 };

    (void)state;
    fill(ends.send, 0, 0, 3);
    fill(second, 1, 0, 3);
    fill(third, 2, 0, 3);
    EXPECT(vrd_cap_close(ends.send), 0);
    EXPECT(vrd_cap_close(second), 0);
    EXPECT(vrd_cap_close(third), 0);
    numbered_drain(ends.receive, counts, 3);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

/* An importer learns the number of slots from its invitation, before the owner has answered. */
static void test_importer_has_the_exact_capacity(void **state)
{
    (void)state;
    for (size_t s = 0; s < N_SLOTS; s++) {
        const uint32_t n = (uint32_t)some_slots[s];
        const struct ends ends = ends_new(n);
        const vrd_cap_t imported = sender_new(ends.send);

        fill(imported, 5, 0, n);
        for (uint32_t i = 0; i < n; i++)
            numbered_receive(ends.receive, 5, i, 24);
        fill(imported, 5, n, n);
        EXPECT(vrd_cap_close(imported), 0);
        ends_close(&ends);
    }
}

static void test_full_is_said_in_three_ways(void **state)
{
    const struct ends ends = ends_new(2);
    char byte = 'x';
    const struct vrd_message message = { .data = &byte, .len = 1 };

    (void)state;
    fill(ends.send, 1, 0, 2);
    EXPECT(vrd_send_async(ends.send, "x", 1), VRD_ERR_CHANNEL_FULL);
    EXPECT(vrd_send_timed(ends.send, "x", 1, 0), VRD_ERR_CHANNEL_FULL);
    EXPECT(vrd_send_message(ends.send, &message, 0), VRD_ERR_CHANNEL_FULL);
    EXPECT(vrd_send_batch(ends.send, &message, 1, 0), VRD_ERR_CHANNEL_FULL);
    EXPECT(vrd_send_timed(ends.send, "x", 1, 1), VRD_ERR_TIMEOUT);
    EXPECT(vrd_send_timed(ends.send, "x", 1, 5 * MS), VRD_ERR_TIMEOUT);
    EXPECT(vrd_send_message(ends.send, &message, 5 * MS), VRD_ERR_TIMEOUT);
    EXPECT(vrd_send_batch(ends.send, &message, 1, 5 * MS), VRD_ERR_TIMEOUT);
    numbered_receive(ends.receive, 1, 0, 24);
    numbered_receive(ends.receive, 1, 1, 24);
    EXPECT(vrd_receive_async(ends.receive, NULL, 0), VRD_ERR_CHANNEL_EMPTY);
    ends_close(&ends);
}

static void test_empty_is_said_in_three_ways(void **state)
{
    const struct ends ends = ends_new(2);
    char byte = 'k';
    struct vrd_message message = { .data = &byte, .size = 1, .opcode = 99, .len = 77 };

    (void)state;
    for (size_t round = 0; round < 2; round++) {
        EXPECT(vrd_receive_async(ends.receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
        EXPECT(vrd_receive_timed(ends.receive, &byte, 1, 0), VRD_ERR_CHANNEL_EMPTY);
        EXPECT(vrd_receive_message(ends.receive, &message, 0), VRD_ERR_CHANNEL_EMPTY);
        EXPECT(vrd_receive_batch(ends.receive, &message, 1, 0), VRD_ERR_CHANNEL_EMPTY);
        EXPECT(vrd_receive_timed(ends.receive, &byte, 1, 1), VRD_ERR_TIMEOUT);
        EXPECT(vrd_receive_timed(ends.receive, &byte, 1, 30 * MS), VRD_ERR_TIMEOUT);
        EXPECT(vrd_receive_message(ends.receive, &message, 5 * MS), VRD_ERR_TIMEOUT);
        EXPECT(vrd_receive_batch(ends.receive, &message, 1, 5 * MS), VRD_ERR_TIMEOUT);
        EXPECT(byte, 'k');
        EXPECT(message.opcode, 99);
        EXPECT(message.len, 77);
        /* The second time with a link that has been used. */
        EXPECT(vrd_send(ends.send, "x", 1), 0);
        EXPECT(vrd_receive(ends.receive, &byte, 1), 1);
        byte = 'k';
    }
    ends_close(&ends);
}

static void test_async_channel(void **state)
{
    vrd_cap_t send, receive;
    uint8_t data[NUMBERED_MAX];
    ssize_t len;

    (void)state;
    EXPECT(vrd_async_channel_create(1024, &send, &receive), 0);
    EXPECT(vrd_receive_async(receive, data, sizeof data), VRD_ERR_CHANNEL_EMPTY);
    for (uint32_t i = 0; i < 1024; i++) {
        number_fill(data, i % 200, (struct number){ 3, i });
        EXPECT(vrd_send_async(send, data, i % 200), 0);
    }
    EXPECT(vrd_send_async(send, data, 1), VRD_ERR_CHANNEL_FULL);
    for (uint32_t i = 0; i < 1024; i++) {
        EXPECT(vrd_receive_async(receive, data, sizeof data), i % 200);
        number_check(data, i % 200, (struct number){ 3, i });
    }
    EXPECT(vrd_receive_async(receive, data, sizeof data), VRD_ERR_CHANNEL_EMPTY);
    EXPECT(vrd_cap_close(send), 0);
    while ((len = vrd_receive_async(receive, data, sizeof data)) == VRD_ERR_CHANNEL_EMPTY)
        support_sleep_ms(1);
    EXPECT(len, VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(receive), 0);
}

static void test_options(void **state)
{
    struct vrd_channel_options options = { 0 };
    struct vrd_cap_info info;
    vrd_cap_t send, receive;

    (void)state;
    EXPECT(vrd_channel_create_with(&options, &send, &receive), 0);
    EXPECT(vrd_cap_info(send, &info), 0);
    EXPECT(info.slots, VRD_CHANNEL_SLOTS_DEFAULT);
    EXPECT(info.max_message_size, VRD_CHANNEL_MESSAGE_DEFAULT);
    fill(send, 1, 0, VRD_CHANNEL_SLOTS_DEFAULT);
    ends_close(&(struct ends){ send, receive });

    options.slots = 1000;
    options.max_message_size = 77;
    EXPECT(vrd_channel_create_with(&options, &send, &receive), 0);
    EXPECT(vrd_cap_info(receive, &info), 0);
    EXPECT(info.slots, 1000);
    EXPECT(info.max_message_size, 77);
    ends_close(&(struct ends){ send, receive });
}

static void test_most_slots(void **state)
{
    const struct ends ends = ends_new(VRD_CHANNEL_SLOTS_MAX);

    (void)state;
    for (uint32_t i = 0; i < VRD_CHANNEL_SLOTS_MAX; i++)
        EXPECT(vrd_send_async(ends.send, &i, sizeof i), 0);
    EXPECT(vrd_send_async(ends.send, "x", 1), VRD_ERR_CHANNEL_FULL);
    for (uint32_t i = 0; i < VRD_CHANNEL_SLOTS_MAX; i++) {
        uint32_t got;

        EXPECT(vrd_receive(ends.receive, &got, sizeof got), sizeof got);
        EXPECT(got, i);
    }
    ends_close(&ends);
}

static void test_bad_options(void **state)
{
    static const size_t bad_slots[] = { VRD_CHANNEL_SLOTS_MAX + 1, UINT32_MAX,
                                        (size_t)UINT32_MAX + 2, SIZE_MAX };
    vrd_cap_t send = 41, receive = 42;

    (void)state;
    EXPECT(vrd_channel_create(0, &send, &receive), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_async_channel_create(0, &send, &receive), VRD_ERR_INVALID_ARGUMENT);
    for (size_t i = 0; i < sizeof bad_slots / sizeof bad_slots[0]; i++) {
        const struct vrd_channel_options options = { .slots = bad_slots[i] };

        EXPECT(vrd_channel_create(bad_slots[i], &send, &receive), VRD_ERR_INVALID_ARGUMENT);
        EXPECT(vrd_channel_create_with(&options, &send, &receive), VRD_ERR_INVALID_ARGUMENT);
    }
    for (size_t i = 0; i < sizeof((struct vrd_channel_options){ 0 }.reserved) / 8; i++) {
        struct vrd_channel_options options = { .slots = 4 };

        options.reserved[i] = 1;
        EXPECT(vrd_channel_create_with(&options, &send, &receive), VRD_ERR_INVALID_ARGUMENT);
    }
    EXPECT(vrd_channel_create(4, NULL, &receive), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_channel_create(4, &send, NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(send, 41);
    EXPECT(receive, 42);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_capacity_is_exact),
                     SUPPORT_TEST(test_each_receive_makes_room_for_one),
                     SUPPORT_TEST(test_each_sender_has_its_own_room),
                     SUPPORT_TEST(test_importer_has_the_exact_capacity),
                     SUPPORT_TEST(test_full_is_said_in_three_ways),
                     SUPPORT_TEST(test_empty_is_said_in_three_ways),
                     SUPPORT_TEST(test_async_channel),
                     SUPPORT_TEST(test_options),
                     SUPPORT_TEST(test_most_slots),
                     SUPPORT_TEST(test_bad_options),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
