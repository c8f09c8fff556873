/* SPDX-License-Identifier: MIT */
/*
 * endpoints.h - what the tests of endpoints share: calls whose replies follow from their requests,
 * so that a swap or a loss shows, and a server that answers so.
 */
#ifndef PROCESS_ENDPOINTS_H
#define PROCESS_ENDPOINTS_H

#include "process/channels.h"

/* The reply to message `index` of `caller`: also numbered, but for another sender. */
#define ANSWERER(caller) ((caller) + 0x10000u)

static inline vrd_cap_t endpoint_new(void)
{
    vrd_cap_t cap;
    uint64_t id;

    EXPECT(vrd_endpoint_create(&id, &cap), 0);
    support_require(id != 0);
    return cap;
}

/* One more client, with a link of its own. */
static inline vrd_cap_t client_new(vrd_cap_t cap)
{
    return sender_new(cap);
}

/* Calls with request `index` of `len` bytes, and requires the right reply, `reply_len` long. */
static inline void numbered_call(vrd_cap_t cap, uint32_t caller, uint32_t index, size_t len)
{
    uint8_t *data = malloc(len), *reply = malloc(len);

    support_require(data && reply && len >= sizeof(struct number));
    number_fill(data, len, (struct number){ caller, index });
    EXPECT(vrd_call(cap, data, len, reply, len, VRD_FOREVER), len);
    number_check(reply, len, (struct number){ ANSWERER(caller), index });
    free(data);
    free(reply);
}

/* Turns a request into its reply. */
static inline void number_answer(void *data, size_t len)
{
    struct number number = number_of(data);

    number_check(data, len, number);
    number.sender = ANSWERER(number.sender);
    number_fill(data, len, number);
}

#define SERVED_MAX ((size_t)2 << 20)

/* Serves until there is nobody left, or the endpoint is closed. Returns the number of calls. */
static inline size_t serve(vrd_cap_t cap, size_t size)
{
    uint8_t *data = malloc(size);
    struct vrd_message request = { .data = data, .size = size };
    vrd_cap_t reply;
    size_t served = 0;
    int result;

    support_require(data != NULL);
    while ((result = vrd_receive_call(cap, &request, &reply, VRD_FOREVER)) == 0) {
        support_require(reply != VRD_CAP_NONE);
        number_answer(data, request.len);
        result = vrd_reply(reply, data, request.len);
        support_require(result == 0 || result == VRD_ERR_PEER_GONE || result == VRD_ERR_TIMEOUT);
        served++;
    }
    support_require(result == VRD_ERR_INVALID_CAPABILITY || result == VRD_ERR_PEER_GONE);
    free(data);
    return served;
}

/* The same with one function for answering and receiving. */
static inline size_t serve_combined(vrd_cap_t cap, size_t size)
{
    uint8_t *data = malloc(size);
    struct vrd_message request = { .data = data, .size = size };
    vrd_cap_t reply = VRD_CAP_NONE;
    size_t served = 0, len = 0;
    int result;

    support_require(data != NULL);
    while ((result = vrd_reply_receive(cap, &reply, data, len, &request, VRD_FOREVER)) == 0) {
        support_require(reply != VRD_CAP_NONE);
        len = request.len;
        number_answer(data, len);
        served++;
    }
    support_require(result == VRD_ERR_INVALID_CAPABILITY || result == VRD_ERR_PEER_GONE);
    EXPECT(reply, VRD_CAP_NONE);
    free(data);
    return served;
}

#endif
