/* SPDX-License-Identifier: MIT */
#include "object/receiver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <veridian/error.h>

#include "base/clock.h"
#include "base/error.h"
#include "cap/account.h"
#include "cap/frame.h"
#include "object/borrower.h"
#include "object/control.h"
#include "object/link.h"
#include "object/loss.h"
#include "object/port.h"
#include "object/reactor.h"
#include "object/ready.h"
#include "object/relay.h"
#include "object/revoke.h"
#include "object/source.h"
#include "os/fd.h"
#include "os/futex.h"
#include "os/socket.h"

#define TURN 64              /* messages in a row from one link, while others may have some */
#define TURN_ALONE 1024      /* ... while there is no other */
#define QUIET 256            /* messages of others after which a silent link goes cold */
#define HOT_MAX 16           /* links that a sleeping receiver watches itself */
#define COOL_NS 10000000     /* see docs/design.md, "Sleep": a store is visible after this time */
#define BUSY_POLL_NS 1000000 /* ... while messages keep coming */
#define POLL_NS 20000        /* between two looks at the sockets while a caller polls */
#define START_RETRY_NS 1000000
#define LINKS_MAX 65536
#define NESTED_MAX 16  /* derivations that nobody has looked at, one from the other */
#define NESTED_USUAL 4 /* rounds: an invitation, a HELLO over it, and what came with that */
#define RIGHTS_ROOT (VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)
#define FETCHES 8 /* so many drains take more than a socket's queue can hold */

_Static_assert(HOT_MAX < FUTEX_POINTS_MAX, "one point is the bell");

void receiver_init(struct port *port)
{
    struct receiver *rx = &port->receiver;

    list_init(&rx->active);
    list_init(&rx->cooling);
    list_init(&rx->sources);
    list_init(&rx->links);
    list_init(&rx->posted);
    node_init(&rx->tree, RIGHTS_ROOT);
    rx->polled_heard = UINT64_MAX; /* never */
    rx->ours = true;
}

/* Takes `fd`; on failure also a node that nobody else holds. */
static int receiver_add(struct port *port, enum source_kind kind, int fd, struct node *node)
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

int receiver_root(struct port *port, int fd)
{
    return receiver_add(port, SOURCE_ROOT, fd, &port->receiver.tree);
}

/* A new node below `parent`, as the frame says, which `fd` confers; takes it. 0 or VRD_ERR_*. */
static int receiver_confer(struct port *port, int fd, struct node *parent,
                           const struct frame *frame, struct account *account)
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
    r = receiver_add(port, kind, fd, node);
    if (r == 0)
        source_bill(list_entry(node->sockets.next, struct source, held), account);
    return r;
}

int receiver_invite(struct port *port, int fd, uint32_t rights)
{
    const struct frame frame = { .rights = rights };

    return receiver_confer(port, fd, &port->receiver.tree, &frame, NULL);
}

/* The root is the first, then the invitations in order. NULL: there are not so many. */
static struct node *receiver_nth(struct receiver *rx, uint64_t n)
{
    if (n == 1)
        return &rx->tree;
    list_foreach(node, &rx->sources) {
        const struct source *source = list_entry(node, struct source, node);

        if (source->kind != SOURCE_ROOT && --n == 1)
            return source->right;
    }
    return NULL;
}

int receiver_inherit(struct port *port, const struct frame *frame, int *fds, size_t n)
{
    struct receiver *rx = &port->receiver;
    struct node *parent = receiver_nth(rx, frame->id);
    struct frame child = *frame;

    if (!parent || frame->count > 1 || (frame->depth > 0 && frame->depth <= parent->depth) ||
        (parent->badge != 0 && frame->badge != parent->badge))
        return VRD_ERR_PEER_CORRUPT;
    if (parent->badge != 0)
        child.badge = 0; /* it has it from there */
    for (size_t i = 0; i < n; i++) {
        int r = receiver_confer(port, fd_take(&fds[i]), parent, &child, NULL);

        if (r < 0)
            return r == VRD_ERR_PERMISSION_DENIED ? VRD_ERR_PEER_CORRUPT : r;
    }
    return 0;
}

/* --- links: pin held -------------------------------------------------------------------------- */

/* Counts what was taken out of the budget since it was granted. */
static void receiver_count(struct receiver *rx)
{
    uint32_t taken = rx->granted - rx->budget;

    rx->granted = rx->budget;
    rx->heard += taken;
    if (taken > 0)
        rx->current->heard = rx->heard;
}

/* The current link may be read that many times without a closer look. */
static void receiver_grant(struct receiver *rx)
{
    bool alone = rx->n_active == 1 && list_empty(&rx->cooling);

    rx->granted = rx->budget = !rx->current || rx->current->ending ? 0 : alone ? TURN_ALONE : TURN;
}

