/* SPDX-License-Identifier: MIT */
/* options.h - what users say about the objects that they make. */
#pragma once

#include <veridian/channel.h>

/* 0, with the defaults filled in, or VRD_ERR_INVALID_ARGUMENT. */
int options_fill(struct vrd_channel_options *options);
