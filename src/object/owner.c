/* SPDX-License-Identifier: MIT */
#include "object/owner.h"

#include <veridian/error.h>

#include "cap/account.h"
#include "cap/frame.h"
#include "link/layout.h"
#include "link/ring.h"
#include "object/carried.h"
#include "object/link.h"
#include "object/port.h"
#include "object/reactor.h"
#include "object/receiver.h"
#include "object/revoke.h"
#include "object/source.h"
#include "os/fd.h"
#include "os/socket.h"

#define LINKS_MAX 65536

/* Takes `fd`; on failure also a node that nobody else holds. */
static int owner_add(struct port *port, enum source_kind kind, int fd, struct node *node)
{
    struct receiver *rx = &port->receiver;
    struct source *source = source_new(port, kind, fd);
    int r;

    if (!source) {
        node_settle(node);
        return VRD_ERR_OUT_OF_MEMORY;
    }
    rx->n_conferred++;
    source_confer(source, node);
    list_append(&rx->sources, &source->node);
    r = rx->started ? source_watch(source) : 0;
    if (r < 0)
        source_free(&source);
    return r;
}

int owner_root(struct port *port, int fd)
{
    return owner_add(port, SOURCE_ROOT, fd, &port->receiver.tree);
}

int owner_confer(struct port *port, int fd, struct node *parent, const struct frame *frame,
                 struct account *account)
{
    enum source_kind kind = frame->count > 0 ? SOURCE_DERIVED : SOURCE_INVITATION;
    struct node *node;
    int r = node_derive(parent, frame->rights, frame->badge, &node);

    if (r < 0) {
        fd_close(&fd);
        return r;
    }
    if (frame->depth > 0)
        node->depth = frame->depth;
    r = owner_add(port, kind, fd, node);
    if (r == 0)
        source_bill(list_entry(node->sockets.next, struct source, held), account);
    return r;
}

int owner_invite(struct port *port, int fd, uint32_t rights)
{
    const struct frame frame = { .rights = rights };

    return owner_confer(port, fd, &port->receiver.tree, &frame, NULL);
}

/* A HELLO over a socket that was revoked: the new tether, if there is one, goes the same way. */
static int owner_hello_late(struct source *source, bool here, struct datagram *datagram)
{
    if (!here && socket_adopt(datagram->fds[0]) == 0)
        owner_add(source->port, SOURCE_LINK, fd_take(&datagram->fds[0]), source->right);
    return 0;
}

static int owner_hello(struct source *source, const struct frame *hello, struct datagram *datagram)
{
    const bool here = hello->type == FRAME_HELLO_HERE;
    struct port *port = source->port;
    struct receiver *rx = &port->receiver;
    struct account *account;
    struct link *link = NULL;

    if (source->revoked)
        return owner_hello_late(source, here, datagram);
    if (!(source->right->rights & VRD_RIGHT_SEND))
        return VRD_ERR_PEER_CORRUPT;
    if (hello->slots > port->capacity || hello->max_message > port->max_message)
        return VRD_ERR_PEER_CORRUPT;
    /* pid 0 is nobody whom we could watch: sent before credentials were asked for, or from where
     * our pid namespace does not reach */
    if (datagram->pid == 0)
        return 0; /* refused: the new tether closes, the sender sees that */
    account = source_payer(datagram->uid, datagram->pid);
    if (rx->n_links < LINKS_MAX && link_affordable(account, hello->slots))
        link = link_new(port, hello, datagram, source);
    else if (here)
        revoke_socket(source->fd, NOTICE_POLICY);
    else
        revoke_foreign(datagram->fds[0], NOTICE_POLICY);
    if (!link) {
        account_close(account);
        return 0;
    }
    link_bill(link, account);
    rx->n_links++;
    list_append(&rx->links, &link->all);
    if (!here)
        list_append(&rx->sources, &link->tether->node);
    receiver_post(port, link);
    return 0;
}

