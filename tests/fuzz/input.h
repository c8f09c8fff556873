/* SPDX-License-Identifier: MIT */
/* input.h - takes a fuzzer's bytes apart. At the end of the input everything is zero. */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct input {
    const uint8_t *data;
    size_t len;
};

static inline bool input_more(const struct input *input)
{
    return input->len > 0;
}

static inline void input_take(struct input *input, void *ret, size_t len)
{
    const size_t n = len < input->len ? len : input->len;

    memset(ret, 0, len);
    memcpy(ret, input->data, n);
    input->data += n;
    input->len -= n;
}

static inline uint8_t input_u8(struct input *input)
{
    uint8_t value;

    input_take(input, &value, sizeof value);
    return value;
}

static inline uint32_t input_u32(struct input *input)
{
    uint32_t value;

    input_take(input, &value, sizeof value);
    return value;
}

static inline uint64_t input_u64(struct input *input)
{
    uint64_t value;

    input_take(input, &value, sizeof value);
    return value;
}

/* Stops the fuzzer, in every build. */
#define fuzz_require(condition) \
    do { \
        if (!(condition)) \
            abort(); \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
