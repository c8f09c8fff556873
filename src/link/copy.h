/* SPDX-License-Identifier: MIT */
/*
 * copy.h - copies into and out of memory that another processor reads and writes.
 *
 * Those of at most SLOT_INLINE_MAX bytes make few, wide moves: two overlapping ones cover every length
 * between a power of two and the next, and nothing outside [0, len) is touched. Where the compiler may
 * use 32-byte registers it does (memcpy of a constant length is one move).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/macro.h"

hot_inline void copy_small(void *restrict to, const void *restrict from, size_t len)
{
    uint8_t *t = to;
    const uint8_t *f = from;

    if (len > 56) { /* to 64: in a slot, 56 bytes are what is left of the first line */
        memcpy(t, f, 32);
        memcpy(t + 24, f + 24, 32);
        memcpy(t + len - 8, f + len - 8, 8);
    } else if (len >= 32) {
        memcpy(t, f, 32);
        memcpy(t + len - 32, f + len - 32, 32);
    } else if (len >= 16) {
        memcpy(t, f, 16);
        memcpy(t + len - 16, f + len - 16, 16);
    } else if (len >= 8) {
        memcpy(t, f, 8);
        memcpy(t + len - 8, f + len - 8, 8);
    } else if (len >= 4) {
        memcpy(t, f, 4);
        memcpy(t + len - 4, f + len - 4, 4);
    } else if (len > 0) {
        t[0] = f[0];
        t[len / 2] = f[len / 2];
        t[len - 1] = f[len - 1];
    }
}

/*
 * The same into a slot, 8 bytes behind the start of a line: those of whole words cross no boundary of 32
 * bytes, where a store counts twice, and none is made twice. A sender whose line is on its way back from
 * the reader has to keep all its stores waiting, and there is room for few.
 */
hot_inline void copy_into_line(void *restrict to, const void *restrict from, size_t len)
{
    uint8_t *t = to;
    const uint8_t *f = from;

    if (len < 32 && len != 8) {
        copy_small(t, f, len);
        return;
    }
    memcpy(t, f, 8);
    if (len == 8)
        return;
    memcpy(t + 8, f + 8, 16);
    if (len < 40) {
        memcpy(t + 24, f + 24, 8);
        if (len > 32)
            memcpy(t + len - 8, f + len - 8, 8);
        return;
    }
    memcpy(t + 24, f + 24, 16);
    if (len <= 56) {
        memcpy(t + len - 16, f + len - 16, 16);
    } else {
        memcpy(t + 40, f + 40, 16);
        memcpy(t + len - 8, f + len - 8, 8);
    }
}

/*
 * Copies of any length into and out of a byte ring. copy_write: `to` is aligned to a line; past the
 * caches, large ones go to memory, from where a reader that is far away has them sooner than from this
 * processor's cache.
 */
void copy_write(void *restrict to, const void *restrict from, size_t len, bool past_caches);
void copy_read(void *restrict to, const void *restrict from, size_t len);
