/* SPDX-License-Identifier: MIT */
/*
 * Does the heap of a link fray? Loans of all sizes, released in random order after random times, while what
 * is usual changes: how much more memory is mapped than the most that was ever in use, in the
 * end and not only at first? Some seconds of it here; for minutes:
 *
 *   SOAK_SECONDS=240 tests/soak_test_soak
 *   SOAK_SECONDS=240 LD_PRELOAD=libjemalloc.so.2 VERIDIAN_HEAP=jemalloc tests/soak_test_soak
 */
#include "process/loans.h"

#include <stdio.h>

#define HELD 240 /* views at a time, at most; a sender can have 256 */
#define ERAS 16  /* of different habits, and again from the first one */
#define ERA_STEPS 8000
#define LARGEST ((uint64_t)1 << 20)
#define ROOM ((uint64_t)1 << 30)
#define SPARE ((uint64_t)16 << 20) /* mapped beyond what is needed, of any heap */
#define RATIO 4 /* mapped, by the peak of what was in use: a heap grows by as much as it has */

struct soak {
    struct ends ends;
    struct vrd_view views[HELD];
    uint32_t numbers[HELD];
    uint64_t random;
    uint32_t n;
    uint64_t live, peak;
};

/* Bytes of heaps and rings that this process has mapped to write to. */
static uint64_t bytes_mapped(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    uint64_t sum = 0;
    char line[512];

    support_require(maps != NULL);
    while (fgets(line, sizeof line, maps)) {
        char *end = NULL;
        const uint64_t from = strtoull(line, &end, 16);
        const uint64_t to = strtoull(end + 1, &end, 16);

        if (strncmp(end, " rw-s", 5) == 0 && strstr(end, "memfd:veridian"))
            sum += to - from;
    }
    fclose(maps);
    return sum;
}

/* Small ones mostly; how large the others are depends on the era. */
static size_t size_of(struct soak *soak, uint32_t era)
{
    const unsigned bits = 6 + (unsigned)(random_next(&soak->random) % (6 + era * 5 % 9));
    const uint64_t size =
        ((uint64_t)1 << bits) + random_next(&soak->random) % ((uint64_t)1 << bits);

    return size < LARGEST ? size : LARGEST;
}

static void soak_take(struct soak *soak, size_t i, size_t size)
{
    const struct number number = { 1, soak->n++ };
    struct vrd_loan loan;

    EXPECT(vrd_loan_timed(soak->ends.send, size, 0, &loan), 0);
    memset(loan.data, (int)(number.index & 0xff), 8);
    EXPECT(vrd_loan_send(&loan, 0), 0);
    EXPECT(vrd_receive_view(soak->ends.receive, &soak->views[i], 0), 0);
    EXPECT(soak->views[i].len, size);
    soak->numbers[i] = number.index;
    soak->live += size;
    if (soak->live > soak->peak)
        soak->peak = soak->live;
}

/* Nobody else has written there. */
static void soak_give(struct soak *soak, size_t i)
{
    const uint8_t *data = soak->views[i].data;

    for (size_t at = 0; at < 8; at++)
        support_require(data[at] == (uint8_t)soak->numbers[i]);
    soak->live -= soak->views[i].len;
    release(&soak->views[i]);
}

static void soak_era(struct soak *soak, uint32_t era, size_t steps)
{
    for (size_t step = 0; step < steps; step++) {
        const size_t i = random_next(&soak->random) % HELD;

        if (soak->views[i].data)
            soak_give(soak, i);
        else
            soak_take(soak, i, size_of(soak, era));
    }
}

static void test_the_heap_does_not_fray(void **state)
{
    const char *seconds = getenv("SOAK_SECONDS");
    const int64_t end = now_ns() + (seconds ? strtoll(seconds, NULL, 10) * 1000 * MS : 0);
    struct soak soak = { .ends = ends_with(4, LARGEST, ROOM), .random = 74 };
    uint64_t most = 0;

    (void)state;
    for (uint32_t round = 0; round == 0 || now_ns() < end; round++) {
        for (uint32_t era = 0; era < ERAS; era++) {
            uint64_t mapped;

            soak_era(&soak, era, support_iterations(ERA_STEPS));
            mapped = bytes_mapped();
            most = mapped > most ? mapped : most;
            support_require(mapped <= RATIO * soak.peak + SPARE);
        }
        if (round % 32 == 0) {
            printf("round %u: %u loans, %.1f MiB mapped at most, %.2f of the peak of %.1f MiB\n",
                   round, soak.n, (double)most / 1048576, (double)most / (double)soak.peak,
                   (double)soak.peak / 1048576);
            most = 0; /* since it was last told */
        }
    }
    for (size_t i = 0; i < HELD; i++)
        if (soak.views[i].data)
            soak_give(&soak, i);
    ends_close(&soak.ends);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_the_heap_does_not_fray, 1000),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
