/* SPDX-License-Identifier: MIT */
/*
 * capability.h - rights to an object, held like a file descriptor.
 *
 * Behind each capability is a socket whose other end belongs to the object's owner: holding it is
 * the right, passing it on is the grant, its hang-up is the death notice. There are no names that
 * confer rights. (The model is that of seL4 and Zircon; the kernel object that enforces it is an
 * AF_UNIX socket and a sealed memfd.)
 *
 * fork: a child inherits capabilities as it inherits pipe ends, under the same numbers. Each process
 * closes those that it does not use, or the other side never sees the end. A child that uses an
 * inherited capability gets a link of its own, at its first use. A child that closes all descriptors
 * that it does not know (closefrom, close_range) may use their numbers for others, if it does so before
 * its first use of the library: inherited capabilities are then PEER_GONE.
 */
#ifndef VERIDIAN_CAPABILITY_H
#define VERIDIAN_CAPABILITY_H

#include <veridian/types.h>

VRD_BEGIN_DECLS

#define VRD_RIGHT_SEND (UINT32_C(1) << 0)    /* may send messages                        */
#define VRD_RIGHT_RECEIVE (UINT32_C(1) << 1) /* may receive; unique: an export moves it  */
#define VRD_RIGHT_GRANT (UINT32_C(1) << 2)   /* may derive and export                    */
#define VRD_RIGHT_REVOKE (UINT32_C(1) << 3)  /* may revoke what was derived from it      */

#define VRD_RIGHT_READ (UINT32_C(1) << 4)  /* regions: may map for reading             */
#define VRD_RIGHT_WRITE (UINT32_C(1) << 5) /* regions: may map for writing             */

/* The guide's names. */
#define VRD_RIGHTS_SEND_ONLY VRD_RIGHT_SEND
#define VRD_RIGHTS_RECEIVE_ONLY VRD_RIGHT_RECEIVE
#define VRD_RIGHTS_READ_ONLY VRD_RIGHT_READ
#define VRD_RIGHTS_READ_WRITE (VRD_RIGHT_READ | VRD_RIGHT_WRITE)

enum vrd_object_kind {
    VRD_OBJECT_NONE = 0,
    VRD_OBJECT_CHANNEL = 1,
    VRD_OBJECT_ENDPOINT = 2,
    VRD_OBJECT_REGION = 3,
    VRD_OBJECT_REPLY = 4, /* a call's, that has come from another process */
};

/* Why a capability has ended. */
enum vrd_loss {
    VRD_LOSS_NONE = 0,           /* it has not, as far as is known here      */
    VRD_LOSS_CLOSED = 1,         /* the owner closed the object              */
    VRD_LOSS_OWNER_GONE = 2,     /* the owner ended without a word           */
    VRD_LOSS_REVOKED = 3,        /* revoked, by the one it was derived from  */
    VRD_LOSS_PARENT_REVOKED = 4, /* what it was derived from was revoked     */
    VRD_LOSS_POLICY = 5,         /* the owner's policy or limits             */
    VRD_LOSS_CORRUPT = 6,        /* one side broke the protocol              */
};

/* What vrd_cap_info tells. `reserved` is zero today. */
struct vrd_cap_info {
    uint32_t kind;           /* enum vrd_object_kind                                            */
    uint32_t rights;         /* VRD_RIGHT_*                                                     */
    uint64_t badge;          /* 0: unbadged                                                     */
    uint64_t generation;     /* of the handle                                                   */
    pid_t owner;             /* who receives: own pid at the owner, 0 while nobody has answered */
    uint32_t links;          /* live links of this process through this capability              */
    size_t slots;            /* messages that one link holds                                    */
    size_t max_message_size; /* bytes                                                           */
    uint32_t depth;          /* derivations from the object's first capability; the owner's: 0  */
    uint32_t loss;           /* enum vrd_loss                                                   */
    uint64_t reserved[7];
};

/* A capability that this process has lost. `reserved` is zero today. */
struct vrd_notice {
    vrd_cap_t cap;
    uint64_t badge;
    uint32_t loss;      /* enum vrd_loss                                            */
    uint32_t forgotten; /* notices before this one for which there was no room left */
    uint64_t reserved[2];
};

/*
 * Closes the capability in this process. Threads that wait on it return
 * VRD_ERR_INVALID_CAPABILITY. What was sent before stays readable for the receiver. Never waits for
 * a peer.
 *  INVALID_CAPABILITY  not a capability of this process
 */
VRD_API int vrd_cap_close(vrd_cap_t cap);

/*
 * Fills `ret`. Never waits.
 *  INVALID_CAPABILITY  not a capability of this process
 *  INVALID_ARGUMENT    `ret` is NULL
 */
VRD_API int vrd_cap_info(vrd_cap_t cap, struct vrd_cap_info *ret);

