/* SPDX-License-Identifier: MIT */
#include <veridian/process.h>

#include <veridian/error.h>

#include "base/error.h"
#include "base/macro.h"
#include "cap/account.h"
#include "object/control.h"
#include "object/peer.h"
#include "object/reactor.h"
#include "object/ready.h"

static void init_quota(enum account_kind kind, uint64_t most)
{
    account_set_quota(kind, most > 0 ? most : UINT64_MAX);
}

int vrd_init(const struct vrd_init_options *options)
{
    uint64_t odd = options ? options->flags & ~VRD_INIT_NO_THREAD : 0;

    for (size_t i = 0; options && i < ARRAY_SIZE(options->reserved); i++)
        odd |= options->reserved[i];
    if (odd != 0)
        return VRD_ERR_INVALID_ARGUMENT;
    if (control_is_own())
        return VRD_ERR_RESOURCE_BUSY;
    if (options && (options->flags & VRD_INIT_NO_THREAD))
        reactor_set_threadless();
    init_quota(ACCOUNT_LINKS, options ? options->peer_links : 0);
    init_quota(ACCOUNT_DESCRIPTORS, options ? options->peer_descriptors : 0);
    init_quota(ACCOUNT_BYTES, options ? options->peer_bytes : 0);
    return control_ready();
}

int vrd_reactor_fd(void)
{
    int r = control_ready();

    if (r < 0)
        return r;
    if (!reactor_threadless())
        return VRD_ERR_NOT_INITIALIZED;
    r = reactor_fd();
    return r < 0 ? error_from_errno(-r) : r;
}

int vrd_reactor_dispatch(void)
{
    int r = control_ready();

    if (r < 0)
        return r;
    if (!reactor_threadless())
        return VRD_ERR_NOT_INITIALIZED;
    reactor_serve();
    return 0;
}

int vrd_on_ready(vrd_ready_fn *function, void *user)
{
    int r = control_ready();

    if (r < 0)
        return r;
    ready_set_function(function, user);
    if (function)
        reactor_start();
    return 0;
}

int vrd_process_on_exit(vrd_exit_fn *function, void *user)
{
    int r = control_ready();

    if (r < 0)
        return r;
    peer_set_function(function, user);
    if (function)
        reactor_start();
    return 0;
}

int vrd_process_cleanup(pid_t pid)
{
    int r = control_ready();

    if (r < 0)
        return r;
    r = pid > 0 && pid != control_pid() ? peer_cleanup(pid) : 0;
    return r > 0 ? r : VRD_ERR_PROCESS_NOT_FOUND;
}
