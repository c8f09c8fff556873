/* SPDX-License-Identifier: MIT */
#include "steps.h"

#include <string.h>
#include <unistd.h>

/* What asking for these rights, and this badge, has to come to. */
static int64_t derive_result(const struct history *h, const struct cap *cap, uint32_t rights,
                             uint64_t badge)
{
    if ((rights & ~cap->rights) != 0 || !(cap->rights & VRD_RIGHT_GRANT) ||
        (badge != 0 && cap->badge != 0))
        return VRD_ERR_PERMISSION_DENIED;
    return h->channels[cap->channel].owned ? 0 : VRD_ERR_PEER_GONE;
}

void step_derive(struct history *h)
{
    struct cap *cap = cap_any(h, STANDING_HELD);
    const uint32_t rights = VRD_RIGHT_SEND | (dice(h, 4) * VRD_RIGHT_GRANT);
    const uint64_t badge = dice(h, 3) == 0 ? 1 + dice(h, 1000) : 0;
    struct worker_answer answer;
    int64_t expected;

    if (!cap || h->n_caps == CAPS_MAX)
        return;
    expected = derive_result(h, cap, rights, badge);
    answer = tell(
        h, cap->worker,
        (struct worker_order){
            .op = WORKER_DERIVE, .cap = cap->number, .rights = rights, .badge = badge, .fd = -1 });
    if (expected == VRD_ERR_PEER_GONE && answer.result == 0) { /* it may not have noticed yet */
        tell(h, cap->worker,
             (struct worker_order){ .op = WORKER_CLOSE, .cap = answer.cap, .fd = -1 });
        return;
    }
    REQUIRE_EQUAL(answer.result, expected);
    if (expected == 0) {
        struct cap *derived = &h->caps[cap_new(h, cap, rights)];

        number_new(h, cap->worker, answer.cap);
        derived->number = answer.cap;
        derived->pid = h->workers[cap->worker].pid;
        if (badge != 0)
            derived->badge = badge;
    }
}

void step_export(struct history *h)
{
    struct cap *cap = cap_any(h, STANDING_HELD);
    const uint32_t rights = VRD_RIGHT_SEND | (dice(h, 4) * VRD_RIGHT_GRANT);
    struct worker_answer answer;
    int64_t expected;

    if (!cap || h->n_caps == CAPS_MAX)
        return;
    expected = derive_result(h, cap, rights, 0);
    answer = tell(h, cap->worker,
                  (struct worker_order){
                      .op = WORKER_EXPORT, .cap = cap->number, .rights = rights, .fd = -1 });
    if (expected == VRD_ERR_PEER_GONE && answer.result == 0) {
        close(answer.fd);
        return;
    }
    REQUIRE_EQUAL(answer.result, expected);
    if (expected == 0) {
        struct cap *derived = &h->caps[cap_new(h, cap, rights)];

        derived->standing = STANDING_INVITED;
        derived->fd = answer.fd;
    }
}

void step_import_void(struct history *h)
{
    struct cap *cap = cap_any(h, STANDING_VOID);
    int64_t result;

    if (!cap)
        return;
    result = tell(h, dice(h, WORKERS), (struct worker_order){ .op = WORKER_IMPORT, .fd = cap->fd })
                 .result;
    REQUIRE_EQUAL(result, VRD_ERR_REVOKED);
    cap_gone(h, cap);
}

void step_import(struct history *h)
{
    struct cap *cap = cap_any(h, STANDING_INVITED);
    const uint32_t worker = dice(h, WORKERS);
    struct worker_answer answer;

    if (!cap)
        return;
    answer = tell(h, worker, (struct worker_order){ .op = WORKER_IMPORT, .fd = cap->fd });
    if (!h->channels[cap->channel].owned && answer.result == VRD_ERR_PEER_GONE) {
        cap_gone(h, cap);
        return;
    }
    REQUIRE_EQUAL(answer.result, 0);
    number_new(h, worker, answer.cap);
    close(cap->fd);
    cap->fd = -1;
    cap->standing = STANDING_HELD;
    cap->worker = worker;
    cap->number = answer.cap;
    cap->pid = h->workers[worker].pid;
}

