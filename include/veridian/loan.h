/* SPDX-License-Identifier: MIT */
/*
 * loan.h - messages that are not copied: written in place, sent, read in place, given back. What that
 * costs does not grow with their size.
 *
 * The sender borrows room in memory that the receiver can read but not write, writes its message there
 * and sends it. The receiver gets a view: the same memory, at an address of its own, for as long as it
 * likes. Then the room is the sender's again. The two need not agree on anything: whatever was sent,
 * lent or copied, can be received as a view or into a buffer.
 *
 * The memory is the sender's: it alone is billed, and each of a channel's senders has its own. It grows
 * with what is needed, up to the channel's `max_bytes`; what has long been idle is given back in
 * pieces. A sender may have 256 messages lent at a time. A view that is held keeps its own room and
 * number, and stops nothing else. In a process that runs on jemalloc 5.3 and has VERIDIAN_HEAP=jemalloc in its
 * environment, jemalloc says where in it a piece is.
 *
 * While it is viewed, the receiver cannot be harmed by the memory, whatever happens to the sender; but
 * a hostile sender can change what it says, as often as it likes. A receiver that does not trust the
 * sender copies what it checks, and then uses the copy.
 */
#ifndef VERIDIAN_LOAN_H
#define VERIDIAN_LOAN_H

#include <veridian/message.h>
#include <veridian/types.h>

VRD_BEGIN_DECLS

#define VRD_LOANS_MAX 256 /* messages of one sender that may be lent, sent or not released */

/* A loan: `data` is to be written to, the others but size may be set. The rest is the library's. */
struct vrd_loan {
    void *data;      /* aligned to 64 bytes; NULL: no loan */
    size_t size;     /* bytes that may be written          */
    size_t len;      /* bytes to send; at first `size`     */
    uint32_t opcode; /* as in struct vrd_message           */
    uint32_t flags;
    vrd_cap_t cap;
    void *lender;
    void *piece;
    uint64_t reserved[4];
};

/* A view: read-only. The members are as in struct vrd_message; the rest is the library's. */
struct vrd_view {
    const void *data; /* NULL: no view */
    size_t len;
    uint32_t opcode;
    uint32_t flags;
    uint64_t badge;
    struct vrd_source source;
    void *memory;
    uint64_t loan;
    uint64_t reserved[4];
};

/*
 * Borrows `size` bytes, 0 to max_message_size, to send through `cap`, and waits while there is no room
 * (vrd_loan: forever; vrd_loan_timed: up to `timeout_ns`). What they contain is not defined. A loan is
 * one thread's at a time; it ends with vrd_loan_send or vrd_loan_cancel, and until then it can be
 * written to, whatever becomes of the capability and the receiver. It is this process's: a forked
 * child can cancel it, no more.
 *  INVALID_ARGUMENT   ret is NULL, or a negative timeout
 *  MESSAGE_TOO_LARGE  size > max_message_size
 *  CHANNEL_FULL       timeout 0, and no room
 *  TIMEOUT            no room for `timeout_ns`: what was lent has not been released, nor what is about to
 *                     be sent (also by this thread) been sent or cancelled
 *  OUT_OF_MEMORY      also no room for `max_bytes`
 * and all others as vrd_send_timed.
 */
VRD_API int vrd_loan(vrd_cap_t cap, size_t size, struct vrd_loan *ret);
VRD_API int vrd_loan_timed(vrd_cap_t cap, size_t size, int64_t timeout_ns, struct vrd_loan *ret);

/*
 * Sends the first `len` bytes of a loan, in order with everything else that is sent through the
 * capability, and waits up to `timeout_ns` while the ring is full. On success the loan is over: its
 * memory must not be touched any more, and *loan is no loan. On failure it stays a loan, to be sent
 * again or cancelled.
 *  INVALID_ARGUMENT    no loan, len > size, or a negative timeout
 *  INVALID_CAPABILITY  the capability that it was borrowed through is closed
 *  CHANNEL_FULL        timeout 0, and no room, or VRD_LOANS_MAX messages are lent
 *  PEER_GONE           also: the receiver for which it was borrowed is gone. Where another process holds
 *                      RECEIVE, a new loan is for that process
 * and all others as vrd_send_timed.
 */
VRD_API int vrd_loan_send(struct vrd_loan *loan, int64_t timeout_ns);

/*
 * Calls with the loan as the request, which was borrowed through an endpoint's capability, and waits for
 * the reply into `reply`, both within `timeout_ns`. Returns its length. The loan is over once the request
 * was sent, even if there is no reply: then loan->data is NULL.
 *  INVALID_ARGUMENT  no loan, len > size, reply is NULL with size > 0, or a negative timeout
 *  ENDPOINT_BUSY     also VRD_LOANS_MAX messages are lent
 *  PEER_GONE         also as vrd_loan_send
 * and all others as vrd_call.
 */
