/* SPDX-License-Identifier: MIT */
/* name.h - the two steps of connecting to a name, for who looks closer in between. */
#pragma once

#include <stdint.h>
#include <veridian/capability.h>

/* A connection to whoever listens under `name`; never waits. Errors as vrd_connect, or ENDPOINT_BUSY. */
int name_reach(const char *name, int *ret_fd);

/*
 * What the publisher answers, until `deadline` or for a second, whichever is later. Leaves `fd` to the
 * caller. Errors as vrd_connect; ENDPOINT_NOT_FOUND: it went away just now.
 */
int name_meet(int *fd, int64_t deadline, vrd_cap_t *ret);
