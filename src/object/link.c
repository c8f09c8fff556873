/* SPDX-License-Identifier: MIT */
#include "object/link.h"

#include <errno.h>
#include <stdlib.h>
#include <veridian/error.h>

#include "base/error.h"
#include "cap/account.h"
#include "cap/frame.h"
#include "cap/node.h"
#include "object/borrower.h"
#include "object/control.h"
#include "object/memory.h"
#include "object/peer.h"
#include "object/port.h"
#include "object/reactor.h"
#include "object/source.h"
#include "object/spare.h"
#include "os/fd.h"
#include "os/futex.h"
#include "os/process.h"
#include "os/socket.h"

/* The sender's segment and our own, in `link`. */
static int link_map(struct link *link, const struct frame *hello, int segment_fd, bool calls,
                    int *ret_own_fd)
{
    const struct pages pages = memory_pages(link->memory, 0);
    uint32_t slots = ring_slots(hello->slots);
    struct segment peer, own;
    int r;

    r = segment_import(segment_fd, layout_sender_size(slots), &peer);
    if (r < 0)
        return r;
    if (link->memory != 0 || !spare_take(LAYOUT_RECEIVER_SIZE, &own, ret_own_fd))
        r = segment_create_of(LAYOUT_RECEIVER_SIZE, &pages, &own, ret_own_fd);
    if (r < 0) {
        segment_unmap(&peer);
        return r;
    }
    ring_reader_init(&link->ring, peer, own, slots, hello->max_message);
    link->ring.calls = calls;
    reply_writer_init(&link->replies, own.addr, peer.addr);
    return 0;
}

static int link_welcome(const struct link *link, int own_fd)
{
    struct frame frame = { .type = FRAME_WELCOME };
    uint8_t buf[FRAME_SIZE];

    frame_encode(&frame, buf);
    return socket_send(link->tether->fd, buf, sizeof(buf), &own_fd, 1);
}

/* Who is there, and when will they be gone? */
static int link_watch(struct link *link, struct port *port, struct datagram *datagram)
{
    int pidfd;

    link->source =
        (struct vrd_source){ .pid = datagram->pid, .uid = datagram->uid, .gid = datagram->gid };
    if (source_watch(link->tether) < 0)
        return VRD_ERR_OUT_OF_MEMORY;
    if (datagram->pid == control_pid())
        return 0;
    pidfd = datagram->pidfd >= 0 ? fd_take(&datagram->pidfd) : process_open(datagram->pid);
    peer_met(datagram->pid, pidfd);
    if (pidfd == -ESRCH) /* no pidfd for the dead: what they sent is drained all the same */
        link->ended = true;
    if (pidfd < 0) /* where the kernel has none, the tether has to do */
        return 0;
    link->life.port = port;
    link->life.link = link;
    return life_watch(&link->life, datagram->pid, pidfd);
}

/* The tether: one that came with the HELLO, or the socket over which that came. Takes it. 0 or VRD_ERR_*. */
static int link_tie(struct link *link, struct port *port, struct datagram *datagram,
                    struct source *over, bool here)
{
    if (here) {
        over->kind = SOURCE_LINK;
        over->link = link;
        link->tether = over;
        return 0;
    }
    link->tether = source_new(port, SOURCE_LINK, fd_take(&datagram->fds[0]));
    if (!link->tether)
        return VRD_ERR_OUT_OF_MEMORY;
    link->tether->link = link;
    source_confer(link->tether, over->right);
    return 0;
}

/* The opposite of link_tie for a socket that is not the link's own. */
static void link_untie(struct link *link, struct source *over)
{
    if (link->tether != over)
        return;
    over->kind = SOURCE_INVITATION;
    over->link = NULL;
    link->tether = NULL;
}

struct link *link_new(struct port *port, const struct frame *hello, struct datagram *datagram,
                      struct source *over)
{
    const bool here = hello->type == FRAME_HELLO_HERE;
    struct link *link = calloc(1, sizeof(*link));
    int *segment_fd = &datagram->fds[here ? 0 : 1];
    fd_auto own_fd = -1;
    int r;