static int owner_derive(struct source *source, const struct frame *frame, struct datagram *datagram)
{
    struct account *account;
    int r;

    if (!(source->right->rights & VRD_RIGHT_GRANT) || frame->count > 1)
        return VRD_ERR_PEER_CORRUPT;
    if (socket_adopt(datagram->fds[0]) < 0)
        return VRD_ERR_PEER_CORRUPT;
    account = source->revoked ? NULL : source_payer(datagram->uid, datagram->pid);
    if (!account_allows(account, ACCOUNT_DESCRIPTORS, 1)) {
        revoke_foreign(datagram->fds[0], NOTICE_POLICY);
        account_close(account);
        return 0;
    }
    r = owner_confer(source->port, fd_take(&datagram->fds[0]), source->right, frame, account);
    account_close(account);
    /* what we have no memory for is withdrawn, no more */
    return r == VRD_ERR_PERMISSION_DENIED ? VRD_ERR_PEER_CORRUPT : 0;
}

/* 0: it does not count, 1: it does, with what the owner knows and its maker may not, or VRD_ERR_*. */
static int owner_offer(struct source *source, struct frame *hello)
{
    const struct port *port = source->port;

    if (source->kind != SOURCE_INVITATION)
        return VRD_ERR_PEER_CORRUPT;
    if (!source->accepted || hello->extension != port->memory ||
        layout_sender_size(ring_slots(hello->slots)) !=
            layout_sender_size(ring_slots(port->capacity))) {
        if (source->offered)
            return VRD_ERR_PEER_CORRUPT;
        source->offered = true;
        return 0;
    }
    hello->slots = port->capacity;
    hello->max_message = port->max_message;
    return 1;
}

static int owner_frame(struct source *source, struct datagram *datagram)
{
    struct link *link = source->link;
    struct frame frame;
    int r;

    if (datagram->len == 1)
        return source_rang(source, datagram->n_fds); /* also late, when the link is over */
    r = frame_decode(datagram->data, datagram->len, datagram->n_fds, &frame);
    if (r < 0)
        return r;
    switch (frame.type) {
    case FRAME_HELLO_HERE:
        r = owner_offer(source, &frame);
        if (r <= 0)
            return r;
        /* fall through */
    case FRAME_HELLO:
        r = owner_hello(source, &frame, datagram);
        if (r < 0 || source->kind != SOURCE_INVITATION)
            return r;
        /* burnt, for all who hold a copy of either end (if it is not a tether from now on) */
        socket_shutdown(source->fd);
        return VRD_ERR_PEER_GONE;
    case FRAME_DERIVE:
        return owner_derive(source, &frame, datagram);
    case FRAME_ATTACH:
        return link ? link_attach(link, &frame, datagram->fds[0]) : VRD_ERR_PEER_CORRUPT;
    case FRAME_DETACH:
        return link ? link_detach(link, frame.extension) : VRD_ERR_PEER_CORRUPT;
    case FRAME_REVOKE:
        if (!link || !(source->right->rights & VRD_RIGHT_REVOKE))
            return VRD_ERR_PEER_CORRUPT;
        source->revoke = frame.id; /* which answers those before it as well */
        return 0;
    case FRAME_TRANSFER:
        if (!link || frame.count != 0)
            return VRD_ERR_PEER_CORRUPT;
        return link->revoked ? 0 : carried_arrived(&link->carried, &frame, datagram);
    case FRAME_CLOSE:
        if (source->closed) /* said once; more would only keep us busy */
            return VRD_ERR_PEER_CORRUPT;
        source->closed = true;
        if (link)
            link->ended = true;
        return 0;
    default:
        return VRD_ERR_PEER_CORRUPT;
    }
}

int owner_drain(struct source *source)
{
    return source_drain(source, owner_frame);
}

/* The receiver here that has a source with this token, or a socket with this identity. */
static struct source *owner_find(struct receiver *rx, uint64_t identity)
{
    list_foreach(node, &rx->sources) {
        struct source *source = list_entry(node, struct source, node);

        if (source->identity == identity)
            return source;
    }
    return NULL;
}

struct source *owner_source(vrd_cap_t cap, uint64_t identity, uint64_t *token)
{
    struct source *source = source_find(*token);
    struct handle *handle;
    struct port *port;