static void receiver_activate(struct receiver *rx, struct link *link)
{
    if (link->state == LINK_ACTIVE)
        return;
    list_remove(&link->node);
    list_append(&rx->active, &link->node);
    link->state = LINK_ACTIVE;
    link->heard = rx->heard;
    rx->n_active++;
    if (!rx->current)
        rx->current = link;
    else if (rx->n_active == 2) /* whose budget was granted while it was alone */
        receiver_count(rx);
    if (rx->n_active <= 2)
        receiver_grant(rx);
}

/* The next link has its turn. */
static void receiver_turn(struct receiver *rx)
{
    struct list *next = rx->current->node.next;

    receiver_count(rx);
    if (next == &rx->active)
        next = next->next;
    rx->current = list_entry(next, struct link, node);
    receiver_grant(rx);
}

static void receiver_deactivate(struct receiver *rx, struct link *link)
{
    if (link->state == LINK_ACTIVE) {
        if (rx->current == link)
            receiver_turn(rx);
        if (rx->current == link) { /* the only one */
            rx->current = NULL;
            receiver_grant(rx);
        }
        rx->n_active--;
    }
    list_remove(&link->node);
    link->state = LINK_COLD;
}

/* The link is over; nothing that it sent is left, or nothing that could be trusted. */
static void receiver_retire(struct port *port, struct link *link, enum notice_cause cause)
{
    struct receiver *rx = &port->receiver;

    receiver_deactivate(rx, link);
    reply_forget(rx, link,
                 loss_is_revocation((uint16_t)cause) ? VRD_ERR_REVOKED : VRD_ERR_PEER_GONE);
    if (rx->oversize == link)
        rx->oversize = NULL;
    control_lock();
    rx->n_links--;
    /* A forked child of the sender may hold the tether and say HELLO over it. */
    link_free(link, cause, cause == NOTICE_CLOSED);
    rx->gone = rx->n_links == 0 && list_empty(&rx->sources);
    if (rx->gone) { /* nobody else tells those who sleep beside this thread, or watch */
        ready_post(port);
        port_wake(port);
    }
    control_unlock();
}

/* A silent link is to ring its tether; it is looked at once more when a store must have arrived. */
static void receiver_cool(struct receiver *rx, struct link *link)
{
    uint64_t word;

    link_arm(link, RING_TETHER);
    atomic_thread_fence(memory_order_seq_cst); /* between our notice and our look */
    link->cooled = clock_now();
    if (ring_peek(&link->ring, &word) != RING_EMPTY)
        return;
    receiver_deactivate(rx, link);
    link->state = LINK_COOLING;
    list_append(&rx->cooling, &link->node);
}

/* Looks at the links whose time has come, oldest first. */
static void receiver_cooled(struct receiver *rx)
{
    int64_t now;
    uint64_t word;

    if (likely(list_empty(&rx->cooling)))
        return;
    now = clock_now();
    list_foreach(node, &rx->cooling) {
        struct link *link = list_entry(node, struct link, node);

        if (now - link->cooled < COOL_NS)
            return;
        if (ring_peek(&link->ring, &word) != RING_EMPTY) {
            receiver_activate(rx, link);
        } else {
            list_remove(&link->node);
            link->state = LINK_COLD;
        }
    }
}

/* --- sockets: pin held ------------------------------------------------------------------------ */

/* Control lock held. What cannot be watched now, for want of descriptors, is tried again. */
static void receiver_start(struct receiver *rx)
{
    if (rx->moving)
        return;
    rx->started = rx->ours = true;
    list_foreach(node, &rx->sources)
        if (source_watch(list_entry(node, struct source, node)) < 0)
            rx->started = false;
}

/* Handles what is ready; with it may come sockets with more, which are looked at too. */
static void receiver_poll_all(struct receiver *rx)
{
    int64_t started = clock_now();
    uint32_t before, after;

    control_lock();
    if (!rx->started)
        receiver_start(rx);
    after = rx->n_conferred;
    control_unlock();
    /* beyond the usual, not for long: a flood of new sockets would keep a caller that is not to wait */
    for (int i = 0; i < NESTED_MAX && (i < NESTED_USUAL || clock_now() - started < BUSY_POLL_NS);
         i++) {
        before = after;
        reactor_poll();
        control_lock();
        after = rx->n_conferred;
        control_unlock();
        if (after == before)
            return;
    }
}

