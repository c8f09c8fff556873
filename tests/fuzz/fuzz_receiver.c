/* SPDX-License-Identifier: MIT */
/*
 * A live receiver, of a channel or an endpoint, and everything that its other side can do: the input is a
 * program of frames and descriptors over invitations, tethers and the sockets of reply capabilities,
 * words in segments, and hang-ups; and of receives, answers and revocations. An honest sender's
 * messages arrive in order all the while, and at the end nothing is left.
 */
#include "attacker.h"

#include "api/passing.h"
#include "link/layout.h"

#define SLOTS 16
#define MESSAGE_MAX 20000
#define BUFFER 32768
#define REPLIES_MAX 8
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
    INVITE,
    REVOKE,
    CALL,
    RECEIVE_CALL,
    ANSWER,
    MOVE_REPLY,
    SEND_REPLY,
    STEPS
};

struct stage {
    struct input *input;
    struct attacker attacker;       /* its first socket is an invitation */
    vrd_cap_t send, receive;        /* of an endpoint: the same */
    vrd_cap_t replies[REPLIES_MAX]; /* calls that were received; VRD_CAP_NONE: none */
    uint64_t sent, received;        /* by the honest sender */
    uint32_t position;
    uint64_t transfers;
};

static const enum attacker_fd kinds[] = {
    ATTACKER_SEGMENT, ATTACKER_BYTES,      ATTACKER_NULL,       ATTACKER_LOOSE_SOCKET,
    ATTACKER_MEMFD,   ATTACKER_OLD_SOCKET, ATTACKER_NEW_SOCKET, ATTACKER_NEW_SOCKET,
};

/* A well-formed frame, with mostly plausible values. */
static void send_frame(struct stage *stage)
{
    const uint8_t odd = input_u8(stage->input);
    struct frame frame = { .type = input_u8(stage->input) % (FRAME_TYPE_MAX + 2U) };
    size_t n;

    if (frame.type == FRAME_HELLO || frame.type == FRAME_GREETING_SEND ||
        frame.type == FRAME_GREETING_RECEIVE) {
        frame.slots = odd & 1 ? input_u32(stage->input) : SLOTS;
        frame.max_message = odd & 2 ? input_u64(stage->input) : MESSAGE_MAX;
    }
    if (frame.type == FRAME_DERIVE || frame.type == FRAME_INVITATIONS || odd & 4)
        frame.rights = input_u8(stage->input);
    if (frame.type == FRAME_ATTACH || odd & 8) {
        frame.extension = input_u8(stage->input) % 8;
        frame.bytes = odd & 16 ? input_u64(stage->input) : LAYOUT_PAGE;
    }
    if (frame.type == FRAME_DERIVE && odd & 32)
        frame.badge = input_u8(stage->input);
    if (frame.type == FRAME_REVOKE || frame.type == FRAME_TRANSFER || odd & 64)
        frame.id = input_u8(stage->input);
    if (odd & 32)
        frame.count = input_u8(stage->input) % 4;
    if (frame.type == FRAME_CLOSE)
        frame.cause = input_u8(stage->input) % 8;
    if (odd & 128) {
        frame.depth = input_u8(stage->input) % 4;
        frame.object = input_u8(stage->input) % 6;
    }
    n = input_u8(stage->input) % 4;
    attacker_say(&stage->attacker, attacker_socket(&stage->attacker), &frame, n);
}

/* Over the newest socket, which may be a tether, with the number that comes next, mostly. */
static void transfer(struct stage *stage)
{
    const uint8_t odd = input_u8(stage->input);
    const struct frame frame = { .type = FRAME_TRANSFER,
                                 .id = odd & 128 ? odd : ++stage->transfers };
    int fds[ATTACKER_FDS_MAX];

    attacker_make_fds(&stage->attacker, fds, 0, odd % 4U + 1);
    attacker_give_frame(attacker_socket(&stage->attacker), &frame, fds, odd % 4U + 1);
}

static void send_hello(struct stage *stage)
{
    const int to = attacker_socket(&stage->attacker);

    attacker_add_socket(&stage->attacker, attacker_hello(&stage->attacker, to, SLOTS, MESSAGE_MAX));
}

