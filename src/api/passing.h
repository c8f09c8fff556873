/* SPDX-License-Identifier: MIT */
/* passing.h - what handing capabilities on is made of, beside export and import. No pin is held. */
#pragma once

#include <stdint.h>
#include <veridian/capability.h>

struct frame;
struct outfit;

struct name_right;

/*
 * Derives from `cap`, with GRANT added to `rights`, a capability to be handed on by a name. Errors as
 * vrd_cap_derive.
 */
int passing_derive(vrd_cap_t cap, uint32_t rights, struct name_right *ret);

/*
 * As vrd_cap_export, for who accepts it with passing_accept.
 */
int passing_invite(vrd_cap_t cap, uint32_t rights, int *ret_fd);

/*
 * Makes an invitation with all the rights of `cap`, for a message to carry. Until passing_moved or
 * passing_kept the capability is as before, but cannot be moved again, and with RECEIVE finds nothing to
 * receive. 0; PERMISSION_DENIED: no GRANT; RESOURCE_BUSY: on its way already, or as vrd_cap_export.
 */
int passing_mint(vrd_cap_t cap, int *ret_fd);

/* The message has gone: the capability is closed. */
void passing_moved(vrd_cap_t cap);

/*
 * The message has not gone: the capability stays. Closes the invitation. (If somebody has got RECEIVE
 * by it all the same, it is not ours any more: closed.)
 */
void passing_kept(vrd_cap_t cap, int fd);

/*
 * Makes a capability of an invitation that came with a message; takes `fd`, which socket_adopt has
 * seen. Its link is made at first use. Errors as vrd_cap_import.
 */
int passing_accept(int fd, vrd_cap_t *ret);

/*
 * Makes a capability to send of an invitation whose greeting has been read. `outfit`: see
 * sender_connect. `patience`: not 0 if `fd` is a connection that the owner has accepted itself; see
 * sender_connect_here, which takes it. Errors as vrd_cap_import.
 */
int passing_import(const struct frame *greeting, int *fd, struct outfit *outfit, int64_t patience,
                   vrd_cap_t *ret);
