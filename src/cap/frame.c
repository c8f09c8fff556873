/* SPDX-License-Identifier: MIT */
#include "cap/frame.h"

#include <stdbool.h>
#include <string.h>
#include <veridian/capability.h>
#include <veridian/channel.h>
#include <veridian/error.h>

/* Little-endian by decree of the one architecture family; both ends are on one machine. */
struct wire {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
    uint32_t slots;
    uint32_t rights;
    uint32_t extension;
    uint32_t count;
    uint64_t max_message;
    uint64_t bytes;
    uint8_t reserved[24];
};

_Static_assert(sizeof(struct wire) == FRAME_SIZE, "frames have one size");

#define FRAME_MAGIC UINT32_C(0x44525656) /* "VVRD" */
#define RIGHTS_ALL (VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

/* Which fields a type uses (the others are zero), and how many descriptors come with it. */
struct shape {
    uint16_t fds_min, fds_max;
    bool geometry, rights, extension, count;
};

static const struct shape shapes[FRAME_TYPE_MAX + 1] = {
    [FRAME_GREETING_SEND] = { .geometry = true, .rights = true },
    [FRAME_GREETING_RECEIVE] = { .fds_max = 1, .geometry = true, .rights = true, .count = true },
    [FRAME_HELLO] = { .fds_min = 2, .fds_max = 2, .geometry = true },
    [FRAME_DERIVE] = { .fds_min = 1, .fds_max = 1, .rights = true },
    [FRAME_WELCOME] = { .fds_min = 1, .fds_max = 1 },
    [FRAME_ATTACH] = { .fds_min = 1, .fds_max = 1, .extension = true },
    [FRAME_CLOSE] = { 0 },
    [FRAME_INVITATIONS] = { .fds_min = 1, .fds_max = FRAME_FDS_MAX, .rights = true },
};

void frame_encode(const struct frame *frame, uint8_t buf[FRAME_SIZE])
{
    struct wire wire = {
        .magic = FRAME_MAGIC,
        .version = FRAME_VERSION,
        .type = (uint16_t)frame->type,
        .slots = frame->slots,
        .rights = frame->rights,
        .extension = frame->extension,
        .count = frame->count,
        .max_message = frame->max_message,
        .bytes = frame->bytes,
    };

    memcpy(buf, &wire, sizeof(wire));
}

static bool wire_fits(const struct wire *wire, const struct shape *shape)
{
    static const uint8_t zero[sizeof(wire->reserved)];

    if (memcmp(wire->reserved, zero, sizeof(zero)) != 0)
        return false;
    if (shape->geometry ? wire->slots == 0 || wire->slots > VRD_CHANNEL_SLOTS_MAX ||
                              wire->max_message == 0 || wire->max_message > PTRDIFF_MAX
                        : wire->slots != 0 || wire->max_message != 0)
        return false;
    if (shape->rights ? wire->rights == 0 || (wire->rights & ~RIGHTS_ALL) != 0 : wire->rights != 0)
        return false;
    if (shape->extension ? wire->extension == 0 || wire->bytes == 0 || wire->bytes > PTRDIFF_MAX
                         : wire->extension != 0 || wire->bytes != 0)
        return false;
    return shape->count || wire->count == 0;
}

int frame_decode(const uint8_t *buf, size_t len, size_t n_fds, struct frame *ret)
{
    struct wire wire;

    if (len != sizeof(wire))
        return VRD_ERR_PEER_CORRUPT;
    memcpy(&wire, buf, sizeof(wire));
    if (wire.magic != FRAME_MAGIC || wire.version != FRAME_VERSION)
        return VRD_ERR_PEER_CORRUPT;
    if (wire.type == 0 || wire.type > FRAME_TYPE_MAX)
        return VRD_ERR_PEER_CORRUPT;
    if (n_fds < shapes[wire.type].fds_min || n_fds > shapes[wire.type].fds_max)
        return VRD_ERR_PEER_CORRUPT;
    if (!wire_fits(&wire, &shapes[wire.type]))
        return VRD_ERR_PEER_CORRUPT;
    *ret = (struct frame){
        .type = (enum frame_type)wire.type,
        .slots = wire.slots,
        .rights = wire.rights,
        .extension = wire.extension,
        .count = wire.count,
        .max_message = wire.max_message,
        .bytes = wire.bytes,
    };
    return 0;
}
