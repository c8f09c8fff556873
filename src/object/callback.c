/* SPDX-License-Identifier: MIT */
#include "object/callback.h"

#include <pthread.h>

static pthread_mutex_t calling = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

void callback_begin(void)
{
    pthread_mutex_lock(&calling);
}

void callback_end(void)
{
    pthread_mutex_unlock(&calling);
}

void callback_after_fork(void)
{
    pthread_mutex_t fresh = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

    calling = fresh;
}
