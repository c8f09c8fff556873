/* SPDX-License-Identifier: MIT */
#include "object/spare.h"

#include <stdint.h>

#include "link/layout.h"
#include "object/control.h"
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
static bool wanted;

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
}

/* Control lock held. */
static bool spares_fewer(size_t n)
{
    return wanted && n_spares < n;
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

    if (!spares_short(n) || segment_create(LAYOUT_PAGE, &spare.segment, &spare.fd) < 0)
        return false;
    spare.identity = fd_identity(spare.fd);
    control_lock();
    taken = spares_fewer(n);
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
    while (n_spares > 0) {
        struct spare *spare = &spares[--n_spares];

        if (fd_identity(spare->fd) == spare->identity)
            fd_close(&spare->fd);
    }
}
