/* SPDX-License-Identifier: MIT */
#include "calls.h"

#include <string.h>

#include "steps.h"

#define ANSWER_INDEX UINT32_MAX /* in the tag of an answer, whose sender is the caller */

/* One call, of many at once. */
struct call {
    struct cap *cap;
    bool waits;      /* its worker sleeps in it */
    bool gone;       /* its worker was killed, or left at its deadline */
    vrd_cap_t reply; /* at the server */
    struct parcel parcel;
};

struct calls {
    struct history *h;
    struct channel *channel;
    struct call all[WORKERS];
    uint32_t n;
    bool busy[WORKERS]; /* sleeps in a call */
};

static struct worker_order call_order(struct calls *calls, const struct call *call)
{
    struct history *h = calls->h;

    return (struct worker_order){ .op = WORKER_CALL,
                                  .cap = call->cap->number,
                                  .size = message_size(h),
                                  .tag = { (uint32_t)(call->cap - h->caps), call->cap->sent },
                                  .carried = parcel_numbers(h, &call->parcel),
                                  .wanted = VRD_MESSAGE_CAPS_MAX,
                                  .wait_ns = call->gone ? SHORT_NS : WAIT_NS,
                                  .fd = -1 };
}

/* What somebody has who can give it away. */
static struct parcel parcel_to_give(struct history *h, uint32_t worker, const struct cap *through)
{
    struct parcel parcel = parcel_of(h, worker, through, dice(h, 3));

    if (!parcel_may_go(h, &parcel))
        parcel.n = 0;
    return parcel;
}

static void call_begin(struct calls *calls, struct cap *cap)
{
    struct history *h = calls->h;
    struct call *call = &calls->all[calls->n++];
    struct worker_order order;

    *call = (struct call){ .cap = cap, .gone = dice(h, 4) == 0 };
    call->parcel = parcel_to_give(h, cap->worker, cap);
    order = call_order(calls, call);
    if (call->gone) { /* nobody answers yet */
        REQUIRE_EQUAL(tell(h, cap->worker, order).result, VRD_ERR_TIMEOUT);
    } else {
        worker_tell(&h->workers[cap->worker], &order);
        call->waits = calls->busy[cap->worker] = true;
    }
    parcel_gone(h, &call->parcel);
    cap->sent++;
}

/* One for each worker that can. */
static void calls_begin(struct calls *calls)
{
    struct history *h = calls->h;
    const uint32_t n_caps = h->n_caps, server = calls->channel->worker;
    bool had[WORKERS] = { false };

    had[server] = true;
    for (uint32_t i = 0; i < n_caps; i++) {
        struct cap *cap = &h->caps[i];

        if (cap->standing == STANDING_HELD && &h->channels[cap->channel] == calls->channel &&
            !had[cap->worker]) {
            had[cap->worker] = true;
            call_begin(calls, cap);
        }
    }
}

static struct call *call_find(struct calls *calls, struct worker_tag tag)
{
    struct call *found = NULL;

    for (uint32_t i = 0; i < calls->n; i++)
        if (calls->all[i].reply == VRD_CAP_NONE &&
            (uint32_t)(calls->all[i].cap - calls->h->caps) == tag.sender)
            found = &calls->all[i];
    return found;
}

static void calls_receive(struct calls *calls)
{
    struct history *h = calls->h;
    const struct channel *channel = calls->channel;

    for (uint32_t i = 0; i < calls->n; i++) {
        const struct worker_answer answer = tell(h, channel->worker,
                                                 (struct worker_order){ .op = WORKER_RECEIVE_CALL,
                                                                        .cap = channel->number,
                                                                        .wait_ns = WAIT_NS,
                                                                        .wanted = 4,
                                                                        .fd = -1 });
        struct call *call = call_find(calls, answer.tag);

        REQUIRE_EQUAL(answer.result, 0);
        REQUIRE(call != NULL);
        REQUIRE_EQUAL(answer.tag.index + 1, call->cap->sent);
        REQUIRE_EQUAL(answer.badge, call->cap->badge);
        REQUIRE_EQUAL(answer.pid, call->cap->pid);
        number_new(h, channel->worker, answer.cap);
        call->reply = answer.cap;
        call->cap->received = call->cap->limit = call->cap->sent;
        parcel_arrived(h, &call->parcel, channel->worker, 4, &answer.carried);
    }
}

