/* SPDX-License-Identifier: MIT */
/*
 * Random histories of several processes, step by step beside a model that says what each step may
 * come to: rights only shrink, only who holds a right sends, badges and pids are true, each sender's
 * messages come once and in order, through no other channel, no more are under way than the capacity
 * allows, what a message carries is in one place, each call is answered once or its caller is told why
 * not, revoking leaves nothing, a number never names a second thing, nobody waits for ever, and in the
 * end nothing is left in any process.
 *
 * VERIDIAN_SEED=n replays one history; a failure says which.
 *
 * ctest: timeout=300
 */
#include "worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 4
#define CHANNELS_MAX 64
#define CAPS_MAX 4096
#define PARCELS_MAX 1024
#define NUMBERS_MAX 8192
#define STEPS 500
#define WAIT_NS INT64_C(20000000000)
#define SHORT_NS INT64_C(1000000)
#define NOBODY UINT32_MAX

#define RIGHTS_MORE (VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

/* ---- the model ------------------------------------------------------------------------------------ */

enum standing {
    STANDING_NONE,    /* closed, or its process was killed */
    STANDING_INVITED, /* an invitation that nobody has used: `fd` */
    STANDING_HELD,
    STANDING_VOID,    /* an invitation that was revoked: `fd` */
    STANDING_REVOKED, /* its holder still has the number */
    STANDING_SENT,    /* in a message that has not been received */
    STANDING_LOST,    /* ... and revoked meanwhile */
};

/* A capability to send. */
struct cap {
    enum standing standing;
    uint32_t worker;
    uint32_t channel;
    uint32_t parent; /* NOBODY: the root of its channel */
    uint32_t rights;
    uint64_t badge;
    vrd_cap_t number;
    int fd;
    pid_t pid;         /* whose the messages are */
    uint32_t sent;     /* index of the next message */
    uint32_t received; /* ... and of the next one to arrive */
    uint32_t limit;    /* those before this one can still arrive */
};

struct channel {
    bool owned; /* its receiving side is there */
    bool endpoint;
    uint32_t worker;
    uint32_t slots;
    vrd_cap_t number;
};

/* What a message carries that has not been received. */
struct parcel {
    uint32_t n; /* 0: unused */
    uint32_t caps[VRD_MESSAGE_CAPS_MAX];
    struct worker_tag message;
};

struct history {
    uint64_t seed;
    uint64_t random;
    uint32_t step;
    struct worker workers[WORKERS];
    struct channel channels[CHANNELS_MAX];
    uint32_t n_channels;
    struct cap caps[CAPS_MAX];
    uint32_t n_caps;
    struct parcel parcels[PARCELS_MAX];
    vrd_cap_t numbers[WORKERS][NUMBERS_MAX]; /* all that each process was ever given */
    uint32_t n_numbers[WORKERS];
};

static struct history *now; /* for the message of a failure */

#define REQUIRE(condition) \
    do { \
        if (!(condition)) \
            support_fail(__FILE__, __LINE__, "seed %ju, step %u: %s", (uintmax_t)now->seed, \
                         now->step, #condition); \
    } while (0)

#define REQUIRE_EQUAL(left, right) \
    do { \
        const intmax_t left_ = (intmax_t)(left), right_ = (intmax_t)(right); \
        if (left_ != right_) \
            support_fail(__FILE__, __LINE__, "seed %ju, step %u: %s (%jd) == %s (%jd)", \
                         (uintmax_t)now->seed, now->step, #left, left_, #right, right_); \
    } while (0)

/* splitmix64 */
static uint32_t dice(struct history *h, uint32_t sides)
{
    uint64_t z = h->random += 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ z >> 31) % sides);
}

static struct worker_answer tell(struct history *h, uint32_t worker, struct worker_order order)
{
    return worker_do(&h->workers[worker], &order);
}

/* A number that this process has not had before. */
static void number_new(struct history *h, uint32_t worker, vrd_cap_t number)
{
    REQUIRE(number != VRD_CAP_NONE && (int64_t)number > 0);
    REQUIRE(h->n_numbers[worker] < NUMBERS_MAX);
    for (uint32_t i = 0; i < h->n_numbers[worker]; i++)
        REQUIRE(h->numbers[worker][i] != number);
    h->numbers[worker][h->n_numbers[worker]++] = number;
}

static uint32_t cap_new(struct history *h, const struct cap *parent, uint32_t rights)
{
    struct cap *cap = &h->caps[h->n_caps];

    *cap = (struct cap){ .standing = STANDING_HELD,
                         .channel = parent->channel,
                         .worker = parent->worker,
                         .parent = (uint32_t)(parent - h->caps),
                         .rights = rights,
                         .badge = parent->badge,
                         .fd = -1 };
    return h->n_caps++;
}

