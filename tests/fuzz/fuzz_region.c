/* SPDX-License-Identifier: MIT */
/*
 * The maker of a region and everything that those who hold it can do: the input is a program of frames and
 * descriptors over their sockets, and hang-ups; and of invitations and revocations. What the maker
 * writes stays, an honest holder reads it all the while, and at the end nothing is left.
 */
#include "attacker.h"

#include "link/layout.h"

#define SIZE LAYOUT_PAGE
#define RIGHTS (VRD_RIGHT_READ | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

enum step { FRAME, DERIVE, BYTES, READ, INVITE, REVOKE, HANG_UP, WRITE, STEPS };

struct stage {
    struct input *input;
    struct attacker attacker;
    vrd_cap_t maker, holder; /* the other holder is honest, and derived from no attacker */
    uint64_t *written;
    const uint64_t *read;
};

static const enum attacker_fd kinds[] = {
    ATTACKER_NULL,       ATTACKER_MEMFD,      ATTACKER_LOOSE_SOCKET,
    ATTACKER_OLD_SOCKET, ATTACKER_NEW_SOCKET, ATTACKER_NEW_SOCKET,
};

static void say(struct stage *stage, const struct frame *frame, size_t n)
{
    attacker_say(&stage->attacker, attacker_socket(&stage->attacker), frame, n);
}

static void any_frame(struct stage *stage)
{
    const uint8_t odd = input_u8(stage->input);
    struct frame frame = { .type = input_u8(stage->input) % (FRAME_TYPE_MAX + 2U) };

    if (odd & 1)
        frame.rights = input_u8(stage->input);
    if (odd & 2)
        frame.badge = input_u8(stage->input);
    if (odd & 4)
        frame.count = input_u8(stage->input) % 4;
    if (odd & 8)
        frame.extension = input_u8(stage->input);
    if (odd & 16)
        frame.bytes = input_u64(stage->input);
    if (odd & 32 || frame.type == FRAME_REVOKE)
        frame.id = input_u8(stage->input);
    if (odd & 64)
        frame.cause = input_u8(stage->input);
    say(stage, &frame, input_u8(stage->input) % 4);
}

static void derive(struct stage *stage)
{
    const uint8_t odd = input_u8(stage->input);
    const struct frame frame = { .type = FRAME_DERIVE,
                                 .rights = VRD_RIGHT_READ | (odd & 15U) << 2,
                                 .count = odd >> 7 };

    say(stage, &frame, 1);
}

/* What the maker says is taken, by whoever holds the other end. */
static void read_one(struct stage *stage)
{
    datagram_auto datagram = { .pidfd = -1 };

    socket_receive(attacker_socket(&stage->attacker), &datagram);
}

static void invite(struct stage *stage)
{
    int invitation;

    fuzz_require(vrd_cap_export(stage->maker, RIGHTS, &invitation) == 0);
    attacker_add_socket(&stage->attacker, invitation);
}

/* One that the maker derived takes all of its own back; the honest holder is not one of them. */
static void revoke_some(struct stage *stage)
{
    vrd_cap_t derived;
    int invitation;

    fuzz_require(vrd_cap_derive(stage->maker, RIGHTS, &derived) == 0);
    fuzz_require(vrd_cap_export(derived, RIGHTS, &invitation) == 0);
    attacker_add_socket(&stage->attacker, invitation);
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
    switch ((enum step)(input_u8(stage->input) % STEPS)) {
    case FRAME:
        any_frame(stage);
        break;
    case DERIVE:
        derive(stage);
        break;
    case BYTES:
        attacker_babble(&stage->attacker);
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
        attacker_hang_up(&stage->attacker);
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
    attacker_init(&stage->attacker, stage->input, 0, 0);
    stage->attacker.kinds = kinds;
    stage->attacker.n_kinds = sizeof kinds / sizeof kinds[0];
    invite(stage);
}

static void stage_deinit(struct stage *stage)
{
    write_one(stage);
    fuzz_require(vrd_cap_revoke(stage->maker) == 0);
    fuzz_require(vrd_cap_close(stage->holder) == 0);
    fuzz_require(vrd_cap_close(stage->maker) == 0);
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