/* The caller wakes with this, if it is still there. */
static struct worker_answer call_hear(struct calls *calls, struct call *call, int64_t result)
{
    struct history *h = calls->h;
    struct worker_answer answer;

    call->waits = calls->busy[call->cap->worker] = false;
    answer = worker_hear(&h->workers[call->cap->worker]);
    REQUIRE_EQUAL(answer.result, result);
    if (result == 0) {
        REQUIRE_EQUAL(answer.tag.sender, call->cap - h->caps);
        REQUIRE_EQUAL(answer.tag.index, ANSWER_INDEX);
    }
    return answer;
}

static int64_t call_reply(struct calls *calls, const struct call *call, uint32_t worker,
                          vrd_cap_t number, const struct parcel *parcel)
{
    struct history *h = calls->h;

    return tell(h, worker,
                (struct worker_order){ .op = WORKER_REPLY,
                                       .cap = number,
                                       .size = message_size(h),
                                       .tag = { (uint32_t)(call->cap - h->caps), ANSWER_INDEX },
                                       .carried = parcel_numbers(h, parcel),
                                       .fd = -1 })
        .result;
}

static void call_answer(struct calls *calls, struct call *call)
{
    struct history *h = calls->h;
    const uint32_t server = calls->channel->worker;
    struct parcel parcel = parcel_to_give(h, server, NULL);
    const int64_t result = call_reply(calls, call, server, call->reply, &parcel);
    struct worker_answer answer;

    if (!call->waits) { /* the kernel may not have told that it is gone */
        REQUIRE(result == VRD_ERR_TIMEOUT || result == VRD_ERR_PEER_GONE ||
                (result == 0 && call->gone));
        if (result != 0)
            return;
    }
    REQUIRE_EQUAL(result, 0);
    parcel_gone(h, &parcel);
    if (!call->waits) {
        for (uint32_t i = 0; i < parcel.n; i++)
            cap_gone(h, &h->caps[parcel.caps[i]]);
        return;
    }
    answer = call_hear(calls, call, 0);
    parcel_arrived(h, &parcel, call->cap->worker, 4, &answer.carried);
}

static void call_drop(struct calls *calls, struct call *call)
{
    REQUIRE_EQUAL(tell(calls->h, calls->channel->worker,
                       (struct worker_order){ .op = WORKER_CLOSE, .cap = call->reply, .fd = -1 })
                      .result,
                  0);
    if (call->waits)
        call_hear(calls, call, VRD_ERR_PEER_GONE);
}

/* By which the server can reach somebody who is not busy. NULL: none. */
static struct cap *call_way(struct calls *calls)
{
    struct history *h = calls->h;

    for (uint32_t i = 0; i < h->n_caps; i++) {
        struct cap *cap = &h->caps[i];
        const struct channel *channel = &h->channels[cap->channel];

        if (cap->standing == STANDING_HELD && cap->worker == calls->channel->worker &&
            channel->owned && channel != calls->channel && !calls->busy[channel->worker])
            return cap;
    }
    return NULL;
}

/* The reply capability goes to somebody else, who answers, or drops it, or dies. */
static void call_move(struct calls *calls, struct call *call)
{
    struct history *h = calls->h;
    struct cap *way = call_way(calls);
    const struct parcel nothing = { 0 };
    struct worker_answer answer;
    struct channel *channel;

    if (!way) {
        call_answer(calls, call);
        return;
    }
    channel = &h->channels[way->channel];
    while (channel_waiting(h, way->channel) > 0)
        receive_one(h, channel);
    answer = tell(h, way->worker,
                  (struct worker_order){ .op = WORKER_SEND,
                                         .cap = way->number,
                                         .size = 8,
                                         .tag = { (uint32_t)(way - h->caps), way->sent },
                                         .carried = { .n = 1, .caps = { call->reply } },
                                         .fd = -1 });
    REQUIRE_EQUAL(answer.result, 0);
    REQUIRE_EQUAL(call_reply(calls, call, calls->channel->worker, call->reply, &nothing),
                  VRD_ERR_INVALID_CAPABILITY);
    answer = tell(h, channel->worker,
                  (struct worker_order){ .op = WORKER_RECEIVE,
                                         .cap = channel->number,
                                         .wait_ns = WAIT_NS,
                                         .wanted = 1,
                                         .fd = -1 });
    REQUIRE_EQUAL(answer.result, 0);
    REQUIRE_EQUAL(answer.carried.n, 1);
    number_new(h, channel->worker, answer.carried.caps[0]);
    way->received = way->limit = ++way->sent;
    if (dice(h, 4) == 0 && channel->worker != calls->channel->worker) {
        kill_one(h, channel->worker);
        if (call->waits)
            call_hear(calls, call, VRD_ERR_PEER_GONE);
        return;
    }
    if (dice(h, 4) == 0) {
        tell(h, channel->worker,
             (struct worker_order){ .op = WORKER_CLOSE, .cap = answer.carried.caps[0], .fd = -1 });
        if (call->waits)
            call_hear(calls, call, VRD_ERR_PEER_GONE);
        return;
    }
    REQUIRE_EQUAL(call_reply(calls, call, channel->worker, answer.carried.caps[0], &nothing), 0);
    if (call->waits)
        call_hear(calls, call, 0);
}

