/* SPDX-License-Identifier: MIT */
/*
 * A live holder of a capability and everything that its maker and its owner can do: the input is a
 * program of greetings, frames, descriptors, words in the owner's segment, hang-ups, and what the
 * holder does meanwhile. Every call returns with a documented error, at once, and nothing is left.
 */
#include "input.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "cap/frame.h"
#include "link/layout.h"
#include "os/fd.h"
#include "os/segment.h"
#include "os/socket.h"

#define SLOTS 4
#define MESSAGE_MAX 20000
#define SOCKETS_MAX 16
#define CAPS_MAX 8

enum step {
    FRAME,
    WELCOME,
    READ,
    POKE,
    RING,
    HANG_UP,
    SEND,
    SEND_BIG,
    CALL,
    RECEIVE,
    DERIVE,
    EXPORT,
    INFO,
    STEPS
};

struct stage {
    struct input input;
    vrd_cap_t caps[CAPS_MAX];
    size_t n_caps;
    int sockets[SOCKETS_MAX]; /* the maker's and owner's */
    size_t n_sockets;
    struct segment segment; /* the owner's, writable */
    int segment_fd;
};

/* ---- the attacker --------------------------------------------------------------------------------- */

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
        return dup(stage->segment_fd);
    case 1:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case 2:
        return memfd_create("veridian", MFD_CLOEXEC);
    case 3:
        return dup(stage_socket(stage));
    default:
        fuzz_require(socket_pair(pair) == 0);
        stage_add_socket(stage, pair[0]);
        return pair[1];
    }
}

static void say(struct stage *stage, int to, const struct frame *frame, size_t n_fds)
{
    uint8_t buf[FRAME_SIZE];
    int fds[6];

    frame_encode(frame, buf);
    for (size_t i = 0; i < n_fds; i++)
        fds[i] = make_fd(stage);
    socket_send(to, buf, sizeof buf, fds, n_fds);
    for (size_t i = 0; i < n_fds; i++)
        fd_close(&fds[i]);
}

/* Mostly plausible values. */
static struct frame any_frame(struct stage *stage)
{
    const uint8_t odd = input_u8(&stage->input);
    struct frame frame = { .type = input_u8(&stage->input) % (FRAME_TYPE_MAX + 2U) };

    if (frame.type == FRAME_GREETING_SEND || frame.type == FRAME_GREETING_RECEIVE ||
        frame.type == FRAME_GREETING_REPLY || frame.type == FRAME_HELLO) {
        frame.slots = odd & 1 ? input_u32(&stage->input) : SLOTS;
        frame.max_message = odd & 2 ? input_u64(&stage->input) : MESSAGE_MAX;
    }
    if (frame.type == FRAME_GREETING_SEND || frame.type == FRAME_GREETING_RECEIVE ||
        frame.type == FRAME_INVITATIONS || odd & 4) {
        frame.rights = input_u8(&stage->input) % 16;
        frame.object = input_u8(&stage->input) % 6;
        frame.badge = input_u8(&stage->input);
        frame.depth = input_u8(&stage->input);
    }
    if (frame.type == FRAME_ATTACH || frame.type == FRAME_REPLY || odd & 8) {
        frame.extension = input_u8(&stage->input) % 8;
        frame.bytes = odd & 16 ? input_u64(&stage->input) : LAYOUT_PAGE;
        frame.count = input_u8(&stage->input) % 20;
    }
    if (frame.type == FRAME_TRANSFER || frame.type == FRAME_REVOKED || odd & 32)
        frame.id = input_u8(&stage->input);
    if (frame.type == FRAME_CLOSE || odd & 64)
        frame.cause = input_u8(&stage->input) % 8;
    return frame;
}

/* Answers a HELLO as an owner does. */
static void welcome(struct stage *stage)
{
    const struct frame frame = { .type = FRAME_WELCOME };
    uint8_t buf[FRAME_SIZE];

    frame_encode(&frame, buf);
    socket_send(stage_socket(stage), buf, sizeof buf, &stage->segment_fd, 1);
}

/* Takes what the holder says, its tethers among it. */
static void read_one(struct stage *stage)
{
    datagram_auto datagram = { .pidfd = -1 };

    if (socket_receive(stage_socket(stage), &datagram) != 1)
        return;
    for (size_t i = 0; i < datagram.n_fds; i++)
        if (socket_adopt(datagram.fds[i]) == 0)
            stage_add_socket(stage, fd_take(&datagram.fds[i]));
}

static void poke(struct stage *stage)
{
    uint64_t *words = stage->segment.addr;
    const size_t at = input_u8(&stage->input) % 3 == 0
                          ? input_u8(&stage->input) % 2 * 16
                          : input_u32(&stage->input) % (LAYOUT_PAGE / sizeof *words);

    __atomic_store_n(&words[at], input_u64(&stage->input), __ATOMIC_RELAXED);
}

