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
 *            application likes; caps[0 .. n_caps) travel with it too; badge, size, max_caps and source
 *            are ignored.
 * Receiving: data and size are the buffer; max_caps is how many capabilities are wanted; opcode,
 *            flags, badge, len, n_caps, caps[0 .. n_caps) and source are set.
 * `reserved` must be zero.
 *
 * Capabilities move with a message: to send, with all its rights, or to receive. Once the message is
 * sent they are closed here, as if by vrd_cap_close. If it is not sent, for whatever reason, they stay
 * as they were, under the same numbers. They arrive at most once: if either side ends before the message
 * is received, they are closed. What was sent with a capability before it moved is not ordered with
 * what its next holder sends.
 *
 * The receiver gets capabilities of its own, which make a link at their first use. It gets max_caps of
 * them at most; the others are closed, and all of them by vrd_receive and vrd_discard, which want none.
 * In place of one that cannot be taken over (for want of memory or descriptors), caps[] says
 * VRD_CAP_NONE.
 *
 * A link holds 16 messages with capabilities; one more waits until the receiver has taken one.
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
 *  INVALID_ARGUMENT    `message` is NULL or its reserved fields are not zero; more than
 *                      VRD_MESSAGE_CAPS_MAX capabilities, one of them twice, or `cap` itself
 *  INVALID_CAPABILITY  also if one of those to be moved is not a capability of this process
 *  PERMISSION_DENIED   also if one of those to be moved lacks GRANT
 *  RESOURCE_BUSY       another thread is about to move one of them; or RECEIVE, while this process has
 *                      live links with senders
 *  PEER_GONE, REVOKED  also if one of those to be moved has ended
 *  QUOTA_EXCEEDED      also too many descriptors of this user on their way between processes
 * While a message waits for room, its capabilities can be used (but not to receive), and closed: then
 * they go with the message if it goes.
 */
VRD_API int vrd_send_message(vrd_cap_t cap, const struct vrd_message *message, int64_t timeout_ns);

/*
 * As vrd_receive_timed, but returns 0. On MESSAGE_TOO_LARGE `len` is the length needed, nothing else is
 * changed, and the capabilities stay with the message.
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
