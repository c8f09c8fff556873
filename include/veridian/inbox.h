/* SPDX-License-Identifier: MIT */
/*
 * inbox.h - capabilities given to a process by its number, without a broker.
 *
 * A process that takes part opens an inbox: a channel published under the name "inbox-PID" (see
 * name.h). Grants arrive there as messages without data, with one capability each, and with the
 * kernel's word on who granted. Both sides agree to it by having an inbox, and each checks the other
 * with the kernel's credentials: by default, processes of the same user give to each other.
 *
 * A process number can be used again once the process has died; who grants to a number knows whom it
 * means, because it started that process or holds a pidfd, or had a message from it.
 */
#ifndef VERIDIAN_INBOX_H
#define VERIDIAN_INBOX_H

#include <stdbool.h>
#include <veridian/message.h>
#include <veridian/types.h>

VRD_BEGIN_DECLS

#define VRD_INBOX_MESSAGE_MAX 64 /* bytes of data; grants have none */

/* Zero means the default in every field; `reserved` must be zero. */
struct vrd_inbox_options {
    uint32_t mode; /* of the name's file: default 0600 */
    uint32_t padding;
    /*
     * May grants be exchanged with that process, either way? By default, if its user is ours. Called
     * as vrd_publish_options.allow is, and by vrd_cap_grant in its caller's thread; never twice at a
     * time. May be asked again about the same.
     */
    bool (*allow)(const struct vrd_source *who, void *user);
    void *user;
    uint64_t reserved[4];
};

/*
 * Opens this process's inbox: *ret_recv is a channel's capability with RECEIVE. Receive with
 * vrd_receive_message and max_caps; whoever may connect may also send other messages there, with data
 * or with several capabilities. vrd_cap_close closes the inbox and removes its name. A forked child
 * opens one of its own. `options` may be NULL.
 *  NAME_IN_USE         it is open already, or somebody else uses its name
 *  PERMISSION_DENIED   the runtime directory cannot be written
 *  INVALID_ARGUMENT    `ret_recv` is NULL, the mode, reserved fields not zero
 *  RESOURCE_BUSY       somebody keeps the directory locked
 *  QUOTA_EXCEEDED, OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_inbox_open(const struct vrd_inbox_options *options, vrd_cap_t *ret_recv);

/*
 * Gives process `target` a capability with `rights`, a subset of those of `cap` that includes SEND, or
 * READ where it is a region. *ret names the grant here: vrd_cap_revoke(*ret) takes back what was given
 * (if `cap` has REVOKE; so has *ret, and GRANT), closing it does not. Waits for the other process's
 * library, not for its program, and a second at most.
 *  NOT_INITIALIZED     this process has no inbox
 *  PROCESS_NOT_FOUND   there is no process `target`
 *  NO_BROKER           it has no inbox, or its inbox went away
 *  PERMISSION_DENIED   either side refuses the other, or `target` is not who listens at its inbox;
 *                      `cap` lacks GRANT, or one of `rights`
 *  TIMEOUT             it has not answered
 *  ENDPOINT_BUSY       too many are waiting for its answer
 *  INVALID_ARGUMENT    `target` is not positive; rights as for vrd_cap_derive; `ret` is NULL
 *  INVALID_CAPABILITY, PEER_GONE, REVOKED, QUOTA_EXCEEDED, OUT_OF_MEMORY, SYSTEM: as vrd_cap_derive
 */
VRD_API int vrd_cap_grant(vrd_cap_t cap, pid_t target, uint32_t rights, vrd_cap_t *ret);

VRD_END_DECLS

#endif
