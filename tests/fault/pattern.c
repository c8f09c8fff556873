/* SPDX-License-Identifier: MIT */
#include "pattern.h"

#include "support/support.h"

/* Byte `i`; the first one is the sender's number. */
static uint8_t pattern_byte(unsigned sender, size_t sequence, size_t len, size_t i)
{
    const size_t mixed = (sequence * 31 + len * 7 + i * 13 + sender * 101) * 0x9e3779b1U;

    return i == 0 ? (uint8_t)sender : (uint8_t)(mixed >> 16);
}

void pattern_fill(uint8_t *buf, size_t len, unsigned sender, size_t sequence)
{
    support_require(len >= 1 && sender < PATTERN_SENDERS);
    for (size_t i = 0; i < len; i++)
        buf[i] = pattern_byte(sender, sequence, len, i);
}

unsigned pattern_check(const uint8_t *buf, size_t len, size_t counts[PATTERN_SENDERS])
{
    unsigned sender;

    support_require(len >= 1 && buf[0] < PATTERN_SENDERS);
    sender = buf[0];
    for (size_t i = 0; i < len; i++)
        if (buf[i] != pattern_byte(sender, counts[sender], len, i))
            support_fail(__FILE__, __LINE__, "sender %u, message %zu: byte %zu of %zu is wrong",
                         sender, counts[sender], i, len);
    counts[sender]++;
    return sender;
}
