/* SPDX-License-Identifier: MIT */
#include "object/region.h"

#include <errno.h>
#include <veridian/error.h>

#include "base/clock.h"
#include "base/error.h"
#include "cap/frame.h"
#include "link/layout.h"
#include "object/control.h"
#include "object/port.h"
#include "object/reactor.h"
#include "object/revoke.h"
#include "object/source.h"
#include "os/fd.h"
#include "os/placement.h"
#include "os/socket.h"

#define REVOKE_LIMIT INT64_C(5000000000)
#define REVOKE_LOOK 1000000 /* ns */

static int region_error(int r)
{
    switch (-r) {
    case EPROTO:
        return VRD_ERR_INVALID_MEMORY_REGION;
    case EBUSY:
        return VRD_ERR_RESOURCE_BUSY;
    default:
        return error_from_errno(-r);
    }
}

bool region_copies(const struct region *region)
{
    return region->transfer != VRD_TRANSFER_SHARE;
}

enum region_seal region_seal_wanted(enum vrd_region_mode mode, enum vrd_transfer_mode transfer)
{
    if (transfer != VRD_TRANSFER_SHARE || mode == VRD_REGION_SNAPSHOT)
        return REGION_FROZEN;
    return mode == VRD_REGION_PUBLISHED ? REGION_PUBLISHED : REGION_OPEN;
}

/* What the tree knows of rights: writing in a copy of one's own is nobody's business. */
static uint32_t region_tree_rights(const struct region *region, uint32_t rights)
{
    return region->mode == VRD_REGION_SHARED && !region_copies(region)
               ? rights
               : rights & REGION_RIGHTS_PASSED;
}

void region_empty(struct region *region)
{
    list_init(&region->sources);
    node_init(&region->tree, region_tree_rights(region, REGION_RIGHTS));
}

void region_init(struct port *port, const struct region_memory *memory, enum vrd_region_mode mode)
{
    struct region *region = &port->region;

    port->object = VRD_OBJECT_REGION;
    region->memory = *memory;
    region->identity = fd_identity(memory->fd);
    region->mode = mode;
    region->inherited = -1;
    region->maker = true;
    region_empty(region);
}

/* --- frames ----------------------------------------------------------------------------------- */

int region_say(int fd, const struct frame *frame, const int *fds, size_t n_fds)
{
    uint8_t buf[FRAME_SIZE];
    int r;

    frame_encode(frame, buf);
    r = socket_send(fd, buf, sizeof(buf), fds, n_fds);
    reactor_sent();
    return r;
}

/* --- what a parent left: pin held -------------------------------------------------------------- */

/* Descriptors that somebody has closed, and perhaps opened anew, are no longer ours. */
static void fd_forget_foreign(int *fd, uint64_t identity)
{
    if (fd_identity(*fd) != identity)
        *fd = -1;
}

/* A socket of our own with the maker, in place of the parent's. Without one we are on our own. */
static void region_attach(struct port *port)
{
    struct region *region = &port->region;
    const struct frame frame = { .type = FRAME_DERIVE,
                                 .rights = region_tree_rights(region, port->handle.rights),
                                 .count = 1 };
    fd_auto far = -1;
    int pair[2];

    if (source_pair(pair) < 0)
        return;
    far = pair[1];
    control_lock();
    region->tether = source_new(port, SOURCE_MAKER, pair[0]);
    if (region->tether &&
        (region_say(region->inherited, &frame, &far, 1) < 0 || source_watch(region->tether) < 0))
        source_free(&region->tether);
    control_unlock();
}

/* At the beginning of each operation: 0, or why there can be none. */
static int region_settle(struct port *port)
{
    struct region *region = &port->region;
    int r = 0;

    if (region->forked) {
        region->forked = false;
        if (region->inherited >= 0)
            region_attach(port);
        fd_close(&region->inherited);
    }
    control_lock();
    if (region->tether) /* without a thread, nobody else may have looked */
        region_source_ready(region->tether);
    if (region->lost != NOTICE_NONE)
        r = region->lost == NOTICE_CORRUPT ? VRD_ERR_PEER_CORRUPT : VRD_ERR_REVOKED;
    else if (region->memory.fd < 0)
        r = VRD_ERR_PEER_GONE;
    control_unlock();
    return r;
}

/* --- mapping: pin held ------------------------------------------------------------------------- */

static void *region_address(const struct region *region)
{
    return region->memory.addr ? region->memory.addr : region->addr;
}

