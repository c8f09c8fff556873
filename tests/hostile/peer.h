/* SPDX-License-Identifier: MIT */
/* peer.h - the other side of a link, by hand: what a process can do that never ran the library. */
#ifndef HOSTILE_PEER_H
#define HOSTILE_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cap/frame.h"
#include "link/layout.h"
#include "os/segment.h"

/* ---- a sender ---------------------------------------------------------------------------------- */

struct peer {
    int tether; /* its own end, or -1 */
    int far;    /* the end for the owner, or -1 */
    struct segment segment;
    int segment_fd;
    uint32_t mask;
    uint32_t position;                    /* published */
    const struct receiver_segment *owner; /* NULL until welcomed */
};

/* Everything that a proper HELLO needs, nothing sent yet. */
void peer_init(struct peer *peer, uint32_t slots);
void peer_deinit(struct peer *peer);

/* The HELLO that belongs to it. */
struct frame peer_hello(const struct peer *peer, uint64_t max_message);

/* peer_init and a proper HELLO over `fd`. */
void peer_connect(struct peer *peer, int fd, uint32_t slots, uint64_t max_message);

/* Takes the WELCOME, for which `pump` lets the owner work; requires that it is one. */
void peer_welcome(struct peer *peer, void (*pump)(void *arg), void *arg);

struct sender_segment *peer_memory(const struct peer *peer);
struct slot *peer_slot(const struct peer *peer, uint32_t position);

/* Publishes a plain message, or any word at all, and wakes whoever sleeps on it. */
void peer_publish(struct peer *peer, const void *data, size_t len);
void peer_publish_word(struct peer *peer, uint64_t word);

/* ---- over sockets --------------------------------------------------------------------------------- */

/* Each returns 0 or -errno; never waits. */
int raw_send(int fd, const void *data, size_t len, const int *fds, size_t n_fds);
int raw_send_frame(int fd, const struct frame *frame, const int *fds, size_t n_fds);

/* Throws away what is there to read; true if the other side has hung up. */
bool raw_hung_up(int fd);

/* ---- what a process finds out about itself --------------------------------------------------------- */

struct mapping {
    uintptr_t start, end;
    bool readable, writable, executable, shared;
    unsigned long inode;
    char name[64];
};

#define MAPPINGS_MAX 64

/* The shared mappings of sealed segments in this process. */
size_t mappings_of_segments(struct mapping mappings[MAPPINGS_MAX]);

/* The only one of them that is writable and has `size` bytes (0: any); requires that there is one. */
struct mapping mapping_own(size_t size);

/* ---- numbers ------------------------------------------------------------------------------------------ */

/* xorshift64*: small, fast, repeatable. */
static inline uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return *seed * UINT64_C(0x2545f4914f6cdd1d);
}

#endif
