/* SPDX-License-Identifier: MIT */
#include "object/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <veridian/error.h>

#include "base/error.h"
#include "base/macro.h"
#include "cap/account.h"
#include "cap/node.h"
#include "object/control.h"
#include "object/life.h"
#include "object/name.h"
#include "object/owner.h"
#include "object/peer.h"
#include "object/reactor.h"
#include "object/ready.h"
#include "object/receiver.h"
#include "object/region.h"
#include "object/relay.h"
#include "object/revoke.h"
#include "object/sender.h"
#include "object/spare.h"
#include "os/fd.h"
#include "os/socket.h"

#define DRAIN_MAX 64

/* By descriptor. A token is (serial, descriptor): one of a source that is gone finds another serial. */
static struct source **sources;
static size_t sources_size;
static uint32_t serial;

uint64_t source_token(const struct source *source)
{
    return (uint64_t)source->serial << 32 | (uint32_t)source->fd;
}

struct source *source_find(uint64_t token)
{
    uint32_t fd = (uint32_t)token;
    struct source *source = fd < sources_size ? sources[fd] : NULL;

    return source && source->serial == token >> 32 ? source : NULL;
}

static bool sources_fit(int fd)
{
    size_t size = sources_size ? sources_size : 64;
    struct source **grown;

    if ((size_t)fd < sources_size)
        return true;
    while (size <= (size_t)fd)
        size *= 2;
    grown = realloc(sources, size * sizeof(struct source *));
    if (!grown)
        return false;
    memset(grown + sources_size, 0, (size - sources_size) * sizeof(struct source *));
    sources = grown;
    sources_size = size;
    return true;
}

int source_pair(int ret[2])
{
    int r = socket_pair(ret);

    return r == -EMFILE && revoke_hurry() ? socket_pair(ret) : r;
}

struct source *source_new(struct port *port, enum source_kind kind, int fd)
{
    struct source *source = NULL;

    if (sources_fit(fd))
        source = calloc(1, sizeof(*source));
    if (!source) {
        fd_close(&fd);
        return NULL;
    }
    list_init(&source->node);
    list_init(&source->held);
    source->fd = fd;
    source->kind = kind;
    source->identity = fd_identity(fd);
    source->serial = ++serial;
    source->port = port;
    sources[fd] = source;
    return source;
}

void source_confer(struct source *source, struct node *node)
{
    source->right = node;
    list_append(&node->sockets, &source->held);
}

struct account *source_payer(uid_t uid, pid_t pid)
{
    if (pid == control_pid())
        return NULL;
    /* nobody is refused for what is on its way out; before the account is open, or it might go too */
    if (revoke_owes() && account_total(ACCOUNT_DESCRIPTORS) > fd_limit() / 2)
        revoke_turn(true);
    return account_open(uid, pid);
}

void source_bill(struct source *source, struct account *account)
{
    if (!source)
        return;
    source->account = account;
    account_charge(account, ACCOUNT_DESCRIPTORS, 1);
}

static int source_watch_events(struct source *source, unsigned events)
{
    int r;

    if (source->watched)
        return 0;
    r = reactor_watch(source->fd, events, source_token(source));
    if (r < 0)
        return error_from_errno(-r);
    source->watched = true;
    return 0;
}

int source_watch(struct source *source)
{
    return source_watch_events(source, FD_IN);
}

int source_watch_room(struct source *source)
{
    return source_watch_events(source, FD_OUT);
}

void source_unwatch(struct source *source)
{
    if (source->watched)
        reactor_unwatch(source->fd);
    source->watched = false;
}

void source_await_ring(struct source *const *tether)
{
    control_lock();
    if (*tether)
        (*tether)->arms++;
    control_unlock();
}

int source_rang(struct source *source, size_t n_fds)
{
    return n_fds == 0 && source->rings++ < source->arms ? 0 : VRD_ERR_PEER_CORRUPT;
}

