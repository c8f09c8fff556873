/* SPDX-License-Identifier: MIT */
/*
 * The loop on io_uring: a poll request for each descriptor. A request completes once, so a level is
 * made of many: each collect asks again about what has completed, and what then completes at once
 * is ready now. Such a completion is told and left in the ring, which keeps the ring's descriptor
 * readable until a collect has asked again in vain.
 *
 * It costs a process one descriptor and three pages. Requests complete, and are cancelled, in the
 * thread that made them: it is interrupted, also in system calls that then return EINTR without any
 * signal, and until it has passed through the kernel, a collect in another thread does not see the
 * event. While a request is under way, the kernel holds the file: the other end may see a hang-up
 * that much later than after close(), and after the death of the process only once the ring is taken
 * down. A forked child that has not yet let go keeps the ring, and with it the files. See loop.c for
 * what follows from that.
 */
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/list.h"
#include "os/fd.h"
#include "os/loop.h"
#include "os/process.h"

#define ENTRIES 64 /* requests in one submit; the ring for completions has twice as many */
#define WATCHES_FIRST 64
#define NOBODY 0 /* user data of requests whose result is of no interest */

struct watch {
    struct list node; /* in `due` */
    uint64_t token;
    uint64_t id; /* user data of its request: serial and descriptor */
    int fd;
    unsigned events; /* FD_* */
    bool asked;      /* a request is under way */
};

struct loop_uring {
    struct loop loop;
    struct io_uring ring;
    pid_t pid; /* whose ring it is */
    uint32_t serial;
    struct list due;        /* watches to be asked about again, in turn */
    struct watch **watches; /* by descriptor */
    size_t watches_size;
};

static struct loop_uring *uring_of(struct loop *loop)
{
    return (struct loop_uring *)loop;
}

/* The watch that a request was made for. NULL: it is gone, another may have its descriptor. */
static struct watch *uring_find(const struct loop_uring *self, uint64_t id)
{
    uint32_t fd = (uint32_t)id;
    struct watch *watch = fd < self->watches_size ? self->watches[fd] : NULL;

    return watch && watch->id == id ? watch : NULL;
}

/* --- requests --------------------------------------------------------------------------------- */

/* The kernel did not take the requests that are left: polls become nothing, removals stay. */
static void uring_take_back(struct loop_uring *self)
{
    const struct io_uring_sq *sq = &self->ring.sq;

    for (unsigned n = io_uring_sq_ready(&self->ring); n > 0; n--) {
        struct io_uring_sqe *sqe = &sq->sqes[(sq->sqe_tail - n) & sq->ring_mask];
        struct watch *watch = uring_find(self, sqe->user_data);

        if (sqe->opcode != IORING_OP_POLL_ADD)
            continue;
        if (watch) {
            watch->asked = false;
            list_append(&self->due, &watch->node);
        }
        io_uring_prep_nop(sqe);
        io_uring_sqe_set_data64(sqe, NOBODY);
    }
}

/* 0 or -errno. */
static int uring_submit(struct loop_uring *self)
{
    while (io_uring_sq_ready(&self->ring) > 0) {
        int r = io_uring_submit(&self->ring);

        if (r < 0 && r != -EINTR) {
            uring_take_back(self);
            return r;
        }
    }
    return 0;
}

/* NULL: the kernel takes no more. */
static struct io_uring_sqe *uring_request(struct loop_uring *self)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);

    if (sqe || uring_submit(self) < 0)
        return sqe;
    return io_uring_get_sqe(&self->ring);
}

static bool uring_ask(struct loop_uring *self, struct watch *watch)
{
    struct io_uring_sqe *sqe = uring_request(self);

    if (!sqe)
        return false;
    io_uring_prep_poll_add(sqe, watch->fd,
                           (watch->events & FD_IN ? POLLIN : 0U) |
                               (watch->events & FD_OUT ? POLLOUT : 0U));
    io_uring_sqe_set_data64(sqe, watch->id);
    list_remove(&watch->node);
    watch->asked = true;
    return true;
}

