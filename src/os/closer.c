/* SPDX-License-Identifier: MIT */
#include "os/closer.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "os/fd.h"
#include "os/process.h"

struct closing {
    struct closing *next;
    int fd;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct closing *first, **end = &first; /* with the lock, as all that follows */
static bool running;

/* The next one to close; NULL: there is none, and whoever asks ends. */
static struct closing *closing_next(void)
{
    struct closing *next;

    pthread_mutex_lock(&lock);
    next = first;
    if (next)
        first = next->next;
    if (!first)
        end = &first;
    running = next != NULL;
    pthread_mutex_unlock(&lock);
    return next;
}

static void *closer_run(void *arg)
{
    struct closing *closing;

    (void)arg;
    while ((closing = closing_next())) {
        close(closing->fd);
        free(closing);
    }
    return NULL;
}

void closer_take(int *fd)
{
    struct closing *closing = malloc(sizeof(*closing));
    bool idle;

    if (!closing) { /* here, then */
        fd_close(fd);
        return;
    }
    *closing = (struct closing){ .fd = fd_take(fd) };
    pthread_mutex_lock(&lock);
    *end = closing;
    end = &closing->next;
    idle = !running;
    running = true;
    pthread_mutex_unlock(&lock);
    if (idle && process_thread(closer_run, "veridian-close") < 0)
        closer_run(NULL);
}

/* The others, of whom one may just have been at it, are not here. */
void closer_after_fork(void)
{
    pthread_mutex_init(&lock, NULL);
    first = NULL;
    end = &first;
    running = false;
}