/*
 * Makes another capability for the same object in this process, with `rights`, a subset of those of
 * `cap` that includes SEND, or READ where it is a region (see region.h). It belongs to `cap` in the tree of derivations that the object's owner
 * keeps. It takes a few hundred bytes and a descriptor; its link is made at its first use. Never
 * waits.
 *
 * `badge`, not 0, arrives in vrd_message.badge with all that is sent with the new capability and with
 * what is derived from it, whoever sends it: the owner adds it, not the sender. It can be put on a
 * capability that has none.
 *  INVALID_CAPABILITY  not a capability of this process
 *  PERMISSION_DENIED   `cap` lacks GRANT, or one of `rights`, or has a badge and is to have another
 *  INVALID_ARGUMENT    rights without SEND (READ), with RECEIVE (it is unique: export moves it), or
 *                      unknown; a badge of 0, or of a region; `ret` is NULL
 *  PEER_GONE, REVOKED  `cap` has ended
 *  QUOTA_EXCEEDED      too many derivations that the owner has not looked at
 *  OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_cap_derive(vrd_cap_t cap, uint32_t rights, vrd_cap_t *ret);
VRD_API int vrd_cap_derive_badged(vrd_cap_t cap, uint32_t rights, uint64_t badge, vrd_cap_t *ret);

/*
 * Takes back all that was ever derived from `cap`, by whomever, in whatever process, to any depth,
 * used or not yet used; `cap` itself stays. Through the capability with RECEIVE: every capability
 * that can send, and nobody can send any more. What the revoked ones have sent and the owner has not
 * yet received is dropped; when the call has returned, nothing of it will be received. Their holders,
 * also those that wait, get VRD_ERR_REVOKED; vrd_cap_info and vrd_notices_take tell more. Where it is
 * hundreds, those that wait are woken, and the reason (whether it was they or a parent) arrives, soon
 * after the call has returned.
 *
 * The owner's process does it, also while its program is busy. Where that is another process, the
 * call waits for its answer. Processes that share RECEIVE by fork have a tree each: revoking reaches
 * the sockets of all, and the links of the process that does it.
 *  INVALID_CAPABILITY  not a capability of this process, or closed meanwhile
 *  PERMISSION_DENIED   `cap` has neither REVOKE nor RECEIVE
 *  PEER_GONE, REVOKED, PEER_CORRUPT  `cap` has ended itself
 *  TIMEOUT             no answer for 5 seconds: the owner, which is stopped, or has never received
 *                      anything, does it when it comes to it
 *  OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_cap_revoke(vrd_cap_t cap);

/*
 * Takes up to `n` notices of capabilities that this process has lost, oldest first, and returns how
 * many. A capability has one at most: when its link ends for good, or when something is tried with
 * one that was not in use. (One that was born with its channel, or inherited from a parent process,
 * is lost only with the last holder of RECEIVE, and that shows at the next use.) The last 1024 are
 * kept. Never waits.
 *  INVALID_ARGUMENT  `ret` is NULL with n > 0, or n over INT_MAX
 *  OUT_OF_MEMORY
 */
VRD_API int vrd_notices_take(struct vrd_notice *ret, size_t n);

/*
 * Makes an invitation: a descriptor (close-on-exec) that some process turns into a capability with
 * vrd_cap_import, once. Pass it on by fork and exec (clear FD_CLOEXEC) or SCM_RIGHTS; the caller
 * owns it and closes it after passing it on. Closing it unused withdraws it.
 *
 * `rights` is a subset of those of `cap`, which itself keeps them, except for RECEIVE: that is
 * unique, it moves with all that is queued in the object's sockets, and `cap` is closed by it. A region
 * wants READ among them; one that was moved (VRD_TRANSFER_MOVE) moves on.
 * Never waits.
 *  INVALID_CAPABILITY  not a capability of this process
 *  PERMISSION_DENIED   `cap` lacks GRANT, or one of `rights`
 *  INVALID_ARGUMENT    no rights, unknown rights, RECEIVE together with SEND (except for an endpoint,
 *                      which moves whole), or `ret_fd` is NULL
 *  RESOURCE_BUSY       RECEIVE, while this process has live links with senders; a region to be frozen
 *                      or moved, see vrd_region_create_capability
 *  PEER_GONE           nobody holds RECEIVE any more
 *  QUOTA_EXCEEDED      too many invitations that the owner has not looked at; RECEIVE: more unused
 *                      invitations (some hundreds) than can move with it
 *  OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_cap_export(vrd_cap_t cap, uint32_t rights, int *ret_fd);

/*
 * Turns an invitation into a capability. Takes `fd`, and closes it, also on failure. Sends one
 * frame and returns: it does not wait for the owner, and a refusal is the next operation's error.
 * The ring is the importer's memory: it has as many slots as the channel, but VRD_IMPORT_SLOTS_MAX at
 * most, whatever the maker of the invitation says (vrd_cap_info tells). A region is checked, not
 * yet mapped, and nobody is told.
 *  INVALID_ARGUMENT    not a descriptor of a socket of ours
 *  PEER_GONE           the invitation was withdrawn or used, or the owner is gone
 *  PEER_CORRUPT        what came with it is not what the protocol says; the memory of a region has
 *                      holes, or is not sealed as its mode wants it
 *  QUOTA_EXCEEDED, OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_cap_import(int fd, vrd_cap_t *ret);

VRD_END_DECLS

#include <veridian/inbox.h> /* vrd_cap_grant */
#include <veridian/name.h>  /* vrd_publish, vrd_connect */

#endif