/* Looks at the sockets now. */
static void receiver_poll(struct port *port)
{
    struct receiver *rx = &port->receiver;

    receiver_count(rx);
    rx->polled_heard = rx->heard;
    rx->sent_seen = reactor_sent_count();
    receiver_poll_all(rx);
    rx->polled = clock_now();
}

bool receiver_refresh(struct port *port)
{
    struct receiver *rx = &port->receiver;

    receiver_count(rx);
    if (rx->started && rx->heard == rx->polled_heard && reactor_sent_count() == rx->sent_seen &&
        clock_now() - rx->polled < POLL_NS)
        return false;
    receiver_poll(port);
    receiver_cooled(rx);
    return true;
}

void receiver_adopt(struct port *port)
{
    struct receiver *rx = &port->receiver;

    control_lock();
    /* acquire: pairs with the release in port_post */
    atomic_fetch_and_explicit(&port->attention, ~PORT_NEWS, memory_order_acquire);
    list_foreach(node, &rx->posted) {
        struct link *link = list_entry(node, struct link, posted);

        list_remove(&link->posted);
        if (link_adopt(link) < 0)
            link->corrupt = true;
        link->broken = link->corrupt && !link->revoked;
        if (link->ended && !link->ending) {
            link->ending = true;
            link->drain_left = link->ring.mask + 1;
            if (link == rx->current) {
                receiver_count(rx);
                receiver_grant(rx);
            }
        }
        if (link->revoked)
            link->drain_left = 0;
        receiver_activate(rx, link);
    }
    rx->gone = rx->n_links == 0 && list_empty(&rx->sources);
    if (rx->n_answers > 0) /* not ours to see to: the next receive does */
        atomic_fetch_or_explicit(&port->attention, PORT_NEWS, memory_order_relaxed);
    control_unlock();
}

/* Has the tether brought the byte ring that a message names? Before the message, or never. */
static int receiver_fetch(struct link *link, bool *ret_starved)
{
    int r;

    control_lock();
    for (int i = 0; i < FETCHES && link->tether && (i == 0 || !link->tether->drained); i++)
        receiver_source_ready(link->tether);
    link->starved |= link->tether && !link->tether->drained;
    *ret_starved = link->starved;
    r = link->corrupt ? VRD_ERR_PEER_CORRUPT : link_adopt(link);
    control_unlock();
    return r;
}

static int receiver_read_any(struct link *link, uint64_t word, struct ring_message *message,
                             size_t size)
{
    int r = ring_read(&link->ring, word, message, size);
    bool starved;

    if (r != RING_NEEDS_EXTENSION)
        return r;
    if (receiver_fetch(link, &starved) < 0)
        return VRD_ERR_PEER_CORRUPT;
    r = ring_read(&link->ring, word, message, size);
    if (r != RING_NEEDS_EXTENSION)
        return r;
    if (link->revoked) /* it was more than its quota: what is left goes unread */
        return VRD_ERR_CHANNEL_EMPTY;
    return starved ? VRD_ERR_OUT_OF_MEMORY : VRD_ERR_PEER_CORRUPT;
}

/* For a view: what was lent stays where it is, all else is copied to memory of the view's own. */
static int receiver_read_view(struct link *link, uint64_t word, struct ring_message *message)
{
    void *copy;
    int r;

    message->data = NULL;
    r = receiver_read_any(link, word, message, 0);
    if (r != VRD_ERR_MESSAGE_TOO_LARGE)
        return r;
    copy = malloc(message->len);
    message->kept = !copy;
    if (!copy)
        return VRD_ERR_OUT_OF_MEMORY;
    message->data = copy;
    r = ring_read(&link->ring, word, message, message->len);
    if (r == 0)
        return 0;
    free(copy);
    message->data = NULL;
    return VRD_ERR_PEER_CORRUPT; /* it has changed in between */
}

static int receiver_read(struct link *link, uint64_t word, struct ring_message *message,
                         size_t size)
{
    int r = message->wants_view ? receiver_read_view(link, word, message)
                                : receiver_read_any(link, word, message, size);

    if (r < 0 || !message->view.memory)
        return r;
    if (message->wants_view)
        borrower_hold(message->view.memory);
    else
        borrower_heed(link->borrower, message->view.returns);
    return r;
}

/* The message that was read for a view is nobody's. */
static void receiver_drop_view(struct ring_message *message)
{
    if (message->view.memory)
        borrower_release(message->view.memory, message->view.loan);
    else
        free(message->data);
}

/* A call: to be answered by whoever received it, if it was by a function that says so. */
static int receiver_called(struct port *port, struct link *link, struct ring_message *message)
{
    uint32_t entry = message->call - 1;

    if (!message->wants_calls)
        return reply_refuse(link, entry, message->sequence);
    message->reply = reply_new(port, link, entry, message->sequence);
    return message->reply != VRD_CAP_NONE ? 0 : VRD_ERR_PEER_CORRUPT;
}

