/* SPDX-License-Identifier: MIT */
#include "cipher.h"

#include <string.h>

static uint64_t cipher_word(uint64_t index)
{
    uint64_t word = (index + 1) * UINT64_C(0x9e3779b97f4a7c15);
    return word ^ (word >> 29);
}

void cipher_apply(uint64_t position, unsigned char *data, size_t length)
{
    uint64_t index = position / 8;
    uint64_t word;

    for (; length >= 8; data += 8, length -= 8) {
        memcpy(&word, data, 8);
        word ^= cipher_word(index++);
        memcpy(data, &word, 8);
    }
    word = 0;
    memcpy(&word, data, length);
    word ^= cipher_word(index);
    memcpy(data, &word, length);
}
