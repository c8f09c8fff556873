/* SPDX-License-Identifier: MIT */
#include <veridian/inbox.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <veridian/channel.h>
#include <veridian/error.h>

#include "api/message.h"
#include "api/name.h"
#include "api/passing.h"
#include "base/clock.h"
#include "base/error.h"
#include "object/control.h"
#include "object/name.h"
#include "object/outfit.h"
#include "os/fd.h"
#include "os/listener.h"
#include "os/process.h"

#define INBOX_MODE 0600
#define INBOX_SLOTS 16

static void inbox_name(pid_t pid, char name[LISTENER_NAME_MAX + 1])
{
    snprintf(name, LISTENER_NAME_MAX + 1, "inbox-%d", (int)pid);
}

static bool of_this_user(const struct vrd_source *who, void *user)
{
    (void)user;
    return who->uid == process_user();
}

/* --- open ------------------------------------------------------------------------------------- */

/* 0 and what to publish with, or VRD_ERR_INVALID_ARGUMENT. */
static int inbox_check(const struct vrd_inbox_options *options, struct vrd_publish_options *ret)
{
    static const struct vrd_inbox_options none;

    if (!options)
        options = &none;
    if (memcmp(options->reserved, none.reserved, sizeof(none.reserved)) != 0 ||
        options->padding != 0 || (options->mode & ~UINT32_C(0777)) != 0)
        return VRD_ERR_INVALID_ARGUMENT;
    *ret = (struct vrd_publish_options){ .mode = options->mode != 0 ? options->mode : INBOX_MODE,
                                         .rights = VRD_RIGHT_SEND,
                                         .allow = options->allow ? options->allow : of_this_user,
                                         .user = options->user };
    return 0;
}

/* Was it left by a process that is no more? At least there is none with that number. */
static bool inbox_left(const char *name)
{
    static const char prefix[] = "inbox-";
    const char *number = name + sizeof(prefix) - 1;
    char *end;
    long pid;
    int fd;

    if (strncmp(name, prefix, sizeof(prefix) - 1) != 0)
        return false;
    pid = strtol(number, &end, 10);
    if (end == number || *end != '\0' || pid <= 0 || pid > INT_MAX)
        return false;
    fd = process_open((pid_t)pid);
    if (fd >= 0)
        fd_close(&fd);
    return fd == -ESRCH;
}

/* The name belongs to the receiving side, and goes with it. */
static int inbox_publish(vrd_cap_t send, vrd_cap_t receive,
                         const struct vrd_publish_options *options)
{
    char name[LISTENER_NAME_MAX + 1];
    struct name_right right;
    int r = passing_derive(send, VRD_RIGHT_SEND, &right);

    if (r < 0)
        return r;
    listener_sweep(inbox_left);
    inbox_name(control_pid(), name);
    return name_publish(receive, name, options, &right);
}

int vrd_inbox_open(const struct vrd_inbox_options *options, vrd_cap_t *ret_recv)
{
    static const struct vrd_channel_options channel = { .slots = INBOX_SLOTS,
                                                        .max_message_size = VRD_INBOX_MESSAGE_MAX };
    struct vrd_publish_options publish;
    vrd_cap_t send, receive;
    int r = ret_recv ? inbox_check(options, &publish) : VRD_ERR_INVALID_ARGUMENT;

    if (r == 0)
        r = vrd_channel_create_with(&channel, &send, &receive);
    if (r < 0)
        return r;
    r = inbox_publish(send, receive, &publish);
    vrd_cap_close(send);
    if (r < 0)
        vrd_cap_close(receive);
    else
        *ret_recv = receive;
    return r;
}

/* --- grant ------------------------------------------------------------------------------------ */

/* Whoever listens there must be the process meant, and one that our own inbox is open for. */
static int target_check(int fd, pid_t target)
{
    char own[LISTENER_NAME_MAX + 1];
    struct vrd_source who;
    int r = listener_peer(fd, &who.pid, &who.uid, &who.gid);

    if (r < 0)
        return error_from_errno(-r);
    if (who.pid != target)
        return VRD_ERR_PERMISSION_DENIED;
    inbox_name(control_pid(), own);
    return name_judge(own, &who);
}

static int target_missing(pid_t target)
{
    int fd = process_open(target);

    if (fd < 0)
        return VRD_ERR_PROCESS_NOT_FOUND;
    fd_close(&fd);
    return VRD_ERR_NO_BROKER;
}

static int target_connect(pid_t target, vrd_cap_t *ret)
{
    outfit_auto outfit = OUTFIT_NONE;
    char name[LISTENER_NAME_MAX + 1];
    fd_auto fd = -1;
    int r;

    inbox_name(target, name);
    r = name_reach(name, &fd);
    if (r == 0)
        r = target_check(fd, target);
    if (r == 0)
        r = name_meet(&fd, &outfit, clock_deadline(NAME_ANSWER_NS), ret);
    if (r != VRD_ERR_ENDPOINT_NOT_FOUND && r != VRD_ERR_PEER_GONE)
        return r;
    r = target_missing(target);
    if (r == VRD_ERR_PROCESS_NOT_FOUND) /* killed: it could not */
        listener_clean(name);
    return r;
}

static int grant_send(vrd_cap_t grant, pid_t target, uint32_t rights)
{
    struct carried carried = { .n = 1 };
    struct ring_message message = { .carried = &carried };
    fd_auto invitation = -1;
    vrd_cap_t inbox = VRD_CAP_NONE;
    int r = target_connect(target, &inbox);

    if (r < 0)
        return r;
    r = passing_invite(grant, rights, &invitation);
    if (r == 0) {
        carried.fds[0] = invitation;
        r = message_send(inbox, &message, 0);
    }
    vrd_cap_close(inbox);
    return r;
}

int vrd_cap_grant(vrd_cap_t cap, pid_t target, uint32_t rights, vrd_cap_t *ret)
{
    char own[LISTENER_NAME_MAX + 1];
    struct vrd_cap_info info;
    vrd_cap_t grant;
    int r;

    if (!ret || target <= 0)
        return VRD_ERR_INVALID_ARGUMENT;
    r = vrd_cap_info(cap, &info);
    if (r < 0)
        return r;
    r = vrd_cap_derive(cap, rights | VRD_RIGHT_GRANT | (info.rights & VRD_RIGHT_REVOKE), &grant);
    if (r < 0)
        return r;
    inbox_name(control_pid(), own);
    r = name_is_own(own) ? grant_send(grant, target, rights) : VRD_ERR_NOT_INITIALIZED;
    if (r < 0)
        vrd_cap_close(grant);
    else
        *ret = grant;
    return r;
}
