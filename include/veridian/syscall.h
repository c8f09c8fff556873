/* SPDX-License-Identifier: MIT */
/*
 * syscall.h - the interface as system calls: nine functions over plain numbers, for other languages
 * and for programs written against a kernel's table. Results are 0, a count or a capability when not
 * negative, else VRD_ERR_*. All wait for as long as it takes. Each does what the function named
 * beside it does, with its errors, and no more.
 */
#ifndef VERIDIAN_SYSCALL_H
#define VERIDIAN_SYSCALL_H

#include <veridian/types.h>

VRD_BEGIN_DECLS

#define VRD_SYS_REPLY_MAX 4096 /* bytes: what `reply` of vrd_sys_call has room for */

/* vrd_send. */
VRD_API int64_t vrd_sys_send(uint64_t cap, const uint8_t *msg, size_t len);

/*
 * vrd_receive: returns the length. From an endpoint, vrd_receive_call: if it is a call, the calling
 * thread owes an answer (vrd_sys_reply). A thread owes one at most: if it receives from an endpoint
 * again without answering, or ends, the call is dropped and its caller told VRD_ERR_PEER_GONE.
 */
VRD_API int64_t vrd_sys_receive(uint64_t cap, uint8_t *buf, size_t len);

/*
 * vrd_call: returns the length of the reply, for which `reply` has room for VRD_SYS_REPLY_MAX bytes; a
 * longer one is VRD_ERR_MESSAGE_TOO_LARGE, and lost.
 */
VRD_API int64_t vrd_sys_call(uint64_t cap, const uint8_t *msg, size_t len, uint8_t *reply);

/*
 * vrd_reply. `cap` is a reply capability, or the endpoint: then it answers the call that the calling
 * thread has last received there. VRD_ERR_INVALID_CAPABILITY: it owes no answer there.
 */
VRD_API int64_t vrd_sys_reply(uint64_t cap, const uint8_t *msg, size_t len);

/* vrd_channel_create, vrd_endpoint_create, vrd_cap_close. */
VRD_API int64_t vrd_sys_create_channel(size_t slots, uint64_t *ret_send, uint64_t *ret_recv);
VRD_API int64_t vrd_sys_create_endpoint(uint64_t *ret_id, uint64_t *ret_cap);
VRD_API int64_t vrd_sys_close(uint64_t cap);

/* vrd_cap_grant: returns the capability that names the grant. `perms`: VRD_RIGHT_*. */
VRD_API int64_t vrd_sys_grant_cap(uint64_t cap, uint64_t target_pid, uint32_t perms);

/* vrd_cap_revoke. */
VRD_API int64_t vrd_sys_revoke_cap(uint64_t cap);

VRD_END_DECLS

#endif
