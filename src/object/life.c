/* SPDX-License-Identifier: MIT */
#include "object/life.h"

#include <stdlib.h>
#include <veridian/error.h>

#include "object/owner.h"
#include "object/port.h"
#include "object/source.h"
#include "os/fd.h"

#define BUCKETS 256

struct life {
    struct list node; /* in its bucket, until it is over */
    struct list watches;
    struct source *source;
    pid_t pid;
    bool over;
};

static struct list lives[BUCKETS]; /* by pid; not yet used where all is zero */

static struct list *life_bucket(pid_t pid)
{
    struct list *bucket = &lives[(uint32_t)pid % BUCKETS];

    if (!bucket->next)
        list_init(bucket);
    return bucket;
}

/*
 * A number may have been another's before. But no two processes that are alive have the same: if the one
 * that we know and the one behind `pidfd` are, then they are one. Zero stands for all those that have no
 * number here.
 */
static struct life *life_find(pid_t pid, int pidfd)
{
    if (pid == 0)
        return NULL;
    list_foreach(node, life_bucket(pid)) {
        struct life *life = list_entry(node, struct life, node);

        if (life->pid == pid && !fd_readable(life->source->fd))
            return fd_readable(pidfd) ? NULL : life;
    }
    return NULL;
}

static void life_free(struct life *life)
{
    source_free(&life->source);
    list_remove(&life->node);
    free(life);
}

/* Takes `pidfd`. NULL: out of memory. */
static struct life *life_new(pid_t pid, int pidfd)
{
    struct source *source = source_new(NULL, SOURCE_LIFE, pidfd);
    struct life *life = source ? calloc(1, sizeof(*life)) : NULL;

    if (!life) {
        source_free(&source);
        return NULL;
    }
    list_init(&life->node);
    list_init(&life->watches);
    life->pid = pid;
    life->source = source;
    source->life = life;
    if (source_watch(source) < 0) {
        life_free(life);
        return NULL;
    }
    list_append(life_bucket(pid), &life->node);
    return life;
}

int life_watch(struct life_watch *watch, pid_t pid, int pidfd)
{
    struct life *life = life_find(pid, pidfd);

    if (life)
        fd_close(&pidfd);
    else
        life = life_new(pid, pidfd);
    if (!life)
        return VRD_ERR_OUT_OF_MEMORY;
    watch->life = life;
    list_append(&life->watches, &watch->node);
    return 0;
}

void life_unwatch(struct life_watch *watch)
{
    struct life *life = watch->life;

    if (!life)
        return;
    watch->life = NULL;
    list_remove(&watch->node);
    if (list_empty(&life->watches) && !life->over)
        life_free(life);
}

bool life_over(const struct life_watch *watch)
{
    return watch->life && fd_readable(watch->life->source->fd);
}

void life_bill(const struct life_watch *watch, struct account *account)
{
    if (watch->life && !watch->life->source->account)
        source_bill(watch->life->source, account);
}

void life_source_ready(struct source *source)
{
    struct life *life = source->life;

    life->over = true;
    while (!list_empty(&life->watches)) {
        struct life_watch *watch = list_entry(life->watches.next, struct life_watch, node);

        life_unwatch(watch);
        if (watch->link)
            owner_process_gone(watch->port, watch->link);
        else
            sender_owner_gone(watch->port, watch->port->sender.owner);
    }
    life_free(life);
}
