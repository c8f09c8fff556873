/* SPDX-License-Identifier: MIT */
/*
 * thread_pool.c - a few threads that serve any number of endpoints: none waits for one of them. What
 * has run empty is forgotten, until the library says that there is something again.
 *
 *   thread_pool CALLS NAME...    an endpoint under each name; ends after so many calls
 */
#include <veridian/ipc.h>

#include <ctype.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define WORKERS 3
#define ENDPOINTS_MAX 64

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    vrd_cap_t endpoints[ENDPOINTS_MAX];
    bool ready[ENDPOINTS_MAX]; /* to be served, by whichever thread is free */
    int n;
    long calls; /* left */
    int error;
};

/* Called by the library: it must not wait, and need not, for it only makes a note. */
static void on_ready(vrd_cap_t cap, void *user)
{
    struct pool *pool = user;

    pthread_mutex_lock(&pool->lock);
    for (int i = 0; i < pool->n; i++)
        if (pool->endpoints[i] == cap)
            pool->ready[i] = true;
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}

/* The next that is ready; -1: it is over. */
static int pool_next(struct pool *pool)
{
    int next = -1;

    pthread_mutex_lock(&pool->lock);
    while (next < 0 && pool->calls > 0 && pool->error == VRD_OK) {
        for (int i = 0; i < pool->n && next < 0; i++)
            if (pool->ready[i])
                next = i;
        if (next < 0)
            pthread_cond_wait(&pool->work, &pool->lock);
    }
    if (next >= 0)
        pool->ready[next] = false;
    pthread_mutex_unlock(&pool->lock);
    return next;
}

static void pool_count(struct pool *pool, long calls, int error)
{
    pthread_mutex_lock(&pool->lock);
    pool->calls -= calls;
    if (error < 0)
        pool->error = error;
    if (pool->calls <= 0 || error < 0)
        pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}

/* Until there is nothing: that is what makes the library call on_ready again. */
static void serve(struct pool *pool, vrd_cap_t endpoint)
{
    char text[4096];
    struct vrd_message request = { .data = text, .size = sizeof(text) };
    vrd_cap_t reply;
    int err;

    while ((err = vrd_receive_call(endpoint, &request, &reply, 0)) != VRD_ERR_CHANNEL_EMPTY) {
        if (err == VRD_ERR_MESSAGE_TOO_LARGE)
            err = vrd_discard(endpoint);
        else if (err == VRD_ERR_PEER_CORRUPT)
            err = VRD_OK;
        else if (err == VRD_OK && reply != VRD_CAP_NONE) {
            for (size_t i = 0; i < request.len; i++)
                text[i] = (char)toupper((unsigned char)text[i]);
            vrd_reply(reply, text, request.len);
            pool_count(pool, 1, VRD_OK);
        }
        if (err < 0) {
            pool_count(pool, 0, err);
            return;
        }
    }
}

static void *work(void *arg)
{
    struct pool *pool = arg;
    int next;

    while ((next = pool_next(pool)) >= 0)
        serve(pool, pool->endpoints[next]);
    return NULL;
}

int main(int argc, char **argv)
{
    static struct pool pool = { .lock = PTHREAD_MUTEX_INITIALIZER,
                                .work = PTHREAD_COND_INITIALIZER };
    pthread_t workers[WORKERS];
    uint64_t id;

    if (argc < 3 || argc - 2 > ENDPOINTS_MAX) {
        fprintf(stderr, "usage: thread_pool CALLS NAME...\n");
        return 2;
    }
    pool.calls = strtol(argv[1], NULL, 10);
    for (int i = 0; i < argc - 2 && pool.error == VRD_OK; i++, pool.n++) {
        pool.error = vrd_endpoint_create(&id, &pool.endpoints[i]);
        if (pool.error == VRD_OK)
            pool.error = vrd_publish(pool.endpoints[i], argv[2 + i], NULL);
        pool.ready[i] = true; /* nobody has looked yet */
    }
    if (pool.error == VRD_OK)
        pool.error = vrd_on_ready(on_ready, &pool);
    for (int i = 0; i < WORKERS; i++)
        pthread_create(&workers[i], NULL, work, &pool);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    vrd_on_ready(NULL, NULL);
    for (int i = 0; i < pool.n; i++)
        vrd_cap_close(pool.endpoints[i]); /* takes its name with it */
    if (pool.error < 0)
        fprintf(stderr, "thread_pool: %s\n", vrd_strerror(pool.error));
    return pool.error < 0;
}
