/* SPDX-License-Identifier: MIT */
#include "api/options.h"

#include <string.h>
#include <veridian/error.h>

#include "object/port.h"

int options_fill(struct vrd_channel_options *options)
{
    static const uint64_t zero[sizeof(options->reserved) / sizeof(uint64_t)];

    if (memcmp(options->reserved, zero, sizeof(zero)) != 0)
        return VRD_ERR_INVALID_ARGUMENT;
    if (options->slots == 0)
        options->slots = VRD_CHANNEL_SLOTS_DEFAULT;
    if (options->max_message_size == 0)
        options->max_message_size = VRD_CHANNEL_MESSAGE_DEFAULT;
    if (options->slots > VRD_CHANNEL_SLOTS_MAX || options->max_message_size > PTRDIFF_MAX / 16)
        return VRD_ERR_INVALID_ARGUMENT;
    if (options->max_bytes == 0)
        options->max_bytes = port_max_bytes(options->max_message_size);
    if (options->max_bytes < round_up(options->max_message_size, LAYOUT_PAGE) ||
        options->max_bytes > PTRDIFF_MAX)
        return VRD_ERR_INVALID_ARGUMENT;
    return 0;
}
