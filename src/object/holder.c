/* SPDX-License-Identifier: MIT */
/* What comes over the sockets between the maker of a region and those who hold it. */
#include "object/region.h"

#include <errno.h>
#include <veridian/error.h>

#include "base/error.h"
#include "cap/account.h"
#include "cap/frame.h"
#include "link/layout.h"
#include "object/control.h"
#include "object/loss.h"
#include "object/port.h"
#include "object/revoke.h"
#include "object/source.h"
#include "os/fd.h"
#include "os/socket.h"

/* Is it a greeting that can be meant? */
static bool greeting_fits(const struct frame *greeting)
{
    uint64_t page;

    if (greeting->type != FRAME_GREETING_REGION || greeting->id > 1 + VRD_REGION_SHARED ||
        greeting->extension > 1 + VRD_TRANSFER_COPY_ON_WRITE ||
        (greeting->count != 0 && greeting->count != 21 && greeting->count != 30))
        return false;
    page = pages_size(greeting->count);
    if (greeting->bytes % page != 0 || !(greeting->rights & VRD_RIGHT_READ) ||
        (greeting->rights & ~REGION_RIGHTS) != 0)
        return false;
    /* who may write could take a huge page away under us */
    return greeting->id != 1 + VRD_REGION_SHARED || greeting->count == 0 || greeting->extension > 1;
}

static int greeting_check(const struct frame *greeting, int fd)
{
    enum vrd_region_mode mode = (enum vrd_region_mode)(greeting->id - 1);
    enum vrd_transfer_mode transfer = (enum vrd_transfer_mode)(greeting->extension - 1);
    enum region_seal seal = region_seal_wanted(mode, transfer);
    int r = region_memory_check(fd, greeting->bytes, greeting->count, seal);

    if (r == 0 && (greeting->rights & VRD_RIGHT_WRITE) && transfer == VRD_TRANSFER_SHARE &&
        (seal != REGION_OPEN || !region_memory_writable(fd)))
        r = -EPROTO;
    return r == -EPROTO ? VRD_ERR_PEER_CORRUPT : r < 0 ? error_from_errno(-r) : 0;
}

static struct region region_of_greeting(const struct frame *greeting, int memory_fd)
{
    enum vrd_region_mode mode = (enum vrd_region_mode)(greeting->id - 1);
    enum vrd_transfer_mode transfer = (enum vrd_transfer_mode)(greeting->extension - 1);

    return (struct region){
        .mode = mode,
        .transfer = transfer,
        .maker = transfer == VRD_TRANSFER_MOVE,
        .exported = true,
        .inherited = -1,
        .identity = fd_identity(memory_fd),
        .memory = { .fd = memory_fd,
                    .writable_fd = -1,
                    .size = greeting->bytes,
                    .shift = greeting->count,
                    .seal = region_seal_wanted(mode, transfer),
                    .pages = { .shift = greeting->count, .node = -1 } },
    };
}

int region_import(const struct frame *greeting, struct datagram *datagram, int fd_taken,
                  vrd_cap_t twin, vrd_cap_t *ret)
{
    fd_auto fd = fd_taken;
    struct port *port;
    vrd_cap_t cap;
    int r;

    if (!greeting_fits(greeting))
        return VRD_ERR_PEER_CORRUPT;
    r = greeting_check(greeting, datagram->fds[0]);
    if (r < 0)
        return r;
    control_lock();
    port = port_new(PORT_REGION, greeting->rights, 0, 0, &cap);
    if (port) {
        port->object = VRD_OBJECT_REGION;
        port->badge = greeting->badge;
        port->depth = greeting->depth;
        port->region = region_of_greeting(greeting, fd_take(&datagram->fds[0]));
        port->region.twin = twin;
        region_empty(&port->region);
        if (!port->region.maker)
            port->region.tether = source_new(port, SOURCE_MAKER, fd_take(&fd));
        r = port->region.maker ? 0 : VRD_ERR_OUT_OF_MEMORY;
        if (port->region.tether)
            r = source_watch(port->region.tether);
        if (r == 0) {
            port_show(port, cap);
            *ret = cap;
        } else {
            source_free(&port->region.tether);
            fd_close(&port->region.memory.fd);
            port_free(port);
        }
    }
    control_unlock();
    return port ? r : VRD_ERR_OUT_OF_MEMORY;
}

/* The right is gone: whoever still uses the mapping finds zeroes. */
static void region_lose(struct port *port, uint16_t cause)
{
    struct region *region = &port->region;

    if (region->lost == NOTICE_NONE)
        region->lost = cause;
    loss_note(port, loss_of_cause((uint8_t)cause));
    if (region->addr)
        region_memory_vacate(region->addr, region->memory.size, region->access != REGION_READ);
    fd_close(&region->memory.fd);
}

