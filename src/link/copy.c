/* SPDX-License-Identifier: MIT */
#include "link/copy.h"

/* Nothing may go nowhere: a peer can describe no bytes as if they were many. */
static void copy_plain(void *restrict to, const void *restrict from, size_t len)
{
    if (len > 0)
        memcpy(to, from, len);
}

#if defined(__x86_64__)

#include <immintrin.h>

#define PART 32
#define STEP (4 * PART)
#define WIDE_MIN 4096              /* bytes: below, memcpy does the same */
#define WIDE_MAX ((size_t)8 << 20) /* beyond, it knows what to do when no cache is large enough */

#define WIDE __attribute__((target("avx2")))

WIDE hot_inline __m256i part_load(const uint8_t *from)
{
    return _mm256_loadu_si256((const __m256i_u *)(const void *)from);
}

WIDE hot_inline void part_store(uint8_t *to, __m256i part, bool past_caches)
{
    if (past_caches)
        _mm256_stream_si256((__m256i *)(void *)to, part);
    else
        _mm256_storeu_si256((__m256i_u *)(void *)to, part);
}

WIDE hot_inline void copy_wide(uint8_t *to, const uint8_t *from, size_t len, bool past_caches)
{
    for (; len >= STEP; len -= STEP, to += STEP, from += STEP) {
        const __m256i first = part_load(from), second = part_load(from + PART),
                      third = part_load(from + 2 * PART), fourth = part_load(from + 3 * PART);

        part_store(to, first, past_caches);
        part_store(to + PART, second, past_caches);
        part_store(to + 2 * PART, third, past_caches);
        part_store(to + 3 * PART, fourth, past_caches);
    }
    for (; len >= PART; len -= PART, to += PART, from += PART)
        part_store(to, part_load(from), past_caches);
    copy_small(to, from, len);
}

WIDE static void copy_near(uint8_t *to, const uint8_t *from, size_t len)
{
    copy_wide(to, from, len, false);
}

WIDE static void copy_past(uint8_t *to, const uint8_t *from, size_t len)
{
    copy_wide(to, from, len, true);
    _mm_sfence(); /* the release that publishes them does not wait for such stores */
}

static bool is_wide(size_t len)
{
    return len >= WIDE_MIN && len <= WIDE_MAX && __builtin_cpu_supports("avx2");
}

void copy_write(void *restrict to, const void *restrict from, size_t len, bool past_caches)
{
    if (!is_wide(len))
        copy_plain(to, from, len);
    else if (past_caches)
        copy_past(to, from, len);
    else
        copy_near(to, from, len);
}

void copy_read(void *restrict to, const void *restrict from, size_t len)
{
    if (is_wide(len))
        copy_near(to, from, len);
    else
        copy_plain(to, from, len);
}

#else

void copy_write(void *restrict to, const void *restrict from, size_t len, bool past_caches)
{
    (void)past_caches;
    copy_plain(to, from, len);
}

void copy_read(void *restrict to, const void *restrict from, size_t len)
{
    copy_plain(to, from, len);
}

#endif
