/* SPDX-License-Identifier: MIT */
/* Messages of every size: none of a byte lost, added or changed on the way. */
#include "process/channels.h"

#define MIB ((size_t)1 << 20)

static const size_t large_sizes[] = {
    201,  255,  256,   257,   511,   1023,    1024,       1025,    4095,
    4096, 4097, 65535, 65536, 65537, MIB / 2, MIB - 4097, MIB - 1, MIB,
};

#define N_LARGE (sizeof large_sizes / sizeof large_sizes[0])

/* Both ends in one process: sends and receives one, into a buffer of just the size and with a
 * mark behind it. */
static void pass(const struct ends *ends, size_t len, uint32_t index)
{
    uint8_t *data = malloc(len + 1), *got = malloc(len + 1);

    support_require(data && got);
    number_fill(data, len, (struct number){ 7, index });
    EXPECT(vrd_send(ends->send, data, len), 0);
    memset(data, 0xEE, len); /* the call has copied it */
    memset(got, 0x55, len + 1);
    EXPECT(vrd_receive(ends->receive, got, len), len);
    number_check(got, len, (struct number){ 7, index });
    EXPECT(got[len], 0x55);
    free(data);
    free(got);
}

static void test_small_sizes(void **state)
{
    const struct ends ends = ends_new(16);

    (void)state;
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t len = 0; len <= 200; len++)
            pass(&ends, len, round * 1000 + len);
    ends_close(&ends);
}

static void test_large_sizes(void **state)
{
    const struct ends ends = ends_new(16);

    (void)state;
    for (uint32_t i = 0; i < N_LARGE; i++)
        pass(&ends, large_sizes[i], i);
    for (uint32_t i = N_LARGE; i-- > 0;)
        pass(&ends, large_sizes[i], i);
    ends_close(&ends);
}