static struct cap *cap_any(struct history *h, enum standing standing)
{
    uint32_t seen = 0;
    struct cap *found = NULL;

    for (uint32_t i = 0; i < h->n_caps; i++)
        if (h->caps[i].standing == standing && dice(h, ++seen) == 0)
            found = &h->caps[i];
    return found;
}

static struct channel *channel_any(struct history *h)
{
    uint32_t seen = 0;
    struct channel *found = NULL;

    for (uint32_t i = 0; i < h->n_channels; i++)
        if (h->channels[i].owned && dice(h, ++seen) == 0)
            found = &h->channels[i];
    return found;
}

/* Those who could still send, now or after an import. */
static uint32_t channel_senders(const struct history *h, uint32_t channel)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < h->n_caps; i++)
        n += h->caps[i].channel == channel &&
             (h->caps[i].standing == STANDING_HELD || h->caps[i].standing == STANDING_INVITED ||
              h->caps[i].standing == STANDING_SENT);
    return n;
}

static uint32_t channel_waiting(const struct history *h, uint32_t channel)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < h->n_caps; i++)
        if (h->caps[i].channel == channel)
            n += h->caps[i].limit - h->caps[i].received;
    return n;
}

/* Its holder is gone: what was derived from it is now derived from its parent. */
static void cap_gone(struct history *h, struct cap *cap)
{
    const uint32_t self = (uint32_t)(cap - h->caps);

    if (cap->fd >= 0)
        close(cap->fd);
    cap->fd = -1;
    cap->standing = STANDING_NONE;
    for (uint32_t i = 0; i < h->n_caps; i++)
        if (h->caps[i].parent == self)
            h->caps[i].parent = cap->parent;
}

static bool cap_below(const struct history *h, const struct cap *cap, uint32_t ancestor)
{
    uint32_t at = cap->parent;

    while (at != NOBODY && at != ancestor)
        at = h->caps[at].parent;
    return at == ancestor;
}

/* Also what somebody left behind who is gone. */
static void cap_revoked(struct cap *cap)
{
    if (cap->standing == STANDING_INVITED)
        cap->standing = STANDING_VOID;
    else if (cap->standing == STANDING_HELD)
        cap->standing = STANDING_REVOKED;
    else if (cap->standing == STANDING_SENT)
        cap->standing = STANDING_LOST;
    cap->limit = cap->received;
}

/* In a new worker: what the test holds is not its. */
static void forget(void)
{
    for (uint32_t i = 0; i < now->n_caps; i++)
        if (now->caps[i].fd >= 0)
            close(now->caps[i].fd);
}

/* ---- what messages carry ----------------------------------------------------------------------------- */

/* Up to `most` that this worker holds, whose owners are there, in any order; not `through`. */
static struct parcel parcel_of(struct history *h, uint32_t worker, const struct cap *through,
                               uint32_t most)
{
    struct parcel parcel = { 0 };

    for (uint32_t i = 0; i < h->n_caps && parcel.n < most; i++) {
        const struct cap *cap = &h->caps[i];

        if (cap->standing == STANDING_HELD && cap->worker == worker && cap != through &&
            h->channels[cap->channel].owned && dice(h, 4) == 0)
            parcel.caps[parcel.n++] = i;
    }
    return parcel;
}

static struct worker_carried parcel_numbers(const struct history *h, const struct parcel *parcel)
{
    struct worker_carried carried = { .n = parcel->n };

    for (uint32_t i = 0; i < parcel->n; i++)
        carried.caps[i] = h->caps[parcel->caps[i]].number;
    return carried;
}

/* Does its holder have the right to give all of it away? */
static bool parcel_may_go(const struct history *h, const struct parcel *parcel)
{
    for (uint32_t i = 0; i < parcel->n; i++)
        if (!(h->caps[parcel->caps[i]].rights & VRD_RIGHT_GRANT))
            return false;
    return true;
}

/* It has: what was derived from each is derived from its parent now, and what was sent still arrives. */
static void parcel_gone(struct history *h, struct parcel *parcel)
{
    for (uint32_t i = 0; i < parcel->n; i++) {
        struct cap *old = &h->caps[parcel->caps[i]];
        const uint32_t new = cap_new(h, old, old->rights);

        h->caps[new].parent = old->parent;
        h->caps[new].standing = STANDING_SENT;
        cap_gone(h, old);
        parcel->caps[i] = new;
    }
}

