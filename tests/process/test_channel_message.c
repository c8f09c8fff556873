/* SPDX-License-Identifier: MIT */
/* What travels beside the bytes, and messages that do not fit the buffer. */
#include "process/channels.h"

/* ---- opcode, flags, source -------------------------------------------------------------------- */

static void send_with(vrd_cap_t cap, uint32_t opcode, uint32_t flags, uint32_t index, size_t len)
{
    uint8_t data[NUMBERED_MAX];
    /* What a sender has to leave alone is ignored, whatever stands there. */
    const struct vrd_message message = {
        .opcode = opcode,
        .flags = flags,
        .data = data,
        .len = len,
        .badge = 666,
        .size = 1,
        .max_caps = 3,
        .source = { .pid = 1, .uid = 12345, .gid = 54321 },
    };

    number_fill(data, len, (struct number){ 9, index });
    EXPECT(vrd_send_message(cap, &message, VRD_FOREVER), 0);
}

static void receive_with(vrd_cap_t cap, uint32_t opcode, uint32_t flags, uint32_t index, size_t len)
{
    uint8_t data[NUMBERED_MAX];
    struct vrd_message message = {
        .opcode = 1, .flags = 2, .badge = 3, .data = data, .size = sizeof data, .n_caps = 4
    };

    EXPECT(vrd_receive_message(cap, &message, VRD_FOREVER), 0);
    EXPECT(message.opcode, opcode);
    EXPECT(message.flags, flags);
    EXPECT(message.badge, 0);
    EXPECT(message.len, len);
    EXPECT(message.n_caps, 0);
    EXPECT(message.source.pid, getpid());
    EXPECT(message.source.uid, getuid());
    EXPECT(message.source.gid, getgid());
    support_require(message.data == data && message.size == sizeof data);
    number_check(data, len, (struct number){ 9, index });
}

static void test_opcode_and_flags_of_every_size(void **state)
{
    static const uint32_t values[] = { 0, 1, 0x80000000u, UINT32_MAX, 0x12345678u };
    const struct ends ends = ends_new(16);
    uint32_t index = 0;

    (void)state;
    for (size_t len = 0; len <= 200; len++)
        for (size_t o = 0; o < 5; o++, index++) {
            send_with(ends.send, values[o], values[(len + o) % 5], index, len);
            receive_with(ends.receive, values[o], values[(len + o) % 5], index, len);
        }
    ends_close(&ends);
}

/* A slot that carried an opcode does not give it to the plain message that comes there next. */
static void test_plain_messages_carry_none(void **state)
{
    const struct ends ends = ends_new(2);

    (void)state;
    for (uint32_t i = 0; i < 20; i++) {
        send_with(ends.send, 77 + i, 88, i, i % 2 ? 8 : 100);
        receive_with(ends.receive, 77 + i, 88, i, i % 2 ? 8 : 100);
        numbered_send(ends.send, 9, i, 60);
        receive_with(ends.receive, 0, 0, i, 60);
        numbered_send(ends.send, 9, i, 10);
        receive_with(ends.receive, 0, 0, i, 10);
    }
    ends_close(&ends);
}

static void test_message_and_plain_calls_mix(void **state)
{
    const struct ends ends = ends_new(4);

    (void)state;
    send_with(ends.send, 5, 6, 1, 64);
    send_with(ends.send, 5, 6, 2, 65);
    numbered_receive(ends.receive, 9, 1, 64);
    numbered_receive(ends.receive, 9, 2, 65);
    ends_close(&ends);
}

static int send_own_pid(void *arg)
{
    const struct ends *ends = arg;
    const pid_t self = getpid();

    EXPECT(vrd_cap_close(ends->receive), 0);
    EXPECT(vrd_send(ends->send, &self, sizeof self), 0);
    return 0;
}