static void test_empty_messages_are_messages(void **state)
{
    const struct ends ends = ends_new(4);
    char byte = 'x';

    (void)state;
    for (size_t i = 0; i < 4; i++)
        EXPECT(vrd_send(ends.send, NULL, 0), 0);
    EXPECT(vrd_send_async(ends.send, NULL, 0), VRD_ERR_CHANNEL_FULL);
    for (size_t i = 0; i < 3; i++)
        EXPECT(vrd_receive(ends.receive, NULL, 0), 0);
    EXPECT(vrd_receive(ends.receive, &byte, 1), 0);
    EXPECT(byte, 'x');
    EXPECT(vrd_receive_async(ends.receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
    ends_close(&ends);
}

/* The bytes run round their ring at every offset: sizes that have no common measure with it. */
static void test_bytes_wrap(void **state)
{
    const struct ends ends = ends_new(4);

    (void)state;
    for (uint32_t i = 0; i < support_iterations(600); i++)
        pass(&ends, 65 + (size_t)i * 7919u % 70000u, i);
    ends_close(&ends);
}

/* Every slot taken by messages of the given size, before the first is read. (Beyond what these
 * take together, room in bytes runs out before the slots do.) */
static void fill_with(size_t slots, size_t max, size_t len)
{
    const struct vrd_channel_options options = { .slots = slots, .max_message_size = max };
    struct ends ends;
    uint8_t *data = malloc(len);

    support_require(data != NULL);
    EXPECT(vrd_channel_create_with(&options, &ends.send, &ends.receive), 0);
    for (uint32_t lap = 0; lap < 3; lap++) {
        for (uint32_t i = 0; i < slots; i++) {
            number_fill(data, len, (struct number){ lap, i });
            EXPECT(vrd_send_async(ends.send, data, len), 0);
        }
        EXPECT(vrd_send_async(ends.send, data, len), VRD_ERR_CHANNEL_FULL);
        for (uint32_t i = 0; i < slots; i++) {
            memset(data, 0, len);
            EXPECT(vrd_receive(ends.receive, data, len), len);
            number_check(data, len, (struct number){ lap, i });
        }
    }
    ends_close(&ends);
    free(data);
}

static void test_every_slot_holds_a_large_message(void **state)
{
    (void)state;
    fill_with(16, 0, 65);
    fill_with(1000, 0, 200);
    fill_with(64, 0, 4096);
    fill_with(8, 0, 32769);
    fill_with(4, 0, MIB);
    fill_with(1, 0, MIB);
    fill_with(3, 3 * MIB + 5, 3 * MIB + 5);
}

static void check_limit(size_t max)
{
    const struct vrd_channel_options options = { .slots = 2, .max_message_size = max };
    struct ends ends;
    uint8_t *data = calloc(1, max + 1);

    support_require(data != NULL);
    EXPECT(vrd_channel_create_with(&options, &ends.send, &ends.receive), 0);
    for (uint32_t i = 0; i < 5; i++) {
        pass(&ends, max, i);
        EXPECT(vrd_send(ends.send, data, max + 1), VRD_ERR_MESSAGE_TOO_LARGE);
        EXPECT(vrd_send(ends.send, data, SIZE_MAX), VRD_ERR_MESSAGE_TOO_LARGE);
        pass(&ends, max / 2, i);
    }
    ends_close(&ends);
    free(data);
}

static void test_largest_message_exactly(void **state)
{
    static const size_t limits[] = { 1,   7,    8,    55,    56,      57,  63,      64,         65,
                                     128, 1000, 4096, 65536, MIB - 1, MIB, MIB + 1, 5 * MIB + 3 };

    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        check_limit(limits[i]);
}

static void test_default_limit_is_a_mebibyte(void **state)
{
    const struct ends ends = ends_new(2);
    uint8_t *data = calloc(1, MIB + 1);

    (void)state;
    support_require(data != NULL);
    pass(&ends, MIB, 1);
    EXPECT(vrd_send(ends.send, data, MIB + 1), VRD_ERR_MESSAGE_TOO_LARGE);
    EXPECT(vrd_receive_async(ends.receive, data, MIB), VRD_ERR_CHANNEL_EMPTY);
    ends_close(&ends);
    free(data);
}

static void test_one_message_of_64_mebibytes(void **state)
{
    const size_t len = 64 * MIB;
    const struct vrd_channel_options options = { .slots = 1, .max_message_size = len };
    struct ends ends;

    (void)state;
    EXPECT(vrd_channel_create_with(&options, &ends.send, &ends.receive), 0);
    pass(&ends, len, 1);
    pass(&ends, len - 1, 2);
    ends_close(&ends);
}

/* ---- between processes ------------------------------------------------------------------------ */

static int send_all_sizes(void *arg)
{
    const struct ends *ends = arg;
    uint8_t *data = malloc(MIB);
    uint32_t index = 0;

    support_require(data != NULL);
    EXPECT(vrd_cap_close(ends->receive), 0);
    for (size_t len = 0; len <= 200; len++, index++) {
        number_fill(data, len, (struct number){ 1, index });
        EXPECT(vrd_send(ends->send, data, len), 0);
    }
    for (size_t i = 0; i < N_LARGE; i++, index++) {
        number_fill(data, large_sizes[i], (struct number){ 1, index });
        EXPECT(vrd_send(ends->send, data, large_sizes[i]), 0);
    }
    free(data);
    return 0;
}

static void receive_all_sizes(vrd_cap_t receive)
{
    uint8_t *data = malloc(MIB);
    uint32_t index = 0;

    support_require(data != NULL);
    for (size_t len = 0; len <= 200; len++, index++) {
        EXPECT(vrd_receive(receive, data, MIB), len);
        number_check(data, len, (struct number){ 1, index });
    }
    for (size_t i = 0; i < N_LARGE; i++, index++) {
        EXPECT(vrd_receive(receive, data, MIB), large_sizes[i]);
        number_check(data, large_sizes[i], (struct number){ 1, index });
    }
    EXPECT(vrd_receive(receive, data, MIB), VRD_ERR_PEER_GONE);
    free(data);
}

static void test_all_sizes_between_processes(void **state)
{
    static const size_t slots[] = { 1, 3, 16, 256 };

    (void)state;
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        struct ends ends = ends_new(slots[i]);
        const pid_t child = support_child(send_all_sizes, &ends);

        EXPECT(vrd_cap_close(ends.send), 0);
        receive_all_sizes(ends.receive);
        EXPECT(vrd_cap_close(ends.receive), 0);
        support_wait_exit(child, 0);
    }
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_small_sizes),
                     SUPPORT_TEST(test_large_sizes),
                     SUPPORT_TEST(test_empty_messages_are_messages),
                     SUPPORT_TEST(test_bytes_wrap),
                     SUPPORT_TEST(test_every_slot_holds_a_large_message),
                     SUPPORT_TEST(test_largest_message_exactly),
                     SUPPORT_TEST(test_default_limit_is_a_mebibyte),
                     SUPPORT_TEST(test_one_message_of_64_mebibytes),
                     SUPPORT_TEST(test_all_sizes_between_processes),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
