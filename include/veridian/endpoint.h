/* SPDX-License-Identifier: MIT */
/*
 * endpoint.h - client and server: calls that are answered.
 *
 * An endpoint is a channel of requests together with a way back for each. A client's thread calls and
 * waits for the answer to its own request: many threads of many clients at once, served by as many
 * threads as the server likes, answered in any order, now or much later. What identifies a client
 * (`source` and `badge` of the request) is what the kernel and the owner say, not the client.
 *
 * One capability is both ends: who creates an endpoint can serve it, call it, and export the right to
 * call (VRD_RIGHT_SEND) or the service itself (VRD_RIGHT_RECEIVE, which moves). In a forked child
 * both are inherited; a child that is only to be a client exports VRD_RIGHT_SEND, imports that, and
 * closes what it inherited, so that it learns when the server is gone: it holds the service itself as
 * long as it holds that capability.
 *
 * Each client process may have 16 calls under way, and 16 requests unread.
 */
#ifndef VERIDIAN_ENDPOINT_H
#define VERIDIAN_ENDPOINT_H

#include <veridian/channel.h>
#include <veridian/message.h>
#include <veridian/types.h>

VRD_BEGIN_DECLS

#define VRD_ENDPOINT_CALLS_MAX 16 /* that one client process may have under way at an endpoint */

/*
 * Creates an endpoint: *ret_id is a number for logs, never 0 and never used twice in this process;
 * *ret_cap has SEND, RECEIVE, GRANT and REVOKE. Memory is taken at first use. Never waits.
 * _with: `options` as for a channel (NULL: all defaults); slots are requests that each client may
 * have unread, max_message_size limits requests and replies.
 *  INVALID_ARGUMENT  an output pointer is NULL, options out of range
 *  NOT_SUPPORTED     as vrd_channel_create_with
 *  OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_endpoint_create(uint64_t *ret_id, vrd_cap_t *ret_cap);
VRD_API int vrd_endpoint_create_with(const struct vrd_channel_options *options, uint64_t *ret_id,
                                     vrd_cap_t *ret_cap);

/*
 * Sends a request and waits for its reply, both within `timeout_ns`. Returns the length of the reply.
 * The data is copied before the call waits. After TIMEOUT the request may still be served; the reply
 * is dropped, and until then the call counts as one under way.
 *  INVALID_CAPABILITY  not a capability of this process, or closed while waiting
 *  PERMISSION_DENIED   the capability lacks SEND
 *  NOT_SUPPORTED       a channel's capability: nobody would reply
 *  MESSAGE_TOO_LARGE   the request is over max_message_size; or the reply is longer than `size`
 *                      (vrd_call_message tells its length), and lost
 *  INVALID_ARGUMENT    a buffer is NULL with a size > 0, or a negative timeout
 *  ENDPOINT_BUSY       timeout 0, and no room for a request, or 16 calls under way
 *  TIMEOUT             no reply for `timeout_ns`; with 0, when the request was sent, at once
 *  PEER_GONE           the server is gone, or has dropped this request unanswered. The request may
 *                      have been served. Where another process holds RECEIVE, the next call goes to
 *                      that process
 *  REVOKED             the owner took the right back
 *  PEER_CORRUPT        the server broke the protocol
 *  OUT_OF_MEMORY, QUOTA_EXCEEDED, SYSTEM
 */
VRD_API ssize_t vrd_call(vrd_cap_t cap, const void *request, size_t len, void *reply, size_t size,
                         int64_t timeout_ns);

/*
 * The same with opcode and flags both ways; returns 0. `request` is as for vrd_send_message, `reply`
 * as for vrd_receive_message: on MESSAGE_TOO_LARGE its len is the length that the reply had, if it
 * was the reply. Its badge and its source are 0. `request` and `reply` may be the same. Capabilities
 * travel both ways, as with vrd_send_message, with its errors: those of the request have moved once it
 * was sent (if there is no reply, vrd_cap_info tells), and those of a reply that is lost are closed.
 */
VRD_API int vrd_call_message(vrd_cap_t cap, const struct vrd_message *request,
                             struct vrd_message *reply, int64_t timeout_ns);

/*
 * Receives a request as vrd_receive_message receives a message, with the same errors, and a reply
 * capability for it: good for one vrd_reply, in any order, by any thread of this process. If it was
 * sent by vrd_send and nobody waits for an answer, *ret_reply is VRD_CAP_NONE. Other receiving
 * functions work on endpoints too, and drop the calls that they receive unanswered.
 *  NOT_SUPPORTED     a channel's capability
 *  INVALID_ARGUMENT  `request` or `ret_reply` is NULL, reserved fields not zero
 */
VRD_API int vrd_receive_call(vrd_cap_t cap, struct vrd_message *request, vrd_cap_t *ret_reply,
                             int64_t timeout_ns);

/*
 * Answers a call. Never waits, and uses the reply capability up, whatever it returns; where the
 * caller gets no answer by it, it is told at once. vrd_cap_close on a reply capability drops the call.
 *
 * Reply capabilities move in messages, as others do, also to other processes, and on from there. Their
 * answers go by the process that received the call, for as long as it holds the endpoint: the reactor sees
 * to it, whatever the application does. What is answered in this way succeeds also if the caller no
 * longer waits.
 *  INVALID_CAPABILITY  not a reply capability of this process, or used already
 *  TIMEOUT             the caller no longer waits
 *  PEER_GONE           the caller is gone
 *  REVOKED             the caller's right was taken back
 *  MESSAGE_TOO_LARGE   over the endpoint's max_message_size; the caller is told PEER_GONE
 *  INVALID_ARGUMENT    data is NULL with len > 0; the caller is told PEER_GONE
 *  OUT_OF_MEMORY, QUOTA_EXCEEDED, SYSTEM: the caller is told PEER_GONE
 */
VRD_API int vrd_reply(vrd_cap_t reply, const void *data, size_t len);

/*
 * The same with opcode and flags and up to VRD_MESSAGE_CAPS_MAX capabilities, which move or stay as
 * with vrd_send_message, with its errors; the caller gets those that it wants (max_caps).
 */
VRD_API int vrd_reply_message(vrd_cap_t reply, const struct vrd_message *message);

/*
 * What a server's loop does: answers *reply, if it is not VRD_CAP_NONE, and receives the next request
 * into `next`, and its reply capability into *reply. That the caller is gone or no longer waits is no
 * error here. On failure *reply is VRD_CAP_NONE: it is used up, or was none.
 */
VRD_API int vrd_reply_receive(vrd_cap_t cap, vrd_cap_t *reply, const void *data, size_t len,
                              struct vrd_message *next, int64_t timeout_ns);

VRD_END_DECLS

#endif
