/* SPDX-License-Identifier: MIT */
/*
 * name.h - names that this process has published: a listening socket, and a right of its own to hand
 * on, the near end of a derivation. Who connects becomes an invitation: the accepted socket goes to
 * the object's owner.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <veridian/name.h>

#include "cap/frame.h"

struct source;

/* A derived capability with GRANT, to hand on to those who connect. */
struct name_right {
    int fd;                /* its near end                                                */
    uint64_t far;          /* what its other end is known by, see fd_identity             */
    vrd_cap_t owner;       /* the object's receiving side, if it was made in this process */
    struct frame greeting; /* what to say to those who connect                            */
};

/* Publishes. Takes the right's descriptor. 0 or VRD_ERR_*. */
int name_publish(vrd_cap_t cap, const char *text, const struct vrd_publish_options *options,
                 const struct name_right *right);

/* VRD_ERR_ENDPOINT_NOT_FOUND: not one of ours. */
int name_withdraw(const char *text);

/* Is it one of ours? */
bool name_is_own(const char *text);

/*
 * Asks the `allow` of one of our names about somebody. VRD_ERR_PERMISSION_DENIED: it says no;
 * VRD_ERR_ENDPOINT_NOT_FOUND: not one of ours.
 */
int name_judge(const char *text, const struct vrd_source *who);

/* The capability is being closed. Control lock held. */
void name_forget(vrd_cap_t cap);

/* In a forked child: the parent's names are not ours. */
void name_after_fork(void);

/* With the control lock: somebody connected, or the right has ended. */
void name_source_ready(struct source *source);

/* Without any lock, after the sources were seen to: asks about those who have connected. */
void name_admit(void);
