/* SPDX-License-Identifier: MIT */
/*
 * hot.c - the hot path alone: one thread sends and receives N times. For counting instructions:
 *
 *   valgrind --tool=callgrind --toggle-collect=vrd_send ./bench_hot 100000 64
 *   perf stat ./bench_hot 10000000 64
 *
 * Prints ns for one send and one receive together.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <veridian/ipc.h>

#include "single.h"

int main(int argc, char **argv)
{
    const unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
    const size_t size = argc > 2 ? strtoul(argv[2], NULL, 10) : 64;
    char *const out = calloc(1, size + 1);
    char *const in = calloc(1, size + 1);
    vrd_cap_t sender, receiver;

    if (!out || !in || vrd_channel_create(16, &sender, &receiver) < 0)
        return EXIT_FAILURE;
    memset(out, 'x', size);

    const double start = now_ns();
    for (unsigned long i = 0; i < count; i++) {
        if (vrd_send(sender, out, size) < 0 || vrd_receive(receiver, in, size) != (ssize_t)size)
            return EXIT_FAILURE;
    }
    printf("%.2f ns a message of %zu bytes\n", (now_ns() - start) / (double)count, size);

    const int same = memcmp(in, out, size) == 0;
    vrd_cap_close(sender);
    vrd_cap_close(receiver);
    free(in);
    free(out);
    return same ? EXIT_SUCCESS : EXIT_FAILURE;
}
