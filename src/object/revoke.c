/* SPDX-License-Identifier: MIT */
#include "object/revoke.h"

#include "cap/frame.h"
#include "cap/node.h"
#include "object/control.h"
#include "object/link.h"
#include "object/owner.h"
#include "object/port.h"
#include "object/reactor.h"
#include "object/source.h"
#include "os/fd.h"
#include "os/socket.h"

#define DRAINS 8    /* of so many datagrams each that a queue cannot hold more */
#define AT_ONCE 256 /* sockets of a revocation that are not left to the reactor */
#define TURN_MAX 64 /* sockets that it closes in one turn */

/* With the control lock: what was revoked, and has yet to be told why and closed. */
static struct list leaving = { &leaving, &leaving };
static uint32_t at_once; /* left of AT_ONCE */

static void revoke_say(int fd, enum notice_cause cause)
{
    const struct frame frame = { .type = FRAME_CLOSE, .cause = (uint16_t)cause };
    uint8_t buf[FRAME_SIZE];

    frame_encode(&frame, buf);
    socket_send(fd, buf, sizeof(buf), NULL, 0);
}

void revoke_socket(int fd, enum notice_cause cause)
{
    socket_mute(fd);
    revoke_say(fd, cause);
    socket_shutdown(fd);
    reactor_sent();
}

void revoke_foreign(int fd, enum notice_cause cause)
{
    if (socket_adopt(fd) == 0)
        revoke_socket(fd, cause);
}

static int revoke_drain(struct source *source)
{
    return source->kind == SOURCE_HOLDER ? region_drain(source) : owner_drain(source);
}

/* Says why, as often as it is to be read, and ends it for all who hold it. */
static void revoke_part(struct source *source)
{
    for (int i = 1; i < source->copies; i++)
        revoke_say(source->fd, source->parting);
    revoke_socket(source->fd, source->parting);
}

static void revoke_source(struct source *source, enum notice_cause cause)
{
    bool later = at_once == 0;

    at_once -= !later;
    source->parting = (uint8_t)cause;
    source->copies = source->kind == SOURCE_LINK ? 2 : 1; /* one to be left for children */
    source->revoked = true;
    if (later) {
        socket_deafen(source->fd);
    } else {
        source_unwatch(source); /* or the loop would hear of its end */
        revoke_part(source);
    }
    for (int i = 0; i < DRAINS && socket_pending(source->fd) && revoke_drain(source) == 0; i++) {
    }
    if (source->link)
        source->link->tether = NULL;
    if (later) {
        source_leave(source, &leaving);
        reactor_owe();
    } else {
        source_free(&source);
    }
}

bool revoke_owes(void)
{
    return !list_empty(&leaving);
}

bool revoke_turn(bool all)
{
    bool any = revoke_owes();

    for (int i = 0; revoke_owes() && (all || i < TURN_MAX); i++) {
        struct source *source = list_entry(leaving.next, struct source, node);

        source_unwatch(source);
        revoke_part(source);
        source_free(&source);
    }
    return any;
}

/* A process that never waits has no thread; nor can there always be one. */
void revoke_settle(void)
{
    bool owes;

    control_lock();
    owes = revoke_owes();
    control_unlock();
    if (owes && !reactor_start() && !reactor_threadless())
        revoke_hurry();
}

bool revoke_hurry(void)
{
    bool any;

    control_lock();
    any = revoke_turn(true);
    control_unlock();
    return any;
}

/* A process that ends in good order has told everybody why. */
__attribute__((destructor)) static void revoke_at_exit(void)
{
    if (control_is_own())
        revoke_hurry();
}

void revoke_after_fork(void)
{
    list_foreach(node, &leaving) {
        struct source *source = list_entry(node, struct source, node);

        source->watched = false; /* in another loop */
        source_free(&source);
    }
}

static void revoke_link(struct port *port, struct link *link, enum notice_cause cause)
{
    link_revoke(link, cause);
    receiver_post(port, link);
}

/* The node itself; what is read on the way may add sockets to it, and children. */
static void revoke_node(struct port *port, struct node *node, enum notice_cause cause)
{
    while (!list_empty(&node->links))
        revoke_link(port, list_entry(node->links.next, struct link, held), cause);
    while (!list_empty(&node->sockets))
        revoke_source(list_entry(node->sockets.next, struct source, held), cause);
}

void revoke_below(struct port *port, struct node *top, bool too)
{
    struct node *node = top;

    at_once = AT_ONCE;
    if (too)
        revoke_node(port, top, NOTICE_REVOKED);
    for (;;) {
        if (!list_empty(&node->children)) {
            bool direct = node == top && !too;

            node = list_entry(node->children.next, struct node, sibling);
            node->doomed = true;
            revoke_node(port, node, direct ? NOTICE_REVOKED : NOTICE_PARENT_REVOKED);
        } else if (node != top) {
            struct node *done = node;

            node = node->parent;
            done->doomed = false;
            node_settle(done);
        } else {
            break;
        }
    }
    port_post(port); /* also where only unused sockets went: there may be nobody left to wait for */
}

/* The link, what it is tied with, and the right that it was made with. */
static void revoke_whole(struct port *port, struct link *link)
{
    struct source *tether = link->tether;
    struct node *right = link->right;
    bool own = right && right->parent; /* the root is not only that process's */

    if (own)
        right->doomed = true; /* not freed while we are at it */
    revoke_link(port, link, NOTICE_POLICY);
    if (tether)
        revoke_source(tether, NOTICE_POLICY);
    if (own) {
        revoke_node(port, right, NOTICE_POLICY);
        right->doomed = false;
        node_settle(right);
    }
}

int revoke_process(struct port *port, pid_t pid)
{
    struct list *links = &port->receiver.links;
    int n = 0;

    at_once = AT_ONCE;
    /* What is read on the way may add links, at the end. None leaves: that takes the pin. */
    for (struct list *node = links->next; node != links; node = node->next) {
        struct link *link = list_entry(node, struct link, all);

        if (link->source.pid != pid || link->revoked)
            continue;
        revoke_whole(port, link);
        n++;
    }
    return n;
}