void step_share(struct history *h)
{
    struct cap *cap = cap_any(h, STANDING_HELD);
    const uint32_t worker = dice(h, WORKERS);
    struct worker_answer answer;
    struct cap *shared;

    if (!cap || !(cap->rights & VRD_RIGHT_GRANT) || !h->channels[cap->channel].owned ||
        !caps_left(h))
        return;
    answer = tell(h, cap->worker,
                  (struct worker_order){
                      .op = WORKER_EXPORT, .cap = cap->number, .rights = cap->rights, .fd = -1 });
    REQUIRE_EQUAL(answer.result, 0);
    shared = &h->caps[cap_new(h, cap, cap->rights)];
    shared->worker = worker;
    shared->pid = h->workers[worker].pid;
    shared->fd = answer.fd;
    answer = tell(h, worker, (struct worker_order){ .op = WORKER_IMPORT, .fd = answer.fd });
    REQUIRE_EQUAL(answer.result, 0);
    close(shared->fd);
    shared->fd = -1;
    shared->number = answer.cap;
    number_new(h, worker, answer.cap);
}

void step_withdraw(struct history *h)
{
    struct cap *cap = cap_any(h, STANDING_INVITED);

    if (cap)
        cap_gone(h, cap);
}

void step_close(struct history *h)
{
    struct cap *cap = cap_any(h, dice(h, 4) == 0 ? STANDING_REVOKED : STANDING_HELD);

    if (!cap)
        return;
    REQUIRE_EQUAL(tell(h, cap->worker,
                       (struct worker_order){ .op = WORKER_CLOSE, .cap = cap->number, .fd = -1 })
                      .result,
                  0);
    cap_gone(h, cap);
}

uint32_t message_size(struct history *h)
{
    static const uint32_t sizes[] = { 8, 8, 8, 56, 57, 64, 65, 200, 4096, 8192 };

    return sizes[dice(h, sizeof sizes / sizeof sizes[0])];
}

void step_send(struct history *h)
{
    struct cap *cap = cap_any(h, dice(h, 8) == 0 ? STANDING_REVOKED : STANDING_HELD);
    const struct channel *channel;
    struct parcel parcel = { 0 };
    struct worker_tag tag;
    int64_t result;

    if (!cap)
        return;
    channel = &h->channels[cap->channel];
    tag = (struct worker_tag){ (uint32_t)(cap - h->caps), cap->sent };
    if (channel->owned && caps_left(h) && dice(h, 2) == 0)
        parcel = parcel_of(h, cap->worker, cap, 1 + dice(h, VRD_MESSAGE_CAPS_MAX));
    result = tell(h, cap->worker,
                  (struct worker_order){ .op = WORKER_SEND,
                                         .cap = cap->number,
                                         .size = message_size(h),
                                         .tag = tag,
                                         .carried = parcel_numbers(h, &parcel),
                                         .fd = -1 })
                 .result;
    if (!parcel_may_go(h, &parcel)) {
        REQUIRE_EQUAL(result, VRD_ERR_PERMISSION_DENIED);
        return;
    }
    if (!channel->owned) { /* and where another revoked it before that, either */
        REQUIRE(result == 0 || result == VRD_ERR_PEER_GONE || result == VRD_ERR_CHANNEL_FULL ||
                (cap->standing == STANDING_REVOKED && result == VRD_ERR_REVOKED));
        return;
    }
    if (cap->standing == STANDING_REVOKED) {
        REQUIRE_EQUAL(result, VRD_ERR_REVOKED);
        return;
    }
    if (cap->limit - cap->received == channel->slots) {
        REQUIRE_EQUAL(result, VRD_ERR_CHANNEL_FULL);
        return;
    }
    REQUIRE_EQUAL(result, 0);
    cap->limit = ++cap->sent;
    if (parcel.n > 0) {
        parcel_gone(h, &parcel);
        parcel_put(h, &parcel, tag);
    }
}

static void received(struct history *h, uint32_t channel, uint32_t wanted,
                     const struct worker_answer *answer)
{
    struct cap *cap = &h->caps[answer->tag.sender];

    REQUIRE(answer->tag.sender < h->n_caps);
    REQUIRE_EQUAL(cap->channel, channel);
    REQUIRE(cap->received != cap->limit);
    REQUIRE_EQUAL(answer->tag.index, cap->received);
    REQUIRE_EQUAL(answer->badge, cap->badge);
    REQUIRE_EQUAL(answer->pid, cap->pid);
    parcel_arrived(h, parcel_with(h, answer->tag), h->channels[channel].worker, wanted,
                   &answer->carried);
    cap->received++;
}

