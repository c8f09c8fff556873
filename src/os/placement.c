/* SPDX-License-Identifier: MIT */
#include "os/placement.h"

#include <errno.h>
#include <limits.h>

#ifdef VRD_HAVE_NUMA

#include <numa.h>
#include <numaif.h>
#include <stdbool.h>

#define COUNT_BATCH 512
#define NODES_MAX 1024
#define WORD_BITS (8 * sizeof(unsigned long))

static bool placement_known(void)
{
    return numa_available() >= 0;
}

int placement_nodes(void)
{
    return placement_known() ? numa_max_node() + 1 : 0;
}

int placement_check(int node)
{
    if (!placement_known())
        return -ENOTSUP;
    if (node < 0 || node > numa_max_node() || node >= NODES_MAX ||
        !numa_bitmask_isbitset(numa_all_nodes_ptr, (unsigned)node))
        return -ENODEV;
    return 0;
}

int placement_room(int node, uint64_t *ret_total, uint64_t *ret_free)
{
    int r = placement_check(node);
    long long total, room;

    if (r < 0)
        return r;
    total = numa_node_size64(node, &room);
    if (total < 0)
        return -ENODEV;
    *ret_total = (uint64_t)total;
    *ret_free = (uint64_t)room;
    return 0;
}

int placement_bind(void *addr, size_t size, int node, bool preferred)
{
    unsigned long mask[NODES_MAX / WORD_BITS] = { 0 };
    int r = placement_check(node);

    if (r < 0)
        return r;
    mask[(unsigned)node / WORD_BITS] = 1UL << ((unsigned)node % WORD_BITS);
    /* the kernel reads one bit less than it is told */
    if (mbind(addr, size, preferred ? MPOL_PREFERRED : MPOL_BIND, mask, NODES_MAX,
              preferred ? 0 : MPOL_MF_STRICT) < 0)
        return -errno;
    return 0;
}

int placement_node_of(unsigned cpu)
{
    if (!placement_known() || cpu > INT_MAX)
        return -1;
    return numa_node_of_cpu((int)cpu);
}

int placement_count(void *addr, size_t size, size_t page, uint64_t *bytes, int n)
{
    char *next = addr, *end = next + size;

    while (next < end) {
        void *pages[COUNT_BATCH];
        int nodes[COUNT_BATCH];
        unsigned long count = 0;

        for (; next < end && count < COUNT_BATCH; next += page)
            pages[count++] = next;
        if (move_pages(0, count, pages, NULL, nodes, 0) < 0) /* moves nothing: asks */
            return -errno;
        for (unsigned long i = 0; i < count; i++)
            if (nodes[i] >= 0 && nodes[i] < n)
                bytes[nodes[i]] += page;
    }
    return 0;
}

#else

int placement_nodes(void)
{
    return 0;
}

int placement_check(int node)
{
    (void)node;
    return -ENOTSUP;
}

int placement_room(int node, uint64_t *ret_total, uint64_t *ret_free)
{
    (void)node;
    (void)ret_total;
    (void)ret_free;
    return -ENOTSUP;
}

int placement_bind(void *addr, size_t size, int node, bool preferred)
{
    (void)addr;
    (void)size;
    (void)node;
    (void)preferred;
    return -ENOTSUP;
}

int placement_node_of(unsigned cpu)
{
    (void)cpu;
    return -1;
}

int placement_count(void *addr, size_t size, size_t page, uint64_t *bytes, int n)
{
    (void)addr;
    (void)size;
    (void)page;
    (void)bytes;
    (void)n;
    return -ENOTSUP;
}

#endif
