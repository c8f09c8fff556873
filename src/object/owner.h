/* SPDX-License-Identifier: MIT */
/*
 * owner.h - the owner's sockets: which right each confers, and what comes over them. It answers HELLOs,
 * derives and revokes. All with the control lock.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <veridian/capability.h>

struct account;
struct frame;
struct link;
struct node;
struct port;
struct source;

#define OWNER_FETCHES 8 /* so many drains take more than a socket's queue can hold */

/* Adds the root socket, or an invitation not yet used; takes it. 0 or VRD_ERR_*. */
int owner_root(struct port *port, int fd);
int owner_invite(struct port *port, int fd, uint32_t rights); /* derived from the root */

/* A new node below `parent`, as the frame says, which `fd` confers; takes it. 0 or VRD_ERR_*. */
int owner_confer(struct port *port, int fd, struct node *parent, const struct frame *frame,
                 struct account *account);

/* The reactor found something on one of the receiver's descriptors. */
void owner_source_ready(struct source *source);

/* Carries out what came over one of its sockets; as source_drain. */
int owner_drain(struct source *source);

/* Reads what waits in the sockets that confer `right`, but for one (or NULL). */
void owner_read_all(struct node *right, const struct source *but);

/* The process at the other end of `link` has ended. */
void owner_process_gone(struct port *port, struct link *link);

/* Links with process `pid` get no more messages. How many? */
int owner_sender_gone(struct port *port, pid_t pid);

/*
 * The socket of that identity over which the owner `cap` in this process derives, if it is here and was
 * read already; NULL: not so. `token`, 0 at first, makes it quick the next time.
 */
struct source *owner_source(vrd_cap_t cap, uint64_t identity, uint64_t *token);

/*
 * As a DERIVE over that source with `fd`, which it takes: a connection that this process has accepted
 * from `who`, who pays for it. *ret_token: the new source; 0: refused. 0 or VRD_ERR_*.
 */
int owner_accept(struct source *over, uint32_t rights, int fd, const struct vrd_source *who,
                 uint64_t *ret_token);
