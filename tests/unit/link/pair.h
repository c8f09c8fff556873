/* SPDX-License-Identifier: MIT */
/*
 * pair.h - a writer and a reader over real sealed segments, each reading the other's through a
 * mapping of its own, and starting at any position, as after that many messages.
 */
#ifndef UNIT_LINK_PAIR_H
#define UNIT_LINK_PAIR_H

#include "unit/unit.h"

#include "link/ring.h"

struct pair {
    struct ring_writer w;
    struct ring_reader r;
    struct segment answer; /* the reader's segment as the writer sees it */
    struct sender_segment *sender;
    struct receiver_segment *receiver;
};

void pair_init(struct pair *pair, uint32_t capacity, uint64_t max_message, uint32_t start);
void pair_deinit(struct pair *pair);

/* A byte ring of whole pages, not sealed: much cheaper. Two mappings of the same memory. */
struct segment pair_bytes(size_t size, struct segment *ret_peer);

/* Attaches a byte ring on both sides. */
void pair_attach(struct pair *pair, size_t size);

/* The functions of the ring, out of line: the compiler cannot see that no length is exceeded. */
bool pair_write_small(struct pair *pair, const void *data, size_t len);

/* Takes a plain inline message: its length, or -1 and it is kept. */
ssize_t pair_read_small(struct pair *pair, uint64_t word, void *buffer, size_t size);
int pair_write(struct pair *pair, const void *data, size_t len);

/* The result of ring_read, or VRD_ERR_CHANNEL_EMPTY or VRD_ERR_PEER_CORRUPT of ring_peek. */
int pair_read(struct pair *pair, struct ring_message *message, size_t size);

#endif
