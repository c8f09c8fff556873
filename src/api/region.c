/* SPDX-License-Identifier: MIT */
#include <veridian/region.h>

#include <errno.h>
#include <string.h>
#include <veridian/inbox.h>

#include "api/gate.h"
#include "api/options.h"
#include "base/arith.h"
#include "base/error.h"
#include "object/control.h"
#include "os/placement.h"

#define RIGHTS_ALL (VRD_RIGHT_READ | VRD_RIGHT_WRITE | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

/* --- creating --------------------------------------------------------------------------------- */

static bool options_valid(const struct vrd_region_options *options)
{
    static const uint64_t zero[sizeof(options->reserved) / sizeof(uint64_t)];
    static const uint64_t zero_provider[sizeof(options->provider->reserved) / sizeof(uint64_t)];

    if (options->reserved1 != 0 || memcmp(options->reserved, zero, sizeof(zero)) != 0)
        return false;
    if (options->mode > VRD_REGION_SHARED || options->huge_pages > VRD_PAGES_1_GIB)
        return false;
    /* who may write may give a page back, and a huge one may then be missing: SIGBUS */
    if (options->mode == VRD_REGION_SHARED && options->huge_pages >= VRD_PAGES_2_MIB)
        return false;
    return !options->provider ||
           (options->provider->allocate_pages &&
            memcmp(options->provider->reserved, zero_provider, sizeof(zero_provider)) == 0);
}

static struct pages pages_wanted(const struct vrd_region_options *options)
{
    static const unsigned shifts[] = {
        [VRD_PAGES_2_MIB] = PAGES_2_MIB, [VRD_PAGES_1_GIB] = PAGES_1_GIB
    };

    return (struct pages){
        .shift = shifts[options->huge_pages],
        .transparent = options->huge_pages == VRD_PAGES_TRANSPARENT,
        .node = options->numa_node > 0 ? (int)(options->numa_node - 1) : -1,
    };
}

static int create_failed(int r)
{
    return r == -EPROTO ? VRD_ERR_INVALID_MEMORY_REGION : options_error(r);
}

/* The provider's pages, or none (-1). */
static int create_fd(size_t size, const struct vrd_region_options *options, int *ret_fd)
{
    const struct vrd_memory_provider *provider = options->provider;
    int r;

    *ret_fd = -1;
    if (!provider)
        return 0;
    r = provider->allocate_pages(provider->user, size, options->huge_pages, ret_fd);
    if (r == 0 && *ret_fd < 0)
        r = VRD_ERR_INVALID_MEMORY_REGION;
    return r;
}

static int create_memory(size_t size, const struct vrd_region_options *options,
                         struct region_memory *ret)
{
    const struct pages pages = pages_wanted(options);
    int fd, r = pages.node >= 0 ? placement_check(pages.node) : 0;

    if (r < 0)
        return create_failed(r);
    r = create_fd(size, options, &fd);
    if (r < 0)
        return r;
    r = region_memory_create(size, &pages, fd,
                             options->mode == VRD_REGION_PUBLISHED ? REGION_PUBLISHED : REGION_OPEN,
                             ret);
    if (r < 0 && options->provider && options->provider->free_pages)
        options->provider->free_pages(options->provider->user, size);
    return r < 0 ? create_failed(r) : 0;
}

static int create_port(struct region_memory *memory, uint32_t rights,
                       const struct vrd_region_options *options, vrd_cap_t *ret)
{
    struct port *port;
    vrd_cap_t cap;

    control_lock();
    port = port_new(PORT_REGION, rights | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE, 0, 0, &cap);
    if (port) {
        region_init(port, memory, (enum vrd_region_mode)options->mode);
        if (options->provider)
            port->region.provider = *options->provider;
        port_show(port, cap);
        *ret = cap;
    }
    control_unlock();
    return port ? 0 : VRD_ERR_OUT_OF_MEMORY;
}

int vrd_region_create(size_t size, uint32_t rights, const struct vrd_region_options *options,
                      vrd_cap_t *ret)
{
    const struct vrd_region_options filled = options ? *options : (struct vrd_region_options){ 0 };
    struct region_memory memory;
    size_t page;
    int r;

    if (!ret || size == 0 || !(rights & VRD_RIGHT_READ) || (rights & ~RIGHTS_ALL) != 0 ||
        !options_valid(&filled))
        return VRD_ERR_INVALID_ARGUMENT;
    page = pages_size(pages_wanted(&filled).shift);
    if (size > PTRDIFF_MAX - page)
        return VRD_ERR_OUT_OF_MEMORY;
    r = control_ready();
    if (r == 0)
        r = create_memory(round_up(size, page), &filled, &memory);
    if (r < 0)
        return r;
    r = create_port(&memory, rights, &filled, ret);
    if (r < 0) {
        region_memory_deinit(&memory);
        if (filled.provider && filled.provider->free_pages)
            filled.provider->free_pages(filled.provider->user, memory.size);
    }
    return r;
}

