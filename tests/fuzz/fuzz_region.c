/* SPDX-License-Identifier: MIT */
/*
 * The maker of a region and everything that those who hold it can do: the input is a program of frames and
 * descriptors over their sockets, and hang-ups; and of invitations and revocations. What the maker
 * writes stays, an honest holder reads it all the while, and at the end nothing is left.
 */
#include "descriptors.h"
#include "input.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "cap/frame.h"
#include "link/layout.h"
#include "os/fd.h"
#include "os/socket.h"

#define SOCKETS_MAX 24
#define SIZE LAYOUT_PAGE
#define RIGHTS (VRD_RIGHT_READ | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

enum step { FRAME, DERIVE, BYTES, READ, INVITE, REVOKE, HANG_UP, WRITE, STEPS };

struct stage {
    struct input input;
    vrd_cap_t maker, holder; /* the other holder is honest, and derived from no attacker */
    uint64_t *written;
    const uint64_t *read;
    int sockets[SOCKETS_MAX]; /* the attacker's */
    size_t n_sockets;
};

static void stage_add_socket(struct stage *stage, int fd)
{
    if (stage->n_sockets < SOCKETS_MAX)
        stage->sockets[stage->n_sockets++] = fd;
    else
        fd_close(&fd);
}

static int stage_socket(struct stage *stage)
{
    return stage->sockets[input_u8(&stage->input) % stage->n_sockets];
}

static int make_fd(struct stage *stage)
{
    int pair[2];

    switch (input_u8(&stage->input) % 6) {
    case 0:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case 1:
        return memfd_create("veridian", MFD_CLOEXEC);
    case 2:
        return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    case 3:
        return dup(stage_socket(stage));
    default:
        fuzz_require(socket_pair(pair) == 0);
        stage_add_socket(stage, pair[0]);
        return pair[1];
    }
}

static void send_with_fds(struct stage *stage, const void *data, size_t len, size_t n)
{
    const int to = stage_socket(stage);
    int fds[4];

    for (size_t i = 0; i < n; i++)
        fds[i] = make_fd(stage);
    socket_send(to, data, len, fds, n);
    for (size_t i = 0; i < n; i++)
        fd_close(&fds[i]);
}

static void say(struct stage *stage, const struct frame *frame, size_t n)
{
    uint8_t buf[FRAME_SIZE];

    frame_encode(frame, buf);
    send_with_fds(stage, buf, sizeof buf, n);
}

static void any_frame(struct stage *stage)
{
    const uint8_t odd = input_u8(&stage->input);
    struct frame frame = { .type = input_u8(&stage->input) % (FRAME_TYPE_MAX + 2U) };

    if (odd & 1)
        frame.rights = input_u8(&stage->input);
    if (odd & 2)
        frame.badge = input_u8(&stage->input);
    if (odd & 4)
        frame.count = input_u8(&stage->input) % 4;
    if (odd & 8)
        frame.extension = input_u8(&stage->input);
    if (odd & 16)
        frame.bytes = input_u64(&stage->input);
    if (odd & 32 || frame.type == FRAME_REVOKE)
        frame.id = input_u8(&stage->input);
    if (odd & 64)
        frame.cause = input_u8(&stage->input);
    say(stage, &frame, input_u8(&stage->input) % 4);
}

static void derive(struct stage *stage)
{
    const uint8_t odd = input_u8(&stage->input);
    const struct frame frame = { .type = FRAME_DERIVE,
                                 .rights = VRD_RIGHT_READ | (odd & 15U) << 2,
                                 .count = odd >> 7 };

    say(stage, &frame, 1);
}

static void bytes(struct stage *stage)
{
    uint8_t buf[SOCKET_DATA_MAX + 8];
    const size_t len = input_u8(&stage->input) % sizeof buf;

    input_take(&stage->input, buf, len);
    send_with_fds(stage, buf, len, input_u8(&stage->input) % 4);
}

/* What the maker says is taken, by whoever holds the other end. */
static void read_one(struct stage *stage)
{
    datagram_auto datagram = { .pidfd = -1 };

    socket_receive(stage_socket(stage), &datagram);
}

static void invite(struct stage *stage)
{
    int invitation;

    fuzz_require(vrd_cap_export(stage->maker, RIGHTS, &invitation) == 0);
    stage_add_socket(stage, invitation);
}

/* One that the maker derived takes all of its own back; the honest holder is not one of them. */
static void revoke_some(struct stage *stage)
{
    vrd_cap_t derived;
    int invitation;

    fuzz_require(vrd_cap_derive(stage->maker, RIGHTS, &derived) == 0);
    fuzz_require(vrd_cap_export(derived, RIGHTS, &invitation) == 0);
    stage_add_socket(stage, invitation);
    fuzz_require(vrd_cap_revoke(derived) == 0);
    fuzz_require(vrd_cap_close(derived) == 0);
}

static void write_one(struct stage *stage)
{
    struct vrd_notice notice;

    stage->written[1] = ++stage->written[0];
    vrd_notices_take(&notice, 0); /* with what the holder was told: of new memory, perhaps */
    fuzz_require(stage->read[0] == stage->written[0] && stage->read[1] == stage->written[1]);
}

static void step(struct stage *stage)
{
    switch ((enum step)(input_u8(&stage->input) % STEPS)) {
    case FRAME:
        any_frame(stage);
        break;
    case DERIVE:
        derive(stage);
        break;
    case BYTES:
        bytes(stage);
        break;
    case READ:
        read_one(stage);
        break;
    case INVITE:
        invite(stage);
        break;
    case REVOKE:
        revoke_some(stage);
        break;
    case HANG_UP:
        shutdown(stage_socket(stage), SHUT_RDWR);
        break;
    case WRITE:
        write_one(stage);
        break;
    case STEPS:
        break;
    }
}

static void stage_init(struct stage *stage)
{
    void *addr;
    size_t size;

    fuzz_require(vrd_region_create(SIZE, VRD_RIGHT_READ | VRD_RIGHT_WRITE, NULL, &stage->maker) ==
                 0);
    fuzz_require(vrd_region_map(stage->maker, VRD_RIGHT_READ | VRD_RIGHT_WRITE, &addr, &size) == 0);
    stage->written = addr;
    fuzz_require(vrd_cap_derive(stage->maker, VRD_RIGHT_READ, &stage->holder) == 0);
    fuzz_require(vrd_region_map(stage->holder, VRD_RIGHT_READ, &addr, &size) == 0);
    stage->read = addr;
    invite(stage);
}

static void stage_deinit(struct stage *stage)
{
    write_one(stage);
    fuzz_require(vrd_cap_revoke(stage->maker) == 0);
    fuzz_require(vrd_cap_close(stage->holder) == 0);
    fuzz_require(vrd_cap_close(stage->maker) == 0);
    for (size_t i = 0; i < stage->n_sockets; i++)
        fd_close(&stage->sockets[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool warm; /* the library's thread is there, and stays */
    struct stage stage = { .input = { data, size } };
    int before;

    if (!warm) {
        struct stage first = { 0 };

        stage_init(&first);
        stage_deinit(&first);
        warm = true;
    }
    before = descriptors_next();
    stage_init(&stage);
    for (int i = 0; i < 200 && input_more(&stage.input); i++)
        step(&stage);
    stage_deinit(&stage);
    fuzz_require(descriptors_hold(before));
    return 0;
}
