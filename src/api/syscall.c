/* SPDX-License-Identifier: MIT */
#include <veridian/syscall.h>

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <veridian/channel.h>
#include <veridian/endpoint.h>
#include <veridian/error.h>
#include <veridian/inbox.h>
#include <veridian/message.h>

#include "object/reply.h"

_Static_assert(sizeof(vrd_cap_t) == sizeof(uint64_t), "capabilities are plain numbers here");

/* --- the answer that a thread owes ------------------------------------------------------------ */

/* As a kernel's thread has a slot for the reply: what was called, and how to answer. */
struct debt {
    vrd_cap_t endpoint;
    vrd_cap_t reply;
};

static __thread struct debt debt;
static pthread_key_t debt_key;
static pthread_once_t debt_once = PTHREAD_ONCE_INIT;
static bool debt_ends; /* with its thread: there is a key for it */

static void debt_drop(void *owed)
{
    struct debt *of = owed;

    if (of->reply != VRD_CAP_NONE)
        vrd_cap_close(of->reply);
    *of = (struct debt){ 0 };
}

static void debt_setup(void)
{
    debt_ends = pthread_key_create(&debt_key, debt_drop) == 0;
}

static void debt_set(vrd_cap_t endpoint, vrd_cap_t reply)
{
    debt = (struct debt){ .endpoint = endpoint, .reply = reply };
    if (reply == VRD_CAP_NONE)
        return;
    pthread_once(&debt_once, debt_setup);
    if (debt_ends && !pthread_getspecific(debt_key))
        pthread_setspecific(debt_key, &debt);
}

/* --- the calls -------------------------------------------------------------------------------- */

int64_t vrd_sys_send(uint64_t cap, const uint8_t *msg, size_t len)
{
    return vrd_send(cap, msg, len);
}

int64_t vrd_sys_receive(uint64_t cap, uint8_t *buf, size_t len)
{
    struct vrd_message message = { .data = buf, .size = len };
    vrd_cap_t reply;
    int r;

    if (debt.endpoint == cap)
        debt_drop(&debt);
    r = vrd_receive_call(cap, &message, &reply, VRD_FOREVER);
    if (r == VRD_ERR_NOT_SUPPORTED) /* a channel */
        return vrd_receive(cap, buf, len);
    if (r < 0)
        return r;
    debt_drop(&debt); /* at another endpoint */
    debt_set(cap, reply);
    return (int64_t)message.len;
}

int64_t vrd_sys_call(uint64_t cap, const uint8_t *msg, size_t len, uint8_t *reply)
{
    return vrd_call(cap, msg, len, reply, VRD_SYS_REPLY_MAX, VRD_FOREVER);
}

int64_t vrd_sys_reply(uint64_t cap, const uint8_t *msg, size_t len)
{
    vrd_cap_t reply = debt.reply;

    if (cap_is_reply(cap))
        return vrd_reply(cap, msg, len);
    if (cap == VRD_CAP_NONE || debt.endpoint != cap)
        return VRD_ERR_INVALID_CAPABILITY;
    debt = (struct debt){ 0 };
    return vrd_reply(reply, msg, len);
}

int64_t vrd_sys_create_channel(size_t slots, uint64_t *ret_send, uint64_t *ret_recv)
{
    return vrd_channel_create(slots, ret_send, ret_recv);
}

int64_t vrd_sys_create_endpoint(uint64_t *ret_id, uint64_t *ret_cap)
{
    return vrd_endpoint_create(ret_id, ret_cap);
}

int64_t vrd_sys_close(uint64_t cap)
{
    return vrd_cap_close(cap);
}

int64_t vrd_sys_grant_cap(uint64_t cap, uint64_t target_pid, uint32_t perms)
{
    vrd_cap_t grant;
    int r;

    if (target_pid > INT_MAX)
        return VRD_ERR_PROCESS_NOT_FOUND;
    r = vrd_cap_grant(cap, (pid_t)target_pid, perms, &grant);
    return r < 0 ? r : (int64_t)grant; /* bit 63 belongs to a generation that is never reached */
}

int64_t vrd_sys_revoke_cap(uint64_t cap)
{
    return vrd_cap_revoke(cap);
}