/* What came with a message: before the message, or never. */
static int receiver_carried(struct link *link, uint64_t id, struct carried **ret)
{
    bool starved = false;
    int r = 0;

    control_lock();
    *ret = carried_take(&link->carried, id);
    control_unlock();
    if (*ret)
        return 0;
    r = receiver_fetch(link, &starved);
    if (r < 0)
        return r;
    control_lock();
    *ret = carried_take(&link->carried, id);
    control_unlock();
    if (*ret)
        return 0;
    return starved ? VRD_ERR_OUT_OF_MEMORY : VRD_ERR_PEER_CORRUPT;
}

/* The rest of a message that was read from `link`: capabilities, and who awaits an answer. */
static int receiver_unpack(struct port *port, struct link *link, struct ring_message *message)
{
    int r = 0;

    message->carried = NULL;
    if (unlikely(message->transfer != 0))
        r = receiver_carried(link, message->transfer, &message->carried);
    if (r == 0 && message->call != 0)
        r = receiver_called(port, link, message);
    if (r < 0 || !message->wants_caps)
        carried_free(&message->carried);
    return r;
}

/* After a message was taken from `link`, whichever it is. */
static void receiver_took_any(struct receiver *rx, struct link *link)
{
    uint64_t notice = __atomic_load_n(link->ring.notice, __ATOMIC_RELAXED);

    if ((uint32_t)notice == link->ring.position)
        link_ring(link, notice);
    if (link == rx->current && rx->budget > 0) {
        rx->budget--;
        return;
    }
    link->heard = ++rx->heard;
    link->drain_left -= link->ending;
}

/* The message was there before the link was revoked, or it is not taken. */
static enum ring_state receiver_peek(const struct link *link, uint64_t *ret_word)
{
    enum ring_state state = ring_peek(&link->ring, ret_word);

    /* relaxed, but behind the acquire of the word: a message published after the revocation comes
     * with it */
    return __atomic_load_n(&link->revoked, __ATOMIC_RELAXED) ? RING_EMPTY : state;
}

/* The current link: a result of receiver_take, or CHANNEL_EMPTY after which the next is looked at. */
static int receiver_take_current(struct port *port, struct ring_message *message, size_t size)
{
    struct receiver *rx = &port->receiver;
    struct link *link = rx->current;
    uint64_t word;
    int r;

    switch (link->ending && link->drain_left == 0 ? RING_EMPTY : receiver_peek(link, &word)) {
    case RING_READY:
        r = receiver_read(link, word, message, size);
        if (r < 0)
            break;
        r = receiver_unpack(port, link, message);
        if (r < 0 && message->wants_view)
            receiver_drop_view(message);
        break;
    case RING_CORRUPT:
        r = VRD_ERR_PEER_CORRUPT;
        break;
    default:
        r = link->broken ? VRD_ERR_PEER_CORRUPT : VRD_ERR_CHANNEL_EMPTY;
        break;
    }
    if (r == 0) {
        receiver_took_any(rx, link);
    } else if (r == VRD_ERR_MESSAGE_TOO_LARGE) {
        rx->oversize = link;
        rx->oversize_at = link->ring.position;
        receiver_turn(rx);
    } else if (r == VRD_ERR_PEER_CORRUPT) {
        receiver_retire(port, link, NOTICE_CORRUPT);
    } else if (r == VRD_ERR_OUT_OF_MEMORY && message->kept) {
        receiver_turn(rx);
    } else if (link->ending || r == VRD_ERR_OUT_OF_MEMORY) {
        receiver_retire(port, link, link->revoked ? link->revoked : NOTICE_CLOSED);
    } else {
        receiver_turn(rx);
        if (rx->n_active > 1 && rx->heard - link->heard > QUIET)
            receiver_cool(rx, link);
    }
    return r;
}

/* Between turns: a link that never falls silent must not keep others from being heard. */
static void receiver_housekeep(struct port *port)
{
    struct receiver *rx = &port->receiver;

    receiver_cooled(rx);
    if (!reactor_running() && clock_now() - rx->polled > BUSY_POLL_NS) {
        receiver_poll(port);
        if (port_news(port))
            receiver_adopt(port);
    }
}

int receiver_take(struct port *port, struct ring_message *message, size_t size,
                  struct link **ret_link)
{
    struct receiver *rx = &port->receiver;

