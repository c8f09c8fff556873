/* SPDX-License-Identifier: MIT */
#include "unit/link/pair.h"

#include <unistd.h>

/* A segment, and the peer's read-only mapping of it. */
static struct segment pair_segment(size_t size, struct segment *ret_peer)
{
    struct segment own;
    int fd;

    support_require_equal(segment_create(size, &own, &fd), 0);
    support_require_equal(segment_import(fd, size, ret_peer), 0);
    support_require_equal(close(fd), 0);
    return own;
}

/* As after `start` messages, all read. */
static void pair_move(struct pair *pair, uint32_t start)
{
    const uint32_t n = pair->w.mask + 1;

    for (uint32_t i = 0; i < n; i++)
        pair->sender->slots[(start + i) & pair->w.mask].word =
            slot_word(start + i + 1 - n, 0, SLOT_INLINE);
    pair->receiver->cursor = start;
    pair->w.position = start;
    pair->w.limit = start + pair->w.capacity;
    pair->r.position = start;
}

void pair_init(struct pair *pair, uint32_t capacity, uint64_t max_message, uint32_t start)
{
    struct segment sender, sender_seen, receiver;

    sender = pair_segment(layout_sender_size(ring_slots(capacity)), &sender_seen);
    receiver = pair_segment(LAYOUT_RECEIVER_SIZE, &pair->answer);
    ring_writer_init(&pair->w, sender, capacity);
    ring_reader_init(&pair->r, sender_seen, receiver, ring_slots(capacity), max_message);
    ring_writer_answered(&pair->w, pair->answer.addr);
    pair->sender = sender.addr;
    pair->receiver = receiver.addr;
    if (start != 0)
        pair_move(pair, start);
}

void pair_deinit(struct pair *pair)
{
    ring_writer_deinit(&pair->w);
    ring_reader_deinit(&pair->r);
    segment_unmap(&pair->answer);
}

struct segment pair_bytes(size_t size, struct segment *ret_peer)
{
    void *own = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    void *peer;

    support_require(own != MAP_FAILED);
    peer = mremap(own, 0, size, MREMAP_MAYMOVE); /* of nothing: a second mapping */
    support_require(peer != MAP_FAILED);
    support_require(mprotect(peer, size, PROT_READ) == 0);
    *ret_peer = (struct segment){ .addr = peer, .size = size };
    return (struct segment){ .addr = own, .size = size };
}

void pair_attach(struct pair *pair, size_t size)
{
    struct segment peer;
    struct segment own = pair_bytes(size, &peer);

    support_require_equal(ring_writer_attach(&pair->w, own), 0);
    support_require_equal(ring_reader_attach(&pair->r, pair->w.extension, peer), 0);
}

int pair_write(struct pair *pair, const void *data, size_t len)
{
    const struct ring_message message = { .data = (void *)(uintptr_t)data, .len = len };

    return ring_write(&pair->w, &message);
}

bool pair_write_small(struct pair *pair, const void *data, size_t len)
{
    return ring_write_small(&pair->w, data, len, 0, 0, 0);
}

ssize_t pair_read_small(struct pair *pair, uint64_t word, void *buffer, size_t size)
{
    ssize_t len = slot_copy_small(ring_slot(&pair->r), word, buffer, size);

    if (len >= 0)
        ring_advance(&pair->r, word);
    return len;
}

int pair_read(struct pair *pair, struct ring_message *message, size_t size)
{
    uint64_t word;

    switch (ring_peek(&pair->r, &word)) {
    case RING_READY:
        return ring_read(&pair->r, word, message, size);
    case RING_EMPTY:
        return VRD_ERR_CHANNEL_EMPTY;
    default:
        return VRD_ERR_PEER_CORRUPT;
    }
}