int source_take_fd(struct source **source)
{
    struct source *old = *source;
    struct node *right = old->right;
    int fd = old->fd;

    source_unwatch(old);
    if (fd >= 0)
        sources[fd] = NULL;
    list_remove(&old->node);
    list_remove(&old->held);
    account_discharge(old->account, ACCOUNT_DESCRIPTORS, 1);
    free(old);
    if (right)
        node_settle(right);
    *source = NULL;
    return fd;
}

void source_leave(struct source *source, struct list *list)
{
    struct node *right = source->right;

    source->kind = SOURCE_LEAVING;
    source->port = NULL;
    source->link = NULL;
    source->right = NULL;
    list_remove(&source->held);
    list_remove(&source->node);
    list_append(list, &source->node);
    if (right)
        node_settle(right);
}

void source_free(struct source **source)
{
    int fd;

    if (!*source)
        return;
    fd = source_take_fd(source);
    fd_close(&fd);
}

static void source_lose(struct source *source)
{
    sources[source->fd] = NULL;
    source->fd = -1;
    source->watched = false;
}

bool sources_after_fork(void)
{
    bool lost = false;

    for (size_t fd = 0; fd < sources_size; fd++) {
        struct source *source = sources[fd];

        if (!source || fd_identity(source->fd) == source->identity)
            continue;
        source_lose(source);
        lost = true;
    }
    /* One pidfd, or one timer, looks like another on older kernels: they went with the sockets. */
    for (size_t fd = 0; lost && fd < sources_size; fd++)
        if (sources[fd] && (sources[fd]->kind == SOURCE_LIFE || sources[fd]->kind == SOURCE_PEER ||
                            sources[fd]->kind == SOURCE_TIMER || sources[fd]->kind == SOURCE_LEASE))
            source_lose(sources[fd]);
    return lost;
}

/* A datagram could not be had. What then? */
static int source_failed(const struct source *source, int error)
{
    /* No room for its descriptors: a request is refused, and all others may still come. */
    if (error == -EMFILE && source->kind != SOURCE_LINK && source->kind != SOURCE_TETHER)
        return 0;
    return error == -EMFILE ? VRD_ERR_OUT_OF_MEMORY : VRD_ERR_PEER_CORRUPT;
}

int source_drain(struct source *source, int (*handle)(struct source *, struct datagram *))
{
    source->drained = false;
    for (int i = 0; i < DRAIN_MAX; i++) {
        datagram_auto datagram = { .pidfd = -1 };
        int r = socket_receive(source->fd, &datagram);

        if (r == -EAGAIN) {
            source->drained = true;
            return 0;
        }
        if (r == -ENOMEM || r == -ENOBUFS) { /* it waits where it is */
            reactor_starved();
            return 0;
        }
        if (r == 0)
            r = VRD_ERR_PEER_GONE;
        else
            r = r < 0 ? source_failed(source, r) : handle(source, &datagram);
        if (r < 0)
            return r;
    }
    return 0;
}

void reactor_dispatch(uint64_t token)
{
    struct source *source = source_find(token);

    if (!source)
        return;
    switch (source->kind) {
    case SOURCE_TETHER:
        sender_source_ready(source);
        break;
    case SOURCE_LISTENER:
    case SOURCE_NAME:
        name_source_ready(source);
        break;
    case SOURCE_HOLDER:
    case SOURCE_MAKER:
        region_source_ready(source);
        break;
    case SOURCE_ANSWER:
        relay_source_ready(source);
        break;
    case SOURCE_LIFE:
        life_source_ready(source);
        break;
    case SOURCE_PEER:
        peer_source_ready(source);
        break;
    case SOURCE_TIMER:
        ready_source_ready(source);
        break;
    case SOURCE_LEASE:
        spare_source_ready(source);
        break;
    case SOURCE_LEAVING: /* its turn comes */
        break;
    default:
        owner_source_ready(source);
    }
}
