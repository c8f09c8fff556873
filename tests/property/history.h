/* SPDX-License-Identifier: MIT */
/* history.h - what the processes of a history hold and have sent, as the model has it. */
#ifndef PROPERTY_HISTORY_H
#define PROPERTY_HISTORY_H

#include "worker.h"

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

extern struct history *now; /* for the message of a failure */

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
uint32_t dice(struct history *h, uint32_t sides);
struct worker_answer tell(struct history *h, uint32_t worker, struct worker_order order);

/* A number that this process has not had before. */
void number_new(struct history *h, uint32_t worker, vrd_cap_t number);
uint32_t cap_new(struct history *h, const struct cap *parent, uint32_t rights);
struct cap *cap_any(struct history *h, enum standing standing);
struct channel *channel_any(struct history *h);

/* Those who could still send, now or after an import. */
uint32_t channel_senders(const struct history *h, uint32_t channel);
uint32_t channel_waiting(const struct history *h, uint32_t channel);

/* Its holder is gone: what was derived from it is now derived from its parent. */
void cap_gone(struct history *h, struct cap *cap);
bool cap_below(const struct history *h, const struct cap *cap, uint32_t ancestor);

/* Also what somebody left behind who is gone. */
void cap_revoked(struct cap *cap);

/* In a new worker: what the test holds is not its. */
void forget(void);

/* Up to `most` that this worker holds, whose owners are there, in any order; not `through`. */
struct parcel parcel_of(struct history *h, uint32_t worker, const struct cap *through,
                        uint32_t most);
struct worker_carried parcel_numbers(const struct history *h, const struct parcel *parcel);

/* Does its holder have the right to give all of it away? */
bool parcel_may_go(const struct history *h, const struct parcel *parcel);

/* It is given away: what was derived from each is derived from its parent now, and what was sent still arrives. */
void parcel_gone(struct history *h, struct parcel *parcel);
void parcel_put(struct history *h, const struct parcel *parcel, struct worker_tag message);

/* All that a worker wants arrives, the rest is closed. */
void parcel_arrived(struct history *h, struct parcel *parcel, uint32_t worker, uint32_t wanted,
                    const struct worker_carried *carried);
struct parcel *parcel_with(struct history *h, struct worker_tag message);

/* Messages that cannot arrive any more: what they carried is closed. */
void parcels_lose(struct history *h);
bool caps_left(const struct history *h);

#endif