    if (rx->pending_error < 0) {
        int r = rx->pending_error;

        rx->pending_error = 0;
        return r;
    }
    if (message->wants_calls && pending_reserve(&rx->pending) < 0)
        return VRD_ERR_OUT_OF_MEMORY;
    if (port_news(port)) {
        relay_adopt(port);
        receiver_adopt(port);
    }
    if (rx->budget == 0 && rx->current) {
        receiver_turn(rx);
        receiver_housekeep(port);
    }
    for (uint32_t n = rx->n_active; n > 0 && rx->current; n--) {
        struct link *link = rx->current;
        int r = receiver_take_current(port, message, size);

        if (r == VRD_ERR_MESSAGE_TOO_LARGE) /* nothing is taken: no turn will end, and look */
            receiver_housekeep(port);
        if (r != VRD_ERR_CHANNEL_EMPTY) {
            *ret_link = r == 0 ? link : NULL;
            return r;
        }
    }
    return rx->gone ? VRD_ERR_PEER_GONE : VRD_ERR_CHANNEL_EMPTY;
}

bool receiver_take_more(struct port *port, struct ring_message *message, size_t size,
                        struct link **ret_link)
{
    struct receiver *rx = &port->receiver;
    int r = receiver_take(port, message, size, ret_link);

    if (r == 0)
        return true;
    if (r == VRD_ERR_MESSAGE_TOO_LARGE) { /* found again; vrd_discard is for one that was told of */
        rx->oversize = NULL;
    } else if (r == VRD_ERR_PEER_CORRUPT || r == VRD_ERR_OUT_OF_MEMORY) {
        rx->pending_error = r;
        receiver_count(rx);
        rx->granted = rx->budget = 0; /* the fast path would go past it */
    }
    return false;
}

int receiver_discard(struct port *port)
{
    struct receiver *rx = &port->receiver;
    struct link *link = rx->oversize;
    struct carried *carried = NULL;
    uint64_t word, transfer;
    uint32_t loan;
    int r = 0;

    rx->oversize = NULL;
    if (!link || link->revoked || link->ring.position != rx->oversize_at ||
        ring_peek(&link->ring, &word) != RING_READY)
        return VRD_ERR_CHANNEL_EMPTY;
    transfer = slot_transfer(ring_slot(&link->ring), word);
    loan = ring_drop(&link->ring, word);
    if (loan != 0 && link->borrower)
        borrower_return(link->borrower, loan);
    receiver_took_any(rx, link);
    if (transfer != 0)
        r = receiver_carried(link, transfer, &carried);
    carried_free(&carried);
    if (r == 0 && port->object == VRD_OBJECT_ENDPOINT && slot_caller(word) != 0)
        r = reply_refuse(link, slot_caller(word) - 1, link->ring.position);
    if (r < 0)
        receiver_retire(port, link, NOTICE_CORRUPT);
    return 0;
}

/* --- waiting: pin held ------------------------------------------------------------------------ */

static bool receiver_look(struct port *port, const struct port_wait *wait)
{
    struct receiver *rx = &port->receiver;
    uint64_t word;

    (void)wait;
    receiver_cooled(rx); /* also before sleeping for good: by then all of them are due */
    list_foreach(node, &rx->active) {
        const struct link *link = list_entry(node, struct link, node);

        if (ring_peek(&link->ring, &word) != RING_EMPTY || link->ending)
            return true;
    }
    return false;
}

static void receiver_arm(struct port *port, const struct port_wait *wait)
{
    struct receiver *rx = &port->receiver;
    enum notice_ring how = port_ring(port);

    (void)wait;
    while (rx->n_active > HOT_MAX) {
        uint32_t before = rx->n_active;

        receiver_cool(rx, list_entry(rx->active.next, struct link, node));
        if (rx->n_active == before) /* it has a message: no sleep now */
            return;
    }
    list_foreach(node, &rx->active)
        link_arm(list_entry(node, struct link, node), how);
}

static size_t receiver_points(struct port *port, const struct port_wait *wait,
                              struct futex_point *points)
{
    struct receiver *rx = &port->receiver;
    size_t n = 0;

    (void)wait;
    list_foreach(node, &rx->active) {
        const struct link *link = list_entry(node, struct link, node);
        const uint64_t *word = &link->ring.slots[link->ring.position & link->ring.mask].word;

        if (n == HOT_MAX)
            break;
        points[n++] = (struct futex_point){
            .word = word,
            .value = (uint32_t)__atomic_load_n(word, __ATOMIC_RELAXED),
            .shared = true,
        };
    }
    return n;
}

static uint64_t receiver_ticket(const struct port *port, const struct port_wait *wait)
{
    const struct receiver *rx = &port->receiver;
    uint64_t ticket = rx->n_active;

    (void)wait;
    list_foreach(node, &rx->active)
        ticket = ticket * 31 + list_entry(node, struct link, node)->ring.position;
    return ticket;
}

