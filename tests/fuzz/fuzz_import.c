/* SPDX-License-Identifier: MIT */
/*
 * A live holder of a capability, of any kind, and everything that its maker and its owner can do: the
 * input is a program of greetings, frames, descriptors, words in the owner's segment, hang-ups, and
 * what the holder does meanwhile. Every call returns with a documented error, at once, and nothing is left.
 */
#include "attacker.h"

#include "link/layout.h"

#define SLOTS 4
#define MESSAGE_MAX 20000
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
    ANSWER,
    MAP,
    UNMAP,
    REPLY,
    CLOSE,
    STEPS
};

struct stage {
    struct input *input;
    struct attacker attacker; /* the maker and the owner */
    vrd_cap_t caps[CAPS_MAX];
    size_t n_caps;
};

/* ---- the attacker --------------------------------------------------------------------------------- */

static const enum attacker_fd kinds[] = {
    ATTACKER_SEGMENT,    ATTACKER_NULL,       ATTACKER_MEMFD,
    ATTACKER_OLD_SOCKET, ATTACKER_NEW_SOCKET, ATTACKER_NEW_SOCKET,
};

/* Mostly plausible values. */
static struct frame any_frame(struct stage *stage)
{
    const uint8_t odd = input_u8(stage->input);
    struct frame frame = { .type = input_u8(stage->input) % (FRAME_TYPE_MAX + 2U) };

    if (frame.type == FRAME_GREETING_SEND || frame.type == FRAME_GREETING_RECEIVE ||
        frame.type == FRAME_GREETING_REPLY || frame.type == FRAME_HELLO) {
        frame.slots = odd & 1 ? input_u32(stage->input) : SLOTS;
        frame.max_message = odd & 2 ? input_u64(stage->input) : MESSAGE_MAX;
    }
    if (frame.type == FRAME_GREETING_SEND || frame.type == FRAME_GREETING_RECEIVE ||
        frame.type == FRAME_INVITATIONS || odd & 4) {
        frame.rights = input_u8(stage->input) % 128;
        frame.object = input_u8(stage->input) % 6;
        frame.badge = input_u8(stage->input);
        frame.depth = input_u8(stage->input);
    }
    if (frame.type == FRAME_ATTACH || frame.type == FRAME_REPLY || odd & 8) {
        frame.extension = input_u8(stage->input) % 8;
        frame.bytes = odd & 16 ? input_u64(stage->input) : LAYOUT_PAGE;
        frame.count = input_u8(stage->input) % 20;
    }
    if (frame.type == FRAME_GREETING_REGION) {
        frame.rights = VRD_RIGHT_READ | input_u8(stage->input) % 128;
        frame.extension = input_u8(stage->input) % 5;
        frame.bytes = odd & 16 ? input_u64(stage->input) : LAYOUT_RECEIVER_SIZE;
        frame.id = input_u8(stage->input) % 5;
    } else if (frame.type == FRAME_TRANSFER || frame.type == FRAME_REVOKED ||
               frame.type == FRAME_INVITATIONS || odd & 32) {
        frame.id = input_u8(stage->input);
    }
    if (frame.type == FRAME_CLOSE || odd & 64)
        frame.cause = input_u8(stage->input) % 8;
    return frame;
}

/* Answers a HELLO as an owner does. */
static void welcome(struct stage *stage)
{
    const struct frame frame = { .type = FRAME_WELCOME };
    int fds[ATTACKER_FDS_MAX] = { dup(stage->attacker.segment_fd) };

    attacker_give_frame(attacker_socket(&stage->attacker), &frame, fds, 1);
}

/* Takes what the holder says, its tethers among it. */
static void read_one(struct stage *stage)
{
    datagram_auto datagram = { .pidfd = -1 };

    if (socket_receive(attacker_socket(&stage->attacker), &datagram) != 1)
        return;
    for (size_t i = 0; i < datagram.n_fds; i++)
        if (socket_adopt(datagram.fds[i]) == 0)
            attacker_add_socket(&stage->attacker, fd_take(&datagram.fds[i]));
}

static void poke(struct stage *stage)
{
    uint64_t *words = stage->attacker.segment.addr;
    const size_t at = input_u8(stage->input) % 3 == 0
                          ? input_u8(stage->input) % 2 * 16
                          : input_u32(stage->input) % (LAYOUT_PAGE / sizeof *words);

    __atomic_store_n(&words[at], input_u64(stage->input), __ATOMIC_RELAXED);
}