void receive_one(struct history *h, struct channel *channel)
{
    const uint32_t n = (uint32_t)(channel - h->channels);
    const bool some = channel_waiting(h, n) > 0;
    const uint32_t wanted = dice(h, 4) == 0 ? dice(h, 4) : VRD_MESSAGE_CAPS_MAX;
    const struct worker_answer answer = tell(h, channel->worker,
                                             (struct worker_order){ .op = WORKER_RECEIVE,
                                                                    .cap = channel->number,
                                                                    .wait_ns = some ? WAIT_NS : 0,
                                                                    .wanted = wanted,
                                                                    .fd = -1 });

    if (some) {
        REQUIRE_EQUAL(answer.result, 0);
        received(h, n, wanted, &answer);
    } else if (channel_senders(h, n) > 0) {
        REQUIRE_EQUAL(answer.result, VRD_ERR_CHANNEL_EMPTY);
    } else { /* the kernel may still be at it */
        REQUIRE(answer.result == VRD_ERR_CHANNEL_EMPTY || answer.result == VRD_ERR_PEER_GONE);
    }
}

void step_create(struct history *h)
{
    const uint32_t worker = dice(h, WORKERS), slots = 1 + dice(h, 6), n = h->n_channels;
    const bool endpoint = dice(h, 2) == 0;
    struct worker_answer answer;

    if (n == CHANNELS_MAX || h->n_caps == CAPS_MAX)
        return;
    answer = tell(h, worker,
                  (struct worker_order){ .op = endpoint ? WORKER_CREATE_ENDPOINT : WORKER_CREATE,
                                         .size = slots,
                                         .fd = -1 });
    REQUIRE_EQUAL(answer.result, 0);
    number_new(h, worker, answer.cap);
    number_new(h, worker, answer.other);
    h->channels[h->n_channels++] = (struct channel){ .owned = true,
                                                     .endpoint = endpoint,
                                                     .worker = worker,
                                                     .slots = slots,
                                                     .number = answer.other };
    h->caps[h->n_caps++] = (struct cap){ .standing = STANDING_HELD,
                                         .worker = worker,
                                         .channel = n,
                                         .parent = NOBODY,
                                         .rights = VRD_RIGHT_SEND | RIGHTS_MORE,
                                         .number = answer.cap,
                                         .fd = -1,
                                         .pid = h->workers[worker].pid };
    receive_one(h, &h->channels[n]); /* from its first receive on, the owner is there for others */
}

void step_receive(struct history *h)
{
    struct channel *channel = channel_any(h);

    if (channel)
        receive_one(h, channel);
}

void step_burst(struct history *h)
{
    struct channel *channel = channel_any(h);
    const uint32_t count = 1 + dice(h, 200);
    uint32_t n, total = 0;
    bool busy[WORKERS] = { false };
    struct cap *senders[WORKERS];
    uint32_t n_senders = 0;

    if (!channel)
        return;
    n = (uint32_t)(channel - h->channels);
    while (channel_waiting(h, n) > 0)
        receive_one(h, channel);
    busy[channel->worker] = true;
    for (uint32_t i = 0; i < h->n_caps; i++) {
        struct cap *cap = &h->caps[i];

        if (cap->channel == n && cap->standing == STANDING_HELD && !busy[cap->worker]) {
            busy[cap->worker] = true;
            senders[n_senders++] = cap;
            total += count;
        }
    }
    worker_tell(&h->workers[channel->worker],
                &(struct worker_order){
                    .op = WORKER_RECEIVE_MANY, .cap = channel->number, .count = total, .fd = -1 });
    for (uint32_t i = 0; i < n_senders; i++)
        worker_tell(
            &h->workers[senders[i]->worker],
            &(struct worker_order){ .op = WORKER_SEND_MANY,
                                    .cap = senders[i]->number,
                                    .size = message_size(h),
                                    .count = count,
                                    .tag = { (uint32_t)(senders[i] - h->caps), senders[i]->sent },
                                    .fd = -1 });
    for (uint32_t i = 0; i < n_senders; i++) {
        REQUIRE_EQUAL(worker_hear(&h->workers[senders[i]->worker]).result, 0);
        senders[i]->sent += count;
        senders[i]->received = senders[i]->limit = senders[i]->sent;
    }
    REQUIRE_EQUAL(worker_hear(&h->workers[channel->worker]).result, 0);
}

