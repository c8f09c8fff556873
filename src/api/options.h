/* SPDX-License-Identifier: MIT */
/* options.h - what users say about the objects that they make. */
#pragma once

#include <veridian/channel.h>

/*
 * 0, with the defaults filled in and *ret_memory for object/memory.h; or VRD_ERR_*, as
 * vrd_channel_create_with says.
 */
int options_fill(struct vrd_channel_options *options, uint32_t *ret_memory);

/* What became of a wish for memory of some kind, from -errno. */
int options_error(int r);
