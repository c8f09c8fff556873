/* SPDX-License-Identifier: MIT */
#include "object/name.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <veridian/error.h>

#include "base/error.h"
#include "base/list.h"
#include "cap/account.h"
#include "cap/frame.h"
#include "link/layout.h"
#include "object/control.h"
#include "object/link.h"
#include "object/owner.h"
#include "object/reactor.h"
#include "object/receiver.h"
#include "object/source.h"
#include "object/spare.h"
#include "os/fd.h"
#include "os/listener.h"
#include "os/socket.h"

#define ACCEPT_MAX 64  /* in a turn of the reactor */
#define WAITING_MAX 64 /* that `allow` has not been asked about */

struct name {
    struct list node;
    char text[LISTENER_NAME_MAX + 1];
    struct listener_file file;
    vrd_cap_t cap;
    struct name_right handed;
    uint64_t token; /* of the owner's end of `right`, see owner_source */
    struct source *listener;
    struct source *right;
    struct vrd_publish_options options;
    struct list parked; /* visitors who are welcome, for whom the owner's queue has no room ... */
    bool stalled;       /* ... so that nobody else is let in either                          */
    uint32_t n_waiting;
};

/* Who has connected to a name and is not admitted yet: in `visitors`, or in the name's `parked`. */
struct visitor {
    struct list node;
    struct name *name;
    struct vrd_source who;
    struct account *account; /* pays for the descriptor */
    uint64_t serial;
    int fd;
};

/* With the control lock. */
static struct list names = { &names, &names };
static struct list visitors = { &visitors, &visitors };
static uint64_t visits;
static atomic_bool visited; /* there may be visitors */

/*
 * Held while `allow` runs, so that withdrawing a name can wait for it; recursive, because `allow`
 * may withdraw its own. Before the control lock.
 */
static pthread_mutex_t asking = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static bool in_allow; /* with it held: this thread is the one that asks */

/* --- one name: control lock held -------------------------------------------------------------- */

static void visitor_free(struct visitor *visitor)
{
    list_remove(&visitor->node);
    visitor->name->n_waiting--;
    account_discharge(visitor->account, ACCOUNT_DESCRIPTORS, 1);
    fd_close(&visitor->fd);
    free(visitor);
}

static void name_free(struct name *name)
{
    list_foreach(node, &visitors) {
        struct visitor *visitor = list_entry(node, struct visitor, node);

        if (visitor->name == name)
            visitor_free(visitor);
    }
    list_foreach(node, &name->parked) {
        visitor_free(list_entry(node, struct visitor, node));
    }
    list_remove(&name->node);
    source_free(&name->listener);
    source_free(&name->right);
    listener_forget(&name->file);
    free(name);
    if (list_empty(&names))
        spares_expected(false);
}

static void name_remove(struct name *name)
{
    listener_remove(name->text, &name->file);
    name_free(name);
}

static struct name *name_find(const char *text)
{
    list_foreach(node, &names) {
        struct name *name = list_entry(node, struct name, node);

        if (strcmp(name->text, text) == 0)
            return name;
    }
    return NULL;
}

static int say(int fd, const struct frame *frame, const int *fds, size_t n_fds)
{
    uint8_t buf[FRAME_SIZE];

    frame_encode(frame, buf);
    return socket_send(fd, buf, sizeof(buf), fds, n_fds);
}

static void refuse(int fd, enum notice_cause cause)
{
    const struct frame frame = { .type = FRAME_CLOSE, .cause = (uint16_t)cause };

    say(fd, &frame, NULL, 0);
}

/* The owner is at home: it knows of the connection before the visitor is greeted. */
static void name_introduce_here(struct source *over, const struct name *name, int fd,
                                const struct vrd_source *who)
{
    struct frame greeting = name->handed.greeting;
    struct source *visitor;
    uint64_t token;

    greeting.count = 1;
    if (owner_accept(over, greeting.rights, fd, who, &token) < 0)
        return;
    visitor = source_find(token);
    if (!visitor)
        return;
    say(fd, &greeting, NULL, 0);
    reactor_sent();
    owner_source_ready(visitor); /* mostly it has said HELLO already */
    visitor = source_find(token);
    if (visitor && !visitor->link)
        reactor_expect();
}

/*
 * The owner is elsewhere: it is told first, and if its queue is full, nobody is. 0, or -errno: -EAGAIN,
 * -EPIPE where nobody serves the name any more.
 */
static int name_introduce_there(const struct name *name, int fd)
{
    const struct frame *greeting = &name->handed.greeting;
    const struct frame derive = { .type = FRAME_DERIVE, .rights = greeting->rights };
    int r = say(name->right->fd, &derive, &fd, 1);

    reactor_sent();
    return r < 0 ? r : say(fd, greeting, NULL, 0);
}

