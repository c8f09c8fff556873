/* SPDX-License-Identifier: MIT */
/* Memory that is being made, and who waits for it to fork. */
#include "unit/unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "os/newborn.h"

struct other {
    void (*begin)(void);
    void (*end)(void);
    pid_t tid;
    struct support_gate started;
    atomic_bool begun;
};

static void *other_run(void *arg)
{
    struct other *other = arg;

    other->tid = gettid();
    support_gate_open(&other->started);
    other->begin();
    atomic_store(&other->begun, true);
    other->end();
    return NULL;
}

static pthread_t other_start(struct other *other, void (*begin)(void), void (*end)(void))
{
    pthread_t thread;

    *other = (struct other){ .begin = begin, .end = end };
    support_gate_init(&other->started);
    support_require(pthread_create(&thread, NULL, other_run, other) == 0);
    support_gate_wait(&other->started);
    return thread;
}

static void other_end(struct other *other, pthread_t thread)
{
    support_require(pthread_join(thread, NULL) == 0);
    support_gate_deinit(&other->started);
    assert_true(atomic_load(&other->begun));
}

static void several_make_at_a_time(void **state)
{
    struct other other;

    (void)state;
    newborn_begin();
    other_end(&other, other_start(&other, newborn_begin, newborn_end));
    newborn_end();
}

static void a_fork_waits_for_all_that_is_made(void **state)
{
    struct other other;
    pthread_t thread;

    (void)state;
    newborn_begin();
    newborn_begin();
    thread = other_start(&other, newborn_await, newborn_resume);
    support_wait_asleep(other.tid);
    newborn_end();
    support_sleep_ms(20);
    assert_false(atomic_load(&other.begun));
    newborn_end();
    other_end(&other, thread);
}

static void nothing_is_begun_beside_a_fork(void **state)
{
    struct other other;
    pthread_t thread;

    (void)state;
    newborn_await();
    thread = other_start(&other, newborn_begin, newborn_end);
    support_wait_asleep(other.tid);
    assert_false(atomic_load(&other.begun));
    newborn_resume();
    other_end(&other, thread);
}

/* As if fork had called nothing: the child finds another thread's memory in the making. */
static int child_begins(void *arg)
{
    (void)arg;
    newborn_after_fork();
    newborn_await();
    newborn_resume();
    newborn_begin();
    newborn_end();
    return 0;
}

static void a_child_begins_anew(void **state)
{
    (void)state;
    newborn_begin();
    support_wait_exit(support_child(child_begins, NULL), 0);
    newborn_end();
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(several_make_at_a_time),
                 SUPPORT_TEST(a_fork_waits_for_all_that_is_made),
                 SUPPORT_TEST(nothing_is_begun_beside_a_fork),
                 SUPPORT_TEST(a_child_begins_anew),
                 { 0 },
             })
