/* SPDX-License-Identifier: MIT */
/*
 * region.h - a region in one process: its memory, its mapping, and, at its maker, who else holds it.
 *
 * The maker keeps a tree of those who hold the region, as the owner of a channel does. Each of them has a
 * socket whose other end is the maker's; the first thing in it is a greeting with the memory's descriptor.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <veridian/region.h>

#include "base/list.h"
#include "cap/node.h"
#include "os/region.h"

struct datagram;
struct frame;
struct port;
struct source;

struct region {
    /* with the pin */
    enum vrd_region_mode mode;
    enum vrd_transfer_mode transfer;
    struct vrd_memory_provider provider; /* whose pages they are; free_pages NULL: nobody asks */
    bool maker;                          /* or, in a child of it, on its own */
    bool exported;                       /* others may have it, or may have had */
    bool forked;                         /* a parent's; see region_settle */
    int inherited;                       /* the tether that the parent left us; or -1 */
    uint64_t inherited_identity;
    vrd_cap_t twin; /* the maker's capability, in this process; may be gone */

    /* with the control lock; the maker's memory also with the pin, to change it with both */
    struct region_memory memory;
    uint64_t identity; /* of its descriptors */
    void *addr;        /* a mapping other than the one that the maker's memory has; NULL: none */
    uint32_t mapped;   /* by how many calls */
    uint32_t access;   /* enum region_access of `addr` */
    uint32_t generation;
    uint16_t lost;  /* enum notice_cause: taken back, or its maker broke the protocol */
    uint64_t asked; /* a revocation, over the tether */
    uint64_t answered;
    struct source *tether;
    struct node tree;
    struct list sources;
};

/* All with the pin held, except where said. */

/* Makes `port`, not yet shown, the maker's; takes the memory. Control lock held. */
void region_init(struct port *port, const struct region_memory *memory, enum vrd_region_mode mode);

/* See region.h of the interface. 0 or VRD_ERR_*. */
int region_map(struct port *port, uint32_t rights, void **ret_addr, size_t *ret_size);
int region_unmap(struct port *port);
int region_info(struct port *port, struct vrd_region_info *ret);
int region_count(struct port *port, uint64_t *bytes, int nodes);

/*
 * Makes an invitation. `port` is the only one to hold a region that was moved to it; then it has to
 * be closed. 0 or VRD_ERR_*.
 */
int region_invite(struct port *port, uint32_t rights, int *ret_fd);

/* A capability for the same region in this process. 0 or VRD_ERR_*. */
int region_derive(struct port *port, uint32_t rights, enum vrd_transfer_mode transfer,
                  vrd_cap_t *ret);

/* The rights that a capability made in this way has. */
uint32_t region_rights(const struct port *port, enum vrd_transfer_mode transfer);

/* Freezes the region and hands it to a new port; `port` has to be closed. 0 or VRD_ERR_*. */
int region_move(struct port *port, vrd_cap_t *ret);

/* Takes back what was derived, as vrd_cap_revoke; gives the pin back, whatever happens. */
int region_revoke(struct port *port, vrd_cap_t cap);

/* What vrd_cap_info tells beside what all ports have. */
void region_about(struct port *port, struct vrd_cap_info *ret);

/* Gives up all; before the port is freed. */
void region_close(struct port *port);

/* In a forked child, control lock held. */
void region_after_fork(struct port *port);

/*
 * No pin: an invitation's greeting was read from `fd`, which is taken in any case. `twin`: the maker's
 * capability, where it is known to be in this process. 0 or VRD_ERR_*.
 */
int region_import(const struct frame *greeting, struct datagram *datagram, int fd, vrd_cap_t twin,
                  vrd_cap_t *ret);

/* With the control lock only: the reactor found something. */
void region_source_ready(struct source *source);

/* Carries out what came from somebody who holds the region; as source_drain. Control lock held. */
int region_drain(struct source *source);

/* --- for what region.c and holder.c share --------------------------------------------------------- */

#define REGION_RIGHTS_PASSED (VRD_RIGHT_READ | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)
#define REGION_RIGHTS (REGION_RIGHTS_PASSED | VRD_RIGHT_WRITE)

/* Does WRITE mean a copy of the holder's own? */
bool region_copies(const struct region *region);

/* What the seals of a region of this kind have to say. */
enum region_seal region_seal_wanted(enum vrd_region_mode mode, enum vrd_transfer_mode transfer);

/* Nobody else holds it yet. */
void region_empty(struct region *region);

/* Says a frame. 0 or -errno. */
int region_say(int fd, const struct frame *frame, const int *fds, size_t n_fds);

/* Somebody else's socket, which confers a new node below `parent`; takes it. Control lock held. */
int region_confer(struct port *port, int fd, struct node *parent, uint32_t rights, uint64_t badge);

/*
 * New memory for one who holds the region; who leaves hundreds of them unread is cut off: false. Control lock
 * held.
 */
bool region_hand(struct port *port, struct source *source);
