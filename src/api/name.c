/* SPDX-License-Identifier: MIT */
#include "object/name.h"

#include <errno.h>
#include <string.h>
#include <veridian/capability.h>
#include <veridian/channel.h>
#include <veridian/error.h>
#include <veridian/name.h>

#include "api/gate.h"
#include "api/name.h"
#include "api/passing.h"
#include "base/clock.h"
#include "base/error.h"
#include "cap/frame.h"
#include "link/layout.h"
#include "object/control.h"
#include "object/outfit.h"
#include "object/reactor.h"
#include "object/sender.h"
#include "object/spare.h"
#include "os/fd.h"
#include "os/listener.h"
#include "os/socket.h"

#define RIGHTS_SENDER (VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)
#define MODE_DEFAULT 0600
#define SPIN_NS INT64_C(100000)   /* before sleeping until a publisher answers */
#define LOOK_NS INT64_C(10000000) /* where nobody tells when to look again */

_Static_assert(VRD_NAME_MAX == LISTENER_NAME_MAX, "as documented");

/* --- publish ---------------------------------------------------------------------------------- */

/* 0, with the defaults filled in, or VRD_ERR_INVALID_ARGUMENT. */
static int publish_check(struct vrd_publish_options *options)
{
    static const uint64_t zero[sizeof(options->reserved) / sizeof(uint64_t)];

    if (memcmp(options->reserved, zero, sizeof(zero)) != 0)
        return VRD_ERR_INVALID_ARGUMENT;
    if (options->mode == 0)
        options->mode = MODE_DEFAULT;
    if (options->rights == 0)
        options->rights = VRD_RIGHT_SEND;
    if ((options->mode & ~UINT32_C(0777)) != 0 || (options->rights & ~RIGHTS_SENDER) != 0 ||
        !(options->rights & VRD_RIGHT_SEND))
        return VRD_ERR_INVALID_ARGUMENT;
    return 0;
}

int vrd_publish(vrd_cap_t cap, const char *name, const struct vrd_publish_options *options)
{
    struct vrd_publish_options filled = options ? *options : (struct vrd_publish_options){ 0 };
    struct name_right right;
    int r;

    if (!name || !listener_name_valid(name) || publish_check(&filled) < 0)
        return VRD_ERR_INVALID_ARGUMENT;
    r = passing_derive(cap, filled.rights, &right);
    return r < 0 ? r : name_publish(cap, name, &filled, &right);
}

int vrd_unpublish(const char *name)
{
    int r;

    if (!name || !listener_name_valid(name))
        return VRD_ERR_INVALID_ARGUMENT;
    r = control_ready();
    return r < 0 ? r : name_withdraw(name);
}

/* --- connect ---------------------------------------------------------------------------------- */

/* Waits until `fd` is readable; whoever answers may be this process. False: not in time. */
static bool wait_until(int fd, int64_t deadline)
{
    while (!fd_readable(fd)) {
        int64_t left = deadline == CLOCK_NEVER ? NAME_ANSWER_NS : deadline - clock_now();

        if (left <= 0)
            return false;
        reactor_wait(fd, left < NAME_ANSWER_NS ? left : NAME_ANSWER_NS);
    }
    return true;
}

/* How long to look for what comes soon. */
static int64_t patience(int64_t deadline)
{
    int64_t left = deadline - clock_now();

    return left < 1 ? 1 : left < SPIN_NS ? left : SPIN_NS;
}

/* What the publisher says to a connection: 0 and a greeting, or why not. */
static int greeting_read(int fd, struct frame *ret)
{
    datagram_auto datagram = { .pidfd = -1 };
    int r = socket_receive_bare(fd, &datagram);

    if (r == 0)
        return VRD_ERR_PEER_GONE;
    if (r < 0)
        return r == -EPROTO ? VRD_ERR_PEER_CORRUPT : error_from_errno(-r);
    r = frame_decode(datagram.data, datagram.len, datagram.n_fds, ret);
    if (r < 0)
        return r;
    if (ret->type == FRAME_CLOSE)
        return ret->cause == NOTICE_POLICY ? VRD_ERR_PERMISSION_DENIED : VRD_ERR_PEER_GONE;
    return ret->type == FRAME_GREETING_SEND && ret->count <= 1 ? 0 : VRD_ERR_PEER_CORRUPT;
}

