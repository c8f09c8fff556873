/* SPDX-License-Identifier: MIT */
/*
 * One request, which is asked once more after each completion: a poll of the descriptor, a loop's.
 * Not of each socket in the loop: a request holds its file. After kill -9 the other end of such a
 * socket sees the hang-up when a kernel worker has cancelled the request, 7.5 ms later instead of
 * 0.09, and while a forked child still has the ring, not at all. A loop holds nothing.
 *
 * Requests complete in the thread that made them, whatever system call it is in, which then returns
 * EINTR without any signal. So only a thread of our own has a ring, and no thread of the application.
 */
#include "os/uring.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/types.h>

#include "os/fd.h"
#include "os/process.h"

#define ENTRIES 2
#define FEATURES (IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG)

struct uring {
    struct io_uring ring;
    pid_t pid; /* whose it is */
    int fd;    /* waited for */
    bool asked;
};

/* 0 or -errno. */
static int uring_init(struct io_uring *ring)
{
    int r =
        io_uring_queue_init(ENTRIES, ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

    return r == -EINVAL ? io_uring_queue_init(ENTRIES, ring, 0) : r; /* before Linux 6.1 */
}

static void uring_ask(struct uring *uring)
{
    struct io_uring_sqe *sqe = uring->asked ? NULL : io_uring_get_sqe(&uring->ring);

    if (!sqe)
        return;
    io_uring_prep_poll_add(sqe, uring->fd, POLLIN);
    uring->asked = true;
}

struct uring *uring_open(int fd)
{
    struct uring *uring = calloc(1, sizeof(*uring));

    if (!uring)
        return NULL;
    if (uring_init(&uring->ring) < 0) {
        free(uring);
        return NULL;
    }
    uring->pid = process_self();
    uring->fd = fd;
    uring_ask(uring);
    /* Some sandboxes let a process make a ring but not use it. */
    if ((uring->ring.features & FEATURES) == FEATURES &&
        io_uring_ring_dontfork(&uring->ring) == 0 && io_uring_submit(&uring->ring) == 1)
        return uring;
    uring_close(uring);
    return NULL;
}

/* The memory of the ring is not inherited, only its descriptor. */
void uring_close(struct uring *uring)
{
    if (uring->pid == process_self())
        io_uring_queue_exit(&uring->ring);
    else
        fd_close(&uring->ring.ring_fd);
    free(uring);
}

int uring_fd(const struct uring *uring)
{
    return uring->ring.ring_fd;
}

bool uring_wait(struct uring *uring, int64_t timeout)
{
    struct __kernel_timespec time = { .tv_sec = timeout / 1000000000,
                                      .tv_nsec = timeout % 1000000000 };
    struct io_uring_cqe *cqe = NULL;
    int r;

    uring_ask(uring);
    r = io_uring_submit_and_wait_timeout(&uring->ring, &cqe, 1, timeout < 0 ? NULL : &time, NULL);
    if (r == -EINTR)
        return true;
    if (io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
        r = cqe->res;
        io_uring_cqe_seen(&uring->ring, cqe);
        uring->asked = false;
    } else if (r >= 0 || r == -ETIME) {
        return false;
    }
    /* Refused after all, or no memory for the request: then as if there were no ring. */
    return r >= 0 || fd_wait_any(&uring->fd, 1, timeout);
}
