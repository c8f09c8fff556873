/* SPDX-License-Identifier: MIT */
/*
 * types.h - the words that every other header uses.
 *
 * Conventions of the whole library
 *  - Results: 0 or a count on success, a negative VRD_ERR_* on failure (see error.h). Outputs are
 *    untouched on failure.
 *  - Sizes are bytes, times are nanoseconds. Timeouts are relative: 0 does not wait, VRD_FOREVER
 *    waits for as long as it takes, any other negative value is VRD_ERR_INVALID_ARGUMENT.
 *  - Any thread may call any function, with any capability, at any time, unless its comment says
 *    otherwise. No function may be called from a signal handler.
 *  - Signals do not end a wait: a handler runs, then the wait goes on.
 */
#ifndef VERIDIAN_TYPES_H
#define VERIDIAN_TYPES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
#define VRD_BEGIN_DECLS extern "C" {
#define VRD_END_DECLS }
#else
#define VRD_BEGIN_DECLS
#define VRD_END_DECLS
#endif

#define VRD_API __attribute__((visibility("default")))

/*
 * A capability: a handle that means something in this process only, like a file descriptor. It
 * carries a generation, so a number that was closed never becomes another object's. 0 is none.
 */
typedef uint64_t vrd_cap_t;

#define VRD_CAP_NONE ((vrd_cap_t)0)

/* Timeout: wait without a limit. */
#define VRD_FOREVER INT64_C(-1)

/* The pages of memory that is shared. */
enum vrd_huge_pages {
    VRD_PAGES_DEFAULT = 0,
    VRD_PAGES_TRANSPARENT = 1, /* if and where the kernel finds it possible                     */
    VRD_PAGES_2_MIB = 2,       /* from the pool that the administrator has set aside            */
    VRD_PAGES_1_GIB = 3,
};

/* For numa_node, which is 0 where the kernel may choose. */
#define VRD_NUMA_NODE(node) ((uint32_t)(node) + 1)

#endif