int name_reach(const char *name, int *ret_fd)
{
    int r = listener_connect(name, ret_fd);

    if (r == -ENOENT || r == -ECONNREFUSED || r == -ENOTDIR)
        return VRD_ERR_ENDPOINT_NOT_FOUND;
    if (r == -EAGAIN)
        return VRD_ERR_ENDPOINT_BUSY;
    if (r == -EACCES || r == -EPERM)
        return VRD_ERR_PERMISSION_DENIED;
    if (r < 0)
        return r == -EPROTOTYPE ? VRD_ERR_PEER_CORRUPT : error_from_errno(-r);
    return 0;
}

int name_meet(int *fd, struct outfit *outfit, int64_t deadline, vrd_cap_t *ret)
{
    struct frame greeting = { 0 };
    int r;

    sender_offer(*fd, outfit); /* while the publisher wakes up */
    if (!fd_look_for(*fd, patience(deadline)) && !wait_until(*fd, deadline))
        return VRD_ERR_TIMEOUT;
    r = greeting_read(*fd, &greeting);
    if (r == 0 && socket_ask_who(*fd) < 0)
        r = VRD_ERR_PEER_GONE;
    if (r == 0)
        r = passing_import(&greeting, fd, outfit, greeting.count > 0 ? patience(deadline) : 0, ret);
    return r;
}

/*
 * One attempt. VRD_ERR_ENDPOINT_NOT_FOUND, where nobody listens, _ENDPOINT_BUSY and _PEER_GONE may be
 * different soon.
 */
static int connect_try(const char *name, int64_t deadline, vrd_cap_t *ret)
{
    outfit_auto outfit = OUTFIT_NONE;
    fd_auto fd = -1;
    int r;

    /* First: so that HELLO is there when the publisher, who is awake from then on, looks for it. */
    outfit_make(&outfit, VRD_CHANNEL_SLOTS_DEFAULT, 0);
    r = name_reach(name, &fd);
    return r < 0 ? r : name_meet(&fd, &outfit, deadline, ret);
}

static bool connect_may_wait(int r)
{
    return r == VRD_ERR_ENDPOINT_NOT_FOUND || r == VRD_ERR_ENDPOINT_BUSY || r == VRD_ERR_PEER_GONE;
}

/* Until a name may have appeared. False: not in time. */
static bool connect_wait_for_name(int *watch, int64_t deadline)
{
    enum listener_event event;

    do {
        if (!wait_until(*watch, deadline))
            return false;
        event = listener_watch_drain(*watch);
    } while (event == LISTENER_NOTHING);
    if (event == LISTENER_WAY) {
        fd_close(watch);
        *watch = listener_watch();
    }
    return true;
}

/* Tries again whenever that may help. */
static int connect_wait(const char *name, int64_t deadline, vrd_cap_t *ret)
{
    fd_auto watch = listener_watch();
    int r;

    for (;;) {
        int64_t pause = LOOK_NS;

        r = connect_try(name, deadline, ret); /* after the watch was set, and each event */
        if (!connect_may_wait(r))
            return r;
        if (deadline != CLOCK_NEVER && deadline - clock_now() < pause)
            pause = deadline - clock_now();
        if (pause <= 0)
            return VRD_ERR_TIMEOUT;
        if (watch < 0 || r != VRD_ERR_ENDPOINT_NOT_FOUND)
            fd_wait_for(-1, pause); /* nobody tells */
        else if (!connect_wait_for_name(&watch, deadline))
            return VRD_ERR_TIMEOUT;
    }
}

int vrd_connect(const char *name, int64_t timeout_ns, vrd_cap_t *ret)
{
    int64_t deadline;
    int r;

    if (!name || !listener_name_valid(name) || !timeout_valid(timeout_ns) || !ret)
        return VRD_ERR_INVALID_ARGUMENT;
    r = control_ready();
    if (r < 0)
        return r;
    control_lock();
    spares_connecting();
    control_unlock();
    deadline = clock_deadline(timeout_ns != 0 ? timeout_ns : NAME_ANSWER_NS);
    r = connect_try(name, deadline, ret);
    if (timeout_ns != 0 && connect_may_wait(r))
        r = connect_wait(name, deadline, ret);
    return r == VRD_ERR_PEER_GONE ? VRD_ERR_ENDPOINT_NOT_FOUND : r;
}
