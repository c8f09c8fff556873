/* SPDX-License-Identifier: MIT */
/*
 * region.h - memory that processes share, with rights that the kernel enforces where it can.
 *
 * A region is made in one of three modes. Its maker is the one that called vrd_region_create; the
 * others hold it by a capability that they imported or received.
 *
 *   published  Only the maker can ever write, whatever the uid of the others: its mapping is the last
 *              writable one that the kernel allows. All others read what it writes, as it writes it.
 *              For data that changes while it is read, see the note on consistency below.
 *   snapshot   The maker writes first. With the first capability that it makes or exports, the region
 *              is frozen: nobody, the maker included, can write again. Whoever imports it has verified
 *              that with the kernel.
 *   shared     All who hold WRITE write. They are one trust domain: each can change anything at any
 *              time, and can give pages back to the system, which then read as zeroes. Who holds only
 *              READ cannot write, if it runs under another uid than the maker; under the same uid, or
 *              as root, it could open the memory again by itself.
 *
 * What is promised against a hostile peer: nothing that it does makes reading or writing a mapped
 * region fault (memory with holes, of another size, or whose size could change is refused), and the
 * reader is not billed for the writer's memory: all pages are the maker's from the start. What is not:
 * reading cannot be taken back. Revoking (vrd_cap_revoke) takes the mapping from the processes that
 * run this library: they find zeroes at its place, and the memory is not theirs any more. A process that
 * does not run it may keep what it has mapped; a published region is therefore given new memory, with
 * the same contents and at the same address, when the maker's process revokes a part of those who hold
 * it: who keeps the old memory sees nothing new. Revoking through the maker's own capability takes the
 * region from all others, and there is nobody to be given new memory; what the maker writes after it
 * is for it alone all the same. While the maker's process revokes, nobody there may write to the
 * region: what is written at that moment may be lost. A revocation that another process asks for (with
 * REVOKE) takes the mapping away, without new memory.
 *
 * A region outlives its maker: when that ends, those who hold the region keep it, as it is then.
 *
 * Consistency. Memory is memory: a reader sees words as they are written, in the order in which the
 * writer's atomic operations publish them. Use C11 or C++11 atomics, and treat all that others write as
 * untrusted: copy a word, check the copy, use the copy. examples/database shows a table of records that
 * are read in place while they are updated.
 *
 * fork: a child has the capability, not the mapping; it maps the region again. What the maker alone may
 * write, a child of the maker can only read.
 */
#ifndef VERIDIAN_REGION_H
#define VERIDIAN_REGION_H

#include <veridian/capability.h>
#include <veridian/types.h>

VRD_BEGIN_DECLS

enum vrd_region_mode {
    VRD_REGION_PUBLISHED = 0,
    VRD_REGION_SNAPSHOT = 1,
    VRD_REGION_SHARED = 2,
};

enum vrd_transfer_mode {
    VRD_TRANSFER_SHARE = 0,         /* the same memory, with the rights that the mode allows   */
    VRD_TRANSFER_MOVE = 1,          /* frozen, and given up by the giver                        */
    VRD_TRANSFER_COPY_ON_WRITE = 2, /* of a frozen region: what the holder writes is its own    */
};

/*
 * Lets an application bring the memory of its regions, from a pool of its own or with contents. Both
 * functions are called in the thread that creates or closes the region, and must not use it.
 *  allocate_pages  a memfd (memfd_create with MFD_ALLOW_SEALING, and MFD_HUGETLB for huge pages) of
 *                  `size` bytes, not sealed against writing, opened for reading and writing. The
 *                  library takes the descriptor, allocates what is missing, and seals it. Returns 0, or a
 *                  VRD_ERR_* which vrd_region_create passes on
 *  free_pages      this process has let go of them: its mapping and its descriptors are closed. May be
 *                  NULL
 */
struct vrd_memory_provider {
    int (*allocate_pages)(void *user, size_t size, uint32_t huge_pages, int *ret_fd);
    void (*free_pages)(void *user, size_t size);
    void *user;
    uint64_t reserved[5];
};

/* Zero means the default in every field; `reserved` must be zero. */
struct vrd_region_options {
    uint32_t mode; /* enum vrd_region_mode                                                 */
    uint32_t
        huge_pages;     /* enum vrd_huge_pages; the last two not with mode shared: who may write may
                            also give pages back, and there may be no other huge page            */
    uint32_t numa_node; /* VRD_NUMA_NODE(n): all pages from node n, or an error                 */
    uint32_t reserved1;
    const struct vrd_memory_provider *provider; /* copied; NULL: the kernel                      */
    uint64_t reserved[13];
};

/*
 * Creates a region of `size` bytes, rounded up to whole pages, of zeroes, and all its memory. `rights`:
 * READ, or READ with WRITE; GRANT and REVOKE come with it. Takes as long as the kernel takes to clear
 * the pages.
 *  INVALID_ARGUMENT       size 0, rights without READ or with others than these, a reserved field set, huge
 *                         pages with mode shared, no such NUMA node in this machine
 *  NOT_SUPPORTED          huge pages of that size, or transparent ones, which this kernel lacks; a
 *                         NUMA node, in a build without libnuma or on a kernel without NUMA
 *  INVALID_MEMORY_REGION  what the provider brought is no memfd of that size and kind
 *  OUT_OF_MEMORY          not so much memory, on that node, or in the pool of huge pages
 *  SYSTEM
 */
VRD_API int vrd_region_create(size_t size, uint32_t rights,
                              const struct vrd_region_options *options, vrd_cap_t *ret);

