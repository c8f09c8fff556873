/* SPDX-License-Identifier: MIT */
/*
 * loan.c - what room for a message costs, beside malloc and free of as many bytes; one thread:
 *
 *   ./bench_loan
 *   LD_PRELOAD=libjemalloc.so.2 ./bench_loan
 *
 * "cancel": a loan that is given up. "ring": 16 that are sent, viewed and released, in batches, so that the
 * figure is that of one, and contains a message each way through a ring. Each is the median of short
 * rounds, in turns. Prints ns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <veridian/ipc.h>

#include "single.h"

#define ROUNDS 101
#define TIMES 2000
#define BATCH 16
#define LARGEST ((size_t)1 << 20)

static vrd_cap_t sender, receiver;

static void touch(void *data)
{
    *(volatile char *)data = 1;
}

static void by_malloc(size_t size)
{
    for (int i = 0; i < TIMES; i++) {
        char *data = malloc(size);

        require(data != NULL);
        touch(data);
        free(data);
    }
}

static void by_cancel(size_t size)
{
    for (int i = 0; i < TIMES; i++) {
        struct vrd_loan loan;

        require(vrd_loan(sender, size, &loan) == 0);
        touch(loan.data);
        require(vrd_loan_cancel(&loan) == 0);
    }
}

static void by_ring(size_t size)
{
    for (int i = 0; i < TIMES / BATCH; i++) {
        struct vrd_view views[BATCH];

        for (int j = 0; j < BATCH; j++) {
            struct vrd_loan loan;

            require(vrd_loan(sender, size, &loan) == 0);
            touch(loan.data);
            require(vrd_loan_send(&loan, 0) == 0);
        }
        for (int j = 0; j < BATCH; j++)
            require(vrd_receive_view(receiver, &views[j], 0) == 0);
        for (int j = 0; j < BATCH; j++)
            require(vrd_view_release(&views[j]) == 0);
    }
}

static const struct way {
    const char *name;
    void (*run)(size_t size);
} ways[] = { { "malloc", by_malloc }, { "cancel", by_cancel }, { "ring", by_ring } };

#define WAYS (sizeof(ways) / sizeof(ways[0]))

int main(void)
{
    static const size_t sizes[] = { 64, 1024, 4096, 65536, 1048576 };
    const struct vrd_channel_options options = { .slots = 64,
                                                 .max_message_size = LARGEST,
                                                 .max_bytes = 128 * LARGEST };
    static double taken[WAYS][ROUNDS];

    require(vrd_channel_create_with(&options, &sender, &receiver) == 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (int round = 0; round < ROUNDS; round++) {
            for (size_t way = 0; way < WAYS; way++) {
                const double start = now_ns();

                ways[way].run(sizes[i]);
                taken[way][round] = (now_ns() - start) / TIMES;
            }
        }
        printf("%8zu bytes:", sizes[i]);
        for (size_t way = 0; way < WAYS; way++) {
            printf("  %s %.1f", ways[way].name, median(taken[way], ROUNDS));
        }
        printf("\n");
    }
    vrd_cap_close(sender);
    vrd_cap_close(receiver);
    return EXIT_SUCCESS;
}
