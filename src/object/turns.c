/* SPDX-License-Identifier: MIT */
#include "object/turns.h"

#include "base/clock.h"
#include "object/link.h"
#include "object/receiver.h"

#define TURN 64          /* messages in a row from one link, while others may have some */
#define TURN_ALONE 1024  /* ... while there is no other */
#define COOL_NS 10000000 /* see docs/design.md, "Sleep": a store is visible after this time */

void turns_count(struct receiver *rx)
{
    uint32_t taken = rx->granted - rx->budget;

    rx->granted = rx->budget;
    rx->heard += taken;
    if (taken > 0)
        rx->current->heard = rx->heard;
}

void turns_grant(struct receiver *rx)
{
    bool alone = rx->n_active == 1 && list_empty(&rx->cooling);

    rx->granted = rx->budget = !rx->current || rx->current->ending ? 0 : alone ? TURN_ALONE : TURN;
}

void turns_join(struct receiver *rx, struct link *link)
{
    if (link->state == LINK_ACTIVE)
        return;
    list_remove(&link->node);
    list_append(&rx->active, &link->node);
    link->state = LINK_ACTIVE;
    link->heard = rx->heard;
    rx->n_active++;
    if (!rx->current)
        rx->current = link;
    else if (rx->n_active == 2) /* whose budget was granted while it was alone */
        turns_count(rx);
    if (rx->n_active <= 2)
        turns_grant(rx);
}

void turns_next(struct receiver *rx)
{
    struct list *next = rx->current->node.next;

    turns_count(rx);
    if (next == &rx->active)
        next = next->next;
    rx->current = list_entry(next, struct link, node);
    turns_grant(rx);
}

void turns_leave(struct receiver *rx, struct link *link)
{
    if (link->state == LINK_ACTIVE) {
        if (rx->current == link)
            turns_next(rx);
        if (rx->current == link) { /* the only one */
            rx->current = NULL;
            turns_grant(rx);
        }
        rx->n_active--;
    }
    list_remove(&link->node);
    link->state = LINK_COLD;
}

void turns_cool(struct receiver *rx, struct link *link)
{
    uint64_t word;

    link_arm(link, RING_TETHER);
    atomic_thread_fence(memory_order_seq_cst); /* between our notice and our look */
    link->cooled = clock_now();
    if (ring_peek(&link->ring, &word) != RING_EMPTY)
        return;
    turns_leave(rx, link);
    link->state = LINK_COOLING;
    list_append(&rx->cooling, &link->node);
}

void turns_look_again(struct receiver *rx)
{
    int64_t now;
    uint64_t word;

    if (likely(list_empty(&rx->cooling)))
        return;
    now = clock_now();
    list_foreach(node, &rx->cooling) {
        struct link *link = list_entry(node, struct link, node);

        if (now - link->cooled < COOL_NS)
            return;
        if (ring_peek(&link->ring, &word) != RING_EMPTY) {
            turns_join(rx, link);
        } else {
            list_remove(&link->node);
            link->state = LINK_COLD;
        }
    }
}
