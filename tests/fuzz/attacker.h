/* SPDX-License-Identifier: MIT */
/*
 * attacker.h - whoever is at the other end of a live library, as an input tells: its sockets, the
 * descriptors that it makes up, and what it sends. And the run of an input before a live library.
 */
#ifndef FUZZ_ATTACKER_H
#define FUZZ_ATTACKER_H

#include "descriptors.h"
#include "input.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "cap/frame.h"
#include "os/fd.h"
#include "os/segment.h"
#include "os/socket.h"
#include "os/uring.h"

#define ATTACKER_SOCKETS_MAX 24
#define ATTACKER_FDS_MAX 6 /* with one message */

/* A kind of descriptor. */
enum attacker_fd {
    ATTACKER_SEGMENT,
    ATTACKER_BYTES,
    ATTACKER_NULL,
    ATTACKER_LOOSE_SOCKET, /* connected to nothing */
    ATTACKER_MEMFD,
    ATTACKER_OLD_SOCKET, /* a copy of one that it has */
    ATTACKER_NEW_SOCKET, /* of which it has the other end */
};

struct attacker {
    struct input *input;
    const enum attacker_fd *kinds; /* that it sends */
    size_t n_kinds;
    int sockets[ATTACKER_SOCKETS_MAX];
    size_t n_sockets;
    struct segment segment, bytes; /* writable; size 0: none */
    int segment_fd, bytes_fd;
};

static inline void attacker_init(struct attacker *attacker, struct input *input, size_t segment,
                                 size_t bytes)
{
    *attacker = (struct attacker){ .input = input, .segment_fd = -1, .bytes_fd = -1 };
    if (segment > 0)
        fuzz_require(segment_create(segment, &attacker->segment, &attacker->segment_fd) == 0);
    if (bytes > 0)
        fuzz_require(segment_create(bytes, &attacker->bytes, &attacker->bytes_fd) == 0);
}

static inline void attacker_deinit(struct attacker *attacker)
{
    for (size_t i = 0; i < attacker->n_sockets; i++)
        fd_close(&attacker->sockets[i]);
    fd_close(&attacker->segment_fd);
    fd_close(&attacker->bytes_fd);
    segment_unmap(&attacker->segment);
    segment_unmap(&attacker->bytes);
}

static inline void attacker_add_socket(struct attacker *attacker, int fd)
{
    if (attacker->n_sockets < ATTACKER_SOCKETS_MAX)
        attacker->sockets[attacker->n_sockets++] = fd;
    else
        fd_close(&fd);
}

/* One that it has. */
static inline int attacker_socket(struct attacker *attacker)
{
    return attacker->sockets[input_u8(attacker->input) % attacker->n_sockets];
}

/* The far end of a new one. */
static inline int attacker_new_socket(struct attacker *attacker)
{
    int pair[2];

    fuzz_require(socket_pair(pair) == 0);
    attacker_add_socket(attacker, pair[0]);
    return pair[1];
}

static inline int attacker_make_fd(struct attacker *attacker)
{
    switch (attacker->kinds[input_u8(attacker->input) % attacker->n_kinds]) {
    case ATTACKER_SEGMENT:
        return dup(attacker->segment_fd);
    case ATTACKER_BYTES:
        return dup(attacker->bytes_fd);
    case ATTACKER_NULL:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case ATTACKER_LOOSE_SOCKET:
        return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    case ATTACKER_MEMFD:
        return memfd_create("veridian", MFD_CLOEXEC);
    case ATTACKER_OLD_SOCKET:
        return dup(attacker_socket(attacker));
    default:
        return attacker_new_socket(attacker);
    }
}

static inline void attacker_make_fds(struct attacker *attacker, int fds[ATTACKER_FDS_MAX],
                                     size_t first, size_t n)
{
    for (size_t i = first; i < n; i++)
        fds[i] = attacker_make_fd(attacker);
}