static struct sender_segment *stage_memory(const struct stage *stage)
{
    return stage->attacker.segment.addr;
}

static void poke(struct stage *stage)
{
    const size_t at = input_u32(stage->input) % (stage->attacker.segment.size / sizeof(uint64_t));

    ((uint64_t *)stage->attacker.segment.addr)[at] = input_u64(stage->input);
}

static void publish(struct stage *stage)
{
    const uint64_t len = input_u8(stage->input), kind = input_u8(stage->input);

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
    stage_slot(stage)->transfer = input_u8(stage->input) % 32;
    stage_slot(stage)->word = (uint64_t)(SLOT_INLINE | SLOT_META) << 40 | (stage->position + 1);
    stage->position++;
}

static void describe(struct stage *stage)
{
    const struct slot_bytes bytes = { .offset = input_u32(stage->input) % (2 * LAYOUT_PAGE),
                                      .len = input_u32(stage->input) % (2 * LAYOUT_PAGE),
                                      .extension = input_u8(stage->input) % 8 };

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

static void close_caps(const struct vrd_message *in)
{
    fuzz_require(in->n_caps <= in->max_caps && in->n_caps <= VRD_MESSAGE_CAPS_MAX);
    for (uint32_t i = 0; i < in->n_caps; i++)
        if (in->caps[i] != VRD_CAP_NONE)
            fuzz_require(vrd_cap_close(in->caps[i]) == 0);
}

/* With what travels with it, which is closed at once. */
static void receive_caps(struct stage *stage)
{
    static uint64_t buf[BUFFER / sizeof(uint64_t)];
    struct vrd_message in = { .data = buf, .size = BUFFER, .max_caps = input_u8(stage->input) % 6 };
    const int result = vrd_receive_message(stage->receive, &in, 0);

    if (result < 0) {
        fuzz_require(result == VRD_ERR_CHANNEL_EMPTY || result == VRD_ERR_PEER_CORRUPT);
        return;
    }
    close_caps(&in);
}

/* ---- calls ---------------------------------------------------------------------------------------- */

static void call(struct stage *stage)
{
    const uint64_t kind = SLOT_INLINE | SLOT_CALL |
                          (uint64_t)(input_u8(stage->input) % REPLY_ENTRIES) << SLOT_ENTRY_SHIFT;

    stage_slot(stage)->word = kind << 40 | (stage->position + 1);
    stage->position++;
}

static vrd_cap_t *stage_reply(struct stage *stage)
{
    return &stage->replies[input_u8(stage->input) % REPLIES_MAX];
}

static void receive_call(struct stage *stage)
{
    static uint64_t buf[BUFFER / sizeof(uint64_t)];
    struct vrd_message in = { .data = buf, .size = BUFFER, .max_caps = 1 };
    vrd_cap_t *reply = stage_reply(stage);
    vrd_cap_t received;
    const int result = vrd_receive_call(stage->receive, &in, &received, 0);

    if (result < 0) {
        fuzz_require(result == VRD_ERR_CHANNEL_EMPTY || result == VRD_ERR_PEER_CORRUPT ||
                     result == VRD_ERR_NOT_SUPPORTED);
        return;
    }
    close_caps(&in);
    if (received == VRD_CAP_NONE)
        return;
    if (*reply != VRD_CAP_NONE)
        fuzz_require(vrd_cap_close(*reply) == 0);
    *reply = received;
}

/* Of any length, with a capability or without. */
static void answer(struct stage *stage)
{
    static uint8_t buf[MESSAGE_MAX];
    vrd_cap_t *reply = stage_reply(stage);
    const uint8_t odd = input_u8(stage->input);
    struct vrd_message out = { .data = buf,
                               .len = odd & 1 ? input_u32(stage->input) % sizeof buf : odd % 65U };
    int result;

    if (*reply == VRD_CAP_NONE)
        return;
    if (odd & 2 && vrd_cap_derive(stage->send, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &out.caps[0]) == 0)
        out.n_caps = 1;
    result = vrd_reply_message(*reply, &out);
    fuzz_require(result == 0 || result == VRD_ERR_TIMEOUT || result == VRD_ERR_PEER_GONE ||
                 result == VRD_ERR_REVOKED || result == VRD_ERR_QUOTA_EXCEEDED);
    if (result != 0 && out.n_caps > 0)
        fuzz_require(vrd_cap_close(out.caps[0]) == 0);
    fuzz_require(vrd_reply(*reply, "", 0) == VRD_ERR_INVALID_CAPABILITY);
    *reply = VRD_CAP_NONE;
}

/* The attacker gets the socket of a reply capability; whether it is gone from here is another matter. */
static void move_reply(struct stage *stage)
{
    vrd_cap_t *reply = stage_reply(stage);
    int fd;

    if (*reply == VRD_CAP_NONE || passing_mint(*reply, &fd) < 0)
        return;
    if (input_u8(stage->input) % 4 == 0) {
        passing_kept(*reply, fd);
        return;
    }
    passing_moved(*reply);
    *reply = VRD_CAP_NONE;
    attacker_add_socket(&stage->attacker, fd);
}

static void send_reply(struct stage *stage)
{
    const uint8_t odd = input_u8(stage->input);
    const struct frame frame = { .type = FRAME_REPLY, .bytes = LAYOUT_PAGE };
    struct attacker *attacker = &stage->attacker;
    int fds[ATTACKER_FDS_MAX] = { dup(odd & 64 ? attacker->segment_fd : attacker->bytes_fd) };

    *(uint64_t *)attacker->bytes.addr = odd & 128 ? input_u64(stage->input) : odd;
    attacker_make_fds(attacker, fds, 1, odd % 5U + 1);
    attacker_give_frame(attacker_socket(attacker), &frame, fds, odd % 5U + 1);
}

/* ---- the owner ------------------------------------------------------------------------------------ */

static void invite(struct stage *stage)
{
    int invitation;

    fuzz_require(vrd_cap_export(stage->send, VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE,
                                &invitation) == 0);
    attacker_add_socket(&stage->attacker, invitation);
}

/* All but the honest sender. */
static void revoke_others(struct stage *stage)
{
    fuzz_require(vrd_cap_revoke(stage->send) == 0);
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

static void step(struct stage *stage)
{
    switch ((enum step)(input_u8(stage->input) % STEPS)) {
    case SEND_FRAME:
        send_frame(stage);
        break;
    case SEND_HELLO:
        send_hello(stage);
        break;
    case SEND_BYTES:
        attacker_babble(&stage->attacker);
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
        receive(stage, input_u8(stage->input) & 1 ? BUFFER : 16);
        break;
    case HANG_UP:
        attacker_hang_up(&stage->attacker);
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
    case INVITE:
        invite(stage);
        break;
    case REVOKE:
        revoke_others(stage);
        break;
    case CALL:
        call(stage);
        break;
    case RECEIVE_CALL:
        receive_call(stage);
        break;
    case ANSWER:
        answer(stage);
        break;
    case MOVE_REPLY:
        move_reply(stage);
        break;
    case SEND_REPLY:
        send_reply(stage);
        break;
    case STEPS:
        break;
    }
}

static void stage_init(struct stage *stage)
{
    const struct vrd_channel_options options = { .slots = SLOTS, .max_message_size = MESSAGE_MAX };
    uint64_t id;

    if (input_u8(stage->input) & 1) {
        fuzz_require(vrd_endpoint_create_with(&options, &id, &stage->send) == 0);
        stage->receive = stage->send;
    } else {
        fuzz_require(vrd_channel_create_with(&options, &stage->send, &stage->receive) == 0);
    }
    attacker_init(&stage->attacker, stage->input, layout_sender_size(SLOTS), LAYOUT_PAGE);
    stage->attacker.kinds = kinds;
    stage->attacker.n_kinds = sizeof kinds / sizeof kinds[0];
    invite(stage);
    honest(stage);
}

static void stage_deinit(struct stage *stage)
{
    honest(stage);
    fuzz_require(vrd_cap_close(stage->send) == 0);
    if (stage->receive != stage->send)
        fuzz_require(vrd_cap_close(stage->receive) == 0);
    attacker_deinit(&stage->attacker);
}

static void play(struct input *input)
{
    struct stage stage = { .input = input };

    stage_init(&stage);
    for (int i = 0; i < 200 && input_more(input); i++)
        step(&stage);
    stage_deinit(&stage);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return live_play(play, data, size);
}
