/* SPDX-License-Identifier: MIT */
/*
 * placement.h - on which NUMA node memory lies. With libnuma; without it there is one place, and to
 * ask for another is -ENOTSUP.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Nodes are numbered from 0; this is one more than the highest number, 0 if none are known. */
int placement_nodes(void);

/* 0; -ENODEV: no such node, or none that this process may use; -ENOTSUP. */
int placement_check(int node);

/* What `node` has, and what of that is free, in bytes. 0, -ENODEV or -ENOTSUP. */
int placement_room(int node, uint64_t *ret_total, uint64_t *ret_free);

/*
 * Pages of this mapping come from `node` and from nowhere else; or (`preferred`) from there as long as it
 * has some. 0 or -errno.
 */
int placement_bind(void *addr, size_t size, int node, bool preferred);

/* The node of a CPU; -1: no such CPU, or none is known. */
int placement_node_of(unsigned cpu);

/*
 * Adds to bytes[0..n-1] what of this mapping, in pages of `page` bytes, lies on each node; pages that
 * this process has not touched are not counted. 0 or -errno.
 */
int placement_count(void *addr, size_t size, size_t page, uint64_t *bytes, int n);