VRD_API ssize_t vrd_call_loan(struct vrd_loan *loan, void *reply, size_t size, int64_t timeout_ns);

/*
 * Borrows `size` bytes, 0 to max_message_size, to answer a call with that was received with `reply`. Never
 * waits. vrd_loan_send then answers, whole or less of it, and uses the reply capability up; it never waits,
 * either. The loan is over with it, whatever it returns, unless that is INVALID_ARGUMENT or
 * INVALID_CAPABILITY: the call was answered otherwise, closed or moved meanwhile; or the endpoint was
 * closed. Its other errors are those of vrd_reply. vrd_loan_cancel leaves the call as it was.
 *
 * The room is the server's memory, which each of a client's 16 calls under way has for itself, and keeps for
 * the next answers. Where another process has received the call, it is copied on its way there.
 *  INVALID_ARGUMENT    ret is NULL
 *  INVALID_CAPABILITY  not a reply capability of this process, or used already
 *  MESSAGE_TOO_LARGE   size > max_message_size
 *  RESOURCE_BUSY       there is a loan for this call already
 *  PEER_GONE, REVOKED  the caller is gone, or its right was taken back; vrd_reply or vrd_cap_close ends
 *                      the call
 *  OUT_OF_MEMORY, QUOTA_EXCEEDED, SYSTEM: the call still awaits its answer
 */
VRD_API int vrd_reply_loan(vrd_cap_t reply, size_t size, struct vrd_loan *ret);

/*
 * Ends a loan that is not to be sent. Its room is free at once. Never waits.
 *  INVALID_ARGUMENT  no loan
 *  OUT_OF_MEMORY     in a forked child, or a thread, that has not used the library yet
 */
VRD_API int vrd_loan_cancel(struct vrd_loan *loan);

/*
 * Receives one message as a view, and waits up to `timeout_ns` while there is none. What was lent is
 * viewed where it is; of anything else the view is a copy. Capabilities that come with the message are
 * closed, as by vrd_receive. The view stays as it is until it is released, whatever becomes of the
 * capability, the sender and its rights. A forked child has views of its own of the same memory, but
 * it is the parent's release that counts for the sender.
 *  INVALID_ARGUMENT  ret is NULL, or a negative timeout
 *  OUT_OF_MEMORY     also no memory for the copy; the message is kept
 * and all others as vrd_receive_timed, but for MESSAGE_TOO_LARGE.
 */
VRD_API int vrd_receive_view(vrd_cap_t cap, struct vrd_view *ret, int64_t timeout_ns);

/*
 * As vrd_receive_call, with the request as a view. It can be released before or after the reply.
 *  INVALID_ARGUMENT  request or ret_reply is NULL, or a negative timeout
 *  OUT_OF_MEMORY     also no memory for the copy; the request is kept
 * and all others as vrd_receive_call, but for MESSAGE_TOO_LARGE.
 */
VRD_API int vrd_receive_call_view(vrd_cap_t cap, struct vrd_view *request, vrd_cap_t *ret_reply,
                                  int64_t timeout_ns);

/*
 * As vrd_call and vrd_call_loan, with the answer as a view: what does not fit a slot (64 bytes) is read
 * where the server wrote it. Its badge and its source are 0; its opcode and flags are the answer's. Until it
 * is released, it counts as one of the VRD_ENDPOINT_CALLS_MAX calls that a link can have under way: who keeps 16 waits for
 * himself. Returns 0.
 *  INVALID_ARGUMENT  also `reply` is NULL
 *  OUT_OF_MEMORY     also no memory for the copy; the answer is lost
 * and all others as vrd_call and vrd_call_loan, but for MESSAGE_TOO_LARGE for want of room for the answer.
 */
VRD_API int vrd_call_view(vrd_cap_t cap, const void *request, size_t len, struct vrd_view *reply,
                          int64_t timeout_ns);
VRD_API int vrd_call_loan_view(struct vrd_loan *request, struct vrd_view *reply,
                               int64_t timeout_ns);

/*
 * Releases a view, in any order with others, by any thread. Its memory must not be touched any more,
 * and *view is no view. Never waits.
 *  INVALID_ARGUMENT  no view
 *  OUT_OF_MEMORY     in a forked child, or a thread, that has not used the library yet
 */
VRD_API int vrd_view_release(struct vrd_view *view);

VRD_END_DECLS

#endif
