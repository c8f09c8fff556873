/* SPDX-License-Identifier: MIT */
/* Views that many threads release in any order: each message is seen once, and all room comes back. */
#include "process/loans.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define THREADS 3
#define MESSAGES 6000
#define POOL 64
#define ROOM ((size_t)4 << 20)

struct pool {
    vrd_cap_t send;
    uint32_t n;
    pthread_mutex_t mutex;
    struct vrd_view views[POOL];
    size_t n_views;
    bool done; /* no more come */
    atomic_uchar *seen;
};

static size_t len_of(uint32_t i)
{
    return 8 + (size_t)i * 97 % 20000;
}

static void *lend_all(void *arg)
{
    const struct pool *pool = arg;

    for (uint32_t i = 0; i < pool->n; i++) {
        struct vrd_loan unused;

        if (i % 7 == 0 && vrd_loan_timed(pool->send, len_of(i), 0, &unused) == 0)
            EXPECT(vrd_loan_cancel(&unused), 0);
        lend(pool->send, (struct number){ 0, i }, len_of(i));
    }
    return NULL;
}

/* Any of those that are there. False: none, and there will be none. */
static bool pool_take(struct pool *pool, uint64_t *random, struct vrd_view *ret)
{
    bool done;

    *ret = (struct vrd_view){ 0 };
    pthread_mutex_lock(&pool->mutex);
    if (pool->n_views > 0) {
        const size_t i = random_next(random) % pool->n_views;

        *ret = pool->views[i];
        pool->views[i] = pool->views[--pool->n_views];
    }
    done = pool->done;
    pthread_mutex_unlock(&pool->mutex);
    return ret->data || !done;
}

static bool pool_put(struct pool *pool, const struct vrd_view *view)
{
    bool room;

    pthread_mutex_lock(&pool->mutex);
    room = pool->n_views < POOL;
    if (room)
        pool->views[pool->n_views++] = *view;
    pthread_mutex_unlock(&pool->mutex);
    return room;
}

static void *release_any(void *arg)
{
    struct pool *pool = arg;
    uint64_t random = (uintptr_t)&random;
    struct vrd_view view;

    while (pool_take(pool, &random, &view)) {
        struct number number;

        if (!view.data) {
            sched_yield();
            continue;
        }
        memcpy(&number, view.data, sizeof number);
        support_require(number.index < pool->n);
        EXPECT(view.len, len_of(number.index));
        number_check(view.data, view.len, number);
        EXPECT(atomic_fetch_add(&pool->seen[number.index], 1), 0);
        release(&view);
    }
    return NULL;
}

static void test_views_are_released_by_many_threads(void **state)
{
    const struct ends ends = ends_with(16, ROOM, ROOM);
    const uint32_t n = (uint32_t)support_iterations(MESSAGES);
    struct pool pool = { .send = ends.send, .n = n, .mutex = PTHREAD_MUTEX_INITIALIZER };
    pthread_t lender, threads[THREADS];
    struct vrd_loan all;

    (void)state;
    pool.seen = calloc(n, sizeof *pool.seen);
    support_require(pool.seen != NULL);
    EXPECT(pthread_create(&lender, NULL, lend_all, &pool), 0);
    for (size_t i = 0; i < THREADS; i++)
        EXPECT(pthread_create(&threads[i], NULL, release_any, &pool), 0);
    for (uint32_t i = 0; i < n; i++) {
        struct vrd_view view;

        EXPECT(vrd_receive_view(ends.receive, &view, VRD_FOREVER), 0);
        while (!pool_put(&pool, &view))
            sched_yield();
    }
    pthread_mutex_lock(&pool.mutex);
    pool.done = true;
    pthread_mutex_unlock(&pool.mutex);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_join(lender, NULL);
    for (uint32_t i = 0; i < n; i++)
        EXPECT(atomic_load(&pool.seen[i]), 1);
    EXPECT(vrd_loan_timed(ends.send, ROOM, 10000 * MS, &all), 0); /* nothing is kept by anybody */
    EXPECT(vrd_loan_cancel(&all), 0);
    free(pool.seen);
    ends_close(&ends);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_views_are_released_by_many_threads, 60),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