void step_revoke(struct history *h)
{
    struct cap *cap = cap_any(h, STANDING_HELD);
    int64_t result;

    if (!cap || !h->channels[cap->channel].owned)
        return;
    result = tell(h, cap->worker,
                  (struct worker_order){ .op = WORKER_REVOKE, .cap = cap->number, .fd = -1 })
                 .result;
    if (!(cap->rights & VRD_RIGHT_REVOKE)) {
        REQUIRE_EQUAL(result, VRD_ERR_PERMISSION_DENIED);
        return;
    }
    REQUIRE_EQUAL(result, 0);
    for (uint32_t i = 0; i < h->n_caps; i++)
        if (cap_below(h, &h->caps[i], (uint32_t)(cap - h->caps)))
            cap_revoked(&h->caps[i]);
}

void revoke_all(struct history *h, struct channel *channel)
{
    REQUIRE_EQUAL(
        tell(h, channel->worker,
             (struct worker_order){ .op = WORKER_REVOKE, .cap = channel->number, .fd = -1 })
            .result,
        0);
    for (uint32_t i = 0; i < h->n_caps; i++)
        if (&h->channels[h->caps[i].channel] == channel)
            cap_revoked(&h->caps[i]);
}

void step_revoke_all(struct history *h)
{
    struct channel *channel = channel_any(h);

    if (channel)
        revoke_all(h, channel);
}

void step_info(struct history *h)
{
    const struct cap *cap = cap_any(h, STANDING_HELD);
    struct worker_answer answer;

    if (!cap)
        return;
    answer = tell(h, cap->worker,
                  (struct worker_order){ .op = WORKER_INFO, .cap = cap->number, .fd = -1 });
    REQUIRE_EQUAL(answer.result, 0);
    REQUIRE_EQUAL(answer.rights, cap->rights);
    REQUIRE_EQUAL(answer.badge, cap->badge);
}

void step_forge(struct history *h)
{
    static const enum worker_op ops[] = {
        WORKER_SEND, WORKER_RECEIVE, WORKER_CLOSE,  WORKER_REVOKE,
        WORKER_INFO, WORKER_DERIVE,  WORKER_EXPORT, WORKER_REPLY
    };
    const uint32_t worker = dice(h, WORKERS);
    vrd_cap_t number = (uint64_t)dice(h, UINT32_MAX) << 20 | dice(h, 256);

    if (h->n_numbers[worker] > 0 && dice(h, 2) == 0)
        number = h->numbers[worker][dice(h, h->n_numbers[worker])];
    for (uint32_t i = 0; i < h->n_caps; i++)
        if (h->caps[i].worker == worker && h->caps[i].number == number &&
            (h->caps[i].standing == STANDING_HELD || h->caps[i].standing == STANDING_REVOKED))
            return;
    for (uint32_t i = 0; i < h->n_channels; i++)
        if (h->channels[i].owned && h->channels[i].worker == worker &&
            h->channels[i].number == number)
            return;
    REQUIRE_EQUAL(tell(h, worker,
                       (struct worker_order){ .op = ops[dice(h, sizeof ops / sizeof ops[0])],
                                              .cap = number,
                                              .rights = VRD_RIGHT_SEND,
                                              .size = 8,
                                              .fd = -1 })
                      .result,
                  VRD_ERR_INVALID_CAPABILITY);
}

static void channel_gone(struct channel *channel, struct history *h)
{
    channel->owned = false;
    for (uint32_t i = 0; i < h->n_caps; i++)
        if (&h->channels[h->caps[i].channel] == channel)
            h->caps[i].received = h->caps[i].limit;
}

void close_channel(struct history *h, struct channel *channel)
{
    REQUIRE_EQUAL(
        tell(h, channel->worker,
             (struct worker_order){ .op = WORKER_CLOSE, .cap = channel->number, .fd = -1 })
            .result,
        0);
    channel_gone(channel, h);
}

void step_close_channel(struct history *h)
{
    struct channel *channel = channel_any(h);

    if (channel)
        close_channel(h, channel);
}

void kill_one(struct history *h, uint32_t worker)
{
    worker_kill(&h->workers[worker]);
    for (uint32_t i = 0; i < h->n_channels; i++)
        if (h->channels[i].owned && h->channels[i].worker == worker)
            channel_gone(&h->channels[i], h);
    for (uint32_t i = 0; i < h->n_caps; i++)
        if (h->caps[i].worker == worker &&
            (h->caps[i].standing == STANDING_HELD || h->caps[i].standing == STANDING_REVOKED))
            cap_gone(h, &h->caps[i]);
    h->n_numbers[worker] = 0;
    worker_start(&h->workers[worker], forget);
}

void step_kill(struct history *h)
{
    kill_one(h, dice(h, WORKERS));
}
