/* SPDX-License-Identifier: MIT */
/*
 * channels.h - what the tests of channels share: messages that say whose they are and which, so
 * that a loss, a doubling, a swap or a tear shows; and more senders for a channel.
 */
#ifndef PROCESS_CHANNELS_H
#define PROCESS_CHANNELS_H

#include "support/support.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <veridian/ipc.h>

/* The value first, what it has to be second. */
#define EXPECT(value, expected) support_require_equal((value), (expected))

#define MS INT64_C(1000000)

/* The exported and imported channel, and a wait that sleeps: from then on all that a process
 * starts once and keeps has been started. */
static inline int channels_warm_up(void)
{
    vrd_cap_t send, receive;
    char byte;

    if (support_warm_up_channel() != 0 || vrd_channel_create(1, &send, &receive) != 0)
        return -1;
    if (vrd_receive_timed(receive, &byte, 1, 50 * MS) != VRD_ERR_TIMEOUT)
        return -1;
    return vrd_cap_close(send) != 0 || vrd_cap_close(receive) != 0 ? -1 : 0;
}

static inline int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* splitmix64: neighbouring numbers have nothing to do with each other, not in their low bits either. */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* ---- numbered messages ---------------------------------------------------------------------- */

struct number {
    uint32_t sender;
    uint32_t index;
};

static inline uint8_t number_byte(struct number number, size_t at)
{
    return (uint8_t)(number.sender * 131u + number.index * 29u + at * 7u + (at >> 8) * 13u);
}

/* `len` bytes for that number, which stands in the first ones if they are enough. */
static inline void number_fill(void *data, size_t len, struct number number)
{
    uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++)
        bytes[i] = number_byte(number, i);
    if (len >= sizeof number)
        memcpy(bytes, &number, sizeof number);
}

static inline struct number number_of(const void *data)
{
    struct number number;

    memcpy(&number, data, sizeof number);
    return number;
}

static inline void number_check(const void *data, size_t len, struct number number)
{
    const uint8_t *bytes = data;
    size_t at = 0;

    if (len >= sizeof number) {
        EXPECT(number_of(data).sender, number.sender);
        EXPECT(number_of(data).index, number.index);
        at = sizeof number;
    }
    for (; at < len; at++)
        if (bytes[at] != number_byte(number, at))
            support_fail(__FILE__, __LINE__, "message %u of sender %u: byte %zu of %zu is wrong",
                         number.index, number.sender, at, len);
}

/* Messages of up to NUMBERED_MAX bytes are built on the stack. */
#define NUMBERED_MAX 4096

static inline int numbered_try_send(vrd_cap_t cap, uint32_t sender, uint32_t index, size_t len,
                                    int64_t timeout_ns)
{
    uint8_t data[NUMBERED_MAX];

    support_require(len <= sizeof data);
    number_fill(data, len, (struct number){ sender, index });
    return vrd_send_timed(cap, data, len, timeout_ns);
}

static inline void numbered_send(vrd_cap_t cap, uint32_t sender, uint32_t index, size_t len)
{
    EXPECT(numbered_try_send(cap, sender, index, len, VRD_FOREVER), 0);
}

/* Receives a message of just that length and content. */
static inline void numbered_receive(vrd_cap_t cap, uint32_t sender, uint32_t index, size_t len)
{
    uint8_t data[NUMBERED_MAX];

    EXPECT(vrd_receive(cap, data, sizeof data), len);
    number_check(data, len, (struct number){ sender, index });
}

/* Receives from whoever is next, and returns the number; the result of the call if it failed. */
static inline int64_t numbered_receive_any(vrd_cap_t cap, struct number *ret, int64_t timeout_ns)
{
    uint8_t data[NUMBERED_MAX];
    const ssize_t len = vrd_receive_timed(cap, data, sizeof data, timeout_ns);

    if (len < 0)
        return len;
    support_require((size_t)len >= sizeof *ret);
    *ret = number_of(data);
    number_check(data, (size_t)len, *ret);
    return len;
}

/* Receives until every sender is gone; each must have sent 0, 1, 2 ... up to counts[sender]. */
static inline void numbered_drain(vrd_cap_t cap, const uint32_t *counts, uint32_t n)
{
    uint32_t *next = calloc(n, sizeof *next);
    struct number number;
    int64_t result;

    support_require(next != NULL);
    while ((result = numbered_receive_any(cap, &number, VRD_FOREVER)) >= 0) {
        support_require(number.sender < n);
        EXPECT(number.index, next[number.sender]);
        next[number.sender]++;
    }
    EXPECT(result, VRD_ERR_PEER_GONE);
    for (uint32_t i = 0; i < n; i++)
        EXPECT(next[i], counts[i]);
    free(next);
}

/* ---- senders ------------------------------------------------------------------------------ */

/* One more sender, with a link of its own. */
static inline vrd_cap_t sender_new(vrd_cap_t cap)
{
    int invitation;
    vrd_cap_t sender;

    EXPECT(vrd_cap_export(cap, VRD_RIGHT_SEND, &invitation), 0);
    EXPECT(vrd_cap_import(invitation, &sender), 0);
    return sender;
}

static inline vrd_cap_t import_at(const struct support_role_args *args, size_t i)
{
    vrd_cap_t cap;

    support_require(i < args->n_fds);
    EXPECT(vrd_cap_import(args->fds[i], &cap), 0);
    return cap;
}

/* ---- ends ----------------------------------------------------------------------------------- */

struct ends {
    vrd_cap_t send;
    vrd_cap_t receive;
};

static inline struct ends ends_new(size_t slots)
{
    struct ends ends;

    EXPECT(vrd_channel_create(slots, &ends.send, &ends.receive), 0);
    return ends;
}

static inline void ends_close(const struct ends *ends)
{
    EXPECT(vrd_cap_close(ends->send), 0);
    EXPECT(vrd_cap_close(ends->receive), 0);
}

#endif