/* What the mapping that there is allows. */
static enum region_access region_allows(const struct region *region)
{
    if (!region->memory.addr)
        return (enum region_access)region->access;
    return region->memory.seal == REGION_FROZEN ? REGION_READ : REGION_WRITE;
}

static enum region_access region_access_wanted(const struct region *region, uint32_t rights)
{
    if (!(rights & VRD_RIGHT_WRITE))
        return REGION_READ;
    return region_copies(region) ? REGION_COPY : REGION_WRITE;
}

/* Where no mapping is. Control lock held. */
static int region_map_new(struct region *region, enum region_access access)
{
    const struct region_memory *memory = &region->memory;
    int fd = access == REGION_WRITE && memory->writable_fd >= 0 ? memory->writable_fd : memory->fd;
    int r;

    if (access == REGION_WRITE && (memory->seal != REGION_OPEN || !region_memory_writable(fd)))
        return VRD_ERR_PERMISSION_DENIED;
    r = region_memory_map(fd, memory->size, memory->shift, access, NULL, &region->addr);
    if (r < 0)
        return region_error(r);
    region->access = access;
    return 0;
}

static int region_map_locked(struct region *region, enum region_access access)
{
    if (!region_address(region))
        return region_map_new(region, access);
    if (access == REGION_READ || access == region_allows(region))
        return 0;
    if (region->memory.addr) /* the maker's own, frozen: it can be let go */
        return VRD_ERR_PERMISSION_DENIED;
    return VRD_ERR_RESOURCE_BUSY;
}

int region_map(struct port *port, uint32_t rights, void **ret_addr, size_t *ret_size)
{
    struct region *region = &port->region;
    int r = region_settle(port);

    if (r < 0)
        return r;
    if ((rights & ~port->handle.rights) != 0)
        return VRD_ERR_PERMISSION_DENIED;
    if (!region->maker)
        reactor_start();
    control_lock();
    r = region_map_locked(region, region_access_wanted(region, rights));
    if (r == 0) {
        region->mapped++;
        *ret_addr = region_address(region);
        *ret_size = region->memory.size;
    }
    control_unlock();
    return r;
}

int region_unmap(struct port *port)
{
    struct region *region = &port->region;
    void *old = NULL;
    int r = VRD_ERR_INVALID_ARGUMENT;

    control_lock();
    if (region->mapped > 0) {
        r = 0;
        if (--region->mapped == 0) {
            old = region->addr;
            region->addr = NULL;
        }
    }
    control_unlock();
    region_memory_unmap(old, region->memory.size);
    return r;
}

int region_info(struct port *port, struct vrd_region_info *ret)
{
    const struct region *region = &port->region;

    control_lock();
    *ret = (struct vrd_region_info){
        .size = region->memory.size,
        .page_size = pages_size(region->memory.shift),
        .mode = region->mode,
        .transfer = region->transfer,
        .immutable =
            region->memory.fd >= 0 && region_memory_sealed(region->memory.fd, REGION_FROZEN),
        .mapped = region->mapped,
        .generation = region->generation,
    };
    control_unlock();
    return 0;
}

int region_count(struct port *port, uint64_t *bytes, int nodes)
{
    const struct region *region = &port->region;
    void *addr;
    int r;

    control_lock();
    addr = region_address(region);
    control_unlock();
    if (!addr)
        return VRD_ERR_INVALID_ARGUMENT;
    r = placement_count(addr, region->memory.size, pages_size(region->memory.shift), bytes, nodes);
    return r < 0 ? error_from_errno(-r) : 0;
}

void region_about(struct port *port, struct vrd_cap_info *ret)
{
    struct region *region = &port->region;

    control_lock();
    if (region->tether)
        region_source_ready(region->tether);
    ret->owner = region->maker ? control_pid() : 0;
    ret->loss = port->loss;
    control_unlock();
}

/* --- passing it on: pin held ------------------------------------------------------------------- */

/* So that nobody can write any more. */
static int region_freeze(struct region *region)
{
    struct region_memory *memory = &region->memory;
    int r;

    if (!region->maker || memory->seal == REGION_FROZEN)
        return 0;
    if (memory->writable_fd < 0) /* a child of the maker, which has to do it */
        return region_memory_sealed(memory->fd, REGION_FROZEN) ? 0 : VRD_ERR_RESOURCE_BUSY;
    r = region_memory_freeze(memory);
    return r < 0 ? region_error(r) : 0;
}

