/* SPDX-License-Identifier: MIT */
#include <veridian/error.h>

const char *vrd_version(void)
{
    return VRD_VERSION;
}
