/* SPDX-License-Identifier: MIT */
/* message.h - what travels through the pipeline: a header and a piece of the file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum message_kind {
    MESSAGE_PLAIN = 1,  /* from the reader                                              */
    MESSAGE_CIPHER = 2, /* from the transformer                                         */
    MESSAGE_END = 3,    /* the file is complete; without it, the sender died on the way */
    MESSAGE_ANSWER = 4, /* from the writer to the reader: a message has arrived         */
};

struct message {
    uint64_t position; /* of the first byte in the file; END: the length of the file */
    uint64_t stamp_ns; /* when the reader sent it                                    */
    uint32_t length;   /* bytes of data                                              */
    uint16_t kind;     /* enum message_kind                                          */
    uint16_t answer;   /* 1: the reader waits until the writer has answered          */
    unsigned char data[];
};

#define MESSAGE_HEADER sizeof(struct message)
#define MESSAGE_SIZE_MIN (MESSAGE_HEADER + 8)
#define MESSAGE_SIZE_MAX ((size_t)64 << 20)

/* The data starts at multiples of 8 in the file, which keeps the cipher simple. */
static inline bool message_size_valid(size_t size)
{
    return size >= MESSAGE_SIZE_MIN && size <= MESSAGE_SIZE_MAX && size % 8 == 0;
}

/* The monotonic clock is the same in all processes, so the writer can subtract the reader's time. */
static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}