int region_confer(struct port *port, int fd, struct node *parent, uint32_t rights, uint64_t badge)
{
    struct region *region = &port->region;
    struct source *source;
    struct node *node;
    int r = node_derive(parent, rights, badge, &node);

    if (r < 0) {
        fd_close(&fd);
        return r;
    }
    source = source_new(port, SOURCE_HOLDER, fd);
    if (!source) {
        node_settle(node);
        return VRD_ERR_OUT_OF_MEMORY;
    }
    source_confer(source, node);
    list_append(&region->sources, &source->node);
    r = source_watch(source);
    if (r < 0)
        source_free(&source);
    return r;
}

static uint32_t region_depth(const struct port *port)
{
    return port->depth + 1;
}

/* The descriptor that a holder of `rights` is to have. */
static int region_fd_for(const struct region *region, uint32_t rights)
{
    const struct region_memory *memory = &region->memory;

    return memory->writable_fd >= 0 && (rights & VRD_RIGHT_WRITE) && !region_copies(region) &&
                   region->mode == VRD_REGION_SHARED
               ? memory->writable_fd
               : memory->fd;
}

static int region_greet(struct port *port, uint32_t rights, enum vrd_transfer_mode transfer,
                        int far)
{
    const struct region *region = &port->region;
    const struct frame greeting = {
        .type = FRAME_GREETING_REGION,
        .rights = rights,
        .badge = port->badge,
        .depth = transfer == VRD_TRANSFER_MOVE ? 0 : region_depth(port),
        .bytes = region->memory.size,
        .count = region->memory.shift,
        .id = 1 + (uint64_t)region->mode,
        .extension = 1 + (uint32_t)transfer,
    };
    int fd = transfer == VRD_TRANSFER_SHARE ? region_fd_for(region, rights) : region->memory.fd;
    int r = region_say(far, &greeting, &fd, 1);

    return r < 0 ? error_from_errno(-r) : 0;
}

/*
 * The other end goes where the maker's tree is. Where the maker is gone there is nobody who could take
 * the region back, and it is not needed. Takes `far`. Control lock held.
 */
static int region_plant(struct port *port, uint32_t rights, int far_taken)
{
    struct region *region = &port->region;
    uint32_t tree_rights = region_tree_rights(region, rights);
    const struct frame frame = { .type = FRAME_DERIVE, .rights = tree_rights };
    fd_auto far = far_taken;
    int r;

    if (region->maker)
        return region_confer(port, fd_take(&far), &region->tree, tree_rights, 0);
    r = region->tether ? region_say(region->tether->fd, &frame, &far, 1) : -EPIPE;
    if (r == -EAGAIN)
        return VRD_ERR_QUOTA_EXCEEDED;
    return r < 0 && r != -EPIPE ? error_from_errno(-r) : 0;
}

/* May it move on as a whole? */
static int region_may_move(const struct port *port)
{
    bool held;

    control_lock();
    held = !list_empty(&port->region.sources);
    control_unlock();
    return held || port->moving ? VRD_ERR_RESOURCE_BUSY : 0;
}

/* May it be passed on with these rights, in this way? */
static int region_may(const struct port *port, uint32_t rights, enum vrd_transfer_mode transfer)
{
    if (!(port->handle.rights & VRD_RIGHT_GRANT) || (rights & ~region_rights(port, transfer)) != 0)
        return VRD_ERR_PERMISSION_DENIED;
    return transfer == VRD_TRANSFER_MOVE ? region_may_move(port) : 0;
}

static int region_invite_as(struct port *port, uint32_t rights, enum vrd_transfer_mode transfer,
                            int *ret_fd)
{
    struct region *region = &port->region;
    fd_auto near = -1;
    fd_auto far = -1;
    int pair[2], r;

    r = region_settle(port);
    if (r == 0)
        r = region_may(port, rights, transfer);
    if (r == 0 && region_seal_wanted(region->mode, transfer) == REGION_FROZEN)
        r = region_freeze(region);
    if (r < 0)
        return r;
    r = source_pair(pair);
    if (r < 0)
        return error_from_errno(-r);
    near = pair[0];
    far = pair[1];
    control_lock();
    r = region_greet(port, rights, transfer, far);
    if (r == 0 && transfer != VRD_TRANSFER_MOVE)
        r = region_plant(port, rights, fd_take(&far));
    region->exported |= r == 0;
    control_unlock();
    if (r < 0)
        return r;
    if (region->maker && transfer != VRD_TRANSFER_MOVE)
        reactor_start(); /* the others may ask for something at any time */
    *ret_fd = fd_take(&near);
    return 0;
}

int region_invite(struct port *port, uint32_t rights, int *ret_fd)
{
    return region_invite_as(port, rights, port->region.transfer, ret_fd);
}

