/* SPDX-License-Identifier: MIT */
/*
 * async_channel.h - channels for streaming: calls that never wait, and batches.
 *
 * An asynchronous channel is a channel; every function works on either. These never wait where the
 * plain ones do, and spare the cost of a call for each message.
 */
#ifndef VERIDIAN_ASYNC_CHANNEL_H
#define VERIDIAN_ASYNC_CHANNEL_H

#include <veridian/message.h>
#include <veridian/types.h>

VRD_BEGIN_DECLS

/* As vrd_channel_create. */
VRD_API int vrd_async_channel_create(size_t slots, vrd_cap_t *ret_send, vrd_cap_t *ret_recv);

/* As vrd_send_timed and vrd_receive_timed with timeout 0: CHANNEL_FULL and CHANNEL_EMPTY. */
VRD_API int vrd_send_async(vrd_cap_t cap, const void *data, size_t len);
VRD_API ssize_t vrd_receive_async(vrd_cap_t cap, void *buf, size_t size);

/*
 * Sends messages[0..n) in order and returns how many were sent, at least 1 on success (0 for
 * n == 0). Waits, up to `timeout_ns`, for room for the first; then sends what fits without waiting.
 * An error is returned only if the first message could not be sent: an error at a later one ends
 * the batch before it. Errors as vrd_send_message. n at most INT_MAX.
 */
VRD_API int vrd_send_batch(vrd_cap_t cap, const struct vrd_message *messages, size_t n,
                           int64_t timeout_ns);

/*
 * Receives up to n messages and returns how many. Waits, up to `timeout_ns`, for the first, then
 * takes what is there, but nothing behind 16 KiB of messages over 64 bytes: those are best looked at
 * first, while they are in the cache. Each messages[i] describes its own buffer. Errors as vrd_receive_message,
 * for the first only: what is met later ends the batch before it, leaves messages[i] as it is, and
 * is said by the next receive.
 */
VRD_API int vrd_receive_batch(vrd_cap_t cap, struct vrd_message *messages, size_t n,
                              int64_t timeout_ns);

VRD_END_DECLS

#endif