static bool receiver_peer_here(const struct port *port, const struct port_wait *wait)
{
    const struct receiver *rx = &port->receiver;

    (void)wait;
    uint16_t cpu = rx->current ? slot_cpu(rx->current->ring.last) : 0;

    return cpu != 0 && cpu == cpu_current();
}

static const struct port_wait receiver_waits = {
    .look = receiver_look,
    .arm = receiver_arm,
    .points = receiver_points,
    .ticket = receiver_ticket,
    .peer_here = receiver_peer_here,
};

bool receiver_disappoint(struct port *port)
{
    return ready_wanted(port) && ready_arm(port, &receiver_waits);
}

int receiver_wait(struct port *port, vrd_cap_t cap, int64_t deadline)
{
    struct receiver *rx = &port->receiver;

    if (!rx->started && receiver_refresh(port))
        return rx->started ? 0 : port_nap(port, cap, START_RETRY_NS);
    return port_wait(port, cap, &receiver_waits, deadline);
}

/* --- life: pin and control lock held ---------------------------------------------------------- */

static int move_frame(int fd, const uint8_t frame[FRAME_SIZE], const int *fds, size_t n_fds)
{
    int r = socket_send(fd, frame, FRAME_SIZE, fds, n_fds);

    if (r == -EAGAIN) /* more invitations than the queue holds */
        return VRD_ERR_QUOTA_EXCEEDED;
    return r < 0 ? error_from_errno(-r) : 0;
}

/* The root socket, if anyone still holds its other end. */
static int receiver_send_root(struct port *port, int fd, uint32_t rights, uint32_t invitations)
{
    const struct source *first = list_entry(port->receiver.sources.next, struct source, node);
    struct frame frame = { .type = FRAME_GREETING_RECEIVE,
                           .slots = port->capacity,
                           .max_message = port->max_message,
                           .rights = rights,
                           .object = (uint16_t)port->object,
                           .bytes = port->max_bytes,
                           .count = invitations };
    int fds[2] = { first->fd, -1 };
    size_t n = first->kind == SOURCE_ROOT;
    uint8_t buf[FRAME_SIZE];

    if (port->receiver.caller) { /* its root stays as long as the receiver does */
        if (n == 0)
            return VRD_ERR_PEER_GONE;
        fds[n++] = port->receiver.caller->sender.root;
    }
    frame_encode(&frame, buf);
    return move_frame(fd, buf, fds, n);
}

/* Without links, a node has one socket. */
static struct frame receiver_invitation(const struct node *node, int *ret_fd)
{
    const struct source *source = list_entry(node->sockets.next, struct source, held);

    *ret_fd = source->fd;
    return (struct frame){ .type = FRAME_INVITATIONS,
                           .rights = node->rights,
                           .badge = node->badge,
                           .depth = node->depth,
                           .count = source->kind == SOURCE_DERIVED,
                           .id = node->parent->ordinal };
}

/* All that was derived and is not yet used, parents first, in frames of those that are alike. */
static int receiver_send_invitations(struct port *port, int fd)
{
    struct node *tree = &port->receiver.tree;
    uint8_t last[FRAME_SIZE], next[FRAME_SIZE];
    int fds[FRAME_FDS_MAX];
    uint32_t ordinal = 1;
    size_t n = 0;

    tree->ordinal = ordinal;
    for (struct node *node = node_next(tree, tree); node; node = node_next(tree, node)) {
        struct frame frame = receiver_invitation(node, &fds[n]);
        int socket = fds[n], r = 0;

        node->ordinal = ++ordinal;
        frame_encode(&frame, next);
        if (n > 0 && memcmp(next, last, FRAME_SIZE) != 0) {
            r = move_frame(fd, last, fds, n);
            n = 0;
        }
        memcpy(last, next, FRAME_SIZE);
        fds[n++] = socket;
        if (r == 0 && n == FRAME_FDS_MAX) {
            r = move_frame(fd, last, fds, n);
            n = 0;
        }
        if (r < 0)
            return r;
    }
    return n > 0 ? move_frame(fd, last, fds, n) : 0;
}

static void receiver_free_sources(struct receiver *rx)
{
    list_foreach(node, &rx->sources) {
        struct source *source = list_entry(node, struct source, node);

        source_free(&source);
    }
}