/* Not by POLL_REMOVE, which leaves alone what has just been woken, be it for nothing. */
static void uring_cancel(struct loop_uring *self, uint64_t id)
{
    struct io_uring_sqe *sqe = uring_request(self);

    if (!sqe)
        return;
    io_uring_prep_cancel64(sqe, id, 0);
    io_uring_sqe_set_data64(sqe, NOBODY);
    uring_submit(self);
}

/* --- completions ------------------------------------------------------------------------------ */

/* Takes out all that has completed, also what the kernel kept back for want of room. */
static void uring_drain(struct loop_uring *self)
{
    struct io_uring_cqe *cqes[ENTRIES];
    unsigned n;

    while ((n = io_uring_peek_batch_cqe(&self->ring, cqes, ENTRIES)) > 0) {
        for (unsigned i = 0; i < n; i++) {
            struct watch *watch = uring_find(self, cqes[i]->user_data);

            if (!watch)
                continue;
            watch->asked = false;
            /* Cancelled: the thread that asked is gone. Any other error would only come again. */
            if (cqes[i]->res >= 0 || cqes[i]->res == -ECANCELED)
                list_append(&self->due, &watch->node);
        }
        io_uring_cq_advance(&self->ring, n);
    }
}

/*
 * Completions at the head that concern nobody would only wake somebody. But somebody has to come
 * while there are watches to be asked about.
 */
static void uring_sweep(struct loop_uring *self)
{
    struct io_uring_cqe *cqe;

    while (list_empty(&self->due) && io_uring_peek_cqe(&self->ring, &cqe) == 0 &&
           !uring_find(self, cqe->user_data))
        io_uring_cqe_seen(&self->ring, cqe);
}

/* Asks about the first `max` that are due. False: none are. */
static bool uring_ask_due(struct loop_uring *self, size_t max)
{
    size_t n = 0;

    while (n < max && n < ENTRIES && !list_empty(&self->due) &&
           uring_ask(self, list_entry(self->due.next, struct watch, node)))
        n++;
    return n > 0 && uring_submit(self) == 0;
}

/* What is ready, and stays in the ring. */
static size_t uring_tell(struct loop_uring *self, uint64_t *tokens, size_t max)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    size_t n = 0;

    io_uring_for_each_cqe(&self->ring, head, cqe)
    {
        struct watch *watch = uring_find(self, cqe->user_data);

        if (n == max)
            break;
        if (!watch || cqe->res < 0)
            continue;
        watch->asked = false;
        tokens[n++] = watch->token;
    }
    return n;
}

/* Did the kernel refuse the first request of `watch`? 0 or -errno. */
static int uring_refusal(const struct loop_uring *self, const struct watch *watch)
{
    struct io_uring_cqe *cqe;
    unsigned head;

    io_uring_for_each_cqe(&self->ring, head, cqe)
    {
        if (cqe->user_data == watch->id)
            return cqe->res < 0 ? cqe->res : 0;
    }
    return 0;
}

/* --- the loop --------------------------------------------------------------------------------- */

/* Some sandboxes let a process make a ring but not use it. */
static bool uring_works(struct loop_uring *self)
{
    struct io_uring_sqe *sqe = uring_request(self);
    struct io_uring_cqe *cqe;

    if (!sqe || !(self->ring.features & IORING_FEAT_NODROP))
        return false;
    io_uring_prep_nop(sqe);
    io_uring_sqe_set_data64(sqe, NOBODY);
    if (uring_submit(self) < 0 || io_uring_peek_cqe(&self->ring, &cqe) < 0)
        return false;
    io_uring_cqe_seen(&self->ring, cqe);
    return true;
}

static int uring_open(struct loop **ret)
{
    struct loop_uring *self = calloc(1, sizeof(*self));
    int r;

    if (!self)
        return -ENOMEM;
    self->loop.ops = &loop_uring;
    self->pid = process_self();
    list_init(&self->due);
    r = io_uring_queue_init(ENTRIES, &self->ring, 0);
    if (r < 0) {
        free(self);
        return r;
    }
    if (!uring_works(self) || io_uring_ring_dontfork(&self->ring) < 0) {
        io_uring_queue_exit(&self->ring);
        free(self);
        return -ENOSYS;
    }
    *ret = &self->loop;
    return 0;
}

