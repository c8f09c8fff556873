/* SPDX-License-Identifier: MIT */
/*
 * look.h - looks at a word that another processor is about to write, again and again, and is ready to
 * go on the moment it is there.
 */
#pragma once

#include <stdint.h>

#include "base/macro.h"
#include "link/layout.h"

/*
 * Looks until the slot's word has this sequence, `looks` (at least 1) times at most. The result is
 * the word of the last look. acquire: pairs with the release in slot_publish.
 *
 * Wait-free, without system calls. A peer can at most make it use up its looks.
 */
uint64_t slot_await(const struct slot *slot, uint32_t sequence, int looks);

/*
 * The same, where the word is likely to say what `last` said, but for the sequence. If it does, what
 * is made of the result (how much to copy, and where to) does not wait for the word: the processor
 * goes on with the guess, and takes it back should it have been wrong.
 */
hot_inline uint64_t slot_await_like(const struct slot *slot, uint32_t sequence, int looks,
                                    uint64_t last)
{
    uint64_t guess = (last & ~(uint64_t)UINT32_MAX) | sequence, same = guess, word;

    __asm__("" : "+r"(same)); /* the compiler is not to know that it is the guess ... */
    word = slot_await(slot, sequence, looks);
    if (likely(word == guess)) {
        __asm__ volatile(
            ""); /* ... and is to leave this a branch: a choice would wait for the word */
        return same;
    }
    return word;
}
