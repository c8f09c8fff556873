/* SPDX-License-Identifier: MIT */
#include "os/newborn.h"

#include <pthread.h>

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t made = PTHREAD_COND_INITIALIZER;
static unsigned n_making; /* with the gate */

void newborn_begin(void)
{
    pthread_mutex_lock(&gate);
    n_making++;
    pthread_mutex_unlock(&gate);
}

void newborn_end(void)
{
    pthread_mutex_lock(&gate);
    if (--n_making == 0)
        pthread_cond_signal(&made); /* the control lock is held across fork: one waits at most */
    pthread_mutex_unlock(&gate);
}

void newborn_await(void)
{
    pthread_mutex_lock(&gate);
    while (n_making > 0)
        pthread_cond_wait(&made, &gate);
}

void newborn_resume(void)
{
    pthread_mutex_unlock(&gate);
}

void newborn_after_fork(void)
{
    pthread_mutex_init(&gate, NULL);
    pthread_cond_init(&made, NULL);
    n_making = 0;
}
