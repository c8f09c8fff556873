/* SPDX-License-Identifier: MIT */
/*
 * A live receiver and everything that its other side can do: the input is a program of frames and
 * descriptors over invitations and tethers, words in segments, receives, and hang-ups. An honest
 * sender's messages arrive in order all the while, and at the end nothing is left.
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

#define SLOTS 16
#define MESSAGE_MAX 20000
#define SOCKETS_MAX 24
#define BUFFER 32768
#define MARK UINT64_C(0x6f6e657374206d65)

enum step {
    SEND_FRAME,
    SEND_HELLO,
    SEND_BYTES,
    POKE,
    PUBLISH,
    DESCRIBE,
    RECEIVE,
    HANG_UP,
    HONEST,
    TRANSFER,
    NAME_TRANSFER,
    RECEIVE_CAPS,
    STEPS
};

struct stage {
    struct input input;
    vrd_cap_t send, receive;
    uint64_t sent, received;  /* by the honest sender */
    int sockets[SOCKETS_MAX]; /* the attacker's; the first is an invitation */
    size_t n_sockets;
    struct segment segment, bytes; /* the attacker's, writable */
    int segment_fd, bytes_fd;
    uint32_t position;
    uint64_t transfers;
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

/* A descriptor of some kind, for one message. */
static int make_fd(struct stage *stage)
{
    int pair[2];

    switch (input_u8(&stage->input) % 8) {
    case 0:
        return dup(stage->segment_fd);
    case 1:
        return dup(stage->bytes_fd);
    case 2:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case 3:
        return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    case 4:
        return memfd_create("veridian", MFD_CLOEXEC);
    case 5:
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

/* A well-formed frame, with mostly plausible values. */
static void send_frame(struct stage *stage)
{
    const uint8_t odd = input_u8(&stage->input);
    struct frame frame = { .type = input_u8(&stage->input) % (FRAME_TYPE_MAX + 2U) };
    uint8_t buf[FRAME_SIZE];

    if (frame.type == FRAME_HELLO || frame.type == FRAME_GREETING_SEND ||
        frame.type == FRAME_GREETING_RECEIVE) {
        frame.slots = odd & 1 ? input_u32(&stage->input) : SLOTS;
        frame.max_message = odd & 2 ? input_u64(&stage->input) : MESSAGE_MAX;
    }
    if (frame.type == FRAME_DERIVE || frame.type == FRAME_INVITATIONS || odd & 4)
        frame.rights = input_u8(&stage->input);
    if (frame.type == FRAME_ATTACH || odd & 8) {
        frame.extension = input_u8(&stage->input) % 8;
        frame.bytes = odd & 16 ? input_u64(&stage->input) : LAYOUT_PAGE;
    }
    if (frame.type == FRAME_DERIVE && odd & 32)
        frame.badge = input_u8(&stage->input);
    if (frame.type == FRAME_REVOKE || frame.type == FRAME_TRANSFER || odd & 64)
        frame.id = input_u8(&stage->input);
    if (odd & 32)
        frame.count = input_u8(&stage->input) % 4;
    frame_encode(&frame, buf);
    send_with_fds(stage, buf, sizeof buf, input_u8(&stage->input) % 4);
}

/* Over the newest socket, which may be a tether, with the number that comes next, mostly. */
static void transfer(struct stage *stage)
{
    const uint8_t odd = input_u8(&stage->input);
    const struct frame frame = { .type = FRAME_TRANSFER,
                                 .id = odd & 128 ? odd : ++stage->transfers };
    uint8_t buf[FRAME_SIZE];
    int fds[4];

    frame_encode(&frame, buf);
    for (size_t i = 0; i <= odd % 4U; i++)
        fds[i] = make_fd(stage);
    socket_send(stage_socket(stage), buf, sizeof buf, fds, odd % 4U + 1);
    for (size_t i = 0; i <= odd % 4U; i++)
        fd_close(&fds[i]);
}

static void send_hello(struct stage *stage)
{
    const struct frame hello = { .type = FRAME_HELLO, .slots = SLOTS, .max_message = MESSAGE_MAX };
    uint8_t buf[FRAME_SIZE];
    int pair[2];

    fuzz_require(socket_pair(pair) == 0);
    frame_encode(&hello, buf);
    socket_send(stage_socket(stage), buf, sizeof buf, (int[]){ pair[1], stage->segment_fd }, 2);
    fd_close(&pair[1]);
    stage_add_socket(stage, pair[0]);
}

static void send_bytes(struct stage *stage)
{
    uint8_t buf[SOCKET_DATA_MAX + 8];
    const size_t len = input_u8(&stage->input) % sizeof buf;

    input_take(&stage->input, buf, len);
    send_with_fds(stage, buf, len, input_u8(&stage->input) % 4);
}

static struct sender_segment *stage_memory(const struct stage *stage)
{
    return stage->segment.addr;
}

static void poke(struct stage *stage)
{
    const size_t at = input_u32(&stage->input) % (stage->segment.size / sizeof(uint64_t));

    ((uint64_t *)stage->segment.addr)[at] = input_u64(&stage->input);
}

static void publish(struct stage *stage)
{
    const uint64_t len = input_u8(&stage->input), kind = input_u8(&stage->input);

    stage_memory(stage)->slots[stage->position % SLOTS].word =
        kind << 40 | len << 32 | (stage->position + 1);
    stage->position++;
}

static struct slot *stage_slot(struct stage *stage)
{
    return &stage_memory(stage)->slots[stage->position % SLOTS];
}

static void name_transfer(struct stage *stage)
{
    stage_slot(stage)->transfer = input_u8(&stage->input) % 32;
    stage_slot(stage)->word = (uint64_t)(SLOT_INLINE | SLOT_META) << 40 | (stage->position + 1);
    stage->position++;
}

static void describe(struct stage *stage)
{
    const struct slot_bytes bytes = { .offset = input_u32(&stage->input) % (2 * LAYOUT_PAGE),
                                      .len = input_u32(&stage->input) % (2 * LAYOUT_PAGE),
                                      .extension = input_u8(&stage->input) % 8 };

    memcpy(stage_memory(stage)->slots[stage->position % SLOTS].head, &bytes, sizeof bytes);
}

/* Returns false when there is nothing more. */
static bool receive(struct stage *stage, size_t size)
{
    static uint64_t buf[BUFFER / sizeof(uint64_t)];
    const ssize_t len = vrd_receive_async(stage->receive, buf, size);

    if (len == VRD_ERR_MESSAGE_TOO_LARGE)
        return vrd_discard(stage->receive) == 0;
    if (len == VRD_ERR_PEER_CORRUPT)
        return true;
    if (len < 0) {
        fuzz_require(len == VRD_ERR_CHANNEL_EMPTY);
        return false;
    }
    fuzz_require((size_t)len <= size);
    if (len >= 16 && buf[0] == MARK) {
        fuzz_require(buf[1] == stage->received);
        stage->received++;
    }
    return true;
}

/* With what travels with it, which is closed at once. */
static void receive_caps(struct stage *stage)
{
    static uint64_t buf[BUFFER / sizeof(uint64_t)];
    struct vrd_message in = { .data = buf,
                              .size = BUFFER,
                              .max_caps = input_u8(&stage->input) % 6 };
    const int result = vrd_receive_message(stage->receive, &in, 0);

    if (result < 0) {
        fuzz_require(result == VRD_ERR_CHANNEL_EMPTY || result == VRD_ERR_PEER_CORRUPT);
        return;
    }
    fuzz_require(in.n_caps <= in.max_caps && in.n_caps <= VRD_MESSAGE_CAPS_MAX);
    for (uint32_t i = 0; i < in.n_caps; i++)
        if (in.caps[i] != VRD_CAP_NONE)
            fuzz_require(vrd_cap_close(in.caps[i]) == 0);
}

static void honest(struct stage *stage)
{
    uint64_t message[100] = { MARK, stage->sent };

    fuzz_require(vrd_send_async(stage->send, message, stage->sent % 2 ? sizeof message : 16) == 0);
    stage->sent++;
    for (int i = 0; stage->received < stage->sent; i++) {
        fuzz_require(i < 10000);
        receive(stage, BUFFER);
    }
}

static void hang_up(struct stage *stage)
{
    const size_t which = input_u8(&stage->input) % stage->n_sockets;

    shutdown(stage->sockets[which], SHUT_RDWR);
}

static void step(struct stage *stage)
{
    switch ((enum step)(input_u8(&stage->input) % STEPS)) {
    case SEND_FRAME:
        send_frame(stage);
        break;
    case SEND_HELLO:
        send_hello(stage);
        break;
    case SEND_BYTES:
        send_bytes(stage);
        break;
    case POKE:
        poke(stage);
        break;
    case PUBLISH:
        publish(stage);
        break;
    case DESCRIBE:
        describe(stage);
        break;
    case RECEIVE:
        receive(stage, input_u8(&stage->input) & 1 ? BUFFER : 16);
        break;
    case HANG_UP:
        hang_up(stage);
        break;
    case HONEST:
        honest(stage);
        break;
    case TRANSFER:
        transfer(stage);
        break;
    case NAME_TRANSFER:
        name_transfer(stage);
        break;
    case RECEIVE_CAPS:
        receive_caps(stage);
        break;
    case STEPS:
        break;
    }
}

static void stage_init(struct stage *stage)
{
    const struct vrd_channel_options options = { .slots = SLOTS, .max_message_size = MESSAGE_MAX };
    int invitation;

    fuzz_require(vrd_channel_create_with(&options, &stage->send, &stage->receive) == 0);
    fuzz_require(vrd_cap_export(stage->send, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &invitation) == 0);
    stage_add_socket(stage, invitation);
    fuzz_require(segment_create(layout_sender_size(SLOTS), &stage->segment, &stage->segment_fd) ==
                 0);
    fuzz_require(segment_create(LAYOUT_PAGE, &stage->bytes, &stage->bytes_fd) == 0);
    honest(stage);
}

static void stage_deinit(struct stage *stage)
{
    honest(stage);
    fuzz_require(vrd_cap_close(stage->send) == 0);
    fuzz_require(vrd_cap_close(stage->receive) == 0);
    for (size_t i = 0; i < stage->n_sockets; i++)
        fd_close(&stage->sockets[i]);
    fd_close(&stage->segment_fd);
    fd_close(&stage->bytes_fd);
    segment_unmap(&stage->segment);
    segment_unmap(&stage->bytes);
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
    int before;

    if (!warm) {
        struct stage first = { 0 };

        stage_init(&first);
        stage_deinit(&first);
        warm = true;
    }
    before = next_fd();
    stage_init(&stage);
    for (int i = 0; i < 200 && input_more(&stage.input); i++)
        step(&stage);
    stage_deinit(&stage);
    fuzz_require(next_fd() == before);
    return 0;
}
