/* SPDX-License-Identifier: MIT */
#include "peer.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arith.h"
#include "os/fd.h"
#include "os/futex.h"
#include "os/socket.h"
#include "support/support.h"

void peer_init(struct peer *peer, uint32_t slots)
{
    int pair[2];

    *peer = (struct peer){ .mask = pow2_ceil(slots) - 1 };
    support_require_equal(socket_pair(pair), 0);
    peer->tether = pair[0];
    peer->far = pair[1];
    support_require_equal(
        segment_create(layout_sender_size(peer->mask + 1), &peer->segment, &peer->segment_fd), 0);
}

void peer_deinit(struct peer *peer)
{
    struct segment owner = { .addr = (void *)(uintptr_t)peer->owner,
                             .size = peer->owner ? LAYOUT_RECEIVER_SIZE : 0 };

    segment_unmap(&owner);
    segment_unmap(&peer->segment);
    fd_close(&peer->segment_fd);
    fd_close(&peer->tether);
    fd_close(&peer->far);
}

struct frame peer_hello(const struct peer *peer, uint64_t max_message)
{
    return (
        struct frame){ .type = FRAME_HELLO, .slots = peer->mask + 1, .max_message = max_message };
}

void peer_connect(struct peer *peer, int fd, uint32_t slots, uint64_t max_message)
{
    struct frame hello;

    peer_init(peer, slots);
    hello = peer_hello(peer, max_message);
    support_require_equal(raw_send_frame(fd, &hello, (int[]){ peer->far, peer->segment_fd }, 2), 0);
    fd_close(&peer->far);
}

void peer_welcome(struct peer *peer, void (*pump)(void *arg), void *arg)
{
    struct datagram datagram;
    struct segment owner;
    struct frame frame;
    int result;

    while ((result = socket_receive(peer->tether, &datagram)) == -EAGAIN) {
        pump(arg);
        support_sleep_ms(1);
    }
    support_require_equal(result, 1);
    support_require_equal(frame_decode(datagram.data, datagram.len, datagram.n_fds, &frame), 0);
    support_require_equal(frame.type, FRAME_WELCOME);
    support_require_equal(segment_import(datagram.fds[0], LAYOUT_RECEIVER_SIZE, &owner), 0);
    peer->owner = owner.addr;
    datagram_deinit(&datagram);
}

struct sender_segment *peer_memory(const struct peer *peer)
{
    return peer->segment.addr;
}

struct slot *peer_slot(const struct peer *peer, uint32_t position)
{
    return &peer_memory(peer)->slots[position & peer->mask];
}

void peer_publish_word(struct peer *peer, uint64_t word)
{
    uint64_t *slot_word = &peer_slot(peer, peer->position)->word;

    __atomic_store_n(slot_word, word, __ATOMIC_RELEASE);
    peer->position++;
    futex_wake(slot_word, true);
}

void peer_publish(struct peer *peer, const void *data, size_t len)
{
    support_require(len <= SLOT_INLINE_MAX);
    memcpy((uint8_t *)peer_slot(peer, peer->position) + offsetof(struct slot, head), data, len);
    peer_publish_word(peer,
                      (uint64_t)SLOT_INLINE << 40 | (uint64_t)len << 32 | (peer->position + 1));
}

int raw_send(int fd, const void *data, size_t len, const int *fds, size_t n_fds)
{
    return socket_send(fd, data, len, fds, n_fds);
}

int raw_send_frame(int fd, const struct frame *frame, const int *fds, size_t n_fds)
{
    uint8_t buf[FRAME_SIZE];

    frame_encode(frame, buf);
    return raw_send(fd, buf, sizeof buf, fds, n_fds);
}

bool raw_hung_up(int fd)
{
    char data[256];
    ssize_t n;

    /* what carried descriptors loses them: there is no room for them here */
    while ((n = recv(fd, data, sizeof data, MSG_DONTWAIT)) > 0)
        ;
    return n == 0 || (errno != EAGAIN && errno != EINTR);
}

static bool mapping_parse(const char *line, struct mapping *ret)
{
    char permissions[5];

    *ret = (struct mapping){ 0 };
    if (sscanf(line, "%lx-%lx %4s %*s %*s %lu %63[^\n]", &ret->start, &ret->end, permissions,
               &ret->inode, ret->name) < 5)
        return false;
    ret->readable = permissions[0] == 'r';
    ret->writable = permissions[1] == 'w';
    ret->executable = permissions[2] == 'x';
    ret->shared = permissions[3] == 's';
    return ret->shared && strncmp(ret->name, "/memfd:veridian", 15) == 0;
}

size_t mappings_of_segments(struct mapping mappings[MAPPINGS_MAX])
{
    char line[PATH_MAX + 128];
    size_t n = 0;
    FILE *maps = fopen("/proc/self/maps", "re");

    support_require(maps != NULL);
    while (fgets(line, sizeof line, maps)) {
        support_require(n < MAPPINGS_MAX);
        n += mapping_parse(line, &mappings[n]);
    }
    fclose(maps);
    return n;
}

struct mapping mapping_own(size_t size)
{
    struct mapping mappings[MAPPINGS_MAX], found = { 0 };
    const size_t n = mappings_of_segments(mappings);

    for (size_t i = 0; i < n; i++) {
        if (!mappings[i].writable || (size > 0 && mappings[i].end - mappings[i].start != size))
            continue;
        support_require(found.end == 0);
        found = mappings[i];
    }
    support_require(found.end != 0);
    return found;
}
