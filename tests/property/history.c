/* SPDX-License-Identifier: MIT */
#include "history.h"

#include <string.h>
#include <unistd.h>

struct history *now;

uint32_t dice(struct history *h, uint32_t sides)
{
    uint64_t z = h->random += 0x9E3779B97F4A7C15u;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ z >> 31) % sides);
}

struct worker_answer tell(struct history *h, uint32_t worker, struct worker_order order)
{
    return worker_do(&h->workers[worker], &order);
}

void number_new(struct history *h, uint32_t worker, vrd_cap_t number)
{
    REQUIRE(number != VRD_CAP_NONE && (int64_t)number > 0);
    REQUIRE(h->n_numbers[worker] < NUMBERS_MAX);
    for (uint32_t i = 0; i < h->n_numbers[worker]; i++)
        REQUIRE(h->numbers[worker][i] != number);
    h->numbers[worker][h->n_numbers[worker]++] = number;
}

uint32_t cap_new(struct history *h, const struct cap *parent, uint32_t rights)
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

struct cap *cap_any(struct history *h, enum standing standing)
{
    uint32_t seen = 0;
    struct cap *found = NULL;

    for (uint32_t i = 0; i < h->n_caps; i++)
        if (h->caps[i].standing == standing && dice(h, ++seen) == 0)
            found = &h->caps[i];
    return found;
}

struct channel *channel_any(struct history *h)
{
    uint32_t seen = 0;
    struct channel *found = NULL;

    for (uint32_t i = 0; i < h->n_channels; i++)
        if (h->channels[i].owned && dice(h, ++seen) == 0)
            found = &h->channels[i];
    return found;
}

uint32_t channel_senders(const struct history *h, uint32_t channel)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < h->n_caps; i++)
        n += h->caps[i].channel == channel &&
             (h->caps[i].standing == STANDING_HELD || h->caps[i].standing == STANDING_INVITED ||
              h->caps[i].standing == STANDING_SENT);
    return n;
}

uint32_t channel_waiting(const struct history *h, uint32_t channel)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < h->n_caps; i++)
        if (h->caps[i].channel == channel)
            n += h->caps[i].limit - h->caps[i].received;
    return n;
}

void cap_gone(struct history *h, struct cap *cap)
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

bool cap_below(const struct history *h, const struct cap *cap, uint32_t ancestor)
{
    uint32_t at = cap->parent;

    while (at != NOBODY && at != ancestor)
        at = h->caps[at].parent;
    return at == ancestor;
}

void cap_revoked(struct cap *cap)
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
void forget(void)
{
    for (uint32_t i = 0; i < now->n_caps; i++)
        if (now->caps[i].fd >= 0)
            close(now->caps[i].fd);
}

/* ---- what messages carry ----------------------------------------------------------------------------- */

struct parcel parcel_of(struct history *h, uint32_t worker, const struct cap *through,
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

struct worker_carried parcel_numbers(const struct history *h, const struct parcel *parcel)
{
    struct worker_carried carried = { .n = parcel->n };

    for (uint32_t i = 0; i < parcel->n; i++)
        carried.caps[i] = h->caps[parcel->caps[i]].number;
    return carried;
}

bool parcel_may_go(const struct history *h, const struct parcel *parcel)
{
    for (uint32_t i = 0; i < parcel->n; i++)
        if (!(h->caps[parcel->caps[i]].rights & VRD_RIGHT_GRANT))
            return false;
    return true;
}

void parcel_gone(struct history *h, struct parcel *parcel)
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

void parcel_put(struct history *h, const struct parcel *parcel, struct worker_tag message)
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

void parcel_arrived(struct history *h, struct parcel *parcel, uint32_t worker, uint32_t wanted,
                    const struct worker_carried *carried)
{
    REQUIRE_EQUAL(carried->n, parcel->n < wanted ? parcel->n : wanted);
    for (uint32_t i = 0; i < parcel->n; i++)
        if (i < wanted)
            cap_arrived(h, &h->caps[parcel->caps[i]], worker, carried->caps[i]);
        else
            cap_gone(h, &h->caps[parcel->caps[i]]);
    parcel->n = 0;
}

struct parcel *parcel_with(struct history *h, struct worker_tag message)
{
    static struct parcel none;

    none = (struct parcel){ 0 };
    for (uint32_t i = 0; i < PARCELS_MAX; i++)
        if (h->parcels[i].n > 0 && h->parcels[i].message.sender == message.sender &&
            h->parcels[i].message.index == message.index)
            return &h->parcels[i];
    return &none;
}

void parcels_lose(struct history *h)
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

bool caps_left(const struct history *h)
{
    return h->n_caps + (WORKERS + 1) * VRD_MESSAGE_CAPS_MAX <= CAPS_MAX;
}
