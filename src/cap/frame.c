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
    uint64_t badge;
    uint64_t id;
    uint32_t depth;
    uint16_t object;
    uint16_t cause;
};

_Static_assert(sizeof(struct wire) == FRAME_SIZE, "frames have one size");

#define FRAME_MAGIC UINT32_C(0x44525656) /* "VVRD" */
#define RIGHTS_ALL \
    (VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE | VRD_RIGHT_READ | \
     VRD_RIGHT_WRITE)

/* Fields that must be set, and such that may be; all others are zero. */
enum field {
    GEOMETRY = 1 << 0, /* slots, max_message */
    RIGHTS = 1 << 1,
    EXTENSION = 1 << 2,
    BYTES = 1 << 3,
    ID = 1 << 4,
    COUNT = 1 << 5,
    BADGE = 1 << 6,
    DEPTH = 1 << 7,
    OBJECT = 1 << 8,
    CAUSE = 1 << 9,
};

/* Which fields a type uses, and how many descriptors come with it. */
struct shape {
    uint16_t fds_min, fds_max;
    unsigned must, may;
};

static const struct shape shapes[FRAME_TYPE_MAX + 1] = {
    [FRAME_GREETING_SEND] = { 0, 0, GEOMETRY | RIGHTS,
                              BADGE | DEPTH | OBJECT | BYTES | EXTENSION | COUNT },
    [FRAME_GREETING_RECEIVE] = { 0, 2, GEOMETRY | RIGHTS, COUNT | OBJECT | BYTES | EXTENSION },
    [FRAME_HELLO] = { 2, 2, GEOMETRY, 0 },
    [FRAME_DERIVE] = { 1, 1, RIGHTS, BADGE | COUNT },
    [FRAME_WELCOME] = { 1, 1, 0, 0 },
    [FRAME_ATTACH] = { 1, 1, EXTENSION | BYTES, COUNT },
    [FRAME_CLOSE] = { 0, 0, 0, CAUSE },
    [FRAME_INVITATIONS] = { 1, FRAME_FDS_MAX, RIGHTS | ID, BADGE | DEPTH | COUNT },
    [FRAME_REVOKE] = { 0, 0, ID, 0 },
    [FRAME_REVOKED] = { 0, 0, ID, 0 },
    [FRAME_TRANSFER] = { 1, FRAME_TRANSFER_MAX, ID, COUNT },
    [FRAME_GREETING_REPLY] = { 0, 0, GEOMETRY, 0 },
    [FRAME_REPLY] = { 1, 1 + FRAME_TRANSFER_MAX, BYTES, 0 },
    [FRAME_GREETING_REGION] = { 1, 1, RIGHTS | EXTENSION | BYTES | ID, COUNT | BADGE | DEPTH },
    [FRAME_DETACH] = { 0, 0, EXTENSION, 0 },
    [FRAME_HELLO_HERE] = { 1, 1, GEOMETRY, EXTENSION },
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
        .badge = frame->badge,
        .id = frame->id,
        .depth = frame->depth,
        .object = frame->object,
        .cause = frame->cause,
    };

    memcpy(buf, &wire, sizeof(wire));
}

/* Is what must be set well-formed, and zero what must not? */
static bool wire_fits(const struct wire *wire, const struct shape *shape)
{
    unsigned set = (wire->slots != 0 || wire->max_message != 0 ? GEOMETRY : 0U) |
                   (wire->rights != 0 ? RIGHTS : 0U) | (wire->extension != 0 ? EXTENSION : 0U) |
                   (wire->bytes != 0 ? BYTES : 0U) | (wire->id != 0 ? ID : 0U) |
                   (wire->count != 0 ? COUNT : 0U) | (wire->badge != 0 ? BADGE : 0U) |
                   (wire->depth != 0 ? DEPTH : 0U) | (wire->object != 0 ? OBJECT : 0U) |
                   (wire->cause != 0 ? CAUSE : 0U);

    if ((set & shape->must) != shape->must || (set & ~(shape->must | shape->may)) != 0)
        return false;
    if ((set & GEOMETRY) && (wire->slots == 0 || wire->slots > VRD_CHANNEL_SLOTS_MAX ||
                             wire->max_message == 0 || wire->max_message > PTRDIFF_MAX))
        return false;
    return (wire->rights & ~RIGHTS_ALL) == 0 && wire->bytes <= PTRDIFF_MAX;
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
        .badge = wire.badge,
        .id = wire.id,
        .depth = wire.depth,
        .object = wire.object,
        .cause = wire.cause,
    };
    return 0;
}
