/* SPDX-License-Identifier: MIT */
#include "object/peer.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/list.h"
#include "object/callback.h"
#include "object/control.h"
#include "object/life.h"
#include "object/owner.h"
#include "object/port.h"
#include "object/reactor.h"
#include "object/revoke.h"
#include "object/source.h"
#include "os/fd.h"
#include "os/process.h"

/* Watched only while there is a function to tell. */
struct peer {
    struct list node; /* in `living` or `dead` */
    pid_t pid;
    bool linked; /* while peers_trim looks for those that are not */
    struct source *exit;
};

#define BUCKETS 256
#define TRIM_FIRST 64

/* With the control lock. */
static struct list living[BUCKETS]; /* by pid; not yet used where all is zero */
static uint32_t n_living;
static uint32_t trim_at = TRIM_FIRST;
static struct list dead = { &dead, &dead };
static vrd_exit_fn *function;
static void *function_user;

static atomic_bool telling; /* `dead` may not be empty */

static struct list *peer_bucket(pid_t pid)
{
    struct list *bucket = &living[(uint32_t)pid % BUCKETS];

    if (!bucket->next)
        list_init(bucket);
    return bucket;
}

static struct peer *peer_find(pid_t pid)
{
    list_foreach(node, peer_bucket(pid))
        if (list_entry(node, struct peer, node)->pid == pid)
            return list_entry(node, struct peer, node);
    return NULL;
}

/* Out of `living`, and it is watched no more. */
static void peer_unwatch(struct peer *peer)
{
    n_living -= peer->exit != NULL;
    source_free(&peer->exit);
    list_remove(&peer->node);
}

static void peer_free(struct peer *peer)
{
    peer_unwatch(peer);
    free(peer);
}

/* --- every port of the process: control lock held --------------------------------------------- */

/* Calls `visit` for each, and adds up what it returns. */
static int ports_visit(int (*visit)(struct port *port, pid_t pid), pid_t pid)
{
    int n = 0;

    for (uint32_t i = 1; i < handle_limit(); i++) {
        struct port *port = port_of(handle_at(i));

        if (port->handle.cap != VRD_CAP_NONE)
            n += visit(port, pid);
    }
    return n;
}

static int port_meet(struct port *port, pid_t pid)
{
    (void)pid;
    if (port->kind == PORT_SENDER)
        peer_met(port->sender.owner, -1);
    if (port->kind == PORT_RECEIVER)
        list_foreach(node, &port->receiver.links)
            peer_met(list_entry(node, struct link, all)->source.pid, -1);
    return 0;
}

static void peer_mark(pid_t pid)
{
    struct peer *peer = peer_find(pid);

    if (peer)
        peer->linked = true;
}

static int port_mark(struct port *port, pid_t pid)
{
    (void)pid;
    if (port->kind == PORT_SENDER)
        peer_mark(port->sender.owner);
    if (port->kind == PORT_RECEIVER)
        list_foreach(node, &port->receiver.links)
            peer_mark(list_entry(node, struct link, all)->source.pid);
    return 0;
}

static int port_bury(struct port *port, pid_t pid)
{
    if (port->kind == PORT_RECEIVER)
        return owner_sender_gone(port, pid);
    return port->kind == PORT_SENDER && life_over(&port->sender.life) ? sender_owner_gone(port, pid)
                                                                      : 0;
}

static int port_cleanup(struct port *port, pid_t pid)
{
    if (port->kind == PORT_SENDER)
        return sender_owner_gone(port, pid);
    return port->kind == PORT_RECEIVER ? revoke_process(port, pid) : 0;
}

/* --- watching: control lock held -------------------------------------------------------------- */

static void peer_died(struct peer *peer)
{
    ports_visit(port_bury, peer->pid); /* its other descriptors may not have been seen to yet */
    peer_unwatch(peer);
    list_append(&dead, &peer->node);
    reactor_owe();
    atomic_store_explicit(&telling, true, memory_order_relaxed);
}

/* All that are watched, or those that have no link any more. */
static void peers_forget(bool all)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        if (!living[i].next)
            continue;
        list_foreach(node, &living[i]) {
            struct peer *peer = list_entry(node, struct peer, node);

            if (all || !peer->linked)
                peer_free(peer);
            else
                peer->linked = false;
        }
    }
}

/* Processes that come and go, and live, would use up our descriptors: those that have gone go. */
static void peers_trim(void)
{
    if (n_living < trim_at)
        return;
    ports_visit(port_mark, 0);
    peers_forget(false);
    trim_at = 2 * n_living > TRIM_FIRST ? 2 * n_living : TRIM_FIRST;
}

/* Without memory or descriptors for it, its end is not told. */
void peer_met(pid_t pid, int pidfd)
{
    struct peer *peer;
    int fd;

    if (!function || pid == 0 || pid == control_pid() || peer_find(pid))
        return;
    peers_trim();
    fd = pidfd >= 0 ? fd_duplicate(pidfd) : process_open(pid);
    peer = fd >= 0 ? calloc(1, sizeof(*peer)) : NULL;
    if (!peer) {
        fd_close(&fd);
        return;
    }
    peer->pid = pid;
    list_init(&peer->node);
    list_append(peer_bucket(pid), &peer->node);
    peer->exit = source_new(NULL, SOURCE_PEER, fd);
    if (peer->exit) {
        peer->exit->peer = peer;
        n_living++;
    }
    if (!peer->exit || source_watch(peer->exit) < 0)
        peer_free(peer);
}

void peer_source_ready(struct source *source)
{
    peer_died(source->peer);
}

void peer_set_function(vrd_exit_fn *new_function, void *user)
{
    callback_begin();
    control_lock();
    function = new_function;
    function_user = user;
    if (function) {
        ports_visit(port_meet, 0);
    } else {
        peers_forget(true);
        while (!list_empty(&dead))
            peer_free(list_entry(dead.next, struct peer, node));
    }
    control_unlock();
    callback_end();
}

bool peer_after_fork(void)
{
    peers_forget(true);
    while (!list_empty(&dead))
        peer_free(list_entry(dead.next, struct peer, node));
    return function != NULL;
}

int peer_cleanup(pid_t pid)
{
    int n;

    control_lock();
    n = ports_visit(port_cleanup, pid);
    control_unlock();
    revoke_settle();
    return n;
}

/* --- telling ---------------------------------------------------------------------------------- */

static bool peer_tell_one(void)
{
    vrd_exit_fn *call = NULL;
    void *user = NULL;
    pid_t pid = 0;

    control_lock();
    if (list_empty(&dead)) {
        atomic_store_explicit(&telling, false, memory_order_relaxed);
    } else {
        struct peer *peer = list_entry(dead.next, struct peer, node);

        pid = peer->pid;
        call = function;
        user = function_user;
        peer_free(peer);
    }
    control_unlock();
    if (call)
        call(pid, user);
    return pid != 0;
}

void peer_tell(void)
{
    /* relaxed: set by this turn of the reactor, or by one that will look itself */
    if (!atomic_load_explicit(&telling, memory_order_relaxed))
        return;
    callback_begin();
    while (peer_tell_one())
        ;
    callback_end();
}