/* What the next call is answered, perhaps, and what goes with it. */
static void answer(struct stage *stage)
{
    struct receiver_segment *own = stage->attacker.segment.addr;
    const uint32_t entry = input_u8(stage->input) % 3, sequence = input_u8(stage->input) % 16;
    const uint64_t kind = input_u8(stage->input), len = input_u8(stage->input) % 66;
    struct slot *slot = &own->replies[entry];

    slot->transfer = kind & SLOT_META ? UINT64_C(1) << 32 | sequence : 0;
    if ((kind & SLOT_KIND_MASK) == SLOT_BYTES) {
        const struct slot_bytes bytes = { .len = input_u32(stage->input) % (2 * LAYOUT_PAGE),
                                          .extension = input_u8(stage->input) % 4 };

        memcpy(slot->head, &bytes, sizeof bytes);
    }
    __atomic_store_n(&slot->word, kind << 40 | len << 32 | sequence, __ATOMIC_RELEASE);
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

/* Memory that can be mapped can be read, and where WRITE was given also written. */
static void use_region(vrd_cap_t cap, uint32_t rights)
{
    struct vrd_region_info info;
    size_t size;
    void *addr;

    if (vrd_region_map(cap, rights, &addr, &size) < 0)
        return;
    fuzz_require(vrd_region_info(cap, &info) == 0 && info.size == size && info.mapped > 0);
    for (size_t at = 0; at < size; at += LAYOUT_PAGE / 2)
        (void)*((volatile char *)addr + at);
    if (rights & VRD_RIGHT_WRITE)
        *(volatile char *)addr = 1;
}

static void call(vrd_cap_t cap, bool caps)
{
    static char data[MESSAGE_MAX];
    struct vrd_message request = { .data = data, .len = 8 };
    struct vrd_message reply = { .data = data, .size = sizeof data, .max_caps = caps ? 4 : 0 };

    if (vrd_call_message(cap, &request, &reply, 0) == 0)
        for (uint32_t i = 0; i < reply.n_caps; i++)
            if (reply.caps[i] != VRD_CAP_NONE)
                fuzz_require(vrd_cap_close(reply.caps[i]) == 0);
}

static void close_one(struct stage *stage, size_t which)
{
    fuzz_require(vrd_cap_close(stage->caps[which]) == 0);
    stage->caps[which] = stage->caps[--stage->n_caps];
}

static void holder_step(struct stage *stage, enum step step)
{
    static char data[MESSAGE_MAX];
    vrd_cap_t cap, derived;
    size_t which;
    struct vrd_message message = { .data = data, .size = sizeof data, .max_caps = 2 };
    struct vrd_cap_info info;
    int fd;

    if (stage->n_caps == 0)
        return;
    which = input_u8(stage->input) % stage->n_caps;
    cap = stage->caps[which];
    switch (step) {
    case SEND:
        known(vrd_send_timed(cap, data, input_u8(stage->input) % 65, 0));
        break;
    case SEND_BIG:
        known(vrd_send_timed(cap, data, input_u32(stage->input) % sizeof data, 0));
        break;
    case CALL:
        call(cap, input_u8(stage->input) & 1);
        break;
    case RECEIVE:
        if (vrd_receive_message(cap, &message, 0) == 0)
            for (uint32_t i = 0; i < message.n_caps; i++)
                if (message.caps[i] != VRD_CAP_NONE)
                    stage_add_cap(stage, message.caps[i]);
        break;
    case MAP:
        use_region(cap, VRD_RIGHT_READ | (input_u8(stage->input) & 1 ? VRD_RIGHT_WRITE : 0));
        break;
    case UNMAP:
        known(vrd_region_unmap(cap));
        break;
    case REPLY:
        known(vrd_reply(cap, data, input_u32(stage->input) % sizeof data));
        if (vrd_cap_info(cap, &info) == VRD_ERR_INVALID_CAPABILITY) /* it was one: used up */
            stage->caps[which] = stage->caps[--stage->n_caps];
        break;
    case CLOSE:
        close_one(stage, which);
        break;
    case DERIVE:
        if (vrd_cap_derive(cap, input_u8(stage->input) & 1 ? VRD_RIGHT_READ : VRD_RIGHT_SEND,
                           &derived) == 0)
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
    const enum step step = input_u8(stage->input) % STEPS;
    struct frame frame;
    int to;

    switch (step) {
    case FRAME:
        frame = any_frame(stage);
        to = attacker_socket(&stage->attacker);
        attacker_say(&stage->attacker, to, &frame, input_u8(stage->input) % 6);
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
    case ANSWER:
        answer(stage);
        break;
    case RING:
        socket_send(attacker_socket(&stage->attacker), "", 1, NULL, 0);
        break;
    case HANG_UP:
        if (input_u8(stage->input) % 8 == 0)
            attacker_hang_up(&stage->attacker);
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
    attacker_add_socket(&stage->attacker, pair[0]);
    for (int i = input_u8(stage->input) % 3; i > 0; i--) {
        frame = any_frame(stage);
        attacker_say(&stage->attacker, pair[0], &frame, input_u8(stage->input) % 4);
    }
    result = vrd_cap_import(pair[1], &cap);
    known(result);
    if (result == 0)
        stage_add_cap(stage, cap);
}

static void play(struct input *input)
{
    struct stage stage = { .input = input };

    attacker_init(&stage.attacker, input, LAYOUT_RECEIVER_SIZE, 0);
    stage.attacker.kinds = kinds;
    stage.attacker.n_kinds = sizeof kinds / sizeof kinds[0];
    import_one(&stage);
    for (int i = 0; i < 100 && input_more(input); i++)
        if (i % 16 == 15)
            import_one(&stage);
        else
            step(&stage);
    for (size_t i = 0; i < stage.n_caps; i++)
        fuzz_require(vrd_cap_close(stage.caps[i]) == 0);
    attacker_deinit(&stage.attacker);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return live_play(play, data, size);
}
