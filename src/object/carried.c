/* SPDX-License-Identifier: MIT */
#include "object/carried.h"

#include <errno.h>
#include <stdlib.h>
#include <veridian/error.h>

#include "base/error.h"
#include "cap/account.h"
#include "os/fd.h"
#include "os/socket.h"

void carried_queue_init(struct carried_queue *queue)
{
    *queue = (struct carried_queue){ 0 };
    list_init(&queue->waiting);
}

static void carried_leave(struct carried_queue *queue, struct carried *carried)
{
    list_remove(&carried->node);
    queue->n--;
    account_discharge(queue->account, ACCOUNT_DESCRIPTORS, carried->n);
}

void carried_queue_deinit(struct carried_queue *queue)
{
    list_foreach(node, &queue->waiting) {
        struct carried *carried = list_entry(node, struct carried, node);

        carried_leave(queue, carried);
        carried_free(&carried);
    }
}

/* All of them, or none. */
static int carried_adopt(const struct datagram *datagram)
{
    for (size_t i = 0; i < datagram->n_fds; i++) {
        int r = socket_adopt(datagram->fds[i]);

        if (r == -ENOTSOCK || r == -ENOTCONN)
            return VRD_ERR_PEER_CORRUPT;
        if (r < 0)
            return error_from_errno(-r);
    }
    return 0;
}

int carried_new(const struct frame *frame, struct datagram *datagram, struct carried **ret)
{
    struct carried *carried;
    int r = carried_adopt(datagram);

    if (r < 0)
        return r;
    carried = calloc(1, sizeof(*carried));
    if (!carried)
        return VRD_ERR_OUT_OF_MEMORY;
    list_init(&carried->node);
    carried->id = frame->id;
    carried->n = (uint32_t)datagram->n_fds;
    for (size_t i = 0; i < datagram->n_fds; i++) {
        carried->identities[i] = fd_identity(datagram->fds[i]);
        carried->fds[i] = fd_take(&datagram->fds[i]);
    }
    *ret = carried;
    return 0;
}

int carried_arrived(struct carried_queue *queue, const struct frame *frame,
                    struct datagram *datagram)
{
    struct carried *carried;
    int r;

    /* one more than may be unread: its reader may be about to take it, and has said so */
    if (queue->n > CARRIED_MAX || frame->id != queue->last + 1)
        return VRD_ERR_PEER_CORRUPT;
    if (!account_allows(queue->account, ACCOUNT_DESCRIPTORS, datagram->n_fds))
        return VRD_ERR_QUOTA_EXCEEDED;
    r = carried_new(frame, datagram, &carried);
    if (r < 0)
        return r;
    account_charge(queue->account, ACCOUNT_DESCRIPTORS, carried->n);
    list_append(&queue->waiting, &carried->node);
    queue->n++;
    queue->last = frame->id;
    return 0;
}

struct carried *carried_take(struct carried_queue *queue, uint64_t id)
{
    struct carried *oldest = list_entry(queue->waiting.next, struct carried, node);

    if (list_empty(&queue->waiting) || oldest->id != id)
        return NULL;
    carried_leave(queue, oldest);
    return oldest;
}

void carried_free(struct carried **carried)
{
    struct carried *old = *carried;

    for (uint32_t i = 0; old && i < old->n; i++)
        /* a forked child may have closed it, and have something else under the number */
        if (fd_identity(old->fds[i]) == old->identities[i])
            fd_close(&old->fds[i]);
    free(old);
    *carried = NULL;
}