/* The maker has given it new memory. */
static int region_renewed(struct port *port, const struct frame *frame, struct datagram *datagram)
{
    struct region *region = &port->region;
    struct region_memory *memory = &region->memory;
    int r;

    if (region->lost != NOTICE_NONE || region->mode != VRD_REGION_PUBLISHED ||
        region_copies(region) || frame->bytes != memory->size ||
        frame->extension <= region->generation)
        return VRD_ERR_PEER_CORRUPT;
    r = region_memory_check(datagram->fds[0], memory->size, memory->shift, memory->seal);
    if (r == 0 && region->addr)
        r = region_memory_map(datagram->fds[0], memory->size, memory->shift, REGION_READ,
                              region->addr, &region->addr);
    if (r < 0)
        return VRD_ERR_PEER_CORRUPT;
    fd_close(&memory->fd);
    memory->fd = fd_take(&datagram->fds[0]);
    region->identity = fd_identity(memory->fd);
    region->generation = frame->extension;
    return 0;
}

static int region_tether_frame(struct source *source, struct datagram *datagram)
{
    struct port *port = source->port;
    struct frame frame;
    int r = frame_decode(datagram->data, datagram->len, datagram->n_fds, &frame);

    if (r < 0)
        return r;
    switch (frame.type) {
    case FRAME_CLOSE:
        region_lose(port, frame.cause != NOTICE_NONE ? frame.cause : NOTICE_REVOKED);
        return 0;
    case FRAME_ATTACH:
        return region_renewed(port, &frame, datagram);
    case FRAME_REVOKED:
        port->region.answered = frame.id;
        port_post(port);
        return 0;
    default:
        return VRD_ERR_PEER_CORRUPT;
    }
}

/* A socket that somebody has sent, and what it is to confer. */
static int region_planted(struct source *source, const struct frame *frame, int far,
                          struct account *account)
{
    struct port *port = source->port;
    struct source *made;
    int r = region_confer(port, far, source->right, frame->rights, frame->badge);

    if (r == VRD_ERR_PERMISSION_DENIED)
        return VRD_ERR_PEER_CORRUPT;
    if (r < 0) /* what we have no memory for is withdrawn, no more */
        return 0;
    made = list_entry(port->region.sources.prev, struct source, node);
    /* it was greeted with the old one, perhaps */
    if (port->region.generation == 0 || region_hand(port, made))
        source_bill(made, account);
    return 0;
}

/* Somebody who holds the region passes it on. */
static int region_derived(struct source *source, const struct frame *frame,
                          struct datagram *datagram)
{
    struct account *account;
    int r = 0;

    /* a forked child of the holder says count 1: it keeps what it has */
    if ((frame->count == 0 && !(source->right->rights & VRD_RIGHT_GRANT)) || frame->count > 1 ||
        socket_adopt(datagram->fds[0]) < 0)
        return VRD_ERR_PEER_CORRUPT;
    account = source_payer(datagram->uid, datagram->pid);
    if (account_allows(account, ACCOUNT_DESCRIPTORS, 1))
        r = region_planted(source, frame, fd_take(&datagram->fds[0]), account);
    else
        revoke_foreign(datagram->fds[0], NOTICE_POLICY);
    account_close(account);
    return r;
}

static int region_held_frame(struct source *source, struct datagram *datagram)
{
    struct frame frame;
    int r = frame_decode(datagram->data, datagram->len, datagram->n_fds, &frame);

    if (r < 0)
        return r;
    switch (frame.type) {
    case FRAME_DERIVE:
        return region_derived(source, &frame, datagram);
    case FRAME_REVOKE:
        if (!(source->right->rights & VRD_RIGHT_REVOKE))
            return VRD_ERR_PEER_CORRUPT;
        source->revoke = frame.id; /* which answers those before it as well */
        return 0;
    default:
        return VRD_ERR_PEER_CORRUPT;
    }
}

int region_drain(struct source *source)
{
    return source_drain(source, region_held_frame);
}

/* All that this one has passed on. */
static void region_revoke_asked(struct source *source)
{
    const struct frame frame = { .type = FRAME_REVOKED, .id = source->revoke };

    source->revoke = 0;
    revoke_below(source->port, source->right, false);
    region_say(source->fd, &frame, NULL, 0);
}

void region_source_ready(struct source *source)
{
    struct port *port = source->port;
    int r;

    if (source->kind == SOURCE_HOLDER) {
        r = region_drain(source);
        if (source->revoke != 0)
            region_revoke_asked(source);
        if (r < 0)
            source_free(&source);
        return;
    }
    r = source_drain(source, region_tether_frame);
    if (r == VRD_ERR_PEER_CORRUPT)
        region_lose(port, NOTICE_CORRUPT);
    if (r < 0)
        source_free(&port->region.tether);
}