    if (!source || source->identity != identity) {
        handle = handle_find(cap);
        port = port_of(handle);
        if (!handle || handle->cap != cap || port->kind != PORT_RECEIVER)
            return NULL;
        source = owner_find(&port->receiver, identity);
    }
    if (!source || source->revoked || !source->port->receiver.ours || source->port->receiver.moving)
        return NULL;
    *token = source_token(source);
    return source;
}

int owner_accept(struct source *over, uint32_t rights, int fd, const struct vrd_source *who,
                 uint64_t *ret_token)
{
    struct source *source;
    const struct frame frame = { .type = FRAME_DERIVE, .rights = rights };
    struct account *account = source_payer(who->uid, who->pid);
    int r;

    if (!account_allows(account, ACCOUNT_DESCRIPTORS, 1)) {
        revoke_socket(fd, NOTICE_POLICY);
        fd_close(&fd);
        account_close(account);
        *ret_token = 0;
        return 0;
    }
    r = owner_confer(over->port, fd, over->right, &frame, account);
    account_close(account);
    if (r < 0)
        return r;
    source = list_entry(over->port->receiver.sources.prev, struct source, node);
    source->accepted = true;
    *ret_token = source_token(source);
    return 0;
}

/* With what result was it drained? */
static void owner_drained(struct source *source, int r)
{
    struct port *port = source->port;
    struct link *link = source->link;

    if (r < 0) {
        if (link && r == VRD_ERR_QUOTA_EXCEEDED) {
            link_revoke(link, NOTICE_POLICY);
            revoke_socket(source->fd, NOTICE_POLICY);
            link->tether = NULL;
        } else if (link) {
            link->ended = true;
            link->corrupt |= r == VRD_ERR_PEER_CORRUPT;
            link->starved |= r != VRD_ERR_PEER_CORRUPT && r != VRD_ERR_PEER_GONE;
            link->tether = NULL;
        }
        source_free(&source);
    }
    if (link && link->ended)
        reactor_relieved();
    if (r < 0 || link) /* a new right is no news to who receives */
        receiver_post(port, link);
}

/* Answers all who hold `right` and asked. */
static void owner_revoked(struct node *right)
{
    list_foreach(held, &right->sockets) {
        struct source *source = list_entry(held, struct source, held);
        const struct frame frame = { .type = FRAME_REVOKED, .id = source->revoke };
        uint8_t buf[FRAME_SIZE];

        if (source->revoke == 0)
            continue;
        source->revoke = 0;
        frame_encode(&frame, buf);
        socket_send(source->fd, buf, sizeof(buf), NULL, 0);
        reactor_sent();
    }
}

void owner_read_all(struct node *right, const struct source *but)
{
    struct list *next;

    for (struct list *held = right->sockets.next; held != &right->sockets; held = next) {
        struct source *source = list_entry(held, struct source, held);
        int r = 0;

        for (int i = 0;
             i < OWNER_FETCHES && r == 0 && source != but && (i == 0 || !source->drained); i++)
            r = owner_drain(source);
        next = held->next; /* also what was added meanwhile */
        if (source != but)
            owner_drained(source, r);
    }
}

/*
 * Whoever asks may have derived over another socket before, since a family has several: all of them
 * are read first.
 */
static void owner_revoke_asked(struct source *asking)
{
    struct node *right = asking->right;

    owner_read_all(right, asking);
    revoke_below(asking->port, right, false);
    owner_revoked(right);
}

void owner_process_gone(struct port *port, struct link *link)
{
    link->ended = true;
    receiver_post(port, link);
}

int owner_sender_gone(struct port *port, pid_t pid)
{
    int n = 0;

    list_foreach(node, &port->receiver.links) {
        struct link *link = list_entry(node, struct link, all);

        if (link->source.pid != pid)
            continue;
        n++;
        if (life_over(&link->life)) { /* not a new process with an old number */
            life_unwatch(&link->life);
            owner_process_gone(port, link);
        }
    }
    return n;
}

void owner_source_ready(struct source *source)
{
    int r = owner_drain(source);

    if (source->revoke != 0)
        owner_revoke_asked(source);
    owner_drained(source, r);
}