int receiver_move(struct port *port, int fd, uint32_t rights)
{
    struct receiver *rx = &port->receiver;
    uint32_t invitations = 0;
    bool tethers = false;
    int r;

    control_lock();
    list_foreach(node, &rx->sources) {
        enum source_kind kind = list_entry(node, struct source, node)->kind;

        invitations += kind == SOURCE_INVITATION || kind == SOURCE_DERIVED;
        tethers |= kind == SOURCE_LINK; /* also after the link: a child may say HELLO over it */
    }
    if (rx->n_links > 0 || tethers || rx->moving)
        r = VRD_ERR_RESOURCE_BUSY;
    else if (list_empty(&rx->sources))
        r = VRD_ERR_PEER_GONE;
    else
        r = receiver_send_root(port, fd, rights, invitations);
    if (r == 0)
        r = receiver_send_invitations(port, fd);
    if (r == 0) { /* at once: a HELLO that comes now is for the new holder */
        list_foreach(node, &rx->sources)
            source_unwatch(list_entry(node, struct source, node));
        rx->started = false;
        rx->moving = true;
    }
    control_unlock();
    return r;
}

void receiver_stay(struct port *port)
{
    control_lock();
    port->receiver.moving = false;
    port_post(port);
    control_unlock();
}

void receiver_close(struct port *port)
{
    struct receiver *rx = &port->receiver;

    list_foreach(node, &rx->links)
        link_free(list_entry(node, struct link, all), NOTICE_CLOSED, false);
    receiver_free_sources(rx);
    relay_forget(port);
    pending_deinit(&rx->pending);
    rx->current = NULL;
    rx->n_active = rx->n_links = 0;
}

/* Links are the parent's. The sockets that confer rights are shared, but not the tethers. */
void receiver_after_fork(struct port *port)
{
    struct receiver *rx = &port->receiver;

    list_foreach(node, &rx->links)
        link_forget(list_entry(node, struct link, all));
    list_foreach(node, &rx->sources) {
        struct source *source = list_entry(node, struct source, node);

        source->watched = false;
        if (source->kind == SOURCE_LINK || source->fd < 0) /* of a link that was over, or lost */
            source_free(&source);
    }
    relay_forget(port);
    pending_forget(&rx->pending);
    rx->current = rx->oversize = NULL;
    rx->n_active = rx->n_links = 0;
    rx->budget = rx->granted = 0;
    rx->polled_heard = UINT64_MAX;
    rx->pending_error = 0;
    rx->started = rx->ours = rx->gone = rx->moving = false;
    list_init(&rx->active);
    list_init(&rx->cooling);
    list_init(&rx->links);
    list_init(&rx->posted);
}

/* --- what the reactor finds: control lock held ------------------------------------------------ */

void receiver_post(struct port *port, struct link *link)
{
    if (link && list_empty(&link->posted))
        list_append(&port->receiver.posted, &link->posted);
    port_post(port);
}

/* A HELLO over a socket that was revoked: the new tether, if there is one, goes the same way. */
static int receiver_hello_late(struct source *source, bool here, struct datagram *datagram)
{
    if (!here && socket_adopt(datagram->fds[0]) == 0)
        receiver_add(source->port, SOURCE_LINK, fd_take(&datagram->fds[0]), source->right);
    return 0;
}

static int receiver_hello(struct source *source, const struct frame *hello,
                          struct datagram *datagram)
{
    const bool here = hello->type == FRAME_HELLO_HERE;
    struct port *port = source->port;
    struct receiver *rx = &port->receiver;
    struct account *account;
    struct link *link = NULL;

    if (here && !(source->accepted && source->kind == SOURCE_INVITATION))
        return VRD_ERR_PEER_CORRUPT;
    if (source->revoked)
        return receiver_hello_late(source, here, datagram);
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

static int receiver_derive(struct source *source, const struct frame *frame,
                           struct datagram *datagram)
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
    r = receiver_confer(source->port, fd_take(&datagram->fds[0]), source->right, frame, account);
    account_close(account);
    /* what we have no memory for is withdrawn, no more */
    return r == VRD_ERR_PERMISSION_DENIED ? VRD_ERR_PEER_CORRUPT : 0;
}

static int receiver_frame(struct source *source, struct datagram *datagram)
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
    case FRAME_HELLO:
    case FRAME_HELLO_HERE:
        r = receiver_hello(source, &frame, datagram);
        if (r < 0 || source->kind != SOURCE_INVITATION)
            return r;
        /* burnt, for all who hold a copy of either end (if it is not a tether from now on) */
        socket_shutdown(source->fd);
        return VRD_ERR_PEER_GONE;
    case FRAME_DERIVE:
        return receiver_derive(source, &frame, datagram);
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
        return carried_arrived(&link->carried, &frame, datagram);
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

int receiver_drain(struct source *source)
{
    return source_drain(source, receiver_frame);
}

