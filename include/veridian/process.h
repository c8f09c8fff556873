/* SPDX-License-Identifier: MIT */
/*
 * process.h - the library in this process: its control loop, readiness for schedulers, and the ends
 * of other processes.
 *
 * By default a thread of the library's own (with all signals blocked) serves what comes beside
 * messages, from the first wait that really sleeps, or the first name, descriptor, lent region or function
 * that needs it, a revocation of hundreds, or a second connection by name within a second (vrd_connect). In
 * no-thread mode there never is one: the application's loop watches vrd_reactor_fd and
 * calls vrd_reactor_dispatch, and calls that wait do the same while they wait. (One exception: a descriptor
 * that a peer sent where it has no business, and that is neither a socket nor a memfd, is closed by a thread that
 * lives as long as that takes: it may be on a file system that is the peer's program.)
 *
 * fork: a child has its own loop, and its parent's mode. It asks anew for vrd_reactor_fd and
 * vrd_cap_fd; the descriptors that it inherited under those numbers are its parent's, and it closes
 * them. Functions that its parent has registered are called in the child for what the child does.
 */
#ifndef VERIDIAN_PROCESS_H
#define VERIDIAN_PROCESS_H

#include <veridian/types.h>

VRD_BEGIN_DECLS

#define VRD_INIT_NO_THREAD (UINT64_C(1) << 0)

/*
 * What one other process may have this one keep for it, as the receiver of its messages and as the maker of
 * regions. Who wants more is refused, and nobody else is concerned: the link or capability that would be too
 * much, or the link for whose messages it was, ends REVOKED (its vrd_loss is POLICY).
 *
 * 0 is the default: no limit but its share. A process may have 7/8 of the descriptors (RLIMIT_NOFILE),
 * of the mappings (60000) and of the machine's memory, and always at most seven times what is left of each;
 * a user of another uid, with all processes, as much as is left; one of our own uid 15 times that.
 */
struct vrd_init_options {
    uint64_t flags;            /* VRD_INIT_*                                            */
    uint64_t peer_links;       /* live links                                            */
    uint64_t peer_descriptors; /* 1 for each link, 1 for each capability not in use, 1 for each
                                  in a message that was not received yet, 1 for the process
                                  once it has a link                                    */
    uint64_t peer_bytes;       /* of memory that is mapped: rings (8 KiB and up a link),
                                  large messages, loans, large answers to it            */
    uint64_t reserved[12];     /* must be zero                                          */
};

/*
 * Sets the library up; optional, and only before any other call of this process.
 *  INVALID_ARGUMENT  unknown flags, reserved fields not zero
 *  RESOURCE_BUSY     the library is in use already
 *  OUT_OF_MEMORY
 */
VRD_API int vrd_init(const struct vrd_init_options *options);

/*
 * A descriptor (the library's: do not read or close it) that is readable while there is something to
 * dispatch. For poll, epoll and the like, level-triggered.
 *  NOT_INITIALIZED  not in no-thread mode
 *  OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_reactor_fd(void);

/*
 * Does what there is to do now, and calls the functions registered below; never waits. More may be
 * left: the descriptor says so.
 *  NOT_INITIALIZED  not in no-thread mode
 */
VRD_API int vrd_reactor_dispatch(void);

/*
 * Registers a function that is told when a capability can be used for which an operation that was not
 * to wait, or no longer, has said CHANNEL_EMPTY, CHANNEL_FULL or TIMEOUT since. `cap` may have been
 * closed meanwhile, and there may be nothing after all: once for each time that it runs empty. Called
 * by the library's own thread (or by vrd_reactor_dispatch, or by a call that waits in no-thread mode),
 * without locks: it may use the library, but not wait. For user-level schedulers. NULL: none. One for
 * the process; when this returns, the one before is not being called and will not be.
 *  OUT_OF_MEMORY
 */
typedef void vrd_ready_fn(vrd_cap_t cap, void *user);
VRD_API int vrd_on_ready(vrd_ready_fn *function, void *user);

/*
 * Registers a function that is told when a process has died that this one has a link with, or had one
 * not long ago: once for each, when its links have ended and the rights that it alone held are gone.
 * What it has sent can still be received. Needs a kernel with pidfds (Linux 5.3), and one descriptor
 * for each such process. Called, and taken back by NULL, like the function above.
 *  OUT_OF_MEMORY
 */
typedef void vrd_exit_fn(pid_t pid, void *user);
VRD_API int vrd_process_on_exit(vrd_exit_fn *function, void *user);

/*
 * Ends all links that this process has with process `pid`, whichever sends, and withdraws the rights
 * that those links came by: the other process finds REVOKED, or PEER_GONE where it received. What of its
 * messages has not been received is dropped. What it inherited by fork it may link with again. Not
 * needed when a process dies. Returns how many links.
 *  PROCESS_NOT_FOUND  there is no link with it
 */
VRD_API int vrd_process_cleanup(pid_t pid);

VRD_END_DECLS

#endif
