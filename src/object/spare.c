/* SPDX-License-Identifier: MIT */
#include "object/spare.h"

#include <stdint.h>

#include "base/clock.h"
#include "link/layout.h"
#include "object/control.h"
#include "object/reactor.h"
#include "object/source.h"
#include "os/event.h"
#include "os/fd.h"
#include "os/segment.h"

struct spare {
    struct segment segment;
    int fd;
    uint64_t identity; /* of `fd` */
};

/* With the control lock. */
static struct spare spares[SPARES_MAX];
static size_t n_spares;
static bool wanted;          /* a name is published */
static bool again;           /* somebody connects again and again ... */
static int64_t connected;    /* ... and did last at this time */
static struct source *lease; /* the timer for that, while there is one */

bool spare_take(size_t size, struct segment *ret, int *ret_fd)
{
    if (size != LAYOUT_PAGE || n_spares == 0)
        return false;
    n_spares--;
    *ret = spares[n_spares].segment;
    *ret_fd = spares[n_spares].fd;
    return true;
}

void spares_drop(void)
{
    while (n_spares > 0) {
        struct spare *spare = &spares[--n_spares];

        segment_unmap(&spare->segment);
        fd_close(&spare->fd);
    }
}

void spares_expected(bool expected)
{
    wanted = expected;
    if (!expected)
        spares_drop();
    else if (!reactor_threadless())
        reactor_owe(); /* a thread that had nothing to make sleeps without limit */
}

void spares_connecting(void)
{
    const int64_t now = clock_now();

    again = connected != 0 && now - connected < SPARE_LEASE_NS;
    connected = now;
}

/* Control lock held. */
static bool spares_fewer(size_t n)
{
    return (wanted && n_spares < n) || (again && n_spares == 0);
}

/* Control lock held, and the thread runs. False: nothing would tell when it is over. */
static bool lease_open(void)
{
    int fd;

    if (wanted || lease)
        return true;
    fd = event_open_timer();
    lease = fd >= 0 ? source_new(NULL, SOURCE_LEASE, fd) : NULL;
    if (lease && source_watch(lease) < 0)
        source_free(&lease);
    if (lease)
        event_set_timer(fd, connected + SPARE_LEASE_NS);
    return lease != NULL;
}

void spare_source_ready(struct source *source)
{
    event_clear(source->fd);
    if (clock_now() - connected < SPARE_LEASE_NS) {
        event_set_timer(source->fd, connected + SPARE_LEASE_NS);
        return;
    }
    again = false;
    if (!wanted)
        spares_drop();
    source_free(&lease);
}

bool spares_short(size_t n)
{
    bool fewer;

    control_lock();
    fewer = spares_fewer(n);
    control_unlock();
    return fewer;
}

bool spare_make(size_t n)
{
    struct spare spare = { .fd = -1 };
    bool taken;

    if (!spares_short(n) || !reactor_start() ||
        segment_create(LAYOUT_PAGE, &spare.segment, &spare.fd) < 0)
        return false;
    spare.identity = fd_identity(spare.fd);
    control_lock();
    taken = spares_fewer(n) && lease_open();
    if (taken)
        spares[n_spares++] = spare;
    control_unlock();
    if (!taken) {
        segment_unmap(&spare.segment);
        fd_close(&spare.fd);
    }
    return taken;
}

/* Their memory was not inherited. */
void spares_after_fork(void)
{
    again = false;
    source_free(&lease);
    while (n_spares > 0) {
        struct spare *spare = &spares[--n_spares];

        if (fd_identity(spare->fd) == spare->identity)
            fd_close(&spare->fd);
    }
}