    if (!link)
        return NULL;
    list_init(&link->node);
    list_init(&link->posted);
    list_init(&link->all);
    list_init(&link->held);
    link->memory = port->memory;
    carried_queue_init(&link->carried);
    if ((!here && socket_adopt(datagram->fds[0]) < 0) ||
        link_map(link, hello, *segment_fd, port->object == VRD_OBJECT_ENDPOINT, &own_fd) < 0) {
        free(link);
        return NULL;
    }
    fd_close(segment_fd); /* a memfd: that waits for nobody */
    link->max_bytes = port->max_bytes;
    link->right = over->right;
    link->badge = over->right->badge;
    list_append(&over->right->links, &link->held);
    r = link_tie(link, port, datagram, over, here);
    if (r == 0)
        r = link_welcome(link, own_fd); /* first: somebody waits for it */
    if (r == -EPIPE) { /* a sender that has sent and gone: what it sent is drained all the same */
        link->ended = true;
        r = 0;
    }
    if (r == 0)
        r = link_watch(link, port, datagram);
    if (r < 0) {
        link_untie(link, over);
        link_free(link, NOTICE_CLOSED, false);
        return NULL;
    }
    reactor_sent();
    return link;
}

static void link_close_sources(struct link *link, bool keep_tether)
{
    if (keep_tether && link->tether) {
        link->tether->link = NULL;
        link->tether = NULL;
    }
    source_free(&link->tether);
    life_unwatch(&link->life);
}

static void link_release(struct link *link)
{
    for (uint32_t i = 0; i < link->n_inbox; i++)
        segment_unmap(&link->inbox[i].segment);
    carried_queue_deinit(&link->carried);
    list_remove(&link->node);
    list_remove(&link->posted);
    list_remove(&link->all);
    list_remove(&link->held);
    if (link->right)
        node_settle(link->right);
    if (link->account) { /* which lives until the last of it */
        account_discharge(link->account, ACCOUNT_MAPPINGS, link->mappings);
        account_discharge(link->account, ACCOUNT_BYTES, link->bytes);
        account_discharge(link->account, ACCOUNT_LINKS, 1);
    }
    free(link);
}

void link_free(struct link *link, enum notice_cause cause, bool keep_tether)
{
    struct frame frame = { .type = FRAME_CLOSE, .cause = (uint16_t)cause };
    uint8_t buf[FRAME_SIZE];

    __atomic_store_n(&link->ring.own->notice, (uint64_t)cause << 32, __ATOMIC_RELEASE);
    if (link->tether) {
        frame_encode(&frame, buf);
        socket_send(link->tether->fd, buf, sizeof(buf), NULL, 0);
        reactor_sent();
    }
    link_close_sources(link, keep_tether);
    reply_writer_deinit(&link->replies);
    if (link->borrower)
        borrower_leave(link->borrower, &link->ring);
    ring_reader_deinit(&link->ring);
    link_release(link);
}

static void link_charge(struct link *link, uint32_t mappings, uint64_t bytes)
{
    link->mappings += mappings;
    link->bytes += bytes;
    account_charge(link->account, ACCOUNT_MAPPINGS, mappings);
    account_charge(link->account, ACCOUNT_BYTES, bytes);
}

bool link_bear(struct link *link, uint32_t mappings, uint64_t bytes)
{
    if (!account_allows(link->account, ACCOUNT_MAPPINGS, mappings) ||
        !account_allows(link->account, ACCOUNT_BYTES, bytes))
        return false;
    link_charge(link, mappings, bytes);
    return true;
}

void link_relieve(struct link *link, uint32_t mappings, uint64_t bytes)
{
    link->mappings -= mappings;
    link->bytes -= bytes;
    account_discharge(link->account, ACCOUNT_MAPPINGS, mappings);
    account_discharge(link->account, ACCOUNT_BYTES, bytes);
}

bool link_affordable(const struct account *account, uint32_t slots)
{
    uint64_t bytes = layout_sender_size(ring_slots(slots)) + LAYOUT_RECEIVER_SIZE;

    return account_allows(account, ACCOUNT_LINKS, 1) &&
           account_allows(account, ACCOUNT_DESCRIPTORS, LINK_DESCRIPTORS) &&
           account_allows(account, ACCOUNT_MAPPINGS, LINK_MAPPINGS) &&
           account_allows(account, ACCOUNT_BYTES, bytes);
}

void link_bill(struct link *link, struct account *account)
{
    link->account = link->carried.account = account;
    account_charge(account, ACCOUNT_LINKS, 1);
    link_charge(link, LINK_MAPPINGS, link->ring.peer_segment.size + link->ring.own_segment.size);
    if (link->tether && !link->tether->account) /* else it was, when it came */
        source_bill(link->tether, account);
    life_bill(&link->life, account);
}

