/* SPDX-License-Identifier: MIT */
/*
 * channel.h - synchronous message passing: bounded, FIFO for each sender, many senders, one owner.
 *
 * Each process that sends has a link of its own with the receiver: two sealed memory segments, each
 * written by one side only. The receiver merges its links fairly. A message that was sent is whole
 * and in order, or not there at all, whatever happens to its sender.
 *
 * Progress: sending to a ring with room and receiving from a ring with messages are wait-free for a
 * thread that has the capability to itself; threads that share a capability take turns. For many
 * sending threads, a capability each is faster.
 */
#ifndef VERIDIAN_CHANNEL_H
#define VERIDIAN_CHANNEL_H

#include <veridian/types.h>

VRD_BEGIN_DECLS

#define VRD_CHANNEL_SLOTS_DEFAULT 16
#define VRD_CHANNEL_SLOTS_MAX (1u << 20)
#define VRD_IMPORT_SLOTS_MAX (1u << 16) /* of these, an importer's link has: 8 MiB of its memory */
#define VRD_CHANNEL_MESSAGE_DEFAULT ((size_t)1 << 20)

#define VRD_NUMA_PEER UINT32_MAX /* for numa_node: next to the reader, see below */

/*
 * Zero means the default in every field; `reserved` must be zero.
 *
 * Where memory comes from. Each process makes, and is billed for, what it writes: a sender its ring and
 * its messages and loans, the receiver its cursor and its replies. `numa_node` and `huge_pages` are for
 * all of these, in every process that uses the channel: those who import a capability are told.
 *  numa_node   VRD_NUMA_NODE(n): all of it from node n, or the operation that needs it fails.
 *              VRD_NUMA_PEER: from the node on which the process that reads it was last seen, as long
 *              as that has some; what is made before it was seen, as a sender's ring is, from anywhere
 *  huge_pages  of the memory for messages of more than 64 bytes (and their replies, and loans), the
 *              pieces that are at least as large as such a page: several messages each, as many as
 *              max_message_size and max_bytes let there be. If the pool has too few pages for a piece, the
 *              operation that needs it fails (OUT_OF_MEMORY); it is never found out later, by a signal
 */
struct vrd_channel_options {
    size_t slots; /* messages that each sender may have unread, to VRD_CHANNEL_SLOTS_MAX */
    size_t max_message_size; /* bytes; default 1 MiB, as large as memory allows */
    size_t
        max_bytes; /* that each sender may have lent or about to be (loan.h), in whole pages of its
                         memory; not below max_message_size; default four such messages, or 16 MiB if
                         that is more */
    uint32_t huge_pages; /* enum vrd_huge_pages */
    uint32_t numa_node;  /* VRD_NUMA_NODE(n) or VRD_NUMA_PEER */
    uint64_t reserved[12];
};

/*
 * Creates a channel and both its ends, in this process. Memory is taken at first use: 16 slots cost
 * 8 KiB a link in both processes together, 64 slots 16 KiB. Never waits.
 *
 * `slots`: messages that each sender may have unread, 1 to VRD_CHANNEL_SLOTS_MAX.
 *  INVALID_ARGUMENT  slots out of range, an output pointer is NULL, reserved fields not zero, no such
 *                    NUMA node in this machine, or none that this process may use
 *  NOT_SUPPORTED     huge pages of that size, or transparent ones, which this kernel lacks; a NUMA
 *                    node, in a build without libnuma or on a kernel without NUMA
 *  OUT_OF_MEMORY     also: there is not one huge page in the pool
 *  SYSTEM
 */
VRD_API int vrd_channel_create(size_t slots, vrd_cap_t *ret_send, vrd_cap_t *ret_recv);
VRD_API int vrd_channel_create_with(const struct vrd_channel_options *options, vrd_cap_t *ret_send,
                                    vrd_cap_t *ret_recv);

/*
 * Sends `len` bytes, 0 to max_message_size, and waits while the ring is full (vrd_send: forever;
 * vrd_send_timed: up to `timeout_ns`). The data is copied before the call returns. No system call
 * unless the receiver sleeps, this is the first message, or the ring is full.
 *  INVALID_CAPABILITY  not a capability of this process, or closed while waiting
 *  PERMISSION_DENIED   the capability lacks SEND
 *  MESSAGE_TOO_LARGE   len > max_message_size
 *  INVALID_ARGUMENT    data is NULL with len > 0, or a negative timeout
 *  CHANNEL_FULL        timeout 0 and no room now
 *  TIMEOUT             no room for `timeout_ns`
 *  PEER_GONE           the receiver is gone. Where another process holds RECEIVE (pre-forked
 *                      workers), it is said once, what was in flight may be lost, and the next
 *                      send goes to that process
 *  REVOKED             the owner took the right back
 *  PEER_CORRUPT        the receiver broke the protocol
 *  OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_send(vrd_cap_t cap, const void *data, size_t len);
VRD_API int vrd_send_timed(vrd_cap_t cap, const void *data, size_t len, int64_t timeout_ns);

/*
 * Receives one message into `buf`, and waits while there is none (vrd_receive: forever;
 * vrd_receive_timed: up to `timeout_ns`). Returns its length. Spins briefly (it learns for how
 * long that pays), then sleeps without using the CPU.
 *  INVALID_CAPABILITY  not a capability of this process, or closed while waiting
 *  PERMISSION_DENIED   the capability lacks RECEIVE
 *  MESSAGE_TOO_LARGE   the message is longer than `size`; it is kept, and the next receive goes on
 *                      with the other senders first. vrd_receive_message tells the length needed,
 *                      vrd_discard drops the message
 *  INVALID_ARGUMENT    buf is NULL with size > 0, or a negative timeout
 *  CHANNEL_EMPTY       timeout 0 and no message now
 *  TIMEOUT             no message for `timeout_ns`
 *  PEER_GONE           every sender is gone and all that they sent has been received
 *  PEER_CORRUPT        a sender broke the protocol; its link is closed, the others go on. Said once
 *  OUT_OF_MEMORY, SYSTEM
 */
VRD_API ssize_t vrd_receive(vrd_cap_t cap, void *buf, size_t size);
VRD_API ssize_t vrd_receive_timed(vrd_cap_t cap, void *buf, size_t size, int64_t timeout_ns);

VRD_END_DECLS

#endif