/* The receiver here that has a source with this token, or a socket with this identity. */
static struct source *receiver_find(struct receiver *rx, uint64_t identity)
{
    list_foreach(node, &rx->sources) {
        struct source *source = list_entry(node, struct source, node);

        if (source->identity == identity)
            return source;
    }
    return NULL;
}

struct source *receiver_source(vrd_cap_t cap, uint64_t identity, uint64_t *token)
{
    struct source *source = source_find(*token);
    struct handle *handle;
    struct port *port;

    if (!source || source->identity != identity) {
        handle = handle_find(cap);
        port = port_of(handle);
        if (!handle || handle->cap != cap || port->kind != PORT_RECEIVER)
            return NULL;
        source = receiver_find(&port->receiver, identity);
    }
    if (!source || source->revoked || !source->port->receiver.ours || source->port->receiver.moving)
        return NULL;
    *token = source_token(source);
    return source;
}

int receiver_accept(struct source *over, uint32_t rights, int fd, const struct vrd_source *who)
{
    const struct frame frame = { .type = FRAME_DERIVE, .rights = rights };
    struct account *account = source_payer(who->uid, who->pid);
    int r;

    if (!account_allows(account, ACCOUNT_DESCRIPTORS, 1)) {
        revoke_socket(fd, NOTICE_POLICY);
        fd_close(&fd);
        account_close(account);
        return 0;
    }
    r = receiver_confer(over->port, fd, over->right, &frame, account);
    if (r == 0)
        list_entry(over->port->receiver.sources.prev, struct source, node)->accepted = true;
    account_close(account);
    return r;
}

/* With what result was it drained? */
static void receiver_drained(struct source *source, int r)
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
            if (source == link->tether)
                link->tether = NULL;
            else
                link->exit = NULL;
        }
        source_free(&source);
    }
    if (r < 0 || link) /* a new right is no news to who receives */
        receiver_post(port, link);
}

/* Answers all who hold `right` and asked. */
static void receiver_revoked(struct node *right)
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

/* Reads what waits in the sockets that confer `right`, but for one (or NULL). */
static void receiver_read_all(struct node *right, const struct source *but)
{
    struct list *next;

    for (struct list *held = right->sockets.next; held != &right->sockets; held = next) {
        struct source *source = list_entry(held, struct source, held);
        int r = 0;

        for (int i = 0; i < FETCHES && r == 0 && source != but && (i == 0 || !source->drained); i++)
            r = receiver_drain(source);
        next = held->next; /* also what was added meanwhile */
        if (source != but)
            receiver_drained(source, r);
    }
}

/*
 * Whoever asks may have derived over another socket before, since a family has several: all of them
 * are read first.
 */
static void receiver_revoke_asked(struct source *asking)
{
    struct node *right = asking->right;

    receiver_read_all(right, asking);
    revoke_below(asking->port, right, false);
    receiver_revoked(right);
}

int receiver_sender_gone(struct port *port, pid_t pid)
{
    int n = 0;

    list_foreach(node, &port->receiver.links) {
        struct link *link = list_entry(node, struct link, all);

        if (link->source.pid != pid)
            continue;
        n++;
        if (link->exit && fd_readable(link->exit->fd)) /* not a new process with an old number */
            receiver_drained(link->exit, VRD_ERR_PEER_GONE);
    }
    return n;
}

void receiver_source_ready(struct source *source)
{
    int r = VRD_ERR_PEER_GONE;

    if (source->kind != SOURCE_LINK_EXIT)
        r = receiver_drain(source);
    if (source->revoke != 0)
        receiver_revoke_asked(source);
    receiver_drained(source, r);
}

void receiver_revoke(struct port *port, bool too)
{
    struct receiver *rx = &port->receiver;

    control_lock();
    if (!too && rx->ours) /* what was derived may be waiting there, unread */
        receiver_read_all(&rx->tree, NULL);
    revoke_below(port, &rx->tree, too);
    control_unlock();
    receiver_adopt(port);
    revoke_settle();
}

bool receiver_pump(vrd_cap_t cap)
{
    struct handle *handle = handle_find(cap);
    struct port *port = port_of(handle);
    bool here;

    control_lock();
    here = handle && handle->cap == cap && port->kind == PORT_RECEIVER && port->receiver.ours &&
           !port->receiver.moving;
    if (here) {
        struct list *first = port->receiver.sources.next;

        receiver_start(&port->receiver);
        /* The root by name: among many ready sources, its turn may be far off. */
        if (first != &port->receiver.sources)
            receiver_source_ready(list_entry(first, struct source, node));
    }
    control_unlock();
    if (here)
        reactor_poll();
    return here;
}
