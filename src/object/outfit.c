/* SPDX-License-Identifier: MIT */
#include "object/outfit.h"

#include <errno.h>

#include "link/layout.h"
#include "link/ring.h"
#include "object/control.h"
#include "object/memory.h"
#include "object/revoke.h"
#include "object/source.h"
#include "object/spare.h"
#include "os/fd.h"

void outfit_deinit(struct outfit *outfit)
{
    segment_unmap(&outfit->segment);
    fd_close(&outfit->segment_fd);
    fd_close(&outfit->near);
    fd_close(&outfit->far);
    outfit->offered = false;
}

static int outfit_segment(struct outfit *outfit, size_t size)
{
    const struct pages pages = memory_pages(outfit->memory, 0);
    bool taken = false;

    control_lock();
    if (outfit->memory == 0)
        taken = spare_take(size, &outfit->segment, &outfit->segment_fd);
    control_unlock();
    return taken ? 0 : segment_create_of(size, &pages, &outfit->segment, &outfit->segment_fd);
}

int outfit_make(struct outfit *outfit, uint32_t capacity, uint32_t memory)
{
    const size_t size = layout_sender_size(ring_slots(capacity));
    int r;

    if (outfit->segment.size == size && outfit->memory == memory)
        return 0;
    outfit_deinit(outfit);
    outfit->memory = memory;
    r = outfit_segment(outfit, size);
    return r == -EMFILE && revoke_hurry() ? outfit_segment(outfit, size) : r;
}

int outfit_tether(struct outfit *outfit)
{
    int pair[2];
    int r = source_pair(pair);

    if (r < 0)
        return r;
    outfit->near = pair[0];
    outfit->far = pair[1];
    return 0;
}
