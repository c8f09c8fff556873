/* SPDX-License-Identifier: MIT */
/* error.h - from the system's errors to ours. */
#pragma once

/* The VRD_ERR_* for a positive errno; leaves errno set to it. */
int error_from_errno(int error);
