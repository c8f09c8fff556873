/* SPDX-License-Identifier: MIT */
#include "api/options.h"

#include <errno.h>
#include <string.h>
#include <veridian/error.h>

#include "base/error.h"
#include "object/memory.h"
#include "object/port.h"

/* What the library's users are told of what became of their wish. */
int options_error(int r)
{
    switch (-r) {
    case 0:
        return 0;
    case ENODEV:
    case EINVAL:
        return VRD_ERR_INVALID_ARGUMENT;
    case ENOTSUP:
        return VRD_ERR_NOT_SUPPORTED;
    default:
        return error_from_errno(-r);
    }
}

/* Are there such memory and such pages, as far as can be told now? */
static int options_memory(const struct vrd_channel_options *options, uint32_t *ret_memory)
{
    struct pages pages;
    uint32_t memory;
    int r;

    if (options->huge_pages > VRD_PAGES_1_GIB ||
        (options->numa_node >= MEMORY_PEER && options->numa_node != VRD_NUMA_PEER))
        return VRD_ERR_INVALID_ARGUMENT;
    memory = memory_word(options->numa_node, options->huge_pages);
    pages = memory_pages(memory, 0);
    pages.shift = memory_shift(memory);
    r = pages_probe(&pages);
    if (r < 0)
        return options_error(r);
    *ret_memory = memory;
    return 0;
}

int options_fill(struct vrd_channel_options *options, uint32_t *ret_memory)
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
    return options_memory(options, ret_memory);
}