static void parcel_put(struct history *h, const struct parcel *parcel, struct worker_tag message)
{
    uint32_t i = 0;

    while (h->parcels[i].n > 0)
        REQUIRE(++i < PARCELS_MAX);
    h->parcels[i] = *parcel;
    h->parcels[i].message = message;
}

/* What came of one of them at its receiver, which was given `number`. */
static void cap_arrived(struct history *h, struct cap *cap, uint32_t worker, vrd_cap_t number)
{
    const bool lost = cap->standing == STANDING_LOST;

    if (number == VRD_CAP_NONE) {
        REQUIRE(lost || !h->channels[cap->channel].owned);
        cap_gone(h, cap);
        return;
    }
    number_new(h, worker, number);
    cap->standing = lost ? STANDING_REVOKED : STANDING_HELD;
    cap->worker = worker;
    cap->number = number;
    cap->pid = h->workers[worker].pid;
}

/* All that a worker wants arrives, the rest is closed. */
static void parcel_arrived(struct history *h, struct parcel *parcel, uint32_t worker,
                           uint32_t wanted, const struct worker_carried *carried)
{
    REQUIRE_EQUAL(carried->n, parcel->n < wanted ? parcel->n : wanted);
    for (uint32_t i = 0; i < parcel->n; i++)
        if (i < wanted)
            cap_arrived(h, &h->caps[parcel->caps[i]], worker, carried->caps[i]);
        else
            cap_gone(h, &h->caps[parcel->caps[i]]);
    parcel->n = 0;
}

static struct parcel *parcel_with(struct history *h, struct worker_tag message)
{
    static struct parcel none;

    none = (struct parcel){ 0 };
    for (uint32_t i = 0; i < PARCELS_MAX; i++)
        if (h->parcels[i].n > 0 && h->parcels[i].message.sender == message.sender &&
            h->parcels[i].message.index == message.index)
            return &h->parcels[i];
    return &none;
}

/* Messages that cannot arrive any more: what they carried is closed. */
static void parcels_lose(struct history *h)
{
    for (uint32_t i = 0; i < PARCELS_MAX; i++) {
        struct parcel *parcel = &h->parcels[i];
        const struct cap *through = &h->caps[parcel->message.sender];

        if (parcel->n == 0 ||
            (parcel->message.index >= through->received && parcel->message.index < through->limit))
            continue;
        for (uint32_t j = 0; j < parcel->n; j++)
            cap_gone(h, &h->caps[parcel->caps[j]]);
        parcel->n = 0;
    }
}

static bool caps_left(const struct history *h)
{
    return h->n_caps + (WORKERS + 1) * VRD_MESSAGE_CAPS_MAX <= CAPS_MAX;
}

/* ---- steps ---------------------------------------------------------------------------------------------- */

/* What asking for these rights, and this badge, has to come to. */
static int64_t derive_result(const struct history *h, const struct cap *cap, uint32_t rights,
                             uint64_t badge)
{
    if ((rights & ~cap->rights) != 0 || !(cap->rights & VRD_RIGHT_GRANT) ||
        (badge != 0 && cap->badge != 0))
        return VRD_ERR_PERMISSION_DENIED;
    return h->channels[cap->channel].owned ? 0 : VRD_ERR_PEER_GONE;
}

static void step_derive(struct history *h)
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

static void step_export(struct history *h)
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

static void step_import_void(struct history *h)
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

static void step_import(struct history *h)
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

/* Somebody lets somebody else send. */
static void step_share(struct history *h)
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

static void step_withdraw(struct history *h)
{
    struct cap *cap = cap_any(h, STANDING_INVITED);

    if (cap)
        cap_gone(h, cap);
}

static void step_close(struct history *h)
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

static uint32_t message_size(struct history *h)
{
    static const uint32_t sizes[] = { 8, 8, 8, 56, 57, 64, 65, 200, 4096, 8192 };

    return sizes[dice(h, sizeof sizes / sizeof sizes[0])];
}

static void step_send(struct history *h)
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

static void receive_one(struct history *h, struct channel *channel)
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

static void step_create(struct history *h)
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

static void step_receive(struct history *h)
{
    struct channel *channel = channel_any(h);

    if (channel)
        receive_one(h, channel);
}

/* Several processes send at once while the owner receives. */
static void step_burst(struct history *h)
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

static void step_revoke(struct history *h)
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

/* By the owner: everything that could send. */
static void revoke_all(struct history *h, struct channel *channel)
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

static void step_revoke_all(struct history *h)
{
    struct channel *channel = channel_any(h);

    if (channel)
        revoke_all(h, channel);
}

static void step_info(struct history *h)
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

/* A number from the past, or from nowhere. */
static void step_forge(struct history *h)
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