/* Somebody waits, and pays for it. NULL: not allowed that, or no memory. */
static struct visitor *visitor_new(struct name *name, int *fd, const struct vrd_source *who,
                                   struct list *among)
{
    struct account *account = source_payer(who->uid, who->pid);
    struct visitor *visitor = NULL;

    if (account_allows(account, ACCOUNT_DESCRIPTORS, 1))
        visitor = calloc(1, sizeof(*visitor));
    if (!visitor) {
        account_close(account);
        return NULL;
    }
    *visitor = (struct visitor){
        .name = name, .who = *who, .account = account, .serial = ++visits, .fd = fd_take(fd)
    };
    account_charge(account, ACCOUNT_DESCRIPTORS, 1);
    list_append(among, &visitor->node);
    name->n_waiting++;
    return visitor;
}

/* From now on only room in the owner's queue matters, or no longer. What cannot be watched has ended. */
static int name_stall(struct name *name, bool stalled)
{
    int r;

    name->stalled = stalled;
    source_unwatch(name->right);
    if (stalled) {
        source_unwatch(name->listener);
        return source_watch_room(name->right);
    }
    r = source_watch(name->right);
    return r < 0 ? r : source_watch(name->listener);
}

static void name_park(struct name *name, int *fd, const struct vrd_source *who)
{
    if (!visitor_new(name, fd, who, &name->parked))
        refuse(*fd, NOTICE_POLICY);
    else if (!name->stalled && name_stall(name, true) < 0)
        name_remove(name);
}

/* The connection becomes an invitation, greeted by us and known to the owner. */
static void name_introduce(struct name *name, int *fd, const struct vrd_source *who)
{
    struct source *over = owner_source(name->handed.owner, name->handed.far, &name->token);
    int r = -EAGAIN;

    if (over) {
        name_introduce_here(over, name, fd_take(fd), who);
        return;
    }
    if (!name->stalled)
        r = name_introduce_there(name, *fd);
    if (r == -EAGAIN)
        name_park(name, fd, who);
}

/* There is room again, or the right has ended. */
static void name_resume(struct name *name)
{
    list_foreach(node, &name->parked) {
        struct visitor *visitor = list_entry(node, struct visitor, node);

        if (name_introduce_there(name, visitor->fd) == -EAGAIN)
            return;
        visitor_free(visitor);
    }
    if (name_stall(name, false) < 0)
        name_remove(name);
}

static int name_visit(struct name *name, int *fd, const struct vrd_source *who)
{
    if (!name->options.allow) {
        name_introduce(name, fd, who);
        return 0;
    }
    if (!visitor_new(name, fd, who, &visitors)) {
        refuse(*fd, NOTICE_POLICY);
        return 0;
    }
    reactor_owe();
    atomic_store_explicit(&visited, true, memory_order_relaxed);
    return 0;
}

void name_source_ready(struct source *source)
{
    struct name *name = source->name;

    if (source == name->right) { /* it never says anything but that it is over */
        if (name->stalled && !socket_over(source->fd))
            name_resume(name);
        else
            name_remove(name);
        return;
    }
    for (int i = 0; i < ACCEPT_MAX && name->n_waiting < WAITING_MAX; i++) {
        struct vrd_source who;
        fd_auto fd = -1;
        int r;

        if (!fd_readable(source->fd)) /* accept makes a socket before it looks */
            return;
        r = listener_accept(source->fd, &fd, &who.pid, &who.uid, &who.gid);
        if (r == -EAGAIN)
            return;
        if (r == 0)
            r = name_visit(name, &fd, &who);
        if (r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -ENOBUFS) {
            reactor_starved();
            return;
        }
        if (list_empty(&names) || name_find(name->text) != name || name->stalled)
            return;
    }
}

/* --- asking ----------------------------------------------------------------------------------- */

static struct visitor *visitor_first(void)
{
    return list_empty(&visitors) ? NULL : list_entry(visitors.next, struct visitor, node);
}

/* `asking` is held. */
static bool allow_call(const struct vrd_publish_options *options, const struct vrd_source *who)
{
    const bool nested = in_allow;
    bool allowed;

    in_allow = true;
    allowed = !options->allow || options->allow(who, options->user);
    in_allow = nested;
    return allowed;
}

/* Asks about one. False: there is none. */
static bool name_ask(void)
{
    struct vrd_publish_options options;
    struct visitor *visitor;
    struct vrd_source who;
    uint64_t serial = 0;
    bool allowed;

    control_lock();
    visitor = visitor_first();
    atomic_store_explicit(&visited, visitor != NULL, memory_order_relaxed);
    if (visitor) {
        options = visitor->name->options;
        who = visitor->who;
        serial = visitor->serial;
    }
    control_unlock();
    if (serial == 0)
        return false;
    allowed = allow_call(&options, &who);
    control_lock();
    visitor = visitor_first();
    if (visitor && visitor->serial == serial) { /* else it has gone with its name */
        struct name *name = visitor->name;
        fd_auto fd = fd_take(&visitor->fd);

        visitor_free(visitor);
        if (allowed)
            name_introduce(name, &fd, &who);
        else
            refuse(fd, NOTICE_POLICY);
    }
    control_unlock();
    return true;
}