static void test_source_is_the_process_that_sent(void **state)
{
    struct ends ends = ends_new(4);
    pid_t children[5], claimed;
    struct vrd_message message = { .data = &claimed, .size = sizeof claimed };

    (void)state;
    EXPECT(vrd_send(ends.send, &(pid_t){ getpid() }, sizeof(pid_t)), 0);
    for (size_t i = 0; i < 5; i++)
        children[i] = support_child(send_own_pid, &ends);
    for (size_t i = 0; i < 6; i++) {
        EXPECT(vrd_receive_message(ends.receive, &message, VRD_FOREVER), 0);
        EXPECT(message.source.pid, claimed);
        EXPECT(message.source.uid, getuid());
        EXPECT(message.source.gid, getgid());
    }
    for (size_t i = 0; i < 5; i++)
        support_wait_exit(children[i], 0);
    ends_close(&ends);
}

static int send_as_other_user(void *arg)
{
    support_require(setgid(65534) == 0 && setuid(65534) == 0);
    return send_own_pid(arg);
}

static void test_source_names_the_user(void **state)
{
    struct ends ends = ends_new(4);
    pid_t claimed;
    struct vrd_message message = { .data = &claimed, .size = sizeof claimed };

    (void)state;
    if (getuid() != 0)
        skip();
    const pid_t child = support_child(send_as_other_user, &ends);
    EXPECT(vrd_receive_message(ends.receive, &message, VRD_FOREVER), 0);
    EXPECT(message.source.pid, child);
    EXPECT(claimed, child);
    EXPECT(message.source.uid, 65534);
    EXPECT(message.source.gid, 65534);
    support_wait_exit(child, 0);
    ends_close(&ends);
}

