/* SPDX-License-Identifier: MIT */
/*
 * check.c - what it costs that a capability is checked: one thread sends and receives a message through the
 * public functions, and passes the same message through the same ring without them, in turns. What is between
 * the two is to find the port, take its pin, compare the number, give the pin back, and keep the turns and
 * notices of links. Prints ns, medians of short rounds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <veridian/ipc.h>

#include "link/ring.h"
#include "single.h"

#define ROUNDS 301
#define TIMES 4000
#define SLOTS 16

struct bare {
    struct ring_writer w;
    struct ring_reader r;
};

static vrd_cap_t sender, receiver;
static struct bare bare;
static char in[SLOT_INLINE_MAX], out[SLOT_INLINE_MAX];

static void bare_init(void)
{
    struct segment writes = { .size = layout_sender_size(SLOTS) }, reads = { .size = LAYOUT_PAGE };

    writes.addr = aligned_alloc(LAYOUT_PAGE, writes.size);
    reads.addr = aligned_alloc(LAYOUT_PAGE, reads.size);
    require(writes.addr && reads.addr);
    memset(writes.addr, 0, writes.size);
    memset(reads.addr, 0, reads.size);
    ring_writer_init(&bare.w, writes, SLOTS);
    ring_reader_init(&bare.r, writes, reads, SLOTS, SLOT_INLINE_MAX);
    ring_writer_answered(&bare.w, reads.addr);
}

/* Not inlined: the message's length is no constant to the functions that are measured, either. */
static __attribute__((noinline)) bool bare_send(const void *data, size_t len)
{
    bool sent = ring_write_small(&bare.w, data, len, 0, 0, 0);

    ring_writer_look_ahead(&bare.w);
    return sent;
}

static __attribute__((noinline)) ssize_t bare_receive(void *data, size_t size)
{
    uint64_t word;
    ssize_t n;

    if (ring_peek(&bare.r, &word) != RING_READY || !slot_is_small(word))
        return -1;
    n = slot_copy_small(ring_slot(&bare.r), word, data, size);
    ring_advance(&bare.r, word);
    return n;
}

static double by_ring(size_t len)
{
    const double start = now_ns();

    for (int i = 0; i < TIMES; i++)
        require(bare_send(out, len) && bare_receive(in, sizeof in) == (ssize_t)len);
    return (now_ns() - start) / TIMES;
}

static double by_capability(size_t len)
{
    const double start = now_ns();

    for (int i = 0; i < TIMES; i++)
        require(vrd_send(sender, out, len) == 0 &&
                vrd_receive(receiver, in, sizeof in) == (ssize_t)len);
    return (now_ns() - start) / TIMES;
}

static void measure(size_t len)
{
    static double with[ROUNDS], without[ROUNDS], more[ROUNDS];

    for (int round = 0; round < ROUNDS; round++) {
        without[round] = by_ring(len);
        with[round] = by_capability(len);
        more[round] = with[round] - without[round];
    }
    printf("%2zu B: through capabilities %.1f ns, through the ring alone %.1f ns, both checks %.1f "
           "ns\n",
           len, median(with, ROUNDS), median(without, ROUNDS), median(more, ROUNDS));
}

int main(void)
{
    require(vrd_channel_create(SLOTS, &sender, &receiver) == 0);
    bare_init();
    measure(8);
    measure(32);
    measure(64);
    require(vrd_cap_close(sender) == 0 && vrd_cap_close(receiver) == 0);
    free(bare.w.segment.addr);
    free(bare.r.own_segment.addr);
    return EXIT_SUCCESS;
}