uint32_t region_rights(const struct port *port, enum vrd_transfer_mode transfer)
{
    const struct region *region = &port->region;
    uint32_t rights = port->handle.rights & REGION_RIGHTS_PASSED;

    if (transfer != VRD_TRANSFER_SHARE)
        return rights |
               (region_copies(region) ? port->handle.rights & VRD_RIGHT_WRITE : VRD_RIGHT_WRITE);
    return region->mode == VRD_REGION_SHARED && !region_copies(region)
               ? rights | (port->handle.rights & VRD_RIGHT_WRITE)
               : rights;
}

int region_derive(struct port *port, uint32_t rights, enum vrd_transfer_mode transfer,
                  vrd_cap_t *ret)
{
    const vrd_cap_t twin = port->region.maker ? port->handle.cap : port->region.twin;
    datagram_auto datagram = { .pidfd = -1 };
    struct frame greeting;
    fd_auto fd = -1;
    int r;

    if (transfer == VRD_TRANSFER_COPY_ON_WRITE && port->region.mode != VRD_REGION_SNAPSHOT &&
        !region_memory_sealed(port->region.memory.fd, REGION_FROZEN))
        return VRD_ERR_INVALID_MEMORY_REGION;
    r = region_invite_as(port, rights, transfer, &fd);
    if (r < 0)
        return r;
    r = socket_receive(fd, &datagram);
    if (r <= 0)
        return r < 0 ? error_from_errno(-r) : VRD_ERR_PEER_GONE;
    r = frame_decode(datagram.data, datagram.len, datagram.n_fds, &greeting);
    return r < 0 ? r : region_import(&greeting, &datagram, fd_take(&fd), twin, ret);
}

int region_move(struct port *port, vrd_cap_t *ret)
{
    struct region *region = &port->region;
    struct port *moved;
    vrd_cap_t cap;
    int r = region_settle(port);

    if (r < 0)
        return r;
    if (!region->maker)
        return VRD_ERR_PERMISSION_DENIED;
    reactor_poll(); /* those who have closed theirs */
    r = region_may_move(port);
    if (r == 0)
        r = region_freeze(region);
    if (r < 0)
        return r;
    control_lock();
    moved = port_new(PORT_REGION, region_rights(port, VRD_TRANSFER_MOVE), 0, 0, &cap);
    if (moved) {
        struct region_memory memory = region->memory;

        region->memory = (struct region_memory)REGION_NONE;
        region_memory_unmap(memory.addr, memory.size);
        memory.addr = NULL;
        region_init(moved, &memory, region->mode);
        moved->region.transfer = VRD_TRANSFER_MOVE;
        moved->region.provider = region->provider;
        region->provider = (struct vrd_memory_provider){ 0 };
        region_empty(&moved->region);
        moved->badge = port->badge;
        port_show(moved, cap);
        *ret = cap;
    }
    control_unlock();
    return moved ? 0 : VRD_ERR_OUT_OF_MEMORY;
}

/* --- taking it back: pin held ------------------------------------------------------------------ */

bool region_hand(struct port *port, struct source *source)
{
    const struct region *region = &port->region;
    const struct frame frame = { .type = FRAME_ATTACH,
                                 .extension = region->generation,
                                 .bytes = region->memory.size };

    if (region_say(source->fd, &frame, &region->memory.fd, 1) < 0)
        source_free(&source);
    return source != NULL;
}

static void region_let_go(struct vrd_memory_provider *provider, size_t size)
{
    struct vrd_memory_provider old = *provider;

    *provider = (struct vrd_memory_provider){ 0 };
    if (old.free_pages)
        old.free_pages(old.user, size);
}

/* What those who lost the right may still have mapped shall not show what is written from now on. */
static int region_renew(struct port *port)
{
    struct region *region = &port->region;
    struct region_memory renewed, old;
    int r;

    if (!region->memory.addr || region->memory.seal != REGION_PUBLISHED || !region->exported)
        return 0;
    r = region_memory_renew(&region->memory, &renewed);
    if (r < 0)
        return region_error(r);
    control_lock();
    old = region->memory;
    region->memory = renewed;
    region->identity = fd_identity(renewed.fd);
    region->generation++;
    list_foreach(node, &region->sources)
        region_hand(port, list_entry(node, struct source, node));
    control_unlock();
    region_memory_deinit(&old);
    region_let_go(&region->provider, old.size);
    return 0;
}

/* By its number, for somebody else's sake. */
static int region_renew_maker(vrd_cap_t maker)
{
    struct handle *handle = handle_find(maker);
    int r;

    if (maker == VRD_CAP_NONE || !handle || !port_enter(port_of(handle), maker))
        return 0;
    r = region_renew(port_of(handle));
    pin_leave(&handle->pin);
    return r;
}