static void test_descriptions_that_are_refused(void **state)
{
    const struct ends ends = ends_new(4);
    char byte = 0;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct vrd_message message = { .data = &byte, .len = 1, .size = 1 };

        message.reserved[i] = 1;
        EXPECT(vrd_send_message(ends.send, &message, 0), VRD_ERR_INVALID_ARGUMENT);
        EXPECT(vrd_send_batch(ends.send, &message, 1, 0), VRD_ERR_INVALID_ARGUMENT);
    }
    for (uint32_t i = 1; i <= 5; i++) {
        const struct vrd_message message = { .data = &byte, .len = 1, .n_caps = i }; /* all NONE */
        const int error = i == 1 ? VRD_ERR_INVALID_CAPABILITY : VRD_ERR_INVALID_ARGUMENT;

        EXPECT(vrd_send_message(ends.send, &message, 0), error);
        EXPECT(vrd_send_batch(ends.send, &message, 1, 0), error);
    }
    EXPECT(vrd_send_message(ends.send, NULL, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_message(ends.receive, NULL, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_async(ends.receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
    ends_close(&ends);
}

/* ---- larger than the buffer ------------------------------------------------------------------- */

static void test_too_large_message_is_kept(void **state)
{
    static const size_t sizes[] = { 1, 8, 56, 57, 64, 65, 200, 4096 };
    const struct ends ends = ends_new(16);
    uint8_t data[NUMBERED_MAX];

    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        const size_t len = sizes[i];
        struct vrd_message message = { .opcode = 11,
                                       .badge = 12,
                                       .data = data,
                                       .size = len - 1,
                                       .len = 13,
                                       .source = { .pid = 14 } };

        send_with(ends.send, 3, 4, i, len);
        EXPECT(vrd_receive(ends.receive, data, len - 1), VRD_ERR_MESSAGE_TOO_LARGE);
        EXPECT(vrd_receive_async(ends.receive, NULL, 0), VRD_ERR_MESSAGE_TOO_LARGE);
        EXPECT(vrd_receive_message(ends.receive, &message, VRD_FOREVER), VRD_ERR_MESSAGE_TOO_LARGE);
        EXPECT(message.len, len);
        EXPECT(message.opcode, 11);
        EXPECT(message.badge, 12);
        EXPECT(message.source.pid, 14);
        EXPECT(message.size, len - 1);
        message.len = 0;
        EXPECT(vrd_receive_batch(ends.receive, &message, 1, 0), VRD_ERR_MESSAGE_TOO_LARGE);
        receive_with(ends.receive, 3, 4, i, len);
        EXPECT(vrd_discard(ends.receive), VRD_ERR_CHANNEL_EMPTY);
    }
    ends_close(&ends);
}

static void test_discard_drops_just_that_message(void **state)
{
    const struct ends ends = ends_new(4);
    char byte;

    (void)state;
    EXPECT(vrd_discard(ends.receive), VRD_ERR_CHANNEL_EMPTY);
    for (uint32_t i = 0; i < 20; i++) {
        numbered_send(ends.send, 1, 2 * i, i % 2 ? 40 : 400);
        numbered_send(ends.send, 1, 2 * i + 1, 40);
        EXPECT(vrd_discard(ends.receive), VRD_ERR_CHANNEL_EMPTY);
        EXPECT(vrd_receive(ends.receive, &byte, 1), VRD_ERR_MESSAGE_TOO_LARGE);
        EXPECT(vrd_discard(ends.receive), 0);
        EXPECT(vrd_discard(ends.receive), VRD_ERR_CHANNEL_EMPTY);
        numbered_receive(ends.receive, 1, 2 * i + 1, 40);
        EXPECT(vrd_discard(ends.receive), VRD_ERR_CHANNEL_EMPTY);
    }
    ends_close(&ends);
}

static void test_discard_makes_room(void **state)
{
    const struct ends ends = ends_new(1);
    char byte;

    (void)state;
    for (uint32_t i = 0; i < 10; i++) {
        numbered_send(ends.send, 1, i, 100);
        EXPECT(numbered_try_send(ends.send, 1, i, 100, 0), VRD_ERR_CHANNEL_FULL);
        EXPECT(vrd_receive(ends.receive, &byte, 1), VRD_ERR_MESSAGE_TOO_LARGE);
        EXPECT(vrd_discard(ends.receive), 0);
    }
    EXPECT(vrd_receive_async(ends.receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
    ends_close(&ends);
}

/* One sender's large message does not hold the others up. */
static void test_too_large_goes_on_with_the_others(void **state)
{
    const struct ends ends = ends_new(8);
    const vrd_cap_t others[3] = { sender_new(ends.send), sender_new(ends.send),
                                  sender_new(ends.send) };
    uint32_t next[3] = { 0 }, got = 0, too_large = 0;
    uint8_t small[32];

    (void)state;
    /* Links that are known already: a new one may take a moment to be seen. */
    for (uint32_t s = 0; s < 3; s++) {
        numbered_send(others[s], 9, 0, 32);
        numbered_receive(ends.receive, 9, 0, 32);
    }
    numbered_send(ends.send, 9, 0, 500);
    numbered_send(ends.send, 9, 1, 32);
    for (uint32_t s = 0; s < 3; s++)
        for (uint32_t i = 0; i < 8; i++)
            numbered_send(others[s], s, i, 32);

    while (got < 24) {
        const ssize_t len = vrd_receive(ends.receive, small, sizeof small);

        if (len == VRD_ERR_MESSAGE_TOO_LARGE) {
            /* It comes round again, but never twice before the others had their turn. */
            support_require(too_large++ <= got);
            continue;
        }
        EXPECT(len, 32);
        const struct number number = number_of(small);
        support_require(number.sender < 3);
        EXPECT(number.index, next[number.sender]++);
        got++;
    }
    EXPECT(vrd_receive(ends.receive, small, sizeof small), VRD_ERR_MESSAGE_TOO_LARGE);
    EXPECT(vrd_receive(ends.receive, small, sizeof small), VRD_ERR_MESSAGE_TOO_LARGE);
    EXPECT(vrd_discard(ends.receive), 0);
    numbered_receive(ends.receive, 9, 1, 32);
    for (uint32_t s = 0; s < 3; s++)
        EXPECT(vrd_cap_close(others[s]), 0);
    ends_close(&ends);
}

/* Somebody who only ever finds the large message hears of a new sender all the same. */
static int find_the_new_sender(void *arg)
{
    const struct ends ends = ends_new(8);
    uint8_t small[32];
    ssize_t len;

    (void)arg;
    numbered_send(ends.send, 9, 0, 500);
    EXPECT(vrd_receive(ends.receive, small, sizeof small), VRD_ERR_MESSAGE_TOO_LARGE);
    const vrd_cap_t other = sender_new(ends.send);
    numbered_send(other, 1, 0, 32);
    while ((len = vrd_receive(ends.receive, small, sizeof small)) == VRD_ERR_MESSAGE_TOO_LARGE)
        ;
    EXPECT(len, 32);
    number_check(small, 32, (struct number){ 1, 0 });
    EXPECT(vrd_cap_close(other), 0);
    ends_close(&ends);
    return 0;
}

static void test_too_large_does_not_hide_new_senders(void **state)
{
    (void)state;
    /* In a process that has never slept, and so has no thread of the library's to tell it. */
    support_wait_exit(support_child(find_the_new_sender, NULL), 0);
}

static void test_two_large_messages_are_discarded_in_turn(void **state)
{
    const struct ends ends = ends_new(8);
    const vrd_cap_t other = sender_new(ends.send);
    uint8_t small[8];
    uint32_t counts[2] = { 2, 2 };

    (void)state;
    numbered_send(ends.send, 0, 99, 100);
    numbered_send(other, 1, 99, 200);
    for (uint32_t i = 0; i < 2; i++) {
        numbered_send(ends.send, 0, i, 8);
        numbered_send(other, 1, i, 8);
    }
    for (size_t i = 0; i < 2; i++) {
        ssize_t len;

        while ((len = vrd_receive(ends.receive, small, sizeof small)) >= 0) {
            EXPECT(len, 8);
            const struct number number = number_of(small);
            EXPECT(number.index, 2 - counts[number.sender]);
            counts[number.sender]--;
        }
        EXPECT(len, VRD_ERR_MESSAGE_TOO_LARGE);
        EXPECT(vrd_discard(ends.receive), 0);
    }
    while (counts[0] + counts[1] > 0) {
        EXPECT(vrd_receive(ends.receive, small, sizeof small), 8);
        const struct number number = number_of(small);
        EXPECT(number.index, 2 - counts[number.sender]);
        counts[number.sender]--;
    }
    EXPECT(vrd_receive_async(ends.receive, small, sizeof small), VRD_ERR_CHANNEL_EMPTY);
    EXPECT(vrd_cap_close(other), 0);
    ends_close(&ends);
}

/* A sender that is gone left a message too large: it is drained like any other. */
static void test_too_large_from_a_sender_that_is_gone(void **state)
{
    const struct ends ends = ends_new(8);
    char byte;

    (void)state;
    numbered_send(ends.send, 1, 0, 100);
    numbered_send(ends.send, 1, 1, 100);
    EXPECT(vrd_cap_close(ends.send), 0);
    for (size_t i = 0; i < 10; i++)
        EXPECT(vrd_receive(ends.receive, &byte, 1), VRD_ERR_MESSAGE_TOO_LARGE);
    numbered_receive(ends.receive, 1, 0, 100);
    EXPECT(vrd_receive(ends.receive, &byte, 1), VRD_ERR_MESSAGE_TOO_LARGE);
    EXPECT(vrd_discard(ends.receive), 0);
    EXPECT(vrd_receive(ends.receive, &byte, 1), VRD_ERR_PEER_GONE);
    EXPECT(vrd_discard(ends.receive), VRD_ERR_CHANNEL_EMPTY);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_opcode_and_flags_of_every_size),
                     SUPPORT_TEST(test_plain_messages_carry_none),
                     SUPPORT_TEST(test_message_and_plain_calls_mix),
                     SUPPORT_TEST(test_source_is_the_process_that_sent),
                     SUPPORT_TEST(test_source_names_the_user),
                     SUPPORT_TEST(test_descriptions_that_are_refused),
                     SUPPORT_TEST(test_too_large_message_is_kept),
                     SUPPORT_TEST(test_discard_drops_just_that_message),
                     SUPPORT_TEST(test_discard_makes_room),
                     SUPPORT_TEST(test_too_large_goes_on_with_the_others),
                     SUPPORT_TEST(test_too_large_does_not_hide_new_senders),
                     SUPPORT_TEST(test_two_large_messages_are_discarded_in_turn),
                     SUPPORT_TEST(test_too_large_from_a_sender_that_is_gone),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
