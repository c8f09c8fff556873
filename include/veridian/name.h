/* SPDX-License-Identifier: MIT */
/*
 * name.h - names for capabilities, without a broker.
 *
 * A name is a listening socket in the runtime directory: VERIDIAN_RUNTIME_DIR, else
 * XDG_RUNTIME_DIR/veridian, else /run/veridian (a symbolic link in place of one of the latter two is no
 * directory, to publish in or to connect through). The name confers no right by itself: the mode of its
 * file and, where wanted, a function of the publisher's say who gets a capability. (The idea is that
 * of Unix sockets with peer credentials, as D-Bus and systemd use them.)
 *
 * A process that dies leaves its names behind as files that nobody listens to; whoever publishes
 * the name next takes it over. A forked child has none of its parent's names, but keeps them alive,
 * as it does with pipe ends, until its first use of the library, or exec.
 */
#ifndef VERIDIAN_NAME_H
#define VERIDIAN_NAME_H

#include <stdbool.h>
#include <veridian/message.h>
#include <veridian/types.h>

VRD_BEGIN_DECLS

#define VRD_NAME_MAX 64

/* Zero means the default in every field; `reserved` must be zero. */
struct vrd_publish_options {
    uint32_t mode;   /* of the file, who may connect: default 0600, only this user              */
    uint32_t rights; /* of those who connect, of SEND, GRANT and REVOKE: default SEND           */
    /*
     * Asked for each connection, with the kernel's word on who connects: false refuses. Called by
     * the library's own thread (or by vrd_reactor_dispatch), never twice at a time, without locks:
     * it may use the library, and vrd_unpublish its own name.
     */
    bool (*allow)(const struct vrd_source *who, void *user);
    void *user;
    uint64_t reserved[4];
};

/*
 * Publishes a capability: who connects to `name` gets one that is derived from it. What they get is
 * revoked by vrd_cap_revoke(cap). The owner of the object serves them, this process introduces them,
 * until vrd_unpublish, until `cap` is closed, or until this process ends. Waits for other processes
 * that are publishing at this moment, for a second at most.
 *
 * `name`: 1 to VRD_NAME_MAX printable characters without space and '/', not beginning with '.'.
 *  INVALID_CAPABILITY  not a capability of this process
 *  PERMISSION_DENIED   `cap` lacks GRANT, or one of the rights; or the directory cannot be written
 *  INVALID_ARGUMENT    the name, the mode, the rights, reserved fields not zero
 *  NAME_IN_USE         a live process has published it, or the file is something else
 *  RESOURCE_BUSY       somebody keeps the directory locked
 *  PEER_GONE, REVOKED  `cap` has ended
 *  QUOTA_EXCEEDED, OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_publish(vrd_cap_t cap, const char *name, const struct vrd_publish_options *options);

/*
 * Withdraws a name of this process, and removes its file. Capabilities that others got by it stay.
 * Waits until `allow` is not being called; afterwards it never is.
 *  ENDPOINT_NOT_FOUND  this process has not published it
 *  INVALID_ARGUMENT    not a name
 */
VRD_API int vrd_unpublish(const char *name);

/*
 * Gets a capability from whoever has published `name`. Waits up to `timeout_ns`, in all, for a publisher
 * to appear and to answer, whatever it does meanwhile; with 0 it does not wait for one to appear, but
 * gives one that is there a second to answer. The directory of names may come later, too. Before it sleeps
 * it looks for the answer for up to 0.2 ms. Whose it is, vrd_cap_info tells once the owner has answered.
 * A process that connects a second time within a second keeps a page and two descriptors ready for the next
 * time, until it has not connected for a second.
 *  ENDPOINT_NOT_FOUND  nobody has published the name, and the call was not to wait
 *  ENDPOINT_BUSY       too many wait for the publisher, and the call was not to wait
 *  TIMEOUT             nobody had by the end of the time, or whoever has did not answer
 *  PERMISSION_DENIED   the file's mode or the publisher refuses
 *  PEER_CORRUPT        the publisher broke the protocol
 *  INVALID_ARGUMENT    not a name, a negative timeout, `ret` is NULL
 *  QUOTA_EXCEEDED, OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_connect(const char *name, int64_t timeout_ns, vrd_cap_t *ret);

VRD_END_DECLS

#endif