/* Sends them along, and closes them. */
static inline void attacker_give(int to, const void *data, size_t len, int fds[ATTACKER_FDS_MAX],
                                 size_t n)
{
    socket_send(to, data, len, fds, n);
    for (size_t i = 0; i < n; i++)
        fd_close(&fds[i]);
}

static inline void attacker_give_frame(int to, const struct frame *frame, int fds[ATTACKER_FDS_MAX],
                                       size_t n)
{
    uint8_t buf[FRAME_SIZE];

    frame_encode(frame, buf);
    attacker_give(to, buf, sizeof buf, fds, n);
}

/* With `n` descriptors of any kind. */
static inline void attacker_say(struct attacker *attacker, int to, const struct frame *frame,
                                size_t n)
{
    int fds[ATTACKER_FDS_MAX];

    attacker_make_fds(attacker, fds, 0, n);
    attacker_give_frame(to, frame, fds, n);
}

/* What is not a frame, with some descriptors. */
static inline void attacker_babble(struct attacker *attacker)
{
    uint8_t buf[SOCKET_DATA_MAX + 8];
    const size_t len = input_u8(attacker->input) % sizeof buf;
    int fds[ATTACKER_FDS_MAX], to;
    size_t n;

    input_take(attacker->input, buf, len);
    n = input_u8(attacker->input) % 4;
    to = attacker_socket(attacker);
    attacker_make_fds(attacker, fds, 0, n);
    attacker_give(to, buf, len, fds, n);
}

/* A link's HELLO, with the segment. The result is the tether. */
static inline int attacker_hello(struct attacker *attacker, int to, uint32_t slots,
                                 uint64_t max_message)
{
    const struct frame hello = { .type = FRAME_HELLO, .slots = slots, .max_message = max_message };
    int fds[ATTACKER_FDS_MAX];
    int pair[2];

    fuzz_require(socket_pair(pair) == 0);
    fds[0] = pair[1];
    fds[1] = dup(attacker->segment_fd);
    attacker_give_frame(to, &hello, fds, 2);
    return pair[0];
}

static inline void attacker_hang_up(struct attacker *attacker)
{
    socket_shutdown(attacker_socket(attacker));
}

static inline bool live_has_ring(void)
{
    char path[32], target[32];

    for (int fd = 0; fd < 64; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        memset(target, 0, sizeof target);
        if (readlink(path, target, sizeof target - 1) > 0 &&
            strcmp(target, "anon_inode:[io_uring]") == 0)
            return true;
    }
    return false;
}

/* The library's thread opens a ring in its own time, if it can have one, and keeps it. */
static inline void live_await_ring(void)
{
    const struct timespec millisecond = { .tv_nsec = 1000000 };
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct uring *ring = uring_open(fd);

    if (ring)
        uring_close(ring);
    close(fd);
    for (int i = 0; ring && !live_has_ring(); i++) {
        fuzz_require(i < 10000);
        nanosleep(&millisecond, NULL);
    }
}

/* What stays for good is there: the control loop, and its thread. */
static inline void live_warm_up(void)
{
    vrd_cap_t send, receive;
    char byte;

    fuzz_require(vrd_channel_create(1, &send, &receive) == 0);
    fuzz_require(vrd_send(send, "", 1) == 0 && vrd_receive(receive, &byte, 1) == 1);
    fuzz_require(vrd_receive_timed(receive, &byte, 1, 1000000) == VRD_ERR_TIMEOUT);
    fuzz_require(vrd_cap_close(send) == 0 && vrd_cap_close(receive) == 0);
    live_await_ring();
}

/* Plays an input before the library, and requires that no descriptor is left. */
static inline int live_play(void (*play)(struct input *input), const uint8_t *data, size_t size)
{
    static bool warm;
    struct input input = { data, size };
    int before;

    if (!warm)
        live_warm_up();
    warm = true;
    before = descriptors_next();
    play(&input);
    fuzz_require(descriptors_hold(before));
    return 0;
}

#endif