/* Gives `asking` back, and sees to those who came meanwhile. */
static void asking_end(void)
{
    pthread_mutex_unlock(&asking);
    name_admit();
}

void name_admit(void)
{
    /* pairs with itself: who finds the lock taken is seen by its holder, after giving it back */
    while (atomic_load_explicit(&visited, memory_order_relaxed)) {
        atomic_thread_fence(memory_order_seq_cst);
        if (pthread_mutex_trylock(&asking) != 0)
            return;
        if (in_allow) { /* which uses the library */
            pthread_mutex_unlock(&asking);
            return;
        }
        while (name_ask())
            ;
        pthread_mutex_unlock(&asking);
        atomic_thread_fence(memory_order_seq_cst);
    }
}

int name_judge(const char *text, const struct vrd_source *who)
{
    struct vrd_publish_options options;
    const struct name *name;
    bool allowed = false;

    pthread_mutex_lock(&asking);
    control_lock();
    name = name_find(text);
    if (name)
        options = name->options;
    control_unlock();
    if (name)
        allowed = allow_call(&options, who);
    asking_end();
    if (!name)
        return VRD_ERR_ENDPOINT_NOT_FOUND;
    return allowed ? 0 : VRD_ERR_PERMISSION_DENIED;
}

/* --- publishing ------------------------------------------------------------------------------- */

static int name_listen(struct name *name)
{
    int fd, r;

    r = listener_open(name->text, name->options.mode, &fd, &name->file);
    if (r == -EADDRINUSE)
        return VRD_ERR_NAME_IN_USE;
    if (r == -EBUSY)
        return VRD_ERR_RESOURCE_BUSY;
    if (r == -EACCES || r == -EPERM)
        return VRD_ERR_PERMISSION_DENIED;
    if (r < 0)
        return error_from_errno(-r);
    control_lock();
    name->listener = source_new(NULL, SOURCE_LISTENER, fd);
    r = VRD_ERR_OUT_OF_MEMORY;
    if (name->listener && name->right) {
        name->listener->name = name->right->name = name;
        r = source_watch(name->listener);
        if (r == 0)
            r = source_watch(name->right);
    }
    if (r == 0) {
        list_append(&names, &name->node);
        spares_expected(true);
    }
    control_unlock();
    return r;
}

int name_publish(vrd_cap_t cap, const char *text, const struct vrd_publish_options *options,
                 const struct name_right *right)
{
    struct name *name = calloc(1, sizeof(*name));
    int fd = right->fd;
    int r;

    if (!name) {
        fd_close(&fd);
        return VRD_ERR_OUT_OF_MEMORY;
    }
    list_init(&name->node);
    list_init(&name->parked);
    name->file = LISTENER_FILE_NONE;
    memcpy(name->text, text, strlen(text) + 1); /* a valid name fits */
    name->cap = cap;
    name->handed = *right;
    name->options = *options;
    control_lock();
    name->right = source_new(NULL, SOURCE_NAME, fd);
    control_unlock();
    r = name_listen(name); /* takes a while, or waits: without the control lock */
    if (r < 0) {
        control_lock();
        name_remove(name);
        control_unlock();
        return r;
    }
    reactor_start();
    return 0;
}

int name_withdraw(const char *text)
{
    struct name *name;

    pthread_mutex_lock(&asking);
    control_lock();
    name = name_find(text);
    if (name)
        name_remove(name);
    control_unlock();
    asking_end();
    return name ? 0 : VRD_ERR_ENDPOINT_NOT_FOUND;
}

bool name_is_own(const char *text)
{
    bool own;

    control_lock();
    own = name_find(text) != NULL;
    control_unlock();
    return own;
}

void name_forget(vrd_cap_t cap)
{
    list_foreach(node, &names) {
        struct name *name = list_entry(node, struct name, node);

        if (name->cap == cap)
            name_remove(name);
    }
}

void name_after_fork(void)
{
    pthread_mutex_t fresh = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

    asking = fresh; /* its holder may have stayed in the parent */
    in_allow = false;
    while (!list_empty(&names))
        name_free(list_entry(names.next, struct name, node));
}

/* A process that ends in good order leaves no names behind. */
__attribute__((destructor)) static void name_at_exit(void)
{
    if (!control_is_own())
        return;
    control_lock();
    list_foreach(node, &names) {
        const struct name *name = list_entry(node, struct name, node);

        listener_remove(name->text, &name->file);
    }
    control_unlock();
}