/* Asks the maker. 0 or VRD_ERR_*. */
static int region_ask(struct port *port)
{
    struct region *region = &port->region;
    struct frame frame = { .type = FRAME_REVOKE };
    int r = -EPIPE;

    control_lock();
    frame.id = region->asked + 1;
    if (region->tether)
        r = region_say(region->tether->fd, &frame, NULL, 0);
    region->asked += r == 0;
    control_unlock();
    if (r == -EAGAIN)
        return VRD_ERR_QUOTA_EXCEEDED;
    return r < 0 ? error_from_errno(-r) : 0;
}

/* 0, VRD_ERR_CHANNEL_EMPTY: no answer yet, or why there will be none. */
static int region_answer(struct port *port, uint64_t id)
{
    struct region *region = &port->region;
    bool answered, alone;
    int r;

    reactor_poll(); /* the maker may be in this process */
    r = region_settle(port);
    control_lock();
    answered = region->answered >= id;
    alone = !region->tether;
    control_unlock();
    if (answered)
        return 0;
    if (r == 0 && alone)
        r = VRD_ERR_PEER_GONE;
    return r < 0 ? r : VRD_ERR_CHANNEL_EMPTY;
}

/* Gives the pin back if it fails with VRD_ERR_INVALID_CAPABILITY. */
static int region_revoke_there(struct port *port, vrd_cap_t cap)
{
    int64_t deadline = clock_deadline(REVOKE_LIMIT);
    int r = region_ask(port);
    uint64_t id = port->region.asked;

    if (r < 0)
        return r;
    while ((r = region_answer(port, id)) == VRD_ERR_CHANNEL_EMPTY) {
        if (clock_now() >= deadline)
            return VRD_ERR_TIMEOUT;
        if (port_nap(port, cap, REVOKE_LOOK) < 0)
            return VRD_ERR_INVALID_CAPABILITY;
    }
    return r;
}

int region_revoke(struct port *port, vrd_cap_t cap)
{
    struct region *region = &port->region;
    vrd_cap_t twin = region->twin;
    int r = region_settle(port);

    if (r == 0 && region->maker) {
        control_lock();
        revoke_below(port, &region->tree, false);
        control_unlock();
        revoke_settle();
        r = region_renew(port);
    } else if (r == 0) {
        r = region_revoke_there(port, cap);
    }
    if (r != VRD_ERR_INVALID_CAPABILITY)
        pin_leave(&port->handle.pin);
    return r == 0 ? region_renew_maker(twin) : r;
}

/* --- life ------------------------------------------------------------------------------------- */

void region_close(struct port *port)
{
    struct region *region = &port->region;
    struct region_memory memory;
    void *addr;

    control_lock();
    while (!list_empty(&region->sources)) {
        struct source *source = list_entry(region->sources.next, struct source, node);

        source_free(&source);
    }
    source_free(&region->tether);
    fd_close(&region->inherited);
    memory = region->memory;
    addr = region->addr;
    region->memory = (struct region_memory)REGION_NONE;
    region->addr = NULL;
    control_unlock();
    /* without the lock: of large ones it takes a while */
    region_memory_unmap(addr, memory.size);
    region_memory_deinit(&memory);
    region_let_go(&region->provider, memory.size);
}

/*
 * No mapping is inherited. The sockets with others are the parent's; a maker's child is one too, of
 * what it makes of it, but cannot write what the maker alone may write.
 */
void region_after_fork(struct port *port)
{
    struct region *region = &port->region;
    struct region_memory *memory = &region->memory;

    region->addr = NULL;
    memory->addr = NULL;
    region->mapped = 0;
    region->provider = (struct vrd_memory_provider){ 0 };
    fd_forget_foreign(&memory->fd, region->identity);
    fd_forget_foreign(&memory->writable_fd, region->identity);
    if (region->mode != VRD_REGION_SHARED || region_copies(region))
        fd_close(&memory->writable_fd);
    if (region->maker && memory->writable_fd < 0 && !region_copies(region))
        port->handle.rights &= ~VRD_RIGHT_WRITE;
    while (!list_empty(&region->sources)) {
        struct source *source = list_entry(region->sources.next, struct source, node);

        source_free(&source);
    }
    if (region->tether) {
        region->inherited_identity = region->tether->identity;
        region->inherited = source_take_fd(&region->tether);
    }
    fd_forget_foreign(&region->inherited, region->inherited_identity);
    region->forked = true;
}
