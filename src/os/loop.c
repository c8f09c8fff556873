/* SPDX-License-Identifier: MIT */
/*
 * Which loop? epoll comes first, because it is the faster and the more honest one here. Measured
 * side by side on Linux 6.18 with two CPUs, io_uring against epoll:
 *
 *   add and remove                                  7.7 against 6.9 us
 *   an event: write, wait, collect, read, be quiet  22 against 16 us (it has to ask once more)
 *   kill -9 until the other end sees the hang-up    7.5 ms against 0.09 ms (a kernel worker cancels)
 *   the same while a child forked before the socket was made is alive: not seen until that child is
 *   gone too, against at once (a request holds its file, the inherited descriptor holds the ring)
 *   EINTR in a waiting application's own epoll_wait without a signal: at each event, against never
 *   an event that another thread asked for: seen once that thread has run, against at once
 *
 * The fourth breaks the promise that a death is seen, the fifth is a change to the program that uses
 * us. Nothing but a poll is asked of the loop, so there is nothing that io_uring could win back. The tests
 * run over both all the same, but for those that are about how soon a death is seen.
 */
#include "os/loop.h"

#include <errno.h>

#include "base/macro.h"

static const struct loop_ops *const loops[] = {
#ifdef VRD_URING_FIRST
    &loop_uring,
#endif
    &loop_epoll,
#if defined(VRD_HAVE_URING) && !defined(VRD_URING_FIRST)
    &loop_uring,
#endif
};

int loop_open(struct loop **ret)
{
    int r = -ENOSYS;

    for (size_t i = 0; i < ARRAY_SIZE(loops) && r < 0; i++)
        r = loops[i]->open(ret);
    return r;
}