static void call_kill(struct calls *calls, struct call *call)
{
    const uint32_t worker = call->cap->worker;

    if (call->waits) {
        call->waits = calls->busy[worker] = false;
        call->gone = true;
        kill_one(calls->h, worker);
    }
    call_answer(calls, call);
}

static void call_end(struct calls *calls, struct call *call)
{
    switch (dice(calls->h, 8)) {
    case 0:
        call_drop(calls, call);
        break;
    case 1:
    case 2:
        call_move(calls, call);
        break;
    case 3:
        call_kill(calls, call);
        break;
    default:
        call_answer(calls, call);
        break;
    }
}

/* All that wait are told at once. */
static void calls_fail(struct calls *calls, int64_t result)
{
    for (uint32_t i = 0; i < calls->n; i++)
        if (calls->all[i].waits)
            call_hear(calls, &calls->all[i], result);
}

static void calls_end(struct calls *calls)
{
    struct history *h = calls->h;
    const struct parcel nothing = { 0 };
    struct channel *channel = calls->channel;

    switch (dice(h, 12)) {
    case 0:
        close_channel(h, channel);
        calls_fail(calls, VRD_ERR_PEER_GONE);
        for (uint32_t i = 0; i < calls->n; i++)
            REQUIRE_EQUAL(
                call_reply(calls, &calls->all[i], channel->worker, calls->all[i].reply, &nothing),
                VRD_ERR_INVALID_CAPABILITY);
        break;
    case 1:
        kill_one(h, channel->worker);
        calls_fail(calls, VRD_ERR_PEER_GONE);
        break;
    case 2:
        revoke_all(h, channel);
        calls_fail(calls, VRD_ERR_REVOKED);
        for (uint32_t i = 0; i < calls->n; i++)
            REQUIRE_EQUAL(
                call_reply(calls, &calls->all[i], channel->worker, calls->all[i].reply, &nothing),
                VRD_ERR_REVOKED);
        break;
    default: /* in any order */
        while (calls->n > 0) {
            const uint32_t i = dice(h, calls->n);
            struct call call = calls->all[i];

            calls->all[i] = calls->all[--calls->n];
            call_end(calls, &call);
        }
        break;
    }
}

/* One that somebody else could call; NULL: none. */
static struct channel *endpoint_any(struct history *h)
{
    struct channel *found = NULL;
    uint32_t seen = 0;

    for (uint32_t i = 0; i < h->n_caps; i++) {
        const struct cap *cap = &h->caps[i];
        struct channel *channel = &h->channels[cap->channel];

        if (cap->standing == STANDING_HELD && channel->endpoint && channel->owned &&
            cap->worker != channel->worker && dice(h, ++seen) == 0)
            found = channel;
    }
    return found;
}

void step_calls(struct history *h)
{
    struct calls calls = { .h = h, .channel = endpoint_any(h) };
    const struct channel *channel = calls.channel;

    if (!channel || !caps_left(h))
        return;
    while (channel_waiting(h, (uint32_t)(channel - h->channels)) > 0)
        receive_one(h, calls.channel);
    calls_begin(&calls);
    calls_receive(&calls);
    calls_end(&calls);
}