int vrd_region_create_numa(size_t size, uint32_t rights, int node, vrd_cap_t *ret)
{
    const struct vrd_region_options options = { .numa_node = VRD_NUMA_NODE(node) };

    return node >= 0 ? vrd_region_create(size, rights, &options, ret) : VRD_ERR_INVALID_ARGUMENT;
}

/* --- mapping ---------------------------------------------------------------------------------- */

int vrd_region_map(vrd_cap_t cap, uint32_t rights, void **ret_addr, size_t *ret_size)
{
    int r;
    struct port *port;

    if (!ret_addr || !ret_size || !(rights & VRD_RIGHT_READ) ||
        (rights & ~(VRD_RIGHT_READ | VRD_RIGHT_WRITE)) != 0)
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_enter_region(cap, VRD_RIGHT_READ, &r);
    if (!port)
        return r;
    r = region_map(port, rights, ret_addr, ret_size);
    gate_leave(port);
    return r;
}

int vrd_region_unmap(vrd_cap_t cap)
{
    int r;
    struct port *port = gate_enter_region(cap, GATE_ANY, &r);

    if (!port)
        return r;
    r = region_unmap(port);
    gate_leave(port);
    return r;
}

int vrd_region_info(vrd_cap_t cap, struct vrd_region_info *ret)
{
    int r;
    struct port *port;

    if (!ret)
        return VRD_ERR_INVALID_ARGUMENT;
    port = gate_enter_region(cap, GATE_ANY, &r);
    if (!port)
        return r;
    region_info(port, ret);
    gate_leave(port);
    return 0;
}

/* --- passing it on ---------------------------------------------------------------------------- */

static int capability_here(vrd_cap_t cap, enum vrd_transfer_mode mode, vrd_cap_t *ret)
{
    int r;
    struct port *port = gate_enter_region(cap, VRD_RIGHT_GRANT, &r);

    if (!port)
        return r;
    r = mode == VRD_TRANSFER_MOVE ? region_move(port, ret)
                                  : region_derive(port, region_rights(port, mode), mode, ret);
    if (r == 0 && mode == VRD_TRANSFER_MOVE)
        port_close(port);
    else
        gate_leave(port);
    return r;
}

/* Over its inbox: what is granted is derived from one made here, which is not needed any more then. */
static int capability_there(vrd_cap_t cap, pid_t target, enum vrd_transfer_mode mode,
                            vrd_cap_t *ret)
{
    struct vrd_cap_info info;
    vrd_cap_t made = VRD_CAP_NONE;
    int r;

    if (mode == VRD_TRANSFER_MOVE) /* a grant can be revoked, and what was moved cannot */
        return VRD_ERR_INVALID_ARGUMENT;
    r = capability_here(cap, mode, &made);
    if (r < 0)
        return r;
    r = vrd_cap_info(made, &info);
    if (r == 0)
        r = vrd_cap_grant(made, target, info.rights & (VRD_RIGHT_READ | VRD_RIGHT_WRITE), ret);
    vrd_cap_close(made);
    return r;
}

int vrd_region_create_capability(vrd_cap_t cap, pid_t target, enum vrd_transfer_mode mode,
                                 vrd_cap_t *ret)
{
    int r;

    if (!ret || target < 0 || (unsigned)mode > VRD_TRANSFER_COPY_ON_WRITE)
        return VRD_ERR_INVALID_ARGUMENT;
    r = control_ready();
    if (r < 0)
        return r;
    return target == 0 || target == control_pid() ? capability_here(cap, mode, ret)
                                                  : capability_there(cap, target, mode, ret);
}

/* --- NUMA ------------------------------------------------------------------------------------- */

#define NODES_MAX 1024

static int usage_of_region(vrd_cap_t cap, uint64_t bytes[NODES_MAX])
{
    int r;
    struct port *port;

    if (cap == VRD_CAP_NONE)
        return 0;
    port = gate_enter_region(cap, GATE_ANY, &r);
    if (!port)
        return r;
    r = region_count(port, bytes, NODES_MAX);
    gate_leave(port);
    return r;
}

int vrd_numa_usage(vrd_cap_t region, struct vrd_numa_usage *ret, size_t n)
{
    uint64_t bytes[NODES_MAX] = { 0 };
    int nodes = placement_nodes();
    int r;

    if (!ret && n > 0)
        return VRD_ERR_INVALID_ARGUMENT;
    r = nodes > 0 ? usage_of_region(region, bytes) : VRD_ERR_NOT_SUPPORTED;
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        ret[i] = (struct vrd_numa_usage){ 0 };
        if (i >= (size_t)nodes || i >= NODES_MAX)
            continue;
        placement_room((int)i, &ret[i].total, &ret[i].free);
        ret[i].region = bytes[i];
    }
    return nodes;
}
