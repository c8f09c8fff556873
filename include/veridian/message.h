/* SPDX-License-Identifier: MIT */
/*
 * message.h - messages with more to them than bytes.
 */
#ifndef VERIDIAN_MESSAGE_H
#define VERIDIAN_MESSAGE_H

#include <veridian/types.h>

VRD_BEGIN_DECLS

#define VRD_MESSAGE_CAPS_MAX 4

/* Who sent it, as the kernel says, when the link was made. */
struct vrd_source {
    pid_t pid;
    uid_t uid;
    gid_t gid;
};

/*
 * Sending:   data and len are the payload, opcode and flags travel with it and mean what the
 *            application likes; badge, size, max_caps and source are ignored.
 * Receiving: data and size are the buffer; opcode, flags, badge, len, n_caps and source are set.
 * `reserved` must be zero; so must n_caps when sending (capabilities do not travel in messages yet).
 */
struct vrd_message {
    uint32_t opcode;
    uint32_t flags;
    uint64_t badge;
    void *data;
    size_t size;
    size_t len;
    uint32_t n_caps;
    uint32_t max_caps;
    vrd_cap_t caps[VRD_MESSAGE_CAPS_MAX];
    struct vrd_source source;
    uint64_t reserved[4];
};

/*
 * As vrd_send_timed, and
 *  INVALID_ARGUMENT  `message` is NULL or its reserved fields are not zero
 *  NOT_SUPPORTED     n_caps is not 0
 */
VRD_API int vrd_send_message(vrd_cap_t cap, const struct vrd_message *message, int64_t timeout_ns);

/*
 * As vrd_receive_timed, but returns 0. On MESSAGE_TOO_LARGE `len` is the length needed, and nothing
 * else is changed.
 */
VRD_API int vrd_receive_message(vrd_cap_t cap, struct vrd_message *message, int64_t timeout_ns);

/*
 * Drops the message for which a receive on this capability last said MESSAGE_TOO_LARGE. Never waits.
 *  CHANNEL_EMPTY  there is none, or another thread has received it
 *  INVALID_CAPABILITY, PERMISSION_DENIED
 */
VRD_API int vrd_discard(vrd_cap_t cap);

VRD_END_DECLS

#endif
