/* SPDX-License-Identifier: MIT */
#include "victim.h"

#include <string.h>

#include "peer.h"
#include "support/support.h"

#define MARK UINT64_C(0x6f6e657374206d65)
#define LARGE 5000

/* What the honest sender sends: its mark, a number, and that number's low byte to the end. */
struct honest {
    uint64_t mark;
    uint64_t number;
    uint8_t rest[LARGE];
};

static size_t honest_len(size_t number)
{
    return number % 2 == 0 ? 2 * sizeof(uint64_t) + 8 : sizeof(struct honest);
}

void victim_init(struct victim *victim)
{
    *victim = (struct victim){ 0 };
    support_require_equal(vrd_channel_create(VICTIM_SLOTS, &victim->send, &victim->receive), 0);
    victim_require_well(victim);
}

void victim_deinit(struct victim *victim)
{
    support_require_equal(vrd_cap_close(victim->send), 0);
    support_require_equal(vrd_cap_close(victim->receive), 0);
}

int victim_invite(const struct victim *victim, uint32_t rights)
{
    int fd;

    support_require_equal(vrd_cap_export(victim->send, rights, &fd), 0);
    return fd;
}

static void require_honest(struct victim *victim, const struct honest *message, size_t len)
{
    support_require_equal(message->number, victim->received);
    support_require_equal(len, honest_len(victim->received));
    for (size_t i = 2 * sizeof(uint64_t); i < len; i++)
        support_require(((const uint8_t *)message)[i] == (uint8_t)victim->received);
    victim->received++;
}

/* Its sender may have taken it back meanwhile. */
static void discard(struct victim *victim)
{
    const int result = vrd_discard(victim->receive);

    support_require(result == 0 || result == VRD_ERR_CHANNEL_EMPTY);
}

void victim_pump(struct victim *victim)
{
    static struct honest message;
    ssize_t len;

    while ((len = vrd_receive_async(victim->receive, &message, sizeof message)) !=
           VRD_ERR_CHANNEL_EMPTY) {
        if (len == VRD_ERR_PEER_CORRUPT)
            victim->corrupt++;
        else if (len == VRD_ERR_MESSAGE_TOO_LARGE)
            discard(victim);
        else if (len < 0)
            support_fail(__FILE__, __LINE__, "receive: %s", vrd_strerror((int)len));
        else if ((size_t)len >= 2 * sizeof(uint64_t) && message.mark == MARK)
            require_honest(victim, &message, (size_t)len);
        else
            victim->strange++;
    }
}

void victim_pump_any(void *victim)
{
    victim_pump(victim);
}

void victim_pump_until_hung_up(struct victim *victim, int fd)
{
    while (!raw_hung_up(fd)) {
        victim_pump(victim);
        support_sleep_ms(1);
    }
}

void victim_pump_until_alone(struct victim *victim)
{
    struct vrd_cap_info info;

    do {
        victim_pump(victim);
        support_sleep_ms(1);
        support_require_equal(vrd_cap_info(victim->receive, &info), 0);
    } while (info.links > 1);
}

void victim_require_well(struct victim *victim)
{
    static struct honest message = { .mark = MARK };

    for (int i = 0; i < 4; i++) {
        message.number = victim->sent;
        memset(message.rest, (uint8_t)victim->sent, sizeof message.rest);
        support_require_equal(vrd_send(victim->send, &message, honest_len(victim->sent)), 0);
        victim->sent++;
    }
    while (victim->received < victim->sent)
        victim_pump(victim);
}