void link_revoke(struct link *link, enum notice_cause cause)
{
    /* relaxed: whoever must not miss it reads it with the control lock, after the news were posted */
    __atomic_store_n(&link->revoked, (uint8_t)cause, __ATOMIC_RELAXED);
    link->ended = true;
    /* seq_cst: link_arm may be at the same word, and keeps the cause */
    __atomic_fetch_or(&link->ring.own->notice, (uint64_t)cause << 32, __ATOMIC_SEQ_CST);
    list_remove(&link->held);
    link->right = NULL;
    carried_queue_deinit(&link->carried); /* nobody will ask for it, perhaps not for long, either */
    life_unwatch(&link->life);
}

void link_forget(struct link *link)
{
    list_init(&link->node); /* its neighbours may have been changing */
    link_close_sources(link, false);
    reply_writer_forget(&link->replies);
    link->ring.own_segment = (struct segment){ 0 };
    if (link->borrower)
        borrower_leave(link->borrower, &link->ring);
    ring_reader_forget(&link->ring);
    link_release(link);
}

static int link_attach_heap(struct link *link, const struct frame *frame, int fd)
{
    if (!link->borrower)
        link->borrower = borrower_new(link);
    if (!link->borrower)
        return VRD_ERR_OUT_OF_MEMORY;
    return borrower_attach(link->borrower, frame, fd, link->max_bytes);
}

int link_detach(struct link *link, uint32_t number)
{
    return link->borrower ? borrower_detach(link->borrower, number) : VRD_ERR_PEER_CORRUPT;
}

int link_attach(struct link *link, const struct frame *frame, int fd)
{
    struct segment segment;
    bool more;
    int r;

    if (frame->count == FRAME_ATTACH_HEAP)
        return link_attach_heap(link, frame, fd);
    if (frame->count != 0)
        return VRD_ERR_PEER_CORRUPT;

    if (link->n_inbox == RING_EXTENSIONS_MAX)
        return VRD_ERR_PEER_CORRUPT;
    /* How many there are at a time is for the pin's holder to know; it is no more than this. */
    more = link->attached < RING_EXTENSIONS_MAX;
    if (!link_bear(link, more, frame->bytes))
        return VRD_ERR_QUOTA_EXCEEDED;
    r = segment_import_of(fd, frame->bytes, memory_shift(link->memory), &segment);
    if (r < 0)
        link_relieve(link, more, frame->bytes);
    if (r < 0)
        return r == -EPROTO ? VRD_ERR_PEER_CORRUPT : error_from_errno(-r);
    link->attached += more;
    link->inbox[link->n_inbox++] =
        (struct ring_extension){ .segment = segment, .number = frame->extension };
    return 0;
}

/* Byte rings that were read to their end are gone by now. */
static void link_weigh(struct link *link)
{
    const struct ring_reader *ring = &link->ring;
    uint64_t bytes = ring->peer_segment.size + ring->own_segment.size;

    for (uint32_t i = 0; i < RING_EXTENSIONS_MAX; i++)
        bytes += ring->extensions[i].segment.size;
    if (!link->account || bytes > link->bytes)
        return;
    account_discharge(link->account, ACCOUNT_BYTES, link->bytes - bytes);
    link->bytes = bytes;
}

int link_adopt(struct link *link)
{
    uint32_t n = link->n_inbox;
    int r = 0;

    link->n_inbox = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (r == 0)
            r = ring_reader_attach(&link->ring, link->inbox[i].number, link->inbox[i].segment);
        else
            segment_unmap(&link->inbox[i].segment);
    }
    if (link->borrower)
        borrower_adopt(link->borrower, &link->ring.loans);
    link_weigh(link);
    return r;
}

void link_arm(struct link *link, enum notice_ring how)
{
    uint64_t notice = (uint64_t)how << 40 | (uint32_t)(link->ring.position + 1);
    /* relaxed: the caller's fence follows */
    uint64_t old = __atomic_load_n(&link->ring.own->notice, __ATOMIC_RELAXED);

    if (old == notice)
        return;
    if (how == RING_TETHER)
        source_await_ring(&link->tether);
    /* once the link is revoked it says so, and nothing else */
    while ((old >> 32 & 0xff) == NOTICE_NONE &&
           !__atomic_compare_exchange_n(&link->ring.own->notice, &old, notice, true,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

void link_ring_tether(struct link *link)
{
    if (link->tether)
        socket_send(link->tether->fd, "", 1, NULL, 0);
    reactor_sent();
}

void link_ring(struct link *link, uint64_t notice)
{
    switch ((notice >> 40) & 0xff) {
    case RING_FUTEX:
        futex_wake(&link->ring.own->cursor, true);
        break;
    case RING_TETHER:
        control_lock();
        link_ring_tether(link);
        control_unlock();
        break;
    default:
        break;
    }
}
