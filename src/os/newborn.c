/* SPDX-License-Identifier: MIT */
#include "os/newborn.h"

#include <pthread.h>

static pthread_rwlock_t making = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

void newborn_begin(void)
{
    pthread_rwlock_rdlock(&making);
}

void newborn_end(void)
{
    pthread_rwlock_unlock(&making);
}

void newborn_await(void)
{
    pthread_rwlock_wrlock(&making);
}

void newborn_resume(void)
{
    pthread_rwlock_unlock(&making);
}

void newborn_after_fork(void)
{
    const pthread_rwlock_t fresh = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

    making = fresh; /* it counts threads that wait for it, and have stayed in the parent */
}
