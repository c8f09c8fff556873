/* SPDX-License-Identifier: MIT */
/* passing.h - what handing capabilities on is made of, beside export and import. */
#pragma once

#include <stdint.h>
#include <veridian/capability.h>

struct frame;

/*
 * Derives from `cap`, with GRANT added to `rights`, and gives the socket of the new capability instead
 * of a number; and what those are to be greeted with to whom `rights` is handed on over it. Errors
 * as vrd_cap_derive.
 */
int passing_derive(vrd_cap_t cap, uint32_t rights, int *ret_fd, struct frame *ret_greeting);

/*
 * Makes a capability to send of an invitation whose greeting has been read; leaves `fd` to the
 * caller. Errors as vrd_cap_import.
 */
int passing_import(const struct frame *greeting, int fd, vrd_cap_t *ret);