/* ---- the holder ------------------------------------------------------------------------------------- */

static void known(int64_t result)
{
    fuzz_require(result >= 0 || vrd_error_name((int)result) != NULL);
}

static void stage_add_cap(struct stage *stage, vrd_cap_t cap)
{
    if (stage->n_caps < CAPS_MAX)
        stage->caps[stage->n_caps++] = cap;
    else
        fuzz_require(vrd_cap_close(cap) == 0);
}

static void holder_step(struct stage *stage, enum step step)
{
    static char data[MESSAGE_MAX];
    vrd_cap_t cap, derived;
    struct vrd_message message = { .data = data, .size = sizeof data, .max_caps = 2 };
    struct vrd_cap_info info;
    int fd;

    if (stage->n_caps == 0)
        return;
    cap = stage->caps[input_u8(&stage->input) % stage->n_caps];
    switch (step) {
    case SEND:
        known(vrd_send_timed(cap, data, input_u8(&stage->input) % 65, 0));
        break;
    case SEND_BIG:
        known(vrd_send_timed(cap, data, input_u32(&stage->input) % sizeof data, 0));
        break;
    case CALL:
        known(vrd_call(cap, data, 8, data, sizeof data, 0));
        break;
    case RECEIVE:
        if (vrd_receive_message(cap, &message, 0) == 0)
            for (uint32_t i = 0; i < message.n_caps; i++)
                stage_add_cap(stage, message.caps[i]);
        break;
    case DERIVE:
        if (vrd_cap_derive(cap, VRD_RIGHT_SEND, &derived) == 0)
            stage_add_cap(stage, derived);
        break;
    case EXPORT:
        if (vrd_cap_export(cap, VRD_RIGHT_SEND, &fd) == 0)
            close(fd);
        break;
    default:
        known(vrd_cap_info(cap, &info));
        break;
    }
}

/* ---- both --------------------------------------------------------------------------------------------- */

static void step(struct stage *stage)
{
    const enum step step = input_u8(&stage->input) % STEPS;
    struct frame frame;
    int to;

    switch (step) {
    case FRAME:
        frame = any_frame(stage);
        to = stage_socket(stage);
        say(stage, to, &frame, input_u8(&stage->input) % 6);
        break;
    case WELCOME:
        welcome(stage);
        break;
    case READ:
        read_one(stage);
        break;
    case POKE:
        poke(stage);
        break;
    case RING:
        socket_send(stage_socket(stage), "", 1, NULL, 0);
        break;
    case HANG_UP:
        if (input_u8(&stage->input) % 8 == 0)
            socket_shutdown(stage_socket(stage));
        break;
    default:
        holder_step(stage, step);
        break;
    }
}

/* Invitations, greeted in all ways, with what may follow a greeting. */
static void import_one(struct stage *stage)
{
    struct frame frame;
    vrd_cap_t cap;
    int pair[2], result;

    fuzz_require(socket_pair(pair) == 0);
    stage_add_socket(stage, pair[0]);
    for (int i = input_u8(&stage->input) % 3; i > 0; i--) {
        frame = any_frame(stage);
        say(stage, pair[0], &frame, input_u8(&stage->input) % 4);
    }
    result = vrd_cap_import(pair[1], &cap);
    known(result);
    if (result == 0)
        stage_add_cap(stage, cap);
}

static void stage_run(struct stage *stage)
{
    fuzz_require(segment_create(LAYOUT_RECEIVER_SIZE, &stage->segment, &stage->segment_fd) == 0);
    import_one(stage);
    for (int i = 0; i < 100 && input_more(&stage->input) && stage->n_sockets > 0; i++)
        if (i % 16 == 15)
            import_one(stage);
        else
            step(stage);
    for (size_t i = 0; i < stage->n_caps; i++)
        fuzz_require(vrd_cap_close(stage->caps[i]) == 0);
    for (size_t i = 0; i < stage->n_sockets; i++)
        fd_close(&stage->sockets[i]);
    fd_close(&stage->segment_fd);
    segment_unmap(&stage->segment);
}

/* The number that the next descriptor gets: a leak moves it, or the ones after it. */
static int next_fd(void)
{
    const int first = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int second = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int sum = first + second;

    close(first);
    close(second);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool warm; /* the control loop is there, and stays */
    struct stage stage = { .input = { data, size } };
    vrd_cap_t send, receive;
    char byte;
    int before;

    if (!warm) {
        fuzz_require(vrd_channel_create(1, &send, &receive) == 0);
        fuzz_require(vrd_send(send, "", 1) == 0 && vrd_receive(receive, &byte, 1) == 1);
        fuzz_require(vrd_cap_close(send) == 0 && vrd_cap_close(receive) == 0);
        warm = true;
    }
    before = next_fd();
    stage_run(&stage);
    fuzz_require(next_fd() == before);
    return 0;
}