static void close_channel(struct history *h, struct channel *channel)
{
    REQUIRE_EQUAL(
        tell(h, channel->worker,
             (struct worker_order){ .op = WORKER_CLOSE, .cap = channel->number, .fd = -1 })
            .result,
        0);
    channel_gone(channel, h);
}

static void step_close_channel(struct history *h)
{
    struct channel *channel = channel_any(h);

    if (channel)
        close_channel(h, channel);
}

static void kill_one(struct history *h, uint32_t worker)
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

static void step_kill(struct history *h)
{
    kill_one(h, dice(h, WORKERS));
}

/* ---- calls --------------------------------------------------------------------------------------------- */

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

/* Several processes call at once. */
static void step_calls(struct history *h)
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

/* ---- histories --------------------------------------------------------------------------------------------- */

static const struct {
    void (*step)(struct history *h);
    uint32_t weight;
} steps[] = {
    { step_create, 4 },      { step_derive, 10 },  { step_export, 12 },       { step_import, 12 },
    { step_import_void, 2 }, { step_send, 60 },    { step_receive, 50 },      { step_burst, 2 },
    { step_close, 5 },       { step_revoke, 4 },   { step_revoke_all, 1 },    { step_info, 4 },
    { step_forge, 6 },       { step_withdraw, 1 }, { step_close_channel, 1 }, { step_kill, 1 },
    { step_calls, 8 },       { step_share, 15 },
};

static void history_step(struct history *h)
{
    uint32_t total = 0, n;

    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        total += steps[i].weight;
    n = dice(h, total);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        if (n < steps[i].weight) {
            steps[i].step(h);
            parcels_lose(h);
            return;
        }
        n -= steps[i].weight;
    }
}

/* Everything that was sent arrives, everything is closed, and nothing is left. */
static void history_end(struct history *h)
{
    for (uint32_t i = 0; i < h->n_channels; i++)
        while (h->channels[i].owned && channel_waiting(h, i) > 0)
            receive_one(h, &h->channels[i]);
    for (uint32_t i = 0; i < h->n_caps; i++) {
        struct cap *cap = &h->caps[i];

        if (cap->standing == STANDING_HELD || cap->standing == STANDING_REVOKED)
            REQUIRE_EQUAL(
                tell(h, cap->worker,
                     (struct worker_order){ .op = WORKER_CLOSE, .cap = cap->number, .fd = -1 })
                    .result,
                0);
        cap_gone(h, cap);
    }
    for (uint32_t i = 0; i < h->n_channels; i++) {
        struct worker_answer answer;

        if (!h->channels[i].owned)
            continue;
        answer = tell(h, h->channels[i].worker,
                      (struct worker_order){ .op = WORKER_RECEIVE,
                                             .cap = h->channels[i].number,
                                             .wait_ns = h->channels[i].endpoint ? 0 : WAIT_NS,
                                             .fd = -1 });
        REQUIRE_EQUAL(answer.result, /* an endpoint's owner could send */
                      h->channels[i].endpoint ? VRD_ERR_CHANNEL_EMPTY : VRD_ERR_PEER_GONE);
        tell(h, h->channels[i].worker,
             (struct worker_order){ .op = WORKER_CLOSE, .cap = h->channels[i].number, .fd = -1 });
    }
    for (uint32_t i = 0; i < WORKERS; i++)
        worker_quit(&h->workers[i]);
}

static void history_run(uint64_t seed)
{
    struct history *h = calloc(1, sizeof *h);
    const uint32_t n_steps = (uint32_t)support_iterations(STEPS);

    support_require(h != NULL);
    now = h;
    h->seed = h->random = seed;
    for (uint32_t i = 0; i < WORKERS; i++)
        worker_start(&h->workers[i], forget);
    for (h->step = 0; h->step < n_steps; h->step++)
        history_step(h);
    history_end(h);
    free(h);
}

static void histories(uint64_t first, uint64_t n)
{
    const char *seed = getenv("VERIDIAN_SEED");

    if (seed) {
        history_run(strtoull(seed, NULL, 0));
        return;
    }
    for (uint64_t i = 0; i < n; i++)
        history_run(first + i);
}

static void the_same_histories_every_time(void **state)
{
    (void)state;
    histories(1, 12);
}

/* And one that nobody has seen yet. */
static void a_new_history(void **state)
{
    struct timespec time;

    (void)state;
    clock_gettime(CLOCK_REALTIME, &time);
    histories((uint64_t)time.tv_sec << 20 ^ (uint64_t)time.tv_nsec, 1);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST_TIMEOUT(the_same_histories_every_time, 120),
                 SUPPORT_TEST_TIMEOUT(a_new_history, 30),
                 { 0 },
             })