/* The same with defaults and all pages from NUMA node `node`, 0 and up. */
VRD_API int vrd_region_create_numa(size_t size, uint32_t rights, int node, vrd_cap_t *ret);

/*
 * Maps the region in this process, for READ or for READ and WRITE; page-aligned. Mapping again gives the
 * same address; each call wants its vrd_region_unmap. The maker of a region that is not frozen always has
 * it mapped, and unmapping does not lose what it wrote. A holder's first mapping starts the
 * library's own thread (which takes the mapping away when the region is revoked) unless the process has
 * none.
 *  INVALID_CAPABILITY     not a capability of this process
 *  INVALID_MEMORY_REGION  not a region, or its memory is not what it has to be
 *  PERMISSION_DENIED      the capability lacks one of `rights`; WRITE, by the maker of a frozen region
 *  INVALID_ARGUMENT       rights other than READ, or READ and WRITE; an output pointer is NULL
 *  RESOURCE_BUSY          mapped for READ, and now WRITE is wanted: unmap first
 *  REVOKED                taken back
 *  PEER_GONE              a forked child that has closed the region's descriptor
 *  OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_region_map(vrd_cap_t cap, uint32_t rights, void **ret_addr, size_t *ret_size);

/*
 * Takes back one vrd_region_map; the last one ends the mapping. Closing the capability ends it at once.
 *  INVALID_CAPABILITY, INVALID_MEMORY_REGION
 *  INVALID_ARGUMENT  not mapped
 */
VRD_API int vrd_region_unmap(vrd_cap_t cap);

/*
 * Makes a capability for the same region in this process, to pass on (vrd_cap_export, or in a message) or
 * to keep; vrd_cap_revoke on it takes the region back from those who got it through it.
 *  SHARE          the rights of `cap`, as far as the mode lets others have them: WRITE with mode
 *                 shared only
 *  MOVE           `cap`, which must be the maker's and the only one, is closed and its mapping ended; the
 *                 region is frozen first, so that whoever gets it can rely on nobody writing any more
 *                 (vrd_region_info says so, from the kernel). It has WRITE for a copy of its own, as
 *                 below. Exporting the new capability moves it again. Having read cannot be undone:
 *                 who held the memory before may still read it
 *  COPY_ON_WRITE  of a frozen region or a snapshot, which this freezes: WRITE for a copy of the holder's own:
 *                 pages that it writes become its private memory, in its own mapping
 * `target`: 0 or the own pid; what it makes is passed on as any capability is. Of another process: it
 * is given the capability (READ, and WRITE where there is that) over its inbox, see vrd_cap_grant,
 * whose errors come too; *ret then names the grant, for revoking it. Nothing is moved in this way.
 *  INVALID_CAPABILITY     not a capability of this process
 *  INVALID_MEMORY_REGION  not a region; COPY_ON_WRITE, not a snapshot
 *  PERMISSION_DENIED      `cap` lacks GRANT; MOVE, `cap` is not the maker's
 *  RESOURCE_BUSY          MOVE, somebody else holds the region; or it is to be frozen, and somebody has it
 *                         mapped for writing or a device is writing to it
 *  NOT_INITIALIZED        for another process, and this one has no inbox
 *  PROCESS_NOT_FOUND      no process `target`
 *  NO_BROKER              it has no inbox
 *  INVALID_ARGUMENT       no such mode, a negative target, MOVE to another process, or `ret` is NULL
 *  REVOKED, PEER_GONE, QUOTA_EXCEEDED, OUT_OF_MEMORY, SYSTEM
 */
VRD_API int vrd_region_create_capability(vrd_cap_t cap, pid_t target, enum vrd_transfer_mode mode,
                                         vrd_cap_t *ret);

/* What vrd_region_info tells. `reserved` is zero today. */
struct vrd_region_info {
    size_t size;         /* bytes, whole pages                                                  */
    size_t page_size;    /* of huge pages too                                                   */
    uint32_t mode;       /* enum vrd_region_mode, as the maker said                             */
    uint32_t transfer;   /* enum vrd_transfer_mode of this capability                           */
    uint32_t immutable;  /* 1: the kernel lets nobody write any more                            */
    uint32_t mapped;     /* mappings of this capability not yet taken back                      */
    uint32_t generation; /* how often it was given new memory, as far as this process was told  */
    uint32_t reserved1;
    uint64_t reserved[6];
};

/*
 * Fills `ret`. Never waits.
 *  INVALID_CAPABILITY, INVALID_MEMORY_REGION
 *  INVALID_ARGUMENT  `ret` is NULL
 */
VRD_API int vrd_region_info(vrd_cap_t cap, struct vrd_region_info *ret);

/* What one NUMA node has. `reserved` is zero today. */
struct vrd_numa_usage {
    uint64_t total;  /* bytes of memory; 0: no such node, or not for this process        */
    uint64_t free;   /* bytes, as the kernel counts them now                             */
    uint64_t region; /* bytes of the region that lie there                               */
    uint64_t reserved[5];
};

/*
 * Fills ret[0..n-1], one for each node from 0 up, and returns how many nodes there are. `region`: where
 * the pages of this region are, which has to be mapped (those that this process has not yet touched
 * are not counted); VRD_CAP_NONE: of none.
 *  INVALID_CAPABILITY, INVALID_MEMORY_REGION
 *  INVALID_ARGUMENT  `ret` is NULL with n > 0; the region is not mapped
 *  NOT_SUPPORTED     a build without libnuma, or a kernel without NUMA
 *  SYSTEM
 */
VRD_API int vrd_numa_usage(vrd_cap_t region, struct vrd_numa_usage *ret, size_t n);

VRD_END_DECLS

#endif