static int uring_fd(const struct loop *loop)
{
    return ((const struct loop_uring *)loop)->ring.ring_fd;
}

static bool uring_fits(struct loop_uring *self, int fd)
{
    size_t size = self->watches_size ? self->watches_size : WATCHES_FIRST;
    struct watch **grown;

    if ((size_t)fd < self->watches_size)
        return true;
    while (size <= (size_t)fd)
        size *= 2;
    grown = realloc(self->watches, size * sizeof(struct watch *));
    if (!grown)
        return false;
    memset(grown + self->watches_size, 0, (size - self->watches_size) * sizeof(struct watch *));
    self->watches = grown;
    self->watches_size = size;
    return true;
}

/* Keeps it from being found, and frees it. */
static void uring_forget(struct loop_uring *self, struct watch *watch)
{
    self->watches[watch->fd] = NULL;
    list_remove(&watch->node);
    free(watch);
}

/* As epoll has it: what is always ready is refused. 0 or -errno. */
static int uring_watchable(int fd)
{
    struct stat status;
    int saved = errno, r = 0;

    if (fstat(fd, &status) < 0)
        r = -errno;
    else if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))
        r = -EPERM;
    errno = saved;
    return r;
}

static int uring_add(struct loop *loop, int fd, unsigned events, uint64_t token)
{
    struct loop_uring *self = uring_of(loop);
    struct watch *watch;
    int r = uring_watchable(fd);

    if (r < 0)
        return r;
    if (!uring_fits(self, fd))
        return -ENOMEM;
    if (self->watches[fd])
        return -EEXIST;
    watch = calloc(1, sizeof(*watch));
    if (!watch)
        return -ENOMEM;
    list_init(&watch->node);
    watch->token = token;
    watch->fd = fd;
    watch->events = events;
    watch->id = (uint64_t)++self->serial << 32 | (uint32_t)fd;
    self->watches[fd] = watch;
    r = uring_ask(self, watch) ? uring_submit(self) : -EAGAIN;
    if (r == 0)
        r = uring_refusal(self, watch);
    if (r < 0) {
        uring_forget(self, watch);
        uring_sweep(self);
    }
    return r;
}

static void uring_remove(struct loop *loop, int fd, uint64_t token)
{
    struct loop_uring *self = uring_of(loop);
    struct watch *watch = fd >= 0 && (size_t)fd < self->watches_size ? self->watches[fd] : NULL;
    uint64_t id;
    bool asked;

    if (!watch || watch->token != token)
        return;
    id = watch->id;
    asked = watch->asked;
    uring_forget(self, watch);
    if (asked)
        uring_cancel(self, id);
    uring_sweep(self);
}

static size_t uring_collect(struct loop *loop, uint64_t *tokens, size_t max)
{
    struct loop_uring *self = uring_of(loop);
    int saved = errno;
    size_t n = 0;

    uring_drain(self);
    while (n == 0 && uring_ask_due(self, max))
        n = uring_tell(self, tokens, max);
    errno = saved;
    return n;
}

/* The memory of the ring is not inherited, only its descriptor. */
static void uring_close(struct loop *loop)
{
    struct loop_uring *self = uring_of(loop);
    bool ours = self->pid == process_self();

    for (size_t fd = 0; fd < self->watches_size; fd++) {
        if (!self->watches[fd])
            continue;
        if (ours)
            uring_remove(loop, (int)fd, self->watches[fd]->token);
        else
            uring_forget(self, self->watches[fd]);
    }
    if (ours)
        io_uring_queue_exit(&self->ring);
    else
        fd_close(&self->ring.ring_fd);
    free(self->watches);
    free(self);
}

const struct loop_ops loop_uring = {
    .name = "io_uring",
    .open = uring_open,
    .close = uring_close,
    .fd = uring_fd,
    .add = uring_add,
    .remove = uring_remove,
    .collect = uring_collect,
};
